"""Each rule of the offline Azure, from both sides: what breaks it is refused, and the nearest legal case passes."""

import base64
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from pathlib import Path
from threading import Event, Thread
from typing import Any
from uuid import UUID

import pytest

from delivery.cloud_config import MAX_CUSTOM_DATA_BYTES
from offline import arm, rules
from offline.azure import Account, OfflineAzure, Subscription, digest
from offline.rules import AzureError, Resource

GROUP = "ledger"
READER = "acdd72a7-3385-48ef-bd42-f606fba81ae7"
VM_CONTRIBUTOR = "9980e02c-c2be-4d73-94e8-173b1dc7cf3c"
POSTGRESQL = "Microsoft.DBforPostgreSQL/flexibleServers"
ZONE = "ledger.private.postgres.database.azure.com"
POLICY = {
    "dhGroup": "ECP384",
    "ikeEncryption": "GCMAES256",
    "ikeIntegrity": "SHA384",
    "ipsecEncryption": "GCMAES256",
    "ipsecIntegrity": "GCMAES256",
    "pfsGroup": "ECP384",
    "saDataSizeKilobytes": 102_400_000,
    "saLifeTimeSeconds": 27_000,
}


# What is built here ------------------------------------------------------------------------------------------------


def token_of(kind: str) -> str:
    return f"azure-native:{kind}"


def base64_of(size: int) -> str:
    return base64.b64encode(b"x" * size).decode()


def configuration(subnet: str, address: str, name: str = "one") -> dict[str, Any]:
    return {"name": name, "subnet": {"id": subnet}, "publicIPAddress": {"id": address}}


def security_rule(name: str, priority: int, direction: str = "Inbound") -> dict[str, Any]:
    return {"name": name, "priority": priority, "direction": direction, "access": "Allow", "protocol": "*"}


def balancer_rule(name: str, port: int, to: int | None = None, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "protocol": "Tcp",
        "frontendPort": port,
        "backendPort": to or port,
        "frontendIPConfiguration": {"id": "$self/frontendIPConfigurations/front"},
        "backendAddressPools": [{"id": "$self/backendAddressPools/pool"}],
        "probe": {"id": "$self/probes/probe"},
        **more,
    }


