"""Compares a preview with that of a flat program, and a deployment's duration with that of its slowest resource.

`python -m benchmarks.deployment`, a part of `make bench`. All ratios are within one run.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from benchmarks.cases import BYTECODE
from benchmarks.flat import write_flat_program
from benchmarks.goals import DEPLOYMENT, PREVIEW_ON_ENGINE, WIDTH, Result, compare, report, write
from benchmarks.members import ACCOUNT
from lab import ROOT
from lab.azure.azure import OfflineAzure
from lab.azure.deployment import Deployment
from lab.azure.engine import Engine, find_cli
from lab.azure.program import PROJECT, read_configuration, run_program

_RUNS = 5
_MEDIUM = ROOT / "examples" / "three-banks" / "Pulumi.bank-a.yaml"
_SECONDS_A_MINUTE = 4.0
"""Seconds of simulation for each minute of Azure's creation time."""
# Typical creation times. Gateway: learn.microsoft.com/azure/vpn-gateway/tutorial-create-gateway-portal; the others
# have the order of magnitude that their services' documentation and users report.
_MINUTES = {
    "network:VirtualNetworkGateway": 30.0,
    "dbforpostgresql:Server": 15.0,
    "compute:VirtualMachineScaleSet": 3.0,
    "network:VirtualNetworkGatewayConnection": 1.0,
}
_OTHERS_MINUTES = 5 / 60


def azure_seconds(token: str) -> float:
    """The simulated creation time of a type, in seconds."""
    return _MINUTES.get(token, _OTHERS_MINUTES) * _SECONDS_A_MINUTE


def main() -> int:
    """Measure and print; returns the exit status: 1 if a goal is missed."""
    console = Console(emoji=False, highlight=False, width=None if sys.stdout.isatty() else WIDTH)
    results: list[Result] = []
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        if find_cli():
            table, result = _previews(root)
            console.print(table)
            results.append(result)
        else:
            console.print("no Pulumi CLI: previews on the engine were not measured")
        table, makespans = _makespan(root)
        console.print(table)
        results += makespans
    write("deployment", results)
    return report(console, results)


def _previews(root: Path) -> tuple[Table, Result]:
    """Warm previews of a medium bank without peers, in turn: of this program, the flat program, and an empty one."""
    bank = read_configuration(_MEDIUM).without_peers()
    run = run_program(bank, account=ACCOUNT)
    ours = Engine("ours", root, environment=BYTECODE)
    ours.prepare("bank", source=_MEDIUM, changes={f"{PROJECT}:peers": None})
    write_flat_program(run, root / "flat" / "project")
    programs: dict[str, Callable[[], Any]] = {
        "this program": lambda: ours.on_azure("bank", ["preview"]),
        "flat program": _generated(root / "flat"),
        "empty program": _generated(root / "empty"),
    }
    times: dict[str, list[float]] = {name: [] for name in programs}
    for turn in range(_RUNS + 1):
        for name, preview in programs.items():
            start = time.perf_counter()
            preview()
            if turn:
                times[name].append(time.perf_counter() - start)
    count = sum(each.custom for each in run.registrations.values())
    table = Table(
        title=f"Preview on the engine, a medium bank, {count} resources, {_RUNS} runs", title_justify="left"
    )
    for column in ("program", "median s", "min", "max"):
        table.add_column(column)
    for name, each in times.items():
        table.add_row(name, f"{statistics.median(each):.2f}", f"{min(each):.2f}", f"{max(each):.2f}")
    return table, compare(PREVIEW_ON_ENGINE, times["this program"], times["flat program"])


def _generated(folder: Path) -> Callable[[], Any]:
    """Create a project with its own engine, with an empty program unless one exists; returns its preview function."""
    engine = Engine(folder.name, folder.parent, environment=BYTECODE)
    engine.project.mkdir(parents=True, exist_ok=True)
    (engine.project / "__main__.py").touch()
    project = {"name": PROJECT, "runtime": {"name": "python", "options": _runtime_options()}}
    (engine.project / "Pulumi.yaml").write_text(yaml.safe_dump(project), encoding="utf-8")
    engine.run(["stack", "init", "bank", "--non-interactive"])
    document = yaml.safe_load((engine.project / "Pulumi.bank.yaml").read_text(encoding="utf-8"))
    document["config"] = {"azure-native:location": "swedencentral"}
    (engine.project / "Pulumi.bank.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    return lambda: engine.on_azure("bank", ["preview"])


def _runtime_options() -> Mapping[str, str]:
    return {"toolchain": "pip", "virtualenv": sys.prefix}


def _makespan(root: Path) -> tuple[Table, list[Result]]:
    """One deployment with simulated creation times, compared with its slowest resource."""
    longest = max(_MINUTES.values()) * _SECONDS_A_MINUTE
    table = Table(title=f"Deployment, a medium bank, a minute played in {_SECONDS_A_MINUTE} s", title_justify="left")
    for column in ("front", "makespan s", "longest resource s"):
        table.add_column(column)
    bank = read_configuration(_MEDIUM).without_peers()
    azure = OfflineAzure(seconds=azure_seconds)
    start = time.perf_counter()
    run_program(bank, deployment=Deployment(azure.account(ACCOUNT)))
    took = time.perf_counter() - start
    table.add_row("in-process", f"{took:.1f}", f"{longest:.1f}")
    results = [compare(DEPLOYMENT["in-process"], [took], [longest])]
    if find_cli():
        engine = Engine("makespan", root, azure_seconds=azure_seconds)
        engine.prepare("bank", source=_MEDIUM, changes={f"{PROJECT}:peers": None})
        start = time.perf_counter()
        engine.on_azure("bank", ["up", "--yes", "--skip-preview"])
        took = time.perf_counter() - start
        table.add_row("engine", f"{took:.1f}", f"{longest:.1f}")
        results.append(compare(DEPLOYMENT["engine"], [took], [longest]))
    return table, results


if __name__ == "__main__":
    sys.exit(main())
