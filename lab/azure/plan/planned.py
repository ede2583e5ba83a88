"""One stack's plan, computed in this process or by the engine, and that of the last run."""

import json
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pulumi

from lab.azure import last_runs
from lab.azure.azure import Account, OfflineAzure, digest
from lab.azure.deployment import Deployment
from lab.azure.engine import STATE, Engine
from lab.azure.program import References, Run, StackConfiguration, read_configuration, run_program
from lab.azure.recorder import STACK_TYPE, Registration, plain
from lab.azure.rules import AzureError
from lab.azure.stacks import account_of, planned_references

LAST_PLANS = STATE / "plans"
"""Folder of the last plan of each stack."""

_SECRET_KEY = "secret"  # noqa: S105
"""The only key of a secret's placeholder; its value is a digest, which differs for each secret."""
_PLAN_SCHEMA = 2


@dataclass(frozen=True)
class Planned:
    """One resource or component of a plan."""

    urn: str
    """Its type, as on the engine."""
    type: str
    name: str
    parent: str
    """The parent's URN; empty below the stack."""
    custom: bool
    """False for a component."""
    inputs: Mapping[str, Any]
    """Inputs in Azure's spelling, with digests of secrets."""
    protect: bool
    id: str = ""
    """The placeholder of its resource id; empty for a component."""
    replace_on_changes: tuple[str, ...] = ()
    ignore_changes: tuple[str, ...] = ()

    @property
    def short_type(self) -> str:
        """The short type: `network:Subnet`, `random:RandomBytes`."""
        package, module, kind = self.type.split(":")
        return f"{module.split('/')[0] if package == 'azure-native' else package}:{kind}"


@dataclass(frozen=True)
class Plan:
    """The resources and outputs of one stack."""

    stack: str
    resources: tuple[Planned, ...]
    """Ordered by URN."""
    outputs: Mapping[str, Any]
    """Outputs, with digests of secrets."""
    messages: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source:
    """The inputs of a plan."""

    path: Path
    configuration: StackConfiguration
    references: References
    """Outputs of the stacks that it refers to."""
    account: Account


def source_of(path: Path) -> Source:
    """The inputs of a plan, from a stack's file.

    Raises:
        StackFileError: it is not a stack's file.
        RunError: the program refuses a stack that it refers to.
    """
    configuration = read_configuration(path)
    return Source(path, configuration, planned_references(configuration), account_of(path, configuration))


@dataclass(frozen=True)
class NextPlan:
    """A plan as the next update of a deployed stack, with its refusals."""

    plan: Plan
    refused: str
    """Why the program refuses the change of a live member; the plan is then that of a new member."""
    refusals: Mapping[str, str]
    """The offline Azure's refusals of changes in place, by URN."""


def plan_in_process(source: Source) -> Plan:
    """The plan of a stack's configuration, without an engine.

    Raises:
        RunError: the program refuses it.
        AzureError: the offline Azure refuses it.
    """
    run, deployment = _run(source)
    return plan_of(run, _ids(deployment))


def plan_next(source: Source, before: Plan) -> NextPlan:
    """The plan of a deployed stack, without an engine: the program reads the stack's outputs.

    Raises:
        RunError: the program refuses it, and would of a new stack.
        AzureError: the offline Azure refuses it.
    """
    refused = ""
    try:
        run, deployment = _run(source, before.outputs)
    except pulumi.RunError as error:
        refused = str(error)
        run, deployment = _run(source)
    plan = plan_of(run, _ids(deployment))
    return NextPlan(plan, refused, dict(_refusals(plan, run, deployment, before)))


def _run(source: Source, outputs: Mapping[str, Any] = MappingProxyType({})) -> tuple[Run, Deployment]:
    deployment = Deployment(OfflineAzure().account(source.account), outputs=dict(outputs))
    return run_program(source.configuration, references=source.references, deployment=deployment), deployment


def _refusals(plan: Plan, run: Run, deployment: Deployment, before: Plan) -> Iterator[tuple[str, str]]:
    """Refusals of changes in place: each resource is reset to its former state and changed again."""
    was = {each.urn: each for each in before.resources}
    azure = deployment.azure
    wanted = {made.id: (run.registrations[urn].inputs, made.inputs) for urn, made in deployment.resources.items()}
    for each in plan.resources:
        old, resource = was.get(each.urn), azure.resources.get(each.id)
        if old is None or resource is None or old.inputs == each.inputs:
            continue
        inputs, checked = wanted[each.id]
        name = {key: value for key, value in checked.items() if key not in inputs}
        now, resource.inputs = resource.inputs, {**old.inputs, **name}
        try:
            azure.update(each.type, each.name, each.id, {**inputs, **name})
        except AzureError as error:
            yield each.urn, str(error)
        finally:
            resource.inputs = now


