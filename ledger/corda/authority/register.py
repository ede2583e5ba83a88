"""The register's records and its store: blobs with conditional writes, which fail if another VM wrote first."""

import base64
import hashlib
import json
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated, NewType, Protocol, Self, TypeVar

from azure.core.exceptions import ResourceNotFoundError
from pydantic import AfterValidator, Field, StringConstraints, ValidationError, model_validator
from typing_extensions import override

from contract.legal_name import LegalNameText, name_key
from contract.models import FIRST_FAULT_ONLY, StrictModel, first_fault
from host.azure import answering
from host.bank_documents import BlobDocuments, Document, Documents, change_document
from host.errors import DamagedError, UnavailableError
from ledger.corda import IDENTITY_CA_KEY, NETWORK_PARAMETERS_KEY, ROOT_KEY
from ledger.corda.authority.signing import read_public_key
from ledger.corda.certificates import CertificateRole, from_pem, key_hash

AUTHORITY = "authority"
"""Name of the blob with the authority's own certificates."""
PARAMETERS = "parameters"
"""Name of the blob with the current network parameters."""
REVOCATIONS = "revocations"
"""Name of the blob with all revoked certificates."""


class Store(Documents, Protocol):
    """The store of the register."""

    async def delete(self, name: str) -> None:
        """Delete a blob, if it exists."""


class BlobStore(BlobDocuments, Store):
    """`Store` on a blob container."""

    @override
    async def delete(self, name: str) -> None:
        async with answering(f"document {name}", self._request_seconds):
            try:
                await self._container.delete_blob(name)
            except ResourceNotFoundError:
                return


# Strict models: the next write would lose unknown fields, so records with such fields are refused.


class Record(StrictModel):
    """A blob of the register: JSON with camelCase keys."""

    schema_version: str = Field("1.0", alias="schema", pattern=r"^1\.[0-9]+$")

    def to_json(self) -> bytes:
        """The blob's content: indented JSON."""
        return self.model_dump_json(by_alias=True, indent=1).encode()

    @classmethod
    def read(cls, document: Document, name: str) -> Self:
        """Parse a blob's content; `name` is the blob's, for the message.

        Raises:
            DamagedError: the content is no such record.
        """
        try:
            return cls.model_validate_json(document.content)
        except ValidationError as error:
            raise DamagedError(
                f"register: blob {name}: {first_fault(error)}; wanted: an earlier version of it restored"
            ) from error


RequestId = NewType("RequestId", str)
"""Id of a request, used in blob names; only `request_id` makes one of foreign text."""
SHORT = 24
"""Hex digits of a hash in an id."""
_REQUEST_ID = re.compile(rf"[0-9a-f]{{{SHORT}}}-[0-9a-f]{{{SHORT}}}")


def request_id(text: str) -> RequestId:
    """Parse a request id.

    Raises:
        ValueError: the text is none.
    """
    if not _REQUEST_ID.fullmatch(text):
        raise ValueError(f"request {text!r:.80}; wanted one that `pending` lists")
    return RequestId(text)


def request_place(member: str, legal_name: str, role: str) -> str:
    """What the ids of a member's requests for a name and role begin with."""
    return short_hash(member, name_key(legal_name), role) + "-"


def request_id_of(member: str, legal_name: str, role: str, hashed: str) -> RequestId:
    """The id of a request for a key with that hash."""
    return request_id(request_place(member, legal_name, role) + hashed[:SHORT])


def short_hash(*parts: str) -> str:
    """A hash of `SHORT` hex digits, for names of blobs."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:SHORT]


def _moment(text: str) -> str:
    if datetime.fromisoformat(text).tzinfo is None:
        raise ValueError("wanted a time with its zone")
    return text


def _pem(text: str) -> str:
    from_pem(text)
    return text


def _role(text: str) -> str:
    if text not in CertificateRole.__members__:
        raise ValueError(f"wanted one of {', '.join(CertificateRole.__members__)}")
    return text


def _public_key(text: str) -> str:
    read_public_key(text)
    return text


def _base64(text: str) -> str:
    base64.b64decode(text, validate=True)
    return text


Moment = Annotated[str, AfterValidator(_moment)]
"""Time in ISO 8601 with a zone."""
Pem = Annotated[str, AfterValidator(_pem)]
"""A certificate in PEM."""
RoleName = Annotated[str, AfterValidator(_role)]
"""Name of a `CertificateRole`."""
Serial = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{1,40}$")]
KeyHash = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""SHA-256 of a public key, 64 hex digits."""


