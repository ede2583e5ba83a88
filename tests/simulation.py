"""A bank's VMs in virtual time: the real agent's code among lease store, database, share and vault that fail.

One random number decides everything, so a history can be played again from its seed. What a VM does is held at any
`await` while the VM is frozen; what it sent before arrives all the same.
"""

import asyncio
import collections.abc
import contextvars
import itertools
import random
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from agent.agent import AWAY_SECONDS, Agent
from agent.clock import Clock
from agent.fence import SupersededError, UnavailableError
from agent.lease import LEASE_SECONDS, WATCHDOG_SECONDS, Record, RefusedError
from agent.network_info import NODES, Bank, Exchange, NetworkInfo
from agent.network_info import Rhythm as Asking
from agent.node import Rhythm, Workplace
from agent.status import State, Status
from agent.vault import Card, Peers
from ledger.platform import Identity
from ledger.software import (
    DatabaseAccess,
    Document,
    Figure,
    Member,
    Place,
    Process,
    Readiness,
    SoftwareError,
    UntrustedError,
    WaitingError,
)
from tests.echo import PLATFORM as ECHO

SHARE_LOCK_SECONDS = 90
"""How long a file server keeps the lock of a client that is gone."""
RESTART_SECONDS = 2
DRAIN_SECONDS = 40
"""Shorter than in earnest, as all that a node is seen to: else a history would see little of it."""
RHYTHM = Rhythm(meet=5, stale=20, stagger=15)
OWN, PEERS = "bank-a", ("bank-b", "bank-c", "bank-d")
REQUEST_SECONDS = 15
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)

_gate: contextvars.ContextVar["Gate | None"] = contextvars.ContextVar("gate", default=None)


class Gate:
    """Holds tasks while any of its reasons is there; what is dead stays held."""

    def __init__(self, outer: "Gate | None" = None) -> None:
        self._outer, self._shut, self.dead = outer, False, False
        self._waiting: list[asyncio.Future[None]] = []
        self.tasks: set[asyncio.Task[Any]] = set()

    def shut(self) -> None:
        self._shut = True

    def open(self) -> None:
        self._shut = False
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def held_by(self) -> "Gate | None":
        return self if self._shut or self.dead else self._outer.held_by() if self._outer else None

    def wait(self) -> asyncio.Future[None]:
        future = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        future._asyncio_future_blocking = True
        return future


class Gated(collections.abc.Coroutine):
    """A coroutine that goes on only while its gate is open."""

    def __init__(self, inner: Any, gate: Gate) -> None:
        self._inner, self._gate = inner, gate
        self._held: tuple[Callable[[Any], Any], Any] | None = None

    def send(self, value: Any) -> Any:
        return self._step(self._held or (self._inner.send, value))

    def throw(self, error: Any, *_: Any) -> Any:
        return self._step((self._inner.throw, error))

    def close(self) -> None:
        self._inner.close()

    def __await__(self) -> Any:
        raise AssertionError("a task sends to it and never awaits it")

    def _step(self, action: tuple[Callable[[Any], Any], Any]) -> Any:
        if holder := self._gate.held_by():
            self._held = action
            return holder.wait()
        self._held = None
        return action[0](action[1])


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next thing to do."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self.thread_seconds: Callable[[], float] = lambda: 0.0
        select = self._selector.select

        def jump(timeout: float | None) -> Any:
            if timeout is None:
                raise RuntimeError("nothing will ever happen again")
            # At least as much as a float shows.
            self._now += max(timeout, 1e-6) if timeout else 0.0
            return select(0)

        self._selector.select = jump  # type: ignore[method-assign]
        self.set_task_factory(_task)

    def time(self) -> float:
        return self._now

    def run_in_executor(self, _: Any, function: Callable[..., Any], *args: Any) -> Any:
        """A thread's work is done, for whoever still waits for it, at some later moment."""
        future = self.create_future()

        def run() -> None:
            try:
                result, failed = function(*args), None
            except Exception as error:
                result, failed = None, error
            # It may be called off while the thread goes on.
            if future.done():
                return
            if failed:
                future.set_exception(failed)
            else:
                future.set_result(result)

        self.call_later(self.thread_seconds(), run)
        return future


