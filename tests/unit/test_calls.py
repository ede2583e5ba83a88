"""Calls that may block forever: one thread per resource, and nothing else waits."""

import asyncio
import os
import socket
import threading
import time
from pathlib import Path

import pytest

from host.calls import BoundedCalls
from host.errors import UnavailableError


def test_a_share_that_hangs_forever_blocks_one_thread_however_often_a_call_is_retried(tmp_path: Path) -> None:
    hung = tmp_path / "note"
    os.mkfifo(hung)

    async def retry() -> tuple[int, float]:
        calls, before, began = BoundedCalls("share"), threading.active_count(), time.monotonic()
        for _ in range(100):
            # A FIFO without a writer: opening it blocks until somebody writes.
            with pytest.raises(UnavailableError, match=r"^share: no answer in 0\.001 s$"):
                await calls(hung.read_bytes, seconds=0.001)
        stuck, answered = threading.active_count() - before, time.monotonic() - began
        await asyncio.get_running_loop().getaddrinfo("127.0.0.1", 80, family=socket.AF_INET)
        await asyncio.to_thread(hung.write_bytes, b"")
        assert await calls(lambda: "back", seconds=10) == "back", "the share answers again, and so do its calls"
        return stuck, answered

    stuck, answered = asyncio.run(asyncio.wait_for(retry(), 30))
    assert stuck == 1, f"{stuck} threads are stuck after 100 retries; wanted the one outstanding call"
    assert answered < 20, "no retry waits for the share"


def test_a_program_exits_although_a_call_hangs() -> None:
    async def end() -> None:
        with pytest.raises(UnavailableError):
            await BoundedCalls("share")(threading.Event().wait, seconds=0.001)

    began = time.monotonic()
    asyncio.run(end())
    assert time.monotonic() - began < 5, "a hung share must not keep the agent from ending"


def test_two_resources_do_not_wait_for_each_other() -> None:
    released = threading.Event()

    async def call() -> int:
        share, disk = BoundedCalls("share"), BoundedCalls("disk")
        hanging = asyncio.create_task(share(released.wait))
        try:
            return await disk(lambda: 1, seconds=10)
        finally:
            released.set()
            await hanging

    assert asyncio.run(call()) == 1


def test_calls_of_one_resource_take_turns() -> None:
    at_once, most = 0, 0

    def call() -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        time.sleep(0.002)
        at_once -= 1

    async def run() -> None:
        calls = BoundedCalls("share")
        await asyncio.gather(*(calls(call) for _ in range(10)))

    asyncio.run(run())
    assert most == 1, f"{most} calls at once"


def test_a_late_result_is_passed_to_late() -> None:
    released, closed = threading.Event(), list[str]()

    def open_late() -> str:
        released.wait()
        return "folder"

    async def run() -> None:
        calls = BoundedCalls("share")
        with pytest.raises(UnavailableError):
            await calls(open_late, seconds=0.001, late=closed.append)
        released.set()
        await calls(lambda: None, seconds=10)
        assert closed == ["folder"], "a lock that the caller no longer awaits would never be released"

    asyncio.run(run())


def test_an_error_is_raised_to_the_caller() -> None:
    def fails() -> None:
        raise PermissionError("not yours")

    with pytest.raises(PermissionError, match="not yours"):
        asyncio.run(BoundedCalls("share")(fails))


@pytest.mark.parametrize("seconds", [10, None])
def test_a_resources_own_timeout_is_not_mistaken_for_the_callers(seconds: float | None) -> None:
    def fails() -> None:
        raise TimeoutError(110, "Connection timed out")

    with pytest.raises(TimeoutError, match="Connection timed out"):
        asyncio.run(BoundedCalls("share")(fails, seconds=seconds))
