"""The keys of an identity: the real SDK against a vault on localhost."""

import asyncio
import base64
import copy
import hashlib
import itertools
import json
import logging
import os
import random
import stat
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock

import pytest
from aiohttp import web

from agent.keys import KeysDamagedError, KeyVaultKeys, StoredKeys, file_system, write_files
from agent.lease import IdentityRecord, Lease
from agent.node import Node
from contract.identities import Identity
from contract.key_document import MAX_SECRET_BYTES, KeyDocument
from contract.listeners import Audience
from contract.platform import P2P, Port, Role, SecretBlob
from host.calls import BoundedCalls
from host.clock import Clock
from host.errors import DamagedError, UnavailableError
from host.status import Status
from lab.banks.key_vault import Fault, Vault, client_of, serving

BLOBS = ("identity", "tls", "password")
ROLE = Role(
    "node", (Port(P2P, 10000, frozenset({Audience.PEERS})),), secrets=tuple(SecretBlob(name, 300) for name in BLOBS)
)
NODE = Identity(0, "node-1", "OU=node-1, O=Bank A, L=London, C=GB", ROLE, {P2P: 10000})
SECRET = "node-1-keys"
START = 1_800_000_000


def new_blobs() -> dict[str, bytes]:
    return {name: random.randbytes(200) for name in BLOBS}


def document(blobs: dict[str, bytes], identity: str = "node-1", replaces: str | None = None) -> str:
    return KeyDocument(identity=identity, blobs=blobs, replaces=replaces).to_json()


def hash_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


class Bank:
    """A vault, its VMs, and an operator with rights."""

    def __init__(self, vault: Vault, url: str, certificate: Path) -> None:
        self.vault, self.url, self._certificate = vault, url, certificate
        self.made: list[dict[str, bytes]] = []
        self.options: dict[str, Any] = {"settle_seconds": 0}

    def make(self) -> dict[str, bytes]:
        self.made.append(new_blobs())
        return self.made[-1]

    @asynccontextmanager
    async def holder(self, **options: Any) -> AsyncIterator[KeyVaultKeys]:
        async with client_of(self.url, self._certificate, **options) as client:
            yield KeyVaultKeys(client, **self.options)

    async def obtain(self, recorded: str | None = None, identity: Identity = NODE) -> StoredKeys:
        async with self.holder() as holder:
            return await holder.obtain(identity, self.make, recorded)

    @asynccontextmanager
    async def person(self):
        async with client_of(self.url, self._certificate) as client:
            yield client

    async def write(self, text: str) -> str:
        """Write a version as an operator or a late VM; returns its id."""
        async with self.person() as person:
            return str((await person.set_secret(SECRET, text)).properties.version)

    async def change(self, version: str = "", **properties: Any) -> None:
        async with self.person() as person:
            await person.update_secret_properties(SECRET, version, **properties)

    async def give_up(self, version: str = "", said: str = "yes") -> None:
        await self.change(version, tags={"abandoned": said})

    @property
    def versions(self) -> dict[str, dict[str, Any]]:
        return self.vault.secrets[SECRET]

    @property
    def texts(self) -> set[str]:
        return {each["value"] for each in self.versions.values()}

    @property
    def state(self) -> str:
        return json.dumps([self.vault.secrets, self.vault.deleted])

    def fails_after(self, served: int, fault: Fault = "cut") -> None:
        async def judge(_: web.Request) -> Fault:
            return fault if len(self.vault.served) > served else None

        self.vault.served.clear()
        self.vault.judge = judge

    def heals(self) -> None:
        self.vault.judge = None


@pytest.fixture
def at_bank(tls):
    def run(history: Callable[[Bank], Any], **vault: Any) -> Any:
        async def play() -> Any:
            served = Vault(**vault)
            context, certificate = tls
            async with serving(served, context) as url:
                return await history(Bank(served, url, certificate))

        return asyncio.run(play())

    return run


@pytest.fixture
def each_second(at_bank):
    """The same vault, in which no two versions have one second."""

    def run(history: Callable[[Bank], Any]) -> Any:
        clock = itertools.count(START)
        return at_bank(history, now=lambda: next(clock))

    return run


def test_the_first_holder_makes_keys_and_each_later_one_restores_them(at_bank):
    async def history(bank: Bank):
        first = await bank.obtain()
        before_recorded = await bank.obtain()
        later = await bank.obtain(first.fingerprint)
        assert first.blobs == before_recorded.blobs == later.blobs == bank.made[0], "one identity, one set of keys"
        assert first.fingerprint == before_recorded.fingerprint == later.fingerprint, (
            "the fingerprint identifies the keys"
        )
        assert len(bank.made) == 1, "no other keys were made"
        assert set(bank.vault.secrets) == {SECRET}, "one secret, under the documented name"
        assert [each for each in bank.vault.served if "GET" not in each] == [f"PUT /secrets/{SECRET}"], "one write"

    at_bank(history)


