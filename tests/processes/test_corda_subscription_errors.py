"""A node whose subscription to messages or the network map has ended is restarted; on Corda's own RxJava."""

import subprocess
from pathlib import Path
from zipfile import ZipFile

import pytest

from lab.banks import corda
from ledger.software import RESTART_STATUS
from tests.java import compiled

SUBSCRIBERS = {
    "P2PMessagingClient": "net/corda/node/services/messaging/P2PMessagingClient.class",
    "NetworkMapUpdater": "net/corda/node/services/network/NetworkMapUpdater.class",
}
"""Corda's classes that the sources beside this file stand in for, with their entries in its jar."""

pytestmark = pytest.mark.skipif(corda.missing() is not None, reason=str(corda.missing()))


@pytest.fixture(scope="module")
def class_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    installation = corda.installed()
    needed = [installation / "tool", *(installation / "lib").glob("rxjava-*.jar")]
    sources = [Path(__file__).with_name(f"{name}.java") for name in ("FailSubscriber", *SUBSCRIBERS)]
    return compiled(tmp_path_factory.mktemp("subscription"), needed, *sources)


def fail(class_path: str, *what: str) -> "subprocess.CompletedProcess[str]":
    java = corda.load().manifest.java_home / "bin" / "java"
    argv = [str(java), "-cp", class_path, "ledger.corda.FailSubscriber", *what]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", SUBSCRIBERS.values())
def test_cordas_subscribers_have_the_expected_names(name: str) -> None:
    found = [
        jar.name for jar in (corda.installed() / "lib").glob("corda-node-*.jar") if name in ZipFile(jar).namelist()
    ]
    assert len(found) == 1, (
        "the errors of a class that Corda renames would go unnoticed, and its node would receive no message"
    )


@pytest.mark.parametrize(("state", "status"), [("08006", RESTART_STATUS), ("22001", 70), ("none", 70)])
def test_an_error_of_the_inbox_ends_the_node(class_path: str, state: str, status: int) -> None:
    ended = fail(class_path, "inbox", state)
    assert (ended.returncode, ended.stdout) == (status, ""), (
        "Corda would go on, and process no message until its next start; what is no outage comes again at each start,"
        " so it counts as a death of the node"
    )
    assert "no message is processed until the node's next start: java.lang.IllegalState" in ended.stderr


@pytest.mark.parametrize("state", ["08006", "57P01", "40001"])
def test_an_outage_of_the_database_while_members_change_ends_the_node(class_path: str, state: str) -> None:
    ended = fail(class_path, "members", state)
    assert (ended.returncode, ended.stdout) == (RESTART_STATUS, ""), (
        "Corda would go on, and remove no revoked member until its next start"
    )
    assert "no change of members is processed until" in ended.stderr


@pytest.mark.parametrize("state", ["22001", "23505", "25006", "none"])
def test_an_error_that_is_no_outage_of_the_database_ends_no_node(class_path: str, state: str) -> None:
    ended = fail(class_path, "members", state)
    assert (ended.returncode, ended.stdout) == (0, "thrown\nfollows members: false\n"), (
        "it would recur at each start: one member's information would end the node again and again"
    )
    assert "no change of members is processed until" in ended.stderr, "it is reported"


def test_an_error_of_another_subscriber_ends_no_node(class_path: str) -> None:
    ended = fail(class_path, "other")
    assert (ended.returncode, ended.stdout) == (0, "thrown\nfollows members: true\n"), ended.stderr
