"""A real Corda network of banks, formed by their agents from the cards alone; one moves, one restarts, one joins.

Real: Corda, PostgreSQL over TLS, leases and documents in Azurite, HAProxy as each bank's balancer. A vault's endpoint
stands for Key Vault.
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

from agent.lease import LEASE_SECONDS
from ledger.corda import certificates
from local import azurite, balancer, corda
from local.bank import Bank, Plan
from local.process import NODE as NODE_PROCESS
from local.process import VmProcess, until

pytestmark = [
    pytest.mark.ledger,
    pytest.mark.skipif(corda.missing() is not None, reason=f"no Corda here: {corda.missing()}"),
    pytest.mark.skipif(not azurite.available(), reason="no node and npm here; wanted them for Azurite"),
    pytest.mark.skipif(not balancer.available(), reason="no HAProxy here; wanted it as the banks' balancer"),
]
NOTARY, NODE, B, C = (
    "OU=node-1, O=Bank A, L=London, C=GB",
    "OU=node-2, O=Bank A, L=London, C=GB",
    "OU=node-1, O=Bank B, L=Paris, C=FR",
    "OU=node-1, O=Bank C, L=Milan, C=IT",
)
START_SECONDS = 300
"""Corda starts in half a minute; several at once, with migrations before, take their time on a small machine."""


@dataclass
class Consortium:
    """The banks of the test, and when things happened."""

    folder: Path
    blobs: str
    stack: ExitStack
    banks: list[Bank] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    def say(self, what: str) -> None:
        print(f"{time.monotonic() - self.began:6.1f} s  {what}", flush=True)

    def bank(self, plan: Plan) -> Bank:
        made = Bank(
            plan, self.folder / plan.name, self.blobs, corda.installed(), self.banks[0] if self.banks else None
        )
        self.stack.callback(made.end)
        made.start()
        self.banks.append(made)
        return made

    def await_known(self, bank: Bank, identity: str, names: set[str], seconds: float) -> None:
        wanted = {certificates.name_key(name) for name in names}

        def known() -> bool:
            return {certificates.name_key(name) for name in bank.known_members(identity)} == wanted

        until(known, seconds, f"{bank.name} {identity} knows {names}; it knows {bank.known_members(identity)}")


@pytest.fixture(scope="module")
def consortium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consortium]:
    with ExitStack() as stack:
        blobs, _ = stack.enter_context(azurite.blob_service())
        yield Consortium(tmp_path_factory.mktemp("consortium"), blobs, stack)


def held(bank: Bank, identity: str) -> VmProcess:
    vm = bank.holder(identity)
    assert vm, f"{bank.name}: nobody holds {identity}, or its node is not ready"
    return vm


def node_processes(vm: VmProcess) -> list[int]:
    return vm.running(NODE_PROCESS)


def ready_elsewhere(bank: Bank, identity: str, before: VmProcess) -> VmProcess | None:
    vm = bank.holder(identity)
    return vm if vm is not before else None


def epochs(bank: Bank, identity: str) -> list[int]:
    return [each.epoch for each in bank.record(identity).history]


def test_a_network_forms_from_cards_alone(consortium: Consortium) -> None:
    a = consortium.bank(
        Plan(
            "bank-a",
            "O=Bank A, L=London, C=GB",
            31,
            identities=2,
            vms=3,
            roles={"node-1": "notary"},
            authority_vms=2,
        )
    )
    b = consortium.bank(Plan("bank-b", "O=Bank B, L=Paris, C=FR", 32))
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
        consortium.await_known(bank, identity, {NOTARY, NODE, B}, 120)
    consortium.say("every node knows every other one")
    standbys = [vm.health() for vm in (*a.vms, *b.vms) if vm.health().get("state") == "standby"]
    assert len(standbys) == 2, "more VMs than identities: the others wait"
    assert {each["ApplicationHealthState"] for each in standbys} == {"Healthy"}


def test_a_node_that_fails_is_started_again_on_its_vm(consortium: Consortium) -> None:
    b = consortium.banks[1]
    vm, before = held(b, "node-1"), epochs(b, "node-1")
    killed = node_processes(vm)
    assert killed, "a node is a Java process of its VM"
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    until(lambda: node_processes(vm) not in ([], killed), 60, "another process")
    until(partial(b.holder, "node-1"), START_SECONDS, "ready again")
    consortium.say("a node that was killed is ready again")
    assert held(b, "node-1") is vm, "on the same VM"
    assert epochs(b, "node-1") == before, "in the same epoch: nobody else had reason to take the identity"
    consortium.await_known(b, "node-1", {NOTARY, NODE, B}, 60)


def test_an_identity_moves_to_a_standby(consortium: Consortium) -> None:
    a, b = consortium.banks
    vm, before = held(b, "node-1"), b.known_members("node-1")
    vm.end()
    died = time.monotonic()
    other = until(partial(ready_elsewhere, b, "node-1", vm), LEASE_SECONDS + START_SECONDS, "taken over")
    consortium.say(f"a VM that was killed is replaced by {other.name} after {time.monotonic() - died:.1f} s")
    assert b.known_members("node-1") == before, "it is the same node: its database came along"
    record = b.record("node-1")
    assert [each.vm for each in record.history][-2:] == [vm.name, other.name], "the record shows who held it when"
    until(reachable(a, "node-2", 2), 120, "bank A's node reaches bank B's at the address on its card")


def test_a_third_member_joins_while_the_others_run(consortium: Consortium) -> None:
    a, b = consortium.banks
    running = {bank.name: {pid for vm in bank.vms for pid in node_processes(vm)} for bank in (a, b)}
    c = consortium.bank(Plan("bank-c", "O=Bank C, L=Milan, C=IT", 33, vms=1))
    c.meet([a, b])
    a.meet([b, c])
    b.meet([a, c])
    c.start_vm(1)
    c.await_ready(START_SECONDS)
    consortium.say("the third member's node is ready")
    everyone = {NOTARY, NODE, B, C}
    for bank, identity in ((a, "node-1"), (a, "node-2"), (b, "node-1"), (c, "node-1")):
        consortium.await_known(bank, identity, everyone, 180)
    consortium.say("everyone knows the third member, and it knows everyone")
    assert running == {bank.name: {pid for vm in bank.vms for pid in node_processes(vm)} for bank in (a, b)}, (
        "a member that joins restarts nobody"
    )


def test_the_counters_tell_of_the_network(consortium: Consortium) -> None:
    a = consortium.banks[0]
    until(reachable(a, "node-2", 3), 120, "three members known, and all of them reachable")


def test_changed_parameters_are_followed_node_by_node(consortium: Consortium) -> None:
    a, b, c = consortium.banks
    nodes = [(a, "node-1"), (a, "node-2"), (b, "node-1"), (c, "node-1")]
    before = {(bank.name, identity): (held(bank, identity), epochs(bank, identity)) for bank, identity in nodes}
    running = {key: node_processes(vm) for key, (vm, _) in before.items()}
    signed = a.document("network-document")
    a.event_horizon_days += 1
    for number, vm in enumerate(list(a.authority_vms), 1):
        vm.process.terminate()
        assert vm.process.wait(timeout=30) == 0, "an authority's VM ends in order"
        a.start_authority_vm(number)
    for bank, identity in nodes:
        key = bank.name, identity
        vm, epoch = before[key]
        until(lambda vm=vm, key=key: not set(node_processes(vm)) & set(running[key]), 300, f"{key} starts anew")
        until(partial(bank.holder, identity), START_SECONDS, f"{key} ready again")
        assert held(bank, identity) is vm, f"{key}: on its VM"
        assert epochs(bank, identity) == epoch, f"{key}: nobody else took the identity meanwhile"
        assert bank.document("network-document") != signed, f"{bank.name} has the new parameters"
    consortium.say("every node follows the changed parameters, drained and started anew where it was")


def test_a_member_that_is_dropped_is_forgotten(consortium: Consortium) -> None:
    a, b, c = consortium.banks
    a.meet([b])
    consortium.await_known(a, "node-2", {NOTARY, NODE, B}, 120)
    consortium.say("bank A dropped bank C: its nodes forgot it")
    assert certificates.name_key(C) in {certificates.name_key(name) for name in b.known_members("node-1")}, (
        "who is a peer of whom, each bank decides for itself"
    )
    assert c.holder("node-1"), "a node that is dropped by another goes on"


def reachable(bank: Bank, identity: str, members: int) -> Callable[[], bool]:
    """Whether the node of an identity reaches so many members, itself among them."""

    def look() -> bool:
        vm = bank.holder(identity)
        figures = vm.health().get("figures", {}) if vm else {}
        return bool(figures.get("members-known") == figures.get("members-reachable") == members)

    return look
