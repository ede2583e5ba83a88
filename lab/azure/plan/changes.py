"""The changes from one plan of a stack to another: operations on resources, and rolled VMs."""

import base64
import gzip
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from lab.azure import arm, rules
from lab.azure.deployment import Step
from lab.azure.plan.planned import Plan, Planned, is_secret

ABSENT = object()
"""The value of a missing property."""


@dataclass(frozen=True)
class Unknown:
    """A value that Azure generates when it replaces a resource."""

    of: str
    """The resource's name."""


_CUSTOM_DATA = "customData"
_NAMED_BY = ("name", "path", "legalName")
"""Properties that identify an item of a list, in Azure's inputs, cloud-init's files, or a card's nodes."""


@dataclass(frozen=True)
class PropertyChange:
    """One changed value."""

    path: str
    """Such as `sku.name`, `securityRules[DenyAll].priority`, `customData:write_files[/etc/a.json].content:nodes`."""
    old: Any
    """`ABSENT` if there was none."""
    new: Any
    """`ABSENT` if it is removed."""
    replaces: bool = False
    """Whether Azure can't change it in place."""


@dataclass(frozen=True)
class ResourceChange:
    """The change of one resource."""

    step: Step
    resource: Planned
    """The resource after the change; before it if it is deleted."""
    properties: tuple[PropertyChange, ...] = ()
    rolls_vms: bool = False
    """Whether a scale set's VMs are replaced."""
    refused: str = ""
    """Why Pulumi or Azure would refuse this; empty if they would not."""


@dataclass(frozen=True)
class Changes:
    """All changes from one plan to another."""

    resources: tuple[ResourceChange, ...]
    """Ordered by step, deletions first."""
    outputs: tuple[PropertyChange, ...]
    refused: str = ""
    """Why the program refuses this for a live member; empty if it does not."""

    @property
    def possible(self) -> bool:
        """Whether no refusal is known."""
        return not self.refused and not any(each.refused for each in self.resources)


_PROTECTED = "it is protected"
_LOSSES_FIRST = (Step.DELETE, Step.REPLACE, Step.UPDATE, Step.CREATE)


def changes_between(before: Plan, after: Plan, refusals: Mapping[str, str] = MappingProxyType({})) -> Changes:
    """Compare two plans of one stack.

    What is replaced is known of the properties that the offline Azure has as unchangeable; where a resource is
    replaced, what refers to it changes too.

    Args:
        before: the plan that is up.
        after: the plan that is to be.
        refusals: what Azure says to changes in place, by URN.
    """
    was = {each.urn: each for each in before.resources if each.custom}
    will = {each.urn: each for each in after.resources if each.custom}
    changed = {urn: list(_properties(was[urn], will[urn])) for urn in will if urn in was}
    _follow_replaced(was, will, changed)
    made = [ResourceChange(Step.CREATE, each) for urn, each in will.items() if urn not in was]
    gone = [
        ResourceChange(Step.DELETE, each, refused=_PROTECTED if each.protect else "")
        for urn, each in was.items()
        if urn not in will
    ]
    unchanged = [
        _change(was[urn], will[urn], properties, refusals.get(urn, ""))
        for urn, properties in changed.items()
        if properties
    ]
    resources = sorted(
        [*made, *gone, *unchanged],
        key=lambda each: (_LOSSES_FIRST.index(each.step), each.resource.short_type, each.resource.name),
    )
    return Changes(tuple(resources), tuple(_differences(before.outputs, after.outputs, "")))


def _change(old: Planned, new: Planned, properties: list[PropertyChange], refusal: str) -> ResourceChange:
    several = tuple(sorted(properties, key=lambda each: each.path))
    if any(each.replaces for each in several):
        return ResourceChange(Step.REPLACE, new, several, refused=_PROTECTED if old.protect and new.protect else "")
    rolls = rules.rolls_vms(new.type, old.inputs, new.inputs)
    return ResourceChange(Step.UPDATE, new, several, rolls_vms=rolls, refused=refusal)


