"""Network information over real sockets: what is accepted from a peer, and that no peer delays another."""

import asyncio
import base64
import contextlib
import gc
import gzip
import json
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from ipaddress import IPv4Network
from types import SimpleNamespace
from typing import Any, ClassVar

import aiohttp
import pytest
from aiohttp import web

from agent.exchange import (
    PEERS_PREFIX,
    DocumentPin,
    Exchange,
    ExchangeIntervals,
    OwnBank,
    info_handler,
)
from agent.lease import Lease
from agent.reconciler import MemberReconciler
from contract.network_info import NetworkInfo, NetworkInfoError, NodeInfo, parse_network_info
from contract.platform import NetworkDocument
from contract.ports import NETWORK_INFO_PATH
from host.bank_documents import NETWORK_DOCUMENT, Document
from host.clock import Clock
from host.errors import SupersededError, UnavailableError
from host.faults import count
from host.http import MAX_ANSWER_BYTES, PLACES, TooLargeError, fetch, serving_requests
from host.http import listens as listens_at
from host.status import Status
from host.tls import client_context, server_context
from host.vault import Card, Peers
from ledger.software import NetworkMember, WaitingError
from tests.software_context import MemoryDocuments

HOST = "127.0.0.1"
FAST = ExchangeIntervals(fetch=0.1, refresh=0.1, peers=0.05)
FINGERPRINT = NetworkDocument("x").fingerprint


def document(member: str = "bank-b", *nodes: tuple[str, bytes], **changes: Any) -> bytes:
    """A peer's answer."""
    listed = [{"legalName": name, "info": base64.b64encode(info).decode()} for name, info in nodes]
    return json.dumps(
        {"schema": "1.0", "member": member, "card": None, "nodes": listed, "networkDocument": None} | changes
    ).encode()


def card(member: str, url: str, count: int = 1) -> Card:
    names = {f"{member} node-{number}": f"10.0.0.1:{9999 + number}" for number in range(1, count + 1)}
    return Card(member, names, url, Shared.RANGE, json.dumps({"name": member}).encode())


@dataclass
class Shared:
    """The bank's secrets; the vault may be unavailable."""

    RANGE: ClassVar = IPv4Network("127.2.0.0/16")
    """Of the peers."""

    cards: dict[str, Card] = field(default_factory=dict)
    own: bytes | None = None
    away: bool = False

    async def peers(self) -> Peers:
        if self.away:
            raise UnavailableError("the vault does not answer")
        return Peers(frozenset(self.cards), dict(self.cards))

    async def card(self) -> bytes | None:
        if self.away:
            raise UnavailableError("the vault does not answer")
        return self.own


async def nothing_listens(_: str) -> bool:
    return False


def exchange(
    member: str,
    vault: Shared | None = None,
    documents: Any = None,
    listens: Callable[[str], Awaitable[bool]] = nothing_listens,
    **changes: Any,
) -> Exchange:
    return Exchange(
        bank=OwnBank(
            member,
            IPv4Network("127.0.0.0/16"),
            {"node-1": f"{member} node-1"},
            {f"{member} node-1": "10.0.0.1:10000"},
        ),
        documents=documents or MemoryDocuments(),
        vault=vault or Shared(),
        fetch=lambda url: fetch(url, client_context(), 2),
        listens=listens,
        intervals=FAST,
        **changes,
    )


@asynccontextmanager
async def following(*exchanges: Exchange) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(each.follow()) for each in exchanges]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def until(condition: Callable[[], Awaitable[Any]], what: str, seconds: float = 5) -> Any:
    end = time.monotonic() + seconds
    while True:
        with contextlib.suppress(UnavailableError, WaitingError):
            if found := await condition():
                return found
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        await asyncio.sleep(0.02)


async def member_of(one: Exchange, name: str) -> NetworkMember | None:
    return next((each for each in (await one.roster()).members if each.name == name), None)


async def infos_of(one: Exchange, name: str) -> tuple[bytes, ...]:
    found = await member_of(one, name)
    return found.infos if found else ()


async def trouble_of(one: Exchange, name: str) -> str | None:
    return (await one.roster()).troubles.get(name)


# --- The document --------------------------------------------------------------------------------------------------


