"""Each query uses only existing tables, columns and functions, by Microsoft's own parser."""

import json
import re
import textwrap
from collections.abc import Iterator
from typing import Any

import pytest

from components.queries import LOG_TABLES
from lab import ROOT
from lab.banks import npm
from tests import kusto
from tests.kusto import complaints
from tests.runs import all_of, large, one

DOCUMENTED: dict[str, dict[str, str]] = json.loads((kusto.HERE / "tables.json").read_text("utf-8"))
"""Columns by table, as learn.microsoft.com/azure/azure-monitor/reference/tables has them. A gateway's are those of
azure/vpn-gateway/troubleshoot-vpn-with-azure-diagnostics."""
NEW = "does not refer to any known or currently accessible table"

needs_node = pytest.mark.skipif(not npm.available(), reason="no node and npm on PATH; wanted them for Kusto's parser")


def queries_in(made: Any) -> Iterator[str]:
    """Every query of a workbook."""
    if isinstance(made, dict):
        if isinstance(made.get("query"), str):
            yield made["query"]
        made = list(made.values())
    if isinstance(made, list):
        for each in made:
            yield from queries_in(each)


def deployed() -> dict[str, str]:
    """All queries as they are deployed for a large member."""
    run = large()
    book = json.loads(one(run, "applicationinsights:Workbook").inputs["serializedData"])
    rules = {each.name: each.inputs["criteria"]["allOf"][0]["query"] for each in all_of(run, "ScheduledQueryRule")}
    return {**rules, **{f"{place}: {text[:60]}": text for place, text in enumerate(queries_in(book))}}


def test_tables_are_the_documented_ones():
    for name, table in LOG_TABLES.items():
        assert table.columns.items() <= DOCUMENTED[table.table].items(), (
            f"{name}: a column must have its documented type"
        )


@needs_node
def test_each_query_is_valid():
    found = complaints(deployed(), DOCUMENTED)
    assert [each for each in found if each["place"] == "full"] == [], "an invalid query fails in Log Analytics"
    new = [
        each
        for each in found
        # Azure Resource Graph exists before any row.
        if each["place"] == "empty" and NEW not in each["message"] and "'resources'" not in each["message"]
    ]
    assert {each["query"]: each["message"] for each in new} == {}, (
        "such a query fails until its table has a first row"
    )


def documented() -> dict[str, str]:
    """The queries of the documents, and those that `az` commands of them send."""
    found = {}
    for document in sorted((ROOT / "docs").rglob("*.md")):
        text = document.read_text("utf-8")
        blocks = re.findall(r"^ *```kusto\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)
        sent = re.findall(r'--analytics-query (?:\\\n)? *"([^"]{9,})"', text)
        for query in (*map(textwrap.dedent, blocks), *sent):
            found[f"{document.name}: {query[:60]}"] = query
    return found


@needs_node
def test_each_query_of_the_documents_is_valid():
    queries = documented()
    assert len(queries) > 15, "a search that finds few queries proves nothing"
    found = complaints(queries, DOCUMENTED)
    assert [each for each in found if each["place"] == "full"] == [], "an operator on call copies it"


@needs_node
def test_the_parser_notices_a_wrong_name():
    (wrong, *_) = complaints({"wrong": "AppMetrics | where Nome == 'x'"}, DOCUMENTED)
    assert "Nome" in wrong["message"], "a check that accepts everything proves nothing"
