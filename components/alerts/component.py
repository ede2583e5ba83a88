"""Creates the alert rules of the tables, and the action group that sends their mail."""

from collections.abc import Mapping
from datetime import UTC, datetime

from pulumi import ComponentResource, Input, Output, ResourceOptions
from pulumi_azure_native import consumption, monitor

from components.alerts.args import AlertsArgs, Watched
from components.alerts.events import EVENT_RULES
from components.alerts.logs import QUERY_RULES
from components.alerts.metrics import METRIC_RULES
from components.alerts.rules import AlertRule, EventRule, Measure, MetricRule, QueryRule
from components.queries import Value, query

_LOOKBACK = "P2D"
_SEVERAL = (Watched.VIRTUAL_MACHINES, Watched.VAULT)
"""Types of which one rule watches several resources: learn.microsoft.com/azure/azure-monitor/alerts/alerts-types."""
_LEARNED = monitor.DynamicThresholdFailingPeriodsArgs(min_failing_periods_to_alert=4, number_of_evaluation_periods=4)
_GIB = 2**30
BUDGET_NAME = "ledger"
BUDGET_NOTIFICATIONS = {
    "exceeded": consumption.ThresholdType.ACTUAL,
    "foreseen": consumption.ThresholdType.FORECASTED,
}
"""When the budget's mail is sent: at 100 % of the month's actual or forecast cost."""


