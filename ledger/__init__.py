"""The ledger platforms by name, each a folder here.

A platform's `__init__` is pure data and imports only `contract`: the infrastructure program loads it. Code for VMs is
named in the data as text and loaded there.
"""

from contract.platform import Platform
from ledger.corda import CORDA

PLATFORMS: dict[str, Platform] = {platform.name: platform for platform in (CORDA,)}
"""All platforms that a member can choose."""
