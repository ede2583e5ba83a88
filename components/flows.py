"""The TCP flows of a member's network as one table, from which each subnet's security rules follow.

Within the virtual network every connection that is not in the table is denied.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from pulumi_azure_native import network

from contract.egress import Egress, port_ranges
from contract.listeners import Audience, Listener
from contract.ports import HTTP_PORT, HTTPS_PORT, NFS_PORT, PGBOUNCER_PORT, POSTGRESQL_PORT

_FIRST_PRIORITY, _STEP, _LAST_PRIORITY = 100, 10, 4096
_INBOUND, _OUTBOUND = network.SecurityRuleDirection.INBOUND, network.SecurityRuleDirection.OUTBOUND


class Subnet(StrEnum):
    """A subnet of the member with a network security group. Azure allows none on the gateways' subnet."""

    NODES = "nodes"
    ENDPOINTS = "endpoints"
    DATABASE = "database"
    AUTHORITY = "authority"


class Remote(StrEnum):
    """Addresses outside the member's network, from its configuration and its peers' cards."""

    PEERS = "peers"
    """The address spaces of the linked members."""
    PEERS_AUTHORITY = "peer's authority"
    """The address of the network authority that a peer runs; none if the member runs its own."""
    APPLICATIONS = "applications"
    """The networks of the bank's own applications and operators."""


class Tag(StrEnum):
    """Service tags of Azure's network security groups."""

    VIRTUAL_NETWORK = "VirtualNetwork"
    """The network itself and all ranges that its gateway has learned: every peer."""
    LOAD_BALANCER = "AzureLoadBalancer"
    INTERNET = "Internet"
    STORAGE = "Storage"
    ENTRA_ID = "AzureActiveDirectory"


class PortGroup(StrEnum):
    """Ports that depend on the platform, and on the nodes and the authority that a member runs."""

    PEER_LISTENERS = "peer listeners"
    """Ports of this member's nodes for peers."""
    PEERS_PORTS = "peers' ports"
    """Ports on which the peers' nodes may listen."""
    APPLICATION_LISTENERS = "application listeners"
    """Ports of this member's nodes for the bank's applications."""
    NODE_PROBES = "node probes"
    """Ports of node VMs that the load balancer probes."""
    AUTHORITY_LISTENERS = "authority listeners"
    """Ports of this member's authority."""
    PEERS_AUTHORITY_LISTENERS = "peer's authority listeners"
    """Ports of the authority that a peer runs."""
    AUTHORITY_PROBES = "authority probes"
    """Ports of the authority's VMs that the load balancer probes."""


@dataclass(frozen=True, kw_only=True)
class Flow:
    """TCP connections that are allowed from a source to a destination."""

    name: str
    """Begins the names of its security rules."""
    description: str
    """Why it is open; 140 characters at most in Azure."""
    source: Subnet | Remote | Tag
    destination: Subnet | Remote | Tag
    ports: PortGroup | Sequence[int]
    by_node: bool = False
    """Whether ledger node processes open them too, and not only the agent: the VM's firewall then allows them."""


