"""Measures real Corda nodes of two banks on this machine: throughput, takeover time, memory and processors.

`python -m benchmarks.ledger`; fails where a goal is missed. RUNS is how often the banks are created from nothing
(default 3). A run takes about half an hour; the figures are valid only if the machine does nothing else.
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
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import track

from benchmarks.agent import memory
from benchmarks.goals import NODE_TAKEOVER, TAKEOVER, Goal, median_of, report, write_figures
from docs.blocks import table
from host.status import State
from lab.banks.bank import LabBank
from lab.banks.cordapp import Application
from lab.banks.process import NODE, VmProcess, processor_seconds, until, unwind_on_sigterm
from lab.banks.scenario import OURS, START_SECONDS, B, Scenario, Takeover, missing

_CALLERS = (1, 4, 8, 16, 32)
_BUSIEST = max(_CALLERS)
_FEW, _MANY = 2, 4
"""Identities of bank A that an application can call, in the two scenarios of a run."""
_ROUND_SECONDS, _WARM_UP_SECONDS, _STREAM_SECONDS = 20, 10, 90
_TAKEOVERS = 3
_SMALL = 10
"""Figures below it have a decimal."""
_IDLE_SECONDS, _SAMPLE_SECONDS = 30, 0.1
_DATABASES = "bank A's database", "bank B's database"
_ALL = "the whole machine"

Figures = dict[str, float]
Samples = dict[str, list[float]]


def measure(folder: Path) -> Samples:
    """The figures of one run: one sample each, of takeovers one for each of them.

    Args:
        folder: a new folder for the banks' files.

    Raises:
        RuntimeError: a record was lost or duplicated, so the figures are worthless.
    """
    with ExitStack() as stack:
        scenario, figures = _started(folder / "few", stack, _FEW)
        figures |= _throughput(scenario)
        figures |= _memory(scenario.a)
        figures |= _load(scenario)
        takeovers = _takeovers(scenario)
    with ExitStack() as stack:
        scenario, _ = _started(folder / "many", stack, _MANY)
        spread = scenario.application(scenario.a)
        _stream(scenario, spread, _BUSIEST, _WARM_UP_SECONDS)
        for callers in _CALLERS:
            figures |= _rates(callers, _spread_over(_MANY), _stream(scenario, spread, callers, _seconds(callers)))
    return {name: [value] for name, value in figures.items()} | takeovers


def _started(folder: Path, stack: ExitStack, identities: int) -> tuple[Scenario, Figures]:
    scenario = Scenario(folder, stack, identities=identities)
    scenario.prepare()
    start = time.monotonic()
    scenario.bring_up()
    ready = time.monotonic()
    scenario.await_members()
    return scenario, {
        "network from nothing to all nodes ready, s": ready - start,
        "and to every node knowing every other one, s": time.monotonic() - start,
    }


def _throughput(scenario: Scenario) -> Figures:
    """Throughput: directly to a node, and balanced over all nodes; and what the load balancer costs."""
    spread, balanced = scenario.application(scenario.a), scenario.application(scenario.a, OURS)
    holder = until(partial(scenario.a.holder, OURS), START_SECONDS, f"{OURS} is ready")
    straight = replace(balanced, node=f"{holder.host.address}:{balanced.node.split(':')[1]}")
    ways = {"straight to a node": straight, _spread_over(_FEW): spread}
    for application in (balanced, *ways.values()):
        _stream(scenario, application, _BUSIEST, _WARM_UP_SECONDS)
    figures: Figures = {}
    for callers in _CALLERS:
        summaries = {}
        # In a random order each time: later streams find more records, and warmer nodes.
        for way in random.sample(list(ways), len(ways)):
            summaries[way] = _stream(scenario, ways[way], callers, _seconds(callers))
        for way in ways:
            figures |= _rates(callers, way, summaries[way])
        direct, over = (summaries[way]["perMinute"] for way in ways)
        figures[f"{_who(callers)}: spread / straight"] = over / direct
        figures[_balancer_goal(callers).name] = _balancer_ratio(scenario, straight, balanced, callers)
    return figures


def _balancer_ratio(scenario: Scenario, straight: Application, balanced: Application, callers: int) -> float:
    """Two streams to one node at the same time, so that nothing but the way differs; each has half of the callers.

    For one caller each has one.
    """
    half = max(1, callers // 2)
    until(scenario.settled, START_SECONDS, "no flow is in flight")
    with ThreadPoolExecutor() as pool:
        one, other = (pool.submit(_answered, way, half, _seconds(_BUSIEST)) for way in (straight, balanced))
        return other.result()["perMinute"] / one.result()["perMinute"]


def _seconds(callers: int) -> int:
    """The duration of a stream: each of many callers gets few answers."""
    return _ROUND_SECONDS * (2 if callers > 8 else 1)


def _who(callers: int) -> str:
    return f"{callers} caller{'s' if callers > 1 else ''}"


def _balancer_goal(callers: int) -> Goal:
    name = f"{_who(callers)}: through the balancer / straight"
    return Goal(name, 0.95, "transactions a minute, the median of the runs", at_least=True)


def _spread_over(nodes: int) -> str:
    return f"spread over {nodes} nodes by the balancer"


def _rates(callers: int, way: str, summary: Mapping[str, float]) -> Figures:
    return {
        f"{_who(callers)}, {way}: transactions a minute": summary["perMinute"],
        f"{_who(callers)}, {way}: median answer, ms": summary["p50Millis"],
    }


def _stream(scenario: Scenario, application: Application, callers: int, seconds: int) -> dict[str, float]:
    """The summary of a stream of requests, which begins when the last stream's deliveries have ended."""
    until(scenario.settled, START_SECONDS, "no flow is in flight")
    return _answered(application, callers, seconds)


