"""A node's stored information about a member's nodes: absence removes nothing, and old information is refused."""

import asyncio
import base64
import hashlib
import json
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from agent.reconciler import MemberReconciler
from agent.resources import Note, Roster
from contract.identities import identities
from contract.legal_name import LegalName
from contract.network_info import NetworkInfo, NodeInfo
from contract.users import NODE_USERS, TOOL
from contract.vm_configuration import Zone
from host.bank_documents import Document
from host.errors import UnavailableError
from host.status import Readiness, Status
from host.vault import Card
from ledger.corda import CORDA, IDENTITY_KEY, NODE_CA_KEY
from ledger.corda.authority.signing import revocation_list
from ledger.corda.certificates import (
    CertificateRole,
    certificate,
    make_keys,
    read_key,
)
from ledger.corda.revocation import VerifiedList
from ledger.corda.software import CordaSoftware
from ledger.software import (
    AuthorityAccess,
    DatabaseAccess,
    NetworkMember,
    Place,
    SoftwareError,
    UntrustedError,
    WaitingError,
)
from tests.certificates import CRL, NOW, below, certified, make_network
from tests.software_context import MemoryDocuments, software_context
from tests.unit.test_exchange import Shared, exchange, following, infos_of, peer, saying, until

NODE_1, NODE_2 = "OU=node-1, O=Bank B, L=Paris, C=FR", "OU=node-2, O=Bank B, L=Paris, C=FR"
ADDRESSES = {NODE_1: "10.2.0.254:10000", NODE_2: "10.2.0.254:10001"}
NETWORK = make_network()
ROOT_CRL = "http://10.1.255.30:8445/root.crl"
LEAVES = {
    name: NETWORK.certify(CertificateRole.LEGAL_IDENTITY, ec.generate_private_key(ec.SECP256R1()), name)[0]
    for name in ADDRESSES
}


def encoded(certificate: x509.Certificate) -> str:
    return base64.b64encode(certificate.public_bytes(Encoding.DER)).decode()


def info(legal_name: str, serial: int, **changes: Any) -> bytes:
    """A node's published information, as the tool reads it; on a VM Corda's own code verifies its signature."""
    fields = {
        "fileName": f"nodeInfo-{hashlib.sha256(legal_name.encode()).hexdigest().upper()}",
        "legalNames": [legal_name],
        "addresses": [ADDRESSES[legal_name]],
        "serial": serial,
        "chains": [[encoded(each) for each in (LEAVES[legal_name], NETWORK.ca, NETWORK.root)]],
    }
    return json.dumps(fields | changes).encode()


async def tool(_: str, given: Any, **__: Any) -> dict[str, Any]:
    return {"infos": [json.loads(base64.b64decode(each)) for each in given["documents"]]}


class Node:
    """A node of bank-a with its own information and its own folder on the share."""

    def __init__(self, folder: Path, documents: MemoryDocuments) -> None:
        for name in ("durable", "scratch", "secrets"):
            (folder / name).mkdir(parents=True)
        (identity,) = identities(CORDA, "O=Bank A, L=London, C=GB", 1)
        self.place = Place(identity, 1, folder / "durable", folder / "scratch", folder / "secrets", None, None)
        (self.place.scratch / "additional-node-infos").mkdir()
        self.software = CordaSoftware(software_context(documents=documents))
        chains = SimpleNamespace(trust_root=NETWORK.root)
        start: Any = SimpleNamespace(
            place=self.place, installed=SimpleNamespace(tool=tool), chains=chains, refreshing=None
        )
        self.software._starts[identity.name] = start
        self.status, self.follows_members = "STARTED", True
        self.software._report = self._answer_report  # type: ignore[method-assign,assignment]

    async def _answer_report(self, _: Place) -> Any:
        return SimpleNamespace(status=self.status, follows_members=self.follows_members)

    def revoke(self, certificate: x509.Certificate) -> None:
        """Add the certificate to its issuer's revocation list."""
        of_root = certificate.issuer == NETWORK.root.subject
        issuer, key = (NETWORK.root, NETWORK.root_key) if of_root else (NETWORK.ca, NETWORK.ca_key)
        builder = revocation_list(issuer, 1, {certificate.serial_number: NOW}, now=NOW, lifetime=timedelta(days=90))
        content, url = builder.sign(key, SHA256()).public_bytes(Encoding.DER), ROOT_CRL if of_root else CRL
        self.software._revocations._lists[url] = VerifiedList.verified(url, issuer, content)

    async def admit(self, *infos: bytes, addresses: dict[str, str] = ADDRESSES) -> None:
        await self.software.admit(self.place, NetworkMember("bank-b", addresses, b"{}", infos))

    @property
    def known(self) -> dict[str, int]:
        """The serial numbers of the nodes that Corda reads from its folder, by legal names."""
        files = (self.place.scratch / "additional-node-infos").iterdir()
        return {(fields := json.loads(each.read_bytes()))["legalNames"][0]: fields["serial"] for each in files}


