"""Real agents on real leases (Azurite), a real PostgreSQL and real processes: killed, frozen, thawed, stopped."""

import asyncio
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.platform import P2P
from contract.timing import LEASE
from lab import echo
from lab.banks import azurite, npm, postgres
from lab.banks.process import until
from tests.processes.vms import IDENTITY, Bank, Vm, eventually, ready

pytestmark = [
    pytest.mark.skipif(postgres.missing() is not None, reason=str(postgres.missing())),
    pytest.mark.skipif(not npm.available(), reason="no node and npm here; wanted them for Azurite"),
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds a VM's processes in /proc"),
]
P2P_PORT = echo.ECHO.roles[0].ports[0].base


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bank]:
    with azurite.blob_service() as (blobs, _), postgres.server() as server:
        made = Bank(tmp_path_factory.mktemp("banks") / "bank-a", blobs, server)
        yield made
        made.end()


def test_an_identity_moves_from_vm_to_vm_and_nothing_is_lost(site: Bank) -> None:
    first = site.start()
    eventually(lambda: first.health().get("state"), "the first answer to a probe")
    answered = time.monotonic() - first.started
    eventually(lambda: first.health().get("identity") == IDENTITY, "the first lease")
    print(f"start to first answer {answered:.2f} s, to lease {time.monotonic() - first.started:.2f} s")
    eventually(lambda: ready(first), "the first node")
    second = site.start()
    standby = eventually(lambda: second.health().get("state") == "standby" and second.health(), "a standby")
    assert standby["ApplicationHealthState"] == "Healthy", "Azure would replace an unhealthy standby"
    memory = resident(second.process.pid)
    print(f"memory of a standby's agent {memory:.0f} MB, of a holder's {resident(first.process.pid):.0f} MB")
    assert asyncio.run(line(first, "one")) == "one", "the node serves its peers on the identity's port"

    # The holder is killed with all its processes.
    first.send(signal.SIGKILL)
    killed = time.monotonic()
    until(lambda: ready(second), LEASE.lease_seconds + 20, "the takeover after a kill")
    print(f"killed: taken over after {time.monotonic() - killed:.1f} s, the node ready among it")
    assert site.record().epoch == 2, "each acquisition has a new epoch"
    assert site.record().history[0].until is None, "a killed holder records no release"
    warning = f"WARNING agent.agent: took {IDENTITY} over, epoch 2: {first.name} fell silent"
    assert warning in second.log.read_text(), "only warnings reach the workspace, which must have the takeover"
    journal = (site.folder / "share" / IDENTITY / "epoch-2" / echo.JOURNAL).read_text()
    assert journal.splitlines() == ["1 one"], "the node's durable state is there again"
    assert set(site.commits()) == {1, 2}, "both epochs committed, one after the other"

    # The holder is frozen, and thawed after another one has taken over.
    third = site.start()
    eventually(lambda: third.health().get("state") == "standby", "a standby")
    second.send(signal.SIGSTOP)
    frozen = time.monotonic()
    # The frozen node's lock on the share holds on one machine; a file server drops it after a while.
    (site.folder / "share" / IDENTITY / "lock").unlink()
    until(lambda: ready(third), LEASE.lease_seconds + 20, "the takeover after a freeze")
    print(f"frozen: taken over after {time.monotonic() - frozen:.1f} s, the node ready among it")
    before = site.commits()[2]
    second.send(signal.SIGCONT)
    until(
        lambda: second.health().get("state") == "standby", LEASE.kill_seconds, "the thawed VM releases the identity"
    )
    time.sleep(1)
    assert site.commits()[2] == before, "no commit of the older epoch after the newer one has begun"
    assert asyncio.run(line(third, "three")) == "three"
    folder = site.folder / "share" / IDENTITY
    assert (folder / "epoch-3" / echo.JOURNAL).read_text().splitlines() == ["1 one", "3 three"], (
        "nor a line in the journal"
    )

    # The holder gets SIGTERM: it releases the identity, and no VM waits for the lease to lapse.
    third.process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    assert third.process.wait(timeout=20) == 0, "the agent ends in order"
    until(lambda: ready(second), 20, "the takeover after an orderly stop")
    print(f"stopped: taken over after {time.monotonic() - began:.1f} s, the node's stop and start among it")
    record = site.record()
    assert [each.vm for each in record.history] == ["vm-1", "vm-2", "vm-3", "vm-2"], (
        "the record has each holder and its time"
    )
    assert [each.epoch for each in record.history] == [1, 2, 3, 4]
    assert record.history[2].why == "SIGTERM", "and the reason of the release"
    assert second.health()["epoch"] == 4


async def line(vm: Vm, text: str) -> str:
    """Send a line to the node on a VM; returns its answer."""
    reader, writer = await asyncio.open_connection(vm.host.address, P2P_PORT)
    writer.write(f"{text}\n".encode())
    answer = (await reader.readline()).decode().strip()
    writer.close()
    return answer


def resident(pid: int) -> float:
    """Memory of a process in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def test_the_first_port_is_the_one_that_peers_use() -> None:
    assert echo.ECHO.roles[0].ports[0].name == P2P
