"""Each alert rule on a query, from both sides: it fires on the rows that it describes, and not on similar rows."""

import asyncio
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest
from pulumi import Output

from components.alerts import AlertsArgs, PeerInstance, Watched
from components.alerts.logs import QUERY_RULES
from components.alerts.rules import QueryRule
from components.inputs import Placement
from components.queries import LAST_DAYS, LOG_TABLES, OWN_DAYS, PEERS_DAYS, query
from contract.metrics import Cause, Metric
from lab.kql import rows_of
from lab.recording import Recording
from stack import azure_values

NOW = datetime(2026, 11, 29, 12)  # noqa: DTZ001 KQL's times are UTC and naive here.
GROUP = "/subscriptions/s/resourceGroups/g/providers"
VAULT, GATEWAY = f"{GROUP}/Microsoft.KeyVault/vaults/keys", f"{GROUP}/Microsoft.Network/virtualNetworkGateways/vpn"
ROOT_VAULT = f"{GROUP}/Microsoft.KeyVault/vaults/root"
AUTHORITY_VAULT = f"{GROUP}/Microsoft.KeyVault/vaults/authority"
AGENTS, OUTSIDER = "principal-of-the-agents", "somebody-else"
IDENTITIES = ("node-0", "node-1", "node-2")
ARGS = AlertsArgs(
    placement=Placement(resource_group_name="g", location="swedencentral"),
    resource_group_id="/subscriptions/s/resourceGroups/g",
    watched={
        Watched.VAULT: {"": VAULT, "authority": AUTHORITY_VAULT, "root": ROOT_VAULT},
        Watched.VPN_GATEWAY: {"": GATEWAY},
    },
    identities=len(IDENTITIES),
    workspace_id="/workspace",
    root_vault_id=ROOT_VAULT,
    peers={
        "bank-b": [PeerInstance("198.51.100.1", "10.2.0.4"), PeerInstance("198.51.100.2", "10.2.0.5")],
        "bank-c": [PeerInstance("198.51.100.3", "10.3.0.4"), PeerInstance("198.51.100.4", "10.3.0.5")],
    },
    vault_writers={"": AGENTS},
    read_vaults=["", "authority"],
)
RULES = {rule.name: rule for rule in QUERY_RULES}
QUARTER, HALF_A_DAY = range(15), range(0, 720, 5)
ARRIVED = range(3, 21)
"""A quarter of an hour whose last readings are three minutes on their way."""

Rows = Sequence[Mapping[str, Any]]


def at(age: float) -> datetime:
    """So many minutes ago."""
    return NOW - timedelta(minutes=age)


def sent(metric: Metric, ages: Sequence[float], value: float = 1.0, vm: str = "node000000", **of: str) -> Rows:
    """Readings of one VM, one a minute."""
    return [
        {
            "TimeGenerated": at(age),
            "Name": metric.value,
            "Sum": value,
            "ItemCount": 1,
            "AppRoleInstance": vm,
            "Properties": of,
        }
        for age in ages
    ]


def ready(ages: Sequence[float], *identities: str, vm: str = "node000000") -> Rows:
    return [row for identity in identities for row in sent(Metric.NODES_AVAILABLE, ages, vm=vm, identity=identity)]


RAN = ready([600], "node-0")
"""A node ran ten hours ago, so that there is something to lose."""


def impaired(cause: Cause, ages: Sequence[float] = ARRIVED, vm: str = "node000000", member: str = "") -> Rows:
    return sent(Metric.IMPAIRED, ages, vm=vm, cause=cause, member=member)


def reaches(member: str, ages: Sequence[float], value: float, identity: str = "node-0") -> Rows:
    return sent(Metric.MEMBERS_REACHABLE, ages, value, identity=identity, member=member)


def link(age: float, event: str, end: str = "", gateway: str = GATEWAY, instance: str = "IN_0") -> Rows:
    of_tunnel = event.startswith("Tunnel")
    return [
        {
            "TimeGenerated": at(age),
            "Category": "TunnelDiagnosticLog" if of_tunnel else "RouteDiagnosticLog",
            "OperationName": event,
            "remoteIP_s": end if of_tunnel else None,
            "Message": "" if of_tunnel else f"BGP session with {end} in state n",
            "instance_s": instance,
            "_ResourceId": gateway.upper(),
        }
    ]


