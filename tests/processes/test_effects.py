"""Column "A change" of docs/configuration.md: the next plan of a live member for each changed setting."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from contract.card import IpsecPolicy
from contract.secrets import VaultSecret
from docs.generate import EFFECTS, Effect, all_keys, effect_of
from lab import ROOT
from lab.azure.deployment import Step
from lab.azure.plan.changes import Changes, changes_between
from lab.azure.plan.planned import Plan, Source, plan_in_process, plan_next, source_of
from stack.mistakes import section_of
from stack.settings import LOCATION_KEY, PeerSettings
from tests.configuration import IMAGE_ID, SSH_PUBLIC_KEY, changed

ID = str(UUID(int=7))
CHANGES: dict[str, Any] = {
    LOCATION_KEY: "northeurope",
    "size": "medium",
    "nodes.count": 9,
    "nodes.standby": 2,
    "nodes.vmSize": "Standard_D8s_v5",
    "nodes.image.id": IMAGE_ID,
    "nodes.encryptionAtHost": False,
    "nodes.sshPublicKey": SSH_PUBLIC_KEY,
    "bank.legalName": "O=Other, L=London, C=GB",
    "bank.asn": 64999,
    "bank.cardCounter": 50,
    "addressSpace": "10.77.0.0/16",
    "ledger.repository": "https://maven.bank.example/ledger",
    "ledger.applications": [{"coordinates": "a.b:c:1", "sha256": "0" * 64}],
    "ledger.roles": {"node-1": "notary", "node-2": "notary"},
    "ledger.rpcUsers": [{"name": "reader", "permissions": ["ALL"]}],
    "ledger.applicationPorts": "each",
    "ledger.shareGib": 500,
    "ledger.network.trustRoot": f"sha256:{'0' * 64}",
    "ledger.network.caGeneration": 2,
    "ledger.network.eventHorizonDays": 20,
    "ledger.network.maxMessageBytes": 20_000_000,
    "ledger.network.maxTransactionBytes": 20_000_000,
    "ledger.network.minimumPlatformVersion": 11,
    "ledger.network.document": f"sha256:{'0' * 64}",
    "ledger.network.approval": "auto",
    "ledger.network.rootOpenUntil": f"{datetime.now(UTC) + timedelta(hours=2):%Y-%m-%dT%H:%M:%SZ}",
    "connectivity.vpn.sku": "VpnGw3AZ",
    "gatewayReaders": [ID],
    "applicationNetworks": ["10.200.0.0/24"],
    "operators": [ID],
    "alerts.emails": ["operations@bank-a.example"],
    "monitoring.budget": 5000,
    "tags": {"cost-centre": "1"},
    "database.highAvailability": "Disabled",
    "database.sku": "Standard_D16ds_v5",
    "database.geoRedundantBackup": False,
    "keyVault.purgeProtection": True,
    "keyVault.softDeleteDays": 30,
    "keyGenerations.link": 2,
    "keyGenerations.signing": 2,
}

BEFORE = {"keyVault.purgeProtection": False, "nodes.image.id": IMAGE_ID.replace("1.0.0", "0.9.0")}
"""Values before the change, where the sample's own can't change, or has none."""
UNTRIED: dict[str, set[str]] = {
    "the whole list is tested": {f"ledger.applications[].{each}" for each in ("coordinates", "sha256")}
    | {f"ledger.rpcUsers[].{each}" for each in ("name", "permissions")},
    "the sample has none of it": {
        "connectivity.expressRoute.circuitId",
        "expressRouteAuthorizationKey",
        "ledger.artifact.coordinates",
        "ledger.artifact.sha256",
        "ledger.names",
        *(f"ledger.network.zone.{each}" for each in ("networkMapUrl", "registrationUrl", "trustRoot")),
    },
    "there is one value": {"ledger.platform", "ledger.version"},
    "the peer's half must change too, until when the program refuses the plan": {
        f"connectivity.vpn.ipsecPolicy.{each.alias}" for each in IpsecPolicy.model_fields.values()
    },
    "a peer's other entry is another peer": {f"peers[].{each.alias}" for each in PeerSettings.model_fields.values()},
    "the program refuses the plan until a role, or the new authority's card, has changed too": {
        "ledger.network.authority",
        "ledger.network.notaries",
    },
    "no resource's input: Pulumi's protection alone": {"deletionProtection"},
    "test_card_counter tries it": {"bank.name"},
}
"""Settings without a change to try, by the reason."""


def test_each_setting_is_tested_or_has_a_reason() -> None:
    leaves = {key.path for key in all_keys() if not list(section_of(key.field))}
    # A list of sections is tested as a whole.
    tried = {path for path in CHANGES if path in leaves}
    assert leaves - tried == set().union(*UNTRIED.values()), (
        "a new setting would silently get the effect of its section"
    )
    assert not [key for key in EFFECTS if not any(path.startswith(key) for path in leaves)], "no such setting"


@pytest.fixture(scope="module")
def source() -> Source:
    return source_of(ROOT / "Pulumi.prod.yaml")


@pytest.fixture(scope="module")
def live(source: Source) -> Plan:
    return plan_in_process(source)


def effect(changes: Changes) -> Effect:
    if not changes.possible:
        return Effect.NEVER
    if any(each.rolls_vms for each in changes.resources):
        return Effect.ROLLS
    links = {"network:VirtualNetworkGateway", "network:VirtualNetworkGatewayConnection"}
    if any(
        each.resource.short_type in links
        and (each.step is not Step.UPDATE or any(not one.path.startswith("tags") for one in each.properties))
        for each in changes.resources
    ):
        return Effect.LINKS
    if any(
        each.resource.short_type == "dbforpostgresql:Server"
        and any(one.path.startswith("sku.") for one in each.properties)
        for each in changes.resources
    ):
        return Effect.RESTARTS_DATABASE
    if any(
        each.resource.name == f"keys-bank-{VaultSecret.RPC_USERS}"
        and any(not one.path.startswith("tags") for one in each.properties)
        for each in changes.resources
    ):
        return Effect.RESTARTS_NODES
    # A raised generation requests a new key.
    replaced = [
        each.resource.name
        for each in changes.resources
        if each.step is Step.REPLACE and not each.resource.short_type.startswith("random:")
    ]
    assert not replaced, f"{replaced} would be replaced, which docs/configuration.md does not say"
    return Effect.IN_PLACE


@pytest.mark.parametrize(("path", "value"), CHANGES.items(), ids=CHANGES)
def test_a_changes_effect_is_the_documented_one(source: Source, live: Plan, path: str, value: Any) -> None:
    if path in BEFORE:
        first = changed(source.configuration.values, path, BEFORE[path])
        source = replace(source, configuration=replace(source.configuration, values=first))
        live = plan_in_process(source)
    configuration = replace(source.configuration, values=changed(source.configuration.values, path, value))
    after = plan_next(replace(source, configuration=configuration), live)
    changes = changes_between(live, after.plan, after.refusals)
    assert after.refused or changes.resources or changes.outputs, "the test must change the value"
    found = effect(replace(changes, refused=after.refused))
    assert found is effect_of(path), "reviewers rely on the documented effect"


def test_a_first_image_replaces_the_scale_sets_alone(source: Source, live: Plan) -> None:
    values = changed(source.configuration.values, "nodes.image.id", CHANGES["nodes.image.id"])
    after = plan_next(replace(source, configuration=replace(source.configuration, values=values)), live)
    changes = changes_between(live, after.plan, after.refusals)
    replaced = {each.resource.short_type for each in changes.resources if each.step is Step.REPLACE}
    assert replaced == {"compute:VirtualMachineScaleSet"}, "Azure refuses the change in place"
    assert changes.possible, "nothing that depends on a scale set is protected"
