"""A bank's VMs in virtual time: the real agent's code with a simulated lease store, database, share and vault.

The simulated services fail. One seed decides everything, so a history can be replayed. While a VM is frozen, its
tasks are held at their next `await`; requests that it sent before still arrive.
"""

import asyncio
import collections.abc
import contextvars
import errno
import itertools
import json
import random
import zlib
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from ipaddress import IPv4Network
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509.oid import ExtensionOID
from typing_extensions import override

from agent.agent import AVOID_SECONDS, Agent
from agent.exchange import NODES_PREFIX, Exchange, OwnBank
from agent.exchange import ExchangeIntervals as Asking
from agent.lease import IdentityRecord, LeaseDeniedError, LeaseRefusedError, LeaseStore
from agent.prerequisites import Prerequisite
from agent.resources import DatabaseFence, IdentityVault, NodeIntervals, Note, OtherVms, Presence, Resources, Share
from contract.identities import Identity
from contract.metrics import Figure
from contract.network_info import NetworkInfo, NodeInfo
from contract.ports import POSTGRESQL_PORT
from contract.timing import FAILSAFE, LEASE, STANDBY
from host.azure import REQUEST_SECONDS
from host.bank_documents import Document, Documents
from host.calls import BoundedCalls
from host.clock import Clock
from host.errors import DamagedError, NewerEpochError, SupersededError, UnavailableError
from host.status import Readiness, State, Status
from host.vault import Card, Peers
from lab.echo import ECHO
from ledger.software import (
    RESTART_STATUS,
    DatabaseAccess,
    NetworkMember,
    Place,
    Process,
    Software,
    SoftwareError,
    UntrustedError,
    WaitingError,
)

SHARE_LOCK_SECONDS = 90
"""How long a file server keeps the lock of a lost client."""
RESTART_SECONDS = 2
"""Time after which systemd restarts an agent."""
TIMING = LEASE
"""The agents' lease timing."""
SHORT_DRAIN_SECONDS = 40
"""Shorter than in production, like all intervals of a node, so that a history contains more of these events."""
_REFUSALS = 3
"""Consecutive refusals by its database that end a node."""
_UNANSWERED_SECONDS = 90
"""Time limit of a node's request, as the driver's `socketTimeout`: else a service that once hung would
keep a refused node alive for good."""
INTERVALS = NodeIntervals(meet=5, stale=20, stagger=15)
"""The intervals of a node, in seconds."""
OWN, PEERS = "bank-a", ("bank-b", "bank-c", "bank-d")
ADDRESSES = IPv4Network("10.0.0.0/8")
"""The range on each member's card; no simulated host has an address."""
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
"""The virtual time 0 in UTC."""

ODD_ANSWERS: tuple[Callable[[], Exception], ...] = (
    lambda: AttributeError("'NoneType' object has no attribute 'message'"),
    lambda: KeyError("etag"),
    lambda: RecursionError("maximum recursion depth exceeded"),
    lambda: zlib.error("Error -3 while decompressing data"),
    lambda: UnsupportedAlgorithm("signature algorithm OID is not supported"),
    lambda: x509.InvalidVersion("7 is not a valid X509 version", 7),
    lambda: x509.DuplicateExtension("duplicate extension", ExtensionOID.BASIC_CONSTRAINTS),
)
"""Exceptions that clients and parsers have raised for random answers."""

LOCAL_FAULTS = {
    "share": ("refuses", "hangs"),
    "disk": ("3 MiB free",),
    "runtime": ("no java",),
    "clock": ("60 s off",),
}
"""The faults of a single VM: the failed part, with its possible reasons."""
DRIFT = 0.03
"""The rate error of a drifting clock, far more than of a real one; the deadlines tolerate a seventh."""


def network_info(member: str, infos: Mapping[str, str]) -> bytes:
    """A member's `/networkinfo` document.

    Args:
        member: the member's name.
        infos: its nodes' information by legal name; each begins with the name of the member that signed it.
    """
    nodes = tuple(NodeInfo(legal_name=name, info=info.encode()) for name, info in infos.items())
    return NetworkInfo(member=member, nodes=nodes).to_json()


_T = TypeVar("_T")

_gate: contextvars.ContextVar["Gate | None"] = contextvars.ContextVar("gate", default=None)


class Gate:
    """Holds tasks while it, or its outer gate, is shut. A dead gate holds its tasks for ever."""

    def __init__(self, outer: "Gate | None" = None) -> None:
        self._outer, self._shut, self.dead = outer, False, False
        self._waiting: list[asyncio.Future[None]] = []
        self.tasks: set[asyncio.Task[Any]] = set()

    def shut(self) -> None:
        """Hold the tasks at their next step."""
        self._shut = True

    def open(self) -> None:
        """Resume the tasks that wait."""
        self._shut = False
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def held_by(self) -> "Gate | None":
        """The shut or dead gate that holds the tasks: this one, or an outer one; None if they may proceed."""
        return self if self._shut or self.dead else self._outer.held_by() if self._outer else None

    def wait(self) -> asyncio.Future[None]:
        """A future that completes when this gate opens, in the form in which a coroutine yields it to its task."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        future._asyncio_future_blocking = True
        return future


class Gated(collections.abc.Coroutine[Any, Any, Any]):
    """A coroutine that proceeds only while its gate is open."""

    def __init__(self, inner: Any, gate: Gate) -> None:
        self._inner, self._gate = inner, gate
        self._held: tuple[Callable[[Any], Any], Any] | None = None

    def send(self, value: Any) -> Any:
        """Resume the coroutine, or the step that the gate held."""
        return self._step(self._held or (self._inner.send, value))

    def throw(self, error: Any, *_: Any) -> Any:
        """Raise an error in the coroutine; a step that the gate held is dropped."""
        return self._step((self._inner.throw, error))

    def close(self) -> None:
        """Close the coroutine."""
        self._inner.close()

    def __await__(self) -> Any:
        raise AssertionError("a task sends to it and never awaits it")

    def _step(self, action: tuple[Callable[[Any], Any], Any]) -> Any:
        if holder := self._gate.held_by():
            self._held = action
            return holder.wait()
        self._held = None
        return action[0](action[1])


class HangingError(Exception):
    """A thread's call hangs, and continues once its service answers again."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time: its clock jumps to the next scheduled event."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self.thread_seconds: Callable[[], float] = lambda: 0.0
        selector: Any = vars(self)["_selector"]
        select = selector.select

        def jump(timeout: float | None) -> Any:
            if timeout is None:
                raise RuntimeError("nothing will ever happen again")
            # At least as much as a float shows.
            self._now += max(timeout, 1e-6) if timeout else 0.0
            return select(0)

        selector.select = jump
        self.set_task_factory(_task)

    def time(self) -> float:
        """The virtual time in seconds since the loop's creation."""
        return self._now

    def run_in_executor(self, _: Any, function: Callable[..., Any], *args: Any) -> Any:  # type: ignore[override]
        """Run a thread's function at a random later moment; its result is lost if nobody waits any more."""
        future = self.create_future()

        def run() -> None:
            try:
                result, failed = function(*args), None
            except HangingError:
                self.call_later(1.0, run)
                return
            except Exception as error:
                result, failed = None, error
            # The caller may have been cancelled while the thread continued.
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
    """An identity's record in the lease store."""

    content: bytes
    etag: int = 0
    lease_id: str | None = None
    lapses: float = 0.0
    lapsed: float | None = None
    """When the previous lease lapsed; None once its takeover was counted."""


