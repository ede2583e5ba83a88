"""Azure Key Vault: the private keys of the bank's ledger nodes, and what the nodes must know of the peers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pulumi import ComponentResource, Input, Output, ResourceOptions
from pulumi_azure_native import authorization, keyvault

from components.diagnostics import send_logs
from components.private_endpoint import PrivateEndpoint, PrivateEndpointArgs
from components.roles import Role, grant

PEERS_SECRET = "peers"  # noqa: S105
"""Secret that lists the current peers: the only one that a node VM must know by name."""
_JSON = "application/json"


@dataclass(frozen=True, kw_only=True)
class KeyStoreArgs:
    """Inputs of `KeyStore`."""

    resource_group_name: Input[str]
    """Required. Resource group of the vault."""
    location: Input[str]
    """Required. Region of the vault."""
    tenant_id: Input[str]
    """Required. Entra tenant whose principals may be given roles."""
    endpoints_subnet_id: Input[str]
    """Required. Subnet of the private endpoint."""
    zone_id: Input[str]
    """Required. Private DNS zone of vaults."""
    node_principal_id: Input[str]
    """Required. Principal of the node VMs: it may read and write secrets, not delete them."""
    peer_cards: Mapping[str, str]
    """Required. The verified membership cards as JSON, by the peer's name."""
    operators: Sequence[str] = ()
    """Optional. Entra groups that may read secrets, from inside the network."""
    purge_protection: bool = True
    """Optional. Nobody can purge deleted objects before their time; it can't be switched off again."""
    soft_delete_days: int = 90
    """Optional. Days that deleted objects can be restored, 7 to 90; fixed when the vault is made."""
    workspace_id: Input[str] | None = None
    """Optional. Log Analytics workspace for the audit log."""
    deletion_protection: bool = True
    """Optional. Protects the vault."""
    tags: Mapping[str, Input[str]] | None = None
    """Optional. Put on every taggable child."""


class KeyStore(ComponentResource):
    """A Premium vault with RBAC, reached by its private endpoint alone.

    Its secrets are written through Azure Resource Manager, which works with public access off. They are
    never deleted by the program: deletion goes through the data plane, and a key is not to be lost.
    """

    vault_id: Output[str]
    """Resource id of the vault."""
    vault_uri: Output[str]
    """URI of the vault's data plane."""

    def __init__(self, name: str, args: KeyStoreArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("decentralized-trust:azure:KeyStore", name, None, opts)
        child = ResourceOptions(parent=self)
        # Named by Pulumi, with a random part: the name of a soft-deleted vault stays blocked for its time.
        vault = keyvault.Vault(
            f"{name}-vault",
            resource_group_name=args.resource_group_name,
            location=args.location,
            properties=keyvault.VaultPropertiesArgs(
                tenant_id=args.tenant_id,
                sku=keyvault.SkuArgs(family=keyvault.SkuFamily.A, name=keyvault.SkuName.PREMIUM),
                enable_rbac_authorization=True,
                enable_soft_delete=True,
                soft_delete_retention_in_days=args.soft_delete_days,
                # Azure takes true or nothing: false is refused.
                enable_purge_protection=True if args.purge_protection else None,
                enabled_for_deployment=False,
                enabled_for_disk_encryption=False,
                enabled_for_template_deployment=False,
                public_network_access="Disabled",
                network_acls=keyvault.NetworkRuleSetArgs(
                    default_action=keyvault.NetworkRuleAction.DENY,
                    bypass=keyvault.NetworkRuleBypassOptions.NONE,
                ),
            ),
            tags=args.tags,
            opts=ResourceOptions(parent=self, protect=args.deletion_protection),
        )
        PrivateEndpoint(
            f"{name}-access",
            PrivateEndpointArgs(
                resource_group_name=args.resource_group_name,
                location=args.location,
                subnet_id=args.endpoints_subnet_id,
                zone_id=args.zone_id,
                service_id=vault.id,
                group_id="vault",
                tags=args.tags,
            ),
            child,
        )
        node_role = authorization.RoleDefinition(
            f"{name}-node-role",
            # Unique in the tenant, as the vault's name is.
            role_name=Output.concat("Ledger node secrets ", vault.name),
            description="Reads and writes the secrets of ledger nodes; deletes and purges none.",
            role_type="CustomRole",
            scope=_resource_group_id(vault.id),
            assignable_scopes=[_resource_group_id(vault.id)],
            permissions=[
                authorization.PermissionArgs(
                    actions=[],
                    data_actions=[
                        f"Microsoft.KeyVault/vaults/secrets/{action}/action"
                        for action in ("getSecret", "setSecret", "readMetadata")
                    ],
                )
            ],
            opts=child,
        )
        grant(
            f"{name}-nodes",
            role=node_role.id,
            scope=vault.id,
            principal_id=args.node_principal_id,
            parent=self,
        )
        for group in args.operators:
            grant(
                f"{name}-operators-{group}",
                role=Role.KEY_VAULT_SECRETS_USER,
                scope=vault.id,
                principal_id=group,
                principal_type=authorization.PrincipalType.GROUP,
                parent=self,
            )
        send_logs(f"{name}-logs", resource_id=vault.id, workspace_id=args.workspace_id, parent=self, group="audit")
        self._write_peers(name, args, vault)
        self.vault_id = vault.id
        self.vault_uri = vault.properties.vault_uri
        self.register_outputs({"vault_id": self.vault_id, "vault_uri": self.vault_uri})

    def _write_peers(self, name: str, args: KeyStoreArgs, vault: keyvault.Vault) -> None:
        """One secret a card, and one that lists them.

        A peer that left and joins again gets a secret of a new name: its old one is still there.
        """

        def secret(logical_name: str, value: Input[str], secret_name: str | None = None) -> keyvault.Secret:
            return keyvault.Secret(
                logical_name,
                resource_group_name=args.resource_group_name,
                vault_name=vault.name,
                secret_name=secret_name,
                properties=keyvault.SecretPropertiesArgs(value=value, content_type=_JSON),
                tags=args.tags,
                opts=ResourceOptions(parent=self, retain_on_delete=True),
            )

        cards = {peer: secret(f"{name}-peer-{peer}", card).name for peer, card in args.peer_cards.items()}
        secret(f"{name}-peers", Output.json_dumps(cards, sort_keys=True), PEERS_SECRET)


def _resource_group_id(resource_id: Output[str]) -> Output[str]:
    return resource_id.apply(lambda text: text.split("/providers/")[0])
