"""Tests that need the real engine: previews, in-place updates and replacements, stack references, encrypted state."""

import base64
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import yaml
from rich.console import Console

from contract.card import signing_public_key
from contract.fingerprint import fingerprint
from lab import ROOT
from lab.azure.azure import Account, OfflineAzure
from lab.azure.consortium import SAMPLE_CONSORTIUM, Consortium, InProcess, OnEngine
from lab.azure.engine import Engine, EngineError, find_cli
from lab.azure.plan import planned
from lab.azure.plan.__main__ import main as plan
from lab.azure.program import PROJECT, read_configuration
from lab.azure.rules import Resource
from lab.cards import make_card, resigned, signing_seed
from stack.settings import EXPRESS_ROUTE_KEY
from tests.configuration import IMAGE_ID, SSH_PUBLIC_KEY
from tests.program.test_stack_file import table
from tests.runs import CIRCUIT

pytestmark = [
    pytest.mark.skipif(find_cli() is None, reason="no Pulumi CLI on PATH or in ~/.pulumi/bin"),
]

DURABLE = {
    "azure-native:keyvault:Vault",
    "azure-native:storage:StorageAccount",
    "azure-native:dbforpostgresql:Server",
    "azure-native:network:VirtualNetworkGateway",
    "azure-native:network:PublicIPAddress",
}
QUIET = Console(quiet=True)


def member(engine: Engine, stack: str, **changes: Any) -> None:
    """Prepare a bank with the development sample's configuration and changes by key; its first node is the notary."""
    changes = {"ledger": {"roles": {"node-1": "notary"}, "network": {"authority": "bank-dev"}}, **changes}
    engine.prepare(
        stack,
        source=ROOT / "Pulumi.dev.yaml",
        changes={f"{PROJECT}:{key}": value for key, value in changes.items()},
    )


def steps(engine: Engine, stack: str) -> list[tuple[str, str, str]]:
    """Operation, type and logical name of each change in a preview."""
    preview = json.loads(engine.on_azure(stack, ["preview", "--json"]))
    return [
        (step["op"], step["urn"].split("::")[2].split("$")[-1], step["urn"].split("::", 3)[3])
        for step in preview["steps"]
        if step["op"] not in ("same", "read")
    ]


def up(engine: Engine, stack: str) -> None:
    engine.on_azure(stack, ["up", "--yes", "--skip-preview", "--suppress-outputs"])


@pytest.mark.parametrize("size", ["small", "medium", "large"])
def test_each_size_can_be_created_rerun_without_changes_and_destroyed(tmp_path: Path, size: str) -> None:
    engine = Engine(root=tmp_path)
    member(engine, "bank", size=size)
    up(engine, "bank")
    assert steps(engine, "bank") == [], "an unchanged bank must have an empty preview"
    engine.on_azure("bank", ["refresh", "--yes", "--expect-no-changes"])
    assert steps(engine, "bank") == [], "a refresh without drift must cause no change"
    engine.on_azure("bank", ["destroy", "--yes", "--skip-preview"])
    left = list(OfflineAzure(tmp_path / "default" / "azure.json").resources.values())
    assert left == [], "remaining resources would cost money, or expose data"


def test_a_bank_changes_its_size_in_place(tmp_path: Path) -> None:
    engine = Engine(root=tmp_path)
    nodes = {"sshPublicKey": SSH_PUBLIC_KEY}
    member(engine, "bank", size="small", deletionProtection=True, nodes=nodes)
    up(engine, "bank")
    for size in ("medium", "large"):
        member(engine, "bank", size=size, deletionProtection=True, nodes=nodes)
        lost = [step for step in steps(engine, "bank") if step[0] != "create" and step[0] != "update"]
        assert lost == [], f"growing to {size} must not delete or replace resources with keys, ledger or addresses"
        up(engine, "bank")

    member(engine, "bank", size="medium", deletionProtection=True, nodes=nodes)
    gone = [step for step in steps(engine, "bank") if step[0] != "update"]
    assert not [step for step in gone if step[1] in DURABLE], (
        "an identity that is added again needs its keys and ledger"
    )
    up(engine, "bank")


