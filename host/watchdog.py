"""Notifies systemd of the program's state, sd_notify(3). A no-op without NOTIFY_SOCKET.

No library: those on PyPI are unmaintained or need libsystemd's headers, and the protocol is one datagram.
"""

import contextlib
import faulthandler
import os
import socket


class Watchdog:
    """Client of systemd's notification socket, with a second watchdog inside the process.

    systemd watches only a running service, not one that is stopping (`service_set_state` in its service.c), but an
    agent that drains its node keeps its lease for minutes after SIGTERM. So if systemd watches, a Python timer also
    ends the process, from a thread that needs no interpreter; its children die with it.
    """

    def __init__(self, address: str | None = None, microseconds: str | None = None) -> None:
        address = os.environ.get("NOTIFY_SOCKET") if address is None else address
        if address and address[0] not in "/@":
            raise ValueError(f"NOTIFY_SOCKET={address}; wanted a path, or an abstract name that begins with @")
        # An abstract name begins with a zero byte, which an environment variable can't contain.
        self._address = "\0" + address[1:] if address and address[0] == "@" else address
        watched = os.environ.get("WATCHDOG_USEC") if microseconds is None else microseconds
        self._seconds = int(watched) / 1e6 if watched else None

    def ready(self) -> None:
        """Report that the program has started."""
        self._send("READY=1")

    def alive(self) -> None:
        """Send a heartbeat. Without one for the unit's WatchdogSec, the program is killed."""
        self._send("WATCHDOG=1")
        if self._seconds:
            faulthandler.dump_traceback_later(self._seconds, exit=True)

    def status(self, text: str) -> None:
        """Report what the program does, in one line."""
        self._send(f"STATUS={' '.join(text.split())}")

    def stopping(self) -> None:
        """Report that the program ends. No watchdog limits it any more: it holds nothing."""
        self._seconds = None
        faulthandler.cancel_dump_traceback_later()
        self._send("STOPPING=1")

    def _send(self, assignment: str) -> None:
        if not self._address:
            return
        # A lost datagram must not end the program, and its loop must not wait for systemd.
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.setblocking(False)
            notify.sendto(assignment.encode(errors="replace"), self._address)
