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
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock

import pytest
from aiohttp import web

from agent.clock import Clock
from agent.fence import DamagedError, UnavailableError
from agent.keys import (
    MAX_SECRET_BYTES,
    BlobMissingError,
    DeletedError,
    DisabledError,
    HalfStoredError,
    Keys,
    KeysDamagedError,
    KeyVaultKeys,
    MismatchError,
    VanishedError,
    VaultUnavailableError,
    file_system,
    write_files,
)
from agent.lease import Lease, Record
from agent.node import Node
from agent.status import Status
from local.key_vault import Fault, Vault, client_of, serving, write_certificate

NODE = "node-1"
MANIFEST = "node-1-keys"
BLOBS = ("identity", "tls", "password")


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vault")
    return write_certificate(folder), folder / "certificate.pem"


class Bank:
    """A served vault, the holders that come and go, and a person with rights."""

    def __init__(self, vault: Vault, url: str, certificate: Path) -> None:
        self.vault, self.url, self._certificate = vault, url, certificate
        self.made: list[dict[str, bytes]] = []
        self.options: dict[str, Any] = {"settle_seconds": 0}

    def make(self) -> dict[str, bytes]:
        self.made.append({name: random.randbytes(200) for name in BLOBS})
        return self.made[-1]

    @asynccontextmanager
    async def holder(self, **options: Any) -> AsyncIterator[KeyVaultKeys]:
        async with client_of(self.url, self._certificate, **options) as client:
            yield KeyVaultKeys(client, **self.options)

    async def obtain(self, known: str | None = None, identity: str = NODE) -> Keys:
        async with self.holder() as holder:
            return await holder.obtain(identity, self.make, known)

    @asynccontextmanager
    async def person(self):
        async with client_of(self.url, self._certificate) as client:
            yield client

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


def test_the_first_holder_makes_keys_and_each_later_one_restores_them(at_bank):
    async def history(bank: Bank):
        first = await bank.obtain()
        before_recorded = await bank.obtain()
        later = await bank.obtain(first.fingerprint)
        assert first.made, "there were none"
        assert not before_recorded.made, "a crash before the record was written leaves the keys valid"
        assert not later.made, "the identity has its keys"
        assert first.blobs == before_recorded.blobs == later.blobs == bank.made[0], "one identity, one set of keys"
        assert first.fingerprint == before_recorded.fingerprint == later.fingerprint, "it stands for the keys"
        assert len(bank.made) == 1, "nobody made others"
        assert set(bank.vault.secrets) == {MANIFEST, *(f"{NODE}-{name}" for name in BLOBS)}, "what people look for"
        assert [path for path in bank.vault.served if path.startswith("PUT")][-1] == f"PUT /secrets/{MANIFEST}", (
            "the manifest vouches for all the others"
        )

    at_bank(history)


def test_identities_do_not_meet(at_bank):
    async def history(bank: Bank):
        one, ten = await bank.obtain(), await bank.obtain(identity="node-10")
        assert one.blobs != ten.blobs, "each identity has its own keys"
        assert (await bank.obtain(one.fingerprint)).blobs == one.blobs, "node-1 is a beginning of node-10"

    at_bank(history)


def test_secrets_say_what_they_are(at_bank):
    async def history(bank: Bank):
        await bank.obtain()
        latest = {name: next(iter(versions.values())) for name, versions in bank.vault.secrets.items()}
        assert {each["tags"]["identity"] for each in latest.values()} == {NODE}, "people find an identity's secrets"
        assert latest[MANIFEST]["contentType"] == "application/json", "the portal shows it"
        assert latest["node-1-tls"]["contentType"] == "application/octet-stream;base64", "how to decode it"

    at_bank(history)


# --- Cut off -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["cut", "lose"])
def test_a_crash_at_any_request_of_the_first_storing_loses_no_announced_key(at_bank, fault):
    async def history(bank: Bank):
        outcomes = []
        for step in range(100):
            bank.vault.secrets.clear()
            bank.fails_after(step, fault)
            try:
                announced = await bank.obtain()
            except VaultUnavailableError:
                announced = None
            bank.heals()
            if announced:
                break
            try:
                second = await bank.obtain()
            except HalfStoredError:
                outcomes.append("half-stored")
                assert MANIFEST not in bank.vault.secrets, "with a manifest the set would be whole"
            else:
                outcomes.append("restored" if second.blobs == bank.made[-1] and not second.made else "made")
                if second.made:
                    assert all(len(versions) == 1 for versions in bank.vault.secrets.values()), "nothing lay there"
        assert announced, "each step was tried"
        assert outcomes == sorted(outcomes, key=["made", "half-stored", "restored"].index), "storing only adds"
        assert set(outcomes) == {"made", "half-stored", "restored"}, "each was met"

    at_bank(history)


