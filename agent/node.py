"""One ledger node on this VM: what must be in its hands before it starts, and its processes."""

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

from agent.acquaintance import Acquaintance
from agent.fence import UnavailableError
from agent.lease import Lease
from agent.status import Status
from ledger.platform import Identity, NetworkDocument
from ledger.software import (
    AGAIN_STATUS,
    MIGRATION_SECONDS,
    DatabaseAccess,
    Document,
    Member,
    Place,
    Process,
    Readiness,
    Software,
)

START_SECONDS = 300
"""A node that does not answer so long after its start is started anew."""
PREPARE_SECONDS = START_SECONDS + MIGRATION_SECONDS
"""So is the preparing of one that is not done by then."""
SILENT_SECONDS = 60
"""So is one that answered before, and has not for so long."""
LOOK_SECONDS = 5
ANSWER_SECONDS = 60
"""A resource that has not answered by then is asked again."""
STOP_SECONDS = 60
"""No process gets longer to stop, whatever it asks for: the end of a drain is reckoned with it."""
_REST_SECONDS = 1
"""What was called off may take so long to end."""

T = TypeVar("T")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rhythm:
    """How often a running node is seen to, in seconds."""

    meet: float = 5
    """Members that changed are told to the node."""
    stale: float = 60
    """The node is asked whether it should start anew."""
    stagger: float = 600
    """Before it does it waits a random time up to this, so that not all of a bank's nodes go at once."""


@dataclass(frozen=True)
class End:
    """Why a node has to be started anew."""

    why: str
    planned: bool = False
    """It runs and may take its time."""
    failed: bool = False
    """Of itself: another VM may fare better."""


class DatabaseFence(Protocol):
    """Closes the database to older epochs."""

    async def close_older(self, identity: str, epoch: int, *, known: bool) -> DatabaseAccess:
        """Access for this epoch; after it no older one can commit.

        Raises SupersededError, DamagedError, UnavailableError.
        """


class Folder(Protocol):
    """An identity's own folder during one epoch, locked."""

    path: Path
    lock_fd: int
    """Inherited by the node's processes: the lock lasts as long as any of them."""

    def recall(self) -> bytes | None:
        """What was last remembered, in this epoch or one before; None if nothing ever was."""

    def remember(self, note: bytes) -> None:
        """Keep a note of the agent's own, which goes with the folder. Both may raise OSError."""

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
class Roster:
    """Who takes part in the network, as this VM knows it."""

    names: frozenset[str]
    """All members; who does not stand here is none any more."""
    members: tuple[Member, ...]
    """Those of whom it is known what they tell, if only nothing yet; this bank among them."""
    troubles: Mapping[str, str]
    """What is wrong with what a member tells, by its name."""


class Network(Protocol):
    """The other members. A call may raise `UnavailableError`."""

    async def follow(self) -> None:
        """Ask the peers again and again; never ends by itself, nor raises."""

    async def document(self) -> bytes | None:
        """The network document that configuration pins, None where it pins none. Raises WaitingError."""

    async def published(self, identity: str) -> Document | None:
        """What an identity's node last said of itself."""

    async def publish(self, identity: str, info: bytes, before: Document | None) -> Document:
        """Have the members learn what it says now; returns what is published.

        Args:
            identity: its name.
            info: what its node says.
            before: what was published when this epoch began, or by it since.

        Raises:
            SupersededError: something else was published since.
        """

    async def roster(self) -> Roster:
        """Who takes part. Raises DamagedError."""


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
    network: Network | None
    """None where nobody tells anybody anything."""
    document: NetworkDocument | None
    """What the network document is, where the platform has one."""
    rhythm: Rhythm = field(default_factory=Rhythm)


