"""What Azure refuses, as data and small functions, each with its source.

Sources: RN learn.microsoft.com/azure/azure-resource-manager/management/resource-name-rules; VF
learn.microsoft.com/azure/vpn-gateway/vpn-gateway-vpn-faq; VS learn.microsoft.com/azure/vpn-gateway/
vpn-gateway-about-vpn-gateway-settings; KV learn.microsoft.com/azure/key-vault/general/soft-delete-overview; PG
learn.microsoft.com/azure/postgresql/flexible-server/concepts-networking-private; CD
learn.microsoft.com/azure/virtual-machines/custom-data; LB learn.microsoft.com/azure/load-balancer/
load-balancer-multivip-overview; AN issues of github.com/pulumi/pulumi-azure-native.
"""

import base64
import binascii
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, ip_network
from itertools import pairwise
from typing import Any

from offline import arm

UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
"""Pulumi's stand-in for a value that a preview can't know; no rule judges it."""


class AzureError(Exception):
    """Azure would refuse this: the message names the resource and the rule."""


@dataclass
class Resource:
    """One resource as Azure holds it."""

    id: str
    token: str
    subscription_id: str
    inputs: dict[str, Any]
    extra: dict[str, Any] = field(default_factory=dict)
    """What Azure knows besides the inputs: the models of a scale set's VMs."""

    @property
    def short(self) -> str:
        """The type without its package."""
        return arm.short_token(self.token)


@dataclass(frozen=True)
class Situation:
    """A create or an update in its surroundings."""

    resources: Mapping[str, Resource]
    deployers: Mapping[str, str]
    soft_deleted: Mapping[str, str]
    subscription_id: str
    resource_id: str
    token: str
    """The type without its package."""
    inputs: Mapping[str, Any]

    def others(self, token: str) -> Iterator[Resource]:
        """The other resources of a type, in all subscriptions."""
        return (each for each in self.resources.values() if each.short == token and each.id != self.resource_id)


# RN: characters and lengths of names.
_NAMES: dict[str, tuple[str, str]] = {
    "storage:StorageAccount": (r"[a-z0-9]{3,24}", "3 to 24 lower-case letters and digits"),
    "keyvault:Vault": (r"[A-Za-z](?!.*--)[A-Za-z0-9-]{1,22}[A-Za-z0-9]", "3 to 24 letters, digits and hyphens"),
    "keyvault:Secret": (r"[A-Za-z0-9-]{1,127}", "1 to 127 letters, digits and hyphens"),
    "dbforpostgresql:Server": (r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]", "3 to 63 lower-case letters, digits and hyphens"),
    "dbforpostgresql:Database": (r"[A-Za-z_][A-Za-z0-9_-]{0,62}", "1 to 63 letters, digits, hyphens, underscores"),
    "storage:BlobContainer": (r"[a-z0-9](?!.*--)[a-z0-9-]{1,61}[a-z0-9]", "3 to 63 lower-case letters and digits"),
    "storage:FileShare": (r"[a-z0-9](?!.*--)[a-z0-9-]{1,61}[a-z0-9]", "3 to 63 lower-case letters and digits"),
    "network:Subnet": (r"[A-Za-z0-9][\w.-]{0,78}\w?", "1 to 80 letters, digits, underscores, dots and hyphens"),
    "network:VirtualNetwork": (r"[A-Za-z0-9][\w.-]{0,62}\w", "2 to 64 letters, digits, dots and hyphens"),
    "compute:VirtualMachineScaleSet": (
        r"[A-Za-z0-9][A-Za-z0-9-]{0,62}[A-Za-z0-9]",
        "2 to 64 letters, digits, hyphens",
    ),
    "resources:ResourceGroup": (r"[\w().-]{0,89}[\w()-]", "1 to 90 letters, digits, dots, hyphens and brackets"),
    "operationalinsights:Workspace": (
        r"[A-Za-z0-9][A-Za-z0-9-]{2,61}[A-Za-z0-9]",
        "4 to 63 letters, digits, hyphens",
    ),
    "managedidentity:UserAssignedIdentity": (r"[A-Za-z0-9][\w-]{2,127}", "3 to 128 letters, digits and hyphens"),
}
_ANY_NAME = (r"[A-Za-z0-9][\w. ()-]{0,258}", "1 to 260 characters")