@pytest.mark.parametrize("fault", ["cut", "lose", "429"])
def test_an_agent_that_lives_on_continues_a_storing_that_was_cut_off(at_bank, fault):
    async def history(bank: Bank):
        for step in range(100):
            bank.vault.secrets.clear()
            bank.made.clear()
            bank.fails_after(step, fault)
            async with bank.holder() as holder:
                try:
                    await holder.obtain(NODE, bank.make, None)
                except VaultUnavailableError:
                    bank.heals()
                    keys = await holder.obtain(NODE, bank.make, None)
                    assert len(bank.made) == 1, "a second set would leave the first half-stored"
                    assert keys.blobs == bank.made[0], "what was made is what is used"
                else:
                    break
        assert step > 2 * len(BLOBS), "each step was tried"

    at_bank(history)


def test_new_keys_come_over_a_half_stored_set_only_when_a_person_says_so(at_bank):
    async def history(bank: Bank):
        bank.fails_after(len(BLOBS) * 2 + 4)
        with pytest.raises(VaultUnavailableError):
            await bank.obtain()
        bank.heals()
        left = list(bank.vault.secrets)
        with pytest.raises(HalfStoredError) as caught:
            await bank.obtain()
        assert left, "something was stored"
        assert all(name in str(caught.value) for name in [*left, MANIFEST]), "the person needs all names"
        assert "abandoned=yes" in str(caught.value), "and the way out"
        async with bank.person() as person:
            for name in left:
                await person.update_secret_properties(name, tags={"abandoned": "yes"})
        keys = await bank.obtain()
        assert keys.made, "nothing was in use"
        assert all(len(bank.vault.secrets[name]) == 2 for name in left), "old versions stay, though nobody needs them"
        assert (await bank.obtain(keys.fingerprint)).blobs == keys.blobs, "now the set is whole"

    at_bank(history)


# --- Damage --------------------------------------------------------------------------------------------------------


async def lose_a_blob(bank: Bank, person: Any) -> None:
    del bank.vault.secrets["node-1-tls"]


async def lose_the_manifest(bank: Bank, person: Any) -> None:
    del bank.vault.secrets[MANIFEST]


async def lose_everything(bank: Bank, person: Any) -> None:
    bank.vault.secrets.clear()


async def delete_a_blob(bank: Bank, person: Any) -> None:
    await person.delete_secret("node-1-tls", _polling_interval=0.01)


async def delete_the_manifest(bank: Bank, person: Any) -> None:
    await person.delete_secret(MANIFEST, _polling_interval=0.01)


async def delete_everything(bank: Bank, person: Any) -> None:
    for name in list(bank.vault.secrets):
        await person.delete_secret(name, _polling_interval=0.01)


async def delete_what_the_manifest_named(bank: Bank, person: Any) -> None:
    await delete_a_blob(bank, person)
    await lose_the_manifest(bank, person)


async def disable_a_blob(bank: Bank, person: Any) -> None:
    await person.update_secret_properties("node-1-tls", _only(bank, "node-1-tls"), enabled=False)


async def disable_the_manifest(bank: Bank, person: Any) -> None:
    await person.update_secret_properties(MANIFEST, _only(bank, MANIFEST), enabled=False)


async def disable_what_the_manifest_named(bank: Bank, person: Any) -> None:
    await disable_a_blob(bank, person)
    await lose_the_manifest(bank, person)


async def replace_a_version(bank: Bank, person: Any) -> None:
    old = bank.vault.secrets.pop("node-1-tls")
    await person.set_secret("node-1-tls", next(iter(old.values()))["value"])


async def change_a_blob(bank: Bank, person: Any) -> None:
    bank.vault.secrets["node-1-tls"][_only(bank, "node-1-tls")]["value"] = "AAAA"


async def swap_blobs(bank: Bank, person: Any) -> None:
    one, other = (bank.vault.secrets[name][_only(bank, name)] for name in ("node-1-tls", "node-1-identity"))
    one["value"], other["value"] = other["value"], one["value"]


