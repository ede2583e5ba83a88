"""Revocation lists in a bank's own VMs: which lists are accepted, and that nothing waits for the authority."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, ClassVar

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from host.errors import UnavailableError
from host.http import fetch
from host.tls import client_context
from ledger.corda.authority.authority import Lifetimes
from ledger.corda.authority.signing import revocation_list
from ledger.corda.revocation import LISTS_PREFIX, Revocations, VerifiedList, list_url, sources_of
from ledger.software import WaitingError
from tests.authority import BANK_B, Member, Network, Served, epoch_of
from tests.certificates import make_network
from tests.software_context import MemoryDocuments

AT = "http://127.0.0.1:8445"
IDENTITY_LIST, ROOT_LIST = f"{AT}/identity-ca.crl", f"{AT}/root.crl"
Story = Callable[[Network], Awaitable[Any]]


class Bank:
    """Bank B's VMs; the authority may be unavailable."""

    def __init__(self, made: Network, vm: Served) -> None:
        self.made, self.away = made, False
        self.member: Member = made.member("bank-b", vm.url, BANK_B)
        self._lists = vm.lists_url

    async def fetch(self, url: str) -> bytes:
        if self.away:
            raise UnavailableError(f"{url}: no answer in 10 s")
        return await fetch(url.replace(AT, self._lists), client_context())

    def vm(self) -> Revocations:
        """Another VM of the bank, at its start."""
        return Revocations(
            self.member.documents, self.member.vm().revocation_lists, fetch=self.fetch, now=self.made.clock
        )


async def served(lists: Revocations, url: str) -> tuple[int, bytes]:
    """A node's request for a list, through its proxy."""
    port = await lists.serve("127.0.0.1", 0)
    async with aiohttp.ClientSession() as session, session.get(url, proxy=f"http://127.0.0.1:{port}") as answer:
        return answer.status, await answer.read()


def numbers(lists: Revocations) -> dict[str, int]:
    return {url: each.parsed.number for url, each in lists._lists.items()}


# --- What a node needs ---------------------------------------------------------------------------------------------


def test_every_certificate_that_a_connection_shows_names_its_list(play: Callable[[Story], None]) -> None:
    async def story(made: Network) -> None:
        async with made.vm() as vm:
            chains = await Bank(made, vm).member.certificates()
            for chain in (chains.tls, chains.identity, chains.node_ca):
                assert [list_url(each) for each in chain] == [IDENTITY_LIST, ROOT_LIST, None], (
                    "hard-fail checks refuse a certificate that names no list"
                )
            assert {url: issuer.subject for url, issuer in sources_of(chains).items()} == {
                IDENTITY_LIST: chains.tls[1].subject,
                ROOT_LIST: chains.trust_root.subject,
            }

    play(story)


def test_a_nodes_proxy_serves_the_lists_and_nothing_else(play: Callable[[Story], None]) -> None:
    async def story(made: Network) -> None:
        async with made.vm() as vm:
            bank = Bank(made, vm)
            chains, lists = await bank.member.certificates(), bank.vm()
            await lists.follow(chains)
            for url, issuer in sources_of(chains).items():
                status, content = await served(lists, url)
                assert status == 200
                assert x509.load_der_x509_crl(content).is_signature_valid(issuer.public_key())  # type: ignore[arg-type]
            for outsider in ("http://127.0.0.1:8445/", "http://10.9.9.9/identity-ca.crl", "http://127.0.0.1:1/x"):
                assert (await served(lists, outsider))[0] == 404, (
                    "a peer's certificate can't send a node to any other server"
                )

    play(story)


def test_one_refresh_finds_a_revocation(play: Callable[[Story], None]) -> None:
    async def story(made: Network) -> None:
        async with made.vm() as vm:
            bank = Bank(made, vm)
            chains, lists = await bank.member.certificates(), bank.vm()
            await lists.follow(chains)
            leaves = [chains.tls[0], chains.identity[0], chains.node_ca[0]]
            assert not any(lists.revoked([each]) for each in leaves)
            await vm.authority.revoke(bank.member.identity().legal_name, "alice")
            await lists.refresh()
            assert all(lists.revoked([each]) for each in leaves), (
                "the TLS certificate too: the name loses its connections"
            )
            assert not lists.revoked(chains.tls[1:]), "each issuer has a certificate of this serial number"

    play(story)


