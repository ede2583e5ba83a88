"""Each component alone, in a program without the others.

With its required inputs only it is as safe as a bank needs it. With every optional input, each of them shows.
"""

import base64
import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass, replace
from functools import cache
from importlib import import_module
from ipaddress import IPv4Network
from itertools import permutations, product
from typing import Any

import pulumi_random as random
import pytest
from pulumi import ComponentResource, ResourceOptions

import components
from components import ledger_database, roles
from components.alerts import Alerts, AlertsArgs, PeerInstance, Watched
from components.express_route import ExpressRoute, ExpressRouteArgs
from components.inputs import Placement, Safeguards
from components.key_store import KeyStore, KeyStoreArgs
from components.ledger_database import LedgerDatabase, LedgerDatabaseArgs
from components.ledger_storage import LedgerStorage, LedgerStorageArgs
from components.member_group import MemberGroup, MemberGroupArgs
from components.member_network import Endpoint, MemberNetwork, MemberNetworkArgs, PrivateZone
from components.membership_keys import MembershipKeys, MembershipKeysArgs
from components.monitoring import Monitoring, MonitoringArgs
from components.network_authority import NetworkAuthority, NetworkAuthorityArgs
from components.node_scale_set import (
    MODEL_TAG,
    NodeScaleSet,
    NodeScaleSetArgs,
    VmArgs,
)
from components.private_endpoint import PrivateEndpoint, PrivateEndpointArgs
from components.roles import BuiltInRole
from components.vault import ClosedVault, ClosedVaultArgs, CustomRole, SecretText, VaultArgs, VaultRole
from components.vpn_gateway import VpnGateway, VpnGatewayArgs
from components.vpn_peering import VpnPeering, VpnPeeringArgs
from components.workbook import Measured, Workbook, WorkbookArgs
from contract.addresses import carve
from contract.card import Gateway, IpsecPolicy, KeyGenerations, LinkKind
from contract.frontend import NETWORK_INFO
from contract.listeners import Audience, Listener, Probe
from contract.platform import Counted
from contract.ports import HEALTH_PORT
from contract.secrets import RpcUser, VaultSecret
from lab.azure import rules
from lab.azure.azure import Account, OfflineAzure, Subscription
from lab.azure.recorder import Registration
from lab.cards import make_card
from policy import checklist
from policy.checklist import CHECKLIST, Check
from policy.nsg import INTERNET
from policy.resources import Absent, StackResources
from tests.configuration import SSH_PUBLIC_KEY
from tests.runs import (
    APPLICATIONS,
    CIRCUIT,
    MAIL,
    OPERATORS,
    READER,
    TAGS,
    Plan,
    all_of,
    depends_on,
    deployed,
    one,
    planned_program,
    resources,
    takes_tags,
    traffic_of,
)

NAME = "alone"

# --- Existing resources, which required inputs name ----------------------------------------------------------------

ACCOUNT = Account.of(NAME, "bank")
GROUP, NETWORK, LOCATION = "platform", "network", "swedencentral"
SPACE = IPv4Network("10.1.0.0/16")
PLAN = carve(SPACE)
BLOBS = "bankblobs"
DATABASE_ZONE = "bank.postgres.database.azure.com"


def given(path: str) -> str:
    """The id of a resource in the bank's resource group."""
    return f"/subscriptions/{ACCOUNT.subscription_id}/resourceGroups/{GROUP}/providers/Microsoft.{path}"


def elsewhere(path: str) -> str:
    """The id of a resource in another subscription of the bank, unknown to the offline Azure."""
    return f"/subscriptions/1d0f3c0e-0f8e-4b57-9f5e-3f1c2a7b9e10/resourceGroups/hub/providers/Microsoft.{path}"


GROUP_ID = given("").split("/providers/")[0]
NETWORK_ID = given(f"Network/virtualNetworks/{NETWORK}")
ENDPOINTS = elsewhere("Network/virtualNetworks/hub/subnets/endpoints")
NODES = elsewhere("Network/virtualNetworks/hub/subnets/nodes")
VAULT_ZONE = elsewhere("Network/privateDnsZones/privatelink.vaultcore.azure.net")
WORKSPACE = elsewhere("OperationalInsights/workspaces/logs")
INSIGHTS = elsewhere("Insights/components/insights")
RULE = elsewhere("Insights/dataCollectionRules/vms")
IDENTITY = elsewhere("ManagedIdentity/userAssignedIdentities/nodes")
GATEWAY = given("Network/virtualNetworkGateways/vpn")
PRINCIPAL = "3b1d8f9e-5a5c-4b6e-8a51-0d2f4c6e7a90"
TENANT = ACCOUNT.tenant_id

# Resources that the offline Azure reads: (type, inputs).
Existing = Sequence[tuple[str, Mapping[str, Any]]]
_NETWORK: Existing = (
    ("network:VirtualNetwork", {"virtualNetworkName": NETWORK, "addressSpace": {"addressPrefixes": [str(SPACE)]}}),
    (
        "network:Subnet",
        {"virtualNetworkName": NETWORK, "subnetName": "GatewaySubnet", "addressPrefix": str(PLAN.gateway)},
    ),
)
_DATABASE_PLACE: Existing = (
    *_NETWORK,
    (
        "network:Subnet",
        {
            "virtualNetworkName": NETWORK,
            "subnetName": "database",
            "addressPrefix": str(PLAN.database),
            "delegations": [{"serviceName": "Microsoft.DBforPostgreSQL/flexibleServers"}],
        },
    ),
    ("privatedns:PrivateZone", {"privateZoneName": DATABASE_ZONE}),
    (
        "privatedns:VirtualNetworkLink",
        {
            "privateZoneName": DATABASE_ZONE,
            "virtualNetworkLinkName": "database",
            "virtualNetwork": {"id": NETWORK_ID},
        },
    ),
)
_GATEWAY: Existing = (
    *_NETWORK,
    (
        "network:VirtualNetworkGateway",
        {
            "virtualNetworkGatewayName": "vpn",
            "gatewayType": "Vpn",
            "sku": {"name": "VpnGw1AZ"},
            "ipConfigurations": [
                {
                    "name": "first",
                    "subnet": {"id": f"{NETWORK_ID}/subnets/GatewaySubnet"},
                    "publicIPAddress": {"id": elsewhere("Network/publicIPAddresses/vpn")},
                }
            ],
        },
    ),
)


def platform(existing: Existing) -> Subscription:
    """The bank's subscription before the component: its resource group, and the resources of a case."""
    azure = OfflineAzure().account(ACCOUNT)
    for kind, inputs in (("resources:ResourceGroup", {"location": LOCATION}), *existing):
        azure.create(f"azure-native:{kind}", kind, {"resourceGroupName": GROUP, **inputs})
    return azure


# --- The cases: a component, its inputs, and the lines of the checklist that it meets ------------------------------

LISTENERS = (
    Listener("p2p", 10000, frozenset({Audience.PEERS}), Probe(10000)),
    Listener("rpc", 10200, frozenset({Audience.APPLICATIONS}), Probe(10200)),
    NETWORK_INFO,
)
ZONES = ("1", "2", "3")
PLACE = Placement(resource_group_name=GROUP, location=LOCATION)
TAGGED = Placement(resource_group_name=GROUP, location=LOCATION, tags=TAGS)
LOOSE = Safeguards(workspace_id=WORKSPACE, deletion_protection=False)
VAULT = VaultArgs(
    tenant_id=TENANT,
    endpoints_subnet_id=ENDPOINTS,
    zone_id=VAULT_ZONE,
    resource_group_id=GROUP_ID,
)
WHOLE_VAULT = replace(VAULT, purge_protection=False, soft_delete_days=7)
PEER_CARDS = {"bank-b": "{}"}
VMS = VmArgs(ssh_public_key=SSH_PUBLIC_KEY)
IMAGE = elsewhere("Compute/galleries/images/images/node/versions/1.0.0")
WHOLE_VMS = replace(
    VMS,
    image_id=IMAGE,
    zones=ZONES,
    encryption_at_host=False,
    workspace_id=WORKSPACE,
)
ROLE = VaultRole(
    role=CustomRole(
        definition="role",
        role_name="Reader of secrets",
        description="Reads secrets.",
        data_actions=["secrets/getSecret/action"],
    ),
    principal_id=PRINCIPAL,
    assignment="reads",
)
SECRET, KEY_HEX = "a passphrase", "ab" * 32
USERS = (RpcUser(name="credit", permissions=("InvokeRpc.nodeInfo",)),)
PEER = Gateway.model_validate(make_card("bank-b", address_space="10.2.0.0/16")["gateway"])


