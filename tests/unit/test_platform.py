"""The platform interface: legal names, roles, ports, state and runtime of the ledger nodes; and a second platform."""

import base64
import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pkgutil import resolve_name

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.frontend import NETWORK_INFO, ApplicationPorts, application_port, listeners, peer_ports
from contract.identities import identities, identity_name
from contract.legal_name import LegalName
from contract.listeners import Audience, Listener, Probe, ProbeProtocol
from contract.platform import MAX_IDENTITIES, Counted, Platform, Port, Role, Scope, SecretBlob
from contract.ports import HEALTH_PORT
from lab import ROOT
from lab.echo import ECHO, EchoSoftware
from ledger import PLATFORMS
from ledger.corda import CORDA, check_bank_legal_name
from ledger.software import Software
from tests import runs
from tests.runs import all_of, one, traffic_of
from tests.software_context import software_context

EVERY = (*PLATFORMS.values(), ECHO)
BANK = "O=Bank A, L=London, C=GB"


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


def test_attributes_are_in_cordas_order() -> None:
    name = LegalName.parse("C=US, ST=New York, L=New York, O=Bank A, OU=IT, CN=Ledger")
    assert list(name.attributes) == [
        ("CN", "Ledger"),
        ("OU", "IT"),
        ("O", "Bank A"),
        ("L", "New York"),
        ("ST", "New York"),
        ("C", "US"),
    ], "a node writes its name in this order, and peers compare what it writes"


words = st.text("abcXYZ", min_size=2, max_size=9)
values = st.lists(words | st.sampled_from(["&", "2", "(UK)", "Co."]), min_size=1, max_size=5).map(
    lambda parts: " ".join(["Bank", *parts])
)


@given(organisation=values, locality=values, state=st.none() | values, order=st.randoms(use_true_random=False))
def test_canonical_form_is_stable(organisation: str, locality: str, state: str | None, order: object) -> None:
    parts = [f"O={organisation}", f"L={locality}", "C=DE", *([f"ST={state}"] if state else [])]
    order.shuffle(parts)  # type: ignore[attr-defined]
    canonical = check_bank_legal_name(",".join(parts))
    assert check_bank_legal_name(canonical) == canonical, "a canonical name is its own canonical form"
    assert LegalName.parse(canonical).get("O") == organisation, "nothing of the name is lost"


REFUSED_NAMES = {
    "empty": ("", "'' is not an attribute; wanted KEY=value with KEY of CN, OU, O, L, ST, C"),
    "no-key": ("Bank A, L=London, C=GB", "'Bank A' is not an attribute"),
    "comma-at-the-end": (f"{BANK},", "'' is not an attribute"),
    "lower-case-key": ("o=Bank A, L=London, C=GB", "'o=Bank A' is not an attribute"),
    "unknown-key": (f"{BANK}, DC=example", "'DC=example' is not an attribute"),
    "key-twice": (f"{BANK}, O=Bank B", "O occurs twice; wanted each attribute once"),
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
def test_names_that_no_node_accepts_are_refused(name: str, reason: str) -> None:
    with pytest.raises(ValueError, match="; wanted ") as refused:
        LegalName.parse(name)
    assert reason in str(refused.value), "a bank must learn what to change before its nodes fail to start"


@pytest.mark.parametrize("character", list("=+$\"'\\<>;#\t\n"), ids=lambda character: f"{ord(character):#04x}")
def test_characters_with_a_meaning_in_x500_are_refused(character: str) -> None:
    with pytest.raises(ValueError, match=r"^O=.*; wanted 1 to \d+ characters, none of"):
        LegalName.parse(f"O=Bank{character}A, L=London, C=GB")


@pytest.mark.parametrize(
    "name", [f"O={'b' * 127}, L={'l' * 63}, C=GB", "O=UB, L=A, C=NO"], ids=["longest", "shortest"]
)
def test_bounds_of_a_name_are_accepted(name: str) -> None:
    assert check_bank_legal_name(name) == name, "a node accepts the longest and the shortest"


# Corda 4's CordaX500Name and LegalNameValidator, with the rules that they call minimal.
UNFIT_FOR_CORDA = {
    "organisation-of-128": f"O={'b' * 128}, L=London, C=GB",
    "locality-of-64": f"O=Bank A, L={'l' * 64}, C=GB",
    "one-letter": "O=B2, L=London, C=GB",
    "two-spaces": "O=Bank  A, L=London, C=GB",
}


@pytest.mark.parametrize("name", UNFIT_FOR_CORDA.values(), ids=UNFIT_FOR_CORDA)
def test_names_that_corda_refuses_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="; wanted "):
        LegalName.parse(name)


