"""Decides which keys are certified under which legal names, and what the network's parameters are.

Each decision is one conditional write to the register, so one of several VMs makes it, and all give the same answers.
"""

import asyncio
import base64
import hashlib
import json
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from ipaddress import IPv4Network

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from typing_extensions import override

from contract.authority_configuration import Approval, AuthorityConfiguration
from contract.legal_name import LegalName, name_key
from contract.platform import AuthorityNeeds
from host.bank_documents import MAX_TRIES
from host.errors import DamagedError, UnavailableError
from ledger.corda import CORDA, IDENTITY_CA_KEY, NETWORK_PARAMETERS_KEY, ROOT_KEY
from ledger.corda.authority.keys import KeyChain
from ledger.corda.authority.members import Entitlement, Members
from ledger.corda.authority.parameters import NetworkParameters, Serializer
from ledger.corda.authority.register import (
    AUTHORITY,
    PARAMETERS,
    REVOCATIONS,
    SHORT,
    AuthorityRecord,
    Issued,
    NameRecord,
    Notary,
    ParametersRecord,
    RequestId,
    RequestRecord,
    RequestState,
    RevocationsRecord,
    Revoked,
    Store,
    change,
    find,
    records,
    request_id,
    request_id_of,
    request_place,
    short_hash,
)
from ledger.corda.authority.signing import Signer, read_public_key, read_request, revocation_list, sign
from ledger.corda.certificates import (
    LIFETIME,
    CertificateError,
    CertificateRole,
    certificate,
    check_certified,
    fingerprint,
    from_pem,
    key_hash,
    read_revocation_list,
    renewal_time,
    to_pem,
    x500_name,
)
from ledger.corda.enrolment import NetworkAnswer
from ledger.corda.proof import CLOCK_SECONDS

REQUESTS_A_MINUTE = 1200
"""Most requests of a member that a VM answers in a minute; 15 nodes that wait for approval send about 700 in their
first."""
KEYS_AT_MOST = 8
"""Most keys that a member may request under one name and role, so that it can't fill the register."""

ROOT_LOOK_SECONDS = 300.0
"""Interval of checking whether the root key is open, while nothing waits for it."""
ROOT_URGENT = timedelta(days=30)
"""An operator must open the root so long before the end of anything that only the root key renews."""

_REQUESTS, _OPEN, _CERTIFIED, _LISTS, _DECISIONS = "requests/", "open/", "names/", "crl/", "decisions/"
"""Prefixes of blob names; `open/` has a blob per undecided request."""
_SIGNED_PARAMETERS = "parameters-"
"""Begins the name of a decision on parameters, before their epoch."""
_CARD = "the card of "
"""Begins `RequestRecord.by` where a card, and no person, approved the request."""
_READ_TOGETHER = 20
"""Open requests that are read at a time: a member may have thousands."""
_FRESH_SECONDS = 10.0
_CLOCKS_APART = timedelta(seconds=CLOCK_SECONDS)

log = logging.getLogger(__name__)


class RequestRefusedError(Exception):
    """A request is refused; the requester may see the reason."""


class TooManyRequestsError(RequestRefusedError):
    """A member has sent more than `REQUESTS_A_MINUTE`; the next minute its requests are answered again."""


class _RootClosedError(UnavailableError):
    """The root key is missing or can't be used."""


class _RootSigner(Signer):
    """Translates errors of the root key: while the root is closed, reading the key may succeed and signing fail."""

    def __init__(self, signer: Signer) -> None:
        self._signer = signer

    @property
    @override
    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._signer.public_key

    @override
    async def sign(self, data: bytes) -> bytes:
        try:
            return await self._signer.sign(data)
        except UnavailableError as error:
            raise _RootClosedError(str(error)) from error


@dataclass(frozen=True)
class Lifetimes:
    """Validity of what an authority signs."""

    root: timedelta = timedelta(days=7300)
    """Lifetime of the root and of the certificate that signs parameters: members never replace them."""
    identity_ca: timedelta = timedelta(days=3650)
    """Renewed once in a root's life."""
    issued: timedelta = LIFETIME
    root_list: timedelta = timedelta(days=396)
    """13 months, so that opening the root once a year suffices."""
    revocation_list: timedelta = timedelta(days=90)
    """An authority may be unavailable so long without stopping nodes."""
    revocation_list_renewal: timedelta = timedelta(days=1)


@dataclass(frozen=True)
class OwnCertificates:
    """The authority's own certificates and their signers."""

    record: AuthorityRecord
    certificates: dict[str, x509.Certificate]
    signers: dict[str, Signer]
    """The everyday keys' signers, by key name. The root's and earlier identity CAs' are looked up when needed."""

    @property
    def issuing(self) -> x509.Certificate:
        """Certificate of the CA that certifies names."""
        return self.certificates[self.record.issuing]

    @property
    def revoked_cas(self) -> dict[int, datetime]:
        """Revoked identity CAs for the root's list: time of revocation by serial number."""
        return {
            self.certificates[name].serial_number: datetime.fromisoformat(when)
            for name, when in self.record.revoked.items()
        }

    @property
    def lists(self) -> tuple[str, ...]:
        """Key names of the issuers of revocation lists."""
        return ROOT_KEY, *self.record.identity_cas


