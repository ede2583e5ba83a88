"""One member's configuration and peers, read and checked before any resource is registered."""

from dataclasses import dataclass, field
from functools import cached_property

import pulumi
from pulumi_azure_native import authorization

from contract.addresses import AddressPlan, carve
from contract.card import SeenCard
from contract.frontend import NETWORK_INFO, listeners
from contract.identities import Identity, identities
from contract.listeners import Listener
from contract.platform import AuthorityNeeds
from stack.fixed import refuse_changes
from stack.peer_gateways import check_gateways
from stack.peers import PeerMember, authority_peer, read_peers
from stack.previous import PreviousUpdate, read_previous_update
from stack.settings import Settings, load_settings
from stack.warnings import warnings_of


@dataclass(frozen=True)
class Member:
    """A member as its configuration, its peers' cards and its last update describe it."""

    settings: Settings
    tenant_id: str
    """Entra tenant of the principal that deploys."""
    subscription_id: str
    """Subscription of everything that it makes."""
    peers: tuple[PeerMember, ...] = ()
    previous: PreviousUpdate = field(default_factory=PreviousUpdate)

    @property
    def name(self) -> str:
        """The member's name in the consortium."""
        return self.settings.bank.name

    @cached_property
    def addresses(self) -> AddressPlan:
        """The member's subnets and frontends."""
        return carve(self.settings.address_space)

    @cached_property
    def identities(self) -> tuple[Identity, ...]:
        """The member's ledger nodes."""
        return own_identities(self.settings)

    @cached_property
    def listeners(self) -> tuple[Listener, ...]:
        """Listeners of its node VMs."""
        return (*listeners(self.identities, self.settings.ledger.application_ports), NETWORK_INFO)

    @property
    def authority(self) -> AuthorityNeeds | None:
        """Requirements of the network authority that this member runs; None if it runs none."""
        return self.settings.authority_needs

    @property
    def authority_url(self) -> str | None:
        """Base URL of the network authority that this member runs; None if it runs none."""
        if self.authority is None:
            return None
        return f"https://{self.addresses.authority_frontend}:{self.authority.listeners[0].port}"

    @property
    def authority_peer(self) -> PeerMember | None:
        """The peer that certifies names for this member; None if it does so itself, or there is none."""
        return authority_peer(self.settings, self.peers)

    @property
    def newest_peer_cards(self) -> dict[str, SeenCard]:
        """Record of the newest card of each present and former peer, by name: a peer that rejoins counts on."""
        return {**self.previous.peer_cards, **{peer.name: peer.newest for peer in self.peers}}


def own_identities(settings: Settings) -> tuple[Identity, ...]:
    """The member's ledger nodes."""
    ledger = settings.ledger
    return identities(
        settings.platform, settings.bank.legal_name, settings.identity_count, ledger.roles, ledger.names
    )


async def read_member() -> Member:
    """Read the stack's configuration, its peers' cards and the gateways of new links, and check them.

    Raises:
        RunError: with one line for each mistake in the configuration or, if it has none, in the cards or, if they
            have none, with their gateways.
    """
    settings = load_settings()
    client = await authorization.get_client_config_output().future()
    previous = await read_previous_update()
    settings = settings.with_server_of(previous.server_offer)
    if made := previous.made_with:
        settings = settings.with_zones_of(made.zones, made.pair)
    own = own_identities(settings)
    refuse_changes(settings, own, client, previous)
    peers = await read_peers(settings, own, client.tenant_id, previous)
    await check_gateways(settings, peers, previous)
    for warning in warnings_of(settings, previous):
        pulumi.log.warn(warning)
    return Member(settings, client.tenant_id, client.subscription_id, tuple(peers), previous)
