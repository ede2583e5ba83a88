"""The identities' folders on the file share: one lock per identity, one folder per epoch."""

import contextlib
import errno
import fcntl
import logging
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from stat import S_ISDIR, S_ISLNK, S_ISREG

from typing_extensions import override

from agent.resources import Folder, Note, Share
from contract.users import User
from host.errors import DamagedError, NewerEpochError, SupersededError, UnavailableError
from host.processes import open_up, remove

_LOCK = "lock"
_HOLDER = "agent-holder"
"""File in an epoch's folder, beside the notes: names the lease under which the folder was made."""
_PROOF = "agent-proof"
"""File beside it, empty: `prove` writes it."""
_EPOCH = "epoch-"
_UNFINISHED = ".unfinished"
_MAX_PATH = 768
"""Bytes. A node's broker needs some 100. A copy takes two stack frames per folder, and Python allows 1000."""
_MAX_ENTRIES = 50_000
"""Most files and folders that are copied; a node's broker has hundreds."""
_RESERVE = 0.2
"""Fraction of the share that stays free. A node's broker stops taking messages when less than a tenth is free."""

log = logging.getLogger(__name__)


@dataclass
class LockedFolder(Folder):
    """An identity's locked folder of one epoch."""

    path: Path
    lock_fd: int
    share: "LedgerShare"

    @override
    def must_stop(self) -> str | None:
        try:
            # Fails for good once the server has dropped the lock, as after a long cut.
            os.pwrite(self.lock_fd, b" ", 0)
            os.fsync(self.lock_fd)
        except OSError as error:
            if error.errno == errno.EIO:
                return f"share: the lock of {self.path.parent.name} is lost"
            # A full share must not end the look at the quota.
            if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
                raise
        return self.share.over_quota(self.path.parent)

    @override
    def read_note(self, note: Note) -> bytes | None:
        return _read(self.path / note)

    @override
    def write_note(self, note: Note, content: bytes) -> None:
        _write(self.path / note, content)

    @override
    def prove(self) -> None:
        _write(self.path / _PROOF, b"")
        if (newest := _epochs(self.path.parent)[-1][1]) != self.path:
            raise SupersededError(f"{newest} is there; wanted none above {self.path.name}")

    @override
    def close(self) -> None:
        if self.lock_fd >= 0:
            os.close(self.lock_fd)
            self.lock_fd = -1


@dataclass(frozen=True)
class LedgerShare(Share):
    """The mounted share.

    Each epoch works in a copy of the last epoch's folder, so a late holder writes to a folder that nobody reads. The
    lock proves that the last holder's node no longer writes, so the copy is complete.
    """

    root: Path
    mount: bool = True
    """Whether `root` must be a mount point. Without the mount it is the VM's own disk, lost with the VM."""
    users: Mapping[str, User] = field(default_factory=dict)
    """Users that write to the identities' folders, by identity; an identity without one: the agent's own user."""
    identities: int = 1
    """How many identities use the share."""

    def over_quota(self, folder: Path) -> str | None:
        """Why an identity must stop writing; None if it need not.

        While a fifth of the share is free, an identity may use any space. After that it is stopped if it has more
        than an equal part of the other four fifths: one within its part is never stopped, and a fifth stays free.
        """
        room = os.statvfs(self.root)
        total, free = room.f_blocks * room.f_frsize, room.f_bavail * room.f_frsize
        if free >= _RESERVE * total:
            return None
        if user := self.users.get(folder.name):
            # Files that the node hid from its group count too.
            open_up(folder, user.number)
        try:
            used, part = _size(folder), int((1 - _RESERVE) * total / self.identities)
        except DamagedError as error:
            return str(error)
        if used <= part:
            return None
        return (
            f"share: {folder.name} takes {used >> 20} MiB of {total >> 20}, of which {free >> 20} are free; wanted"
            f" {part >> 20} at most, or a larger share"
        )

    def check(self, vm: str) -> None:
        """Write a file of this VM on the share and remove it.

        Raises:
            UnavailableError: the share is not mounted, or the write fails.
        """
        try:
            self._check_mount()
            path = self.root / f".check-{vm}"
            with path.open("wb") as file:
                file.write(vm.encode())
                file.flush()
                os.fsync(file.fileno())
            path.unlink()
        except OSError as error:
            raise UnavailableError(f"share {self.root}: {error}") from error

    def _check_mount(self) -> None:
        if not (os.path.ismount(self.root) if self.mount else self.root.is_dir()):
            raise UnavailableError(f"share {self.root}: not there; wanted it mounted")

    @override
    def exists(self, identity: str) -> bool:
        try:
            self._check_mount()
            return bool(_epochs(self.root / identity))
        except OSError as error:
            raise UnavailableError(f"share {self.root}: {error}") from error

    @override
    def open(self, identity: str, epoch: int, holder: str) -> LockedFolder:
        folder = self.root / identity
        try:
            self._check_mount()
            folder.mkdir(mode=0o710, exist_ok=True)
            lock_fd = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise UnavailableError(f"share {self.root}: {error}") from error
        try:
            self._lock(lock_fd, folder)
            return LockedFolder(self._folder(folder, epoch, holder), lock_fd, self)
        except BaseException as error:
            os.close(lock_fd)
            if isinstance(error, OSError):
                raise UnavailableError(f"share {self.root}: {error}") from error
            raise

    def newest(self, identity: str) -> LockedFolder:
        """Lock the folder of an identity's last epoch, for an operator's tools while no node runs.

        Raises:
            UnavailableError: there is no folder, the share fails, or a process holds the lock.
        """
        folder = self.root / identity
        try:
            lock_fd = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise UnavailableError(f"share {self.root}: {error}") from error
        try:
            self._lock(lock_fd, folder)
            if epochs := _epochs(folder):
                return LockedFolder(epochs[-1][1], lock_fd, self)
            raise UnavailableError(f"{folder}: no epoch has a folder; wanted an identity that a VM held")
        except BaseException:
            os.close(lock_fd)
            raise

    @staticmethod
    def _lock(lock_fd: int, folder: Path) -> None:
        try:
            # flock, not a POSIX lock: it belongs to the open file, so the node inherits it. Over NFS the kernel
            # makes it a lock of the whole file on the server, flock(2).
            fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in {errno.EWOULDBLOCK, errno.EACCES}:
                raise UnavailableError(
                    f"{folder} is locked: its last holder's node still runs, or its VM still copies it"
                ) from error
            raise

    def _folder(self, folder: Path, epoch: int, holder: str) -> Path:
        epochs = _epochs(folder)
        newest = epochs[-1][0] if epochs else -1
        own = folder / f"{_EPOCH}{epoch}"
        if newest > epoch or (newest == epoch and _read(own / _HOLDER) != holder.encode()):
            raise NewerEpochError(
                f"{folder}: epoch {newest} has a folder of another holder; wanted none from {epoch} on", newest
            )
        # The newest older folder stays: the new one is copied from it.
        for _, path in [each for each in epochs if each[1] != own][:-1]:
            try:
                remove(path)
            except OSError as error:
                log.warning("share: %s", error)
        if why := self.over_quota(folder):
            raise DamagedError(why)
        if newest < epoch:
            for path in folder.glob(f"{_EPOCH}*{_UNFINISHED}"):
                remove(path)
            unfinished = own.with_suffix(_UNFINISHED)
            if epochs:
                if user := self.users.get(folder.name):
                    open_up(epochs[-1][1], user.number)
                needed, free = _size(epochs[-1][1]), shutil.disk_usage(self.root).free
                if needed > free:
                    raise DamagedError(
                        f"share: {folder.name} needs {needed >> 20} MiB for its next epoch; wanted them free, and not"
                        f" {free >> 20}"
                    )
                # A node that still runs may swap a file for a link meanwhile.
                copy = partial(shutil.copy2, follow_symlinks=False)
                shutil.copytree(epochs[-1][1], unfinished, symlinks=True, ignore=_special, copy_function=copy)
            else:
                unfinished.mkdir(mode=0o750)
            _write(unfinished / _HOLDER, holder.encode())
            _flush(unfinished)
            unfinished.rename(own)
            _flush(folder, deep=False)
        return own


