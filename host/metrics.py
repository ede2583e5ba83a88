"""Sends a VM's metrics to Application Insights."""

import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from contract.metrics import READING_SECONDS, Dimension, Figure, Metric
from contract.vm_configuration import MODEL_FILE
from host import faults
from host.status import Readiness, State, Status

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, Meter, Observation
    from opentelemetry.sdk.metrics import MeterProvider

_SERVICE = "decentralized-trust"
NOT_SENT = ("APPLICATIONINSIGHTS_SDKSTATS_DISABLED", "APPLICATIONINSIGHTS_STATSBEAT_DISABLED_ALL")
"""The exporter's metrics of itself: the bank would pay for some, and others go to Microsoft in another region."""

_Read = Callable[[Status], Iterable[tuple[float | None, Mapping[Dimension, str | None]]]]
"""Values, each with its dimensions; a value or a dimension that is None is left out."""


def _of_vm(read: Callable[[Status], float | None]) -> _Read:
    return lambda status: [(read(status), {})]


def _of_identity(read: Callable[[Status], float | None]) -> _Read:
    return lambda status: [(read(status), {Dimension.IDENTITY: status.identity})]


_GAUGES: dict[Metric, _Read] = {
    Metric.NODES_AVAILABLE: _of_identity(lambda status: status.readiness is Readiness.READY),
    Metric.STANDBYS: lambda status: [(status.state is State.STANDBY, {Dimension.MODEL: status.model})],
    Metric.LEASE_EPOCH: _of_identity(lambda status: status.epoch),
    Metric.LEASE_LATENCY: _of_identity(lambda status: status.lease_latency if status.identity else None),
    Metric.MEMBERS_REACHABLE: lambda status: [
        (reached, {Dimension.IDENTITY: status.identity, Dimension.MEMBER: member})
        for member, reached in status.reached.items()
    ],
    Metric.DAYS_LEFT: lambda status: [
        (days, {Dimension.WHAT: what, Dimension.MEMBER: member}) for (what, member), days in status.days_left.items()
    ],
    Metric.IMPAIRED: lambda status: [
        (1, {Dimension.CAUSE: cause, Dimension.MEMBER: member}) for cause, member in status.causes()
    ],
    Metric.ROOT_OPEN: _of_vm(lambda status: status.figures.get(Figure.ROOT_OPEN)),
    Metric.LIST_AGE: _of_vm(lambda status: status.figures.get(Figure.LIST_AGE)),
    Metric.PENDING_REQUESTS: _of_vm(lambda status: status.figures.get(Figure.PENDING)),
}


class _Counted:
    """Sums a counter of the nodes on this VM, by identity.

    It misses what a node counted after its last reading, and again as much if the lease's next node has already
    counted more at its first reading.
    """

    def __init__(self, figure: Figure) -> None:
        self._figure, self._run, self._last = figure, ("", 0), 0.0
        self._sums: dict[str, float] = {}

    def __call__(self, status: Status) -> float | None:
        value = status.figures.get(self._figure)
        if value is None or status.identity is None:
            return None
        run = status.identity, status.epoch or 0
        before = self._last if run == self._run and value >= self._last else 0.0
        self._run, self._last = run, value
        self._sums[status.identity] = self._sums.get(status.identity, 0.0) + value - before
        return self._sums[status.identity]


def _counters() -> dict[Metric, _Read]:
    return {
        Metric.TRANSACTIONS: _of_identity(_Counted(Figure.TRANSACTIONS)),
        Metric.FAILURES: _of_identity(_Counted(Figure.FAILURES)),
        # A counter whose dimensions change would report its whole sum again.
        Metric.TAKEOVERS: _of_vm(lambda status: status.takeovers),
        Metric.FAULTS: _of_vm(lambda _: faults.count()),
        Metric.UNPROVEN: _of_vm(lambda status: status.figures.get(Figure.UNPROVEN)),
    }


def instrument(meter: "Meter", status: Status) -> None:
    """Register every metric, read from a program's status."""
    from opentelemetry.metrics import Observation  # noqa: PLC0415

    def observing(read: _Read) -> "Callable[[CallbackOptions], Iterable[Observation]]":
        def observe(_: "CallbackOptions") -> "Iterable[Observation]":
            for value, dimensions in read(status):
                if value is not None:
                    yield Observation(float(value), {name.value: each for name, each in dimensions.items() if each})

        return observe

    for metric, read in _GAUGES.items():
        meter.create_observable_gauge(metric.value, [observing(read)])
    for metric, read in _counters().items():
        meter.create_observable_counter(metric.value, [observing(read)])


def send(connection_string: str, client_id: str, status: Status) -> None:
    """Send the metrics to Application Insights, with the VM's identity, until the process ends."""
    status.model = MODEL_FILE.read_text(encoding="utf-8") if MODEL_FILE.is_file() else None
    _sending(connection_string, client_id, status)


def _sending(connection_string: str, client_id: str, status: Status) -> "MeterProvider":
    # Imported here to save the memory in a program without monitoring.
    from azure.identity import ManagedIdentityCredential  # noqa: PLC0415
    from azure.monitor.opentelemetry.exporter import AzureMonitorMetricExporter  # noqa: PLC0415
    from opentelemetry.sdk.metrics import MeterProvider  # noqa: PLC0415
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader  # noqa: PLC0415
    from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, SERVICE_NAME, Resource  # noqa: PLC0415

    os.environ.update(dict.fromkeys(NOT_SENT, "true"))
    exporter = AzureMonitorMetricExporter(
        connection_string=connection_string, credential=ManagedIdentityCredential(client_id=client_id)
    )
    # AppRoleName and AppRoleInstance: a runbook names a VM by its host name.
    resource = Resource.create({SERVICE_NAME: _SERVICE, SERVICE_INSTANCE_ID: status.vm})
    provider = MeterProvider([PeriodicExportingMetricReader(exporter, 1000 * READING_SECONDS)], resource)
    instrument(provider.get_meter(_SERVICE), status)
    return provider