@dataclass(frozen=True, kw_only=True)
class Case:
    """One component."""

    component: type[ComponentResource]
    args: type[Any]
    required: Mapping[str, Any]
    """Its required inputs, at their barest."""
    optional: Mapping[str, Any]
    """All others, each with another value than its default; and the required ones that have more inside of them."""
    existing: Existing = ()
    """Resources that exist before it."""
    late: Callable[[], Mapping[str, Any]] = dict
    """Optional inputs that are resources, made inside of the program."""
    meets: Sequence[Check] = ()
    """What its required inputs alone meet."""
    meets_in_zones: Sequence[Check] = ()
    """Lines that it meets only with the region's zones, which it can't know."""
    meets_with_logs: Sequence[Check] = ()
    """Lines that it meets only with the destination of logs, which it can't know."""
    protected: Sequence[str] = ()
    """Types of its children that can't be made again."""


_ACCESS = (
    checklist.people_are_granted_by_group,
    checklist.roles_are_granted_narrowly,
    checklist.nobody_is_made_owner,
)
_VAULT = (
    checklist.vault_cannot_be_purged,
    checklist.vault_has_soft_delete,
    checklist.vault_uses_rbac,
    checklist.vault_is_closed,
    checklist.secrets_state_their_type,
    checklist.endpoints_need_no_approval,
    *_ACCESS,
)
_VMS = (
    checklist.balancer_is_standard,
    checklist.web_is_probed_over_http,
    checklist.two_backends_or_more,
    checklist.orchestration_is_flexible,
    checklist.vms_are_repaired,
    checklist.health_is_monitored,
    checklist.image_is_supported,
    checklist.ssh_by_key_only,
    checklist.vms_have_no_public_address,
    checklist.no_script_carries_a_secret,
    checklist.host_encrypts_disks,
    checklist.computer_names_are_legal,
    checklist.networking_is_accelerated,
    checklist.disk_caching_is_as_used,
    checklist.vms_are_patched,
)
_VMS_IN_ZONES = (
    checklist.vms_span_zones,
    checklist.zone_balance_is_best_effort,
    checklist.frontend_spans_zones,
)


def _awaited() -> dict[str, Any]:
    return {"wait_for": [random.RandomUuid("awaited")]}


