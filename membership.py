"""The contract between banks: the membership card, its signature and checks, and the key agreement.

Pure: it reads no stack and makes no resource. The mathematics is `cryptography`'s: Ed25519 signs a card,
X25519 and HKDF-SHA256 (RFC 7748, RFC 5869) give two members a key that is never sent.
"""

import base64
import binascii
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network
from itertools import combinations
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import urlsplit
from uuid import UUID

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic.json_schema import GenerateJsonSchema

import addressing

SCHEMA_VERSION: Final = "1.1"
"""MAJOR.MINOR of the card. A minor version only adds properties; another major version is refused."""
SECRET_KEY_BYTES: Final = 32
"""Length of the private halves of both key pairs: that many random bytes are the key."""

_NULLABLE: Final = {"gateway": 0, "authority": 1}
"""Properties that may be null, with the minor version that they came with."""
_SIGNATURE: Final = "signature"
_CONTEXT: Final = "decentralized-trust/v1"


class MembershipError(ValueError):
    """A card, or a set of cards, that a member must not act on. The message names the member and the reason."""


class LinkKind(StrEnum):
    """How two members are connected."""

    VNET_TO_VNET = "vnet-to-vnet"
    """Both gateways by resource id: one Entra tenant, and rights on the peer's gateway."""
    IPSEC = "ipsec"
    """The peer's gateway by its public addresses: any tenant, no right on the other side."""
    EXPRESS_ROUTE = "express-route"
    """Over the ExpressRoute circuit that both members are connected to."""


class Purpose(StrEnum):
    """What an agreed key is for; a key for one purpose tells nothing of a key for another."""

    LINK = "link"
    """The pre-shared key of a VPN connection."""
    ENROL = "enrol"
    """Authenticates a member's certificate requests to the network authority."""


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
    if base64.b64decode(text)[31] & 0x80:
        raise ValueError("wanted an X25519 key, whose top bit is clear")
    return text


def _private_space(network: IPv4Network) -> IPv4Network:
    addressing.carve(network)
    return network


def _private_asn(asn: int) -> int:
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


_AZURE_RESERVED_ASNS = range(65515, 65521)
_PRIVATE_ASNS = (range(64512, 65535), range(4_200_000_000, 4_294_967_295))
_PRIVATE_ASNS_TEXT = "64512 to 65514, 65521 to 65534, or 4200000000 to 4294967294"

MemberName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$", max_length=24)]
"""A member's name, unique in the consortium: lower-case letters, digits and single hyphens, 24 at most."""
PublicKey = Annotated[str, AfterValidator(_public_key), Field(json_schema_extra={"contentEncoding": "base64"})]
PrivateSpace = Annotated[IPv4Network, AfterValidator(_private_space)]
Asn = Annotated[int, AfterValidator(_private_asn)]
GatewayId = Annotated[
    str,
    StringConstraints(
        pattern=r"^/subscriptions/[0-9a-fA-F-]{36}/resourceGroups/[^/]+"
        r"/providers/Microsoft\.Network/virtualNetworkGateways/[^/]+$"
    ),
]


