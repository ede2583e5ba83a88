"""Azure's refusals, as data and small functions, each with its source as an abbreviation.

Sources, below learn.microsoft.com/azure:
    AL azure-monitor/alerts/alerts-create-log-alert-rule
    AM azure-monitor/alerts/resource-manager-alerts-metric
    AT azure-monitor/alerts/alerts-types
    BU cost-management-billing/costs/tutorial-acm-create-budgets
    CD virtual-machines/custom-data; its size: the reference of osProfile.customData
    CE azure-resource-manager/troubleshooting/common-deployment-errors
    DC azure-monitor/vm/data-collection
    EC expressroute/expressroute-howto-coexist-resource-manager
    EG expressroute/expressroute-howto-add-gateway-resource-manager
    DN azure-resource-manager/management/tag-resources#limitations
    FN storage/files/files-nfs-protocol
    FS storage/files/storage-files-scale-targets
    HA postgresql/high-availability/concepts-high-availability
    HX virtual-machine-scale-sets/virtual-machine-scale-sets-health-extension
    KK key-vault/keys/about-keys, and about-keys-details below it
    KT key-vault/general/about-keys-secrets-certificates
    KV key-vault/general/soft-delete-overview
    LB load-balancer/load-balancer-multivip-overview
    LR azure-monitor/reference/supported-logs/logs-index
    MC update-manager/manage-vms-programmatically
    MV postgresql/configure-maintain/concepts-major-version-upgrade
    MX azure-monitor/reference/supported-metrics/metrics-index
    NS virtual-network/network-security-groups-overview
    OM virtual-machine-scale-sets/virtual-machine-scale-sets-orchestration-modes
    PB postgresql/flexible-server/concepts-backup-restore
    PG postgresql/flexible-server/concepts-networking-private
    PR postgresql/overview#azure-regions, as read into stack/regions.json
    RC role-based-access-control/conditions-role-assignments-rest
    RE virtual-machine-scale-sets/virtual-machine-scale-sets-automatic-instance-repairs
    RM storage/common/redundancy-migration
    RN azure-resource-manager/management/resource-name-rules
    RO virtual-machine-scale-sets/virtual-machine-scale-sets-configure-rolling-upgrades
    SE key-vault/secrets/about-secrets
    SK vpn-gateway/about-gateway-skus
    TL virtual-machines/trusted-launch#unsupported-features
    TN virtual-machine-scale-sets/virtual-machine-scale-sets-terminate-notification
    UD virtual-machines/user-data
    UP virtual-machine-scale-sets/virtual-machine-scale-sets-upgrade-policy
    VF vpn-gateway/vpn-gateway-vpn-faq
    VN virtual-network/virtual-networks-faq
    VS vpn-gateway/vpn-gateway-about-vpn-gateway-settings
    ZO reliability/reliability-virtual-machine-scale-sets
Issues on GitHub: AD MicrosoftDocs/azure-aks-docs, AN pulumi/pulumi-azure-native, AZ Azure/azure-cli, BI Azure/bicep,
    BR Azure/bicep-registry-modules, CP kubernetes-sigs/cloud-provider-azure, LZ Azure/Azure-Landing-Zones,
    MD MicrosoftDocs/azure-docs, TF hashicorp/terraform-provider-azurerm
"""

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv4Network, ip_network
from itertools import pairwise
from typing import Any

from lab.azure import arm, watching
from stack.regions import REGIONS

UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
"""Pulumi's placeholder for a value that a preview can't know; no rule checks it."""


class AzureError(Exception):
    """Azure would refuse this request; the message names the resource and the rule."""


@dataclass
class Resource:
    """One resource as Azure stores it."""

    id: str
    token: str
    subscription_id: str
    inputs: dict[str, Any]
    extra: dict[str, Any] = field(default_factory=dict)
    """State besides the inputs: a scale set's list `vmModels`."""
    logical_name: str = ""
    """Name in the program."""

    @property
    def short(self) -> str:
        """The type without its package, such as `network:Subnet`."""
        return arm.short_token(self.token)


@dataclass(frozen=True)
class Situation:
    """A request to create or update a resource, and the state of Azure at that time."""

    resources: Mapping[str, Resource]
    deployers: Mapping[str, str]
    soft_deleted: Mapping[str, str]
    subscription_id: str
    resource_id: str
    token: str
    """The type without its package."""
    inputs: Mapping[str, Any]

    @property
    def before(self) -> Mapping[str, Any] | None:
        """The resource's present inputs if this is an update; None for a create."""
        resource = self.resources.get(self.resource_id)
        return resource.inputs if resource else None

    def others(self, token: str) -> Iterator[Resource]:
        """The other resources of a type (`short`), in all subscriptions."""
        return (each for each in self.resources.values() if each.short == token and each.id != self.resource_id)


