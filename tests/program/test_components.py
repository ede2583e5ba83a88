"""Each component's settings and options on which a bank's money and keys depend."""

import base64
import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network
from itertools import pairwise
from typing import Any

import pytest
from pulumi.runtime.rpc import UNKNOWN

from components.inputs import Placement
from components.ledger_database import vcores
from components.ledger_storage import LedgerStorageArgs
from components.monitoring import MonitoringArgs
from components.network_authority import NetworkAuthorityArgs
from components.node_scale_set import MODEL_TAG, NodeScaleSetArgs, VmArgs
from components.roles import BuiltInRole
from components.vault import VaultArgs
from components.vpn_peering import VpnPeeringArgs
from contract.card import Gateway, IpsecPolicy, LinkKind
from contract.frontend import NETWORK_INFO
from contract.ports import HEALTH_PATH, HEALTH_PORT
from contract.secrets import VaultSecret
from contract.vm_configuration import MODEL_FILE
from lab.azure.program import StackConfiguration
from lab.azure.recorder import Registration
from lab.cards import make_card
from ledger.corda import CORDA
from tests.configuration import SSH_PUBLIC_KEY, configuration
from tests.delivered import files_of_document
from tests.runs import (
    CIRCUIT,
    OPERATORS,
    Plan,
    all_of,
    bank,
    bare,
    depends_on,
    founder,
    large,
    one,
    planned,
    resources,
    sample,
    subnet,
    waits_for,
)
from tests.runs import (
    RPC_USERS as CONFIGURED_USERS,
)

ZONES = ["1", "2", "3"]


def inputs(run: Plan, kind: str, name: str | None = None) -> dict[str, Any]:
    return one(run, kind, name).inputs


def timeouts(registration: Registration) -> set[str]:
    stated = registration.request.customTimeouts
    return {stated.create, stated.update, stated.delete}


# --- MemberNetwork -------------------------------------------------------------------------------------------------


def test_subnets_are_created_one_after_the_other():
    run = large()
    order = ["network-nodes", "network-database", "network-gateway", "network-authority", "network-endpoints"]
    for before, after in pairwise(order):
        assert before in depends_on(run, one(run, "Subnet", after)), (
            f"{after} must wait for {before}: Azure refuses two changes of one network at a time"
        )


def test_subnets_lie_inside_the_address_space_and_do_not_overlap():
    run = large()
    (space,) = inputs(run, "VirtualNetwork")["addressSpace"]["addressPrefixes"]
    assert "subnets" not in inputs(run, "VirtualNetwork"), (
        "subnets that are stated twice delete each other at an update"
    )
    blocks = [IPv4Network(each.inputs["addressPrefix"]) for each in all_of(run, "Subnet")]
    assert all(block.subnet_of(IPv4Network(space)) for block in blocks)
    assert not [(one, other) for one in blocks for other in blocks if one is not other and one.overlaps(other)]


def test_the_database_has_a_separate_subnet():
    (delegation,) = subnet(large(), "database")["delegations"]
    assert delegation["serviceName"] == "Microsoft.DBforPostgreSQL/flexibleServers"
    assert not [each.name for each in all_of(large(), "Subnet") if "delegations" in each.inputs][1:]


def test_outbound_traffic_of_nodes_has_the_nat_gateways_one_address():
    run = large()
    gateway = one(run, "NatGateway")
    assert subnet(run, "nodes")["natGateway"]["id"] == run.ids[gateway.urn], (
        "the called service sees one known address"
    )
    assert [each["id"] for each in gateway.inputs["publicIpAddresses"]] == [
        run.ids[one(run, "PublicIPAddress", "network-nat-ip").urn]
    ]
    assert not [name for name in ("endpoints", "database", "GatewaySubnet") if "natGateway" in subnet(run, name)]


def test_private_names_resolve_only_inside_the_member():
    run = large()
    network_id = run.ids[one(run, "VirtualNetwork").urn]
    zones = {each.inputs["privateZoneName"] for each in all_of(run, "PrivateZone")}
    linked = {each.inputs["privateZoneName"]: each.inputs for each in all_of(run, "VirtualNetworkLink")}
    assert zones == set(linked), "without a link to the network, nodes would resolve the public name"
    assert {each["virtualNetwork"]["id"] for each in linked.values()} == {network_id}
    assert not any(each["registrationEnabled"] for each in linked.values()), (
        "a VM must not register itself as a service"
    )


# --- VpnGateway and ExpressRoute -----------------------------------------------------------------------------------


def test_the_vpn_gateway_survives_the_loss_of_an_instance():
    run = large()
    gateway = inputs(run, "VirtualNetworkGateway", "network-vpn-gateway")
    assert (gateway["gatewayType"], gateway["vpnType"]) == ("Vpn", "RouteBased")
    assert gateway["activeActive"] is True, "a standby instance takes over in minutes, an active one at once"
    assert gateway["enableBgp"] is True
    assert gateway["bgpSettings"]["asn"] == 64512
    addresses = [each["publicIPAddress"]["id"] for each in gateway["ipConfigurations"]]
    assert len(set(addresses)) == 2
    assert {each["subnet"]["id"].rsplit("/", 1)[1] for each in gateway["ipConfigurations"]} == {"GatewaySubnet"}


@pytest.mark.parametrize(
    ("run", "sku", "generation"),
    [(lambda: bank("bank-a"), "VpnGw1AZ", "Generation1"), (large, "VpnGw2AZ", "Generation2")],
)
def test_the_generation_follows_the_sku(run: Callable[[], Plan], sku: str, generation: str):
    (gateway,) = [
        each.inputs for each in all_of(run(), "VirtualNetworkGateway") if each.inputs["gatewayType"] == "Vpn"
    ]
    assert (gateway["sku"]["name"], gateway["sku"]["tier"]) == (sku, sku)
    assert gateway["vpnGatewayGeneration"] == generation, (
        "VpnGw1AZ is of the first generation only, 4 and 5 of the second"
    )


@pytest.mark.parametrize("kind", ["VirtualNetworkGateway", "VirtualNetworkGatewayConnection"])
def test_gateways_have_sufficient_timeouts(kind: str):
    for each in all_of(large(), kind):
        assert timeouts(each) == {"2h"}, f"{each.name}: 45 minutes are usual, and a timeout leaves a broken gateway"
        assert each.request.deleteBeforeReplace, f"{each.name}: its subnet or its ends accept one change at a time"


