"""A ledger platform for tests: a node echoes every line that it receives, and writes it to a journal.

This module is the whole platform; `python -m lab.echo PROCESS CONFIGURATION` runs one of a node's processes. Each VM
is a loopback address, so all VMs use the same ports.
"""

import asyncio
import contextlib
import hashlib
import json
import os
import secrets
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

from typing_extensions import override

import ledger
from contract.identities import Identity
from contract.listeners import Audience
from contract.metrics import Figure
from contract.platform import (
    P2P,
    Counted,
    NetworkDocument,
    Platform,
    Port,
    Role,
    Scope,
    SecretBlob,
)
from host.status import Readiness
from ledger.software import (
    NetworkMember,
    Place,
    Process,
    Software,
    SoftwareContext,
    SoftwareError,
    UntrustedError,
    WaitingError,
)

JOURNAL = "journal"
"""The journal's file in the node's persistent folder: a line `EPOCH LINE` for each echoed line."""
REVISION = "echo-revision"
"""A document of the bank: when it changes, nodes are stale and must restart."""
_MEMBERS = "members"
_CONFIGURATION = "echo.json"
_PASSWORD_VARIABLE = "ECHO_PASSWORD"
_ECHO_SECONDS, _ECHO_STOP_SECONDS = 2, 5.0


# --- The software --------------------------------------------------------------------------------------------------


