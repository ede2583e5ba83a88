"""Prints what one member's stack would create: a tree by component, the settings that matter, the outputs.

`python -m offline.plan [--without-engine] [STACK | FILE]...` plans the sample `prod` without arguments: on the Pulumi
engine where a CLI is found, else in this process.
"""

import json
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pulumi
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.tree import Tree

from offline.engine import STATE, Engine, EngineError, find_cli
from offline.program import ConfigurationError, Run, read_configuration
from offline.recorder import STACK_TYPE
from offline.rules import AzureError
from offline.stacks import plan_stack, planned_references, stack_file

SAMPLE = "prod"
_IN_PROCESS = "--without-engine"
_ON_ENGINE = (
    "Planned by the Pulumi engine, against the offline Azure; the outputs' values are stand-ins, "
    "known once the stack is up."
)
_WITHOUT_ENGINE = (
    "Planned in this process under Pulumi's mocks: no engine, no Azure. "
    "Diffs, replacements and refreshes need the Pulumi CLI."
)
_SUMMARY_WIDTH = 88
_WIDTH = 150

Inputs = Mapping[str, Any]


def _scale_set(inputs: Inputs) -> str:
    zones = "+".join(inputs.get("zones") or []) or "none"
    repairs = inputs["automaticRepairsPolicy"]
    return (
        f"{inputs['sku']['capacity']} x {inputs['sku']['name']}, zones {zones}, "
        f"{inputs['orchestrationMode']}, {inputs['upgradePolicy']['mode']} upgrades, "
        f"repairs after {repairs['gracePeriod']}"
    )


def _storage_account(inputs: Inputs) -> str:
    keys = "shared keys" if inputs["allowSharedKeyAccess"] else "no shared keys"
    return f"{inputs['sku']['name']}, {keys}, public access {inputs['publicNetworkAccess']}"


def _vault(inputs: Inputs) -> str:
    properties = inputs["properties"]
    purge = "purge protection" if properties.get("enablePurgeProtection") else "no purge protection"
    days = properties["softDeleteRetentionInDays"]
    return f"{properties['sku']['name']}, {purge}, {days} days, public access {properties['publicNetworkAccess']}"


def _server(inputs: Inputs) -> str:
    return (
        f"{inputs['sku']['name']}, PostgreSQL {inputs['version']}, HA {inputs['highAvailability']['mode']}, "
        f"passwords {inputs['authConfig']['passwordAuth']}"
    )


def _gateway(inputs: Inputs) -> str:
    if inputs["gatewayType"] != "Vpn":
        return str(inputs["sku"]["name"])
    mode = "active-active" if inputs["activeActive"] else "active-standby"
    return f"{inputs['sku']['name']}, {mode}, ASN {inputs['bgpSettings']['asn']}"


def _connection(inputs: Inputs) -> str:
    if "ipsecPolicies" not in inputs:
        return str(inputs["connectionType"])
    policy = inputs["ipsecPolicies"][0]
    ends = f"{inputs['connectionType']}, {inputs['connectionProtocol']}"
    return f"{ends}, {policy['ipsecEncryption']}, {policy['pfsGroup']}"


# What a reader wants to know of a resource; the other types say enough by their names.
_SETTINGS: dict[str, Callable[[Inputs], str]] = {
    "compute:VirtualMachineScaleSet": _scale_set,
    "dbforpostgresql:Server": _server,
    "keyvault:Vault": _vault,
    "network:LoadBalancer": lambda inputs: (
        f"{inputs['frontendIPConfigurations'][0]['privateIPAddress']}, {len(inputs['loadBalancingRules'])} rules"
    ),
    "network:LocalNetworkGateway": lambda inputs: f"{inputs['gatewayIpAddress']}, ASN {inputs['bgpSettings']['asn']}",
    "network:NetworkSecurityGroup": lambda inputs: ", ".join(rule["name"] for rule in inputs["securityRules"]),
    "network:Subnet": lambda inputs: f"{inputs['subnetName']} {inputs['addressPrefix']}",
    "network:VirtualNetwork": lambda inputs: ", ".join(inputs["addressSpace"]["addressPrefixes"]),
    "network:VirtualNetworkGateway": _gateway,
    "network:VirtualNetworkGatewayConnection": _connection,
    "operationalinsights:Workspace": lambda inputs: f"{inputs['retentionInDays']} days",
    "privatedns:PrivateZone": lambda inputs: str(inputs["privateZoneName"]),
    "storage:FileShare": lambda inputs: f"{inputs['enabledProtocols']}, {inputs['shareQuota']} GiB",
    "storage:StorageAccount": _storage_account,
}


@dataclass(frozen=True)
class Planned:
    """One resource or component of a plan."""

    urn: str
    type: str
    name: str
    parent: str
    custom: bool
    inputs: Inputs
    protect: bool


@dataclass(frozen=True)
class Plan:
    """What one stack would create, and export."""

    stack: str
    resources: tuple[Planned, ...]
    outputs: Mapping[str, Any]
    messages: tuple[str, ...] = ()


def plan_in_process(path: Path) -> Plan:
    """The plan of a stack's configuration, without an engine.

    Raises:
        RunError: the program refuses it.
        AzureError: the offline Azure refuses it.
    """
    run: Run = plan_stack(path)
    planned = tuple(
        Planned(each.urn, each.type, each.name, each.parent, each.custom, each.inputs, each.request.protect)
        for each in run.registrations.values()
    )
    return Plan(run.stack, planned, run.outputs, run.messages)