async def spoil_a_blob(bank: Bank, person: Any) -> None:
    bank.vault.secrets["node-1-tls"][_only(bank, "node-1-tls")]["value"] = "no base64!"


async def spoil_the_manifest(bank: Bank, person: Any) -> None:
    bank.vault.secrets[MANIFEST][_only(bank, MANIFEST)]["value"] = "{}"


async def take_anothers_manifest(bank: Bank, person: Any) -> None:
    await bank.obtain(identity="node-2")
    other = bank.vault.secrets["node-2-keys"][_only(bank, "node-2-keys")]["value"]
    bank.vault.secrets[MANIFEST][_only(bank, MANIFEST)]["value"] = other


def _only(bank: Bank, name: str) -> str:
    (version,) = bank.vault.secrets[name]
    return version


@pytest.mark.parametrize(
    ("harm", "known", "unknown", "named"),
    [
        (lose_a_blob, BlobMissingError, BlobMissingError, "node-1-tls"),
        (lose_the_manifest, VanishedError, HalfStoredError, MANIFEST),
        (lose_everything, VanishedError, None, MANIFEST),
        (delete_a_blob, DeletedError, DeletedError, "node-1-tls"),
        (delete_the_manifest, DeletedError, DeletedError, MANIFEST),
        (delete_everything, DeletedError, DeletedError, MANIFEST),
        (delete_what_the_manifest_named, VanishedError, DeletedError, "node-1"),
        (disable_a_blob, DisabledError, DisabledError, "node-1-tls"),
        (disable_the_manifest, DisabledError, DisabledError, MANIFEST),
        (disable_what_the_manifest_named, VanishedError, DisabledError, "node-1"),
        (replace_a_version, BlobMissingError, BlobMissingError, "node-1-tls"),
        (change_a_blob, MismatchError, MismatchError, "node-1-tls"),
        (swap_blobs, MismatchError, MismatchError, "node-1-"),
        (spoil_a_blob, MismatchError, MismatchError, "node-1-tls"),
        (spoil_the_manifest, MismatchError, MismatchError, MANIFEST),
        (take_anothers_manifest, MismatchError, MismatchError, MANIFEST),
    ],
)
def test_damage_is_told_apart_and_never_answered_with_new_keys(at_bank, harm, known, unknown, named):
    async def history(bank: Bank):
        keys = await bank.obtain()
        async with bank.person() as person:
            await harm(bank, person)
        there = json.dumps([bank.vault.secrets, bank.vault.deleted])
        for fingerprint, error in ((keys.fingerprint, known), (None, unknown)):
            if error is None:
                continue
            with pytest.raises(error) as caught:
                await bank.obtain(fingerprint)
            assert isinstance(caught.value, KeysDamagedError), "it is about keys"
            assert isinstance(caught.value, DamagedError), "the agent waits for a person"
            assert named in str(caught.value), "a person must know which secret"
            assert "wanted" in str(caught.value), "and what to do"
            assert json.dumps([bank.vault.secrets, bank.vault.deleted]) == there, "evidence stays as it was"

    at_bank(history)


def test_what_a_person_recovers_is_used_again(at_bank):
    async def history(bank: Bank):
        keys = await bank.obtain()
        async with bank.person() as person:
            await delete_everything(bank, person)
            with pytest.raises(DeletedError):
                await bank.obtain(keys.fingerprint)
            for name in list(bank.vault.deleted):
                await person.recover_deleted_secret(name, _polling_interval=0.01)
        assert (await bank.obtain(keys.fingerprint)).blobs == keys.blobs, "recovered is as it was before"

    at_bank(history)


def test_a_secret_deleted_between_looking_and_storing_is_told_by_the_vault(at_bank):
    async def history(bank: Bank):
        async def judge(request: web.Request) -> Fault:
            if request.method == "PUT" and not bank.vault.deleted:
                bank.vault.deleted["node-1-identity"] = {"v": {"id": "x"}}
            return None

        bank.vault.judge = judge
        with pytest.raises(DeletedError, match="node-1-identity"):
            await bank.obtain()

    at_bank(history)


def test_versions_that_came_later_change_nothing(at_bank):
    async def history(bank: Bank):
        keys = await bank.obtain()
        async with bank.person() as person:
            await person.set_secret("node-1-tls", "AAAA")
        for known in (None, keys.fingerprint):
            assert (await bank.obtain(known)).blobs == keys.blobs, "exactly the versions that the manifest names"

    at_bank(history)


