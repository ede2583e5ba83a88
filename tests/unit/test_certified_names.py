"""Certified names: no member is certified as another bank, with any card and any approval."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest

from contract.authority_configuration import Approval
from ledger.corda import NODE_CA_KEY
from ledger.corda.authority.authority import Authority, RequestRefusedError
from ledger.corda.certificates import CertificateRole, make_keys, make_request, read_key
from tests.authority import BANK_A, BANK_B, Network, network

MALLORY, BANK_C = "O=Mallory, L=Malta, C=MT", "O=Bank C, L=Milan, C=IT"
BY_CARD_OR_BY_HAND = pytest.mark.parametrize("approval", [Approval.AUTO, Approval.MANUAL])


@pytest.fixture
def play(tls):
    """Play a history with the authority of a new network, whose register is in memory."""

    def run(history: Callable[[Network, Authority], Awaitable[Any]], **changes: Any) -> Any:
        async def in_network() -> Any:
            async with network(tls, None) as made, made.authority(**changes) as authority:
                return await history(made, authority)

        return asyncio.run(in_network())

    return run


async def certified(authority: Authority, member: str, name: str, keys: Mapping[str, bytes] | None = None) -> Any:
    """The outcome of a member's request for a name's certificate."""
    request = make_request(name, "a@b", CertificateRole.NODE_CA, read_key(keys or make_keys(), NODE_CA_KEY))
    return await authority.answer(member, await authority.request(member, request))


async def refusal(authority: Authority, member: str, name: str, keys: Mapping[str, bytes] | None = None) -> str:
    with pytest.raises(RequestRefusedError, match="; wanted ") as refused:
        await certified(authority, member, name, keys)
    assert not await authority.pending(), (
        "the request does not wait for an approval, which would certify another bank"
    )
    return str(refused.value)


async def joins(made: Network, member: str, bank: str, *names: str) -> None:
    """A member whose card lists these names, and whose agreed name is this bank."""
    made.cards[member], made.agreed[member] = list(names), bank
    await made.write_secrets()


@BY_CARD_OR_BY_HAND
@pytest.mark.parametrize(
    "name",
    [
        *(
            f"OU=node-99, {BANK_A}",
            f"OU=node-99, {BANK_B}",
            "OU=node-1, O=BANK B, L=New York, C=US",
            f"OU=x, {BANK_C}",
        ),
        *(f"OU=node-1, {MALLORY.replace(', C=', ', ST=Gozo, C=')}", f"OU=node-1, {MALLORY.upper()}"),
    ],
    ids=[
        *("the authority's", "a peer's", "a peer's in other letters", "nobody's"),
        *("its own with an ST", "its own in other letters"),
    ],
)
def test_a_member_is_not_certified_as_another_bank(play, approval: Approval, name: str) -> None:
    async def attack(made: Network, authority: Authority) -> None:
        await joins(made, "mallory", MALLORY, f"OU=node-1, {MALLORY}", name)
        assert f"{name} is not a name of {MALLORY}, which was agreed with mallory" in await refusal(
            authority, "mallory", name
        )
        held = await made.store().names("names/")
        assert not held, "the name stays free"
        await certified(authority, "mallory", f"OU=node-1, {MALLORY}")

    play(attack, approval=approval)


@BY_CARD_OR_BY_HAND
def test_a_waiting_request_is_refused_if_the_agreed_name_changes(play, approval: Approval) -> None:
    async def attack(made: Network, authority: Authority) -> None:
        await joins(made, "mallory", BANK_C, name := f"OU=node-1, {BANK_C}")
        identifier = await authority.request(
            "mallory", make_request(name, "a@b", CertificateRole.NODE_CA, read_key(make_keys(), NODE_CA_KEY))
        )
        await joins(made, "mallory", MALLORY, name)
        with pytest.raises(RequestRefusedError, match=f"is not a name of {MALLORY}"):
            await authority.approve(identifier, "alice")
        with pytest.raises(RequestRefusedError, match=f"is not a name of {MALLORY}"):
            await authority.answer("mallory", identifier)

    play(attack, approval=approval)


def test_a_request_waits_for_an_agreed_name(play) -> None:
    async def history(made: Network, authority: Authority) -> None:
        del made.agreed["bank-b"]
        await made.write_secrets()
        with pytest.raises(Exception, match="has no legal name of bank-b yet"):
            await certified(authority, "bank-b", f"OU=node-1, {BANK_B}")

    play(history)


@pytest.mark.parametrize(
    ("member", "card_key"),
    [("bank-b", "bank-b again"), ("bank-c", "bank-c")],
    ids=["joined again under a new key", "merged into another member"],
)
def test_a_banks_names_belong_to_one_card_key_until_they_are_revoked(play, member: str, card_key: str) -> None:
    first, second = f"OU=node-1, {BANK_B}", f"OU=node-2, {BANK_B}"

    async def history(made: Network, authority: Authority) -> None:
        await certified(authority, "bank-b", first)
        for each in (made.cards, made.agreed):
            each.pop("bank-b")
        made.card_keys[member] = card_key
        await joins(made, member, BANK_B, first, second)
        keys = make_keys()
        assert "wanted the bank's names revoked by the authority first" in await refusal(
            authority, member, second, keys
        ), "a new name belongs to the bank too"
        await refusal(authority, member, first)
        await authority.revoke(first, "alice")
        assert await certified(authority, member, second, keys), "the earlier card key was revoked"

    play(history)


def test_a_bank_that_replaces_its_card_key_keeps_its_nodes_keys(play) -> None:
    first, second = f"OU=node-1, {BANK_B}", f"OU=node-2, {BANK_B}"

    async def history(made: Network, authority: Authority) -> None:
        keys = make_keys()
        before = await certified(authority, "bank-b", first, keys)
        made.card_keys["bank-b"] = "bank-b, second generation"
        await made.write_secrets()
        await refusal(authority, "bank-b", second)
        assert await certified(authority, "bank-b", first, keys) == before, (
            "the certified key signs its request, which proves that it is the same bank"
        )
        assert await certified(authority, "bank-b", second), "its names now belong to the new card key"

    play(history)


@BY_CARD_OR_BY_HAND
def test_polling_an_earlier_request_under_a_new_card_key_gets_nothing(play, approval: Approval) -> None:
    name = f"OU=node-1, {BANK_B}"

    async def attack(made: Network, authority: Authority) -> None:
        key = read_key(make_keys(), NODE_CA_KEY)
        posted = make_request(name, "a@b", CertificateRole.NODE_CA, key)
        identifier = await authority.request("bank-b", posted)
        if approval is Approval.MANUAL:
            await authority.approve(identifier, "alice")
        before = await authority.answer("bank-b", identifier)
        made.card_keys["bank-b"] = "another's"
        await made.write_secrets()
        with pytest.raises(RequestRefusedError, match=r"under the card key .*; wanted the request posted again"):
            await authority.answer("bank-b", identifier)
        with pytest.raises(RequestRefusedError, match="wanted the request posted again"):
            await authority.approve(identifier, "alice")
        assert "wanted the bank's names revoked" in await refusal(authority, "bank-b", f"OU=node-2, {BANK_B}"), (
            "a request id proves nothing: the names still belong to the earlier card key"
        )
        assert await authority.request("bank-b", posted) == identifier
        assert await authority.answer("bank-b", identifier) == before, "the certified key proves that it is the bank"

    play(attack, approval=approval)


def test_a_revocation_wins_over_an_approval_by_card_at_the_same_moment(play, monkeypatch) -> None:
    async def race(_: Network, authority: Authority) -> None:
        posted = make_request(
            f"OU=node-1, {BANK_B}", "a@b", CertificateRole.NODE_CA, read_key(make_keys(), NODE_CA_KEY)
        )
        identifier = await authority.request("bank-b", posted)
        needs_person = authority._needs_person

        async def meanwhile(legal_name: str) -> bool:
            await authority.reject(identifier, "not agreed", "alice")
            return await needs_person(legal_name)

        monkeypatch.setattr(authority, "_needs_person", meanwhile)
        with pytest.raises(RequestRefusedError, match="rejected: not agreed"):
            await authority.answer("bank-b", identifier)
        (decided,) = await authority.requests()
        assert (str(decided.state), decided.by) == ("rejected", "alice")

    play(race)


def test_expired_certificates_block_no_other_holder(play) -> None:
    async def history(made: Network, authority: Authority) -> None:
        await certified(authority, "bank-b", f"OU=node-1, {BANK_B}")
        made.card_keys["bank-b"] = "bank-b again"
        await made.write_secrets()
        await refusal(authority, "bank-b", f"OU=node-2, {BANK_B}")
        made.clock.ahead = made.lifetimes.issued + made.lifetimes.issued
        assert await certified(authority, "bank-b", f"OU=node-2, {BANK_B}")

    play(history)
