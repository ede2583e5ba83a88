"""Network namespaces. Each ends with the process that created it, in any case."""

import ctypes
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

_NEW_NET = 0x40000000
_CABLES = IPv4Network("169.254.0.0/16").subnets(new_prefix=31)
_LIBC = ctypes.CDLL(None, use_errno=True)
ENDING_WITH_US = ("setpriv", "--pdeathsig", "KILL")
"""Command that starts another one, which the kernel kills when the thread that started it ends."""
# It ends with this process.
_STARTER = ThreadPoolExecutor(1)


def _start(command: Sequence[str], **options: Any) -> "subprocess.Popen[bytes]":
    """Start a program that ends with this process, whichever thread it is for."""

    def start() -> "subprocess.Popen[bytes]":
        return subprocess.Popen([*ENDING_WITH_US, *command], **options)

    return _STARTER.submit(start).result()


class Namespace:
    """A network namespace with its loopback device up, which routes packets."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._keeper = _start(["unshare", "--net", "sleep", "infinity"])
        self._processes: list[subprocess.Popen[bytes]] = []
        ours = Path("/proc/self/ns/net").readlink()
        end = time.monotonic() + 10
        while self._path.readlink() == ours:
            if self._keeper.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"{name}: no network namespace; wanted root, and util-linux")
            time.sleep(0.001)
        self.ip("link set lo up")
        self.set("ip_forward", 1)
        # A connection stays on one of several routes, and each may use another one.
        self.set("fib_multipath_hash_policy", 1)

    @property
    def _path(self) -> Path:
        return Path(f"/proc/{self._keeper.pid}/ns/net")

    def ip(self, *commands: str) -> None:
        """Run commands of `ip`, each without its first word."""
        self.run("ip", "-batch", "-", text="\n".join(commands))

    def set(self, name: str, value: int) -> None:
        """Set one of the kernel's variables below `net.ipv4`, such as `ip_forward`."""
        with self.entered():
            Path("/proc/sys/net/ipv4", name).write_text(str(value), encoding="ascii")

    def run(self, *command: str, text: str = "") -> str:
        """Run a command in the namespace; returns its output.

        Raises:
            RuntimeError: it fails.
        """
        done = subprocess.run(self.command(*command), input=text, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{self.name}: {' '.join(command)} {text}: {done.stderr.strip()}")
        return done.stdout

    def start(self, *command: str, log: Path, **environment: str) -> None:
        """Start a program that runs as long as the namespace."""
        with log.open("ab") as opened:
            started = _start(
                self.command(*command),
                stdin=subprocess.DEVNULL,
                stdout=opened,
                stderr=opened,
                env={**os.environ, **environment},
            )
        self._processes.append(started)

    def command(self, *command: str) -> list[str]:
        """A command that runs another one in the namespace."""
        return ["nsenter", f"--net={self._path}", *command]

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Move this thread to the namespace during the block. A socket that is created there stays there."""
        with Path("/proc/thread-self/ns/net").open() as ours, self._path.open() as theirs:
            _enter(theirs.fileno())
            try:
                yield
            finally:
                _enter(ours.fileno())

    def connect(self, device: str, other: "Namespace", other_device: str) -> tuple[IPv4Address, IPv4Address]:
        """Connect another namespace by a cable; returns the addresses of its ends, which are up."""
        subprocess.run(
            f"ip link add {device} netns {self._keeper.pid} type veth"
            f" peer name {other_device} netns {other._keeper.pid}".split(),
            check=True,
        )
        network = next(_CABLES)
        self.ip(f"addr add {network[0]}/31 dev {device}", f"link set {device} up")
        other.ip(f"addr add {network[1]}/31 dev {other_device}", f"link set {other_device} up")
        return network[0], network[1]

    def end(self) -> None:
        """Kill the processes in the namespace: the kernel removes it and its cables."""
        for each in (*self._processes, self._keeper):
            each.kill()
        for each in (*self._processes, self._keeper):
            each.wait()


def _enter(namespace: int) -> None:
    if _LIBC.setns(namespace, _NEW_NET):
        raise OSError(ctypes.get_errno(), "can't enter a network namespace")
