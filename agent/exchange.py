"""The exchange of network information between members over their links: `GET /networkinfo`.

Every VM of a bank serves the bank's document; only VMs that hold an identity ask the peers. A peer's fault harms no
other peer: each has its own task and limits, and may speak only for its own nodes.
"""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from ipaddress import IPv4Network
from typing import Any, Protocol

from aiohttp import web
from pydantic import TypeAdapter, ValidationError
from typing_extensions import override

from agent.resources import PeerNetwork, Roster
from contract.metrics import Cause
from contract.models import first_fault
from contract.network_info import NetworkInfo, NetworkInfoError, NodeInfo, parse_network_info
from contract.ports import NETWORK_INFO_PATH
from contract.timing import STANDBY
from host.bank_documents import NETWORK_DOCUMENT, Document, Documents
from host.errors import DamagedError, SupersededError, UnavailableError
from host.faults import reason_of, unexpected
from host.http import MAX_ANSWER_BYTES, TooLargeError, serving_requests
from host.pools import MemberPools
from host.tls import server_context
from host.vault import Card, Peers
from ledger.software import NetworkMember, WaitingError

NODES_PREFIX, PEERS_PREFIX = "nodes/", "peers/"
"""Prefixes of document names: this bank's node's information, and a peer's last information on its nodes."""
_SERVED_PREFIX = "n"
"""Prefix of all documents that are served, `NETWORK_DOCUMENT` included: one request lists them."""
_SILENT_ROUNDS = 3
"""Rounds in a row without an answer after which a peer is reported."""
_DIALLED = 16
"""Nodes of one peer that are probed at the same time."""

_PUBLISHED_BYTES = MAX_ANSWER_BYTES // 2
"""Leaves an answer room for base64, the card and names."""
_DOCUMENT = "network document"
"""Stands for it among the nodes' names; no identity has this name."""
_OBJECT = TypeAdapter(dict[str, Any])

log = logging.getLogger(__name__)


def info_handler(content: Callable[[], bytes | None]) -> Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]:
    """A handler that answers GET `NETWORK_INFO_PATH` with the current content, 503 while that is None."""

    async def respond(request: web.BaseRequest) -> web.StreamResponse:
        if request.path != NETWORK_INFO_PATH:
            return web.Response(status=HTTPStatus.NOT_FOUND)
        if request.method != "GET":
            return web.Response(status=HTTPStatus.METHOD_NOT_ALLOWED, headers={"Allow": "GET"})
        if (body := content()) is None:
            # "Nothing read yet" must not look like "nothing there".
            return web.Response(status=HTTPStatus.SERVICE_UNAVAILABLE)
        return web.Response(body=body, content_type="application/json")

    return respond


class Shared(Protocol):
    """The parts of the bank's vault that the exchange reads; implemented by `host.vault.BankVault`."""

    async def peers(self) -> Peers:
        """The bank's peers. Raises UnavailableError, DamagedError."""

    async def card(self) -> bytes | None:
        """The bank's own card. Raises UnavailableError."""


@dataclass(frozen=True)
class OwnBank:
    """This VM's bank."""

    member: str
    address_space: IPv4Network
    legal_names: Mapping[str, str]
    """Legal names of its nodes, by identity."""
    addresses: Mapping[str, str]
    """P2P addresses (HOST:PORT) of its nodes, by legal name."""


@dataclass(frozen=True)
class DocumentPin:
    """The network document that the configuration pins."""

    hash: str
    fingerprint: Callable[[bytes], str]


@dataclass(frozen=True)
class ExchangeIntervals:
    """Intervals in seconds."""

    fetch: float = 30
    """Average pause between requests to a peer."""
    refresh: float = STANDBY.documents_seconds
    """Pause between lists of the bank's documents, of which changed ones are read and served."""
    peers: float = 10
    """Pause between reads of the list of peers; `BankVault` caches it for two minutes."""


@dataclass
class _Peer:
    """The state of one peer."""

    card: Card
    answer: NetworkInfo | None = None
    """The node information that the peer last published."""
    stored: Document | None = None
    """The bank's stored copy of the answer, perhaps of an earlier one."""
    was_read: bool = False
    """Whether the stored copy was read."""
    offers: str | None = None
    """Hash of the network document that it offers."""
    failures: int = 0
    trouble: str | None = None
    reached: bool | None = None
    """Whether one of its nodes takes a connection."""


