"""Faults while two banks share records: `python -m lab.banks.soak [SEED]`, for SOAK_SECONDS of the environment.

An application of bank A creates and updates records continuously. VMs of both banks are killed, drained, frozen and
cut off, nodes are killed, databases crash: a random history that follows from the seed. In the end each node must
have all records that were answered.
"""

import json
import math
import os
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from agent.lease import IdentityRecord
from host.status import State
from lab.banks.bank import LabBank
from lab.banks.faults import OF_A_BANK, Fault, Kind, Round, injected, kinds_at, rounds
from lab.banks.histories import Answered, breaches
from lab.banks.process import until, unwind_on_sigterm
from lab.banks.scenario import B, Scenario, missing

SOAK_SECONDS = 3600
"""Duration of a soak by default."""
RECOVERY_SECONDS = 900
"""The longest recovery after a round's last fault: a VM does not acquire an identity that it gave up for 300 s."""
WELL_SECONDS = 15
"""How long all must be healthy: an agent checks its node every 5 s, for up to 5 s, so it finds any fault by then."""
_SOAK_LOOK_SECONDS = 0.5
_CALLERS = 4


class BrokenError(Exception):
    """Something happened that must not happen; the message says what."""


class Stream:
    """The application's stream of requests, and its answers so far."""

    def __init__(self, process: "subprocess.Popen[str]", log: Path, seconds: float) -> None:
        """Read the answers of a client that has been started.

        Args:
            process: the client's process.
            log: the client's error output.
            seconds: how long the client sends requests.
        """
        self.answers: list[Answered] = []
        self.last = time.monotonic()
        self._process, self._log, self._end = process, log, self.last + seconds
        self._latest: dict[str, Any] = {}
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            printed, self.last = json.loads(line), time.monotonic()
            self._latest = printed
            if "person" in printed:
                # By this process's clock. One caller asks about each person, so a delayed line changes no order.
                began = self.last - printed["millis"] / 1000
                self.answers.append(Answered(printed["person"], printed["version"], began, self.last))

    def answered_since(self, moment: float) -> bool:
        """Whether a request was answered after `moment` (monotonic clock), or the stream is over."""
        return self.last > moment or time.monotonic() > self._end

    def check(self) -> None:
        """Check that the client still runs.

        Raises:
            BrokenError: the client ended too early.
        """
        if self._process.poll() is not None and time.monotonic() < self._end:
            raise BrokenError(self._end_of_client())

    def result(self, seconds: float) -> dict[str, Any]:
        """Wait for the client's end; returns its last document, the summary.

        Args:
            seconds: how long to wait after the client's last request.

        Raises:
            subprocess.TimeoutExpired: the client has not ended by then.
            BrokenError: the client printed no summary.
        """
        self._process.wait(max(0, self._end - time.monotonic()) + seconds)
        self._reading.join()
        if "digest" not in self._latest:
            raise BrokenError(self._end_of_client())
        return self._latest

    def _end_of_client(self) -> str:
        return f"the client ended with {self._process.returncode}: {self._log.read_text()[-1000:]}"


