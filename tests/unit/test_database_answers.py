"""How the fence treats a database that does not answer or refuses a sign-in, with a minimal server."""

import asyncio
import struct
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest

from agent.database import PostgresFence
from host.errors import SupersededError, UnavailableError
from ledger.software import DatabaseAccess

_TLS, _GSS = 80877103, 80877104
"""Codes of requests that come before a sign-in, postgresql.org/docs/current/protocol-message-formats.html."""
_SIGNED_IN = b"R" + struct.pack("!ii", 8, 0) + b"Z" + struct.pack("!i", 5) + b"I"
"""AuthenticationOk, then ReadyForQuery."""
LIMIT = 0.2


def refusal(code: str, text: str) -> bytes:
    """An ErrorResponse."""
    fields = b"".join(f"{key}{value}\0".encode() for key, value in (("S", "FATAL"), ("C", code), ("M", text))) + b"\0"
    return b"E" + struct.pack("!i", 4 + len(fields)) + fields


async def asked(
    answer: bytes, ask: Callable[[PostgresFence], Awaitable[None]], roots: Path | None = None, then: bytes = b""
) -> None:
    """Ask a server that gives every sign-in the same answer, and queries the answer `then`, if any."""

    serving = set[asyncio.Task[None] | None]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                (length,) = struct.unpack("!i", await reader.readexactly(4))
                (code,) = struct.unpack("!i", (await reader.readexactly(length - 4))[:4])
                if code not in {_TLS, _GSS}:
                    break
                writer.write(b"S" if code == _TLS and roots else b"N")
            writer.write(answer)
            if answer == _SIGNED_IN:
                await reader.read(1000 if then else -1)
                writer.write(then)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    async def administrator() -> tuple[str, str]:
        return "administrator", "password"

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        try:
            await ask(PostgresFence("127.0.0.1", port, administrator, roots))
        finally:
            await asyncio.gather(*filter(None, serving))


async def prove(fence: PostgresFence) -> None:
    await fence.prove(DatabaseAccess(fence.host, fence.port, "node-1", "node_1_e1", "password"), 1)


async def close_older(fence: PostgresFence) -> None:
    await fence.close_older("node-1", 1, "vm-1", existed=False)


@pytest.mark.parametrize("ask", [prove, close_older, PostgresFence.check])
def test_a_time_limit_holds_although_the_server_does_not_answer(
    ask: Callable[[PostgresFence], Awaitable[None]],
) -> None:
    async def bounded(fence: PostgresFence) -> None:
        async with asyncio.timeout(LIMIT):
            await ask(fence)

    began = time.monotonic()
    with pytest.raises(TimeoutError):
        asyncio.run(asked(_SIGNED_IN, bounded))
    took = time.monotonic() - began
    assert took < LIMIT + 2, f"{took:.1f} s; wanted {LIMIT}: a hanging proof must leave time for the next one"


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("28000", 'role "node_1_e1" is not permitted to log in'),
        ("28P01", 'password authentication failed for user "node_1_e1"'),
        ("42501", 'permission denied for database "node-1"'),
        ("28000", 'role "node_1_e1" does not exist'),
        ("3D000", 'database "node-1" does not exist'),
    ],
)
def test_a_refused_sign_in_means_another_holder(code: str, text: str) -> None:
    with pytest.raises(SupersededError, match=text):
        asyncio.run(asked(refusal(code, text), prove))


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("57P03", "the database system is starting up"),
        ("57P01", "terminating connection due to administrator command"),
        ("53300", "sorry, too many clients already"),
        ("28000", 'no pg_hba.conf entry for host "10.1.0.4", user "node_1_e1", database "node-1", SSL encryption'),
        ("XX000", 'no file of the role "node_1_e1": it does not exist'),
    ],
)
def test_a_server_that_starts_stops_or_fails_is_no_refusal(code: str, text: str) -> None:
    with pytest.raises(UnavailableError, match=text):
        asyncio.run(asked(refusal(code, text), prove))


def test_a_session_that_ends_during_a_proof_is_no_refusal() -> None:
    """A server that fails over ends sessions as a fence does; the next sign-in gets this error."""
    ended = refusal("57P01", "terminating connection due to administrator command")
    with pytest.raises(UnavailableError, match="terminating connection"):
        asyncio.run(asked(_SIGNED_IN, prove, then=ended))


def test_missing_trust_roots_are_no_refusal(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match=r'root certificate file ".*" does not exist'):
        asyncio.run(asked(b"", prove, tmp_path / "roots.pem"))
