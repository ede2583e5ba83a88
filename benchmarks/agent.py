"""Measures a node VM's agent: time to a takeover, time to its first lease, and memory.

`python -m benchmarks.agent`. Takeovers are simulated in virtual time; the rest is measured on real
processes against Azurite, if node and npm are installed.
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

from contract.timing import LEASE
from lab.banks import azurite, npm
from lab.simulation import play, power_loss

_HISTORIES = 300
_STARTS = 5
_HOST, _PORT = "127.0.2.1", 8080
_INFO_PORT = 8443
_FRESH = 15
"""Seconds until memory is measured: by then the agent serves its document and has asked its peers."""


def main() -> None:
    """Print all figures."""
    console = Console(emoji=False, highlight=False)
    # Otherwise each outage of the simulation would print a line.
    logging.disable()
    waits = sorted(wait for seed in range(_HISTORIES) for wait in play(seed, trouble=power_loss).takeovers)
    table = Table(title="A node VM's agent", title_justify="left")
    for column in ("figure", "median", "min", "max", "goal"):
        table.add_column(column)
    _row(table, f"lapse of the {LEASE.lease_seconds} s lease to takeover, s, {len(waits)} simulated", waits, "2")
    if npm.available():
        answers, leases, resident, proportional, private = zip(*_starts(), strict=True)
        _row(table, "start to first answer to a probe, s", answers, "")
        _row(table, "start to lease, s", leases, "3")
        _row(
            table, f"memory of a holder's agent after {_FRESH} s, MB: its share of what is mapped", proportional, "80"
        )
        _row(table, f"memory of a holder's agent after {_FRESH} s, MB: all that is mapped", resident, "")
        _row(table, f"memory of a holder's agent after {_FRESH} s, MB: its own, shared with no process", private, "")
    console.print(table)
    if not npm.available():
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
                [
                    sys.executable,
                    "-m",
                    "benchmarks.idle_agent",
                    url,
                    json.dumps(credential),
                    _HOST,
                    str(_PORT),
                    str(_INFO_PORT),
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
            with urllib.request.urlopen(f"http://{_HOST}:{_PORT}/health", timeout=1) as answer:
                if json.load(answer)[key]:
                    return time.monotonic() - started
        except OSError:
            pass
        time.sleep(0.01)
    raise TimeoutError(f"the agent's health has no {key}")


def memory(pid: int) -> tuple[float, float, float]:
    """A process's memory in mebibytes: resident (RSS), proportional (PSS), and private."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines()[1:]
    kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    private = kilobytes["Private_Clean"] + kilobytes["Private_Dirty"]
    return kilobytes["Rss"] / 1024, kilobytes["Pss"] / 1024, private / 1024


if __name__ == "__main__":
    main()
