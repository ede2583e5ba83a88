"""Compares the routes that the VPN gateway learned with the cards: `python -m stack.routes ROUTES OUTPUTS CARD...`.

A VPN gateway filters no routes: any BGP peer can announce a part of a third member's range, and the longest prefix
wins. A member's signed card states its range. The outputs of this member's stack state the kind of each link, and so
whether the gateway learns a direct route over it.
"""

import argparse
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network
from itertools import groupby
from pathlib import Path

from pydantic import Field, ValidationError

from contract.card import LinkKind, MembershipCard, MembershipError, SeenCard, read_card
from contract.models import OpenModel, first_fault
from stack.card_file import read_card_file, read_json, read_outputs_file
from stack.outputs import CARD_OUTPUT, LINKS_OUTPUT, PEER_CARDS_OUTPUT

_COMMAND = "`az network vnet-gateway list-learned-routes`"
_OWN = "Network"
"""Origin of the routes to the gateway's own network and to its peers' BGP addresses."""
_FROM_OWN_INSTANCE = "IBgp"
"""Origin of the routes that one instance of the gateway announces to the other."""
_WITHOUT_BGP = (LinkKind.VNET_TO_VNET, LinkKind.EXPRESS_ROUTE)
"""Kinds of links over which the VPN gateway learns no routes."""


class RoutesError(ValueError):
    """The input is not a list of learned routes."""


class LearnedRoute(OpenModel):
    """A route as Azure lists it.

    Source: learn.microsoft.com/rest/api/network-gateway/virtual-network-gateways/get-learned-routes.
    """

    network: IPv4Network
    origin: str
    as_path: str | None = None
    """ASNs, from the nearest to the one that originated the route."""
    source_peer: str | None = None

    @property
    def path(self) -> tuple[int, ...]:
        """The ASNs of `as_path`."""
        return tuple(int(each) for each in re.findall(r"[0-9]{1,10}", self.as_path or ""))

    @property
    def hops(self) -> tuple[int, ...]:
        """The path's ASNs without repeats in a row: a gateway may repeat an ASN to make a path longer."""
        return tuple(asn for asn, _ in groupby(self.path))


class _Answer(OpenModel):
    value: tuple[LearnedRoute, ...]


def routes_of(document: object) -> tuple[LearnedRoute, ...]:
    """The routes in what `az network vnet-gateway list-learned-routes` printed, at least one.

    Raises:
        RoutesError: not such a list.
    """
    try:
        routes = _Answer.model_validate(document).value
    except ValidationError as error:
        raise RoutesError(f"{first_fault(error)}; wanted what {_COMMAND} prints") from None
    if not routes:
        raise RoutesError("no route; wanted those of a gateway, which has at least its own network's")
    return routes


def _routes(path: Path) -> tuple[LearnedRoute, ...]:
    try:
        return routes_of(read_json(path, _COMMAND))
    except ValueError as error:
        raise RoutesError(f"{path}: {error}") from error


@dataclass(frozen=True)
class Findings:
    """Learned routes that no member announces as the direct way to its own range."""

    foreign: list[str]
    """One line for each route that no card justifies, and for each route over a peer to a member that is linked by
    `ipsec` and has no shorter direct route: the peer carries that member's traffic."""
    unclear: list[str]
    """One line for each route over a peer to a member that has no shorter direct route, and whose kind of link is
    unknown."""
    in_transit: int
    """Number of all other routes over a peer to a member's whole range."""


def compare(
    routes: Sequence[LearnedRoute],
    own: MembershipCard,
    peers: Sequence[MembershipCard],
    links: Mapping[str, LinkKind],
) -> Findings:
    """Compare the learned routes with the cards.

    Every Azure gateway announces the routes that it learned from others, and nothing stops it
    (learn.microsoft.com/azure/vpn-gateway/vpn-gateway-vpn-faq, "What address prefixes do Azure VPN gateways advertise
    to me?"). So a route over a peer is normal. BGP prefers the shorter AS path, so to a member that is linked by
    `ipsec` a shorter direct route must be there too. A link of another kind brings the VPN gateway no route by BGP.

    Args:
        routes: what the gateway of `own` learned.
        own: this member's card.
        peers: the cards of all linked members.
        links: the kind of the link to each peer, by the peer's name; unknown for a peer that is missing.
    """
    foreign: list[str] = []
    unclear: list[str] = []
    in_transit = 0
    for route in routes:
        if route.origin == _OWN or (why := _foreign(route, own, peers)) is None:
            continue
        owner = _reached_over_a_peer(route, own, peers)
        if owner is None:
            foreign.append(why)
        elif links.get(owner.name) in _WITHOUT_BGP or _has_shorter(route, routes, own, peers):
            in_transit += 1
        elif owner.name in links:
            foreign.append(why)
        else:
            unclear.append(
                f"{_described(route, own, peers)}; carries {owner.name}'s traffic if {owner.name} is linked by "
                f"{LinkKind.IPSEC}; wanted the kind of that link in output `{LINKS_OUTPUT}`"
            )
    return Findings(foreign, unclear, in_transit)


def _has_shorter(
    route: LearnedRoute, routes: Sequence[LearnedRoute], own: MembershipCard, peers: Sequence[MembershipCard]
) -> bool:
    return any(
        direct.network == route.network and len(direct.path) < len(route.path) and not _foreign(direct, own, peers)
        for direct in routes
        if direct.origin != _OWN
    )


