"""One ledger node on this VM: its start behind the fences, its supervision, drain and stop."""

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from agent.deaths import DEATHS_BEFORE_DELAY, STEADY_SECONDS, Deaths
from agent.lease import MAX_EPOCH, Lease
from agent.reconciler import MemberReconciler
from agent.resources import Folder, Resources, Running
from contract.identities import Identity
from contract.timing import FAILSAFE, PLANNED_STOP, STANDBY
from host.bank_documents import Document
from host.calls import BoundedCalls
from host.errors import NewerEpochError, SupersededError, UnavailableError
from host.faults import reason_of
from host.status import Readiness, Status
from ledger.software import MIGRATION_SECONDS, RESTART_STATUS, DatabaseAccess, Place, Process, SoftwareError

NODE_START_SECONDS = 300
"""A node that does not answer within this time after its start is restarted."""
PREPARE_SECONDS = NODE_START_SECONDS + MIGRATION_SECONDS
"""Time limit of a node's preparation."""
SILENT_SECONDS = 60
"""A node that had answered is restarted after so many seconds without an answer."""
CHECK_SECONDS = 5
"""Interval of readiness checks."""
_START_CHECK_SECONDS = 1
"""Interval of readiness checks while a node starts."""
RESOURCE_SECONDS = 60
"""Time limit of a resource's answer."""
COPY_SECONDS = 3600
"""Time limit of opening a folder, which copies it: 80 GiB take half an hour."""
REPORT_SECONDS = 3600
"""How long a repaired record is reported."""
_REST_SECONDS = 1
"""Limit for cancelled tasks and for closing the folder."""
_WIPE_SECONDS = 10
"""Longest delay of a stop by the removal of the node's folders."""

_T = TypeVar("_T")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class End:
    """Why a node must be restarted."""

    why: str
    planned: bool = False
    """The node still runs, so it may be drained first."""
    failed: bool = False
    """The node's own failure, which counts as a failed start: another VM may help."""


