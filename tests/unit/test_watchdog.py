"""Notifications to systemd on a real datagram socket, and the watchdog inside the process."""

import asyncio
import os
import socket
from typing import Any

import pytest

from agent.service import serve
from host.status import Status
from host.watchdog import Watchdog
from tests.unit.test_scheduled_events import StoppedAgent


def notify_all(watchdog: Watchdog) -> None:
    watchdog.ready()
    watchdog.status("holds node-1,\n epoch 3")
    watchdog.alive()
    watchdog.stopping()


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_gets_each_notification(tmp_path, monkeypatch, abstract):
    path = f"@trust-{os.getpid()}" if abstract else str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind("\0" + path[1:] if abstract else path)
        systemd.settimeout(5)
        notify_all(Watchdog())
        received = [systemd.recv(1000) for _ in range(4)]
    assert received == [b"READY=1", b"STATUS=holds node-1, epoch 3", b"WATCHDOG=1", b"STOPPING=1"], (
        "one datagram for each state, and a status is one line"
    )


def test_a_reason_that_can_not_be_encoded_does_not_end_the_agent(tmp_path, monkeypatch):
    path = str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(path)
        systemd.settimeout(5)
        Watchdog().status("half a character: \ud800")
        assert systemd.recv(1000) == b"STATUS=half a character: ?", "the next notification keeps the node running"


@pytest.mark.parametrize("address", ["", "/nowhere/notify", "@nobody-listens"])
def test_without_systemd_nothing_happens(monkeypatch, address):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify_all(Watchdog())
    notify_all(Watchdog(address))


def test_a_systemd_that_does_not_read_does_not_block_the_agent(tmp_path):
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(path)
        watchdog = Watchdog(path)
        for _ in range(5000):
            watchdog.alive()
        assert systemd.recv(100) == b"WATCHDOG=1", "the first datagrams fit into the buffer"


def test_an_address_of_another_kind_is_refused():
    with pytest.raises(ValueError, match="NOTIFY_SOCKET=vsock:2:1; wanted a path"):
        Watchdog("vsock:2:1")


@pytest.mark.parametrize("may_run", [True, False])
def test_an_agent_whose_lease_is_over_sends_no_heartbeat(tmp_path, monkeypatch, may_run):
    path = str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", path)

    agent: Any = StoppedAgent(may_run=may_run)
    agent.stop()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(path)
        systemd.settimeout(5)
        asyncio.run(serve(agent, Status("vm-1"), host="127.0.0.1", port=0))
        received = list(iter(lambda: systemd.recv(1000), b"STOPPING=1"))
    assert (b"WATCHDOG=1" in received) is may_run, "systemd must kill its node before another VM starts one"