# --- Given up ------------------------------------------------------------------------------------------------------


async def give_up(bank: Bank, version: str = "", name: str = MANIFEST, said: str = "yes") -> None:
    async with bank.person() as person:
        await person.update_secret_properties(name, version, tags={"abandoned": said})


def kept(bank: Bank, before: dict[str, dict[str, dict[str, Any]]]) -> bool:
    """Whether each version of before is still there, with its value."""
    return all(
        bank.vault.secrets[name][version]["value"] == each["value"]
        for name, versions in before.items()
        for version, each in versions.items()
    )


def test_keys_that_a_person_gives_up_are_replaced_once(at_bank):
    clock = itertools.count(1_800_000_000)

    async def history(bank: Bank):
        old = await bank.obtain()
        before = copy.deepcopy(bank.vault.secrets)
        await give_up(bank)
        new = await bank.obtain(old.fingerprint)
        assert new.made, "the old ones are not wanted any more"
        assert new.fingerprint != old.fingerprint, "the record is to follow"
        assert new.blobs == bank.made[1], "none of the old ones"
        assert kept(bank, before), "what was signed with them may have to be proven"
        for known in (old.fingerprint, new.fingerprint, None, new.fingerprint):
            later = await bank.obtain(known)
            assert (later.blobs, later.fingerprint, later.made) == (new.blobs, new.fingerprint, False), (
                "whether the record was written, was not, or is lost"
            )
        assert len(bank.made) == 2, "once"
        await give_up(bank)
        third = await bank.obtain(new.fingerprint)
        assert third.blobs == bank.made[2], "a name may lose its key again"
        for known in (old.fingerprint, new.fingerprint, None, third.fingerprint):
            assert (await bank.obtain(known)).blobs == third.blobs, "however far the record is behind"

    at_bank(history, now=lambda: next(clock))


def test_a_set_of_which_a_secret_is_purged_can_be_given_up(at_bank):
    async def history(bank: Bank):
        old = await bank.obtain()
        async with bank.person() as person:
            await delete_a_blob(bank, person)
            await give_up(bank)
            with pytest.raises(DeletedError, match="node-1-tls"):
                await bank.obtain(old.fingerprint)
            assert len(bank.vault.secrets[MANIFEST]) == 1, "it may still come back"
            await person.purge_deleted_secret("node-1-tls")
        new = await bank.obtain(old.fingerprint)
        assert new.blobs == bank.made[-1] != old.blobs, "it does not"
        assert (await bank.obtain(new.fingerprint)).blobs == new.blobs, "whole"

    at_bank(history)


async def tag_nothing(bank: Bank) -> None:
    pass


async def tag_otherwise(bank: Bank) -> None:
    await give_up(bank, said="no")


async def tag_a_blob(bank: Bank) -> None:
    await give_up(bank, name="node-1-tls")


async def tag_another_identity(bank: Bank) -> None:
    await bank.obtain(identity="node-10")
    await give_up(bank, name="node-10-keys")


async def tag_a_newer_one(bank: Bank) -> None:
    """A manifest that a holder wrote late."""
    async with bank.person() as person:
        content = bank.vault.secrets[MANIFEST][_only(bank, MANIFEST)]["value"]
        await person.set_secret(MANIFEST, content.replace("node-1-tls", "node-1-late"))
    await give_up(bank)


async def write_over_it_late(bank: Bank) -> None:
    """A manifest that says to replace the one in use, which nobody gave up."""
    async with bank.person() as person:
        content = bank.vault.secrets[MANIFEST][_only(bank, MANIFEST)]["value"]
        replaces = hashlib.sha256(content.encode()).hexdigest()
        await person.set_secret(MANIFEST, json.dumps(json.loads(content) | {"replaces": replaces}))


@pytest.mark.parametrize(
    "tag",
    [tag_nothing, tag_otherwise, tag_a_blob, tag_another_identity, tag_a_newer_one, write_over_it_late],
)
def test_keys_are_given_up_by_the_tag_on_the_manifest_in_use_alone(at_bank, tag):
    clock = itertools.count(1_800_000_000)

    async def history(bank: Bank):
        keys = await bank.obtain()
        await tag(bank)
        there = json.dumps(bank.vault.secrets)
        for known in (keys.fingerprint, None):
            assert (await bank.obtain(known)).fingerprint == keys.fingerprint, "nobody gave it up"
        assert json.dumps(bank.vault.secrets) == there, "nothing is written"

    at_bank(history, now=lambda: next(clock))


