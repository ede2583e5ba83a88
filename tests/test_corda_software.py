"""What an agent asks of a Corda node's software, without any Java: the share, the database, and who is known."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from agent.acquaintance import ANSWER_SECONDS
from agent.fence import UnavailableError
from ledger.corda import CORDA, software
from ledger.corda.installation import Installed, _Agent, _Manifest
from ledger.corda.software import CordaSoftware
from ledger.platform import identities
from ledger.software import DatabaseAccess, Member, Place, RpcUser, SoftwareError, Surroundings, UntrustedError, Zone
from local import postgres
from local.corda import VERSION, Network

FRONTEND = "127.0.0.1"
(IDENTITY,) = identities(CORDA, "O=Bank A, L=London, C=GB", 1)


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Server]:
    if postgres.programs() is None:
        pytest.skip("no PostgreSQL here; wanted its initdb and postgres")
    with postgres.server() as running:
        with running.connect() as connection:
            connection.autocommit = True
            connection.execute("CREATE DATABASE ledger")
        yield running


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """As an agent makes it; its database is away."""
    for name in ("kept", "scratch", "secrets"):
        (tmp_path / name).mkdir()
    return Place(
        identity=IDENTITY,
        epoch=1,
        kept=tmp_path / "kept",
        scratch=tmp_path / "scratch",
        secrets=tmp_path / "secrets",
        database=DatabaseAccess("127.0.0.1", 1, "ledger", postgres.SUPERUSER, postgres.PASSWORD),
        network_document=None,
    )


@pytest.fixture
def corda(place: Place, monkeypatch: pytest.MonkeyPatch) -> CordaSoftware:
    """With an installation that is never run."""

    async def rpc_users() -> list[RpcUser]:
        return []

    nothing: Any = None
    network, documents = Network(nothing, FRONTEND), nothing
    around = Surroundings(
        member="bank-a",
        version=VERSION,
        installation=place.scratch / "nowhere",
        frontend=FRONTEND,
        documents=documents,
        network=Zone("https://a.invalid", "https://b.invalid", network.root.public_bytes(Encoding.PEM)),
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


INFO = software._Info("nodeInfo-B", b"signed", ("O=Bank B, L=London, C=GB",), ("10.0.0.1:10000",), 1)


@pytest.mark.parametrize("torn", [b"", b'{"member": "bank-b", "inf', b'{"member": "bank-b"}', b"[]", b"\xff"])
def test_what_is_torn_of_a_member_is_left_out_and_told_anew(
    corda: CordaSoftware, place: Place, torn: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place.scratch / "additional-node-infos").mkdir()
    for name in ("bank-b", "bank-c"):
        software._keep_member(place, name, {INFO.file_name: INFO}, set())
    path = place.kept / "members" / "bank-b.json"
    path.write_bytes(torn)
    assert software._known_members(place.kept) == {"bank-c": (INFO,)}, "no VM would fare better with it"

    async def proven(*_: Any) -> list[software._Info]:
        return [INFO]

    monkeypatch.setattr(corda, "_start", lambda _: None)
    monkeypatch.setattr(corda, "_proven", proven)
    asyncio.run(corda.admit(place, Member("bank-b", {}, None, (INFO.content,))))
    assert set(software._known_members(place.kept)) == {"bank-b", "bank-c"}


def test_what_takes_long_to_prove_is_not_trusted(
    corda: CordaSoftware, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    java = tmp_path / "java" / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text("#!/bin/sh\nexec sleep 30\n")
    java.chmod(0o700)
    manifest = _Manifest(
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
    chains = asyncio.run(Network(nothing, FRONTEND).certificates(IDENTITY, corda.make_secrets(IDENTITY)))
    start: Any = SimpleNamespace(place=place, chains=chains, installed=Installed(tmp_path, manifest))
    assert software._PROOF_SECONDS < ANSWER_SECONDS / 2, "else the agent's own patience ends first, again and again"
    monkeypatch.setattr(software, "_PROOF_SECONDS", 0.2)
    monkeypatch.setattr(corda, "_start", lambda _: start)
    with pytest.raises(UntrustedError, match=r"^node information: node-info: no answer in "):
        asyncio.run(corda.admit(place, Member("bank-b", {}, None, (INFO.content,))))


# --- Outages -------------------------------------------------------------------------------------------------------


def test_a_database_that_is_away_is_an_outage(corda: CordaSoftware, place: Place) -> None:
    with pytest.raises(UnavailableError, match=r"^node-1: database: .*refused"):
        asyncio.run(corda.prepare(place))


def test_what_the_database_refuses_is_none(place: Place, server: postgres.Server) -> None:
    with pytest.raises(SoftwareError, match=r"^node-1: database: .*does not exist"):
        asyncio.run(ask(at(place, server), "SELECT * FROM nothing_of_this_name"))


def test_a_database_that_does_not_answer_is_waited_for_so_long(
    place: Place, server: postgres.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    parameters, rows = asyncio.run(ask(at(place, server), "SHOW statement_timeout"))
    assert rows == [("1min",)]
    assert {name: parameters.get(name) for name in software._ALIVE} == {
        "keepalives_idle": "10",
        "keepalives_interval": "5",
        "keepalives_count": "3",
        "tcp_user_timeout": "20000",
    }, "one that is gone without a word"
    monkeypatch.setattr(software, "_STATEMENT_SECONDS", 1)
    with pytest.raises(UnavailableError, match=r"^node-1: database: .*statement timeout"):
        asyncio.run(ask(at(place, server), "SELECT pg_sleep(30)"))


def test_figures_that_can_not_be_had_are_left_out(corda: CordaSoftware, place: Place) -> None:
    start: Any = SimpleNamespace(place=place, figures={}, refreshed=0.0)
    asyncio.run(corda._refresh(start))
    assert start.figures == {}
    assert start.refreshed > 0, "asked again later"


def test_a_drain_outlasts_no_run_of_the_databases_server(
    corda: CordaSoftware, place: Place, server: postgres.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[str] = []

    async def tool(*_: object, seconds: float) -> dict[str, Any]:
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
    assert ended == ["the tool"] * 2, "nothing goes on behind the drain"


@pytest.mark.parametrize("name", ["artemis", "failures.json"])
def test_a_share_that_does_not_work_is_an_outage(corda: CordaSoftware, place: Place, name: str) -> None:
    (place.kept / name).symlink_to(place.kept / name)
    with pytest.raises(UnavailableError, match=r"^node-1: share: "):
        asyncio.run(corda.prepare(place))
