"""The bank's virtual network: subnets, security rules, private DNS zones, and egress."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from pulumi import ComponentResource, Input, Output, ResourceOptions
from pulumi_azure_native import network, privatedns

from components.flows import MemberFlows, Remote, Subnet, port_groups
from components.inputs import Placement
from components.public_ip import public_ip
from contract.addresses import AddressPlan
from contract.listeners import Listener


class PrivateZone(StrEnum):
    """Private DNS zones, learn.microsoft.com/azure/private-link/private-endpoint-dns."""

    VAULT = "privatelink.vaultcore.azure.net"
    BLOB = "privatelink.blob.core.windows.net"
    FILE = "privatelink.file.core.windows.net"
    DATABASE = "ledger.private.postgres.database.azure.com"
    """Azure allows any name that ends in `.postgres.database.azure.com` and is not a server's."""


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """A peer's service: one address with its ports."""

    address: str
    """Required. IPv4 address."""
    ports: Sequence[int]
    """Required. Its TCP ports."""


@dataclass(frozen=True, kw_only=True)
class MemberNetworkArgs:
    """Inputs of `MemberNetwork`."""

    placement: Placement
    """Required. Resource group, region and tags of all children."""
    plan: AddressPlan
    """Required. The address space and its subnets."""
    listeners: Sequence[Listener]
    """Required. Listeners of the node VMs."""
    peer_ports: Iterable[int]
    """Required. Ports on which the peers' node VMs listen for this member."""
    peer_address_spaces: Sequence[str] = ()
    """Optional. Address spaces of the peers, the only ones behind the gateway that reach a node."""
    application_networks: Sequence[str] = ()
    """Optional. CIDRs of the bank's own applications and operators: RPC, and HTTPS to the private endpoints."""
    authority_listeners: Sequence[Listener] = ()
    """Optional. Listeners of the network authority that the member runs; without any there is no subnet for it."""
    peer_authority: Endpoint | None = None
    """Optional. The network authority that a peer runs, if it certifies names for this member's nodes."""
    database: bool = True
    """Optional. Whether the platform needs a database, and with it a delegated subnet."""
    zones: Sequence[str] = ()
    """Optional. The region's availability zones; public addresses span them all."""
    existing_zones: Mapping[PrivateZone, Input[str]] = field(default_factory=dict)
    """Optional. Resource ids of private DNS zones that others own, such as a hub's: none of these kinds is made, as
    Azure links a network to one zone of a name. Their owner links them to this network; components that get an id of
    `zone_ids` depend on the links. Who deploys writes records into them."""