def _reached_over_a_peer(
    route: LearnedRoute, own: MembershipCard, peers: Sequence[MembershipCard]
) -> MembershipCard | None:
    """The member to whose whole range a route leads over another member; None if it does not."""
    cards = {_asn(card): card for card in peers if card.gateway}
    hops = route.hops
    if len(hops) < 2 or len(set(hops)) < len(hops) or not cards.keys() >= set(hops):
        return None
    sender, owner = own if route.origin == _FROM_OWN_INSTANCE else cards[hops[0]], cards[hops[-1]]
    if route.network != owner.address_space or route.network.overlaps(own.address_space):
        return None
    return owner if route.source_peer in _bgp_addresses(sender) else None


def _foreign(route: LearnedRoute, own: MembershipCard, peers: Sequence[MembershipCard]) -> str | None:
    found = _described(route, own, peers)
    if route.network.overlaps(own.address_space):
        return f"{found}; wanted nobody to announce our own range {own.address_space}"
    owner = next((card for card in peers if route.network.subnet_of(card.address_space)), None)
    if owner is None:
        hit = ", ".join(card.name for card in peers if route.network.overlaps(card.address_space))
        return f"{found}; wanted a range on a card{f', not more than that of {hit}' if hit else ''}"
    if _reached_over_a_peer(route, own, peers):
        return f"{found}; carries {owner.name}'s traffic; wanted a shorter route from {owner.name} itself"
    sender = own if route.origin == _FROM_OWN_INSTANCE else owner
    if route.source_peer not in _bgp_addresses(sender):
        return f"{found}; wanted {owner.name}'s range {owner.address_space} from a gateway instance on its card"
    wanted = (_asn(owner),)
    if route.hops != wanted:
        return f"{found}; wanted {owner.name}'s range {owner.address_space} from AS {wanted[0]} alone, as on its card"
    return None


def _described(route: LearnedRoute, own: MembershipCard, peers: Sequence[MembershipCard]) -> str:
    members = {_asn(card): card.name for card in (own, *peers) if card.gateway}
    path = " ".join(f"{asn} ({members.get(asn, 'no member')})" for asn in route.path) or "nothing"
    return f"{route.network} from {route.source_peer or 'a peer'}, AS path {path}"


def _asn(card: MembershipCard) -> int | None:
    return card.gateway.asn if card.gateway else None


def _bgp_addresses(card: MembershipCard) -> set[str]:
    return {str(each.bgp_peering_ip) for each in card.gateway.instances} if card.gateway else set()


class _Outputs(OpenModel):
    """Outputs of this member's stack; an older version of the program may lack some."""

    links: dict[str, LinkKind] = Field(default_factory=dict)
    """The kind of the link to each peer."""
    peer_cards: dict[str, SeenCard] = Field(default_factory=dict)
    """What this member knows of each peer's newest card."""


def _own(path: Path) -> tuple[MembershipCard, _Outputs]:
    try:
        outputs = read_outputs_file(path)
        return _read(outputs[CARD_OUTPUT], path, None), _Outputs.model_validate(outputs)
    except ValidationError as error:
        raise MembershipError(f"{path}: {first_fault(error)}; wanted outputs as this program writes them") from error
    except ValueError as error:
        raise MembershipError(f"{path}: {error}") from error


def _cards(paths: Sequence[Path], seen: Mapping[str, SeenCard]) -> list[MembershipCard]:
    """The peers' cards, signed by the keys that this member knows."""
    cards: dict[str, MembershipCard] = {}
    for path in paths:
        try:
            document = read_card_file(path)
        except ValueError as error:
            raise MembershipError(f"{path}: {error}") from error
        known = seen.get(_name(document, path))
        card = _read(document, path, known)
        if seen and known is None:
            raise MembershipError(
                f"{path}: {card.name} is in no output `{PEER_CARDS_OUTPUT}`; wanted the cards of peers: "
                f"{', '.join(sorted(seen))}"
            )
        if card.name in cards:
            raise MembershipError(f"{path}: {card.name}'s card again; wanted one of each peer")
        cards[card.name] = card
    return [*cards.values()]


def _read(document: object, path: Path, known: SeenCard | None) -> MembershipCard:
    card = read_card(
        document, name=_name(document, path), pinned=known.fingerprint if known else None, source=str(path)
    )
    if known and (stale := known.staleness(SeenCard.of(card, document))):
        raise MembershipError(f"{path}: {stale}")
    return card


def _name(document: object, path: Path) -> str:
    return str(document["name"]) if isinstance(document, dict) and "name" in document else path.stem


def main(arguments: Sequence[str]) -> int:
    """Print the foreign and the unclear routes.

    Returns:
        0 without any, 1 with some, 65 (EX_DATAERR) if a file is unusable.
    """
    parser = argparse.ArgumentParser(prog="python -m stack.routes", description=__doc__)
    parser.add_argument(
        "routes", type=Path, help="what `az network vnet-gateway list-learned-routes --name ... -g ...` printed"
    )
    parser.add_argument(
        "outputs", type=Path, help="what `pulumi stack output --json` printed for this member's stack"
    )
    parser.add_argument("cards", type=Path, nargs="+", metavar="CARD", help="the card of each peer")
    given = parser.parse_args(arguments)
    try:
        routes = _routes(given.routes)
        own, outputs = _own(given.outputs)
        peers = _cards(given.cards, outputs.peer_cards)
    except (RoutesError, MembershipError) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return os.EX_DATAERR
    found = compare(routes, own, peers, outputs.links)
    for line in found.foreign:
        print(f"foreign: {line}")  # noqa: T201
    for line in found.unclear:
        print(f"unclear: {line}")  # noqa: T201
    counts = f"{len(found.foreign)} foreign, {len(found.unclear)} unclear, {found.in_transit} in transit"
    print(f"{len(routes)} routes, {counts}")  # noqa: T201
    return 1 if found.foreign or found.unclear else os.EX_OK


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
