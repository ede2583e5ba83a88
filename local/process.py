"""Processes: a VM on this machine with all that it started, and what it says of its health; waits and locks."""

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any

from agent.ports import HEALTH_PATH, HEALTH_PORT

NODE = b"ledger.corda.Node"
"""The word on a Corda node's command line: migrations and tools are Java too, but none of them."""
ROOT = Path(__file__).resolve().parent.parent


class VmProcess:
    """A command that is run as a VM's agent."""

    def __init__(self, name: str, address: str, command: Sequence[str], log: Path) -> None:
        self.name, self.address, self.log = name, address, log
        self.started = time.monotonic()
        with log.open("a") as opened:
            self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=opened, stderr=opened)

    def health(self) -> dict[str, Any]:
        """What it answers to the platform's probe; nothing where it does not."""
        try:
            with urllib.request.urlopen(f"http://{self.address}:{HEALTH_PORT}{HEALTH_PATH}", timeout=2) as answer:
                return dict(json.load(answer))
        except (OSError, HTTPException, ValueError):
            return {}

    def tree(self) -> list[int]:
        """The process and all below it: its control group."""
        parents = {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rsplit(") ", 1)[1].split()
            except OSError:
                continue
            parents[int(stat.parent.name)] = int(fields[1])
        found = [self.process.pid]
        for pid in found:
            found.extend(child for child, parent in parents.items() if parent == pid)
        return found

    def send(self, number: signal.Signals) -> None:
        """A signal to the whole VM, if it has not ended."""
        if self.process.poll() is not None:
            return
        for pid in self.tree():
            # A node may be gone already: the kernel kills it with its agent.
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def running(self, what: bytes) -> list[int]:
        """The processes of the VM that have a word on their command line."""
        found = []
        for pid in self.tree():
            # It may have ended since.
            with contextlib.suppress(OSError):
                if what in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                    found.append(pid)
        return found

    def kill(self, what: bytes) -> None:
        """Kill those."""
        for pid in self.running(what):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def end(self) -> None:
        """Kill all of it."""
        self.send(signal.SIGKILL)
        self.process.wait()


@contextlib.contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Nobody else on this machine is in a block with the same lock."""
    with lock.open("w") as opened:
        fcntl.flock(opened, fcntl.LOCK_EX)
        yield


def until(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """Wait for a condition to be true; gives its value.

    Raises:
        TimeoutError: it was not, for so long.
    """
    end = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        time.sleep(0.1)
    return found
