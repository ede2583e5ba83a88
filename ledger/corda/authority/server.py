"""The authority's two servers: for members' requests, and for the revocation lists.

TLS authenticates nobody (`host.tls`): a request is authenticated by the member's enrolment key, and the proof of its
answer is bound to its nonce.
"""

import logging
import re
import zipfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from http import HTTPStatus
from io import BytesIO

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from host.errors import DamagedError, UnavailableError
from host.http import serving_requests
from host.pools import MemberPools
from host.tls import server_context
from ledger.corda import proof
from ledger.corda.authority.authority import Authority, RequestRefusedError, TooManyRequestsError
from ledger.corda.authority.register import request_id

MAX_REQUEST_BYTES = 16_384
"""Limit of a request's body; a certificate request has about 500 bytes."""

_MEMBER = re.compile(r"[0-9a-zA-Z-]{1,64}")
_NONCE = re.compile(rf"[0-9a-f]{{{2 * proof.NONCE_BYTES}}}")
_TIME = re.compile(r"[0-9]{1,12}")
_POLL = {"Cache-Control": "max-age=60"}
"""Poll interval for clients of Corda's protocol."""

log = logging.getLogger(__name__)


class Requests:
    """Handles members' requests."""

    def __init__(self, authority: Authority) -> None:
        self._authority = authority

    async def respond(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request; never raises for bad input."""
        body = await _body(request)
        if body is None:
            return _plain(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"wanted {MAX_REQUEST_BYTES} bytes at most")
        member, nonce, time, given = (
            request.headers.get(name, "") for name in (proof.MEMBER, proof.NONCE, proof.TIME, proof.REQUEST_PROOF)
        )
        # Refusals up to here carry no proof, since the sender is not authenticated.
        if not (_MEMBER.fullmatch(member) and _NONCE.fullmatch(nonce) and _TIME.fullmatch(time)):
            return _plain(HTTPStatus.UNAUTHORIZED, "wanted a member's request, proven by its enrolment key")
        path = request.raw_path
        prove = partial(
            proof.request_proof, member=member, method=request.method, path=path, nonce=nonce, time=time, body=body
        )
        try:
            key = await self._proving(member, lambda key: proof.equal(given, prove(key)))
        except (UnavailableError, DamagedError) as error:
            log.info("%s", error)
            return _plain(HTTPStatus.SERVICE_UNAVAILABLE, "the authority's vault is unavailable")
        if key is None:
            # Not a warning: anybody could fill the workspace, which collects warnings.
            log.info("a request in the name of %s from %s is not proven", member, request.remote)
            return _plain(HTTPStatus.UNAUTHORIZED, "wanted a member's request, proven by its enrolment key")
        status, content, headers = await self._proven(member, int(time), request.method, path, body)
        headers = {
            **headers,
            proof.ANSWER_PROOF: proof.answer_proof(key, member=member, nonce=nonce, status=status, body=content),
        }
        return web.Response(status=status, body=content, headers=headers)

    async def _proving(self, member: str, proves: Callable[[bytes], bool]) -> bytes | None:
        """The member's key if it proves the request. Counts a request that the newest keys do not prove."""
        members = self._authority.members
        key = await members.key(member)
        if key and proves(key):
            return key
        # A member may have joined, or changed its key, since the vault was read.
        newest = await members.look_again()
        key = await members.key(member)
        if key and proves(key):
            return key
        self._authority.unproven += newest
        return None

    async def _proven(
        self, member: str, time: int, method: str, path: str, body: bytes
    ) -> tuple[HTTPStatus, bytes, dict[str, str]]:
        if (apart := abs(self._authority.now().timestamp() - time)) > proof.CLOCK_SECONDS:
            reason = f"the clocks are {apart:.0f} s apart; wanted {proof.CLOCK_SECONDS} at most"
            return (*_text(HTTPStatus.BAD_REQUEST, reason), {})
        try:
            self._authority.accept(member)
            return await self._answer(member, method, path, body)
        except RequestRefusedError as error:
            # Corda's clients treat 401 as a rejection.
            refused = HTTPStatus.FORBIDDEN if method == "POST" else HTTPStatus.UNAUTHORIZED
            status = HTTPStatus.TOO_MANY_REQUESTS if isinstance(error, TooManyRequestsError) else refused
            return (*_text(status, str(error)), {})
        except LookupError:
            return (*_text(HTTPStatus.NOT_FOUND, "no such request; wanted an id that this member was given"), {})
        except (UnavailableError, DamagedError) as error:
            log.warning("%s %s of %s: %s", method, path, member, error)
            return (*_text(HTTPStatus.SERVICE_UNAVAILABLE, "the authority's vault or register is unavailable"), {})

    async def _answer(
        self, member: str, method: str, path: str, body: bytes
    ) -> tuple[HTTPStatus, bytes, dict[str, str]]:
        if (method, path) == ("POST", "/certificate"):
            return (*_text(HTTPStatus.OK, await self._authority.request(member, body)), {})
        if (method, path) == ("GET", "/network"):
            network = await self._authority.network()
            content = network.model_dump_json(by_alias=True).encode()
            return HTTPStatus.OK, content, {"Content-Type": "application/json"}
        if method == "GET" and path.startswith("/certificate/"):
            try:
                identifier = request_id(path.removeprefix("/certificate/"))
            except ValueError as error:
                raise LookupError(path) from error
            chain = await self._authority.answer(member, identifier)
            if chain is None:
                return HTTPStatus.NO_CONTENT, b"", _POLL
            return HTTPStatus.OK, zipped(chain), {"Content-Type": "application/zip"}
        return (*_text(HTTPStatus.NOT_FOUND, "wanted /certificate, /certificate/ID or /network"), {})


class RevocationLists:
    """Handles requests for revocation lists, from anybody: each list is signed."""

    def __init__(self, authority: Authority) -> None:
        self._authority = authority

    async def respond(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request; never raises for bad input."""
        issuer = request.path.removeprefix("/").removesuffix(".crl")
        if request.path != f"/{issuer}.crl":
            issuer = ""
        if request.method not in {"GET", "HEAD"}:
            return _plain(HTTPStatus.METHOD_NOT_ALLOWED, "wanted GET")
        try:
            content = await self._authority.crl(issuer)
        except LookupError as error:
            return _plain(HTTPStatus.NOT_FOUND, str(error.args[0]))
        except (UnavailableError, DamagedError) as error:
            log.info("%s", error)
            return _plain(HTTPStatus.SERVICE_UNAVAILABLE, "the authority's register is unavailable")
        return web.Response(body=content, content_type="application/pkix-crl")


@asynccontextmanager
async def serving(
    authority: Authority, host: str, requests_port: int, lists_port: int, *, grace: float = 0
) -> AsyncIterator[tuple[int, int]]:
    """Serve requests and revocation lists for the time of the block; yields the two ports.

    Args:
        authority: decides on the requests.
        host: address to listen on.
        requests_port: TCP port for requests; the system chooses one for 0.
        lists_port: TCP port for the lists, likewise.
        grace: seconds for open requests to finish after the block.
    """
    requests, lists = Requests(authority), RevocationLists(authority)
    pools = MemberPools(authority.address_space, authority.members.peers)
    async with (
        pools.reading(),
        serving_requests(lists.respond, None, host, lists_port, pool_of=pools.pool_of, grace=grace) as lists_chosen,
        serving_requests(
            requests.respond, server_context(), host, requests_port, pool_of=pools.pool_of, grace=grace
        ) as requests_chosen,
    ):
        yield requests_chosen, lists_chosen


def zipped(chain: Sequence[x509.Certificate]) -> bytes:
    """A zip of certificates in DER, as Corda's protocol sends them."""
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for index, each in enumerate(chain):
            archive.writestr(f"{index}.cer", each.public_bytes(Encoding.DER))
    return packed.getvalue()


async def _body(request: web.BaseRequest) -> bytes | None:
    """A request's body; None if it exceeds `MAX_REQUEST_BYTES`."""
    content = b""
    async for chunk in request.content.iter_chunked(MAX_REQUEST_BYTES):
        content += chunk
        if len(content) > MAX_REQUEST_BYTES:
            return None
    return content


def _text(status: HTTPStatus, text: str) -> tuple[HTTPStatus, bytes]:
    return status, text.encode()


def _plain(status: HTTPStatus, text: str) -> web.Response:
    return web.Response(status=status, text=text)
