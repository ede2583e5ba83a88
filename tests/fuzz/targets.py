"""Every parser of foreign input, with valid documents as seeds, and the errors that it documents."""

import asyncio
import base64
import io
import json
import ssl
import tempfile
import zipfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

from azure.storage.blob.aio import ContainerClient
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from pydantic import ValidationError

from agent import keys as agent_keys
from agent import reconciler, scheduled_events
from agent.blob_leases import BlobLeases
from agent.exchange import info_handler
from agent.keys import KeyVaultKeys
from agent.lease import IdentityRecord, LeaseRefusedError
from contract.card import IpsecPolicy, LinkKind, MembershipError, read_card
from contract.consortium import MemberProfile, check_consortium
from contract.identities import identities
from contract.key_agreement import Party, Purpose, agree, link_public_key
from contract.key_document import KeyDocument
from contract.legal_name import LegalName, name_key
from contract.network_info import NetworkInfo, NetworkInfoError, NodeInfo, parse_network_info
from host.bank_documents import BlobDocuments, Document
from host.errors import DamagedError, SupersededError, UnavailableError
from host.http import MAX_ANSWER_BYTES, TooLargeError, ask, serving_requests
from host.vault import BankVault
from host.vm_configuration import ConfigurationError, read_agent_configuration
from lab.azure.program import read_configuration
from lab.azure.stack_file import StackFileError
from lab.banks.key_vault import CHALLENGE, client_of, write_certificate
from lab.cards import TENANT, link_secret, make_card, resigned, signing_seed
from ledger.corda import CORDA, NODE_CA_KEY, enrolment, proof, serials, software
from ledger.corda.authority import register
from ledger.corda.authority.server import Requests
from ledger.corda.authority.signing import read_request, revocation_list
from ledger.corda.certificates import (
    CertificateError,
    CertificateRole,
    Chains,
    check_chain,
    check_root,
    from_der,
    from_pem,
    legal_name_of,
    make_keys,
    make_request,
    read_key,
    read_revocation_list,
    renewal_time,
    serves,
    to_pem,
)
from ledger.software import AuthorityAccess, SoftwareError, UntrustedError
from stack.card_file import read_card_file
from stack.settings import SettingsError, parse_settings
from tests.certificates import NAME, NOW, certified, make_network
from tests.configuration import PROJECT, configuration
from tests.software_context import software_context

CORPUS = Path(__file__).with_name("corpus")
"""A folder for each target, with inputs that once failed and are tried in each run."""
_NODES = identities(CORDA, "O=Bank A, L=London, C=GB", 1)
_REFUSED = (UnavailableError, DamagedError)


@dataclass(frozen=True)
class Target:
    """A parser to fuzz."""

    name: str
    parse: Callable[[bytes], object]
    """Parses an input, and uses the result as the program does."""
    errors: tuple[type[Exception], ...]
    """The documented errors; no other may escape."""
    seeds: Sequence[bytes] = field(repr=False)
    """Valid inputs."""

    @property
    def found(self) -> list[Path]:
        """The inputs of the corpus."""
        return sorted((CORPUS / self.name).glob("*"))


@contextmanager
def targets() -> Iterator[dict[str, Target]]:
    """All targets by name; the servers of targets that read from a network run during the block."""
    with asyncio.Runner() as runner, tempfile.TemporaryDirectory() as folder:
        around = AsyncExitStack()
        try:
            network = runner.run(around.enter_async_context(_network(Path(folder))))
            made = [*_documents(), *_certificates(), *_files(Path(folder)), *_answers(runner, network)]
            yield {each.name: each for each in made}
        finally:
            runner.run(around.aclose())


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


# --- Documents -----------------------------------------------------------------------------------------------------


