"""The whole program, run for whole members: present and absent resources, secrets, and refusals."""

import base64
import gzip
import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pulumi.runtime.proto import resource_pb2
from pulumi.runtime.rpc import UNKNOWN

from components.node_scale_set import MODEL_TAG
from contract.card import IpsecPolicy, read_card
from lab import ROOT
from lab.azure.azure import Account, OfflineAzure
from lab.azure.deployment import Deployment
from lab.azure.program import ORGANIZATION, PROJECT, StackConfiguration, read_configuration, run_program
from lab.azure.recorder import DuplicateUrnError, Recorder, Registration
from lab.cards import legal_name, make_card, resigned, signing_seed
from policy.resources import leaves
from stack.outputs import MADE_WITH_OUTPUT, SERVER_OFFER_OUTPUT, SHARE_OUTPUT
from stack.settings import EXPRESS_ROUTE_KEY, Settings, parse_settings
from tests.configuration import SSH_PUBLIC_KEY, configuration
from tests.runs import (
    AUTHORIZATION_KEY,
    CIRCUIT,
    TAGS,
    Plan,
    all_of,
    bank,
    bare,
    beside_a_circuit,
    components,
    large,
    one,
    refusal,
    renewed,
    resources,
    sample,
    stack_of,
    takes_tags,
)

STACK_TYPE = "pulumi:pulumi:Stack"
MONITORS = ("monitor", "operationalinsights", "applicationinsights")
"""Modules whose resources exist only where there is monitoring."""

RUNS: dict[str, Callable[[], Plan]] = {
    "small": lambda: bank("bank-b", linked=False),
    "medium": lambda: bank("bank-a"),
    "large": large,
    "bare": bare,
    "dev": lambda: sample("dev"),
    "prod": lambda: sample("prod"),
}


@pytest.fixture(params=RUNS)
def run(request: pytest.FixtureRequest) -> Plan:
    return RUNS[request.param]()


def module_of(registration: Registration) -> str:
    return registration.type.split(":")[1]


# --- The three sizes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "machines"), [("small", 2), ("medium", 7), ("large", 15), ("prod", 15)])
def test_a_size_is_a_number_of_vms_of_which_one_is_a_standby(size: str, machines: int):
    planned = RUNS[size]()
    identities = machines - 1
    scale_set, balancer = (
        one(planned, "VirtualMachineScaleSet", "nodes-vms"),
        one(planned, "LoadBalancer", "nodes-balancer"),
    )
    assert scale_set.inputs["sku"]["capacity"] == machines, "the reference scenario's sizes are 2, 7 and 15 VMs"
    assert len(planned.outputs["member"]["nodes"]) == identities, "a standby has no identity until it holds a lease"
    rules = [rule["name"] for rule in balancer.inputs["loadBalancingRules"]]
    assert sum(name.startswith("p2p-") for name in rules) == identities, "each identity has its own port for peers"


def test_a_small_member_has_no_monitoring():
    planned = RUNS["small"]()
    assert {module_of(each) for each in resources(planned)}.isdisjoint(MONITORS), "a small member has no monitoring"
    extensions = one(planned, "VirtualMachineScaleSet", "nodes-vms").inputs["virtualMachineProfile"][
        "extensionProfile"
    ]["extensions"]
    assert [each["name"] for each in extensions] == ["health"], (
        "an agent without a workspace would log errors all day"
    )
    assert not [
        path for each in resources(planned) for path, value in leaves(each.inputs) if "workspaces" in str(value)
    ], "nothing may refer to a missing workspace"


@pytest.mark.parametrize("size", ["medium", "large", "prod"])
def test_larger_members_have_monitoring(size: str):
    planned = RUNS[size]()
    extensions = one(planned, "VirtualMachineScaleSet", "nodes-vms").inputs["virtualMachineProfile"][
        "extensionProfile"
    ]["extensions"]
    workspace = planned.ids[one(planned, "Workspace").urn]
    assert "AzureMonitorLinuxAgent" in {each["type"] for each in extensions}, "counters and logs of each VM"
    policy = one(planned, "PolicyAssignment")
    assert policy.inputs["scope"] == planned.ids[one(planned, "ResourceGroup").urn], "each new VM"
    rule = planned.ids[one(planned, "DataCollectionRule").urn]
    assert policy.inputs["parameters"]["dcrResourceId"] == {"value": rule}, "a Flexible scale set does not support it"
    assert policy.inputs["parameters"]["scopeToSupportedImages"] == {"value": False}, "of the bank's own image too"
    assert one(planned, "applicationinsights:Workbook").inputs["sourceId"] == workspace, (
        "the workbook for the bank's operators"
    )
    assert {each.inputs["workspaceId"] for each in all_of(planned, "DiagnosticSetting")} == {workspace}
    assert all_of(planned, "MetricAlert"), "an alert for a node that is down"
    assert all_of(planned, "ActivityLogAlert"), "an alert for Azure's own outages"