def _task(loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> asyncio.Task[Any]:
    if not (gate := _gate.get()):
        return asyncio.Task(work, loop=loop, **options)
    task = asyncio.Task(Gated(work, gate), loop=loop, **options)
    gate.tasks.add(task)
    task.add_done_callback(gate.tasks.discard)
    return task


@dataclass
class Blob:
    content: bytes
    etag: int = 0
    lease_id: str | None = None
    lapses: float = 0.0
    lapsed: float | None = None
    """When the lease before the present one did."""


@dataclass
class Service:
    """How requests to one service fare at the moment, from all VMs."""

    down: str | None = None
    """None, or `refuses`, `hangs`, `late`."""


@dataclass
class Folder:
    """The share's folder of one identity, for one epoch, as its holder sees it."""

    path: Path
    lock_fd: int
    unlock: Callable[[], None]
    recall: Callable[[], bytes | None]
    remember: Callable[[bytes], None]

    def close(self) -> None:
        self.unlock()


@dataclass
class Identities:
    """What database and share keep of one identity."""

    open_roles: set[int] = field(default_factory=set)
    roles: set[int] = field(default_factory=set)
    sessions: dict[int, int] = field(default_factory=dict)
    folders: dict[int, list[str]] = field(default_factory=dict)
    notes: dict[int, bytes | None] = field(default_factory=dict)
    admitted: set[str] = field(default_factory=set)
    """Whom the network of the identity's nodes knows, wherever they ran."""
    lock: "tuple[Gate, float] | None" = None
    started: int = 0
    """The newest epoch whose node ran."""
    commits: Counter[int] = field(default_factory=Counter)
    published: int = 0
    """The newest epoch that said of itself where it is."""


class World:
    """The services, the VMs, and what must never happen."""

    def __init__(self, seed: int, loop: VirtualLoop, names: tuple[str, ...], machines: int) -> None:
        self.chance, self.loop, self.names = random.Random(seed), loop, names
        self.blobs: dict[str, Blob] = {}
        self.kept = defaultdict[str, Identities](Identities)
        self.services = {name: Service() for name in ("store", "database", "share", "vault", "documents", "links")}
        self.violations: list[str] = []
        # In every other history the share's locks do not hold: then the other guards stand alone.
        self.locks_hold = self.chance.random() < 0.5
        self.takeovers: list[float] = []
        self.over = False
        self.gates: list[Gate] = []
        self.vault: dict[str, bytes] = {}
        self.documents: dict[str, Document] = {}
        self.peers = {"bank-b"}
        self.uncertified = 0.0
        """Until then nobody has certified the nodes."""
        self.revision = 0
        """A node that was prepared with another one is stale."""
        self.happened: Counter[str] = Counter()
        self.events: list[str] = []
        self.folder = Path("/nowhere")
        self.takings: Counter[str] = Counter()
        self.broken: dict[str, float] = {}
        self._sessions = itertools.count(1)
        loop.thread_seconds = self.delay
        self.machines = [Machine(self, f"vm-{number}") for number in range(1, machines + 1)]

    def delay(self) -> float:
        return self.chance.choice((0.002, 0.01, 0.03, 0.2))

    def gate(self, outer: Gate | None = None) -> Gate:
        self.gates.append(made := Gate(outer))
        return made

    async def end(self) -> None:
        """Let every task run to its end, so that none is left behind."""
        self.over = True
        while tasks := {task for gate in self.gates for task in gate.tasks}:
            for gate in self.gates:
                gate.dead = False
                gate.open()
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=60)

    def note(self, text: str) -> None:
        self.events.append(f"{self.loop.time():8.2f} {text}")

    def violated(self, text: str) -> None:
        if self.over:
            return
        self.note(f"VIOLATION {text}")
        self.violations.append(text)

    async def request(self, machine: "Machine", service: str, apply: Callable[[], Any]) -> Any:
        """Send a request; it is applied when it arrives, whoever still waits."""
        future = self.loop.create_future()
        there, back = self.delay(), self.delay()
        trouble = self.services[service].down or machine.cut_off.get(service)
        match trouble:
            case "refuses":
                await asyncio.sleep(there)
                raise UnavailableError(f"{service} refuses")
            case "hangs":
                await self.loop.create_future()
            case "late":
                there, back = self.chance.uniform(0, 40), self.chance.uniform(0, 40)

        def arrive() -> None:
            try:
                result, error = apply(), None
            except (RefusedError, UnavailableError, SupersededError) as refused:
                result, error = None, refused
            self.loop.call_later(back, answer, result, error)

        def answer(result: Any, error: Exception | None) -> None:
            if future.done():
                return
            if error:
                future.set_exception(error)
            else:
                future.set_result(result)

        self.loop.call_later(there, arrive)
        return await future

    # --- The lease store ---

    def leased(self, blob: Blob) -> bool:
        return blob.lease_id is not None and self.loop.time() < blob.lapses

    def lease(self, name: str, lease_id: str, *, renew: bool) -> None:
        blob = self.blobs[name]
        mine = blob.lease_id == lease_id
        if not mine if renew else self.leased(blob) and not mine:
            raise RefusedError(f"{name} is held by another")
        if not renew and blob.lease_id not in {None, lease_id}:
            blob.lapsed = blob.lapses
        blob.lease_id, blob.lapses = lease_id, self.loop.time() + LEASE_SECONDS

    def write(self, name: str, content: bytes, lease_id: str, etag: str) -> str:
        blob = self.blobs[name]
        if not self.leased(blob) or blob.lease_id != lease_id or str(blob.etag) != etag:
            raise RefusedError(f"{name}: ETag or lease differ")
        blob.content, blob.etag = content, blob.etag + 1
        if blob.lapsed is not None:
            self.takeovers.append(self.loop.time() - blob.lapsed)
            blob.lapsed = None
        return str(blob.etag)

    def release(self, name: str, lease_id: str) -> None:
        blob = self.blobs[name]
        if blob.lease_id != lease_id:
            raise RefusedError(f"{name} is held by another")
        blob.lease_id = None

    def break_lease(self, name: str) -> None:
        if blob := self.blobs.get(name):
            blob.lease_id = None
            self.broken[name] = self.loop.time()

    # --- The database ---

    def close_roles(self, name: str, epoch: int) -> None:
        kept = self.kept[name]
        if kept.roles and max(kept.roles) > epoch:
            raise SupersededError(f"{name}: a role of a newer epoch is there")
        kept.roles.add(epoch)
        kept.open_roles = {epoch}

    def end_sessions(self, name: str, epoch: int) -> None:
        kept = self.kept[name]
        kept.sessions = {session: of for session, of in kept.sessions.items() if of >= epoch}

    def sign_in(self, name: str, epoch: int) -> int:
        kept = self.kept[name]
        if epoch not in kept.open_roles:
            raise SupersededError(f"{name}: the role of epoch {epoch} may not sign in")
        session = next(self._sessions)
        kept.sessions[session] = epoch
        return session

    def commit(self, name: str, epoch: int, session: int) -> None:
        kept = self.kept[name]
        if session not in kept.sessions:
            raise SupersededError(f"{name}: the session was ended")
        kept.commits[epoch] += 1
        if epoch < kept.started:
            self.violated(f"{name}: epoch {epoch} committed after epoch {kept.started} ran")

    # --- The share ---

    def open_folder(self, machine: "Machine", name: str, epoch: int) -> Folder:
        if self.services["share"].down or machine.cut_off.get("share") or machine.incarnation.dead:
            raise UnavailableError("the share does not answer")
        kept, gate = self.kept[name], machine.incarnation
        if kept.lock and self.locks_hold and self.loop.time() < kept.lock[1]:
            raise UnavailableError(f"{name} is locked by another")
        if kept.folders and max(kept.folders) > epoch:
            raise SupersededError(f"{name}: a folder of a newer epoch is there")
        if epoch not in kept.folders:
            kept.notes[epoch] = kept.notes[max(kept.folders)] if kept.folders else None
            kept.folders[epoch] = list(kept.folders[max(kept.folders)]) if kept.folders else []
        lock = kept.lock = (gate, float("inf"))

        def unlock() -> None:
            if kept.lock == lock:
                kept.lock = None

        def answers() -> None:
            if self.services["share"].down or machine.cut_off.get("share"):
                raise OSError("the share does not answer")

        def recall() -> bytes | None:
            answers()
            return kept.notes[epoch]

        def remember(note: bytes) -> None:
            answers()
            kept.notes[epoch] = note

        return Folder(self.folder, 0, unlock, recall, remember)

    def journal(self, name: str, epoch: int, into: int) -> None:
        if into not in self.kept[name].folders:
            raise SupersededError(f"{name}: the folder of epoch {into} is gone")
        if into != epoch:
            self.violated(f"{name}: epoch {epoch} wrote into the journal of epoch {into}")
        self.kept[name].folders[into].append(f"{epoch}")

    # --- The documents ---

    def write_document(self, name: str, content: bytes, etag: str | None) -> str | None:
        kept = self.documents.get(name)
        if etag != (kept and kept.etag):
            return None
        self.documents[name] = Document(content, str(int(kept.etag) + 1 if kept else 1))
        if name.startswith(NODES):
            identity, epoch = self.kept[name.removeprefix(NODES)], int(content)
            if epoch < identity.published:
                self.violated(f"{name}: epoch {epoch} published over epoch {identity.published}")
            identity.published = epoch
        return self.documents[name].etag