def test_identities_do_not_share_keys(at_bank):
    async def history(bank: Bank):
        one, ten = await bank.obtain(), await bank.obtain(identity=replace(NODE, name="node-10"))
        assert one.blobs != ten.blobs, "each identity has its own keys"
        assert (await bank.obtain(one.fingerprint)).blobs == one.blobs, "node-1 is a beginning of node-10"

    at_bank(history)


def test_an_operator_can_find_and_restore_the_secret(at_bank):
    async def history(bank: Bank):
        keys = await bank.obtain()
        stored = bank.versions[only(bank)]
        assert stored["tags"] == {"identity": "node-1"}, "the secret's tags name its identity"
        assert stored["contentType"] == "application/json", "the portal shows the content type"
        assert json.loads(stored["value"]) == {
            "identity": "node-1",
            "blobs": {name: base64.b64encode(blob).decode() for name, blob in bank.made[0].items()},
        }, "an operator can restore it with jq and base64 alone"
        assert keys.fingerprint == hash_of(stored["value"]), "the record's hash is that of the value"

    at_bank(history)


# --- Cut off -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fault", "made"), [("cut", 4), ("lose", 3)])
@pytest.mark.parametrize("lives_on", [False, True])
def test_a_crash_at_any_request_of_the_first_write_leaves_all_or_nothing(at_bank, fault, made, lives_on):
    async def history(bank: Bank):
        outcomes: list[str] = []
        while True:
            bank.vault.secrets.clear()
            bank.made.clear()
            bank.fails_after(len(outcomes), fault)
            async with bank.holder() as holder:
                try:
                    await holder.obtain(NODE, bank.make, None)
                except UnavailableError:
                    bank.heals()
                else:
                    break
                before = len(bank.made)
                keys = await holder.obtain(NODE, bank.make, None) if lives_on else await bank.obtain()
            outcomes.append("made" if len(bank.made) > before else "restored")
            assert keys.blobs == bank.made[-1], "the first stored version is in use"
            # The HTTP client repeats a write whose answer was lost.
            assert len(bank.texts) == 1, "an interrupted write stored nothing, or everything"
            assert (await bank.obtain(keys.fingerprint)).blobs == keys.blobs, "and it stays the same"
        assert outcomes == ["made"] * made + ["restored"] * (6 - made), (
            "list, look for a value, look for a deleted one, write, list, read back: each was interrupted"
        )

    at_bank(history)


@pytest.mark.parametrize("fault", ["cut", "lose"])
@pytest.mark.parametrize("lives_on", [False, True])
def test_a_crash_at_any_request_of_a_replacement_is_continued(each_second, fault, lives_on):
    async def history(bank: Bank):
        old = await bank.obtain()
        await bank.give_up()
        before, steps = copy.deepcopy(bank.versions), 0
        while True:
            bank.vault.secrets[SECRET] = copy.deepcopy(before)
            bank.fails_after(steps, fault)
            async with bank.holder() as holder:
                try:
                    await holder.obtain(NODE, bank.make, old.fingerprint)
                except UnavailableError:
                    bank.heals()
                else:
                    break
                keys = await (
                    holder.obtain(NODE, bank.make, old.fingerprint) if lives_on else bank.obtain(old.fingerprint)
                )
            steps += 1
            assert keys.blobs == bank.made[-1] != old.blobs, "the replaced keys are never returned"
            assert unchanged(bank, before), "the old version is unchanged"
            assert len(bank.texts) == 2, "one replacement"
            for recorded in (old.fingerprint, keys.fingerprint, None):
                assert (await bank.obtain(recorded)).fingerprint == keys.fingerprint, "with any older record"
        assert steps == 6, "list, read, write, list, read both: each request was interrupted once"

    each_second(history)


# --- Damage --------------------------------------------------------------------------------------------------------


async def lose(bank: Bank) -> None:
    bank.vault.secrets.clear()


async def delete(bank: Bank) -> None:
    async with bank.person() as person:
        await person.delete_secret(SECRET, _polling_interval=0.01)


async def disable(bank: Bank) -> None:
    await bank.change(only(bank), enabled=False)


async def disable_and_give_up(bank: Bank) -> None:
    await bank.change(only(bank), enabled=False, tags={"abandoned": "yes"})


async def alter(bank: Bank) -> None:
    bank.versions[only(bank)]["value"] = document(new_blobs(), identity="node-2")


def only(bank: Bank) -> str:
    (version,) = bank.versions
    return version


