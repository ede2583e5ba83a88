"""One VM of a network's authority: `python -m lab.banks.authority FOLDER [COMMAND ...]`; see `lab.banks.vm`."""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from azure.storage.blob.aio import ContainerClient

from agent.vm import NO_RETRIES
from contract.authority_configuration import AuthorityConfiguration
from contract.ports import HEALTH_PORT
from host.status import Status
from lab.banks.azurite import CREDENTIAL
from lab.banks.key_vault import client_of, key_client_of
from lab.banks.vm import VM_FILE_NAME, Vm
from lab.recording import METRICS_FILE_NAME, record
from ledger.corda import CORDA
from ledger.corda.authority import __main__ as program
from ledger.corda.authority.authority import Authority
from ledger.corda.authority.configuration import read_authority_configuration
from ledger.corda.authority.keys import VaultKeys
from ledger.corda.authority.service import serve
from ledger.corda.authority.vm import authority_of

AUTHORITY_FILE_NAME = "authority.json"


def _of(folder: Path) -> Vm:
    return Vm.model_validate_json((folder / VM_FILE_NAME).read_bytes())


async def _serve(folder: Path) -> None:
    vm = _of(folder)
    configuration, configured = read_authority_configuration(folder / AUTHORITY_FILE_NAME)
    assert CORDA.authority
    requests, lists = (listener.port for listener in CORDA.authority.listeners)
    status = Status(vm=vm.name)
    if vm.recorded:
        record(folder / METRICS_FILE_NAME, status)
    async with _connect(vm, configuration, configured) as authority:
        await serve(authority, status, vm.address, HEALTH_PORT, requests, lists)


@asynccontextmanager
async def _connect(vm: Vm, configuration: AuthorityConfiguration, configured: float) -> AsyncIterator[Authority]:
    """The authority, connected to this machine's storage and vaults."""
    async with AsyncExitStack() as clients:
        container = await clients.enter_async_context(
            ContainerClient(configuration.blob_url, configuration.container, CREDENTIAL, **NO_RETRIES)
        )
        (certificate,) = vm.vault_certificates
        secrets = await clients.enter_async_context(client_of(configuration.vault_url, certificate))
        keys = await clients.enter_async_context(key_client_of(configuration.vault_url, certificate))
        root = await clients.enter_async_context(key_client_of(configuration.root_vault_url, certificate))
        yield authority_of(configuration, configured, container, secrets, VaultKeys(keys, root))


def main(folder: Path, command: list[str]) -> int:
    """Serve requests, or run an operator's command; returns the exit status.

    Args:
        folder: the VM's folder, with its configuration.
        command: the operator's command with its arguments; empty to serve.
    """
    if not command:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        logging.getLogger("azure").setLevel(logging.WARNING)
        asyncio.run(_serve(folder))
        return 0
    arguments = [*command, "--configuration", str(folder / AUTHORITY_FILE_NAME)]
    return program.main(arguments, lambda configuration, at: _connect(_of(folder), configuration, at))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
