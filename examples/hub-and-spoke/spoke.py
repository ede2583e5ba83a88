"""A member's network as a spoke of the bank's own hub, and the node VMs' vaults in the spoke.

The hub has the gateway to the other members and to the bank's data centre. README.md explains the parts.
"""

from ipaddress import IPv4Network

import pulumi
from pulumi import ResourceOptions
from pulumi_azure_native import authorization, managedidentity, network, privatedns, resources

from components.inputs import Placement
from components.key_store import KeyStore, KeyStoreArgs
from components.member_network import MemberNetwork, MemberNetworkArgs, PrivateZone
from components.vault import VaultArgs
from contract.addresses import carve
from contract.listeners import Audience, Listener, Probe

config = pulumi.Config()
location = pulumi.Config("azure-native").require("location")
on_premises = config.require("onPremises")
peer_spaces: list[str] = config.get_object("peerSpaces") or []
zones = ["1", "2", "3"]
tags = {"team": "platform"}

# --- The hub: a bank already has one, in another program; here it is minimal ---

hub_group = resources.ResourceGroup("hub", location=location, tags=tags)
hub = network.VirtualNetwork(
    "hub-vnet",
    resource_group_name=hub_group.name,
    location=location,
    address_space=network.AddressSpaceArgs(address_prefixes=["10.0.0.0/24"]),
    tags=tags,
)
gateway_subnet = network.Subnet(
    "hub-gateway-subnet",
    resource_group_name=hub_group.name,
    virtual_network_name=hub.name,
    subnet_name="GatewaySubnet",
    address_prefix="10.0.0.0/27",
    default_outbound_access=False,
)
hub_gateway = network.VirtualNetworkGateway(
    "hub-gateway",
    resource_group_name=hub_group.name,
    location=location,
    gateway_type=network.VirtualNetworkGatewayType.EXPRESS_ROUTE,
    sku=network.VirtualNetworkGatewaySkuArgs(name="ErGw1AZ", tier="ErGw1AZ"),
    # Its public address is Azure's own.
    ip_configurations=[
        network.VirtualNetworkGatewayIPConfigurationArgs(
            name="gateway",
            subnet=network.SubResourceArgs(id=gateway_subnet.id),
        )
    ],
    tags=tags,
)

# --- The spoke: the member's network, which allows only the flows in docs/network.md ---

group = resources.ResourceGroup("ledger", location=location, tags=tags)
placement = Placement(resource_group_name=group.name, location=location, tags=tags)
spoke = MemberNetwork(
    "spoke",
    MemberNetworkArgs(
        placement=placement,
        plan=carve(IPv4Network("10.1.0.0/16")),
        # The ledger platform's ports: here one for the other members' nodes and one for applications.
        listeners=[
            Listener("p2p", 10000, frozenset({Audience.PEERS}), Probe(10000)),
            Listener("rpc", 10200, frozenset({Audience.APPLICATIONS}), Probe(10200)),
        ],
        peer_ports=[10000],
        peer_address_spaces=peer_spaces,
        application_networks=[on_premises],
        database=False,
        zones=zones,
    ),
)

# --- The peering: one half at each network ---

hub_to_spoke = network.VirtualNetworkPeering(
    "hub-to-spoke",
    resource_group_name=hub_group.name,
    virtual_network_name=hub.name,
    remote_virtual_network=network.SubResourceArgs(id=spoke.network_id),
    allow_virtual_network_access=True,
    # Traffic from beyond the hub's gateway counts as forwarded.
    allow_forwarded_traffic=True,
    allow_gateway_transit=True,
    # Azure refuses to change a network while its subnets are being created.
    opts=ResourceOptions(depends_on=[hub_gateway, spoke]),
)
network.VirtualNetworkPeering(
    "spoke-to-hub",
    resource_group_name=group.name,
    virtual_network_name=spoke.network_name,
    remote_virtual_network=network.SubResourceArgs(id=hub.id),
    allow_virtual_network_access=True,
    allow_forwarded_traffic=True,
    use_remote_gateways=True,
    # Azure refuses this half until the hub has a gateway to share.
    opts=ResourceOptions(depends_on=[hub_to_spoke]),
)

# --- The vaults, with private endpoints in the spoke ---

node_identity = managedidentity.UserAssignedIdentity(
    "nodes", resource_group_name=group.name, location=location, tags=tags
)
keys = KeyStore(
    "keys",
    KeyStoreArgs(
        placement=placement,
        vault=VaultArgs(
            tenant_id=authorization.get_client_config_output().tenant_id,
            endpoints_subnet_id=spoke.endpoints_subnet_id,
            zone_id=spoke.zone_ids[PrivateZone.VAULT],
            resource_group_id=group.id,
        ),
        node_principal_id=node_identity.principal_id,
    ),
)
# A DNS resolver in the hub, which on-premises uses, also resolves the vaults' names to their private addresses.
privatedns.VirtualNetworkLink(
    "hub-vault-zone-link",
    resource_group_name=group.name,
    private_zone_name=spoke.zone_ids[PrivateZone.VAULT].apply(lambda zone_id: zone_id.rsplit("/", 1)[1]),
    location="Global",
    registration_enabled=False,
    virtual_network=privatedns.SubResourceArgs(id=hub.id),
    tags=tags,
)

pulumi.export("keyVaultUri", keys.key_vault_uri)
pulumi.export("bankVaultUri", keys.bank_vault_uri)
pulumi.export("nodesSubnetId", spoke.nodes_subnet_id)