@dataclass
class Service:
    """The present state of one service, for all VMs."""

    down: str | None = None
    """None if it works; otherwise `refuses`, `denies`, `hangs`, `late` or `odd` (an answer that nobody expects)."""


@dataclass
class SimulatedFolder:
    """The share's folder of one identity and one epoch, as its holder uses it."""

    path: Path
    lock_fd: int
    unlock: Callable[[], None]
    must_stop: Callable[[], str | None]
    read_note: Callable[[Note], bytes | None]
    write_note: Callable[[Note, bytes], None]
    prove: Callable[[], None]

    def close(self) -> None:
        """Release the folder's lock.

        Raises:
            HangingError: the share hangs.
        """
        self.unlock()


@dataclass
class IdentityState:
    """The data of one identity in database and share."""

    passwords: dict[int, str] = field(default_factory=dict)
    """Passwords of the roles that may sign in, by epoch."""
    roles: dict[int, str] = field(default_factory=dict)
    """By epoch: the holder that created its role."""
    sessions: dict[int, int] = field(default_factory=dict)
    """By open session: its epoch."""
    folders: dict[int, list[str]] = field(default_factory=dict)
    """By epoch: the journal in its folder."""
    holders: dict[int, str] = field(default_factory=dict)
    """By epoch: the holder that created its folder."""
    notes: dict[int, dict[Note, bytes]] = field(default_factory=dict)
    """By epoch: the agent's notes in its folder."""
    admitted: set[str] = field(default_factory=set)
    """The members in the network map of the identity's nodes."""
    copies: "dict[tuple[Gate, int], float]" = field(default_factory=dict)
    """By process and epoch: when its copy of the last folder began."""
    lock: "tuple[Gate, float] | None" = None
    """The process that locks the folder, and when its lock ends."""
    started: int = 0
    """The newest epoch whose node ran."""
    runs: int = 0
    """The number of node starts so far."""
    newest: tuple[int, int] = (0, 0)
    """Epoch and run of the only node that may commit."""
    commits: Counter[int] = field(default_factory=Counter)
    """Commits by epoch."""
    published: int = 0
    """The newest epoch whose node published its information."""


