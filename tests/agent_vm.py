"""One VM of the tests that run real agents: an agent like any other, whose clouds are a vault in a file and Azurite.

`python -m tests.agent_vm SPECIFICATION`, a JSON document. Its node is the echo platform's; where there is a database,
with a second process that commits to the identity's as often as it can.
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
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
from azure.core.exceptions import ResourceNotFoundError
from azure.storage.blob.aio import ContainerClient

from agent import node
from agent.__main__ import LocalDisk, exchange, surroundings
from agent.agent import Agent
from agent.blobs import BlobLeases
from agent.configuration import Configuration, Network
from agent.database import PostgresFence
from agent.documents import BlobDocuments
from agent.network_info import Rhythm
from agent.node import Workplace
from agent.ports import HEALTH_PORT, NETWORK_INFO_PORT
from agent.processes import launch
from agent.service import serve
from agent.share import LedgerShare
from agent.status import Status
from agent.vault import BankVault
from ledger.platform import Identity, identities
from ledger.software import Place, Process
from local.azurite import ACCOUNT, KEY
from local.postgres import ADMINISTRATOR, PASSWORD
from tests import echo

ROOT = Path(__file__).resolve().parent.parent


class Committing(echo.EchoSoftware):
    """The echo platform with a database, where a second process leaves a row as often as it can."""

    def processes(self, place: Place) -> Sequence[Process]:
        """`echo`, and `writer`."""
        (served,) = super().processes(place)
        assert place.database
        database = dataclasses.asdict(place.database)
        writer = dataclasses.replace(
            served,
            name="writer",
            argv=(sys.executable, "-m", "tests.agent_vm", "write", str(place.epoch)),
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
    while True:
        try:
            with psycopg.connect(
                **{key: os.environ[f"DATABASE_{name}"] for key, name in names.items()}
            ) as connection:
                connection.autocommit = True
                connection.execute("CREATE TABLE IF NOT EXISTS commits (epoch int, at timestamptz DEFAULT now())")
                while True:
                    connection.execute("INSERT INTO commits (epoch) VALUES (%s)", [epoch])
                    time.sleep(0.01)
        except psycopg.Error:
            time.sleep(0.05)


class FileVault:
    """Keys in a file of each identity: what Key Vault does with them is tested by itself."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def obtain(self, identity: str, make: Callable[[], Mapping[str, bytes]], known: str | None) -> Any:
        path = self._folder / identity
        if not path.exists():
            assert known is None, "new keys over old ones"
            path.write_text(json.dumps({name: blob.hex() for name, blob in make().items()}))
        blobs = {name: bytes.fromhex(blob) for name, blob in json.loads(path.read_text()).items()}
        return SimpleNamespace(blobs=blobs, fingerprint=hashlib.sha256(path.read_bytes()).hexdigest())


class FileSecrets:
    """The client of a vault whose secrets are files: what the infrastructure wrote."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.vault_url = folder, folder.as_uri()

    async def get_secret(self, name: str) -> Any:
        try:
            return SimpleNamespace(value=(self._folder / name).read_text())
        except FileNotFoundError as error:
            raise ResourceNotFoundError(name) from error


def configured(given: Mapping[str, Any]) -> Configuration:
    """What the infrastructure would tell the VM's agent."""
    return Configuration(
        member=given["member"],
        platform="echo",
        version="1.1",
        legal_name=given["member"].replace("-", " ").title(),
        identities=given["identities"],
        frontend=given["frontend"],
        network=Network(document=given.get("document")),
        installation=Path("/nowhere"),
        client_id="none",
        vault_url="https://vault.example",
        blob_url=given["blobs"],
        lease_container=f"leases-{given['member']}",
        network_container=f"network-{given['member']}",
        share=Path(given["folder"]) / "share",
        database=None,
        connection_string=None,
    )


async def run(given: Mapping[str, Any]) -> None:
    async def administrator() -> tuple[str, str]:
        return ADMINISTRATOR, PASSWORD

    folder, host, configuration = Path(given["folder"]), given["host"], configured(given)
    every: tuple[Identity, ...] = identities(echo.PLATFORM, configuration.legal_name, configuration.identities)
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
        network = exchange(configuration, echo.PLATFORM, every, documents, vault)
        network.rhythm = Rhythm(fetch=0.5, refresh=0.5, peers=0.5)
        told = surroundings(configuration, documents, vault, host)
        database = given.get("postgres")
        workplace = Workplace(
            software=Committing(told) if database else echo.EchoSoftware(told),
            share=LedgerShare(configuration.share, mount=False),
            vault=FileVault(folder / "keys"),
            disk=LocalDisk(Path(given["state"]), Path(given["runtime"])),
            launch=launch,
            database=PostgresFence("127.0.0.1", database, administrator, None) if database else None,
            network=network,
            document=echo.PLATFORM.network_document,
            rhythm=node.Rhythm(meet=0.5, stale=0.5, stagger=0.5),
        )
        await clients.enter_async_context(network.serving(host, NETWORK_INFO_PORT))
        await serve(Agent(every, BlobLeases(leases), workplace, status), status, host=host, port=HEALTH_PORT)


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write(int(sys.argv[2]))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("azure").setLevel(logging.WARNING)
    asyncio.run(run(json.loads(sys.argv[1])))