def test_no_record_is_written_before_its_zone_is_linked():
    run = large()
    links = {each.name for each in all_of(run, "VirtualNetworkLink")}
    groups = all_of(run, "PrivateDnsZoneGroup")
    assert groups
    for each in groups:
        assert depends_on(run, each) & links, f"{each.name}: who waits for it asks for the name at once"


def test_gateways_are_not_deleted_by_mistake():
    run = large()
    removed = {
        each.name for each in resources(run) if each.request.protect and each.type.startswith("azure-native:network:")
    }
    assert removed == {
        "network-vpn-gateway",
        "network-express-route-gateway",
        "network-vpn-first-ip",
        "network-vpn-second-ip",
    }, "a replaced gateway has other addresses, which every peer must configure"


def test_the_circuit_is_joined_with_its_key_as_a_secret():
    run = large()
    connection = one(run, "VirtualNetworkGatewayConnection", "network-express-route-connection")
    assert connection.inputs["connectionType"] == "ExpressRoute"
    assert connection.inputs["peer"]["id"] == CIRCUIT
    gateway = one(run, "VirtualNetworkGateway", "network-express-route-gateway")
    assert connection.inputs["virtualNetworkGateway1"]["id"] == run.ids[gateway.urn]
    assert connection.secrets == {"authorizationKey"}, "anybody could join the bank's circuit with it"
    assert gateway.inputs["sku"]["name"].endswith("AZ"), "the circuit must survive the loss of a zone"
    assert gateway.inputs["allowRemoteVnetTraffic"] is True, "it would drop what comes from a peer on the circuit"
    assert "publicIPAddress" not in gateway.inputs["ipConfigurations"][0], (
        "Azure assigns it, and then fails updates that name one"
    )
    assert gateway.name not in depends_on(run, one(run, "VirtualNetworkGateway", "network-vpn-gateway")), (
        "Azure creates both kinds in any order: peers need not wait for the circuit's gateway"
    )


def test_every_gateway_is_maintained_at_a_known_hour():
    run = large()
    maintained = {each.inputs["resourceName"] for each in all_of(run, "ConfigurationAssignment")}
    gateways = {run.answers[each.urn]["name"] for each in all_of(run, "VirtualNetworkGateway")}
    assert maintained == gateways, "both instances restart during maintenance, which must be at night"
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    for each in all_of(run, "MaintenanceConfiguration"):
        begins = datetime.strptime(f"{each.inputs['startDateTime']} +0000", "%Y-%m-%d %H:%M %z")
        assert abs(begins - tomorrow) < timedelta(days=1), "Azure refuses a window that began in the past"
        assert list(each.request.ignoreChanges) == ["startDateTime", "tags"], "tomorrow's run changes nothing"


# --- VpnPeering ----------------------------------------------------------------------------------------------------


def test_a_new_key_replaces_the_connection():
    connections = all_of(large(), "VirtualNetworkGatewayConnection")
    keys = {each.name: {"sharedKey", "authorizationKey"} & each.inputs.keys() for each in connections}
    assert [len(each) for each in keys.values()] == [1] * 4, "three lead to the peers' gateways, one to the circuit"
    for each in connections:
        assert keys[each.name] <= set(each.request.replaceOnChanges), (
            f"{each.name}: Azure ignores a new key on an update"
        )
        assert each.request.deleteBeforeReplace, f"{each.name}: two connections to one peer can't exist"


def test_a_dead_peer_is_detected_before_bgp_would():
    found = [
        each.inputs["dpdTimeoutSeconds"]
        for each in all_of(large(), "VirtualNetworkGatewayConnection")
        if "sharedKey" in each.inputs
    ]
    assert max(found) < 180, "the BGP session alone gives up after 180 seconds"


# --- KeyStore ------------------------------------------------------------------------------------------------------


def test_purge_protection_is_true_or_left_out():
    assert "enablePurgeProtection" not in inputs(sample("dev"), "Vault", "keys-vault")["properties"], (
        "Azure refuses false"
    )


def test_a_secret_or_key_is_not_deleted_with_its_resource():
    for run in (large(), sample("dev")):
        for each in (*all_of(run, "Secret"), *all_of(run, "keyvault:Key")):
            assert each.request.retainOnDelete, (
                f"{each.name}: the deletion would need the data plane, which is closed"
            )
        for each in all_of(run, "Secret"):
            wanted = "text/plain" if each.name == "keys-bank-enrolment-key" else "application/json"
            assert each.inputs["properties"]["contentType"] == wanted


def secret_value(run: Plan, name: str) -> Any:
    return json.loads(one(run, "Secret", name).inputs["properties"]["value"])


def test_the_applications_passwords_are_generated():
    run = large()
    users = secret_value(run, "keys-bank-rpc-users")
    assert [(user["name"], user["permissions"]) for user in users] == [
        (user["name"], user["permissions"]) for user in CONFIGURED_USERS
    ], "the nodes enforce the configured permissions"
    passwords = [user["password"] for user in users]
    assert len(set(passwords)) == len(passwords), "an application must not be able to act as another"
    assert min(map(len, passwords)) >= 32
    assert secret_value(bank("bank-b"), "keys-bank-rpc-users") == [], "without applications there is no user"


def test_the_secrets_have_the_names_that_agents_read():
    run = large()
    names = {each.inputs.get("secretName"): each.name for each in all_of(run, "Secret")}
    for name, logical in {
        VaultSecret.PEERS: {"keys-bank-peers", "authority-peers"},
        VaultSecret.CARD: {"keys-bank-card"},
        VaultSecret.ENROLMENT_KEY: {"keys-bank-enrolment-key"},
        VaultSecret.RPC_USERS: {"keys-bank-rpc-users"},
        VaultSecret.ENROLMENT_KEYS: {"authority-enrolment-keys"},
        VaultSecret.AGREED_NAMES: {"authority-agreed-names"},
    }.items():
        assert names[name] in logical, "an agent that reads another name would wait forever"


# Of API version 2026-02-01, read on 2026-11-29: github.com/Azure/bicep-types-az,
# generated/keyvault/microsoft.keyvault/2026-02-01/types.md.
NEXT_VAULT_API = {
    "Vault": {
        *("enablePurgeProtection", "enableRbacAuthorization", "enableSoftDelete", "enabledForDeployment"),
        *("enabledForDiskEncryption", "enabledForTemplateDeployment", "networkAcls.bypass"),
        *("networkAcls.defaultAction", "publicNetworkAccess", "sku.family", "sku.name", "softDeleteRetentionInDays"),
        "tenantId",
    },
    "Secret": {"contentType", "value"},
    "keyvault:Key": {"attributes.enabled", "attributes.exportable", "curveName", "keyOps", "kty"},
}