def test_a_node_that_an_answer_omits_stays_admitted(tmp_path: Path) -> None:
    async def story() -> None:
        node = Node(tmp_path, MemoryDocuments())
        await node.admit(info(NODE_1, 5), info(NODE_2, 7))
        for fields in ((), (info(NODE_2, 7),), (info(NODE_2, 8),)):
            await node.admit(*fields)
            assert node.known == {NODE_1: 5, NODE_2: 8 if fields == (info(NODE_2, 8),) else 7}, (
                "a missing node is not removed"
            )
        await node.admit(info(NODE_1, 5), addresses={NODE_1: ADDRESSES[NODE_1]})
        assert node.known == {NODE_1: 5}, "a node that is missing on the card is removed"

    asyncio.run(story())


def test_old_node_information_is_refused_after_an_empty_answer(tmp_path: Path) -> None:
    async def story() -> None:
        documents, vault, node = MemoryDocuments(), Shared(), Node(tmp_path, MemoryDocuments())
        node.software._serials._documents = documents
        serving = b""

        def serve(*infos: bytes) -> bytes:
            nonlocal serving
            nodes = tuple(NodeInfo(legal_name=json.loads(each)["legalNames"][0], info=each) for each in infos)
            serving = NetworkInfo(member="bank-b", nodes=nodes).to_json()
            return serving

        async with peer(saying(lambda: serving)) as url:
            vault.cards["bank-b"] = Card("bank-b", ADDRESSES, url, Shared.RANGE, b"{}")
            serve(info(NODE_1, 5))
            one = exchange("bank-a", vault, documents)
            async with following(one):
                await until(lambda: infos_of(one, "bank-b"), "news")
                await node.admit(*await infos_of(one, "bank-b"))
                serve()

                async def trouble() -> str | None:
                    return (await one.roster()).troubles.get("bank-b")

                said = await until(trouble, "a word that the peer has fallen silent")
                assert "bank-b: no longer publishes" in said, "the message names the member"
                assert NODE_1 in said
                await node.admit(*await infos_of(one, "bank-b"))
                assert node.known == {NODE_1: 5}
                serve(info(NODE_1, 4))

                async def old() -> bool:
                    return await infos_of(one, "bank-b") == (info(NODE_1, 4),)

                await until(old, "the old information")
                with pytest.raises(UntrustedError, match="with serial 4; wanted 5"):
                    await node.admit(*await infos_of(one, "bank-b"))
                assert node.known == {NODE_1: 5}, "it is not removed either"

    asyncio.run(story())


def test_the_highest_serial_number_is_stored_beyond_the_member_and_the_node(tmp_path: Path) -> None:
    async def story() -> None:
        documents = MemoryDocuments()
        node = Node(tmp_path / "one", documents)
        await node.admit(info(NODE_1, 5))
        await node.software.expel(node.place, "bank-b")
        assert node.known == {}
        with pytest.raises(UntrustedError, match=f"node information of {NODE_1} with serial 4; wanted 5"):
            await node.admit(info(NODE_1, 4))
        another = Node(tmp_path / "two", documents)
        with pytest.raises(UntrustedError, match="with serial 4; wanted 5"):
            await another.admit(info(NODE_1, 4))
        assert another.known == {}, "an identity that never got the higher one refuses the lower one too"
        await another.admit(info(NODE_1, 5))
        await another.admit(info(NODE_1, 6))
        assert another.known == {NODE_1: 6}, "rejoining with the same number, or a higher one, is no replay"

    asyncio.run(story())


