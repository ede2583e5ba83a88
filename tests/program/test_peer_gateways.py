"""The gateway on a peer's card: a new `vnet-to-vnet` link to one that can't be its end is refused at the start."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import replace
from functools import cache
from types import MappingProxyType
from typing import Any

import pytest

from contract.card import LinkKind
from lab.azure.azure import Account, OfflineAzure, Subscription
from lab.azure.deployment import Deployment
from lab.azure.program import Run, StackConfiguration, run_program
from lab.azure.rules import UNKNOWN, Resource
from lab.cards import legal_name, make_card, resigned, signing_seed
from tests.configuration import configuration
from tests.runs import READER, Refusal, all_of, planned, refusal, stack_of

TENANT = Account.of("bank-a", "north").tenant_id
ACCOUNT = replace(Account.of("bank-a", "north"), deployer_id=READER)
"""Bank A's; another principal deploys each of its peers."""
READ = "azure-native:network:getVirtualNetworkGateway"
NUMBERS = {"bank-b": 2, "bank-c": 3}


def peer(name: str, **changes: Any) -> dict[str, Any]:
    return {"name": name, "legalName": legal_name(name), "stack": stack_of(name), **changes}


@cache
def made(name: str) -> Run:
    """A peer's first update, with which bank A's principal may read its gateway."""
    values = configuration(
        bank={"name": name, "legalName": legal_name(name), "asn": 64512 + NUMBERS[name]},
        addressSpace=f"10.{NUMBERS[name]}.0.0/16",
        size="small",
        gatewayReaders=[READER],
    )
    return planned(StackConfiguration(name, values), account=Account.of(name, "north"))


class Peers:
    """An Azure with bank A's peers, and bank A's updates in it."""

    def __init__(self, *names: str) -> None:
        self.azure = OfflineAzure()
        self.cards = {name: made(name).outputs["member"] for name in names}
        for name in names:
            of_peer = made(name).azure.azure
            self.azure.deployers |= of_peer.deployers
            self.azure.resources |= deepcopy(dict(of_peer.resources))
        self.deployment = Deployment(self.azure.account(ACCOUNT))

    def gateway(self, name: str = "bank-b") -> Resource:
        return self.azure.resources[self.cards[name]["gateway"]["id"]]

    def lose(self, name: str = "bank-b") -> None:
        del self.azure.resources[self.gateway(name).id]

    def withdraw(self) -> None:
        """Take the right to read its gateway from bank A's principal."""
        roles = [id_ for id_, each in self.azure.resources.items() if each.inputs.get("principalId") == READER]
        assert roles, "it had the right"
        for id_ in roles:
            del self.azure.resources[id_]

    @property
    def references(self) -> dict[str, dict[str, Any]]:
        return {stack_of(name): {"member": card} for name, card in self.cards.items()}

    def up(self, *, unknown: bool = False, **changes: Any) -> Run:
        """An update of bank A; with `unknown` a preview."""
        values = configuration(**{"size": "small", "peers": [peer(name) for name in self.cards], **changes})
        return run_program(
            StackConfiguration("bank-a", values),
            references=self.references,
            deployment=self.deployment,
            unknown=unknown,
        )

    def refused(self, **changes: Any) -> Refusal:
        return refusal(
            references=self.references,
            outputs=self.deployment.outputs,
            azure=self.deployment.azure,
            **{"size": "small", "peers": [peer(name) for name in self.cards], **changes},
        )


