"""What a picture is made of, whatever writes it: boxes in groups, and arrows between boxes."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What a box stands for; it chooses the icon."""

    MEMBERS = "members"
    APPLICATIONS = "applications"
    INTERNET = "internet"
    AZURE = "azure"
    CIRCUIT = "circuit"
    GATEWAY = "gateway"
    BALANCER = "balancer"
    VMS = "vms"
    ENDPOINTS = "endpoints"
    DATABASE = "database"
    VAULT = "vault"
    BLOBS = "blobs"
    FILES = "files"
    NAT = "nat"
    MONITORING = "monitoring"
    NOTARY = "notary"
    AUTHORITY = "authority"


class Scope(StrEnum):
    """What a group stands for; it chooses the colour."""

    TENANT = "tenant"
    MEMBER = "member"
    NETWORK = "network"
    SUBNET = "subnet"


class Direction(StrEnum):
    """Where arrows lead, as Graphviz and Mermaid call it."""

    DOWN = "TB"
    RIGHT = "LR"


class Line(StrEnum):
    """What an arrow stands for."""

    FLOW = "flow"
    """Connections that are allowed."""
    LINK = "link"
    """An encrypted or private link between networks."""
    SERVES = "serves"
    """What is behind a balancer or an endpoint."""


@dataclass(frozen=True)
class Box:
    """One thing, with a title and lines that say more of it."""

    key: str
    """Unique in the picture; letters, digits and underscores."""
    kind: Kind
    title: str
    details: tuple[str, ...] = ()


@dataclass(frozen=True)
class Group:
    """Things that are in one place."""

    key: str
    """As of a box."""
    scope: Scope
    title: str
    parts: "tuple[Box | Group, ...]"
    details: tuple[str, ...] = ()
    """One entry a line."""
    flows: tuple[str, ...] = ()
    """Names of the flows inside of it, of `components.flows`, that its details state."""


@dataclass(frozen=True)
class Arrow:
    """From one box to another, both by their keys."""

    source: str
    target: str
    line: Line
    label: tuple[str, ...] = ()
    """One entry a line."""
    flows: tuple[str, ...] = ()
    """Names of the flows that it stands for, of `components.flows`."""
    both_ways: bool = False


@dataclass(frozen=True)
class Picture:
    """What is drawn."""

    title: str
    direction: Direction
    parts: tuple[Box | Group, ...]
    arrows: tuple[Arrow, ...]


def boxes(parts: tuple[Box | Group, ...]) -> Iterator[Box]:
    """All boxes, at whatever depth."""
    for part in parts:
        if isinstance(part, Group):
            yield from boxes(part.parts)
        else:
            yield part
