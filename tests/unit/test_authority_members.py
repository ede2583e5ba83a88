"""The authority's members in its vault: a new member is served at once, whatever unauthenticated requests arrive."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from contract.timing import SECRET_POLL_SECONDS
from host.errors import UnavailableError
from lab.cards import make_card
from ledger.corda.authority.members import LOOK_AGAIN_SECONDS, VaultMembers
from tests.vaults import Clock, Secrets

OWN: Any = SimpleNamespace(member="bank-a", subject="O=Bank A, L=London, C=GB", legal_names=[])
BANK_C, NODE_C = "O=Bank C, L=London, C=GB", "OU=node-1, O=Bank C, L=London, C=GB"
KEY_B, KEY_C = "b" * 64, "c" * 64


def joins(secrets: Secrets) -> None:
    """Bank C joins: one update of the infrastructure writes all of it."""
    secrets.values |= {
        "enrolment-keys": json.dumps({"bank-b": KEY_B, "bank-c": KEY_C}),
        "peers": json.dumps({"bank-b": "b", "bank-c": "c"}),
        "agreed-names": json.dumps({"bank-b": "O=Bank B, L=London, C=GB", "bank-c": BANK_C}),
        "c": json.dumps(make_card("bank-c")),
    }


@pytest.fixture
def play():
    """Play a history with members that have all been read at second 0, of which bank B is one."""

    def run(history: Callable[[VaultMembers, Secrets, Clock], Awaitable[None]]) -> None:
        async def begun() -> None:
            secrets, clock = Secrets(b=json.dumps(make_card("bank-b"))), Clock()
            secrets.values |= {
                "enrolment-keys": json.dumps({"bank-b": KEY_B}),
                "peers": json.dumps({"bank-b": "b"}),
                "agreed-names": json.dumps({"bank-b": "O=Bank B, L=London, C=GB"}),
            }
            members = VaultMembers(secrets, OWN, now=clock)  # type: ignore[arg-type]
            assert await members.key("bank-b") == bytes.fromhex(KEY_B)
            await members.entitlement("bank-b")
            secrets.asked.clear()
            await history(members, secrets, clock)

        asyncio.run(begun())

    return run


async def until(reached: Callable[[], Any]) -> None:
    async with asyncio.timeout(5):
        while not reached():
            await asyncio.sleep(0)


def test_unauthenticated_requests_cause_one_read_of_one_secret_in_each_interval(play) -> None:
    async def history(members: VaultMembers, secrets: Secrets, clock: Clock) -> None:
        assert await members.look_again(), "the first read is not delayed, however short the clock has run"
        clock.now = LOOK_AGAIN_SECONDS - 0.1
        assert not await members.look_again()
        assert secrets.asked == ["enrolment-keys"], "unauthenticated requests cause no further read"
        clock.now = LOOK_AGAIN_SECONDS
        assert await members.look_again()
        await members.entitlement("bank-b")
        assert secrets.asked == ["enrolment-keys"] * 2, "nor of any card"

    play(history)


def test_a_member_is_served_with_key_card_and_name(play) -> None:
    async def history(members: VaultMembers, secrets: Secrets, clock: Clock) -> None:
        joins(secrets)
        assert await members.key("bank-c") is None, "a value is used for less than two minutes"
        assert await members.look_again()
        assert await members.key("bank-c") == bytes.fromhex(KEY_C)
        assert (await members.entitlement("bank-c")).refusal(NODE_C) is None
        asked = len(secrets.asked)
        await members.entitlement("bank-c")
        assert len(secrets.asked) == asked, "then it is cached again"

    play(history)


def test_a_scheduled_read_of_the_keys_reads_a_new_members_card_too(play) -> None:
    async def history(members: VaultMembers, secrets: Secrets, clock: Clock) -> None:
        clock.now = LOOK_AGAIN_SECONDS
        await members.look_again()
        clock.now = SECRET_POLL_SECONDS
        await members.entitlement("bank-b")
        joins(secrets)
        clock.now += LOOK_AGAIN_SECONDS
        assert await members.key("bank-c") == bytes.fromhex(KEY_C), "the keys were due for a read"
        assert (await members.entitlement("bank-c")).refusal(NODE_C) is None, "although the card was not due"

    play(history)


def test_a_read_in_progress_does_not_answer_later_requests(play) -> None:
    async def history(members: VaultMembers, secrets: Secrets, clock: Clock) -> None:
        secrets.slow = asyncio.Event()
        first = asyncio.create_task(members.look_again())
        await until(lambda: secrets.asked)
        joins(secrets)
        clock.now = 5
        second = asyncio.create_task(members.look_again())
        await asyncio.sleep(0)
        secrets.slow.set()
        assert await first
        assert not await second, "the request came after the read began, which may lack bank C"
        assert await members.key("bank-c") is None
        clock.now = LOOK_AGAIN_SECONDS
        assert await members.look_again(), "the interval counts from the start of the read"
        assert await members.key("bank-c") == bytes.fromhex(KEY_C)

    play(history)


def test_a_card_that_is_being_read_is_read_again_when_a_member_joins(play) -> None:
    async def history(members: VaultMembers, secrets: Secrets, clock: Clock) -> None:
        clock.now = SECRET_POLL_SECONDS - 1
        assert await members.look_again(), "the keys are newer than the peers"
        clock.now, secrets.slow = SECRET_POLL_SECONDS + LOOK_AGAIN_SECONDS, asyncio.Event()
        pools = asyncio.create_task(members.peers())
        await until(lambda: secrets.asked[-1] == "peers")
        joins(secrets)
        slow, secrets.slow = secrets.slow, None
        assert await members.look_again()
        assert await members.key("bank-c")
        slow.set()
        assert "bank-c" not in (await pools).names, "its read began earlier"
        assert (await members.entitlement("bank-c")).refusal(NODE_C) is None, "a late result is not cached"

    play(history)


def test_members_do_not_wait_for_a_read_that_an_unauthenticated_request_caused(play) -> None:
    async def history(members: VaultMembers, secrets: Secrets, clock: Clock) -> None:
        secrets.slow = asyncio.Event()
        outsider = asyncio.create_task(members.look_again())
        await until(lambda: secrets.asked)
        async with asyncio.timeout(1):
            assert await members.key("bank-b") == bytes.fromhex(KEY_B)
            assert await members.entitlement("bank-b")
        assert not outsider.done()
        secrets.slow.set()
        await outsider

    play(history)


def test_an_outage_of_the_vault_causes_no_additional_reads(play) -> None:
    async def history(members: VaultMembers, secrets: Secrets, clock: Clock) -> None:
        secrets.fault = OSError()
        with pytest.raises(UnavailableError, match="secret enrolment-keys"):
            await members.look_again()
        assert not await members.look_again()
        assert len(secrets.asked) == 1
        assert await members.key("bank-b"), "members are served from the cache meanwhile"
        secrets.fault = None
        clock.now = LOOK_AGAIN_SECONDS
        assert await members.look_again()

    play(history)


def test_the_last_value_of_deleted_keys_stays_in_use(play) -> None:
    async def history(members: VaultMembers, secrets: Secrets, clock: Clock) -> None:
        del secrets.values["enrolment-keys"]
        assert await members.look_again()
        assert await members.key("bank-b") == bytes.fromhex(KEY_B), (
            "an operator can restore keys that were deleted by mistake"
        )

    play(history)
