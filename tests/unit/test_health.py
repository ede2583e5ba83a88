"""A VM's health report and metrics."""

import asyncio
import gzip
import json
import re
import ssl
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from azure.core.credentials import AccessTokenInfo
from azure.identity import ManagedIdentityCredential
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from contract.metrics import Cause, Dimension, Figure, Metric
from contract.ports import HEALTH_PATH
from host import faults, health, metrics
from host.http import PLACES
from host.metrics import _sending, instrument
from host.status import Readiness, State, Status
from lab import ROOT
from tests.web import Handler, serving


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
def test_a_running_agent_is_healthy_in_every_state(state: State) -> None:
    status, answer = ask(Status("vm-1", state=state, reason="the vault does not answer"))
    assert status == 200
    assert answer["ApplicationHealthState"] == "Healthy", "otherwise Azure would replace one VM after the other"
    assert answer["state"] == state.value
    assert answer["reason"] == "the vault does not answer", "the report says what it waits for"


def test_a_vm_that_alone_lacks_a_prerequisite_is_unhealthy() -> None:
    lacks = {"share": "not mounted"}
    _, answer = ask(Status("vm-1", State.STANDBY, lacks=lacks))
    assert answer["ApplicationHealthState"] == "Healthy", "not at once, and not if other VMs lack it too"
    assert answer["lacks"] == lacks, "the report says why it acquires no identity"
    status, answer = ask(Status("vm-1", State.STANDBY, lacks=lacks, unfit=True))
    assert status == 200, "the extension reads the state from the answer, and treats no answer as another fault"
    assert answer["ApplicationHealthState"] == "Unhealthy"


def test_health_reports_identity_and_epoch() -> None:
    _, answer = ask(Status("vm-1", State.HOLDING, "node-1", 7, Readiness.READY))
    assert (answer["vm"], answer["identity"], answer["epoch"], answer["node"]) == ("vm-1", "node-1", 7, "ready")


def test_health_reports_the_nodes_figures() -> None:
    status = Status("vm-1", State.HOLDING, "node-1", 7, figures={Figure.TRANSACTIONS: 3.0}, reached={"bank-b": True})
    _, answer = ask(status)
    assert answer["figures"] == {"transactions": 3}, "the VM shows the same values as the workbook"
    assert answer["reached"] == {"bank-b": True}
    assert answer["impaired"] == [], "nothing is impaired"


def test_a_node_on_the_vm_takes_only_some_of_the_probes_connections() -> None:
    async def run() -> list[bytes]:
        async with health.serving(Status(vm="vm-1"), "127.0.0.1", 0) as port, AsyncExitStack() as stack:
            silent = [
                await asyncio.open_connection("127.0.0.1", port, local_addr=(f"127.0.0.{2 + index % 9}", 0))
                for index in range(3 * PLACES)
            ]
            for _, writer in silent:
                stack.callback(writer.close)
            # The oldest silent ones give way.
            return [await asyncio.wait_for(reader.read(1), 1) for reader, _ in silent[:-PLACES]]

    assert asyncio.run(run()) == [b""] * (2 * PLACES), "else it could take all of the agent's file descriptors"


def test_health_reports_the_nodes_deaths() -> None:
    _, answer = ask(Status("vm-1", State.HOLDING, "node-1", 7, deaths=3))
    assert answer["deaths"] == 3, "an operator sees why the next start may be delayed"


@pytest.mark.parametrize("path", ["/", "/health/", "/healthy", "/../etc/passwd"])
def test_no_other_path_is_answered(path: str) -> None:
    assert ask(Status("vm-1"), path)[0] == 404, f"{path} is no path"


Reported = dict[str, dict[frozenset[tuple[str, Any]], float]]