@pytest.mark.parametrize("kind", NEXT_VAULT_API)
def test_inputs_of_vaults_exist_in_the_next_version_of_their_api(kind: str):
    for each in all_of(large(), kind):
        stated = {
            f"{key}.{inner}" if isinstance(value, dict) else key
            for key, value in each.inputs["properties"].items()
            for inner in (value if isinstance(value, dict) else [key])
        }
        assert stated <= NEXT_VAULT_API[kind], (
            f"{each.name}: docs/retirements.md promises that the import is the change"
        )


def test_the_own_card_is_in_the_vault_and_no_vm_depends_on_it():
    for run in (large(), bare()):
        assert secret_value(run, "keys-bank-card") == run.outputs["member"], (
            "peers get the signed text, including nulls"
        )
        for vms in all_of(run, "VirtualMachineScaleSet"):
            waits = waits_for(run, vms)
            assert "keys-bank-card" not in [each.name for each in waits], (
                "the card depends on the VPN gateway, which takes 45 minutes"
            )
            assert not [each.name for each in waits if "VirtualNetworkGateway" in each.type], (
                f"{vms.name} depends on a gateway, which takes 45 minutes"
            )
    waits = waits_for(large(), one(large(), "Secret", "keys-bank-card"))
    assert "network-vpn-gateway" in [each.name for each in waits], "the card states the gateway's addresses"


# --- NetworkAuthority ----------------------------------------------------------------------------------------------


def test_the_authoritys_keys_are_for_signing_only_and_not_exportable():
    run = large()
    keys = all_of(run, "keyvault:Key")
    vaults = {each.inputs["keyName"]: each.inputs["vaultName"] for each in keys}
    everyday, root = (named(run, "Vault", f"authority{which}") for which in ("-vault", "-root-v"))
    assert vaults == {"identity-ca": everyday, "network-parameters": everyday, "root": root}
    for each in keys:
        properties = each.inputs["properties"]
        assert (properties["kty"], properties["curveName"]) == ("EC-HSM", "P-256"), (
            "generated in the HSM, on Corda's curve"
        )
        assert properties["keyOps"] == ["sign"], f"{each.name}: an attacker on the VM must not gain more"
        assert properties["attributes"]["exportable"] is False, f"{each.name}: the root key is not exportable"
        assert each.request.protect, f"{each.name}: all members trust it permanently"


def test_the_authoritys_vaults_are_as_closed_as_the_nodes_vault():
    run = large()
    differing = ("vaultName", "resourceName")
    nodes, *authoritys = (
        {key: value for key, value in inputs(run, "Vault", name).items() if key not in differing}
        for name in ("keys-vault", "authority-vault", "authority-root-v")
    )
    assert authoritys == [nodes, nodes], "all vaults have the same settings"


def test_the_root_is_open_for_the_hours_that_the_configuration_says():
    now = datetime.now(UTC)
    times = (now + timedelta(hours=8), now - timedelta(minutes=1))
    opened, closed = (founder(rootOpenUntil=f"{time:%Y-%m-%dT%H:%M:%SZ}") for time in times)
    names = [{each.name for each in all_of(run, "RoleAssignment")} for run in (opened, closed)]
    assert names[0] - names[1] == {"authority-opens-root"}, "a run after that time removes the role"
    assert names[1] < names[0]
    data = [inputs(run, "VirtualMachineScaleSet", "authority-hosts-vms") for run in (opened, closed)]
    profiles = [each["virtualMachineProfile"]["osProfile"]["customData"] for each in data]
    assert profiles[0] == profiles[1], "no VM is replaced when the root opens or closes"


def test_each_generation_of_the_identity_ca_has_a_key_and_older_keys_stay():
    names = {each.inputs["keyName"] for each in all_of(founder(caGeneration=3), "keyvault:Key")}
    assert names == {"identity-ca", "network-parameters", "identity-ca-2", "identity-ca-3", "root"}, (
        "a protected key that leaves the program stops the run, and an older CA still signs its revocation list"
    )


def held(run: Plan, identity: str) -> set[tuple[str, str]]:
    """Roles and scopes' last two steps of a user-assigned identity."""
    principal = run.answers[one(run, "UserAssignedIdentity", identity).urn]["principalId"]
    return {
        (each.inputs["roleDefinitionId"].rsplit("/", 1)[1], "/".join(each.inputs["scope"].rsplit("/", 2)[1:]))
        for each in all_of(run, "RoleAssignment")
        if each.inputs["principalId"] == principal
    }


def named(run: Plan, kind: str, name: str) -> str:
    return str(run.ids[one(run, kind, name).urn].rsplit("/", 1)[1])


def test_the_authoritys_identity_has_roles_on_its_own_keys_and_register_only():
    run = large()
    (permission,) = inputs(run, "RoleDefinition", "authority-role")["permissions"]
    assert set(permission["dataActions"]) == {
        f"Microsoft.KeyVault/vaults/{action}"
        for action in ("keys/read", "keys/sign/action", "secrets/getSecret/action")
    }, "it can neither create, change nor delete a key, nor write a secret"
    assert permission["actions"] == []
    assert held(run, "authority-identity") == {
        (named(run, "RoleDefinition", "authority-role"), f"vaults/{named(run, 'Vault', 'authority-vault')}"),
        (BuiltInRole.STORAGE_BLOB_DATA_CONTRIBUTOR.value, "containers/authority"),
        (
            BuiltInRole.MONITORING_METRICS_PUBLISHER.value,
            f"components/{named(run, 'Component', 'monitoring-insights')}",
        ),
    }
    assert not [
        each.name
        for each in all_of(run, "RoleAssignment")
        if each.inputs["scope"].endswith("/containers/authority") and each.name != "authority-keeps"
    ], "a node must not be able to write a certificate into the register"


def test_the_authority_has_the_card_and_an_enrolment_key_of_each_member():
    run = large()
    members = {"bank-a", "bank-b", "bank-c"}
    agreed = secret_value(run, "authority-enrolment-keys")
    assert set(agreed) == members, "its own bank's nodes authenticate their requests too"
    assert len(set(agreed.values())) == len(members), "no member can send requests in another's name"
    assert agreed["bank-a"] == inputs(run, "Secret", "keys-bank-enrolment-key")["properties"]["value"]
    assert set(secret_value(run, "authority-peers")) == members - {"bank-a"}, "it looks names up on these cards"
    assert {each.name for each in all_of(run, "Secret") if each.name.startswith("authority-peer-")} == {
        "authority-peer-bank-b",
        "authority-peer-bank-c",
    }