def asked(operation: str, who: str, address: str = "10.1.0.4", vault: str = VAULT, age: float = 5) -> Rows:
    return [
        {
            "TimeGenerated": at(age),
            "OperationName": operation,
            "CallerIpAddress": address,
            "Identity": {"claim": {"oid": who}},
            "_ResourceId": vault.upper(),
        }
    ]


def used(percent: float, mount: str = "/", counter: str = "% Used Space") -> Rows:
    return [
        {
            "TimeGenerated": at(age),
            "Computer": "node000000",
            "ObjectName": "Logical Disk",
            "CounterName": counter,
            "InstanceName": mount,
            "CounterValue": percent,
        }
        for age in (2, 7, 12)
    ]


def reported(level: str, category: str = "Ingestion", age: float = 5, detail: str = "") -> Rows:
    return [
        {
            "TimeGenerated": at(age),
            "Category": category,
            "Operation": "Ingestion rate",
            "Level": level,
            "Detail": detail,
        }
    ]


def over_quota(age: float = 5) -> Rows:
    return reported("Warning", age=age, detail="Data collection stopped. Ingestion status = OverQuota")


def beats(age: float) -> Rows:
    return [{"TimeGenerated": at(age), "Computer": "node000000"}]


@dataclass(frozen=True)
class Case:
    """Rows of the workspace, by table or all of metrics, and which alerts they set off."""

    rule: str
    why: str
    rows: Rows | Mapping[str, Rows]
    fires: Sequence[tuple[str, ...]] = ()
    """Values of the rule's dimensions, an empty tuple without any; none where it must be quiet."""
    value: float | None = None
    """Of the first one's measure."""
    options: Mapping[str, Any] = field(default_factory=dict)