def test_a_node_with_a_revoked_certificate_is_removed_although_its_bank_publishes_it(tmp_path: Path) -> None:
    async def story() -> None:
        fields = info(NODE_1, 5), info(NODE_2, 7)
        node = Node(tmp_path, MemoryDocuments())
        await node.admit(*fields)
        await node.software._forget_revoked(node.place)
        assert node.known == {NODE_1: 5, NODE_2: 7}, "no certificate is revoked yet"
        first = min(each.not_valid_after_utc for each in (*LEAVES.values(), NETWORK.ca, NETWORK.root))
        assert node.software._ends == {"bank-b": first}, "an operator is warned before a peer's certificate expires"

        node.revoke(LEAVES[NODE_1])
        await node.software._forget_revoked(node.place)
        assert node.known == {NODE_2: 7}, "no change of its member is required"
        await node.admit(*fields)
        assert node.known == {NODE_2: 7}, "its bank's other nodes stay admitted"
        await node.admit(info(NODE_1, 6), info(NODE_2, 8))
        assert node.known == {NODE_2: 8}

    asyncio.run(story())


def test_nodes_below_a_revoked_ca_are_removed(tmp_path: Path) -> None:
    async def story() -> None:
        node = Node(tmp_path, MemoryDocuments())
        await node.admit(info(NODE_1, 5))
        node.revoke(NETWORK.ca)
        await node.software._forget_revoked(node.place)
        assert node.known == {}, "no list names the leaf: the root's list names its CA"

    asyncio.run(story())


def test_a_node_exchanges_information_once_it_is_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each start signs the same information again, and whoever verifies it needs a Java process."""
    verified, published = list[bytes](), list[bytes]()
    own, status = b"signed at this start", Status("vm-1", readiness=Readiness.UP)

    async def story() -> None:
        node = Node(tmp_path, MemoryDocuments())

        async def publish(_: str, information: bytes, __: Document | None) -> Document:
            published.append(information)
            return Document(information, "new")

        async def roster() -> Roster:
            members = NetworkMember("bank-a", ADDRESSES, None, (own, info(NODE_1, 5)))
            return Roster(frozenset({"bank-a"}), (members,), {}, {})

        async def verify(command: str, given: Any, **options: Any) -> dict[str, Any]:
            verified.extend(base64.b64decode(each) for each in given["documents"])
            return await tool(command, given, **options)

        async def ends(_: Place) -> dict[str | None, datetime]:
            return {}

        async def cut_off(_: Place) -> dict[str, str]:
            return {}

        monkeypatch.setattr(node.software._starts["node-1"].installed, "tool", verify)
        monkeypatch.setattr(node.software, "cut_off", cut_off)
        monkeypatch.setattr(node.software, "ends", ends)
        (node.place.scratch / "nodeInfo-0A").write_bytes(own)
        notes = dict[Note, bytes]()
        folder: Any = SimpleNamespace(read_note=notes.get, write_note=notes.__setitem__)
        network: Any = SimpleNamespace(roster=roster, publish=publish)
        reconciler = MemberReconciler(
            software=node.software,
            network=network,
            place=node.place,
            folder=folder,
            lease=Mock(),
            status=status,
            published=None,
        )

        async def until_published() -> None:
            async with asyncio.timeout(5):
                while not published or not verified:
                    await asyncio.sleep(0.01)

        keeping = asyncio.create_task(reconciler.keep_up(0.01))
        await asyncio.sleep(0.1)
        assert (published, verified) == ([], []), "a starting node needs the processors"
        status.readiness = Readiness.READY
        await until_published()
        status.readiness = Readiness.UP
        published.clear()
        await until_published()
        keeping.cancel()
        assert set(published) == {own}, "a node that was ready once is still reconciled"
        assert verified == [info(NODE_1, 5)], "it verifies others' information, and that once"

    asyncio.run(story())


KEYS = make_keys()


def by_node_ca(name: str, **more: str) -> list[str]:
    """The chain of an identity that a node's own CA issues."""
    above = NETWORK.certify(CertificateRole.NODE_CA, read_key(KEYS, NODE_CA_KEY), name)
    key = read_key(KEYS, IDENTITY_KEY).public_key()
    builder = certificate(CertificateRole.LEGAL_IDENTITY, below(name, **more), key, above[0], now=NOW)
    return [encoded(each) for each in (builder.sign(read_key(KEYS, NODE_CA_KEY), SHA256()), *above)]