def test_a_tag_on_an_older_manifest_changes_nothing(at_bank, caplog):
    caplog.set_level(logging.INFO)
    clock = itertools.count(1_800_000_000)

    async def history(bank: Bank):
        first = await bank.obtain()
        (older,) = bank.vault.secrets[MANIFEST].items()
        await give_up(bank)
        keys = await bank.obtain(first.fingerprint)
        # The record knows the second; a late holder's lies over it, and the first has had its tag for long.
        async with bank.person() as person:
            await person.set_secret(MANIFEST, older[1]["value"].replace("node-1-tls", "node-1-late"))
        await give_up(bank, older[0])
        assert (await bank.obtain(keys.fingerprint)).blobs == keys.blobs, "it is not in use"
        in_use = list(bank.vault.secrets[MANIFEST])[1]
        assert f"version {in_use}, is in use" in caplog.text, "a person finds where the tag has to be"
        await give_up(bank, in_use)
        assert (await bank.obtain(keys.fingerprint)).blobs == bank.made[2], "that one"

    at_bank(history, now=lambda: next(clock))


def test_the_set_that_lost_once_does_not_come_back(at_bank):
    clock = itertools.count(1_800_000_000)

    async def history(bank: Bank):
        await bank.obtain()
        first = copy.deepcopy(bank.vault.secrets)
        bank.vault.secrets.clear()
        await bank.obtain()
        for name, versions in bank.vault.secrets.items():
            bank.vault.secrets[name] = first[name] | versions
        known = await bank.obtain()
        assert known.blobs == bank.made[0], "two first holders, of whom the first counts"
        await give_up(bank, next(iter(bank.vault.secrets[MANIFEST])))
        new = await bank.obtain(known.fingerprint)
        assert new.made, "what leaked with the first set is as old as it"
        assert new.blobs == bank.made[2] == (await bank.obtain(known.fingerprint)).blobs, "others"

    at_bank(history, now=lambda: next(clock))


@pytest.mark.parametrize("fault", ["cut", "lose"])
@pytest.mark.parametrize("lives_on", [False, True])
def test_a_crash_at_any_request_of_the_replacing_is_continued(at_bank, fault, lives_on):
    clock = itertools.count(1_800_000_000)

    async def history(bank: Bank):
        old = await bank.obtain()
        await give_up(bank)
        before = copy.deepcopy(bank.vault.secrets)
        continued = 0
        for step in range(100):
            bank.vault.secrets = copy.deepcopy(before)
            del bank.made[1:]
            bank.fails_after(step, fault)
            async with bank.holder() as holder:
                try:
                    keys = await holder.obtain(NODE, bank.make, old.fingerprint)
                except VaultUnavailableError:
                    bank.heals()
                    if lives_on:
                        keys = await holder.obtain(NODE, bank.make, old.fingerprint)
                        assert len(bank.made) == 2, "what it began it goes on with"
                    else:
                        keys = await bank.obtain(old.fingerprint)
                    continued += 1
                else:
                    break
            assert keys.blobs in bank.made[1:], "never the old ones"
            assert kept(bank, before), "which stay as they were"
            for known in (old.fingerprint, keys.fingerprint, None):
                assert (await bank.obtain(known)).fingerprint == keys.fingerprint, "one set"
        assert continued > 3 * len(BLOBS), "each step was tried"

    at_bank(history, now=lambda: next(clock))


