"""The member's workbook: nodes, transactions, members, tunnels, leases, the services that nodes need, and logs.

Its JSON is Azure's serialized form, learn.microsoft.com/azure/azure-monitor/visualize/workbooks-overview.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any, TypeAlias

import pulumi_random as random
from pulumi import ComponentResource, Input, Output, ResourceOptions
from pulumi_azure_native import applicationinsights

from components.inputs import Placement
from components.queries import LAST_DAYS, OWN_DAYS, PEERS_DAYS, Value, placeholders, query
from contract.platform import Counted

TIME_RANGE = "TimeRange"
_VMS = "VMs"
_HOUR_MS, _DAY_MS = 3_600_000, 86_400_000
_RANGES = (_HOUR_MS, 4 * _HOUR_MS, _DAY_MS, 2 * _DAY_MS, 7 * _DAY_MS, 30 * _DAY_MS)

_Json: TypeAlias = dict[str, Any]


class Measured(StrEnum):
    """Azure's resource types whose own metrics the workbook shows."""

    VPN_GATEWAY = "microsoft.network/virtualnetworkgateways"
    VAULT = "microsoft.keyvault/vaults"
    STORAGE = "microsoft.storage/storageaccounts"
    DATABASE = "microsoft.dbforpostgresql/flexibleservers"
    VM = "microsoft.compute/virtualmachines"


class Aggregation(IntEnum):
    """How a metric's values in a bin are aggregated, in the portal's numbers."""

    SUM = 1
    AVERAGE = 4


class View(StrEnum):
    """How an item shows the rows of its query."""

    TILES = "tiles"
    """One tile for each row, of columns `Title`, `Value` and `State`."""
    TABLE = "table"
    LINES = "timechart"
    """Lines over column `TimeGenerated`: one for each column of numbers and value of a text column."""


@dataclass(frozen=True, kw_only=True)
class QueryItem:
    """An item that shows the rows of one query."""

    query: str
    """Name of the query in `components.queries`."""
    title: str
    view: View
    width: int = 100
    """Percent of the page's width."""
    days: int | None = None
    """Fixed time range in days; None follows the range chosen in the workbook."""


@dataclass(frozen=True, kw_only=True)
class MetricItem:
    """An item that shows Azure's own metrics of the resources of one type, which cost nothing and need no log."""

    measured: Measured
    title: str
    metrics: Mapping[str, Aggregation]
    """Aggregation by Azure's name of the metric."""
    split_by: str | None = None
    """Dimension with a line for each of its values."""
    width: int = 50
    """Percent of the page's width."""


@dataclass(frozen=True, kw_only=True)
class Section:
    """Items under one heading."""

    title: str
    items: Sequence[QueryItem | MetricItem]


@dataclass(frozen=True, kw_only=True)
class WorkbookArgs:
    """Inputs of `Workbook`."""

    placement: Placement
    """Required. Resource group, region and tags of all children."""
    member: str
    """Required. The member's name, for the title."""
    workspace_id: Input[str]
    """Required. Resource id of the Log Analytics workspace of the queries."""
    resource_group_id: Input[str]
    """Required. Resource group whose VMs are shown."""
    transactions: Counted
    """Required. Whose transactions the ledger platform counts."""
    identities: Sequence[str]
    """Required. The member's ledger nodes."""
    standbys: int
    """Required. Number of configured standby VMs."""
    peers: Mapping[str, Sequence[str]]
    """Required. Public addresses of each peer's VPN gateway, by the peer's name; empty without a tunnel."""
    services: Mapping[Measured, Sequence[Input[str]]] = field(default_factory=dict)
    """Optional. Resource ids of the services that nodes need, without VMs, which are found by their group."""
    authority: bool = False
    """Optional. Whether the member runs the network's authority."""


