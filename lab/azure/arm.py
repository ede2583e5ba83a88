"""Azure's names of the resource types that this program creates, and the structure of their resource ids."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# ruff: noqa: E501  (one type a line)
# Azure-native's token, ARM namespace below `Microsoft.`, then one (segment, name property) for each level of the id below the
# resource group. Autonaming fills a name property that the program does not set.
_TABLE = """
applicationinsights:Component            Insights             components/resourceName
applicationinsights:Workbook             Insights             workbooks/resourceName
compute:VirtualMachineScaleSet           Compute              virtualMachineScaleSets/vmScaleSetName
dbforpostgresql:AdministratorsMicrosoftEntra  DBforPostgreSQL  flexibleServers/serverName administrators/objectId
dbforpostgresql:Configuration            DBforPostgreSQL      flexibleServers/serverName configurations/configurationName
dbforpostgresql:Server                   DBforPostgreSQL      flexibleServers/serverName
keyvault:Key                             KeyVault             vaults/vaultName keys/keyName
keyvault:Secret                          KeyVault             vaults/vaultName secrets/secretName
keyvault:Vault                           KeyVault             vaults/vaultName
maintenance:MaintenanceConfiguration     Maintenance          maintenanceConfigurations/resourceName
managedidentity:UserAssignedIdentity     ManagedIdentity      userAssignedIdentities/resourceName
monitor:ActionGroup                      Insights             actionGroups/actionGroupName
monitor:ActivityLogAlert                 Insights             activityLogAlerts/activityLogAlertName
monitor:DataCollectionRule               Insights             dataCollectionRules/dataCollectionRuleName
monitor:MetricAlert                      Insights             metricAlerts/ruleName
monitor:ScheduledQueryRule               Insights             scheduledQueryRules/ruleName
network:LoadBalancer                     Network              loadBalancers/loadBalancerName
network:LocalNetworkGateway              Network              localNetworkGateways/localNetworkGatewayName
network:NatGateway                       Network              natGateways/natGatewayName
network:NetworkSecurityGroup             Network              networkSecurityGroups/networkSecurityGroupName
network:PrivateDnsZoneGroup              Network              privateEndpoints/privateEndpointName privateDnsZoneGroups/privateDnsZoneGroupName
network:PrivateEndpoint                  Network              privateEndpoints/privateEndpointName
network:PublicIPAddress                  Network              publicIPAddresses/publicIpAddressName
network:Subnet                           Network              virtualNetworks/virtualNetworkName subnets/subnetName
network:VirtualNetwork                   Network              virtualNetworks/virtualNetworkName
network:VirtualNetworkGateway            Network              virtualNetworkGateways/virtualNetworkGatewayName
network:VirtualNetworkGatewayConnection  Network              connections/virtualNetworkGatewayConnectionName
network:VirtualNetworkPeering            Network              virtualNetworks/virtualNetworkName virtualNetworkPeerings/virtualNetworkPeeringName
operationalinsights:Workspace            OperationalInsights  workspaces/workspaceName
privatedns:PrivateZone                   Network              privateDnsZones/privateZoneName
privatedns:VirtualNetworkLink            Network              privateDnsZones/privateZoneName virtualNetworkLinks/virtualNetworkLinkName
storage:BlobContainer                    Storage              storageAccounts/accountName blobServices/=default containers/containerName
storage:BlobServiceProperties            Storage              storageAccounts/accountName blobServices/blobServicesName
storage:FileServiceProperties            Storage              storageAccounts/accountName fileServices/fileServicesName
storage:FileShare                        Storage              storageAccounts/accountName fileServices/=default shares/shareName
storage:ManagementPolicy                 Storage              storageAccounts/accountName managementPolicies/managementPolicyName
storage:StorageAccount                   Storage              storageAccounts/accountName
"""

# Extension types, whose ids extend another resource's id: token -> (property with that id, ARM type, name property).
_EXTENSIONS = {
    "authorization:RoleAssignment": ("scope", "Microsoft.Authorization/roleAssignments", "roleAssignmentName"),
    "authorization:RoleDefinition": ("scope", "Microsoft.Authorization/roleDefinitions", "roleDefinitionId"),
    "authorization:PolicyAssignment": ("scope", "Microsoft.Authorization/policyAssignments", "policyAssignmentName"),
    "consumption:Budget": ("scope", "Microsoft.Consumption/budgets", "budgetName"),
    "monitor:DiagnosticSetting": ("resourceUri", "Microsoft.Insights/diagnosticSettings", "name"),
    "monitor:DataCollectionRuleAssociation": (
        "resourceUri",
        "Microsoft.Insights/dataCollectionRuleAssociations",
        "associationName",
    ),
}
_NAMED_BY_GUID = frozenset({"authorization:RoleAssignment", "authorization:RoleDefinition"})

RESOURCE_GROUP = "resources:ResourceGroup"
CONFIGURATION_ASSIGNMENT = "maintenance:ConfigurationAssignment"
"""Tokens of the types that the offline Azure treats specially, without the package."""


@dataclass(frozen=True)
class ArmType:
    """One resource type: its namespace, and the levels of its id below the resource group."""

    namespace: str
    levels: tuple[tuple[str, str], ...]
    """For each level its segment and name property; a name that begins with `=` is a fixed name, not a property."""

    @property
    def name_property(self) -> str:
        """The property that names the resource itself."""
        return self.levels[-1][1]

    @property
    def full_name(self) -> str:
        """The type's full ARM name, such as `Microsoft.Network/virtualNetworks/subnets`."""
        return "/".join([self.namespace, *(segment for segment, _ in self.levels)])


