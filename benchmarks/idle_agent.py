"""An agent that holds an identity but can't start its node, to measure the agent alone.

`python -m benchmarks.idle_agent URL CREDENTIAL HOST PORT INFO_PORT CARD`: URL and credential of the blob service;
host and ports where the agent listens; the bank's card, which its only peer has too.
"""

import asyncio
import json
import sys
from ipaddress import IPv4Network
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from azure.core.exceptions import ResourceNotFoundError
from azure.storage.blob.aio import ContainerClient

from agent.agent import Agent
from agent.blob_leases import BlobLeases
from agent.resources import Disk, Resources, Share
from agent.service import serve
from agent.vm import exchange, load_software, software_context
from contract.identities import identities
from contract.secrets import VaultSecret
from contract.vm_configuration import AgentConfiguration
from host.bank_documents import BlobDocuments
from host.errors import UnavailableError
from host.status import Status
from host.vault import BankVault
from ledger.corda import CORDA


class _Secrets:
    """A vault with one peer."""

    vault_url = "https://vault.example"

    def __init__(self, card: str) -> None:
        self._card = card

    async def get_secret(self, name: str) -> Any:
        values = {
            VaultSecret.PEERS: json.dumps({"bank-b": "bank-b"}),
            "bank-b": self._card,
            VaultSecret.CARD: self._card,
        }
        if name not in values:
            raise ResourceNotFoundError(name)
        return SimpleNamespace(value=values[name])


class _NoShare:
    def exists(self, identity: str) -> bool:
        raise UnavailableError(f"no share here for {identity}")


async def _main(url: str, credential: Any, *, host: str, port: int, info_port: int, card: str) -> None:
    configuration = AgentConfiguration(
        member="bank-a",
        address_space=IPv4Network("10.1.0.0/16"),
        platform=CORDA.name,
        version=CORDA.default_version,
        legal_name="O=Bank A, L=London, C=GB",
        identities=1,
        frontend=host,
        installation=Path("/nowhere"),
        client_id="",
        key_vault_url=_Secrets.vault_url,
        bank_vault_url=_Secrets.vault_url,
        blob_url=url,
        lease_container="leases",
        network_container="network",
        share=Path("/nowhere"),
        database=None,
        connection_string=None,
    )
    status, nodes = Status("vm"), identities(CORDA, configuration.legal_name, 1)
    async with (
        ContainerClient(url, "leases", credential, retry_total=0) as leases,
        ContainerClient(url, "network", credential, retry_total=0) as shared,
    ):
        documents = BlobDocuments(shared)
        vault = BankVault(cast(Any, _Secrets(card)))
        network = exchange(configuration, CORDA, nodes, documents, vault)
        none: Any = None
        resources = Resources(
            software=load_software(CORDA, software_context(configuration, documents, vault, "127.0.0.1")),
            share=cast(Share, _NoShare()),
            vault=none,
            disk=cast(Disk, SimpleNamespace(wipe=lambda: None)),
            launch=none,
            database=None,
            network=network,
            document=CORDA.network_document,
        )
        agent = Agent(nodes, BlobLeases(leases), resources, status)
        async with network.serving(host, info_port):
            await serve(agent, status, host=host, port=port)


if __name__ == "__main__":
    url, credential, host, port, info_port, card = sys.argv[1:]
    asyncio.run(_main(url, json.loads(credential), host=host, port=int(port), info_port=int(info_port), card=card))