class Soak:
    """Injects faults into a scenario's banks, and checks their recovery."""

    def __init__(self, scenario: Scenario, stream: Stream) -> None:
        self.injected: Counter[Kind] = Counter()
        self.takeovers: list[float] = []
        """Seconds from each fault until the affected identity was ready on another VM, or again in a new epoch."""
        self._scenario, self._stream = scenario, stream
        self._banks = {bank.name: bank for bank in (scenario.a, scenario.b)}
        self._records: dict[tuple[str, str], IdentityRecord] = {}
        self._ready: dict[tuple[str, str], int] = {}
        """The newest epoch in which an identity's node was ready."""
        self._places: dict[tuple[str, str | None], list[int]] = {}
        """By bank and identity: the number of the VM with the ready node; for None: the numbers of the standbys."""
        self._hit: dict[tuple[str, str], float] = {}
        """By bank and identity: when a fault of this round affected it."""
        self._round = time.monotonic()
        """When this round began."""
        self._well = math.inf
        """Since when all identities are ready and all standbys idle."""

    def play(self, history: Round) -> None:
        """Inject the faults of a round, and wait until the banks have recovered.

        Raises:
            TimeoutError: the banks do not recover.
            BrokenError: see `look`.
        """
        until(self.look, RECOVERY_SECONDS, "all is well")
        self._hit, self._round = {}, time.monotonic()
        numbers = [
            0 if each.kind in OF_A_BANK else self._places[each.bank, each.identity].pop() for each in history.faults
        ]
        with ThreadPoolExecutor(len(numbers)) as pool:
            running = [pool.submit(self._inject, *each) for each in zip(history.faults, numbers, strict=True)]
            while not all(each.done() for each in running):
                self.look()
        for each in running:
            each.result()
        calm = time.monotonic()
        until(self.look, RECOVERY_SECONDS, "all is well again")
        until(lambda: self.look() and self._stream.answered_since(calm), RECOVERY_SECONDS, "requests are answered")
        took = max(0.0, self._well - calm)
        self._say(f"all is well again since {took:.1f} s after that; {len(self._stream.answers)} answers so far")
        rest = time.monotonic() + history.pause
        while time.monotonic() < rest:
            self.look()

    def _inject(self, fault: Fault, number: int) -> None:
        time.sleep(fault.after)
        bank = self._banks[fault.bank]
        what = f"{fault.kind}: {bank.vm(number).name if number else bank.name}"
        names = [each.name for each in bank.identities] if fault.kind in OF_A_BANK else [fault.identity or "standby"]
        self._say(f"{what}, {', '.join(names)}, for {fault.seconds:.0f} s")
        began = time.monotonic()
        for name in names:
            self._hit.setdefault((bank.name, name), began)
        with injected(fault.kind, bank, number):
            time.sleep(fault.seconds)
        self.injected[fault.kind] += 1
        self._say(f"{what}: ended after {time.monotonic() - began:.1f} s")

    def look(self) -> bool:
        """Record takeovers; returns whether for WELL_SECONDS all identities were ready and all standbys idle.

        Raises:
            BrokenError: the client has ended, two VMs have an identity ready in one epoch, or an identity's record is
                inconsistent.
        """
        time.sleep(_SOAK_LOOK_SECONDS)
        self._stream.check()
        well, self._places = True, {}
        for bank in self._banks.values():
            reports = [(number, bank.vm(number).health()) for number in range(1, bank.plan.vms + 1)]
            idle = [number for number, health in reports if health.get("state") == State.STANDBY]
            ready = _ready(bank.name, reports)
            self._places[bank.name, None] = idle
            well = well and len(idle) == bank.plan.standbys
            for identity in bank.identities:
                epoch = self._epoch(bank, identity.name)
                number = ready.get((identity.name, epoch))
                well = well and number is not None
                if number is not None:
                    self._places[bank.name, identity.name] = [number]
                    self._note(bank, identity.name, epoch, number)
        self._well = min(self._well, time.monotonic()) if well else math.inf
        return time.monotonic() >= self._well + WELL_SECONDS

    def _note(self, bank: LabBank, identity: str, epoch: int, number: int) -> None:
        key = bank.name, identity
        if epoch > self._ready.setdefault(key, epoch):
            self._ready[key] = epoch
            took = time.monotonic() - self._hit.get(key, self._round)
            self.takeovers.append(took)
            self._say(f"{bank.vm(number).name} has {identity} ready after {took:.1f} s, in epoch {epoch}")

    def _epoch(self, bank: LabBank, identity: str) -> int:
        """The identity's epoch; its record must continue the last one: no epoch is skipped, shared or lost."""
        record = bank.record(identity)
        before = self._records.get((bank.name, identity), record)
        known = {each.epoch: (each.vm, each.since) for each in before.history}
        now = {each.epoch: (each.vm, each.since) for each in record.history}
        first = min(now, default=1)
        if (
            record.epoch < before.epoch
            or [each.epoch for each in record.history] != list(range(first, record.epoch + 1))
            or any(now.get(epoch, tenure) != tenure for epoch, tenure in known.items())
        ):
            raise BrokenError(f"{bank.name} {identity}: {record}; wanted what goes on from {before}")
        self._records[bank.name, identity] = record
        return record.epoch

    def _say(self, what: str) -> None:
        self._scenario.say(what)


