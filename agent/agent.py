"""The agent of a node VM: acquires an identity's lease, runs the identity's node, and releases the lease."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

from agent.deaths import STEADY_SECONDS
from agent.failsafe import Failsafe
from agent.lease import IdentityRecord, Lease, LeaseRefusedError, LeaseStore
from agent.node import Node
from agent.prerequisites import Prerequisites
from agent.resources import OtherVms, Resources
from contract.identities import Identity
from contract.metrics import Cause
from contract.timing import LEASE, PLANNED_STOP, STANDBY, LeaseTiming
from host.clock import Clock
from host.errors import DamagedError, SupersededError, UnavailableError
from host.faults import reason_of, unexpected
from host.status import State, Status
from ledger.software import SoftwareError, WaitingError

MAX_FAILED_STARTS = 3
"""Failed starts of a node before its VM gives the identity up."""
AVOID_SECONDS = 300
"""How long a VM does not acquire an identity again after it gave it up."""
DAMAGE_SECONDS = 60
"""Pause before another start where only a person can repair what is damaged."""
_BACKOFF = (1.0, 30.0)

_T = TypeVar("_T")

log = logging.getLogger(__name__)


class Agent:
    """One VM's agent. It holds at most one identity."""

    def __init__(
        self,
        identities: Sequence[Identity],
        store: LeaseStore,
        resources: Resources,
        status: Status,
        *,
        clock: Clock | None = None,
        rng: random.Random | None = None,
        drain_seconds: float = PLANNED_STOP.drain_seconds,
        timing: LeaseTiming = LEASE,
    ) -> None:
        self._identities = {identity.name: identity for identity in identities}
        self._store, self._resources, self._status = store, resources, status
        self._clock, self._rng = clock or Clock(), rng or random.Random()  # noqa: S311
        self._stopping, self._skip_drain = asyncio.Event(), asyncio.Event()
        self._why_stopping, self._drain_seconds = "", drain_seconds
        self._avoided: dict[str, float] = {}
        self._timing = timing
        self._lease: Lease | None = None
        self._prerequisites = Prerequisites(resources.prerequisites, self._clock.now)
        self._changed = asyncio.Event()
        """Set when the agent acquires or releases an identity, and when the set of free identities changes."""
        self._free: frozenset[str] = frozenset()
        self._standbys = 1
        """Healthy standbys as last counted, this VM included."""

    def stop(self, why: str, seconds: float | None = None) -> None:
        """Have `run` drain the node, release the lease and return. May be called from a signal handler.

        Args:
            why: the reason, written to the identity's record.
            seconds: time left for drain, stop and release; None: no limit but `drain_seconds`.
        """
        if not self._stopping.is_set():
            self._why_stopping = why
            if seconds is not None:
                self._drain_seconds = min(self._drain_seconds, seconds - PLANNED_STOP.end_seconds)
        self._stopping.set()

    def skip_drain(self) -> None:
        """End the drain now, for example at a second signal."""
        self._skip_drain.set()

    @property
    def stopping(self) -> bool:
        """Whether `stop` was called."""
        return self._stopping.is_set()

    @property
    def may_run(self) -> bool:
        """Whether the watchdog may let the agent run: it holds no lease, or its node may still run."""
        return self._lease is None or self._lease.alive

    async def run(self) -> None:
        """Acquire, hold and release identities until `stop` is called.

        Raises:
            UnavailableError: processes of a stopped node can't be ended; systemd then kills them with the agent.
        """
        checking = self._prerequisites.keep_checking(lambda: self._lease is not None)
        async with _task(checking), _task(self._keep_announcing()):
            while not self._stopping.is_set():
                if lease := await self._wait_for_identity():
                    self._lease = lease
                    self._changed.set()
                    await self._hold(lease)
                    self._changed.set()
            self._status.state = State.STOPPING
        if self._resources.presence:
            with suppress(Exception):
                await self._resources.presence.withdraw()

    async def _wait_for_identity(self) -> Lease | None:
        async with _task(self._standby()) as waiting, _task(self._stopping.wait()) as stopping:
            await asyncio.wait({waiting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            await asyncio.wait({waiting})
            # The lease may be acquired just before the cancellation: then release it.
            return None if waiting.cancelled() else waiting.result()

    async def _standby(self) -> Lease:
        outage, earliest = False, 0.0
        while True:
            try:
                async with asyncio.timeout(self._timing.request_seconds):
                    leased = await self._store.leased()
                await self._prepare([name for name in self._identities if name not in leased])
                self._status.state, self._status.reason = State.STANDBY, None
                free = frozenset(name for name in self._identities if not leased.get(name, True))
                if self._free != free:
                    self._free = free
                    self._changed.set()
                now = self._clock.now()
                if outage:
                    # Holders whose nodes ran on in the outage renew first, so no takeover is needed.
                    outage, earliest = False, now + self._timing.returning_seconds
                if (
                    self._prerequisites.met(holding=False)
                    and now >= earliest
                    and (mine := [name for name in self._free if self._avoided.get(name, now) <= now])
                ):
                    return await self._take(self._rng.choice(sorted(mine)))
            except LeaseRefusedError as error:
                log.info("%s", error)
            except Exception as error:
                # The next answer may differ, so any error is retried.
                outage = True
                self._status.reason = f"the lease store does not answer: {reason_of('standby', error)}"
                self._status.cause = Cause.LEASES
                log.warning("%s", self._status.reason)
            # All standbys together ask as often as one would.
            pause = min(STANDBY.poll_seconds * self._standbys, STANDBY.longest_poll_seconds)
            if self._prerequisites.lacks:
                pause = STANDBY.recheck_seconds
            await asyncio.sleep(pause * self._rng.uniform(*STANDBY.poll_spread))

    async def _prepare(self, missing: Sequence[str]) -> None:
        """Create the missing blobs of identities: on the bank's first VM, or where the store lost them."""
        if missing:
            log.warning("no blob of %s: made", ", ".join(missing))
        async with asyncio.timeout(self._timing.request_seconds * (1 + len(missing))):
            for name in missing:
                await self._store.prepare(name, IdentityRecord().to_json())

    async def _take(self, name: str) -> Lease:
        lease = await Lease.acquire(self._store, self._clock, name, self._status.vm, self._timing)
        previous = lease.previous
        if previous and previous.until is None and previous.vm != self._status.vm:
            self._status.takeovers += 1
            # A warning: only those reach the workspace.
            log.warning("took %s over, epoch %d: %s fell silent", name, lease.epoch, previous.vm)
        else:
            log.info("took %s, epoch %d; before: %s", name, lease.epoch, previous or "nobody")
        return lease

    async def _hold(self, lease: Lease) -> None:
        status = self._status
        status.state, status.identity, status.epoch = State.HOLDING, lease.identity, lease.epoch
        node = Node(self._resources, self._identities[lease.identity], lease, status, self._rng)
        async with _task(self._keep_lease(lease, node)) as keeping, _task(self._follow()):
            drain_seconds = 0.0
            async with (
                _task(self._run_node(lease, node)) as working,
                _task(self._stopping.wait()) as stopping,
                _task(self._watch_prerequisites()) as unserved,
            ):
                await asyncio.wait({keeping, working, stopping, unserved}, return_when=asyncio.FIRST_COMPLETED)
                if keeping.done():
                    why = keeping.result()
                elif stopping.done():
                    why, drain_seconds = self._why_stopping, self._drain_seconds
                else:
                    why = (working if working.done() else unserved).result()
                    if unserved.done():
                        drain_seconds = min(self._drain_seconds, STANDBY.sick_drain_seconds)
                    self._avoid(lease.identity, AVOID_SECONDS)
            log.warning("gives %s up: %s", lease.identity, why)
            if drain_seconds > 0 and not keeping.done():
                await self._drain(node, keeping, drain_seconds)
            if keeping.done():
                await node.stop(min(node.stop_seconds, lease.seconds_to_kill))
            else:
                # `stop` may take its full time, until the lease is lost.
                async with _task(node.stop(node.stop_seconds)) as stopped:
                    await asyncio.wait({keeping, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if not node.ended:
            # systemd kills the control group when the agent exits; the lease is not released, but lapses.
            raise UnavailableError(f"{lease.identity}: its processes can't be ended; the agent ends with them")
        # No process of the node runs any more, so the watchdog must not kill the agent.
        self._lease = None
        self._prerequisites.note(Cause.NODE, None)
        if not lease.lost:
            await lease.release(why)
        status.state, status.identity, status.epoch = State.STANDBY, None, None
        status.reason, status.cause = why, Cause.NODE
        status.lease, status.deaths = None, 0

    async def _keep_lease(self, lease: Lease, node: Node) -> str:
        """Renew the lease, or prove that no other VM acquired it, until neither works; returns why the node must
        stop."""
        failsafe = Failsafe(lease, node.prove, self._status)
        async with _task(lease.keep(self._renewed)) as keeping, _task(failsafe.run()) as proving:
            done, _ = await asyncio.wait({keeping, proving}, return_when=asyncio.FIRST_COMPLETED)
            return done.pop().result()

    async def _follow(self) -> None:
        if self._resources.network:
            await self._resources.network.follow()

    async def _watch_prerequisites(self) -> str:
        """Wait until this VM has lacked a prerequisite for too long while a standby is healthy; returns why."""
        well_since: float | None = None
        while True:
            await asyncio.sleep(STANDBY.recheck_seconds)
            # Without a healthy standby it is an outage.
            standbys = (await self._others()).standbys if self._prerequisites.lacks else None
            now = self._clock.now()
            well_since = (well_since or now) if standbys else None
            if standbys is None or well_since is None or now - well_since < STANDBY.confirm_seconds:
                continue
            if lacking := self._prerequisites.lacking_since(STANDBY.give_up_seconds):
                reasons = [why for name, why in self._prerequisites.lacks.items() if name in lacking]
                return f"not served for {STANDBY.give_up_seconds:g} s ({'; '.join(reasons)}); well: {min(standbys)}"

    async def _keep_announcing(self) -> None:
        """Announce to the other VMs whether this VM is healthy, and count them. Never returns nor raises."""
        if not (presence := self._resources.presence):
            return
        status = self._status
        announced: bool | None = None
        counted: frozenset[str] = frozenset()
        due = count_due = unfit_due = 0.0
        others_since: float | None = None
        while True:
            now, holding = self._clock.now(), self._lease is not None
            status.lacks = self._prerequisites.lacks
            try:
                if not self._prerequisites.met(holding=holding):
                    await presence.withdraw()
                    announced = None
                elif announced is not holding or now >= due:
                    await presence.announce(standby=not holding)
                    announced, due = holding, now + STANDBY.presence_seconds
            except Exception as error:
                log.warning("presence: %s", reason_of("presence", error))
            # When an identity was acquired there is one standby fewer.
            if not holding and (now >= count_due or self._free != counted):
                counted, count_due = self._free, now + STANDBY.count_seconds
                self._standbys = 1 + len((await self._others()).standbys)
            if not self._prerequisites.lacking_since(STANDBY.unhealthy_seconds):
                others_since, status.unfit = None, False
            elif now >= unfit_due:
                others = await self._others()
                alone = self._prerequisites.unfit(standbys=bool(others.standbys), holders=bool(others.holders))
                others_since = (others_since or now) if alone else None
                status.unfit = others_since is not None and now - others_since >= STANDBY.confirm_seconds
                unfit_due = now + STANDBY.count_seconds
            with suppress(TimeoutError):
                async with asyncio.timeout(STANDBY.recheck_seconds / 2):
                    await self._changed.wait()
            self._changed.clear()

    async def _others(self) -> OtherVms:
        """The healthy VMs; none if they can't be listed."""
        if not self._resources.presence:
            return OtherVms()
        try:
            return await self._resources.presence.others()
        except Exception as error:
            log.warning("the healthy VMs can't be listed: %s", reason_of("presence", error))
            return OtherVms()

    async def _drain(self, node: Node, keeping: "asyncio.Task[str]", seconds: float) -> None:
        """Drain the node, but only while the lease is held and `skip_drain` was not called."""
        self._status.state = State.DRAINING
        async with _task(node.drain(seconds)) as draining, _task(self._skip_drain.wait()) as hurrying:
            await asyncio.wait({keeping, draining, hurrying}, return_when=asyncio.FIRST_COMPLETED)
        self._status.state = State.HOLDING

    async def _run_node(self, lease: Lease, node: Node) -> str:
        """Start the node and restart it when needed; returns why another VM should try."""
        failures, pause = 0, _BACKOFF[0]
        while True:
            started = self._clock.now()
            failed, cause = False, Cause.NODE
            lack: str | None = None
            try:
                await node.start()
                self._prerequisites.note(Cause.NODE, None)
                self._status.reason = None
                end = await node.watch()
            except (SupersededError, LeaseRefusedError) as error:
                return str(error)
            except (UnavailableError, TimeoutError) as error:
                # An outage, not the node's failure; `_watch_prerequisites` decides whether another VM helps.
                why = lack = str(error) or repr(error)
            except DamagedError as error:
                why, pause = str(error), DAMAGE_SECONDS
            except WaitingError as error:
                # The error says who must act: another VM would not help.
                why, cause = str(error), error.cause
            except (SoftwareError, OSError, ValueError) as error:
                why, failed = str(error), True
            except Exception as error:
                # Counts as an outage: the same answer would probably meet the next VM.
                why = lack = unexpected(lease.identity, error)
            else:
                why, failed = end.why, end.failed
                if end.planned:
                    pause = 0.0
                    self._status.state = State.DRAINING
                    await node.drain(self._drain_seconds)
                    self._status.state = State.HOLDING
            self._status.reason, self._status.cause = why, cause
            self._prerequisites.note(Cause.NODE, lack)
            log.warning("%s, epoch %d: %s", lease.identity, lease.epoch, why)
            await node.stop(node.stop_seconds)
            if self._clock.now() - started > STEADY_SECONDS:
                failures, pause = 0, _BACKOFF[0]
            failures += failed
            if failures >= MAX_FAILED_STARTS:
                return f"{failures} failed starts, the last: {why}"
            await asyncio.sleep(pause * self._rng.uniform(0.5, 1.0))
            pause = min(max(2 * pause, _BACKOFF[0]), _BACKOFF[1])

    def _renewed(self, seconds: float) -> None:
        self._status.lease_latency = seconds

    def _avoid(self, name: str, seconds: float) -> None:
        self._avoided[name] = self._clock.now() + seconds


@asynccontextmanager
async def _task(work: Coroutine[Any, Any, _T]) -> AsyncIterator["asyncio.Task[_T]"]:
    """Run a task for the time of the block; it has ended when the block is left."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait({task})