@pytest.mark.parametrize("more", [{}, {"ST": "Seine"}, {"CN": "x"}], ids=["exactly its name", "an ST", "a CN"])
def test_what_a_member_certifies_itself_is_no_identity(tmp_path: Path, more: dict[str, str]) -> None:
    chain, full = by_node_ca(NODE_1, **more), str(LegalName.parse(", ".join([NODE_1, *map("=".join, more.items())])))

    async def story() -> None:
        node = Node(tmp_path, MemoryDocuments())
        await node.admit(info(NODE_1, 5))
        with pytest.raises(UntrustedError, match="by the authority itself"):
            await node.admit(info(NODE_1, 6, chains=[chain]))
        with pytest.raises(UntrustedError, match="by the authority itself"):
            await node.admit(info(NODE_1, 6, chains=[chain], legalNames=[full]))
        assert node.known == {NODE_1: 5}, "it is on no revocation list, and no authority was asked"

    asyncio.run(story())


def test_the_authoritys_certificate_of_another_name_is_no_identity_either(tmp_path: Path) -> None:
    for other in (NODE_2, NODE_1.replace("Bank B", "BANK B")):
        leaf = NETWORK.certify(CertificateRole.LEGAL_IDENTITY, ec.generate_private_key(ec.SECP256R1()), other)[0]
        attack = info(NODE_1, 6, chains=[[encoded(each) for each in (leaf, NETWORK.ca, NETWORK.root)]])
        with pytest.raises(UntrustedError, match="wanted exactly OU=node-1"):
            asyncio.run(Node(tmp_path / other, MemoryDocuments()).admit(attack))
    spelled = info(NODE_1, 6, legalNames=[other], chains=json.loads(attack)["chains"])
    with pytest.raises(UntrustedError, match="wanted a legal name on the card"):
        asyncio.run(Node(tmp_path / "spelled", MemoryDocuments()).admit(spelled))


def test_an_identity_that_an_earlier_version_took_is_forgotten(tmp_path: Path) -> None:
    async def story() -> None:
        node = Node(tmp_path, MemoryDocuments())
        check, node.software._check_certified = node.software._check_certified, Mock()  # type: ignore[method-assign]
        await node.admit(info(NODE_1, 5, chains=[by_node_ca(NODE_1)]), info(NODE_2, 7))
        assert node.known == {NODE_1: 5, NODE_2: 7}
        node.software._check_certified = check  # type: ignore[method-assign]
        await node.software._forget_revoked(node.place)
        assert node.known == {NODE_2: 7}, "the share's files are checked too"

    asyncio.run(story())


def test_in_a_zone_nodes_certify_their_own_identities(tmp_path: Path) -> None:
    zone = Zone(registration_url="https://zone.invalid", network_map_url="https://zone.invalid", trust_root="")

    async def story() -> None:
        node = Node(tmp_path, MemoryDocuments())
        node.software._context = replace(node.software._context, network=zone)
        await node.admit(info(NODE_1, 5, chains=[by_node_ca(NODE_1)]))
        assert node.known == {NODE_1: 5}, "its doorman certifies node CAs only"

    asyncio.run(story())


def test_a_node_removes_no_member_before_it_has_started(tmp_path: Path) -> None:
    """Corda removes a node from its network map if its file disappears after it was read, and never before."""

    async def story() -> None:
        node = Node(tmp_path, MemoryDocuments())
        await node.admit(info(NODE_1, 5), info(NODE_2, 7))
        node.status = "STARTING"
        await node.admit(info(NODE_1, 6))
        assert node.known == {NODE_1: 6, NODE_2: 7}, "new nodes may be added at any time"
        left = {NODE_1: ADDRESSES[NODE_1]}
        with pytest.raises(
            SoftwareError,
            match=r"node-1 does not follow its members; wanted it started .* it forgets nodes of bank-b",
        ):
            await node.admit(info(NODE_1, 6), addresses=left)
        node.revoke(LEAVES[NODE_1])
        with pytest.raises(SoftwareError, match="it forgets revoked nodes of bank-b"):
            await node.software._forget_revoked(node.place)
        assert node.known == {NODE_1: 6, NODE_2: 7}, "the files stay until the node has read them"
        node.status, node.follows_members = "STARTED", False
        with pytest.raises(SoftwareError, match="it forgets bank-b"):
            await node.software.expel(node.place, "bank-b")
        assert node.known == {NODE_1: 6, NODE_2: 7}, "it would keep the member, and nobody would know"
        node.follows_members = True
        await node.software._forget_revoked(node.place)
        await node.admit(addresses=left)
        assert node.known == {}, "then they are removed"

    asyncio.run(story())


