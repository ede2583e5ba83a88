"""A node whose heap stays full ends; one with a failed allocation goes on."""

import shutil
import subprocess
from pathlib import Path

import pytest

from ledger.corda import installation
from ledger.corda.software import HEAP_FULL_STATUS

pytestmark = pytest.mark.skipif(
    not (shutil.which("javac") and shutil.which("java")), reason="no Java here; wanted javac and java"
)
SOURCES = Path(installation.__file__).parent / "java" / "ledger" / "corda"
COLLECTORS = ["-XX:+UseSerialGC", "-XX:+UseG1GC"]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("heap")
    sources = [SOURCES / "HeapWatch.java", Path(__file__).with_name("FillHeap.java")]
    subprocess.run(["javac", "-nowarn", "-d", folder, *sources], check=True)
    return folder


def fill(compiled: Path, collector: str, what: str) -> "subprocess.CompletedProcess[str]":
    argv = ["java", "-Xmx64m", collector, "-cp", str(compiled), "ledger.corda.FillHeap", what]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=300)


@pytest.mark.parametrize("collector", COLLECTORS)
def test_a_heap_that_stays_full_ends_the_node(compiled: Path, collector: str) -> None:
    done = fill(compiled, collector, "stays")
    assert done.returncode == HEAP_FULL_STATUS, f"a node that only collects garbage serves no request: {done}"


@pytest.mark.parametrize("what", ["refused", "burst"])
@pytest.mark.parametrize("collector", COLLECTORS)
def test_a_failed_allocation_does_not_end_the_node(compiled: Path, collector: str, what: str) -> None:
    done = fill(compiled, collector, what)
    assert (done.returncode, done.stdout) == (0, "runs\n"), (
        f"any peer may cause one, with a message that is read at each start: {done}"
    )
