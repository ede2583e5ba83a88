"""What the agent of a VM is built from: Azure's clients, and the context of the platform's software."""

import asyncio
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from agent import vm
from agent.vm import Cloud
from contract.users import NODE_USERS, TOOL
from contract.vm_configuration import AgentConfiguration
from ledger.corda import CORDA
from ledger.software import SoftwareContext

CONFIGURATION = AgentConfiguration(
    member="bank-a",
    address_space=IPv4Network("10.1.0.0/16"),
    platform=CORDA.name,
    version="4.14",
    legal_name="O=Bank A, L=London, C=GB",
    identities=3,
    frontend="10.1.2.4",
    installation=Path("/nowhere"),
    client_id="client",
    key_vault_url="https://bank-a-keys.vault.azure.net",
    bank_vault_url="https://bank-a.vault.azure.net",
    blob_url="https://banka.blob.core.windows.net",
    lease_container="leases",
    network_container="network",
    share=Path("/mnt/ledger"),
    database=None,
    connection_string=None,
)


def test_each_client_is_one_of_its_own_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path / "runtime"))

    async def built() -> Cloud:
        async with vm.azure(CONFIGURATION) as cloud:
            return cloud

    cloud = asyncio.run(built())
    assert cloud.keys.vault_url == CONFIGURATION.key_vault_url, "agents may only read the other vault"
    assert cloud.secrets.vault_url == CONFIGURATION.bank_vault_url, "the cards and passwords are there"
    assert cloud.leases.container_name == "leases", "the other container's blobs are public documents"
    assert cloud.documents.container_name == "network"
    assert cloud.share.identities == 3, "without their number no identity has a quota of the share"
    assert cloud.share.users == NODE_USERS, "without users a node can't write to its folder"
    assert cloud.users, "nodes run as users of their own, not as the agent's"
    assert cloud.notices, "without notices of events no node is drained before its VM ends"
    assert vm.NO_RETRIES["retry_total"] == 0, "the client's own retries would outlast the agent's time limits"


@pytest.mark.parametrize(("users", "tool_user"), [(Mock(), TOOL.number), (None, None)])
def test_tools_run_as_a_user_of_their_own_where_nodes_do(
    monkeypatch: pytest.MonkeyPatch, users: Any, tool_user: int | None
) -> None:
    contexts = list[SoftwareContext]()

    class BuiltError(Exception):
        pass

    def load(_: object, context: SoftwareContext) -> None:
        contexts.append(context)
        raise BuiltError

    monkeypatch.setattr(vm, "load_software", load)
    with pytest.raises(BuiltError):
        asyncio.run(vm.run(CONFIGURATION, Mock(users=users)))
    assert [each.tool_user for each in contexts] == [tool_user], (
        "a tool reads other members' files, so it must not run as the agent"
    )
