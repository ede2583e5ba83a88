"""The two clocks of a program: for deadlines and for records."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime


def _boot_time() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _utc() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Clock:
    """Deadlines use `now`, which never jumps; records have `utc`. No clock counts a pause by Azure's host."""

    now: Callable[[], float] = _boot_time
    """Seconds since the VM started."""
    utc: Callable[[], datetime] = _utc
    """The time of day, in UTC."""
