"""The picture of a member: its subnets with their resources, and the allowed connections."""

import re
from collections.abc import Iterator, Sequence
from itertools import product

from components.flows import Flow, Remote, Subnet, Tag
from docs.diagrams.picture import Arrow, Box, Direction, Group, Kind, Line, Picture, Scope
from docs.diagrams.stack import LINKS, Allowed, Stack, key_of, last_segment, many, short
from policy.resources import StackResource
from stack.settings import HighAvailability

_GATEWAYS = "GatewaySubnet"
_ORDER = (_GATEWAYS, Subnet.NODES, Subnet.AUTHORITY, Subnet.DATABASE, Subnet.ENDPOINTS)
"""Order of the subnets, by their names in Azure."""
_PEERS, _APPLICATIONS, _CIRCUIT, _INTERNET, _AZURE = "peers", "applications", "circuit", "internet", "azure"
_ENDPOINTS = "endpoints"
_OUTSIDE = {
    Remote.APPLICATIONS: _APPLICATIONS,
    Tag.INTERNET: _INTERNET,
    Tag.STORAGE: _AZURE,
    Tag.ENTRA_ID: _AZURE,
}
"""The box of each outer end; the other members are reached through the gateways."""

_STANDBYS = {
    HighAvailability.ZONE_REDUNDANT: "standby in another zone",
    HighAvailability.SAME_ZONE: "standby in the same zone",
    HighAvailability.DISABLED: "no standby",
}

_VPN = "Vpn"
_UNNAMED = re.compile("-v(ault)?$")

Ends = tuple[str, str]
"""Keys of two boxes."""


def picture_of_member(stack: Stack) -> Picture:
    """The picture of one stack's registered resources.

    Args:
        stack: with all its resources' ids, and its outputs.
    """
    member = _Member(stack)
    return Picture(
        f"{stack.name}, and who may reach whom",
        Direction.DOWN,
        (*member.callers(), member.resource_group(), *member.called()),
        (*member.links(), *member.flows(), *member.services(), *member.logs()),
    )


