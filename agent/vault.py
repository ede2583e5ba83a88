"""What a bank's VMs share in its vault: the peers' cards, their own, the enrolment key, the users of RPC.

The infrastructure writes these secrets, under the names that stand here; what it writes was checked at deployment.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel

from agent.fence import DamagedError, UnavailableError
from ledger.software import RpcUser

if TYPE_CHECKING:
    from azure.keyvault.secrets.aio import SecretClient

# --- Names of secrets -----------------------------------------------------------------------------------------------

PEERS = "peers"
"""JSON: names of the secrets that hold the peers' cards, by the peers' names; whoever is a peer stands here."""
CARD = "card"
"""The bank's own card, as it was signed."""
ENROLMENT_KEY = "enrolment-key"
"""64 hex digits: what the bank and the network's authority agreed on."""
RPC_USERS = "rpc-users"
"""JSON: list of `{name, password, permissions}`."""
ENROLMENT_KEYS = "enrolment-keys"
"""In an authority's own vault. JSON: 64 hex digits by members' names."""

# --------------------------------------------------------------------------------------------------------------------

POLL_SECONDS = 60
"""A value that is older is asked for again."""
RETRY_SECONDS = 15
"""So is one that could not be had."""
REQUEST_SECONDS = 15
_KEY_BYTES = 32

T = TypeVar("T")

log = logging.getLogger(__name__)


class SecretDamagedError(DamagedError):
    """A secret is not what the infrastructure writes; its content stands in no message."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, hide_input_in_errors=True)


class _Node(_Part):
    legal_name: str
    p2p_address: Annotated[str, Field(alias="p2pAddress")]


class _Card(_Part):
    """As much of a membership card as an agent needs; its signature was verified at deployment."""

    name: str
    nodes: tuple[_Node, ...]
    network_info_url: str


class _User(_Part):
    name: str
    password: str
    permissions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Card:
    """A peer's card."""

    name: str
    addresses: Mapping[str, str]
    """P2P addresses by legal names."""
    network_info_url: str
    document: bytes
    """As it was signed."""


@dataclass(frozen=True)
class Peers:
    """Who the peers are."""

    names: frozenset[str]
    """All of them; who does not stand here is none any more."""
    cards: Mapping[str, Card]
    """Those that could be read."""


@dataclass
class _Known:
    value: str | None = None
    """None: the vault has no such secret."""
    ever: bool = False
    due: float = 0.0


class BankVault:
    """The secrets that the infrastructure writes for the bank's VMs. What was read once outlives an outage.

    The client's own retries are to be off.
    """

    def __init__(
        self,
        client: "SecretClient",
        *,
        poll_seconds: float = POLL_SECONDS,
        request_seconds: float = REQUEST_SECONDS,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client, self._now = client, now
        self._poll_seconds, self._request_seconds = poll_seconds, request_seconds
        self._known: dict[str, _Known] = {}
        self._asking: dict[str, asyncio.Lock] = {}
        self._silent_until = 0.0
        """One silence is enough: what is known of each secret goes on without a wait of its own."""

    async def peers(self) -> Peers:
        """The bank's peers.

        Raises:
            UnavailableError: the vault never said who they are.
            SecretDamagedError: it said something else.
        """
        text = await self._read(PEERS)
        if text is None:
            # To take it for an empty list would have nodes forget their peers.
            raise UnavailableError(f"{self._named(PEERS)} is not there yet")
        names = self._parse(PEERS, TypeAdapter(dict[str, str]), text)
        cards: dict[str, Card] = {}
        for name, secret in names.items():
            try:
                cards[name] = await self._card(name, secret)
            except (UnavailableError, SecretDamagedError) as error:
                log.warning("card of %s: %s", name, error)
        return Peers(frozenset(names), cards)

    async def card(self) -> bytes | None:
        """The bank's own card; None where the vault has none yet.

        Raises:
            UnavailableError: the vault does not answer.
        """
        text = await self._read(CARD)
        return None if text is None else text.encode()

    async def enrolment_key(self) -> bytes:
        """The key that the bank and the network's authority agreed.

        Raises:
            UnavailableError: the vault does not answer, or does not have it yet.
            SecretDamagedError: it is no such key.
        """
        text = await self._read(ENROLMENT_KEY)
        if text is None:
            raise UnavailableError(f"{self._named(ENROLMENT_KEY)} is not there yet")
        return parse_enrolment_key(text, self._named(ENROLMENT_KEY))

    async def rpc_users(self) -> Sequence[RpcUser]:
        """The users that nodes let in; none where the vault has no such secret.

        Raises:
            UnavailableError: the vault does not answer.
            SecretDamagedError: it is no such list.
        """
        text = await self._read(RPC_USERS)
        users = () if text is None else self._parse(RPC_USERS, TypeAdapter(tuple[_User, ...]), text)
        return tuple(RpcUser(user.name, user.password, user.permissions) for user in users)

    async def _card(self, name: str, secret: str) -> Card:
        text = await self._read(secret)
        if text is None:
            raise UnavailableError(f"{self._named(secret)} is not there yet")
        card = self._parse(secret, TypeAdapter(_Card), text)
        if card.name != name:
            raise SecretDamagedError(f"{self._named(secret)} is the card of {card.name!r}; wanted that of {name}")
        addresses = {node.legal_name: node.p2p_address for node in card.nodes}
        return Card(name, addresses, card.network_info_url, text.encode())

    async def _read(self, secret: str) -> str | None:
        """The value, at most so old as the vault's silence makes it."""
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
                self._silent_until = self._now() + min(RETRY_SECONDS, self._poll_seconds)
                return known.value
            if value is None and known.value is not None:
                log.warning("%s is gone; goes on with what it was", self._named(secret))
                value = known.value
            known.value, known.ever, known.due = value, True, self._now() + self._poll_seconds
            return value

    async def _ask(self, secret: str) -> str | None:
        from azure.core.exceptions import AzureError, HttpResponseError, ResourceNotFoundError  # noqa: PLC0415

        try:
            async with asyncio.timeout(self._request_seconds):
                return (await self._client.get_secret(secret)).value or ""
        except ResourceNotFoundError:
            return None
        # Not chained: what is no proper answer is quoted in it, and could be part of a secret.
        except HttpResponseError as error:
            raise UnavailableError(f"{self._named(secret)}: {error.status_code} {error.reason}") from None
        except TimeoutError:
            raise UnavailableError(f"{self._named(secret)}: no answer in {self._request_seconds} s") from None
        except (AzureError, OSError, ValueError) as error:
            raise UnavailableError(f"{self._named(secret)}: {type(error).__name__}") from None

    def _parse(self, secret: str, kind: TypeAdapter[T], text: str) -> T:
        try:
            return kind.validate_json(text)
        except ValidationError as error:
            fault = error.errors(include_input=False, include_url=False)[0]
            key = ".".join(str(step) for step in fault["loc"]) or "the document"
            raise SecretDamagedError(
                f"{self._named(secret)}: {key}: {fault['msg']}; wanted what the infrastructure writes"
            ) from None

    def _named(self, secret: str) -> str:
        return f"{self._client.vault_url}: secret {secret}"


def parse_enrolment_key(text: str, what: str) -> bytes:
    """The key in 64 hex digits.

    Raises:
        SecretDamagedError: there is none in it.
    """
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != _KEY_BYTES:
        raise SecretDamagedError(f"{what}: {len(text)} characters; wanted {2 * _KEY_BYTES} hex digits")
    return key
