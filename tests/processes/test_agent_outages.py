"""An agent's report during outages: it is healthy, has the reason, and recovers by itself.

Azure would replace unhealthy VMs one after the other, and no new VM would help.
"""

import asyncio
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.storage.blob import BlobLeaseClient

from agent.database import PostgresFence
from agent.lease import IdentityRecord, Tenure
from contract.timing import FAILSAFE, LEASE
from lab import echo
from lab.banks import azurite, npm, postgres
from lab.banks.process import until
from lab.cards import make_card
from tests.processes.vms import IDENTITY, Bank, Vm, eventually, loopback, ready

pytestmark = [
    pytest.mark.skipif(postgres.missing() is not None, reason=str(postgres.missing())),
    pytest.mark.skipif(not npm.available(), reason="no node and npm here; wanted them for Azurite"),
]

HOST = loopback(1)


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[tuple[Bank, Any]]:
    """A bank, and the process of its storage."""
    with azurite.blob_service() as (blobs, storage), postgres.server() as server:
        made = Bank(tmp_path / "bank-a", blobs, server)
        yield made, storage
        storage.send_signal(signal.SIGCONT)
        made.end()


def await_health(vm: Vm, key: str, word: str) -> None:
    """Wait until a VM's health has a word under a key; the VM must stay healthy meanwhile."""

    def look() -> bool:
        health = vm.health()
        assert not health or health["ApplicationHealthState"] == "Healthy", f"Azure would replace the VM: {health}"
        return word in str(health.get(key))

    try:
        eventually(look, f"{key} with {word!r}")
    except TimeoutError as error:
        error.add_note(f"it says {vm.health()}")
        raise


def test_an_agent_waits_for_a_share_and_a_database_in_an_outage(bank: tuple[Bank, Any]) -> None:
    made, _ = bank
    assert made.server
    share, aside = made.folder / "share", made.folder / "aside"
    made.server.crash()
    share.rename(aside)
    vm = made.start(HOST)
    await_health(vm, "lacks", "share")
    await_health(vm, "lacks", "database")
    assert vm.health()["identity"] is None, "a VM that could not serve an identity acquires none"
    made.server.start()
    aside.rename(share)
    eventually(lambda: ready(vm), "the node, once both are available")

    # A holder that restarts its node finds these faults one after the other.
    made.server.crash()
    share.rename(aside)
    made.put(echo.REVISION, b"2")
    await_health(vm, "reason", "database")
    made.server.start()
    await_health(vm, "reason", "share")
    aside.rename(share)
    eventually(lambda: ready(vm), "the node, once the share is available")
    assert vm.health()["epoch"] == 1, "no other VM has acquired the identity"


def test_a_node_runs_without_storage_until_the_database_has_another_holder(bank: tuple[Bank, Any]) -> None:
    made, storage = bank
    assert made.server
    vm = made.start(HOST)
    eventually(lambda: ready(vm), "the node")
    storage.send_signal(signal.SIGSTOP)
    time.sleep(LEASE.lease_seconds + 5)
    before = made.commits()[1]
    eventually(lambda: made.commits()[1] > before, "commits after the lease has lapsed")
    until(lambda: vm.health().get("lease"), FAILSAFE.report_seconds + 20, "the report of the outage")
    assert ready(vm), "only the lease store is unavailable"

    # What a standby does that still reaches the store, including the fence.
    fence = PostgresFence("127.0.0.1", made.server.port, postgres.administrator, None)
    asyncio.run(fence.close_older(IDENTITY, 2, "another lease", existed=True))
    fenced = made.commits()[1]
    until(lambda: not ready(vm), FAILSAFE.kill_seconds + LEASE.watchdog_seconds, "the end of the node")
    assert vm.health()["ApplicationHealthState"] == "Healthy", "Azure would replace the VM"
    assert made.commits() == {1: fenced}, "no commit after the fence"

    # The record is outdated now, like a restored one: the next holder raises it above the database's epoch.
    storage.send_signal(signal.SIGCONT)
    until(lambda: ready(vm), LEASE.lease_seconds + 60, "the node, once storage answers again")
    assert made.record().epoch == 3
    assert "lost, restored or edited" in vm.health()["lease"]


def test_an_unavailable_peer_is_reported_and_affects_nothing_else(bank: tuple[Bank, Any]) -> None:
    made, _ = bank
    # Nothing listens there.
    made.tell_peers({"bank-b": make_card("bank-b", networkInfoUrl=f"https://{loopback(99)}:8443/networkinfo")})
    vm = made.start(HOST)
    await_health(vm, "members", "bank-b")
    eventually(lambda: ready(vm), "the node")


def test_a_lost_record_costs_seconds_and_no_commits(bank: tuple[Bank, Any]) -> None:
    made, _ = bank
    vms = [made.start(HOST), made.start(loopback(2))]
    eventually(lambda: any(ready(vm) for vm in vms), "the first node")
    with made.container("leases") as container:
        blob = container.get_blob_client(IDENTITY)
        BlobLeaseClient(blob).break_lease(0)
        blob.delete_blob()
    lost = time.monotonic()
    eventually(lambda: made.commits().get(2), "commits of the next epoch")
    print(f"in service again after {time.monotonic() - lost:.1f} s")
    first = made.commits()[1]
    time.sleep(LEASE.renew_seconds + LEASE.request_seconds)
    assert made.commits().keys() == {1, 2}, "no VM competes for it"
    assert made.commits()[1] == first, "the first holder commits nothing beside the second"
    record = made.record()
    assert [each.epoch for each in record.history] == [1, 2], "the new record began at 1, and was raised"
    assert record.history[0].why
    assert "epoch 1 has a role of another holder" in record.history[0].why, "the record has the reason"
    assert any("lost, restored or edited" in str(vm.health().get("lease")) for vm in vms)


def test_an_epoch_that_somebody_wrote_reaches_neither_database_nor_share(bank: tuple[Bank, Any]) -> None:
    made, _ = bank
    vms = [made.start(HOST)]
    eventually(lambda: ready(vms[0]) and made.commits(), "the first node")
    with made.container("leases") as container:
        blob = container.get_blob_client(IDENTITY)
        BlobLeaseClient(blob).break_lease(0)
        tenure = Tenure(epoch=10**15, vm="vm-9", since="9999-12-31T23:59:59.000+00:00")
        edited = IdentityRecord(epoch=tenure.epoch, history=(tenure,))
        blob.upload_blob(edited.to_json(), overwrite=True)
    # A standby would acquire the lease between both requests.
    vms.append(made.start(loopback(2)))
    began = time.monotonic()
    eventually(lambda: made.commits().get(2), "commits of the next epoch")
    print(f"in service again after {time.monotonic() - began:.1f} s")
    first = made.commits()[1]
    assert [each.epoch for each in made.record().history] == [10**15, 1, 2]
    assert any("lost, restored or edited" in str(vm.health().get("lease")) for vm in vms)

    holder = eventually(lambda: next((vm for vm in vms if ready(vm)), None), "the second node")
    holder.end()
    eventually(lambda: made.commits().get(3), "commits of the epoch after it")
    assert made.commits().keys() == {1, 2, 3}
    assert made.commits()[1] == first, "the first holder commits nothing more"
    assert not any(vm.health().get("lease") for vm in vms if vm is not holder), (
        "a later takeover meets a whole record"
    )