FIRES: tuple[tuple[str, ...], ...] = ((),)
ALL = ready(QUARTER, "node-0", "node-1", "node-2")
CASES = (
    Case("nodes-missing", "all are there", ALL),
    Case(
        "nodes-missing",
        "one has none",
        [*ALL[:30], *sent(Metric.NODES_AVAILABLE, QUARTER, 0, identity="node-2")],
        FIRES,
        1,
    ),
    Case("nodes-missing", "no VM sends metrics", RAN, FIRES, 3),
    Case(
        "nodes-missing",
        "none is ready",
        [*RAN, *sent(Metric.NODES_AVAILABLE, QUARTER, 0, identity="node-0")],
        FIRES,
        3,
    ),
    Case("nodes-missing", "no node ran yet", sent(Metric.NODES_AVAILABLE, HALF_A_DAY, 0, identity="node-0")),
    Case("nodes-missing", "the first day, before any VM sends", []),
    Case(
        "nodes-missing",
        "a takeover takes four minutes",
        [
            *ready(QUARTER, "node-0", "node-1"),
            *ready(range(10, 15), "node-2"),
            *ready(range(6), "node-2", vm="node000002"),
        ],
    ),
    Case(
        "nodes-missing",
        "one identity at two VMs is one node",
        [*ready(QUARTER, "node-0", "node-1"), *ready(QUARTER, "node-1", vm="node000002")],
        FIRES,
        1,
    ),
    Case("services-away", "a vault is away", [*RAN, *impaired(Cause.VAULT)], [("vault",)], 1),
    Case(
        "services-away",
        "each cause has a separate alert",
        [*RAN, *impaired(Cause.DATABASE), *impaired(Cause.DATABASE, vm="node000001"), *impaired(Cause.CLOCK)],
        [("clock",), ("database",)],
    ),
    Case("services-away", "it ends within the quarter of an hour", [*RAN, *impaired(Cause.VAULT, range(10, 21))]),
    Case(
        "services-away",
        "it ended for five minutes in between",
        [*RAN, *impaired(Cause.VAULT, [*range(10), *range(15, 21)])],
    ),
    Case(
        "services-away",
        "all readings arrive five minutes late",
        [*RAN, *impaired(Cause.VAULT, range(5, 21))],
        [("vault",)],
    ),
    Case("services-away", "the cause is recent", [*RAN, *impaired(Cause.VAULT, range(13))]),
    Case("services-away", "a node starts for the first time", impaired(Cause.DATABASE)),
    Case(
        "services-away",
        "faults of peers and missing approvals have separate rules",
        [
            *RAN,
            *(
                row
                for each in (Cause.PEER, Cause.REFUSED, Cause.APPROVAL, Cause.FAULT, Cause.REVOCATION)
                for row in impaired(each)
            ),
        ],
    ),
    Case(
        "peers-away",
        "a member was lost",
        [*reaches("bank-b", [600], 1), *reaches("bank-b", QUARTER, 0), *reaches("bank-c", QUARTER, 1)],
        [("bank-b", "out of reach")],
    ),
    Case(
        "peers-away",
        "two were lost",
        [*(row for each in ("bank-b", "bank-c") for row in (*reaches(each, [600], 1), *reaches(each, QUARTER, 0)))],
        [("bank-b", "out of reach"), ("bank-c", "out of reach")],
    ),
    Case(
        "peers-away",
        "it has never been reached: its half of the link is missing",
        reaches("bank-b", HALF_A_DAY, 0),
    ),
    Case(
        "peers-away",
        "one of two nodes reaches it",
        [*reaches("bank-b", QUARTER, 0), *reaches("bank-b", QUARTER, 1, identity="node-1")],
    ),
    Case("peers-away", "it was removed from `peers`", reaches("bank-b", range(60, 600, 5), 1)),
    Case(
        "peers-away",
        "all are reachable, and the information of one is refused",
        [*reaches("bank-b", QUARTER, 1), *impaired(Cause.REFUSED, member="bank-b")],
        [("bank-b", "not followed")],
    ),
    Case(
        "peers-away",
        "two are refused, each reported separately",
        [*impaired(Cause.REFUSED, member="bank-b"), *impaired(Cause.REFUSED, member="bank-c")],
        [("bank-b", "not followed"), ("bank-c", "not followed")],
    ),
    Case(
        "peers-away",
        "two take turns in being refused",
        [
            *impaired(Cause.REFUSED, range(3, 12), member="bank-b"),
            *impaired(Cause.REFUSED, range(12, 21), member="bank-c"),
        ],
    ),
    Case(
        "peers-away",
        "the information of one was refused until ten minutes ago",
        impaired(Cause.REFUSED, range(10, 21), member="bank-b"),
    ),
    Case(
        "peers-away",
        "one is refused while another's half of the link is missing",
        [
            *reaches("bank-b", QUARTER, 1),
            *reaches("bank-c", QUARTER, 0),
            *impaired(Cause.PEER, member="bank-c"),
            *impaired(Cause.REFUSED, member="bank-b"),
        ],
        [("bank-b", "not followed")],
    ),
    Case(
        "peers-away",
        "the refused one is also the one with the missing half",
        [*reaches("bank-b", QUARTER, 1), *reaches("bank-c", QUARTER, 0), *impaired(Cause.PEER, member="bank-c")],
    ),
    Case(
        "approvals",
        "own nodes have waited for four hours",
        impaired(Cause.APPROVAL, range(0, 240, 5)),
        [("certificates of our nodes",)],
    ),
    Case(
        "approvals",
        "other members wait at our authority",
        sent(Metric.PENDING_REQUESTS, range(0, 240, 5), 3, vm="authority000000"),
        [("requests at our authority",)],
    ),
    Case("approvals", "one hour is no alert", impaired(Cause.APPROVAL, range(60))),
    Case("approvals", "it has waited for less than four hours", impaired(Cause.APPROVAL, range(0, 175, 5))),
    Case("approvals", "it was approved meanwhile", impaired(Cause.APPROVAL, range(70, 240, 5))),
    Case("approvals", "no request waits", sent(Metric.PENDING_REQUESTS, range(0, 240, 5), 0)),
    Case(
        "approvals",
        "a refused request waits for no approval",
        sent(Metric.UNPROVEN, range(0, 240, 5), 3),
    ),
    Case(
        "authority-away",
        "it has not answered for an hour",
        [*RAN, *impaired(Cause.AUTHORITY, range(3, 66))],
        [("authority",)],
    ),
    Case(
        "authority-away", "its lists are stale", [*RAN, *impaired(Cause.REVOCATION, range(3, 66))], [("revocation",)]
    ),
    Case(
        "authority-away", "it answered in between", [*RAN, *impaired(Cause.AUTHORITY, [*range(20), *range(30, 66)])]
    ),
    Case(
        "authority-away",
        "its VMs, which are ours, are silent",
        [*RAN, *sent(Metric.ROOT_OPEN, range(70, 300, 5), 0, vm="authoritya1c9f0")],
        [("silent",)],
    ),
    Case(
        "authority-away",
        "one of its VMs is silent, which has a second one",
        [
            *RAN,
            *sent(Metric.ROOT_OPEN, range(70, 300, 5), 0, vm="authoritya1c9f0"),
            *sent(Metric.ROOT_OPEN, range(0, 300, 5), 0, vm="authority3b20d7"),
        ],
    ),
    Case("authority-away", "half an hour is no alert", [*RAN, *impaired(Cause.AUTHORITY, range(30))]),
    Case("authority-away", "before the first own node ran, there is none", impaired(Cause.AUTHORITY, range(66))),
    Case(
        "unproven-requests",
        "one came",
        [
            *sent(Metric.UNPROVEN, range(60), 0),
            *sent(Metric.UNPROVEN, [10], 1),
        ],
        FIRES,
        1,
    ),
    Case(
        "unproven-requests",
        "two VMs, one of which started again",
        [*sent(Metric.UNPROVEN, [5, 20], 2), *sent(Metric.UNPROVEN, [7], 3, vm="authority000001")],
        FIRES,
        7,
    ),
    Case("unproven-requests", "they were yesterday's", sent(Metric.UNPROVEN, [1440], 3)),
    Case("unproven-requests", "the program restarts, and counts from 0", sent(Metric.UNPROVEN, range(60), 0)),
    Case(
        "unproven-requests",
        "requests that wait for approval are authenticated",
        sent(Metric.PENDING_REQUESTS, [1, 20], 3),
    ),
    Case(
        "ends-soon",
        "our certificate has 89 days left",
        sent(Metric.DAYS_LEFT, [5], 89, what="node"),
        [("node", "")],
        1,
    ),
    Case(
        "ends-soon",
        "of two nodes one was not renewed",
        [
            *sent(Metric.DAYS_LEFT, [5], 80, what="node"),
            *sent(Metric.DAYS_LEFT, [4], 300, vm="node000001", what="node"),
        ],
        [("node", "")],
        10,
    ),
    Case("ends-soon", "and 91", sent(Metric.DAYS_LEFT, [5], 91, what="node")),
    Case(
        "ends-soon",
        "a peer's certificate has 29",
        sent(Metric.DAYS_LEFT, [5], 29, what="node", member="bank-b"),
        [("node", "bank-b")],
    ),
    Case("ends-soon", "a peer's certificate has 31", sent(Metric.DAYS_LEFT, [5], 31, what="node", member="bank-b")),
    Case(
        "ends-soon",
        "it was renewed an hour ago",
        [*sent(Metric.DAYS_LEFT, [70], 5, what="node"), *sent(Metric.DAYS_LEFT, [5], 365, what="node")],
    ),
    Case("ends-now", "ours has 29", sent(Metric.DAYS_LEFT, [5], 29, what="root-list"), [("root-list", "")]),
    Case("ends-now", "ours has 31", sent(Metric.DAYS_LEFT, [5], 31, what="root-list")),
    Case(
        "ends-now",
        "a peer's certificate has expired",
        sent(Metric.DAYS_LEFT, [5], -1, what="node", member="bank-b"),
        [("node", "bank-b")],
    ),
    Case("ends-now", "a peer's certificate has one", sent(Metric.DAYS_LEFT, [5], 1, what="node", member="bank-b")),
    Case("faults", "one", [*sent(Metric.FAULTS, QUARTER, 0), *sent(Metric.FAULTS, [3], 1)], [("node000000",)], 1),
    Case("faults", "it arrives half an hour late", sent(Metric.FAULTS, [40], 1), [("node000000",)], 1),
    Case("faults", "none", sent(Metric.FAULTS, QUARTER, 0)),
    Case("takeovers", "three in an hour", sent(Metric.TAKEOVERS, [5, 20, 50], 1), FIRES, 1),
    Case("takeovers", "two: a VM died", sent(Metric.TAKEOVERS, [5, 20], 1)),
    Case("takeovers", "none is reported", []),
    Case(
        "slow-leases",
        "the store answers after three seconds",
        sent(Metric.LEASE_LATENCY, QUARTER, 3),
        [("node000000",)],
        1,
    ),
    Case(
        "slow-leases",
        "one of them was slow",
        [*sent(Metric.LEASE_LATENCY, QUARTER, 0.1), *sent(Metric.LEASE_LATENCY, [5], 4)],
    ),
    Case(
        "links-down",
        "one of four tunnels",
        [
            *link(600, "TunnelConnected", "198.51.100.1"),
            *link(600, "TunnelConnected", "198.51.100.2"),
            *link(20, "TunnelDisconnected", "198.51.100.2"),
        ],
        [("tunnel", "bank-b", "198.51.100.2", "IN_0")],
    ),
    Case(
        "links-down",
        "a second tunnel has a separate alert",
        [
            *link(20, "TunnelDisconnected", "198.51.100.1"),
            *link(30, "TunnelDisconnected", "198.51.100.1", instance="IN_1"),
        ],
        [("tunnel", "bank-b", "198.51.100.1", "IN_0"), ("tunnel", "bank-b", "198.51.100.1", "IN_1")],
    ),
    Case(
        "links-down",
        "a BGP session",
        link(20, "BgpDisconnectedEvent", "10.3.0.4"),
        [("BGP", "bank-c", "10.3.0.4", "IN_0")],
    ),
    Case(
        "links-down",
        "it came back",
        [*link(20, "TunnelDisconnected", "198.51.100.1"), *link(15, "TunnelConnected", "198.51.100.1")],
    ),
    Case("links-down", "it is down for only a minute", link(1, "TunnelDisconnected", "198.51.100.1")),
    Case(
        "links-down",
        "its peer has left",
        [*link(20, "TunnelDisconnected", "198.51.100.9"), *link(20, "BgpDisconnectedEvent", "10.2.0.44")],
    ),
    Case(
        "links-down", "another gateway's", link(20, "TunnelDisconnected", "198.51.100.1", gateway=f"{GATEWAY}-other")
    ),
    Case("links-down", "a log without addresses", link(20, "TunnelDisconnected"), [("tunnel", "", "", "IN_0")]),
    Case("links-down", "the peer's half does not exist yet", []),
    Case("vault-written", "an outsider", asked("SecretSet", OUTSIDER), [("keys",)]),
    *(
        Case("vault-written", f"from {address}", asked("SecretSet", OUTSIDER, address=address), [("keys",)])
        for block in azure_values._APPLICATION_RANGES
        for address in (str(block[4]), str(block[-5]))
    ),
    Case("vault-written", "the log arrives half an hour late", asked("SecretSet", OUTSIDER, age=40), [("keys",)]),
    Case("vault-written", "an agent deletes", asked("SecretDelete", AGENTS), [("keys",)]),
    Case("vault-written", "an agent creates a key", asked("KeyCreate", AGENTS), [("keys",)]),
    Case(
        "vault-written",
        "an agent writes to a vault that it only reads",
        asked("SecretSet", AGENTS, vault=ROOT_VAULT),
        [("root",)],
    ),
    Case("vault-written", "nobody is named", asked("SecretSet", ""), [("keys",)]),
    Case("vault-written", "an agent stores an identity's keys", asked("SecretSet", AGENTS)),
    Case(
        "vault-written",
        "Resource Manager writes, from public addresses",
        [*asked("SecretSet", OUTSIDER, "20.1.2.3"), *asked("SecretSet", OUTSIDER, "172.32.0.1")],
    ),
    Case("vault-written", "it was read", asked("SecretGet", OUTSIDER)),
    Case("vault-written", "another's vault", asked("SecretSet", OUTSIDER, vault=f"{VAULT}-other")),
    Case(
        "root-open",
        "a VM may",
        [
            *sent(Metric.ROOT_OPEN, QUARTER, 1, vm="authority000000"),
            *sent(Metric.ROOT_OPEN, QUARTER, 0, vm="authority000001"),
        ],
        FIRES,
        1,
    ),
    Case(
        "root-open", "it was closed", [*sent(Metric.ROOT_OPEN, range(5, 15), 1), *sent(Metric.ROOT_OPEN, range(5), 0)]
    ),
    Case("root-signed", "it has", asked("KeySign", OUTSIDER, vault=ROOT_VAULT), FIRES, 1),
    Case(
        "root-signed",
        "the log arrives half an hour late",
        asked("KeySign", OUTSIDER, vault=ROOT_VAULT, age=40),
        FIRES,
        1,
    ),
    Case("root-signed", "the other keys sign all day", asked("KeySign", OUTSIDER)),
    Case("disks-fill", "81 %", used(81), [("node000000", "/")], 1),
    Case("disks-fill", "79 %", used(79)),
    Case(
        "disks-fill",
        "a snap's file system is always full",
        [*used(100, "/snap/core/1"), *used(100, "_Total"), *used(100, counter="% Used Inodes")],
    ),
    Case(
        "telemetry-stopped",
        "the workspace drops rows",
        {"_LogOperation": reported("Error"), "Heartbeat": beats(1)},
        [("Ingestion rate",)],
    ),
    Case(
        "telemetry-stopped",
        "it is near its limit",
        {"_LogOperation": reported("Warning"), "Heartbeat": beats(1)},
        [("Ingestion rate",)],
    ),
    Case(
        "telemetry-stopped",
        "it reports the usual state",
        {"_LogOperation": [*reported("Info"), *reported("Warning", "Agent")], "Heartbeat": beats(1)},
    ),
    Case(
        "telemetry-stopped",
        "agents ran for two hours, and no vault's log ever came",
        ready(range(120), "node-0"),
        [("no log of a vault",)],
        1,
    ),
    Case(
        "telemetry-stopped",
        "another member's vault is not this member's",
        {
            "AppMetrics": ready(range(120), "node-0"),
            "AZKVAuditLogs": asked("SecretGet", AGENTS, vault=f"{VAULT}-other"),
        },
        [("no log of a vault",)],
    ),
    Case(
        "telemetry-stopped",
        "vaults with reads have logs, and the root's vault has no reads",
        {
            "AppMetrics": ready(range(120), "node-0"),
            "AZKVAuditLogs": [
                row for each in (VAULT, AUTHORITY_VAULT) for row in asked("SecretGet", AGENTS, vault=each, age=50)
            ],
        },
    ),
    Case(
        "telemetry-stopped",
        "of two vaults with reads one has lost its log",
        {
            "AppMetrics": ready(range(120), "node-0"),
            "AZKVAuditLogs": [*asked("SecretGet", AGENTS), *asked("SecretGet", AGENTS, age=4)],
        },
        [("no log of a vault",)],
    ),
    Case("telemetry-stopped", "agents have begun", ready(range(50), "node-0")),
    Case("telemetry-stopped", "no agent runs", ready(range(30, 120), "node-0")),
    Case(
        "telemetry-stopped",
        "no VM reports",
        {"_LogOperation": [], "Heartbeat": beats(40)},
        [("no heartbeat of any VM",)],
    ),
    Case(
        "telemetry-stopped",
        "the report came half an hour late",
        {"_LogOperation": reported("Error", age=40)},
        [("Ingestion rate",)],
    ),
    Case("telemetry-stopped", "the cap has a separate rule", {"_LogOperation": over_quota()}),
    Case("cap-reached", "somebody filled the workspace", {"_LogOperation": over_quota(40)}, FIRES, 1),
    Case("cap-reached", "it has lasted for hours", {"_LogOperation": over_quota(600)}, FIRES, 1),
    Case("cap-reached", "it was yesterday", {"_LogOperation": over_quota(1445)}),
    Case("cap-reached", "it is near its limit", {"_LogOperation": reported("Warning", detail="ApproachingQuota")}),
    Case("telemetry-stopped", "the first VM does not exist yet", {"_LogOperation": [], "Heartbeat": []}),
    Case(
        "models-differ",
        "a VM has an outdated model",
        [
            *sent(Metric.STANDBYS, [30, 1600], model="old"),
            *sent(Metric.STANDBYS, [30, 1500], vm="node000001", model="new"),
        ],
        [("node",)],
        1,
    ),
    Case(
        "models-differ",
        "the upgrade goes on",
        [
            *sent(Metric.STANDBYS, [30, 1600], model="old"),
            *sent(Metric.STANDBYS, [30, 600], vm="node000001", model="new"),
        ],
    ),
    Case(
        "models-differ",
        "the outdated VMs are deleted",
        [
            *sent(Metric.STANDBYS, [1500, 2000], model="old"),
            *sent(Metric.STANDBYS, [30, 1500], vm="node000001", model="new"),
        ],
    ),
    Case(
        "models-differ",
        "one VM was not replaced, and host names end in letters too",
        [
            *sent(Metric.STANDBYS, [30, 1600], vm="nodea1c9f0", model="old"),
            *sent(Metric.STANDBYS, [30, 1500], vm="node3b20d7", model="new"),
        ],
        [("node",)],
        1,
    ),
    Case(
        "models-differ",
        "the authority's VMs have another model",
        [
            *sent(Metric.STANDBYS, [30, 1600], model="one"),
            *sent(Metric.STANDBYS, [30, 1500], vm="authority000000", model="two"),
        ],
    ),
)