def test_a_file_that_another_secrets_provider_encrypted_is_previewed(tmp_path: Path) -> None:
    document = yaml.safe_load((ROOT / "Pulumi.dev.yaml").read_text(encoding="utf-8"))
    document["encryptionsalt"] = "v1:a/v+F4DrqH8=:v1:Z4wxYdJwn4Ej91U4:Wvggy7lyTi3yWQ5qfpRLHmocT//peg=="
    document["config"] |= {
        f"{PROJECT}:connectivity": {"vpn": {}, "expressRoute": {"circuitId": CIRCUIT}},
        f"{PROJECT}:{EXPRESS_ROUTE_KEY}": {"secure": "v1:gEezwE/yHgui/lyv:dlOoGMEusf08LUnHfmjLv1gQpQb8Fw=="},
    }
    source = tmp_path / "Pulumi.bank.yaml"
    source.write_text(yaml.safe_dump(document), encoding="utf-8")
    engine = Engine(root=tmp_path / "offline")
    assert [engine.prepare("bank", source=source) for _ in range(2)] == [[], []], "nobody changed it by hand"
    created = {name for _, _, name in steps(engine, "bank")}
    assert "network-express-route-connection" in created, "the passphrase of a live stack must not be wanted here"


def test_the_card_counter_rises_only_when_the_card_changes(tmp_path: Path) -> None:
    engine, counters = Engine(root=tmp_path), []
    bank = {"name": "bank-dev", "legalName": "O=Development Bank, L=Amsterdam, C=NL"}
    for asn in (64900, 64900, 64901, 64901):
        member(engine, "bank", bank={**bank, "asn": asn})
        up(engine, "bank")
        counters.append(engine.outputs("bank")["member"]["counter"])
    assert counters == [1, 1, 2, 2], "each change of the card raises the counter, nothing else does"
    assert steps(engine, "bank") == [], "the counter itself must not cause another change"


def test_an_upgraded_database_server_keeps_its_version(tmp_path: Path) -> None:
    engine = Engine(root=tmp_path)
    member(engine, "bank")
    up(engine, "bank")

    def server(azure: OfflineAzure) -> Resource:
        (found,) = (each for each in azure.resources.values() if each.short == "dbforpostgresql:Server")
        return found

    azure = OfflineAzure(engine.folder / "azure.json")
    # As `az postgres flexible-server upgrade` does.
    server(azure).inputs = {**server(azure).inputs, "version": "18"}
    azure.save()
    engine.on_azure("bank", ["refresh", "--yes"])
    assert steps(engine, "bank") == [], "the version in the program is only for new servers"
    member(engine, "bank", database={"sku": "Standard_D4ds_v5"})
    up(engine, "bank")
    after = server(OfflineAzure(engine.folder / "azure.json")).inputs
    assert (after["version"], after["sku"]["name"]) == ("18", "Standard_D4ds_v5"), "an update must not downgrade"


def test_a_changed_model_rolls_every_vm(tmp_path: Path) -> None:
    engine = Engine(root=tmp_path)
    nodes = {"sshPublicKey": SSH_PUBLIC_KEY}
    member(engine, "bank", nodes=nodes)
    up(engine, "bank")
    before = vm_models(engine)
    member(
        engine, "bank", nodes={"sshPublicKey": SSH_PUBLIC_KEY, "vmSize": "Standard_D8s_v5", "encryptionAtHost": False}
    )
    changes = steps(engine, "bank")
    assert sorted((op, name) for op, _, name in changes) == [
        ("update", "authority-hosts-vms"),
        ("update", "nodes-vms"),
    ], "only the scale sets change; encryption at host also concerns the authority's VMs"
    up(engine, "bank")
    after = vm_models(engine)
    assert len(set(after)) == 1, "no VM may keep an old model"
    assert set(after).isdisjoint(before), "a VM with its old model would never get the new configuration"