@pytest.fixture
def looked_up(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the gateways that the program looks up."""
    names: list[str] = []
    invoke = Subscription.invoke

    def recorded(
        self: Subscription, token: str, arguments: Mapping[str, Any] = MappingProxyType({})
    ) -> dict[str, Any]:
        if token == READ:
            names.append(arguments["virtualNetworkGatewayName"])
        return invoke(self, token, arguments)

    monkeypatch.setattr(Subscription, "invoke", recorded)
    return names


def line_of(refused: Refusal, name: str = "bank-b") -> str:
    """The line about the only refused peer."""
    heading, line = refused.message.splitlines()
    assert heading == "the peers of bank-a can't be linked:"
    assert refused.registered == (), "a member half made is worse than none"
    assert line.startswith(f"peers[0] {name}: its gateway.id is "), "the key"
    return line


def lost(peers: Peers) -> None:
    peers.lose()


def in_no_group(peers: Peers) -> None:
    gateway = peers.cards["bank-b"]["gateway"]
    group, _, name = gateway["id"].rpartition("/providers/")
    elsewhere = f"{group}-gone/providers/{name}"
    card = {**peers.cards["bank-b"], "gateway": {**gateway, "id": elsewhere}}
    peers.cards["bank-b"] = resigned(card, signing_seed("bank-b"))


def unreadable(peers: Peers) -> None:
    peers.withdraw()


def gateway_with(**inputs: Any) -> Callable[[Peers], None]:
    def change(peers: Peers) -> None:
        peers.gateway().inputs |= inputs

    return change


REFUSED = {
    "a gateway that does not exist": (lost, r'which does not exist (Status=404 Code="ResourceNotFound"'),
    "a gateway that may not be read": (unreadable, 'which can\'t be read (Status=403 Code="AuthorizationFailed"'),
    "a gateway in another group, whose roles are unknown": (in_no_group, "which can't be read (Status=403"),
    "an ExpressRoute gateway": (
        gateway_with(gatewayType="ExpressRoute", sku={"name": "ErGw1AZ"}),
        "whose gatewayType is ExpressRoute; wanted Vpn",
    ),
    "a policy-based gateway": (
        gateway_with(vpnType="PolicyBased"),
        "whose vpnType is PolicyBased; wanted RouteBased",
    ),
    "a Basic gateway": (gateway_with(sku={"name": "Basic"}), "whose sku is Basic; wanted one with an IPsec policy"),
    "a failed gateway": (
        gateway_with(provisioningState="Failed"),
        "whose provisioningState is Failed; wanted Succeeded",
    ),
    "a gateway that goes": (
        gateway_with(provisioningState="Deleting"),
        "whose provisioningState is Deleting; wanted",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_gateway_that_can_not_be_the_end_of_a_link_is_refused_before_anything_is_registered(case: str) -> None:
    change, said = REFUSED[case]
    peers = Peers("bank-b")
    change(peers)
    line = line_of(peers.refused())
    assert peers.cards["bank-b"]["gateway"]["id"] in line, "the value"
    assert said in line, "what is wrong with it, by which its bank finds out why"
    assert "; wanted " in line, "and what would be right"


def test_the_refusal_names_the_right_that_is_missing() -> None:
    peers = Peers("bank-b")
    peers.withdraw()
    assert "in bank-b's gatewayReaders, or link: ipsec on both sides" in line_of(peers.refused())


def test_each_refused_gateway_has_a_line() -> None:
    peers = Peers("bank-b", "bank-c")
    peers.lose("bank-b")
    peers.gateway("bank-c").inputs["vpnType"] = "PolicyBased"
    refused = peers.refused()
    _, first, second = refused.message.splitlines()
    assert (first[:15], second[:15]) == ("peers[0] bank-b", "peers[1] bank-c"), "one run names all mistakes"
    assert refused.registered == ()


@pytest.mark.parametrize("state", ["Updating", "Succeeded"])
def test_a_gateway_that_is_updated_stops_nobody(state: str) -> None:
    peers = Peers("bank-b")
    peers.gateway().inputs["provisioningState"] = state
    (connection,) = all_of(peers.up(), "VirtualNetworkGatewayConnection")
    assert connection.inputs["virtualNetworkGateway2"]["id"] == peers.gateway().id, (
        "an update of a peer takes minutes"
    )


def test_azure_ignores_the_case_of_an_id() -> None:
    peers = Peers("bank-b")
    gateway = peers.cards["bank-b"]["gateway"]
    *path, name = gateway["id"].split("/")
    card = {**peers.cards["bank-b"], "gateway": {**gateway, "id": "/".join([*path, name.upper()])}}
    peers.cards["bank-b"] = resigned(card, signing_seed("bank-b"))
    assert all_of(peers.up(), "VirtualNetworkGatewayConnection"), "the same gateway"


def test_a_preview_by_who_may_not_read_goes_on_with_a_warning() -> None:
    peers = Peers("bank-b")
    complete = peers.up(unknown=True)
    peers.withdraw()
    preview = peers.up(unknown=True)
    (warning,) = [each for each in preview.messages if "gateway.id" in each]
    assert warning.startswith("peers[0] bank-b: its gateway.id is /subscriptions/"), (
        "not everyone who previews deploys"
    )
    assert warning.endswith("; an update refuses this"), "with the same principal"
    assert preview.registrations.keys() == complete.registrations.keys(), "the plan is the whole plan"
    peers.lose()
    peers.deployment.azure.azure.deployers[peers.cards["bank-b"]["gateway"]["id"].split("/")[2]] = READER
    with pytest.raises(Exception, match="which does not exist"):
        peers.up(unknown=True)


def test_only_new_links_are_looked_up(looked_up: list[str]) -> None:
    peers = Peers("bank-b", "bank-c")
    peers.up()
    assert sorted(looked_up) == sorted(peers.gateway(name).id.rsplit("/", 1)[-1] for name in peers.cards), "each once"
    looked_up.clear()
    peers.withdraw()
    peers.gateway("bank-b").inputs["provisioningState"] = "Failed"
    again = peers.up(applicationNetworks=["10.200.0.0/24"])
    assert looked_up == [], "whoever is linked can't stop our updates by what it does to its gateway"
    assert len(all_of(again, "VirtualNetworkGatewayConnection")) == 2


def relinked(peers: Peers) -> dict[str, Any]:
    peers.up(peers=[peer("bank-b", link=LinkKind.IPSEC)])
    return {}


def rejoined(peers: Peers) -> dict[str, Any]:
    peers.up()
    peers.up(peers=[])
    return {}


def with_our_new_key(peers: Peers) -> dict[str, Any]:
    peers.up()
    return {"keyGenerations": {"link": 2}}


def with_a_new_card(peers: Peers) -> dict[str, Any]:
    peers.up()
    card = {**peers.cards["bank-b"], "counter": 7, "linkPublicKey": make_card("bank-c")["linkPublicKey"]}
    peers.cards["bank-b"] = resigned(card, signing_seed("bank-b"))
    return {}


def not_made(peers: Peers) -> dict[str, Any]:
    peers.up()
    # `pulumi up --continue-on-error` leaves this where a connection failed.
    peers.deployment.outputs["connections"] = {"bank-b": [UNKNOWN]}
    return {}


def of_an_older_program(peers: Peers) -> dict[str, Any]:
    peers.up()
    del peers.deployment.outputs["links"]
    return {}


@pytest.mark.parametrize(
    "before", [relinked, rejoined, with_our_new_key, with_a_new_card, not_made, of_an_older_program]
)
def test_a_link_that_is_made_again_is_looked_up_again(before: Callable[[Peers], dict[str, Any]]) -> None:
    peers = Peers("bank-b")
    changes = before(peers)
    peers.withdraw()
    assert "which can't be read" in line_of(peers.refused(**changes)), "its connection would be deleted, and not made"


def test_other_kinds_of_links_want_no_gateway(looked_up: list[str]) -> None:
    peers = Peers("bank-b")
    peers.withdraw()
    peers.lose()
    assert len(all_of(peers.up(peers=[peer("bank-b", link=LinkKind.IPSEC)]), "VirtualNetworkGatewayConnection")) == 2
    assert looked_up == [], "an ipsec link names public addresses alone, and works without a right at the peer"
