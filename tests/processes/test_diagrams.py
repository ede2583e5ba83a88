"""Pictures of planned stacks: those of the documents, and of a consortium in its own folder."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from docs.diagrams.__main__ import PICTURES, stale_files
from docs.diagrams.mermaid import mermaid
from docs.diagrams.planned import planned_picture
from lab.azure.consortium import SAMPLE_CONSORTIUM, full_name
from lab.azure.program import PEERS_KEY, PROJECT
from lab.azure.stack_file import StackFileError


@pytest.mark.parametrize("name", PICTURES)
def test_the_command_draws_readmes_pictures(name: str):
    stale = stale_files(name, planned_picture(PICTURES[name]))
    assert not stale, "tests/program compares them with runs that differ from the command's plans"


def test_a_new_bank_is_drawn_with_its_links(tmp_path: Path):
    folder = tmp_path / "consortium"
    shutil.copytree(SAMPLE_CONSORTIUM, folder)
    stacks = {name: _read(folder / f"Pulumi.{name}.yaml") for name in ("bank-a", "bank-b", "bank-c")}
    newcomer = _read(folder / "Pulumi.bank-b.yaml")
    newcomer[f"{PROJECT}:bank"] = {"name": "bank-d", "legalName": "O=Bank D, L=Oslo, C=NO", "asn": 64515}
    newcomer[f"{PROJECT}:addressSpace"] = "10.4.0.0/16"
    newcomer[PEERS_KEY] = [_peer(name, each) for name, each in stacks.items()]
    for each in stacks.values():
        each[PEERS_KEY].append(_peer("bank-d", newcomer))
    for name, each in {**stacks, "bank-d": newcomer}.items():
        (folder / f"Pulumi.{name}.yaml").write_text(yaml.safe_dump({"config": each}), encoding="utf-8")
    banks = {"bank-a": "north", "bank-b": "north", "bank-c": "south", "bank-d": "south"}
    (folder / "consortium.yaml").write_text(yaml.safe_dump({"banks": banks}), encoding="utf-8")

    drawn = mermaid(planned_picture(str(folder)))

    assert "certifies bank-a, bank-b, bank-c, bank-d" in drawn
    assert '  bank_c_network <==>|"VNet-to-VNet<br/>1 connection a side"| bank_d_network' in drawn, "one tenant"
    assert '  bank_a_network <==>|"IPsec<br/>2 connections a side"| bank_d_network' in drawn, "two tenants"


def test_a_listed_bank_without_a_file_is_refused(tmp_path: Path):
    (tmp_path / "consortium.yaml").write_text("banks:\n  bank-x: north\n", encoding="utf-8")
    with pytest.raises(StackFileError, match=r"Pulumi\.bank-x\.yaml: can't be read"):
        planned_picture(str(tmp_path))


def _read(file: Path) -> dict[str, Any]:
    return yaml.safe_load(file.read_text(encoding="utf-8"))["config"]


def _peer(name: str, configuration: dict[str, Any]) -> dict[str, str]:
    return {"name": name, "legalName": configuration[f"{PROJECT}:bank"]["legalName"], "stack": full_name(name)}