def seen_by(rule: QueryRule, rows: Rows) -> Iterator[Mapping[str, Any]]:
    """The rows of the rule's window: Azure shows its query no others."""
    if rule.looks_back:
        window = timedelta(days=2)
    else:
        amount = int(rule.window[2:-1])
        window = timedelta(hours=amount) if rule.window.endswith("H") else timedelta(minutes=amount)
    return (row for row in rows if row["TimeGenerated"] > NOW - window)


def text_of(rule: QueryRule) -> str:
    async def values() -> Mapping[str, Any]:
        given = rule.values(ARGS)
        assert given is not None
        return dict(await Output.from_input(dict(given)).future() or {})

    return query(rule.query, **asyncio.run(values()))


def tables_of(rows: Rows | Mapping[str, Rows]) -> Mapping[str, Rows]:
    """Rows by table: events of vaults and gateways are recognised by their columns, all others are metrics."""
    if isinstance(rows, Mapping):
        return {**{each.table: [] for each in LOG_TABLES.values()}, **rows}
    marks = {"CallerIpAddress": "AZKVAuditLogs", "instance_s": "AzureDiagnostics", "CounterName": "Perf"}
    table = next((table for mark, table in marks.items() if any(mark in row for row in rows)), "AppMetrics")
    return {**{each.table: [] for each in LOG_TABLES.values()}, table: rows}


