"""Compares the VM's clock with the bank's storage."""

import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from azure.storage.blob.aio import ContainerClient

from contract.timing import STANDBY
from host.azure import answering
from host.errors import UnavailableError

_DATE_SECONDS = STANDBY.costly_check_seconds / 2
"""How long a measured clock difference counts."""


class StoreClock:
    """The difference between the VM's clock and the Date header of the storage's answers."""

    def __init__(self, container: ContainerClient, utc: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._container, self._utc = container, utc
        self._difference = 0.0
        self._measured = -_DATE_SECONDS

    def measure(self, response: Any) -> None:
        """Take the time from an answer: a request's `raw_response_hook`."""
        if date := response.http_response.headers.get("Date"):
            # The header is cut to whole seconds.
            self._difference = (self._utc() - parsedate_to_datetime(date)).total_seconds() - 0.5
            self._measured = time.monotonic()

    async def check(self) -> None:
        """Compare the clocks. A storage that does not answer counts as no difference.

        Raises:
            UnavailableError: they differ by more than `STANDBY.clock_seconds`.
        """
        if time.monotonic() >= self._measured + _DATE_SECONDS:
            with suppress(UnavailableError):
                async with answering("the store's time", STANDBY.answer_seconds / 2):
                    await self._container.get_container_properties(raw_response_hook=self.measure)
        if abs(self._difference) > STANDBY.clock_seconds:
            raise UnavailableError(
                f"the VM's clock differs by {self._difference:+.0f} s from the store's; wanted"
                f" {STANDBY.clock_seconds:g} s at most"
            )
