"""What members tell each other of their nodes, over their links: `GET /networkinfo`, and what is kept of it.

Every VM of a bank serves the bank's document; only one that holds an identity asks the peers. Whatever a peer does or
leaves undone harms nobody else: it has its own task, its own limits, and a say about its own nodes alone.
"""

import asyncio
import base64
import json
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any, Protocol

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
    ValidationError,
)
from pydantic.alias_generators import to_camel

from agent.fence import DamagedError, SupersededError, UnavailableError
from agent.network_http import MAX_ANSWER_BYTES, TooLargeError, serving
from agent.node import Roster
from agent.vault import Card, Peers
from ledger.software import Document, Documents, Member, WaitingError

SCHEMA_VERSION = "1.0"
"""MAJOR.MINOR of the document. A minor version only adds properties; another major version is kept out."""
NETWORK_DOCUMENT = "network-document"
"""Name, among the bank's documents, of the one that all members share."""
MAX_NODES = 200

NODES, PEERS = "nodes/", "peers/"
"""Its other documents: what each of its nodes publishes, and what each peer last told."""
_FAILURES = 3
"""So many rounds in a row without an answer are told: one is no outage."""

log = logging.getLogger(__name__)


class AnswerError(Exception):
    """What a peer answered is kept out; the message says why, and what was wanted."""


# --- The document ---------------------------------------------------------------------------------------------------


def _decoded(text: object) -> bytes:
    # JSON has none of these: the program itself put it there.
    if isinstance(text, bytes):
        return text
    if not isinstance(text, str):
        raise ValueError("wanted base64")
    return base64.b64decode(text, validate=True)


def _encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


Base64 = Annotated[bytes, BeforeValidator(_decoded), PlainSerializer(_encoded)]


class _Part(BaseModel):
    # Open to what a later minor version adds, and strict with what this one knows.
    model_config = ConfigDict(
        frozen=True, strict=True, extra="ignore", alias_generator=to_camel, populate_by_name=True
    )


class NodeInfo(_Part):
    """What one node publishes of itself."""

    legal_name: Annotated[str, StringConstraints(min_length=1, max_length=512)]
    info: Annotated[Base64, Field(min_length=1)]


def _each_once(nodes: tuple[NodeInfo, ...]) -> tuple[NodeInfo, ...]:
    if len({node.legal_name for node in nodes}) < len(nodes):
        raise ValueError("a legal name stands twice; wanted each once")
    return nodes


class NetworkInfo(_Part):
    """A member's document."""

    schema_version: Annotated[str, Field(alias="schema", pattern=r"^1\.[0-9]{1,9}$")] = SCHEMA_VERSION
    member: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    card: dict[str, Any] | None = None
    """The member's card, as it was signed; None before there is one."""
    nodes: Annotated[tuple[NodeInfo, ...], Field(max_length=MAX_NODES), AfterValidator(_each_once)] = ()
    network_document: Base64 | None = None
    """What all members share, where this one has it."""

    def to_json(self) -> bytes:
        """The document as it is served."""
        return self.model_dump_json(by_alias=True).encode()


class _Version(BaseModel):
    schema_version: Annotated[str, Field(alias="schema")]


def parse(content: bytes, member: str) -> NetworkInfo:
    """A member's document.

    Raises:
        AnswerError: it is of another major version, of another member, or not what the schema says.
    """
    try:
        version = _Version.model_validate_json(content).schema_version
        major, _, minor = version.partition(".")
        if major.isdecimal() and minor.isdecimal() and len(version) < 16 and major != SCHEMA_VERSION[0]:
            whose = "this program" if int(major) > int(SCHEMA_VERSION[0]) else "that member's program"
            raise AnswerError(f"{member}: schema is {version}; wanted {SCHEMA_VERSION}: upgrade {whose}")
        info = NetworkInfo.model_validate_json(content)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        key = ".".join(str(step) for step in fault["loc"]) or "the document"
        raise AnswerError(
            f"{member}: {key:.80}: {fault['msg']:.200}; wanted network information of schema {SCHEMA_VERSION}"
        ) from None
    if info.member != member or (info.card is not None and info.card.get("name") != member):
        raise AnswerError(f"{member}: the document is that of {info.member!r:.80}; wanted its own")
    return info


