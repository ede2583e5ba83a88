"""Where the time and the memory of a plan go: `python -m benchmarks.planning [--quick]`.

Every figure is of this run on this machine: compare them with each other, not with those of another run.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
MEMORY_PEERS = 30
WIDTH = 118

_STEPS = {"configuration": 1, "program": 0, "flat": 0}
"""What the worker times, and the decimals that are worth printing."""
_IN_PROCESS = "--without-engine"
_FEWEST_PEERS = 10
"""What fewer peers add is less than what two plans differ by."""

OWN_GOAL_MS, MEMORY_GOAL_MB, PREVIEW_GOAL_S = 20, 250, 15

LEGEND = f"""
Plans are run in one process under Pulumi's mocks; what the mocks and the offline Azure take is left out, and so is
Python's garbage collector, which charges a resource with the garbage of others. A figure is the median, followed by
the lowest and the highest.

[bold]program[/]          the whole program, settings and cards included
[bold]flat[/]             the very same resources in one module, literal inputs, no components: what the SDK costs
[bold]own[/]              program - flat: what this project adds
[bold]own per peer[/]     (own with n peers - own without) / n; goal: under {OWN_GOAL_MS} ms
[bold]all per peer[/]     (program with n peers - program without) / n
[bold]growth[/]           all per peer, over the same of the first row: 1.0 is linear