class World:
    """The services, the VMs, and the violations of the agent's promises."""

    def __init__(self, seed: int, loop: VirtualLoop, names: tuple[str, ...], machines: int) -> None:
        self.chance, self.loop, self.names = random.Random(seed), loop, names
        self.blobs: dict[str, Blob] = {}
        self.written: set[tuple[str, int]] = set()
        """Every identity and epoch that was ever written to a record."""
        self.older: list[tuple[str, Blob]] = []
        """Earlier versions of the blobs."""
        self.copies: dict[Machine, dict[str, Blob]] = {}
        """By VM: the copy of the blobs that it reaches while the store is forked."""
        self.stored = defaultdict[str, IdentityState](IdentityState)
        """The data in database and share by identity."""
        self.services = {name: Service() for name in ("store", "database", "share", "vault", "documents", "links")}
        self.violations: list[str] = []
        # In half of the histories the share's locks do not work, so that the other guards are tested without them.
        self.locks_hold = self.chance.random() < 0.5
        self.takeovers: list[float] = []
        self.over = False
        self.gates: list[Gate] = []
        self.vault: dict[str, bytes] = {}
        self.documents: dict[str, Document] = {}
        self.peers = {"bank-b"}
        self.hostile: set[str] = set()
        """Peers that answer with hostile documents."""
        self.uncertified = 0.0
        """The time until which the nodes' certificates are missing."""
        self.revision = 0
        """A node that was prepared with another revision is stale."""
        self.happened: Counter[str] = Counter()
        """Counts of events, by kind."""
        self.events: list[str] = []
        self.folder = Path("/nowhere")
        self.takings: Counter[str] = Counter()
        """Started nodes, by identity."""
        self.copy_seconds = 0.0
        """Duration of a folder's copy for the next epoch."""
        self.over_quota: dict[str, str] = {}
        """Identities that use too much of the share, with the reason why they must stop."""
        self.requests: Counter[str] = Counter()
        """Requests by service; lease renewals are counted as `renewals`."""
        self.present: dict[tuple[str, bool], float] = {}
        """By VM and whether it is a standby: when its announcement as healthy lapses."""
        self.broken: dict[str, float] = {}
        """By identity: until when it may have had two leases."""
        self._sessions = itertools.count(1)
        loop.thread_seconds = self.delay
        self.machines = [Machine(self, f"vm-{number}") for number in range(1, machines + 1)]

    def delay(self) -> float:
        """A random time in seconds that a message or a thread takes."""
        return self.chance.choice((0.002, 0.01, 0.03, 0.2))

    def gate(self, outer: Gate | None = None) -> Gate:
        """A new gate, which `end` opens."""
        self.gates.append(made := Gate(outer))
        return made

    async def end(self) -> None:
        """Cancel all tasks, and wait for their end."""
        self.over = True
        while tasks := {task for gate in self.gates for task in gate.tasks}:
            for gate in self.gates:
                gate.dead = False
                gate.open()
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=60)

    def note(self, text: str) -> None:
        """Record an event with its virtual time."""
        self.events.append(f"{self.loop.time():8.2f} {text}")

    def violated(self, text: str) -> None:
        """Record a broken promise; after `end` nothing counts."""
        if self.over:
            return
        self.note(f"VIOLATION {text}")
        self.violations.append(text)

    async def request(
        self, machine: "Machine", service: str, apply: Callable[[], _T], *, renewal: bool = False
    ) -> _T:
        """Send a request from a VM to a service; it is applied when it arrives, even if nobody waits any more.

        Args:
            machine: the sender.
            service: the service's name.
            apply: the request's effect; its result or error is the answer.
            renewal: whether it renews a lease.

        Raises:
            UnavailableError: the service refuses.
            LeaseDeniedError: the lease store denies.
        """
        future = self.loop.create_future()
        there, back = self.delay(), self.delay()
        trouble = self.services[service].down or machine.cut_off.get(service) or machine.local_faults.get(service)
        odd: Exception | None = None
        self.requests["renewals" if renewal else service] += 1
        match trouble:
            case "refuses":
                await asyncio.sleep(there)
                raise UnavailableError(f"{service} refuses")
            case "denies":
                await asyncio.sleep(there)
                raise LeaseDeniedError(f"{service} denies")
            case "hangs":
                await self.loop.create_future()
            case "late":
                there, back = self.chance.uniform(0, 40), self.chance.uniform(0, 40)
            case "odd":
                odd = self.odd()

        def arrive() -> None:
            try:
                result, error = apply(), None
            except (LeaseRefusedError, UnavailableError, SupersededError) as refused:
                result, error = None, refused
            self.loop.call_later(back, answer, result, odd or error)

        def answer(result: Any, error: Exception | None) -> None:
            if future.done():
                return
            if error:
                future.set_exception(error)
            else:
                future.set_result(result)

        self.loop.call_later(there, arrive)
        answered: _T = await future
        return answered

    def odd(self) -> Exception:
        """A random exception that no handler expects."""
        self.happened["odd answers"] += 1
        return self.chance.choice(ODD_ANSWERS)()

    def lie(self, member: str) -> bytes:
        """A random hostile answer to `/networkinfo`."""
        self.happened["hostile answers"] += 1
        chance, node = self.chance, f"{member} node-1"
        other = chance.choice([each for each in PEERS if each != member])
        proper = network_info(member, {node: member})
        return chance.choice(
            (
                chance.randbytes(64),
                b"[" * 5000,
                proper[: chance.randrange(len(proper))],
                network_info(other, {f"{other} node-1": member}),
                network_info(member, {}),
                network_info(member, {node: f"{member} {chance.random()}"}),
                network_info(member, {f"{other} node-1": other, f"{OWN} node-1": OWN, node: member}),
            )
        )

    # --- The lease store -------------------------------------------------------------------------------------------

    def leased(self, blob: Blob) -> bool:
        """Whether somebody has a lease of the blob that has not lapsed."""
        return blob.lease_id is not None and self.loop.time() < blob.lapses

    @staticmethod
    def blob(blobs: dict[str, Blob], name: str) -> Blob:
        """The blob of this name.

        Raises:
            LeaseRefusedError: it does not exist.
        """
        if name not in blobs:
            raise LeaseRefusedError(f"{name} is gone")
        return blobs[name]

    def lease(self, blob: Blob, name: str, lease_id: str, *, renew: bool) -> None:
        """Acquire or renew a lease of LEASE.lease_seconds.

        Raises:
            LeaseRefusedError: another holds it.
        """
        mine = blob.lease_id == lease_id
        if not mine if renew else self.leased(blob) and not mine:
            raise LeaseRefusedError(f"{name} is held by another")
        if not renew and blob.lease_id not in {None, lease_id}:
            blob.lapsed = blob.lapses
        blob.lease_id, blob.lapses = lease_id, self.loop.time() + LEASE.lease_seconds

    def write(self, blob: Blob, name: str, content: bytes, lease_id: str, etag: str) -> str:
        """Write a record under its lease; returns its new ETag.

        Raises:
            LeaseRefusedError: the lease or the ETag is not the present one.
        """
        if not self.leased(blob) or blob.lease_id != lease_id or str(blob.etag) != etag:
            raise LeaseRefusedError(f"{name}: ETag or lease differ")
        self.older.append((name, replace(blob)))
        self.written.add((name, json.loads(content)["epoch"]))
        blob.content, blob.etag = content, blob.etag + 1
        if blob.lapsed is not None:
            self.takeovers.append(self.loop.time() - blob.lapsed)
            blob.lapsed = None
        return str(blob.etag)

    @staticmethod
    def release(blob: Blob, name: str, lease_id: str) -> None:
        """End a lease.

        Raises:
            LeaseRefusedError: another holds it.
        """
        if blob.lease_id != lease_id:
            raise LeaseRefusedError(f"{name} is held by another")
        blob.lease_id = None

    def break_lease(self, name: str) -> None:
        """End the lease of this name, as an administrator may."""
        if blob := self.blobs.get(name):
            blob.lease_id = None
            self.broken[name] = self.loop.time()

    def lose(self, name: str) -> None:
        """Delete the blob."""
        self.blobs.pop(name, None)
        self.broken[name] = self.loop.time()

    def restore(self, name: str) -> None:
        """Restore a random earlier version of the blob, with its ETag, and with its lease if that has not lapsed."""
        if older := [blob for of, blob in self.older if of == name]:
            self.blobs[name] = replace(self.chance.choice(older))
            self.broken[name] = self.loop.time()

    def edit(self, name: str, content: bytes) -> None:
        """A person breaks the lease and writes this content."""
        if blob := self.blobs.get(name):
            blob.content, blob.etag = content, blob.etag + 1
            self.break_lease(name)

    def fork(self, machines: "list[Machine]", seconds: float) -> None:
        """Some VMs reach another copy of the store for a time, as during an account's failover."""
        copy = {name: replace(blob) for name, blob in self.blobs.items()}
        self.copies = dict.fromkeys(machines, copy)
        self.loop.call_later(seconds, self.join)

    def join(self) -> None:
        """End the fork: all VMs reach the same, randomly chosen copy."""
        if self.copies:
            self.blobs = self.chance.choice([self.blobs, *self.copies.values()])
            self.copies = {}
            self.broken = dict.fromkeys(self.names, self.loop.time())

    # --- The database ----------------------------------------------------------------------------------------------

    def close_roles(self, name: str, epoch: int, holder: str, password: str) -> None:
        """Make the role of this epoch the only one that may sign in, with this password.

        Raises:
            NewerEpochError: a newer epoch, or another holder of this one, has a role.
        """
        stored = self.stored[name]
        newest = max(stored.roles, default=0)
        if newest > epoch or stored.roles.get(epoch, holder) != holder:
            raise NewerEpochError(f"{name}: epoch {newest} has a role of another holder", newest)
        stored.roles[epoch] = holder
        stored.passwords = {epoch: password}

    def end_sessions(self, name: str, epoch: int) -> None:
        """End the database sessions of this and older epochs."""
        stored = self.stored[name]
        stored.sessions = {session: of for session, of in stored.sessions.items() if of > epoch}

    def prove(self, name: str, epoch: int, password: str) -> None:
        """Prove that the epoch is still the newest in the database.

        Raises:
            SupersededError: it is not, or its role may not sign in.
        """
        stored = self.stored[name]
        if stored.passwords.get(epoch) != password or max(stored.roles) > epoch:
            raise SupersededError(f"{name}: epoch {max(stored.roles)} has a role, or epoch {epoch} may not sign in")
        self.happened["proven"] += 1

    def sign_in(self, name: str, epoch: int, password: str) -> int:
        """Open a database session; returns its number.

        Raises:
            SupersededError: the epoch's role may not sign in.
        """
        stored = self.stored[name]
        if stored.passwords.get(epoch) != password:
            raise SupersededError(f"{name}: the role of epoch {epoch} may not sign in")
        session = next(self._sessions)
        stored.sessions[session] = epoch
        return session

    def commit(self, name: str, run: tuple[int, int], session: int) -> None:
        """Commit a transaction; a commit of a node that another one has replaced is a violation.

        Raises:
            SupersededError: the session was ended.
        """
        stored = self.stored[name]
        if session not in stored.sessions:
            raise SupersededError(f"{name}: the session was ended")
        stored.commits[run[0]] += 1
        if run < stored.newest:
            self.violated(f"{name}: epoch {run[0]} committed after epoch {stored.newest[0]} ran")

    # --- The share -------------------------------------------------------------------------------------------------

    def answers(self, machine: "Machine") -> None:
        """Ask a VM's mount of the share.

        Raises:
            HangingError: the share hangs.
            OSError: it does not answer; or another, odd exception.
        """
        match self.services["share"].down or machine.cut_off.get("share") or machine.local_faults.get("share"):
            case "hangs":
                raise HangingError
            case "odd":
                raise self.odd()
            case "refuses" | "late":
                raise OSError("the share does not answer")

    def knows_folder(self, machine: "Machine", name: str) -> bool:
        """Whether the share has a folder of this identity.

        Raises:
            UnavailableError: the share refuses.
            HangingError: it hangs.
        """
        try:
            self.answers(machine)
        except OSError as error:
            raise UnavailableError(str(error)) from error
        return bool(self.stored[name].folders)

    def open_folder(self, machine: "Machine", gate: Gate, name: str, epoch: int, holder: str) -> SimulatedFolder:
        """Lock and open an identity's folder of this epoch; a new one begins as a copy of the previous.

        Args:
            machine: the VM.
            gate: the VM's process, which holds the lock.
            name: the identity.
            epoch: the epoch of the holder.
            holder: the VM's random name for this tenure.

        Raises:
            UnavailableError: the share refuses, or another process has the lock.
            HangingError: the share hangs.
            DamagedError: the folder is over its quota.
            NewerEpochError: a newer epoch, or another holder of this one, has a folder.
        """
        if gate.dead:
            raise UnavailableError("its process is gone")
        try:
            self.answers(machine)
        except OSError as error:
            raise UnavailableError(str(error)) from error
        stored = self.stored[name]
        if why := self.over_quota.get(name):
            raise DamagedError(why)
        copying = stored.copies.get((gate, epoch))
        if copying is None and stored.lock and self.locks_hold and self.loop.time() < stored.lock[1]:
            raise UnavailableError(f"{name} is locked by another")
        newest = max(stored.folders, default=0)
        if newest > epoch or stored.holders.get(epoch, holder) != holder:
            raise NewerEpochError(f"{name}: epoch {newest} has a folder of another holder", newest)
        stored.holders[epoch] = holder
        if epoch not in stored.folders:
            stored.lock = (gate, float("inf"))
            began = stored.copies.setdefault((gate, epoch), self.loop.time())
            if stored.folders and self.loop.time() < began + self.copy_seconds:
                raise HangingError
            del stored.copies[gate, epoch]
            stored.notes[epoch] = dict(stored.notes[max(stored.folders)]) if stored.folders else {}
            stored.folders[epoch] = list(stored.folders[max(stored.folders)]) if stored.folders else []
        lock = stored.lock = (gate, float("inf"))

        def unlock() -> None:
            if "hangs" in {
                self.services["share"].down,
                machine.cut_off.get("share"),
                machine.local_faults.get("share"),
            }:
                raise HangingError
            if stored.lock == lock:
                stored.lock = None

        def read_note(note: Note) -> bytes | None:
            self.answers(machine)
            return stored.notes[epoch].get(note)

        def write_note(note: Note, content: bytes) -> None:
            self.answers(machine)
            stored.notes[epoch][note] = content

        def prove() -> None:
            self.answers(machine)
            if max(stored.folders) > epoch:
                raise SupersededError(f"{name}: a newer folder is there")

        def must_stop() -> str | None:
            self.answers(machine)
            return self.over_quota.get(name)

        return SimulatedFolder(self.folder, 0, unlock, must_stop, read_note, write_note, prove)

    def journal(self, name: str, epoch: int, into: int) -> None:
        """Write to the journal of the folder `into`; another epoch's folder is a violation.

        Raises:
            SupersededError: the folder does not exist.
        """
        if into not in self.stored[name].folders:
            raise SupersededError(f"{name}: the folder of epoch {into} is gone")
        if into != epoch:
            self.violated(f"{name}: epoch {epoch} wrote into the journal of epoch {into}")
        self.stored[name].folders[into].append(f"{epoch}")

    # --- The documents ---------------------------------------------------------------------------------------------

    def write_document(self, name: str, content: bytes, etag: str | None) -> str | None:
        """Write a document if its ETag is still `etag` (None: if it does not exist).

        Returns:
            its new ETag; None if it was not written.
        """
        stored = self.documents.get(name)
        if etag != (stored and stored.etag):
            return None
        self.documents[name] = Document(content, str(int(stored.etag) + 1 if stored else 1))
        if name.startswith(NODES_PREFIX):
            identity, epoch = self.stored[name.removeprefix(NODES_PREFIX)], int(content)
            if epoch < identity.published:
                self.violated(f"{name}: epoch {epoch} published over epoch {identity.published}")
            identity.published = epoch
        return self.documents[name].etag


