"""The network's revocation lists: each bank's VMs fetch, verify and store them, and serve them to their nodes.

A node needs a list before it accepts a connection, and must not depend on the authority's VMs for it. So lists are
valid for months, and each bank stores them. They are signed, so no carrier can change them.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from itertools import pairwise

from aiohttp import web
from cryptography import x509
from cryptography.exceptions import InvalidSignature

from contract.models import OpenModel
from contract.network_info import Base64
from host.bank_documents import Documents
from host.errors import DamagedError, UnavailableError
from host.http import TooLargeError, fetch, serving_requests
from host.service import repeat
from host.tls import client_context
from ledger.corda.certificates import (
    CertificateError,
    CertificateRole,
    Chains,
    RevocationList,
    from_pem,
    read_revocation_list,
    role_of,
    to_pem,
)
from ledger.software import SoftwareError, WaitingError

_ASK_SECONDS = 5.0
"""Longest delay of a start to fetch newer lists than the stored ones."""
_LISTS_SECONDS = 300.0
"""Interval of fetching the lists, and so the delay of a revocation."""
_AHEAD = timedelta(minutes=10)
"""How far ahead of the clock a list's date may be: Java takes no list from more than 15 minutes ahead."""
LISTS_PREFIX = "revocation/"
"""Prefix of the documents' names: one document per list."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class VerifiedList:
    """A revocation list, verified against its issuer."""

    url: str
    """The URL in certificates."""
    issuer: x509.Certificate
    content: bytes
    """DER."""
    parsed: RevocationList

    @staticmethod
    def verified(url: str, issuer: x509.Certificate, content: bytes) -> "VerifiedList":
        """Parse and verify a list in DER. Raises CertificateError: the issuer did not sign it."""
        try:
            return VerifiedList(url, issuer, content, read_revocation_list(content, issuer))
        except CertificateError as error:
            raise CertificateError(f"{url}: {error}") from error

    def to_json(self) -> bytes:
        """The JSON document."""
        stored = _StoredList(url=self.url, issuer=to_pem(self.issuer), content=self.content)
        return stored.model_dump_json(by_alias=True).encode()

    @staticmethod
    def from_json(document: bytes, root: x509.Certificate) -> "VerifiedList":
        """Parse and verify a JSON document. Raises ValueError: it has no list of the root's network."""
        stored = _StoredList.model_validate_json(document)
        _check_issuer(issuer := from_pem(stored.issuer), root)
        return VerifiedList.verified(stored.url, issuer, stored.content)


class _StoredList(OpenModel):
    url: str
    issuer: str
    """PEM."""
    content: Base64


def _check_issuer(issuer: x509.Certificate, root: x509.Certificate) -> None:
    """Raise CertificateError unless a certificate is the network's root or a CA directly below it."""
    try:
        if issuer != root:
            issuer.verify_directly_issued_by(root)
            if role_of(issuer) is not CertificateRole.DOORMAN_CA:
                raise CertificateError(f"role {role_of(issuer)!r}")
    except (InvalidSignature, ValueError, TypeError) as error:
        raise CertificateError(
            f"{issuer.subject.rfc4514_string()} issues no revocation list; wanted the network's root or a CA below it"
        ) from error


def list_url(certificate: x509.Certificate) -> str | None:
    """URL of the list that would revoke the certificate; None if it names none."""
    try:
        points = certificate.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    except (x509.ExtensionNotFound, ValueError):
        return None
    urls = (name.value for point in points for name in point.full_name or ())
    return next((url for url in urls if isinstance(url, str)), None)


def sources_of(chains: Chains) -> dict[str, x509.Certificate]:
    """The lists that an identity's own certificates name: issuers by URL."""
    pairs = [pair for chain in (chains.tls, chains.identity, chains.node_ca) for pair in pairwise(chain)]
    return {url: issuer for each, issuer in pairs if (url := list_url(each))}