def test_a_node_with_many_identities_is_refused(tmp_path: Path) -> None:
    async def story() -> None:
        node, chain = Node(tmp_path, MemoryDocuments()), json.loads(info(NODE_1, 5))["chains"][0]
        several: list[dict[str, Any]] = [{"legalNames": [NODE_1] * 2}, {"chains": [chain] * 2}, {"legalNames": []}]
        for changes in several:
            with pytest.raises(UntrustedError, match=r"^node information: [^\n]*at (most|least) 1 item[^\n]*$"):
                await node.admit(info(NODE_1, 5, **changes))
        assert node.known == {}, "each VM of each bank would verify them again and again"

    asyncio.run(story())


def test_a_serial_number_more_than_a_day_ahead_is_refused(tmp_path: Path) -> None:
    async def story() -> None:
        node, now = Node(tmp_path, MemoryDocuments()), int(time.time() * 1000)
        for ahead in (2 * 86_400_000, 2**62 - now):
            with pytest.raises(
                UntrustedError, match=rf"with serial {now + ahead}; wanted \d+ at most, which is tomor"
            ):
                await node.admit(info(NODE_1, now + ahead))
        assert node.known == {}
        await node.admit(info(NODE_1, now))
        assert node.known == {NODE_1: now}, "otherwise no honest information would ever be newer"

    asyncio.run(story())


def test_a_node_with_certificates_of_a_revoked_ca_does_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        node, keys = Node(tmp_path, MemoryDocuments()), make_keys()
        node.software._context = replace(
            node.software._context, network=AuthorityAccess("https://nobody.invalid", no_key)
        )
        for name, key in keys.items():
            (node.place.secrets / name).write_bytes(key)
        chains = certified(NETWORK, keys)
        monkeypatch.setattr(node.software, "_verified", lambda: None)
        monkeypatch.setattr(node.software._enroller, "certificates", lambda *_: answer(chains))
        monkeypatch.setattr(node.software._revocations, "follow", answer)
        node.revoke(NETWORK.ca)
        place = replace(node.place, database=DatabaseAccess("127.0.0.1", 1, "ledger", "nobody", ""))
        with pytest.raises(WaitingError, match="the CA of its certificate is revoked; wanted a certificate of the"):
            await node.software.prepare(place)
        node.software._revocations._lists.clear()
        node.revoke(chains.identity[0])
        with pytest.raises(WaitingError, match="its certificate is revoked; wanted a new key"):
            await node.software.prepare(place)

    asyncio.run(story())


async def no_key() -> bytes:
    raise AssertionError("the authority must not be called here")


async def answer(value: Any) -> Any:
    return value


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'{"serial": "5"}', b'{"serial": true}', b"\xff"])
def test_without_its_serial_number_node_information_is_refused(tmp_path: Path, content: bytes) -> None:
    async def story() -> None:
        documents = MemoryDocuments()
        node = Node(tmp_path, documents)
        await node.admit(info(NODE_1, 5))
        (name,) = await documents.names("serials/")
        await documents.write(name, content, (await documents.read(name)).etag)  # type: ignore[union-attr]
        with pytest.raises(UntrustedError, match=f"document {name} .* wanted: its last version restored"):
            await node.admit(info(NODE_1, 6))
        assert node.known == {NODE_1: 5}

    asyncio.run(story())


