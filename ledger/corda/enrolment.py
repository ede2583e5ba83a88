"""Obtains a node's certificates and the network's parameters, from the network's authority or from a zone.

Both speak the protocol of Corda's registration service: a PKCS#10 request is posted, and its id is polled for the
answer. With the authority each message is also authenticated (`ledger.corda.proof`). Certificates are public and
stored in the bank's documents, where the identity's next holder finds them.
"""

import asyncio
import base64
import io
import logging
import re
import secrets
import zipfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from cryptography import x509
from pydantic import Field, ValidationError

from contract.identities import Identity
from contract.metrics import Cause
from contract.models import OpenModel, at_most, first_fault
from contract.platform import MAX_CA_GENERATION
from contract.vm_configuration import Zone
from host.bank_documents import NETWORK_DOCUMENT, Document
from host.errors import UnavailableError
from host.faults import reason_of
from host.http import ANSWER_SECONDS, TooLargeError, ask
from host.tls import client_context
from ledger.corda import IDENTITY_KEY, NODE_CA_KEY, RPC_TLS_KEY, TLS_KEY, platform_version, proof
from ledger.corda.certificates import (
    REQUESTED,
    CertificateError,
    CertificateRole,
    Chains,
    check_chain,
    check_root,
    fingerprint,
    from_der,
    from_pem,
    issue,
    issue_rpc,
    key_hash,
    make_request,
    read_key,
    renewal_spread,
    renewal_time,
    serves,
    to_pem,
)
from ledger.software import AuthorityAccess, SoftwareContext, SoftwareError, WaitingError

MAX_ENROLMENT_BYTES = 1_000_000
"""Limit of an answer's size."""
_RENEWAL_SECONDS = 3600.0
"""Pause after a renewal that failed; the current certificates stay in use."""
_ISSUER_SECONDS = 3600.0
"""Interval of asking the authority which CA certifies names, if it is asked nothing else."""
TRUST_ROOT = "trust-root"
"""Name of the document with the network's root certificate, PEM: the first that the authority proved."""
_NETWORK_SCHEMA = "1.0"
"""Schema of the answer to `GET /network`."""

_MAX_EPOCHS = 1000
"""Most epochs of parameters that a bank misses: none may follow the highest number."""
_MAX_CERTIFICATES = 10
_MAX_LISTS = MAX_CA_GENERATION + 1
"""The root's list included."""
_MAX_CERTIFICATE_BYTES = 65_536
_MAX_REASON = 300
_COMPRESSIONS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
# An id of dots would change the URL's path.
_ID = re.compile(r"(?!\.+$)[0-9A-Za-z._~-]{1,128}")
_KEYS = {
    CertificateRole.NODE_CA: NODE_CA_KEY,
    CertificateRole.LEGAL_IDENTITY: IDENTITY_KEY,
    CertificateRole.TLS: TLS_KEY,
}

log = logging.getLogger(__name__)


class NetworkAnswer(OpenModel):
    """The authority's answer to `GET /network`."""

    schema_version: Annotated[str, Field(alias="schema", pattern=r"^1\.[0-9]+$")] = _NETWORK_SCHEMA
    trust_root: str
    """The root certificate, PEM."""
    epoch: int | None
    """Epoch of the network parameters."""
    network_parameters: str | None
    """Signed network parameters, base64; None until all notaries have certificates."""
    issuer: str | None = None
    """Fingerprint of the CA that currently certifies names."""
    crl: Annotated[dict[str, str], at_most(_MAX_LISTS)] = Field(default_factory=dict)
    """URLs of revocation lists, by name of the issuer's key."""
    issuers: Annotated[dict[str, str], at_most(_MAX_LISTS)] = Field(default_factory=dict)
    """Certificates of the lists' issuers, PEM, by the same names."""


class _PendingRequest(OpenModel):
    """A pending request at a zone: its URL, its key's hash and its id."""

    url: str
    key: str
    id: str


