"""The member's peers: their cards, read and checked before any resource is registered."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import pulumi
from pulumi import StackReference
from pulumi.runtime import invoke_async

from contract.canonical import canonical_json
from contract.card import (
    Gateway,
    IpsecPolicy,
    LinkKind,
    MembershipCard,
    MembershipError,
    SeenCard,
    last_card,
    read_card,
    with_nulls,
)
from contract.consortium import MemberProfile, check_consortium, policy_difference
from contract.frontend import peer_ports
from contract.identities import Identity
from contract.legal_name import canonical_if_x500, same_name
from contract.platform import Platform
from contract.ports import NETWORK_INFO_PORT
from stack.card_file import read_card_file
from stack.outputs import CARD_OUTPUT
from stack.previous import READ_STACK, PreviousUpdate, reason
from stack.settings import TUNNELS_OF_LINK, GatewaySku, PeerSettings, Settings, too_many_connections

_NO_SECRETS: Final = "constructing secrets manager"
"""Start of Pulumi's message if it can't use the key of a stack's secrets provider (pulumi/pulumi#21436)."""


@dataclass(frozen=True)
class PeerMember:
    """One peer with its verified card."""

    card: MembershipCard
    document: str
    """The card as canonical JSON, as signed."""
    link: LinkKind
    legal_name: str | None
    """The bank's legal name, as agreed; None if the platform's names are not certified."""

    @property
    def name(self) -> str:
        """The peer's name."""
        return self.card.name

    @property
    def newest(self) -> SeenCard:
        """Record of this card, to recognise an older one later."""
        return SeenCard.of(self.card, json.loads(self.document))

    @property
    def gateway(self) -> Gateway:
        """The peer's VPN gateway. Only for a link over VPN: its card was checked to have a gateway."""
        assert self.card.gateway is not None  # noqa: S101
        return self.card.gateway

    @property
    def authority_url(self) -> str:
        """Base URL of its network authority. Only for the peer that certifies our names: its card was checked."""
        assert self.card.authority is not None  # noqa: S101
        return self.card.authority.url

    @property
    def authority_host(self) -> str:
        """IPv4 address of its network authority."""
        return str(urlsplit(self.authority_url).hostname)

    @property
    def over_vpn(self) -> bool:
        """Whether the link goes through the VPN gateways."""
        return self.link is not LinkKind.EXPRESS_ROUTE


async def read_peers(
    settings: Settings, identities: Sequence[Identity], tenant_id: str, previous: PreviousUpdate
) -> list[PeerMember]:
    """Read the card of every peer, from its stack or file, and check all members against each other.

    A preview reads stacks too.

    Args:
        settings: the member's configuration.
        identities: its ledger nodes.
        tenant_id: its Entra tenant.
        previous: outputs of the last update: this member's card, and records of each peer's newest card.

    Raises:
        RunError: a stack or file can't be read, a card is invalid, or members conflict: a line for each mistake.
    """
    try:
        return await _read_peers(settings, identities, tenant_id, previous)
    except MembershipError as error:
        refused = unlinkable(settings, error)
    raise refused


def unlinkable(settings: Settings, error: MembershipError) -> pulumi.RunError:
    """The error that ends the run of a member whose peers can't be linked."""
    return pulumi.RunError(f"the peers of {settings.bank.name} can't be linked:\n{error}")


