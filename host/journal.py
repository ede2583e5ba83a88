"""A program's log with the journal's levels, sd-daemon(3)."""

import logging
import os
import sys

from typing_extensions import override

_PRIORITIES = "776432"
"""The journal's level for each of Python's levels (index: level / 10); a data collection rule selects by it."""

log = logging.getLogger(__name__)


class _Formatter(logging.Formatter):
    @override
    def format(self, record: logging.LogRecord) -> str:
        return _marked(super().format(record), record.levelno)


def _marked(text: str, level: int) -> str:
    """The text with its level before each line; the journal ends a line at NUL too."""
    prefix = f"<{_PRIORITIES[min(level // 10, 5)]}>"
    return "\n".join(prefix + line for line in text.replace("\0", "\n").split("\n"))


def set_up(level: int = logging.INFO) -> None:
    """Log to standard error, exceptions that end the program included."""
    handler = logging.StreamHandler()
    form = "%(levelname)s %(name)s: %(message)s"
    handler.setFormatter(_Formatter(form) if _is_journal() else logging.Formatter(form))
    logging.basicConfig(level=level, handlers=[handler])
    # Else the SDK would log each request, and standbys poll all the time.
    logging.getLogger("azure").setLevel(logging.WARNING)
    sys.excepthook = lambda *error: log.critical("the program ends", exc_info=error)


def refuse(reason: object) -> None:
    """Print why the program exits at once."""
    text = f"error: {reason}"
    print(_marked(text, logging.ERROR) if _is_journal() else text, file=sys.stderr)  # noqa: T201


def _is_journal() -> bool:
    try:
        here = os.fstat(sys.stderr.fileno())
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{here.st_dev}:{here.st_ino}"
