"""The messages of a stopped node, so many that its heap was full; on Corda's own broker."""

import subprocess
from pathlib import Path

import pytest

from agent.messages import list_messages, set_aside
from lab.banks import corda
from tests.java import compiled

pytestmark = pytest.mark.skipif(corda.missing() is not None, reason=str(corda.missing()))
COUNT, BYTES = 3000, 90_000


def queue(folder: Path, classes: Path) -> None:
    """Leave messages in a node's queue."""
    manifest, installation = corda.load().manifest, corda.installed()
    needed = [installation / each for each in manifest.classpath]
    path = compiled(classes, needed, Path(__file__).with_name("Queueing.java"))
    argv = [str(manifest.java_home / "bin" / "java"), *manifest.options, "-Xmx1g"]
    subprocess.run(
        [*argv, "-cp", path, "ledger.corda.Queueing", folder, str(COUNT), str(BYTES)],
        check=True,
        timeout=120,
    )


def test_queues_that_fill_a_nodes_heap_can_be_read(tmp_path: Path) -> None:
    kept, classes = tmp_path / "kept", tmp_path / "classes"
    (kept / "artemis").mkdir(parents=True)
    classes.mkdir()
    queue(kept / "artemis", classes)
    size = sum(path.stat().st_size for path in (kept / "artemis" / "journal").iterdir()) >> 20
    assert size > corda.HEAP_MEGABYTES / 2, f"{size} MB: more than the tool's own heap has room for"
    installed = corda.load()
    messages = list_messages(installed, kept)
    assert [each["bytes"] for each in messages] == [BYTES] * COUNT, "what made a node die can be looked at"
    first = messages[0]["id"]
    assert set_aside(installed, kept, first).stat().st_size == BYTES
    assert first not in {each["id"] for each in list_messages(installed, kept)}
