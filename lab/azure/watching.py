"""Rules of Azure Monitor and Cost Management: logs, metrics with their dimensions, windows, thresholds, budgets.

Each function checks a resource's inputs and returns what is wrong with them, or None.
"""

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple


class _Metric(NamedTuple):
    aggregations: frozenset[str]
    dimensions: frozenset[str]
    grain: str
    """The metric's shortest interval between values, an ISO 8601 duration."""


def _metric(aggregations: str, dimensions: str = "", grain: str = "PT1M") -> _Metric:
    return _Metric(frozenset(aggregations.split()), frozenset(dimensions.split()), grain)


_SPREAD = "Average Maximum Minimum"
_TUNNEL = "ConnectionName RemoteIP Instance"
METRICS: Mapping[str, Mapping[str, _Metric]] = {
    "Microsoft.Compute/virtualMachines": {
        "Available Memory Bytes": _metric(_SPREAD),
        "Percentage CPU": _metric(_SPREAD),
        "VmAvailabilityMetric": _metric(_SPREAD, "Context"),
    },
    "Microsoft.DBforPostgreSQL/flexibleServers": {
        "connections_failed": _metric("Total"),
        **dict.fromkeys(
            ("cpu_percent", "is_db_alive", "maximum_used_transactionIDs", "memory_percent", "storage_percent"),
            _metric(_SPREAD),
        ),
    },
    "Microsoft.KeyVault/vaults": {
        "Availability": _metric("Average", "ActivityType ActivityName StatusCode StatusCodeClass"),
        "SaturationShoebox": _metric("Average", "ActivityType ActivityName TransactionType"),
        "ServiceApiResult": _metric("Count Average", "ActivityType ActivityName StatusCode StatusCodeClass"),
    },
    "Microsoft.Network/loadBalancers": {
        "DipAvailability": _metric(
            "Average", "ProtocolType BackendPort FrontendIPAddress FrontendPort BackendIPAddress"
        ),
        "VipAvailability": _metric("Average", "FrontendIPAddress FrontendPort"),
    },
    "Microsoft.Network/natGateways": {
        "DatapathAvailability": _metric("Average"),
        "PacketDropCount": _metric("Total"),
        "SNATConnectionCount": _metric("Total", "Protocol ConnectionState"),
    },
    "Microsoft.Network/publicIPAddresses": {"IfUnderDDoSAttack": _metric("Maximum")},
    "Microsoft.Network/virtualNetworkGateways": {
        "BgpPeerStatus": _metric("Average", "BgpPeerAddress Instance", "PT5M"),
        "ExpressRouteGatewayCountOfRoutesLearnedFromPeer": _metric("Maximum", "roleInstance BgpPeerAddress", "PT5M"),
        "ExpressRouteGatewayCpuUtilization": _metric(_SPREAD, "roleInstance", "PT5M"),
        **dict.fromkeys(
            ("TunnelEgressPacketDropCount", "TunnelIngressPacketDropCount"), _metric("Total", _TUNNEL, "PT5M")
        ),
    },
    "Microsoft.Storage/storageAccounts": {"Availability": _metric(_SPREAD, "GeoType ApiName Authentication")},
    "Microsoft.Storage/storageAccounts/fileServices": {
        "FileCapacity": _metric("Average", "FileShare Tier", "PT1H"),
    },
}
"""By namespace and name, the metrics that the program uses, as documented on 2026-11-29."""

LOG_CATEGORIES: Mapping[str, frozenset[str]] = {
    "Microsoft.DBforPostgreSQL/flexibleServers": frozenset(
        """PostgreSQLLogs PostgreSQLFlexSessions PostgreSQLFlexQueryStoreRuntime PostgreSQLFlexQueryStoreWaitStats
        PostgreSQLFlexTableStats PostgreSQLFlexDatabaseXacts""".split()
    ),
    "Microsoft.KeyVault/vaults": frozenset({"AuditEvent", "AzurePolicyEvaluationDetails"}),
    "Microsoft.Network/virtualNetworkGateways": frozenset(
        f"{each}DiagnosticLog" for each in ("Gateway", "IKE", "P2S", "Route", "Tunnel")
    ),
    "Microsoft.Storage/storageAccounts/blobServices": frozenset({"StorageRead", "StorageWrite", "StorageDelete"}),
}
"""By resource type, for the types that the program uses."""

