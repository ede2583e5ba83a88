"""What the agent asks of a ledger platform on a VM: the moving side of the seam, as `platform` is its data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import Protocol

from ledger.platform import Identity


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
    """The consortium's shared document (parameters, genesis), of the hash that configuration pins."""


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
        """

    def processes(self, place: Place) -> Sequence[Process]:
        """The node's processes in the order of their start."""

    async def readiness(self, place: Place) -> Readiness:
        """How far the running node is; never raises."""

    async def figures(self, place: Place) -> Mapping[Figure, float]:
        """What the running node counts; a figure that can't be had is left out."""

    async def admit(self, place: Place, member: str, card: bytes) -> None:
        """Let a member take part, as far as this node has a say: a file here, a vote or a signature elsewhere."""

    async def expel(self, place: Place, member: str) -> None:
        """Undo `admit`."""


class SoftwareError(Exception):
    """A node can't be prepared or started; the message says what was wanted."""
