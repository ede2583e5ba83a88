"""A program's log in the journal: a line without a level counts as information, which is not collected."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lab import ROOT

PROGRAM = """
import logging
from host import journal
journal.set_up()
log = logging.getLogger("agent")
log.debug("not collected")
log.info("took node-1")
log.warning("the vault\\nis away")
try:
    raise ValueError("torn")
except ValueError:
    log.exception("a round")
journal.refuse("platform: 'x'\\nwanted corda")
raise KeyError("what")
"""
FORGED = """
import logging
from host import journal
journal.set_up()
peer = "nothing\\nINFO agent: took node-1\\x00<2>CRITICAL agent: x\\r\\x1b[2K\\x9b2J\\u2028\\udc80" + "y" * 10**6
logging.getLogger("agent").warning("bank-b: %s", peer)
"""
LONG = """
import logging
from host import journal
journal.set_up()
try:
    raise ValueError("torn")
except ValueError:
    logging.getLogger("agent").exception("y" * LENGTH)
"""


def lines(tmp_path: Path, *, journal_stream: bool, program: str = PROGRAM) -> list[str]:
    """A program's standard error, which systemd may have declared to be the journal."""
    path = tmp_path / "journal"
    with path.open("w") as stream:
        here = os.fstat(stream.fileno())
        environment = {**os.environ, "JOURNAL_STREAM": f"{here.st_dev}:{here.st_ino if journal_stream else 1}"}
        ended = subprocess.run([sys.executable, "-c", program], stderr=stream, env=environment, cwd=ROOT, check=False)
    assert ended.returncode == (program is PROGRAM)
    return path.read_text().splitlines()


def test_each_line_has_its_level_for_the_journal(tmp_path: Path) -> None:
    found = lines(tmp_path, journal_stream=True)
    assert found[:4] == [
        "<6>INFO agent: took node-1",
        "<4>WARNING agent: the vault",
        "<4> is away",
        "<3>ERROR agent: a round",
    ], "the data collection rule selects by it"
    refused = found.index("<3>error: platform: 'x'") + 1
    assert found[refused] == "<3> wanted corda", "each line of the reason for an immediate end"
    assert found[4] == "<3> Traceback (most recent call last):"
    assert {each[:3] for each in found[4 : refused + 1]} == {"<3>"}, "each line of a traceback has the level"
    assert found[refused + 1] == "<2>CRITICAL host.journal: the program ends"
    assert {each[:3] for each in found[refused + 1 :]} == {"<2>"}, "the end of a program is no mere information"
    assert found[-1] == "<2> KeyError: 'what'"


@pytest.mark.parametrize("journal_stream", [True, False])
def test_a_peers_text_forges_no_record(tmp_path: Path, journal_stream: bool) -> None:
    level = "<4>" if journal_stream else ""
    first, *rest = lines(tmp_path, journal_stream=journal_stream, program=FORGED)
    assert first == f"{level}WARNING agent: bank-b: nothing"
    assert [each[: len(level) + 24] for each in rest] == [f"{level} INFO agent: took node-1"], (
        "no line but a record's first one begins with its severity"
    )
    assert r"node-1\x00<2>CRITICAL agent: x\r\x1b[2K\x9b2J\u2028\udc80yy" in rest[0], (
        "it ends no line, moves no cursor"
    )
    assert len(rest[0]) < 20_000, "nor does it fill the workspace"


def test_a_long_record_ends_with_its_error(tmp_path: Path) -> None:
    program = LONG.replace("LENGTH", str(10**6))
    found = lines(tmp_path, journal_stream=True, program=program)
    assert found[-1] == "<3> ValueError: torn", "what is cut is in the middle"
    assert sum(map(len, found)) < 20_000, "and the record is bounded"


def test_outside_of_the_journal_lines_have_no_level(tmp_path: Path) -> None:
    assert lines(tmp_path, journal_stream=False)[:3] == [
        "INFO agent: took node-1",
        "WARNING agent: the vault",
        " is away",
    ], "a file or terminal is no journal, even if a service's shell started the program"