def reported(status: Status) -> Reported:
    """Values by their dimensions, by the metric's name."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    instrument(provider.get_meter("test"), status)
    data = reader.get_metrics_data()
    provider.shutdown()
    assert data
    found: Reported = {}
    for metric in data.resource_metrics[0].scope_metrics[0].metrics:
        for point in metric.data.data_points:
            dimensions = frozenset((point.attributes or {}).items())
            found.setdefault(metric.name, {})[dimensions] = point.value  # type: ignore[union-attr]
    return found


def by(**dimensions: str) -> frozenset[tuple[str, Any]]:
    return frozenset(dimensions.items())


def causes(status: Status) -> set[str]:
    """Why a VM is impaired, by its metric and its report."""
    found = reported(status).get(Metric.IMPAIRED, {})
    assert set(found.values()) <= {1}
    names = {dict(dimensions)[Dimension.CAUSE] for dimensions in found}
    assert sorted(names) == ask(status)[1]["impaired"], "the report on the VM agrees with the alert"
    return names


def test_a_holder_reports_every_metric() -> None:
    figures = {figure: 5.0 + place for place, figure in enumerate(Figure)}
    status = Status(
        "vm-1",
        State.HOLDING,
        "node-1",
        7,
        Readiness.READY,
        takeovers=2,
        lease_latency=0.25,
        figures=figures,
        reason="one of its processes has ended",
        reached={"bank-b": True, "bank-c": False},
        days_left={("root-list", None): 89.5, ("node-certificates", "bank-b"): 200.0},
    )
    identity = by(identity="node-1")
    assert reported(status) == {
        Metric.NODES_AVAILABLE: {identity: 1},
        Metric.STANDBYS: {by(): 0},
        Metric.TRANSACTIONS: {identity: 5},
        Metric.FAILURES: {identity: 6},
        Metric.MEMBERS_REACHABLE: {
            by(identity="node-1", member="bank-b"): 1,
            by(identity="node-1", member="bank-c"): 0,
        },
        Metric.DAYS_LEFT: {by(what="root-list"): 89.5, by(what="node-certificates", member="bank-b"): 200},
        Metric.LEASE_EPOCH: {identity: 7},
        Metric.LEASE_LATENCY: {identity: 0.25},
        Metric.TAKEOVERS: {by(): 2},
        Metric.FAULTS: {by(): 0},
        Metric.IMPAIRED: {by(cause="node"): 1},
        Metric.ROOT_OPEN: {by(): 7},
        Metric.PENDING_REQUESTS: {by(): 8},
        Metric.UNPROVEN: {by(): 9},
        Metric.LIST_AGE: {by(): 10},
    }
    assert set(reported(status)) == set(Metric), "workbook and alerts query each of them by name"


def test_the_agents_readme_lists_each_metric_with_its_dimensions_and_each_cause() -> None:
    status = Status(
        "vm-1",
        State.HOLDING,
        "node-1",
        7,
        lease_latency=0.25,
        figures=dict.fromkeys(Figure, 1.0),
        reached={"bank-b": True},
        days_left={("node-certificates", "bank-b"): 200.0},
        members={"bank-b": "not trusted"},
        model="0123456789ab",
    )
    sent = {name: {key for point in points for key, _ in point} for name, points in reported(status).items()}
    readme = (ROOT / "agent" / "README.md").read_text("utf-8")
    listed: dict[str, set[str]] = {}
    for names, dimensions in re.findall(r"^\| (`ledger\.[^|]+) \| ([^|]+) \|", readme, re.MULTILINE):
        for name in re.findall(r"`(.+?)`", names):
            listed[name] = set(dimensions.split(", ")) - {"-"}
    assert listed == sent, "authors of queries look there"
    table = readme.partition("| Cause | Meaning |")[2].partition("\n\n")[0]
    causes_listed = re.findall(r"`(.+?)`", "".join(re.findall(r"^\| ([^|]+) \|", table, re.MULTILINE)))
    assert sorted(causes_listed) == sorted(Cause), "and so do operators on call"


def test_a_standby_is_counted_as_a_standby() -> None:
    assert reported(Status("vm-1", State.STANDBY)) == {
        Metric.NODES_AVAILABLE: {by(): 0},
        Metric.STANDBYS: {by(): 1},
        Metric.TAKEOVERS: {by(): 0},
        Metric.FAULTS: {by(): 0},
    }, "an unknown value is not reported as 0, and a healthy VM reports no cause"


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"reason": "the lease store does not answer", "cause": Cause.LEASES}, "leases"),
        ({"reason": "request 1 waits", "cause": Cause.APPROVAL}, "approval"),
        ({"lease": "it was lost"}, "leases"),
        ({"lacks": {"share": "not mounted"}}, "share"),
        ({"lacks": {"node": "the database does not answer"}}, "node"),
        ({"members": {"bank-b": "does not answer"}, "reached": {"bank-b": False}}, "peer"),
        ({"members": {"bank-b": "no longer publishes node-1"}, "reached": {"bank-b": True}}, "refused"),
        ({"members": {"bank-b": "its card is older than one that was seen"}}, "refused"),
        ({"members": {"node-1": "the documents do not answer"}}, "exchange"),
        (
            {"members": {"bank-a": "the list of peers was not read yet"}, "member": "bank-a"},
            "exchange",
        ),
        ({"figures": {Figure.LIST_AGE: 2.1 * 86_400}}, "revocation"),
        ({"figures": {Figure.LIST_AGE: 1.1 * 86_400}}, None),
    ],
)
def test_a_vm_reports_the_causes_of_its_impairment(changes: dict[str, Any], cause: str | None) -> None:
    status = Status("vm-1", State.HOLDING, "node-1", 7, Readiness.READY, **changes)
    assert causes(status) == ({cause} if cause else set()), (
        "own faults, a peer's and a missing approval raise different alerts"
    )


def test_an_unreachable_peer_hides_no_refused_peer() -> None:
    status = Status("vm-1", members={"bank-b": "does not answer", "bank-c": "not trusted"})
    status.reached = {"bank-b": False, "bank-c": True}
    assert {(Cause.PEER, "bank-b"), (Cause.REFUSED, "bank-c")} == status.causes(), "an alert names one member"
    assert causes(status) == {"peer", "refused"}, (
        "a peer whose half of the link is missing may never become reachable"
    )


def test_each_cause_is_reported_separately() -> None:
    status = Status("vm-1", State.STANDBY, lacks={"share": "not mounted", "disk": "full"}, lease="it was lost")
    assert causes(status) == {"share", "disk", "leases"}, "no cause hides another one"


def test_the_cause_of_the_lease_ends_with_its_report() -> None:
    status = Status("vm-1", State.HOLDING, identity="node-1", epoch=2, readiness=Readiness.READY, lease="it was lost")
    assert ask(status)[1]["lease"] == "it was lost"
    status.clear_lease_fault("another fault")
    assert status.lease == "it was lost", "the end of one report ends no other"
    status.clear_lease_fault("it was lost")
    assert status.lease is None


def test_a_fault_is_counted_and_impairs_for_a_while(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails() -> None:
        raise KeyError("what?")

    def said() -> tuple[float, set[str]]:
        return reported(status)[Metric.FAULTS][by()], causes(status)

    status = Status("vm-1", State.STANDBY)
    assert said() == (0, set())
    try:
        fails()
    except KeyError as error:
        reason = faults.unexpected("a round", error)
    assert reason.startswith("a round: unexpected KeyError at unit/test_health.py:"), (
        "the report has the line of the bug"
    )
    assert "Traceback" in caplog.text, "the log has its traceback"
    assert said() == (1, {"fault"}), "the agent goes on, but is impaired"
    caplog.clear()
    assert faults.unexpected("a round", KeyError("what?")) != reason
    try:
        fails()
    except KeyError as error:
        faults.unexpected("a round", error)
    assert said() == (3, {"fault"})
    assert caplog.messages[-1] == f"{reason}, again"
    assert "in fails" not in caplog.text, "one that recurs each second would fill the workspace"
    now = time.monotonic()
    monkeypatch.setattr("host.faults.time.monotonic", lambda: now + faults.IMPAIRED_SECONDS + 1)
    assert said() == (3, set()), "an old fault raises no alert"


class Ingestion:
    """The track endpoint of Application Insights, with what was sent to it."""

    def __init__(self) -> None:
        self.items: list[dict[str, Any]] = []

    def handler(self) -> type[Handler]:
        ingestion = self

        class Track(Handler):
            def reply(self, body: bytes) -> None:
                assert self.headers["Authorization"] == "Bearer of-vm-1", (
                    "it authenticates by the VM's identity, without a key"
                )
                text = gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body
                ingestion.items += json.loads(text)
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b'{"itemsReceived": 1, "itemsAccepted": 1, "errors": []}')

        return Track

    def values(self, metric: Metric) -> list[tuple[float, dict[str, str]]]:
        """The values of a metric as received, with their dimensions."""
        data = [each["data"]["baseData"] for each in self.items]
        return [
            (each["metrics"][0]["value"], each.get("properties", {}))
            for each in data
            if each["metrics"][0]["name"] == metric
        ]

    def sums(self, metric: Metric, dimension: str) -> dict[str | None, float]:
        """The sums that a query would compute."""
        found: dict[str | None, float] = {}
        for value, properties in self.values(metric):
            name = properties.get(dimension)
            found[name] = found.get(name, 0) + value
        return found


@pytest.fixture
def ingestion(
    tls: tuple[ssl.SSLContext, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[tuple[Ingestion, str]]:
    """The endpoint and a connection string."""

    def token(*_: object, **__: object) -> AccessTokenInfo:
        return AccessTokenInfo("of-vm-1", int(time.time()) + 3600)

    context, certificate = tls
    monkeypatch.setattr(ManagedIdentityCredential, "get_token_info", token)
    for name, value in {
        "REQUESTS_CA_BUNDLE": str(certificate),
        "APPLICATIONINSIGHTS_STATSBEAT_DISABLED_ALL": "false",
        "APPLICATIONINSIGHTS_SDKSTATS_DISABLED": "false",
        "TMPDIR": str(tmp_path),
    }.items():
        monkeypatch.setenv(name, value)
    found = Ingestion()
    with serving(found.handler(), context) as url:
        yield found, f"InstrumentationKey=00000000-0000-0000-0000-000000000001;IngestionEndpoint={url}/"


def test_each_count_is_sent_once_and_no_other_metric_is_sent(ingestion: tuple[Ingestion, str]) -> None:
    found, connection_string = ingestion
    status = Status("vm-1", State.STANDBY)
    sending = _sending(connection_string, "client", status)

    def send(*held: Any, **figures: float) -> None:
        if held:
            status.state, (status.identity, status.epoch, status.takeovers) = State.HOLDING, held
        status.figures = {Figure(name): value for name, value in figures.items()}
        sending.force_flush()

    send()
    send("node-1", 7, 1, transactions=5, failures=1)
    send(transactions=8, failures=1)
    # The node died and was started again.
    send()
    send(transactions=2, failures=0)
    send("node-2", 3, 2, transactions=4, failures=0)
    send("node-1", 9, 2, transactions=1, failures=0)
    sending.shutdown()
    assert found.sums(Metric.TRANSACTIONS, "identity") == {"node-1": 11, "node-2": 4}, (
        "8, 2 and 1 of the one node's three runs, whatever the VM held meanwhile"
    )
    assert found.sums(Metric.FAILURES, "identity") == {"node-1": 1, "node-2": 0}
    assert found.sums(Metric.TAKEOVERS, "identity") == {None: 2}, "two takeovers, whichever identity was taken over"
    assert found.sums(Metric.FAULTS, "identity") == {None: 0}
    assert (7, {"identity": "node-1"}) in found.values(Metric.LEASE_EPOCH)
    sent = {each["data"]["baseData"]["metrics"][0]["name"] for each in found.items}
    assert sent == {
        Metric.NODES_AVAILABLE,
        Metric.STANDBYS,
        Metric.LEASE_EPOCH,
        Metric.LEASE_LATENCY,
        Metric.TRANSACTIONS,
        Metric.FAILURES,
        Metric.TAKEOVERS,
        Metric.FAULTS,
    }, "the exporter's own metrics and the machine's counters would cost money unused"


def test_an_unauthenticated_request_is_counted_once(ingestion: tuple[Ingestion, str]) -> None:
    found, connection_string = ingestion
    for counts in ([0, 3, 3], [0, 1]):
        # An authority's program, and its next process.
        status = Status("vm-1", State.HOLDING)
        sending = _sending(connection_string, "client", status)
        for count in counts:
            status.figures = {Figure.UNPROVEN: float(count)}
            sending.force_flush()
        sending.shutdown()
    assert found.sums(Metric.UNPROVEN, "identity") == {None: 4}, (
        "a gauge that falls to 0 would look like new requests"
    )


def test_a_vms_instance_is_its_host_name_at_each_start_of_its_agent(ingestion: tuple[Ingestion, str]) -> None:
    found, connection_string = ingestion
    for _ in range(2):
        _sending(connection_string, "client", Status("vm-1")).shutdown()
    tags = {(each["tags"]["ai.cloud.roleInstance"], each["tags"]["ai.cloud.role"]) for each in found.items}
    assert tags == {("vm-1", "decentralized-trust")}, "runbooks and the az command name a VM by its host name"


def test_a_vms_model_is_read_from_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "MODEL_FILE", tmp_path / "model")
    monkeypatch.setattr(metrics, "_sending", lambda *_: None)
    status = Status("vm-1")
    metrics.send("", "", status)
    assert status.model is None, "a VM that was created otherwise has none"
    (tmp_path / "model").write_text("0123456789ab")
    metrics.send("", "", status)
    assert status.model == "0123456789ab"


def test_a_vm_reports_its_model() -> None:
    reader = InMemoryMetricReader()
    instrument(MeterProvider([reader]).get_meter("test"), Status("vm-1", model="0123456789ab"))
    data = reader.get_metrics_data()
    assert data is not None
    found = json.loads(data.to_json())
    metrics = [
        each for one in found["resource_metrics"] for scope in one["scope_metrics"] for each in scope["metrics"]
    ]
    (standbys,) = [each for each in metrics if each["name"] == Metric.STANDBYS]
    assert [each["attributes"] for each in standbys["data"]["data_points"]] == [{"model": "0123456789ab"}]
