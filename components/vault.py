"""A Key Vault that is reachable only from the member's network, and its contents."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pulumi import ComponentResource, Input, Output, Resource, ResourceOptions
from pulumi_azure_native import authorization, keyvault

from components.collected import VAULT_LOGS
from components.diagnostics import send_logs
from components.inputs import Placement, Safeguards
from components.private_endpoint import PrivateEndpoint, PrivateEndpointArgs
from components.roles import BuiltInRole, grant
from contract.secrets import VaultSecret

_MAX_LOGICAL_NAME = 16
"""Characters of a vault's name in Azure, 24, but the eight that Pulumi adds."""


@dataclass(frozen=True, kw_only=True)
class VaultArgs:
    """Inputs that all vaults of a member share."""

    tenant_id: Input[str]
    """Required. Entra tenant whose principals can get roles."""
    endpoints_subnet_id: Input[str]
    """Required. Subnet of the private endpoint."""
    zone_id: Input[str]
    """Required. Private DNS zone of vaults."""
    resource_group_id: Input[str]
    """Required. Resource group of the vaults, the scope of custom roles: they are defined before the vaults exist."""
    purge_protection: bool = True
    """Optional. Deleted objects can't be purged before `soft_delete_days`; it can't be switched off again."""
    soft_delete_days: int = 90
    """Optional. Days that deleted objects can be restored, 7 to 90; fixed when the vault is created."""


@dataclass(frozen=True, kw_only=True)
class CustomRole:
    """A custom role with exactly these data actions on one vault."""

    definition: str
    """Required. Suffix of the role definition's logical name."""
    role_name: str
    """Required. Prefix of the role's name in Azure."""
    description: str
    """Required. One sentence, for Azure's list of roles."""
    data_actions: Sequence[str]
    """Required. Data actions below `Microsoft.KeyVault/vaults/`."""


@dataclass(frozen=True, kw_only=True)
class VaultRole:
    """A role on one vault, and the principal that gets it."""

    role: BuiltInRole | CustomRole
    """Required. The role; a custom one if no built-in role is as narrow."""
    principal_id: Input[str]
    """Required. Service principal that gets the role."""
    assignment: str
    """Required. Suffix of the assignment's logical name."""


@dataclass(frozen=True, kw_only=True)
class SecretText:
    """The text of one secret."""

    value: Input[str]
    """Required. The text."""
    confidential: bool = True
    """Optional. Whether Pulumi keeps it secret too, in logs and state; False for public text."""
    late: bool = False
    """Optional. Whether it resolves long after the other secrets, so that dependants must not wait for it."""


@dataclass(frozen=True, kw_only=True)
class ClosedVaultArgs:
    """Inputs of `ClosedVault`."""

    placement: Placement
    """Required. Resource group, region and tags of all children."""
    vault: VaultArgs
    """Required. Inputs that the member's vaults share."""
    role: VaultRole | CustomRole
    """Required. Role of the VMs that use the vault. A custom role alone is defined, and its owner assigns it when it
    is needed: by then Azure knows it everywhere."""
    secrets: Mapping[VaultSecret, SecretText]
    """Required. The secrets besides the peers' cards."""
    peer_cards: Mapping[str, str] | None = None
    """Optional. The verified membership cards as JSON, by the peer's name: each becomes a secret, and secret `peers`
    lists them. None if the vault holds no cards."""
    ending: str = "-vault"
    """Optional. Suffix of the vault's logical name, 16 characters in all: Azure allows 24 with the random part. So
    the component's name has 10 at most by default."""
    signing_keys: Sequence[str] = ()
    """Optional. Names of EC P-256 keys in an HSM, not exportable, for signatures only."""
    safeguards: Safeguards = Safeguards()
    """Optional. Log destination and deletion protection."""


