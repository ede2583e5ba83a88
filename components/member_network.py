"""The bank's virtual network: subnets, who may reach whom, private names, egress, and the gateways to the peers."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from pulumi import ComponentResource, CustomTimeouts, Input, Output, ResourceOptions
from pulumi.runtime import is_dry_run
from pulumi_azure_native import maintenance, network, privatedns

from addressing import AddressPlan
from components.diagnostics import send_logs
from components.flows import Flow, Tag, security_rules
from components.roles import Role, grant
from ledger.platform import POSTGRESQL_PORT, Audience, Listener

HTTPS_PORT, NFS_PORT, PGBOUNCER_PORT = 443, 2049, 6432
_PACKAGE_PORTS = (80, HTTPS_PORT)
_ENDPOINT_PORTS = (HTTPS_PORT, NFS_PORT)

_GATEWAY_INSTANCES = 2

# Gateways take 30 to 45 minutes to create, more in a busy region.
GATEWAY_TIMEOUTS = CustomTimeouts(create="2h", update="2h", delete="2h")


class PrivateZone(StrEnum):
    """Private DNS zones, learn.microsoft.com/azure/private-link/private-endpoint-dns."""

    VAULT = "privatelink.vaultcore.azure.net"
    BLOB = "privatelink.blob.core.windows.net"
    FILE = "privatelink.file.core.windows.net"
    DATABASE = "ledger.private.postgres.database.azure.com"
    """Any name that ends in `.postgres.database.azure.com` and is not that of a server."""


@dataclass(frozen=True, kw_only=True)
class VpnGatewayArgs:
    """The VPN gateway: route-based, active-active, with BGP."""

    asn: int
    """Required. The member's autonomous system number."""
    sku: str = "VpnGw1AZ"
    """Optional. A zone-redundant SKU; the others can't be created any more."""


@dataclass(frozen=True, kw_only=True)
class ExpressRouteArgs:
    """The ExpressRoute gateway and its connection to the bank's circuit."""

    circuit_id: Input[str]
    """Required. Resource id of the circuit."""
    authorization_key: Input[str]
    """Required. Authorization that the circuit's owner issued; always stored as a secret."""
    sku: str = "ErGw1AZ"
    """Optional. A zone-redundant SKU."""


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """What a peer serves at one address."""

    address: str
    """Required. IPv4 address."""
    ports: Sequence[int]
    """Required. Its TCP ports."""


@dataclass(frozen=True, kw_only=True)
class MemberNetworkArgs:
    """Inputs of `MemberNetwork`."""

    resource_group_name: Input[str]
    """Required. Resource group of the network."""
    location: Input[str]
    """Required. Region of the network."""
    plan: AddressPlan
    """Required. The address space and its subnets."""
    listeners: Sequence[Listener]
    """Required. What the node VMs listen on, and for whom."""
    peer_ports: Iterable[int]
    """Required. What the peers' node VMs listen on for this member."""
    vpn: VpnGatewayArgs | None = None
    """Conditional. Required if there is no `express_route`."""
    express_route: ExpressRouteArgs | None = None
    """Conditional. Required if there is no `vpn`."""
    gateway_readers: Sequence[str] = ()
    """Optional. Service principals that deploy peers' halves of VNet-to-VNet links to the gateway."""
    peer_address_spaces: Sequence[str] = ()
    """Optional. Address spaces of the peers; nobody else beyond the gateway reaches a node."""
    application_networks: Sequence[str] = ()
    """Optional. CIDRs of the bank's own applications and operators: RPC, and HTTPS to the private endpoints."""
    authority_listeners: Sequence[Listener] = ()
    """Optional. What the VMs of the member's own network authority listen on; without any it has no subnet."""
    peer_authority: Endpoint | None = None
    """Optional. Where a peer certifies names for this member's nodes."""
    database: bool = True
    """Optional. Whether the platform wants a database, and with it a delegated subnet."""
    zones: Sequence[str] = ()
    """Optional. The region's availability zones; public addresses span them all."""
    workspace_id: Input[str] | None = None
    """Optional. Log Analytics workspace for the logs of gateways and network security groups."""
    deletion_protection: bool = True
    """Optional. Protects the gateway and its addresses, which every peer's configuration names."""
    tags: Mapping[str, Input[str]] | None = None
    """Optional. Put on every taggable child."""

    def __post_init__(self) -> None:
        if self.vpn is None and self.express_route is None:
            raise ValueError("MemberNetwork: neither vpn nor express_route; wanted a way to the peers")


