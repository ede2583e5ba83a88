"""An agent that holds an identity but can't start its node, to measure the agent alone.

`python -m benchmarks.idle_agent URL CREDENTIAL HOST PORT INFO_PORT`: URL and credential of the blob service; host and
ports where the agent listens.
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
from agent.resources import Resources
from agent.service import serve
from agent.vm import exchange, load_software, software_context
from contract.identities import identities
from contract.vm_configuration import AgentConfiguration
from host.bank_documents import BlobDocuments
from host.errors import UnavailableError
from host.status import Status
from host.vault import BankVault
from ledger.corda import CORDA


class _Secrets:
    """A vault with one peer, whose agent is this one."""

    vault_url = "https://vault.example"

    def __init__(self, info_url: str) -> None:
        self._card = {"name": "bank-b", "addressSpace": "10.2.0.0/16", "nodes": [], "networkInfoUrl": info_url}

    async def get_secret(self, name: str) -> Any:
        values = {"peers": {"bank-b": "bank-b"}, "bank-b": self._card}
        if name not in values:
            raise ResourceNotFoundError(name)
        return SimpleNamespace(value=json.dumps(values[name]))


class _NoShare:
    def open(self, identity: str, epoch: int) -> Any:
        raise UnavailableError(f"no share here for {identity}, epoch {epoch}")


async def _main(url: str, credential: Any, host: str, port: int, info_port: int) -> None:
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
        vault = BankVault(cast(Any, _Secrets(f"https://{host}:{info_port}/networkinfo")))
        network = exchange(configuration, CORDA, nodes, documents, vault)
        asleep: Any = SimpleNamespace(
            database=None,
            share=_NoShare(),
            users=None,
            disk=SimpleNamespace(wipe=lambda: None),
            network=network,
            software=load_software(CORDA, software_context(configuration, documents, vault, "127.0.0.1")),
        )
        agent = Agent(nodes, BlobLeases(leases), cast(Resources, asleep), status)
        async with network.serving(host, info_port):
            await serve(agent, status, host=host, port=port)


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], json.loads(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5])))
