"""The checklist: lines that are called met are met, waived ones have a reason, and the document agrees."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from lab import ROOT
from policy.checklist import (
    CHECKLIST,
    Check,
    Item,
    image_is_supported,
    render,
    roles_are_granted_narrowly,
    vms_are_patched,
)
from policy.resources import StackResources, UnknownError
from tests.runs import bare, deployed, large, one

DOCUMENT = ROOT / "docs" / "checklist.md"
ITEMS = [item for section in CHECKLIST.values() for item in section]
CHECKS = list(dict.fromkeys(item.met_by for item in ITEMS if item.met_by is not None))
WAIVED = [item for item in ITEMS if item.waived_because is not None]


def named(check: Check) -> str:
    return check.__name__


@pytest.mark.parametrize("check", CHECKS, ids=named)
def test_a_large_member_meets_each_check(check: Check):
    assert check(deployed(large())) == [], check.__doc__


@pytest.mark.parametrize("check", CHECKS, ids=named)
def test_resources_without_settings_meet_no_check(check: Check):
    without_settings = tuple(replace(each, inputs={}, known_outputs={}) for each in deployed(large()).every)
    for stack in (StackResources(without_settings), StackResources(())):
        assert refuses(check, stack), f"{check.__name__} passes without any setting, so it proves nothing"


@pytest.mark.parametrize("check", [image_is_supported, vms_are_patched], ids=named)
def test_the_banks_own_image_meets_each_check_of_images(check: Check):
    plan = bare()
    assert {"id"} == one(plan, "VirtualMachineScaleSet", "nodes-vms").inputs["virtualMachineProfile"][
        "storageProfile"
    ]["imageReference"].keys(), "otherwise this proves nothing"
    assert check(deployed(plan)) == [], "the policy pack would refuse the only kind of member whose nodes start"


def test_a_policys_roles_may_be_only_for_its_own_identity():
    stack = deployed(large())
    assignments = stack.of("RoleAssignment")
    wide = next(each for each in assignments if each.name.startswith("monitoring-collection-"))
    assert "/providers/" not in wide.inputs["scope"], "the scope is the group"
    other = replace(wide, inputs={**wide.inputs, "principalId": "another"})
    changed = StackResources(tuple(other if each is wide else each for each in stack.every))
    assert roles_are_granted_narrowly(changed) == [wide.name], "the same role for another principal is too wide"


@pytest.mark.parametrize(
    "changes",
    [
        {"principalType": "ServicePrincipal"},
        {"principalType": "User"},
        {"scope": "/subscriptions/00000000-0000-0000-0000-000000000001"},
        {"scope": "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/another"},
        {"scope": "/"},
        {"scope": "/providers/Microsoft.Management/managementGroups/all"},
    ],
    ids=str,
)
def test_groups_may_read_metrics_and_settings_of_the_resource_group(changes: dict[str, str]):
    stack = deployed(large())
    reader = next(each for each in stack.of("RoleAssignment") if each.name.startswith("monitoring-operators"))
    other = replace(reader, inputs={**reader.inputs, **changes})
    changed = StackResources(tuple(other if each is reader else each for each in stack.every))
    assert roles_are_granted_narrowly(changed) == [reader.name], "Monitoring Reader shows all settings of its scope"


def test_unknown_values_are_not_judged():
    stack = StackResources(tuple(replace(each, known_outputs=None) for each in deployed(large()).every))
    with pytest.raises(UnknownError, match="its identity's principal is unknown"):
        roles_are_granted_narrowly(stack)


def refuses(check: Check, stack: StackResources) -> bool:
    try:
        return bool(check(stack))
    except LookupError:
        # The evaluator of security rules needs the value.
        return True


@pytest.mark.parametrize("item", WAIVED, ids=lambda item: item.rules)
def test_a_waiver_gives_a_reason(item: Item):
    reason = item.waived_because or ""
    assert reason.endswith("."), "a reason is a sentence that an auditor can accept or reject"
    assert len(reason.split()) >= 4


def test_each_rule_is_listed_once():
    rules = [rule.strip() for item in ITEMS for rule in item.rules.split(",")]
    assert [rule for rule, times in Counter(rules).items() if times > 1] == [], "a rule can't be both met and waived"


def test_a_line_is_either_met_or_waived():
    with pytest.raises(ValueError, match="wanted either"):
        Item("Rule", "something")
    with pytest.raises(ValueError, match="wanted either"):
        Item("Rule", "something", met_by=lambda _: [], waived_because="For no reason at all.")


def test_at_most_half_of_the_checklist_is_waived():
    assert len(WAIVED) * 2 < len(ITEMS), "a mostly waived list is worthless"


def test_the_document_is_current():
    assert written(DOCUMENT) == render(), "docs/checklist.md differs from policy/checklist.py; run `make docs`"


def written(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""
