"""Goals of the benchmarks, and the results of a run, which docs/figures.md lists."""

import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from contract.timing import LEASE
from docs.blocks import table, write_block
from lab import ROOT

FIGURES = ROOT / "docs" / "figures.md"
WIDTH = 150
"""Columns of output to a file or a pipe."""


@dataclass(frozen=True)
class Goal:
    """The limit of a figure: the most that is allowed, or the least."""

    name: str
    limit: float
    source: str
    """How the figure is measured."""
    at_least: bool = False
    """Whether the limit is the least."""


_PAIRS = "CPU time, the least of processes in turn"
PREVIEW_ON_ENGINE = Goal(
    "preview of a medium bank on the engine / flat",
    1.05,
    "warm previews in turn, start to end, the least of each",
)
FIRST_PLAN = Goal("first plan of a process, with imports / flat", 1.20, _PAIRS)
FURTHER_PLAN = Goal("further plan in the same process / flat", 1.50, f"{_PAIRS}; without garbage collection")
MEMORY = {
    0: Goal("peak memory, no peers / flat", 1.05, "the first plan's peak resident set"),
    30: Goal("peak memory, 30 peers / flat", 1.20, "the first plan's peak resident set"),
}
PREVIEW_IN_PROCESS = Goal(
    "make preview of prod without a CLI / flat plan", 1.25, "processes in turn, start to end, the least of each"
)
GROWTH = Goal("own calls for each peer, with 100 peers / with 10", 1.20, "counted by cProfile; 1.0 is linear")
DEPLOYMENT = {
    front: Goal(f"deployment, {front} / its longest resource", 1.10, "with simulated creation times")
    for front in ("in-process", "engine")
}


TAKEOVER_BY_AGENTS = Goal(
    f"lapse of the {LEASE.lease_seconds} s lease to takeover, s", 2, "simulated in virtual time, the median"
)
FIRST_LEASE = Goal("start of an agent to its first lease, s", 3, "on Azurite, the median")
AGENT_MEMORY = Goal("memory of a holder's agent, MB", 80, "its proportional set size, the median")
TAKEOVER = Goal("takeover: node ready, s", 55, "the median of the takeovers")
NODE_TAKEOVER = Goal("takeover: the node's part, s", 25, "the median of the takeovers")


@dataclass(frozen=True)
class Result:
    """A goal, and what was measured."""

    goal: Goal
    value: float
    spread: tuple[float, float]
    """The least and the most of one run, or of one pair of processes."""

    @property
    def is_met(self) -> bool:
        """Whether the goal is met by the value as printed, with two decimals."""
        printed = round(self.value, 2)
        return printed >= self.goal.limit if self.goal.at_least else printed <= self.goal.limit

    def __str__(self) -> str:
        return f"{self.value:.2f} ({self.goal.limit:.2f})"


def median_of(goal: Goal, values: Sequence[float]) -> Result:
    """The median of several measurements."""
    return Result(goal, statistics.median(values), (min(values), max(values)))


def compare(goal: Goal, ours: Sequence[float], flat: Sequence[float]) -> Result:
    """The ratio of the smallest measurements: other load on the machine can only increase a time."""
    ratios = [one / other for one, other in zip(ours, flat, strict=True)]
    return Result(goal, min(ours) / min(flat), (min(ratios), max(ratios)))


def report(console: Console, results: Sequence[Result]) -> int:
    """Print the results; returns the exit status: 1 if a goal is missed."""
    rows = Table(title="Goals", title_justify="left", title_style="bold")
    for column in ("figure", "measured (goal)", "", "how"):
        rows.add_column(column)
    for each in results:
        rows.add_row(each.goal.name, str(each), "met" if each.is_met else "[red]missed[/]", each.goal.source)
    console.print(rows)
    missed = [each for each in results if not each.is_met]
    for each in missed:
        console.print(f"[red]goal missed:[/] {each.goal.name}: {each}", soft_wrap=True)
    return 1 if missed else 0


def write(block: str, results: Sequence[Result]) -> None:
    """Write the results into a block of docs/figures.md if the variable WRITE is set."""
    rows = [
        (
            each.goal.name,
            f"{each.goal.limit:.2f}",
            f"{each.value:.2f}" if each.is_met else f"**{each.value:.2f}**",
            *(f"{end:.2f}" for end in each.spread),
        )
        for each in results
    ]
    write_figures(block, table(("Figure", "Goal", "Measured", "Least", "Most"), rows))


def write_figures(block: str, content: str) -> None:
    """Write a block of docs/figures.md if the variable WRITE is set."""
    if os.environ.get("WRITE"):
        write_block(FIGURES, block, content)
