"""Malformed requests over real sockets to the three servers that other members can reach."""

import asyncio
import gzip
import secrets
import ssl
import time
from pathlib import Path

import pytest
from aiohttp import web

from agent.exchange import info_handler
from host import health
from host.http import serving_requests
from host.status import Status
from host.tls import client_context
from ledger.corda import proof
from tests.authority import network


async def sent(port: int, request: bytes, *, encrypted: bool = False) -> bytes:
    """A server's answer to raw bytes."""
    context = client_context() if encrypted else None
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    writer.write(request)
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    return answer


def head(path: bytes, *headers: bytes, method: bytes = b"GET") -> bytes:
    return b"\r\n".join([method + b" " + path + b" HTTP/1.1", b"Host: x", b"Connection: close", *headers, b"", b""])


MEMBER_HEADERS = (b"Member: bank-b", b"Nonce: " + b"0" * 32, b"Time: 1")
ODD = {
    "a proof that is no UTF-8": head(b"/network", *MEMBER_HEADERS, b"Authorization: \xff\xfe"),
    "a proof of other letters": head(b"/network", *MEMBER_HEADERS, "Authorization: é".encode()),
    "a member that is no UTF-8": head(b"/network", b"Member: \xff", *MEMBER_HEADERS[1:]),
    "a header's name that is no UTF-8": head(b"/network", b"X-\xff: 1"),
    "a path that is no UTF-8": head(b"/network\xff"),
    "a header of 100 kB": head(b"/network", b"X-Long: " + b"x" * 100_000),
    "a path of 100 kB": head(b"/" + b"x" * 100_000),
    "a thousand headers": head(b"/network", *(b"X-%d: " % number + b"x" * 100 for number in range(1000))),
    "a NUL in a header": head(b"/network", b"X-Nul: \0"),
    "no HTTP": b"\x16\x03\x01\x00\xff\r\n\r\n",
    "another version": b"GET / HTTP/9.9\r\n\r\n",
    "two lengths": head(b"/certificate", b"Content-Length: 1", b"Content-Length: 2", method=b"POST"),
    "a negative length": head(b"/certificate", b"Content-Length: -1", method=b"POST"),
    "a chunk that is none": head(b"/certificate", b"Transfer-Encoding: chunked", method=b"POST") + b"zz\r\n",
}


@pytest.mark.parametrize("server", ["requests", "lists", "network information"])
def test_a_malformed_request_is_refused_with_400(tls: tuple[ssl.SSLContext, Path], server: str) -> None:
    async def asked() -> None:
        async with network(tls, None) as made, made.vm(tended=False) as vm:
            requests, lists = (int(url.rsplit(":", 1)[1]) for url in (vm.url, vm.lists_url))
            async with serving_requests(info_handler(lambda: b"{}"), None, "127.0.0.1", 0) as infos:
                port = {"requests": requests, "lists": lists, "network information": infos}[server]
                for what, request in ODD.items():
                    answer = await sent(port, request, encrypted=server == "requests")
                    status = answer.split(b" ", 2)[1] if answer else b"none"
                    # The servers of lists and of network information read no body, so no body is wrong.
                    wanted = {b"400"} if server == "requests" or "chunk" not in what else {b"400", b"404"}
                    assert status in wanted, f"{what}: {answer[:200]!r}; wanted 400"

    asyncio.run(asked())


def test_the_health_probe_survives_malformed_requests() -> None:
    async def asked() -> None:
        async with health.serving(Status("vm-1", reason="\ud800 a lone surrogate"), "127.0.0.1", 0) as port:
            for what, request in ODD.items():
                answer = await sent(port, request)
                assert b" 500 " not in answer[:15], f"{what}: {answer[:200]!r}"
            assert (await sent(port, head(b"/health"))).startswith(b"HTTP/1.1 200"), "Azure would replace the VM"

    asyncio.run(asked())


def test_a_compressed_body_is_not_decompressed() -> None:
    async def asked() -> None:
        seen: list[int] = []

        async def respond(request: web.BaseRequest) -> web.StreamResponse:
            seen.append(len(await request.read()))
            return web.Response()

        packed = gzip.compress(bytes(50_000_000))
        async with serving_requests(respond, None, "127.0.0.1", 0) as port:
            headers = (b"Content-Encoding: gzip", b"Content-Length: %d" % len(packed))
            await sent(port, head(b"/", *headers, method=b"POST") + packed)
        assert seen == [len(packed)], "50 kB would become 50 MB in memory"

    asyncio.run(asked())


def test_a_fault_of_a_handler_is_answered_with_500_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    async def asked() -> bytes:
        async def respond(_: object) -> object:
            raise KeyError("what?")

        async with serving_requests(respond, None, "127.0.0.1", 0) as port:  # type: ignore[arg-type]
            return await sent(port, head(b"/"))

    assert b" 500 " in asyncio.run(asked())[:15]
    assert "unexpected KeyError" in caplog.text, "a fault of this program is counted"


# --- Ids in blobs' names -------------------------------------------------------------------------------------------


def proven(path: str, method: str = "GET") -> bytes:
    nonce, now = secrets.token_hex(16), str(int(time.time()))
    given = proof.request_proof(
        bytes.fromhex("b" * 64), member="bank-b", method=method, path=path, nonce=nonce, time=now, body=b""
    )
    headers = {proof.MEMBER: "bank-b", proof.NONCE: nonce, proof.TIME: now, proof.REQUEST_PROOF: given}
    return head(path.encode(), *(f"{name}: {value}".encode() for name, value in headers.items()))


@pytest.mark.parametrize(
    "identifier",
    [
        "../names/{name}",
        "..%2Fnames%2F{name}",
        "../authority",
        "../../etc",
        "",
        ".",
        "a" * 24,
        f"{'a' * 24}-{'b' * 24}/../../authority",
        f"{'A' * 24}-{'b' * 24}",
        f"{'a' * 24}-{'b' * 24}%00",
        "a" * 200,
    ],
)
def test_an_id_leads_to_no_other_blob(tls: tuple[ssl.SSLContext, Path], identifier: str) -> None:
    async def asked() -> tuple[bytes, list[str]]:
        async with network(tls, None) as made, made.vm() as vm:
            # Existing and missing blobs must get the same answer.
            await made.member("bank-b", vm.url, "O=Bank B, L=New York, C=US").certificates()
            store = made.store()
            name = next(each for each in await store.names("names/")).removeprefix("names/")
            read: list[str] = []
            plain = store.read

            async def noted(name: str) -> object:
                read.append(name)
                return await plain(name)

            store.read = noted  # type: ignore[method-assign, assignment]
            path = "/certificate/" + identifier.format(name=name)
            return await sent(int(vm.url.rsplit(":", 1)[1]), proven(path), encrypted=True), read

    answer, read = asyncio.run(asked())
    assert answer.startswith(b"HTTP/1.1 404"), f"{identifier!r} is not a valid id: {answer[:200]!r}"
    assert not read, f"no blob is read for it: {read}"
