"""The share's folders, with real processes and a real file system."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from agent.fence import SupersededError, UnavailableError
from agent.share import LedgerShare


@pytest.fixture
def share(tmp_path: Path) -> LedgerShare:
    return LedgerShare(tmp_path, mount=False)


def test_an_epoch_continues_where_the_one_before_ended(share: LedgerShare) -> None:
    first = share.open("node-1", 1)
    (first.path / "journal").mkdir()
    (first.path / "journal" / "1").write_text("one")
    first.close()
    second = share.open("node-1", 2)
    assert (second.path / "journal" / "1").read_text() == "one", "messages not yet processed are there again"
    (first.path / "journal" / "1").write_text("late")
    assert (second.path / "journal" / "1").read_text() == "one", "what an older epoch writes late, nobody reads"
    second.close()
    again = share.open("node-1", 2)
    assert again.path == second.path, "the same epoch finds its own folder again"
    again.close()


def test_an_older_epoch_is_not_let_in(share: LedgerShare) -> None:
    share.open("node-1", 7).close()
    with pytest.raises(SupersededError, match="epoch 7 has a folder; wanted none above 6"):
        share.open("node-1", 6)
    share.open("node-1", 7).close()


def test_only_one_process_has_the_folder(share: LedgerShare) -> None:
    held = share.open("node-1", 1)
    program = f"""
from pathlib import Path
from agent.fence import UnavailableError
from agent.share import LedgerShare
try:
    LedgerShare(Path({str(share.root)!r}), mount=False).open("node-1", 2)
except UnavailableError as error:
    print(error)
"""
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30)
    assert "its last holder's node still runs" in other.stdout, f"another process must not get in: {other}"
    assert not (held.path.parent / "epoch-2").exists(), "nor copy what is still being written"
    share.open("node-2", 1).close()
    held.close()


def test_the_lock_lasts_as_long_as_the_node(share: LedgerShare) -> None:
    held = share.open("node-1", 1)
    node = subprocess.Popen(["sleep", "30"], pass_fds=(held.lock_fd,))
    try:
        held.close()
        with pytest.raises(UnavailableError, match="locked"):
            share.open("node-1", 2)
    finally:
        node.kill()
        node.wait()
    share.open("node-1", 2).close()


def test_a_half_copied_epoch_is_never_taken_for_whole(share: LedgerShare, monkeypatch: pytest.MonkeyPatch) -> None:
    first = share.open("node-1", 1)
    (first.path / "journal").write_text("one")
    first.close()

    def breaks_off(source: Path, target: Path, **_: object) -> None:
        target.mkdir()
        (target / "journal").write_text("on")
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copytree", breaks_off)
        with pytest.raises(UnavailableError, match="no space left"):
            share.open("node-1", 2)
    second = share.open("node-1", 2)
    assert (second.path / "journal").read_text() == "one", "the copy is made anew, whole"
    second.close()


def test_old_epochs_are_cleared_away(share: LedgerShare) -> None:
    for epoch in range(1, 6):
        share.open("node-1", epoch).close()
    left = sorted(path.name for path in (share.root / "node-1").iterdir())
    assert left == ["epoch-4", "epoch-5", "lock"], "the one in use, and the one that it was made from"


def test_a_share_that_is_not_mounted_is_an_outage(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="wanted it mounted"):
        LedgerShare(tmp_path).open("node-1", 1)
    assert list(tmp_path.iterdir()) == [], "on the VM's own disk a ledger would be lost with the VM"


def test_the_folder_is_its_owners_alone(share: LedgerShare) -> None:
    held = share.open("node-1", 1)
    assert os.stat(held.path).st_mode & 0o077 == 0, "no other user of the VM reads it"
    held.close()