def test_both_sides_of_an_enrolment_have_one_key():
    agreed = secret_value(bank("bank-a"), "authority-enrolment-keys")
    for name in ("bank-b", "bank-c"):
        theirs = inputs(bank(name), "Secret", "keys-bank-enrolment-key")["properties"]["value"]
        assert theirs == agreed[name], "otherwise the authority refuses each request, and the node each answer"


def test_the_authority_is_two_vms_apart_from_the_nodes():
    run = large()
    vms = inputs(run, "VirtualMachineScaleSet", "authority-hosts-vms")
    assert vms["sku"]["capacity"] == 2, "one may fail"
    assert vms["identity"]["userAssignedIdentities"] == [
        run.ids[one(run, "UserAssignedIdentity", "authority-identity").urn]
    ], "it has a separate identity"
    (interface,) = vms["virtualMachineProfile"]["networkProfile"]["networkInterfaceConfigurations"]
    assert interface["ipConfigurations"][0]["subnet"]["id"].endswith("/subnets/authority")
    balancer = inputs(run, "LoadBalancer", "authority-hosts-balancer")
    (frontend,) = balancer["frontendIPConfigurations"]
    assert frontend["privateIPAddress"] == "10.1.1.126", "its card names it"
    assert {rule["frontendPort"] for rule in balancer["loadBalancingRules"]} == {8444, 8445}
    assert {(probe["protocol"], probe["port"]) for probe in balancer["probes"]} == {("Tcp", 8444), ("Tcp", 8445)}, (
        "a VM that is alive, but can't read its vault, does not listen, and must get no connection"
    )


COLLECTION = {
    "monitoring-collection-policy": "Azure Policy associates new VMs only: it would send no counters and logs",
    "monitoring-collection-associates": "the policy could not associate it",
    "monitoring-collection-reads-workspace": "the policy could not associate it",
}


@pytest.mark.parametrize(
    ("name", "otherwise"),
    [
        ("authority-signs", "it could sign nothing"),
        ("authority-keeps", "it could store no register"),
        ("authority-network-parameters", "it could sign nothing"),
        ("authority-enrolment-keys", "it could authenticate no member"),
        ("authority-peers", "it would know no peer's names"),
        ("authority-access-zone-group", "the vault's name would lead to its closed public address"),
        ("authority-container", "it could store no register"),
        ("storage-blob-access-zone-group", "it could store no register"),
        *COLLECTION.items(),
    ],
)
def test_an_authoritys_vms_depend_on_their_prerequisites(name: str, otherwise: str):
    run = large()
    assert name in depends_on(run, one(run, "VirtualMachineScaleSet", "authority-hosts-vms")), otherwise


def test_the_register_is_made_after_the_accounts_endpoint():
    waits = depends_on(large(), one(large(), "BlobContainer", "authority-container"))
    assert {"storage-blob-access-endpoint", "storage-blob-lifecycle", "storage-leases"} <= waits, (
        "Azure may refuse the endpoint with StorageAccountOperationInProgress while it makes a container"
    )


VALUES = {
    "a share's squash": ("FileShare", "storage-share", {"rootSquash": "NoRootSquash"}, "agents chown nodes' folders"),
    "a storage account's login": (
        "StorageAccount",
        "storage-files",
        {"defaultToOAuthAuthentication": True},
        "the portal asks for a person's role, not for a key",
    ),
    "a server's maintenance": (
        "Server",
        "database-server",
        {"maintenanceWindow": {"customWindow": "Enabled", "dayOfWeek": 0, "startHour": 3, "startMinute": 0}},
        "it restarts on Sunday night, not at an hour of Azure's choice",
    ),
    **{
        f"{name}'s maintenance": (
            "MaintenanceConfiguration",
            f"network-{name}-maintenance",
            {"duration": "05:00", "recurEvery": "Day", "timeZone": "UTC"},
            "every night, and the shortest that Azure allows",
        )
        for name in ("vpn-gateway", "express-route-gateway")
    },
    "a connection's mode": (
        "VirtualNetworkGatewayConnection",
        "link-bank-b-connection",
        {"connectionMode": "Default"},
        "if both members only respond, neither opens the tunnel",
    ),
}


@pytest.mark.parametrize(("kind", "name", "values", "why"), VALUES.values(), ids=VALUES)
def test_a_single_value_that_decides_is_stated(kind: str, name: str, values: dict[str, Any], why: str):
    assert values.items() <= inputs(large(), kind, name).items(), why


def test_a_gateways_maintenance_starts_at_night():
    for each in all_of(large(), "MaintenanceConfiguration"):
        assert each.inputs["startDateTime"].endswith(" 01:00"), "banks trade at noon"


@pytest.mark.parametrize(
    ("kind", "stated"), [("Server", {"1h"}), ("VirtualMachineScaleSet", {"1h", "2h"})], ids=["database", "vms"]
)
def test_what_takes_long_has_the_time(kind: str, stated: set[str]):
    for each in all_of(large(), kind):
        assert timeouts(each) == stated, f"{each.name}: a timeout leaves a half-made resource to Azure"


def test_a_custom_role_is_assigned_long_after_its_creation():
    run = founder(rootOpenUntil=f"{datetime.now(UTC) + timedelta(hours=8):%Y-%m-%dT%H:%M:%SZ}")
    definitions = {run.ids[each.urn]: each for each in all_of(run, "RoleDefinition")}
    assignments = [each for each in all_of(run, "RoleAssignment") if each.inputs["roleDefinitionId"] in definitions]
    assert len(assignments) == len(definitions) == 3, "of the nodes, of the authority, and of the root"
    assert len(all_of(large(), "RoleDefinition")) == 3, "Azure knows the root's by the time it is opened"
    for each in assignments:
        before = {
            made.type.rsplit(":", 1)[1] for made in waits_for(run, definitions[each.inputs["roleDefinitionId"]])
        }
        assert before <= {"MemberGroup", "ResourceGroup"}, "a role depends only on its group"
        after = {made.type.rsplit(":", 1)[1] for made in waits_for(run, each)}
        assert {"PrivateEndpoint", "PrivateDnsZoneGroup", "Subnet"} <= after, (
            f"{each.name}: Azure answers RoleDefinitionDoesNotExist seconds after a role's creation"
        )