# What can't be changed in place: a new resource is made. Names, groups and regions never can.
_IMMUTABLE: dict[str, tuple[str, ...]] = {
    "authorization:RoleAssignment": ("principalId", "principalType", "roleDefinitionId", "scope"),
    "authorization:RoleDefinition": ("scope",),
    "compute:VirtualMachineScaleSet": ("orchestrationMode", "platformFaultDomainCount", "zones"),
    "dbforpostgresql:Administrator": ("principalName", "principalType", "tenantId"),
    "dbforpostgresql:Database": ("charset", "collation"),
    "dbforpostgresql:Server": ("administratorLogin", "createMode", "network"),
    "monitor:DataCollectionRuleAssociation": ("resourceUri",),
    "monitor:DiagnosticSetting": ("resourceUri",),
    "network:PrivateEndpoint": ("subnet", "privateLinkServiceConnections"),
    "network:PublicIPAddress": ("publicIPAllocationMethod", "publicIPAddressVersion", "sku", "zones"),
    "network:VirtualNetworkGateway": ("gatewayType", "vpnType", "vpnGatewayGeneration"),
    # VF: the protocol of a connection can't be changed.
    "network:VirtualNetworkGatewayConnection": ("connectionProtocol", "connectionType", "virtualNetworkGateway1"),
    "privatedns:VirtualNetworkLink": ("virtualNetwork",),
    "storage:FileShare": ("enabledProtocols",),
    "storage:StorageAccount": ("kind", "encryption"),
}
_PLACES = ("location", "resourceGroupName")
_RANDOM_INPUTS = ("keepers", "length", "lower", "numeric", "special", "upper")


def check_inputs(token: str, name: str, inputs: Mapping[str, Any]) -> None:
    """Refuse a name that the type does not allow.

    Raises:
        AzureError: with the name and what was wanted.
    """
    property_ = arm.name_property(token)
    physical = inputs.get(property_) if property_ else None
    if physical in (None, UNKNOWN) or not isinstance(physical, str):
        return
    pattern, wanted = _NAMES.get(arm.short_token(token), _ANY_NAME)
    if not re.fullmatch(pattern, physical):
        raise AzureError(f"{name}: the name {physical!r} is not allowed for {token}; wanted {wanted}")


def forces_replacement(token: str, key: str) -> bool:
    """Whether a change of this input replaces the resource."""
    if token.startswith("random:"):
        return key in _RANDOM_INPUTS
    short = arm.short_token(token)
    own_levels = {name for _, name in arm.ARM_TYPES[short].levels} if short in arm.ARM_TYPES else set()
    return key in _PLACES or key in own_levels or key == arm.name_property(token) or key in _IMMUTABLE.get(short, ())


def exclusive_parents(token: str, resource_id: str) -> tuple[str, ...]:
    """What the request holds while it runs. AN #699, #903: a network's subnets and a server's settings one by one."""
    if arm.short_token(token) in ("network:Subnet", "dbforpostgresql:Configuration"):
        return (resource_id.rsplit("/", 2)[0],)
    return ()


def refuse_broken(situation: Situation, name: str) -> None:
    """Refuse what the rules of the type, or those of all types, don't allow.

    Raises:
        AzureError: the first broken rule.
    """
    for rule in (_no_dangling_reference, *_RULES.get(situation.token, ())):
        problem = rule(situation)
        if problem:
            raise AzureError(f"{name}: {problem}")


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        if re.match(r"/subscriptions/[^/]+/resourceGroups/[^/]+", value):
            yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _references(each)
    elif isinstance(value, list):
        for each in value:
            yield from _references(each)


def _no_dangling_reference(situation: Situation) -> str | None:
    for reference in _references(situation.inputs):
        subscription = reference.split("/")[2]
        if subscription not in situation.deployers:
            continue
        # An id below a resource, such as a load balancer's pool, is that resource's business.
        steps = reference.split("/")
        if not any("/".join(steps[:length]) in situation.resources for length in range(5, len(steps) + 1)):
            return f"ResourceNotFound: {reference} is not there"
        if len(steps) == 9 and reference not in situation.resources:
            return f"ResourceNotFound: {reference} is not there"
    group = situation.inputs.get("resourceGroupName")
    group_id = f"/subscriptions/{situation.subscription_id}/resourceGroups/{group}"
    if group and situation.token != arm.RESOURCE_GROUP and group_id not in situation.resources:
        return f"ResourceGroupNotFound: {group} is not there"
    return None


def _network_of(situation: Situation) -> Resource | None:
    return situation.resources.get(situation.resource_id.split("/subnets/")[0])