class SimulatedStore(LeaseStore):
    """The lease store, for one VM."""

    def __init__(self, machine: "Machine") -> None:
        self._machine, self._world = machine, machine.world

    async def _ask(self, apply: Callable[[dict[str, Blob]], _T], *, renewal: bool = False) -> _T:
        world = self._world
        return await world.request(
            self._machine, "store", lambda: apply(world.copies.get(self._machine, world.blobs)), renewal=renewal
        )

    async def _of(self, identity: str, apply: Callable[[Blob], _T], *, renewal: bool = False) -> _T:
        return await self._ask(lambda blobs: apply(self._world.blob(blobs, identity)), renewal=renewal)

    @override
    async def prepare(self, identity: str, content: bytes) -> None:
        await self._ask(lambda blobs: blobs.setdefault(identity, Blob(content)))

    @override
    async def leased(self) -> dict[str, bool]:
        return await self._ask(lambda blobs: {name: self._world.leased(blob) for name, blob in blobs.items()})

    @override
    async def acquire(self, identity: str, lease_id: str) -> None:
        await self._of(identity, lambda blob: self._world.lease(blob, identity, lease_id, renew=False))

    @override
    async def renew(self, identity: str, lease_id: str) -> None:
        await self._of(identity, lambda blob: self._world.lease(blob, identity, lease_id, renew=True), renewal=True)

    @override
    async def release(self, identity: str, lease_id: str) -> None:
        await self._of(identity, lambda blob: self._world.release(blob, identity, lease_id))

    @override
    async def read(self, identity: str) -> tuple[bytes, str]:
        return await self._of(identity, lambda blob: (blob.content, str(blob.etag)))

    @override
    async def write(self, identity: str, content: bytes, lease_id: str, etag: str) -> str:
        return await self._of(identity, lambda blob: self._world.write(blob, identity, content, lease_id, etag))


class SimulatedPresence(Presence):
    """The healthy VMs: what one VM announces, and what it reads about the others."""

    def __init__(self, machine: "Machine") -> None:
        self._machine, self._world = machine, machine.world

    async def _ask(self, apply: Callable[[], _T], *, renewal: bool = False) -> _T:
        try:
            async with asyncio.timeout(STANDBY.answer_seconds / 2):
                return await self._world.request(self._machine, "store", apply, renewal=renewal)
        except TimeoutError as error:
            raise UnavailableError("the store does not answer") from error

    @override
    async def announce(self, *, standby: bool) -> None:
        def lease() -> None:
            self._forget()
            lapses = self._world.loop.time() + STANDBY.presence_lease_seconds
            self._world.present[self._machine.name, standby] = lapses

        await self._ask(lease, renewal=True)

    @override
    async def withdraw(self) -> None:
        if any(name == self._machine.name for name, _ in self._world.present):
            await self._ask(self._forget)

    @override
    async def others(self) -> OtherVms:
        def well(*, standby: bool) -> frozenset[str]:
            return frozenset(
                name
                for (name, role), until in self._world.present.items()
                if role is standby and until > self._world.loop.time() and name != self._machine.name
            )

        return await self._ask(lambda: OtherVms(well(standby=True), well(standby=False)))

    def _forget(self) -> None:
        for standby in (True, False):
            self._world.present.pop((self._machine.name, standby), None)