def _documents() -> Iterator[Target]:
    card = make_card("bank-b")
    info = NetworkInfo(member="bank-b", card=card, nodes=(NodeInfo(legal_name="O=B", info=b"info"),))
    yield Target(
        "network-info",
        lambda content: parse_network_info(content, "bank-b").to_json(),
        (NetworkInfoError,),
        [info.to_json(), NetworkInfo(member="bank-b", network_document=b"parameters").to_json()],
    )
    yield Target("card", _read_card, (MembershipError,), [_json(card), _json(make_card("bank-b", gateway=None))])
    yield Target("legal-name", _read_name, (ValueError,), [b"O=Bank A, L=London, C=GB", b"OU=node-1,O=B B,L=P,C=FR"])
    yield Target("settings", _read_settings, (SettingsError,), [_json(_settings())])
    record = IdentityRecord().acquired("vm-1", "2026-01-01T00:00:00.000+00:00")
    yield Target(
        "identity-record",
        lambda content: (
            IdentityRecord.from_json("node-1", content).acquired("vm-2", "now").released("now", "why").to_json()
        ),
        (DamagedError,),
        [
            record.to_json(),
            record.released("2026-01-01", "stop signal").model_copy(update={"keys": "0" * 64}).to_json(),
        ],
    )
    yield Target("scheduled-events", _read_events, (ValidationError,), [_json(_EVENTS)])
    yield Target("note", reconciler.parse_admitted, (DamagedError,), [_json({"admitted": ["bank-a", "bank-b"]})])
    yield Target(
        "serial",
        lambda content: serials._read(Document(content, "etag"), "x"),
        (UntrustedError,),
        [_json({"legalName": "O=B", "serial": 1, "info": "AA=="})],
    )
    yield Target("node-answer", software._NodeReport.model_validate_json, (ValidationError,), [_json(_NODE_REPORT)])
    infos = {
        "infos": [
            {
                "fileName": "nodeInfo-A",
                "legalNames": ["O=B"],
                "addresses": ["a:1"],
                "serial": 1,
                "chains": [["AA=="]],
            }
        ]
    }
    yield Target("tool-answer", software._VerifiedInfos.model_validate_json, (ValidationError,), [_json(infos)])
    keys = KeyDocument(identity="node-1", blobs=make_keys())
    yield Target(
        "key-document",
        _read_keys,
        (DamagedError,),
        [keys.to_json().encode(), keys.model_copy(update={"replaces": "0" * 64}).to_json().encode()],
    )
    yield Target("register", _read_record, (DamagedError,), list(_records()))


_NODE_REPORT = {
    "identity": "node-1",
    "epoch": 1,
    "status": "STARTED",
    "pool": {"total": 1, "timeouts": 0},
    "flows": {"failed": 0},
    "bridges": [{"names": "O=Bank B, L=Paris, C=FR", "since": 1_764_424_800_000, "reason": "Handshake failure"}],
    "followsMembers": True,
}


def _read_keys(content: bytes) -> None:
    version = agent_keys._KeyVersion("1", True, False, content.decode(errors="surrogateescape"))
    assert len(version.fingerprint) == 64
    assert version.replaces is None or isinstance(version.replaces, str)
    KeyVaultKeys(SimpleNamespace(vault_url="vault"))._blobs("keys", _NODES[0], version)  # type: ignore[arg-type]


def _read_card(content: bytes) -> None:
    try:
        document = json.loads(content)
        # A hostile peer can sign any content.
        document = resigned(document, signing_seed("bank-b")) if isinstance(document, dict) else document
    except (ValueError, RecursionError):
        return
    card = read_card(document, name="bank-b", pinned=None, source="file")
    own = MemberProfile(
        name="bank-a",
        tenant_id=UUID(TENANT),
        address_space="10.200.0.0/16",
        asn=64512,
        legal_names=frozenset({"O=Bank A, L=London, C=GB"}),
    )
    check_consortium(own, [card], {card.name: LinkKind.IPSEC}, IpsecPolicy(), "bank-b")
    mine = Party(name="bank-a", public_key=link_public_key(link_secret("bank-a")), generation=1)
    theirs = Party(name=card.name, public_key=card.link_public_key, generation=card.key_generations.link)
    agree(link_secret("bank-a"), mine, theirs, Purpose.LINK, "ipsec")