class _Part(BaseModel):
    """A part of the card: camelCase on the wire, and open to what a later minor version adds."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore")


class GatewayInstance(_Part):
    """One of the two instances of an active-active VPN gateway."""

    public_ip: IPv4Address
    bgp_peering_ip: IPv4Address


Encryption = Literal["GCMAES256", "GCMAES128", "AES256", "AES192", "AES128"]
IkeIntegrity = Literal["SHA384", "SHA256", "GCMAES256", "GCMAES128"]
IpsecIntegrity = Literal["GCMAES256", "GCMAES128", "SHA256"]
Group = Literal["ECP384", "ECP256", "DHGroup24", "DHGroup14"]
PfsGroup = Literal["ECP384", "ECP256", "PFS24", "PFS14"]


class IpsecPolicy(_Part):
    """The IKEv2 and IPsec proposal of a link; both sides must name the same.

    The defaults are the strongest that a gateway offers, and the fastest of them. MD5, SHA-1, DES and the
    groups below 2048 bits are left out.
    """

    ike_encryption: Encryption = Field("GCMAES256", description="encryption of IKE")
    ike_integrity: IkeIntegrity = Field("SHA384", description="integrity of IKE")
    dh_group: Group = Field("ECP384", description="Diffie-Hellman group of IKE")
    ipsec_encryption: Encryption = Field("GCMAES256", description="encryption of the tunnel")
    ipsec_integrity: IpsecIntegrity = Field("GCMAES256", description="integrity of the tunnel; GCM wants it alike")
    pfs_group: PfsGroup = Field("ECP384", description="group of perfect forward secrecy")
    sa_life_time_seconds: Annotated[int, Field(ge=300, le=172_799)] = Field(
        27_000, description="seconds that a security association lives, 300 to 172799"
    )
    sa_data_size_kilobytes: Annotated[int, Field(ge=1024, le=2_147_483_647)] = Field(
        102_400_000, description="kilobytes that it carries, 1024 or more"
    )

    @model_validator(mode="after")
    def _gcm_is_both(self) -> Self:
        gcm = {name for name in (self.ipsec_encryption, self.ipsec_integrity) if name.startswith("GCM")}
        if gcm and self.ipsec_encryption != self.ipsec_integrity:
            raise ValueError("a GCM suite is encryption and integrity in one; wanted the same for both")
        return self


class Gateway(_Part):
    """The VPN gateway that the member's links end at."""

    id: GatewayId
    asn: Asn
    instances: Annotated[tuple[GatewayInstance, ...], Field(min_length=2, max_length=2)]
    ipsec_policy: IpsecPolicy


class KeyGenerations(_Part):
    """How often each key pair was made anew: it is raised to replace a key that leaked."""

    link: Annotated[int, Field(ge=1)] = Field(1, description="of the key pair that link keys are agreed with")
    signing: Annotated[int, Field(ge=1)] = Field(1, description="of the key pair that signs the card")


class Node(_Part):
    """One ledger node as its peers reach it."""

    role: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = Field(
        None, description="what it is, in the ledger platform's words; since 1.1"
    )
    legal_name: Annotated[str, StringConstraints(min_length=1, max_length=512)]
    p2p_address: Annotated[
        str,
        Field(alias="p2pAddress"),
        StringConstraints(pattern=r"^[0-9.]{7,15}:[0-9]{1,5}$"),
        AfterValidator(_has_ipv4_host),
    ]


class Authority(_Part):
    """Where the member certifies names for the network."""

    url: Annotated[
        str, StringConstraints(pattern=r"^https://[0-9.]{7,15}:[0-9]{1,5}$"), AfterValidator(_has_ipv4_host)
    ]


class MembershipCard(_Part):
    """What a member publishes of itself, signed: all that a peer needs, and no secret."""

    schema_version: Annotated[str, Field(alias="schema", pattern=r"^1\.[0-9]+$")]
    name: MemberName
    location: str
    tenant_id: UUID
    address_space: PrivateSpace
    gateway: Gateway | None
    link_public_key: Annotated[PublicKey, AfterValidator(_x25519)]
    key_generations: KeyGenerations
    nodes: Annotated[tuple[Node, ...], Field(min_length=1)]
    network_info_url: Annotated[
        str,
        StringConstraints(pattern=r"^https://[0-9.]{7,15}:[0-9]{1,5}/[a-z]+$"),
        AfterValidator(_has_ipv4_host),
    ]
    authority: Authority | None = Field(None, description="null where the member is none; since 1.1")
    signing_key: PublicKey
    signature: Annotated[str, StringConstraints(min_length=88, max_length=88)]


def card_schema() -> dict[str, Any]:
    """The published JSON Schema (2020-12) of the card."""
    schema = MembershipCard.model_json_schema()
    # An integer's bounds can't tell the reserved numbers; check_asn does.
    return {
        "$schema": GenerateJsonSchema.schema_dialect,
        "$id": f"urn:decentralized-trust:membership-card:{SCHEMA_VERSION}",
        **schema,
    }


