"""A network namespace for one guest: its link, its addresses by DHCP as Azure gives them, and its names."""

import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from lab.namespaces import ENDING_WITH_US, Namespace

METADATA_ADDRESS, WIRE_SERVER_ADDRESS = IPv4Address("169.254.169.254"), IPv4Address("168.63.129.16")
"""Azure's addresses of the metadata service and the wire server, which also serves DNS."""
LINK = "vm0"
"""The guest's network device, for QEMU."""


@dataclass(frozen=True)
class GuestSubnet:
    """The guest's subnet."""

    range: IPv4Network

    @property
    def gateway(self) -> IPv4Address:
        """The first address, which Azure reserves."""
        return self.range[1]

    @property
    def guest(self) -> IPv4Address:
        """The first address that Azure assigns."""
        return self.range[4]


@contextmanager
def isolated() -> Iterator[None]:
    """Move this thread and the processes that it starts to a new network namespace during the block; needs root."""
    namespace = Namespace("guest")
    try:
        with namespace.entered():
            yield
    finally:
        namespace.end()


@contextmanager
def connected(
    subnet: GuestSubnet, names: Mapping[str, IPv4Address], others: Iterable[IPv4Address], folder: Path
) -> Iterator[None]:
    """Create the guest's link with all named and other addresses on this side, and serve DHCP and DNS.

    Raises:
        RuntimeError: dnsmasq ends; the message has its log.
    """
    _ip("tuntap", "add", LINK, "mode", "tap")
    _ip("address", "add", f"{subnet.gateway}/{subnet.range.prefixlen}", "dev", LINK)
    for address in {METADATA_ADDRESS, WIRE_SERVER_ADDRESS, *names.values(), *others} - {subnet.gateway}:
        _ip("address", "add", f"{address}/32", "dev", LINK)
    _ip("link", "set", LINK, "up")
    ways = ",".join(
        f"{to},{subnet.gateway}" for to in (f"{WIRE_SERVER_ADDRESS}/32", f"{METADATA_ADDRESS}/32", "0.0.0.0/0")
    )
    command = [
        *ENDING_WITH_US,
        *("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--pid-file", "--leasefile-ro"),
        *(f"--interface={LINK}", "--bind-interfaces", "--except-interface=lo", "--no-hosts", "--no-resolv"),
        *(f"--dhcp-range={subnet.guest},{subnet.guest},1h", f"--dhcp-option=option:router,{subnet.gateway}"),
        # 121: routes to both services; 245: the wire server.
        *(f"--dhcp-option=121,{ways}", f"--dhcp-option-force=245,{WIRE_SERVER_ADDRESS}"),
        f"--dhcp-option=option:dns-server,{WIRE_SERVER_ADDRESS}",
        *(f"--address=/{name}/{address}" for name, address in names.items()),
        # No other name resolves.
        "--local=/#/",
    ]
    with (folder / "names.log").open("wb") as log, subprocess.Popen(command, stderr=log) as process:
        try:
            time.sleep(0.2)
            if process.poll() is not None:
                raise RuntimeError(f"dnsmasq: {(folder / 'names.log').read_text()}")
            yield
        finally:
            process.terminate()


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)
