"""Routes that a VPN gateway learned: each is that of the member whose card has the range, or it is foreign."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import UUID

import pytest

from contract.card import LinkKind, MembershipCard, SeenCard, read_card
from lab.cards import make_card
from stack.routes import Findings, RoutesError, compare, main, routes_of


def card(name: str, **changes: Any) -> MembershipCard:
    return read_card(make_card(name, **changes), name=name, pinned=None, source="a test")


OWN = card("bank-a", address_space="10.1.0.0/16", asn=64512)
C_SENDS = "10.3.1.228"
B = card("bank-b", address_space="10.2.0.0/16", asn=64513)
C = card("bank-c", address_space="10.3.0.0/20", asn=64514, tenant_id=str(UUID(int=3)))
NEAR_C = card("bank-c", address_space="10.3.0.0/20", asn=64514)
"""The same in this member's tenant, where all kinds of links are allowed."""
IPSEC = {"bank-b": LinkKind.IPSEC, "bank-c": LinkKind.IPSEC}


def learned(network: str, path: str = "", origin: str = "EBgp", source: str = "10.2.1.228") -> dict[str, Any]:
    """A route in Azure's form, by default from bank-b."""
    return {
        "asPath": path,
        "localAddress": "10.1.1.4",
        "network": network,
        "nextHop": source if path else None,
        "origin": origin,
        "sourcePeer": source,
        "weight": 32768,
    }


def found(
    *routes: dict[str, Any], c: MembershipCard = C, links: Mapping[str, LinkKind] = MappingProxyType(IPSEC)
) -> Findings:
    return compare(routes_of({"value": routes}), OWN, [B, c], links)


OVER_B = learned("10.3.0.0/20", "64513-64514")


def foreign(*routes: dict[str, Any]) -> list[str]:
    return found(*routes).foreign


def test_a_members_own_ranges_are_no_foreign_routes() -> None:
    assert not foreign(
        learned("10.1.0.0/16", origin="Network"),
        learned("10.2.1.4/32", origin="Network"),
        learned("10.2.0.0/16", "64513"),
        learned("10.2.0.0/16", "64513", origin="IBgp", source="10.1.1.229"),
        learned("10.3.0.0/20", "64514-64514", source=C_SENDS),
    )


def test_routes_over_a_peer_are_expected() -> None:
    direct = learned("10.3.0.0/20", "64514", source=C_SENDS)
    offered = [
        learned("10.3.0.0/20", "64513-64514"),
        learned("10.3.0.0/20", "64513-64513-64514"),
        learned("10.3.0.0/20", "64513-64514", origin="IBgp", source="10.1.1.229"),
    ]
    assert found(direct, *offered) == Findings([], [], in_transit=3), (
        "otherwise the check would fail for any three linked members"
    )


@pytest.mark.parametrize("c", [C, NEAR_C], ids=["in another tenant", "in this member's tenant"])
@pytest.mark.parametrize(
    "direct",
    [
        [],
        [learned("10.3.0.0/20", "64514-64514-64514", source=C_SENDS)],
        [learned("10.3.0.0/20", "64514", source="10.2.1.228")],
    ],
    ids=["is away", "is made longer", "is not from its gateway"],
)
def test_a_route_over_a_peer_is_foreign_if_an_ipsec_links_direct_one_is_missing(
    direct: list[dict[str, Any]], c: MembershipCard
) -> None:
    findings = found(OVER_B, *direct, c=c)
    assert "carries bank-c's traffic; wanted a shorter route from bank-c itself" in findings.foreign[0], (
        "BGP prefers the shorter path, so the peer carries another member's traffic"
    )
    assert (findings.unclear, findings.in_transit) == ([], 0), "each route is counted once"


@pytest.mark.parametrize("kind", [LinkKind.VNET_TO_VNET, LinkKind.EXPRESS_ROUTE])
def test_a_route_over_a_peer_is_transit_beside_a_link_without_bgp(kind: LinkKind) -> None:
    links = IPSEC | {"bank-c": kind}
    assert found(OVER_B, c=NEAR_C, links=links) == Findings([], [], in_transit=1), (
        "the VPN gateway never learns the direct route there"
    )
    part = found(learned("10.3.0.0/24", "64513-64514"), c=NEAR_C, links=links)
    assert (len(part.foreign), part.in_transit) == (1, 0), "a longer prefix wins against any link"


