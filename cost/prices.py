"""The price list of Azure, `prices.json`: each meter as the Retail Prices API names it, with dated prices.

The API: https://learn.microsoft.com/rest/api/cost-management/retail-prices/azure-retail-prices. `cost.refresh`
updates the price list's prices from it.
"""

import json
from collections.abc import Iterable, Mapping
from datetime import date
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Self

from pydantic import Field, ValidationError, model_validator

from contract.models import StrictModel, first_fault

PRICE_LIST_FILE = Path(__file__).with_name("prices.json")
GLOBAL = "Global"
"""Region of a price that is the same everywhere."""
HOURS = 730
"""Hours of a month, as Azure's own calculator has it."""
REGION = "eastus"
"""Region of the three sizes: the price list has each of its prices that they need, and verified best."""
_UNITS: Mapping[str, tuple[int, bool]] = MappingProxyType(
    {
        "1 Hour": (1, True),
        "1/Hour": (1, True),
        "1/Month": (1, False),
        "1 GB": (1, False),
        "1 GB/Month": (1, False),
        "1": (1, False),
        "10K": (10_000, False),
    }
)
"""Quantity in a unit of the API, and whether it is counted by the hour."""


class PriceError(Exception):
    """The price list is damaged, or lacks a price; the message says what was wanted."""


class Verified(StrEnum):
    """The source of a price."""

    API = "api"
    """Read from the Retail Prices API by `make prices`."""
    TWO = "two sources"
    """Two published readings of the API in this region agree."""
    ONE = "one source"
    ESTIMATE = "estimate"
    """No reading of this region: derived as the source describes."""


SPREAD: Mapping[Verified, Decimal] = MappingProxyType(
    {Verified.ONE: Decimal("0.1"), Verified.ESTIMATE: Decimal("0.25")}
)
"""Possible error of a price without a second source, unless it states its own range.

Between the regions of this price list a meter's prices differ by up to a third: an estimate is between two of them.
"""
EXACT = frozenset({Verified.API, Verified.TWO})
"""Prices with these checks carry no margin."""

Amount = Annotated[Decimal, Field(ge=0)]


class Price(StrictModel):
    """The price of one meter in one region."""

    region: str
    """Azure's name of a region, `Global`, or a billing zone."""
    tiers: tuple[tuple[Amount, Amount], ...] = Field(min_length=1)
    """Lower bound of each tier in units a month, and its price of a unit; the first bound is 0."""
    date: date
    """When the price was read."""
    source: str
    verified: Verified
    range: tuple[Amount, Amount] | None = None
    """Lowest and highest price of a unit in any source."""
    reservations: Mapping[str, Amount] = Field(default_factory=dict)
    """Price of a reservation's whole term, by the API's `reservationTerm`: `1 Year`, `3 Years`."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        starts = [start for start, _ in self.tiers]
        if starts[0] != 0 or starts != sorted({*starts}):
            raise ValueError(f"tiers begin at {', '.join(map(str, starts))}; wanted 0 and then more each time")
        if self.range and (self.verified in EXACT or not self.range[0] <= self.tiers[-1][1] <= self.range[1]):
            raise ValueError(
                f"range {self.range[0]} to {self.range[1]}; wanted one around a price that is not verified"
            )
        if self.range and self.range[0] == self.range[1]:
            raise ValueError(
                f"range {self.range[0]} to {self.range[1]}; wanted none, or two ends: it is not verified"
            )
        return self

    def of(self, units: Decimal) -> Decimal:
        """The price of a number of units in a month, each tier at its own price."""
        ends = [start for start, _ in self.tiers[1:]]
        return sum(
            (
                (min(units, end) - start) * price
                for (start, price), end in zip(self.tiers, [*ends, units], strict=True)
                if units > start
            ),
            Decimal(0),
        )

    def range_of(self, units: Decimal) -> tuple[Decimal, Decimal]:
        """The lowest and the highest price of a number of units, by the price's source."""
        price = self.of(units)
        last = self.tiers[-1][1]
        if self.range and last:
            return price * self.range[0] / last, price * self.range[1] / last
        spread = SPREAD.get(self.verified, Decimal(0))
        return price * (1 - spread), price * (1 + spread)


