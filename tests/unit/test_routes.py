"""Routes that a VPN gateway learned: each is that of the member whose card has the range, or it is foreign."""

import json
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from contract.card import MembershipCard, read_card
from lab.cards import make_card
from stack.routes import RoutesError, foreign_routes, in_transit, main, read_routes


def card(name: str, **changes: Any) -> MembershipCard:
    return read_card(make_card(name, **changes), name=name, pinned=None, source="a test")


OWN = card("bank-a", address_space="10.1.0.0/16", asn=64512)
C_SENDS = "10.3.1.228"
B = card("bank-b", address_space="10.2.0.0/16", asn=64513)
C = card("bank-c", address_space="10.3.0.0/20", asn=64514, tenant_id=str(UUID(int=3)))


def learned(network: str, path: str = "", origin: str = "EBgp", source: str = "10.2.1.228") -> dict[str, Any]:
    """As Azure lists a route; from bank-b, where nothing else is said."""
    return {
        "asPath": path,
        "localAddress": "10.1.1.4",
        "network": network,
        "nextHop": source if path else None,
        "origin": origin,
        "sourcePeer": source,
        "weight": 32768,
    }


def foreign(*routes: dict[str, Any]) -> list[str]:
    return foreign_routes(read_routes(json.dumps({"value": routes})), OWN, [B, C])


def test_what_every_member_announces_of_itself_is_no_news() -> None:
    assert not foreign(
        learned("10.1.0.0/16", origin="Network"),
        learned("10.2.1.4/32", origin="Network"),
        learned("10.2.0.0/16", "64513"),
        learned("10.2.0.0/16", "64513", origin="IBgp", source="10.1.1.229"),
        learned("10.3.0.0/20", "64514-64514", source=C_SENDS),
    )


def test_a_way_over_a_peer_is_what_every_gateway_offers() -> None:
    direct = learned("10.3.0.0/20", "64514", source=C_SENDS)
    offered = [
        learned("10.3.0.0/20", "64513-64514"),
        learned("10.3.0.0/20", "64513-64513-64514"),
        learned("10.3.0.0/20", "64513-64514", origin="IBgp", source="10.1.1.229"),
    ]
    assert not foreign(direct, *offered), "or the check would complain wherever three members are linked"
    found = read_routes(json.dumps({"value": [direct, *offered]}))
    assert [in_transit(each, found, OWN, [B, C]) for each in found] == [False, True, True, True]


@pytest.mark.parametrize(
    "direct",
    [
        [],
        [learned("10.3.0.0/20", "64514-64514-64514", source=C_SENDS)],
        [learned("10.3.0.0/20", "64514", source="10.2.1.228")],
    ],
    ids=["is away", "is made longer", "is not from its gateway"],
)
def test_a_way_over_a_peer_is_foreign_where_the_direct_one(direct: list[dict[str, Any]]) -> None:
    lines = foreign(learned("10.3.0.0/20", "64513-64514"), *direct)
    assert "carries bank-c's traffic; wanted a shorter route from bank-c itself" in lines[0], (
        "BGP prefers the shorter path, so the peer carries what is not its own"
    )


def test_a_way_over_a_peer_to_a_member_of_the_own_tenant_is_beside_a_link_without_bgp() -> None:
    near = card("bank-c", address_space="10.3.0.0/20", asn=64514)
    (over_b, part) = read_routes(
        json.dumps({"value": [learned("10.3.0.0/20", "64513-64514"), learned("10.3.0.0/24", "64513-64514")]})
    )
    assert not foreign_routes([over_b], OWN, [B, near]), "no gateway lists the direct route there"
    assert in_transit(over_b, [over_b], OWN, [B, near])
    assert foreign_routes([part], OWN, [B, near]), "a longer prefix wins against any link"


