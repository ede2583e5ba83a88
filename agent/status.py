"""What an agent says of itself: its health endpoint, its metrics and systemd read it."""

from dataclasses import dataclass, field
from enum import StrEnum

from ledger.software import Figure, Readiness


class State(StrEnum):
    """Where an agent stands."""

    STARTING = "starting"
    """It has not yet reached the lease store."""
    STANDBY = "standby"
    """It waits for an identity."""
    HOLDING = "holding"
    """It holds an identity, and its node starts or runs."""
    DRAINING = "draining"
    """It holds an identity whose node takes nothing new and ends what it has begun."""
    STOPPING = "stopping"
    """It gives its identity back and ends."""


@dataclass
class Status:
    """The agent's own view of its VM; changed by the agent alone."""

    vm: str
    state: State = State.STARTING
    identity: str | None = None
    epoch: int | None = None
    readiness: Readiness = Readiness.DOWN
    reason: str | None = None
    """What it waits for, or what is wrong outside of it; None when all is well."""
    takeovers: int = 0
    """How often it took an identity whose holder before never gave it back."""
    lease_latency: float = 0.0
    """Seconds that the last renewal took."""
    members: dict[str, str] = field(default_factory=dict)
    """Why what a member tells is not taken, or can't be had, by its name; under its own, what else keeps the members
    from each other."""
    figures: dict[Figure, float] = field(default_factory=dict)
