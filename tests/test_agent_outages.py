"""What an agent says while what it needs is away: it is healthy, gives the reason, and goes on by itself.

Azure replaces VMs that say anything else, one after the other, and none of them would fare better.
"""

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.lease import LEASE_SECONDS, STOP_SECONDS
from local import azurite, postgres
from local.process import until
from tests.cards import make_card
from tests.vms import Bank, Vm, ready

pytestmark = [
    pytest.mark.skipif(postgres.programs() is None, reason="no PostgreSQL here; wanted its initdb and postgres"),
    pytest.mark.skipif(not azurite.available(), reason="no node and npm here; wanted them for Azurite"),
]


HOST = "127.0.8.1"


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[tuple[Bank, Any]]:
    """A bank, and the process of its storage."""
    with azurite.blob_service() as (blobs, storage), postgres.server() as server:
        made = Bank(tmp_path / "bank-a", blobs, server)
        yield made, storage
        storage.send_signal(signal.SIGCONT)
        made.end()


def told(vm: Vm, word: str, seconds: float) -> None:
    """Wait until a VM gives a reason with a word in it; whatever it says meanwhile, it is healthy."""

    def look() -> bool:
        health = vm.health()
        assert not health or health["ApplicationHealthState"] == "Healthy", f"Azure would replace the VM: {health}"
        return word in f"{health.get('reason')} {health.get('members')}"

    until(look, seconds, f"a reason with {word!r}; it says {vm.health()}")


def test_a_share_or_a_database_that_is_away_is_waited_for(bank: tuple[Bank, Any]) -> None:
    made, _ = bank
    assert made.server
    made.server.crash()
    share, aside = made.folder / "share", made.folder / "aside"
    share.rename(aside)
    vm = made.start(HOST)
    told(vm, "database", 60)
    made.server.start()
    told(vm, "share", 60)
    shutil.copytree(aside, share)
    until(lambda: ready(vm), 90, "the node, once the share is there")
    assert vm.health()["epoch"] == 1, "the outage gave the identity to nobody else"


def test_storage_that_is_silent_ends_the_node_in_time_and_not_the_vm(bank: tuple[Bank, Any]) -> None:
    made, storage = bank
    vm = made.start(HOST)
    until(lambda: ready(vm), 60, "the node")
    storage.send_signal(signal.SIGSTOP)
    told(vm, "lease", STOP_SECONDS + LEASE_SECONDS + 30)
    assert not ready(vm), "nobody knows any more whose the identity is"
    storage.send_signal(signal.SIGCONT)
    until(lambda: ready(vm), LEASE_SECONDS + 60, "the node, once storage answers again")


def test_a_peer_that_is_away_is_told_of_and_harms_nothing(bank: tuple[Bank, Any]) -> None:
    made, _ = bank
    # Nobody listens there.
    made.tell_peers({"bank-b": make_card("bank-b", networkInfoUrl="https://127.0.1.99:8443/networkinfo")})
    vm = made.start(HOST)
    told(vm, "bank-b", 90)
    until(lambda: ready(vm), 60, "the node")
