"""Network security rules from named flows: what is not named is denied inside the virtual network."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from pulumi_azure_native import network

_FIRST_PRIORITY, _STEP, _LAST_PRIORITY = 100, 10, 4096


class Tag(StrEnum):
    """Service tags of Azure's network security groups."""

    VIRTUAL_NETWORK = "VirtualNetwork"
    """The network itself, and all that is routed to it through a gateway: every peer."""
    LOAD_BALANCER = "AzureLoadBalancer"
    INTERNET = "Internet"
    STORAGE = "Storage"
    ENTRA_ID = "AzureActiveDirectory"


Ends = Tag | Sequence[str]
"""Where a flow starts or ends: one service tag, or address prefixes."""


@dataclass(frozen=True, kw_only=True)
class Flow:
    """TCP connections that are allowed; none where an end has no prefix or there is no port."""

    name: str
    description: str
    source: Ends
    destination: Ends
    ports: Iterable[int]


def port_ranges(ports: Iterable[int]) -> list[str]:
    """The ports as Azure writes them, runs of neighbours as one range, lowest first."""
    runs: list[list[int]] = []
    for port in sorted(set(ports)):
        if runs and port == runs[-1][1] + 1:
            runs[-1][1] = port
        else:
            runs.append([port, port])
    return [str(first) if first == last else f"{first}-{last}" for first, last in runs]


def security_rules(
    *, inbound: Sequence[Flow], outbound: Sequence[Flow], deny_internet: bool = True
) -> list[network.SecurityRuleArgs]:
    """The rules of one network security group.

    Azure's own rules let the whole virtual network in and out, and count a peer behind the gateway to it;
    the last rule of each direction takes that back. The probe of a load balancer is let in by a flow, or not.

    Args:
        inbound: flows to the subnet.
        outbound: flows from the subnet.
        deny_internet: whether what no outbound flow names may not reach the internet either.
    """
    rules = [
        *_allow(inbound, network.SecurityRuleDirection.INBOUND),
        _deny("DenyVirtualNetworkIn", Tag.VIRTUAL_NETWORK, network.SecurityRuleDirection.INBOUND, _LAST_PRIORITY),
        *_allow(outbound, network.SecurityRuleDirection.OUTBOUND),
        _deny("DenyVirtualNetworkOut", Tag.VIRTUAL_NETWORK, network.SecurityRuleDirection.OUTBOUND, _LAST_PRIORITY),
    ]
    if deny_internet:
        rules.append(
            _deny("DenyInternetOut", Tag.INTERNET, network.SecurityRuleDirection.OUTBOUND, _LAST_PRIORITY - 1)
        )
    return rules


def _allow(flows: Sequence[Flow], direction: network.SecurityRuleDirection) -> list[network.SecurityRuleArgs]:
    open_flows = [
        (flow, ranges)
        for flow in flows
        if (ranges := port_ranges(flow.ports)) and len(flow.source) and len(flow.destination)
    ]
    return [
        network.SecurityRuleArgs(
            # Unique in the group, over both directions.
            name=f"{flow.name}{'In' if direction == network.SecurityRuleDirection.INBOUND else 'Out'}",
            description=flow.description,
            priority=_FIRST_PRIORITY + _STEP * place,
            direction=direction,
            access=network.SecurityRuleAccess.ALLOW,
            protocol=network.SecurityRuleProtocol.TCP,
            **_end("source", flow.source),
            source_port_range="*",
            **_end("destination", flow.destination),
            destination_port_ranges=ranges,
        )
        for place, (flow, ranges) in enumerate(open_flows)
    ]


def _end(side: str, end: Ends) -> dict[str, str | Sequence[str]]:
    if isinstance(end, Tag):
        return {f"{side}_address_prefix": end.value}
    return {f"{side}_address_prefixes": end}


def _deny(name: str, far: Tag, direction: network.SecurityRuleDirection, priority: int) -> network.SecurityRuleArgs:
    inbound = direction == network.SecurityRuleDirection.INBOUND
    return network.SecurityRuleArgs(
        name=name,
        description="What no rule above names stays out.",
        priority=priority,
        direction=direction,
        access=network.SecurityRuleAccess.DENY,
        protocol=network.SecurityRuleProtocol.ASTERISK,
        source_address_prefix=far.value if inbound else "*",
        source_port_range="*",
        destination_address_prefix="*" if inbound else far.value,
        destination_port_range="*",
    )
