"""Bills of the project's stacks, and of the minimal one, each from runs of the program."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import pytest

from cost.bill import bill, sum_of
from cost.meters import FREE, METERS
from cost.prices import REGION, read_price_list
from cost.stacks import _near
from cost.usage import Usage, Used
from lab.azure.plan.planned import Plan, plan_of, source_of
from lab.azure.stacks import stack_path
from stack.outputs import CARD_OUTPUT
from stack.settings import LOCATION_KEY
from tests import runs

PRICES = read_price_list()
STACKS: Mapping[str, Callable[[], runs.Plan]] = {
    "dev": lambda: runs.sample("dev"),
    "prod": lambda: runs.sample("prod"),
    "bank-a": lambda: runs.bank("bank-a"),
    "bank-b": lambda: runs.bank("bank-b"),
    "bank-c": lambda: runs.bank("bank-c"),
}
SAMPLES = {**STACKS, "everything": runs.large, "the barest": runs.bare}


def planned(name: str) -> Plan:
    run = SAMPLES[name]()
    return plan_of(run, run.ids)


def meters(plan: Plan) -> Iterator[str]:
    used = Used(plan, Usage())
    for each in plan.resources:
        if each.custom and each.short_type in METERS:
            yield from (charge.meter for charge in METERS[each.short_type](each, used))


@pytest.mark.parametrize("name", SAMPLES)
def test_each_type_and_each_meter_is_known(name: str):
    plan = planned(name)
    types = {each.short_type for each in plan.resources if each.custom}
    assert types <= METERS.keys() | FREE.keys(), "a type without a row would cost nothing"
    assert not [each for each in meters(plan) if each not in PRICES.meters or not PRICES.meters[each].prices]


@pytest.mark.parametrize("name", STACKS)
def test_components_add_up_to_the_total(name: str):
    one = bill(planned(name), PRICES, REGION, Usage())
    assert sum_of(one.component(each) for each in one.components) == one.total == one.fixed + one.usage
    assert one.range[0] <= one.total <= one.range[1]


def test_each_meter_is_used():
    used = {meter for name in SAMPLES for meter in meters(planned(name))}
    sized = ("vm/", "gateway/VpnGw", "postgresql/Ddsv5/")
    unused = {each for each in PRICES.meters if each not in used and not each.startswith(sized)}
    assert not unused, "the other meters are only sizes of used types"


def test_a_peer_in_the_own_region_has_no_data_transfer_between_regions():
    source = source_of(stack_path("bank-a"))
    away = _near(source)
    moved = {
        stack: {
            **outputs,
            CARD_OUTPUT: {**outputs[CARD_OUTPUT], "location": source.configuration.values[LOCATION_KEY]},
        }
        for stack, outputs in source.references.items()
    }
    near = _near(replace(source, references=moved))
    assert near - away == {each[CARD_OUTPUT]["gateway"]["id"] for each in moved.values()} - away
    linked = {each.inputs.get("virtualNetworkGateway2", {}).get("id") for each in planned("bank-a").resources}
    assert near & linked, "the ids are those that connections name"