async def _read_peers(
    settings: Settings, identities: Sequence[Identity], tenant_id: str, previous: PreviousUpdate
) -> list[PeerMember]:
    vpn = settings.connectivity.vpn
    peers: list[PeerMember] = []
    mistakes: list[str] = []
    for peer in settings.peers:
        try:
            source, document = await _document(peer)
            card = read_card(document, name=peer.name, pinned=peer.fingerprint, source=source)
        except MembershipError as error:
            mistakes.extend(error.mistakes)
            continue
        seen = previous.peer_cards.get(peer.name)
        newest = SeenCard.of(card, document)
        stale = seen.staleness(newest, pinned=peer.fingerprint is not None) if seen else None
        wrong = [*_foreign_names(settings.platform, peer, card), *([stale] if stale else [])]
        mistakes.extend(f"peer {peer.name}: {source}: {each}" for each in wrong)
        link = _link(settings, peer, card, tenant_id)
        peers.append(PeerMember(card, canonical_json(document).decode(), link, peer.legal_name))
    own = MemberProfile(
        name=settings.bank.name,
        tenant_id=tenant_id,
        address_space=settings.address_space,
        asn=settings.bank.asn if vpn else None,
        legal_names=frozenset(identity.legal_name for identity in identities),
    )
    links = {peer.name: peer.link for peer in peers}
    try:
        check_consortium(
            own,
            [peer.card for peer in peers],
            links,
            vpn.ipsec_policy if vpn else IpsecPolicy(),
            settings.ledger.network.authority if settings.ledger.network else None,
            own_card=last_card(previous.card),
            recorded=previous.peer_cards,
        )
    except MembershipError as error:
        mistakes.extend(error.mistakes)
    mistakes.extend(_closed_ports(settings, peers))
    if not mistakes:
        mistakes.extend(_unknown_notaries(settings, identities, peers))
    mistakes.extend(
        f"{peer.name}: its addressSpace {peer.card.address_space} overlaps applicationNetworks {block}; "
        "wanted no peer's address among those that may use RPC"
        for peer in peers
        for block in settings.application_networks
        if block.overlaps(peer.card.address_space)
    )
    if vpn:
        mistakes.extend(too_many_connections(links.values(), vpn.sku))
    if mistakes:
        raise MembershipError(*mistakes)
    if vpn:
        _warn_of_tunnels(list(links.values()), vpn.sku)
        _warn_of_policies(peers, vpn.ipsec_policy)
    _warn_of_authorities(settings, peers)
    return peers


def notaries(settings: Settings, identities: Sequence[Identity], peers: Sequence[PeerMember]) -> tuple[str, ...]:
    """Legal names of the network's notaries, if this member runs its authority; else empty."""
    network, needs = settings.ledger.network, settings.authority_needs
    if network is None or needs is None:
        return ()
    roles = _roles(identities, peers)
    if not network.notaries:
        return tuple(each.legal_name for each in identities if each.role.name == needs.notary_role)
    return tuple(name for wanted in network.notaries for name in roles if same_name(name, wanted))


def _foreign_names(platform: Platform, peer: PeerSettings, card: MembershipCard) -> Iterator[str]:
    """Names on a card that are not of the agreed bank: the authority may certify each name on a card for its member.

    Banks are compared character by character, as applications on the ledger compare them.
    """
    if peer.legal_name is None:
        return
    for index, node in enumerate(card.nodes):
        try:
            bank = platform.bank_of(node.legal_name)
        except ValueError as error:
            yield f"nodes[{index}].legalName: {error}"
            continue
        if bank != peer.legal_name:
            yield f"nodes[{index}].legalName is {node.legal_name}; wanted {peer.legal_name}, as agreed, and an OU"
        elif node.legal_name != (spelled := canonical_if_x500(node.legal_name)):
            # A node signs documents with its name in this spelling, and agents compare it character by character.
            yield f"nodes[{index}].legalName is {node.legal_name}; wanted it spelled {spelled}"


def _closed_ports(settings: Settings, peers: Sequence[PeerMember]) -> Iterator[str]:
    """Addresses of peers on other ports than the agent's and the platform's, which NSG rules drop silently."""
    open_ports = peer_ports(settings.platform)
    for peer in peers:
        url = peer.card.network_info_url
        if urlsplit(url).port != NETWORK_INFO_PORT:
            yield f"{peer.name}: its networkInfoUrl is {url}; wanted port {NETWORK_INFO_PORT}, as everywhere"
        for index, node in enumerate(peer.card.nodes):
            if int(node.p2p_address.rpartition(":")[2]) not in open_ports:
                yield (
                    f"{peer.name}: nodes[{index}].p2pAddress is {node.p2p_address}; wanted a port of "
                    f"{settings.platform.name}, {open_ports[0]} to {open_ports[-1]}"
                )
    certifying, needs = authority_peer(settings, peers), settings.platform.authority
    if certifying is None or needs is None or certifying.card.authority is None:
        return
    url, wanted = certifying.authority_url, needs.listeners[0].port
    if urlsplit(url).port != wanted:
        yield f"{certifying.name}: its authority.url is {url}; wanted port {wanted}, as everywhere"


