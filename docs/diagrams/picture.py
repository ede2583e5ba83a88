"""The content of a picture in any format: boxes in groups, and arrows between boxes."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """The kind of a box, which determines its icon."""

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
    """The kind of a group, which determines its colour."""

    TENANT = "tenant"
    MEMBER = "member"
    NETWORK = "network"
    SUBNET = "subnet"


class Direction(StrEnum):
    """The direction of arrows, in Graphviz's and Mermaid's terms."""

    DOWN = "TB"
    RIGHT = "LR"


class Line(StrEnum):
    """The kind of an arrow."""

    FLOW = "flow"
    """Allowed connections."""
    LINK = "link"
    """An encrypted or private link between networks."""
    SERVES = "serves"
    """An arrow from a balancer or an endpoint to its targets."""


@dataclass(frozen=True)
class Box:
    """One object, with a title and further lines."""

    key: str
    """Unique in the picture; letters, digits and underscores."""
    kind: Kind
    title: str
    details: tuple[str, ...] = ()


@dataclass(frozen=True)
class Group:
    """Objects in one place."""

    key: str
    """The key by which arrows name the group."""
    scope: Scope
    title: str
    parts: "tuple[Box | Group, ...]"
    details: tuple[str, ...] = ()
    """One entry for each line."""
    flows: tuple[str, ...] = ()
    """Names of the flows inside of it, in `components.flows`, that its details state."""


@dataclass(frozen=True)
class Arrow:
    """An arrow from a box to another, both by their keys."""

    source: str
    target: str
    line: Line
    label: tuple[str, ...] = ()
    """One entry for each line."""
    flows: tuple[str, ...] = ()
    """Names of its flows in `components.flows`."""
    both_ways: bool = False


@dataclass(frozen=True)
class Picture:
    """The picture."""

    title: str
    direction: Direction
    parts: tuple[Box | Group, ...]
    arrows: tuple[Arrow, ...]


def boxes(parts: tuple[Box | Group, ...]) -> Iterator[Box]:
    """All boxes, at any depth."""
    for part in parts:
        if isinstance(part, Group):
            yield from boxes(part.parts)
        else:
            yield part