def _size(folder: Path) -> int:
    """Bytes below a folder, without files that disappear meanwhile."""
    total = 0
    for entry in _below(folder):
        with contextlib.suppress(FileNotFoundError):
            total += entry.stat(follow_symlinks=False).st_size
    return total


def _below(folder: Path) -> Iterator[os.DirEntry[str]]:
    """All entries below a folder, without those that disappear meanwhile.

    Raises:
        DamagedError: there are too many, or a path is too long to be copied, or can't be read.
    """
    folders, count = [str(folder)], 0
    while folders:
        path = folders.pop()
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    count += 1
                    if count > _MAX_ENTRIES:
                        raise DamagedError(f"share: {folder} has more than {_MAX_ENTRIES} files; wanted fewer")
                    if (length := len(os.fsencode(entry.path))) > _MAX_PATH:
                        raise DamagedError(
                            f"share: a path of {length} bytes, which begins with {entry.path[:160]!r};"
                            f" wanted {_MAX_PATH} at most"
                        )
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    yield entry
        except (FileNotFoundError, NotADirectoryError):
            continue
        except PermissionError as error:
            raise DamagedError(f"share: {error}; wanted folders that their group may read") from error


def _epochs(folder: Path) -> list[tuple[int, Path]]:
    """The epochs with a folder, oldest first."""
    found = [(re.fullmatch(rf"{_EPOCH}([0-9]+)", path.name), path) for path in folder.glob(f"{_EPOCH}*")]
    return sorted((int(match[1]), path) for match, path in found if match)


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _write(path: Path, content: bytes) -> None:
    """Write a file atomically, and wait until the share has stored it."""
    new = path.with_name(f"{path.name}.new")
    with new.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    new.rename(path)


def _special(folder: str, names: list[str]) -> set[str]:
    """Names of neither files, folders nor links: reading such an entry could block for ever."""
    kinds = {name: os.lstat(os.path.join(folder, name)).st_mode for name in names}
    return {name for name, mode in kinds.items() if not (S_ISREG(mode) or S_ISDIR(mode) or S_ISLNK(mode))}


def _flush(folder: Path, *, deep: bool = True) -> None:
    """Flush what was written below a folder to the share, files first."""
    below = [Path(entry) for entry in _below(folder) if not entry.is_symlink()] if deep else []
    for path in [*below, folder]:
        fd = os.open(path, os.O_RDONLY)
        try:
            with contextlib.suppress(OSError) if path.is_dir() else contextlib.nullcontext():
                os.fsync(fd)
        finally:
            os.close(fd)
