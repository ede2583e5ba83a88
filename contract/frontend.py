"""Listeners of a member's frontend address; no VM reads them."""

from collections.abc import Iterator, Sequence
from enum import StrEnum

from contract.identities import Identity
from contract.listeners import Audience, Listener, Probe, ProbeProtocol
from contract.platform import Platform, Port, Scope
from contract.ports import HEALTH_PATH, HEALTH_PORT, NETWORK_INFO_PORT

NETWORK_INFO = Listener(
    "network-info",
    NETWORK_INFO_PORT,
    frozenset({Audience.PEERS}),
    # Every VM serves the same document: any live agent will do.
    Probe(HEALTH_PORT, ProbeProtocol.HTTP, HEALTH_PATH),
)


class ApplicationPorts(StrEnum):
    """Load balancer ports for the bank's applications; each is a rule, billed by the hour."""

    SHARED = "shared"
    """One port that all nodes share, if the platform has one."""
    EACH = "each"
    """A port for each node too, for applications whose states belong to one node."""


def listeners(
    nodes: Sequence[Identity], applications: ApplicationPorts = ApplicationPorts.SHARED
) -> tuple[Listener, ...]:
    """Every listener of a member's ledger nodes, with the shared ports that any of them serves.

    Only the VM that holds an identity listens on its ports, so a probe of the port finds that VM.
    """
    shared = {port.name for port in _shared_ports(nodes)} if applications is ApplicationPorts.SHARED else set()
    own = [
        Listener(f"{port.name}-{identity.name}", (number := identity.ports[port.name]), port.audiences, Probe(number))
        for identity in nodes
        for port in identity.role.ports
        if port.scope is Scope.PER_IDENTITY and not (port.name in shared and Audience.PEERS not in port.audiences)
    ]
    return (
        *own,
        *(Listener(port.name, port.base, port.audiences, Probe(port.base)) for port in _shared_ports(nodes)),
    )


def application_port(nodes: Sequence[Identity]) -> int | None:
    """The first shared port for the bank's applications; None if no node serves one."""
    return next((port.base for port in _shared_ports(nodes) if Audience.APPLICATIONS in port.audiences), None)


def peer_ports(platform: Platform) -> tuple[int, ...]:
    """Ports on which any member's nodes may listen for peers, ascending."""
    open_to_peers = (port for role in platform.roles for port in role.ports if Audience.PEERS in port.audiences)
    return tuple(sorted({number for port in open_to_peers for number in port.numbers}))


def _shared_ports(nodes: Sequence[Identity]) -> Iterator[Port]:
    served = (port for identity in nodes for port in identity.role.ports if port.scope is Scope.SHARED)
    return iter(dict.fromkeys(served))
