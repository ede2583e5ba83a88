"""HTTP between members: a server that no client can exhaust, and a client that no server can delay."""

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from itertools import chain
from types import MappingProxyType

from aiohttp import ClientError, ClientSession, ClientTimeout, DummyCookieJar, TCPConnector, web
from yarl import URL

from host.errors import UnavailableError
from host.faults import unexpected

MAX_ANSWER_BYTES = 1024 * 1024
"""Largest answer that is read."""
ANSWER_SECONDS = 10
"""Time limit of a request, from the first packet to the last byte."""
FIRST_BYTE_SECONDS = 2
"""A connection without a first byte is closed after this time."""
PLACES = 16
"""Connections per pool: all nodes of a member of the largest size may ask at the same moment."""

_TAKEN_SECONDS = 3
_BACKLOG = 128
"""Connections accepted before other tasks run."""
_MAX_REASON = 300
_CHUNK = 64 * 1024

log = logging.getLogger(__name__)


class TooLargeError(Exception):
    """An answer exceeds its limit of bytes."""


@dataclass(frozen=True)
class Answer:
    """A server's answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes


async def listens(address: str) -> bool:
    """Whether `HOST:PORT` takes a TCP connection. Never raises."""
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(_TAKEN_SECONDS):
            _, writer = await asyncio.open_connection(host, port)
            writer.close()
            return True
    except (OSError, TimeoutError, ValueError, OverflowError):
        # A port above 65,535 overflows.
        return False


async def ask(
    url: str,
    context: ssl.SSLContext | bool,
    *,
    method: str = "GET",
    body: bytes | None = None,
    headers: Mapping[str, str] = MappingProxyType({}),
    seconds: float = ANSWER_SECONDS,
    max_bytes: int = MAX_ANSWER_BYTES,
) -> Answer:
    """Send one request on a new connection, so that no VM of the other side is preferred.

    Args:
        url: sent unchanged.
        context: TLS context; True verifies the server as a web site.
        method: HTTP method.
        body: the request's body.
        headers: the request's headers.
        seconds: time limit, from the first packet to the last byte.
        max_bytes: limit of the answer's body.

    Raises:
        UnavailableError: no answer in time. Redirects are not followed.
        TooLargeError: the answer's body exceeds `max_bytes`.
    """
    try:
        async with (
            asyncio.timeout(seconds),
            ClientSession(
                connector=TCPConnector(ssl=context, force_close=True),
                cookie_jar=DummyCookieJar(),
                timeout=ClientTimeout(total=seconds),
                # Not decompressed: a small answer could expand to a huge one.
                auto_decompress=False,
                headers={"Accept-Encoding": "identity"},
            ) as session,
            session.request(
                method, URL(url, encoded=True), data=body, headers=dict(headers), allow_redirects=False
            ) as response,
        ):
            content = bytearray()
            async for chunk in response.content.iter_chunked(_CHUNK):
                content += chunk
                if len(content) > max_bytes:
                    raise TooLargeError(f"{url}: more than {max_bytes} bytes")
            return Answer(response.status, response.headers, bytes(content))
    except TimeoutError as error:
        raise UnavailableError(f"{url}: no answer in {seconds:g} s") from error
    except (ClientError, OSError, ValueError) as error:
        raise UnavailableError(f"{url}: {(str(error) or type(error).__name__)[:_MAX_REASON]}") from error
    except TooLargeError:
        raise
    except Exception as error:
        # On a garbled answer the client may raise anything.
        raise UnavailableError(unexpected(url, error)) from error


async def fetch(url: str, context: ssl.SSLContext, seconds: float = ANSWER_SECONDS) -> bytes:
    """The document at a URL.

    Raises:
        UnavailableError: no answer in time, or another status than 200.
        TooLargeError: the answer exceeds `MAX_ANSWER_BYTES`.
    """
    answer = await ask(url, context, seconds=seconds)
    if answer.status != HTTPStatus.OK:
        raise UnavailableError(f"{url}: status {answer.status}")
    return answer.body


class _Requests(web.Server):
    """Serves one request per connection; knows when a request was read and when a connection ended."""

    def __init__(self, respond: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]) -> None:
        self._respond_to = respond
        self._ended: dict[object, asyncio.Event] = {}
        self._asked: set[object] = set()
        super().__init__(
            self._respond,
            access_log=None,
            # A client's faults are no records of ours: there is no limit of them.
            logger=logging.Logger("", logging.CRITICAL + 1),
            # Else a handler outlives its place.
            handler_cancellation=True,
            # Of a URL's host Python's IDNA takes the square of its length.
            max_line_size=256,
            keepalive_timeout=0,
            lingering_time=0,
            # Not decompressed: a small request could expand to a huge one.
            auto_decompress=False,
        )

    @contextlib.contextmanager
    def expected(self, protocol: object) -> Iterator[asyncio.Event]:
        """Yields an event that is set when the protocol's connection ends."""
        ended = self._ended[protocol] = asyncio.Event()
        try:
            yield ended
        finally:
            del self._ended[protocol]
            self._asked.discard(protocol)

    def asked(self, protocol: object) -> bool:
        """Whether the head of a request was read on the protocol's connection."""
        return protocol in self._asked

    def connection_lost(self, handler: object, exc: BaseException | None = None) -> None:
        super().connection_lost(handler, exc)  # type: ignore[arg-type]
        if ended := self._ended.get(handler):
            ended.set()

    async def _respond(self, request: web.BaseRequest) -> web.StreamResponse:
        self._asked.add(request.protocol)
        response = await self._answer_to(request)
        response.force_close()
        return response

    async def _answer_to(self, request: web.BaseRequest) -> web.StreamResponse:
        texts = (request.raw_path.encode(errors="surrogateescape"), *chain.from_iterable(request.raw_headers))
        if not all(each.isascii() for each in texts):
            return web.Response(status=HTTPStatus.BAD_REQUEST, text="wanted path and headers in ASCII")
        try:
            return await self._respond_to(request)
        except (ConnectionError, TimeoutError):
            raise
        except web.RequestPayloadError as error:
            return web.Response(status=HTTPStatus.BAD_REQUEST, text=f"wanted a whole body: {error}"[:_MAX_REASON])
        except Exception as error:
            unexpected(f"{request.method} of {request.remote}", error)
            return web.Response(status=HTTPStatus.INTERNAL_SERVER_ERROR)


