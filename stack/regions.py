"""The offer of each public Azure region, according to Microsoft's pages: `regions.json`.

`make regions` writes the file from those pages. A region that they do not name is refused: better than a deployment
that fails half way.
"""

import json
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Any

from components.ledger_database import NEWEST_GENERATION
from contract.models import StrictModel

TABLE_FILE = Path(__file__).with_name("regions.json")
_ALL_ZONES = ("1", "2", "3")


class ZoneRedundancy(StrEnum):
    """Whether a region accepts a PostgreSQL server with a standby in another zone."""

    OPEN = "open"
    CLOSED = "closed"
    """No new ones at present; existing ones continue."""
    NONE = "none"


@dataclass(frozen=True)
class PostgresqlOffer:
    """The offer of Azure Database for PostgreSQL in a region."""

    generations: tuple[int, ...]
    """Generations of its Intel VMs: 5 is `Standard_D2ds_v5`."""
    zone_redundant: ZoneRedundancy
    geo_redundant_backup: bool


class ServerOffer(StrictModel):
    """A region's offer when a PostgreSQL server was created: later offers change no live server."""

    zone_redundant: bool
    """Whether its standby may be in another zone."""
    geo_redundant_backup: bool
    """Whether its backups may be in the paired region."""
    generation: int
    """Generation of its VMs: the newest one up to 5, which most regions have."""


@dataclass(frozen=True)
class Region:
    """One Azure region, by the name that Azure Resource Manager uses."""

    name: str
    zones: tuple[str, ...]
    """Availability zones by number; empty if the region has none."""
    pair: str | None
    """The paired region, to which geo-redundant storage copies; None if there is none."""
    postgresql: PostgresqlOffer | None
    """None if the service's page does not name the region."""
    premium_zrs: bool
    """Whether a premium file share may have copies in three zones."""
    is_open: bool
    """Whether Azure lists the region as open, and not as coming soon."""

    @property
    def server_offer(self) -> ServerOffer:
        """The offer to a PostgreSQL server that is created now."""
        offer = self.postgresql
        generations = [each for each in (offer.generations if offer else ()) if each <= NEWEST_GENERATION]
        return ServerOffer(
            zone_redundant=bool(self.zones and offer and offer.zone_redundant is ZoneRedundancy.OPEN),
            geo_redundant_backup=bool(self.pair and offer and offer.geo_redundant_backup),
            generation=max(generations, default=NEWEST_GENERATION),
        )


@dataclass(frozen=True)
class Regions:
    """The regions by name, and the dates of the pages that they were read from."""

    by_name: dict[str, Region]
    regions_date: date
    postgresql_date: date
    premium_zrs_date: date


def _read(document: dict[str, Any]) -> Regions:
    dates = {name: date.fromisoformat(source["date"]) for name, source in document["sources"].items()}
    return Regions(
        {name: _region(name, found) for name, found in document["regions"].items()},
        dates["regions"],
        dates["postgresql"],
        dates["premiumZrs"],
    )


def _region(name: str, found: dict[str, Any]) -> Region:
    offer = found.get("postgresql")
    return Region(
        name,
        _ALL_ZONES if found["zones"] else (),
        found.get("pair"),
        offer
        and PostgresqlOffer(
            tuple(offer["generations"]), ZoneRedundancy(offer["zoneRedundant"]), offer["geoRedundantBackup"]
        ),
        found["premiumZrs"],
        not found.get("comingSoon", False),
    )


@dataclass(frozen=True)
class Lacking:
    """The regions that a page of Microsoft's leaves out, and the page's date. `make regions` does not read it."""

    regions: frozenset[str]
    date: date


# Version 6.4.0 of the policy in components.monitoring: github.com/Azure/azure-policy/issues/1577.
WITHOUT_COLLECTION = Lacking(
    frozenset(
        "austriaeast belgiumcentral chilecentral denmarkeast indonesiacentral malaysiawest newzealandnorth".split()
    ),
    date(2026, 5, 28),
)
# With zones and a pair, but without Standard_GZRS: learn.microsoft.com/azure/storage/common/redundancy-regions-gzrs.
WITHOUT_GZRS = Lacking(frozenset({"japanwest"}), date(2024, 2, 12))

TABLE = _read(json.loads(TABLE_FILE.read_text(encoding="utf-8")))
REGIONS = TABLE.by_name
