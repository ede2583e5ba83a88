"""Cards have an order: a stack counts its own, and refuses an older one of a peer."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pulumi
import pytest

from contract.card import MAX_CARD_BYTES, SeenCard, read_card
from contract.fingerprint import fingerprint
from lab.azure.azure import Account, OfflineAzure
from lab.azure.deployment import Deployment
from lab.azure.program import ORGANIZATION, Run, StackConfiguration, run_program
from lab.cards import legal_name, make_card, signing_seed
from stack import settings
from stack.regions import REGIONS, PostgresqlOffer, ZoneRedundancy
from tests.configuration import configuration
from tests.runs import one, refusal, stack_of
from tests.unit.test_settings import ZONE, pem

BANK_A = {"name": "bank-a", "legalName": "O=Bank A, L=London, C=GB", "asn": 64512}
BANK_B = {"name": "bank-b", "legalName": legal_name("bank-b"), "stack": stack_of("bank-b")}
GENERATIONS = {"link": 2, "signing": 2}
RAISED: dict[str, Any] = {"keyGenerations": {"link": 2, "signing": 1}}


def own_network(**changes: Any) -> dict[str, Any]:
    return {"roles": {"node-1": "notary"}, "network": {"authority": "bank-a", **changes}}


def server_of(run: Run) -> Mapping[str, Any]:
    """The inputs of the database's server."""
    wanted = one(run, "Server").inputs
    return {key: wanted[key] for key in ("sku", "highAvailability", "backup")}


class Stack:
    """Bank A's stack, updated again and again."""

    def __init__(self) -> None:
        self.deployment = Deployment(OfflineAzure().account(Account.of("bank-a", ORGANIZATION)))

    def up(self, peer_card: Mapping[str, Any] | None = None, **changes: Any) -> Run:
        peers = {"peers": [BANK_B]} if peer_card else {}
        return run_program(
            StackConfiguration("bank-a", configuration(**{"size": "small", **peers, **changes})),
            references={stack_of("bank-b"): {"member": peer_card}} if peer_card else {},
            deployment=self.deployment,
        )


@pytest.fixture(scope="module")
def live() -> Mapping[str, Any]:
    """The outputs of a deployed bank whose keys were replaced once."""
    return Stack().up(keyGenerations=GENERATIONS).outputs


def test_a_stack_counts_its_cards_and_those_of_its_peers():
    stack = Stack()
    first = stack.up()
    assert first.outputs["member"]["counter"] == 1
    assert first.outputs["peerCards"] == {}
    same = stack.up(make_card(counter=4))
    assert same.outputs["member"] == first.outputs["member"], "a new peer does not change this member's card"
    seen = same.outputs["peerCards"]["bank-b"]
    assert (seen["counter"], seen["linkGeneration"]) == (4, 1)
    changed = stack.up(make_card(counter=5, **RAISED), bank={**BANK_A, "asn": 64600})
    assert changed.outputs["member"]["counter"] == 2, "another ASN changes the card"
    seen = changed.outputs["peerCards"]["bank-b"]
    assert (seen["counter"], seen["linkGeneration"]) == (5, 2)
    alone = stack.up(bank={**BANK_A, "asn": 64600, "cardCounter": 9})
    assert alone.outputs["member"]["counter"] == 9, "a floor applies after the state was restored"
    assert alone.outputs["peerCards"] == changed.outputs["peerCards"], "a peer that left may join again"


def test_a_state_of_an_older_program_is_updated():
    stack = Stack()
    stack.up()
    for output in ("madeWith", "peerCards", "serverOffer", "shareGib", "waitsFor"):
        assert stack.deployment.outputs.pop(output, None) is not None, f"{output} did not exist then"
    older = {key: value for key, value in stack.deployment.outputs["member"].items() if key != "counter"}
    stack.deployment.outputs["member"] = older | {"schema": "1.1"}
    updated = stack.up()
    assert updated.outputs["member"]["counter"] == 1, "peers accept any counter after a card without one"
    assert {"madeWith", "peerCards", "serverOffer", "shareGib"} <= updated.outputs.keys()


