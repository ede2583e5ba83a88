"""Runs one command on Linux so that none of its processes outlives the supervisor's parent. Standard library only.

`python supervisor.py COMMAND...` exits with the command's status. When its parent ends, for whatever reason, or on
SIGTERM, it interrupts the command as Ctrl-C would; then it kills all processes that the command left running.
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
    """Run the command and end all of its processes; returns the command's exit status."""
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)
    # A terminal's interrupt reaches the command too, which then finishes its running operations.
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
    # Orphaned processes become children of this process, since it is their subreaper.
    own = Path(f"/proc/self/task/{os.getpid()}/children")
    while left := own.read_text().split():
        for process in left:
            os.kill(int(process), signal.SIGKILL)
            os.waitpid(int(process), 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