def plan_on_engine(path: Path) -> Plan:
    """The plan of a stack's configuration as the engine's preview tells it.

    The stacks that it refers to are planned in this process, and stand in the preview's backend with their
    outputs alone.

    Raises:
        EngineError: the preview failed; the message is what the engine said.
    """
    configuration = read_configuration(path)
    engine = Engine("preview", STATE)
    references = planned_references(configuration)
    for reference, outputs in references.items():
        engine.stand_in(reference.rsplit("/", 1)[-1], outputs)
    engine.prepare(configuration.stack, source=path)
    with ThreadPoolExecutor(max_workers=1) as beside:
        previewed = beside.submit(engine.on_azure, configuration.stack, ["preview", "--json"])
        # A preview knows no output that Azure must make up first: those of the in-process run stand in.
        outputs = plan_stack(path, references=references).outputs
        preview = json.loads(previewed.result())
    states = [step["newState"] for step in preview["steps"] if "newState" in step]
    planned = tuple(
        Planned(
            state["urn"],
            state["type"],
            state["urn"].split("::", 3)[3],
            state.get("parent", ""),
            state["custom"],
            state.get("inputs", {}),
            state.get("protect", False),
        )
        for state in states
        if not state["type"].startswith("pulumi:")
    )
    messages = [each["message"] for each in preview.get("diagnostics", []) if each["severity"] == "warning"]
    return Plan(configuration.stack, planned, outputs, tuple(messages))


def plan_tree(plan: Plan) -> Tree:
    """The stack's resources below their components, resources of one type in one line where they are many."""
    total = sum(each.custom for each in plan.resources)
    title = f"[bold]{plan.stack}[/]: {total} resources in {len(plan.resources) - total} components"
    tree = Tree(title, guide_style="bright_black")
    _grow(tree, plan, parent=None)
    return tree


def _grow(branch: Tree, plan: Plan, parent: Planned | None) -> None:
    children = [each for each in plan.resources if _belongs(each, parent)]
    for component in sorted((each for each in children if not each.custom), key=lambda each: each.name):
        kind = component.type.rsplit(":", 1)[1]
        count = sum(each.custom for each in _descendants(component, plan))
        twig = branch.add(f"[bold cyan]{kind}[/] {component.name} [bright_black]({count})[/]")
        _grow(twig, plan, component)
    resources = [each for each in children if each.custom]
    counts = Counter(each.type for each in resources)
    shown: set[str] = set()
    for resource in resources:
        short = resource.type.removeprefix("azure-native:").replace(":index/", ":")
        describe = _SETTINGS.get(short)
        if counts[resource.type] > 1 and describe is None:
            if resource.type not in shown:
                shown.add(resource.type)
                names = ", ".join(each.name for each in resources if each.type == resource.type)
                branch.add(f"{short.rsplit(':', 1)[1]} x {counts[resource.type]} [bright_black]{_short(names)}[/]")
            continue
        mark = " [yellow]protected[/]" if resource.protect else ""
        settings = f" [green]{_short(describe(resource.inputs))}[/]" if describe else ""
        branch.add(f"{short.rsplit(':', 1)[1]} [bright_black]{resource.name}[/]{mark}{settings}")


def _belongs(child: Planned, parent: Planned | None) -> bool:
    if parent is None:
        return child.parent.split("::")[2] == STACK_TYPE
    return child.parent == parent.urn


def _descendants(component: Planned, plan: Plan) -> list[Planned]:
    children = [each for each in plan.resources if each.parent == component.urn]
    return children + [below for child in children for below in _descendants(child, plan)]


def _short(text: str) -> str:
    return text if len(text) <= _SUMMARY_WIDTH else f"{text[: _SUMMARY_WIDTH - 3]}..."


def outputs_table(plan: Plan) -> Table:
    """The stack's outputs; objects one line a property."""
    table = Table(title="Outputs", title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, value in sorted(plan.outputs.items()):
        if isinstance(value, dict):
            table.add_row(f"[bold]{name}[/]", "")
            for key, each in value.items():
                table.add_row(f"  {key}", _short(_write(each)))
        else:
            table.add_row(f"[bold]{name}[/]", _short(_write(value)))
    return table


def _write(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_write(each)}" for key, each in value.items())
    if isinstance(value, list):
        return "; ".join(_write(each) for each in value)
    return str(value)


def main(arguments: list[str]) -> int:
    """Plan each stack; returns the exit status, 1 where the program refuses one of them."""
    # A file or a pipe has no width of its own.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH)
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    on_engine = find_cli() is not None and _IN_PROCESS not in arguments
    for argument in [each for each in arguments if each != _IN_PROCESS] or [SAMPLE]:
        path = Path(argument) if argument.endswith(".yaml") else stack_file(argument)
        if path is None or not path.is_file():
            errors.print(f"[red]error:[/] no configuration of stack {argument}; wanted Pulumi.{argument}.yaml")
            return 1
        try:
            plan = plan_on_engine(path) if on_engine else plan_in_process(path)
        except (AzureError, ConfigurationError, EngineError, pulumi.RunError) as error:
            errors.print(f"[red]error:[/] {escape(str(error))}")
            return 1
        console.print(plan_tree(plan), "")
        console.print(outputs_table(plan))
        for message in plan.messages:
            console.print(f"[yellow]warning:[/] {message}")
        console.print()
    console.print(f"[bright_black]{_ON_ENGINE if on_engine else _WITHOUT_ENGINE}[/]")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
