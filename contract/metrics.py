"""Names of the metrics that VMs send; the workbook and the alerts query them.

Each is sent once a minute; column `AppRoleInstance` has the VM's host name.
"""

from enum import StrEnum

READING_SECONDS = 60
"""Interval at which each metric is read and sent."""


class Metric(StrEnum):
    """OpenTelemetry metric names; in Log Analytics in table `AppMetrics`."""

    NODES_AVAILABLE = "ledger.nodes.available"
    """1 from each VM whose ledger node is ready, else 0; by identity."""
    STANDBYS = "ledger.standbys"
    """1 from each VM that waits for an identity, else 0; by model."""
    TRANSACTIONS = "ledger.transactions"
    """Transactions committed since the last reading, in the scope that the platform counts; by identity."""
    FAILURES = "ledger.failures"
    """Transactions that failed since the last reading; by identity."""
    MEMBERS_REACHABLE = "ledger.members.reachable"
    """1 from each node for each other member whose nodes it reaches, else 0; by identity and member."""
    DAYS_LEFT = "ledger.days.left"
    """Days until a certificate or list ends that a person must renew; by what ends and, if a peer's, its member."""
    LEASE_EPOCH = "ledger.lease.epoch"
    """Epoch of the identity that the VM holds; by identity."""
    LEASE_LATENCY = "ledger.lease.latency"
    """Seconds that the last renewal of the lease took; by identity."""
    TAKEOVERS = "ledger.takeovers"
    """Identities that the VM took over since the last reading, after their holders' leases lapsed."""
    FAULTS = "ledger.faults"
    """Exceptions that no handler expected, since the last reading: each has its traceback in the VM's journal."""
    IMPAIRED = "ledger.impaired"
    """1 from each VM for each present cause, nothing from a healthy VM; by `Cause`, and by the member that it
    concerns."""
    LIST_AGE = "ledger.revocation.age"
    """Seconds since the signing of the oldest daily revocation list that the VM has."""
    ROOT_OPEN = "ledger.authority.root.open"
    """1 from each VM of a network authority that may use the root key, else 0."""
    PENDING_REQUESTS = "ledger.authority.requests"
    """Requests for certificates at the authority that wait for a person."""
    UNPROVEN = "ledger.authority.unproven"
    """Requests refused by the authority since the last reading: the sender did not prove which member it is."""


class Dimension(StrEnum):
    """Dimensions of metrics; in Log Analytics keys of column `Properties`."""

    IDENTITY = "identity"
    MEMBER = "member"
    WHAT = "what"
    CAUSE = "cause"
    MODEL = "model"
    """Differs between VMs made with different custom data; an image's programs and settings do not count."""


class Cause(StrEnum):
    """Why a VM is impaired; a value of the dimension `cause`."""

    SHARE = "share"
    DISK = "disk"
    CLOCK = "clock"
    RUNTIME = "runtime"
    VAULT = "vault"
    DATABASE = "database"
    LEASES = "leases"
    """The lease store does not answer, or its data is damaged."""
    NODE = "node"
    """The node does not start, or has died."""
    EXCHANGE = "exchange"
    """Network information can't be written or read at the bank's own storage."""
    AUTHORITY = "authority"
    """The network authority does not answer; on its own VMs: its due work fails."""
    PEER = "peer"
    """A member's network information can't be followed, and none of its nodes takes a connection."""
    REFUSED = "refused"
    """The same, though a node of the member is reachable: its network information is refused or missing, or another
    of its nodes can't be connected to."""
    APPROVAL = "approval"
    """A person has not approved certificates of the VM's identity."""
    REVOCATION = "revocation"
    """The network's revocation lists are too old."""
    FAULT = "fault"
    """An exception that no handler expected, in the last ten minutes."""


class Figure(StrEnum):
    """Values that a node or an authority reports; `Metric` names the metric of each."""

    TRANSACTIONS = "transactions"
    """Committed since the node's start."""
    FAILURES = "failures"
    """Refused or failed since the node's start."""
    ROOT_OPEN = "root-open"
    """Whether the VM may use the root key: 1 or 0."""
    PENDING = "pending"
    """Requests at the authority that wait for a person."""
    UNPROVEN = "unproven"
    """Requests refused by the authority since its start: the sender did not prove which member it is."""
    LIST_AGE = "list-age"
