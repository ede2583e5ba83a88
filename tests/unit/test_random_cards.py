"""Random cards of peers are accepted, or refused line by line: a few examples, without a plan."""

import pytest
from hypothesis import event, given

from lab.cards import make_card
from tests.hostile_cards import PEERS, TENANT, Case, Peer, cases, judge, read

OWN_CARD = make_card("bank-a")


@given(cases())
def test_each_card_is_accepted_or_refused_by_its_key(tmp_path_factory: pytest.TempPathFactory, case: Case) -> None:
    event(read(case, tmp_path_factory.getbasetemp(), OWN_CARD))


def test_honest_cards_are_accepted(tmp_path_factory: pytest.TempPathFactory) -> None:
    peers = [Peer.of(make_card(name, tenant_id=TENANT)) for name in PEERS]
    outcome = read(Case(peers, {}), tmp_path_factory.getbasetemp(), OWN_CARD)
    assert outcome == "accepted", "otherwise every card might be refused unnoticed"


@pytest.mark.parametrize(
    ("line", "missing"),
    [
        ("peer bank-b: file x: gateway.asn is 1", "what would be right"),
        ("its gateway.asn is 1; wanted another", "names no peer"),
        ("peer bank-b: file: something is wrong; wanted otherwise", "names no key"),
        ("peer bank-b: gateway.asn is \u202e; wanted 1", "hides"),
        (f"peer bank-b: gateway.asn is {'1' * 2000}; wanted 1", "characters"),
    ],
)
def test_an_unclear_line_is_detected(line: str, missing: str) -> None:
    with pytest.raises(AssertionError, match=missing):
        judge(f"the peers of bank-a can't be linked:\n{line}")
