"""Updates the price list's prices from the Azure Retail Prices API: `python -m cost.refresh [REGION]...`.

Without a region each price of the list is read again; a region gets a price of each meter besides. The list is
written at the end, or stays as it was. The API wants no key; it answers in pages, and with 429 when asked too often:
https://learn.microsoft.com/rest/api/cost-management/retail-prices/azure-retail-prices
"""

import json
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from http import HTTPStatus
from http.client import HTTPException
from urllib.parse import quote, urlsplit

from pydantic import Field, ValidationError

from contract.models import OpenModel, first_fault
from cost.prices import (
    GLOBAL,
    PRICE_LIST_FILE,
    Meter,
    Price,
    PriceError,
    PriceList,
    Verified,
    read_price_list,
    write_price_list,
)
from lab.command import OptionError, Parser
from stack.regions import REGIONS

URL = "https://prices.azure.com"
"""Azure's Retail Prices API: learn.microsoft.com/rest/api/cost-management/retail-prices/azure-retail-prices"""
_PATH = "/api/retail/prices"
_VERSION = "2023-01-01-preview"
"""Version of the API that has reservations and tiers."""
_LONGEST_ANSWER_SECONDS = 60
_MAX_BYTES = 8 * 2**20
"""Largest answer in bytes: a page has 1,000 rows at most, of about a kilobyte."""
_PAGES = 50
"""Most pages: one meter of one region has a few rows."""
_TRIES = 6
_WAIT_SECONDS = 10.0
"""Seconds to wait if an answer does not state them."""
_LONGEST_WAIT_SECONDS = 120.0
_PASSING = frozenset(
    {
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.INTERNAL_SERVER_ERROR,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)
"""Statuses after which the request is repeated."""
_DEFAULT_PORTS = {"https": 443, "http": 80}
_CONSUMPTION, _RESERVATION = "Consumption", "Reservation"


class RefreshError(Exception):
    """The API returned no prices; the message has the request, and what was wanted."""


class _Row(OpenModel):
    """One row of the API: the fields that are read."""

    currency_code: str
    tier_minimum_units: Decimal = Field(ge=0)
    retail_price: Decimal = Field(ge=0)
    arm_region_name: str
    product_name: str
    sku_name: str
    meter_name: str
    service_name: str
    unit_of_measure: str
    type: str
    reservation_term: str | None = None


class _Page(OpenModel):
    items: tuple[_Row, ...] = Field(alias="Items")
    next_page_link: str | None = Field(default=None, alias="NextPageLink")


@dataclass(frozen=True)
class Api:
    """The Retail Prices API, or a server with the same protocol."""

    url: str = URL
    sleep: Callable[[float], None] = time.sleep

    def rows(self, price_list: PriceList, meter: Meter, region: str, kind: str) -> list[_Row]:
        """All rows of a meter in a region.

        Raises:
            RefreshError: the API does not answer, or not as documented.
        """
        asked = self._question(price_list, meter, region, kind)
        link: str | None = asked
        rows: list[_Row] = []
        for _ in range(_PAGES):
            if link is None:
                return [each for each in rows if _is_of(each, meter, region, kind)]
            page = self._page(link)
            rows += page.items
            link = page.next_page_link or None
            if link is not None and not _same_origin(link, self.url):
                raise RefreshError(f"{asked}: the next page is {link}; wanted one of {self.url}")
        raise RefreshError(f"{asked}: more than {_PAGES} pages; wanted the rows of one meter")

    def _question(self, price_list: PriceList, meter: Meter, region: str, kind: str) -> str:
        wanted = {"serviceName": meter.service, "priceType": kind}
        if meter.sku is not None:
            wanted["skuName"] = meter.sku
        if kind == _CONSUMPTION:
            wanted["meterName"] = meter.meter
        if region != GLOBAL and region not in price_list.zones:
            # A global price has there no region, `Global`, or a zone.
            wanted["armRegionName"] = region
        escaped = {key: value.replace("'", "''") for key, value in wanted.items()}
        condition = " and ".join(f"{key} eq '{value}'" for key, value in escaped.items())
        currency = quote(f"'{price_list.currency}'")
        return f"{self.url}{_PATH}?api-version={_VERSION}&currencyCode={currency}&$filter={quote(condition, safe='')}"

    def _page(self, link: str) -> _Page:
        for tried in range(1, _TRIES + 1):
            try:
                with urllib.request.urlopen(link, timeout=_LONGEST_ANSWER_SECONDS) as answer:
                    content = answer.read(_MAX_BYTES + 1)
                if len(content) > _MAX_BYTES:
                    raise RefreshError(f"{link} gave more than {_MAX_BYTES} bytes")
                return _Page.model_validate(json.loads(content, parse_float=Decimal))
            except urllib.error.HTTPError as error:
                if error.code not in _PASSING or tried == _TRIES:
                    raise RefreshError(f"{link}: {error.code} {error.reason}; wanted 200") from error
                self.sleep(_wait(error.headers.get("Retry-After", "")))
            except (OSError, HTTPException) as error:
                # A connection that takes too long is a URLError around the timeout.
                if not isinstance(getattr(error, "reason", error), TimeoutError) or tried == _TRIES:
                    raise RefreshError(f"{link} can't be asked: {error}") from error
                self.sleep(_WAIT_SECONDS)
            except ValidationError as error:
                raise RefreshError(f"{link} gave no page of the documented shape: {first_fault(error)}") from error
            except ValueError as error:
                raise RefreshError(f"{link}: not JSON: {error}") from error
        raise AssertionError


def _same_origin(link: str, url: str) -> bool:
    """Whether both have the scheme, host and port; the API's own links name the default port."""
    try:
        one, other = (
            (parts.scheme, parts.hostname, parts.port or _DEFAULT_PORTS.get(parts.scheme))
            for parts in map(urlsplit, (link, url))
        )
    except ValueError:
        return False
    return one == other


def _wait(retry_after: str) -> float:
    seconds = float(retry_after) if retry_after.isdecimal() else _WAIT_SECONDS
    return min(seconds, _LONGEST_WAIT_SECONDS)


def _is_of(row: _Row, meter: Meter, region: str, kind: str) -> bool:
    """Whether a row is the meter's own: a product is written with other capitals at times, so no filter names it."""
    if (row.type, row.arm_region_name) not in {(kind, region), (kind, "")}:
        return False
    pairs = [(row.service_name, meter.service), (row.product_name, meter.product), (row.sku_name, meter.sku)]
    if kind == _CONSUMPTION:
        pairs.append((row.meter_name, meter.meter))
    return all(wanted is None or found.casefold() == wanted.casefold() for found, wanted in pairs)


@dataclass
class Refreshed:
    """The result of a price list's update."""

    price_list: PriceList
    read: int = 0
    """Prices that the API has."""
    unread: list[str] = field(default_factory=list)
    """Missing prices, each as `METER in REGION: WHY`: for these the price list is unchanged."""


def refresh(price_list: PriceList, api: Api, today: date, regions: Sequence[str] = ()) -> Refreshed:
    """Read each price of the list again, and for additional regions all meters that differ by region.

    Raises:
        RefreshError: the API does not answer.
    """
    done = Refreshed(price_list)
    meters = {}
    for name, meter in price_list.meters.items():
        known = {each.region: each for each in meter.prices}
        # A global price, or that of the region's zone, is sufficient.
        for region in [*known, *(each for each in regions if price_list.price(name, each) is None)]:
            try:
                known[region] = _price(price_list, meter, region, api, today)
                done.read += 1
            except _NoPriceError as error:
                done.unread.append(f"{name} in {region}: {error}")
        meters[name] = meter.model_copy(update={"prices": tuple(known.values())})
    done.price_list = PriceList.model_validate(
        price_list.model_copy(update={"meters": meters, "date": today if done.read else price_list.date}).model_dump(
            by_alias=True
        )
    )
    return done


class _NoPriceError(Exception):
    """The API's rows are not a valid price of the meter."""


def _price(price_list: PriceList, meter: Meter, region: str, api: Api, today: date) -> Price:
    tiers: dict[Decimal, Decimal] = {}
    for row in api.rows(price_list, meter, region, _CONSUMPTION):
        if (row.unit_of_measure, row.currency_code) != (meter.unit, price_list.currency):
            raise _NoPriceError(
                f"{row.currency_code} for {row.unit_of_measure}; wanted {price_list.currency} for {meter.unit}"
            )
        other = tiers.setdefault(row.tier_minimum_units, row.retail_price)
        if other != row.retail_price:
            raise _NoPriceError(f"{other} and {row.retail_price} from {row.tier_minimum_units} units on; wanted one")
    if not tiers:
        zoned = region not in price_list.zones and any(each.region in price_list.zones for each in meter.prices)
        raise _NoPriceError(f"no row{'; wanted one, or the region in a zone of the price list' if zoned else ''}")
    if Decimal(0) not in tiers:
        # If the first units are free, the API may omit their tier.
        before = [each for each in meter.prices if each.region == region] or meter.prices
        if not any(each.tiers[0][1] == 0 for each in before):
            raise _NoPriceError(f"the first tier is from {min(tiers)} units on; wanted one from 0")
        tiers[Decimal(0)] = Decimal(0)
    return Price(
        region=region,
        tiers=tuple(sorted(tiers.items())),
        date=today,
        source="Azure Retail Prices API",
        verified=Verified.API,
        reservations=dict(_reservations(price_list, meter, region, api)),
    )


def _reservations(price_list: PriceList, meter: Meter, region: str, api: Api) -> Iterator[tuple[str, Decimal]]:
    if meter.service == "Virtual Machines":
        for row in api.rows(price_list, meter, region, _RESERVATION):
            if row.reservation_term:
                yield row.reservation_term, row.retail_price


def main(arguments: Sequence[str]) -> int:
    """Refresh the price list; returns the exit status, 1 if it is unchanged after an error."""
    parser = Parser(
        "python -m cost.refresh", description="Update the price list with Azure's list prices.", allow_abbrev=False
    )
    parser.add_argument("regions", nargs="*", metavar="REGION", help="regions to add to those of the price list")
    parser.add_argument("--api", default=URL, metavar="URL", help=f"instead of {URL}")
    try:
        options = parser.parse_args(arguments)
        if unknown := [each for each in options.regions if each not in REGIONS]:
            raise RefreshError(f"region {', '.join(unknown)}: unknown; wanted one of {', '.join(REGIONS)}")
        done = refresh(read_price_list(), Api(options.api.rstrip("/")), datetime.now(UTC).date(), options.regions)
        write_price_list(done.price_list)
    except (OptionError, RefreshError, PriceError, OSError) as error:
        print(f"error: {error}; {PRICE_LIST_FILE.name} stays as it was", file=sys.stderr)
        return 1
    for each in done.unread:
        print(f"not refreshed: {each}")
    print(f"{PRICE_LIST_FILE.name}: {done.read} prices of {done.price_list.date}, {len(done.unread)} as they were")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
