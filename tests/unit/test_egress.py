"""Connections that a node's processes may open, as rules of the VM's firewall."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from contract.egress import ANY_PUBLIC, Egress, nftables
from contract.users import CONFINED, NODE_USERS, PROGRAM, TOOL

RULES = nftables([Egress(("10.1.1.64/27",), (5432,)), Egress(("10.0.0.0/8", "192.168.0.0/16"), range(10000, 10100))])


def test_the_rules_accept_the_named_destinations_and_refuse_all_others() -> None:
    confined = RULES.split("chain confined {")[1].split("}\n}")[0]
    lines = [line.strip() for line in confined.strip().splitlines()]
    refused = "counter reject with icmpx admin-prohibited"
    assert lines == [
        f"meta skuid {TOOL.number} {refused}",
        "ct state established,related accept",
        f"tcp dport 20049-21049 {refused}",
        'oifname "lo" accept',
        "ip daddr { 10.1.1.64/27 } tcp dport { 5432 } accept",
        "ip daddr { 10.0.0.0/8, 192.168.0.0/16 } tcp dport { 10000-10099 } accept",
        refused,
    ], "a rejected connection fails at once, while the node would wait for a dropped packet"


def test_every_node_and_the_tool_are_confined_and_the_agent_is_not() -> None:
    assert {user.number for user in (*NODE_USERS.values(), TOOL)} == set(CONFINED)
    assert PROGRAM.number not in CONFINED
    assert f"meta skuid {CONFINED[0]}-{CONFINED[-1]} jump confined" in RULES


def test_the_internet_excludes_azures_own_services_and_private_addresses() -> None:
    (rule,) = (line for line in nftables([Egress(ANY_PUBLIC, (443,))]).splitlines() if "daddr" in line)
    assert "ip daddr != {" in rule
    for block in ("169.254.0.0/16", "168.63.129.16", "10.0.0.0/8", "127.0.0.0/8"):
        assert block in rule, f"{block} is not part of the internet"


@pytest.mark.parametrize(("destinations", "ports"), [((), (443,)), ([], (443,)), (("10.1.1.64/27",), ())])
def test_no_destinations_or_no_ports_are_refused(destinations: Sequence[str], ports: Sequence[int]) -> None:
    with pytest.raises(ValueError, match="wanted one of each at least"):
        Egress(destinations, ports)


@pytest.mark.skipif(shutil.which("nft") is None, reason="no nft here")
@pytest.mark.parametrize("rules", [RULES, nftables([]), nftables([Egress(ANY_PUBLIC, (80, 443))])])
def test_nft_takes_the_rules(tmp_path: Path, rules: str) -> None:
    path = tmp_path / "egress.nft"
    path.write_text(rules * 2)
    checked = subprocess.run(["nft", "--check", "--file", str(path)], capture_output=True, text=True, check=False)
    if "Operation not permitted" in checked.stderr:
        pytest.skip("nft asks the kernel, which only root may")
    assert checked.returncode == 0, f"loading them again replaces them: {checked.stderr}"