def _read_name(content: bytes) -> None:
    text = content.decode(errors="surrogateescape")
    name_key(text)
    assert LegalName.parse(str(LegalName.parse(text))) == LegalName.parse(text)


def _settings() -> dict[str, Any]:
    """A configuration with its objects and lists decoded, so that their parts are mutated too."""
    peer = {"name": "bank-b", "legalName": "O=Bank B, L=New York, C=US", "stack": "org/decentralized-trust/b"}
    values = configuration(peers=[peer], tags={"owner": "me"}, alerts={"emails": ["a@b.example"]})
    return {key: json.loads(value) if value[0] in "{[" else value for key, value in values.items()}


def _read_settings(content: bytes) -> None:
    try:
        values = json.loads(content)
    except (ValueError, RecursionError):
        return
    if isinstance(values, dict):
        known = {key: value if isinstance(value, str) else json.dumps(value) for key, value in values.items()}
        parse_settings(PROJECT, known)


_EVENTS = {
    "DocumentIncarnation": 2,
    "Events": [
        {
            "EventId": "C7061BAC-AFDC-4513-B24B-AA5F13A16123",
            "EventStatus": "Scheduled",
            "EventType": "Terminate",
            "ResourceType": "VirtualMachine",
            "Resources": ["vm-1"],
            "NotBefore": "Mon, 11 Apr 2022 22:26:58 GMT",
            "Description": "",
        }
    ],
}


def _read_events(content: bytes) -> None:
    for event in scheduled_events._Document.model_validate_json(content).events:
        assert event.seconds_left(datetime.now(UTC)) >= 0
        event.concerns("vm-1")


def _records() -> Iterator[bytes]:
    network, key = make_network(), ec.generate_private_key(ec.SECP256R1())
    leaf = network.certify(CertificateRole.NODE_CA, key)[0]
    since, hashed = "2026-01-01T00:00:00+00:00", "0" * 64
    pem = to_pem(network.root)
    keys = ("root", "identity-ca", "network-parameters")
    yield register.AuthorityRecord(
        versions=dict.fromkeys(keys, "1"),
        certificates=dict.fromkeys(keys, pem),
        issuing="identity-ca",
        revoked={"identity-ca": since},
    ).to_json()
    yield register.NameRecord(
        legal_name="O=B",
        member="bank-b",
        issued=(
            register.Issued(
                role="NODE_CA", key_hash=hashed, serial="1", certificate=to_pem(leaf), issued=since, expires=since
            ),
        ),
        revoked=(hashed,),
    ).to_json()
    revoked = register.Revoked(legal_name="O=B", role="TLS", key_hash=hashed, revoked=since, by="alice")
    yield register.RevocationsRecord(certificates={"ab": revoked}).to_json()
    yield register.ParametersRecord(
        epoch=1, settings={"a": 1}, notaries=(), modified=since, configured=1.0, document="AAAA"
    ).to_json()


def _read_record(content: bytes) -> None:
    kinds = (
        register.AuthorityRecord,
        register.NameRecord,
        register.RequestRecord,
        register.RevocationsRecord,
        register.ParametersRecord,
    )
    refused: Exception | None = None
    for kind in kinds:
        try:
            record = kind.read(Document(content, "etag"), "blob")
        except DamagedError as error:
            refused = error
            continue
        if isinstance(record, register.NameRecord):
            for each in record.issued:
                renewal_time(from_pem(each.certificate))
                datetime.fromisoformat(each.expires)
        if isinstance(record, register.RevocationsRecord):
            for serial, revoked in record.certificates.items():
                assert int(serial, 16) >= 0
                datetime.fromisoformat(revoked.revoked).astimezone(UTC)
        return
    assert refused
    raise refused


