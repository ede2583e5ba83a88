"""Random hostile cards, signed by their peer's key, and checks of how a member handles them."""

import asyncio
import base64
import json
import re
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pulumi
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import strategies as st
from pydantic import TypeAdapter

from contract.canonical import canonical_json
from contract.card import MAX_COUNTER, LinkKind, MembershipCard, SeenCard, signing_public_key
from contract.fingerprint import fingerprint
from contract.legal_name import LegalName
from host import vault
from lab.azure.azure import Account, OfflineAzure
from lab.azure.deployment import Deployment
from lab.azure.program import ORGANIZATION, PROJECT, StackConfiguration, run_program
from lab.cards import legal_name, make_card, signing_seed
from stack.member import own_identities
from stack.peers import read_peers
from stack.previous import PreviousUpdate
from stack.settings import EXPRESS_ROUTE_KEY, parse_settings
from tests.configuration import configuration
from tests.fuzz.mutations import mutated
from tests.runs import CIRCUIT

PEERS = ("bank-b", "bank-c", "bank-d")
_ENCRYPTED = frozenset({f"{PROJECT}:{EXPRESS_ROUTE_KEY}"})
ACCOUNT = Account.of("bank-a", ORGANIZATION)
_OTHER_TENANT = "9d4f7a42-2c8e-4a55-8a64-d1a6f2f4b7e3"
TENANT = ACCOUNT.tenant_id
_CARDS = {name: make_card(name, tenant_id=TENANT) for name in PEERS}
_GATEWAY = _CARDS["bank-b"]["gateway"]["id"]

ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([2**53 + 1, 10**400, 1e300, -0.0, 1.0, float("nan"), float("inf")])
    | st.floats()
    | st.text(max_size=30)
    | st.sampled_from(["\ud800", "\u202e", "x\ny", "é" * 6000, "x" * 17_000]),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=8), inside, max_size=3),
    max_leaves=4,
)
_HOSTS = ["10.98.0.254", "10.98.0.0", "10.98.255.255", "10.1.0.254", "8.8.8.8", "010.98.0.254"]
_PORTS = ["10000", "01000", "0", "8443", "8444", "65535", "65536", "22"]
_NAMES = [
    "OU=node-1, O=Bank B, L=London, C=GB",
    "OU=node-2, O=Bank B, L=London, C=GB",
    "C=GB,L=London, O=Bank B,\n\tOU=node-1",
    "OU=node-9, O=Bank A, L=London, C=GB",
    "OU=node-1, O=BANK B, L=London, C=GB",
    "O=Bank B, L=London, C=GB",
    "OU=node-1, O=\u0412ank B, L=London, C=GB",
    "OU=node-1, O=Bank B, L=London, C=GB\n",
    "x\ny",
    f"OU={'x' * 63}, O=Bank B, L=London, C=GB",
]
_PUBLIC = [
    "198.51.100.99",
    "203.0.113.99",
    "1.1.1.1",
    "0.0.0.1",
    "168.63.129.16",
    "100.64.0.1",
    "169.254.169.254",
    "255.255.255.255",
    "192.0.0.8",
    "198.18.0.1",
    "10.98.1.4",
    "::1",
]
PLAUSIBLE: dict[tuple[str | int, ...], st.SearchStrategy[Any]] = {
    ("schema",): st.sampled_from(
        ["1.0", "1.1", "1.2", "1.12", "1.999999", "2.0", "0.9", "1.01", "1.2\n", "1.\u0662"]
    ),
    ("name",): st.sampled_from([*PEERS, "bank-a", "Bank-B", "bank-b\n", ""]),
    ("location",): st.sampled_from(["", "westus", "x\ny", "\u202e", "é" * 4000]) | st.text(max_size=10),
    ("tenantId",): st.sampled_from([TENANT, TENANT.upper(), f"{{{TENANT}}}", f"urn:uuid:{TENANT}", _OTHER_TENANT]),
    ("addressSpace",): st.sampled_from(["10.98.0.0/17", "10.98.0.0/22", "10.1.0.0/16", "10.98.0.1/16", "0.0.0.0/0"]),
    ("gateway",): st.none(),
    ("extra",): ANYTHING,
    ("gateway", "id"): st.sampled_from(
        [
            _GATEWAY,
            _GATEWAY.upper(),
            _GATEWAY.replace(TENANT, "-" * 36),
            f"{_GATEWAY}{'x' * 100}",
            f"{_GATEWAY}\u00e9",
            f"{_GATEWAY}/../x",
            # In a subscription that this Azure knows, where it does not exist.
            _GATEWAY.replace(TENANT, ACCOUNT.subscription_id),
            _CARDS["bank-c"]["gateway"]["id"],
            _CARDS["bank-c"]["gateway"]["id"].replace("resourceGroups/bank-c", "resourceGroups/BANK-C"),
        ]
    ),
    ("gateway", "asn"): st.sampled_from([64512, 64611, 64610.0, 65514, 65515, 65517, 4_200_000_000, 1, -1, "64610"]),
    **{("gateway", "instances", place, "publicIp"): st.sampled_from(_PUBLIC) for place in (0, 1)},
    **{
        ("gateway", "instances", place, "bgpPeeringIp"): st.sampled_from([*_HOSTS, "10.98.1.228", "10.98.1.229"])
        for place in (0, 1)
    },
    ("gateway", "ipsecPolicy", "ikeEncryption"): st.sampled_from(["AES256", "DES3", "x\ny"]),
    ("gateway", "ipsecPolicy", "saLifeTimeSeconds"): st.sampled_from([27_000, 27_000.0, 299, 3600]),
    ("linkPublicKey",): st.sampled_from(
        [make_card("bank-a")["linkPublicKey"], _CARDS["bank-c"]["linkPublicKey"], f"{'A' * 43}=", f"{'/' * 43}="]
    ),
    **{
        ("keyGenerations", kind): st.sampled_from([1, 2, 999, 2**31, 2**53 + 1, 2**63, 10**400, 1e300, 0, True])
        for kind in ("link", "signing")
    },
    ("nodes", 0, "legalName"): st.sampled_from(_NAMES),
    ("nodes", 1, "legalName"): st.sampled_from(_NAMES),
    ("nodes", 0, "p2pAddress"): st.tuples(st.sampled_from(_HOSTS), st.sampled_from(_PORTS)).map(":".join),
    ("nodes", 0, "role"): st.sampled_from(["notary", "x\ny", "\u202e", "", None]) | st.text(max_size=70),
    ("nodes", 0): ANYTHING,
    ("gateway", "instances", 1): ANYTHING,
    ("networkInfoUrl",): st.tuples(
        st.sampled_from(_HOSTS), st.sampled_from(_PORTS), st.sampled_from(["networkinfo", "x"])
    ).map(lambda drawn: "https://{}:{}/{}".format(*drawn)),
    ("authority",): st.none()
    | st.tuples(st.sampled_from(_HOSTS), st.sampled_from(_PORTS)).map(
        lambda drawn: {"url": "https://{}:{}".format(*drawn)}
    ),
    ("counter",): st.sampled_from([0, 1, 2, 1.0, MAX_COUNTER, MAX_COUNTER + 1, 2**63, -1, True]),
}
PATHS = st.sampled_from(sorted(PLAUSIBLE, key=str))


