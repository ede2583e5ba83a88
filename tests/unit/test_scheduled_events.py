"""Azure's Scheduled Events: a metadata service on localhost."""

import asyncio
import gzip
import json
import logging
import os
import signal
from collections.abc import Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from aiohttp import web

from agent.scheduled_events import Event, ScheduledEvents
from agent.service import serve
from host.http import MAX_ANSWER_BYTES
from host.status import Status

VM = "bank-a_0"


def event(number: int, kind: str = "Terminate", *vms: str, status: str = "Scheduled") -> dict[str, Any]:
    return {
        "EventId": f"event-{number}",
        "EventType": kind,
        "ResourceType": "VirtualMachine",
        "Resources": list(vms or (VM,)),
        "EventStatus": status,
        "NotBefore": "Mon, 19 Sep 2026 18:29:47 GMT" if status == "Scheduled" else "",
        "Description": "",
        "EventSource": "User",
        "DurationInSeconds": -1,
    }


@dataclass
class MetadataService:
    events: list[dict[str, Any]] = field(default_factory=list)
    slow: float = 0
    """Seconds until the first answer about events."""
    fault: str | None = None
    asked: int = 0
    approved: list[str] = field(default_factory=list)

    async def instance(self, request: web.Request) -> web.Response:
        self._check(request, "2021-02-01")
        return web.json_response({"compute": {"name": VM, "vmId": "x"}, "network": {}})

    async def read(self, request: web.Request) -> web.Response:
        self._check(request, "2020-07-01")
        slow, self.slow = self.slow, 0
        await asyncio.sleep(slow)
        document = {"DocumentIncarnation": len(self.events), "Events": self.events}
        return web.json_response(document)

    async def start(self, request: web.Request) -> web.Response:
        self._check(request, "2020-07-01")
        self.approved += [each["EventId"] for each in (await request.json())["StartRequests"]]
        return web.Response()

    @staticmethod
    async def elsewhere(_: web.Request) -> web.Response:
        return web.json_response({"Events": [event(9)]})

    def _check(self, request: web.Request, version: str) -> None:
        self.asked += 1
        if request.headers.get("Metadata") != "true" or request.query.get("api-version") != version:
            raise web.HTTPBadRequest
        if self.fault == "nonsense":
            raise web.HTTPOk(text="<html>")
        if self.fault == "redirect":
            raise web.HTTPFound("/elsewhere")
        if self.fault == "packed":
            packed = gzip.compress(json.dumps({"Events": [event(9)]}).encode())
            raise web.HTTPOk(body=packed, headers={"Content-Encoding": "gzip"})
        if self.fault == "endless":
            raise web.HTTPOk(body=b" " * (MAX_ANSWER_BYTES + 1))
        if self.fault:
            raise web.HTTPServiceUnavailable

    @asynccontextmanager
    async def serving(self, port: int = 0):
        application = web.Application()
        application.router.add_get("/metadata/instance", self.instance)
        application.router.add_get("/elsewhere", self.elsewhere)
        application.router.add_get("/metadata/scheduledevents", self.read)
        application.router.add_post("/metadata/scheduledevents", self.start)
        runner = web.AppRunner(application, shutdown_timeout=0.05)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", port)
            await site.start()
            yield runner.addresses[0][1]
        finally:
            await runner.cleanup()


class Listener:
    def __init__(self, port: int) -> None:
        self.azure = ScheduledEvents(
            f"http://127.0.0.1:{port}", poll_seconds=0.01, first_answer_seconds=2, answer_seconds=0.2
        )
        self.received: list[Event] = []

    async def __aenter__(self) -> "Listener":
        self._task = asyncio.create_task(self._listen())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert not self._task.done(), "the listener must run until it is cancelled"
        self._task.cancel()
        await asyncio.wait({self._task})

    async def _listen(self) -> None:
        async for each in self.azure.releases():
            self.received.append(each)


class StoppedAgent:
    """An agent without an identity, which ends as soon as it is asked to."""

    stopping = True

    def __init__(self, *, may_run: bool = True) -> None:
        self.may_run = may_run
        self.stopped = asyncio.Event()
        self.asked: tuple[object, ...] = ()

    def stop(self, *asked: object) -> None:
        self.asked = self.asked or asked
        self.stopped.set()

    def skip_drain(self) -> None: ...

    async def run(self) -> None:
        await self.stopped.wait()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


async def polls(service: MetadataService, count: int = 3) -> None:
    asked = service.asked
    await until(lambda: service.asked >= asked + count)


def test_a_termination_of_this_vm_is_reported_once_and_approved():
    async def history() -> None:
        service = MetadataService([event(1, "Terminate", "bank-a_1", "bank-a_00")])
        async with service.serving() as port, Listener(port) as listener:
            await polls(service)
            assert not listener.received, "another VM's event is ignored"
            service.events.append(event(2, "Terminate", "bank-a_1", VM.upper()))
            await until(lambda: listener.received)
            await polls(service)
            assert [each.event_id for each in listener.received] == ["event-2"], (
                "it is logged once although it stays listed"
            )
            assert listener.received[0].not_before.startswith("Mon"), "there is time until then"

    asyncio.run(history())


def test_an_event_of_this_vm_alone_is_approved_and_one_of_several_starts_at_its_time():
    async def history() -> None:
        service = MetadataService([event(1), event(2, "Redeploy", "bank-a_1", VM)])
        async with service.serving() as port, Listener(port) as listener:
            await until(lambda: len(listener.received) == 2)
            leaving = [asyncio.create_task(listener.azure.let_start(each)) for each in listener.received]
            await polls(service, 10)
            assert service.approved == ["event-1"], "the other VM may still drain its node"
            assert not any(each.done() for each in leaving), (
                "systemd would start the agent, and the event would end it"
            )
            service.events = []
            await asyncio.wait_for(asyncio.gather(*leaving), 5)

    asyncio.run(history())


