"""The network in a member's plan: gateway, halves of links, subnets with their rules and listeners."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from contract.card import IpsecPolicy
from lab.azure import arm
from lab.azure.program import Run
from stack.outputs import CARD_OUTPUT

Rule = Mapping[str, Any]
"""A security rule with Azure's property names."""


@dataclass(frozen=True)
class Instance:
    """One instance of a VPN gateway."""

    public_ip: IPv4Address
    bgp_ip: IPv4Address
    """The instance's BGP address, in the virtual network."""


@dataclass(frozen=True)
class Half:
    """One side's connection: each of its instances has a tunnel to each far end."""

    name: str
    far_ends: tuple[Instance, ...]
    asn: int | None
    """ASN of the far end; None without BGP."""
    space: IPv4Network | None
    """Static routes over it; None with BGP."""
    key: str
    policy: IpsecPolicy
    dead_peer_seconds: int


@dataclass(frozen=True)
class PlannedSubnet:
    """A subnet with a network security group."""

    name: str
    prefix: IPv4Network
    rules: tuple[Rule, ...]
    listeners: frozenset[tuple[IPv4Address, int]]
    """Addresses and ports of the load balancers in it."""


@dataclass(frozen=True)
class MemberPlan:
    """One member's network."""

    name: str
    outputs: Mapping[str, Any]
    """The stack's outputs."""
    space: IPv4Network
    gateway_subnet: IPv4Network
    asn: int
    instances: tuple[Instance, ...]
    halves: tuple[Half, ...]
    subnets: tuple[PlannedSubnet, ...]

    @property
    def card(self) -> Mapping[str, Any]:
        """The member's card, the public part of the plan."""
        card: Mapping[str, Any] = self.outputs[CARD_OUTPUT]
        return card

    @property
    def filtered(self) -> list[PlannedSubnet]:
        """The subnets with listeners."""
        return [each for each in self.subnets if each.listeners]

    @staticmethod
    def of(run: Run) -> "MemberPlan":
        """Read the plan from a run: each value from the resource that Azure reads."""
        (network,) = _resources(run, "network:VirtualNetwork")
        (gateway,) = (each for each in _resources(run, "network:VirtualNetworkGateway") if _is_vpn(each))
        subnets = {each["subnetName"]: each for each in _resources(run, "network:Subnet")}
        (space,) = network["addressSpace"]["addressPrefixes"]
        return MemberPlan(
            name=run.outputs[CARD_OUTPUT]["name"],
            outputs=run.outputs,
            space=IPv4Network(space),
            gateway_subnet=IPv4Network(subnets["GatewaySubnet"]["addressPrefix"]),
            asn=gateway["bgpSettings"]["asn"],
            instances=_instances(gateway),
            halves=tuple(_half(run, each) for each in _resources(run, "network:VirtualNetworkGatewayConnection")),
            subnets=tuple(
                _subnet(run, name, each) for name, each in subnets.items() if each.get("networkSecurityGroup")
            ),
        )


def _resources(run: Run, kind: str) -> Iterator[dict[str, Any]]:
    """Inputs and outputs of the member's own resources of a type. Secrets come from the program."""
    asked = {each.name: each.inputs for each in run.registrations.values() if arm.short_token(each.type) == kind}
    for resource in list(run.azure.resources.values()):
        if resource.short == kind and resource.subscription_id == run.azure.account.subscription_id:
            yield _read(run, resource.id, asked[resource.logical_name])


def _read(run: Run, resource_id: str, known: Mapping[str, Any]) -> dict[str, Any]:
    found = run.azure.read(resource_id, known)
    assert found, f"{resource_id} is not there"
    return found[1]


def _is_vpn(gateway: Mapping[str, Any]) -> bool:
    return bool(gateway["gatewayType"] == "Vpn")


def _instances(gateway: Mapping[str, Any]) -> tuple[Instance, ...]:
    return tuple(
        Instance(IPv4Address(each["tunnelIpAddresses"][0]), IPv4Address(each["defaultBgpIpAddresses"][0]))
        for each in gateway["bgpSettings"]["bgpPeeringAddresses"]
    )


def _half(run: Run, connection: Mapping[str, Any]) -> Half:
    (policy,) = connection["ipsecPolicies"]
    asn, space = None, None
    if connection["connectionType"] == "Vnet2Vnet":
        # Azure resolves the other gateway and its network by their ids, in whatever subscription they are.
        gateway = _read(run, connection["virtualNetworkGateway2"]["id"], {})
        far_ends = _instances(gateway)
        network_id = gateway["ipConfigurations"][0]["subnet"]["id"].split("/subnets/")[0]
        (prefix,) = _read(run, network_id, {})["addressSpace"]["addressPrefixes"]
        space = IPv4Network(prefix)
    else:
        far_end = _read(run, connection["localNetworkGateway2"]["id"], {})
        settings = far_end["bgpSettings"]
        far_ends = (Instance(IPv4Address(far_end["gatewayIpAddress"]), IPv4Address(settings["bgpPeeringAddress"])),)
        asn = settings["asn"]
    assert connection["enableBgp"] == (asn is not None), "a connection has routes by BGP, or those of a network"
    return Half(
        name=connection["name"],
        far_ends=far_ends,
        asn=asn,
        space=space,
        key=connection["sharedKey"],
        policy=IpsecPolicy.model_validate(policy),
        dead_peer_seconds=connection["dpdTimeoutSeconds"],
    )


def _subnet(run: Run, name: str, subnet: Mapping[str, Any]) -> PlannedSubnet:
    prefix = IPv4Network(subnet["addressPrefix"])
    return PlannedSubnet(
        name=name,
        prefix=prefix,
        rules=tuple(_read(run, subnet["networkSecurityGroup"]["id"], {})["securityRules"]),
        listeners=frozenset(
            (address, rule["frontendPort"])
            for balancer in _resources(run, "network:LoadBalancer")
            for frontend in balancer["frontendIPConfigurations"]
            if (address := IPv4Address(frontend["privateIPAddress"])) in prefix
            for rule in balancer["loadBalancingRules"]
        ),
    )
