"""Three banks in this process, without an engine: joining, settling, and what the offline Azure refuses."""

import asyncio
import gc
import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pulumi
import pytest
import yaml
from rich.console import Console

from contract.key_agreement import link_public_key
from lab import ROOT
from lab.azure import consortium as command
from lab.azure.azure import Account, OfflineAzure, Subscription
from lab.azure.consortium import SAMPLE_CONSORTIUM, Consortium, Front, InProcess, reference
from lab.azure.program import PROJECT
from lab.azure.rules import AzureError, Resource
from lab.cards import make_card
from tests.configuration import SSH_PUBLIC_KEY
from tests.runs import stack_of

QUIET = Console(quiet=True)
DURABLE = {"keyvault:Vault", "storage:StorageAccount", "dbforpostgresql:Server", "network:VirtualNetworkGateway"}


def write(folder: Path, stack: str, source: Path, **changes: Any) -> Path:
    """A bank's configuration, made from another one's file with changes to its keys; None omits a key."""
    document = yaml.safe_load(source.read_text())
    config = document["config"] | {f"{PROJECT}:{key}": value for key, value in changes.items()}
    path = folder / f"Pulumi.{stack}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump({"config": {key: value for key, value in config.items() if value is not None}}))
    return path


def copied(consortium: Consortium, folder: Path) -> Consortium:
    """A copy of the consortium that a test may change."""
    shutil.copytree(consortium.front.folder, folder)
    return Consortium(InProcess(folder), QUIET)


def resources(front: Front) -> list[Resource]:
    return list(OfflineAzure(front.folder / "azure.json").resources.values())


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Consortium:
    consortium = Consortium(InProcess(tmp_path_factory.mktemp("three") / "banks"), QUIET)
    consortium.sample()
    return consortium


def tracked() -> str:
    files = sorted(SAMPLE_CONSORTIUM.glob("*"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def test_three_banks_are_linked_from_both_sides(three: Consortium) -> None:
    statuses = three.links()
    assert set(statuses.values()) == {"Connected"}, f"one half alone is not connected: {statuses}"
    assert len(statuses) == 10, "one connection each way inside a tenant, two to each instance across tenants"


def test_a_further_run_changes_nothing_and_no_tracked_file(three: Consortium) -> None:
    before = tracked()
    assert three.settled(), "an unchanged bank must have no changes"
    assert tracked() == before, "a run must not change a sample"


def test_a_founders_root_is_open_in_its_first_run_alone(three: Consortium, tmp_path: Path) -> None:
    def opened(front: Front) -> list[str]:
        roles = [each for each in resources(front) if each.short == "authorization:RoleAssignment"]
        return [each.logical_name for each in roles if "/vaults/authority-root-v" in each.inputs["scope"]]

    assert opened(three.front) == [], "the founder's next run has removed the role"
    founder = Consortium(InProcess(tmp_path / "banks"), QUIET)
    founder.front.up("bank-a", SAMPLE_CONSORTIUM / "Pulumi.bank-a.yaml", [], first=True)
    assert opened(founder.front) == ["authority-opens-root"], "in the first run the root could be signed"
    founder.front.up("bank-a", SAMPLE_CONSORTIUM / "Pulumi.bank-a.yaml", [])
    assert opened(founder.front) == []


def test_the_state_has_no_link_key_in_plain_text(three: Consortium) -> None:
    azure = json.loads((three.front.folder / "azure.json").read_text())
    connections = [
        each for each in azure["resources"].values() if each["token"].endswith("VirtualNetworkGatewayConnection")
    ]
    assert connections, "the three banks are connected"
    assert all(each["inputs"]["sharedKey"].startswith("sha256:") for each in connections), (
        "the state has the digest of a pre-shared key, never the key"
    )


def test_a_peer_that_is_not_deployed_is_named_and_nothing_is_created(tmp_path: Path) -> None:
    front = InProcess(tmp_path / "banks")
    with pytest.raises(pulumi.RunError, match=r"peer bank-b: stack .*bank-b: can't be read"):
        front.up(
            "bank-a", SAMPLE_CONSORTIUM / "Pulumi.bank-a.yaml", [reference(SAMPLE_CONSORTIUM / "Pulumi.bank-b.yaml")]
        )
    assert not (front.folder / "azure.json").exists(), "a refused bank creates nothing"


def test_a_gateway_stays_while_the_other_half_refers_to_it(three: Consortium) -> None:
    azure = OfflineAzure(three.front.folder / "azure.json")
    bank_a = azure.account(Account.of("bank-a", "north"))
    (gateway,) = [
        each
        for each in azure.resources.values()
        if each.short == "network:VirtualNetworkGateway" and each.subscription_id == bank_a.account.subscription_id
    ]
    with pytest.raises(AzureError, match="InUse"):
        bank_a.delete(gateway.token, "network-vpn-gateway", gateway.id)


# Invalid peers ---------------------------------------------------------------------------------------------------


def emptied(outputs: dict[str, Any]) -> None:
    outputs.clear()


def newer(outputs: dict[str, Any]) -> None:
    outputs["member"]["schema"] = "2.0"


def altered(outputs: dict[str, Any]) -> None:
    outputs["member"]["linkPublicKey"] = link_public_key(b"x" * 32)


def stolen(outputs: dict[str, Any]) -> None:
    outputs["member"] = make_card("bank-x")


def overlapping(outputs: dict[str, Any]) -> None:
    outputs["member"] = make_card("bank-b", address_space="10.1.128.0/17")


def same_asn(outputs: dict[str, Any]) -> None:
    outputs["member"] = make_card("bank-b", asn=64512)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (emptied, "peer bank-b: stack .*bank-b.*member"),
        (newer, "peer bank-b: .*schema.*2.0"),
        (altered, "peer bank-b: .*signature"),
        (stolen, "peer bank-b: .*bank-x"),
        (overlapping, "bank-b.*overlaps 10.1.128.0/17"),
        (same_asn, "bank-b.*64512"),
    ],
)
def test_an_invalid_peer_is_named_and_nothing_is_changed(
    three: Consortium, tmp_path: Path, spoil: Any, said: str
) -> None:
    consortium = copied(three, tmp_path / "banks")
    front = consortium.front
    stack = front.folder / "stacks" / "bank-b.json"
    state = json.loads(stack.read_text())
    spoil(state["outputs"])
    stack.write_text(json.dumps(state))
    before = (front.folder / "azure.json").read_bytes()
    with pytest.raises(pulumi.RunError, match=f"(?s){said}") as refused:
        front.up("bank-a", SAMPLE_CONSORTIUM / "Pulumi.bank-a.yaml", consortium.banks["bank-a"].peers)
    assert str(refused.value).count("the peers of bank-a can't be linked") == 1, "one message for any mistake"
    assert (front.folder / "azure.json").read_bytes() == before, "a refused run changes nothing"


