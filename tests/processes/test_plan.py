"""`make preview`: its output in each format, and its description of a change."""

import io
import json
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import yaml
from rich.console import Console

from lab import ROOT
from lab.azure.deployment import Step
from lab.azure.plan import __main__ as command
from lab.azure.plan import planned
from lab.azure.plan.changes import Changes, ResourceChange, Unknown, changes_between
from lab.azure.plan.formats import UNCUT, Report, as_json, markdown, print_text
from lab.azure.plan.planned import Plan, Planned, Source, last_plan, plan_in_process, source_of
from lab.azure.program import PROJECT, Run, run_program
from tests.configuration import SSH_PUBLIC_KEY

PROD, DEV = ROOT / "Pulumi.prod.yaml", ROOT / "Pulumi.dev.yaml"


@pytest.fixture(scope="module")
def run_and_plan() -> tuple[Run, Plan]:
    """A run of the production sample, with its secrets, and its plan."""
    runs: list[Run] = []

    def recorded(*args: Any, **options: Any) -> Run:
        runs.append(run_program(*args, **options))
        return runs[-1]

    with patch.object(planned, "run_program", recorded):
        plan = plan_in_process(source_of(PROD))
    return runs[-1], plan


@pytest.fixture(scope="module")
def prod(run_and_plan: tuple[Run, Plan]) -> Plan:
    return run_and_plan[1]


@pytest.fixture(scope="module")
def dev() -> Plan:
    return plan_in_process(source_of(DEV))


