"""A plan and its changes as text: a tree by component, the important settings, the outputs."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any

from rich.text import Text
from rich.tree import Tree

from lab.azure.azure import digest
from lab.azure.deployment import Step
from lab.azure.plan.changes import ABSENT, Changes, PropertyChange, ResourceChange, Unknown
from lab.azure.plan.planned import Plan, Planned, is_secret

MARKS = {Step.CREATE: "+", Step.UPDATE: "~", Step.REPLACE: "+-", Step.DELETE: "-"}
"""The engine's own marks of operations."""
_DONE = {Step.CREATE: "created", Step.UPDATE: "changed", Step.REPLACE: "replaced", Step.DELETE: "deleted"}
_STYLES = {Step.CREATE: "green", Step.UPDATE: "yellow", Step.REPLACE: "magenta", Step.DELETE: "red"}
_HIDDEN = "[secret]"
_LONG = 1000
"""Values longer than this are shown as length and digest."""

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


# The important settings of a resource, by type; for the other types the name suffices.
_SUMMARIES: dict[str, Callable[[Inputs], str]] = {
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


def title(plan: Plan) -> str:
    """The stack's name and numbers of resources."""
    total = sum(each.custom for each in plan.resources)
    return f"{plan.stack}: {total} resources in {len(plan.resources) - total} components"


def plan_tree(plan: Plan) -> Tree:
    """The stack's resources below their components; many resources of one type are one line."""
    stack, _, rest = title(plan).partition(":")
    tree = Tree(Text.assemble((stack, "bold"), f":{rest}"), guide_style="bright_black")
    children: dict[str, list[Planned]] = {}
    for each in plan.resources:
        children.setdefault(each.parent, []).append(each)
    _grow(tree, children, "")
    return tree


def _grow(branch: Tree, children: Mapping[str, list[Planned]], parent: str) -> int:
    """Add what is below a parent; returns how many resources that are."""
    below = sorted(
        children.get(parent, []), key=lambda each: (each.short_type.rsplit(":", 1)[1], each.type, each.name)
    )
    resources = [each for each in below if each.custom]
    count = len(resources)
    for component in sorted((each for each in below if not each.custom), key=lambda each: each.name):
        kind = component.type.rsplit(":", 1)[1]
        twig = branch.add("")
        inside = _grow(twig, children, component.urn)
        twig.label = Text.assemble((kind, "bold cyan"), f" {component.name} ", (f"({inside})", "bright_black"))
        count += inside
    for kind, several in groupby(resources, key=lambda each: each.short_type):
        _add_resources(branch, kind, list(several))
    return count


def _add_resources(branch: Tree, kind: str, resources: list[Planned]) -> None:
    short, describe = kind.rsplit(":", 1)[1], _SUMMARIES.get(kind)
    if len(resources) > 1 and describe is None:
        line = Text(f"{short} x {len(resources)} ")
        branch.add(line.append_text(Text(", ", "bright_black").join(map(_name, resources))))
        return
    for resource in resources:
        line = Text(f"{short} ").append_text(_name(resource))
        branch.add(line.append(f" {describe(resource.inputs)}", "green") if describe else line)


def _name(resource: Planned) -> Text:
    return Text.assemble((resource.name, "bright_black"), (" protected" if resource.protect else "", "yellow"))


def output_lines(plan: Plan) -> Iterator[Text]:
    """The stack's outputs; objects one line a property, lists of objects one line an item."""
    yield Text("Outputs", "italic")
    yield from _output_lines(plan.outputs, "")


def _output_lines(values: Mapping[str, Any], indent: str) -> Iterator[Text]:
    width = max((len(name) for name in values), default=0)
    for name, value in sorted(values.items()):
        if isinstance(value, dict) and value and not indent and not is_secret(value):
            yield Text.assemble((name, "bold"))
            yield from _output_lines(value, "  ")
        elif isinstance(value, list) and any(isinstance(each, dict) for each in value):
            yield Text(f"{indent}{name}")
            yield from (Text(f"{indent}  {_write(each)}") for each in value)
        else:
            yield Text.assemble(
                indent, (name, "" if indent else "bold"), " " * (width - len(name)), f"  {_write(value)}"
            )


def _write(value: Any) -> str:
    if is_secret(value):
        return _HIDDEN
    if value is None or value in ({}, []):
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return ", ".join(f"{key} {_write(each)}" for key, each in sorted(value.items()))
    if isinstance(value, list):
        return "; ".join(_write(each) for each in value)
    return _printable(str(value))


def _printable(text: str) -> str:
    return text if text.isprintable() else json.dumps(text)


def change_lines(changes: Changes, marks: Mapping[Step, str]) -> Iterator[Text]:
    """Each change with its mark and its properties; then the changes of outputs."""
    counts = Counter(each.step for each in changes.resources)
    yield Text(", ".join(f"{counts[step]} {done}" for step, done in _DONE.items() if counts[step]) or "no changes")
    for each in changes.resources:
        what = f"{marks[each.step]} {each.resource.short_type} {each.resource.name}"
        yield Text.assemble((what, _STYLES[each.step]), (_consequence(each), "bold"))
        yield from (Text(f"    {_printable(line)}") for line in _properties(each.properties))
    yield from (Text(f"{marks[Step.UPDATE]} output {_printable(line)}") for line in _properties(changes.outputs))


def _consequence(change: ResourceChange) -> str:
    said = [_DONE[change.step]] if change.step is Step.REPLACE else []
    if change.rolls_vms:
        said.append("rolls its VMs")
    if change.refused:
        said.append(f"refused: {_printable(change.refused)}")
    return f": {', '.join(said)}" if said else ""


def _properties(changes: Iterable[PropertyChange]) -> Iterator[str]:
    """One line for each value; one line for all added or removed items of a list."""
    for (path, what), several in groupby(changes, key=_gained_or_lost):
        if what:
            yield f"{path}: {what} {'; '.join(each.path.removeprefix(path)[1:-1] for each in several)}"
        else:
            yield from map(_property, several)


def _gained_or_lost(change: PropertyChange) -> tuple[str, str]:
    path, bracket, _ = change.path.rpartition("[")
    if not change.path.endswith("]") or not bracket or change.replaces:
        return "", ""
    return (path, "added") if change.old is ABSENT else (path, "removed") if change.new is ABSENT else ("", "")


def _property(change: PropertyChange) -> str:
    because = " (replaces it)" if change.replaces else ""
    if change.old is ABSENT:
        return f"{change.path}: added {_value(change.new)}{because}"
    if change.new is ABSENT:
        return f"{change.path}: removed {_value(change.old)}{because}"
    if isinstance(change.new, Unknown):
        return f"{change.path}: another value, since {change.new.of} is replaced{because}"
    old, new = _lines_that_differ(change.old, change.new)
    return f"{change.path}: {_value(old)} -> {_value(new)}{because}"


def _lines_that_differ(old: Any, new: Any) -> tuple[Any, Any]:
    if not (isinstance(old, str) and isinstance(new, str)):
        return old, new
    was, will = old.splitlines(), new.splitlines()
    lost, gained = ([each for each in one if each not in other] for one, other in ((was, will), (will, was)))
    return ("\n".join(lost), "\n".join(gained)) if lost or gained else (old, new)


def _value(value: Any) -> str:
    text = json.dumps(public(value), ensure_ascii=False, sort_keys=True)
    return text if len(text) <= _LONG else f"{len(text):,} characters, {digest(text)}"


def public(value: Any) -> Any:
    """A value of a plan without its secrets, which are `[secret]`."""
    if is_secret(value):
        return _HIDDEN
    if isinstance(value, Mapping):
        return {key: public(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [public(each) for each in value]
    return value