FLOWS = (
    Flow(
        name="PeersToNodes",
        description="Other members' nodes open ledger connections and read this member's network information.",
        source=Remote.PEERS,
        destination=Subnet.NODES,
        ports=PortGroup.PEER_LISTENERS,
    ),
    Flow(
        name="NodesToPeers",
        description="Nodes open ledger connections to other members and read their network information.",
        source=Subnet.NODES,
        destination=Remote.PEERS,
        ports=PortGroup.PEERS_PORTS,
        by_node=True,
    ),
    Flow(
        name="NodesToNodes",
        description="This member's nodes are peers of each other.",
        source=Subnet.NODES,
        destination=Subnet.NODES,
        ports=PortGroup.PEER_LISTENERS,
        by_node=True,
    ),
    Flow(
        name="ApplicationsToNodes",
        description="The bank's applications call the nodes by RPC.",
        source=Remote.APPLICATIONS,
        destination=Subnet.NODES,
        ports=PortGroup.APPLICATION_LISTENERS,
    ),
    Flow(
        name="ProbesToNodes",
        description="The load balancer asks which VM serves a listener.",
        source=Tag.LOAD_BALANCER,
        destination=Subnet.NODES,
        ports=PortGroup.NODE_PROBES,
    ),
    Flow(
        name="PeersToAuthority",
        description="Other members' nodes request certificates and read revocation lists.",
        source=Remote.PEERS,
        destination=Subnet.AUTHORITY,
        ports=PortGroup.AUTHORITY_LISTENERS,
    ),
    Flow(
        name="NodesToAuthority",
        description="This member's nodes request certificates and read revocation lists.",
        source=Subnet.NODES,
        destination=Subnet.AUTHORITY,
        ports=PortGroup.AUTHORITY_LISTENERS,
    ),
    Flow(
        name="NodesToPeersAuthority",
        description="Nodes request certificates and read revocation lists where a peer runs the authority.",
        source=Subnet.NODES,
        destination=Remote.PEERS_AUTHORITY,
        ports=PortGroup.PEERS_AUTHORITY_LISTENERS,
    ),
    Flow(
        name="ProbesToAuthority",
        description="The load balancer asks which of the authority's VMs serves.",
        source=Tag.LOAD_BALANCER,
        destination=Subnet.AUTHORITY,
        ports=PortGroup.AUTHORITY_PROBES,
    ),
    Flow(
        name="NodesToEndpoints",
        description="Nodes use Key Vault and blobs over HTTPS and mount the ledger's share over NFS.",
        source=Subnet.NODES,
        destination=Subnet.ENDPOINTS,
        ports=(HTTPS_PORT, NFS_PORT),
    ),
    Flow(
        name="AuthorityToEndpoints",
        description="The authority uses its keys and its register over HTTPS and mounts no share.",
        source=Subnet.AUTHORITY,
        destination=Subnet.ENDPOINTS,
        ports=(HTTPS_PORT,),
    ),
    Flow(
        name="ApplicationsToEndpoints",
        description="The bank's operators read the secrets that their roles allow and mount no share.",
        source=Remote.APPLICATIONS,
        destination=Subnet.ENDPOINTS,
        ports=(HTTPS_PORT,),
    ),
    Flow(
        name="NodesToDatabase",
        description="Only node VMs connect to the ledger's databases.",
        source=Subnet.NODES,
        destination=Subnet.DATABASE,
        ports=(POSTGRESQL_PORT,),
        by_node=True,
    ),
    Flow(
        name="DatabaseToDatabase",
        description="The primary and the standby of a highly available server connect to each other.",
        source=Subnet.DATABASE,
        destination=Subnet.DATABASE,
        ports=(POSTGRESQL_PORT, PGBOUNCER_PORT),
    ),
    Flow(
        name="DatabaseToStorage",
        description="The server archives its write-ahead log to Azure Storage.",
        source=Subnet.DATABASE,
        destination=Tag.STORAGE,
        ports=(HTTPS_PORT,),
    ),
    Flow(
        name="DatabaseToEntra",
        description="The server checks the Entra ID tokens of the clients that sign in.",
        source=Subnet.DATABASE,
        destination=Tag.ENTRA_ID,
        ports=(HTTPS_PORT,),
    ),
    Flow(
        name="NodesToInternet",
        description="Node VMs download packages and reach Azure's own services through the NAT gateway.",
        source=Subnet.NODES,
        destination=Tag.INTERNET,
        ports=(HTTP_PORT, HTTPS_PORT),
    ),
    Flow(
        name="AuthorityToInternet",
        description="The authority's VMs download packages and reach Azure's own services through the NAT gateway.",
        source=Subnet.AUTHORITY,
        destination=Tag.INTERNET,
        ports=(HTTP_PORT, HTTPS_PORT),
    ),
)
"""All flows. Rule priorities follow this order: a new row renumbers the rules after it."""


def port_groups(
    *,
    listeners: Sequence[Listener],
    peers_ports: Iterable[int],
    authority_listeners: Sequence[Listener],
    peers_authority_ports: Iterable[int],
) -> dict[PortGroup, list[int]]:
    """Port numbers of each port group at one member; empty if it has no such listener.

    Args:
        listeners: listeners of the node VMs.
        peers_ports: ports of the peers' node VMs.
        authority_listeners: listeners of the authority that the member runs.
        peers_authority_ports: ports of the authority that a peer runs.
    """

    def of(audience: Audience) -> list[int]:
        return [each.port for each in listeners if audience in each.audiences]

    return {
        PortGroup.PEER_LISTENERS: of(Audience.PEERS),
        PortGroup.PEERS_PORTS: list(peers_ports),
        PortGroup.APPLICATION_LISTENERS: of(Audience.APPLICATIONS),
        PortGroup.NODE_PROBES: [each.probe.port for each in listeners],
        PortGroup.AUTHORITY_LISTENERS: [each.port for each in authority_listeners],
        PortGroup.PEERS_AUTHORITY_LISTENERS: list(peers_authority_ports),
        PortGroup.AUTHORITY_PROBES: [each.probe.port for each in authority_listeners],
    }