REFUSED = {
    "no-json": (b"<html>", "the document: Invalid JSON"),
    "nothing": (b"", "the document: Invalid JSON"),
    "a-list": (b"[]", "the document: Input should be an object"),
    "no-schema": (json.dumps({"member": "bank-b"}).encode(), "schema: Field required"),
    "schema-of-no-kind": (document(schema="one"), "schema: String should match pattern"),
    "newer-major": (document(schema="2.0"), "schema is 2.0; wanted 1.0: upgrade this program"),
    "older-major": (document(schema="0.9"), "schema is 0.9; wanted 1.0: upgrade that member's program"),
    "another's": (document("bank-c"), "the document is that of 'bank-c'; wanted its own"),
    "another's-card": (document(card={"name": "bank-c"}), "the document is that of 'bank-b'; wanted its own"),
    "card-of-no-kind": (document(card="bank-b"), "card: Input should be an object"),
    "number-for-text": (
        document(member=7),  # type: ignore[arg-type]  # wrong on purpose
        "member: Input should be a valid string",
    ),
    "no-base64": (document(nodes=[{"legalName": "x", "info": "*"}]), "nodes.0.info: Value error"),
    "no-info": (document(nodes=[{"legalName": "x", "info": ""}]), "nodes.0.info: Value should have at least 1 item"),
    "no-name": (document(nodes=[{"legalName": "", "info": "YQ=="}]), "nodes.0.legalName: String should have"),
    "name-twice": (document("bank-b", ("x", b"1"), ("x", b"2")), "a legal name occurs twice"),
    "many-nodes": (document("bank-b", *((f"{i}", b"1") for i in range(201))), "nodes: Tuple should have at most 200"),
    "deep": (document()[:-1] + b', "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "recursion limit"),
}


@pytest.mark.parametrize(("content", "said"), REFUSED.values(), ids=REFUSED)
def test_an_invalid_network_document_is_refused_with_a_reason(content: bytes, said: str) -> None:
    with pytest.raises(NetworkInfoError, match=r"^bank-b: .*; wanted ") as refused:
        parse_network_info(content, "bank-b")
    assert said in str(refused.value)
    assert len(str(refused.value)) < 500, "a peer does not fill our log"


def test_a_newer_minor_version_is_accepted() -> None:
    content = document("bank-b", ("x", b"1"), schema="1.7", news={"of": "later"})
    parsed = parse_network_info(content, "bank-b")
    assert parsed.nodes == (NodeInfo(legal_name="x", info=b"1"),), "it only adds"
    assert b"news" not in parsed.to_json(), "and unknown properties are not stored"


def test_a_document_is_read_as_it_was_written() -> None:
    one = NetworkInfo(
        member="bank-b",
        card={"name": "bank-b"},
        nodes=(NodeInfo(legal_name="x", info=b"\x00\xff"),),
        network_document=b"d",
    )
    assert parse_network_info(one.to_json(), "bank-b") == one
    assert json.loads(one.to_json()) == {
        "schema": "1.0",
        "member": "bank-b",
        "card": {"name": "bank-b"},
        "nodes": [{"legalName": "x", "info": "AP8="}],
        "networkDocument": "ZA==",
    }, "other members' programs use these names"


# --- The server ----------------------------------------------------------------------------------------------------


async def ask(port: int, path: str = NETWORK_INFO_PATH, method: str = "GET", host: str = HOST) -> tuple[int, bytes]:
    connector = aiohttp.TCPConnector(ssl=client_context())
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.request(method, f"https://{host}:{port}{path}") as answer,
    ):
        return answer.status, await answer.read()


def test_the_server_answers_one_path_and_method() -> None:
    async def story() -> None:
        content: bytes | None = None
        async with serving_requests(info_handler(lambda: content), server_context(), HOST, 0) as port:
            assert (await ask(port))[0] == 503, "a server that has read nothing yet must not answer with nothing"
            content = document()
            assert await ask(port) == (200, content)
            for path, method, status in (
                ("/", "GET", 404),
                ("/networkinfo/", "GET", 404),
                ("/health", "GET", 404),
                (NETWORK_INFO_PATH, "POST", 405),
                (NETWORK_INFO_PATH, "PUT", 405),
            ):
                assert (await ask(port, path, method))[0] == status, f"{method} {path}"

    asyncio.run(story())


MALFORMED = {
    "a header without a colon": b"GET / HTTP/1.1\r\nabc\r\n\r\n",
    "an unknown version": b"GET / HTTP/9.9\r\n\r\n",
    "two lengths": b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    "a bad chunk": b"POST /networkinfo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "a long line": b"GET /" + b"a" * 300 + b" HTTP/1.1\r\nHost: h\r\n\r\n",
    "a host that IDNA refuses": b"GET http://xn--a.b/networkinfo HTTP/1.1\r\nHost: h\r\n\r\n",
    "a port beyond all": b"GET http://a:99999999/networkinfo HTTP/1.1\r\nHost: h\r\n\r\n",
    "a body that ends early": b"POST /networkinfo HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nx",
}