CASES = (
    Case(
        component=MembershipKeys,
        args=MembershipKeysArgs,
        required={"member": "bank-a", "generations": KeyGenerations()},
        optional={"live": KeyGenerations(), "deletion_protection": False},
        protected=["RandomBytes"],
    ),
    Case(
        component=MemberGroup,
        args=MemberGroupArgs,
        required={"location": LOCATION},
        optional={"tags": TAGS},
        meets=[checklist.names_are_legal],
    ),
    Case(
        component=Monitoring,
        args=MonitoringArgs,
        required={
            "placement": PLACE,
            "resource_group_id": GROUP_ID,
            "node_principal_id": PRINCIPAL,
            "daily_cap_gb": 1.5,
        },
        optional={"placement": TAGGED, "operators": [OPERATORS], "retention_days": 365, "deletion_protection": False},
        meets=[checklist.insights_are_workspace_based, *_ACCESS],
        protected=["Workspace"],
    ),
    Case(
        component=Workbook,
        args=WorkbookArgs,
        required={
            "placement": PLACE,
            "member": "bank-a",
            "workspace_id": WORKSPACE,
            "resource_group_id": GROUP_ID,
            "transactions": Counted.OWN,
            "identities": ["node-0"],
            "standbys": 1,
            "peers": {},
        },
        optional={
            "placement": TAGGED,
            "peers": {"bank-b": ["203.0.113.7"]},
            "services": {Measured.VPN_GATEWAY: [GATEWAY]},
            "authority": True,
        },
    ),
    Case(
        component=MemberNetwork,
        args=MemberNetworkArgs,
        required={"placement": PLACE, "plan": PLAN, "listeners": LISTENERS, "peer_ports": [10000]},
        optional={
            "placement": TAGGED,
            "peer_address_spaces": ["10.2.0.0/16"],
            "application_networks": [APPLICATIONS],
            "authority_listeners": [Listener("authority", 8444, frozenset({Audience.PEERS}), Probe(HEALTH_PORT))],
            "peer_authority": Endpoint(address="10.2.1.126", ports=[8444]),
            "database": False,
            "zones": ZONES,
            "existing_zones": {PrivateZone.VAULT: VAULT_ZONE},
        },
        meets=[
            checklist.subnets_have_groups,
            checklist.subnets_are_private,
            checklist.names_are_resolved_by_azure_dns,
            checklist.no_inbound_from_any_source,
            checklist.no_ssh_or_rdp_between_subnets,
            checklist.groups_are_attached,
            checklist.addresses_are_attached,
            checklist.egress_by_nat_gateway,
            checklist.private_zones_are_linked,
            checklist.names_are_legal,
        ],
        meets_in_zones=[checklist.addresses_are_standard],
    ),
    Case(
        component=ExpressRoute,
        args=ExpressRouteArgs,
        existing=_NETWORK,
        required={
            "placement": PLACE,
            "subnet_id": f"{NETWORK_ID}/subnets/GatewaySubnet",
            "circuit_id": CIRCUIT,
            "authorization_key": SECRET,
        },
        optional={"placement": TAGGED, "sku": "ErGw2AZ", "safeguards": LOOSE},
        meets=[
            checklist.circuit_sku_spans_zones,
            checklist.gateways_have_a_maintenance_window,
            checklist.names_are_legal,
        ],
        protected=["VirtualNetworkGateway"],
    ),
    Case(
        component=VpnGateway,
        args=VpnGatewayArgs,
        existing=_NETWORK,
        required={"placement": PLACE, "subnet_id": f"{NETWORK_ID}/subnets/GatewaySubnet", "asn": 64512},
        optional={
            "placement": TAGGED,
            "sku": "VpnGw2AZ",
            "readers": [READER],
            "zones": ZONES,
            "safeguards": LOOSE,
        },
        meets=[
            checklist.no_legacy_vpn_sku,
            checklist.vpn_sku_spans_zones,
            checklist.vpn_is_active_active,
            checklist.gateways_have_a_maintenance_window,
            checklist.addresses_are_attached,
            checklist.names_are_legal,
        ],
        meets_in_zones=[checklist.addresses_are_standard, checklist.gateway_addresses_span_zones],
        protected=["VirtualNetworkGateway", "PublicIPAddress"],
    ),
    Case(
        component=VpnPeering,
        args=VpnPeeringArgs,
        existing=_GATEWAY,
        required={
            "placement": PLACE,
            "gateway_id": GATEWAY,
            "kind": LinkKind.IPSEC,
            "peer_gateway": PEER,
            "shared_key": KEY_HEX,
            "policy": IpsecPolicy(),
        },
        optional={"placement": TAGGED},
        meets=[checklist.names_are_legal],
    ),
    Case(
        component=PrivateEndpoint,
        args=PrivateEndpointArgs,
        required={
            "placement": PLACE,
            "subnet_id": ENDPOINTS,
            "zone_id": VAULT_ZONE,
            "service_id": elsewhere("KeyVault/vaults/vault"),
            "group_id": "vault",
        },
        optional={"placement": TAGGED},
        late=_awaited,
        meets=[checklist.endpoints_need_no_approval, checklist.names_are_legal],
    ),
    Case(
        component=ClosedVault,
        args=ClosedVaultArgs,
        required={
            "placement": PLACE,
            "vault": VAULT,
            "role": ROLE,
            "secrets": {VaultSecret.ENROLMENT_KEY: SecretText(value=KEY_HEX)},
        },
        optional={
            "placement": TAGGED,
            "vault": WHOLE_VAULT,
            "peer_cards": PEER_CARDS,
            "ending": "-v",
            "signing_keys": ["root"],
            "safeguards": LOOSE,
        },
        meets=_VAULT,
        meets_with_logs=[checklist.vault_is_audited],
        protected=["Vault"],
    ),
    Case(
        component=KeyStore,
        args=KeyStoreArgs,
        required={"placement": PLACE, "vault": VAULT, "node_principal_id": PRINCIPAL},
        optional={
            "placement": TAGGED,
            "vault": WHOLE_VAULT,
            "peer_cards": PEER_CARDS,
            "enrolment_key": KEY_HEX,
            "card": {"name": "bank-a"},
            "rpc_users": USERS,
            "operators": [OPERATORS],
            "safeguards": LOOSE,
        },
        meets=_VAULT,
        meets_with_logs=[checklist.vault_is_audited],
        protected=["Vault"],
    ),
    Case(
        component=LedgerStorage,
        args=LedgerStorageArgs,
        required={
            "placement": PLACE,
            "endpoints_subnet_id": ENDPOINTS,
            "blob_zone_id": elsewhere("Network/privateDnsZones/privatelink.blob.core.windows.net"),
            "file_zone_id": elsewhere("Network/privateDnsZones/privatelink.file.core.windows.net"),
            "node_principal_id": PRINCIPAL,
        },
        optional={
            "placement": TAGGED,
            "zone_redundant": False,
            "geo_redundant": False,
            "operators": [OPERATORS],
            "share_gib": 256,
            "safeguards": LOOSE,
        },
        meets=[
            checklist.storage_requires_tls,
            checklist.blobs_are_never_public,
            checklist.storage_denies_by_default,
            checklist.lifecycle_rules_can_run,
            checklist.storage_has_soft_delete,
            checklist.storage_is_replicated,
            checklist.blobs_keep_versions,
            checklist.old_blob_versions_are_deleted,
            checklist.storage_names_are_legal,
            checklist.endpoints_need_no_approval,
            *_ACCESS,
        ],
        protected=["StorageAccount", "BlobContainer", "FileShare", "RandomString"],
    ),
    Case(
        component=LedgerDatabase,
        args=LedgerDatabaseArgs,
        existing=_DATABASE_PLACE,
        required={
            "placement": PLACE,
            "tenant_id": TENANT,
            "subnet_id": f"{NETWORK_ID}/subnets/database",
            "zone_id": given(f"Network/privateDnsZones/{DATABASE_ZONE}"),
            "version": "16",
            "connections_per_identity": 20,
            "identities_per_vcore": 4,
            "identities": ["node-1"],
            "administrator_principal_id": PRINCIPAL,
            "administrator_name": "nodes",
        },
        optional={
            "placement": TAGGED,
            "high_availability": "Disabled",
            "geo_redundant_backup": False,
            "sku": "Standard_E8ds_v4",
            "safeguards": LOOSE,
        },
        meets=[
            checklist.database_survives_a_zone,
            checklist.backups_are_geo_redundant,
            checklist.database_has_a_maintenance_window,
            checklist.database_accepts_entra,
            checklist.database_requires_tls,
            checklist.database_logs_connections,
            checklist.database_is_in_the_network,
            checklist.database_storage_grows,
        ],
        protected=["Server"],
    ),
    Case(
        component=NodeScaleSet,
        args=NodeScaleSetArgs,
        required={
            "placement": PLACE,
            "vms": VMS,
            "subnet_id": NODES,
            "frontend_address": str(PLAN.frontend),
            "listeners": LISTENERS,
            "count": 2,
            "vm_size": "Standard_D2s_v5",
            "identity_id": IDENTITY,
            "custom_data": "",
        },
        optional={
            "placement": TAGGED,
            "vms": WHOLE_VMS,
            "user_data": "dXNlciBkYXRh",
            "computer_name_prefix": "ledger",
        },
        late=_awaited,
        meets=_VMS,
        meets_in_zones=_VMS_IN_ZONES,
        meets_with_logs=[checklist.monitor_agent_is_current],
    ),
    Case(
        component=NetworkAuthority,
        args=NetworkAuthorityArgs,
        existing=[("storage:StorageAccount", {"accountName": BLOBS})],
        required={
            "placement": PLACE,
            "vault": VAULT,
            "peer_cards": {},
            "vms": VMS,
            "keys": ["identity-ca"],
            "root_key": "root",
            "enrolment_keys": {"bank-a": KEY_HEX},
            "legal_names": {},
            "blob_account_name": BLOBS,
            "subnet_id": NODES,
            "frontend_address": str(PLAN.authority_frontend),
            "listeners": [NETWORK_INFO],
            "custom_data": lambda place: base64.b64encode(place.client_id.encode()).decode(),
        },
        optional={
            "placement": TAGGED,
            "vault": WHOLE_VAULT,
            "vms": WHOLE_VMS,
            "user_data": "dXNlciBkYXRh",
            "vm_size": "Standard_D4s_v5",
            "insights_id": INSIGHTS,
            "root_open": True,
            "safeguards": LOOSE,
        },
        late=_awaited,
        meets=[*_VAULT, *_VMS, checklist.keys_are_in_an_hsm],
        meets_in_zones=_VMS_IN_ZONES,
        meets_with_logs=[checklist.vault_is_audited, checklist.monitor_agent_is_current],
        protected=["Vault", "keyvault:Key", "BlobContainer"],
    ),
    Case(
        component=Alerts,
        args=AlertsArgs,
        required={
            "placement": PLACE,
            "resource_group_id": GROUP_ID,
            "watched": {Watched.VAULT: {"": elsewhere("KeyVault/vaults/vault")}},
            "identities": 3,
            "workspace_id": WORKSPACE,
        },
        optional={
            "placement": TAGGED,
            "root_vault_id": elsewhere("KeyVault/vaults/root"),
            "vault_writers": {"": PRINCIPAL},
            "read_vaults": [""],
            "peers": {"bank-b": [PeerInstance("198.51.100.7", "10.2.0.4")]},
            "answering_ports": {"": 8443},
            "share_gib": 100,
            "workbook_url": "https://portal.azure.com/#resource/workbook",
            "emails": [MAIL],
            "budget": 4000,
        },
        meets=[
            checklist.service_health_raises_an_alert,
            checklist.resource_health_raises_an_alert,
            checklist.query_alerts_run_every_five_minutes,
            checklist.metric_alerts_resolve,
        ],
    ),
)

SPANNING: dict[Check, str] = {
    checklist.database_can_archive_its_log: "LedgerDatabase is in a subnet of MemberNetwork",
    checklist.tunnels_are_watched: "Alerts watches resources of VpnGateway",
    checklist.egress_is_watched: "Alerts watches resources of MemberNetwork",
    checklist.storage_is_watched: "Alerts watches resources of LedgerStorage",
    checklist.probes_are_allowed: "NodeScaleSet has the probes, MemberNetwork the rules",
}
"""Lines of the checklist that one component can't meet alone, and why."""

