"""Linked banks: each runs its own stack with the other's card, and the two halves must match."""

import json
from itertools import combinations, permutations
from typing import Any

import pytest

from components.roles import BuiltInRole
from contract.card import read_card
from lab.azure.consortium import full_name
from lab.azure.program import PEERS_KEY, StackConfiguration
from lab.azure.recorder import Registration
from lab.azure.stacks import plan_alone, planned_references, stack_path
from policy.resources import leaves
from stack.outputs import CARD_OUTPUT
from tests.runs import READER, Plan, all_of, bank, bank_a_over_ipsec, bare, large, one, renewed, resources, traffic_of

BANKS = ("bank-a", "bank-b", "bank-c")
PAIRS = [pytest.param(one, other, id=f"{one} to {other}") for one, other in permutations(BANKS, 2)]
"""A and B share an Entra tenant, so their link is VNet-to-VNet; C has another tenant, so its links are IPsec."""


def half(run: Plan, peer: str) -> list[Registration]:
    """This member's connections to one peer."""
    component = one(run, "VpnPeering", f"link-{peer}")
    return [each for each in all_of(run, "VirtualNetworkGatewayConnection") if each.parent == component.urn]


def far_ends(run: Plan, peer: str) -> list[dict[str, Any]]:
    """A member's local network gateways, one for each gateway instance of an IPsec peer."""
    component = one(run, "VpnPeering", f"link-{peer}")
    return [each.inputs for each in all_of(run, "LocalNetworkGateway") if each.parent == component.urn]


def key(run: Plan, peer: str) -> str:
    """The key of the link to a peer, one for all its connections."""
    (found,) = {each.inputs["sharedKey"] for each in half(run, peer)}
    return str(found)


def gateway_of(run: Plan) -> tuple[str, dict[str, Any]]:
    """Id and answer of the member's own VPN gateway."""
    gateway = one(run, "VirtualNetworkGateway")
    return run.ids[gateway.urn], dict(run.answers[gateway.urn])


def instances_of(run: Plan) -> set[tuple[str, str]]:
    """Public and BGP address of each instance of the member's gateway, as assigned by Azure."""
    peering_addresses = gateway_of(run)[1]["bgpSettings"]["bgpPeeringAddresses"]
    return {(each["tunnelIpAddresses"][0], each["defaultBgpIpAddresses"][0]) for each in peering_addresses}


# --- The two halves of a link --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BANKS)
def test_a_peer_that_is_planned_for_its_card_alone_has_the_card_of_its_whole_stack(name: str) -> None:
    stack = full_name(name)
    planned = planned_references(StackConfiguration("own", {PEERS_KEY: json.dumps([{"stack": stack}])}))
    whole = plan_alone(stack_path(name)).outputs

    assert planned == {stack: {CARD_OUTPUT: whole[CARD_OUTPUT]}}, "a bank's plan has what its peers really publish"


@pytest.mark.parametrize(("mine", "theirs"), PAIRS)
def test_both_halves_of_a_link_agree(mine: str, theirs: str):
    ours, other = half(bank(mine), theirs), half(bank(theirs), mine)
    for what in (
        "connectionType",
        "ipsecPolicies",
        "connectionProtocol",
        "enableBgp",
        "usePolicyBasedTrafficSelectors",
    ):
        values = [each.inputs[what] for each in (*ours, *other)]
        assert all(value == values[0] for value in values), f"{what} differs: no tunnel would be established"
    bgp = ours[0].inputs["connectionType"] == "IPsec"
    assert ours[0].inputs["enableBgp"] is bgp, (
        "a gateway filters no routes, so BGP must be on only where it is needed"
    )
    assert ours[0].inputs["connectionProtocol"] == "IKEv2", "IKEv1 has no sufficiently strong custom policy"


@pytest.mark.parametrize(("mine", "theirs"), PAIRS)
def test_both_banks_derive_the_same_key_without_sending_it(mine: str, theirs: str):
    ours, other = bank(mine), bank(theirs)
    assert key(ours, theirs) == key(other, mine), "with different pre-shared keys the link stays down"
    assert len(bytes.fromhex(key(ours, theirs))) == 32, "256 bits, all from the key agreement"
    for each in half(ours, theirs):
        assert "sharedKey" in each.secrets, f"{each.name}: the state would have the key in plain text"


def test_each_link_has_another_key():
    keys = {(mine, theirs): key(bank(mine), theirs) for mine, theirs in permutations(BANKS, 2)}
    assert len(set(keys.values())) == len(list(combinations(BANKS, 2))), (
        "a bank must not be able to derive keys of other links"
    )


@pytest.mark.parametrize(
    ("mine", "theirs", "kind", "connections"),
    [
        ("bank-a", "bank-b", "Vnet2Vnet", 1),
        ("bank-b", "bank-a", "Vnet2Vnet", 1),
        ("bank-a", "bank-c", "IPsec", 2),
        ("bank-c", "bank-a", "IPsec", 2),
        ("bank-c", "bank-b", "IPsec", 2),
    ],
)
def test_the_kind_of_link_follows_from_the_tenants(mine: str, theirs: str, kind: str, connections: int):
    found = [each.inputs["connectionType"] for each in half(bank(mine), theirs)]
    assert found == [kind] * connections, (
        "across tenants no bank may read the other's gateway; within one, Azure knows both instances"
    )


