"""The table of flows: each row is complete, and the rules of all subnets follow from it."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.flows import FLOWS, Flow, MemberFlows, PortGroup, Remote, Subnet, Tag, port_groups
from contract.egress import port_ranges

FULLEST = MemberFlows(
    addresses={end: [f"10.{place}.0.0/24"] for place, end in enumerate((*Subnet, *Remote))},
    ports={group: [10000 + place] for place, group in enumerate(PortGroup)},
)
"""A member that has every place and every port."""


def by_name(flow: Flow) -> str:
    return flow.name


each_flow = pytest.mark.parametrize("flow", FLOWS, ids=by_name)


def allowed(flows: MemberFlows, subnet: Subnet) -> dict[str, Any]:
    """The rules of a subnet that allow something, by name."""
    return {rule.name: rule for rule in flows.security_rules(subnet) if rule.access == "Allow"}


def ends(rule: Any) -> tuple[Any, ...]:
    return (
        rule.source_address_prefix,
        rule.source_address_prefixes,
        rule.destination_address_prefix,
        rule.destination_address_prefixes,
        rule.destination_port_ranges,
    )


# The rows


def test_each_flow_has_a_unique_name() -> None:
    names = [flow.name for flow in FLOWS]
    assert len(set(names)) == len(names), "Azure refuses two rules of one name in a group"


@each_flow
def test_a_flow_has_two_known_ends(flow: Flow) -> None:
    ends = (flow.source, flow.destination)
    assert all(isinstance(end, Subnet | Remote | Tag) for end in ends), "another end could not be resolved"
    assert any(isinstance(end, Subnet) for end in ends), "a flow without a subnet would be in no security group"


@each_flow
def test_each_flow_is_described_by_one_sentence(flow: Flow) -> None:
    assert flow.description.endswith("."), "a whole sentence"
    assert ". " not in flow.description, "one sentence a row"
    assert len(flow.description) <= 140, "Azure takes 140 characters"


def test_every_end_and_port_group_has_a_flow() -> None:
    used = {end for flow in FLOWS for end in (flow.source, flow.destination)} | {flow.ports for flow in FLOWS}
    assert {*Subnet, *Remote, *PortGroup} <= used, "an unused entry should be removed"


def test_every_port_group_has_its_numbers() -> None:
    groups = port_groups(listeners=(), peers_ports=(), authority_listeners=(), peers_authority_ports=())
    assert set(groups) == set(PortGroup), "a flow of a group without numbers could not be resolved"


# The rules that follow


@each_flow
def test_a_flow_is_allowed_out_of_its_source_and_into_its_destination(flow: Flow) -> None:
    halves = [
        allowed(FULLEST, end)[f"{flow.name}{suffix}"]
        for end, suffix in ((flow.source, "Out"), (flow.destination, "In"))
        if isinstance(end, Subnet)
    ]
    assert len({str(ends(half)) for half in halves}) == 1, (
        "a connection that one group allows and the other denies fails without a message"
    )


@pytest.mark.parametrize("subnet", Subnet)
def test_a_subnet_has_only_the_rules_of_its_flows(subnet: Subnet) -> None:
    wanted = {f"{flow.name}In" for flow in FLOWS if flow.destination is subnet}
    wanted |= {f"{flow.name}Out" for flow in FLOWS if flow.source is subnet}
    assert set(allowed(FULLEST, subnet)) == wanted, "everything else is denied"


@pytest.mark.parametrize("missing", [*Subnet, *Remote, *PortGroup])
def test_a_flow_without_addresses_or_ports_makes_no_rule(missing: Subnet | Remote | PortGroup) -> None:
    flows = MemberFlows(
        addresses={end: [] if end is missing else blocks for end, blocks in FULLEST.addresses.items()},
        ports={group: [] if group is missing else ports for group, ports in FULLEST.ports.items()},
    )
    gone = {flow.name for flow in FLOWS if missing in (flow.source, flow.destination, flow.ports)}
    for subnet in Subnet:
        before, after = allowed(FULLEST, subnet), allowed(flows, subnet)
        assert before.keys() - after.keys() == {f"{name}{way}" for name in gone for way in ("In", "Out")} & set(
            before
        ), "Azure refuses a rule without address or port, or applies it to all of them"
        for direction in ("Inbound", "Outbound"):
            priorities = [rule.priority for rule in after.values() if rule.direction == direction]
            assert priorities == [100 + 10 * place for place in range(len(priorities))], (
                "priorities are numbered by the open flows"
            )


def test_a_service_tag_is_not_split_into_letters() -> None:
    rule = allowed(FULLEST, Subnet.NODES)["ProbesToNodesIn"]
    assert rule.source_address_prefix == "AzureLoadBalancer"
    assert rule.source_address_prefixes is None, "Azure accepts either one tag or a list of prefixes"


@pytest.mark.parametrize("subnet", Subnet)
def test_rule_names_are_unique_in_their_group(subnet: Subnet) -> None:
    names = [rule.name for rule in FULLEST.security_rules(subnet)]
    assert len(set(names)) == len(names), "Azure refuses two rules of one name in a group, in either direction"


def test_the_internet_is_denied_unless_a_subnet_asks() -> None:
    closed = {rule.name for rule in FULLEST.security_rules(Subnet.DATABASE)}
    open_ = {rule.name for rule in FULLEST.security_rules(Subnet.DATABASE, deny_internet=False)}
    assert closed - open_ == {"DenyInternetOut"}, "the default is the safe rule"
    assert closed >= open_, "the option adds no allow rule"


# Ranges of ports


@pytest.mark.parametrize(
    ("ports", "written"),
    [
        ([], []),
        ([443], ["443"]),
        ([443, 2049], ["443", "2049"]),
        ([10001, 10000, 10002], ["10000-10002"]),
        ([1, 2, 4, 5, 7], ["1-2", "4-5", "7"]),
        ([8443, 8443], ["8443"]),
        (range(10000, 10100), ["10000-10099"]),
    ],
)
def test_adjacent_ports_make_one_range(ports: list[int], written: list[str]) -> None:
    assert port_ranges(ports) == written


@given(st.lists(st.integers(1, 65535), max_size=40))
def test_ranges_hold_exactly_the_ports_and_never_touch(ports: list[int]) -> None:
    pairs = [
        tuple(map(int, text.partition("-")[::2])) if "-" in text else (int(text),) * 2 for text in port_ranges(ports)
    ]
    assert [port for first, last in pairs for port in range(first, last + 1)] == sorted(set(ports)), (
        "a port too many is a hole in the firewall, a port too few an outage"
    )
    assert all(one[1] + 1 < other[0] for one, other in pairwise(pairs)), (
        "Azure limits the number of ranges: adjacent ones must be merged"
    )