# --- Without the authority -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("days", [7, 80])
def test_an_outage_of_the_authority_has_no_effect(play: Callable[[Story], None], days: int) -> None:
    async def story(made: Network) -> None:
        async with made.vm() as vm:
            bank = Bank(made, vm)
            chains, running = await bank.member.certificates(), bank.vm()
            # The founder's notary is certified first: without it there are no parameters to start with.
            await made.member("bank-a", vm.url, made.configuration().subject).certificates()
            await vm.authority.run_due_tasks()
            parameters = await bank.member.enrolment.network_parameters(epoch_of)
            assert parameters
            await running.follow(chains)
            before = [await served(running, url) for url in (IDENTITY_LIST, ROOT_LIST)]
        bank.away = True
        made.clock.ahead = timedelta(days=days)
        await running.refresh()
        assert [await served(running, url) for url in (IDENTITY_LIST, ROOT_LIST)] == before, (
            "a running node keeps running"
        )
        assert all(each.parsed.ends and each.parsed.ends > made.clock() for each in running._lists.values()), (
            "the lists are valid"
        )

        enrolment, starting, identity = bank.member.vm(), bank.vm(), bank.member.identity()
        assert await enrolment.certificates(identity, bank.member.keys[identity.name]) == chains, (
            "a start waits for no list"
        )
        assert await enrolment.network_parameters(epoch_of) == parameters
        await starting.follow(chains)
        assert [await served(starting, url) for url in (IDENTITY_LIST, ROOT_LIST)] == before, "on any VM"
        assert starting.age, "the age of its list is reported"
        assert starting.age >= timedelta(days=days)

    play(story)


def test_lists_are_signed_each_day_and_valid_for_three_months() -> None:
    assert Lifetimes().revocation_list == timedelta(days=90)
    assert Lifetimes().revocation_list_renewal == timedelta(days=1)


def test_a_node_without_any_list_waits(play: Callable[[Story], None]) -> None:
    async def story(made: Network) -> None:
        async with made.vm() as vm:
            bank = Bank(made, vm)
            chains = await bank.member.certificates()
            bank.away = True
            with pytest.raises(WaitingError, match="no answer in 10 s; wanted the network's revocation lists once"):
                await bank.vm().follow(chains)

    play(story)


# --- Which list is accepted ----------------------------------------------------------------------------------------


def signed(number: int, *, by: Any = None, days: int = 90, ahead: timedelta = timedelta()) -> bytes:
    network_ = by or NETWORK
    builder = revocation_list(network_.ca, number, {}, now=NOW + ahead, lifetime=timedelta(days=days))
    return builder.sign(network_.ca_key, SHA256()).public_bytes(Encoding.DER)


NETWORK, OTHER = make_network(), make_network()
NOW = NETWORK.ca.not_valid_before_utc + timedelta(hours=1)
URL = "http://10.1.255.30:8445/identity-ca.crl"
OWN = signed(9)
OTHERS = {
    "another's": (signed(9, by=OTHER), "not signed by CN=Identity CA"),
    "nothing": (b"", "not a revocation list"),
    "a page": (b"<html>", "not a revocation list"),
    "torn": (OWN[:-4], "not a revocation list"),
    # The same list again, since each signature differs.
    "tampered with": (OWN[:-1] + bytes([OWN[-1] ^ 1]), "not signed by"),
}