# --- Certificates --------------------------------------------------------------------------------------------------


def _certificates() -> Iterator[Target]:
    network, keys = make_network(), make_keys()
    chains = certified(network, keys)
    encoded = [each.public_bytes(Encoding.DER) for each in (*chains.node_ca, chains.rpc, chains.tls[0])]
    errors = (CertificateError,)

    def use(content: bytes) -> None:
        found = from_der(content)
        assert from_pem(to_pem(found)) == found
        renewal_time(found)
        serves(found, "10.1.255.4")
        check = (lambda: check_root(found), lambda: legal_name_of(found.subject), lambda: chained(found))
        for each in check:
            try:
                each()
            except CertificateError:
                continue

    def chained(found: Any) -> None:
        check_chain(
            (found, *chains.node_ca[1:]),
            role=CertificateRole.NODE_CA,
            subject=NAME,
            public_key=read_key(keys, NODE_CA_KEY).public_key(),
            trust_root=network.root,
            now=NOW,
        )

    yield Target("certificate", use, errors, encoded)
    yield Target(
        "certificate-pem",
        lambda content: from_pem(content.decode(errors="surrogateescape")),
        errors,
        [to_pem(each).encode() for each in (network.root, chains.rpc)],
    )
    yield Target("chains", Chains.from_json, errors, [chains.to_json()])
    request = make_request(NAME, "a@b.example", CertificateRole.NODE_CA, read_key(keys, NODE_CA_KEY))
    yield Target("certificate-request", read_request, errors, [request])
    crl = revocation_list(network.root, 7, {1: NOW, 2**150: NOW}, now=NOW, lifetime=NOW - NOW.replace(year=2020))
    signed = crl.sign(network.root_key, SHA256()).public_bytes(Encoding.DER)
    yield Target("revocation-list", read_revocation_list, errors, [signed])
    zips = [_zip(encoded[:3], method) for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)]
    odd = [_zip(encoded[:1], zipfile.ZIP_LZMA), _zip(encoded[:1], zipfile.ZIP_BZIP2), _zip([bytes(50_000_000)])]
    yield Target("zip", lambda content: enrolment._unzip(content, "answer"), (SoftwareError,), [*zips, *odd])
    # The same with a mutated certificate in a valid archive.
    yield Target(
        "zipped-certificate",
        lambda content: enrolment._unzip(_zip([content]), "answer"),
        (SoftwareError,),
        encoded[:2],
    )


