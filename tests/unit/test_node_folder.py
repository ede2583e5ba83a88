"""Links and special files that a compromised node puts into folders where its agent reads and writes."""

import os
from pathlib import Path

import pytest

from ledger.corda import software


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_bytes(b"the agent's")
    return path


def test_no_link_of_a_node_is_published(tmp_path: Path, secret: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    (scratch / "nodeInfo-1").symlink_to(secret)
    os.mkfifo(scratch / "nodeInfo-2")
    assert software._newest_info(scratch) is None, (
        "the members would get a file of the agent's, or the agent would block"
    )
    (scratch / "nodeInfo-3").write_bytes(b"info")
    assert software._newest_info(scratch) == b"info"


def test_no_link_of_a_node_is_written_through(tmp_path: Path, secret: Path) -> None:
    infos = tmp_path / "infos"
    infos.mkdir()
    for name in ("nodeInfo-1", "nodeInfo-1.tmp"):
        (infos / name).symlink_to(secret)
    software._replace(infos / "nodeInfo-1", b"info")
    assert secret.read_bytes() == b"the agent's", (
        "the agent would write for the node to a place that the node can't write to"
    )
    assert (infos / "nodeInfo-1").read_bytes() == b"info"
    assert not (infos / "nodeInfo-1").is_symlink()