_WATCHED_TOGETHER = (
    "Microsoft.Compute/virtualMachines",
    "Microsoft.DBforPostgreSQL/flexibleServers",
    "Microsoft.KeyVault/vaults",
)
_METRIC_FREQUENCIES = ("PT1M", "PT5M", "PT15M", "PT30M", "PT1H")
_METRIC_WINDOWS = (*_METRIC_FREQUENCIES, "PT6H", "PT12H", "P1D")
_HOURS = tuple(f"PT{hours}H" for hours in range(1, 7))
_QUERY_FREQUENCIES = ("PT1M", "PT5M", "PT10M", "PT15M", "PT30M", "PT45M", *_HOURS, "P1D")
_QUERY_WINDOWS = (*_QUERY_FREQUENCIES, "P2D")
_QUERY_RANGES = (*_QUERY_WINDOWS, "PT20M")
_SEVERITIES = range(5)


def diagnostic_setting(inputs: Mapping[str, Any]) -> str | None:
    """Check a diagnostic setting: it has a destination, and only log categories of the resource's type."""
    resource_type = _type_of(inputs["resourceUri"])
    categories = [each["category"] for each in inputs.get("logs") or [] if each.get("category")]
    offered = LOG_CATEGORIES.get(resource_type, frozenset())
    if unknown := [each for each in categories if each not in offered]:
        return f"{resource_type} has no logs {unknown[0]}; wanted {', '.join(sorted(offered)) or 'none'}"
    if not (inputs.get("logs") or inputs.get("metrics")):
        return "neither logs nor metrics are sent"
    destinations = ("workspaceId", "storageAccountId", "eventHubAuthorizationRuleId", "marketplacePartnerId")
    if not any(inputs.get(each) for each in destinations):
        return "there is no destination"
    return None


def _type_of(resource_id: str) -> str:
    namespace, *rest = resource_id.rpartition("/providers/")[2].split("/")
    return "/".join((namespace, *rest[::2]))


def metric_alert(inputs: Mapping[str, Any]) -> str | None:
    """Check a metric alert: its metrics exist, with these dimensions; its window contains a value of each metric."""
    frequency, window = inputs.get("evaluationFrequency", "PT1M"), inputs.get("windowSize", "PT5M")
    criteria = inputs.get("criteria") or {}
    conditions = criteria.get("allOf") or []
    problems = [
        _out_of("severity", inputs.get("severity", 3), _SEVERITIES),
        _out_of("evaluationFrequency", frequency, _METRIC_FREQUENCIES),
        _out_of("windowSize", window, _METRIC_WINDOWS),
        _longer("evaluationFrequency", frequency, "windowSize", window),
        _text_length(inputs, 2048),
    ]
    several = str(criteria.get("odataType", "")).endswith("MultipleResourceMultipleMetricCriteria")
    learned = [each for each in conditions if each.get("criterionType") == "DynamicThresholdCriterion"]
    target = inputs.get("targetResourceType", "")
    if learned and not several:
        problems.append("a learned threshold wants criteria of several resources")
    if len(conditions) > 1:
        if learned:
            problems.append("a learned threshold beside another condition")
        if any(
            len(each["values"]) > 1 or each["values"] == ["*"]
            for condition in conditions
            for each in condition.get("dimensions") or []
        ):
            problems.append("several values of a dimension, in one of several conditions")
    if len(inputs.get("scopes") or []) > 1 and (not several or target not in _WATCHED_TOGETHER):
        problems.append(f"one rule can't watch several of {target}")
    if several and not (target and inputs.get("targetResourceRegion")):
        problems.append("several resources without their type and region")
    problems += [_condition(each, window) for each in conditions]
    return next(filter(None, problems), None)


def _condition(condition: Mapping[str, Any], window: str) -> str | None:
    namespace, name = condition["metricNamespace"], condition["metricName"]
    metric = METRICS.get(namespace, {}).get(name)
    if metric is None:
        return f"{namespace} has no metric {name}"
    if condition["timeAggregation"] not in metric.aggregations:
        return f"{name} has no {condition['timeAggregation']}; wanted {', '.join(sorted(metric.aggregations))}"
    for each in condition.get("dimensions") or []:
        if each["name"] not in metric.dimensions:
            return f"{name} has no dimension {each['name']}"
    return _longer(f"{name} comes each", metric.grain, "windowSize", window)


