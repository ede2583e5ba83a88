"""Connects an agent to its VM: signals, systemd's watchdog, health probe, Scheduled Events."""

import asyncio
import signal
from contextlib import AsyncExitStack

from agent.agent import Agent
from agent.scheduled_events import Event, ScheduledEvents
from host import health
from host.clock import Clock
from host.service import in_background, notify_watchdog
from host.status import Status
from host.watchdog import Watchdog


async def serve(
    agent: Agent, status: Status, *, host: str, port: int, notices: ScheduledEvents | None = None
) -> None:
    """Run an agent until SIGTERM, SIGINT or a notice that the VM is about to end.

    A second signal cuts the node's drain short.

    Raises:
        UnavailableError: a node's processes can't be ended; systemd kills them with the agent.
    """
    loop, watchdog, clock = asyncio.get_running_loop(), Watchdog(), Clock()
    announced: list[Event] = []
    leave = asyncio.Event()

    def on_signal(name: str) -> None:
        if agent.stopping:
            agent.skip_drain()
        agent.stop(name)
        leave.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, signal.Signals(number).name)

    async def drain_on_notice(notices: ScheduledEvents) -> None:
        async for event in notices.releases():
            announced.append(event)
            agent.stop(f"{event.event_type} of the VM", event.seconds_left(clock.utc()))

    async def let_start() -> None:
        for event in announced:
            assert notices  # noqa: S101
            await notices.let_start(event)

    async with AsyncExitStack() as around:
        # First: a VM that does not answer its probe in the first seconds counts as unhealthy.
        await around.enter_async_context(health.serving(status, host, port))
        # Without heartbeats systemd kills the agent with its node, before the lease may lapse.
        await around.enter_async_context(in_background(notify_watchdog(watchdog, status, lambda: agent.may_run)))
        if notices:
            await around.enter_async_context(in_background(drain_on_notice(notices)))
        watchdog.ready()
        await agent.run()
        # systemd would start the agent again, and the announced event would stop it again.
        async with in_background(let_start(), leave.set):
            await leave.wait()
        watchdog.stopping()
