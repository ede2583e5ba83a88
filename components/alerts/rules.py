"""The types of alert rules: on a metric of Azure, on a query of the logs, on an event of the activity log."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from pulumi import Input
from pulumi_azure_native import monitor

from components.alerts.args import AlertsArgs, Watched
from components.queries import Value

RUNBOOKS = Path("docs/runbooks")
"""Folder of the runbooks in the repository."""
AMBA = "https://azure.github.io/azure-monitor-baseline-alerts/services"
"""Azure Monitor Baseline Alerts, read at b772e9f of 2026-05-26."""
LEARN = "https://learn.microsoft.com/azure"
"""Microsoft's documentation, the source of the rules that AMBA lacks."""
SEVERITIES: Mapping[int, str] = {
    1: "at once: the bank is out of service, or keys may be compromised",
    2: "today",
    3: "in working hours",
    4: "as the runbook says: Azure gives this severity to every alert on an event",
}
"""When to react, by severity."""


@dataclass(frozen=True, kw_only=True)
class AlertRule:
    """Fields that every type of rule has."""

    name: str
    """Begins the resource's name, after the component's."""
    severity: int
    """One of `SEVERITIES`."""
    meaning: str
    """The problem in one or two sentences: start of the mail."""
    runbook: str
    """File name in `RUNBOOKS`, stated in the mail."""
    source: str
    """URL of the page that the threshold is from, or the project's own document."""

    @property
    def description(self) -> str:
        """Text of the mail: meaning and runbook."""
        return f"{self.meaning} Runbook: {RUNBOOKS / self.runbook}"


class MetricAggregation(StrEnum):
    """How a metric's values in a window are aggregated."""

    AVERAGE = "Average"
    COUNT = "Count"
    MAXIMUM = "Maximum"
    TOTAL = "Total"


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A metric, and the values that raise an alert: below or above a threshold.

    Without a threshold, Azure learns from ten days of values which are too high.
    """

    metric: str
    """Azure's name of the metric."""
    aggregation: MetricAggregation
    below: float | None = None
    above: float | None = None

    @property
    def operator(self) -> monitor.Operator:
        """How the value compares with the threshold."""
        return monitor.Operator.GREATER_THAN if self.below is None else monitor.Operator.LESS_THAN

    @property
    def threshold(self) -> float | None:
        """Values strictly below or above this one raise an alert; None if Azure learns the threshold."""
        return self.above if self.below is None else self.below

    def __str__(self) -> str:
        if self.threshold is None:
            return f"{self.aggregation} of `{self.metric}` more than Azure learned"
        return f"{self.aggregation} of `{self.metric}` {'>' if self.below is None else '<'} {self.threshold:,.12g}"


@dataclass(frozen=True, kw_only=True)
class MetricRule(AlertRule):
    """A rule on one of Azure's own metrics of a resource."""

    watched: Watched
    measure: Measure
    window: str
    """Time over which values are aggregated, ISO 8601."""
    every: str
    """Interval of Azure's evaluations, ISO 8601."""
    only_while: Measure | None = None
    """A second measure that must hold at the same time."""
    include: Mapping[str, tuple[str, ...]] | None = None
    """Values by dimension that count; with `*` each value has a separate alert."""
    exclude: Mapping[str, tuple[str, ...]] | None = None
    """Values by dimension that do not count."""
    of_share: bool = False
    """Whether the threshold is a fraction of the share's size."""

    @property
    def when(self) -> str:
        """The condition in words."""
        chosen = [
            *(f"`{name}` {', '.join(values)}" for name, values in (self.include or {}).items() if values != ("*",)),
            *(f"`{name}` not {', '.join(values)}" for name, values in (self.exclude or {}).items()),
        ]
        each = [f"for each `{name}`" for name, values in (self.include or {}).items() if values == ("*",)]
        return ", ".join(
            [
                f"{self.measure}{' of the share' if self.of_share else ''} in {minutes(self.window)}",
                *chosen,
                *each,
                *([f"while {self.only_while}"] if self.only_while else []),
            ]
        )


@dataclass(frozen=True, kw_only=True)
class QueryRule(AlertRule):
    """A rule on a query of the workspace: a row whose measure is above 0 raises an alert."""

    title: str
    """Display name of the alert."""
    query: str
    """Name of the query in `components.queries`."""
    measure: str
    """Column of the query: more than 0 raises an alert."""
    values: Callable[[AlertsArgs], Mapping[str, Input[Value]] | None]
    """Returns the values of the query's placeholders; None if the rule does not apply to the member."""
    window: str
    """Time that the query reads, ISO 8601."""
    every: str
    """Interval of Azure's evaluations, ISO 8601."""
    when: str
    """The condition in words."""
    dimensions: tuple[str, ...] = ()
    """Columns of the query; each combination of their values has a separate alert."""
    looks_back: bool = False
    """Whether the query reads two days, the most that Azure allows, to know what was there before."""


@dataclass(frozen=True, kw_only=True)
class EventRule(AlertRule):
    """A rule on events of the activity log. Azure gives such alerts severity 4, and does not resolve them."""

    scopes: Callable[[AlertsArgs], Mapping[str, Input[str]]]
    """Returns the resource ids to watch, by a key that ends the name of each alert; empty if none applies."""
    fields: Mapping[str, str | tuple[str, ...]]
    """Fields of the event, each with its value or the values that it may have."""
    when: str
    """The condition in words."""
    severity: int = 4


def minutes(window: str) -> str:
    """An ISO 8601 duration of one unit in words: `PT15M` as `15 min`."""
    number, unit = window.removeprefix("P").removeprefix("T")[:-1], window[-1]
    return f"{number} {_SPAN_UNITS[unit]}"


_SPAN_UNITS = {"M": "min", "H": "h", "D": "d"}
