"""The identities' folders on the share: one lock an identity, one folder an epoch."""

import contextlib
import errno
import fcntl
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from agent.fence import SupersededError, UnavailableError

_LOCK = "lock"
_NOTE = "agent-note"
"""In an epoch's folder, beside what the node keeps there: no platform's state path."""
_EPOCH = "epoch-"
_UNFINISHED = ".unfinished"
_KEPT_EPOCHS = 2
"""The one in use, and the one that it was made from."""


@dataclass
class LockedFolder:
    """An identity's folder during one epoch."""

    path: Path
    lock_fd: int

    def recall(self) -> bytes | None:
        """The agent's last note; None if there never was one."""
        try:
            return (self.path / _NOTE).read_bytes()
        except FileNotFoundError:
            return None

    def remember(self, note: bytes) -> None:
        """Write a note of the agent's own, which the next epoch finds again; seen whole or not at all."""
        new = self.path / f"{_NOTE}.new"
        with new.open("wb") as file:
            file.write(note)
            file.flush()
            os.fsync(file.fileno())
        new.rename(self.path / _NOTE)

    def close(self) -> None:
        """Let go of the lock; a process that inherited it still holds it."""
        if self.lock_fd >= 0:
            os.close(self.lock_fd)
            self.lock_fd = -1


@dataclass(frozen=True)
class LedgerShare:
    """The mounted share.

    Each epoch works in a copy of the folder of the epoch before: whatever a late holder still writes goes where
    nobody reads. The lock says that it no longer writes, so that the copy is whole.
    """

    root: Path
    mount: bool = True
    """Whether `root` is a mount point: without its mount it is the VM's own disk, which is lost with the VM."""

    def open(self, identity: str, epoch: int) -> LockedFolder:
        """Lock an identity's folder, and continue where the last epoch ended.

        Raises:
            SupersededError: a newer epoch has a folder.
            UnavailableError: the share is not mounted or does not work, or another process holds the lock.
        """
        folder = self.root / identity
        try:
            if not (os.path.ismount(self.root) if self.mount else self.root.is_dir()):
                raise UnavailableError(f"share {self.root}: not there; wanted it mounted")
            folder.mkdir(mode=0o700, exist_ok=True)
            lock_fd = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise UnavailableError(f"share {self.root}: {error}") from error
        try:
            self._lock(lock_fd, folder)
            return LockedFolder(self._folder(folder, epoch), lock_fd)
        except BaseException as error:
            os.close(lock_fd)
            if isinstance(error, OSError):
                raise UnavailableError(f"share {self.root}: {error}") from error
            raise

    @staticmethod
    def _lock(lock_fd: int, folder: Path) -> None:
        try:
            # flock, not a POSIX lock: it belongs to the open file, so the node inherits it. Over NFS the kernel
            # makes it a lock of the whole file on the server, flock(2).
            fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in {errno.EWOULDBLOCK, errno.EACCES}:
                raise UnavailableError(f"{folder} is locked: its last holder's node still runs") from error
            raise

    @staticmethod
    def _folder(folder: Path, epoch: int) -> Path:
        epochs = sorted(
            (int(path.name.removeprefix(_EPOCH)), path)
            for path in folder.glob(f"{_EPOCH}*")
            if path.name.removeprefix(_EPOCH).isdigit()
        )
        if epochs and epochs[-1][0] > epoch:
            raise SupersededError(f"{folder}: epoch {epochs[-1][0]} has a folder; wanted none above {epoch}")
        own = folder / f"{_EPOCH}{epoch}"
        if not own.exists():
            unfinished = own.with_suffix(_UNFINISHED)
            shutil.rmtree(unfinished, ignore_errors=True)
            if epochs:
                shutil.copytree(epochs[-1][1], unfinished, symlinks=True)
            else:
                unfinished.mkdir(mode=0o700)
            _flush(unfinished)
            unfinished.rename(own)
            _flush(folder, deep=False)
        for _, path in epochs[: -_KEPT_EPOCHS + 1 or None]:
            if path != own:
                shutil.rmtree(path, ignore_errors=True)
        return own


def _flush(folder: Path, *, deep: bool = True) -> None:
    """Have the share keep what was written, files first."""
    for path in [*(folder.rglob("*") if deep else ()), folder]:
        if path.is_symlink():
            continue
        fd = os.open(path, os.O_RDONLY)
        try:
            with contextlib.suppress(OSError) if path.is_dir() else contextlib.nullcontext():
                os.fsync(fd)
        finally:
            os.close(fd)
