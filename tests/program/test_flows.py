"""Allowed connections: the security rules of whole members, evaluated as Azure does."""

from collections.abc import Callable, Sequence
from ipaddress import IPv4Network, ip_address
from itertools import product
from typing import NamedTuple

import pytest

from components.flows import FLOWS, PortGroup
from docs.generate import largest_port_groups
from policy.nsg import (
    ANY_PORT,
    AZURE_DEFAULTS,
    ENTRA_ID,
    HOST,
    INTERNET,
    STORAGE,
    Connection,
    TagScope,
    Traffic,
    ports_of,
)
from tests.runs import APPLICATIONS, Plan, all_of, bank, bare, large, subnet, traffic_of

PEER, OTHER_PEER, OUTSIDER, ADVERTISED = "10.2.0.0/16", "10.3.0.0/20", "10.77.0.0/16", "203.0.113.0/24"
ROUTED = (PEER, OTHER_PEER, APPLICATIONS, OUTSIDER, ADVERTISED)
"""Ranges that bank A's gateways have learned. The last is a public range that somebody advertises over BGP."""

P2P, NETWORK_INFO = (10000, 10013), (8443, 8443)
ENROLMENT, REVOCATION = (8444, 8444), (8445, 8445)
PEERS_P2P = (10000, 10099)
RPC, RPC_SPREAD = (10100, 10113), (10200, 10200)
HEALTH, HTTP, HTTPS, NFS, SSH = (8080, 8080), (80, 80), (443, 443), (2049, 2049), (22, 22)
POSTGRESQL, PGBOUNCER = (5432, 5432), (6432, 6432)

SPACE = IPv4Network("10.1.0.0/16")
SUBNETS = ("nodes", "endpoints", "database", "authority")
OUTSIDE = {
    "peer": "10.2.0.20",
    "other peer": "10.3.0.20",
    "applications": "10.50.3.4",
    "outsider": "10.77.0.5",
    "advertised": "203.0.113.9",
    "internet": INTERNET,
    "storage": STORAGE,
    "entra": ENTRA_ID,
    "balancer": HOST,
}


class Opening(NamedTuple):
    """Allowed ports from one place to another; all others are denied."""

    source: str
    destination: str
    ports: Sequence[tuple[int, int]]
    why: str


OPENINGS = (
    Opening("peer", "nodes", [P2P, NETWORK_INFO], "members trade over P2P and read each other's network information"),
    Opening("other peer", "nodes", [P2P, NETWORK_INFO], "every peer has the same rights"),
    Opening("applications", "nodes", [RPC_SPREAD], "the bank's applications use RPC, and nothing else"),
    Opening("applications", "endpoints", [HTTPS], "operators read the RPC passwords there; roles say who may"),
    Opening("balancer", "nodes", [P2P, RPC_SPREAD, HEALTH], "probes of each listener and of health"),
    Opening("nodes", "nodes", [P2P, NETWORK_INFO], "the bank's nodes are peers of each other"),
    Opening("nodes", "peer", [PEERS_P2P, NETWORK_INFO], "a peer may run more nodes than this member does"),
    Opening("nodes", "other peer", [PEERS_P2P, NETWORK_INFO], "every peer has the same rights"),
    Opening("nodes", "endpoints", [HTTPS, NFS], "keys and blobs over HTTPS, the share over NFS"),
    Opening("nodes", "database", [POSTGRESQL], "connections of each node's pool"),
    Opening("nodes", "internet", [HTTP, HTTPS], "packages"),
    Opening("nodes", "storage", [HTTP, HTTPS], "package mirrors and Azure's own services are on the internet too"),
    Opening("nodes", "entra", [HTTP, HTTPS], "Azure's own services are on the internet too"),
    Opening("peer", "authority", [ENROLMENT, REVOCATION], "members request certificates here"),
    Opening("other peer", "authority", [ENROLMENT, REVOCATION], "every peer has the same rights"),
    Opening("nodes", "authority", [ENROLMENT, REVOCATION], "the bank's own nodes request certificates like others"),
    Opening("balancer", "authority", [ENROLMENT, REVOCATION], "probes of what members connect to"),
    Opening("authority", "endpoints", [HTTPS], "the authority's keys and register, without a share"),
    Opening("authority", "internet", [HTTP, HTTPS], "packages"),
    Opening("authority", "storage", [HTTP, HTTPS], "Azure's own services are on the internet too"),
    Opening("authority", "entra", [HTTP, HTTPS], "Azure's own services are on the internet too"),
    Opening("database", "database", [POSTGRESQL, PGBOUNCER], "primary and standby of one server"),
    Opening("database", "storage", [ANY_PORT], "write-ahead logs; the service's other paths are not published"),
    Opening("database", "entra", [ANY_PORT], "tokens of those who sign in; as above"),
    Opening("database", "internet", [ANY_PORT], "the managed service's own paths are not published as flows"),
)
BY_ENDS = {(each.source, each.destination): each for each in OPENINGS}


