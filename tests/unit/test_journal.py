"""A program's log in the journal: a line without a level counts as information, which is not collected."""

import os
import subprocess
import sys
from pathlib import Path

from lab import ROOT

PROGRAM = """
import logging
from host import journal
journal.set_up()
log = logging.getLogger("agent")
log.debug("nobody reads it")
log.info("took node-1")
log.warning("the vault\\nis away")
try:
    raise ValueError("torn")
except ValueError:
    log.exception("a round")
journal.refuse("platform: 'x'\\nwanted corda")
raise KeyError("what")
"""


def lines(tmp_path: Path, *, told: bool) -> list[str]:
    """What a program writes to its standard error, where systemd may have told it that this is the journal."""
    path = tmp_path / "journal"
    with path.open("w") as stream:
        here = os.fstat(stream.fileno())
        environment = {**os.environ, "JOURNAL_STREAM": f"{here.st_dev}:{here.st_ino if told else 1}"}
        ended = subprocess.run([sys.executable, "-c", PROGRAM], stderr=stream, env=environment, cwd=ROOT, check=False)
    assert ended.returncode == 1
    return path.read_text().splitlines()


def test_each_line_has_its_level_for_the_journal(tmp_path: Path) -> None:
    found = lines(tmp_path, told=True)
    assert found[:4] == [
        "<6>INFO agent: took node-1",
        "<4>WARNING agent: the vault",
        "<4>is away",
        "<3>ERROR agent: a round",
    ], "the data collection rule selects by it"
    refused = found.index("<3>error: platform: 'x'") + 1
    assert found[refused] == "<3>wanted corda", "each line of why a program ends at once"
    assert found[4] == "<3>Traceback (most recent call last):"
    assert {each[:3] for each in found[4 : refused + 1]} == {"<3>"}, "a traceback is read as a whole"
    assert found[refused + 1] == "<2>CRITICAL host.journal: the program ends"
    assert {each[:3] for each in found[refused + 1 :]} == {"<2>"}, "what ends it is no information"
    assert found[-1] == "<2>KeyError: 'what'"


def test_without_the_journal_lines_have_no_level(tmp_path: Path) -> None:
    assert lines(tmp_path, told=False)[:3] == ["INFO agent: took node-1", "WARNING agent: the vault", "is away"], (
        "a file or a terminal is no journal, even where a shell of a service started the program"
    )
