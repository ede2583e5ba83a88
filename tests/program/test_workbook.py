"""The workbook shows members' metrics with thresholds, and queries only existing data."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from components import queries
from components.collected import TABLES
from components.queries import LOG_TABLES, placeholders
from components.workbook import (
    TIME_RANGE,
    Aggregation,
    Measured,
    MetricItem,
    QueryItem,
    WorkbookArgs,
    filled,
    sections,
    serialized,
    values,
)
from contract.metrics import Cause, Dimension, Metric
from contract.platform import Counted
from tests.runs import bank, large, one

ROOT = Path(__file__).parents[2]
QUERIES = {path.stem: path.read_text("utf-8") for path in Path(queries.__file__).parent.glob("*.kql")}
GROUP = "/subscriptions/s/resourceGroups/g"
ARGS = WorkbookArgs(
    placement=None,  # type: ignore[arg-type]  # not read here
    member="bank-a",
    workspace_id="workspace",
    resource_group_id=GROUP,
    transactions=Counted.OWN,
    identities=["node-0", "node-1"],
    standbys=1,
    peers={"bank-b": ["203.0.113.7", "203.0.113.8"], "bank-c": []},
    services={each: ["id"] for each in Measured},
    authority=True,
)


def book(args: WorkbookArgs = ARGS, **services: list[str]) -> dict[str, Any]:
    known = {Measured[kind]: ids for kind, ids in services.items()}
    return json.loads(serialized(args, workspace_id="workspace", resource_group_id=GROUP, services=known))


def items(made: dict[str, Any], kind: int) -> Iterator[dict[str, Any]]:
    for each in made["items"]:
        if each["type"] == kind:
            yield each
        if each["type"] == 12:
            yield from items(each["content"], kind)


def shown(args: WorkbookArgs = ARGS) -> list[QueryItem | MetricItem]:
    return [item for section in sections(args) for item in section.items]


def test_each_tile_and_each_table_has_its_thresholds():
    for each in items(book(), 3):
        content = each["content"]
        if content["visualization"] == "tiles":
            settings = content["tileSettings"]
            assert {"titleContent", "leftContent", "rightContent"} <= settings.keys(), "without them a tile is blank"
            (state,) = [settings["rightContent"]]
        elif content["visualization"] == "table":
            (state,) = content["gridSettings"]["formatters"]
        else:
            continue
        representations = {row["representation"] for row in state["formatOptions"]["thresholdsGrid"]}
        assert {"success", "2", "4"} <= representations, f"{each['name']}: the three states look the same"


def test_every_part_follows_the_chosen_time_range():
    made = book(VAULT=["vault"])
    (parameters,) = items(made, 9)
    assert TIME_RANGE in [each["name"] for each in parameters["content"]["parameters"]]
    fixed = {item.title for item in shown() if isinstance(item, QueryItem) and item.days}
    assert fixed == {"Tunnels, by member", "What was collected"}, (
        "a tunnel that has been connected for weeks has no event today"
    )
    for each in [*items(made, 3), *items(made, 10)]:
        chosen = each["content"].get("timeContextFromParameter")
        assert chosen == (None if each["name"] in fixed else TIME_RANGE), each["name"]


def test_each_query_is_shown_or_raises_an_alert():
    in_workbook = {item.query for item in shown() if isinstance(item, QueryItem)} | {"vm-resources"}
    components = "".join(path.read_text("utf-8") for path in (ROOT / "components").rglob("*.py"))
    named = {name for name in QUERIES if f'"{name}"' in components}
    assert in_workbook <= QUERIES.keys()
    assert sorted(QUERIES.keys() - in_workbook - named) == [], "a query without a use must be removed"


@pytest.mark.parametrize("metric", Metric)
def test_each_sent_metric_is_read_by_a_query(metric: Metric):
    assert [name for name, text in QUERIES.items() if f'"{metric}"' in text], "a bank pays for each row of it"


def test_each_metric_of_a_query_is_sent():
    for name, text in QUERIES.items():
        asked = set(re.findall(r'"(ledger\.[\w.]+)"', text))
        assert asked <= set(Metric), f"{name}: nothing sends these"
        dimensions = set(re.findall(r"Properties\.(\w+)", text))
        assert dimensions <= set(Dimension), f"{name}: no metric has these"
        causes = set(re.findall(r'Cause [!=]= "(\w+)"', text))
        assert causes <= set(Cause), f"{name}: no VM is impaired by these"


def test_gauges_are_read_by_reliable_columns():
    for name, text in QUERIES.items():
        columns = set(re.findall(r"\b(Min|Max)\b", text))
        assert not columns & {"Min", "Max"}, f"{name}: of a gauge only Sum and ItemCount are reliable"


@pytest.mark.parametrize("table", sorted(set(TABLES.values())))
def test_each_collected_table_is_read(table: str):
    (name,) = [name for name, each in LOG_TABLES.items() if each.table == table]
    readers = [query for query, text in QUERIES.items() if re.search(rf"\b{name}\b", text)]
    assert readers, f"{table}: a bank pays for unused lines"


METRICS: dict[Measured, dict[str, set[str]]] = {
    Measured.VPN_GATEWAY: {"QmsaCount": {"RemoteIP"}, "TunnelAverageBandwidth": {"RemoteIP"}},
    Measured.VAULT: {"Availability": set(), "ServiceApiLatency": set()},
    Measured.STORAGE: {"Availability": set(), "SuccessE2ELatency": set()},
    Measured.DATABASE: {
        "cpu_percent": set(),
        "memory_percent": set(),
        "storage_percent": set(),
        "active_connections": set(),
    },
    Measured.VM: {"Percentage CPU": set()},
}
"""Names and dimensions, from learn.microsoft.com/azure/azure-monitor/reference/metrics-index."""


def test_azures_metrics_have_azures_names():
    for item in shown():
        if isinstance(item, MetricItem):
            documented = METRICS[item.measured]
            assert item.metrics.keys() <= documented.keys(), "an unknown metric is an empty chart"
            for name in item.metrics:
                assert item.split_by is None or item.split_by in documented[name]


def test_a_tunnel_without_events_is_shown_with_its_member():
    assert values(ARGS)["tunnels"] == [
        {"member": "bank-b", "address": "203.0.113.7"},
        {"member": "bank-b", "address": "203.0.113.8"},
    ], "the program knows the peers' addresses: rows need no event"
    by_circuit = [
        section.title
        for section in sections(
            WorkbookArgs(**{**vars(ARGS), "peers": {"bank-b": []}})  # linked by a circuit
        )
    ]
    assert "Tunnels" not in by_circuit
    associations = next(
        each for each in items(book(VPN_GATEWAY=["gateway"]), 10) if "QmsaCount" in str(each["content"]["metrics"])
    )
    assert associations["content"]["metrics"][0]["aggregation"] == Aggregation.SUM
    assert associations["content"]["resourceIds"] == ["gateway"]


@pytest.mark.parametrize(
    ("counted", "title", "own"),
    [
        (Counted.OWN, "Transactions a minute, of this bank's own nodes", True),
        (Counted.NETWORK, "Transactions a minute, of the whole network", False),
    ],
)
def test_the_workbook_says_whose_transactions_it_counts(counted: Counted, title: str, own: bool):
    args = WorkbookArgs(**{**vars(ARGS), "transactions": counted})
    (item,) = [item for item in shown(args) if isinstance(item, QueryItem) and item.query == "transactions"]
    assert item.title == title
    assert f"iff({str(own).lower()}, sum(Counted), max(Counted))" in filled(item.query, values(args)), (
        "counts that are the same at every node must not be summed"
    )


def test_a_members_name_is_quoted_into_its_queries():
    args = WorkbookArgs(**{**vars(ARGS), "peers": {'"] | take 0 //': []}})
    assert r'dynamic(["\"] | take 0 //"])' in filled("members", values(args))


def test_each_members_workbook_has_its_own_parts():
    run = large()
    inputs = one(run, "applicationinsights:Workbook").inputs
    made = json.loads(inputs["serializedData"])
    assert made["fallbackResourceIds"] == [run.ids[one(run, "Workspace").urn]]
    measured = {each["content"]["resourceType"]: each["content"]["resourceIds"] for each in items(made, 10)}
    assert measured[Measured.VPN_GATEWAY] == [run.ids[one(run, "VirtualNetworkGateway", "network-vpn-gateway").urn]]
    assert measured[Measured.DATABASE] == [run.ids[one(run, "Server").urn]]
    assert len(measured[Measured.VAULT]) == 4, "vaults of the nodes, the bank, the authority and the root"
    assert all(each["content"]["resourceIds"] for each in items(made, 10)), "an empty chart"
    group = run.ids[one(run, "ResourceGroup").urn]
    assert f'id startswith "{group}/"' in inputs["serializedData"].replace('\\"', '"'), "only this bank's VMs"
    titles = [each["name"] for each in made["items"]]
    assert "The network's authority" in titles
    other = json.loads(one(bank("bank-a"), "applicationinsights:Workbook").inputs["serializedData"])
    assert placeholders("members") == {"members"}
    assert '"bank-b"' in str([each["content"]["query"] for each in items(other, 3)])