class EchoSoftware(Software):
    """Runs a node of one process, `echo`; the role `witness` has a second one, `sidecar`, that reads the journal."""

    def __init__(self, context: SoftwareContext, start_seconds: float = 0.0) -> None:
        self._context, self._host = context, context.listen
        self._start_seconds = start_seconds
        self._revision: bytes | None = None

    @override
    def make_secrets(self, identity: Identity) -> Mapping[str, bytes]:
        """A key, and the password of the local ports."""
        return {"key": secrets.token_bytes(32), "password": secrets.token_hex(16).encode()}

    @override
    async def check(self) -> None:
        """Do nothing: it runs wherever the agent runs."""

    @override
    async def prepare(self, place: Place) -> None:
        """Write the processes' configuration."""
        for blob in place.identity.role.secrets:
            if not (place.secrets / blob.name).is_file():
                raise SoftwareError(f"{place.identity.name}: no secret {blob.name}; wanted it as a file")
        if self._context.trust_root and await self._context.documents.read("trust-root") is None:
            raise WaitingError(f"{place.identity.name}: no document trust-root; wanted it from the authority")
        self._revision = await self._read_revision()
        (place.durable / _MEMBERS).mkdir(exist_ok=True)
        # Only the agent may create files in this folder, but the node must write to the journal.
        (place.durable / JOURNAL).touch()
        (place.durable / JOURNAL).chmod(0o660)
        configuration = {
            "host": self._host,
            "identity": place.identity.name,
            "epoch": place.epoch,
            "ports": dict(place.identity.ports),
            "shared": list(place.identity.role.shared_ports.values()),
            "journal": str(place.durable / JOURNAL),
            "key": str(place.secrets / "key"),
            "startSeconds": self._start_seconds,
        }
        (place.scratch / _CONFIGURATION).write_text(json.dumps(configuration), encoding="utf-8")

    @override
    def processes(self, place: Place) -> Sequence[Process]:
        """`echo`, and `sidecar` if the role has its port."""
        environment = {
            "PYTHONPATH": str(Path(ledger.__file__).parents[1]),
            _PASSWORD_VARIABLE: (place.secrets / "password").read_text(encoding="utf-8"),
        }
        return [
            Process(
                name=name,
                argv=(sys.executable, "-m", "lab.echo", name, str(place.scratch / _CONFIGURATION)),
                environment=environment,
                folder=place.scratch,
                stop_seconds=_ECHO_STOP_SECONDS,
            )
            for name in (("echo", "sidecar") if "sidecar" in place.identity.ports else ("echo",))
        ]

    @override
    async def readiness(self, place: Place) -> Readiness:
        """Ready once the node serves its peers and its sidecar, if there is one, answers."""
        status = await self.status(place)
        if status is None:
            return Readiness.DOWN
        alone = "sidecar" not in place.identity.ports
        ready = status["serving"] and (alone or await self._ask(place, "sidecar") is not None)
        return Readiness.READY if ready else Readiness.UP

    @override
    async def figures(self, place: Place) -> Mapping[Figure, float]:
        """The number of lines that this process has written."""
        status = await self.status(place)
        return {} if status is None else {Figure.TRANSACTIONS: status["lines"]}

    @override
    async def ends(self, place: Place) -> Mapping[str | None, datetime]:
        return {}

    @override
    async def info(self, place: Place) -> bytes | None:
        """The node's legal name, address and epoch as JSON, once it is ready."""
        if await self.readiness(place) is not Readiness.READY:
            return None
        identity = place.identity
        address = f"{self._context.frontend}:{identity.ports[P2P]}"
        info = {"legalName": identity.legal_name, "address": address, "epoch": place.epoch}
        return json.dumps(info).encode()

    @override
    async def admit(self, place: Place, member: NetworkMember) -> None:
        """Store the information of the member's nodes, if it agrees with the member's card."""
        nodes = []
        for info in member.infos:
            try:
                each = json.loads(info)
                legal_name, address = each["legalName"], each["address"]
            except (ValueError, KeyError, TypeError) as error:
                raise UntrustedError(f"{member.name}: {info[:40]!r} is not an echo node's information") from error
            if member.addresses.get(legal_name) != address:
                raise UntrustedError(f"{member.name}: {legal_name} at {address} is not on its card")
            nodes.append(each)
        record = {"card": member.card and json.loads(member.card), "nodes": nodes}
        path = place.durable / _MEMBERS / member.name
        new = path.with_name(f".{path.name}")
        new.write_text(json.dumps(record), encoding="utf-8")
        new.rename(path)

    @override
    async def expel(self, place: Place, member: str) -> None:
        """Remove the member's stored information."""
        (place.durable / _MEMBERS / member).unlink(missing_ok=True)

    @override
    async def cut_off(self, place: Place) -> Mapping[str, str]:
        """Nothing: the node opens no connections to peers."""
        return {}

    @override
    async def drain(self, place: Place, seconds: float) -> None:
        """Accept no new connection, and wait until the open ones have ended, for `seconds` at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while (status := await self._ask(place, "control", "drain")) and status["open"]:
                    await asyncio.sleep(0.05)

    @override
    async def stale(self, place: Place) -> str | None:
        """A reason if the bank's revision has changed since the node was prepared."""
        revision = await self._read_revision()
        return None if revision == self._revision else f"there is a new {REVISION}"

    async def _read_revision(self) -> bytes | None:
        found = await self._context.documents.read(REVISION)
        return found.content if found else None

    async def status(self, place: Place) -> dict[str, Any] | None:
        """The node's status: `pid`, `identity`, `epoch`, `key`, `lines`, `serving`, `open`; None if it is down."""
        status = await self._ask(place, "control")
        # Another node may answer at this port.
        mine = status is not None and (status["identity"], status["epoch"]) == (place.identity.name, place.epoch)
        return status if mine else None

    async def _ask(self, place: Place, port: str, command: str = "") -> dict[str, Any] | None:
        try:
            async with asyncio.timeout(_ECHO_SECONDS):
                reader, writer = await asyncio.open_connection(self._host, place.identity.ports[port])
                try:
                    writer.write((place.secrets / "password").read_bytes() + f" {command}\n".encode())
                    return dict(json.loads(await reader.readline()))
                finally:
                    writer.close()
        except (OSError, TimeoutError, ValueError):
            return None


# --- The processes -------------------------------------------------------------------------------------------------


