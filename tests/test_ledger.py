"""The platform seam: legal names, ports and runtime of the ledger nodes."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.corda import CORDA, check_bank_legal_name, parse_legal_name
from ledger.platform import (
    MAX_IDENTITIES,
    Audience,
    Listener,
    PlatformName,
    Probe,
    ProbeProtocol,
    identities,
    listeners,
    peer_ports,
)
from ledger.platforms import PLATFORMS

BANK = "O=Bank A, L=London, C=GB"

limited = settings(max_examples=40, deadline=None, derandomize=True)


# --- X.500 names ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "written",
    [
        "O=Bank A, L=London, C=GB",
        "C=GB,L=London,O=Bank A",
        "  L = London ,C=GB , O =  Bank A  ",
        "O=Bank A,L=London,\nC=GB",
    ],
)
def test_a_legal_name_has_one_canonical_form(written: str) -> None:
    assert check_bank_legal_name(written) == BANK, "banks are compared by this text"


def test_attributes_come_in_cordas_order() -> None:
    attributes = parse_legal_name("C=US, ST=New York, L=New York, O=Bank A, OU=IT, CN=Ledger")
    assert list(attributes.items()) == [
        ("CN", "Ledger"),
        ("OU", "IT"),
        ("O", "Bank A"),
        ("L", "New York"),
        ("ST", "New York"),
        ("C", "US"),
    ], "a node writes its name in this order, and peers compare what it writes"


words = st.text("abcXYZäÖé", min_size=2, max_size=9)
values = st.lists(words | st.sampled_from(["&", "2", "(UK)", "Co."]), min_size=1, max_size=5).map(
    lambda parts: " ".join(["Bank", *parts])
)


@limited
@given(organisation=values, locality=values, state=st.none() | values, order=st.randoms(use_true_random=False))
def test_canonical_form_is_stable(organisation: str, locality: str, state: str | None, order: object) -> None:
    parts = [f"O={organisation}", f"L={locality}", "C=DE", *([f"ST={state}"] if state else [])]
    order.shuffle(parts)  # type: ignore[attr-defined]
    canonical = check_bank_legal_name(",".join(parts))
    assert check_bank_legal_name(canonical) == canonical, "a canonical name is its own canonical form"
    assert parse_legal_name(canonical)["O"] == organisation, "nothing of the name is lost"


REFUSED_NAMES = {
    "empty": ("", "'' is no attribute; wanted KEY=value with KEY of CN, OU, O, L, ST, C"),
    "no-key": ("Bank A, L=London, C=GB", "'Bank A' is no attribute"),
    "comma-at-the-end": (f"{BANK},", "'' is no attribute"),
    "lower-case-key": ("o=Bank A, L=London, C=GB", "'o=Bank A' is no attribute"),
    "unknown-key": (f"{BANK}, DC=example", "'DC=example' is no attribute"),
    "key-twice": (f"{BANK}, O=Bank B", "O stands twice; wanted each attribute once"),
    "empty-value": ("O=, L=London, C=GB", "O=''; wanted 1 to "),
    "blank-value": ("O=Bank A, L=  , C=GB", "L=''; wanted 1 to "),
    "long-organisation": (f"O={'b' * 129}, L=London, C=GB", "b'; wanted 1 to "),
    "long-locality": (f"O=Bank A, L={'l' * 65}, C=GB", "l'; wanted 1 to "),
    "no-organisation": ("L=London, C=GB", "no O; wanted at least O, L and C"),
    "no-locality": ("O=Bank A, C=GB", "no L; wanted at least O, L and C"),
    "no-country": ("O=Bank A, L=London", "no C; wanted at least O, L and C"),
    "only-a-state": ("ST=Kent", "no O, L, C; wanted at least O, L and C"),
    "short-organisation": ("O=B, L=London, C=GB", "O='B'; wanted an organisation of two "),
    "country-unknown": ("O=Bank A, L=London, C=UK", "C='UK'; wanted an ISO 3166-1 alpha-2 country code"),
    "country-not-of-iso": ("O=Bank A, L=Pristina, C=XK", "C='XK'; wanted an ISO 3166-1 alpha-2 country code"),
    "country-lower-case": ("O=Bank A, L=London, C=gb", "C='gb'; wanted an ISO 3166-1 alpha-2 country code"),
    "country-by-name": ("O=Bank A, L=London, C=Germany", "C='Germany'; wanted an ISO 3166-1 alpha-2"),
}


@pytest.mark.parametrize(("name", "reason"), REFUSED_NAMES.values(), ids=REFUSED_NAMES)
def test_what_no_node_accepts_is_refused(name: str, reason: str) -> None:
    with pytest.raises(ValueError, match="; wanted ") as refused:
        parse_legal_name(name)
    assert reason in str(refused.value), "a bank must learn what to change before its nodes fail to start"


@pytest.mark.parametrize("character", list("=+$\"'\\<>;#\x00\n\x1f"), ids=lambda character: f"{ord(character):#04x}")
def test_characters_with_a_meaning_are_refused(character: str) -> None:
    with pytest.raises(ValueError, match=r"^O=.*; wanted 1 to \d+ characters, none of"):
        parse_legal_name(f"O=Bank{character}A, L=London, C=GB")


@pytest.mark.parametrize(
    "name", [f"O={'b' * 127}, L={'l' * 63}, C=GB", "O=UB, L=Å, C=NO"], ids=["longest", "shortest"]
)
def test_bounds_of_a_name_are_accepted(name: str) -> None:
    assert check_bank_legal_name(name) == name, "a node accepts the longest and the shortest"


# Corda 4's CordaX500Name and LegalNameValidator, with the rules that they call minimal.
UNFIT_FOR_CORDA = {
    "organisation-of-128": f"O={'b' * 128}, L=London, C=GB",
    "locality-of-64": f"O=Bank A, L={'l' * 64}, C=GB",
    "one-letter": "O=B2, L=London, C=GB",
    "two-spaces": "O=Bank  A, L=London, C=GB",
    "not-normalised": "O=Bank \ufb01, L=London, C=GB",
}


@pytest.mark.parametrize("name", UNFIT_FOR_CORDA.values(), ids=UNFIT_FOR_CORDA)
def test_what_corda_refuses_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="; wanted "):
        parse_legal_name(name)


@pytest.mark.parametrize(
    ("name", "taken"),
    [(f"OU=IT, {BANK}", "OU"), (f"CN=Ledger, {BANK}", "CN"), (f"CN=Ledger, OU=IT, {BANK}", "CN, OU")],
)
def test_a_bank_leaves_its_nodes_their_attributes(name: str, taken: str) -> None:
    with pytest.raises(ValueError, match=f"^{taken} is set; wanted none, since each node gets an OU of its own$"):
        check_bank_legal_name(name)


# --- Identities and listeners --------------------------------------------------------------------------------------

MOST = identities(CORDA, BANK, MAX_IDENTITIES)


def test_identities_are_numbered_from_one() -> None:
    first, second = identities(CORDA, BANK, 2)
    assert (first.index, first.name, first.p2p_port, first.rpc_port) == (0, "node-1", 10000, 10100), (
        "names and ports stand on the membership card: a change cuts a member off"
    )
    assert (second.index, second.name, second.p2p_port, second.rpc_port) == (1, "node-2", 10001, 10101), (
        "each identity has the next port"
    )


def test_a_node_is_its_bank_and_an_organisational_unit() -> None:
    node = identities(CORDA, "C=GB, L=London, O=Bank A", 1)[0]
    assert node.legal_name == "OU=node-1, O=Bank A, L=London, C=GB", "the node's name in Corda's order"
    units = [parse_legal_name(identity.legal_name) for identity in MOST]
    assert len({attributes.pop("OU") for attributes in units}) == MAX_IDENTITIES, "nodes differ by their OU"
    assert all(attributes == parse_legal_name(BANK) for attributes in units), "and by nothing else"


@pytest.mark.parametrize("count", [1, 2, MAX_IDENTITIES])
def test_bounds_of_identities_are_accepted(count: int) -> None:
    assert len(identities(CORDA, BANK, count)) == count, "every number within the bounds can be had"


@pytest.mark.parametrize("count", [-1, 0, MAX_IDENTITIES + 1])
def test_other_numbers_of_identities_are_refused(count: int) -> None:
    with pytest.raises(ValueError, match=f"^{count} identities; wanted 1 to {MAX_IDENTITIES}$"):
        identities(CORDA, BANK, count)


@pytest.mark.parametrize("platform", PLATFORMS.values(), ids=str)
def test_no_two_listeners_share_a_port(platform) -> None:
    every = listeners(platform, identities(platform, BANK, MAX_IDENTITIES))
    assert len({listener.port for listener in every}) == len(every) == 2 * MAX_IDENTITIES + 1, (
        "all identities of a member, for every purpose, live behind one address"
    )
    assert len({listener.name for listener in every}) == len(every), "a rule of the load balancer goes by its name"
    assert all(1024 <= listener.port < 32768 for listener in every), (
        "nodes run without root, and Linux hands out the ports above to outgoing connections"
    )


@limited
@given(count=st.integers(1, MAX_IDENTITIES))
def test_each_identity_serves_peers_and_applications(count: int) -> None:
    members = identities(CORDA, BANK, count)
    every = listeners(CORDA, members)
    by_port = {listener.port: listener for listener in every}
    for identity in members:
        assert by_port.pop(identity.p2p_port).audience is Audience.PEERS, "P2P is for the other members"
        assert by_port.pop(identity.rpc_port).audience is Audience.APPLICATIONS, "RPC is for the bank's own programs"
    assert [listener.audience for listener in by_port.values()] == [Audience.APPLICATIONS], (
        "besides them only the RPC port that spreads over all nodes, which no peer may reach"
    )
    assert all(listener.probe == Probe(listener.port, ProbeProtocol.TCP) for listener in every), (
        "only the VM that holds the identity listens, so the port itself must be asked"
    )


def test_what_the_spreading_listener_is_called() -> None:
    spread = listeners(CORDA, identities(CORDA, BANK, 1))[-1]
    assert spread == Listener("rpc", 10200, Audience.APPLICATIONS, Probe(10200)), "applications are told this port"


def test_peers_may_be_reached_on_every_p2p_port_and_no_other() -> None:
    offered = {listener.port for listener in listeners(CORDA, MOST) if listener.audience is Audience.PEERS}
    assert set(peer_ports(CORDA)) == offered, (
        "a firewall that follows it opens what peers listen on, and nothing else"
    )


# --- Versions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "package"),
    [
        *((f"4.{minor}", "openjdk-8-jre-headless") for minor in (8, 9, 10, 11)),
        *((f"4.{minor}", "openjdk-17-jre-headless") for minor in (12, 13, 14)),
    ],
)
def test_java_by_version(version: str, package: str) -> None:
    assert version in CORDA.versions, "a version that has a runtime can be chosen"
    assert CORDA.packages(version) == (package,), "Corda moved from Java 8 to Java 17 with 4.12"


@pytest.mark.parametrize("platform", PLATFORMS.values(), ids=str)
def test_each_platform_is_complete(platform) -> None:
    numbers = [tuple(int(part) for part in version.split(".")) for version in platform.versions]
    assert numbers == sorted(set(numbers)), "versions stand oldest first, each once"
    assert platform.default_version in platform.versions, "the default can be chosen"
    assert all(platform.packages(version) for version in platform.versions), "each version has a runtime"


def test_each_platform_goes_by_its_name() -> None:
    assert {name: platform.name for name, platform in PLATFORMS.items()} == {name: name for name in PlatformName}, (
        "whatever the configuration may name is there"
    )
