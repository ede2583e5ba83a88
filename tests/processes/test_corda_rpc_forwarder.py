"""A node's load-balanced RPC port, which forwards connections to a server of the test."""

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.banks import corda
from tests.java import compiled

pytestmark = pytest.mark.skipif(corda.missing() is not None, reason=str(corda.missing()))
HOST = "127.0.0.1"
MOST = 256


@pytest.fixture(scope="module")
def class_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    installed = corda.load()
    needed = [installed.folder / each for each in installed.manifest.classpath]
    return compiled(tmp_path_factory.mktemp("forwarder"), needed, Path(__file__).with_name("RunRpcForwarder.java"))


@pytest.fixture
def node() -> Iterator[socket.socket]:
    """Listens in place of the node."""
    with socket.create_server((HOST, 0), backlog=MOST) as listening:
        listening.settimeout(10)
        yield listening


@pytest.fixture
def forwarder(class_path: str, node: socket.socket) -> Iterator[int]:
    with socket.create_server((HOST, 0)) as free:
        port = free.getsockname()[1]
    addresses = f"{HOST}:{port}", f"{HOST}:{node.getsockname()[1]}"
    java = corda.load().manifest.java_home / "bin" / "java"
    argv = [str(java), "-cp", class_path, "ledger.corda.RunRpcForwarder", *addresses]
    with subprocess.Popen(argv, stdin=subprocess.PIPE) as running:
        end = time.monotonic() + 20
        while True:
            with contextlib.suppress(ConnectionRefusedError), dial(port):
                node.accept()[0].close()
                break
            assert time.monotonic() < end, "the forwarder does not listen"
            time.sleep(0.1)
        yield port
        assert running.stdin
        running.stdin.close()
        running.wait(timeout=10)


def dial(port: int) -> socket.socket:
    return socket.create_connection((HOST, port), timeout=10)


def test_bytes_are_forwarded_both_ways(forwarder: int, node: socket.socket) -> None:
    with dial(forwarder) as client, node.accept()[0] as served:
        served.settimeout(10)
        client.sendall(b"question")
        assert served.recv(100) == b"question"
        served.sendall(b"answer" * 100_000)
        served.close()
        found = b""
        while part := client.recv(65536):
            found += part
        assert found == b"answer" * 100_000, "all that the node sent before it closed"


def test_a_client_that_does_not_close_takes_no_slot(forwarder: int, node: socket.socket) -> None:
    with contextlib.ExitStack() as clients:
        for number in range(MOST + 20):
            client = clients.enter_context(dial(forwarder))
            try:
                node.accept()[0].close()
            except TimeoutError:
                pytest.fail(f"connection {number} does not reach the node; wanted the slots of closed connections")
            assert client.recv(1) == b"", "the client sees that the node has closed"


def test_a_client_that_closes_ends_its_connection_to_the_node(forwarder: int, node: socket.socket) -> None:
    client = dial(forwarder)
    with node.accept()[0] as served:
        served.settimeout(10)
        client.close()
        assert served.recv(1) == b""