class Bank:
    """One member's account. What is there once is made when it is first asked for; each answer is an id."""

    def __init__(self, azure: OfflineAzure, member: str, organization: str, block: str) -> None:
        self.side: Subscription = azure.account(Account.of(member, organization))
        self.block = block
        self._numbers = count(1)
        self.group = self.make("resources:ResourceGroup", GROUP)

    def make(self, kind: str, name: str | None = None, /, **inputs: Any) -> str:
        token = token_of(kind)
        place = {} if kind.startswith("authorization:") else {"resourceGroupName": GROUP}
        named = {arm.name_property(token): name} if name else {}
        checked = self.side.check(
            token, kind.split(":")[1], {**place, **named, **inputs}, seed=str(next(self._numbers))
        )
        return self.side.create(token, name or kind, checked)[0]

    def change(self, id_: str, **inputs: Any) -> dict[str, Any]:
        resource = self.side.resources[id_]
        changed = self.side.check(resource.token, id_, {**resource.inputs, **inputs}, old=resource.inputs)
        return self.side.update(resource.token, id_, id_, changed)

    def delete(self, id_: str) -> None:
        self.side.delete(self.side.resources[id_].token, id_, id_)

    def read(self, id_: str, **known: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        found = self.side.read(id_, known)
        assert found is not None, f"{id_} was made"
        return found

    # Networks

    def net(self, name: str, *spaces: str) -> str:
        return self.make("network:VirtualNetwork", name, addressSpace={"addressPrefixes": list(spaces)})

    @cached_property
    def network(self) -> str:
        return self.net("network", f"{self.block}.0.0/16")

    def subnet(self, name: str, prefix: str, **inputs: Any) -> str:
        _ = self.network
        return self.make(
            "network:Subnet", name, **{"virtualNetworkName": "network", "addressPrefix": prefix, **inputs}
        )

    def database_subnet(self, prefix: str = "10.1.8.0/28") -> str:
        return self.subnet("database", prefix, delegations=[{"name": "one", "serviceName": POSTGRESQL}])

    @cached_property
    def nodes(self) -> str:
        return self.subnet("nodes", f"{self.block}.0.0/24")

    @cached_property
    def database(self) -> str:
        return self.database_subnet()

    @cached_property
    def gateways(self) -> str:
        return self.subnet("GatewaySubnet", f"{self.block}.1.0/27")

    @cached_property
    def nsg(self) -> str:
        return self.security_group()

    def security_group(self, *stated: dict[str, Any]) -> str:
        return self.make("network:NetworkSecurityGroup", "nsg", securityRules=list(stated))

    def address(self, **inputs: Any) -> str:
        standard = {"sku": {"name": "Standard"}, "publicIPAllocationMethod": "Static"}
        return self.make("network:PublicIPAddress", **{**standard, **inputs})

    def nat(self, **inputs: Any) -> str:
        return self.make("network:NatGateway", sku={"name": "Standard"}, **inputs)

    def endpoint(self, subnet: str) -> str:
        return self.make("network:PrivateEndpoint", subnet={"id": subnet}, privateLinkServiceConnections=[])

    def balancer(self, **inputs: Any) -> str:
        parts = {
            "frontendIPConfigurations": [{"name": "front", "subnet": {"id": self.nodes}}],
            "backendAddressPools": [{"name": "pool"}],
            "probes": [{"name": "probe"}],
        }
        return self.make("network:LoadBalancer", "balancer", **{**parts, **inputs})

    def balancer_at(self, address: str) -> str:
        return self.balancer(
            frontendIPConfigurations=[{"name": "front", "subnet": {"id": self.nodes}, "privateIPAddress": address}]
        )

    # Gateways and connections

    def vpn(self, sku: str = "VpnGw2AZ", name: str | None = None, **inputs: Any) -> str:
        stated = {
            "gatewayType": "Vpn",
            "sku": {"name": sku},
            "ipConfigurations": inputs.get("ipConfigurations") or [configuration(self.gateways, self.address())],
            **inputs,
        }
        return self.make("network:VirtualNetworkGateway", name, **stated)

    @cached_property
    def gateway(self) -> str:
        return self.vpn(name="gateway", bgpSettings={"asn": 64_512})

    def local(self, address: str = "192.0.2.9", asn: int = 64_513) -> str:
        return self.make("network:LocalNetworkGateway", gatewayIpAddress=address, bgpSettings={"asn": asn})

    def link(self, far: str, **inputs: Any) -> str:
        """A connection to a gateway of a virtual network."""
        return self._connection("Vnet2Vnet", virtualNetworkGateway2={"id": far}, **inputs)

    def ipsec(self, **inputs: Any) -> str:
        far = inputs.pop("far", None) or self.local()
        return self._connection("IPsec", localNetworkGateway2={"id": far}, **inputs)

    def _connection(self, kind: str, **inputs: Any) -> str:
        near = {"connectionType": kind, "virtualNetworkGateway1": {"id": self.gateway}}
        return self.make("network:VirtualNetworkGatewayConnection", **{**near, **inputs})

    def end_of(self, far: "Bank") -> str:
        """A local network gateway that stands for another bank's gateway."""
        inputs, _ = far.read(far.gateway)
        (where,) = inputs["ipConfigurations"]
        _, address = far.read(where["publicIPAddress"]["id"])
        return self.local(address["ipAddress"], inputs["bgpSettings"]["asn"])

    def status(self, connection: str) -> str:
        return str(self.read(connection)[1]["connectionStatus"])

    # The rest

    def role(self, principal: str, scope: str, role: str = READER) -> str:
        definition = f"/subscriptions/{self.side.account.subscription_id}/providers/Microsoft.Authorization"
        return self.make(
            "authorization:RoleAssignment",
            principalId=principal,
            scope=scope,
            roleDefinitionId=f"{definition}/roleDefinitions/{role}",
        )

    def vault(self, name: str = "keys-of-bank-a", **properties: Any) -> str:
        stated = {"softDeleteRetentionInDays": 90, "publicNetworkAccess": "Disabled", **properties}
        return self.make("keyvault:Vault", name, properties=stated)

    @cached_property
    def keys(self) -> str:
        return self.vault()

    def secret(self, name: str, value: str) -> str:
        _ = self.keys
        return self.make("keyvault:Secret", name, vaultName="keys-of-bank-a", properties={"value": value})

    def key(self, vault: str = "keys-of-bank-a", name: str = "root", **properties: Any) -> str:
        """An elliptic key that signs, in an HSM unless said otherwise."""
        stated = {"kty": "EC-HSM", "curveName": "P-256", "keyOps": ["sign"], **properties}
        return self.make("keyvault:Key", name, vaultName=vault, properties=stated)

    def premium(self, name: str = "keys-of-bank-a") -> str:
        return self.vault(name, sku={"name": "premium"})

    def account(self, name: str = "ledgerblobs") -> str:
        return self.make("storage:StorageAccount", name, kind="StorageV2")

    def zone(self, name: str = ZONE, *, linked: str | None = None) -> str:
        made = self.make("privatedns:PrivateZone", name)
        self.make(
            "privatedns:VirtualNetworkLink",
            "link",
            privateZoneName=name,
            virtualNetwork={"id": linked or self.network},
        )
        return made

    def server(self, subnet: str | None = None, zone: str | None = None, **inputs: Any) -> str:
        network = {
            "delegatedSubnetResourceId": subnet or self.database,
            "privateDnsZoneArmResourceId": zone or self.zone(),
        }
        return self.make("dbforpostgresql:Server", "ledger-a", **{"network": network, **inputs})

    @cached_property
    def database_server(self) -> str:
        return self.server(backup={"geoRedundantBackup": "Enabled"})

    def vms(
        self,
        *,
        health: bool = True,
        custom_data: str | None = None,
        user_data: str | None = None,
        **inputs: Any,
    ) -> str:
        model = scale_set(health, custom_data)
        model["virtualMachineProfile"]["userData"] = user_data
        return self.make("compute:VirtualMachineScaleSet", "vms", **model, **inputs)

    @cached_property
    def zonal(self) -> str:
        return self.vms(zones=["1", "2"])


def scale_set(health: bool = True, custom_data: str | None = None, capacity: int = 2) -> dict[str, Any]:
    told = [{"name": "health", "type": "ApplicationHealthLinux"}] if health else []
    return {
        "sku": {"name": "Standard_D4s_v5", "capacity": capacity},
        "identity": {"userAssignedIdentities": []},
        "virtualMachineProfile": {
            "osProfile": {"customData": custom_data},
            "extensionProfile": {"extensions": [{"name": "monitor", "type": "AzureMonitorLinuxAgent"}, *told]},
        },
    }


class World:
    """Three banks: `a` and `b` are one organisation's, in one tenant; `c` is another's."""

    def __init__(self, path: Path | None = None, **options: Any) -> None:
        self.azure = OfflineAzure(path, **options)
        self.a = Bank(self.azure, "bank-a", "north", "10.1")
        self.b = Bank(self.azure, "bank-b", "north", "10.2")
        self.c = Bank(self.azure, "bank-c", "south", "10.3")

    @property
    def state(self) -> dict[str, Any]:
        """All that Azure holds."""
        return json.loads(json.dumps({id_: each.inputs for id_, each in self.azure.resources.items()}))


Change = Callable[[World], object]


def refusal(change: Callable[[], object]) -> str:
    """What Azure says to a change; empty where it takes it."""
    try:
        change()
    except AzureError as error:
        return str(error)
    return ""


@pytest.fixture
def world() -> World:
    return World()


# Each rule ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """One way to break a rule, and the nearest one to keep it."""

    rule: rules.Rule
    what: str
    """What is refused; the table in offline/README.md names it."""
    says: str
    broken: Change
    legal: Change
    given: Change = lambda _: None
    """What is there before."""


def without(policy: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in policy.items() if key not in keys}


def full(sku: str, connections: int) -> Case:
    """A gateway that has all the connections that its SKU takes."""

    def given(w: World) -> None:
        w.a.gateway = w.a.vpn(sku)
        w.a.links = [w.a.ipsec() for _ in range(connections)]
        w.a.far = w.a.local()

    return Case(
        rules._room_for_connection,
        f"{connections + 1} connections on {sku}",
        f"{connections + 1} connections at .*wanted {connections} at most",
        given=given,
        broken=lambda w: w.a.ipsec(far=w.a.far),
        legal=lambda w: (w.a.delete(w.a.links[0]), w.a.ipsec(far=w.a.far)),
    )


def named_twice(name: str, again: str, make: Callable[[Bank, str], object]) -> Case:
    return Case(
        rules._name_is_free,
        f"{name} in two subscriptions",
        f"NameNotAvailable: {name}",
        given=lambda w: make(w.b, name),
        broken=lambda w: make(w.a, again),
        legal=lambda w: make(w.a, f"{name}2"),
    )


def reserved(asn: int, nearest: int) -> Case:
    return Case(
        rules._vpn_gateway,
        f"ASN {asn}",
        f"the ASN {asn} is reserved",
        broken=lambda w: w.a.vpn(bgpSettings={"asn": asn}),
        legal=lambda w: w.a.vpn(bgpSettings={"asn": nearest}),
    )


def kept_address(address: str, nearest: str) -> Case:
    return Case(
        rules._frontend,
        f"{address} of a /24",
        f"PrivateIPAddressInReservedRange: {address}",
        broken=lambda w: w.a.balancer_at(address),
        legal=lambda w: w.a.balancer_at(nearest),
    )


def absent(id_: str, name: str) -> str:
    """The id of a sibling that nobody made."""
    return f"{id_.rsplit('/', 1)[0]}/{name}"


def public_server(bank: Bank, name: str) -> str:
    return bank.make("dbforpostgresql:Server", name)


CASES = [
    # All types
    Case(
        rules._place_is_there,
        "no such resource group",
        "ResourceGroupNotFound: other",
        broken=lambda w: w.a.nat(resourceGroupName="other"),
        legal=lambda w: (w.a.make("resources:ResourceGroup", "other"), w.a.nat(resourceGroupName="other")),
    ),
    Case(
        rules._place_is_there,
        "another subscription's group",
        "ResourceGroupNotFound: theirs",
        given=lambda w: w.b.make("resources:ResourceGroup", "theirs"),
        broken=lambda w: w.a.nat(resourceGroupName="theirs"),
        legal=lambda w: w.b.nat(resourceGroupName="theirs"),
    ),
    Case(
        rules._place_is_there,
        "no parent",
        "ParentResourceNotFound: .*/virtualNetworks/other",
        broken=lambda w: w.a.subnet("nodes", "10.1.0.0/24", virtualNetworkName="other"),
        legal=lambda w: (w.a.net("other", "10.1.0.0/24"), w.a.subnet("n", "10.1.0.0/24", virtualNetworkName="other")),
    ),
    Case(
        rules._place_is_there,
        "no parent, two levels up",
        "ParentResourceNotFound: .*/storageAccounts/ledgerblobs",
        broken=lambda w: w.a.make("storage:BlobContainer", "network", accountName="ledgerblobs"),
        legal=lambda w: (w.a.account(), w.a.make("storage:BlobContainer", "network", accountName="ledgerblobs")),
    ),
    Case(
        rules._place_is_there,
        "a role at no scope",
        "ParentResourceNotFound: .*/virtualNetworks/other",
        broken=lambda w: w.a.role("somebody", absent(w.a.network, "other")),
        legal=lambda w: w.a.role("somebody", w.a.network),
        given=lambda w: w.a.network,
    ),
    Case(
        rules._place_is_there,
        "a role on no container",
        "ParentResourceNotFound: .*/containers/authority",
        given=lambda w: setattr(w.a, "blobs", w.a.account()),
        broken=lambda w: w.a.role("somebody", f"{w.a.blobs}/blobServices/default/containers/authority"),
        legal=lambda w: w.a.role(
            "somebody", w.a.make("storage:BlobContainer", "authority", accountName="ledgerblobs")
        ),
    ),
    Case(
        rules._references_are_there,
        "no such security group",
        "ResourceNotFound: .*/networkSecurityGroups/other",
        given=lambda w: (w.a.network, w.a.nsg),
        broken=lambda w: w.a.subnet("n", "10.1.0.0/24", networkSecurityGroup={"id": absent(w.a.nsg, "other")}),
        legal=lambda w: w.a.subnet("n", "10.1.0.0/24", networkSecurityGroup={"id": w.a.nsg}),
    ),
    Case(
        rules._references_are_there,
        "a part of what is not there",
        "ResourceNotFound: .*/natGateways/other/parts/one",
        given=lambda w: setattr(w.a, "way_out", w.a.nat()),
        broken=lambda w: w.a.nat(of=[absent(w.a.way_out, "other/parts/one")]),
        legal=lambda w: w.a.nat(of=[f"{w.a.way_out}/parts/one"]),
    ),
    Case(
        rules._references_are_there,
        "another account's resource, gone",
        "ResourceNotFound: ",
        given=lambda w: w.b.nsg,
        broken=lambda w: w.a.nat(of=absent(w.b.nsg, "other")),
        legal=lambda w: w.a.nat(of=w.b.nsg.replace(w.b.side.account.subscription_id, "an-account-that-is-not-here")),
    ),
    Case(
        rules._references_are_there,
        "no such group",
        "ResourceNotFound: .*/resourceGroups/other",
        broken=lambda w: w.a.make("monitor:MetricAlert", scopes=[absent(w.a.group, "other")]),
        legal=lambda w: w.a.make("monitor:MetricAlert", scopes=[w.a.group]),
    ),
    Case(
        rules._delegated_subnet_is_alone,
        "an endpoint beside servers",
        f"subnet database is delegated to {POSTGRESQL}",
        given=lambda w: (w.a.database, w.a.nodes),
        broken=lambda w: w.a.endpoint(w.a.database),
        legal=lambda w: w.a.endpoint(w.a.nodes),
    ),
    # Networks
    Case(
        rules._virtual_network,
        "a range that a subnet has is dropped",
        "NetcfgSubnetRangeOutsideVnet: subnet nodes keeps 10.1.0.0/24",
        given=lambda w: w.a.nodes,
        broken=lambda w: w.a.change(w.a.network, addressSpace={"addressPrefixes": ["10.1.1.0/24"]}),
        legal=lambda w: w.a.change(w.a.network, addressSpace={"addressPrefixes": ["10.1.0.0/24"]}),
    ),
    Case(
        rules._subnet,
        "host bits",
        "InvalidCIDRNotation: ",
        broken=lambda w: w.a.subnet("nodes", "10.1.0.1/24"),
        legal=lambda w: w.a.subnet("nodes", "10.1.0.0/24"),
        given=lambda w: w.a.network,
    ),
    Case(
        rules._subnet,
        "IPv6 alone",
        "InvalidCIDRNotation: fd00::/64 is no IPv4 network",
        broken=lambda w: w.a.subnet("nodes", "fd00::/64"),
        legal=lambda w: w.a.subnet("nodes", "10.1.0.0/24"),
        given=lambda w: w.a.network,
    ),
    Case(
        rules._subnet,
        "outside its network",
        "NetcfgSubnetRangeOutsideVnet: 10.2.0.0/24 is not in 10.1.0.0/16",
        broken=lambda w: w.a.subnet("nodes", "10.2.0.0/24"),
        legal=lambda w: w.a.subnet("nodes", "10.1.255.0/24"),
        given=lambda w: w.a.network,
    ),
    Case(
        rules._subnet,
        "overlapping",
        "NetcfgSubnetRangesOverlap: 10.1.0.128/25 overlaps nodes",
        given=lambda w: (w.a.nodes, w.a.net("other", "10.1.0.0/16")),
        broken=lambda w: w.a.subnet("more", "10.1.0.128/25"),
        legal=lambda w: (
            w.a.subnet("more", "10.1.1.0/25"),
            w.a.subnet("more", "10.1.0.128/25", virtualNetworkName="other"),
        ),
    ),
    Case(
        rules._subnet,
        "a /30",
        "wanted /29 or larger",
        broken=lambda w: w.a.subnet("nodes", "10.1.0.0/30"),
        legal=lambda w: w.a.subnet("nodes", "10.1.0.0/29"),
        given=lambda w: w.a.network,
    ),
    Case(
        rules._subnet,
        "moved with what lies in it",
        "InUsePrefixCannotBeDeleted: 10.1.0.0/24 is in use by .*/privateEndpoints/",
        given=lambda w: (w.a.endpoint(w.a.nodes), setattr(w.a, "empty", w.a.subnet("empty", "10.1.2.0/24"))),
        broken=lambda w: w.a.change(w.a.nodes, addressPrefix="10.1.4.0/23"),
        legal=lambda w: (
            w.a.change(w.a.empty, addressPrefix="10.1.4.0/23"),
            w.a.change(w.a.nodes, defaultOutboundAccess=False),
        ),
    ),
    Case(
        rules._special_subnet,
        "GatewaySubnet of a /28",
        "GatewaySubnet is 10.1.1.0/28; wanted /27 or larger",
        broken=lambda w: w.a.subnet("GatewaySubnet", "10.1.1.0/28"),
        legal=lambda w: (w.a.subnet("GatewaySubnet", "10.1.1.0/27"), w.a.subnet("nodes", "10.1.2.0/28")),
        given=lambda w: w.a.network,
    ),
    Case(
        rules._special_subnet,
        "GatewaySubnet with a security group",
        "GatewaySubnet has a network security group",
        given=lambda w: (w.a.nsg, w.a.network),
        broken=lambda w: w.a.subnet("GatewaySubnet", "10.1.1.0/27", networkSecurityGroup={"id": w.a.nsg}),
        legal=lambda w: w.a.subnet("nodes", "10.1.1.0/27", networkSecurityGroup={"id": w.a.nsg}),
    ),
    Case(
        rules._special_subnet,
        "servers in a /29",
        "10.1.8.0/29 is too small for PostgreSQL",
        broken=lambda w: w.a.database_subnet("10.1.8.0/29"),
        legal=lambda w: w.a.database_subnet("10.1.8.0/28"),
        given=lambda w: w.a.network,
    ),
    *(
        Case(
            rules._security_group,
            f"priority {priority}",
            f"SecurityRuleInvalidPriority: one has {priority}",
            broken=lambda w, priority=priority: w.a.security_group(security_rule("one", priority)),
            legal=lambda w, nearest=nearest: w.a.security_group(security_rule("one", nearest)),
        )
        for priority, nearest in ((99, 100), (4097, 4096))
    ),
    Case(
        rules._security_group,
        "a priority twice in a direction",
        "SecurityRuleConflict: one and two share the priority 100",
        broken=lambda w: w.a.security_group(security_rule("one", 100), security_rule("two", 100)),
        legal=lambda w: w.a.security_group(security_rule("one", 100), security_rule("two", 100, "Outbound")),
    ),
    Case(
        rules._security_group,
        "a name twice in both directions",
        "two security rules are named One",
        broken=lambda w: w.a.security_group(security_rule("one", 100), security_rule("One", 110, "Outbound")),
        legal=lambda w: w.a.security_group(security_rule("one", 100), security_rule("one2", 110, "Outbound")),
    ),
    # Gateways
    Case(
        rules._gateway,
        "in another subnet",
        "a gateway lies in GatewaySubnet; got .*/subnets/nodes",
        given=lambda w: (w.a.nodes, w.a.gateways, setattr(w.a, "ip", w.a.address())),
        broken=lambda w: w.a.vpn(ipConfigurations=[configuration(w.a.nodes, w.a.ip)]),
        legal=lambda w: w.a.vpn(ipConfigurations=[configuration(w.a.gateways, w.a.ip)]),
    ),
    *(
        Case(
            rules._gateway,
            f"a {word} address",
            "a gateway wants Standard, static public addresses",
            given=lambda w, wrong=wrong: (w.a.gateways, setattr(w.a, "ip", w.a.address(**wrong))),
            broken=lambda w: w.a.vpn(ipConfigurations=[configuration(w.a.gateways, w.a.ip)]),
            legal=lambda w: w.a.vpn(),
        )
        for word, wrong in (
            ("Basic", {"sku": {"name": "Basic"}}),
            ("dynamic", {"publicIPAllocationMethod": "Dynamic"}),
        )
    ),
    Case(
        rules._gateway,
        "active-active on one address",
        "active-active wants two public addresses",
        given=lambda w: (w.a.gateways, setattr(w.a, "ip", w.a.address()), setattr(w.a, "second", w.a.address())),
        broken=lambda w: w.a.vpn(
            activeActive=True,
            ipConfigurations=[configuration(w.a.gateways, w.a.ip), configuration(w.a.gateways, w.a.ip, "two")],
        ),
        legal=lambda w: w.a.vpn(
            activeActive=True,
            ipConfigurations=[configuration(w.a.gateways, w.a.ip), configuration(w.a.gateways, w.a.second, "two")],
        ),
    ),
    Case(
        rules._gateway,
        "a second of its type",
        "the network has a Vpn gateway already: .*/gateway",
        given=lambda w: (w.a.gateway, setattr(w.a, "on", [configuration(w.a.gateways, w.a.address())])),
        broken=lambda w: w.a.vpn(ipConfigurations=w.a.on),
        legal=lambda w: (
            w.a.vpn("ErGw1AZ", gatewayType="ExpressRoute", ipConfigurations=w.a.on),
            w.a.change(w.a.gateway, tags={"bank": "a"}),
        ),
    ),
    Case(
        rules._vpn_gateway,
        "a retired SKU",
        "the SKU VpnGw2 can't be created any more",
        given=lambda w: setattr(w.a, "on", [configuration(w.a.gateways, w.a.address())]),
        broken=lambda w: w.a.vpn("VpnGw2", ipConfigurations=w.a.on),
        legal=lambda w: (
            w.a.vpn("VpnGw2AZ", ipConfigurations=w.a.on),
            w.a.vpn("ErGw1AZ", gatewayType="ExpressRoute", ipConfigurations=w.a.on),
        ),
    ),
    *(
        Case(
            rules._vpn_gateway,
            f"{sku} in {wrong}",
            f"{sku} is not made in {wrong}; wanted {right}",
            given=lambda w: setattr(w.a, "on", [configuration(w.a.gateways, w.a.address())]),
            broken=lambda w, sku=sku, wrong=wrong: w.a.vpn(sku, vpnGatewayGeneration=wrong, ipConfigurations=w.a.on),
            legal=lambda w, sku=sku, right=right: w.a.vpn(sku, vpnGatewayGeneration=right, ipConfigurations=w.a.on),
        )
        for sku, wrong, right in (
            ("VpnGw1AZ", "Generation2", "Generation1"),
            ("VpnGw5AZ", "Generation1", "Generation2"),
        )
    ),
    Case(
        rules._vpn_gateway,
        "Basic with BGP",
        "the SKU Basic has no BGP",
        given=lambda w: setattr(w.a, "on", [configuration(w.a.gateways, w.a.address())]),
        broken=lambda w: w.a.vpn("Basic", enableBgp=True, ipConfigurations=w.a.on),
        legal=lambda w: w.a.vpn("Basic", enableBgp=False, ipConfigurations=w.a.on),
    ),
    Case(
        rules._vpn_gateway,
        "Basic, active-active",
        "the SKU Basic has no BGP and is not active-active",
        given=lambda w: setattr(
            w.a, "on", [configuration(w.a.gateways, w.a.address(), name) for name in ("one", "two")]
        ),
        broken=lambda w: w.a.vpn("Basic", activeActive=True, ipConfigurations=w.a.on),
        legal=lambda w: w.a.vpn("VpnGw1AZ", activeActive=True, ipConfigurations=w.a.on),
    ),
    *(
        reserved(asn, nearest)
        for asn, nearest in (
            (8074, 8073),
            (8075, 8076),
            (12076, 12077),
            (23456, 23457),
            (64496, 64495),
            (64511, 64512),
            (65517, 65516),
            (65520, 65521),
            (65535, 65534),
            (65551, 65552),
        )
    ),
    # Connections
    *(
        Case(
            rules._ends,
            f"{kind} without its far end",
            f"{kind} connection without a {end}",
            given=lambda w: (w.a.gateway, setattr(w.a, "ends", ends_of(w))),
            broken=lambda w, kind=kind: w.a._connection(kind),
            legal=lambda w, kind=kind, end=end: w.a._connection(kind, **{end: {"id": w.a.ends[end]}}),
        )
        for kind, end in rules._FAR_ENDS.items()
    ),
    Case(
        rules._ends,
        "overlapping networks",
        "the networks overlap: 10.1.0.0/16 and 10.1.0.0/16",
        given=lambda w: (w.a.gateway, setattr(w.b, "block", "10.1"), w.b.gateway),
        broken=lambda w: w.a.link(w.b.gateway),
        legal=lambda w: w.a.ipsec(),
    ),
    Case(
        rules._right_on_far_gateway,
        "no role there",
        "LinkedAuthorizationFailed: .* may not read .*/gateway",
        given=lambda w: (w.a.gateway, w.c.gateway),
        broken=lambda w: w.a.link(w.c.gateway),
        legal=lambda w: (grant(w, w.c.gateway), w.a.link(w.c.gateway)),
    ),
    Case(
        rules._right_on_far_gateway,
        "another role there",
        "LinkedAuthorizationFailed",
        given=lambda w: (w.a.gateway, grant(w, w.c.gateway, VM_CONTRIBUTOR)),
        broken=lambda w: w.a.link(w.c.gateway),
        legal=lambda w: (grant(w, w.c.group), w.a.link(w.c.gateway)),
    ),
    Case(
        rules._right_on_far_gateway,
        "a role on something else",
        "LinkedAuthorizationFailed",
        given=lambda w: (w.a.gateway, w.b.gateway, w.c.gateway, grant(w, w.c.network)),
        broken=lambda w: w.a.link(w.c.gateway),
        legal=lambda w: w.a.link(w.b.gateway),
    ),
    Case(
        rules._right_on_far_gateway,
        "somebody else's role",
        "LinkedAuthorizationFailed",
        given=lambda w: (w.a.gateway, w.c.gateway, w.c.role("somebody", w.c.gateway)),
        broken=lambda w: w.a.link(w.c.gateway),
        legal=lambda w: w.a.link(
            absent(w.c.gateway, "gateway").replace(w.c.side.account.subscription_id, "far-away")
        ),
    ),
    *(
        Case(
            rules._key_and_policy,
            f"a key with {what}",
            "the shared key has characters that Azure refuses",
            given=lambda w: setattr(w.a, "far", w.a.local()),
            broken=lambda w, key=key: w.a.ipsec(far=w.a.far, sharedKey=key),
            legal=lambda w, near=near: w.a.ipsec(far=w.a.far, sharedKey=near),
        )
        for what, key, near in (
            ("a space", "se cret", "se!cret"),
            ("a hyphen", "se-cret", "se,cret"),
            ("a tilde", "secret~", "secret}"),
            ("an umlaut", "secrét", "secret."),
            ("a line's end", "secret\n", "secret"),
            ("129 characters", "x" * 129, "x" * 128),
            ("none at all", "", "x"),
        )
    ),
    *(
        Case(
            rules._key_and_policy,
            what,
            says,
            given=lambda w: setattr(w.a, "far", w.a.local()),
            broken=lambda w, policies=policies: w.a.ipsec(far=w.a.far, ipsecPolicies=policies),
            legal=lambda w, near=near: w.a.ipsec(far=w.a.far, ipsecPolicies=near),
        )
        for what, says, policies, near in (
            ("two IPsec policies", "2 IPsec policies; wanted one", [POLICY, POLICY], [POLICY]),
            (
                "an incomplete IPsec policy",
                "the IPsec policy lacks pfsGroup, saLifeTimeSeconds",
                [without(POLICY, "pfsGroup", "saLifeTimeSeconds")],
                [],
            ),
            (
                "GCM with SHA",
                "GCM is encryption and integrity in one; got GCMAES256 and SHA256",
                [{**POLICY, "ipsecIntegrity": "SHA256"}],
                [{**POLICY, "ipsecEncryption": "AES256", "ipsecIntegrity": "SHA256"}],
            ),
            (
                "two kinds of GCM",
                "GCM is encryption and integrity in one; got GCMAES128 and GCMAES256",
                [{**POLICY, "ipsecIntegrity": "GCMAES128"}],
                [{**POLICY, "ipsecIntegrity": "GCMAES128", "ipsecEncryption": "GCMAES128"}],
            ),
        )
    ),
    *(full(sku, most) for sku, most in (("Basic", 10), ("VpnGw3AZ", 30), ("VpnGw4AZ", 100))),
    # Roles, vaults and names that are one in the world
    *(
        Case(
            rules._key,
            what,
            says,
            given=lambda w: (w.a.premium(), w.a.vault("plain-keys-of-a")),
            broken=lambda w, vault=vault, wrong=wrong: w.a.key(vault, **wrong),
            legal=lambda w, near_vault=near_vault, near=near: w.a.key(near_vault, "near", **near),
        )
        for what, says, vault, wrong, near_vault, near in (
            (
                "a key in an HSM of a standard vault",
                "KeyTypeNotSupported: EC-HSM in a vault of the SKU standard; wanted premium",
                "plain-keys-of-a",
                {},
                "plain-keys-of-a",
                {"kty": "EC"},
            ),
            (
                "an elliptic key that encrypts",
                "a key of type EC-HSM can't encrypt, wrapKey",
                "keys-of-bank-a",
                {"keyOps": ["sign", "wrapKey", "encrypt"]},
                "keys-of-bank-a",
                {"kty": "RSA-HSM", "keyOps": ["sign", "wrapKey", "encrypt"]},
            ),
            (
                "a curve that there is none of",
                "the curve P-192; wanted one of P-256, P-256K, P-384, P-521",
                "keys-of-bank-a",
                {"curveName": "P-192"},
                "keys-of-bank-a",
                {"curveName": "P-256K"},
            ),
            (
                "an unknown type of key",
                "the key type oct; wanted EC or RSA",
                "keys-of-bank-a",
                {"kty": "oct"},
                "keys-of-bank-a",
                {"kty": "RSA", "keyOps": ["sign"]},
            ),
        )
    ),
    Case(
        rules._role_assignment,
        "the same assignment by another name",
        "RoleAssignmentExists",
        given=lambda w: w.a.role("somebody", w.a.group),
        broken=lambda w: w.a.role("somebody", w.a.group),
        legal=lambda w: (
            w.a.role("somebody", w.a.group, VM_CONTRIBUTOR),
            w.a.role("another", w.a.group),
            w.a.role("somebody", w.a.nsg),
        ),
    ),
    named_twice("ledgerblobs", "ledgerblobs", Bank.account),
    named_twice("keys-of-bank-b", "Keys-Of-Bank-B", Bank.vault),
    named_twice("ledger-b", "ledger-b", public_server),
    Case(
        rules._vault,
        "purge protection false",
        "enablePurgeProtection is false",
        broken=lambda w: w.a.vault(enablePurgeProtection=False),
        legal=lambda w: (w.a.vault(enablePurgeProtection=True), w.a.vault("another-vault")),
    ),
    Case(
        rules._vault,
        "a deleted vault's name",
        "VaultAlreadyExists: Keys-Of-Bank-A is deleted but not purged",
        given=lambda w: w.a.delete(w.a.keys),
        broken=lambda w: w.a.vault("Keys-Of-Bank-A"),
        legal=lambda w: w.a.vault("keys-of-bank-a2"),
    ),
    Case(
        rules._vault,
        "other days of retention",
        "softDeleteRetentionInDays is 90 and can't be changed",
        given=lambda w: w.a.keys,
        broken=lambda w: w.a.change(w.a.keys, properties={"softDeleteRetentionInDays": 30}),
        legal=lambda w: w.a.change(
            w.a.keys, properties={"softDeleteRetentionInDays": 90, "publicNetworkAccess": "Enabled"}
        ),
    ),
    # Servers
    Case(
        rules._server,
        "a plain subnet",
        "subnet nodes is not delegated to PostgreSQL",
        given=lambda w: (w.a.nodes, w.a.database, setattr(w.a, "dns", w.a.zone())),
        broken=lambda w: w.a.server(w.a.nodes, w.a.dns),
        legal=lambda w: w.a.server(w.a.database, w.a.dns),
    ),
    Case(
        rules._server,
        "a zone of another suffix",
        "the private zone ledger.example does not end in .postgres.database.azure.com",
        given=lambda w: (w.a.database, setattr(w.a, "dns", w.a.zone("ledger.example"))),
        broken=lambda w: w.a.server(zone=w.a.dns),
        legal=lambda w: w.a.server(zone=w.a.zone()),
    ),
    Case(
        rules._server,
        "a zone of the server's name",
        "the private zone ledger-a.postgres.database.azure.com has the server's own name",
        given=lambda w: (w.a.database, setattr(w.a, "dns", w.a.zone("ledger-a.postgres.database.azure.com"))),
        broken=lambda w: w.a.server(zone=w.a.dns),
        legal=lambda w: w.a.server(zone=w.a.zone("ledger-b.postgres.database.azure.com")),
    ),
    Case(
        rules._server,
        "a zone linked elsewhere",
        "is not linked to the server's network",
        given=lambda w: (
            w.a.database,
            setattr(w.a, "dns", w.a.zone(linked=w.a.net("other", "10.9.0.0/16"))),
        ),
        broken=lambda w: w.a.server(zone=w.a.dns),
        legal=lambda w: (w.a.server(zone=w.a.zone(f"own.{ZONE}")), public_server(w.a, "without-a-network")),
    ),
    Case(
        rules._server_backup,
        "backups moved",
        "geoRedundantBackup is Enabled and can't be changed",
        given=lambda w: w.a.database_server,
        broken=lambda w: w.a.change(w.a.database_server, backup={"geoRedundantBackup": "Disabled"}),
        legal=lambda w: w.a.change(
            w.a.database_server, backup={"geoRedundantBackup": "Enabled", "backupRetentionDays": 35}
        ),
    ),
    # VMs
    Case(
        rules._custom_data,
        "65536 bytes",
        "customData has 65536 bytes; wanted 65535 at most",
        # The program's own limit is the rule's, not one byte more.
        broken=lambda w: w.a.vms(custom_data=base64_of(MAX_CUSTOM_DATA_BYTES + 1)),
        legal=lambda w: w.a.vms(custom_data=base64_of(MAX_CUSTOM_DATA_BYTES)),
    ),
    Case(
        rules._custom_data,
        "text as it is",
        "customData is not base64",
        broken=lambda w: w.a.vms(custom_data="#cloud-config"),
        legal=lambda w: w.a.vms(custom_data=base64_of(14)),
    ),
    Case(
        rules._user_data,
        "65540 characters",
        "userData has 65540 characters; wanted 65536 at most",
        broken=lambda w: w.a.vms(user_data=base64_of(49_153)),
        legal=lambda w: w.a.vms(user_data=base64_of(49_152)),
    ),
    Case(
        rules._user_data,
        "text as it is",
        "userData is not base64",
        broken=lambda w: w.a.vms(user_data="#!/bin/sh"),
        legal=lambda w: w.a.vms(user_data=base64_of(14)),
    ),
    Case(
        rules._vm_health,
        "Rolling without health",
        "Rolling upgrades without the Application Health extension",
        broken=lambda w: w.a.vms(health=False, upgradePolicy={"mode": "Rolling"}),
        legal=lambda w: w.a.vms(upgradePolicy={"mode": "Rolling"}),
    ),
    Case(
        rules._vm_health,
        "repairs without health",
        "automatic repairs without the Application Health extension",
        broken=lambda w: w.a.vms(health=False, automaticRepairsPolicy={"enabled": True}),
        legal=lambda w: w.a.vms(health=False, automaticRepairsPolicy={"enabled": False, "gracePeriod": "PT1M"}),
    ),
    *(
        Case(
            rules._vm_health,
            f"repairs after {wrong}",
            f"gracePeriod is {wrong}; wanted PT10M to PT90M",
            broken=lambda w, wrong=wrong: w.a.vms(automaticRepairsPolicy={"enabled": True, "gracePeriod": wrong}),
            legal=lambda w, right=right: w.a.vms(automaticRepairsPolicy={"enabled": True, "gracePeriod": right}),
        )
        for wrong, right in (("PT9M", "PT10M"), ("PT91M", "PT90M"), ("30", None))
    ),
    Case(
        rules._zones_stay,
        "a zone taken away",
        "zone 2 can't be taken from a scale set",
        given=lambda w: w.a.zonal,
        broken=lambda w: w.a.change(w.a.zonal, zones=["1", "3"]),
        legal=lambda w: w.a.change(w.a.zonal, zones=["1", "2", "3"]),
    ),
    # Load balancers
    Case(
        rules._frontend,
        "an address of another subnet",
        "PrivateIPAddressNotInSubnet: 10.1.1.4 is not in 10.1.0.0/24",
        given=lambda w: w.a.nodes,
        broken=lambda w: w.a.balancer_at("10.1.1.4"),
        legal=lambda w: (w.a.balancer_at("10.1.0.4"), w.a.change(w.a.network, tags={"bank": "a"})),
    ),
    *(
        kept_address(*each)
        for each in (("10.1.0.0", "10.1.0.4"), ("10.1.0.3", "10.1.0.4"), ("10.1.0.255", "10.1.0.254"))
    ),
    *(
        Case(
            rules._load_balancer,
            f"a rule to no {part}",
            f"rule one names {re.escape(id_)}, which is not there",
            given=lambda w: w.a.nodes,
            broken=lambda w, wrong=wrong: w.a.balancer(loadBalancingRules=[balancer_rule("one", 80, **wrong)]),
            legal=lambda w: w.a.balancer(loadBalancingRules=[balancer_rule("one", 80)]),
        )
        for part, id_, wrong in (
            ("frontend", "$self/front", {"frontendIPConfiguration": {"id": "$self/front"}}),
            ("pool", "$self/pool", {"backendAddressPools": [{"id": "$self/pool"}]}),
            ("probe", "$self/probe", {"probe": {"id": "$self/probe"}}),
        )
    ),
    Case(
        rules._load_balancer,
        "a frontend's port twice",
        "two rules share the frontendPort 80",
        given=lambda w: w.a.nodes,
        broken=lambda w: w.a.balancer(loadBalancingRules=[balancer_rule("one", 80), balancer_rule("two", 80, 81)]),
        legal=lambda w: w.a.balancer(
            loadBalancingRules=[balancer_rule("one", 80), balancer_rule("two", 80, 81, protocol="Udp", probe=None)]
        ),
    ),
    Case(
        rules._load_balancer,
        "a pool's port twice",
        "two rules share the backendPort 80",
        given=lambda w: w.a.nodes,
        broken=lambda w: w.a.balancer(loadBalancingRules=[balancer_rule("one", 80), balancer_rule("two", 81, 80)]),
        legal=lambda w: w.a.balancer(
            loadBalancingRules=[balancer_rule("one", 80), balancer_rule("two", 81, 80, enableFloatingIP=True)]
        ),
    ),
]


def ends_of(w: World) -> dict[str, str]:
    circuit = (
        "/subscriptions/the-carrier/resourceGroups/circuits/providers/Microsoft.Network/expressRouteCircuits/metro"
    )
    return {"virtualNetworkGateway2": w.b.gateway, "localNetworkGateway2": w.a.local(), "peer": circuit}


def grant(w: World, scope: str, role: str = READER) -> str:
    """Bank C lets bank A's deployer have a role."""
    return w.c.role(w.a.side.account.deployer_id, scope, role)


class Watch:
    """Which rules were asked, and which one refused."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: set[rules.Rule] = set()
        self.refused: list[rules.Rule] = []
        of_types = {token: tuple(map(self._watched, each)) for token, each in rules._RULES.items()}
        monkeypatch.setattr(rules, "_OF_ALL_TYPES", tuple(map(self._watched, rules._OF_ALL_TYPES)))
        monkeypatch.setattr(rules, "_RULES", of_types)

    def _watched(self, rule: rules.Rule) -> rules.Rule:
        def ask(situation: rules.Situation) -> str | None:
            problem = rule(situation)
            self.asked.add(rule)
            if problem:
                self.refused.append(rule)
            return problem

        return ask


def name_of(case: Case) -> str:
    return f"{case.rule.__name__.strip('_')}-{case.what}"


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_what_breaks_a_rule_is_refused(case: Case, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    case.given(world)
    before = world.state
    watch = Watch(monkeypatch)
    said = refusal(lambda: case.broken(world))
    assert re.search(case.says, said), f"Azure refuses {case.what}, and says why; got {said!r}"
    assert watch.refused == [case.rule], f"{case.what} must be refused by the rule that the case is about"
    assert {id_: world.state[id_] for id_ in before} == before, "what is refused leaves all as it was"


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_the_nearest_legal_case_passes(case: Case, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    case.given(world)
    before = world.state
    watch = Watch(monkeypatch)
    said = refusal(lambda: case.legal(world))
    assert not said, f"only {case.what} is refused, not what is next to it"
    assert world.state != before, "the legal case is carried out"
    assert case.rule in watch.asked, "the rule has judged it"


def test_each_rule_has_a_case() -> None:
    assert {case.rule for case in CASES} == set(rules.types_by_rule()), (
        "a rule that no case breaks may refuse nothing, or too much"
    )


# Names -------------------------------------------------------------------------------------------------------------

NETWORK_NAMES = (("a", "n" * 80, "a.b-c_"), ("", "n" * 81, "-a", "a-", "a b"))
LONG_NETWORK_NAMES = (("ab", "n" * 64, "a.b_"), ("a", "n" * 65, "_a", "a-"))
GUIDS = ((str(UUID(int=1)), READER.upper()), ("reader", READER[1:], f"{READER}0"))
DASHED = (("abc", "n" * 63, "a-b"), ("ab", "n" * 64, "a--b", "-ab", "ab-", "Abc"))

NAMES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "authorization:RoleAssignment": GUIDS,
    "authorization:RoleDefinition": GUIDS,
    "compute:VirtualMachineScaleSet": (("a", "n" * 64), ("n" * 65, "a_b", "a-", "")),
    "dbforpostgresql:Server": (("abc", "n" * 63, "a-b"), ("ab", "n" * 64, "Abc", "-ab", "ab-")),
    "keyvault:Key": (("a", "n" * 127), ("n" * 128, "a_b", "")),
    "keyvault:Secret": (("a", "n" * 127), ("n" * 128, "a_b", "")),
    "keyvault:Vault": (("abc", "v" * 24, "a-b"), ("ab", "v" * 25, "1ab", "a--b", "ab-", "a_b")),
    "managedidentity:UserAssignedIdentity": (("abc", "n" * 128, "a_b-"), ("ab", "n" * 129, "-ab", "a.b")),
    "network:LoadBalancer": NETWORK_NAMES,
    "network:LocalNetworkGateway": NETWORK_NAMES,
    "network:NatGateway": NETWORK_NAMES,
    "network:NetworkSecurityGroup": NETWORK_NAMES,
    "network:PrivateEndpoint": LONG_NETWORK_NAMES,
    "network:PublicIPAddress": NETWORK_NAMES,
    "network:Subnet": NETWORK_NAMES,
    "network:VirtualNetwork": LONG_NETWORK_NAMES,
    "network:VirtualNetworkGateway": NETWORK_NAMES,
    "network:VirtualNetworkGatewayConnection": NETWORK_NAMES,
    "operationalinsights:Workspace": (("abcd", "n" * 63), ("abc", "n" * 64, "ab_d", "-abc")),
    "resources:ResourceGroup": (("a", "(a).b_c", "n" * 90), ("a.", "n" * 91, "a b", "")),
    "storage:BlobContainer": DASHED,
    "storage:FileShare": DASHED,
    "storage:StorageAccount": (("abc", "s" * 24), ("ab", "s" * 25, "a-b", "Abc")),
    # Of a type without an entry a name of 1 to 260 characters is taken.
    "privatedns:PrivateZone": (("a", "n" * 259), ("", "n" * 261, "/a")),
}


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, (legal, _) in NAMES.items() for name in legal])
def test_a_legal_name_passes(kind: str, name: str, world: World) -> None:
    property_ = str(arm.name_property(kind))
    checked = world.a.side.check(token_of(kind), "it", {property_: name})
    assert checked == {property_: name}, "a name that the type allows is taken as it is"


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, (_, wrong) in NAMES.items() for name in wrong])
def test_an_illegal_name_is_refused(kind: str, name: str, world: World) -> None:
    said = refusal(lambda: world.a.side.check(token_of(kind), "it", {str(arm.name_property(kind)): name}))
    assert f"the name {name!r} is not allowed" in said, "the message says which name, and what is wanted"
    assert "; wanted " in said, "and what is wanted instead"


def test_each_entry_of_names_is_tested() -> None:
    assert set(rules._NAMES) <= set(NAMES), "a pattern that nobody tries may refuse what Azure takes"


def test_a_name_that_a_preview_can_not_know_is_not_judged(world: World) -> None:
    checked = world.a.side.check(token_of("storage:StorageAccount"), "it", {"accountName": rules.UNKNOWN})
    assert checked == {"accountName": rules.UNKNOWN}, "Pulumi's stand-in is no name yet"


@pytest.mark.parametrize("kind", ["network:Subnet", "authorization:RoleAssignment"])
def test_what_is_not_named_is_named_by_azure_native(kind: str, world: World) -> None:
    side, token, property_ = world.a.side, token_of(kind), str(arm.name_property(kind))
    first = side.check(token, "it", {}, seed="1")
    assert side.check(token, "it", {}, seed="1") == first, "the same seed gives the same name"
    assert side.check(token, "it", {}, seed="2") != first, "a replacement has a name of its own"
    assert side.check(token, "it", {}, old=first, seed="2") == first, "an update keeps the name"
    assert set(first) == {property_}, "nothing else is filled in"


# Replacement -------------------------------------------------------------------------------------------------------

# An input of each type that has immutable ones, which Azure changes in place.
MUTABLE = {
    "authorization:RoleAssignment": "description",
    "authorization:RoleDefinition": "permissions",
    "compute:VirtualMachineScaleSet": "virtualMachineProfile",
    "dbforpostgresql:Administrator": "tags",
    "dbforpostgresql:Server": "storage",
    "monitor:DataCollectionRuleAssociation": "dataCollectionRuleId",
    "monitor:DiagnosticSetting": "logs",
    "network:PrivateEndpoint": "tags",
    "network:PublicIPAddress": "dnsSettings",
    "network:VirtualNetworkGateway": "sku",
    "network:VirtualNetworkGatewayConnection": "ipsecPolicies",
    "privatedns:VirtualNetworkLink": "registrationEnabled",
    "storage:FileShare": "shareQuota",
    "storage:StorageAccount": "accessTier",
}


@pytest.mark.parametrize("kind", sorted(rules._IMMUTABLE))
def test_what_can_not_be_changed_forces_a_replacement(kind: str, world: World) -> None:
    named = str(arm.name_property(kind))
    keys = sorted({*rules._IMMUTABLE[kind], "location", "resourceGroupName", named})
    mutable = MUTABLE[kind]
    found = world.a.side.diff(token_of(kind), dict.fromkeys([*keys, mutable], 1), dict.fromkeys([*keys, mutable], 2))
    assert {key for key, replaces in found.items() if replaces} == set(keys), "Azure can't change these in place"
    assert found[mutable] is False, f"and it changes {mutable} in place"


def test_a_parent_s_name_forces_a_replacement_and_what_is_the_same_is_no_change(world: World) -> None:
    old = {"virtualNetworkName": "one", "addressPrefix": "10.1.0.0/24", "same": 1}
    new = {"virtualNetworkName": "two", "addressPrefix": "10.1.1.0/24", "same": 1, "more": 1}
    found = world.a.side.diff(token_of("network:Subnet"), old, new)
    assert found == {"virtualNetworkName": True, "addressPrefix": False, "more": False}, (
        "a subnet never moves to another network; its range may change"
    )


def test_a_random_value_is_made_anew_when_what_it_hangs_on_changes(world: World) -> None:
    token = "random:index/randomBytes:RandomBytes"
    found = world.a.side.diff(token, {"keepers": {"a": "1"}, "x": 1}, {"keepers": {"a": "2"}, "x": 2})
    assert found == {"keepers": True, "x": False}, "keepers say when a value is replaced"
    one = world.a.side.create(token, "key", {"keepers": {"generation": "1"}, "length": 32})
    assert one == world.a.side.create(token, "key", {"keepers": {"generation": "1"}, "length": 32}), "else it stays"
    assert one[1]["hex"] != world.b.side.create(token, "key", {"length": 32})[1]["hex"], "each bank has its own"


# Deletes -----------------------------------------------------------------------------------------------------------


def held(bank: Bank) -> dict[str, tuple[Callable[[], str], Callable[[str], object]]]:
    """For each type that can be in use: what makes one, and what makes something that uses it."""
    return {
        "network:LocalNetworkGateway": (bank.local, lambda id_: bank.ipsec(far=id_)),
        "network:NatGateway": (bank.nat, lambda id_: bank.subnet("n", "10.1.0.0/24", natGateway={"id": id_})),
        "network:NetworkSecurityGroup": (
            bank.security_group,
            lambda id_: bank.subnet("n", "10.1.0.0/24", networkSecurityGroup={"id": id_}),
        ),
        "network:PublicIPAddress": (bank.address, lambda id_: bank.nat(publicIpAddresses=[{"id": id_}])),
        "network:Subnet": (lambda: bank.nodes, bank.endpoint),
        "network:VirtualNetwork": (lambda: bank.network, lambda _: bank.endpoint(bank.nodes)),
        "network:VirtualNetworkGateway": (lambda: bank.gateway, lambda _: bank.ipsec()),
    }


@pytest.mark.parametrize("kind", sorted(rules._IN_USE))
def test_what_is_in_use_is_not_deleted(kind: str, world: World) -> None:
    make, use = held(world.a)[kind]
    made = make()
    user = use(made)
    said = refusal(lambda: world.a.delete(made))
    assert f"InUse: {user} still refers to it" in said, "Azure names what still holds it"
    assert made in world.azure.resources, "and keeps it"
    world.a.delete(str(user))
    assert not refusal(lambda: world.a.delete(made)), "once nothing holds it, it goes"
    assert made not in world.azure.resources, "it is gone"


def test_a_group_goes_with_what_holds_itself_but_not_while_another_bank_points_in(world: World) -> None:
    world.a.ipsec()
    theirs = world.b.link(world.a.gateway)
    assert f"InUse: {theirs}" in refusal(lambda: world.a.delete(world.a.group)), (
        "the other half points at the gateway"
    )
    world.b.delete(theirs)
    assert not refusal(lambda: world.a.delete(world.a.group)), "what lies within holds nothing against its own group"
    left = [id_ for id_ in world.azure.resources if id_.startswith(f"{world.a.group}/")]
    assert not left, f"what lies below goes with it; left: {left}"
    assert world.b.group in world.azure.resources, "another bank's group of the same name stays"


def test_children_go_with_their_parent_and_no_namesake_does(world: World) -> None:
    first, second = world.a.net("net", "10.1.0.0/24"), world.a.net("net2", "10.1.0.0/24")
    child = world.a.subnet("n", "10.1.0.0/24", virtualNetworkName="net")
    other = world.a.subnet("n", "10.1.0.0/24", virtualNetworkName="net2")
    world.a.delete(first)
    assert child not in world.azure.resources, "a subnet is nothing without its network"
    assert {second, other} <= set(world.azure.resources), "a network whose name begins alike is another one"


def test_what_only_refers_does_not_hold(world: World) -> None:
    world.a.make("monitor:MetricAlert", scopes=[world.a.network])
    world.a.make("monitor:DiagnosticSetting", "logs", resourceUri=world.a.network)
    world.a.role("somebody", world.a.network)
    world.a.zone()
    assert not refusal(lambda: world.a.delete(world.a.network)), "alerts, logs, roles and links of zones hold nothing"


@pytest.mark.parametrize(
    "make", [lambda bank: bank.secret("card", "words"), lambda bank: (bank.keys, bank.key(kty="EC"))[1]]
)
def test_a_secret_or_key_is_deleted_only_through_an_open_data_plane(make: Any, world: World) -> None:
    kept = make(world.a)
    assert "ForbiddenByConnection" in refusal(lambda: world.a.delete(kept)), "the vault is closed to this machine"
    world.a.change(world.a.keys, properties={"softDeleteRetentionInDays": 90, "publicNetworkAccess": "Enabled"})
    assert not refusal(lambda: world.a.delete(kept)), "an open vault lets it go"


def test_what_is_gone_is_gone(world: World) -> None:
    nat = world.a.nat()
    token, inputs = world.azure.resources[nat].token, world.azure.resources[nat].inputs
    world.a.delete(nat)
    assert world.a.side.read(nat, {}) is None, "a refresh is told that it is gone"
    assert "is not there" in refusal(lambda: world.a.side.update(token, "nat", nat, inputs)), "it can't be changed"
    assert not refusal(lambda: world.a.side.delete(token, "nat", nat)), "a second delete is no error"


# Connections -------------------------------------------------------------------------------------------------------


def two_halves(world: World, how: str, **of_b: Any) -> tuple[str, Callable[[], str]]:
    """Bank A's half, and what makes B's, which may differ."""
    agreed = {"sharedKey": "abc", "ipsecPolicies": [POLICY], "connectionProtocol": "IKEv2", "enableBgp": True}
    if how == "Vnet2Vnet":
        _ = world.b.gateway
        first = world.a.link(world.b.gateway, **agreed)
        return first, lambda: world.b.link(world.a.gateway, **{**agreed, **of_b})
    first = world.a.ipsec(far=world.a.end_of(world.b), **agreed)
    far = of_b.pop("far", None) or world.b.end_of(world.a)
    return first, lambda: world.b.ipsec(far=far, **{**agreed, **of_b})


@pytest.mark.parametrize("how", ["Vnet2Vnet", "IPsec"])
def test_a_connection_is_up_once_both_halves_agree(how: str, world: World) -> None:
    first, make_second = two_halves(world, how)
    assert world.a.status(first) == "Connecting", "one half carries nothing"
    second = make_second()
    assert [world.a.status(first), world.b.status(second)] == ["Connected"] * 2, "both halves are there and agree"
    world.b.delete(second)
    assert world.a.status(first) == "Connecting", "and it is down again once a half is gone"


@pytest.mark.parametrize("how", ["Vnet2Vnet", "IPsec"])
@pytest.mark.parametrize(
    "differs",
    [
        {"sharedKey": "abd"},
        {"ipsecPolicies": [{**POLICY, "dhGroup": "ECP256"}]},
        {"connectionProtocol": "IKEv1"},
        {"enableBgp": False},
    ],
    ids=str,
)
def test_halves_that_differ_do_not_connect(how: str, differs: dict[str, Any], world: World) -> None:
    first, make_second = two_halves(world, how, **differs)
    second = make_second()
    assert [world.a.status(first), world.b.status(second)] == ["Connecting"] * 2, f"the halves differ by {differs}"


@pytest.mark.parametrize("wrong", ["address", "asn"])
def test_a_half_that_names_another_gateway_does_not_connect(wrong: str, world: World) -> None:
    inputs, _ = world.a.read(world.a.end_of(world.b))
    address, asn = inputs["gatewayIpAddress"], inputs["bgpSettings"]["asn"]
    far = world.b.local("192.0.2.250" if wrong == "address" else address, asn + (wrong == "asn"))
    first, make_second = two_halves(world, "IPsec", far=far)
    assert world.b.status(make_second()) == "Connecting", f"B's half names another {wrong} than A's gateway has"
    assert world.a.status(first) == "Connecting", "neither does A's come up"


def test_a_circuit_s_connection_is_up_by_itself(world: World) -> None:
    made = world.a._connection("ExpressRoute", peer={"id": ends_of(world)["peer"]})
    assert world.a.status(made) == "Connected", "its other half is the carrier's"


def test_an_update_leaves_the_shared_key_as_it_was(world: World) -> None:
    first, make_second = two_halves(world, "Vnet2Vnet")
    second = make_second()
    for bank, half in ((world.a, first), (world.b, second)):
        bank.change(half, sharedKey="rotated", tags={"generation": "2"})
        kept = world.azure.resources[half].inputs
        assert kept["sharedKey"] == digest("abc"), "Azure ignores the key of a PUT on a connection that is there"
        assert kept["tags"] == {"generation": "2"}, "what else it says is done"
    bare = world.a.ipsec()
    world.a.change(bare, sharedKey="first")
    assert world.azure.resources[bare].inputs["sharedKey"] == digest("first"), "where there is none, it is set"


def test_an_update_leaves_a_key_as_it_was(world: World) -> None:
    world.a.premium()
    key = world.a.key()
    world.a.change(key, properties={"kty": "EC-HSM", "curveName": "P-384", "keyOps": ["sign", "verify"]})
    kept = world.azure.resources[key].inputs["properties"]
    assert kept == {"kty": "EC-HSM", "curveName": "P-256", "keyOps": ["sign"]}, "a PUT makes a key, and changes none"


# VMs follow their model --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "follow"), [("Rolling", True), ("Automatic", True), ("Manual", False), (None, False)]
)
def test_vms_follow_their_model_by_the_upgrade_policy(mode: str | None, follow: bool, world: World) -> None:
    policy = {"upgradePolicy": {"mode": mode}} if mode else {}
    vms = world.a.vms(custom_data=base64_of(1), **policy)

    def models() -> list[str]:
        return list(world.azure.resources[vms].extra["vmModels"])

    old, same = models()
    assert old == same, "all VMs begin with the model of their scale set"
    world.a.change(vms, **scale_set(custom_data=base64_of(2), capacity=3))
    first, second, third = models()
    assert (first, second) == ((third, third) if follow else (old, old)), (
        f"{mode or 'no'} policy: VMs follow, or stay"
    )
    assert third != old, "a new VM is always made from the model that is in force"
    world.a.change(vms, **scale_set(custom_data=base64_of(2), capacity=1))
    assert models() == [first], "scaling in takes VMs away and changes none"


def test_tags_are_no_part_of_the_model(world: World) -> None:
    vms = world.a.vms(upgradePolicy={"mode": "Rolling"})
    before = list(world.azure.resources[vms].extra["vmModels"])
    world.a.change(vms, tags={"bank": "a"})
    assert world.azure.resources[vms].extra["vmModels"] == before, "a tag restarts no VM"


# The core ----------------------------------------------------------------------------------------------------------


def test_what_exists_is_not_made_again(world: World) -> None:
    world.a.net("network", "10.1.0.0/16")
    said = refusal(lambda: world.a.net("NETWORK", "10.1.0.0/16"))
    assert "cannot create already existing resource" in said, "Azure's ids don't care for case"
    assert not refusal(lambda: world.b.net("network", "10.1.0.0/16")), "the same name in another subscription is free"


class Slow:
    """An Azure that takes its time for one subnet, until it is told to go on."""

    def __init__(self) -> None:
        self.started, self.go_on = Event(), Event()
        self.on = False

    def __call__(self, kind: str) -> float:
        if self.on and kind == "network:Subnet" and not self.started.is_set():
            self.started.set()
            assert self.go_on.wait(5), "the test lets it go on"
        return 0.0


def test_a_network_s_subnets_are_changed_one_by_one() -> None:
    slow = Slow()
    world = World(seconds=slow)
    nodes, other = world.a.nodes, world.a.net("other", "10.1.0.0/16")
    slow.on = True
    made: list[str] = []
    thread = Thread(target=lambda: made.append(world.a.subnet("first", "10.1.1.0/24")))
    thread.start()
    try:
        assert slow.started.wait(5), "the first request runs"
        busy = f"AnotherOperationInProgress: another operation on {world.a.network} is in progress"
        for what, change in {
            "a second subnet": lambda: world.a.subnet("second", "10.1.2.0/24"),
            "an update": lambda: world.a.change(nodes, tags={}),
            "a delete": lambda: world.a.delete(nodes),
        }.items():
            assert busy in refusal(change), f"{what} meanwhile is refused"
        assert not refusal(lambda: world.a.subnet("n", "10.1.2.0/24", virtualNetworkName="other")), (
            f"{other} is another network"
        )
        assert not refusal(world.a.nat), "what hangs on no network goes on"
    finally:
        slow.go_on.set()
        thread.join(5)
    assert made, "the first request is done"
    assert not refusal(lambda: world.a.subnet("second", "10.1.2.0/24")), "and then the second one may come"


@pytest.mark.parametrize("kind", ["network:Subnet", "dbforpostgresql:Administrator", "dbforpostgresql:Configuration"])
def test_what_is_changed_one_by_one_holds_its_parent(kind: str) -> None:
    held_by = rules.exclusive_parents(token_of(kind), "/parents/one/children/two")
    assert held_by == ("/parents/one",), "two requests on one parent at a time are refused"
    assert rules.exclusive_parents(token_of("network:NatGateway"), "/parents/one") == (), "what has none holds none"


def test_a_refused_request_frees_its_parent(world: World) -> None:
    assert refusal(lambda: world.a.subnet("nodes", "10.9.0.0/24")), "it lies outside its network"
    assert not refusal(lambda: world.a.subnet("nodes", "10.1.0.0/24")), "a refused request holds nothing back"


def test_no_secret_is_in_the_state(tmp_path: Path) -> None:
    world = World(tmp_path / "azure.json")
    world.a.ipsec(sharedKey="Key!OfTheLink", authorizationKey="Key!OfTheCircuit")
    world.a.secret("card", "Words!OfTheCard")
    text = (tmp_path / "azure.json").read_text(encoding="utf-8")
    for secret in ("Key!OfTheLink", "Key!OfTheCircuit", "Words!OfTheCard"):
        assert secret not in text, "of a secret a digest is kept"
        assert digest(secret) in text, "by which a changed one is noticed"


def test_a_secret_is_read_back_by_who_knows_it(world: World) -> None:
    link, secret = world.a.ipsec(sharedKey="key"), world.a.secret("card", "words")
    assert world.a.read(link, sharedKey="key")[0]["sharedKey"] == "key", "what is known and still so is no change"
    assert world.a.read(link, sharedKey="other")[0]["sharedKey"] == digest("key"), "a refresh shows that it differs"
    assert world.a.read(link)[0]["sharedKey"] == digest("key"), "who knows nothing is told nothing"
    inputs, outputs = world.a.read(secret, properties={"value": "words"})
    assert inputs["properties"] == outputs["properties"] == {"value": "words"}, "deep inside of inputs too"


def test_the_state_is_the_same_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "below" / "azure.json"
    world = World(path)
    vms = world.a.vms()
    world.a.delete(world.a.keys)
    again = OfflineAzure(path)
    assert again.resources == world.azure.resources, "all resources are as they were"
    assert again.resources[vms].extra["vmModels"], "with what Azure knows besides their inputs"
    assert again.deployers == world.azure.deployers, "and who deploys where"
    assert again.soft_deleted == {"keys-of-bank-a": world.a.keys}, "and which names are blocked"
    assert again._busy == set(), "a request does not outlive its process"
    assert isinstance(again.resources[vms], Resource), "resources, not plain dictionaries"


def test_a_vault_goes_softly_with_its_resource_group(world: World) -> None:
    vault = world.a.keys
    world.a.delete(world.a.group)
    assert vault not in world.azure.resources, "all that lies in a group goes with it"
    assert world.azure.soft_deleted == {"keys-of-bank-a": vault}, "and a vault's name stays blocked"


def test_outputs_have_what_azure_adds(world: World) -> None:
    _, gateway = world.a.read(world.a.gateway)
    (instance,) = gateway["bgpSettings"]["bgpPeeringAddresses"]
    assert instance["defaultBgpIpAddresses"] == ["10.1.1.4"], "an instance has the fifth address of its subnet"
    assert gateway["bgpSettings"]["asn"] == 64_512, "beside what was stated"
    vault = world.a.read(world.a.keys)[1]["properties"]
    assert vault["vaultUri"] == "https://keys-of-bank-a.vault.azure.net/", "where its data plane is"
    server = world.a.read(world.a.database_server)[1]
    assert server["fullyQualifiedDomainName"] == "ledger-a.postgres.database.azure.com", "where nodes reach it"


def test_only_functions_that_azure_has_are_answered(world: World) -> None:
    client = world.a.side.invoke("azure-native:authorization:getClientConfig")
    assert client["subscriptionId"] == world.a.side.account.subscription_id, "a bank is told its own subscription"
    assert "has no function" in refusal(lambda: world.a.side.invoke("azure-native:x:y")), "no answer is made up"
    assert "has no random" in refusal(lambda: world.a.side.create("random:x:RandomPet", "pet", {})), "nor a value"
    with pytest.raises(arm.UnknownTypeError, match="no type azure-native:batch:Pool"):
        world.a.side.check("azure-native:batch:Pool", "pool", {})
