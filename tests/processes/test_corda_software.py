"""A Corda node's software without Java: the share, the database, and the known nodes."""

import asyncio
import base64
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from agent.reconciler import ADMIT_SECONDS
from contract.identities import identities
from contract.secrets import RpcAccount
from contract.vm_configuration import Zone
from host.bank_documents import NETWORK_DOCUMENT, Document
from host.database import ALIVE
from host.errors import UnavailableError
from lab.banks import postgres
from lab.banks.corda import VERSION, CordaNetwork
from ledger.corda import CORDA, software
from ledger.corda.certificates import CertificateRole
from ledger.corda.installation import Installed, ToolError, _Agent, _InstalledManifest
from ledger.corda.software import CordaSoftware
from ledger.software import (
    AuthorityAccess,
    DatabaseAccess,
    NetworkMember,
    Place,
    SoftwareContext,
    SoftwareError,
    UntrustedError,
)
from tests.certificates import make_network
from tests.software_context import MemoryDocuments

FRONTEND = "127.0.0.1"
(IDENTITY,) = identities(CORDA, "O=Bank A, L=London, C=GB", 1)


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Server]:
    if missing := postgres.missing():
        pytest.skip(missing)
    with postgres.server() as running:
        with running.connect() as connection:
            connection.autocommit = True
            connection.execute("CREATE DATABASE ledger")
        yield running


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """As an agent makes it; its database is unavailable."""
    for name in ("stored", "scratch", "secrets"):
        (tmp_path / name).mkdir()
    return Place(
        identity=IDENTITY,
        epoch=1,
        durable=tmp_path / "stored",
        scratch=tmp_path / "scratch",
        secrets=tmp_path / "secrets",
        database=DatabaseAccess("127.0.0.1", 1, "ledger", postgres.SUPERUSER, postgres.PASSWORD),
        network_document=None,
    )


@pytest.fixture
def corda(place: Place, monkeypatch: pytest.MonkeyPatch) -> CordaSoftware:
    """Corda's software with an installation that is never run."""

    async def rpc_users() -> list[RpcAccount]:
        return []

    nothing: Any = None
    network, documents = CordaNetwork(nothing, FRONTEND), nothing
    around = SoftwareContext(
        member="bank-a",
        version=VERSION,
        installation=place.scratch / "nowhere",
        frontend=FRONTEND,
        documents=documents,
        network=Zone(
            registration_url="https://a.invalid",
            network_map_url="https://b.invalid",
            trust_root=network.root.public_bytes(Encoding.PEM).decode(),
        ),
        trust_root=None,
        rpc_users=rpc_users,
    )
    made = CordaSoftware(around, network)
    for name, blob in made.make_secrets(IDENTITY).items():
        (place.secrets / name).write_bytes(blob)
    installed = SimpleNamespace(applications=place.scratch / "cordapps", fingerprint="of these jars")
    monkeypatch.setattr(made, "_verified", lambda: installed)
    return made


def at(place: Place, server: postgres.Server) -> Place:
    assert place.database
    return replace(place, database=replace(place.database, port=server.port))


async def ask(place: Place, *statements: str) -> Any:
    async with software._connected(place) as connection:
        for statement in statements:
            rows = await connection.execute(statement)
        return connection.info.get_parameters(), await rows.fetchall()


# --- Members -------------------------------------------------------------------------------------------------------


NODE = "OU=node-1, O=Bank B, L=London, C=GB"
CHAIN = make_network().certify(
    CertificateRole.LEGAL_IDENTITY, ec.generate_private_key(ec.SECP256R1()), NODE, now=datetime.now(UTC)
)
INFO = software._Info(
    file_name="nodeInfo-B",
    content=b"signed",
    legal_names=(NODE,),
    addresses=("10.0.0.1:10000",),
    serial=1,
    chains=(tuple(each.public_bytes(Encoding.DER) for each in CHAIN),),
)


@pytest.mark.parametrize("truncated", [b"", b'{"member": "bank-b", "inf', b'{"member": "bank-b"}', b"[]", b"\xff"])
def test_a_truncated_members_file_is_ignored_and_published_again(
    corda: CordaSoftware, place: Place, truncated: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place.scratch / "additional-node-infos").mkdir()
    for name in ("bank-b", "bank-c"):
        software._store_member(place, name, {INFO.file_name: INFO}, set())
    path = place.durable / "members" / "bank-b.json"
    path.write_bytes(truncated)
    assert software._known_members(place.durable) == {"bank-c": (INFO,)}, "another VM would not help"

    async def proven(*_: Any) -> list[software._Info]:
        return [INFO]

    monkeypatch.setattr(corda, "_start", lambda _: None)
    monkeypatch.setattr(corda, "_proven", proven)
    asyncio.run(corda.admit(place, NetworkMember("bank-b", {}, None, (INFO.content,))))
    assert set(software._known_members(place.durable)) == {"bank-b", "bank-c"}