def _zip(contents: Sequence[bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as archive:
        for index, each in enumerate(contents):
            archive.writestr(f"{index}.cer", each)
    return packed.getvalue()


# --- Files ---------------------------------------------------------------------------------------------------------

_STACK_FILE = b"""\
config:
  azure-native:location: swedencentral
  decentralized-trust:bank: {name: bank-a, legalName: "O=Bank A, L=London, C=GB", asn: 64512}
  decentralized-trust:tags: {owner: me, since: "2026-01-01"}
  decentralized-trust:key: {secure: v1:abc}
"""
_AGENT = {
    "member": "bank-a",
    "platform": "corda",
    "version": "4.10",
    "legalName": "O=Bank A, L=London, C=GB",
    "identities": 2,
    "frontend": "10.1.255.4",
    "installation": "/opt/ledger",
    "clientId": "id",
    "vaultUrl": "https://vault",
    "blobUrl": "https://blob",
    "leaseContainer": "leases",
    "networkContainer": "network",
    "share": "/mnt",
    "database": {"host": "db", "administrator": "vm"},
    "connectionString": None,
}


def _files(folder: Path) -> Iterator[Target]:
    def written(read: Callable[[Path], object], name: str) -> Callable[[bytes], object]:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)

        def parse(content: bytes) -> object:
            path.write_bytes(content)
            return read(path)

        return parse

    card = json.dumps(make_card("bank-b"), indent=2)
    yield Target(
        "card-file",
        written(read_card_file, "card.json"),
        (ValueError,),
        [card.encode(each) for each in ("utf-8", "utf-8-sig", "utf-16", "utf-16-le")],
    )
    yield Target("stack-file", written(read_configuration, "Pulumi.a.yaml"), (StackFileError,), [_STACK_FILE])
    yield Target(
        "agent-configuration", written(read_agent_configuration, "agent.json"), (ConfigurationError,), [_json(_AGENT)]
    )
    info = software._Info(
        file_name="nodeInfo-AB",
        legal_names=("O=B",),
        addresses=("a:1",),
        serial=1,
        chains=((b"x",),),
        content=b"x",
    )
    stored = software._StoredMember(member="bank-b", infos=(info,))
    # An unreadable file is skipped, so no error is documented.
    yield Target(
        "stored-member",
        written(lambda path: software._known_members(path.parent.parent), "members/bank-b.json"),
        (),
        [stored.model_dump_json(by_alias=True).encode()],
    )


# --- Answers -------------------------------------------------------------------------------------------------------


@dataclass
class _Network:
    """Servers that answer with given bytes, and their clients."""

    ports: dict[str, int] = field(default_factory=dict)
    """By server."""
    clients: dict[str, Any] = field(default_factory=dict)
    """Clients of Azure's SDK, which are shared, since creating one takes longer than a request."""
    answer: bytes = b""
    """The bytes of the next answer."""


class _Outsider:
    """The part of an authority that `Requests` uses up to the proof, which no fuzzed request passes."""

    unproven = 0

    class members:  # noqa: N801
        @staticmethod
        async def look_again() -> bool:
            return True

        @staticmethod
        async def key(member: str) -> bytes | None:
            return b"k" * 32


@asynccontextmanager
async def _network(folder: Path) -> AsyncIterator[_Network]:
    context = write_certificate(folder)
    made = _Network()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = await reader.readuntil(b"\r\n\r\n")
            challenged = b"authorization:" in request.lower() or not writer.get_extra_info("ssl_object")
            writer.write(made.answer if challenged else _UNAUTHORIZED)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError, ssl.SSLError):
            pass
        finally:
            writer.close()

    async with AsyncExitStack() as around:
        for name, tls in (("plain", None), ("vault", context)):
            server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
            await around.enter_async_context(server)
            made.ports[name] = server.sockets[0].getsockname()[1]
        vault = client_of(f"https://localhost:{made.ports['vault']}", folder / "certificate.pem")
        blobs = ContainerClient(f"http://127.0.0.1:{made.ports['plain']}", "network", retry_total=0)
        made.clients["vault"] = await around.enter_async_context(vault)
        made.clients["blobs"] = await around.enter_async_context(blobs)
        requests: Any = Requests(_Outsider())  # type: ignore[arg-type]
        for name, respond in (("requests", requests.respond), ("networkinfo", info_handler(lambda: b"{}"))):
            made.ports[name] = await around.enter_async_context(serving_requests(respond, None, "127.0.0.1", 0))
        yield made


_UNAUTHORIZED = (
    b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: " + CHALLENGE.encode() + b"\r\nContent-Length: 0\r\n"
    b"Connection: close\r\n\r\n"
)