class AuthorityRecord(Record):
    """The authority's own certificates, and the versions of their keys, both by key name."""

    versions: dict[str, str]
    certificates: dict[str, Pem]
    issuing: str
    """Key name of the identity CA that certifies names; earlier ones only sign their revocation lists."""
    generation: int = 1
    """Generation of that identity CA."""
    revoked: dict[str, Moment] = Field(default_factory=dict)
    """Revoked identity CAs: time of revocation by key name."""

    @property
    def identity_cas(self) -> tuple[str, ...]:
        """Key names of all identity CAs, oldest first."""
        return tuple(name for name in self.certificates if name not in (ROOT_KEY, NETWORK_PARAMETERS_KEY))

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.versions.keys() != self.certificates.keys():
            raise ValueError("keys of versions and certificates differ")
        if missing := {ROOT_KEY, NETWORK_PARAMETERS_KEY, self.issuing, *self.revoked} - self.certificates.keys():
            raise ValueError(f"no certificate of {', '.join(sorted(missing))}")
        return self


class RequestState(StrEnum):
    """Decision on a request."""

    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"


class RequestRecord(Record):
    """A certificate request, blob `requests/ID`."""

    id: Annotated[RequestId, AfterValidator(request_id)]
    member: str
    card: str | None = None
    """Fingerprint of the key that signed the member's card at its last request; None for the authority's bank."""
    legal_name: LegalNameText
    role: RoleName
    key: Annotated[str, AfterValidator(_public_key)]
    """The public key to certify, PEM."""
    key_hash: KeyHash
    asked: Moment
    state: RequestState = RequestState.PENDING
    decided: Moment | None = None
    by: str | None = None
    """Person who decided, or the card by which the request was approved."""
    reason: str | None = None

    @model_validator(mode="after")
    def _of_this_key(self) -> Self:
        # Who writes to the register must not have another key certified than was asked for and approved.
        if key_hash(read_public_key(self.key)) != self.key_hash:
            raise ValueError("keyHash is of another key")
        if self.id != request_id_of(self.member, self.legal_name, self.role, self.key_hash):
            raise ValueError("id is of another request")
        return self


class Issued(StrictModel):
    """An issued certificate."""

    role: RoleName
    key_hash: KeyHash
    serial: Serial
    certificate: Pem
    issued: Moment
    expires: Moment
    issuer: str = IDENTITY_CA_KEY
    """Key name of the issuing identity CA."""


class NameRecord(Record):
    """A legal name, blob `names/HASH OF ITS BANK/HASH`: at most one certified key per role."""

    legal_name: str
    member: str
    card: str | None = None
    """Fingerprint of the key that signs the member's card; None for the authority's own member."""
    issued: Annotated[tuple[Issued, ...], FIRST_FAULT_ONLY] = ()
    """Issued certificates that are not revoked, oldest first."""
    revoked: Annotated[tuple[KeyHash, ...], FIRST_FAULT_ONLY] = ()
    """Hashes of keys that are never certified again."""

    def current(self, role: CertificateRole) -> Issued | None:
        """The newest certificate of a role; None if there is none."""
        return next((each for each in reversed(self.issued) if each.role == role.name), None)


class Revoked(StrictModel):
    """A revoked certificate."""

    legal_name: str
    role: RoleName
    key_hash: KeyHash
    revoked: Moment
    by: str
    issuer: str = IDENTITY_CA_KEY
    """Key name of the issuing identity CA."""


class RevocationsRecord(Record):
    """All revoked certificates, by serial number in hex."""

    certificates: dict[Serial, Revoked] = Field(default_factory=dict)


class Notary(StrictModel):
    """A notary in the parameters."""

    legal_name: str
    key_hash: KeyHash


class ParametersRecord(Record):
    """The current network parameters."""

    epoch: int
    settings: dict[str, int]
    notaries: tuple[Notary, ...]
    modified: Moment
    configured: Annotated[float, Field(allow_inf_nan=False)]
    """When the VM configuration with these settings was written, in seconds since 1970."""
    document: Annotated[str, AfterValidator(_base64)]
    """The signed file, base64."""


_R = TypeVar("_R", bound=Record)


async def find(store: Documents, kind: type[_R], name: str) -> tuple[_R, str] | None:
    """A record and its ETag; None if there is none. Raises DamagedError."""
    document = await store.read(name)
    return (kind.read(document, name), document.etag) if document else None


async def change(store: Documents, kind: type[_R], name: str, new: _R | None, step: Callable[[_R], _R]) -> _R:
    """Change a record atomically; returns the new record.

    Args:
        store: the register.
        kind: the record's type.
        name: the blob's name.
        new: the record if there is none yet; None if one must exist.
        step: returns the changed record; called again if another VM wrote meanwhile; may raise.

    Raises:
        UnavailableError: other VMs wrote first too often, or there is no record.
    """
    changed = new

    def content(found: Document | None) -> bytes | None:
        nonlocal changed
        before = kind.read(found, name) if found else new
        if before is None:
            raise UnavailableError(f"register: blob {name} is not there")
        changed = step(before)
        return None if found and changed == before else changed.to_json()

    await change_document(store, name, content)
    assert changed is not None  # noqa: S101
    return changed


async def records(store: Documents, kind: type[_R], prefix: str) -> Sequence[_R]:
    """All records whose blob names begin with `prefix`."""
    found = [await find(store, kind, name) for name in await store.names(prefix)]
    return [each[0] for each in found if each]
