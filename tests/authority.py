"""A network's authority for tests: real servers, a local vault, and a register on Azurite or in memory."""

import asyncio
import itertools
import json
import ssl
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
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

from contract.authority_configuration import Approval, AuthorityConfiguration, NetworkParameterSettings
from contract.card import signing_public_key
from contract.identities import Identity, identities
from contract.vm_configuration import Zone
from host.bank_documents import Document
from host.errors import UnavailableError
from lab.banks.azurite import ACCOUNT, KEY
from lab.banks.key_vault import Vault, client_of, key_client_of, serving
from lab.cards import signing_seed
from ledger.corda import CORDA
from ledger.corda.authority.authority import Authority, Lifetimes
from ledger.corda.authority.keys import VaultKeys
from ledger.corda.authority.members import VaultMembers
from ledger.corda.authority.parameters import NetworkParameters
from ledger.corda.authority.register import BlobStore, Store
from ledger.corda.authority.server import serving as serving_members
from ledger.corda.certificates import Chains, make_keys
from ledger.corda.enrolment import Enrolment
from ledger.software import AuthorityAccess, SoftwareContext, SoftwareError

BANK_A, BANK_B = "O=Bank A, L=London, C=GB", "O=Bank B, L=New York, C=US"
SETTINGS = NetworkParameterSettings(
    minimum_platform_version=12,
    max_message_bytes=10_485_760,
    max_transaction_bytes=524_288_000,
    event_horizon_days=30,
)


class MemoryStore:
    """Documents, or a register, in memory, with conditional writes like blobs."""

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

    async def names(self, prefix: str) -> Mapping[str, str]:
        await self._answer()
        return {name: each.etag for name, each in sorted(self.content.items()) if name.startswith(prefix)}

    async def delete(self, name: str) -> None:
        await self._answer()
        self.content.pop(name, None)

    async def _answer(self) -> None:
        await asyncio.sleep(0)
        if self.away:
            raise UnavailableError("storage is away")


class PlainSerializer:
    """Writes network parameters as JSON, for tests without Corda."""

    def __init__(self) -> None:
        self.written: list[NetworkParameters] = []

    async def raw(self, parameters: NetworkParameters) -> bytes:
        self.written.append(parameters)
        await asyncio.sleep(0.01)
        values = {
            "epoch": parameters.epoch,
            "notaries": [each.subject.rfc4514_string() for each in parameters.notaries],
            **parameters.settings.model_dump(),
        }
        return json.dumps(values).encode()

    async def assemble(self, raw: bytes, signature: bytes, certificate: x509.Certificate) -> bytes:
        key = certificate.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        try:
            key.verify(signature, raw, ec.ECDSA(SHA256()))
        except InvalidSignature as error:
            raise UnavailableError("the signature does not fit") from error
        return raw


async def epoch_of(document: bytes) -> int:
    """The epoch of parameters that `PlainSerializer` wrote; stands in for Corda's own check.

    Raises:
        SoftwareError: the document is invalid.
    """
    try:
        return int(json.loads(document)["epoch"])
    except (ValueError, KeyError, TypeError) as error:
        raise SoftwareError(f"network parameters: {error}") from error


