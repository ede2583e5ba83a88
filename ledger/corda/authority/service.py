"""Connects an authority to its VM: signals, systemd's watchdog, health probe, listeners."""

import asyncio
import logging
import signal
from contextlib import AsyncExitStack, suppress

from contract.metrics import Cause, Figure
from contract.timing import AUTHORITY_ROUND_SECONDS
from host import health
from host.faults import reason_of
from host.service import in_background, notify_watchdog
from host.status import State, Status
from host.watchdog import Watchdog
from ledger.corda.authority.authority import Authority
from ledger.corda.authority.server import serving

DUE_RETRY_SECONDS = 5.0
"""Pause after a run that failed."""
GRACE_SECONDS = 8.0
"""Seconds for open requests to finish after SIGTERM."""

log = logging.getLogger(__name__)


async def serve(  # noqa: PLR0917
    authority: Authority,
    status: Status,
    host: str,
    health_port: int,
    requests_port: int,
    lists_port: int,
    stopped: asyncio.Event | None = None,
) -> None:
    """Serve until SIGTERM, SIGINT, or until `stopped` is set.

    Members are served once the authority has its certificates; the health probe is answered from the start.
    """
    loop, watchdog, stopped = asyncio.get_running_loop(), Watchdog(), stopped or asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    opened = asyncio.Event()

    async def tend() -> None:
        while True:
            try:
                # What is signed has the clock's time.
                await authority.check_clock()
                await authority.open()
                # Members are served even if the rest fails or takes long.
                opened.set()
                reason, status.cause = await authority.run_due_tasks(), Cause.AUTHORITY
                seconds = AUTHORITY_ROUND_SECONDS
            except Exception as error:
                reason, status.cause = reason_of("what is due", error), Cause.AUTHORITY
                seconds = DUE_RETRY_SECONDS
            if reason != status.reason:
                log.log(logging.WARNING if reason else logging.INFO, "%s", reason or "all is well")
                status.reason = reason
            status.figures = {
                Figure.ROOT_OPEN: float(authority.root_open),
                Figure.PENDING: float(authority.waiting),
                Figure.UNPROVEN: float(authority.unproven),
            }
            status.days_left = {(what, None): days for what, days in authority.days_left().items()}
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await authority.due.wait()

    async with AsyncExitStack() as around:
        await around.enter_async_context(health.serving(status, host, health_port))
        await around.enter_async_context(in_background(notify_watchdog(watchdog, status), stopped.set))
        await around.enter_async_context(in_background(tend(), stopped.set))
        watchdog.ready()
        await _first(opened, stopped)
        if not stopped.is_set():
            await around.enter_async_context(serving(authority, host, requests_port, lists_port, grace=GRACE_SECONDS))
            status.state = State.HOLDING
            log.info("members are let in")
            await stopped.wait()
        status.state = State.STOPPING
        watchdog.stopping()


async def _first(*events: asyncio.Event) -> None:
    """Wait for the first of several events."""
    waiting = [asyncio.ensure_future(each.wait()) for each in events]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in waiting:
            each.cancel()