class Store:
    """The lease store as one VM reaches it."""

    def __init__(self, machine: "Machine") -> None:
        self._machine, self._world = machine, machine.world

    async def _ask(self, apply: Callable[[], Any]) -> Any:
        return await self._world.request(self._machine, "store", apply)

    async def prepare(self, identity: str, content: bytes) -> None:
        await self._ask(lambda: self._world.blobs.setdefault(identity, Blob(content)))

    async def free(self) -> list[str]:
        world = self._world
        return await self._ask(lambda: [name for name, blob in world.blobs.items() if not world.leased(blob)])

    async def acquire(self, identity: str, lease_id: str) -> None:
        await self._ask(lambda: self._world.lease(identity, lease_id, renew=False))

    async def renew(self, identity: str, lease_id: str) -> None:
        await self._ask(lambda: self._world.lease(identity, lease_id, renew=True))

    async def release(self, identity: str, lease_id: str) -> None:
        await self._ask(lambda: self._world.release(identity, lease_id))

    async def read(self, identity: str) -> tuple[bytes, str]:
        return await self._ask(lambda: (self._world.blobs[identity].content, str(self._world.blobs[identity].etag)))

    async def write(self, identity: str, content: bytes, lease_id: str, etag: str) -> str:
        return await self._ask(lambda: self._world.write(identity, content, lease_id, etag))


