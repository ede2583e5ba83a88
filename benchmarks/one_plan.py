"""Plans in a separate process: `python -m benchmarks.one_plan CASE PROGRAM TIMES` prints their cost as JSON.

It imports only Python and the SDK, so that each program's imports are measured. Azure's answers are those
of an earlier run; the mocks' own time is subtracted.
"""

import asyncio
import gc
import hashlib
import json
import logging
import os
import resource
import runpy
import sys
import time
from contextvars import copy_context
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

from pulumi.runtime import settings
from pulumi.runtime.config import set_all_config
from pulumi.runtime.mocks import MockCallArgs, MockMonitor, MockResourceArgs, Mocks, set_mocks
from pulumi.runtime.stack import run_in_stack

_STACK = "pulumi:pulumi:Stack"
_READ_STACK = "pulumi:pulumi:readStackOutputs"
_STATUS = Path("/proc/self/status")


class _Answers(Mocks):
    """Answers with the ids and outputs of an earlier run."""

    def __init__(self, case: dict[str, Any]) -> None:
        self._resources, self._calls, self._stacks = case["resources"], case["calls"], case["stacks"]

    def new_resource(self, args: MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        if not args.custom:
            return "", args.inputs
        identity, outputs = self._resources[f"{args.typ} {args.name}"]
        return identity, {**args.inputs, **outputs}

    def call(self, args: MockCallArgs) -> tuple[dict[Any, Any], list[tuple[str, str]]]:
        if args.token == _READ_STACK:
            return {"name": args.args["name"], "outputs": self._stacks[args.args["name"]]}, []
        return self._calls[args.token], []


class _Monitor(MockMonitor):
    """Records the registrations, and the seconds that the answers took."""

    def __init__(self, mocks: Mocks) -> None:
        super().__init__(mocks)
        self.requests: list[Any] = []
        self.seconds: list[float] = []

    def RegisterResource(self, request: Any) -> Any:  # noqa: N802
        start = time.thread_time()
        try:
            self.requests.append(request)
            return super().RegisterResource(request)  # type: ignore[no-untyped-call]
        finally:
            self.seconds.append(time.thread_time() - start)

    @property
    def digests(self) -> dict[str, str]:
        """A SHA-256 of each resource's inputs, by type and name."""
        return {
            f"{each.type} {each.name}": hashlib.sha256(each.object.SerializeToString(deterministic=True)).hexdigest()
            for each in self.requests
            if each.custom
        }


def _run_path(path: Path) -> None:
    runpy.run_path(str(path), run_name="__main__")


def _plan(program: Path, case: dict[str, Any]) -> _Monitor:
    """Run a program once."""
    monitor = _Monitor(_Answers(case))
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    set_all_config(case["configuration"], case["secretKeys"])
    settings.set_root_resource(object())  # type: ignore[arg-type]  # otherwise set_mocks creates a stack
    set_mocks(
        monitor.mocks, case["project"], case["stack"], False, logging.Logger("program"), monitor, "organization"
    )
    settings.set_root_resource(None)  # type: ignore[arg-type]
    # The SDK computes a URN for each alias of older API versions, and needs none of them: that takes two thirds of
    # the time, is the same for both programs, and would hide their difference.
    with patch("pulumi.resource.collapse_alias_to_urn"):
        loop.run_until_complete(run_in_stack(partial(_run_path, program)))
    loop.run_until_complete(loop.shutdown_default_executor())
    settings.SETTINGS.outputs.clear()
    return monitor


def _peak_bytes() -> int:
    """Peak of this process's resident set."""
    if sys.platform == "darwin":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux's ru_maxrss starts with the value of the parent process.
    line = next(each for each in _STATUS.read_text(encoding="utf-8").splitlines() if each.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def main(case_file: str, program: str, times: str) -> None:
    """Plan `times` times, and print seconds, peak memory in bytes, and digests of the resources."""
    case = json.loads(Path(case_file).read_text(encoding="utf-8"))
    spent, digests = [], {}
    for place in range(int(times)):
        # The first plan includes the start of the process, and collects garbage as on the engine.
        start = 0.0
        if place:
            gc.collect()
            gc.disable()
            start = time.process_time()
        monitor = copy_context().run(_plan, Path(program), case)
        spent.append(time.process_time() - start - sum(monitor.seconds))
        if not place:
            peak = _peak_bytes()
            digests = monitor.digests
    print(json.dumps({"seconds": spent, "bytes": peak, "digests": digests}), flush=True)
    # Skips Python's clean-up at exit.
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