@pytest.fixture(autouse=True)
def planned_once(dev: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command uses the cached plan of the development sample."""
    unchanged = source_of(DEV).configuration

    def plan(source: Source) -> Plan:
        return dev if source.configuration == unchanged else plan_in_process(source)

    monkeypatch.setattr(command, "plan_in_process", plan)


@pytest.fixture(autouse=True)
def plans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(planned, "LAST_PLANS", tmp_path / "plans")
    return tmp_path / "plans"


def text(report: Report, width: int = UNCUT) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    print_text(console, report)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def formats(report: Report) -> dict[str, str]:
    return {"text": text(report), "markdown": markdown(report), "json": as_json([report], engine=False)}


def run_command(*arguments: str) -> int:
    return command.main(["--without-engine", *arguments])


def changed(folder: Path, **changes: Any) -> Path:
    """The development sample's file with some keys changed; None omits a key."""
    document_ = yaml.safe_load(DEV.read_text(encoding="utf-8"))
    for key, value in changes.items():
        name = key.replace("__", ":") if "__" in key else f"{PROJECT}:{key}"
        if value is None:
            del document_["config"][name]
        else:
            document_["config"][name] = value
    path = folder / "Pulumi.dev.yaml"
    path.write_text(json.dumps(document_), encoding="utf-8")
    return path


# --- One plan ------------------------------------------------------------------------------------------------------


def test_the_same_plan_has_the_same_bytes(dev: Plan):
    again = plan_in_process(source_of(DEV))
    shuffled = replace(again, outputs=dict(reversed(list(again.outputs.items()))))
    assert formats(Report(shuffled)) == formats(Report(dev)), "two plans are compared with diff"


def test_every_protected_resource_is_marked(prod: Plan):
    protected = {each.name for each in prod.resources if each.custom and each.protect}
    assert len(protected) > 15, "vaults, keys, storage, leases, database, gateway"
    written = formats(Report(prod))
    for format_ in ("text", "markdown"):
        marked = set(re.findall(r"(\S+) protected", written[format_]))
        assert marked == protected, f"{format_}: a reviewer must see exactly the resources that a teardown keeps"
    listed = json.loads(written["json"])["plans"][0]["resources"]
    assert {each["name"] for each in listed if each["protected"] and not each["component"]} == protected


def test_nothing_is_truncated(run_and_plan: tuple[Run, Plan]):
    run, prod = run_and_plan
    outputs = json.loads(json.dumps(run.outputs))
    whole = [
        *(each.name for each in prod.resources),
        outputs["fingerprint"],
        *(card["fingerprint"] for card in outputs["peerCards"].values()),
        outputs["member"]["gateway"]["id"],
        outputs["member"]["nodes"][-1]["legalName"],
    ]
    for format_, written in formats(Report(prod)).items():
        cut = [each for each in whole if each not in written]
        assert cut == [], f"{format_}: a truncated fingerprint or name is useless"
    assert max(map(len, text(Report(prod)).splitlines())) > 400, "without a width, no line is folded"
    folded = re.sub(r"[│\s]+", "", text(Report(prod), width=60))
    assert [each.name for each in prod.resources if each.name not in folded] == [], (
        "a terminal folds lines, but truncates nothing"
    )


def test_no_secret_is_printed(run_and_plan: tuple[Run, Plan], plans: Path):
    run, prod = run_and_plan
    planned.keep(prod)
    last_plan = (plans / "prod.json").read_text(encoding="utf-8")
    secrets = 0
    for each in run.registrations.values():
        for path in each.secrets:
            value: Any = each.inputs
            for step in path.split("."):
                value = value[step]
            secrets += 1
            for where, written in {**formats(Report(prod)), "the last_plan plan": last_plan}.items():
                assert json.dumps(value)[1:-1] not in written, f"{each.name}.{path} in {where}"
    assert secrets > 4, "pre-shared keys, passwords, enrolment keys"
    found = json.loads(formats(Report(prod))["json"])["plans"][0]["resources"]
    (server,) = [each for each in found if each["type"].endswith("dbforpostgresql:Server")]
    assert server["inputs"]["administratorLoginPassword"] == "[secret]", "the secret is named, but not shown"
    assert "sha256" not in json.dumps(server["inputs"]), "a comment does not need its digest either"


def test_the_json_has_the_documented_keys(dev: Plan):
    rows = re.findall(
        r"^\| `((?:schema|engine|plans)[\w.\[\]]*)` \|", (ROOT / "lab/azure/README.md").read_text(), re.MULTILINE
    )
    other = replace(dev.resources[-1], urn=f"{dev.resources[-1].urn}-2", custom=True)
    report = Report(dev, changes_between(replace(with_other(tagged(dev), other), outputs={"x": 1}), dev), "last")
    written = json.loads(formats(report)["json"])

    def keys(value: Any, path: str) -> Iterator[str]:
        if isinstance(value, list):
            for each in value:
                yield from keys(each, f"{path}[]")
        elif isinstance(value, dict) and path.rsplit(".", 1)[-1] not in ("inputs", "outputs", "old", "new"):
            for key, each in value.items():
                yield (below := f"{path}.{key}".removeprefix("."))
                yield from keys(each, below)

    assert set(keys(written, "")) == set(rows), "tools read it: each key is documented in lab/azure/README.md"
    assert written["schema"] == 1


def test_unprintable_text_is_escaped():
    odd = Plan("odd", (), {"name": "a\x1b[2J\u202eb", "rows": [{"x": "[red]y[/]"}]}, ("````\nfirst\n````",))
    written = formats(Report(odd))
    assert "\x1b" not in written["text"], "a value must not control the reader's terminal"
    assert '"a\\u001b[2J\\u202eb"' in written["text"]
    assert "x [red]y[/]" in written["text"], "a value must not be markup"
    assert written["markdown"].count("\n````") == 6, "a message must not end a block of a comment"


def test_the_command_writes_one_document(capsys: pytest.CaptureFixture[str]):
    assert run_command("--format", "json", "dev", str(DEV)) == 0
    written = json.loads(capsys.readouterr().out)
    assert [each["stack"] for each in written["plans"]] == ["dev", "dev"], "of any plan"
    assert written["engine"] is False


def test_progress_is_shown_only_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    with command._working("planning dev"):
        pass
    assert capsys.readouterr().err == "", "a log must not have a spinner"
    ours, theirs = os.openpty()
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        with command._working("planning dev"):
            pass
    assert b"planning dev" in b"".join(iter(lambda: read(ours), b"")), "a waiting user sees the progress"
    os.close(ours)


def read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 10_000)
    except OSError:
        # Linux raises it if the other end is closed.
        return b""


# --- Effects of a change -------------------------------------------------------------------------------------------


def of(changes: Changes, name: str) -> ResourceChange:
    (found,) = [each for each in changes.resources if each.resource.name == name]
    return found


def paths(change: ResourceChange) -> dict[str, tuple[Any, Any]]:
    return {each.path: (each.old, each.new) for each in change.properties}


def test_a_change_of_the_vms_rolls_them_and_has_the_reason(dev: Plan, tmp_path: Path):
    nodes = {"sshPublicKey": SSH_PUBLIC_KEY, "vmSize": "Standard_D8s_v5"}
    after = plan_in_process(source_of(changed(tmp_path, nodes=nodes, ledger={"roles": {"node-1": "notary"}})))
    vms = of(changes_between(dev, after), "nodes-vms")
    assert vms.step is Step.UPDATE
    assert vms.rolls_vms, "each node moves to a new VM: the reviewer must know"
    assert paths(vms)["sku.name"] == ("Standard_D2as_v5", "Standard_D8s_v5")
    assert any(
        ".customData:write_files[/etc/decentralized-trust/agent.json].content:" in each for each in paths(vms)
    ), "custom data is packed: the file in it that changed is named"
    assert ": rolls its VMs\n" in text(Report(after, changes_between(dev, after), "last"))