@pytest.mark.parametrize(
    ("harm", "recorded", "unrecorded"),
    [
        (lose, "has no version of fingerprint", None),
        (delete, "is soft-deleted", "is soft-deleted"),
        (disable, "is disabled", "is disabled"),
        (disable_and_give_up, "is disabled", "is disabled"),
        (alter, "has no version of fingerprint", "does not hold the keys of node-1"),
    ],
)
def test_damaged_keys_are_reported_and_never_replaced(at_bank, harm, recorded, unrecorded):
    async def history(bank: Bank):
        keys = await bank.obtain()
        await harm(bank)
        there = bank.state
        for fingerprint, reason in ((keys.fingerprint, recorded), (None, unrecorded)):
            if reason is None:
                continue
            with pytest.raises(KeysDamagedError, match=f"secret {SECRET}.*{reason}.*; wanted") as caught:
                await bank.obtain(fingerprint)
            assert isinstance(caught.value, DamagedError), "the agent waits for an operator"
            assert bank.state == there, "the damaged version is unchanged"
        assert len(bank.made) == 1, "no new keys, not even in memory"

    at_bank(history)


FOREIGN = {
    "empty object": ("{}", "identity: Field required"),
    "list": ("[]", "the document: "),
    "no JSON": ("-----BEGIN PRIVATE KEY-----", "the document: Invalid JSON"),
    "text of before": ("AAAA", "the document: Invalid JSON"),
    "another identity's": (document(new_blobs(), identity="node-2"), "another identity's keys"),
    "unknown field": (json.dumps(json.loads(document(new_blobs())) | {"more": 1}), "more: Extra inputs"),
    "blob missing": (
        document(dict.fromkeys(BLOBS[1:], b"x")),
        r"role node: secret blobs \['password', 'tls'\]; wanted \['identity', 'password', 'tls'\]",
    ),
    "blob too many": (document(new_blobs() | {"more": b"x"}), "role node: secret blobs .*'more'"),
    "blob empty": (document(new_blobs() | {"tls": b""}), "secret blob tls: 0 bytes; wanted 1 to 300"),
    "blob too large": (document(new_blobs() | {"tls": bytes(301)}), "secret blob tls: 301 bytes; wanted 1 to 300"),
    "no base64": (
        json.dumps({"identity": "node-1", "blobs": dict.fromkeys(BLOBS, "no base64!")}),
        "blobs.identity: Value error",
    ),
    "blob no text": (json.dumps({"identity": "node-1", "blobs": dict.fromkeys(BLOBS, 5)}), "blobs.identity: "),
}


@pytest.mark.parametrize(("text", "reason"), FOREIGN.values(), ids=FOREIGN)
def test_a_secret_without_the_identitys_keys_is_refused(each_second, text, reason):
    async def history(bank: Bank):
        version = await bank.write(text)
        there = bank.state
        for recorded in (None, hash_of(text)):
            with pytest.raises(
                KeysDamagedError,
                match=f"secret {SECRET}, version {version} does not hold the keys of node-1: {reason}",
            ) as caught:
                await bank.obtain(recorded)
            assert "; wanted: the secret restored from its backup, or the tag abandoned=yes" in str(caught.value), (
                "the message names both remedies"
            )
            assert bank.state == there, "it is not overwritten silently"
        await bank.give_up(version)
        keys = await bank.obtain()
        assert keys.blobs == bank.made[-1], "an operator has abandoned it"
        assert version in bank.versions, "it is unchanged"
        assert (await bank.obtain()).blobs == (await bank.obtain(keys.fingerprint)).blobs == keys.blobs, (
            "the result is permanent"
        )

    each_second(history)


@pytest.mark.parametrize("text", [each for each, _ in FOREIGN.values()], ids=FOREIGN)
def test_later_versions_have_no_effect(each_second, text):
    async def history(bank: Bank):
        keys = await bank.obtain()
        await bank.write(text)
        for recorded in (None, keys.fingerprint):
            assert (await bank.obtain(recorded)).blobs == keys.blobs, "the oldest version is in use"

    each_second(history)


def test_a_recovered_secret_is_used_again(at_bank):
    async def history(bank: Bank):
        keys = await bank.obtain()
        await delete(bank)
        with pytest.raises(KeysDamagedError, match="soft-deleted"):
            await bank.obtain(keys.fingerprint)
        async with bank.person() as person:
            await person.recover_deleted_secret(SECRET, _polling_interval=0.01)
        assert (await bank.obtain(keys.fingerprint)).blobs == keys.blobs, "a recovered secret is as before"

    at_bank(history)


def test_a_secret_deleted_just_before_the_write_is_reported(at_bank):
    async def history(bank: Bank):
        async def judge(request: web.Request) -> Fault:
            if request.method == "PUT":
                bank.vault.deleted[SECRET] = {"v": {"id": "x"}}
            return None

        bank.vault.judge = judge
        with pytest.raises(KeysDamagedError, match=f"{SECRET} is soft-deleted"):
            await bank.obtain()
        assert not bank.vault.secrets, "keys that an operator can recover are not replaced"

    at_bank(history)