def _unknown_notaries(settings: Settings, identities: Sequence[Identity], peers: Sequence[PeerMember]) -> list[str]:
    network, needs = settings.ledger.network, settings.authority_needs
    if network is None or needs is None:
        return []
    roles = _roles(identities, peers)
    mistakes = []
    for wanted in network.notaries:
        found = [role for name, role in roles.items() if same_name(name, wanted)]
        if not found:
            mistakes.append(f"ledger.network.notaries: {wanted} is nobody's node; wanted one of ours or of a peer")
        elif found[0] not in (None, needs.notary_role):
            mistakes.append(
                f"ledger.network.notaries: {wanted} has the role {found[0]} on its card; wanted {needs.notary_role}"
            )
    return mistakes


def _roles(identities: Sequence[Identity], peers: Sequence[PeerMember]) -> dict[str, str | None]:
    """Role of each own and each peer's node, by legal name; None if the card is of schema 1.0, without roles."""
    own = {each.legal_name: each.role.name for each in identities}
    return own | {node.legal_name: node.role for peer in peers for node in peer.card.nodes}


def authority_peer(settings: Settings, peers: Sequence[PeerMember]) -> PeerMember | None:
    """The peer that certifies names for this member; None if this member does so itself, or there is no authority."""
    network = settings.ledger.network
    return next((peer for peer in peers if network and peer.name == network.authority), None)


def _link(settings: Settings, peer: PeerSettings, card: MembershipCard, tenant_id: str) -> LinkKind:
    if peer.link is not None:
        return peer.link
    if settings.connectivity.vpn is None:
        return LinkKind.EXPRESS_ROUTE
    return LinkKind.VNET_TO_VNET if str(card.tenant_id) == tenant_id else LinkKind.IPSEC


async def _document(peer: PeerSettings) -> tuple[str, object]:
    """The card's source, and the card as decoded JSON; None where the stack has no such output."""
    if peer.card is not None:
        source = f"file {peer.card}"
        try:
            return source, read_card_file(peer.card)
        except ValueError as error:
            raise MembershipError(f"peer {peer.name}: {source}: {error}") from error
    source = f"stack {peer.stack}"
    try:
        # A StackReference to a stack that can't be read ends the run with a traceback; this function only raises.
        await invoke_async(READ_STACK, {"name": peer.stack})
    except Exception as error:
        said = reason(error)
        if said.startswith(_NO_SECRETS):
            raise MembershipError(
                f"peer {peer.name}: {source}: Pulumi wants the right to decrypt its secrets, public outputs or not "
                f"({said}); wanted its card as a file, since that right opens them all"
            ) from error
        raise MembershipError(
            f"peer {peer.name}: {source}: can't be read ({said}); wanted a stack that you may read and "
            "whose first pulumi up has succeeded"
        ) from error
    reference = StackReference(f"peer-{peer.name}", stack_name=peer.stack)
    details = await reference.get_output_details(CARD_OUTPUT)
    card = details.value if details.secret_value is None else details.secret_value
    return source, with_nulls(card) if isinstance(card, dict) else card


def _warn_of_authorities(settings: Settings, peers: Sequence[PeerMember]) -> None:
    """Two authorities exist while a consortium moves from one to the other; permanently, they split it."""
    network = settings.ledger.network
    others = [peer.name for peer in peers if peer.card.authority and network and peer.name != network.authority]
    if others and network:
        ours = network.zone.network_map_url if network.zone else network.authority
        pulumi.log.warn(
            f"{', '.join(others)} certifies names too, and our nodes belong to the network of {ours}: "
            "nodes of two networks don't trust each other"
        )


def _warn_of_tunnels(links: Sequence[LinkKind], sku: GatewaySku) -> None:
    tunnels = sum(TUNNELS_OF_LINK[link] for link in links)
    if tunnels > sku.max_connections:
        pulumi.log.warn(
            f"{len(links)} links have {tunnels} tunnels, and {sku} is sold for {sku.max_connections}: "
            f"redundant tunnels may not come up; {GatewaySku.VPN_GW4AZ} takes {GatewaySku.VPN_GW4AZ.max_connections}"
        )


def _warn_of_policies(peers: Sequence[PeerMember], own_policy: IpsecPolicy) -> None:
    """Warn of each recorded peer with another policy; of a peer that no earlier update recorded it is a mistake."""
    for peer in peers:
        if peer.over_vpn and (difference := policy_difference(peer.card, own_policy)):
            pulumi.log.warn(f"{difference}: the link is down until both sides have run with the same one")