def test_each_of_the_tools_commands_runs_as_its_own_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    users = dict[str, int | None]()

    async def records(command: str, given: Any, *_: object, user: int | None = None, **__: object) -> dict[str, Any]:
        users[command] = user
        answers = {"drain": {"inFlight": 0}, "verify-parameters": {"minimumPlatformVersion": 1, "epoch": 1}}
        return answers.get(command) or await tool(command, given)

    async def nothing(*_: object) -> None:
        return None

    async def trust_root() -> x509.Certificate:
        return NETWORK.root

    async def story() -> None:
        node = Node(tmp_path, MemoryDocuments())
        software = node.software
        software._context = replace(software._context, tool_user=TOOL.number)
        installed: Any = SimpleNamespace(tool=records, manifest=SimpleNamespace(platform_version=14))
        start: Any = software._starts["node-1"]
        start.installed, start.password, start.agent_password = installed, "password", "password"
        monkeypatch.setattr(software, "_ask", nothing)
        monkeypatch.setattr(software._enroller, "trust_root", trust_root)
        await node.admit(info(NODE_1, 5))
        await software._verify_parameters(installed, b"document")
        await software.drain(replace(node.place, user=NODE_USERS["node-1"].number), 1)

    asyncio.run(story())
    assert users == {
        "node-info": TOOL.number,
        "verify-parameters": TOOL.number,
        "drain": NODE_USERS["node-1"].number,
    }, "what others wrote is read without a node's rights, and only the node's user may read its trust store"


def evidence(serial: int, content: bytes | None) -> bytes:
    more = {} if content is None else {"info": base64.b64encode(content).decode()}
    return json.dumps({"legalName": NODE_1, "serial": serial} | more).encode()


EDITED = {
    "nothing": evidence(9, None),
    "no node information": evidence(9, b"?"),
    "its own older information": evidence(9, info(NODE_1, 5)),
    "another node's information": evidence(9, info(NODE_2, 9, addresses=["10.2.0.254:10000"])),
}


@pytest.mark.parametrize("edited", EDITED.values(), ids=EDITED)
def test_an_edited_serial_number_does_not_blame_the_peer(tmp_path: Path, edited: bytes) -> None:
    async def story() -> None:
        documents = MemoryDocuments()
        node = Node(tmp_path, documents)
        await node.admit(info(NODE_1, 5))
        (name,) = await documents.names("serials/")
        await documents.write(name, edited, (await documents.read(name)).etag)  # type: ignore[union-attr]
        with pytest.raises(UntrustedError, match=f"{NODE_1} with serial 6; wanted 9, which no signature proves"):
            await node.admit(info(NODE_1, 6))
        assert node.known == {NODE_1: 5}, "who edited it may have wanted the replay of an old one"
        await node.admit(info(NODE_1, 10))
        assert node.known == {NODE_1: 10}, "a newer one is not refused"

    asyncio.run(story())


def test_a_peer_is_blamed_with_its_own_signature(tmp_path: Path) -> None:
    async def story() -> None:
        documents = MemoryDocuments()
        one, other = Node(tmp_path / "one", documents), Node(tmp_path / "other", documents)
        await one.admit(info(NODE_1, 9))
        with pytest.raises(UntrustedError, match=f"node information of {NODE_1} with serial 6; wanted 9, which was"):
            await other.admit(info(NODE_1, 6))
        (name,) = await documents.names("serials/")
        assert info(NODE_1, 9) == base64.b64decode(json.loads(documents.stored[name].content)["info"]), "the proof"

    asyncio.run(story())


def test_a_serial_number_that_an_earlier_version_stored_gets_its_proof(tmp_path: Path) -> None:
    async def story() -> None:
        documents = MemoryDocuments()
        node = Node(tmp_path, documents)
        await node.admit(info(NODE_1, 5))
        (name,) = await documents.names("serials/")
        proven = documents.stored[name].content
        await documents.write(name, evidence(5, None), documents.stored[name].etag)
        await Node(tmp_path / "again", documents).admit(info(NODE_1, 5))
        assert documents.stored[name].content == proven

    asyncio.run(story())


def test_during_an_outage_of_the_documents_node_information_is_refused(tmp_path: Path) -> None:
    class Away(MemoryDocuments):
        async def write(self, name: str, content: bytes, etag: str | None) -> str | None:
            raise UnavailableError(f"document {name}: no answer")

    async def story() -> None:
        node = Node(tmp_path, Away())
        with pytest.raises(UnavailableError):
            await node.admit(info(NODE_1, 5))
        assert node.known == {}, "otherwise older information could be accepted after it"

    asyncio.run(story())


