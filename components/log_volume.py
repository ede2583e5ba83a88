"""How much a member sends to Log Analytics, computed from the number of its senders. Pure: the bill imports it too.

Sizes are billed sizes: the text of a row's columns without the standard columns; a GB has 10^9 bytes,
learn.microsoft.com/azure/azure-monitor/logs/cost-logs#data-size-calculation.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from components.collected import COUNTERS
from contract.card import IpsecPolicy
from contract.metrics import READING_SECONDS, Metric
from contract.timing import SECRET_POLL_SECONDS, STANDBY

DAY = 86_400
DAYS_A_MONTH = 365 / 12
"""A day in seconds, and the average month in days."""

BY_VM = (Metric.NODES_AVAILABLE, Metric.STANDBYS, Metric.TAKEOVERS, Metric.FAULTS, Metric.LIST_AGE)
BY_IDENTITY = (Metric.TRANSACTIONS, Metric.FAILURES, Metric.LEASE_EPOCH, Metric.LEASE_LATENCY)
BY_MEMBER = (Metric.MEMBERS_REACHABLE,)
BY_END = (Metric.DAYS_LEFT,)
OF_AUTHORITY = (Metric.ROOT_OPEN, Metric.PENDING_REQUESTS, Metric.UNPROVEN)
"""Metrics, by what multiplies their rows. `IMPAIRED` is left out: no healthy VM sends it."""

_ENDS_OF_A_NODE, _ENDS_OF_AN_AUTHORITY = 2, 6
"""Rows of `DAYS_LEFT` of a node: its own certificates and its bank's other nodes'. Each peer adds one. And of an
authority's VM: root, CAs, lists and parameters."""
_DISKS = 7
"""Mounted file systems of a VM, and their total."""
_WARNINGS = 200
"""Syslog lines a day of a healthy VM, at Warning or above: of the kernel, cloud-init, and a node's start. An
assumption."""
_DELETIONS = 50
"""Deleted blobs a day: network information that members withdrew. An assumption."""
_POOL_SECONDS = 1800
"""Age at which a pooled database connection is closed: HikariCP's default maxLifetime, unchanged by Corda."""
_SERVICE_CONNECTIONS = 4 * 1440
"""Connections a day by which Azure monitors its server, each logged too. An assumption."""
_LINES_A_CONNECTION = 4
"""Received, authenticated, authorized, ended: log_connections and log_disconnections."""
_NEGOTIATIONS = DAY / IpsecPolicy().sa_life_time_seconds + DAY / 28_800
"""Key negotiations of a tunnel a day: quick and main mode, learn.microsoft.com/azure/vpn-gateway/vpn-gateway-vpn-faq.
"""
_LINES_A_NEGOTIATION = 20
"""Log lines of a negotiation. An assumption."""

BYTES = {
    "AppMetrics": 360,
    "AZKVAuditLogs": 1_000,
    "PGSQLServerLogs": 400,
    "AzureDiagnostics": 700,
    "Perf": 250,
    "Syslog": 320,
    "StorageBlobLogs": 1_200,
}
"""Billed bytes of a row by table, rounded up from real rows: tests/rows.py has one of each."""

CAP_FACTOR = 4
"""Daily cap as a multiple of a normal day: an incident logs more, and at the cap alerts get no data."""
CAP_FLOOR_GB = 2.0
"""Lowest daily cap in GB: a VM in a loop logs the same amount at a small member."""


@dataclass(frozen=True, kw_only=True)
class Senders:
    """Numbers of senders of log rows at one member."""

    vms: int
    """Node VMs, including standbys."""
    identities: int
    """Running nodes."""
    peers: int
    tunnels: int = 0
    """VPN tunnels to all peers."""
    connections: int = 0
    """Database connections of each identity."""
    authority_vms: int = 0


@dataclass(frozen=True)
class Volume:
    """Rows of one table in a day."""

    rows: float
    """Rows a day."""
    bytes_a_row: int

    @property
    def gb_a_month(self) -> float:
        """GB of 10^9 bytes in an average month."""
        return self.rows * self.bytes_a_row * DAYS_A_MONTH / 1e9


def volumes(senders: Senders) -> Mapping[str, Volume]:
    """Rows of a normal day, by Log Analytics table."""
    all_vms = senders.vms + senders.authority_vms
    series = (
        len(BY_VM) * senders.vms
        + (len(BY_IDENTITY) + len(BY_MEMBER) * senders.peers + len(BY_END) * (_ENDS_OF_A_NODE + senders.peers))
        * senders.identities
        # An authority's VM sends the VM metrics too, and the days left of the authority's certificates.
        + (len(BY_VM) + _ENDS_OF_AN_AUTHORITY + len(OF_AUTHORITY)) * senders.authority_vms
    )
    # Reads of the list of peers, each peer's card, and the bank's own card. Reads that unauthenticated requests cause
    # are limited, below a hundredth of the lowest cap, and not counted here.
    secrets = all_vms * ((2 + senders.peers) * DAY / SECRET_POLL_SECONDS + DAY / STANDBY.costly_check_seconds)
    # The agent of a running node also reads the RPC users.
    secrets += senders.identities * DAY / SECRET_POLL_SECONDS
    connections = (
        senders.identities * senders.connections * DAY / _POOL_SECONDS
        + (senders.vms - senders.identities) * DAY / STANDBY.costly_check_seconds
        + _SERVICE_CONNECTIONS
    )
    rows = {
        "AppMetrics": series * DAY / READING_SECONDS,
        "AZKVAuditLogs": secrets,
        "PGSQLServerLogs": connections * _LINES_A_CONNECTION if senders.connections else 0,
        "AzureDiagnostics": senders.tunnels * _NEGOTIATIONS * _LINES_A_NEGOTIATION,
        "Perf": all_vms * (_DISKS + 1) * DAY / COUNTERS.seconds,
        "Syslog": all_vms * _WARNINGS,
        "StorageBlobLogs": _DELETIONS,
    }
    return {table: Volume(count, BYTES[table]) for table, count in rows.items()}


def gb_a_month(senders: Senders) -> float:
    """GB of all tables in an average month."""
    return sum(each.gb_a_month for each in volumes(senders).values())


def daily_cap_gb(senders: Senders) -> float:
    """Daily cap of the workspace in GB, rounded up to a tenth: it ingests nothing more until the next day."""
    return max(CAP_FLOOR_GB, math.ceil(10 * CAP_FACTOR * gb_a_month(senders) / DAYS_A_MONTH) / 10)
