"""An agent that hangs is killed together with its node."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from lab import ROOT

GUARDED = """
import os, sys, time
from host.watchdog import Watchdog
watchdog = Watchdog(microseconds=sys.argv[1])
for _ in range(10):
    watchdog.alive()
    time.sleep(0.1)
if sys.argv[2] == "stopping":
    watchdog.stopping()
    watchdog.alive()
child = os.spawnlp(os.P_NOWAIT, "setpriv", "setpriv", "--pdeathsig", "KILL", "--", "sleep", "60")
print(child, flush=True)
time.sleep(3)
"""


@pytest.mark.parametrize(
    ("period", "end", "status"), [("500000", "hung", 1), ("500000", "stopping", 0), ("", "hung", 0)]
)
def test_a_hung_agent_and_its_node_end_even_if_systemd_does_not_watch(period: str, end: str, status: int) -> None:
    """systemd does not watch a stopping service, and an agent that drains its node keeps its lease."""
    began = time.monotonic()
    ran = subprocess.run(
        [sys.executable, "-c", GUARDED, period, end], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ran.returncode == status, ran.stderr
    if status:
        assert time.monotonic() - began < 3, "notifications in time are no hang, and a hang is ended at once"
        assert "Timeout" in ran.stderr, "the journal shows where it hung"
    time.sleep(0.2)
    stat = Path(f"/proc/{int(ran.stdout)}/stat")
    # Without a reaper of orphans it stays as a zombie.
    assert not stat.exists() or stat.read_text().rsplit(") ", 1)[1][0] == "Z", "the kernel ends its processes"
