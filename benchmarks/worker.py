"""Measures in a process of its own, and prints what it measured as JSON.

`python -m benchmarks.worker timings PEERS=ROUNDS,... PEERS,...` or `python -m benchmarks.worker plan PEERS`.
"""

import gc
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks.flat import FlatProgram, check_same, flat_program
from benchmarks.members import ACCOUNT, member_with_peers
from offline import rules
from offline.program import PROJECT, Run, StackConfiguration, run_program
from offline.recorder import Recorder
from settings import parse_settings

_PARSES = 20
_BYTES_OF_MAXRSS = 1 if sys.platform == "darwin" else 1024


class _Stopwatch:
    """CPU time of a run, but for Pulumi's mocks and the offline Azure: they are neither the program nor the SDK."""

    def __init__(self) -> None:
        self._inside: list[float] = []

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Every run inside is timed where it enters the mocks."""
        original = Recorder.RegisterResource

        def register(recorder: Recorder, request: Any) -> Any:
            start = time.thread_time()
            try:
                return original(recorder, request)
            finally:
                self._inside.append(time.thread_time() - start)

        with mock.patch.object(Recorder, "RegisterResource", register):
            yield

    def time(self, run: Callable[[], Run]) -> tuple[Run, float]:
        """What a run registered, and its milliseconds."""
        self._inside.clear()
        # A run collects no garbage: what the one before it left would be the next one's memory.
        gc.collect()
        start = time.process_time()
        done = run()
        return done, (time.process_time() - start - sum(self._inside)) * 1000


def timings(rounds: Mapping[int, int]) -> dict[str, Any]:
    """Samples in milliseconds of CPU time, by number of peers.

    Args:
        rounds: how often each number of peers is measured. A round has one sample of each number, so that a slow
            spell of the machine meets them all.
    """
    stopwatch = _Stopwatch()
    measured: dict[str, dict[str, Any]] = {str(count): {"samples": []} for count in rounds}
    flats: dict[int, FlatProgram] = {}
    with tempfile.TemporaryDirectory() as directory, stopwatch.installed():
        configurations = {count: member_with_peers(count, Path(directory)) for count in rounds}
        # The first run loads modules, and is not counted.
        run_program(configurations[min(rounds)], account=ACCOUNT)
        for place in range(max(rounds.values())):
            for count in (each for each in rounds if place < rounds[each]):
                configuration = configurations[count]
                plan_it = partial(run_program, configuration, account=ACCOUNT)
                run, program = stopwatch.time(plan_it)
                if count not in flats:
                    flats[count] = flat_program(run)
                flat_run, flat = stopwatch.time(partial(flats[count].run, configuration, ACCOUNT))
                check_same(run, flat_run)
                measured[str(count)]["resources"] = sum(each.custom for each in run.registrations.values())
                measured[str(count)]["samples"].append(
                    {"configuration": _parsing(configuration), "program": program, "flat": flat}
                )
    return measured


def _parsing(configuration: StackConfiguration) -> float:
    start = time.process_time()
    for _ in range(_PARSES):
        parse_settings(PROJECT, configuration.values)
    return (time.process_time() - start) * 1000 / _PARSES


def plan(peers: int) -> dict[str, Any]:
    """Peak memory of this process once it has planned one stack."""
    with tempfile.TemporaryDirectory() as directory:
        run_program(member_with_peers(peers, Path(directory)), account=ACCOUNT)
    return {"bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _BYTES_OF_MAXRSS}


def _refuse_nothing(*_: object) -> None:
    """Stand in for the offline Azure's rules."""


def main(arguments: list[str]) -> None:
    """Measure, and print."""
    # The peers' gateways are not in this Azure, and what it refuses is not what is measured.
    with mock.patch.object(rules, "refuse_broken", _refuse_nothing):
        match arguments:
            case ["timings", rounds]:
                pairs = (each.split("=") for each in rounds.split(","))
                measured = timings({int(count): int(often) for count, often in pairs})
            case ["plan", peers]:
                measured = plan(int(peers))
            case _:
                raise SystemExit(__doc__)
    print(json.dumps(measured))


if __name__ == "__main__":
    main(sys.argv[1:])