# RN: characters and lengths of names.
_NETWORK_NAME = (
    r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,78}[A-Za-z0-9_])?",
    "1 to 80 letters, digits, underscores, dots, hyphens",
)
_GUID = (r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", "a GUID")
_NAMES: dict[str, tuple[str, str]] = {
    # learn.microsoft.com/rest/api/storagerp/management-policies/create-or-update: an account has one.
    "storage:ManagementPolicy": ("default", "default, the only one"),
    "storage:StorageAccount": (r"[a-z0-9]{3,24}", "3 to 24 lower-case letters and digits"),
    "keyvault:Vault": (
        r"[A-Za-z](?!.*--)[A-Za-z0-9-]{1,22}[A-Za-z0-9]",
        "3 to 24 letters, digits and single hyphens, a letter first",
    ),
    **dict.fromkeys(
        ("keyvault:Key", "keyvault:Secret"), (r"[A-Za-z0-9-]{1,127}", "1 to 127 letters, digits and hyphens")
    ),
    "dbforpostgresql:Server": (r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]", "3 to 63 lower-case letters, digits and hyphens"),
    "storage:BlobContainer": (
        r"[a-z0-9](?!.*--)[a-z0-9-]{1,61}[a-z0-9]",
        "3 to 63 lower-case letters, digits and single hyphens",
    ),
    "storage:FileShare": (
        r"[a-z0-9](?!.*--)[a-z0-9-]{1,61}[a-z0-9]",
        "3 to 63 lower-case letters, digits and single hyphens",
    ),
    **dict.fromkeys(
        (
            "network:LoadBalancer",
            "network:LocalNetworkGateway",
            "network:NatGateway",
            "network:NetworkSecurityGroup",
            "network:PublicIPAddress",
            "network:Subnet",
            "network:VirtualNetworkGateway",
            "network:VirtualNetworkGatewayConnection",
        ),
        _NETWORK_NAME,
    ),
    **dict.fromkeys(
        ("network:PrivateEndpoint", "network:VirtualNetwork"),
        (r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}[A-Za-z0-9_]", "2 to 64 letters, digits, underscores, dots and hyphens"),
    ),
    **dict.fromkeys(("authorization:RoleAssignment", "authorization:RoleDefinition"), _GUID),
    "compute:VirtualMachineScaleSet": (
        r"[A-Za-z0-9]([A-Za-z0-9-]{0,62}[A-Za-z0-9])?",
        "1 to 64 letters, digits, hyphens",
    ),
    "resources:ResourceGroup": (r"[\w().-]{0,89}[\w()-]", "1 to 90 letters, digits, dots, hyphens and brackets"),
    "operationalinsights:Workspace": (
        r"[A-Za-z0-9][A-Za-z0-9-]{2,61}[A-Za-z0-9]",
        "4 to 63 letters, digits, hyphens",
    ),
    "managedidentity:UserAssignedIdentity": (
        r"[A-Za-z0-9][A-Za-z0-9_-]{2,127}",
        "3 to 128 letters, digits, hyphens, underscores",
    ),
}
_GATEWAY_ID = (
    rf"(?i:/subscriptions/{_GUID[0]}/resourceGroups/){_NAMES['resources:ResourceGroup'][0]}"
    rf"(?i:/providers/Microsoft\.Network/virtualNetworkGateways/){_NETWORK_NAME[0]}"
)
_ANY_NAME = (r"[A-Za-z0-9][\w. ()-]{0,258}", "1 to 260 characters")

# Inputs whose change replaces the resource. So does a change of name, resource group or region.
_IMMUTABLE: dict[str, tuple[str, ...]] = {
    "authorization:RoleAssignment": ("principalId", "scope"),
    "authorization:RoleDefinition": ("scope",),
    "compute:VirtualMachineScaleSet": ("orchestrationMode", "platformFaultDomainCount"),
    "consumption:Budget": ("scope",),
    "dbforpostgresql:AdministratorsMicrosoftEntra": ("principalName", "principalType", "tenantId"),
    "dbforpostgresql:Server": ("administratorLogin", "createMode", "network"),
    "maintenance:ConfigurationAssignment": ("providerName", "resourceName", "resourceType"),
    "monitor:DataCollectionRuleAssociation": ("resourceUri",),
    "monitor:DiagnosticSetting": ("resourceUri",),
    "network:PrivateEndpoint": ("subnet",),
    "network:PublicIPAddress": ("publicIPAddressVersion", "sku"),
    "privatedns:VirtualNetworkLink": ("virtualNetwork",),
    "storage:StorageAccount": ("kind", "encryption"),
}
# Inputs that the provider sends as an update, and that Azure refuses to change.
_FIXED: dict[str, tuple[str, ...]] = {
    # learn.microsoft.com/rest/api/authorization/role-assignments: an assignment can't be updated.
    "authorization:RoleAssignment": ("principalType", "roleDefinitionId"),
    # BI #6113: KeyCreationParametersDidNotMatchExistingKey.
    "keyvault:Key": ("properties", "tags"),
    # BR #1513, #7285: CannotChangePrivateLinkConnectionOnPrivateEndpoint.
    "network:PrivateEndpoint": ("privateLinkServiceConnections",),
    "network:PublicIPAddress": ("publicIPAllocationMethod", "zones"),
    # SK: a SKU is resized within its generation.
    "network:VirtualNetworkGateway": ("gatewayType", "vpnType", "vpnGatewayGeneration"),
    # VF: the protocol of a connection can't be changed. AZ #9447: nor can its ends.
    "network:VirtualNetworkGatewayConnection": (
        "connectionProtocol",
        "connectionType",
        "peer",
        "virtualNetworkGateway1",
        "virtualNetworkGateway2",
    ),
    "storage:FileShare": ("enabledProtocols",),
}
_PLACES = ("location", "resourceGroupName")
_RANDOM_INPUTS = ("keepers", "length", "lower", "numeric", "special", "upper")


def check_inputs(token: str, name: str, inputs: Mapping[str, Any]) -> None:
    """Refuse a name that the type does not allow.

    Raises:
        AzureError: the message has the name and the allowed form.
    """
    property_ = arm.name_property(token)
    physical = inputs.get(property_) if property_ else None
    if physical in (None, UNKNOWN) or not isinstance(physical, str):
        return
    pattern, wanted = _NAMES.get(arm.short_token(token), _ANY_NAME)
    if not re.fullmatch(pattern, physical):
        raise AzureError(f"{name}: the name {physical!r} is not allowed for {token}; wanted {wanted}")


def forces_replacement(token: str, key: str) -> bool:
    """Whether changing this input replaces a resource of this type."""
    if token.startswith("random:"):
        return key in _RANDOM_INPUTS
    short = arm.short_token(token)
    own_levels = {name for _, name in arm.ARM_TYPES[short].levels} if short in arm.ARM_TYPES else set()
    return key in _PLACES or key in own_levels or key == arm.name_property(token) or key in _IMMUTABLE.get(short, ())


def exclusive_parents(token: str, resource_id: str) -> tuple[str, ...]:
    """Ids that a request locks while it runs: Azure changes a network's subnets, a server's settings, and a vault's
    keys and secrets one by one.

    AN #699, #903 for subnets; BR #4289, #4451 for a server's settings and administrators; AN #1013 for vaults.
    """
    one_by_one = (
        "network:Subnet",
        "dbforpostgresql:AdministratorsMicrosoftEntra",
        "dbforpostgresql:Configuration",
        "keyvault:Key",
        "keyvault:Secret",
    )
    return (resource_id.rsplit("/", 2)[0],) if arm.short_token(token) in one_by_one else ()


def refuse_broken(situation: Situation, name: str) -> None:
    """Refuse a request that breaks a rule of its type, or one of all types.

    Raises:
        AzureError: a rule is broken; the message is that of the first one.
    """
    for rule in (*_OF_ALL_TYPES, *_RULES.get(situation.token, ())):
        problem = rule(situation)
        if problem:
            raise AzureError(f"{name}: {problem}")


def _remains(situation: Situation) -> str | None:
    """CE: an input that can't be changed."""
    before = situation.before or {}
    changed = [
        each for each in _FIXED.get(situation.token, ()) if before and before.get(each) != situation.inputs.get(each)
    ]
    return f"{', '.join(changed)} can't be changed" if changed else None


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


# Types that the offline Azure implements; an id may continue below them, as that of a load balancer's pool does.
_KNOWN_TYPES = {each.full_name for each in arm.ARM_TYPES.values()} | {"Microsoft.Authorization/roleDefinitions"}
_MADE_WITH_THE_ACCOUNT = ("/blobServices/default", "/fileServices/default")


def _resource_named(id_: str) -> str | None:
    """The id of the innermost resource in an id, or of the group; None if its type is not implemented here."""
    group, *extensions = id_.split("/providers/")
    found: str | None = None if extensions else group
    path = group
    for extension in extensions:
        namespace, *steps = extension.split("/")
        type_name, path = namespace, f"{path}/providers/{namespace}"
        for segment, name in zip(steps[::2], steps[1::2], strict=False):
            type_name, path = f"{type_name}/{segment}", f"{path}/{segment}/{name}"
            if type_name in _KNOWN_TYPES and not path.endswith(_MADE_WITH_THE_ACCOUNT):
                found = path
    return found


def with_id(resources: Mapping[str, Resource], resource_id: str) -> Resource | None:
    """The resource with this id, in whatever case: Azure ignores it. None if it does not exist."""
    folded = resource_id.casefold()
    return resources.get(resource_id) or next(
        (each for id_, each in resources.items() if id_.casefold() == folded), None
    )


def _is_missing(situation: Situation, id_: str) -> bool:
    """Whether the named resource does not exist; False if its subscription or type is unknown here."""
    named = _resource_named(id_)
    if named is None or id_.split("/")[2] not in situation.deployers:
        return False
    return with_id(situation.resources, named) is None


def _parent_exists(situation: Situation) -> str | None:
    """CE: the resource group and the parent resource exist."""
    group = situation.inputs.get("resourceGroupName")
    group_id = f"/subscriptions/{situation.subscription_id}/resourceGroups/{group}"
    if group and situation.token != arm.RESOURCE_GROUP and group_id not in situation.resources:
        return f"ResourceGroupNotFound: {group} is not there"
    place, _, own = situation.resource_id.rpartition("/providers/")
    namespace, *levels = own.split("/")
    if place and len(levels) > 2:
        place = f"{place}/providers/{namespace}/{levels[0]}/{levels[1]}"
    if any(_references(place)) and _is_missing(situation, place):
        return f"ParentResourceNotFound: {place} is not there"
    return None


def _references_exist(situation: Situation) -> str | None:
    """CE: each resource that an input refers to exists."""
    missing = (each for each in _references(situation.inputs) if _is_missing(situation, each))
    return next((f"ResourceNotFound: {each} is not there" for each in missing), None)


def _delegated_subnet_is_alone(situation: Situation) -> str | None:
    """PG: a delegated subnet contains only resources of the service that it is delegated to."""
    for reference in _references(situation.inputs):
        subnet = situation.resources.get(reference)
        services = _delegations(subnet.inputs) if subnet and subnet.short == "network:Subnet" else []
        if services and situation.token not in _DELEGATES:
            return f"subnet {reference.rsplit('/', 1)[-1]} is delegated to {services[0]} and takes nothing else"
    return None


_DELEGATES = frozenset({"dbforpostgresql:Server"})


def _name_is_free(situation: Situation) -> str | None:
    """RN: a name that is part of a host name is globally unique, across all subscriptions."""
    property_ = arm.name_property(situation.token) or ""
    name = str(situation.inputs[property_]).lower()
    taken = [each.id for each in situation.others(situation.token) if each.inputs[property_].lower() == name]
    return f"NameNotAvailable: {name} is taken by {taken[0]}" if taken else None


def _block(text: str) -> IPv4Network:
    block = ip_network(text)
    if not isinstance(block, IPv4Network):
        raise ValueError(f"{text} is not an IPv4 network")
    return block


def _network_spaces(network: Resource) -> list[IPv4Network]:
    return [_block(space) for space in network.inputs["addressSpace"]["addressPrefixes"]]


def _virtual_network(situation: Situation) -> str | None:
    """VN: a network's address space contains the ranges of its subnets."""
    spaces = [_block(space) for space in situation.inputs["addressSpace"]["addressPrefixes"]]
    for subnet in situation.others("network:Subnet"):
        prefix = _block(subnet.inputs["addressPrefix"])
        if subnet.id.startswith(f"{situation.resource_id}/") and not any(map(prefix.subnet_of, spaces)):
            return f"NetcfgSubnetRangeOutsideVnet: subnet {subnet.inputs['subnetName']} keeps {prefix}"
    return None


def _subnet(situation: Situation) -> str | None:
    """VN: /29 or larger, inside its network, without overlap with other subnets, and not changed while in use."""
    inputs = situation.inputs
    try:
        prefix = _block(inputs["addressPrefix"])
    except ValueError as error:
        return f"InvalidCIDRNotation: {error}"
    network = situation.resources[situation.resource_id.split("/subnets/")[0]]
    spaces = _network_spaces(network)
    if not any(map(prefix.subnet_of, spaces)):
        return f"NetcfgSubnetRangeOutsideVnet: {prefix} is not in {', '.join(map(str, spaces))}"
    for other in situation.others("network:Subnet"):
        if other.id.startswith(f"{network.id}/") and prefix.overlaps(_block(other.inputs["addressPrefix"])):
            return f"NetcfgSubnetRangesOverlap: {prefix} overlaps {other.inputs['subnetName']}"
    if prefix.prefixlen > 29:
        return f"{prefix} is too small; wanted /29 or larger"
    if situation.before and situation.before["addressPrefix"] != inputs["addressPrefix"]:
        holder = _holder(situation.resources, [situation.resource_id])
        if holder:
            return f"InUsePrefixCannotBeDeleted: {situation.before['addressPrefix']} is in use by {holder.id}"
    return None


def _special_subnet(situation: Situation) -> str | None:
    """VS: GatewaySubnet by name, /27 or larger, without a security group. PG: /28 or larger for a server."""
    inputs = situation.inputs
    prefix = _block(inputs["addressPrefix"])
    if inputs["subnetName"] == "GatewaySubnet":
        if prefix.prefixlen > 27:
            return f"GatewaySubnet is {prefix}; wanted /27 or larger"
        if inputs.get("networkSecurityGroup"):
            return "GatewaySubnet has a network security group, which Azure does not support"
    if _POSTGRESQL in _delegations(inputs) and prefix.prefixlen > 28:
        return f"{prefix} is too small for PostgreSQL; wanted /28 or larger"
    return None


_POSTGRESQL = "Microsoft.DBforPostgreSQL/flexibleServers"


def _delegations(subnet: Mapping[str, Any]) -> list[str]:
    return [each["serviceName"] for each in subnet.get("delegations") or []]


def _security_group(situation: Situation) -> str | None:
    """NS: priorities from 100 to 4096, unique for each direction; names unique in the group."""
    taken: dict[tuple[str, int], str] = {}
    names: set[str] = set()
    for rule in situation.inputs.get("securityRules") or []:
        if rule["name"].lower() in names:
            return f"two security rules are named {rule['name']}; a name is there once, whatever the direction"
        names.add(rule["name"].lower())
        key = (rule["direction"], rule["priority"])
        if not 100 <= rule["priority"] <= 4096:
            return f"SecurityRuleInvalidPriority: {rule['name']} has {rule['priority']}; wanted 100 to 4096"
        if key in taken:
            return f"SecurityRuleConflict: {taken[key]} and {rule['name']} share the priority {rule['priority']}"
        taken[key] = rule["name"]
    return None


def _rule_networks(situation: Situation) -> str | None:
    """CP #6775: the networks of one side of a security rule do not overlap."""
    for rule in situation.inputs.get("securityRules") or []:
        for side in ("sourceAddressPrefixes", "destinationAddressPrefixes"):
            blocks = sorted(map(_block, rule.get(side) or []))
            # Sorted, whatever lies between two blocks that overlap overlaps the first of them too.
            for one, other in pairwise(blocks):
                if one.overlaps(other):
                    return f"OverlappingSubnetsNotPermittedInSecurityRule: {rule['name']} has {one} and {other}"
    return None


def _public_addresses(situation: Situation) -> str | None:
    """EG, LZ #2376: Azure assigns an ExpressRoute gateway's public address. TF #6548: a VPN gateway is given one."""
    assigned = situation.inputs["gatewayType"] == "ExpressRoute"
    for configuration in situation.inputs["ipConfigurations"]:
        if assigned and configuration.get("publicIPAddress"):
            return f"{configuration['name']}: an ExpressRoute gateway takes no public address: Azure assigns it"
        if not assigned and not configuration.get("publicIPAddress"):
            return f"PublicIpForGatewayIsRequired: {configuration['name']} has no public address"
    return None


def _gateway(situation: Situation) -> str | None:
    """VS: in GatewaySubnet, with Standard static addresses, one gateway of each type; VF: active-active needs two."""
    inputs = situation.inputs
    configurations = inputs["ipConfigurations"]
    for configuration in configurations:
        subnet_id = configuration["subnet"]["id"]
        if not subnet_id.endswith("/subnets/GatewaySubnet"):
            return f"a gateway lies in GatewaySubnet; got {subnet_id}"
        address = situation.resources.get((configuration.get("publicIPAddress") or {}).get("id", ""))
        if address and (
            address.inputs["sku"]["name"] != "Standard" or address.inputs["publicIPAllocationMethod"] != "Static"
        ):
            return f"{address.inputs['publicIpAddressName']}: a gateway wants Standard, static public addresses"
    if inputs.get("activeActive") and len({each["publicIPAddress"]["id"] for each in configurations}) != 2:
        return "active-active wants two public addresses, one for each instance"
    subnet = configurations[0]["subnet"]["id"]
    for other in situation.others("network:VirtualNetworkGateway"):
        same_place = other.inputs["ipConfigurations"][0]["subnet"]["id"] == subnet
        if same_place and other.inputs["gatewayType"] == inputs["gatewayType"]:
            return f"the network has a {inputs['gatewayType']} gateway already: {other.id}"
    return None


def _coexistence(situation: Situation) -> str | None:
    """EC: a VPN gateway of the SKU Basic can't share a network with an ExpressRoute gateway."""
    subnet = situation.inputs["ipConfigurations"][0]["subnet"]["id"]
    together = [
        situation.inputs,
        *(
            each.inputs
            for each in situation.others("network:VirtualNetworkGateway")
            if each.inputs["ipConfigurations"][0]["subnet"]["id"] == subnet
        ),
    ]
    if len(together) > 1 and "Basic" in [each["sku"]["name"] for each in together]:
        return "a VPN gateway of the SKU Basic can't lie beside an ExpressRoute gateway"
    return None


# SK: VPN SKUs that can still be created, with their generations and their maximum number of connections.
_FIRST, _SECOND = "Generation1", "Generation2"
_VPN_SKUS: dict[str, tuple[tuple[str, ...], int]] = {
    "Basic": ((_FIRST,), 10),
    "VpnGw1AZ": ((_FIRST,), 30),
    "VpnGw2AZ": ((_FIRST, _SECOND), 30),
    "VpnGw3AZ": ((_FIRST, _SECOND), 30),
    "VpnGw4AZ": ((_SECOND,), 100),
    "VpnGw5AZ": ((_SECOND,), 100),
}
_DEFAULT_ASN = 65_515
"""VF: the ASN of a gateway that was created without one."""
# VF: numbers that Azure or IANA reserves.
_RESERVED_ASNS = (
    *(range(asn, asn + 1) for asn in (8074, 8075, 12076, 23456)),
    range(64496, 64512),
    range(65517, 65521),
    range(65535, 65552),
)


def _vpn_gateway(situation: Situation) -> str | None:
    """SK: the SKU can be created, in this generation, with these features; VF: the ASN is not reserved."""
    inputs = situation.inputs
    if inputs["gatewayType"] != "Vpn":
        return None
    sku, generation = inputs["sku"]["name"], inputs.get("vpnGatewayGeneration")
    if sku not in _VPN_SKUS:
        return f"the SKU {sku} can't be created any more; wanted one of {', '.join(_VPN_SKUS)}"
    if generation and generation not in _VPN_SKUS[sku][0]:
        return f"{sku} is not made in {generation}; wanted {' or '.join(_VPN_SKUS[sku][0])}"
    if sku == "Basic" and (inputs.get("activeActive") or inputs.get("enableBgp")):
        return "the SKU Basic has no BGP and is not active-active"
    return _reserved_asn(inputs)


def _reserved_asn(inputs: Mapping[str, Any]) -> str | None:
    asn = (inputs.get("bgpSettings") or {}).get("asn")
    reserved = asn is not None and any(asn in block for block in _RESERVED_ASNS)
    return f"the ASN {asn} is reserved" if reserved else None


def _local_gateway(situation: Situation) -> str | None:
    """VF, MD #62263: a local network gateway has no reserved ASN, and not the default ASN of Azure's gateways."""
    asn = (situation.inputs.get("bgpSettings") or {}).get("asn")
    return f"the ASN {asn} is reserved" if asn == _DEFAULT_ASN else _reserved_asn(situation.inputs)


def _spaces_of_gateway(resources: Mapping[str, Resource], gateway_id: str) -> list[IPv4Network]:
    gateway = with_id(resources, gateway_id)
    if gateway is None:
        return []
    return _network_spaces(resources[gateway.inputs["ipConfigurations"][0]["subnet"]["id"].split("/subnets/")[0]])


# The property with the remote end, by kind of connection.
_FAR_ENDS = {"Vnet2Vnet": "virtualNetworkGateway2", "IPsec": "localNetworkGateway2", "ExpressRoute": "peer"}


def _ends(situation: Situation) -> str | None:
    """VF: a connection has a remote end, whose network does not overlap. RN: its id is that of a gateway."""
    inputs = situation.inputs
    kind = inputs["connectionType"]
    if not (far := _far_end(inputs)):
        return f"{kind} connection without a {_FAR_ENDS[kind]}"
    if kind != "Vnet2Vnet":
        return None
    if not re.fullmatch(_GATEWAY_ID, far):
        return f"LinkedInvalidPropertyId: {far} is not a resource id of a virtual network gateway"
    for one in _spaces_of_gateway(situation.resources, inputs["virtualNetworkGateway1"]["id"]):
        for other in _spaces_of_gateway(situation.resources, inputs["virtualNetworkGateway2"]["id"]):
            if one.overlaps(other):
                return f"the networks overlap: {one} and {other}"
    return None


def _far_end(connection: Mapping[str, Any]) -> str | None:
    end: str | None = (connection.get(_FAR_ENDS[connection["connectionType"]]) or {}).get("id")
    return end


_READING_ROLES = frozenset(
    {
        "acdd72a7-3385-48ef-bd42-f606fba81ae7",  # Reader
        "4d97b98b-1d4f-4787-a291-c67834d212e7",  # Network Contributor
        "b24988ac-6180-42a0-ab88-20f7382dd24c",  # Contributor
        "8e3af657-a8ff-443c-a75c-2fe8c4bcb635",  # Owner
    }
)


def may_read(
    resources: Mapping[str, Resource], deployers: Mapping[str, str], deployer: str, resource_id: str
) -> bool:
    """Whether a deployer may read what lies in a known subscription: its own, or by a role at that scope or above.

    Args:
        resources: all resources by id.
        deployers: the principal that deploys to each subscription.
        deployer: the principal that reads.
        resource_id: what it reads, whether it exists or not.
    """
    read = f"{resource_id}/".casefold()
    return deployers[resource_id.split("/")[2]] == deployer or any(
        role.inputs["principalId"] == deployer
        and read.startswith(f"{role.inputs['scope']}/".casefold())
        and role.inputs["roleDefinitionId"].rsplit("/", 1)[-1] in _READING_ROLES
        for role in resources.values()
        if role.short == "authorization:RoleAssignment"
    )


def _far_gateway(situation: Situation) -> str | None:
    """AZ #31003: the deployer of a connection may read the remote gateway. VF: it is a route-based VPN gateway."""
    if situation.inputs["connectionType"] != "Vnet2Vnet":
        return None
    far = _far_end(situation.inputs) or ""
    # What lies in a subscription that is unknown here can't be checked.
    if far.split("/")[2] not in situation.deployers:
        return None
    deployer = situation.deployers[situation.subscription_id]
    if not may_read(situation.resources, situation.deployers, deployer, far):
        return f"LinkedAuthorizationFailed: {deployer} may not read {far}"
    gateway = with_id(situation.resources, far)
    if gateway is None:
        return None
    kinds = gateway.inputs["gatewayType"], gateway.inputs.get("vpnType", "RouteBased")
    if kinds != ("Vpn", "RouteBased"):
        return f"{far} is a gateway of the kind {' '.join(kinds)}; wanted Vpn RouteBased"
    return None


_POLICY_FIELDS = frozenset(
    "dhGroup ikeEncryption ikeIntegrity ipsecEncryption ipsecIntegrity pfsGroup "
    "saDataSizeKilobytes saLifeTimeSeconds".split()
)


def _key_and_policy(situation: Situation) -> str | None:
    """VF: a pre-shared key is printable ASCII without space, hyphen or tilde; there is one policy, and complete."""
    key, policies = situation.inputs.get("sharedKey"), situation.inputs.get("ipsecPolicies") or []
    if key is not None and not re.fullmatch(r"[!-,.-}]{1,128}", key):
        return "the shared key has characters that Azure refuses; wanted printable ASCII but space, hyphen and tilde"
    if len(policies) > 1:
        return f"{len(policies)} IPsec policies; wanted one"
    for policy in policies:
        if missing := sorted(_POLICY_FIELDS.difference(policy)):
            return f"the IPsec policy lacks {', '.join(missing)}"
        suite = {policy["ipsecEncryption"], policy["ipsecIntegrity"]}
        if len(suite) > 1 and any(each.startswith("GCM") for each in suite):
            return f"GCM is encryption and integrity in one; got {' and '.join(sorted(suite))}"
    return None


def _room_for_connection(situation: Situation) -> str | None:
    """SK: a gateway has at most its SKU's number of connections."""
    near = situation.inputs["virtualNetworkGateway1"]["id"]
    gateway = situation.resources.get(near)
    if gateway is None or gateway.inputs["sku"]["name"] not in _VPN_SKUS:
        return None
    most = _VPN_SKUS[gateway.inputs["sku"]["name"]][1]
    others = situation.others("network:VirtualNetworkGatewayConnection")
    count = 1 + sum(each.inputs["virtualNetworkGateway1"]["id"] == near for each in others)
    return f"{count} connections at {near}; wanted {most} at most" if count > most else None


def _role_assignment(situation: Situation) -> str | None:
    """BI #19690: one assignment for each principal, role and scope; RC: a condition has version 2.0."""
    keys = ("principalId", "roleDefinitionId", "scope")
    for other in situation.others("authorization:RoleAssignment"):
        if all(other.inputs[key] == situation.inputs[key] for key in keys):
            return "RoleAssignmentExists: the principal has this role at this scope already"
    if situation.inputs.get("condition") and situation.inputs.get("conditionVersion") != "2.0":
        return f"conditionVersion {situation.inputs.get('conditionVersion')}; wanted 2.0 beside a condition"
    return None


def _vault(situation: Situation) -> str | None:
    """KV: a deleted vault's name stays blocked, retention is fixed. BI #5223: purge protection is true or unset."""
    properties = situation.inputs["properties"]
    if properties.get("enablePurgeProtection") is False:
        return "enablePurgeProtection is false; Azure takes true, or nothing"
    name = situation.inputs["vaultName"]
    if name.lower() in {each.lower() for each in situation.soft_deleted}:
        return f"VaultAlreadyExists: {name} is deleted but not purged; wanted another name"
    days = "softDeleteRetentionInDays"
    if situation.before and situation.before["properties"].get(days) != properties.get(days):
        return f"{days} is {situation.before['properties'].get(days)} and can't be changed"
    return None


# KK: the operations of each type of key, and the allowed elliptic curves.
_KEY_OPERATIONS: dict[str, frozenset[str]] = {
    "EC": frozenset({"sign", "verify", "import"}),
    "RSA": frozenset({"encrypt", "decrypt", "sign", "verify", "wrapKey", "unwrapKey", "import"}),
}
_CURVES = ("P-256", "P-256K", "P-384", "P-521")


_MAX_TAGS_IN_A_VAULT = 15
_MAX_SECRET_BYTES = 25_000


def _vault_tags(situation: Situation) -> str | None:
    """KT: a key or secret has 15 tags at most."""
    count = len(situation.inputs.get("tags") or {})
    return f"{count} tags; wanted {_MAX_TAGS_IN_A_VAULT} at most" if count > _MAX_TAGS_IN_A_VAULT else None


def _zone_tags(situation: Situation) -> str | None:
    """DN: a private DNS zone and its links drop, without an error, tags with spaces, special or leading digits."""
    dropped = [each for each in situation.inputs.get("tags") or {} if not _ZONE_TAG.fullmatch(each)]
    return f"it would drop the tags {', '.join(dropped)}" if dropped else None


def _one_zone_of_a_name(situation: Situation) -> str | None:
    """AD #212: a network is linked to one private DNS zone of a name."""
    network, name = situation.inputs["virtualNetwork"]["id"], situation.inputs["privateZoneName"]
    for other in situation.others("privatedns:VirtualNetworkLink"):
        if other.inputs["virtualNetwork"]["id"] == network and other.inputs["privateZoneName"] == name:
            return f"{network.rsplit('/', 1)[-1]} is linked to a zone {name} already: overlapping namespaces"
    return None


_ZONE_TAG = re.compile("[A-Za-z][A-Za-z0-9_-]*")


def _secret_size(situation: Situation) -> str | None:
    """SE: a secret has 25 kB at most."""
    size = len(str(situation.inputs["properties"].get("value") or "").encode())
    return f"a secret of {size} bytes; wanted {_MAX_SECRET_BYTES} at most" if size > _MAX_SECRET_BYTES else None


def _maintenance_window(situation: Situation) -> str | None:
    """MC: a new maintenance window begins today or later."""
    begins = str(situation.inputs.get("startDateTime", ""))[:10]
    if situation.before or not begins or begins >= f"{datetime.now(UTC):%Y-%m-%d}":
        return None
    return f"InvalidMaintenanceWindow: the window begins on {begins}; wanted today or later"


def _key(situation: Situation) -> str | None:
    """KK: an HSM key needs a Premium vault; a key has an allowed curve, and only operations of its type."""
    properties = situation.inputs["properties"]
    kind = str(properties.get("kty"))
    operations = _KEY_OPERATIONS.get(kind.removesuffix("-HSM"))
    if operations is None:
        return f"the key type {kind}; wanted EC or RSA, each with -HSM or without"
    vault = situation.resources[situation.resource_id.split("/keys/")[0]]
    sku = ((vault.inputs["properties"].get("sku") or {}).get("name") or "standard").lower()
    if kind.endswith("-HSM") and sku != "premium":
        return f"KeyTypeNotSupported: {kind} in a vault of the SKU {sku}; wanted premium"
    if kind.startswith("EC") and properties.get("curveName", "P-256") not in _CURVES:
        return f"the curve {properties['curveName']}; wanted one of {', '.join(_CURVES)}"
    if unfit := sorted(set(properties.get("keyOps") or []) - operations):
        return f"a key of type {kind} can't {', '.join(unfit)}"
    return None


def _server(situation: Situation) -> str | None:
    """PG: a server's subnet is delegated to it; its private zone has the service's suffix, but not its own name."""
    network = situation.inputs.get("network") or {}
    if "delegatedSubnetResourceId" not in network:
        return None
    subnet_id, zone = network["delegatedSubnetResourceId"], network.get("privateDnsZoneArmResourceId") or ""
    subnet = situation.resources.get(subnet_id)
    if subnet and _POSTGRESQL not in _delegations(subnet.inputs):
        return f"subnet {subnet_id.rsplit('/', 1)[-1]} is not delegated to PostgreSQL"
    zone_name = zone.rsplit("/", 1)[-1]
    if not zone_name.endswith(_SERVER_SUFFIX):
        return f"the private zone {zone_name} does not end in {_SERVER_SUFFIX}"
    if zone_name == f"{situation.inputs['serverName']}{_SERVER_SUFFIX}":
        return f"the private zone {zone_name} has the server's own name"
    return None


_SERVER_SUFFIX = ".postgres.database.azure.com"


def _server_storage(situation: Situation) -> str | None:
    """PB: storage does not shrink."""
    size, before = (
        ((each or {}).get("storage") or {}).get("storageSizeGB", 0) for each in (situation.inputs, situation.before)
    )
    return f"a disk of {size} GB; it has {before} and can't shrink" if size < before else None


def _server_backup(situation: Situation) -> str | None:
    """PB: geo-redundant backup is chosen when the server is created, and can't be changed."""
    place = (situation.inputs.get("backup") or {}).get("geoRedundantBackup")
    before = ((situation.before or {}).get("backup") or {}).get("geoRedundantBackup")
    if situation.before and place != before:
        return f"geoRedundantBackup is {before} and can't be changed"
    return None


def _server_standby(situation: Situation) -> str | None:
    """HA: a standby must be removed before one in another zone replaces one in the server's zone, or the reverse."""
    mode, before = (
        ((each or {}).get("highAvailability") or {}).get("mode") for each in (situation.inputs, situation.before)
    )
    both = {mode, before} == {"SameZone", "ZoneRedundant"}
    return f"the standby is {before}; wanted Disabled before {mode}" if both else None


def _server_version(situation: Situation) -> str | None:
    """MV: a server's major version is never lowered."""
    version, before = (int((each or {}).get("version") or 0) for each in (situation.inputs, situation.before))
    return f"it runs PostgreSQL {before}, and can't go back to {version}" if version < before else None


def _server_region(situation: Situation) -> str | None:
    """PR: the region offers a new server this VM generation, a zone-redundant standby and geo-redundant backup."""
    region, inputs = REGIONS.get(situation.inputs.get("location", "")), situation.inputs
    if region is None or region.postgresql is None or situation.before:
        return None
    sku = (inputs.get("sku") or {}).get("name", "")
    if (found := re.search(r"_v(\d)$", sku)) and int(found[1]) not in region.postgresql.generations:
        return f"{region.name} has no {sku}"
    if (inputs.get("highAvailability") or {}).get(
        "mode"
    ) == "ZoneRedundant" and not region.server_offer.zone_redundant:
        return f"{region.name} takes no new zone-redundant server"
    wants_copies = (inputs.get("backup") or {}).get("geoRedundantBackup") == "Enabled"
    return (
        f"{region.name} has no geo-redundant backup"
        if wants_copies and not region.server_offer.geo_redundant_backup
        else None
    )


def _custom_data(situation: Situation) -> str | None:
    """CD: custom data is base64, 65535 bytes at most."""
    custom_data = situation.inputs["virtualMachineProfile"]["osProfile"].get("customData")
    if not custom_data:
        return None
    try:
        size = len(base64.b64decode(custom_data, validate=True))
    except ValueError:
        return "customData is not base64"
    return f"customData has {size} bytes; wanted 65535 at most" if size > 65_535 else None


def _user_data(situation: Situation) -> str | None:
    """UD: user data is base64, 64 KB at most; of the encoded text, since the page does not say otherwise."""
    user_data = situation.inputs["virtualMachineProfile"].get("userData")
    if not user_data:
        return None
    try:
        base64.b64decode(user_data, validate=True)
    except ValueError:
        return "userData is not base64"
    return f"userData has {len(user_data)} characters; wanted 65536 at most" if len(user_data) > 65_536 else None


def _vm_health(situation: Situation) -> str | None:
    """UP, RE: rolling upgrades and repairs need the Application Health extension; repairs wait 10 to 90 minutes."""
    inputs = situation.inputs
    extensions = (inputs["virtualMachineProfile"].get("extensionProfile") or {}).get("extensions") or []
    reports_health = any(each.get("type", "").startswith("ApplicationHealth") for each in extensions)
    repairs = inputs.get("automaticRepairsPolicy") or {}
    wants = {
        "Rolling upgrades": (inputs.get("upgradePolicy") or {}).get("mode") == "Rolling",
        "automatic repairs": bool(repairs.get("enabled")),
    }
    for what, wanted in wants.items():
        if wanted and not reports_health:
            return f"{what} without the Application Health extension"
    grace = re.fullmatch(r"PT(\d+)M", repairs.get("gracePeriod") or "PT10M")
    if wants["automatic repairs"] and (grace is None or not 10 <= int(grace[1]) <= 90):
        return f"gracePeriod is {repairs['gracePeriod']}; wanted PT10M to PT90M"
    return None


def _rollback(situation: Situation) -> str | None:
    """RO: only Uniform scale sets roll a failed instance back."""
    policy = (situation.inputs.get("upgradePolicy") or {}).get("rollingUpgradePolicy") or {}
    flexible = situation.inputs.get("orchestrationMode") == "Flexible"
    if flexible and policy.get("rollbackFailedInstancesOnPolicyBreach"):
        return "rollbackFailedInstancesOnPolicyBreach is for Uniform scale sets"
    return None


def _flexible(situation: Situation) -> str | None:
    """OM: a Flexible scale set has no system-assigned identity, image upgrades, NAT pools or health by a probe."""
    inputs = situation.inputs
    if inputs.get("orchestrationMode") != "Flexible":
        return None
    network = inputs["virtualMachineProfile"].get("networkProfile") or {}
    nics = network.get("networkInterfaceConfigurations") or []
    has = {
        "a system-assigned identity": "SystemAssigned" in ((inputs.get("identity") or {}).get("type") or ""),
        "automatic upgrades of its image": bool(
            ((inputs.get("upgradePolicy") or {}).get("automaticOSUpgradePolicy") or {}).get(
                "enableAutomaticOSUpgrade"
            )
        ),
        "health by a load balancer's probe": bool(network.get("healthProbe")),
        "NAT pools": any(
            ends.get("loadBalancerInboundNatPools") for nic in nics for ends in nic.get("ipConfigurations") or []
        ),
    }
    return next((f"a Flexible scale set can't have {what}" for what, is_set in has.items() if is_set), None)


def _trusted_launch(situation: Situation) -> str | None:
    """TL: VMs of trusted launch are made from an image of a gallery or the marketplace, not from a managed image."""
    profile = situation.inputs["virtualMachineProfile"]
    image = (_image(situation.inputs).get("id") or "").casefold()
    trusted = (profile.get("securityProfile") or {}).get("securityType") == "TrustedLaunch"
    if trusted and "/providers/microsoft.compute/images/" in image:
        return f"trusted launch takes no managed image: {image}"
    return None


def _image(scale_set: Mapping[str, Any]) -> Mapping[str, Any]:
    """The image of a scale set's VMs: an id, or an offer of the marketplace; empty if none is stated."""
    storage = scale_set["virtualMachineProfile"].get("storageProfile") or {}
    return storage.get("imageReference") or {}


def _image_type(situation: Situation) -> str | None:
    """MD #92371: no image with an id takes the place of one of the marketplace, nor the reverse."""
    images = [_image(each) for each in (situation.before, situation.inputs) if each]
    if all(images) and len({"id" in each for each in images}) > 1:
        return "OperationNotAllowed: the image type for a virtual machine scale set may not be changed"
    return None


def _notice(situation: Situation) -> str | None:
    """TN: Azure announces a VM's deletion 5 to 15 minutes before."""
    events = situation.inputs["virtualMachineProfile"].get("scheduledEventsProfile") or {}
    notice = events.get("terminateNotificationProfile") or {}
    minutes = re.fullmatch(r"PT(\d+)M", notice.get("notBeforeTimeout") or "PT5M")
    if notice.get("enable") and (minutes is None or not 5 <= int(minutes[1]) <= 15):
        return f"notBeforeTimeout is {notice['notBeforeTimeout']}; wanted PT5M to PT15M"
    return None


# HX: ranges of the extension's settings, version 2.0.
_HEALTH_SETTINGS = {"intervalInSeconds": (5, 60), "numberOfProbes": (1, 24), "gracePeriod": (0, 14_400)}


def _health_settings(situation: Situation) -> str | None:
    """HX: the Application Health extension asks a path every 5 to 60 s, and waits four hours at most for a new VM."""
    extensions = situation.inputs["virtualMachineProfile"].get("extensionProfile") or {}
    for extension in extensions.get("extensions") or []:
        settings = extension.get("settings") or {}
        if not extension.get("type", "").startswith("ApplicationHealth") or not settings:
            continue
        for name, (least, most) in _HEALTH_SETTINGS.items():
            if name in settings and not least <= settings[name] <= most:
                return f"{name} is {settings[name]}; wanted {least} to {most}"
        if (settings.get("protocol") == "tcp") == bool(settings.get("requestPath")):
            return (
                f"requestPath {settings.get('requestPath')} for {settings.get('protocol')}; wanted it for HTTP alone"
            )
    return None


def _share(situation: Situation) -> str | None:
    """FN: an NFS share is in an account of premium files; FS: a share on SSDs has 100 to 102400 GiB."""
    account = situation.resources[situation.resource_id.split("/fileServices/")[0]].inputs
    if situation.inputs.get("enabledProtocols") == "NFS" and account.get("kind") != "FileStorage":
        return f"an NFS share in an account of the kind {account.get('kind')}; wanted FileStorage"
    quota, sku = situation.inputs.get("shareQuota", 100), (account.get("sku") or {}).get("name", "")
    if sku.startswith("Premium_") and not 100 <= quota <= 102_400:
        return f"shareQuota is {quota}; wanted 100 to 102400"
    return None


def _redundancy(situation: Situation) -> str | None:
    """FN: files on SSDs have copies in one data centre or in three zones, none in another region."""
    sku = (situation.inputs.get("sku") or {}).get("name", "")
    if situation.inputs.get("kind") == "FileStorage" and not re.fullmatch(r"(Premium|PremiumV2|StandardV2)_\w+", sku):
        return f"an account of the kind FileStorage with the SKU {sku}; wanted Premium_LRS or Premium_ZRS"
    return None


def _copies_remain(situation: Situation) -> str | None:
    """RM: no request moves an account's copies into zones, or out of them: that is a conversion of hours or days."""
    sku, before = (((each or {}).get("sku") or {}).get("name", "") for each in (situation.inputs, situation.before))
    if situation.before and sku.endswith("ZRS") != before.endswith("ZRS"):
        return f"the account's SKU is {before}, and {sku} wants a conversion"
    return None


def _association(situation: Situation) -> str | None:
    """DC: a data collection rule is associated with the VMs of a Flexible scale set, not with the scale set."""
    target = situation.resources.get(situation.inputs["resourceUri"])
    if target and target.inputs.get("orchestrationMode") == "Flexible":
        return "a Flexible scale set can't be associated with a data collection rule; wanted each of its VMs"
    return None


def _zones_remain(situation: Situation) -> str | None:
    """ZO: zones can be added to a scale set, but not removed."""
    lost = set((situation.before or {}).get("zones") or []) - set(situation.inputs.get("zones") or [])
    return f"zone {', '.join(sorted(lost))} can't be taken from a scale set" if lost else None


def _frontend(situation: Situation) -> str | None:
    """VN: a static address is in its subnet, and not one that Azure reserves: the first four and the last."""
    for frontend in situation.inputs.get("frontendIPConfigurations") or []:
        subnet = situation.resources.get((frontend.get("subnet") or {}).get("id", ""))
        if subnet is None or not frontend.get("privateIPAddress"):
            continue
        block, address = _block(subnet.inputs["addressPrefix"]), IPv4Address(frontend["privateIPAddress"])
        if address not in block:
            return f"PrivateIPAddressNotInSubnet: {address} is not in {block}"
        if address in (*(block[place] for place in range(4)), block[-1]):
            return f"PrivateIPAddressInReservedRange: {address} is reserved by Azure in {block}"
    return None


def _load_balancer(situation: Situation) -> str | None:
    """LB: rules name existing parts; a port is used once at a frontend, and once at a pool without floating IP."""
    inputs = situation.inputs
    parts = {
        f"$self/{collection}/{item['name']}"
        for collection in ("frontendIPConfigurations", "backendAddressPools", "probes")
        for item in inputs.get(collection) or []
    }
    fronts, backs = [], []
    for rule in inputs.get("loadBalancingRules") or []:
        pools = [each["id"] for each in rule.get("backendAddressPools") or []]
        probes = [rule["probe"]["id"]] if rule.get("probe") else []
        front = rule["frontendIPConfiguration"]["id"]
        if missing := [each for each in (front, *probes, *pools) if each not in parts]:
            return f"rule {rule['name']} names {missing[0]}, which is not there"
        fronts.append((front, rule["protocol"], rule["frontendPort"]))
        if not rule.get("enableFloatingIP"):
            backs += [(pool, rule["protocol"], rule["backendPort"]) for pool in pools]
    for side, uses in (("frontendPort", fronts), ("backendPort", backs)):
        if twice := [one for one, other in pairwise(sorted(uses)) if one == other]:
            return f"two rules share the {side} {twice[0][2]}"
    return None


def _diagnostic_setting(situation: Situation) -> str | None:
    """LR: a diagnostic setting has a destination, and only log categories of the resource's type."""
    return watching.diagnostic_setting(situation.inputs)


def _metric_alert(situation: Situation) -> str | None:
    """MX, AM, AT: an alert rule uses metrics and dimensions of its resource, and a window that contains a value."""
    return watching.metric_alert(situation.inputs)


def _query_alert(situation: Situation) -> str | None:
    """AL, TF #18960: an alert's query reads two days at most, by operators of alerts, once a window or more often."""
    return watching.scheduled_query_rule(situation.inputs)


def _budget(situation: Situation) -> str | None:
    """BU: a budget starts on the first of a month that is not over, and each notification has a recipient."""
    return watching.budget(situation.inputs, today=datetime.now(UTC), new=situation.before is None)


Rule = Callable[[Situation], str | None]
"""Checks a request: returns what is wrong, or None."""

_OF_ALL_TYPES: tuple[Rule, ...] = (_parent_exists, _references_exist, _delegated_subnet_is_alone, _remains)
_RULES: dict[str, tuple[Rule, ...]] = {
    "authorization:RoleAssignment": (_role_assignment,),
    "consumption:Budget": (_budget,),
    "compute:VirtualMachineScaleSet": (
        _custom_data,
        _user_data,
        _vm_health,
        _health_settings,
        _notice,
        _zones_remain,
        _flexible,
        _rollback,
        _trusted_launch,
        _image_type,
    ),
    "dbforpostgresql:Server": (
        _name_is_free,
        _server,
        _server_backup,
        _server_standby,
        _server_storage,
        _server_version,
        _server_region,
    ),
    "keyvault:Key": (_key, _vault_tags),
    "keyvault:Secret": (_vault_tags, _secret_size),
    "keyvault:Vault": (_name_is_free, _vault),
    "maintenance:MaintenanceConfiguration": (_maintenance_window,),
    "monitor:DataCollectionRuleAssociation": (_association,),
    "monitor:DiagnosticSetting": (_diagnostic_setting,),
    "monitor:MetricAlert": (_metric_alert,),
    "monitor:ScheduledQueryRule": (_query_alert,),
    "network:LoadBalancer": (_frontend, _load_balancer),
    "network:LocalNetworkGateway": (_local_gateway,),
    "network:NetworkSecurityGroup": (_security_group, _rule_networks),
    "network:Subnet": (_subnet, _special_subnet),
    "network:VirtualNetwork": (_virtual_network,),
    "network:VirtualNetworkGateway": (_public_addresses, _gateway, _vpn_gateway, _coexistence),
    "network:VirtualNetworkGatewayConnection": (_ends, _far_gateway, _key_and_policy, _room_for_connection),
    "privatedns:PrivateZone": (_zone_tags,),
    "privatedns:VirtualNetworkLink": (_zone_tags, _one_zone_of_a_name),
    "storage:FileShare": (_share,),
    "storage:StorageAccount": (_name_is_free, _redundancy, _copies_remain),
}


def types_by_rule() -> dict[Rule, tuple[str, ...]]:
    """Each rule with the types that it applies to; an empty tuple for a rule of all types."""
    found: dict[Rule, tuple[str, ...]] = dict.fromkeys(_OF_ALL_TYPES, ())
    for token, rules in _RULES.items():
        for rule in rules:
            found[rule] = (*found.get(rule, ()), token)
    return found


def refuse_delete(resources: Mapping[str, Resource], name: str, resource: Resource) -> None:
    """Refuse a deletion that Azure would refuse.

    Raises:
        AzureError: the resource is in use, or associated with VMs, or its deletion needs a data plane without public
            access.
    """
    if resource.short in ("keyvault:Key", "keyvault:Secret"):
        vault = resources[resource.id.rsplit("/", 2)[0]]
        # The provider deletes keys and secrets through the vault's data plane, which ARM requests do not need.
        if vault.inputs["properties"].get("publicNetworkAccess") == "Disabled":
            raise AzureError(f"{name}: ForbiddenByConnection: the data plane of {vault.id} is closed to this machine")
    # TF #24785.
    if vms := [each.id for each in resources.values() if resource.id in each.extra.get(_COLLECTION_RULES, ())]:
        raise AzureError(f"{name}: a policy has associated it with the VMs of {vms[0]}")
    going = [
        each.id
        for each in resources.values()
        if each.short in _IN_USE and f"{each.id}/".startswith(f"{resource.id}/")
    ]
    holder = _holder(resources, going, apart_from=resource.id)
    if holder:
        raise AzureError(f"{name}: InUse: {holder.id} still refers to it")


# VS: a gateway can't be deleted while a connection of either side refers to it; nor can the other types while in use.
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
# Types whose reference does not prevent a deletion: alerts, logs, roles, windows and the links of private zones.
_ONLY_REFERRING = (
    "applicationinsights:",
    "authorization:",
    "consumption:",
    "maintenance:",
    "monitor:",
    "privatedns:",
)


def _holder(resources: Mapping[str, Resource], ids: list[str], *, apart_from: str = "") -> Resource | None:
    """A resource that uses one of these resources or a part of it, except resources below `apart_from`."""
    for other in resources.values():
        if other.short.startswith(_ONLY_REFERRING) or (apart_from and f"{other.id}/".startswith(f"{apart_from}/")):
            continue
        for reference in _references(other.inputs):
            if any(f"{reference}/".startswith(f"{each}/") for each in ids):
                return other
    return None


def keep_what_azure_ignores(token: str, resource: Resource, stored: dict[str, Any]) -> None:
    """Reset the inputs that Azure ignores in an update to their present values.

    TF #11673, #11742: a PUT on an existing connection does not change its shared key. TF #5050, #18639: nor its
    authorization key.
    """
    if arm.short_token(token) == "network:VirtualNetworkGatewayConnection":
        keys = ("sharedKey", "authorizationKey")
        stored.update({key: resource.inputs[key] for key in keys if key in resource.inputs})


_COLLECTION_RULES = "collectionRules"


def associate(resources: Mapping[str, Resource], scale_set: Resource) -> None:
    """Note in a scale set's `extra` the data collection rules that policies in force associate with its new VMs.

    DC: the associations remain when the policy's assignment is deleted. So they do here after an update of the scale
    set: VMs are rolled after the run that changes their model.
    """
    if scale_set.short != "compute:VirtualMachineScaleSet":
        return
    found = {
        rule["value"]
        for each in resources.values()
        if each.short == "authorization:PolicyAssignment" and scale_set.id.startswith(f"{each.inputs['scope']}/")
        if (rule := (each.inputs.get("parameters") or {}).get("dcrResourceId"))
    }
    scale_set.extra[_COLLECTION_RULES] = sorted({*scale_set.extra.get(_COLLECTION_RULES, ()), *found})


def initial_extra(token: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The `extra` of a new resource: for a scale set one model for each VM, otherwise nothing."""
    if arm.short_token(token) != "compute:VirtualMachineScaleSet":
        return {}
    return {"vmModels": [_model(inputs)] * int(inputs["sku"]["capacity"])}


def roll(token: str, resource: Resource, inputs: Mapping[str, Any]) -> None:
    """Update the models of a scale set's VMs after a change of its inputs.

    UP: VMs get a new model automatically unless the policy is Manual, the default. New VMs always get it.
    CD: with max surge, new VMs replace old ones; an upgrade in place does not change what a VM gets at its creation.
    """
    if arm.short_token(token) != "compute:VirtualMachineScaleSet":
        return
    model, capacity = _model(inputs), int(inputs["sku"]["capacity"])
    policy = inputs.get("upgradePolicy") or {}
    models: list[str] = resource.extra["vmModels"][:capacity]
    if policy.get("mode", "Manual") != "Manual":
        surge = (policy.get("rollingUpgradePolicy") or {}).get("maxSurge")
        models = [model if surge else f"{each.split('.')[0]}.{model.split('.')[1]}" for each in models]
    resource.extra["vmModels"] = models + [model] * (capacity - len(models))


def rolls_vms(token: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """UP: whether a change gives a scale set's VMs another model, which they get automatically."""
    if arm.short_token(token) != "compute:VirtualMachineScaleSet":
        return False
    return (new.get("upgradePolicy") or {}).get("mode", "Manual") != "Manual" and _model(old) != _model(new)


def _model(inputs: Mapping[str, Any]) -> str:
    """CD, UP: a hash of what a VM gets only at its creation (custom data, image), and one of its size and profile."""
    profile = inputs["virtualMachineProfile"]
    made = [(profile.get("osProfile") or {}).get("customData"), profile.get("storageProfile")]
    parts = (made, [inputs["sku"]["name"], profile])
    return ".".join(hashlib.sha256(json.dumps(part, sort_keys=True).encode()).hexdigest()[:12] for part in parts)


def connection_status(
    resources: Mapping[str, Resource], connection: Resource, address_of: Callable[[str], str]
) -> str:
    """A connection's status: `Connected` if the other half exists with the same key and policy, else `Connecting`.

    Args:
        resources: all resources by id.
        connection: one half.
        address_of: the address of a public IP, by its resource id.
    """
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
    """Whether the local network gateway of `near` has the address of an instance, and the ASN, of `far`'s gateway."""
    named = resources[near.inputs["localNetworkGateway2"]["id"]].inputs
    gateway = resources[far.inputs["virtualNetworkGateway1"]["id"]].inputs
    addresses = {address_of(each["publicIPAddress"]["id"]) for each in gateway["ipConfigurations"]}
    asns = [(each.get("bgpSettings") or {}).get("asn") for each in (named, gateway)]
    return named["gatewayIpAddress"] in addresses and asns[0] == asns[1]
