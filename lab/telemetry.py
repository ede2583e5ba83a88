"""Rows that a bank of three sends in two hours with a takeover and a temporarily unavailable peer.

Metrics take a VM's real way: from agents' statuses through `host.metrics` and the exporter to its requests.
The statuses are scripted; Azure's own logs follow its documented examples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import cycle

from opentelemetry.sdk.metrics import Counter, MeterProvider, ObservableCounter
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, Resource

from contract.metrics import READING_SECONDS, Cause, Figure
from host.metrics import instrument
from host.status import Readiness, State, Status
from lab.bank_of_three import EXAMPLE
from lab.recording import MetricRows, Recording, Row

END = datetime(2026, 11, 29, 12)  # noqa: DTZ001 KQL's times are UTC, and naive here.
"""The time at which the workbook is viewed."""
MINUTES = 120
"""Length of the shown time range."""
_TAKEOVER_MINUTE, _OUTAGE_MINUTES = 70, range(95, 103)
"""Minutes of the takeover of the first node, and of bank-c's outage."""


@dataclass
class _Vm:
    """A VM's agent, and its meter."""

    status: Status

    def __post_init__(self) -> None:
        delta = AggregationTemporality.DELTA
        self.reader = InMemoryMetricReader(preferred_temporality={ObservableCounter: delta, Counter: delta})
        resource = Resource.create({SERVICE_INSTANCE_ID: self.status.vm})
        instrument(MeterProvider([self.reader], resource).get_meter("ledger"), self.status)


def metrics() -> list[Row]:
    """Rows of `AppMetrics`."""
    vms = [_Vm(Status(name)) for name in ("node000001", "node000002", "authority000001")]
    rows: list[Row] = []
    exporter = MetricRows(rows.append)
    for minute in range(MINUTES + 1):
        _live(minute, *(vm.status for vm in vms))
        for vm in vms:
            if (vm.status.vm == "node000001" and minute > _TAKEOVER_MINUTE) or not (
                read := vm.reader.get_metrics_data()
            ):
                continue
            before = len(rows)
            exporter.export(read)
            for row in rows[before:]:
                row["TimeGenerated"] = END - timedelta(minutes=MINUTES - minute)
    exporter.shutdown()
    return rows


def _live(minute: int, first: Status, second: Status, authority: Status) -> None:
    taken = minute > _TAKEOVER_MINUTE
    holder, epoch = (second, 4) if taken else (first, 3)
    second.state = State.HOLDING if taken else State.STANDBY
    second.takeovers = int(taken)
    # A node counts from its own start.
    committed = 40 * minute + 6 * (minute % 7) if not taken else 45 * (minute - _TAKEOVER_MINUTE)
    holder.state, holder.identity, holder.epoch = State.HOLDING, "node-1", epoch
    holder.readiness = Readiness.UP if minute in (_TAKEOVER_MINUTE + 1, _TAKEOVER_MINUTE + 2) else Readiness.READY
    holder.lease_latency = 0.031 + 0.004 * (minute % 5)
    holder.figures = {
        Figure.TRANSACTIONS: float(committed),
        Figure.FAILURES: float(minute in _OUTAGE_MINUTES) * 2,
        Figure.LIST_AGE: 3600.0 * 5 + 60 * minute,
    }
    unreachable = minute in _OUTAGE_MINUTES
    holder.reached = {"bank-b": True, "bank-c": not unreachable}
    holder.members = {"bank-c": "no answer in 10 s"} if unreachable else {}
    holder.days_left = {
        ("node-certificates", None): 341.0,
        ("node-certificates", "bank-b"): 212.0,
        ("node-certificates", "bank-c"): 24.0,
    }
    authority.state, authority.figures = (
        State.HOLDING,
        {Figure.ROOT_OPEN: 0.0, Figure.PENDING: 1.0, Figure.UNPROVEN: 0.0},
    )
    authority.days_left = {("root-list", None): 171.0, ("identity-ca", None): 1460.0}
    authority.reason, authority.cause = None, Cause.AUTHORITY


