"""The agent's interface to a ledger platform's code on a VM, as `contract.platform` is the interface to its data."""

import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

from contract.artifacts import Artifact
from contract.identities import Identity
from contract.metrics import Cause, Figure
from contract.secrets import RpcAccount
from contract.vm_configuration import Zone
from host.bank_documents import Documents
from host.calls import BoundedCalls
from host.status import Readiness

MIGRATION_SECONDS = 1800
"""Time limit of a database migration within `prepare`."""


@dataclass(frozen=True)
class DatabaseAccess:
    """A node's access to its database in one epoch; the role is closed when the epoch ends."""

    host: str
    port: int
    database: str
    user: str
    password: str = field(repr=False)
    root_certificates: Path | None = None
    """Trust roots of the server's certificate; None: no TLS, in tests only."""


@dataclass(frozen=True)
class Place:
    """The folders, database and user of one identity on this VM during one epoch."""

    identity: Identity
    epoch: int
    durable: Path
    """Folder on the share, which the identity's next holder takes over. Access may block: see `share_calls`."""
    scratch: Path
    """Folder on the VM's disk, empty when the epoch begins."""
    secrets: Path
    """Folder in memory with the secret blobs as files, readable for the node alone."""
    database: DatabaseAccess | None
    network_document: Path | None
    """File with the network document (parameters, genesis) whose hash the configuration pins; None: the
    platform has another proof, such as a signature."""
    share_calls: BoundedCalls = field(default_factory=lambda: BoundedCalls("share"), compare=False)
    """Runs all calls that touch `durable`."""
    user: int | None = None
    """Number of the processes' user and group; None: the agent's own."""


@dataclass(frozen=True)
class AuthorityAccess:
    """The network authority, which certifies names, as a member calls it."""

    url: str
    """`https://HOST:PORT`. The key authenticates answers, not TLS."""
    key: Callable[[], Awaitable[bytes]]
    """Reads the enrolment key agreed with the authority; read each time, since its generation may change."""


@dataclass(frozen=True)
class SoftwareContext:
    """The platform software's view of its bank, the same on each of its VMs."""

    member: str
    """The bank's name in the consortium."""
    version: str
    """Version of the ledger software."""
    installation: Path
    """Folder of the installed and verified artifacts."""
    frontend: str
    """Address to which peers and applications connect."""
    documents: Documents
    network: AuthorityAccess | Zone | None
    """The authority or zone that certifies names."""
    trust_root: str | None
    """`sha256:` and the hash of the network's root certificate (DER), if the configuration pins it."""
    rpc_users: Callable[[], Awaitable[Sequence[RpcAccount]]]
    listen: str = "0.0.0.0"  # noqa: S104  # The network's rules say who gets in.
    """Address that nodes listen on."""
    artifact: Artifact | None = None
    """The ledger software that should be installed; None: the platform's default."""
    applications: tuple[Artifact, ...] = ()
    """The bank's applications that should be installed."""
    tool_user: int | None = None
    """User that runs the platform's code on data of members; None: the agent's own."""


@dataclass(frozen=True)
class NetworkMember:
    """A member of the network, by its card and its network information. This bank is a member too."""

    name: str
    addresses: Mapping[str, str]
    """P2P addresses (HOST:PORT) of its nodes by legal name, from its verified card."""
    card: bytes | None
    """The card as it was signed; None for this bank."""
    infos: tuple[bytes, ...]
    """Node information that its nodes publish, not verified yet. A node without one still exists: only `addresses`
    says which nodes there are."""


@dataclass(frozen=True)
class Process:
    """A process of a node."""

    name: str
    argv: tuple[str, ...]
    """Command line, without secrets."""
    environment: Mapping[str, str] = field(repr=False)
    """The whole environment, passwords included."""
    folder: Path
    """Working directory."""
    stop_seconds: float
    """Longest stop after SIGTERM if there is time."""
    user: int | None = None
    """Number of its user; set by the agent from `Place.user`."""
    ends: Mapping[int, str] = field(default_factory=dict)
    """Meanings of exit statuses that the platform defines."""


RESTART_STATUS = os.EX_TEMPFAIL
"""Exit status of a process that must restart since a dependency failed: no failure if the node was ready before."""


class Software(Protocol):
    """A ledger platform's node."""

    def make_secrets(self, identity: Identity) -> Mapping[str, bytes]:
        """New keys and passwords for an identity that never had any: blobs by name."""

    async def check(self) -> None:
        """Check that the software starts on this VM, without an identity.

        Raises:
            SoftwareError: it does not start.
        """

    async def prepare(self, place: Place) -> None:
        """Prepare the node's start: write its configuration, migrate its database.

        Raises:
            WaitingError: somebody else must act first, such as the authority.
            SoftwareError: the node can't be started.
            UnavailableError: share, database or documents do not answer.
        """

    def processes(self, place: Place) -> Sequence[Process]:
        """The node's processes in the order of their start."""

    async def readiness(self, place: Place) -> Readiness:
        """The running node's readiness. Never raises."""

    async def figures(self, place: Place) -> Mapping[Figure, float]:
        """Counters of the running node since its start; unknown ones are left out."""

    async def ends(self, place: Place) -> Mapping[str | None, datetime]:
        """When the first certificate expires: of this node (key None), and of each member's nodes (its name)."""

    async def info(self, place: Place) -> bytes | None:
        """Node information that the running node publishes for other members; None until it exists."""

    async def admit(self, place: Place, member: NetworkMember) -> None:
        """Admit a member, as far as this node decides: by a file, a vote or a signature.

        Called at each start, and whenever anything about the member changes.

        Raises:
            UntrustedError: the member's node information is not proven; nothing of it was accepted.
        """

    async def expel(self, place: Place, member: str) -> None:
        """Undo `admit`."""

    async def cut_off(self, place: Place) -> Mapping[str, str]:
        """Nodes that the running node has long failed to connect to: reasons by legal name. Never raises."""

    async def drain(self, place: Place, seconds: float) -> None:
        """Have the running node take no new work and finish what it has; returns after `seconds` at the latest."""

    async def stale(self, place: Place) -> str | None:
        """Why the running node should restart, for example for renewed certificates; else None.

        Asked once a minute; the agent then drains and restarts the node.
        """


class SoftwareError(Exception):
    """A node can't be prepared or started; the message says what was wanted."""


class WaitingError(SoftwareError):
    """A node can't be prepared yet, on any VM: somebody else must act first, such as an authority."""

    def __init__(self, message: str, cause: Cause = Cause.AUTHORITY) -> None:
        super().__init__(message)
        self.cause = cause


class UntrustedError(Exception):
    """A member's information is not proven to be its own; the message says why."""
