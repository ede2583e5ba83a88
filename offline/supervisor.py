"""Runs one command on Linux so that none of its processes outlives whoever asked for it. Standard library only.

`python supervisor.py COMMAND...` exits as the command does. When its parent is gone, for whatever reason, or when it
is told to end, it interrupts the command as Ctrl-C would; whatever the command leaves behind is killed.
"""

import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_GRACE_SECONDS = 20


def main(command: list[str]) -> int:
    """Run the command; returns its exit status."""
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)
    # A terminal interrupts the command too, which then ends what it began.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    child = subprocess.Popen(command, preexec_fn=_take_interrupts)  # noqa: S603, PLW1509
    signal.signal(signal.SIGTERM, lambda *_: _end(child))
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    try:
        return child.wait()
    finally:
        _kill_what_is_left()


def _take_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _end(child: subprocess.Popen[bytes]) -> None:
    os.kill(child.pid, signal.SIGINT)
    signal.signal(signal.SIGALRM, lambda *_: os.kill(child.pid, signal.SIGKILL))
    signal.alarm(_GRACE_SECONDS)


def _kill_what_is_left() -> None:
    # What a dead process leaves behind becomes ours, since we are its reaper.
    own = Path(f"/proc/self/task/{os.getpid()}/children")
    while left := own.read_text().split():
        for process in left:
            os.kill(int(process), signal.SIGKILL)
            os.waitpid(int(process), 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
