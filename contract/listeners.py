"""TCP listeners of VMs: who may connect, and how the load balancer probes them."""

from dataclasses import dataclass
from enum import StrEnum

PROBE_SECONDS, PROBE_FAILURES = 5, 2
"""Interval of the load balancer's probes, and how many in a row decide: a dead VM is dropped after 10 s."""


class Audience(StrEnum):
    """Sources of a listener's connections, besides the load balancer's probe."""

    PEERS = "peers"
    """The other members, over their links, and this member's own nodes."""
    APPLICATIONS = "applications"
    """The bank's own applications."""


class ProbeProtocol(StrEnum):
    """Protocol of a load balancer's probe."""

    TCP = "Tcp"
    HTTP = "Http"


@dataclass(frozen=True)
class Probe:
    """How the load balancer checks that a VM serves a listener."""

    port: int
    protocol: ProbeProtocol = ProbeProtocol.TCP
    path: str | None = None


@dataclass(frozen=True)
class Listener:
    """A TCP port of a frontend address, and of the VMs behind it."""

    name: str
    port: int
    audiences: frozenset[Audience]
    probe: Probe
