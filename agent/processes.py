"""The processes of a node: started as the agent's children, ended with all that they started."""

import asyncio
import contextlib
import os
import signal
import subprocess
from dataclasses import dataclass

from ledger.software import Process, SoftwareError

_REAP_SECONDS = 5


@dataclass
class ChildProcess:
    """A started process, in a process group of its own."""

    name: str
    _process: asyncio.subprocess.Process

    async def wait(self) -> int:
        """Its exit status, once it ends."""
        return await self._process.wait()

    async def stop(self, seconds: float) -> None:
        """Ask the process to stop; kill its group after so many seconds. Whatever happens, it has ended."""
        try:
            self._signal(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._process.wait()
        finally:
            # Its children too, and whatever it left behind when it ended by itself.
            self._signal(signal.SIGKILL)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_REAP_SECONDS):
                await self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)


async def launch(process: Process, lock_fd: int) -> ChildProcess:
    """Start a process that inherits the folder's lock, and that the kernel kills if the agent dies.

    Raises:
        SoftwareError: its program can't be started.
    """
    try:
        started = await asyncio.create_subprocess_exec(
            # Of util-linux: the signal for the parent's death outlives exec.
            "setpriv",
            "--pdeathsig",
            "KILL",
            "--",
            *process.argv,
            env=dict(process.environment),
            cwd=process.folder,
            pass_fds=(lock_fd,),
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        raise SoftwareError(f"{process.name}: {error}; wanted its program and folder to be there") from error
    return ChildProcess(process.name, started)
