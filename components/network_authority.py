"""The network authority that a member may run: its keys, its VMs, and their roles."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pulumi import ComponentResource, Input, Output, Resource, ResourceOptions
from pulumi_azure_native import managedidentity, storage

from components.inputs import Placement, Safeguards
from components.node_scale_set import NodeScaleSet, NodeScaleSetArgs, VmArgs
from components.roles import BuiltInRole, grant
from components.vault import ClosedVault, ClosedVaultArgs, CustomRole, SecretText, VaultArgs, VaultRole
from contract.listeners import Listener
from contract.secrets import VaultSecret

AUTHORITY_VMS = 2
"""Number of VMs: one may fail, and an upgrade replaces one after the other."""


@dataclass(frozen=True)
class AuthorityPlace:
    """Names and addresses of an authority's own resources, for its VMs' configuration."""

    client_id: str
    """Client id of its VMs' managed identity."""
    vault_url: str
    """URL of the vault of its keys and secrets."""
    root_vault_url: str
    """URL of the vault of the root key."""
    container: str
    """Name of its container in the bank's blob account."""


@dataclass(frozen=True, kw_only=True)
class NetworkAuthorityArgs:
    """Inputs of `NetworkAuthority`, whose name has nine characters at most: it is part of its vaults' names."""

    placement: Placement
    """Required. Resource group, region and tags of all children."""
    vault: VaultArgs
    """Required. Inputs that the member's vaults share."""
    vms: VmArgs
    """Required. Inputs that the member's VMs share."""
    keys: Sequence[str]
    """Required. Names of all signing keys except the root key."""
    root_key: str
    """Required. Name of the root key, in a separate vault."""
    enrolment_keys: Mapping[str, Input[str]]
    """Required. The key agreed with each member, hex, by the member's name; always stored as a secret."""
    legal_names: Mapping[str, str]
    """Required. The legal name agreed with each peer, by the peer's name: it certifies no other for that peer."""
    blob_account_name: Input[str]
    """Required. The bank's blob account."""
    subnet_id: Input[str]
    """Required. Subnet of its VMs and their frontend."""
    frontend_address: str
    """Required. Static address of its load balancer, inside the subnet."""
    listeners: Sequence[Listener]
    """Required. Listeners of its VMs."""
    peer_cards: Mapping[str, str]
    """Required. The verified membership cards as JSON, by the peer's name: they list each peer's nodes."""
    custom_data: Callable[[AuthorityPlace], Input[str]]
    """Required. Returns the cloud-init document, gzip and base64; must not contain a secret."""
    user_data: Input[str] | None = None
    """Optional. The part of the VMs' programs that does not fit into custom data, base64."""
    vm_size: str = "Standard_D2as_v5"
    """Optional. Azure VM size; a small one suffices for a few certificates a year."""
    wait_for: Sequence[Resource] = ()
    """Optional. Resources of other components that must exist before its container and its first VM: among them the
    blob account's endpoint, since Azure refuses an endpoint of an account that it is changing."""
    insights_id: Input[str] | None = None
    """Conditional. Resource id of the Application Insights for its telemetry; required with `vms.workspace_id`."""
    root_open: bool = False
    """Optional. Whether its VMs may sign with the root key, until an update with False. Otherwise only people can who
    were granted a role on that vault."""
    safeguards: Safeguards = Safeguards()
    """Optional. Log destination and deletion protection."""

    def __post_init__(self) -> None:
        if not self.keys:
            raise ValueError("NetworkAuthority: keys is empty; wanted the names of those that it signs with")
        if (self.vms.workspace_id is None) != (self.insights_id is None):
            raise ValueError(
                "NetworkAuthority: one of vms.workspace_id and insights_id alone; wanted both or neither"
            )