def test_nodes_may_not_delete_their_keys():
    run = large()
    (permission,) = inputs(run, "RoleDefinition", "keys-node-role")["permissions"]
    data_actions = [action.lower() for action in permission["dataActions"]]
    assert not [action for action in data_actions if "delete" in action or "purge" in action or "*" in action], (
        "an attacker on a node must not be able to delete the keys of all nodes"
    )
    assert {action.rsplit("/", 2)[1] for action in data_actions} == {"getsecret", "setsecret", "readmetadata"}
    assert permission["actions"] == [], "no right on the vault itself: it can't change its rules"
    role = run.ids[one(run, "RoleDefinition", "keys-node-role").urn]
    assert inputs(run, "RoleAssignment", "keys-nodes")["roleDefinitionId"] == role


def test_the_nodes_hold_no_more_roles_than_they_need():
    run = large()
    identity = run.answers[one(run, "UserAssignedIdentity", "bank-a-node-identity").urn]["principalId"]
    held = {
        (each.inputs["roleDefinitionId"].rsplit("/", 1)[1], each.inputs["scope"].rsplit("/", 2)[1])
        for each in all_of(run, "RoleAssignment")
        if each.inputs["principalId"] == identity
    }
    own_role = run.ids[one(run, "RoleDefinition", "keys-node-role").urn].rsplit("/", 1)[1]
    assert held == {
        (own_role, "vaults"),
        (BuiltInRole.KEY_VAULT_SECRETS_USER.value, "vaults"),
        (BuiltInRole.STORAGE_BLOB_DATA_CONTRIBUTOR.value, "containers"),
        (BuiltInRole.MONITORING_METRICS_PUBLISHER.value, "components"),
    }, "an attacker on a node must gain nothing beyond its keys, leases and metrics"


def test_operators_only_read():
    run = large()
    held = {
        each.inputs["roleDefinitionId"].rsplit("/", 1)[1]: each.inputs
        for each in all_of(run, "RoleAssignment")
        if each.inputs["principalId"] == OPERATORS
    }
    scopes = {role: each["scope"].rsplit("/", 2)[1] for role, each in held.items()}
    assert scopes == {
        BuiltInRole.KEY_VAULT_SECRETS_USER.value: "secrets",
        BuiltInRole.STORAGE_BLOB_DATA_READER.value: "containers",
        BuiltInRole.MONITORING_READER.value: "resourceGroups",
    }, "no person may read the vault's keys"
    assert held[BuiltInRole.KEY_VAULT_SECRETS_USER.value]["scope"].endswith("/rpc-users"), (
        "only the applications' passwords"
    )
    assert held[BuiltInRole.STORAGE_BLOB_DATA_READER.value]["scope"].endswith("/network"), (
        "certificates, but no lease"
    )
    assert {each["principalType"] for each in held.values()} == {"Group"}, "the group stays when its members change"


def test_every_role_names_the_kind_of_its_principal():
    for each in all_of(large(), "RoleAssignment"):
        assert each.inputs["principalType"] in ("ServicePrincipal", "Group"), (
            f"{each.name}: Azure looks a principal up that Entra has not replicated yet, and fails"
        )
        assert each.request.deleteBeforeReplace, f"{each.name}: Azure refuses a role that is assigned twice"


# --- PrivateEndpoint -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("component", "group", "zone"),
    [
        ("keys-access", "vault", "privatelink.vaultcore.azure.net"),
        ("keys-bank-access", "vault", "privatelink.vaultcore.azure.net"),
        ("storage-blob-access", "blob", "privatelink.blob.core.windows.net"),
        ("storage-file-access", "file", "privatelink.file.core.windows.net"),
    ],
)
def test_a_service_has_its_own_name_inside_of_the_network(component: str, group: str, zone: str):
    run = large()
    endpoint, names = (
        one(run, "PrivateEndpoint", f"{component}-endpoint"),
        inputs(run, "PrivateDnsZoneGroup", f"{component}-zone-group"),
    )
    assert endpoint.inputs["subnet"]["id"].endswith("/subnets/endpoints")
    (connection,) = endpoint.inputs["privateLinkServiceConnections"]
    assert connection["groupIds"] == [group], "with a wrong sub-resource the address does not answer"
    assert connection["privateLinkServiceId"] in run.ids.values()
    assert names["privateEndpointName"] == run.answers[endpoint.urn]["name"]
    (record,) = names["privateDnsZoneConfigs"]
    assert record["privateDnsZoneId"].endswith(f"/{zone}"), (
        "otherwise the name leads to the public address, which is closed"
    )


# --- LedgerStorage -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("run", "blobs", "files"), [(large, "Standard_GZRS", "Premium_ZRS"), (bare, "Standard_GRS", "Premium_LRS")]
)
def test_storage_has_the_regions_highest_redundancy(run: Callable[[], Plan], blobs: str, files: str):
    accounts = {each.name: each.inputs["sku"]["name"] for each in all_of(run(), "StorageAccount")}
    assert accounts == {"storage-blobs": blobs, "storage-files": files}, "leases must outlive a zone"


def test_network_information_can_be_restored():
    rules = inputs(large(), "ManagementPolicy")["policy"]["rules"]
    actions = {rule["name"]: rule["definition"]["actions"] for rule in rules}
    assert actions["old-versions"] == {"version": {"delete": {"daysAfterCreationGreaterThan": 90}}}, (
        "old versions expire, and current blobs do not"
    )
    marks = next(rule["definition"] for rule in rules if "baseBlob" in rule["definition"]["actions"])
    assert marks["filters"]["prefixMatch"] == ["leases/vms/"], "the identities' records do not expire"
    service = inputs(large(), "BlobServiceProperties")
    assert service["isVersioningEnabled"] is True, "a faulty write must be reversible"
    assert service["changeFeed"] == {"enabled": True, "retentionInDays": 90}, "it would grow for ever"
    for policy in ("deleteRetentionPolicy", "containerDeleteRetentionPolicy"):
        assert service[policy]["enabled"] is True
        assert service[policy]["days"] == 30, "a deletion that nobody sees for weeks can be undone"
    assert inputs(large(), "FileServiceProperties")["shareDeleteRetentionPolicy"]["enabled"] is True
    assert {each.inputs["containerName"] for each in all_of(large(), "BlobContainer")} == {
        "network",
        "leases",
        "authority",
    }


def test_nodes_may_write_their_two_containers_only():
    run = large()
    principal = run.answers[one(run, "UserAssignedIdentity", "bank-a-node-identity").urn]["principalId"]
    scopes = {
        each.inputs["scope"].split("/storageAccounts/")[1].split("/", 1)[1]
        for each in all_of(run, "RoleAssignment")
        if each.inputs["principalId"] == principal and "/storageAccounts/" in each.inputs["scope"]
    }
    assert scopes == {f"blobServices/default/containers/{name}" for name in ("network", "leases")}, (
        "with a role on the account they could write the authority's register too"
    )


