"""The table of regions is written from pages in the form of Microsoft's documentation."""

import json
from pathlib import Path

import pytest

from lab.azure import read_regions
from stack import regions

IMAGE = ':::image type="content" source="media/icon-{}.svg" alt-text="Yes" border="false":::'
CHECK, SOON, RESTRICTED = (IMAGE.format(each) for each in ("checkmark", "region-coming-soon", "region-restricted"))
OPEN = ":white_check_mark: &nbsp;"
HEAD = "---\nms.date: 02/01/2026\n---\n"
REGIONS = f"""{HEAD}
| Symbol | Description |
|---|---|
| {SOON} | Coming soon |

| Region | Availability zone support | Paired region | Physical location | Geography | Programmatic name |
|---|---|---|---|---|---|
| North Land | {CHECK} | {RESTRICTED} South Land | A | B | northland |
| {RESTRICTED} South Land | | North Land | A | B | southland |
| {SOON} East Land 2 | {CHECK} | N/A | A | B | eastland2 |
| Old Land | | West Land | A | B | oldland |

| Region | Availability zone support | Paired region | Physical location | Geography | Programmatic name |
|---|---|---|---|---|---|
| Again | | N/A | A | B | again |
"""
POSTGRESQL = f"""{HEAD}
| Region | Intel Compute | AMD Compute | Zone-Redundant HA | Same-Zone HA | Geo-Redundant backup |
| --- | --- | --- | --- | --- | --- |
| North Land * | :white_check_mark: (v3/v5/v6) | :x: | :white_check_mark: $ ** | :white_check_mark: | :x: |
| East Land 9 | :white_check_mark: (v5) | :x: | {OPEN} | :white_check_mark: | :white_check_mark: |
| Old Land | :white_check_mark: (v4) | :x: | :x: | :white_check_mark: | :white_check_mark: |
"""
PREMIUM_ZRS = f"""{HEAD}
## LRS support for SSD Azure file shares

- (Old) Old Land

## ZRS support for SSD Azure file shares

- (North) North Land
- (East) East Land 2

## See also

- (No) Again
"""


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Writes the table from three pages; returns the exit status and the file."""
    file = tmp_path / "regions.json"
    monkeypatch.setattr(read_regions, "TABLE_FILE", file)

    def write(*pages: str) -> tuple[int, Path]:
        places = []
        for name, text in zip(read_regions.SOURCES, pages, strict=True):
            (tmp_path / name).write_text(text, encoding="utf-8")
            places.append(str(tmp_path / name))
        return read_regions.main(places), file

    return write


def test_each_open_region_is_read_with_what_it_offers(written) -> None:
    status, file = written(REGIONS, POSTGRESQL, PREMIUM_ZRS)
    assert status == 0
    table = regions._read(json.loads(file.read_text(encoding="utf-8")))
    assert set(table.by_name) == {"northland", "eastland2", "oldland"}, "a restricted region takes no new member"
    north, east, old = (table.by_name[name] for name in ("northland", "eastland2", "oldland"))
    assert (north.zones, north.pair) == (("1", "2", "3"), "southland"), "the pair may be restricted"
    assert north.postgresql == regions.PostgresqlOffer((3, 5, 6), regions.ZoneRedundancy.CLOSED, False)
    assert (north.premium_zrs, east.premium_zrs, old.premium_zrs) == (True, True, False), "LRS alone is not enough"
    assert (east.is_open, east.pair, east.postgresql) == (False, None, None)
    assert (old.zones, old.pair) == ((), "westland"), "a paired region without a row gets Azure's name"
    assert old.postgresql == regions.PostgresqlOffer((4,), regions.ZoneRedundancy.NONE, True)
    assert table.postgresql_date.isoformat() == "2026-02-01", "a warning shows the table's date"


@pytest.mark.parametrize(
    ("pages", "wanted"),
    [
        (("", POSTGRESQL, PREMIUM_ZRS), "no region was found"),
        ((REGIONS, "<html>", PREMIUM_ZRS), "no PostgreSQL offer was found"),
        ((REGIONS, POSTGRESQL, PREMIUM_ZRS.replace("## ZRS", "## Zone")), "no region with Premium_ZRS was found"),
        ((REGIONS.replace("checkmark", "tick"), POSTGRESQL, PREMIUM_ZRS), "no region with zones was found"),
        ((REGIONS, POSTGRESQL.replace(OPEN, ":x:"), PREMIUM_ZRS), "no zone-redundant PostgreSQL was found"),
        (
            (REGIONS, POSTGRESQL.replace(":white_check_mark: |\n", ":tick: |\n"), PREMIUM_ZRS),
            "no geo-redundant backup was found",
        ),
        ((REGIONS, POSTGRESQL.replace("ms.date", "date"), PREMIUM_ZRS), "has no ms.date"),
        ((REGIONS.replace("Paired region", "Pair"), POSTGRESQL, PREMIUM_ZRS), "no column 'Paired region'"),
    ],
)
def test_a_page_of_another_form_changes_nothing(written, capsys, pages, wanted) -> None:
    status, file = written(*pages)
    assert status == 1
    assert wanted in capsys.readouterr().err
    assert not file.exists(), "half a table would refuse existing regions"


def test_a_missing_page_is_named(capsys) -> None:
    assert read_regions.main(["no-such-page", "b", "c"]) == 1
    assert "no-such-page can't be read" in capsys.readouterr().err
    assert read_regions.main(["one"]) == 2, "three pages or none"


def test_the_committed_table_is_from_the_published_pages() -> None:
    document = json.loads(regions.TABLE_FILE.read_text(encoding="utf-8"))
    assert {key: each["page"] for key, each in document["sources"].items()} == read_regions.SOURCES
    assert regions.TABLE_FILE.read_text(encoding="utf-8") == read_regions._write(document), "the command wrote it"
