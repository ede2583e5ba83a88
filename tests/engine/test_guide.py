"""The guide in docs/, word for word, from the first bank to teardown: in a copy of the project, by the real CLI."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab import ROOT
from lab.azure.azure import OfflineAzure
from lab.azure.consortium import SAMPLE_CONSORTIUM, OnEngine
from lab.azure.engine import Engine, find_cli
from tests.guide import commands, settings

pytestmark = [
    pytest.mark.skipif(find_cli() is None, reason="no Pulumi CLI on PATH or in ~/.pulumi/bin"),
    pytest.mark.skipif(shutil.which("jq") is None, reason="no jq, which the guide requires"),
]

STACK = "bank-x"
BACKEND = "azblob://pulumi?storage_account=bankxstate"


class Clone(Engine):
    """The engine in a copy of the project, as in a clone."""

    @property
    def project(self) -> Path:
        """The copy."""
        return self.folder / "clone"

    def _lay_out_project(self) -> None:
        if self.project.exists():
            return
        others = shutil.ignore_patterns(".*", "__pycache__", "target", "node_modules")
        shutil.copytree(ROOT, self.project, ignore=others)
        (self.project / ".venv").symlink_to(sys.prefix)


class Walk:
    """A reader who follows the guide at a terminal, and answers each question of Pulumi with yes."""

    def __init__(self, folder: Path) -> None:
        self.engine = Clone(root=folder)
        self.front = OnEngine(self.engine)
        self._bin = folder / "bin"
        self._bin.mkdir()
        az = self._bin / "az"
        az.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m tests.engine.az "$@"\n')
        az.chmod(0o755)
        self._environment = {
            "PULUMI_HOME": str(folder / "home"),
            "PULUMI_SKIP_CONFIRMATIONS": "true",
            "AZURE": str(self.engine.folder / "azure.json"),
        }

    def section(self, name: str) -> str:
        """Write its settings into the stack's file, and run its commands in one shell; returns their output."""
        file = self.engine.configuration_of(STACK)
        document = yaml.safe_load(file.read_text()) if file.exists() else {"config": {}}
        document["config"] |= settings(name)
        file.write_text(yaml.safe_dump(document))
        said = self.engine.folder / "said"
        script = "\n".join(commands(name)).replace(BACKEND, f"file://{self.engine.folder / 'backend'}")
        environment = "\n".join(f"export {key}='{value}'" for key, value in self._environment.items())
        path = f'{environment}\nexport PATH="{self._bin}:$PATH"\nexec > {said} 2>&1\nset -euo pipefail\n{script}\n'
        assert self.engine.shell(["bash", "-c", path]) == 0, f"{name}: {said.read_text()}"
        return said.read_text()

    def outputs(self) -> dict[str, Any]:
        return self.engine.outputs(STACK)


def test_the_guide_works_word_for_word(tmp_path: Path) -> None:
    walk = Walk(tmp_path)
    bank_b = SAMPLE_CONSORTIUM / "Pulumi.bank-b.yaml"
    walk.front.up("bank-b", bank_b, [])

    walk.section("The first bank")
    assert walk.outputs()["waitsFor"] == {}, "a bank without peers waits for nobody"
    walk.section("Joining")
    sent = json.loads((walk.engine.project / f"{STACK}.json").read_text())
    assert sent == walk.outputs()["member"], "the file that the new member sends is its card"
    newcomer = {
        "name": STACK,
        "legalName": settings("The first bank")["decentralized-trust:bank"]["legalName"],
        "card": f"{STACK}.json",
        "fingerprint": walk.outputs()["fingerprint"],
    }
    walk.front.up("bank-b", bank_b, [newcomer])
    said = walk.section("The ledger's network")
    asked = [line.split(" ", 1) for line in said.splitlines() if " ledger-authority " in line]
    assert [command for _, command in asked] == [
        "ledger-authority pending",
        "ledger-authority approve ID --by alice@bank-x.example",
        "ledger-authority list",
    ], f"one of the authority's VMs runs each command: {said}"
    assert len({vm for vm, _ in asked}) == 1, "it is the same VM"
    said = walk.section("After `pulumi up`")
    assert '"approval of each node\'s request"' in said, "the output says what other members have to do"
    assert said.count("Connected\n") == 1, f"bank-b's half exists: {said}"
    assert said.count("Connecting\n") + said.count("NotConnected\n") == 2, f"and bank-c's halves do not: {said}"
    assert said.count("curl --silent localhost:8080/health") == 7, "each VM of a medium bank answers"

    walk.section("Replacing a leaked key")
    assert walk.outputs()["member"]["keyGenerations"]["link"] == 2
    walk.front.up("bank-b", bank_b, [])
    walk.section("Leaving")
    walk.section("Teardown")
    assert not walk.engine.has(STACK), "the stack is deleted"
    groups = [
        each.inputs["resourceGroupName"]
        for each in OfflineAzure(walk.engine.folder / "azure.json").resources.values()
        if each.short == "resources:ResourceGroup"
    ]
    assert [group.startswith("bank-b") for group in groups] == [True], f"only bank-b has resources left: {groups}"