@pytest.mark.parametrize(("mine", "theirs"), [("bank-b", "bank-a"), ("bank-c", "bank-a")])
def test_a_link_connects_with_its_second_half(mine: str, theirs: str):
    ours = bank(mine)
    status = {ours.answers[each.urn]["connectionStatus"] for each in half(ours, theirs)}
    assert status == {"Connected"}, "the offline Azure connects two halves only if all of their settings fit"
    first = {bank(theirs).answers[each.urn]["connectionStatus"] for each in half(bank(theirs), mine)}
    assert first == {"Connecting"}, "and not with one half alone"


# --- References to the other bank ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("mine", "theirs"), [("bank-a", "bank-b"), ("bank-b", "bank-a")])
def test_a_vnet_to_vnet_half_names_both_gateways(mine: str, theirs: str):
    (connection,) = half(bank(mine), theirs)
    assert connection.inputs["virtualNetworkGateway1"]["id"] == gateway_of(bank(mine))[0], (
        "this bank's gateway is first"
    )
    assert connection.inputs["virtualNetworkGateway2"]["id"] == gateway_of(bank(theirs))[0], "the peer's is second"
    assert far_ends(bank(mine), theirs) == [], "Azure finds the peer's addresses by the gateway's id"


@pytest.mark.parametrize(
    ("mine", "theirs"), [("bank-a", "bank-c"), ("bank-c", "bank-a"), ("bank-b", "bank-c"), ("bank-c", "bank-b")]
)
def test_an_ipsec_half_names_each_instance_of_the_peers_gateway(mine: str, theirs: str):
    ours, other = bank(mine), bank(theirs)
    ends = far_ends(ours, theirs)
    named = {(each["gatewayIpAddress"], each["bgpSettings"]["bgpPeeringAddress"]) for each in ends}
    assert named == instances_of(other), "public and BGP address of one instance belong together"
    assert {each["bgpSettings"]["asn"] for each in ends} == {gateway_of(other)[1]["bgpSettings"]["asn"]}
    assert not any("localNetworkAddressSpace" in each for each in ends), (
        "an address space here becomes a static route, which BGP could not withdraw when an instance fails"
    )
    used = {each.inputs["localNetworkGateway2"]["id"] for each in half(ours, theirs)}
    assert len(used) == 2, "one connection for each instance of the peer: its maintenance must not interrupt the link"


@pytest.mark.parametrize(("mine", "theirs"), PAIRS)
def test_no_bank_creates_resources_at_the_other(mine: str, theirs: str):
    ours, subscription = bank(mine), gateway_of(bank(theirs))[0].split("/")[2]
    assert not [resource_id for resource_id in ours.ids.values() if resource_id and subscription in resource_id], (
        "each bank has rights only in its own subscription"
    )
    named = {
        (each.type.rsplit(":", 1)[1], path)
        for each in resources(ours)
        for path, value in leaves(each.inputs)
        if subscription in str(value)
    }
    expected = {("Secret", "properties.value")}
    if half(ours, theirs)[0].inputs["connectionType"] == "Vnet2Vnet":
        expected.add(("VirtualNetworkGatewayConnection", "virtualNetworkGateway2.id"))
    assert named == expected, "only a VNet-to-VNet link refers to a resource of the peer"


def test_asns_differ_along_every_link():
    asns = [gateway_of(bank(name))[1]["bgpSettings"]["asn"] for name in BANKS]
    assert len(set(asns)) == len(asns), "BGP drops routes with the receiver's own AS number"


# --- Traffic over the link -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mine", "theirs"), PAIRS)
def test_nodes_reach_every_address_on_the_peers_card_and_no_other_port(mine: str, theirs: str):
    card = bank(theirs).outputs["member"]
    spaces = [bank(name).outputs["member"]["addressSpace"] for name in BANKS]
    here, there = (traffic_of(bank(name), routed=spaces) for name in (mine, theirs))
    addresses = [node["p2pAddress"] for node in card["nodes"]]
    addresses.append(card["networkInfoUrl"].removeprefix("https://").split("/")[0])
    node = here.host("nodes")
    for address in addresses:
        host, port = address.split(":")
        assert here.allows(node, host, int(port)), f"the bank's own rules deny {address}"
        assert there.allows(node, host, int(port)), f"the peer's rules deny {address}"
    host, ports = addresses[0].split(":")[0], {int(address.split(":")[1]) for address in addresses}
    reached = {port for port in {*there.boundaries(), *ports} if there.allows(node, host, port)}
    assert reached == ports, "an address that is not on the card is denied"