@pytest.mark.parametrize(
    ("name", "taken"),
    [(f"OU=IT, {BANK}", "OU"), (f"CN=Ledger, {BANK}", "CN"), (f"CN=Ledger, OU=IT, {BANK}", "CN, OU")],
)
def test_a_banks_name_may_not_have_attributes_of_its_nodes(name: str, taken: str) -> None:
    with pytest.raises(ValueError, match=f"^{taken} is set; wanted none, since each node gets its own OU$"):
        check_bank_legal_name(name)


# --- Identities and listeners --------------------------------------------------------------------------------------

MOST = identities(CORDA, BANK, MAX_IDENTITIES)


def test_identities_are_numbered_from_one() -> None:
    first, second = identities(CORDA, BANK, 2)
    assert (first.index, first.name, first.ports["p2p"], first.ports["rpc"]) == (0, "node-1", 10000, 10100), (
        "names and ports are on the membership card: a change would disconnect a member"
    )
    assert (second.index, second.name, second.ports["p2p"], second.ports["rpc"]) == (1, "node-2", 10001, 10101), (
        "each identity has the next port"
    )


def test_a_nodes_name_is_its_banks_name_and_an_organisational_unit() -> None:
    node = identities(CORDA, "C=GB, L=London, O=Bank A", 1)[0]
    assert node.legal_name == "OU=node-1, O=Bank A, L=London, C=GB", "the node's name in Corda's order"
    names = [LegalName.parse(identity.legal_name) for identity in MOST]
    assert len({name.get("OU") for name in names}) == MAX_IDENTITIES, "nodes have different OUs"
    assert {name.attributes[1:] for name in names} == {LegalName.parse(BANK).attributes}, (
        "everything else is the same"
    )


@pytest.mark.parametrize("count", [1, 2, MAX_IDENTITIES])
def test_bounds_of_identities_are_accepted(count: int) -> None:
    assert len(identities(CORDA, BANK, count)) == count, "every number within the bounds is accepted"


@pytest.mark.parametrize("count", [-1, 0, MAX_IDENTITIES + 1])
def test_other_numbers_of_identities_are_refused(count: int) -> None:
    with pytest.raises(ValueError, match=f"^{count} identities; wanted 1 to {MAX_IDENTITIES}$"):
        identities(CORDA, BANK, count)


@pytest.mark.parametrize("platform", EVERY, ids=lambda platform: platform.name)
def test_no_two_listeners_share_a_port_or_a_name(platform: Platform) -> None:
    chosen = {identity_name(index): platform.roles[index % len(platform.roles)].name for index in range(100)}
    members = identities(platform, BANK, MAX_IDENTITIES, chosen)
    every = (*listeners(members, ApplicationPorts.EACH), NETWORK_INFO)
    assert len({listener.port for listener in every} | {HEALTH_PORT}) == len(every) + 1, (
        "all identities of a member have one address, and the agent runs on every VM"
    )
    assert len({listener.name for listener in every}) == len(every), (
        "a rule of the load balancer has the listener's name"
    )
    numbers = [number for identity in members for number in identity.ports.values()]
    assert len(set(numbers)) == len(numbers), (
        "local ports must differ too, since tests run several nodes on one machine"
    )


@given(count=st.integers(1, MAX_IDENTITIES))
def test_each_identity_may_serve_peers_and_applications(count: int) -> None:
    members = identities(CORDA, BANK, count)
    every = listeners(members, ApplicationPorts.EACH)
    by_port = {listener.port: listener for listener in every}
    for identity in members:
        assert by_port.pop(identity.ports["p2p"]).audiences == {Audience.PEERS}, "P2P is for the other members"
        assert by_port.pop(identity.ports["rpc"]).audiences == {Audience.APPLICATIONS}, (
            "RPC is for the bank's own programs"
        )
    assert [listener.audiences for listener in by_port.values()] == [{Audience.APPLICATIONS}], (
        "besides them only the RPC port that all nodes share, which no peer may reach"
    )
    assert all(listener.probe == Probe(listener.port, ProbeProtocol.TCP) for listener in every), (
        "only the VM that holds the identity listens, so the probe must use the port itself"
    )


