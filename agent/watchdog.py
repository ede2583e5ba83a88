"""Tells systemd how the agent is (sd_notify(3)). A no-op where no one listens.

Not a library: those of PyPI are unmaintained or need libsystemd's headers, and the protocol is one datagram.
"""

import contextlib
import faulthandler
import os
import socket


class Watchdog:
    """The service manager's end of a socket, named by NOTIFY_SOCKET, and a second watchdog beside it.

    systemd watches a service that runs, not one that was told to stop (`service_set_state` in its service.c); an
    agent that drains its node keeps its lease for minutes after SIGTERM. So where systemd watches, Python's own
    timer ends the process too, from a thread that waits for no interpreter; its children then die with it.
    """

    def __init__(self, address: str | None = None, microseconds: str | None = None) -> None:
        address = os.environ.get("NOTIFY_SOCKET") if address is None else address
        if address and address[0] not in "/@":
            raise ValueError(f"NOTIFY_SOCKET={address}; wanted a path, or an abstract name that begins with @")
        # An abstract name begins with a zero byte, which no environment can hold.
        self._address = "\0" + address[1:] if address and address[0] == "@" else address
        watched = os.environ.get("WATCHDOG_USEC") if microseconds is None else microseconds
        self._seconds = int(watched) / 1e6 if watched else None

    def ready(self) -> None:
        """The agent has started."""
        self._send("READY=1")

    def alive(self) -> None:
        """The agent is sound; without it for the unit's WatchdogSec the agent is killed."""
        self._send("WATCHDOG=1")
        if self._seconds:
            faulthandler.dump_traceback_later(self._seconds, exit=True)

    def status(self, text: str) -> None:
        """What the agent does, in one line."""
        self._send(f"STATUS={' '.join(text.split())}")

    def stopping(self) -> None:
        """The agent ends, as slowly as it likes: nothing is at stake any more."""
        self._seconds = None
        faulthandler.cancel_dump_traceback_later()
        self._send("STOPPING=1")

    def _send(self, assignment: str) -> None:
        if not self._address:
            return
        # A lost datagram is no reason to stop, and the agent's loop may not wait for systemd.
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.setblocking(False)
            notify.sendto(assignment.encode(), self._address)
