"""The echo platform's node, as a process: a platform's interface without Corda."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from contract.identities import Identity, identities
from contract.metrics import Figure
from host.status import Readiness
from lab import echo
from lab.echo import ECHO, EchoSoftware
from ledger.software import NetworkMember, Place, SoftwareError, UntrustedError, WaitingError
from tests.processes.vms import loopback
from tests.software_context import MemoryDocuments, software_context

HOST = loopback(1)


@dataclass(frozen=True)
class Running:
    software: EchoSoftware
    place: Place
    processes: Mapping[str, asyncio.subprocess.Process]

    async def reaches(self, wanted: Readiness) -> None:
        async with asyncio.timeout(20):
            while await self.software.readiness(self.place) is not wanted:
                await asyncio.sleep(0.02)

    async def send(self, port: int, *lines: str) -> list[str]:
        reader, writer = await asyncio.open_connection(HOST, port)
        try:
            writer.write("".join(f"{line}\n" for line in lines).encode())
            return [(await reader.readline()).decode().rstrip("\n") for _ in lines]
        finally:
            writer.close()
            await writer.wait_closed()


def place_of(folder: Path, identity: Identity, epoch: int) -> Place:
    """As an agent makes it: the durable folder stays, all others are new."""
    durable, scratch, secrets = folder / "durable", folder / f"scratch-{epoch}", folder / f"secrets-{epoch}"
    for each in (durable, scratch, secrets):
        each.mkdir(exist_ok=True)
    for name, blob in EchoSoftware(software_context()).make_secrets(identity).items():
        (secrets / name).write_bytes(blob)
    return Place(identity, epoch, durable, scratch, secrets, database=None, network_document=None)


@asynccontextmanager
async def running(place: Place, start_seconds: float = 0.0, **changes: Any) -> AsyncIterator[Running]:
    software = EchoSoftware(software_context(HOST, **changes), start_seconds)
    await software.prepare(place)
    processes = {
        each.name: await asyncio.create_subprocess_exec(*each.argv, env=each.environment, cwd=each.folder)
        for each in software.processes(place)
    }
    try:
        yield Running(software, place, processes)
    finally:
        for process in processes.values():
            if process.returncode is None:
                process.kill()
            await process.wait()


def test_the_echo_node_journals_and_goes_on_in_the_next_epoch(tmp_path: Path) -> None:
    (identity,) = identities(ECHO, "Bank A", 1)

    async def story() -> None:
        async with running(place_of(tmp_path, identity, 1)) as node:
            await node.reaches(Readiness.READY)
            assert set(node.processes) == {"echo"}, "the first role has no sidecar"
            assert await node.send(20000, "one", "two") == ["one", "two"], "the node echoes its peers"
            assert await node.send(20200, "three") == ["three"], "it echoes applications at the shared port"
            assert await node.software.figures(node.place) == {Figure.TRANSACTIONS: 3}
            node.processes["echo"].send_signal(signal.SIGTERM)
            assert await node.processes["echo"].wait() == 0, "it stops on request"
            assert await node.software.readiness(node.place) is Readiness.DOWN, "it is no longer ready"
            assert await node.software.figures(node.place) == {}, "unavailable values are omitted"
        async with running(place_of(tmp_path, identity, 2)) as node:
            await node.reaches(Readiness.READY)
            await node.send(20000, "four")
            assert await node.software.figures(node.place) == {Figure.TRANSACTIONS: 1}, "it counts from its start"
            old = replace(node.place, epoch=1)
            assert await node.software.readiness(old) is Readiness.DOWN, "another epoch's node answers there"
        assert (tmp_path / "durable" / "journal").read_text().splitlines() == [
            "1 one",
            "1 two",
            "1 three",
            "2 four",
        ], "the journal shows which epoch wrote each line"

    asyncio.run(story())


def test_the_witness_is_ready_once_its_sidecar_is(tmp_path: Path) -> None:
    (identity,) = identities(ECHO, "Bank A", 1, {"node-1": "witness"})

    async def story() -> None:
        async with running(place_of(tmp_path, identity, 1)) as node:
            await node.reaches(Readiness.READY)
            assert list(node.processes) == ["echo", "sidecar"], "processes start in order"
            node.processes["sidecar"].kill()
            await node.reaches(Readiness.UP)
            with pytest.raises(OSError, match="Connect call failed"):
                await node.send(20200, "x")

    asyncio.run(story())


def test_the_echo_node_is_up_before_it_is_ready(tmp_path: Path) -> None:
    (identity,) = identities(ECHO, "Bank A", 1)

    async def story() -> None:
        async with running(place_of(tmp_path, identity, 1), start_seconds=0.5) as node:
            await node.reaches(Readiness.UP)
            await node.reaches(Readiness.READY)

    asyncio.run(story())


def test_the_echo_node_stores_admitted_members(tmp_path: Path) -> None:
    (identity,) = identities(ECHO, "Bank A", 1)
    bank_b = NetworkMember("bank-b", {"Bank B node-1": "10.2.0.254:20000"}, b"{}", ())

    async def story() -> None:
        async with running(place_of(tmp_path, identity, 1)) as node:
            await node.reaches(Readiness.READY)
            for wanted, step in (
                (1, node.software.admit(node.place, bank_b)),
                (1, node.software.admit(node.place, bank_b)),
                (0, node.software.expel(node.place, "bank-b")),
                (0, node.software.expel(node.place, "bank-b")),
            ):
                await step
                known = list((tmp_path / "durable" / "members").iterdir())
                assert len(known) == wanted, "an agent repeats both until they are done"

    asyncio.run(story())


def test_the_echo_node_accepts_only_nodes_on_the_card(tmp_path: Path) -> None:
    (identity,) = identities(ECHO, "Bank A", 1)

    async def story() -> None:
        async with running(place_of(tmp_path, identity, 1)) as node:
            await node.reaches(Readiness.READY)
            info = await node.software.info(node.place)
            assert info is not None, "a node publishes its address"
            published = json.loads(info)
            assert (published["legalName"], published["address"]) == ("Bank A node-1", f"{HOST}:20000")
            me = NetworkMember("bank-a", {"Bank A node-1": f"{HOST}:20000"}, None, (info,))
            await node.software.admit(node.place, me)
            for lie in (b"what", b"[]", b"{}", json.dumps(published | {"legalName": "Bank B node-1"}).encode()):
                with pytest.raises(UntrustedError, match=r"^bank-a: "):
                    await node.software.admit(node.place, replace(me, infos=(info, lie)))
            stored = json.loads((node.place.durable / "members" / "bank-a").read_text())
            assert stored == {"card": None, "nodes": [published]}, "a false document is refused as a whole"

    asyncio.run(story())


def test_the_echo_node_finishes_its_work_in_a_drain(tmp_path: Path) -> None:
    (identity,) = identities(ECHO, "Bank A", 1)

    async def story() -> None:
        async with running(place_of(tmp_path, identity, 1)) as node:
            await node.reaches(Readiness.READY)
            reader, writer = await asyncio.open_connection(HOST, 20000)
            writer.write(b"one\n")
            assert await reader.readline() == b"one\n"
            draining = asyncio.create_task(node.software.drain(node.place, 20))
            await node.reaches(Readiness.UP)
            with pytest.raises(OSError, match="Connect call failed"):
                await node.send(20000, "x")
            writer.write(b"two\n")
            assert await reader.readline() == b"two\n", "work in progress continues"
            assert not draining.done(), "the drain waits for it"
            writer.close()
            await asyncio.wait_for(draining, 5)
            assert await node.software.status(node.place), "it runs until it is stopped"

    asyncio.run(story())


def test_the_echo_node_drains_no_longer_than_its_limit(tmp_path: Path) -> None:
    (identity,) = identities(ECHO, "Bank A", 1)

    async def story() -> None:
        async with running(place_of(tmp_path, identity, 1)) as node:
            await node.reaches(Readiness.READY)
            _, writer = await asyncio.open_connection(HOST, 20000)
            writer.write(b"one\n")
            await writer.drain()
            began = asyncio.get_running_loop().time()
            await node.software.drain(node.place, 0.3)
            assert asyncio.get_running_loop().time() - began < 2
            writer.close()

    asyncio.run(story())


def test_the_echo_node_is_stale_when_its_banks_documents_change(tmp_path: Path) -> None:
    (identity,) = identities(ECHO, "Bank A", 1)
    documents = MemoryDocuments()

    async def story() -> None:
        async with running(place_of(tmp_path, identity, 1), documents=documents) as node:
            assert await node.software.stale(node.place) is None
            await documents.write(echo.REVISION, b"2", None)
            assert await node.software.stale(node.place) == "there is a new echo-revision"
            await node.software.prepare(node.place)
            assert await node.software.stale(node.place) is None, "the restarted node has the new document"

    asyncio.run(story())


def test_the_echo_node_waits_for_the_authority(tmp_path: Path) -> None:
    (identity,) = identities(ECHO, "Bank A", 1)
    documents = MemoryDocuments()

    async def story() -> None:
        software = EchoSoftware(software_context(documents=documents, trust_root="sha256:0"))
        with pytest.raises(WaitingError, match=r"^node-1: no document trust-root; wanted it from the authority$"):
            await software.prepare(place_of(tmp_path, identity, 1))
        await documents.write("trust-root", b"root", None)
        await software.prepare(place_of(tmp_path, identity, 2))

    asyncio.run(story())


def test_the_echo_node_does_not_start_without_its_secrets(tmp_path: Path) -> None:
    (identity,) = identities(ECHO, "Bank A", 1)
    place = place_of(tmp_path, identity, 1)
    (place.secrets / "key").unlink()
    with pytest.raises(SoftwareError, match=r"^node-1: no secret key; wanted it as a file$"):
        asyncio.run(EchoSoftware(software_context()).prepare(place))
