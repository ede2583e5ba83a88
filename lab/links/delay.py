"""Packets that take time on their way, where the kernel has no `netem`."""

import fcntl
import select
import struct
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import FileIO
from threading import Event, Thread

from lab.namespaces import Namespace

_TUN, _TUN_TABLE = "delay", 300
_TUNSETIFF, _TUN_WITHOUT_HEADER = 0x400454CA, 0x1001
_PACKET_BYTES = 1 << 16
_STOP_LOOK_SECONDS = 0.1


@contextmanager
def delayed(router: Namespace, devices: Iterable[str], seconds: float) -> Iterator[None]:
    """Hold each packet that enters a router by one of its devices back, during the block, within the router's life.

    Args:
        router: what routes the packets.
        devices: names of its devices.
        seconds: how long a packet is held.

    Raises:
        ValueError: `seconds` is negative.
    """
    if seconds < 0:
        raise ValueError(f"a delay of {seconds:g} s; wanted 0 or more")
    with router.entered():
        tun = FileIO("/dev/net/tun", "r+")
    ended = Event()
    # The device lives as long as its descriptor, and the kernel keeps the router's namespace for it.
    with tun:
        fcntl.ioctl(tun, _TUNSETIFF, struct.pack("16sH", _TUN.encode(), _TUN_WITHOUT_HEADER))
        router.ip(
            f"link set {_TUN} up txqueuelen 10000",
            f"route add default dev {_TUN} table {_TUN_TABLE}",
            *(f"rule add iif {each} lookup {_TUN_TABLE}" for each in devices),
        )
        carrier = Thread(target=_carry, args=(tun, seconds, ended), daemon=True)
        carrier.start()
        try:
            yield
        finally:
            ended.set()
            carrier.join()


def _carry(tun: FileIO, seconds: float, ended: Event) -> None:
    held: deque[tuple[float, bytes]] = deque()
    while not ended.is_set():
        until_due = held[0][0] - time.monotonic() if held else _STOP_LOOK_SECONDS
        readable, _, _ = select.select([tun], [], [], min(max(0.0, until_due), _STOP_LOOK_SECONDS))
        if readable:
            held.append((time.monotonic() + seconds, tun.read(_PACKET_BYTES)))
        while held and held[0][0] <= time.monotonic():
            # What comes out of the device is routed as usual.
            tun.write(held.popleft()[1])
