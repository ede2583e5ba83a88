"""Announces which of the bank's VMs are healthy: each holds the lease of its presence blob, beside the identities'.

A lease needs no write, so it makes no blob version, and it lapses by itself when its VM is gone.
"""

from uuid import NAMESPACE_URL, uuid5

from azure.core.exceptions import ResourceExistsError, ResourceNotFoundError
from azure.storage.blob.aio import BlobLeaseClient, ContainerClient
from typing_extensions import override

from agent.resources import OtherVms, Presence
from contract.timing import STANDBY
from contract.vm_configuration import PRESENCE_PREFIX
from host.azure import answering
from host.store_clock import StoreClock

_ROLES = {True: "standbys", False: "holders"}


class BlobPresence(Presence):
    """`Presence` in the leases' container. Turn the client's own retries off."""

    def __init__(self, container: ContainerClient, vm: str, clock: StoreClock) -> None:
        """Args:
        clock: takes the store's time from its answers.
        """
        self._container, self._vm, self._clock = container, vm, clock
        # The same id after a restart of the agent, so that it renews its earlier announcement.
        self._id = str(uuid5(NAMESPACE_URL, vm))
        self._announced: str | None = None

    @override
    async def announce(self, *, standby: bool) -> None:
        name = self._name(self._vm, standby=standby)
        async with answering(f"presence {name}", STANDBY.answer_seconds / 2):
            if self._announced not in {None, name}:
                await self._release()
            try:
                await self._acquire(name)
            except ResourceNotFoundError:
                try:
                    await self._container.upload_blob(name, b"", overwrite=False)
                except ResourceExistsError:
                    """An earlier request of this VM created it, and the answer was lost."""
                await self._acquire(name)
        self._announced = name

    @override
    async def withdraw(self) -> None:
        if self._announced:
            async with answering(f"presence {self._announced}", STANDBY.answer_seconds / 2):
                await self._release()

    @override
    async def others(self) -> OtherVms:
        async with answering("presence", STANDBY.answer_seconds / 2):
            leased = {
                str(blob.name)
                async for blob in self._container.list_blobs(name_starts_with=PRESENCE_PREFIX)
                if blob.lease is not None and blob.lease.state == "leased"
            }
        roles = [
            frozenset(
                name.removeprefix(self._name("", standby=standby))
                for name in leased - {self._name(self._vm, standby=standby)}
                if name.startswith(self._name("", standby=standby))
            )
            for standby in (True, False)
        ]
        return OtherVms(*roles)

    async def _acquire(self, name: str) -> None:
        # With the same lease id this renews the lease.
        lease = BlobLeaseClient(self._container.get_blob_client(name), lease_id=self._id)
        await lease.acquire(lease_duration=STANDBY.presence_lease_seconds, raw_response_hook=self._clock.measure)

    async def _release(self) -> None:
        assert self._announced  # noqa: S101
        blob, self._announced = self._container.get_blob_client(self._announced), None
        await BlobLeaseClient(blob, lease_id=self._id).release()

    @staticmethod
    def _name(vm: str, *, standby: bool) -> str:
        return f"{PRESENCE_PREFIX}{_ROLES[standby]}/{vm}"