def rows() -> Mapping[str, list[Row]]:
    """Rows by table of Log Analytics."""

    def at(minutes_ago: float) -> datetime:
        return END - timedelta(minutes=minutes_ago)

    def line(ago: float, vm: str, level: str, text: str) -> Row:
        return {
            "TimeGenerated": at(ago),
            "Computer": vm,
            "ProcessName": "ledger-agent" if vm.startswith("node") else "ledger-authority",
            "SeverityLevel": level,
            "SyslogMessage": text,
        }

    return {
        **azure(END, ("node000002", "authority000001"), "node000001"),
        "AppMetrics": metrics(),
        "Syslog": [
            line(49, "node000002", "warning", "took node-1 over, epoch 4: node000001 fell silent"),
            line(25, "node000002", "warning", "network information: bank-c: no answer in 10 s"),
            line(24, "node000002", "err", "node-1: RPC of a payment failed: bank-c can't be reached"),
        ],
        "PGSQLServerLogs": [
            {
                "TimeGenerated": at(48),
                "ErrorLevel": "FATAL",
                "Message": "terminating connection due to administrator command",
            }
        ],
    }


def azure(end: datetime, running: Sequence[str], gone: str) -> Mapping[str, list[Row]]:
    """Rows of the tables that only Azure fills, like its documented examples.

    Args:
        end: when somebody looks at them.
        running: names of the VMs that run then.
        gone: the name of a VM that does not any more.
    """
    vault = "/subscriptions/0f6c8a54/resourceGroups/bank-a/providers/Microsoft.KeyVault/vaults/keys-bank-vault"

    def at(minutes_ago: float) -> datetime:
        return end - timedelta(minutes=minutes_ago)

    def counter(vm: str, name: str, instance: str, value: float) -> Row:
        return {
            "TimeGenerated": at(3),
            "Computer": vm,
            "ObjectName": name.split("/", maxsplit=1)[0],
            "CounterName": name.split("/")[1],
            "InstanceName": instance,
            "CounterValue": value,
        }

    def event(ago: float, address: str, instance: int, name: str, reason: str) -> Row:
        return {
            "TimeGenerated": at(ago),
            "Category": "TunnelDiagnosticLog",
            "OperationName": name,
            "remoteIP_s": address,
            "instance_s": f"GatewayTenantWorker_IN_{instance}",
            "status_s": name.removeprefix("Tunnel"),
            "stateChangeReason_s": reason,
        }

    def request(ago: float, operation: str, status: int, caller: str) -> Row:
        return {
            "TimeGenerated": at(ago),
            "OperationName": operation,
            "ResultType": "Success",
            "HttpStatusCode": status,
            "CallerIpAddress": caller,
            "Id": "https://keys-bank-vault.vault.azure.net/secrets/peers",
            "_ResourceId": vault,
        }

    return {
        "Perf": [
            row
            for vm, used in zip(running, cycle((61.4, 22.9)))
            for row in (
                counter(vm, "Logical Disk/% Used Space", "/", used),
                counter(vm, "Logical Disk/% Used Space", "/boot", 12.0),
                counter(vm, "Memory/Available MBytes Memory", "Memory", 9_810.0),
            )
        ],
        "Heartbeat": [{"TimeGenerated": at(1), "Computer": vm} for vm in running]
        + [{"TimeGenerated": at(50), "Computer": gone}],
        "AZKVAuditLogs": [
            request(95, "SecretSet", 200, "10.1.0.5"),
            # Before its first start, an agent checks whether the identity's keys were deleted.
            request(94, "SecretGetDeleted", 404, "10.1.0.5"),
            request(40, "SecretGet", 200, "10.1.0.21"),
            request(30, "SecretGet", 403, "10.1.0.77"),
        ],
        "StorageBlobLogs": [],
        "AzureDiagnostics": [
            event(25, EXAMPLE.peers["bank-c"][0], 0, "TunnelDisconnected", "Remote peer does not answer"),
            event(17, EXAMPLE.peers["bank-c"][0], 0, "TunnelConnected", ""),
        ],
        "Usage": [
            {"TimeGenerated": at(60 * 24 * day), "DataType": table, "Quantity": quantity, "IsBillable": True}
            for day in range(3)
            for table, quantity in (("AppMetrics", 31.0), ("AZKVAuditLogs", 12.0), ("Perf", 2.0))
        ],
    }


def recorded() -> tuple[datetime, Mapping[str, list[Row]]]:
    """The end of a real run, and its rows by table, with examples of the tables that only Azure fills."""
    run = Recording.read()
    last: dict[str, datetime] = {}
    for row in run.tables["AppMetrics"]:
        last[row["AppRoleInstance"]] = max(row["TimeGenerated"], last.get(row["AppRoleInstance"], datetime.min))  # noqa: DTZ901
    silent = run.end - timedelta(seconds=2 * READING_SECONDS)
    (gone,) = (vm for vm, time in last.items() if time < silent)
    return run.end, {**azure(run.end, sorted(last.keys() - {gone}), gone), **run.tables}
