"""Operating system users, the same on all VMs: files on the share name their owners by number."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from contract.identities import identity_name
from contract.platform import MAX_IDENTITIES


@dataclass(frozen=True)
class User:
    """A user, with a group of the same name and number."""

    name: str
    number: int


PROGRAM = User("ledger", 64100)
"""Runs the program of a VM, an agent or an authority."""
_FIRST_NODE = 64200
NODE_USERS: Mapping[str, User] = MappingProxyType(
    {(name := identity_name(index)): User(f"ledger-{name}", _FIRST_NODE + index) for index in range(MAX_IDENTITIES)}
)
"""The user of each identity's processes, by identity name."""
TOOL = User("ledger-tool", _FIRST_NODE + MAX_IDENTITIES)
"""Runs the platform's code on what other members publish, before a node sees it."""
MAX_TASKS = 1000
"""Most processes and threads of a confined user: a Corda node has some 200; a fork bomb is contained."""
CONFINED = range(_FIRST_NODE, TOOL.number + 1)
"""Numbers of the users whose processes read other members' data."""
