"""One node VM: the clients of the bank's services, and the agent built on them."""

import os
import pkgutil
import shutil
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from azure.identity.aio import ManagedIdentityCredential
from azure.keyvault.secrets.aio import SecretClient
from azure.storage.blob.aio import ContainerClient
from typing_extensions import override

from agent.agent import Agent
from agent.blob_leases import BlobLeases
from agent.database import Administrator, PostgresFence
from agent.exchange import DocumentPin, Exchange, OwnBank
from agent.keys import KeyVaultKeys, write_files
from agent.prerequisites import Prerequisite
from agent.presence import BlobPresence
from agent.processes import launch
from agent.resources import Disk, NodeIntervals, Resources
from agent.scheduled_events import ScheduledEvents
from agent.service import serve
from agent.share import LedgerShare
from agent.users import NodeUsers
from contract.identities import Identity, identities
from contract.metrics import Cause
from contract.platform import P2P, Platform
from contract.ports import HEALTH_PORT, NETWORK_INFO_PORT
from contract.timing import STANDBY
from contract.users import NODE_USERS, TOOL
from contract.vm_configuration import AgentConfiguration
from host import metrics
from host.azure import answering
from host.bank_documents import BlobDocuments, Documents
from host.calls import BoundedCalls
from host.errors import UnavailableError
from host.http import fetch, listens
from host.processes import remove
from host.status import Status
from host.store_clock import StoreClock
from host.tls import client_context
from host.vault import BankVault
from ledger import PLATFORMS
from ledger.software import AuthorityAccess, Software, SoftwareContext

_DATABASE_SCOPE = "https://ossrdbms-aad.database.windows.net/.default"
NO_RETRIES: dict[str, Any] = {"retry_total": 0, "connection_timeout": 5, "read_timeout": 5}
"""Client options: no retries, since the agent decides when to ask again; time limits in seconds."""
FREE_BYTES = 1 << 30
"""Bytes that must be free on the VM's disk for a node's scratch folder, a Java crash log and the journal."""


@dataclass(frozen=True)
class LocalDisk(Disk):
    """The folders that systemd gives the service: `state` on disk, `runtime` in memory."""

    state: Path
    runtime: Path
    _left: set[Path] = field(default_factory=set, init=False)
    """Folders of an earlier node that could not be removed."""

    @override
    def scratch(self) -> Path:
        self._remove(self.state / "node")
        folder = self.state / "node"
        folder.mkdir()
        # The node may create files in it, but not remove the agent's.
        folder.chmod(0o1770)
        return folder

    @override
    def unpack(self, blobs: Mapping[str, bytes]) -> Path:
        self._remove(self.runtime / "secrets")
        write_files(self.runtime / "secrets", blobs)
        return self.runtime / "secrets"

    @override
    def wipe(self) -> None:
        try:
            self._remove(self.runtime / "secrets")
        finally:
            self._remove(self.state / "node")

    def check(self) -> None:
        """Write a file to both folders; check that the disk has room and no folder of an earlier node is left.

        Raises:
            UnavailableError: a write fails, the disk is full, or a folder can't be removed.
        """
        for folder in tuple(self._left):
            self._remove(folder)
        for folder in (self.state, self.runtime):
            path = folder / "check"
            try:
                with path.open("wb") as file:
                    file.write(b"check")
                    file.flush()
                    os.fsync(file.fileno())
                path.unlink()
            except OSError as error:
                raise UnavailableError(f"disk: {error}") from error
        if (free := shutil.disk_usage(self.state).free) < FREE_BYTES:
            raise UnavailableError(
                f"disk: {free >> 20} MiB free at {self.state}; wanted {FREE_BYTES >> 20} MiB or more"
            )

    def _remove(self, folder: Path) -> None:
        self._left.add(folder)
        try:
            remove(folder)
        except OSError as error:
            raise UnavailableError(f"disk: {error}") from error
        self._left.discard(folder)


@dataclass(frozen=True)
class Cloud:
    """The clients of the bank's services, and the VM's own resources."""

    vm: str
    """The VM's host name."""
    leases: ContainerClient
    documents: ContainerClient
    keys: SecretClient
    """Client of the vault that agents write."""
    secrets: SecretClient
    """Client of the vault that agents only read."""
    administrator: Administrator
    share: LedgerShare
    disk: LocalDisk
    notices: ScheduledEvents | None
    users: NodeUsers | None
    """Users that nodes run as; None: the agent's own user."""
    listen: str = "0.0.0.0"  # noqa: S104  # The network's rules let balancer, probe and peers in, each to its port.
    """Address that the agent and its node listen on."""
    telemetry: Callable[[Status], None] | None = None
    """Starts to send metrics of the agent's status."""
    intervals: NodeIntervals = field(default_factory=NodeIntervals)
    """Intervals of checks of a running node."""


