"""Azure's word that this VM is about to end (Scheduled Events): time to give the identity back first."""

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import aiohttp
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_pascal

METADATA_SERVICE = "http://169.254.169.254"
POLL_SECONDS = 1.0
FIRST_ANSWER_SECONDS = 150
"""The first request turns the service on, which takes up to two minutes."""
ANSWER_SECONDS = 5
APPROVALS = 10
"""After so many tries an approval is left to Azure, which starts the event unasked at its time."""

RELEASING = frozenset({"Terminate", "Preempt", "Redeploy", "Reboot"})
"""After each of these the node's processes are gone. A Freeze lasts seconds; the lease tells if it was too long."""

_EVENTS = ("/metadata/scheduledevents", "2020-07-01")
_INSTANCE = ("/metadata/instance", "2021-02-01")

# A ValueError is an answer that is none.
_OUTAGES = (aiohttp.ClientError, TimeoutError, OSError, ValueError)

M = TypeVar("M", bound=BaseModel)

log = logging.getLogger(__name__)


class Event(BaseModel):
    """What Azure is going to do to some VMs, learn.microsoft.com/azure/virtual-machines/linux/scheduled-events."""

    model_config = ConfigDict(frozen=True, alias_generator=to_pascal)

    event_id: str
    event_type: str
    resources: tuple[str, ...] = ()
    event_status: str = ""
    """Scheduled, or Started where the hardware left no time."""
    not_before: str = ""
    """When it starts unless it is approved before; empty once it has started."""
    description: str = ""

    def seconds_left(self, now: datetime) -> float:
        """Until it starts: 0 if it has started; what can't be read is no notice either."""
        try:
            at = parsedate_to_datetime(self.not_before)
        except ValueError:
            return 0.0
        return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - now).total_seconds())

    def concerns(self, vm: str) -> bool:
        """Whether the VM of that name is among its resources: events go to all VMs of a scale set."""
        return vm.lower() in {each.lower() for each in self.resources}


class _Document(BaseModel):
    """Its incarnation is not needed: events are told apart by their ids."""

    model_config = ConfigDict(alias_generator=to_pascal)

    events: tuple[Event, ...]


class _Compute(BaseModel):
    name: str


class _Instance(BaseModel):
    compute: _Compute


class ScheduledEvents:
    """The VM's metadata service, as far as events go. While it does not answer nothing happens."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        base_url: str = METADATA_SERVICE,
        *,
        poll_seconds: float = POLL_SECONDS,
        first_answer_seconds: float = FIRST_ANSWER_SECONDS,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self._session, self._base_url, self._poll_seconds = session, base_url, poll_seconds
        self._first_answer_seconds, self._answer_seconds = first_answer_seconds, answer_seconds

    async def releases(self) -> AsyncIterator[Event]:
        """Each event that ends this VM's work, once; goes on for ever."""
        vm = (await self._read(_INSTANCE, _Instance, self._answer_seconds)).compute.name
        patience, seen = self._first_answer_seconds, set[str]()
        while True:
            document = await self._read(_EVENTS, _Document, patience)
            patience = self._answer_seconds
            for event in document.events:
                if event.event_id not in seen and event.event_type in RELEASING and event.concerns(vm):
                    seen.add(event.event_id)
                    log.warning(
                        "%s of %s is announced: %s %s", event.event_type, vm, event.event_id, event.description
                    )
                    yield event
            await asyncio.sleep(self._poll_seconds)

    async def approve(self, event_id: str) -> None:
        """Let an event start now, before its time; if nobody can be told, it starts at its time."""
        for _ in range(APPROVALS):
            try:
                await self._request("POST", _EVENTS, self._answer_seconds, {"StartRequests": [{"EventId": event_id}]})
            except _OUTAGES as error:
                log.warning("event %s can't be approved: %s", event_id, _reason(error))
                await asyncio.sleep(self._poll_seconds)
            else:
                return

    async def _read(self, question: tuple[str, str], model: type[M], patience: float) -> M:
        """Ask until there is an answer."""
        silent = False
        while True:
            try:
                answer = model.model_validate_json(await self._request("GET", question, patience))
            except _OUTAGES as error:
                # Asked each second: said once.
                log.log(logging.DEBUG if silent else logging.WARNING, "%s: %s", question[0], _reason(error))
                silent = True
                await asyncio.sleep(self._poll_seconds)
            else:
                if silent:
                    log.info("%s answers again", question[0])
                return answer

    async def _request(self, method: str, question: tuple[str, str], patience: float, body: Any = None) -> bytes:
        path, version = question
        async with self._session.request(
            method,
            self._base_url + path,
            params={"api-version": version},
            headers={"Metadata": "true"},
            json=body,
            timeout=aiohttp.ClientTimeout(total=patience),
            raise_for_status=True,
        ) as response:
            return await response.read()


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