@pytest.mark.parametrize("seed", range(6))
def test_two_holders_that_meet_over_given_up_keys_end_with_the_same(at_bank, seed):
    chance = random.Random(seed)
    start = 1_800_000_000
    times = {"now": start}

    async def history(bank: Bank):
        old = await bank.obtain()
        await give_up(bank)
        before = copy.deepcopy(bank.vault.secrets)
        times["now"] += 1
        bank.options = {"settle_seconds": 0.2}
        both = asyncio.Barrier(2)
        writes = 0

        async def judge(request: web.Request) -> Fault:
            nonlocal writes
            if request.method == "PUT":
                writes += 1
                # Neither sees anything of the other before both write.
                if writes <= 2:
                    await both.wait()
            await asyncio.sleep(chance.uniform(0, 0.01))
            return None

        bank.vault.judge = judge
        one, other = await asyncio.wait_for(
            asyncio.gather(bank.obtain(old.fingerprint), bank.obtain(old.fingerprint)), 5
        )
        bank.heals()
        assert len(bank.vault.secrets[MANIFEST]) == 3, "both stored"
        assert (one.blobs, one.fingerprint) == (other.blobs, other.fingerprint), "they are one identity"
        assert one.made != other.made, "one of them lost"
        assert one.blobs in bank.made[1:], "new ones"
        assert kept(bank, before), "the old ones stay"
        for known in (old.fingerprint, one.fingerprint, None):
            assert (await bank.obtain(known)).blobs == one.blobs, "and it stays so"

    # All within one second, which is as fine as a vault tells time.
    at_bank(history, now=lambda: times["now"])


def test_what_was_begun_before_the_keys_were_given_up_is_not_used_for_the_new_ones(at_bank):
    async def history(bank: Bank):
        async with bank.holder() as late:
            bank.fails_after(len(BLOBS) + 2)
            with pytest.raises(VaultUnavailableError):
                await late.obtain(NODE, bank.make, None)
            bank.heals()
            bank.vault.secrets.clear()
            old = await bank.obtain()
            await give_up(bank)
            new = await late.obtain(NODE, bank.make, old.fingerprint)
            assert new.blobs == bank.made[2], "the first began when the leaked ones did"

    at_bank(history)


# --- Two first holders ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_two_first_holders_end_with_the_same_keys(at_bank, seed):
    chance = random.Random(seed)

    async def history(bank: Bank):
        bank.options = {"settle_seconds": 0.2}
        both = asyncio.Barrier(2)
        writes = 0

        async def judge(request: web.Request) -> Fault:
            nonlocal writes
            if request.method == "PUT":
                writes += 1
                # Neither sees anything of the other before both write.
                if writes <= 2:
                    await both.wait()
            await asyncio.sleep(chance.uniform(0, 0.01))
            return None

        bank.vault.judge = judge
        one, other = await asyncio.wait_for(asyncio.gather(bank.obtain(), bank.obtain()), 5)
        bank.heals()
        assert len(bank.vault.secrets[MANIFEST]) == 2, "both stored"
        assert (one.blobs, one.fingerprint) == (other.blobs, other.fingerprint), "they are one identity"
        assert one.made != other.made, "one of them lost"
        assert (await bank.obtain()).blobs == (await bank.obtain(one.fingerprint)).blobs == one.blobs, (
            "and it stays so"
        )

    # All within one second, which is as fine as a vault tells time.
    at_bank(history, now=lambda: 1_800_000_000)


def test_before_there_is_a_record_the_oldest_manifest_counts(at_bank):
    clock = itertools.count(1_800_000_000)

    async def history(bank: Bank):
        oldest = await bank.obtain()
        content = bank.vault.secrets[MANIFEST][_only(bank, MANIFEST)]["value"]
        async with bank.person() as person:
            for _ in range(30):
                await person.set_secret(MANIFEST, content.replace("node-1-tls", "node-1-lost"))
        assert (await bank.obtain()).blobs == oldest.blobs, "whoever was first may have announced it"

    at_bank(history, now=lambda: next(clock))


def test_what_is_read_back_otherwise_than_written_is_not_announced(at_bank):
    async def history(bank: Bank):
        async def judge(request: web.Request) -> Fault:
            for versions in bank.vault.secrets.values():
                versions[next(iter(versions))]["value"] = "AAAA"
            return None

        bank.vault.judge = judge
        with pytest.raises(MismatchError, match="node-1-identity, version"):
            await bank.obtain()
        assert MANIFEST not in bank.vault.secrets, "it would vouch for what is not there"

    at_bank(history)


def test_a_late_writer_does_not_take_the_known_keys_away(at_bank):
    async def history(bank: Bank):
        late, known = await bank.obtain(), None
        before = {name: dict(versions) for name, versions in bank.vault.secrets.items()}
        bank.vault.secrets.clear()
        known = await bank.obtain()
        for name, versions in before.items():
            bank.vault.secrets[name].update(versions)
        keys = await bank.obtain(known.fingerprint)
        assert keys.blobs == known.blobs, "the record names the keys in use"
        assert keys.blobs != late.blobs, "the late writer's were never announced"
        with pytest.raises(MismatchError, match=MANIFEST):
            await bank.obtain("0" * 64)

    at_bank(history)


