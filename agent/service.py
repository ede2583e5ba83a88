"""An agent among what surrounds it on a VM: signals, systemd, the health probe, and Azure's notices."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack, asynccontextmanager, suppress

from agent import health
from agent.agent import Agent
from agent.clock import Clock
from agent.scheduled_events import Event, ScheduledEvents
from agent.status import Status
from agent.watchdog import Watchdog

SIGN_SECONDS = 1.0
"""How often the watchdog gets its sign."""


async def serve(
    agent: Agent, status: Status, *, host: str, port: int, notices: ScheduledEvents | None = None
) -> None:
    """Run an agent until it is told to stop, by SIGTERM or because the VM is about to go.

    A signal while it stops cuts its node's drain short.
    """
    loop, watchdog, clock = asyncio.get_running_loop(), Watchdog(), Clock()
    announced: list[Event] = []

    def told(name: str) -> None:
        if agent.stopping:
            agent.hurry()
        agent.stop(name)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told, signal.Signals(number).name)

    async def give_signs() -> None:
        while True:
            # Without a sign the agent is killed with its node, before its lease may lapse.
            if agent.sound:
                watchdog.alive()
            watchdog.status(f"{status.state} {status.identity or ''} {status.reason or ''}")
            await asyncio.sleep(SIGN_SECONDS)

    async def heed(notices: ScheduledEvents) -> None:
        async for event in notices.releases():
            announced.append(event)
            agent.stop(f"{event.event_type} of the VM", event.seconds_left(clock.utc()))

    async with AsyncExitStack() as around:
        # First of all: a VM that does not answer from its first seconds counts as ill.
        await around.enter_async_context(health.serving(status, host, port))
        await around.enter_async_context(_beside(give_signs()))
        if notices:
            await around.enter_async_context(_beside(heed(notices)))
        watchdog.ready()
        await agent.run()
        watchdog.stopping()
        for event in announced:
            assert notices  # noqa: S101
            await notices.approve(event.event_id)


@asynccontextmanager
async def _beside(work: Awaitable[None]) -> AsyncIterator[None]:
    task = asyncio.ensure_future(work)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
