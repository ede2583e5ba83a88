"""The stop of a node: each step runs, even if another one fails or hangs."""

import asyncio
import os
import random
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from agent import node
from agent.node import Node
from contract.metrics import Figure
from host import processes
from host.calls import BoundedCalls
from host.errors import UnavailableError
from host.status import Readiness, Status
from ledger.software import SoftwareError

USER = 64200


def held(*, fails: bool = False, hangs: threading.Event | None = None) -> tuple[Node, list[str]]:
    """A running node, and the recorded steps of its stop."""
    taken = list[str]()

    def step(name: str) -> Callable[..., None]:
        def take(*_: object) -> None:
            taken.append(name)
            if hangs:
                hangs.wait()
            if fails:
                raise OSError(f"{name} fails")

        return take

    async def end(_: int) -> None:
        taken.append("end")
        if fails:
            raise UnavailableError("end fails")

    async def stop(_: float) -> None:
        taken.append("stop")
        if fails:
            raise ProcessLookupError("stop fails")

    work: Any = SimpleNamespace(
        users=SimpleNamespace(take=lambda _: USER, end=end, leave=lambda: taken.append("leave")),
        share_calls=BoundedCalls("share"),
        disk_calls=BoundedCalls("disk"),
        disk=SimpleNamespace(wipe=step("wipe")),
    )
    lease: Any = SimpleNamespace(fault=None, fresh=False)
    made = Node(work, SimpleNamespace(name="node-1"), lease, Status("vm-1"), random.Random(1))  # type: ignore[arg-type]
    running: Any = [SimpleNamespace(stop=stop), SimpleNamespace(stop=stop)]
    folder: Any = SimpleNamespace(close=step("close"))
    made._running, made._folder, made._user = running, folder, USER
    return made, taken


def test_a_start_that_fails_while_it_is_cancelled_stays_cancelled() -> None:
    async def story() -> None:
        fails = asyncio.Event()

        async def launch(*_: object) -> None:
            await fails.wait()
            raise SoftwareError("no process can be started")

        made, _ = held()
        made._resources.launch = launch  # type: ignore[misc, assignment]
        starting = asyncio.create_task(made._launch(Mock(), 0))
        await asyncio.sleep(0)
        starting.cancel()
        await asyncio.sleep(0)
        fails.set()
        with pytest.raises(asyncio.CancelledError):
            await starting

    asyncio.run(story())


EVERY = ["stop", "stop", "end", "close", "wipe", "leave"]


def test_a_failed_step_of_a_stop_does_not_prevent_the_next(caplog: pytest.LogCaptureFixture) -> None:
    ending, taken = held(fails=True)
    asyncio.run(ending.stop(1))
    assert taken == EVERY, "otherwise a lock, a key or a process group would remain"
    assert not ending.ended, "processes that may still run are reported"
    for name in ("stop", "end", "close", "wipe"):
        assert f"{name} fails" in caplog.text, "each failure is logged"


def test_a_hanging_share_or_disk_does_not_delay_a_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "_REST_SECONDS", 0.01)
    monkeypatch.setattr(node, "_WIPE_SECONDS", 0.01)
    released = threading.Event()
    ending, taken = held(hangs=released)

    async def stop() -> None:
        async with asyncio.timeout(10):
            await ending.stop(1)
        assert taken == EVERY, "the lease would lapse in the meantime"
        released.set()

    asyncio.run(stop())
    assert ending.ended


def test_a_cancelled_stop_runs_each_step() -> None:
    ending, taken = held()

    async def stop() -> None:
        async def hangs(_: float) -> None:
            taken.append("stop")
            await asyncio.sleep(60)

        ending._running = [SimpleNamespace(stop=hangs)]
        task = asyncio.create_task(ending.stop(60))
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()

    asyncio.run(stop())
    assert taken == EVERY[1:], "the lease ended earlier than planned"


def test_a_start_kills_processes_that_an_earlier_stop_left() -> None:
    ending, taken = held(fails=True)
    ending._running, ending._user = [], None

    async def start_and_stop() -> None:
        with pytest.raises(UnavailableError, match="end fails"):
            await ending.start()
        assert taken == ["end"], "first of all: the old process has the new node's rights"
        await ending.stop(1)

    asyncio.run(start_and_stop())
    assert not ending.ended, "even if this lease has not started a node yet"


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose programs replace the system's."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setattr(os, "defpath", f"{folder}:{os.defpath}")
    return folder


def put(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo 'sh: can not fork' >&2; exit 2", "sh: can not fork"),
        ("exit 127", "sh: .* exit status 127.*"),
        ("exec sleep 60", "sh: .* timed out after 0.2 seconds"),
    ],
    ids=["says-why", "fails", "hangs"],
)
def test_processes_that_may_still_run_are_reported(
    tools: Path, monkeypatch: pytest.MonkeyPatch, script: str, said: str
) -> None:
    # Replaces the program that switches to the user.
    put(tools, "setpriv", script)
    monkeypatch.setattr(processes, "RUN_SECONDS", 0.2)
    with pytest.raises(UnavailableError, match=f"^processes of user {USER}: {said}; wanted all of them killed$"):
        asyncio.run(processes.end_all(USER))


def test_a_folder_that_is_not_removed_is_reported(tmp_path: Path, tools: Path) -> None:
    processes.remove(tmp_path / "gone")
    folder = tmp_path / "node"
    folder.mkdir()
    put(tools, "rm", "echo 'rm: no permission' >&2; exit 1")
    with pytest.raises(OSError, match=r"^rm: no permission$"):
        processes.remove(folder)
    (tools / "rm").unlink()
    processes.remove(folder)
    assert not folder.exists()


def test_after_a_stop_the_status_has_no_network() -> None:
    ending, _ = held()
    status = ending._status
    status.readiness, status.figures = Readiness.READY, {Figure.TRANSACTIONS: 1}
    status.members, status.reached = {"bank-b": "no answer"}, {"bank-b": True}
    status.days_left = {("node-certificates", "bank-b"): 12}
    asyncio.run(ending.stop(1))
    assert status == Status("vm-1"), "a metric with its last value would say that peers are reachable"