class Database:
    """The fence of the database, in its two steps."""

    def __init__(self, machine: "Machine") -> None:
        self._machine, self._world = machine, machine.world

    async def close_older(self, identity: str, epoch: int, *, known: bool) -> DatabaseAccess:
        for step in (self._world.close_roles, self._world.end_sessions):
            await self._world.request(self._machine, "database", partial(step, identity, epoch))
        return DatabaseAccess("database", 5432, identity, f"{identity}_e{epoch}", "")


class Share:
    """The share as one VM mounts it."""

    def __init__(self, machine: "Machine") -> None:
        self._machine = machine

    def open(self, identity: str, epoch: int) -> Folder:
        return self._machine.world.open_folder(self._machine, identity, epoch)


class Vault:
    """A vault that keeps what it is given, and makes new keys only for whoever never had any."""

    def __init__(self, machine: "Machine") -> None:
        self._machine, self._world = machine, machine.world

    async def obtain(self, identity: str, make: Callable[[], Mapping[str, bytes]], known: str | None) -> Any:
        def apply() -> Any:
            made = identity not in self._world.vault
            if made and known:
                self._world.violated(f"{identity}: new keys over those that its record knows")
            key = self._world.vault.setdefault(identity, make()["key"])
            return SimpleNamespace(blobs={"key": key}, fingerprint=key.hex(), made=made)

        return await self._world.request(self._machine, "vault", apply)


class Documents:
    """The bank's documents as one VM reaches them."""

    def __init__(self, machine: "Machine") -> None:
        self._machine, self._world = machine, machine.world

    async def _ask(self, apply: Callable[[], Any]) -> Any:
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                return await self._world.request(self._machine, "documents", apply)
        except TimeoutError as error:
            raise UnavailableError("the documents do not answer") from error

    async def read(self, name: str) -> Document | None:
        return await self._ask(lambda: self._world.documents.get(name))

    async def write(self, name: str, content: bytes, etag: str | None) -> str | None:
        return await self._ask(lambda: self._world.write_document(name, content, etag))

    async def names(self, prefix: str) -> list[str]:
        return await self._ask(lambda: [name for name in self._world.documents if name.startswith(prefix)])


