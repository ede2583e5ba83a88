"""What systemd hears, on a real datagram socket; and what ends an agent that systemd does not watch."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent.watchdog import Watchdog

ROOT = Path(__file__).resolve().parent.parent


def tell(watchdog: Watchdog) -> None:
    watchdog.ready()
    watchdog.status("holds node-1,\n epoch 3")
    watchdog.alive()
    watchdog.stopping()


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_hears_each_word(tmp_path, monkeypatch, abstract):
    path = f"@trust-{os.getpid()}" if abstract else str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind("\0" + path[1:] if abstract else path)
        systemd.settimeout(5)
        tell(Watchdog())
        heard = [systemd.recv(1000) for _ in range(4)]
    assert heard == [b"READY=1", b"STATUS=holds node-1, epoch 3", b"WATCHDOG=1", b"STOPPING=1"], (
        "one datagram a word, and a status is one line"
    )


@pytest.mark.parametrize("address", ["", "/nowhere/notify", "@nobody-listens"])
def test_without_systemd_nothing_happens(monkeypatch, address):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    tell(Watchdog())
    tell(Watchdog(address))


def test_a_systemd_that_does_not_read_holds_nobody_up(tmp_path):
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(path)
        watchdog = Watchdog(path)
        for _ in range(5000):
            watchdog.alive()
        assert systemd.recv(100) == b"WATCHDOG=1", "the first ones fit"


def test_an_address_of_another_kind_is_refused():
    with pytest.raises(ValueError, match="NOTIFY_SOCKET=vsock:2:1; wanted a path"):
        Watchdog("vsock:2:1")


GUARDED = """
import os, sys, time
from agent.watchdog import Watchdog
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
def test_a_hung_agent_ends_with_its_node_whatever_systemd_does(period: str, end: str, status: int) -> None:
    """systemd does not watch a service that it told to stop, and an agent that drains its node keeps its lease."""
    began = time.monotonic()
    ran = subprocess.run(
        [sys.executable, "-c", GUARDED, period, end], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ran.returncode == status, ran.stderr
    if status:
        assert time.monotonic() - began < 3, "signs in time are no hang, and then it is not waited for"
        assert "Timeout" in ran.stderr, "the journal shows where it hung"
    time.sleep(0.2)
    stat = Path(f"/proc/{int(ran.stdout)}/stat")
    # Where nobody reaps orphans it stays there, dead.
    assert not stat.exists() or stat.read_text().rsplit(") ", 1)[1][0] == "Z", "the kernel ends what it had started"