def test_the_share_is_nfs_in_a_premium_account():
    run = large()
    share, account = one(run, "FileShare"), inputs(run, "StorageAccount", "storage-files")
    assert share.inputs["enabledProtocols"] == "NFS", "SMB would require a key"
    assert account["kind"] == "FileStorage", "Azure has NFS on premium files only"
    assert share.inputs["accountName"] == account["accountName"]
    assert "storage-file-service" in depends_on(run, share), "the service's settings apply to later shares"


# --- LedgerDatabase ------------------------------------------------------------------------------------------------


def test_the_database_accepts_passwords_of_epoch_roles_and_closes_the_public_network():
    run = large()
    server = inputs(run, "Server")
    assert server["authConfig"]["activeDirectoryAuth"] == "Enabled", "the agents sign in with their VM's identity"
    assert server["authConfig"]["passwordAuth"] == "Enabled", "an epoch's role has a password, generated in memory"
    assert len(server["administratorLoginPassword"]) == 64, (
        "Azure requires a first administrator, with an unguessable name"
    )
    assert "administratorLoginPassword" in one(run, "Server").secrets, "its password is secret"
    assert server["network"]["publicNetworkAccess"] == "Disabled"
    assert server["network"]["delegatedSubnetResourceId"].endswith("/subnets/database")
    assert server["network"]["privateDnsZoneArmResourceId"].endswith(".postgres.database.azure.com")
    settings = {each.inputs["configurationName"]: each.inputs["value"] for each in all_of(run, "Configuration")}
    assert settings["require_secure_transport"] == "on"
    assert settings["ssl_min_protocol_version"] == "TLSv1.2"
    assert settings["log_connections"] == settings["log_disconnections"] == "on", (
        "sign-ins are logged; `test_a_nodes_figures_take_one_connection` limits their number"
    )


@pytest.mark.parametrize(("run", "mode"), [(large, "ZoneRedundant"), (lambda: bank("bank-b"), "Disabled")])
def test_the_standby_is_in_another_zone_if_the_bank_pays_for_it(run: Callable[[], Plan], mode: str):
    assert inputs(run(), "Server")["highAvailability"]["mode"] == mode


def test_a_server_whose_storage_has_grown_is_not_shrunk():
    server = one(large(), "Server")
    assert server.inputs["storage"]["autoGrow"] == "Enabled"
    assert "storage" in server.request.ignoreChanges, "Azure would refuse it, and the update"
    assert {"availabilityZone", "highAvailability.standbyAvailabilityZone"} <= set(server.request.ignoreChanges), (
        "a failover exchanges the zones, and Azure may refuse to change them back"
    )


def test_a_live_server_keeps_its_version():
    server = one(large(), "Server")
    assert server.inputs["version"] == "17"
    assert server.inputs["createMode"] == "Default", "for a new server, and for an existing one"
    assert {"version", "createMode"} <= set(server.request.ignoreChanges), (
        "an upgrade is irreversible and ends every session, so no update of the stack may do it"
    )


def test_backups_are_geo_redundant():
    backup = inputs(large(), "Server")["backup"]
    assert backup == {"backupRetentionDays": 35, "geoRedundantBackup": "Enabled"}, (
        "it can't be changed after the creation"
    )


def test_the_nodes_own_identity_administers_the_database():
    run = large()
    administrator, identity = (
        inputs(run, "AdministratorsMicrosoftEntra"),
        run.answers[one(run, "UserAssignedIdentity", "bank-a-node-identity").urn],
    )
    assert administrator["objectId"] == identity["principalId"], "no secret gives access to the ledger"
    assert administrator["principalName"] == identity["name"]
    assert administrator["principalType"].lower() == "serviceprincipal", "a managed identity is one"


def test_the_server_is_changed_one_step_at_a_time():
    run = large()
    chain = ["database-administrator", *(each.name for each in all_of(run, "Configuration"))]
    for before, after in pairwise(chain):
        assert before in depends_on(run, one(run, "Configuration", after)), (
            f"{after} must wait for {before}: the server refuses a change while it makes another"
        )


def test_no_database_is_made_through_resource_manager():
    assert not all_of(large(), "dbforpostgresql:Database"), (
        "the first administrator would own it, and no agent could grant its node access"
    )


@pytest.mark.parametrize(
    ("identities", "connections", "cores"),
    [(1, 20, 2), (8, 20, 2), (9, 20, 4), (14, 20, 4), (16, 20, 4), (17, 20, 8), (64, 20, 16), (8, 200, 4)],
)
def test_the_server_grows_with_its_nodes_and_their_connections(identities: int, connections: int, cores: int):
    assert vcores(identities, 4, connections) == cores, "the server must be able to serve all nodes at once"


def test_more_nodes_than_any_server_supports_are_refused():
    with pytest.raises(ValueError, match="LedgerDatabase: 65 identities; wanted 64 at most"):
        vcores(65, 4, 20)
    with pytest.raises(ValueError, match="LedgerDatabase: 25 identities; wanted 24 at most"):
        vcores(25, 4, 200)


def test_every_size_fits_a_server():
    needs = CORDA.database
    assert needs is not None
    found = [vcores(size - 1, needs.identities_per_vcore, needs.connections_per_identity) for size in (2, 7, 15)]
    assert found == [2, 2, 4], "of small, medium and large"


# --- NodeScaleSet --------------------------------------------------------------------------------------------------


def profile(run: Plan) -> dict[str, Any]:
    return dict(inputs(run, "VirtualMachineScaleSet", "nodes-vms")["virtualMachineProfile"])


def test_azure_patches_only_its_own_images():
    patched, own = (profile(run)["osProfile"]["linuxConfiguration"] for run in (large(), bare()))
    assert patched["patchSettings"]["patchMode"] == "AutomaticByPlatform"
    assert "patchSettings" not in own, "Azure does so only for its own images"


def test_an_image_of_another_type_replaces_the_scale_set():
    for run in (large(), bare()):
        for each in all_of(run, "VirtualMachineScaleSet"):
            replacing = list(each.request.replaceOnChanges)
            assert replacing == ["virtualMachineProfile.storageProfile.imageReference.publisher"], (
                "Azure refuses an image with an id in place of one of the marketplace; another id is an update"
            )
            assert not each.request.deleteBeforeReplace, "the new VMs take the identities over"


