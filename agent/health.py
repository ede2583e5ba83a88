"""Answers the platform's health probe: whether the agent lives, and what it does."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from agent.ports import HEALTH_PATH
from agent.status import Status


def report(status: Status) -> dict[str, object]:
    """What is answered. A standby is healthy, and so is a VM that waits for others: repair would help neither.

    Automatic repair replaces VMs one by one; an outage of the vault or the database is none of theirs.
    """
    return {
        # What the Application Health extension reads, its rich health states.
        "ApplicationHealthState": "Healthy",
        "vm": status.vm,
        "state": status.state.value,
        "identity": status.identity,
        "epoch": status.epoch,
        "node": status.readiness.name.lower(),
        "reason": status.reason,
        "members": status.members,
        "figures": {figure.value: value for figure, value in status.figures.items()},
    }


@asynccontextmanager
async def serving(status: Status, host: str, port: int) -> AsyncIterator[int]:
    """Answer GET `HEALTH_PATH` for as long as the block lasts; gives the port, which the system chooses for 0."""

    async def answer(_: web.Request) -> web.Response:
        return web.json_response(report(status))

    application = web.Application()
    application.router.add_get(HEALTH_PATH, answer)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()
