"""A node VM's agent: how soon it takes over, how soon it holds a lease, what memory it takes.

`python -m benchmarks.agent`. Takeovers are those of the simulation, in virtual time; the rest is measured on real
processes against Azurite, where node and npm are there.
"""

import json
import logging
import statistics
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

from azure.storage.blob import ContainerClient
from rich.console import Console
from rich.table import Table

from agent.lease import LEASE_SECONDS
from local import azurite
from tests.simulation import play, power_loss

_HISTORIES = 300
_STARTS = 5
_HOST, _PORT = "127.0.2.1", 8080
_INFO_PORT = 8443
_FRESH = 15
"""Seconds until memory is read: the document is served, and peers were asked, by then."""
_AGENT = """
import asyncio, json, sys
from pathlib import Path
from types import SimpleNamespace
from azure.core.exceptions import ResourceNotFoundError
from azure.storage.blob.aio import ContainerClient
import agent.__main__
from agent.__main__ import exchange, surroundings
from agent.agent import Agent
from agent.blobs import BlobLeases
from agent.configuration import Configuration
from agent.documents import BlobDocuments
from agent.service import serve
from agent.status import Status
from agent.vault import BankVault
from ledger.corda import PLATFORM
from ledger.platform import identities
url, credential, host, port, info_port = sys.argv[1], json.loads(sys.argv[2]), *sys.argv[3:]
configuration = Configuration(
    member="bank-a", platform="corda", version="4.10", legal_name="O=Bank A, L=London, C=GB", identities=1,
    frontend=host, installation=Path("/nowhere"), client_id="", vault_url="https://vault.example", blob_url=url,
    lease_container="leases", network_container="network", share=Path("/nowhere"), database=None,
    connection_string=None,
)
class Secrets:
    vault_url = "https://vault.example"
    async def get_secret(self, name):
        if name == "peers":
            return SimpleNamespace(value=json.dumps({"bank-b": "bank-b"}))
        if name != "bank-b":
            raise ResourceNotFoundError(name)
        return SimpleNamespace(value=json.dumps({
            "name": "bank-b", "nodes": [], "networkInfoUrl": f"https://{host}:{info_port}/networkinfo"
        }))
class Asleep:
    database = None
    class share:
        open = staticmethod(lambda *_: (_ for _ in ()).throw(agent.fence.UnavailableError("no share here")))
    class disk:
        wipe = staticmethod(lambda: None)
async def main():
    status, nodes = Status("vm"), identities(PLATFORM, configuration.legal_name, 1)
    async with (
        ContainerClient(url, "leases", credential, retry_total=0) as leases,
        ContainerClient(url, "network", credential, retry_total=0) as shared,
    ):
        documents, vault = BlobDocuments(shared), BankVault(Secrets())
        Asleep.network = network = exchange(configuration, PLATFORM, nodes, documents, vault)
        Asleep.software = PLATFORM.software(surroundings(configuration, documents, vault, "127.0.0.1"))
        async with network.serving(host, int(info_port)):
            await serve(Agent(nodes, BlobLeases(leases), Asleep, status), status, host=host, port=int(port))
asyncio.run(main())
"""


def main() -> None:
    """Print all figures."""
    console = Console(highlight=False)
    # Each outage of the simulation would be a line.
    logging.disable()
    waits = sorted(wait for seed in range(_HISTORIES) for wait in play(seed, trouble=power_loss).takeovers)
    table = Table(title="A node VM's agent", title_justify="left")
    for column in ("figure", "median", "min", "max", "goal"):
        table.add_column(column)
    _row(table, f"lapse of the {LEASE_SECONDS} s lease to takeover, s, {len(waits)} simulated", waits, "2")
    if azurite.available():
        answers, leases, resident, proportional, private = zip(*_starts(), strict=True)
        _row(table, "start to first answer to a probe, s", answers, "")
        _row(table, "start to lease, s", leases, "3")
        _row(
            table, f"memory of a holder's agent after {_FRESH} s, MB: its share of what is mapped", proportional, "80"
        )
        _row(table, f"memory of a holder's agent after {_FRESH} s, MB: all that is mapped", resident, "")
        _row(table, f"memory of a holder's agent after {_FRESH} s, MB: its own, shared with no process", private, "")
    console.print(table)
    if not azurite.available():
        console.print("node and npm are not here: starts are not measured")


def _row(table: Table, figure: str, values: Any, goal: str) -> None:
    table.add_row(figure, *(f"{each:.2f}" for each in (statistics.median(values), min(values), max(values))), goal)


def _starts() -> list[tuple[float, float, float, float, float]]:
    figures = []
    credential: dict[str, str] = {"account_name": azurite.ACCOUNT, "account_key": azurite.KEY}
    for _ in range(_STARTS):
        with azurite.blob_service() as (url, _process):
            for name in ("leases", "network"):
                with ContainerClient(url, name, credential) as container:
                    container.create_container()
            started = time.monotonic()
            process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-c", _AGENT, url, json.dumps(credential), _HOST, str(_PORT), str(_INFO_PORT)],
                stderr=subprocess.DEVNULL,
            )
            try:
                answered = _until("state", started)
                leased = _until("identity", started)
                time.sleep(max(0.0, started + _FRESH - time.monotonic()))
                figures.append((answered, leased, *memory(process.pid)))
            finally:
                process.kill()
                process.wait()
    return figures


def _until(key: str, started: float) -> float:
    """Seconds from the start until the health endpoint has a value for the key."""
    while time.monotonic() < started + 30:
        try:
            with urllib.request.urlopen(f"http://{_HOST}:{_PORT}/health", timeout=1) as answer:
                if json.load(answer)[key]:
                    return time.monotonic() - started
        except OSError:
            pass
        time.sleep(0.01)
    raise TimeoutError(f"the agent tells no {key}")


def memory(pid: int) -> tuple[float, float, float]:
    """Megabytes of a process: all that is mapped, its share of that, and what no other process has."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines()[1:]
    kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    private = kilobytes["Private_Clean"] + kilobytes["Private_Dirty"]
    return kilobytes["Rss"] / 1024, kilobytes["Pss"] / 1024, private / 1024


if __name__ == "__main__":
    main()