class Alerts(ComponentResource):
    """The rules of `METRIC_RULES`, `QUERY_RULES` and `EVENT_RULES` that apply to the member, and a budget.

    docs/alerts.md lists them. Alerts on metrics and on queries resolve automatically.
    """

    def __init__(self, name: str, args: AlertsArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("decentralized-trust:azure:Alerts", name, None, opts)
        self._name, self._args = name, args
        self._group = self._action_group() if args.emails else None
        watched = {**args.watched, Watched.VIRTUAL_MACHINES: {"": args.resource_group_id}}
        for metric_rule in METRIC_RULES:
            scopes = watched.get(metric_rule.watched, {})
            if metric_rule.watched in _SEVERAL:
                if scopes:
                    self._metric_alert(metric_rule, "", list(scopes.values()))
            else:
                for word, scope in scopes.items():
                    self._metric_alert(metric_rule, word, [scope])
        for query_rule in QUERY_RULES:
            values = query_rule.values(args)
            if values is not None:
                self._query_alert(query_rule, values)
        for event_rule in EVENT_RULES:
            for word, scope in event_rule.scopes(args).items():
                self._event_alert(event_rule, word, scope)
        if args.budget is not None:
            self._budget(args.budget)
        self.register_outputs({})

    def _named(self, rule: AlertRule, word: str = "") -> str:
        return "-".join(each for each in (self._name, rule.name, word) if each)

    def _description(self, rule: AlertRule) -> Input[str]:
        url = self._args.workbook_url
        return Output.concat(rule.description, " Figures and logs: ", url) if url is not None else rule.description

    def _metric_alert(self, rule: MetricRule, word: str, scopes: list[Input[str]]) -> None:
        args, several = self._args, rule.watched in _SEVERAL
        criteria: list[monitor.MetricCriteriaArgs | monitor.DynamicMetricCriteriaArgs] = [
            self._criterion(rule, "threshold", rule.measure, word)
        ]
        if rule.only_while:
            criteria.append(self._criterion(rule, "while", rule.only_while, word))
        # Only multi-resource criteria allow a dynamic threshold, or several resources.
        many = several or rule.measure.threshold is None
        monitor.MetricAlert(
            self._named(rule, word),
            resource_group_name=args.placement.resource_group_name,
            location="global",
            description=self._description(rule),
            severity=rule.severity,
            enabled=True,
            auto_mitigate=True,
            evaluation_frequency=rule.every,
            window_size=rule.window,
            scopes=scopes,
            target_resource_type=rule.watched.resource_type,
            target_resource_region=args.placement.location,
            criteria=monitor.MetricAlertMultipleResourceMultipleMetricCriteriaArgs(
                odata_type="Microsoft.Azure.Monitor.MultipleResourceMultipleMetricCriteria", all_of=criteria
            )
            if many
            else monitor.MetricAlertSingleResourceMultipleMetricCriteriaArgs(
                odata_type="Microsoft.Azure.Monitor.SingleResourceMultipleMetricCriteria",
                all_of=[each for each in criteria if isinstance(each, monitor.MetricCriteriaArgs)],
            ),
            actions=[monitor.MetricAlertActionArgs(action_group_id=self._group.id)] if self._group else None,
            tags=args.placement.tags,
            opts=ResourceOptions(parent=self),
        )

    def _criterion(
        self, rule: MetricRule, role: str, measure: Measure, word: str
    ) -> monitor.MetricCriteriaArgs | monitor.DynamicMetricCriteriaArgs:
        chosen = [
            *((name, "Include", values) for name, values in (rule.include or {}).items()),
            *((name, "Exclude", values) for name, values in (rule.exclude or {}).items()),
        ]
        if rule.watched is Watched.LOAD_BALANCER and (port := self._args.answering_ports.get(word)):
            chosen.append(("FrontendPort", "Include", (str(port),)))
        dimensions = [
            monitor.MetricDimensionArgs(name=name, operator=operator, values=list(values))
            for name, operator, values in chosen
        ] or None
        if measure.threshold is None:
            return monitor.DynamicMetricCriteriaArgs(
                criterion_type="DynamicThresholdCriterion",
                name=role,
                metric_namespace=rule.watched.resource_type,
                metric_name=measure.metric,
                operator=measure.operator,
                alert_sensitivity=monitor.DynamicThresholdSensitivity.MEDIUM,
                failing_periods=_LEARNED,
                time_aggregation=measure.aggregation.value,
                dimensions=dimensions,
            )
        return monitor.MetricCriteriaArgs(
            criterion_type="StaticThresholdCriterion",
            name=role,
            metric_namespace=rule.watched.resource_type,
            metric_name=measure.metric,
            operator=measure.operator,
            threshold=measure.threshold * (self._args.share_gib or 0) * _GIB if rule.of_share else measure.threshold,
            time_aggregation=measure.aggregation.value,
            dimensions=dimensions,
        )

    def _query_alert(self, rule: QueryRule, values: Mapping[str, Input[Value]]) -> None:
        args = self._args
        known: Output[dict[str, Value]] = Output.all(values).apply(lambda each: dict(each[0]))
        text = known.apply(lambda found: query(rule.query, **found))
        monitor.ScheduledQueryRule(
            self._named(rule),
            resource_group_name=args.placement.resource_group_name,
            location=args.placement.location,
            kind=monitor.Kind.LOG_ALERT,
            display_name=rule.title,
            description=self._description(rule),
            severity=rule.severity,
            enabled=True,
            auto_mitigate=True,
            evaluation_frequency=rule.every,
            window_size=rule.window,
            override_query_time_range=_LOOKBACK if rule.looks_back else None,
            # A new workspace has no table of metrics before the first row (terraform-provider-azurerm #28293).
            skip_query_validation=True,
            scopes=[args.workspace_id],
            criteria=monitor.ScheduledQueryRuleCriteriaArgs(
                all_of=[
                    monitor.ConditionArgs(
                        query=text,
                        metric_measure_column=rule.measure,
                        time_aggregation=monitor.TimeAggregation.MAXIMUM,
                        # Not the SDK's enum of this name: it belongs to another resource type.
                        operator="GreaterThan",
                        threshold=0,
                        dimensions=[
                            monitor.DimensionArgs(name=each, operator=monitor.DimensionOperator.INCLUDE, values=["*"])
                            for each in rule.dimensions
                        ]
                        or None,
                        failing_periods=monitor.ConditionFailingPeriodsArgs(
                            number_of_evaluation_periods=1, min_failing_periods_to_alert=1
                        ),
                    )
                ]
            ),
            actions=monitor.ActionsArgs(action_groups=[self._group.id]) if self._group else None,
            tags=args.placement.tags,
            opts=ResourceOptions(parent=self),
        )

    def _event_alert(self, rule: EventRule, word: str, scope: Input[str]) -> None:
        args = self._args
        monitor.ActivityLogAlert(
            self._named(rule, word),
            resource_group_name=args.placement.resource_group_name,
            location="Global",
            description=self._description(rule),
            enabled=True,
            scopes=[scope],
            condition=monitor.AlertRuleAllOfConditionArgs(
                all_of=[_condition(field, value) for field, value in rule.fields.items()]
            ),
            actions=monitor.ActionListArgs(
                action_groups=[monitor.ActionGroupArgs(action_group_id=self._group.id)] if self._group else []
            ),
            tags=args.placement.tags,
            opts=ResourceOptions(parent=self),
        )

    def _action_group(self) -> monitor.ActionGroup:
        args = self._args
        return monitor.ActionGroup(
            f"{self._name}-receivers",
            resource_group_name=args.placement.resource_group_name,
            location="Global",
            group_short_name="ledger",
            enabled=True,
            email_receivers=[
                monitor.MicrosoftCommonEmailReceiverArgs(
                    name=address, email_address=address, use_common_alert_schema=True
                )
                for address in args.emails
            ],
            tags=args.placement.tags,
            opts=ResourceOptions(parent=self),
        )

    def _budget(self, amount: int) -> None:
        """Azure compares the cost once a day, and starts from zero on the first of each month."""
        now = datetime.now(UTC)
        consumption.Budget(
            f"{self._name}-budget",
            scope=self._args.resource_group_id,
            budget_name=BUDGET_NAME,
            category=consumption.CategoryType.COST,
            amount=amount,
            time_grain=consumption.TimeGrainType.MONTHLY,
            # Without an end date, Azure sets one ten years later.
            time_period=consumption.BudgetTimePeriodArgs(start_date=f"{now:%Y-%m}-01T00:00:00Z"),
            notifications={
                name: consumption.NotificationArgs(
                    enabled=True,
                    operator=consumption.OperatorType.GREATER_THAN_OR_EQUAL_TO,
                    threshold=100,
                    threshold_type=kind,
                    contact_emails=list(self._args.emails),
                )
                for name, kind in BUDGET_NOTIFICATIONS.items()
            },
            # Azure refuses a new budget that starts in an earlier month, and does not change a live budget's start.
            opts=ResourceOptions(parent=self, ignore_changes=["timePeriod"]),
        )


def _condition(field: str, value: str | tuple[str, ...]) -> monitor.AlertRuleAnyOfOrLeafConditionArgs:
    if isinstance(value, str):
        return monitor.AlertRuleAnyOfOrLeafConditionArgs(field=field, equals=value)
    return monitor.AlertRuleAnyOfOrLeafConditionArgs(
        any_of=[monitor.AlertRuleLeafConditionArgs(field=field, equals=each) for each in value]
    )