def test_of_serial_numbers_accepted_at_the_same_time_the_highest_is_stored(tmp_path: Path) -> None:
    async def story() -> None:
        documents = MemoryDocuments()
        nodes = [Node(tmp_path / str(number), documents) for number in range(4)]
        await asyncio.gather(
            *(node.admit(info(NODE_1, serial)) for serial, node in enumerate(nodes)), return_exceptions=True
        )
        (name,) = await documents.names("serials/")
        assert json.loads((await documents.read(name)).content)["serial"] == 3  # type: ignore[union-attr]

    asyncio.run(story())


def bridge(names: str, seconds: float, reason: str = "") -> dict[str, Any]:
    return {"names": names, "since": int((time.time() - seconds) * 1000), "reason": reason}


@pytest.mark.parametrize(
    ("bridges", "cut_off"),
    [
        ([], {}),
        ([(NODE_1, 100)], {}),
        ([(NODE_1, 301)], {NODE_1: "no answer"}),
        (
            [(f"{NODE_1};{NODE_2}", 3600, "Handshake failure: expired"), (NODE_2, 3)],
            dict.fromkeys((NODE_1, NODE_2), "Handshake failure: expired"),
        ),
    ],
    ids=["all-connected", "a-takeover", "silent", "a-notary-with-two-names"],
)
def test_a_node_that_is_long_without_a_connection_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bridges: list[tuple[Any, ...]], cut_off: dict[str, str]
) -> None:
    fields = {
        "identity": "node-1",
        "epoch": 1,
        "status": "STARTED",
        "pool": {"total": 1, "timeouts": 0},
        "flows": {"failed": 0},
        "transactions": None,
        "bridges": [bridge(*each) for each in bridges],
        "followsMembers": True,
    }

    async def story() -> None:
        node = Node(tmp_path, MemoryDocuments())

        async def ask(*_: object) -> bytes | None:
            return json.dumps(fields).encode() if fields else None

        monkeypatch.setattr(node.software, "_ask", ask)
        monkeypatch.delattr(node.software, "_report")
        assert await node.software.cut_off(node.place) == cut_off
        fields.clear()
        assert await node.software.cut_off(node.place) == {}, "a node that does not answer reports no connections"

    asyncio.run(story())


def test_a_member_whose_bridge_is_down_is_named_although_its_agents_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = dict[Note, bytes]()

    async def story() -> dict[str, str]:
        node = Node(tmp_path, MemoryDocuments())
        members = tuple(
            NetworkMember(name, addresses, b"{}", ())
            for name, addresses in (
                ("bank-b", ADDRESSES),
                ("bank-c", {"O=Bank C, L=Milan, C=IT": "10.3.0.254:10000"}),
            )
        )

        async def roster() -> Roster:
            return Roster(frozenset({"bank-b", "bank-c"}), members, {}, {"bank-b": False, "bank-c": True})

        async def ends(_: Place) -> dict[str | None, datetime]:
            return {None: datetime.now(UTC) + timedelta(days=200), "bank-b": datetime.now(UTC) + timedelta(days=40)}

        async def cut_off(_: Place) -> dict[str, str]:
            # Names as Corda writes them, one of a removed member.
            return {NODE_2.replace(", ", ","): "TLS failed", "O=Bank D, L=Rome, C=IT": "TLS failed"}

        network: Any = SimpleNamespace(roster=roster)
        folder: Any = SimpleNamespace(read_note=notes.get, write_note=notes.__setitem__)
        monkeypatch.setattr(node.software, "cut_off", cut_off)
        monkeypatch.setattr(node.software, "ends", ends)
        status = Status("vm-1")
        reconciler = MemberReconciler(
            software=node.software,
            network=network,
            place=node.place,
            folder=folder,
            lease=Mock(),
            status=status,
            published=None,
        )
        troubles = await reconciler._once()
        assert status.reached == {"bank-b": False, "bank-c": True}, "each member is named"
        assert {key: round(days) for key, days in status.days_left.items()} == {
            ("node-certificates", None): 200,
            ("node-certificates", "bank-b"): 40,
        }
        return troubles

    assert asyncio.run(story()) == {"bank-b": f"no connection to {NODE_2}: TLS failed"}
