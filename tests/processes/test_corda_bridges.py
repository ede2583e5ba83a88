"""A node reports its missing connections to other nodes, with the reason; on Corda's own bridges and servers."""

import json
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from lab.banks import corda
from ledger.corda.certificates import key_stores, make_keys
from tests.certificates import PASSWORD, certified, make_network
from tests.java import compiled

pytestmark = pytest.mark.skipif(corda.missing() is not None, reason=str(corda.missing()))
GOOD, OUTSIDER, OTHER, SILENT = (f"OU=node-1, O=Bank {each}, L=Paris, C=FR" for each in "BCDE")
SECONDS = 60


@pytest.fixture(scope="module")
def class_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    installed = corda.load()
    needed = [installed.folder / each for each in installed.manifest.classpath]
    return compiled(tmp_path_factory.mktemp("bridges"), needed, Path(__file__).with_name("RunBridges.java"))


@pytest.fixture
def stores(tmp_path: Path) -> Path:
    """A folder of key stores for each node: own, in the network, in another network, and with another name."""
    now = datetime.now(UTC)
    own, another = make_network(now), make_network(now)
    for folder, network, name in (
        ("own", own, "OU=node-1, O=Bank A, L=London, C=GB"),
        ("good", own, GOOD),
        ("outsider", another, OUTSIDER),
        # Certified with another name than the bridge expects.
        ("other", own, "OU=node-2, O=Bank D, L=Paris, C=FR"),
    ):
        (tmp_path / folder).mkdir()
        keys = make_keys()
        for file, content in key_stores(keys, certified(network, keys, now, name), PASSWORD).items():
            (tmp_path / folder / file).write_bytes(content)
    return tmp_path


@pytest.fixture
def bridges(class_path: str, stores: Path) -> Iterator["subprocess.Popen[str]"]:
    installed = corda.load()
    java = installed.manifest.java_home / "bin" / "java"
    argv = [str(java), *installed.manifest.options, *installed._logging, "-cp", class_path, "ledger.corda.RunBridges"]
    with (
        (stores / "log").open("w") as log,
        subprocess.Popen(
            [*argv, str(stores), PASSWORD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
        ) as process,
    ):
        yield process
        process.kill()


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def test_a_missing_connection_is_reported_with_its_reason(bridges: "subprocess.Popen[str]", stores: Path) -> None:
    assert bridges.stdin
    assert bridges.stdout

    def send(*words: object) -> None:
        assert bridges.stdin
        print(*words, file=bridges.stdin, flush=True)

    def listed() -> dict[str, dict[str, Any]]:
        send("list")
        assert bridges.stdout
        for line in bridges.stdout:
            if line.startswith("list "):
                return {each["names"]: each for each in json.loads(line.removeprefix("list "))}
        pytest.fail((stores / "log").read_text())

    def until(met: Callable[[dict[str, dict[str, Any]]], bool]) -> dict[str, dict[str, Any]]:
        end = time.monotonic() + SECONDS
        while not met(found := listed()):
            assert time.monotonic() < end, f"{found}\n{(stores / 'log').read_text()}"
            time.sleep(0.2)
        return found

    assert listed() == {}, "without a message there is no bridge"
    ports = {folder: free_port() for folder in ("good", "outsider", "other", "silent")}
    for folder in ("good", "outsider", "other"):
        send("serve", folder, ports[folder])
    for folder, name in (("good", GOOD), ("outsider", OUTSIDER), ("other", OTHER), ("silent", SILENT)):
        send("bridge", ports[folder], name)
    found = until(
        lambda found: GOOD not in found and all(found.get(each, {}).get("reason") for each in (OUTSIDER, OTHER))
    )
    assert found.keys() == {OUTSIDER, OTHER, SILENT}
    assert found[OUTSIDER]["reason"].startswith("Handshake failure: "), "the reason is in the TLS handshake alone"
    assert found[OTHER]["reason"] == "Handshake failure: Received fatal alert: unrecognized_name"
    assert found[SILENT]["reason"] == "", "nothing listens there"

    lost = time.time() * 1000
    send("end", "good")
    assert until(lambda found: GOOD in found)[GOOD]["since"] >= lost, (
        "the outage begins with the loss of the connection"
    )
    assert listed()[OUTSIDER]["since"] == found[OUTSIDER]["since"] < lost, "the outage begins with the first attempt"
    send("serve", "good", ports["good"])
    until(lambda found: GOOD not in found)
    send("remove", ports["silent"])
    until(lambda found: SILENT not in found)