class Enrolment:
    """The certificates of a bank's identities, and the network's root, parameters and revocation lists.

    One instance per agent.
    """

    def __init__(
        self,
        context: SoftwareContext,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self._context, self._documents, self._now = context, context.documents, now
        self._answer_seconds = answer_seconds
        # Corda's protocol requires an email address; RFC 2606 reserves this domain for none.
        self._email = f"ledger@{context.member}.invalid"
        self._root: x509.Certificate | None = None
        self._renewal_failed: dict[str, datetime] = {}
        self._newest: dict[str, tuple[Identity, Mapping[str, bytes], Chains]] = {}
        self._renewals: dict[str, asyncio.Task[None]] = {}
        self._issuer: str | None = None
        self._looked: datetime | None = None
        self._checking: asyncio.Task[None] | None = None

    async def certificates(self, identity: Identity, keys: Mapping[str, bytes]) -> Chains:
        """An identity's certificates: the stored ones, or new ones once a third of their validity is left.

        Cheap to call: it sends no request while the stored certificates are valid.

        Args:
            identity: the certificates' subject.
            keys: its secret blobs.

        Raises:
            WaitingError: somebody must act first; the message says who.
            SoftwareError: the request is refused, or the answer is not proven.
            UnavailableError: the documents, or the vault with the enrolment key, do not answer.
        """
        chains = await self._certificates(identity, keys)
        self._newest[identity.name] = identity, keys, chains
        return chains

    def renewal_due(self, chains: Chains) -> bool:
        """Whether newer certificates than `chains` are stored, so that a node with these should restart.

        Due certificates are requested in the background, so no outage of the authority stops a node. They are also
        due when another CA certifies names, since the last one may be about to be revoked.
        """
        self._check_issuer()
        for name, (identity, keys, newest) in self._newest.items():
            if newest.identity[0].subject != chains.identity[0].subject:
                continue
            if newest != chains:
                return True
            if self._due(chains, identity, keys) and name not in self._renewals:
                task = asyncio.get_running_loop().create_task(self._renew(identity, keys))
                self._renewals[name] = task
                task.add_done_callback(lambda _, name=name: self._renewals.pop(name))  # type: ignore[misc]
        return False

    def _check_issuer(self) -> None:
        """Ask the authority once an hour, in the background, which CA certifies names."""
        network = self._context.network
        if not isinstance(network, AuthorityAccess) or self._checking:
            return
        # Absolute: a clock that was set back must not delay it.
        if self._looked and abs(self._now() - self._looked) < timedelta(seconds=_ISSUER_SECONDS):
            return

        async def look() -> None:
            try:
                await self._network(network, await self.trust_root())
            except Exception as error:
                why = reason_of("the issuing CA", error, SoftwareError)
                log.info("the issuing CA can't be read: %s", why)

        def done(_: "asyncio.Task[None]") -> None:
            self._checking = None

        self._looked = self._now()
        self._checking = asyncio.get_running_loop().create_task(look())
        self._checking.add_done_callback(done)

    async def _renew(self, identity: Identity, keys: Mapping[str, bytes]) -> None:
        try:
            await self.certificates(identity, keys)
        except Exception as error:
            self._not_renewed(identity, error)

    def _not_renewed(self, identity: Identity, error: Exception) -> None:
        why = reason_of(f"certificates of {identity.name}", error, SoftwareError)
        log.warning("%s: certificates are not renewed yet: %s", identity.name, why)
        self._renewal_failed[identity.name] = self._now()

    async def _certificates(self, identity: Identity, keys: Mapping[str, bytes]) -> Chains:
        root = await self.trust_root()
        document = await self._documents.read(_document(identity))
        stored = self._usable(document, identity, keys, root)
        if stored and not self._due(stored, identity, keys):
            return stored
        try:
            chains = await self._obtain(identity, keys, root, self._kept_rpc(document, keys))
            if (
                stored
                and self._serves(stored.rpc, keys)
                and (chains.node_ca, chains.identity) == (stored.node_ca, stored.identity)
            ):
                raise SoftwareError("the authority returned the current certificates; wanted later ones")
        except Exception as error:
            if stored is None:
                raise
            self._not_renewed(identity, error)
            return stored
        if await self._documents.write(_document(identity), chains.to_json(), document.etag if document else None):
            log.info("%s: new certificates, valid until %s", identity.name, chains.identity[0].not_valid_after_utc)
            return chains
        # Another VM wrote first, perhaps one that lost the identity; its certificates serve if they fit our keys.
        theirs = self._usable(await self._documents.read(_document(identity)), identity, keys, root)
        if theirs is None:
            raise SoftwareError(f"{_document(identity)}: changed by another VM meanwhile; wanted: to be tried again")
        return theirs

    async def network_parameters(self, verify: Callable[[bytes], Awaitable[int]]) -> bytes | None:
        """The network's signed parameters for the node's file; None if there are none, or a zone distributes them.

        Without a usable answer of the authority the stored parameters stay in use.

        Args:
            verify: returns the epoch of signed parameters; raises SoftwareError if they are not the network's.

        Raises:
            WaitingError: the authority does not answer, and nothing is stored.
            SoftwareError: its answer is not proven, and nothing is stored.
            UnavailableError: the documents do not answer.
            DamagedError: the enrolment key is unusable, and nothing is stored.
        """
        if not isinstance(self._context.network, AuthorityAccess):
            return None
        stored = await self._documents.read(NETWORK_DOCUMENT)
        try:
            answer = await self._network(self._context.network, await self.trust_root())
            content = _signed_parameters(answer)
            if content is None or (stored and stored.content == content):
                return stored.content if stored else None
            await self._check_newer(content, stored, verify)
        except Exception as error:
            if stored is None:
                raise
            why = reason_of("network parameters", error, SoftwareError)
            log.warning("network parameters: %s; the stored ones stay in use", why)
            return stored.content
        # If another VM wrote first, it had the authority's answer of the same minute.
        await self._documents.write(NETWORK_DOCUMENT, content, stored.etag if stored else None)
        return content

    async def _check_newer(
        self, content: bytes, stored: Document | None, verify: Callable[[bytes], Awaitable[int]]
    ) -> None:
        """Refuse parameters that are not the network's, or older than the stored ones. Raises SoftwareError."""
        epoch = await verify(content)
        if stored is None:
            return
        try:
            known = await verify(stored.content)
        except SoftwareError as error:
            log.warning("document %s is unusable: %s", NETWORK_DOCUMENT, error)
            return
        if not known <= epoch <= known + _MAX_EPOCHS:
            raise SoftwareError(
                f"the authority has parameters of epoch {epoch}; wanted {known} to {known + _MAX_EPOCHS}"
            )

    async def revocation_lists(self) -> Mapping[str, x509.Certificate]:
        """Issuers of the network's revocation lists by URL, as the authority says; empty in a zone.

        Raises SoftwareError, ResourceError.
        """
        if not isinstance(self._context.network, AuthorityAccess):
            return {}
        answer = await self._network(self._context.network, await self.trust_root())
        try:
            return {url: from_pem(answer.issuers[name]) for name, url in answer.crl.items()}
        except (ValueError, KeyError) as error:
            raise SoftwareError("the authority's revocation lists: wanted each with its issuer, PEM") from error

    async def trust_root(self) -> x509.Certificate:
        """The network's root certificate. The first proven one is stored, and no other is accepted later.

        Raises:
            WaitingError: the authority must act first.
            SoftwareError: it differs from the pinned or the stored one.
            UnavailableError: the documents do not answer.
        """
        if self._root is None:
            network = self._context.network
            if network is None:
                raise WaitingError("no network is configured; wanted ledger.network: an authority or a zone")
            stored = await self._documents.read(TRUST_ROOT)
            if stored is None:
                root = self._pinned(
                    _root(network.trust_root) if isinstance(network, Zone) else await self._first_root(network),
                    "the network's root",
                )
                if not await self._documents.write(TRUST_ROOT, to_pem(root).encode(), None):
                    stored = await self._documents.read(TRUST_ROOT)
            if stored is not None:
                root = self._pinned(_root(stored.content.decode("ascii", "replace")), f"document {TRUST_ROOT}")
                if isinstance(network, Zone):
                    _same_root(_root(network.trust_root), root, "ledger.network.zone")
            self._root = root
        return self._root

    # --- Stored certificates ---------------------------------------------------------------------------------------

    def _usable(
        self, document: Document | None, identity: Identity, keys: Mapping[str, bytes], root: x509.Certificate
    ) -> Chains | None:
        """The certificates in a document; None if they are unusable."""
        if document is None:
            return None
        try:
            chains = Chains.from_json(document.content)
            self._check(chains.node_ca, identity, keys, CertificateRole.NODE_CA, root)
            self._check(chains.identity, identity, keys, CertificateRole.LEGAL_IDENTITY, root)
            self._check(chains.tls, identity, keys, CertificateRole.TLS, root)
        except CertificateError as error:
            log.warning("%s: stored certificates are unusable: %s", identity.name, error)
            return None
        return chains

    def _due(self, chains: Chains, identity: Identity, keys: Mapping[str, bytes]) -> bool:
        failed = self._renewal_failed.get(identity.name)
        if failed and abs(self._now() - failed) < timedelta(seconds=_RENEWAL_SECONDS):
            return False
        leaves, spread = (chains.node_ca[0], chains.identity[0], chains.tls[0]), renewal_spread(chains.identity[0])
        return (
            any(self._now() >= renewal_time(each) + spread for each in leaves)
            or self._issuer not in (None, fingerprint(chains.node_ca[1]))
            or not self._serves(chains.rpc, keys)
        )

    def _serves(self, rpc: x509.Certificate, keys: Mapping[str, bytes]) -> bool:
        """Whether the RPC certificate, which applications pin, may stay."""
        return (
            serves(rpc, self._context.frontend)
            and self._now() < renewal_time(rpc)
            and rpc.public_key() == read_key(keys, RPC_TLS_KEY).public_key()
        )

    def _kept_rpc(self, document: Document | None, keys: Mapping[str, bytes]) -> x509.Certificate | None:
        """The stored RPC certificate if it may stay; the others may have ended."""
        try:
            rpc = Chains.from_json(document.content).rpc if document else None
        except CertificateError:
            return None
        return rpc if rpc and self._serves(rpc, keys) else None

    def _check(
        self,
        chain: Sequence[x509.Certificate],
        identity: Identity,
        keys: Mapping[str, bytes],
        role: CertificateRole,
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
        pin = self._context.trust_root
        if pin is not None and fingerprint(root) != pin:
            raise SoftwareError(f"{what} is {fingerprint(root)}; wanted the pinned {pin}")
        return root

    # --- Requests --------------------------------------------------------------------------------------------------

    async def _obtain(
        self, identity: Identity, keys: Mapping[str, bytes], root: x509.Certificate, rpc: x509.Certificate | None
    ) -> Chains:
        network = self._context.network
        assert network is not None  # noqa: S101  # There is a trust root.
        # A zone's registration service certifies only the node CA, which issues the rest.
        roles = REQUESTED if isinstance(network, AuthorityAccess) else (CertificateRole.NODE_CA,)
        try:
            # Requested together, so that the approver sees them together.
            answers = await asyncio.gather(
                *(self._certified(network, identity, keys, role, root) for role in roles),
                return_exceptions=True,
            )
            for answer in answers:
                if isinstance(answer, BaseException):
                    raise answer
            chains = {
                role: answer
                for role, answer in zip(roles, answers, strict=True)
                if not isinstance(answer, BaseException)
            }
            node_ca, now = chains[CertificateRole.NODE_CA], self._now()

            def chain(role: CertificateRole) -> tuple[x509.Certificate, ...]:
                return chains.get(role) or issue(keys, _KEYS[role], role, node_ca, now=now)

            return Chains(
                node_ca=node_ca,
                identity=chain(CertificateRole.LEGAL_IDENTITY),
                tls=chain(CertificateRole.TLS),
                rpc=rpc or issue_rpc(keys, identity.legal_name, self._context.frontend, now=now),
            )
        except CertificateError as error:
            raise SoftwareError(str(error)) from error

    async def _certified(
        self,
        network: AuthorityAccess | Zone,
        identity: Identity,
        keys: Mapping[str, bytes],
        role: CertificateRole,
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
                f"{what}: request {request_id} waits; wanted: approved by an operator of the network's authority",
                Cause.APPROVAL,
            )
        if isinstance(network, Zone) and status in {401, 404}:
            await self._forget(identity)
        raise _refused(network, status, body, what)

    async def _requested(
        self, network: AuthorityAccess | Zone, identity: Identity, role: CertificateRole, key: Any, what: str
    ) -> str:
        """The request's id. The authority returns the same id for the same key; a zone's id is stored."""
        stored = None
        if isinstance(network, Zone):
            stored = await self._documents.read(_request_document(identity))
            asked = _request_id(stored, network, key)
            if asked:
                return asked
        status, body = await self._exchange(
            network, "POST", "/certificate", make_request(identity.legal_name, self._email, role, key)
        )
        if status != 200:
            raise _refused(network, status, body, what)
        request_id = body.decode("ascii", "replace").strip()
        if not _ID.fullmatch(request_id):
            raise SoftwareError(f"{what}: the answer is not a request id; wanted 128 letters and digits at most")
        if isinstance(network, Zone):
            asked_now = _PendingRequest(url=_base(network), key=key_hash(key.public_key()), id=request_id)
            content = asked_now.model_dump_json().encode()
            await self._documents.write(_request_document(identity), content, stored.etag if stored else None)
        return request_id

    async def _forget(self, identity: Identity) -> None:
        """Delete a zone's request that was answered."""
        stored = await self._documents.read(_request_document(identity))
        if stored:
            await self._documents.write(_request_document(identity), b"{}", stored.etag)

    async def _first_root(self, network: AuthorityAccess) -> x509.Certificate:
        return _root((await self._fetch_network(network)).trust_root)

    async def _network(self, network: AuthorityAccess, root: x509.Certificate) -> NetworkAnswer:
        answer = await self._fetch_network(network)
        _same_root(_root(answer.trust_root), root, network.url)
        self._issuer, self._looked = answer.issuer, self._now()
        return answer

    async def _fetch_network(self, network: AuthorityAccess) -> NetworkAnswer:
        status, body = await self._exchange(network, "GET", "/network", b"")
        if status != 200:
            raise _refused(network, status, body, f"{network.url}: the network")
        try:
            return NetworkAnswer.model_validate_json(body)
        except ValidationError as error:
            raise SoftwareError(f"{network.url}/network: {first_fault(error)}; wanted schema 1.x") from error

    async def _exchange(
        self, network: AuthorityAccess | Zone, method: str, path: str, body: bytes
    ) -> tuple[int, bytes]:
        """Status and body of an answer; the authority's is verified."""
        url = _base(network) + path
        headers = {"Content-Type": "application/octet-stream", "Accept-Encoding": "identity"}
        key, nonce = b"", secrets.token_hex(proof.NONCE_BYTES)
        member = self._context.member
        if isinstance(network, AuthorityAccess):
            key, now = await network.key(), str(int(self._now().timestamp()))
            headers |= {proof.MEMBER: member, proof.NONCE: nonce, proof.TIME: now}
            headers[proof.REQUEST_PROOF] = proof.request_proof(
                key, member=member, method=method, path=path, nonce=nonce, time=now, body=body
            )
        else:
            headers["Platform-Version"] = str(platform_version(self._context.version))
            headers["Client-Version"] = self._context.version
        # The authority's TLS certificate proves nothing, its answer does; a zone is an ordinary web site.
        context = client_context() if isinstance(network, AuthorityAccess) else True
        try:
            answer = await ask(
                url,
                context,
                method=method,
                body=body or None,
                headers=headers,
                seconds=self._answer_seconds,
                max_bytes=MAX_ENROLMENT_BYTES,
            )
        except TooLargeError as error:
            raise SoftwareError(f"{error}; wanted less") from error
        except UnavailableError as error:
            raise WaitingError(f"{error}; wanted: an answer of the authority or zone") from error
        status, content, proven = answer.status, answer.body, answer.headers.get(proof.ANSWER_PROOF, "")
        if isinstance(network, AuthorityAccess):
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


def _base(network: AuthorityAccess | Zone) -> str:
    return (network.url if isinstance(network, AuthorityAccess) else network.registration_url).rstrip("/")


def _document(identity: Identity) -> str:
    return f"certificates/{identity.name}"


def _request_document(identity: Identity) -> str:
    return f"requests/{identity.name}"


def _request_id(stored: Document | None, network: Zone, key: Any) -> str | None:
    """Id of an earlier request to this zone for this key; None if there is none."""
    try:
        asked = _PendingRequest.model_validate_json(stored.content if stored else b"")
    except ValidationError:
        return None
    same = asked.url == _base(network) and asked.key == key_hash(key.public_key()) and _ID.fullmatch(asked.id)
    return asked.id if same else None


def _root(text: str) -> x509.Certificate:
    try:
        root = from_pem(text)
        check_root(root)
    except ValueError as error:
        raise SoftwareError(f"the network's root: {error}; wanted a self-signed certificate in PEM") from error
    return root


def _signed_parameters(answer: NetworkAnswer) -> bytes | None:
    try:
        return (
            None if answer.network_parameters is None else base64.b64decode(answer.network_parameters, validate=True)
        )
    except ValueError as error:
        raise SoftwareError("the authority's networkParameters are not base64; wanted the signed file") from error


def _same_root(found: x509.Certificate, known: x509.Certificate, who: str) -> None:
    if found != known:
        raise SoftwareError(
            f"{who}: its root is {fingerprint(found)}, but document {TRUST_ROOT} has {fingerprint(known)};"
            " wanted the root that this bank first took"
        )


def _refused(network: AuthorityAccess | Zone, status: int, body: bytes, what: str) -> SoftwareError:
    reason = "".join(c for c in body.decode("utf-8", "replace")[:_MAX_REASON] if c.isprintable()).strip()
    if status == 429 or status >= 500:
        return WaitingError(f"{what}: {status} {reason}; wanted: repaired by the operator of the authority or zone")
    if isinstance(network, AuthorityAccess) and status in {401, 403, 404}:
        # Another VM of ours would get the same answer: a person must act.
        return WaitingError(
            f"{what}: refused: {reason or status}; wanted: corrected at the network's authority, or in its copy of"
            " this member's card"
        )
    return SoftwareError(f"{what}: refused: {reason or status}")


def _unzip(body: bytes, what: str) -> tuple[x509.Certificate, ...]:
    """The certificates in an answer, leaf to root."""
    try:
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            entries = archive.infolist()
            if not 1 <= len(entries) <= _MAX_CERTIFICATES:
                raise ValueError(f"{len(entries)} entries")
            found = []
            for entry in entries:
                # Other methods unpack a whole entry, however little is read.
                if entry.compress_type not in _COMPRESSIONS:
                    raise ValueError(f"compression {entry.compress_type}")
                with archive.open(entry) as file:
                    # An entry's stated size may be wrong.
                    found.append(from_der(file.read(_MAX_CERTIFICATE_BYTES)))
            return tuple(found)
    except Exception as error:  # `zipfile` says in many ways that it can make nothing of an archive.
        raise SoftwareError(
            f"{what}: {type(error).__name__}: {error!s:.200}; wanted a zip of certificates in DER"
        ) from error