@pytest.mark.parametrize(
    ("card", "message"),
    [
        (make_card(counter=4), "its counter is 4; wanted 5, which was seen before, or higher"),
        (make_card(counter=5, location="northeurope"), "another card has the counter 5 too"),
        (make_card(counter=6), "its keyGenerations.link is 1; wanted 2"),
    ],
    ids=["older", "other content", "an older link key"],
)
def test_an_older_card_of_a_peer_is_refused_before_anything_is_registered(card: dict[str, Any], message: str):
    newest = make_card(counter=5, **RAISED)
    read = read_card(newest, name="bank-b", pinned=None, source="test")
    outputs = {"peerCards": {"bank-b": SeenCard.of(read, newest).to_output()}}
    refused = refusal(outputs=outputs, references={stack_of("bank-b"): {"member": card}}, peers=[BANK_B])
    assert f"peer bank-b: stack {stack_of('bank-b')}: {message}" in refused.message, (
        "the link key on it may have leaked"
    )
    assert refused.registered == (), "no link may be made with an old key"


def test_a_peer_that_rejoins_with_an_agreed_key_starts_a_new_count():
    stack = Stack()
    stack.up(make_card(counter=5, **RAISED))
    card = make_card(counter=1, seed=signing_seed("bank-b again"))
    refused = refusal(
        outputs=stack.deployment.outputs, references={stack_of("bank-b"): {"member": card}}, peers=[BANK_B]
    )
    assert "its counter is 1; wanted 5" in refused.message, "nobody agreed on the key: it may be one of long ago"
    again = stack.up(card, peers=[{**BANK_B, "fingerprint": fingerprint(card["signingKey"])}])
    assert again.outputs["peerCards"]["bank-b"]["counter"] == 1


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"bank": {**BANK_A, "name": "bank-z"}}, "bank.name: bank-z: wanted bank-a, as it is live"),
        ({"location": "uksouth"}, "azure-native:location: uksouth: wanted swedencentral, as it is live"),
        ({"addressSpace": "10.9.0.0/16"}, "addressSpace: 10.9.0.0/16: wanted 10.1.0.0/16, as it is live"),
        (
            {"bank": {**BANK_A, "legalName": "O=Bank Z, L=London, C=GB"}},
            "bank.legalName: O=Bank Z, L=London, C=GB: wanted O=Bank A, L=London, C=GB, as it is live",
        ),
        ({"keyGenerations": {"link": 1}}, "keyGenerations.link: 1: wanted 2 or more, as it is live"),
        ({"keyGenerations": {"link": 2, "signing": 1}}, "keyGenerations.signing: 1: wanted 2 or more"),
        ({"keyVault": {"softDeleteDays": 30}}, "keyVault.softDeleteDays: 30: wanted 90, as it is live"),
        (
            {"database": {"geoRedundantBackup": False}},
            "database.geoRedundantBackup: false: wanted true, as it is live",
        ),
        (
            {"keyVault": {"purgeProtection": False}},
            "keyVault.purgeProtection: false: wanted true, as it is live: Azure never switches it off",
        ),
    ],
    ids=["name", "region", "addresses", "legal name", "link key", "signing key", "vault", "backup", "purging"],
)
def test_changes_that_would_break_a_live_member_are_refused(
    live: Mapping[str, Any], changes: dict[str, Any], wanted: str
):
    refused = refusal(outputs=live, **{"keyGenerations": GENERATIONS, **changes})
    assert wanted in refused.message, "half of the stack would be replaced, and parts would fail"
    assert refused.registered == ()


@pytest.mark.parametrize(
    ("field", "key", "lost"),
    [
        ("subscription_id", "azure-native:subscriptionId", {"member": {"gateway": None}}),
        ("subscription_id", "azure-native:subscriptionId", {"madeWith": None}),
        ("tenant_id", "azure-native:tenantId", {"madeWith": None}),
    ],
    ids=["subscription, without a VPN gateway", "subscription, of an older program", "tenant"],
)
def test_a_live_member_stays_where_it_is(live: Mapping[str, Any], field: str, key: str, lost: dict[str, Any]):
    known = {name: {**live[name], **less} if less else None for name, less in lost.items()}
    account, elsewhere = Account.of("bank-a", ORGANIZATION), str(UUID(int=9))
    azure = OfflineAzure().account(replace(account, **{field: elsewhere}))
    refused = refusal(outputs={**live, **known}, azure=azure, keyGenerations=GENERATIONS)
    assert f"{key}: {elsewhere}: wanted {getattr(account, field)}, as it is live" in refused.message, (
        "Pulumi would make a second member there, and lose the first one from its state"
    )
    assert len(refused.message.splitlines()) == 2, "nothing else is wrong"
    assert refused.registered == ()


