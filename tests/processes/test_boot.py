"""A VM's first boot: the real script, and the programs with only the locked libraries."""

import base64
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from contract.users import NODE_USERS, PROGRAM, TOOL
from contract.vm_configuration import INSTALLATION, SHARE
from delivery.cloud_config import (
    user_data,
)
from delivery.sources import every_file, files_of
from ledger.corda import CORDA
from tests.delivered import (
    AUTHORITY,
    INSTALLS,
    PREFIX,
    config,
    document_of,
    unpacked,
)
from tests.web import Handler, serving


@pytest.mark.parametrize(
    ("module", "arguments", "said"),
    [
        ("agent", ["no-such-file.json"], "No such file or directory; wanted the agent's configuration"),
        (AUTHORITY, ["serve", "no-such-file.json"], "no-such-file.json"),
        ("ledger.install", ["corda", "4.10", "x", "--artifact", "y"], "wanted GROUP:NAME:VERSION=SHA256"),
    ],
)
def test_the_installed_programs_run_with_only_the_locked_libraries(
    tmp_path: Path, module: str, arguments: list[str], said: str
) -> None:
    unpacked("agent" if module == "ledger.install" else module, tmp_path)
    run = subprocess.run(
        [sys.executable, "-m", module, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert run.returncode == (2 if module == "ledger.install" else 78), f"EX_CONFIG, as systemd shows\n{run.stderr}"
    assert said in run.stderr


LOADED_LATE = """
import importlib, pathlib, pkgutil
for folder in sorted(path.parent for path in pathlib.Path(".").glob("*/__init__.py")):
    for each in pkgutil.walk_packages([str(folder)], f"{folder.name}."):
        if not each.name.endswith("__main__"):
            importlib.import_module(each.name)
"""


@pytest.mark.parametrize("module", ["agent", AUTHORITY])
def test_a_vm_gets_every_module_that_its_program_may_import(tmp_path: Path, module: str) -> None:
    run = subprocess.run(
        [sys.executable, "-c", LOADED_LATE],
        cwd=unpacked(module, tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    got = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.suffix in {".py", ".java"}}
    assert got == set(files_of(module, "corda"))
    assert {path for path in every_file() if path.endswith(".java")} <= got, "they are compiled on the VM"
    other = "ledger/corda/authority/server.py" if module == "agent" else "agent/lease.py"
    assert other not in got, "and no module that it does not run"


def script(folder: Path, name: str, body: str = ":") -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


@pytest.mark.skipif(not shutil.which("curl"), reason="no curl here")
@pytest.mark.parametrize("fault", [None, "late", "altered", "repository away", "repository gone"])
def test_the_boot_joins_both_parts_of_the_archive_and_installs_the_ledger(tmp_path: Path, fault: str | None) -> None:
    """The real script with another prefix; VM-specific programs are stand-ins."""
    prefix, bin_folder, asked = tmp_path / "opt", tmp_path / "bin", list[str]()
    second = user_data(installation=INSTALLS)
    for each in document_of(config())["write_files"]:
        if each["path"].startswith(PREFIX):
            path = prefix / each["path"].removeprefix(f"{PREFIX}/")
            path.parent.mkdir(parents=True, exist_ok=True)
            content = each["content"].replace(PREFIX, str(prefix)).replace(str(SHARE), str(tmp_path / "mnt"))
            path.write_bytes(base64.b64decode(content) if "encoding" in each else content.encode())
    script(bin_folder, "systemctl")
    script(bin_folder, "systemd-sysusers", f'[ "$1" = - ] && cat >{tmp_path}/users')
    script(bin_folder, "sleep", f'echo "$@" >>{tmp_path}/slept')
    script(prefix, "venv/bin/pip")
    fails = {"repository away": 19, "repository gone": 99}.get(fault or "", 0)
    script(
        prefix,
        "venv/bin/python",
        f'[ "$1" != - ] || exec {sys.executable} "$@"\n'
        f'echo "$PWD $@" >>{tmp_path}/ran\n[ "$(wc -l <{tmp_path}/ran)" -gt {fails} ]',
    )

    class Metadata(Handler):
        def reply(self, _: bytes) -> None:
            asked.append(self.path)
            if (fault == "late" and len(asked) < 2) or self.headers.get("Metadata") != "true":
                self.send_error(503)
                return
            self.send_response(200)
            self.end_headers()
            self.wfile.write((second[:-8] if fault == "altered" else second).encode())

    with serving(Metadata) as url:
        environment = {"PATH": f"{bin_folder}:/usr/bin:/bin", "METADATA": url}
        for _ in range(1 if fault == "repository gone" else 2):
            run = subprocess.run(
                ["sh", str(prefix / "install.sh"), *INSTALLS],
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
    if fault == "altered":
        assert run.returncode != 0, "another archive must not be unpacked"
        assert "FAILED" in run.stdout
        assert not (prefix / "source").exists()
        return
    ran = (tmp_path / "ran").read_text().splitlines()
    if fails:
        assert (tmp_path / "slept").read_text().splitlines() == ["30"] * 19, (
            "an outage of a repository may last ten minutes"
        )
    if fault == "repository gone":
        assert run.returncode == 1, "the boot reports the failure"
        assert len(ran) == 20, "so that Azure replaces the VM"
        return
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "users").read_text().splitlines() == [
        f"u {user.name} {user.number}" for user in (PROGRAM, *NODE_USERS.values(), TOOL)
    ], "the VM's users are those of the programs"
    assert len(asked) == (2 if fault == "late" else 1), "an installed file is not fetched again"
    assert asked[0] == "/metadata/instance/compute/userData?api-version=2021-02-01&format=text"
    assert (prefix / "source" / "agent" / "__main__.py").exists()
    assert ran == [f"{prefix}/source -m ledger.install corda {CORDA.default_version} {INSTALLATION}"] * (fails + 2), (
        "the script can be run again"
    )