def _ready(bank: str, reports: Sequence[tuple[int, dict[str, Any]]]) -> dict[tuple[str, int], int]:
    """By identity and epoch: the number of the VM with a ready node, from the VMs' numbers and health reports."""
    ready: dict[tuple[str, int], int] = {}
    for number, each in reports:
        if each.get("node") == "ready":
            other = ready.setdefault((each["identity"], each["epoch"]), number)
            if other != number:
                both = f"VMs {other} and {number} in epoch {each['epoch']}"
                raise BrokenError(f"{bank} {each['identity']}: ready on {both}; wanted one")
    return ready


def soak(make: Callable[[ExitStack], Scenario], folder: Path, seed: int, seconds: int) -> bool:
    """Run a history; returns whether each node has exactly the answered records.

    Args:
        make: makes the banks, which the stack ends.
        folder: the folder for the application's log.
        seed: the history's seed.
        seconds: how long requests are sent and rounds begin.

    Raises:
        TimeoutError: the banks do not recover, or flows do not end.
        BrokenError: something else happened that must not happen.
    """
    with ExitStack() as stack:
        scenario = make(stack)
        scenario.start()
        log, run = folder / "stream.log", f"soak-{seed}"
        process = scenario.application(scenario.a).begin(
            "stream",
            log,
            run=run,
            callers=_CALLERS,
            seconds=seconds,
            with_=B,
            deadline=seconds + 2 * RECOVERY_SECONDS,
            each=True,
        )
        stack.callback(process.kill)
        began = time.monotonic()
        stream = Stream(process, log, seconds)
        playing = Soak(scenario, stream)
        plans = [scenario.a.plan, scenario.b.plan]
        for history in rounds(plans, seed):
            if time.monotonic() > began + seconds:
                break
            playing.play(history)
        summary = stream.result(RECOVERY_SECONDS)
        scenario.say(f"the stream has ended: {summary}")
        until(playing.look, RECOVERY_SECONDS, "all is well in the end")
        outcome, times = scenario.outcome(summary), sorted(playing.takeovers) or [0.0]
        if found := list(breaches(stream.answers)):
            raise BrokenError(f"of {len(stream.answers)} answers: {'; '.join(found[:20])}")
        print(
            f"{time.monotonic() - began:.0f} s with seed {seed}: "
            f"{', '.join(f'{kind} {playing.injected[kind]}' for kind in kinds_at(plans))}; {outcome}; "
            f"{len(playing.takeovers)} takeovers, in {statistics.median(times):.0f} s (median) to {times[-1]:.0f} s"
        )
        return outcome.whole


def main(
    arguments: list[str], environment: Mapping[str, str], make: Callable[[Path, ExitStack], Scenario] = Scenario
) -> int:
    """Run one history; returns the exit status.

    Args:
        arguments: the seed, or none.
        environment: may say SOAK_SECONDS.
        make: makes the banks in a folder, which the stack ends.
    """
    try:
        seed = int(arguments[0]) if arguments else secrets.randbelow(1_000_000)
    except ValueError:
        print(f"error: SEED={arguments[0]}; wanted a number", file=sys.stderr)
        return 1
    given = environment.get("SOAK_SECONDS", str(SOAK_SECONDS))
    if not given.isdecimal():
        print(f"error: SECONDS={given}; wanted a number", file=sys.stderr)
        return 1
    print(f"SEED={seed} SECONDS={given}", flush=True)
    if reason := missing():
        print(f"error: {reason}", file=sys.stderr)
        return 1
    unwind_on_sigterm()
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    try:
        whole = soak(partial(make, folder), folder, seed, int(given))
    except Exception:
        traceback.print_exc()
        whole = False
    if not whole:
        print(f"error: not whole; play it again with SEED={seed} SECONDS={given}; see {folder}", file=sys.stderr)
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
