"""Keys that two members derive and never send: X25519 and HKDF-SHA256 (RFC 7748, RFC 5869)."""

import base64
from enum import StrEnum
from typing import Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pydantic import BaseModel, ConfigDict

from contract.canonical import canonical_json
from contract.card import MembershipError

_DERIVATION: Final = "decentralized-trust/v1"


class Purpose(StrEnum):
    """The use of an agreed key; keys for different purposes are independent."""

    LINK = "link"
    """The pre-shared key of a VPN connection."""
    ENROL = "enrol"
    """Authenticates a member's certificate requests to the network authority."""


class Party(BaseModel):
    """One side of a key agreement, as the other side sees it."""

    model_config = ConfigDict(frozen=True)

    name: str
    public_key: str
    """X25519, base64."""
    generation: int


def link_public_key(secret: bytes) -> str:
    """The public half of a link key, base64, from its 32 secret bytes."""
    public_key = X25519PrivateKey.from_private_bytes(secret).public_key()
    return base64.b64encode(public_key.public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()


def agree(secret: bytes, mine: Party, theirs: Party, purpose: Purpose, detail: str) -> str:
    """The key that both parties derive, each from its own secret and the other's public key.

    HKDF-SHA256 over X25519; its info binds the purpose, the detail (for a link: its kind), and name, public
    key and generation of both parties in sorted order.

    Args:
        secret: the 32 secret bytes of `mine.public_key`.
        mine: this member.
        theirs: the peer, from its verified card.
        purpose: what the key is for.
        detail: further context, the same on both sides.

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
    """The key that authenticates a member's requests to the network authority, and its answers.

    Args:
        secret: the 32 secret bytes of `mine.public_key`.
        mine: this member.
        theirs: the other side; None for requests of the authority's own nodes.
        authority: name of the authority's member: the key is of no use the other way round.

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
    info = canonical_json([_DERIVATION, purpose, detail, bound])
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(shared).hex()
