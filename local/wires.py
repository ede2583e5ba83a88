"""The wires of one VM: a process of its own through which it reaches its bank's services, so that they can be cut."""

import os
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from local import balancer

_HOST = "127.0.0.1"
"""Where the services are, and the wires too: names in URLs and certificates stay, only ports are others."""


@dataclass(frozen=True)
class Wires:
    """A VM's way to services on this machine."""

    process: subprocess.Popen[bytes]
    ports: Mapping[int, int]
    """Those at the VM's end, by the services' own."""

    def url(self, service: str) -> str:
        """The URL by which the VM reaches what another URL names."""
        parts = urlsplit(service)
        return parts._replace(netloc=f"{parts.hostname}:{self.ports[port_of(service)]}").geturl()

    def cut(self) -> None:
        """Let nothing pass: what is sent vanishes, and nobody is refused."""
        self.process.send_signal(signal.SIGSTOP)
        # A signal takes a moment: what comes in between would still pass.
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED)

    def mend(self) -> None:
        """Let everything pass again, what was on its way first."""
        self.process.send_signal(signal.SIGCONT)


def port_of(url: str) -> int:
    """The port in a URL."""
    port = urlsplit(url).port
    assert port, f"{url}; wanted a port"
    return port


@contextmanager
def wires(services: Mapping[str, int], folder: Path) -> Iterator[Wires]:
    """Wires to services, for as long as the block lasts.

    Args:
        services: their ports on this machine, by their names.
        folder: the wires' own, to be made.

    Raises:
        RuntimeError: HAProxy does not start.
    """
    folder.mkdir(parents=True)
    with ExitStack() as held:
        # All at once, so that no two are the same.
        free = [held.enter_context(socket.create_server((_HOST, 0))) for _ in services]
        ports = {service: each.getsockname()[1] for service, each in zip(services.values(), free, strict=True)}
    text = balancer.HEAD + "".join(
        f"listen {name}\n    bind {_HOST}:{ports[port]}\n    server {name} {_HOST}:{port}\n"
        for name, port in services.items()
    )
    with balancer.running(text, (_HOST, ports[next(iter(ports))]), folder) as process:
        yield Wires(process, ports)