def test_an_image_of_another_type_makes_another_scale_set(tmp_path: Path) -> None:
    engine = Engine(root=tmp_path)
    member(engine, "bank", nodes={"sshPublicKey": SSH_PUBLIC_KEY})
    up(engine, "bank")
    before = vm_models(engine)
    member(engine, "bank", nodes={"sshPublicKey": SSH_PUBLIC_KEY, "image": {"id": IMAGE_ID}})
    changes = steps(engine, "bank")
    assert {name for op, _, name in changes if "replace" in op} == {"nodes-vms", "authority-hosts-vms"}, (
        "Azure refuses the change in place, and nothing depends on a scale set"
    )
    up(engine, "bank")
    assert set(vm_models(engine)).isdisjoint(before), "one scale set is left, with the image"
    member(
        engine, "bank", nodes={"sshPublicKey": SSH_PUBLIC_KEY, "image": {"id": IMAGE_ID.replace("1.0.0", "1.0.1")}}
    )
    assert {op for op, _, _ in steps(engine, "bank")} == {"update"}, "another image of a gallery rolls through"


def vm_models(engine: Engine) -> list[str]:
    resources = OfflineAzure(engine.folder / "azure.json").resources.values()
    (scale_set,) = [
        each for each in resources if each.short == "compute:VirtualMachineScaleSet" and "/nodes-vms" in each.id
    ]
    return list(scale_set.extra["vmModels"])


@pytest.fixture(scope="module")
def consortium(tmp_path_factory: pytest.TempPathFactory) -> Consortium:
    """Three banks on the engine, each linked to both others; bank-b's stack has another passphrase."""
    made = Consortium(TwoPassphrases(Engine("three", tmp_path_factory.mktemp("engine"))), QUIET)
    made.sample()
    return made


class TwoPassphrases(OnEngine):
    """The engine front, with another passphrase for the stack of bank-b."""

    def up(self, stack: str, source: Path, peers: Any, *, first: bool = False) -> dict[str, int]:
        return OnEngine(self._of(stack)).up(stack, source, peers, first=first)

    def unchanged(self, stack: str, source: Path, peers: Any) -> bool:
        return OnEngine(self._of(stack)).unchanged(stack, source, peers)

    def outputs(self, stack: str) -> dict[str, Any]:
        return self._of(stack).outputs(stack)

    def _of(self, stack: str) -> Engine:
        other = {"PULUMI_CONFIG_PASSPHRASE": "another bank's passphrase"} if stack == "bank-b" else {}
        return Engine(self.engine.consortium, self.engine.root, environment=other)


def test_three_banks_are_linked_and_a_further_run_changes_nothing(consortium: Consortium) -> None:
    statuses = consortium.links()
    assert set(statuses.values()) == {"Connected"}, f"both sides must have created each link: {statuses}"
    assert len(statuses) == 10, "bank-a and bank-b share one connection each way, bank-c two with each of them"
    assert consortium.settled(), "a further run of each bank must find nothing to do"


def test_engine_and_mocks_create_the_same_resources(consortium: Consortium, tmp_path: Path) -> None:
    without = Consortium(InProcess(tmp_path / "three"), QUIET)
    without.sample()
    assert made(without) == made(consortium), "the resources must be the same with and without the CLI"
    assert Counter(without.links().values()) == Counter(consortium.links().values()), "and the same links"


def made(consortium: Consortium) -> Counter[tuple[str, str]]:
    """The number of resources by subscription and type; physical names differ, since the engine seeds them."""
    return Counter((each.subscription_id, each.short) for each in resources_of(consortium))


