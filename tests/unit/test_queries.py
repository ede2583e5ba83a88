"""Queries get quoted values, and run without their tables."""

import re
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from components import queries
from components.queries import LOG_TABLES, literal, query
from lab import ROOT
from lab.kql import rows_of, workspace

NOW = datetime(2026, 11, 29, 12)  # noqa: DTZ001 KQL's times are UTC and naive here.


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of queries for a test."""
    monkeypatch.setattr(queries, "_HERE", tmp_path)
    return tmp_path


def test_rows_have_one_order():
    (found,) = workspace().execute("SELECT current_setting('threads')").fetchall()
    assert found == (1,), "with equal sort keys the workbook's picture would differ from run to run"


@pytest.mark.parametrize(
    "value",
    [
        "plain",
        'a "quoted" name',
        "C:\\ledger",
        "O=Bänk, L=Zürich",
        '"; Metrics | take 1 //',
        "two\nlines",
        "${other}",
    ],
)
def test_a_value_in_a_query_is_one_literal(stored: Path, value: str):
    (stored / "print.kql").write_text("print Value = ${value}")
    assert rows_of(query("print", value=value), now=NOW) == [{"Value": value}], "a value must not become syntax"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3, "3"),
        (2.5, "real(2.5)"),
        (True, "true"),
        (["a", "b"], 'dynamic(["a", "b"])'),
        ({"Bank B": ["192.0.2.1"]}, 'dynamic({"Bank B": ["192.0.2.1"]})'),
    ],
)
def test_each_type_of_value_has_its_literal(value: queries.Value, text: str):
    assert literal(value) == text


@pytest.mark.parametrize("values", [{}, {"one": 1, "two": 2}, {"two": 2}])
def test_values_and_placeholders_must_match(stored: Path, values: dict[str, int]):
    (stored / "one.kql").write_text("print ${one}")
    with pytest.raises(ValueError, match=r"one\.kql: values are .*; wanted \['one'\]"):
        query("one", **values)


def test_a_query_runs_without_its_tables(stored: Path):
    for name in LOG_TABLES:
        (stored / "all.kql").write_text(f"{name} | count")
        assert rows_of(query("all"), now=NOW) == [{"Count": 0}], f"{name} fails in a new workspace"


def test_each_column_is_read_by_a_query():
    queries = ROOT / "components" / "queries"
    words = {word for each in queries.glob("*.kql") for word in re.findall(r"\w+", each.read_text("utf-8"))}
    unread = {name: table.columns.keys() - words for name, table in LOG_TABLES.items()}
    assert not any(unread.values()), f"{unread}: a column that no query reads is superfluous"


def test_a_query_gets_its_tables_rows(stored: Path):
    (stored / "all.kql").write_text(
        "Metrics | where TimeGenerated > ago(1h) | project Name, Node = Properties.identity"
    )
    rows = [
        {"TimeGenerated": NOW - timedelta(minutes=age), "Name": f"m{age}", "Properties": {"identity": "n"}}
        for age in (1, 70)
    ]
    assert [row["Name"] for row in rows_of(query("all"), now=NOW, AppMetrics=rows)] == ["m1"]
