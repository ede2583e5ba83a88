"""Two banks' real agents with echo nodes: they learn of each other from cards, drain, restart, and remove members.

Where the kernel's header and systemd-analyze are there they run under the unit's filter of system calls.
"""

import asyncio
import json
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.storage.blob.aio import ContainerClient

from contract.ports import NETWORK_INFO_PATH, NETWORK_INFO_PORT
from delivery.cloud_config import units
from host.bank_documents import NETWORK_DOCUMENT, BlobDocuments
from lab import echo
from lab.banks import azurite, npm
from lab.banks.azurite import CREDENTIAL
from lab.cards import make_card
from tests.processes.seccomp import restrictable
from tests.processes.vms import IDENTITY, Bank, Vm, eventually, loopback, ready

pytestmark = [
    pytest.mark.skipif(not npm.available(), reason="no node and npm here; wanted them for Azurite"),
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds a VM's processes in /proc"),
]
P2P_PORT = echo.ECHO.roles[0].ports[0].base
DOCUMENT = b"what all members share"
assert echo.ECHO.network_document
PINNED = echo.ECHO.network_document.fingerprint(DOCUMENT)
AWAY = loopback(99)


def card(member: str, frontend: str) -> dict[str, Any]:
    """A member's card, with the addresses of this machine."""
    name = member.replace("-", " ").title()
    return make_card(
        member,
        addressSpace=f"{frontend}/32",
        nodes=[{"legalName": f"{name} {IDENTITY}", "p2pAddress": f"{frontend}:{P2P_PORT}", "role": "echo"}],
        networkInfoUrl=f"https://{frontend}:{NETWORK_INFO_PORT}{NETWORK_INFO_PATH}",
    )


@pytest.fixture
def banks(tmp_path: Path) -> Iterator[tuple[Bank, Bank]]:
    folder = tmp_path
    unit = folder / "ledger-agent.service"
    unit.write_text(units()[unit.name])
    with azurite.blob_service() as (blobs, _):
        made = [
            Bank(
                folder / f"bank-{letter}",
                blobs,
                member=f"bank-{letter}",
                frontend=host,
                document=PINNED,
                unit=unit if restrictable() else None,
            )
            for letter, host in (("a", loopback(1)), ("b", loopback(11)))
        ]
        yield made[0], made[1]
        for bank in made:
            bank.end()


def status_of(vm: Vm) -> dict[str, Any]:
    return vm.health()


def epochs_known(bank: Bank, member: str) -> list[int]:
    """The epochs of a member's nodes, as the bank's node knows them."""
    return [node["epoch"] for node in bank.members().get(member, {"nodes": []})["nodes"]]


def node_pids(vm: Vm) -> list[int]:
    return [
        pid for pid in vm.tree() if "echo.json" in Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    ]


def test_two_banks_admit_and_expel_each_other(banks: tuple[Bank, Bank]) -> None:
    a, b = banks
    a.tell_peers({"bank-b": card("bank-b", b.frontend)})
    b.tell_peers({"bank-a": card("bank-a", a.frontend), "bank-c": card("bank-c", AWAY)})

    # No bank has the pinned document yet: all wait for it, and report so.
    first = b.start(b.frontend)
    reason = eventually(lambda: status_of(first).get("reason"), "a reason")
    assert reason.startswith(f"network document: nobody has one yet; wanted {PINNED}"), "the reason says what to do"
    assert status_of(first)["identity"] == IDENTITY, "it keeps its identity: another VM would not help"
    a.put(NETWORK_DOCUMENT, b"an older one")
    holder = a.start(a.frontend)
    reason = eventually(lambda: "this bank has sha256:" in str(status_of(holder).get("reason")), "another document")
    a.put(NETWORK_DOCUMENT, DOCUMENT)
    began = time.monotonic()
    eventually(lambda: ready(holder), "bank-a's node")
    eventually(lambda: ready(first), "bank-b's node")
    print(f"with the document: both nodes ready after {time.monotonic() - began:.1f} s")
    assert b.documents()[NETWORK_DOCUMENT] == DOCUMENT, "stored for the next holder"

    # Each gets the other's network information over its link.
    eventually(
        lambda: epochs_known(a, "bank-b") == [1] and epochs_known(b, "bank-a") == [1], "each other's information"
    )
    print(f"each other's information after {time.monotonic() - began:.1f} s")
    assert a.members()["bank-b"]["card"]["name"] == "bank-b", "with the member's card"
    assert epochs_known(a, "bank-a") == [1], "a bank's own nodes are its members too"
    assert json.loads(a.documents()["peers/bank-b"])["member"] == "bank-b", (
        "a peer's information is stored beyond the VM"
    )
    troubles = eventually(lambda: status_of(first)["members"], "the report of the unreachable member")
    assert "Cannot connect" in troubles["bank-c"], "only unreachable members are reported"
    assert set(troubles) == {"bank-c"}
    assert status_of(holder)["members"] == {}, "no cause is reported there"

    # A standby serves the same document, requests nothing, and goes on when the holder ends.
    standby = b.start(loopback(12))
    eventually(lambda: status_of(standby).get("state") == "standby", "a standby")
    first.process.send_signal(signal.SIGTERM)
    assert first.process.wait(20) == 0
    eventually(lambda: epochs_known(b, "bank-b") == [2], "the standby's node")
    b.tell_peers({"bank-a": card("bank-a", a.frontend)})
    eventually(lambda: "bank-c" not in b.members(), "an expulsion")
    eventually(lambda: status_of(standby)["members"] == {}, "nothing is wrong")

    # The balancer's frontend leads to a new VM at the old address.
    again = b.start(b.frontend, "vm-3")
    eventually(lambda: epochs_known(a, "bank-b") == [2], "information of the next epoch")
    assert status_of(again)["state"] == "standby", "the answer comes from a standby"

    # A member that is removed while no node runs is expelled at the next start.
    holder.process.send_signal(signal.SIGTERM)
    assert holder.process.wait(20) == 0
    assert "bank-b" in a.members()
    a.tell_peers({})
    second = a.start(loopback(2))
    eventually(lambda: ready(second), "bank-a's node again")
    eventually(lambda: set(a.members()) == {"bank-a"}, "the removal of the other bank")


