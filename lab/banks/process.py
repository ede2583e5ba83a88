"""Processes: a VM on this machine with its child processes and its health; waits and locks."""

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any

from contract.ports import HEALTH_PATH, HEALTH_PORT
from lab import ROOT
from lab.banks.site import Host

NODE = b"ledger.corda.Node"
"""The argument that only a Corda node's command line has: migrations and tools are Java processes too."""


def health(host: Host, *, seconds: float) -> dict[str, Any]:
    """The answer of a VM to the health probe; empty if there is none within `seconds`."""
    url = f"http://{host.address}:{HEALTH_PORT}{HEALTH_PATH}"
    try:
        with host.entered(), urllib.request.urlopen(url, timeout=seconds) as answer:
            return dict(json.load(answer))
    except (OSError, HTTPException, ValueError):
        return {}


def tree(pid: int) -> list[int]:
    """The ids of a process and all of its descendants."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(stat.parent.name)] = int(_fields(stat)[1])
    found = [pid]
    for each in found:
        found.extend(child for child, parent in parents.items() if parent == each)
    return found


def processor_seconds(pid: int, *, children: bool = False) -> float:
    """A process's processor time in seconds; 0 if it has ended.

    Args:
        pid: its id.
        children: whether to include its children that have ended.
    """
    ticks: list[str] = []
    with contextlib.suppress(OSError):
        ticks = _fields(Path(f"/proc/{pid}/stat"))[11 : 15 if children else 13]
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


def _fields(stat: Path) -> list[str]:
    # proc_pid_stat(5), after the name in parentheses: state, parent, ..., utime, stime, cutime, cstime.
    return stat.read_text().rpartition(") ")[2].split()


class VmProcess:
    """A VM: the process of its agent, with all processes that the agent starts."""

    def __init__(self, name: str, host: Host, command: Sequence[str], log: Path) -> None:
        """Start the VM.

        Args:
            name: the VM's name.
            host: where it runs.
            command: the agent's command.
            log: the file to which its output is appended.
        """
        self.name, self.host, self.log = name, host, log
        self.started = time.monotonic()
        with log.open("a") as opened:
            self.process = subprocess.Popen(
                host.command(*command), cwd=ROOT, stdin=subprocess.DEVNULL, stdout=opened, stderr=opened
            )

    def health(self) -> dict[str, Any]:
        """The answer to the health probe; empty if there is none within 2 s."""
        return health(self.host, seconds=2)

    def tree(self) -> list[int]:
        """The ids of the process and all of its descendants: what a control group contains on a real VM."""
        return tree(self.process.pid)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to all processes of the VM, if it has not ended."""
        if self.process.poll() is not None:
            return
        for pid in self.tree():
            # A node may have ended already: the kernel kills it with its agent.
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def running(self, what: bytes) -> list[int]:
        """The ids of the VM's processes whose command line has an argument that equals `what`."""
        found = []
        for pid in self.tree():
            # It may have ended since.
            with contextlib.suppress(OSError):
                if what in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                    found.append(pid)
        return found

    def kill(self, what: bytes) -> None:
        """Kill the VM's processes whose command line has an argument that equals `what`."""
        for pid in self.running(what):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def end(self) -> None:
        """Kill all processes of the VM, and wait for the agent's end."""
        self.send(signal.SIGKILL)
        self.process.wait()


@contextlib.contextmanager
def exclusive(lock: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file during the block; waits for other holders on this machine."""
    with lock.open("w") as opened:
        fcntl.flock(opened, fcntl.LOCK_EX)
        yield


def until(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """Wait until a condition is true; returns its value.

    Args:
        condition: evaluated every 0.1 s.
        seconds: the longest time to wait.
        what: names the condition in the error.

    Raises:
        TimeoutError: the condition was not true within `seconds`.
    """
    end = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        time.sleep(0.1)
    return found


def unwind_on_sigterm() -> None:
    """Have SIGTERM leave all blocks, as Ctrl-C does: else what this program has started would run on."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
