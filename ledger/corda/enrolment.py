"""How a node gets its certificates and the network's parameters: from the network's authority, or from a zone.

Both speak the protocol of Corda's registration service: a PKCS#10 request is posted, its id is asked for until
there is an answer. With the authority each message is proven besides (`ledger.corda.proof`). Certificates are public:
they are kept in the bank's documents, so whichever VM holds the identity next finds them there.
"""

import asyncio
import base64
import io
import json
import logging
import re
import secrets
import zipfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from aiohttp import ClientError, ClientSession, ClientTimeout, DummyCookieJar, TCPConnector
from cryptography import x509
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel
from yarl import URL

from agent.fence import DamagedError, UnavailableError
from ledger.corda import proof
from ledger.corda.certificates import (
    IDENTITY_KEY,
    NODE_CA_KEY,
    TLS_KEY,
    CertificateError,
    Chains,
    Role,
    check_chain,
    check_root,
    fingerprint,
    from_pem,
    issue,
    issue_rpc,
    key_hash,
    make_request,
    read_key,
    renewal_time,
    serves,
    to_pem,
)
from ledger.platform import Identity
from ledger.software import Authority, Document, SoftwareError, Surroundings, WaitingError, Zone

MAX_BYTES = 1_000_000
"""The largest answer that is read."""
ANSWER_SECONDS = 10.0
RENEWAL_SECONDS = 3600.0
"""How long to wait after a renewal that failed; the certificates at hand do until then."""
TRUST_ROOT = "trust-root"
"""The document with the network's root certificate, PEM: the first one that the authority proved to be its own."""
NETWORK_DOCUMENT = "network-document"
"""The document with the network's signed parameters, as nodes read them."""
NETWORK_SCHEMA = "1.0"
"""Of the answer to `GET /network`."""

_MAX_CERTIFICATES = 10
_MAX_CERTIFICATE_BYTES = 65_536
_MAX_REASON = 300
_ID = re.compile(r"[0-9A-Za-z._~-]{1,128}")
_KEYS = {Role.NODE_CA: NODE_CA_KEY, Role.LEGAL_IDENTITY: IDENTITY_KEY, Role.TLS: TLS_KEY}

log = logging.getLogger(__name__)


