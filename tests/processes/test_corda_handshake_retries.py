"""A node retries soon after a failed TLS handshake; on Corda's own client."""

import subprocess
from pathlib import Path

import pytest

from lab.banks import corda
from tests.java import compiled

pytestmark = pytest.mark.skipif(corda.missing() is not None, reason=str(corda.missing()))


@pytest.fixture(scope="module")
def class_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    installed = corda.load()
    needed = [installed.folder / each for each in installed.manifest.classpath]
    return compiled(tmp_path_factory.mktemp("retries"), needed, Path(__file__).with_name("PrintRetryIntervals.java"))


def waits(class_path: str, seconds: int) -> list[int]:
    """Milliseconds before each of ten attempts in a row."""
    installed = corda.load()
    java = installed.manifest.java_home / "bin" / "java"
    argv = [str(java), *installed._logging, "-Dledger.log=off", "-cp", class_path, "ledger.corda.PrintRetryIntervals"]
    done = subprocess.run([*argv, f"{seconds}"], capture_output=True, text=True, check=True)
    return [int(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("waits ")]


def test_a_node_retries_each_minute_after_failed_handshakes(class_path: str) -> None:
    assert waits(class_path, 60) == [60_000] * 10, "a repaired peer is reached within two minutes"


def test_corda_alone_retries_once_a_day(class_path: str) -> None:
    assert waits(class_path, 0) == [300_000] * 5 + [86_400_000] * 5, (
        "if Corda changes this, HandshakeRetries can be removed"
    )
