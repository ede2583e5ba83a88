"""Measures what this project adds to a plan's time and memory: `python -m benchmarks.planning [--quick]`.

Compare the figures of one run with each other, not with those of another run or machine.
"""

import argparse
import cProfile
import json
import os
import pstats
import re
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

from rich.console import Console
from rich.table import Table

from benchmarks.cases import BYTECODE, Case, case_with_peers, write_case
from benchmarks.goals import (
    FIRST_PLAN,
    FURTHER_PLAN,
    GROWTH,
    MEMORY,
    PREVIEW_IN_PROCESS,
    WIDTH,
    Result,
    compare,
    report,
    write,
)
from benchmarks.members import ACCOUNT, member_with_peers
from lab import ROOT
from lab.azure import rules
from lab.azure.program import StackConfiguration, read_configuration, run_program
from lab.azure.stacks import planned_references

_PAIRS = 5
"""The number of pairs of measured processes."""
_FURTHER = 3
"""The number of plans in a process after its first."""
_GROWTH_PEERS = 0, 10, 100
_BUILT_IN = "~"
"""The file name of a C function in cProfile's results."""
_OWN_FOLDERS = tuple(f"{ROOT / each}{os.sep}" for each in ("stack", "components", "contract", "delivery", "ledger"))
_SAMPLE = "prod"

LEGEND = """
[bold]program[/]   the whole program, settings and cards included
[bold]flat[/]      the same resources in one module, literal inputs, no components: what the SDK costs
[bold]own calls[/] calls of this project's functions, and of Python functions by them

Both run in separate processes, one after the other, under mocks whose time is subtracted. A ratio is that of
the smallest values. An import's own time excludes the modules that it imports.
"""


