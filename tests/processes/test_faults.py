"""Histories of faults, network cuts, and their reports; `lab.banks.soak` runs them on real nodes."""

import contextlib
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, islice, pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from agent.lease import IdentityRecord
from contract.timing import LEASE
from lab.banks import balancer, postgres, soak
from lab.banks.bank import BankPlan
from lab.banks.faults import FAULT_SECONDS, OF_A_BANK, OF_A_VM, Kind, rounds
from lab.banks.scenario import Outcome
from lab.banks.site import Loopback
from lab.banks.soak import BrokenError, Soak
from lab.banks.wires import Wires, wires

PLANS = [
    BankPlan("bank-a", "O=Bank A, L=London, C=GB", Loopback(41), identities=3, vms=4, roles={"node-1": "notary"}),
    BankPlan("bank-b", "O=Bank B, L=Paris, C=FR", Loopback(42), identities=1, vms=3),
]
SEEDS = range(50)


def test_no_more_vms_are_down_than_there_are_standbys() -> None:
    for history in chain.from_iterable(islice(rounds(PLANS, seed), 100) for seed in SEEDS):
        assert history.faults, "each round has a fault"
        for plan in PLANS:
            here = [fault for fault in history.faults if fault.bank == plan.name]
            assert sum(fault.kind in OF_A_VM for fault in here) <= plan.standbys, f"{history}: an identity has no VM"
            on_vms = Counter(fault.identity for fault in here if fault.kind not in OF_A_BANK)
            assert on_vms.pop(None, 0) <= plan.standbys, f"{history}: no more than exist"
            assert set(on_vms) <= {each.name for each in plan.nodes}, f"{history}: it has such identities"
            assert set(on_vms.values()) <= {1}, f"{history}: a VM has one fault at a time"


def test_a_seed_makes_one_history() -> None:
    histories = [list(islice(rounds(PLANS, seed), 30)) for seed in SEEDS]
    assert histories == [list(islice(rounds(PLANS, seed), 30)) for seed in SEEDS]
    assert all(one != other for one, other in pairwise(histories)), "another seed makes another history"


def test_every_kind_occurs_everywhere_in_an_hour() -> None:
    faults = [fault for history in islice(rounds(PLANS, 1), 30) for fault in history.faults]
    kinds = Counter(fault.kind for fault in faults)
    assert set(kinds) == set(Kind) - {Kind.GATEWAY_INSTANCE_LOST}, "these banks have no gateways"
    assert max(kinds.values()) - min(kinds.values()) <= 1, "it occurs as often as the others"
    assert {(fault.bank, fault.identity) for fault in faults if fault.kind in OF_A_VM} == {
        (plan.name, name) for plan in PLANS for name in (*(each.name for each in plan.nodes), None)
    }, "each identity's VM, the notary's among them, and standbys"
    assert any(len(history.faults) > 1 for history in islice(rounds(PLANS, 1), 30)), "some overlap"


class Linked(Loopback):
    """A bank that a gateway links with the others."""

    linked = True


def test_banks_with_gateways_lose_instances_of_these_too() -> None:
    plans = [replace(plan, site=Linked(51 + place)) for place, plan in enumerate(PLANS)]
    faults = [fault for history in islice(rounds(plans, 1), 30) for fault in history.faults]
    lost = {fault.bank for fault in faults if fault.kind is Kind.GATEWAY_INSTANCE_LOST}
    assert {fault.kind for fault in faults} == set(Kind)
    assert lost == {plan.name for plan in plans}, "gateways of both banks"


def test_some_freezes_and_cuts_are_shorter_than_a_lease_and_others_longer() -> None:
    for kind in (Kind.VM_FROZEN, Kind.VM_CUT_OFF):
        shortest, longest = FAULT_SECONDS[kind]
        assert shortest < LEASE.lease_seconds < longest


def test_banks_without_a_standby_are_refused() -> None:
    plan = BankPlan("bank-c", "O=Bank C, L=Milan, C=IT", Loopback(43), vms=1)
    with pytest.raises(ValueError, match="standbys of bank-c: 0; wanted at least one"):
        next(rounds([plan], 1))


REPORTED = {"sent": 9, "committed": 9, "refused": 0, "unanswered": 0, "versions": 9, "digest": "d"}
COUNT = {"records": 3, "versions": 9, "doubled": 0, "digest": "d"}


@pytest.mark.parametrize(
    ("reported", "count", "wrong"),
    [
        ({}, {}, ""),
        ({}, {"versions": 8, "digest": "e"}, "1 lost"),
        ({}, {"versions": 10, "digest": "e"}, "1 doubled"),
        ({}, {"doubled": 2}, "2 doubled"),
        ({}, {"digest": "e"}, "digests differ"),
        ({"unanswered": 1}, {}, "1 unanswered"),
        ({"refused": 1}, {}, "1 refused"),
    ],
)
def test_an_incomplete_result_is_reported(reported: dict[str, object], count: dict[str, object], wrong: str) -> None:
    result = Outcome.of({**REPORTED, **reported}, {"bank-a": COUNT, "bank-b": {**COUNT, **count}})
    assert result.whole == (not wrong)
    assert wrong in str(result)