BY_NAME = {case.component.__name__: case for case in CASES}
every_component = pytest.mark.parametrize("name", BY_NAME)


@dataclass(frozen=True)
class Built:
    """One component as it was built alone."""

    component: ComponentResource
    args: Any
    plan: Plan


def build(name: str, *, everything: bool, unknown: bool = False) -> Built:
    case, results = BY_NAME[name], []

    def program() -> None:
        inputs = {**case.required, **case.optional, **case.late()} if everything else case.required
        args = case.args(**inputs)
        results.append((case.component(NAME, args), args))

    plan = planned_program(program, platform(case.existing), unknown=unknown)
    ((component, args),) = results
    return Built(component, args, plan)


@cache
def barest(name: str) -> Built:
    """The component with its required inputs only."""
    return build(name, everything=False)


@cache
def whole(name: str) -> Built:
    """The component with every optional input."""
    return build(name, everything=True)


def plan_of(component: type[ComponentResource]) -> Plan:
    return barest(component.__name__).plan


def whole_plan_of(component: type[ComponentResource]) -> Plan:
    return whole(component.__name__).plan


def findings(check: Check, stack: StackResources) -> list[str]:
    """What does not comply; a missing type is no finding."""
    return [each for each in check(stack) if not isinstance(each, Absent)]


# --- The table is complete -----------------------------------------------------------------------------------------


def found_components() -> set[type[ComponentResource]]:
    modules = [import_module(each.name) for each in pkgutil.walk_packages(components.__path__, "components.")]
    return {
        each
        for module in modules
        for each in vars(module).values()
        if isinstance(each, type) and issubclass(each, ComponentResource) and each.__module__ == module.__name__
    }


def test_every_component_is_built_alone():
    assert {case.component for case in CASES} == found_components(), "a component without a case is untested"


def is_optional(field: Field[Any]) -> bool:
    return field.default is not MISSING or field.default_factory is not MISSING


def default_of(field: Field[Any]) -> Any:
    return field.default_factory() if field.default_factory is not MISSING else field.default