def test_resources_that_matter_in_an_incident_write_logs():
    planned = large()
    logged = {each.inputs["resourceUri"].split("/blobServices")[0] for each in all_of(planned, "DiagnosticSetting")}
    kinds = ("Vault", "VirtualNetworkGateway", "Server")
    silent = [each.name for kind in kinds for each in all_of(planned, kind) if planned.ids[each.urn] not in logged]
    assert silent == [], "after an incident the bank must be able to find out what happened"
    assert planned.ids[one(planned, "StorageAccount", "storage-blobs").urn] in logged, "deletions of leases"


# --- The tree ------------------------------------------------------------------------------------------------------


def test_every_resource_is_below_its_component(run: Plan):
    for each in run.registrations.values():
        parent = run.registrations.get(each.parent)
        if parent is None:
            assert each.parent.split("::")[2] == STACK_TYPE, f"{each.name}: its parent {each.parent} does not exist"
        else:
            assert not parent.custom, f"{each.name} is below {parent.name}, which is no component"
            # A component in another one may have the same name, since their types differ.
            shared = not each.custom and each.name == parent.name
            assert shared or each.name.startswith(f"{parent.name}-"), (
                f"{each.name} is not named after {parent.name}: two of the same component could not share a stack"
            )
    top = [each.name for each in resources(run) if each.parent.split("::")[2] == STACK_TYPE]
    assert top == [], "the program only composes: every resource belongs to a component"


def test_every_component_registers_its_outputs(run: Plan):
    silent = [each.name for each in components(run) if each.urn not in run.component_outputs]
    assert silent == [], "Pulumi shows a component without outputs as being created forever"
    assert all(each.type.startswith("decentralized-trust:azure:") for each in components(run))


def test_a_second_resource_of_one_urn_is_refused():
    class Answers:
        def new_resource(self, args: object) -> tuple[str, dict[str, object]]:
            return "id", {}

    recorder = Recorder(Answers())  # type: ignore[arg-type]
    recorder.registrations[recorder.make_urn("", "a:b:C", "twin")] = None  # type: ignore[assignment]
    with pytest.raises(DuplicateUrnError, match="twin"):
        recorder.RegisterResource(resource_pb2.RegisterResourceRequest(type="a:b:C", name="twin"))


def test_joining_peers_renames_nothing():
    alone, linked = bank("bank-b", linked=False), bank("bank-b")
    assert set(alone.registrations) <= set(linked.registrations), "Pulumi would replace a renamed resource"


def test_every_id_refers_to_a_registered_resource(run: Plan):
    own = run.ids[one(run, "ResourceGroup").urn].split("/resourceGroups/")[0]
    known = set(run.ids.values())
    for each in resources(run):
        for path, value in leaves(each.inputs):
            if not isinstance(value, str) or not value.startswith(f"{own}/") or "/roleDefinitions/" in value:
                continue
            steps = value.split("/")
            assert any("/".join(steps[:length]) in known for length in range(5, len(steps) + 1)), (
                f"{each.name}.{path}: {value} does not exist"
            )


def test_a_members_data_stays_in_its_region(run: Plan):
    wanted = one(run, "ResourceGroup").inputs["location"]
    elsewhere = {
        each.name: each.inputs["location"]
        for each in resources(run)
        if each.inputs.get("location", wanted).lower() not in (wanted, "global")
    }
    assert elsewhere == {}, "a bank's regulator asks for the region of its data"


# --- Tags ----------------------------------------------------------------------------------------------------------


def test_every_resource_that_supports_tags_has_them():
    planned = large()
    wanted = {**TAGS, "bank": "bank-a", "project": PROJECT, "managed-by": "pulumi"}
    taggable = {each.type for each in resources(planned) if takes_tags(each)}
    assert len(taggable) >= 20, "otherwise this test would check nothing"
    for each in resources(planned):
        if each.type in taggable:
            tags = {key: value for key, value in (each.inputs.get("tags") or {}).items() if key != MODEL_TAG}
            assert tags == wanted, f"{each.name}: without a cost centre it can't be charged or assigned"


# --- Secrets -------------------------------------------------------------------------------------------------------


def spellings(secret: bytes) -> set[str]:
    """Encodings of 32 secret bytes in a text."""
    encoded = base64.b64encode(secret).decode()
    return {
        encoded.rstrip("="),
        base64.urlsafe_b64encode(secret).decode().rstrip("="),
        secret.hex(),
        secret.hex().upper(),
    }


def secrets_of(run: Plan) -> dict[str, set[str]]:
    """Every secret of a run by its name, in all encodings."""
    made = {
        each.name: spellings(base64.b64decode(run.answers[each.urn]["base64"])) for each in all_of(run, "RandomBytes")
    }
    keys = {
        each.name: spellings(bytes.fromhex(each.inputs["sharedKey"]))
        for each in all_of(run, "VirtualNetworkGatewayConnection")
        if "sharedKey" in each.inputs
    }
    passwords = {each.name: {run.answers[each.urn]["result"]} for each in all_of(run, "RandomPassword")}
    enrolment = {name: spellings(bytes.fromhex(key)) for name, key in enrolment_keys(run).items()}
    return {**made, **keys, **passwords, **enrolment, "circuit": {AUTHORIZATION_KEY}}


