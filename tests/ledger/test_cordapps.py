"""The examples' CorDapps: their build, and runs of their own tests of contracts, flows and clients."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from lab import ROOT
from lab.banks import corda, cordapp
from lab.banks.cordapp import CREDIT_RECORD, PAYMENTS, Cordapp
from ledger.corda import CORDA

EXAMPLES = [pom.parent for pom in sorted((ROOT / "examples").glob("*/pom.xml"))]


@pytest.fixture
def asked_of_maven(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The arguments of Maven's calls; a stand-in creates only the files of the payments CorDapp."""
    asked = []

    def maven(folder: Path, *arguments: str) -> None:
        asked.append(arguments)
        for file in (*PAYMENTS.jars.values(), PAYMENTS.client) if "package" in arguments else ():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_text(file)

    monkeypatch.setattr(cordapp, "_maven", maven)
    return asked


def test_a_cordapp_is_built_once_but_installed_each_time(
    tmp_path: Path, asked_of_maven: list[tuple[str, ...]]
) -> None:
    first = cordapp.build(PAYMENTS, tmp_path)
    assert cordapp.build(PAYMENTS, tmp_path) == first
    assert first.client.exists(), "the build contains the application"
    assert [each[0] for each in asked_of_maven] == ["package", *["install:install-file"] * 4]
    published = {
        ":".join(
            dict(each.split("=") for each in arguments[1:])[f"-D{part}"]
            for part in ("groupId", "artifactId", "version")
        )
        for arguments in asked_of_maven
        if arguments[0] != "package"
    }
    assert published == {each.coordinates for each in first.artifacts}, "nodes can download each of their artifacts"


def test_resigned_cordapps_have_other_coordinates_than_cordas() -> None:
    coordinates = [*CREDIT_RECORD.jars, *PAYMENTS.jars]
    assert {each.split(":")[0] for each in coordinates} == {"decentralizedtrust"}, "R3's files differ"
    assert len({each.split(":", 1)[1] for each in coordinates}) == len(coordinates), "one file name for each"


@pytest.mark.parametrize("example", [CREDIT_RECORD, PAYMENTS], ids=lambda each: each.name)
def test_an_applications_permissions_are_valid_settings(example: Cordapp) -> None:
    assert [CORDA.check_permission(each) for each in example.permissions] == list(example.permissions)


@pytest.mark.long
@pytest.mark.skipif(corda.missing() is not None, reason=str(corda.missing()))
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_a_cordapps_own_tests_pass(example: Path, tmp_path: Path) -> None:
    folder = tmp_path / example.name
    shutil.copytree(example, folder, ignore=shutil.ignore_patterns("target"))
    java = corda.load().manifest.java_home / "bin" / "java"
    done = subprocess.run(
        ["mvn", "--batch-mode", "verify", f"-Dtest.jvm={java}"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    for tests in folder.rglob("src/test/java/**/*.java"):
        assert re.search(rf"Tests run: [1-9]\d*, .*\b{tests.stem}$", done.stdout, re.MULTILINE), (
            f"{tests.stem} was run"
        )
