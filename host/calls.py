"""Calls that may block for ever, as on a network file system: in separate threads, one at a time per resource."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, ParamSpec, TypeVar

from typing_extensions import override

from host.errors import UnavailableError

CALL_SECONDS = 60
"""Time limit for the caller."""

_P = ParamSpec("_P")
_T = TypeVar("_T")


class _DaemonThread(Executor):
    """A daemon thread per call: the program's exit would join a pool's threads, and so wait for a blocked call."""

    @override
    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        future = Future[_T]()

        def work() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = fn(*args, **kwargs)
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)

        threading.Thread(target=work, daemon=True).start()
        return future


async def in_new_thread(function: Callable[..., _T], *args: Any) -> _T:
    """Result of a blocking function. The new thread inherits the caller's file system group; a pool's might not."""
    return await asyncio.get_running_loop().run_in_executor(_DaemonThread(), function, *args)


class BoundedCalls:
    """Blocking calls of one resource, at most one at a time.

    A call that hangs occupies only its own thread, so name resolution, lease and health endpoint go on.
    """

    def __init__(self, resource: str) -> None:
        """Args:
        resource: its name, for messages.
        """
        self._resource = resource
        self._outstanding: asyncio.Future[Any] | None = None

    async def __call__(
        self,
        function: Callable[..., _T],
        *args: Any,
        seconds: float | None = CALL_SECONDS,
        late: Callable[[_T], None] | None = None,
    ) -> _T:
        """Call a function in a thread. After the time limit it runs on, and later calls wait for it.

        Args:
            function: the function.
            args: its arguments.
            seconds: time limit, which includes the wait for an earlier call; None for no limit.
            late: called in a thread with a result that came too late for the caller.

        Raises:
            UnavailableError: no result in time.
            Exception: raised by the function; a TimeoutError is the resource's own, as of a socket.
        """
        loop, limit = asyncio.get_running_loop(), asyncio.timeout(seconds)
        try:
            async with limit:
                while self._outstanding and not self._outstanding.done():
                    await asyncio.wait({self._outstanding})
                calling = self._outstanding = loop.run_in_executor(_DaemonThread(), function, *args)
                try:
                    return await asyncio.shield(calling)
                except asyncio.CancelledError:
                    calling.add_done_callback(lambda done: self._abandoned(done, late))
                    raise
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise UnavailableError(f"{self._resource}: no answer in {seconds:g} s") from error

    def _abandoned(self, done: "asyncio.Future[_T]", late: Callable[[_T], None] | None) -> None:
        if not done.cancelled() and done.exception() is None and late:
            # The next call waits for this one too.
            self._outstanding = asyncio.get_running_loop().run_in_executor(_DaemonThread(), late, done.result())
