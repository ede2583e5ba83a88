"""The membership card: a member's signed description of itself, and the checks of a peer's; signed with Ed25519."""

import base64
import binascii
import hashlib
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import urlsplit
from uuid import UUID

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pydantic import AfterValidator, Field, StringConstraints, ValidationError, model_validator
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import ErrorDetails

from contract import addresses
from contract.canonical import canonical_json
from contract.fingerprint import fingerprint
from contract.legal_name import name_key
from contract.messages import one_line
from contract.models import OpenModel, key_of

CARD_SCHEMA: Final = "1.2"
"""MAJOR.MINOR of the card's schema. A minor version only adds properties; another major version is refused."""
MAX_COUNTER: Final = 1_000_000_000
"""Highest counter of a card."""
MAX_GENERATION: Final = 999
"""Highest generation of a key pair."""
MAX_CARD_BYTES: Final = 16_384
"""Largest card in canonical JSON: each is stored in one secret of Key Vault, which holds 25 kB."""
MAX_CARD_NODES: Final = 100
"""Most ledger nodes on a card: a member of this program has 15 at most."""
SECRET_KEY_BYTES: Final = 32
"""Length of the private keys of both key pairs: any 32 random bytes are a key."""

_NULLABLE: Final = {"gateway": 0, "authority": 1}
"""Properties that may be null, with the minor version that added them."""
_SIGNATURE: Final = "signature"
_COUNTER: Final = "counter"


class MembershipError(ValueError):
    """An invalid card or set of cards: a line for each mistake names member and reason."""

    def __init__(self, *mistakes: str) -> None:
        # Mistakes quote text of other members.
        self.mistakes = tuple(map(one_line, mistakes))
        super().__init__("\n".join(self.mistakes))


class LinkKind(StrEnum):
    """How two members are connected."""

    VNET_TO_VNET = "vnet-to-vnet"
    """To the peer's gateway by resource id: one Entra tenant, and read access to that gateway."""
    IPSEC = "ipsec"
    """To the public addresses of the peer's gateway: any tenant, no access to the peer's resources."""
    EXPRESS_ROUTE = "express-route"
    """Over the ExpressRoute circuit to which both members are connected."""


def _public_key(text: str) -> str:
    try:
        raw = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError("wanted 32 bytes in base64") from error
    if len(raw) != SECRET_KEY_BYTES:
        raise ValueError(f"wanted 32 bytes in base64, got {len(raw)}")
    if _base64(raw) != text:
        raise ValueError("wanted the one canonical spelling in base64")
    return text


def _x25519(text: str) -> str:
    raw = base64.b64decode(text)
    if raw[31] & 0x80:
        raise ValueError("wanted an X25519 key, whose top bit is clear")
    try:
        # An exchange with any secret reveals a low-order point, with which every agreed key would be the same.
        X25519PrivateKey.from_private_bytes(bytes(SECRET_KEY_BYTES)).exchange(X25519PublicKey.from_public_bytes(raw))
    except ValueError as error:
        raise ValueError("a low-order point; wanted an X25519 key that its member made") from error
    return text


def _public_address(address: IPv4Address) -> IPv4Address:
    if not addresses.is_public(address):
        raise ValueError("wanted a public address")
    return address


def _private_space(network: IPv4Network) -> IPv4Network:
    addresses.carve(network)
    return network


def _gateway_asn(asn: int) -> int:
    if asn != COEXISTENCE_ASN:
        check_asn(asn)
    return asn


def _host(text: str) -> IPv4Address:
    return IPv4Address(urlsplit(text if "//" in text else f"//{text}").hostname or "")


def _has_ipv4_host(text: str) -> str:
    _host(text)
    if not urlsplit(text if "//" in text else f"//{text}").port:
        raise ValueError("wanted a port of 1 to 65535")
    return text


def check_asn(asn: int) -> None:
    """Refuse an autonomous system number that a member can't use between gateways.

    Source: learn.microsoft.com/azure/vpn-gateway/vpn-gateway-vpn-faq, "Reserved ASNs".

    Raises:
        ValueError: `asn` is reserved, or not private.
    """
    if asn in _AZURE_RESERVED_ASNS:
        raise ValueError(f"{asn} is reserved by Azure; wanted {_PRIVATE_ASNS_TEXT}")
    if not any(asn in block for block in _PRIVATE_ASNS):
        raise ValueError(f"{asn} is not a private ASN; wanted {_PRIVATE_ASNS_TEXT}")