# --- What a VM knows ------------------------------------------------------------------------------------------------


class Shared(Protocol):
    """As much of the bank's vault as is told here; `agent.vault.BankVault` is one."""

    async def peers(self) -> Peers:
        """The bank's peers. Raises UnavailableError, DamagedError."""

    async def card(self) -> bytes | None:
        """The bank's own card. Raises UnavailableError."""


@dataclass(frozen=True)
class Bank:
    """Whose VM it is."""

    member: str
    legal_names: Mapping[str, str]
    """Of its nodes, by names of identities."""
    addresses: Mapping[str, str]
    """P2P addresses of its nodes, by legal names."""


@dataclass(frozen=True)
class Pin:
    """The network document that configuration asks for."""

    hash: str
    fingerprint: Callable[[bytes], str]


@dataclass(frozen=True)
class Rhythm:
    """How often, in seconds."""

    fetch: float = 30
    """A peer is asked, on the average."""
    refresh: float = 20
    """The bank's own documents are read anew, to be served."""
    peers: float = 10
    """The vault is asked who the peers are; it remembers for a minute."""


@dataclass
class _Peer:
    """What is known of one peer."""

    card: Card
    told: NetworkInfo | None = None
    """Its last good answer."""
    kept: Document | None = None
    """That, or the one before, as this bank's VMs keep it."""
    looked: bool = False
    """Whether what is kept was read."""
    offers: str | None = None
    """Hash of its network document."""
    failures: int = 0
    trouble: str | None = None


