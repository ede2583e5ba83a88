"""The connections from one VM to its bank's services, through a separate proxy process, so that they can be cut."""

import os
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from lab.banks import balancer
from lab.banks.site import Host

_HOST = "127.0.0.1"
"""The host of the services and of the proxy: names in URLs and certificates stay the same, only ports differ."""
HERE = Host(_HOST)
"""This machine's own network."""


@dataclass(frozen=True)
class Wires:
    """The proxy between one VM and services on this machine."""

    process: subprocess.Popen[bytes]
    ports: Mapping[int, int]
    """The proxy's ports, by the services' ports."""

    def url(self, service: str) -> str:
        """The URL at the proxy for a service's URL."""
        parts = urlsplit(service)
        return parts._replace(netloc=f"{parts.hostname}:{self.ports[port_of(service)]}").geturl()

    def cut(self) -> None:
        """Suspend the proxy: nothing passes, and no connection is refused or closed."""
        self.process.send_signal(signal.SIGSTOP)
        # Until the signal has arrived, data would still pass.
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED)

    def mend(self) -> None:
        """Resume the proxy: data that was sent meanwhile passes first."""
        self.process.send_signal(signal.SIGCONT)


def port_of(url: str) -> int:
    """The port in a URL."""
    port = urlsplit(url).port
    assert port, f"{url}; wanted a port"
    return port


@contextmanager
def wires(services: Mapping[str, int], folder: Path, vm: Host = HERE) -> Iterator[Wires]:
    """Run a VM's proxy to services during the block.

    Args:
        services: the services' ports on this machine, by name.
        vm: where the VM runs: there the proxy listens, while it connects from here.
        folder: a new folder for the proxy's files.

    Raises:
        RuntimeError: HAProxy does not start.
    """
    folder.mkdir(parents=True)
    with ExitStack() as held:
        with vm.entered():
            listening = [held.enter_context(socket.create_server((_HOST, 0))) for _ in services]
        descriptors = [each.fileno() for each in listening]
        text = balancer.HEAD + "".join(
            f"listen {name}\n    bind fd@{descriptor}\n    server {name} {_HOST}:{port}\n"
            for (name, port), descriptor in zip(services.items(), descriptors, strict=True)
        )
        ports = [each.getsockname()[1] for each in listening]
        there = replace(vm, address=_HOST)
        process = held.enter_context(balancer.running(text, (there, ports[0]), folder, HERE, descriptors))
        for each in listening:
            each.close()
        yield Wires(process, dict(zip(services.values(), ports, strict=True)))
