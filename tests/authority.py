"""A network's authority for tests: real servers, a local vault, and a register on Azurite or in memory."""

import asyncio
import itertools
import json
import ssl
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from azure.storage.blob.aio import ContainerClient
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from agent.fence import UnavailableError
from agent.network_http import serving_requests
from agent.tls import server_context
from ledger.corda import CORDA
from ledger.corda.authority.authority import Authority, Lifetimes
from ledger.corda.authority.configuration import Approval, Configuration, Parameters
from ledger.corda.authority.keys import KEYS, VaultKeys
from ledger.corda.authority.members import VaultMembers
from ledger.corda.authority.parameters import NetworkParameters
from ledger.corda.authority.register import BlobStore, Store
from ledger.corda.authority.server import Requests, RevocationLists
from ledger.corda.certificates import Chains, make_keys
from ledger.corda.enrolment import Enrolment
from ledger.platform import Identity, identities
from ledger.software import Authority as AuthorityAccess
from ledger.software import Document, SoftwareError, Surroundings, Zone
from local.azurite import ACCOUNT, KEY
from local.key_vault import Vault, client_of, key_client_of, serving

BANK_A, BANK_B = "O=Bank A, L=London, C=GB", "O=Bank B, L=New York, C=US"
SETTINGS = Parameters(
    minimum_platform_version=12,
    max_message_bytes=10_485_760,
    max_transaction_bytes=524_288_000,
    event_horizon_days=30,
)


class MemoryStore:
    """Documents, and a register, in memory: as conditional as blobs."""

    def __init__(self) -> None:
        self.content: dict[str, Document] = {}
        self.away = False
        self._etags = itertools.count(1)

    async def read(self, name: str) -> Document | None:
        await self._answer()
        return self.content.get(name)

    async def write(self, name: str, content: bytes, etag: str | None) -> str | None:
        await self._answer()
        there = self.content.get(name)
        if (there.etag if there else None) != etag:
            return None
        self.content[name] = Document(content, f"etag-{next(self._etags)}")
        return self.content[name].etag

    async def names(self, prefix: str) -> Sequence[str]:
        await self._answer()
        return sorted(name for name in self.content if name.startswith(prefix))

    async def delete(self, name: str) -> None:
        await self._answer()
        self.content.pop(name, None)

    async def _answer(self) -> None:
        await asyncio.sleep(0)
        if self.away:
            raise UnavailableError("storage is away")


class PlainSerializer:
    """Writes parameters as JSON, where Corda's own code is not wanted."""

    def __init__(self) -> None:
        self.written: list[NetworkParameters] = []

    async def raw(self, parameters: NetworkParameters) -> bytes:
        self.written.append(parameters)
        await asyncio.sleep(0.01)
        told = {
            "epoch": parameters.epoch,
            "notaries": [each.subject.rfc4514_string() for each in parameters.notaries],
            **parameters.settings.model_dump(),
        }
        return json.dumps(told).encode()

    async def assemble(self, raw: bytes, signature: bytes, certificate: x509.Certificate) -> bytes:
        key = certificate.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        try:
            key.verify(signature, raw, ec.ECDSA(SHA256()))
        except InvalidSignature as error:
            raise UnavailableError("the signature does not fit") from error
        return raw


async def epoch_of(document: bytes) -> int:
    """What the node's own code says of what `PlainSerializer` wrote."""
    try:
        return int(json.loads(document)["epoch"])
    except (ValueError, KeyError, TypeError) as error:
        raise SoftwareError(f"network parameters: {error}") from error