class _Echo:
    """Echoes each line after it was written to the journal."""

    def __init__(self, configuration: Mapping[str, Any]) -> None:
        self._configuration = configuration
        self._journal = os.open(configuration["journal"], os.O_CREAT | os.O_RDWR | os.O_APPEND, 0o600)
        self._lines = 0
        self._serving = False
        self._servers: list[asyncio.Server] = []
        self._open = 0

    async def run(self) -> None:
        given = self._configuration
        await _listen(given, given["ports"]["control"], _answering(self._status, {"drain": self._drain}))
        await asyncio.sleep(given["startSeconds"])
        self._servers.append(await _listen(given, given["ports"][P2P], self._echo))
        for port in given["shared"]:
            # The kernel balances connections among the nodes that share an address.
            self._servers.append(await _listen(given, port, self._echo, reuse_port=True))
        self._serving = True

    def _drain(self) -> None:
        self._serving = False
        for server in self._servers:
            server.close()

    async def _echo(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            await self._send_back(reader, writer)
        finally:
            self._open -= 1

    async def _send_back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (line := await reader.readline()).endswith(b"\n"):
            os.write(self._journal, b"%d %s" % (self._configuration["epoch"], line))
            os.fsync(self._journal)
            self._lines += 1
            writer.write(line)
            await writer.drain()

    def _status(self) -> dict[str, Any]:
        return {
            "pid": os.getpid(),
            "identity": self._configuration["identity"],
            "epoch": self._configuration["epoch"],
            "key": hashlib.sha256(Path(self._configuration["key"]).read_bytes()).hexdigest(),
            "lines": self._lines,
            "serving": self._serving,
            "open": self._open,
        }


class _Sidecar:
    """Reports the number of lines in the journal, which it reads itself."""

    def __init__(self, configuration: Mapping[str, Any]) -> None:
        self._configuration = configuration

    async def run(self) -> None:
        await _listen(self._configuration, self._configuration["ports"]["sidecar"], _answering(self._status))

    def _status(self) -> dict[str, Any]:
        journal = Path(self._configuration["journal"])
        return {"pid": os.getpid(), "lines": journal.read_bytes().count(b"\n") if journal.exists() else 0}


_Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def _answering(
    status: Callable[[], dict[str, Any]], commands: Mapping[str, Callable[[], None]] = MappingProxyType({})
) -> _Serve:
    """A handler that checks the password, runs the command if there is one, and answers with the status."""
    password = os.environ[_PASSWORD_VARIABLE].encode()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        given, _, command = (await reader.readline()).strip().partition(b" ")
        if secrets.compare_digest(given, password):
            if command:
                commands[command.decode()]()
            writer.write(json.dumps(status()).encode() + b"\n")

    return answer


async def _listen(
    configuration: Mapping[str, Any], port: int, serve: _Serve, *, reuse_port: bool = False
) -> asyncio.Server:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except (OSError, ValueError):
            """The peer has disconnected, or sent too long a line: this ends the connection, not the node."""
        finally:
            writer.close()

    return await asyncio.start_server(connected, configuration["host"], port, reuse_port=reuse_port)


async def _until_terminated(process: Coroutine[Any, Any, None]) -> None:
    terminated = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, terminated.set)
    running = asyncio.create_task(process)
    stopping = asyncio.create_task(terminated.wait())
    await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if running.done():
        running.result()
        await stopping


# --- The data ------------------------------------------------------------------------------------------------------


def _check_legal_name(text: str) -> str:
    if not text.strip():
        raise ValueError("the name is empty; wanted any other")
    return " ".join(text.split())


_ECHO_PORTS = (Port(P2P, 20000, frozenset(Audience)), Port("control", 20100, scope=Scope.LOCAL))
_ECHO_SECRETS = (SecretBlob("key", 32), SecretBlob("password", 32))

ECHO = Platform(
    name="echo",
    versions=("1.0", "1.1"),
    default_version="1.1",
    roles=(
        Role(
            "echo",
            (*_ECHO_PORTS, Port("any", 20200, frozenset({Audience.APPLICATIONS}), Scope.SHARED)),
            _ECHO_SECRETS,
        ),
        Role("witness", (*_ECHO_PORTS, Port("sidecar", 20300, scope=Scope.LOCAL)), _ECHO_SECRETS),
    ),
    database=None,
    network_document=NetworkDocument("echo-network"),
    transactions=Counted.OWN,
    packages=lambda version: ("python3",),
    check_legal_name=_check_legal_name,
    node_legal_name=lambda bank, node: f"{bank} {node}",
    bank_of=lambda node: node.rpartition(" ")[0],
    software="lab.echo:EchoSoftware",
)
"""A platform whose node echoes requests, for tests without a JVM."""


if __name__ == "__main__":
    _, _name, _path = sys.argv
    _given = json.loads(Path(_path).read_text(encoding="utf-8"))
    asyncio.run(_until_terminated((_Sidecar(_given) if _name == "sidecar" else _Echo(_given)).run()))