def test_a_disabled_version_is_skipped_only_if_the_record_names_another(each_second):
    async def history(bank: Bank):
        first = await bank.obtain()
        oldest = only(bank)
        late = document(new_blobs())
        newer = await bank.write(late)
        await bank.change(newer, enabled=False)
        for recorded in (None, first.fingerprint):
            assert (await bank.obtain(recorded)).blobs == first.blobs, "a younger disabled version was never in use"
        await bank.change(newer, enabled=True)
        await bank.change(oldest, enabled=False)
        assert (await bank.obtain(hash_of(late))).fingerprint == hash_of(late), "the record's hash decides"
        for recorded in (None, first.fingerprint):
            with pytest.raises(KeysDamagedError, match=f"version {oldest} is disabled; wanted: enabled"):
                await bank.obtain(recorded)
        await bank.change(oldest, enabled=True)
        assert (await bank.obtain()).blobs == first.blobs, "the same keys as before"

    each_second(history)


def test_keys_stay_in_use_beyond_an_expiry_date(at_bank):
    async def history(bank: Bank):
        keys = await bank.obtain()
        await bank.change(only(bank), expires_on=datetime(2020, 1, 1, tzinfo=UTC))
        for recorded in (None, keys.fingerprint):
            assert (await bank.obtain(recorded)).blobs == keys.blobs, "keys have no expiry date, as the vault shows"
        assert len(bank.made) == 1, "an expired secret is not absent"

    at_bank(history)


def test_a_value_that_differs_from_the_written_one_is_not_used(at_bank):
    async def history(bank: Bank):
        async def judge(request: web.Request) -> Fault:
            for versions in bank.vault.secrets.values():
                versions[next(iter(versions))]["value"] = document(new_blobs())
            return None

        bank.vault.judge = judge
        with pytest.raises(KeysDamagedError, match=f"{SECRET}, version .* is not what was stored a moment ago"):
            await bank.obtain()
        assert len(bank.made) == 1, "no other keys are made"

    at_bank(history)


def test_the_agent_waits_for_a_version_that_is_not_listed_yet(at_bank):
    async def history(bank: Bank):
        stored = await bank.obtain()
        hidden = bank.vault.secrets.pop(SECRET)

        async def judge(request: web.Request) -> Fault:
            # The vault lists nothing yet, but returns the value.
            bank.vault.secrets = {} if request.path.endswith("/versions") else {SECRET: hidden}
            return None

        bank.vault.judge = judge
        with pytest.raises(UnavailableError, match="lists no version yet"):
            await bank.obtain()

        async def unread(request: web.Request) -> Fault:
            bank.vault.secrets = {SECRET: hidden} if request.path.endswith("/versions") else {}
            return None

        bank.vault.judge = unread
        for recorded in (None, stored.fingerprint):
            with pytest.raises(UnavailableError, match="is listed but can't be read yet"):
                await bank.obtain(recorded)
        assert len(bank.made) == 1, "a version that is not listed yet is no reason for new keys"

    at_bank(history)


# --- Abandoned -----------------------------------------------------------------------------------------------------


def unchanged(bank: Bank, before: dict[str, dict[str, Any]]) -> bool:
    """Whether each earlier version still exists with its value."""
    return all(bank.versions[version]["value"] == each["value"] for version, each in before.items())


def test_keys_that_an_operator_abandons_are_replaced_once(each_second):
    async def history(bank: Bank):
        old = await bank.obtain()
        before = copy.deepcopy(bank.versions)
        await bank.give_up()
        new = await bank.obtain(old.fingerprint)
        assert new.fingerprint != old.fingerprint, "the record has to be updated"
        assert new.blobs == bank.made[1], "none of the old keys is used"
        assert unchanged(bank, before), "earlier signatures may have to be verified"
        for recorded in (old.fingerprint, new.fingerprint, None, new.fingerprint):
            later = await bank.obtain(recorded)
            assert (later.blobs, later.fingerprint) == (new.blobs, new.fingerprint), (
                "with an updated, an old or a lost record"
            )
        assert len(bank.made) == 2, "they are replaced once"
        await bank.give_up()
        third = await bank.obtain(new.fingerprint)
        assert third.blobs == bank.made[2], "the new keys can be abandoned too"
        for recorded in (old.fingerprint, new.fingerprint, None, third.fingerprint):
            assert (await bank.obtain(recorded)).blobs == third.blobs, "with any older record"

    each_second(history)


async def tag_nothing(bank: Bank) -> None:
    pass


async def tag_otherwise(bank: Bank) -> None:
    await bank.give_up(said="no")


async def tag_another_identity(bank: Bank) -> None:
    await bank.obtain(identity=replace(NODE, name="node-10"))
    async with bank.person() as person:
        await person.update_secret_properties("node-10-keys", tags={"abandoned": "yes"})


async def tag_a_newer_one(bank: Bank) -> None:
    """A version that a VM stored late."""
    await bank.give_up(await bank.write(document(new_blobs())))


