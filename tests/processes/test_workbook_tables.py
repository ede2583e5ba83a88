"""What the workbook's queries give: for rows of a bank of three, with a takeover and a peer that was away; and for
those of a real run of `make ledger`, compared with what its rows say without a query.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest

from components.queries import query
from components.workbook import QueryItem, WorkbookArgs, filled, sections, values
from contract.metrics import Metric
from docs.workbook import PICTURE, made_from
from lab.bank_of_three import EXAMPLE, RECORDED_BANK
from lab.kql import answer, rows_of, workspace
from lab.telemetry import END, recorded, rows

Rows = list[dict[str, Any]]


def shown(args: WorkbookArgs, now: datetime, given: Mapping[str, Rows]) -> dict[str, Rows]:
    """What each of the workbook's queries gives, by its name."""
    connection, known = workspace(**given), values(args)
    return {
        item.query: answer(connection, filled(item.query, known), now=now)
        for section in sections(args)
        for item in section.items
        if isinstance(item, QueryItem)
    }


@pytest.fixture(scope="module")
def tables() -> dict[str, Rows]:
    return shown(EXAMPLE, END, rows())


def test_the_tiles_show_the_state_of_the_bank(tables: dict[str, Rows]):
    tiles = {each["Title"]: (each["Value"], each["State"]) for each in tables["overview"]}
    assert tiles["Nodes ready"] == ("1 of 1", 0), "after a takeover the identity counts once"
    assert tiles["VMs standing by"] == ("0 of 1", 1), "the standby took over, and no standby is left"
    assert tiles["Members reached"] == ("2 of 2", 0)
    assert tiles["Transactions a minute"] == ("48.0", 0), "each transaction is counted once"
    assert tiles["Takeovers"] == ("1", 1), "one takeover is counted once"
    assert tiles["Days until something ends"] == ("24", 1)
    assert tiles["Impaired VMs"] == ("0", 0), "resolved causes are not shown"


def test_a_takeover_is_visible(tables: dict[str, Rows]):
    (node,) = tables["nodes"]
    assert (node["VM"], node["Epoch"], node["State"]) == ("node000002", 4, 0)
    assert [(each["VM"], each["Epoch"]) for each in tables["holders"]] == [("node000002", 4), ("node000001", 3)]
    assert tables["holders"][0]["From"] > tables["holders"][1]["To"], "never two holders at a time"
    down = [each for each in tables["availability"] if each["Ready"] < 1]
    assert len(down) == 1, "two minutes without a node are in one bin"


def test_a_takeover_is_no_burst_of_transactions(tables: dict[str, Rows]):
    assert max(each["Committed"] for each in tables["transactions"]) < 60, "a count from a node's start must not show"
    assert sum(each["Failed"] for each in tables["transactions"]) > 0


def test_members_are_shown_with_their_name_and_time(tables: dict[str, Rows]):
    members = {each["Member"]: each for each in tables["members"]}
    assert members["bank-b"]["Reached"] == "from 1 of 1 nodes"
    assert members["bank-b"]["Since"] == END - timedelta(minutes=120), "for the whole time range"
    assert members["bank-c"]["Since"] == END - timedelta(minutes=15), "it has been reachable since then"
    assert (members["bank-b"]["DaysLeft"], members["bank-c"]["DaysLeft"]) == (212, 24)
    assert [(each["Cause"], each["Minutes"]) for each in tables["impaired"]] == [("peer", 8)]


def test_tunnels_are_shown_without_events(tables: dict[str, Rows]):
    assert [(each["Member"], each["State"], each["LastEvent"]) for each in tables["tunnels"]] == [
        ("bank-b", 0, "no change"),
        ("bank-b", 0, "no change"),
        ("bank-c", 0, "TunnelConnected"),
        ("bank-c", 0, "no change"),
    ]
    assert len(tables["gateway-log"]) == 2


def test_log_lines_are_shown_beside_the_metrics(tables: dict[str, Rows]):
    assert [(each["State"], each["VM"]) for each in tables["warnings"]] == [
        (2, "node000002"),
        (1, "node000002"),
        (1, "node000002"),
    ]
    assert tables["database-errors"][0]["Level"] == "FATAL"
    assert [each["Caller"] for each in tables["vault-refusals"]] == ["10.1.0.77"]
    assert [each["Operation"] for each in tables["vault-writes"]] == ["SecretSet"]
    assert tables["vms"][0]["VM"] == "node000001", "the VM that stopped reporting is first"
    assert {each["Value"] for each in tables["authority"]} == {"1", "0", "closed"}


def test_a_day_of_logs_is_projected_to_a_month(tables: dict[str, Rows]):
    assert tables["ingestion"][0] == {"Table": "AppMetrics", "GbADay": 0.031, "GbAMonth": 0.94}


def test_days_are_whole():
    midnight = END.replace(hour=0, minute=0, second=0, microsecond=0)
    hours = [
        {"TimeGenerated": midnight + timedelta(hours=each), "DataType": "AppMetrics", "Quantity": 1000 / 24}
        for each in range(-12 * 24, END.hour + 1)
    ]
    (row,) = rows_of(query("ingestion"), now=END, Usage=[{**each, "IsBillable": True} for each in hours])
    assert (row["GbADay"], row["GbAMonth"]) == (1.0, 30.42), "midnight's row is of the day before"


def test_the_picture_is_made_from_these_queries():
    assert made_from() in PICTURE.read_text("utf-8"), "docs/workbook.svg is stale: `make docs` draws it"


# --- A real run ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run() -> Mapping[str, Rows]:
    return recorded()[1]


