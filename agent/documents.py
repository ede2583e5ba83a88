"""The bank's public documents on Azure Storage: its container `network`, which all of its VMs share."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from azure.core import MatchConditions
from azure.core.exceptions import (
    AzureError,
    HttpResponseError,
    ResourceExistsError,
    ResourceModifiedError,
    ResourceNotFoundError,
)
from azure.storage.blob.aio import ContainerClient

from agent.fence import UnavailableError
from ledger.software import Document

REQUEST_SECONDS = 15
MAX_DOCUMENT_BYTES = 16 * 1024 * 1024
"""Nothing in the container is near it; what is larger was not written by an agent."""

_NO_SUCH_BLOB = "BlobNotFound"
_THERE_ALREADY = "BlobAlreadyExists"


class BlobDocuments:
    """Implements `Documents`. The client's own retries are to be off: whoever asks decides when to ask again."""

    def __init__(self, container: ContainerClient, *, request_seconds: float = REQUEST_SECONDS) -> None:
        self._container, self._request_seconds = container, request_seconds

    async def read(self, name: str) -> Document | None:
        """See `Documents`."""
        async with self._answers(name):
            try:
                download = await self._container.download_blob(name)
            except ResourceNotFoundError as error:
                if _code(error) != _NO_SUCH_BLOB:
                    raise
                return None
            if download.size > MAX_DOCUMENT_BYTES:
                raise UnavailableError(
                    f"document {name} has {download.size} bytes; wanted {MAX_DOCUMENT_BYTES} at most"
                )
            # A later chunk of another version is refused by its ETag: one document is of one writing.
            return Document(await download.readall(), str(download.properties.etag))

    async def write(self, name: str, content: bytes, etag: str | None) -> str | None:
        """See `Documents`."""
        async with self._answers(name):
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
                if _code(error) != _THERE_ALREADY:
                    raise
                return None
            return str(changed["etag"])

    async def names(self, prefix: str) -> Sequence[str]:
        """See `Documents`."""
        async with self._answers(f"{prefix}*"):
            return [str(name) async for name in self._container.list_blob_names(name_starts_with=prefix)]

    @asynccontextmanager
    async def _answers(self, name: str) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._request_seconds):
                yield
        except HttpResponseError as error:
            raise UnavailableError(f"document {name}: {error.status_code} {error.reason} ({_code(error)})") from error
        except AzureError as error:
            raise UnavailableError(f"document {name}: {error}") from error
        except TimeoutError as error:
            raise UnavailableError(f"document {name}: no answer in {self._request_seconds} s") from error


def _code(error: HttpResponseError) -> str | None:
    code = getattr(error, "error_code", None)
    return getattr(code, "value", code)