@dataclass
class Exchange:
    """Network information as one VM serves, asks for and keeps it; implements `Network` of `agent.node`."""

    bank: Bank
    documents: Documents
    vault: Shared
    fetch: Callable[[str], Awaitable[bytes]]
    """What a URL answers. Raises UnavailableError, TooLargeError."""
    pin: Pin | None = None
    rhythm: Rhythm = Rhythm()
    chance: random.Random = field(default_factory=random.Random)
    _peers: dict[str, _Peer] = field(default_factory=dict)
    _names: frozenset[str] | None = None
    """All peers, as the vault last said."""
    _own: dict[str, Document] = field(default_factory=dict)
    """What this bank's nodes publish, by names of identities."""
    _card: dict[str, Any] | None = None
    _document: Document | None = None
    _offered: bytes | None = None
    """The pinned document, from a peer."""
    _answer: bytes | None = None
    _read: bool = False
    _trouble: str | None = None

    # --- Serving ---

    @asynccontextmanager
    async def serving(self, host: str, port: int) -> AsyncIterator[int]:
        """Serve the bank's document for as long as the block lasts; gives the port, chosen by the system for 0."""
        # What an agent loads when it needs it.
        from agent.tls import server_context  # noqa: PLC0415

        async with serving(lambda: self._answer, server_context(), host, port) as chosen:
            refreshing = asyncio.create_task(self._keep_fresh())
            try:
                yield chosen
            finally:
                refreshing.cancel()
                await asyncio.wait({refreshing})

    async def _keep_fresh(self) -> None:
        while True:
            try:
                await self.refresh()
            except UnavailableError as error:
                # What was read before is served on.
                log.warning("network information can't be read: %s", error)
            except Exception:
                log.exception("network information can't be read")
            await self._pause(self.rhythm.refresh)

    async def refresh(self) -> None:
        """Read anew what is served.

        Raises:
            UnavailableError: the bank's documents, or its vault, do not answer.
        """
        for name in await self.documents.names(NODES):
            identity = name.removeprefix(NODES)
            # What an identity left that there is no more is nobody's.
            if identity in self.bank.legal_names and (found := await self.documents.read(name)):
                self._own[identity] = found
        self._document = await self.documents.read(NETWORK_DOCUMENT)
        self._read = True
        try:
            card = await self.vault.card()
            self._card = None if card is None else json.loads(card)
        finally:
            self._compose()

    def _compose(self) -> None:
        document = self._document.content if self._document else None
        if document is not None and self.pin and self.pin.fingerprint(document) != self.pin.hash:
            document = None
        answer = NetworkInfo(
            member=self.bank.member,
            card=self._card,
            nodes=tuple(
                NodeInfo(legal_name=self.bank.legal_names[identity], info=each.content)
                for identity, each in sorted(self._own.items())
            ),
            network_document=document,
        )
        content = answer.to_json()
        if len(content) > MAX_ANSWER_BYTES:
            log.error("network information has %d bytes; peers take %d at most", len(content), MAX_ANSWER_BYTES)
        self._answer = content

    # --- Publishing ---

    async def published(self, identity: str) -> Document | None:
        """See `Network`."""
        return await self.documents.read(NODES + identity)

    async def publish(self, identity: str, info: bytes, before: Document | None) -> Document:
        """See `Network`."""
        name = NODES + identity
        if before is None or before.content != info:
            etag = await self.documents.write(name, info, before.etag if before else None)
            if etag is None:
                # The answer to a writing of our own may have been lost.
                found = await self.documents.read(name)
                if found is None or found.content != info:
                    raise SupersededError(f"document {name}: another VM wrote it")
                etag = found.etag
            before = Document(info, etag)
            log.info("%s: published %d bytes of network information", identity, len(info))
        self._own[identity] = before
        if self._read:
            self._compose()
        return before

    # --- Asking ---

    async def follow(self) -> None:
        """See `Network`."""
        tasks: dict[str, asyncio.Task[None]] = {}
        try:
            while True:
                try:
                    await self._look_for_peers()
                    self._trouble = None
                except (UnavailableError, DamagedError) as error:
                    self._trouble = str(error)
                except Exception as error:
                    log.exception("peers can't be read")
                    self._trouble = f"peers can't be read: {error!r}"
                for name in tasks.keys() - self._peers.keys():
                    tasks.pop(name).cancel()
                for name in self._peers.keys() - tasks.keys():
                    tasks[name] = asyncio.create_task(self._ask_again_and_again(name))
                await self._pause(self.rhythm.peers)
        finally:
            for task in tasks.values():
                task.cancel()
            if tasks:
                await asyncio.wait(tasks.values())

    async def _look_for_peers(self) -> None:
        peers = await self.vault.peers()
        for name in self._peers.keys() - peers.names:
            log.warning("%s is no peer any more", name)
            del self._peers[name]
        for name, card in peers.cards.items():
            if name in self._peers:
                self._peers[name].card = card
            else:
                log.info("%s is a peer", name)
                self._peers[name] = _Peer(card)
        self._names = peers.names

    async def _ask_again_and_again(self, name: str) -> None:
        while peer := self._peers.get(name):
            try:
                await self._ask(peer)
                peer.failures, peer.trouble = 0, None
            except (AnswerError, TooLargeError) as error:
                self._tell(peer, str(error))
            except UnavailableError as error:
                peer.failures += 1
                if peer.failures >= _FAILURES or peer.told is None:
                    self._tell(peer, str(error))
            except Exception as error:
                # Whatever it is, it is this peer's alone.
                log.exception("network information of %s", name)
                peer.trouble = f"{name}: {error!r}"
            await self._pause(self.rhythm.fetch)

    @staticmethod
    def _tell(peer: _Peer, trouble: str) -> None:
        if peer.trouble != trouble:
            log.warning("network information: %s", trouble)
        peer.trouble = trouble

    async def _ask(self, peer: _Peer) -> None:
        name = peer.card.name
        if not peer.looked:
            peer.kept = await self.documents.read(PEERS + name)
            peer.looked = True
            if peer.kept and peer.told is None:
                try:
                    peer.told = parse(peer.kept.content, name)
                except AnswerError as error:
                    log.warning("what is kept of %s: %s", name, error)
        answer = parse(await self.fetch(peer.card.network_info_url), name)
        self._take_document(peer, answer.network_document)
        # Its card stands in the vault, and the network's document by itself.
        told = answer.model_copy(update={"card": None, "network_document": None})
        if unknown := sorted({node.legal_name for node in told.nodes} - peer.card.addresses.keys()):
            known = tuple(node for node in told.nodes if node.legal_name in peer.card.addresses)
            peer.told = told.model_copy(update={"nodes": known})
            await self._keep(peer)
            raise AnswerError(
                f"{name}: tells of {', '.join(unknown[:3])!r:.200}, left out; wanted legal names of its card,"
                " which may be older here than there"
            )
        peer.told = told
        await self._keep(peer)

    async def _keep(self, peer: _Peer) -> None:
        """Have it outlive this VM; another one of the bank may be faster."""
        assert peer.told  # noqa: S101
        content, name = peer.told.to_json(), PEERS + peer.card.name
        if peer.kept and peer.kept.content == content:
            return
        etag = await self.documents.write(name, content, peer.kept.etag if peer.kept else None)
        # The next round sees whether what the other wrote is still what the peer tells.
        peer.kept = await self.documents.read(name) if etag is None else Document(content, etag)

    def _take_document(self, peer: _Peer, content: bytes | None) -> None:
        if self.pin is None or content is None:
            peer.offers = None
            return
        peer.offers = self.pin.fingerprint(content)
        if peer.offers == self.pin.hash:
            self._offered = content

    async def document(self) -> bytes | None:
        """See `Network`."""
        if self.pin is None:
            return None
        kept = await self.documents.read(NETWORK_DOCUMENT)
        if kept and self.pin.fingerprint(kept.content) == self.pin.hash:
            self._document = kept
            return kept.content
        if self._offered is None:
            others = [f"{name} has {peer.offers}" for name, peer in sorted(self._peers.items()) if peer.offers]
            if kept:
                others.insert(0, f"this bank has {self.pin.fingerprint(kept.content)}")
            raise WaitingError(
                f"network document: {', '.join(others) or 'nobody has one yet'}; wanted {self.pin.hash}, as pinned,"
                " from a peer, or as this bank's document " + NETWORK_DOCUMENT
            )
        etag = await self.documents.write(NETWORK_DOCUMENT, self._offered, kept.etag if kept else None)
        if etag is None:
            raise UnavailableError(f"document {NETWORK_DOCUMENT}: another VM wrote it at this moment")
        self._document = Document(self._offered, etag)
        log.info("network document %s is kept", self.pin.hash)
        return self._offered

    async def roster(self) -> Roster:
        """See `Network`."""
        if self._names is None:
            raise UnavailableError(self._trouble or "the vault has not told the peers yet")
        if not self._read:
            await self.refresh()
        me = self.bank.member
        own = tuple(each.content for _, each in sorted(self._own.items()))
        members = [Member(me, self.bank.addresses, None, own)]
        troubles = {} if self._trouble is None else {me: self._trouble}
        for name, peer in sorted(self._peers.items()):
            if peer.told is None and (not peer.looked or peer.kept):
                # Not the same as nothing: the node would forget it.
                troubles[name] = peer.trouble or f"{name}: what it told last is not read yet"
                continue
            told = peer.told.nodes if peer.told else ()
            infos = tuple(node.info for node in told if node.legal_name in peer.card.addresses)
            members.append(Member(name, peer.card.addresses, peer.card.document, infos))
            if peer.trouble:
                troubles[name] = peer.trouble
        return Roster(frozenset({me, *self._names}), tuple(members), troubles)

    async def _pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds * self.chance.uniform(0.8, 1.2))