def test_slow_verification_is_not_trusted(
    corda: CordaSoftware, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    java = tmp_path / "java" / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text("#!/bin/sh\nexec sleep 30\n")
    java.chmod(0o700)
    manifest = _InstalledManifest(
        version=VERSION,
        platform_version=12,
        java_home=tmp_path / "java",
        options=(),
        fibers=_Agent(jar="", options=""),
        classpath=(),
        heap_megabytes=None,
        node_options=(),
        files={},
        artifacts={},
    )
    nothing: Any = None
    chains = asyncio.run(CordaNetwork(nothing, FRONTEND).certificates(IDENTITY, corda.make_secrets(IDENTITY)))
    start: Any = SimpleNamespace(place=place, chains=chains, installed=Installed(tmp_path, manifest))
    assert software._PROOF_SECONDS < ADMIT_SECONDS / 2, (
        "otherwise the agent's own time limit would end first, each time"
    )
    monkeypatch.setattr(software, "_PROOF_SECONDS", 0.2)
    monkeypatch.setattr(corda, "_start", lambda _: start)
    with pytest.raises(UntrustedError, match=r"^node information: node-info: no answer in "):
        asyncio.run(corda.admit(place, NetworkMember("bank-b", {}, None, (INFO.content,))))


NETWORK_MAP = """
CREATE SCHEMA corda;
SET search_path = corda;
CREATE TABLE node_infos (node_info_id int PRIMARY KEY, serial bigint NOT NULL);
CREATE TABLE node_info_hosts (
    hosts_id int PRIMARY KEY, host_name text, node_info_id int REFERENCES node_infos (node_info_id)
);
CREATE TABLE node_info_party_cert (party_name text PRIMARY KEY);
CREATE TABLE node_link_nodeinfo_party (
    node_info_id int NOT NULL REFERENCES node_infos (node_info_id),
    party_name text NOT NULL REFERENCES node_info_party_cert (party_name)
);
"""
"""What Corda 4.10 makes of it, as far as it refers to anything."""


def test_unknown_nodes_are_deleted_from_the_network_map(place: Place, server: postgres.Server) -> None:
    rows = {
        IDENTITY.legal_name: 3,
        "OU=node-1, O=Bank B, L=Paris, C=FR": 5,
        "OU=node-2, O=Bank B, L=Paris, C=FR": 2**62,
        "OU=node-1, O=Bank C, L=Milan, C=IT": 1,
        "OU=node-2, O=Bank C, L=Milan, C=IT": 9,
    }
    with server.connect("ledger") as connection:
        connection.execute(NETWORK_MAP)
        for number, (name, serial) in enumerate(rows.items()):
            connection.execute("INSERT INTO node_infos VALUES (%s, %s)", [number, serial])
            connection.execute("INSERT INTO node_info_hosts VALUES (%s, 'a host', %s)", [number, number])
            connection.execute("INSERT INTO node_info_party_cert VALUES (%s)", [name])
            connection.execute("INSERT INTO node_link_nodeinfo_party VALUES (%s, %s)", [number, name])
    _, one, replaced, newer, _ = rows
    known = [
        INFO.model_copy(update={"legal_names": ("O=Bank B,OU=node-1,L=Paris,C=FR",), "serial": 5}),
        INFO.model_copy(update={"legal_names": (replaced,), "serial": 7}),
        INFO.model_copy(update={"legal_names": (newer,), "serial": 2}),
    ]

    async def story() -> list[list[str]]:
        async with software._connected(at(place, server)) as connection:
            await software._forget_others(connection, IDENTITY, known)
            names = "SELECT party_name FROM {} ORDER BY node_info_id"
            found = [
                await (await connection.execute(each)).fetchall()
                for each in (
                    names.format("node_link_nodeinfo_party"),
                    names.format("node_info_hosts JOIN node_link_nodeinfo_party USING (node_info_id)"),
                    names.format("node_infos JOIN node_link_nodeinfo_party USING (node_info_id)"),
                    "SELECT party_name FROM node_info_party_cert",
                )
            ]
            return [[name for (name,) in each] for each in found]

    wanted = [IDENTITY.legal_name, one, newer]
    assert asyncio.run(story()) == [wanted] * 4, (
        "only this node and nodes in its folder: no revoked or removed ones, and nothing newer"
    )


STORED = software._StoredMember(member="bank-c", infos=(INFO,)).model_dump_json(by_alias=True)


@pytest.mark.parametrize(
    ("stored", "known"),
    [({}, []), ({"bank-c": STORED}, [INFO]), ({"bank-b": "{", "bank-c": STORED}, None)],
    ids=["nobody", "one", "truncated"],
)
def test_a_truncated_members_file_deletes_no_node_from_the_network_map(
    corda: CordaSoftware,
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
    stored: dict[str, str],
    known: list[software._Info] | None,
) -> None:
    nothing: Any = None
    keys = corda.make_secrets(IDENTITY)
    chains = asyncio.run(CordaNetwork(nothing, FRONTEND).certificates(IDENTITY, keys))
    start: Any = SimpleNamespace(place=place, chains=chains, parameters=None, password="x")
    monkeypatch.setattr(corda, "_write_conf", lambda *_: None)
    (place.durable / "members").mkdir()
    for name, content in stored.items():
        (place.durable / "members" / f"{name}.json").write_text(content)
    assert corda._write(start, keys) == known, "a member whose file can't be read has not left: its flows continue"


# --- A standby -----------------------------------------------------------------------------------------------------


def test_a_disk_that_hangs_occupies_one_thread(corda, monkeypatch):
    hanging = threading.Event()
    monkeypatch.setattr(corda, "_verified", hanging.wait)

    async def story() -> None:
        before = threading.active_count()
        for _ in range(20):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await corda.check()
        assert threading.active_count() <= before + 1, "name resolution needs the other threads"
        hanging.set()

    asyncio.run(story())


def test_a_standby_verifies_network_parameters_so_that_its_start_runs_no_tool(
    corda: CordaSoftware, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing: Any = None
    network, documents = CordaNetwork(nothing, FRONTEND), MemoryDocuments()
    verified: list[bytes] = []

    class Java:
        manifest = SimpleNamespace(version="4.10", platform_version=12)

        async def check_java(self) -> None:
            pass

        async def tool(self, _: str, given: dict[str, str], user: int | None) -> dict[str, int]:
            verified.append(base64.b64decode(given["document"]))
            if verified[-1] == b"forged":
                raise ToolError("not signed")
            return {"epoch": 1, "minimumPlatformVersion": 999 if verified[-1] == b"too new" else 4}

    async def no_key() -> bytes:
        raise AssertionError("no request is sent to the authority")

    async def check(standby: CordaSoftware) -> None:
        await standby.check()
        assert standby._warming
        await standby._warming

    async def story() -> None:
        authority = AuthorityAccess("https://nobody.invalid", no_key)
        standby = CordaSoftware(replace(corda._context, documents=documents, network=authority), network)
        monkeypatch.setattr(standby, "_verified", Java)
        await check(standby)
        assert not verified, "the network has no parameters yet"
        for each in (b"forged", b"signed"):
            documents.stored[NETWORK_DOCUMENT] = Document(each, "etag")
            await check(standby)
        assert verified == [b"forged", b"signed"], "a fault of the parameters is none of the VM's"
        await check(standby)
        network.parameters = b"signed"
        java: Any = Java()
        assert await standby._parameters(place, java) == b"signed"
        assert verified == [b"forged", b"signed"], "five seconds of a processor, while nobody serves the identity"
        network.parameters = b"newer"
        assert await standby._parameters(place, java) == b"newer"
        assert verified[2:] == [b"newer"], "what no standby has verified is verified before it is written"
        for _ in range(2):
            with pytest.raises(SoftwareError, match="asks for platform version 999; wanted a newer version of Corda"):
                # A running node would restart for it, and never start again.
                await standby._epoch(java, b"too new")

    asyncio.run(story())


# --- Outages -------------------------------------------------------------------------------------------------------


def test_an_unavailable_database_is_an_outage(corda: CordaSoftware, place: Place) -> None:
    with pytest.raises(UnavailableError, match=r"^node-1: database: .*refused"):
        asyncio.run(corda.prepare(place))


def test_a_statement_that_the_database_refuses_is_no_outage(place: Place, server: postgres.Server) -> None:
    with pytest.raises(SoftwareError, match=r"^node-1: database: .*does not exist"):
        asyncio.run(ask(at(place, server), "SELECT * FROM nothing_of_this_name"))


def test_a_silent_database_has_a_time_limit(
    place: Place, server: postgres.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    parameters, rows = asyncio.run(ask(at(place, server), "SHOW statement_timeout"))
    assert rows == [("1min",)]
    assert {name: parameters.get(name) for name in ALIVE} == {
        "keepalives_idle": "10",
        "keepalives_interval": "5",
        "keepalives_count": "3",
        "tcp_user_timeout": "20000",
    }, "a silent server"
    monkeypatch.setattr(software, "_STATEMENT_SECONDS", 1)
    with pytest.raises(UnavailableError, match=r"^node-1: database: .*statement timeout"):
        asyncio.run(ask(at(place, server), "SELECT pg_sleep(30)"))


def test_the_database_is_checked_as_long_as_figures_are_requested(
    corda: CordaSoftware, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    start: Any = SimpleNamespace(place=place, outage_since=None, wanted=time.monotonic() + 0.2)
    monkeypatch.setattr(software, "_LOOK_SECONDS", 0.05)
    asyncio.run(asyncio.wait_for(corda._watch_database(start), 30))
    assert start.outage_since is not None, "it was unreachable"


def test_a_nodes_figures_take_one_connection(
    corda: CordaSoftware, place: Place, server: postgres.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, connected = list[int](), software._connected
    looks = 0

    @contextlib.asynccontextmanager
    async def counting(place: Place) -> AsyncIterator[Any]:
        async with connected(place) as connection:
            opened.append(connection.info.backend_pid)
            yield connection

    async def look(_: object, connection: Any) -> None:
        nonlocal looks
        await connection.execute("SELECT 1")
        looks += 1

    async def story() -> None:
        start: Any = SimpleNamespace(place=at(place, server), outage_since=None, wanted=time.monotonic() + 60)
        keeping = asyncio.create_task(corda._watch_database(start))
        while looks < 20:
            await asyncio.sleep(0.01)
        assert len(opened) == 1, (
            "each connection is four lines of the server's log: 7 GB a month with one for each check"
        )
        await asyncio.to_thread(server.lose_session)
        while looks < 40:
            await asyncio.sleep(0.01)
        assert len(opened) >= 2, "a lost connection is replaced"
        start.wanted = 0.0
        await keeping

    monkeypatch.setattr(software, "_connected", counting)
    monkeypatch.setattr(corda, "_refresh", look)
    monkeypatch.setattr(software, "_REFRESH_SECONDS", 0.01)
    monkeypatch.setattr(software, "_LOOK_SECONDS", 0.05)
    asyncio.run(asyncio.wait_for(story(), 60))


def test_a_drain_ends_when_the_database_server_restarts(
    corda: CordaSoftware, place: Place, server: postgres.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[str] = []

    async def tool(*_: object, seconds: float, user: int | None) -> dict[str, Any]:
        try:
            await asyncio.sleep(seconds)
        finally:
            ended.append("the tool")
        return {"inFlight": 0}

    async def drain(seconds: float) -> None:
        async with software._connected(at(place, server)) as connection:
            run = await software._server_run(connection)
        corda._starts[place.identity.name] = SimpleNamespace(  # type: ignore[assignment]
            place=at(place, server),
            installed=SimpleNamespace(tool=tool),
            password="",
            agent_password="",
            token="",
            server_run=run,
        )
        draining = asyncio.create_task(corda.drain(place, seconds))
        await asyncio.sleep(0.5)
        if seconds > 1:
            await asyncio.to_thread(server.lose_session)
        await draining

    monkeypatch.setattr(software, "_LOOK_SECONDS", 0.1)
    monkeypatch.setattr(software, "_TOOL_START_SECONDS", 0)
    asyncio.run(drain(1))
    with pytest.raises(SoftwareError, match="node-1: not drained: its database's server ended all sessions"):
        asyncio.run(asyncio.wait_for(drain(300), 30))
    assert ended == ["the tool"] * 2, "the drain leaves no task running"


def test_a_failing_share_is_an_outage(corda: CordaSoftware, place: Place) -> None:
    (place.durable / "artemis").symlink_to(place.durable / "artemis")
    with pytest.raises(UnavailableError, match=r"^node-1: share: "):
        asyncio.run(corda.prepare(place))
