"""How `/networkinfo` gets from member to member: a server that none can exhaust, a client that none can hold up.

A network authority's requests are served by the same server.
"""

import asyncio
import contextlib
import logging
import socket
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from http import HTTPStatus

from aiohttp import ClientError, ClientSession, DummyCookieJar, TCPConnector, web

from agent.fence import UnavailableError
from agent.ports import NETWORK_INFO_PATH

MAX_ANSWER_BYTES = 1024 * 1024
ANSWER_SECONDS = 10
"""All of a request, from the first packet to the last byte."""
CONNECTIONS = 64
CONNECTIONS_OF_ONE = 8
"""So many at once of one address: a peer can shut out itself, and nobody else."""

_BACKLOG = 128
_CHUNK = 64 * 1024

log = logging.getLogger(__name__)


class TooLargeError(Exception):
    """An answer has more bytes than any proper one."""


async def fetch(url: str, context: ssl.SSLContext, seconds: float = ANSWER_SECONDS) -> bytes:
    """What a peer answers: one connection for one request, so that no VM of the peer is clung to.

    Raises:
        UnavailableError: no answer, or none in time, or one of another status than 200; redirects are not followed.
        TooLargeError: the answer is above `MAX_ANSWER_BYTES`.
    """
    try:
        async with (
            asyncio.timeout(seconds),
            ClientSession(
                connector=TCPConnector(ssl=context, force_close=True),
                cookie_jar=DummyCookieJar(),
                # What unpacks to more than it seems is not unpacked at all.
                auto_decompress=False,
                headers={"Accept-Encoding": "identity"},
            ) as session,
            session.get(url, allow_redirects=False) as response,
        ):
            if response.status != HTTPStatus.OK:
                raise UnavailableError(f"{url}: status {response.status}")
            content = bytearray()
            async for chunk in response.content.iter_chunked(_CHUNK):
                content += chunk
                if len(content) > MAX_ANSWER_BYTES:
                    raise TooLargeError(f"{url}: more than {MAX_ANSWER_BYTES} bytes")
            return bytes(content)
    except TimeoutError as error:
        raise UnavailableError(f"{url}: no answer in {seconds:g} s") from error
    except (ClientError, OSError, ValueError) as error:
        raise UnavailableError(f"{url}: {str(error) or type(error).__name__}") from error


class _Requests(web.Server):
    """Serves one request a connection, and says when a connection has ended."""

    def __init__(self, respond: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]) -> None:
        self._respond_to = respond
        self._ended: dict[object, asyncio.Event] = {}
        super().__init__(self._respond, access_log=None, keepalive_timeout=0, lingering_time=0)

    @contextlib.contextmanager
    def expected(self, protocol: object) -> Iterator[asyncio.Event]:
        """Set once the protocol's connection has ended, which it may never have begun."""
        ended = self._ended[protocol] = asyncio.Event()
        try:
            yield ended
        finally:
            del self._ended[protocol]

    def connection_lost(self, handler: object, exc: BaseException | None = None) -> None:
        super().connection_lost(handler, exc)  # type: ignore[arg-type]
        if ended := self._ended.get(handler):
            ended.set()

    async def _respond(self, request: web.BaseRequest) -> web.StreamResponse:
        response = await self._respond_to(request)
        response.force_close()
        return response


class _Door:
    """Lets connections in, so many at once as there are places."""

    def __init__(self, requests: _Requests, context: ssl.SSLContext | None, seconds: float) -> None:
        self._requests, self._context, self._seconds = requests, context, seconds
        self._places, self._of_one = asyncio.Semaphore(CONNECTIONS), Counter[str]()
        self._inside: set[asyncio.Task[None]] = set()

    async def keep(self, listener: socket.socket, grace: float) -> None:
        """Accept connections until cancelled, then cut those that there are still after so many seconds."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                # Those beyond it wait in the kernel, and use up nothing of the agent's.
                await self._places.acquire()
                try:
                    connection, (peer, *_) = await loop.sock_accept(listener)
                except OSError as error:
                    self._places.release()
                    log.warning("no connection can be accepted: %s", error)
                    await asyncio.sleep(1)
                    continue
                self._admit(connection, peer)
        finally:
            listener.close()
            if self._inside and grace:
                await asyncio.wait(self._inside, timeout=grace)
            for task in self._inside:
                task.cancel()
            if self._inside:
                await asyncio.wait(self._inside)
            await self._requests.shutdown(0)

    def _admit(self, connection: socket.socket, peer: str) -> None:
        if self._of_one[peer] >= CONNECTIONS_OF_ONE:
            connection.close()
            self._places.release()
            return
        self._of_one[peer] += 1
        task = asyncio.create_task(self._serve(connection))
        self._inside.add(task)

        def left(task: "asyncio.Task[None]") -> None:
            self._inside.discard(task)
            self._of_one[peer] -= 1
            if not self._of_one[peer]:
                del self._of_one[peer]
            self._places.release()

        task.add_done_callback(left)

    async def _serve(self, connection: socket.socket) -> None:
        transport: asyncio.BaseTransport | None = None
        protocol, loop = self._requests(), asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._seconds):
                with self._requests.expected(protocol) as ended:
                    transport, _ = await loop.connect_accepted_socket(lambda: protocol, connection, ssl=self._context)
                    await ended.wait()
        except (OSError, TimeoutError) as error:
            log.debug("a connection was cut: %s", str(error) or type(error).__name__)
        finally:
            if isinstance(transport, asyncio.Transport):
                transport.abort()


@asynccontextmanager
async def serving(
    answer: Callable[[], bytes | None],
    context: ssl.SSLContext,
    host: str,
    port: int,
    *,
    seconds: float = ANSWER_SECONDS,
) -> AsyncIterator[int]:
    """Answer GET `NETWORK_INFO_PATH` for as long as the block lasts; gives the port, which the system chooses for 0.

    Args:
        answer: the document at this moment; None while there is none.
        context: what the server shows.
        host: address to listen on.
        port: TCP port, or 0.
        seconds: after so long a connection is cut, whatever it does.
    """

    async def respond(request: web.BaseRequest) -> web.StreamResponse:
        if request.path != NETWORK_INFO_PATH:
            return web.Response(status=HTTPStatus.NOT_FOUND)
        if request.method != "GET":
            return web.Response(status=HTTPStatus.METHOD_NOT_ALLOWED, headers={"Allow": "GET"})
        if (content := answer()) is None:
            # To have read nothing yet is not the same as to have nothing.
            return web.Response(status=HTTPStatus.SERVICE_UNAVAILABLE)
        return web.Response(body=content, content_type="application/json")

    async with serving_requests(respond, context, host, port, seconds=seconds) as served:
        yield served


@asynccontextmanager
async def serving_requests(
    respond: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
    context: ssl.SSLContext | None,
    host: str,
    port: int,
    *,
    seconds: float = ANSWER_SECONDS,
    grace: float = 0,
) -> AsyncIterator[int]:
    """The same for any requests; without a context there is no TLS, and what has begun has `grace` seconds to end."""
    with socket.create_server((host, port), backlog=_BACKLOG) as listener:
        listener.setblocking(False)
        keeping = asyncio.create_task(_Door(_Requests(respond), context, seconds).keep(listener, grace))
        try:
            yield int(listener.getsockname()[1])
        finally:
            keeping.cancel()
            await asyncio.wait({keeping})
