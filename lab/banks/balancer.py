"""A bank's load balancer on this machine: HAProxy, with the same rules and probes as Azure's load balancer."""

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from contract.listeners import PROBE_FAILURES, PROBE_SECONDS, Listener, Probe, ProbeProtocol
from lab.banks.site import Host

HEAD = """\
global
    maxconn 4096
defaults
    mode tcp
    timeout connect 5s
    timeout client 30m
    timeout server 30m
"""
"""The sections of HAProxy's configuration that are the same for all listeners."""
_HAPROXY_SECONDS = 10


def available() -> bool:
    """Whether this machine has HAProxy."""
    return shutil.which("haproxy") is not None


def configuration(frontend: str, listeners: Sequence[Listener], vms: Mapping[str, str]) -> str:
    """HAProxy's configuration.

    Args:
        frontend: the address that peers and applications connect to.
        listeners: ports and probes of the VMs behind the load balancer.
        vms: addresses of the VMs by name.
    """
    return HEAD + "".join(_proxy(frontend, listener, vms) for listener in listeners)


def _proxy(frontend: str, listener: Listener, vms: Mapping[str, str]) -> str:
    probe = listener.probe
    # As Azure's Standard SKU: failed probes stop new connections to a VM; existing connections continue.
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
    frontend: Host, listeners: Sequence[Listener], vms: Mapping[str, str], folder: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Run the load balancer during the block; yields HAProxy's process.

    Args:
        frontend: what peers and applications connect to.
        listeners: ports and probes of the VMs behind the load balancer.
        vms: addresses of the VMs by name.
        folder: where configuration and log are written.

    Raises:
        RuntimeError: HAProxy refuses the configuration, or a port of the frontend is in use.
    """
    text = configuration(frontend.address, listeners, vms)
    with running(text, (frontend, listeners[0].port), folder, frontend) as process:
        yield process


@contextlib.contextmanager
def running(
    text: str, answers: tuple[Host, int], folder: Path, place: Host, held: Sequence[int] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    """Run HAProxy with a configuration during the block; yields its process.

    Args:
        text: the configuration.
        answers: host and port that must accept connections before the block begins.
        folder: where configuration and log are written.
        place: where it runs.
        held: descriptors of sockets that it inherits.

    Raises:
        RuntimeError: HAProxy refuses the configuration, or one of its ports is in use.
    """
    path = folder / "haproxy.cfg"
    path.write_text(text, encoding="utf-8")
    with (folder / "haproxy.log").open("wb") as log:
        command = place.command("haproxy", "-db", "-f", str(path))
        process = subprocess.Popen(command, stdout=log, stderr=log, pass_fds=held)
    try:
        end = time.monotonic() + _HAPROXY_SECONDS
        while not _open(*answers):
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"HAProxy does not start: {(folder / 'haproxy.log').read_text()[-500:]}")
            time.sleep(0.05)
        yield process
    finally:
        process.kill()
        process.wait()


def _open(host: Host, port: int) -> bool:
    try:
        with host.entered():
            socket.create_connection((host.address, port), timeout=1).close()
    except OSError:
        return False
    return True
