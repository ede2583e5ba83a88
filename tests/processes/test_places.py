"""A peer's hostile VMs hold connections at each of a member's servers: only their own bank's slots are used."""

import asyncio
import contextlib
import ssl
import statistics
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from ipaddress import IPv4Network
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from agent.exchange import Exchange, OwnBank
from host import http
from host.errors import UnavailableError
from host.http import fetch, listens, serving_requests
from host.pools import UNKNOWN_MEMBER, MemberPools
from host.tls import client_context
from host.vault import Card, Peers
from ledger.corda import proof
from tests.authority import Served, network
from tests.software_context import MemoryDocuments

HONEST, OWN = "127.2.0.1", "127.0.0.9"
HOSTILE = [f"127.3.0.{number}" for number in range(1, 31)]
HELD = 6
"""Connections that each hostile address holds: 180 in all."""


def cards(**ranges: str) -> dict[str, Card]:
    return {name: Card(name, {}, "https://127.0.0.1/x", IPv4Network(each), b"{}") for name, each in ranges.items()}


class Shared:
    """A vault that names two peers."""

    async def peers(self) -> Peers:
        known = cards(b="127.2.0.0/16", c="127.3.0.0/16")
        return Peers(frozenset(known), known)

    async def card(self) -> bytes | None:
        return b'{"name": "bank-a"}'


@asynccontextmanager
async def network_info(tls: tuple[ssl.SSLContext, Path]) -> AsyncIterator[str]:
    bank = OwnBank("bank-a", IPv4Network("127.0.0.0/16"), {}, {})
    one = Exchange(bank, MemoryDocuments(), Shared(), lambda url: fetch(url, client_context()), listens)
    async with one.serving("127.0.0.1", 0) as port:
        yield f"https://127.0.0.1:{port}/networkinfo"


@asynccontextmanager
async def authority(tls: tuple[ssl.SSLContext, Path], url_of: Callable[[Served], str]) -> AsyncIterator[str]:
    async with network(tls, None) as made:
        made.cards["bank-c"] = []
        await made.write_secrets()
        async with made.vm() as vm:
            yield url_of(vm)


def enrolment(tls: tuple[ssl.SSLContext, Path]) -> AbstractAsyncContextManager[str]:
    return authority(tls, lambda vm: f"{vm.url}/network")


def revocation_lists(tls: tuple[ssl.SSLContext, Path]) -> AbstractAsyncContextManager[str]:
    return authority(tls, lambda vm: f"{vm.lists_url}/root.crl")


async def ask(url: str, address: str) -> float:
    """Send a request from an address, as bank-b would; returns the seconds. Raises aiohttp.ClientError."""
    nonce, now = f"{time.monotonic_ns():032x}", str(int(time.time()))
    path = "/" + url.split("/", 3)[3]
    given = proof.request_proof(
        b"\xbb" * 32, member="bank-b", method="GET", path=path, nonce=nonce, time=now, body=b""
    )
    headers = {proof.MEMBER: "bank-b", proof.NONCE: nonce, proof.TIME: now, proof.REQUEST_PROOF: given}
    began = time.monotonic()
    connector = aiohttp.TCPConnector(ssl=client_context(), local_addr=(address, 0))
    timeout = aiohttp.ClientTimeout(total=10)
    async with (
        aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
        session.get(url, headers=headers) as answer,
    ):
        assert answer.status == 200, await answer.text()
        assert await answer.read()
    return time.monotonic() - began


async def hold(port: int, address: str, kind: int) -> None:
    """Hold a connection, and open another one whenever it is closed."""
    greeting = (b"", b"\x16", b"GET / HTTP/1.1\r\n")[kind % 3]
    while True:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))
            try:
                writer.write(greeting)
                while not reader.at_eof():
                    if greeting:
                        writer.write(b"x")
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(0.3):
                            await reader.read(64)
            finally:
                writer.close()
        await asyncio.sleep(0.05)


@asynccontextmanager
async def besieged(port: int) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(hold(port, each, kind)) for each in HOSTILE for kind in range(HELD)]
    try:
        await asyncio.sleep(0.5)
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        # The socket of an interrupted handshake is closed while the server's loop still runs.
        await asyncio.sleep(0.2)