class MemberNetwork(ComponentResource):
    """One member's network. Its security rules allow only the flows of `components.flows`; peers reach it through the
    gateways only."""

    network_id: Output[str]
    """Resource id of the virtual network."""
    network_name: Output[str]
    """Name of the virtual network, for a VNet peering with another network of the bank."""
    nodes_subnet_id: Output[str]
    """Resource id of the subnet of the node VMs and of their load balancer's frontend."""
    endpoints_subnet_id: Output[str]
    """Resource id of the subnet of the private endpoints."""
    authority_subnet_id: Output[str] | None
    """Resource id of the network authority's subnet; None if the member runs none."""
    database_subnet_id: Output[str] | None
    """Resource id of the subnet delegated to PostgreSQL; None without a database."""
    gateway_subnet_id: Output[str]
    """Resource id of GatewaySubnet, the subnet of the gateways to the peers."""
    nat_gateway_id: Output[str]
    """Resource id of the NAT gateway, through which VMs reach the internet."""
    nat_address_id: Output[str]
    """Resource id of the NAT gateway's public address."""
    zone_ids: dict[PrivateZone, Output[str]]
    """Resource ids of the private DNS zones. That of a zone made here resolves only after it is linked to the
    network, so that dependants can resolve names."""

    def __init__(self, name: str, args: MemberNetworkArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("decentralized-trust:azure:MemberNetwork", name, None, opts)
        self._name, self._args = name, args
        virtual_network = network.VirtualNetwork(
            f"{name}-vnet",
            resource_group_name=args.placement.resource_group_name,
            location=args.placement.location,
            address_space=network.AddressSpaceArgs(address_prefixes=[str(args.plan.space)]),
            tags=args.placement.tags,
            opts=ResourceOptions(parent=self),
        )
        self.network_id, self.network_name = virtual_network.id, virtual_network.name
        nat_address, nat_gateway = self._nat_gateway()
        self.nat_gateway_id, self.nat_address_id = nat_gateway.id, nat_address.id
        subnets = self._subnets(virtual_network, nat_gateway)
        self.nodes_subnet_id = subnets["nodes"].id
        self.endpoints_subnet_id = subnets["endpoints"].id
        self.database_subnet_id = subnets["database"].id if args.database else None
        self.gateway_subnet_id = subnets["gateway"].id
        self.authority_subnet_id = subnets["authority"].id if args.authority_listeners else None
        self.zone_ids = {
            zone: Output.from_input(args.existing_zones[zone]) if zone in args.existing_zones else self._zone(zone)
            for zone in PrivateZone
            if args.database or zone != PrivateZone.DATABASE
        }
        self.register_outputs(
            {
                "network_id": self.network_id,
                "network_name": self.network_name,
                "nat_gateway_id": self.nat_gateway_id,
                "nat_address_id": self.nat_address_id,
                "nodes_subnet_id": self.nodes_subnet_id,
                "endpoints_subnet_id": self.endpoints_subnet_id,
                "database_subnet_id": self.database_subnet_id,
                "authority_subnet_id": self.authority_subnet_id,
                "gateway_subnet_id": self.gateway_subnet_id,
                "zone_ids": {zone.value: zone_id for zone, zone_id in self.zone_ids.items()},
            }
        )

    def _subnets(
        self, virtual_network: network.VirtualNetwork, nat_gateway: network.NatGateway
    ) -> dict[str, network.Subnet]:
        args, plan = self._args, self._args.plan
        flows = _flows(args)
        wanted = {
            "nodes": network.SubnetArgs(
                address_prefix=str(plan.nodes),
                network_security_group=self._security_group("nodes", flows.security_rules(Subnet.NODES)),
                nat_gateway=network.SubResourceArgs(id=nat_gateway.id),
            ),
            "database": network.SubnetArgs(
                address_prefix=str(plan.database),
                # PostgreSQL's management traffic is not documented as flows, so the internet is not denied.
                network_security_group=self._security_group(
                    "database", flows.security_rules(Subnet.DATABASE, deny_internet=False)
                ),
                delegations=[
                    network.DelegationArgs(
                        name="postgresql", service_name="Microsoft.DBforPostgreSQL/flexibleServers"
                    )
                ],
                # For the log archive of a server with a standby, learn.microsoft.com/azure/postgresql/network/
                # concepts-networking-private.
                service_endpoints=[network.ServiceEndpointPropertiesFormatArgs(service="Microsoft.Storage")],
            )
            if args.database
            else None,
            # Azure requires this name, and allows no network security group on a gateway's subnet.
            "gateway": network.SubnetArgs(name="GatewaySubnet", address_prefix=str(plan.gateway)),
            "authority": network.SubnetArgs(
                address_prefix=str(plan.authority),
                network_security_group=self._security_group("authority", flows.security_rules(Subnet.AUTHORITY)),
                nat_gateway=network.SubResourceArgs(id=nat_gateway.id),
            )
            if args.authority_listeners
            else None,
            # The last one: Azure refuses an endpoint in a network of which it is changing a subnet.
            "endpoints": network.SubnetArgs(
                address_prefix=str(plan.endpoints),
                network_security_group=self._security_group("endpoints", flows.security_rules(Subnet.ENDPOINTS)),
            ),
        }
        subnets: dict[str, network.Subnet] = {}
        for role, subnet in wanted.items():
            if subnet is None:
                continue
            subnets[role] = network.Subnet(
                f"{self._name}-{role}",
                resource_group_name=args.placement.resource_group_name,
                virtual_network_name=virtual_network.name,
                subnet_name=subnet.name or role,
                address_prefix=subnet.address_prefix,
                network_security_group=subnet.network_security_group,
                nat_gateway=subnet.nat_gateway,
                delegations=subnet.delegations,
                service_endpoints=subnet.service_endpoints,
                default_outbound_access=False,
                # Without this the network security group does not apply to private endpoints.
                private_endpoint_network_policies=network.VirtualNetworkPrivateEndpointNetworkPolicies.ENABLED,
                private_link_service_network_policies=(
                    network.VirtualNetworkPrivateLinkServiceNetworkPolicies.ENABLED
                ),
                # Azure changes one subnet of a network at a time (pulumi/pulumi-azure-native#699).
                opts=ResourceOptions(parent=self, delete_before_replace=True, depends_on=list(subnets.values())[-1:]),
            )
        return subnets

    def _security_group(self, role: str, rules: list[network.SecurityRuleArgs]) -> network.NetworkSecurityGroupArgs:
        group = network.NetworkSecurityGroup(
            f"{self._name}-{role}-nsg",
            resource_group_name=self._args.placement.resource_group_name,
            location=self._args.placement.location,
            security_rules=rules,
            tags=self._args.placement.tags,
            opts=ResourceOptions(parent=self),
        )
        return network.NetworkSecurityGroupArgs(id=group.id)

    def _nat_gateway(self) -> tuple[network.PublicIPAddress, network.NatGateway]:
        # The Standard SKU is not zone-redundant: Azure chooses its zone. The loss of that availability zone can stop
        # egress: packages, telemetry, and a ledger zone's registration and network map; never peers, keys, storage or
        # the database.
        address = public_ip(
            f"{self._name}-nat-ip",
            placement=self._args.placement,
            zones=self._args.zones,
            parent=self,
        )
        gateway = network.NatGateway(
            f"{self._name}-nat",
            resource_group_name=self._args.placement.resource_group_name,
            location=self._args.placement.location,
            sku=network.NatGatewaySkuArgs(name=network.NatGatewaySkuName.STANDARD),
            public_ip_addresses=[network.SubResourceArgs(id=address.id)],
            tags=self._args.placement.tags,
            opts=ResourceOptions(parent=self),
        )
        return address, gateway

    def _zone(self, zone: PrivateZone) -> Output[str]:
        role = zone.name.lower()
        private_zone = privatedns.PrivateZone(
            f"{self._name}-{role}-zone",
            resource_group_name=self._args.placement.resource_group_name,
            private_zone_name=zone.value,
            location="Global",
            tags=self._args.placement.zone_tags,
            opts=ResourceOptions(parent=self, delete_before_replace=True),
        )
        link = privatedns.VirtualNetworkLink(
            f"{self._name}-{role}-zone-link",
            resource_group_name=self._args.placement.resource_group_name,
            private_zone_name=private_zone.name,
            location="Global",
            registration_enabled=False,
            virtual_network=privatedns.SubResourceArgs(id=self.network_id),
            tags=self._args.placement.zone_tags,
            opts=ResourceOptions(parent=self),
        )
        return Output.all(private_zone.id, link.id).apply(lambda ids: str(ids[0]))


def _flows(args: MemberNetworkArgs) -> MemberFlows:
    plan, peer_authority = args.plan, args.peer_authority
    return MemberFlows(
        addresses={
            Subnet.NODES: [str(plan.nodes)],
            Subnet.ENDPOINTS: [str(plan.endpoints)],
            Subnet.DATABASE: [str(plan.database)] if args.database else [],
            Subnet.AUTHORITY: [str(plan.authority)] if args.authority_listeners else [],
            Remote.PEERS: args.peer_address_spaces,
            Remote.PEERS_AUTHORITY: [f"{peer_authority.address}/32"] if peer_authority else [],
            Remote.APPLICATIONS: args.application_networks,
        },
        ports=port_groups(
            listeners=args.listeners,
            peers_ports=args.peer_ports,
            authority_listeners=args.authority_listeners,
            peers_authority_ports=peer_authority.ports if peer_authority else [],
        ),
    )