@asynccontextmanager
async def azure(configuration: AgentConfiguration) -> AsyncIterator[Cloud]:
    """The clients of Azure's services, signed in with the VM's managed identity."""
    async with AsyncExitStack() as clients:
        credential = await clients.enter_async_context(ManagedIdentityCredential(client_id=configuration.client_id))

        async def administrator() -> tuple[str, str]:
            assert configuration.database  # noqa: S101
            async with answering("metadata service: a token for the database"):
                token = await credential.get_token(_DATABASE_SCOPE)
            return configuration.database.administrator, token.token

        leases, documents = [
            await clients.enter_async_context(
                ContainerClient(configuration.blob_url, container, credential, **NO_RETRIES)
            )
            for container in (configuration.lease_container, configuration.network_container)
        ]
        keys, secrets = [
            await clients.enter_async_context(SecretClient(url, credential, **NO_RETRIES))
            for url in (configuration.key_vault_url, configuration.bank_vault_url)
        ]
        to = configuration.connection_string
        yield Cloud(
            vm=os.uname().nodename,
            leases=leases,
            documents=documents,
            keys=keys,
            secrets=secrets,
            administrator=administrator,
            share=LedgerShare(configuration.share, users=NODE_USERS, identities=configuration.identities),
            disk=LocalDisk(Path(os.environ["STATE_DIRECTORY"]), Path(os.environ["RUNTIME_DIRECTORY"])),
            notices=ScheduledEvents(),
            users=NodeUsers(),
            telemetry=partial(metrics.send, to, configuration.client_id) if to else None,
        )


def software_context(
    configuration: AgentConfiguration, documents: Documents, vault: BankVault, listen: str
) -> SoftwareContext:
    """The platform software's view of its bank."""
    network = configuration.network
    authority = AuthorityAccess(network.authority.url, vault.enrolment_key) if network.authority else None
    return SoftwareContext(
        member=configuration.member,
        version=configuration.version,
        installation=configuration.installation,
        artifact=configuration.artifact,
        applications=configuration.applications,
        frontend=configuration.frontend,
        documents=documents,
        network=authority or network.zone,
        trust_root=network.trust_root,
        rpc_users=vault.rpc_users,
        listen=listen,
    )


def load_software(platform: Platform, context: SoftwareContext) -> Software:
    """The software that runs a node of the platform, loaded by its name in the platform's data."""
    software: Software = pkgutil.resolve_name(platform.software)(context)
    return software


def exchange(
    configuration: AgentConfiguration,
    platform: Platform,
    nodes: Sequence[Identity],
    documents: Documents,
    vault: BankVault,
) -> Exchange:
    """The exchange of network information with the other members."""
    pinned, document = configuration.network.document, platform.network_document
    return Exchange(
        bank=OwnBank(
            member=configuration.member,
            address_space=configuration.address_space,
            legal_names={node.name: node.legal_name for node in nodes},
            addresses={node.legal_name: f"{configuration.frontend}:{node.ports[P2P]}" for node in nodes},
        ),
        documents=documents,
        vault=vault,
        fetch=partial(fetch, context=client_context()),
        listens=listens,
        pin=DocumentPin(pinned, document.fingerprint) if pinned and document else None,
    )


def prerequisites(
    cloud: Cloud,
    *,
    disk_calls: BoundedCalls,
    clock: StoreClock,
    software: Software,
    vault: BankVault,
    database: PostgresFence | None,
) -> tuple[Prerequisite, ...]:
    """Checks that a VM passes before it acquires an identity, cheapest first."""
    costly = STANDBY.costly_check_seconds
    return (
        Prerequisite(Cause.SHARE, partial(BoundedCalls("share"), cloud.share.check, cloud.vm)),
        Prerequisite(Cause.DISK, partial(disk_calls, cloud.disk.check)),
        Prerequisite(Cause.CLOCK, clock.check, costly),
        Prerequisite(Cause.RUNTIME, software.check, costly, holding=False),
        Prerequisite(Cause.VAULT, vault.check, costly, holding=False, common=True),
        *([Prerequisite(Cause.DATABASE, database.check, costly, holding=False, common=True)] if database else []),
    )


async def run(configuration: AgentConfiguration, cloud: Cloud) -> None:
    """Run this VM's agent until it is stopped."""
    platform, server = PLATFORMS[configuration.platform], configuration.database
    status = Status(vm=cloud.vm, member=configuration.member)
    nodes = identities(
        platform,
        configuration.legal_name,
        configuration.identities,
        configuration.roles,
        configuration.legal_names,
    )
    documents, vault = BlobDocuments(cloud.documents), BankVault(cloud.secrets)
    network = exchange(configuration, platform, nodes, documents, vault)
    context = software_context(configuration, documents, vault, cloud.listen)
    software = load_software(platform, replace(context, tool_user=TOOL.number) if cloud.users else context)
    database = (
        PostgresFence(server.host, server.port, cloud.administrator, server.root_certificates) if server else None
    )
    clock, disk_calls = StoreClock(cloud.leases), BoundedCalls("disk")
    presence = BlobPresence(cloud.leases, cloud.vm, clock)
    resources = Resources(
        software=software,
        share=cloud.share,
        vault=KeyVaultKeys(cloud.keys),
        disk=cloud.disk,
        launch=launch,
        database=database,
        network=network,
        document=platform.network_document,
        intervals=cloud.intervals,
        disk_calls=disk_calls,
        prerequisites=prerequisites(
            cloud,
            disk_calls=disk_calls,
            clock=clock,
            software=software,
            vault=vault,
            database=database,
        ),
        presence=presence,
        users=cloud.users,
    )
    agent = Agent(nodes, BlobLeases(cloud.leases), resources, status)
    if cloud.telemetry:
        cloud.telemetry(status)
    async with network.serving(cloud.listen, NETWORK_INFO_PORT):
        await serve(agent, status, host=cloud.listen, port=HEALTH_PORT, notices=cloud.notices)