class Node:
    """The ledger node of one lease. `start`, `watch` and `stop` may be called again, in this order."""

    def __init__(
        self, resources: Resources, identity: Identity, lease: Lease, status: Status, rng: random.Random
    ) -> None:
        self._resources, self._identity, self._lease, self._status = resources, identity, lease, status
        self._rng = rng
        self._folder: Folder | None = None
        self._place: Place | None = None
        self._user: int | None = None
        self._published: Document | None = None
        self._running: list[Running] = []
        self._was_ready = False
        self._proofs = BoundedCalls("share")
        self._found: bool | None = None
        """Whether the share or the vault had data of the identity before this lease; None until checked."""
        if lease.fault:
            self._report(lease.fault)
        self._deaths: Deaths | None = None
        self._started = 0.0
        self.stop_seconds = 0.0
        """How long its processes may take to stop if there is time."""
        self.ended = True
        """Whether no process of the node's user can run any more, after `stop`."""

    async def start(self) -> None:
        """Fence older epochs out of each resource, in an order that leaves them no access; then start the processes.

        Raises:
            LeaseRefusedError: a newer epoch exists, and the lease is no longer ours.
            UnavailableError: a resource does not answer, or another process still holds it.
            DamagedError: only a person can repair the identity's keys, database or folder.
            WaitingError: somebody else must act first; another VM would not help.
            SoftwareError: the node can't be started.
        """
        vm, name = self._resources, self._identity.name
        if vm.users:
            self._user = vm.users.take(name)
            # Processes that survived an earlier stop would have the new node's rights.
            await vm.users.end(self._user)
        document = None
        if not self._lease.fresh:
            raise UnavailableError(f"{name}: the lease store does not answer; wanted a renewed lease before a start")
        if vm.network:
            document = await _answer("network document", vm.network.document())
            # Before the fences: a VM that is fenced out later cannot have read a newer epoch's version.
            self._published = await _answer("bank's documents", vm.network.published(name))
        access, folder = await self._fence()
        log.info("%s: older epochs are fenced out", name)
        self._deaths = Deaths(folder, vm.share_calls)
        self._status.deaths = await self._deaths.count()
        await self._deaths.wait(self._lease.utc())
        make = partial(vm.software.make_secrets, self._identity)
        keys = await _answer("key vault", vm.vault.obtain(self._identity, make, self._lease.keys))
        if keys.fingerprint != self._lease.keys:
            await self._lease.write_fingerprint(keys.fingerprint)
        self._was_ready = False
        scratch, written = await vm.disk_calls(vm.disk.scratch), None
        if vm.document and document:
            written = await vm.disk_calls(_written, scratch, vm.document.name, document)
        self._place = place = Place(
            identity=self._identity,
            epoch=self._lease.epoch,
            durable=folder.path,
            share_calls=vm.share_calls,
            scratch=scratch,
            secrets=await vm.disk_calls(vm.disk.unpack, keys.blobs),
            database=access,
            network_document=written,
            user=self._user,
        )
        await _answer("ledger's software", vm.software.prepare(place), PREPARE_SECONDS)
        log.info("%s: prepared", name)
        for process in vm.software.processes(place):
            if not self._lease.fresh:
                raise UnavailableError(f"{name}: the lease is too old to start {process.name}")
            self.stop_seconds = max(self.stop_seconds, min(process.stop_seconds, PLANNED_STOP.process_seconds))
            await self._launch(replace(process, user=self._user), folder.lock_fd)
        self._started = self._lease.now()

    async def watch(self) -> End:
        """Supervise the started node and keep its members up to date; returns why it must be restarted."""
        ends = {asyncio.create_task(each.wait()): each for each in self._running}
        checking = asyncio.create_task(self._check_readiness())
        waiting = asyncio.create_task(self._wait_until_stale())
        measuring = asyncio.create_task(self._watch_folder())
        tasks = {checking, waiting, measuring, *ends}
        reconciling, forgetting = self._reconcile(), asyncio.create_task(self._forget_deaths())
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if ended := [(each, task.result()) for task, each in ends.items() if task.done()]:
                why = ", ".join(_ended(each, status) for each, status in ended)
                if {status for _, status in ended} == {RESTART_STATUS}:
                    return End(why, failed=not self._was_ready)
                return await self._died(why)
            if measuring.done():
                return End(measuring.result())
            return await self._died(checking.result()) if checking.done() else End(waiting.result(), planned=True)
        finally:
            tasks |= {forgetting, *([reconciling] if reconciling else [])}
            for task in tasks:
                task.cancel()
            # Tasks that write to the node's folders must end before the folders are removed.
            await asyncio.wait(tasks, timeout=_REST_SECONDS)

    async def _died(self, why: str) -> End:
        """Note the node's own failure. After too many early deaths another VM would not help, so none should try."""
        if not self._deaths or self._lease.now() - self._started >= STEADY_SECONDS:
            return End(why, failed=True)
        try:
            self._status.deaths = await self._deaths.add(self._status.vm, why, self._lease.utc())
        except Exception as error:
            log.warning("%s", reason_of(f"{self._identity.name}: a death is not noted", error, OSError))
        return End(why, failed=self._status.deaths < DEATHS_BEFORE_DELAY)

    async def _forget_deaths(self) -> None:
        """Forget earlier deaths once the node has run for `STEADY_SECONDS`."""
        await asyncio.sleep(STEADY_SECONDS)
        assert self._deaths  # noqa: S101
        try:
            await self._deaths.forget()
            self._status.deaths = 0
        except Exception as error:
            log.warning("%s", reason_of(f"{self._identity.name}: deaths are not forgotten", error, OSError))

    async def drain(self, seconds: float) -> None:
        """Have the running node finish its work, for `seconds` at most; errors are only logged.

        Nothing happens if the node does not answer, or if the lease is about to lapse.
        """
        place, name = self._place, self._identity.name
        if place is None or not self._running or self._status.readiness is Readiness.DOWN or seconds <= 0:
            return
        # UP, not READY: the node takes no new work.
        self._status.readiness = Readiness.UP

        async def ask() -> None:
            if self._lease.alive:
                await self._resources.software.drain(place, seconds)

        ends = {asyncio.create_task(each.wait()) for each in self._running}
        asking = asyncio.create_task(ask())
        try:
            await asyncio.wait({asking, *ends}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if asking.done():
                asking.result()
            else:
                log.warning("%s: not drained when its time was over", name)
        except Exception as error:
            log.warning("%s: not drained: %s", name, reason_of(f"{name}: drain", error, SoftwareError))
        finally:
            for task in (asking, *ends):
                task.cancel()
            # A request that ignores its cancellation must not delay the node's stop.
            asking.add_done_callback(_forget)

    async def stop(self, seconds: float) -> None:
        """End all processes, by force after `seconds`; then unlock the identity's folder and remove the local ones.

        An error or a hang in one step is logged and does not prevent the next; see `ended` for the processes.
        """
        running, self._running = self._running, []
        folder, self._folder = self._folder, None
        vm = self._resources
        # Valid only while the node runs.
        status = self._status
        status.readiness, status.figures = Readiness.DOWN, {}
        status.members, status.reached, status.days_left = {}, {}, {}
        # Run in reverse order.
        async with contextlib.AsyncExitStack() as steps:
            if vm.users:
                steps.callback(vm.users.leave)
            steps.push_async_callback(self._within, _WIPE_SECONDS, "wipe", partial(vm.disk_calls, vm.disk.wipe))
            if folder:
                # A share that hangs unlocks it later; nothing waits for that.
                close = partial(vm.share_calls, folder.close, seconds=None)
                steps.push_async_callback(self._within, _REST_SECONDS, "close", close)
            steps.push_async_callback(self._end)
            for each in await asyncio.gather(*(each.stop(seconds) for each in running), return_exceptions=True):
                if isinstance(each, Exception):
                    self._log_error("stop", each)

    async def _end(self) -> None:
        if self._resources.users and self._user is not None:
            self.ended = False
            try:
                await self._resources.users.end(self._user)
                self.ended = True
            except Exception as error:
                self._log_error("end", error)

    async def _within(self, seconds: float, what: str, step: Callable[[], Awaitable[None]]) -> None:
        """Wait for a step, for `seconds` at most; its error is logged, even if it comes later."""

        def ended(task: "asyncio.Future[None]") -> None:
            if not task.cancelled() and isinstance(error := task.exception(), Exception):
                self._log_error(what, error)

        task = asyncio.ensure_future(step())
        task.add_done_callback(ended)
        await asyncio.wait({task}, timeout=seconds)

    def _log_error(self, what: str, error: Exception) -> None:
        log.error("%s", reason_of(f"{self._identity.name}: {what}", error, OSError))

    async def prove(self) -> None:
        """Ask database and share whether the running node is still the identity's holder.

        Raises:
            SupersededError: they know another holder.
            UnavailableError: no answer, no running node, or no database that could refuse.
            OSError: the share fails.
        """
        place, folder, database = self._place, self._folder, self._resources.database
        if not (self._running and place and folder and database and place.database):
            raise UnavailableError(f"{self._identity.name}: no running node with a database")
        try:
            await database.prove(place.database, place.epoch)
        except SupersededError as error:
            if self._running and self._place is place:
                raise
            # This VM's own next start ended the session or changed the password.
            raise UnavailableError(str(error)) from error
        # Not through the share's other calls, which a copy may block for long.
        await self._proofs(folder.prove, seconds=FAILSAFE.request_seconds)

    async def _fence(self) -> tuple[DatabaseAccess | None, Folder]:
        """Fence all other holders out of database and share, with an epoch above all that these know."""
        existed = await self._existed()
        while True:
            try:
                access = await _answer("database", self._close_older(existed=existed))
                if not self._folder:
                    self._folder = await _answer("share", self._open(), COPY_SECONDS)
            except NewerEpochError as newer:
                # The record comes first: a late holder can't write it, so it cannot outbid the rightful holder.
                await self._lease.raise_epoch(newer.epoch, str(newer))
                self._status.epoch = self._lease.epoch
                if newer.epoch <= MAX_EPOCH:
                    self._report(f"{newer}: the record of {self._identity.name} was lost, restored or edited")
            else:
                return access, self._folder

    async def _existed(self) -> bool:
        """Whether an earlier epoch had a folder or keys, which are made after the database."""
        if self._lease.keys is not None:
            return True
        if self._found is None:
            vm, identity = self._resources, self._identity
            self._found = await _answer("share", vm.share_calls(vm.share.exists, identity.name)) or await _answer(
                "key vault", vm.vault.exists(identity)
            )
            if self._found and self._lease.first:
                self._report(f"the record of {identity.name} is new, and there are a folder or keys of it")
        return self._found

    def _report(self, fault: str) -> None:
        """Report a fault of the identity's record for an hour, since it is repaired already."""
        log.error("%s", fault)
        self._status.lease = fault
        asyncio.get_running_loop().call_later(REPORT_SECONDS, self._status.clear_lease_fault, fault)

    async def _close_older(self, *, existed: bool) -> DatabaseAccess | None:
        if (database := self._resources.database) is None:
            return None
        return await database.close_older(self._identity.name, self._lease.epoch, self._lease.holder, existed=existed)

    async def _open(self) -> Folder:
        vm = self._resources
        # A lock that is acquired after the time limit must be released.
        return await vm.share_calls(
            vm.share.open,
            self._identity.name,
            self._lease.epoch,
            self._lease.holder,
            seconds=None,
            late=lambda folder: folder.close(),
        )

    async def _launch(self, process: Process, lock_fd: int) -> None:
        launching = asyncio.ensure_future(self._resources.launch(process, lock_fd))
        try:
            self._running.append(await asyncio.shield(launching))
        except asyncio.CancelledError:
            # A process whose start was cancelled may run: `stop` must find it.
            with contextlib.suppress(SoftwareError):
                self._running.append(await launching)
            raise

    def _reconcile(self) -> "asyncio.Task[None] | None":
        vm = self._resources
        if vm.network is None:
            return None
        assert self._place  # noqa: S101
        assert self._folder  # noqa: S101
        reconciler = MemberReconciler(
            software=vm.software,
            network=vm.network,
            place=self._place,
            folder=self._folder,
            lease=self._lease,
            status=self._status,
            published=self._published,
            prove=self.prove if vm.database else None,
        )
        return asyncio.create_task(reconciler.keep_up(vm.intervals.meet))

    async def _wait_until_stale(self) -> str:
        """Wait until the node should restart, then for a random delay; returns the reason."""
        assert self._place  # noqa: S101
        intervals = self._resources.intervals
        while True:
            await asyncio.sleep(intervals.stale)
            try:
                async with asyncio.timeout(RESOURCE_SECONDS):
                    why = await self._resources.software.stale(self._place)
            except Exception as error:
                # A node that runs with old parameters is better than none.
                log.warning(
                    "%s", reason_of(f"{self._identity.name}: can't check whether it is stale", error, SoftwareError)
                )
                continue
            # In an outage of the lease store no node may start.
            if why and self._lease.fresh:
                wait = self._rng.uniform(0, intervals.stagger)
                log.info("%s: restarts in %.0f s: %s", self._identity.name, wait, why)
                await asyncio.sleep(wait)
                if self._lease.fresh:
                    return why

    async def _watch_folder(self) -> str:
        """Wait until the node must stop because of its folder; returns the reason. `start` checks it too."""
        assert self._folder  # noqa: S101
        must_stop = self._folder.must_stop
        while True:
            await asyncio.sleep(STANDBY.check_seconds)
            try:
                if why := await self._resources.share_calls(must_stop):
                    return why
            except Exception as error:
                # The prerequisite `share` reports a share that fails.
                reason_of(f"{self._identity.name}: can't check its folder", error, OSError)

    async def _check_readiness(self) -> str:
        assert self._place  # noqa: S101
        software, seen, looks, limit = self._resources.software, 0, 0, NODE_START_SECONDS // CHECK_SECONDS
        readiness = Readiness.DOWN
        while looks - seen < limit:
            starting = readiness is Readiness.UP and not self._was_ready
            await asyncio.sleep(_START_CHECK_SECONDS if starting else CHECK_SECONDS)
            looks += 1
            readiness = Readiness.DOWN
            try:
                async with asyncio.timeout(CHECK_SECONDS):
                    readiness = await software.readiness(self._place)
            except Exception as error:
                # Counts as no answer.
                reason_of(f"{self._identity.name}: readiness", error)
            # Set only now: a health probe during the check must not find the node down.
            self._status.readiness = readiness
            if readiness is Readiness.READY and not self._was_ready:
                self._was_ready = True
                log.info("%s: ready", self._identity.name)
            if readiness > Readiness.DOWN:
                seen, limit = looks, SILENT_SECONDS // CHECK_SECONDS
                try:
                    async with asyncio.timeout(CHECK_SECONDS):
                        self._status.figures = dict(await software.figures(self._place))
                except Exception as error:
                    reason_of(f"{self._identity.name}: figures", error)
        return f"the node has not answered for {limit * CHECK_SECONDS} s"


async def _answer(resource: str, asked: Awaitable[_T], seconds: float = RESOURCE_SECONDS) -> _T:
    try:
        async with asyncio.timeout(seconds):
            return await asked
    except TimeoutError as error:
        raise UnavailableError(f"the {resource} has not answered for {seconds:.0f} s") from error


def _ended(process: Running, status: int) -> str:
    meaning = process.ends.get(status)
    return f"process {process.name} ended with {status}" + (f": {meaning}" if meaning else "")


def _written(folder: Path, name: str, content: bytes) -> Path:
    # A separate folder, since the node may write a file of the same name.
    path = folder / "network" / name
    path.parent.mkdir(mode=0o750)
    path.write_bytes(content)
    return path


def _forget(task: "asyncio.Future[None]") -> None:
    if not task.cancelled():
        task.exception()