def enrolment_keys(run: Plan) -> dict[str, str]:
    """The enrolment keys in the nodes' and the authority's vault, by their place."""
    values = {each.name: each.inputs["properties"]["value"] for each in all_of(run, "Secret")}
    agreed = json.loads(values.get("authority-enrolment-keys", "{}"))
    return {f"authority and {name}": key for name, key in agreed.items()} | {"own": values["keys-bank-enrolment-key"]}


def readable(run: Plan) -> Iterator[tuple[str, str]]:
    """Every plain text with its place: inputs, outputs, messages, the VMs' custom data."""
    for each in run.registrations.values():
        for path, value in leaves(each.inputs):
            if any(path == secret or path.startswith((f"{secret}.", f"{secret}[")) for secret in each.secrets):
                continue
            yield f"{each.name}.{path}", str(value)
            if path.endswith("customData"):
                yield f"{each.name}.{path}, unpacked", gzip.decompress(base64.b64decode(value)).decode()
    for urn, outputs in (("stack", run.outputs), *run.component_outputs.items()):
        for path, value in leaves(outputs):
            yield f"output {path} of {urn}", str(value)
    for message in run.messages:
        yield "message", message


@pytest.mark.parametrize("name", ["large", "medium", "bare", "renewed"])
def test_no_secret_is_in_plain_text_anywhere(name: str):
    planned = renewed("bank-a") if name == "renewed" else RUNS[name]()
    secrets = secrets_of(planned)
    assert len(secrets) >= 3, "two key pairs, and at least one key of a link or the circuit"
    texts = list(readable(planned))
    for what, written in secrets.items():
        found = [where for where, text in texts if any(each in text for each in written)]
        assert found == [], f"{what}: readers of the state, the outputs or a VM's metadata would have the key"


def test_the_search_for_secrets_finds_them():
    planned = large()
    link = next(each for each in all_of(planned, "VirtualNetworkGatewayConnection") if "sharedKey" in each.inputs)
    assert "sharedKey" in link.secrets
    everything = {value for each in resources(planned) for _, value in leaves(each.inputs)}
    assert secrets_of(planned)[link.name] & everything, "the key is there, so a missing secret mark would be found"
    assert AUTHORIZATION_KEY in everything
    assert any("unpacked" in where and "ledger-agent" in text for where, text in readable(planned))


def test_exactly_the_keys_are_marked_secret():
    planned = large()
    marked = {(each.type.rsplit(":", 1)[1], path) for each in resources(planned) for path in each.secrets}
    assert marked == {
        ("VirtualNetworkGatewayConnection", "sharedKey"),
        ("VirtualNetworkGatewayConnection", "authorizationKey"),
        ("Server", "administratorLoginPassword"),
        ("Secret", "properties.value"),
    }, "a missing mark is a leak; an unnecessary one hides changes from reviewers"


def test_exactly_the_confidential_values_of_a_vault_are_marked():
    planned = large()
    marked = {each.name for each in all_of(planned, "Secret") if each.secrets}
    assert marked == {"keys-bank-enrolment-key", "keys-bank-rpc-users", "authority-enrolment-keys"}, (
        "cards are public: reviewers must see which peers change"
    )
    for each in all_of(planned, "Secret"):
        assert (list(each.request.additionalSecretOutputs) == ["properties"]) is bool(each.secrets), (
            f"{each.name}: the state has outputs too"
        )


@pytest.mark.parametrize(
    ("kind", "outputs"),
    [
        ("RandomBytes", {"base64", "hex"}),
        ("RandomPassword", {"result", "bcryptHash"}),
        ("VirtualNetworkGatewayConnection", {"sharedKey", "authorizationKey"}),
    ],
)
def test_secrets_that_azure_returns_are_marked_too(kind: str, outputs: set[str]):
    seen = set()
    for each in all_of(large(), kind):
        seen |= set(each.request.additionalSecretOutputs)
        assert each.request.additionalSecretOutputs, f"{each.name}: the provider marks no output by itself"
    assert seen == outputs, "the state has outputs too"


# --- Outputs -------------------------------------------------------------------------------------------------------


def test_the_outputs_are_the_documented_ones_and_public(run: Plan):
    assert set(run.outputs) == {
        "connections",
        "fingerprint",
        "links",
        "madeWith",
        "member",
        "monitoring",
        "peerCards",
        "resourceGroup",
        "rpcAddress",
        "serverOffer",
        "shareGib",
        "waitsFor",
    }, "a reader of a stack's outputs can read all of them"
    assert run.secret_outputs == frozenset(), "a peer has no passphrase"
    secret = {urn for urn, paths in run.secret_component_outputs.items() if paths}
    assert secret == set(), "no output of a component is a secret"