class Database(DatabaseFence):
    """The database's fence, in its two steps."""

    def __init__(self, machine: "Machine") -> None:
        self._machine, self._world = machine, machine.world

    @override
    async def close_older(self, identity: str, epoch: int, holder: str, *, existed: bool) -> DatabaseAccess:
        world, password = self._world, self._world.chance.randbytes(8).hex()
        for step in (
            partial(world.close_roles, identity, epoch, holder, password),
            partial(world.end_sessions, identity, epoch),
        ):
            await world.request(self._machine, "database", step)
        return DatabaseAccess("database", POSTGRESQL_PORT, identity, f"{identity}_e{epoch}", password)

    @override
    async def prove(self, access: DatabaseAccess, epoch: int) -> None:
        ask = partial(self._world.prove, access.database, epoch, access.password)
        await self._world.request(self._machine, "database", ask)


class SimulatedShare(Share):
    """The share, as mounted by one VM."""

    def __init__(self, machine: "Machine") -> None:
        self._machine, self._gate = machine, machine.incarnation

    @override
    def exists(self, identity: str) -> bool:
        return self._machine.world.knows_folder(self._machine, identity)

    @override
    def open(self, identity: str, epoch: int, holder: str) -> SimulatedFolder:
        return self._machine.world.open_folder(self._machine, self._gate, identity, epoch, holder)


class SimulatedKeys(IdentityVault):
    """The vault of keys, for one VM: stores an identity's first keys, and returns these from then on."""

    def __init__(self, machine: "Machine") -> None:
        self._machine, self._world = machine, machine.world

    @override
    async def exists(self, identity: Identity) -> bool:
        return await self._world.request(self._machine, "vault", lambda: identity.name in self._world.vault)

    @override
    async def obtain(self, identity: Identity, make: Callable[[], Mapping[str, bytes]], recorded: str | None) -> Any:
        def apply() -> Any:
            made = identity.name not in self._world.vault
            if made and recorded:
                self._world.violated(f"{identity.name}: new keys replace those in its record")
            key = self._world.vault.setdefault(identity.name, make()["key"])
            return SimpleNamespace(blobs={"key": key}, fingerprint=key.hex(), made=made)

        return await self._world.request(self._machine, "vault", apply)


class SimulatedDocuments(Documents):
    """The bank's documents, for one VM."""

    def __init__(self, machine: "Machine") -> None:
        self._machine, self._world = machine, machine.world

    async def _ask(self, apply: Callable[[], _T]) -> _T:
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                return await self._world.request(self._machine, "documents", apply)
        except TimeoutError as error:
            raise UnavailableError("the documents do not answer") from error

    @override
    async def read(self, name: str) -> Document | None:
        return await self._ask(lambda: self._world.documents.get(name))

    @override
    async def write(self, name: str, content: bytes, etag: str | None) -> str | None:
        return await self._ask(lambda: self._world.write_document(name, content, etag))

    @override
    async def names(self, prefix: str) -> dict[str, str]:
        world = self._world
        return await self._ask(
            lambda: {name: each.etag for name, each in world.documents.items() if name.startswith(prefix)}
        )


class SimulatedVault:
    """The bank's secrets, for one VM."""

    def __init__(self, machine: "Machine") -> None:
        self._machine, self._world = machine, machine.world

    async def peers(self) -> Peers:
        """The peers and a card of each.

        Raises:
            UnavailableError: the vault refuses or hangs.
        """

        def cards() -> Peers:
            made = {
                name: Card(name, {f"{name} node-1": f"{name}:1"}, name, ADDRESSES, name.encode())
                for name in sorted(self._world.peers)
            }
            return Peers(frozenset(made), made)

        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                return await self._world.request(self._machine, "vault", cards)
        except TimeoutError as error:
            raise UnavailableError("the vault does not answer") from error

    async def card(self) -> bytes | None:
        """The bank's own card: none."""
        return None


class SimulatedSoftware(Software):
    """A node of one process that commits and journals."""

    def __init__(self, machine: "Machine") -> None:
        self._machine, self._world = machine, machine.world
        self._revision = 0

    @override
    def make_secrets(self, identity: Identity) -> Mapping[str, bytes]:
        return {"key": self._machine.world.chance.randbytes(8), "password": b"password"}

    @override
    async def check(self) -> None:
        """See `Machine.prerequisites`."""

    @override
    async def prepare(self, place: Place) -> None:
        self._revision = self._world.revision
        await asyncio.sleep(self._machine.world.chance.uniform(0, 2))
        if why := self._machine.local_faults.get("runtime"):
            raise SoftwareError(why)
        if self._world.loop.time() < self._world.uncertified:
            self._world.happened["waited"] += 1
            raise WaitingError("nobody has certified the node yet")

    @override
    def processes(self, place: Place) -> list[Process]:
        assert place.database
        return [
            Process(
                f"{place.identity.name} {place.epoch}",
                (),
                {"password": place.database.password},
                place.durable,
                stop_seconds=3,
            )
        ]

    @override
    async def readiness(self, place: Place) -> Readiness:
        return Readiness.READY if self._machine.running else Readiness.DOWN

    @override
    async def figures(self, place: Place) -> Mapping[Figure, float]:
        return {}

    @override
    async def ends(self, place: Place) -> Mapping[str | None, datetime]:
        return {}

    @override
    async def info(self, place: Place) -> bytes | None:
        return str(place.epoch).encode() if self._machine.running else None

    async def _meet(self, place: Place) -> set[str]:
        """The members that the node admitted; an empty set, without effect, if its epoch is old or it has ended."""
        world, stored = self._world, self._world.stored[place.identity.name]
        match world.chance.randrange(20) if world.loop.time() < TROUBLE_SECONDS else None:
            case 0:
                await asyncio.sleep(3600)
            case 1:
                raise world.chance.choice([SoftwareError("no tool"), OSError("no disk"), KeyError("what?")])
        await asyncio.sleep(world.chance.uniform(0, 1))
        return stored.admitted if place.epoch == stored.started and self._machine.running else set()

    @override
    async def admit(self, place: Place, member: NetworkMember) -> None:
        if member.name != OWN and any(not info.startswith(member.name.encode()) for info in member.infos):
            self._world.violated(f"{member.name} is admitted by what another member says: {member.infos}")
        if self._world.loop.time() < TROUBLE_SECONDS and self._world.chance.randrange(20) == 0:
            self._world.happened["lied"] += 1
            raise UntrustedError(f"{member.name} lies")
        (await self._meet(place)).add(member.name)

    @override
    async def expel(self, place: Place, member: str) -> None:
        (await self._meet(place)).discard(member)
        self._world.happened["expelled"] += 1

    @override
    async def cut_off(self, place: Place) -> Mapping[str, str]:
        return {}

    @override
    async def drain(self, place: Place, seconds: float) -> None:
        agent, world = self._machine.agent, self._world
        if agent and not agent.may_run:
            world.violated(f"{place.identity.name}: drained without a fresh lease")
        world.happened["drained"] += 1
        world.note(f"{self._machine.name} drains {place.identity.name}")
        match world.chance.randrange(6):
            case 0:
                await asyncio.sleep(3600)
            case 1:
                raise SoftwareError("the node can't be asked")
            case 2:
                # A drain that ignores its cancellation.
                while world.loop.time() < TROUBLE_SECONDS and not world.over:
                    try:
                        await asyncio.sleep(5)
                    except asyncio.CancelledError:
                        continue
            case _:
                await asyncio.sleep(world.chance.uniform(0, seconds))

    @override
    async def stale(self, place: Place) -> str | None:
        if self._world.chance.randrange(20) == 0:
            raise UnavailableError("not known")
        return None if self._revision == self._world.revision else "there is something new"