async def tag_a_copy(bank: Bank) -> None:
    """What a stolen VM may do: it writes versions, with tags."""
    await bank.give_up(await bank.write(bank.versions[only(bank)]["value"]))


async def tag_a_copy_that_others_replace(bank: Bank) -> None:
    await write_over_it_late(bank)
    await bank.give_up(await bank.write(next(iter(bank.versions.values()))["value"]))


async def write_over_it_late(bank: Bank) -> None:
    """A version that claims to replace the one in use, which was not abandoned."""
    await bank.write(document(new_blobs(), replaces=hash_of(bank.versions[only(bank)]["value"])))


async def write_over_it_late_and_tag(bank: Bank) -> None:
    await write_over_it_late(bank)
    await bank.give_up()


@pytest.mark.parametrize(
    "tag",
    [
        tag_nothing,
        tag_otherwise,
        tag_another_identity,
        tag_a_newer_one,
        tag_a_copy,
        tag_a_copy_that_others_replace,
        write_over_it_late,
        write_over_it_late_and_tag,
    ],
)
def test_keys_are_abandoned_only_by_the_tag_on_the_version_in_use(each_second, tag):
    async def history(bank: Bank):
        keys = await bank.obtain()
        await tag(bank)
        there = bank.state
        for recorded in (keys.fingerprint, None):
            assert (await bank.obtain(recorded)).fingerprint == keys.fingerprint, "the version in use has no tag"
        assert bank.state == there, "nothing is written"

    each_second(history)