# --- The vault does not answer -------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["401", "403", "404", "408", "409", "429", "500", "503", "cut", "hang", "garble"])
def test_an_outage_is_waited_for(at_bank, fault):
    async def history(bank: Bank):
        keys = await bank.obtain()
        bank.options = {"settle_seconds": 0, "request_seconds": 0.3}
        bank.fails_after(0, fault)
        for known in (None, keys.fingerprint):
            with pytest.raises(VaultUnavailableError) as caught:
                await bank.obtain(known)
            assert isinstance(caught.value, UnavailableError), "the agent tries again"
            assert MANIFEST in str(caught.value), "what was asked for"
        bank.heals()
        # A busy machine may take longer than that.
        bank.options = {"settle_seconds": 0}
        assert (await bank.obtain(keys.fingerprint)).blobs == keys.blobs, "nothing was harmed"

    at_bank(history)


def test_a_vault_that_is_not_there_is_waited_for(at_bank):
    async def history(bank: Bank):
        bank.url = "https://localhost:1"
        with pytest.raises(VaultUnavailableError, match="localhost:1"):
            await bank.obtain()

    at_bank(history)


def test_a_write_that_the_sdk_repeats_does_no_harm(at_bank):
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
        assert keys.made, "an answer that was lost is not an outage"
        assert keys.blobs == bank.made[0], "nor another holder"
        assert all(len(versions) == 2 for versions in bank.vault.secrets.values()), "each was written twice"
        assert (await bank.obtain(keys.fingerprint)).blobs == keys.blobs, "whichever version is announced is whole"

    at_bank(history)


# --- Limits and secrecy --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("blobs", "wanted"),
    [
        ({}, "1 to 64"),
        ({f"b{number}": b"x" for number in range(65)}, "1 to 64"),
        ({"tls": b""}, "node-1-tls: 0 bytes"),
        ({"small": b"x", "tls": bytes(MAX_SECRET_BYTES)}, "node-1-tls: 33336 bytes"),
        ({"tls.jks": b"x"}, "'node-1-tls.jks'"),
        ({"t" * 127: b"x"}, "1 to 127"),
        ({"keys": b"x"}, "none of them keys"),
        ({"Keys": b"x"}, "none of them keys"),
        ({"tls": b"x", "TLS": b"y"}, "different names"),
    ],
)
def test_what_a_vault_would_refuse_is_refused_before_the_first_write(at_bank, blobs, wanted):
    async def history(bank: Bank):
        async with bank.holder() as holder:
            with pytest.raises(ValueError, match=wanted):
                await holder.obtain(NODE, lambda: blobs, None)
        assert not [path for path in bank.vault.served if path.startswith("PUT")], "half a set is worse than none"

    at_bank(history)


def test_the_largest_blob_is_stored(at_bank):
    async def history(bank: Bank):
        largest = random.randbytes(MAX_SECRET_BYTES // 4 * 3)
        async with bank.holder() as holder:
            keys = await holder.obtain(NODE, lambda: {"tls": largest}, None)
        assert keys.blobs == {"tls": largest}, "it fits"

    at_bank(history)


def test_nothing_that_is_logged_or_raised_holds_a_secret(at_bank, caplog):
    caplog.set_level(logging.DEBUG)
    said = []

    async def history(bank: Bank):
        keys = await bank.obtain()
        said.append(repr(keys))
        for fault in ("garble", "500", "cut"):
            bank.fails_after(1, fault)
            with pytest.raises(VaultUnavailableError) as caught:
                await bank.obtain(keys.fingerprint)
            said.append("".join(traceback.format_exception(caught.value)))
        bank.heals()
        bank.vault.secrets["node-1-identity"][_only(bank, "node-1-identity")]["value"] = "AAAA"
        with pytest.raises(MismatchError) as caught:
            await bank.obtain(keys.fingerprint)
        said.append("".join(traceback.format_exception(caught.value)))
        return [base64.b64encode(blob).decode() for blob in bank.made[0].values()]

    secrets = at_bank(history)
    text = caplog.text + "".join(str(record.__dict__) for record in caplog.records) + "".join(said)
    assert "node-1-tls" in text, "the SDK does log requests at this level"
    assert not [secret for secret in secrets if secret[:24] in text], "logs go where keys must not"


# --- Files ---------------------------------------------------------------------------------------------------------


def in_memory(descriptor: int) -> str:
    return "tmpfs"


def test_files_are_for_their_owner_alone(tmp_path):
    folder = tmp_path / "secrets"
    before = os.umask(0)
    try:
        write_files(folder, {"identity": b"one", "tls": b"two"}, in_memory)
    finally:
        os.umask(before)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"identity": b"one", "tls": b"two"}, (
        "nothing else is left"
    )
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700, "nobody else looks in"
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}, "nor reads"