class Shared:
    """The bank's secrets as one VM reaches them."""

    def __init__(self, machine: "Machine") -> None:
        self._machine, self._world = machine, machine.world

    async def peers(self) -> Peers:
        def cards() -> Peers:
            made = {
                name: Card(name, {f"{name} node-1": f"{name}:1"}, name, name.encode()) for name in self._world.peers
            }
            return Peers(frozenset(made), made)

        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                return await self._world.request(self._machine, "vault", cards)
        except TimeoutError as error:
            raise UnavailableError("the vault does not answer") from error

    async def card(self) -> bytes | None:
        return None


class Software:
    """A node of one process that commits and journals."""

    def __init__(self, machine: "Machine") -> None:
        self._machine, self._world = machine, machine.world
        self._revision = 0

    def make_secrets(self, identity: Identity) -> Mapping[str, bytes]:
        return {"key": self._machine.world.chance.randbytes(8), "password": b"password"}

    async def prepare(self, place: Place) -> None:
        self._revision = self._world.revision
        await asyncio.sleep(self._machine.world.chance.uniform(0, 2))
        if self._world.loop.time() < self._world.uncertified:
            self._world.happened["waited"] += 1
            raise WaitingError("nobody has certified the node yet")

    def processes(self, place: Place) -> list[Process]:
        return [Process(f"{place.identity.name} {place.epoch}", (), {}, place.kept, stop_seconds=3)]

    async def readiness(self, place: Place) -> Readiness:
        return Readiness.READY if self._machine.running else Readiness.DOWN

    async def figures(self, place: Place) -> Mapping[Figure, float]:
        return {}

    async def info(self, place: Place) -> bytes | None:
        return str(place.epoch).encode() if self._machine.running else None

    async def _meet(self, place: Place) -> set[str]:
        """Whom the node knows; a node of an older epoch, or one that is gone, changes nothing of it."""
        world, kept = self._world, self._world.kept[place.identity.name]
        match world.chance.randrange(20) if world.loop.time() < TROUBLE_SECONDS else None:
            case 0:
                await asyncio.sleep(3600)
            case 1:
                raise world.chance.choice([SoftwareError("no tool"), OSError("no disk"), KeyError("what?")])
        await asyncio.sleep(world.chance.uniform(0, 1))
        return kept.admitted if place.epoch == kept.started and self._machine.running else set()

    async def admit(self, place: Place, member: Member) -> None:
        if self._world.loop.time() < TROUBLE_SECONDS and self._world.chance.randrange(20) == 0:
            self._world.happened["lied"] += 1
            raise UntrustedError(f"{member.name} lies")
        (await self._meet(place)).add(member.name)

    async def expel(self, place: Place, member: str) -> None:
        (await self._meet(place)).discard(member)
        self._world.happened["expelled"] += 1

    async def drain(self, place: Place, seconds: float) -> None:
        agent, world = self._machine.agent, self._world
        if agent and not agent.sound:
            world.violated(f"{place.identity.name}: drained without a fresh lease")
        world.happened["drained"] += 1
        world.note(f"{self._machine.name} drains {place.identity.name}")
        match world.chance.randrange(6):
            case 0:
                await asyncio.sleep(3600)
            case 1:
                raise SoftwareError("the node can't be asked")
            case 2:
                # It does not want to be called off.
                while world.loop.time() < TROUBLE_SECONDS and not world.over:
                    try:
                        await asyncio.sleep(5)
                    except asyncio.CancelledError:
                        continue
            case _:
                await asyncio.sleep(world.chance.uniform(0, seconds))

    async def stale(self, place: Place) -> str | None:
        if self._world.chance.randrange(20) == 0:
            raise UnavailableError("not known")
        return None if self._revision == self._world.revision else "there is something new"


class Ledger:
    """A running node process: it writes as long as it is let."""

    def __init__(self, machine: "Machine", name: str) -> None:
        self.name, self._machine, self._world = name, machine, machine.world
        self.identity, epoch = name.split()
        self.epoch = int(epoch)
        self.gate = self._world.gate(machine.frozen)
        self._ended = self._world.loop.create_future()
        token = _gate.set(self.gate)
        self._writing = asyncio.create_task(self._write())
        _gate.reset(token)

    async def _write(self) -> None:
        world, own = self._world, (self.identity, self.epoch)
        session: int | None = None
        while True:
            try:
                session = session or await world.request(self._machine, "database", partial(world.sign_in, *own))
                await world.request(self._machine, "database", partial(world.commit, *own, session))
                await world.request(self._machine, "share", partial(world.journal, *own, self.epoch))
            except (SupersededError, UnavailableError):
                session = None
            await asyncio.sleep(world.chance.uniform(1, 4))

    def crash(self, status: int = 1) -> None:
        self.gate.dead = True
        if self in self._machine.running:
            self._machine.running.remove(self)
        if not self._ended.done():
            self._ended.set_result(status)

    async def wait(self) -> int:
        return await asyncio.shield(self._ended)

    async def stop(self, seconds: float) -> None:
        try:
            await asyncio.sleep(min(seconds, self._world.chance.uniform(0, 4)))
        finally:
            self.crash()