def test_a_tag_on_an_older_version_has_no_effect(each_second, caplog):
    caplog.set_level(logging.INFO)

    async def history(bank: Bank):
        first = await bank.obtain()
        older = only(bank)
        await bank.give_up()
        keys = await bank.obtain(first.fingerprint)
        _, in_use = bank.versions
        # The record names the second version; a late VM's is newer, and the first one was tagged long ago.
        late = await bank.write(document(new_blobs()))
        await bank.give_up(older)
        await bank.give_up(late)
        caplog.clear()
        assert (await bank.obtain(keys.fingerprint)).blobs == keys.blobs, "the tagged version is not in use"
        assert f"secret {SECRET}, version {in_use}, fingerprint {keys.fingerprint}, is in use" in caplog.text, (
            "the message says which version needs the tag, and which fingerprint it has"
        )
        (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
        assert f"version {late} has the tag" in warning, "the continued use of abandoned keys is reported"
        assert f"wanted on version {in_use}" in warning, "the report says which version needs the tag"
        await bank.give_up(in_use)
        assert (await bank.obtain(keys.fingerprint)).blobs == bank.made[2], "that version has the tag now"

    each_second(history)


def test_first_keys_that_lost_the_race_are_never_used(each_second):
    async def history(bank: Bank):
        first = await bank.obtain()
        await bank.write(document(new_blobs()))
        await bank.give_up(next(iter(bank.versions)))
        for recorded in (first.fingerprint, None):
            new = await bank.obtain(recorded)
            assert new.blobs == bank.made[1], "keys that lost the race may have leaked too"
        assert len(bank.made) == 2, "with and without a record"

    each_second(history)


def test_purged_keys_can_be_abandoned(each_second):
    async def history(bank: Bank):
        old = await bank.obtain()
        await delete(bank)
        async with bank.person() as person:
            await person.purge_deleted_secret(SECRET)
        with pytest.raises(KeysDamagedError, match=f"no version of fingerprint {old.fingerprint}"):
            await bank.obtain(old.fingerprint)
        # As in the runbook.
        await bank.write(document({}, replaces=old.fingerprint))
        with pytest.raises(KeysDamagedError, match=f"no version of fingerprint {old.fingerprint}"):
            await bank.obtain(old.fingerprint)
        await bank.give_up()
        new = await bank.obtain(old.fingerprint)
        assert new.blobs == bank.made[-1], "an operator has declared them lost"
        for recorded in (old.fingerprint, new.fingerprint):
            assert (await bank.obtain(recorded)).blobs == new.blobs, "with and without an updated record"

    each_second(history)


def test_keys_that_an_attacker_prepared_are_never_used_if_all_versions_are_tagged(each_second):
    async def history(bank: Bank):
        keys = await bank.obtain()
        await write_over_it_late(bank)
        prepared = list(bank.versions.values())[-1]["value"]
        await bank.write(document(new_blobs(), replaces=hash_of(prepared)))
        # As in the runbook.
        for version in tuple(bank.versions):
            await bank.give_up(version)
        for recorded in (keys.fingerprint, None):
            new = await bank.obtain(recorded)
            assert new.blobs == bank.made[1], "the attacker knows the keys of the other versions"

    each_second(history)


# --- Two VMs at once -----------------------------------------------------------------------------------------------


@asynccontextmanager
async def both_write_before_either_sees(bank: Bank, chance: random.Random):
    both, writes = asyncio.Barrier(2), itertools.count(1)

    async def judge(request: web.Request) -> Fault:
        if request.method == "PUT" and next(writes) <= 2:
            await both.wait()
        await asyncio.sleep(chance.uniform(0, 0.01))
        return None

    bank.options = {"settle_seconds": 0.2}
    bank.vault.judge = judge
    async with asyncio.timeout(5):
        yield
    bank.heals()


@pytest.mark.parametrize("given_up", [False, True])
@pytest.mark.parametrize(
    "seconds", [(0, 1), (1, 0), (0, 0)], ids=["first is older", "first is younger", "one second"]
)
@pytest.mark.parametrize("seed", range(3))
def test_two_vms_that_store_at_once_end_with_the_same_keys(at_bank, seed, seconds, given_up):
    stamps = [START, *(START + 10 + each for each in seconds)] if given_up else [START + each for each in seconds]

    async def history(bank: Bank):
        old = None
        if given_up:
            old = (await bank.obtain()).fingerprint
            await bank.give_up()
        before = copy.deepcopy(bank.vault.secrets.get(SECRET, {}))
        async with both_write_before_either_sees(bank, random.Random(seed)):
            one, other = await asyncio.gather(bank.obtain(old), bank.obtain(old))
        stored = [(each["attributes"]["created"], version) for version, each in bank.versions.items()]
        oldest = min(each for each in stored if each[1] not in before)
        assert len(stored) == len(before) + 2, "both stored"
        assert (one.blobs, one.fingerprint) == (other.blobs, other.fingerprint), "they are one identity"
        assert one.fingerprint == hash_of(bank.versions[oldest[1]]["value"]), (
            "the older; in a tie the smaller version id"
        )
        assert unchanged(bank, before), "the old versions are unchanged"
        for recorded in {old, one.fingerprint, None}:
            assert (await bank.obtain(recorded)).blobs == one.blobs, "and it stays the same"

    at_bank(history, now=lambda: stamps.pop(0))


@pytest.mark.parametrize("recorded", [False, True])
def test_a_vm_that_stores_keys_late_uses_the_keys_in_use(each_second, recorded):
    async def history(bank: Bank):
        arrived, released = asyncio.Event(), asyncio.Event()

        async def judge(request: web.Request) -> Fault:
            if request.method == "PUT" and not arrived.is_set():
                arrived.set()
                await released.wait()
            return None

        bank.vault.judge = judge
        async with asyncio.timeout(5):
            late = asyncio.create_task(bank.obtain())
            await arrived.wait()
            keys = await bank.obtain()
            released.set()
            lost = await late
        assert len(bank.versions) == 2, "both stored"
        assert lost.blobs == keys.blobs == bank.made[1], "it had looked before any keys existed"
        assert (await bank.obtain(keys.fingerprint if recorded else None)).blobs == keys.blobs, (
            "and it stays the same"
        )

    each_second(history)


@pytest.mark.parametrize("seed", range(4))
def test_versions_of_one_second_are_ordered_by_their_ids(at_bank, seed):
    async def history(bank: Bank):
        written = {await bank.write(text): text for text in (document(new_blobs()) for _ in range(5))}
        assert (await bank.obtain()).fingerprint == hash_of(written[min(written)]), "each VM chooses the same version"
        for text in written.values():
            assert (await bank.obtain(hash_of(text))).fingerprint == hash_of(text), "the record's hash decides"
        assert not bank.made, "keys exist"

    at_bank(history, now=lambda: START)


def test_the_oldest_of_more_than_a_page_of_versions_is_in_use(each_second):
    async def history(bank: Bank):
        oldest = await bank.obtain()
        for _ in range(30):
            await bank.write(document(new_blobs()))
        assert (await bank.obtain()).blobs == oldest.blobs, "the first version may have been used already"

    each_second(history)


def test_a_record_with_another_fingerprint_is_no_reason_for_new_keys(at_bank):
    async def history(bank: Bank):
        await bank.obtain()
        with pytest.raises(KeysDamagedError, match=f"{SECRET} has no version of fingerprint {'0' * 64}"):
            await bank.obtain("0" * 64)
        assert len(bank.made) == 1, "the recorded keys may be restored from a backup"

    at_bank(history)


# --- The vault does not answer -------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["401", "403", "404", "408", "409", "429", "500", "503", "cut", "hang", "garble"])
def test_the_agent_waits_during_an_outage(at_bank, fault):
    async def history(bank: Bank):
        keys = await bank.obtain()
        bank.options = {"settle_seconds": 0, "request_seconds": 0.3}
        bank.fails_after(0, fault)
        for recorded in (None, keys.fingerprint):
            with pytest.raises(UnavailableError, match=SECRET):
                await bank.obtain(recorded)
        bank.heals()
        # A busy machine may take longer.
        bank.options = {"settle_seconds": 0}
        assert (await bank.obtain(keys.fingerprint)).blobs == keys.blobs, "the keys are unchanged"

    at_bank(history)


def test_the_agent_waits_for_a_missing_vault(at_bank):
    async def history(bank: Bank):
        bank.url = "https://localhost:1"
        with pytest.raises(UnavailableError, match="localhost:1"):
            await bank.obtain()

    at_bank(history)


def test_a_write_that_the_sdk_repeats_is_harmless(at_bank):
    async def history(bank: Bank):
        async def judge(request: web.Request) -> Fault:
            first = request.method == "PUT" and request.path not in seen
            seen.add(request.path)
            return "lose" if first else None

        seen: set[str] = set()
        bank.vault.judge = judge
        async with bank.holder(retry_total=2, retry_backoff_factor=0.01) as holder:
            keys = await holder.obtain(NODE, bank.make, None)
        bank.heals()
        assert keys.blobs == bank.made[0], "a lost answer is neither an outage nor a sign of another holder"
        assert len(bank.versions) == 2, "the secret was written twice"
        assert (await bank.obtain()).fingerprint == keys.fingerprint, "both versions are the same keys"
        _, older = min((each["attributes"]["created"], version) for version, each in bank.versions.items())
        await bank.give_up(older)
        for recorded in (keys.fingerprint, None):
            assert (await bank.obtain(recorded)).blobs == bank.made[1], (
                "the version that the agent names is the older one: its tag abandons the keys of both"
            )

    at_bank(history)


# --- Limits and secrecy --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("blobs", "wanted"),
    [
        ({}, r"role node: secret blobs \[\]; wanted"),
        ({"tls": b"x"}, r"role node: secret blobs \['tls'\]; wanted"),
        (new_blobs() | {"tls": b""}, "secret blob tls: 0 bytes; wanted 1 to 300"),
        (new_blobs() | {"tls": bytes(301)}, "secret blob tls: 301 bytes; wanted 1 to 300"),
    ],
)
def test_blobs_other_than_the_roles_are_refused_before_the_write(at_bank, blobs, wanted):
    async def history(bank: Bank):
        async with bank.holder() as holder:
            with pytest.raises(ValueError, match=wanted):
                await holder.obtain(NODE, lambda: blobs, None)
        assert not bank.vault.secrets, "a node could not start with other blobs"

    at_bank(history)