class _Member:
    """One stack's boxes and arrows."""

    def __init__(self, stack: Stack) -> None:
        self._stack, self._of = stack, stack.resources.of
        self._subnets = {name: tuple(self._inside(name)) for name in _ORDER if name in stack.subnets}
        """The boxes of each subnet: the first receives connections, the last opens them."""
        self._ends = {end for each in stack.allowed for end in (each.flow.source, each.flow.destination)}

    # Boxes

    def callers(self) -> Iterator[Box]:
        """Outer ends that connect to the network."""
        if Remote.PEERS in self._ends:
            yield Box(_PEERS, Kind.MEMBERS, "other members", short(self._stack.addresses(Remote.PEERS)))
        if Remote.APPLICATIONS in self._ends:
            title, networks = "the bank's applications", self._stack.addresses(Remote.APPLICATIONS)
            yield Box(_APPLICATIONS, Kind.APPLICATIONS, title, short(networks))
        if any(each.inputs["gatewayType"] != _VPN for each in self._of("network:VirtualNetworkGateway")):
            yield Box(_CIRCUIT, Kind.CIRCUIT, "the bank's circuit", ("to members, applications",))

    def called(self) -> Iterator[Box]:
        """Outer ends to which the network connects."""
        services = {Tag.STORAGE: "Azure Storage", Tag.ENTRA_ID: "Entra ID"}
        if names := [name for tag, name in services.items() if tag in self._ends]:
            yield Box(_AZURE, Kind.AZURE, ", ".join(names))
        if Tag.INTERNET in self._ends:
            yield Box(_INTERNET, Kind.INTERNET, "internet", ("packages,", "Azure's own services"))

    def resource_group(self) -> Group:
        """All resources of the stack."""
        (group,) = self._of("resources:ResourceGroup")
        return Group(
            "member",
            Scope.MEMBER,
            f"resource group {group.name}, {group.inputs['location']}",
            (self._network(), *self._nat(), *self._vaults(), *self._storage(), *self._monitoring()),
        )

    def _network(self) -> Group:
        (network,) = self._of("network:VirtualNetwork")
        space = ", ".join(network.inputs["addressSpace"]["addressPrefixes"])
        zones = many(len(self._of("privatedns:PrivateZone")), "private DNS zone")
        subnets = tuple(self._subnet(name, boxes) for name, boxes in self._subnets.items())
        return Group("network", Scope.NETWORK, f"virtual network {space}, {zones}", subnets)

    def _subnet(self, name: str, boxes: tuple[Box, ...]) -> Group:
        title = f"{name} {self._stack.subnets[name].inputs['addressPrefix']}"
        inside = [
            each
            for each in self._stack.allowed
            if set(self._between(each.flow)) & {(box.key, box.key) for box in boxes}
        ]
        details = (f"inside: {', '.join(self._said(inside))}",) if inside else ()
        return Group(f"subnet_{name}", Scope.SUBNET, title, boxes, details, tuple(each.flow.name for each in inside))

    def _inside(self, subnet: str) -> Iterator[Box]:
        def inside(kind: str) -> list[StackResource]:
            return self._stack.inside(subnet, kind)

        for gateway in inside("network:VirtualNetworkGateway"):
            yield _gateway(gateway)
        for balancer in inside("network:LoadBalancer"):
            (frontend,) = balancer.inputs["frontendIPConfigurations"]
            yield Box(key_of(balancer), Kind.BALANCER, "load balancer", (frontend["privateIPAddress"],))
        for vms in inside("compute:VirtualMachineScaleSet"):
            sku, zones = vms.inputs["sku"], "+".join(vms.inputs.get("zones") or ())
            title = f"{sku['capacity']} {subnet.removesuffix('s')} VMs"
            details = [sku["name"], f"zones {zones}" if zones else "no zones"]
            if subnet == Subnet.NODES:
                details += self._stack.identities
            yield Box(key_of(vms), Kind.VMS, title, tuple(details))
        for server in inside("dbforpostgresql:Server"):
            details = [server.inputs["sku"]["name"], _STANDBYS[server.inputs["highAvailability"]["mode"]]]
            yield Box(key_of(server), Kind.DATABASE, f"PostgreSQL {server.inputs['version']}", tuple(details))
        if endpoints := inside("network:PrivateEndpoint"):
            yield Box(_ENDPOINTS, Kind.ENDPOINTS, many(len(endpoints), "private endpoint"))

    def _nat(self) -> Iterator[Box]:
        for nat in self._of("network:NatGateway"):
            addresses = many(len(nat.inputs["publicIpAddresses"]), "public address", "es")
            yield Box(key_of(nat), Kind.NAT, "NAT gateway", (addresses,))

    def _vaults(self) -> Iterator[Box]:
        for vault in self._of("keyvault:Vault"):
            name = last_segment(vault.id)
            keys, secrets = (
                sum(each.inputs["vaultName"] == name for each in self._of(kind))
                for kind in ("keyvault:Key", "keyvault:Secret")
            )
            details = [f"{many(keys, 'key')} in an HSM"] * bool(keys) + [many(secrets, "secret")] * bool(secrets)
            yield Box(
                key_of(vault),
                Kind.VAULT,
                f"vault {_UNNAMED.sub('', vault.name)}",
                tuple(details) or ("written by the VMs",),
            )

    def _storage(self) -> Iterator[Box]:
        for account in self._of("storage:StorageAccount"):
            name = account.inputs["accountName"]
            containers, shares = (
                [each.inputs for each in self._of(kind) if each.inputs["accountName"] == name]
                for kind in ("storage:BlobContainer", "storage:FileShare")
            )
            details = [each["containerName"] for each in containers]
            details += [f"{each['enabledProtocols']} share, {each['shareQuota']} GiB" for each in shares]
            kind, title = (Kind.FILES, "files") if shares else (Kind.BLOBS, "blobs")
            yield Box(key_of(account), kind, title, (", ".join(sorted(details)),))

    def _monitoring(self) -> Iterator[Box]:
        for workspace in self._of("operationalinsights:Workspace"):
            made = [(self._of("applicationinsights:Workbook"), "workbook"), (self._of("MetricAlert"), "alerts")]
            details = [f"retained {workspace.inputs['retentionInDays']} days", *(name for some, name in made if some)]
            yield Box(key_of(workspace), Kind.MONITORING, "Log Analytics", tuple(details))

    # Arrows

    def links(self) -> Iterator[Arrow]:
        """Links to the gateways, from the other members and from the bank's circuit."""
        connections = self._stack.connections
        kinds: dict[str, list[str]] = {}
        for peer, (first, *_) in sorted(connections.items()):
            kinds.setdefault(LINKS[first.inputs["connectionType"]], []).append(peer)
        ciphers = {
            f"{each.inputs['connectionProtocol']}, {policy['ipsecEncryption']}"
            for several in connections.values()
            for each in several
            for policy in each.inputs["ipsecPolicies"]
        }
        label = (*(f"{kind}: {', '.join(short(peers))}" for kind, peers in sorted(kinds.items())), *sorted(ciphers))
        for gateway in self._of("network:VirtualNetworkGateway"):
            if gateway.inputs["gatewayType"] != _VPN:
                yield Arrow(_CIRCUIT, key_of(gateway), Line.LINK, both_ways=True)
                if self._stack.over_circuit:
                    yield Arrow(_PEERS, _CIRCUIT, Line.LINK, both_ways=True)
            elif label:
                yield Arrow(_PEERS, key_of(gateway), Line.LINK, label, both_ways=True)

    def flows(self) -> Iterator[Arrow]:
        """One arrow for all flows from one box to another."""
        merged: dict[Ends, list[Allowed]] = {}
        for each in self._stack.allowed:
            for ends in self._between(each.flow):
                merged.setdefault(ends, []).append(each)
        for (source, target), allowed in merged.items():
            names = tuple(each.flow.name for each in allowed)
            if all(each.flow.source is Tag.LOAD_BALANCER for each in allowed):
                # It probes every port that the balancer serves: the numbers are shown at their source.
                yield Arrow(source, target, Line.SERVES, (), names)
            elif source != target:
                yield Arrow(source, target, Line.FLOW, self._said(allowed), names)
        if Tag.INTERNET in self._ends:
            yield from (Arrow(nat.key, _INTERNET, Line.FLOW) for nat in self._nat())

    def logs(self) -> Iterator[Arrow]:
        """Logs from all VMs, if a rule collects them."""
        workspaces = self._of("operationalinsights:Workspace") if self._of("monitor:DataCollectionRule") else []
        for workspace, vms in product(workspaces, self._of("compute:VirtualMachineScaleSet")):
            yield Arrow(key_of(vms), key_of(workspace), Line.SERVES)

    def services(self) -> Iterator[Arrow]:
        """The arrows from the private endpoints to their services."""
        every = {each.id: each for each in self._stack.resources.every}
        for endpoint in self._of("network:PrivateEndpoint"):
            for connection in endpoint.inputs["privateLinkServiceConnections"]:
                target = every[connection["privateLinkServiceId"]]
                yield Arrow(_ENDPOINTS, key_of(target), Line.SERVES)

    def _said(self, allowed: Sequence[Allowed]) -> tuple[str, ...]:
        return self._stack.said([ports for each in allowed for ports in each.ports])

    def _between(self, flow: Flow) -> Iterator[Ends]:
        """The boxes at a flow's two ends."""
        if flow.source is Tag.LOAD_BALANCER:
            boxes = self._subnets[str(flow.destination)]
            yield boxes[0].key, boxes[-1].key
            return
        for source in self._places(flow.source, -1):
            if flow.destination is Tag.INTERNET and (nat := self._stack.nat_of(str(flow.source))):
                yield source, key_of(nat)
                continue
            for target in self._places(flow.destination, 0):
                yield source, target

    def _places(self, end: Subnet | Remote | Tag, place: int) -> list[str]:
        if isinstance(end, Subnet):
            return [self._subnets[end][place].key]
        if end in (Remote.PEERS, Remote.PEERS_AUTHORITY):
            used = {Kind.GATEWAY: bool(self._stack.connections), Kind.CIRCUIT: self._stack.over_circuit}
            return [each.key for each in self._subnets[_GATEWAYS] if used[each.kind]]
        return [_OUTSIDE[end]]


def _gateway(gateway: StackResource) -> Box:
    sku = gateway.inputs["sku"]["name"]
    if gateway.inputs["gatewayType"] != _VPN:
        return Box(key_of(gateway), Kind.CIRCUIT, "ExpressRoute gateway", (sku,))
    instances = many(len(gateway.inputs["ipConfigurations"]), "active instance")
    details = (sku, f"AS {gateway.inputs['bgpSettings']['asn']}", instances)
    return Box(key_of(gateway), Kind.GATEWAY, "VPN gateway", details)