@given(count=st.integers(1, MAX_IDENTITIES))
def test_applications_share_one_rule_of_the_balancer_unless_each_node_has_its_own(count: int) -> None:
    every = listeners(identities(CORDA, BANK, count, {"node-1": "notary"}))
    ports = [listener.port for listener in every if Audience.APPLICATIONS in listener.audiences]
    assert ports == ([10200] if count > 1 else [10100]), (
        "each rule costs money, and any node can process requests; only a notary has its own port"
    )
    assert len([listener for listener in every if Audience.PEERS in listener.audiences]) == count, (
        "peers must reach a specific node"
    )


def test_the_name_of_the_shared_listener() -> None:
    members = identities(CORDA, BANK, 1)
    assert listeners(members)[-1] == Listener("rpc", 10200, frozenset({Audience.APPLICATIONS}), Probe(10200)), (
        "applications use this port"
    )
    assert application_port(members) == 10200, "the stack's output states it"
    assert members[0].role.shared_ports == {"rpc": 10200}, "the node must listen there too"


def test_peers_use_every_p2p_port_and_no_other() -> None:
    offered = {listener.port for listener in listeners(MOST) if Audience.PEERS in listener.audiences}
    assert set(peer_ports(CORDA)) == offered, "a firewall rule opens exactly the ports of peers' nodes"


# --- Roles ---------------------------------------------------------------------------------------------------------


def test_an_identity_has_the_first_role_by_default() -> None:
    members = identities(CORDA, BANK, 3, {"node-2": "notary"})
    assert [identity.role.name for identity in members] == ["node", "notary", "node"], (
        "the configuration says which identity is a notary"
    )
    assert [identity.ports["p2p"] for identity in members] == [10000, 10001, 10002], (
        "a role does not change the identity's p2p port"
    )


@pytest.mark.parametrize(
    ("roles", "reason"),
    [
        ({"node-1": "oracle"}, "role oracle; wanted one of node, notary"),
        ({"node-3": "notary"}, "roles of node-3; wanted identities from node-1 to node-2"),
        ({"notary": "node-1"}, "roles of notary; wanted identities from node-1 to node-2"),
    ],
)
def test_an_unknown_role_or_identity_is_refused(roles: dict[str, str], reason: str) -> None:
    with pytest.raises(ValueError, match=f"^{reason}$"):
        identities(CORDA, BANK, 2, roles)


def test_a_shared_port_exists_if_an_identity_serves_it() -> None:
    mixed = identities(CORDA, BANK, 2, {"node-1": "notary"})
    assert [listener.name for listener in listeners(mixed)] == ["p2p-node-1", "p2p-node-2", "rpc"], "a node serves it"
    alone = identities(CORDA, BANK, 1, {"node-1": "notary"})
    assert [listener.name for listener in listeners(alone)] == ["p2p-node-1", "rpc-node-1"], (
        "a listener without a node would accept connections in vain"
    )
    assert application_port(alone) is None, "and the output does not state it"


def test_a_local_port_has_no_listener() -> None:
    node = identities(CORDA, BANK, 2)[1]
    assert node.ports == {"p2p": 10001, "rpc": 10101, "rpc-admin": 10301, "monitoring": 10401}
    assert not {10301, 10401} & {listener.port for listener in listeners([node])}, (
        "access to the administrators' port is control of the node"
    )


# --- Invalid platforms ---------------------------------------------------------------------------------------------

PEERS, BOTH = frozenset({Audience.PEERS}), frozenset(Audience)
P2P_PORT = Port("p2p", 20000, PEERS)


def of_roles(*ports: tuple[Port, ...]) -> Platform:
    return replace(CORDA, name="x", roles=tuple(Role(f"role-{place}", each) for place, each in enumerate(ports)))


