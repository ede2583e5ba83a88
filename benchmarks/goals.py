"""Goals: how much more than a flat program with the same resources this project may cost; and a run's results."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

WIDTH = 150
"""Columns of output to a file or a pipe."""


@dataclass(frozen=True)
class Goal:
    """The highest allowed ratio of two measurements of one run."""

    name: str
    ratio: float
    source: str
    """How the ratio is measured."""


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


@dataclass(frozen=True)
class Result:
    """A goal, and the ratio that this run measured."""

    goal: Goal
    ratio: float

    @property
    def is_met(self) -> bool:
        """Whether the goal is met by the ratio as printed, with two decimals."""
        return round(self.ratio, 2) <= self.goal.ratio

    def __str__(self) -> str:
        return f"{self.ratio:.2f} ({self.goal.ratio:.2f})"


def compare(goal: Goal, ours: Iterable[float], flat: Iterable[float]) -> Result:
    """The ratio of the smallest measurements: other load on the machine can only increase a time."""
    return Result(goal, min(ours) / min(flat))


def report(console: Console, results: Sequence[Result]) -> int:
    """Print the results; returns the exit status: 1 if a goal is missed."""
    table = Table(title="Goals", title_justify="left", title_style="bold")
    for column in ("ratio", "measured (goal)", "", "how"):
        table.add_column(column)
    for each in results:
        table.add_row(each.goal.name, str(each), "met" if each.is_met else "[red]missed[/]", each.goal.source)
    console.print(table)
    missed = [each for each in results if not each.is_met]
    for each in missed:
        console.print(f"[red]goal missed:[/] {each.goal.name}: {each}", soft_wrap=True)
    return 1 if missed else 0