@pytest.mark.parametrize("c", [C, NEAR_C], ids=["in another tenant", "in this member's tenant"])
def test_a_route_over_a_peer_is_unclear_if_the_kind_of_the_link_is_unknown(c: MembershipCard) -> None:
    findings = found(OVER_B, c=c, links={"bank-b": LinkKind.IPSEC})
    (line,) = findings.unclear
    assert line == (
        "10.3.0.0/20 from 10.2.1.228, AS path 64513 (bank-b) 64514 (bank-c); carries bank-c's traffic if bank-c is "
        "linked by ipsec; wanted the kind of that link in output `links`"
    )
    assert (findings.foreign, findings.in_transit) == ([], 0), "it may be a fault or harmless"
    direct = learned("10.3.0.0/20", "64514", source=C_SENDS)
    assert found(OVER_B, direct, c=c, links={}) == Findings([], [], in_transit=1), "a direct route came by BGP"


FOREIGN = {
    "a part of a third bank's range, as if in transit": (
        learned("10.3.8.0/21", "64513-64514"),
        "AS path 64513 (bank-b) 64514 (bank-c); wanted bank-c's range 10.3.0.0/20 from a gateway instance",
    ),
    "in transit back to the peer itself": (
        learned("10.3.0.0/20", "64513-64514-64513"),
        "64513 (bank-b); wanted bank-c's range",
    ),
    "in transit over an outsider": (
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
    "as if from our other instance": (
        learned("10.3.8.0/21", "64514", origin="IBgp"),
        "wanted bank-c's range 10.3.0.0/20 from a gateway instance on its card",
    ),
    "the same with the third bank's gateway as source": (
        learned("10.3.0.0/20", "64513-64514", source=C_SENDS),
        "AS path 64513 (bank-b) 64514 (bank-c); wanted bank-c's range 10.3.0.0/20 from AS 64514 alone",
    ),
    "an outsider behind a peer": (learned("10.2.0.0/16", "64513-64999"), "64999 (no member); wanted bank-b's range"),
    "a part of our own range": (learned("10.1.0.0/24", "64513"), "wanted nobody to announce our own range"),
    "everything": (learned("0.0.0.0/0", "64513"), "wanted nobody to announce our own range 10.1.0.0/16"),
    "more than a member's range": (learned("10.2.0.0/15", "64513"), "wanted a range on a card, not more than"),
    "a range of no member": (learned("192.168.0.0/24", "64514"), "wanted a range on a card"),
    "no path": (learned("10.2.0.0/16", ""), "AS path nothing; wanted bank-b's range"),
}


@pytest.mark.parametrize(("route", "said"), FOREIGN.values(), ids=FOREIGN)
def test_a_route_outside_of_all_cards_ranges_is_foreign(route: dict[str, Any], said: str) -> None:
    (line,) = foreign(route)
    assert said in line


@pytest.mark.parametrize("document", [None, [], {}, {"value": 1}, {"value": [{"network": "x", "origin": "EBgp"}]}])
def test_invalid_lists_of_routes_are_refused(document: object) -> None:
    with pytest.raises(RoutesError, match="wanted what `az network vnet-gateway list-learned-routes` prints"):
        routes_of(document)


def test_a_gateway_without_a_route_proves_nothing() -> None:
    with pytest.raises(RoutesError, match="no route; wanted those of a gateway"):
        routes_of({"value": []})


def test_the_command_lists_foreign_routes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ("routes", "own", "bank-b", "bank-c")
    routes, own, bank_b, bank_c = files = [tmp_path / f"{name}.json" for name in names]
    card_a, card_b, card_c = (
        make_card(f"bank-{letter}", address_space=f"10.{number}.0.0/16", asn=64511 + number)
        for number, letter in enumerate("abc", 1)
    )
    bank_b.write_text(json.dumps(card_b))
    bank_c.write_text(json.dumps(card_c))

    def run(*learnt: dict[str, Any], outputs: dict[str, Any]) -> tuple[int, str, str]:
        routes.write_text(json.dumps({"value": learnt}))
        own.write_text(json.dumps(outputs))
        status = main([str(each) for each in files])
        return status, *capsys.readouterr()

    kinds = {"member": card_a, "links": {"bank-b": "ipsec", "bank-c": "vnet-to-vnet"}, "fingerprint": "sha256:0"}
    direct, over_b = learned("10.2.0.0/16", "64513"), learned("10.3.0.0/16", "64513-64514")
    assert run(direct, over_b, outputs=kinds) == (0, "2 routes, 0 foreign, 0 unclear, 1 in transit\n", "")
    status, said, _ = run(direct, learned("10.1.0.0/17", "64513"), outputs=kinds)
    assert status == 1
    assert said.startswith("foreign: 10.1.0.0/17 from 10.2.1.228, AS path 64513 (bank-b); wanted")
    status, said, _ = run(direct, over_b, outputs=kinds | {"links": {"bank-b": "ipsec", "bank-c": "ipsec"}})
    assert (status, said.splitlines()[1:]) == (1, ["2 routes, 1 foreign, 0 unclear, 0 in transit"]), "one tenant"
    status, said, _ = run(direct, over_b, outputs={"member": card_a})
    assert said.startswith("unclear: 10.3.0.0/16 from 10.2.1.228"), "an older version wrote no output `links`"
    assert (status, said.splitlines()[1:]) == (1, ["2 routes, 0 foreign, 1 unclear, 0 in transit"])

    wrong = {
        "own.json: has no output `member`; wanted what `pulumi stack output --json` prints": card_a,
        "own.json: links.bank-b: Input should be 'vnet-to-vnet'": kinds | {"links": {"bank-b": "rope"}},
        "the signature does not fit": kinds | {"member": card_a | {"addressSpace": "10.1.0.0/17"}},
    }
    for reason, outputs in wrong.items():
        status, _, error = run(direct, outputs=outputs)
        assert (status, reason in error) == (65, True), error
    bank_b.write_text(json.dumps(card_b | {"addressSpace": "10.2.0.0/17"}))
    status, _, error = run(direct, outputs=kinds)
    assert status == 65, "an unsigned card permits no route"
    assert "the signature does not fit" in error


def test_a_card_permits_a_route_only_if_it_is_the_newest_of_a_peer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def seen(document: dict[str, Any]) -> dict[str, Any]:
        name = document["name"]
        return SeenCard.of(read_card(document, name=name, pinned=None, source="a test"), document).to_output()

    known = make_card("bank-b", address_space="10.2.0.0/16", asn=64513, counter=5)
    outputs = {
        "member": make_card("bank-a", address_space="10.1.0.0/16", asn=64512),
        "links": {"bank-b": "ipsec"},
        "peerCards": {"bank-b": seen(known)},
    }
    routes, own, first, second = (tmp_path / f"{name}.json" for name in ("routes", "own", "first", "second"))
    # As PowerShell's `>` writes it.
    routes.write_text(json.dumps({"value": [learned("10.2.0.0/16", "64513")]}), encoding="utf-16")
    own.write_text(json.dumps(outputs))

    def run(*cards: dict[str, Any]) -> str:
        paths = (first, second)[: len(cards)]
        for path, each in zip(paths, cards, strict=True):
            path.write_text(json.dumps(each))
        status = main([str(each) for each in (routes, own, *paths)])
        said, error = capsys.readouterr()
        assert status == (65 if error else 0), f"{said}{error}"
        return error

    assert run(known) == "", "the peer's own card"
    other_key = make_card("bank-b", seed=b"x" * 32, address_space="10.2.0.0/16", asn=64513)
    assert "first.json: signed by the key sha256:" in run(other_key), "anybody can sign a card"
    older = make_card("bank-b", address_space="10.2.0.0/16", asn=64513, counter=4)
    assert "first.json: its counter is 4; wanted 5" in run(older), "the peer may have given up that range"
    stranger = make_card("bank-c", address_space="10.3.0.0/20", asn=64514)
    assert "second.json: bank-c is in no output `peerCards`; wanted the cards of peers: bank-b" in run(
        known, stranger
    )
    assert "second.json: bank-b's card again; wanted one of each peer" in run(known, known)
