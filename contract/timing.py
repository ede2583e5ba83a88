"""Seconds of the lease, a planned stop and a standby, with the order that makes them safe.

agent/README.md has a time line of them. As in client-go's LeaderElectionConfig, a wrong order is refused at once.
"""

from dataclasses import dataclass


def _check(**rules: bool) -> None:
    if broken := [name.replace("_", " ") for name, holds in rules.items() if not holds]:
        raise ValueError(f"seconds out of order; wanted: {'; '.join(broken)}")


@dataclass(frozen=True, kw_only=True)
class LeaseTiming:
    """Seconds of a lease. Deadlines count from the moment at which the last successful renewal was *sent*.

    Raises:
        ValueError: in this order a new holder could start before the old one has stopped.
    """

    lease_seconds: int = 20
    """Duration of the lease: 15 to 60, learn.microsoft.com/rest/api/storageservices/lease-blob."""
    renew_seconds: float = 4
    """A renewal is due."""
    retry_seconds: float = 1
    """Pause after a failed renewal."""
    request_seconds: float = 4
    """Timeout of a request."""
    stop_seconds: float = 14
    """Deadline at which the node begins to stop."""
    kill_seconds: float = 19
    """Deadline by which every process of the node has ended, before the lease lapses."""
    watchdog_seconds: int = 5
    """A hung agent is killed with its node this long after its last heartbeat, sent at `stop_seconds` or earlier."""
    beat_seconds: float = 1
    """Interval of heartbeats."""

    def __post_init__(self) -> None:
        _check(
            lease_of_15_to_60=15 <= self.lease_seconds <= 60,
            two_renewals_before_the_stop=self.renew_seconds + self.request_seconds + self.retry_seconds
            < self.stop_seconds,
            stop_before_kill=self.stop_seconds < self.kill_seconds,
            kill_before_lapse=self.kill_seconds < self.lease_seconds,
            hung_agent_killed_by_then=self.stop_seconds + self.watchdog_seconds <= self.kill_seconds,
            two_beats_before_the_watchdog=2 * self.beat_seconds < self.watchdog_seconds,
        )

    @property
    def returning_seconds(self) -> float:
        """Longest time until all holders have renewed, once a lost lease store answers again."""
        return self.request_seconds + self.retry_seconds + 1


@dataclass(frozen=True, kw_only=True)
class FailsafeTiming:
    """Seconds of a node that runs on without the lease store, on proofs that no other VM is the holder.

    Deadlines count from the moment at which the last successful proof was *sent*.

    Raises:
        ValueError: in this order the node would have to stop before a proof can arrive.
    """

    prove_seconds: float = 8
    """A proof is due."""
    retry_seconds: float = 1
    """Pause after a failed proof."""
    request_seconds: float = 3
    """Timeout of a proof."""
    stop_seconds: float = 12
    """Deadline at which the node begins to stop."""
    kill_seconds: float = 18
    """Deadline by which every process of the node has ended."""
    report_seconds: float = 60
    """The store's outage is reported after this time."""

    def __post_init__(self) -> None:
        lease = LeaseTiming()
        _check(
            two_proofs_before_the_lease_stops=lease.renew_seconds
            + lease.request_seconds
            + self.request_seconds
            + self.retry_seconds
            < lease.stop_seconds,
            next_proof_before_the_stop=self.prove_seconds + self.request_seconds < self.stop_seconds,
            stop_before_kill=self.stop_seconds < self.kill_seconds,
            hung_agent_killed_by_then=self.stop_seconds + lease.watchdog_seconds <= self.kill_seconds,
            no_report_of_what_a_lease_outlives=lease.lease_seconds < self.report_seconds,
        )


@dataclass(frozen=True, kw_only=True)
class StopTiming:
    """Seconds of a planned stop, which Azure announces before it ends a VM.

    Raises:
        ValueError: the stop takes longer than the notice.
    """

    notice_seconds: int = 600
    """Longest notice that Azure gives, learn.microsoft.com/azure/virtual-machine-scale-sets."""
    drain_seconds: int = 480
    """Longest drain of a node before a planned stop."""
    process_seconds: int = 60
    """Longest stop of a process, whatever it asks for."""
    release_seconds: int = 30
    """Time limit for writing the identity's record and releasing its lease."""

    def __post_init__(self) -> None:
        _check(stop_within_the_notice=self.total_seconds <= self.notice_seconds)

    @property
    def end_seconds(self) -> int:
        """Time after the drain: stop and release."""
        return self.process_seconds + self.release_seconds

    @property
    def total_seconds(self) -> int:
        """The whole stop: systemd waits this long before it kills."""
        return self.drain_seconds + self.end_seconds


@dataclass(frozen=True, kw_only=True)
class StandbyTiming:
    """Seconds of a standby: how often it polls for an identity, and checks its prerequisites.

    Raises:
        ValueError: a global outage could be mistaken for a fault of one VM.
    """

    poll_seconds: float = 1.0
    """Longest pause between polls for a free identity, for each standby: multiplied by their number."""
    poll_spread: tuple[float, float] = (0.6, 1.0)
    """Random factor of each pause, so that standbys do not poll at the same time."""
    longest_poll_seconds: float = 14
    """Longest pause, whatever number the VMs announce."""
    documents_seconds: float = 40
    """Pause between checks for changed documents of the bank."""
    count_seconds: float = 60
    """Interval at which a standby counts the standbys."""
    check_seconds: float = 30
    """Interval of checks of a prerequisite that cost nothing."""
    costly_check_seconds: float = 120
    """Interval of checks that cost a request, a connection or a process."""
    recheck_seconds: float = 10
    """Interval of checks while the prerequisite is not met."""
    answer_seconds: float = 20
    """Timeout of a check."""
    presence_lease_seconds: int = 60
    """A VM counts as healthy this long after it said so: 15 to 60, as `LeaseTiming.lease_seconds`."""
    presence_seconds: float = 40
    """Interval at which a healthy VM says so."""
    give_up_seconds: float = 180
    """A holder that can't serve its identity for this long gives it up, if a standby is healthy."""
    confirm_seconds: float = 100
    """The standby must have been healthy for this long: at the end of an outage it may be the first to notice."""
    sick_drain_seconds: float = 60
    """Longest drain of a node whose VM gives up its identity."""
    unhealthy_seconds: float = 600
    """A VM that alone lacks a prerequisite for this long asks to be replaced."""
    clock_seconds: float = 15
    """Largest clock error of a VM: half of the tolerance of 30 s that Corda's time windows usually have."""

    def __post_init__(self) -> None:
        _check(
            presence_renewed_before_it_lapses=self.presence_seconds + self.recheck_seconds
            < self.presence_lease_seconds,
            standbys_notice_an_outage_before_a_holder_gives_up=self.costly_check_seconds
            + self.answer_seconds
            + self.recheck_seconds
            < self.give_up_seconds,
            standby_watched_before_it_is_given_up=self.confirm_seconds + self.recheck_seconds < self.give_up_seconds,
            given_up_before_replaced=self.give_up_seconds + self.sick_drain_seconds < self.unhealthy_seconds,
        )


LEASE = LeaseTiming()
FAILSAFE = FailsafeTiming()
PLANNED_STOP = StopTiming()
STANDBY = StandbyTiming()
AUTHORITY_ROUND_SECONDS = 15.0
"""Pause of an authority's VM between two runs of its due tasks."""
SECRET_POLL_SECONDS = 120
"""Age at which a secret of the bank's vault is read again. The vault logs each read, by every VM for every peer: the
largest part of a bank's logs."""
