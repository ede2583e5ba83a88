"""One function for each row of the table in docs/architecture.md: it creates that component from earlier ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
from pulumi import Input, Output, Resource

from components.alerts import Alerts, AlertsArgs, PeerInstance, Watched
from components.express_route import ExpressRoute, ExpressRouteArgs
from components.inputs import Placement, Safeguards
from components.key_store import KeyStore, KeyStoreArgs
from components.ledger_database import LedgerDatabase, LedgerDatabaseArgs
from components.ledger_storage import LedgerStorage, LedgerStorageArgs
from components.log_volume import Senders, daily_cap_gb
from components.member_group import MemberGroup, MemberGroupArgs
from components.member_network import Endpoint, MemberNetwork, MemberNetworkArgs, PrivateZone
from components.membership_keys import MembershipKeys, MembershipKeysArgs
from components.monitoring import Monitoring, MonitoringArgs
from components.network_authority import AUTHORITY_VMS, AuthorityPlace, NetworkAuthority, NetworkAuthorityArgs
from components.node_scale_set import NodeScaleSet, NodeScaleSetArgs, VmArgs
from components.vault import VaultArgs
from components.vpn_gateway import VpnGateway, VpnGatewayArgs
from components.vpn_peering import VpnPeering, VpnPeeringArgs
from components.workbook import Measured, Workbook, WorkbookArgs
from contract.card import last_card
from contract.frontend import peer_ports
from contract.ports import NETWORK_INFO_PORT
from stack.azure_values import OWN_TAGS
from stack.member import Member
from stack.settings import EXPRESS_ROUTE_KEY, TUNNELS_OF_LINK
from stack.vm_configuration import (
    AuthorityServices,
    NodeServices,
    authority_custom_data,
    node_custom_data,
    vm_user_data,
)


def membership_keys(member: Member) -> MembershipKeys:
    """The key pair that signs the card, and the one that agrees keys with the peers."""
    settings, live = member.settings, last_card(member.previous.card)
    return MembershipKeys(
        "membership",
        MembershipKeysArgs(
            member=member.name,
            generations=settings.key_generations,
            live=live.key_generations if live else None,
            deletion_protection=settings.deletion_protection,
        ),
    )


def member_group(member: Member) -> MemberGroup:
    """The resource group that holds everything, and the node VMs' identity."""
    return MemberGroup(member.name, MemberGroupArgs(location=member.settings.location, tags=_tags(member)))


def monitoring(member: Member, group: MemberGroup) -> Monitoring | None:
    """Log Analytics workspace and Application Insights; None for sizes without monitoring."""
    if not member.settings.profile.monitoring:
        return None
    return Monitoring(
        "monitoring",
        MonitoringArgs(
            placement=_placement(member, group),
            resource_group_id=group.resource_group_id,
            node_principal_id=group.node_principal_id,
            daily_cap_gb=daily_cap_gb(senders(member)),
            operators=_operators(member),
            deletion_protection=member.settings.deletion_protection,
        ),
    )


def senders(member: Member) -> Senders:
    """Number of VMs, nodes, tunnels and connections that send log rows to the member's workspace."""
    settings = member.settings
    database = settings.platform.database
    return Senders(
        vms=settings.node_count,
        identities=len(member.identities),
        peers=len(member.peers),
        tunnels=sum(TUNNELS_OF_LINK[peer.link] for peer in member.peers),
        connections=database.connections_per_identity if database else 0,
        authority_vms=AUTHORITY_VMS if member.authority else 0,
    )


@dataclass(frozen=True)
class Site:
    """Shared inputs of all further rows: the member, its resource group and its monitoring."""

    member: Member
    group: MemberGroup
    monitoring: Monitoring | None

    @property
    def placement(self) -> Placement:
        """Resource group, region and tags of every component."""
        return _placement(self.member, self.group)

    @property
    def safeguards(self) -> Safeguards:
        """Log destination and deletion protection of every stateful component."""
        return Safeguards(
            workspace_id=self.monitoring.workspace_id if self.monitoring else None,
            deletion_protection=self.member.settings.deletion_protection,
        )

    @property
    def collection(self) -> Sequence[Resource]:
        """Resources that collect the VMs' counters and logs; VMs wait for them. Empty without monitoring."""
        return self.monitoring.collection if self.monitoring else ()

    @property
    def connection_string(self) -> Output[str] | None:
        """Connection string of Application Insights, for the VMs' metrics; None without monitoring."""
        return self.monitoring.connection_string if self.monitoring else None

    @property
    def vms(self) -> VmArgs:
        """Inputs that all VMs share."""
        settings, monitoring = self.member.settings, self.monitoring
        return VmArgs(
            ssh_public_key=settings.nodes.ssh_public_key,
            image_id=settings.nodes.image.id if settings.nodes.image else None,
            zones=settings.region.zones,
            encryption_at_host=settings.nodes.encryption_at_host,
            workspace_id=monitoring.workspace_id if monitoring else None,
        )

    def vault(self, network: MemberNetwork) -> VaultArgs:
        """Inputs that all vaults share."""
        settings = self.member.settings
        return VaultArgs(
            tenant_id=self.member.tenant_id,
            endpoints_subnet_id=network.endpoints_subnet_id,
            zone_id=network.zone_ids[PrivateZone.VAULT],
            resource_group_id=self.group.resource_group_id,
            purge_protection=settings.key_vault.purge_protection,
            soft_delete_days=settings.key_vault.soft_delete_days,
        )


