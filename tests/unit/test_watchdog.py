"""Notifications to systemd on a real datagram socket, and the watchdog inside the process."""

import os
import socket

import pytest

from host.watchdog import Watchdog


def tell(watchdog: Watchdog) -> None:
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
        tell(Watchdog())
        heard = [systemd.recv(1000) for _ in range(4)]
    assert heard == [b"READY=1", b"STATUS=holds node-1, epoch 3", b"WATCHDOG=1", b"STOPPING=1"], (
        "one datagram a word, and a status is one line"
    )


def test_a_reason_that_can_not_be_encoded_ends_no_agent(tmp_path, monkeypatch):
    path = str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(path)
        systemd.settimeout(5)
        Watchdog().status("half a character: \ud800")
        assert systemd.recv(1000) == b"STATUS=half a character: ?", "the next sign is what keeps the node alive"


@pytest.mark.parametrize("address", ["", "/nowhere/notify", "@nobody-listens"])
def test_without_systemd_nothing_happens(monkeypatch, address):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    tell(Watchdog())
    tell(Watchdog(address))


def test_a_systemd_that_does_not_read_delays_nothing(tmp_path):
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