COEXISTENCE_ASN = 65_515
"""Azure's default ASN of a VPN gateway, which it must have to exchange routes with an ExpressRoute gateway beside it:
learn.microsoft.com/azure/expressroute/expressroute-howto-coexist-resource-manager."""
_AZURE_RESERVED_ASNS = range(65515, 65521)
_PRIVATE_ASNS = (range(64512, 65535), range(4_200_000_000, 4_294_967_295))
_PRIVATE_ASNS_TEXT = "64512 to 65514, 65521 to 65534, or 4200000000 to 4294967294"

MemberName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$", max_length=24)]
"""A member's name, unique in the consortium: lower-case letters, digits and single hyphens, 24 at most."""
PublicKey = Annotated[str, AfterValidator(_public_key), Field(json_schema_extra={"contentEncoding": "base64"})]
PrivateSpace = Annotated[IPv4Network, AfterValidator(_private_space)]
Asn = Annotated[int, AfterValidator(_gateway_asn)]
"""ASN of a member's VPN gateway: private, or `COEXISTENCE_ASN`."""
GatewayId = Annotated[
    str,
    # learn.microsoft.com/azure/azure-resource-manager/management/resource-name-rules, of letters the ASCII ones.
    StringConstraints(
        pattern=r"^/subscriptions/[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
        r"/resourceGroups/[A-Za-z0-9_().-]{0,89}[A-Za-z0-9_()-]"
        r"/providers/Microsoft\.Network/virtualNetworkGateways/[A-Za-z0-9]([A-Za-z0-9_.-]{0,78}[A-Za-z0-9_])?$"
    ),
]
_PORT = "[1-9][0-9]{0,4}"
"""A port without leading zeros, so that an address has one spelling."""


class GatewayInstance(OpenModel):
    """One of the two instances of an active-active VPN gateway."""

    public_ip: Annotated[IPv4Address, AfterValidator(_public_address)]
    bgp_peering_ip: IPv4Address


Encryption = Literal["GCMAES256", "GCMAES128", "AES256", "AES192", "AES128"]
IkeIntegrity = Literal["SHA384", "SHA256", "GCMAES256", "GCMAES128"]
IpsecIntegrity = Literal["GCMAES256", "GCMAES128", "SHA256"]
Group = Literal["ECP384", "ECP256", "DHGroup24", "DHGroup14"]
PfsGroup = Literal["ECP384", "ECP256", "PFS24", "PFS14"]


class IpsecPolicy(OpenModel):
    """The IKEv2 and IPsec proposal of a link; both sides must state the same.

    The defaults are the fastest of the strongest suites that a gateway offers. MD5, SHA-1, DES and groups below
    2048 bits are excluded.
    """

    ike_encryption: Encryption = Field("GCMAES256", description="encryption of IKE")
    ike_integrity: IkeIntegrity = Field("SHA384", description="integrity of IKE")
    dh_group: Group = Field("ECP384", description="Diffie-Hellman group of IKE")
    ipsec_encryption: Encryption = Field("GCMAES256", description="encryption of the tunnel")
    ipsec_integrity: IpsecIntegrity = Field("GCMAES256", description="integrity of the tunnel; the same if GCM")
    pfs_group: PfsGroup = Field("ECP384", description="group of perfect forward secrecy")
    sa_life_time_seconds: Annotated[int, Field(ge=300, le=172_799)] = Field(
        27_000, description="lifetime of a security association in seconds, 300 to 172799"
    )
    sa_data_size_kilobytes: Annotated[int, Field(ge=1024, le=2_147_483_647)] = Field(
        102_400_000, description="kilobytes that a security association carries, 1024 or more"
    )

    @model_validator(mode="after")
    def _gcm_is_both(self) -> Self:
        gcm = {name for name in (self.ipsec_encryption, self.ipsec_integrity) if name.startswith("GCM")}
        if gcm and self.ipsec_encryption != self.ipsec_integrity:
            raise ValueError("a GCM suite is encryption and integrity in one; wanted the same for both")
        if self.ike_integrity.startswith("GCM") and self.ike_integrity != self.ike_encryption:
            raise ValueError(
                f"ikeIntegrity {self.ike_integrity} is a cipher, and ikeEncryption another one: IKEv2 has no such "
                "proposal; wanted SHA384 or SHA256"
            )
        return self


