"""Prints what one member's stack would create: a tree by component, the settings that matter, the outputs.

`python -m offline.plan [STACK | FILE]...` plans the sample stacks `dev` and `prod` without arguments.
"""

import sys
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pulumi
from rich.console import Console
from rich.table import Table
from rich.tree import Tree

from offline.program import Run
from offline.recorder import Registration
from offline.stacks import plan_stack, stack_file

SAMPLES = ("dev", "prod")
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


def plan_tree(run: Run) -> Tree:
    """The stack's resources below their components, resources of one type in one line where they are many."""
    total = sum(registration.custom for registration in run.registrations.values())
    title = f"[bold]{run.stack}[/]: {total} resources in {len(run.registrations) - total} components"
    tree = Tree(title, guide_style="bright_black")
    _grow(tree, run, parent=None)
    return tree


def _grow(branch: Tree, run: Run, parent: Registration | None) -> None:
    children = [each for each in run.registrations.values() if _belongs(each, parent)]
    for component in sorted((each for each in children if not each.custom), key=lambda each: each.name):
        kind = component.type.rsplit(":", 1)[1]
        count = sum(each.custom for each in _descendants(component, run))
        twig = branch.add(f"[bold cyan]{kind}[/] {component.name} [bright_black]({count})[/]")
        _grow(twig, run, component)
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
        mark = " [yellow]protected[/]" if resource.request.protect else ""
        settings = f" [green]{_short(describe(resource.inputs))}[/]" if describe else ""
        branch.add(f"{short.rsplit(':', 1)[1]} [bright_black]{resource.name}[/]{mark}{settings}")


def _belongs(child: Registration, parent: Registration | None) -> bool:
    if parent is None:
        return child.parent.split("::")[2] == "pulumi:pulumi:Stack"
    return child.parent == parent.urn


def _descendants(component: Registration, run: Run) -> list[Registration]:
    children = [each for each in run.registrations.values() if each.parent == component.urn]
    return children + [below for child in children for below in _descendants(child, run)]


def _short(text: str) -> str:
    return text if len(text) <= _SUMMARY_WIDTH else f"{text[: _SUMMARY_WIDTH - 3]}..."


def outputs_table(run: Run) -> Table:
    """The stack's outputs; objects one line a property."""
    table = Table(title="Outputs", title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, value in sorted(run.outputs.items()):
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
    for argument in arguments or SAMPLES:
        path = Path(argument) if argument.endswith(".yaml") else stack_file(argument)
        if path is None or not path.is_file():
            errors.print(f"[red]error:[/] no configuration of stack {argument}; wanted Pulumi.{argument}.yaml")
            return 1
        try:
            run = plan_stack(path)
        except pulumi.RunError as error:
            errors.print(f"[red]error:[/] {error}")
            return 1
        console.print(plan_tree(run), "")
        console.print(outputs_table(run))
        for message in run.messages:
            console.print(f"[yellow]warning:[/] {message}")
        console.print()
    console.print(f"[bright_black]{_WITHOUT_ENGINE}[/]")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