@dataclass(frozen=True)
class _Shape:
    """A structural change of a card: drops, duplicates or multiplies a part."""

    kind: str

    def apply(self, holder: Any, key: Any) -> None:
        if self.kind == "drop":
            del holder[key]
        elif isinstance(holder, list):
            holder.extend(deepcopy(holder[key]) for _ in range(1 if self.kind == "double" else 200))
        else:
            holder["added"] = ["é" * 2000] * (1 if self.kind == "double" else 3)


_SHAPES = st.sampled_from([_Shape("drop"), _Shape("double"), _Shape("many")])
_CHANGES = st.lists(
    st.one_of(
        *[st.tuples(st.just(path), values) for path, values in PLAUSIBLE.items()],
        *[st.tuples(PATHS, ANYTHING)] * 8,
        *[st.tuples(PATHS, _SHAPES)] * 4,
    ),
    max_size=2,
)


def changed(card: Mapping[str, Any], path: Iterable[str | int], value: Any) -> dict[str, Any]:
    """A copy of a card with another value at a path; unchanged if an earlier change removed that place."""
    copy = deepcopy(dict(card))
    *steps, last = path
    place: Any = copy
    try:
        for step in steps:
            place = place[step]
        if isinstance(value, _Shape):
            value.apply(place, last)
        else:
            place[last] = value
    except (LookupError, TypeError):
        pass
    return copy


