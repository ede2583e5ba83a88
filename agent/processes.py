"""The processes of a node: started as the agent's children, and ended with all their descendants."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass

from typing_extensions import override

from agent.resources import Running
from host.processes import start
from ledger.software import Process, SoftwareError

_REAP_SECONDS = 5


@dataclass
class ChildProcess(Running):
    """A started process, which leads a new process group."""

    name: str
    ends: Mapping[int, str]
    _process: asyncio.subprocess.Process

    @override
    async def wait(self) -> int:
        return await self._process.wait()

    @override
    async def stop(self, seconds: float) -> None:
        try:
            self._signal(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._process.wait()
        finally:
            # Always, for its children and what it left behind.
            self._signal(signal.SIGKILL)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_REAP_SECONDS):
                await self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)


async def launch(process: Process, lock_fd: int) -> ChildProcess:
    """Start a process that inherits the folder's lock and is killed by the kernel if the agent dies.

    Raises:
        SoftwareError: its program can't be started.
    """
    try:
        started = await start(
            process.argv,
            process.user,
            environment=process.environment,
            folder=process.folder,
            pass_fds=(lock_fd,),
        )
    except OSError as error:
        raise SoftwareError(f"{process.name}: {error}; wanted its program and folder to be there") from error
    return ChildProcess(process.name, process.ends, started)
