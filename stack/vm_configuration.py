"""The configuration of the member's VMs, and the cloud-init document that carries it."""

from dataclasses import dataclass, fields
from typing import Generic, TypeVar

from pulumi import Input, Output

from components.flows import MemberFlows, Remote, Subnet, port_groups
from components.network_authority import AuthorityPlace
from contract.addresses import PRIVATE_BLOCKS
from contract.authority_configuration import AuthorityConfiguration, NetworkParameterSettings
from contract.egress import ANY_PUBLIC, Egress, nftables
from contract.frontend import listeners, peer_ports
from contract.platform import AuthorityNeeds
from contract.ports import HTTP_PORT, HTTPS_PORT
from contract.vm_configuration import (
    INSTALLATION,
    SHARE,
    AgentConfiguration,
    AuthorityAddress,
    DatabaseServer,
    LedgerNetwork,
)
from delivery.cloud_config import AGENT, cloud_config, custom_data, user_data
from stack.member import Member
from stack.peers import notaries
from stack.settings import Settings

_Text = TypeVar("_Text")
"""`Input[str]` before the deployment, `str` once Azure has answered."""


@dataclass(frozen=True, kw_only=True)
class NodeServices(Generic[_Text]):
    """Names and addresses that Azure assigns and agents need."""

    client_id: _Text
    """Client id of the node VMs' identity."""
    administrator: _Text
    """Name of that identity, as which agents sign in to the database."""
    key_vault_url: _Text
    bank_vault_url: _Text
    blob_account: _Text
    lease_container: _Text
    network_container: _Text
    file_account: _Text
    share: _Text
    database_host: _Text | None
    """None if the platform needs no database."""
    connection_string: _Text | None
    """Connection string of Application Insights; None without monitoring."""


@dataclass(frozen=True, kw_only=True)
class AuthorityServices(Generic[_Text]):
    """Names and addresses that Azure assigns and a network authority needs, besides its `AuthorityPlace`."""

    blob_account: _Text
    connection_string: _Text | None
    """Connection string of Application Insights; None without monitoring."""


def node_custom_data(member: Member, services: NodeServices[Input[str]]) -> Output[str]:
    """The custom data of the node VMs; the output resolves once the services exist."""

    def render(known: dict[str, str]) -> str:
        services = NodeServices[str](**known)
        source = f"{services.file_account}.file.core.windows.net:/{services.file_account}/{services.share}"
        return vm_custom_data(
            member.settings,
            agent_configuration(member, services).to_json(),
            share_source=source,
            egress=nftables(node_egress(member)),
            vm_size=member.settings.vm_size,
        )

    return _known(services).apply(render)


def authority_custom_data(
    member: Member, place: AuthorityPlace, services: AuthorityServices[Input[str]]
) -> Output[str]:
    """The custom data of the authority's VMs; the output resolves once the services exist."""

    def render(known: dict[str, str]) -> str:
        configuration = authority_configuration(member, place, AuthorityServices[str](**known))
        return vm_custom_data(member.settings, configuration.to_json(), module=_needs(member).module)

    return _known(services).apply(render)


def vm_user_data(settings: Settings, module: str = AGENT) -> str | None:
    """User data of a VM: the part of its programs that does not fit into custom data; None if its image has them."""
    return None if settings.nodes.image else user_data(module=module, installation=installation(settings))


def agent_configuration(member: Member, services: NodeServices[str]) -> AgentConfiguration:
    """The configuration of the agents on node VMs."""
    settings = member.settings
    return AgentConfiguration(
        member=member.name,
        address_space=settings.address_space,
        platform=settings.platform.name,
        version=settings.ledger_version,
        legal_name=settings.bank.legal_name,
        identities=settings.identity_count,
        roles=settings.ledger.roles,
        legal_names=settings.ledger.names,
        frontend=str(member.addresses.frontend),
        network=ledger_network(member),
        installation=INSTALLATION,
        artifact=settings.ledger.artifact,
        applications=settings.ledger.applications,
        client_id=services.client_id,
        key_vault_url=services.key_vault_url,
        bank_vault_url=services.bank_vault_url,
        blob_url=_blob_url(services.blob_account),
        lease_container=services.lease_container,
        network_container=services.network_container,
        share=SHARE,
        database=DatabaseServer(host=services.database_host, administrator=services.administrator)
        if services.database_host
        else None,
        connection_string=services.connection_string,
    )


