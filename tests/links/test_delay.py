"""Packets that a router holds back, and lets through all the same."""

import socket
import threading
import time
from contextlib import ExitStack

import pytest

from lab.links.delay import delay
from lab.links.mesh import missing
from lab.namespaces import Namespace

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))

SECONDS = 0.1


def test_an_answer_takes_both_ways_longer_and_nothing_is_lost() -> None:
    with ExitStack() as stack:
        router, near, far = (Namespace(name) for name in ("router", "near", "far"))
        for each in (router, near, far):
            stack.callback(each.end)
        for each in (near, far):
            ours, address = router.connect(each.name, each, "out")
            each.ip(f"route add default via {ours}")
        delay(router, ["near", "far"], SECONDS)
        with far.entered():
            server = stack.enter_context(socket.create_server((str(address), 7000)))
        began = time.monotonic()
        with near.entered():
            calling = stack.enter_context(socket.create_connection((str(address), 7000), 10))
        took = time.monotonic() - began
        assert 2 * SECONDS <= took < 20 * SECONDS, "a connection is there once an answer is"
        answering, _ = server.accept()
        stack.enter_context(answering)
        sent = b"x" * 1_000_000
        threading.Thread(target=calling.sendall, args=(sent,), daemon=True).start()
        received = 0
        while received < len(sent):
            received += len(answering.recv(1 << 16))
        assert received == len(sent), "each packet comes out once"