def resources_of(consortium: Consortium) -> list[Resource]:
    """Everything in the offline Azure of a consortium."""
    return list(OfflineAzure(consortium.front.folder / "azure.json").resources.values())


def test_no_secret_is_in_plain_text_anywhere(consortium: Consortium) -> None:
    engine = consortium.front.engine  # type: ignore[attr-defined]
    open_state = engine.run(["stack", "export", "--show-secrets", "--stack", "bank-a"])
    resources = json.loads(open_state)["deployment"]["resources"]
    known = [
        json.loads(each["outputs"][key]["plaintext"])
        for each in resources
        for key in ("base64", "hex", "sharedKey")
        if isinstance(each.get("outputs", {}).get(key), dict)
    ]
    assert len(known) == 3 * 2 + 3, "two key pairs, the database's first administrator, the keys of three connections"
    places = {
        "the stack's state": engine.run(["stack", "export", "--stack", "bank-a"]),
        "the outputs": engine.run(["stack", "output", "--json", "--show-secrets", "--stack", "bank-a"]),
        "a preview's log": engine.on_azure("bank-a", ["preview", "--diff", "--logtostderr", "-v=3"]),
        "the offline Azure": (engine.folder / "azure.json").read_text(),
    }
    for place, text in places.items():
        assert not [secret for secret in known if secret in text], f"{place} has a secret in plain text"
    custom_data = next(each for each in resources if each["type"].endswith("VirtualMachineScaleSet"))["inputs"]
    assert not [secret for secret in known if secret in json.dumps(custom_data)], (
        "every process on the VM can read custom data"
    )


def test_a_rotated_key_replaces_the_connection_on_both_sides(consortium: Consortium) -> None:
    front = consortium.front
    assert isinstance(front, TwoPassphrases)
    bank = consortium.banks["bank-a"]
    document = yaml.safe_load(Path(bank.source).read_text())
    document["config"][f"{PROJECT}:keyGenerations"] = {"link": 2}
    rotated = front.folder / "rotated" / "Pulumi.bank-a.yaml"
    rotated.parent.mkdir()
    rotated.write_text(yaml.safe_dump(document))
    changes = front.up("bank-a", rotated, bank.peers)
    # A generation never decreases, so later runs need this configuration.
    consortium.banks["bank-a"] = replace(bank, source=str(rotated))
    assert changes.get("replace", 0) + changes.get("create-replacement", 0) >= 3, "a PUT does not change a shared key"
    assert "Connecting" in set(consortium.links().values()), "only one side has the new key yet"
    read_the_new_card(consortium, "bank-b", "bank-c")
    assert set(consortium.links().values()) == {"Connected"}, "the other sides derive the new key from the new card"


def read_the_new_card(consortium: Consortium, *stacks: str) -> None:
    """Update banks whose peer's card changed. The consortium is settled again, whatever test comes next."""
    for stack in stacks:
        consortium.front.up(stack, Path(consortium.banks[stack].source), consortium.banks[stack].peers)


def test_a_gateway_of_another_generation_is_made_after_its_connections_are_deleted(consortium: Consortium) -> None:
    front, bank = consortium.front, consortium.banks["bank-c"]
    document = yaml.safe_load(Path(bank.source).read_text())
    document["config"] |= {
        f"{PROJECT}:connectivity": {"vpn": {"sku": "VpnGw2AZ"}},
        f"{PROJECT}:deletionProtection": False,
    }
    resized = front.folder / "resized" / "Pulumi.bank-c.yaml"
    resized.parent.mkdir()
    resized.write_text(yaml.safe_dump(document))
    front.up("bank-c", resized, bank.peers)
    consortium.banks["bank-c"] = replace(bank, source=str(resized))
    gateways = [each for each in resources_of(consortium) if each.short == "network:VirtualNetworkGateway"]
    assert "Generation2" in {each.inputs["vpnGatewayGeneration"] for each in gateways}, (
        "Azure deletes no gateway that a connection names"
    )
    assert set(consortium.links().values()) == {"Connected"}, "addresses and keys are as before"
    read_the_new_card(consortium, "bank-a", "bank-b")


