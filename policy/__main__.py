"""The checklist as a Pulumi policy pack: `pulumi preview --policy-pack policy`, once `make policy` has set it up.

A policy is a section of docs/checklist.md. Values that a preview does not know, such as ids, are not judged.
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from pulumi_policy import (
    EnforcementLevel,
    PolicyPack,
    PolicyResource,
    ReportViolation,
    StackValidationArgs,
    StackValidationPolicy,
)
from pulumi_policy.proxy import UnknownValueError

# The engine starts the pack in the pack's folder.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from policy.checklist import CHECKLIST, Item
from policy.resources import Absent, StackResource, StackResources, UnknownError


def _section(title: str, items: Sequence[Item]) -> StackValidationPolicy:
    def validate(given: StackValidationArgs, report: ReportViolation) -> None:
        stack = _resources(given.resources)
        for item, finding in _findings(items, stack):
            check = item.met_by
            assert check is not None  # noqa: S101
            urn = next((each.urn for each in stack.every if each.name == finding), None)
            report(f"{finding}: wanted {item.wants} ({check.__name__}; {item.rules})", urn)

    return StackValidationPolicy(
        name=title.lower().replace(" ", "-"),
        description=f"Section {title} of docs/checklist.md.",
        enforcement_level=EnforcementLevel.MANDATORY,
        validate=validate,
    )


def _resources(resources: Sequence[PolicyResource]) -> StackResources:
    return StackResources(
        tuple(StackResource(each.urn, each.resource_type, each.name, each.props) for each in resources)
    )


def _findings(items: Sequence[Item], stack: StackResources) -> Iterator[tuple[Item, str]]:
    for item in items:
        if item.met_by is None:
            continue
        try:
            found = item.met_by(stack)
        except (UnknownError, UnknownValueError):
            continue
        yield from ((item, finding) for finding in found if not isinstance(finding, Absent))


PolicyPack(
    name="decentralized-trust",
    policies=[_section(title, items) for title, items in CHECKLIST.items()],
)
