"""An hour of faults while two banks share records: `python -m local.soak [SEED]`, for SECONDS of the environment.

An application of bank A's creates and updates records all the time. VMs of both banks are killed, drained, frozen and
cut off, nodes killed, databases crashed: a history that the seed makes. In the end each node has what was answered.
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
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from agent.lease import Record
from agent.status import State
from local.bank import Bank
from local.faults import OF_A_BANK, Fault, Kind, Round, rounds, suffered
from local.process import until
from local.scenario import B, Scenario, missing

SECONDS = 3600
RECOVERY_SECONDS = 900
"""After the last fault of a round all is well again within that: a VM leaves what it gave up alone for 300 s."""
WELL_SECONDS = 15
"""An agent looks every 5 s at its node, for 5 s: by then it has noticed what is wrong."""
_LOOK_SECONDS = 0.5
_CALLERS = 4


class BrokenError(Exception):
    """What must not happen; the message says what did."""


class Stream:
    """The application's requests, and what has come of them so far."""

    def __init__(self, process: "subprocess.Popen[str]", log: Path, seconds: float) -> None:
        """Follow a stream that has begun.

        Args:
            process: the client's.
            log: what it says besides its answers.
            seconds: how long it makes requests.
        """
        self.answers, self.last = 0, time.monotonic()
        self._process, self._log, self._end = process, log, self.last + seconds
        self._told: dict[str, Any] = {}
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self._told, self.last = json.loads(line), time.monotonic()
            self.answers += "person" in self._told

    def answered_since(self, moment: float) -> bool:
        """Whether a request was answered since then, or none is made any more."""
        return self.last > moment or time.monotonic() > self._end

    def check(self) -> None:
        """Raises BrokenError: the client has ended before its time."""
        if self._process.poll() is not None and time.monotonic() < self._end:
            raise BrokenError(self._end_of_client())

    def result(self, seconds: float) -> dict[str, Any]:
        """What it told when it ended; waits for that.

        Raises:
            TimeoutExpired: it has not, so many seconds after it made the last request; of `subprocess`.
            BrokenError: it told nothing.
        """
        self._process.wait(max(0, self._end - time.monotonic()) + seconds)
        self._reading.join()
        if "digest" not in self._told:
            raise BrokenError(self._end_of_client())
        return self._told

    def _end_of_client(self) -> str:
        return f"the client ended with {self._process.returncode}: {self._log.read_text()[-1000:]}"


class Soak:
    """Faults on the banks of a scenario, and how they recover."""

    def __init__(self, scenario: Scenario, stream: Stream) -> None:
        self.suffered: Counter[Kind] = Counter()
        self.takeovers: list[float] = []
        """Seconds from a fault until the identity that it befell was ready on another VM, or again in a new epoch."""
        self._scenario, self._stream = scenario, stream
        self._banks = {bank.name: bank for bank in (scenario.a, scenario.b)}
        self._records: dict[tuple[str, str], Record] = {}
        self._ready: dict[tuple[str, str], int] = {}
        """The newest epoch in which an identity's node was ready."""
        self._places: dict[tuple[str, str | None], list[int]] = {}
        """Numbers of the VMs that have an identity of a bank ready, or wait for one."""
        self._hit: dict[tuple[str, str], float] = {}
        """When a fault of this round befell an identity."""
        self._round = time.monotonic()
        """When this round began."""
        self._well = math.inf
        """Since when all is well."""

    def play(self, history: Round) -> None:
        """Have the banks suffer the faults of a round, and recover.

        Raises:
            TimeoutError: they do not.
            BrokenError: see `look`.
        """
        until(self.look, RECOVERY_SECONDS, "all is well")
        self._hit, self._round = {}, time.monotonic()
        numbers = [
            0 if each.kind in OF_A_BANK else self._places[each.bank, each.identity].pop() for each in history.faults
        ]
        with ThreadPoolExecutor(len(numbers)) as pool:
            suffering = [pool.submit(self._suffer, *each) for each in zip(history.faults, numbers, strict=True)]
            while not all(each.done() for each in suffering):
                self.look()
        for each in suffering:
            each.result()
        calm = time.monotonic()
        until(self.look, RECOVERY_SECONDS, "all is well again")
        until(lambda: self.look() and self._stream.answered_since(calm), RECOVERY_SECONDS, "requests are answered")
        took = max(0.0, self._well - calm)
        self._say(f"all is well again since {took:.1f} s after that; {self._stream.answers} answers so far")
        rest = time.monotonic() + history.pause
        while time.monotonic() < rest:
            self.look()

    def _suffer(self, fault: Fault, number: int) -> None:
        time.sleep(fault.after)
        bank = self._banks[fault.bank]
        what = f"{fault.kind}: {bank.vm(number).name if number else bank.name}"
        names = [each.name for each in bank.identities] if fault.kind in OF_A_BANK else [fault.identity or "standby"]
        self._say(f"{what}, {', '.join(names)}, for {fault.seconds:.0f} s")
        began = time.monotonic()
        for name in names:
            self._hit.setdefault((bank.name, name), began)
        with suffered(fault.kind, bank, number):
            time.sleep(fault.seconds)
        self.suffered[fault.kind] += 1
        self._say(f"{what}: ended after {time.monotonic() - began:.1f} s")

    def look(self) -> bool:
        """Note who has taken over; gives whether all identities have been ready, all standbys there, for a while.

        Raises:
            BrokenError: the client has ended, or an identity's history is not one.
        """
        time.sleep(_LOOK_SECONDS)
        self._stream.check()
        well, self._places = True, {}
        for bank in self._banks.values():
            told = [(number, bank.vm(number).health()) for number in range(1, bank.plan.vms + 1)]
            idle = [number for number, health in told if health.get("state") == State.STANDBY]
            ready = _ready(bank.name, told)
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

    def _note(self, bank: Bank, identity: str, epoch: int, number: int) -> None:
        key = bank.name, identity
        if epoch > self._ready.setdefault(key, epoch):
            self._ready[key] = epoch
            took = time.monotonic() - self._hit.get(key, self._round)
            self.takeovers.append(took)
            self._say(f"{bank.vm(number).name} has {identity} ready after {took:.1f} s, in epoch {epoch}")

    def _epoch(self, bank: Bank, identity: str) -> int:
        """The identity's epoch. Its record goes on from what it was: no epoch is skipped, shared or taken back."""
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


