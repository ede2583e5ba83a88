"""The queries of the workbook and of the alert rules, each a `.kql` file beside this module.

A query names a table of `LOG_TABLES`, such as `Metrics`, instead of Log Analytics' own. So it is valid in a new
workspace too, which lacks a table until its first row arrives.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

Value: TypeAlias = str | int | float | Sequence[object] | Mapping[str, object]
"""Value of a placeholder; a sequence or a mapping becomes a dynamic value of KQL."""

OWN_DAYS, PEERS_DAYS = 90, 30
"""Days left from which tile and alert report a certificate or list that a person must renew: the bank's own, and a
peer's. Certificates are valid for 12 months and renewed from 4 months before their end; a peer renews its own."""
LAST_DAYS = 30
"""Days left from which an operator must act at once, for the bank's own certificates and lists."""

_HERE = Path(__file__).parent
_PLACEHOLDER = re.compile(r"\$\{(\w+)\}")


@dataclass(frozen=True, kw_only=True)
class LogTable:
    """A table of Log Analytics, and those of its columns that queries may read."""

    table: str
    """Name in Log Analytics."""
    columns: Mapping[str, str]
    """Types by column name, as in learn.microsoft.com/azure/azure-monitor/reference/tables."""

    def fuzzy(self) -> str:
        """KQL of the table's rows, without rows if the workspace has no such table."""
        columns = ", ".join(f"{name}: {kind}" for name, kind in self.columns.items())
        return f"union isfuzzy=true {self.table}, (datatable ({columns}) [])"


LOG_TABLES: Mapping[str, LogTable] = {
    "Metrics": LogTable(
        table="AppMetrics",
        columns={
            "TimeGenerated": "datetime",
            "Name": "string",
            "Sum": "real",
            "ItemCount": "int",
            "AppRoleInstance": "string",
            "Properties": "dynamic",
        },
    ),
    "VmLogs": LogTable(
        table="Syslog",
        columns={
            "TimeGenerated": "datetime",
            "Computer": "string",
            "ProcessName": "string",
            "SeverityLevel": "string",
            "SyslogMessage": "string",
        },
    ),
    "VmCounters": LogTable(
        table="Perf",
        columns={
            "TimeGenerated": "datetime",
            "Computer": "string",
            "ObjectName": "string",
            "CounterName": "string",
            "InstanceName": "string",
            "CounterValue": "real",
        },
    ),
    "VmHeartbeats": LogTable(table="Heartbeat", columns={"TimeGenerated": "datetime", "Computer": "string"}),
    "VaultLogs": LogTable(
        table="AZKVAuditLogs",
        columns={
            "TimeGenerated": "datetime",
            "OperationName": "string",
            "HttpStatusCode": "int",
            "CallerIpAddress": "string",
            "Identity": "dynamic",
            "Id": "string",
            "_ResourceId": "string",
        },
    ),
    "BlobLogs": LogTable(
        table="StorageBlobLogs",
        columns={
            "TimeGenerated": "datetime",
            "OperationName": "string",
            "StatusCode": "string",
            "CallerIpAddress": "string",
            "RequesterObjectId": "string",
            "ObjectKey": "string",
            "_ResourceId": "string",
        },
    ),
    "DatabaseLogs": LogTable(
        table="PGSQLServerLogs",
        columns={
            "TimeGenerated": "datetime",
            "ErrorLevel": "string",
            "Message": "string",
            "_ResourceId": "string",
        },
    ),
    # A gateway's columns exist only after its first rows; the columns named here exist before.
    "GatewayLogs": LogTable(
        table="AzureDiagnostics",
        columns={
            "TimeGenerated": "datetime",
            "Category": "string",
            "OperationName": "string",
            "Message": "string",
            "remoteIP_s": "string",
            "instance_s": "string",
            "status_s": "string",
            "stateChangeReason_s": "string",
            "_ResourceId": "string",
        },
    ),
    # A function of each workspace, learn.microsoft.com/azure/azure-monitor/logs/monitor-workspace.
    "WorkspaceReports": LogTable(
        table="_LogOperation",
        columns={
            "TimeGenerated": "datetime",
            "Category": "string",
            "Operation": "string",
            "Level": "string",
            "Detail": "string",
        },
    ),
    "Ingestion": LogTable(
        table="Usage",
        columns={
            "TimeGenerated": "datetime",
            "DataType": "string",
            "Quantity": "real",
            "IsBillable": "bool",
        },
    ),
}
"""Tables by their name in queries."""


def query(name: str, **values: Value) -> str:
    """The query of `name.kql`: each placeholder `${x}` becomes the value of `x`, quoted as a literal of KQL.

    Raises:
        ValueError: the file has a placeholder without a value, or a value has no placeholder.
    """
    text, wanted = _text(name), placeholders(name)
    if wanted != values.keys():
        raise ValueError(f"{name}.kql: values are {sorted(values)}; wanted {sorted(wanted)}")
    words = set(re.findall(r"\w+", text))
    sources = [f"let {each} = {source.fuzzy()};\n" for each, source in LOG_TABLES.items() if each in words]
    return "".join(sources) + _PLACEHOLDER.sub(lambda found: literal(values[found[1]]), text)


def placeholders(name: str) -> frozenset[str]:
    """Names of the placeholders in `name.kql`."""
    return frozenset(_PLACEHOLDER.findall(_text(name)))


def _text(name: str) -> str:
    return (_HERE / f"{name}.kql").read_text("utf-8").strip()


def literal(value: Value) -> str:
    """A value as a literal of KQL."""
    if isinstance(value, str):
        # Escapes are those of JSON, learn.microsoft.com/kusto/query/scalar-data-types/string.
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return f"real({value!r})"
    return f"dynamic({json.dumps(value, ensure_ascii=False)})"