@pytest.fixture(scope="module")
def real() -> dict[str, Rows]:
    end, given = recorded()
    return shown(RECORDED_BANK, end, given)


def sent(run: Mapping[str, Rows], metric: Metric) -> Rows:
    return [row for row in run["AppMetrics"] if row["Name"] == metric]


def by_identity(found: Sequence[dict[str, Any]]) -> dict[str, Rows]:
    grouped = defaultdict(list)
    for row in found:
        if "identity" in row["Properties"]:
            grouped[row["Properties"]["identity"]].append(row)
    return grouped


def test_a_real_runs_holders_are_the_reported_ones(run: Mapping[str, Rows], real: dict[str, Rows]):
    epochs = by_identity(sent(run, Metric.LEASE_EPOCH))
    held = {
        (identity, int(row["Sum"]), row["AppRoleInstance"]) for identity, found in epochs.items() for row in found
    }
    assert {(each["Identity"], each["Epoch"], each["VM"]) for each in real["holders"]} == held
    newest = {identity: max((epoch, vm) for of, epoch, vm in held if of == identity) for identity in epochs}
    assert {each["Identity"]: (each["Epoch"], each["VM"]) for each in real["nodes"]} == newest
    assert [each["State"] for each in real["nodes"]] == [0, 0, 0], "after the takeover each identity has a ready node"
    (moved,) = {identity for identity, (epoch, _) in newest.items() if epoch > 1}
    later, earlier = (each for each in real["holders"] if each["Identity"] == moved)
    assert later["From"] > earlier["To"], "never two holders at a time"


def test_a_real_runs_transactions_are_counted_once(run: Mapping[str, Rows], real: dict[str, Rows]):
    minutes = 5
    end = real["transactions"][-1]["TimeGenerated"] + timedelta(minutes=minutes)
    committed = sum(row["Sum"] for row in sent(run, Metric.TRANSACTIONS) if row["TimeGenerated"] < end)
    assert committed > 100, "the run has a stream of updates"
    assert sum(each["Committed"] for each in real["transactions"]) * minutes == pytest.approx(committed)
    assert sum(each["Failed"] for each in real["transactions"]) == 0


def test_a_real_runs_members_are_reached_from_all_nodes(run: Mapping[str, Rows], real: dict[str, Rows]):
    first = {
        member: min(
            row["TimeGenerated"]
            for row in sent(run, Metric.MEMBERS_REACHABLE)
            if row["Properties"]["member"] == member and row["Sum"]
        )
        for member in ("bank-b", "bank-c")
    }
    assert first["bank-b"] < first["bank-c"], "the third bank joins late"
    members = {each["Member"]: each for each in real["members"]}
    assert members.keys() == first.keys()
    for name, each in members.items():
        assert each["Reached"] == "from 3 of 3 nodes"
        assert abs(each["Since"] - first[name]) <= timedelta(minutes=5), "from the bin when it was first reached"
        assert each["DaysLeft"] == 364, "certificates are valid for a year"


def test_a_real_runs_tiles_show_only_the_takeover(real: dict[str, Rows]):
    tiles = {each["Title"]: (each["Value"], each["State"]) for each in real["overview"]}
    assert tiles["Nodes ready"] == ("3 of 3", 0)
    amiss = {title: value for title, (value, state) in tiles.items() if state}
    assert amiss == {"VMs standing by": "0 of 1", "Takeovers": "1"}
    assert {each["Title"]: each["State"] for each in real["authority"]} == {
        "Requests that wait for approval": 0,
        "Requests without a proof": 0,
        "The network's root": 0,
    }, "a new member is no unauthenticated one, and the root is closed once the network exists"
    assert {each["State"] for each in real["impaired"]} == {0}, "nodes waited for the network's first parameters"


def test_a_real_runs_warnings_are_those_of_its_vms(run: Mapping[str, Rows], real: dict[str, Rows]):
    times = [each["TimeGenerated"] for each in real["warnings"]]
    assert times == sorted((row["TimeGenerated"] for row in run["Syslog"]), reverse=True), (
        "the latest warning is first"
    )
    assert any("took node-2 over" in each["Line"] for each in real["warnings"])
    assert {each["State"] for each in real["warnings"]} == {1}, "no error is among them"
    assert len(real["database-errors"]) == len(run["PGSQLServerLogs"])


def test_nothing_of_a_real_run_expires_soon(run: Mapping[str, Rows], real: dict[str, Rows]):
    ends = {
        (row["Properties"]["what"], row["Properties"].get("member", "own")) for row in sent(run, Metric.DAYS_LEFT)
    }
    assert {(each["What"], each["Member"]) for each in real["ends"]} == ends
    assert {each["State"] for each in real["ends"]} == {0}


def test_a_real_runs_renewals_are_averages_of_its_measurements(run: Mapping[str, Rows], real: dict[str, Rows]):
    measured = by_identity(sent(run, Metric.LEASE_LATENCY))
    assert {each["Identity"] for each in real["renewals"]} == measured.keys()
    for each in real["renewals"]:
        begins = each["TimeGenerated"]
        values = [
            row["Sum"]
            for row in measured[each["Identity"]]
            if begins <= row["TimeGenerated"] < begins + timedelta(minutes=5)
        ]
        assert each["Seconds"] == pytest.approx(sum(values) / len(values))


def test_a_real_runs_takeover_is_a_gap_of_one_node_and_uses_the_standby(real: dict[str, Rows]):
    first, *_, last = real["availability"]
    assert first["StandingBy"] == 1, "at first the standby waits"
    assert last["StandingBy"] < 1, "it takes over in the last full bin"
    assert 2 < last["Ready"] < 3, "one of three nodes is missing for a part of it"
