"""An authority among what surrounds it on a VM: signals, systemd, the health probe, its listeners."""

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack, asynccontextmanager, suppress

from agent import health
from agent.fence import DamagedError, UnavailableError
from agent.network_http import serving_requests
from agent.status import State, Status
from agent.tls import server_context
from agent.watchdog import Watchdog
from ledger.corda.authority.authority import Authority
from ledger.corda.authority.server import Requests, RevocationLists

TEND_SECONDS = 15.0
RETRY_SECONDS = 5.0
SIGN_SECONDS = 1.0
GRACE_SECONDS = 8.0
"""What was asked before SIGTERM may take so long."""

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
    """Serve until SIGTERM, or until `stopped` is set.

    Members are let in once the authority has its certificates; the health probe is answered from the beginning.
    """
    loop, watchdog, stopped = asyncio.get_running_loop(), Watchdog(), stopped or asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    opened = asyncio.Event()

    async def tend() -> None:
        while True:
            try:
                await authority.open()
                # What else is due may fail, or take its time: members are answered.
                opened.set()
                reason, seconds = await authority.tend(), TEND_SECONDS
            except (UnavailableError, DamagedError, ValueError, LookupError) as error:
                if not isinstance(error, UnavailableError | DamagedError):
                    log.exception("what is due is not done")
                reason, seconds = str(error) or type(error).__name__, RETRY_SECONDS
            if reason != status.reason:
                log.info("%s", reason or "all is well")
                status.reason = reason
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await authority.due.wait()

    async def give_signs() -> None:
        while True:
            watchdog.alive()
            watchdog.status(f"{status.state} {status.reason or ''}")
            await asyncio.sleep(SIGN_SECONDS)

    async with AsyncExitStack() as around:
        await around.enter_async_context(health.serving(status, host, health_port))
        await around.enter_async_context(_beside(give_signs(), stopped))
        await around.enter_async_context(_beside(tend(), stopped))
        watchdog.ready()
        await _first(opened, stopped)
        if not stopped.is_set():
            requests, lists = Requests(authority), RevocationLists(authority)
            context = server_context()
            await around.enter_async_context(
                serving_requests(lists.respond, None, host, lists_port, grace=GRACE_SECONDS)
            )
            await around.enter_async_context(
                serving_requests(requests.respond, context, host, requests_port, grace=GRACE_SECONDS)
            )
            status.state = State.HOLDING
            log.info("members are let in")
            await stopped.wait()
        status.state = State.STOPPING
        watchdog.stopping()


async def _first(*events: asyncio.Event) -> None:
    """Wait for one of several."""
    waiting = [asyncio.ensure_future(each.wait()) for each in events]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in waiting:
            each.cancel()


@asynccontextmanager
async def _beside(work: Awaitable[None], stopped: asyncio.Event) -> AsyncIterator[None]:
    """Do something else meanwhile; if it fails, all ends, and systemd starts it anew."""
    task = asyncio.ensure_future(work)
    task.add_done_callback(lambda _: stopped.set())
    try:
        yield
    finally:
        if not task.done():
            task.cancel()
        with suppress(asyncio.CancelledError):
            await task