def optional_inputs(args: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Path, value and default of every optional input, of those inside of required ones too."""
    for field in fields(args):
        value, inner = getattr(args, field.name), f"{path}{field.name}"
        if is_dataclass(value) and type(value).__module__.startswith("components."):
            yield from optional_inputs(value, f"{inner}.")
        elif is_optional(field):
            yield inner, value, default_of(field)


@every_component
def test_the_minimal_form_sets_no_optional_input(name: str):
    case = BY_NAME[name]
    assert set(case.required) == {field.name for field in fields(case.args) if not is_optional(field)}, (
        "otherwise the minimal form does not test the defaults"
    )
    assert [path for path, value, default in optional_inputs(barest(name).args) if value != default] == []


@every_component
def test_the_full_form_sets_every_optional_input(name: str):
    unchanged = [path for path, value, default in optional_inputs(whole(name).args) if value == default]
    assert unchanged == [], "an input that no test sets may have no effect"


def test_each_line_of_the_checklist_belongs_to_a_component_or_to_several():
    met = {check for case in CASES for check in (*case.meets, *case.meets_in_zones, *case.meets_with_logs)}
    wanted = {item.met_by for section in CHECKLIST.values() for item in section if item.met_by is not None}
    assert met | set(SPANNING) == wanted, "a new line of the checklist must be tested on its component"
    assert met & set(SPANNING) == set(), "a line that a component meets alone belongs to it"


# --- Every component: it builds, and its required inputs make it fit for production --------------------------------


def ancestors(plan: Plan, registration: Registration) -> Iterator[str]:
    """URNs of a resource's ancestors, the nearest first."""
    while registration.parent in plan.registrations:
        yield registration.parent
        registration = plan.registrations[registration.parent]


@every_component
@pytest.mark.parametrize("built", [barest, whole], ids=["barest", "whole"])
def test_it_has_its_documented_outputs(name: str, built: Callable[[str], Built]):
    made = built(name)
    documented = vars(BY_NAME[name].component).get("__annotations__", {})
    missing = [each for each in documented if not hasattr(made.component, each)]
    assert missing == [], "a program that uses the component alone reads its outputs"
    plan, kind = made.plan, f"decentralized-trust:azure:{name}"
    (own,) = [urn for urn, each in plan.registrations.items() if each.type == kind and each.name == NAME]
    given = {each for each, kind in documented.items() if "Output" in str(kind) and getattr(made.component, each)}
    unregistered = given - plan.component_outputs[own].keys()
    assert unregistered == set(), "the state has every output, and registering them completes the component"
    stray = {each.name for each in resources(plan) if own not in ancestors(plan, each)} - {"awaited"}
    assert stray == set(), "a child of no component is not removed, protected or shown with it"


@every_component
def test_it_can_be_previewed_before_anything_exists(name: str):
    previewed = build(name, everything=False, unknown=True).plan
    assert {each.name for each in resources(previewed)} == {each.name for each in resources(barest(name).plan)}, (
        "the first preview must show everything that the first deployment creates"
    )


MEETS = [(name, check) for name, case in BY_NAME.items() for check in case.meets]
LATER = [(name, check) for name, case in BY_NAME.items() for check in (*case.meets_in_zones, *case.meets_with_logs)]


def of_nothing(check: Check) -> list[str] | None:
    try:
        return check(StackResources(()))
    except LookupError:
        # The evaluator of security rules needs the value.
        return None


def label(value: object) -> str:
    return value if isinstance(value, str) else getattr(value, "__name__", str(value))


@pytest.mark.parametrize(("name", "check"), MEETS, ids=label)
def test_its_required_inputs_meet_the_checklist(name: str, check: Check):
    stack = deployed(barest(name).plan)
    assert findings(check, stack) == [], check.__doc__
    assert check(stack) != of_nothing(check), f"{name} has nothing for {check.__name__}"


@pytest.mark.parametrize(("name", "check"), LATER, ids=label)
def test_only_zones_and_logs_require_optional_inputs(name: str, check: Check):
    assert findings(check, deployed(barest(name).plan)), "it passes without them: move it to `meets`"
    assert findings(check, deployed(whole(name).plan)) == [], check.__doc__


def of_kinds(plan: Plan, kinds: Sequence[str]) -> set[str]:
    found = {kind: {each.name for each in all_of(plan, kind)} for kind in kinds}
    assert all(found.values()), f"not made: {[kind for kind, names in found.items() if not names]}"
    return {name for names in found.values() for name in names}


@every_component
def test_irreplaceable_resources_are_protected_by_default(name: str):
    built = barest(name)
    protected = {each.name for each in resources(built.plan) if each.request.protect}
    assert protected == of_kinds(built.plan, BY_NAME[name].protected), "a mistake must not delete them"
    freed = [each.name for each in resources(whole(name).plan) if each.request.protect]
    assert freed == [], "deletion_protection=False is for temporary stacks"


@every_component
def test_a_protected_component_has_protected_children(name: str):
    case, inputs = BY_NAME[name], {**BY_NAME[name].required, **BY_NAME[name].optional}

    def program() -> None:
        case.component(NAME, case.args(**inputs, **case.late()), opts=ResourceOptions(protect=True))

    plan = planned_program(program, platform(case.existing))
    left = {each.name for each in resources(plan) if not each.request.protect} - {"awaited"}
    assert left == set(), "the caller protects the whole component"


@every_component
def test_every_child_that_supports_tags_has_them(name: str):
    for plan, wanted in ((barest(name).plan, {}), (whole(name).plan, TAGS)):
        for each in filter(takes_tags, resources(plan)):
            tags = {key: value for key, value in (each.inputs.get("tags") or {}).items() if key != MODEL_TAG}
            assert tags == wanted, f"{each.name}: a bank assigns costs by tags"


CONSTANT = {
    *("connectionProtocol", "connectionType", "enabledProtocols", "gatewayType", "properties"),
    *("publicIPAllocationMethod", "vpnType", "zones"),
}
"""Inputs that no setting of a live member changes."""


@every_component
def test_what_azure_refuses_to_change_is_replaced_or_left(name: str):
    for plan in (barest(name).plan, whole(name).plan):
        for each in resources(plan):
            fixed = set(rules._FIXED.get(each.type.removeprefix("azure-native:"), ())) & each.inputs.keys()
            kept = {*each.request.replaceOnChanges, *each.request.ignoreChanges}
            assert fixed - CONSTANT <= kept, f"{each.name}: its update would fail"


KEEP_LOGS = {
    ExpressRoute: ["VirtualNetworkGateway"],
    VpnGateway: ["VirtualNetworkGateway"],
    ClosedVault: ["Vault"],
    KeyStore: ["Vault", "Vault"],
    LedgerDatabase: ["Server"],
    NetworkAuthority: ["Vault"],
}


@pytest.mark.parametrize("component", KEEP_LOGS, ids=label)
def test_logs_go_to_the_workspace(component: type[ComponentResource]):
    plan = whole_plan_of(component)
    settings = all_of(plan, "DiagnosticSetting")
    sources = {plan.ids[each.urn] for kind in KEEP_LOGS[component] for each in all_of(plan, kind)}
    assert {each.inputs["resourceUri"] for each in settings} == sources, "incidents are investigated in these logs"
    assert {each.inputs["workspaceId"] for each in settings} == {WORKSPACE}
    choose = set(KEEP_LOGS[component]) <= {"Vault", "Server"}
    assert {each.inputs.get("logAnalyticsDestinationType") for each in settings} == {
        "Dedicated" if choose else None
    }, "AzureDiagnostics gets its columns with its rows, so queries fail in a new workspace"
    assert not [log for each in settings for log in each.inputs["logs"] if "categoryGroup" in log], (
        "a category group would include logs that nobody reads, and future ones"
    )
    assert all_of(plan_of(component), "DiagnosticSetting") == [], (
        "without a workspace there are no diagnostic settings"
    )


@every_component
def test_it_keeps_confidential_values_out_of_plain_state(name: str):
    for plan in (barest(name).plan, whole(name).plan):
        for each in resources(plan):
            for path in each.secrets & CONFIDENTIAL.keys():
                assert CONFIDENTIAL[path] in each.request.additionalSecretOutputs, (
                    f"{each.name}: Azure may return {path}, which would be in plain text in the state"
                )
            for kind, outputs in RANDOM_SECRETS.items():
                if each.type.endswith(f":{kind}"):
                    assert set(each.request.additionalSecretOutputs) == outputs, f"{each.name} is the secret itself"
        assert not any(plan.secret_component_outputs.values()), "outputs of a component are not secret"


CONFIDENTIAL = {
    "sharedKey": "sharedKey",
    "authorizationKey": "authorizationKey",
    "properties.value": "properties",
}
"""Secret inputs that an answer repeats, with their output."""
RANDOM_SECRETS = {"RandomBytes": {"base64", "hex"}, "RandomPassword": {"result", "bcryptHash"}}


# --- MembershipKeys and MemberGroup --------------------------------------------------------------------------------


def test_private_keys_are_no_outputs():
    plan = plan_of(MembershipKeys)
    assert {each.name for each in resources(plan)} == {f"{NAME}-link", f"{NAME}-signing"}
    (outputs,) = plan.component_outputs.values()
    texts = [plan.answers[each.urn][form] for each in resources(plan) for form in ("base64", "hex")]
    assert not [text for text in texts if text in str(outputs)], "only public keys are outputs"


def test_the_group_and_the_identity_are_in_one_region():
    plan = plan_of(MemberGroup)
    assert {each.inputs["location"] for each in resources(plan)} == {LOCATION}


# --- Monitoring and Alerts -----------------------------------------------------------------------------------------


def test_telemetry_requires_entra_and_logs_are_retained():
    workspace = one(plan_of(Monitoring), "Workspace").inputs
    assert workspace["features"]["disableLocalAuth"] is True, "with a key anybody could report healthy nodes"
    assert workspace["features"]["enableLogAccessUsingOnlyResourcePermissions"] is True
    assert workspace["retentionInDays"] == 90, "an incident is often found weeks later"
    assert workspace["workspaceCapping"] == {"dailyQuotaGb": 1.5}, "a flood of logs must not cost without limit"
    assert one(whole_plan_of(Monitoring), "Workspace").inputs["retentionInDays"] == 365


def granted_to_groups(plan: Plan) -> list[dict[str, Any]]:
    return [each.inputs for each in all_of(plan, "RoleAssignment") if each.inputs["principalType"] == "Group"]


@pytest.mark.parametrize("component", [Monitoring, KeyStore, LedgerStorage], ids=label)
def test_operators_read_only_if_they_are_named(component: type[ComponentResource]):
    assert granted_to_groups(plan_of(component)) == [], "by default no operator may read anything"
    (granted,) = granted_to_groups(whole_plan_of(component))
    assert granted["principalId"] == OPERATORS


def test_operators_may_read_the_applications_passwords_and_no_other_secret():
    plan = whole_plan_of(KeyStore)
    (granted,) = granted_to_groups(plan)
    assert granted["scope"].endswith(f"/secrets/{VaultSecret.RPC_USERS}"), "no person may read the nodes' keys"


def test_alerts_reach_the_named_receivers():
    kinds = ("MetricAlert", "ScheduledQueryRule", "ActivityLogAlert")
    alerts = [each for kind in kinds for each in all_of(plan_of(Alerts), kind)]
    assert {each.type.rsplit(":", 1)[1] for each in alerts} == set(kinds)
    assert all_of(plan_of(Alerts), "ActionGroup") == [], (
        "an action group without receivers hides that nobody is notified"
    )
    whole_plan = whole_plan_of(Alerts)
    group = one(whole_plan, "ActionGroup")
    assert [each["emailAddress"] for each in group.inputs["emailReceivers"]] == [MAIL]
    silent = [
        each.name
        for kind in kinds
        for each in all_of(whole_plan, kind)
        if whole_plan.ids[group.urn] not in str(each.inputs["actions"])
    ]
    assert silent == [], "an alert without a receiver is useless"


def test_a_deleted_vault_is_reported():
    conditions = [str(each.inputs["condition"]) for each in all_of(plan_of(Alerts), "ActivityLogAlert")]
    assert [each for each in conditions if "Microsoft.KeyVault/vaults/delete" in each], "it includes the bank's keys"


# --- MemberNetwork -------------------------------------------------------------------------------------------------


def test_security_rules_apply_to_private_endpoints_in_every_subnet():
    for each in all_of(plan_of(MemberNetwork), "Subnet"):
        assert each.inputs["privateEndpointNetworkPolicies"] == "Enabled", (
            f"{each.name}: by Azure's default no security rule protects the keys"
        )


def test_a_zone_that_exists_is_neither_made_nor_linked_again():
    made = whole("MemberNetwork")
    named = {each.inputs["privateZoneName"] for each in all_of(made.plan, "PrivateZone")}
    linked = {each.inputs["privateZoneName"] for each in all_of(made.plan, "VirtualNetworkLink")}
    assert named == linked == {PrivateZone.BLOB, PrivateZone.FILE}, "a network is linked to one zone of a name"
    (outputs,) = made.plan.component_outputs.values()
    assert outputs["zone_ids"][PrivateZone.VAULT] == VAULT_ZONE, "its owner's zone gets the records"


def test_every_group_ends_with_denials():
    for plan in (plan_of(MemberNetwork), whole_plan_of(MemberNetwork)):
        for group in all_of(plan, "NetworkSecurityGroup"):
            rules = group.inputs["securityRules"]
            for direction in ("Inbound", "Outbound"):
                of_it = sorted(
                    (rule for rule in rules if rule["direction"] == direction), key=lambda rule: rule["priority"]
                )
                last = of_it[-1]
                assert (last["access"], last["priority"], last["protocol"]) == ("Deny", 4096, "*"), (
                    f"{group.name}: Azure's next rule allows the whole virtual network {direction.lower()}"
                )
                access = [rule["access"] for rule in of_it]
                assert access == sorted(access), f"{group.name}: a denial before a flow would block it"


BEYOND = ("10.2.0.10", "10.50.0.10")
"""Addresses of a peer and an application, if they were configured."""


def test_without_address_ranges_nobody_beyond_the_gateway_is_allowed():
    traffic = traffic_of(plan_of(MemberNetwork), routed=["10.2.0.0/16", APPLICATIONS])
    places = [traffic.host(subnet) for subnet in traffic.subnets if subnet != "GatewaySubnet"]
    ports = traffic.boundaries()
    open_ways = [
        (source, destination, port)
        for far in BEYOND
        for near in places
        for source, destination in ((far, near), (near, far))
        for port in ports
        if traffic.allows(source, destination, port)
    ]
    assert open_ways == [], "learned routes alone allow nothing"


def test_only_vms_reach_the_internet_and_only_package_servers():
    for plan, hosts in ((plan_of(MemberNetwork), {"nodes"}), (whole_plan_of(MemberNetwork), {"nodes", "authority"})):
        traffic = traffic_of(plan)
        # PostgreSQL's management paths are not published as flows, so its subnet is left to Azure.
        subnets = set(traffic.subnets) - {"GatewaySubnet", "database"}
        open_ports = {
            (subnet, port)
            for subnet in subnets
            for port in traffic.boundaries()
            if traffic.allows(traffic.host(subnet), INTERNET, port)
        }
        assert open_ports == {(host, port) for host in hosts for port in (80, 443)}, (
            "keys must not leave in another way"
        )


def test_each_range_of_addresses_gets_the_flows_of_its_end():
    traffic = traffic_of(whole_plan_of(MemberNetwork), routed=["10.2.0.0/16", APPLICATIONS])
    peer, application = BEYOND
    nodes, authority = traffic.host("nodes"), traffic.host("authority")
    assert traffic.allows(peer, nodes, 10000), "peer_address_spaces: the ledger connects"
    assert not traffic.allows(peer, nodes, 10200), "a peer may not use RPC"
    assert traffic.allows(application, nodes, 10200), "application_networks: RPC"
    assert not traffic.allows(application, nodes, 10000), "an application may not use P2P"
    assert traffic.allows(peer, authority, 8444), "authority_listeners: peers request certificates"
    assert traffic.allows(nodes, "10.2.1.126", 8444), "peer_authority: nodes request certificates there"


def test_database_and_authority_have_a_subnet_only_if_they_exist():
    names = {each.inputs["subnetName"] for each in all_of(plan_of(MemberNetwork), "Subnet")}
    assert names == {"nodes", "endpoints", "database", "GatewaySubnet"}
    names = {each.inputs["subnetName"] for each in all_of(whole_plan_of(MemberNetwork), "Subnet")}
    assert names == {"nodes", "endpoints", "authority", "GatewaySubnet"}


# --- Gateways and links --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("component", "usual", "chosen"),
    [(VpnGateway, "VpnGw1AZ", "VpnGw2AZ"), (ExpressRoute, "ErGw1AZ", "ErGw2AZ")],
    ids=label,
)
def test_a_gateway_has_the_chosen_size(component: type[ComponentResource], usual: str, chosen: str):
    assert one(plan_of(component), "VirtualNetworkGateway").inputs["sku"]["name"] == usual
    assert one(whole_plan_of(component), "VirtualNetworkGateway").inputs["sku"]["name"] == chosen