class Meter(StrictModel):
    """One meter, by the fields that identify it in the API."""

    service: str
    product: str | None
    """None: any product with a meter of that name."""
    sku: str | None
    meter: str
    unit: str
    prices: tuple[Price, ...]

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.unit not in _UNITS:
            raise ValueError(f"unit {self.unit}; wanted one of {', '.join(_UNITS)}")
        regions = [each.region for each in self.prices]
        if len({*regions}) < len(regions):
            raise ValueError(f"{self.meter} has two prices of one region; wanted one of each")
        return self

    def units(self, quantity: Decimal) -> Decimal:
        """Units a month of a quantity: gigabytes, operations, or resources during the whole month."""
        pieces, hourly = _UNITS[self.unit]
        return quantity * (HOURS if hourly else 1) / pieces


class PriceList(StrictModel):
    """All meters, by their names in `cost.meters`."""

    list_schema: int = Field(alias="schema", ge=1, le=1)
    currency: str
    date: date
    """Date of the newest price."""
    zones: Mapping[str, tuple[str, ...]]
    """Regions of each billing zone, as far as the price list has them."""
    meters: Mapping[str, Meter]

    @property
    def regions(self) -> list[str]:
        """Regions with a price of any meter."""
        return sorted(
            {each.region for meter in self.meters.values() for each in meter.prices} - {GLOBAL, *self.zones}
        )

    def price(self, name: str, region: str) -> Price | None:
        """A meter's price in a region: its own, otherwise the global one or that of its billing zone."""
        prices = {each.region: each for each in self.meters[name].prices} if name in self.meters else {}
        zones = [zone for zone, regions in self.zones.items() if region in regions]
        return next((prices[each] for each in (region, GLOBAL, *zones) if each in prices), None)

    def without(self, names: Iterable[str], region: str) -> list[str]:
        """Meters without a price in a region."""
        return sorted({name for name in names if self.price(name, region) is None})


def read_price_list(path: Path = PRICE_LIST_FILE) -> PriceList:
    """The price list of a file.

    Raises:
        PriceError: it can't be read, or is not a price list.
    """
    try:
        return PriceList.model_validate(json.loads(path.read_text(encoding="utf-8"), parse_float=Decimal))
    except ValidationError as error:
        raise PriceError(f"{path}: {first_fault(error)}") from error
    except (OSError, ValueError) as error:
        raise PriceError(f"{path}: can't be read: {error}; wanted a price list") from error


def write_price_list(price_list: PriceList, path: Path = PRICE_LIST_FILE) -> None:
    """Write a price list atomically, one price a line.

    Raises:
        OSError: the file can't be written.
    """
    document = price_list.model_dump(mode="json", by_alias=True, exclude={"meters"})
    meters = [_meter(name, each) for name, each in sorted(price_list.meters.items())]
    head = json.dumps(document, indent=1).removesuffix("\n}")
    text = f'{head},\n "meters": {{\n' + ",\n".join(meters) + "\n }\n}\n"
    temporary = path.with_name(f"{path.name}.new")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def _meter(name: str, meter: Meter) -> str:
    identity = ", ".join(
        f"{json.dumps(key)}: {json.dumps(value)}" for key, value in meter.model_dump(exclude={"prices"}).items()
    )
    prices = ",\n".join(f"    {_price(each)}" for each in sorted(meter.prices, key=lambda each: each.region))
    return f'  {json.dumps(name)}: {{{identity}, "prices": [\n{prices}\n  ]}}'


def _price(price: Price) -> str:
    # Decimals as JSON's numbers, digit by digit.
    fields = {
        "region": json.dumps(price.region),
        "tiers": f"[{', '.join(f'[{start:f}, {each:f}]' for start, each in price.tiers)}]",
        "range": f"[{price.range[0]:f}, {price.range[1]:f}]" if price.range else "",
        "reservations": _terms(price.reservations),
        "date": json.dumps(price.date.isoformat()),
        "verified": json.dumps(price.verified.value),
        "source": json.dumps(price.source, ensure_ascii=False),
    }
    return "{" + ", ".join(f'"{key}": {value}' for key, value in fields.items() if value) + "}"


def _terms(reservations: Mapping[str, Decimal]) -> str:
    terms = ", ".join(f"{json.dumps(term)}: {price:f}" for term, price in sorted(reservations.items()))
    return f"{{{terms}}}" if terms else ""
