"""The agent of a node VM: `python -m agent [CONFIGURATION]`, started by systemd."""

import asyncio
import logging
import os
import shutil
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import ClientSession
from azure.identity.aio import ManagedIdentityCredential
from azure.keyvault.secrets.aio import SecretClient
from azure.storage.blob.aio import ContainerClient

from agent import metrics
from agent.agent import Agent
from agent.blobs import BlobLeases
from agent.configuration import PATH, Configuration, ConfigurationError, read_configuration
from agent.database import PostgresFence
from agent.keys import KeyVaultKeys, write_files
from agent.node import Workplace
from agent.ports import HEALTH_PORT
from agent.processes import launch
from agent.scheduled_events import ScheduledEvents
from agent.service import serve
from agent.share import LedgerShare
from agent.status import Status
from ledger.platform import identities
from ledger.platforms import PLATFORMS

_DATABASE_SCOPE = "https://ossrdbms-aad.database.windows.net/.default"
_NO_RETRIES: dict[str, Any] = {"retry_total": 0, "connection_timeout": 5, "read_timeout": 5}
"""The agent decides when to ask again."""


@dataclass(frozen=True)
class LocalDisk:
    """What systemd gives the service: a folder on disk, and one in memory."""

    state: Path
    runtime: Path

    def scratch(self) -> Path:
        """A folder on disk, emptied."""
        self._remove(self.state / "node")
        (self.state / "node").mkdir(mode=0o700)
        return self.state / "node"

    def unpack(self, blobs: Mapping[str, bytes]) -> Path:
        """A folder in memory that holds the blobs as files."""
        self._remove(self.runtime / "secrets")
        write_files(self.runtime / "secrets", blobs)
        return self.runtime / "secrets"

    def wipe(self) -> None:
        """Remove both."""
        self._remove(self.state / "node")
        self._remove(self.runtime / "secrets")

    @staticmethod
    def _remove(folder: Path) -> None:
        if folder.exists():
            shutil.rmtree(folder)


async def run(configuration: Configuration) -> None:
    """Run the agent of this VM until it is told to stop."""
    platform = PLATFORMS[configuration.platform]
    status = Status(vm=os.uname().nodename)
    async with AsyncExitStack() as clients:
        credential = await clients.enter_async_context(ManagedIdentityCredential(client_id=configuration.client_id))
        leases = await clients.enter_async_context(
            ContainerClient(configuration.blob_url, configuration.lease_container, credential, **_NO_RETRIES)
        )
        vault = await clients.enter_async_context(SecretClient(configuration.vault_url, credential, **_NO_RETRIES))
        server = configuration.database

        async def administrator() -> tuple[str, str]:
            assert server  # noqa: S101
            return server.administrator, (await credential.get_token(_DATABASE_SCOPE)).token

        agent = Agent(
            identities(platform, configuration.legal_name, configuration.identities) if platform.software else (),
            BlobLeases(leases),
            Workplace(
                software=platform.software(),
                share=LedgerShare(configuration.share),
                vault=KeyVaultKeys(vault),
                disk=LocalDisk(Path(os.environ["STATE_DIRECTORY"]), Path(os.environ["RUNTIME_DIRECTORY"])),
                launch=launch,
                database=PostgresFence(server.host, server.port, administrator, server.root_certificates)
                if server
                else None,
                network_document=None,
            )
            if platform.software
            else None,
            status,
        )
        if configuration.connection_string:
            metrics.send(configuration.connection_string, configuration.client_id, status)
        # The network's rules let the load balancer and the platform's probe in, and nobody else.
        notices = ScheduledEvents(await clients.enter_async_context(ClientSession()))
        await serve(agent, status, host="0.0.0.0", port=HEALTH_PORT, notices=notices)  # noqa: S104


def main(arguments: list[str]) -> int:
    """Run with the configuration of a file; returns the exit status, 78 (EX_CONFIG) where it can't be used."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    # Each request of the SDK would be a line, and standbys ask all the time.
    logging.getLogger("azure").setLevel(logging.WARNING)
    try:
        configuration = read_configuration(Path(arguments[0]) if arguments else PATH)
        if configuration.platform not in PLATFORMS:
            raise ConfigurationError(
                f"platform: {configuration.platform!r}; wanted one of {', '.join(sorted(PLATFORMS))}"
            )
    except ConfigurationError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return os.EX_CONFIG
    asyncio.run(run(configuration))
    return os.EX_OK


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
