"""A program's log with the journal's levels, sd-daemon(3)."""

import logging
import os
import sys

from typing_extensions import override

_PRIORITIES = "776432"
"""The journal's level for each of Python's levels (index: level / 10); a data collection rule selects by it."""
_RECORD_CHARACTERS = 16_000
"""Most characters of a record: of a longer one its beginning and end."""

log = logging.getLogger(__name__)


class _Formatter(logging.Formatter):
    @override
    def format(self, record: logging.LogRecord) -> str:
        return _marked(super().format(record), record.levelno)


def _marked(text: str, level: int) -> str:
    """A record, in the journal with its level before each line.

    It may quote others: further lines are indented, so that none looks like a record, and control characters escaped.
    """
    prefix = f"<{_PRIORITIES[min(level // 10, 5)]}>" if _is_journal() else ""
    half = _RECORD_CHARACTERS // 2
    cut = text if len(text) <= _RECORD_CHARACTERS else f"{text[:half]} ... {text[-half:]}"
    shown = "".join(each if each.isprintable() or each == "\n" else repr(each)[1:-1] for each in cut)
    return prefix + shown.replace("\n", f"\n{prefix} ")


def set_up(level: int = logging.INFO) -> None:
    """Log to standard error, exceptions that end the program included."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level, handlers=[handler])
    # Else the SDK would log each request, and standbys poll all the time.
    logging.getLogger("azure").setLevel(logging.WARNING)
    sys.excepthook = lambda *error: log.critical("the program ends", exc_info=error)


def refuse(reason: object) -> None:
    """Print why the program exits at once."""
    print(_marked(f"error: {reason}", logging.ERROR), file=sys.stderr)  # noqa: T201


def _is_journal() -> bool:
    try:
        here = os.fstat(sys.stderr.fileno())
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{here.st_dev}:{here.st_ino}"
