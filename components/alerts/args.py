"""Inputs of the alert rules."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from pulumi import Input

from components.inputs import Placement


class Watched(Enum):
    """Types of resources that alert rules on metrics watch."""

    VIRTUAL_MACHINES = "VMs"
    LOAD_BALANCER = "load balancer"
    VAULT = "vault"
    STORAGE = "storage account"
    FILES = "file service"
    DATABASE = "database"
    NAT_GATEWAY = "NAT gateway"
    VPN_GATEWAY = "VPN gateway"
    CIRCUIT_GATEWAY = "ExpressRoute gateway"
    ADDRESS = "public address"

    @property
    def resource_type(self) -> str:
        """Azure's resource type, which is also the namespace of its metrics."""
        return _RESOURCE_TYPES[self]


_RESOURCE_TYPES = {
    Watched.VIRTUAL_MACHINES: "Microsoft.Compute/virtualMachines",
    Watched.LOAD_BALANCER: "Microsoft.Network/loadBalancers",
    Watched.VAULT: "Microsoft.KeyVault/vaults",
    Watched.STORAGE: "Microsoft.Storage/storageAccounts",
    Watched.FILES: "Microsoft.Storage/storageAccounts/fileServices",
    Watched.DATABASE: "Microsoft.DBforPostgreSQL/flexibleServers",
    Watched.NAT_GATEWAY: "Microsoft.Network/natGateways",
    Watched.VPN_GATEWAY: "Microsoft.Network/virtualNetworkGateways",
    Watched.CIRCUIT_GATEWAY: "Microsoft.Network/virtualNetworkGateways",
    Watched.ADDRESS: "Microsoft.Network/publicIPAddresses",
}


@dataclass(frozen=True)
class PeerInstance:
    """One of the two instances of a peer's VPN gateway."""

    public_ip: str
    """The instance's address in the tunnels."""
    bgp_ip: str
    """The instance's address in the BGP sessions."""


@dataclass(frozen=True, kw_only=True)
class AlertsArgs:
    """Inputs of `Alerts`."""

    placement: Placement
    """Required. Resource group, region and tags of all children."""
    resource_group_id: Input[str]
    """Required. Resource group whose VMs are watched."""
    watched: Mapping[Watched, Mapping[str, Input[str]]]
    """Required. Resource ids to watch, by type and by a key that distinguishes resources of a type and ends their
    rules' names. A type without resources gets no rule."""
    identities: int
    """Required. Number of ledger nodes that must be available."""
    workspace_id: Input[str]
    """Required. Log Analytics workspace that holds the agents' metrics."""
    root_vault_id: Input[str] | None = None
    """Optional. Resource id of the vault of the network's root key, if the member runs the authority."""
    peers: Mapping[str, Sequence[PeerInstance]] = field(default_factory=dict)
    """Optional. Gateway instances of the peers to which the watched VPN gateway has tunnels, by the peer's name."""
    answering_ports: Mapping[str, int] = field(default_factory=dict)
    """Optional. A port that every VM behind a watched load balancer serves, by the balancer's key; other ports are
    served only where an identity is. Without one, the alert uses the average of all ports."""
    vault_writers: Mapping[str, Input[str]] = field(default_factory=dict)
    """Optional. Object id of the principal that sets secrets in a vault from inside the network, by the vault's key;
    any other write raises an alert."""
    read_vaults: Sequence[str] = ()
    """Optional. Keys of the watched vaults that VMs read all the time: an hour without its log raises an alert."""
    share_gib: int | None = None
    """Conditional. Size of the share in GiB; required with a watched file service."""
    workbook_url: Input[str] | None = None
    """Optional. URL of the member's workbook, for each alert's description."""
    emails: Sequence[str] = ()
    """Optional. Mail addresses that get each alert; without any, alerts are shown in the portal only."""
    budget: int | None = None
    """Optional. Highest monthly cost of the resource group, in the currency of the subscription's bills. Requires
    `emails`."""

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.read_vaults) - set(self.watched.get(Watched.VAULT, {}))):
            raise ValueError(f"Alerts: read_vaults has {unknown[0]!r}; wanted keys of watched vaults")
        if self.share_gib is None and self.watched.get(Watched.FILES):
            raise ValueError("Alerts: a file service is watched without share_gib; wanted both")
        if self.budget is not None and not self.emails:
            raise ValueError("Alerts: budget without emails; wanted the addresses that get its mail")