def signed(card: Mapping[str, Any], member: str) -> dict[str, Any]:
    """A card signed with its member's key; a card without a canonical form keeps its old signature."""
    seed = signing_seed(member)
    unsigned = {
        **{key: value for key, value in card.items() if key != "signature"},
        "signingKey": signing_public_key(seed),
    }
    try:
        signature = Ed25519PrivateKey.from_private_bytes(seed).sign(canonical_json(unsigned))
    except ValueError:
        return {**unsigned, "signature": card.get("signature")}
    return {**unsigned, "signature": base64.b64encode(signature).decode()}


@dataclass(frozen=True)
class Peer:
    """One peer as bank-a configures it, with its card."""

    name: str
    document: Any
    """Its card as JSON values."""
    content: bytes
    """The bytes of its card's file."""
    by_stack: bool = False
    """Whether the card is read from the peer's stack."""
    link: LinkKind | None = None

    @classmethod
    def of(cls, card: Mapping[str, Any], *, by_stack: bool = False) -> "Peer":
        """A peer with this card."""
        return cls(card["name"], card, json.dumps(card).encode(), by_stack)

    def entry(self, folder: Path, *, by_stack: bool) -> dict[str, Any]:
        """Write the card's file, unless read from a stack; returns the peer's entry in `peers`."""
        entry: dict[str, Any] = {"name": self.name, "legalName": legal_name(self.name)}
        if self.link:
            entry["link"] = self.link
        if by_stack:
            return {**entry, "stack": _stack(self.name)}
        path = folder / f"{self.name}.json"
        path.write_bytes(self.content)
        pin = fingerprint(signing_public_key(signing_seed(self.name)))
        return {**entry, "card": str(path), "fingerprint": pin}


@dataclass(frozen=True)
class Case:
    """Bank-a, with peers any of which may be hostile."""

    peers: list[Peer]
    changes: dict[str, Any]
    """Changes to bank-a's configuration."""

    def values(self, folder: Path, *, stacks: bool) -> dict[str, str]:
        """The configuration; without `stacks` every card is in a file."""
        entries = [peer.entry(folder, by_stack=peer.by_stack and stacks) for peer in self.peers]
        return configuration(**self.changes, peers=entries)

    @property
    def references(self) -> dict[str, dict[str, Any]]:
        """The outputs of the peers' stacks, without null values, which Pulumi does not transmit."""
        return {
            _stack(peer.name): {"member": {key: value for key, value in peer.document.items() if value is not None}}
            for peer in self.peers
            if peer.by_stack
        }


def _on_the_wire(card: Mapping[str, Any]) -> bool:
    """Whether a stack's output can contain the card: text in UTF-8, and numbers that are finite as floats."""
    try:
        canonical_json(json.loads(json.dumps(card, allow_nan=False), parse_int=float))
    except ValueError:
        return False
    return True


def _stack(name: str) -> str:
    return f"{ORGANIZATION}/{PROJECT}/{name}"


_WHOLE: list[dict[str, Any]] = [
    *[{}] * 6,
    {"address_space": "10.1.4.0/22"},
    {"address_space": "10.200.0.0/22"},
    {"address_space": "192.168.0.0/16"},
    {"asn": 64512},
    {"asn": 65515},
    {"gateway": None},
    {"tenant_id": _OTHER_TENANT},
    {"link_secret": b"one secret for two of the members"[:32]},
    {"node_count": 15},
]
_AUTHORITY = {"roles": {"node-1": "notary"}, "network": {"authority": "bank-a"}}
_NOTARY = {"network": {"authority": "bank-a", "notaries": ["OU=node-1, O=Bank B, L=London, C=GB"]}}
_CHANGES_OF_OURS: list[dict[str, Any]] = [
    {},
    {"ledger": _AUTHORITY},
    {"ledger": _NOTARY},
    {"ledger": {"network": {"authority": "bank-b"}}},
    {"applicationNetworks": ["10.200.0.0/24"]},
]
_CIRCUIT = {"vpn": {}, "expressRoute": {"circuitId": CIRCUIT}}