def _ids(deployment: Deployment) -> dict[str, str]:
    return {urn: made.id for urn, made in deployment.resources.items()}


def plan_of(run: Run, ids: Mapping[str, str]) -> Plan:
    """The plan of a run of the program.

    Args:
        run: the run.
        ids: the stand-ins for resource ids, by the run's URNs.
    """
    resources: list[Planned] = []
    # The mocks' URNs have but one parent's type; parents come before what lies below them.
    urns: dict[str, str] = {}
    for each in run.registrations.values():
        prefix, _, name = each.urn.rsplit("::", 2)
        parent = urns.get(each.parent, "")
        chain = f"{parent.rsplit('::', 2)[1]}$" if parent else ""
        urns[each.urn] = f"{prefix}::{chain}{each.type}::{name}"
        resources.append(
            Planned(
                urn=urns[each.urn],
                type=each.type,
                name=each.name,
                parent=parent,
                custom=each.custom,
                inputs=_inputs(each),
                protect=each.request.protect,
                id=ids.get(each.urn, ""),
                replace_on_changes=tuple(each.request.replaceOnChanges),
                ignore_changes=tuple(each.request.ignoreChanges),
            )
        )
    outputs = {name: _digest(value) if name in run.secret_outputs else value for name, value in run.outputs.items()}
    return Plan(run.stack, _in_order(resources), outputs, _once(run.messages))


def _inputs(registration: Registration) -> dict[str, Any]:
    if not registration.secrets:
        return registration.inputs
    return plain(registration.request.object, of_secret=_digest)


def _digest(value: Any) -> dict[str, str]:
    return {_SECRET_KEY: digest(value)}


def is_secret(value: Any) -> bool:
    """Whether a value of a plan is a secret's placeholder."""
    return isinstance(value, dict) and value.keys() == {_SECRET_KEY} and str(value[_SECRET_KEY]).startswith("sha256:")


def _in_order(resources: Iterable[Planned]) -> tuple[Planned, ...]:
    return tuple(sorted(resources, key=lambda each: each.urn))


def _once(messages: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({each.strip() for each in messages}))


def plan_on_engine(source: Source) -> Plan:
    """The plan of a stack's configuration from the engine's preview.

    A preview does not know values that Azure generates: these are from a run in this process. The stacks that it
    refers to are planned in this process too, and stand in the preview's backend with their outputs alone.

    Raises:
        EngineError: the preview failed; the message is what the engine said.
        RunError: the program refuses it.
        AzureError: the offline Azure refuses it.
    """
    stack = source.configuration.stack
    engine = Engine("preview", STATE, account=source.account)
    for reference, outputs in source.references.items():
        engine.stand_in(reference.rsplit("/", 1)[-1], outputs)
    engine.prepare(stack, source=source.path)
    with ThreadPoolExecutor(max_workers=1) as beside:
        previewed = beside.submit(engine.on_azure, stack, ["preview", "--json"])
        known = plan_in_process(source)
        preview = json.loads(previewed.result())
    states = [step["newState"] for step in preview["steps"] if "newState" in step]
    by_urn = {each.urn: each for each in known.resources}
    resources = [
        _as_previewed(state, by_urn.get(state["urn"])) for state in states if not state["type"].startswith("pulumi:")
    ]
    messages = [
        # The engine's text begins with the severity, and the program's own does not.
        each["message"].removeprefix("warning: ")
        for each in preview.get("diagnostics", [])
        if each["severity"] == "warning"
    ]
    return replace(known, resources=_in_order(resources), messages=_once(messages))


def _as_previewed(state: Mapping[str, Any], known: Planned | None) -> Planned:
    parent = state.get("parent", "")
    return Planned(
        urn=state["urn"],
        type=state["type"],
        name=state["urn"].rsplit("::", 1)[1],
        parent="" if parent.split("::")[2:3] == [STACK_TYPE] else parent,
        custom=state["custom"],
        inputs=known.inputs if known else state.get("inputs", {}),
        protect=state.get("protect", False),
        id=known.id if known else "",
        replace_on_changes=known.replace_on_changes if known else (),
        ignore_changes=known.ignore_changes if known else (),
    )


def keep(plan: Plan) -> None:
    """Store a plan as the last one of its stack.

    Raises:
        OSError: the file can't be written.
    """
    last_runs.save(LAST_PLANS, plan.stack, _PLAN_SCHEMA, asdict(plan))


def last_plan(stack: str) -> Plan:
    """The plan of a stack's last run.

    Raises:
        StackFileError: there is none, or another release wrote it.
    """
    return last_runs.load(LAST_PLANS, stack, _PLAN_SCHEMA, _read, what="plan", command=f"make preview STACK={stack}")


def _read(content: Mapping[str, Any]) -> Plan:
    return Plan(**{**content, "resources": tuple(Planned(**each) for each in content["resources"])})
