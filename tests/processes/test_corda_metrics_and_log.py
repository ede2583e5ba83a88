"""A node's counters and log lines; on Corda's own classes and the log's own configuration."""

import json
import os
import re
import subprocess
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from lab.banks import corda
from tests.java import compiled

pytestmark = pytest.mark.skipif(corda.missing() is not None, reason=str(corda.missing()))
NODE = "net/corda/node/services/statemachine/FlowStateMachineImpl"


@pytest.fixture(scope="module")
def class_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    installed = corda.load()
    needed = [installed.folder / each for each in installed.manifest.classpath]
    return compiled(tmp_path_factory.mktemp("metrics"), needed, Path(__file__).with_name("ReportMetrics.java"))


def run(class_path: str, *commands: str) -> "subprocess.CompletedProcess[str]":
    installed = corda.load()
    java = installed.manifest.java_home / "bin" / "java"
    argv = [
        str(java),
        *installed.manifest.options,
        *installed._logging,
        "-cp",
        class_path,
        "ledger.corda.ReportMetrics",
    ]
    done = subprocess.run(argv, input="\n".join(commands), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done


def printed(class_path: str, *commands: str) -> list[str]:
    return run(class_path, *commands).stdout.splitlines()


def metrics(class_path: str, *commands: str) -> dict[str, Any]:
    (line,) = (each for each in printed(class_path, *commands, "metrics") if each.startswith("metrics "))
    return dict(json.loads(line.removeprefix("metrics ")))


def flows() -> dict[str, bytes]:
    """Corda's own flows: the classes' files by their names."""
    (jar,) = (each for each in corda.load().manifest.classpath if Path(each).name.startswith("corda-core-"))
    folder = "net/corda/core/flows/"
    with zipfile.ZipFile(corda.load().folder / jar) as core:
        return {name.removeprefix(folder): core.read(name) for name in core.namelist() if name.startswith(folder)}


def test_a_transaction_is_counted_once_at_its_initiator(class_path: str) -> None:
    core = flows()
    clients = [name for name, content in core.items() if b"Notary responded (" in content]
    assert clients == ["NotaryFlow$Client.class"], "with or without FinalityFlow, the initiator asks the notary"
    assert metrics(class_path)["transactions"] == 0, "this version of Corda can be counted"
    responded = "Notary responded (OU=node-1, O=Bank A, L=London, C=GB)."
    assert metrics(class_path, *[f"flow {responded}"] * 3)["transactions"] == 3
    sentences = [each.decode() for text in core.values() for each in re.findall(rb"[A-Z][\w' -]{10,}\.", text)]
    assert "Successfully recorded received transaction locally." in sentences
    found = metrics(class_path, *(f"flow {each}" for each in sentences))
    assert found["transactions"] == 1, (
        "a transaction that needs no notary is counted; no other log text of Corda's flows is"
    )


def test_flows_log_under_the_expected_logger_name() -> None:
    (jar,) = (each for each in corda.load().manifest.classpath if Path(each).name.startswith("corda-node-4"))
    with zipfile.ZipFile(corda.load().folder / jar) as node:
        assert b"net.corda.flow" in node.read(f"{NODE}.class")


@pytest.mark.parametrize(
    ("flow", "failed"),
    [
        ("ledger.corda.ReportMetrics$Initiator", 3),
        ("of.a.CorDapp.that.is.not.here", 3),
        ("ledger.corda.ReportMetrics$Responder", 0),
        ("net.corda.node.services.FinalityHandler", 0),
        ("net.corda.node.services.transactions.NonValidatingNotaryFlow", 0),
    ],
)
def test_a_failure_is_counted_at_the_flows_initiator(class_path: str, flow: str, failed: int) -> None:
    assert metrics(class_path, f"failed {flow}")["flows"]["failed"] == failed


def test_each_log_record_is_one_line_with_its_level(class_path: str) -> None:
    warning, error, info = printed(class_path, "warn")
    assert warning.startswith("<4>WARN ReportMetrics: one | two "), "the journal makes each line a record"
    assert "IllegalStateException: three | four | \tat".replace("\t", "") in warning, "with the exception"
    assert "Caused by: java.lang.Exception: five" in warning
    assert error == "<3>ERROR ReportMetrics: six | <2>and a half", (
        "the journal ends a record at a NUL too, says systemd"
    )
    assert info == "<6>INFO ReportMetrics: seven", "with its level"


def test_a_peers_text_does_not_delay_logging(class_path: str) -> None:
    """Corda logs a peer's text, which may have megabytes; a search that is quadratic in blanks takes an hour."""
    lines = printed(class_path, *["blanks 7000"] * 200, "blanks 1000000", "metrics")
    warnings = [each for each in lines if each.startswith("<4>WARN ReportMetrics: one ")]
    assert len(warnings) == 201, "each record is one line"
    assert max(map(len, warnings)) < 20_000, "a line has a bounded length"
    assert "IllegalStateException: two" in warnings[0], "with the exception"


def test_peers_do_not_fill_the_workspace(class_path: str) -> None:
    levels = Counter(line[:3] for line in printed(class_path, *["warn"] * 2000))
    assert 1000 <= levels["<4>"] < 1100, "each refused message of a peer is a line, and the workspace has a daily cap"
    assert 1000 <= levels["<3>"] < 1100, "warnings that a peer causes hide no error"
    assert levels["<6>"] == 2000, "what stays on the VM uses none of it: a busy node's work must not hide its errors"


def test_a_failed_answer_is_logged_and_the_next_succeeds(class_path: str) -> None:
    done = run(class_path, "get")
    answers = [each for each in done.stdout.splitlines() if each.startswith("get ")]
    assert answers == ["get null", "get HTTP/1.1 200 OK"], "an agent ends a node that no longer answers"
    assert "<3>ERROR Monitoring: no answer: java.lang.NoClassDefFoundError: status\n" in done.stderr


def test_a_corda_without_the_notary_client_reports_all_but_transactions(class_path: str, tmp_path: Path) -> None:
    (core,) = (each for each in class_path.split(os.pathsep) if Path(each).name.startswith("corda-core-"))
    other = tmp_path / "core.jar"
    with zipfile.ZipFile(core) as whole, zipfile.ZipFile(other, "w") as made:
        for name in whole.namelist():
            if not name.startswith("net/corda/core/flows/NotaryFlow"):
                made.writestr(name, whole.read(name))
    found = metrics(class_path.replace(core, str(other)))
    assert found["transactions"] is None, "null is no count of 0"
    assert found["flows"] == metrics(class_path)["flows"]