class Ledger:
    """A running node process: it commits to the database and writes its journal until it is stopped or refused."""

    def __init__(self, machine: "Machine", name: str, password: str) -> None:
        self.name, self._machine, self._world = name, machine, machine.world
        self.ends: Mapping[int, str] = {}
        self.identity, epoch = name.split()
        self.epoch, self._password = int(epoch), password
        stored = self._world.stored[self.identity]
        stored.started, stored.runs = max(stored.started, self.epoch), stored.runs + 1
        self._run = self.epoch, stored.runs
        stored.newest = max(stored.newest, self._run)
        self.gate = self._world.gate(machine.frozen)
        self._ended = self._world.loop.create_future()
        token = _gate.set(self.gate)
        self._writing = asyncio.create_task(self._write())
        _gate.reset(token)

    async def _write(self) -> None:
        world, own = self._world, (self.identity, self.epoch)
        session: int | None = None
        refused = 0
        while refused < _REFUSALS:
            try:
                if session is None:
                    sign_in = partial(world.sign_in, *own, self._password)
                    session = await self._asking("database", sign_in)
                await self._asking("database", partial(world.commit, self.identity, self._run, session))
                await self._asking("share", partial(world.journal, *own, self.epoch))
                refused = 0
            except Exception as error:
                session, refused = None, refused + isinstance(error, SupersededError)
            await asyncio.sleep(world.chance.uniform(1, 4))
        self.crash(RESTART_STATUS)

    async def _asking(self, service: str, apply: Callable[[], _T]) -> _T:
        async with asyncio.timeout(_UNANSWERED_SECONDS):
            return await self._world.request(self._machine, service, apply)

    def crash(self, status: int = 1) -> None:
        """End at once with this exit status."""
        self.gate.dead = True
        if self in self._machine.running:
            self._machine.running.remove(self)
        if not self._ended.done():
            self._ended.set_result(status)

    async def wait(self) -> int:
        """Wait for the end; returns the exit status."""
        return await asyncio.shield(self._ended)

    async def stop(self, seconds: float) -> None:
        """End within at most `seconds`."""
        try:
            await asyncio.sleep(min(seconds, self._world.chance.uniform(0, 4)))
        finally:
            self.crash()


