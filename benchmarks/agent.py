"""Measures a node VM's agent: time to a takeover, time to its first lease, and memory.

`python -m benchmarks.agent`; fails where a goal is missed. Takeovers are simulated in virtual time; the rest is
measured on real processes against Azurite, if node and npm are installed.
"""

import json
import logging
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from azure.storage.blob import ContainerClient
from rich.console import Console
from rich.table import Table

from benchmarks.goals import AGENT_MEMORY, FIRST_LEASE, TAKEOVER_BY_AGENTS, Goal, Result, median_of, report, write
from contract.ports import HEALTH_PATH, HEALTH_PORT, NETWORK_INFO_PATH, NETWORK_INFO_PORT
from lab.banks import azurite, npm
from lab.cards import make_card
from lab.simulation import play, power_loss

_HISTORIES = 300
_STARTS = 5
_HOST = "127.0.2.1"
_FRESH = 15
"""Seconds until an agent's memory is measured: by then it serves its document and has asked its peers."""


def main() -> int:
    """Print all figures; returns the exit status."""
    console = Console(emoji=False, highlight=False)
    # Otherwise each outage of the simulation would print a line.
    logging.disable()
    table = Table(title="A node VM's agent", title_justify="left")
    for column in ("figure", "median", "min", "max"):
        table.add_column(column)
    waits = [wait for seed in range(_HISTORIES) for wait in play(seed, trouble=power_loss).takeovers]
    results = [_measured(table, TAKEOVER_BY_AGENTS, waits)]
    if npm.available():
        answers, leases, resident, proportional, private = zip(*_starts(), strict=True)
        results += [_measured(table, FIRST_LEASE, leases), _measured(table, AGENT_MEMORY, proportional)]
        _row(table, "start to first answer to a probe, s", answers)
        _row(table, "memory of a holder's agent, MB: all that is mapped", resident)
        _row(table, "memory of a holder's agent, MB: what no other process shares", private)
    console.print(table)
    if not npm.available():
        console.print("node and npm are not here: starts are not measured")
    write("agent", results)
    return report(console, results)


def _measured(table: Table, goal: Goal, values: Sequence[float]) -> Result:
    _row(table, goal.name, values)
    return median_of(goal, values)


def _row(table: Table, figure: str, values: Sequence[float]) -> None:
    table.add_row(figure, *(f"{each:.2f}" for each in (statistics.median(values), min(values), max(values))))


def _starts() -> list[tuple[float, float, float, float, float]]:
    figures = []
    # Its only peer is itself.
    card = make_card(networkInfoUrl=f"https://{_HOST}:{NETWORK_INFO_PORT}{NETWORK_INFO_PATH}")
    credential: dict[str, str] = {"account_name": azurite.ACCOUNT, "account_key": azurite.KEY}
    for _ in range(_STARTS):
        with azurite.blob_service() as (url, _process):
            for name in ("leases", "network"):
                with ContainerClient(url, name, credential) as container:
                    container.create_container()
            started = time.monotonic()
            process = subprocess.Popen(  # noqa: S603
                [
                    sys.executable,
                    "-m",
                    "benchmarks.idle_agent",
                    url,
                    json.dumps(credential),
                    _HOST,
                    str(HEALTH_PORT),
                    str(NETWORK_INFO_PORT),
                    json.dumps(card),
                ],
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
            with urllib.request.urlopen(f"http://{_HOST}:{HEALTH_PORT}{HEALTH_PATH}", timeout=1) as answer:
                if json.load(answer)[key]:
                    return time.monotonic() - started
        except OSError:
            pass
        time.sleep(0.01)
    raise TimeoutError(f"the agent's health has no {key}")


def memory(pid: int) -> tuple[float, float, float]:
    """A process's memory in MB of 10^6 bytes: resident (RSS), proportional (PSS), and private."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines()[1:]
    megabytes = {line.split(":")[0]: int(line.split()[1]) * 1024 / 1e6 for line in lines}
    return megabytes["Rss"], megabytes["Pss"], megabytes["Private_Clean"] + megabytes["Private_Dirty"]


if __name__ == "__main__":
    sys.exit(main())