def test_the_card_is_one_that_a_peer_accepts(run: Plan):
    member = run.outputs["member"]
    card = read_card(member, name=member["name"], pinned=run.outputs["fingerprint"], source="this stack")
    assert card.name == one(run, "ResourceGroup").name.removesuffix("-ledger")
    frontend = one(run, "LoadBalancer", "nodes-balancer").inputs["frontendIPConfigurations"][0]["privateIPAddress"]
    rules = {rule["frontendPort"] for rule in one(run, "LoadBalancer", "nodes-balancer").inputs["loadBalancingRules"]}
    for node in card.nodes:
        host, port = node.p2p_address.split(":")
        assert host == frontend, "a member has one address for all its peers"
        assert int(port) in rules, "an address on the card without a listener is an outage for every peer"
    assert run.outputs["rpcAddress"].startswith(f"{frontend}:")
    assert int(run.outputs["rpcAddress"].split(":")[1]) in rules
    assert run.outputs["resourceGroup"] == one_answer(run, "ResourceGroup")["name"]
    authorities = [each for each in all_of(run, "LoadBalancer") if each.name == "authority-hosts-balancer"]
    urls = [
        f"https://{each.inputs['frontendIPConfigurations'][0]['privateIPAddress']}:"
        f"{each.inputs['loadBalancingRules'][0]['frontendPort']}"
        for each in authorities
    ]
    assert [card.authority.url] == urls if card.authority else urls == [], "members use the URL on its card"


def test_the_card_has_the_role_of_each_node():
    roles = [node.role for node in read_card(large().outputs["member"], name="bank-a", pinned=None, source="x").nodes]
    assert roles == ["notary", *["node"] * 13], "peers must see which node is a notary"


def one_answer(run: Plan, kind: str) -> Any:
    return run.answers[one(run, kind).urn]


@pytest.mark.parametrize("name", ["bank-b", "bank-c"])
def test_a_card_does_not_depend_on_its_members_links(name: str):
    assert bank(name).outputs["member"] == bank(name, linked=False).outputs["member"], (
        "otherwise each join would change every card, and require a run of every stack"
    )


# --- Known and unknown ids -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("known", "unknown"),
    [
        (lambda: bank("bank-b", linked=False), lambda: bank("bank-b", linked=False, unknown=True)),
        (large, lambda: large(unknown=True)),
    ],
    ids=["alone", "with peers"],
)
def test_a_first_preview_shows_everything(known: Callable[[], Plan], unknown: Callable[[], Plan]):
    up, preview = known(), unknown()
    assert set(preview.registrations) == set(up.registrations), (
        "a preview must show everything that the deployment creates"
    )
    for urn, each in up.registrations.items():
        shown, made = preview.registrations[urn].request, each.request
        assert (shown.protect, shown.deleteBeforeReplace, shown.retainOnDelete) == (
            made.protect,
            made.deleteBeforeReplace,
            made.retainOnDelete,
        ), f"{each.name}: its options depend on an unknown value"
        assert preview.registrations[urn].secrets == each.secrets, f"{each.name}: a preview prints it in plain text"


def test_a_failed_update_does_not_bind_the_next_one() -> None:
    known, unknown = large().outputs, large(unknown=True).outputs
    for output in (SERVER_OFFER_OUTPUT, SHARE_OUTPUT, MADE_WITH_OUTPUT):
        assert known[output], "the next update compares its configuration with this output"
        assert unknown[output] == UNKNOWN, (
            f"{output}: it must depend on its resource, or it would be recorded although Azure refuses the resource"
        )


# --- Absent resources ----------------------------------------------------------------------------------------------


def test_without_peers_there_is_no_link():
    planned = RUNS["small"]()
    for kind in ("VirtualNetworkGatewayConnection", "LocalNetworkGateway", "VpnPeering"):
        assert all_of(planned, kind) == [], "an empty list of peers is the first step of each member"
    peers = one(planned, "Secret", "keys-bank-peers").inputs["properties"]["value"]
    assert json.loads(peers) == {}, "the list of peers is empty"
    assert not [each.name for each in all_of(planned, "Secret") if each.name.startswith("keys-bank-peer-")]


def test_without_an_authority_its_resources_do_not_exist():
    planned = bank("bank-b")
    assert not [each.name for each in planned.registrations.values() if each.name.startswith("authority")], (
        "a member that a peer certifies pays for neither HSM nor VMs of an authority"
    )
    assert not all_of(planned, "keyvault:Key")
    assert "authority" not in [each.inputs["subnetName"] for each in all_of(planned, "Subnet")]
    assert planned.outputs["member"]["authority"] is None, "its card has no authority"


def test_without_a_database_its_resources_do_not_exist():
    planned = bare()
    assert not [each.name for each in planned.registrations.values() if "dbforpostgresql" in each.type], (
        "a platform without a database must not cost a server"
    )
    assert not [each.name for each in all_of(planned, "PrivateZone") if "database" in each.name]


