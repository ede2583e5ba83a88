"""The resources that a VM offers to the identity it holds, as the agent sees them."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from agent.prerequisites import Prerequisite
from agent.users import NodeUsers
from contract.identities import Identity
from contract.platform import NetworkDocument
from host.bank_documents import Document
from host.calls import BoundedCalls
from ledger.software import DatabaseAccess, NetworkMember, Process, Software


@dataclass(frozen=True)
class NodeIntervals:
    """Intervals at which the agent checks a running node, in seconds."""

    meet: float = 5
    """Seconds between updates of the node about changed members."""
    stale: float = 60
    """Seconds between checks whether the node must restart to take new parameters or certificates."""
    stagger: float = 600
    """Longest random delay before such a restart, so that a bank's nodes do not all restart at once."""


class DatabaseFence(Protocol):
    """Fences the database of an identity against all other holders."""

    async def close_older(self, identity: str, epoch: int, holder: str, *, existed: bool) -> DatabaseAccess:
        """Admit this epoch's holder and close all other roles; once it returns, no other holder can commit.

        Args:
            identity: its name.
            epoch: the lease's.
            holder: names the lease; a role of the same epoch made under another lease counts as newer.
            existed: whether an earlier epoch got past this step: then the database must exist.

        Raises:
            NewerEpochError: another holder has a role of this epoch or a newer one.
            DamagedError: the database is missing although it existed, or has another owner.
            UnavailableError: the server does not answer, or an older session does not end.
        """

    async def prove(self, access: DatabaseAccess, epoch: int) -> None:
        """Sign in as the epoch's role, as its node does, and look for a newer role.

        Raises:
            SupersededError: the role may not sign in any more, or a newer one exists.
            UnavailableError: the server gave no such answer.
        """


class Note(StrEnum):
    """Notes of the agent in an identity's folder, which later epochs read: file names that no platform uses."""

    ADMITTED = "agent-note"
    """The members that any node of the identity admitted."""
    DEATHS = "agent-deaths"
    """Deaths of the identity's node soon after a start."""


class Folder(Protocol):
    """An identity's folder of one epoch, locked."""

    path: Path
    lock_fd: int
    """File descriptor of the lock. The node's processes inherit it, so the lock lasts as long as any of them."""

    def must_stop(self) -> str | None:
        """Why the node must stop: it uses the space of other identities, or the lock is lost; None if it need not.

        Raises OSError.
        """

    def read_note(self, note: Note) -> bytes | None:
        """The content of a note, from this epoch or an earlier one; None if there is none. Raises OSError."""

    def write_note(self, note: Note, content: bytes) -> None:
        """Write a note atomically; the next epoch's folder has it too. Raises OSError."""

    def prove(self) -> None:
        """Write and flush a file. Raises SupersededError (a newer epoch has a folder), OSError (the share fails)."""

    def close(self) -> None:
        """Unlock the folder, unless a process still holds the lock."""


class Share(Protocol):
    """The file share with the identities' folders."""

    def exists(self, identity: str) -> bool:
        """Whether any epoch of the identity has a folder. Raises UnavailableError."""

    def open(self, identity: str, epoch: int, holder: str) -> Folder:
        """Lock an identity's folder, and continue from the last epoch's state.

        Args:
            identity: its name.
            epoch: the lease's.
            holder: names the lease; a folder of the same epoch made under another lease counts as newer.

        Raises:
            NewerEpochError: another holder has a folder of this epoch or a newer one.
            UnavailableError: the share is not mounted or fails, or another process holds the lock.
            DamagedError: the identity uses too much space, or the next epoch's copy has none.
        """


class IdentityKeys(Protocol):
    """An identity's secret keys."""

    @property
    def blobs(self) -> Mapping[str, bytes]:
        """The secret files by name."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the key document, which the identity's record notes."""


