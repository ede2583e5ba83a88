"""Description of a ledger platform, as data. Code that runs on VMs is named as text."""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations

from contract.key_document import MAX_SECRET_BYTES, KeyDocument
from contract.listeners import Audience, Listener

MAX_IDENTITIES = 100
"""Most identities of one member: a port's numbers run from its base to base + 99."""
P2P = "p2p"
"""Name of the port that every role has, stated on the membership card."""

AGENT_USER = "ledger_agent"
"""The agent's RPC user at a node; no application may have its name."""

_NUMBERS = range(1024, 32768)
_IDENTITY_BYTES = 32
"""Longest name of an identity."""
_BLOB_NAME = re.compile(r"[a-z][a-z0-9-]{0,63}")


class Scope(StrEnum):
    """Which identities use a port number."""

    PER_IDENTITY = "per-identity"
    """One identity: only the VM that holds it listens there."""
    SHARED = "shared"
    """Every identity whose role has the port: the load balancer distributes connections over their VMs."""
    LOCAL = "local"
    """One identity, on its VM's loopback: unknown to the load balancer and to security rules."""


@dataclass(frozen=True)
class Port:
    """A TCP port that a node listens on. A shared port may have the name of the port whose service it balances."""

    name: str
    base: int
    """The number; unless shared, that of the identity at index 0."""
    audiences: frozenset[Audience] = frozenset()
    """Sources of connections; empty if local."""
    scope: Scope = Scope.PER_IDENTITY

    def __post_init__(self) -> None:
        if (self.scope is Scope.LOCAL) == bool(self.audiences):
            audiences = ", ".join(sorted(self.audiences)) or "none"
            raise ValueError(f"{self}: audiences are {audiences}; wanted none if it is local, else one or both")
        # Lower ports need root; Linux takes higher ones for outgoing connections.
        if self.numbers[0] not in _NUMBERS or self.numbers[-1] not in _NUMBERS:
            raise ValueError(f"{self}; wanted it within {_NUMBERS[0]} to {_NUMBERS[-1]}")

    @property
    def numbers(self) -> range:
        """Every number that the port may have."""
        return range(self.base, self.base + (1 if self.scope is Scope.SHARED else MAX_IDENTITIES))

    def __str__(self) -> str:
        numbers = self.numbers
        return f"{self.scope} port {self.name} ({numbers[0]}{f' to {numbers[-1]}' if len(numbers) > 1 else ''})"


@dataclass(frozen=True)
class SecretBlob:
    """One key or password of an identity: a part of its secret in the vault, and a file of this name at the node."""

    name: str
    max_bytes: int
    """The largest size in bytes, before base64."""

    def __post_init__(self) -> None:
        if not _BLOB_NAME.fullmatch(self.name):
            raise ValueError(f"secret blob {self.name!r}; wanted lower-case letters, digits and hyphens, 64 at most")
        if not 1 <= self.max_bytes <= MAX_SECRET_BYTES:
            raise ValueError(f"secret blob {self.name}: max_bytes {self.max_bytes}; wanted 1 to {MAX_SECRET_BYTES}")


@dataclass(frozen=True)
class Role:
    """A kind of identity: the ports and secrets of its node."""

    name: str
    ports: tuple[Port, ...]
    secrets: tuple[SecretBlob, ...] = ()

    def __post_init__(self) -> None:
        for what, names in (
            ("own port", [port.name for port in self.ports if port.scope is not Scope.SHARED]),
            ("shared port", [port.name for port in self.ports if port.scope is Scope.SHARED]),
            ("secret blob", [each.name for each in self.secrets]),
        ):
            if twice := _twice(names):
                raise ValueError(f"role {self.name}: {what} {twice[0]} occurs twice; wanted each once")
        if not any(
            port.name == P2P and port.scope is Scope.PER_IDENTITY and Audience.PEERS in port.audiences
            for port in self.ports
        ):
            raise ValueError(f"role {self.name}: no port {P2P}; wanted one for each identity, open to peers")

    @property
    def shared_ports(self) -> Mapping[str, int]:
        """Numbers of the shared ports, by name."""
        return {port.name: port.base for port in self.ports if port.scope is Scope.SHARED}

    @property
    def max_document_bytes(self) -> int:
        """Largest size in bytes of an identity's `KeyDocument`."""
        blobs = {each.name: bytes(each.max_bytes) for each in self.secrets}
        return len(KeyDocument(identity="i" * _IDENTITY_BYTES, blobs=blobs, replaces="0" * 64).to_json())

    def check_secrets(self, blobs: Mapping[str, bytes]) -> None:
        """Check that blobs are exactly those of the role.

        Raises:
            ValueError: a blob is missing, unknown, empty or too large; the message has no content of it.
        """
        limits = {each.name: each.max_bytes for each in self.secrets}
        if set(blobs) != set(limits):
            raise ValueError(f"role {self.name}: secret blobs {sorted(blobs)}; wanted {sorted(limits)}")
        for name, blob in blobs.items():
            if not 0 < len(blob) <= limits[name]:
                raise ValueError(f"secret blob {name}: {len(blob)} bytes; wanted 1 to {limits[name]}")


