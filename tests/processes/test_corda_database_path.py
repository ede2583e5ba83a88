"""A silently lost path to the database is detected by a node's own driver and by its agent."""

import asyncio
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agent.database import PostgresFence
from host.errors import UnavailableError
from lab.banks import balancer, corda, postgres
from lab.banks.wires import Wires, wires
from ledger.corda import software
from ledger.corda.node_conf import NodeDatabase, Variable
from ledger.corda.software import CordaSoftware
from ledger.software import DatabaseAccess
from tests.java import compiled

pytestmark = [
    pytest.mark.skipif(corda.missing() is not None, reason=str(corda.missing())),
    pytest.mark.skipif(not balancer.available(), reason="no HAProxy here; wanted it as the path"),
]
SILENT_SECONDS = 3


@pytest.fixture
def server() -> Iterator[postgres.Server]:
    with postgres.server() as running:
        with running.connect() as connection:
            connection.autocommit = True
            connection.execute("CREATE DATABASE ledger")
        yield running


@pytest.fixture
def path(server: postgres.Server, tmp_path: Path) -> Iterator[Wires]:
    with wires({"database": server.port}, tmp_path / "wires") as made:
        yield made
        made.mend()


@pytest.fixture(scope="module")
def class_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    installed = corda.load()
    needed = [installed.folder / each for each in installed.manifest.classpath]
    return compiled(tmp_path_factory.mktemp("database"), needed, Path(__file__).with_name("PollDatabase.java"))


def test_a_nodes_driver_gives_up_on_a_silent_server(server: postgres.Server, path: Wires, class_path: str) -> None:
    database = NodeDatabase(
        host="127.0.0.1",
        port=path.ports[server.port],
        name="ledger",
        user=postgres.SUPERUSER,
        password=Variable("DATABASE"),
        root_certificates=None,
        pool=1,
        silent_seconds=SILENT_SECONDS,
    )
    installed = corda.load()
    java = installed.manifest.java_home / "bin" / "java"
    argv = [
        str(java),
        *installed._logging,
        "-Dledger.log=off",
        "-cp",
        class_path,
        "ledger.corda.PollDatabase",
        database.url,
        database.user,
    ]
    environment = {"DATABASE": postgres.PASSWORD}
    with subprocess.Popen(
        argv, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as node:
        assert node.stdout
        while (line := node.stdout.readline()) != "polls\n":
            assert line, "the node's pool has no connection"
        path.cut()
        cut = time.monotonic()
        error = node.stdout.readline()
        took = time.monotonic() - cut
        node.kill()
    assert "I/O error" in error, error
    # The driver then tries to cancel the statement, over a connection for which it waits ten seconds.
    assert SILENT_SECONDS - 1 < took < 60, f"noticed after {took:.1f} s; else it takes hours"
    assert software._UNANSWERED_SECONDS <= 90, "the deployed setting detects it within two minutes"


def test_a_fence_gives_up_on_a_silent_server(server: postgres.Server, path: Wires) -> None:
    fence = PostgresFence("127.0.0.1", path.ports[server.port], postgres.administrator, None)
    path.cut()
    began = time.monotonic()
    with pytest.raises(UnavailableError, match=r"timeout expired"):
        asyncio.run(fence.close_older("node-1", 1, "lease", existed=False))
    assert time.monotonic() - began < 30


def test_a_node_whose_database_was_out_of_reach_restarts(
    server: postgres.Server, path: Wires, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only if a connection of its pool timed out: some flows then wait for the node's next start."""
    access = DatabaseAccess("127.0.0.1", path.ports[server.port], "ledger", postgres.SUPERUSER, postgres.PASSWORD)
    place: Any = SimpleNamespace(
        database=access, identity=SimpleNamespace(name="node-1", legal_name="O=A, L=B, C=GB")
    )
    made = object.__new__(CordaSoftware)
    restarts: list[str] = []

    async def end(self: CordaSoftware, start: Any, why: str) -> None:
        restarts.append(why)

    monkeypatch.setattr(CordaSoftware, "_restart", end)
    monkeypatch.setattr(software, "_CONNECT_SECONDS", 2)
    monkeypatch.setattr(software, "_REFRESH_SECONDS", 1.5)
    monkeypatch.setattr(software, "_LOOK_SECONDS", 0.1)

    async def look(start: Any) -> None:
        start.wanted = time.monotonic() + 1
        await made._watch_database(start)

    async def story() -> None:
        start: Any = SimpleNamespace(
            place=place, figures={}, outage_since=None, timeouts=0, timeouts_before=0, counted=time.monotonic() + 1e6
        )
        async with software._connected(place) as connection:
            start.server_run = await software._server_run(connection)
        path.cut()
        await look(start)
        assert start.outage_since, "the outage begins with the first failed attempt"
        path.mend()
        await look(start)
        assert (restarts, start.outage_since) == ([], None), "no connection of the node's pool timed out"
        path.cut()
        await look(start)
        start.timeouts = 1
        path.mend()
        await look(start)
        assert restarts == ["its database was out of reach, and is back"]

    asyncio.run(story())