@pytest.mark.parametrize("server", [network_info, enrolment, revocation_lists])
def test_thirty_hostile_addresses_of_one_peer_delay_no_other(
    server: Callable[..., contextlib.AbstractAsyncContextManager[str]], tls: tuple[ssl.SSLContext, Path]
) -> None:
    async def story() -> list[float]:
        async with server(tls) as url:
            await ask(url, HONEST)
            async with asyncio.timeout(20), besieged(int(url.split(":")[2].split("/")[0])):
                return [await ask(url, address) for address in [HONEST, OWN] * 6]

    seconds = asyncio.run(story())
    assert statistics.median(seconds) < 1, (
        f"an honest peer and the bank's own network are answered at once: {seconds}"
    )


# --- Pools of connections ------------------------------------------------------------------------------------------


def test_each_member_has_a_pool_by_its_cards_range() -> None:
    known = [cards(b="10.2.0.0/16", c="10.3.0.0/22")]
    names = [frozenset({"b", "c"})]

    async def peers() -> Peers:
        if not known:
            raise UnavailableError("the vault is away")
        return Peers(names[-1], known[-1])

    async def story() -> None:
        pools = MemberPools(IPv4Network("10.1.0.0/16"), peers)
        assert pools.pool_of("10.2.0.1") == UNKNOWN_MEMBER, "before its card is read, a member is unknown"
        assert pools.pool_of("10.1.255.254") == "own"
        await pools.read()
        assert [pools.pool_of(each) for each in ("10.2.255.254", "10.3.3.1", "10.3.4.1", "10.1.0.1")] == [
            "peer b",
            "peer c",
            UNKNOWN_MEMBER,
            "own",
        ]
        known[-1] = cards(b="10.2.0.0/16")
        await pools.read()
        assert pools.pool_of("10.3.0.1") == "peer c", "an unreadable card does not remove the member's pool"
        names[-1] = frozenset({"b"})
        await pools.read()
        assert pools.pool_of("10.3.0.1") == UNKNOWN_MEMBER, "a removed peer has no pool"
        known.clear()
        with pytest.raises(UnavailableError):
            await pools.read()
        assert pools.pool_of("10.2.0.1") == "peer b", "an outage of the vault has no effect"

    asyncio.run(story())


# --- Which connection is closed ------------------------------------------------------------------------------------


async def respond(_: web.BaseRequest) -> web.Response:
    return web.Response(text="answer")


def test_a_silent_connection_is_closed_after_a_few_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    assert http.FIRST_BYTE_SECONDS == 2, "a client sends its request at once"
    monkeypatch.setattr(http, "FIRST_BYTE_SECONDS", 0.2)

    async def story() -> None:
        async with serving_requests(respond, None, "127.0.0.1", 0) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            began = time.monotonic()
            assert await reader.read() == b""
            assert 0.1 < time.monotonic() - began < 2, "not after the time limit of a request"
            writer.close()

    asyncio.run(story())


@asynccontextmanager
async def waiting() -> AsyncIterator[tuple[int, asyncio.Event]]:
    """A server that answers once the event is set; yields its port."""
    released = asyncio.Event()

    async def wait(_: web.BaseRequest) -> web.Response:
        await released.wait()
        return web.Response(text="answer")

    async with serving_requests(wait, None, "127.0.0.1", 0) as port:
        yield port, released


def test_a_full_pool_closes_its_oldest_connection_without_a_request() -> None:
    async def story() -> None:
        async with waiting() as (port, released):
            held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(http.PLACES)]
            held[0][1].write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            held[1][1].write(b"GET / HTTP/1.1\r\nX-Drip: ")
            await asyncio.sleep(0.1)
            newcomer = await asyncio.open_connection("127.0.0.1", port)
            newcomer[1].write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            async with asyncio.timeout(1):
                assert await held[1][0].read() == b"", (
                    "the oldest one without a complete request, although it sends bytes"
                )
            released.set()
            async with asyncio.timeout(1):
                assert (await held[0][0].read()).endswith(b"answer"), "a connection that is being answered stays"
                assert (await newcomer[0].read()).endswith(b"answer")
            assert not held[2][0].at_eof(), "one is closed for each new one"
            for _, writer in (*held, newcomer):
                writer.close()

    asyncio.run(story())


def test_a_pool_full_of_requests_refuses_new_connections() -> None:
    async def story() -> None:
        async with waiting() as (port, released):
            held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(http.PLACES)]
            for _, writer in held:
                writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            await asyncio.sleep(0.1)
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            async with asyncio.timeout(1):
                assert await reader.read() == b"", "its bank has enough requests in progress"
            writer.close()
            released.set()
            for reader, writer in held:
                assert (await reader.read()).endswith(b"answer")
                writer.close()

    asyncio.run(story())