def alerts_of(
    rule: QueryRule, rows: Rows | Mapping[str, Rows], later: timedelta = timedelta()
) -> Mapping[tuple[str, ...], float]:
    tables = {
        table: [{**row, "TimeGenerated": row["TimeGenerated"] + later} for row in seen_by(rule, each)]
        for table, each in tables_of(rows).items()
    }
    found = rows_of(text_of(rule), now=NOW + later, **tables)
    return {
        tuple(row[each] or "" for each in rule.dimensions): row[rule.measure]
        for row in found
        if row[rule.measure] is not None and row[rule.measure] > 0
    }


@pytest.mark.parametrize("minutes", [0, 2])
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.rule}: {case.why}")
def test_an_alert_fires_on_its_rows_and_on_no_similar_ones(case: Case, minutes: int):
    # Azure runs a rule at any minute, and a query's bins begin at the clock's.
    alerts = alerts_of(RULES[case.rule], case.rows, timedelta(minutes=minutes))
    assert sorted(alerts) == sorted(case.fires), case.why
    if case.value is not None:
        assert alerts[case.fires[0]] == pytest.approx(case.value), "the mail says the value"


@pytest.mark.parametrize("name", RULES)
def test_each_rule_has_a_case_that_fires_and_one_that_does_not(name: str):
    tried = {bool(case.fires) for case in CASES if case.rule == name}
    assert tried == {True, False}, "a rule that always or never fires is useless"


