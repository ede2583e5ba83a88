"""Real Corda nodes of two banks on this machine: how fast they commit, how soon they take over, what they take.

`python -m benchmarks.ledger`, with RUNS as often as the banks are brought up from nothing (default 3). A run takes
some 9 minutes; figures hold for a machine that does nothing else.
"""

import json
import os
import platform
import random
import shutil
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import track

from benchmarks.agent import memory
from local.bank import Bank
from local.cordapp import Application
from local.process import NODE, until
from local.scenario import OURS, START_SECONDS, B, Scenario, missing

CALLERS = {1: "1 caller", 4: "4 callers", 8: "8 callers"}
_ROUND_SECONDS, _WARM_UP_SECONDS, _STREAM_SECONDS = 20, 10, 90
_GOALS = {
    "takeover: node ready, s": "75",
    **{f"{who}: through the balancer / straight": "0.95" for who in CALLERS.values()},
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
    """Committed transactions: straight to a node, through bank A's balancer to the same, and spread over all."""
    spread, balanced = scenario.application(scenario.a), scenario.application(scenario.a, OURS)
    holder = until(partial(scenario.a.holder, OURS), START_SECONDS, f"{OURS} is ready")
    ways = {
        "straight to a node": replace(balanced, node=f"{holder.address}:{balanced.node.split(':')[1]}"),
        "through the balancer to it": balanced,
        "spread by the balancer": spread,
    }
    for application in ways.values():
        _stream(scenario, application, max(CALLERS), _WARM_UP_SECONDS)
    figures: Figures = {}
    for callers, who in CALLERS.items():
        told = {}
        # In another order each time: who comes later finds more records, and warmer nodes.
        for way in random.sample(list(ways), len(ways)):
            told[way] = _stream(scenario, ways[way], callers, _ROUND_SECONDS)
        for way in ways:
            figures[f"{who}, {way}: transactions a minute"] = told[way]["perMinute"]
            figures[f"{who}, {way}: median answer, ms"] = told[way]["p50Millis"]
        straight, through, over = (told[way]["perMinute"] for way in ways)
        figures[f"{who}: through the balancer / straight"] = through / straight
        figures[f"{who}: spread / straight"] = over / straight
    return figures


def _stream(scenario: Scenario, application: Application, callers: int, seconds: int) -> dict[str, float]:
    """What a stream told of itself; it begins when the deliveries of the last one have ended."""
    until(scenario.settled, START_SECONDS, "no flow is in flight")
    run = f"bench-{time.monotonic_ns()}"
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