class Machine:
    """One VM: its agent under systemd, its node's processes, and what may befall it."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name = world, name
        self.frozen = world.gate()
        self.incarnation = world.gate(self.frozen)
        self.running: list[Ledger] = []
        self.cut_off: dict[str, str] = {}
        self.doubtful_until = 0.0
        """Until then another VM may rightly believe that this one's node has ended."""
        self.agent: Agent | None = None
        self.status = Status(name)

    def boot(self) -> None:
        if self.world.over:
            return
        self.incarnation = gate = self.world.gate(self.frozen)
        clock = Clock(now=self.world.loop.time, utc=lambda: EPOCH + timedelta(seconds=self.world.loop.time()))
        self.status = Status(self.name)
        workplace = Workplace(
            software=Software(self),
            share=Share(self),
            vault=Vault(self),
            disk=SimpleNamespace(
                scratch=lambda: self.world.folder, unpack=lambda _: self.world.folder, wipe=lambda: None
            ),
            launch=self._launch,
            database=Database(self),
            network=Exchange(
                bank=Bank(OWN, {name: name for name in self.world.names}, {name: name for name in self.world.names}),
                documents=Documents(self),
                vault=Shared(self),
                fetch=self._fetch,
                rhythm=Asking(fetch=30, refresh=20, peers=10),
                chance=random.Random(self.world.chance.random()),
            ),
            document=None,
            rhythm=RHYTHM,
        )
        identities = [Identity(index, name, name, ECHO.roles[0], {}) for index, name in enumerate(self.world.names)]
        self.agent = Agent(
            identities,
            Store(self),
            workplace,
            self.status,
            clock=clock,
            chance=random.Random(self.world.chance.random()),
            drain_seconds=DRAIN_SECONDS,
        )
        token = _gate.set(gate)
        self._sign = self.world.loop.time()
        self._tasks = [asyncio.create_task(self._live(self.agent)), asyncio.create_task(self._give_signs(self.agent))]
        _gate.set(self.frozen)
        self._tasks.append(asyncio.create_task(self._watch_over(gate)))
        _gate.reset(token)

    async def _fetch(self, url: str) -> bytes:
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                return await self.world.request(self, "links", lambda: NetworkInfo(member=url).to_json())
        except TimeoutError as error:
            raise UnavailableError(f"{url} does not answer") from error

    async def _live(self, agent: Agent) -> None:
        try:
            await agent.run()
        except Exception as error:
            self.world.violated(f"{self.name}: the agent died of {error!r}")
        self.end("ended", gate=self.incarnation)

    async def _give_signs(self, agent: Agent) -> None:
        while True:
            if agent.sound:
                self._sign = self.world.loop.time()
            await asyncio.sleep(2)

    async def _watch_over(self, gate: Gate) -> None:
        while gate is self.incarnation and not gate.dead:
            left = self._sign + WATCHDOG_SECONDS - self.world.loop.time()
            if left <= 0:
                self.end("killed by the watchdog", gate=gate)
            else:
                await asyncio.sleep(left)

    async def _launch(self, process: Process, _: int) -> Ledger:
        ledger = Ledger(self, process.name)
        world, kept = self.world, self.world.kept[ledger.identity]
        if self.running:
            world.violated(f"{self.name}: {ledger.name} starts beside {self.running[0].name}")
        for other in world.machines:
            surely = world.loop.time() > max(other.doubtful_until, world.broken.get(ledger.identity, -99.0) + 30)
            if surely and any(each.identity == ledger.identity for each in other.running):
                world.violated(f"{ledger.name} starts on {self.name} while {other.name} still runs it")
        self.running.append(ledger)
        kept.started = max(kept.started, ledger.epoch)
        world.takings[ledger.identity] += 1
        world.note(f"{self.name} runs {ledger.name}")
        return ledger

    def end(
        self, why: str, *, gate: Gate | None = None, restart: float = RESTART_SECONDS, power: bool = False
    ) -> None:
        """The agent is gone, and with it its control group; systemd starts it again."""
        if self.world.over or (gate or self.incarnation).dead or gate not in {None, self.incarnation}:
            return
        self.world.note(f"{self.name} {why}")
        ended = self.incarnation
        ended.dead = True
        for ledger in list(self.running):
            ledger.crash()
        for kept in self.world.kept.values():
            if kept.lock and kept.lock[0] is ended:
                kept.lock = (ended, self.world.loop.time() + SHARE_LOCK_SECONDS) if power else None
        self.world.loop.call_later(restart, self.boot)

    def freeze(self, seconds: float) -> None:
        """The VM stands still; its client of the share is forgotten after a while."""
        world = self.world
        world.note(f"{self.name} is frozen for {seconds:.0f} s")
        self.frozen.shut()
        self.doubtful_until = max(self.doubtful_until, world.loop.time() + seconds + WATCHDOG_SECONDS + LEASE_SECONDS)
        frozen = self.incarnation

        def forget() -> None:
            for kept in world.kept.values():
                if kept.lock and kept.lock[0] is frozen:
                    kept.lock = None

        if seconds > SHARE_LOCK_SECONDS:
            world.loop.call_later(SHARE_LOCK_SECONDS, forget)
        world.loop.call_later(seconds, self.frozen.open)

    def hang(self, seconds: float) -> None:
        """The agent's event loop stands still, the node goes on."""
        self.world.note(f"{self.name}'s agent hangs for {seconds:.0f} s")
        hanging = self.incarnation
        hanging.shut()
        self.world.loop.call_later(seconds, hanging.open)