@pytest.mark.parametrize("request_", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_request_leaves_no_record(request_: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        before = count()
        async with serving_requests(info_handler(document), None, HOST, 0) as port:
            reader, writer = await asyncio.open_connection(HOST, port)
            writer.write(request_)
            writer.write_eof()
            answer = await reader.read()
            writer.close()
            assert not answer.startswith(b"HTTP/1.1 200"), "it asks for nothing that there is"
            assert (await ask_plainly(port))[:12] == b"HTTP/1.1 200", "the server serves others"
        gc.collect()
        assert count() == before, "a peer's fault is none of the bank's"

    asyncio.run(story())
    assert caplog.text == "", "a peer that sends such requests all the time would fill the bank's workspace"


async def ask_plainly(port: int) -> bytes:
    reader, writer = await asyncio.open_connection(HOST, port)
    writer.write(b"GET /networkinfo HTTP/1.1\r\nHost: h\r\n\r\n")
    answer = await reader.read()
    writer.close()
    return answer


def test_a_request_ends_with_its_connection() -> None:
    async def story() -> None:
        handlers = most = 0

        async def respond(_: web.BaseRequest) -> web.StreamResponse:
            nonlocal handlers, most
            handlers += 1
            most = max(most, handlers)
            try:
                await asyncio.sleep(60)
            finally:
                handlers -= 1
            return web.Response()

        async def ask_and_leave(port: int) -> None:
            for _ in range(20):
                _, writer = await asyncio.open_connection(HOST, port)
                writer.write(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
                await asyncio.sleep(0.01)
                writer.transport.abort()

        async with serving_requests(respond, None, HOST, 0) as port:
            await asyncio.gather(*(ask_and_leave(port) for _ in range(4)))
            assert 0 < most <= PLACES, "a client that asks and leaves has no more requests than places"

    asyncio.run(story())


def test_the_server_speaks_only_tls() -> None:
    async def story() -> None:
        async with serving_requests(info_handler(document), server_context(), HOST, 0) as port:
            reader, writer = await asyncio.open_connection(HOST, port)
            writer.write(b"GET /networkinfo HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"bank-b" not in await reader.read()
            writer.close()
        assert server_context().minimum_version is ssl.TLSVersion.TLSv1_2

    asyncio.run(story())


def test_a_slow_client_is_cut_and_delays_no_other() -> None:
    async def dawdle(port: int, *, secure: bool) -> float:
        began = time.monotonic()
        context = client_context() if secure else None
        reader, writer = await asyncio.open_connection(HOST, port, ssl=context)
        with contextlib.suppress(OSError):
            writer.write(b"GET " if secure else b"\x16")
            await reader.read()
        writer.close()
        return time.monotonic() - began

    async def story() -> None:
        async with serving_requests(info_handler(document), server_context(), HOST, 0, seconds=1) as port:
            slow = [asyncio.create_task(dawdle(port, secure=place % 2 == 0)) for place in range(6)]
            await asyncio.sleep(0.2)
            began = time.monotonic()
            assert (await ask(port))[0] == 200
            assert time.monotonic() - began < 0.7, "others are served at once"
            assert max(await asyncio.gather(*slow)) < 3, (
                "each connection is closed at its time limit, in the handshake too"
            )

    asyncio.run(story())


# --- The client ----------------------------------------------------------------------------------------------------


@asynccontextmanager
async def peer(answer: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    """A peer with any answer; yields its URL."""
    application = web.Application()
    application.router.add_get(NETWORK_INFO_PATH, answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, HOST, 0, ssl_context=server_context()).start()
        yield f"https://{HOST}:{runner.addresses[0][1]}{NETWORK_INFO_PATH}"
    finally:
        await runner.cleanup()


def saying(content: bytes | Callable[[], bytes], **options: Any) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=content if isinstance(content, bytes) else content(), **options)

    return answer


async def dripping(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    with contextlib.suppress(OSError):
        while request.transport and not request.transport.is_closing():
            await response.write(b" ")
            await asyncio.sleep(0.05)
    return response


async def endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    with contextlib.suppress(OSError):
        while request.transport and not request.transport.is_closing():
            await response.write(b" " * 65536)
            await asyncio.sleep(0)
    return response


async def elsewhere(_: web.Request) -> web.Response:
    raise web.HTTPFound("https://192.0.2.1/networkinfo")


PACKED = gzip.compress(b" " * 50_000_000)
ILL = {
    "drip": (dripping, "no answer in 0.5 s"),
    "endless": (endless, f"more than {MAX_ANSWER_BYTES} bytes"),
    "huge": (saying(b" " * (MAX_ANSWER_BYTES + 1)), f"more than {MAX_ANSWER_BYTES} bytes"),
    "elsewhere": (elsewhere, "status 302"),
    "error": (saying(b"", status=503), "status 503"),
}


@pytest.mark.parametrize(("answer", "said"), ILL.values(), ids=ILL)
def test_an_improper_answer_fails_within_the_time_limit(answer: Any, said: str) -> None:
    async def story() -> None:
        async with peer(answer) as url:
            began = time.monotonic()
            with pytest.raises((UnavailableError, TooLargeError), match=said):
                await fetch(url, client_context(), 0.5)
            assert time.monotonic() - began < 1.5

    asyncio.run(story())


def test_a_compressed_answer_is_not_decompressed() -> None:
    async def story() -> None:
        async with peer(saying(PACKED, headers={"Content-Encoding": "gzip"})) as url:
            assert await fetch(url, client_context()) == PACKED, "it can't expand to 50 MB, and is no document"

    asyncio.run(story())


def test_an_answer_of_the_largest_size_is_accepted() -> None:
    async def story() -> None:
        content = document().ljust(MAX_ANSWER_BYTES)
        async with peer(saying(content)) as url:
            assert parse_network_info(await fetch(url, client_context()), "bank-b").member == "bank-b"

    asyncio.run(story())


# --- Members -------------------------------------------------------------------------------------------------------


def test_two_banks_exchange_network_information() -> None:
    async def story() -> None:
        vaults = Shared(own=b'{"name": "bank-a"}'), Shared()
        a, b = (exchange(f"bank-{letter}", vault) for letter, vault in zip("ab", vaults, strict=True))
        async with a.serving(HOST, 0) as port_a, b.serving(HOST, 0) as port_b:
            vaults[0].cards["bank-b"] = card("bank-b", f"https://{HOST}:{port_b}{NETWORK_INFO_PATH}")
            vaults[1].cards["bank-a"] = card("bank-a", f"https://{HOST}:{port_a}{NETWORK_INFO_PATH}")
            async with following(a, b):
                before = await a.publish("node-1", b"a1", await a.published("node-1"))
                await b.publish("node-1", b"b1", None)
                await until(lambda: infos_of(b, "bank-a"), "news of bank-a")
                found = await until(lambda: infos_of(a, "bank-b"), "news of bank-b")
                assert found == (b"b1",)
                assert await infos_of(a, "bank-a") == (b"a1",), "a bank is a member of its own network"
                bank_b = await member_of(a, "bank-b")
                assert bank_b
                assert (bank_b.card, bank_b.addresses) == (b'{"name": "bank-b"}', {"bank-b node-1": "10.0.0.1:10000"})
                await a.publish("node-1", b"a2", before)

                async def renewed() -> bool:
                    return await infos_of(b, "bank-a") == (b"a2",)

                await until(renewed, "the new information of bank-a")
                status, served = await ask(port_a)
                assert status == 200
                assert json.loads(served)["card"] == {"name": "bank-a"}, "the card is served as it was signed"

    asyncio.run(story())


def test_a_faulty_peer_affects_no_other() -> None:
    """Unavailable, slow, lying, huge and newer peers do not delay a healthy one."""

    async def story() -> None:
        vault = Shared()
        a = exchange("bank-a", vault)
        async with contextlib.AsyncExitStack() as peers:
            answers: dict[str, Any] = {
                "bank-b": saying(document("bank-b", ("bank-b node-1", b"b1"))),
                "slow": dripping,
                "huge": endless,
                "newer": saying(document("newer", schema="2.0")),
                "minor": saying(document("minor", ("minor node-1", b"m1"), schema="1.9", more=[1])),
                "another": saying(document("bank-b", ("bank-b node-1", b"forged"))),
                "liar": saying(document("liar", ("liar node-1", b"l1"), ("bank-b node-1", b"forged"))),
                "broken": saying(b'{"schema": "1.0", "member": "broken", "nodes": 7}'),
            }
            for name, answer in answers.items():
                vault.cards[name] = card(name, await peers.enter_async_context(peer(answer)))
            vault.cards["away"] = card("away", f"https://{HOST}:1{NETWORK_INFO_PATH}")
            began = time.monotonic()
            async with following(a):
                await until(lambda: infos_of(a, "bank-b"), "the healthy peer's information")
                print(f"the healthy peer's answer came after {time.monotonic() - began:.2f} s")
                assert time.monotonic() - began < 1.5, "a slow peer delays only itself"
                expected = {
                    "slow": "no answer in 2 s",
                    "huge": f"more than {MAX_ANSWER_BYTES} bytes",
                    "newer": "newer: schema is 2.0; wanted 1.0: upgrade this program",
                    "another": "another: the document is that of 'bank-b'; wanted its own",
                    "liar": "publishes 'bank-b node-1', left out; wanted legal names of its card",
                    "broken": "nodes: Input should be",
                    "away": "Cannot connect",
                }
                for name, said in expected.items():
                    trouble = await until(partial(trouble_of, a, name), f"a reason for {name}")
                    assert said in trouble, name
                assert await trouble_of(a, "bank-b") is None
                assert await infos_of(a, "bank-b") == (b"b1",), "no member publishes another's nodes"
                assert await infos_of(a, "minor") == (b"m1",), "a newer minor version is accepted"
                assert await infos_of(a, "liar") == (b"l1",), "it may publish its own nodes"
                for name in ("slow", "huge", "newer", "another", "broken", "away"):
                    found = await member_of(a, name)
                    assert found is not None, "it is still a member: its card is in the vault"
                    assert found.infos == ()

    asyncio.run(story())


def test_a_peers_last_information_outlives_its_outage_and_the_vm() -> None:
    async def story() -> None:
        documents, vault = MemoryDocuments(), Shared()
        said = document("bank-b", ("bank-b node-1", b"b1"))
        async with peer(saying(lambda: said)) as url:
            vault.cards["bank-b"] = card("bank-b", url)
            a = exchange("bank-a", vault, documents)
            async with following(a):
                await until(lambda: infos_of(a, "bank-b"), "news")
                said = b"<html>"
                await until(lambda: trouble_of(a, "bank-b"), "a reason")
                assert await infos_of(a, "bank-b") == (b"b1",), "the last good answer stays in use"
        stored_document = json.loads((await documents.read("peers/bank-b")).content)  # type: ignore[union-attr]
        assert stored_document["nodes"][0]["info"] == base64.b64encode(b"b1").decode()
        another = exchange("bank-a", vault, documents)
        async with following(another):
            await until(lambda: infos_of(another, "bank-b"), "the stored information")
            assert "Cannot connect" in await until(lambda: trouble_of(another, "bank-b"), "a reason")
            vault.cards["bank-b"] = card("bank-b", url, 0)

            async def gone() -> bool:
                return not await infos_of(another, "bank-b")

            await until(gone, "the removal of a node that is no longer on the card")

    asyncio.run(story())


def test_an_unread_stored_answer_is_not_taken_for_an_empty_one() -> None:
    class Away(MemoryDocuments):
        away = True

        async def read(self, name: str) -> Document | None:
            if self.away and name.startswith(PEERS_PREFIX):
                raise UnavailableError("the documents are away")
            return await super().read(name)

    async def story() -> None:
        documents, vault = Away(), Shared()
        vault.cards["bank-b"] = card("bank-b", f"https://{HOST}:1{NETWORK_INFO_PATH}")
        await documents.write(PEERS_PREFIX + "bank-b", document("bank-b", ("bank-b node-1", b"b1")), None)
        a = exchange("bank-a", vault, documents)
        await a._read_peers()
        assert await trouble_of(a, "bank-b") == "bank-b: its stored information is not read yet"
        async with following(a):

            async def away() -> bool:
                return await trouble_of(a, "bank-b") == "the documents are away"

            await until(away, "a reason")
            roster = await a.roster()
            assert "bank-b" in roster.names, "it stays a member"
            assert [each.name for each in roster.members] == ["bank-a"], "and no node removes its information"
            documents.away = False
            await until(lambda: infos_of(a, "bank-b"), "the stored information")
        await documents.write(PEERS_PREFIX + "bank-b", b"{torn", (await documents.read(PEERS_PREFIX + "bank-b")).etag)  # type: ignore[union-attr]
        another = exchange("bank-a", vault, documents)
        async with following(another):
            await until(lambda: trouble_of(another, "bank-b"), "a reason")
            assert await member_of(another, "bank-b") is None, "an unreadable document is not an empty one either"

    asyncio.run(story())


def test_answers_with_a_node_each_do_not_add_up_to_an_unreadable_document() -> None:
    async def story() -> None:
        documents, vault = MemoryDocuments(), Shared()
        large = 600_000
        honest = document("bank-b", *((f"bank-b node-{number}", b"small") for number in range(1, 41)))
        hostile = [document("bank-b", (f"bank-b node-{number}", b"x" * large)) for number in range(1, 8)]
        answers = iter([*hostile, honest])
        async with peer(saying(lambda: next(answers))) as url:
            vault.cards["bank-b"] = card("bank-b", url, 40)
            a = exchange("bank-a", vault, documents)
            await a._read_peers()
            hostile_peer = a._peers["bank-b"]
            for _ in range(6):
                with contextlib.suppress(NetworkInfoError):
                    await a._ask(hostile_peer)
                size = len(documents.stored[PEERS_PREFIX + "bank-b"].content)
                assert size <= MAX_ANSWER_BYTES, f"{size} bytes are stored; a whole answer is not larger"
            with pytest.raises(NetworkInfoError, match="bytes together; wanted 1048576 at most"):
                await a._ask(hostile_peer)
            await a._ask(hostile_peer)
            assert await infos_of(a, "bank-b") == (b"small",) * 40, "once it publishes all of them, they are accepted"

    asyncio.run(story())


def test_a_node_that_publishes_too_much_silences_no_other_of_its_bank(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        documents, names = MemoryDocuments(), [f"node-{number}" for number in range(1, 5)]
        for name, content in zip(names, (b"small", b"x" * 1_000_000, b"", b"small too"), strict=True):
            await documents.write(f"nodes/{name}", content, None)
        bank = OwnBank("bank-a", IPv4Network("127.0.0.0/16"), {name: f"bank-a {name}" for name in names}, {})
        one = replace(exchange("bank-a", documents=documents), bank=bank)
        await one.refresh()
        assert one._answer
        assert len(one._answer) <= MAX_ANSWER_BYTES, "no peer takes more"
        assert [each.info for each in parse_network_info(one._answer, "bank-a").nodes] == [b"small", b"small too"], (
            "a compromised node or VM writes what it likes to its document"
        )
        assert "wanted 524288 at most: node-2 is left out" in caplog.text
        one._document = Document(b"x" * 2_000_000, "etag")
        one._compose()
        assert one._answer
        left = parse_network_info(one._answer, "bank-a")
        assert ([each.info for each in left.nodes], left.network_document) == ([b"small", b"small too"], None), (
            "nor does a document of the authority that no peer could take"
        )

    asyncio.run(story())


def test_a_dropped_peer_is_no_longer_a_member() -> None:
    async def story() -> None:
        vault = Shared()
        a = exchange("bank-a", vault)
        vault.cards["bank-b"] = card("bank-b", f"https://{HOST}:1/")
        async with following(a):
            await until(lambda: member_of(a, "bank-b"), "a peer")
            vault.away = True
            reason = await until(lambda: trouble_of(a, "bank-a"), "a reason")
            assert reason == "the vault does not answer"
            assert (await a.roster()).names == {"bank-a", "bank-b"}, "an outage removes no member"
            vault.away = False
            del vault.cards["bank-b"]

            async def dropped() -> bool:
                return (await a.roster()).names == {"bank-a"}

            await until(dropped, "the peer is none any more")

    asyncio.run(story())


def test_the_members_are_unknown_until_the_vault_has_answered() -> None:
    async def story() -> None:
        a = exchange("bank-a", Shared(away=True))
        async with following(a):
            await asyncio.sleep(0.2)
            with pytest.raises(UnavailableError, match="the vault does not answer"):
                await a.roster()

    asyncio.run(story())


def test_vms_of_a_bank_that_write_at_once_agree() -> None:
    async def story() -> None:
        documents, vault = MemoryDocuments(), Shared()
        number = 0

        def ever_new() -> bytes:
            nonlocal number
            number += number < 40
            return document("bank-b", ("bank-b node-1", str(number).encode()))

        async with peer(saying(ever_new)) as url:
            vault.cards["bank-b"] = card("bank-b", url)
            vms = [exchange("bank-a", vault, documents) for _ in range(3)]

            async def agreed() -> bool:
                return {await infos_of(vm, "bank-b") for vm in vms} == {(b"40",)}

            async def is_stored() -> bool:
                found = await documents.read("peers/bank-b")
                return found is not None and parse_network_info(found.content, "bank-b").nodes[0].info == b"40"

            async with following(*vms):
                await until(agreed, "all VMs know the same", 15)
                await until(is_stored, "and stored it")
                writings = (await documents.read("peers/bank-b")).etag  # type: ignore[union-attr]
                await asyncio.sleep(0.5)
                assert (await documents.read("peers/bank-b")).etag == writings, (  # type: ignore[union-attr]
                    "unchanged content is not written again"
                )

    asyncio.run(story())


def test_a_late_holder_publishes_nothing() -> None:
    async def story() -> None:
        documents = MemoryDocuments()
        old, new = (exchange("bank-a", documents=documents) for _ in range(2))
        before = await old.published("node-1")
        await new.publish("node-1", b"2", await new.published("node-1"))
        with pytest.raises(SupersededError, match="document nodes/node-1: another VM wrote it"):
            await old.publish("node-1", b"1", before)
        assert documents.stored["nodes/node-1"].content == b"2"

    asyncio.run(story())


def test_a_delayed_write_of_an_older_epoch_is_overwritten() -> None:
    """The newer holder overwrites it, but only after it has renewed its lease since its last read."""

    async def story() -> None:
        now, documents = 100.0, MemoryDocuments()
        store: Any = None
        old, new = (exchange("bank-a", documents=documents) for _ in range(2))
        lease = Lease(store, Clock(now=lambda: now, utc=lambda: datetime.now(UTC)), "node-1", "vm-1", "id", now)

        async def info(_: Any) -> bytes:
            return b"2"

        some: Any = SimpleNamespace(info=info, identity=SimpleNamespace(name="node-1"))
        fenced = False

        async def prove() -> None:
            if fenced:
                raise SupersededError("epoch 3 has a role")

        reconciler = MemberReconciler(
            prove=prove,
            software=some,
            network=new,
            place=some,
            folder=some,
            lease=lease,
            status=Status("vm-2"),
            published=await new.published("node-1"),
        )
        await old.publish("node-1", b"1", None)
        with pytest.raises(SupersededError):
            await reconciler._publish()
        await reconciler._publish()
        assert documents.stored["nodes/node-1"].content == b"1", "it may belong to a newer epoch"
        now += 5
        lease._sent = now
        await reconciler._publish()
        assert documents.stored["nodes/node-1"].content == b"2"
        await old.publish("node-1", b"3", await old.published("node-1"))
        reconciler._published = Document(b"0", "of an older write")
        with pytest.raises(SupersededError):
            await reconciler._publish()
        now += 60
        await reconciler._publish()
        assert documents.stored["nodes/node-1"].content == b"3", "a late holder publishes nothing"
        lease._sent = now
        fenced = True
        with pytest.raises(SupersededError, match="epoch 3"):
            await reconciler._publish()
        assert documents.stored["nodes/node-1"].content == b"3", (
            "nor does a holder whose lease a restored store renewed"
        )
        fenced = False
        await reconciler._publish()
        assert documents.stored["nodes/node-1"].content == b"2"

    asyncio.run(story())


def test_a_lost_answer_is_not_taken_for_another_vms_write() -> None:
    class Losing(MemoryDocuments):
        lose = True

        async def write(self, name: str, content: bytes, etag: str | None) -> str | None:
            written = await super().write(name, content, etag)
            if self.lose:
                self.lose = False
                raise UnavailableError("lost")
            return written

    async def story() -> None:
        documents = Losing()
        a = exchange("bank-a", documents=documents)
        with pytest.raises(UnavailableError):
            await a.publish("node-1", b"1", None)
        published = await a.publish("node-1", b"1", None)
        assert published == documents.stored["nodes/node-1"]
        assert (await a.publish("node-1", b"2", published)).content == b"2"

    asyncio.run(story())


# --- The network's document ----------------------------------------------------------------------------------------

RIGHT = b"parameters"
PIN = DocumentPin(FINGERPRINT(RIGHT), FINGERPRINT)


def offered(*contents: bytes) -> Sequence[Any]:
    return [saying(document("bank-b", networkDocument=base64.b64encode(each).decode())) for each in contents]


def test_a_pinned_document_is_fetched_and_stored() -> None:
    async def story() -> None:
        documents, vault = MemoryDocuments(), Shared()
        (answer,) = offered(RIGHT)
        a = exchange("bank-a", vault, documents, pin=PIN)
        with pytest.raises(WaitingError, match=rf"^network document: nobody has one yet; wanted {PIN.hash}"):
            await a.document()
        async with peer(answer) as url, a.serving(HOST, 0) as port, following(a):
            vault.cards["bank-b"] = card("bank-b", url)
            assert await until(a.document, "the document") == RIGHT
            assert documents.stored[NETWORK_DOCUMENT].content == RIGHT

            async def served() -> bool:
                return json.loads((await ask(port))[1])["networkDocument"] == base64.b64encode(RIGHT).decode()

            await until(served, "the document for new members")
        assert await exchange("bank-a", documents=documents, pin=PIN).document() == RIGHT, "without any peer"

    asyncio.run(story())


def test_a_document_with_another_hash_is_refused() -> None:
    async def story() -> None:
        documents, vault = MemoryDocuments(), Shared()
        (answer,) = offered(b"forged")
        await documents.write(NETWORK_DOCUMENT, b"older", None)
        a = exchange("bank-a", vault, documents, pin=PIN)
        async with peer(answer) as url, a.serving(HOST, 0) as port, following(a):
            vault.cards["bank-b"] = card("bank-b", url)
            await until(lambda: member_of(a, "bank-b"), "the peer")
            await asyncio.sleep(0.5)
            with pytest.raises(WaitingError) as waits:
                await a.document()
            assert str(waits.value).startswith(
                f"network document: this bank has {FINGERPRINT(b'older')}, bank-b has {FINGERPRINT(b'forged')};"
            ), "the message has the peers' hashes, so that a wrong pin is found"
            assert documents.stored[NETWORK_DOCUMENT].content == b"older"
            assert json.loads((await ask(port))[1])["networkDocument"] is None, "the document is not served either"

    asyncio.run(story())


def test_a_changed_pin_replaces_the_stored_document() -> None:
    async def story() -> None:
        documents, vault = MemoryDocuments(), Shared()
        (answer,) = offered(RIGHT)
        await documents.write(NETWORK_DOCUMENT, b"older", None)
        a = exchange("bank-a", vault, documents, pin=PIN)
        async with peer(answer) as url, following(a):
            vault.cards["bank-b"] = card("bank-b", url)
            assert await until(a.document, "the document") == RIGHT
        assert documents.stored[NETWORK_DOCUMENT].content == RIGHT

    asyncio.run(story())


def test_without_a_pin_no_document_is_fetched() -> None:
    async def story() -> None:
        documents = MemoryDocuments()
        await documents.write(NETWORK_DOCUMENT, b"whatever", None)
        assert await exchange("bank-a", documents=documents).document() is None, (
            "the platform has another proof of it, such as a signature"
        )

    asyncio.run(story())


def test_a_refresh_reads_only_what_changed() -> None:
    asked = list[str]()

    class Counting(MemoryDocuments):
        async def read(self, name: str) -> Document | None:
            asked.append(name)
            return await super().read(name)

        async def names(self, prefix: str) -> Mapping[str, str]:
            asked.append(f"{prefix}*")
            return await super().names(prefix)

    async def story() -> None:
        documents = Counting()
        for name in ("nodes/node-1", "nodes/node-9", NETWORK_DOCUMENT, "peers/bank-b"):
            await documents.write(name, b"1", None)
        bank = exchange("bank-a", documents=documents)
        await bank.refresh()
        assert asked == ["n*", "nodes/node-1", NETWORK_DOCUMENT], (
            "the documents of its own nodes, and of no removed identity"
        )
        asked.clear()
        await bank.refresh()
        assert asked == ["n*"], "15 VMs that read 13 documents every 20 s are ten requests a second"
        asked.clear()
        await documents.write("nodes/node-1", b"2", documents.stored["nodes/node-1"].etag)
        await bank.refresh()
        assert asked == ["n*", "nodes/node-1"]
        del documents.stored["nodes/node-1"], documents.stored[NETWORK_DOCUMENT]
        await bank.refresh()
        served = json.loads(bank._answer or b"")
        assert [node["info"] for node in served["nodes"]] == [base64.b64encode(b"2").decode()], (
            "absence removes no node"
        )
        assert served["networkDocument"] is None

    asyncio.run(story())


def test_a_member_is_reachable_if_one_of_its_nodes_accepts_a_connection() -> None:
    open_at = set[str]()

    async def listens(address: str) -> bool:
        return address in open_at

    async def story() -> None:
        vault = Shared()
        for name in ("bank-b", "bank-c"):
            vault.cards[name] = card(name, f"https://{HOST}:1{NETWORK_INFO_PATH}", 2)
        a = exchange("bank-a", vault, listens=listens)

        async def reported(wanted: dict[str, bool]) -> bool:
            return (await a.roster()).reached == wanted

        async with following(a):
            await until(lambda: reported({"bank-b": False, "bank-c": False}), "both nodes are unreachable")
            open_at.add("10.0.0.1:10001")
            await until(lambda: reported({"bank-b": True, "bank-c": True}), "one reachable node is enough")
            del vault.cards["bank-c"]
            await until(lambda: reported({"bank-b": True}), "a removed peer is no longer reported")

    asyncio.run(story())


def test_a_peers_task_survives_any_list_of_nodes_on_its_card(monkeypatch: pytest.MonkeyPatch) -> None:
    """The task of a peer must run as long as it is a peer."""
    raised = 0

    async def listens(address: str) -> bool:
        nonlocal raised
        raised += 1
        if raised < 3:
            raise RuntimeError(address)
        return True

    follow, begun = Exchange._keep_asking, list[str]()

    async def fails_at_first(self: Exchange, name: str) -> None:
        begun.append(name)
        if len(begun) == 1:
            raise RuntimeError(name)
        await follow(self, name)

    async def story() -> None:
        vault = Shared({"bank-b": card("bank-b", f"https://{HOST}:1{NETWORK_INFO_PATH}")})
        a = exchange("bank-a", vault, listens=listens)

        async def reached() -> bool:
            return (await a.roster()).reached == {"bank-b": True}

        async with following(a):
            await until(reached, "a round that fails is no peer's last")
        monkeypatch.setattr(Exchange, "_keep_asking", fails_at_first)
        async with following(a):
            await until(lambda: asyncio.sleep(0, len(begun) > 1), "a task that has ended begins again")

    asyncio.run(story())


@pytest.mark.parametrize("address", ["127.0.0.1:99999", "127.0.0.1:-1", "127.0.0.1:x", "", ":", "\0:1", "[::1]:1"])
def test_a_check_whether_an_address_listens_never_raises(address: str) -> None:
    assert not asyncio.run(listens_at(address))


def test_few_nodes_of_a_peer_are_probed_at_once_and_none_after_one_that_answers() -> None:
    async def story() -> None:
        dialled, at_once, most = list[str](), 0, 0

        async def listens(address: str) -> bool:
            nonlocal at_once, most
            at_once += 1
            most = max(most, at_once)
            dialled.append(address)
            await asyncio.sleep(0)
            at_once -= 1
            return address == "20"

        a = exchange("bank-a", listens=listens)
        assert await a._reaches([str(number) for number in range(100)])
        assert (most, len(dialled)) == (16, 32), "a card may list a hundred nodes"
        assert not await a._reaches([str(number) for number in range(50, 67)]), "all are probed if none answers"
        assert len(dialled) == 32 + 17

    asyncio.run(story())
