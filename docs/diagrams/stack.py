"""One stack as the pictures read it: its resources and outputs."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from components.flows import FLOWS, Flow, Remote
from contract.ports import HTTP_PORT, HTTPS_PORT, NFS_PORT, PGBOUNCER_PORT, POSTGRESQL_PORT
from ledger import PLATFORMS
from policy.resources import StackResource, StackResources, leaves
from stack.outputs import CARD_OUTPUT, CONNECTIONS_OUTPUT

LINKS = {"Vnet2Vnet": "VNet-to-VNet", "IPsec": "IPsec"}
"""Azure's types of a connection over a VPN gateway, in words."""

_AT_MOST = 3
"""Most names that are drawn; otherwise the first ones and the number of the others."""
_ACRONYMS = {"p2p": "P2P", "rpc": "RPC"}
_ROLES = {"node": "ledger node"}
_FLOWS = {flow.name: flow for flow in FLOWS}
_SERVICES = {
    HTTP_PORT: "HTTP",
    HTTPS_PORT: "HTTPS",
    NFS_PORT: "NFS",
    POSTGRESQL_PORT: "PostgreSQL",
    PGBOUNCER_PORT: "PgBouncer",
    **{
        listener.port: listener.name
        for platform in PLATFORMS.values()
        for listener in (platform.authority.listeners if platform.authority else ())
    },
}
"""Names of the listeners on ports that no load balancer rule names."""


@dataclass(frozen=True)
class Allowed:
    """A flow that a stack's rules allow."""

    flow: Flow
    sources: tuple[str, ...]
    """Address prefixes, or a service tag."""
    destinations: tuple[str, ...]
    """Address prefixes, or a service tag."""
    ports: Sequence[str]
    """Ranges, such as `443` and `10000-10013`."""


@dataclass(frozen=True)
class Stack:
    """One member's resources, ordered by type and name, and its outputs."""

    resources: StackResources
    outputs: Mapping[str, Any]

    @property
    def card(self) -> Mapping[str, Any]:
        """The member's card."""
        card: Mapping[str, Any] = self.outputs[CARD_OUTPUT]
        return card

    @property
    def name(self) -> str:
        """The member's name."""
        return str(self.card["name"])

    @cached_property
    def subnets(self) -> Mapping[str, StackResource]:
        """The member's subnets, by their names in Azure."""
        return {each.inputs["subnetName"]: each for each in self.resources.of("network:Subnet")}

    def inside(self, subnet: str, kind: str) -> list[StackResource]:
        """The resources of a type in a subnet; none if there is no such subnet."""
        if subnet not in self.subnets:
            return []
        subnet_id = self.subnets[subnet].id
        return [each for each in self.resources.of(kind) if subnet_id in (value for _, value in leaves(each.inputs))]

    def nat_of(self, subnet: str) -> StackResource | None:
        """The NAT gateway of a subnet's connections to the internet."""
        nat = self.subnets[subnet].inputs.get("natGateway", {}).get("id")
        return next((each for each in self.resources.of("network:NatGateway") if each.id == nat), None)

    @cached_property
    def connections(self) -> Mapping[str, list[StackResource]]:
        """The member's half of each link over a VPN gateway, by the peer's name."""
        every = {last_segment(each.id): each for each in self.resources.of("network:VirtualNetworkGatewayConnection")}
        return {peer: [every[name] for name in names] for peer, names in self.outputs[CONNECTIONS_OUTPUT].items()}

    @property
    def over_circuit(self) -> bool:
        """Whether peers are reached over ExpressRoute: they have no connection, but a rule has their network."""
        return len(self.addresses(Remote.PEERS)) > len(self.connections)

    @property
    def identities(self) -> tuple[str, ...]:
        """The number of ledger nodes of each role, a line each."""
        roles = Counter(node["role"] for node in self.card["nodes"])
        return tuple(many(count, _ROLES.get(role, role)) for role, count in sorted(roles.items()))

    def addresses(self, remote: Remote) -> list[str]:
        """The address prefixes that the rules have for an outer end."""
        ends = [
            prefixes
            for each in self.allowed
            for end, prefixes in ((each.flow.source, each.sources), (each.flow.destination, each.destinations))
            if end is remote
        ]
        return sorted({prefix for prefixes in ends for prefix in prefixes})

    @cached_property
    def allowed(self) -> tuple[Allowed, ...]:
        """The flows that its network security groups allow, in the order of the table."""
        rules = {
            rule["name"].removesuffix("In").removesuffix("Out"): rule
            for group in self.resources.of("network:NetworkSecurityGroup")
            for rule in group.inputs["securityRules"]
            if rule["access"] == "Allow"
        }
        return tuple(
            Allowed(
                _FLOWS[name], _prefixes(rule, "source"), _prefixes(rule, "destination"), rule["destinationPortRanges"]
            )
            for name, rule in sorted(rules.items(), key=lambda each: list(_FLOWS).index(each[0]))
        )

    @cached_property
    def _services(self) -> Mapping[int, str]:
        """The listeners by port, from the names of the load balancers' rules: `p2p-node-3` is P2P."""
        named = {
            rule["frontendPort"]: rule["name"].partition("-node-")[0].replace("-", " ")
            for balancer in self.resources.of("network:LoadBalancer")
            for rule in balancer.inputs["loadBalancingRules"]
        }
        return {**_SERVICES, **{port: _ACRONYMS.get(name, name) for port, name in named.items()}}

    def said(self, ranges: Sequence[str]) -> tuple[str, ...]:
        """Port ranges with their listeners, a line each: `P2P 10000-10013`, `HTTPS 443, NFS 2049`."""
        services: dict[str, list[str]] = {}
        for each in sorted(set(ranges), key=lambda each: int(each.partition("-")[0])):
            services.setdefault(self._service(each), []).append(each)
        return tuple(f"{name} {', '.join(several)}".strip() for name, several in services.items())

    def _service(self, ports: str) -> str:
        first, _, last = ports.partition("-")
        every = range(int(first), int(last or first) + 1)
        return ", ".join(dict.fromkeys(self._services[port] for port in every if port in self._services))


def _prefixes(rule: Mapping[str, Any], side: str) -> tuple[str, ...]:
    tag = rule.get(f"{side}AddressPrefix")
    return (tag,) if tag else tuple(rule[f"{side}AddressPrefixes"])


def key_of(resource: StackResource) -> str:
    """A box's key for a resource."""
    return word(resource.name)


def word(text: str) -> str:
    """Text as a key, or part of one."""
    return re.sub(r"\W", "_", text)


def last_segment(resource_id: str) -> str:
    """The last name in a resource id."""
    return resource_id.rsplit("/", 1)[-1]


def many(count: int, noun: str, ending: str = "s") -> str:
    """A number with its noun: `1 key`, `2 keys`."""
    return f"{count} {noun}{'' if count == 1 else ending}"


def short(names: Sequence[str]) -> tuple[str, ...]:
    """The names, a line each; of many the first ones and the number of the others."""
    if len(names) <= _AT_MOST:
        return tuple(names)
    return (*names[: _AT_MOST - 1], f"and {len(names) - _AT_MOST + 1} more")


def stack_of(resources: Iterable[StackResource], outputs: Mapping[str, Any]) -> Stack:
    """A stack, independent of the order of registration."""
    return Stack(StackResources(tuple(sorted(resources, key=lambda each: (each.type, each.name)))), outputs)
