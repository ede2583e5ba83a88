"""One VM: `python -m lab.banks.vm FOLDER`.

It runs the same agent as a VM on Azure, with the same configuration format. `vm.json` contains what differs: the VM's
address, and the credentials of the services.
"""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

from azure.storage.blob.aio import ContainerClient
from pydantic import BaseModel

from agent.resources import NodeIntervals
from agent.share import LedgerShare
from agent.vm import NO_RETRIES, Cloud, LocalDisk, run
from contract.vm_configuration import AgentConfiguration
from host.vm_configuration import read_agent_configuration
from lab.banks.azurite import CREDENTIAL
from lab.banks.key_vault import client_of
from lab.recording import METRICS_FILE_NAME, record

_INTERVALS = NodeIntervals(stale=15, stagger=15)
"""Shorter than by default: a network of a few nodes need not stagger restarts over ten minutes."""
AGENT_FILE_NAME, VM_FILE_NAME = "agent.json", "vm.json"


class Vm(BaseModel):
    """The settings of a bank's VM on this machine: the content of `vm.json`."""

    name: str
    address: str
    vault_certificates: tuple[Path, ...]
    """For a node VM: the certificates of the bank's vault and of the vault of keys; for an authority's: one file."""
    database_password: str
    """The administrator's password; on Azure the administrator signs in with Entra."""
    runtime: Path
    """A folder in memory, for key stores."""
    recorded: bool = False
    """Whether its metrics are written to its folder."""


@asynccontextmanager
async def cloud(configuration: AgentConfiguration, vm: Vm, folder: Path) -> AsyncIterator[Cloud]:
    """The agent's clients of this machine's services, in place of Azure's."""

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
        secrets, keys = [
            await clients.enter_async_context(client_of(url, certificate))
            for url, certificate in zip(
                (configuration.bank_vault_url, configuration.key_vault_url), vm.vault_certificates, strict=True
            )
        ]
        yield Cloud(
            vm=vm.name,
            leases=leases,
            documents=documents,
            keys=keys,
            secrets=secrets,
            administrator=administrator,
            share=LedgerShare(configuration.share, mount=False, identities=configuration.identities),
            disk=LocalDisk(folder, vm.runtime),
            notices=None,
            users=None,
            listen=vm.address,
            telemetry=partial(record, folder / METRICS_FILE_NAME) if vm.recorded else None,
            intervals=_INTERVALS,
        )


async def main(folder: Path) -> None:
    """Run the agent of a VM until it gets a signal to stop."""
    vm = Vm.model_validate_json((folder / VM_FILE_NAME).read_bytes())
    configuration = read_agent_configuration(folder / AGENT_FILE_NAME)
    async with cloud(configuration, vm, folder) as services:
        await run(configuration, services)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("azure").setLevel(logging.WARNING)
    asyncio.run(main(Path(sys.argv[1])))
