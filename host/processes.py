"""Child processes under users without rights, which end with their parent."""

import asyncio
import contextlib
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from contract.users import CONFINED, MAX_TASKS
from host.calls import in_new_thread
from host.errors import UnavailableError

RUN_SECONDS = 9
"""Time limit of each of six steps that remove a node's two folders; together below `host.calls.CALL_SECONDS`."""
MAX_OUTPUT_BYTES = 16 << 20
"""Most that a process may print, since it is read to memory; a sixteenth of that to standard error."""
_SHARED = 0o007
"""umask: the group may use new files, since the agent accesses them as the group."""


def confined(argv: Sequence[str], user: int | None, tasks: int | None = None) -> tuple[str, ...]:
    """A command line that runs without rights and is killed by the kernel if its parent dies.

    Args:
        argv: the command.
        user: number of its user and group; None keeps the caller's.
        tasks: limit of the user's processes and threads; None keeps the caller's.
    """
    rights = (
        ()
        if user is None
        else ("--reuid", f"{user}", "--regid", f"{user}", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all")
    )
    limit = () if tasks is None else ("prlimit", f"--nproc={tasks}", "--")
    # Both of util-linux. The signal for the parent's death survives exec.
    return (*limit, "setpriv", *rights, "--no-new-privs", "--pdeathsig", "KILL", "--", *argv)


async def start(
    argv: Sequence[str],
    user: int | None,
    *,
    environment: Mapping[str, str],
    folder: Path,
    stdin: int = subprocess.DEVNULL,
    stdout: int | None = None,
    stderr: int | None = None,
    pass_fds: Sequence[int] = (),
) -> asyncio.subprocess.Process:
    """Start a confined process in a new session. Raises OSError."""
    return await asyncio.create_subprocess_exec(
        *confined(argv, user, None if user is None else MAX_TASKS),
        env=dict(environment),
        cwd=folder,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        pass_fds=pass_fds,
        start_new_session=True,
        umask=-1 if user is None else _SHARED,
    )


async def run_to_end(
    argv: Sequence[str],
    user: int | None,
    *,
    environment: Mapping[str, str],
    folder: Path = Path("/"),
    given: str = "",
) -> tuple[int, bytes, list[str]]:
    """Run a confined process, which a cancellation kills; returns its exit status, output, and lines of errors.

    Raises:
        OSError: it can't be started.
        ValueError: it prints too much.
    """
    pipe = subprocess.PIPE
    process = await start(argv, user, environment=environment, folder=folder, stdin=pipe, stdout=pipe, stderr=pipe)
    assert process.stdin and process.stdout and process.stderr  # noqa: S101, PT018
    try:
        process.stdin.write(given.encode())
        process.stdin.write_eof()
        output, errors = await asyncio.gather(
            _whole(process.stdout, MAX_OUTPUT_BYTES), _whole(process.stderr, MAX_OUTPUT_BYTES >> 4)
        )
        await process.wait()
    finally:
        # `close` would wait until somebody reads the rest.
        if process.stdin.transport.get_write_buffer_size():
            process.stdin.transport.abort()
        # Kills it, and closes the pipes, which other processes may hold open.
        process._transport.close()  # type: ignore[attr-defined]
        status = await process.wait()
    return status, output, errors.decode(errors="replace").splitlines()


async def _whole(stream: asyncio.StreamReader, most: int) -> bytes:
    try:
        await stream.readexactly(most)
    except asyncio.IncompleteReadError as whole:
        return whole.partial
    raise ValueError(f"{most} bytes printed; wanted less")


async def end_all(user: int) -> None:
    """Kill every process of a confined user, in whatever process group.

    Raises:
        UnavailableError: they may still run.
    """
    try:
        # As the user, who can signal only its own processes; without the limit of tasks, which may be reached.
        await in_new_thread(_run, ("sh", "-c", "kill -s KILL -- -1"), user)
    except OSError as error:
        raise UnavailableError(f"processes of user {user}: {error}; wanted all of them killed") from error


def open_up(folder: Path, user: int) -> None:
    """Make a confined user's files in a folder readable for the group; best effort, and blocking."""
    with contextlib.suppress(OSError):
        # chmod follows no link below the folder.
        _run(("chmod", "--recursive", "--silent", "ug+rwX", "--", str(folder)), user)


def remove(folder: Path) -> None:
    """Remove a folder, if it exists, with everything a confined user made below it, however deep; blocking.

    Raises:
        OSError: a part is left.
    """
    # Not shutil.rmtree: a node can make paths too long for it, or too deep for its stack.
    removal = ("rm", "--recursive", "--force", "--one-file-system", "--", str(folder))
    if folder.exists() and (user := folder.stat().st_gid) in CONFINED:
        open_up(folder, user)
        # The user removes its own files first: it may have denied the group access to them.
        with contextlib.suppress(OSError):
            _run(removal, user)
        with contextlib.suppress(OSError):
            _run(_sweep(user), user)
    _run(removal, None)


def _sweep(user: int) -> tuple[str, ...]:
    """Removes what a user left for the machine's next node."""
    own = ("-mindepth", "1", "-maxdepth", "1", "-user", str(user))
    # chmod follows links.
    unlocked = ("(", "-type", "l", "-o", "-exec", "chmod", "--recursive", "--silent", "u+rwX", "{}", "+", ")")
    return ("find", "/dev/shm", "/tmp", *own, *unlocked, "-exec", "rm", "--recursive", "--force", "{}", "+")  # noqa: S108


def _run(argv: Sequence[str], user: int | None) -> None:
    try:
        subprocess.run(  # noqa: S603
            confined(argv, user),
            check=True,
            timeout=RUN_SECONDS,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            # Not the agent's environment, which the user's processes could read.
            env={"PATH": os.defpath, "LC_ALL": "C"},
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        said = " ".join((error.stderr or b"").decode(errors="replace").split())[:300]
        raise OSError(said or f"{argv[0]}: {error}") from error
