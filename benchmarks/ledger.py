"""Measures real Corda nodes of two banks on this machine: throughput, takeover time, memory and database load.

`python -m benchmarks.ledger`; RUNS is how often the banks are created from nothing (default 3). A run takes about 9
minutes; the figures are valid only if the machine does nothing else.
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
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import track

from benchmarks.agent import memory
from lab.banks.bank import LabBank
from lab.banks.cordapp import Application
from lab.banks.process import NODE, until, unwind_on_sigterm
from lab.banks.scenario import OURS, START_SECONDS, B, Scenario, missing

CALLERS = {1: "1 caller", 4: "4 callers", 8: "8 callers"}
_ROUND_SECONDS, _WARM_UP_SECONDS, _STREAM_SECONDS = 20, 10, 90
_IDLE_SECONDS, _SAMPLE_SECONDS = 30, 0.1
_GOALS = {
    "takeover: node ready, s": "75",
    **{f"{who}: through the balancer / straight": "0.95" for who in CALLERS.values()},
}

Figures = dict[str, float]


def measure(folder: Path) -> Figures:
    """The figures of one run.

    Args:
        folder: a new folder for the banks' files.

    Raises:
        RuntimeError: a record was lost or duplicated, so the figures are worthless.
    """
    with ExitStack() as stack:
        scenario = Scenario(folder, stack)
        scenario.prepare()
        start = time.monotonic()
        scenario.bring_up()
        ready = time.monotonic()
        scenario.await_members(4)
        figures: Figures = {
            "network from nothing to all 4 nodes ready, s": ready - start,
            "and to every node knowing every other one, s": time.monotonic() - start,
        }
        figures |= _throughput(scenario)
        figures |= _memory(scenario.a)
        figures |= _database(scenario)
        outcome, takeover = scenario.takeover(_STREAM_SECONDS)
        if not outcome.whole:
            raise RuntimeError(f"not all that was answered is there, once: {outcome}")
        return figures | {
            "takeover: another VM has the lease, s": takeover.leased,
            "takeover: node ready, s": takeover.ready,
            "takeover: the node's part, s": takeover.ready - takeover.leased,
        }


def _throughput(scenario: Scenario) -> Figures:
    """Throughput: directly to a node, through bank A's load balancer to that node, and balanced over all nodes."""
    spread, balanced = scenario.application(scenario.a), scenario.application(scenario.a, OURS)
    holder = until(partial(scenario.a.holder, OURS), START_SECONDS, f"{OURS} is ready")
    ways = {
        "straight to a node": replace(balanced, node=f"{holder.host.address}:{balanced.node.split(':')[1]}"),
        "through the balancer to it": balanced,
        "spread by the balancer": spread,
    }
    for application in ways.values():
        _stream(scenario, application, max(CALLERS), _WARM_UP_SECONDS)
    figures: Figures = {}
    for callers, who in CALLERS.items():
        summaries = {}
        # In a random order each time: later streams find more records, and warmer nodes.
        for way in random.sample(list(ways), len(ways)):
            summaries[way] = _stream(scenario, ways[way], callers, _ROUND_SECONDS)
        for way in ways:
            figures[f"{who}, {way}: transactions a minute"] = summaries[way]["perMinute"]
            figures[f"{who}, {way}: median answer, ms"] = summaries[way]["p50Millis"]
        straight, through, over = (summaries[way]["perMinute"] for way in ways)
        figures[f"{who}: through the balancer / straight"] = through / straight
        figures[f"{who}: spread / straight"] = over / straight
    return figures


def _stream(scenario: Scenario, application: Application, callers: int, seconds: int) -> dict[str, float]:
    """The summary of a stream of requests, which begins when the last stream's deliveries have ended."""
    until(scenario.settled, START_SECONDS, "no flow is in flight")
    run = f"bench-{time.monotonic_ns()}"
    (summary,) = application.ask("stream", run=run, callers=callers, seconds=seconds, with_=B)
    return summary


def _memory(bank: LabBank) -> Figures:
    """Mean memory of a node and of its agent, in megabytes (PSS)."""
    agents, nodes = [], []
    for vm in bank.vms:
        running = vm.running(NODE)
        nodes += [memory(pid)[1] for pid in running]
        if running:
            agents.append(memory(vm.process.pid)[1])
    return {"memory of a node, MB": statistics.mean(nodes), "memory of its agent, MB": statistics.mean(agents)}


def _database(scenario: Scenario) -> Figures:
    """Processor time and connections of bank A's database for each identity."""
    until(scenario.settled, START_SECONDS, "no flow is in flight")
    server, identities = scenario.a.server, len(scenario.a.identities)
    before = server.processor_seconds()
    time.sleep(_IDLE_SECONDS)
    idle = (server.processor_seconds() - before) / _IDLE_SECONDS
    seen: list[tuple[int, int]] = []
    with ThreadPoolExecutor() as pool:
        before, start = server.processor_seconds(), time.monotonic()
        stream = pool.submit(_stream, scenario, scenario.application(scenario.a), max(CALLERS), _ROUND_SECONDS)
        while not stream.done():
            seen.append(server.sessions())
            time.sleep(_SAMPLE_SECONDS)
        until(scenario.settled, START_SECONDS, "no flow is in flight")
        took = server.processor_seconds() - before - idle * (time.monotonic() - start)
    connections, used = zip(*seen, strict=True)
    return {
        "database: an idle identity, thousandths of a processor": 1000 * idle / identities,
        "database: a transaction at an identity, ms of a processor": 1000
        * took
        / stream.result()["committed"]
        / identities,
        "database: connections of an identity, at most": max(connections) / identities,
        "database: of them in use, at most": max(used) / identities,
        "database: in use on average": statistics.mean(used) / identities,
    }


def main() -> int:
    """Measure some runs and print a table in Markdown; returns the exit status."""
    console = Console(emoji=False, highlight=False, soft_wrap=True)
    if reason := missing():
        console.print(f"error: {reason}", style="red")
        return 1
    unwind_on_sigterm()
    runs = []
    for _ in track(range(int(os.environ.get("RUNS", "3"))), "runs", console=Console(emoji=False, stderr=True)):
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
        cells = " | ".join(f"{each:,.{digits}f}" for each in spread)
        console.print(f"| {figure} | {cells} | {_GOALS.get(figure, '')} |")
    return 0


def _machine() -> str:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores ({platform.machine()}), {total:.0f} GiB of memory"


if __name__ == "__main__":
    sys.exit(main())