def test_a_member_without_vaults_gets_no_alert_about_their_logs():
    text = query("telemetry-stopped", vaults=[])
    assert rows_of(text, now=NOW, **tables_of(ready(range(120), "node-0"))) == []


@pytest.mark.parametrize("name", RULES)
def test_a_new_workspace_raises_no_alert(name: str):
    empty: Mapping[str, Rows] = {each.table: [] for each in LOG_TABLES.values()}
    assert alerts_of(RULES[name], empty) == {}, "on the first day nothing can have stopped"


@pytest.mark.parametrize(
    ("days", "member", "state"),
    [(91, "", 0), (89, "", 1), (29, "", 2), (31, "bank-b", 0), (29, "bank-b", 1), (1, "bank-b", 1)],
)
def test_the_table_of_expiry_dates_and_its_alerts_have_one_limit(days: float, member: str, state: int):
    text = query("ends", own_days=OWN_DAYS, peers_days=PEERS_DAYS, last_days=LAST_DAYS)
    rows = sent(Metric.DAYS_LEFT, [5], days, what="node", member=member)
    (row,) = rows_of(text, now=NOW, **tables_of(rows))
    assert row["State"] == state, "the workbook must not show as fine what an alert reports"


# --- A real run ----------------------------------------------------------------------------------------------------

