"""The examples' CorDapps: their contracts, and their flows on Corda's test network, by their own tests."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from local import corda
from local.process import ROOT

EXAMPLES = [pom.parent for pom in sorted((ROOT / "examples").glob("*/pom.xml"))]


@pytest.mark.ledger
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