class MemberNetwork(ComponentResource):
    """One member's network. Only named flows cross it; peers come in through the gateway alone."""

    network_id: Output[str]
    """Resource id of the virtual network."""
    nodes_subnet_id: Output[str]
    """Subnet of the node VMs and of the load balancer's frontend."""
    endpoints_subnet_id: Output[str]
    """Subnet of the private endpoints."""
    authority_subnet_id: Output[str] | None
    """Subnet of the network authority; None where the member is none."""
    database_subnet_id: Output[str] | None
    """Subnet delegated to PostgreSQL; None without a database."""
    nat_gateway_id: Output[str]
    """The NAT gateway that the node VMs reach the internet through."""
    zone_ids: dict[PrivateZone, Output[str]]
    """Private DNS zones; each resolves once its id is known, since the id waits for the link to the network."""
    vpn_gateway_id: Output[str] | None
    """Resource id of the VPN gateway; None without one."""
    vpn_gateway_instances: Output[list[dict[str, str]]] | None
    """`publicIp` and `bgpPeeringIp` of both gateway instances, as the membership card states them."""

    def __init__(self, name: str, args: MemberNetworkArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("decentralized-trust:azure:MemberNetwork", name, None, opts)
        self._name, self._args = name, args
        virtual_network = network.VirtualNetwork(
            f"{name}-vnet",
            resource_group_name=args.resource_group_name,
            location=args.location,
            address_space=network.AddressSpaceArgs(address_prefixes=[str(args.plan.space)]),
            tags=args.tags,
            opts=ResourceOptions(parent=self),
        )
        self.network_id = virtual_network.id
        nat_gateway = self._nat_gateway()
        self.nat_gateway_id = nat_gateway.id
        subnets = self._subnets(virtual_network, nat_gateway)
        self.nodes_subnet_id = subnets["nodes"].id
        self.endpoints_subnet_id = subnets["endpoints"].id
        self.database_subnet_id = subnets["database"].id if args.database else None
        self.authority_subnet_id = subnets["authority"].id if args.authority_listeners else None
        self.zone_ids = {
            zone: self._zone(zone) for zone in PrivateZone if args.database or zone != PrivateZone.DATABASE
        }

        express_route = self._express_route(subnets["gateway"]) if args.express_route else None
        gateway = self._vpn_gateway(subnets["gateway"], express_route) if args.vpn else None
        self.vpn_gateway_id = gateway.id if gateway else None
        self.vpn_gateway_instances = _instances(gateway) if gateway else None
        self.register_outputs(
            {
                "network_id": self.network_id,
                "nat_gateway_id": self.nat_gateway_id,
                "nodes_subnet_id": self.nodes_subnet_id,
                "endpoints_subnet_id": self.endpoints_subnet_id,
                "database_subnet_id": self.database_subnet_id,
                "authority_subnet_id": self.authority_subnet_id,
                "vpn_gateway_id": self.vpn_gateway_id,
            }
        )

    def _subnets(
        self, virtual_network: network.VirtualNetwork, nat_gateway: network.NatGateway
    ) -> dict[str, network.Subnet]:
        args, plan = self._args, self._args.plan
        wanted = {
            "nodes": network.SubnetArgs(
                address_prefix=str(plan.nodes),
                network_security_group=self._security_group("nodes", self._node_rules()),
                nat_gateway=network.SubResourceArgs(id=nat_gateway.id),
            ),
            "endpoints": network.SubnetArgs(
                address_prefix=str(plan.endpoints),
                network_security_group=self._security_group("endpoints", self._endpoint_rules()),
            ),
            "database": network.SubnetArgs(
                address_prefix=str(plan.database),
                network_security_group=self._security_group("database", self._database_rules()),
                delegations=[
                    network.DelegationArgs(
                        name="postgresql", service_name="Microsoft.DBforPostgreSQL/flexibleServers"
                    )
                ],
            )
            if args.database
            else None,
            # Azure allows no network security group on a gateway's subnet, and wants this very name.
            "gateway": network.SubnetArgs(name="GatewaySubnet", address_prefix=str(plan.gateway)),
            "authority": network.SubnetArgs(
                address_prefix=str(plan.authority),
                network_security_group=self._security_group("authority", self._authority_rules()),
                nat_gateway=network.SubResourceArgs(id=nat_gateway.id),
            )
            if args.authority_listeners
            else None,
        }
        subnets: dict[str, network.Subnet] = {}
        for role, subnet in wanted.items():
            if subnet is None:
                continue
            subnets[role] = network.Subnet(
                f"{self._name}-{role}",
                resource_group_name=args.resource_group_name,
                virtual_network_name=virtual_network.name,
                subnet_name=subnet.name or role,
                address_prefix=subnet.address_prefix,
                network_security_group=subnet.network_security_group,
                nat_gateway=subnet.nat_gateway,
                delegations=subnet.delegations,
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
            resource_group_name=self._args.resource_group_name,
            location=self._args.location,
            security_rules=rules,
            tags=self._args.tags,
            opts=ResourceOptions(parent=self),
        )
        send_logs(
            f"{self._name}-{role}-nsg-logs",
            resource_id=group.id,
            workspace_id=self._args.workspace_id,
            parent=self,
        )
        return network.NetworkSecurityGroupArgs(id=group.id)

    def _node_rules(self) -> list[network.SecurityRuleArgs]:
        args = self._args
        nodes, endpoints, database = (
            [str(block)] for block in (args.plan.nodes, args.plan.endpoints, args.plan.database)
        )
        for_peers = [each.port for each in args.listeners if Audience.PEERS in each.audiences]
        for_applications = [each.port for each in args.listeners if Audience.APPLICATIONS in each.audiences]
        return security_rules(
            inbound=[
                Flow(
                    name="PeersToNodes",
                    description="Other members' nodes open ledger connections and read network information.",
                    source=args.peer_address_spaces,
                    destination=nodes,
                    ports=for_peers,
                ),
                Flow(
                    name="NodesToNodes",
                    description="This member's nodes are peers of each other.",
                    source=nodes,
                    destination=nodes,
                    ports=for_peers,
                ),
                Flow(
                    name="ApplicationsToNodes",
                    description="The bank's applications use RPC.",
                    source=args.application_networks,
                    destination=nodes,
                    ports=for_applications,
                ),
                Flow(
                    name="ProbesToNodes",
                    description="The load balancer asks which VM serves a listener.",
                    source=Tag.LOAD_BALANCER,
                    destination=nodes,
                    ports=[each.probe.port for each in args.listeners],
                ),
            ],
            outbound=[
                Flow(
                    name="NodesToPeers",
                    description="Nodes open ledger connections to other members and read their network information.",
                    source=nodes,
                    destination=args.peer_address_spaces,
                    ports=args.peer_ports,
                ),
                Flow(
                    name="NodesToNodes",
                    description="This member's nodes are peers of each other.",
                    source=nodes,
                    destination=nodes,
                    ports=for_peers,
                ),
                Flow(
                    name="NodesToAuthority",
                    description="Nodes ask for certificates, and whether others' were revoked.",
                    source=nodes,
                    destination=[str(args.plan.authority)] if args.authority_listeners else [],
                    ports=[each.port for each in args.authority_listeners],
                ),
                Flow(
                    name="NodesToPeersAuthority",
                    description="Nodes ask a peer for certificates, and whether others' were revoked.",
                    source=nodes,
                    destination=[f"{args.peer_authority.address}/32"] if args.peer_authority else [],
                    ports=args.peer_authority.ports if args.peer_authority else [],
                ),
                Flow(
                    name="NodesToEndpoints",
                    description="Key Vault and blobs over HTTPS, the ledger's share over NFS.",
                    source=nodes,
                    destination=endpoints,
                    ports=_ENDPOINT_PORTS,
                ),
                Flow(
                    name="NodesToDatabase",
                    description="Each node's connection pool.",
                    source=nodes,
                    destination=database if args.database else [],
                    ports=[POSTGRESQL_PORT],
                ),
                Flow(
                    name="NodesToInternet",
                    description="Packages, and Azure's own services, through the NAT gateway.",
                    source=nodes,
                    destination=Tag.INTERNET,
                    ports=_PACKAGE_PORTS,
                ),
            ],
        )

    def _authority_rules(self) -> list[network.SecurityRuleArgs]:
        args = self._args
        authority, nodes = [str(args.plan.authority)], [str(args.plan.nodes)]
        served = [each.port for each in args.authority_listeners]
        return security_rules(
            inbound=[
                Flow(
                    name="PeersToAuthority",
                    description="Other members' nodes ask for certificates, and whether others' were revoked.",
                    source=args.peer_address_spaces,
                    destination=authority,
                    ports=served,
                ),
                Flow(
                    name="NodesToAuthority",
                    description="This member's nodes ask as the others' do.",
                    source=nodes,
                    destination=authority,
                    ports=served,
                ),
                Flow(
                    name="ProbesToAuthority",
                    description="The load balancer asks which VM serves.",
                    source=Tag.LOAD_BALANCER,
                    destination=authority,
                    ports=[each.probe.port for each in args.authority_listeners],
                ),
            ],
            outbound=[
                Flow(
                    name="AuthorityToEndpoints",
                    description="Its keys and its register over HTTPS.",
                    source=authority,
                    destination=[str(args.plan.endpoints)],
                    ports=[HTTPS_PORT],
                ),
                Flow(
                    name="AuthorityToInternet",
                    description="Packages, and Azure's own services, through the NAT gateway.",
                    source=authority,
                    destination=Tag.INTERNET,
                    ports=_PACKAGE_PORTS,
                ),
            ],
        )

    def _endpoint_rules(self) -> list[network.SecurityRuleArgs]:
        plan = self._args.plan
        return security_rules(
            inbound=[
                Flow(
                    name="NodesToEndpoints",
                    description="Only node VMs read keys, take leases and mount the share.",
                    source=[str(plan.nodes)],
                    destination=[str(plan.endpoints)],
                    ports=_ENDPOINT_PORTS,
                ),
                Flow(
                    name="AuthorityToEndpoints",
                    description="The network authority uses its keys and keeps its register; it mounts nothing.",
                    source=[str(plan.authority)] if self._args.authority_listeners else [],
                    destination=[str(plan.endpoints)],
                    ports=[HTTPS_PORT],
                ),
                Flow(
                    name="ApplicationsToEndpoints",
                    description="The bank's operators read secrets; roles decide which. They mount nothing.",
                    source=self._args.application_networks,
                    destination=[str(plan.endpoints)],
                    ports=[HTTPS_PORT],
                ),
            ],
            outbound=[],
        )

    def _database_rules(self) -> list[network.SecurityRuleArgs]:
        nodes, database = [str(self._args.plan.nodes)], [str(self._args.plan.database)]
        within = Flow(
            name="DatabaseToDatabase",
            description="Primary and standby of a highly available server.",
            source=database,
            destination=database,
            ports=[POSTGRESQL_PORT, PGBOUNCER_PORT],
        )
        return security_rules(
            inbound=[
                Flow(
                    name="NodesToDatabase",
                    description="Only node VMs connect to the ledger's databases.",
                    source=nodes,
                    destination=database,
                    ports=[POSTGRESQL_PORT],
                ),
                within,
            ],
            outbound=[
                within,
                Flow(
                    name="DatabaseToStorage",
                    description="The server archives its write-ahead log to Azure Storage.",
                    source=database,
                    destination=Tag.STORAGE,
                    ports=[HTTPS_PORT],
                ),
                Flow(
                    name="DatabaseToEntra",
                    description="The server checks the tokens of those who sign in.",
                    source=database,
                    destination=Tag.ENTRA_ID,
                    ports=[HTTPS_PORT],
                ),
            ],
            # The service's own management paths are not published as flows.
            deny_internet=False,
        )

    def _public_ip(self, role: str, *, zones: Sequence[str], protect: bool) -> network.PublicIPAddress:
        return network.PublicIPAddress(
            f"{self._name}-{role}-ip",
            resource_group_name=self._args.resource_group_name,
            location=self._args.location,
            public_ip_allocation_method=network.IPAllocationMethod.STATIC,
            public_ip_address_version=network.IPVersion.I_PV4,
            sku=network.PublicIPAddressSkuArgs(
                name=network.PublicIPAddressSkuName.STANDARD, tier=network.PublicIPAddressSkuTier.REGIONAL
            ),
            zones=list(zones) or None,
            tags=self._args.tags,
            opts=ResourceOptions(parent=self, protect=protect),
        )

    def _nat_gateway(self) -> network.NatGateway:
        # The Standard SKU is not zone-redundant: Azure places it. A zone's loss can stop egress, which nodes
        # need for packages only, never for peers, keys, storage or the database.
        address = self._public_ip("nat", zones=self._args.zones, protect=False)
        return network.NatGateway(
            f"{self._name}-nat",
            resource_group_name=self._args.resource_group_name,
            location=self._args.location,
            sku=network.NatGatewaySkuArgs(name=network.NatGatewaySkuName.STANDARD),
            public_ip_addresses=[network.SubResourceArgs(id=address.id)],
            tags=self._args.tags,
            opts=ResourceOptions(parent=self),
        )

    def _zone(self, zone: PrivateZone) -> Output[str]:
        role = zone.name.lower()
        private_zone = privatedns.PrivateZone(
            f"{self._name}-{role}-zone",
            resource_group_name=self._args.resource_group_name,
            private_zone_name=zone.value,
            location="Global",
            tags=self._args.tags,
            opts=ResourceOptions(parent=self, delete_before_replace=True),
        )
        link = privatedns.VirtualNetworkLink(
            f"{self._name}-{role}-zone-link",
            resource_group_name=self._args.resource_group_name,
            private_zone_name=private_zone.name,
            location="Global",
            registration_enabled=False,
            virtual_network=privatedns.SubResourceArgs(id=self.network_id),
            tags=self._args.tags,
            opts=ResourceOptions(parent=self),
        )
        return Output.all(private_zone.id, link.id).apply(lambda ids: str(ids[0]))

    def _gateway_configuration(
        self, role: str, subnet: network.Subnet
    ) -> network.VirtualNetworkGatewayIPConfigurationArgs:
        address = self._public_ip(role, zones=self._args.zones, protect=self._args.deletion_protection)
        return network.VirtualNetworkGatewayIPConfigurationArgs(
            name=role,
            private_ip_allocation_method=network.IPAllocationMethod.DYNAMIC,
            public_ip_address=network.SubResourceArgs(id=address.id),
            subnet=network.SubResourceArgs(id=subnet.id),
        )

    def _vpn_gateway(
        self, subnet: network.Subnet, express_route: network.VirtualNetworkGateway | None
    ) -> network.VirtualNetworkGateway:
        args, vpn = self._args, self._args.vpn
        assert vpn is not None  # noqa: S101
        first_generation = vpn.sku == "VpnGw1AZ"
        gateway = network.VirtualNetworkGateway(
            f"{self._name}-vpn-gateway",
            resource_group_name=args.resource_group_name,
            location=args.location,
            gateway_type=network.VirtualNetworkGatewayType.VPN,
            vpn_type=network.VpnType.ROUTE_BASED,
            vpn_gateway_generation=(
                network.VpnGatewayGeneration.GENERATION1
                if first_generation
                else network.VpnGatewayGeneration.GENERATION2
            ),
            sku=network.VirtualNetworkGatewaySkuArgs(name=vpn.sku, tier=vpn.sku),
            active_active=True,
            enable_bgp=True,
            bgp_settings=network.BgpSettingsArgs(asn=vpn.asn),
            ip_configurations=[self._gateway_configuration(f"vpn-{place}", subnet) for place in ("first", "second")],
            tags=args.tags,
            # Where both kinds of gateway share the subnet, the ExpressRoute gateway comes first.
            opts=ResourceOptions(
                parent=self,
                protect=args.deletion_protection,
                custom_timeouts=GATEWAY_TIMEOUTS,
                delete_before_replace=True,
                depends_on=[express_route] if express_route else [],
            ),
        )
        for reader in args.gateway_readers:
            # Azure checks that whoever connects to a gateway may read it, on both ends.
            grant(
                f"{self._name}-gateway-reader-{reader}",
                role=Role.READER,
                scope=gateway.id,
                principal_id=reader,
                parent=self,
            )
        self._maintained("vpn-gateway", gateway)
        return gateway

    def _express_route(self, subnet: network.Subnet) -> network.VirtualNetworkGateway:
        args, express_route = self._args, self._args.express_route
        assert express_route is not None  # noqa: S101
        gateway = network.VirtualNetworkGateway(
            f"{self._name}-express-route-gateway",
            resource_group_name=args.resource_group_name,
            location=args.location,
            gateway_type=network.VirtualNetworkGatewayType.EXPRESS_ROUTE,
            sku=network.VirtualNetworkGatewaySkuArgs(name=express_route.sku, tier=express_route.sku),
            ip_configurations=[self._gateway_configuration("express-route", subnet)],
            tags=args.tags,
            opts=ResourceOptions(
                parent=self,
                protect=args.deletion_protection,
                custom_timeouts=GATEWAY_TIMEOUTS,
                delete_before_replace=True,
            ),
        )
        network.VirtualNetworkGatewayConnection(
            f"{self._name}-express-route-connection",
            resource_group_name=args.resource_group_name,
            location=args.location,
            connection_type=network.VirtualNetworkGatewayConnectionType.EXPRESS_ROUTE,
            virtual_network_gateway1=network.VirtualNetworkGatewayArgs(id=gateway.id),
            peer=network.SubResourceArgs(id=express_route.circuit_id),
            authorization_key=Output.secret(express_route.authorization_key),
            tags=args.tags,
            opts=ResourceOptions(
                parent=self,
                additional_secret_outputs=["authorization_key"],
                custom_timeouts=GATEWAY_TIMEOUTS,
                delete_before_replace=True,
            ),
        )
        self._maintained("express-route-gateway", gateway)
        return gateway

    def _maintained(self, role: str, gateway: network.VirtualNetworkGateway) -> None:
        """Give a gateway a maintenance window: daily and of five hours, the shortest that Azure takes."""
        args = self._args
        window = maintenance.MaintenanceConfiguration(
            f"{self._name}-{role}-maintenance",
            resource_group_name=args.resource_group_name,
            location=args.location,
            maintenance_scope=maintenance.MaintenanceScope.RESOURCE,
            extension_properties={"maintenanceSubScope": "NetworkGatewayMaintenance"},
            visibility=maintenance.Visibility.CUSTOM,
            start_date_time="2026-01-01 01:00",
            duration="05:00",
            time_zone="UTC",
            recur_every="Day",
            tags=args.tags,
            opts=ResourceOptions(parent=self),
        )
        maintenance.ConfigurationAssignment(
            f"{self._name}-{role}-maintenance-assignment",
            resource_group_name=args.resource_group_name,
            location=args.location,
            provider_name="Microsoft.Network",
            resource_type="virtualNetworkGateways",
            resource_name_=gateway.name,
            maintenance_configuration_id=window.id,
            opts=ResourceOptions(parent=self, delete_before_replace=True),
        )
        send_logs(f"{self._name}-{role}-logs", resource_id=gateway.id, workspace_id=args.workspace_id, parent=self)


def _instances(gateway: network.VirtualNetworkGateway) -> Output[list[dict[str, str]]]:
    def read(gateway_id: str, settings: network.outputs.BgpSettingsResponse) -> list[dict[str, str]]:
        addresses = settings.bgp_peering_addresses or []
        # A preview of changed settings may lack the addresses that Azure adds to them.
        if len(addresses) != _GATEWAY_INSTANCES and not is_dry_run():
            raise ValueError(
                f"{gateway_id}: {len(addresses)} BGP addresses; wanted {_GATEWAY_INSTANCES}: active-active"
            )
        # An instance's tunnel address is its public one. Sorted, so that the card does not change with Azure's order.
        return sorted(
            (
                {"publicIp": each.tunnel_ip_addresses[0], "bgpPeeringIp": each.default_bgp_ip_addresses[0]}
                for each in addresses
            ),
            key=lambda instance: instance["bgpPeeringIp"],
        )

    # By way of the id, unknown until the gateway is there. (Output.all would make its settings a plain dict.)
    return gateway.id.apply(lambda gateway_id: gateway.bgp_settings.apply(partial(read, gateway_id)))
