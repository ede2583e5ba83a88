"""What only the real engine shows: previews, in-place updates and replacements, stack references, encrypted state."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from offline.azure import OfflineAzure
from offline.consortium import Consortium, InProcess, OnEngine
from offline.engine import Engine, EngineError, find_cli
from offline.program import PROJECT, ROOT
from tests.configuration import SSH_PUBLIC_KEY

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(find_cli() is None, reason="no Pulumi CLI on PATH or in ~/.pulumi/bin"),
]

KEPT = {
    "azure-native:keyvault:Vault",
    "azure-native:storage:StorageAccount",
    "azure-native:dbforpostgresql:Server",
    "azure-native:network:VirtualNetworkGateway",
    "azure-native:network:PublicIPAddress",
}
QUIET = Console(quiet=True)


def member(engine: Engine, stack: str, **changes: Any) -> None:
    """A bank's configuration from the development sample, changed key by key; its first node is the notary."""
    changes = {"ledger": {"roles": {"node-1": "notary"}, "network": {"authority": "bank-dev"}}, **changes}
    engine.prepare(
        stack,
        source=ROOT / "Pulumi.dev.yaml",
        changes={f"{PROJECT}:{key}": value for key, value in changes.items()},
    )


def steps(engine: Engine, stack: str) -> list[tuple[str, str, str]]:
    """Operation, type and logical name of each change that a preview finds."""
    preview = json.loads(engine.on_azure(stack, ["preview", "--json"]))
    return [
        (step["op"], step["urn"].split("::")[2].split("$")[-1], step["urn"].split("::", 3)[3])
        for step in preview["steps"]
        if step["op"] not in ("same", "read")
    ]


def up(engine: Engine, stack: str) -> None:
    engine.on_azure(stack, ["up", "--yes", "--skip-preview", "--suppress-outputs"])


@pytest.mark.parametrize("size", ["small", "medium", "large"])
def test_each_size_comes_up_stays_and_goes(tmp_path: Path, size: str) -> None:
    engine = Engine(root=tmp_path)
    member(engine, "bank", size=size)
    up(engine, "bank")
    assert steps(engine, "bank") == [], "a bank that changed nothing must be told that nothing changes"
    engine.on_azure("bank", ["refresh", "--yes", "--expect-no-changes"])
    assert steps(engine, "bank") == [], "a refresh of what is as it should be is no reason for a change"
    engine.on_azure("bank", ["destroy", "--yes", "--skip-preview"])
    left = list(OfflineAzure(tmp_path / "default" / "azure.json").resources.values())
    assert left == [], "what a destroyed bank leaves behind is paid for, or found by a stranger"


def test_a_bank_grows_and_shrinks_in_place(tmp_path: Path) -> None:
    engine = Engine(root=tmp_path)
    nodes = {"sshPublicKey": SSH_PUBLIC_KEY}
    member(engine, "bank", size="small", deletionProtection=True, nodes=nodes)
    up(engine, "bank")
    for size in ("medium", "large"):
        member(engine, "bank", size=size, deletionProtection=True, nodes=nodes)
        lost = [step for step in steps(engine, "bank") if step[0] != "create" and step[0] != "update"]
        assert lost == [], f"growing to {size} must neither delete nor replace what holds keys, ledger or addresses"
        up(engine, "bank")

    member(engine, "bank", size="medium", deletionProtection=True, nodes=nodes)
    gone = [step for step in steps(engine, "bank") if step[0] != "update"]
    assert not [step for step in gone if step[1] in KEPT], "an identity that comes back finds its keys and its ledger"
    up(engine, "bank")


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
    ], "it changes the scale sets alone: the authority's VMs too are no longer encrypted on the host"
    up(engine, "bank")
    after = vm_models(engine)
    assert len(set(after)) == 1, "no VM may be left behind on an old model"
    assert set(after).isdisjoint(before), "a VM that keeps its old model never gets the new configuration"


def vm_models(engine: Engine) -> list[str]:
    resources = OfflineAzure(engine.folder / "azure.json").resources.values()
    (scale_set,) = [
        each for each in resources if each.short == "compute:VirtualMachineScaleSet" and "/nodes-vms" in each.id
    ]
    return list(scale_set.extra["vmModels"])


@pytest.fixture(scope="module")
def consortium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consortium]:
    """Three banks on the engine, each linked to both others; bank-b's stack has a passphrase of its own."""
    made = Consortium(TwoPassphrases(Engine("three", tmp_path_factory.mktemp("engine"))), QUIET)
    made.sample()
    return made


