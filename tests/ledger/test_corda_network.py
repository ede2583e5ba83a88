"""A real Corda network: agents form it from the cards alone; a node restarts, an identity moves, a member joins.

Real: Corda, PostgreSQL over TLS, leases and documents in Azurite, HAProxy as each bank's load balancer. `lab`'s vault
stands in for Key Vault.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from contract.legal_name import name_key
from contract.timing import LEASE, SECRET_POLL_SECONDS
from lab.banks import azurite, balancer, corda, npm
from lab.banks.bank import BankPlan, LabBank
from lab.banks.process import NODE as NODE_PROCESS
from lab.banks.process import VmProcess, until
from lab.banks.site import Loopback

pytestmark = [
    pytest.mark.skipif(corda.missing() is not None, reason=f"no Corda here: {corda.missing()}"),
    pytest.mark.skipif(not npm.available(), reason="no node and npm here; wanted them for Azurite"),
    pytest.mark.skipif(not balancer.available(), reason="no HAProxy here; wanted it as the banks' balancer"),
]
NOTARY, NODE, B, C = (
    "OU=node-1, O=Bank A, L=London, C=GB",
    "OU=node-2, O=Bank A, L=London, C=GB",
    "OU=node-1, O=Bank B, L=Paris, C=FR",
    "OU=node-1, O=Bank C, L=Milan, C=IT",
)
START_SECONDS = 300
"""Corda starts in half a minute; several nodes at once, with migrations, take longer on a small machine."""
PEERS_SECONDS = SECRET_POLL_SECONDS + 120
"""How long nodes may take to follow a change of peers: VMs read the list only so often, then ask and admit each."""


@dataclass
class Consortium:
    """The banks of the test, in the order of joining; prints events with their times."""

    folder: Path
    blobs: str
    stack: ExitStack
    banks: list[LabBank] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    def say(self, what: str) -> None:
        print(f"{time.monotonic() - self.began:6.1f} s  {what}", flush=True)

    def bank(self, plan: BankPlan) -> LabBank:
        made = LabBank(
            plan, self.folder / plan.name, self.blobs, corda.installed(), self.banks[0] if self.banks else None
        )
        self.stack.callback(made.end)
        made.start()
        self.banks.append(made)
        return made

    def await_known(self, bank: LabBank, identity: str, names: set[str]) -> None:
        wanted = {name_key(name) for name in names}

        def known() -> bool:
            return {name_key(name) for name in bank.known_members(identity)} == wanted

        try:
            until(known, PEERS_SECONDS, f"{bank.name} {identity} knows {names}")
        except TimeoutError as error:
            raise AssertionError(f"{error}; it knows {bank.known_members(identity)}") from None


@pytest.fixture
def consortium(tmp_path: Path) -> Iterator[Consortium]:
    with ExitStack() as stack:
        blobs, _ = stack.enter_context(azurite.blob_service())
        yield Consortium(tmp_path, blobs, stack)


def held(bank: LabBank, identity: str) -> VmProcess:
    vm = bank.holder(identity)
    assert vm, f"{bank.name}: no VM holds {identity}, or its node is not ready"
    return vm


def node_processes(vm: VmProcess) -> list[int]:
    return vm.running(NODE_PROCESS)


def restarted(vm: VmProcess, before: list[int]) -> bool:
    return not set(node_processes(vm)) & set(before)


def ready_elsewhere(bank: LabBank, identity: str, before: VmProcess) -> VmProcess | None:
    vm = bank.holder(identity)
    return vm if vm is not before else None


def epochs(bank: LabBank, identity: str) -> list[int]:
    return [each.epoch for each in bank.record(identity).history]


@pytest.mark.long
def test_the_life_of_a_network(consortium: Consortium) -> None:
    """Several steps in one test, each with the last step's state, since real nodes take minutes to start."""
    a_network_forms_from_cards_alone(consortium)
    a_killed_node_restarts_on_its_vm(consortium)
    an_identity_moves_to_a_standby(consortium)
    a_third_member_joins_while_the_others_run(consortium)
    health_shows_the_reachable_members(consortium)
    each_node_restarts_with_changed_parameters(consortium)
    a_removed_member_leaves_the_network_map(consortium)


def a_network_forms_from_cards_alone(consortium: Consortium) -> None:
    a = consortium.bank(
        BankPlan(
            "bank-a",
            "O=Bank A, L=London, C=GB",
            Loopback(31),
            identities=2,
            vms=3,
            roles={"node-1": "notary"},
            authority_vms=2,
        )
    )
    b = consortium.bank(BankPlan("bank-b", "O=Bank B, L=Paris, C=FR", Loopback(32)))
    a.meet([b])
    b.meet([a])
    consortium.say("services run")
    for number in (1, 2):
        a.start_authority_vm(number)
    for bank in (a, b):
        for number in range(1, bank.plan.vms + 1):
            bank.start_vm(number)
    for bank in (a, b):
        bank.await_ready(START_SECONDS)
    consortium.say("certified, parameters signed, databases migrated, three nodes ready")
    for bank, identity in ((a, "node-1"), (a, "node-2"), (b, "node-1")):
        consortium.await_known(bank, identity, {NOTARY, NODE, B})
    consortium.say("every node knows every other one")
    standbys = [vm.health() for vm in (*a.vms, *b.vms) if vm.health().get("state") == "standby"]
    assert len(standbys) == 2, "VMs without an identity are standbys"
    assert {each["ApplicationHealthState"] for each in standbys} == {"Healthy"}


