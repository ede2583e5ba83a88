"""Carves a member's address space into its subnets. Pure arithmetic: no CIDR is typed twice."""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

LARGEST_PREFIX = 16
"""Shortest prefix of an address space: a /16, 65,536 addresses."""
SMALLEST_PREFIX = 22
"""Longest prefix of an address space: a /22, 1,024 addresses; half of it stays free for later subnets."""

PRIVATE_BLOCKS = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")
"""RFC 1918: every member's address space lies inside one of them."""
_PRIVATE = tuple(IPv4Network(block) for block in PRIVATE_BLOCKS)
NOT_PUBLIC = (
    # IANA's registry of special-purpose addresses; link-local has Azure's metadata service.
    *("0.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "192.0.0.0/24", "198.18.0.0/15", "224.0.0.0/3"),
    *PRIVATE_BLOCKS,
    # Azure's wire server, learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16.
    "168.63.129.16/32",
)
"""Blocks that no host on the internet has, but those of documentation, which samples use."""
_NOT_PUBLIC = tuple(IPv4Network(block) for block in NOT_PUBLIC)


@dataclass(frozen=True)
class AddressPlan:
    """The subnets of one member, at fixed offsets: a larger space moves no subnet."""

    space: IPv4Network
    nodes: IPv4Network
    """/24: the node VMs, their surge during upgrades, and the load balancer's frontend."""
    endpoints: IPv4Network
    """/26: the private endpoints of vault and storage."""
    database: IPv4Network
    """/27: delegated to PostgreSQL; Azure wants /28 or larger, and an HA server takes four addresses."""
    authority: IPv4Network
    """/27: the network authority's VMs and their frontend, apart from the nodes."""
    gateway: IPv4Network
    """/27: GatewaySubnet; Azure wants /27 or larger for coexistence with ExpressRoute."""

    @property
    def frontend(self) -> IPv4Address:
        """Address of the nodes' load balancer: the last usable one, since Azure assigns the lowest first."""
        return self.nodes.broadcast_address - 1

    @property
    def authority_frontend(self) -> IPv4Address:
        """Address of the authority's load balancer, chosen like `frontend`."""
        return self.authority.broadcast_address - 1


def is_private(network: IPv4Network) -> bool:
    """Whether the whole network lies in one of the private ranges of RFC 1918."""
    return any(network.subnet_of(block) for block in _PRIVATE)


def is_public(address: IPv4Address) -> bool:
    """Whether a host on the internet may have this address."""
    return not any(address in block for block in _NOT_PUBLIC)


def carve(space: IPv4Network) -> AddressPlan:
    """Lay out the subnets of `space`.

    Raises:
        ValueError: `space` is not private, or not a /16 to /22.
    """
    if not is_private(space):
        raise ValueError(f"{space} is not private; wanted a part of {' or '.join(PRIVATE_BLOCKS)}")
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
