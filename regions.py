"""What each public Azure region offers to this program: availability zones and a paired region.

Source: learn.microsoft.com/azure/reliability/regions-list, as known on 2026-11-22. A region that Azure
opens later is refused until a line is added here: better than a deployment that fails half way.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Region:
    """One Azure region, by the name that Azure Resource Manager uses."""

    name: str
    zones: tuple[str, ...]
    """Availability zones by number; empty where the region has none."""
    pair: str | None
    """The paired region, which geo-redundant storage copies to; None where there is none."""


_ALL_ZONES = ("1", "2", "3")

_PAIRS_WITH_ZONES = {
    "australiaeast": "australiasoutheast",
    "brazilsouth": "southcentralus",
    "canadacentral": "canadaeast",
    "centralindia": "southindia",
    "centralus": "eastus2",
    "eastasia": "southeastasia",
    "eastus": "westus",
    "eastus2": "centralus",
    "francecentral": "francesouth",
    "germanywestcentral": "germanynorth",
    "japaneast": "japanwest",
    "japanwest": "japaneast",
    "koreacentral": "koreasouth",
    "northeurope": "westeurope",
    "norwayeast": "norwaywest",
    "southafricanorth": "southafricawest",
    "southcentralus": "northcentralus",
    "southeastasia": "eastasia",
    "swedencentral": "swedensouth",
    "switzerlandnorth": "switzerlandwest",
    "uaenorth": "uaecentral",
    "uksouth": "ukwest",
    "westeurope": "northeurope",
    "westus2": "westcentralus",
    "westus3": "eastus",
}
_ZONES_WITHOUT_PAIR = (
    "austriaeast",
    "chilecentral",
    "indonesiacentral",
    "israelcentral",
    "italynorth",
    "malaysiawest",
    "mexicocentral",
    "newzealandnorth",
    "polandcentral",
    "qatarcentral",
    "spaincentral",
)
_PAIRS_WITHOUT_ZONES = {
    "australiasoutheast": "australiaeast",
    "canadaeast": "canadacentral",
    "koreasouth": "koreacentral",
    "northcentralus": "southcentralus",
    "southindia": "centralindia",
    "ukwest": "uksouth",
    "westcentralus": "westus2",
    "westus": "eastus",
}

REGIONS: dict[str, Region] = {
    region.name: region
    for region in (
        *(Region(name, _ALL_ZONES, pair) for name, pair in _PAIRS_WITH_ZONES.items()),
        *(Region(name, _ALL_ZONES, None) for name in _ZONES_WITHOUT_PAIR),
        *(Region(name, (), pair) for name, pair in _PAIRS_WITHOUT_ZONES.items()),
    )
}