def _http(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


class _Asking:
    """Client calls to the server, which answers with an input."""

    def __init__(self, runner: asyncio.Runner, network: _Network) -> None:
        self._runner, self._network = runner, network
        self.plain = f"http://127.0.0.1:{network.ports['plain']}"
        self.vault = f"https://localhost:{network.ports['vault']}"

    def whole(self, question: Callable[[], Any]) -> Callable[[bytes], object]:
        """A parser whose input is the whole HTTP answer."""

        def parse(content: bytes) -> object:
            self._network.answer = content
            return self._runner.run(question())

        return parse

    def body(self, question: Callable[[], Any]) -> Callable[[bytes], object]:
        """A parser whose input is the body of a valid HTTP answer."""
        return lambda content: self.whole(question)(_http(content, "Content-Type: application/json"))


def _answers(runner: asyncio.Runner, network: _Network) -> Iterator[Target]:
    asking = _Asking(runner, network)

    async def fetched() -> None:
        answer = await ask(asking.plain + "/x", True, seconds=2)
        assert len(answer.body) <= MAX_ANSWER_BYTES
        assert not proof.equal(answer.headers.get(proof.ANSWER_PROOF, ""), "0" * 64)

    proper = _http(b'{"schema": "1.0"}', "Proof: " + "a" * 64, 'ETag: "0x1"')
    yield Target(
        "http-answer", asking.whole(fetched), (UnavailableError, TooLargeError), [proper, _http(b"", status="204 N")]
    )

    async def requested(port: int, content: bytes) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(content)
            writer.write_eof()
            answer = await asyncio.wait_for(reader.read(), 20)
        except ConnectionError:
            return
        finally:
            writer.close()
        assert not answer.startswith(b"HTTP/1.1 5"), f"{answer[:200]!r}; wanted no 500"

    headers = b"Member: bank-b\r\nNonce: " + b"0" * 32 + b"\r\nTime: 1\r\nAuthorization: " + b"a" * 64
    request = b"POST /certificate HTTP/1.1\r\nHost: x\r\n" + headers + b"\r\nContent-Length: 4\r\n\r\nbody"
    for name in ("requests", "networkinfo"):
        port = network.ports[name]
        yield Target(
            f"http-request-{name}",
            lambda content, port=port: runner.run(requested(port, content)),  # type: ignore[misc]
            (),
            [request, b"GET /networkinfo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"],
        )

    async def enrolled() -> None:
        async def verify(document: bytes) -> int:
            return len(document)

        made = _Enrolment(software_context(network=AuthorityAccess(asking.plain, _no_key)), now=lambda: NOW)
        await made.network_parameters(verify)

    root = to_pem(make_network().root)
    answer = enrolment.NetworkAnswer(
        trust_root=root, epoch=1, network_parameters=base64.b64encode(b"signed").decode()
    )
    yield Target(
        "network-answer",
        asking.body(enrolled),
        (SoftwareError, *_REFUSED),
        [answer.model_dump_json(by_alias=True).encode()],
    )

    yield from _azure(asking, network)


def _azure(asking: _Asking, network: _Network) -> Iterator[Target]:
    async def shared() -> None:
        vault = BankVault(network.clients["vault"], request_seconds=2)
        for question in (vault.peers, vault.card, vault.enrolment_key, vault.rpc_users):
            try:
                await question()
            except _REFUSED:
                continue

    nodes = [{"legalName": "O=B", "p2pAddress": "10.2.0.4:10000"}]
    card = {"name": "bank-b", "nodes": nodes, "networkInfoUrl": "https://10.2.0.4:8443/networkinfo"}
    values = [_json({"bank-b": "card-b"}), _json(card), b"a" * 64]
    secrets = [_json(_secret(asking.vault, each.decode())) for each in values]
    yield Target(
        "vault-answer", asking.whole(shared), (), [*map(_http, secrets), _http(_ERROR, status="404 Not Found")]
    )

    def inner(content: bytes) -> object:
        answer = _secret(asking.vault, content.decode(errors="surrogateescape"))
        return asking.body(shared)(json.dumps(answer).encode())

    users = [{"name": "ops", "permissions": ["ALL"], "password": "secret"}]
    yield Target("vault-secret", inner, (), [*values, _json(users)])

    async def keys() -> None:
        vault = KeyVaultKeys(network.clients["vault"], request_seconds=2, settle_seconds=0)
        await vault.obtain(_NODES[0], make_keys, "0" * 64)

    document = KeyDocument(identity="node-1", blobs=make_keys()).to_json()
    listed = {"value": [_secret(asking.vault, "")], "nextLink": None}
    yield Target(
        "vault-keys", asking.body(keys), _REFUSED, [_json(listed), _json(_secret(asking.vault, document)), _ERROR]
    )

    async def stored() -> None:
        container = network.clients["blobs"]
        documents, leases = BlobDocuments(container, request_seconds=2), BlobLeases(container)
        for question in (
            lambda: documents.read("nodes/node-1"),
            lambda: documents.write("nodes/node-1", b"x", "etag"),
            lambda: documents.names("nodes/"),
            leases.leased,
            lambda: leases.acquire("node-1", "0" * 8),
            lambda: leases.renew("node-1", "0" * 8),
            lambda: leases.read("node-1"),
            lambda: leases.write("node-1", b"x", "0" * 8, "etag"),
        ):
            try:
                await question()
            except (*_REFUSED, LeaseRefusedError, SupersededError):
                continue

    blob = "<Blob><Name>node-1</Name><Properties><LeaseState>available</LeaseState></Properties></Blob>"
    listing = f'<?xml version="1.0"?><EnumerationResults><Blobs>{blob}</Blobs><NextMarker/></EnumerationResults>'
    date = "Mon, 11 Apr 2022 22:26:58 GMT"
    etags = ('ETag: "0x1"', f"Last-Modified: {date}", "x-ms-lease-id: 0", "x-ms-blob-type: BlockBlob")
    refusal = b'<?xml version="1.0"?><Error><Code>BlobNotFound</Code><Message>none</Message></Error>'
    yield Target(
        "storage-answer",
        asking.whole(stored),
        (),
        [
            _http(b"content", *etags, "Content-Range: bytes 0-6/7"),
            _http(listing.encode(), "Content-Type: application/xml"),
            _http(refusal, "Content-Type: application/xml", "x-ms-error-code: BlobNotFound", status="404 Not Found"),
            _http(b"", "x-ms-error-code: LeaseAlreadyPresent", status="409 Conflict"),
            _http(b"", *etags, status="201 Created"),
            # An error without a message, and one without a reason.
            _http(b"<Error/>", "Content-Type: application/xml", status="400 Bad Request"),
            _http(b"null", "Content-Type: application/json", status="503 "),
        ],
    )


_ERROR = _json({"error": {"code": "SecretNotFound", "message": "none", "innererror": None}})


def _secret(url: str, value: str) -> dict[str, Any]:
    attributes = {"enabled": True, "created": 1_700_000_000, "updated": 1_700_000_000, "recoverableDays": 90}
    return {
        "value": value,
        "id": f"{url}/secrets/node-1-keys/{'0' * 32}",
        "attributes": attributes,
        "tags": {"a": "b"},
    }


async def _no_key() -> bytes:
    return b"k" * 32


class _Enrolment(enrolment.Enrolment):
    """The client of an authority, which accepts each answer without its proof."""

    async def _exchange(self, network: Any, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        answer = await ask(enrolment._base(network) + path, True, seconds=2)
        return answer.status, answer.body


NAMES = (
    "agent-configuration",
    "card",
    "card-file",
    "certificate",
    "certificate-pem",
    "certificate-request",
    "chains",
    "http-answer",
    "http-request-networkinfo",
    "http-request-requests",
    "identity-record",
    "key-document",
    "legal-name",
    "network-answer",
    "network-info",
    "node-answer",
    "note",
    "register",
    "revocation-list",
    "scheduled-events",
    "serial",
    "settings",
    "stack-file",
    "storage-answer",
    "stored-member",
    "tool-answer",
    "vault-answer",
    "vault-keys",
    "vault-secret",
    "zip",
    "zipped-certificate",
)
"""The names of all targets, in order: pytest needs them before the servers run."""
