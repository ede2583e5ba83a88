"""A peer's gateway that Azure does not return: the message says why, in what the provider and Azure really answer."""

import asyncio
import json
from importlib.metadata import version
from typing import Any

import pulumi
import pytest

from contract.card import LinkKind, read_card
from lab.azure.program import PROJECT
from lab.cards import legal_name, make_card
from stack import peer_gateways
from stack.peers import PeerMember
from stack.previous import PreviousUpdate
from stack.settings import parse_settings
from tests.configuration import configuration

CARD = make_card()
ID = CARD["gateway"]["id"]
# Pulumi's SDK, the engine and azure-native (PulumiAzcoreResponseError) each put a part before Azure's message.
WRAPPED = (
    "invoke of azure-native:network:getVirtualNetworkGateway failed: invocation of "
    f"azure-native:network:getVirtualNetworkGateway returned an error: request failed {ID}: {{}}"
)
NO_GROUP = 'Status=404 Code="ResourceGroupNotFound" Message="Resource group \'bank-b\' could not be found."'
NO_SUBSCRIPTION = 'Status=404 Code="SubscriptionNotFound" Message="The subscription \'1\' could not be found."'
NO_RIGHT = (
    "Status=403 Code=\"AuthorizationFailed\" Message=\"The client '1' with object id '2' does not have authorization "
    "to perform action 'Microsoft.Network/virtualNetworkGateways/read' over scope '3' or the scope is invalid.\""
)
OTHER_TENANT = (
    'Status=401 Code="InvalidAuthenticationTokenTenant" Message="The access token is from the wrong issuer"'
)
NO_HOST = 'Get "https://management.azure.com/": dial tcp: lookup management.azure.com: no such host'


def refused(answer: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    async def invoke(token: str, names: dict[str, str], options: pulumi.InvokeOptions) -> Any:
        assert token == "azure-native:network:getVirtualNetworkGateway"
        _, _, subscription, _, group, *_, name = ID.split("/")
        assert names == {
            "subscriptionId": subscription,
            "resourceGroupName": group,
            "virtualNetworkGatewayName": name,
        }, "in the peer's subscription, not in our own"
        assert options.version == version("pulumi-azure-native"), "else the engine starts a second provider"
        if isinstance(answer, str):
            raise Exception(WRAPPED.format(answer))
        return answer

    monkeypatch.setattr(peer_gateways, "invoke_async", invoke)
    card = read_card(CARD, name="bank-b", pinned=None, source="test")
    peer = PeerMember(card, json.dumps(CARD), LinkKind.VNET_TO_VNET, legal_name("bank-b"))
    settings = parse_settings(PROJECT, configuration())
    with pytest.raises(pulumi.RunError) as error:
        asyncio.run(peer_gateways.check_gateways(settings, [peer], PreviousUpdate()))
    heading, *lines = str(error.value).splitlines()
    assert heading == "the peers of bank-a can't be linked:"
    assert len(lines) == 1, f"one line, whatever Azure answers: {lines}"
    (line,) = lines
    assert line.startswith(f"peers[0] bank-b: its gateway.id is {ID}, "), "key and value"
    assert line.count(ID) == 1, "the provider says it once more"
    return line


@pytest.mark.parametrize("answer", [NO_GROUP, NO_SUBSCRIPTION])
def test_what_azure_does_not_find_does_not_exist(answer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    line = refused(answer, monkeypatch)
    assert f", which does not exist ({answer}); wanted the one of its newest card" in line


@pytest.mark.parametrize("answer", [NO_RIGHT, OTHER_TENANT, NO_HOST, 'Status=500 Message="Status=40"'])
def test_any_other_answer_is_given_as_it_is(answer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    line = refused(answer, monkeypatch)
    assert f", which can't be read ({answer}); wanted the principal that deploys here in bank-b's gatewayRead" in line


def test_a_long_answer_is_cut_and_hides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    line = refused("Status=500 \u202e" + "x " * 5000, monkeypatch)
    assert line.isprintable()
    assert len(line) < 1200, "a message is read by a person"
    assert line.endswith("or link: ipsec on both sides"), "and its end is what to do"


def test_an_answer_without_properties_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "whose gatewayType is None; wanted Vpn" in refused({}, monkeypatch), "a link is not made on a guess"