CLASHES = {
    "two-of-a-role": ([(P2P_PORT, Port("rpc", 20000, BOTH))], "per-identity port rpc (20000 to 20099) of role-0"),
    "last-and-first": ([(P2P_PORT, Port("rpc", 20099, BOTH))], "per-identity port rpc (20099 to 20198) of role-0"),
    "a-local-one": ([(P2P_PORT, Port("ops", 19901, scope=Scope.LOCAL))], "local port ops (19901 to 20000) of role-0"),
    "a-shared-one": ([(P2P_PORT, Port("rpc", 20050, BOTH, Scope.SHARED))], "shared port rpc (20050) of role-0"),
    "two-shared": (
        [(P2P_PORT, Port("a", 20300, BOTH, Scope.SHARED), Port("b", 20300, BOTH, Scope.SHARED))],
        "shared port b (20300) of role-0",
    ),
    "of-two-roles": ([(P2P_PORT,), (Port("p2p", 20001, PEERS),)], "per-identity port p2p (20001 to 20100) of role-1"),
    "a-shared-one-of-two-roles": (
        [(P2P_PORT,), (P2P_PORT, Port("rpc", 20000, BOTH, Scope.SHARED))],
        "shared port rpc (20000) of role-1",
    ),
    "one-shared-name-of-two-ports": (
        [
            (P2P_PORT, Port("rpc", 20300, BOTH, Scope.SHARED)),
            (P2P_PORT, Port("rpc", 20301, BOTH, Scope.SHARED)),
        ],
        "shared port rpc (20301) of role-1",
    ),
}


@pytest.mark.parametrize(("ports", "other"), CLASHES.values(), ids=CLASHES)
def test_ports_that_clash_are_refused(ports: list[tuple[Port, ...]], other: str) -> None:
    with pytest.raises(ValueError, match=r"^platform x: .* clash; wanted distinct numbers for each") as refused:
        of_roles(*ports)
    assert f" and {other} clash" in str(refused.value), "the message names both ports"


@pytest.mark.parametrize(
    "ports",
    [
        [(P2P_PORT, Port("rpc", 20100, BOTH), Port("ops", 19900, scope=Scope.LOCAL))],
        [(P2P_PORT, Port("p2p", 20100, BOTH, Scope.SHARED))],
        [(P2P_PORT,), (P2P_PORT,)],
        [(P2P_PORT,), (Port("p2p", 20000, BOTH),)],
        [(P2P_PORT, Port("rpc", 20100, BOTH, Scope.SHARED)), (P2P_PORT, Port("rpc", 20100, BOTH, Scope.SHARED))],
    ],
    ids=["neighbours", "a-shared-one-of-the-same-name", "one-port-of-two-roles", "other-audiences", "shared-by-both"],
)
def test_adjacent_port_ranges_are_accepted(ports: list[tuple[Port, ...]]) -> None:
    platform = of_roles(*ports)
    chosen = {identity_name(index): platform.roles[index % len(ports)].name for index in range(MAX_IDENTITIES)}
    every = listeners(identities(platform, BANK, MAX_IDENTITIES, chosen), ApplicationPorts.EACH)
    assert len({listener.port for listener in every}) == len(every), "no two identities ever have one number"
    assert len({listener.name for listener in every}) == len(every), "nor one name"


REFUSED = {
    "no-role": (lambda: replace(CORDA, roles=()), "platform corda: no role; wanted one or more"),
    "role-twice": (
        lambda: replace(CORDA, roles=CORDA.roles[:1] * 2),
        "platform corda: role node occurs twice; wanted each once",
    ),
    "no-p2p-port": (
        lambda: Role("x", (Port("rpc", 20000, BOTH),)),
        "role x: no port p2p; wanted one for each identity, open to peers",
    ),
    "p2p-for-applications": (
        lambda: Role("x", (Port("p2p", 20000, frozenset({Audience.APPLICATIONS})),)),
        "role x: no port p2p; wanted one for each identity, open to peers",
    ),
    "p2p-shared": (
        lambda: Role("x", (Port("p2p", 20000, PEERS, Scope.SHARED),)),
        "role x: no port p2p; wanted one for each identity, open to peers",
    ),
    "port-twice": (
        lambda: Role("x", (P2P_PORT, Port("p2p", 21000, PEERS))),
        "role x: own port p2p occurs twice; wanted each once",
    ),
    "port-for-nobody": (
        lambda: Port("rpc", 20000),
        "per-identity port rpc (20000 to 20099): audiences are none; wanted none if it is local, else one or both",
    ),
    "local-port-for-peers": (
        lambda: Port("ops", 20000, BOTH, Scope.LOCAL),
        (
            "local port ops (20000 to 20099): audiences are applications, peers; "
            "wanted none if it is local, else one or both"
        ),
    ),
    "port-of-root": (
        lambda: Port("p2p", 1023, PEERS),
        "per-identity port p2p (1023 to 1122); wanted it within 1024 to 32767",
    ),
    "port-of-outgoing-connections": (
        lambda: Port("p2p", 32669, PEERS),
        "per-identity port p2p (32669 to 32768); wanted it within 1024 to 32767",
    ),
    "blob-name": (
        lambda: SecretBlob("nodekeystore.jks", 1),
        "secret blob 'nodekeystore.jks'; wanted lower-case letters, digits and hyphens, 64 at most",
    ),
    "blob-twice": (
        lambda: Role("x", (P2P_PORT,), secrets=(SecretBlob("key", 1), SecretBlob("key", 2))),
        "role x: secret blob key occurs twice; wanted each once",
    ),
    "blob-too-large": (
        lambda: SecretBlob("key", 25_001),
        "secret blob key: max_bytes 25001; wanted 1 to 25000",
    ),
    "blob-of-nothing": (lambda: SecretBlob("key", 0), "secret blob key: max_bytes 0; wanted 1 to 25000"),
    "blobs-too-large-together": (
        lambda: replace(CORDA, roles=(CORDA.roles[0], with_blobs("notary", 9_300, 9_337))),
        "platform corda: secret blobs of role notary take 25003 bytes as JSON in base64; wanted 25000 or less",
    ),
}


