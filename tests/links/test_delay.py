"""Packets that a router delays."""

import os
import socket
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from lab.links.delay import delayed
from lab.links.mesh import missing
from lab.namespaces import Namespace

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))

SECONDS = 0.1


def descriptors() -> list[str]:
    """The file descriptors of delaying devices."""
    opened = [os.readlink(each) for each in Path("/proc/self/fd").iterdir() if each.is_symlink()]
    return [each for each in opened if each == "/dev/net/tun"]


def test_an_answer_is_delayed_both_ways_and_nothing_is_lost() -> None:
    with ExitStack() as stack:
        router, near, far = (Namespace(name) for name in ("router", "near", "far"))
        for each in (router, near, far):
            stack.callback(each.end)
        for each in (near, far):
            ours, address = router.connect(each.name, each, "out")
            each.ip(f"route add default via {ours}")
        with far.entered():
            server = stack.enter_context(socket.create_server((str(address), 7000)))

        def call() -> tuple[socket.socket, float]:
            began = time.monotonic()
            with near.entered():
                calling = stack.enter_context(socket.create_connection((str(address), 7000), 10))
            return calling, time.monotonic() - began

        threads = threading.active_count()
        with delayed(router, ["near", "far"], SECONDS):
            assert descriptors(), "the device is open"
            calling, took = call()
            assert 2 * SECONDS <= took < 20 * SECONDS, "a connection takes one answer"
            answering, _ = server.accept()
            stack.enter_context(answering)
            sent = b"x" * 1_000_000
            sender = threading.Thread(target=calling.sendall, args=(sent,), daemon=True)
            sender.start()
            received = 0
            while received < len(sent):
                received += len(answering.recv(1 << 16))
            assert received == len(sent), "each packet is delivered once"
            sender.join()
        # The minimum of several: a busy machine may delay any of them.
        assert min(call()[1] for _ in range(20)) < 2 * SECONDS, "nothing is delayed any more"
        assert threading.active_count() == threads, "its thread has ended"
        assert not descriptors(), "the open device would keep the router's namespace"


def test_a_negative_delay_is_refused() -> None:
    router = Namespace("router")
    try:
        with pytest.raises(ValueError, match=r"a delay of -0\.1 s; wanted 0 or more"), delayed(router, [], -SECONDS):
            pass
        assert "delay" not in router.run("ip", "link"), "before anything is created"
    finally:
        router.end()
