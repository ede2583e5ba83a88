"""The documents' commands for an authority's VM, run by a shell as Azure's run command does."""

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from contract.authority_configuration import Approval
from lab import ROOT
from lab.banks import azurite, npm
from ledger.corda.authority.register import RequestState
from tests.authority import BANK_B, Network, network
from tests.delivered import AUTHORITY, PREFIX, config, document_of, unpacked
from tests.processes.test_corda_authority import new_request

pytestmark = pytest.mark.skipif(not npm.available(), reason="no node and npm here; wanted them for Azurite")

COMMANDS = [
    (path.name, command)
    for path in sorted((ROOT / "docs").rglob("*.md"))
    for command in re.findall(r'--scripts "(ledger-authority [^"]+)"', path.read_text("utf-8"))
]
"""Each command of the documents, with the document."""


@pytest.fixture(scope="module")
def blobs() -> Iterator[str]:
    with azurite.blob_service() as (url, _):
        yield url


@pytest.fixture
def vm(tmp_path: Path) -> Callable[[Network, str], subprocess.CompletedProcess[str]]:
    """An authority's VM after its first boot; runs a script there."""
    prefix, commands = tmp_path / "opt", tmp_path / "bin"
    written = [each for each in document_of(config(module=AUTHORITY))["write_files"] if "encoding" not in each]
    for each in written:
        if each["path"].startswith("/usr/local/bin/"):
            command = commands / Path(each["path"]).name
            command.parent.mkdir(exist_ok=True)
            command.write_text(each["content"].replace(PREFIX, str(prefix)))
            command.chmod(int(each["permissions"], 8))
    unpacked(AUTHORITY, prefix / "source")
    interpreter = prefix / "venv" / "bin" / "python"
    interpreter.parent.mkdir(parents=True)
    interpreter.write_text(f'#!/bin/sh\nexec {sys.executable} -m tests.processes.authority_command "$@"\n')
    interpreter.chmod(0o755)
    clouds, configuration = tmp_path / "clouds.json", tmp_path / "authority.json"

    def run(made: Network, script: str) -> subprocess.CompletedProcess[str]:
        configuration.write_text(made.configuration().to_json())
        given = {"file": str(configuration), "certificate": str(made.vault_certificate), "register": made.container}
        clouds.write_text(json.dumps(given))
        environment = {
            "PATH": f"{commands}:/usr/bin:/bin",
            "CLOUDS": str(clouds),
            "PYTHONPATH": str(ROOT),
            "USER": "root",
        }
        return subprocess.run(
            ["sh", "-c", script], env=environment, cwd="/", capture_output=True, text=True, timeout=120, check=False
        )

    return run


def test_each_command_of_the_documents_runs_on_an_authoritys_vm(tls, blobs, vm) -> None:
    assert {command.split()[1] for _, command in COMMANDS} == {"pending", "approve", "list", "revoke"}

    async def history() -> None:
        async with network(tls, blobs, options={"approval": Approval.MANUAL}) as made, made.vm() as serving:
            for document, command in COMMANDS:
                if command.split()[1] == "revoke":
                    continue
                asked = await serving.authority.request("bank-b", new_request(f"OU=node-1, {BANK_B}"))
                done = await asyncio.to_thread(vm, made, command.replace(" ID", f" {asked}"))
                assert done.returncode == 0, f"{document}: {command}: {done.stderr}"
                assert asked in done.stdout, f"{document}: {command} prints the request: {done.stdout}"
            assert any("pending" in command for _, command in COMMANDS)
            (approved,) = [each for each in await serving.authority.requests() if each.state is RequestState.APPROVED]
            assert str(approved.by).startswith("alice@bank-x.example, stated by ")

    asyncio.run(history())


def test_the_documents_command_revokes_a_name(tls, blobs, vm) -> None:
    ((document, command),) = [each for each in COMMANDS if each[1].split()[1] == "revoke"]
    (documented,) = re.findall("'(.+)'", command)
    name = f"OU=node-1, {BANK_B}"

    async def history() -> None:
        async with network(tls, blobs) as made, made.vm() as serving:
            request = new_request(name)
            asked = await serving.authority.request("bank-b", request)
            assert await serving.authority.answer("bank-b", asked), "the certificates are issued"
            done = await asyncio.to_thread(vm, made, command.replace(documented, name))
            assert done.returncode == 0, f"{document}: {done.stderr}"
            assert done.stdout.startswith("revoked: "), f"{document}: {done.stdout}"
            again = await asyncio.to_thread(vm, made, command.replace(documented, name))
            assert again.returncode == 1, "no certificate of the name is valid any more"

    asyncio.run(history())


def test_a_wrong_command_is_explained(tls, blobs, vm) -> None:
    async def history() -> None:
        async with network(tls, blobs) as made, made.vm():
            unnamed = await asyncio.to_thread(vm, made, "ledger-authority approve 0 --by root")
            assert (unnamed.returncode, unnamed.stdout) == (1, "")
            assert "wanted a user principal name" in unnamed.stderr
            unknown = await asyncio.to_thread(vm, made, "ledger-authority grant")
            assert unknown.returncode == 2
            assert unknown.stderr.startswith("usage: ledger-authority "), "the help names the installed command"

    asyncio.run(history())