TAMPERED: Mapping[str, tuple[Metric, float, Mapping[str, str]]] = {
    "nodes-missing": (Metric.NODES_AVAILABLE, 0, {"identity": "node-2"}),
    "unproven-requests": (Metric.UNPROVEN, 1, {}),
    "ends-soon": (Metric.DAYS_LEFT, OWN_DAYS - 1, {"what": "root-list"}),
    "ends-now": (Metric.DAYS_LEFT, LAST_DAYS - 1, {"what": "root-list"}),
    "faults": (Metric.FAULTS, 1, {}),
    "takeovers": (Metric.TAKEOVERS, 1, {}),
    "slow-leases": (Metric.LEASE_LATENCY, 3, {}),
    "root-open": (Metric.ROOT_OPEN, 1, {}),
}
"""For each rule that the recording covers: a metric, and a value of it by which the rule would have fired."""
UNRECORDED: Mapping[str, str] = {
    "services-away": "ago(20m)",
    "peers-away": "ago(15m)",
    "approvals": "ago(4h)",
    "authority-away": "ago(65m)",
    "telemetry-stopped": "ago(1h)",
    "models-differ": "ago(1d)",
    "links-down": "AzureDiagnostics",
    "vault-written": "AZKVAuditLogs",
    "root-signed": "AZKVAuditLogs",
    "disks-fill": "Perf",
    "cap-reached": "_LogOperation",
}
"""For each other rule what its query reads and the recording lacks: a time longer than the run, or a table."""
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