@pytest.mark.parametrize(("define", "reason"), REFUSED.values(), ids=REFUSED)
def test_an_invalid_platform_is_refused_at_its_definition(define: Callable[[], object], reason: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(reason)}"):
        define()


@pytest.mark.parametrize("base", [1024, 32668])
def test_bounds_of_a_port_are_accepted(base: int) -> None:
    assert len(Port("p2p", base, PEERS).numbers) == MAX_IDENTITIES, "one for each possible identity"


def test_an_identitys_secrets_are_those_of_its_role() -> None:
    role = Role("x", (P2P_PORT,), secrets=(SecretBlob("key", 4), SecretBlob("password", 8)))
    role.check_secrets({"key": b"1234", "password": b"1"})
    for blobs, reason in (
        ({"key": b"1234"}, r"role x: secret blobs \['key'\]; wanted \['key', 'password'\]"),
        ({"key": b"1", "password": b"1", "a": b""}, r"role x: secret blobs \['a', 'key', 'password'\]; wanted"),
        ({"key": b"12345", "password": b"1"}, "secret blob key: 5 bytes; wanted 1 to 4"),
        ({"key": b"1", "password": b""}, "secret blob password: 0 bytes; wanted 1 to 8"),
    ):
        with pytest.raises(ValueError, match=f"^{reason}"):
            role.check_secrets(blobs)


def with_blobs(role: str, *sizes: int) -> Role:
    return Role(role, CORDA.roles[1].ports, secrets=tuple(SecretBlob(f"b{i}", size) for i, size in enumerate(sizes)))


def test_an_identitys_secrets_may_fill_one_vault_secret() -> None:
    for sizes in ((18_642,), (9_300, 9_336), (18_500, 1), tuple([240] * 70)):
        role = with_blobs("notary", *sizes)
        assert replace(CORDA, roles=(CORDA.roles[0], role)).role("notary") is role, "secrets that fit are accepted"


@pytest.mark.parametrize("platform", EVERY, ids=lambda platform: platform.name)
def test_the_size_check_matches_the_stored_json(platform: Platform) -> None:
    for role in platform.roles:
        blobs = {each.name: base64.b64encode(bytes(each.max_bytes)).decode() for each in role.secrets}
        name = max((identity_name(index) for index in range(MAX_IDENTITIES)), key=len)
        text = json.dumps({"identity": name, "blobs": blobs, "replaces": "0" * 64}, separators=(",", ":"))
        assert len(text) <= role.max_document_bytes <= 25_000, "the computed size is that of the stored JSON"


def test_the_network_document_is_pinned_by_its_hash() -> None:
    document = CORDA.network_document
    assert document is not None, "a node without parameters does not start"
    assert document.name == "network-parameters", "the file name that a node expects"
    assert document.fingerprint(b"abc") == (
        "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    ), "the form of a fingerprint, for the published test vector"


def test_transactions_are_counted_at_their_initiator() -> None:
    assert CORDA.transactions is Counted.OWN, "a Corda node's vault has only its own transactions"


# --- Versions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "package"),
    [
        *((f"4.{minor}", "openjdk-8-jdk-headless") for minor in (8, 9, 10, 11)),
        *((f"4.{minor}", "openjdk-17-jdk-headless") for minor in (12, 13, 14)),
    ],
)
def test_each_version_has_its_java(version: str, package: str) -> None:
    assert version in CORDA.versions, "each version with a runtime can be chosen"
    assert CORDA.packages(version) == (package, "maven"), (
        "Corda moved from Java 8 to Java 17 with 4.12; its compiler and Maven install the rest"
    )


