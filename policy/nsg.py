"""Which connections Azure's network security groups allow, evaluated from the rules of a run.

Sources: learn.microsoft.com/azure/virtual-network/network-security-groups-overview (order, default rules) and
.../virtual-network/service-tags-overview (addresses of each tag).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, ip_address, ip_network
from typing import Any, NamedTuple

from policy.resources import StackResources

HOST = "168.63.129.16"
"""Azure's platform address on each host, from which load balancers probe."""
STORAGE, ENTRA_ID, INTERNET = "20.60.0.10", "20.190.128.10", "8.8.8.8"
"""Sample addresses: of Azure Storage, of Entra ID, and of neither."""

ANY_PORT = (0, 65535)


def _default(direction: str, priority: int, access: str, source: str, destination: str) -> dict[str, Any]:
    return {
        "direction": direction,
        "priority": priority,
        "access": access,
        "protocol": "*",
        "sourceAddressPrefix": source,
        "sourcePortRange": "*",
        "destinationAddressPrefix": destination,
        "destinationPortRange": "*",
    }


AZURE_DEFAULTS = (
    _default("Inbound", 65000, "Allow", "VirtualNetwork", "VirtualNetwork"),
    _default("Inbound", 65001, "Allow", "AzureLoadBalancer", "*"),
    _default("Inbound", 65500, "Deny", "*", "*"),
    _default("Outbound", 65000, "Allow", "VirtualNetwork", "VirtualNetwork"),
    _default("Outbound", 65001, "Allow", "*", "Internet"),
    _default("Outbound", 65500, "Deny", "*", "*"),
)
"""Azure's default rules of every security group, with lower priority than its own rules."""


class Connection(NamedTuple):
    """A connection attempt."""

    source: str
    destination: str
    port: int
    protocol: str = "Tcp"


@dataclass(frozen=True)
class TagScope:
    """The addresses of service tags, seen from one virtual network."""

    space: IPv4Network
    """Address space of the virtual network."""
    routed: tuple[IPv4Network, ...] = ()
    """Ranges that the gateways have learned: peers, applications, and any other advertised range."""

    def tagged(self, tag: str, address: IPv4Address) -> bool:
        """Whether a service tag includes an address.

        Raises:
            LookupError: unknown tag.
        """
        host = address == ip_address(HOST)
        # The tag includes the host's address, and everything that is routed through a gateway.
        virtual_network = host or any(address in block for block in (self.space, *self.routed))
        match tag:
            case "VirtualNetwork":
                return virtual_network
            case "AzureLoadBalancer":
                return host
            case "Internet":
                return not virtual_network
            case "Storage":
                return address == ip_address(STORAGE)
            case "AzureActiveDirectory":
                return address == ip_address(ENTRA_ID)
        raise LookupError(f"no service tag {tag}")

    def allowed(self, rules: Sequence[Mapping[str, Any]], direction: str, connection: Connection) -> bool:
        """Whether a security group allows a connection: the first matching rule decides."""
        candidates = [rule for rule in (*rules, *AZURE_DEFAULTS) if rule["direction"] == direction]
        for rule in sorted(candidates, key=lambda rule: rule["priority"]):
            if (
                rule["protocol"] in ("*", connection.protocol)
                and self._end(rule, "source", ip_address(connection.source))
                and self._end(rule, "destination", ip_address(connection.destination))
                and any(first <= connection.port <= last for first, last in ports_of(rule))
            ):
                return bool(rule["access"] == "Allow")
        raise AssertionError("Azure's default rules fit everything")

    def _end(self, rule: Mapping[str, Any], side: str, address: Any) -> bool:
        prefixes = list(rule.get(f"{side}AddressPrefixes") or ())
        if rule.get(f"{side}AddressPrefix"):
            prefixes.append(rule[f"{side}AddressPrefix"])
        return any(
            prefix == "*" or (address in ip_network(prefix) if prefix[0].isdigit() else self.tagged(prefix, address))
            for prefix in prefixes
        )


def ports_of(rule: Mapping[str, Any]) -> Iterator[tuple[int, int]]:
    """The destination ports of a rule, as pairs of first and last port."""
    ranges = list(rule.get("destinationPortRanges") or ())
    if rule.get("destinationPortRange"):
        ranges.append(rule["destinationPortRange"])
    for text in ranges:
        if text == "*":
            yield ANY_PORT
        else:
            first, _, last = text.partition("-")
            yield int(first), int(last or first)


class Traffic:
    """Which connections one member's network allows, by the subnets and security groups of a run."""

    def __init__(self, stack: StackResources, *, routed: Sequence[str] = ()) -> None:
        (space,) = stack.one("VirtualNetwork").inputs["addressSpace"]["addressPrefixes"]
        self.scope = TagScope(IPv4Network(space), tuple(IPv4Network(block) for block in routed))
        self.subnets: dict[str, Mapping[str, Any]] = {
            each.inputs["subnetName"]: each.inputs for each in stack.of("Subnet")
        }
        self.groups = {each.id: each.inputs["securityRules"] for each in stack.of("NetworkSecurityGroup")}

    def host(self, subnet: str) -> str:
        """An address of a VM in a subnet."""
        return str(ip_network(self.subnets[subnet]["addressPrefix"])[10])

    def rules(self, subnet: str) -> Sequence[Mapping[str, Any]] | None:
        """The rules of a subnet's security group; None if it has no group."""
        group = self.subnets[subnet].get("networkSecurityGroup")
        return self.groups[group["id"]] if group else None

    def allows(self, source: str, destination: str, port: int, protocol: str = "Tcp") -> bool:
        """Whether the security groups at both ends allow a connection."""
        connection = Connection(source, destination, port, protocol)
        return self._end_allows("Outbound", source, connection) and self._end_allows(
            "Inbound", destination, connection
        )

    def boundaries(self) -> list[int]:
        """Ports that suffice to test all rules: the first and last port of each range, and the ports next to them."""
        edges = {edge for rules in self.groups.values() for rule in rules for pair in ports_of(rule) for edge in pair}
        return sorted({port for edge in edges for port in (edge - 1, edge, edge + 1) if 1 <= port <= ANY_PORT[1]})

    def _subnet_of(self, address: str) -> str | None:
        for name, subnet in self.subnets.items():
            if ip_address(address) in ip_network(subnet["addressPrefix"]):
                return name
        return None

    def _end_allows(self, direction: str, end: str, connection: Connection) -> bool:
        subnet = self._subnet_of(end)
        rules = self.rules(subnet) if subnet else None
        if rules is None or (direction == "Inbound" and self._unfiltered_endpoints(subnet)):
            return True
        return self.scope.allowed(rules, direction, connection)

    def _unfiltered_endpoints(self, subnet: str | None) -> bool:
        # Private endpoints ignore the security group unless their subnet enables network policies.
        policies = self.subnets[subnet or ""].get("privateEndpointNetworkPolicies")
        return subnet == "endpoints" and policies not in ("Enabled", "NetworkSecurityGroupEnabled")
