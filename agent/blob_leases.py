"""The lease store on Azure Storage: one blob per identity."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from azure.core import MatchConditions
from azure.core.exceptions import HttpResponseError, ResourceExistsError
from azure.storage.blob import BlobProperties, ContentSettings
from azure.storage.blob.aio import BlobLeaseClient, ContainerClient
from typing_extensions import override

from agent.lease import MAX_RECORD_BYTES, LeaseDeniedError, LeaseRefusedError, LeaseStore
from contract.timing import LEASE
from host.azure import answering, error_code

_JSON = ContentSettings(content_type="application/json")
_DECIDED = {404, 409, 412}
"""HTTP statuses that decide: the blob is gone or has changed, or another VM holds the lease."""

_BUSY = {408, 429}
"""4xx statuses that decide nothing: the request timed out or was throttled."""


class BlobLeases(LeaseStore):
    """`LeaseStore` on a blob container. Turn the client's own retries off: the agent decides when to ask again."""

    def __init__(self, container: ContainerClient) -> None:
        self._container = container

    @override
    async def prepare(self, identity: str, content: bytes) -> None:
        async with answering(identity, None):
            try:
                await self._container.upload_blob(identity, content, overwrite=False, content_settings=_JSON)
            except ResourceExistsError:
                return

    @override
    async def leased(self) -> Mapping[str, bool]:
        async with answering("the list of identities", None):
            return {
                str(blob.name): blob.lease is None or blob.lease.state in {"leased", "breaking"}
                async for blob in self._container.walk_blobs(delimiter="/")
                if isinstance(blob, BlobProperties)
            }

    @override
    async def acquire(self, identity: str, lease_id: str) -> None:
        async with _answers(identity):
            await self._lease(identity, lease_id).acquire(lease_duration=LEASE.lease_seconds)

    @override
    async def renew(self, identity: str, lease_id: str) -> None:
        async with _answers(identity):
            await self._lease(identity, lease_id).renew()

    @override
    async def release(self, identity: str, lease_id: str) -> None:
        async with _answers(identity):
            await self._lease(identity, lease_id).release()

    @override
    async def read(self, identity: str) -> tuple[bytes, str]:
        async with _answers(identity):
            # One byte above the limit, to notice a record that is too long.
            download = await self._container.download_blob(identity, offset=0, length=MAX_RECORD_BYTES + 1)
            content: bytes = await download.readall()
            return content, str(download.properties.etag)

    @override
    async def write(self, identity: str, content: bytes, lease_id: str, etag: str) -> str:
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
    async with answering(what, None):
        try:
            yield
        except HttpResponseError as error:
            status = error.status_code or 0
            if status in _DECIDED:
                raise LeaseRefusedError(f"{what}: {status} {error.reason} ({error_code(error)})") from error
            if 400 <= status < 500 and status not in _BUSY:
                raise LeaseDeniedError(f"{what}: {status} {error.reason} ({error_code(error)})") from error
            raise