def signing_public_key(seed: bytes) -> str:
    """The public half of a signing key, base64, from its 32 secret bytes."""
    return _base64(
        Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    )


def link_public_key(secret: bytes) -> str:
    """The public half of a link key, base64, from its 32 secret bytes."""
    return _base64(
        X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    )


def fingerprint(signing_key: str) -> str:
    """`sha256:` and 64 hex digits over the raw signing key: what a peer pins, told by another way than the card."""
    return f"sha256:{hashlib.sha256(base64.b64decode(signing_key)).hexdigest()}"


def sign(card: Mapping[str, Any], seed: bytes) -> dict[str, Any]:
    """`card` with its signing key and signature.

    Args:
        card: every property of `MembershipCard` but `signingKey` and `signature`, as JSON values.
        seed: the 32 secret bytes of the signing key.
    """
    unsigned = {**card, "signingKey": signing_public_key(seed)}
    signature = Ed25519PrivateKey.from_private_bytes(seed).sign(_canonical(unsigned))
    return {**unsigned, _SIGNATURE: _base64(signature)}


def read_card(document: object, *, name: str, pinned: str | None, source: str) -> MembershipCard:
    """The card in `document`, once it is proven to be that of member `name`.

    Args:
        document: what the source held, decoded from JSON.
        name: the member that the configuration expects there.
        pinned: the fingerprint that the signing key must have; None where the source itself is trusted.
        source: where the document came from, for messages.

    Raises:
        MembershipError: no card, another schema, a wrong signature or fingerprint, another member's card, or
            a property that is not what the schema says.
    """

    def refuse(what: str, wanted: str) -> MembershipError:
        return MembershipError(f"peer {name}: {source}: {what}; wanted {wanted}")

    if not isinstance(document, Mapping):
        held = "nothing" if document is None else f"a {type(document).__name__}"
        raise refuse(f"holds {held}", "a membership card, the output `member` of that member's stack")
    _check_schema_version(document, refuse)
    signing_key, signature = document.get("signingKey"), document.get(_SIGNATURE)
    unsigned = {key: value for key, value in document.items() if key != _SIGNATURE}
    try:
        Ed25519PublicKey.from_public_bytes(base64.b64decode(str(signing_key), validate=True)).verify(
            base64.b64decode(str(signature), validate=True), _canonical(unsigned)
        )
    except (InvalidSignature, ValueError) as error:
        raise refuse("the signature does not fit the card", "a card as its member signed it, unaltered") from error
    if pinned is not None and fingerprint(str(signing_key)) != pinned:
        raise refuse(f"signed by the key {fingerprint(str(signing_key))}", f"the pinned key {pinned}")
    if document.get("name") != name:
        raise refuse(f"the card is that of {document.get('name')!r}", f"that of {name!r}")
    try:
        card = MembershipCard.model_validate_json(_canonical(document), strict=True, by_alias=True, by_name=False)
    except ValidationError as error:
        raise refuse(_first_mistake(error), f"a card of schema {SCHEMA_VERSION}") from error
    _check_addresses(card, refuse)
    return card


def with_nulls(card: Mapping[str, Any]) -> dict[str, Any]:
    """The card with what is null on it, which the signature covers and Pulumi's wire format drops."""
    major, _, minor = str(card.get("schema")).partition(".")
    known = int(minor) if major == SCHEMA_VERSION[0] and minor.isdecimal() and len(minor) < 16 else 0
    return dict.fromkeys(name for name, since in _NULLABLE.items() if since <= known) | dict(card)


_Refuse = Callable[[str, str], MembershipError]


def _check_schema_version(document: Mapping[Any, Any], refuse: _Refuse) -> None:
    version = document.get("schema")
    major, _, minor = str(version).partition(".")
    if not (isinstance(version, str) and len(version) < 16 and major.isdecimal() and minor.isdecimal()):
        raise refuse(f"schema is {version!r}", f"{SCHEMA_VERSION}")
    if major != SCHEMA_VERSION.partition(".")[0]:
        upgrade = "this program" if int(major) > int(SCHEMA_VERSION[0]) else "that member's program"
        raise refuse(f"schema is {version}", f"{SCHEMA_VERSION}: upgrade {upgrade}")