@dataclass
class Exchange(PeerNetwork):
    """Serves this bank's network information, and fetches and stores the peers'; implements `PeerNetwork`."""

    bank: OwnBank
    documents: Documents
    vault: Shared
    fetch: Callable[[str], Awaitable[bytes]]
    """Fetches a URL. Raises UnavailableError, TooLargeError."""
    listens: Callable[[str], Awaitable[bool]]
    """Whether `HOST:PORT` takes a connection."""
    pin: DocumentPin | None = None
    intervals: ExchangeIntervals = ExchangeIntervals()
    rng: random.Random = field(default_factory=random.Random)
    _peers: dict[str, _Peer] = field(default_factory=dict)
    _names: frozenset[str] | None = None
    """All peers, as last read from the vault; None before the first read."""
    _own: dict[str, Document] = field(default_factory=dict)
    """The documents of this bank's nodes, by identity."""
    _card: dict[str, Any] | None = None
    _document: Document | None = None
    _offered: bytes | None = None
    """The pinned document, as received from a peer."""
    _answer: bytes | None = None
    _read: bool = False
    _trouble: str | None = None

    # --- Serving ---------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def serving(self, host: str, port: int) -> AsyncIterator[int]:
        """Serve the bank's document for the time of the block; yields the port, which the system chooses for 0."""
        pools, answer = MemberPools(self.bank.address_space, self.vault.peers), info_handler(lambda: self._answer)
        async with (
            pools.reading(),
            serving_requests(answer, server_context(), host, port, pool_of=pools.pool_of) as chosen,
        ):
            refreshing = asyncio.create_task(self.keep_fresh())
            try:
                yield chosen
            finally:
                refreshing.cancel()
                await asyncio.wait({refreshing})

    async def keep_fresh(self) -> None:
        """Refresh the served document periodically. Never returns nor raises."""
        while True:
            try:
                await self.refresh()
            except Exception as error:
                # The last document that was read is still served.
                log.warning(
                    "network information can't be read: %s", reason_of("the bank's network information", error)
                )
            await self._pause(self.intervals.refresh)

    async def refresh(self) -> None:
        """Read changed documents and compose what is served.

        Raises:
            UnavailableError: the storage account or vault does not answer.
            DamagedError: the bank's own card in the vault is no JSON object.
        """
        etags = await self.documents.names(_SERVED_PREFIX)
        # Documents of identities that no longer exist are ignored.
        for identity in self.bank.legal_names:
            if found := await self._changed(NODES_PREFIX + identity, etags, self._own.get(identity)):
                self._own[identity] = found
        self._document = await self._changed(NETWORK_DOCUMENT, etags, self._document)
        self._read = True
        try:
            card = await self.vault.card()
            self._card = None if card is None else _OBJECT.validate_json(card)
        except ValidationError as error:
            raise DamagedError(
                f"the bank's own card: {first_fault(error)}; wanted what the infrastructure writes"
            ) from error
        finally:
            self._compose()

    async def _changed(self, name: str, etags: Mapping[str, str], known: Document | None) -> Document | None:
        """The current document, read only if its ETag differs from the known one's."""
        etag = etags.get(name)
        if etag is None or (known and known.etag == etag):
            return known if etag else None
        return await self.documents.read(name)

    def _compose(self) -> None:
        document = self._document.content if self._document else None
        if document is not None and self.pin and self.pin.fingerprint(document) != self.pin.hash:
            document = None
        parts = {identity: each.content for identity, each in sorted(self._own.items()) if each.content}
        if document:
            parts[_DOCUMENT] = document
        # Whoever publishes too much must not silence the others.
        while (size := sum(map(len, parts.values()))) > _PUBLISHED_BYTES:
            largest = max(parts, key=lambda each: len(parts[each]))
            del parts[largest]
            log.error(
                "network information has %d bytes; wanted %d at most: %s is left out", size, _PUBLISHED_BYTES, largest
            )
        document = parts.pop(_DOCUMENT, None)
        nodes = tuple(NodeInfo(legal_name=self.bank.legal_names[each], info=info) for each, info in parts.items())
        self._answer = NetworkInfo(
            member=self.bank.member, card=self._card, nodes=nodes, network_document=document
        ).to_json()

    # --- Publishing ------------------------------------------------------------------------------------------------

    @override
    async def published(self, identity: str) -> Document | None:
        return await self.documents.read(NODES_PREFIX + identity)

    @override
    async def publish(self, identity: str, info: bytes, before: Document | None) -> Document:
        name = NODES_PREFIX + identity
        if before is None or before.content != info:
            etag = await self.documents.write(name, info, before.etag if before else None)
            if etag is None:
                # Our own write may have succeeded although its answer was lost.
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

    # --- Asking ----------------------------------------------------------------------------------------------------

    @override
    async def follow(self) -> None:
        tasks: dict[str, asyncio.Task[None]] = {}
        try:
            while True:
                try:
                    await self._read_peers()
                    self._trouble = None
                except (UnavailableError, DamagedError) as error:
                    self._trouble = str(error)
                except Exception as error:
                    self._trouble = unexpected("the peers", error)
                for name in sorted(tasks.keys() - self._peers.keys()):
                    tasks.pop(name).cancel()
                # A task that ended although its peer still exists is restarted.
                for name in sorted(self._peers.keys() - {name for name, task in tasks.items() if not task.done()}):
                    tasks[name] = asyncio.create_task(self._keep_asking(name))
                await self._pause(self.intervals.peers)
        finally:
            for task in tasks.values():
                task.cancel()
            if tasks:
                await asyncio.wait(tasks.values())

    async def _read_peers(self) -> None:
        peers = await self.vault.peers()
        for name in self._peers.keys() - peers.names:
            log.warning("%s is no longer a peer", name)
            del self._peers[name]
        for name, card in peers.cards.items():
            if name in self._peers:
                self._peers[name].card = card
            else:
                log.info("%s is a peer", name)
                self._peers[name] = _Peer(card)
        self._names = peers.names

    async def _keep_asking(self, name: str) -> None:
        while peer := self._peers.get(name):
            try:
                await self._ask(peer)
                peer.failures, peer.trouble = 0, None
            except (NetworkInfoError, TooLargeError) as error:
                self._report(peer, str(error))
            except UnavailableError as error:
                peer.failures += 1
                if peer.failures >= _SILENT_ROUNDS or peer.answer is None:
                    self._report(peer, str(error))
            except Exception as error:
                # Any error concerns this peer alone.
                peer.trouble = unexpected(f"network information of {name}", error)
            try:
                peer.reached = await self._reaches([*peer.card.addresses.values()])
            except Exception as error:
                peer.reached, peer.trouble = None, unexpected(f"nodes of {name}", error)
            await self._pause(self.intervals.fetch)

    async def _reaches(self, addresses: Sequence[str]) -> bool:
        """Whether one of a peer's nodes takes a connection; probes no more after the first that does."""
        for first in range(0, len(addresses), _DIALLED):
            if any(await asyncio.gather(*map(self.listens, addresses[first : first + _DIALLED]))):
                return True
        return False

    @staticmethod
    def _report(peer: _Peer, trouble: str) -> None:
        if peer.trouble != trouble:
            log.warning("network information: %s", trouble)
        peer.trouble = trouble

    async def _ask(self, peer: _Peer) -> None:
        name = peer.card.name
        if not peer.was_read:
            peer.stored = await self.documents.read(PEERS_PREFIX + name)
            peer.was_read = True
            self._merge_stored(peer)
        answer = parse_network_info(await self.fetch(peer.card.network_info_url), name)
        self._note_document(peer, answer.network_document)
        on_card = peer.card.addresses.keys()
        published = {node.legal_name: node for node in answer.nodes}
        before = {node.legal_name: node for node in peer.answer.nodes} if peer.answer else {}
        # Absence proves nothing: only the card drops a node.
        merged = _of_nodes(name, {each: node for each, node in (before | published).items() if each in on_card})
        if (size := len(merged.to_json())) > MAX_ANSWER_BYTES:
            # Else answers with a few nodes each add up to a document that no VM can read.
            raise NetworkInfoError(f"{name}: its nodes have {size} bytes together; wanted {MAX_ANSWER_BYTES} at most")
        peer.answer = merged
        await self._store(peer)
        troubles = []
        if missing := sorted((before.keys() - published.keys()) & on_card):
            troubles.append(
                f"no longer publishes {', '.join(missing[:3])!r:.200} ({len(missing)} of {len(on_card)} nodes), whose"
                " last information stays in use; wanted every node until its card drops it"
            )
        if unknown := sorted(published.keys() - on_card):
            troubles.append(
                f"publishes {', '.join(unknown[:3])!r:.200}, left out; wanted legal names of its card,"
                " of which this bank may have an earlier one"
            )
        if troubles:
            raise NetworkInfoError(f"{name}: {'; '.join(troubles)}")

    @staticmethod
    def _merge_stored(peer: _Peer) -> None:
        """Merge the stored copy of a peer's nodes into the answer; what this VM received wins."""
        if peer.stored is None:
            return
        try:
            stored = parse_network_info(peer.stored.content, peer.card.name)
        except NetworkInfoError as error:
            log.warning("stored information of %s: %s", peer.card.name, error)
            return
        answered = peer.answer.nodes if peer.answer else ()
        peer.answer = _of_nodes(peer.card.name, {node.legal_name: node for node in (*stored.nodes, *answered)})

    async def _store(self, peer: _Peer) -> None:
        """Store the answer in the bank's documents; another VM of the bank may have written first."""
        assert peer.answer  # noqa: S101
        content, name = peer.answer.to_json(), PEERS_PREFIX + peer.card.name
        if peer.stored and peer.stored.content == content:
            return
        etag = await self.documents.write(name, content, peer.stored.etag if peer.stored else None)
        if etag is not None:
            peer.stored = Document(content, etag)
            return
        # The stored copy may have nodes that this VM never saw.
        peer.stored = await self.documents.read(name)
        self._merge_stored(peer)

    def _note_document(self, peer: _Peer, content: bytes | None) -> None:
        if self.pin is None or content is None:
            peer.offers = None
            return
        peer.offers = self.pin.fingerprint(content)
        if peer.offers == self.pin.hash:
            self._offered = content

    @override
    async def document(self) -> bytes | None:
        if self.pin is None:
            return None
        stored = await self.documents.read(NETWORK_DOCUMENT)
        if stored and self.pin.fingerprint(stored.content) == self.pin.hash:
            self._document = stored
            return stored.content
        if self._offered is None:
            others = [f"{name} has {peer.offers}" for name, peer in sorted(self._peers.items()) if peer.offers]
            if stored:
                others.insert(0, f"this bank has {self.pin.fingerprint(stored.content)}")
            raise WaitingError(
                f"network document: {', '.join(others) or 'nobody has one yet'}; wanted {self.pin.hash}, as pinned,"
                " from a peer, or as this bank's document " + NETWORK_DOCUMENT,
                Cause.EXCHANGE,
            )
        etag = await self.documents.write(NETWORK_DOCUMENT, self._offered, stored.etag if stored else None)
        if etag is None:
            raise UnavailableError(f"document {NETWORK_DOCUMENT}: another VM wrote it at this moment")
        self._document = Document(self._offered, etag)
        log.info("network document %s is stored", self.pin.hash)
        return self._offered

    @override
    async def roster(self) -> Roster:
        if self._names is None:
            raise UnavailableError(self._trouble or "the list of peers was not read yet")
        if not self._read:
            await self.refresh()
        me = self.bank.member
        own = tuple(each.content for _, each in sorted(self._own.items()))
        members = [NetworkMember(me, self.bank.addresses, None, own)]
        troubles = {} if self._trouble is None else {me: self._trouble}
        for name, peer in sorted(self._peers.items()):
            if peer.answer is None and (not peer.was_read or peer.stored):
                # Without its nodes the node would remove the member.
                troubles[name] = peer.trouble or f"{name}: its stored information is not read yet"
                continue
            published = peer.answer.nodes if peer.answer else ()
            infos = tuple(node.info for node in published if node.legal_name in peer.card.addresses)
            members.append(NetworkMember(name, peer.card.addresses, peer.card.document, infos))
            if peer.trouble:
                troubles[name] = peer.trouble
        reached = {name: peer.reached for name, peer in self._peers.items() if peer.reached is not None}
        return Roster(frozenset({me, *self._names}), tuple(members), troubles, reached)

    async def _pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds * self.rng.uniform(0.8, 1.2))


def _of_nodes(member: str, nodes: Mapping[str, NodeInfo]) -> NetworkInfo:
    """A peer's document as stored: the card is in the vault, and the network document is stored separately."""
    return NetworkInfo(member=member, nodes=tuple(node for _, node in sorted(nodes.items())))