class Revocations:
    """A VM's copies of the network's revocation lists. One instance per agent."""

    def __init__(
        self,
        documents: Documents,
        issuers: Callable[[], Awaitable[Mapping[str, x509.Certificate]]],
        *,
        fetch: Callable[[str], Awaitable[bytes]] = lambda url: fetch(url, client_context()),
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Args:
        documents: the bank's documents.
        issuers: asks the authority for the issuers by their lists' URLs. Raises SoftwareError, ResourceError.
        fetch: fetches a URL.
        now: the time of day in UTC.
        """
        self._documents, self._issuers, self._now = documents, issuers, now
        self._fetch = fetch
        self._root: x509.Certificate | None = None
        self._named: dict[str, x509.Certificate] = {}
        """Issuers by URL, as own certificates or the authority named them."""
        self._sources: dict[str, x509.Certificate] = {}
        """The same, and those of stored lists."""
        self._lists: dict[str, VerifiedList] = {}
        self._refreshing: asyncio.Task[None] | None = None
        self._server = AsyncExitStack()
        self._served: int | None = None

    async def follow(self, chains: Chains) -> None:
        """Get the lists that a node with these certificates needs, and keep them current from now on.

        The authority is asked, so that a start knows each revocation; if it does not answer, the stored lists serve.

        Raises:
            WaitingError: a list could never be fetched.
            UnavailableError: the documents do not answer.
        """
        self._root, needed = chains.trust_root, sources_of(chains)
        self._named |= needed
        self._sources |= needed
        await self._load()
        reasons: dict[str, str] = {}
        if needed.keys() - self._lists.keys():
            reasons = await self._fetch_all()
        else:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_ASK_SECONDS):
                    await self._fetch_all()
        if missing := sorted(needed.keys() - self._lists.keys()):
            reason = reasons.get(missing[0], missing[0])
            raise WaitingError(f"{reason}; wanted the network's revocation lists once, from its authority")
        if self._refreshing is None:
            self._refreshing = asyncio.create_task(repeat("revocation lists", self.refresh, _LISTS_SECONDS))

    async def serve(self, host: str, port: int) -> int:
        """Serve the lists as an HTTP proxy, by full URL; returns the port. A second call changes nothing.

        Raises:
            SoftwareError: the address is taken.
        """
        if self._served is None:
            try:
                self._served = await self._server.enter_async_context(
                    serving_requests(self._respond, None, host, port)
                )
            except OSError as error:
                raise SoftwareError(f"revocation lists can't be served at {host}:{port}: {error}") from error
        return self._served

    def revoked(self, certificates: Iterable[x509.Certificate]) -> bool:
        """Whether one of the certificates is on its issuer's list."""
        return any(
            each.serial_number in known.parsed.serials and each.issuer == known.issuer.subject
            for each in certificates
            for known in self._lists.values()
        )

    @property
    def serials(self) -> frozenset[tuple[str, int]]:
        """The revoked certificates: (list's URL, serial number)."""
        return frozenset((url, serial) for url, known in self._lists.items() for serial in known.parsed.serials)

    @property
    def age(self) -> timedelta | None:
        """Age of the oldest list that is signed daily; None before there is one.

        Excluded: the root's, whose offline key signs a list per year, and that of a revoked CA, which gets no more.
        """
        ages = [
            self._now() - each.parsed.since
            for each in self._lists.values()
            if each.issuer != self._root and not self.revoked([each.issuer])
        ]
        return max(ages, default=None)

    async def refresh(self) -> None:
        """Take newer lists from the bank's documents and from the authority.

        Raises UnavailableError if the documents do not answer, after asking the authority.
        """
        try:
            await self._load()
        finally:
            for reason in (await self._fetch_all()).values():
                log.warning("revocation lists: %s; goes on with the last one", reason)

    async def _load(self) -> None:
        assert self._root  # noqa: S101
        for name in await self._documents.names(LISTS_PREFIX):
            if found := await self._documents.read(name):
                try:
                    known = VerifiedList.from_json(found.content, self._root)
                except ValueError as error:
                    log.warning("document %s: %s", name, error)
                    continue
                # One URL has one issuer: another issuer's genuine list would make nodes refuse everybody.
                own = self._sources.setdefault(known.url, known.issuer) == known.issuer
                if own and self._newer(known) and not self._untimely(known):
                    self._lists[known.url] = known

    async def _fetch_all(self) -> dict[str, str]:
        """Fetch every list; returns the reasons of failures by URL."""
        assert self._root  # noqa: S101
        others = 0
        try:
            for url, issuer in (await self._issuers()).items():
                _check_issuer(issuer, self._root)
                if any((each == url) != (its == issuer) for each, its in self._named.items()):
                    # An authority that others control could name ever more lists, or another issuer's.
                    others += 1
                    continue
                self._named[url] = self._sources[url] = issuer
                if url in self._lists and self._lists[url].issuer != issuer:
                    del self._lists[url]
        except (SoftwareError, CertificateError, UnavailableError, DamagedError) as error:
            log.debug("which revocation lists there are: %s", error)
        if others:
            log.warning("the authority names %d other revocation lists; wanted one of each issuer", others)
        urls = tuple(self._sources)
        reasons = await asyncio.gather(*(self._fetch_one(url, self._sources[url]) for url in urls))
        return {url: reason for url, reason in zip(urls, reasons, strict=True) if reason}

    async def _fetch_one(self, url: str, issuer: x509.Certificate) -> str | None:
        try:
            found = VerifiedList.verified(url, issuer, await self._fetch(url))
            if self._untimely(found):
                return f"{url}: list {found.parsed.number} of {found.parsed.since:%F %T}; wanted one for today"
            if self._newer(found):
                self._lists[url] = found
                log.info("revocation list %d of %s", found.parsed.number, issuer.subject.rfc4514_string())
                await self._store(found)
        except (CertificateError, UnavailableError, TooLargeError) as error:
            return str(error)
        known = self._lists[url]
        if found.parsed.number < known.parsed.number:
            return f"{url}: list {found.parsed.number}; wanted {known.parsed.number}, which was known, or a later one"
        return None

    async def _store(self, found: VerifiedList) -> None:
        """Store a list in the bank's documents. Another VM that writes first stores one of the same minutes."""
        name = LISTS_PREFIX + found.url.removeprefix("http://").replace("/", "-")
        stored = await self._documents.read(name)
        await self._documents.write(name, found.to_json(), stored.etag if stored else None)

    def _newer(self, found: VerifiedList) -> bool:
        known = self._lists.get(found.url)
        return known is None or found.parsed.number > known.parsed.number

    def _untimely(self, found: VerifiedList) -> bool:
        """Whether a list is of the future or has ended, by a wrong clock: nodes with it would refuse everybody."""
        now, ends = self._now(), found.parsed.ends
        return found.parsed.since > now + _AHEAD or ends is None or ends < now

    async def _respond(self, request: web.BaseRequest) -> web.StreamResponse:
        # Whatever URL a certificate names, a node gets only these lists.
        found = self._lists.get(request.raw_path)
        if found is None or request.method != "GET":
            return web.Response(status=HTTPStatus.NOT_FOUND)
        return web.Response(body=found.content, content_type="application/pkix-crl")
