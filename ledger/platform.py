"""What the infrastructure must know of a ledger platform, and the listeners that follow from it."""

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ledger.software import Software, Surroundings

MAX_IDENTITIES = 100
"""Identities of one member: the numbers of a port run from its base to base + 99."""
MAX_BLOB_BYTES = 18_000
"""Key Vault takes 25 KB of text for a secret, and base64 makes 4 characters of 3 bytes."""
P2P = "p2p"
"""The port that every role has: the membership card tells it to the peers."""

AGENT_USER = "ledger_agent"
"""The agent's own RPC user at a node; no application has its name."""

_NUMBERS = range(1024, 32768)
_BLOB_NAME = re.compile(r"[a-z][a-z0-9-]{0,63}")


POSTGRESQL_PORT = 5432
"""Of the server that keeps what nodes know."""
HEALTH_PORT, HEALTH_PATH = 8080, "/health"
"""Where each VM says how it is, a node's or an authority's."""
PROBE_SECONDS, PROBE_FAILURES = 5, 2
"""How often the load balancer asks, and how many probes in a row decide: a VM that is gone is left after 10 s."""


class Audience(StrEnum):
    """Who may open connections to a listener, besides the load balancer's probe."""

    PEERS = "peers"
    """The other members, over their links, and this member's own nodes."""
    APPLICATIONS = "applications"
    """The bank's own applications."""


class ProbeProtocol(StrEnum):
    """How the load balancer asks whether a VM serves a listener."""

    TCP = "Tcp"
    HTTP = "Http"


@dataclass(frozen=True)
class Probe:
    """What the load balancer asks a VM, to know whether a listener lives there."""

    port: int
    protocol: ProbeProtocol = ProbeProtocol.TCP
    path: str | None = None


@dataclass(frozen=True)
class Listener:
    """A TCP port of the member's one frontend address, and of the VMs behind it."""

    name: str
    port: int
    audiences: frozenset[Audience]
    probe: Probe


class Scope(StrEnum):
    """Whose a port number is."""

    PER_IDENTITY = "per-identity"
    """One identity's: only the VM that holds it listens there."""
    SPREAD = "spread"
    """That of every identity whose role serves it: the load balancer spreads connections over their VMs."""
    LOCAL = "local"
    """One identity's, on its VM's loopback: unknown to the load balancer and to security rules."""


@dataclass(frozen=True)
class Port:
    """A TCP port that a node listens on. A spread port may have the name of the one whose service it spreads."""

    name: str
    base: int
    """Its number; for one identity's own port, that of the identity at index 0."""
    audiences: frozenset[Audience] = frozenset()
    """Who may connect; nobody where it is local."""
    scope: Scope = Scope.PER_IDENTITY

    def __post_init__(self) -> None:
        if (self.scope is Scope.LOCAL) == bool(self.audiences):
            audiences = ", ".join(sorted(self.audiences)) or "none"
            raise ValueError(f"{self}: audiences are {audiences}; wanted none if it is local, else one or both")
        # Nodes run without root, and Linux gives the numbers above to outgoing connections.
        if self.numbers[0] not in _NUMBERS or self.numbers[-1] not in _NUMBERS:
            raise ValueError(f"{self}; wanted it within {_NUMBERS[0]} to {_NUMBERS[-1]}")

    @property
    def numbers(self) -> range:
        """Every number that it may have."""
        return range(self.base, self.base + (1 if self.scope is Scope.SPREAD else MAX_IDENTITIES))

    def __str__(self) -> str:
        numbers = self.numbers
        return f"{self.scope} port {self.name} ({numbers[0]}{f' to {numbers[-1]}' if len(numbers) > 1 else ''})"


class Durability(StrEnum):
    """What becomes of a node whose VM is replaced without a path."""

    MUST = "must"
    """It loses what nobody else has: the path is kept on the share."""
    WANTED = "wanted"
    """It gets the content again, for example from its peers, and is late until then: kept on the share."""
    REBUILT = "rebuilt"
    """It writes the content anew at its start: on the VM's disk."""


@dataclass(frozen=True)
class StatePath:
    """What a node keeps in a file or folder."""

    path: str
    """Relative to the node's folder; the last part may be a pattern."""
    durability: Durability

    def __post_init__(self) -> None:
        path = PurePosixPath(self.path)
        if path.is_absolute() or ".." in path.parts or not path.name:
            raise ValueError(f"state path {self.path!r}; wanted one inside the node's folder")


@dataclass(frozen=True)
class SecretBlob:
    """A secret of one identity, in the vault; the node finds it as a file of this name."""

    name: str
    max_bytes: int

    def __post_init__(self) -> None:
        if not _BLOB_NAME.fullmatch(self.name):
            raise ValueError(f"secret blob {self.name!r}; wanted lower-case letters, digits and hyphens, 64 at most")
        if not 1 <= self.max_bytes <= MAX_BLOB_BYTES:
            raise ValueError(f"secret blob {self.name}: max_bytes {self.max_bytes}; wanted 1 to {MAX_BLOB_BYTES}")


