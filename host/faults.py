"""Unexpected exceptions: the program goes on as in an outage, and reports a fault.

A peer, an authority or a store may answer anything, and a bug of this program looks the same. So a fault is never
silent: it is logged, with its traceback at most once in `IMPAIRED_SECONDS`, it is counted (`Metric.FAULTS`), and the
VM counts as impaired for a while.
"""

import logging
import math
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path

from host.errors import ResourceError

IMPAIRED_SECONDS = 600.0
"""How long a VM counts as impaired after a fault; longer than the intervals of metrics and alerts."""

log = logging.getLogger(__name__)


@dataclass
class _Faults:
    count: int = 0
    last: float | None = None
    """Time of the last fault, by the monotonic clock."""
    traced: dict[str, float] = field(default_factory=dict)
    """By reason: when its traceback was logged. Recurring every second, tracebacks would fill the workspace."""


_faults = _Faults()


def unexpected(what: str, error: Exception, *, secret: bool = False) -> str:
    """Log and count an unexpected exception.

    Args:
        what: what the program was doing.
        error: the exception.
        secret: whether its message may contain a secret; then only its type and stack are logged.

    Returns:
        The reason to report: `what`, type, file and line.
    """
    _faults.count, _faults.last = _faults.count + 1, (now := time.monotonic())
    reason = f"{what}: unexpected {type(error).__name__} at {place_of(error)}"
    if now < _faults.traced.get(reason, -math.inf) + IMPAIRED_SECONDS:
        log.error("%s, again", reason)
        return reason
    _faults.traced[reason] = now
    if secret:
        log.error("%s\n%s", reason, "".join(traceback.format_tb(error.__traceback__)).rstrip())
    else:
        log.error("%s", reason, exc_info=error)
    return reason


def reason_of(what: str, error: Exception, *expected: type[Exception]) -> str:
    """The message of a `ResourceError`, a TimeoutError or one of `expected`; else the result of `unexpected`."""
    if isinstance(error, (ResourceError, TimeoutError, *expected)):
        return str(error) or type(error).__name__
    return unexpected(what, error)


def place_of(error: Exception) -> str:
    """Folder, file and line that raised an exception."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return "an unknown place"
    path = Path(frames[-1].filename)
    return f"{path.parent.name}/{path.name}:{frames[-1].lineno}"


def count() -> int:
    """Faults since the program's start."""
    return _faults.count


def recent() -> bool:
    """Whether there was a fault in the last `IMPAIRED_SECONDS`."""
    return _faults.last is not None and time.monotonic() < _faults.last + IMPAIRED_SECONDS
