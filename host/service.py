"""Background tasks of a service: heartbeats for systemd's watchdog, and work that ends with a block."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from contract.timing import LEASE
from host.faults import reason_of
from host.status import Status
from host.watchdog import Watchdog

log = logging.getLogger(__name__)


@asynccontextmanager
async def in_background(work: Awaitable[None], ended: Callable[[], None] = lambda: None) -> AsyncIterator[None]:
    """Run a task for the time of the block; its exception is raised when the block ends.

    Args:
        work: the task.
        ended: called when the task ends, by itself or with the block.
    """
    task = asyncio.ensure_future(work)
    task.add_done_callback(lambda _: ended())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def repeat(what: str, work: Callable[[], Awaitable[None]], seconds: float) -> None:
    """Repeat work for ever. Never returns nor raises.

    Args:
        what: the work's name, for the log.
        work: may raise ResourceError; any other exception is reported as a fault.
        seconds: pause between two runs.
    """
    while True:
        try:
            await work()
        except Exception as error:
            log.warning("%s: %s", what, reason_of(what, error))
        await asyncio.sleep(seconds)


async def notify_watchdog(watchdog: Watchdog, status: Status, may_run: Callable[[], bool] = lambda: True) -> None:
    """Send systemd the program's status for ever, and heartbeats while it may run."""
    while True:
        if may_run():
            watchdog.alive()
        watchdog.status(f"{status.state} {status.identity or ''} {status.reason or ''}")
        await asyncio.sleep(LEASE.beat_seconds)
