"""A bank's load balancer on this machine: HAProxy, with the rules and probes that Azure's gets."""

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ledger.platform import PROBE_FAILURES, PROBE_SECONDS, Listener, Probe, ProbeProtocol

HEAD = """\
global
    maxconn 4096
defaults
    mode tcp
    timeout connect 5s
    timeout client 30m
    timeout server 30m
"""
"""How it forwards, whatever it is configured for."""
_START_SECONDS = 10


def available() -> bool:
    """Whether this machine has HAProxy."""
    return shutil.which("haproxy") is not None


def configuration(frontend: str, listeners: Sequence[Listener], vms: Mapping[str, str]) -> str:
    """HAProxy's configuration.

    Args:
        frontend: the one address that peers and applications dial.
        listeners: what VMs listen on behind it.
        vms: addresses of the VMs by name.
    """
    return HEAD + "".join(_proxy(frontend, listener, vms) for listener in listeners)


def _proxy(frontend: str, listener: Listener, vms: Mapping[str, str]) -> str:
    probe = listener.probe
    # As Azure's Standard SKU does: so many probes in a row decide of new connections, and those that there are go on.
    check = f"check port {probe.port} inter {PROBE_SECONDS}s fall {PROBE_FAILURES} rise 1"
    lines = [
        f"listen {listener.name}",
        f"    bind {frontend}:{listener.port}",
        "    balance random",
        *_probing(probe),
        *(f"    server {name} {address}:{listener.port} {check}" for name, address in vms.items()),
    ]
    return "\n".join(lines) + "\n"


def _probing(probe: Probe) -> list[str]:
    return [f"    option httpchk GET {probe.path}"] if probe.protocol is ProbeProtocol.HTTP else []


@contextlib.contextmanager
def balancing(
    frontend: str, listeners: Sequence[Listener], vms: Mapping[str, str], folder: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Balance for as long as the block lasts.

    Raises:
        RuntimeError: HAProxy does not take the configuration, or a port of the frontend is in use.
    """
    with running(configuration(frontend, listeners, vms), (frontend, listeners[0].port), folder) as process:
        yield process


@contextlib.contextmanager
def running(text: str, answers: tuple[str, int], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """HAProxy with a configuration, for as long as the block lasts.

    Args:
        text: the configuration.
        answers: host and port where it is to answer before the block begins.
        folder: where configuration and log are written.

    Raises:
        RuntimeError: HAProxy does not take the configuration, or one of its ports is in use.
    """
    path = folder / "haproxy.cfg"
    path.write_text(text, encoding="utf-8")
    with (folder / "haproxy.log").open("wb") as log:
        process = subprocess.Popen(["haproxy", "-db", "-f", str(path)], stdout=log, stderr=log)
    try:
        end = time.monotonic() + _START_SECONDS
        while not _open(*answers):
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"HAProxy does not start: {(folder / 'haproxy.log').read_text()[-500:]}")
            time.sleep(0.05)
        yield process
    finally:
        process.kill()
        process.wait()


def _open(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True
