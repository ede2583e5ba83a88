"""The messages of a stopped node that filled its heap; on Corda's own broker."""

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
    path = compiled(classes, needed, Path(__file__).with_name("FillQueue.java"))
    argv = [str(manifest.java_home / "bin" / "java"), *manifest.options, "-Xmx1g"]
    subprocess.run(
        [*argv, "-cp", path, "ledger.corda.FillQueue", folder, str(COUNT), str(BYTES)],
        check=True,
        timeout=120,
    )


def test_the_tool_lists_a_queue_larger_than_its_heap(tmp_path: Path) -> None:
    state, classes = tmp_path / "state", tmp_path / "classes"
    (state / "artemis").mkdir(parents=True)
    classes.mkdir()
    queue(state / "artemis", classes)
    size = sum(path.stat().st_size for path in (state / "artemis" / "journal").iterdir()) >> 20
    assert size > corda.HEAP_MEGABYTES / 2, f"{size} MB: more than the heap of the tool"
    installed = corda.load()
    messages = list_messages(installed, state)
    assert [each["bytes"] for each in messages] == [BYTES] * COUNT, (
        "an operator can look for the message that ended the node"
    )
    first = messages[0]["id"]
    assert set_aside(installed, state, first).stat().st_size == BYTES
    assert first not in {each["id"] for each in list_messages(installed, state)}