class ClosedVault(ComponentResource):
    """A Premium vault with RBAC, reachable only through its private endpoint.

    Secrets and keys are written through Azure Resource Manager, which works with public access off. The program never
    deletes them: deletion goes through the data plane, and keys must not be lost.
    """

    vault_id: Output[str]
    """Resource id of the vault."""
    vault_uri: Output[str]
    """URI of the vault's data plane."""
    secret_ids: dict[VaultSecret, Output[str]]
    """Resource ids of the secrets, by name in the vault."""
    role: BuiltInRole | Output[str]
    """The role, as `grant` takes it."""
    _last: Resource
    """What the next key or secret waits for: Azure refuses two changes of one vault at a time, with `ConflictError`,
    github.com/pulumi/pulumi-azure-native/issues/1013."""
    parts: list[Resource]
    """The vault, its endpoint, role assignment, keys, and all secrets but late ones: dependants pass these to
    `depends_on`. The component itself would make them wait for late secrets too.
    """

    def __init__(self, name: str, args: ClosedVaultArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("decentralized-trust:azure:ClosedVault", name, None, opts)
        if len(name) > (most := _MAX_LOGICAL_NAME - len(args.ending)):
            raise ValueError(
                f"ClosedVault: its name is {name}; wanted {most} characters at most before {args.ending}"
            )
        self._name, self._args = name, args
        self.role = self._defined(args.role.role if isinstance(args.role, VaultRole) else args.role)
        self._vault = self._closed_vault()
        self.vault_id, self.vault_uri = self._vault.id, self._vault.properties.vault_uri
        access = PrivateEndpoint(
            f"{name}-access",
            PrivateEndpointArgs(
                placement=args.placement,
                subnet_id=args.vault.endpoints_subnet_id,
                zone_id=args.vault.zone_id,
                service_id=self.vault_id,
                group_id="vault",
            ),
            ResourceOptions(parent=self),
        )
        send_logs(
            f"{name}-logs",
            resource_id=self.vault_id,
            workspace_id=args.safeguards.workspace_id,
            categories=VAULT_LOGS,
            parent=self,
        )
        assignments = [self._assignment(args.role, access)] if isinstance(args.role, VaultRole) else []
        self._last = access
        keys = [self._signing_key(key) for key in args.signing_keys]
        # Autonamed: the old secret of a peer that left and rejoins still exists under its name.
        cards = {
            peer: self._secret(f"peer-{peer}", SecretText(value=card, confidential=False))
            for peer, card in (args.peer_cards or {}).items()
        }
        texts = dict(args.secrets)
        if args.peer_cards is not None:
            peers = Output.json_dumps({peer: secret.name for peer, secret in cards.items()}, sort_keys=True)
            texts = {VaultSecret.PEERS: SecretText(value=peers, confidential=False), **texts}
        in_order = sorted(texts.items(), key=lambda item: item[1].late)
        secrets = {secret: self._secret(secret, text, secret) for secret, text in in_order}
        self.secret_ids = {secret: made.id for secret, made in secrets.items()}
        in_time = [made for secret, made in secrets.items() if not texts[secret].late]
        self.parts = [self._vault, access, *assignments, *keys, *cards.values(), *in_time]
        self.register_outputs(
            {
                "vault_id": self.vault_id,
                "vault_uri": self.vault_uri,
                "secret_ids": {secret.value: secret_id for secret, secret_id in self.secret_ids.items()},
                "role": self.role,
            }
        )

    def _closed_vault(self) -> keyvault.Vault:
        args = self._args
        # Autonamed, with a random part: the name of a soft-deleted vault stays reserved.
        return keyvault.Vault(
            f"{self._name}{args.ending}",
            resource_group_name=args.placement.resource_group_name,
            location=args.placement.location,
            properties=keyvault.VaultPropertiesArgs(
                tenant_id=args.vault.tenant_id,
                sku=keyvault.SkuArgs(family=keyvault.SkuFamily.A, name=keyvault.SkuName.PREMIUM),
                enable_rbac_authorization=True,
                enable_soft_delete=True,
                soft_delete_retention_in_days=args.vault.soft_delete_days,
                # Azure refuses False.
                enable_purge_protection=True if args.vault.purge_protection else None,
                enabled_for_deployment=False,
                enabled_for_disk_encryption=False,
                enabled_for_template_deployment=False,
                public_network_access="Disabled",
                network_acls=keyvault.NetworkRuleSetArgs(
                    default_action=keyvault.NetworkRuleAction.DENY,
                    bypass=keyvault.NetworkRuleBypassOptions.NONE,
                ),
            ),
            tags=args.placement.tags,
            opts=ResourceOptions(parent=self, protect=args.safeguards.protect),
        )

    def _assignment(self, granted: VaultRole, access: PrivateEndpoint) -> authorization.RoleAssignment:
        return grant(
            f"{self._name}-{granted.assignment}",
            role=self.role,
            scope=self._vault.id,
            principal_id=granted.principal_id,
            # A new role definition takes minutes to replicate (terraform-provider-azurerm #19916), about as long as
            # network, vault and endpoint take.
            wait_for=() if isinstance(self.role, BuiltInRole) else [access],
            parent=self,
        )

    def _defined(self, role: BuiltInRole | CustomRole) -> BuiltInRole | Output[str]:
        if isinstance(role, BuiltInRole):
            return role
        args = self._args
        definition = authorization.RoleDefinition(
            f"{self._name}-{role.definition}",
            # Unique in the tenant, since the group's name has a random part.
            role_name=Output.concat(f"{role.role_name} ", args.placement.resource_group_name, f" {self._name}"),
            description=role.description,
            role_type="CustomRole",
            scope=args.vault.resource_group_id,
            assignable_scopes=[args.vault.resource_group_id],
            permissions=[
                authorization.PermissionArgs(
                    actions=[], data_actions=[f"Microsoft.KeyVault/vaults/{action}" for action in role.data_actions]
                )
            ],
            opts=ResourceOptions(parent=self),
        )
        return definition.id

    def _secret(self, role: str, text: SecretText, secret_name: VaultSecret | None = None) -> keyvault.Secret:
        self._last = made = keyvault.Secret(
            f"{self._name}-{role}",
            resource_group_name=self._args.placement.resource_group_name,
            vault_name=self._vault.name,
            secret_name=secret_name,
            properties=keyvault.SecretPropertiesArgs(
                value=Output.secret(text.value) if text.confidential else text.value,
                content_type="text/plain" if secret_name is VaultSecret.ENROLMENT_KEY else "application/json",
            ),
            tags=self._args.placement.tags,
            opts=ResourceOptions(
                parent=self,
                retain_on_delete=True,
                additional_secret_outputs=["properties"] if text.confidential else None,
                depends_on=[self._last],
            ),
        )
        return made

    def _signing_key(self, key_name: str) -> keyvault.Key:
        self._last = made = keyvault.Key(
            f"{self._name}-{key_name}",
            resource_group_name=self._args.placement.resource_group_name,
            vault_name=self._vault.name,
            key_name=key_name,
            properties=keyvault.KeyPropertiesArgs(
                kty=keyvault.JsonWebKeyType.E_C_HSM,
                curve_name=keyvault.JsonWebKeyCurveName.P_256,
                key_ops=[keyvault.JsonWebKeyOperation.SIGN],
                attributes=keyvault.KeyAttributesArgs(enabled=True, exportable=False),
            ),
            tags=self._args.placement.tags,
            opts=ResourceOptions(
                parent=self,
                protect=self._args.safeguards.protect,
                retain_on_delete=True,
                # Azure Resource Manager creates a key, and refuses to change one: github.com/Azure/bicep/issues/6113.
                ignore_changes=["tags"],
                depends_on=[self._last],
            ),
        )
        return made