@pytest.mark.parametrize(("content", "said"), OTHERS.values(), ids=OTHERS)
def test_a_list_that_its_issuer_did_not_sign_is_refused(content: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        VerifiedList.verified(URL, NETWORK.ca, content)


class Serving:
    """A VM of a bank whose authority serves what the test sets."""

    def __init__(self, documents: Any) -> None:
        self.content = signed(5)
        self.lists = Revocations(documents, self._certificates, fetch=self._fetch, now=lambda: NOW)
        self.lists._root, self.lists._sources = NETWORK.root, {URL: NETWORK.ca}

    async def _certificates(self) -> dict[str, x509.Certificate]:
        return {}

    async def _fetch(self, _: str) -> bytes:
        return self.content


def test_an_older_list_never_replaces_a_newer_one(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        documents = MemoryDocuments()
        one = Serving(documents)
        await one.lists.refresh()
        assert numbers(one.lists) == {URL: 5}
        for content in (signed(4), signed(9, by=OTHER), b""):
            one.content = content
            await one.lists.refresh()
            assert numbers(one.lists) == {URL: 5}, "an old list would undo a revocation"
        assert "list 4; wanted 5, which was known, or a later one" in caplog.text
        another = Serving(documents)
        another.content = signed(4)
        await another.lists.refresh()
        assert numbers(another.lists) == {URL: 5}, "no VM falls behind a list that another one stored"
        one.content = signed(6)
        await one.lists.refresh()
        await another.lists.refresh()
        assert numbers(another.lists) == {URL: 6}, "they share lists, although the authority served one of them only"

    with caplog.at_level(logging.WARNING):
        asyncio.run(story())


def test_a_list_that_has_ended_replaces_none(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        documents = MemoryDocuments()
        one = Serving(documents)
        one.content = signed(5)
        await one.lists.refresh()
        one.content = signed(6, ahead=timedelta(days=-95))
        await one.lists.refresh()
        assert numbers(one.lists) == {URL: 5}, "with it, Java knows of no certificate whether it is revoked"
        assert "list 6 of " in caplog.text, "an authority's clock is wrong"
        stored = VerifiedList.verified(URL, NETWORK.ca, one.content).to_json()
        await documents.write(LISTS_PREFIX + "x", stored, None)
        await one.lists.refresh()
        assert numbers(one.lists) == {URL: 5}, "nor from a VM that has stored it"

    with caplog.at_level(logging.WARNING):
        asyncio.run(story())


def test_a_list_of_the_future_is_not_taken(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        documents = MemoryDocuments()
        one = Serving(documents)
        one.content = signed(6, ahead=timedelta(minutes=16))
        await one.lists.refresh()
        assert not numbers(one.lists), "nor as the first"
        one.content = signed(5)
        await one.lists.refresh()
        one.content = signed(6, ahead=timedelta(days=300))
        await one.lists.refresh()
        assert numbers(one.lists) == {URL: 5}, "Java takes it for no list, and each node would refuse every peer"
        assert "list 6 of " in caplog.text
        stored = VerifiedList.verified(URL, NETWORK.ca, one.content).to_json()
        await documents.write(LISTS_PREFIX + "x", stored, None)
        await one.lists.refresh()
        assert numbers(one.lists) == {URL: 5}, "nor from a VM that has stored it"
        one.content = signed(7, ahead=timedelta(minutes=5))
        await one.lists.refresh()
        assert numbers(one.lists) == {URL: 7}, "the clocks of two banks differ"

    with caplog.at_level(logging.WARNING):
        asyncio.run(story())


def test_a_hostile_authority_names_no_more_than_one_list_of_an_issuer(caplog: pytest.LogCaptureFixture) -> None:
    rounds = iter(range(100))

    class Hostile(Serving):
        fetched: ClassVar[list[str]] = []

        async def _certificates(self) -> dict[str, x509.Certificate]:
            number = next(rounds)
            more = {f"http://10.1.255.30:8445/{number}-{index}.crl": NETWORK.ca for index in range(90)}
            return {"http://169.254.169.254/metadata": NETWORK.ca, URL: NETWORK.root, **more}

        async def _fetch(self, url: str) -> bytes:
            self.fetched.append(url)
            return self.content

    async def story() -> None:
        documents = MemoryDocuments()
        one = Hostile(documents)
        one.lists._named = {URL: NETWORK.ca}
        for _ in range(10):
            await one.lists.refresh()
        assert one.fetched == [URL] * 10, (
            "not 90 requests more every five minutes by each VM, and none to another address"
        )
        assert list(documents.stored) == [LISTS_PREFIX + "10.1.255.30:8445-identity-ca.crl"], (
            "no further list is stored"
        )
        assert numbers(one.lists) == {URL: 5}, "a revocation by its issuer stays, although the root's list lacks it"
        assert "names 92 other revocation lists; wanted one of each issuer" in caplog.text

    with caplog.at_level(logging.WARNING):
        asyncio.run(story())


def test_storage_cannot_replace_a_list_with_another_issuers() -> None:
    async def story() -> None:
        builder = revocation_list(NETWORK.root, 99, {}, now=NOW, lifetime=timedelta(days=90))
        roots = builder.sign(NETWORK.root_key, SHA256()).public_bytes(Encoding.DER)
        genuine = VerifiedList.verified(URL, NETWORK.root, roots).to_json()
        forged = VerifiedList.verified(URL, OTHER.ca, signed(99, by=OTHER)).to_json()
        for content in (genuine, forged, b"", b"[]", b"{", json.dumps({"url": URL}).encode(), b"\xff"):
            documents = MemoryDocuments()
            await documents.write(LISTS_PREFIX + "x", content, None)
            one = Serving(documents)
            await one.lists.refresh()
            assert numbers(one.lists) == {URL: 5}, "a list must be its issuer's, in this network"

    asyncio.run(story())


def test_a_revocation_takes_effect_during_an_outage_of_the_documents() -> None:
    class Away:
        async def names(self, _: str) -> Any:
            raise UnavailableError("the documents are away")

        read = write = names

    async def story() -> None:
        one = Serving(Away())
        with pytest.raises(UnavailableError):
            await one.lists.refresh()
        assert numbers(one.lists) == {URL: 5}, "the authority's list takes effect at once"

    asyncio.run(story())


def test_only_daily_signed_lists_have_an_age(play: Callable[[Story], None]) -> None:
    async def story(made: Network) -> None:
        async with made.vm() as vm:
            bank = Bank(made, vm)
            chains, lists = await bank.member.certificates(), bank.vm()
            assert lists.age is None
            await lists.follow(chains)
            assert lists.age
            assert lists.age < timedelta(minutes=1)
            async with made.authority(ca_generation=2) as newer:
                await newer.run_due_tasks()
                await newer.revoke_identity_ca("identity-ca", "alice")
                await newer.run_due_tasks()
                made.clock.ahead = timedelta(days=1, minutes=1)
                await newer.run_due_tasks()
            await vm.authority.run_due_tasks()
            await lists.refresh()
            assert set(lists._lists) == {IDENTITY_LIST, ROOT_LIST, f"{AT}/identity-ca-2.crl"}
            assert lists.age < timedelta(minutes=1), "a revoked CA signs no more lists"
            del lists._lists[f"{AT}/identity-ca-2.crl"]
            assert lists.age is None, "the root's key is not available each day"

    play(story)