# Joining and leaving ------------------------------------------------------------------------------------------------


def test_a_bank_leaves_after_its_peers_removed_it_and_may_return(three: Consortium, tmp_path: Path) -> None:
    consortium = copied(three, tmp_path / "banks")
    front, banks = consortium.front, consortium.banks
    source = Path(banks["bank-b"].source)
    others = [stack for stack in banks if stack != "bank-b"]

    with pytest.raises(AzureError, match="InUse"):
        front.destroy("bank-b", source)
    assert json.loads((front.folder / "stacks" / "bank-b.json").read_text())["resources"], (
        "an interrupted removal forgets no existing resource"
    )

    account = Account.of("bank-b", "north")
    for stack in others:
        front.up(stack, Path(banks[stack].source), [peer for peer in banks[stack].peers if peer["name"] != "bank-b"])
    # The removal is completed: a run before that would find the names of the retained secrets in use.
    front.destroy("bank-b", source)
    left = [each for each in resources(front) if each.subscription_id == account.subscription_id]
    assert left == [], "a bank that left pays for nothing"

    del consortium.banks["bank-b"]
    consortium.join(source)
    assert set(consortium.links().values()) == {"Connected"}, "a returning bank is linked as before"


def test_a_fourth_bank_joins_by_hand_and_everything_is_deleted(three: Consortium, tmp_path: Path) -> None:
    consortium = copied(three, tmp_path / "banks")
    source = write(
        tmp_path / "by-hand",
        "bank-d",
        SAMPLE_CONSORTIUM / "Pulumi.bank-b.yaml",
        bank={"name": "bank-d", "legalName": "O=Bank D, L=Cork, C=IE", "asn": 64520},
        addressSpace="10.4.0.0/16",
        peers=None,
    )
    consortium.join(source)
    links = consortium.links()
    # bank-d shares bank-a's and bank-b's tenant, and not bank-c's.
    assert len(links) == 10 + 2 * (1 + 1 + 2), f"bank-d is linked to each of the three, from both sides: {links}"
    assert set(links.values()) == {"Connected"}, links
    consortium.sample()
    assert consortium.links() == links, "deploying the sample again must not delete existing banks"
    consortium.down()
    assert not consortium.front.folder.exists(), "nothing is left of the consortium or of the added bank"


