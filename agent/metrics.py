"""The name of every metric that a node VM sends, and how it is told; the workbook and the alerts query these."""

from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import TYPE_CHECKING

from agent.status import State, Status
from ledger.software import Figure, Readiness

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, Meter, Observation


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
    TAKEOVERS = "ledger.takeovers"
    """Identities that the VM took after their holders fell silent, since the agent's start."""
    LEASE_LATENCY = "ledger.lease.latency"
    """Seconds that the last renewal of the lease took."""
    FAILURES = "ledger.failures"
    """Transactions that failed since the last reading."""
    IMPAIRED = "ledger.impaired"
    """1 from each VM that is well and waits for something outside of it: a vault, a database, the share, a peer."""


def _figure(figure: Figure) -> Callable[[Status], float | None]:
    return lambda status: status.figures.get(figure)


_GAUGES: dict[Metric, Callable[[Status], float | None]] = {
    Metric.NODES_AVAILABLE: lambda status: float(status.readiness is Readiness.READY),
    Metric.STANDBYS: lambda status: float(status.state is State.STANDBY),
    Metric.MEMBERS_KNOWN: _figure(Figure.MEMBERS_KNOWN),
    Metric.MEMBERS_REACHABLE: _figure(Figure.MEMBERS_REACHABLE),
    Metric.LEASE_EPOCH: lambda status: status.epoch,
    Metric.LEASE_LATENCY: lambda status: status.lease_latency if status.identity else None,
    Metric.IMPAIRED: lambda status: float(status.reason is not None or bool(status.members)),
}


class _Increase:
    """What a node's figure grew by while this VM ran it.

    A node counts from its first start, on whichever VM that was: told as it is, a takeover would look like a burst of
    all that it ever did.
    """

    def __init__(self, figure: Figure) -> None:
        self._figure, self._run, self._last = figure, ("", 0), 0.0
        self._told: dict[str, float] = {}

    def __call__(self, status: Status) -> float | None:
        value = status.figures.get(self._figure)
        if value is None or status.identity is None:
            return None
        run = status.identity, status.epoch or 0
        grown = max(0.0, value - self._last) if run == self._run else 0.0
        self._run, self._last = run, value
        self._told[status.identity] = self._told.get(status.identity, 0.0) + grown
        return self._told[status.identity]


def _counters() -> dict[Metric, Callable[[Status], float | None]]:
    return {
        Metric.TRANSACTIONS: _Increase(Figure.TRANSACTIONS),
        Metric.FAILURES: _Increase(Figure.FAILURES),
        Metric.TAKEOVERS: lambda status: status.takeovers,
    }


def instrument(meter: "Meter", status: Status) -> None:
    """Tell every metric from an agent's status, each with the VM and the identity that it holds."""
    from opentelemetry.metrics import Observation  # noqa: PLC0415

    def observing(read: Callable[[Status], float | None]) -> "Callable[[CallbackOptions], Iterable[Observation]]":
        def observe(_: "CallbackOptions") -> "Iterable[Observation]":
            value = read(status)
            dimensions = {"vm": status.vm, "identity": status.identity or "none"}
            return [] if value is None else [Observation(value, dimensions)]

        return observe

    for metric, read in _GAUGES.items():
        meter.create_observable_gauge(metric.value, [observing(read)])
    for metric, read in _counters().items():
        meter.create_observable_counter(metric.value, [observing(read)])


def send(connection_string: str, client_id: str, status: Status) -> None:
    """Send the metrics to Application Insights, as the VM's identity, for as long as the agent lives."""
    # Imported here: it costs memory that an agent without monitoring need not spend.
    from azure.identity import ManagedIdentityCredential  # noqa: PLC0415
    from azure.monitor.opentelemetry import configure_azure_monitor  # noqa: PLC0415
    from opentelemetry.metrics import get_meter  # noqa: PLC0415

    instrumentations = (
        "azure_sdk",
        "django",
        "fastapi",
        "flask",
        "httpx",
        "psycopg2",
        "requests",
        "urllib",
        "urllib3",
    )
    configure_azure_monitor(
        connection_string=connection_string,
        credential=ManagedIdentityCredential(client_id=client_id),
        disable_logging=True,
        disable_tracing=True,
        enable_live_metrics=False,
        instrumentation_options={name: {"enabled": False} for name in instrumentations},
    )
    instrument(get_meter("decentralized-trust"), status)
