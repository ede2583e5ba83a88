"""Each rule of the offline Azure, from both sides: a violation is refused, and the nearest legal case passes."""

import re
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread
from typing import Any
from uuid import UUID

import pytest

from lab.azure import arm, rules
from lab.azure.azure import OfflineAzure, digest
from lab.azure.refusals import (
    CASES,
    POLICY,
    READER,
    Case,
    ExampleBank,
    ExampleWorld,
    base64_of,
    ends_of,
    scale_set,
    token_of,
)
from lab.azure.rules import AzureError, Resource


def refusal(change: Callable[[], object]) -> str:
    """Azure's error for a change; empty if it accepts the change."""
    try:
        change()
    except AzureError as error:
        return str(error)
    return ""


@pytest.fixture
def world() -> ExampleWorld:
    return ExampleWorld()


class Watch:
    """Which rules were asked, and which one refused."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: set[rules.Rule] = set()
        self.refused: list[rules.Rule] = []
        of_types = {token: tuple(map(self._watched, each)) for token, each in rules._RULES.items()}
        monkeypatch.setattr(rules, "_OF_ALL_TYPES", tuple(map(self._watched, rules._OF_ALL_TYPES)))
        monkeypatch.setattr(rules, "_RULES", of_types)

    def _watched(self, rule: rules.Rule) -> rules.Rule:
        def ask(situation: rules.Situation) -> str | None:
            problem = rule(situation)
            self.asked.add(rule)
            if problem:
                self.refused.append(rule)
            return problem

        return ask


def name_of(case: Case) -> str:
    return f"{case.rule.__name__.strip('_')}-{case.what}"


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_a_violation_of_each_rule_is_refused(
    case: Case, world: ExampleWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    case.given(world)
    before = world.state
    watch = Watch(monkeypatch)
    said = refusal(lambda: case.broken(world))
    assert re.search(case.says, said), f"Azure refuses {case.what} with a reason; got {said!r}"
    assert watch.refused == [case.rule], f"{case.what} must be refused by the rule that the case is about"
    assert {id_: world.state[id_] for id_ in before} == before, "a refused change has no effect"


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_the_nearest_legal_case_passes(case: Case, world: ExampleWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    case.given(world)
    before = world.state
    watch = Watch(monkeypatch)
    said = refusal(lambda: case.legal(world))
    assert not said, f"only {case.what} is refused, and not a similar case"
    assert world.state != before, "the legal case is carried out"
    assert case.rule in watch.asked, "the rule has checked it"


def test_each_rule_has_a_case() -> None:
    assert {case.rule for case in CASES} == set(rules.types_by_rule()), (
        "a rule without a violation may refuse nothing, or too much"
    )


# Names -------------------------------------------------------------------------------------------------------------

NETWORK_NAMES = (("a", "n" * 80, "a.b-c_"), ("", "n" * 81, "-a", "a-", "a b"))
LONG_NETWORK_NAMES = (("ab", "n" * 64, "a.b_"), ("a", "n" * 65, "_a", "a-"))
GUIDS = ((str(UUID(int=1)), READER.upper()), ("reader", READER[1:], f"{READER}0"))
DASHED = (("abc", "n" * 63, "a-b"), ("ab", "n" * 64, "a--b", "-ab", "ab-", "Abc"))

NAMES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "authorization:RoleAssignment": GUIDS,
    "authorization:RoleDefinition": GUIDS,
    "compute:VirtualMachineScaleSet": (("a", "n" * 64), ("n" * 65, "a_b", "a-", "")),
    "dbforpostgresql:Server": (("abc", "n" * 63, "a-b"), ("ab", "n" * 64, "Abc", "-ab", "ab-")),
    "keyvault:Key": (("a", "n" * 127), ("n" * 128, "a_b", "")),
    "keyvault:Secret": (("a", "n" * 127), ("n" * 128, "a_b", "")),
    "keyvault:Vault": (("abc", "v" * 24, "a-b"), ("ab", "v" * 25, "1ab", "a--b", "ab-", "a_b")),
    "managedidentity:UserAssignedIdentity": (("abc", "n" * 128, "a_b-"), ("ab", "n" * 129, "-ab", "a.b")),
    "network:LoadBalancer": NETWORK_NAMES,
    "network:LocalNetworkGateway": NETWORK_NAMES,
    "network:NatGateway": NETWORK_NAMES,
    "network:NetworkSecurityGroup": NETWORK_NAMES,
    "network:PrivateEndpoint": LONG_NETWORK_NAMES,
    "network:PublicIPAddress": NETWORK_NAMES,
    "network:Subnet": NETWORK_NAMES,
    "network:VirtualNetwork": LONG_NETWORK_NAMES,
    "network:VirtualNetworkGateway": NETWORK_NAMES,
    "network:VirtualNetworkGatewayConnection": NETWORK_NAMES,
    "operationalinsights:Workspace": (("abcd", "n" * 63), ("abc", "n" * 64, "ab_d", "-abc")),
    "resources:ResourceGroup": (("a", "(a).b_c", "n" * 90), ("a.", "n" * 91, "a b", "")),
    "storage:BlobContainer": DASHED,
    "storage:FileShare": DASHED,
    "storage:ManagementPolicy": (("default",), ("versions", "Default")),
    "storage:StorageAccount": (("abc", "s" * 24), ("ab", "s" * 25, "a-b", "Abc")),
    # Of a type without an entry a name of 1 to 260 characters is taken.
    "privatedns:PrivateZone": (("a", "n" * 259), ("", "n" * 261, "/a")),
}


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, (legal, _) in NAMES.items() for name in legal])
def test_a_legal_name_passes(kind: str, name: str, world: ExampleWorld) -> None:
    property_ = str(arm.name_property(kind))
    checked = world.a.side.check(token_of(kind), "it", {property_: name})
    assert checked == {property_: name}, "a valid name is accepted as it is"


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, (_, wrong) in NAMES.items() for name in wrong])
def test_an_illegal_name_is_refused(kind: str, name: str, world: ExampleWorld) -> None:
    said = refusal(lambda: world.a.side.check(token_of(kind), "it", {str(arm.name_property(kind)): name}))
    assert f"the name {name!r} is not allowed" in said, "the message says which name is wrong"
    assert "; wanted " in said, "the message says what is wanted"


def test_each_entry_of_names_is_tested() -> None:
    assert set(rules._NAMES) <= set(NAMES), "an untested pattern may refuse names that Azure accepts"


def test_a_name_that_is_unknown_in_a_preview_is_not_checked(world: ExampleWorld) -> None:
    checked = world.a.side.check(token_of("storage:StorageAccount"), "it", {"accountName": rules.UNKNOWN})
    assert checked == {"accountName": rules.UNKNOWN}, "Pulumi's stand-in is no name yet"


@pytest.mark.parametrize("kind", ["network:Subnet", "authorization:RoleAssignment"])
def test_resources_without_a_name_get_one_from_azure_native(kind: str, world: ExampleWorld) -> None:
    side, token, property_ = world.a.side, token_of(kind), str(arm.name_property(kind))
    first = side.check(token, "it", {}, seed="1")
    assert side.check(token, "it", {}, seed="1") == first, "the same seed gives the same name"
    assert side.check(token, "it", {}, seed="2") != first, "a replacement gets another name"
    assert side.check(token, "it", {}, old=first, seed="2") == first, "an update keeps the name"
    assert set(first) == {property_}, "no other input is filled in"


# Replacement -------------------------------------------------------------------------------------------------------

# An input of each type that has immutable ones, which Azure changes in place.
MUTABLE = {
    "authorization:RoleAssignment": "description",
    "authorization:RoleDefinition": "permissions",
    "compute:VirtualMachineScaleSet": "virtualMachineProfile",
    "dbforpostgresql:AdministratorsMicrosoftEntra": "tags",
    "dbforpostgresql:Server": "storage",
    "consumption:Budget": "amount",
    "maintenance:ConfigurationAssignment": "maintenanceConfigurationId",
    "monitor:DataCollectionRuleAssociation": "dataCollectionRuleId",
    "monitor:DiagnosticSetting": "logs",
    "network:PrivateEndpoint": "tags",
    "network:PublicIPAddress": "dnsSettings",
    "network:VirtualNetworkGateway": "sku",
    "network:VirtualNetworkGatewayConnection": "ipsecPolicies",
    "privatedns:VirtualNetworkLink": "registrationEnabled",
    "storage:FileShare": "shareQuota",
    "storage:StorageAccount": "accessTier",
}


@pytest.mark.parametrize("kind", sorted(rules._IMMUTABLE))
def test_what_can_not_be_changed_forces_a_replacement(kind: str, world: ExampleWorld) -> None:
    named = str(arm.name_property(kind))
    keys = sorted({*rules._IMMUTABLE[kind], "location", "resourceGroupName", named})
    mutable = MUTABLE[kind]
    found = world.a.side.diff(token_of(kind), dict.fromkeys([*keys, mutable], 1), dict.fromkeys([*keys, mutable], 2))
    assert {key for key, replaces in found.items() if replaces} == set(keys), "Azure can't change these in place"
    assert found[mutable] is False, f"and it changes {mutable} in place"


def test_a_parents_name_forces_a_replacement_and_an_equal_input_is_no_change(world: ExampleWorld) -> None:
    old = {"virtualNetworkName": "one", "addressPrefix": "10.1.0.0/24", "same": 1}
    new = {"virtualNetworkName": "two", "addressPrefix": "10.1.1.0/24", "same": 1, "more": 1}
    found = world.a.side.diff(token_of("network:Subnet"), old, new)
    assert found == {"virtualNetworkName": True, "addressPrefix": False, "more": False}, (
        "a subnet never moves to another network; its range may change"
    )


def test_a_random_value_is_replaced_when_its_keepers_change(world: ExampleWorld) -> None:
    token = "random:index/randomBytes:RandomBytes"
    found = world.a.side.diff(token, {"keepers": {"a": "1"}, "x": 1}, {"keepers": {"a": "2"}, "x": 2})
    assert found == {"keepers": True, "x": False}, "keepers say when a value is replaced"
    one = world.a.side.create(token, "key", {"keepers": {"generation": "1"}, "length": 32})
    assert one == world.a.side.create(token, "key", {"keepers": {"generation": "1"}, "length": 32}), (
        "otherwise the value stays"
    )
    assert one[1]["hex"] != world.b.side.create(token, "key", {"length": 32})[1]["hex"], "each bank has another value"


# Deletes -----------------------------------------------------------------------------------------------------------


def held(bank: ExampleBank) -> dict[str, tuple[Callable[[], str], Callable[[str], object]]]:
    """For each type that can be in use: what makes one, and what makes something that uses it."""
    return {
        "network:LocalNetworkGateway": (bank.local, lambda id_: bank.ipsec(far=id_)),
        "network:NatGateway": (bank.nat, lambda id_: bank.subnet("n", "10.1.0.0/24", natGateway={"id": id_})),
        "network:NetworkSecurityGroup": (
            bank.security_group,
            lambda id_: bank.subnet("n", "10.1.0.0/24", networkSecurityGroup={"id": id_}),
        ),
        "network:PublicIPAddress": (bank.address, lambda id_: bank.nat(publicIpAddresses=[{"id": id_}])),
        "network:Subnet": (lambda: bank.nodes, bank.endpoint),
        "network:VirtualNetwork": (lambda: bank.network, lambda _: bank.endpoint(bank.nodes)),
        "network:VirtualNetworkGateway": (lambda: bank.gateway, lambda _: bank.ipsec()),
    }


@pytest.mark.parametrize("kind", sorted(rules._IN_USE))
def test_a_resource_in_use_is_not_deleted(kind: str, world: ExampleWorld) -> None:
    make, use = held(world.a)[kind]
    made = make()
    user = use(made)
    said = refusal(lambda: world.a.delete(made))
    assert f"InUse: {user} still refers to it" in said, "Azure names the resource that uses it"
    assert made in world.azure.resources, "the resource stays"
    world.a.delete(str(user))
    assert not refusal(lambda: world.a.delete(made)), "once it is unused, it can be deleted"
    assert made not in world.azure.resources, "it is gone"


def test_a_resource_group_is_deleted_unless_another_banks_resource_uses_something_in_it(world: ExampleWorld) -> None:
    world.a.ipsec()
    theirs = world.b.link(world.a.gateway)
    assert f"InUse: {theirs}" in refusal(lambda: world.a.delete(world.a.group)), (
        "the other half points at the gateway"
    )
    world.b.delete(theirs)
    assert not refusal(lambda: world.a.delete(world.a.group)), "resources within a group do not prevent its deletion"
    left = [id_ for id_ in world.azure.resources if id_.startswith(f"{world.a.group}/")]
    assert not left, f"everything in the group is deleted; left: {left}"
    assert world.b.group in world.azure.resources, "another bank's group of the same name stays"


def test_children_are_deleted_with_their_parent_and_no_resource_of_a_similar_name_is(world: ExampleWorld) -> None:
    first, second = world.a.net("net", "10.1.0.0/24"), world.a.net("net2", "10.1.0.0/24")
    child = world.a.subnet("n", "10.1.0.0/24", virtualNetworkName="net")
    other = world.a.subnet("n", "10.1.0.0/24", virtualNetworkName="net2")
    world.a.delete(first)
    assert child not in world.azure.resources, "a subnet is deleted with its network"
    assert {second, other} <= set(world.azure.resources), "a network whose name has the same beginning stays"


def test_a_mere_reference_does_not_prevent_a_deletion(world: ExampleWorld) -> None:
    world.a.make("monitor:MetricAlert", scopes=[world.a.network])
    measured = [{"category": "AllMetrics", "enabled": True}]
    world.a.make(
        "monitor:DiagnosticSetting", "logs", resourceUri=world.a.network, workspaceId="elsewhere", metrics=measured
    )
    world.a.role("somebody", world.a.network)
    world.a.zone()
    assert not refusal(lambda: world.a.delete(world.a.network)), (
        "alerts, diagnostic settings, roles and links of zones do not prevent a deletion"
    )


@pytest.mark.parametrize(
    "make", [lambda bank: bank.secret("card", "words"), lambda bank: (bank.keys, bank.key(kty="EC"))[1]]
)
def test_a_secret_or_key_is_deleted_only_through_an_open_data_plane(make: Any, world: ExampleWorld) -> None:
    stored = make(world.a)
    assert "ForbiddenByConnection" in refusal(lambda: world.a.delete(stored)), "the vault is closed to this machine"
    world.a.change(world.a.keys, properties={"softDeleteRetentionInDays": 90, "publicNetworkAccess": "Enabled"})
    assert not refusal(lambda: world.a.delete(stored)), "with an open vault it can be deleted"


def test_a_rule_that_a_policy_has_associated_with_vms_is_not_deleted(world: ExampleWorld) -> None:
    rule, other = (world.a.make("monitor:DataCollectionRule", name) for name in ("rule", "other"))
    parameters = {"dcrResourceId": {"value": rule}}
    policy = world.a.make("authorization:PolicyAssignment", "collect", scope=world.a.group, parameters=parameters)
    vms = world.a.vms()
    world.a.delete(policy)
    world.a.change(vms, tags={"bank": "a"})
    assert "has associated it with the VMs of" in refusal(lambda: world.a.delete(rule)), "the associations remain"
    assert not refusal(lambda: world.a.delete(other)), "a rule without associations is deleted"
    world.a.delete(vms)
    assert not refusal(lambda: world.a.delete(rule)), "an association is deleted with its VM"


def test_a_deleted_resource_can_not_be_read_or_changed(world: ExampleWorld) -> None:
    nat = world.a.nat()
    token, inputs = world.azure.resources[nat].token, world.azure.resources[nat].inputs
    world.a.delete(nat)
    assert world.a.side.read(nat, {}) is None, "a refresh sees that it is deleted"
    assert "is not there" in refusal(lambda: world.a.side.update(token, "nat", nat, inputs)), "it can't be changed"
    assert not refusal(lambda: world.a.side.delete(token, "nat", nat)), "deleting it again is no error"


# Connections -------------------------------------------------------------------------------------------------------


def two_halves(world: ExampleWorld, how: str, **of_b: Any) -> tuple[str, Callable[[], str]]:
    """Bank A's half of a link, and a function that makes bank B's, which may differ."""
    agreed = {"sharedKey": "abc", "ipsecPolicies": [POLICY], "connectionProtocol": "IKEv2", "enableBgp": True}
    if how == "Vnet2Vnet":
        _ = world.b.gateway
        first = world.a.link(world.b.gateway, **agreed)
        return first, lambda: world.b.link(world.a.gateway, **{**agreed, **of_b})
    first = world.a.ipsec(far=world.a.end_of(world.b), **agreed)
    far = of_b.pop("far", None) or world.b.end_of(world.a)
    return first, lambda: world.b.ipsec(far=far, **{**agreed, **of_b})


@pytest.mark.parametrize("how", ["Vnet2Vnet", "IPsec"])
def test_a_connection_is_up_once_both_halves_agree(how: str, world: ExampleWorld) -> None:
    first, make_second = two_halves(world, how)
    assert world.a.status(first) == "Connecting", "one half alone is not connected"
    second = make_second()
    assert [world.a.status(first), world.b.status(second)] == ["Connected"] * 2, "both halves exist and agree"
    world.b.delete(second)
    assert world.a.status(first) == "Connecting", "the link is down again once a half is deleted"


@pytest.mark.parametrize("how", ["Vnet2Vnet", "IPsec"])
@pytest.mark.parametrize(
    "differs",
    [
        {"sharedKey": "abd"},
        {"ipsecPolicies": [{**POLICY, "dhGroup": "ECP256"}]},
        {"connectionProtocol": "IKEv1"},
        {"enableBgp": False},
    ],
    ids=str,
)
def test_halves_that_differ_do_not_connect(how: str, differs: dict[str, Any], world: ExampleWorld) -> None:
    first, make_second = two_halves(world, how, **differs)
    second = make_second()
    assert [world.a.status(first), world.b.status(second)] == ["Connecting"] * 2, f"the halves differ by {differs}"


@pytest.mark.parametrize("wrong", ["address", "asn"])
def test_a_half_that_names_another_gateway_does_not_connect(wrong: str, world: ExampleWorld) -> None:
    inputs, _ = world.a.read(world.a.end_of(world.b))
    address, asn = inputs["gatewayIpAddress"], inputs["bgpSettings"]["asn"]
    far = world.b.local("192.0.2.250" if wrong == "address" else address, asn + (wrong == "asn"))
    first, make_second = two_halves(world, "IPsec", far=far)
    assert world.b.status(make_second()) == "Connecting", f"B's half names another {wrong} than A's gateway has"
    assert world.a.status(first) == "Connecting", "A's half is not connected either"


def test_a_circuits_connection_is_up_by_itself(world: ExampleWorld) -> None:
    made = world.a._connection("ExpressRoute", peer={"id": ends_of(world)["peer"]})
    assert world.a.status(made) == "Connected", "its other half is the carrier's"


def test_an_update_leaves_the_shared_key_as_it_was(world: ExampleWorld) -> None:
    first, make_second = two_halves(world, "Vnet2Vnet")
    second = make_second()
    for bank, half in ((world.a, first), (world.b, second)):
        bank.change(half, sharedKey="rotated", tags={"generation": "2"})
        stored = world.azure.resources[half].inputs
        assert stored["sharedKey"] == digest("abc"), "Azure ignores the shared key in a PUT on an existing connection"
        assert stored["tags"] == {"generation": "2"}, "other properties are changed"
    bare = world.a.ipsec()
    world.a.change(bare, sharedKey="first")
    assert world.azure.resources[bare].inputs["sharedKey"] == digest("first"), (
        "a PUT that creates a connection sets the key"
    )


def test_an_update_leaves_the_authorization_key_as_it_was(world: ExampleWorld) -> None:
    ends = {"peer": {"id": ends_of(world)["peer"]}}
    made = world.a._connection("ExpressRoute", authorizationKey="first", **ends)
    world.a.change(made, authorizationKey="second")
    assert world.azure.resources[made].inputs["authorizationKey"] == digest("first"), "Azure ignores it in a PUT"


# VMs follow their model --------------------------------------------------------------------------------------------


SURGE = {"mode": "Rolling", "rollingUpgradePolicy": {"maxSurge": True}}


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (SURGE, "replaced"),
        ({"mode": "Rolling"}, "in place"),
        ({"mode": "Automatic"}, "in place"),
        ({"mode": "Manual"}, "stays"),
        (None, "stays"),
    ],
)
def test_vms_follow_their_model_by_the_upgrade_policy(
    policy: dict[str, Any] | None, expected: str, world: ExampleWorld
) -> None:
    upgrade: dict[str, Any] = {"upgradePolicy": policy} if policy else {}
    vms = world.a.vms(custom_data=base64_of(1), **upgrade)

    def models() -> list[str]:
        return list(world.azure.resources[vms].extra["vmModels"])

    old, same = models()
    assert old == same, "all VMs begin with the model of their scale set"
    world.a.change(vms, **scale_set(custom_data=base64_of(2), capacity=3))
    first, second, third = models()
    assert first == second, "all existing VMs are treated alike"
    assert third != old, "a new VM is always created from the current model"
    if expected == "in place":
        assert first not in (old, third), "marked as upgraded, with the custom data of its creation"
        assert first.split(".")[0] == old.split(".")[0]
    else:
        assert first == (third if expected == "replaced" else old)
    world.a.change(vms, **scale_set(custom_data=base64_of(2), capacity=1))
    assert models() == [first], "scaling in deletes VMs and changes none"


def test_tags_are_no_part_of_the_model(world: ExampleWorld) -> None:
    vms = world.a.vms(upgradePolicy={"mode": "Rolling"})
    before = list(world.azure.resources[vms].extra["vmModels"])
    world.a.change(vms, tags={"bank": "a"})
    assert world.azure.resources[vms].extra["vmModels"] == before, "a changed tag restarts no VM"


# The core ----------------------------------------------------------------------------------------------------------


def test_an_existing_resource_is_not_created_again(world: ExampleWorld) -> None:
    world.a.net("network", "10.1.0.0/16")
    said = refusal(lambda: world.a.net("NETWORK", "10.1.0.0/16"))
    assert "cannot create already existing resource" in said, "Azure's ids don't care for case"
    assert not refusal(lambda: world.b.net("network", "10.1.0.0/16")), "the same name in another subscription is free"


class Slow:
    """An Azure whose request for one subnet blocks until it is released."""

    def __init__(self) -> None:
        self.started, self.go_on = Event(), Event()
        self.on = False

    def __call__(self, kind: str) -> float:
        if self.on and kind == "network:Subnet" and not self.started.is_set():
            self.started.set()
            assert self.go_on.wait(5), "the test releases it"
        return 0.0


def test_a_network_s_subnets_are_changed_one_by_one() -> None:
    slow = Slow()
    world = ExampleWorld(seconds=slow)
    nodes, other = world.a.nodes, world.a.net("other", "10.1.0.0/16")
    slow.on = True
    made: list[str] = []
    thread = Thread(target=lambda: made.append(world.a.subnet("first", "10.1.1.0/24")))
    thread.start()
    try:
        assert slow.started.wait(5), "the first request runs"
        busy = f"AnotherOperationInProgress: another operation on {world.a.network} is in progress"
        for what, change in {
            "a second subnet": lambda: world.a.subnet("second", "10.1.2.0/24"),
            "an update": lambda: world.a.change(nodes, tags={}),
            "a delete": lambda: world.a.delete(nodes),
        }.items():
            assert busy in refusal(change), f"{what} meanwhile is refused"
        assert not refusal(lambda: world.a.subnet("n", "10.1.2.0/24", virtualNetworkName="other")), (
            f"{other} is another network"
        )
        assert not refusal(world.a.nat), "requests without a network are not blocked"
    finally:
        slow.go_on.set()
        thread.join(5)
    assert made, "the first request is done"
    assert not refusal(lambda: world.a.subnet("second", "10.1.2.0/24")), "then the second one is accepted"


@pytest.mark.parametrize(
    "kind", ["network:Subnet", "dbforpostgresql:AdministratorsMicrosoftEntra", "dbforpostgresql:Configuration"]
)
def test_each_type_that_is_changed_one_by_one_blocks_its_parent(kind: str) -> None:
    held_by = rules.exclusive_parents(token_of(kind), "/parents/one/children/two")
    assert held_by == ("/parents/one",), "concurrent requests on one parent are refused"
    assert rules.exclusive_parents(token_of("network:NatGateway"), "/parents/one") == (), "other types block none"


def test_a_refused_request_frees_its_parent(world: ExampleWorld) -> None:
    assert refusal(lambda: world.a.subnet("nodes", "10.9.0.0/24")), "it lies outside its network"
    assert not refusal(lambda: world.a.subnet("nodes", "10.1.0.0/24")), "a refused request blocks no later one"


def test_no_secret_is_in_the_state(tmp_path: Path) -> None:
    world = ExampleWorld(tmp_path / "azure.json")
    world.a.ipsec(sharedKey="Key!OfTheLink", authorizationKey="Key!OfTheCircuit")
    world.a.secret("card", "Words!OfTheCard")
    text = (tmp_path / "azure.json").read_text(encoding="utf-8")
    for secret in ("Key!OfTheLink", "Key!OfTheCircuit", "Words!OfTheCard"):
        assert secret not in text, "the state has a digest of a secret"
        assert digest(secret) in text, "the digest changes with the secret"


def test_a_known_secret_is_read_back(world: ExampleWorld) -> None:
    link, secret = world.a.ipsec(sharedKey="key"), world.a.secret("card", "words")
    assert world.a.read(link, sharedKey="key")[0]["sharedKey"] == "key", "an unchanged known secret is no change"
    assert world.a.read(link, sharedKey="other")[0]["sharedKey"] == digest("key"), "a refresh shows that it differs"
    assert world.a.read(link)[0]["sharedKey"] == digest("key"), "without the known value, only the digest is returned"
    inputs, outputs = world.a.read(secret, properties={"value": "words"})
    assert inputs["properties"] == outputs["properties"] == {"value": "words"}, "nested secrets too"


def test_the_state_is_the_same_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "below" / "azure.json"
    world = ExampleWorld(path)
    vms = world.a.vms()
    world.a.delete(world.a.keys)
    again = OfflineAzure(path)
    assert again.resources == world.azure.resources, "all resources are as they were"
    assert again.resources[vms].extra["vmModels"], "with Azure's own properties"
    assert again.deployers == world.azure.deployers, "with the account of each bank"
    assert again.soft_deleted == {"keys-of-bank-a": world.a.keys}, "with the names of deleted vaults"
    assert again._busy == set(), "a request does not outlive its process"
    assert isinstance(again.resources[vms], Resource), "resources, not plain dictionaries"


def test_a_vault_is_soft_deleted_with_its_resource_group(world: ExampleWorld) -> None:
    vault = world.a.keys
    world.a.delete(world.a.group)
    assert vault not in world.azure.resources, "everything in a group is deleted with it"
    assert world.azure.soft_deleted == {"keys-of-bank-a": vault}, "the vault's name stays reserved"


def test_outputs_have_the_properties_that_azure_adds(world: ExampleWorld) -> None:
    _, gateway = world.a.read(world.a.gateway)
    (instance,) = gateway["bgpSettings"]["bgpPeeringAddresses"]
    assert instance["defaultBgpIpAddresses"] == ["10.1.1.4"], "an instance has the fifth address of its subnet"
    assert gateway["bgpSettings"]["asn"] == 64_512, "in addition to the inputs"
    vault = world.a.read(world.a.keys)[1]["properties"]
    assert vault["vaultUri"] == "https://keys-of-bank-a.vault.azure.net/", "the URI of its data plane"
    server = world.a.read(world.a.database_server)[1]
    assert server["fullyQualifiedDomainName"] == "ledger-a.postgres.database.azure.com", (
        "the name by which nodes reach it"
    )


def test_only_functions_that_azure_has_are_answered(world: ExampleWorld) -> None:
    client = world.a.side.invoke("azure-native:authorization:getClientConfig")
    assert client["subscriptionId"] == world.a.side.account.subscription_id, (
        "the answer has the bank's own subscription"
    )
    gateway = {"resourceGroupName": "ledger", "virtualNetworkGatewayName": world.a.gateway.rsplit("/", 1)[-1].upper()}
    found = world.a.side.invoke("azure-native:network:getVirtualNetworkGateway", gateway)
    assert (found["id"], found["provisioningState"]) == (world.a.gateway, "Succeeded"), "Azure ignores an id's case"
    elsewhere = {**gateway, "subscriptionId": str(UUID(int=9))}
    found = world.a.side.invoke("azure-native:network:getVirtualNetworkGateway", elsewhere)
    assert found["gatewayType"] == "Vpn", "what lies in a subscription that is unknown here is not refused"
    assert "has no function" in refusal(lambda: world.a.side.invoke("azure-native:x:y")), (
        "an unknown function is refused"
    )
    assert "has no random" in refusal(lambda: world.a.side.create("random:x:RandomPet", "pet", {})), (
        "an unknown value is refused"
    )
    with pytest.raises(arm.UnknownTypeError, match="no type azure-native:batch:Pool"):
        world.a.side.check("azure-native:batch:Pool", "pool", {})
