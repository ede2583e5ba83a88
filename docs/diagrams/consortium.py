"""The picture of a consortium: its banks, their links, the notary and the authority."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

from components.flows import Remote, Subnet
from docs.diagrams.picture import Arrow, Box, Direction, Group, Kind, Line, Picture, Scope
from docs.diagrams.stack import LINKS, Stack, many, word
from policy.resources import StackResource

_NOTARY = "notary"
"""The role of the nodes that notarise."""


def picture_of_consortium(stacks: Sequence[Stack], tenants: Mapping[str, str]) -> Picture:
    """The picture of the banks' registered resources.

    Args:
        stacks: one for each bank, in the order of joining.
        tenants: names of the Entra tenants, by their ids.
    """
    groups: dict[str, list[Group]] = {}
    for stack in stacks:
        groups.setdefault(tenants[stack.card["tenantId"]], []).append(_bank(stack, stacks))
    return Picture(
        f"consortium of {', '.join(each.name for each in stacks)}",
        Direction.RIGHT,
        tuple(
            Group(f"tenant_{word(tenant)}", Scope.TENANT, f"Entra tenant {tenant}", tuple(banks))
            for tenant, banks in groups.items()
        ),
        tuple(link for one, other in combinations(stacks, 2) for link in _link(one, other)),
    )


def _bank(stack: Stack, stacks: Sequence[Stack]) -> Group:
    boxes = (_network(stack), *_nodes(stack), *_authority(stack, stacks))
    return Group(f"{word(stack.name)}_bank", Scope.MEMBER, f"{stack.name}, {stack.card['location']}", boxes)


def _network(stack: Stack) -> Box:
    gateway, space = stack.card["gateway"], stack.card["addressSpace"]
    if gateway is None:
        return Box(_network_key(stack), Kind.CIRCUIT, space, ("ExpressRoute gateway",))
    return Box(_network_key(stack), Kind.GATEWAY, space, (f"VPN gateway, AS {gateway['asn']}",))


def _network_key(stack: Stack) -> str:
    return f"{word(stack.name)}_network"


def _nodes(stack: Stack) -> Iterator[Box]:
    sets = stack.inside(Subnet.NODES, "compute:VirtualMachineScaleSet")
    vms = many(sum(each.inputs["sku"]["capacity"] for each in sets), "VM")
    notaries = [each["legalName"].partition(",")[0] for each in stack.card["nodes"] if each["role"] == _NOTARY]
    others = len(stack.card["nodes"]) - len(notaries)
    yield Box(f"{word(stack.name)}_nodes", Kind.VMS, many(others, "ledger node"), (f"on {vms}",))
    if notaries:
        yield Box(f"{word(stack.name)}_notary", Kind.NOTARY, "notary", tuple(notaries))


def _authority(stack: Stack, stacks: Sequence[Stack]) -> Iterator[Box]:
    for balancer in stack.inside(Subnet.AUTHORITY, "network:LoadBalancer"):
        (frontend,) = balancer.inputs["frontendIPConfigurations"]
        address = f"{frontend['privateIPAddress']}/32"
        names = [each.name for each in stacks if each is stack or address in each.addresses(Remote.PEERS_AUTHORITY)]
        details = (f"certifies {', '.join(names)}",)
        yield Box(f"{word(stack.name)}_authority", Kind.AUTHORITY, "network authority", details)


def _link(one: Stack, other: Stack) -> Iterator[Arrow]:
    """The link of two banks, if at least one of them has created its half."""
    halves = [
        (own, [each for each in own.resources.of("VirtualNetworkGatewayConnection") if _leads(own, each, far)])
        for own, far in ((one, other), (other, one))
        if far.card["addressSpace"] in own.addresses(Remote.PEERS)
    ]
    if not halves:
        return
    first, connections = halves[0]
    # Over ExpressRoute there is no connection resource to the other bank: each has its own circuit.
    label = ["ExpressRoute"]
    if connections:
        kind = LINKS[connections[0].inputs["connectionType"]]
        label = [kind, f"{many(len(connections), 'connection')} a side"]
    whole = len(halves) == len((one, other))
    if not whole:
        label.append(f"only {first.name}'s half")
    yield Arrow(_network_key(one), _network_key(other), Line.LINK, tuple(label), both_ways=whole)


def _leads(own: Stack, connection: StackResource, far: Stack) -> bool:
    """Whether a connection leads to another bank's gateway: to its id, or to one of its addresses."""
    gateway = far.card["gateway"]
    if gateway is None:
        return False
    by_id, by_address = (connection.inputs.get(f"{end}NetworkGateway2") for end in ("virtual", "local"))
    if by_id:
        return bool(by_id["id"] == gateway["id"])
    addresses = [
        each.inputs["gatewayIpAddress"]
        for each in own.resources.of("network:LocalNetworkGateway")
        if by_address and each.id == by_address["id"]
    ]
    return any(each["publicIp"] in addresses for each in gateway["instances"])