class Gateway(OpenModel):
    """The member's VPN gateway, at which its links end."""

    id: GatewayId
    asn: Asn
    instances: Annotated[tuple[GatewayInstance, ...], Field(min_length=2, max_length=2)]
    ipsec_policy: IpsecPolicy


class KeyGenerations(OpenModel):
    """Generation of each key pair: raised to replace a leaked key."""

    link: Annotated[int, Field(ge=1, le=MAX_GENERATION)] = Field(
        1, description="of the key pair that link keys are agreed with"
    )
    signing: Annotated[int, Field(ge=1, le=MAX_GENERATION)] = Field(
        1, description="of the key pair that signs the card"
    )


class CardNode(OpenModel):
    """One ledger node as its peers reach it."""

    role: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = Field(
        None, description="the node's role in the ledger platform's terms; since 1.1"
    )
    legal_name: Annotated[str, StringConstraints(min_length=1, max_length=512)]
    p2p_address: Annotated[
        str,
        Field(alias="p2pAddress"),
        StringConstraints(pattern=rf"^[0-9.]{{7,15}}:{_PORT}$"),
        AfterValidator(_has_ipv4_host),
    ]


class CardAuthority(OpenModel):
    """The network authority that the member runs."""

    url: Annotated[
        str, StringConstraints(pattern=rf"^https://[0-9.]{{7,15}}:{_PORT}$"), AfterValidator(_has_ipv4_host)
    ]


class MembershipCard(OpenModel):
    """A member's signed description of itself: all that a peer needs, and no secret."""

    schema_version: Annotated[str, Field(alias="schema", pattern=r"^1\.[0-9]+$")]
    name: MemberName
    location: str
    tenant_id: UUID
    address_space: PrivateSpace
    gateway: Gateway | None
    link_public_key: Annotated[PublicKey, AfterValidator(_x25519)]
    key_generations: KeyGenerations
    nodes: Annotated[tuple[CardNode, ...], Field(min_length=1, max_length=MAX_CARD_NODES)]
    network_info_url: Annotated[
        str,
        StringConstraints(pattern=rf"^https://[0-9.]{{7,15}}:{_PORT}/[a-z]+$"),
        AfterValidator(_has_ipv4_host),
    ]
    authority: CardAuthority | None = Field(None, description="null without a network authority; since 1.1")
    counter: Annotated[int, Field(ge=0, le=MAX_COUNTER)] = Field(
        0, description="raised by one with each change: a card with a lower counter is older; since 1.2"
    )
    signing_key: PublicKey
    signature: Annotated[str, StringConstraints(min_length=88, max_length=88)]


def card_schema() -> dict[str, Any]:
    """The published JSON Schema (2020-12) of the card."""
    schema = MembershipCard.model_json_schema()
    # JSON Schema's bounds can't exclude the reserved ASNs; check_asn does.
    return {
        "$schema": GenerateJsonSchema.schema_dialect,
        "$id": f"urn:decentralized-trust:membership-card:{CARD_SCHEMA}",
        **schema,
    }


def signing_public_key(seed: bytes) -> str:
    """The public half of a signing key, base64, from its 32 secret bytes."""
    return _base64(
        Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    )


def sign(card: Mapping[str, Any], seed: bytes) -> dict[str, Any]:
    """Sign a card: returns it with its signing key and signature.

    Args:
        card: every property of `MembershipCard` but `signingKey` and `signature`, as JSON values.
        seed: the 32 secret bytes of the signing key.

    Raises:
        MembershipError: the card is too large for peers.
    """
    unsigned = {**card, "signingKey": signing_public_key(seed)}
    signature = Ed25519PrivateKey.from_private_bytes(seed).sign(canonical_json(unsigned))
    signed = {**unsigned, _SIGNATURE: _base64(signature)}
    if excess := _excess(signed):
        raise MembershipError(f"this member's card: {'; wanted '.join(excess)}")
    return signed


