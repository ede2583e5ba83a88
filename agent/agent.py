"""The agent of a node VM: waits for an identity, holds it, runs its node, and gives it back."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from agent.clock import Clock
from agent.fence import DamagedError, SupersededError, UnavailableError
from agent.lease import REQUEST_SECONDS, Lease, LeaseStore, Record, RefusedError
from agent.node import STOP_SECONDS, Node, Workplace
from agent.status import State, Status
from ledger.platform import Identity
from ledger.software import SoftwareError, WaitingError

POLL_SECONDS = 1.0
"""How often a standby looks for a free identity: at a takeover up to all of it is lost."""
STARTS = 3
"""Failed starts of a node before another VM may try."""
STEADY_SECONDS = 600
"""A node that ran so long counts as started: what ends it then is a new failure, not one more."""
AWAY_SECONDS = 300
"""How long a VM leaves an identity to others after it gave it up."""
DAMAGE_SECONDS = 60
"""Pause before looking again at what only a person can mend."""
DRAIN_SECONDS = 480
"""A node that is stopped on purpose may take so long to end what it has begun, if it is told soon enough."""
END_SECONDS = STOP_SECONDS + 30
"""What comes after it: the processes' stop, the record, the lease."""
_BACKOFF = (1.0, 30.0)

T = TypeVar("T")

log = logging.getLogger(__name__)


