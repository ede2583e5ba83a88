"""A node reports nodes without a connection, with the reason; on Corda's own bridges and servers."""

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
GOOD, STRANGER, OTHER, SILENT = (f"OU=node-1, O=Bank {each}, L=Paris, C=FR" for each in "BCDE")
SECONDS = 60


@pytest.fixture(scope="module")
def class_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    installed = corda.load()
    needed = [installed.folder / each for each in installed.manifest.classpath]
    return compiled(tmp_path_factory.mktemp("bridging"), needed, Path(__file__).with_name("Bridging.java"))


@pytest.fixture
def stores(tmp_path: Path) -> Path:
    """A folder of key stores for each node: the own, one of the network, one that only claims to be of it."""
    now = datetime.now(UTC)
    own, another = make_network(now), make_network(now)
    for folder, network, name in (
        ("own", own, "OU=node-1, O=Bank A, L=London, C=GB"),
        ("good", own, GOOD),
        ("stranger", another, STRANGER),
        # Certified, and yet not who is meant.
        ("other", own, "OU=node-2, O=Bank D, L=Paris, C=FR"),
    ):
        (tmp_path / folder).mkdir()
        keys = make_keys()
        for file, content in key_stores(keys, certified(network, keys, now, name), PASSWORD).items():
            (tmp_path / folder / file).write_bytes(content)
    return tmp_path


@pytest.fixture
def bridging(class_path: str, stores: Path) -> Iterator["subprocess.Popen[str]"]:
    installed = corda.load()
    java = installed.manifest.java_home / "bin" / "java"
    argv = [str(java), *installed.manifest.options, *installed._logging, "-cp", class_path, "ledger.corda.Bridging"]
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


def test_a_missing_connection_is_reported_with_its_reason(bridging: "subprocess.Popen[str]", stores: Path) -> None:
    assert bridging.stdin
    assert bridging.stdout

    def say(*words: object) -> None:
        assert bridging.stdin
        print(*words, file=bridging.stdin, flush=True)

    def told() -> dict[str, dict[str, Any]]:
        say("told")
        assert bridging.stdout
        for line in bridging.stdout:
            if line.startswith("told "):
                return {each["names"]: each for each in json.loads(line.removeprefix("told "))}
        pytest.fail((stores / "log").read_text())

    def until(met: Callable[[dict[str, dict[str, Any]]], bool]) -> dict[str, dict[str, Any]]:
        end = time.monotonic() + SECONDS
        while not met(found := told()):
            assert time.monotonic() < end, f"{found}\n{(stores / 'log').read_text()}"
            time.sleep(0.2)
        return found

    assert told() == {}, "no message, no bridge"
    ports = {folder: free_port() for folder in ("good", "stranger", "other", "silent")}
    for folder in ("good", "stranger", "other"):
        say("serve", folder, ports[folder])
    for folder, name in (("good", GOOD), ("stranger", STRANGER), ("other", OTHER), ("silent", SILENT)):
        say("bridge", ports[folder], name)
    found = until(
        lambda found: GOOD not in found and all(found.get(each, {}).get("reason") for each in (STRANGER, OTHER))
    )
    assert found.keys() == {STRANGER, OTHER, SILENT}
    assert found[STRANGER]["reason"].startswith("Handshake failure: "), "TLS alone knows why, and nobody reads it"
    assert found[OTHER]["reason"] == "Handshake failure: Received fatal alert: unrecognized_name"
    assert found[SILENT]["reason"] == "", "nobody is there"

    lost = time.time() * 1000
    say("end", "good")
    assert until(lambda found: GOOD in found)[GOOD]["since"] >= lost, "counted from its loss"
    assert told()[STRANGER]["since"] == found[STRANGER]["since"] < lost, "and from the first attempt"
    say("serve", "good", ports["good"])
    until(lambda found: GOOD not in found)
    say("remove", ports["silent"])
    assert SILENT not in told(), "who is forgotten is missed no more"
