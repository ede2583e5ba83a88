"""The guide in docs/, from the first bank to teardown, without the engine that tests/engine/test_guide.py uses."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from lab.azure.consortium import SAMPLE_CONSORTIUM, Consortium, InProcess, SampleBank
from lab.azure.program import PROJECT, read_configuration
from tests.guide import ELSEWHERE, PAGES, all_commands, commands, settings

STACK = "bank-x"
# Signing in, and commands that only read.
WITHOUT_EFFECT = (
    "pulumi login",
    "az ",
    "make preview",
    "pulumi stack init",
    "GROUP=",
    "VM=",
    "for ",
    "pulumi stack output",
)


class Walk:
    """A reader who follows the guide: each command's equivalent in this process."""

    def __init__(self, folder: Path) -> None:
        self.front = InProcess(folder / "banks")
        self.file = folder / f"Pulumi.{STACK}.yaml"
        self.document: dict[str, Any] = {}
        self.opened = 0

    def section(self, name: str) -> None:
        """Write its settings, run its commands."""
        self.document |= settings(name)
        self._write()
        for command in commands(name):
            self._run(re.sub(r"\s+# .*", "", command))

    def _run(self, command: str) -> None:
        if match := re.fullmatch(r"pulumi config set (?:--path )?([\w.]+) (.+)", command):
            self._set(match[1].split("."), match[2])
        elif command == "pulumi up":
            self.front.up(STACK, self.file, read_configuration(self.file).peers)
            state = (self.front.folder / "azure.json").read_text()
            self.opened += "authority-opens-root" in state
        elif command == "pulumi destroy":
            state = json.loads((self.front.folder / "stacks" / f"{STACK}.json").read_text())
            protected = [each["name"] for each in state["resources"].values() if each["protect"]]
            assert protected == [], "Pulumi refuses to destroy protected resources"
            self.front.destroy(STACK, self.file)
        else:
            assert command.startswith((*WITHOUT_EFFECT, f"pulumi stack rm {STACK}")), f"{command!r} is not tested"

    def _set(self, path: list[str], written: str) -> None:
        value = subprocess.check_output(["bash", "-c", f"printf %s {written}"], text=True)
        *steps, last = [f"{PROJECT}:{path[0]}", *path[1:]]
        place = self.document
        for step in steps:
            place = place.setdefault(step, {})
        place[last] = json.loads(value) if value.isdecimal() or value in ("true", "false") else value
        self._write()

    def _write(self) -> None:
        self.file.write_text(yaml.safe_dump({"config": self.document}))


def test_the_guide_works_word_for_word(tmp_path: Path) -> None:
    walk = Walk(tmp_path)
    front, banks = walk.front, Consortium(walk.front, Console(quiet=True))
    bank_b = SAMPLE_CONSORTIUM / "Pulumi.bank-b.yaml"

    walk.section("The first bank")
    alone = front.outputs(STACK)
    assert (alone["connections"], alone["waitsFor"]) == ({}, {}), "a bank without peers waits for nobody"
    front.up("bank-b", bank_b, [])

    walk.section("Joining")
    joined = front.outputs(STACK)
    assert {name: len(each) for name, each in joined["connections"].items()} == {"bank-b": 1, "bank-c": 2}, (
        "bank-b is of the same tenant, bank-c of another"
    )
    assert set(joined["waitsFor"]) == {"bank-b", "bank-c"}, "each peer has to create its half"
    card = tmp_path / "bank-x.json"
    card.write_text(json.dumps(joined["member"]))
    legal_name = walk.document[f"{PROJECT}:bank"]["legalName"]
    newcomer = {"name": STACK, "legalName": legal_name, "card": str(card), "fingerprint": joined["fingerprint"]}
    front.up("bank-b", bank_b, [newcomer])
    banks.banks = {STACK: SampleBank(str(walk.file)), "bank-b": SampleBank(str(bank_b))}
    statuses = {name.split(": ")[1]: status for name, status in banks.links().items() if name.startswith(STACK)}
    ends = joined["connections"]
    assert [statuses[each] for each in ends["bank-b"]] == ["Connected"], "both halves exist, as the guide says"
    assert {statuses[each] for each in ends["bank-c"]} <= {"Connecting", "NotConnected"}, "bank-c has created none"

    walk.section("The ledger's network")
    assert walk.opened == 1, "the founder's run opened the root, since the guide sets rootOpenUntil before it"
    assert front.outputs(STACK)["waitsFor"][STACK] == ["approval of each node's request"], (
        "manual approval is the default"
    )
    walk.section("After `pulumi up`")
    assert set(front.outputs(STACK)["monitoring"]) == {"workbook", "workspace"}
    walk.section("Replacing a leaked key")
    assert front.outputs(STACK)["member"]["keyGenerations"]["link"] == 2
    front.up("bank-b", bank_b, [])
    walk.section("Leaving")
    walk.section("Teardown")
    azure = banks.subscription(STACK)
    left = [each for each in azure.resources.values() if each.subscription_id == azure.account.subscription_id]
    assert left == [], "nothing of a bank that left remains"


def test_skipped_commands_exist_and_have_a_reason() -> None:
    every = [each for section in PAGES for each in all_commands(section)]
    for beginning in ELSEWHERE:
        assert any(each.startswith(beginning) for each in every), f"the guide no longer has a command {beginning}"
