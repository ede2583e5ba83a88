"""Carves a member's address space into its subnets. Pure arithmetic: no CIDR is typed twice."""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, collapse_addresses, ip_network

LARGEST_PREFIX = 16
"""Shortest prefix of an address space: a /16, 65,536 addresses."""
SMALLEST_PREFIX = 22
"""Longest prefix of an address space: a /22, 1,024 addresses; half of it stays free for later subnets."""

_PRIVATE = tuple(ip_network(block) for block in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"))


@dataclass(frozen=True)
class AddressPlan:
    """The subnets of one member. They lie at fixed offsets, so that a larger space moves none of them."""

    space: IPv4Network
    nodes: IPv4Network
    """/24: the node VMs, their surge during upgrades, and the load balancer's frontend."""
    endpoints: IPv4Network
    """/26: the private endpoints of vault and storage."""
    database: IPv4Network
    """/27: delegated to PostgreSQL; Azure wants /28 or larger, and an HA server takes four addresses."""
    authority: IPv4Network
    """/27: the network authority's VMs and their frontend, where the member is one; apart from the nodes."""
    gateway: IPv4Network
    """/27: GatewaySubnet; Azure wants /27 or larger for coexistence with ExpressRoute."""

    @property
    def frontend(self) -> IPv4Address:
        """The load balancer's address: the last usable one of `nodes`, since Azure fills a subnet from below."""
        return self.nodes.broadcast_address - 1

    @property
    def authority_frontend(self) -> IPv4Address:
        """The address of the network authority's own load balancer, chosen like `frontend`."""
        return self.authority.broadcast_address - 1

    @property
    def unused(self) -> tuple[IPv4Network, ...]:
        """What is left of the space, as few blocks as possible, lowest first."""
        rest = [self.space]
        for taken in (self.nodes, self.endpoints, self.database, self.authority, self.gateway):
            rest = [
                piece
                for block in rest
                for piece in (block.address_exclude(taken) if taken.subnet_of(block) else [block])
            ]
        return tuple(collapse_addresses(rest))


def is_private(network: IPv4Network) -> bool:
    """Whether the whole network lies in one of the private ranges of RFC 1918."""
    return any(network.subnet_of(block) for block in _PRIVATE if isinstance(block, IPv4Network))


def carve(space: IPv4Network) -> AddressPlan:
    """Lay out the subnets of `space`.

    Raises:
        ValueError: `space` is not private, or not a /16 to /22.
    """
    if not is_private(space):
        raise ValueError(f"{space} is not private; wanted a part of 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16")
    if not LARGEST_PREFIX <= space.prefixlen <= SMALLEST_PREFIX:
        raise ValueError(f"{space} is a /{space.prefixlen}; wanted /{LARGEST_PREFIX} to /{SMALLEST_PREFIX}")
    nodes, services = list(space.subnets(new_prefix=24))[:2]
    endpoints, _ = services.subnets(new_prefix=25)
    small = list(services.subnets(new_prefix=27))
    return AddressPlan(
        space=space,
        nodes=nodes,
        endpoints=next(iter(endpoints.subnets(new_prefix=26))),
        database=small[2],
        authority=small[3],
        gateway=small[7],
    )
