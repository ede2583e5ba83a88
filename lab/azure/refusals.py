"""Examples of what the offline Azure refuses: for each rule requests that break it, and the nearest valid requests.

Tests try both, and `docs.generate` writes them into the table of lab/azure/README.md.
"""

import base64
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

from delivery.cloud_config import MAX_CUSTOM_DATA_BYTES
from lab.azure import arm, rules
from lab.azure.azure import Account, OfflineAzure, Subscription

GROUP = "ledger"
READER = "acdd72a7-3385-48ef-bd42-f606fba81ae7"
VM_CONTRIBUTOR = "9980e02c-c2be-4d73-94e8-173b1dc7cf3c"
"""GUIDs of Azure's built-in roles: learn.microsoft.com/azure/role-based-access-control/built-in-roles"""
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
"""A valid IPsec policy of a connection."""


# Builders of resources ---------------------------------------------------------------------------------------------


def token_of(kind: str) -> str:
    """The Pulumi token of an `azure-native` resource kind, such as `network:Subnet`."""
    return f"azure-native:{kind}"


def base64_of(size: int) -> str:
    """`size` bytes of data in base64."""
    return base64.b64encode(b"x" * size).decode()


def configuration(subnet: str, address: str | None = None, name: str = "one") -> dict[str, Any]:
    """An IP configuration of a gateway in a subnet, by the ids of subnet and public address."""
    found = {"publicIPAddress": {"id": address}} if address else {}
    return {"name": name, "subnet": {"id": subnet}, **found}


def security_rule(name: str, priority: int, direction: str = "Inbound") -> dict[str, Any]:
    """A rule of a network security group that allows any protocol."""
    return {"name": name, "priority": priority, "direction": direction, "access": "Allow", "protocol": "*"}


def balancer_rule(name: str, port: int, to: int | None = None, **more: Any) -> dict[str, Any]:
    """A load-balancing rule of `ExampleBank.balancer` from `port` to the back end's port `to` or `port`."""
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


