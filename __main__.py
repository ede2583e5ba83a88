"""One member's stack: what one bank needs to run its ledger nodes and to reach the other members."""

from typing import TypedDict
from urllib.parse import urlsplit

import pulumi
from pulumi import Output
from pulumi_azure_native import authorization, managedidentity, resources

from addressing import carve
from agent.ports import HEALTH_PATH, HEALTH_PORT, NETWORK_INFO, NETWORK_INFO_PORT
from components.alerts import Alerts, AlertsArgs, Watched
from components.key_store import KeyStore, KeyStoreArgs
from components.ledger_database import LedgerDatabase, LedgerDatabaseArgs
from components.ledger_storage import LedgerStorage, LedgerStorageArgs
from components.member_network import (
    Endpoint,
    ExpressRouteArgs,
    MemberNetwork,
    MemberNetworkArgs,
    PrivateZone,
    VpnGatewayArgs,
)
from components.membership_keys import MembershipKeys, MembershipKeysArgs
from components.monitoring import Monitoring, MonitoringArgs
from components.network_authority import NetworkAuthority, NetworkAuthorityArgs
from components.node_scale_set import HealthArgs, MonitoringAgentArgs, NodeScaleSet, NodeScaleSetArgs
from components.published_card import PublishedCard, PublishedCardArgs
from components.vpn_peering import VpnPeering, VpnPeeringArgs
from consortium import CARD_OUTPUT, authority_peer, own_card, read_peers
from handover import agent_document, authority_document, authority_url, boot, programs
from ledger.platform import application_port, identities, listeners, peer_ports
from settings import EXPRESS_ROUTE_KEY, load_settings


class Placement(TypedDict):
    """Where a component's resources go, and their tags."""

    resource_group_name: Output[str]
    location: str
    tags: dict[str, str]


class Kept(TypedDict):
    """What goes for every component that keeps something: its logs, and whether it is protected."""

    workspace_id: Output[str] | None
    deletion_protection: bool


class Secured(TypedDict):
    """What goes for every vault."""

    tenant_id: str
    endpoints_subnet_id: Output[str]
    vault_zone_id: Output[str]
    purge_protection: bool
    soft_delete_days: int
    peer_cards: dict[str, str]


class Machines(TypedDict):
    """What goes for every VM."""

    health: HealthArgs
    ssh_public_key: str
    image_id: str | None
    zones: tuple[str, ...]
    encryption_at_host: bool
    monitoring: MonitoringAgentArgs | None


