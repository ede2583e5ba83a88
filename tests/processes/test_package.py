"""The project as a package: a new environment gets the packages, their data and the commands."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from lab import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=600, check=False)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment in which the project is installed, with the requirements of its programs on VMs."""
    folder = tmp_path_factory.mktemp("package") / "environment"
    uv = Path(sys.executable).with_name("uv")
    for command in (
        (uv, "venv", "--quiet", "--python", sys.executable, folder),
        (uv, "pip", "install", "--quiet", "--python", folder / "bin" / "python", f"{ROOT}[vm]"),
    ):
        done = run(*command, cwd=ROOT)
        assert done.returncode == 0, done.stderr
    return folder


def files(folder: Path) -> set[str]:
    return {
        str(path.relative_to(folder))
        for package in PACKAGES
        for path in (folder / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_each_file_of_the_packages_is_installed(installed: Path) -> None:
    (site_packages,) = installed.glob("lib/python3.*/site-packages")
    assert files(site_packages) == files(ROOT), "modules, queries, units and tables: all files of the programs"
    (metadata,) = site_packages.glob("decentralized_trust-*.dist-info")
    assert (metadata / "licenses" / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()


def test_each_package_is_imported_from_there(installed: Path, tmp_path: Path) -> None:
    modules = ["agent.vm", "components.node_scale_set", "delivery.cloud_config", "policy.checklist", "stack.rows"]
    modules += ["contract.card", "host.service", "ledger.corda.authority.vm"]
    assert {each.split(".")[0] for each in modules} == set(PACKAGES)
    script = f"import {', '.join(modules)}, delivery.sources as sources; print(len(sources.every_file()))"
    done = run(installed / "bin" / "python", "-c", script, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 80, "a stack that is deployed from there delivers the VMs' programs"


@pytest.mark.parametrize(
    ("command", "configuration"),
    [("ledger-agent", ("none.json",)), ("ledger-authority", ("pending", "--configuration", "none.json"))],
)
def test_each_command_runs(installed: Path, tmp_path: Path, command: str, configuration: tuple[str, ...]) -> None:
    done = run(installed / "bin" / command, *configuration, cwd=tmp_path)
    assert done.returncode == os.EX_CONFIG, f"it runs until it reads its configuration: {done.stderr}"
    assert "none.json: No such file or directory; wanted" in done.stderr


def test_there_is_no_other_command(installed: Path) -> None:
    assert set(PROJECT["project"]["scripts"]) == {"ledger-agent", "ledger-authority"}
    for command in PROJECT["project"]["scripts"]:
        assert (installed / "bin" / command).is_file()
