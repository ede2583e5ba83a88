"""What the infrastructure must know of a ledger platform, and the listeners that follow from it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

MAX_IDENTITIES = 100
"""Identities of one member: the ports of a purpose run from its base to base + 99."""


class PlatformName(StrEnum):
    """The ledger software of a consortium."""

    CORDA = "corda"


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
    audience: Audience
    probe: Probe


@dataclass(frozen=True)
class DatabaseNeeds:
    """What a platform asks of PostgreSQL."""

    version: str
    """Major version."""
    connections_per_identity: int
    """Size of one node's connection pool."""


@dataclass(frozen=True)
class Identity:
    """One ledger node's place in the member: it moves between VMs, its name and its ports do not."""

    index: int
    name: str
    legal_name: str
    p2p_port: int
    rpc_port: int


@dataclass(frozen=True)
class Platform:
    """A ledger software, as far as the infrastructure is concerned."""

    name: PlatformName
    versions: tuple[str, ...]
    """Supported versions, oldest first."""
    default_version: str
    p2p_base: int
    rpc_base: int
    rpc_spread: int
    """RPC port that spreads over all node identities, for states shared among them."""
    database: DatabaseNeeds | None
    packages: Callable[[str], tuple[str, ...]]
    """Ubuntu packages of the runtime that a version needs."""
    check_legal_name: Callable[[str], str]
    """Returns the legal name in canonical form; raises ValueError with what was wanted."""
    node_legal_name: Callable[[str, str], str]
    """The legal name of one identity, from the bank's legal name and the identity's name."""


def identity_name(index: int) -> str:
    """The name of the identity at `index`, which counts from 0: names count from 1."""
    return f"node-{index + 1}"


def identities(platform: Platform, bank_legal_name: str, count: int) -> tuple[Identity, ...]:
    """The identities of a member, numbered from 1.

    Raises:
        ValueError: `count` is not within 1 to `MAX_IDENTITIES`.
    """
    if not 1 <= count <= MAX_IDENTITIES:
        raise ValueError(f"{count} identities; wanted 1 to {MAX_IDENTITIES}")
    return tuple(
        Identity(
            index=index,
            name=(name := identity_name(index)),
            legal_name=platform.node_legal_name(bank_legal_name, name),
            p2p_port=platform.p2p_base + index,
            rpc_port=platform.rpc_base + index,
        )
        for index in range(count)
    )


def listeners(platform: Platform, members: Sequence[Identity]) -> tuple[Listener, ...]:
    """Every listener of a member's ledger nodes.

    Only the VM that holds an identity listens on its ports, so a probe of the port finds that VM.
    """
    own = [
        listener
        for identity in members
        for listener in (
            Listener(f"p2p-{identity.name}", identity.p2p_port, Audience.PEERS, Probe(identity.p2p_port)),
            Listener(f"rpc-{identity.name}", identity.rpc_port, Audience.APPLICATIONS, Probe(identity.rpc_port)),
        )
    ]
    spread = Listener("rpc", platform.rpc_spread, Audience.APPLICATIONS, Probe(platform.rpc_spread))
    return (*own, spread)


def peer_ports(platform: Platform) -> range:
    """The ports that the nodes of any member of the platform's network may listen on for its peers."""
    return range(platform.p2p_base, platform.p2p_base + MAX_IDENTITIES)