def test_a_removed_peer_may_be_added_again(three: Consortium, tmp_path: Path) -> None:
    consortium = copied(three, tmp_path / "banks")
    front, bank = consortium.front, consortium.banks["bank-a"]
    front.up("bank-a", Path(bank.source), [])
    front.up("bank-a", Path(bank.source), bank.peers)
    assert set(consortium.links().values()) == {"Connected"}, "the retained secrets block nothing"


def test_two_consortia_exist_side_by_side(three: Consortium, tmp_path: Path) -> None:
    def everything() -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in three.front.folder.rglob("*") if path.is_file()}

    before = everything()
    other = Consortium(InProcess(tmp_path / "other"), QUIET)
    other.join(SAMPLE_CONSORTIUM / "Pulumi.bank-a.yaml")
    assert everything() == before, "a consortium is not affected by another"


# Changing a bank ----------------------------------------------------------------------------------------------------


def grown(front: InProcess, folder: Path, size: str, *, protected: bool = True, **nodes: Any) -> dict[str, int]:
    source = write(
        folder,
        "bank",
        ROOT / "Pulumi.dev.yaml",
        size=size,
        deletionProtection=protected,
        ledger={"roles": {"node-1": "notary"}, "network": {"authority": "bank-dev"}},
        nodes={"sshPublicKey": SSH_PUBLIC_KEY, **nodes},
    )
    return front.up("bank", source, [])


def ids(front: InProcess, kinds: set[str]) -> set[str]:
    return {each.id for each in resources(front) if each.short in kinds}


def test_a_bank_changes_its_size_in_place(tmp_path: Path) -> None:
    front = InProcess(tmp_path / "banks")
    grown(front, tmp_path, "small")
    durable = ids(front, DURABLE)
    for size in ("medium", "large"):
        changes = grown(front, tmp_path, size)
        assert set(changes) <= {"create", "update"}, f"growing to {size} deletes nothing: {changes}"
        assert durable <= ids(front, DURABLE), "resources with keys, ledger or addresses are not replaced"

    grown(front, tmp_path, "medium")
    assert durable <= ids(front, DURABLE), "an identity that is added again has its keys and ledger"
    with pytest.raises(AzureError, match="protected, so not deleted: monitoring-workspace"):
        grown(front, tmp_path, "small")
    for size in ("medium", "small"):
        grown(front, tmp_path, size, protected=False)
        assert durable <= ids(front, DURABLE), "only the logs are deleted"


def test_a_changed_model_rolls_every_vm(tmp_path: Path) -> None:
    def models() -> list[str]:
        (scale_set,) = [
            each
            for each in resources(front)
            if each.short == "compute:VirtualMachineScaleSet" and "/nodes-vms" in each.id
        ]
        return list(scale_set.extra["vmModels"])

    front = InProcess(tmp_path / "banks")
    grown(front, tmp_path, "small")
    before = models()
    assert grown(front, tmp_path, "small", vmSize="Standard_D8s_v5") == {"update": 1}, "the scale set, and in place"
    assert len(set(models())) == 1, "no VM may be left behind on an old model"
    assert set(models()).isdisjoint(before), "a VM that keeps its old model never gets the new size"


def test_a_rotated_key_replaces_the_connection_on_both_sides(three: Consortium, tmp_path: Path) -> None:
    consortium = copied(three, tmp_path / "banks")
    front, banks = consortium.front, consortium.banks
    rotated = write(
        tmp_path / "rotated", "bank-a", Path(banks["bank-a"].source), keyGenerations={"link": 2, "signing": 1}
    )
    changes = front.up("bank-a", rotated, banks["bank-a"].peers)
    assert changes.get("replace") == 3 + 1, "each connection, since a PUT does not change a key, and the key"
    assert "Connecting" in set(consortium.links().values()), "only one side has the new key"
    for stack in ("bank-b", "bank-c"):
        front.up(stack, Path(banks[stack].source), banks[stack].peers)
    assert set(consortium.links().values()) == {"Connected"}, "the others derive the new key from the new card"


