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
    figures: dict[Figure, float] = field(default_factory=dict)
