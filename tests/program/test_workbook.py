"""The workbook shows what members send, with thresholds, and asks for nothing that is not there."""

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
        assert {"success", "2", "4"} <= representations, f"{each['name']}: well, look and act look the same"


def test_all_of_it_follows_the_time_that_is_chosen():
    made = book(VAULT=["vault"])
    (parameters,) = items(made, 9)
    assert TIME_RANGE in [each["name"] for each in parameters["content"]["parameters"]]
    fixed = {item.title for item in shown() if isinstance(item, QueryItem) and item.days}
    assert fixed == {"Tunnels, by member", "What was collected"}, (
        "a tunnel that has been up for weeks has no event today"
    )
    for each in [*items(made, 3), *items(made, 10)]:
        chosen = each["content"].get("timeContextFromParameter")
        assert chosen == (None if each["name"] in fixed else TIME_RANGE), each["name"]


def test_each_query_is_shown_or_raises_an_alert():
    in_workbook = {item.query for item in shown() if isinstance(item, QueryItem)} | {"vm-resources"}
    components = "".join(path.read_text("utf-8") for path in (ROOT / "components").rglob("*.py"))
    named = {name for name in QUERIES if f'"{name}"' in components}
    assert in_workbook <= QUERIES.keys()
    assert sorted(QUERIES.keys() - in_workbook - named) == [], "nobody reads them"


@pytest.mark.parametrize("metric", Metric)
def test_a_query_reads_each_metric_that_is_sent(metric: Metric):
    assert [name for name, text in QUERIES.items() if f'"{metric}"' in text], "a bank pays for each row of it"


def test_each_metric_that_a_query_reads_is_sent():
    for name, text in QUERIES.items():
        asked = set(re.findall(r'"(ledger\.[\w.]+)"', text))
        assert asked <= set(Metric), f"{name}: nobody sends these"
        dimensions = set(re.findall(r"Properties\.(\w+)", text))
        assert dimensions <= set(Dimension), f"{name}: no metric has these"
        causes = set(re.findall(r'Cause [!=]= "(\w+)"', text))
        assert causes <= set(Cause), f"{name}: no VM is impaired by these"


def test_metrics_are_read_by_what_is_sure():
    for name, text in QUERIES.items():
        columns = set(re.findall(r"\b(Min|Max)\b", text))
        assert not columns & {"Min", "Max"}, f"{name}: of a gauge only Sum and ItemCount are sure"


@pytest.mark.parametrize("table", sorted(set(TABLES.values())))
def test_what_is_logged_is_read(table: str):
    (name,) = [name for name, each in LOG_TABLES.items() if each.table == table]
    readers = [query for query, text in QUERIES.items() if re.search(rf"\b{name}\b", text)]
    assert readers, f"{table}: a bank pays for lines that nobody reads"


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


def test_azures_metrics_are_named_as_it_names_them():
    for item in shown():
        if isinstance(item, MetricItem):
            documented = METRICS[item.measured]
            assert item.metrics.keys() <= documented.keys(), "an unknown metric is an empty chart"
            for name in item.metrics:
                assert item.split_by is None or item.split_by in documented[name]


def test_a_tunnel_is_shown_by_its_member_while_all_is_well():
    assert values(ARGS)["tunnels"] == [
        {"member": "bank-b", "address": "203.0.113.7"},
        {"member": "bank-b", "address": "203.0.113.8"},
    ], "the program knows the peers' addresses: rows do not wait for an event"
    by_circuit = [
        section.title
        for section in sections(
            WorkbookArgs(**{**vars(ARGS), "peers": {"bank-b": []}})  # a circuit leads there
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
        "what every node counts must not be added up"
    )


def test_a_members_name_is_quoted_into_its_queries():
    args = WorkbookArgs(**{**vars(ARGS), "peers": {'"] | take 0 //': []}})
    assert r'dynamic(["\"] | take 0 //"])' in filled("members", values(args))


def test_every_member_has_a_workbook_of_its_own_parts():
    run = large()
    inputs = one(run, "applicationinsights:Workbook").inputs
    made = json.loads(inputs["serializedData"])
    assert made["fallbackResourceIds"] == [run.ids[one(run, "Workspace").urn]]
    measured = {each["content"]["resourceType"]: each["content"]["resourceIds"] for each in items(made, 10)}
    assert measured[Measured.VPN_GATEWAY] == [run.ids[one(run, "VirtualNetworkGateway", "network-vpn-gateway").urn]]
    assert measured[Measured.DATABASE] == [run.ids[one(run, "Server").urn]]
    assert len(measured[Measured.VAULT]) == 4, "the nodes', the bank's, the authority's and the root's"
    assert all(each["content"]["resourceIds"] for each in items(made, 10)), "a chart of nothing"
    group = run.ids[one(run, "ResourceGroup").urn]
    assert f'id startswith "{group}/"' in inputs["serializedData"].replace('\\"', '"'), "this bank's VMs alone"
    titles = [each["name"] for each in made["items"]]
    assert "The network's authority" in titles
    other = json.loads(one(bank("bank-a"), "applicationinsights:Workbook").inputs["serializedData"])
    assert placeholders("members") == {"members"}
    assert '"bank-b"' in str([each["content"]["query"] for each in items(other, 3)])