def test_the_balancer_has_exactly_the_listeners_each_with_its_probe():
    balancer = inputs(large(), "LoadBalancer", "nodes-balancer")
    rules = {rule["name"]: rule for rule in balancer["loadBalancingRules"]}
    probes = {probe["name"]: probe for probe in balancer["probes"]}
    identities = range(1, 15)
    wanted = {f"p2p-node-{number}": 9999 + number for number in identities}
    wanted |= {"rpc": 10200, "network-info": 8443}
    assert {name: rule["frontendPort"] for name, rule in rules.items()} == wanted
    assert set(probes) == set(rules)
    for name, rule in rules.items():
        assert rule["backendPort"] == rule["frontendPort"], "the security rules see the port behind the balancer"
        assert rule["probe"]["id"] == f"$self/probes/{name}", "the balancer's own id is unknown before its creation"
        assert rule["frontendIPConfiguration"]["id"].startswith("$self/frontendIPConfigurations/")
        assert [each["id"].split("/")[0] for each in rule["backendAddressPools"]] == ["$self"]
        assert rule["enableTcpReset"] is True, "a node must not wait for a connection to a dead VM"
    for name, probe in probes.items():
        if name == "network-info":
            assert (probe["protocol"], probe["port"], probe["requestPath"]) == ("Http", HEALTH_PORT, HEALTH_PATH)
        else:
            assert (probe["protocol"], probe["port"]) == ("Tcp", wanted[name]), "only the identity's holder listens"
        seconds = probe["intervalInSeconds"] * probe["probeThreshold"]
        assert seconds <= 15, "the balancer must detect a takeover quickly"
        assert probe["noHealthyBackendsBehavior"] == "AllProbedDown", "never to a VM that does not hold the identity"


def test_the_frontend_is_private_fixed_and_zone_redundant():
    (frontend,) = inputs(large(), "LoadBalancer", "nodes-balancer")["frontendIPConfigurations"]
    assert (frontend["privateIPAddress"], frontend["privateIPAllocationMethod"]) == ("10.1.0.254", "Static"), (
        "every peer has the address from the card"
    )
    assert "publicIPAddress" not in frontend
    assert frontend["zones"] == ZONES
    assert frontend["subnet"]["id"].endswith("/subnets/nodes")


def test_the_vms_are_distributed_and_repaired():
    scale_set = inputs(large(), "VirtualMachineScaleSet", "nodes-vms")
    assert scale_set["orchestrationMode"] == "Flexible"
    assert scale_set["zones"] == ZONES
    assert scale_set["zoneBalance"] is False, "a zone without capacity must not prevent a replacement in others"
    assert scale_set["platformFaultDomainCount"] == 1, "zonal sets use all racks"
    assert scale_set["automaticRepairsPolicy"]["enabled"] is True
    assert scale_set["upgradePolicy"]["mode"] == "Rolling", "Automatic may restart all of the bank's nodes at once"
    policy = scale_set["upgradePolicy"]["rollingUpgradePolicy"]
    assert policy == {
        "maxSurge": True,
        "maxBatchInstancePercent": 20,
        "maxUnhealthyInstancePercent": 20,
        "maxUnhealthyUpgradedInstancePercent": 20,
        "pauseTimeBetweenBatches": "PT5M",
        "enableCrossZoneUpgrade": False,
        "prioritizeUnhealthyInstances": True,
    }, (
        "a new VM takes the identity over before the old one is deleted; a version that does not work stops at a "
        "fifth of the VMs, which are looked at for five minutes, in one zone"
    )
    notice = profile(large())["scheduledEventsProfile"]["terminateNotificationProfile"]
    assert notice["enable"] is True, "a node must stop its ledger before its VM is deleted"


def test_the_vms_allow_only_ssh_keys_and_have_no_public_address():
    run = large()
    system = profile(run)["osProfile"]
    assert system["linuxConfiguration"]["disablePasswordAuthentication"] is True
    assert "adminPassword" not in system
    (key,) = system["linuxConfiguration"]["ssh"]["publicKeys"]
    assert key["keyData"] == SSH_PUBLIC_KEY
    (interface,) = profile(run)["networkProfile"]["networkInterfaceConfigurations"]
    (address,) = interface["ipConfigurations"]
    assert "publicIPAddressConfiguration" not in address
    assert address["subnet"]["id"].endswith("/subnets/nodes")
    (pool,) = address["loadBalancerBackendAddressPools"]
    assert pool["id"].startswith(f"{run.ids[one(run, 'LoadBalancer', 'nodes-balancer').urn]}/backendAddressPools/")


def test_the_vms_have_the_identity_that_has_the_roles():
    run = large()
    identity = inputs(run, "VirtualMachineScaleSet", "nodes-vms")["identity"]
    assert identity["type"] == "UserAssigned", "roles must exist before the first VM, and outlive it"
    assert identity["userAssignedIdentities"] == [
        run.ids[one(run, "UserAssignedIdentity", "bank-a-node-identity").urn]
    ]


def test_health_is_probed_at_the_agents_port():
    extensions = {each["name"]: each for each in profile(large())["extensionProfile"]["extensions"]}
    health_extension = extensions["health"]
    assert health_extension["type"] == "ApplicationHealthLinux"
    assert health_extension["typeHandlerVersion"] == "2.0", "without it a VM that boots would be replaced"
    settings = health_extension["settings"]
    assert (settings["protocol"], settings["port"], settings["requestPath"]) == ("http", HEALTH_PORT, HEALTH_PATH)
    assert settings["intervalInSeconds"] * settings["numberOfProbes"] < settings["gracePeriod"] <= 14_400
    assert (
        extensions["monitor"]["settings"]["authentication"]["managedIdentity"]["identifier-value"]
        == (large().ids[one(large(), "UserAssignedIdentity", "bank-a-node-identity").urn])
    ), "the VMs have no other identity for sending logs"
    assert not any("protectedSettings" in each for each in extensions.values()), "the extension needs no secret"


