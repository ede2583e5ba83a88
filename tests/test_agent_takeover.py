"""Real agents on real leases (Azurite), a real PostgreSQL and real processes: killed, frozen, thawed, stopped.

A VM is a process with a loopback address of its own, in a control group made of its process tree.
"""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.storage.blob import ContainerClient

from agent.lease import KILL_SECONDS, LEASE_SECONDS, Record
from agent.ports import HEALTH_PORT
from ledger.platform import P2P
from tests import azurite, echo, postgres
from tests.agent_vm import ROOT

pytestmark = [
    pytest.mark.skipif(postgres.programs() is None, reason="no PostgreSQL here; wanted its initdb and postgres"),
    pytest.mark.skipif(not azurite.available(), reason="no node and npm here; wanted them for Azurite"),
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds a VM's processes in /proc"),
]
IDENTITY = "node-1"
P2P_PORT = echo.PLATFORM.roles[0].ports[0].base


class Vm:
    """One VM's agent, and all that it started."""

    def __init__(self, name: str, host: str, site: "Site") -> None:
        self.name, self.host = name, host
        folder = site.folder / name
        folder.mkdir()
        given = {
            "vm": name,
            "host": host,
            "folder": str(site.folder),
            "identities": 1,
            "blobs": site.blobs,
            "postgres": site.server.port,
            "state": str(folder),
            "runtime": tempfile.mkdtemp(dir="/dev/shm"),
        }
        self.runtime = Path(given["runtime"])
        self.log = folder / "log"
        self.started = time.monotonic()
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.agent_vm", json.dumps(given)], cwd=ROOT, stdout=log, stderr=log
            )

    def health(self) -> dict[str, Any]:
        try:
            with urllib.request.urlopen(f"http://{self.host}:{HEALTH_PORT}/health", timeout=1) as answer:
                return dict(json.load(answer))
        except OSError:
            return {}

    def tree(self) -> list[int]:
        """The agent's process and all below it."""
        parents = {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rsplit(") ", 1)[1].split()
            except OSError:
                continue
            parents[int(stat.parent.name)] = int(fields[1])
        found = [self.process.pid]
        for pid in found:
            found.extend(child for child, parent in parents.items() if parent == pid)
        return found

    def send(self, number: signal.Signals) -> None:
        """A signal to the whole VM."""
        for pid in self.tree():
            # The node may be gone already: the kernel kills it with its agent.
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def end(self) -> None:
        self.send(signal.SIGKILL)
        self.process.wait()
        shutil.rmtree(self.runtime, ignore_errors=True)


class Site:
    """A bank: its lease store, database, share and VMs."""

    def __init__(self, folder: Path, blobs: str, server: postgres.Server) -> None:
        self.folder, self.blobs, self.server = folder, blobs, server
        for name in ("share", "vault"):
            (folder / name).mkdir()
        self.vms: list[Vm] = []

    def start(self) -> Vm:
        vm = Vm(f"vm-{len(self.vms) + 1}", f"127.0.1.{len(self.vms) + 1}", self)
        self.vms.append(vm)
        return vm

    def record(self) -> Record:
        credential: Any = {"account_name": azurite.ACCOUNT, "account_key": azurite.KEY}
        with ContainerClient(self.blobs, "leases", credential) as container:
            return Record.from_json(IDENTITY, container.download_blob(IDENTITY).readall())

    def commits(self) -> dict[int, int]:
        with self.server.connect(IDENTITY) as connection:
            return dict(connection.execute("SELECT epoch, count(*) FROM commits GROUP BY epoch").fetchall())


def until(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        time.sleep(0.05)
    return found


def ready(vm: Vm) -> bool:
    return vm.health().get("node") == "ready"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with azurite.blob_service() as (blobs, _), postgres.server() as server:
        credential: Any = {"account_name": azurite.ACCOUNT, "account_key": azurite.KEY}
        with ContainerClient(blobs, "leases", credential) as container:
            container.create_container()
        server.make_database(IDENTITY)
        made = Site(tmp_path_factory.mktemp("bank"), blobs, server)
        yield made
        for vm in made.vms:
            vm.end()


def test_an_identity_goes_from_vm_to_vm_and_nothing_is_lost(site: Site) -> None:
    first = site.start()
    until(lambda: first.health().get("state"), 10, "the first answer to a probe")
    answered = time.monotonic() - first.started
    until(lambda: first.health().get("identity") == IDENTITY, 10, "the first lease")
    print(f"start to first answer {answered:.2f} s, to lease {time.monotonic() - first.started:.2f} s")
    until(lambda: ready(first), 30, "the first node")
    second = site.start()
    standby = until(lambda: second.health().get("state") == "standby" and second.health(), 10, "a standby")
    assert standby["ApplicationHealthState"] == "Healthy", "Azure replaces a standby that says anything else"
    memory = resident(second.process.pid)
    print(f"memory of a standby's agent {memory:.0f} MB, of a holder's {resident(first.process.pid):.0f} MB")
    assert asyncio.run(line(first, "one")) == "one", "the node serves its peers on the identity's port"

    # The holder is killed with all its processes: nobody says a word.
    first.send(signal.SIGKILL)
    killed = time.monotonic()
    until(lambda: ready(second), LEASE_SECONDS + 20, "the takeover after a kill")
    print(f"killed: taken over after {time.monotonic() - killed:.1f} s, the node ready among it")
    assert site.record().epoch == 2, "each taking is an epoch of its own"
    assert site.record().history[0].until is None, "who is killed says nothing, and the record shows it"
    journal = (site.folder / "share" / IDENTITY / "epoch-2" / echo.JOURNAL).read_text()
    assert journal.splitlines() == ["1 one"], "what the node kept is there again"
    assert set(site.commits()) == {1, 2}, "both epochs committed, one after the other"

    # The holder is frozen, and thawed after another one has taken over.
    third = site.start()
    until(lambda: third.health().get("state") == "standby", 10, "a standby")
    second.send(signal.SIGSTOP)
    frozen = time.monotonic()
    # The frozen node's lock on the share holds on one machine; a file server forgets it after a while.
    (site.folder / "share" / IDENTITY / "lock").unlink()
    until(lambda: ready(third), LEASE_SECONDS + 20, "the takeover after a freeze")
    print(f"frozen: taken over after {time.monotonic() - frozen:.1f} s, the node ready among it")
    before = site.commits()[2]
    second.send(signal.SIGCONT)
    until(lambda: second.health().get("state") == "standby", KILL_SECONDS, "the thawed VM lets go")
    time.sleep(1)
    assert site.commits()[2] == before, "not one commit of the older epoch after the newer one has begun"
    assert asyncio.run(line(third, "three")) == "three"
    kept = site.folder / "share" / IDENTITY
    assert (kept / "epoch-3" / echo.JOURNAL).read_text().splitlines() == ["1 one", "3 three"], (
        "nor a line in its journal"
    )

    # The holder is told to stop: it gives the identity back, and nobody waits for a lease.
    third.process.send_signal(signal.SIGTERM)
    told = time.monotonic()
    assert third.process.wait(timeout=20) == 0, "an orderly end"
    until(lambda: ready(second), 20, "the takeover after an orderly end")
    print(f"stopped: taken over after {time.monotonic() - told:.1f} s, the node's stop and start among it")
    record = site.record()
    assert [each.vm for each in record.history] == ["vm-1", "vm-2", "vm-3", "vm-2"], (
        "one record says who held it when"
    )
    assert [each.epoch for each in record.history] == [1, 2, 3, 4]
    assert record.history[2].why == "SIGTERM", "and why it was given back"
    assert second.health()["epoch"] == 4


async def line(vm: Vm, text: str) -> str:
    """Send a line to the node on a VM; what comes back."""
    reader, writer = await asyncio.open_connection(vm.host, P2P_PORT)
    writer.write(f"{text}\n".encode())
    answer = (await reader.readline()).decode().strip()
    writer.close()
    return answer


def resident(pid: int) -> float:
    """Memory of a process in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def test_the_first_port_is_the_one_that_peers_use() -> None:
    assert echo.PLATFORM.roles[0].ports[0].name == P2P