class Agent:
    """One VM's agent. It holds one identity at most; without a workplace, none."""

    def __init__(
        self,
        identities: Sequence[Identity],
        store: LeaseStore,
        workplace: Workplace | None,
        status: Status,
        *,
        clock: Clock | None = None,
        chance: random.Random | None = None,
        drain_seconds: float = DRAIN_SECONDS,
    ) -> None:
        self._identities = {identity.name: identity for identity in identities if workplace}
        self._store, self._workplace, self._status = store, workplace, status
        self._clock, self._chance = clock or Clock(), chance or random.Random()  # noqa: S311
        self._stopping, self._hurry = asyncio.Event(), asyncio.Event()
        self._why_stopping, self._drain_seconds = "", drain_seconds
        self._away: dict[str, float] = {}
        self._lease: Lease | None = None

    def stop(self, why: str, seconds: float | None = None) -> None:
        """Have `run` drain the node, give the identity back and end; may be called from a signal handler.

        Args:
            why: stands in the identity's record.
            seconds: what time there is for all of it; None if there is enough.
        """
        if not self._stopping.is_set():
            self._why_stopping = why
            if seconds is not None:
                self._drain_seconds = min(self._drain_seconds, seconds - END_SECONDS)
        self._stopping.set()

    def hurry(self) -> None:
        """Drain no longer: the one who asked to stop has lost patience."""
        self._hurry.set()

    @property
    def stopping(self) -> bool:
        """Whether it was told to stop."""
        return self._stopping.is_set()

    @property
    def sound(self) -> bool:
        """Whether a watchdog may let the agent go on: a holder whose lease may lapse is not sound."""
        return self._lease is None or self._lease.fresh

    async def run(self) -> None:
        """Take part until `stop`."""
        while not self._stopping.is_set():
            if lease := await self._wait_for_identity():
                self._lease = lease
                await self._hold(lease)
        self._status.state = State.STOPPING

    async def _wait_for_identity(self) -> Lease | None:
        async with _task(self._standby()) as waiting, _task(self._stopping.wait()) as stopping:
            await asyncio.wait({waiting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            await asyncio.wait({waiting})
            # It may have been taken at the very moment of stopping: then it is to be given back.
            return None if waiting.cancelled() else waiting.result()

    async def _standby(self) -> Lease:
        prepared = False
        while True:
            try:
                if not prepared:
                    async with asyncio.timeout(REQUEST_SECONDS * (1 + len(self._identities))):
                        for name in self._identities:
                            await self._store.prepare(name, Record().to_json())
                    prepared = True
                async with asyncio.timeout(REQUEST_SECONDS):
                    free = await self._store.free()
                self._status.state, self._status.reason = State.STANDBY, None
                now = self._clock.now()
                if mine := [name for name in free if name in self._identities and self._away.get(name, now) <= now]:
                    return await self._take(self._chance.choice(mine))
            except RefusedError as error:
                log.info("%s", error)
            except DamagedError as error:
                self._status.reason = str(error)
                log.error("%s", error)
            except (UnavailableError, TimeoutError) as error:
                self._status.reason = f"the lease store does not answer: {error}"
                log.warning("%s", self._status.reason)
            # All standbys see a lapse at once: let them not ask at once.
            await asyncio.sleep(POLL_SECONDS * self._chance.uniform(0.5, 1.0))

    async def _take(self, name: str) -> Lease:
        try:
            lease = await Lease.take(self._store, self._clock, name, self._status.vm)
        except DamagedError:
            self._leave(name, DAMAGE_SECONDS)
            raise
        previous = lease.previous
        if previous and previous.until is None and previous.vm != self._status.vm:
            self._status.takeovers += 1
        log.info("took %s, epoch %d; before: %s", name, lease.epoch, previous or "nobody")
        return lease

    async def _hold(self, lease: Lease) -> None:
        status = self._status
        status.state, status.identity, status.epoch = State.HOLDING, lease.identity, lease.epoch
        assert self._workplace  # noqa: S101
        node = Node(self._workplace, self._identities[lease.identity], lease, status, self._chance)
        async with _task(lease.keep(self._renewed)) as keeping, _task(self._follow()):
            async with _task(self._work(lease, node)) as working, _task(self._stopping.wait()) as stopping:
                await asyncio.wait({keeping, working, stopping}, return_when=asyncio.FIRST_COMPLETED)
                if keeping.done():
                    why = keeping.result()
                elif working.done():
                    why = working.result()
                    self._leave(lease.identity, AWAY_SECONDS)
                else:
                    why = self._why_stopping
            log.warning("gives %s up: %s", lease.identity, why)
            if self.stopping and not keeping.done():
                await self._drain(node, keeping)
            if keeping.done():
                await node.stop(min(node.stop_seconds, lease.seconds_to_kill))
            else:
                # With time to spare, which ends if the lease does.
                async with _task(node.stop(node.stop_seconds)) as stopped:
                    await asyncio.wait({keeping, stopped}, return_when=asyncio.FIRST_COMPLETED)
        # Nothing of the node runs any more: a store that is slow to take the lease back makes no agent unsound.
        self._lease = None
        if not lease.lost:
            await lease.release(why)
        status.state, status.identity, status.epoch, status.reason = State.STANDBY, None, None, why
        status.members = {}

    async def _follow(self) -> None:
        if self._workplace and self._workplace.network:
            await self._workplace.network.follow()

    async def _drain(self, node: Node, keeping: "asyncio.Task[str]") -> None:
        """Only who stops on purpose has the time, and only for as long as the lease is kept."""
        self._status.state = State.DRAINING
        async with _task(node.drain(self._drain_seconds)) as draining, _task(self._hurry.wait()) as hurrying:
            await asyncio.wait({keeping, draining, hurrying}, return_when=asyncio.FIRST_COMPLETED)
        self._status.state = State.HOLDING

    async def _work(self, lease: Lease, node: Node) -> str:
        """Start the node, again if need be; returns why another VM should try."""
        failures, pause = 0, _BACKOFF[0]
        while True:
            started = self._clock.now()
            try:
                await node.start()
                self._status.reason = None
                end = await node.watch()
            except (SupersededError, RefusedError) as error:
                return str(error)
            except (UnavailableError, TimeoutError) as error:
                # Another VM would hardly fare better, and the outage is not the node's failure.
                self._status.reason, failed = str(error), False
            except DamagedError as error:
                self._status.reason, failed, pause = str(error), False, DAMAGE_SECONDS
            except WaitingError as error:
                # Whoever must act says when: no other VM would fare better.
                self._status.reason, failed = str(error), False
            except (SoftwareError, OSError, ValueError) as error:
                self._status.reason, failed = str(error), True
            else:
                self._status.reason, failed = end.why, end.failed
                if end.planned:
                    pause = 0.0
                    self._status.state = State.DRAINING
                    await node.drain(self._drain_seconds)
                    self._status.state = State.HOLDING
            log.warning("%s, epoch %d: %s", lease.identity, lease.epoch, self._status.reason)
            await node.stop(node.stop_seconds)
            if self._clock.now() - started > STEADY_SECONDS:
                failures, pause = 0, _BACKOFF[0]
            failures += failed
            if failures >= STARTS:
                return f"{failures} failed starts, the last: {self._status.reason}"
            await asyncio.sleep(pause * self._chance.uniform(0.5, 1.0))
            pause = min(max(2 * pause, _BACKOFF[0]), _BACKOFF[1])

    def _renewed(self, seconds: float) -> None:
        self._status.lease_latency = seconds

    def _leave(self, name: str, seconds: float) -> None:
        self._away[name] = self._clock.now() + seconds


@asynccontextmanager
async def _task(work: Coroutine[Any, Any, T]) -> AsyncIterator["asyncio.Task[T]"]:
    """A task that has ended when the block is left."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait({task})