def _subnet(situation: Situation) -> str | None:
    """VS: GatewaySubnet by name, /27 or larger and without a network security group; subnets inside and apart."""
    inputs = situation.inputs
    prefix, parent = ip_network(inputs["addressPrefix"]), _network_of(situation)
    if parent is None:
        return f"NotFound: virtual network {inputs['virtualNetworkName']} is not there"
    spaces = [ip_network(space) for space in parent.inputs["addressSpace"]["addressPrefixes"]]
    if not any(_inside(prefix, space) for space in spaces):
        return f"NetcfgSubnetRangeOutsideVnet: {prefix} is not in {', '.join(map(str, spaces))}"
    for other in situation.others("network:Subnet"):
        if other.id.startswith(f"{parent.id}/") and prefix.overlaps(ip_network(other.inputs["addressPrefix"])):
            return f"NetcfgSubnetRangesOverlap: {prefix} overlaps {other.inputs['subnetName']}"
    if inputs["subnetName"] == "GatewaySubnet":
        if prefix.prefixlen > 27:
            return f"GatewaySubnet is {prefix}; wanted /27 or larger"
        if inputs.get("networkSecurityGroup"):
            return "GatewaySubnet has a network security group, which Azure does not support"
    return None


def _inside(prefix: Any, space: Any) -> bool:
    return isinstance(prefix, IPv4Network) and isinstance(space, IPv4Network) and prefix.subnet_of(space)


def _gateway(situation: Situation) -> str | None:
    """VS: in GatewaySubnet, on Standard static addresses, one of a type; VF: active-active takes two of them."""
    inputs = situation.inputs
    configurations = inputs["ipConfigurations"]
    for configuration in configurations:
        subnet_id = configuration["subnet"]["id"]
        if subnet_id != UNKNOWN and not subnet_id.endswith("/subnets/GatewaySubnet"):
            return f"a gateway lies in GatewaySubnet; got {subnet_id}"
        address = situation.resources.get(configuration["publicIPAddress"]["id"])
        if address and (
            address.inputs["sku"]["name"] != "Standard" or address.inputs["publicIPAllocationMethod"] != "Static"
        ):
            return "a zone-redundant gateway wants Standard, static public addresses"
    if inputs.get("activeActive") and len(configurations) != 2:
        return f"active-active with {len(configurations)} addresses; wanted 2"
    subnet = configurations[0]["subnet"]["id"]
    for other in situation.others("network:VirtualNetworkGateway"):
        same_place = other.inputs["ipConfigurations"][0]["subnet"]["id"] == subnet
        if same_place and other.inputs["gatewayType"] == inputs["gatewayType"]:
            return f"the network has a {inputs['gatewayType']} gateway already: {other.id}"
    return None


def _spaces_of_gateway(resources: Mapping[str, Resource], gateway_id: str) -> list[IPv4Network]:
    gateway = resources.get(gateway_id)
    if gateway is None:
        return []
    network_id = gateway.inputs["ipConfigurations"][0]["subnet"]["id"].split("/subnets/")[0]
    spaces = resources[network_id].inputs["addressSpace"]["addressPrefixes"]
    return [block for space in spaces if isinstance(block := ip_network(space), IPv4Network)]


_READING_ROLES = frozenset(
    {
        "acdd72a7-3385-48ef-bd42-f606fba81ae7",  # Reader
        "4d97b98b-1d4f-4787-a291-c67834d212e7",  # Network Contributor
        "b24988ac-6180-42a0-ab88-20f7382dd24c",  # Contributor
        "8e3af657-a8ff-443c-a75c-2fe8c4bcb635",  # Owner
    }
)


def _connection(situation: Situation) -> str | None:
    """VF: no link between overlapping networks. Rights on the far gateway: Azure/azure-cli issue 31003."""
    inputs = situation.inputs
    if inputs["connectionType"] != "Vnet2Vnet":
        return None
    near, far = inputs["virtualNetworkGateway1"]["id"], (inputs.get("virtualNetworkGateway2") or {}).get("id")
    if not far:
        return "a Vnet2Vnet connection names no second gateway"
    if UNKNOWN in (near, far):
        return None
    overlaps = [
        (one, other)
        for one in _spaces_of_gateway(situation.resources, near)
        for other in _spaces_of_gateway(situation.resources, far)
        if one.overlaps(other)
    ]
    if overlaps:
        return f"the networks overlap: {overlaps[0][0]} and {overlaps[0][1]}"
    deployer = situation.deployers[situation.subscription_id]
    far_deployer = situation.deployers.get(far.split("/")[2])
    # Of a subscription that is not here, nobody can tell.
    if far_deployer in (None, deployer):
        return None
    granted = any(
        role.inputs["principalId"] == deployer
        and far.startswith(role.inputs["scope"])
        and role.inputs["roleDefinitionId"].rsplit("/", 1)[-1] in _READING_ROLES
        for role in situation.others("authorization:RoleAssignment")
    )
    return None if granted else f"LinkedAuthorizationFailed: {deployer} may not read {far}"