def test_only_named_principals_may_read_the_gateway():
    assert all_of(plan_of(VpnGateway), "RoleAssignment") == [], "by default no other bank may read anything"
    plan = whole_plan_of(VpnGateway)
    assert one(plan, "RoleAssignment").inputs["principalId"] == READER


@pytest.mark.parametrize(
    ("component", "key"), [(VpnPeering, "sharedKey"), (ExpressRoute, "authorizationKey")], ids=label
)
def test_a_key_is_stored_as_a_secret_although_it_was_plain_text(component: type[ComponentResource], key: str):
    connections = all_of(plan_of(component), "VirtualNetworkGatewayConnection")
    assert connections
    for each in connections:
        assert each.secrets == {key}, f"{each.name}: a reader of the state could join the bank's network"


def test_links_have_the_standard_policy():
    links = all_of(plan_of(VpnPeering), "VirtualNetworkGatewayConnection")
    assert len(links) == 2, "one to each instance of the peer's gateway: either may fail"
    for each in links:
        assert (each.inputs["connectionProtocol"], each.inputs["enableBgp"]) == ("IKEv2", True)
        (policy,) = each.inputs["ipsecPolicies"]
        assert (policy["ipsecEncryption"], policy["ipsecIntegrity"]) == ("GCMAES256", "GCMAES256")
        assert policy["dhGroup"] == policy["pfsGroup"] == "ECP384"
        assert "sharedKey" in each.request.replaceOnChanges, "Azure ignores a new key on an update"
    for each in all_of(plan_of(VpnPeering), "LocalNetworkGateway"):
        assert "localNetworkAddressSpace" not in each.inputs, "a static route would outlive the peer's own"


@pytest.mark.parametrize("kinds", list(product([LinkKind.IPSEC, LinkKind.VNET_TO_VNET], repeat=2)), ids=str)
def test_links_to_any_two_peers_have_names_of_their_own(kinds: tuple[LinkKind, LinkKind]):
    stems = ["c", "c-first", "c-second", "c-peer", "c-connection", "c-first-peer", "c-first-connection"]
    names = [*stems, *(f"{stem}-{word}" for stem in stems for word in ("gateway", "to", "to-gateway"))]
    first, second = ({name: _urns_of_link(name, kind) for name in names} for kind in kinds)
    shared = {(one, other) for one, other in permutations(names, 2) if first[one] & second[other]}
    assert shared == set(), "two resources of one name end the run of a member that has both peers"


@cache
def _urns_of_link(peer: str, kind: LinkKind) -> frozenset[str]:
    case = BY_NAME["VpnPeering"]

    def program() -> None:
        args = VpnPeeringArgs(**{**case.required, "kind": kind, "peer_gateway": PEER})
        VpnPeering(f"link-{peer}", args)

    plan = planned_program(program, platform(case.existing), unknown=True)
    return frozenset(each.urn for each in resources(plan))


# --- Vaults --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("component", [ClosedVault, KeyStore, NetworkAuthority], ids=label)
def test_a_vault_is_closed_to_azures_own_services_too(component: type[ComponentResource]):
    for each in all_of(plan_of(component), "Vault"):
        vault = each.inputs["properties"]
        assert vault["networkAcls"] == {"defaultAction": "Deny", "bypass": "None"}
        assert vault["sku"]["name"] == "premium", "keys in an HSM are to be had in Premium only"
        assert not any(vault[f"enabledFor{use}"] for use in ("Deployment", "DiskEncryption", "TemplateDeployment"))
    for each in all_of(whole_plan_of(component), "Vault"):
        loose = each.inputs["properties"]
        assert ("enablePurgeProtection" not in loose, loose["softDeleteRetentionInDays"]) == (True, 7), (
            "a temporary vault blocks its name as short as possible"
        )
        assert loose["publicNetworkAccess"] == "Disabled", "no input opens it"


