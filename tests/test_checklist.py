"""The checklist holds: what is called met is met, what is not has a reason, and the document says the same."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from tests.checklist import CHECKLIST, Check, Item, render
from tests.runs import ROOT, Plan, large

DOCUMENT = ROOT / "docs" / "checklist.md"
ITEMS = [item for section in CHECKLIST.values() for item in section]
CHECKS = list(dict.fromkeys(item.met_by for item in ITEMS if item.met_by is not None))
WAIVED = [item for item in ITEMS if item.waived_because is not None]


def named(check: Check) -> str:
    return check.__name__


@pytest.mark.parametrize("check", CHECKS, ids=named)
def test_a_large_member_meets_it(check: Check):
    assert check(large()) == [], check.__doc__


@pytest.mark.parametrize("check", CHECKS, ids=named)
def test_nothing_and_resources_without_settings_meet_no_check(check: Check):
    without_settings = {urn: replace(each, inputs={}) for urn, each in large().registrations.items()}
    for run in (replace(large(), registrations=without_settings), replace(large(), registrations={})):
        assert refuses(check, run), f"{check.__name__} holds for what states nothing, so it shows nothing"


def refuses(check: Check, run: Plan) -> bool:
    try:
        return bool(check(run))
    except (AssertionError, KeyError):
        # The evaluator of security rules can't even begin.
        return True


@pytest.mark.parametrize("item", WAIVED, ids=lambda item: item.rules)
def test_a_waiver_gives_a_reason(item: Item):
    reason = item.waived_because or ""
    assert reason.endswith("."), "a sentence that an auditor can accept or refuse"
    assert len(reason.split()) >= 4


def test_each_rule_stands_once():
    rules = [rule.strip() for item in ITEMS for rule in item.rules.split(",")]
    assert [rule for rule, times in Counter(rules).items() if times > 1] == [], (
        "a rule that is met in one line and waived in another is neither"
    )


def test_a_line_is_either_met_or_waived():
    with pytest.raises(ValueError, match="wanted either"):
        Item("Rule", "something")
    with pytest.raises(ValueError, match="wanted either"):
        Item("Rule", "something", met_by=lambda _: [], waived_because="For no reason at all.")


def test_more_is_met_than_waived():
    assert len(WAIVED) * 2 < len(ITEMS), "a list that is mostly waived is a list of excuses"


def test_the_document_is_current():
    assert written(DOCUMENT) == render(), "docs/checklist.md is not what tests/checklist.py says; run `make docs`"


def written(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""