class NetworkAuthority(ComponentResource):
    """Certifies names for the network, on separate VMs with a separate managed identity.

    Its keys never leave the HSM and can only sign. The node VMs' principal has no role on its keys, vaults or
    container; its own principal has none on the nodes' keys, leases and ledger. In its container it may write and
    delete. It can sign with the root key only while `root_open`.
    """

    vault_id: Output[str]
    """Resource id of its vault."""
    root_vault_id: Output[str]
    """Resource id of the vault of the root key."""
    load_balancer_id: Output[str]
    """Resource id of its load balancer."""

    def __init__(self, name: str, args: NetworkAuthorityArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("decentralized-trust:azure:NetworkAuthority", name, None, opts)
        identity = managedidentity.UserAssignedIdentity(
            f"{name}-identity",
            resource_group_name=args.placement.resource_group_name,
            location=args.placement.location,
            tags=args.placement.tags,
            opts=ResourceOptions(parent=self),
        )
        vault = ClosedVault(
            name,
            ClosedVaultArgs(
                placement=args.placement,
                vault=args.vault,
                safeguards=args.safeguards,
                role=VaultRole(
                    role=CustomRole(
                        definition="role",
                        role_name="Network authority keys",
                        description=(
                            "Signs with the authority's keys and reads its secrets; writes, deletes and purges none."
                        ),
                        data_actions=["keys/read", "keys/sign/action", "secrets/getSecret/action"],
                    ),
                    principal_id=identity.principal_id,
                    assignment="signs",
                ),
                secrets={
                    VaultSecret.ENROLMENT_KEYS: SecretText(
                        value=Output.json_dumps(dict(args.enrolment_keys), sort_keys=True)
                    ),
                    VaultSecret.AGREED_NAMES: SecretText(
                        value=json.dumps(dict(args.legal_names), sort_keys=True), confidential=False
                    ),
                },
                peer_cards=args.peer_cards,
                signing_keys=args.keys,
            ),
            ResourceOptions(parent=self),
        )
        root = ClosedVault(
            f"{name}-root",
            ClosedVaultArgs(
                placement=args.placement,
                vault=args.vault,
                safeguards=args.safeguards,
                role=CustomRole(
                    definition="role",
                    role_name="Network root key",
                    description="Signs with the network's root key; changes, backs up and deletes none.",
                    data_actions=["keys/read", "keys/sign/action"],
                ),
                secrets={},
                ending="-v",
                signing_keys=[args.root_key],
            ),
            ResourceOptions(parent=self),
        )
        container = storage.BlobContainer(
            f"{name}-container",
            resource_group_name=args.placement.resource_group_name,
            account_name=args.blob_account_name,
            container_name="authority",
            public_access=storage.PublicAccess.NONE,
            opts=ResourceOptions(parent=self, protect=args.safeguards.protect, depends_on=list(args.wait_for)),
        )
        granted: list[tuple[str, BuiltInRole, Input[str]]] = [
            ("keeps", BuiltInRole.STORAGE_BLOB_DATA_CONTRIBUTOR, container.id)
        ]
        if args.insights_id is not None:
            granted.append(("tells", BuiltInRole.MONITORING_METRICS_PUBLISHER, args.insights_id))
        roles = [
            grant(f"{name}-{what}", role=role, scope=scope, principal_id=identity.principal_id, parent=self)
            for what, role, scope in granted
        ]
        if args.root_open:
            roles.append(
                grant(
                    f"{name}-opens-root",
                    role=root.role,
                    scope=root.vault_id,
                    principal_id=identity.principal_id,
                    # In a first run, while the new role replicates.
                    wait_for=root.parts,
                    parent=self,
                )
            )
        scale_set = NodeScaleSet(
            f"{name}-hosts",
            NodeScaleSetArgs(
                placement=args.placement,
                vms=args.vms,
                subnet_id=args.subnet_id,
                frontend_address=args.frontend_address,
                listeners=args.listeners,
                count=AUTHORITY_VMS,
                vm_size=args.vm_size,
                identity_id=identity.id,
                custom_data=Output.all(
                    client_id=identity.client_id,
                    vault_url=vault.vault_uri,
                    root_vault_url=root.vault_uri,
                    container=container.name,
                ).apply(lambda known: args.custom_data(AuthorityPlace(**known))),
                user_data=args.user_data,
                computer_name_prefix="authority",
                wait_for=[*vault.parts, *root.parts, *roles, *args.wait_for],
            ),
            ResourceOptions(parent=self),
        )
        self.vault_id, self.root_vault_id = vault.vault_id, root.vault_id
        self.load_balancer_id = scale_set.load_balancer_id
        self.register_outputs(
            {
                "vault_id": self.vault_id,
                "root_vault_id": self.root_vault_id,
                "load_balancer_id": self.load_balancer_id,
            }
        )