def member_network(site: Site) -> MemberNetwork:
    """The virtual network with subnets, security rules, private DNS zones and egress."""
    member = site.member
    settings, authority = member.settings, member.authority
    return MemberNetwork(
        "network",
        MemberNetworkArgs(
            placement=site.placement,
            plan=member.addresses,
            listeners=member.listeners,
            peer_ports=[*peer_ports(settings.platform), NETWORK_INFO_PORT],
            peer_address_spaces=[str(peer.card.address_space) for peer in member.peers],
            application_networks=[str(block) for block in settings.application_networks],
            authority_listeners=authority.listeners if authority else (),
            peer_authority=_peer_authority(member),
            database=settings.platform.database is not None,
            zones=settings.region.zones,
        ),
    )


def express_route(site: Site, network: MemberNetwork) -> ExpressRoute | None:
    """The ExpressRoute gateway to the bank's circuit; None without a circuit."""
    settings = site.member.settings
    circuit = settings.connectivity.express_route
    if circuit is None:
        return None
    return ExpressRoute(
        "network-express-route",
        ExpressRouteArgs(
            placement=site.placement,
            safeguards=site.safeguards,
            subnet_id=network.gateway_subnet_id,
            circuit_id=circuit.circuit_id,
            authorization_key=pulumi.Config().require_secret(EXPRESS_ROUTE_KEY),
        ),
    )


def vpn_gateway(site: Site, network: MemberNetwork) -> VpnGateway | None:
    """The VPN gateway; None if the circuit links all peers."""
    settings = site.member.settings
    vpn = settings.connectivity.vpn
    if vpn is None:
        return None
    return VpnGateway(
        "network-vpn",
        VpnGatewayArgs(
            placement=site.placement,
            safeguards=site.safeguards,
            subnet_id=network.gateway_subnet_id,
            asn=settings.bank.asn,
            sku=vpn.sku,
            zones=settings.region.zones,
            readers=[str(reader) for reader in settings.gateway_readers],
        ),
    )


def key_store(site: Site, network: MemberNetwork, keys: MembershipKeys, card: Input[Mapping[str, Any]]) -> KeyStore:
    """The two vaults of the nodes."""
    member, peer = site.member, site.member.authority_peer
    return KeyStore(
        "keys",
        KeyStoreArgs(
            placement=site.placement,
            safeguards=site.safeguards,
            vault=site.vault(network),
            node_principal_id=site.group.node_principal_id,
            peer_cards=_peer_cards(member),
            enrolment_key=keys.enrolment_key(peer.card if peer else None, peer.name if peer else member.name),
            card=card,
            rpc_users=member.settings.ledger.rpc_users,
            operators=_operators(member),
        ),
    )


def ledger_storage(site: Site, network: MemberNetwork) -> LedgerStorage:
    """Storage accounts for network information and leases, and for the ledger's share."""
    region = site.member.settings.region
    return LedgerStorage(
        "storage",
        LedgerStorageArgs(
            placement=site.placement,
            safeguards=site.safeguards,
            endpoints_subnet_id=network.endpoints_subnet_id,
            blob_zone_id=network.zone_ids[PrivateZone.BLOB],
            file_zone_id=network.zone_ids[PrivateZone.FILE],
            node_principal_id=site.group.node_principal_id,
            zone_redundant=bool(region.zones),
            geo_redundant=region.pair is not None,
            operators=_operators(site.member),
            share_gib=site.member.settings.ledger.share_gib,
        ),
    )