def test_a_circuit_alone_needs_no_vpn_gateway():
    planned = bare()
    (gateway,) = all_of(planned, "VirtualNetworkGateway")
    assert gateway.inputs["gatewayType"] == "ExpressRoute", "an unused gateway must not cost money"
    (connection,) = all_of(planned, "VirtualNetworkGatewayConnection")
    assert connection.inputs["connectionType"] == "ExpressRoute", "its peers share the circuit's connection"
    assert planned.outputs["member"]["gateway"] is None, "the card says that it has no VPN gateway"


def test_a_member_with_both_gateways_and_azures_own_number_is_linked_without_bgp():
    planned = beside_a_circuit()
    (gateway,) = [each for each in all_of(planned, "VirtualNetworkGateway") if each.inputs["gatewayType"] == "Vpn"]
    assert gateway.inputs["bgpSettings"]["asn"] == 65515
    assert planned.outputs["member"]["gateway"]["asn"] == 65515, "the card shows it"
    links = [each for each in all_of(planned, "VirtualNetworkGatewayConnection") if "sharedKey" in each.inputs]
    assert [(each.inputs["connectionType"], each.inputs["enableBgp"]) for each in links] == [("Vnet2Vnet", False)]
    assert all_of(planned, "LocalNetworkGateway") == [], "Azure's BGP does not accept that number"


def test_a_region_without_zones_gets_no_zones():
    zones = [(each.name, path) for each in resources(bare()) for path, _ in leaves(each.inputs) if "zones" in path]
    assert zones == [], "Azure refuses zones in a region without zones"


def test_only_gateways_and_egress_have_public_addresses(run: Plan):
    addresses = {run.ids[each.urn] for each in all_of(run, "PublicIPAddress")}
    holders = {each.type for each in resources(run) for _, value in leaves(each.inputs) if value in addresses}
    # An alert on an attack.
    holders.discard("azure-native:monitor:MetricAlert")
    assert holders <= {"azure-native:network:NatGateway", "azure-native:network:VirtualNetworkGateway"}, (
        "nothing else of a bank's ledger may be on the internet"
    )


def test_public_access_is_disabled_everywhere(run: Plan):
    found = [
        (each.name, value)
        for each in resources(run)
        for path, value in leaves(each.inputs)
        if path.rsplit(".", 1)[-1] == "publicNetworkAccess"
    ]
    assert len(found) >= 3, "the vaults and both storage accounts"
    assert {value for _, value in found} == {"Disabled"}, "keys, leases and ledgers are reachable only from inside"


# --- The sample configurations -------------------------------------------------------------------------------------


def configuration_files() -> list[Any]:
    paths = [*ROOT.glob("Pulumi.*.yaml"), *ROOT.glob("examples/*/Pulumi.*.yaml")]
    return [pytest.param(path, id=str(path.relative_to(ROOT))) for path in sorted(paths)]


@pytest.mark.parametrize("path", configuration_files())
def test_every_configuration_file_loads(path: Path):
    stack = read_configuration(path)
    assert parsed(stack).bank.name == stack.member
    assert all(each.startswith(f"{ORGANIZATION}/{PROJECT}/") for each in stack.referenced_stacks), (
        "the samples must run on a file backend"
    )


def parsed(stack: StackConfiguration) -> Settings:
    return parse_settings(PROJECT, stack.values, frozenset(stack.secret_keys))


@pytest.mark.parametrize(
    ("name", "links"), [("bank-a", 3), ("bank-b", 3), ("bank-c", 4), ("prod", 3), ("dev", 0)], ids=str
)
def test_every_sample_plans(name: str, links: int):
    planned = sample(name) if name in ("dev", "prod") else bank(name)
    assert len(all_of(planned, "VirtualNetworkGatewayConnection")) == links, (
        "one connection within a tenant, two across tenants"
    )
    assert WITHOUT_IMAGE in planned.messages
    assert [each for each in planned.messages if not each.startswith(OF_SAMPLES)] == [], "a bank adds these itself"


OF_SAMPLES = (
    "nodes never start without the share's mount helper",
    "nodes.sshPublicKey is that of the samples",
    "the new authority can make no root",
    "the alerts of size medium have no receiver",
)
WITHOUT_IMAGE = "nodes never start without the share's mount helper, which only an image has: set nodes.image"

LOOSENED = {
    "deletion_protection",
    "ledger.network.approval",
    "nodes.standby",
    "key_vault.purge_protection",
    "key_vault.soft_delete_days",
    "nodes.encryption_at_host",
}
WHO_AND_WHERE = {
    "location",
    "bank",
    "address_space",
    "size",
    "nodes.ssh_public_key",
    "tags",
    "connectivity.vpn.sku",
    "ledger.roles",
    "ledger.network.authority",
}


def values_of(name: str) -> dict[str, Any]:
    dumped = parsed(read_configuration(ROOT / f"Pulumi.{name}.yaml")).model_dump(mode="json")
    return dict(leaves(dumped))


