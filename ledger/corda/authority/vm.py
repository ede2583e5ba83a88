"""One VM of a network's authority: the clients of its services, and the authority built on them."""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

from azure.identity.aio import ManagedIdentityCredential
from azure.keyvault.keys.aio import KeyClient
from azure.keyvault.secrets.aio import SecretClient
from azure.storage.blob.aio import ContainerClient

from contract.authority_configuration import AuthorityConfiguration
from contract.ports import HEALTH_PORT
from host import metrics
from host.status import Status
from host.store_clock import StoreClock
from ledger.corda import CORDA
from ledger.corda.authority.authority import Authority
from ledger.corda.authority.keys import KeyChain, VaultKeys
from ledger.corda.authority.members import VaultMembers
from ledger.corda.authority.parameters import JavaSerializer
from ledger.corda.authority.register import BlobStore
from ledger.corda.authority.service import serve

_NO_RETRIES: dict[str, Any] = {"retry_total": 0, "connection_timeout": 5, "read_timeout": 10}
"""Client options: no retries, since the authority decides when to ask again; time limits in seconds."""

Connect = Callable[[AuthorityConfiguration, float], AbstractAsyncContextManager[Authority]]


def authority_of(
    configuration: AuthorityConfiguration,
    configured: float,
    container: ContainerClient,
    secrets: SecretClient,
    keys: KeyChain,
) -> Authority:
    """The authority on these clients. `configured` is when the configuration was written, in seconds since 1970."""
    return Authority(
        configuration,
        BlobStore(container),
        keys,
        VaultMembers(secrets, configuration),
        JavaSerializer(configuration.expected_installation),
        configured=configured,
        check_clock=StoreClock(container).check,
    )


@asynccontextmanager
async def connect(configuration: AuthorityConfiguration, configured: float) -> AsyncIterator[Authority]:
    """The authority on Azure's services, signed in with the VM's managed identity."""
    async with AsyncExitStack() as clients:
        credential = await clients.enter_async_context(ManagedIdentityCredential(client_id=configuration.client_id))
        container = await clients.enter_async_context(
            ContainerClient(configuration.blob_url, configuration.container, credential, **_NO_RETRIES)
        )
        secrets = await clients.enter_async_context(SecretClient(configuration.vault_url, credential, **_NO_RETRIES))
        keys = await clients.enter_async_context(KeyClient(configuration.vault_url, credential, **_NO_RETRIES))
        root = await clients.enter_async_context(KeyClient(configuration.root_vault_url, credential, **_NO_RETRIES))
        yield authority_of(configuration, configured, container, secrets, VaultKeys(keys, root))


async def run(configuration: AuthorityConfiguration, configured: float, connect: Connect) -> None:
    """Serve members until SIGTERM, with the authority that `connect` makes of the configuration."""
    assert CORDA.authority  # noqa: S101
    requests, lists = (each.port for each in CORDA.authority.listeners)
    status = Status(vm=os.uname().nodename)
    async with connect(configuration, configured) as authority:
        if configuration.connection_string:
            metrics.send(configuration.connection_string, configuration.client_id, status)
        # The network's rules decide who gets in.
        await serve(authority, status, "0.0.0.0", HEALTH_PORT, requests, lists)  # noqa: S104