def _answered(application: Application, callers: int, seconds: int) -> dict[str, float]:
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


def _load(scenario: Scenario) -> Figures:
    """What a transaction costs, with the most callers; and the connections of bank A's database."""
    until(scenario.settled, START_SECONDS, "no flow is in flight")
    server, identities = scenario.a.server, len(scenario.a.identities)
    before = _processor_seconds(scenario)
    time.sleep(_IDLE_SECONDS)
    idle = {what: (now - before[what]) / _IDLE_SECONDS for what, now in _processor_seconds(scenario).items()}
    seen: list[tuple[int, int]] = []
    with ThreadPoolExecutor() as pool:
        before, start = _processor_seconds(scenario), time.monotonic()
        stream = pool.submit(_stream, scenario, scenario.application(scenario.a), _BUSIEST, _ROUND_SECONDS)
        while not stream.done():
            seen.append(server.sessions())
            time.sleep(_SAMPLE_SECONDS)
        until(scenario.settled, START_SECONDS, "no flow is in flight")
        seconds = time.monotonic() - start
        busy = {what: now - before[what] for what, now in _processor_seconds(scenario).items()}
    connections, used = zip(*seen, strict=True)
    transactions = stream.result()["committed"]
    return {
        "with the most callers: processors in use, %": 100 * busy[_ALL] / seconds / (os.cpu_count() or 1),
        **{
            f"a transaction, ms of a processor: {what}": 1000 * (busy[what] - idle[what] * seconds) / transactions
            for what in busy
        },
        "an idle identity, thousandths of a processor: its database": 1000 * idle[_DATABASES[0]] / identities,
        "database: connections of an identity, at most": max(connections) / identities,
        "database: of them in use, at most": max(used) / identities,
        "database: in use on average": statistics.mean(used) / identities,
    }


def _takeovers(scenario: Scenario) -> Samples:
    """Some takeovers, one after the other.

    Raises:
        RuntimeError: a record was lost or duplicated, so the figures are worthless.
    """
    bank, every = scenario.a, list[Takeover]()
    for _ in range(_TAKEOVERS):
        outcome, takeover = scenario.takeover(_STREAM_SECONDS)
        if not outcome.whole:
            raise RuntimeError(f"not all that was answered is there, once: {outcome}")
        every.append(takeover)
        (ended,) = (each for each in range(1, bank.plan.vms + 1) if bank.vm(each).process.poll() is not None)
        standby = bank.start_vm(ended)
        until(partial(_is_standby, standby), START_SECONDS, f"{standby.name} is a standby")
    return {
        "takeover: another VM has the lease, s": [each.leased for each in every],
        TAKEOVER.name: [each.ready for each in every],
        NODE_TAKEOVER.name: [each.ready - each.leased for each in every],
    }


def _is_standby(vm: VmProcess) -> bool:
    return bool(vm.health().get("state") == State.STANDBY)


def _processor_seconds(scenario: Scenario) -> Figures:
    """Processor time until now, by what has used it."""
    banks = scenario.a, scenario.b
    nodes = [pid for bank in banks for vm in bank.vms for pid in vm.running(NODE)]
    # proc_stat(5): user, nice, system, idle, iowait, irq, softirq.
    user, nice, system, _, _, irq, softirq = map(int, Path("/proc/stat").read_text().split()[1:8])
    return {
        _ALL: (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK"),
        "the nodes": sum(map(processor_seconds, nodes)),
        **{name: bank.server.processor_seconds() for name, bank in zip(_DATABASES, banks, strict=True)},
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
    goals = (TAKEOVER, NODE_TAKEOVER, *map(_balancer_goal, _CALLERS))
    samples = {figure: [value for run in runs for value in run[figure]] for figure in runs[0]}
    results = {goal.name: median_of(goal, samples[goal.name]) for goal in goals}
    rows = []
    for figure, values in samples.items():
        met = figure not in results or results[figure].is_met
        digits = 2 if " / " in figure else 1 if max(values) < _SMALL else 0
        middle, *ends = (f"{each:,.{digits}f}" for each in (statistics.median(values), min(values), max(values)))
        goal = f"{results[figure].goal.limit:g}" if figure in results else ""
        rows.append((figure, middle if met else f"**{middle}**", *ends, goal))
    made = f"{_machine()}; runs: {len(runs)}, takeovers: {len(runs) * _TAKEOVERS}."
    content = f"{made}\n\n{table(('Figure', 'Median', 'Least', 'Most', 'Goal'), rows)}"
    console.print("", content, sep="\n")
    write_figures("ledger", content)
    return report(console, list(results.values()))


def _machine() -> str:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores ({platform.machine()}), {total:.0f} GiB of memory"


if __name__ == "__main__":
    sys.exit(main())
