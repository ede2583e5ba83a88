"""Rows of Log Analytics from a real run: metrics and logs of a bank's VMs, and its database's log.

`make ledger RECORD=FILE` writes such a file; `RECORDED` is one.
"""

import gzip
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch

from azure.monitor.opentelemetry.exporter import AzureMonitorMetricExporter
from azure.monitor.opentelemetry.exporter.export._base import ExportResult
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, Resource
from typing_extensions import override

from contract.metrics import READING_SECONDS
from host.metrics import NOT_SENT, instrument
from host.status import Status
from lab import ROOT

Row = dict[str, Any]
RECORDED = ROOT / "lab" / "recorded.json.gz"
"""The tables of a recorded run, by which queries are tested."""
METRICS_FILE_NAME = "metrics.jsonl"
"""Name of the file in a VM's folder with its metrics, a JSON object a line."""
_NOWHERE = "InstrumentationKey=00000000-0000-0000-0000-000000000000;IngestionEndpoint=https://swedencentral-1.in.applicationinsights.azure.com/"
_SYSLOG_LEVELS = {"WARNING": "warning", "ERROR": "err", "CRITICAL": "crit"}
"""Levels that the data collection rule selects, as syslog calls them."""
_VM_LINE = re.compile(rf"([\d-]+ [\d:]+),\d+ ({'|'.join(_SYSLOG_LEVELS)}) (.*)")
_DATABASE_LINE = re.compile(r"([\d-]+ [\d:.]+) \w+ \[\d+\] (WARNING|ERROR|FATAL|PANIC):  (.*)")


class MetricRows(AzureMonitorMetricExporter):
    """Makes rows of `AppMetrics` of all that the exporter would post."""

    def __init__(self, keep: Callable[[Row], None]) -> None:
        """Give each row to `keep`."""
        with patch.dict(os.environ, dict.fromkeys(NOT_SENT, "true")):
            super().__init__(connection_string=_NOWHERE, disable_offline_storage=True)
        self._keep = keep

    @override
    def _transmit(self, envelopes: list[Any], _skip_rate_limit: bool = False) -> ExportResult:
        for envelope in envelopes:
            (metric,) = envelope.data.base_data.metrics
            self._keep(
                {
                    "TimeGenerated": envelope.time.astimezone(UTC).replace(tzinfo=None),
                    "Name": metric.name,
                    "Sum": metric.value,
                    "ItemCount": metric.count,
                    "AppRoleInstance": envelope.tags["ai.cloud.roleInstance"],
                    "Properties": dict(envelope.data.base_data.properties or {}),
                }
            )
        return ExportResult.SUCCESS


def record(file: Path, status: Status) -> None:
    """Append a VM's metrics to a file every minute, as rows of `AppMetrics`, until the process ends."""

    def keep(row: Row) -> None:
        with file.open("a", encoding="utf-8") as opened:
            opened.write(json.dumps(row, default=datetime.isoformat) + "\n")

    reader = PeriodicExportingMetricReader(MetricRows(keep), 1000 * READING_SECONDS)
    resource = Resource.create({SERVICE_INSTANCE_ID: status.vm})
    instrument(MeterProvider([reader], resource).get_meter("ledger"), status)


@dataclass(frozen=True)
class Recording:
    """The workspace's rows after a run."""

    end: datetime
    """End of the run: naive UTC, like KQL's times here."""
    tables: Mapping[str, list[Row]]
    """Rows by table of Log Analytics."""

    def write(self, file: Path) -> None:
        """Write it as compressed JSON."""
        text = json.dumps({"end": self.end, "tables": self.tables}, default=datetime.isoformat, indent=0)
        # Without a timestamp: the same rows give the same file.
        file.write_bytes(gzip.compress(text.encode(), mtime=0))

    @classmethod
    def read(cls, file: Path = RECORDED) -> "Recording":
        """Read a file that `write` wrote."""
        document = json.loads(gzip.decompress(file.read_bytes()))
        tables = {table: [_timed(row) for row in rows] for table, rows in document["tables"].items()}
        return cls(datetime.fromisoformat(document["end"]), tables)


def recording(vms: Mapping[str, Path], database_log: str, end: datetime) -> Recording:
    """Collect a run's rows.

    Args:
        vms: each VM's folder, by its name.
        database_log: what the bank's PostgreSQL server logged.
        end: when the run ended, UTC.
    """
    return Recording(
        end,
        {
            "AppMetrics": [row for folder in vms.values() for row in _metrics(folder / METRICS_FILE_NAME)],
            "Syslog": [row for vm, folder in vms.items() for row in _vm_log(vm, (folder / "log").read_text("utf-8"))],
            "PGSQLServerLogs": list(_database(database_log)),
        },
    )


def _metrics(file: Path) -> Iterator[Row]:
    for line in file.read_text("utf-8").splitlines():
        yield _timed(json.loads(line))


def _vm_log(vm: str, log: str) -> Iterator[Row]:
    for time, level, text in _VM_LINE.findall(log):
        yield {
            "TimeGenerated": _utc(time),
            "Computer": vm,
            "ProcessName": "ledger-authority" if "authority" in vm else "ledger-agent",
            "SeverityLevel": _SYSLOG_LEVELS[level],
            "SyslogMessage": f"{level} {text}",
        }


def _database(log: str) -> Iterator[Row]:
    for time, level, text in _DATABASE_LINE.findall(log):
        yield {"TimeGenerated": _utc(time), "ErrorLevel": level, "Message": text}


def _timed(row: Row) -> Row:
    return {**row, "TimeGenerated": datetime.fromisoformat(row["TimeGenerated"])}


def _utc(local: str) -> datetime:
    return datetime.fromisoformat(local).astimezone(UTC).replace(tzinfo=None)
