"""The bank's public documents in its blob container `network`, which all its VMs share."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from azure.core import MatchConditions
from azure.core.exceptions import ResourceExistsError, ResourceModifiedError, ResourceNotFoundError
from azure.storage.blob.aio import ContainerClient
from typing_extensions import override

from host.azure import REQUEST_SECONDS, answering, error_code
from host.errors import UnavailableError

NETWORK_DOCUMENT = "network-document"
"""Name of the document shared by all members, such as the network's signed parameters."""
MAX_DOCUMENT_BYTES = 16 * 1024 * 1024
"""Far above any real document."""
MAX_TRIES = 20
"""Most tries of a change while other VMs write first."""

_QUOTE = '"'
_NO_SUCH_BLOB = "BlobNotFound"
_THERE_ALREADY = "BlobAlreadyExists"


@dataclass(frozen=True)
class Document:
    """The content and ETag of a document in the bank's `network` container."""

    content: bytes
    etag: str


class Documents(Protocol):
    """The bank's `network` container: public, versioned, shared by its VMs. Names have slashes, like paths.

    A call may raise `UnavailableError`: no answer, so a write may have happened.
    """

    async def read(self, name: str) -> Document | None:
        """The document; None if there is none."""

    async def write(self, name: str, content: bytes, etag: str | None) -> str | None:
        """Write if the ETag is still `etag` (None: if there is no document); the new ETag, else None."""

    async def names(self, prefix: str) -> Mapping[str, str]:
        """Names that begin with `prefix`, each with its document's ETag, in one request."""


async def change_document(documents: Documents, name: str, step: Callable[[Document | None], bytes | None]) -> None:
    """Change a document atomically.

    Args:
        documents: the container.
        name: the document's name.
        step: returns the new content, or None to leave it; called again if another VM wrote meanwhile; may raise.

    Raises:
        UnavailableError: the container does not answer, or others wrote first `MAX_TRIES` times.
    """
    for _ in range(MAX_TRIES):
        found = await documents.read(name)
        content = step(found)
        if content is None or await documents.write(name, content, found.etag if found else None):
            return
    raise UnavailableError(f"document {name} changed {MAX_TRIES} times meanwhile; wanted: to be tried again")


class BlobDocuments(Documents):
    """`Documents` on a blob container. Turn the client's own retries off: the caller decides when to ask again."""

    def __init__(self, container: ContainerClient, *, request_seconds: float = REQUEST_SECONDS) -> None:
        self._container, self._request_seconds = container, request_seconds

    @override
    async def read(self, name: str) -> Document | None:
        async with answering(f"document {name}", self._request_seconds):
            try:
                download = await self._container.download_blob(name)
            except ResourceNotFoundError as error:
                if error_code(error) != _NO_SUCH_BLOB:
                    raise
                return None
            if download.size > MAX_DOCUMENT_BYTES:
                raise UnavailableError(
                    f"document {name} has {download.size} bytes; wanted {MAX_DOCUMENT_BYTES} at most"
                )
            # Later chunks are requested by ETag, so all are of one version.
            return Document(await download.readall(), str(download.properties.etag))

    @override
    async def write(self, name: str, content: bytes, etag: str | None) -> str | None:
        async with answering(f"document {name}", self._request_seconds):
            blob = self._container.get_blob_client(name)
            try:
                if etag is None:
                    changed = await blob.upload_blob(content, overwrite=False)
                else:
                    changed = await blob.upload_blob(
                        content, overwrite=True, etag=etag, match_condition=MatchConditions.IfNotModified
                    )
            except ResourceModifiedError:
                return None
            except ResourceExistsError as error:
                if error_code(error) != _THERE_ALREADY:
                    raise
                return None
            return str(changed["etag"])

    @override
    async def names(self, prefix: str) -> Mapping[str, str]:
        async with answering(f"document {prefix}*", self._request_seconds):
            return {
                # A list has ETags without the quotes of a header.
                str(blob.name): f'"{str(blob.etag).strip(_QUOTE)}"'
                async for blob in self._container.list_blobs(name_starts_with=prefix)
            }
