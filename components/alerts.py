"""Alert rules on what the member runs, and who hears of them.

Metrics and thresholds: Azure Monitor Baseline Alerts, github.com/Azure/azure-monitor-baseline-alerts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from pulumi import ComponentResource, Input, Output, ResourceOptions
from pulumi_azure_native import monitor

from agent.metrics import Metric


class Watched(StrEnum):
    """What alert rules watch, by Azure's resource type."""

    VIRTUAL_MACHINES = "Microsoft.Compute/virtualMachines"
    LOAD_BALANCER = "Microsoft.Network/loadBalancers"
    VAULT = "Microsoft.KeyVault/vaults"
    STORAGE = "Microsoft.Storage/storageAccounts"
    DATABASE = "Microsoft.DBforPostgreSQL/flexibleServers"
    NAT_GATEWAY = "Microsoft.Network/natGateways"
    VPN_GATEWAY = "Microsoft.Network/virtualNetworkGateways"


@dataclass(frozen=True)
class _Rule:
    watched: Watched
    metric: str
    operator: monitor.Operator
    threshold: float
    aggregation: monitor.AggregationTypeEnum
    severity: int
    meaning: str
    split_by: str | None = None
    """Dimension whose values are judged one by one."""


_BELOW, _ABOVE = monitor.Operator.LESS_THAN, monitor.Operator.GREATER_THAN
_AVERAGE, _MAXIMUM, _TOTAL = (
    monitor.AggregationTypeEnum.AVERAGE,
    monitor.AggregationTypeEnum.MAXIMUM,
    monitor.AggregationTypeEnum.TOTAL,
)

_RULES: dict[str, _Rule] = {
    "vm-availability": _Rule(
        Watched.VIRTUAL_MACHINES, "VmAvailabilityMetric", _BELOW, 1, _AVERAGE, 1, "A node VM is down."
    ),
    "vm-memory": _Rule(
        Watched.VIRTUAL_MACHINES, "Available Memory Bytes", _BELOW, 1e9, _AVERAGE, 2, "A VM has under 1 GB free."
    ),
    "vm-cpu": _Rule(Watched.VIRTUAL_MACHINES, "Percentage CPU", _ABOVE, 90, _AVERAGE, 2, "A VM is overloaded."),
    "balancer-path": _Rule(
        Watched.LOAD_BALANCER, "VipAvailability", _BELOW, 90, _AVERAGE, 1, "The frontend does not answer."
    ),
    "vault-availability": _Rule(
        Watched.VAULT,
        "Availability",
        _BELOW,
        90,
        _AVERAGE,
        1,
        "A vault does not answer: nodes can't read their keys, or the authority can't sign.",
    ),
    "vault-saturation": _Rule(
        Watched.VAULT, "SaturationShoebox", _ABOVE, 75, _AVERAGE, 2, "The vault is close to its limits."
    ),
    "storage-availability": _Rule(
        Watched.STORAGE, "Availability", _BELOW, 100, _AVERAGE, 1, "Leases and network information fail."
    ),
    "database-alive": _Rule(
        Watched.DATABASE, "is_db_alive", _BELOW, 1, _MAXIMUM, 1, "The ledger's database is down."
    ),
    "database-storage": _Rule(
        Watched.DATABASE, "storage_percent", _ABOVE, 90, _AVERAGE, 1, "The ledger's database is nearly full."
    ),
    "database-cpu": _Rule(
        Watched.DATABASE, "cpu_percent", _ABOVE, 90, _AVERAGE, 2, "The ledger's database is overloaded."
    ),
    "database-connections": _Rule(
        Watched.DATABASE, "connections_failed", _ABOVE, 5, _TOTAL, 2, "Nodes fail to connect to their database."
    ),
    "egress-path": _Rule(
        Watched.NAT_GATEWAY, "DatapathAvailability", _BELOW, 90, _AVERAGE, 1, "VMs can't reach the internet."
    ),
    "tunnel-down": _Rule(
        Watched.VPN_GATEWAY,
        "TunnelAverageBandwidth",
        _BELOW,
        1,
        _AVERAGE,
        0,
        "No traffic to a peer.",
        split_by="ConnectionName",
    ),
}


