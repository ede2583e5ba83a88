"""Real Corda nodes of two banks on this machine: how fast they commit, how soon they take over, what they take.

`python -m benchmarks.ledger`, with RUNS as often as the banks are brought up from nothing (default 3). A run takes
some 12 minutes; figures hold for a machine that does nothing else.
"""

import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from rich.progress import track

from benchmarks.agent import memory
from local.bank import Bank
from local.process import NODE
from local.scenario import OURS, B, Scenario, missing

CALLERS = (1, 4, 8)
_ROUNDS, _ROUND_SECONDS, _WARM_UP_SECONDS = 2, 30, 30
_STREAM_SECONDS = 120
_GOALS = {
    "takeover: node ready, s": "75",
    **{f"balancer / straight, {callers} callers": "0.95" for callers in CALLERS},
}

Figures = dict[str, float]


def measure(folder: Path) -> Figures:
    """The figures of one run, in a folder of its own.

    Raises:
        RuntimeError: something was lost or doubled; its figures are worth nothing.
    """
    with ExitStack() as stack:
        scenario = Scenario(folder, stack)
        scenario.prepare()
        start = time.monotonic()
        scenario.bring_up()
        ready = time.monotonic()
        scenario.acquaint(4)
        figures: Figures = {
            "network from nothing to all 4 nodes ready, s": ready - start,
            "and to every node knowing every other one, s": time.monotonic() - start,
        }
        figures |= _throughput(scenario)
        figures |= _memory(scenario.a)
        outcome, takeover = scenario.takeover(_STREAM_SECONDS)
        if not outcome.whole:
            raise RuntimeError(f"not all that was answered is there, once: {outcome}")
        return figures | {
            "takeover: another VM has the lease, s": takeover.leased,
            "takeover: node ready, s": takeover.ready,
            "takeover: the node's part, s": takeover.ready - takeover.leased,
        }


def _throughput(scenario: Scenario) -> Figures:
    """Committed transactions, through bank A's balancer and straight to one of its nodes, by turns."""
    ways = {"through the balancer": None, "straight to a node": OURS}
    for identity in ways.values():
        _stream(scenario, identity, max(CALLERS), _WARM_UP_SECONDS)
    figures: Figures = {}
    for callers in CALLERS:
        rates = defaultdict(list)
        for _ in range(_ROUNDS):
            for way, identity in ways.items():
                told = _stream(scenario, identity, callers, _ROUND_SECONDS)
                rates[way].append(told["perMinute"])
                figures[f"median answer {way}, {callers} callers, ms"] = told["p50Millis"]
        balanced, straight = (statistics.mean(rates[way]) for way in ways)
        figures[f"transactions a minute through the balancer, {callers} callers"] = balanced
        figures[f"transactions a minute straight to a node, {callers} callers"] = straight
        figures[f"balancer / straight, {callers} callers"] = balanced / straight
    return figures


def _stream(scenario: Scenario, identity: str | None, callers: int, seconds: int) -> dict[str, float]:
    run = f"bench-{time.monotonic_ns()}"
    application = scenario.application(scenario.a, identity)
    (told,) = application.ask("stream", run=run, callers=callers, seconds=seconds, with_=B)
    return told


def _memory(bank: Bank) -> Figures:
    """Megabytes, as the shares of all that processes map."""
    agents, nodes = [], []
    for vm in bank.vms:
        running = vm.running(NODE)
        nodes += [memory(pid)[1] for pid in running]
        if running:
            agents.append(memory(vm.process.pid)[1])
    return {"memory of a node, MB": statistics.mean(nodes), "memory of its agent, MB": statistics.mean(agents)}


def main() -> int:
    """Measure some runs and print a table in Markdown; returns the exit status."""
    console = Console(highlight=False, soft_wrap=True)
    if reason := missing():
        console.print(f"error: {reason}", style="red")
        return 1
    runs = []
    for _ in track(range(int(os.environ.get("RUNS", "3"))), "runs", console=Console(stderr=True)):
        folder = Path(tempfile.mkdtemp(prefix="banks-"))
        runs.append(measure(folder))
        console.print(json.dumps(runs[-1]))
        shutil.rmtree(folder)
    console.print(f"\n{_machine()}; {len(runs)} runs.\n")
    console.print("| Figure | Median | Least | Most | Goal |\n| --- | --- | --- | --- | --- |")
    for figure in runs[0]:
        values = [run[figure] for run in runs]
        spread = (statistics.median(values), min(values), max(values))
        digits = 2 if " / " in figure else 0
        told = " | ".join(f"{each:,.{digits}f}" for each in spread)
        console.print(f"| {figure} | {told} | {_GOALS.get(figure, '')} |")
    return 0


def _machine() -> str:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores ({platform.machine()}), {total:.0f} GiB of memory"


if __name__ == "__main__":
    sys.exit(main())