class Workbook(ComponentResource):
    """The workbook in Azure Monitor, to which alerts link."""

    url: Output[str]
    """URL of the workbook in the portal."""

    def __init__(self, name: str, args: WorkbookArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("decentralized-trust:azure:Workbook", name, None, opts)
        child = ResourceOptions(parent=self)
        known = Output.all(
            workspace_id=args.workspace_id, resource_group_id=args.resource_group_id, services=dict(args.services)
        )
        book = applicationinsights.Workbook(
            f"{name}-book",
            resource_group_name=args.placement.resource_group_name,
            location=args.placement.location,
            # Azure names workbooks by a GUID.
            resource_name_=random.RandomUuid(f"{name}-id", opts=child).result,
            display_name=f"Decentralized trust: {args.member}",
            category="workbook",
            kind=applicationinsights.WorkbookSharedTypeKind.SHARED,
            source_id=args.workspace_id,
            serialized_data=known.apply(lambda ids: serialized(args, **ids)),
            tags=args.placement.tags,
            opts=child,
        )
        self.url = Output.concat("https://portal.azure.com/#resource", book.id, "/workbook")
        self.register_outputs({"url": self.url})


def sections(args: WorkbookArgs) -> list[Section]:
    """The sections of a member's workbook, from top to bottom."""
    whose = _TRANSACTIONS[args.transactions]
    tunnels = any(args.peers.values())
    found = [
        Section(title="Now", items=[QueryItem(query="overview", title="At a glance", view=View.TILES)]),
        Section(
            title="Nodes and transactions",
            items=[
                QueryItem(query="transactions", title=f"Transactions a minute, {whose}", view=View.LINES, width=50),
                QueryItem(query="availability", title="Nodes ready, VMs standing by", view=View.LINES, width=50),
                QueryItem(query="nodes", title="Nodes", view=View.TABLE),
                QueryItem(query="impaired", title="Impaired VMs", view=View.TABLE, width=50),
                QueryItem(query="ends", title="What ends next", view=View.TABLE, width=50),
            ],
        ),
        Section(title="Members", items=[QueryItem(query="members", title="Members", view=View.TABLE)]),
    ]
    if tunnels:
        found.append(
            Section(
                title="Tunnels",
                items=[
                    QueryItem(query="tunnels", title="Tunnels, by member", view=View.TABLE, days=90),
                    MetricItem(
                        measured=Measured.VPN_GATEWAY,
                        title="Security associations, by peer's address: none is a tunnel that is down",
                        metrics={"QmsaCount": Aggregation.SUM},
                        split_by="RemoteIP",
                    ),
                    MetricItem(
                        measured=Measured.VPN_GATEWAY,
                        title="Bytes a second, by peer's address",
                        metrics={"TunnelAverageBandwidth": Aggregation.AVERAGE},
                        split_by="RemoteIP",
                    ),
                    QueryItem(query="gateway-log", title="What the gateways logged", view=View.TABLE),
                ],
            )
        )
    found.append(
        Section(
            title="Leases and takeovers",
            items=[
                QueryItem(query="holders", title="Who held which identity", view=View.TABLE, width=50),
                QueryItem(query="renewals", title="Seconds that a renewal takes", view=View.LINES, width=50),
            ],
        )
    )
    if args.authority:
        found.append(
            Section(
                title="The network's authority",
                items=[QueryItem(query="authority", title="Authority", view=View.TILES)],
            )
        )
    found += [
        Section(
            title="Vaults",
            items=[
                MetricItem(
                    measured=Measured.VAULT,
                    title="Availability, percent",
                    metrics={"Availability": Aggregation.AVERAGE},
                ),
                MetricItem(
                    measured=Measured.VAULT,
                    title="Milliseconds of a request",
                    metrics={"ServiceApiLatency": Aggregation.AVERAGE},
                ),
                QueryItem(query="vault-refusals", title="What was refused", view=View.TABLE, width=50),
                QueryItem(query="vault-writes", title="What was written", view=View.TABLE, width=50),
            ],
        ),
        Section(
            title="Storage",
            items=[
                MetricItem(
                    measured=Measured.STORAGE,
                    title="Availability, percent",
                    metrics={"Availability": Aggregation.AVERAGE},
                ),
                MetricItem(
                    measured=Measured.STORAGE,
                    title="Milliseconds of a request",
                    metrics={"SuccessE2ELatency": Aggregation.AVERAGE},
                ),
                QueryItem(query="blob-deletions", title="Blobs that were deleted", view=View.TABLE),
            ],
        ),
    ]
    if Measured.DATABASE in args.services:
        found.append(
            Section(
                title="Database",
                items=[
                    MetricItem(
                        measured=Measured.DATABASE,
                        title="Processors, memory and disk, percent",
                        metrics=dict.fromkeys(
                            ("cpu_percent", "memory_percent", "storage_percent"), Aggregation.AVERAGE
                        ),
                    ),
                    MetricItem(
                        measured=Measured.DATABASE,
                        title="Connections",
                        metrics={"active_connections": Aggregation.AVERAGE},
                    ),
                    QueryItem(query="database-errors", title="Warnings and errors", view=View.TABLE),
                ],
            )
        )
    found += [
        Section(
            title="VMs",
            items=[
                QueryItem(query="vms", title="VMs", view=View.TABLE, width=50),
                MetricItem(
                    measured=Measured.VM,
                    title="Processors, percent",
                    metrics={"Percentage CPU": Aggregation.AVERAGE},
                ),
            ],
        ),
        Section(
            title="Logs",
            items=[
                QueryItem(query="warnings", title="The last warnings and errors", view=View.TABLE),
                QueryItem(query="ingestion", title="What was collected", view=View.TABLE, days=8),
            ],
        ),
    ]
    return found


_TRANSACTIONS = {
    Counted.OWN: "of this bank's own nodes",
    Counted.NETWORK: "of the whole network",
}


def values(args: WorkbookArgs) -> dict[str, Value]:
    """Values of the placeholders in the workbook's queries, by placeholder."""
    return {
        "identities": list(args.identities),
        "nodes": len(args.identities),
        "standbys": args.standbys,
        "members": list(args.peers),
        "peers": len(args.peers),
        "own": args.transactions is Counted.OWN,
        "own_days": OWN_DAYS,
        "peers_days": PEERS_DAYS,
        "last_days": LAST_DAYS,
        "tunnels": [
            {"member": peer, "address": address} for peer, addresses in args.peers.items() for address in addresses
        ],
    }


def filled(name: str, known: Mapping[str, Value]) -> str:
    """The query `name`, its placeholders replaced by those of the `known` values that it needs."""
    return query(name, **{each: known[each] for each in placeholders(name)})


def serialized(
    args: WorkbookArgs,
    *,
    workspace_id: str,
    resource_group_id: str,
    services: Mapping[Measured, Sequence[str]],
) -> str:
    """The workbook as JSON, Azure's serialized form.

    Args:
        args: inputs of the component.
        workspace_id: resource id of the workspace.
        resource_group_id: resource id of the group whose VMs are shown.
        services: resource ids of the services that nodes need.
    """
    known, groups = values(args), []
    for section in sections(args):
        items = []
        for item in section.items:
            if isinstance(item, QueryItem):
                items.append(_query_item(item, filled(item.query, known)))
            else:
                resources = [f"{{{_VMS}}}"] if item.measured is Measured.VM else list(services.get(item.measured, ()))
                items.append(_metric_item(item, resources))
        groups.append(_group(section.title, items))
    return json.dumps(
        {
            "version": "Notebook/1.0",
            "items": [_parameters(resource_group_id), *groups],
            "fallbackResourceIds": [workspace_id],
            "isLocked": True,
        }
    )


def _parameters(resource_group_id: str) -> _Json:
    time, resources, resource_graph = 4, 5, 1
    return {
        "type": 9,
        "name": "parameters",
        "content": {
            "version": "KqlParameterItem/1.0",
            "style": "pills",
            "queryType": 0,
            "resourceType": "microsoft.operationalinsights/workspaces",
            "parameters": [
                {
                    "version": "KqlParameterItem/1.0",
                    "name": TIME_RANGE,
                    "label": "Time range",
                    "type": time,
                    "isRequired": True,
                    "value": {"durationMs": _DAY_MS},
                    "typeSettings": {
                        "selectableValues": [{"durationMs": each} for each in _RANGES],
                        "allowCustom": True,
                    },
                },
                {
                    "version": "KqlParameterItem/1.0",
                    "name": _VMS,
                    "type": resources,
                    "isHiddenWhenLocked": True,
                    "multiSelect": True,
                    "quote": "'",
                    "delimiter": ",",
                    "query": query("vm-resources", group=f"{resource_group_id}/"),
                    "queryType": resource_graph,
                    "resourceType": "microsoft.resourcegraph/resources",
                    "crossComponentResources": ["/".join(resource_group_id.split("/")[:3])],
                    "value": ["value::all"],
                    "typeSettings": {"additionalResourceOptions": ["value::all"]},
                },
            ],
        },
    }


def _group(title: str, items: Sequence[_Json]) -> _Json:
    heading = {"type": 1, "name": f"{title}: heading", "content": {"json": f"## {title}"}}
    return {
        "type": 12,
        "name": title,
        "content": {"version": "NotebookGroup/1.0", "groupType": "editable", "items": [heading, *items]},
    }


def _query_item(item: QueryItem, text: str) -> _Json:
    content: _Json = {
        "version": "KqlItem/1.0",
        "query": text,
        "title": item.title,
        "size": 1 if item.view is View.TABLE else 0,
        "queryType": 0,
        "resourceType": "microsoft.operationalinsights/workspaces",
        "visualization": str(item.view),
        "noDataMessage": "Nothing in this time.",
        **(
            {"timeContext": {"durationMs": item.days * _DAY_MS}}
            if item.days
            else {"timeContext": {"durationMs": 0}, "timeContextFromParameter": TIME_RANGE}
        ),
    }
    if item.view is View.TILES:
        content["size"] = 4
        content["tileSettings"] = {
            "showBorder": True,
            "sortCriteriaField": "Order",
            "sortOrderField": 1,
            "titleContent": {"columnMatch": "Title", "formatter": _TEXT},
            "leftContent": {"columnMatch": "Value", "formatter": _BIG_NUMBER, "formatOptions": {"palette": "none"}},
            "rightContent": _STATE_COLUMN,
        }
    elif item.view is View.TABLE:
        content["gridSettings"] = {"formatters": [_STATE_COLUMN], "rowLimit": 200, "filter": True}
        content["showExportToExcel"] = True
    return {"type": 3, "name": item.title, "customWidth": str(item.width), "content": content}


def _metric_item(item: MetricItem, resource_ids: Sequence[str]) -> _Json:
    category = "-Transaction-" if item.measured is Measured.STORAGE else "--"
    return {
        "type": 10,
        "name": f"{item.measured}: {item.title}",
        "customWidth": str(item.width),
        "content": {
            "version": "MetricsItem/2.0",
            "title": item.title,
            "size": 0,
            "chartType": 2,
            "resourceType": str(item.measured),
            "metricScope": 0,
            "resourceIds": list(resource_ids),
            "timeContext": {"durationMs": 0},
            "timeContextFromParameter": TIME_RANGE,
            "metrics": [
                {
                    "namespace": str(item.measured),
                    "metric": f"{item.measured}{category}{name}",
                    "aggregation": int(aggregation),
                    "splitBy": item.split_by,
                }
                for name, aggregation in item.metrics.items()
            ],
            "gridSettings": {"rowLimit": 10_000},
        },
    }


# Renderers by the portal's numbers.
_TEXT, _BIG_NUMBER, _THRESHOLDS = 1, 12, 18
STATES = {0: ("success", "well"), 1: ("2", "look"), 2: ("4", "act")}
"""Icon and word of each state: success, warning, critical."""
_STATE_COLUMN: _Json = {
    "columnMatch": "State",
    "formatter": _THRESHOLDS,
    "formatOptions": {
        "thresholdsOptions": "icons",
        "thresholdsGrid": [
            *(
                {"operator": "==", "thresholdValue": str(state), "representation": icon, "text": word}
                for state, (icon, word) in STATES.items()
            ),
            {"operator": "Default", "thresholdValue": None, "representation": "unknown", "text": "{0}"},
        ],
    },
}