@pytest.mark.parametrize("component", [ClosedVault, KeyStore, NetworkAuthority], ids=label)
def test_secrets_and_keys_stay_when_their_resource_is_removed(component: type[ComponentResource]):
    for plan in (plan_of(component), whole_plan_of(component)):
        results = [*all_of(plan, "Secret"), *all_of(plan, "keyvault:Key")]
        assert results
        assert [each.name for each in results if not each.request.retainOnDelete] == [], (
            "a deleted secret may be the bank's only copy, and deletion needs the closed data plane"
        )


@pytest.mark.parametrize(("component", "most"), [(ClosedVault, 10), (KeyStore, 5), (NetworkAuthority, 9)], ids=label)
def test_a_name_that_makes_a_vaults_too_long_is_refused(component: type[ComponentResource], most: int):
    case = BY_NAME[component.__name__]

    def named(length: int) -> Plan:
        def program() -> None:
            component("v" * length, case.args(**case.required))

        return planned_program(program, platform(case.existing))

    plan = named(most)
    assert max(len(plan.answers[each.urn]["name"]) for each in all_of(plan, "Vault")) == 24, "Azure's limit"
    with pytest.raises(Exception, match=f"its name is {'v' * (most + 1)}.*; wanted .* characters at most"):
        named(most + 1)


CONFIDENTIAL_SECRETS = {"enrolment-key", "rpc-users", "enrolment-keys"}


@pytest.mark.parametrize("component", [ClosedVault, KeyStore, NetworkAuthority], ids=label)
def test_confidential_values_are_secret_in_the_state_too(component: type[ComponentResource]):
    for plan in (plan_of(component), whole_plan_of(component)):
        secret = {each.inputs.get("secretName") for each in all_of(plan, "Secret") if each.secrets}
        named = {each.inputs.get("secretName") for each in all_of(plan, "Secret")}
        assert secret == named & CONFIDENTIAL_SECRETS, "public values are shown in a preview"


def secret_names(plan: Plan) -> set[str | None]:
    return {each.inputs.get("secretName") for each in all_of(plan, "Secret")}


def test_a_key_store_has_the_given_secrets():
    assert secret_names(plan_of(KeyStore)) == {"peers", "rpc-users"}, (
        "without an authority there is no card and no key"
    )
    assert secret_names(whole_plan_of(KeyStore)) == {None, "peers", "rpc-users", "card", "enrolment-key"}
    assert one(whole_plan_of(KeyStore), "RandomPassword").inputs["length"] == 32
    assert one(whole_plan_of(KeyStore), "Secret", f"{NAME}-bank-peer-bank-b").inputs["properties"]["value"] == "{}"


def test_the_programs_secrets_are_in_a_vault_that_no_vm_can_write_to():
    plan = whole_plan_of(KeyStore)
    vaults = {each.name: plan.ids[each.urn] for each in all_of(plan, "Vault")}
    assert set(vaults) == {f"{NAME}-vault", f"{NAME}-bank-vault"}
    names = {plan.answers[each.urn]["name"]: each.name for each in all_of(plan, "Vault")}
    assert {names[each.inputs["vaultName"]] for each in all_of(plan, "Secret")} == {f"{NAME}-bank-vault"}, (
        "an attacker on a VM could change the peers of all agents"
    )
    held = {
        each.inputs["scope"]: each.inputs["roleDefinitionId"].rsplit("/", 1)[1]
        for each in all_of(plan, "RoleAssignment")
        if each.inputs["principalId"] == PRINCIPAL
    }
    assert held[vaults[f"{NAME}-bank-vault"]] == BuiltInRole.KEY_VAULT_SECRETS_USER, "it may only read secrets"
    (own,) = one(plan, "RoleDefinition").inputs["permissions"]
    assert "Microsoft.KeyVault/vaults/secrets/setSecret/action" in own["dataActions"], "agents write the nodes' keys"
    assert held[vaults[f"{NAME}-vault"]] == plan.ids[one(plan, "RoleDefinition").urn].rsplit("/", 1)[1]
    assert len(held) == 2, "the node VMs hold no other role here"


@pytest.mark.parametrize("component", [ClosedVault, NetworkAuthority], ids=label)
def test_a_signing_key_is_for_signing_only(component: type[ComponentResource]):
    keys = [each.inputs["properties"] for each in all_of(whole_plan_of(component), "keyvault:Key")]
    assert keys
    for key in keys:
        assert (key["kty"], key["keyOps"], key["attributes"]["exportable"]) == ("EC-HSM", ["sign"], False), (
            "an attacker on a VM must not get the key"
        )
    assert all_of(plan_of(ClosedVault), "keyvault:Key") == [], "a vault of secrets has no keys"


def test_the_role_on_a_vault_has_only_the_stated_actions():
    (permission,) = one(plan_of(ClosedVault), "RoleDefinition").inputs["permissions"]
    assert permission["dataActions"] == ["Microsoft.KeyVault/vaults/secrets/getSecret/action"]
    assert permission["actions"] == [], "no right on the vault itself"


# --- LedgerStorage and LedgerDatabase ------------------------------------------------------------------------------


def test_storage_refuses_keys_and_local_users():
    for plan in (plan_of(LedgerStorage), whole_plan_of(LedgerStorage)):
        for account in all_of(plan, "StorageAccount"):
            inputs = account.inputs
            assert inputs["allowSharedKeyAccess"] is False, (
                f"{account.name}: a key opens everything, and identifies nobody"
            )
            assert not inputs["isLocalUserEnabled"], f"{account.name}: Entra knows no such user"
            assert not inputs["isSftpEnabled"], f"{account.name}: nothing here speaks SFTP"
            assert inputs["allowCrossTenantReplication"] is False, f"{account.name}: a copy could leave the bank"
            assert inputs["encryption"]["requireInfrastructureEncryption"] is True
            bypass = "AzureServices" if account.name.endswith("-blobs") else "None"
            assert inputs["networkRuleSet"] == {"defaultAction": "Deny", "bypass": bypass}, (
                "Azure's lifecycle rules run as a trusted service; nothing else needs access"
            )
            assert inputs["publicNetworkAccess"] == "Disabled", "no input opens it"


def test_no_vm_may_delete_a_lease():
    for plan in (plan_of(LedgerStorage), whole_plan_of(LedgerStorage)):
        network, leases = (
            next(each.inputs for each in all_of(plan, "RoleAssignment") if each.name.endswith(f"-nodes-{role}"))
            for role in ("network", "leases")
        )
        blobs = "Microsoft.Storage/storageAccounts/blobServices/containers"
        assert leases["condition"] == (
            f"((!(ActionMatches{{'{blobs}/blobs/delete'}})) OR (@Resource[{blobs}:name] StringNotEquals 'leases'))"
        ), "without its lease blob an identity could have two holders"
        assert leases["conditionVersion"] == "2.0"
        assert leases["scope"].endswith("/leases"), "the condition names the role's container"
        assert leases["roleDefinitionId"].endswith(BuiltInRole.STORAGE_BLOB_DATA_CONTRIBUTOR.value), "no custom role"
        assert "condition" not in network, "a replaced document is written, not deleted, and is no lease"


def test_storage_is_as_redundant_as_its_region():
    def skus(plan: Plan) -> list[str]:
        return sorted(each.inputs["sku"]["name"] for each in all_of(plan, "StorageAccount"))

    assert skus(plan_of(LedgerStorage)) == ["Premium_ZRS", "Standard_GZRS"]
    assert skus(whole_plan_of(LedgerStorage)) == ["Premium_LRS", "Standard_LRS"], (
        "only if the region has no higher redundancy"
    )