def _parse(line: str) -> tuple[str, ArmType]:
    token, namespace, *levels = line.split()
    pairs = tuple((segment, name) for segment, _, name in (level.partition("/") for level in levels))
    return token, ArmType(f"Microsoft.{namespace}", pairs)


ARM_TYPES: dict[str, ArmType] = dict(_parse(line) for line in _TABLE.strip().splitlines())


class UnknownTypeError(LookupError):
    """The offline Azure does not implement this resource type."""


def short_token(token: str) -> str:
    """`network:Subnet` for `azure-native:network:Subnet`, also if the token contains an API version."""
    return re.sub(r"^azure-native(_[a-z0-9_]+)?:", "", token).replace("/v", "/").split("/")[0]


def name_property(token: str) -> str | None:
    """The input property that contains the name of a resource of this type; None if the type has no name.

    Raises:
        UnknownTypeError: the type is not in the tables.
    """
    short = short_token(token)
    if short == RESOURCE_GROUP:
        return "resourceGroupName"
    if short == CONFIGURATION_ASSIGNMENT:
        return "configurationAssignmentName"
    if short in _EXTENSIONS:
        return _EXTENSIONS[short][2]
    if short in ARM_TYPES:
        return ARM_TYPES[short].name_property
    raise UnknownTypeError(f"the offline Azure has no type {token}; a line in lab/azure/arm.py adds it")


def named_by_guid(token: str) -> bool:
    """Whether a resource of this type must have a GUID as its name, which autonaming then generates."""
    return short_token(token) in _NAMED_BY_GUID


def resource_id(token: str, subscription_id: str, inputs: Mapping[str, Any]) -> str:
    """The resource id for these inputs, which contain all names.

    Raises:
        UnknownTypeError: the type is not in the tables.
        KeyError: an input that names a level is missing.
    """
    short = short_token(token)
    subscription = f"/subscriptions/{subscription_id}"
    if short == RESOURCE_GROUP:
        return f"{subscription}/resourceGroups/{inputs['resourceGroupName']}"
    if short in _EXTENSIONS:
        property_, full_name, name = _EXTENSIONS[short]
        return f"{inputs[property_]}/providers/{full_name}/{inputs[name]}"
    group = f"{subscription}/resourceGroups/{inputs['resourceGroupName']}/providers"
    if short == CONFIGURATION_ASSIGNMENT:
        target = f"{inputs['providerName']}/{inputs['resourceType']}/{inputs['resourceName']}"
        name = inputs["configurationAssignmentName"]
        return f"{group}/{target}/providers/Microsoft.Maintenance/configurationAssignments/{name}"
    if short not in ARM_TYPES:
        raise UnknownTypeError(f"the offline Azure has no type {token}; a line in lab/azure/arm.py adds it")
    arm_type = ARM_TYPES[short]
    path = "/".join(
        f"{segment}/{name[1:] if name.startswith('=') else inputs[name]}" for segment, name in arm_type.levels
    )
    return f"{group}/{arm_type.namespace}/{path}"