FOREIGN = {
    "a part of a third bank's range, as if in transit": (
        learned("10.3.8.0/21", "64513-64514"),
        "AS path 64513 (bank-b) 64514 (bank-c); wanted bank-c's range 10.3.0.0/20 from a gateway instance",
    ),
    "in transit back to the peer itself": (
        learned("10.3.0.0/20", "64513-64514-64513"),
        "64513 (bank-b); wanted bank-c's range",
    ),
    "in transit over a stranger": (
        learned("10.3.0.0/20", "64513-64999-64514"),
        "64999 (no member) 64514 (bank-c); wanted bank-c's range",
    ),
    "a part of a third bank's range": (
        learned("10.3.8.0/21", "64513"),
        "10.3.8.0/21 from 10.2.1.228, AS path 64513 (bank-b); wanted bank-c's range 10.3.0.0/20 from a gateway",
    ),
    "the same with the third bank's ASN, as no gateway checks it": (
        learned("10.3.8.0/21", "64514"),
        "from 10.2.1.228, AS path 64514 (bank-c); wanted bank-c's range 10.3.0.0/20 from a gateway instance on",
    ),
    "as if our other instance had told it": (
        learned("10.3.8.0/21", "64514", origin="IBgp"),
        "wanted bank-c's range 10.3.0.0/20 from a gateway instance on its card",
    ),
    "the same in the third bank's name": (
        learned("10.3.0.0/20", "64513-64514", source=C_SENDS),
        "AS path 64513 (bank-b) 64514 (bank-c); wanted bank-c's range 10.3.0.0/20 from AS 64514 alone",
    ),
    "a stranger behind a peer": (learned("10.2.0.0/16", "64513-64999"), "64999 (no member); wanted bank-b's range"),
    "a part of our own range": (learned("10.1.0.0/24", "64513"), "wanted nobody to announce our own range"),
    "everything": (learned("0.0.0.0/0", "64513"), "wanted nobody to announce our own range 10.1.0.0/16"),
    "more than a member's range": (learned("10.2.0.0/15", "64513"), "wanted a range on a card, not more than"),
    "a range of no member": (learned("192.168.0.0/24", "64514"), "wanted a range on a card"),
    "no path": (learned("10.2.0.0/16", ""), "AS path nothing; wanted bank-b's range"),
}


@pytest.mark.parametrize(("route", "said"), FOREIGN.values(), ids=FOREIGN)
def test_a_route_that_no_card_entitles_to_is_foreign(route: dict[str, Any], said: str) -> None:
    (line,) = foreign(route)
    assert said in line


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"value": 1}', '{"value": [{"network": "x", "origin": "EBgp"}]}'])
def test_what_is_no_list_of_routes_is_refused(text: str) -> None:
    with pytest.raises(RoutesError, match="wanted what `az network vnet-gateway list-learned-routes` prints"):
        read_routes(text)


def test_the_command_says_what_is_foreign(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [tmp_path / f"{name}.json" for name in ("bank-a", "bank-b")]
    for path, asn in zip(files, (64512, 64513), strict=True):
        number = path.stem[-1] == "b"
        path.write_text(json.dumps(make_card(path.stem, address_space=f"10.{1 + number}.0.0/16", asn=asn)))
    routes = tmp_path / "routes.json"

    def run(*learnt: dict[str, Any]) -> int:
        routes.write_text(json.dumps({"value": learnt}))
        return main([str(each) for each in (routes, *files)])

    assert run(learned("10.2.0.0/16", "64513")) == 0
    assert capsys.readouterr().out == "1 routes, 0 foreign, 0 in transit\n"
    assert run(learned("10.2.0.0/16", "64513"), learned("10.1.0.0/17", "64513")) == 1
    assert capsys.readouterr().out.startswith("foreign: 10.1.0.0/17 from 10.2.1.228, AS path 64513 (bank-b); wanted")
    files[1].write_text(files[1].read_text().replace("10.2.0.0/16", "10.2.0.0/17"))
    assert run() == 65, "a card that its member did not sign entitles to nothing"
    assert "the signature does not fit" in capsys.readouterr().err