class Clock:
    """The time, which a test may move."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@dataclass
class Served:
    """One VM of an authority."""

    authority: Authority
    url: str
    lists_url: str


@dataclass
class Network:
    """An authority's vault and register, and the members that ask it."""

    vault: Vault
    vault_url: str
    vault_certificate: Path
    store: Callable[[], Store]
    """A VM's hold on the register."""
    container: tuple[str, str] | None = None
    """URL of the account and name of the container that the register is in; None in memory."""
    clock: Clock = field(default_factory=Clock)
    serializer: PlainSerializer = field(default_factory=PlainSerializer)
    enrolment_keys: dict[str, str] = field(default_factory=dict)
    cards: dict[str, list[str]] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    """Of the configuration."""
    lifetimes: Lifetimes = field(default_factory=Lifetimes)

    async def tell(self) -> None:
        """Write what the infrastructure writes into the authority's vault."""
        async with client_of(self.vault_url, self.vault_certificate) as vault:
            await vault.set_secret("enrolment-keys", json.dumps(self.enrolment_keys))
            await vault.set_secret("peers", json.dumps({name: f"card-{name}" for name in self.cards}))
            for name, legal_names in self.cards.items():
                nodes = [{"legalName": each, "p2pAddress": "10.2.0.4:10000"} for each in legal_names]
                card = {"name": name, "nodes": nodes, "networkInfoUrl": "https://10.2.0.4:8443/networkinfo"}
                await vault.set_secret(f"card-{name}", json.dumps(card))

    def configuration(self, **changes: Any) -> Configuration:
        given = {
            "member": "bank-a",
            "legal_names": [f"OU=node-{number}, {BANK_A}" for number in (1, 2, 3)],
            "client_id": "id",
            "vault_url": self.vault_url,
            "blob_url": "https://bank-a.example",
            "container": "authority",
            "url": "https://127.0.0.1:8444",
            "crl_url": "http://127.0.0.1:8445",
            "approval": Approval.AUTO,
            "subject": BANK_A,
            "notaries": [f"OU=node-1, {BANK_A}"],
            "parameters": SETTINGS,
            "installation": Path("/nowhere"),
            "version": "4.10",
            "connection_string": None,
        }
        return Configuration.model_validate(given | self.options | changes)

    @asynccontextmanager
    async def authority(self, *, configured: float = 1.0, **changes: Any) -> AsyncIterator[Authority]:
        """What one VM, or one command, works with."""
        configuration = self.configuration(**changes)
        async with AsyncExitStack() as around:
            secrets = await around.enter_async_context(client_of(self.vault_url, self.vault_certificate))
            keys = await around.enter_async_context(key_client_of(self.vault_url, self.vault_certificate))
            yield Authority(
                configuration,
                self.store(),
                VaultKeys(keys, request_seconds=5),
                VaultMembers(
                    secrets, configuration.member, configuration.legal_names, poll_seconds=0.0, request_seconds=5
                ),
                self.serializer,
                configured=configured,
                lifetimes=self.lifetimes,
                now=self.clock,
            )

    @asynccontextmanager
    async def vm(self, *, tended: bool = True, **changes: Any) -> AsyncIterator[Served]:
        """A VM of the authority that listens; the test tends it."""
        async with self.authority(**changes) as authority, AsyncExitStack() as around:
            requests = await around.enter_async_context(
                serving_requests(Requests(authority).respond, server_context(), "127.0.0.1", 0)
            )
            lists = await around.enter_async_context(
                serving_requests(RevocationLists(authority).respond, None, "127.0.0.1", 0)
            )
            if tended:
                await authority.tend()
            yield Served(authority, f"https://127.0.0.1:{requests}", f"http://127.0.0.1:{lists}")

    def member(self, name: str, url: str, legal_name: str = BANK_A, **changes: Any) -> "Member":
        """A member as its agents are; it must be told to the authority first."""
        return Member(name, legal_name, self, url, **changes)


def container_client(blobs: str, name: str) -> ContainerClient:
    """The SDK's client of a container in Azurite."""
    return ContainerClient(blobs, name, {"account_name": ACCOUNT, "account_key": KEY}, retry_total=0)


@asynccontextmanager
async def network(tls: tuple[ssl.SSLContext, Path], blobs: str | None, **changes: Any) -> AsyncIterator[Network]:
    """A new network's surroundings: a vault with keys, a register that is empty, two members.

    Args:
        tls: what the vault shows, and what clients are to trust.
        blobs: URL of a running Azurite; None keeps the register in memory.
        changes: attributes of `Network`.
    """
    context, certificate = tls
    vault = Vault()
    for key in KEYS:
        vault.make_key(key)
    async with AsyncExitStack() as around:
        url = await around.enter_async_context(serving(vault, context))
        store: Callable[[], Store]
        name = f"authority-{uuid.uuid4().hex[:12]}"
        if blobs is None:
            memory = MemoryStore()
            store = lambda: memory  # noqa: E731
        else:
            container = await around.enter_async_context(container_client(blobs, name))
            await container.create_container()
            store = lambda: BlobStore(container)  # noqa: E731
        made = Network(vault, url, certificate, store, (blobs, name) if blobs else None, **changes)
        made.enrolment_keys = {"bank-a": "a" * 64, "bank-b": "b" * 64}
        made.cards = {"bank-b": [f"OU=node-{number}, {BANK_B}" for number in (1, 2)]}
        await made.tell()
        yield made


class Member:
    """A member: its documents, its identities with their keys, and what asks for their certificates."""

    def __init__(
        self,
        name: str,
        legal_name: str,
        network: Network,
        url: str,
        *,
        trust_root: str | None = None,
        key: str | None = None,
        zone: Zone | None = None,
    ) -> None:
        self.documents = MemoryStore()
        self._network, self.url, self.key = network, url, key or network.enrolment_keys.get(name, "c" * 64)
        self.identities = identities(CORDA, legal_name, 3)
        self.keys: dict[str, Mapping[str, bytes]] = {each.name: make_keys() for each in self.identities}

        async def enrolment_key() -> bytes:
            return bytes.fromhex(self.key)

        async def no_users() -> Sequence[Any]:
            return ()

        self.surroundings = Surroundings(
            member=name,
            version="4.10",
            installation=Path("/nowhere"),
            frontend="10.1.255.4",
            documents=self.documents,
            network=zone or AuthorityAccess(url, enrolment_key),
            trust_root=trust_root,
            rpc_users=no_users,
        )
        self.enrolment = self.vm()

    def vm(self) -> Enrolment:
        """What asks on another VM, or after a restart."""
        return Enrolment(self.surroundings, now=self._network.clock, answer_seconds=10)

    def identity(self, number: int = 1) -> Identity:
        return self.identities[number - 1]

    async def certificates(self, number: int = 1) -> Chains:
        identity = self.identity(number)
        return await self.enrolment.certificates(identity, self.keys[identity.name])