def test_a_missing_peer_stack_is_reported_in_one_message(tmp_path: Path) -> None:
    engine = Engine(root=tmp_path)
    missing = [
        {
            "name": "bank-x",
            "legalName": "O=Bank X, L=Paris, C=FR",
            "stack": "organization/decentralized-trust/bank-x",
        }
    ]
    member(engine, "bank", peers=missing)
    with pytest.raises(EngineError) as refused:
        engine.on_azure("bank", ["preview"])
    assert "peer bank-x: stack organization/decentralized-trust/bank-x: can't be read (unknown stack" in str(
        refused.value
    )
    assert "Traceback" not in str(refused.value), "an operator needs a sentence, not a Python traceback"


_REFERENCE = {
    # pulumi/pulumi, sdk/go/common/resource/properties.go: the signature of a value, and that of a resource.
    "4dabf18193072939515e22adb298388d": "5cf8f73096256a8f31e491e813e4eb8e",
    "urn": "urn:pulumi:bank-b::decentralized-trust::azure-native:network:Subnet::none",
    "id": "none",
    "packageVersion": "3.29.0",
}


def test_a_missing_stack_is_not_taken_for_a_file(tmp_path: Path) -> None:
    path = str(tmp_path / "Pulumi.bank-x.yaml")
    with pytest.raises(EngineError) as refused:
        Engine(root=tmp_path).prepare(path)
    assert str(refused.value).startswith(f"stack {path[:200]} is not deployed, and no sample has that name; wanted")
    assert f"Pulumi.{path}" not in str(refused.value), "the message names no file"


def test_a_resource_among_a_peers_outputs_does_not_end_an_update(tmp_path: Path) -> None:
    engine = Engine(root=tmp_path)
    engine.stand_in("bank-b", {"member": make_card("bank-b"), "more": _REFERENCE})
    peer = {"name": "bank-b", "legalName": "O=Bank B, L=London, C=GB", "stack": f"organization/{PROJECT}/bank-b"}
    member(engine, "bank", peers=[{**peer, "link": "ipsec"}])
    up(engine, "bank")
    assert steps(engine, "bank") == [], "the peer's resources must not be looked up in this stack"
    engine.stand_in("bank-b", {"member": _REFERENCE})
    with pytest.raises(EngineError) as failed:
        up(engine, "bank")
    assert "peer bank-b: stack organization/decentralized-trust/bank-b: holds a str" in str(failed.value)


def test_a_peers_gateway_is_looked_up_before_anything_is_made(tmp_path: Path) -> None:
    engine, own = Engine(root=tmp_path), Account.of("bank-dev", "north")
    seed = signing_seed("bank-b")

    def publish(subscription: str) -> str:
        card = make_card("bank-b", tenant_id=own.tenant_id)
        gateway = card["gateway"]["id"].replace(own.tenant_id, subscription)
        card["gateway"] = {**card["gateway"], "id": gateway}
        engine.stand_in("bank-b", {"member": resigned(card, seed)})
        return f"peers[0] bank-b: its gateway.id is {gateway}, which"

    gone = publish(own.subscription_id)
    peer = {"name": "bank-b", "legalName": "O=Bank B, L=London, C=GB", "stack": f"organization/{PROJECT}/bank-b"}
    member(engine, "bank", peers=[peer])
    for command in (["preview"], ["up", "--yes", "--skip-preview"]):
        with pytest.raises(EngineError) as refused:
            engine.on_azure("bank", command)
        assert f'{gone} does not exist (Status=404 Code="ResourceNotFound"' in str(refused.value), (
            "and what was wanted"
        )
        assert "Traceback" not in str(refused.value)
    azure = OfflineAzure(engine.folder / "azure.json")
    azure.account(Account(own.tenant_id, subscription_id=str(UUID(int=7)), deployer_id=str(UUID(int=8))))
    azure.save()
    unread = publish(str(UUID(int=7)))
    assert f"{unread} can't be read (Status=403" in engine.on_azure("bank", ["preview"]), "a warning"
    with pytest.raises(EngineError) as refused:
        up(engine, "bank")
    assert f"{unread} can't be read (Status=403" in str(refused.value)
    assert not OfflineAzure(engine.folder / "azure.json").resources, "a member half made is worse than none"
    # What is in a subscription that this Azure does not know is not refused.
    publish(str(UUID(int=9)))
    up(engine, "bank")
    assert steps(engine, "bank") == [], "and the lookup leaves nothing in the state"