class NetworkAnswer(BaseModel):
    """What the authority says of its network."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)

    schema_version: Annotated[str, Field(alias="schema", pattern=r"^1\.[0-9]+$")] = NETWORK_SCHEMA
    trust_root: str
    """PEM."""
    epoch: int | None
    """Of the parameters."""
    network_parameters: str | None
    """Signed, base64; None until all notaries have certificates."""
    crl: dict[str, str] = {}
    """URLs of revocation lists, by issuers."""


class Enrolment:
    """The certificates of a bank's identities, and what its network says of itself.

    Keep one instance as long as the agent runs.
    """

    def __init__(
        self,
        surroundings: Surroundings,
        *,
        email: str | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self._surroundings, self._documents, self._now = surroundings, surroundings.documents, now
        self._answer_seconds = answer_seconds
        # Corda's protocol wants an address; this one is for nobody, which RFC 2606 keeps free.
        self._email = email or f"ledger@{surroundings.member}.invalid"
        self._root: x509.Certificate | None = None
        self._renewal_failed: dict[str, datetime] = {}
        self._newest: dict[str, tuple[Identity, Mapping[str, bytes], Chains]] = {}
        self._renewals: dict[str, asyncio.Task[None]] = {}

    async def certificates(self, identity: Identity, keys: Mapping[str, bytes]) -> Chains:
        """An identity's certificates: those that are kept, or new ones when a third of their time is left.

        May be asked as often as one likes: it asks nobody while what is kept will do.

        Args:
            identity: whose.
            keys: its secret blobs.

        Raises:
            WaitingError: somebody must act first; the message says who.
            SoftwareError: they are refused, or what came proves nothing.
            UnavailableError: the documents are away, or the vault with the enrolment key.
        """
        chains = await self._certificates(identity, keys)
        self._newest[identity.name] = identity, keys, chains
        return chains

    def renewal_due(self, chains: Chains) -> bool:
        """Whether newer certificates than these are kept by now: a node that runs with these is to be started anew.

        When it is time they are asked for in the background, so that no node is stopped while the authority is away.
        """
        for name, (identity, keys, newest) in self._newest.items():
            if newest.identity[0].subject != chains.identity[0].subject:
                continue
            if newest != chains:
                return True
            if self._due(chains, identity) and name not in self._renewals:
                task = asyncio.get_running_loop().create_task(self._renew(identity, keys))
                self._renewals[name] = task
                task.add_done_callback(lambda _, name=name: self._renewals.pop(name))  # type: ignore[misc]
        return False

    async def _renew(self, identity: Identity, keys: Mapping[str, bytes]) -> None:
        try:
            await self.certificates(identity, keys)
        except (SoftwareError, UnavailableError, DamagedError) as error:
            log.warning("%s: certificates are not renewed yet: %s", identity.name, error)
            self._renewal_failed[identity.name] = self._now()

    async def _certificates(self, identity: Identity, keys: Mapping[str, bytes]) -> Chains:
        root = await self.trust_root()
        document = await self._documents.read(_document(identity))
        kept = self._kept(document, identity, keys, root)
        if kept and not self._due(kept, identity):
            return kept
        try:
            chains = await self._obtain(identity, keys, root)
        except (SoftwareError, UnavailableError, DamagedError) as error:
            if kept is None:
                raise
            log.warning("%s: certificates are not renewed yet: %s", identity.name, error)
            self._renewal_failed[identity.name] = self._now()
            return kept
        if await self._documents.write(_document(identity), chains.to_json(), document.etag if document else None):
            log.info("%s: new certificates, valid until %s", identity.name, chains.identity[0].not_valid_after_utc)
            return chains
        # Another VM was faster, which can be one that lost the identity: what it left is as good if it fits our keys.
        theirs = self._kept(await self._documents.read(_document(identity)), identity, keys, root)
        if theirs is None:
            raise SoftwareError(f"{_document(identity)}: changed by another VM meanwhile; wanted: to be tried again")
        return theirs

    async def network_parameters(self, verify: Callable[[bytes], Awaitable[int]]) -> bytes | None:
        """The network's signed parameters, for the node's file; None where there are none, or a zone tells them.

        When the authority is away, or what it says is of no use, it is what it said last: parameters that were good
        are good, and no wrong answer stops every node of the bank.

        Args:
            verify: gives the epoch of signed parameters, and raises SoftwareError if they are not the network's; the
                node's own code does. Nothing is kept that it has not verified.

        Raises:
            WaitingError: the authority is away and never told them.
            SoftwareError: what it said proves nothing, and nothing is kept.
            UnavailableError: the documents are away.
            DamagedError: the enrolment key can't be used, and nothing is kept.
        """
        if not isinstance(self._surroundings.network, Authority):
            return None
        kept = await self._documents.read(NETWORK_DOCUMENT)
        try:
            told = await self._network(self._surroundings.network, await self.trust_root())
            content = _signed_parameters(told)
            if content is None or (kept and kept.content == content):
                return kept.content if kept else None
            await self._check_newer(content, kept, verify)
        except (SoftwareError, UnavailableError, DamagedError) as error:
            if kept is None:
                raise
            log.warning("network parameters: %s; goes on with what it said last", error)
            return kept.content
        # Whoever is faster has the authority's word of the same minute.
        await self._documents.write(NETWORK_DOCUMENT, content, kept.etag if kept else None)
        return content

    async def _check_newer(
        self, content: bytes, kept: Document | None, verify: Callable[[bytes], Awaitable[int]]
    ) -> None:
        """Refuse parameters that are not the network's, or older than those that are kept."""
        epoch = await verify(content)
        if kept is None:
            return
        try:
            known = await verify(kept.content)
        except SoftwareError as error:
            log.warning("document %s is of no use: %s", NETWORK_DOCUMENT, error)
            return
        if epoch < known:
            raise SoftwareError(f"the authority tells parameters of epoch {epoch}; wanted {known} or later")

    async def trust_root(self) -> x509.Certificate:
        """The network's root certificate. The first one that is proven is kept, and no other taken later.

        Raises:
            WaitingError: the authority must act first.
            SoftwareError: it is not the pinned or the kept one.
            UnavailableError: the documents are away.
        """
        if self._root is None:
            network = self._surroundings.network
            if network is None:
                raise WaitingError("nobody certifies names; wanted ledger.network: an authority or a zone")
            kept = await self._documents.read(TRUST_ROOT)
            if kept is None:
                root = self._pinned(
                    _root(network.trust_root.decode("ascii", "replace"))
                    if isinstance(network, Zone)
                    else await self._first_root(network),
                    "the network's root",
                )
                if not await self._documents.write(TRUST_ROOT, to_pem(root).encode(), None):
                    kept = await self._documents.read(TRUST_ROOT)
            if kept is not None:
                root = self._pinned(_root(kept.content.decode("ascii", "replace")), f"document {TRUST_ROOT}")
                if isinstance(network, Zone):
                    _same_root(_root(network.trust_root.decode("ascii", "replace")), root, "ledger.network.zone")
            self._root = root
        return self._root

    # --- What is kept ---

    def _kept(
        self, document: Document | None, identity: Identity, keys: Mapping[str, bytes], root: x509.Certificate
    ) -> Chains | None:
        """The certificates in a document, if they are of use."""
        if document is None:
            return None
        try:
            chains = Chains.from_json(document.content)
            self._check(chains.node_ca, identity, keys, Role.NODE_CA, root)
            self._check(chains.identity, identity, keys, Role.LEGAL_IDENTITY, root)
            self._check(chains.tls, identity, keys, Role.TLS, root)
        except CertificateError as error:
            log.warning("%s: kept certificates are of no use: %s", identity.name, error)
            return None
        return chains

    def _due(self, chains: Chains, identity: Identity) -> bool:
        failed = self._renewal_failed.get(identity.name)
        if failed and self._now() < failed + timedelta(seconds=RENEWAL_SECONDS):
            return False
        leaves = (chains.node_ca[0], chains.identity[0], chains.tls[0], chains.rpc)
        return any(self._now() >= renewal_time(each) for each in leaves) or not serves(
            chains.rpc, self._surroundings.frontend
        )

    def _check(
        self,
        chain: Sequence[x509.Certificate],
        identity: Identity,
        keys: Mapping[str, bytes],
        role: Role,
        root: x509.Certificate,
    ) -> None:
        check_chain(
            chain,
            role=role,
            subject=identity.legal_name,
            public_key=read_key(keys, _KEYS[role]).public_key(),
            trust_root=root,
            now=self._now(),
        )

    def _pinned(self, root: x509.Certificate, what: str) -> x509.Certificate:
        pin = self._surroundings.trust_root
        if pin is not None and fingerprint(root) != pin:
            raise SoftwareError(f"{what} is {fingerprint(root)}; wanted the pinned {pin}")
        return root

    # --- Asking ---

    async def _obtain(self, identity: Identity, keys: Mapping[str, bytes], root: x509.Certificate) -> Chains:
        network = self._surroundings.network
        assert network is not None  # noqa: S101  # There is a trust root.
        # A zone's registration service certifies a node's CA alone, and that the identity.
        roles = [Role.NODE_CA, *([Role.LEGAL_IDENTITY] if isinstance(network, Authority) else [])]
        try:
            # All are asked for at once: a person who approves sees them together.
            answers = await asyncio.gather(
                *(self._certified(network, identity, keys, role, root) for role in roles),
                return_exceptions=True,
            )
            for answer in answers:
                if isinstance(answer, BaseException):
                    raise answer
            chains = [answer for answer in answers if not isinstance(answer, BaseException)]
            node_ca, now = chains[0], self._now()
            return Chains(
                node_ca=node_ca,
                identity=chains[1]
                if len(chains) > 1
                else issue(keys, IDENTITY_KEY, Role.LEGAL_IDENTITY, node_ca, now=now),
                tls=issue(keys, TLS_KEY, Role.TLS, node_ca, now=now),
                rpc=issue_rpc(keys, identity.legal_name, self._surroundings.frontend, now=now),
            )
        except CertificateError as error:
            raise SoftwareError(str(error)) from error

    async def _certified(
        self,
        network: Authority | Zone,
        identity: Identity,
        keys: Mapping[str, bytes],
        role: Role,
        root: x509.Certificate,
    ) -> tuple[x509.Certificate, ...]:
        key = read_key(keys, _KEYS[role])
        what = f"{_base(network)}: certificate {role.name} of {identity.legal_name}"
        request_id = await self._requested(network, identity, role, key, what)
        status, body = await self._exchange(network, "GET", f"/certificate/{request_id}", b"")
        if status == 200:
            chain = _unzip(body, what)
            self._check(chain, identity, keys, role, root)
            if isinstance(network, Zone):
                await self._forget(identity)
            return chain
        if status == 204:
            raise WaitingError(
                f"{what}: request {request_id} waits; wanted: approved by whoever runs the network's authority"
            )
        if isinstance(network, Zone) and status in {401, 404}:
            await self._forget(identity)
        raise _refused(network, status, body, what)

    async def _requested(self, network: Authority | Zone, identity: Identity, role: Role, key: Any, what: str) -> str:
        """The id of the request. The authority gives one key the same one each time; a zone's is remembered."""
        kept = None
        if isinstance(network, Zone):
            kept = await self._documents.read(_request_document(identity))
            asked = _request_id(kept, network, key)
            if asked:
                return asked
        status, body = await self._exchange(
            network, "POST", "/certificate", make_request(identity.legal_name, self._email, role, key)
        )
        if status != 200:
            raise _refused(network, status, body, what)
        request_id = body.decode("ascii", "replace").strip()
        if not _ID.fullmatch(request_id):
            raise SoftwareError(f"{what}: the answer is no request id; wanted 128 letters and digits at most")
        if isinstance(network, Zone):
            content = json.dumps({"url": _base(network), "key": key_hash(key.public_key()), "id": request_id})
            await self._documents.write(_request_document(identity), content.encode(), kept.etag if kept else None)
        return request_id

    async def _forget(self, identity: Identity) -> None:
        """A request that is answered is not asked for again."""
        kept = await self._documents.read(_request_document(identity))
        if kept:
            await self._documents.write(_request_document(identity), b"{}", kept.etag)

    async def _first_root(self, network: Authority) -> x509.Certificate:
        return _root((await self._told(network)).trust_root)

    async def _network(self, network: Authority, root: x509.Certificate) -> NetworkAnswer:
        told = await self._told(network)
        _same_root(_root(told.trust_root), root, network.url)
        return told

    async def _told(self, network: Authority) -> NetworkAnswer:
        status, body = await self._exchange(network, "GET", "/network", b"")
        if status != 200:
            raise _refused(network, status, body, f"{network.url}: the network")
        try:
            return NetworkAnswer.model_validate_json(body)
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]
            key = ".".join(str(step) for step in fault["loc"]) or "the document"
            raise SoftwareError(f"{network.url}/network: {key}: {fault['msg']}; wanted schema 1.x") from error

    async def _exchange(self, network: Authority | Zone, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        """Status and body of an answer, proven if it is the authority's."""
        url = _base(network) + path
        headers = {"Content-Type": "application/octet-stream", "Accept-Encoding": "identity"}
        key, nonce = b"", secrets.token_hex(proof.NONCE_BYTES)
        member = self._surroundings.member
        if isinstance(network, Authority):
            key, now = await network.key(), str(int(self._now().timestamp()))
            headers |= {proof.MEMBER: member, proof.NONCE: nonce, proof.TIME: now}
            headers[proof.REQUEST_PROOF] = proof.request_proof(
                key, member=member, method=method, path=path, nonce=nonce, time=now, body=body
            )
        else:
            headers["Platform-Version"] = _platform_version(self._surroundings.version)
            headers["Client-Version"] = self._surroundings.version
        try:
            # The authority shows a certificate of its own making: the proof is in what it says. A zone is a web site.
            connector = TCPConnector(ssl=not isinstance(network, Authority), force_close=True)
            async with (
                asyncio.timeout(self._answer_seconds),
                ClientSession(
                    connector=connector,
                    cookie_jar=DummyCookieJar(),
                    timeout=ClientTimeout(total=self._answer_seconds),
                    auto_decompress=False,
                ) as session,
                session.request(
                    method, URL(url, encoded=True), data=body or None, headers=headers, allow_redirects=False
                ) as answer,
            ):
                content = b""
                async for chunk in answer.content.iter_chunked(65_536):
                    content += chunk
                    if len(content) > MAX_BYTES:
                        raise SoftwareError(f"{url}: an answer of more than {MAX_BYTES} bytes; wanted less")
                status, proven = answer.status, answer.headers.get(proof.ANSWER_PROOF, "")
        except (ClientError, OSError, ValueError) as error:
            # A timeout is an OSError too.
            reason = str(error) or f"no answer in {self._answer_seconds:.0f} s"
            raise WaitingError(f"{url}: {reason[:_MAX_REASON]}; wanted: whoever certifies names to answer") from error
        if isinstance(network, Authority):
            wanted = proof.answer_proof(key, member=member, nonce=nonce, status=status, body=content)
            if not proof.equal(proven, wanted):
                if status == 401 and not proven:
                    raise WaitingError(
                        f"{url}: the authority does not take our enrolment key; wanted: {member} known to it, with"
                        " the key generations of both cards, and our clock right"
                    )
                if status >= 500 and not proven:
                    raise WaitingError(f"{url}: {status}; wanted: the authority to answer")
                raise SoftwareError(f"{url}: the answer ({status}) is not proven by our enrolment key; wanted it so")
        return status, content


def _base(network: Authority | Zone) -> str:
    return (network.url if isinstance(network, Authority) else network.registration_url).rstrip("/")


def _document(identity: Identity) -> str:
    return f"certificates/{identity.name}"


def _request_document(identity: Identity) -> str:
    return f"requests/{identity.name}"


def _request_id(kept: Document | None, network: Zone, key: Any) -> str | None:
    """What was asked of this zone for this key before."""
    try:
        asked = json.loads(kept.content) if kept else {}
        found = str(asked["id"])
        if asked["url"] == _base(network) and asked["key"] == key_hash(key.public_key()) and _ID.fullmatch(found):
            return found
    except (ValueError, KeyError, TypeError):
        pass
    return None


def _platform_version(version: str) -> str:
    # 4.8 to 4.11 have 10 to 13, 4.12 and later 140 and on.
    minor = int(version.split(".")[1])
    return str((minor + 2) * (10 if minor >= 12 else 1))


def _root(text: str) -> x509.Certificate:
    try:
        root = from_pem(text)
        check_root(root)
    except ValueError as error:
        raise SoftwareError(f"the network's root: {error}; wanted a self-signed certificate in PEM") from error
    return root


def _signed_parameters(told: NetworkAnswer) -> bytes | None:
    try:
        return None if told.network_parameters is None else base64.b64decode(told.network_parameters, validate=True)
    except ValueError as error:
        raise SoftwareError("the authority's networkParameters are no base64; wanted the signed file") from error


def _same_root(told: x509.Certificate, known: x509.Certificate, who: str) -> None:
    if told != known:
        raise SoftwareError(
            f"{who}: its root is {fingerprint(told)}, but document {TRUST_ROOT} has {fingerprint(known)};"
            " wanted the root that this bank first took"
        )


def _refused(network: Authority | Zone, status: int, body: bytes, what: str) -> SoftwareError:
    reason = "".join(c for c in body.decode("utf-8", "replace")[:_MAX_REASON] if c.isprintable()).strip()
    if status == 429 or status >= 500:
        return WaitingError(f"{what}: {status} {reason}; wanted: whoever certifies names to mend it")
    if isinstance(network, Authority) and status in {401, 403, 404}:
        # Another VM of ours would be told the same: a person acts, here or there.
        return WaitingError(
            f"{what}: refused: {reason or status}; wanted: whoever runs the network's authority, or keeps the card of"
            " this member, to mend that"
        )
    return SoftwareError(f"{what}: refused: {reason or status}")


def _unzip(body: bytes, what: str) -> tuple[x509.Certificate, ...]:
    """The certificates of an answer, leaf to root."""
    try:
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            entries = archive.infolist()
            if not 1 <= len(entries) <= _MAX_CERTIFICATES:
                raise ValueError(f"{len(entries)} entries")
            found = []
            for entry in entries:
                with archive.open(entry) as file:
                    # What an entry says of its size is not to be believed.
                    found.append(x509.load_der_x509_certificate(file.read(_MAX_CERTIFICATE_BYTES)))
            return tuple(found)
    except (ValueError, zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, EOFError) as error:
        raise SoftwareError(f"{what}: {error}; wanted a zip of certificates in DER") from error