async def main() -> None:
    """Read what there is, then register what there should be: nothing is registered before all is checked."""
    settings = load_settings()
    bank, region, platform = settings.bank, settings.region, settings.platform
    plan = carve(settings.address_space)
    nodes = identities(platform, bank.legal_name, settings.identity_count, settings.ledger.roles)
    node_listeners = (*listeners(nodes), NETWORK_INFO)
    frontend = str(plan.frontend)
    client = await authorization.get_client_config_output().future()
    tenant_id = client.tenant_id
    peers = await read_peers(settings, nodes, tenant_id)
    authority, peer_authority = settings.authority_needs, authority_peer(settings, peers)
    tags = {**settings.tags, "bank": bank.name, "project": pulumi.get_project(), "managed-by": "pulumi"}

    keys = MembershipKeys(
        "membership",
        MembershipKeysArgs(member=bank.name, generations=settings.key_generations),
    )

    group = resources.ResourceGroup(f"{bank.name}-ledger", location=settings.location, tags=tags)
    placement: Placement = {"resource_group_name": group.name, "location": settings.location, "tags": tags}
    node_identity = managedidentity.UserAssignedIdentity("node-identity", **placement)

    operators = [str(operator) for operator in settings.operators]
    monitoring = (
        Monitoring(
            "monitoring",
            MonitoringArgs(
                **placement,
                member=bank.name,
                node_principal_id=node_identity.principal_id,
                transactions=platform.transactions,
                operators=operators,
            ),
        )
        if settings.profile.monitoring
        else None
    )
    workspace_id = monitoring.workspace_id if monitoring else None
    kept: Kept = {"workspace_id": workspace_id, "deletion_protection": settings.deletion_protection}

    vpn, express_route = settings.connectivity.vpn, settings.connectivity.express_route
    network = MemberNetwork(
        "network",
        MemberNetworkArgs(
            **placement,
            **kept,
            plan=plan,
            listeners=node_listeners,
            peer_ports=[*peer_ports(platform), NETWORK_INFO_PORT],
            vpn=VpnGatewayArgs(asn=bank.asn, sku=vpn.sku) if vpn else None,
            express_route=ExpressRouteArgs(
                circuit_id=express_route.circuit_id,
                authorization_key=pulumi.Config().require_secret(EXPRESS_ROUTE_KEY),
            )
            if express_route
            else None,
            gateway_readers=[str(reader) for reader in settings.gateway_readers],
            peer_address_spaces=[str(peer.card.address_space) for peer in peers],
            application_networks=[str(block) for block in settings.application_networks],
            authority_listeners=authority.listeners if authority else (),
            peer_authority=Endpoint(
                address=str(urlsplit(peer_authority.authority_url).hostname),
                ports=[each.port for each in platform.authority.listeners],
            )
            if peer_authority and platform.authority
            else None,
            database=platform.database is not None,
            zones=region.zones,
        ),
    )

    secured: Secured = {
        "tenant_id": tenant_id,
        "endpoints_subnet_id": network.endpoints_subnet_id,
        "vault_zone_id": network.zone_ids[PrivateZone.VAULT],
        "purge_protection": settings.key_vault.purge_protection,
        "soft_delete_days": settings.key_vault.soft_delete_days,
        "peer_cards": {peer.name: peer.document for peer in peers},
    }
    key_store = KeyStore(
        "keys",
        KeyStoreArgs(
            **placement,
            **kept,
            **secured,
            node_principal_id=node_identity.principal_id,
            enrolment_key=keys.enrolment_key(peer_authority.card, peer_authority.name)
            if peer_authority
            else keys.enrolment_key(None, bank.name),
            rpc_users={user.name: user.permissions for user in settings.ledger.rpc_users},
            operators=operators,
        ),
    )

    storage = LedgerStorage(
        "storage",
        LedgerStorageArgs(
            **placement,
            **kept,
            endpoints_subnet_id=network.endpoints_subnet_id,
            blob_zone_id=network.zone_ids[PrivateZone.BLOB],
            file_zone_id=network.zone_ids[PrivateZone.FILE],
            node_principal_id=node_identity.principal_id,
            zone_redundant=bool(region.zones),
            geo_redundant=region.pair is not None,
            operators=operators,
        ),
    )

    database = (
        LedgerDatabase(
            "database",
            LedgerDatabaseArgs(
                **placement,
                **kept,
                tenant_id=tenant_id,
                subnet_id=network.database_subnet_id,
                zone_id=network.zone_ids[PrivateZone.DATABASE],
                version=platform.database.version,
                connections_per_identity=platform.database.connections_per_identity,
                identities=[node.name for node in nodes],
                administrator_principal_id=node_identity.principal_id,
                administrator_name=node_identity.name,
                high_availability=settings.database_high_availability,
                geo_redundant_backup=settings.geo_redundant_backup,
            ),
        )
        if platform.database and network.database_subnet_id
        else None
    )

    told = Output.all(
        client_id=node_identity.client_id,
        vault_url=key_store.vault_uri,
        blob_account=storage.blob_account_name,
        lease_container=storage.lease_container,
        network_container=storage.network_container,
        database_host=database.host if database else None,
        administrator=node_identity.name,
        connection_string=monitoring.connection_string if monitoring else None,
    ).apply(lambda known: agent_document(settings, plan, peers, known))
    share_source = Output.format("{0}.file.core.windows.net:/{0}/{1}", storage.file_account_name, storage.share_name)
    machines: Machines = {
        "health": HealthArgs(port=HEALTH_PORT, path=HEALTH_PATH),
        "ssh_public_key": settings.nodes.ssh_public_key,
        "image_id": settings.nodes.image.id if settings.nodes.image else None,
        "zones": region.zones,
        "encryption_at_host": settings.nodes.encryption_at_host,
        "monitoring": MonitoringAgentArgs(
            data_collection_rule_id=monitoring.data_collection_rule_id, workspace_id=monitoring.workspace_id
        )
        if monitoring
        else None,
    }
    scale_set = NodeScaleSet(
        "nodes",
        NodeScaleSetArgs(
            **placement,
            **machines,
            subnet_id=network.nodes_subnet_id,
            frontend_address=frontend,
            listeners=node_listeners,
            count=settings.node_count,
            vm_size=settings.vm_size,
            identity_id=node_identity.id,
            custom_data=Output.all(told, share_source).apply(
                lambda known: boot(settings, known[0], share_source=known[1])
            ),
            user_data=programs(settings),
            wait_for=[part for part in (key_store, storage, database) if part is not None],
        ),
    )

    certifier = (
        NetworkAuthority(
            "authority",
            NetworkAuthorityArgs(
                **placement,
                **kept,
                **secured,
                **machines,
                keys=authority.keys,
                enrolment_keys={
                    bank.name: keys.enrolment_key(None, bank.name),
                    **{peer.name: keys.enrolment_key(peer.card, bank.name) for peer in peers},
                },
                blob_account_name=storage.blob_account_name,
                subnet_id=network.authority_subnet_id,
                frontend_address=str(plan.authority_frontend),
                listeners=authority.listeners,
                custom_data=lambda place: Output.all(
                    blob_account=storage.blob_account_name,
                    connection_string=monitoring.connection_string if monitoring else None,
                ).apply(
                    lambda known: boot(
                        settings,
                        authority_document(settings, plan, nodes, peers, place=place, known=known),
                        module=authority.module,
                    )
                ),
                user_data=programs(settings, authority.module),
                insights_id=monitoring.insights_id if monitoring else None,
                wait_for=[storage],
            ),
        )
        if authority and network.authority_subnet_id
        else None
    )

    linked: dict[Watched, dict[str, Output[str]]] = {}
    if vpn and network.vpn_gateway_id and (vpn_peers := [peer for peer in peers if peer.over_vpn]):
        linked = {Watched.VPN_GATEWAY: {"": network.vpn_gateway_id}}
        for peer in vpn_peers:
            VpnPeering(
                f"link-{peer.name}",
                VpnPeeringArgs(
                    **placement,
                    gateway_id=network.vpn_gateway_id,
                    kind=peer.link,
                    peer_gateway=peer.gateway,
                    shared_key=keys.link_key(peer.card, peer.link),
                    policy=vpn.ipsec_policy,
                ),
            )

    if monitoring:
        Alerts(
            "alerts",
            AlertsArgs(
                **placement,
                resource_group_id=group.id,
                watched={
                    Watched.NAT_GATEWAY: {"": network.nat_gateway_id},
                    Watched.LOAD_BALANCER: {
                        "": scale_set.load_balancer_id,
                        **({"authority": certifier.load_balancer_id} if certifier else {}),
                    },
                    Watched.VAULT: {
                        "": key_store.vault_id,
                        **({"authority": certifier.vault_id} if certifier else {}),
                    },
                    Watched.STORAGE: storage.account_ids,
                    **({Watched.DATABASE: {"": database.server_id}} if database else {}),
                    **linked,
                },
                identities=len(nodes),
                workspace_id=monitoring.workspace_id,
                emails=settings.alerts.emails,
            ),
        )

    card = own_card(
        settings,
        identities=nodes,
        frontend=frontend,
        authority_url=authority_url(settings, plan),
        tenant_id=tenant_id,
        gateway_id=network.vpn_gateway_id,
        gateway_instances=network.vpn_gateway_instances,
        keys=keys,
    )
    PublishedCard(
        "card",
        PublishedCardArgs(resource_group_name=group.name, vault_name=key_store.vault_name, card=card, tags=tags),
    )

    pulumi.export(CARD_OUTPUT, card)
    pulumi.export("fingerprint", keys.fingerprint)
    pulumi.export("resourceGroup", group.name)
    if rpc_port := application_port(nodes):
        pulumi.export("rpcAddress", Output.from_input(f"{frontend}:{rpc_port}"))


pulumi.run(main)
