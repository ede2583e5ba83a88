"""Faults of banks on this machine, each with a beginning and an end; and random histories of faults."""

import random
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

from contract.timing import PLANNED_STOP
from lab.banks.bank import BankPlan, LabBank
from lab.banks.process import NODE


class Kind(StrEnum):
    """The kind of a fault."""

    VM_KILLED = "VM killed"
    """A new VM replaces it at the fault's end."""
    VM_DRAINED = "VM drained"
    """The VM gets SIGTERM and releases its identity; a new VM replaces it at the fault's end."""
    VM_FROZEN = "VM frozen"
    """All processes of the VM are suspended, for a shorter or longer time than its lease."""
    VM_CUT_OFF = "VM cut off from its services"
    """No packet passes between the VM and storage, database and vaults."""
    NODE_KILLED = "node killed"
    """A node's process is killed; the agent restarts it."""
    BANK_UNREACHABLE = "load balancer suspended"
    """The load balancer is suspended; connections that its nodes open themselves continue."""
    DATABASE_CRASHED = "database crashed"
    """The server ends without a shutdown; it starts again at the fault's end."""
    GATEWAY_INSTANCE_LOST = "gateway instance lost"
    """Traffic moves to the gateway's other instance; a new one comes up at the fault's end. Only with links."""


FAULT_SECONDS: dict[Kind, tuple[float, float]] = {
    Kind.VM_KILLED: (5, 40),
    Kind.VM_DRAINED: (0, 20),
    Kind.VM_FROZEN: (5, 60),
    Kind.VM_CUT_OFF: (5, 70),
    Kind.NODE_KILLED: (0, 0),
    Kind.BANK_UNREACHABLE: (5, 60),
    Kind.DATABASE_CRASHED: (1, 15),
    Kind.GATEWAY_INSTANCE_LOST: (5, 60),
}
"""The minimum and maximum duration of each kind, in seconds."""
OF_A_VM = frozenset({Kind.VM_KILLED, Kind.VM_DRAINED, Kind.VM_FROZEN, Kind.VM_CUT_OFF})
"""Faults during which, and until it has recovered, a VM can't run an identity."""
OF_A_BANK = frozenset({Kind.BANK_UNREACHABLE, Kind.DATABASE_CRASHED, Kind.GATEWAY_INSTANCE_LOST})
"""Faults that affect a whole bank."""
_AT_ONCE = (1, 1, 2, 3)
_LATER = 20.0
_PAUSE = (0.0, 30.0)


@dataclass(frozen=True)
class Fault:
    """One fault."""

    kind: Kind
    bank: str
    identity: str | None
    """The identity whose holder at the beginning of the round is affected; None for a standby VM."""
    after: float
    """Seconds from the beginning of the round to that of the fault."""
    seconds: float
    """The fault's duration."""


@dataclass(frozen=True)
class Round:
    """Faults that may overlap. The next round begins `pause` after all banks have recovered."""

    faults: tuple[Fault, ...]
    pause: float
    """Seconds without faults after the recovery."""


def rounds(plans: Sequence[BankPlan], seed: int) -> Iterator[Round]:
    """An endless random history of faults, the same for the same seed.

    In a round, at most as many VMs of a bank are out as it has standbys, and each VM has at most one fault. All
    kinds occur equally often.

    Raises:
        ValueError: no bank has a standby.
    """
    if not any(plan.standbys for plan in plans):
        raise ValueError(f"standbys of {', '.join(plan.name for plan in plans)}: 0; wanted at least one")
    chance, kinds = random.Random(seed), list[Kind]()  # noqa: S311
    while True:
        yield Round(_drawn(plans, chance, kinds), chance.uniform(*_PAUSE))


def kinds_at(plans: Sequence[BankPlan]) -> list[Kind]:
    """The kinds of faults that these banks can have."""
    linked = all(plan.site.linked for plan in plans)
    return [kind for kind in Kind if linked or kind is not Kind.GATEWAY_INSTANCE_LOST]


def _drawn(plans: Sequence[BankPlan], chance: random.Random, kinds: list[Kind]) -> tuple[Fault, ...]:
    """The faults of one round; `kinds` holds the kinds that have yet to occur before all are drawn again."""
    faults: list[Fault] = []
    standbys = {plan.name: plan.standbys for plan in plans}
    victims: dict[str, list[str | None]] = {
        plan.name: [*(each.name for each in plan.nodes), *[None] * plan.standbys] for plan in plans
    }
    possible = kinds_at(plans)
    for _ in range(chance.choice(_AT_ONCE)):
        if not kinds:
            kinds.extend(chance.sample(possible, len(possible)))
        kind = kinds[-1]
        places: list[tuple[str, str | None]]
        if kind in OF_A_BANK:
            befallen = {each.bank for each in faults if each.kind is kind}
            places = [(bank, None) for bank in victims if bank not in befallen]
        elif kind in OF_A_VM:
            places = [(bank, victim) for bank in victims if standbys[bank] for victim in victims[bank]]
        else:
            places = [(bank, victim) for bank in victims for victim in victims[bank] if victim]
        if not places:
            break
        bank, victim = chance.choice(places)
        if kind not in OF_A_BANK:
            victims[bank].remove(victim)
        standbys[bank] -= kind in OF_A_VM
        after = chance.uniform(0, _LATER) if faults else 0.0
        faults.append(Fault(kinds.pop(), bank, victim, after, chance.uniform(*FAULT_SECONDS[kind])))
    return tuple(faults)


@contextmanager
def injected(kind: Kind, bank: LabBank, number: int = 0) -> Iterator[None]:
    """Inject a fault for the duration of the block.

    Args:
        kind: the kind of fault.
        bank: the affected bank.
        number: the affected VM's number; ignored for a fault of a bank.

    Raises:
        subprocess.TimeoutExpired: a draining VM does not end.
        RuntimeError: a draining VM ends with an error.
    """
    match kind:
        case Kind.VM_KILLED:
            bank.vm(number).end()
            yield
            bank.start_vm(number)
        case Kind.VM_DRAINED:
            process = bank.vm(number).process
            process.terminate()
            if status := process.wait(PLANNED_STOP.total_seconds):
                raise RuntimeError(f"{bank.vm(number).name} ended with {status}; wanted 0 of one that drained")
            yield
            bank.start_vm(number)
        case Kind.VM_FROZEN:
            bank.vm(number).send(signal.SIGSTOP)
            yield
            bank.vm(number).send(signal.SIGCONT)
        case Kind.VM_CUT_OFF:
            bank.wires[number].cut()
            yield
            bank.wires[number].mend()
        case Kind.NODE_KILLED:
            bank.vm(number).kill(NODE)
            yield
        case Kind.BANK_UNREACHABLE:
            bank.balancer.send_signal(signal.SIGSTOP)
            yield
            bank.balancer.send_signal(signal.SIGCONT)
        case Kind.DATABASE_CRASHED:
            bank.server.crash()
            yield
            bank.server.start()
        case Kind.GATEWAY_INSTANCE_LOST:
            with bank.plan.site.without_a_gateway_instance():
                yield