def scheduled_query_rule(inputs: Mapping[str, Any]) -> str | None:
    """Check a query alert: its frequency is within its window, it reads two days at most, its query is allowed."""
    frequency, window = inputs.get("evaluationFrequency", ""), inputs.get("windowSize", "")
    look = inputs.get("overrideQueryTimeRange")
    problems = [
        _out_of("severity", inputs.get("severity"), _SEVERITIES),
        _out_of("evaluationFrequency", frequency, _QUERY_FREQUENCIES),
        _out_of("windowSize", window, _QUERY_WINDOWS if frequency != "PT1M" else _QUERY_WINDOWS[:-2]),
        _out_of("overrideQueryTimeRange", look, _QUERY_RANGES) if look else None,
        _longer("windowSize", window, "overrideQueryTimeRange", look) if look else None,
        _longer("evaluationFrequency", frequency, "windowSize", window),
        _text_length(inputs, 4096),
        None if len(inputs.get("scopes") or []) == 1 else "wanted one scope",
    ]
    for each in (inputs.get("criteria") or {}).get("allOf") or []:
        counts = each.get("timeAggregation") == "Count"
        periods = (each.get("failingPeriods") or {}).get("numberOfEvaluationPeriods", 1)
        if len(each.get("dimensions") or []) > 6:
            problems.append("more than six dimensions")
        if counts is bool(each.get("metricMeasureColumn")):
            problems.append("metricMeasureColumn is for every aggregation but Count, which has none")
        if periods > 1 and "TimeGenerated" not in each["query"].rpartition("|")[2]:
            problems.append("several periods of a query without times")
        problems += [
            f"a query of an alert can't have {word}"
            for word in ("AggregatedValue", "bag_unpack", "narrow", "pivot")
            if re.search(rf"\b{word}\b", each["query"])
        ]
        if found := re.search(r"\bago\((?!\d+(\.\d+)?(d|h|m|s|ms)\))[^)]*\)", each["query"]):
            problems.append(f"{found[0]} in a query of an alert; wanted a literal such as ago(5m)")
        if frequency == "PT1M" and (
            found := re.search(r"\b(search|union|take|limit|ingestion_time)\b", each["query"])
        ):
            problems.append(f"{found[0]} in a query that runs every minute")
    if len(str(inputs.get("criteria"))) > 64 * 1024:
        problems.append("more than 64 KB")
    return next(filter(None, problems), None)


def budget(inputs: Mapping[str, Any], *, today: datetime, new: bool) -> str | None:
    """Check a budget: it starts on the first of a month, and has at most five notifications, each with a recipient.

    Args:
        inputs: the budget's inputs.
        today: the present date.
        new: whether the budget is created; then its first month must not be over.
    """
    start = datetime.fromisoformat(inputs["timePeriod"]["startDate"])
    if start.day != 1:
        return f"it starts on {start:%Y-%m-%d}; wanted the first of a month"
    if new and (start.year, start.month) < (today.year, today.month):
        return f"it starts on {start:%Y-%m-%d}, in a month that is over"
    notifications = inputs.get("notifications") or {}
    if len(notifications) > 5:
        return f"{len(notifications)} notifications; wanted 5 at most"
    for name, each in notifications.items():
        if not 0 <= each["threshold"] <= 1000:
            return f"notification {name} is at {each['threshold']} %; wanted 0 to 1000"
        if not each.get("contactEmails") and not each.get("contactGroups"):
            return f"notification {name} reaches nobody"
    return None


def _out_of(name: str, value: Any, allowed: Any) -> str | None:
    return None if value in allowed else f"{name} is {value}; wanted one of {', '.join(map(str, allowed))}"


def _longer(one: str, short: str, other: str, long: str) -> str | None:
    return f"{one} {short} is longer than {other} {long}" if _duration(short) > _duration(long) else None


def _duration(text: str) -> timedelta:
    found = re.fullmatch(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?)?", text)
    days, hours, minutes = (int(each or 0) for each in found.groups()) if found else (0, 0, 0)
    return timedelta(days=days, hours=hours, minutes=minutes)


def _text_length(inputs: Mapping[str, Any], most: int) -> str | None:
    size = len(inputs.get("description") or "")
    return f"the description has {size} characters; wanted {most} at most" if size > most else None
