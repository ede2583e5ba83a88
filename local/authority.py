"""One VM of a network's authority: `python -m local.authority FOLDER [COMMAND ...]`; see `local.vm`."""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from azure.storage.blob.aio import ContainerClient

from agent.__main__ import NO_RETRIES
from agent.ports import HEALTH_PORT
from agent.status import Status
from ledger.corda import CORDA
from ledger.corda.authority import __main__ as program
from ledger.corda.authority.authority import Authority
from ledger.corda.authority.configuration import Configuration, read_configuration
from ledger.corda.authority.service import serve
from local.azurite import CREDENTIAL
from local.key_vault import client_of, key_client_of
from local.vm import VM_FILE, Vm

AUTHORITY_FILE = "authority.json"


def _of(folder: Path) -> Vm:
    return Vm.model_validate_json((folder / VM_FILE).read_bytes())


async def _serve(folder: Path) -> None:
    vm = _of(folder)
    configuration, configured = read_configuration(folder / AUTHORITY_FILE)
    assert CORDA.authority
    requests, lists = (listener.port for listener in CORDA.authority.listeners)
    async with _connect(vm, configuration, configured) as authority:
        await serve(authority, Status(vm=vm.name), vm.address, HEALTH_PORT, requests, lists)


@asynccontextmanager
async def _connect(vm: Vm, configuration: Configuration, configured: float) -> AsyncIterator[Authority]:
    """An authority whose services are on this machine."""
    async with AsyncExitStack() as clients:
        container = await clients.enter_async_context(
            ContainerClient(configuration.blob_url, configuration.container, CREDENTIAL, **NO_RETRIES)
        )
        certificate = vm.vault_certificate
        secrets = await clients.enter_async_context(client_of(configuration.vault_url, certificate))
        keys = await clients.enter_async_context(key_client_of(configuration.vault_url, certificate))
        yield program.authority_of(configuration, configured, container, secrets, keys)


def main(folder: Path, command: list[str]) -> int:
    """Serve, or run a command of the operator's."""
    if not command:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        logging.getLogger("azure").setLevel(logging.WARNING)
        asyncio.run(_serve(folder))
        return 0
    arguments = [*command, "--configuration", str(folder / AUTHORITY_FILE)]
    return program.main(arguments, lambda configuration, at: _connect(_of(folder), configuration, at))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
