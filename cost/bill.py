"""A stack's bill: each charge of its resources at its listed price, exact to the cent."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import ROUND_HALF_UP, Decimal

from cost.meters import FREE, INCLUDED, METERS, VM_METERS, Charge
from cost.prices import HOURS, REGION, Meter, Price, PriceError, PriceList, Verified
from cost.usage import Usage, Used
from lab.azure.plan.planned import Plan

_CENT = Decimal("0.01")
TERMS: Mapping[str, int] = {"1 Year": 12, "3 Years": 36}
"""Months of a reservation, by the API's name of its term."""


@dataclass(frozen=True)
class Line:
    """The monthly cost of one component on one meter."""

    component: str
    meter: str
    """The meter's name in the price list."""
    units: Decimal
    """Units of the meter a month."""
    cost: Decimal
    low: Decimal
    high: Decimal
    usage: bool
    verified: Verified
    date: date
    """Source of the price."""
    reserved: Mapping[str, Decimal] = field(default_factory=dict)
    """Monthly cost of a reservation instead, by term; only terms with a price in the list."""

    @property
    def key(self) -> tuple[str, str, bool]:
        """Identifies a line within its bill."""
        return self.component, self.meter, self.usage


@dataclass(frozen=True)
class Bill:
    """The monthly cost of one stack. Lines are rounded to cents, so they add up to components and total."""

    stack: str
    region: str
    used: Usage
    """The stated usage."""
    lines: tuple[Line, ...]

    def has(self, name: str) -> bool:
        """Whether the bill has a line of a component, even one of 0."""
        return any(each.component == name for each in self.lines)

    def component(self, name: str) -> Decimal:
        """The cost of one component."""
        return sum_of(each.cost for each in self.lines if each.component == name)

    @property
    def components(self) -> list[str]:
        """Components with a cost above 0, the most expensive first."""
        names = {each.component for each in self.lines if each.cost}
        return sorted(names, key=lambda name: (-self.component(name), name))

    @property
    def fixed(self) -> Decimal:
        """The cost that does not depend on usage."""
        return sum_of(each.cost for each in self.lines if not each.usage)

    @property
    def usage(self) -> Decimal:
        """The cost that depends on usage."""
        return sum_of(each.cost for each in self.lines if each.usage)

    @property
    def total(self) -> Decimal:
        """The total cost."""
        return sum_of(each.cost for each in self.lines)

    @property
    def range(self) -> tuple[Decimal, Decimal]:
        """The lowest and the highest total, since not every price is verified."""
        return sum_of(each.low for each in self.lines), sum_of(each.high for each in self.lines)

    def reserved(self, term: str) -> Decimal | None:
        """The total with all VMs reserved for that term; None if the price list lacks a price of one of them."""
        vms = [each for each in self.lines if each.meter.startswith(VM_METERS)]
        if not vms or any(term not in each.reserved for each in vms):
            return None
        return sum_of(each.reserved.get(term, each.cost) for each in self.lines)


def sum_of(values: Iterable[Decimal]) -> Decimal:
    """The sum; 0 of an empty sequence."""
    return sum(values, Decimal(0))


@dataclass
class _Share:
    """The quantity of one component on one meter."""

    units: Decimal = Decimal(0)
    count: Decimal = Decimal(0)
    """Quantity, independent of running hours."""


class UnpricedError(PriceError):
    """The price list lacks prices in a region; the message names all of them."""

    def __init__(self, stacks: str, meters: Iterable[str], price_list: PriceList, region: str) -> None:
        """Write the message.

        Args:
            stacks: names of the stacks, the beginning of the message.
            meters: names of the meters without a price.
            price_list: the prices that were looked up.
            region: the region that the stacks are priced in.
        """
        self.stacks, self.meters = stacks, frozenset(meters)
        lacks = []
        if unknown := sorted(self.meters - price_list.meters.keys()):
            lacks.append(f"there is no meter {', '.join(unknown)}; wanted a row of it in cost/prices.json")
        if unpriced := sorted(self.meters & price_list.meters.keys()):
            lacks.append(
                f"region {region} has no price of {', '.join(unpriced)}; wanted each of them:"
                f" `make prices REGION={region}`, or another REGION: {REGION} has all that the sizes need"
            )
        super().__init__(f"{stacks}: {'; '.join(lacks)}")


def bill(plan: Plan, price_list: PriceList, region: str, usage: Usage, near: frozenset[str] = frozenset()) -> Bill:
    """The bill of a stack's plan at a region's prices.

    A subscription's tiers, and what is included, count over the whole stack; each line has its share by quantity.

    Args:
        plan: the stack's plan.
        price_list: the prices.
        region: whose prices hold.
        usage: what is used.
        near: as of `Used`.

    Raises:
        PriceError: a type has no row in `cost.meters`.
        UnpricedError: the price list lacks prices.
    """
    charges = list(_charges(Used(plan, usage, near)))
    if missing := price_list.without((charge.meter for _, charge in charges), region):
        raise UnpricedError(plan.stack, missing, price_list, region)
    shares: dict[tuple[str, str, bool], _Share] = {}
    for component, charge in charges:
        share = shares.setdefault((component, charge.meter, charge.usage), _Share())
        quantity = Decimal(str(charge.quantity))
        share.count += quantity
        share.units += price_list.meters[charge.meter].units(quantity) * Decimal(str(charge.hours)) / HOURS
    wholes = {
        name: sum_of(share.units for (_, other, _), share in shares.items() if other == name) for _, name, _ in shares
    }
    lines = []
    for key, share in sorted(shares.items()):
        price = price_list.price(key[1], region)
        assert price  # noqa: S101  (each was asked for above)
        lines.append(_line(key, share, wholes[key[1]], price_list.meters[key[1]], price))
    return Bill(plan.stack, region, usage, tuple(lines))


def _charges(used: Used) -> Iterator[tuple[str, Charge]]:
    """Each charge above 0, with its component."""
    for resource in used.plan.resources:
        if not resource.custom or resource.short_type in FREE:
            continue
        if resource.short_type not in METERS:
            raise PriceError(
                f"{used.plan.stack}: {resource.name} is of type {resource.short_type}; wanted one that cost/meters.py"
                " has a row of, with its meters or with why it is free"
            )
        component = used.component(resource)
        for charge in METERS[resource.short_type](resource, used):
            if charge.quantity * charge.hours:
                yield component.name if component else resource.name, charge


def _line(key: tuple[str, str, bool], share: _Share, whole: Decimal, meter: Meter, price: Price) -> Line:
    component, name, usage = key
    billed = max(Decimal(0), whole - meter.units(Decimal(str(INCLUDED.get(name, 0)))))
    low, high = price.range_of(billed)
    part = share.units / whole
    return Line(
        component=component,
        meter=name,
        units=share.units,
        cost=_cents(price.of(billed) * part),
        low=_cents(low * part),
        high=_cents(high * part),
        usage=usage,
        verified=price.verified,
        date=price.date,
        # A reservation is paid for each hour of its term.
        reserved={
            term: _cents(cost / TERMS[term] * share.count)
            for term, cost in price.reservations.items()
            if term in TERMS
        },
    )


def _cents(value: Decimal) -> Decimal:
    return value.quantize(_CENT, ROUND_HALF_UP)
