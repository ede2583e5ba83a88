"""The prerequisites of a VM for serving an identity."""

import asyncio
import errno
import json
import os
import shutil
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from agent import vm
from agent.prerequisites import Prerequisite, Prerequisites
from agent.share import LedgerShare
from agent.vm import FREE_BYTES, LocalDisk
from contract.metrics import Cause
from contract.timing import STANDBY
from host.calls import BoundedCalls
from host.errors import UnavailableError
from host.processes import remove
from lab.simulation import Machine
from ledger.corda.installation import InstallationError, Installed


class Vm:
    """The prerequisites of a VM, with a clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.faults: dict[str, str] = {}
        self.all = Prerequisites(
            [
                Prerequisite("share", self._check("share")),
                Prerequisite("runtime", self._check("runtime"), holding=False),
                Prerequisite("vault", self._check("vault"), holding=False, common=True),
            ],
            lambda: self.now,
        )

    def _check(self, name: str) -> Callable[[], Awaitable[None]]:
        async def check() -> None:
            if why := self.faults.get(name):
                raise UnavailableError(why)

        return check

    def run(self, *, holding: bool = False) -> None:
        """Check everything once."""

        async def once() -> None:
            task = asyncio.create_task(self.all.keep_checking(lambda: holding))
            await asyncio.sleep(0.01)
            task.cancel()
            await asyncio.wait({task})

        asyncio.run(once())


def test_an_unchecked_vm_is_not_fit() -> None:
    vm = Vm()
    assert not vm.all.met(holding=False), "it could acquire an identity before the first check"
    vm.run()
    assert vm.all.met(holding=False)
    vm.now += STANDBY.check_seconds + STANDBY.answer_seconds + STANDBY.recheck_seconds + 1
    assert not vm.all.met(holding=False), "after a suspension the results are outdated"


def test_checks_of_standbys_are_repeated_after_the_vm_held_an_identity() -> None:
    vm = Vm()
    vm.run()
    vm.run(holding=True)
    assert vm.all.met(holding=True)
    assert not vm.all.met(holding=False)
    vm.run()
    assert vm.all.met(holding=False)


def test_a_missing_prerequisite_counts_from_its_first_failed_check() -> None:
    vm = Vm()
    vm.faults["share"] = "not mounted"
    vm.run()
    vm.now += 50
    vm.faults["share"] = "stale file handle"
    vm.run()
    assert vm.all.lacks == {"share": "stale file handle"}
    assert vm.all.lacking_since(50) == {"share"}, "a changed reason is no recovery"
    vm.faults.clear()
    vm.run()
    assert not vm.all.lacks


@pytest.mark.parametrize(
    ("fault", "standbys", "holders", "unfit"),
    [
        ("share", False, True, True),
        ("share", True, False, True),
        ("share", False, False, False),
        ("runtime", False, True, True),
        ("vault", True, False, True),
        ("vault", False, True, False),
    ],
)
def test_a_vm_is_unfit_only_if_other_vms_lack_less(fault: str, standbys: bool, holders: bool, unfit: bool) -> None:
    vm = Vm()
    vm.faults[fault] = "away"
    vm.run()
    assert not vm.all.unfit(standbys=True, holders=True), "a VM is not unfit at once"
    vm.now += STANDBY.unhealthy_seconds
    assert vm.all.unfit(standbys=standbys, holders=holders) is unfit, "a holder does not check the vault"


def test_any_exception_of_a_check_is_a_reason() -> None:
    async def odd() -> None:
        raise KeyError("what")

    vm = Prerequisites([Prerequisite("odd", odd)], lambda: 0.0)

    async def once() -> None:
        task = asyncio.create_task(vm.keep_checking(lambda: False))
        await asyncio.sleep(0.01)
        assert not task.done(), "a failed check does not end the others"
        task.cancel()
        await asyncio.wait({task})

    asyncio.run(once())
    assert "KeyError" in vm.lacks["odd"]


def prerequisites_of(**given: Any) -> tuple[Prerequisite, ...]:
    names = ("cloud", "disk_calls", "clock", "software", "vault", "database")
    return vm.prerequisites(**{name: Mock() for name in names} | given)


def test_a_check_of_the_disk_waits_while_a_nodes_folders_are_made() -> None:
    async def story() -> None:
        cloud, disk_calls, made = Mock(), BoundedCalls("disk"), threading.Event()
        every = prerequisites_of(cloud=cloud, disk_calls=disk_calls)
        check: Any = next(each.check for each in every if each.name == Cause.DISK)
        making = asyncio.create_task(disk_calls(made.wait))
        checking = asyncio.ensure_future(check())
        await asyncio.sleep(0.1)
        assert not cloud.disk.check.called, "it removes what an earlier node left, and would remove the new folder"
        made.set()
        await asyncio.gather(making, checking)
        assert cloud.disk.check.called

    asyncio.run(story())


def test_the_simulated_vm_has_a_vms_prerequisites() -> None:
    real = prerequisites_of()
    simulated = Machine.prerequisites(Mock())
    shapes = [{each.name: (each.seconds, each.holding, each.common) for each in those} for those in (real, simulated)]
    assert shapes[0] == shapes[1], "the histories prove nothing about a VM with other prerequisites"
    without = prerequisites_of(database=None)
    assert shapes[0].keys() - {each.name for each in without} == {"database"}, "not every platform has a database"


# --- The checks themselves -----------------------------------------------------------------------------------------


def test_a_share_must_accept_a_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    share = LedgerShare(tmp_path, mount=False)
    share.check("vm-1")
    assert list(tmp_path.iterdir()) == [], "nothing is left on the share"

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(UnavailableError, match="no space left"):
            share.check("vm-1")
    with pytest.raises(UnavailableError, match="wanted it mounted"):
        LedgerShare(tmp_path).check("vm-1")


def test_a_disk_must_have_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("state", "runtime"):
        (tmp_path / name).mkdir()
    disk = LocalDisk(tmp_path / "state", tmp_path / "runtime")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=FREE_BYTES))
    disk.check()
    assert not any((tmp_path / name / "check").exists() for name in ("state", "runtime"))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=5 << 20))
    with pytest.raises(UnavailableError, match=r"^disk: 5 MiB free at .*; wanted 1024 MiB or more$"):
        disk.check()
    (tmp_path / "runtime").rmdir()
    with pytest.raises(UnavailableError, match=r"^disk: .*No such file"):
        disk.check()


def test_a_leftover_folder_is_a_missing_prerequisite_until_it_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("state", "runtime"):
        (tmp_path / name).mkdir()
    disk = LocalDisk(tmp_path / "state", tmp_path / "runtime")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=FREE_BYTES))
    scratch, secrets = disk.scratch(), disk.runtime / "secrets"
    secrets.mkdir()

    def refuses(folder: Path) -> None:
        if folder == secrets:
            raise OSError(f"{folder} can't be removed")
        remove(folder)

    with monkeypatch.context() as patch:
        patch.setattr(vm, "remove", refuses)
        for fails in (disk.wipe, disk.check, disk.check):
            with pytest.raises(UnavailableError, match=r"^disk: .*secrets can't be removed$"):
                fails()
    assert not scratch.exists(), "one folder is removed although the other can't be"
    disk.check()
    assert not secrets.exists(), "a standby must have no identity's keys"
    scratch = disk.scratch()
    disk.check()
    assert scratch.exists(), "a holder has them"


@pytest.mark.parametrize(
    ("java", "reason"),
    [
        ("#!/bin/sh\nexit 0\n", None),
        ("#!/bin/sh\necho 'no libjvm.so' >&2\nexit 3\n", "exit status 3: no libjvm.so; wanted it to start"),
        (None, "No such file or directory; wanted it to start"),
    ],
    ids=["starts", "fails", "gone"],
)
def test_java_must_start(tmp_path: Path, java: str | None, reason: str | None) -> None:
    (tmp_path / "bin").mkdir()
    if java:
        (tmp_path / "bin" / "java").write_text(java)
        (tmp_path / "bin" / "java").chmod(0o700)
    manifest = {
        "version": "4.10",
        "platformVersion": 12,
        "javaHome": str(tmp_path),
        "options": [],
        "fibers": {"jar": "quasar.jar", "options": ""},
        "classpath": [],
        "heapMegabytes": None,
        "nodeOptions": [],
        "artifacts": {},
        "files": {},
    }
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    installed = Installed.load(tmp_path)
    if reason is None:
        asyncio.run(installed.check_java())
        return
    with pytest.raises(InstallationError, match=reason):
        asyncio.run(installed.check_java())
