"""Network security groups as nftables, from the rules of a plan."""

from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Network

from lab.links.plans import PlannedSubnet, Rule
from policy.nsg import AZURE_DEFAULTS, ENTRA_ID, HOST, STORAGE

_TAGS = {
    # The tag includes the host's address, and everything that is routed through a gateway.
    "VirtualNetwork": "@virtual_network",
    "Internet": "!= @virtual_network",
    "AzureLoadBalancer": HOST,
    "Storage": STORAGE,
    "AzureActiveDirectory": ENTRA_ID,
}


def ruleset(subnets: Iterable[PlannedSubnet], virtual_network: Iterable[IPv4Network]) -> str:
    """A router's table for subnets, each behind the device of its name; it replaces an earlier one.

    Args:
        subnets: those with a group.
        virtual_network: the network's own range, and what its gateways have learned.
    """
    subnets = list(subnets)
    members = ", ".join([HOST, *map(str, virtual_network)])
    # A connection passes the group of its source subnet, then that of its destination subnet.
    jumps = [
        *(f"iifname {each.name} jump {each.name}-outbound" for each in subnets),
        *(f"oifname {each.name} jump {each.name}-inbound" for each in subnets),
    ]
    chains = [
        f"chain {each.name}-{direction.lower()} {{\n{_lines(_rules(each.rules, direction))} }}\n"
        for each in subnets
        for direction in ("Outbound", "Inbound")
    ]
    return (
        "table ip groups\ndelete table ip groups\ntable ip groups {\n"
        f"set virtual_network {{ type ipv4_addr; flags interval; auto-merge; elements = {{ {members} }}; }}\n"
        f"{''.join(chains)}"
        "chain forward { type filter hook forward priority 0; policy accept;\n"
        f"ct state established,related accept\n{_lines(jumps)} }}\n}}\n"
    )


def _lines(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _rules(rules: Sequence[Rule], direction: str) -> Iterator[str]:
    """The rules of a direction, including Azure's default ones, in the order of their priorities."""
    chosen = [each for each in (*rules, *AZURE_DEFAULTS) if each["direction"] == direction]
    for rule in sorted(chosen, key=lambda each: int(each["priority"])):
        verdict = "return" if rule["access"] == "Allow" else "drop"
        matches = (_end(rule, "source", "saddr"), _end(rule, "destination", "daddr"), _ports(rule), verdict)
        yield " ".join(each for each in matches if each)


def _end(rule: Rule, side: str, field: str) -> str:
    prefix = rule.get(f"{side}AddressPrefix")
    if prefix == "*":
        return ""
    if prefix in _TAGS:
        return f"ip {field} {_TAGS[prefix]}"
    prefixes = [*(rule.get(f"{side}AddressPrefixes") or ()), *([prefix] if prefix else [])]
    return f"ip {field} {{ {', '.join(prefixes)} }}"


def _ports(rule: Rule) -> str:
    assert rule["sourcePortRange"] == "*", "no rule of the program names a source's port"
    ranges = [*(rule.get("destinationPortRanges") or ()), *filter(None, [rule.get("destinationPortRange")])]
    protocol = rule["protocol"].lower()
    if "*" in ranges:
        return "" if protocol == "*" else f"meta l4proto {protocol}"
    assert protocol != "*", "a port is of a protocol"
    return f"{protocol} dport {{ {', '.join(ranges)} }}"