@dataclass(frozen=True)
class Role:
    """A kind of identity: what its node listens on, what it keeps, and which secrets it has."""

    name: str
    ports: tuple[Port, ...]
    state: tuple[StatePath, ...] = ()
    secrets: tuple[SecretBlob, ...] = ()

    def __post_init__(self) -> None:
        for what, names in (
            ("own port", [port.name for port in self.ports if port.scope is not Scope.SPREAD]),
            ("spread port", [port.name for port in self.ports if port.scope is Scope.SPREAD]),
            ("state path", [each.path for each in self.state]),
            ("secret blob", [each.name for each in self.secrets]),
        ):
            if twice := _twice(names):
                raise ValueError(f"role {self.name}: {what} {twice[0]} stands twice; wanted each once")
        if not any(
            port.name == P2P and port.scope is Scope.PER_IDENTITY and Audience.PEERS in port.audiences
            for port in self.ports
        ):
            raise ValueError(f"role {self.name}: no port {P2P}; wanted one for each identity, open to peers")

    @property
    def spread_ports(self) -> Mapping[str, int]:
        """The numbers, by name, that its nodes listen on besides their own."""
        return {port.name: port.base for port in self.ports if port.scope is Scope.SPREAD}

    def check_secrets(self, blobs: Mapping[str, bytes]) -> None:
        """Refuse blobs that are not exactly those of the role.

        Raises:
            ValueError: one is missing or unknown, empty or too large; no content stands in the message.
        """
        limits = {each.name: each.max_bytes for each in self.secrets}
        if set(blobs) != set(limits):
            raise ValueError(f"role {self.name}: secret blobs {sorted(blobs)}; wanted {sorted(limits)}")
        for name, blob in blobs.items():
            if not 0 < len(blob) <= limits[name]:
                raise ValueError(f"secret blob {name}: {len(blob)} bytes; wanted 1 to {limits[name]}")


@dataclass(frozen=True)
class DatabaseNeeds:
    """What a platform asks of PostgreSQL."""

    version: str
    """Major version."""
    connections_per_identity: int
    """Size of one node's connection pool."""


@dataclass(frozen=True)
class NetworkDocument:
    """The file that all members share, such as parameters or a genesis; each pins it by its hash."""

    name: str
    """Of the file, as a node expects it."""
    algorithm: str = "sha256"

    def fingerprint(self, content: bytes) -> str:
        """The hash as configuration pins it: `sha256:` and its hex digits, over the whole file."""
        return f"{self.algorithm}:{hashlib.new(self.algorithm, content).hexdigest()}"


class Counted(StrEnum):
    """Whose transactions a node counts."""

    OWN = "own"
    """Its own: the sum over a bank's nodes is the bank's."""
    NETWORK = "network"
    """Everyone's: each node counts the same ones, and no bank may take them for its own."""


@dataclass(frozen=True)
class Artifact:
    """A file of a Maven repository."""

    coordinates: str
    """`GROUP:NAME:VERSION`."""
    sha256: str
    """Of the file, in hex."""


@dataclass(frozen=True)
class Installation:
    """What is to be installed on a VM, or in its image."""

    version: str
    folder: Path
    """Where; made anew."""
    repository: str | None = None
    """`https://` URL of a repository in Maven's layout; None has the machine's Maven fetch what it is set up for."""
    artifact: Artifact | None = None
    """The ledger software itself, where it is not the one that the platform knows."""
    applications: tuple[Artifact, ...] = ()
    """What the bank runs on the ledger."""


@dataclass(frozen=True)
class AuthorityNeeds:
    """What an authority's VMs run and hold."""

    module: str
    """Run as `python -m MODULE`."""
    keys: tuple[str, ...]
    """Keys of its vault, EC P-256 in hardware, that sign and never leave it."""
    listeners: tuple[Listener, ...]
    """What its VMs listen on, for peers; the first is that of its URL, the last that of its revocation lists."""
    notary_role: str = "notary"
    """The role whose identities its network document names."""


@dataclass(frozen=True)
class Identity:
    """One ledger node's place in the member: it moves between VMs, its name and its ports do not."""

    index: int
    name: str
    legal_name: str
    role: Role
    ports: Mapping[str, int]
    """Numbers of its own ports, local ones among them, by name."""


