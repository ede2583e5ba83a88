"""Assigns connections to pools by the address ranges on the members' cards: each has its own slots in a server."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from ipaddress import IPv4Address, IPv4Network

from host.service import in_background, repeat
from host.vault import Peers

UNKNOWN_MEMBER = "unknown"
"""The pool of every address outside all members' ranges."""
READ_SECONDS = 20.0
"""Interval of reading the peers; `BankVault` caches them."""


class MemberPools:
    """Names the pool of an address: one for the bank's own network, one per peer, one for all others."""

    def __init__(self, own: IPv4Network, peers: Callable[[], Awaitable[Peers]]) -> None:
        """The peers' ranges are known once `read` has succeeded."""
        self._own, self._read_peers = own, peers
        self._ranges: Mapping[str, IPv4Network] = {}

    def pool_of(self, address: str) -> str:
        """The pool's name for an IPv4 address."""
        found = IPv4Address(address)
        if found in self._own:
            return "own"
        name = next((name for name, network in self._ranges.items() if found in network), None)
        return UNKNOWN_MEMBER if name is None else f"peer {name}"

    async def read(self) -> None:
        """Read the peers' ranges; a peer whose card is unreadable keeps its last range. Raises ResourceError."""
        peers = await self._read_peers()
        remaining = {name: network for name, network in self._ranges.items() if name in peers.names}
        self._ranges = remaining | {name: card.address_space for name, card in peers.cards.items()}

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[None]:
        """Read the ranges periodically for the time of the block."""
        async with in_background(repeat("the peers' ranges", self.read, READ_SECONDS)):
            yield