def test_the_share_has_the_configured_size():
    assert one(plan_of(LedgerStorage), "FileShare").inputs["shareQuota"] == 100
    assert one(whole_plan_of(LedgerStorage), "FileShare").inputs["shareQuota"] == 256


def test_storage_logs_deletions_and_no_renewals():
    (setting,) = all_of(whole_plan_of(LedgerStorage), "DiagnosticSetting")
    assert setting.inputs["resourceUri"].endswith("/blobServices/default")
    assert setting.inputs["workspaceId"] == WORKSPACE
    assert [each["category"] for each in setting.inputs["logs"]] == ["StorageDelete"], (
        "leases are renewed every eight seconds: logs of reads and writes would be most of the costs"
    )


def test_the_database_keeps_a_standby_and_five_weeks_of_backups():
    server = one(plan_of(LedgerDatabase), "Server")
    assert server.inputs["highAvailability"]["mode"] == "ZoneRedundant"
    assert server.inputs["backup"] == {"backupRetentionDays": 35, "geoRedundantBackup": "Enabled"}
    assert server.secrets == {"administratorLoginPassword"}, "nobody signs in with it, so it is secret"
    assert server.inputs["sku"] == {"name": "Standard_D2ds_v5", "tier": "GeneralPurpose"}, (
        "a small server has few connections"
    )
    loose = one(whole_plan_of(LedgerDatabase), "Server").inputs
    assert loose["sku"] == {"name": "Standard_E8ds_v4", "tier": "MemoryOptimized"}, "the tier follows the series"
    assert loose["highAvailability"]["mode"] == "Disabled"
    assert loose["backup"]["geoRedundantBackup"] == "Disabled"
    assert loose["network"]["publicNetworkAccess"] == "Disabled", "no input opens it"


@pytest.mark.parametrize(("name", "module"), [("LedgerDatabase", ledger_database), ("KeyStore", roles)])
def test_what_azure_refuses_for_a_moment_is_repeated(monkeypatch: pytest.MonkeyPatch, name: str, module: Any):
    """A new server is busy, and a new role not known everywhere yet."""
    hooks = list[None]()
    # The recorder has no hooks: a resource without one asks for none.
    monkeypatch.setattr(module, "repeated", lambda: hooks.append(None))
    plan = build(name, everything=True).plan
    own_roles = {plan.ids[each.urn] for each in all_of(plan, "RoleDefinition")}
    refused = [
        each
        for each in plan.registrations.values()
        if each.inputs.get("roleDefinitionId") in own_roles
        or each.type.endswith((":AdministratorsMicrosoftEntra", ":Configuration"))
    ]
    assert len(refused) == len(hooks) > 0, "without a hook a first run fails, and a person repeats it"


# --- VMs -----------------------------------------------------------------------------------------------------------


def profile(plan: Plan) -> dict[str, Any]:
    found: dict[str, Any] = one(plan, "VirtualMachineScaleSet").inputs["virtualMachineProfile"]
    return found


@pytest.mark.parametrize("component", [NodeScaleSet, NetworkAuthority], ids=label)
def test_vms_have_secure_boot_and_are_notified_before_they_are_deleted(component: type[ComponentResource]):
    vms = profile(plan_of(component))
    assert vms["securityProfile"]["securityType"] == "TrustedLaunch"
    assert vms["securityProfile"]["uefiSettings"] == {"secureBootEnabled": True, "vTpmEnabled": True}
    assert vms["scheduledEventsProfile"]["terminateNotificationProfile"]["enable"] is True
    balancer = one(plan_of(component), "LoadBalancer").inputs
    assert all(rule["disableOutboundSnat"] for rule in balancer["loadBalancingRules"]), (
        "VMs leave by the NAT gateway's one address"
    )
    assert "publicIPAddress" not in balancer["frontendIPConfigurations"][0]


@pytest.mark.parametrize("component", [NodeScaleSet, NetworkAuthority], ids=label)
def test_vms_follow_their_optional_inputs(component: type[ComponentResource]):
    plan = whole_plan_of(component)
    scale_set = one(plan, "VirtualMachineScaleSet")
    vms = profile(plan)
    assert scale_set.inputs["zones"] == list(ZONES)
    assert vms["storageProfile"]["imageReference"] == {"id": IMAGE}
    assert vms["userData"] == "dXNlciBkYXRh"
    assert "encryptionAtHost" not in vms["securityProfile"], "False may be refused where the feature is missing"
    assert "awaited" in depends_on(plan, scale_set)


def test_vms_have_the_given_name_and_size():
    assert profile(whole_plan_of(NodeScaleSet))["osProfile"]["computerNamePrefix"] == "ledger"
    size = one(whole_plan_of(NetworkAuthority), "VirtualMachineScaleSet").inputs["sku"]["name"]
    assert size == "Standard_D4s_v5"


def test_the_authority_sends_telemetry_only_if_configured():
    scopes = [each.inputs["scope"] for each in all_of(whole_plan_of(NetworkAuthority), "RoleAssignment")]
    assert INSIGHTS in scopes
    assert not [each for each in all_of(plan_of(NetworkAuthority), "RoleAssignment") if "tells" in each.name]


def test_an_authoritys_vms_depend_on_its_keys_and_its_right_to_sign():
    plan = plan_of(NetworkAuthority)
    waits = depends_on(plan, one(plan, "VirtualMachineScaleSet"))
    assert {f"{NAME}-vault", f"{NAME}-identity-ca", f"{NAME}-signs", f"{NAME}-access-zone-group"} <= waits
    assert {f"{NAME}-root-v", f"{NAME}-root-root", f"{NAME}-root-access-zone-group"} <= waits
    opened = whole_plan_of(NetworkAuthority)
    assert f"{NAME}-opens-root" in depends_on(opened, one(opened, "VirtualMachineScaleSet")), "a first network's root"


def test_nobody_has_a_role_on_the_roots_vault_unless_it_is_open():
    for plan, opened in ((plan_of(NetworkAuthority), False), (whole_plan_of(NetworkAuthority), True)):
        vault = plan.ids[one(plan, "Vault", f"{NAME}-root-v").urn]
        on_it = [each.inputs for each in all_of(plan, "RoleAssignment") if each.inputs["scope"].startswith(vault)]
        role = one(plan, "RoleDefinition", f"{NAME}-root-role")
        assert [each["roleDefinitionId"] for each in on_it] == ([plan.ids[role.urn]] if opened else []), (
            "an attacker on a VM must not be able to sign a CA"
        )
        (permission,) = role.inputs["permissions"]
        assert permission["dataActions"] == [
            f"Microsoft.KeyVault/vaults/{action}" for action in ("keys/read", "keys/sign/action")
        ], "a key that can be backed up can be restored in another vault"
        everyday, root = (
            plan.ids[one(plan, "Vault", f"{NAME}{ending}").urn].rsplit("/", 1)[1] for ending in ("-vault", "-root-v")
        )
        keys = {each.inputs["keyName"]: each.inputs["vaultName"] for each in all_of(plan, "keyvault:Key")}
        assert keys == {"identity-ca": everyday, "root": root}
        assert {each.inputs["vaultName"] for each in all_of(plan, "Secret")} == {everyday}, (
            "this vault has only the root key"
        )


# --- PrivateEndpoint -----------------------------------------------------------------------------------------------


def test_an_endpoint_writes_its_name_into_the_zone():
    plan = plan_of(PrivateEndpoint)
    (configuration,) = one(plan, "PrivateDnsZoneGroup").inputs["privateDnsZoneConfigs"]
    assert configuration["privateDnsZoneId"] == VAULT_ZONE, (
        "otherwise the service's name leads to its closed public address"
    )
    (connection,) = one(plan, "network:PrivateEndpoint").inputs["privateLinkServiceConnections"]
    assert connection["groupIds"] == ["vault"]
