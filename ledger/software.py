"""What the agent asks of a ledger platform on a VM: the moving side of the seam, as `platform` is its data."""

import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import Protocol

from ledger.platform import Artifact, Identity

MIGRATION_SECONDS = 1800
"""Within `prepare` the migration of a database may take so long."""


@dataclass(frozen=True)
class DatabaseAccess:
    """How a node signs in to its database in one epoch; the role is closed when the epoch ends."""

    host: str
    port: int
    database: str
    user: str
    password: str = field(repr=False)
    root_certificates: Path | None = None
    """Trust roots of the server's certificate; None speaks without TLS, which only tests do."""


@dataclass(frozen=True)
class Place:
    """Where one identity lives on this VM during one epoch."""

    identity: Identity
    epoch: int
    kept: Path
    """On the share: what the next holder of the identity finds again."""
    scratch: Path
    """On the VM's disk: empty when the epoch begins."""
    secrets: Path
    """In memory: the secret blobs as files, readable by the node alone."""
    database: DatabaseAccess | None
    network_document: Path | None
    """The consortium's shared document (parameters, genesis) if configuration pins its hash; else the platform has
    another proof of it, such as a signature."""


@dataclass(frozen=True)
class Document:
    """What the bank keeps under a name in its `network` container."""

    content: bytes
    etag: str


class Documents(Protocol):
    """The bank's `network` container: public, versioned, shared by its VMs. Names have slashes, like paths.

    A call may raise `UnavailableError` of `agent.fence`'s kind: no answer, it may have happened.
    """

    async def read(self, name: str) -> Document | None:
        """The document; None where there is none."""

    async def write(self, name: str, content: bytes, etag: str | None) -> str | None:
        """Write what was read as `etag`, or is new if that is None; the new ETag, None where another was faster."""

    async def names(self, prefix: str) -> Sequence[str]:
        """The names that begin so."""


@dataclass(frozen=True)
class Authority:
    """The member that certifies names for the network."""

    url: str
    """Base of its requests, `https://HOST:PORT`; what comes from there is authenticated by the key, not by TLS."""
    key: Callable[[], Awaitable[bytes]]
    """The enrolment key that it and this member agreed; read anew, since a generation may be raised."""


@dataclass(frozen=True)
class Zone:
    """A network that others run, with a registration service and a network map of their own."""

    registration_url: str
    network_map_url: str
    trust_root: bytes
    """Its root certificate, PEM."""


@dataclass(frozen=True)
class RpcUser:
    """One of the bank's applications, as a node knows it."""

    name: str
    password: str = field(repr=False)
    permissions: tuple[str, ...]
    """In the platform's words."""


@dataclass(frozen=True)
class Surroundings:
    """What a platform's software finds on each VM of a bank."""

    member: str
    """The bank's name in the consortium."""
    version: str
    """Of the ledger software."""
    installation: Path
    """Where its artifacts were installed and verified."""
    frontend: str
    """The address that peers and applications dial."""
    documents: Documents
    network: Authority | Zone | None
    """Who certifies names; None where nobody does."""
    trust_root: str | None
    """`sha256:` and the hash of the network's root certificate (DER), where configuration pins it."""
    rpc_users: Callable[[], Awaitable[Sequence[RpcUser]]]
    listen: str = "0.0.0.0"  # noqa: S104  # The network's rules say who gets in.
    """The address that nodes listen on."""
    artifact: Artifact | None = None
    """The ledger software that should be installed, where it is not the one that the platform knows."""
    applications: tuple[Artifact, ...] = ()
    """What of the bank's should be installed with it."""


@dataclass(frozen=True)
class Member:
    """A member of the network, as its card and its agents tell of it; this bank itself is one too."""

    name: str
    addresses: Mapping[str, str]
    """The P2P addresses `HOST:PORT` of its nodes by their legal names, as on its verified card."""
    card: bytes | None
    """As it was signed; None for this bank itself."""
    infos: tuple[bytes, ...]
    """What its nodes publish of themselves; not verified yet."""


@dataclass(frozen=True)
class Process:
    """One process of a node."""

    name: str
    argv: tuple[str, ...]
    """Command line; no secret belongs in it."""
    environment: Mapping[str, str] = field(repr=False)
    """All of its environment, passwords included."""
    folder: Path
    """Working directory."""
    stop_seconds: float
    """How long it may take to stop after SIGTERM when there is time."""


AGAIN_STATUS = os.EX_TEMPFAIL
"""Exit status of a process that has to start again since something that it needs was away: no failure of its own, if
its node was ready before."""


class Readiness(IntEnum):
    """How far a node is."""

    DOWN = 0
    UP = 1
    """Its processes answer."""
    READY = 2
    """It takes part in the network."""


class Figure(StrEnum):
    """What a node counts; `agent.metrics` names the metric of each."""

    TRANSACTIONS = "transactions"
    """Committed since the node's first start."""
    FAILURES = "failures"
    """Refused or failed since the node's first start."""
    MEMBERS_KNOWN = "members-known"
    MEMBERS_REACHABLE = "members-reachable"


class Software(Protocol):
    """One ledger platform's node."""

    def make_secrets(self, identity: Identity) -> Mapping[str, bytes]:
        """New keys and passwords for an identity that never had any: blobs by name."""

    async def prepare(self, place: Place) -> None:
        """Make ready to start: write configuration, migrate the database.

        Raises:
            SoftwareError: the node can't be started as things are.
            UnavailableError: of `agent.fence`: share or database do not answer.
        """

    def processes(self, place: Place) -> Sequence[Process]:
        """The node's processes in the order of their start."""

    async def readiness(self, place: Place) -> Readiness:
        """How far the running node is; never raises."""

    async def figures(self, place: Place) -> Mapping[Figure, float]:
        """What the running node counts; a figure that can't be had is left out."""

    async def info(self, place: Place) -> bytes | None:
        """What the running node publishes of itself, for the members' other nodes; None while there is nothing."""

    async def admit(self, place: Place, member: Member) -> None:
        """Let a member take part, as far as this node has a say: a file here, a vote or a signature elsewhere.

        Called again whenever something of the member changes, and at each start.

        Raises:
            UntrustedError: what is told of the member is not true; nothing of it was taken.
        """

    async def expel(self, place: Place, member: str) -> None:
        """Undo `admit`."""

    async def drain(self, place: Place, seconds: float) -> None:
        """Have the running node take nothing new and end what it has begun; returns after so many seconds at most."""

    async def stale(self, place: Place) -> str | None:
        """Why the running node should be started anew to follow its network, such as renewed certificates; or None.

        Whoever holds the identity then drains and starts the node again; asked once a minute.
        """


class SoftwareError(Exception):
    """A node can't be prepared or started; the message says what was wanted."""


class WaitingError(SoftwareError):
    """It can't be prepared yet, and no VM could: somebody else must act first, such as an authority."""


class UntrustedError(Exception):
    """A member's information is not proven to be its own; the message says why."""