def test_a_refusal_of_azure_is_reported_once_and_the_next_run_completes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    create = Subscription.create

    def refusing(self: Subscription, token: str, name: str, inputs: Mapping[str, Any]) -> Any:
        if token.endswith(":Vault"):
            raise AzureError("VaultQuotaExceeded")
        return create(self, token, name, inputs)

    close = asyncio.BaseEventLoop.close
    waiting: list[asyncio.Task[Any]] = []

    def closing(loop: asyncio.BaseEventLoop) -> None:
        waiting.extend(asyncio.all_tasks(loop))
        close(loop)

    front = InProcess(tmp_path / "banks")
    with monkeypatch.context() as patch:
        patch.setattr(Subscription, "create", refusing)
        patch.setattr(asyncio.BaseEventLoop, "close", closing)
        with pytest.raises(AzureError, match="VaultQuotaExceeded"):
            grown(front, tmp_path, "small")
    assert waiting == [], "no resource waits for the vault after the run"
    made = {each.id for each in resources(front)}
    assert made, "resources that were created before are there"
    gc.collect()
    assert caplog.messages == [], "resources that depend on the vault are not reported"
    assert set(grown(front, tmp_path, "small")) == {"create"}, "the next run creates the rest"
    assert made < {each.id for each in resources(front)}, "and replaces nothing"
    assert grown(front, tmp_path, "small") == {}, "then nothing is left to change"


# The command --------------------------------------------------------------------------------------------------------


def run_command(*arguments: str) -> int:
    return command.main([*arguments, "--without-engine"])


def test_the_commands_exit_status_says_how_it_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "STATE", tmp_path)
    source = SAMPLE_CONSORTIUM / "Pulumi.bank-a.yaml"
    alone = write(tmp_path / "alone", "bank-a", source, peers=None)
    assert run_command("join", str(alone)) == 0, "a bank without peers is a consortium of one"
    assert "no change" in capsys.readouterr().out, "it says that a further run has no changes"

    with pytest.raises(SystemExit) as usage:
        run_command("join")
    assert usage.value.code == 2, "a missing file is a mistake in the command"
    assert run_command("down") == 0
    assert not (tmp_path / "sample").exists(), "everything is deleted"


def test_options_may_be_before_and_after_a_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "STATE", tmp_path)
    source = str(write(tmp_path / "alone", "bank-a", SAMPLE_CONSORTIUM / "Pulumi.bank-a.yaml", peers=None))
    assert command.main(["join", "--without-engine", "--name", "t", source]) == 0, "options before a file"
    assert command.main(["--name", "t", "--without-engine", "leave", "bank-a"]) == 0, "and before the command"
    assert (tmp_path / "t").is_dir()
    assert not (tmp_path / "sample").exists(), "each consortium has a separate folder"


def test_the_commands_share_one_consortium(
    three: Consortium, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "STATE", tmp_path)
    copied(three, tmp_path / "sample")
    assert run_command("card", "bank-c") == 0
    tracked = json.loads((SAMPLE_CONSORTIUM / "bank-c.json").read_text())
    assert json.loads(capsys.readouterr().out) == tracked, "it prints only the card, which is the tracked one"

    source = write(
        tmp_path / "elsewhere",
        "bank-d",
        SAMPLE_CONSORTIUM / "Pulumi.bank-b.yaml",
        bank={"name": "bank-d", "legalName": "O=Bank D, L=Cork, C=IE", "asn": 64520},
        addressSpace="10.4.0.0/16",
        peers=[
            {"name": "bank-a", "legalName": "O=Bank A, L=London, C=GB", "stack": stack_of("bank-a")},
            {"name": "bank-q", "legalName": "O=Bank Q, L=Cork, C=IE", "stack": stack_of("bank-q")},
        ],
    )
    assert run_command("join", str(source), "--organization", "south") == 0
    assert "bank-q is left out, since it is not up here" in capsys.readouterr().out, "nothing is ignored silently"
    consortium = Consortium(InProcess(tmp_path / "sample"), QUIET)
    ends = {name: status for name, status in consortium.links().items() if name.startswith("bank-d")}
    assert len(ends) == 2 + 2 + 1, (
        f"bank-d belongs to bank-c's organisation, whose links to the others are IPsec: {ends}"
    )
    assert run_command("join", str(source), "--organization", "north") == 1, "a live bank keeps its tenant"
    assert "bank-d is of organisation south here" in capsys.readouterr().err

    assert run_command("leave", "bank-a") == 0
    output = capsys.readouterr().out
    assert "bank-b     its nodes wait without a network: bank-a, which certifies their names, is not a peer" in output
    assert run_command("leave", "bank-a") == 1
    assert "no bank bank-a is up; wanted one of bank-b, bank-c, bank-d" in capsys.readouterr().err


