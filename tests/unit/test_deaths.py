"""The note of a node's deaths in its identity's folder."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agent.deaths import DEATHS_BEFORE_DELAY, Deaths
from host.calls import BoundedCalls
from ledger.software import WaitingError

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Folder:
    """Stores one note."""

    note: bytes | None = None

    def read_note(self, _: object) -> bytes | None:
        return self.note

    def write_note(self, _: object, content: bytes) -> None:
        self.note = content


def test_the_note_of_deaths_does_not_grow() -> None:
    folder: Any = Folder()

    async def die() -> None:
        deaths = Deaths(folder, BoundedCalls("share"))
        for minute in range(200):
            await deaths.add("vm-1", f"death {minute}", NOON + timedelta(minutes=minute))
        assert await Deaths(folder, BoundedCalls("share")).count() == 20

    asyncio.run(die())
    reasons = [each["why"] for each in json.loads(folder.note)]
    assert reasons == [f"death {each}" for each in range(180, 200)], "the last deaths are recorded"


def test_the_longest_pause_is_an_hour_and_a_steady_node_resets_the_count() -> None:
    folder: Any = Folder()

    async def die() -> None:
        deaths = Deaths(folder, BoundedCalls("share"))
        for _ in range(DEATHS_BEFORE_DELAY - 1):
            await deaths.add("vm-1", "status 71", NOON)
        await deaths.wait(NOON)
        for _ in range(200):
            await deaths.add("vm-2", "status 71", NOON)
        with pytest.raises(
            WaitingError, match=r"died 20 times .* on 1 VMs?, .* it starts again at 13:00 UTC; wanted"
        ):
            await deaths.wait(NOON + timedelta(minutes=59))
        await deaths.wait(NOON + timedelta(hours=1))
        await deaths.forget()
        await Deaths(folder, BoundedCalls("share")).wait(NOON)

    asyncio.run(die())


@pytest.mark.parametrize("at", ["2026-03-01T12:00:00", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "noon"])
def test_a_note_with_an_odd_date_lets_the_node_start(at: str) -> None:
    folder: Any = Folder()
    folder.note = json.dumps([{"vm": "vm-1", "why": "status 71", "at": at}] * 9).encode()
    asyncio.run(Deaths(folder, BoundedCalls("share")).wait(NOON))
    assert folder.note, "an edited or damaged note must not end each start of the identity, on every VM"