def test_types_are_short(prod: Plan):
    kinds = {each.short_type for each in prod.resources if each.custom}
    assert {"network:Subnet", "random:RandomBytes"} <= kinds
    assert all(re.fullmatch(r"[a-z]+:[A-Za-z]+", each) for each in kinds), "one module and one kind"


def test_more_vms_roll_no_existing_one(dev: Plan):
    (vms,) = [each for each in dev.resources if each.name == "nodes-vms"]
    more = replace(vms, inputs={**vms.inputs, "sku": {**vms.inputs["sku"], "capacity": 9}})
    (change,) = changes_between(dev, with_other(dev, more)).resources
    assert not change.rolls_vms, "only new VMs are created"
    assert paths(change) == {"sku.capacity": (vms.inputs["sku"]["capacity"], 9)}


def tagged(plan: Plan) -> Plan:
    (network,) = [each for each in plan.resources if each.name == "network-vnet"]
    return with_other(
        plan,
        replace(
            network, inputs={**network.inputs, "tags": network.inputs["tags"] | {"environment": "y", "owner": "x"}}
        ),
    )


def with_other(plan: Plan, *others: Planned) -> Plan:
    resources = {each.urn: each for each in (*plan.resources, *others)}
    return replace(plan, resources=tuple(resources.values()))


def test_created_and_deleted_resources_are_listed(dev: Plan, prod: Plan):
    renamed = tuple(replace(each, urn=each.urn.replace("::prod::", "::dev::")) for each in prod.resources)
    changes = changes_between(dev, replace(prod, resources=renamed))
    made = {each.resource.name for each in changes.resources if each.step is Step.CREATE}
    assert {"link-bank-b-connection", "alerts-receivers"} <= made
    back = changes_between(replace(prod, resources=renamed), dev)
    lost = {each.resource.name: bool(each.refused) for each in back.resources if each.step is Step.DELETE}
    assert lost.keys() == made, "creation and deletion"
    assert lost == {each.name: each.protect for each in prod.resources if each.name in made and each.custom}, (
        "Pulumi deletes no protected resource"
    )
    assert [each.step for each in back.resources][: len(lost)] == [Step.DELETE] * len(lost), (
        "deletions are listed first"
    )


def test_immutable_resources_are_replaced_with_their_dependants(prod: Plan):
    by_name = {each.name: each for each in prod.resources if each.custom}
    vault, endpoint = by_name["keys-vault"], by_name["keys-access-endpoint"]
    moved = replace(vault, inputs={**vault.inputs, "location": "elsewhere"})
    changes = changes_between(prod, with_other(prod, moved))
    replaced = of(changes, "keys-vault")
    assert (replaced.step, replaced.refused) == (Step.REPLACE, "it is protected"), (
        "Pulumi refuses that for a protected resource"
    )
    follows = of(changes, endpoint.name)
    assert follows.step is Step.REPLACE, "an endpoint can't be changed to another vault"
    assert follows.properties[0].new == Unknown("keys-vault"), "the new one's name is unknown"
    assert "another value, since keys-vault is replaced (replaces it)" in text(Report(prod, changes, "last"))
    assert not [each for each in changes.resources if each.resource.name.startswith("keys-bank-vault")], (
        "nothing else is replaced"
    )


def test_declared_replacements_and_ignored_changes_are_planned(prod: Plan):
    by_name = {each.name: each for each in prod.resources if each.custom}
    link, server = by_name["link-bank-b-connection"], by_name["database-server"]
    other_key = replace(link, inputs={**link.inputs, "sharedKey": {"secret": "sha256:other"}})
    grown = replace(server, inputs={**server.inputs, "storage": {**server.inputs["storage"], "storageSizeGB": 999}})
    changes = changes_between(prod, with_other(prod, other_key, grown))
    assert [each.resource.name for each in changes.resources] == [link.name], "the server's storage grows by itself"
    assert changes.resources[0].step is Step.REPLACE, "a PUT does not change a connection's key"
    written = formats(Report(prod, changes, "last"))
    assert 'sharedKey: "[secret]" -> "[secret]" (replaces it)' in written["text"], (
        "the change of a secret is shown without its value"
    )
    assert "sha256:other" not in written["json"]


