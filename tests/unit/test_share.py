"""The share's folders, with real processes and a real file system."""

import errno
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

import agent.share
from agent.share import LedgerShare
from host.errors import DamagedError, NewerEpochError, SupersededError, UnavailableError
from host.processes import remove


@pytest.fixture
def share(tmp_path: Path) -> Iterator[LedgerShare]:
    yield LedgerShare(tmp_path, mount=False)
    # Too deep for pytest to remove: each later run would fail.
    remove(tmp_path / "node-1")


def test_an_epoch_continues_from_the_last_epochs_state(share: LedgerShare) -> None:
    first = share.open("node-1", 1, "vm-1")
    (first.path / "journal").mkdir()
    (first.path / "journal" / "1").write_text("one")
    first.close()
    second = share.open("node-1", 2, "vm-2")
    assert (second.path / "journal" / "1").read_text() == "one", "unprocessed messages are there again"
    (first.path / "journal" / "1").write_text("late")
    assert (second.path / "journal" / "1").read_text() == "one", "late writes of an older epoch are never read"
    second.close()
    again = share.open("node-1", 2, "vm-2")
    assert again.path == second.path, "the same epoch gets its own folder again"
    again.close()


def test_an_older_epoch_is_refused(share: LedgerShare) -> None:
    share.open("node-1", 7, "vm-7").close()
    with pytest.raises(SupersededError, match="epoch 7 has a folder of another holder; wanted none from 6 on"):
        share.open("node-1", 6, "vm-6")
    share.open("node-1", 7, "vm-7").close()


def test_only_one_process_locks_the_folder(share: LedgerShare) -> None:
    held = share.open("node-1", 1, "vm-1")
    program = f"""
from pathlib import Path
from host.errors import UnavailableError
from agent.share import LedgerShare
try:
    LedgerShare(Path({str(share.root)!r}), mount=False).open("node-1", 2, "vm-2")
except UnavailableError as error:
    print(error)
"""
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30)
    assert "its last holder's node still runs" in other.stdout, f"another process must not get the lock: {other}"
    assert not (held.path.parent / "epoch-2").exists(), "nor copy a folder that is being written"
    share.open("node-2", 1, "vm-1").close()
    held.close()


def test_the_lock_lasts_as_long_as_the_node(share: LedgerShare) -> None:
    held = share.open("node-1", 1, "vm-1")
    node = subprocess.Popen(["sleep", "30"], pass_fds=(held.lock_fd,))
    try:
        held.close()
        with pytest.raises(UnavailableError, match="locked"):
            share.open("node-1", 2, "vm-2")
    finally:
        node.kill()
        node.wait()
    share.open("node-1", 2, "vm-2").close()


def test_a_partial_copy_is_never_used(share: LedgerShare, monkeypatch: pytest.MonkeyPatch) -> None:
    first = share.open("node-1", 1, "vm-1")
    (first.path / "journal").write_text("one")
    first.close()

    def breaks_off(source: Path, target: Path, **_: object) -> None:
        target.mkdir()
        (target / "journal").write_text("on")
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copytree", breaks_off)
        with pytest.raises(UnavailableError, match="no space left"):
            share.open("node-1", 2, "vm-2")
    second = share.open("node-1", 2, "vm-2")
    assert (second.path / "journal").read_text() == "one", "the copy is repeated completely"
    second.close()


def test_folders_of_old_epochs_are_removed(share: LedgerShare) -> None:
    for epoch in range(1, 6):
        share.open("node-1", epoch, f"vm-{epoch}").close()
    left = sorted(path.name for path in (share.root / "node-1").iterdir())
    assert left == ["epoch-4", "epoch-5", "lock"], "the one in use and its source stay"


def test_a_share_that_is_not_mounted_is_an_outage(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="wanted it mounted"):
        LedgerShare(tmp_path).open("node-1", 1, "vm-1")
    assert list(tmp_path.iterdir()) == [], "on the VM's own disk a ledger would be lost with the VM"