def _check_addresses(card: MembershipCard, refuse: _Refuse) -> None:
    instances = card.gateway.instances if card.gateway else ()
    named = {
        **{f"gateway.instances[{i}].bgpPeeringIp": each.bgp_peering_ip for i, each in enumerate(instances)},
        **{f"nodes[{i}].p2pAddress": _host(node.p2p_address) for i, node in enumerate(card.nodes)},
        "networkInfoUrl": _host(card.network_info_url),
        **({"authority.url": _host(card.authority.url)} if card.authority else {}),
    }
    for key, address in named.items():
        if address not in card.address_space:
            raise refuse(f"{key} is {address}", f"an address inside its addressSpace {card.address_space}")
    addresses = [ip for instance in instances for ip in (instance.public_ip, instance.bgp_peering_ip)]
    if len(set(addresses)) < len(addresses):
        raise refuse("its gateway instances share an address", "two instances with addresses of their own")


def check_consortium(
    own: "MemberProfile",
    peers: Sequence[MembershipCard],
    links: Mapping[str, LinkKind],
    own_policy: IpsecPolicy,
    authority: str | None = None,
) -> None:
    """Check the cards of all members that this one is linked to against each other and against itself.

    Args:
        own: what this member will publish, as far as it is known before anything is created.
        peers: the peers' cards, each read by `read_card`.
        links: the kind of link to each peer, by the peer's name.
        own_policy: the IPsec policy of this member's links.
        authority: the member that certifies names for this one.

    Raises:
        MembershipError: with one line for each overlap, double use, impossible link or missing part.
    """
    mistakes: list[str] = []
    everyone = [own, *(MemberProfile.of(card) for card in peers)]
    for one, other in combinations(everyone, 2):
        pair = f"{one.name} and {other.name}"
        if one.address_space.overlaps(other.address_space):
            mistakes.append(
                f"{pair}: addressSpace {one.address_space} overlaps {other.address_space}; "
                "wanted a range of its own for each member"
            )
        if one.asn is not None and one.asn == other.asn:
            mistakes.append(f"{pair}: both have ASN {one.asn}; wanted an ASN of its own for each member")
        theirs = {_attributes(name) for name in other.legal_names}
        mistakes.extend(
            f"{pair}: both have the legal name {legal_name}; wanted a name of its own for each node"
            for legal_name in sorted(one.legal_names)
            if _attributes(legal_name) in theirs
        )
    for card, another in combinations(peers, 2):
        pair = f"{card.name} and {another.name}"
        if card.signing_key == another.signing_key:
            mistakes.append(f"{pair}: both cards have one signingKey; wanted a key of its own for each member")
        if card.link_public_key == another.link_public_key:
            mistakes.append(f"{pair}: both cards have one linkPublicKey; wanted a key of its own for each member")
    for card in peers:
        kind = links[card.name]
        if kind is LinkKind.VNET_TO_VNET and card.tenant_id != own.tenant_id:
            mistakes.append(
                f"{card.name}: link is {kind}, but its tenant is {card.tenant_id} and ours {own.tenant_id}; "
                f"wanted {LinkKind.IPSEC} across tenants"
            )
        if kind is LinkKind.EXPRESS_ROUTE:
            continue
        if card.gateway is None:
            mistakes.append(
                f"{card.name}: link is {kind}, but its card has no VPN gateway; wanted {LinkKind.EXPRESS_ROUTE}"
            )
        elif card.gateway.ipsec_policy.model_dump() != own_policy.model_dump():
            mistakes.append(
                f"{card.name}: its gateway.ipsecPolicy is {_write(card.gateway.ipsec_policy)} "
                f"and ours {_write(own_policy)}; wanted the same on both sides"
            )
    mistakes.extend(
        f"{card.name}: it is to certify names, but its card has no authority; wanted it to say so first"
        for card in peers
        if card.name == authority and card.authority is None
    )
    if mistakes:
        raise MembershipError("\n".join(mistakes))


