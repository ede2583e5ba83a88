"""No card that peers can sign fails after the first registration: it is refused line by line, or deployed."""

from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings

from lab.azure.program import StackConfiguration, run_program
from lab.cards import make_card
from tests.configuration import configuration
from tests.hostile_cards import ACCOUNT, PEERS, TENANT, Case, Peer, cases, plan


@cache
def own_card() -> Any:
    """Bank A's card of its first run, which every peer can read."""
    return run_program(StackConfiguration("bank-a", configuration()), account=ACCOUNT).outputs["member"]


@settings(max_examples=max(100, settings().max_examples), suppress_health_check=[HealthCheck.too_slow])
@given(cases())
def test_each_card_is_refused_or_deployed(tmp_path_factory: pytest.TempPathFactory, case: Case) -> None:
    event(plan(case, tmp_path_factory.getbasetemp(), own_card()))


@pytest.mark.parametrize("by_stack", [False, True])
def test_honest_cards_are_deployed(tmp_path_factory: pytest.TempPathFactory, by_stack: bool) -> None:
    peers = [Peer.of(make_card(name, tenant_id=TENANT), by_stack=by_stack) for name in PEERS]
    outcome = plan(Case(peers, {}), tmp_path_factory.getbasetemp(), own_card())
    assert outcome == "planned", "otherwise every card might be refused unnoticed"