@dataclass(frozen=True)
class Platform:
    """A ledger software, as far as the infrastructure is concerned."""

    name: str
    versions: tuple[str, ...]
    """Supported versions, oldest first."""
    default_version: str
    roles: tuple[Role, ...]
    """What an identity can be; the first unless told otherwise."""
    database: DatabaseNeeds | None
    network_document: NetworkDocument | None
    transactions: Counted
    """Whose transactions the figures count: the workbook says so."""
    packages: Callable[[str], tuple[str, ...]]
    """Ubuntu packages of the runtime that a version needs."""
    check_legal_name: Callable[[str], str]
    """Returns the legal name in canonical form; raises ValueError with what was wanted."""
    node_legal_name: Callable[[str, str], str]
    """The legal name of one identity, from the bank's legal name and the identity's name."""
    software: "Callable[[Surroundings], Software] | None" = None
    """Loads and makes the moving side, which the infrastructure program never does. None: there is none yet, so the
    VMs are ready for a node and run no process of one."""
    install: "Callable[[Installation], None] | None" = None
    """Fetches, verifies and unpacks the ledger's artifacts; None where the packages are all."""
    authority: AuthorityNeeds | None = None
    """What the member runs that certifies the network's names; None where nobody does."""
    check_permission: Callable[[str], str] = str
    """Returns what an application may be allowed to do, in the platform's words; raises ValueError with what was
    wanted."""

    def __post_init__(self) -> None:
        if not self.roles:
            raise ValueError(f"platform {self.name}: no role; wanted one or more")
        if twice := _twice([role.name for role in self.roles]):
            raise ValueError(f"platform {self.name}: role {twice[0]} stands twice; wanted each once")
        for one, other in combinations([(role, port) for role in self.roles for port in role.ports], 2):
            if _clash(*one, *other):
                raise ValueError(
                    f"platform {self.name}: {one[1]} of {one[0].name} and {other[1]} of {other[0].name} clash; "
                    f"wanted numbers of its own for each, up to {MAX_IDENTITIES} identities"
                )

    def role(self, name: str) -> Role:
        """The role of that name.

        Raises:
            ValueError: there is none.
        """
        for role in self.roles:
            if role.name == name:
                return role
        raise ValueError(f"role {name}; wanted one of {', '.join(role.name for role in self.roles)}")


def identity_name(index: int) -> str:
    """The name of the identity at `index`, which counts from 0: names count from 1."""
    return f"node-{index + 1}"


def identities(
    platform: Platform, bank_legal_name: str, count: int, roles: Mapping[str, str] = MappingProxyType({})
) -> tuple[Identity, ...]:
    """The identities of a member, numbered from 1.

    Args:
        platform: the ledger software.
        bank_legal_name: the bank's own legal name.
        count: how many.
        roles: names of roles by names of identities, where it is not the platform's first.

    Raises:
        ValueError: `count` is not within 1 to `MAX_IDENTITIES`, or there is no such role or identity.
    """
    if not 1 <= count <= MAX_IDENTITIES:
        raise ValueError(f"{count} identities; wanted 1 to {MAX_IDENTITIES}")
    names = [identity_name(index) for index in range(count)]
    if unknown := sorted(set(roles) - set(names)):
        raise ValueError(f"roles of {', '.join(unknown)}; wanted identities from {names[0]} to {names[-1]}")
    return tuple(
        Identity(
            index=index,
            name=name,
            legal_name=platform.node_legal_name(bank_legal_name, name),
            role=(role := platform.role(roles.get(name, platform.roles[0].name))),
            ports={port.name: port.base + index for port in role.ports if port.scope is not Scope.SPREAD},
        )
        for index, name in enumerate(names)
    )


def listeners(members: Sequence[Identity]) -> tuple[Listener, ...]:
    """Every listener of a member's ledger nodes; a spread one if any of them serves it.

    Only the VM that holds an identity listens on its ports, so a probe of the port finds that VM.
    """
    own = [
        Listener(f"{port.name}-{identity.name}", (number := identity.ports[port.name]), port.audiences, Probe(number))
        for identity in members
        for port in identity.role.ports
        if port.scope is Scope.PER_IDENTITY
    ]
    return (*own, *(Listener(port.name, port.base, port.audiences, Probe(port.base)) for port in _spread(members)))


def application_port(members: Sequence[Identity]) -> int | None:
    """The first port that spreads the bank's applications over its nodes; None where no node serves one."""
    return next((port.base for port in _spread(members) if Audience.APPLICATIONS in port.audiences), None)


def peer_ports(platform: Platform) -> tuple[int, ...]:
    """The ports that the nodes of any member of the platform's network may listen on for its peers."""
    open_to_peers = (port for role in platform.roles for port in role.ports if Audience.PEERS in port.audiences)
    return tuple(sorted({number for port in open_to_peers for number in port.numbers}))


def _spread(members: Sequence[Identity]) -> Iterator[Port]:
    served = (port for identity in members for port in identity.role.ports if port.scope is Scope.SPREAD)
    return iter(dict.fromkeys(served))


def _clash(role: Role, port: Port, other_role: Role, other: Port) -> bool:
    if role is not other_role:
        if port == other:
            return False
        spread = [each.scope is Scope.SPREAD for each in (port, other)]
        if all(spread) and port.name == other.name:
            return True
        # No identity has both roles, so with one base no two ever have one number.
        if not any(spread) and port.base == other.base:
            return False
    return max(port.base, other.base) < min(port.numbers.stop, other.numbers.stop)


def _twice(values: Sequence[str]) -> list[str]:
    return [value for value in dict.fromkeys(values) if values.count(value) > 1]
