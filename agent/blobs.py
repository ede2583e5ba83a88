"""The lease store on Azure Storage: one blob an identity."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from azure.core import MatchConditions
from azure.core.exceptions import AzureError, HttpResponseError, ResourceExistsError
from azure.storage.blob import ContentSettings
from azure.storage.blob.aio import BlobLeaseClient, ContainerClient

from agent.fence import UnavailableError
from agent.lease import LEASE_SECONDS, RefusedError

_JSON = ContentSettings(content_type="application/json")
_DECIDED = {409, 412}
"""Statuses by which the service says that another holds the lease, or that the blob has changed."""


class BlobLeases:
    """Implements `LeaseStore`. The client's own retries are to be off: the agent decides when to ask again."""

    def __init__(self, container: ContainerClient) -> None:
        self._container = container

    async def prepare(self, identity: str, content: bytes) -> None:
        """See `LeaseStore`."""
        async with _answers(identity):
            try:
                await self._container.upload_blob(identity, content, overwrite=False, content_settings=_JSON)
            except ResourceExistsError:
                return

    async def free(self) -> Sequence[str]:
        """See `LeaseStore`."""
        async with _answers("the list of identities"):
            return [
                str(blob.name)
                async for blob in self._container.list_blobs()
                if blob.lease is not None and blob.lease.state not in {"leased", "breaking"}
            ]

    async def acquire(self, identity: str, lease_id: str) -> None:
        """See `LeaseStore`."""
        async with _answers(identity):
            await self._lease(identity, lease_id).acquire(lease_duration=LEASE_SECONDS)

    async def renew(self, identity: str, lease_id: str) -> None:
        """See `LeaseStore`."""
        async with _answers(identity):
            await self._lease(identity, lease_id).renew()

    async def release(self, identity: str, lease_id: str) -> None:
        """See `LeaseStore`."""
        async with _answers(identity):
            await self._lease(identity, lease_id).release()

    async def read(self, identity: str) -> tuple[bytes, str]:
        """See `LeaseStore`."""
        async with _answers(identity):
            download = await self._container.download_blob(identity)
            content: bytes = await download.readall()
            return content, str(download.properties.etag)

    async def write(self, identity: str, content: bytes, lease_id: str, etag: str) -> str:
        """See `LeaseStore`."""
        async with _answers(identity):
            blob = self._container.get_blob_client(identity)
            changed = await blob.upload_blob(
                content,
                overwrite=True,
                lease=self._lease(identity, lease_id),
                etag=etag,
                match_condition=MatchConditions.IfNotModified,
                content_settings=_JSON,
            )
            return str(changed["etag"])

    def _lease(self, identity: str, lease_id: str) -> BlobLeaseClient:
        return BlobLeaseClient(self._container.get_blob_client(identity), lease_id=lease_id)


@asynccontextmanager
async def _answers(what: str) -> AsyncIterator[None]:
    try:
        yield
    except HttpResponseError as error:
        reason = f"{what}: {error.status_code} {error.reason} ({getattr(error, 'error_code', None)})"
        if error.status_code in _DECIDED:
            raise RefusedError(reason) from error
        raise UnavailableError(reason) from error
    except AzureError as error:
        raise UnavailableError(f"{what}: {error}") from error
