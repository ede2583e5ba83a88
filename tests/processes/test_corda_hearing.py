"""A node that can receive no more messages ends, so that its agent restarts it; on Corda's own RxJava."""

import subprocess
from pathlib import Path
from zipfile import ZipFile

import pytest

from lab.banks import corda
from ledger.software import RESTART_STATUS
from tests.java import compiled

pytestmark = pytest.mark.skipif(corda.missing() is not None, reason=str(corda.missing()))


@pytest.fixture(scope="module")
def class_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    installation = corda.installed()
    needed = [installation / "tool", *(installation / "lib").glob("rxjava-*.jar")]
    sources = [Path(__file__).with_name(f"{name}.java") for name in ("Hearing", "P2PMessagingClient")]
    return compiled(tmp_path_factory.mktemp("hearing"), needed, *sources)


def hear(class_path: str, what: str) -> "subprocess.CompletedProcess[str]":
    java = corda.load().manifest.java_home / "bin" / "java"
    argv = [str(java), "-cp", class_path, "ledger.corda.Hearing", what]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


def test_cordas_inbox_class_has_the_expected_name() -> None:
    name = "net/corda/node/services/messaging/P2PMessagingClient.class"
    inbox = [
        jar.name for jar in (corda.installed() / "lib").glob("corda-node-*.jar") if name in ZipFile(jar).namelist()
    ]
    assert len(inbox) == 1, "the sources below stand in its place: who renames it makes every node deaf again"


def test_an_error_of_the_inbox_ends_the_node(class_path: str) -> None:
    heard = hear(class_path, "inbox")
    assert (heard.returncode, heard.stdout) == (RESTART_STATUS, ""), (
        "Corda would go on, and take no message until its next start"
    )
    assert "the node ends: java.lang.IllegalStateException: the database is away" in heard.stderr


def test_an_error_of_another_subscriber_ends_no_node(class_path: str) -> None:
    heard = hear(class_path, "other")
    assert (heard.returncode, heard.stdout) == (0, "told\ngoes on\n"), heard.stderr
