"""Options that the scenario's commands refuse at once, and not after half an hour."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from lab.banks import scenario as banks
from lab.links import scenario as links

Main = Callable[[Sequence[str]], int]


@pytest.fixture(autouse=True)
def no_play(monkeypatch: pytest.MonkeyPatch) -> None:
    """On any machine: nothing is missing, and no scenario is run."""
    monkeypatch.setattr(links, "missing", lambda: None)
    for module in (banks, links):
        monkeypatch.setattr(module, "show", lambda _: 0)


@pytest.mark.parametrize("main", [banks.main, links.main])
def test_a_file_for_rows_that_cant_be_written_is_refused(
    main: Main, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--record", str(tmp_path / "rows.json.gz")]) == 0, "the file is written at the end"
    for file in (tmp_path / "nowhere" / "rows.json.gz", tmp_path):
        with pytest.raises(SystemExit):
            main(["--record", str(file)])
        assert f"{file}: can't be written; wanted a file in a folder" in capsys.readouterr().err


def test_a_latency_that_no_packet_has_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert links.main(["--latency", "20"]) == 0
    for given in ("-1", "nan", "inf"):
        with pytest.raises(SystemExit):
            links.main(["--latency", given])
        assert f"{given}; wanted 0 or more" in capsys.readouterr().err