def test_dev_loosens_only_listed_keys():
    dev, prod = values_of("dev"), values_of("prod")
    differing = {key for key in {*dev, *prod} if dev.get(key) != prod.get(key)}
    grown = {"peers", "application_networks", "operators", "alerts", "ledger.rpc_users"}
    unexplained = {
        key
        for key in differing
        if not any(
            key == each or key.startswith((f"{each}.", f"{each}[")) for each in LOOSENED | WHO_AND_WHERE | grown
        )
    }
    assert unexplained == set(), "reviewers rely on the list of loosened keys"
    assert differing >= LOOSENED, "a key that no longer loosens anything must not be listed"


def test_prod_keeps_every_safe_default():
    smallest = Settings.model_validate(
        {
            "azure-native:location": "swedencentral",
            "bank": {"name": "bank-a", "legalName": "O=Bank A, L=London, C=GB", "asn": 64512},
            "addressSpace": "10.1.0.0/16",
            "size": "large",
            "nodes": {"sshPublicKey": SSH_PUBLIC_KEY},
            "ledger": {"network": {"authority": "bank-a"}, "roles": {"node-1": "notary"}},
        },
        context={"member": "bank-a"},
    )
    defaults = dict(leaves(smallest.model_dump(mode="json")))
    prod = values_of("prod")
    assert {key: prod[key] for key in LOOSENED} == {key: defaults[key] for key in LOOSENED}, (
        "a missing key must mean production's setting"
    )


def test_devs_resources_differ_only_in_the_loosened_settings():
    dev, prod = sample("dev"), sample("prod")
    vaults = [dict(one(each, "Vault", "keys-vault").inputs["properties"]) for each in (dev, prod)]
    assert vaults[0].pop("softDeleteRetentionInDays") < vaults[1].pop("softDeleteRetentionInDays") == 90
    assert "enablePurgeProtection" not in vaults[0]
    assert vaults[1].pop("enablePurgeProtection") is True, "a deleted key must be recoverable for the full time"
    assert vaults[0] == vaults[1], "the vault has no other difference"

    def accounts(run: Plan) -> dict[str, Any]:
        differing = ("accountName", "resourceGroupName", "tags")
        return {
            each.name: {key: value for key, value in each.inputs.items() if key not in differing}
            for each in all_of(run, "StorageAccount")
        }

    assert accounts(dev) == accounts(prod), "storage is as closed in dev as in production"
    assert not [each.name for each in resources(dev) if each.request.protect], "dev has no protected resource"
    assert [each.name for each in resources(prod) if each.request.protect], "production has"


IRREPLACEABLE = {
    "Vault": "the private keys of every node",
    "StorageAccount": "network information, leases, journals",
    "BlobContainer": "network information and leases",
    "FileShare": "the nodes' journals",
    "keyvault:Key": "otherwise no name could be certified or revoked under the root that all members trust",
    "Server": "the ledger itself",
    "Workspace": "the audit logs of the vaults, which are of use weeks later",
    "VirtualNetworkGateway": "its addresses are in every peer's configuration",
}


@pytest.mark.parametrize("kind", IRREPLACEABLE)
def test_irreplaceable_resources_are_protected(kind: str):
    unprotected = [each.name for each in all_of(large(), kind) if not each.request.protect]
    assert all_of(large(), kind)
    assert unprotected == [], IRREPLACEABLE[kind]


# --- Refusals before anything is registered ------------------------------------------------------------------------


BANK_B, BANK_C = stack_of("bank-b"), stack_of("bank-c")


def peer(name: str) -> dict[str, Any]:
    """A peer whose card is a sample card."""
    return {"name": name, "legalName": legal_name(name), "stack": stack_of(name)}


PEERS = [peer("bank-b"), peer("bank-c")]


def tampered() -> dict[str, Any]:
    """A card with a changed gateway address."""
    card = make_card()
    card["gateway"]["instances"][0]["publicIp"] = "198.51.100.250"
    return card


def forged() -> dict[str, Any]:
    """A card that is signed with another key."""
    return resigned(make_card(), signing_seed("mallory"))


def named(*names: str) -> dict[str, Any]:
    """Bank B's card, signed by bank B, on which its nodes have these names."""
    nodes = [
        {"legalName": name, "p2pAddress": f"10.98.0.254:{10000 + index}", "role": "node"}
        for index, name in enumerate(names)
    ]
    return {BANK_B: {"member": make_card(nodes=nodes)}}


def with_node(**changes: Any) -> dict[str, Any]:
    """Bank B's card, signed by bank B, with one node."""
    node = {"legalName": f"OU=node-1, {legal_name('bank-b')}", "p2pAddress": "10.98.0.254:10000", **changes}
    return {BANK_B: {"member": make_card(nodes=[node])}}


def own_network(notary: str) -> dict[str, Any]:
    """A network of bank A's own that names this notary."""
    return {"network": {"authority": "bank-a", "notaries": [notary]}}


REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], list[str]]] = {
    "an unknown size": ({"size": "huge"}, {}, ["size: huge", "wanted one of small, medium, large"]),
    "two bad keys": (
        {"size": "huge", "addressSpace": "8.8.0.0/16"},
        {},
        ["decentralized-trust:size", "decentralized-trust:addressSpace: 8.8.0.0/16"],
    ),
    "an unknown key": ({"adressSpace": "10.1.0.0/16"}, {}, ["adressSpace: unknown key", "addressSpace"]),
    "a circuit's key in plain text": (
        {"connectivity": {"expressRoute": {"circuitId": CIRCUIT}}, EXPRESS_ROUTE_KEY: AUTHORIZATION_KEY},
        {},
        [EXPRESS_ROUTE_KEY, "pulumi config set --secret"],
    ),
    "a stack that does not exist": (
        {"peers": PEERS[:1]},
        {},
        ["peer bank-b", BANK_B, "can't be read", "whose first pulumi up has succeeded"],
    ),
    "a stack without a card": (
        {"peers": PEERS[:1]},
        {BANK_B: {}},
        ["peer bank-b", BANK_B, "holds nothing", "`member`"],
    ),
    "a text that is no card": ({"peers": PEERS[:1]}, {BANK_B: {"member": "hello"}}, ["peer bank-b", "holds a str"]),
    "a card that was changed": (
        {"peers": PEERS[:1]},
        {BANK_B: {"member": tampered()}},
        ["peer bank-b", "the signature does not fit"],
    ),
    "a card of another member": (
        {"peers": PEERS[:1]},
        {BANK_B: {"member": make_card("bank-d")}},
        ["peer bank-b", "'bank-d'"],
    ),
    "a card signed with another key": (
        {"peers": [{**PEERS[0], "fingerprint": f"sha256:{'5a' * 32}"}]},
        {BANK_B: {"member": forged()}},
        ["peer bank-b", "wanted the pinned key"],
    ),
    "a node of another bank on a peer's card": (
        {"peers": PEERS},
        named(f"OU=node-1, {legal_name('bank-b')}", f"OU=node-99, {legal_name('bank-c')}")
        | {BANK_C: {"member": make_card("bank-c")}},
        [
            f"peer bank-b: stack {BANK_B}: nodes[1].legalName is OU=node-99, O=Bank C, L=London, C=GB",
            "wanted O=Bank B, L=London, C=GB, as agreed, and an OU",
        ],
    ),
    "this member's node on a peer's card": (
        {"peers": PEERS[:1]},
        named("OU=node-99, O=Bank A, L=London, C=GB"),
        ["nodes[0].legalName is OU=node-99, O=Bank A, L=London, C=GB", "wanted O=Bank B, L=London, C=GB, as agreed"],
    ),
    "a name in other letters on a peer's card": (
        {"peers": PEERS[:1]},
        named("OU=node-1, O=BANK B, L=London, C=GB"),
        ["nodes[0].legalName is OU=node-1, O=BANK B, L=London, C=GB", "wanted O=Bank B, L=London, C=GB, as agreed"],
    ),
    "a look-alike on a peer's card": (
        {"peers": PEERS[:1]},
        named("OU=node-1, O=B\u0430nk A, L=London, C=GB"),
        ["nodes[0].legalName: 'OU=node-1, O=B\\u0430nk A", "U+0430 (CYRILLIC SMALL LETTER A)", "basic Latin only"],
    ),
    "a peer's bank in place of a node": (
        {"peers": PEERS[:1]},
        named("O=Bank B, L=London, C=GB"),
        ["'O=Bank B, L=London, C=GB' is not a node's name", "wanted its bank's name and an OU"],
    ),
    "a peer in our own range": (
        {"peers": PEERS[:1]},
        {BANK_B: {"member": make_card(address_space="10.1.128.0/20")}},
        ["bank-a and bank-b", "10.1.0.0/16 overlaps 10.1.128.0/20"],
    ),
    "a peer with our ASN": (
        {"peers": PEERS[:1]},
        {BANK_B: {"member": make_card(asn=64512)}},
        ["bank-a and bank-b", "gateway.asn 64512"],
    ),
    "an application network that contains a peer": (
        {"peers": PEERS[:1], "applicationNetworks": ["10.96.0.0/12"]},
        {BANK_B: {"member": make_card()}},
        ["bank-b", "applicationNetworks 10.96.0.0/12", "RPC"],
    ),
    "an authority without a URL on its card": (
        {"peers": PEERS[:1], "ledger": {"network": {"authority": "bank-b"}}},
        {BANK_B: {"member": make_card()}},
        [
            "bank-b: ledger.network.authority names it, but its card has no authority",
            "wanted that member to run pulumi up",
        ],
    ),
    "an authority on a port that no rule opens": (
        {"peers": PEERS[:1], "ledger": {"network": {"authority": "bank-b"}}},
        {BANK_B: {"member": make_card(authority={"url": "https://10.98.1.126:9444"})}},
        ["bank-b: its authority.url is https://10.98.1.126:9444", "wanted port 8444"],
    ),
    "an agent on a port that no rule opens": (
        {"peers": PEERS[:1]},
        {BANK_B: {"member": make_card(networkInfoUrl="https://10.98.0.254:443/networkinfo")}},
        ["bank-b: its networkInfoUrl is https://10.98.0.254:443/networkinfo", "wanted port 8443"],
    ),
    "a node on a port that no rule opens": (
        {"peers": PEERS[:1]},
        with_node(p2pAddress="10.98.0.254:22"),
        ["bank-b: nodes[0].p2pAddress is 10.98.0.254:22", "wanted a port of corda, 10000 to 10099"],
    ),
    "a name in a spelling that no node uses": (
        {"peers": PEERS[:1]},
        named("C=GB,L=London,\n O=Bank B,OU=node-1"),
        [
            r"nodes[0].legalName is C=GB,L=London,\n O=Bank B,OU=node-1",
            "wanted it spelled OU=node-1, O=Bank B, L=London, C=GB",
        ],
    ),
    "a role with a line break": (
        {"peers": PEERS[:1], "ledger": own_network("OU=node-1, O=Bank B, L=London, C=GB")},
        with_node(role="node\nwarning: all is well"),
        [r"has the role node\nwarning: all is well on its card", "wanted notary"],
    ),
    "a notary that is no node": (
        {"ledger": own_network("OU=node-9, O=Bank A, L=London, C=GB")},
        {},
        [
            "ledger.network.notaries: OU=node-9, O=Bank A, L=London, C=GB is nobody's node",
            "wanted one of ours or of a peer",
        ],
    ),
    "a notary that is a node": (
        {"peers": PEERS[:1], "ledger": own_network("OU=node-1, O=Bank B, L=London, C=GB")},
        {BANK_B: {"member": make_card()}},
        ["ledger.network.notaries: OU=node-1, O=Bank B, L=London, C=GB has the role node", "wanted notary"],
    ),
    "everything at once": (
        {"peers": [*PEERS, peer("bank-d")]},
        {
            BANK_C: {"member": tampered()},
            stack_of("bank-d"): {"member": make_card("bank-d", address_space="10.1.0.0/20")},
        },
        ["peer bank-b", "can't be read", "peer bank-c", "bank-a and bank-d"],
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_it_is_refused_by_its_key_before_anything_is_registered(case: str):
    changes, references, names = REFUSED[case]
    refused = refusal(references=references, **changes)
    for name in names:
        assert name in refused.message, "the message must say what to change"
    assert refused.registered == (), "no part of a member may be registered"
    assert "Traceback" not in refused.message
    assert AUTHORIZATION_KEY not in refused.message, "a message ends up in a build log"


def test_a_changed_policy_of_a_live_link_is_a_warning():
    stack = StackConfiguration("bank-a", configuration(peers=PEERS[:1]))
    deployment = Deployment(OfflineAzure().account(Account.of("bank-a", ORGANIZATION)))
    run_program(stack, references={BANK_B: {"member": make_card()}}, deployment=deployment)
    other = make_card(ipsec_policy=IpsecPolicy(dh_group="ECP256"), counter=2)
    run = run_program(stack, references={BANK_B: {"member": other}}, deployment=deployment)
    (message,) = (each for each in run.messages if "ipsecPolicy" in each)
    assert message.startswith("bank-b: its gateway.ipsecPolicy is "), (
        "the peer may change it first, so this run continues"
    )
    assert message.endswith(": the link is down until both sides have run with the same one")


def test_a_member_shrinks_to_small_and_grows_again():
    deployment = Deployment(OfflineAzure().account(Account.of("bank-a", ORGANIZATION)))
    for size in ("medium", "small", "medium"):
        stack = StackConfiguration("bank-a", configuration(size=size, deletionProtection=False))
        run_program(stack, deployment=deployment)
    left = [each for each in deployment.azure.resources.values() if each.short == "monitor:DataCollectionRule"]
    assert len(left) == 2, "Azure deletes no rule that its policy has associated with VMs; the next has another name"


def test_a_second_authority_is_a_warning():
    card = make_card(authority={"url": "https://10.98.1.126:8444"})
    own = {"roles": {"node-1": "notary"}, "network": {"authority": "bank-a"}}
    values = configuration(peers=PEERS[:1], ledger=own)
    run = run_program(StackConfiguration("bank-a", values), references={BANK_B: {"member": card}})
    message, *_ = run.messages
    assert "bank-b certifies names too, and our nodes belong to the network of bank-a" in message, (
        "during a move to another authority there are two"
    )
    assert "nodes of two networks don't trust each other" in message
    values = configuration(peers=PEERS[:1], ledger={"network": {"authority": "bank-b"}})
    run = run_program(StackConfiguration("bank-a", values), references={BANK_B: {"member": card}})
    assert not any("certifies names too" in each for each in run.messages), "one authority causes no warning"


def test_a_refusal_names_each_mistake_once():
    changes, references, _ = REFUSED["everything at once"]
    lines = refusal(references=references, **changes).message.splitlines()[1:]
    assert len(lines) == 3, "an operator can correct all at once"
    assert max(Counter(lines).values()) == 1