@pytest.fixture(scope="module")
def traffic() -> Traffic:
    return traffic_of(large(), routed=ROUTED)


def address(traffic: Traffic, place: str) -> str:
    return OUTSIDE.get(place) or traffic.host(place)


def open_ports(
    traffic: Traffic, source: str, destination: str, ports: Sequence[int], protocol: str = "Tcp"
) -> set[int]:
    ends = address(traffic, source), address(traffic, destination)
    return {port for port in ports if traffic.allows(*ends, port, protocol)}


# --- The whole table: everything else is denied --------------------------------------------------------------------


ENDS = [
    *product((*OUTSIDE, *SUBNETS), SUBNETS),
    *product(SUBNETS, [place for place in OUTSIDE if place != "balancer"]),
]


@pytest.mark.parametrize(("source", "destination"), ENDS, ids=[f"{one} to {other}" for one, other in ENDS])
def test_exactly_the_named_flows_are_open(traffic: Traffic, source: str, destination: str):
    ports = sorted({*traffic.boundaries(), 21, 22, 23, 25, 53, 389, 445, 3389, 5985, 65535})
    opening = BY_ENDS.get((source, destination), Opening(source, destination, [], "no bank needs it"))
    wanted = {port for port in ports if any(first <= port <= last for first, last in opening.ports)}

    found = open_ports(traffic, source, destination, ports)

    assert found == wanted, f"{source} to {destination}: {opening.why}"


def test_the_table_has_allowed_and_denied_connections(traffic: Traffic):
    assert {(each.source, each.destination) for each in OPENINGS} <= set(ENDS), "each allowed connection is tested"
    assert set(traffic.boundaries()) >= {9999, 10000, 10013, 10014}, "so are the edges of each port range"


# --- Questions of a bank's security officer ------------------------------------------------------------------------


CLOSED = [
    ("peer", "nodes", RPC, "RPC controls this bank's assets: no other bank may call it"),
    ("peer", "nodes", RPC_SPREAD, "RPC controls this bank's assets: no other bank may call it"),
    ("peer", "nodes", SSH, "no other bank may log in"),
    ("peer", "nodes", HEALTH, "only the load balancer reads health"),
    ("peer", "database", POSTGRESQL, "the ledger's tables are this bank's own"),
    ("peer", "endpoints", HTTPS, "keys and leases are this bank's own"),
    ("peer", "endpoints", NFS, "the nodes' journals are this bank's own"),
    ("applications", "nodes", P2P, "an application is no ledger node"),
    ("applications", "nodes", SSH, "an application may not administer VMs"),
    ("applications", "database", POSTGRESQL, "applications use the node, not its tables"),
    ("applications", "endpoints", NFS, "NFS has no authentication: only the nodes may mount their journals"),
    ("outsider", "nodes", P2P, "a network that a peer routes here is no peer"),
    ("outsider", "nodes", NETWORK_INFO, "a network that a peer routes here is no peer"),
    ("advertised", "nodes", P2P, "a public range advertised over BGP belongs to VirtualNetwork, and is no peer"),
    ("internet", "nodes", P2P, "nothing comes in from the internet"),
    ("internet", "nodes", SSH, "nothing comes in from the internet"),
    ("endpoints", "nodes", P2P, "a private endpoint opens no connection"),
    ("database", "nodes", P2P, "a database opens no connection to a node"),
    ("database", "endpoints", HTTPS, "a database needs no keys"),
    ("nodes", "internet", SSH, "an attacker on a node must not tunnel out"),
    ("nodes", "outsider", HTTPS, "a node connects to linked members only, not to networks behind them"),
    ("nodes", "advertised", HTTPS, "a peer that advertises a public range must not attract our HTTPS traffic"),
    ("nodes", "applications", HTTPS, "a node calls no application"),
    ("nodes", "peer", RPC, "a node calls no other bank's RPC"),
    ("nodes", "peer", SSH, "a node does not log in to another bank"),
    ("balancer", "nodes", SSH, "probes use probed ports only"),
    ("balancer", "endpoints", HTTPS, "the endpoints have no load balancer"),
    ("authority", "endpoints", NFS, "NFS has no authentication: the authority may not mount the nodes' journals"),
    ("authority", "database", POSTGRESQL, "the authority needs no ledger database"),
    ("authority", "nodes", P2P, "it only answers connections"),
    ("authority", "peer", NETWORK_INFO, "it only answers connections"),
    ("applications", "authority", ENROLMENT, "an application needs no certificate"),
    ("outsider", "authority", REVOCATION, "a network that a peer routes here is no peer"),
    ("peer", "authority", SSH, "nobody may log in to the authority's VMs"),
    ("nodes", "authority", SSH, "nobody may log in to the authority's VMs"),
]


