"""Logs and counters that are collected from a member's resources, for tiles, alert rules and runbooks."""

from dataclasses import dataclass
from enum import StrEnum


class LogCategory(StrEnum):
    """Categories of resource logs, learn.microsoft.com/azure/azure-monitor/reference/logs-index."""

    AUDIT_EVENT = "AuditEvent"
    """Each request to a vault."""
    STORAGE_DELETE = "StorageDelete"
    """Each deletion of a blob. Reads and lease renewals, most of an account's requests, are not
    collected: blob versions show what was written."""
    POSTGRESQL_LOGS = "PostgreSQLLogs"
    TUNNEL = "TunnelDiagnosticLog"
    """Changes of a tunnel's state."""
    ROUTE = "RouteDiagnosticLog"
    """Changes of routes and of BGP sessions."""
    IKE = "IKEDiagnosticLog"
    """Why two gateways can't negotiate keys."""


VAULT_LOGS = (LogCategory.AUDIT_EVENT,)
BLOB_LOGS = (LogCategory.STORAGE_DELETE,)
DATABASE_LOGS = (LogCategory.POSTGRESQL_LOGS,)
GATEWAY_LOGS = (LogCategory.TUNNEL, LogCategory.ROUTE, LogCategory.IKE)
"""The log categories that are collected, by the kind of resource."""

TABLES = {
    LogCategory.AUDIT_EVENT: "AZKVAuditLogs",
    LogCategory.STORAGE_DELETE: "StorageBlobLogs",
    LogCategory.POSTGRESQL_LOGS: "PGSQLServerLogs",
    # Azure has no resource-specific table for a gateway.
    LogCategory.TUNNEL: "AzureDiagnostics",
    LogCategory.ROUTE: "AzureDiagnostics",
    LogCategory.IKE: "AzureDiagnostics",
}
"""Log Analytics table of each category."""
DEDICATED = frozenset({LogCategory.AUDIT_EVENT, LogCategory.POSTGRESQL_LOGS})
"""Categories whose rows go to AzureDiagnostics unless the diagnostic setting has destination type `Dedicated`. Other
categories have one table only, and Azure does not store a destination type for them."""


@dataclass(frozen=True, kw_only=True)
class Counters:
    """Performance counters that are sampled together, every `seconds`."""

    seconds: int
    specifiers: tuple[str, ...]


# Azure's free metrics already have a VM's processors, memory, disk operations and network.
COUNTERS = Counters(seconds=300, specifiers=("Logical Disk(*)\\% Used Space", "Memory(*)\\Available MBytes Memory"))
"""Performance counters of the VMs: the seconds between two samples, and their names."""
FACILITIES = ("auth", "authpriv", "daemon", "kern", "syslog")
LEVELS = ("Warning", "Error", "Critical", "Alert", "Emergency")
"""Syslog facilities and severities that are collected from the VMs."""