def test_markdown_colours_each_change(dev: Plan):
    written = markdown(Report(dev, changes_between(dev, tagged(dev)), "last"))
    assert written.index("````diff") < written.index("<details>"), "changes are not folded"
    assert re.search(
        r'^! network:VirtualNetwork network-vnet\n    tags\.environment: "dev" -> "y"\n    tags\.owner: added "x"$',
        written,
        re.MULTILINE,
    )


# --- Comparisons ---------------------------------------------------------------------------------------------------


def test_a_plan_is_compared_with_the_last_one(tmp_path: Path, plans: Path, capsys: pytest.CaptureFixture[str]):
    assert run_command("--against", "last", "dev") == 1
    assert (
        "no plan of dev is saved; wanted a `make preview STACK=dev` without AGAINST first" in capsys.readouterr().err
    )
    assert run_command("dev") == 0
    capsys.readouterr()
    path = changed(tmp_path, tags={"owner": "x"})
    for _ in range(2):
        assert run_command("--against", "last", str(path)) == 0
        written = capsys.readouterr().out
        assert 'tags.owner: added "x"' in written, "a comparison is not stored as the last plan: it can be repeated"
    (plans / "dev.json").write_text('{"schema": 0}')
    assert run_command("--against", "last", "dev") == 1
    assert "another release's plan; wanted a `make preview STACK=dev` without AGAINST first" in (
        capsys.readouterr().err.replace("\n", " ")
    )
    (plans / "dev.json").write_text("{")
    assert run_command("--against", "last", "dev") == 1
    assert "can't be read" in capsys.readouterr().err


def test_the_stored_plan_is_complete(dev: Plan):
    planned.keep(dev)
    assert changes_between(last_plan("dev"), dev) == Changes((), ()), "the stored plan is equal when read"


def test_without_a_writable_folder_only_the_comparison_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "file").touch()
    monkeypatch.setattr(planned, "LAST_PLANS", tmp_path / "file" / "plans")
    assert run_command("dev") == 0, "a checkout may be read-only"
    assert "warning: not saved" in capsys.readouterr().err


def test_what_can_not_change_on_a_live_member_is_refused_and_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    path = changed(tmp_path, addressSpace="10.9.0.0/16")
    assert run_command("--against", "dev", str(path)) == 1, "pulumi up would refuse it"
    written = capsys.readouterr().out
    assert re.search(r"refused: .*\n    .*addressSpace: 10.9.0.0/16: wanted 10.200.0.0/22, as it is live", written), (
        "the card is published, and every subnet in use"
    )
    assert '10.200.0.0/22" -> "10.9.0.0/16"' in written.replace("[", "").replace("]", ""), (
        "the plan shows what it would do"
    )


def test_changes_that_azure_does_not_support_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = changed(tmp_path, keyVault={"softDeleteDays": 30, "purgeProtection": False})
    assert run_command("--against", "dev", "--format", "json", str(path)) == 1, "pulumi up would fail half way"
    found = json.loads(capsys.readouterr().out)["plans"][0]["changes"]["resources"]
    assert len(found) == 4, "the vaults' purge protection"
    assert {re.sub(r"^.*?: ", "", each["refused"]) for each in found} == {
        "softDeleteRetentionInDays is 7 and can't be changed"
    }, "a rule of the offline Azure knows both states"


def test_a_change_is_planned_like_the_next_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = changed(
        tmp_path, bank={"name": "bank-dev", "legalName": "O=Development Bank, L=Amsterdam, C=NL", "asn": 64901}
    )
    assert run_command("--against", "dev", str(path)) == 0
    assert "~ output member.counter: 1 -> 2\n" in capsys.readouterr().out, "another card has the next counter"


def test_one_file_is_compared_with_one_other(capsys: pytest.CaptureFixture[str]):
    assert run_command("--against", "dev", "dev", "prod") == 1
    assert "2 stacks against dev; wanted one" in capsys.readouterr().err


def test_empty_lists_are_shown_as_none(dev: Plan) -> None:
    lines = text(Report(dev)).splitlines()
    (waiting,) = (line for line in lines if line.startswith("waitsFor"))
    assert waiting.split() == ["waitsFor", "none"], "a bare name would be an empty heading"


def test_an_output_is_written_as_pulumi_writes_it(dev: Plan) -> None:
    plan = replace(dev, outputs={"member": {"authority": None, "zonal": True}, "peers": [{"up": False}]})
    outputs = text(Report(plan)).split("\nOutputs\n")[1]
    assert outputs.split()[:7] == "member authority none zonal true peers up".split()
    assert not re.search("None|True|False", outputs), "Python's literals are not for readers"