class Node:
    """The ledger node of one lease."""

    def __init__(
        self, workplace: Workplace, identity: Identity, lease: Lease, status: Status, chance: random.Random
    ) -> None:
        self._workplace, self._identity, self._lease, self._status = workplace, identity, lease, status
        self._chance = chance
        self._folder: Folder | None = None
        self._place: Place | None = None
        self._published: Document | None = None
        self._running: list[Running] = []
        self._was_ready = False
        self.stop_seconds = 0.0
        """How long its processes may take to stop when there is time."""

    async def start(self) -> None:
        """Shut older epochs out of each resource, in an order that leaves none a way in; then start the processes.

        Raises:
            SupersededError: a newer epoch is there.
            UnavailableError: a resource does not answer, or is still held.
            DamagedError: only a person can mend the identity's keys or database.
            WaitingError: somebody else must act first, on whatever VM.
            SoftwareError: the node can't be started as things are.
        """
        work, name, epoch = self._workplace, self._identity.name, self._lease.epoch
        document = None
        if work.network:
            document = await _answer("network document", work.network.document())
            # Before the fences: who still gets past them read it before any newer epoch had a say.
            self._published = await _answer("bank's documents", work.network.published(name))
        access = await _answer("database", self._close_older()) if work.database else None
        if not (folder := self._folder):
            folder = self._folder = await _answer("share", self._open())
        keys = await _answer("key vault", work.vault.obtain(name, self._make_secrets, self._lease.keys))
        if keys.fingerprint != self._lease.keys:
            await self._lease.remember_keys(keys.fingerprint)
        self._was_ready = False
        scratch = work.disk.scratch()
        self._place = place = Place(
            identity=self._identity,
            epoch=epoch,
            kept=folder.path,
            scratch=scratch,
            secrets=work.disk.unpack(keys.blobs),
            database=access,
            network_document=_written(scratch, work.document.name, document) if work.document and document else None,
        )
        await _answer("ledger's software", work.software.prepare(place), PREPARE_SECONDS)
        for process in work.software.processes(place):
            if not self._lease.fresh:
                raise UnavailableError(f"{name}: the lease is too old to start {process.name}")
            self.stop_seconds = max(self.stop_seconds, min(process.stop_seconds, STOP_SECONDS))
            await self._launch(process, folder.lock_fd)

    async def watch(self) -> End:
        """Follow the started node, and have it know its network; returns why it has to be started anew."""
        ends = {asyncio.create_task(each.wait()): each.name for each in self._running}
        looking, ageing = asyncio.create_task(self._look()), asyncio.create_task(self._age())
        tasks = {looking, ageing, *ends}
        meeting = self._meeting()
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if ended := {name: task.result() for task, name in ends.items() if task.done()}:
                why = ", ".join(f"process {name} ended with {status}" for name, status in ended.items())
                return End(why, failed=not self._was_ready or set(ended.values()) != {AGAIN_STATUS})
            return End(looking.result(), failed=True) if looking.done() else End(ageing.result(), planned=True)
        finally:
            if meeting:
                tasks.add(meeting)
            for task in tasks:
                task.cancel()
            # What writes into the node's folders ends before these do.
            await asyncio.wait(tasks, timeout=_REST_SECONDS)

    async def drain(self, seconds: float) -> None:
        """Have the running node end what it has begun, for so long at most; what goes wrong is logged alone.

        It goes on as it is where it does not answer, or where the lease is not fresh: then there is no time.
        """
        place, name = self._place, self._identity.name
        if place is None or not self._running or self._status.readiness is Readiness.DOWN or seconds <= 0:
            return
        # It takes nothing new.
        self._status.readiness = Readiness.UP

        async def ask() -> None:
            if self._lease.fresh:
                await self._workplace.software.drain(place, seconds)

        ends = {asyncio.create_task(each.wait()) for each in self._running}
        asking = asyncio.create_task(ask())
        try:
            await asyncio.wait({asking, *ends}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if asking.done():
                asking.result()
            else:
                log.warning("%s: not drained when its time was over", name)
        except Exception as error:
            log.warning("%s: the node can't be drained: %r", name, error)
        finally:
            for task in (asking, *ends):
                task.cancel()
            # One that does not end keeps nobody from stopping the node.
            asking.add_done_callback(_forget)

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

    async def _close_older(self) -> DatabaseAccess:
        assert self._workplace.database  # noqa: S101
        # Keys are made after the database.
        known = self._lease.keys is not None
        return await self._workplace.database.close_older(self._identity.name, self._lease.epoch, known=known)

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

    def _meeting(self) -> "asyncio.Task[None] | None":
        work = self._workplace
        if work.network is None:
            return None
        assert self._place  # noqa: S101
        assert self._folder  # noqa: S101
        acquaintance = Acquaintance(
            software=work.software,
            network=work.network,
            place=self._place,
            folder=self._folder,
            lease=self._lease,
            status=self._status,
            published=self._published,
        )
        return asyncio.create_task(acquaintance.keep_up(work.rhythm.meet))

    async def _age(self) -> str:
        """Wait until the node should start anew, and for its turn; returns why."""
        assert self._place  # noqa: S101
        rhythm = self._workplace.rhythm
        while True:
            await asyncio.sleep(rhythm.stale)
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    why = await self._workplace.software.stale(self._place)
            except Exception as error:
                # It runs: to follow its network a minute later is better than not to run.
                log.warning("%s: not known whether it is stale: %r", self._identity.name, error)
                continue
            if why:
                wait = self._chance.uniform(0, rhythm.stagger)
                log.info("%s: starts anew in %.0f s: %s", self._identity.name, wait, why)
                await asyncio.sleep(wait)
                return why

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
            self._was_ready |= readiness is Readiness.READY
            if readiness > Readiness.DOWN:
                seen, limit = looks, SILENT_SECONDS // LOOK_SECONDS
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_SECONDS):
                        self._status.figures = dict(await software.figures(self._place))
        return f"the node has not answered for {limit * LOOK_SECONDS} s"


async def _answer(resource: str, asked: Awaitable[T], seconds: float = ANSWER_SECONDS) -> T:
    try:
        async with asyncio.timeout(seconds):
            return await asked
    except TimeoutError as error:
        raise UnavailableError(f"the {resource} has not answered for {seconds:.0f} s") from error


def _written(folder: Path, name: str, content: bytes) -> Path:
    # Apart from what the node writes: it may want a file of the same name.
    path = folder / "network" / name
    path.parent.mkdir(mode=0o700)
    path.write_bytes(content)
    return path


def _forget(task: "asyncio.Task[None]") -> None:
    if not task.cancelled():
        task.exception()


def _close(opening: "asyncio.Future[Folder]") -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()