def test_each_rule_is_covered_by_the_recording_or_listed_as_not_covered():
    assert sorted([*TAMPERED, *UNRECORDED]) == sorted(RULES), "a new rule belongs in exactly one of the two"


@pytest.fixture(scope="module")
def run() -> Recording:
    """A real run's rows, as if the run had just ended. Rows that only Azure writes are not among them."""
    found = Recording.read()
    since = NOW - found.end
    tables = {
        table: [{**row, "TimeGenerated": row["TimeGenerated"] + since} for row in rows]
        for table, rows in found.tables.items()
    }
    return Recording(NOW, tables)


@pytest.mark.parametrize("name", TAMPERED)
def test_a_real_run_with_a_takeover_and_a_join_raises_no_alert(name: str, run: Recording):
    assert alerts_of(RULES[name], run.tables) == {}, "nobody has to act"
    metric, value, of = TAMPERED[name]
    changed = [
        {**row, "Sum": value} if row["Name"] == metric and row["Properties"].items() >= of.items() else row
        for row in run.tables["AppMetrics"]
    ]
    assert alerts_of(RULES[name], {**run.tables, "AppMetrics": changed}), (
        f"{metric} of {value} is the case of the rule"
    )


@pytest.mark.parametrize("name", UNRECORDED)
def test_a_recording_proves_nothing_of_rows_that_it_lacks(name: str, run: Recording):
    lacking = UNRECORDED[name]
    assert lacking in text_of(RULES[name]), "the rule reads it"
    if span := re.fullmatch(r"ago\((\d+)([mhd])\)", lacking):
        needed = timedelta(**{_UNITS[span[2]]: int(span[1])})
        began = min(row["TimeGenerated"] for row in run.tables["AppMetrics"])
        assert run.end - began < needed, f"{name} could fire on a recording of that length: prove it in TAMPERED"
    else:
        assert lacking not in run.tables, f"{name} could fire on the recording: prove it in TAMPERED"
