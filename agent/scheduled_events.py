"""Azure's Scheduled Events: notices that this VM is about to end, in time to release the identity first."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_pascal

from contract.models import FIRST_FAULT_ONLY
from host.errors import UnavailableError
from host.faults import reason_of
from host.http import TooLargeError, ask

METADATA_SERVICE = "http://169.254.169.254"
"""learn.microsoft.com/azure/virtual-machines/linux/scheduled-events"""
POLL_SECONDS = 1.0
FIRST_ANSWER_SECONDS = 150
"""The first request enables the service, which takes up to two minutes."""
METADATA_SECONDS = 5
APPROVALS = 10
"""Tries to approve an event. Azure starts an event that nobody approved at its time."""

RELEASING = frozenset({"Terminate", "Preempt", "Redeploy", "Reboot"})
"""Event types that end the node's processes. A Freeze lasts seconds; the lease decides whether it was too long."""

_EVENTS = ("/metadata/scheduledevents", "2020-07-01")
_INSTANCE = ("/metadata/instance", "2021-02-01")

# ValueError: the answer is malformed.
_OUTAGES = (TooLargeError, ValueError)

M = TypeVar("M", bound=BaseModel)

log = logging.getLogger(__name__)


class Event(BaseModel):
    """A planned event for some VMs, learn.microsoft.com/azure/virtual-machines/linux/scheduled-events."""

    model_config = ConfigDict(frozen=True, alias_generator=to_pascal)

    event_id: str
    event_type: str
    resources: tuple[str, ...] = ()
    not_before: str = ""
    """When the event starts unless it is approved before, as an HTTP date; empty once it has started."""
    description: str = ""

    def seconds_left(self, now: datetime) -> float:
        """Seconds until the event starts; 0 if it has started or its date is unreadable."""
        try:
            at = parsedate_to_datetime(self.not_before)
            return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - now).total_seconds())
        except (ValueError, OverflowError):
            return 0.0

    def concerns(self, vm: str) -> bool:
        """Whether the VM is among the event's resources: all VMs of a scale set get every event."""
        return vm.lower() in {each.lower() for each in self.resources}


class _Document(BaseModel):
    """`DocumentIncarnation` is not needed: events have ids."""

    model_config = ConfigDict(alias_generator=to_pascal)

    events: Annotated[tuple[Event, ...], FIRST_FAULT_ONLY]


class _Compute(BaseModel):
    name: str


class _Instance(BaseModel):
    compute: _Compute


class ScheduledEvents:
    """Client of the scheduled events of the VM's metadata service; waits while the service does not answer."""

    def __init__(
        self,
        base_url: str = METADATA_SERVICE,
        *,
        poll_seconds: float = POLL_SECONDS,
        first_answer_seconds: float = FIRST_ANSWER_SECONDS,
        answer_seconds: float = METADATA_SECONDS,
    ) -> None:
        self._base_url, self._poll_seconds = base_url, poll_seconds
        self._first_answer_seconds, self._answer_seconds = first_answer_seconds, answer_seconds

    async def releases(self) -> AsyncIterator[Event]:
        """Each event in `RELEASING` that concerns this VM, once. Never ends."""
        vm = (await self._read(_INSTANCE, _Instance, self._answer_seconds)).compute.name
        seconds, seen = self._first_answer_seconds, set[str]()
        while True:
            document = await self._read(_EVENTS, _Document, seconds)
            seconds = self._answer_seconds
            for event in document.events:
                if event.event_id not in seen and event.event_type in RELEASING and event.concerns(vm):
                    seen.add(event.event_id)
                    log.warning(
                        "%s of %s is announced: %s %s", event.event_type, vm, event.event_id, event.description
                    )
                    yield event
            await asyncio.sleep(self._poll_seconds)

    async def let_start(self, event: Event) -> None:
        """Wait until an event is over. Approves it if it is of this VM alone: an approval counts for all its VMs."""
        if len(event.resources) == 1:
            await self.approve(event.event_id)
        while event.event_id in {
            each.event_id for each in (await self._read(_EVENTS, _Document, self._answer_seconds)).events
        }:
            await asyncio.sleep(self._poll_seconds)

    async def approve(self, event_id: str) -> None:
        """Have an event start now instead of at its time. Never raises; after `APPROVALS` failures it gives up."""
        body = json.dumps({"StartRequests": [{"EventId": event_id}]}).encode()
        for _ in range(APPROVALS):
            try:
                await self._request("POST", _EVENTS, self._answer_seconds, body)
            except Exception as error:
                log.warning("event %s can't be approved: %s", event_id, reason_of("approval", error, *_OUTAGES))
                await asyncio.sleep(self._poll_seconds)
            else:
                return

    async def _read(self, question: tuple[str, str], model: type[M], seconds: float) -> M:
        """Repeat a request until it succeeds."""
        silent = False
        while True:
            try:
                answer = model.model_validate_json(await self._request("GET", question, seconds))
            except Exception as error:
                # Logged once, since it is repeated each second.
                if not silent:
                    log.warning("%s: %s", question[0], reason_of(question[0], error, *_OUTAGES))
                silent = True
                await asyncio.sleep(self._poll_seconds)
            else:
                if silent:
                    log.info("%s answers again", question[0])
                return answer

    async def _request(
        self, method: str, question: tuple[str, str], seconds: float, body: bytes | None = None
    ) -> bytes:
        path, version = question
        answer = await ask(
            f"{self._base_url}{path}?api-version={version}",
            True,
            method=method,
            body=body,
            headers={"Metadata": "true", "Content-Type": "application/json"},
            seconds=seconds,
        )
        if answer.status != HTTPStatus.OK:
            raise UnavailableError(f"status {answer.status}")
        return answer.body
