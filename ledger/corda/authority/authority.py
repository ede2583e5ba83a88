"""What an authority decides: whose key is certified under which legal name, and what the network's parameters are.

Each decision is one conditional write into the register, so that of several VMs one makes it, and all tell the same.
"""

import asyncio
import base64
import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from agent.fence import DamagedError, UnavailableError
from ledger.corda.authority.configuration import Approval, Configuration
from ledger.corda.authority.keys import IDENTITY_CA, KEYS, NETWORK_PARAMETERS, ROOT, KeyChain
from ledger.corda.authority.members import Members
from ledger.corda.authority.parameters import NetworkParameters, Serializer
from ledger.corda.authority.register import (
    AUTHORITY,
    PARAMETERS,
    REVOCATIONS,
    AuthorityRecord,
    Issued,
    NameRecord,
    Notary,
    ParametersRecord,
    RequestRecord,
    RevocationsRecord,
    Revoked,
    State,
    Store,
    change,
    find,
    records,
)
from ledger.corda.certificates import (
    LIFETIME,
    ROOT_LIFETIME,
    CertificateError,
    Role,
    Signer,
    certificate,
    from_pem,
    key_hash,
    name_key,
    read_request,
    renewal_time,
    revocation_list,
    sign,
    to_pem,
    x500_name,
)
from ledger.corda.enrolment import NetworkAnswer

CRLS = (ROOT, IDENTITY_CA)
"""Whose revocation lists there are."""
NONCE_MINUTES = 15
"""A nonce is forgotten when no request with it can be in time any more."""
NONCES_AT_ONCE = 1000
"""So many are forgotten each time that an authority tends what is due; the rest the next time."""
KEYS_AT_MOST = 8
"""So many keys a member may ask for under one name and role: it fills no register."""

_RACES = 20
_CARD = "the card of "
"""Who approves where no person does."""
_SHORT = 24
"""Hex digits of a hash in an id."""
_DELETED_TOGETHER = 20
_FRESH_SECONDS = 10.0
_NAMES = {ROOT: "Network Root CA", IDENTITY_CA: "Network Identity CA", NETWORK_PARAMETERS: "Network Parameters"}

log = logging.getLogger(__name__)


class RefusedError(Exception):
    """A request that is not granted; the reason may be told to whoever asked."""


@dataclass(frozen=True)
class Lifetimes:
    """How long what an authority signs is valid."""

    root: timedelta = ROOT_LIFETIME
    issued: timedelta = LIFETIME
    revocation_list: timedelta = timedelta(days=7)
    revocation_list_renewal: timedelta = timedelta(days=1)


@dataclass(frozen=True)
class Own:
    """The authority's own certificates, and what signs with their keys."""

    certificates: dict[str, x509.Certificate]
    signers: dict[str, Signer]