def next_card(content: Mapping[str, Any], seed: bytes, previous: object, least: int) -> dict[str, Any]:
    """The signed card of this content; if the content changed, its counter is one above the previous card's.

    Args:
        content: every property of `MembershipCard` but `counter`, `signingKey` and `signature`, as JSON values.
        seed: the 32 secret bytes of the signing key.
        previous: the member's last card, decoded from JSON; None before the first.
        least: lowest counter.

    Raises:
        MembershipError: the card is too large for peers.
    """
    last = with_nulls(previous) if isinstance(previous, Mapping) else {}
    counter = int(last.get(_COUNTER, 0))
    same = sign({**content, _COUNTER: counter}, seed)
    if counter >= max(least, 1) and canonical_json(same) == canonical_json(last):
        return same
    return sign({**content, _COUNTER: max(counter + 1, least)}, seed)


class SeenCard(OpenModel):
    """Record of a peer's newest card, to recognise an older one."""

    fingerprint: str
    """Fingerprint of the signing key."""
    counter: int
    link_generation: int
    digest: str
    """SHA-256 of the card, hex."""

    @classmethod
    def of(cls, card: MembershipCard, document: object) -> Self:
        """The record of `card`, whose signature covers `document`."""
        return cls(
            fingerprint=fingerprint(card.signing_key),
            counter=card.counter,
            link_generation=card.key_generations.link,
            digest=hashlib.sha256(canonical_json(document)).hexdigest(),
        )

    def to_output(self) -> dict[str, Any]:
        """The record as a stack output."""
        return self.model_dump(by_alias=True)

    def staleness(self, newer: "SeenCard", *, pinned: bool = False) -> str | None:
        """Why a card received after this one is stale, and what was wanted; None if it is acceptable.

        Args:
            newer: the record of that card.
            pinned: whether its signing key was agreed: another key restarts a member's counter only then.
        """
        if pinned and newer.fingerprint != self.fingerprint:
            return None
        if newer.counter < self.counter:
            return f"its counter is {newer.counter}; wanted {self.counter}, which was seen before, or higher"
        # Cards before 1.2 have no counter, hence no order.
        if newer.counter == self.counter > 0 and newer.digest != self.digest:
            return f"another card has the counter {self.counter} too; wanted a higher one for other content"
        if newer.link_generation < self.link_generation:
            return (
                f"its keyGenerations.link is {newer.link_generation}; wanted {self.link_generation}, which was seen "
                "before, or higher"
            )
        return None


def read_card(document: object, *, name: str, pinned: str | None, source: str) -> MembershipCard:
    """Verify that `document` is the card of member `name`, and return it.

    Args:
        document: the card, decoded from JSON.
        name: the expected member.
        pinned: the fingerprint that the signing key must have; None if the source itself is trusted.
        source: where the document came from, for messages.

    Raises:
        MembershipError: not a card, another schema version, wrong signature or fingerprint, another member's card;
            or a line for each invalid property.
    """

    def refuse(what: str, wanted: str) -> MembershipError:
        return MembershipError(f"peer {name}: {source}: {what}; wanted {wanted}")

    if not isinstance(document, Mapping):
        held = "nothing" if document is None else f"a {type(document).__name__}"
        raise refuse(f"holds {held}", "a membership card, the output `member` of that member's stack")
    _check_schema_version(document, refuse)
    try:
        excess = _excess(document)
    except (ValueError, RecursionError) as error:
        raise refuse("it can't be written in canonical JSON", "a card as its member signed it") from error
    if excess:
        raise refuse(*excess)
    signing_key, signature = document.get("signingKey"), document.get(_SIGNATURE)
    unsigned = {key: value for key, value in document.items() if key != _SIGNATURE}
    try:
        Ed25519PublicKey.from_public_bytes(base64.b64decode(str(signing_key), validate=True)).verify(
            base64.b64decode(str(signature), validate=True), canonical_json(unsigned)
        )
    except (InvalidSignature, ValueError) as error:
        raise refuse("the signature does not fit the card", "a card as its member signed it, unaltered") from error
    if pinned is not None and fingerprint(str(signing_key)) != pinned:
        raise refuse(f"signed by the key {fingerprint(str(signing_key))}", f"the pinned key {pinned}")
    if document.get("name") != name:
        raise refuse(f"the card is that of {document.get('name')!r:.80}", f"that of {name!r}")
    try:
        card = _validated(document)
    except ValidationError as error:
        wanted = f"a card of schema {CARD_SCHEMA}"
        found = [(_mistake(each), wanted) for each in error.errors(include_url=False)]
        raise MembershipError(*(str(refuse(*each)) for each in found)) from error
    if found := list(_contradictions(card)):
        raise MembershipError(*(str(refuse(*each)) for each in found))
    return card


