"""Who the members are, by what the infrastructure wrote into the authority's vault."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import TypeAdapter

from agent.fence import UnavailableError
from agent.vault import ENROLMENT_KEYS, BankVault, parse_enrolment_key
from ledger.corda import parse_legal_name

if TYPE_CHECKING:
    from azure.keyvault.secrets.aio import SecretClient


class Members(Protocol):
    """The members that may ask."""

    async def key(self, member: str) -> bytes | None:
        """The enrolment key agreed with a member; None for a stranger.

        Raises:
            UnavailableError: the vault does not answer.
        """

    async def legal_names(self, member: str) -> frozenset[str]:
        """The legal names of a member's nodes, in canonical form.

        Raises:
            UnavailableError: the vault does not answer.
        """


class VaultMembers(BankVault):
    """Implements `Members`."""

    def __init__(self, client: "SecretClient", own: str, own_names: Iterable[str], **options: Any) -> None:
        """Of the authority's own bank's nodes no card in the vault tells; `options` as of `BankVault`."""
        super().__init__(client, **options)
        self._own, self._own_names = own, frozenset(own_names)

    async def key(self, member: str) -> bytes | None:
        """See `Members`."""
        text = await self._read(ENROLMENT_KEYS)
        if text is None:
            raise UnavailableError(f"{self._named(ENROLMENT_KEYS)} is not there yet")
        keys = self._parse(ENROLMENT_KEYS, TypeAdapter(dict[str, str]), text)
        what = f"{self._named(ENROLMENT_KEYS)}, of {member}"
        return parse_enrolment_key(keys[member], what) if member in keys else None

    async def legal_names(self, member: str) -> frozenset[str]:
        """See `Members`."""
        if member == self._own:
            return self._own_names
        peers = await self.peers()
        if member in peers.cards:
            return frozenset(_canonical(name) for name in peers.cards[member].addresses)
        if member in peers.names:
            raise UnavailableError(f"the card of {member} can't be read")
        return frozenset()


def _canonical(legal_name: str) -> str:
    try:
        return ", ".join(f"{key}={value}" for key, value in parse_legal_name(legal_name).items())
    except ValueError:
        # A name of no Corda node is asked for by none.
        return legal_name