def test_an_undecryptable_peer_state_is_reported_in_one_message(tmp_path: Path) -> None:
    engine = Engine(root=tmp_path)
    legal_name, stack = "O=Bank X, L=Paris, C=FR", "organization/decentralized-trust/bank-x"
    member(engine, "bank", peers=[{"name": "bank-x", "legalName": legal_name, "stack": stack}])
    engine.stand_in("bank-x", {"member": {}})
    state = engine.folder / "backend" / ".pulumi" / "stacks" / PROJECT / "bank-x.json"
    document = json.loads(state.read_text())
    # An encrypted data key that only the vault could decrypt, so the engine must ask the vault.
    key = base64.b64encode(base64.urlsafe_b64encode(bytes(256)).rstrip(b"=")).decode()
    vault = {"url": "azurekeyvault://offline.vault.invalid/keys/pulumi", "encryptedkey": key}
    document["checkpoint"]["latest"]["secrets_providers"] = {"type": "cloud", "state": vault}
    state.write_text(json.dumps(document))
    with pytest.raises(EngineError) as refused:
        engine.on_azure("bank", ["preview"])
    assert f"peer bank-x: stack {stack}: Pulumi wants the right to decrypt its secrets" in str(refused.value), (
        "Pulumi does not read public outputs without it either"
    )
    assert "wanted its card as a file" in str(refused.value), "that right would expose the bank's private keys"


def test_plain_pulumi_finds_out_of_band_changes_of_azure(tmp_path: Path) -> None:
    source = tmp_path / "elsewhere" / "Pulumi.bank-c.yaml"
    shutil.copytree(SAMPLE_CONSORTIUM, source.parent)
    engine = Engine(root=tmp_path)
    consortium = Consortium(OnEngine(engine), QUIET)
    consortium.join(source)
    tracked = json.loads((SAMPLE_CONSORTIUM / "bank-c.json").read_text())
    assert engine.outputs("bank-c")["member"] == tracked, (
        "the sample's card must be this bank's, so its organisation must not depend on where its file is"
    )

    engine.run(["config", "set", "--path", "keyVault.softDeleteDays", "30", "--stack", "bank-c"])
    assert engine.prepare("bank-c", source=source) == [f"{PROJECT}:keyVault"], "a manual change is reported"
    assert consortium.settled(), "and the bank has its file's configuration again"

    azure = consortium.subscription("bank-c")
    azure.drift("nodes-vms", "sku.capacity", 9)
    azure.lose("network-nat")
    azure.refuse("nodes-vms", "OperationNotAllowed: the quota of cores is used up")
    output = tmp_path / "output"
    refresh = f"pulumi refresh --stack bank-c --yes --diff > {output} 2>&1"
    assert engine.shell(["bash", "-c", refresh]) == 0, output.read_text()
    assert re.search(r"capacity *: 2(\.0)? => 9", output.read_text()), "a refresh finds the drift"
    changes = {(op, name) for op, _, name in steps(engine, "bank-c")}
    assert {("create", "network-nat"), ("update", "nodes-vms")} <= changes, "and `up` then corrects it"
    with pytest.raises(EngineError, match="nodes-vms: OperationNotAllowed: the quota of cores is used up"):
        up(engine, "bank-c")
    consortium.subscription("bank-c").refuse("nodes-vms", "")
    up(engine, "bank-c")
    assert steps(engine, "bank-c") == [], "once Azure accepts the request, all is as configured"


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="reads which processes there are from /proc")
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_its_run(tmp_path: Path, ending: signal.Signals) -> None:
    engine = Engine(root=tmp_path)
    member(engine, "bank")
    script = (
        "import sys; from pathlib import Path; from lab.azure.engine import Engine; "
        "engine = Engine(root=Path(sys.argv[1]), azure_seconds=lambda _: 5.0); "
        "engine.on_azure('bank', ['up', '--yes', '--skip-preview'])"
    )
    run = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    await_condition(lambda: len(inside(tmp_path)) >= 2, "the engine and the program run")
    time.sleep(3)
    if ending is signal.SIGINT:
        # A terminal interrupts all processes in its foreground.
        os.killpg(run.pid, ending)
    else:
        run.send_signal(ending)
    await_condition(lambda: not inside(tmp_path), f"nothing of the run is left after {ending.name}")
    run.wait(timeout=30)


