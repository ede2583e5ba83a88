"""The bills of stacks, of the three sizes, and those of the last run."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

from cost.bill import Bill, Line, UnpricedError, bill
from cost.prices import REGION, PriceError, PriceList, Verified
from cost.usage import Usage
from lab import ROOT
from lab.azure import last_runs
from lab.azure.engine import STATE
from lab.azure.plan.planned import Source, plan_in_process, source_of
from lab.azure.program import PROJECT, read_configuration
from lab.azure.stacks import account_of
from stack.outputs import CARD_OUTPUT
from stack.regions import REGIONS
from stack.settings import LOCATION_KEY, Size

LAST_BILLS = STATE / "costs"
"""Folder of the last bill of each stack."""
_SAMPLE = ROOT / "Pulumi.prod.yaml"
_REQUIRED_KEYS = {LOCATION_KEY, *(f"{PROJECT}:{key}" for key in ("bank", "addressSpace", "nodes"))}
_SIZE = f"{PROJECT}:size"
_BILL_SCHEMA = 2


@dataclass(frozen=True)
class Terms:
    """Prices, usage and region of bills."""

    price_list: PriceList
    usage: Usage
    region: str = ""
    """Region for all stacks, in place of those in their files."""


def bills_of_sizes(terms: Terms) -> list[Bill]:
    """The bill of a member of each size with only the required settings: no peer, no authority.

    Raises:
        PriceError: the region is unknown.
        UnpricedError: the price list lacks prices: the message names those of all sizes.
    """
    bills, lacks = [], []
    region = terms.region or REGION
    sample = read_configuration(_SAMPLE)
    values = {key: value for key, value in sample.values.items() if key in _REQUIRED_KEYS}
    for size in Size:
        configuration = replace(sample, stack=size.value, values={**values, _SIZE: size.value})
        source = Source(_SAMPLE, configuration, {}, account_of(_SAMPLE, configuration))
        try:
            bills.append(_bill(source, replace(terms, region=region)))
        except UnpricedError as error:
            lacks.append(error)
    if lacks:
        names, meters = [each.stacks for each in lacks], [each.meters for each in lacks]
        raise UnpricedError(", ".join(names), frozenset().union(*meters), terms.price_list, region)
    return bills


def bill_of(path: Path, terms: Terms, stack: str = "") -> Bill:
    """The bill of a stack's file.

    Args:
        path: the stack's configuration.
        terms: what it is made by.
        stack: the stack that the file is taken for; by default its own.

    Raises:
        StackFileError: it is not a stack's file.
        PriceError: the region is unknown, or its prices.
        RunError: the program refuses it.
        AzureError: the offline Azure refuses it.
    """
    source = source_of(path)
    if stack:
        source = replace(source, configuration=replace(source.configuration, stack=stack))
    return _bill(source, terms)


def _bill(source: Source, terms: Terms) -> Bill:
    values = source.configuration.values
    region = terms.region or values.get(LOCATION_KEY, "")
    if region not in terms.price_list.regions:
        known = ", ".join(terms.price_list.regions)
        add = f", or `make prices REGION={region}`" if region in REGIONS else ""
        raise PriceError(
            f"region {region or '(none)'}: no price is known there; wanted one of {known}{add}; "
            f"{REGION} has all that the sizes need"
        )
    configuration = replace(source.configuration, values={**values, LOCATION_KEY: region})
    plan = plan_in_process(replace(source, configuration=configuration))
    return bill(plan, terms.price_list, region, terms.usage, _near(source))


def _near(source: Source) -> frozenset[str]:
    """Gateways of the peers in the stack's region; peers whose card is a file are omitted."""
    cards = [each[CARD_OUTPUT] for each in source.references.values()]
    own = source.configuration.values.get(LOCATION_KEY)
    return frozenset(each["gateway"]["id"] for each in cards if each["gateway"] and each["location"] == own)


def keep(made: Bill) -> None:
    """Store a bill as the last one of its stack.

    Raises:
        OSError: there is no writing there.
    """
    content = {
        "stack": made.stack,
        "region": made.region,
        "used": made.used.model_dump(mode="json", by_alias=True),
        "lines": [
            {
                "component": each.component,
                "meter": each.meter,
                "usage": each.usage,
                "verified": each.verified,
                "date": each.date.isoformat(),
                "amounts": [str(value) for value in (each.units, each.cost, each.low, each.high)],
                "reserved": {term: str(value) for term, value in each.reserved.items()},
            }
            for each in made.lines
        ],
    }
    last_runs.save(LAST_BILLS, made.stack, _BILL_SCHEMA, content)


def last_bill(stack: str) -> Bill:
    """The bill of a stack's last run.

    Raises:
        StackFileError: there is none, or another release wrote it.
    """
    command = "make cost" if stack in set(Size) else f"make cost STACK={stack}"
    return last_runs.load(LAST_BILLS, stack, _BILL_SCHEMA, _read, what="bill", command=command)


def _read(content: Mapping[str, Any]) -> Bill:
    lines = tuple(map(_line, content["lines"]))
    return Bill(str(content["stack"]), str(content["region"]), Usage.model_validate(content["used"]), lines)


def _line(content: Mapping[str, Any]) -> Line:
    units, cost, low, high = map(Decimal, content["amounts"])
    return Line(
        component=str(content["component"]),
        meter=str(content["meter"]),
        units=units,
        cost=cost,
        low=low,
        high=high,
        usage=bool(content["usage"]),
        verified=Verified(content["verified"]),
        date=date.fromisoformat(content["date"]),
        reserved={term: Decimal(value) for term, value in content["reserved"].items()},
    )