def test_a_live_servers_standby_moves_only_by_way_of_none():
    stack = Stack()
    modes: list[dict[str, Any]] = [{"database": {"highAvailability": mode}} for mode in ("ZoneRedundant", "SameZone")]
    for before, after in (modes, modes[::-1]):
        live = stack.up(**before).outputs
        refused = refusal(outputs=live, size="small", **after)
        (now,), (was,) = after["database"].values(), before["database"].values()
        assert f"database.highAvailability: {now}: wanted {was}, as it is live, or first Disabled" in refused.message
        assert refused.registered == (), "Azure refuses the change, with half of the update done"
        stack.up(database={"highAvailability": "Disabled"})
        stack.up(**after)
        stack = Stack()


def test_a_lower_ca_generation_is_refused():
    first, second = (own_network(caGeneration=generation) for generation in (1, 2))
    stack = Stack()
    stack.up(ledger=first)
    live = stack.up(ledger=second).outputs
    refused = refusal(outputs=live, ledger=first)
    assert "ledger.network.caGeneration: 1: wanted 2 or more, as it is live" in refused.message
    assert refused.registered == (), "the newer CA's key would be deleted"


@pytest.mark.parametrize(
    ("roles", "size", "said"),
    [
        ({"node-2": "notary"}, "medium", "ledger.roles.node-1: node: wanted notary, as it is live"),
        ({"node-1": "notary"}, "small", "ledger.roles.node-3: no such identity: wanted notary, as it is live"),
    ],
    ids=["another node", "fewer nodes"],
)
def test_a_live_notary_stays_one(roles: dict[str, str], size: str, said: str):
    stack = Stack()
    names = {"node-1": "notary"} if size == "medium" else {"node-1": "notary", "node-3": "notary"}
    before: dict[str, Any] = {"ledger": {**own_network(), "roles": names}, "size": "medium"}
    live = stack.up(**before).outputs
    after: dict[str, Any] = {"ledger": {**own_network(), "roles": roles}, "size": size}
    refused = refusal(outputs=live, **after)
    assert said in refused.message, "the next parameters would drop the notary that states name"
    assert refused.registered == ()
    more: dict[str, Any] = {"ledger": {**own_network(), "roles": {**names, "node-2": "notary"}}, "size": "medium"}
    stack.up(**more)
    stack.up(**more, deletionProtection=False)
    stack.up(**after, deletionProtection=False)


def test_a_name_that_a_zone_certified_stays(tmp_path: Path):
    zone = {**ZONE, "trustRoot": pem(tmp_path / "root.pem")}
    stack = Stack()

    def named(unit: str | None) -> dict[str, Any]:
        return {
            "ledger": {
                "network": {"zone": zone},
                "names": {"node-1": f"OU={unit}, {BANK_A['legalName']}"} if unit else {},
            }
        }

    stack.up(**named(None))
    live = stack.up(**named("Ledger 1")).outputs
    for other in ("Ledger 2", None):
        refused = refusal(outputs=live, **named(other))
        assert "ledger.names.node-1: " in refused.message, "its certificates are of the other name"
        assert f": wanted OU=Ledger 1, {BANK_A['legalName']}, as it is live" in refused.message
    stack.up(**named("Ledger 2"), deletionProtection=False)
    stack.up(ledger=own_network())


def test_keys_are_protected_except_in_the_run_that_replaces_them():
    def protected(run: Run) -> set[str]:
        return {
            each.name
            for each in run.registrations.values()
            if each.name in ("membership-link", "membership-signing") and each.request.protect
        }

    stack, both = Stack(), {"membership-link", "membership-signing"}
    first = stack.up()
    assert protected(first) == protected(stack.up()) == both, "no other copy exists of them"
    raised = stack.up(**RAISED)
    assert protected(raised) == {"membership-signing"}, "Pulumi replaces no protected resource"
    assert raised.outputs["member"]["linkPublicKey"] != first.outputs["member"]["linkPublicKey"]
    assert protected(stack.up(**RAISED)) == both, "the next run protects the new one"
    assert protected(stack.up(**RAISED, deletionProtection=False)) == set()


