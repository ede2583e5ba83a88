"""The network authority of a member that is one: its keys, its own VMs, and what these may do."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pulumi import ComponentResource, Input, Output, Resource, ResourceOptions
from pulumi_azure_native import managedidentity, storage

from agent.vault import ENROLMENT_KEYS
from components.node_scale_set import HealthArgs, MonitoringAgentArgs, NodeScaleSet, NodeScaleSetArgs
from components.roles import Role, grant
from components.vault import ClosedVault, Text, VaultArgs
from ledger.platform import Listener

_VMS = 2
"""One may fail, and an upgrade changes one after the other."""


@dataclass(frozen=True)
class AuthorityPlace:
    """Where an authority finds what is its own."""

    client_id: str
    """Of its VMs' identity."""
    vault_url: str
    container: str
    """Of the bank's blob account."""


@dataclass(frozen=True, kw_only=True)
class NetworkAuthorityArgs(VaultArgs):
    """Inputs of `NetworkAuthority`."""

    keys: Sequence[str]
    """Required. Names of the keys that it signs with."""
    peer_cards: Mapping[str, str]
    """Required. The verified membership cards as JSON, by the peer's name: whose names it may certify."""
    enrolment_keys: Mapping[str, Input[str]]
    """Required. What it agreed with each member, hex, by the member's name; always stored as a secret."""
    blob_account_name: Input[str]
    """Required. The bank's blob account."""
    subnet_id: Input[str]
    """Required. Subnet of its VMs and their frontend."""
    frontend_address: str
    """Required. Its load balancer's static address inside the subnet."""
    listeners: Sequence[Listener]
    """Required. What its VMs listen on."""
    health: HealthArgs
    """Required. The VMs' health endpoint."""
    custom_data: Callable[[AuthorityPlace], Input[str]]
    """Required. Makes the cloud-init document, gzip and base64, once its place is known; no secret belongs in it."""
    ssh_public_key: str
    """Required. The administrator's key."""
    user_data: Input[str] | None = None
    """Optional. What that document has no room for, in base64."""
    vm_size: str = "Standard_D2s_v5"
    """Optional. Azure VM size: it signs a few certificates a year."""
    image_id: str | None = None
    """Optional. Image of the VMs; without it Ubuntu 24.04 LTS from the marketplace."""
    zones: Sequence[str] = ()
    """Optional. Availability zones to spread over; all that the region has."""
    encryption_at_host: bool = True
    """Optional. Encrypts disks and caches on the host."""
    monitoring: MonitoringAgentArgs | None = None
    """Optional. Collects counters and logs of the VMs."""
    wait_for: Sequence[Resource] = ()
    """Optional. What must be there besides its own before the first VM starts."""
    insights_id: Input[str] | None = None
    """Conditional. Application Insights that it sends telemetry to; required with `monitoring`."""

    def __post_init__(self) -> None:
        if not self.keys:
            raise ValueError("NetworkAuthority: keys is empty; wanted the names of those that it signs with")
        if (self.monitoring is None) != (self.insights_id is None):
            raise ValueError("NetworkAuthority: one of monitoring and insights_id alone; wanted both or neither")


class NetworkAuthority(ComponentResource):
    """Certifies names for the network, on VMs and under an identity of its own.

    Its keys never leave the HSM and can only sign. Of the bank's own nodes none can use them, nor read its vault or
    its container; and it can do nothing with the nodes' keys, leases and ledger.
    """

    vault_id: Output[str]
    """Resource id of its vault."""
    load_balancer_id: Output[str]
    """Resource id of its load balancer."""

    def __init__(self, name: str, args: NetworkAuthorityArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("decentralized-trust:azure:NetworkAuthority", name, None, opts)
        identity = managedidentity.UserAssignedIdentity(
            f"{name}-identity",
            resource_group_name=args.resource_group_name,
            location=args.location,
            tags=args.tags,
            opts=ResourceOptions(parent=self),
        )
        vault = ClosedVault(name, args, self)
        vault.allow(
            "role",
            role_name="Network authority keys",
            description="Signs with the authority's keys and reads its secrets; writes, deletes and purges none.",
            data_actions=["keys/read", "keys/sign/action", "secrets/getSecret/action"],
            principal_id=identity.principal_id,
            grantees="signs",
        )
        for key in args.keys:
            vault.signing_key(key)
        vault.write_peers(args.peer_cards)
        vault.secret(
            "enrolment-keys",
            Output.json_dumps(dict(args.enrolment_keys), sort_keys=True),
            ENROLMENT_KEYS,
            text=Text.CONFIDENTIAL,
        )
        container = storage.BlobContainer(
            f"{name}-container",
            resource_group_name=args.resource_group_name,
            account_name=args.blob_account_name,
            container_name="authority",
            public_access=storage.PublicAccess.NONE,
            opts=ResourceOptions(parent=self, protect=args.deletion_protection),
        )
        roles: list[Resource] = [
            grant(
                f"{name}-keeps",
                role=Role.STORAGE_BLOB_DATA_CONTRIBUTOR,
                scope=container.id,
                principal_id=identity.principal_id,
                parent=self,
            )
        ]
        if args.insights_id is not None:
            roles.append(
                grant(
                    f"{name}-tells",
                    role=Role.MONITORING_METRICS_PUBLISHER,
                    scope=args.insights_id,
                    principal_id=identity.principal_id,
                    parent=self,
                )
            )
        scale_set = NodeScaleSet(
            f"{name}-hosts",
            NodeScaleSetArgs(
                resource_group_name=args.resource_group_name,
                location=args.location,
                subnet_id=args.subnet_id,
                frontend_address=args.frontend_address,
                listeners=args.listeners,
                health=args.health,
                count=_VMS,
                vm_size=args.vm_size,
                ssh_public_key=args.ssh_public_key,
                identity_id=identity.id,
                custom_data=Output.all(
                    client_id=identity.client_id, vault_url=vault.uri, container=container.name
                ).apply(lambda known: args.custom_data(AuthorityPlace(**known))),
                user_data=args.user_data,
                image_id=args.image_id,
                zones=args.zones,
                encryption_at_host=args.encryption_at_host,
                monitoring=args.monitoring,
                computer_name_prefix="authority",
                wait_for=[*vault.parts, *roles, *args.wait_for],
                tags=args.tags,
            ),
            ResourceOptions(parent=self),
        )
        self.vault_id = vault.resource.id
        self.load_balancer_id = scale_set.load_balancer_id
        self.register_outputs({"vault_id": self.vault_id, "load_balancer_id": self.load_balancer_id})