class Machine:
    """One VM: its agent under systemd, its node's processes, and its faults."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name = world, name
        self.frozen = world.gate()
        self.incarnation = world.gate(self.frozen)
        self.running: list[Ledger] = []
        self.cut_off: dict[str, str] = {}
        """Services that only this VM does not reach, with the way in which its requests fail."""
        self.local_faults: dict[str, str] = {}
        """The VM's failed parts (`LOCAL_FAULTS`) until it is replaced, with the reasons."""
        self._pace = (0.0, 0.0, 1.0)
        """The VM's clock: a true time, the clock's time then, and its rate since."""
        self.doubtful_until = 0.0
        """The time until which another VM may rightly assume that this VM's node has ended."""
        self.agent: Agent | None = None
        self.status = Status(name)

    def boot(self) -> None:
        """Start the agent's process, unless the history is over."""
        if self.world.over:
            return
        self.incarnation = gate = self.world.gate(self.frozen)
        clock = Clock(now=self._now, utc=lambda: EPOCH + timedelta(seconds=self._now()))
        self.status = Status(self.name)
        network = Exchange(
            bank=OwnBank(
                OWN,
                ADDRESSES,
                {name: name for name in self.world.names},
                {name: name for name in self.world.names},
            ),
            documents=SimulatedDocuments(self),
            vault=SimulatedVault(self),
            fetch=self._fetch,
            listens=self._listens,
            intervals=Asking(),
            rng=random.Random(self.world.chance.random()),
        )
        resources = Resources(
            software=SimulatedSoftware(self),
            share=SimulatedShare(self),
            vault=SimulatedKeys(self),
            disk=SimpleNamespace(scratch=self._scratch, unpack=lambda _: self.world.folder, wipe=lambda: None),
            launch=self._launch,
            database=Database(self),
            network=network,
            document=None,
            intervals=INTERVALS,
            prerequisites=self.prerequisites(),
            presence=SimulatedPresence(self),
        )
        identities = [Identity(index, name, name, ECHO.roles[0], {}) for index, name in enumerate(self.world.names)]
        self.agent = Agent(
            identities,
            SimulatedStore(self),
            resources,
            self.status,
            clock=clock,
            rng=random.Random(self.world.chance.random()),
            drain_seconds=SHORT_DRAIN_SECONDS,
            timing=TIMING,
        )
        token = _gate.set(gate)
        self._sign = self.world.loop.time()
        self._tasks = [
            asyncio.create_task(work)
            for work in (self._live(self.agent), self._notify_watchdog(self.agent), network.keep_fresh())
        ]
        _gate.set(self.frozen)
        self._tasks.append(asyncio.create_task(self._watch_over(gate)))
        _gate.reset(token)

    def _now(self) -> float:
        since, showed, rate = self._pace
        return showed + (self.world.loop.time() - since) * rate

    def _scratch(self) -> Path:
        if why := self.local_faults.get("disk"):
            raise OSError(errno.ENOSPC, why)
        return self.world.folder

    def prerequisites(self) -> tuple[Prerequisite, ...]:
        """The same prerequisites as in `agent.vm`, with simulated checks."""

        async def service(name: str) -> None:
            await self.world.request(self, name, lambda: None)

        async def local(name: str) -> None:
            if why := self.local_faults.get(name):
                raise UnavailableError(why)

        costly = STANDBY.costly_check_seconds
        return (
            Prerequisite("share", partial(BoundedCalls("share"), self.world.answers, self)),
            Prerequisite("disk", partial(local, "disk")),
            Prerequisite("clock", partial(local, "clock"), costly),
            Prerequisite("runtime", partial(local, "runtime"), costly, holding=False),
            Prerequisite("database", partial(service, "database"), costly, holding=False, common=True),
            Prerequisite("vault", partial(service, "vault"), costly, holding=False, common=True),
        )

    @property
    def by_proofs(self) -> bool:
        """Whether its node runs on proofs, without a fresh lease."""
        lease = self.agent._lease if self.agent else None
        return lease is not None and lease.alive and not lease.fresh

    def check_ended(self, ledger: "Ledger") -> None:
        """Record a violation if a fenced node still runs, since it must have noticed the fence by now."""
        if ledger in self.running and self.world.loop.time() > self.doubtful_until:
            self.world.violated(f"{self.name} still runs {ledger.name}, which was fenced long ago")

    async def _listens(self, _: str) -> bool:
        return True

    async def _fetch(self, url: str) -> bytes:
        world = self.world
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                if url in world.hostile and world.chance.randrange(8) == 0:
                    await asyncio.sleep(3600)
                return await world.request(
                    self,
                    "links",
                    lambda: world.lie(url) if url in world.hostile else network_info(url, {f"{url} node-1": url}),
                )
        except TimeoutError as error:
            raise UnavailableError(f"{url} does not answer") from error

    async def _live(self, agent: Agent) -> None:
        try:
            await agent.run()
        except Exception as error:
            self.world.violated(f"{self.name}: the agent died of {error!r}")
        self.end("ended", gate=self.incarnation)

    async def _notify_watchdog(self, agent: Agent) -> None:
        while True:
            if agent.may_run:
                self._sign = self.world.loop.time()
            await asyncio.sleep(LEASE.beat_seconds)

    async def _watch_over(self, gate: Gate) -> None:
        while gate is self.incarnation and not gate.dead:
            left = self._sign + LEASE.watchdog_seconds - self.world.loop.time()
            if left <= 0:
                self.end("killed by the watchdog", gate=gate)
            else:
                await asyncio.sleep(left)

    async def _launch(self, process: Process, _: int) -> Ledger:
        ledger, world = Ledger(self, process.name, process.environment["password"]), self.world
        if (ledger.identity, ledger.epoch) not in world.written:
            world.violated(f"{self.name}: {ledger.name} starts in an epoch that its record never had")
        if self.running:
            world.violated(f"{self.name}: {ledger.name} starts beside {self.running[0].name}")
        for other in world.machines:
            doubtful = (
                world.loop.time() if world.copies else world.broken.get(ledger.identity, -99.0) + LEASE.lease_seconds
            )
            surely = world.loop.time() > max(other.doubtful_until, doubtful)
            for each in [each for each in other.running if each.identity == ledger.identity]:
                if other.by_proofs:
                    # Its lease has lapsed, and it has not noticed the fence yet.
                    world.loop.call_later(FAILSAFE.kill_seconds + 1, other.check_ended, each)
                elif surely:
                    world.violated(f"{ledger.name} starts on {self.name} while {other.name} still runs it")
        self.running.append(ledger)
        world.takings[ledger.identity] += 1
        world.note(f"{self.name} runs {ledger.name}")
        return ledger

    def end(
        self, why: str, *, gate: Gate | None = None, restart: float = RESTART_SECONDS, power: bool = False
    ) -> None:
        """End the agent's process with its control group; systemd restarts it.

        Args:
            why: for the history's events.
            gate: the process that must end; by default the present one.
            restart: seconds until the restart.
            power: whether the whole VM lost power, so that its lock on the share stays for SHARE_LOCK_SECONDS.
        """
        if self.world.over or (gate or self.incarnation).dead or gate not in {None, self.incarnation}:
            return
        self.world.note(f"{self.name} {why}")
        ended = self.incarnation
        ended.dead = True
        for ledger in list(self.running):
            ledger.crash()
        for stored in self.world.stored.values():
            if stored.lock and stored.lock[0] is ended:
                stored.lock = (ended, self.world.loop.time() + SHARE_LOCK_SECONDS) if power else None
        self.world.loop.call_later(restart, self.boot)

    def freeze(self, seconds: float) -> None:
        """Suspend the whole VM; after SHARE_LOCK_SECONDS the file server drops its locks."""
        world = self.world
        world.note(f"{self.name} is frozen for {seconds:.0f} s")
        self.frozen.shut()
        self.doubtful_until = max(
            self.doubtful_until, world.loop.time() + seconds + LEASE.watchdog_seconds + LEASE.lease_seconds
        )
        if seconds > SHARE_LOCK_SECONDS:
            world.loop.call_later(SHARE_LOCK_SECONDS, self._forget_locks, self.incarnation)
        world.loop.call_later(seconds, self.frozen.open)

    def add_fault(self, what: str, how: str) -> None:
        """Break a part of the VM until it is repaired; a broken share mount also loses its locks."""
        self.world.note(f"{self.name}: its {what} {how}")
        self.world.happened[f"faulty {what}"] += 1
        self.local_faults[what] = how
        if what == "share":
            self.world.loop.call_later(SHARE_LOCK_SECONDS, self._forget_locks, self.incarnation)
        if what == "clock":
            self._pace = self.world.loop.time(), self._now(), 1 + self.world.chance.choice((-DRIFT, DRIFT))

    def repair(self) -> None:
        """Remove all local faults, as a replacement of the VM does."""
        self.local_faults.clear()
        self._pace = self.world.loop.time(), self._now(), 1.0

    @property
    def serves(self) -> bool:
        """Whether an identity may stay on this VM: a running node does not need the runtime."""
        return self.local_faults.keys() <= {"runtime"}

    def _forget_locks(self, incarnation: Gate) -> None:
        for stored in self.world.stored.values():
            if stored.lock and stored.lock[0] is incarnation:
                stored.lock = None

    def hang(self, seconds: float) -> None:
        """Suspend the agent's event loop; the node continues."""
        self.world.note(f"{self.name}'s agent hangs for {seconds:.0f} s")
        hanging = self.incarnation
        hanging.shut()
        self.world.loop.call_later(seconds, hanging.open)


@dataclass(frozen=True)
class HistoryOutcome:
    """The result of one history."""

    seed: int
    violations: list[str]
    """Broken promises of the agent, a sentence each; empty if all is right."""
    events: list[str]
    """The history's events in order, with their virtual times."""
    unheld: list[str]
    """Identities without a running node at the end."""
    calm_seconds: float
    """Seconds from the end of all faults until every identity was held."""
    takeovers: list[float]
    """Seconds from each lapse of a lease until another VM had raised the epoch."""
    commits: int
    takings: int
    """The number of started nodes."""
    taken_by: dict[str, int]
    """By identity: how many VMs have held it, from its record."""
    wrong_members: dict[str, list[str]]
    """By identity: the members in its node's network map at the end, if they are not the right ones."""
    unpublished: list[str]
    """Identities whose running node has not published its information at the end."""
    happened: Counter[str]
    """Counts of events, by kind."""


def story(outcome: HistoryOutcome) -> str:
    """The history's events, and the command's variables that replay it."""
    return "\n".join([f"seed {outcome.seed}: replay with FIRST_SEED={outcome.seed} HISTORIES=1", *outcome.events])


NAMES = ("node-1", "node-2")
"""The identities of a history."""
TROUBLE_SECONDS = 120.0
"""Faults are injected in this time."""
SETTLED_SECONDS = 15
"""All must be right for this time."""
HELD_AGAIN_SECONDS = LEASE.lease_seconds + SHARE_LOCK_SECONDS + AVOID_SECONDS + 30
"""Longest calm: a lease lapses, a lock ends, and a VM waits before it acquires again what it gave up."""


def _trouble(world: World) -> None:
    """Inject one random fault, or change the configuration."""
    chance = world.chance
    machine = chance.choice(world.machines)
    seconds = chance.choice((1, 5, 12, 25, 40, 100)) * chance.uniform(0.5, 1.2)
    kinds = "freeze freeze freeze hang hang kill power crash break outage outage cut cut stop stop fault fault"
    damage = "lose restore edit fork"
    news = "members revision revision uncertified hostile"
    kind = chance.choice(f"{kinds} {damage} {news}".split())
    if kind in news.split():
        _news(world, kind, seconds)
    elif kind in damage.split():
        _damage(world, kind, seconds)
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
            world.note(f"{machine.name} gets a stop signal")
            if agent := machine.agent:
                agent.stop("asked to")
                if chance.random() < 0.3:
                    loop.call_later(chance.uniform(0, SHORT_DRAIN_SECONDS), agent.skip_drain)
        case "fault":
            what = chance.choice(list(LOCAL_FAULTS))
            machine.add_fault(what, chance.choice(LOCAL_FAULTS[what]))
            if chance.random() < 0.3:
                loop.call_later(seconds, machine.repair)