@pytest.fixture
def cable(tmp_path: Path) -> Iterator[tuple[Wires, int]]:
    """Wires to an echo, and its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def serve(connection: socket.socket) -> None:
            # Ended wires reset their connections.
            with connection, contextlib.suppress(ConnectionError):
                while received := connection.recv(100):
                    connection.sendall(received)

        def accept() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        with wires({"echo": port}, tmp_path / "wires") as made:
            yield made, port
        server.shutdown(socket.SHUT_RDWR)


@pytest.mark.skipif(not balancer.available(), reason="no HAProxy here")
def test_cut_wires_drop_packets_and_refuse_no_connection(cable: tuple[Wires, int]) -> None:
    made, port = cable
    with socket.create_connection(("127.0.0.1", made.ports[port]), timeout=5) as before:
        before.sendall(b"one")
        assert before.recv(100) == b"one"
        made.cut()
        before.settimeout(0.5)
        before.sendall(b"two")
        with pytest.raises(TimeoutError):
            before.recv(100)
        with socket.create_connection(("127.0.0.1", made.ports[port]), timeout=0.5) as during:
            during.sendall(b"three")
            with pytest.raises(TimeoutError):
                during.recv(100)
            made.mend()
            for connection, sent in ((before, b"two"), (during, b"three")):
                connection.settimeout(5)
                assert connection.recv(100) == sent, "packets on the way arrive late"


@pytest.mark.skipif(not balancer.available(), reason="no HAProxy here")
def test_urls_keep_all_but_the_port(cable: tuple[Wires, int]) -> None:
    made, port = cable
    assert made.url(f"https://localhost:{port}/account") == f"https://localhost:{made.ports[port]}/account"


@pytest.mark.skipif(postgres.missing() is not None, reason=str(postgres.missing()))
def test_a_crashed_database_has_its_committed_data() -> None:
    with postgres.server() as server:
        with server.connect() as connection:
            connection.execute("CREATE TABLE records (version integer)")
            connection.execute("INSERT INTO records VALUES (1)")
        session = server.connect()
        session.execute("INSERT INTO records VALUES (2)")
        server.crash()
        with pytest.raises(psycopg.OperationalError):
            session.execute("SELECT 1")
        server.start()
        with server.connect() as connection:
            assert connection.execute("SELECT version FROM records").fetchall() == [(1,)]


class FakeBank:
    """A bank of one identity and two VMs with reports that a test sets."""

    name, plan = "bank-b", BankPlan("bank-b", "O=Bank B, L=Paris, C=FR", Loopback(42), identities=1, vms=2)
    identities = plan.nodes

    def __init__(self) -> None:
        self.record_now = IdentityRecord().acquired("vm-1", "t1")
        self.reports: dict[int, dict[str, Any]] = {1: ready(1), 2: STANDBY}

    def vm(self, number: int) -> Any:
        return SimpleNamespace(name=f"vm-{number}", health=lambda: self.reports[number])

    def record(self, identity: str) -> IdentityRecord:
        assert identity == "node-1"
        return self.record_now


STANDBY = {"state": "standby", "identity": None, "epoch": None, "node": "down"}


def ready(epoch: int) -> dict[str, Any]:
    return {"state": "holding", "identity": "node-1", "epoch": epoch, "node": "ready"}


@pytest.fixture
def bank() -> FakeBank:
    return FakeBank()


@pytest.fixture
def playing(bank: FakeBank, monkeypatch: pytest.MonkeyPatch) -> Soak:
    monkeypatch.setattr(soak, "_SOAK_LOOK_SECONDS", 0)
    monkeypatch.setattr(soak, "WELL_SECONDS", 0)
    made: Any = SimpleNamespace(a=bank, b=bank, say=print)
    stream: Any = SimpleNamespace(check=lambda: None)
    return Soak(made, stream)


def test_a_bank_is_recovered_when_the_newest_epoch_is_ready_and_the_standbys_wait(
    bank: FakeBank, playing: Soak
) -> None:
    assert playing.look()
    bank.reports[2] = {}
    assert not playing.look(), "a VM does not answer"
    bank.reports[2] = STANDBY
    bank.record_now = bank.record_now.acquired("vm-2", "t2")
    assert not playing.look(), "the ready VM was superseded"
    assert not playing.takeovers, "no VM is ready in the new epoch yet"
    bank.reports = {1: STANDBY, 2: ready(2)}
    assert playing.look()
    assert playing.look()
    assert len(playing.takeovers) == 1, "counted once"


@pytest.mark.parametrize(
    "later",
    [
        pytest.param(IdentityRecord().acquired("vm-2", "t1"), id="shared"),
        pytest.param(IdentityRecord().acquired("vm-1", "t2"), id="acquired again"),
        pytest.param(IdentityRecord(), id="taken back"),
        pytest.param(IdentityRecord(epoch=2).acquired("vm-2", "t3").model_copy(update={"epoch": 4}), id="skipped"),
    ],
)
def test_a_history_that_goes_back_is_reported(later: IdentityRecord, bank: FakeBank, playing: Soak) -> None:
    playing.look()
    bank.record_now = later
    with pytest.raises(BrokenError, match=r"bank-b node-1: .*; wanted what goes on from"):
        playing.look()


def test_two_vms_that_are_ready_in_one_epoch_are_reported(bank: FakeBank, playing: Soak) -> None:
    bank.reports[2] = bank.reports[1]
    with pytest.raises(BrokenError, match="bank-b node-1: ready on VMs 1 and 2 in epoch 1; wanted one"):
        playing.look()


def test_a_longer_history_may_have_the_reason_of_a_release(bank: FakeBank, playing: Soak) -> None:
    playing.look()
    bank.record_now = bank.record_now.released("t2", "SIGTERM").acquired("vm-2", "t3")
    playing.look()
