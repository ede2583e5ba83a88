"""Runs queries on rows, without Log Analytics."""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

import duckdb_kql

from components.queries import LOG_TABLES

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_TYPES = {
    "string": "VARCHAR",
    "datetime": "TIMESTAMP",
    "real": "DOUBLE",
    "int": "INTEGER",
    "long": "BIGINT",
    "bool": "BOOLEAN",
    "dynamic": "JSON",
}


def workspace(**tables: Iterable[Mapping[str, Any]]) -> "DuckDBPyConnection":
    """A workspace with these tables; a row may leave columns out. Times are naive UTC.

    A table that is not given does not exist, as in a new workspace.
    """
    connection = _with_tables(frozenset(tables))
    _fill(connection, tables)
    return connection


def _with_tables(tables: Iterable[str]) -> "DuckDBPyConnection":
    # With several threads the order of rows with equal sort keys varies.
    connection = duckdb_kql.connect(config={"threads": 1})
    for table in tables:
        columns = ", ".join(f"{name} {kind}" for name, kind in _columns(table).items())
        connection.execute(f'CREATE TABLE "{table}" ({columns})')
    return connection


@cache
def _columns(table: str) -> Mapping[str, str]:
    (columns,) = (source.columns for source in LOG_TABLES.values() if source.table == table)
    return {name: _TYPES[kind] for name, kind in columns.items()}


def _fill(connection: "DuckDBPyConnection", tables: Mapping[str, Iterable[Mapping[str, Any]]]) -> None:
    for table, rows in tables.items():
        values = ", ".join(
            f"CAST(Row->'{name}' AS JSON)" if kind == "JSON" else f"CAST(Row->>'{name}' AS {kind})"
            for name, kind in _columns(table).items()
        )
        if given := list(rows):
            # Inserting rows one by one takes a hundred times as long.
            connection.execute(
                f'INSERT INTO "{table}" SELECT {values} FROM (SELECT unnest(CAST(? AS JSON[])) AS Row)',  # noqa: S608
                [json.dumps(given, default=str)],
            )


@cache
def _translated(query: str, tables: frozenset[str]) -> duckdb_kql.TranslationResult:
    """A query as SQL, with its time as a parameter. To translate takes ten times as long as to run it."""
    schema = {source.table: list(source.columns) for source in LOG_TABLES.values() if source.table in tables}
    return duckdb_kql.to_sql(query, schema=schema, query_now=datetime.now(UTC), allow_write=False)


def answer(connection: "DuckDBPyConnection", query: str, *, now: datetime) -> list[dict[str, Any]]:
    """The result of a query in a workspace at a time."""
    tables = frozenset(name for (name,) in connection.execute("SHOW TABLES").fetchall())
    translated = _translated(query, tables)
    # A query's only parameter is its time.
    found = connection.execute(translated, dict.fromkeys(translated.parameters, now))
    columns = [name for name, *_ in found.description or ()]
    return [dict(zip(columns, row, strict=True)) for row in found.fetchall()]


# Opening a database and creating its tables takes longer than most queries.
_database = cache(_with_tables)


def rows_of(query: str, *, now: datetime, **tables: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The result of one query in a workspace with these tables."""
    connection = _database(frozenset(tables))
    connection.begin()
    try:
        _fill(connection, tables)
        return answer(connection, query, now=now)
    finally:
        connection.rollback()
