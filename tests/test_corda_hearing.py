"""A node that would take no message any more ends, so that its agent starts it again; on Corda's own RxJava."""

import os
import subprocess
from pathlib import Path

import pytest

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


def test_a_message_that_can_not_be_taken_ends_the_node(class_path: str) -> None:
    heard = hear(class_path, "inbox")
    assert (heard.returncode, heard.stdout) == (1, ""), "Corda would go on, and take no message until its next start"
    assert "the node ends: java.lang.IllegalStateException: the database is away" in heard.stderr


def test_what_others_fail_at_while_a_message_is_taken_ends_no_node(class_path: str) -> None:
    heard = hear(class_path, "other")
    assert (heard.returncode, heard.stdout) == (0, "told\ngoes on\n"), heard.stderr
