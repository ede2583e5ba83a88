"""The price list: its content, its checks, and how `make prices` updates it."""

import json
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from decimal import Decimal
from io import BytesIO
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any
from unittest.mock import Mock
from urllib.error import URLError
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cost import refresh as command
from cost.prices import (
    EXACT,
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
from cost.refresh import Api, RefreshError, refresh
from stack.regions import REGIONS
from tests.web import Handler, serving

TODAY = date(2027, 1, 15)
VM = {
    "service": "Virtual Machines",
    "product": "Virtual Machines DSv5 Series",
    "sku": "D4s v5",
    "meter": "D4s v5",
    "unit": "1 Hour",
}
LOGS = {
    "service": "Log Analytics",
    "product": "Log Analytics",
    "sku": "Analytics Logs",
    "meter": "Analytics Logs Data Ingestion",
    "unit": "1 GB",
}
BALANCER = {
    "service": "Load Balancer",
    "product": "Load Balancer",
    "sku": "Standard",
    "meter": "Standard Included LB Rules and Outbound Rules",
    "unit": "1 Hour",
}


def price(region: str = "eastus", *tiers: tuple[float, float], verified: str = "two sources", **more: Any) -> Price:
    written = [[start, each] for start, each in tiers or ((0, 0.1),)]
    return Price.model_validate(
        {"region": region, "tiers": written, "date": "2026-01-01", "source": "a test", "verified": verified, **more}
    )


def price_list(**meters: tuple[Mapping[str, str], Price]) -> PriceList:
    return PriceList.model_validate(
        {
            "schema": 1,
            "currency": "USD",
            "date": "2026-01-01",
            "zones": {"Zone 1": ["eastus"]},
            "meters": {name: {**identity, "prices": [each]} for name, (identity, each) in meters.items()},
        }
    )


class TestPrice:
    @pytest.mark.parametrize(
        ("units", "cost"), [(0, "0"), (5, "0"), (7, "4.6"), (100, "218.5"), (150, "268.5")], ids=str
    )
    def test_each_tier_has_its_own_price(self, units: int, cost: str):
        tiers = price("eastus", (0, 0), (5, 2.3), (100, 1))
        assert tiers.of(Decimal(units)) == Decimal(cost), "5 free, 95 at 2.30, the rest at 1.00"

    @pytest.mark.parametrize("verified", EXACT, ids=str)
    def test_a_verified_price_has_no_range(self, verified: Verified):
        assert price(verified=verified).range_of(Decimal(730)) == (Decimal(73), Decimal(73))

    @given(
        steps=st.lists(st.tuples(st.integers(1, 1000), st.integers(0, 500)), min_size=1, max_size=5),
        units=st.lists(st.integers(0, 6000), min_size=2, max_size=2).map(sorted),
    )
    def test_more_never_costs_less_and_each_unit_has_its_tiers_price(
        self, steps: list[tuple[int, int]], units: list[int]
    ):
        starts = [0, *accumulate(step for step, _ in steps)][: len(steps)]
        tiers = price("eastus", *((start, cents / 100) for start, (_, cents) in zip(starts, steps, strict=True)))
        fewer, more = (tiers.of(Decimal(each)) for each in units)
        assert fewer <= more
        one_by_one = sum(
            next(each for start, each in reversed(tiers.tiers) if start <= place)
            for place in range(units[0], units[1])
        )
        assert more - fewer == one_by_one

    def test_an_unverified_price_has_a_range(self):
        assert price(verified="one source").range_of(Decimal(100)) == (Decimal(9), Decimal(11))
        assert price(verified="estimate").range_of(Decimal(100)) == (Decimal("7.5"), Decimal("12.5"))
        known = price(verified="estimate", range=[0.1, 0.3])
        assert known.range_of(Decimal(100)) == (Decimal(10), Decimal(30)), "the range follows from the kind of source"

    @pytest.mark.parametrize(
        ("changes", "wanted"),
        [
            ({"tiers": []}, "at least 1"),
            ({"tiers": [[5, 1]]}, "wanted 0 and then more each time"),
            ({"tiers": [[0, 1], [10, 2], [5, 3]]}, "wanted 0 and then more each time"),
            ({"tiers": [[0, -1]]}, "greater than or equal to 0"),
            ({"range": [0.1, 0.2]}, "not verified"),
            ({"verified": "estimate", "range": [0.2, 0.3]}, "wanted one around a price"),
            ({"verified": "estimate", "range": [0.1, 0.1]}, "wanted none, or two ends"),
            ({"verified": "hearsay"}, "'api'"),
        ],
        ids=str,
    )
    def test_an_invalid_price_is_refused(self, changes: dict[str, Any], wanted: str):
        with pytest.raises(ValueError, match=wanted):
            Price.model_validate({**price().model_dump(), **changes})


class TestPriceList:
    def test_each_price_states_its_source(self):
        known = read_price_list()
        for name, meter in known.meters.items():
            for each in meter.prices:
                assert each.source, f"{name} in {each.region}: a price without a source can't be checked"
                assert each.date <= known.date, (
                    f"{name} in {each.region}: the price list is of its newest price's day"
                )
                if each.verified is Verified.TWO:
                    assert re.search(r"; | and |\btwo\b", each.source), (
                        f"{name} in {each.region}: a price from two regions must name both"
                    )
                    named = {word for word in re.findall(r"\w+", each.source) if word in REGIONS}
                    wide = each.region not in REGIONS
                    assert wide or named <= {each.region}, (
                        f"{name} in {each.region}: a price read from another region is not a second source"
                    )

    def test_every_region_is_one_of_azures(self):
        known = read_price_list()
        regions = {*known.regions, *(region for zone in known.zones.values() for region in zone)}
        assert regions <= REGIONS.keys(), "a misspelt region would never be found"

    def test_more_vcores_cost_as_much_each(self):
        known = read_price_list()
        for kind, sizes in (("vm/Standard_D{}s_v5", (2, 4, 8)), ("postgresql/Ddsv5/{}", (2, 4, 8, 16))):
            for region in known.regions:
                each = [
                    found.tiers[0][1] / size for size in sizes if (found := known.price(kind.format(size), region))
                ]
                for one, other in pairwise(each):
                    assert abs(one / other - 1) < Decimal("0.005"), f"{kind} in {region}: probably a typing error"

    def test_a_global_price_holds_in_each_region_and_a_zones_price_in_its_zone(self):
        known = price_list(
            here=(VM, price("eastus")), everywhere=(BALANCER, price(GLOBAL)), zone=(LOGS, price("Zone 1"))
        )
        names = ("everywhere", "here", "none", "zone")
        assert known.without(names, "eastus") == ["none"]
        assert known.without(names, "japaneast") == ["here", "none", "zone"], "no price is guessed"

    def test_the_price_list_is_written_as_it_is_read(self, tmp_path: Path):
        path = tmp_path / "prices.json"
        write_price_list(read_price_list(), path)
        assert path.read_text(encoding="utf-8") == PRICE_LIST_FILE.read_text(encoding="utf-8"), (
            "a refresh must change only the lines of changed prices"
        )

    @pytest.mark.parametrize(
        ("text", "wanted"),
        [
            ("[", "can't be read"),
            ("{}", "schema: Field required"),
            (json.dumps({**price_list().model_dump(mode="json", by_alias=True), "schema": 2}), "schema: "),
            (
                price_list(one=(VM, price())).model_dump_json(by_alias=True).replace("1 Hour", "1 Fortnight"),
                "unit 1 Fortnight; wanted one of 1 Hour",
            ),
        ],
    )
    def test_a_damaged_price_list_is_refused(self, tmp_path: Path, text: str, wanted: str):
        path = tmp_path / "prices.json"
        path.write_text(text, encoding="utf-8")
        with pytest.raises(PriceError, match=wanted):
            read_price_list(path)

    def test_two_prices_of_a_region_are_refused(self):
        with pytest.raises(ValueError, match="two prices of one region"):
            Meter.model_validate({**VM, "prices": [price(), price()]})


def row(identity: Mapping[str, str], **changes: Any) -> dict[str, Any]:
    """A row as the API's documentation shows it."""
    return {
        "currencyCode": "USD",
        "tierMinimumUnits": 0.0,
        "retailPrice": 0.2,
        "unitPrice": 0.2,
        "armRegionName": "eastus",
        "location": "US East",
        "effectiveStartDate": "2021-10-01T00:00:00Z",
        "meterId": "3f1a7d5c-0000-0000-0000-000000000000",
        "meterName": identity["meter"],
        "productId": "DZH318Z08MC2",
        "skuId": "DZH318Z08MC2/00CB",
        "availabilityId": None,
        "productName": identity["product"],
        "skuName": identity["sku"],
        "serviceName": identity["service"],
        "serviceId": "DZH313Z7MMC8",
        "serviceFamily": "Compute",
        "unitOfMeasure": identity["unit"],
        "type": "Consumption",
        "isPrimaryMeterRegion": True,
        "armSkuName": "",
        **changes,
    }


class Prices(Handler):
    """Answers by `answer`, from a request's filter and page."""

    answer: Callable[[str, int], tuple[int, dict[str, str], Any]]
    asked: list[str]

    def reply(self, body: bytes) -> None:
        query = parse_qs(urlsplit(self.path).query)
        self.asked.append(query["$filter"][0])
        status, headers, answer = type(self).answer(query["$filter"][0], int(query.get("$skip", ["0"])[0]))
        content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def page(*rows: dict[str, Any], following: str | None = None) -> tuple[int, dict[str, str], Any]:
    answer = {
        "BillingCurrency": "USD",
        "CustomerEntityId": "Default",
        "CustomerEntityType": "Retail",
        "Items": list(rows),
        "NextPageLink": following,
        "Count": len(rows),
    }
    return 200, {"Content-Type": "application/json; charset=utf-8"}, answer


@contextmanager
def api(answer: Callable[[str, int], tuple[int, dict[str, str], Any]]) -> Iterator[tuple[str, list[str]]]:
    asked: list[str] = []
    handler = type("Answering", (Prices,), {"answer": staticmethod(answer), "asked": asked})
    with serving(handler) as url:
        yield url, asked


class TestRefresh:
    def test_reads_a_price_and_its_reservations(self):
        def answer(asked: str, _: int) -> Any:
            if "'Reservation'" in asked:
                terms = {"1 Year": 1243.0, "3 Years": 2388.0}
                return page(
                    *(
                        row(VM, type="Reservation", reservationTerm=term, retailPrice=each)
                        for term, each in terms.items()
                    )
                )
            return page(row(VM))

        with api(answer) as (url, asked):
            done = refresh(price_list(vm=(VM, price())), Api(url), TODAY)
        (found,) = done.price_list.meters["vm"].prices
        assert (found.tiers, found.date, found.verified) == (((Decimal(0), Decimal("0.2")),), TODAY, Verified.API)
        assert found.reservations == {"1 Year": 1243, "3 Years": 2388}
        assert (done.read, done.unread, done.price_list.date) == (1, [], TODAY)
        assert asked[0] == (
            "serviceName eq 'Virtual Machines' and priceType eq 'Consumption' and skuName eq 'D4s v5'"
            " and meterName eq 'D4s v5' and armRegionName eq 'eastus'"
        )

    def test_linux_is_distinguished_from_windows_and_spot_in_any_case(self):
        rows = [
            row(VM, productName="Virtual Machines Dsv5 Series Windows", retailPrice=0.376),
            row(VM, skuName="D4s v5 Spot", meterName="D4s v5 Spot", retailPrice=0.04),
            row(VM, productName="Virtual Machines Dsv5 Series", retailPrice=0.192),
        ]
        with api(lambda asked, _: page(*([] if "'Reservation'" in asked else rows))) as (url, _):
            done = refresh(price_list(vm=(VM, price())), Api(url), TODAY)
        assert done.price_list.meters["vm"].prices[0].tiers == ((Decimal(0), Decimal("0.192")),)

    def test_all_pages_are_read_and_only_the_meters_rows_used(self):
        others = [
            row(LOGS, skuName="Basic Logs", retailPrice=0.5),
            row(LOGS, armRegionName="westus", retailPrice=9),
            row(LOGS, type="DevTestConsumption", retailPrice=0.1),
        ]
        urls: list[str] = []

        def answer(asked: str, skip: int) -> Any:
            if skip == 0:
                return page(
                    *others, row(LOGS, retailPrice=0), following=f"{urls[0]}/api/retail/prices?$filter=x&$skip=1"
                )
            return page(row(LOGS, tierMinimumUnits=5.0, retailPrice=2.76))

        with api(answer) as (url, asked):
            urls.append(url)
            done = refresh(price_list(logs=(LOGS, price())), Api(url), TODAY)
        assert len(asked) == 2
        assert done.price_list.meters["logs"].prices[0].tiers == (
            (Decimal(0), Decimal(0)),
            (Decimal(5), Decimal("2.76")),
        ), "free tiers are among them"

    def test_the_next_page_may_name_the_default_port(self, monkeypatch: pytest.MonkeyPatch):
        following = "https://prices.azure.com:443/api/retail/prices?$filter=x&$skip=1"

        def opened(link: str, **_: object) -> BytesIO:
            rows = page(row(LOGS)) if link == following else page(following=following)
            return BytesIO(json.dumps(rows[2]).encode())

        monkeypatch.setattr("urllib.request.urlopen", opened)
        done = refresh(price_list(logs=(LOGS, price())), Api(), TODAY)
        assert done.read == 1, "the API's links have :443"

    def test_a_global_price_is_requested_without_a_region(self):
        with api(lambda asked, _: page(row(BALANCER, armRegionName="Global"))) as (url, asked):
            done = refresh(price_list(lb=(BALANCER, price(GLOBAL))), Api(url), TODAY, ["eastus", "japaneast"])
        assert [each.region for each in done.price_list.meters["lb"].prices] == [GLOBAL], "one price for all regions"
        assert "armRegionName" not in asked[0]

    def test_adds_a_region(self):
        def answer(asked: str, _: int) -> Any:
            region = "japaneast" if "'japaneast'" in asked else "eastus"
            return page() if "'Reservation'" in asked else page(row(VM, armRegionName=region))

        with api(answer) as (url, _):
            done = refresh(price_list(vm=(VM, price())), Api(url), TODAY, ["japaneast"])
        assert done.price_list.price("vm", "japaneast")

    @pytest.mark.parametrize("has", [True, False], ids=["its own price", "none"])
    def test_a_region_outside_of_the_price_lists_zones_gets_its_zones_price(self, has: bool):
        rows = [row(LOGS, armRegionName="centralus")] if has else []

        def answer(asked: str, _: int) -> Any:
            return page(*rows) if "'centralus'" in asked else page(row(LOGS, armRegionName="Zone 1"))

        with api(answer) as (url, _):
            done = refresh(price_list(logs=(LOGS, price("Zone 1"))), Api(url), TODAY, ["centralus", "eastus"])
        assert (done.price_list.price("logs", "centralus") is not None) is has, (
            "otherwise the region would never be complete"
        )
        assert {each.region for each in done.price_list.meters["logs"].prices} <= {"Zone 1", "centralus"}
        why = "logs in centralus: no row; wanted one, or the region in a zone of the price list"
        assert done.unread == ([] if has else [why])

    @pytest.mark.parametrize("before", [0, 0.2])
    @pytest.mark.parametrize("region", ["eastus", "japaneast"])
    def test_a_missing_first_tier_is_free_only_if_it_was_free_before(self, before: float, region: str):
        rows = [row(LOGS, tierMinimumUnits=5.0, armRegionName=region)]
        with api(lambda asked, _: page(*(rows if f"'{region}'" in asked else []))) as (url, _):
            done = refresh(price_list(logs=(LOGS, price("eastus", (0, before), (5, 2.3)))), Api(url), TODAY, [region])
        found = done.price_list.price("logs", region)
        if before:
            assert f"logs in {region}: the first tier is from 5.0 units on; wanted one from 0" in done.unread
            assert found is None or found.tiers[0][1], "a price never becomes free by an omission"
        else:
            assert found
            assert found.tiers == ((Decimal(0), Decimal(0)), (Decimal(5), Decimal("0.2")))

    @pytest.mark.parametrize(
        ("rows", "why"),
        [
            ([], "no row"),
            ([row(LOGS, unitOfMeasure="1 TB")], "USD for 1 TB; wanted USD for 1 GB"),
            ([row(LOGS, currencyCode="EUR")], "EUR for 1 GB; wanted USD for 1 GB"),
            ([row(LOGS), row(LOGS, retailPrice=0.3)], "0.2 and 0.3 from 0.0 units on; wanted one"),
        ],
        ids=["none", "unit", "currency", "contradiction"],
    )
    def test_an_answer_without_a_valid_price_keeps_the_old_price(self, rows: list[dict[str, Any]], why: str):
        old = price_list(logs=(LOGS, price()))
        with api(lambda *_: page(*rows)) as (url, _):
            done = refresh(old, Api(url), TODAY)
        assert done.unread == [f"logs in eastus: {why}"]
        assert done.price_list == old, "without a new price, the date stays"

    @pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
    def test_the_retry_waits_as_long_as_the_answer_says(self, status: int):
        slept: list[float] = []
        waits: tuple[dict[str, str], ...] = ({"Retry-After": "7"}, {}, {"Retry-After": "86400"})
        answers = iter([*((status, each, {}) for each in waits), page(row(LOGS))])
        with api(lambda *_: next(answers)) as (url, _):
            done = refresh(price_list(logs=(LOGS, price())), Api(url, slept.append), TODAY)
        assert done.read == 1
        assert slept == [7, 10, 120], "the stated time, ten seconds without one, and never a day"

    @pytest.mark.parametrize("error", [TimeoutError("read"), URLError(TimeoutError("connect"))], ids=str)
    def test_a_request_is_repeated_after_a_timeout(self, error: OSError, monkeypatch: pytest.MonkeyPatch):
        answers: list[Any] = [error, BytesIO(json.dumps(page(row(LOGS))[2]).encode())]
        slept: list[float] = []
        monkeypatch.setattr("urllib.request.urlopen", Mock(side_effect=answers))
        assert refresh(price_list(logs=(LOGS, price())), Api(sleep=slept.append), TODAY).read == 1
        assert slept == [10]

    @pytest.mark.parametrize(
        ("answer", "wanted"),
        [
            ((429, {}, {}), "429 Too Many Requests; wanted 200"),
            ((500, {}, {}), "500 Internal Server Error; wanted 200"),
            ((200, {}, b"<html>"), ": not JSON: "),
            ((200, {}, {"Items": [{"retailPrice": "much"}]}), "no page of the documented shape: Items.0"),
            ((200, {}, {"Items": "none"}), "no page of the documented shape: Items"),
            (page(row(LOGS, tierMinimumUnits=-1)), "no page of the documented shape: Items.0.tierMinimumUnits"),
            (page(following="https://prices:no/page"), "the next page is https://prices:no/page"),
            (page(following="https://elsewhere.invalid/page"), "the next page is https://elsewhere.invalid/page"),
        ],
        ids=["too often", "an error", "not JSON", "no row", "no page", "no tier", "no port", "elsewhere"],
    )
    def test_an_invalid_answer_ends_the_refresh(self, answer: Any, wanted: str):
        with api(lambda *_: answer) as (url, _), pytest.raises(RefreshError, match=wanted):
            refresh(price_list(logs=(LOGS, price())), Api(url, lambda _: None), TODAY)

    def test_endless_pages_are_refused(self):
        urls: list[str] = []
        with api(lambda *_: page(following=f"{urls[0]}/api/retail/prices?$filter=x")) as (url, asked):
            urls.append(url)
            with pytest.raises(RefreshError, match="more than 50 pages"):
                refresh(price_list(logs=(LOGS, price())), Api(url), TODAY)
        assert len(asked) == 50


class TestCommand:
    @pytest.fixture
    def path(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        path = tmp_path / "prices.json"
        write_price_list(price_list(logs=(LOGS, price()), lb=(BALANCER, price(GLOBAL))), path)
        monkeypatch.setattr(command, "read_price_list", lambda: read_price_list(path))
        monkeypatch.setattr(command, "write_price_list", lambda each: write_price_list(each, path))
        return path

    def test_writes_the_price_list(self, path: Path, capsys: pytest.CaptureFixture[str]):
        with api(lambda asked, _: page() if "Balancer" in asked else page(row(LOGS))) as (url, _):
            assert command.main(["--api", url]) == 0
        assert read_price_list(path).price("logs", "eastus") != price()
        assert "not refreshed: lb in Global: no row" in capsys.readouterr().out

    @pytest.mark.parametrize("late", [False, True], ids=["unreachable", "gone half way"])
    def test_without_an_answer_the_price_list_is_unchanged(
        self, path: Path, capsys: pytest.CaptureFixture[str], late: bool
    ):
        before = path.read_bytes()
        if late:
            answers = iter([page(row(LOGS)), (403, {}, {})])
            with api(lambda *_: next(answers)) as (url, _):
                assert command.main(["--api", url]) == 1
        else:
            with socket.socket() as closed:
                closed.bind(("127.0.0.1", 0))
                url = f"http://127.0.0.1:{closed.getsockname()[1]}"
                assert command.main(["--api", url]) == 1
        said = capsys.readouterr().err
        assert said.startswith(f"error: {url}/api/retail/prices?"), "one message"
        assert said.count("\n") == 1
        assert said.endswith("prices.json stays as it was\n")
        assert path.read_bytes() == before

    def test_an_unknown_region_is_refused_before_anything_is_asked(
        self, path: Path, capsys: pytest.CaptureFixture[str]
    ):
        assert command.main(["moon", "--api", "http://192.0.2.1"]) == 1
        assert "error: region moon: unknown; wanted one of australiacentral" in capsys.readouterr().err
