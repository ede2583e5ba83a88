"""The members and their entitlements, as the infrastructure wrote them to the authority's vault."""

from dataclasses import dataclass
from typing import Any, Protocol

from azure.keyvault.secrets.aio import SecretClient
from pydantic import TypeAdapter
from typing_extensions import override

from contract.authority_configuration import AuthorityConfiguration
from contract.legal_name import LegalName, canonical_name
from contract.secrets import VaultSecret
from host.errors import UnavailableError
from host.vault import BankVault, Peers, parse_enrolment_key


@dataclass(frozen=True)
class Entitlement:
    """The names that may be certified for a member."""

    member: str
    bank: str
    """The bank's legal name in canonical form, as agreed with the member out of band."""
    legal_names: frozenset[str]
    """Legal names of its nodes in canonical form, from its card."""
    card: str | None
    """Fingerprint of the key that signs its card; None for the authority's own member."""

    def refusal(self, legal_name: str) -> str | None:
        """Why a canonical name is not certified for the member; None if it may be."""
        if legal_name not in self.legal_names:
            return f"{legal_name} is not on the card of {self.member}; wanted one of its nodes"
        # Exact comparison: applications on the ledger tell banks apart in the same way.
        if str(LegalName.bank_of(legal_name)) != self.bank:
            return f"{legal_name} is none of {self.bank}, which was agreed with {self.member}; wanted that and an OU"
        return None


class Members(Protocol):
    """The members that may send requests."""

    def look_again(self) -> None:
        """Ask the vault again at the next question, however short the time since the last one."""

    async def peers(self) -> Peers:
        """All members except the authority's own. Raises UnavailableError, DamagedError."""

    async def key(self, member: str) -> bytes | None:
        """The enrolment key agreed with a member; None for an unknown one.

        Raises:
            UnavailableError: the vault does not answer.
        """

    async def entitlement(self, member: str) -> Entitlement:
        """The names that may be certified for a member; none for an unknown one.

        Raises:
            UnavailableError: the vault does not answer, or does not have card and name yet.
        """


class VaultMembers(BankVault, Members):
    """`Members` on the authority's vault."""

    def __init__(self, client: SecretClient, own: AuthorityConfiguration, **options: Any) -> None:
        """The vault has no card of the authority's own bank. `options` are those of `BankVault`."""
        super().__init__(client, **options)
        self._own = Entitlement(own.member, own.subject, frozenset(own.legal_names), None)

    @override
    async def key(self, member: str) -> bytes | None:
        text = await self._read(VaultSecret.ENROLMENT_KEYS)
        if text is None:
            raise UnavailableError(f"{self._named(VaultSecret.ENROLMENT_KEYS)} is not there yet")
        keys = self._parse(VaultSecret.ENROLMENT_KEYS, TypeAdapter(dict[str, str]), text)
        what = f"{self._named(VaultSecret.ENROLMENT_KEYS)}, of {member}"
        return parse_enrolment_key(keys[member], what) if member in keys else None

    @override
    async def entitlement(self, member: str) -> Entitlement:
        if member == self._own.member:
            return self._own
        peers = await self.peers()
        if member not in peers.names:
            return Entitlement(member, "", frozenset(), None)
        if member not in peers.cards:
            raise UnavailableError(f"the card of {member} can't be read")
        card, bank = peers.cards[member], (await self._agreed()).get(member)
        if bank is None:
            raise UnavailableError(f"{self._named(VaultSecret.AGREED_NAMES)} has no legal name of {member} yet")
        names = frozenset(_canonical(name) for name in card.addresses)
        return Entitlement(member, bank, names, card.key_fingerprint)

    async def _agreed(self) -> dict[str, str]:
        text = await self._read(VaultSecret.AGREED_NAMES)
        return {} if text is None else self._parse(VaultSecret.AGREED_NAMES, TypeAdapter(dict[str, str]), text)


def _canonical(legal_name: str) -> str:
    try:
        return canonical_name(legal_name)
    except ValueError:
        # No Corda node requests a name that is invalid in Corda.
        return legal_name