@pytest.mark.parametrize(
    ("source", "destination", "ports", "why"),
    CLOSED,
    ids=[f"{source} to {destination} {ports[0]}" for source, destination, ports, _ in CLOSED],
)
def test_unused_ports_stay_closed(traffic: Traffic, source: str, destination: str, ports: tuple[int, int], why: str):
    assert not open_ports(traffic, source, destination, range(ports[0], ports[1] + 1)), why


@pytest.mark.parametrize("subnet_name", SUBNETS)
def test_only_tcp_is_allowed_in(traffic: Traffic, subnet_name: str):
    ports = [*traffic.boundaries(), 53, 123]
    let_in = {place for place in (*OUTSIDE, *SUBNETS) if open_ports(traffic, place, subnet_name, ports, "Udp")}
    assert let_in == set(), "every flow of the ledger is TCP"


def test_the_gateway_subnet_has_no_security_group(traffic: Traffic):
    assert traffic.rules("GatewaySubnet") is None, "Azure does not support one there: the gateways would fail"
    gateway = traffic.host("GatewaySubnet")
    reached = {
        name for name in SUBNETS for port in traffic.boundaries() if traffic.allows(gateway, traffic.host(name), port)
    }
    assert reached == set(), "the gateway opens no connection itself; it forwards those of the peers"


# --- Other members -------------------------------------------------------------------------------------------------


def test_a_member_without_peers_allows_nobody_in():
    traffic = traffic_of(bank("bank-b", linked=False), routed=ROUTED)
    outsiders = [place for place, each in OUTSIDE.items() if ip_address(each) not in traffic.scope.space]
    reached = {
        (place, name)
        for place in outsiders
        for name in traffic.subnets.keys() & set(SUBNETS)
        if place != "balancer" and open_ports(traffic, place, name, traffic.boundaries())
    }
    assert reached == set(), "it has neither peers nor application networks"
    rules = {rule["name"] for rule in traffic.rules("nodes") or ()}
    assert not {name for name in rules if "Peers" in name or "Applications" in name}, (
        "a rule without an address would be refused by Azure"
    )


def test_a_peer_over_the_circuit_has_the_same_rights():
    traffic = traffic_of(bare(), routed=(PEER, OUTSIDER))
    assert open_ports(traffic, "peer", "nodes", traffic.boundaries()) == {8443, 10000}, (
        "a peer's rights do not depend on its gateway"
    )
    assert not open_ports(traffic, "outsider", "nodes", traffic.boundaries()), (
        "other traffic of the circuit is denied"
    )


def test_a_member_reaches_only_its_authority_at_a_peer():
    traffic = traffic_of(bank("bank-b"), routed=("10.1.0.0/16", OTHER_PEER))
    nodes, ports = traffic.host("nodes"), (8444, 8445)
    assert all(traffic.allows(nodes, "10.1.1.126", port) for port in ports), "bank A certifies its names"
    assert not any(traffic.allows(nodes, "10.1.1.125", port) for port in ports), "at one address"
    assert not any(traffic.allows(nodes, "10.3.1.126", port) for port in ports), "bank C certifies nothing"
    assert not any(traffic.allows("10.1.1.126", nodes, port) for port in ports), "nor does bank B"


