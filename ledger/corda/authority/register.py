"""The register's records, and where they are: blobs whose writes fail if somebody else was faster."""

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Protocol, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from agent.documents import BlobDocuments
from agent.fence import DamagedError, UnavailableError
from ledger.corda.certificates import Role
from ledger.software import Document, Documents

AUTHORITY = "authority"
"""Blob with the authority's own certificates: written once."""
PARAMETERS = "parameters"
"""Blob with the parameters in force."""
REVOCATIONS = "revocations"
"""Blob with every revoked certificate."""
_RACES = 20
"""So often in a row another VM may be faster."""


class Store(Documents, Protocol):
    """Where the register is."""

    async def delete(self, name: str) -> None:
        """Remove what may be gone already."""


class BlobStore(BlobDocuments):
    """Implements `Store` on Azure Storage."""

    async def delete(self, name: str) -> None:
        """See `Store`."""
        from azure.core.exceptions import ResourceNotFoundError  # noqa: PLC0415

        async with self._answers(name):
            try:
                await self._container.delete_blob(name)
            except ResourceNotFoundError:
                return


class _Part(BaseModel):
    # What is not known here would be lost by the next write, so it is not taken.
    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)


class Record(_Part):
    """A blob of the register: camelCase JSON."""

    schema_version: str = Field("1.0", alias="schema", pattern=r"^1\.[0-9]+$")

    def to_json(self) -> bytes:
        """The blob's content."""
        return self.model_dump_json(by_alias=True, indent=1).encode()

    @classmethod
    def read(cls, document: Document, name: str) -> Self:
        """The record in a blob.

        Raises:
            DamagedError: it holds none.
        """
        try:
            return cls.model_validate_json(document.content)
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]
            key = ".".join(str(step) for step in fault["loc"]) or "the document"
            raise DamagedError(
                f"register: blob {name}: {key}: {fault['msg']}; wanted: an earlier version of it restored"
            ) from error


class AuthorityRecord(Record):
    """The authority's own certificates, PEM, and the versions of the keys that they certify."""

    versions: dict[str, str]
    root: str
    identity_ca: str
    network_parameters: str


class State(StrEnum):
    """What was decided of a request."""

    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"


class RequestRecord(Record):
    """A request, `requests/ID`."""

    id: str
    member: str
    legal_name: str
    role: str
    """Of `Role`."""
    key: str
    """PEM of the public key that is to be certified."""
    key_hash: str
    asked: str
    """When, ISO 8601."""
    state: State = State.PENDING
    decided: str | None = None
    by: str | None = None
    """Who decided."""
    reason: str | None = None


class Issued(_Part):
    """A certificate that was issued."""

    role: str
    key_hash: str
    serial: str
    """Hex."""
    certificate: str
    """PEM."""
    issued: str
    expires: str


class NameRecord(Record):
    """A legal name, `names/HASH`: one key at a time for each role."""

    legal_name: str
    member: str
    issued: tuple[Issued, ...] = ()
    """What was issued and not revoked, oldest first."""
    revoked: tuple[str, ...] = ()
    """Hashes of keys that are certified no more."""

    def current(self, role: Role) -> Issued | None:
        """The newest certificate of a role."""
        return next((each for each in reversed(self.issued) if each.role == role.name), None)


class Revoked(_Part):
    """A revoked certificate."""

    legal_name: str
    role: str
    key_hash: str
    revoked: str
    """When, ISO 8601."""
    by: str


class RevocationsRecord(Record):
    """Every revoked certificate, by its serial number in hex."""

    certificates: dict[str, Revoked] = {}


class Notary(_Part):
    """A notary as the parameters name it."""

    legal_name: str
    key_hash: str


class ParametersRecord(Record):
    """The network's parameters in force."""

    epoch: int
    settings: dict[str, int]
    notaries: tuple[Notary, ...]
    modified: str
    """ISO 8601."""
    configured: float
    """When the configuration that says so was written, in seconds since 1970."""
    document: str
    """Signed, base64."""


R = TypeVar("R", bound=Record)


async def find(store: Documents, kind: type[R], name: str) -> tuple[R, str] | None:
    """A record and its ETag; None where there is none."""
    document = await store.read(name)
    return (kind.read(document, name), document.etag) if document else None


async def change(store: Documents, kind: type[R], name: str, new: R | None, step: Callable[[R], R]) -> R:
    """Change a record as if nobody else did, and return what it is then.

    Args:
        store: where it is.
        kind: of the record.
        name: of its blob.
        new: what it is where there is none; None if there must be one.
        step: gives the record that it is to become; called again whenever another VM was faster, and may raise.

    Raises:
        UnavailableError: others were faster all the time, or there is no record.
    """
    for _ in range(_RACES):
        found = await find(store, kind, name)
        if found is None and new is None:
            raise UnavailableError(f"register: blob {name} is not there")
        before, etag = found or (new, None)
        assert before is not None  # noqa: S101
        after = step(before)
        if after == before and found:
            return after
        if await store.write(name, after.to_json(), etag):
            return after
    raise UnavailableError(f"register: blob {name} changed {_RACES} times meanwhile; wanted: to be tried again")


async def records(store: Documents, kind: type[R], prefix: str) -> Sequence[R]:
    """All records whose blobs' names begin so."""
    found = [await find(store, kind, name) for name in await store.names(prefix)]
    return [each[0] for each in found if each]