An import's own time is without what it imports in turn. azure-native loads a class once it is first used.
"""


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    rounds: dict[int, int]
    """How often each number of peers is."""
    fresh: int
    """How often each thing is that wants a process of its own."""
    memory: tuple[int, ...]
    """Numbers of peers whose peak memory is."""
    previews: tuple[str, ...]
    """What `make preview` is told."""


FULL = Plan(
    rounds={0: 4, 1: 2, 10: 4, 30: 3, 100: 2},
    fresh=2,
    memory=(0, MEMORY_PEERS),
    previews=("prod", f"prod {_IN_PROCESS}"),
)
QUICK = Plan(rounds={0: 2, 30: 2}, fresh=1, memory=(0,), previews=(f"dev {_IN_PROCESS}",))

# What an imported module belongs to, by its first name; the project's own are found by their files.
_OWNERS = {
    "pulumi_azure_native": "azure-native",
    **dict.fromkeys("pulumi pulumi_random grpc google opentelemetry dill semver".split(), "pulumi, with grpc"),
    **dict.fromkeys("pydantic pydantic_core annotated_types typing_extensions typing_inspection".split(), "pydantic"),
    "cryptography": "cryptography",
}
_OWN, _REST = "this project", "Python, and what runs the plan"
_HARNESS = {"benchmarks", "offline", "tests", "docs"}
_IMPORT_LINE = re.compile(r"^import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)$", re.MULTILINE)


def _run(*command: str) -> tuple[str, str, float]:
    """Standard output, standard error and seconds of a command that must succeed."""
    start = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603
    seconds = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return done.stdout, done.stderr, seconds


def _worker(*arguments: str, options: Sequence[str] = ()) -> tuple[dict[str, Any], str]:
    output, errors, _ = _run(sys.executable, *options, "-m", "benchmarks.worker", *arguments)
    measured: dict[str, Any] = json.loads(output.splitlines()[-1])
    return measured, errors


def _imports(report: str) -> dict[str, float]:
    """Milliseconds by owner, from what `python -X importtime` says."""
    own = {path.stem for path in ROOT.iterdir() if path.suffix == ".py" or any(path.glob("*.py"))}
    owners = {**_OWNERS, **dict.fromkeys(own - _HARNESS, _OWN)}
    spent: dict[str, float] = defaultdict(float)
    for microseconds, module in _IMPORT_LINE.findall(report):
        spent[owners.get(module.split(".")[0], _REST)] += int(microseconds) / 1000
    return spent


def _spread(values: Iterable[float], digits: int = 0) -> str:
    several = sorted(values)
    middle = f"{median(several):,.{digits}f}"
    if len(several) == 1:
        return middle
    return f"{middle} [bright_black]({several[0]:,.{digits}f}-{several[-1]:,.{digits}f})[/]"


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    for place, column in enumerate(columns):
        table.add_column(column, justify="right" if place else "left")
    return table


def fresh_processes(plan: Plan) -> Iterable[Table]:
    """What wants a process of its own: imports, peak memory, `make preview`."""
    imports: dict[str, list[float]] = defaultdict(list)
    memory: dict[int, list[float]] = defaultdict(list)
    previews: dict[str, list[float]] = defaultdict(list)
    for _ in range(plan.fresh):
        for peers in plan.memory:
            options = ["-X", "importtime"] if peers == 0 else []
            measured, report = _worker("plan", str(peers), options=options)
            memory[peers].append(measured["bytes"] / 1e6)
            for owner, spent in _imports(report).items():
                imports[owner].append(spent)
        for stack in plan.previews:
            previews[stack].append(_run("make", "--silent", "preview", f"STACK={stack}")[2])

    table = _table("Imports of one plan", "modules of", "own time, ms", "share")
    total = sum(median(spent) for spent in imports.values())
    for owner, several in sorted(imports.items(), key=lambda item: -median(item[1])):
        table.add_row(owner, _spread(several), f"{median(several) / total:.0%}")
    table.add_row("all", f"{total:,.0f}", "", style="bold")
    yield table

    table = _table("In a process of its own", "what", "measured", "goal")
    for peers, peaks in memory.items():
        table.add_row(f"peak memory of one plan, {peers} peers, MB", _spread(peaks), f"under {MEMORY_GOAL_MB}")
    for stack, seconds in previews.items():
        table.add_row(f"make preview of {stack}, s", _spread(seconds, 1), f"under {PREVIEW_GOAL_S}")
    yield table


def in_one_process(plan: Plan) -> Iterable[Table]:
    """Configuration and registration by number of peers."""
    rounds = ",".join(f"{count}={often}" for count, often in plan.rounds.items())
    measured, _ = _worker("timings", rounds)
    table = _table("Plans in one process, ms of CPU time", "peers", "resources", *_STEPS)
    for count, of_count in measured.items():
        samples = of_count["samples"]
        steps = [_spread((each[step] for each in samples), digits) for step, digits in _STEPS.items()]
        table.add_row(count, str(of_count["resources"]), *steps)
    yield table

    title = f"What peers add, ms of CPU time (goal: own per peer under {OWN_GOAL_MS})"
    table = _table(title, "peers", "own", "own per peer", "all per peer", "growth")
    base = measured["0"]["samples"]
    linear = 0.0
    for count, of_count in measured.items():
        samples, peers = of_count["samples"], int(count)
        if peers < _FEWEST_PEERS:
            continue
        # Each round against the plan without peers that it stood beside.
        pairs = list(zip(samples, base, strict=False))
        own_slopes = [(_own(each) - _own(zero)) / peers for each, zero in pairs]
        slopes = [(each["program"] - zero["program"]) / peers for each, zero in pairs]
        linear = linear or median(slopes)
        own = _spread(_own(each) for each in samples)
        table.add_row(count, own, _spread(own_slopes, 1), _spread(slopes, 1), f"{median(slopes) / linear:.1f}")
    yield table


def _own(sample: Mapping[str, float]) -> float:
    return sample["program"] - sample["flat"]


def main(arguments: Sequence[str]) -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.planning", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer figures: about 20 s instead of 3 min")
    plan = QUICK if parser.parse_args(arguments).quick else FULL
    console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)
    console.print(f"Python {sys.version.split()[0]}, {os.cpu_count()} CPUs", style="bright_black")
    for table in chain(fresh_processes(plan), in_one_process(plan)):
        console.print(table, "")
    console.print(LEGEND.rstrip())


if __name__ == "__main__":
    main(sys.argv[1:])