_GARBLED = {name: mutated([json.dumps(card).encode()]) for name, card in _CARDS.items()}


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Random cases: members whose valid cards have up to two changes each, read from a file or a stack."""
    changes = draw(st.sampled_from(_CHANGES_OF_OURS))
    circuit = draw(st.sampled_from([False, False, True]))
    links = [None, None, LinkKind.IPSEC, LinkKind.VNET_TO_VNET, *([LinkKind.EXPRESS_ROUTE] if circuit else [])]
    peers = []
    for name in draw(st.sampled_from([PEERS[:1], PEERS[:1], PEERS[:2], PEERS])):
        card = make_card(name, **{"tenant_id": TENANT, **draw(st.sampled_from(_WHOLE))})
        if changes.get("ledger") == _CHANGES_OF_OURS[3]["ledger"] and name == "bank-b":
            card["authority"] = {"url": "https://10.98.1.126:8444"}
        for path, value in draw(_CHANGES)[: draw(st.sampled_from([0, 1, 1, 2]))]:
            card = changed(card, path, value)
        card = signed(card, draw(st.sampled_from([*[name] * 9, "mallory"])))
        content = json.dumps(card, ensure_ascii=draw(st.booleans())).encode(errors="surrogatepass")
        match draw(st.sampled_from(["whole", "whole", "whole", "whole", "garbled", "unsigned"])):
            case "garbled":
                content = draw(_GARBLED[name])
            case "unsigned":
                content = json.dumps({**card, "location": "elsewhere"}).encode()
        by_stack = draw(st.booleans()) and _on_the_wire(card)
        peers.append(Peer(name, card, content, by_stack, draw(st.sampled_from(links))))
    if circuit:
        changes = {**changes, "connectivity": _CIRCUIT, EXPRESS_ROUTE_KEY: "of-the-circuit"}
    return Case(peers, changes)


# Each line of a refusal must match this: it names a property of the card, or a problem of the whole card.
_PROPERTIES = sorted({str(step) for path in PLAUSIBLE for step in path if isinstance(step, str) and len(step) > 2})
_KEYS = re.compile(
    "|".join(
        [
            *(rf"\b{name}\b" for name in _PROPERTIES if name not in ("name", "nodes", "gateway")),
            *(r"\bnodes(\[\d+\])? is", "two of its nodes", r"gateway(\.id)? is", r"gateway\.id", "no VPN gateway"),
            *("signature", "signed by the key", "the card is that of", "name is", "its tenant", "canonical JSON"),
            *(r"it has \d+ (bytes|nodes)", "holds ", "file .*; wanted", r"ledger\.network\.notaries"),
        ]
    )
)
_LINE = 1500


def judge(message: str) -> list[str]:
    """Check that each line of a refusal names a peer, a key and the wanted form; returns the lines."""
    first, *lines = message.split("\n")
    assert first == "the peers of bank-a can't be linked:", message
    assert lines, message
    for line in lines:
        assert line.isprintable(), f"{line!r}: something hides in it"
        assert len(line) <= _LINE, f"{line[:200]}...: {len(line)} characters"
        assert "wanted" in line, f"{line}: it does not say what would be right"
        assert any(name in line for name in (*PEERS, "notaries")), f"{line}: it names no peer"
        assert _KEYS.search(line), f"{line}: it names no key"
    return lines


def read(case: Case, folder: Path, own_card: object) -> str:
    """Read bank-a's peers without planning: returns `refused` or `accepted`."""
    settings = parse_settings(PROJECT, case.values(folder, stacks=False), _ENCRYPTED)
    try:
        asyncio.run(read_peers(settings, own_identities(settings), TENANT, PreviousUpdate(card=own_card)))
    except pulumi.RunError as error:
        judge(str(error))
        return "refused"
    return "accepted"


def plan(case: Case, folder: Path, own_card: object) -> str:
    """Plan bank-a in the offline Azure: returns `refused` (before anything was registered) or `planned`."""
    stack = StackConfiguration("bank-a", case.values(folder, stacks=True), tuple(_ENCRYPTED))
    deployment = Deployment(OfflineAzure().account(ACCOUNT), outputs={"member": own_card})
    try:
        run = run_program(stack, references=case.references, deployment=deployment)
    except pulumi.RunError as error:
        judge(str(error))
        assert not deployment.resources, "a card was refused too late"
        return "refused"
    cards = [each.inputs["properties"]["value"] for each in run.registrations.values() if "-peer-bank-" in each.name]
    assert cards, "each peer's card is in the bank's vault"
    for card in cards:
        document = json.loads(card)
        for node in TypeAdapter(vault._Card).validate_json(card).nodes:
            assert LegalName.parse(node.legal_name)
        newest = SeenCard.of(MembershipCard.model_validate_json(card), document)
        known = SeenCard.model_validate(run.outputs["peerCards"][document["name"]])
        assert known.staleness(newest) is None, "what is accepted once is accepted again"
    return "planned"
