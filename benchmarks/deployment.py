"""What engine and Azure's slowness add: a preview against a flat program's, a deployment against its longest part.

`python -m benchmarks.deployment`, a part of `make bench`. Ratios within one run; nothing is asserted.
"""

import json
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

from benchmarks.flat import flat_program
from benchmarks.members import ACCOUNT
from offline.azure import OfflineAzure
from offline.deployment import Deployment
from offline.engine import Engine, find_cli
from offline.program import PROJECT, ROOT, Run, read_configuration, run_program

_RUNS = 3
_MEDIUM = ROOT / "examples" / "three-banks" / "Pulumi.bank-a.yaml"
_SECONDS_A_MINUTE = 4.0
"""How long a minute of Azure's is played."""
# Typical creation times. Gateway: learn.microsoft.com/azure/vpn-gateway/tutorial-create-gateway-portal; the others
# are of the same order as what their services' documentation and users tell.
_MINUTES = {
    "network:VirtualNetworkGateway": 30.0,
    "dbforpostgresql:Server": 15.0,
    "compute:VirtualMachineScaleSet": 3.0,
    "network:VirtualNetworkGatewayConnection": 1.0,
}
_OTHERS_MINUTES = 5 / 60

_FLAT = """\
import importlib
import json
from pathlib import Path

import pulumi

for module, kind, name, inputs, protect in json.loads(Path("resources.json").read_text()):
    make = getattr(importlib.import_module(module), kind)
    make(name, opts=pulumi.ResourceOptions(protect=protect), **inputs)
"""


def azure_seconds(token: str) -> float:
    """How long the offline Azure takes to create a type, played."""
    return _MINUTES.get(token, _OTHERS_MINUTES) * _SECONDS_A_MINUTE


def main() -> None:
    """Measure and print."""
    console = Console(highlight=False)
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        if find_cli():
            console.print(_previews(root))
        else:
            console.print("no Pulumi CLI: previews on the engine were not measured")
        console.print(_makespan(root))


def _previews(root: Path) -> Table:
    """Warm previews of a medium bank without peers, in turn: ours, the flat program's, an empty one's."""
    bank = read_configuration(_MEDIUM).without_peers()
    run = run_program(bank, account=ACCOUNT)
    ours = Engine("ours", root)
    ours.prepare("bank", source=_MEDIUM, changes={f"{PROJECT}:peers": None})
    programs: dict[str, Callable[[], Any]] = {
        "this program": lambda: ours.on_azure("bank", ["preview"]),
        "flat program": _generated(root / "flat", _FLAT, run),
        "empty program": _generated(root / "empty", "", None),
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
    for column in ("program", "median s", "min", "max", "ratio to flat", "ratio to empty"):
        table.add_column(column)
    flat, empty = (statistics.median(times[name]) for name in ("flat program", "empty program"))
    for name, each in times.items():
        median = statistics.median(each)
        goal = " (goal 1.15)" if name == "this program" else ""
        table.add_row(
            name,
            f"{median:.2f}",
            f"{min(each):.2f}",
            f"{max(each):.2f}",
            f"{median / flat:.2f}{goal}",
            f"{median / empty:.2f}",
        )
    return table


def _generated(folder: Path, program: str, run: Run | None) -> Callable[[], Any]:
    """A project with this program in an engine of its own; returns what previews it."""
    engine = Engine(folder.name, folder.parent)
    engine.project.mkdir(parents=True)
    (engine.project / "__main__.py").write_text(program, encoding="utf-8")
    project = {"name": PROJECT, "runtime": {"name": "python", "options": _runtime_options()}}
    (engine.project / "Pulumi.yaml").write_text(yaml.safe_dump(project), encoding="utf-8")
    engine.run(["stack", "init", "bank", "--non-interactive"])
    if run is not None:
        (engine.project / "resources.json").write_text(json.dumps(_literals(run)), encoding="utf-8")
    document = yaml.safe_load((engine.project / "Pulumi.bank.yaml").read_text(encoding="utf-8"))
    document["config"] = {"azure-native:location": "westeurope"}
    (engine.project / "Pulumi.bank.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    return lambda: engine.on_azure("bank", ["preview"])


def _runtime_options() -> Mapping[str, str]:
    return {"toolchain": "pip", "virtualenv": sys.prefix}


def _literals(run: Run) -> list[tuple[str, str, str, Mapping[str, Any], bool]]:
    return [
        (each.make.__module__, each.make.__name__, each.name, each.inputs, each.protect)
        for wave in flat_program(run).waves
        for each in wave
    ]


def _makespan(root: Path) -> Table:
    """One deployment with Azure's creation times played, against the longest single resource."""
    longest = max(_MINUTES.values()) * _SECONDS_A_MINUTE
    table = Table(title=f"Deployment, a medium bank, a minute played in {_SECONDS_A_MINUTE} s", title_justify="left")
    for column in ("front", "makespan s", "longest resource s", "ratio (goal 1.10)"):
        table.add_column(column)
    bank = read_configuration(_MEDIUM).without_peers()
    azure = OfflineAzure(seconds=azure_seconds)
    start = time.perf_counter()
    run_program(bank, deployment=Deployment(azure.account(ACCOUNT)))
    took = time.perf_counter() - start
    table.add_row("in-process", f"{took:.1f}", f"{longest:.1f}", f"{took / longest:.2f}")
    if find_cli():
        engine = Engine("makespan", root, azure_seconds=azure_seconds)
        engine.prepare("bank", source=_MEDIUM, changes={f"{PROJECT}:peers": None})
        start = time.perf_counter()
        engine.on_azure("bank", ["up", "--yes", "--skip-preview"])
        took = time.perf_counter() - start
        table.add_row("engine", f"{took:.1f}", f"{longest:.1f}", f"{took / longest:.2f}")
    return table


if __name__ == "__main__":
    main()
