"""Three banks whose gateways speak IKEv2 and BGP with each other, each configured from its own plan.

Requires root, strongSwan and FRR.
"""

import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from itertools import permutations
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from rich.console import Console

from contract.card import LinkKind
from contract.key_agreement import Party, Purpose, agree, link_public_key
from lab.azure.consortium import SAMPLE_CONSORTIUM, Consortium, InProcess
from lab.azure.program import PROJECT, read_configuration
from lab.banks.process import until
from lab.links.bgp import HOLD_SECONDS
from lab.links.ike import CHARON, Association
from lab.links.mesh import Mesh, RunningMember, dial, missing
from lab.links.plans import MemberPlan
from lab.namespaces import Namespace
from tests.links.judged import judged

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))

P2P, RPC, REVOCATION = 10000, 10200, 8445
IKE = "AES_GCM_16-256/PRF_HMAC_SHA2_384/ECP_384"
AGREED = Association("IKEv2", IKE, "AES_GCM_16-256")
RENEWED = Association("IKEv2", IKE, "AES_GCM_16-256/ECP_384")


@pytest.fixture(scope="module")
def consortium(tmp_path_factory: pytest.TempPathFactory) -> Consortium:
    made = Consortium(InProcess(tmp_path_factory.mktemp("three") / "banks"), Console(quiet=True))
    made.sample()
    return made


@pytest.fixture(scope="module")
def plans(consortium: Consortium) -> dict[str, MemberPlan]:
    assert isinstance(consortium.front, InProcess)
    return {bank: MemberPlan.of(run) for bank, run in consortium.front.runs.items()}


@pytest.fixture(scope="module")
def mesh(plans: dict[str, MemberPlan]) -> Iterator[Mesh]:
    with Mesh(plans.values()) as made:
        made.connect()
        for each in made.members.values():
            each.filter()
        yield made


def dialled(
    namespace: Namespace, source: IPv4Address, listeners: Iterable[tuple[IPv4Address, int]]
) -> dict[tuple[IPv4Address, int], str | None]:
    """The banks that answer at each address."""
    listeners = sorted(listeners)
    return dict(zip(listeners, at_once(lambda each: dial(namespace, source, *each), listeners), strict=True))


def at_once(ask: Callable[[Any], Any], each: Iterable[Any]) -> list[Any]:
    """All answers; dropped packets take the full timeout."""
    with ThreadPoolExecutor(32) as pool:
        return list(pool.map(ask, each))


def pairs(mesh: Mesh) -> list[tuple[RunningMember, RunningMember]]:
    return list(permutations(mesh.members.values(), 2))


def listening(member: RunningMember) -> set[tuple[IPv4Address, int]]:
    return {listener for subnet in member.plan.filtered for listener in subnet.listeners}


def reached(member: RunningMember, other: RunningMember) -> set[tuple[IPv4Address, int]]:
    """Addresses of another member that a member's node VM reaches."""
    nodes = member.hosts["nodes"]
    answers = dialled(nodes.namespace, nodes.address, listening(other))
    assert set(answers.values()) <= {other.plan.name, None}, "each answer comes from the right member"
    return {listener for listener, answer in answers.items() if answer}


def frontend(member: RunningMember) -> IPv4Address:
    """The address of its nodes."""
    return IPv4Address(urlsplit(member.plan.card["networkInfoUrl"]).hostname or "")


def on_card(plan: MemberPlan) -> set[tuple[IPv4Address, int]]:
    """The addresses and ports on a member's card."""
    card = plan.card
    urls = [card["networkInfoUrl"], *(f"//{node['p2pAddress']}" for node in card["nodes"])]
    if card["authority"]:
        urls.append(card["authority"]["url"])
    parts = [urlsplit(url) for url in urls]
    return {(IPv4Address(each.hostname or ""), each.port or 0) for each in parts}


def test_both_plans_agree_on_each_tunnel(plans: dict[str, MemberPlan]) -> None:
    ends = {
        (own.public_ip, far.public_ip): (half.key, half.policy, half.dead_peer_seconds)
        for plan in plans.values()
        for own in plan.instances
        for half in plan.halves
        for far in half.far_ends
    }
    assert len(ends) == 24, "each of the three pairs has a full mesh of four tunnels, from both sides"
    for (one, other), said in ends.items():
        assert ends[other, one] == said, f"{one} and {other} have the same key and policy"
    keys = {frozenset(pair): key for pair, (key, _, _) in ends.items()}
    assert len(set(keys.values())) == 3, "no two pairs of members share a key"