# The owner of an imported module, by the first part of its name; the project's own modules are found by their files.
_OWNERS = {
    "pulumi_azure_native": "azure-native",
    **dict.fromkeys("pulumi pulumi_random grpc google opentelemetry dill semver".split(), "pulumi, with grpc"),
    **dict.fromkeys("pydantic pydantic_core annotated_types typing_extensions typing_inspection".split(), "pydantic"),
    "cryptography": "cryptography",
}
_OWN, _REST = "this project", "Python"
_HARNESS = {"benchmarks", "docs", "lab", "tests"}
_IMPORT_LINE = re.compile(r"^import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class _Measured:
    """The measurements of one process: CPU seconds of its plans, and the first plan's peak memory in bytes."""

    seconds: list[float]
    bytes: int
    digests: dict[str, str]
    imports: str

    @property
    def further(self) -> float:
        return min(self.seconds[1:])


def _run(*command: str) -> tuple[str, str, float]:
    """Run a command that must succeed; returns its standard output, standard error and duration in seconds."""
    environment = {**os.environ, **BYTECODE}
    start = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
    seconds = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return done.stdout, done.stderr, seconds


def _plans(case: Case, program: Path, times: int, *options: str) -> _Measured:
    output, errors, _ = _run(
        sys.executable, *options, "-m", "benchmarks.one_plan", str(case.file), str(program), str(times)
    )
    return _Measured(**json.loads(output), imports=errors)


def _pair(case: Case, times: int = 1) -> tuple[_Measured, _Measured]:
    """Measure the program and the flat program, one after the other.

    Raises:
        RuntimeError: they do not register the same resources; the message names the different ones.
    """
    ours, flat = _plans(case, case.program, times), _plans(case, case.flat, times)
    if differing := sorted(key for key, _ in ours.digests.items() ^ flat.digests.items()):
        raise RuntimeError(f"the flat program registers other resources: {differing}")
    return ours, flat


def _imports(case: Case) -> Table:
    """The import times of one plan, by owner of the modules."""
    report = _plans(case, case.program, 1, "-X", "importtime").imports
    own = {path.stem for path in ROOT.iterdir() if path.suffix == ".py" or any(path.glob("*.py"))}
    owners = {**_OWNERS, **dict.fromkeys(own - _HARNESS, _OWN)}
    spent: dict[str, float] = defaultdict(float)
    for microseconds, module in _IMPORT_LINE.findall(report):
        spent[owners.get(module.split(".")[0], _REST)] += int(microseconds) / 1000
    table = _table("Imports of one plan", "modules of", "own time, ms", "share")
    for owner, several in sorted(spent.items(), key=lambda item: -item[1]):
        table.add_row(owner, f"{several:,.0f}", f"{several / sum(spent.values()):.0%}")
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    for place, column in enumerate(columns):
        table.add_column(column, justify="right" if place else "left")
    return table


def _spread(values: Iterable[float], digits: int = 0) -> str:
    several = sorted(values)
    return f"{median(several):,.{digits}f} [bright_black]({several[0]:,.{digits}f}-{several[-1]:,.{digits}f})[/]"


def measure(folder: Path, console: Console) -> list[Result]:
    """Measure and print; returns the ratios."""
    alone = case_with_peers(0, folder / "alone")
    # This also writes the bytecode, so it comes before the comparisons.
    console.print(_imports(alone), "")
    programs = list(zip(*(_pair(alone, 1 + _FURTHER) for _ in range(_PAIRS)), strict=True))
    table = _table("In separate processes", "what", "program", "flat")
    for name, figure, digits in (
        ("CPU of the first plan, s", lambda each: each.seconds[0], 2),
        ("CPU of a further plan, s", lambda each: each.further, 2),
        ("peak memory, MB", lambda each: each.bytes / 1e6, 0),
    ):
        table.add_row(name, *(_spread(map(figure, each), digits) for each in programs))
    console.print(table, "")
    ours, flat = _pair(case_with_peers(30, folder / "many"))
    return [
        compare(FIRST_PLAN, *([each.seconds[0] for each in several] for several in programs)),
        compare(FURTHER_PLAN, *([each.further for each in several] for several in programs)),
        compare(MEMORY[0], *([each.bytes for each in several] for several in programs)),
        compare(MEMORY[30], [ours.bytes], [flat.bytes]),
        _previews(folder, console),
    ]


def _previews(folder: Path, console: Console) -> Result:
    """Compare `make preview` without a CLI with a flat plan of the same stack."""
    configuration = read_configuration(ROOT / f"Pulumi.{_SAMPLE}.yaml")
    case = write_case(configuration, folder / _SAMPLE, planned_references(configuration))
    pairs = [
        (
            _run("make", "--silent", "preview", f"STACK={_SAMPLE} --without-engine")[2],
            _run(sys.executable, "-m", "benchmarks.one_plan", str(case.file), str(case.flat), "1")[2],
        )
        for _ in range(_PAIRS)
    ]
    table = _table(f"Start to end, s, {_SAMPLE}", "make preview", "flat plan")
    table.add_row(*(_spread(each, 1) for each in zip(*pairs, strict=True)))
    console.print(table, "")
    return compare(PREVIEW_IN_PROCESS, *zip(*pairs, strict=True))


def _growth(folder: Path, console: Console) -> Result:
    """The calls that each peer adds. Not the time, since the difference of two plans' times is within their noise."""
    calls = {peers: _own_calls(member_with_peers(peers, folder)) for peers in _GROWTH_PEERS}
    none, few, many = _GROWTH_PEERS
    slopes = {peers: (calls[peers] - calls[none]) / peers for peers in (few, many)}
    table = _table("What peers add", "peers", "own calls", "a peer")
    for peers, several in calls.items():
        table.add_row(str(peers), f"{several:,}", f"{slopes[peers]:,.0f}" if peers in slopes else "")
    console.print(table, "")
    return compare(GROWTH, [slopes[many]], [slopes[few]])


def _own_calls(configuration: StackConfiguration) -> int:
    """The number of calls of this project's functions, and of Python functions by them, in one plan."""
    with mock.patch.object(rules, "refuse_broken"), cProfile.Profile() as profile:
        run_program(configuration, account=ACCOUNT)
    # By function: calls, and calls by caller.
    functions: dict[tuple[str, int, str], Any] = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    own = {function for function in functions if function[0].startswith(_OWN_FOLDERS)}
    return sum(
        calls if function in own else sum(several[1] for caller, several in callers.items() if caller in own)
        for function, (_, calls, _, _, callers) in functions.items()
        if function[0] != _BUILT_IN
    )


def main(arguments: Sequence[str]) -> int:
    """Measure and print; returns the exit status: 1 if a goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.planning", description=__doc__)
    parser.add_argument(
        "--quick",
        action="store_true",
        help="only growth, which other load on the machine does not change",
    )
    quick: bool = parser.parse_args(arguments).quick
    console = Console(emoji=False, highlight=False, width=None if sys.stdout.isatty() else WIDTH)
    console.print(f"Python {sys.version.split()[0]}, {os.cpu_count()} CPUs", style="bright_black")
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        # The first plan of this process includes one-time work, so it is not counted.
        run_program(member_with_peers(0, folder), account=ACCOUNT)
        results = [_growth(folder, console), *([] if quick else measure(folder, console))]
    if not quick:
        write("planning", results)
    status = report(console, results)
    console.print(LEGEND.rstrip())
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
