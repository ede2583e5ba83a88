"""The system call filter of a systemd unit, applied to this process and what it becomes.

`python -m tests.processes.seccomp UNIT COMMAND...` reads the unit's SystemCallFilter and SystemCallErrorNumber as
systemd does, and `systemd-analyze` says what its groups are.
"""

import ctypes
import errno
import os
import platform
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path

NUMBERS = next(
    (
        path
        for path in map(Path, ("/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "/usr/include/asm/unistd_64.h"))
        if path.exists()
    ),
    None,
)
"""The kernel's header; None where it is not installed."""
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _MODE_FILTER = 38, 22, 2
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000


def restrictable() -> bool:
    """Whether this machine has the requirements."""
    return bool(NUMBERS and platform.machine() == "x86_64" and shutil.which("systemd-analyze"))


def group(name: str) -> set[str]:
    """Names of the system calls of a group such as `@system-service`."""
    listed = subprocess.run(
        ["systemd-analyze", "syscall-filter", "--no-pager", name], capture_output=True, text=True, check=True
    )
    members = [line.strip() for line in listed.stdout.splitlines() if line.startswith("    ")]
    calls = {each for each in members if re.fullmatch(r"[a-z0-9_]+", each)}
    for each in members:
        if each.startswith("@"):
            calls |= group(each)
    return calls


def allowed(unit: str) -> set[str]:
    """The system calls that a unit allows: its lines add calls, those with a tilde remove them."""
    calls: set[str] = set()
    for line in re.findall(r"^SystemCallFilter=(.*)$", unit, re.MULTILINE):
        for name in line.removeprefix("~").split():
            named = group(name) if name.startswith("@") else {name}
            calls = calls - named if line.startswith("~") else calls | named
    # systemd needs these itself to start the program.
    return calls | {"execve", "exit", "exit_group", "rt_sigreturn"}


def apply(unit: str) -> None:
    """Refuse all other calls from now on, with the unit's error."""
    assert NUMBERS
    numbers = {name: int(number) for name, number in re.findall(r"#define __NR_(\w+)\s+(\d+)", NUMBERS.read_text())}
    (refusal,) = re.findall(r"^SystemCallErrorNumber=(\w+)$", unit, re.MULTILINE)
    code = [struct.pack("HBBI", _LOAD, 0, 0, 0)]
    for name in sorted(allowed(unit) & set(numbers)):
        code.append(struct.pack("HBBI", _EQUAL, 0, 1, numbers[name]))
        code.append(struct.pack("HBBI", _RETURN, 0, 0, _ALLOW))
    code.append(struct.pack("HBBI", _RETURN, 0, 0, _ERRNO | getattr(errno, refusal)))
    program = ctypes.create_string_buffer(b"".join(code))
    argument = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(code), ctypes.addressof(program)))
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in (
        (_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
        (_PR_SET_SECCOMP, _MODE_FILTER, ctypes.addressof(argument), 0, 0),
    ):
        if libc.prctl(*(ctypes.c_ulong(each) for each in arguments)):
            raise OSError(ctypes.get_errno(), f"prctl{arguments[:2]}")


if __name__ == "__main__":
    apply(Path(sys.argv[1]).read_text())
    os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606