def ledger_database(site: Site, network: MemberNetwork) -> LedgerDatabase | None:
    """The server of the nodes' databases; None if the platform needs none."""
    member, settings = site.member, site.member.settings
    needs = settings.platform.database
    if needs is None or network.database_subnet_id is None:
        return None
    return LedgerDatabase(
        "database",
        LedgerDatabaseArgs(
            placement=site.placement,
            safeguards=site.safeguards,
            tenant_id=member.tenant_id,
            subnet_id=network.database_subnet_id,
            zone_id=network.zone_ids[PrivateZone.DATABASE],
            version=needs.version,
            connections_per_identity=needs.connections_per_identity,
            identities_per_vcore=needs.identities_per_vcore,
            identities=[node.name for node in member.identities],
            administrator_principal_id=site.group.node_principal_id,
            administrator_name=site.group.node_identity_name,
            sku=settings.database_sku,
            high_availability=settings.database_high_availability,
            geo_redundant_backup=settings.geo_redundant_backup,
        ),
    )


def node_scale_set(
    site: Site, network: MemberNetwork, key_store: KeyStore, storage: LedgerStorage, database: LedgerDatabase | None
) -> NodeScaleSet:
    """The node VMs behind their load balancer."""
    member, group, settings = site.member, site.group, site.member.settings
    services = NodeServices[Input[str]](
        client_id=group.node_client_id,
        administrator=group.node_identity_name,
        key_vault_url=key_store.key_vault_uri,
        bank_vault_url=key_store.bank_vault_uri,
        blob_account=storage.blob_account_name,
        lease_container=storage.lease_container,
        network_container=storage.network_container,
        file_account=storage.file_account_name,
        share=storage.share_name,
        database_host=database.host if database else None,
        connection_string=site.connection_string,
    )
    needed: list[Resource | None] = [*key_store.parts, storage, database, *site.collection]
    return NodeScaleSet(
        "nodes",
        NodeScaleSetArgs(
            placement=site.placement,
            vms=site.vms,
            subnet_id=network.nodes_subnet_id,
            frontend_address=str(member.addresses.frontend),
            listeners=member.listeners,
            count=settings.node_count,
            vm_size=settings.vm_size,
            identity_id=group.node_identity_id,
            custom_data=node_custom_data(member, services),
            user_data=vm_user_data(settings),
            wait_for=[part for part in needed if part is not None],
        ),
    )


def network_authority(
    site: Site, network: MemberNetwork, storage: LedgerStorage, keys: MembershipKeys
) -> NetworkAuthority | None:
    """The network authority; None if this member runs none."""
    member, needs = site.member, site.member.authority
    if needs is None or network.authority_subnet_id is None:
        return None

    def custom_data(own: AuthorityPlace) -> Input[str]:
        services = AuthorityServices[Input[str]](
            blob_account=storage.blob_account_name,
            connection_string=site.connection_string,
        )
        return authority_custom_data(member, own, services)

    return NetworkAuthority(
        "authority",
        NetworkAuthorityArgs(
            placement=site.placement,
            safeguards=site.safeguards,
            vault=site.vault(network),
            vms=site.vms,
            keys=needs.keys_of(member.settings.ca_generation),
            root_key=needs.root_key,
            root_open=member.settings.root_open,
            enrolment_keys={
                member.name: keys.enrolment_key(None, member.name),
                **{peer.name: keys.enrolment_key(peer.card, member.name) for peer in member.peers},
            },
            peer_cards=_peer_cards(member),
            legal_names={peer.name: peer.legal_name for peer in member.peers if peer.legal_name},
            blob_account_name=storage.blob_account_name,
            subnet_id=network.authority_subnet_id,
            frontend_address=str(member.addresses.authority_frontend),
            listeners=needs.listeners,
            custom_data=custom_data,
            user_data=vm_user_data(member.settings, needs.module),
            insights_id=site.monitoring.insights_id if site.monitoring else None,
            wait_for=[storage, *site.collection],
        ),
    )


def vpn_peerings(site: Site, gateway: VpnGateway | None, keys: MembershipKeys) -> list[VpnPeering]:
    """This member's half of the link to each peer over VPN."""
    vpn = site.member.settings.connectivity.vpn
    if vpn is None or gateway is None:
        return []
    return [
        VpnPeering(
            f"link-{peer.name}",
            VpnPeeringArgs(
                placement=site.placement,
                gateway_id=gateway.gateway_id,
                kind=peer.link,
                peer_gateway=peer.gateway,
                shared_key=keys.link_key(peer.card, peer.link),
                policy=vpn.ipsec_policy,
            ),
        )
        for peer in site.member.peers
        if peer.over_vpn
    ]