def test_without_an_authority_no_rule_is_about_one():
    traffic = traffic_of(bank("bank-b", linked=False))
    assert "authority" not in traffic.subnets
    assert not [rule["name"] for group in traffic.groups.values() for rule in group if "Authority" in rule["name"]]


def test_without_a_database_no_rule_is_about_one():
    traffic = traffic_of(bare())
    assert "database" not in traffic.subnets, "a delegated subnet without a server would waste addresses"
    assert {
        rule["name"] for group in traffic.groups.values() for rule in group if "Database" in rule["name"]
    } == set()


def test_every_subnet_has_a_separate_security_group():
    groups = [subnet(large(), name)["networkSecurityGroup"]["id"] for name in SUBNETS]
    assert len(set(groups)) == len(groups) == len(all_of(large(), "NetworkSecurityGroup")), (
        "a shared group would allow the sum of all flows"
    )


# --- Azure's requirements of rules ---------------------------------------------------------------------------------


def test_azure_accepts_the_rules():
    for group in all_of(large(), "NetworkSecurityGroup"):
        rules = group.inputs["securityRules"]
        for direction in ("Inbound", "Outbound"):
            priorities = [rule["priority"] for rule in rules if rule["direction"] == direction]
            assert len(set(priorities)) == len(priorities), f"{group.name}: Azure refuses a duplicate priority"
            assert all(100 <= priority <= 4096 for priority in priorities), f"{group.name}: Azure accepts 100 to 4096"
        assert all(rule["description"].endswith(".") for rule in rules), f"{group.name}: an auditor reads the reason"


def test_the_last_rule_denies_everything():
    for group in all_of(large(), "NetworkSecurityGroup"):
        for direction in ("Inbound", "Outbound"):
            rules = [rule for rule in group.inputs["securityRules"] if rule["direction"] == direction]
            last = max(rules, key=lambda rule: rule["priority"])
            far = "source" if direction == "Inbound" else "destination"
            assert (last["access"], last[f"{far}AddressPrefix"]) == ("Deny", "VirtualNetwork"), (
                f"{group.name}: Azure's default rules allow all traffic of the gateway"
            )


@pytest.mark.parametrize("run", [large, lambda: bank("bank-b")], ids=["an authority", "at a peer's authority"])
def test_the_document_states_every_open_port(run: Callable[[], Plan]):
    numbers = largest_port_groups()
    stated = {flow.name: numbers[flow.ports] if isinstance(flow.ports, PortGroup) else flow.ports for flow in FLOWS}
    opened = {
        (rule["name"].removesuffix("In").removesuffix("Out"), port)
        for group in all_of(run(), "NetworkSecurityGroup")
        for rule in group.inputs["securityRules"]
        if rule["access"] == "Allow"
        for first, last in ports_of(rule)
        for port in range(first, last + 1)
    }
    assert opened, "a member without an open port has no peers"
    assert opened <= {(name, port) for name, ports in stated.items() for port in ports}, (
        "auditors rely on docs/network.md, which must have every port"
    )


# --- The evaluator itself ------------------------------------------------------------------------------------------


def test_without_rules_a_network_is_open_to_all_routed_traffic():
    scope = TagScope(SPACE, tuple(map(IPv4Network, ROUTED)))
    node = "10.1.0.10"
    assert scope.allowed((), "Inbound", Connection(OUTSIDE["outsider"], node, 22)), "therefore the last rule denies"
    assert scope.allowed((), "Inbound", Connection(HOST, node, 22))
    assert not scope.allowed((), "Inbound", Connection(INTERNET, node, 22))
    assert scope.allowed((), "Outbound", Connection(node, INTERNET, 22))


def test_the_lower_priority_number_wins():
    def rule(priority: int, access: str) -> dict[str, object]:
        return {**AZURE_DEFAULTS[0], "priority": priority, "access": access, "destinationPortRange": "20-30"}

    scope = TagScope(SPACE)
    inside = Connection("10.1.0.10", "10.1.0.11", 22)
    assert not scope.allowed([rule(200, "Allow"), rule(100, "Deny")], "Inbound", inside)
    assert scope.allowed([rule(200, "Deny"), rule(100, "Allow")], "Inbound", inside)
    assert scope.allowed([rule(100, "Deny")], "Inbound", inside._replace(port=31)), (
        "outside of the range Azure's default rule applies"
    )