def test_the_vms_depend_on_their_prerequisites():
    run = large()
    waits = depends_on(run, one(run, "VirtualMachineScaleSet", "nodes-vms"))
    needed = {
        "keys-vault": "it would have no keys",
        "keys-nodes": "it could not read its keys",
        "keys-access-zone-group": "the vault's name would lead to its closed public address",
        "keys-bank-vault": "it would have no peers",
        "keys-bank-nodes": "it could not read its list of peers",
        "keys-bank-access-zone-group": "the vault's name would lead to its closed public address",
        "keys-bank-peers": "it would know no peer",
        "keys-bank-peer-bank-b": "it would know a peer without its card",
        "storage-nodes-leases": "it could acquire no lease",
        "storage-nodes-network": "it could keep no network information",
        "keys-bank-enrolment-key": "it could request no certificate",
        "keys-bank-rpc-users": "it would accept no application",
        "storage-leases": "it could acquire no lease",
        "storage-blob-access-zone-group": "it could acquire no lease",
        "storage-file-access-zone-group": "it could mount no share",
        "storage-share": "it could mount no share",
        "database-administrator": "it could create no database and no role",
        **COLLECTION,
    }
    for name, otherwise in needed.items():
        assert name in waits, f"a VM may start before {name} exists: {otherwise}"


def test_a_changed_vm_changes_the_model():
    def model(run: Plan) -> str:
        return str(inputs(run, "VirtualMachineScaleSet", "nodes-vms")["tags"][MODEL_TAG])

    assert len({model(run) for run in (large(), sample("prod"), sample("dev"))}) == 3, (
        "changes that only new VMs get must change the model: here the key, and the size"
    )
    assert model(large(unknown=True)) == UNKNOWN, "before vault and database have names, the model is unknown"


def test_vms_of_another_image_size_or_key_report_another_model():
    group = f"{CIRCUIT.partition('/resourceGroups')[0]}/resourceGroups/r"
    images = f"{group}/providers/Microsoft.Compute/galleries/g/images/i/versions"

    def reported(**nodes: Any) -> list[str]:
        stated = {"sshPublicKey": SSH_PUBLIC_KEY, "image": {"id": f"{images}/1.0.0"}, **nodes}
        ledger = {"roles": {"node-1": "notary"}, "network": {"authority": "bank-a"}}
        run = planned(StackConfiguration("bank-a", configuration(ledger=ledger, nodes=stated)))
        profiles = [
            inputs(run, "VirtualMachineScaleSet", name)["virtualMachineProfile"]["osProfile"]
            for name in ("nodes-vms", "authority-hosts-vms")
        ]
        documents = [gzip.decompress(base64.b64decode(each["customData"])).decode() for each in profiles]
        return [files_of_document(each)[str(MODEL_FILE)] for each in documents]

    before = reported()
    for changed in (
        {"image": {"id": f"{images}/1.0.1"}},
        {"encryptionAtHost": False},
        {"sshPublicKey": ANOTHER_KEY},
    ):
        assert not set(before) & set(reported(**changed)), "a VM that was not replaced would stay unseen"
    node, authority = reported(vmSize="Standard_D8as_v5")
    assert node != before[0]
    assert authority == before[1], "the authority's VMs have another size, and need no replacement"


ANOTHER_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPGHUDQ0VrjLvTMwjBLEMRZ1wYnK1kCdZzWQ4vhq7Vq5"


# --- Monitoring ----------------------------------------------------------------------------------------------------


def test_telemetry_is_authenticated_by_entra_only():
    run = large()
    assert inputs(run, "Component")["disableLocalAuth"] is True, "with the key anybody could report healthy nodes"
    assert inputs(run, "Component")["workspaceResourceId"] == run.ids[one(run, "Workspace").urn]
    assert inputs(run, "Workspace")["features"]["disableLocalAuth"] is True
    assert inputs(run, "Workspace")["retentionInDays"] >= 90


# --- Constructors refuse inputs that Azure would refuse after an hour ----------------------------------------------


PLACE = Placement(resource_group_name="group", location="swedencentral")
VMS = VmArgs(ssh_public_key=SSH_PUBLIC_KEY)
VAULT = VaultArgs(tenant_id="tenant", endpoints_subnet_id="endpoints", zone_id="zone", resource_group_id="group-id")


def one_vm() -> object:
    return NodeScaleSetArgs(
        placement=PLACE,
        vms=VMS,
        subnet_id="subnet",
        frontend_address="10.1.0.254",
        listeners=[NETWORK_INFO],
        count=1,
        vm_size="Standard_D2s_v5",
        identity_id="identity",
        custom_data="",
    )


def small_share() -> object:
    ids: dict[str, Any] = dict.fromkeys(
        ("endpoints_subnet_id", "blob_zone_id", "file_zone_id", "node_principal_id"), "id"
    )
    return LedgerStorageArgs(placement=PLACE, **ids, share_gib=99)


def short_memory() -> object:
    return MonitoringArgs(
        placement=PLACE,
        resource_group_id="group",
        node_principal_id="principal",
        daily_cap_gb=1,
        retention_days=29,
    )


def authority(vms: VmArgs = VMS, **changes: Any) -> object:
    return NetworkAuthorityArgs(
        placement=PLACE,
        vault=VAULT,
        vms=vms,
        peer_cards={},
        **{
            **dict.fromkeys(("blob_account_name", "subnet_id"), "id"),
            "keys": ["identity-ca"],
            "root_key": "root",
            "enrolment_keys": {},
            "legal_names": {},
            "frontend_address": "10.1.1.126",
            "listeners": [NETWORK_INFO],
            "custom_data": lambda _: "",
            **changes,
        },
    )


def authority_without_keys() -> object:
    return authority(keys=[])


def authority_without_metrics_endpoint() -> object:
    return authority(replace(VMS, workspace_id="workspace"))


def tunnel_over_a_circuit() -> object:
    return VpnPeeringArgs(
        placement=PLACE,
        gateway_id="gateway",
        kind=LinkKind.EXPRESS_ROUTE,
        peer_gateway=Gateway.model_validate(make_card()["gateway"]),
        shared_key="key",
        policy=IpsecPolicy(),
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (one_vm, "NodeScaleSet: count is 1; wanted 2 or more, so that one VM may fail"),
        (small_share, "LedgerStorage: share_gib is 99; wanted 100 to 102400"),
        (short_memory, "Monitoring: retention_days is 29; wanted 30 to 730"),
        (authority_without_keys, "NetworkAuthority: keys is empty; wanted the names"),
        (
            authority_without_metrics_endpoint,
            "NetworkAuthority: one of vms.workspace_id and insights_id alone; wanted both",
        ),
        (tunnel_over_a_circuit, "VpnPeering: kind is express-route; wanted vnet-to-vnet or ipsec"),
    ],
)
def test_the_constructor_says_what_it_wants(make: Callable[[], object], message: str):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_misspelt_input_is_an_error():
    with pytest.raises(TypeError, match="retention"):
        MonitoringArgs(  # type: ignore[call-arg]  # misspelt on purpose
            placement=PLACE, resource_group_id="group", node_principal_id="principal", retention=30
        )
