"""The member among its peers: its own card, and theirs, read and checked before anything is registered."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pulumi
from pulumi import Output, StackReference
from pulumi.runtime import invoke_async

from agent.configuration import Network, NetworkAuthority, NetworkZone
from agent.ports import NETWORK_INFO_PATH, NETWORK_INFO_PORT
from components.membership_keys import MembershipKeys
from ledger.platform import P2P, Identity
from membership import (
    SCHEMA_VERSION,
    Gateway,
    IpsecPolicy,
    LinkKind,
    MemberProfile,
    MembershipCard,
    MembershipError,
    check_consortium,
    read_card,
    same_name,
    with_nulls,
)
from settings import TUNNELS, GatewaySku, Peer, Settings, over_budget

CARD_OUTPUT = "member"
"""Stack output that holds a member's card."""
_READ_STACK = "pulumi:pulumi:readStackOutputs"


@dataclass(frozen=True)
class PeerMember:
    """One peer, its card verified."""

    card: MembershipCard
    document: str
    """The card as JSON, just as it was signed."""
    link: LinkKind

    @property
    def name(self) -> str:
        """The peer's name."""
        return self.card.name

    @property
    def gateway(self) -> Gateway:
        """The peer's VPN gateway, which every link over VPN was checked to have."""
        assert self.card.gateway is not None  # noqa: S101
        return self.card.gateway

    @property
    def authority_url(self) -> str:
        """Where it certifies names: whoever is to do so was checked to say it."""
        assert self.card.authority is not None  # noqa: S101
        return self.card.authority.url

    @property
    def over_vpn(self) -> bool:
        """Whether the link is a connection of the VPN gateway."""
        return self.link is not LinkKind.EXPRESS_ROUTE


async def read_peers(settings: Settings, identities: Sequence[Identity], tenant_id: str) -> list[PeerMember]:
    """Every configured peer, from its stack or its card file, all checked against each other and this member.

    Raises:
        RunError: a stack or file can't be read, a card is not proper, or the members do not go together. Pulumi
            prints it as one message. Stacks are read in a preview too.
    """
    try:
        return await _read_peers(settings, identities, tenant_id)
    except MembershipError as error:
        message = f"the peers of {settings.bank.name} can't be linked:\n{error}"
    raise pulumi.RunError(message)


async def _read_peers(settings: Settings, identities: Sequence[Identity], tenant_id: str) -> list[PeerMember]:
    vpn = settings.connectivity.vpn
    peers: list[PeerMember] = []
    mistakes: list[str] = []
    for peer in settings.peers:
        try:
            source, document = await _document(peer)
            card = read_card(document, name=peer.name, pinned=peer.fingerprint, source=source)
        except MembershipError as error:
            mistakes.append(str(error))
            continue
        peers.append(PeerMember(card, json.dumps(document, sort_keys=True), _link(settings, peer, card, tenant_id)))
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
        )
    except MembershipError as error:
        mistakes.append(str(error))
    mistakes.extend(_no_way_to_ask(settings, peers))
    if not mistakes:
        mistakes.extend(_no_notaries(settings, identities, peers))
    mistakes.extend(
        f"{peer.name}: its addressSpace {peer.card.address_space} overlaps applicationNetworks {block}; "
        "wanted no peer's address among those that may use RPC"
        for peer in peers
        for block in settings.application_networks
        if block.overlaps(peer.card.address_space)
    )
    if vpn:
        mistakes.extend(over_budget(links.values(), vpn.sku))
    if mistakes:
        raise MembershipError("\n".join(mistakes))
    if vpn:
        _warn_of_tunnels(list(links.values()), vpn.sku)
    _warn_of_authorities(settings, peers)
    return peers


def notaries(settings: Settings, identities: Sequence[Identity], peers: Sequence[PeerMember]) -> tuple[str, ...]:
    """Legal names of the notaries that this member's own network names; none where it is no authority."""
    network, needs = settings.ledger.network, settings.authority_needs
    if network is None or needs is None:
        return ()
    roles = _roles(identities, peers)
    if not network.notaries:
        return tuple(each.legal_name for each in identities if each.role.name == needs.notary_role)
    return tuple(name for wanted in network.notaries for name in roles if same_name(name, wanted))


def _no_way_to_ask(settings: Settings, peers: Sequence[PeerMember]) -> list[str]:
    """Nodes reach an authority on its platform's ports alone: another port would be denied without a word."""
    peer, needs = authority_peer(settings, peers), settings.platform.authority
    if peer is None or needs is None or peer.card.authority is None:
        return []
    wanted = needs.listeners[0].port
    if urlsplit(peer.authority_url).port == wanted:
        return []
    return [f"{peer.name}: its authority is at {peer.authority_url}; wanted port {wanted}, as everywhere"]


def _no_notaries(settings: Settings, identities: Sequence[Identity], peers: Sequence[PeerMember]) -> list[str]:
    network, needs = settings.ledger.network, settings.authority_needs
    if network is None or needs is None:
        return []
    roles = _roles(identities, peers)
    mistakes = []
    for wanted in network.notaries:
        found = [role for name, role in roles.items() if same_name(name, wanted)]
        if not found:
            mistakes.append(f"the notary {wanted} is nobody's node; wanted one of ours or of a peer")
        elif found[0] not in (None, needs.notary_role):
            mistakes.append(f"the notary {wanted} has the role {found[0]}; wanted {needs.notary_role}")
    return mistakes