def test_the_folder_is_for_the_agent_and_its_group_alone(share: LedgerShare) -> None:
    held = share.open("node-1", 1, "vm-1")
    modes = [stat.S_IMODE(path.stat().st_mode) & 0o027 for path in (held.path, held.path.parent)]
    assert modes == [0, 0], "no other user of the VM reads it, and the node writes only to its own part"
    held.close()


def test_a_proof_fails_once_a_newer_epoch_has_a_folder(share: LedgerShare) -> None:
    held = share.open("node-1", 9, "vm-1")
    held.prove()
    held.prove()
    (share.root / "node-1" / "epoch-10").mkdir()
    with pytest.raises(SupersededError, match="epoch-10 is there; wanted none above epoch-9"):
        held.prove()
    shutil.rmtree(share.root / "node-1")
    with pytest.raises(OSError, match="No such file"):
        held.prove()
    held.close()


def test_the_same_epoch_of_another_lease_is_a_newer_epoch(share: LedgerShare) -> None:
    share.open("node-1", 1, "vm-1").close()
    with pytest.raises(
        NewerEpochError, match="epoch 1 has a folder of another holder; wanted none from 1 on"
    ) as newer:
        share.open("node-1", 1, "vm-2")
    assert newer.value.epoch == 1
    assert share.exists("node-1"), "an identity with a new record may have older folders"
    assert not share.exists("node-2")


def test_special_files_are_not_copied(share: LedgerShare) -> None:
    first = share.open("node-1", 1, "vm-1")
    os.mkfifo(first.path / "pipe")
    (first.path / "secret").symlink_to("/etc/hostname")
    first.close()
    second = share.open("node-1", 2, "vm-2")
    assert {path.name for path in second.path.iterdir()} == {"agent-holder", "secret"}, (
        "reading a pipe would never end"
    )
    assert (second.path / "secret").is_symlink(), "the link may lead to a file that the node could not read"
    second.close()


def test_a_file_that_becomes_a_link_during_the_copy_is_copied_as_a_link(
    share: LedgerShare, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "another's").write_text("secret")
    first = share.open("node-1", 1, "vm-1")
    (first.path / "message").write_text("one")
    first.close()

    def swaps(folder: str, names: list[str]) -> set[str]:
        message = Path(folder) / "message"
        message.unlink()
        message.symlink_to(tmp_path / "another's")
        return set()

    monkeypatch.setattr(agent.share, "_special", swaps)
    second = share.open("node-1", 2, "vm-2")
    assert (second.path / "message").is_symlink(), "the agent can read files that the node could not"
    second.close()


def deepen(folder: Path, levels: int, name: str = "d") -> None:
    """Nested folders whose path is too long for a system call."""
    at = os.open(folder, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir(name, dir_fd=at)
        below = os.open(name, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(at)


@pytest.mark.parametrize(
    ("levels", "name"),
    [(1100, "d"), (500, "d"), (30, 200 * "d"), (4, 200 * "d")],
    ids=["too-deep-to-remove", "too-deep-to-copy", "too-long-to-name", "long"],
)
def test_a_path_that_can_not_be_copied_requires_an_operator(
    share: LedgerShare, monkeypatch: pytest.MonkeyPatch, levels: int, name: str
) -> None:
    first = share.open("node-1", 1, "vm-1")
    deepen(first.path, levels, name)
    wanted = r"^share: a path of [0-9]+ bytes, which begins with '/.*/epoch-1/.*d/?'; wanted 768 at most$"
    with monkeypatch.context() as patch:
        patch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_blocks=100, f_bavail=1, f_frsize=1))
        why = first.must_stop()
    assert why, "it is measured all the same"
    assert re.match(wanted, why), why
    first.close()
    with pytest.raises(DamagedError, match=wanted):
        share.open("node-1", 2, "vm-2")
    remove(first.path / name)
    share.open("node-1", 2, "vm-2").close()
    assert sorted(path.name for path in first.path.parent.iterdir()) == ["epoch-1", "epoch-2", "lock"]


