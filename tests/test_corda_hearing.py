"""A node that would take no message any more ends, so that its agent starts it again; on Corda's own RxJava."""

import os
import subprocess
from pathlib import Path
from zipfile import ZipFile

import pytest

from ledger.software import AGAIN_STATUS
from local import corda

pytestmark = pytest.mark.skipif(corda.missing() is not None, reason=str(corda.missing()))


@pytest.fixture(scope="module")
def class_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder, installation = tmp_path_factory.mktemp("hearing"), corda.installed()
    needed = [installation / "tool", *(installation / "lib").glob("rxjava-*.jar")]
    sources = [Path(__file__).with_name(f"{name}.java") for name in ("Hearing", "P2PMessagingClient")]
    options = ["-source", "8", "-target", "8", "-nowarn", "-Xlint:-options"]
    path = os.pathsep.join(map(str, needed))
    subprocess.run(["javac", *options, "-cp", path, "-d", folder, *sources], check=True)
    return f"{folder}{os.pathsep}{path}"


def hear(class_path: str, what: str) -> "subprocess.CompletedProcess[str]":
    java = corda.load().manifest.java_home / "bin" / "java"
    argv = [str(java), "-cp", class_path, "ledger.corda.Hearing", what]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


def test_cordas_inbox_has_the_name_that_is_looked_for() -> None:
    name = "net/corda/node/services/messaging/P2PMessagingClient.class"
    inbox = [
        jar.name for jar in (corda.installed() / "lib").glob("corda-node-*.jar") if name in ZipFile(jar).namelist()
    ]
    assert len(inbox) == 1, "the sources below stand in its place: who renames it makes every node deaf again"


def test_a_message_that_can_not_be_taken_ends_the_node(class_path: str) -> None:
    heard = hear(class_path, "inbox")
    assert (heard.returncode, heard.stdout) == (AGAIN_STATUS, ""), (
        "Corda would go on, and take no message until its next start"
    )
    assert "the node ends: java.lang.IllegalStateException: the database is away" in heard.stderr


def test_what_others_fail_at_while_a_message_is_taken_ends_no_node(class_path: str) -> None:
    heard = hear(class_path, "other")
    assert (heard.returncode, heard.stdout) == (0, "told\ngoes on\n"), heard.stderr
