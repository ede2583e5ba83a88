"""Writes `stack/regions.json` from Microsoft's pages in Markdown, each a file or an https:// URL.

`python -m lab.azure.read_regions REGIONS POSTGRESQL PREMIUM_ZRS`; without arguments it reads the published pages. If
a page does not have the expected form, the file is not changed.
"""

import json
import re
import sys
import urllib.request
from collections.abc import Iterator
from datetime import datetime
from http.client import HTTPException
from pathlib import Path
from typing import Any

from stack.regions import TABLE_FILE, ZoneRedundancy

_RAW = "https://raw.githubusercontent.com/MicrosoftDocs"
SOURCES = {
    "regions": f"{_RAW}/reliability-docs/main/articles/reliability/regions-list.md",
    "postgresql": f"{_RAW}/azure-databases-docs/main/articles/postgresql/includes/regions-table.md",
    "premiumZrs": f"{_RAW}/azure-docs/main/articles/storage/files/redundancy-premium-file-shares.md",
}
"""Microsoft's tables in Markdown, by what is read from each."""
_SECONDS = 60
_YES = "white_check_mark"
_CLOSED = "$"


class PageError(Exception):
    """A page can't be read, or does not have the expected form."""


def read_page(place: str) -> str:
    """The text of a page, given as a file's path or an https:// URL.

    Raises:
        PageError: the page can't be read.
    """
    try:
        if not place.startswith("https://"):
            return Path(place).read_text(encoding="utf-8")
        with urllib.request.urlopen(place, timeout=_SECONDS) as answer:  # noqa: S310
            text: str = answer.read().decode("utf-8")
            return text
    except (OSError, ValueError, HTTPException) as error:
        raise PageError(f"{place} can't be read: {error}") from error


def table_of(pages: dict[str, str], places: dict[str, str]) -> dict[str, Any]:
    """The content of `stack/regions.json`.

    Args:
        pages: the pages' Markdown, by the keys of `SOURCES`.
        places: the pages' URLs by the same keys, for the document and for messages.

    Raises:
        PageError: a page does not have the expected form.
        KeyError: a table lacks a column.
    """
    offers = dict(_postgresql_offers(pages["postgresql"]))
    premium = set(_premium_zrs(pages["premiumZrs"]))
    regions = {name: found for name, found in _regions(pages["regions"]) if not found.pop("restricted")}
    for what, found in (("region", regions), ("PostgreSQL offer", offers), ("region with Premium_ZRS", premium)):
        if not found:
            raise PageError(f"no {what} was found; wanted the table of {', '.join(places.values())}")
    for what, marks in (
        ("region with zones", [each["zones"] for each in regions.values()]),
        ("zone-redundant PostgreSQL", [each["zoneRedundant"] == ZoneRedundancy.OPEN for each in offers.values()]),
        ("geo-redundant backup", [each["geoRedundantBackup"] for each in offers.values()]),
    ):
        if not any(marks):
            raise PageError(
                f"no {what} was found: its mark may be another one now; wanted {', '.join(places.values())}"
            )
    for name, region in regions.items():
        region["postgresql"] = offers.get(name)
        region["premiumZrs"] = name in premium
    return {
        "sources": {key: {"page": places[key], "date": _date(text, places[key])} for key, text in pages.items()},
        "regions": dict(sorted(regions.items())),
    }


def _date(text: str, place: str) -> str:
    found = re.search(r"^ms\.date: *(\d\d/\d\d/\d{4})", text, flags=re.MULTILINE)
    if not found:
        raise PageError(f"{place} has no ms.date; wanted the page's Markdown with its metadata")
    return datetime.strptime(found[1], "%m/%d/%Y").date().isoformat()  # noqa: DTZ007


def _rows(text: str, first: str) -> Iterator[dict[str, str]]:
    """The rows of the page's first table whose first column has this title, by column title."""
    lines = iter(text.splitlines())
    for line in lines:
        titles = _cells(line)
        if titles[:1] == [first]:
            next(lines, None)
            break
    for line in lines:
        if not line.startswith("|"):
            return
        yield dict(zip(titles, _cells(line), strict=False))


def _cells(line: str) -> list[str]:
    return [each.strip() for each in line.strip().strip("|").split("|")]


def _name(cell: str) -> str:
    """The region's name in Azure Resource Manager: `swedencentral` for `Sweden Central` with any icons and marks."""
    return re.sub(r":::.*?:::|[^A-Za-z0-9]", "", cell).lower()


def _regions(text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    rows = list(_rows(text, "Region"))
    names = {_name(row["Region"]): row["Programmatic name"] for row in rows}
    for row in rows:
        pair = _name(row["Paired region"].replace("N/A", ""))
        found: dict[str, Any] = {
            "zones": "checkmark" in row["Availability zone support"],
            "pair": names.get(pair, pair) or None,
            "restricted": "region-restricted" in row["Region"],
        }
        if "coming-soon" in row["Region"]:
            found["comingSoon"] = True
        yield row["Programmatic name"], found


def _postgresql_offers(text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for row in _rows(text, "Region"):
        zone_redundant = row["Zone-Redundant HA"]
        yield (
            _name(row["Region"]),
            {
                "generations": sorted(int(each) for each in re.findall(r"v(\d)", row["Intel Compute"])),
                "zoneRedundant": ZoneRedundancy.NONE
                if _YES not in zone_redundant
                else ZoneRedundancy.CLOSED
                if _CLOSED in zone_redundant
                else ZoneRedundancy.OPEN,
                "geoRedundantBackup": _YES in row["Geo-Redundant backup"],
            },
        )


def _premium_zrs(text: str) -> Iterator[str]:
    _, found, section = text.partition("\n## ZRS support for SSD Azure file shares\n")
    if found:
        for area_and_name in re.findall(r"^- \([^)]*\) *(.+)$", section.split("\n## ")[0], flags=re.MULTILINE):
            yield _name(area_and_name)


def main(arguments: list[str]) -> int:
    """Read the pages and write the table; returns the exit status."""
    if len(arguments) not in (0, len(SOURCES)):
        print(f"error: {len(arguments)} pages; wanted {', '.join(SOURCES)}, or none", file=sys.stderr)
        return 2
    places = dict(zip(SOURCES, arguments or SOURCES.values(), strict=True))
    try:
        document = table_of({key: read_page(place) for key, place in places.items()}, SOURCES)
    except KeyError as error:
        print(f"error: no column {error}; wanted the tables as on {', '.join(SOURCES.values())}", file=sys.stderr)
        return 1
    except PageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    TABLE_FILE.write_text(_write(document), encoding="utf-8")
    return 0


def _write(document: dict[str, Any]) -> str:
    """JSON with a line for each region."""
    sections = [
        f" {json.dumps(section)}: {{\n"
        + ",\n".join(f"  {json.dumps(name)}: {json.dumps(found)}" for name, found in content.items())
        + "\n }"
        for section, content in document.items()
    ]
    return "{\n" + ",\n".join(sections) + "\n}\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
