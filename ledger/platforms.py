"""The platforms that there are, by name."""

from ledger.corda import CORDA
from ledger.platform import Platform, PlatformName

PLATFORMS: dict[PlatformName, Platform] = {PlatformName.CORDA: CORDA}
