"""A plan and its changes as text, as Markdown for a pull request's comment, and as JSON for tools."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from io import StringIO
from typing import Any

from rich.console import Console, RenderableType
from rich.text import Text

from lab.azure.deployment import Step
from lab.azure.plan.changes import ABSENT, Changes, PropertyChange, ResourceChange, Unknown
from lab.azure.plan.planned import Plan
from lab.azure.plan.text import MARKS, change_lines, output_lines, plan_tree, public, title

PLAN_SCHEMA = 1
"""Version of the JSON: raised if readers have to change."""
# Within a block of the language diff: a line's colour goes by its first character.
_DIFF_MARKS = {**MARKS, Step.UPDATE: "!", Step.REPLACE: "!"}
# No value can end a Markdown block: each follows its name, and the lines of a longer one are indented.
_FENCE = "````"
_INDENTED = "\n    "
UNCUT = 1_000_000
"""Columns of output to a file or a pipe."""


class Format(StrEnum):
    """The formats of a report."""

    TEXT = "text"
    MARKDOWN = "markdown"
    JSON = "json"


@dataclass(frozen=True)
class Report:
    """One stack's plan, and its changes."""

    plan: Plan
    changes: Changes | None = None
    against: str = ""
    """The name of the comparison, as the user gave it."""


def print_text(console: Console, report: Report) -> None:
    """Print a report; nothing is truncated, and only the tree is folded to the console's width."""
    console.print(plan_tree(report.plan), "")
    for line in _below(report):
        console.print(line, soft_wrap=True)
    console.print()


def _below(report: Report) -> Iterator[RenderableType]:
    yield from output_lines(report.plan)
    if report.changes:
        yield ""
        yield Text(f"Against {report.against}", "italic")
        yield from change_lines(report.changes, MARKS)
    for mark, message in _remarks(report):
        yield Text.assemble((f"{mark}:", "red" if mark == "refused" else "yellow"), f" {message}")


def _remarks(report: Report) -> Iterator[tuple[str, str]]:
    for message in report.plan.messages:
        yield "warning", message.replace("\n", _INDENTED)
    if report.changes and report.changes.refused:
        yield "refused", report.changes.refused.replace("\n", _INDENTED)


def markdown(report: Report) -> str:
    """A report as a pull request's comment: changes visible, resources and outputs folded."""
    parts = [f"### {title(report.plan)}"]
    if remarks := [f"{mark}: {message}" for mark, message in _remarks(report)]:
        parts.append(_block(remarks))
    if report.changes:
        parts += [f"Against `{report.against}`:", _block(change_lines(report.changes, _DIFF_MARKS), "diff")]
    parts += [_folded("Resources", [plan_tree(report.plan)]), _folded("Outputs", [*output_lines(report.plan)][1:])]
    return "\n\n".join(parts) + "\n"


def _folded(summary: str, lines: Iterable[RenderableType]) -> str:
    return f"<details><summary>{summary}</summary>\n\n{_block(lines)}\n\n</details>"


def _block(lines: Iterable[RenderableType], language: str = "") -> str:
    written = StringIO()
    console = Console(
        file=written, emoji=False, width=UNCUT, color_system=None, force_terminal=False, highlight=False, markup=False
    )
    for line in lines:
        console.print(line, soft_wrap=isinstance(line, Text))
    return f"{_FENCE}{language}\n{written.getvalue()}{_FENCE}"


def as_json(reports: Iterable[Report], *, engine: bool) -> str:
    """All reports as JSON, the same text for the same plans; lab/azure/README.md describes each key."""
    document = {"schema": PLAN_SCHEMA, "engine": engine, "plans": [_plan(each) for each in reports]}
    return json.dumps(document, indent=1, sort_keys=True)


def _plan(report: Report) -> dict[str, Any]:
    return {
        "stack": report.plan.stack,
        "resources": [
            {
                "urn": each.urn,
                "type": each.type,
                "name": each.name,
                "parent": each.parent or None,
                "component": not each.custom,
                "protected": each.protect,
                "inputs": public(each.inputs),
            }
            for each in report.plan.resources
        ],
        "outputs": public(report.plan.outputs),
        "warnings": list(report.plan.messages),
        "changes": _changes(report.changes, report.against) if report.changes else None,
    }


def _changes(changes: Changes, against: str) -> dict[str, Any]:
    return {
        "against": against,
        "refused": changes.refused or None,
        "resources": [_resource_change(each) for each in changes.resources],
        "outputs": [_property_change(each) for each in changes.outputs],
    }


def _resource_change(change: ResourceChange) -> dict[str, Any]:
    return {
        "step": change.step.value,
        "urn": change.resource.urn,
        "type": change.resource.type,
        "name": change.resource.name,
        "protected": change.resource.protect,
        "refused": change.refused or None,
        "rollsVms": change.rolls_vms,
        "properties": [{**_property_change(each), "replaces": each.replaces} for each in change.properties],
    }


def _property_change(change: PropertyChange) -> dict[str, Any]:
    sides = {"old": change.old, "new": change.new}
    return {"path": change.path} | {
        side: None if isinstance(value, Unknown) else public(value)
        for side, value in sides.items()
        if value is not ABSENT
    }