def _outage(world: World, kind: str, machine: Machine, seconds: float) -> None:
    chance, loop = world.chance, world.loop
    service = chance.choice(list(world.services))
    how = chance.choice(("refuses", "hangs", "late", "odd", *(["denies"] if service == "store" else [])))
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


def _damage(world: World, kind: str, seconds: float) -> None:
    """Damage the lease store: a record is lost, restored or edited, or the store is forked."""
    chance, name = world.chance, world.chance.choice(world.names)
    world.note(f"{kind} the record of {name}" if kind != "fork" else f"the lease store is forked for {seconds:.0f} s")
    match kind:
        case "lose":
            world.lose(name)
        case "restore":
            world.restore(name)
        case "edit":
            epoch = chance.choice((0, 1, world.stored[name].started, world.stored[name].started + 50))
            world.edit(name, chance.choice((b"{", IdentityRecord(epoch=epoch).to_json())))
        case "fork":
            world.fork(chance.sample(world.machines, chance.randint(1, len(world.machines) - 1)), seconds)


def _news(world: World, kind: str, seconds: float) -> None:
    match kind:
        case "members":
            world.peers = set(world.chance.sample(PEERS, world.chance.randint(0, len(PEERS))))
            world.note(f"peers are {', '.join(sorted(world.peers)) or 'none'}")
        case "hostile":
            world.hostile.add(world.chance.choice(PEERS))
            world.note(f"hostile is {', '.join(sorted(world.hostile))}")
        case "uncertified":
            world.uncertified = world.loop.time() + seconds
            world.note(f"nobody certifies for {seconds:.0f} s")
        case "revision":
            world.revision += 1
            world.note("there is something new")


async def anything(world: World) -> None:
    """Inject one to eight random faults, one after the other or overlapping."""
    for at in sorted(world.chance.uniform(0, TROUBLE_SECONDS) for _ in range(world.chance.randint(1, 8))):
        await asyncio.sleep(at - world.loop.time())
        _trouble(world)


async def nothing(world: World) -> None:
    """Inject no fault."""


async def power_loss(world: World) -> None:
    """One holder's VM loses power."""
    await asyncio.sleep(world.chance.uniform(10, 30))
    world.chance.choice([machine for machine in world.machines if machine.running]).end(
        "loses power", restart=TROUBLE_SECONDS, power=True
    )


async def cut_off(world: World) -> None:
    """Only one holder can't reach the lease store."""
    await asyncio.sleep(world.chance.uniform(10, 30))
    holder = world.chance.choice([machine for machine in world.machines if machine.running])
    holder.cut_off["store"] = world.chance.choice(("refuses", "hangs"))
    await asyncio.sleep(90)


async def late_commits(world: World) -> None:
    """Nodes end while their requests to the database are still on the way."""
    for _ in range(3):
        await asyncio.sleep(world.chance.uniform(20, 30))
        for machine in world.machines:
            machine.cut_off["database"] = "late"
        await asyncio.sleep(5)
        for machine in world.machines:
            machine.cut_off.pop("database")
            for ledger in list(machine.running):
                ledger.crash(RESTART_STATUS)


async def damage(world: World, harm: Callable[[World, str], None]) -> list[float]:
    """Damage the records of all identities at once; returns the seconds until each has a new node, 3600 at most."""
    await asyncio.sleep(world.chance.uniform(30, 50))
    before, since = {name: world.stored[name].runs for name in world.names}, world.loop.time()
    for name in world.names:
        harm(world, name)
    seconds = dict[str, float]()
    while len(seconds) < len(before) and world.loop.time() < since + 3600:
        await asyncio.sleep(0.5)
        for name, runs in before.items():
            if world.stored[name].runs > runs:
                seconds.setdefault(name, world.loop.time() - since)
    return [seconds.get(name, 3600.0) for name in before]


def play(
    seed: int,
    *,
    trouble: Callable[[World], Awaitable[None]] = anything,
    machines: int = 3,
    names: tuple[str, ...] = NAMES,
) -> HistoryOutcome:
    """Play one random history, the same for the same seed: faults, then calm until every identity is held.

    Args:
        seed: the seed of all random choices.
        trouble: injects the faults.
        machines: the number of VMs.
        names: the identities.
    """
    loop = VirtualLoop()
    loop.set_exception_handler(lambda _, context: world.violated(f"lost in a task: {context}"))
    world = World(seed, loop, names, machines)

    unheld: list[str] = []

    wrong_members: dict[str, list[str]] = {}
    never_published: list[str] = []

    def held() -> set[str]:
        well = [machine for machine in world.machines if machine.serves]
        # If too few VMs are healthy, no holder gives its identity up.
        serving = well if len(well) >= len(names) else world.machines
        return {ledger.identity for machine in serving for ledger in machine.running}

    def members_admitted() -> bool:
        return all(world.stored[name].admitted == {OWN, *world.peers} for name in world.names)

    def unpublished() -> list[str]:
        return [name for name in world.names if world.stored[name].published != world.stored[name].started]

    async def history() -> float:
        for machine in world.machines:
            machine.boot()
        await trouble(world)
        await asyncio.sleep(TROUBLE_SECONDS - loop.time())
        world.note("all trouble ends")
        world.uncertified = 0.0
        world.join()
        for service in world.services.values():
            service.down = None
        for machine in world.machines:
            machine.cut_off.clear()
            machine.frozen.open()
            machine.incarnation.open()
        # Azure replaces VMs that lack what others have; the last one has not been replaced yet.
        for machine in [machine for machine in world.machines if machine.local_faults][:-1]:
            machine.repair()
        calm = since = loop.time()
        # All must be right for a while, since requests that were sent long ago may still arrive.
        while loop.time() < since + SETTLED_SECONDS and loop.time() < calm + HELD_AGAIN_SECONDS:
            await asyncio.sleep(0.5)
            if held() != set(world.names) or not members_admitted() or unpublished():
                since = loop.time()
        seconds = since - calm
        unheld.extend(sorted(set(world.names) - held()))
        wrong_members.update(
            {
                name: sorted(world.stored[name].admitted)
                for name in world.names
                if not members_admitted() and name in held()
            }
        )
        never_published.extend(name for name in unpublished() if name in held())
        await world.end()
        return seconds

    token = _gate.set(None)
    try:
        seconds = loop.run_until_complete(history())
    finally:
        _gate.reset(token)
        loop.close()
    stored = world.stored.values()
    return HistoryOutcome(
        seed=seed,
        violations=world.violations,
        events=world.events,
        unheld=unheld,
        calm_seconds=seconds,
        takeovers=world.takeovers,
        commits=sum(each.commits.total() for each in stored),
        takings=world.takings.total(),
        taken_by={name: _taken_by(name, blob) for name, blob in world.blobs.items()},
        wrong_members=wrong_members,
        unpublished=never_published,
        happened=world.happened,
    )


def _taken_by(name: str, blob: Blob) -> int:
    try:
        return len({tenure.vm for tenure in IdentityRecord.from_json(name, blob.content).history})
    except DamagedError:
        return 0