@dataclass(frozen=True)
class Outcome:
    """What came of one history."""

    seed: int
    violations: list[str]
    events: list[str]
    unheld: list[str]
    """Identities without a running node when the stated time was over."""
    calm_seconds: float
    """From the end of all trouble until every identity was held."""
    takeovers: list[float]
    """Seconds from each lapse of a lease until another VM had raised the epoch."""
    commits: int
    takings: int
    taken_by: dict[str, int]
    """How many VMs held each identity, told by its record."""
    strangers: dict[str, list[str]]
    """Identities whose nodes know others than the members, in the end, and whom."""
    silent: list[str]
    """Identities of whose running node nobody learned in the end."""
    happened: Counter[str]


NAMES = ("node-1", "node-2")
TROUBLE_SECONDS = 120.0
SETTLED_SECONDS = 15
HELD_AGAIN_SECONDS = LEASE_SECONDS + SHARE_LOCK_SECONDS + AWAY_SECONDS + 30
"""After all trouble: a lease lapses, a lock is forgotten, and a VM leaves alone what it gave up."""


def _trouble(world: World) -> None:
    """One more thing goes wrong, or is new."""
    chance = world.chance
    machine = chance.choice(world.machines)
    seconds = chance.choice((1, 5, 12, 25, 40, 100)) * chance.uniform(0.5, 1.2)
    kinds = "freeze freeze freeze hang hang kill power crash break outage outage cut cut stop stop"
    news = "members revision revision uncertified"
    kind = chance.choice(f"{kinds} {news}".split())
    if kind in news.split():
        _news(world, kind, seconds)
    elif kind in {"outage", "cut", "break"}:
        _outage(world, kind, machine, seconds)
    else:
        _fault(world, kind, machine, seconds)


def _fault(world: World, kind: str, machine: Machine, seconds: float) -> None:
    chance, loop = world.chance, world.loop
    match kind:
        case "freeze":
            machine.freeze(seconds)
        case "hang":
            machine.hang(seconds)
        case "kill":
            machine.end("is killed", restart=chance.uniform(1, 20))
        case "power":
            machine.end("loses power", restart=chance.uniform(20, 60), power=True)
        case "crash":
            for ledger in machine.running:
                world.note(f"{machine.name}: {ledger.name} crashes")
            for ledger in list(machine.running):
                ledger.crash()
        case "stop":
            holders = [each for each in world.machines if each.status.state is State.HOLDING]
            machine = chance.choice(holders or [machine])
            world.note(f"{machine.name} is told to stop")
            if agent := machine.agent:
                agent.stop("told to")
                if chance.random() < 0.3:
                    loop.call_later(chance.uniform(0, DRAIN_SECONDS), agent.hurry)


