"""Deaths of an identity's node soon after a start, on any VM: after several in a row the next start is delayed."""

import logging
from datetime import datetime, timedelta

from pydantic import AwareDatetime, TypeAdapter, ValidationError

from agent.resources import Folder, Note
from contract.metrics import Cause
from contract.models import StrictModel, first_fault
from host.calls import BoundedCalls
from ledger.software import WaitingError

STEADY_SECONDS = 600
"""Seconds after which a running node counts as steady: its end has nothing to do with its start."""
DEATHS_BEFORE_DELAY = 4
"""Deaths in a row after which the identity waits: three on one VM and one on the next rule out a fault of the VM."""
_STORED = 20
"""Most deaths in the note: more would not lengthen the pause."""
_FIRST_PAUSE = timedelta(minutes=1)
_LONGEST_PAUSE = timedelta(hours=1)

log = logging.getLogger(__name__)


class _Death(StrictModel):
    vm: str
    why: str
    at: AwareDatetime


_NOTE = TypeAdapter(list[_Death])


class Deaths:
    """Counts the deaths in a row of an identity's node soon after a start, in a note in the identity's folder."""

    def __init__(self, folder: Folder, calls: BoundedCalls) -> None:
        self._folder, self._calls = folder, calls
        self._deaths: list[_Death] | None = None

    async def count(self) -> int:
        """Deaths since the node was last steady."""
        return len(await self._read())

    async def wait(self, now: datetime) -> None:
        """Return if the node may start now.

        Args:
            now: the time of day in UTC.

        Raises:
            WaitingError: it died too often; the message says when the next start is.
        """
        deaths = await self._read()
        if len(deaths) < DEATHS_BEFORE_DELAY:
            return
        last = deaths[-1]
        pause = min(_FIRST_PAUSE * 2 ** min(len(deaths) - DEATHS_BEFORE_DELAY, 10), _LONGEST_PAUSE)
        # A clock that was set back must not prolong the wait.
        if timedelta() <= now - last.at < pause:
            raise WaitingError(
                f"the node died {len(deaths)} times soon after a start, on {len({each.vm for each in deaths})} VMs, "
                f"the last time since {last.why}; it starts again at {last.at + pause:%H:%M} UTC; wanted someone to "
                "look: docs/runbooks/a-message-kills-a-node.md",
                Cause.NODE,
            )

    async def add(self, vm: str, why: str, now: datetime) -> int:
        """Note a death; the last `_STORED` stay. Returns how many the note has."""
        deaths = [*(await self._read()), _Death(vm=vm, why=why, at=now)][-_STORED:]
        await self._write(deaths)
        return len(deaths)

    async def forget(self) -> None:
        """Clear the note: the node is steady."""
        if await self._read():
            await self._write([])

    async def _read(self) -> list[_Death]:
        if self._deaths is None:
            note = await self._calls(self._folder.read_note, Note.DEATHS)
            try:
                self._deaths = _NOTE.validate_json(note) if note else []
            except ValidationError as error:
                log.warning("the note of deaths can't be read, and starts empty: %s", first_fault(error))
                self._deaths = []
        return self._deaths

    async def _write(self, deaths: list[_Death]) -> None:
        await self._calls(self._folder.write_note, Note.DEATHS, _NOTE.dump_json(deaths))
        self._deaths = deaths