class ExampleBank:
    """One member's account, with a method for each kind of resource that creates it and returns its id.

    A resource that exists once is a cached property, created at its first use.
    """

    def __init__(self, azure: OfflineAzure, member: str, organization: str, block: str) -> None:
        self.side: Subscription = azure.account(Account.of(member, organization))
        self.block = block
        self._numbers = count(1)
        self.group = self.make("resources:ResourceGroup", GROUP)

    def make(self, kind: str, name: str | None = None, /, **inputs: Any) -> str:
        """Create a resource of this kind with these inputs, in the bank's resource group.

        Raises:
            AzureError: a rule refuses the request.
        """
        token = token_of(kind)
        place = {} if kind.startswith("authorization:") else {"resourceGroupName": GROUP}
        named = {str(arm.name_property(token)): name} if name else {}
        checked = self.side.check(
            token, kind.split(":")[1], {**place, **named, **inputs}, seed=str(next(self._numbers))
        )
        return self.side.create(token, name or kind, checked)[0]

    def change(self, id_: str, **inputs: Any) -> dict[str, Any]:
        """Update a resource with these inputs in place of its own; returns its outputs.

        Raises:
            AzureError: a rule refuses the request.
        """
        resource = self.side.resources[id_]
        changed = self.side.check(resource.token, id_, {**resource.inputs, **inputs}, old=resource.inputs)
        return self.side.update(resource.token, id_, id_, changed)

    def delete(self, id_: str) -> None:
        """Delete a resource.

        Raises:
            AzureError: a rule refuses the request.
        """
        self.side.delete(self.side.resources[id_].token, id_, id_)

    def read(self, id_: str, **known: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The inputs and outputs of an existing resource."""
        found = self.side.read(id_, known)
        assert found is not None, f"{id_} was made"
        return found

    # Networks

    def net(self, name: str, *spaces: str) -> str:
        """A virtual network with these address spaces."""
        return self.make("network:VirtualNetwork", name, addressSpace={"addressPrefixes": list(spaces)})

    @cached_property
    def network(self) -> str:
        """The bank's virtual network, a /16."""
        return self.net("network", f"{self.block}.0.0/16")

    def subnet(self, name: str, prefix: str, **inputs: Any) -> str:
        """A subnet of the bank's virtual network."""
        _ = self.network
        return self.make(
            "network:Subnet", name, **{"virtualNetworkName": "network", "addressPrefix": prefix, **inputs}
        )

    def database_subnet(self, prefix: str = "10.1.8.0/28") -> str:
        """A subnet that is delegated to PostgreSQL."""
        return self.subnet("database", prefix, delegations=[{"name": "one", "serviceName": POSTGRESQL}])

    @cached_property
    def nodes(self) -> str:
        """The subnet of the node VMs, a /24."""
        return self.subnet("nodes", f"{self.block}.0.0/24")

    @cached_property
    def database(self) -> str:
        """The database's subnet."""
        return self.database_subnet()

    @cached_property
    def gateways(self) -> str:
        """The gateway's subnet, a /27."""
        return self.subnet("GatewaySubnet", f"{self.block}.1.0/27")

    @cached_property
    def nsg(self) -> str:
        """A network security group without rules."""
        return self.security_group()

    def security_group(self, *stated: dict[str, Any]) -> str:
        """A network security group with these rules."""
        return self.make("network:NetworkSecurityGroup", "nsg", securityRules=list(stated))

    def address(self, **inputs: Any) -> str:
        """A public IP address, by default a static one of the Standard SKU."""
        standard = {"sku": {"name": "Standard"}, "publicIPAllocationMethod": "Static"}
        return self.make("network:PublicIPAddress", **{**standard, **inputs})

    def nat(self, **inputs: Any) -> str:
        """A NAT gateway of the Standard SKU."""
        return self.make("network:NatGateway", sku={"name": "Standard"}, **inputs)

    def endpoint(self, subnet: str) -> str:
        """A private endpoint in a subnet."""
        return self.make("network:PrivateEndpoint", subnet={"id": subnet}, privateLinkServiceConnections=[])

    def balancer(self, **inputs: Any) -> str:
        """An internal load balancer in the nodes' subnet, with the front end `front`."""
        parts = {
            "frontendIPConfigurations": [{"name": "front", "subnet": {"id": self.nodes}}],
            "backendAddressPools": [{"name": "pool"}],
            "probes": [{"name": "probe"}],
        }
        return self.make("network:LoadBalancer", "balancer", **{**parts, **inputs})

    def balancer_at(self, address: str) -> str:
        """An internal load balancer whose front end has this private address."""
        return self.balancer(
            frontendIPConfigurations=[{"name": "front", "subnet": {"id": self.nodes}, "privateIPAddress": address}]
        )

    # Gateways and connections

    def vpn(self, sku: str = "VpnGw2AZ", name: str | None = None, **inputs: Any) -> str:
        """A VPN gateway, by default in the gateway's subnet with a public address of its own."""
        stated = {
            "gatewayType": "Vpn",
            "sku": {"name": sku},
            "ipConfigurations": inputs.get("ipConfigurations") or [configuration(self.gateways, self.address())],
            **inputs,
        }
        return self.make("network:VirtualNetworkGateway", name, **stated)

    def circuit(self, **inputs: Any) -> str:
        """An ExpressRoute gateway in the gateway's subnet."""
        stated = {"gatewayType": "ExpressRoute", "ipConfigurations": [configuration(self.gateways)], **inputs}
        return self.vpn("ErGw1AZ", **stated)

    @cached_property
    def gateway(self) -> str:
        """The bank's VPN gateway, with the ASN 64512."""
        return self.vpn(name="gateway", bgpSettings={"asn": 64_512})

    def local(self, address: str = "192.0.2.9", asn: int = 64_513) -> str:
        """A local network gateway at a public address."""
        return self.make("network:LocalNetworkGateway", gatewayIpAddress=address, bgpSettings={"asn": asn})

    def link(self, far: str, **inputs: Any) -> str:
        """A connection to a gateway of a virtual network."""
        return self._connection("Vnet2Vnet", virtualNetworkGateway2={"id": far}, **inputs)

    def ipsec(self, **inputs: Any) -> str:
        """An IPsec connection of the bank's gateway to `far`, by default to a new local network gateway."""
        far = inputs.pop("far", None) or self.local()
        return self._connection("IPsec", localNetworkGateway2={"id": far}, **inputs)

    def _connection(self, kind: str, **inputs: Any) -> str:
        near = {"connectionType": kind, "virtualNetworkGateway1": {"id": self.gateway}}
        return self.make("network:VirtualNetworkGatewayConnection", **{**near, **inputs})

    def end_of(self, far: "ExampleBank") -> str:
        """A local network gateway that represents another bank's gateway."""
        inputs, _ = far.read(far.gateway)
        (where,) = inputs["ipConfigurations"]
        _, address = far.read(where["publicIPAddress"]["id"])
        return self.local(address["ipAddress"], inputs["bgpSettings"]["asn"])

    def status(self, connection: str) -> str:
        """The connection's `connectionStatus`."""
        return str(self.read(connection)[1]["connectionStatus"])

    # The rest

    def role(self, principal: str, scope: str, role: str = READER) -> str:
        """A role assignment for a principal, by default `READER`."""
        definition = f"/subscriptions/{self.side.account.subscription_id}/providers/Microsoft.Authorization"
        return self.make(
            "authorization:RoleAssignment",
            principalId=principal,
            scope=scope,
            roleDefinitionId=f"{definition}/roleDefinitions/{role}",
        )

    def vault(self, name: str = "keys-of-bank-a", **properties: Any) -> str:
        """A key vault without public access."""
        stated = {"softDeleteRetentionInDays": 90, "publicNetworkAccess": "Disabled", **properties}
        return self.make("keyvault:Vault", name, properties=stated)

    @cached_property
    def keys(self) -> str:
        """The bank's key vault."""
        return self.vault()

    def secret(self, name: str, value: str, **inputs: Any) -> str:
        """A secret in the bank's key vault."""
        _ = self.keys
        return self.make("keyvault:Secret", name, vaultName="keys-of-bank-a", properties={"value": value}, **inputs)

    def key(
        self,
        vault: str = "keys-of-bank-a",
        name: str = "root",
        tags: Mapping[str, str] | None = None,
        **properties: Any,
    ) -> str:
        """An elliptic-curve signing key, by default in an HSM."""
        stated = {"kty": "EC-HSM", "curveName": "P-256", "keyOps": ["sign"], **properties}
        return self.make("keyvault:Key", name, vaultName=vault, properties=stated, tags=tags)

    def window(self, days_ahead: int) -> str:
        """A maintenance configuration that begins in `days_ahead` days at 01:00 UTC."""
        begins = datetime.now(UTC) + timedelta(days=days_ahead)
        return self.make("maintenance:MaintenanceConfiguration", startDateTime=f"{begins:%Y-%m-%d} 01:00")

    def premium(self, name: str = "keys-of-bank-a") -> str:
        """A key vault of the Premium SKU, which has keys in an HSM."""
        return self.vault(name, sku={"name": "premium"})

    def account(self, name: str = "ledgerblobs", kind: str = "StorageV2", sku: str = "Standard_ZRS") -> str:
        """A storage account."""
        return self.make("storage:StorageAccount", name, kind=kind, sku={"name": sku})

    def share(self, account: str, **inputs: Any) -> str:
        """A file share in a storage account."""
        return self.make("storage:FileShare", "ledger", accountName=account, **inputs)

    def zone(self, name: str = ZONE, *, linked: str | None = None) -> str:
        """A private DNS zone with a link to a virtual network, by default the bank's."""
        made = self.make("privatedns:PrivateZone", name)
        self.make(
            "privatedns:VirtualNetworkLink",
            "link",
            privateZoneName=name,
            virtualNetwork={"id": linked or self.network},
        )
        return made

    def server(self, subnet: str | None = None, zone: str | None = None, **inputs: Any) -> str:
        """A PostgreSQL server, by default in the database's subnet and with a new private DNS zone."""
        network = {
            "delegatedSubnetResourceId": subnet or self.database,
            "privateDnsZoneArmResourceId": zone or self.zone(),
        }
        return self.make("dbforpostgresql:Server", "ledger-a", **{"network": network, **inputs})

    @cached_property
    def database_server(self) -> str:
        """The bank's PostgreSQL 17 server with geo-redundant backups."""
        return self.server(backup={"geoRedundantBackup": "Enabled"}, version="17")

    def vms(
        self,
        *,
        health: bool = True,
        custom_data: str | None = None,
        user_data: str | None = None,
        profile: Mapping[str, Any] | None = None,
        **inputs: Any,
    ) -> str:
        """A scale set of two node VMs, by default with a health extension; `profile` is added to its VMs' profile."""
        model = scale_set(health, custom_data)
        model["virtualMachineProfile"] |= {"userData": user_data, **(profile or {})}
        return self.make("compute:VirtualMachineScaleSet", "vms", **{**model, **inputs})

    @cached_property
    def zonal(self) -> str:
        """A scale set of node VMs in the zones 1 and 2."""
        return self.vms(zones=["1", "2"])

    @cached_property
    def imaged(self) -> str:
        """A scale set of node VMs of an image of a gallery."""
        return self.vms(profile=image_of(f"{_IMAGES}/1.0.0"))

    def other_image(self, image: Mapping[str, Any]) -> None:
        """Give the scale set `imaged` another image, a part of its VMs' profile."""
        self.change(self.imaged, virtualMachineProfile={**scale_set()["virtualMachineProfile"], **image})


def scale_set(health: bool = True, custom_data: str | None = None, capacity: int = 2) -> dict[str, Any]:
    """The inputs of a scale set of node VMs; `custom_data` is in base64."""
    health_extensions = [{"name": "health", "type": "ApplicationHealthLinux"}] if health else []
    return {
        "sku": {"name": "Standard_D4s_v5", "capacity": capacity},
        "identity": {"userAssignedIdentities": []},
        "virtualMachineProfile": {
            "osProfile": {"customData": custom_data},
            "extensionProfile": {
                "extensions": [{"name": "monitor", "type": "AzureMonitorLinuxAgent"}, *health_extensions]
            },
        },
    }


TRUSTED = {"securityProfile": {"securityType": "TrustedLaunch"}}
"""Part of the profile of VMs with trusted launch."""
_IMAGES = "galleries/bank/images/ledger/versions"


def image_of(place: str) -> dict[str, Any]:
    """The part of a VM's profile with an image, by its path below Microsoft.Compute in another subscription."""
    group = f"/subscriptions/{UUID(int=9)}/resourceGroups/images"
    return {"storageProfile": {"imageReference": {"id": f"{group}/providers/Microsoft.Compute/{place}"}}}


def noticed(before: str) -> dict[str, Any]:
    """The part of a VM's profile with the notice of its deletion."""
    return {"scheduledEventsProfile": {"terminateNotificationProfile": {"enable": True, "notBeforeTimeout": before}}}


def asked(**settings: Any) -> dict[str, Any]:
    """The part of a VM's profile with a health extension of these settings."""
    asks = {"protocol": "http", "port": 8080, "requestPath": "/health", "intervalInSeconds": 5, **settings}
    return {"extensionProfile": {"extensions": [{"type": "ApplicationHealthLinux", "settings": asks}]}}


class ExampleWorld:
    """Three banks: `a` and `b` belong to one organisation, in one tenant; `c` belongs to another."""

    def __init__(self, path: Path | None = None, **options: Any) -> None:
        self.azure = OfflineAzure(path, **options)
        self.a = ExampleBank(self.azure, "bank-a", "north", "10.1")
        self.b = ExampleBank(self.azure, "bank-b", "north", "10.2")
        self.c = ExampleBank(self.azure, "bank-c", "south", "10.3")

    @property
    def state(self) -> dict[str, Any]:
        """The inputs of all resources, by id."""
        held: dict[str, Any] = json.loads(
            json.dumps({id_: each.inputs for id_, each in self.azure.resources.items()})
        )
        return held


Change = Callable[[ExampleWorld], object]


# Each rule ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A request that breaks a rule, and the nearest valid request."""

    rule: rules.Rule
    what: str
    """The refused request, as the table in lab/azure/README.md names it."""
    says: str
    """A regular expression that the error's message matches."""
    broken: Change
    """The refused request."""
    legal: Change
    """The valid request."""
    given: Change = lambda _: None
    """Creates the resources that both requests need."""


def tags(count: int) -> dict[str, str]:
    """`count` tags."""
    return {f"tag-{number}": "bank-a" for number in range(count)}


def without(policy: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    """An IPsec policy without these properties."""
    return {key: value for key, value in policy.items() if key not in keys}


def one_value(name: str, value: str) -> dict[str, Any]:
    """A dimension of a metric alert that includes a single value."""
    return {"name": name, "operator": "Include", "values": [value]}


def metric_alert(
    w: ExampleWorld, *, times: int = 1, several: bool = False, scopes: int = 1, **changed: Any
) -> dict[str, Any]:
    """The inputs of a metric alert on a tunnel's dropped packets."""
    kind = "Multiple" if several else "Single"
    condition = {
        "criterionType": "StaticThresholdCriterion",
        "metricNamespace": "Microsoft.Network/virtualNetworkGateways",
        "metricName": "TunnelEgressPacketDropCount",
        "timeAggregation": "Total",
    }
    of_condition = {key: changed.pop(key) for key in (*condition, "dimensions") if key in changed}
    return {
        "scopes": [w.a.group] * scopes,
        "targetResourceType": condition["metricNamespace"],
        "targetResourceRegion": "swedencentral",
        "criteria": {
            "odataType": f"Microsoft.Azure.Monitor.{kind}ResourceMultipleMetricCriteria",
            "allOf": [{**condition, **of_condition}] * times,
        },
        **changed,
    }


def query_alert(w: ExampleWorld, **changed: Any) -> dict[str, Any]:
    """The inputs of a query alert that runs every 15 minutes."""
    condition = {
        "query": "T | summarize Value = count()",
        "timeAggregation": "Maximum",
        "metricMeasureColumn": "Value",
        "failingPeriods": {"numberOfEvaluationPeriods": 1},
    }
    of_condition = {key: changed.pop(key) for key in (*condition, "dimensions") if key in changed}
    return {
        "severity": 2,
        "evaluationFrequency": "PT15M",
        "windowSize": "PT15M",
        "scopes": [w.a.group],
        "criteria": {"allOf": [{**condition, **of_condition}]},
        **changed,
    }


def sending(w: ExampleWorld, **changed: Any) -> dict[str, Any]:
    """The inputs of a diagnostic setting that sends a vault's logs to a workspace."""
    workspace = w.a.make("operationalinsights:Workspace", "logs")
    logs = [{"category": "AuditEvent", "enabled": True}]
    return {"resourceUri": w.a.keys, "workspaceId": workspace, "logs": logs, **changed}


def spending(w: ExampleWorld, *, day: int = 1, days: int = 0, mails: int = 1, **changed: Any) -> dict[str, Any]:
    """The inputs of a budget that begins on day `day` of the month in `days` days."""
    start = (datetime.now(UTC) + timedelta(days=days)).replace(day=day)
    mail = {"enabled": True, "threshold": 100, "contactEmails": ["a@bank.example"], **changed}
    return {
        "scope": w.a.group,
        "timePeriod": {"startDate": f"{start:%Y-%m-%d}T00:00:00Z"},
        "notifications": {f"n{number}": mail for number in range(mails)},
    }


def full(sku: str, connections: int) -> Case:
    """The case of one connection more than the SKU allows."""

    def given(w: ExampleWorld) -> None:
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


def named_twice(name: str, again: str, make: Callable[[ExampleBank, str], object]) -> Case:
    """The case of a global name that another subscription uses.

    Args:
        name: the name in the other subscription.
        again: the refused name.
        make: creates the resource with a name.
    """
    return Case(
        rules._name_is_free,
        f"{name} in two subscriptions",
        f"NameNotAvailable: {name}",
        given=lambda w: make(w.b, name),
        broken=lambda w: make(w.a, again),
        legal=lambda w: make(w.a, f"{name}2"),
    )


def reserved(asn: int, nearest: int) -> Case:
    """The case of an ASN that Azure reserves."""
    return Case(
        rules._vpn_gateway,
        f"ASN {asn}",
        f"the ASN {asn} is reserved",
        broken=lambda w: w.a.vpn(bgpSettings={"asn": asn}),
        legal=lambda w: w.a.vpn(bgpSettings={"asn": nearest}),
    )


def reserved_address(address: str, nearest: str) -> Case:
    """The case of a private address that Azure reserves in a subnet of the block."""
    return Case(
        rules._frontend,
        f"{address} of a /24",
        f"PrivateIPAddressInReservedRange: {address}",
        broken=lambda w: w.a.balancer_at(address),
        legal=lambda w: w.a.balancer_at(nearest),
    )


def absent(id_: str, name: str) -> str:
    """The id of a sibling that does not exist."""
    return f"{id_.rsplit('/', 1)[0]}/{name}"


def second_generation(bank: ExampleBank) -> str:
    """A gateway that can be resized."""
    return bank.vpn("VpnGw2AZ", vpnGatewayGeneration="Generation2", ipConfigurations=bank.on)


def second_zone(bank: ExampleBank, network: str) -> str:
    """A link of a network to another zone of the database's name, in group `other`."""
    place = {"resourceGroupName": "other", "privateZoneName": ZONE}
    if not any("/resourceGroups/other/" in id_ and id_.endswith(ZONE) for id_ in bank.side.resources):
        bank.make("privatedns:PrivateZone", ZONE, **place)
    return bank.make("privatedns:VirtualNetworkLink", "link", **place, virtualNetwork={"id": network})


def public_server(bank: ExampleBank, name: str, **inputs: Any) -> str:
    """A PostgreSQL server without a virtual network."""
    return bank.make("dbforpostgresql:Server", name, **inputs)


CASES = [
    # All types
    Case(
        rules._parent_exists,
        "no such resource group",
        "ResourceGroupNotFound: other",
        broken=lambda w: w.a.nat(resourceGroupName="other"),
        legal=lambda w: (w.a.make("resources:ResourceGroup", "other"), w.a.nat(resourceGroupName="other")),
    ),
    Case(
        rules._parent_exists,
        "another subscription's group",
        "ResourceGroupNotFound: theirs",
        given=lambda w: w.b.make("resources:ResourceGroup", "theirs"),
        broken=lambda w: w.a.nat(resourceGroupName="theirs"),
        legal=lambda w: w.b.nat(resourceGroupName="theirs"),
    ),
    Case(
        rules._parent_exists,
        "no parent",
        "ParentResourceNotFound: .*/virtualNetworks/other",
        broken=lambda w: w.a.subnet("nodes", "10.1.0.0/24", virtualNetworkName="other"),
        legal=lambda w: (w.a.net("other", "10.1.0.0/24"), w.a.subnet("n", "10.1.0.0/24", virtualNetworkName="other")),
    ),
    Case(
        rules._parent_exists,
        "no parent, two levels up",
        "ParentResourceNotFound: .*/storageAccounts/ledgerblobs",
        broken=lambda w: w.a.make("storage:BlobContainer", "network", accountName="ledgerblobs"),
        legal=lambda w: (w.a.account(), w.a.make("storage:BlobContainer", "network", accountName="ledgerblobs")),
    ),
    Case(
        rules._parent_exists,
        "a role at no scope",
        "ParentResourceNotFound: .*/virtualNetworks/other",
        broken=lambda w: w.a.role("somebody", absent(w.a.network, "other")),
        legal=lambda w: w.a.role("somebody", w.a.network),
        given=lambda w: w.a.network,
    ),
    Case(
        rules._parent_exists,
        "a role on no container",
        "ParentResourceNotFound: .*/containers/authority",
        given=lambda w: setattr(w.a, "blobs", w.a.account()),
        broken=lambda w: w.a.role("somebody", f"{w.a.blobs}/blobServices/default/containers/authority"),
        legal=lambda w: w.a.role(
            "somebody", w.a.make("storage:BlobContainer", "authority", accountName="ledgerblobs")
        ),
    ),
    Case(
        rules._references_exist,
        "no such security group",
        "ResourceNotFound: .*/networkSecurityGroups/other",
        given=lambda w: (w.a.network, w.a.nsg),
        broken=lambda w: w.a.subnet("n", "10.1.0.0/24", networkSecurityGroup={"id": absent(w.a.nsg, "other")}),
        legal=lambda w: w.a.subnet("n", "10.1.0.0/24", networkSecurityGroup={"id": w.a.nsg}),
    ),
    Case(
        rules._references_exist,
        "a part of a missing resource",
        "ResourceNotFound: .*/natGateways/other/parts/one",
        given=lambda w: setattr(w.a, "way_out", w.a.nat()),
        broken=lambda w: w.a.nat(of=[absent(w.a.way_out, "other/parts/one")]),
        legal=lambda w: w.a.nat(of=[f"{w.a.way_out}/parts/one"]),
    ),
    Case(
        rules._references_exist,
        "another account's resource, deleted",
        "ResourceNotFound: ",
        given=lambda w: w.b.nsg,
        broken=lambda w: w.a.nat(of=absent(w.b.nsg, "other")),
        legal=lambda w: w.a.nat(of=w.b.nsg.replace(w.b.side.account.subscription_id, "an-account-that-is-not-here")),
    ),
    Case(
        rules._references_exist,
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
        "a subnet's range removed",
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
        "InvalidCIDRNotation: fd00::/64 is not an IPv4 network",
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
        "moved while in use",
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
    Case(
        rules._rule_networks,
        "networks of a rule that overlap",
        "OverlappingSubnetsNotPermittedInSecurityRule: applications has 10.50.0.0/16 and 10.50.7.0/24",
        broken=lambda w: w.a.security_group(
            {
                **security_rule("applications", 100),
                "sourceAddressPrefixes": ["10.50.7.0/24", "10.60.0.0/16", "10.50.0.0/16"],
            }
        ),
        legal=lambda w: w.a.security_group(
            {**security_rule("one", 100), "sourceAddressPrefixes": ["10.50.0.0/16", "10.51.0.0/16"]},
            {**security_rule("other", 101), "sourceAddressPrefixes": ["10.50.7.0/24"]},
        ),
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
        rules._public_addresses,
        "an ExpressRoute gateway with a public address",
        "one: an ExpressRoute gateway takes no public address",
        given=lambda w: setattr(w.a, "on", [configuration(w.a.gateways, w.a.address())]),
        broken=lambda w: w.a.circuit(ipConfigurations=w.a.on),
        legal=lambda w: (w.a.circuit(), w.a.vpn(ipConfigurations=w.a.on)),
    ),
    Case(
        rules._public_addresses,
        "a VPN gateway without one",
        "PublicIpForGatewayIsRequired: one has no public address",
        given=lambda w: setattr(w.a, "ip", w.a.address()),
        broken=lambda w: w.a.vpn(ipConfigurations=[configuration(w.a.gateways)]),
        legal=lambda w: w.a.vpn(ipConfigurations=[configuration(w.a.gateways, w.a.ip)]),
    ),
    Case(
        rules._gateway,
        "a second gateway of its type",
        "the network has a Vpn gateway already: .*/gateway",
        given=lambda w: (w.a.gateway, setattr(w.a, "on", [configuration(w.a.gateways, w.a.address())])),
        broken=lambda w: w.a.vpn(ipConfigurations=w.a.on),
        legal=lambda w: (
            w.a.circuit(),
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
            w.a.circuit(),
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
    *(
        Case(
            rules._local_gateway,
            f"a remote end of ASN {asn}",
            f"the ASN {asn} is reserved",
            broken=lambda w, asn=asn: w.a.local(asn=asn),
            legal=lambda w, nearest=nearest: w.a.local(asn=nearest),
        )
        for asn, nearest in ((65515, 65514), (65520, 65521), (65551, 65552))
    ),
    Case(
        rules._coexistence,
        "Basic beside ExpressRoute",
        "a VPN gateway of the SKU Basic can't lie beside an ExpressRoute gateway",
        given=lambda w: w.a.circuit(),
        broken=lambda w: w.a.vpn("Basic"),
        legal=lambda w: w.a.vpn("VpnGw1AZ"),
    ),
    # Connections
    *(
        Case(
            rules._ends,
            f"{kind} without its remote end",
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
    *(
        Case(
            rules._ends,
            f"a remote gateway with {what}",
            "LinkedInvalidPropertyId: .* is not a resource id of a virtual network gateway",
            given=lambda w: (w.a.gateway, w.b.gateway),
            broken=lambda w, kind=kind, wrong=wrong: w.a.link(
                re.sub(f"/{kind}/[^/]+", f"/{kind}/{wrong}", elsewhere(w.b.gateway))
            ),
            legal=lambda w: w.a.link(elsewhere(w.b.gateway)),
        )
        for what, kind, wrong in (
            ("no subscription", "subscriptions", "-" * 36),
            ("no group", "resourceGroups", ".."),
            ("a group of 91 characters", "resourceGroups", "x" * 91),
            ("a name of 81 characters", "virtualNetworkGateways", "x" * 81),
        )
    ),
    Case(
        rules._far_gateway,
        "no role on the remote gateway",
        "LinkedAuthorizationFailed: .* may not read .*/gateway",
        given=lambda w: (w.a.gateway, w.c.gateway),
        broken=lambda w: w.a.link(w.c.gateway),
        legal=lambda w: (grant(w, w.c.gateway), w.a.link(w.c.gateway)),
    ),
    Case(
        rules._far_gateway,
        "another role on the remote gateway",
        "LinkedAuthorizationFailed",
        given=lambda w: (w.a.gateway, grant(w, w.c.gateway, VM_CONTRIBUTOR)),
        broken=lambda w: w.a.link(w.c.gateway),
        legal=lambda w: (grant(w, w.c.group), w.a.link(w.c.gateway)),
    ),
    Case(
        rules._far_gateway,
        "a role on something else",
        "LinkedAuthorizationFailed",
        given=lambda w: (w.a.gateway, w.b.gateway, w.c.gateway, grant(w, w.c.network)),
        broken=lambda w: w.a.link(w.c.gateway),
        legal=lambda w: w.a.link(w.b.gateway),
    ),
    Case(
        rules._far_gateway,
        "somebody else's role",
        "LinkedAuthorizationFailed",
        given=lambda w: (w.a.gateway, w.c.gateway, w.c.role("somebody", w.c.gateway)),
        broken=lambda w: w.a.link(w.c.gateway),
        legal=lambda w: w.a.link(elsewhere(w.c.gateway)),
    ),
    *(
        Case(
            rules._far_gateway,
            f"a remote gateway of the kind {kind}",
            f"is a gateway of the kind {kind}; wanted Vpn RouteBased",
            given=lambda w, make=make: (w.a.gateway, setattr(w.b, "far", make(w.b))),
            broken=lambda w: w.a.link(w.b.far),
            legal=lambda w: w.a.link(w.c.gateway) if grant(w, w.c.gateway) else None,
        )
        for kind, make in (
            ("Vpn PolicyBased", lambda bank: bank.vpn(vpnType="PolicyBased")),
            ("ExpressRoute RouteBased", lambda bank: bank.circuit()),
        )
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
    # Roles, vaults and globally unique names
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
    named_twice("ledgerblobs", "ledgerblobs", ExampleBank.account),
    named_twice("keys-of-bank-b", "Keys-Of-Bank-B", ExampleBank.vault),
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
        "another retention",
        "softDeleteRetentionInDays is 90 and can't be changed",
        given=lambda w: w.a.keys,
        broken=lambda w: w.a.change(w.a.keys, properties={"softDeleteRetentionInDays": 30}),
        legal=lambda w: w.a.change(
            w.a.keys, properties={"softDeleteRetentionInDays": 90, "publicNetworkAccess": "Enabled"}
        ),
    ),
    Case(
        rules._vault_tags,
        "a secret of 16 tags",
        "16 tags; wanted 15 at most",
        broken=lambda w: w.a.secret("card", "{}", tags=tags(16)),
        legal=lambda w: w.a.secret("card", "{}", tags=tags(15)),
        given=lambda w: w.a.keys,
    ),
    Case(
        rules._secret_size,
        "a secret of more than 25 kB",
        "a secret of 25002 bytes; wanted 25000 at most",
        broken=lambda w: w.a.secret("card", "é" * 12_501),
        legal=lambda w: w.a.secret("card", "é" * 12_500),
        given=lambda w: w.a.keys,
    ),
    Case(
        rules._vault_tags,
        "a key of 16 tags",
        "16 tags; wanted 15 at most",
        broken=lambda w: w.a.key(tags=tags(16)),
        legal=lambda w: w.a.key(tags=tags(15)),
        given=lambda w: w.a.premium(),
    ),
    Case(
        rules._maintenance_window,
        "a window that began yesterday",
        "InvalidMaintenanceWindow: the window begins on .*; wanted today or later",
        broken=lambda w: w.a.window(-1),
        legal=lambda w: (w.a.window(0), w.a.change(w.a.window(1), tags={"bank": "a"})),
    ),
    Case(
        rules._remains,
        "a gateway of another generation",
        "vpnGatewayGeneration can't be changed",
        given=lambda w: (
            setattr(w.a, "on", [configuration(w.a.gateways, w.a.address())]),
            setattr(w.a, "gateway", second_generation(w.a)),
        ),
        broken=lambda w: w.a.change(w.a.gateway, vpnGatewayGeneration="Generation1"),
        legal=lambda w: w.a.change(w.a.gateway, sku={"name": "VpnGw3AZ", "tier": "VpnGw3AZ"}),
    ),
    Case(
        rules._remains,
        "a key's new tags",
        "tags can't be changed",
        given=lambda w: (w.a.premium(), setattr(w.a, "root", w.a.key())),
        broken=lambda w: w.a.change(w.a.root, tags={"bank": "a"}),
        legal=lambda w: w.a.key(name="other", tags={"bank": "a"}),
    ),
    Case(
        rules._remains,
        "another circuit of a connection",
        "peer can't be changed",
        given=lambda w: setattr(w.a, "half", w.a._connection("ExpressRoute", peer={"id": ends_of(w)["peer"]})),
        broken=lambda w: w.a.change(w.a.half, peer={"id": absent(ends_of(w)["peer"], "other")}),
        legal=lambda w: w.a.change(w.a.half, tags={"bank": "a"}),
    ),
    Case(
        rules._remains,
        "another service of an endpoint",
        "privateLinkServiceConnections can't be changed",
        given=lambda w: setattr(w.a, "access", w.a.endpoint(w.a.nodes)),
        broken=lambda w: w.a.change(w.a.access, privateLinkServiceConnections=[{"privateLinkServiceId": "other"}]),
        legal=lambda w: w.a.change(w.a.access, tags={"bank": "a"}),
    ),
    Case(
        rules._remains,
        "another role of an assignment",
        "roleDefinitionId can't be changed",
        given=lambda w: setattr(w.a, "assigned", w.a.role("somebody", w.a.network)),
        broken=lambda w: w.a.change(w.a.assigned, roleDefinitionId=VM_CONTRIBUTOR),
        legal=lambda w: w.a.change(w.a.assigned, description="reads the network"),
    ),
    # Servers
    Case(
        rules._zone_tags,
        "a zone's tag with a space",
        "it would drop the tags cost centre",
        broken=lambda w: w.a.make("privatedns:PrivateZone", ZONE, tags={"cost centre": "42"}),
        legal=lambda w: w.a.make("privatedns:PrivateZone", ZONE, tags={"cost-centre": "42"}),
    ),
    Case(
        rules._one_zone_of_a_name,
        "a second zone of a name at a network",
        f"network is linked to a zone {ZONE} already: overlapping namespaces",
        given=lambda w: (w.a.zone(), w.a.make("resources:ResourceGroup", "other"), w.a.net("spoke", "10.4.0.0/16")),
        broken=lambda w: second_zone(w.a, w.a.network),
        legal=lambda w: second_zone(w.a, absent(w.a.network, "spoke")),
    ),
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
        legal=lambda w: (
            w.a.server(zone=w.a.zone("ledger-b.postgres.database.azure.com")),
            public_server(w.a, "without-a-network"),
        ),
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
    Case(
        rules._server_storage,
        "a smaller disk",
        "a disk of 128 GB; it has 256 and can't shrink",
        given=lambda w: w.a.change(w.a.database_server, storage={"storageSizeGB": 256}),
        broken=lambda w: w.a.change(w.a.database_server, storage={"storageSizeGB": 128}),
        legal=lambda w: w.a.change(w.a.database_server, storage={"storageSizeGB": 512}),
    ),
    Case(
        rules._server_standby,
        "a standby moved to the server's zone",
        "the standby is ZoneRedundant; wanted Disabled before SameZone",
        given=lambda w: w.a.change(w.a.database_server, highAvailability={"mode": "ZoneRedundant"}),
        broken=lambda w: w.a.change(w.a.database_server, highAvailability={"mode": "SameZone"}),
        legal=lambda w: (
            w.a.change(w.a.database_server, highAvailability={"mode": "Disabled"}),
            w.a.change(w.a.database_server, highAvailability={"mode": "SameZone"}),
        ),
    ),
    Case(
        rules._server_version,
        "an older PostgreSQL",
        "it runs PostgreSQL 17, and can't go back to 15",
        given=lambda w: w.a.database_server,
        broken=lambda w: w.a.change(w.a.database_server, version="15"),
        legal=lambda w: w.a.change(w.a.database_server, version="18"),
    ),
    Case(
        rules._server_region,
        "VMs of a generation that the region lacks",
        "eastus2 has no Standard_D4ds_v5",
        broken=lambda w: public_server(w.a, "ledger", location="eastus2", sku={"name": "Standard_D4ds_v5"}),
        legal=lambda w: public_server(w.a, "ledger", location="eastus2", sku={"name": "Standard_D4ds_v4"}),
    ),
    Case(
        rules._server_region,
        "a new zone-redundant standby where none is offered",
        "westeurope takes no new zone-redundant server",
        broken=lambda w: public_server(
            w.a, "ledger", location="westeurope", highAvailability={"mode": "ZoneRedundant"}
        ),
        legal=lambda w: public_server(w.a, "ledger", location="westeurope", highAvailability={"mode": "SameZone"}),
    ),
    Case(
        rules._server_region,
        "backups in a paired region that is not offered",
        "westus3 has no geo-redundant backup",
        broken=lambda w: public_server(w.a, "ledger", location="westus3", backup={"geoRedundantBackup": "Enabled"}),
        legal=lambda w: public_server(w.a, "ledger", location="westus3", backup={"geoRedundantBackup": "Disabled"}),
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
        rules._zones_remain,
        "a zone removed",
        "zone 2 can't be taken from a scale set",
        given=lambda w: w.a.zonal,
        broken=lambda w: w.a.change(w.a.zonal, zones=["1", "3"]),
        legal=lambda w: w.a.change(w.a.zonal, zones=["1", "2", "3"]),
    ),
    Case(
        rules._rollback,
        "failed instances of a Flexible set rolled back",
        "rollbackFailedInstancesOnPolicyBreach is for Uniform scale sets",
        broken=lambda w: w.a.vms(
            orchestrationMode="Flexible",
            upgradePolicy={"rollingUpgradePolicy": {"rollbackFailedInstancesOnPolicyBreach": True}},
        ),
        legal=lambda w: w.a.vms(orchestrationMode="Flexible", upgradePolicy={"rollingUpgradePolicy": {}}),
    ),
    *(
        Case(
            rules._flexible,
            f"{what} of a Flexible set",
            f"a Flexible scale set can't have {what}",
            broken=lambda w, wrong=wrong: w.a.vms(orchestrationMode="Flexible", **wrong),
            legal=lambda w, wrong=wrong: w.a.vms(orchestrationMode="Uniform", **wrong),
        )
        for what, wrong in (
            ("a system-assigned identity", {"identity": {"type": "SystemAssigned", "userAssignedIdentities": []}}),
            (
                "automatic upgrades of its image",
                {"upgradePolicy": {"automaticOSUpgradePolicy": {"enableAutomaticOSUpgrade": True}}},
            ),
            ("health by a load balancer's probe", {"profile": {"networkProfile": {"healthProbe": {"id": "probe"}}}}),
            (
                "NAT pools",
                {
                    "profile": {
                        "networkProfile": {
                            "networkInterfaceConfigurations": [
                                {"ipConfigurations": [{"loadBalancerInboundNatPools": [{"id": "pool"}]}]}
                            ]
                        }
                    }
                },
            ),
        )
    ),
    Case(
        rules._trusted_launch,
        "a managed image",
        "trusted launch takes no managed image",
        broken=lambda w: w.a.vms(profile={**TRUSTED, **image_of("images/ledger")}),
        legal=lambda w: (
            w.a.vms(profile={**TRUSTED, **image_of(f"{_IMAGES}/1.0.0")}),
            w.c.vms(profile=image_of("images/ledger")),
        ),
    ),
    Case(
        rules._image_type,
        "an image of the marketplace in place of one of a gallery",
        "the image type for a virtual machine scale set may not be changed",
        given=lambda w: w.a.imaged,
        broken=lambda w: w.a.other_image({"storageProfile": {"imageReference": {"publisher": "Canonical"}}}),
        legal=lambda w: w.a.other_image(image_of(f"{_IMAGES}/1.0.1")),
    ),
    *(
        Case(
            rules._notice,
            f"a notice of {wrong}",
            f"notBeforeTimeout is {wrong}; wanted PT5M to PT15M",
            broken=lambda w, wrong=wrong: w.a.vms(profile=noticed(wrong)),
            legal=lambda w, right=right: w.a.vms(profile=noticed(right)),
        )
        for wrong, right in (("PT4M", "PT5M"), ("PT16M", "PT15M"))
    ),
    *(
        Case(
            rules._health_settings,
            what,
            says,
            broken=lambda w, wrong=wrong: w.a.vms(profile=asked(**wrong)),
            legal=lambda w, right=right: w.a.vms(profile=asked(**right)),
        )
        for what, says, wrong, right in (
            ("a probe every 4 s", "intervalInSeconds is 4; wanted 5 to 60", {"intervalInSeconds": 4}, {}),
            ("25 probes", "numberOfProbes is 25; wanted 1 to 24", {"numberOfProbes": 25}, {"numberOfProbes": 24}),
            (
                "a grace of more than four hours",
                "gracePeriod is 14401; wanted 0 to 14400",
                {"gracePeriod": 14_401},
                {"gracePeriod": 14_400},
            ),
            (
                "a path for TCP",
                "requestPath /health for tcp; wanted it for HTTP alone",
                {"protocol": "tcp"},
                {"protocol": "tcp", "requestPath": None},
            ),
            ("HTTP without a path", "requestPath None for http", {"requestPath": None}, {}),
        )
    ),
    # Storage
    Case(
        rules._share,
        "an NFS share beside blobs",
        "an NFS share in an account of the kind StorageV2; wanted FileStorage",
        given=lambda w: (w.a.account("one"), w.a.account("two", "FileStorage", "Premium_ZRS")),
        broken=lambda w: w.a.share("one", enabledProtocols="NFS"),
        legal=lambda w: (w.a.share("one", enabledProtocols="SMB"), w.a.share("two", enabledProtocols="NFS")),
    ),
    *(
        Case(
            rules._share,
            f"a share of {wrong} GiB on SSDs",
            f"shareQuota is {wrong}; wanted 100 to 102400",
            given=lambda w: (w.a.account("one"), w.a.account("two", "FileStorage", "Premium_LRS")),
            broken=lambda w, wrong=wrong: w.a.share("two", shareQuota=wrong),
            legal=lambda w, wrong=wrong, right=right: (
                w.a.share("two", shareQuota=right),
                w.a.share("one", shareQuota=wrong),
            ),
        )
        for wrong, right in ((99, 100), (102_401, 102_400))
    ),
    Case(
        rules._copies_remain,
        "copies moved into zones",
        "SKU is Standard_GRS, and Standard_GZRS wants a conversion",
        given=lambda w: setattr(w.a, "blobs", w.a.account(sku="Standard_GRS")),
        broken=lambda w: w.a.change(w.a.blobs, sku={"name": "Standard_GZRS"}),
        legal=lambda w: w.a.change(w.a.blobs, sku={"name": "Standard_LRS"}),
    ),
    Case(
        rules._redundancy,
        "files on SSDs with copies elsewhere",
        "an account of the kind FileStorage with the SKU Standard_GZRS; wanted Premium_LRS or Premium_ZRS",
        broken=lambda w: w.a.account("one", "FileStorage", "Standard_GZRS"),
        legal=lambda w: (
            w.a.account("one", "FileStorage", "Premium_ZRS"),
            w.a.account("two", "StorageV2", "Standard_GZRS"),
        ),
    ),
    Case(
        rules._association,
        "a data collection rule at a Flexible set",
        "a Flexible scale set can't be associated with a data collection rule; wanted each of its VMs",
        given=lambda w: setattr(w.a, "flexible", w.a.vms(orchestrationMode="Flexible")),
        broken=lambda w: w.a.make("monitor:DataCollectionRuleAssociation", "rule", resourceUri=w.a.flexible),
        legal=lambda w: w.a.make("monitor:DataCollectionRuleAssociation", "rule", resourceUri=f"{w.a.nodes}/vm"),
    ),
    # Monitoring
    *(
        Case(
            rules._diagnostic_setting,
            what,
            says,
            broken=lambda w, wrong=wrong: w.a.make("monitor:DiagnosticSetting", "logs", **sending(w, **wrong)),
            legal=lambda w: w.a.make("monitor:DiagnosticSetting", "logs", **sending(w)),
        )
        for what, says, wrong in (
            (
                "logs of another type",
                "Microsoft.KeyVault/vaults has no logs StorageDelete; wanted AuditEvent, ",
                {"logs": [{"category": "StorageDelete", "enabled": True}]},
            ),
            ("nothing to send", "neither logs nor metrics are sent", {"logs": []}),
            ("no place to send to", "there is no destination", {"workspaceId": None}),
        )
    ),
    *(
        Case(
            rules._metric_alert,
            what,
            says,
            broken=lambda w, wrong=wrong: w.a.make("monitor:MetricAlert", **metric_alert(w, **wrong)),
            legal=lambda w, right=right: w.a.make("monitor:MetricAlert", **metric_alert(w, **right)),
        )
        for what, says, wrong, right in (
            ("severity 5", "severity is 5; wanted one of 0, 1, 2, 3, 4", {"severity": 5}, {"severity": 4}),
            (
                "a metric that there is not",
                "Microsoft.Network/virtualNetworkGateways has no metric TunnelDropCount",
                {"metricName": "TunnelDropCount"},
                {},
            ),
            (
                "another metric's dimension",
                "TunnelEgressPacketDropCount has no dimension Peer",
                {"dimensions": [one_value("Peer", "*")]},
                {"dimensions": [one_value("RemoteIP", "*")]},
            ),
            (
                "an average of counts",
                "TunnelEgressPacketDropCount has no Average; wanted Total",
                {"timeAggregation": "Average"},
                {"timeAggregation": "Total"},
            ),
            (
                "a window without a value",
                "TunnelEgressPacketDropCount comes each PT5M is longer than windowSize PT1M",
                {"windowSize": "PT1M", "evaluationFrequency": "PT1M"},
                {"windowSize": "PT5M", "evaluationFrequency": "PT1M"},
            ),
            (
                "a frequency that a window does not hold",
                "evaluationFrequency PT15M is longer than windowSize PT5M",
                {"evaluationFrequency": "PT15M"},
                {"evaluationFrequency": "PT5M"},
            ),
            (
                "each ten minutes",
                "evaluationFrequency is PT10M; wanted one of PT1M, PT5M",
                {"evaluationFrequency": "PT10M", "windowSize": "PT1H"},
                {"evaluationFrequency": "PT15M", "windowSize": "PT1H"},
            ),
            (
                "several values in one of two conditions",
                "several values of a dimension, in one of several conditions",
                {"dimensions": [one_value("RemoteIP", "*")], "times": 2},
                {"dimensions": [one_value("RemoteIP", "198.51.100.1")], "times": 2},
            ),
            (
                "a learned threshold beside another condition",
                "a learned threshold beside another condition",
                {"criterionType": "DynamicThresholdCriterion", "several": True, "times": 2},
                {"criterionType": "DynamicThresholdCriterion", "several": True},
            ),
            (
                "a learned threshold in criteria of one resource",
                "a learned threshold wants criteria of several resources",
                {"criterionType": "DynamicThresholdCriterion"},
                {"criterionType": "StaticThresholdCriterion"},
            ),
            (
                "several gateways",
                "one rule can't watch several of Microsoft.Network/virtualNetworkGateways",
                {"several": True, "scopes": 2},
                {"several": True, "scopes": 1},
            ),
        )
    ),
    *(
        Case(
            rules._query_alert,
            what,
            says,
            broken=lambda w, wrong=wrong: w.a.make("monitor:ScheduledQueryRule", **query_alert(w, **wrong)),
            legal=lambda w, right=right: w.a.make("monitor:ScheduledQueryRule", **query_alert(w, **right)),
        )
        for what, says, wrong, right in (
            ("severity -1", "severity is -1; wanted one of 0, 1, 2, 3, 4", {"severity": -1}, {"severity": 0}),
            (
                "an hour's query of a quarter",
                "evaluationFrequency PT1H is longer than windowSize PT15M",
                {"evaluationFrequency": "PT1H"},
                {"evaluationFrequency": "PT15M"},
            ),
            (
                "more than two days",
                "overrideQueryTimeRange is P3D; wanted one of PT1M",
                {"overrideQueryTimeRange": "P3D"},
                {"overrideQueryTimeRange": "P2D"},
            ),
            (
                "a range that is less than the window",
                "windowSize PT15M is longer than overrideQueryTimeRange PT5M",
                {"overrideQueryTimeRange": "PT5M"},
                {"overrideQueryTimeRange": "PT15M"},
            ),
            (
                "seven dimensions",
                "more than six dimensions",
                {"dimensions": [one_value(f"D{number}", "*") for number in range(7)]},
                {"dimensions": [one_value(f"D{number}", "*") for number in range(6)]},
            ),
            (
                "a count of a column",
                "metricMeasureColumn is for every aggregation but Count",
                {"timeAggregation": "Count"},
                {"timeAggregation": "Count", "metricMeasureColumn": None},
            ),
            (
                "a word that alerts keep",
                "a query of an alert can't have AggregatedValue",
                {"query": "T | summarize AggregatedValue = count()"},
                {"query": "T | summarize Value = count()"},
            ),
            (
                "a span that is not a literal",
                r"ago\(Span\) in a query of an alert; wanted a literal such as ago\(5m\)",
                {"query": "let Span = 5m; T | where TimeGenerated > ago(Span) | summarize Value = count()"},
                {"query": "T | where TimeGenerated > ago(5m) | summarize Value = count()"},
            ),
            (
                "a union every minute",
                "union in a query that runs every minute",
                {"query": "T | union U | summarize Value = count()", "evaluationFrequency": "PT1M"},
                {"query": "T | union U | summarize Value = count()", "evaluationFrequency": "PT5M"},
            ),
            (
                "two periods without times",
                "several periods of a query without times",
                {"failingPeriods": {"numberOfEvaluationPeriods": 2}},
                {
                    "failingPeriods": {"numberOfEvaluationPeriods": 2},
                    "query": "T | summarize Value = count() by bin(TimeGenerated, 5m)",
                },
            ),
        )
    ),
    *(
        Case(
            rules._budget,
            what,
            says,
            broken=lambda w, wrong=wrong: w.a.make("consumption:Budget", "ledger", **spending(w, **wrong)),
            legal=lambda w, right=right: w.a.make("consumption:Budget", "ledger", **spending(w, **right)),
        )
        for what, says, wrong, right in (
            ("a start on the second", "wanted the first of a month", {"day": 2}, {"day": 1}),
            ("a month that is over", "in a month that is over", {"days": -40}, {"days": 40}),
            ("a mail to nobody", "notification n0 reaches nobody", {"contactEmails": []}, {"contactEmails": ["a@b"]}),
            (
                "a mail at 1001 %",
                "notification n0 is at 1001 %; wanted 0 to 1000",
                {"threshold": 1001},
                {"threshold": 1000},
            ),
            ("six mails", "6 notifications; wanted 5 at most", {"mails": 6}, {"mails": 5}),
        )
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
        reserved_address(*each)
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
"""At least one case of each rule."""


def ends_of(w: ExampleWorld) -> dict[str, str]:
    """An id for each property that a connection may name as its far end."""
    circuit = (
        "/subscriptions/the-carrier/resourceGroups/circuits/providers/Microsoft.Network/expressRouteCircuits/metro"
    )
    return {"virtualNetworkGateway2": w.b.gateway, "localNetworkGateway2": w.a.local(), "peer": circuit}


def elsewhere(gateway: str) -> str:
    """The id of a gateway in a subscription outside of the offline Azure."""
    return re.sub("/subscriptions/[^/]+", f"/subscriptions/{UUID(int=9)}", gateway)


def grant(w: ExampleWorld, scope: str, role: str = READER) -> str:
    """Bank C grants bank A's deployer a role."""
    return w.c.role(w.a.side.account.deployer_id, scope, role)