def workbook(
    site: Site,
    *,
    gateway: VpnGateway | None,
    key_store: KeyStore,
    storage: LedgerStorage,
    database: LedgerDatabase | None,
    authority: NetworkAuthority | None,
) -> Workbook | None:
    """The workbook; None for sizes without monitoring."""
    if site.monitoring is None:
        return None
    member = site.member
    vaults = [key_store.key_vault_id, key_store.bank_vault_id]
    if authority:
        vaults += [authority.vault_id, authority.root_vault_id]
    services: dict[Measured, list[Output[str]]] = {
        Measured.VAULT: vaults,
        Measured.STORAGE: list(storage.account_ids.values()),
    }
    if database:
        services[Measured.DATABASE] = [database.server_id]
    if gateway:
        services[Measured.VPN_GATEWAY] = [gateway.gateway_id]
    return Workbook(
        "workbook",
        WorkbookArgs(
            placement=site.placement,
            member=member.name,
            workspace_id=site.monitoring.workspace_id,
            resource_group_id=site.group.resource_group_id,
            transactions=member.settings.platform.transactions,
            identities=[identity.name for identity in member.identities],
            standbys=member.settings.nodes.standby,
            peers={
                peer.name: [str(instance.public_ip) for instance in peer.gateway.instances] if peer.over_vpn else []
                for peer in member.peers
            },
            services=services,
            authority=authority is not None,
        ),
    )


def alerts(
    site: Site,
    *,
    network: MemberNetwork,
    circuit: ExpressRoute | None,
    gateway: VpnGateway | None,
    key_store: KeyStore,
    storage: LedgerStorage,
    database: LedgerDatabase | None,
    nodes: NodeScaleSet,
    authority: NetworkAuthority | None,
    workbook: Workbook | None,
) -> Alerts | None:
    """Alert rules on all components; None for sizes without monitoring."""
    if site.monitoring is None:
        return None
    watched: dict[Watched, dict[str, Output[str]]] = {
        Watched.NAT_GATEWAY: {"": network.nat_gateway_id},
        Watched.LOAD_BALANCER: {"": nodes.load_balancer_id},
        Watched.VAULT: {"": key_store.key_vault_id, "bank": key_store.bank_vault_id},
        Watched.STORAGE: storage.account_ids,
        Watched.FILES: {"": storage.file_service_id},
        Watched.ADDRESS: {"nat": network.nat_address_id},
    }
    if authority:
        watched[Watched.LOAD_BALANCER]["authority"] = authority.load_balancer_id
        watched[Watched.VAULT]["authority"] = authority.vault_id
        watched[Watched.VAULT]["root"] = authority.root_vault_id
    if database:
        watched[Watched.DATABASE] = {"": database.server_id}
    if gateway:
        watched[Watched.VPN_GATEWAY] = {"": gateway.gateway_id}
        watched[Watched.ADDRESS].update({f"vpn-{role}": address for role, address in gateway.address_ids.items()})
    if circuit:
        watched[Watched.CIRCUIT_GATEWAY] = {"": circuit.gateway_id}
    certifying, settings = site.member.authority, site.member.settings
    return Alerts(
        "alerts",
        AlertsArgs(
            placement=site.placement,
            resource_group_id=site.group.resource_group_id,
            watched=watched,
            identities=len(site.member.identities),
            workspace_id=site.monitoring.workspace_id,
            root_vault_id=authority.root_vault_id if authority else None,
            peers={
                peer.name: [
                    PeerInstance(public_ip=str(each.public_ip), bgp_ip=str(each.bgp_peering_ip))
                    for each in peer.gateway.instances
                ]
                for peer in site.member.peers
                if peer.over_vpn
            },
            answering_ports={
                "": NETWORK_INFO_PORT,
                **({"authority": certifying.listeners[0].port} if certifying else {}),
            },
            vault_writers={"": site.group.node_principal_id},
            read_vaults=["bank", *(["authority"] if authority else [])],
            share_gib=settings.ledger.share_gib,
            workbook_url=workbook.url if workbook else None,
            emails=settings.alerts.emails,
            budget=settings.monitoring.budget,
        ),
    )


def _placement(member: Member, group: MemberGroup) -> Placement:
    return Placement(
        resource_group_name=group.resource_group_name, location=member.settings.location, tags=_tags(member)
    )


def _peer_cards(member: Member) -> dict[str, str]:
    return {peer.name: peer.document for peer in member.peers}


def _tags(member: Member) -> dict[str, str]:
    own = dict(zip(OWN_TAGS, (member.name, pulumi.get_project(), "pulumi"), strict=True))
    return {**member.settings.tags, **own}


def _operators(member: Member) -> list[str]:
    return [str(operator) for operator in member.settings.operators]


def _peer_authority(member: Member) -> Endpoint | None:
    peer, needs = member.authority_peer, member.settings.platform.authority
    if peer is None or needs is None:
        return None
    return Endpoint(address=peer.authority_host, ports=[each.port for each in needs.listeners])
