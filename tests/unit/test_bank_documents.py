"""The meaning of the document container's answers, and the limits of what an agent reads and repeats."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from azure.core.exceptions import ResourceExistsError, ResourceModifiedError, ResourceNotFoundError

from host.bank_documents import MAX_DOCUMENT_BYTES, MAX_TRIES, BlobDocuments, Document, change_document
from host.errors import UnavailableError
from tests.software_context import MemoryDocuments


class Container:
    """A container with one document, or whose every request fails in one way."""

    def __init__(self, *, size: int = 1, error: Exception | None = None) -> None:
        self._size, self._error = size, error

    async def download_blob(self, _: str) -> Any:
        if self._error:
            raise self._error

        async def readall() -> bytes:
            return b"x"

        return SimpleNamespace(size=self._size, readall=readall, properties=SimpleNamespace(etag='"1"'))

    def get_blob_client(self, _: str) -> Any:
        async def upload_blob(*_: object, **__: object) -> Any:
            if self._error:
                raise self._error
            return {"etag": '"2"'}

        return SimpleNamespace(upload_blob=upload_blob)


def documents(**behaviour: Any) -> BlobDocuments:
    container: Any = Container(**behaviour)
    return BlobDocuments(container)


def refused(kind: type[Exception], code: str) -> Exception:
    error = kind("refused")
    error.error_code = code  # type: ignore[attr-defined]
    return error


def test_only_a_missing_document_is_none() -> None:
    assert asyncio.run(documents(error=refused(ResourceNotFoundError, "BlobNotFound")).read("serials/x")) is None
    with pytest.raises(UnavailableError, match="document serials/x"):
        asyncio.run(documents(error=refused(ResourceNotFoundError, "ContainerNotFound")).read("serials/x"))


@pytest.mark.parametrize(
    ("error", "etag"),
    [
        (refused(ResourceExistsError, "BlobAlreadyExists"), None),
        (ResourceModifiedError("the condition is not met"), '"1"'),
    ],
)
def test_another_vms_write_in_between_is_none(error: Exception, etag: str | None) -> None:
    assert asyncio.run(documents(error=error).write("serials/x", b"", etag)) is None, "the caller reads it again"


def test_a_write_that_the_container_refuses_is_no_conflict() -> None:
    container = documents(error=refused(ResourceExistsError, "ContainerBeingDeleted"))
    with pytest.raises(UnavailableError, match="document serials/x"):
        asyncio.run(container.write("serials/x", b"", None))


def test_a_document_has_a_size_that_fits_into_memory() -> None:
    assert asyncio.run(documents(size=MAX_DOCUMENT_BYTES).read("x")) == Document(b"x", '"1"')
    with pytest.raises(UnavailableError, match=f"^document x has {MAX_DOCUMENT_BYTES + 1} bytes; wanted"):
        asyncio.run(documents(size=MAX_DOCUMENT_BYTES + 1).read("x"))


class Contended(MemoryDocuments):
    """Documents to which others write first, so many times."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self._left = times

    async def write(self, name: str, content: bytes, etag: str | None) -> str | None:
        if self._left:
            self._left -= 1
            return None
        return await super().write(name, content, etag)


def test_a_change_is_repeated_while_others_write_first() -> None:
    contended = Contended(14)
    asyncio.run(change_document(contended, "x", lambda _: b"mine"))
    assert contended.stored["x"].content == b"mine", "each other VM of a large bank may be first once"
    with pytest.raises(UnavailableError, match=f"^document x changed {MAX_TRIES} times meanwhile"):
        asyncio.run(change_document(Contended(MAX_TRIES), "x", lambda _: b"mine"))
