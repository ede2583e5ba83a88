"""The alert rules of a whole member: scopes, texts and receivers."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from components.alerts import AlertsArgs, Watched
from components.alerts.events import EVENT_RULES, HEALTH_TYPES
from components.alerts.logs import QUERY_RULES
from components.alerts.metrics import METRIC_RULES
from components.alerts.rules import RUNBOOKS, AlertRule
from components.inputs import Placement
from components.queries import query
from contract.metrics import Cause, Metric
from contract.ports import NETWORK_INFO_PORT
from lab import ROOT
from lab.azure.recorder import Registration
from tests.runs import CIRCUIT, MAIL, Plan, all_of, bank, large, one, resources, sample

KINDS = ("MetricAlert", "ScheduledQueryRule", "ActivityLogAlert")
TABLE: tuple[AlertRule, ...] = (*METRIC_RULES, *QUERY_RULES, *EVENT_RULES)


def rules_of(run: Plan) -> list[Registration]:
    return [each for kind in KINDS for each in all_of(run, kind)]


def text_of(run: Plan, name: str) -> str:
    return str(one(run, "ScheduledQueryRule", f"alerts-{name}").inputs["criteria"]["allOf"][0]["query"])


# --- The tables ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", TABLE, ids=lambda rule: rule.name)
def test_each_rule_names_an_existing_runbook(rule: AlertRule):
    runbook = ROOT / RUNBOOKS / rule.runbook
    assert runbook.is_file(), "the receiver of the mail looks there first"
    assert f"`{rule.name}`" in runbook.read_text("utf-8"), "the runbook names the alerts that lead to it"
    assert rule.description.endswith(f"Runbook: docs/runbooks/{rule.runbook}"), "the mail has its name"


@pytest.mark.parametrize("rule", TABLE, ids=lambda rule: rule.name)
def test_each_threshold_has_a_source(rule: AlertRule):
    ours = not rule.source.startswith("https://")
    assert not ours or (ROOT / rule.source).is_file(), "a threshold without a source can't be checked"


def test_each_rule_has_a_unique_name():
    names = [rule.name for rule in TABLE]
    assert len(names) == len(set(names))


def test_each_rule_exists_if_its_member_has_the_watched_resources():
    made = {each.name for each in rules_of(large())}
    unmade = [rule.name for rule in TABLE if not any(name.startswith(f"alerts-{rule.name}") for name in made)]
    assert unmade == [], "bank A with all options has every rule"


def test_each_cause_raises_one_alert():
    values: dict[str, dict[str, Any]] = {rule.name: dict(rule.values(ARGS) or {}) for rule in QUERY_RULES}
    named = [str(cause) for given in values.values() for cause in given.get("causes", ())]
    named += [str(given[word]) for given in values.values() for word in ("refused", "approval") if word in given]
    # Faults and reachable peers have their own metrics.
    assert sorted(named) == sorted(str(each) for each in Cause if each not in {Cause.FAULT, Cause.PEER})


ARGS = AlertsArgs(
    placement=Placement(resource_group_name="g", location="swedencentral"),
    resource_group_id="/subscriptions/s/resourceGroups/g",
    watched={},
    identities=3,
    workspace_id="/workspace",
    root_vault_id="/root",
)


# --- Receivers -----------------------------------------------------------------------------------------------------


def test_every_alert_has_a_receiver_and_resolves_by_itself():
    run = large()
    group = run.ids[one(run, "ActionGroup").urn]
    book = run.ids[one(run, "applicationinsights:Workbook").urn]
    link = f" Figures and logs: https://portal.azure.com/#resource{book}/workbook"
    assert [each["emailAddress"] for each in one(run, "ActionGroup").inputs["emailReceivers"]] == [MAIL]
    for each in rules_of(run):
        assert group in str(each.inputs["actions"]), f"{each.name} has no receiver"
        assert "Runbook: docs/runbooks/" in each.inputs["description"], each.name
        assert each.inputs["description"].endswith(link), f"{each.name}: the mail leads to figures and logs"
        assert each.inputs.get("autoMitigate", True) is True, (
            f"{each.name} must resolve by itself, or it hides the next one"
        )


def test_severities_follow_the_urgency():
    found = {rule.name: rule.severity for rule in TABLE if rule not in EVENT_RULES}
    assert found["nodes-missing"] == found["services-away"] == 1, "the bank's own outage is critical"
    assert found["peers-away"] == 2, "another bank's outage is not"
    assert found["approvals"] == 3, "a missing approval can wait until the morning"
    assert set(found.values()) == {1, 2, 3}


def test_a_month_that_costs_too_much_is_reported():
    run = large()
    budget = one(run, "Budget").inputs
    assert (budget["amount"], budget["timeGrain"], budget["scope"]) == (4000, "Monthly", group_of(run))
    assert {each["thresholdType"] for each in budget["notifications"].values()} == {"Actual", "Forecasted"}
    assert all(each["contactEmails"] == [MAIL] for each in budget["notifications"].values())
    assert all_of(sample("prod"), "Budget") == [], "without an amount there is no budget"


def group_of(run: Plan) -> str:
    return run.ids[one(run, "ResourceGroup").urn]


# --- On metrics ----------------------------------------------------------------------------------------------------


def criteria(run: Plan, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = one(run, "MetricAlert", f"alerts-{name}").inputs["criteria"]["allOf"]
    return found


@pytest.mark.parametrize(("balancer", "port"), [("", NETWORK_INFO_PORT), ("-authority", 8444)])
def test_a_failing_balancer_is_reported_only_if_a_vm_behind_it_answers(balancer: str, port: int):
    path, vms = criteria(large(), f"balancer-path{balancer}")
    assert (path["metricName"], path["operator"], path["threshold"]) == ("VipAvailability", "LessThan", 90)
    assert (vms["metricName"], vms["operator"], vms["threshold"]) == ("DipAvailability", "GreaterThan", 0), (
        "on the first day no VM answers yet"
    )
    for each in (path, vms):
        assert each["dimensions"] == [{"name": "FrontendPort", "operator": "Include", "values": [str(port)]}], (
            "every VM serves this port; a node's port has no listener during a takeover"
        )


@pytest.mark.parametrize(
    ("kind", "metric"),
    [
        ("Vault", "Availability"),
        ("Vault", "ServiceApiResult"),
        ("LoadBalancer", "VipAvailability"),
        ("Server", "is_db_alive"),
        ("Server", "memory_percent"),
        ("Server", "maximum_used_transactionIDs"),
        ("NatGateway", "DatapathAvailability"),
        ("NatGateway", "SNATConnectionCount"),
        ("NatGateway", "PacketDropCount"),
        ("StorageAccount", "Availability"),
        ("PublicIPAddress", "IfUnderDDoSAttack"),
    ],
)
def test_a_failing_resource_raises_an_alert(kind: str, metric: str):
    run = large()
    watched = {
        scope
        for each in all_of(run, "MetricAlert")
        for scope in each.inputs["scopes"]
        if each.inputs["criteria"]["allOf"][0]["metricName"] == metric
    }
    expected = {run.ids[each.urn] for each in all_of(run, kind)}
    assert expected
    assert watched >= expected, f"no alert on {metric} of {kind}"


def test_a_reboot_raises_no_alert():
    (criterion,) = criteria(large(), "vm-availability")
    rule = one(large(), "MetricAlert", "alerts-vm-availability").inputs
    assert (criterion["timeAggregation"], criterion["threshold"], rule["windowSize"]) == ("Maximum", 1, "PT15M"), (
        "an average below 1 would report each reboot; a maximum below 1 for 15 minutes is no reboot"
    )
    (health,) = [rule for rule in EVENT_RULES if rule.name == "resource-health"]
    assert health.fields["properties.cause"] == "PlatformInitiated", "patches reboot a VM from inside"
    assert Watched.VIRTUAL_MACHINES.resource_type not in HEALTH_TYPES, "nor does Azure's own maintenance"


def test_the_shares_threshold_follows_its_size():
    (criterion,) = criteria(large(), "share-fill")
    rule = one(large(), "MetricAlert", "alerts-share-fill").inputs
    assert criterion["threshold"] == pytest.approx(0.8 * 100 * 2**30), "80 % of 100 GiB"
    assert rule["scopes"][0].endswith("/fileServices/default"), "the metric is the file service's"
    assert rule["windowSize"] == "PT1H", "the metric has one value an hour"
    with pytest.raises(ValueError, match="Alerts: a file service is watched without share_gib; wanted both"):
        AlertsArgs(
            placement=ARGS.placement,
            resource_group_id="/g",
            watched={Watched.FILES: {"": "/files"}},
            identities=3,
            workspace_id="/w",
        )


def test_all_vaults_have_one_rule():
    run = large()
    rule = one(run, "MetricAlert", "alerts-vault-availability").inputs
    assert set(rule["scopes"]) == {run.ids[each.urn] for each in all_of(run, "Vault")}
    assert rule["criteria"]["odataType"].endswith("MultipleResourceMultipleMetricCriteria"), "each has an alert"


@pytest.mark.parametrize("way", ["in", "out"])
def test_each_tunnels_dropped_packets_are_watched(way: str):
    (criterion,) = criteria(large(), f"tunnel-drops-{way}")
    assert criterion["criterionType"] == "DynamicThresholdCriterion", "some drops are always there"
    assert {each["name"]: each["values"] for each in criterion["dimensions"]} == {
        "ConnectionName": ["*"],
        "RemoteIP": ["*"],
    }, "an average over all tunnels would hide one"


def test_each_path_of_the_circuit_is_watched():
    run = large()
    (criterion,) = criteria(run, "circuit-routes")
    assert criterion["dimensions"] == [{"name": "BgpPeerAddress", "operator": "Include", "values": ["*"]}]
    (scope,) = one(run, "MetricAlert", "alerts-circuit-routes").inputs["scopes"]
    assert scope == run.ids[one(run, "VirtualNetworkGateway", "network-express-route-gateway").urn]
    assert CIRCUIT not in str([each.inputs for each in rules_of(run)]), "the circuit may be another subscription's"


# --- On queries ----------------------------------------------------------------------------------------------------


def test_each_query_rule_is_as_in_the_table():
    run = large()
    for rule in QUERY_RULES:
        made = one(run, "ScheduledQueryRule", f"alerts-{rule.name}").inputs
        (criterion,) = made["criteria"]["allOf"]
        assert (criterion["metricMeasureColumn"], criterion["operator"], criterion["threshold"]) == (
            rule.measure,
            "GreaterThan",
            0,
        )
        assert [each["name"] for each in criterion.get("dimensions") or []] == list(rule.dimensions), (
            "each value of a dimension has a separate alert and mail"
        )
        assert made.get("overrideQueryTimeRange") == ("P2D" if rule.looks_back else None)
        assert made["scopes"] == [run.ids[one(run, "Workspace").urn]]
    assert text_of(run, "nodes-missing") == query("nodes-missing", available=Metric.NODES_AVAILABLE, identities=14), (
        "the number of configured nodes"
    )


def spans(text: str) -> Iterator[int]:
    """Minutes of each `ago` in a query."""
    for number, unit in re.findall(r"ago\((\d+)([mhd])\)", text):
        yield int(number) * {"m": 1, "h": 60, "d": 1440}[unit]


@pytest.mark.parametrize("rule", QUERY_RULES, ids=lambda rule: rule.name)
def test_no_query_looks_further_back_than_its_rule(rule: Any):
    text = (ROOT / "components" / "queries" / f"{rule.query}.kql").read_text("utf-8")
    window = 2880 if rule.looks_back else int(rule.window[2:-1]) * (60 if rule.window.endswith("H") else 1)
    assert max(spans(text), default=0) <= window, "Azure silently withholds older rows from a query"
    assert not re.search(r"\b(max|min)\((Max|Min)\)|\bM(ax|in)\b", text), (
        "of gauges only sums and counts are reliable"
    )


def test_writes_to_vaults_raise_an_alert():
    run = large()
    text = text_of(run, "vault-written")
    for vault in ("keys-vault", "keys-bank-vault", "authority-vault", "authority-root-v"):
        assert f'"{run.ids[one(run, "Vault", vault).urn].lower()}"' in text, f"{vault}: writes are watched"
    principal = run.answers[one(run, "UserAssignedIdentity", "bank-a-node-identity").urn]["principalId"]
    writer = f'["{run.ids[one(run, "Vault", "keys-vault").urn].lower()} {principal}"]'
    assert f"in (dynamic({writer}))" in text, "only agents write there, when an identity is new"


def test_uses_of_the_root_key_raise_an_alert():
    run = large()
    root_vault = run.ids[one(run, "Vault", "authority-root-v").urn]
    assert root_vault in text_of(run, "root-signed"), "of the root's vault: the other keys sign all day"
    granted = one(run, "ActivityLogAlert", "alerts-root-granted").inputs
    assert granted["scopes"] == [root_vault], "grants by anybody are watched"
    assert "Microsoft.Authorization/roleAssignments/write" in str(granted["condition"])
    for role, operation in (("vm-command", "runCommand/action"), ("vm-managed-command", "runCommands/write")):
        command = one(run, "ActivityLogAlert", f"alerts-{role}").inputs
        assert f"Microsoft.Compute/virtualMachines/{operation}" in str(command["condition"]), "approvals are commands"
    of_b = {each.name for each in rules_of(bank("bank-b"))}
    assert (
        not {f"alerts-{name}" for name in ("root-open", "root-signed", "root-granted", "unproven-requests")} & of_b
    ), "a member without an authority has no root"


def test_each_link_has_its_own_alert():
    run = large()
    text = text_of(run, "links-down")
    assert run.ids[one(run, "VirtualNetworkGateway", "network-vpn-gateway").urn].lower() in text
    for name in ("bank-b", "bank-c"):
        for instance in bank(name, linked=False).outputs["member"]["gateway"]["instances"]:
            assert f'{{"end": "{instance["publicIp"]}", "peer": "{name}"}}' in text, "the mail names the peer"
            assert re.escape(instance["bgpPeeringIp"]).replace("\\", "\\\\") in text


def test_alerts_on_links_exist_only_with_links():
    names = {each.name for each in all_of(bank("bank-a", linked=False), "ScheduledQueryRule")}
    assert "alerts-links-down" not in names, "there is none before the first peer joins"
    assert "alerts-nodes-missing" in names


# --- On events -----------------------------------------------------------------------------------------------------


def test_the_removal_of_anything_that_watches_raises_an_alert():
    run = large()
    watching = ("monitor:", "operationalinsights:", "applicationinsights:Component")
    types = {
        "/".join(run.ids[each.urn].rsplit("/providers/", 1)[1].split("/")[:2])
        for each in resources(run)
        if each.type.removeprefix("azure-native:").startswith(watching)
    }
    (rule,) = (each for each in EVENT_RULES if each.name == "watch-removed")
    assert set(rule.fields["operationName"]) == {f"{each}/delete" for each in types}, "otherwise nobody hears of it"
    condition = str(one(run, "ActivityLogAlert", "alerts-watch-removed").inputs["condition"])
    assert not [each for each in types if f"{each}/delete" not in condition]


def test_a_new_resource_raises_no_health_alert():
    health = one(large(), "ActivityLogAlert", "alerts-resource-health").inputs["condition"]["allOf"]
    names = {
        part["anyOf"][0]["field"]: {each["equals"] for each in part["anyOf"]} for part in health if part.get("anyOf")
    }
    assert names["properties.currentHealthStatus"] == {"Degraded", "Unavailable"}, "Azure reports recoveries too"
    assert "Unknown" not in names["properties.previousHealthStatus"]