@dataclass(frozen=True)
class DatabaseNeeds:
    """A platform's requirements of PostgreSQL."""

    version: str
    """Major version of a new server."""
    connections_per_identity: int
    """Database connections of an identity: its node's pool and its agent's."""
    identities_per_vcore: int
    """Nodes that one vCore of a server serves under full load."""


@dataclass(frozen=True)
class NetworkDocument:
    """The file that all members share, such as network parameters or a genesis block; each pins its hash."""

    name: str
    """File name that a node expects."""

    def fingerprint(self, content: bytes) -> str:
        """The hash as configuration pins it: `sha256:` and its hex digits, over the whole file."""
        return f"sha256:{hashlib.sha256(content).hexdigest()}"


class Counted(StrEnum):
    """Whose transactions a node counts."""

    OWN = "own"
    """The node's own: the sum over a bank's nodes is the bank's."""
    NETWORK = "network"
    """The whole network's: each node counts the same ones, which are no bank's own."""


MAX_CA_GENERATION = 99
"""Every member carries the revocation list of each generation."""


@dataclass(frozen=True)
class AuthorityNeeds:
    """Program, keys and listeners of a network authority."""

    module: str
    """Run as `python -m MODULE`."""
    keys: tuple[str, ...]
    """Names of the keys in its vault: EC P-256 in an HSM, for signatures only."""
    root_key: str
    """Name of the root key, in a separate vault: the VMs may sign with it for hours at a time."""
    listeners: tuple[Listener, ...]
    """Listeners of its VMs for peers; the first serves its URL, the last its revocation lists."""
    issuing_key: str
    """The one of `keys` that certifies names; each further generation of it is an additional key."""
    notary_role: str
    """Role whose identities the network document names as notaries."""

    def keys_of(self, generation: int) -> tuple[str, ...]:
        """Names of the keys in its vault after so many generations of the issuing key: older ones stay."""
        return (*self.keys, *(self.issuing_key_of(number) for number in range(2, generation + 1)))

    def issuing_key_of(self, generation: int) -> str:
        """Name of a generation's issuing key, from 1."""
        return self.issuing_key if generation == 1 else f"{self.issuing_key}-{generation}"


@dataclass(frozen=True)
class Platform:
    """A ledger software, as the infrastructure sees it."""

    name: str
    versions: tuple[str, ...]
    """Supported versions, oldest first."""
    default_version: str
    roles: tuple[Role, ...]
    """Roles that an identity can have; the first one by default."""
    database: DatabaseNeeds | None
    network_document: NetworkDocument | None
    transactions: Counted
    """Whose transactions a node counts."""
    packages: Callable[[str], tuple[str, ...]]
    """Ubuntu packages of the runtime that a version needs."""
    check_legal_name: Callable[[str], str]
    """Returns the legal name in canonical form; raises ValueError with what was wanted."""
    node_legal_name: Callable[[str, str], str]
    """The legal name of one identity, from the bank's legal name and the identity's name."""
    bank_of: Callable[[str], str]
    """The bank's legal name, from that of one of its nodes; raises ValueError with what was wanted."""
    software: str
    """`MODULE:CLASS` that runs a node, made with a `ledger.software.SoftwareContext`; loaded on VMs alone."""
    install: str | None = None
    """`MODULE:FUNCTION` that fetches, verifies and unpacks an `Installation`; None if packages suffice."""
    authority: AuthorityNeeds | None = None
    """The network authority that certifies names; None if the platform has none."""
    platform_version: Callable[[str], int] | None = None
    """A release's platform version, which a network's minimum bounds; None if it has none."""
    check_permission: Callable[[str], str] = str
    """Returns a valid RPC permission in the platform's terms; raises ValueError with what was wanted."""

    def __post_init__(self) -> None:
        if not self.roles:
            raise ValueError(f"platform {self.name}: no role; wanted one or more")
        if twice := _twice([role.name for role in self.roles]):
            raise ValueError(f"platform {self.name}: role {twice[0]} occurs twice; wanted each once")
        for role in self.roles:
            if (size := role.max_document_bytes) > MAX_SECRET_BYTES:
                raise ValueError(
                    f"platform {self.name}: secret blobs of role {role.name} take {size} bytes as JSON in base64; "
                    f"wanted {MAX_SECRET_BYTES} or less, since one secret of Key Vault holds them all"
                )
        for one, other in combinations([(role, port) for role in self.roles for port in role.ports], 2):
            if _clash(*one, *other):
                raise ValueError(
                    f"platform {self.name}: {one[1]} of {one[0].name} and {other[1]} of {other[0].name} clash; "
                    f"wanted distinct numbers for each, up to {MAX_IDENTITIES} identities"
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


def _clash(role: Role, port: Port, other_role: Role, other: Port) -> bool:
    if role is not other_role:
        if port == other:
            return False
        shared = [each.scope is Scope.SHARED for each in (port, other)]
        if all(shared) and port.name == other.name:
            return True
        # An identity has one role: with equal bases, two identities never share a number.
        if not any(shared) and port.base == other.base:
            return False
    return max(port.base, other.base) < min(port.numbers.stop, other.numbers.stop)


def _twice(values: Sequence[str]) -> list[str]:
    return [value for value in dict.fromkeys(values) if values.count(value) > 1]
