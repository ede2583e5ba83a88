"""A VM program's status, read by the health endpoint, the metrics and systemd."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum

from contract.metrics import Cause, Figure
from host import faults

STALE_LIST_SECONDS = 2 * 86_400
"""Revocation lists are signed each day, so an older one means that the authority or the way to it fails."""


class Readiness(IntEnum):
    """Readiness of a node."""

    DOWN = 0
    UP = 1
    """The node's processes answer."""
    READY = 2
    """The node takes part in the network."""


class State(StrEnum):
    """State of a VM's program."""

    STARTING = "starting"
    """The lease store has not answered yet."""
    STANDBY = "standby"
    """The VM waits for an identity."""
    HOLDING = "holding"
    """The VM holds an identity whose node starts or runs, or is an authority's."""
    DRAINING = "draining"
    """The VM holds an identity whose node takes no new work and finishes its flows."""
    STOPPING = "stopping"
    """The program releases what it holds and exits."""


@dataclass
class Status:
    """The state of a VM, written only by its program."""

    vm: str
    state: State = State.STARTING
    identity: str | None = None
    epoch: int | None = None
    readiness: Readiness = Readiness.DOWN
    reason: str | None = None
    """What the program waits for, or its fault; None if all is well."""
    cause: Cause = Cause.NODE
    """Cause of `reason`; meaningless if that is None. Never `Cause.FAULT`, for which see `faults.recent`."""
    lease: str | None = None
    """A fault of the lease or its record although the node runs, if any."""
    takeovers: int = 0
    """How often this VM acquired an identity that its last holder had not released."""
    deaths: int = 0
    """Deaths in a row of the identity's node soon after a start, on any VM."""
    lease_latency: float = 0.0
    """Duration of the last renewal in seconds."""
    lacks: dict[str, str] = field(default_factory=dict)
    """Why prerequisites of this VM are not met, by name."""
    unfit: bool = False
    """Whether the VM has long lacked something that other VMs have, so that it should be replaced."""
    members: dict[str, str] = field(default_factory=dict)
    """What is wrong with a member's network information, by its name; under this bank's, what else disturbs the
    exchange."""
    reached: Mapping[str, bool] = field(default_factory=dict)
    """Whether a node of another member takes a connection, by its name."""
    figures: dict[Figure, float] = field(default_factory=dict)
    days_left: dict[tuple[str, str | None], float] = field(default_factory=dict)
    """Days until something expires that a person must renew, by (what, member)."""
    member: str = ""
    """The bank's name in the consortium."""
    model: str | None = None
    """Hash of the VM's custom data and image; None without telemetry."""

    def causes(self) -> set[tuple[Cause, str | None]]:
        """Causes of the VM's impairment, each with the other member that it concerns."""
        found: set[tuple[Cause, str | None]] = {(Cause(name), None) for name in self.lacks}
        found |= {self._cause_at(name) for name in self.members}
        for there, cause in (
            (self.reason, self.cause),
            (self.lease, Cause.LEASES),
            (faults.recent(), Cause.FAULT),
            (self.figures.get(Figure.LIST_AGE, 0) > STALE_LIST_SECONDS, Cause.REVOCATION),
        ):
            if there:
                found.add((cause, None))
        return found

    def _cause_at(self, name: str) -> tuple[Cause, str | None]:
        if name in {self.identity, self.member}:
            return Cause.EXCHANGE, None
        return Cause.REFUSED if self.reached.get(name, True) else Cause.PEER, name

    def clear_lease_fault(self, fault: str) -> None:
        """Stop reporting a fault of the lease."""
        if self.lease == fault:
            self.lease = None