def authority_configuration(
    member: Member, place: AuthorityPlace, services: AuthorityServices[str]
) -> AuthorityConfiguration:
    """The configuration of the network authority that the member runs.

    Raises:
        ValueError: the member runs no network authority.
    """
    settings, needs = member.settings, _needs(member)
    network, url = settings.ledger.network, member.authority_url
    assert network is not None  # noqa: S101
    assert url is not None  # noqa: S101
    return AuthorityConfiguration(
        member=member.name,
        address_space=settings.address_space,
        legal_names=tuple(each.legal_name for each in member.identities),
        client_id=place.client_id,
        vault_url=place.vault_url,
        root_vault_url=place.root_vault_url,
        blob_url=_blob_url(services.blob_account),
        container=place.container,
        url=url,
        crl_url=f"http://{member.addresses.authority_frontend}:{needs.listeners[-1].port}",
        ca_generation=settings.ca_generation,
        approval=network.approval,
        subject=settings.bank.legal_name,
        trust_root=network.trust_root,
        notaries=notaries(settings, member.identities, member.peers),
        parameters=NetworkParameterSettings(
            minimum_platform_version=network.minimum_platform_version,
            max_message_bytes=network.max_message_bytes,
            max_transaction_bytes=network.max_transaction_bytes,
            event_horizon_days=network.event_horizon_days,
        ),
        installation=INSTALLATION,
        version=settings.ledger_version,
        artifact=settings.ledger.artifact,
        applications=settings.ledger.applications,
        connection_string=services.connection_string,
    )


def ledger_network(member: Member) -> LedgerNetwork:
    """The part of the agents' configuration that describes the ledger's network."""
    network = member.settings.ledger.network
    if network is None:
        return LedgerNetwork()
    if network.zone is not None:
        return LedgerNetwork(zone=network.zone.zone())
    url = member.authority_peer.authority_url if member.authority_peer else member.authority_url
    assert url is not None  # noqa: S101
    return LedgerNetwork(
        authority=AuthorityAddress(url=url), trust_root=network.trust_root, document=network.document
    )


def node_egress(member: Member) -> list[Egress]:
    """Connections that the processes of the member's nodes may open, the same on each VM.

    Peers are any private address, so that a joining peer changes no VM; the network's security rules name the peers.
    """
    settings, plan = member.settings, member.addresses
    flows = MemberFlows(
        addresses={
            Subnet.NODES: [str(plan.nodes)],
            Subnet.DATABASE: [str(plan.database)] if settings.platform.database else [],
            Remote.PEERS: PRIVATE_BLOCKS,
        },
        ports=port_groups(
            listeners=listeners(member.identities),
            peers_ports=peer_ports(settings.platform),
            authority_listeners=(),
            peers_authority_ports=(),
        ),
    )
    network = settings.ledger.network
    # In a third party's network, the node itself requests certificates and the network map.
    zone = [Egress(ANY_PUBLIC, (HTTP_PORT, HTTPS_PORT))] if network and network.zone else []
    return [*flows.node_egress(), *zone]


def installation(settings: Settings) -> list[str]:
    """Command line arguments of `ledger.install`, for node VMs and authority VMs."""
    ledger = settings.ledger
    return [
        *(settings.platform.name, settings.ledger_version, str(INSTALLATION)),
        *(("--repository", str(ledger.repository)) if ledger.repository else ()),
        *(("--artifact", str(ledger.artifact)) if ledger.artifact else ()),
        *(part for each in ledger.applications for part in ("--application", str(each))),
    ]


def _needs(member: Member) -> AuthorityNeeds:
    if member.authority is None:
        raise ValueError(f"{member.name} runs no network authority; wanted a member that does")
    return member.authority


def _known(services: NodeServices[Input[str]] | AuthorityServices[Input[str]]) -> Output[dict[str, str]]:
    return Output.all(**{each.name: getattr(services, each.name) for each in fields(services)})


def vm_custom_data(
    settings: Settings,
    document: str,
    *,
    share_source: str | None = None,
    egress: str | None = None,
    module: str = AGENT,
    vm_size: str | None = None,
) -> str:
    """The custom data of a VM.

    Args:
        settings: the member's configuration.
        document: the configuration of the VM's program.
        share_source: the ledger's share, `HOST:/PATH` of NFS; None if the VM mounts none.
        egress: connections that nodes may open, as rules of nftables; None if the VM runs no nodes.
        module: Python module of the VM's program.
        vm_size: Azure VM size, if a setting chooses it.

    Raises:
        ValueError: the document is larger than Azure accepts.
    """
    nodes = settings.nodes
    image, secure = nodes.image.id if nodes.image else "", str(nodes.encryption_at_host)
    return custom_data(
        cloud_config(
            document,
            share_source,
            settings.platform.packages(settings.ledger_version),
            egress=egress,
            in_image=settings.nodes.image is not None,
            module=module,
            installation=installation(settings),
            made_of=(image, secure, nodes.ssh_public_key, vm_size or ""),
        )
    )


def _blob_url(account: str) -> str:
    return f"https://{account}.blob.core.windows.net"