def _roles(identities: Sequence[Identity], peers: Sequence[PeerMember]) -> dict[str, str | None]:
    """What each node is that can be seen; a card of schema 1.0 does not tell."""
    own = {each.legal_name: each.role.name for each in identities}
    return own | {node.legal_name: node.role for peer in peers for node in peer.card.nodes}


def told_network(settings: Settings, peers: Sequence[PeerMember], own_authority: str | None) -> Network:
    """What the agents are told of the network.

    Args:
        settings: this member's configuration.
        peers: its peers, as `read_peers` returns them.
        own_authority: base of the requests to its own authority; None where it is none.
    """
    network = settings.ledger.network
    if network is None:
        return Network()
    if network.zone is not None:
        return Network(
            zone=NetworkZone(
                registration_url=network.zone.registration_url,
                network_map_url=network.zone.network_map_url,
                trust_root=network.zone.trust_root.read_text(encoding="ascii"),
            )
        )
    authority = authority_peer(settings, peers)
    url = authority.authority_url if authority else own_authority
    assert url is not None  # noqa: S101
    return Network(authority=NetworkAuthority(url=url), trust_root=network.trust_root, document=network.document)


def authority_peer(settings: Settings, peers: Sequence[PeerMember]) -> PeerMember | None:
    """The peer that certifies names for this member; None where it does so itself, or nobody does."""
    network = settings.ledger.network
    return next((peer for peer in peers if network and peer.name == network.authority), None)


def own_card(
    settings: Settings,
    *,
    identities: Sequence[Identity],
    frontend: str,
    authority_url: str | None,
    tenant_id: str,
    gateway_id: Output[str] | None,
    gateway_instances: Output[list[dict[str, str]]] | None,
    keys: MembershipKeys,
) -> Output[dict[str, Any]]:
    """This member's card, signed."""
    vpn = settings.connectivity.vpn
    gateway = (
        {
            "id": gateway_id,
            "asn": settings.bank.asn,
            "instances": gateway_instances,
            "ipsecPolicy": vpn.ipsec_policy.model_dump(by_alias=True),
        }
        if vpn
        else None
    )
    return keys.sign(
        Output.from_input(
            {
                "schema": SCHEMA_VERSION,
                "name": settings.bank.name,
                "location": settings.location,
                "tenantId": tenant_id,
                "addressSpace": str(settings.address_space),
                "gateway": gateway,
                "linkPublicKey": keys.link_public_key,
                "keyGenerations": settings.key_generations.model_dump(by_alias=True),
                "nodes": [
                    {
                        "legalName": identity.legal_name,
                        "p2pAddress": f"{frontend}:{identity.ports[P2P]}",
                        "role": identity.role.name,
                    }
                    for identity in identities
                ],
                "networkInfoUrl": f"https://{frontend}:{NETWORK_INFO_PORT}{NETWORK_INFO_PATH}",
                "authority": {"url": authority_url} if authority_url else None,
            }
        )
    )


def _link(settings: Settings, peer: Peer, card: MembershipCard, tenant_id: str) -> LinkKind:
    if peer.link is not None:
        return peer.link
    if settings.connectivity.vpn is None:
        return LinkKind.EXPRESS_ROUTE
    return LinkKind.VNET_TO_VNET if str(card.tenant_id) == tenant_id else LinkKind.IPSEC


async def _document(peer: Peer) -> tuple[str, object]:
    """Where the card came from, and the card as decoded JSON; None where the stack has no such output."""
    if peer.card is not None:
        source = f"file {peer.card}"
        try:
            return source, json.loads(peer.card.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise MembershipError(f"peer {peer.name}: {source}: {error}; wanted a JSON document") from error
    source = f"stack {peer.stack}"
    try:
        # A reference to a stack that can't be read ends the run with a traceback; this function only fails.
        await invoke_async(_READ_STACK, {"name": peer.stack})
    except Exception as error:
        raise MembershipError(
            f"peer {peer.name}: {source}: can't be read ({_reason(error)}); wanted a stack that is up and that "
            "you may read: a peer is listed once its stack is up"
        ) from error
    reference = StackReference(f"peer-{peer.name}", stack_name=peer.stack)
    details = await reference.get_output_details(CARD_OUTPUT)
    card = details.value if details.secret_value is None else details.secret_value
    return source, with_nulls(card) if isinstance(card, dict) else card


def _warn_of_authorities(settings: Settings, peers: Sequence[PeerMember]) -> None:
    """Two at a time are there while a consortium moves from one to the other; for good, they part it."""
    network = settings.ledger.network
    others = [peer.name for peer in peers if peer.card.authority and network and peer.name != network.authority]
    if others and network:
        ours = network.zone.network_map_url if network.zone else network.authority
        pulumi.log.warn(
            f"{', '.join(others)} certifies names too, and our nodes belong to the network of {ours}: "
            "nodes of two networks don't trust each other"
        )


def _reason(error: Exception) -> str:
    return str(error).strip().rsplit(": ", 1)[-1]


def _warn_of_tunnels(links: Sequence[LinkKind], sku: GatewaySku) -> None:
    tunnels = sum(TUNNELS[link] for link in links)
    if tunnels > sku.max_connections:
        pulumi.log.warn(
            f"{len(links)} links have {tunnels} tunnels, and {sku} is sold for {sku.max_connections}: "
            f"redundant tunnels may not come up; {GatewaySku.VPN_GW4AZ} takes {GatewaySku.VPN_GW4AZ.max_connections}"
        )
