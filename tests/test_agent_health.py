"""What a VM says of itself: its health, and its metrics."""

import asyncio
from typing import Any

import aiohttp
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from agent import health
from agent.metrics import Metric, instrument
from agent.ports import HEALTH_PATH
from agent.status import State, Status
from ledger.software import Figure, Readiness


def ask(status: Status, path: str = HEALTH_PATH) -> tuple[int, Any]:
    async def run() -> tuple[int, Any]:
        async with (
            health.serving(status, "127.0.0.1", 0) as port,
            aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session,
            session.get(path) as answer,
        ):
            return answer.status, await answer.json() if answer.status == 200 else None

    return asyncio.run(run())


@pytest.mark.parametrize("state", list(State))
def test_a_living_agent_is_healthy_in_every_state(state: State) -> None:
    status, answer = ask(Status("vm-1", state=state, reason="the vault does not answer"))
    assert status == 200
    assert answer["ApplicationHealthState"] == "Healthy", "Azure would replace the VM, and the next, and the next"
    assert answer["state"] == state.value
    assert answer["reason"] == "the vault does not answer", "people are told what it waits for"


def test_health_tells_who_holds_what() -> None:
    _, answer = ask(Status("vm-1", State.HOLDING, "node-1", 7, Readiness.READY))
    assert (answer["vm"], answer["identity"], answer["epoch"], answer["node"]) == ("vm-1", "node-1", 7, "ready")


def test_health_tells_the_nodes_figures() -> None:
    _, answer = ask(Status("vm-1", State.HOLDING, "node-1", 7, figures={Figure.MEMBERS_REACHABLE: 3.0}))
    assert answer["figures"] == {"members-reachable": 3}, "a person sees on the VM what the workbook will show"


@pytest.mark.parametrize("path", ["/", "/health/", "/healthy", "/../etc/passwd"])
def test_no_other_path_is_answered(path: str) -> None:
    assert ask(Status("vm-1"), path)[0] == 404, f"{path} tells nothing"


def test_transactions_are_told_as_they_come_whoever_ran_the_node_before() -> None:
    status = Status("vm-1", State.HOLDING, "node-1", 7, Readiness.READY, figures={Figure.TRANSACTIONS: 1000.0})
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    instrument(provider.get_meter("test"), status)

    def read() -> float:
        data = reader.get_metrics_data()
        assert data
        (value,) = (
            point.value  # type: ignore[union-attr]
            for metric in data.resource_metrics[0].scope_metrics[0].metrics
            if metric.name == Metric.TRANSACTIONS
            for point in metric.data.data_points
        )
        return float(value)

    assert read() == 0, "a takeover is no burst of all that the node ever did"
    status.figures = {Figure.TRANSACTIONS: 1003.0}
    assert read() == 3
    status.figures, status.epoch = {Figure.TRANSACTIONS: 1500.0}, 9
    assert read() == 3, "another VM told what came meanwhile"
    status.figures = {Figure.TRANSACTIONS: 1504.0}
    assert read() == 7, "a counter never falls"
    provider.shutdown()


def told(status: Status) -> dict[str, tuple[float, dict[str, Any]]]:
    """Each metric's value and dimensions, by its name."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    instrument(provider.get_meter("test"), status)
    data = reader.get_metrics_data()
    provider.shutdown()
    assert data
    return {
        metric.name: (point.value, dict(point.attributes or {}))  # type: ignore[union-attr]
        for scope in data.resource_metrics[0].scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
    }


def test_a_holder_tells_every_metric() -> None:
    figures = {figure: 5.0 + place for place, figure in enumerate(Figure)}
    status = Status(
        "vm-1", State.HOLDING, "node-1", 7, Readiness.READY, takeovers=2, lease_latency=0.25, figures=figures
    )
    metrics = told(status)
    assert set(metrics) == {metric.value for metric in Metric}, "the workbook asks for each of them by its name"
    assert metrics[Metric.NODES_AVAILABLE] == (1, {"vm": "vm-1", "identity": "node-1"}), "it says whose it is"
    assert metrics[Metric.LEASE_EPOCH][0] == 7
    assert metrics[Metric.TAKEOVERS][0] == 2
    assert metrics[Metric.LEASE_LATENCY][0] == 0.25
    assert metrics[Metric.TRANSACTIONS][0] == 0, "what the node did before this VM had it is not told again"
    assert metrics[Metric.IMPAIRED][0] == 0


def test_a_standby_is_counted_as_one() -> None:
    metrics = told(Status("vm-1", State.STANDBY, reason="the lease store does not answer"))
    assert metrics[Metric.STANDBYS][0] == 1
    assert metrics[Metric.NODES_AVAILABLE][0] == 0, "it runs no node"
    assert metrics[Metric.IMPAIRED][0] == 1, "someone should look, though the VM is well"
    assert Metric.LEASE_EPOCH not in metrics, "it holds nothing"
    assert Metric.TRANSACTIONS not in metrics, "what is not known is not told as nought"
