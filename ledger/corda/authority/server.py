"""Answers members' requests and serves the revocation lists.

TLS here proves nobody (`agent.tls`): a request is a member's because the member's enrolment key proves it, and it
counts once.
"""

import logging
import re
import zipfile
from collections.abc import Sequence
from http import HTTPStatus
from io import BytesIO

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from agent.fence import DamagedError, UnavailableError
from ledger.corda import proof
from ledger.corda.authority.authority import CRLS, Authority, RefusedError

MAX_REQUEST_BYTES = 16_384
"""A certificate request has about 500."""

_MEMBER = re.compile(r"[0-9a-zA-Z-]{1,64}")
_NONCE = re.compile(rf"[0-9a-f]{{{2 * proof.NONCE_BYTES}}}")
_TIME = re.compile(r"[0-9]{1,12}")
_POLL = {"Cache-Control": "max-age=60"}
"""When a client of Corda's protocol asks again."""

log = logging.getLogger(__name__)


class Requests:
    """Answers members."""

    def __init__(self, authority: Authority) -> None:
        self._authority = authority

    async def respond(self, request: web.BaseRequest) -> web.StreamResponse:
        """The answer to any request."""
        body = await _body(request)
        if body is None:
            return _plain(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"wanted {MAX_REQUEST_BYTES} bytes at most")
        member, nonce, time, given = (
            request.headers.get(name, "") for name in (proof.MEMBER, proof.NONCE, proof.TIME, proof.REQUEST_PROOF)
        )
        # What is refused up to here gets no proof: nobody is proven to have asked.
        if not (_MEMBER.fullmatch(member) and _NONCE.fullmatch(nonce) and _TIME.fullmatch(time)):
            return _plain(HTTPStatus.UNAUTHORIZED, "wanted a member's request, proven by its enrolment key")
        try:
            key = await self._authority.members.key(member)
        except (UnavailableError, DamagedError) as error:
            log.warning("%s", error)
            return _plain(HTTPStatus.SERVICE_UNAVAILABLE, "the authority's vault is away")
        path = request.raw_path
        wanted = key and proof.request_proof(
            key, member=member, method=request.method, path=path, nonce=nonce, time=time, body=body
        )
        if not key or not wanted or not proof.equal(given, wanted):
            log.warning("a request in the name of %s from %s is not proven", member, request.remote)
            return _plain(HTTPStatus.UNAUTHORIZED, "wanted a member's request, proven by its enrolment key")
        status, content, headers = await self._proven(member, nonce, int(time), request.method, path, body)
        if status == HTTPStatus.CONFLICT:
            # Whoever sends a request again is told nothing that is proven.
            return _plain(status, "this nonce was used before")
        headers = {
            **headers,
            proof.ANSWER_PROOF: proof.answer_proof(key, member=member, nonce=nonce, status=status, body=content),
        }
        return web.Response(status=status, body=content, headers=headers)

    async def _proven(  # noqa: PLR0917
        self, member: str, nonce: str, time: int, method: str, path: str, body: bytes
    ) -> tuple[HTTPStatus, bytes, dict[str, str]]:
        if (apart := abs(self._authority.now().timestamp() - time)) > proof.CLOCK_SECONDS:
            return (*_text(HTTPStatus.BAD_REQUEST, f"the clocks are {apart:.0f} s apart; wanted 300 at most"), {})
        try:
            if not await self._authority.take(nonce, member, time):
                return HTTPStatus.CONFLICT, b"", {}
            return await self._answer(member, method, path, body)
        except RefusedError as error:
            # Corda's clients take 401 for a rejection.
            status = HTTPStatus.FORBIDDEN if method == "POST" else HTTPStatus.UNAUTHORIZED
            return (*_text(status, str(error)), {})
        except LookupError:
            return (*_text(HTTPStatus.NOT_FOUND, "no such request; wanted an id that this member was given"), {})
        except (UnavailableError, DamagedError) as error:
            log.warning("%s %s of %s: %s", method, path, member, error)
            return (*_text(HTTPStatus.SERVICE_UNAVAILABLE, "the authority's vault or register is away"), {})

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
            chain = await self._authority.answer(member, path.removeprefix("/certificate/"))
            if chain is None:
                return HTTPStatus.NO_CONTENT, b"", _POLL
            return HTTPStatus.OK, zipped(chain), {"Content-Type": "application/zip"}
        return (*_text(HTTPStatus.NOT_FOUND, "wanted /certificate, /certificate/ID or /network"), {})


class RevocationLists:
    """Serves the revocation lists to anybody: each is signed."""

    def __init__(self, authority: Authority) -> None:
        self._authority = authority

    async def respond(self, request: web.BaseRequest) -> web.StreamResponse:
        """The answer to any request."""
        issuer = request.path.removeprefix("/").removesuffix(".crl")
        if request.path != f"/{issuer}.crl" or issuer not in CRLS:
            return _plain(HTTPStatus.NOT_FOUND, f"wanted {', '.join(f'/{each}.crl' for each in CRLS)}")
        if request.method not in {"GET", "HEAD"}:
            return _plain(HTTPStatus.METHOD_NOT_ALLOWED, "wanted GET")
        try:
            content = await self._authority.crl(issuer)
        except (UnavailableError, DamagedError) as error:
            log.warning("%s", error)
            return _plain(HTTPStatus.SERVICE_UNAVAILABLE, "the authority's register is away")
        return web.Response(body=content, content_type="application/pkix-crl")


def zipped(chain: Sequence[x509.Certificate]) -> bytes:
    """Certificates as Corda's protocol sends them."""
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for index, each in enumerate(chain):
            archive.writestr(f"{index}.cer", each.public_bytes(Encoding.DER))
    return packed.getvalue()


async def _body(request: web.BaseRequest) -> bytes | None:
    """What came with a request; None if it is too much."""
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