def running(bank: Bank) -> Vm:
    """A VM of a bank without peers, whose node is ready."""
    bank.tell_peers({})
    bank.put(NETWORK_DOCUMENT, DOCUMENT)
    holder = bank.start(bank.frontend)
    eventually(lambda: ready(holder), "the node")
    return holder


def test_a_stale_node_restarts_in_the_same_epoch(banks: tuple[Bank, Bank]) -> None:
    a, _ = banks
    holder = running(a)
    before, epoch = node_pids(holder), status_of(holder)["epoch"]
    a.put(echo.REVISION, b"2")
    eventually(lambda: node_pids(holder) not in ([], before), "another process")
    eventually(lambda: ready(holder), "the node again")
    assert status_of(holder)["epoch"] == epoch, "no other VM could acquire it meanwhile"
    assert len(a.record().history) == epoch, "the record shows no other holder"


def connected(vm: Vm) -> socket.socket:
    made = socket.create_connection((vm.host.address, P2P_PORT), 5)
    made.sendall(b"begun\n")
    assert made.recv(100) == b"begun\n"
    return made


def refuses(vm: Vm) -> bool:
    try:
        socket.create_connection((vm.host.address, P2P_PORT), 5).close()
    except OSError:
        return True
    return False


def test_a_planned_stop_drains_the_node(banks: tuple[Bank, Bank]) -> None:
    a, _ = banks
    holder = running(a)
    with connected(holder) as connection:
        holder.process.send_signal(signal.SIGTERM)
        eventually(lambda: status_of(holder).get("state") == "draining", "draining")
        eventually(lambda: refuses(holder), "the node accepts no new work")
        time.sleep(2)
        connection.sendall(b"ended\n")
        assert connection.recv(100) == b"ended\n", "it ends its work first"
        assert holder.process.poll() is None
    assert holder.process.wait(10) == 0
    assert a.record().history[-1].why == "SIGTERM"


def test_a_second_signal_ends_a_drain(banks: tuple[Bank, Bank]) -> None:
    a, _ = banks
    holder = running(a)
    with connected(holder):
        holder.process.send_signal(signal.SIGTERM)
        eventually(lambda: status_of(holder).get("state") == "draining", "draining")
        holder.process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        assert holder.process.wait(15) == 0
        print(f"stopped {time.monotonic() - began:.1f} s after the second signal")
    assert a.record().history[-1].until is not None, "the identity is still released in order"


def test_documents_of_a_bank_are_written_once(banks: tuple[Bank, Bank]) -> None:
    async def story() -> None:
        async with ContainerClient(banks[0].blobs, "network-bank-a", CREDENTIAL, retry_total=0) as container:
            documents = BlobDocuments(container)
            assert await documents.read("peers/bank-x") is None
            first = await documents.write("peers/bank-x", b"1", None)
            assert first
            assert await documents.write("peers/bank-x", b"2", None) is None, "it exists already"
            second = await documents.write("peers/bank-x", b"2", first)
            assert second
            assert await documents.write("peers/bank-x", b"3", first) is None, "it has changed since"
            stored = await documents.read("peers/bank-x")
            assert stored
            assert (stored.content, stored.etag) == (b"2", second)
            assert await documents.write("peers/gone", b"1", first) is None, "it does not exist any more"
            assert await documents.names("peers/") == {"peers/bank-x": second}, "its ETag shows whether it changed"
            assert await documents.names("nothing/") == {}

    asyncio.run(story())
