"""Three banks in this process, without an engine: joining, settling, and what the offline Azure refuses."""

import hashlib
import json
from pathlib import Path

import pulumi
import pytest
from rich.console import Console

from offline.azure import Account, OfflineAzure
from offline.consortium import SAMPLE, Consortium, InProcess, reference
from offline.rules import AzureError

QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Consortium:
    consortium = Consortium(InProcess(tmp_path_factory.mktemp("three") / "banks"), QUIET)
    consortium.sample()
    return consortium


def tracked() -> str:
    files = sorted(SAMPLE.glob("*"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def test_three_banks_are_linked_from_both_sides(three: Consortium) -> None:
    statuses = three.links()
    assert set(statuses.values()) == {"Connected"}, f"a half alone carries nothing: {statuses}"
    assert len(statuses) == 10, "one connection each way inside a tenant, two to each instance across tenants"


def test_a_further_run_changes_nothing_and_no_tracked_file(three: Consortium) -> None:
    before = tracked()
    assert three.settled(), "a bank that changed nothing must be told that nothing changes"
    assert tracked() == before, "a sample is never changed by a run"


def test_state_holds_no_link_key_in_clear(three: Consortium) -> None:
    azure = json.loads((three.front.folder / "azure.json").read_text())
    connections = [
        each for each in azure["resources"].values() if each["token"].endswith("VirtualNetworkGatewayConnection")
    ]
    assert connections, "the three banks are connected"
    assert all(each["inputs"]["sharedKey"].startswith("sha256:") for each in connections), (
        "of a pre-shared key a digest is kept, never the key"
    )


def test_a_peer_that_is_not_up_is_named_and_nothing_is_made(tmp_path: Path) -> None:
    front = InProcess(tmp_path / "banks")
    with pytest.raises(pulumi.RunError, match=r"peer bank-b: stack .*bank-b: can't be read"):
        front.up("bank-a", SAMPLE / "Pulumi.bank-a.yaml", [reference("bank-b", "bank-b")])
    assert not (front.folder / "azure.json").exists(), "a refused bank makes nothing"


def test_a_gateway_stays_while_the_other_half_points_at_it(three: Consortium) -> None:
    azure = OfflineAzure(three.front.folder / "azure.json")
    bank_a = azure.account(Account.of("bank-a", "north"))
    (gateway,) = [
        each
        for each in azure.resources.values()
        if each.short == "network:VirtualNetworkGateway" and each.subscription_id == bank_a.account.subscription_id
    ]
    with pytest.raises(AzureError, match="InUse"):
        bank_a.delete(gateway.token, "network-vpn-gateway", gateway.id)