@pytest.mark.parametrize("signalled", [False, True])
def test_an_agent_stays_until_an_announced_event_is_over(signalled: bool):
    async def history() -> None:
        service = MetadataService([event(1, "Reboot")])
        async with service.serving() as port:
            azure = ScheduledEvents(f"http://127.0.0.1:{port}", poll_seconds=0.01)
            agent: Any = StoppedAgent()
            serving = asyncio.create_task(serve(agent, Status(vm=VM), host="127.0.0.1", port=0, notices=azure))
            await until(lambda: service.approved)
            await polls(service, 10)
            assert (serving.done(), service.approved) == (False, ["event-1"]), "an exit is followed by a restart"
            if signalled:
                os.kill(os.getpid(), signal.SIGTERM)
            else:
                service.events = []
            await asyncio.wait_for(serving, 5)

    asyncio.run(history())


@pytest.mark.parametrize(
    ("kind", "releases"),
    [("Terminate", True), ("Preempt", True), ("Redeploy", True), ("Reboot", True), ("Freeze", False), ("New", False)],
)
def test_only_events_that_end_the_node_release_the_identity(kind, releases):
    async def history() -> None:
        service = MetadataService([event(1, kind), event(2, status="Started")])
        async with service.serving() as port, Listener(port) as listener:
            await until(lambda: listener.received)
            received = [each.event_id for each in listener.received]
            assert ("event-1" in received) == releases, "a frozen VM continues after a few seconds"
            assert "event-2" in received, "failing hardware starts the event at any time"

    asyncio.run(history())


def test_the_first_answer_may_take_long():
    async def history() -> None:
        service = MetadataService([event(1)], slow=0.5)
        async with service.serving() as port, Listener(port) as listener:
            await until(lambda: listener.received)
            assert service.asked <= 4, "a slow answer is awaited, not requested again"
            service.slow = 10
            service.events.append(event(2))
            await until(lambda: len(listener.received) > 1)

    asyncio.run(history())


@pytest.mark.parametrize("fault", ["503", "nonsense", "redirect", "packed", "endless"])
def test_an_outage_is_logged_once_and_then_recovered_from(fault, caplog):
    caplog.set_level(logging.INFO, "agent.scheduled_events")

    async def history() -> None:
        service = MetadataService(fault=fault)
        async with service.serving() as port, Listener(port) as listener:
            await polls(service)
            service.fault = None
            await polls(service)
            service.fault = fault
            await polls(service, 10)
            service.fault, service.events = None, [event(1)]
            await until(lambda: listener.received)
            assert [each.event_id for each in listener.received] == ["event-1"], "nothing else was an answer"

    asyncio.run(history())
    said = [record.getMessage() for record in caplog.records if "/metadata/scheduledevents" in record.getMessage()]
    assert len(said) == 2, "once when it stopped answering, once when it answered again"


def test_the_listener_waits_for_a_missing_service():
    async def history() -> None:
        service = MetadataService()
        async with service.serving() as port:
            pass
        async with Listener(port) as listener:
            await asyncio.sleep(0.05)
            async with service.serving(port):
                await polls(service)
            await asyncio.sleep(0.05)
            service.events = [event(1)]
            async with service.serving(port):
                await until(lambda: listener.received)

    asyncio.run(history())


def test_an_agent_hears_how_long_an_event_leaves_it():
    async def history() -> None:
        starts = format_datetime(datetime.now(UTC) + timedelta(seconds=300), usegmt=True)
        service = MetadataService([event(1, "Preempt") | {"NotBefore": starts}])
        async with service.serving() as port:
            azure = ScheduledEvents(f"http://127.0.0.1:{port}", poll_seconds=0.01)
            agent: Any = StoppedAgent()
            serving = asyncio.create_task(serve(agent, Status(vm=VM), host="127.0.0.1", port=0, notices=azure))
            await until(lambda: service.approved)
            service.events = []
            await asyncio.wait_for(serving, 5)
            why, seconds = agent.asked
            assert why == "Preempt of the VM", "the identity's record says why"
            assert 200 < seconds <= 300, "a longer drain would end with the VM, before the lease is released"

    asyncio.run(history())


def test_an_approval_is_retried_through_a_short_outage_and_abandoned_in_a_long_one():
    async def history() -> None:
        service = MetadataService(fault="503")
        async with service.serving() as port:
            azure = ScheduledEvents(f"http://127.0.0.1:{port}", poll_seconds=0.02)
            approving = asyncio.create_task(azure.approve("event-1"))
            await polls(service, 2)
            service.fault = None
            await approving
            assert service.approved == ["event-1"], "it continued to try"
            service.fault = "503"
            await azure.approve("event-2")
            assert service.approved == ["event-1"], "Azure starts the other event at its time"

    asyncio.run(history())


@pytest.mark.parametrize(
    ("not_before", "seconds"),
    [
        ("Mon, 21 Sep 2026 18:29:47 GMT", 600),
        ("Mon, 21 Sep 2026 18:19:47 GMT", 0),
        ("Mon, 21 Sep 2026 18:00:00 GMT", 0),
        ("", 0),
        ("soon", 0),
    ],
)
def test_the_seconds_until_an_event(not_before: str, seconds: float) -> None:
    now = datetime(2026, 9, 21, 18, 19, 47, tzinfo=UTC)
    assert Event.model_validate(event(1) | {"NotBefore": not_before}).seconds_left(now) == seconds, (
        "without a time the event may start at once"
    )