@dataclass(frozen=True, kw_only=True)
class MemberFlows:
    """The table with one member's addresses and ports. A flow without an address or a port is left out."""

    addresses: Mapping[Subnet | Remote, Sequence[str]]
    """Address prefixes of each subnet and each remote; empty if there is none."""
    ports: Mapping[PortGroup, Sequence[int]]
    """Port numbers of each port group, from `port_groups`."""

    def security_rules(self, subnet: Subnet, *, deny_internet: bool = True) -> list[network.SecurityRuleArgs]:
        """The rules of a subnet's network security group.

        Azure's default rules allow all traffic of tag VirtualNetwork, which includes peers behind the gateway; the
        last rule of each direction denies it. Load balancer probes are allowed only by a flow.

        Args:
            subnet: the rules are those of the flows that start or end there.
            deny_internet: whether to deny all traffic to the internet except that of flows.
        """
        rules = [
            *self._allow([flow for flow in FLOWS if flow.destination is subnet], _INBOUND),
            _deny("DenyVirtualNetworkIn", Tag.VIRTUAL_NETWORK, _INBOUND, _LAST_PRIORITY),
            *self._allow([flow for flow in FLOWS if flow.source is subnet], _OUTBOUND),
            _deny("DenyVirtualNetworkOut", Tag.VIRTUAL_NETWORK, _OUTBOUND, _LAST_PRIORITY),
        ]
        if deny_internet:
            rules.append(_deny("DenyInternetOut", Tag.INTERNET, _OUTBOUND, _LAST_PRIORITY - 1))
        return rules

    def node_egress(self) -> list[Egress]:
        """Connections that the processes of a ledger node may open."""
        return [
            Egress(self.addresses[flow.destination], ports)
            for flow in FLOWS
            if flow.by_node and not isinstance(flow.destination, Tag)
            if self.addresses[flow.destination] and (ports := self._numbers(flow))
        ]

    def _allow(
        self, flows: Sequence[Flow], direction: network.SecurityRuleDirection
    ) -> list[network.SecurityRuleArgs]:
        rules: list[network.SecurityRuleArgs] = []
        for flow in flows:
            source, destination = self._prefixes(flow.source), self._prefixes(flow.destination)
            ranges = port_ranges(self._numbers(flow))
            if not (source and destination and ranges):
                continue
            rules.append(
                network.SecurityRuleArgs(
                    # Unique in the security group, across both directions.
                    name=f"{flow.name}{'In' if direction == _INBOUND else 'Out'}",
                    description=flow.description,
                    priority=_FIRST_PRIORITY + _STEP * len(rules),
                    direction=direction,
                    access=network.SecurityRuleAccess.ALLOW,
                    protocol=network.SecurityRuleProtocol.TCP,
                    **_end("source", source),
                    source_port_range="*",
                    **_end("destination", destination),
                    destination_port_ranges=ranges,
                )
            )
        return rules

    def _numbers(self, flow: Flow) -> Sequence[int]:
        return self.ports[flow.ports] if isinstance(flow.ports, PortGroup) else flow.ports

    def _prefixes(self, end: Subnet | Remote | Tag) -> Tag | Sequence[str]:
        return end if isinstance(end, Tag) else self.addresses[end]


def _end(side: str, prefixes: Tag | Sequence[str]) -> dict[str, str | Sequence[str]]:
    if isinstance(prefixes, Tag):
        return {f"{side}_address_prefix": prefixes.value}
    return {f"{side}_address_prefixes": prefixes}


def _deny(name: str, far: Tag, direction: network.SecurityRuleDirection, priority: int) -> network.SecurityRuleArgs:
    inbound = direction == _INBOUND
    return network.SecurityRuleArgs(
        name=name,
        description="Denies all traffic that no rule above allows.",
        priority=priority,
        direction=direction,
        access=network.SecurityRuleAccess.DENY,
        protocol=network.SecurityRuleProtocol.ASTERISK,
        source_address_prefix=far.value if inbound else "*",
        source_port_range="*",
        destination_address_prefix="*" if inbound else far.value,
        destination_port_range="*",
    )