def test_an_incomplete_link_says_who_has_to_act(three: Consortium, tmp_path: Path) -> None:
    consortium = copied(three, tmp_path / "banks")
    bank_b = consortium.banks["bank-b"]
    consortium.front.up("bank-b", Path(bank_b.source), [peer for peer in bank_b.peers if peer["name"] != "bank-a"])
    assert consortium.waiting() == [
        "bank-a waits for bank-b: both halves of the link, each made from the other's newest card"
    ]
    del consortium.banks["bank-b"]
    assert consortium.waiting() == ["bank-a waits for bank-b: it is not up here, so its file joins first"]


# Manual changes in Azure --------------------------------------------------------------------------------------------


def interfere(*arguments: str) -> int:
    return run_command(arguments[0], "bank-b", *arguments[1:])


def test_drift_and_a_refused_request_can_be_simulated(
    three: Consortium, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "STATE", tmp_path)
    copied(three, tmp_path / "sample")
    consortium = Consortium(InProcess(tmp_path / "sample"), QUIET)

    def up() -> dict[str, int]:
        bank = consortium.banks["bank-b"]
        return consortium.front.up("bank-b", Path(bank.source), bank.peers)

    assert interfere("drift", "nodes-vms", "sku.capacity=9") == 0
    (scale_set,) = [
        each
        for each in resources(consortium.front)
        if each.logical_name == "nodes-vms" and each.subscription_id == Account.of("bank-b", "north").subscription_id
    ]
    assert scale_set.inputs["sku"]["capacity"] == 9
    assert interfere("drift", "network-nat") == 0
    assert interfere("refuse", "NatGateway/network-nat", "SkuNotAvailable: none left") == 0
    with pytest.raises(AzureError, match="network-nat: SkuNotAvailable: none left"):
        up()
    assert interfere("allow", "NatGateway/network-nat") == 0
    assert up()["create"] >= 1, "the deleted resource is created again"

    for arguments, said in [
        (("drift", "nodes-vmx", "sku.capacity=9"), "no resource is called nodes-vmx; wanted a logical name"),
        (("drift", "nodes-vms", "sku.size=9"), "sku.size: no size; wanted one of capacity, name, tier"),
        (("drift", "nodes-vms", "zones.7=1"), "zones.7: no 7; wanted"),
        (("drift", "nodes-vms", "sku.capacity.x=9"), "sku.capacity.x: no x; wanted nothing below it"),
    ]:
        assert interfere(*arguments) == 1
        assert said in capsys.readouterr().err


def test_two_processes_do_not_overwrite_each_others_state(tmp_path: Path) -> None:
    one, other = (OfflineAzure(tmp_path / "azure.json") for _ in range(2))
    group = ("azure-native:resources:ResourceGroup", "group", {"resourceGroupName": "one", "location": "here"})
    one.account(Account.of("bank-a", "north")).create(*group)
    with pytest.raises(AzureError, match=r"another run changed .*azure\.json; wanted one at a time"):
        other.account(Account.of("bank-b", "north")).create(*group)
    other = OfflineAzure(tmp_path / "azure.json")
    other.account(Account.of("bank-b", "north")).create(*group)
    one.read_file()
    assert len(one.resources) == 2, "a run begins with the state of the last one"


def test_the_command_runs_again_without_changes(
    three: Consortium, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "STATE", tmp_path)
    copied(three, tmp_path / "sample")
    assert run_command("up") == 0, "all banks are deployed and linked"
    assert "Connected" in capsys.readouterr().out, "it shows the state of each link"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "No such file"),
        ("", "holds no `config`; wanted a stack's configuration"),
        ("config: [bank", "expected ',' or ']'"),
        (f"config: {{{PROJECT}:size: huge}}", "huge"),
    ],
)
def test_the_command_says_what_is_wrong_with_a_file(
    text: str | None, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "STATE", tmp_path)
    source = tmp_path / "Pulumi.bank-x.yaml"
    if text is not None:
        source.write_text(text)
    assert run_command("join", str(source)) == 1, "a refused bank is a failure"
    output = capsys.readouterr().err
    assert said in output, f"it says what is wrong: {output}"
    assert output.count("error:") == 1, f"in one message: {output}"
    assert "Traceback" not in output, "an operator reads sentences, not Python"


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("create", "created"),
        ("discard", "discarded"),
        ("read", "read"),
        ("create-replacement", "created-replacement"),
    ],
)
def test_progress_is_printed_in_words(kind: str, said: str) -> None:
    assert command._done(kind) == said, "users read it while they wait"