def last_card(document: object) -> MembershipCard | None:
    """The member's own last card, from its stack outputs; None if there is none or it is invalid."""
    if not isinstance(document, Mapping):
        return None
    try:
        return _validated(with_nulls(document))
    except ValueError:
        return None


def _validated(document: Mapping[str, Any]) -> MembershipCard:
    return MembershipCard.model_validate_json(canonical_json(document), strict=True, by_alias=True, by_name=False)


def with_nulls(card: Mapping[str, Any]) -> dict[str, Any]:
    """The card with its null properties, which the signature covers and Pulumi's wire format drops."""
    major, _, minor = str(card.get("schema")).partition(".")
    known = int(minor) if major == CARD_SCHEMA[0] and minor.isdecimal() and len(minor) < 16 else 0
    return dict.fromkeys(name for name, since in _NULLABLE.items() if since <= known) | dict(card)


_Refuse = Callable[[str, str], MembershipError]


def _excess(card: Mapping[str, Any]) -> tuple[str, str] | None:
    """The part of a card that is too large, and the limit; None if all fits."""
    nodes = card.get("nodes")
    if isinstance(nodes, list) and len(nodes) > MAX_CARD_NODES:
        return f"it has {len(nodes)} nodes", f"{MAX_CARD_NODES} at most"
    if (size := len(canonical_json(card))) > MAX_CARD_BYTES:
        return f"it has {size} bytes", f"{MAX_CARD_BYTES} at most"
    return None


def _check_schema_version(document: Mapping[Any, Any], refuse: _Refuse) -> None:
    version = document.get("schema")
    major, _, minor = str(version).partition(".")
    if not (isinstance(version, str) and len(version) < 16 and major.isdecimal() and minor.isdecimal()):
        raise refuse(f"schema is {version!r:.80}", f"{CARD_SCHEMA}")
    if major != CARD_SCHEMA.partition(".")[0]:
        upgrade = "this program" if int(major) > int(CARD_SCHEMA[0]) else "that member's program"
        raise refuse(f"schema is {version}", f"{CARD_SCHEMA}: upgrade {upgrade}")


def _contradictions(card: MembershipCard) -> Iterator[tuple[str, str]]:
    """Contradictions within a card, each with what was wanted."""
    instances = card.gateway.instances if card.gateway else ()
    named = {
        **{f"gateway.instances[{i}].bgpPeeringIp": each.bgp_peering_ip for i, each in enumerate(instances)},
        **{f"nodes[{i}].p2pAddress": _host(node.p2p_address) for i, node in enumerate(card.nodes)},
        "networkInfoUrl": _host(card.network_info_url),
        **({"authority.url": _host(card.authority.url)} if card.authority else {}),
    }
    for key, address in named.items():
        if address not in card.address_space:
            yield f"{key} is {address}", f"an address inside its addressSpace {card.address_space}"
    public, bgp = ([str(getattr(each, ip)) for each in instances] for ip in ("public_ip", "bgp_peering_ip"))
    names, addresses = ([getattr(node, what) for node in card.nodes] for what in ("legal_name", "p2p_address"))
    for holders, what, values, keys in (
        ("gateway.instances", "publicIp", public, public),
        ("gateway.instances", "bgpPeeringIp", bgp, bgp),
        ("nodes", "legalName", names, [name_key(name) for name in names]),
        ("nodes", "p2pAddress", addresses, addresses),
    ):
        if len(set(keys)) < len(keys):
            twice = next(value for value, key in zip(values, keys, strict=True) if keys.count(key) > 1)
            yield f"two of its {holders} have one {what}, {twice!r:.200}", "each to have its own"


def _mistake(fault: ErrorDetails) -> str:
    key = key_of(fault)
    if fault["type"] == "missing":
        return f"{key} is not set"
    return f"{key} is {fault['input']!r:.200} ({fault['msg'].removeprefix('Value error, '):.200})"


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