def test_every_tunnel_has_exactly_the_policys_algorithms(mesh: Mesh) -> None:
    found = {each.namespace.name: each.association for each in mesh.tunnels}
    assert {name: each for name, each in found.items() if each not in (AGREED, RENEWED)} == {}, (
        "IKEv2, with the strongest algorithms of a gateway"
    )
    tunnel = mesh.members["bank-b"].tunnels[0]
    tunnel.renew()
    until(lambda: tunnel.association == RENEWED, 10, "renewed keys, from the policy's own group")


def test_no_apparmor_profile_denies_the_daemons_their_files(mesh: Mesh) -> None:
    running = [each.resolve() for each in Path("/proc").glob("[0-9]*/exe") if each.exists()]
    ours = [each for each in running if each.name == CHARON.name and each.is_relative_to(mesh.folder)]
    assert len(ours) == len(mesh.tunnels), (
        f"Debian and Ubuntu have a profile for {CHARON}, by which a daemon reads only /etc and writes only /run"
    )


def test_peers_reach_the_cards_addresses_and_no_rpc(mesh: Mesh) -> None:
    found = at_once(lambda pair: reached(*pair), pairs(mesh))
    for (one, other), opened in zip(pairs(mesh), found, strict=True):
        revocation = {each for each in listening(other) if each[1] == REVOCATION}
        assert opened == on_card(other.plan) | revocation, f"{one.plan.name} at {other.plan.name}: as on the card"
        assert {port for _, port in listening(other) - opened} == {RPC}, "RPC is for the bank's own applications"


def test_a_banks_own_rules_keep_a_hostile_peer_from_its_rpc(mesh: Mesh) -> None:
    def answers(pair: tuple[RunningMember, RunningMember]) -> list[str | None]:
        hostile, bank = pair
        # Not from its nodes' subnet, whose own rules would deny it.
        return [dial(hostile.namespace, hostile.bgp_ip, frontend(bank), port) for port in (P2P, RPC)]

    for (_, bank), found in zip(pairs(mesh), at_once(answers, pairs(mesh)), strict=True):
        assert found == [bank.plan.name, None], "P2P is for peers, RPC is not"


# --- Refused connections and recovery ------------------------------------------------------------------------------


@pytest.fixture
def healed(mesh: Mesh, plans: dict[str, MemberPlan]) -> Iterator[Mesh]:
    """The mesh, which a test may change: afterwards each member has its own plan again."""
    yield mesh
    for name, member in mesh.members.items():
        member.change(plans[name])
    mesh.connect()


@pytest.fixture
def front(consortium: Consortium, tmp_path: Path) -> InProcess:
    """A copy of the three banks, which a test may change."""
    shutil.copytree(consortium.front.folder, tmp_path / "banks")
    return InProcess(tmp_path / "banks")


def changed(front: InProcess, bank: str, folder: Path, **changes: Any) -> MemberPlan:
    """A bank's plan after `pulumi up` with changes to its configuration."""
    source = SAMPLE_CONSORTIUM / f"Pulumi.{bank}.yaml"
    document = yaml.safe_load(source.read_text())
    document["config"] |= {f"{PROJECT}:{key}": value for key, value in changes.items()}
    file = folder / source.name
    file.write_text(yaml.safe_dump(document))
    front.up(bank, file, read_configuration(source).peers)
    return MemberPlan.of(front.runs[bank])


def between(mesh: Mesh, one: str, other: str) -> list[Association | None]:
    """The established security associations between two members, from both ends."""
    ends = [{each.public_ip for each in mesh.members[name].plan.instances} for name in (one, other)]
    found = [each for each in mesh.tunnels if all(each.public_ips & end for end in ends)]
    assert len(found) == 8, "four tunnels"
    return [each.association for each in found]


def are(mesh: Mesh, one: str, other: str, what: Association | None) -> None:
    until(lambda: between(mesh, one, other) == [what] * 8, 20, f"{one} and {other}: {what}")


def test_an_outsider_with_both_cards_and_the_address_does_not_connect(
    healed: Mesh, plans: dict[str, MemberPlan]
) -> None:
    """A host at bank C's public address, with all public information."""
    secret, bank_c = secrets.token_bytes(32), plans["bank-c"]

    def party(card: Mapping[str, Any], key: str | None = None) -> Party:
        generation = card["keyGenerations"]["link"]
        return Party(name=card["name"], public_key=key or card["linkPublicKey"], generation=generation)

    outsider = party(bank_c.card, link_public_key(secret))
    key = agree(secret, outsider, party(plans["bank-a"].card), Purpose.LINK, LinkKind.IPSEC)
    forged = replace(bank_c, halves=tuple(replace(half, key=key) for half in bank_c.halves))
    healed.members["bank-c"].change(forged)
    for each in healed.members["bank-a"].tunnels:
        each.initiate()
    are(healed, "bank-a", "bank-c", None)
    assert None not in between(healed, "bank-a", "bank-b"), "the other members' link has another key"
    assert not reached(healed.members["bank-c"], healed.members["bank-a"]), "without a tunnel nothing is reachable"


