"""Secrets that a bank's VMs read from its vault: cards of peers and bank, enrolment key, RPC users.

The infrastructure writes these secrets under the names of `contract.secrets`, and checks them before.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Annotated, TypeVar

from azure.core.exceptions import ResourceNotFoundError
from azure.keyvault.secrets.aio import SecretClient
from pydantic import Field, TypeAdapter, ValidationError

from contract.models import OpenModel, first_fault
from contract.secrets import RpcAccount, VaultSecret
from contract.timing import SECRET_POLL_SECONDS
from host.azure import REQUEST_SECONDS, answering, vault_codes
from host.errors import DamagedError, UnavailableError

SECRET_RETRY_SECONDS = 15
"""Pause after a request that failed."""
_KEY_BYTES = 32

_T = TypeVar("_T")

log = logging.getLogger(__name__)


class SecretDamagedError(DamagedError):
    """A secret is not what the infrastructure writes. The message never quotes it."""


class _Node(OpenModel, hide_input_in_errors=True):
    legal_name: str
    p2p_address: Annotated[str, Field(alias="p2pAddress")]


class _Card(OpenModel, hide_input_in_errors=True):
    """The part of a membership card that an agent needs; its signature was verified at deployment."""

    name: str
    address_space: IPv4Network
    nodes: tuple[_Node, ...]
    network_info_url: str
    signing_key: str


@dataclass(frozen=True)
class Card:
    """A peer's membership card."""

    name: str
    addresses: Mapping[str, str]
    """P2P addresses (HOST:PORT) by legal name."""
    network_info_url: str
    address_space: IPv4Network
    """The member's range, from which its VMs connect."""
    document: bytes
    """The card as it was signed."""


@dataclass(frozen=True)
class Peers:
    """A bank's peers."""

    names: frozenset[str]
    """All peers; a name that is missing here is no longer a peer."""
    cards: Mapping[str, Card]
    """Cards that could be read, by name."""


@dataclass
class _Known:
    value: str | None = None
    """None: the vault has no such secret."""
    ever: bool = False
    due: float = 0.0


class BankVault:
    """Client of the secrets that the infrastructure writes for the bank's VMs. Values are cached through an outage.

    Turn the Azure client's own retries off.
    """

    def __init__(
        self,
        client: SecretClient,
        *,
        poll_seconds: float = SECRET_POLL_SECONDS,
        request_seconds: float = REQUEST_SECONDS,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client, self._now = client, now
        self._poll_seconds, self._request_seconds = poll_seconds, request_seconds
        self._known: dict[str, _Known] = {}
        self._asking: dict[str, asyncio.Lock] = {}
        self._silent_until = 0.0
        """After a failure: when cached secrets are requested again."""

    async def check(self) -> None:
        """Send one request.

        Raises:
            UnavailableError: the vault does not answer.
        """
        await self._ask(VaultSecret.CARD)

    async def peers(self) -> Peers:
        """The bank's peers.

        Raises:
            UnavailableError: the list of peers could never be read, or does not exist yet.
            SecretDamagedError: the secret is no such list.
        """
        # An empty list would make nodes remove their peers.
        text = await self._there(VaultSecret.PEERS)
        names = self._parse(VaultSecret.PEERS, TypeAdapter(dict[str, str]), text)
        cards: dict[str, Card] = {}
        for name, secret in names.items():
            try:
                cards[name] = await self._card(name, secret)
            except (UnavailableError, SecretDamagedError) as error:
                log.warning("card of %s: %s", name, error)
        return Peers(frozenset(names), cards)

    async def card(self) -> bytes | None:
        """The bank's own card; None if the vault has none yet.

        Raises:
            UnavailableError: the vault does not answer.
            SecretDamagedError: the secret is no valid text.
        """
        text = await self._read(VaultSecret.CARD)
        return None if text is None else text.encode()

    async def enrolment_key(self) -> bytes:
        """The key agreed between the bank and the network's authority.

        Raises:
            UnavailableError: the vault does not answer, or the secret does not exist yet.
            SecretDamagedError: the secret is no such key.
        """
        text = await self._there(VaultSecret.ENROLMENT_KEY)
        return parse_enrolment_key(text, self._named(VaultSecret.ENROLMENT_KEY))

    async def rpc_users(self) -> Sequence[RpcAccount]:
        """The RPC users that nodes admit; empty if the vault has no such secret.

        Raises:
            UnavailableError: the vault does not answer.
            SecretDamagedError: the secret is no such list.
        """
        text = await self._read(VaultSecret.RPC_USERS)
        return () if text is None else self._parse(VaultSecret.RPC_USERS, TypeAdapter(tuple[RpcAccount, ...]), text)

    async def _card(self, name: str, secret: str) -> Card:
        text = await self._there(secret)
        card = self._parse(secret, TypeAdapter(_Card), text)
        if card.name != name:
            raise SecretDamagedError(f"{self._named(secret)} is the card of {card.name!r}; wanted that of {name}")
        addresses = {node.legal_name: node.p2p_address for node in card.nodes}
        return Card(name, addresses, card.network_info_url, card.address_space, text.encode())

    async def _there(self, secret: str) -> str:
        """As `_read`. Raises UnavailableError: the vault has no such secret yet."""
        if (text := await self._read(secret)) is None:
            raise UnavailableError(f"{self._named(secret)} is not there yet")
        return text

    async def _read(self, secret: str) -> str | None:
        """A secret's value, cached for `poll_seconds`, and longer while the vault does not answer."""
        known = self._known.setdefault(secret, _Known())
        async with self._asking.setdefault(secret, asyncio.Lock()):
            if self._now() < known.due or (known.ever and self._now() < self._silent_until):
                return known.value
            try:
                value = await self._ask(secret)
            except UnavailableError as error:
                if not known.ever:
                    raise
                log.warning("%s; goes on with what it was", error)
                self._silent_until = self._now() + min(SECRET_RETRY_SECONDS, self._poll_seconds)
                return known.value
            if value is None and known.value is not None:
                log.warning("%s is gone; goes on with what it was", self._named(secret))
                value = known.value
            known.value, known.ever, known.due = value, True, self._now() + self._poll_seconds
            return value

    async def _ask(self, secret: str) -> str | None:
        async with answering(self._named(secret), self._request_seconds):
            try:
                value = (await self._client.get_secret(secret)).value or ""
                # A lone surrogate, which JSON may hold, can't be encoded.
                value.encode()
                return value
            except UnicodeEncodeError:
                raise SecretDamagedError(
                    f"{self._named(secret)} is not text; wanted what the infrastructure writes"
                ) from None
            except ResourceNotFoundError as error:
                # A 404 without this code is not the vault's answer, and must not remove users or peers.
                if "SecretNotFound" in vault_codes(error):
                    return None
                raise

    def _parse(self, secret: str, kind: TypeAdapter[_T], text: str) -> _T:
        try:
            return kind.validate_json(text)
        except ValidationError as error:
            raise SecretDamagedError(
                f"{self._named(secret)}: {first_fault(error)}; wanted what the infrastructure writes"
            ) from None

    def _named(self, secret: str) -> str:
        return f"{self._client.vault_url}: secret {secret}"


def parse_enrolment_key(text: str, what: str) -> bytes:
    """The enrolment key in 64 hex digits; `what` names it in the message.

    Raises:
        SecretDamagedError: the text is no such key.
    """
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != _KEY_BYTES:
        raise SecretDamagedError(f"{what}: {len(text)} characters; wanted {2 * _KEY_BYTES} hex digits")
    return key