class Authority:
    """One VM's hold on the register. Everything in it may be called at once by several VMs."""

    def __init__(
        self,
        configuration: Configuration,
        store: Store,
        keys: KeyChain,
        members: Members,
        serializer: Serializer,
        *,
        configured: float,
        lifetimes: Lifetimes = Lifetimes(),
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`configured` is when the configuration was written, in seconds since 1970: a VM with an older one than the
        parameters were made by leaves them alone, as while VMs are replaced one after the other."""
        self._configuration, self._configured = configuration, configured
        self._store, self._keys, self.members, self._serializer = store, keys, members, serializer
        self._lifetimes, self.now = lifetimes, now
        self._own: Own | None = None
        self._opening, self._writing = asyncio.Lock(), asyncio.Lock()
        self._crls: dict[str, tuple[float, bytes]] = {}
        self._missing: list[str] = []
        self._recorded: int | None = None
        self.due = asyncio.Event()
        """Set when there is something to tend at once."""

    # --- The authority's own certificates ---

    async def open(self) -> Own:
        """The authority's own certificates; they are made the first time that any of its VMs asks.

        Raises:
            UnavailableError: vault or register are away.
            DamagedError: the vault has not the keys of the register's certificates.
        """
        async with self._opening:
            if self._own is None:
                found = await find(self._store, AuthorityRecord, AUTHORITY)
                record = found[0] if found else await self._found()
                pems = {
                    ROOT: record.root,
                    IDENTITY_CA: record.identity_ca,
                    NETWORK_PARAMETERS: record.network_parameters,
                }
                certificates = {name: from_pem(pem) for name, pem in pems.items()}
                signers = {name: (await self._keys.signer(name, record.versions[name]))[1] for name in KEYS}
                for name in KEYS:
                    theirs, ours = key_hash(certificates[name].public_key()), key_hash(signers[name].public_key)
                    if theirs != ours:
                        raise DamagedError(
                            f"key {name}, version {record.versions[name]}: its hash is {ours}; wanted {theirs}, which"
                            " the authority's certificate has: the vault's backup restored, or a new network"
                        )
                self._own = Own(certificates, signers)
            return self._own

    async def _found(self) -> AuthorityRecord:
        """Make the authority's certificates, once for the network's life."""
        keys = {name: await self._keys.signer(name) for name in KEYS}
        names = {name: x500_name(f"CN={_NAMES[name]}, {self._configuration.subject}") for name in KEYS}
        signer, now = keys[ROOT][1], self.now()
        root = await sign(
            certificate(None, names[ROOT], signer.public_key, None, now=now, lifetime=self._lifetimes.root), signer
        )
        below = {
            name: await sign(
                certificate(
                    role,
                    names[name],
                    keys[name][1].public_key,
                    root,
                    now=now,
                    lifetime=self._lifetimes.root,
                    crl_url=self._crl_url(ROOT),
                ),
                signer,
            )
            for name, role in ((IDENTITY_CA, Role.DOORMAN_CA), (NETWORK_PARAMETERS, Role.NETWORK_PARAMETERS))
        }
        record = AuthorityRecord(
            versions={name: version for name, (version, _) in keys.items()},
            root=to_pem(root),
            identity_ca=to_pem(below[IDENTITY_CA]),
            network_parameters=to_pem(below[NETWORK_PARAMETERS]),
        )
        if await self._store.write(AUTHORITY, record.to_json(), None):
            log.info("the network has a root: %s", root.subject.rfc4514_string())
            return record
        # Another VM was there a moment earlier: its root is the network's, and ours never was.
        found = await find(self._store, AuthorityRecord, AUTHORITY)
        if found is None:
            raise UnavailableError(f"register: blob {AUTHORITY} can't be read yet")
        return found[0]

    def _crl_url(self, issuer: str) -> str:
        return f"{self._configuration.crl_url}/{issuer}.crl"

    # --- Requests ---

    async def take(self, nonce: str, member: str, time: int) -> bool:
        """Whether a member's nonce, of that time in seconds since 1970, is new to all VMs of the authority."""
        return await self._store.write(f"nonces/{time // 60:012d}/{member}-{nonce}", b"", None) is not None

    async def request(self, member: str, encoded: bytes) -> str:
        """Note a member's request for a certificate; its id is the same each time that the same is asked.

        Args:
            member: who asks, proven.
            encoded: PKCS#10, DER.

        Raises:
            RefusedError: it will not be granted.
            UnavailableError: vault or register are away.
        """
        try:
            asked = read_request(encoded)
        except CertificateError as error:
            raise RefusedError(str(error)) from error
        hashed = key_hash(asked.public_key)
        names = await self.members.legal_names(member)
        if asked.legal_name not in names:
            reason = f"{asked.legal_name} does not stand on the card of {member}; wanted one of its nodes"
            await self._refused(member, asked.legal_name, asked.role.name, hashed, reason)
        found = await find(self._store, NameRecord, _name_blob(asked.legal_name))
        if found:
            await self._check_key(found[0], member, asked.role, hashed)
        place = _short(member, name_key(asked.legal_name), asked.role.name)
        identifier = f"{place}-{hashed[:_SHORT]}"
        there = await find(self._store, RequestRecord, _request_blob(identifier))
        if there:
            # A VM may have ended between the two.
            if there[0].state is State.PENDING:
                await self._store.write(_open_blob(identifier), b"", None)
            return identifier
        if await self._asked(place, found[0].revoked if found else ()) >= KEYS_AT_MOST:
            reason = f"{KEYS_AT_MOST} keys were asked for {asked.legal_name}, {asked.role.name}; wanted one of them"
            await self._refused(member, asked.legal_name, asked.role.name, hashed, reason)
        record = RequestRecord(
            id=identifier,
            member=member,
            legal_name=asked.legal_name,
            role=asked.role.name,
            key=asked.public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode(),
            key_hash=hashed,
            asked=self._time(),
        )
        if await self._store.write(_request_blob(identifier), record.to_json(), None):
            await self._store.write(_open_blob(identifier), b"", None)
            log.info("request %s of %s: %s of %s, key %s", identifier, member, *_told(record))
        return identifier

    async def _asked(self, place: str, revoked: Sequence[str]) -> int:
        """How many keys of a place stand in the register, without those that a person has decided against."""
        prefix = _request_blob(f"{place}-")
        gone = {prefix + each[:_SHORT] for each in revoked}
        names = [name for name in await self._store.names(prefix) if name not in gone]
        if len(names) < KEYS_AT_MOST:
            return len(names)
        found = [await find(self._store, RequestRecord, name) for name in names]
        return sum(each is not None and each[0].state is not State.REJECTED for each in found)

    async def answer(self, member: str, identifier: str) -> tuple[x509.Certificate, ...] | None:
        """The chain that a member's request got, from leaf to root; None while a person is to approve it.

        Raises:
            RefusedError: it was rejected, or is not granted any more.
            LookupError: the member has no such request.
            UnavailableError: vault or register are away.
        """
        found = await find(self._store, RequestRecord, _request_blob(identifier))
        if found is None or found[0].member != member:
            raise LookupError(identifier)
        record = found[0]
        if record.legal_name not in await self.members.legal_names(member):
            reason = f"{record.legal_name} stands no more on the card of {member}; wanted one of its nodes"
            await self._refused(member, *_told(record), reason)
        if record.state is State.PENDING and not await self._by_hand(record.legal_name):
            record = await self._decide(identifier, State.APPROVED, f"{_CARD}{member}", None)
        if record.state is State.REJECTED:
            raise RefusedError(f"rejected: {record.reason}")
        return await self._issued(record) if record.state is State.APPROVED else None

    async def _by_hand(self, legal_name: str) -> bool:
        """Whether a person is to approve: what somebody revoked comes back by nobody's card alone."""
        if self._configuration.approval is Approval.MANUAL:
            return True
        found = await find(self._store, NameRecord, _name_blob(legal_name))
        return found is not None and bool(found[0].revoked)

    async def _issued(self, request: RequestRecord) -> tuple[x509.Certificate, ...] | None:
        own, role, blob = await self.open(), Role[request.role], _name_blob(request.legal_name)
        for _ in range(_RACES):
            found = await find(self._store, NameRecord, blob)
            record, etag = found or (NameRecord(legal_name=request.legal_name, member=request.member), None)
            await self._check_key(record, request.member, role, request.key_hash)
            # Revoking takes approvals back before it frees the name, so what is read here is what holds.
            if record.revoked and not await self._approved(request.id):
                return None
            issued = record.current(role)
            leaf = from_pem(issued.certificate) if issued else None
            if issued is None or leaf is None or self.now() >= renewal_time(leaf):
                leaf = await self._signed(own, request, role)
                issued = Issued(
                    role=role.name,
                    key_hash=request.key_hash,
                    serial=f"{leaf.serial_number:x}",
                    certificate=to_pem(leaf),
                    issued=self._time(),
                    expires=leaf.not_valid_after_utc.isoformat(),
                )
                # What is valid no more needs no revocation.
                kept = [each for each in record.issued if datetime.fromisoformat(each.expires) > self.now()]
                record = record.model_copy(update={"issued": (*kept, issued), "member": request.member})
                if not await self._store.write(blob, record.to_json(), etag):
                    continue
                self.due.set()
            # Before it is told to anybody; again each time, since a VM may have ended between the two.
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
            return leaf, own.certificates[IDENTITY_CA], own.certificates[ROOT]
        raise UnavailableError(f"register: blob {blob} changed {_RACES} times meanwhile")

    async def _approved(self, identifier: str) -> bool:
        """Whether a person's approval of a request holds, as the request is now."""
        found = await find(self._store, RequestRecord, _request_blob(identifier))
        if found is None or found[0].state is not State.APPROVED:
            return False
        by = found[0].by or ""
        if by.startswith(_CARD):
            # Approved by nobody at the moment that somebody revoked.
            await self._decide(identifier, State.PENDING, by, f"{found[0].legal_name} is revoked")
            return False
        return True

    async def _signed(self, own: Own, request: RequestRecord, role: Role) -> x509.Certificate:
        key = load_pem_public_key(request.key.encode())
        assert isinstance(key, ec.EllipticCurvePublicKey)  # noqa: S101  # read_request took no other.
        builder = certificate(
            role,
            x500_name(request.legal_name),
            key,
            own.certificates[IDENTITY_CA],
            now=self.now(),
            lifetime=self._lifetimes.issued,
            crl_url=self._crl_url(IDENTITY_CA),
        )
        return await sign(builder, own.signers[IDENTITY_CA])

    async def _check_key(self, record: NameRecord, member: str, role: Role, hashed: str) -> None:
        """Refuse what would give a name a second key."""
        if reason := _second_key(record, member, role, hashed):
            await self._refused(member, record.legal_name, role.name, hashed, reason)

    async def _refused(self, member: str, legal_name: str, role: str, hashed: str, reason: str) -> None:
        now = self._time()
        log.warning("refused: %s of %s, key %s: %s", role, member, hashed, reason)
        # The first of a day: a member that asks each minute, each time for something else, fills no register.
        case = _short(member, role)
        await self._record(
            f"refused-{case}",
            now,
            decision="refused",
            member=member,
            legal_name=legal_name,
            role=role,
            key=hashed,
            reason=reason,
        )
        raise RefusedError(reason)

    # --- What people decide ---

    async def pending(self) -> Sequence[RequestRecord]:
        """The requests that wait for a person, oldest first."""
        waiting: list[RequestRecord] = []
        # Of all that was ever asked only what is open is read.
        for name in await self._store.names(_open_blob("")):
            identifier = name.removeprefix(_open_blob(""))
            found = await find(self._store, RequestRecord, _request_blob(identifier))
            if found is None or found[0].state is not State.PENDING:
                # A VM ended between the two; whoever opens it anew and asks again marks it again.
                await self._store.delete(name)
            elif await self._by_hand(found[0].legal_name):
                waiting.append(found[0])
        return sorted(waiting, key=lambda each: (each.asked, each.id))

    async def approve(self, identifier: str, by: str) -> RequestRecord:
        """Grant a request; the certificate is issued when the member asks next, within a minute.

        Raises:
            LookupError: there is none of that id.
            RefusedError: the name has another key, or this one was revoked.
        """
        if found := await find(self._store, RequestRecord, _request_blob(identifier)):
            request = found[0]
            name = await find(self._store, NameRecord, _name_blob(request.legal_name))
            reason = name and _second_key(name[0], request.member, Role[request.role], request.key_hash)
            revoked = name[0].revoked if name else ()
            for each in await self._approvals(request.legal_name):
                if each.role == request.role and each.key_hash not in {request.key_hash, *revoked}:
                    reason = reason or f"request {each.id} of that name is approved; wanted it rejected first"
            if reason:
                raise RefusedError(reason)
        return await self._decide(identifier, State.APPROVED, by, None)

    async def _approvals(self, legal_name: str) -> Sequence[RequestRecord]:
        """What is approved under a name, whoever asked."""
        return [
            each
            for each in await records(self._store, RequestRecord, _request_blob(""))
            if each.state is State.APPROVED and name_key(each.legal_name) == name_key(legal_name)
        ]

    async def _take_back(self, name: NameRecord, by: str) -> None:
        """Have a person approve anew what is approved of a name with another key than it is certified with."""
        keys = {*name.revoked, *(each.key_hash for each in name.issued)}
        for each in await self._approvals(name.legal_name):
            if each.key_hash not in keys:
                await self._decide(each.id, State.PENDING, by, f"{name.legal_name} is revoked")

    async def reject(self, identifier: str, reason: str, by: str) -> RequestRecord:
        """Refuse a request for good.

        Raises:
            LookupError: there is none of that id.
        """
        return await self._decide(identifier, State.REJECTED, by, reason)

    async def _decide(self, identifier: str, state: State, by: str, reason: str | None) -> RequestRecord:
        blob, now = _request_blob(identifier), self._time()
        if await self._store.read(blob) is None:
            raise LookupError(f"request {identifier}; wanted one of those that `pending` tells")

        def step(record: RequestRecord) -> RequestRecord:
            if record.state is state:
                return record
            return record.model_copy(update={"state": state, "decided": now, "by": by, "reason": reason})

        record = await change(self._store, RequestRecord, blob, None, step)
        if record.state is State.PENDING:
            await self._store.write(_open_blob(identifier), b"", None)
        else:
            await self._store.delete(_open_blob(identifier))
        decided = record.decided or now
        await self._record(
            f"{state}-{identifier}-{decided}",
            decided,
            decision=str(state),
            member=record.member,
            legal_name=record.legal_name,
            role=record.role,
            key=record.key_hash,
            by=record.by,
            reason=record.reason,
        )
        return record

    async def revoke(self, legal_name: str, by: str) -> Sequence[Issued]:
        """Revoke all certificates of a name; another key may be certified under it then, once a person approves it.

        Raises:
            LookupError: nothing is certified under it.
        """
        blob, now = _name_blob(legal_name), self._time()
        taken: dict[str, Issued] = {}
        for _ in range(_RACES):
            found = await find(self._store, NameRecord, blob)
            if not found or not found[0].issued:
                break
            record, etag = found
            added = {
                each.serial: Revoked(
                    legal_name=record.legal_name, role=each.role, key_hash=each.key_hash, revoked=now, by=by
                )
                for each in record.issued
            }
            await self._take_back(record, by)
            # In this order: what is cut off halfway leaves no valid certificate that the register forgot.
            await self._add_revoked(added)
            keys = {each.key_hash for each in record.issued}
            empty = record.model_copy(
                update={"issued": (), "revoked": (*record.revoked, *sorted(keys - set(record.revoked)))}
            )
            # One that was issued meanwhile is revoked in the next round.
            if not await self._store.write(blob, empty.to_json(), etag):
                continue
            for each in record.issued:
                taken[each.serial] = each
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
        if not taken:
            raise LookupError(f"{legal_name}: nothing is certified under it; wanted a certified name")
        await self._publish(IDENTITY_CA)
        return tuple(taken.values())

    async def _add_revoked(self, added: dict[str, Revoked]) -> None:
        def step(record: RevocationsRecord) -> RevocationsRecord:
            return record.model_copy(update={"certificates": added | record.certificates})

        await change(self._store, RevocationsRecord, REVOCATIONS, RevocationsRecord(), step)

    # --- What the network is told ---

    async def network(self) -> NetworkAnswer:
        """What members are told of their network."""
        own = await self.open()
        found = await find(self._store, ParametersRecord, PARAMETERS)
        parameters = found[0] if found else None
        return NetworkAnswer(
            trust_root=to_pem(own.certificates[ROOT]),
            epoch=parameters.epoch if parameters else None,
            network_parameters=parameters.document if parameters else None,
            crl={issuer: self._crl_url(issuer) for issuer in CRLS},
        )

    async def crl(self, issuer: str) -> bytes:
        """A revocation list, DER; a short while old, and older while the register is away.

        Raises:
            UnavailableError: it was never read, and the register is away.
        """
        read, content = self._crls.get(issuer, (0.0, b""))
        if content and self.now().timestamp() < read + _FRESH_SECONDS:
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

    async def tend(self) -> str | None:
        """Do what is due; returns what a person should know, or None.

        Raises:
            UnavailableError: vault or register are away.
            DamagedError: see the message.
        """
        self.due.clear()
        await self.open()
        for issuer in CRLS:
            await self._publish(issuer)
        await self._parameters()
        oldest = int(self.now().timestamp()) // 60 - NONCE_MINUTES
        old = [name for name in await self._store.names("nonces/") if int(name.split("/")[1]) < oldest]
        for start in range(0, min(len(old), NONCES_AT_ONCE), _DELETED_TOGETHER):
            together = old[start : min(start + _DELETED_TOGETHER, NONCES_AT_ONCE)]
            await asyncio.gather(*(self._store.delete(name) for name in together))
        told = [f"the network's parameters wait for the certificate of {name}" for name in self._missing]
        if waiting := await self.pending():
            told.append(f"{len(waiting)} requests wait for approval")
        return "; ".join(told) or None

    async def _publish(self, issuer: str) -> None:
        """Sign a revocation list if the one there is does not tell all, or is a day old."""
        own, blob, now = await self.open(), _crl_blob(issuer), self.now().replace(microsecond=0)
        for _ in range(_RACES):
            revoked: dict[int, datetime] = {}
            if issuer == IDENTITY_CA and (found := await find(self._store, RevocationsRecord, REVOCATIONS)):
                revoked = {
                    int(serial, 16): datetime.fromisoformat(each.revoked)
                    for serial, each in found[0].certificates.items()
                }
            document = await self._store.read(blob)
            number = 0
            if document:
                try:
                    number, listed, since = _read_list(document.content)
                except (ValueError, x509.ExtensionNotFound) as error:
                    # It is made anew, with a number that is above every one that was counted up to.
                    log.error("register: blob %s is no revocation list: %s", blob, error)
                    number = int(now.timestamp())
                else:
                    if listed == set(revoked) and now < since + self._lifetimes.revocation_list_renewal:
                        return
            builder = revocation_list(
                own.certificates[issuer],
                number + 1,
                revoked,
                now=now,
                lifetime=self._lifetimes.revocation_list,
            )
            content = (await sign(builder, own.signers[issuer])).public_bytes(Encoding.DER)
            if await self._store.write(blob, content, document.etag if document else None):
                self._crls.pop(issuer, None)
                log.info("revocation list %d of %s: %d certificates", number + 1, issuer, len(revoked))
                return
        raise UnavailableError(f"register: blob {blob} changed {_RACES} times meanwhile")

    async def _parameters(self) -> None:
        """Sign parameters if configuration or notaries have changed, and all notaries have certificates."""
        if self._writing.locked():
            return
        async with self._writing:
            found = await find(self._store, ParametersRecord, PARAMETERS)
            record, etag = found or (None, None)
            if record:
                await self._record_parameters(record)
                if record.configured > self._configured:
                    return
            certified = {
                name: (await find(self._store, NameRecord, _name_blob(name))) for name in self._configuration.notaries
            }
            current = {
                name: each[0].current(Role.LEGAL_IDENTITY) if each else None for name, each in certified.items()
            }
            self._missing = [name for name, issued in current.items() if issued is None]
            if self._missing:
                return
            issued = {name: each for name, each in current.items() if each}
            notaries = tuple(Notary(legal_name=name, key_hash=each.key_hash) for name, each in issued.items())
            settings = self._configuration.parameters
            if record and (record.notaries, record.settings) == (notaries, settings.model_dump()):
                return
            own, now = await self.open(), self.now().replace(microsecond=0)
            made = NetworkParameters(
                epoch=record.epoch + 1 if record else 1,
                modified=now,
                settings=settings,
                notaries=[from_pem(each.certificate) for each in issued.values()],
            )
            raw = await self._serializer.raw(made)
            signature = await own.signers[NETWORK_PARAMETERS].sign(raw)
            document = await self._serializer.assemble(raw, signature, own.certificates[NETWORK_PARAMETERS])
            new = ParametersRecord(
                epoch=made.epoch,
                settings=settings.model_dump(),
                notaries=notaries,
                modified=now.isoformat(),
                configured=self._configured,
                document=base64.b64encode(document).decode(),
            )
            # If another VM was faster, what it has not said is said the next time.
            if await self._store.write(PARAMETERS, new.to_json(), etag):
                await self._record_parameters(new)

    async def _record_parameters(self, record: ParametersRecord) -> None:
        if record.epoch == self._recorded:
            return
        await self._record(
            f"parameters-{record.epoch}",
            record.modified,
            decision="parameters",
            epoch=record.epoch,
            settings=record.settings,
            notaries=[each.model_dump(by_alias=True) for each in record.notaries],
            sha256=hashlib.sha256(base64.b64decode(record.document)).hexdigest(),
        )
        self._recorded = record.epoch

    # --- The record of decisions ---

    def _time(self) -> str:
        return self.now().astimezone(UTC).isoformat(timespec="seconds")

    async def _record(self, name: str, when: str, **told: object) -> None:
        """Record a decision for good: a blob that is written once, `decisions/DATE/NAME`."""
        content = json.dumps({"when": when, **told}, indent=1, ensure_ascii=False).encode()
        if await self._store.write(f"decisions/{when[:10]}/{name}.json", content, None):
            log.info("%s", " ".join(f"{key}={value}" for key, value in told.items() if value is not None))


def _told(record: RequestRecord) -> tuple[str, str, str]:
    return record.legal_name, record.role, record.key_hash


def _name_blob(legal_name: str) -> str:
    # A name may have what a blob's name may not, and X.500 does not tell all ways of writing one apart.
    return f"names/{hashlib.sha256(name_key(legal_name).encode()).hexdigest()}"


def _second_key(record: NameRecord, member: str, role: Role, hashed: str) -> str | None:
    """Why a key is not certified under a name; None if it may be."""
    current = record.current(role)
    if hashed in record.revoked:
        return f"{record.legal_name}: the certificate of this key was revoked; wanted a new key"
    if current and current.key_hash != hashed:
        return (
            f"{record.legal_name} is certified with another key, {current.key_hash}; wanted that key, or its"
            " certificate revoked by the authority first"
        )
    if record.member != member and record.issued:
        return f"{record.legal_name} is certified for {record.member}; wanted it revoked first"
    return None


def _short(*parts: str) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:_SHORT]


def _read_list(content: bytes) -> tuple[int, set[int], datetime]:
    """Number of a revocation list, the serial numbers in it, and since when it is."""
    read = x509.load_der_x509_crl(content)
    number = read.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    return number, {each.serial_number for each in read}, read.last_update_utc


def _open_blob(identifier: str) -> str:
    # Of a request that nobody has decided.
    return f"open/{identifier}"


def _request_blob(identifier: str) -> str:
    return f"requests/{identifier}"


def _crl_blob(issuer: str) -> str:
    return f"crl/{issuer}"
