"""One ledger node on this VM: what must be in its hands before it starts, and its processes."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from agent.fence import UnavailableError
from agent.lease import Lease
from agent.status import Status
from ledger.platform import Identity
from ledger.software import DatabaseAccess, Place, Process, Readiness, Software

START_SECONDS = 300
"""A node that does not answer so long after its start is started anew."""
SILENT_SECONDS = 60
"""So is one that answered before, and has not for so long."""
LOOK_SECONDS = 5
ANSWER_SECONDS = 60
"""A resource that has not answered by then is asked again."""

T = TypeVar("T")


class DatabaseFence(Protocol):
    """Closes the database to older epochs."""

    async def close_older(self, identity: str, epoch: int) -> DatabaseAccess:
        """Access for this epoch; after it no older one can commit. Raises SupersededError, UnavailableError."""


class Folder(Protocol):
    """An identity's own folder during one epoch, locked."""

    path: Path
    lock_fd: int
    """Inherited by the node's processes: the lock lasts as long as any of them."""

    def close(self) -> None:
        """Unlock it, unless a process still holds the lock."""


class Share(Protocol):
    """Where the identities' folders are."""

    def open(self, identity: str, epoch: int) -> Folder:
        """Lock the folder and continue where the epoch before ended. Raises SupersededError, UnavailableError."""


class Keys(Protocol):
    """An identity's secret blobs."""

    @property
    def blobs(self) -> Mapping[str, bytes]:
        """By name."""

    @property
    def fingerprint(self) -> str:
        """What the identity's record remembers of them."""


class KeyVault(Protocol):
    """Where they are kept."""

    async def obtain(self, identity: str, make: Callable[[], Mapping[str, bytes]], known: str | None) -> Keys:
        """Restore an identity's keys, or make them where there never were any."""


class Running(Protocol):
    """A started process."""

    name: str

    async def wait(self) -> int:
        """Its exit status, once it ends."""

    async def stop(self, seconds: float) -> None:
        """Ask it to stop; kill it with its children after so many seconds. Whatever happens, it has ended."""


class Disk(Protocol):
    """What a VM has of its own, and loses."""

    def scratch(self) -> Path:
        """A folder on disk, emptied."""

    def unpack(self, blobs: Mapping[str, bytes]) -> Path:
        """A folder in memory that holds the blobs as files."""

    def wipe(self) -> None:
        """Remove both."""


@dataclass(frozen=True)
class Workplace:
    """What a VM offers to whichever identity it holds."""

    software: Software
    share: Share
    vault: KeyVault
    disk: Disk
    launch: Callable[[Process, int], Awaitable[Running]]
    """Starts a process that inherits a file descriptor."""
    database: DatabaseFence | None
    network_document: Path | None


class Node:
    """The ledger node of one lease."""

    def __init__(self, workplace: Workplace, identity: Identity, lease: Lease, status: Status) -> None:
        self._workplace, self._identity, self._lease, self._status = workplace, identity, lease, status
        self._folder: Folder | None = None
        self._place: Place | None = None
        self._running: list[Running] = []
        self.stop_seconds = 0.0
        """How long its processes may take to stop when there is time."""

    async def start(self) -> None:
        """Shut older epochs out of each resource, in an order that leaves none a way in; then start the processes.

        Raises:
            SupersededError: a newer epoch is there.
            UnavailableError: a resource does not answer, or is still held.
            DamagedError: only a person can mend the identity's keys.
            SoftwareError: the node can't be started as things are.
        """
        work, name, epoch = self._workplace, self._identity.name, self._lease.epoch
        access = await _answer("database", work.database.close_older(name, epoch)) if work.database else None
        if not (folder := self._folder):
            folder = self._folder = await _answer("share", self._open())
        keys = await _answer("key vault", work.vault.obtain(name, self._make_secrets, self._lease.keys))
        if keys.fingerprint != self._lease.keys:
            await self._lease.remember_keys(keys.fingerprint)
        self._place = place = Place(
            identity=self._identity,
            epoch=epoch,
            kept=folder.path,
            scratch=work.disk.scratch(),
            secrets=work.disk.unpack(keys.blobs),
            database=access,
            network_document=work.network_document,
        )
        await work.software.prepare(place)
        for process in work.software.processes(place):
            if not self._lease.fresh:
                raise UnavailableError(f"{name}: the lease is too old to start {process.name}")
            self.stop_seconds = max(self.stop_seconds, process.stop_seconds)
            await self._launch(process, folder.lock_fd)

    async def watch(self) -> str:
        """Follow the started node; returns why it has to be started anew."""
        ends = {asyncio.create_task(each.wait()): each.name for each in self._running}
        looking = asyncio.create_task(self._look())
        try:
            await asyncio.wait({looking, *ends}, return_when=asyncio.FIRST_COMPLETED)
            ended = [f"process {name} ended with {task.result()}" for task, name in ends.items() if task.done()]
            return ", ".join(ended) or looking.result()
        finally:
            for task in (looking, *ends):
                task.cancel()

    async def stop(self, seconds: float) -> None:
        """End all processes, by force after so many seconds; then let go of the folder."""
        running, self._running = self._running, []
        # Another VM's figures are its own to tell.
        self._status.readiness, self._status.figures = Readiness.DOWN, {}
        try:
            await asyncio.gather(*(each.stop(seconds) for each in running))
        finally:
            if self._folder:
                self._folder.close()
                self._folder = None
            self._workplace.disk.wipe()

    def _make_secrets(self) -> Mapping[str, bytes]:
        blobs = self._workplace.software.make_secrets(self._identity)
        self._identity.role.check_secrets(blobs)
        return blobs

    async def _open(self) -> Folder:
        opening = asyncio.ensure_future(
            asyncio.to_thread(self._workplace.share.open, self._identity.name, self._lease.epoch)
        )
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            # The thread goes on; what it locks must not stay locked.
            opening.add_done_callback(_close)
            raise

    async def _launch(self, process: Process, lock_fd: int) -> None:
        launching = asyncio.ensure_future(self._workplace.launch(process, lock_fd))
        try:
            self._running.append(await asyncio.shield(launching))
        except asyncio.CancelledError:
            # Half started is started: `stop` must find it.
            self._running.append(await launching)
            raise

    async def _look(self) -> str:
        assert self._place  # noqa: S101
        software, seen, looks, limit = self._workplace.software, 0, 0, START_SECONDS // LOOK_SECONDS
        while looks - seen < limit:
            await asyncio.sleep(LOOK_SECONDS)
            looks += 1
            readiness = Readiness.DOWN
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    readiness = await software.readiness(self._place)
            # Told once it is known: a probe meanwhile must not find the node down.
            self._status.readiness = readiness
            if readiness > Readiness.DOWN:
                seen, limit = looks, SILENT_SECONDS // LOOK_SECONDS
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_SECONDS):
                        self._status.figures = dict(await software.figures(self._place))
        return f"the node has not answered for {limit * LOOK_SECONDS} s"


async def _answer(resource: str, asked: Awaitable[T]) -> T:
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            return await asked
    except TimeoutError as error:
        raise UnavailableError(f"the {resource} has not answered for {ANSWER_SECONDS} s") from error


def _close(opening: "asyncio.Future[Folder]") -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()
