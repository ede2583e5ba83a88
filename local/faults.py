"""What may befall banks on this machine, each with a beginning and an end; and histories of it, made by chance."""

import random
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

from agent.agent import DRAIN_SECONDS, END_SECONDS
from local.bank import Bank, Plan
from local.process import NODE


class Kind(StrEnum):
    """What happens."""

    VM_KILLED = "VM killed"
    """At its end a new one is there."""
    VM_DRAINED = "VM drained"
    """It is told to stop and gives its identity back; at the end a new one is there."""
    VM_FROZEN = "VM frozen"
    """It stands still, all of it, for shorter or longer than its lease lasts."""
    VM_CUT_OFF = "VM cut off from its services"
    NODE_KILLED = "node killed"
    """Its VM's agent starts it again."""
    BANK_UNREACHABLE = "bank reached by nobody"
    """Its load balancer stands still; what its nodes dial themselves goes on."""
    DATABASE_CRASHED = "database crashed"


SECONDS: dict[Kind, tuple[float, float]] = {
    Kind.VM_KILLED: (5, 40),
    Kind.VM_DRAINED: (0, 20),
    Kind.VM_FROZEN: (5, 60),
    Kind.VM_CUT_OFF: (5, 70),
    Kind.NODE_KILLED: (0, 0),
    Kind.BANK_UNREACHABLE: (5, 60),
    Kind.DATABASE_CRASHED: (1, 15),
}
"""How long each lasts, at least and at most."""
OF_A_VM = frozenset({Kind.VM_KILLED, Kind.VM_DRAINED, Kind.VM_FROZEN, Kind.VM_CUT_OFF})
"""While these last, and until it is well again, a VM is out."""
OF_A_BANK = frozenset({Kind.BANK_UNREACHABLE, Kind.DATABASE_CRASHED})
_AT_ONCE = (1, 1, 2, 3)
_LATER = 20.0
_PAUSE = (0.0, 30.0)


@dataclass(frozen=True)
class Fault:
    """One of them."""

    kind: Kind
    bank: str
    identity: str | None
    """Whose VM it befalls: the one that holds this identity when the round begins, or None for a standby."""
    after: float
    """Seconds from the beginning of its round."""
    seconds: float


@dataclass(frozen=True)
class Round:
    """Faults that may overlap. The next round's come when all is well again, and has been for a while."""

    faults: tuple[Fault, ...]
    pause: float
    """How long a while that is, in seconds."""


def rounds(plans: Sequence[Plan], seed: int) -> Iterator[Round]:
    """A history without an end; the same for the same seed.

    Of a bank no more VMs are out in a round than it has standbys, and of each VM one thing is asked at a time. All
    kinds come equally often.

    Raises:
        ValueError: no bank has a standby.
    """
    if not any(plan.standbys for plan in plans):
        raise ValueError(f"standbys of {', '.join(plan.name for plan in plans)}: 0; wanted at least one")
    chance, kinds = random.Random(seed), list[Kind]()  # noqa: S311
    while True:
        yield Round(_drawn(plans, chance, kinds), chance.uniform(*_PAUSE))


def _drawn(plans: Sequence[Plan], chance: random.Random, kinds: list[Kind]) -> tuple[Fault, ...]:
    """The faults of a round, of the kinds that are left to come."""
    faults: list[Fault] = []
    standbys = {plan.name: plan.standbys for plan in plans}
    victims: dict[str, list[str | None]] = {
        plan.name: [*(each.name for each in plan.nodes), *[None] * plan.standbys] for plan in plans
    }
    for _ in range(chance.choice(_AT_ONCE)):
        if not kinds:
            kinds.extend(chance.sample(list(Kind), len(Kind)))
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
        faults.append(Fault(kinds.pop(), bank, victim, after, chance.uniform(*SECONDS[kind])))
    return tuple(faults)


@contextmanager
def suffered(kind: Kind, bank: Bank, number: int = 0) -> Iterator[None]:
    """A fault that has begun when the block begins, and ends with it.

    Args:
        kind: what happens.
        bank: to whom.
        number: of the VM, where it befalls one.

    Raises:
        subprocess.TimeoutExpired: a VM that is to drain does not end.
        RuntimeError: it ends by a fault.
    """
    match kind:
        case Kind.VM_KILLED:
            bank.vm(number).end()
            yield
            bank.start_vm(number)
        case Kind.VM_DRAINED:
            process = bank.vm(number).process
            process.terminate()
            if status := process.wait(DRAIN_SECONDS + END_SECONDS):
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
