"""One VM: `python -m local.vm FOLDER`.

The agent is the very one of a VM on Azure, with the configuration that it gets there; what differs is in `vm.json`:
the VM's address, and how to sign in to the services.
"""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from azure.storage.blob.aio import ContainerClient
from pydantic import BaseModel

from agent.__main__ import NO_RETRIES, Cloud, LocalDisk, run
from agent.configuration import Configuration, read_configuration
from agent.node import Rhythm
from agent.share import LedgerShare
from local.azurite import CREDENTIAL
from local.key_vault import client_of

_RHYTHM = Rhythm(stale=15, stagger=15)
"""A network of a few nodes need not wait ten minutes for its turn to follow a change."""
AGENT_FILE, VM_FILE = "agent.json", "vm.json"


class Vm(BaseModel):
    """A VM of a bank on this machine."""

    name: str
    address: str
    """Of the loopback."""
    vault_certificate: Path
    database_password: str
    """Of the role that Entra signs in on Azure."""
    runtime: Path
    """A folder in memory."""


@asynccontextmanager
async def cloud(configuration: Configuration, vm: Vm, folder: Path) -> AsyncIterator[Cloud]:
    """The services on this machine."""

    async def administrator() -> tuple[str, str]:
        assert configuration.database
        return configuration.database.administrator, vm.database_password

    async with AsyncExitStack() as clients:
        leases, documents = [
            await clients.enter_async_context(
                ContainerClient(configuration.blob_url, container, CREDENTIAL, **NO_RETRIES)
            )
            for container in (configuration.lease_container, configuration.network_container)
        ]
        yield Cloud(
            vm=vm.name,
            leases=leases,
            documents=documents,
            secrets=await clients.enter_async_context(client_of(configuration.vault_url, vm.vault_certificate)),
            administrator=administrator,
            share=LedgerShare(configuration.share, mount=False),
            disk=LocalDisk(folder, vm.runtime),
            notices=None,
            listen=vm.address,
            rhythm=_RHYTHM,
        )


async def main(folder: Path) -> None:
    """Run the agent of a VM until it is told to stop."""
    vm = Vm.model_validate_json((folder / VM_FILE).read_bytes())
    configuration = read_configuration(folder / AGENT_FILE)
    async with cloud(configuration, vm, folder) as services:
        await run(configuration, services)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("azure").setLevel(logging.WARNING)
    asyncio.run(main(Path(sys.argv[1])))