@dataclass(frozen=True, kw_only=True)
class AlertsArgs:
    """Inputs of `Alerts`."""

    resource_group_name: Input[str]
    """Required. Resource group of the rules."""
    resource_group_id: Input[str]
    """Required. Resource group whose VMs are watched."""
    location: Input[str]
    """Required. Region of the watched resources."""
    watched: Mapping[Watched, Mapping[str, Input[str]]]
    """Required. Resource ids to watch, by type and by a word for each; a type that is not there gets no rule."""
    identities: int
    """Required. Ledger nodes that are to be available."""
    workspace_id: Input[str]
    """Required. Log Analytics workspace that holds the agents' metrics."""
    emails: Sequence[str] = ()
    """Optional. Who gets each alert by mail; without any, alerts stand in the portal only."""
    tags: Mapping[str, Input[str]] | None = None
    """Optional. Put on every taggable child."""


class Alerts(ComponentResource):
    """Alerts that end by themselves on metrics and on what the agents tell, and on health and a vault's deletion."""

    def __init__(self, name: str, args: AlertsArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("decentralized-trust:azure:Alerts", name, None, opts)
        self._args = args
        group = self._action_group(name, args) if args.emails else None
        watched = {**args.watched, Watched.VIRTUAL_MACHINES: {"": args.resource_group_id}}
        for role, rule in _RULES.items():
            for word, scope in watched.get(rule.watched, {}).items():
                self._metric_alert(_named(name, role, word), rule, scope, group)
        self._ledger_alert(f"{name}-ledger", group)
        events = {
            # Service health is told for a whole subscription only.
            "service-health": (_subscription(args.resource_group_id), {"category": "ServiceHealth"}),
            "resource-health": (args.resource_group_id, {"category": "ResourceHealth"}),
            **{
                _named("vault-deleted", word): (
                    vault_id,
                    {"category": "Administrative", "operationName": "Microsoft.KeyVault/vaults/delete"},
                )
                for word, vault_id in args.watched.get(Watched.VAULT, {}).items()
            },
        }
        for role, (scope, fields) in events.items():
            monitor.ActivityLogAlert(
                f"{name}-{role}",
                resource_group_name=args.resource_group_name,
                location="Global",
                enabled=True,
                scopes=[scope],
                condition=monitor.AlertRuleAllOfConditionArgs(
                    all_of=[
                        monitor.AlertRuleAnyOfOrLeafConditionArgs(field=field, equals=value)
                        for field, value in fields.items()
                    ]
                ),
                actions=monitor.ActionListArgs(
                    action_groups=[monitor.ActionGroupArgs(action_group_id=group.id)] if group else []
                ),
                tags=args.tags,
                opts=ResourceOptions(parent=self),
            )
        self.register_outputs({})

    def _metric_alert(self, name: str, rule: _Rule, scope: Input[str], group: monitor.ActionGroup | None) -> None:
        args = self._args
        criterion = monitor.MetricCriteriaArgs(
            criterion_type="StaticThresholdCriterion",
            name="threshold",
            metric_namespace=rule.watched.value,
            metric_name=rule.metric,
            operator=rule.operator,
            threshold=rule.threshold,
            time_aggregation=rule.aggregation,
            dimensions=[monitor.MetricDimensionArgs(name=rule.split_by, operator="Include", values=["*"])]
            if rule.split_by
            else None,
        )
        # The VMs come and go, so their rule watches the resource group: of all types here, only they allow that.
        many = rule.watched is Watched.VIRTUAL_MACHINES
        monitor.MetricAlert(
            name,
            resource_group_name=args.resource_group_name,
            location="global",
            description=rule.meaning,
            severity=rule.severity,
            enabled=True,
            auto_mitigate=True,
            evaluation_frequency="PT1M",
            window_size="PT5M",
            scopes=[scope],
            target_resource_type=rule.watched.value,
            target_resource_region=args.location,
            criteria=monitor.MetricAlertMultipleResourceMultipleMetricCriteriaArgs(
                odata_type="Microsoft.Azure.Monitor.MultipleResourceMultipleMetricCriteria", all_of=[criterion]
            )
            if many
            else monitor.MetricAlertSingleResourceMultipleMetricCriteriaArgs(
                odata_type="Microsoft.Azure.Monitor.SingleResourceMultipleMetricCriteria", all_of=[criterion]
            ),
            actions=[monitor.MetricAlertActionArgs(action_group_id=group.id)] if group else None,
            tags=args.tags,
            opts=ResourceOptions(parent=self),
        )

    def _ledger_alert(self, name: str, group: monitor.ActionGroup | None) -> None:
        """One alert on all that the agents tell: a database that fails takes every node, and is one outage.

        A query, since a metric alert can't add the values up that each VM sends, nor set two metrics off.
        """
        args = self._args
        monitor.ScheduledQueryRule(
            name,
            resource_group_name=args.resource_group_name,
            location=args.location,
            kind=monitor.Kind.LOG_ALERT,
            display_name="Ledger nodes",
            description="Fewer ledger nodes are available than there should be, or VMs wait for something outside.",
            severity=1,
            enabled=True,
            auto_mitigate=True,
            evaluation_frequency="PT5M",
            window_size="PT15M",
            scopes=[args.workspace_id],
            criteria=monitor.ScheduledQueryRuleCriteriaArgs(
                all_of=[
                    monitor.ConditionArgs(
                        query=ledger_query(args.identities),
                        metric_measure_column=_AMISS,
                        time_aggregation=monitor.TimeAggregation.MAXIMUM,
                        # The SDK's enum of this name is that of another type.
                        operator="GreaterThan",
                        threshold=0,
                        failing_periods=monitor.ConditionFailingPeriodsArgs(
                            number_of_evaluation_periods=1, min_failing_periods_to_alert=1
                        ),
                    )
                ]
            ),
            actions=monitor.ActionsArgs(action_groups=[group.id]) if group else None,
            tags=args.tags,
            opts=ResourceOptions(parent=self),
        )

    def _action_group(self, name: str, args: AlertsArgs) -> monitor.ActionGroup:
        return monitor.ActionGroup(
            f"{name}-receivers",
            resource_group_name=args.resource_group_name,
            location="Global",
            group_short_name="ledger",
            enabled=True,
            email_receivers=[
                monitor.MicrosoftCommonEmailReceiverArgs(
                    name=address, email_address=address, use_common_alert_schema=True
                )
                for address in args.emails
            ],
            tags=args.tags,
            opts=ResourceOptions(parent=self),
        )


_AMISS = "Amiss"


def ledger_query(identities: int) -> str:
    """How many nodes were missing, or VMs impaired, at any time of the window; more than none is an outage.

    Takeovers and upgrades end sooner than the window. Where nobody tells anything, all nodes are missing.
    """
    impaired, available = Metric.IMPAIRED, Metric.NODES_AVAILABLE
    return (
        f'AppMetrics | where Name in ("{impaired}", "{available}") '
        "| summarize Least = min(Min), Most = max(Max) by Name, AppRoleInstance, bin(TimeGenerated, 5m) "
        f'| summarize Impaired = sumif(Least, Name == "{impaired}"), '
        f'Available = sumif(Most, Name == "{available}") by TimeGenerated '
        f"| summarize {_AMISS} = min(max_of(Impaired, {identities} - Available)) "
        f"| extend {_AMISS} = coalesce({_AMISS}, {identities}.0)"
    )


def _named(*words: str) -> str:
    return "-".join(word for word in words if word)


def _subscription(resource_id: Input[str]) -> Output[str]:
    return Output.from_input(resource_id).apply(lambda text: "/".join(text.split("/")[:3]))