# --- The nodes' documents about peers ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BANKS)
def test_the_vault_holds_every_peers_card_as_it_was_signed(name: str):
    ours = bank(name)
    listed = json.loads(one(ours, "Secret", "keys-bank-peers").inputs["properties"]["value"])
    names = {ours.answers[each.urn]["secretName"]: each for each in all_of(ours, "Secret")}
    assert set(listed) == set(BANKS) - {name}, "nodes find peers only by this list"
    for peer, secret_name in listed.items():
        document = json.loads(names[secret_name].inputs["properties"]["value"])
        assert document == bank(peer).outputs["member"], "a node verifies the signature itself, so no byte may change"
        assert read_card(document, name=peer, pinned=bank(peer).outputs["fingerprint"], source="the vault")


# --- A leaked key --------------------------------------------------------------------------------------------------


def test_a_raised_generation_changes_the_key_on_both_sides():
    a, b = renewed("bank-a"), renewed("bank-b")
    assert key(a, "bank-b") == key(b, "bank-a"), "both sides must derive the same new key"
    assert key(a, "bank-b") != key(bank("bank-a"), "bank-b"), "the leaked key must be useless"
    assert key(a, "bank-c") != key(bank("bank-a"), "bank-c"), "it leaked for all of A's links"
    assert key(b, "bank-c") == key(bank("bank-b"), "bank-c"), "links of other banks are unchanged"


def test_a_raised_generation_keeps_the_pinned_fingerprint():
    again = renewed("bank-a")
    assert again.outputs["fingerprint"] == bank("bank-a").outputs["fingerprint"], (
        "the signing key has a separate generation: no peer must change its configuration"
    )
    assert again.outputs["member"]["keyGenerations"] == {"link": 2, "signing": 1}


def test_a_leaked_key_is_replaced_in_one_run():
    before, after = bank("bank-a").registrations, renewed("bank-a").registrations
    assert set(before) == set(after), "the same resources: no new ones to review during an incident"
    made_anew = [each for each in all_of(renewed("bank-a"), "RandomBytes") if before[each.urn].inputs != each.inputs]
    assert [each.name for each in made_anew] == ["membership-link"], "only the leaked key is replaced"


# --- Rights at the gateway -----------------------------------------------------------------------------------------


def test_a_peers_deployer_may_read_the_gateway_and_nothing_else():
    run = large()
    granted = [each.inputs for each in all_of(run, "RoleAssignment") if each.inputs["principalId"] == READER]
    assert len(granted) == 1
    vpn = one(run, "VirtualNetworkGateway", "network-vpn-gateway")
    assert granted[0]["scope"] == run.ids[vpn.urn], "only the gateway: no other bank may read the resource group"
    assert granted[0]["roleDefinitionId"].endswith(f"/{BuiltInRole.READER}"), (
        "Azure requires read; write would be a risk"
    )
    assert granted[0]["principalType"] == "ServicePrincipal"


def test_nobody_may_read_the_gateway_by_default():
    gateway = gateway_of(bank("bank-a"))[0]
    scopes = [each.inputs["scope"] for each in all_of(bank("bank-a"), "RoleAssignment")]
    assert gateway not in scopes, "a link alone grants the peer nothing"


# --- Outputs -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mine", "theirs"), PAIRS)
def test_outputs_name_the_connections_to_each_peer(mine: str, theirs: str):
    run = bank(mine)
    ids = {run.ids[each.urn] for each in half(run, theirs)}
    assert {id_.rsplit("/", 1)[1] for id_ in ids} == set(run.outputs["connections"][theirs]), (
        "the guide queries their status by these names"
    )


def test_outputs_say_the_kind_of_each_link():
    assert bank("bank-a").outputs["links"] == {"bank-b": "vnet-to-vnet", "bank-c": "ipsec"}, (
        "it follows from the tenant"
    )
    assert bare().outputs["links"] == {"bank-b": "express-route"}, "without a VPN gateway"
    run = bank_a_over_ipsec()
    assert run.outputs["links"] == {"bank-b": "ipsec", "bank-c": "ipsec"}, "as configured"
    assert [each.inputs["enableBgp"] for each in half(run, "bank-b")] == [True, True], (
        "with ipsec in one tenant, routes come by BGP too"
    )


def test_outputs_say_what_other_members_have_to_do():
    halves = {"bank-b": ["its half of the link"], "bank-c": ["its half of the link"]}
    assert bank("bank-a").outputs["waitsFor"] == halves
    assert bank("bank-c").outputs["waitsFor"]["bank-a"] == [
        "its half of the link",
        "certificates of our nodes, and their approval where that is by hand",
    ], "bank-a certifies names"
    assert large().outputs["waitsFor"]["bank-a"] == ["approval of each node's request"], (
        "manual approval is the default"
    )
    assert bank("bank-a", linked=False).outputs["waitsFor"] == {}, "approval by card needs no operator"


def test_outputs_name_the_workbook_and_the_workspace_if_they_exist():
    run = bank("bank-a")
    workspace, workbook = one(run, "Workspace"), one(run, "applicationinsights:Workbook")
    assert run.outputs["monitoring"] == {
        "workbook": f"https://portal.azure.com/#resource{run.ids[workbook.urn]}/workbook",
        "workspace": run.answers[workspace.urn]["customerId"],
    }
    assert bank("bank-c").outputs["monitoring"] == {}, "a small bank has neither of them"