def test_the_largest_keys_that_a_platform_may_declare_are_stored(at_bank):
    size = 18_639
    role = replace(ROLE, secrets=(SecretBlob("keys", size),))
    largest = replace(NODE, name="i" * 32, role=role)
    assert MAX_SECRET_BYTES - 4 < role.max_document_bytes <= MAX_SECRET_BYTES, "one byte more is refused"

    async def history(bank: Bank):
        async with bank.holder() as holder:
            old = await holder.obtain(largest, lambda: {"keys": random.randbytes(size)}, None)
            secret = f"{largest.name}-keys"
            async with bank.person() as person:
                await person.update_secret_properties(secret, tags={"abandoned": "yes"})
            keys = await holder.obtain(largest, lambda: {"keys": random.randbytes(size)}, old.fingerprint)
        assert keys.fingerprint != old.fingerprint, "the vault accepts it"
        assert max(len(each["value"]) for each in bank.vault.secrets[secret].values()) == role.max_document_bytes, (
            "the size is that of the platform's check"
        )

    at_bank(history)


def test_no_secret_is_logged_or_raised(at_bank, caplog):
    caplog.set_level(logging.DEBUG)
    said = []

    async def history(bank: Bank):
        keys = await bank.obtain()
        said.append(repr(keys))
        for fault in ("garble", "500", "cut"):
            bank.fails_after(1, fault)
            with pytest.raises(UnavailableError) as caught:
                await bank.obtain(keys.fingerprint)
            said.append("".join(traceback.format_exception(caught.value)))
        bank.heals()
        stored = bank.versions[only(bank)]
        text = stored["value"]
        values = [base64.b64encode(blob).decode() for blob in bank.made[0].values()]
        for damaged in (text[:-1], text[1:], text.replace("=", "!"), text.replace("node-1", "node-2"), values[0]):
            stored["value"] = damaged
            with pytest.raises(KeysDamagedError) as refused:
                await bank.obtain()
            said.append("".join(traceback.format_exception(refused.value)))
        said.append(repr(KeyDocument.model_validate_json(text)))
        return values

    secrets = at_bank(history)
    logged = caplog.text + "".join(str(record.__dict__) for record in caplog.records) + "".join(said)
    assert SECRET in logged, "the SDK logs requests at this level"
    assert not [secret for secret in secrets if secret[:24] in logged], "logs must not have keys"


# --- Files ---------------------------------------------------------------------------------------------------------


def in_memory(descriptor: int) -> str:
    return "tmpfs"


