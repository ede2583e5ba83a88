"""Connections that a node's processes may open, as data and as rules of the VM's firewall, nftables."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from contract.addresses import NOT_PUBLIC
from contract.users import CONFINED, TOOL

_SHARE_PORTS = "20049-21049"
"""Loopback ports of the share's TLS, which trusts anybody: nfsv4mountscript.sh of github.com/Azure/AZNFS-mount."""
ANY_PUBLIC = ("0.0.0.0/0",)
"""Destinations of an `Egress` to every public address and no other."""


@dataclass(frozen=True)
class Egress:
    """TCP connections that a node's processes may open.

    Raises:
        ValueError: no destination or no port: nftables takes no empty set, and empty must not mean any.
    """

    destinations: Sequence[str]
    """IPv4 prefixes, or `ANY_PUBLIC`."""
    ports: Sequence[int]

    def __post_init__(self) -> None:
        if not (self.destinations and self.ports):
            raise ValueError(
                f"connections to {self.destinations!r}, ports {self.ports!r}; wanted one of each at least"
            )

    @property
    def rule(self) -> str:
        """The nftables rule that accepts these connections."""
        where = f"!= {_set(NOT_PUBLIC)}" if tuple(self.destinations) == ANY_PUBLIC else _set(self.destinations)
        return f"ip daddr {where} tcp dport {_set(port_ranges(self.ports))} accept"


def nftables(allowed: Iterable[Egress]) -> str:
    """The rule set for `nft --file`, which replaces the previous one atomically.

    It does not restrict the agent's user, root, or the kernel's connections, such as the share's.

    Args:
        allowed: connections of nodes, besides the VM's loopback. User `TOOL`, which reads other members' data, may
            open none.
    """
    refused = "counter reject with icmpx admin-prohibited"
    rules = [
        f"meta skuid {TOOL.number} {refused}",
        "ct state established,related accept",
        f"tcp dport {_SHARE_PORTS} {refused}",
        'oifname "lo" accept',
        *(each.rule for each in allowed),
        refused,
    ]
    lines = [
        "table inet ledger",
        "delete table inet ledger",
        "table inet ledger {",
        "  chain output {",
        "    type filter hook output priority filter; policy accept;",
        f"    meta skuid {CONFINED[0]}-{CONFINED[-1]} jump confined",
        "  }",
        "  chain confined {",
        *(f"    {rule}" for rule in rules),
        "  }",
        "}",
    ]
    return "\n".join(lines) + "\n"


def _set(members: Iterable[str]) -> str:
    return f"{{ {', '.join(members)} }}"


def port_ranges(ports: Iterable[int]) -> list[str]:
    """Ports as Azure and nftables write them: consecutive ports as one range, lowest first."""
    runs: list[list[int]] = []
    for port in sorted(set(ports)):
        if runs and port == runs[-1][1] + 1:
            runs[-1][1] = port
        else:
            runs.append([port, port])
    return [str(first) if first == last else f"{first}-{last}" for first, last in runs]
