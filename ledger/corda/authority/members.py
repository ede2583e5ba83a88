"""The members and their entitlements, as the infrastructure wrote them to the authority's vault."""

import asyncio
import json
import math
from dataclasses import dataclass, replace
from typing import Any, Protocol

from azure.keyvault.secrets.aio import SecretClient
from pydantic import TypeAdapter
from typing_extensions import override

from contract.authority_configuration import AuthorityConfiguration
from contract.fingerprint import fingerprint
from contract.legal_name import LegalName, canonical_if_x500
from contract.secrets import VaultSecret
from host.errors import UnavailableError
from host.http import ANSWER_SECONDS
from host.vault import BankVault, Peers, parse_enrolment_key

LOOK_AGAIN_SECONDS = 30
"""Shortest time between two reads for requests that are not proven: anybody in a member's network may send these,
and the vault logs each read."""
_VAULT_SECONDS = ANSWER_SECONDS / 2
"""Time limit of a read: a member whose request waits for one still gets its answer."""


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
        # Exact comparison, as by applications on the ledger.
        if str(LegalName.bank_of(legal_name)) != self.bank:
            agreed = f"{self.bank}, which was agreed with {self.member}"
            return f"{legal_name} is not a name of {agreed}; wanted that and an OU"
        return None


class Members(Protocol):
    """The members that may send requests."""

    async def look_again(self) -> bool:
        """Read the enrolment keys again after `key` gave none that proves a request.

        Does so once in `LOOK_AGAIN_SECONDS` at most.

        Returns:
            whether this call read them: what another call reads may be older than the request.

        Raises:
            UnavailableError: the vault does not answer.
        """

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
        super().__init__(client, **{"request_seconds": _VAULT_SECONDS} | options)
        self._own = Entitlement(own.member, own.subject, frozenset(own.legal_names), None)
        self._looking, self._looked = asyncio.Lock(), -math.inf
        self._keys: str | None = None
        """The enrolment keys when they were last asked for."""

    @override
    async def look_again(self) -> bool:
        async with self._looking:
            began = self._now()
            if began < self._looked + LOOK_AGAIN_SECONDS:
                return False
            self._looked = began
            text = await self._ask(VaultSecret.ENROLMENT_KEYS)
            if text is not None:
                # Not by `_read`: known members would wait for it. A new entry, since one in flight may be older.
                known = self._known[VaultSecret.ENROLMENT_KEYS]
                self._known[VaultSecret.ENROLMENT_KEYS] = replace(known, value=text, due=began + self._poll_seconds)
            return True

    @override
    async def key(self, member: str) -> bytes | None:
        text = await self._there(VaultSecret.ENROLMENT_KEYS)
        if text != self._keys:
            self._keys = text
            self._expire_the_rest()
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
        names = frozenset(canonical_if_x500(name) for name in card.addresses)
        return Entitlement(member, bank, names, fingerprint(json.loads(card.document)["signingKey"]))

    def _expire_the_rest(self) -> None:
        """Have cards and agreed names read again: one update writes the key, card and name of a member that joins."""
        # New entries, since a read in flight may be older.
        self._known = {
            secret: known if secret == VaultSecret.ENROLMENT_KEYS else replace(known, due=-math.inf)
            for secret, known in self._known.items()
        }

    async def _agreed(self) -> dict[str, str]:
        text = await self._read(VaultSecret.AGREED_NAMES)
        return {} if text is None else self._parse(VaultSecret.AGREED_NAMES, TypeAdapter(dict[str, str]), text)
