"""The agent of a node VM: `python -m agent [CONFIGURATION]`, started by systemd."""

import asyncio
import logging
import os
import shutil
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
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
from agent.database import Administrator, PostgresFence
from agent.documents import BlobDocuments
from agent.keys import KeyVaultKeys, write_files
from agent.network_http import fetch
from agent.network_info import Bank, Exchange, Pin
from agent.node import Rhythm, Workplace
from agent.ports import HEALTH_PORT, NETWORK_INFO_PORT
from agent.processes import launch
from agent.scheduled_events import ScheduledEvents
from agent.service import serve
from agent.share import LedgerShare
from agent.status import Status
from agent.tls import client_context
from agent.vault import BankVault
from ledger.platform import P2P, Identity, Platform, identities
from ledger.platforms import PLATFORMS
from ledger.software import Authority, Documents, Surroundings, Zone

_DATABASE_SCOPE = "https://ossrdbms-aad.database.windows.net/.default"
NO_RETRIES: dict[str, Any] = {"retry_total": 0, "connection_timeout": 5, "read_timeout": 5}
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


@dataclass(frozen=True)
class Cloud:
    """The bank's services as this VM reaches them, and what the VM has of its own."""

    vm: str
    """Its name."""
    leases: ContainerClient
    documents: ContainerClient
    secrets: SecretClient
    administrator: Administrator
    share: LedgerShare
    disk: LocalDisk
    notices: ScheduledEvents | None
    listen: str = "0.0.0.0"  # noqa: S104  # The network's rules let balancer, probe and peers in, each to its port.
    """Address that the agent and its node listen on."""
    rhythm: Rhythm = field(default_factory=Rhythm)
    """How often a running node is seen to."""


@asynccontextmanager
async def azure(configuration: Configuration) -> AsyncIterator[Cloud]:
    """The services of Azure, as the VM's identity."""
    async with AsyncExitStack() as clients:
        credential = await clients.enter_async_context(ManagedIdentityCredential(client_id=configuration.client_id))

        async def administrator() -> tuple[str, str]:
            assert configuration.database  # noqa: S101
            return configuration.database.administrator, (await credential.get_token(_DATABASE_SCOPE)).token

        leases, documents = [
            await clients.enter_async_context(
                ContainerClient(configuration.blob_url, container, credential, **NO_RETRIES)
            )
            for container in (configuration.lease_container, configuration.network_container)
        ]
        yield Cloud(
            vm=os.uname().nodename,
            leases=leases,
            documents=documents,
            secrets=await clients.enter_async_context(
                SecretClient(configuration.vault_url, credential, **NO_RETRIES)
            ),
            administrator=administrator,
            share=LedgerShare(configuration.share),
            disk=LocalDisk(Path(os.environ["STATE_DIRECTORY"]), Path(os.environ["RUNTIME_DIRECTORY"])),
            notices=ScheduledEvents(await clients.enter_async_context(ClientSession())),
        )


def surroundings(configuration: Configuration, documents: Documents, vault: BankVault, listen: str) -> Surroundings:
    """What the platform's software is told of its bank."""
    network = configuration.network
    return Surroundings(
        member=configuration.member,
        version=configuration.version,
        installation=configuration.installation,
        artifact=configuration.artifact,
        applications=configuration.applications,
        frontend=configuration.frontend,
        documents=documents,
        network=Authority(network.authority.url, vault.enrolment_key)
        if network.authority
        else Zone(network.zone.registration_url, network.zone.network_map_url, network.zone.trust_root.encode())
        if network.zone
        else None,
        trust_root=network.trust_root,
        rpc_users=vault.rpc_users,
        listen=listen,
    )


def exchange(
    configuration: Configuration,
    platform: Platform,
    nodes: Sequence[Identity],
    documents: Documents,
    vault: BankVault,
) -> Exchange:
    """What the bank's VMs tell the other members, and ask of them."""
    pinned, document = configuration.network.document, platform.network_document
    return Exchange(
        bank=Bank(
            member=configuration.member,
            legal_names={node.name: node.legal_name for node in nodes},
            addresses={node.legal_name: f"{configuration.frontend}:{node.ports[P2P]}" for node in nodes},
        ),
        documents=documents,
        vault=vault,
        fetch=partial(fetch, context=client_context()),
        pin=Pin(pinned, document.fingerprint) if pinned and document else None,
    )


async def run(configuration: Configuration, cloud: Cloud) -> None:
    """Run the agent of this VM until it is told to stop."""
    platform, server = PLATFORMS[configuration.platform], configuration.database
    status = Status(vm=cloud.vm)
    nodes = identities(platform, configuration.legal_name, configuration.identities, configuration.roles)
    documents, vault = BlobDocuments(cloud.documents), BankVault(cloud.secrets)
    network = exchange(configuration, platform, nodes, documents, vault)
    workplace = (
        Workplace(
            software=platform.software(surroundings(configuration, documents, vault, cloud.listen)),
            share=cloud.share,
            vault=KeyVaultKeys(cloud.secrets),
            disk=cloud.disk,
            launch=launch,
            database=PostgresFence(server.host, server.port, cloud.administrator, server.root_certificates)
            if server
            else None,
            network=network,
            document=platform.network_document,
            rhythm=cloud.rhythm,
        )
        if platform.software
        else None
    )
    agent = Agent(nodes, BlobLeases(cloud.leases), workplace, status)
    if configuration.connection_string:
        metrics.send(configuration.connection_string, configuration.client_id, status)
    async with network.serving(cloud.listen, NETWORK_INFO_PORT):
        await serve(agent, status, host=cloud.listen, port=HEALTH_PORT, notices=cloud.notices)


async def _run_on_azure(configuration: Configuration) -> None:
    async with azure(configuration) as cloud:
        await run(configuration, cloud)


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
    asyncio.run(_run_on_azure(configuration))
    return os.EX_OK


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