class Authority:
    """The authority's logic on one VM. Every method may run on several VMs at the same time."""

    def __init__(
        self,
        configuration: AuthorityConfiguration,
        store: Store,
        keys: KeyChain,
        members: Members,
        serializer: Serializer,
        *,
        configured: float,
        check_clock: Callable[[], Awaitable[None]],
        lifetimes: Lifetimes = Lifetimes(),
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`configured` is when the configuration was written, in seconds since 1970: while VMs are replaced one after
        the other, a VM with an older configuration than the current parameters' leaves the parameters alone.
        `check_clock` raises UnavailableError if the VM's clock is wrong."""
        self._configuration, self._configured = configuration, configured
        self._store, self._keys, self.members, self._serializer = store, keys, members, serializer
        self._lifetimes, self.now, self.check_clock = lifetimes, now, check_clock
        self._own: OwnCertificates | None = None
        self._opening, self._writing = asyncio.Lock(), asyncio.Lock()
        self._crls: dict[str, tuple[float, bytes]] = {}
        self._missing: list[str] = []
        self._recorded: int | None = None
        self._recorded_own: AuthorityRecord | None = None
        self._root: Signer | None = None
        self._looked: datetime | None = None
        self._minute, self._accepted = 0, Counter[str]()
        """The current minute, and the requests accepted in it by member."""
        self._ends: dict[str, datetime] = {}
        self.waiting = self.unproven = 0
        """Requests waiting for approval, as last counted; unauthenticated requests since the start."""
        self.due = asyncio.Event()
        """Set when `run_due_tasks` should run at once."""

    @property
    def address_space(self) -> IPv4Network:
        """Address range of the authority's own bank."""
        return self._configuration.address_space

    @property
    def root_open(self) -> bool:
        """Whether this VM could use the root key at its last check."""
        return self._root is not None

    # --- The authority's own certificates --------------------------------------------------------------------------

    async def open(self) -> OwnCertificates:
        """The authority's own certificates; the first VM that asks makes them.

        Raises:
            UnavailableError: vault or register do not answer, or the root is closed before there are certificates.
            DamagedError: the vault's keys are not those of the register's certificates, or the register lost these.
        """
        async with self._opening:
            if self._own is None:
                found = await find(self._store, AuthorityRecord, AUTHORITY)
                self._own = await self._read(found[0] if found else await self._create())
            return self._own

    async def _reopen(self) -> OwnCertificates:
        """The same, read from the register again: another VM may have added or revoked an identity CA."""
        own = await self.open()
        found = await find(self._store, AuthorityRecord, AUTHORITY)
        if found is None:
            raise _lost(AUTHORITY, "it was there before")
        if found[0].certificates[ROOT_KEY] != own.record.certificates[ROOT_KEY]:
            raise DamagedError(f"register: blob {AUTHORITY} has another root; wanted: its last version restored")
        if found[0] != own.record:
            async with self._opening:
                self._own = own = await self._read(found[0])
        return own

    async def _read(self, record: AuthorityRecord) -> OwnCertificates:
        certificates = {name: from_pem(pem) for name, pem in record.certificates.items()}
        pin = self._configuration.trust_root
        if pin and (root := fingerprint(certificates[ROOT_KEY])) != pin:
            raise DamagedError(
                f"register: blob {AUTHORITY} has root {root}; wanted {pin}, as ledger.network.trustRoot"
            )
        own = OwnCertificates(record, certificates, {})
        for name in (record.issuing, NETWORK_PARAMETERS_KEY):
            own.signers[name] = await self._signer(own, name)
        return own

    async def _signer(self, own: OwnCertificates, name: str) -> Signer:
        """The signer of one of the authority's certificates other than the root."""
        if name in own.signers:
            return own.signers[name]
        version = own.record.versions[name]
        _, signer = await self._keys.signer(name, version)
        _check_own(own.certificates[name], signer, f"key {name}, version {version}")
        return signer

    async def _root_signer(self, version: str | None = None) -> tuple[str, Signer]:
        try:
            version, signer = await self._keys.signer(ROOT_KEY, version)
        except UnavailableError as error:
            raise _RootClosedError(str(error)) from error
        return version, _RootSigner(signer)

    async def _create(self) -> AuthorityRecord:
        """Make the authority's certificates, once in the network's life."""
        if self._configuration.trust_root:
            raise _lost(AUTHORITY, "ledger.network.trustRoot pins its root")
        if later := [name for prefix in (_LISTS, _CERTIFIED) for name in await self._store.names(prefix)]:
            if found := await find(self._store, AuthorityRecord, AUTHORITY):
                # Another VM has just made them.
                return found[0]
            raise _lost(AUTHORITY, f"{later[0]} is there, which it precedes")
        try:
            root_version, root_signer = await self._root_signer()
            generation = self._configuration.ca_generation
            issuing = _needs().issuing_key_of(generation)
            versions, now = {ROOT_KEY: root_version}, self.now()
            name = self._subject("Network Root CA")
            root = await sign(
                certificate(None, name, root_signer.public_key, None, now=now, lifetime=self._lifetimes.root),
                root_signer,
            )
            certificates = {ROOT_KEY: root}
            for key in (issuing, NETWORK_PARAMETERS_KEY):
                versions[key], certificates[key] = await self._certify_key(key, root, root_signer, generation)
        except _RootClosedError as error:
            raise UnavailableError(
                f"the network has no root yet: {error}; wanted ledger.network.rootOpenUntil for an hour"
            ) from error
        record = AuthorityRecord(
            versions=versions,
            certificates={key: to_pem(each) for key, each in certificates.items()},
            issuing=issuing,
            generation=generation,
        )
        if await self._store.write(AUTHORITY, record.to_json(), None):
            return record
        # Another VM wrote first: its root is the network's, and ours is discarded.
        found = await find(self._store, AuthorityRecord, AUTHORITY)
        if found is None:
            raise UnavailableError(f"register: blob {AUTHORITY} can't be read yet")
        return found[0]

    async def _certify_key(
        self, key: str, root: x509.Certificate, root_signer: Signer, generation: int
    ) -> tuple[str, x509.Certificate]:
        """The version of an everyday key, and a certificate for it signed by the root."""
        version, signer = await self._keys.signer(key)
        if key == NETWORK_PARAMETERS_KEY:
            role, common, lifetime = CertificateRole.NETWORK_PARAMETERS, "Network Parameters", self._lifetimes.root
        else:
            # Java tells CAs apart by name.
            common = f"Network Identity CA{f' {generation}' if generation > 1 else ''}"
            role, lifetime = CertificateRole.DOORMAN_CA, self._lifetimes.identity_ca
        builder = certificate(
            role,
            self._subject(common),
            signer.public_key,
            root,
            now=self.now(),
            lifetime=lifetime,
            crl_url=self._crl_url(ROOT_KEY),
        )
        return version, await sign(builder, root_signer)

    def _subject(self, common_name: str) -> x509.Name:
        return x500_name(f"CN={common_name}, {self._configuration.subject}")

    # --- The root, which is open only for hours --------------------------------------------------------------------

    async def _tend_root(self, own: OwnCertificates) -> tuple[OwnCertificates, list[str]]:
        """Do what needs the root key if it is open; returns the certificates, and what still waits or failed."""
        wanted, waits, faults = self._configuration.ca_generation, list[str](), list[str]()
        revoked = own.revoked_cas
        complete, ends = await self._listed(own, ROOT_KEY, revoked)
        try:
            signer = await self._open_root(own, at_once=wanted > own.record.generation or not complete)
            if signer and wanted > own.record.generation:
                own = await self._renew_issuing(own, signer, wanted)
            if signer:
                await self._publish(own, ROOT_KEY, self._revoked_cas, signer, self._lifetimes.root_list)
        except _RootClosedError as error:
            self._root = None
            log.warning("root: %s", error)
        except (UnavailableError, DamagedError) as error:
            faults.append(str(error))
        if wanted > own.record.generation:
            waits.append(f"the identity CA of generation {wanted} waits for the root's key")
        complete, ends = await self._listed(own, ROOT_KEY, revoked)
        if not complete:
            waits.append("the root's revocation list waits for the root's key")
        self._ends = {
            ROOT_KEY: own.certificates[ROOT_KEY].not_valid_after_utc,
            NETWORK_PARAMETERS_KEY: own.certificates[NETWORK_PARAMETERS_KEY].not_valid_after_utc,
            # Certificates issued later than this end early.
            own.record.issuing: own.issuing.not_valid_after_utc - self._lifetimes.issued,
            **({f"{ROOT_KEY}-list": ends} if ends else {}),
        }
        waits += [
            f"{what} ends on {ends:%F}, and waits for the root's key"
            for what, ends in self._ends.items()
            if ends - self.now() < ROOT_URGENT
        ]
        if waits:
            waits[-1] += "; wanted ledger.network.rootOpenUntil for an hour"
        return own, faults + waits

    def days_left(self) -> dict[str, float]:
        """Days until something ends that only the root key renews, by its name; empty before the first check."""
        return {what: (ends - self.now()) / timedelta(days=1) for what, ends in self._ends.items()}

    async def _open_root(self, own: OwnCertificates, *, at_once: bool) -> Signer | None:
        """The root's signer; None while the root is closed."""
        now = self.now()
        if at_once or self._looked is None or abs(now - self._looked) >= timedelta(seconds=ROOT_LOOK_SECONDS):
            self._root, self._looked, version = None, now, own.record.versions[ROOT_KEY]
            try:
                _, signer = await self._root_signer(version)
            except _RootClosedError as error:
                log.debug("root: %s", error)
            else:
                try:
                    _check_own(own.certificates[ROOT_KEY], signer, f"key {ROOT_KEY}, version {version}")
                except DamagedError:
                    # Reported at each run until it is repaired.
                    self._looked = None
                    raise
                self._root = signer
        return self._root

    async def _renew_issuing(self, own: OwnCertificates, root_signer: Signer, generation: int) -> OwnCertificates:
        """Introduce an identity CA with a new key, which certifies names from now on."""
        key = _needs().issuing_key_of(generation)
        version, made = await self._certify_key(key, own.certificates[ROOT_KEY], root_signer, generation)

        def step(record: AuthorityRecord) -> AuthorityRecord:
            if record.generation >= generation:
                return record
            return record.model_copy(
                update={
                    "versions": {**record.versions, key: version},
                    "certificates": {**record.certificates, key: to_pem(made)},
                    "issuing": key,
                    "generation": generation,
                }
            )

        record = await change(self._store, AuthorityRecord, AUTHORITY, None, step)
        self._own = await self._read(record)
        return self._own

    async def _record_own(self, own: OwnCertificates) -> None:
        """Record the decisions for root and identity CAs, from the register, whichever VM made them."""
        if own.record == self._recorded_own:
            return
        for key, made in own.certificates.items():
            if key in {IDENTITY_CA_KEY, NETWORK_PARAMETERS_KEY}:
                # These were made together with the root.
                continue
            await self._record(
                key,
                made.not_valid_before_utc.isoformat(),
                decision="founded" if key == ROOT_KEY else "renewed",
                key=key,
                recorded=self._time(),
                fingerprint=fingerprint(made),
                expires=made.not_valid_after_utc.isoformat(),
            )
        self._recorded_own = own.record

    async def revoke_identity_ca(self, key: str, by: str) -> None:
        """Revoke an identity CA that no longer certifies names, and thereby all its certificates.

        The root's list has it once the root is open.

        Raises:
            LookupError: there is no such CA.
            RequestRefusedError: it is the CA that certifies names.
        """
        own, now = await self._reopen(), self._time()
        if key not in own.record.identity_cas:
            raise LookupError(f"{key}; wanted one of {', '.join(own.record.identity_cas)}")
        if key == own.record.issuing:
            raise RequestRefusedError(f"{key} certifies names; wanted ledger.network.caGeneration raised first")

        def step(record: AuthorityRecord) -> AuthorityRecord:
            return record.model_copy(update={"revoked": {key: now} | record.revoked})

        # Recorded first: the register does not name the person, and a VM may end between the two writes.
        await self._record(f"revoked-{key}", now, decision="revoked", key=key, by=by)
        await change(self._store, AuthorityRecord, AUTHORITY, None, step)

    def _crl_url(self, issuer: str) -> str:
        return f"{self._configuration.crl_url}/{issuer}.crl"

    # --- Requests --------------------------------------------------------------------------------------------------

    def accept(self, member: str) -> None:
        """Count a member's proven request, which may be a repeated one: every request has the same effect twice.

        Raises:
            TooManyRequestsError: the member has sent more than `REQUESTS_A_MINUTE`.
        """
        minute = int(self.now().timestamp()) // 60
        if minute != self._minute:
            self._minute, self._accepted = minute, Counter()
        if self._accepted[member] >= REQUESTS_A_MINUTE:
            raise TooManyRequestsError(f"{REQUESTS_A_MINUTE} requests in a minute; wanted no more")
        self._accepted[member] += 1

    async def request(self, member: str, encoded: bytes) -> RequestId:
        """Store a member's certificate request; the same request gets the same id.

        Args:
            member: the authenticated member.
            encoded: PKCS#10, DER.

        Raises:
            RequestRefusedError: it will not be granted.
            UnavailableError: vault or register do not answer.
        """
        try:
            asked = read_request(encoded)
        except CertificateError as error:
            raise RequestRefusedError(str(error)) from error
        hashed = key_hash(asked.public_key)
        entitled = await self.members.entitlement(member)
        if reason := entitled.refusal(asked.legal_name):
            await self._refused(member, asked.legal_name, asked.role.name, hashed, reason)
        found = await find(self._store, NameRecord, _name_blob(asked.legal_name))
        name = found[0] if found else NameRecord(legal_name=asked.legal_name, member=member)
        await self._check_key(name, member, asked.role, hashed)
        identifier = request_id_of(member, asked.legal_name, asked.role.name, hashed)
        there = await find(self._store, RequestRecord, _request_blob(identifier))
        if there:
            # A VM may have ended between the two writes.
            if there[0].state is RequestState.PENDING:
                await self._store.write(_open_blob(identifier), b"", None)
            if there[0].card != entitled.card:
                # The same key under the member's new card: it is the same bank.
                await change(
                    self._store,
                    RequestRecord,
                    _request_blob(identifier),
                    None,
                    lambda record: record.model_copy(update={"card": entitled.card}),
                )
            return identifier
        if reason := await self._held_by_another(entitled, asked.legal_name, asked.role, hashed):
            await self._refused(member, asked.legal_name, asked.role.name, hashed, reason)
        place = request_place(member, asked.legal_name, asked.role.name)
        if await self._count_keys(place, name.revoked) >= KEYS_AT_MOST:
            reason = f"{KEYS_AT_MOST} keys were asked for {asked.legal_name}, {asked.role.name}; wanted one of them"
            await self._refused(member, asked.legal_name, asked.role.name, hashed, reason)
        record = RequestRecord(
            id=identifier,
            member=member,
            card=entitled.card,
            legal_name=asked.legal_name,
            role=asked.role.name,
            key=asked.public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode(),
            key_hash=hashed,
            asked=self._time(),
        )
        if await self._store.write(_request_blob(identifier), record.to_json(), None):
            await self._store.write(_open_blob(identifier), b"", None)
            log.info("request %s of %s: %s of %s, key %s", identifier, member, *_request_fields(record))
        return identifier

    async def _count_keys(self, place: str, revoked: Sequence[str]) -> int:
        """Number of keys requested under a name and role, without revoked ones and those rejected over a day ago."""
        prefix = _REQUESTS + place
        gone = {prefix + each[:SHORT] for each in revoked}
        names = [name for name in await self._store.names(prefix) if name not in gone]
        if len(names) < KEYS_AT_MOST:
            return len(names)
        found = [await find(self._store, RequestRecord, name) for name in names]
        day_ago = self.now() - timedelta(days=1)
        return sum(each is not None and not _rejected_before(each[0], day_ago) for each in found)

    async def answer(self, member: str, identifier: RequestId) -> tuple[x509.Certificate, ...] | None:
        """The chain issued for a member's request, leaf to root; None while it waits for approval.

        Raises:
            RequestRefusedError: it was rejected, or may not be granted any more.
            LookupError: the member has no such request.
            UnavailableError: vault or register do not answer.
        """
        found = await find(self._store, RequestRecord, _request_blob(identifier))
        if found is None or found[0].member != member:
            raise LookupError(identifier)
        record = found[0]
        entitled = await self.members.entitlement(member)
        if reason := entitled.refusal(record.legal_name) or _other_card(record, entitled):
            await self._refused(member, *_request_fields(record), reason)
        if record.state is RequestState.PENDING and not await self._needs_person(record.legal_name):
            record = await self._decide(
                identifier, RequestState.APPROVED, f"{_CARD}{member}", None, only=RequestState.PENDING
            )
        if record.state is RequestState.REJECTED:
            raise RequestRefusedError(f"rejected: {record.reason}")
        return await self._issued(record, entitled) if record.state is RequestState.APPROVED else None

    async def _needs_person(self, legal_name: str) -> bool:
        """Whether a person must approve: always in manual mode, and for names with a revoked key."""
        if self._configuration.approval is Approval.MANUAL:
            return True
        found = await find(self._store, NameRecord, _name_blob(legal_name))
        return found is not None and bool(found[0].revoked)

    async def _held_by_another(
        self, entitled: Entitlement, legal_name: str, role: CertificateRole, hashed: str
    ) -> str | None:
        """Why a bank's names are not certified under a member's present card; None if they may be.

        They are certified for one card key at a time. A renewal of a certified key proves that it is the same bank.
        """
        names = await records(self._store, NameRecord, _bank_prefix(legal_name))
        own = next((each.current(role) for each in names if name_key(each.legal_name) == name_key(legal_name)), None)
        if own and own.key_hash == hashed:
            return None
        now = self.now()
        valid = [
            each for each in names if any(datetime.fromisoformat(issued.expires) > now for issued in each.issued)
        ]
        if not valid or any((each.member, each.card) == (entitled.member, entitled.card) for each in valid):
            return None
        holder = valid[0]
        return (
            f"{holder.legal_name} is certified for {holder.member} with the card key {holder.card}, and the card key "
            f"of {entitled.member} is {entitled.card}; wanted the bank's names revoked by the authority first"
        )

    async def _issued(self, request: RequestRecord, entitled: Entitlement) -> tuple[x509.Certificate, ...] | None:
        own, role, blob = await self._reopen(), CertificateRole[request.role], _name_blob(request.legal_name)
        if reason := await self._held_by_another(entitled, request.legal_name, role, request.key_hash):
            await self._refused(request.member, *_request_fields(request), reason)
        for _ in range(MAX_TRIES):
            found = await find(self._store, NameRecord, blob)
            record, etag = found or (NameRecord(legal_name=request.legal_name, member=request.member), None)
            await self._check_key(record, request.member, role, request.key_hash)
            # `revoke` withdraws approvals before it frees the name, so this approval is current.
            if record.revoked and not await self._approved(request.id):
                return None
            issued = record.current(role)
            leaf = from_pem(issued.certificate) if issued else None
            held = record.model_copy(update={"member": request.member, "card": entitled.card})
            if (
                issued is None
                or leaf is None
                or self.now() >= renewal_time(leaf)
                or issued.issuer != own.record.issuing
            ):
                leaf = await self._signed(own, request, role)
                issued = Issued(
                    role=role.name,
                    key_hash=request.key_hash,
                    serial=f"{leaf.serial_number:x}",
                    certificate=to_pem(leaf),
                    issued=self._time(),
                    expires=leaf.not_valid_after_utc.isoformat(),
                    issuer=own.record.issuing,
                )
                # Expired certificates need no revocation.
                unexpired = [each for each in record.issued if datetime.fromisoformat(each.expires) > self.now()]
                held = held.model_copy(update={"issued": (*unexpired, issued)})
            if held != record:
                if not await self._store.write(blob, held.to_json(), etag):
                    continue
                self.due.set()
            # Before the certificate is sent; repeated each time, since a VM may have ended after the write.
            await self._record(
                f"issued-{issued.serial}",
                issued.issued,
                decision="issued",
                member=request.member,
                legal_name=request.legal_name,
                role=role.name,
                key=request.key_hash,
                by=request.by,
                serial=issued.serial,
                expires=issued.expires,
            )
            return leaf, own.certificates[issued.issuer], own.certificates[ROOT_KEY]
        raise UnavailableError(f"register: blob {blob} changed {MAX_TRIES} times meanwhile")

    async def _approved(self, identifier: RequestId) -> bool:
        """Whether a person has approved a request, read again."""
        found = await find(self._store, RequestRecord, _request_blob(identifier))
        if found is None or found[0].state is not RequestState.APPROVED:
            return False
        by = found[0].by or ""
        if by.startswith(_CARD):
            # A card approved it while somebody revoked the name: a person must decide.
            await self._decide(
                identifier,
                RequestState.PENDING,
                by,
                f"{found[0].legal_name} is revoked",
                only=RequestState.APPROVED,
            )
            return False
        return True

    async def _signed(self, own: OwnCertificates, request: RequestRecord, role: CertificateRole) -> x509.Certificate:
        await self.check_clock()
        builder = certificate(
            role,
            x500_name(request.legal_name),
            read_public_key(request.key),
            own.issuing,
            now=self.now(),
            lifetime=self._lifetimes.issued,
            crl_url=self._crl_url(own.record.issuing),
        )
        return await sign(builder, own.signers[own.record.issuing])

    async def _check_key(self, record: NameRecord, member: str, role: CertificateRole, hashed: str) -> None:
        """Refuse a second key for a name, or a revoked one."""
        if reason := await self._barred(record, member, role, hashed):
            await self._refused(member, record.legal_name, role.name, hashed, reason)

    async def _barred(self, record: NameRecord, member: str, role: CertificateRole, hashed: str) -> str | None:
        """Why a key may not be certified under a name; None if it may."""
        revocations = await find(self._store, RevocationsRecord, REVOCATIONS)
        # The name's own record may be an older version, restored.
        revoked = {each.key_hash for each in revocations[0].certificates.values()} if revocations else set[str]()
        if hashed in revoked | set(record.revoked):
            return f"{record.legal_name}: the certificate of this key was revoked; wanted a new key"
        return _second_key(record, member, role, hashed)

    async def _refused(self, member: str, legal_name: str, role: str, hashed: str, reason: str) -> None:
        now = self._time()
        case = short_hash(member, role)
        # Only the first per day, member and role is recorded and a warning, so that a member can fill neither the
        # register nor the workspace, which collects warnings.
        new = await self._record(
            f"refused-{case}",
            now,
            decision="refused",
            member=member,
            legal_name=legal_name,
            role=role,
            key=hashed,
            reason=reason,
        )
        level = logging.WARNING if new else logging.INFO
        log.log(level, "refused: %s of %s, key %s: %s", role, member, hashed, reason)
        raise RequestRefusedError(reason)

    # --- What people decide ----------------------------------------------------------------------------------------

    async def pending(self) -> Sequence[RequestRecord]:
        """Requests that wait for a person, oldest first, without damaged ones, which are never granted."""
        waiting, damaged = await self._waiting()
        for each in damaged:
            log.error("%s", each)
        return waiting

    async def _waiting(self) -> tuple[Sequence[RequestRecord], list[str]]:
        """Requests that wait for a person, oldest first, and the faults of damaged ones, which hide no other."""
        # Only open requests are read, not all that were ever made.
        names, found = [*await self._store.names(_OPEN)], list[RequestRecord | str | None]()
        for start in range(0, len(names), _READ_TOGETHER):
            found += await asyncio.gather(*map(self._open_request, names[start : start + _READ_TOGETHER]))
        waiting = [each for each in found if isinstance(each, RequestRecord)]
        return (
            sorted(waiting, key=lambda each: (each.asked, each.id)),
            [each for each in found if isinstance(each, str)],
        )

    async def _open_request(self, name: str) -> RequestRecord | str | None:
        """The request of a blob below `open/` if it waits for a person, or its fault. Deletes a stale blob."""
        try:
            identifier = request_id(name.removeprefix(_OPEN))
            found = await find(self._store, RequestRecord, _request_blob(identifier))
            if found is None or found[0].state is not RequestState.PENDING:
                # A VM ended between two writes; a reopened request is marked again when it is asked for.
                await self._store.delete(name)
                return None
            return found[0] if await self._needs_person(found[0].legal_name) else None
        except ValueError as error:
            return f"register: blob {name}: {error}"
        except DamagedError as error:
            return str(error)

    async def requests(self) -> Sequence[RequestRecord]:
        """All requests, oldest first, without damaged ones, which are never granted."""
        found = list[RequestRecord]()
        for name in await self._store.names(_REQUESTS):
            try:
                read = await find(self._store, RequestRecord, name)
            except DamagedError as error:
                log.error("%s", error)
            else:
                found += [read[0]] if read else []
        return sorted(found, key=lambda each: (each.asked, each.id))

    async def approve(self, identifier: RequestId, by: str) -> RequestRecord:
        """Approve a request; the certificate is issued when the member asks next, within a minute.

        Raises:
            LookupError: no such request.
            RequestRefusedError: the name is not the member's any more, has another key, or the key was revoked.
        """
        if found := await find(self._store, RequestRecord, _request_blob(identifier)):
            request, entitled = found[0], await self.members.entitlement(found[0].member)
            found_name = await find(self._store, NameRecord, _name_blob(request.legal_name))
            name = found_name[0] if found_name else NameRecord(legal_name=request.legal_name, member=request.member)
            role = CertificateRole[request.role]
            reason = (
                entitled.refusal(request.legal_name)
                or _other_card(request, entitled)
                or await self._barred(name, request.member, role, request.key_hash)
                or await self._held_by_another(entitled, request.legal_name, role, request.key_hash)
            )
            for each in await self._approvals(request.legal_name):
                if each.role == request.role and each.key_hash not in {request.key_hash, *name.revoked}:
                    reason = reason or f"request {each.id} of that name is approved; wanted it rejected first"
            if reason:
                raise RequestRefusedError(reason)
        return await self._decide(identifier, RequestState.APPROVED, by, None)

    async def _approvals(self, legal_name: str) -> Sequence[RequestRecord]:
        """Approved requests of a name, of any member."""
        return [
            each
            for each in await self.requests()
            if each.state is RequestState.APPROVED and name_key(each.legal_name) == name_key(legal_name)
        ]

    async def _reopen_approved(self, name: NameRecord, by: str) -> None:
        """Reopen approved requests of a name for other keys than its certified and revoked ones."""
        keys = {*name.revoked, *(each.key_hash for each in name.issued)}
        for each in await self._approvals(name.legal_name):
            if each.key_hash not in keys:
                await self._decide(
                    each.id, RequestState.PENDING, by, f"{name.legal_name} is revoked", only=RequestState.APPROVED
                )

    async def reject(self, identifier: RequestId, reason: str, by: str) -> RequestRecord:
        """Reject a request for good.

        Raises:
            LookupError: no such request.
        """
        return await self._decide(identifier, RequestState.REJECTED, by, reason)

    async def _decide(
        self,
        identifier: RequestId,
        state: RequestState,
        by: str,
        reason: str | None,
        *,
        only: RequestState | None = None,
    ) -> RequestRecord:
        """Record a decision and carry it out; returns the request.

        `only`: decide only from this state; in another state the earlier decision stays.
        """
        blob, now = _request_blob(identifier), self._time()
        found = await find(self._store, RequestRecord, blob)
        if found is None:
            raise LookupError(f"request {identifier}; wanted one that `pending` lists")
        before, _ = found

        def step(record: RequestRecord) -> RequestRecord:
            if record.state is state or (only is not None and record.state is not only):
                return record
            return record.model_copy(update={"state": state, "decided": now, "by": by, "reason": reason})

        # Recorded first: an interrupted decision is repeated, and none takes effect without a record.
        record = step(before)
        await self._record(
            f"{record.state}-{identifier}-{record.decided or now}",
            record.decided or now,
            decision=str(record.state),
            member=record.member,
            legal_name=record.legal_name,
            role=record.role,
            key=record.key_hash,
            by=record.by,
            reason=record.reason,
        )
        record = await change(self._store, RequestRecord, blob, None, step)
        if record.state is RequestState.PENDING:
            await self._store.write(_open_blob(identifier), b"", None)
        else:
            await self._store.delete(_open_blob(identifier))
        return record

    async def revoke(self, legal_name: str, by: str) -> Sequence[Issued]:
        """Revoke all certificates of a name. Then another key may be certified under it, with a person's approval.

        Raises:
            LookupError: no certificate of the name is valid.
            UnavailableError: it is revoked in the register, but not on the list yet.
        """
        blob, now = _name_blob(legal_name), self._time()
        taken: dict[str, Issued] = {}
        for _ in range(MAX_TRIES):
            found = await find(self._store, NameRecord, blob)
            if not found or not found[0].issued:
                break
            record, etag = found
            added = {
                each.serial: Revoked(
                    legal_name=record.legal_name,
                    role=each.role,
                    key_hash=each.key_hash,
                    revoked=now,
                    by=by,
                    issuer=each.issuer,
                )
                for each in record.issued
            }
            await self._reopen_approved(record, by)
            # In this order an interruption leaves no valid certificate that is missing in the register.
            await self._add_revoked(added)
            keys = {each.key_hash for each in record.issued}
            empty = record.model_copy(
                update={"issued": (), "revoked": (*record.revoked, *sorted(keys - set(record.revoked)))}
            )
            for each in record.issued:
                await self._record(
                    f"revoked-{each.serial}",
                    now,
                    decision="revoked",
                    member=record.member,
                    legal_name=record.legal_name,
                    role=each.role,
                    key=each.key_hash,
                    by=by,
                    serial=each.serial,
                )
            # Certificates issued meanwhile are revoked in the next round.
            if await self._store.write(blob, empty.to_json(), etag):
                taken |= {each.serial: each for each in record.issued}
        if not taken:
            raise LookupError(f"{legal_name}: nothing is certified under it; wanted a certified name")
        if reasons := await self._publish_revoked(await self._reopen()):
            raise UnavailableError(
                f"{legal_name} is revoked in the register ({', '.join(taken)}), and not listed yet: "
                f"{'; '.join(reasons)}; "
                "wanted: the authority's VMs list it later"
            )
        return tuple(taken.values())

    async def _add_revoked(self, added: dict[str, Revoked]) -> None:
        def step(record: RevocationsRecord) -> RevocationsRecord:
            return record.model_copy(update={"certificates": added | record.certificates})

        await change(self._store, RevocationsRecord, REVOCATIONS, RevocationsRecord(), step)

    # --- Answers to members ----------------------------------------------------------------------------------------

    async def network(self) -> NetworkAnswer:
        """The answer to `GET /network`."""
        own = await self.open()
        found = await find(self._store, ParametersRecord, PARAMETERS)
        parameters = found[0] if found else None
        return NetworkAnswer(
            trust_root=to_pem(own.certificates[ROOT_KEY]),
            epoch=parameters.epoch if parameters else None,
            network_parameters=parameters.document if parameters else None,
            issuer=fingerprint(own.issuing),
            crl={issuer: self._crl_url(issuer) for issuer in own.lists},
            issuers={issuer: to_pem(own.certificates[issuer]) for issuer in own.lists},
        )

    async def crl(self, issuer: str) -> bytes:
        """A revocation list, DER, cached for `_FRESH_SECONDS`, and longer while the register does not answer.

        Raises:
            LookupError: there is no such issuer.
            UnavailableError: the register does not answer or has no list, and none is cached.
        """
        if issuer not in (lists := (await self.open()).lists):
            raise LookupError(f"wanted {', '.join(f'/{each}.crl' for each in lists)}")
        read, content = self._crls.get(issuer, (0.0, b""))
        if content and abs(self.now().timestamp() - read) < _FRESH_SECONDS:
            return content
        try:
            document = await self._store.read(_crl_blob(issuer))
        except UnavailableError:
            if content:
                return content
            raise
        if document is None:
            raise UnavailableError(f"register: blob {_crl_blob(issuer)} is not there yet")
        self._crls[issuer] = self.now().timestamp(), document.content
        return document.content

    async def run_due_tasks(self) -> str | None:
        """Do everything that is due; returns what a person should know, or None.

        Raises:
            UnavailableError: vault or register do not answer.
            DamagedError: the authority's own record or keys are damaged; the message says how.
        """
        self.due.clear()
        reasons = []
        try:
            own = await self._reopen()
        except DamagedError as error:
            # A VM that has read the record before goes on with it.
            if self._own is None:
                raise
            own, reasons = self._own, [str(error)]
        own, waits = await self._tend_root(own)
        reasons += waits
        await self._record_own(own)
        reasons += await self._publish_revoked(own)
        try:
            await self._parameters()
        except DamagedError as error:
            reasons.append(str(error))
        reasons += [f"the network's parameters wait for the certificate of {name}" for name in self._missing]
        waiting, damaged = await self._waiting()
        self.waiting, reasons = len(waiting), reasons + damaged
        # One damaged blob stops several tasks.
        return "; ".join(dict.fromkeys(reasons)) or None

    async def _publish_revoked(self, own: OwnCertificates) -> list[str]:
        """Sign the identity CAs' revocation lists that are due; returns the reasons of failures."""
        complete, _ = await self._listed(own, ROOT_KEY, own.revoked_cas)
        reasons = list[str]()
        for issuer in own.record.identity_cas:
            if issuer in own.record.revoked and complete:
                # The root's list revokes it, and its key may be gone.
                continue
            try:
                revoked = partial(self._revoked_by, issuer)
                await self._publish(own, issuer, revoked, None, self._lifetimes.revocation_list)
            except (UnavailableError, DamagedError) as error:
                reasons.append(f"revocation list of {issuer}: {error}")
        return reasons

    async def _revoked_cas(self) -> Mapping[int, datetime]:
        """Revoked identity CAs, read again: time of revocation by serial number."""
        return (await self._reopen()).revoked_cas

    async def _revoked_by(self, issuer: str) -> Mapping[int, datetime]:
        """An identity CA's revoked certificates: time of revocation by serial number."""
        found = await find(self._store, RevocationsRecord, REVOCATIONS)
        return {
            int(serial, 16): datetime.fromisoformat(each.revoked)
            for serial, each in (found[0].certificates if found else {}).items()
            if each.issuer == issuer
        }

    async def _listed(
        self, own: OwnCertificates, issuer: str, revoked: Mapping[int, datetime]
    ) -> tuple[bool, datetime | None]:
        """Whether the stored revocation list has exactly these serial numbers, and when it expires."""
        document = await self._store.read(_crl_blob(issuer))
        try:
            read = read_revocation_list(document.content, own.certificates[issuer]) if document else None
        except CertificateError:
            read = None
        return (read.serials == set(revoked), read.ends) if read else (False, None)

    async def _publish(
        self,
        own: OwnCertificates,
        issuer: str,
        read_revoked: Callable[[], Awaitable[Mapping[int, datetime]]],
        signer: Signer | None,
        lifetime: timedelta,
    ) -> None:
        """Sign a revocation list unless the stored one is complete and less than a day old.

        `signer`: the root's; None: look the issuer's up if needed.

        Raises:
            DamagedError: the register lacks what the stored list revokes, so a new list would make it valid again.
            UnavailableError: the VM's clock is wrong, or vault or register do not answer.
        """
        await self.check_clock()
        blob, now = _crl_blob(issuer), self.now().replace(microsecond=0)
        for _ in range(MAX_TRIES):
            document = await self._store.read(blob)
            # Read after the list, to which another VM may just have added one.
            revoked = await read_revoked()
            # Above any that was reached by counting, if a list was lost: members take none with a lower number.
            number = int(self.now().timestamp() * 1_000_000)
            if document:
                try:
                    listed = read_revocation_list(document.content, own.certificates[issuer])
                except CertificateError as error:
                    log.error("register: blob %s is not a revocation list: %s", blob, error)
                else:
                    number = listed.number + 1
                    if lacking := listed.serials - revoked.keys():
                        record = AUTHORITY if issuer == ROOT_KEY else REVOCATIONS
                        raise _lost(record, f"{blob} revokes {min(lacking):x}, which it lacks")
                    age = now - listed.since
                    # A list of the future is of a VM whose clock was wrong; members take a later one.
                    current = -_CLOCKS_APART < age < self._lifetimes.revocation_list_renewal
                    if listed.serials == set(revoked) and current:
                        return
            builder = revocation_list(own.certificates[issuer], number, revoked, now=now, lifetime=lifetime)
            signer = signer or await self._signer(own, issuer)
            content = (await sign(builder, signer)).public_bytes(Encoding.DER)
            if await self._store.write(blob, content, document.etag if document else None):
                self._crls.pop(issuer, None)
                log.info("revocation list %d of %s: %d certificates", number, issuer, len(revoked))
                return
        raise UnavailableError(f"register: blob {blob} changed {MAX_TRIES} times meanwhile")

    async def _parameters(self) -> None:
        """Sign new parameters if configuration or notaries changed, and all notaries have certificates."""
        if self._writing.locked():
            return
        async with self._writing:
            found = await find(self._store, ParametersRecord, PARAMETERS)
            record, etag = found or (None, None)
            # A VM may have booted with a clock that was ahead: it is not the newest until then.
            self._configured = min(self._configured, self.now().timestamp())
            if record:
                await self._record_parameters(record)
                if record.configured > self._configured:
                    # A VM with a newer configuration has signed them.
                    self._missing = []
                    return
            certified = {
                name: (await find(self._store, NameRecord, _name_blob(name))) for name in self._configuration.notaries
            }
            current = {
                name: each[0].current(CertificateRole.LEGAL_IDENTITY) if each else None
                for name, each in certified.items()
            }
            self._missing = [name for name, issued in current.items() if issued is None]
            if self._missing:
                return
            issued = {name: each for name, each in current.items() if each}
            notaries = tuple(Notary(legal_name=name, key_hash=each.key_hash) for name, each in issued.items())
            settings, own = self._configuration.parameters, await self._reopen()
            for name, each in issued.items():
                _check_notary(own, name, each)
            if record and (record.notaries, record.settings) == (notaries, settings.model_dump()):
                return
            if record is None and (
                signed := [each for each in await self._store.names(_DECISIONS) if _SIGNED_PARAMETERS in each]
            ):
                if await find(self._store, ParametersRecord, PARAMETERS):
                    # Another VM has just signed them.
                    return
                raise _lost(PARAMETERS, f"{signed[-1]} is there, which it precedes")
            now = self.now().replace(microsecond=0)
            made = NetworkParameters(
                epoch=record.epoch + 1 if record else 1,
                modified=now,
                settings=settings,
                notaries=[from_pem(each.certificate) for each in issued.values()],
            )
            raw = await self._serializer.raw(made)
            signature = await own.signers[NETWORK_PARAMETERS_KEY].sign(raw)
            document = await self._serializer.assemble(raw, signature, own.certificates[NETWORK_PARAMETERS_KEY])
            new = ParametersRecord(
                epoch=made.epoch,
                settings=settings.model_dump(),
                notaries=notaries,
                modified=now.isoformat(),
                configured=self._configured,
                document=base64.b64encode(document).decode(),
            )
            # If another VM wrote first, the next run signs what is still missing.
            if await self._store.write(PARAMETERS, new.to_json(), etag):
                await self._record_parameters(new)

    async def _record_parameters(self, record: ParametersRecord) -> None:
        if record.epoch == self._recorded:
            return
        await self._record(
            f"{_SIGNED_PARAMETERS}{record.epoch}",
            record.modified,
            decision="parameters",
            epoch=record.epoch,
            settings=record.settings,
            notaries=[each.model_dump(by_alias=True) for each in record.notaries],
            sha256=hashlib.sha256(base64.b64decode(record.document)).hexdigest(),
        )
        self._recorded = record.epoch

    # --- The record of decisions -----------------------------------------------------------------------------------

    def _time(self) -> str:
        return self.now().astimezone(UTC).isoformat(timespec="seconds")

    async def _record(self, name: str, when: str, **facts: object) -> bool:
        """Record a decision permanently, in a blob that is written once, `decisions/DATE/NAME.json`.

        Returns:
            whether it is new.
        """
        content = json.dumps({"when": when, **facts}, indent=1, ensure_ascii=False).encode()
        if new := await self._store.write(f"{_DECISIONS}{when[:10]}/{name}.json", content, None) is not None:
            log.info("%s", " ".join(f"{key}={value}" for key, value in facts.items() if value is not None))
        return new


def _request_fields(record: RequestRecord) -> tuple[str, str, str]:
    return record.legal_name, record.role, record.key_hash


def _name_blob(legal_name: str) -> str:
    # Hashed: a name may have characters that a blob name may not, and X.500 has several spellings of a name.
    return f"{_bank_prefix(legal_name)}{hashlib.sha256(name_key(legal_name).encode()).hexdigest()}"


def _bank_prefix(legal_name: str) -> str:
    """Prefix of the blobs of one bank's names."""
    try:
        bank = LegalName.bank_of(legal_name).key
    except ValueError:
        # No such name is certified.
        bank = ""
    return f"{_CERTIFIED}{hashlib.sha256(bank.encode()).hexdigest()}/"


def _other_card(request: RequestRecord, entitled: Entitlement) -> str | None:
    """Why a request from an earlier card is refused; None if it may be granted. Polling proves no key."""
    if request.card == entitled.card:
        return None
    return (
        f"{request.legal_name} was asked for under the card key {request.card}, and that of {entitled.member} is"
        f" {entitled.card} now; wanted the request posted again"
    )


def _second_key(record: NameRecord, member: str, role: CertificateRole, hashed: str) -> str | None:
    """Why a key may not be certified under a name; None if it may."""
    current = record.current(role)
    if current and current.key_hash != hashed:
        return (
            f"{record.legal_name} is certified with another key, {current.key_hash}; wanted that key, or its"
            " certificate revoked by the authority first"
        )
    if record.member != member and record.issued:
        return f"{record.legal_name} is certified for {record.member}; wanted it revoked first"
    return None


def _rejected_before(request: RequestRecord, then: datetime) -> bool:
    return (
        request.state is RequestState.REJECTED
        and request.decided is not None
        and datetime.fromisoformat(request.decided) < then
    )


def _check_notary(own: OwnCertificates, name: str, issued: Issued) -> None:
    """Check that this authority certified a notary's key, whatever the register says.

    Raises:
        DamagedError: it did not.
    """
    try:
        leaf, ca = from_pem(issued.certificate), own.certificates[issued.issuer]
        leaf.verify_directly_issued_by(ca)
        check_certified((leaf, ca, own.certificates[ROOT_KEY]), name)
        if key_hash(leaf.public_key()) != issued.key_hash:
            raise CertificateError(f"its key's hash is not {issued.key_hash}")
    except (KeyError, TypeError, ValueError, InvalidSignature, CertificateError) as error:
        raise DamagedError(
            f"register: blob {_name_blob(name)}: {name} has a certificate that the authority did not issue"
            f" ({str(error) or repr(error)}); wanted: its last version restored"
        ) from error


def _open_blob(identifier: RequestId) -> str:
    return _OPEN + identifier


def _needs() -> AuthorityNeeds:
    assert CORDA.authority  # noqa: S101
    return CORDA.authority


def _check_own(certificate: x509.Certificate, signer: Signer, what: str) -> None:
    theirs, ours = key_hash(certificate.public_key()), key_hash(signer.public_key)
    if theirs != ours:
        raise DamagedError(
            f"{what}: its hash is {ours}; wanted {theirs}, which the authority's certificate has: the vault's backup"
            " restored, or a new network"
        )


def _lost(blob: str, why: str) -> DamagedError:
    return DamagedError(
        f"register: blob {blob} was lost or is older than the rest: {why}; wanted: its newest version restored"
    )


def _request_blob(identifier: RequestId) -> str:
    return _REQUESTS + identifier


def _crl_blob(issuer: str) -> str:
    return f"{_LISTS}{issuer}"