class Clock:
    """A clock that a test can move forward by `ahead`."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@dataclass
class Served:
    """One running VM of an authority, with the URLs of its two servers."""

    authority: Authority
    url: str
    lists_url: str


@dataclass
class Network:
    """An authority's vaults and register, and the members that send requests."""

    vault: Vault
    root_vault: Vault
    """The vault with the root's key; its `granted` opens and closes the root."""
    vault_url: str
    root_vault_url: str
    vault_certificate: Path
    store: Callable[[], Store]
    """Creates a VM's client of the register."""
    container: tuple[str, str] | None = None
    """URL of the account and name of the container with the register; None if it is in memory."""
    clock: Clock = field(default_factory=Clock)
    clock_fault: str = ""
    """What the comparison with the storage's clock finds."""
    serializer: PlainSerializer = field(default_factory=PlainSerializer)
    enrolment_keys: dict[str, str] = field(default_factory=dict)
    cards: dict[str, list[str]] = field(default_factory=dict)
    agreed: dict[str, str] = field(default_factory=dict)
    """The agreed legal names of the members' banks."""
    card_keys: dict[str, str] = field(default_factory=dict)
    """By member: the name of the key that signs its card, if it is not the member's own name."""
    options: dict[str, Any] = field(default_factory=dict)
    """Changes to the authority's configuration."""
    vault_options: dict[str, Any] = field(default_factory=dict)
    """Changes to how its members are read from the vault: options of `BankVault`."""
    lifetimes: Lifetimes = field(default_factory=Lifetimes)
    members: "list[Member]" = field(default_factory=list)
    """The members created so far."""

    async def write_secrets(self) -> None:
        """Write the secrets that the infrastructure writes into the authority's vault."""
        async with client_of(self.vault_url, self.vault_certificate) as vault:
            await vault.set_secret("enrolment-keys", json.dumps(self.enrolment_keys))
            await vault.set_secret("agreed-names", json.dumps(self.agreed))
            await vault.set_secret("peers", json.dumps({name: f"card-{name}" for name in self.cards}))
            for name, legal_names in self.cards.items():
                nodes = [{"legalName": each, "p2pAddress": "10.2.0.4:10000"} for each in legal_names]
                card = {
                    "name": name,
                    "addressSpace": "127.2.0.0/16",
                    "nodes": nodes,
                    "networkInfoUrl": "https://10.2.0.4:8443/networkinfo",
                    "signingKey": signing_public_key(signing_seed(self.card_keys.get(name, name))),
                }
                await vault.set_secret(f"card-{name}", json.dumps(card))

    def configuration(self, **changes: Any) -> AuthorityConfiguration:
        given = {
            "member": "bank-a",
            "address_space": "127.0.0.0/16",
            "legal_names": [f"OU=node-{number}, {BANK_A}" for number in (1, 2, 3)],
            "client_id": "id",
            "vault_url": self.vault_url,
            "root_vault_url": self.root_vault_url,
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
        return AuthorityConfiguration.model_validate(given | self.options | changes)

    async def check_clock(self) -> None:
        if self.clock_fault:
            raise UnavailableError(self.clock_fault)

    @asynccontextmanager
    async def authority(self, *, configured: float = 1.0, **changes: Any) -> AsyncIterator[Authority]:
        """The authority as one VM, or one command, uses it."""
        configuration = self.configuration(**changes)
        async with AsyncExitStack() as around:
            secrets = await around.enter_async_context(client_of(self.vault_url, self.vault_certificate))
            keys, root_keys = [
                await around.enter_async_context(key_client_of(url, self.vault_certificate))
                for url in (self.vault_url, self.root_vault_url)
            ]
            yield Authority(
                configuration,
                self.store(),
                VaultKeys(keys, root_keys, request_seconds=5),
                VaultMembers(secrets, configuration, **{"poll_seconds": 0.0} | self.vault_options),
                self.serializer,
                configured=configured,
                check_clock=self.check_clock,
                lifetimes=self.lifetimes,
                now=self.clock,
            )

    @asynccontextmanager
    async def vm(self, *, tended: bool = True, **changes: Any) -> AsyncIterator[Served]:
        """Run one VM of the authority during the block, without its periodic tasks.

        Args:
            tended: whether the tasks run once at the beginning.
            changes: of the configuration.
        """
        async with (
            self.authority(**changes) as authority,
            serving_members(authority, "127.0.0.1", 0, 0) as (requests, lists),
        ):
            if tended:
                await authority.run_due_tasks()
            yield Served(authority, f"https://127.0.0.1:{requests}", f"http://127.0.0.1:{lists}")

    def member(self, name: str, url: str, legal_name: str = BANK_A, **changes: Any) -> "Member":
        """A member's agents; `write_secrets` must have introduced the member to the authority."""
        made = Member(name, legal_name, self, url, **changes)
        self.members.append(made)
        return made


def container_client(blobs: str, name: str) -> ContainerClient:
    """The SDK's client of a container in Azurite."""
    return ContainerClient(blobs, name, {"account_name": ACCOUNT, "account_key": KEY}, retry_total=0)


@asynccontextmanager
async def network(tls: tuple[ssl.SSLContext, Path], blobs: str | None, **changes: Any) -> AsyncIterator[Network]:
    """A new network: vaults with keys, an empty register, two members.

    Args:
        tls: the vaults' TLS context, and the certificate that their clients trust.
        blobs: URL of a running Azurite; None to store the register in memory.
        changes: attributes of `Network`.
    """
    context, certificate = tls
    assert CORDA.authority
    vault, root_vault = Vault(), Vault()
    for key in CORDA.authority.keys_of(3):
        vault.make_key(key)
    root_vault.make_key(CORDA.authority.root_key)
    async with AsyncExitStack() as around:
        url, root_url = [await around.enter_async_context(serving(each, context)) for each in (vault, root_vault)]
        store: Callable[[], Store]
        name = f"authority-{uuid.uuid4().hex[:12]}"
        if blobs is None:
            memory = MemoryStore()
            store = lambda: memory  # noqa: E731
        else:
            container = await around.enter_async_context(container_client(blobs, name))
            await container.create_container()
            store = lambda: BlobStore(container)  # noqa: E731
        made = Network(
            vault, root_vault, url, root_url, certificate, store, (blobs, name) if blobs else None, **changes
        )
        made.enrolment_keys = {"bank-a": "a" * 64, "bank-b": "b" * 64}
        made.cards = {"bank-b": [f"OU=node-{number}, {BANK_B}" for number in (1, 2)]}
        made.agreed = {"bank-b": BANK_B}
        await made.write_secrets()
        yield made
        for each in made.members:
            await each.settle()


class Member:
    """A member: its documents, its identities with their keys, and its client for certificates."""

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

        self.context = SoftwareContext(
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
        """A new client for certificates, as on another VM or after a restart."""
        return Enrolment(self.context, now=self._network.clock, answer_seconds=10)

    def identity(self, number: int = 1) -> Identity:
        return self.identities[number - 1]

    async def certificates(self, number: int = 1) -> Chains:
        identity = self.identity(number)
        return await self.enrolment.certificates(identity, self.keys[identity.name])

    async def settle(self) -> None:
        """Wait for background requests, whose connections must not outlive the test's event loop."""
        tasks = [*self.enrolment._renewals.values(), self.enrolment._checking]
        await asyncio.gather(*(each for each in tasks if each), return_exceptions=True)


async def caught(work: Awaitable[Any]) -> Exception:
    """What an awaitable raises; it must raise something."""
    try:
        await work
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")