def inside(folder: Path) -> list[str]:
    """The commands of the processes whose working directory is inside a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if Path(os.readlink(process / "cwd")).is_relative_to(folder):
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found


def await_condition(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.2)


def test_a_stacks_file_is_read_as_the_cli_reads_it(tmp_path: Path) -> None:
    engine = Engine(root=tmp_path)
    member(engine, "bank")
    path = table(engine.project)
    by_cli = json.loads(engine.run(["config", "--json", "--stack", "bank"]))
    read = read_configuration(path).values
    assert {key: comparable(by_cli[key]["value"]) for key in read} == {
        key: comparable(value) for key, value in read.items()
    }, "a plan must use the configuration that the engine passes to the program"


def comparable(value: str) -> Any:
    return json.loads(value) if value.startswith("{") else value


def test_a_plan_is_the_same_with_and_without_the_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(planned, "STATE", tmp_path)
    monkeypatch.setattr(planned, "LAST_PLANS", tmp_path / "plans")
    written = []
    for options in (["prod"], ["prod", "--without-engine"]):
        assert plan(["--format", "json", *options]) == 0
        written.append(json.loads(capsys.readouterr().out))
    on_engine, in_process = written
    assert (on_engine.pop("engine"), in_process.pop("engine")) == (True, False), "the plan names its front"
    assert on_engine == in_process, "plans of both fronts are compared, so URNs, order and values must be the same"


def test_a_preview_reads_a_card_of_the_users_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkout = tmp_path / "checkout"
    (checkout / "cards-of-peers").mkdir(parents=True)
    for each in (each for each in ROOT.iterdir() if not each.name.startswith(".")):
        (checkout / each.name).symlink_to(each)
    monkeypatch.setattr("lab.azure.engine.ROOT", checkout)
    (checkout / "cards-of-peers" / "bank-b.json").write_text(json.dumps(make_card("bank-b")))
    engine = Engine(root=tmp_path)
    peer = {
        "name": "bank-b",
        "legalName": "O=Bank B, L=London, C=GB",
        "link": "ipsec",
        "card": "cards-of-peers/bank-b.json",
    }
    member(engine, "bank", peers=[{**peer, "fingerprint": fingerprint(signing_public_key(signing_seed("bank-b")))}])
    assert steps(engine, "bank"), "a card is a file by its path from the project's folder"
    member(engine, "bank", peers=[{**peer, "fingerprint": "sha256:" + "0" * 64}])
    with pytest.raises(EngineError) as refused:
        steps(engine, "bank")
    assert "wanted the pinned key" in str(refused.value)
    assert '"config"' not in str(refused.value), "an operator needs the message, not the whole preview in JSON"