def _ready(bank: str, told: Sequence[tuple[int, dict[str, Any]]]) -> dict[tuple[str, int], int]:
    """The number of the VM that has an identity's node ready in an epoch, of what a bank's VMs tell."""
    ready: dict[tuple[str, int], int] = {}
    for number, each in told:
        if each.get("node") == "ready":
            other = ready.setdefault((each["identity"], each["epoch"]), number)
            if other != number:
                both = f"VMs {other} and {number} in epoch {each['epoch']}"
                raise BrokenError(f"{bank} {each['identity']}: ready on {both}; wanted one")
    return ready


def soak(folder: Path, seed: int, seconds: int) -> bool:
    """Play a history; returns whether all is whole.

    Args:
        folder: where all of it lies.
        seed: of the history.
        seconds: for how long requests are made and rounds begin.

    Raises:
        TimeoutError: the banks do not recover, or flows do not end.
        BrokenError: something else that must not happen.
    """
    with ExitStack() as stack:
        scenario = Scenario(folder, stack)
        scenario.start()
        log, run = folder / "stream.log", f"soak-{seed}"
        process = scenario.application(scenario.a).begin(
            "stream",
            log,
            run=run,
            callers=_CALLERS,
            seconds=seconds,
            with_=B,
            patience=seconds + 2 * RECOVERY_SECONDS,
            each=True,
        )
        stack.callback(process.kill)
        began = time.monotonic()
        stream = Stream(process, log, seconds)
        playing = Soak(scenario, stream)
        for history in rounds([scenario.a.plan, scenario.b.plan], seed):
            if time.monotonic() > began + seconds:
                break
            playing.play(history)
        told = stream.result(RECOVERY_SECONDS)
        scenario.say(f"the stream has ended: {told}")
        until(playing.look, RECOVERY_SECONDS, "all is well in the end")
        outcome, times = scenario.outcome(told), sorted(playing.takeovers) or [0.0]
        print(
            f"{time.monotonic() - began:.0f} s with seed {seed}: "
            f"{', '.join(f'{kind} {playing.suffered[kind]}' for kind in Kind)}; {outcome}; "
            f"{len(playing.takeovers)} takeovers, in {statistics.median(times):.0f} s (median) to {times[-1]:.0f} s"
        )
        return outcome.whole


def main(arguments: list[str], environment: Mapping[str, str]) -> int:
    """Play one history; returns the exit status."""
    try:
        seed = int(arguments[0]) if arguments else secrets.randbelow(1_000_000)
    except ValueError:
        print(f"error: SEED={arguments[0]}; wanted a number", file=sys.stderr)
        return 1
    given = environment.get("SECONDS", str(SECONDS))
    if not given.isdecimal():
        print(f"error: SECONDS={given}; wanted a number", file=sys.stderr)
        return 1
    print(f"SEED={seed} SECONDS={given}", flush=True)
    if reason := missing():
        print(f"error: {reason}", file=sys.stderr)
        return 1
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    try:
        whole = soak(folder, seed, int(given))
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
