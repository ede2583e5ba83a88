"""Packets that take time on their way, where the kernel has no `netem`."""

import fcntl
import os
import struct
import threading
import time
from collections.abc import Iterable
from queue import SimpleQueue

from lab.namespaces import Namespace

_TUN, _TUN_TABLE = "delay", 300
_TUNSETIFF, _TUN_WITHOUT_HEADER = 0x400454CA, 0x1001
_PACKET_BYTES = 1 << 16


def delay(router: Namespace, devices: Iterable[str], seconds: float) -> None:
    """Hold each packet that enters a router by one of its devices back, until this process ends.

    Args:
        router: what routes the packets.
        devices: names of its devices.
        seconds: how long a packet is held.
    """
    with router.entered():
        tun = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(tun, _TUNSETIFF, struct.pack("16sH", _TUN.encode(), _TUN_WITHOUT_HEADER))
    router.ip(
        f"link set {_TUN} up txqueuelen 10000",
        f"route add default dev {_TUN} table {_TUN_TABLE}",
        *(f"rule add iif {each} lookup {_TUN_TABLE}" for each in devices),
    )
    held: SimpleQueue[tuple[float, bytes]] = SimpleQueue()

    def take() -> None:
        while True:
            packet = os.read(tun, _PACKET_BYTES)
            held.put((time.monotonic() + seconds, packet))

    def give() -> None:
        while True:
            due, packet = held.get()
            time.sleep(max(0.0, due - time.monotonic()))
            # What comes out of the device is routed as usual.
            os.write(tun, packet)

    for each in (take, give):
        threading.Thread(target=each, daemon=True).start()