def _role_assignment(situation: Situation) -> str | None:
    """RoleAssignmentExists: one assignment of a role to a principal at a scope."""
    keys = ("principalId", "roleDefinitionId", "scope")
    for other in situation.others("authorization:RoleAssignment"):
        if all(other.inputs[key] == situation.inputs[key] for key in keys):
            return "RoleAssignmentExists: the principal has this role at this scope already"
    return None


def _vault(situation: Situation) -> str | None:
    """KV: a deleted vault's name stays blocked; purge protection is true or left out (Azure/bicep#5223)."""
    if situation.inputs["properties"].get("enablePurgeProtection") is False:
        return "enablePurgeProtection is false; Azure takes true, or nothing"
    name = situation.inputs["vaultName"]
    if name in situation.soft_deleted:
        return f"VaultAlreadyExists: {name} is deleted but not purged; wanted another name"
    return None


def _server(situation: Situation) -> str | None:
    """PG: a delegated subnet, and a private zone with the service's suffix that is linked to the network."""
    network = situation.inputs["network"]
    subnet = situation.resources.get(network["delegatedSubnetResourceId"])
    if subnet:
        delegations = [each["serviceName"] for each in subnet.inputs.get("delegations") or []]
        if "Microsoft.DBforPostgreSQL/flexibleServers" not in delegations:
            return f"subnet {subnet.inputs['subnetName']} is not delegated to PostgreSQL"
    zone = network["privateDnsZoneArmResourceId"]
    if zone != UNKNOWN and not zone.endswith(".postgres.database.azure.com"):
        return f"the private zone {zone.rsplit('/', 1)[-1]} does not end in .postgres.database.azure.com"
    if zone != UNKNOWN and not any(
        each.id.startswith(f"{zone}/") for each in situation.others("privatedns:VirtualNetworkLink")
    ):
        return "the private zone is not linked to a network"
    return None


def _scale_set(situation: Situation) -> str | None:
    """CD: custom data is base64, 64 KB at most."""
    custom_data = situation.inputs["virtualMachineProfile"]["osProfile"].get("customData")
    if not custom_data or custom_data == UNKNOWN:
        return None
    try:
        size = len(base64.b64decode(custom_data, validate=True))
    except binascii.Error:
        return "customData is not base64"
    return f"customData has {size} bytes; wanted 65536 at most" if size > 65_536 else None


def _load_balancer(situation: Situation) -> str | None:
    """LB: rules name what is there, and no two share a port on either side without floating IP."""
    inputs = situation.inputs
    parts = {
        f"$self/{collection}/{item['name']}"
        for collection in ("frontendIPConfigurations", "backendAddressPools", "probes")
        for item in inputs.get(collection) or []
    }
    for rule in inputs.get("loadBalancingRules") or []:
        named = [rule["frontendIPConfiguration"], rule["probe"], *rule["backendAddressPools"]]
        if missing := [each["id"] for each in named if each["id"] not in parts]:
            return f"rule {rule['name']} names {missing[0]}, which is not there"
    for side in ("frontendPort", "backendPort"):
        ports = sorted(rule[side] for rule in inputs.get("loadBalancingRules") or [])
        if twice := [one for one, other in pairwise(ports) if one == other]:
            return f"two rules share the {side} {twice[0]}"
    return None


_RULES: dict[str, tuple[Callable[[Situation], str | None], ...]] = {
    "authorization:RoleAssignment": (_role_assignment,),
    "compute:VirtualMachineScaleSet": (_scale_set,),
    "dbforpostgresql:Server": (_server,),
    "keyvault:Vault": (_vault,),
    "network:LoadBalancer": (_load_balancer,),
    "network:Subnet": (_subnet,),
    "network:VirtualNetworkGateway": (_gateway,),
    "network:VirtualNetworkGatewayConnection": (_connection,),
}