def test_with_a_changed_policy_a_link_is_down_until_the_other_side_follows(
    healed: Mesh, front: InProcess, tmp_path: Path
) -> None:
    policy = {"connectivity": {"vpn": {"ipsecPolicy": {"dhGroup": "ECP256", "pfsGroup": "ECP256"}}}}
    bank_a, bank_b = (healed.members[name] for name in ("bank-a", "bank-b"))
    bank_a.change(changed(front, "bank-a", tmp_path, **policy))
    are(healed, "bank-a", "bank-b", None)
    assert None not in between(healed, "bank-b", "bank-c"), "the other members' link is unchanged"
    bank_b.change(changed(front, "bank-b", tmp_path, **policy))
    are(healed, "bank-a", "bank-b", replace(AGREED, suite=IKE.replace("384/ECP_384", "384/ECP_256")))


def test_with_a_raised_generation_a_link_is_down_until_the_other_side_follows(
    healed: Mesh, front: InProcess, tmp_path: Path
) -> None:
    bank_a, bank_b = (healed.members[name] for name in ("bank-a", "bank-b"))
    bank_b.change(changed(front, "bank-b", tmp_path, keyGenerations={"link": 2}))
    are(healed, "bank-a", "bank-b", None)
    bank_a.change(changed(front, "bank-a", tmp_path))
    are(healed, "bank-a", "bank-b", AGREED)
    assert set(between(healed, "bank-b", "bank-c")) == {None}, "bank C has not updated yet"
    assert None not in between(healed, "bank-a", "bank-c"), "each pair of members has a separate key"


def test_a_namespace_outlives_the_thread_that_made_it() -> None:
    with ThreadPoolExecutor(1) as pool:
        made = pool.submit(Namespace, "made").result()
    time.sleep(0.2)
    try:
        made.ip("link set lo up")
    finally:
        made.end()


def test_traffic_moves_when_an_instance_is_lost(healed: Mesh) -> None:
    bank_a, bank_c = (healed.members[name] for name in ("bank-a", "bank-c"))
    nodes = bank_a.hosts["nodes"]

    def answers() -> set[str | None]:
        """The answers of connections over different tunnels."""
        return set(at_once(lambda _: dial(nodes.namespace, nodes.address, frontend(bank_c), P2P), range(32)))

    assert answers() == {"bank-c"}
    with bank_c.without_an_instance():
        assert None in answers(), "some connections used that instance"
        # BGP drops a silent peer after this time; dead peer detection is faster.
        until(lambda: answers() == {"bank-c"}, HOLD_SECONDS, "traffic over the other instance")
    until(lambda: answers() == {"bank-c"}, 30, "traffic over both again")


# --- Routes --------------------------------------------------------------------------------------------------------


def test_routes_that_gateways_announce_to_each_other_are_not_foreign(
    mesh: Mesh, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for member in mesh.members.values():
        status, said = judged(member, mesh, tmp_path, capsys)
        assert (status, "0 foreign, 0 unclear" in said) == (0, True), (
            f"{member.plan.name}: a check that always fails: {said}"
        )
        spaces = {each.plan.space for each in mesh.members.values()}
        assert {IPv4Network(each["network"]) for each in member.learned_routes()} == spaces


def test_a_peer_that_announces_a_part_of_a_third_banks_range_is_found(
    mesh: Mesh, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bank_a, thief, stolen = mesh.members["bank-a"], mesh.members["bank-c"].instances[0], IPv4Network("10.2.0.0/24")
    thief.frr.announce(stolen)
    try:
        until(lambda: str(stolen) in {each["network"] for each in bank_a.learned_routes()}, 30, "the route")
        status, said = judged(bank_a, mesh, tmp_path, capsys)
        assert status == 1
        assert f"foreign: {stolen} from {thief.plan.bgp_ip}, AS path 64514 (bank-c); wanted bank-b's range" in said
    finally:
        thief.frr.withdraw(stolen)
    until(lambda: str(stolen) not in {each["network"] for each in bank_a.learned_routes()}, 30, "no such route")
