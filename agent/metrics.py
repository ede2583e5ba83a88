"""The name of every metric that a node VM sends; the workbook and the alerts query these."""

from enum import StrEnum


class Metric(StrEnum):
    """OpenTelemetry metric names; in Log Analytics they stand in the table `AppMetrics`."""

    NODES_AVAILABLE = "ledger.nodes.available"
    """1 from each VM whose ledger node is ready."""
    STANDBYS = "ledger.standbys"
    """1 from each VM that waits for an identity."""
    TRANSACTIONS = "ledger.transactions"
    """Transactions committed since the last reading, in the scope that the platform counts."""
    MEMBERS_KNOWN = "ledger.members.known"
    """Members in the node's network map."""
    MEMBERS_REACHABLE = "ledger.members.reachable"
    """Members whose nodes answer on their address."""
    LEASE_EPOCH = "ledger.lease.epoch"
    """Epoch of the identity that the VM holds; dimension `identity`."""
