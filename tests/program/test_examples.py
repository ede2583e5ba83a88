"""The example programs, which use components without this project's program, work as their README says."""

import re
import runpy
from collections.abc import Iterator
from functools import cache

import pytest
import yaml

from lab import ROOT
from lab.azure.azure import Account, OfflineAzure
from lab.azure.program import PROJECT
from policy.nsg import INTERNET, Traffic
from policy.resources import StackResources
from tests.configuration import LOCATION
from tests.runs import APPLICATIONS, Plan, all_of, depends_on, deployed, one, planned_program

HUB_AND_SPOKE = ROOT / "examples" / "hub-and-spoke"
PEER_SPACE = "10.2.0.0/16"
HUB_HOST, APPLICATION, PEER, OUTSIDER = "10.0.0.50", "10.50.0.10", "10.2.0.10", "10.77.0.10"


@cache
def hub_and_spoke() -> Plan:
    project = yaml.safe_load((HUB_AND_SPOKE / "Pulumi.yaml").read_text(encoding="utf-8"))
    values = {
        LOCATION: project["config"][LOCATION],
        f"{PROJECT}:onPremises": APPLICATIONS,
        f"{PROJECT}:peerSpaces": f'["{PEER_SPACE}"]',
    }

    def program() -> None:
        runpy.run_path(str(HUB_AND_SPOKE / project["main"]), run_name="__main__")

    return planned_program(
        program,
        OfflineAzure().account(Account.of("hub-and-spoke", "bank")),
        values=values,
    )


def spoke() -> Traffic:
    """The spoke's security rules, with all addresses that the hub may route there."""
    run = hub_and_spoke()
    network_id = run.ids[one(run, "VirtualNetwork", "spoke-vnet").urn]
    own = [
        each
        for each in deployed(run).every
        if each.id.startswith(network_id) or each.type.endswith(":NetworkSecurityGroup")
    ]
    return Traffic(StackResources(tuple(own)), routed=["10.0.0.0/8"])


def test_each_network_makes_its_half_of_the_peering():
    run = hub_and_spoke()
    ids = {name: run.ids[one(run, "VirtualNetwork", f"{name}-vnet").urn] for name in ("hub", "spoke")}
    for near, far in (("hub", "spoke"), ("spoke", "hub")):
        half = one(run, "VirtualNetworkPeering", f"{near}-to-{far}")
        assert half.inputs["virtualNetworkName"] == ids[near].rsplit("/", 1)[1], "each half is in its own network"
        assert half.inputs["remoteVirtualNetwork"]["id"] == ids[far], "one half alone is not connected"
        assert half.inputs["allowVirtualNetworkAccess"] is True


def test_the_spoke_uses_the_hubs_gateway():
    run = hub_and_spoke()
    hub_half, spoke_half = (one(run, "VirtualNetworkPeering", name) for name in ("hub-to-spoke", "spoke-to-hub"))
    assert hub_half.inputs["allowGatewayTransit"] is True, "otherwise the spoke could not use the gateway"
    assert spoke_half.inputs["useRemoteGateways"] is True, "otherwise it would learn no route to the peers"
    assert "useRemoteGateways" not in hub_half.inputs, "Azure refuses it at the network that has the gateway"
    gateway = one(run, "VirtualNetworkGateway")
    assert [each["subnet"]["id"] for each in gateway.inputs["ipConfigurations"]] == [
        run.ids[one(run, "Subnet", "hub-gateway-subnet").urn]
    ], "Azure refuses the spoke's half where the spoke has a gateway too"


def test_the_halves_depend_on_the_gateway_and_on_each_other():
    run = hub_and_spoke()
    hub_half, spoke_half = (one(run, "VirtualNetworkPeering", name) for name in ("hub-to-spoke", "spoke-to-hub"))
    waits = depends_on(run, hub_half)
    assert "hub-gateway" in waits, "the hub's gateway must exist first"
    subnets = {each.name for each in all_of(run, "Subnet") if each.name.startswith("spoke-")}
    assert subnets <= waits, "Azure changes a network one request at a time"
    assert "hub-to-spoke" in depends_on(run, spoke_half)


def test_the_vault_has_an_endpoint_in_the_spoke_only():
    run = hub_and_spoke()
    vaults, reached = all_of(run, "Vault"), []
    for vault in vaults:
        assert vault.inputs["properties"]["publicNetworkAccess"] == "Disabled"
        assert vault.inputs["properties"]["networkAcls"] == {"defaultAction": "Deny", "bypass": "None"}
        assert vault.request.protect, "the bank's keys are protected from deletion"
    for endpoint in all_of(run, "network:PrivateEndpoint"):
        assert endpoint.inputs["subnet"]["id"] == run.ids[one(run, "Subnet", "spoke-endpoints").urn]
        reached += [each["privateLinkServiceId"] for each in endpoint.inputs["privateLinkServiceConnections"]]
    assert sorted(reached) == sorted(run.ids[vault.urn] for vault in vaults)


def test_the_vaults_name_resolves_in_both_networks():
    run = hub_and_spoke()
    (zone,) = {
        each["privateDnsZoneId"]
        for group in all_of(run, "PrivateDnsZoneGroup")
        for each in group.inputs["privateDnsZoneConfigs"]
    }
    linked = {
        each.inputs["virtualNetwork"]["id"]
        for each in all_of(run, "VirtualNetworkLink")
        if each.inputs["privateZoneName"] == zone.rsplit("/", 1)[1]
    }
    assert linked == {run.ids[each.urn] for each in all_of(run, "VirtualNetwork")}


def open_ways(traffic: Traffic) -> Iterator[tuple[str, str, int]]:
    """Every allowed connection from or to the spoke: both ends and the port."""
    inside = {traffic.host(name): name for name in traffic.subnets if name != "GatewaySubnet"}
    outside = {
        HUB_HOST: "hub",
        APPLICATION: "on-premises",
        PEER: "peer",
        OUTSIDER: "outsider",
        INTERNET: "internet",
    }
    places = {**inside, **outside}
    for source, source_name in places.items():
        for destination, name in places.items():
            if source in inside or destination in inside:
                for port in traffic.boundaries():
                    if traffic.allows(source, destination, port):
                        yield source_name, name, port


def test_only_named_flows_are_open():
    assert set(open_ways(spoke())) == {
        ("peer", "nodes", 10000),
        ("nodes", "peer", 10000),
        ("nodes", "nodes", 10000),
        ("on-premises", "nodes", 10200),
        ("on-premises", "endpoints", 443),
        ("nodes", "endpoints", 443),
        ("nodes", "endpoints", 2049),
        ("nodes", "internet", 80),
        ("nodes", "internet", 443),
    }, "the spoke's own rules must filter everything that the hub routes to it"


@pytest.mark.parametrize("target", re.findall(r"\]\(([^)\s]+)\)", (HUB_AND_SPOKE / "README.md").read_text("utf-8")))
def test_the_readmes_links_exist(target: str):
    assert (HUB_AND_SPOKE / target).exists()
