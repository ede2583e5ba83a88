"""One VM of the tests that run real agents: an agent like any other, whose clouds are a vault in a file and Azurite.

`python -m tests.processes.agent_vm SPECIFICATION`, a JSON document. Its node is the echo platform's; where there is a
database, with a second process that commits to the identity's as often as it can.
"""

import asyncio
import dataclasses
import hashlib
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from ipaddress import IPv4Network
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
from azure.storage.blob.aio import ContainerClient

from agent.agent import Agent
from agent.blob_leases import BlobLeases
from agent.database import PostgresFence
from agent.exchange import ExchangeIntervals
from agent.prerequisites import Prerequisite
from agent.presence import BlobPresence
from agent.processes import launch
from agent.resources import IdentityVault, NodeIntervals, Resources
from agent.service import serve
from agent.share import LedgerShare
from agent.users import NodeUsers
from agent.vm import LocalDisk, exchange, software_context
from contract.identities import Identity, identities
from contract.ports import HEALTH_PORT, NETWORK_INFO_PORT
from contract.users import NODE_USERS
from contract.vm_configuration import AgentConfiguration, LedgerNetwork
from host.bank_documents import BlobDocuments
from host.calls import BoundedCalls
from host.status import Status
from host.store_clock import StoreClock
from host.vault import BankVault
from lab import ROOT, echo
from lab.banks.azurite import ACCOUNT, KEY
from lab.banks.postgres import administrator
from ledger.software import Place, Process
from tests.vaults import not_found


class Committing(echo.EchoSoftware):
    """The echo platform with a database, into which a second process writes rows as fast as it can."""

    def processes(self, place: Place) -> Sequence[Process]:
        """`echo`, and `writer`."""
        (served,) = super().processes(place)
        assert place.database
        database = dataclasses.asdict(place.database)
        writer = dataclasses.replace(
            served,
            name="writer",
            argv=(sys.executable, "-m", "tests.processes.agent_vm", "write", str(place.epoch)),
            environment={
                **served.environment,
                "PYTHONPATH": str(ROOT),
                **{f"DATABASE_{key.upper()}": str(value) for key, value in database.items()},
            },
        )
        return [served, writer]


def write(epoch: int) -> None:
    """Commit rows until killed."""
    names = {"host": "HOST", "port": "PORT", "dbname": "DATABASE", "user": "USER", "password": "PASSWORD"}
    access: dict[str, Any] = {key: os.environ[f"DATABASE_{name}"] for key, name in names.items()}
    while True:
        try:
            with psycopg.connect(**access) as connection:
                connection.autocommit = True
                connection.execute("CREATE TABLE IF NOT EXISTS commits (epoch int, at timestamptz DEFAULT now())")
                while True:
                    connection.execute("INSERT INTO commits (epoch) VALUES (%s)", [epoch])
                    time.sleep(0.01)
        except psycopg.Error:
            time.sleep(0.05)


class FileVault(IdentityVault):
    """Keys in a file of each identity; Key Vault has separate tests."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def exists(self, identity: Identity) -> bool:
        return (self._folder / identity.name).exists()

    async def obtain(self, identity: Identity, make: Callable[[], Mapping[str, bytes]], recorded: str | None) -> Any:
        path = self._folder / identity.name
        if not path.exists():
            assert recorded is None, "new keys must not overwrite old ones"
            path.write_text(json.dumps({name: blob.hex() for name, blob in make().items()}))
        blobs = {name: bytes.fromhex(blob) for name, blob in json.loads(path.read_text()).items()}
        return SimpleNamespace(blobs=blobs, fingerprint=hashlib.sha256(path.read_bytes()).hexdigest())


class FileSecrets:
    """The client of a vault whose secrets are files."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.vault_url = folder, folder.as_uri()

    async def get_secret(self, name: str) -> Any:
        try:
            return SimpleNamespace(value=(self._folder / name).read_text())
        except FileNotFoundError as error:
            raise not_found() from error


def configured(given: Mapping[str, Any]) -> AgentConfiguration:
    """The agent's configuration, as a deployment writes it."""
    return AgentConfiguration(
        member=given["member"],
        address_space=IPv4Network(f"{given['host']}/32"),
        platform="echo",
        version="1.1",
        legal_name=given["member"].replace("-", " ").title(),
        identities=given["identities"],
        frontend=given["frontend"],
        network=LedgerNetwork(document=given.get("document")),
        installation=Path("/nowhere"),
        client_id="none",
        key_vault_url="https://keys.example",
        bank_vault_url="https://vault.example",
        blob_url=given["blobs"],
        lease_container=f"leases-{given['member']}",
        network_container=f"network-{given['member']}",
        share=Path(given["folder"]) / "share",
        database=None,
        connection_string=None,
    )


async def run(given: Mapping[str, Any]) -> None:
    folder, host, configuration = Path(given["folder"]), given["host"], configured(given)
    every: tuple[Identity, ...] = identities(echo.ECHO, configuration.legal_name, configuration.identities)
    status = Status(vm=given["vm"])
    credential: Any = {"account_name": ACCOUNT, "account_key": KEY}
    async with AsyncExitStack() as clients:
        leases, shared = [
            await clients.enter_async_context(ContainerClient(given["blobs"], name, credential, retry_total=0))
            for name in (configuration.lease_container, configuration.network_container)
        ]
        documents = BlobDocuments(shared)
        secrets: Any = FileSecrets(folder / "vault")
        vault = BankVault(secrets, poll_seconds=0.5)
        network = exchange(configuration, echo.ECHO, every, documents, vault)
        network.intervals = ExchangeIntervals(fetch=0.5, refresh=0.5, peers=0.5)
        context = software_context(configuration, documents, vault, host)
        database = given.get("postgres")
        share, disk = (
            LedgerShare(configuration.share, mount=False, users=NODE_USERS if given["separate"] else {}),
            LocalDisk(Path(given["state"]), Path(given["runtime"])),
        )
        clock, disk_calls = StoreClock(leases), BoundedCalls("disk")
        presence = BlobPresence(leases, given["vm"], clock)
        fence = PostgresFence("127.0.0.1", database, administrator, None) if database else None
        resources = Resources(
            software=Committing(context) if database else echo.EchoSoftware(context),
            share=share,
            vault=FileVault(folder / "keys"),
            disk=disk,
            launch=launch,
            database=fence,
            network=network,
            document=echo.ECHO.network_document,
            disk_calls=disk_calls,
            intervals=NodeIntervals(meet=0.5, stale=0.5, stagger=0.5),
            prerequisites=(
                Prerequisite("share", partial(BoundedCalls("share"), share.check, given["vm"])),
                Prerequisite("disk", partial(disk_calls, disk.check)),
                Prerequisite("clock", clock.check),
                *([Prerequisite("database", fence.check, holding=False, common=True)] if fence else []),
            ),
            presence=presence,
            users=NodeUsers() if given["separate"] else None,
        )
        await clients.enter_async_context(network.serving(host, NETWORK_INFO_PORT))
        await serve(Agent(every, BlobLeases(leases), resources, status), status, host=host, port=HEALTH_PORT)


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write(int(sys.argv[2]))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("azure").setLevel(logging.WARNING)
    asyncio.run(run(json.loads(sys.argv[1])))
