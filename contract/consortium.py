"""Checks of a member and its peers against each other."""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from ipaddress import IPv4Network
from itertools import combinations
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from contract.card import COEXISTENCE_ASN, IpsecPolicy, LinkKind, MembershipCard, MembershipError
from contract.legal_name import name_key


class MemberProfile(BaseModel):
    """Values that must differ from member to member."""

    model_config = ConfigDict(frozen=True)

    name: str
    tenant_id: UUID
    address_space: IPv4Network
    asn: int | None
    """None without a VPN gateway."""
    legal_names: frozenset[str]

    @staticmethod
    def of(card: MembershipCard) -> "MemberProfile":
        """The profile of a peer, from its card."""
        return MemberProfile(
            name=card.name,
            tenant_id=card.tenant_id,
            address_space=card.address_space,
            asn=card.gateway.asn if card.gateway else None,
            legal_names=frozenset(node.legal_name for node in card.nodes),
        )


def check_consortium(
    own: MemberProfile,
    peers: Sequence[MembershipCard],
    links: Mapping[str, LinkKind],
    own_policy: IpsecPolicy,
    authority: str | None = None,
    *,
    own_card: MembershipCard | None = None,
    recorded: Collection[str] = (),
) -> None:
    """Check a member and its peers against each other.

    Args:
        own: this member's values, known before anything is created.
        peers: the peers' cards, each read by `read_card`.
        links: the kind of link to each peer, by the peer's name.
        own_policy: the IPsec policy of this member's links.
        authority: name of the member that certifies names for this one.
        own_card: this member's last card; None before its first.
        recorded: peers whose cards an earlier update recorded. Their policies may differ from this member's, since
            a policy changes on one side first.

    Raises:
        MembershipError: with one line for each overlap, duplicate, impossible link or missing part.
    """
    mistakes = list(_clashes([own, *map(MemberProfile.of, peers)]))
    mistakes.extend(_shared_identifiers([*([own_card] if own_card else []), *peers]))
    for card in peers:
        kind = links[card.name]
        if kind is LinkKind.VNET_TO_VNET and card.tenant_id != own.tenant_id:
            mistakes.append(
                f"{card.name}: link is {kind}, but its tenant is {card.tenant_id} and ours {own.tenant_id}; "
                f"wanted {LinkKind.IPSEC} across tenants"
            )
        if kind is LinkKind.EXPRESS_ROUTE:
            continue
        asns = {own.name: own.asn, card.name: card.gateway.asn if card.gateway else None}
        if kind is LinkKind.IPSEC and (holders := [name for name, asn in asns.items() if asn == COEXISTENCE_ASN]):
            mistakes.append(
                f"{card.name}: link is {kind}, but the ASN of {' and '.join(holders)} is {COEXISTENCE_ASN}, with "
                f"which Azure makes no local network gateway; wanted {LinkKind.VNET_TO_VNET}, "
                f"{LinkKind.EXPRESS_ROUTE}, or a private ASN"
            )
        if card.gateway is None:
            mistakes.append(
                f"{card.name}: link is {kind}, but its card has no VPN gateway; wanted {LinkKind.EXPRESS_ROUTE}"
            )
        elif (difference := policy_difference(card, own_policy)) and card.name not in recorded:
            mistakes.append(f"{difference}; wanted the same on both sides")
    mistakes.extend(
        f"{card.name}: ledger.network.authority names it, but its card has no authority; wanted that member to run "
        "pulumi up with itself as ledger.network.authority first"
        for card in peers
        if card.name == authority and card.authority is None
    )
    if mistakes:
        raise MembershipError(*mistakes)


def policy_difference(card: MembershipCard, own_policy: IpsecPolicy) -> str | None:
    """How a peer's IPsec policy differs from ours, so that no tunnel comes up; None where it does not."""
    if card.gateway is None or card.gateway.ipsec_policy.model_dump() == own_policy.model_dump():
        return None
    theirs, ours = _write(card.gateway.ipsec_policy), _write(own_policy)
    return f"{card.name}: its gateway.ipsecPolicy is {theirs} and ours {ours}"


def _clashes(members: Sequence[MemberProfile]) -> Iterator[str]:
    """Values of two members that must differ and do not."""
    # Each name's key is computed once: a hundred peers are five thousand pairs.
    with_keys = [(member, {name_key(name): name for name in sorted(member.legal_names)}) for member in members]
    for (one, keys), (other, other_keys) in combinations(with_keys, 2):
        pair = f"{one.name} and {other.name}"
        if one.address_space.overlaps(other.address_space):
            yield (
                f"{pair}: addressSpace {one.address_space} overlaps {other.address_space}; "
                "wanted a different range for each member"
            )
        # A link between two members with Azure's default ASN uses no BGP.
        if one.asn is not None and one.asn == other.asn != COEXISTENCE_ASN:
            yield f"{pair}: both have gateway.asn {one.asn}; wanted a different ASN for each member"
        for key in sorted(keys.keys() & other_keys.keys()):
            yield f"{pair}: both have the legalName {keys[key]}; wanted a different name for each node"


def _shared_identifiers(cards: Iterable[MembershipCard]) -> Iterator[str]:
    """Values that a member could copy from another's card, and that no two may share.

    With our own key no key can be agreed; with another's gateway our tunnel would end at a third member, or at us.
    """
    holders: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for card in cards:
        for what, value in _identifiers(card):
            holders.setdefault((what, value.casefold() if what == "gateway.id" else value), []).append(
                (card.name, value)
            )
    for (what, _), held in holders.items():
        for (one, value), (other, _) in combinations(held, 2):
            yield f"{one} and {other}: both cards have the {what} {value}; wanted another for each member"


def _identifiers(card: MembershipCard) -> Iterator[tuple[str, str]]:
    """Values that only this card may have, by property."""
    yield "signingKey", card.signing_key
    yield "linkPublicKey", card.link_public_key
    if gateway := card.gateway:
        yield "gateway.id", gateway.id
        for each in gateway.instances:
            yield "publicIp", str(each.public_ip)


def _write(part: BaseModel) -> str:
    return json.dumps(part.model_dump(by_alias=True))