class IdentityVault(Protocol):
    """The vault with the identities' keys."""

    async def exists(self, identity: Identity) -> bool:
        """Whether the identity has keys, in any state. Raises DamagedError if they are deleted, UnavailableError."""

    async def obtain(
        self, identity: Identity, make: Callable[[], Mapping[str, bytes]], recorded: str | None
    ) -> IdentityKeys:
        """Restore an identity's keys; make and store new ones if there never were any or a person gave them up.

        Args:
            identity: the keys' owner.
            make: makes the blobs of the identity's role, by name; called in a thread.
            recorded: fingerprint in the identity's record; None if it has none.

        Raises:
            UnavailableError: the vault does not answer, or does not show yet what was stored.
            DamagedError: a person must repair what is stored; the message says what and how.
            ValueError: `make` returned other blobs than the role's.
        """


class Running(Protocol):
    """A started process."""

    name: str
    ends: Mapping[int, str]
    """Meanings of exit statuses that the platform defines."""

    async def wait(self) -> int:
        """The exit status, once the process ends."""

    async def stop(self, seconds: float) -> None:
        """Ask the process to stop; kill it with its children after `seconds`. It has ended when this returns."""


class Disk(Protocol):
    """The VM's local disk and memory, lost with the VM. Calls block, and raise UnavailableError when they fail."""

    def scratch(self) -> Path:
        """An empty folder on disk."""

    def unpack(self, blobs: Mapping[str, bytes]) -> Path:
        """A folder in memory with the blobs as files."""

    def wipe(self) -> None:
        """Remove both folders."""


@dataclass(frozen=True)
class Roster:
    """The members of the network, as this VM knows them."""

    names: frozenset[str]
    """All members; a name that is missing here is no longer a member."""
    members: tuple[NetworkMember, ...]
    """Members whose node information is known, even if empty; this bank is among them."""
    troubles: Mapping[str, str]
    """Faults of members' network information, by member."""
    reached: Mapping[str, bool] = field(default_factory=dict)
    """Whether a node of another member takes a connection, by the member's name."""


class PeerNetwork(Protocol):
    """The exchange of network information with the other members. A call may raise `UnavailableError`."""

    async def follow(self) -> None:
        """Ask the peers periodically. Never returns nor raises."""

    async def document(self) -> bytes | None:
        """The network document that the configuration pins; None if it pins none. Raises WaitingError."""

    async def published(self, identity: str) -> Document | None:
        """The node information that an identity last published; None if there is none."""

    async def publish(self, identity: str, info: bytes, before: Document | None) -> Document:
        """Publish an identity's node information to the members; returns the document.

        Args:
            identity: its name.
            info: the node information, in the platform's format.
            before: the document when this epoch began, or as this epoch last published it.

        Raises:
            SupersededError: another VM has published since.
        """

    async def roster(self) -> Roster:
        """The members as now known. Raises DamagedError."""


@dataclass(frozen=True)
class OtherVms:
    """The bank's other healthy VMs, by name."""

    standbys: frozenset[str] = frozenset()
    holders: frozenset[str] = frozenset()


class Presence(Protocol):
    """How the bank's VMs announce to each other that they are healthy. A call may raise `UnavailableError`."""

    async def announce(self, *, standby: bool) -> None:
        """Announce this VM as healthy for `STANDBY.presence_lease_seconds`."""

    async def withdraw(self) -> None:
        """Withdraw the announcement."""

    async def others(self) -> OtherVms:
        """The other VMs that announce themselves."""


@dataclass(frozen=True)
class Resources:
    """The resources that a VM offers to the identity it holds."""

    software: Software
    share: Share
    vault: IdentityVault
    disk: Disk
    launch: Callable[[Process, int], Awaitable[Running]]
    """Starts a process that inherits a file descriptor."""
    database: DatabaseFence | None
    network: PeerNetwork | None
    """None: members exchange no network information."""
    document: NetworkDocument | None
    """The platform's kind of network document; None if it has none."""
    intervals: NodeIntervals = field(default_factory=NodeIntervals)
    share_calls: BoundedCalls = field(default_factory=lambda: BoundedCalls("share"))
    """Runs all calls that touch the share."""
    disk_calls: BoundedCalls = field(default_factory=lambda: BoundedCalls("disk"))
    """Runs all calls that touch the disk."""
    prerequisites: Sequence[Prerequisite] = ()
    """The VM needs these to serve an identity."""
    presence: Presence | None = None
    """None: VMs do not know each other's state."""
    users: NodeUsers | None = None
    """Users that nodes run as; None: the agent's own user, in tests and labs only."""
