"""Tries one input on one parser: it must return a value or raise a documented error, in bounded time and memory."""

import hashlib
import resource
import time

from tests.fuzz.targets import CORPUS, Target

SECONDS = 1.5
"""The maximum processor time for one input: an agent's event loop must also renew its lease."""
MEGABYTES = 100
"""The maximum increase of the process's peak memory by one input."""


def attempt(target: Target, content: bytes) -> None:
    """Try an input; if it fails, write it to the corpus, which each later run tries.

    Raises:
        AssertionError: an undocumented exception, too much time, or too much memory.
    """
    before = _peak()
    seconds = _try(target, content)
    if seconds > SECONDS:
        # Other load, or a garbage collection, may have caused it: measure again.
        seconds = min(seconds, _try(target, content))
    megabytes = (_peak() - before) / 1024
    if seconds > SECONDS or megabytes > MEGABYTES:
        _save(target, content)
    assert seconds <= SECONDS, f"{target.name}: {seconds:.1f} s for {len(content)} bytes; wanted {SECONDS} at most"
    assert megabytes <= MEGABYTES, f"{target.name}: {megabytes:.0f} MB for {len(content)} bytes; wanted {MEGABYTES}"


def _try(target: Target, content: bytes) -> float:
    """Parse an input; returns the seconds of processor time."""
    began = time.process_time()
    try:
        target.parse(content)
    except target.errors:
        pass
    except Exception as error:
        _save(target, content)
        raise AssertionError(f"{target.name}: {type(error).__name__} escaped: {error!s:.300}") from error
    return time.process_time() - began


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _save(target: Target, content: bytes) -> None:
    folder = CORPUS / target.name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / hashlib.sha256(content).hexdigest()[:16]).write_bytes(content)
