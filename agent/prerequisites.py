"""The local prerequisites of a VM for serving an identity, checked as long as its agent runs."""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from contract.timing import STANDBY
from host.faults import reason_of

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prerequisite:
    """One prerequisite of a VM."""

    name: str
    check: Callable[[], Awaitable[None]]
    """Raises an error with a message if the prerequisite is not met."""
    seconds: float = STANDBY.check_seconds
    """Interval of checks while it is met."""
    holding: bool = True
    """Whether a holder checks it too; otherwise its running node shows it."""
    common: bool = False
    """Whether it is a service that all VMs share and only standbys check: a healthy holder then proves nothing."""


@dataclass(frozen=True)
class Lack:
    """A prerequisite that is not met. `since` is a time of the agent's clock."""

    since: float
    why: str


class Prerequisites:
    """The state of all prerequisites of one VM."""

    def __init__(self, prerequisites: Sequence[Prerequisite], now: Callable[[], float]) -> None:
        self._all = {each.name: each for each in prerequisites}
        self._now = now
        self._checked: dict[str, float] = {}
        self._lacks: dict[str, Lack] = {}

    @property
    def lacks(self) -> dict[str, str]:
        """The reasons why prerequisites are not met, by name."""
        return {name: lack.why for name, lack in sorted(self._lacks.items())}

    def met(self, *, holding: bool) -> bool:
        """Whether all prerequisites were met at their last check, and no check is overdue."""
        since = self._now() - STANDBY.answer_seconds - STANDBY.recheck_seconds
        return not self._lacks and all(
            self._checked.get(each.name, -math.inf) >= since - each.seconds
            for each in self._all.values()
            if each.holding or not holding
        )

    def lacking_since(self, seconds: float) -> frozenset[str]:
        """Names of the prerequisites that have not been met for `seconds`."""
        return frozenset(name for name, lack in self._lacks.items() if self._now() - lack.since >= seconds)

    def unfit(self, *, standbys: bool, holders: bool) -> bool:
        """Whether a new VM would probably have what this one has lacked for `STANDBY.unhealthy_seconds`.

        Args:
            standbys: whether another standby is healthy.
            holders: whether another holder is healthy.
        """
        return any(
            standbys or (holders and not self._all[name].common)
            for name in self.lacking_since(STANDBY.unhealthy_seconds)
            if name in self._all
        )

    def note(self, name: str, why: str | None) -> None:
        """Note that a prerequisite is met (`why` is None), or why it is not."""
        last = self._lacks.get(name)
        if why is None:
            if last:
                log.info("prerequisite %s is met again", name)
                del self._lacks[name]
            return
        if last is None or last.why != why:
            log.warning("prerequisite %s is not met: %s", name, why)
        self._lacks[name] = Lack(last.since if last else self._now(), why)

    async def keep_checking(self, holding: Callable[[], bool]) -> None:
        """Check all prerequisites periodically, independently of each other. Never returns nor raises."""
        await asyncio.gather(*(self._keep_checking(each, holding) for each in self._all.values()))

    async def _keep_checking(self, each: Prerequisite, holding: Callable[[], bool]) -> None:
        due = self._now()
        while True:
            if holding() and not each.holding:
                self.note(each.name, None)
                self._checked.pop(each.name, None)
                due = self._now()
            elif self._now() >= due:
                why = await self._fault(each)
                self.note(each.name, why)
                self._checked[each.name] = self._now()
                due = self._now() + (STANDBY.recheck_seconds if why else each.seconds)
            await asyncio.sleep(STANDBY.recheck_seconds / 2)

    async def _fault(self, each: Prerequisite) -> str | None:
        limit = asyncio.timeout(STANDBY.answer_seconds)
        try:
            async with limit:
                await each.check()
        except Exception as error:
            if limit.expired():
                return f"no answer in {STANDBY.answer_seconds:g} s"
            return reason_of(f"prerequisite {each.name}", error, OSError)
        return None