def test_the_share_grows_in_place_and_never_shrinks():
    stack = Stack()
    for size in (100, 100, 400):
        share = one(stack.up(ledger={"shareGib": size}), "FileShare")
        assert share.inputs["shareQuota"] == size, "the share is protected, and never replaced"
    live = stack.up(ledger={"shareGib": 400}).outputs
    refused = refusal(outputs=live, ledger={"shareGib": 399})
    assert "ledger.shareGib: 399: wanted 400 or more, as it is live" in refused.message, "nodes' queues might not fit"
    assert refused.registered == ()
    assert "wanted 400 or more" in refusal(outputs=live).message, "removing the setting may not shrink it either"


def test_a_live_server_keeps_its_settings_when_its_region_offers_less(monkeypatch: pytest.MonkeyPatch):
    stack = Stack()
    made = server_of(stack.up())
    less = replace(REGIONS["swedencentral"], postgresql=PostgresqlOffer((3,), ZoneRedundancy.CLOSED, False))
    monkeypatch.setattr(settings, "REGIONS", {**REGIONS, "swedencentral": less})
    assert server_of(stack.up()) == made, (
        "a new SKU or standby changes the server, and other backups replace it with its data"
    )
    assert server_of(Stack().up()) != made, "a new server gets what the region offers"


def test_a_live_member_stays_as_it_is_when_its_region_gets_zones(monkeypatch: pytest.MonkeyPatch):
    stack = Stack()

    def zones(run: Run) -> dict[str, Any]:
        kept = {
            each.name: (each.inputs.get("zones"), (each.inputs.get("sku") or {}).get("name"))
            for each in run.registrations.values()
            if each.type.split(":")[-1] in ("PublicIPAddress", "StorageAccount", "VirtualMachineScaleSet")
        }
        (frontend,) = one(run, "LoadBalancer", "nodes-balancer").inputs["frontendIPConfigurations"]
        return kept | {"frontend": frontend.get("zones")}

    made = zones(stack.up(location="westus"))
    more = replace(REGIONS["westus"], zones=("1", "2", "3"), pair=None)
    monkeypatch.setattr(settings, "REGIONS", {**REGIONS, "westus": more})
    assert zones(stack.up(location="westus")) == made, (
        "Azure changes no live address's zones, and no account's copies"
    )
    assert zones(Stack().up(location="westus")) != made, "a new member gets what the region has"
    refused = refusal(outputs=stack.deployment.outputs, location="westus", size="medium")
    assert "size: medium: wanted small, as it is live" in refused.message


def test_unreadable_own_outputs_are_refused():
    refused = refusal(outputs={"peerCards": {"bank-b": {"counter": "many"}}})
    assert "this member's stack organization/decentralized-trust/bank-a: its outputs: bank-b" in refused.message
    assert refused.registered == (), "without them an old card would be accepted"


def test_a_peer_cannot_make_our_own_update_fail():
    stack = Stack()
    own = stack.up().outputs["member"]
    copy = make_card(linkPublicKey=own["linkPublicKey"])
    deployed = dict(stack.deployment.resources)
    with pytest.raises(pulumi.RunError, match=r"bank-a and bank-b: both cards have the linkPublicKey .*; wanted"):
        stack.up(copy)
    assert stack.deployment.resources == deployed, (
        "no key can be agreed, which must be found before anything is registered"
    )


def test_the_largest_card_fits_into_its_secret():
    card = make_card(location="é" * 7000)
    run = Stack().up(card)
    (secret,) = [each for each in run.registrations.values() if each.name == "keys-bank-peer-bank-b"]
    text = secret.inputs["properties"]["value"]
    assert len(text.encode()) <= MAX_CARD_BYTES, (
        "a secret holds 25 kB, and é as \\u00e9 would take three times as much"
    )
    assert json.loads(text) == card
