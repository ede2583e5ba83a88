"""Which VMs are healthy, by their leases on a blob service."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from azure.storage.blob.aio import ContainerClient

from agent.blob_leases import BlobLeases
from agent.presence import BlobPresence
from agent.resources import OtherVms
from contract.timing import STANDBY
from host.errors import UnavailableError
from host.store_clock import StoreClock
from lab.banks import azurite, npm
from lab.banks.azurite import CREDENTIAL

pytestmark = pytest.mark.skipif(not npm.available(), reason="no node and npm here; wanted them for Azurite")


@pytest.fixture(scope="module")
def blobs() -> Iterator[str]:
    with azurite.blob_service() as (url, _):
        yield url


def test_vms_know_which_others_are_healthy(blobs: str) -> None:
    async def run() -> None:
        async with ContainerClient(blobs, "presence", CREDENTIAL, retry_total=0) as container:
            await container.create_container()
            vms = {name: BlobPresence(container, name, StoreClock(container)) for name in ("vm-1", "vm-2", "vm-3")}
            assert await vms["vm-1"].others() == OtherVms(), "no VM has reported yet"
            await vms["vm-1"].announce(standby=True)
            await vms["vm-2"].announce(standby=False)
            await vms["vm-3"].announce(standby=True)
            assert await vms["vm-1"].others() == OtherVms(frozenset({"vm-3"}), frozenset({"vm-2"}))
            await vms["vm-3"].announce(standby=True)
            await BlobPresence(container, "vm-3", StoreClock(container)).announce(standby=False)
            await vms["vm-3"].announce(standby=False)
            assert await vms["vm-1"].others() == OtherVms(frozenset(), frozenset({"vm-2", "vm-3"})), (
                "a restarted agent reports again, and a VM has one role"
            )
            await vms["vm-2"].withdraw()
            assert await vms["vm-1"].others() == OtherVms(frozenset(), frozenset({"vm-3"})), (
                "a VM that is no longer healthy"
            )
            leases = BlobLeases(container)
            await leases.prepare("node-1", b"{}")
            assert await leases.leased() == {"node-1": False}, "blobs of VMs are not listed as identities"

    asyncio.run(run())


@pytest.mark.parametrize("seconds", [-60, 0, 60])
def test_the_clock_is_compared_with_the_stores(blobs: str, seconds: int) -> None:
    async def run() -> None:
        async with ContainerClient(
            blobs, f"clock{seconds}".replace("-", "m"), CREDENTIAL, retry_total=0
        ) as container:
            await container.create_container()
            clock = StoreClock(container, lambda: datetime.now(UTC) + timedelta(seconds=seconds))
            if not seconds:
                await clock.check()
                return
            with pytest.raises(
                UnavailableError, match=rf"^the VM's clock differs by .(59|6[01]) s .*{STANDBY.clock_seconds:g} s"
            ):
                await clock.check()

    asyncio.run(run())


def test_an_unreachable_store_is_no_clock_fault() -> None:
    async def run() -> None:
        async with ContainerClient("http://127.0.0.1:1/a", "none", CREDENTIAL, retry_total=0) as container:
            await StoreClock(container).check()

    asyncio.run(run())