class MemberProfile(BaseModel):
    """What must differ from member to member."""

    model_config = ConfigDict(frozen=True)

    name: str
    tenant_id: UUID
    address_space: IPv4Network
    asn: int | None
    """None where the member has no VPN gateway."""
    legal_names: frozenset[str]

    @staticmethod
    def of(card: MembershipCard) -> "MemberProfile":
        """The same of a peer, from its card."""
        return MemberProfile(
            name=card.name,
            tenant_id=card.tenant_id,
            address_space=card.address_space,
            asn=card.gateway.asn if card.gateway else None,
            legal_names=frozenset(node.legal_name for node in card.nodes),
        )


class Party(BaseModel):
    """One side of a key agreement, as the other side sees it."""

    model_config = ConfigDict(frozen=True)

    name: str
    public_key: str
    """X25519, base64."""
    generation: int


def agree(secret: bytes, mine: Party, theirs: Party, purpose: Purpose, detail: str) -> str:
    """The key that both parties derive, each from its own secret and the other's public key.

    HKDF-SHA256 over X25519; its info binds the purpose, the detail (for a link: its kind), and name, public
    key and generation of both parties in sorted order.

    Args:
        secret: the 32 secret bytes of `mine.public_key`.
        mine: this member.
        theirs: the peer, from its verified card.
        purpose: what the key is for.
        detail: what else both sides must mean alike.

    Returns:
        64 hex digits (256 bits): Azure's pre-shared keys allow printable ASCII without hyphen or tilde.

    Raises:
        MembershipError: the peer's public key is this member's own, or a low-order point, which would make
            the key guessable.
    """
    if theirs.public_key == mine.public_key:
        raise MembershipError(f"peer {theirs.name}: linkPublicKey is our own; wanted a key that the peer made")
    try:
        shared = X25519PrivateKey.from_private_bytes(secret).exchange(
            X25519PublicKey.from_public_bytes(base64.b64decode(theirs.public_key))
        )
    except ValueError as error:
        raise MembershipError(
            f"peer {theirs.name}: linkPublicKey {theirs.public_key} is a low-order point; wanted a public key"
        ) from error
    return _derive(shared, purpose, detail, mine, theirs)


def enrolment_key(secret: bytes, mine: Party, theirs: Party | None, authority: str) -> str:
    """The key that proves a member's requests to the network authority, and the answers.

    Args:
        secret: the 32 secret bytes of `mine.public_key`.
        mine: this member.
        theirs: the other side; None where the authority's own nodes ask, and both sides are this member.
        authority: the name of the member that is the authority: the key is of no use the other way round.

    Returns:
        64 hex digits (256 bits).

    Raises:
        MembershipError: as `agree` does.
    """
    if theirs is None:
        return _derive(secret, Purpose.ENROL, authority, mine)
    return agree(secret, mine, theirs, Purpose.ENROL, authority)


def _derive(shared: bytes, purpose: Purpose, detail: str, *parties: Party) -> str:
    bound = sorted([party.name, party.public_key, party.generation] for party in parties)
    info = _canonical([_CONTEXT, purpose, detail, bound])
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(shared).hex()


def _canonical(value: object) -> bytes:
    # Cards hold strings, whole numbers, lists and objects only, for which this is the form of RFC 8785.
    return json.dumps(_whole_numbers(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _whole_numbers(value: object) -> object:
    # Pulumi's wire format knows one kind of number: 64512 comes back as 64512.0.
    if isinstance(value, Mapping):
        return {key: _whole_numbers(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_whole_numbers(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _attributes(legal_name: str) -> frozenset[str]:
    # Compared without regard to order and spaces, which X.500 does not count.
    return frozenset("".join(part.split()) for part in legal_name.split(","))


def same_name(one: str, other: str) -> bool:
    """Whether two spellings are those of one legal name."""
    return _attributes(one) == _attributes(other)


def _write(part: BaseModel) -> str:
    return json.dumps(part.model_dump(by_alias=True))


def _first_mistake(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    return f"{'.'.join(str(step) for step in first['loc'])} is {first['input']!r} ({first['msg']})"