def _outage(world: World, kind: str, machine: Machine, seconds: float) -> None:
    chance, loop = world.chance, world.loop
    service, how = chance.choice(list(world.services)), chance.choice(("refuses", "hangs", "late"))
    match kind:
        case "break":
            name = chance.choice(world.names)
            world.note(f"the lease of {name} is broken")
            world.break_lease(name)
        case "outage":
            world.note(f"{service} {how} for {seconds:.0f} s")
            world.services[service].down = how
            loop.call_later(seconds, setattr, world.services[service], "down", None)
        case "cut":
            world.note(f"{machine.name}: {service} {how} for {seconds:.0f} s")
            machine.cut_off[service] = how
            loop.call_later(seconds, machine.cut_off.pop, service, None)


def _news(world: World, kind: str, seconds: float) -> None:
    match kind:
        case "members":
            world.peers = set(world.chance.sample(PEERS, world.chance.randint(0, len(PEERS))))
            world.note(f"peers are {', '.join(sorted(world.peers)) or 'none'}")
        case "uncertified":
            world.uncertified = world.loop.time() + seconds
            world.note(f"nobody certifies for {seconds:.0f} s")
        case "revision":
            world.revision += 1
            world.note("there is something new")


async def anything(world: World) -> None:
    """Some things go wrong, one after the other or at once."""
    for at in sorted(world.chance.uniform(0, TROUBLE_SECONDS) for _ in range(world.chance.randint(1, 8))):
        await asyncio.sleep(at - world.loop.time())
        _trouble(world)


async def nothing(world: World) -> None:
    """All is well."""


async def power_loss(world: World) -> None:
    """A holder is gone without a word."""
    await asyncio.sleep(world.chance.uniform(10, 30))
    world.chance.choice([machine for machine in world.machines if machine.running]).end(
        "loses power", restart=TROUBLE_SECONDS, power=True
    )


def play(seed: int, *, trouble: Callable[[World], Awaitable[None]] = anything, machines: int = 3) -> Outcome:
    """One random history, the same for the same seed: trouble, then calm until every identity is held."""
    loop = VirtualLoop()
    loop.set_exception_handler(lambda _, context: world.violated(f"lost in a task: {context}"))
    world = World(seed, loop, NAMES, machines)

    unheld: list[str] = []

    strangers: dict[str, list[str]] = {}
    silent: list[str] = []

    def held() -> set[str]:
        return {ledger.identity for machine in world.machines for ledger in machine.running}

    def acquainted() -> bool:
        return all(world.kept[name].admitted == {OWN, *world.peers} for name in world.names)

    def unspoken() -> list[str]:
        return [name for name in world.names if world.kept[name].published != world.kept[name].started]

    async def history() -> float:
        for machine in world.machines:
            machine.boot()
        await trouble(world)
        await asyncio.sleep(TROUBLE_SECONDS - loop.time())
        world.note("all trouble ends")
        world.uncertified = 0.0
        for service in world.services.values():
            service.down = None
        for machine in world.machines:
            machine.cut_off.clear()
            machine.frozen.open()
            machine.incarnation.open()
        calm = since = loop.time()
        # Held for a while: what was sent long ago may still arrive.
        while loop.time() < since + SETTLED_SECONDS and loop.time() < calm + HELD_AGAIN_SECONDS:
            await asyncio.sleep(0.5)
            if held() != set(world.names) or not acquainted() or unspoken():
                since = loop.time()
        seconds = since - calm
        unheld.extend(sorted(set(world.names) - held()))
        strangers.update(
            {name: sorted(world.kept[name].admitted) for name in world.names if not acquainted() and name in held()}
        )
        silent.extend(name for name in unspoken() if name in held())
        await world.end()
        return seconds

    token = _gate.set(None)
    try:
        seconds = loop.run_until_complete(history())
    finally:
        _gate.reset(token)
        loop.close()
    kept = world.kept.values()
    return Outcome(
        seed=seed,
        violations=world.violations,
        events=world.events,
        unheld=unheld,
        calm_seconds=seconds,
        takeovers=world.takeovers,
        commits=sum(each.commits.total() for each in kept),
        takings=world.takings.total(),
        taken_by={
            name: len({tenure.vm for tenure in Record.from_json(name, blob.content).history})
            for name, blob in world.blobs.items()
        },
        strangers=strangers,
        silent=silent,
        happened=world.happened,
    )
