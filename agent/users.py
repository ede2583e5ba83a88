"""The separate users of the nodes' processes, and the group by which the agent shares files with one of them."""

import ctypes
import os

from contract.users import NODE_USERS
from host.processes import end_all


class NodeUsers:
    """Gives each identity's processes their own user.

    The agent has the capabilities SETUID, SETGID, SETPCAP and KILL. From a node's start to its end the event loop's
    thread, and each thread that it starts meanwhile, accesses files as the group of the node's user: the node can
    read what the agent writes for it, and the agent can copy what the node writes.
    """

    def take(self, identity: str) -> int:
        """Access files as the identity's group from now on; returns its user's number. Raises PermissionError."""
        user = NODE_USERS[identity].number
        _share_with(user)
        return user

    async def end(self, user: int) -> None:
        """End all processes of the user. Raises UnavailableError: one may still run."""
        await end_all(user)

    def leave(self) -> None:
        """Access files as the agent's own group again."""
        _share_with(os.getgid())


def _share_with(group: int) -> None:
    """Set the group of this thread's file accesses.

    os.setegid would change every thread and wait for each, for ever if one hangs on the share, nptl(7). And if the
    effective group differs from the real one, older kernels take the capabilities from child processes.

    Raises:
        PermissionError: the capability SETGID is missing.
    """
    libc = ctypes.CDLL(None)
    libc.setfsgid(group)
    # setfsgid reports no error; it returns the previous group, setfsgid(2).
    if libc.setfsgid(-1) != group:
        raise PermissionError(f"setfsgid to {group} was refused; wanted the capability SETGID")