def _properties(old: Planned, new: Planned) -> Iterator[PropertyChange]:
    for change in _differences(old.inputs, new.inputs, ""):
        if not any(f"{change.path}.".startswith(f"{ignored}.") for ignored in new.ignore_changes):
            yield replace(change, replaces=_replaces(new, change.path))


def _replaces(resource: Planned, path: str) -> bool:
    key = re.split(r"[.\[:]", path, maxsplit=1)[0]
    return rules.forces_replacement(resource.type, key) or any(
        re.match(rf"{re.escape(each)}([.\[:]|$)", path) for each in resource.replace_on_changes
    )


def _follow_replaced(
    was: Mapping[str, Planned], will: Mapping[str, Planned], changed: dict[str, list[PropertyChange]]
) -> None:
    """A replacement has another automatic name and id, so inputs that refer to them change."""
    followed: set[str] = set()
    while found := {urn for urn, each in changed.items() if any(one.replaces for one in each)} - followed:
        followed |= found
        for replaced in (will[urn] for urn in sorted(found) if _has_automatic_name(will[urn])):
            for urn, properties in changed.items():
                known = {re.split(r"[.\[:]", each.path, maxsplit=1)[0] for each in properties}
                properties += [
                    PropertyChange(key, value, Unknown(replaced.name), _replaces(will[urn], key))
                    for key, value in was[urn].inputs.items()
                    if key not in known and _refers(value, was[replaced.urn].id)
                ]


def _has_automatic_name(resource: Planned) -> bool:
    return resource.id.startswith("/") and arm.name_property(resource.type) not in resource.inputs


def _refers(value: Any, id_: str) -> bool:
    if isinstance(value, str):
        return value == id_.rsplit("/", 1)[1] or value == id_ or value.startswith(f"{id_}/")
    inside = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return any(_refers(each, id_) for each in inside)


def _differences(old: Any, new: Any, path: str) -> Iterator[PropertyChange]:
    if old == new:
        return
    old, new, mark = _opened(old, new, path)
    if isinstance(old, Mapping) and isinstance(new, Mapping) and not (is_secret(old) or is_secret(new)):
        for key in sorted({*old, *new}):
            step = mark.format(key) if path else key
            yield from _differences(old.get(key, ABSENT), new.get(key, ABSENT), f"{path}{step}")
    else:
        yield PropertyChange(path, old, new)


def _opened(old: Any, new: Any, path: str) -> tuple[Any, Any, str]:
    """The parts of two values by name: items of lists, and documents within text."""
    if isinstance(old, list) and isinstance(new, list):
        named = _by_name(old), _by_name(new)
        if not all(named) and len(old) == len(new):
            named = _by_place(old), _by_place(new)
        # Named items without a difference: only their order changed.
        return (*named, "[{}]") if all(named) and named[0] != named[1] else (old, new, "")
    if isinstance(old, str) and isinstance(new, str):
        read = _read(old, path), _read(new, path)
        return (*read, ":{}") if all(isinstance(each, dict) for each in read) else (old, new, "")
    return old, new, ".{}"


def _by_name(items: list[Any]) -> dict[str, Any]:
    """A list as a mapping by its items' names; None if one has no name."""
    names = [
        next((str(each[key]) for key in _NAMED_BY if key in each), "") for each in items if isinstance(each, dict)
    ]
    return dict(zip(names, items, strict=True)) if all(names) and len({*names}) == len(items) else {}


def _by_place(items: list[Any]) -> dict[str, Any]:
    """A list of objects as a mapping by position; None for another list."""
    return (
        {str(place): each for place, each in enumerate(items)}
        if all(isinstance(each, dict) for each in items)
        else {}
    )


def _read(text: str, path: str) -> Any:
    """A document within a property: custom data of a VM, or JSON."""
    try:
        if path.endswith(_CUSTOM_DATA):
            text = gzip.decompress(base64.b64decode(text)).decode().removeprefix("#cloud-config\n")
        return json.loads(text) if text.startswith("{") else text
    except (OSError, ValueError, EOFError):
        return text
