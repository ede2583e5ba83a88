"""The health probe's endpoint: whether the program is alive, and its status."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from ipaddress import ip_address

from aiohttp import web

from contract.ports import HEALTH_PATH
from host.http import serving_requests
from host.status import Status


def report(status: Status) -> dict[str, object]:
    """The probe's answer. Standbys and VMs that wait for a service in an outage are Healthy.

    Automatic repair replaces unhealthy VMs one by one, which does not help against an outage of vault or database. So
    a VM is Unhealthy only after it has long lacked something that other VMs have.
    """
    return {
        # For the Application Health extension with rich health states.
        "ApplicationHealthState": "Unhealthy" if status.unfit else "Healthy",
        "vm": status.vm,
        "state": status.state.value,
        "identity": status.identity,
        "epoch": status.epoch,
        "node": status.readiness.name.lower(),
        "impaired": sorted({cause for cause, _ in status.causes()}),
        "reason": status.reason,
        "lease": status.lease,
        "deaths": status.deaths,
        "lacks": status.lacks,
        "members": status.members,
        "reached": dict(status.reached),
        "figures": {figure.value: value for figure, value in status.figures.items()},
    }


@asynccontextmanager
async def serving(status: Status, host: str, port: int) -> AsyncIterator[int]:
    """Answer GET `HEALTH_PATH` for the time of the block; yields the port, which the system chooses for 0."""

    async def answer(request: web.BaseRequest) -> web.Response:
        if (request.method, request.path) != ("GET", HEALTH_PATH):
            return web.Response(status=HTTPStatus.NOT_FOUND)
        return web.json_response(report(status))

    # A node on this VM, which has all of 127.0.0.0/8, must not take all file descriptors.
    def pool(address: str) -> str:
        return "this VM" if ip_address(address).is_loopback else address

    async with serving_requests(answer, None, host, port, pool_of=pool) as at:
        yield at