def refuse_delete(resources: Mapping[str, Resource], name: str, resource: Resource) -> None:
    """Refuse a delete that Azure refuses.

    Raises:
        AzureError: something still needs the resource, or the delete goes through a closed data plane.
    """
    if resource.short == "keyvault:Secret":
        vault = resources[resource.id.split("/secrets/")[0]]
        # The provider deletes secrets through the vault's data plane, which ARM requests do not need.
        if vault.inputs["properties"].get("publicNetworkAccess") == "Disabled":
            raise AzureError(f"{name}: ForbiddenByConnection: the data plane of {vault.id} is closed to this machine")
    if resource.short == arm.RESOURCE_GROUP:
        return
    for other in resources.values():
        inside = other.id.startswith(f"{resource.id}/") or other.id == resource.id
        if (
            not inside
            and resource.short in _IN_USE
            and any(
                reference == resource.id or reference.startswith(f"{resource.id}/")
                for reference in _references(other.inputs)
            )
        ):
            raise AzureError(f"{name}: InUse: {other.id} still refers to it")


# VS: no gateway goes while a connection of either side points at it; the same for what carries something else.
_IN_USE = frozenset(
    {
        "network:LocalNetworkGateway",
        "network:NetworkSecurityGroup",
        "network:NatGateway",
        "network:PublicIPAddress",
        "network:Subnet",
        "network:VirtualNetwork",
        "network:VirtualNetworkGateway",
    }
)


def keep_what_azure_ignores(token: str, resource: Resource, kept: dict[str, Any]) -> None:
    """A PUT on a connection that is there leaves its shared key as it was."""
    if arm.short_token(token) == "network:VirtualNetworkGatewayConnection" and "sharedKey" in resource.inputs:
        kept["sharedKey"] = resource.inputs["sharedKey"]


def initial_extra(token: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The VMs of a new scale set, all of its model."""
    if arm.short_token(token) != "compute:VirtualMachineScaleSet":
        return {}
    return {"vmModels": [_model(inputs)] * int(inputs["sku"]["capacity"])}


def roll(token: str, resource: Resource, inputs: Mapping[str, Any]) -> None:
    """CD: custom data reaches a VM only when it is made anew, which a Rolling upgrade policy does."""
    if arm.short_token(token) != "compute:VirtualMachineScaleSet":
        return
    model, capacity = _model(inputs), int(inputs["sku"]["capacity"])
    rolling = inputs["upgradePolicy"]["mode"] == "Rolling"
    models = [model] * capacity if rolling else resource.extra["vmModels"][:capacity]
    resource.extra["vmModels"] = models + [model] * (capacity - len(models))


def _model(inputs: Mapping[str, Any]) -> str:
    return str((inputs.get("tags") or {}).get("nodeModel", ""))


def connection_status(
    resources: Mapping[str, Resource], connection: Resource, address_of: Callable[[str], str]
) -> str:
    """`Connected` where the other half is there with the same key and policy, else `Connecting`."""
    kind = connection.inputs["connectionType"]
    if kind == "ExpressRoute":
        return "Connected"
    others = [each for each in resources.values() if each.short == connection.short and each.id != connection.id]
    mirrors = _vnet_mirror if kind == "Vnet2Vnet" else _ipsec_mirror
    agreed = ("sharedKey", "ipsecPolicies", "connectionType", "connectionProtocol", "enableBgp")
    connected = any(
        all(other.inputs.get(key) == connection.inputs.get(key) for key in agreed)
        and mirrors(resources, connection, other, address_of)
        for other in others
    )
    return "Connected" if connected else "Connecting"


def _vnet_mirror(_: Mapping[str, Resource], one: Resource, other: Resource, __: Callable[[str], str]) -> bool:
    ends = [
        (each.inputs["virtualNetworkGateway1"]["id"], each.inputs["virtualNetworkGateway2"]["id"])
        for each in (one, other)
    ]
    return ends[0] == ends[1][::-1]


def _ipsec_mirror(
    resources: Mapping[str, Resource], one: Resource, other: Resource, address_of: Callable[[str], str]
) -> bool:
    return _reaches(resources, one, other, address_of) and _reaches(resources, other, one, address_of)


def _reaches(
    resources: Mapping[str, Resource], near: Resource, far: Resource, address_of: Callable[[str], str]
) -> bool:
    """Whether the local network gateway of `near` names an instance of the gateway of `far`, address and ASN."""
    named = resources[near.inputs["localNetworkGateway2"]["id"]].inputs
    gateway = resources[far.inputs["virtualNetworkGateway1"]["id"]].inputs
    addresses = {address_of(each["publicIPAddress"]["id"]) for each in gateway["ipConfigurations"]}
    return named["gatewayIpAddress"] in addresses and named["bgpSettings"]["asn"] == gateway["bgpSettings"]["asn"]