def test_an_open_folder_is_closed_and_old_files_are_replaced(tmp_path):
    (tmp_path / "tls").write_bytes(b"a longer old one")
    (tmp_path / ".tls.new").write_bytes(b"of a killed writer")
    tmp_path.chmod(0o755)
    write_files(tmp_path, {"tls": b"new"}, in_memory)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"new"], "a restarted agent writes them again"
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700, "nobody else looks in"


def test_links_are_not_followed(tmp_path):
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "secrets"
    folder.mkdir()
    elsewhere.write_bytes(b"mine")
    for name in ("tls", ".tls.new"):
        (folder / name).symlink_to(elsewhere)
    write_files(folder, {"tls": b"new"}, in_memory)
    assert elsewhere.read_bytes() == b"mine", "a link leads out of memory"
    assert (folder / "tls").read_bytes() == b"new", "it is replaced"
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(OSError, match="link"):
        write_files(tmp_path / "link", {"tls": b"new"}, in_memory)


@pytest.mark.parametrize("kind", ["ext4", "overlay", "unknown", "nfs4"])
def test_keys_touch_no_disk(tmp_path, kind):
    with pytest.raises(ValueError, match=f"is on {kind}; wanted one of ramfs, tmpfs"):
        write_files(tmp_path, {"tls": b"secret"}, lambda descriptor: kind)
    assert not list(tmp_path.iterdir()), "not for a moment"


@pytest.mark.parametrize("name", ["../tls", "a/b", "", ".", "tls.jks"])
def test_only_plain_names_are_written(tmp_path, name):
    with pytest.raises(ValueError, match="blob name"):
        write_files(tmp_path / "secrets", {name: b"secret"}, in_memory)


def test_the_kernel_tells_what_is_in_memory(tmp_path):
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
        self.content = Record().to_json()

    async def acquire(self, identity: str, lease_id: str) -> None:
        pass

    async def release(self, identity: str, lease_id: str) -> None:
        pass

    async def read(self, identity: str) -> tuple[bytes, str]:
        return self.content, "etag"

    async def write(self, identity: str, content: bytes, lease_id: str, etag: str) -> str:
        self.content = content
        return "etag"


def test_the_record_follows_to_the_new_keys_with_the_next_start(at_bank, tmp_path):
    async def history(bank: Bank):
        records = Records()

        async def start() -> tuple[str | None, dict[str, bytes]]:
            """What a holder's node gets, and what the record knows then."""
            unpacked: dict[str, bytes] = {}
            async with bank.holder() as holder:
                lease = await Lease.take(records, Clock(), NODE, "vm")  # type: ignore[arg-type]
                workplace = SimpleNamespace(
                    network=None,
                    database=None,
                    document=None,
                    vault=holder,
                    share=SimpleNamespace(open=lambda *_: SimpleNamespace(path=tmp_path, lock_fd=0)),
                    disk=SimpleNamespace(scratch=lambda: tmp_path, unpack=unpacked.update),
                    software=SimpleNamespace(
                        make_secrets=lambda _: bank.make(), prepare=AsyncMock(), processes=lambda _: ()
                    ),
                )
                identity = SimpleNamespace(name=NODE, role=SimpleNamespace(check_secrets=lambda _: None))
                await Node(workplace, identity, lease, Status(vm="vm"), random.Random()).start()  # type: ignore[arg-type]
            return Record.from_json(NODE, records.content).keys, unpacked

        old = await start()
        assert await start() == old, "as ever"
        await give_up(bank)
        new = await start()
        assert (old[1], new[1]) == (bank.made[0], bank.made[1]), "others"
        assert new[0] not in {None, old[0]}, "the record knows them"
        assert await start() == new, "and it stays so"

    at_bank(history)