class _BoundedServer:
    """Accepts every connection at once. A full pool drops its oldest connection that has sent no request yet."""

    def __init__(
        self,
        requests: _Requests,
        context: ssl.SSLContext | None,
        seconds: float,
        pool_of: Callable[[str], str],
    ) -> None:
        self._requests, self._context, self._seconds, self._pool_of = requests, context, seconds, pool_of
        self._pools: dict[str, dict[object, asyncio.Task[None]]] = {}
        """The connections of each pool by protocol, oldest first."""
        self._inside: set[asyncio.Task[None]] = set()

    async def keep(self, listener: socket.socket, grace: float) -> None:
        """Accept connections until cancelled; after `grace` seconds more close those that are left."""
        loop, accepted = asyncio.get_running_loop(), 0
        try:
            while True:
                try:
                    # Accepted at once: the kernel's backlog is shared by all clients.
                    connection, (peer, *_) = await loop.sock_accept(listener)
                except OSError as error:
                    log.warning("no connection can be accepted: %s", error)
                    await asyncio.sleep(1)
                    continue
                self._admit(connection, self._pool_of(peer))
                accepted += 1
                if accepted % _BACKLOG == 0:
                    # Accepting a waiting connection does not yield to other tasks.
                    await asyncio.sleep(0)
        finally:
            listener.close()
            if self._inside and grace:
                await asyncio.wait(self._inside, timeout=grace)
            for task in self._inside:
                task.cancel()
            if self._inside:
                await asyncio.wait(self._inside)
            await self._requests.shutdown(0)

    def _admit(self, connection: socket.socket, name: str) -> None:
        pool = self._pools.setdefault(name, {})
        if len(pool) >= PLACES:
            quiet = next((each for each in pool if not self._requests.asked(each)), None)
            if quiet is None:
                connection.close()
                return
            pool.pop(quiet).cancel()
        protocol, handed = self._requests(), asyncio.Event()
        task = asyncio.create_task(self._serve(protocol, connection, handed))
        pool[protocol] = task
        self._inside.add(task)

        def left(task: "asyncio.Task[None]") -> None:
            self._inside.discard(task)
            pool.pop(protocol, None)
            if not pool and self._pools.get(name) is pool:
                del self._pools[name]
            if not handed.is_set():
                connection.close()

        task.add_done_callback(left)

    async def _serve(self, protocol: asyncio.Protocol, connection: socket.socket, handed: asyncio.Event) -> None:
        """Serve a connection. `handed` is set once a transport has it, which then closes it."""
        transport: asyncio.BaseTransport | None = None
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._seconds):
                async with asyncio.timeout(FIRST_BYTE_SECONDS):
                    await _readable(connection)
                handed.set()
                with self._requests.expected(protocol) as ended:
                    transport, _ = await loop.connect_accepted_socket(lambda: protocol, connection, ssl=self._context)
                    await ended.wait()
        except (OSError, TimeoutError) as error:
            log.debug("a connection was cut: %s", str(error) or type(error).__name__)
        finally:
            if isinstance(transport, asyncio.Transport):
                transport.abort()


async def _readable(connection: socket.socket) -> None:
    """Wait for the first byte, or for the end of the stream."""
    loop, came = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(connection, came.set)
    try:
        await came.wait()
    finally:
        loop.remove_reader(connection)


@asynccontextmanager
async def serving_requests(
    respond: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
    context: ssl.SSLContext | None,
    host: str,
    port: int,
    *,
    pool_of: Callable[[str], str] = lambda _: "all",
    seconds: float = ANSWER_SECONDS,
    grace: float = 0,
) -> AsyncIterator[int]:
    """Answer requests for the time of the block; yields the port, which the system chooses for 0.

    Args:
        respond: answers a request.
        context: the server's TLS context; None: plain HTTP.
        host: address to listen on.
        port: TCP port, or 0.
        pool_of: names the pool of an address; its connections share `PLACES`.
        seconds: time limit of a connection.
        grace: seconds for open connections to finish after the block.
    """
    with socket.create_server((host, port), backlog=_BACKLOG) as listener:
        listener.setblocking(False)
        server = _BoundedServer(_Requests(respond), context, seconds, pool_of)
        keeping = asyncio.create_task(server.keep(listener, grace))
        try:
            yield int(listener.getsockname()[1])
        finally:
            keeping.cancel()
            await asyncio.wait({keeping})