class TwoPassphrases(OnEngine):
    """The front, with another passphrase for the stack of bank-b."""

    def up(self, stack: str, source: Path, peers: Any) -> dict[str, int]:
        return OnEngine(self._of(stack)).up(stack, source, peers)

    def unchanged(self, stack: str, source: Path, peers: Any) -> bool:
        return OnEngine(self._of(stack)).unchanged(stack, source, peers)

    def outputs(self, stack: str) -> dict[str, Any]:
        return self._of(stack).outputs(stack)

    def _of(self, stack: str) -> Engine:
        other = {"PULUMI_CONFIG_PASSPHRASE": "another bank's passphrase"} if stack == "bank-b" else {}
        return Engine(self.engine.consortium, self.engine.root, environment=other)


def test_three_banks_are_linked_and_settled(consortium: Consortium) -> None:
    statuses = consortium.links()
    assert set(statuses.values()) == {"Connected"}, f"a link that one side alone has made carries nothing: {statuses}"
    assert len(statuses) == 10, "bank-a and bank-b share one connection each way, bank-c two with each of them"
    assert consortium.settled(), "a further run of each bank must find nothing to do"


def test_engine_and_mocks_bring_up_the_same(consortium: Consortium, tmp_path: Path) -> None:
    without = Consortium(InProcess(tmp_path / "three"), QUIET)
    without.sample()
    assert made(without) == made(consortium), "a machine without the CLI must show the same resources as one with it"
    assert Counter(without.links().values()) == Counter(consortium.links().values()), "and the same links"


def made(consortium: Consortium) -> Counter[tuple[str, str]]:
    """Types in each subscription, counted: physical names differ, since the engine seeds them."""
    resources = OfflineAzure(consortium.front.folder / "azure.json").resources.values()
    return Counter((each.subscription_id, each.short) for each in resources)


def test_no_secret_is_in_clear_anywhere(consortium: Consortium) -> None:
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
    told = {
        "the stack's state": engine.run(["stack", "export", "--stack", "bank-a"]),
        "the outputs": engine.run(["stack", "output", "--json", "--show-secrets", "--stack", "bank-a"]),
        "a preview's log": engine.on_azure("bank-a", ["preview", "--diff", "--logtostderr", "-v=3"]),
        "the offline Azure": (engine.folder / "azure.json").read_text(),
    }
    for place, text in told.items():
        assert not [secret for secret in known if secret in text], f"{place} holds a secret in clear"
    custom_data = next(each for each in resources if each["type"].endswith("VirtualMachineScaleSet"))["inputs"]
    assert not [secret for secret in known if secret in json.dumps(custom_data)], (
        "anybody on the VM reads custom data"
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
    assert changes.get("replace", 0) + changes.get("create-replacement", 0) >= 3, "a PUT leaves an old key in force"
    assert "Connecting" in set(consortium.links().values()), "one side alone has the new key"
    for stack in ("bank-b", "bank-c"):
        front.up(stack, Path(consortium.banks[stack].source), consortium.banks[stack].peers)
    assert set(consortium.links().values()) == {"Connected"}, "the other sides derive the new key from the new card"


def test_a_stack_that_is_not_there_is_told_in_one_message(tmp_path: Path) -> None:
    engine = Engine(root=tmp_path)
    missing = [{"name": "bank-x", "stack": "organization/decentralized-trust/bank-x"}]
    member(engine, "bank", peers=missing)
    with pytest.raises(EngineError) as refused:
        engine.on_azure("bank", ["preview"])
    assert "peer bank-x: stack organization/decentralized-trust/bank-x: can't be read (unknown stack" in str(
        refused.value
    )
    assert "Traceback" not in str(refused.value), "a bank's operator reads sentences, not Python"


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="reads which processes there are from /proc")
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_its_run(tmp_path: Path, ending: signal.Signals) -> None:
    engine = Engine(root=tmp_path)
    member(engine, "bank")
    script = (
        "import sys; from pathlib import Path; from offline.engine import Engine; "
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
        # A terminal interrupts everything in its foreground.
        os.killpg(run.pid, ending)
    else:
        run.send_signal(ending)
    await_condition(lambda: not inside(tmp_path), f"nothing of the run is left after {ending.name}")
    run.wait(timeout=30)


def inside(folder: Path) -> list[str]:
    """The commands of the processes that work inside a folder."""
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
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.2)