def a_killed_node_restarts_on_its_vm(consortium: Consortium) -> None:
    b = consortium.banks[1]
    vm, before = held(b, "node-1"), epochs(b, "node-1")
    killed = node_processes(vm)
    assert killed, "a node is a Java process of its VM"
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    until(lambda: node_processes(vm) not in ([], killed), START_SECONDS, "another process")
    until(partial(b.holder, "node-1"), START_SECONDS, "ready again")
    consortium.say("a node that was killed is ready again")
    assert held(b, "node-1") is vm, "on the same VM"
    assert epochs(b, "node-1") == before, "in the same epoch: no other VM had a reason to acquire the identity"
    consortium.await_known(b, "node-1", {NOTARY, NODE, B})


def an_identity_moves_to_a_standby(consortium: Consortium) -> None:
    a, b = consortium.banks
    vm, before = held(b, "node-1"), b.known_members("node-1")
    vm.end()
    died = time.monotonic()
    other = until(partial(ready_elsewhere, b, "node-1", vm), LEASE.lease_seconds + START_SECONDS, "taken over")
    consortium.say(f"a VM that was killed is replaced by {other.name} after {time.monotonic() - died:.1f} s")
    assert b.known_members("node-1") == before, "it is the same node, with the same database"
    record = b.record("node-1")
    assert [each.vm for each in record.history][-2:] == [vm.name, other.name], "the record shows who held it when"
    until(reachable(a, "node-2", 1), PEERS_SECONDS, "bank A's node reaches bank B's at the address on its card")


def a_third_member_joins_while_the_others_run(consortium: Consortium) -> None:
    a, b = consortium.banks
    running = {bank.name: {pid for vm in bank.vms for pid in node_processes(vm)} for bank in (a, b)}
    c = consortium.bank(BankPlan("bank-c", "O=Bank C, L=Milan, C=IT", Loopback(33), vms=1))
    c.meet([a, b])
    a.meet([b, c])
    b.meet([a, c])
    c.start_vm(1)
    c.await_ready(START_SECONDS)
    consortium.say("the third member's node is ready")
    everyone = {NOTARY, NODE, B, C}
    for bank, identity in ((a, "node-1"), (a, "node-2"), (b, "node-1"), (c, "node-1")):
        consortium.await_known(bank, identity, everyone)
    consortium.say("everyone knows the third member, and it knows everyone")
    assert running == {bank.name: {pid for vm in bank.vms for pid in node_processes(vm)} for bank in (a, b)}, (
        "a join must not restart another member's nodes"
    )


def health_shows_the_reachable_members(consortium: Consortium) -> None:
    a = consortium.banks[0]
    until(reachable(a, "node-2", 2), PEERS_SECONDS, "two other members, both reachable")


def each_node_restarts_with_changed_parameters(consortium: Consortium) -> None:
    a, b, c = consortium.banks
    nodes = [(a, "node-1"), (a, "node-2"), (b, "node-1"), (c, "node-1")]
    before = {(bank.name, identity): (held(bank, identity), epochs(bank, identity)) for bank, identity in nodes}
    running = {key: node_processes(vm) for key, (vm, _) in before.items()}
    signed = a.document("network-document")
    a.event_horizon_days += 1
    for number, vm in enumerate(list(a.authority_vms), 1):
        vm.process.terminate()
        assert vm.process.wait(timeout=30) == 0, "an authority's VM ends without an error"
        a.start_authority_vm(number)
    for bank, identity in nodes:
        key = bank.name, identity
        vm, epoch = before[key]
        until(partial(restarted, vm, running[key]), 300, f"{key} restarts")
        until(partial(bank.holder, identity), START_SECONDS, f"{key} ready again")
        assert held(bank, identity) is vm, f"{key}: on the same VM"
        assert epochs(bank, identity) == epoch, f"{key}: no other VM acquired the identity meanwhile"
        assert bank.document("network-document") != signed, f"{bank.name} has the new parameters"
    consortium.say("every node has drained and restarted on its VM with the changed parameters")


def a_removed_member_leaves_the_network_map(consortium: Consortium) -> None:
    a, b, c = consortium.banks
    a.meet([b])
    consortium.await_known(a, "node-2", {NOTARY, NODE, B})
    consortium.say("bank A dropped bank C: its nodes forgot it")
    assert name_key(C) in {name_key(name) for name in b.known_members("node-1")}, "each bank chooses its own peers"
    assert c.holder("node-1"), "the removed member's node continues"


def reachable(bank: LabBank, identity: str, members: int) -> Callable[[], bool]:
    """A condition: the health of an identity's holder lists exactly `members` other members, all reachable."""

    def look() -> bool:
        vm = bank.holder(identity)
        reached = vm.health().get("reached", {}) if vm else {}
        return len(reached) == members and all(reached.values())

    return look