@pytest.mark.parametrize("platform", EVERY, ids=lambda platform: platform.name)
def test_each_platform_is_complete(platform: Platform) -> None:
    numbers = [tuple(int(part) for part in version.split(".")) for version in platform.versions]
    assert numbers == sorted(set(numbers)), "versions are listed once, oldest first"
    assert platform.default_version in platform.versions, "the default is one of the versions"
    assert all(platform.packages(version) for version in platform.versions), "each version has a runtime"


# --- The dictionary of platforms -----------------------------------------------------------------------------------


def test_each_platform_is_registered_under_its_name() -> None:
    assert PLATFORMS["corda"] is CORDA
    assert all(name == platform.name for name, platform in PLATFORMS.items()), (
        "the configuration chooses it by that name"
    )


@pytest.mark.parametrize("platform", EVERY, ids=lambda platform: platform.name)
def test_code_that_a_platform_names_as_text_exists(platform: Platform) -> None:
    for named in filter(None, (platform.software, platform.install)):
        assert callable(resolve_name(named)), f"{named} is loaded only on VMs: no other test would notice its absence"


def test_the_program_does_not_load_a_platforms_software() -> None:
    program = "import sys; from ledger import PLATFORMS; print(*sorted(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    ours = {name for name in loaded if name.split(".")[0] in {"ledger", "host", "agent", "contract"}}
    assert {name for name in ours if not name.startswith("contract")} == {"ledger", "ledger.corda"}, (
        "to a deployment a platform is data"
    )


# --- A second platform: its stack ----------------------------------------------------------------------------------


def test_a_second_platforms_stack_has_its_listeners() -> None:
    run = runs.echo()
    rules = {
        rule["name"]: rule["frontendPort"]
        for rule in one(run, "LoadBalancer", "nodes-balancer").inputs["loadBalancingRules"]
    }
    nodes = {f"p2p-node-{number}": 19999 + number for number in range(1, 7)}
    assert rules == {**nodes, "any": 20200, "network-info": 8443}, "its own ports, and no local one"
    assert run.outputs["rpcAddress"] == "10.1.0.254:20200", "the port of its applications"
    card = run.outputs["member"]["nodes"]
    assert card[0] == {
        "legalName": "Bank A node-1",
        "p2pAddress": "10.1.0.254:20000",
        "role": "echo",
    }, "the card's form is the same"


def test_a_second_platforms_stack_has_no_database() -> None:
    run = runs.echo()
    assert not [each.name for each in run.registrations.values() if "dbforpostgresql" in each.type], (
        "it declares no database"
    )
    assert not all_of(run, "LedgerDatabase"), "nor is there a component"


def test_a_port_for_both_audiences_is_open_to_both() -> None:
    traffic = traffic_of(runs.echo(), routed=runs.ECHO_ROUTED)
    nodes = traffic.host("nodes")

    def reached(source: str) -> set[int]:
        return {port for port in traffic.boundaries() if traffic.allows(source, nodes, port)}

    p2p, sides, network_info, any_of_them = {20000, 20005}, {19999, 20006}, 8443, 20200
    peer, application, node = reached("10.2.0.20"), reached("10.50.3.4"), reached(nodes)
    assert p2p | {network_info} <= peer, "peers are allowed on it"
    assert p2p | {any_of_them} <= application, "applications use the same port"
    assert any_of_them not in peer, "a port for applications is denied to peers"
    assert network_info not in application, "a port for peers is denied to applications"
    assert node == peer, "this member's nodes connect to each other"
    assert not (peer | application) & {*sides, 20100, 20105}, "no rule allows local ports"


# --- A second platform: its node -----------------------------------------------------------------------------------


def test_the_echo_software_is_loaded_by_its_name() -> None:
    assert ECHO.software is not None
    assert resolve_name(ECHO.software) is EchoSoftware, "the agent loads it by this name"
    software: Software = EchoSoftware(software_context())
    for role in ECHO.roles:
        (identity,) = identities(ECHO, "Bank A", 1, {"node-1": role.name})
        role.check_secrets(software.make_secrets(identity))
        assert software.make_secrets(identity) != software.make_secrets(identity), "keys are generated each time"
