"""Log Analytics, Application Insights, what is collected from the VMs, and the member's workbook."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi_random as random
from pulumi import ComponentResource, Input, Output, ResourceOptions
from pulumi_azure_native import applicationinsights, monitor, operationalinsights

from agent.metrics import Metric
from components.roles import Role, grant, grant_groups
from ledger.platform import Counted

_WORKSPACE = "workspace"


@dataclass(frozen=True, kw_only=True)
class MonitoringArgs:
    """Inputs of `Monitoring`."""

    resource_group_name: Input[str]
    """Required. Resource group of the workspace."""
    location: Input[str]
    """Required. Region of the workspace."""
    member: str
    """Required. The member's name, for the workbook's title."""
    node_principal_id: Input[str]
    """Required. Principal of the node VMs: it may send telemetry."""
    transactions: Counted
    """Required. Whose transactions the ledger platform counts."""
    operators: Sequence[str] = ()
    """Optional. Entra groups that may read logs."""
    retention_days: int = 90
    """Optional. Days that logs are kept, 30 to 730."""
    tags: Mapping[str, Input[str]] | None = None
    """Optional. Put on every taggable child."""

    def __post_init__(self) -> None:
        if not 30 <= self.retention_days <= 730:
            raise ValueError(f"Monitoring: retention_days is {self.retention_days}; wanted 30 to 730")


class Monitoring(ComponentResource):
    """Shows available nodes, transactions per minute and consortium members. Telemetry is signed by Entra only."""

    workspace_id: Output[str]
    """Resource id of the Log Analytics workspace."""
    data_collection_rule_id: Output[str]
    """Resource id of the rule that the VMs' monitoring agent follows."""
    connection_string: Output[str]
    """Where the agent sends its metrics; no secret, since local authentication is off."""
    insights_id: Output[str]
    """Resource id of Application Insights, for the roles of those who send to it."""

    def __init__(self, name: str, args: MonitoringArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("decentralized-trust:azure:Monitoring", name, None, opts)
        child = ResourceOptions(parent=self)
        workspace = operationalinsights.Workspace(
            f"{name}-workspace",
            resource_group_name=args.resource_group_name,
            location=args.location,
            sku=operationalinsights.WorkspaceSkuArgs(name=operationalinsights.WorkspaceSkuNameEnum.PER_GB2018),
            retention_in_days=args.retention_days,
            features=operationalinsights.WorkspaceFeaturesArgs(
                disable_local_auth=True, enable_log_access_using_only_resource_permissions=True
            ),
            tags=args.tags,
            opts=child,
        )
        insights = applicationinsights.Component(
            f"{name}-insights",
            resource_group_name=args.resource_group_name,
            location=args.location,
            kind="other",
            application_type=applicationinsights.ApplicationType.OTHER,
            ingestion_mode=applicationinsights.IngestionMode.LOG_ANALYTICS,
            workspace_resource_id=workspace.id,
            disable_local_auth=True,
            tags=args.tags,
            opts=child,
        )
        grant(
            f"{name}-nodes",
            role=Role.MONITORING_METRICS_PUBLISHER,
            scope=insights.id,
            principal_id=args.node_principal_id,
            parent=self,
        )
        grant_groups(
            f"{name}-operators",
            role=Role.LOG_ANALYTICS_READER,
            scope=workspace.id,
            groups=args.operators,
            parent=self,
        )
        rule = monitor.DataCollectionRule(
            f"{name}-collection",
            resource_group_name=args.resource_group_name,
            location=args.location,
            kind="Linux",
            data_sources=monitor.DataCollectionRuleDataSourcesArgs(
                performance_counters=[
                    monitor.PerfCounterDataSourceArgs(
                        name="vm",
                        streams=["Microsoft-Perf"],
                        sampling_frequency_in_seconds=60,
                        counter_specifiers=[
                            "Processor(*)\\% Processor Time",
                            "Memory(*)\\Available MBytes Memory",
                            "Logical Disk(*)\\% Used Space",
                            "Network(*)\\Total Bytes",
                        ],
                    )
                ],
                syslog=[
                    monitor.SyslogDataSourceArgs(
                        name="system",
                        streams=["Microsoft-Syslog"],
                        facility_names=["auth", "authpriv", "daemon", "kern", "syslog"],
                        log_levels=["Warning", "Error", "Critical", "Alert", "Emergency"],
                    )
                ],
            ),
            destinations=monitor.DataCollectionRuleDestinationsArgs(
                log_analytics=[
                    monitor.LogAnalyticsDestinationArgs(name=_WORKSPACE, workspace_resource_id=workspace.id)
                ]
            ),
            data_flows=[
                monitor.DataFlowArgs(streams=["Microsoft-Perf", "Microsoft-Syslog"], destinations=[_WORKSPACE])
            ],
            tags=args.tags,
            opts=child,
        )
        applicationinsights.Workbook(
            f"{name}-workbook",
            resource_group_name=args.resource_group_name,
            location=args.location,
            # Azure names workbooks by a GUID.
            resource_name_=random.RandomUuid(f"{name}-workbook-id", opts=child).result,
            display_name=f"Decentralized trust: {args.member}",
            category="workbook",
            kind=applicationinsights.WorkbookSharedTypeKind.SHARED,
            source_id=workspace.id,
            serialized_data=Output.from_input(workspace.id).apply(
                lambda workspace_id: workbook(workspace_id, args.transactions)
            ),
            tags=args.tags,
            opts=child,
        )
        self.workspace_id = workspace.id
        self.data_collection_rule_id = rule.id
        self.connection_string = insights.connection_string
        self.insights_id = insights.id
        self.register_outputs(
            {
                "workspace_id": self.workspace_id,
                "data_collection_rule_id": self.data_collection_rule_id,
                "connection_string": self.connection_string,
                "insights_id": self.insights_id,
            }
        )


def _latest(metric: Metric, title: str) -> str:
    """One value a VM in the last five minutes, added up: how many there are now."""
    return (
        f'AppMetrics | where Name == "{metric}" and TimeGenerated > ago(5m) '
        "| summarize arg_max(TimeGenerated, Sum) by AppRoleInstance "
        f"| summarize ['{title}'] = sum(Sum)"
    )


_TRANSACTIONS: dict[Counted, tuple[str, str]] = {
    # Each node counts its own: their sum is the bank's.
    Counted.OWN: ("Transactions per minute, of this bank's own nodes", "sum"),
    # Each node counts the same ones: any of them tells.
    Counted.NETWORK: ("Transactions per minute, of the whole network", "max"),
}


def _queries(transactions: Counted) -> dict[str, tuple[str, str]]:
    """Visualization and query of each figure, by its title."""
    counted, over_nodes = _TRANSACTIONS[transactions]
    return {
        "Available nodes": ("tiles", _latest(Metric.NODES_AVAILABLE, "Available nodes")),
        "Standby VMs": ("tiles", _latest(Metric.STANDBYS, "Standby VMs")),
        "VMs heard of in the last 30 minutes": (
            "tiles",
            "Heartbeat | where TimeGenerated > ago(30m) | summarize VMs = dcount(Computer)",
        ),
        counted: (
            "timechart",
            (
                f'AppMetrics | where Name == "{Metric.TRANSACTIONS}" '
                "| summarize Counted = sum(Sum) by AppRoleInstance, bin(TimeGenerated, 1m) "
                f"| summarize Transactions = {over_nodes}(Counted) by TimeGenerated"
            ),
        ),
        "Consortium members, known and reachable": (
            "timechart",
            (
                f'AppMetrics | where Name in ("{Metric.MEMBERS_KNOWN}", "{Metric.MEMBERS_REACHABLE}") '
                "| summarize Members = max(Max) by Name, bin(TimeGenerated, 5m)"
            ),
        ),
        "Identities: who holds which, in which epoch": (
            "table",
            (
                f'AppMetrics | where Name == "{Metric.LEASE_EPOCH}" '
                '| extend Identity = tostring(Properties["identity"]) '
                "| summarize arg_max(TimeGenerated, VM = AppRoleInstance, Epoch = Max) by Identity"
            ),
        ),
        "Tunnels to the peers": (
            "table",
            (
                'AzureDiagnostics | where Category == "TunnelDiagnosticLog" '
                "| summarize arg_max(TimeGenerated, OperationName, status_s) by remoteIP_s"
            ),
        ),
    }


def workbook(workspace_id: str, transactions: Counted) -> str:
    """The workbook of one member as JSON: a title, and one query item a figure."""
    query_item, text_item, logs = 3, 1, 0
    items = [
        {
            "type": query_item,
            "name": title,
            "content": {
                "version": "KqlItem/1.0",
                "query": query,
                "title": title,
                "size": 1,
                "queryType": logs,
                "resourceType": "microsoft.operationalinsights/workspaces",
                "visualization": visualization,
                "timeContext": {"durationMs": 86_400_000},
            },
        }
        for title, (visualization, query) in _queries(transactions).items()
    ]
    heading = {"type": text_item, "name": "heading", "content": {"json": "## This bank's part of the consortium"}}
    return json.dumps({"version": "Notebook/1.0", "items": [heading, *items], "fallbackResourceIds": [workspace_id]})