def test_files_are_for_the_agent_and_its_group_alone(tmp_path):
    folder = tmp_path / "secrets"
    before = os.umask(0)
    try:
        write_files(folder, {"identity": b"one", "tls": b"two"}, in_memory)
    finally:
        os.umask(before)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"identity": b"one", "tls": b"two"}, (
        "no other file is there"
    )
    assert stat.S_IMODE(folder.stat().st_mode) == 0o750, "the agent's group is that of its node's user"
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o640}, "the node's user cannot write"


def test_an_open_folder_is_closed_and_old_files_are_replaced(tmp_path):
    (tmp_path / "tls").write_bytes(b"a longer old one")
    (tmp_path / ".tls.new").write_bytes(b"of a killed writer")
    tmp_path.chmod(0o755)
    write_files(tmp_path, {"tls": b"new"}, in_memory)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"new"], "a restarted agent writes them again"
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o750, "no other user may read"


def test_links_are_not_followed(tmp_path):
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "secrets"
    folder.mkdir()
    elsewhere.write_bytes(b"mine")
    for name in ("tls", ".tls.new"):
        (folder / name).symlink_to(elsewhere)
    write_files(folder, {"tls": b"new"}, in_memory)
    assert elsewhere.read_bytes() == b"mine", "a link could lead out of memory"
    assert (folder / "tls").read_bytes() == b"new", "it is replaced"
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(OSError, match="link"):
        write_files(tmp_path / "link", {"tls": b"new"}, in_memory)


@pytest.mark.parametrize("kind", ["ext4", "overlay", "unknown", "nfs4"])
def test_keys_are_written_only_to_memory(tmp_path, kind):
    with pytest.raises(ValueError, match=f"is on {kind}; wanted one of ramfs, tmpfs"):
        write_files(tmp_path, {"tls": b"secret"}, lambda descriptor: kind)
    assert not list(tmp_path.iterdir()), "the file never exists"


@pytest.mark.parametrize("name", ["../tls", "a/b", "", ".", "tls.jks"])
def test_only_valid_blob_names_are_written(tmp_path, name):
    with pytest.raises(ValueError, match="blob name"):
        write_files(tmp_path / "secrets", {name: b"secret"}, in_memory)


def test_a_file_systems_type_is_read_from_the_kernel(tmp_path):
    memory = Path("/dev/shm")  # noqa: S108
    if not os.path.ismount(memory):
        pytest.skip("no /dev/shm here")
    kinds = {}
    for folder in (memory, Path("/proc")):
        descriptor = os.open(folder, os.O_RDONLY)
        kinds[folder.name] = file_system(descriptor)
        os.close(descriptor)
    assert kinds == {"shm": "tmpfs", "proc": "proc"}, "as mounted"


# --- The identity's record -----------------------------------------------------------------------------------------


class Records:
    """A lease store of one holder."""

    def __init__(self) -> None:
        self.content = IdentityRecord().to_json()

    async def acquire(self, identity: str, lease_id: str) -> None:
        pass

    async def release(self, identity: str, lease_id: str) -> None:
        pass

    async def read(self, identity: str) -> tuple[bytes, str]:
        return self.content, "etag"

    async def write(self, identity: str, content: bytes, lease_id: str, etag: str) -> str:
        self.content = content
        return "etag"


def test_the_next_start_writes_the_new_keys_fingerprint_to_the_record(at_bank, tmp_path):
    async def history(bank: Bank):
        records = Records()

        async def start() -> tuple[str | None, dict[str, bytes]]:
            """The keys of a holder's node, and the record after it."""
            unpacked: dict[str, bytes] = {}
            async with bank.holder() as holder:
                lease = await Lease.acquire(records, Clock(), NODE.name, "vm")  # type: ignore[arg-type]
                resources = SimpleNamespace(
                    network=None,
                    database=None,
                    document=None,
                    vault=holder,
                    share=SimpleNamespace(
                        exists=lambda _: False,
                        open=lambda *_: SimpleNamespace(path=tmp_path, lock_fd=0, read_note=lambda _: None),
                    ),
                    share_calls=BoundedCalls("share"),
                    disk_calls=BoundedCalls("disk"),
                    users=None,
                    disk=SimpleNamespace(scratch=lambda: tmp_path, unpack=unpacked.update),
                    software=SimpleNamespace(
                        make_secrets=lambda _: bank.make(), prepare=AsyncMock(), processes=lambda _: ()
                    ),
                )
                await Node(resources, NODE, lease, Status(vm="vm"), random.Random()).start()  # type: ignore[arg-type]
            return IdentityRecord.from_json(NODE.name, records.content).keys, unpacked

        old = await start()
        assert await start() == old, "the same keys as before"
        await bank.give_up()
        new = await start()
        assert (old[1], new[1]) == (bank.made[0], bank.made[1]), "other keys"
        assert new[0] not in {None, old[0]}, "the record has their fingerprint"
        assert await start() == new, "and it stays the same"

    at_bank(history)
