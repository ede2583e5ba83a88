"""The second door to a node's RPC, before a node of the test's own."""

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger.corda import installation

pytestmark = pytest.mark.skipif(
    not (shutil.which("javac") and shutil.which("java")), reason="no Java here; wanted javac and java"
)
HOST = "127.0.0.1"
SOURCES = Path(installation.__file__).parent / "java" / "ledger" / "corda"
MOST = 256


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("spread")
    sources = [SOURCES / f"{name}.java" for name in ("Address", "Figures", "Spread")]
    mine = Path(__file__).with_name("Spreading.java")
    subprocess.run(["javac", "-nowarn", "-d", folder, *sources, mine], check=True)
    return folder


@pytest.fixture
def node() -> Iterator[socket.socket]:
    """What listens as the node does."""
    with socket.create_server((HOST, 0), backlog=MOST) as listening:
        listening.settimeout(10)
        yield listening


@pytest.fixture
def door(compiled: Path, node: socket.socket) -> Iterator[int]:
    with socket.create_server((HOST, 0)) as free:
        port = free.getsockname()[1]
    argv = ["java", "-cp", compiled, "ledger.corda.Spreading", f"{HOST}:{port}", f"{HOST}:{node.getsockname()[1]}"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE) as running:
        end = time.monotonic() + 20
        while True:
            with contextlib.suppress(ConnectionRefusedError), dial(port):
                node.accept()[0].close()
                break
            assert time.monotonic() < end, "the door does not open"
            time.sleep(0.1)
        yield port
        assert running.stdin
        running.stdin.close()
        running.wait(timeout=10)


def dial(port: int) -> socket.socket:
    return socket.create_connection((HOST, port), timeout=10)


def test_what_is_said_passes_both_ways(door: int, node: socket.socket) -> None:
    with dial(door) as client, node.accept()[0] as served:
        served.settimeout(10)
        client.sendall(b"question")
        assert served.recv(100) == b"question"
        served.sendall(b"answer" * 100_000)
        served.close()
        found = b""
        while part := client.recv(65536):
            found += part
        assert found == b"answer" * 100_000, "all that the node said before it closed"


def test_a_client_that_does_not_close_holds_no_place(door: int, node: socket.socket) -> None:
    with contextlib.ExitStack() as clients:
        for number in range(MOST + 20):
            client = clients.enter_context(dial(door))
            try:
                node.accept()[0].close()
            except TimeoutError:
                pytest.fail(f"connection {number} does not reach the node; wanted the places of those that ended")
            assert client.recv(1) == b"", "it is told that the node has closed"


def test_a_client_that_goes_takes_its_connection_with_it(door: int, node: socket.socket) -> None:
    client = dial(door)
    with node.accept()[0] as served:
        served.settimeout(10)
        client.close()
        assert served.recv(1) == b""