def test_an_old_epochs_folder_of_any_depth_and_a_partial_copy_are_removed(share: LedgerShare) -> None:
    first = share.open("node-1", 1, "vm-1")
    first.close()
    share.open("node-1", 2, "vm-2").close()
    deepen(first.path, 1100)
    deepen(share.root / "node-1", 1)
    (share.root / "node-1" / "d").rename(share.root / "node-1" / "epoch-3.unfinished")
    share.open("node-1", 4, "vm-4").close()
    left = sorted(path.name for path in first.path.parent.iterdir())
    assert left == ["epoch-2", "epoch-4", "lock"], "a late holder's writes and an interrupted copy are removed"


def test_an_undeletable_old_epoch_does_not_prevent_a_start(
    share: LedgerShare, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(folder: Path) -> None:
        raise OSError(f"{folder} can't be removed")

    for epoch in (1, 2):
        share.open("node-1", epoch, f"vm-{epoch}").close()
    monkeypatch.setattr(agent.share, "remove", refuses)
    share.open("node-1", 3, "vm-3").close()


MIB = 1 << 20


@pytest.mark.parametrize(
    ("free", "used", "stopped"), [(30, 60, False), (10, 41, True), (10, 39, False)], ids=["room", "over", "within"]
)
def test_one_identity_can_not_use_the_others_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, used: int, stopped: bool
) -> None:
    share = LedgerShare(tmp_path, mount=False, identities=2)
    held = share.open("node-1", 1, "vm-1")
    with (held.path / "queue").open("wb") as queue:
        queue.truncate(used * MIB)
    room = SimpleNamespace(f_blocks=100, f_bavail=free, f_frsize=MIB)
    monkeypatch.setattr(os, "statvfs", lambda _: room)
    why = held.must_stop()
    held.close()
    if not stopped:
        assert why is None, "while there is room each identity may use the free space"
        share.open("node-1", 1, "vm-1").close()
        return
    assert why == f"share: node-1 takes {used} MiB of 100, of which 10 are free; wanted 40 at most, or a larger share"
    with pytest.raises(DamagedError, match=r"^share: node-1 takes"):
        share.open("node-1", 1, "vm-1")
    share.open("node-2", 1, "vm-1").close()


def test_an_epoch_without_room_begins_no_copy(share: LedgerShare, monkeypatch: pytest.MonkeyPatch) -> None:
    first = share.open("node-1", 1, "vm-1")
    with (first.path / "queue").open("wb") as queue:
        queue.truncate(5 * MIB)
    first.close()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=MIB))
    with pytest.raises(DamagedError, match="needs 5 MiB for its next epoch; wanted them free, and not 1"):
        share.open("node-1", 2, "vm-2")
    assert sorted(path.name for path in first.path.parent.iterdir()) == ["epoch-1", "lock"], "it may fill the rest"


def test_a_folder_with_too_many_files_is_not_copied(share: LedgerShare, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent.share, "_MAX_ENTRIES", 100)
    first = share.open("node-1", 1, "vm-1")
    for number in range(101):
        (first.path / f"{number}").touch()
    first.close()
    with pytest.raises(DamagedError, match="has more than 100 files; wanted fewer"):
        share.open("node-1", 2, "vm-2")
    assert not list(share.root.glob("node-1/epoch-2*")), (
        "a compromised node's millions of files would occupy the share's thread and memory of one VM after the other"
    )
    (first.path / "0").unlink()
    (first.path / "1").unlink()
    share.open("node-1", 2, "vm-2").close()


def test_a_node_stops_once_the_server_has_dropped_its_lock(
    share: LedgerShare, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = share.open("node-1", 1, "vm-1")
    assert held.must_stop() is None

    def fail_with(number: int) -> None:
        def fails(fd: int) -> None:
            assert fd == held.lock_fd, "the kernel refuses only what is written through a lost lock"
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "fsync", fails)

    fail_with(errno.EIO)
    assert held.must_stop() == "share: the lock of node-1 is lost", "another VM may copy what this node still writes"
    fail_with(errno.ESTALE)
    with pytest.raises(OSError, match="Stale"):
        held.must_stop()
    fail_with(errno.ENOSPC)
    monkeypatch.setattr(LedgerShare, "over_quota", lambda *_: "share: node-1 takes too much")
    assert held.must_stop() == "share: node-1 takes too much", "a full share is when the quota matters"
    held.close()
