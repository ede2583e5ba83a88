"""A Key Vault that only the member's own network reaches, and what is written into one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from pulumi import ComponentResource, Input, Output, Resource, ResourceOptions
from pulumi_azure_native import authorization, keyvault

from agent.vault import ENROLMENT_KEY, PEERS
from components.diagnostics import send_logs
from components.private_endpoint import PrivateEndpoint, PrivateEndpointArgs
from components.roles import grant


class Text(StrEnum):
    """What a secret of the vault is besides being kept there."""

    PUBLIC = "public"
    """Anybody may know it; the vault is where the VMs look for it."""
    CONFIDENTIAL = "confidential"
    """Secret in the program and in the state too."""


@dataclass(frozen=True, kw_only=True)
class VaultArgs:
    """Inputs of every component that has a vault."""

    resource_group_name: Input[str]
    """Required. Resource group of the vault."""
    location: Input[str]
    """Required. Region of the vault."""
    tenant_id: Input[str]
    """Required. Entra tenant whose principals may be given roles."""
    endpoints_subnet_id: Input[str]
    """Required. Subnet of the private endpoint."""
    vault_zone_id: Input[str]
    """Required. Private DNS zone of vaults."""
    purge_protection: bool = True
    """Optional. Nobody can purge deleted objects before their time; it can't be switched off again."""
    soft_delete_days: int = 90
    """Optional. Days that deleted objects can be restored, 7 to 90; fixed when the vault is made."""
    workspace_id: Input[str] | None = None
    """Optional. Log Analytics workspace for the audit log."""
    deletion_protection: bool = True
    """Optional. Protects the vault and its keys."""
    tags: Mapping[str, Input[str]] | None = None
    """Optional. Put on every taggable child."""


class ClosedVault:
    """A Premium vault with RBAC, reached by its private endpoint alone; its resources lie below a component.

    Secrets and keys are written through Azure Resource Manager, which works with public access off. They are never
    deleted by the program: deletion goes through the data plane, and a key is not to be lost.
    """

    def __init__(self, name: str, args: VaultArgs, parent: ComponentResource) -> None:
        self._name, self._args, self._parent = name, args, parent
        self.parts: list[Resource] = []
        """What lies in front of the vault and in it: who needs it waits for these."""
        # Named by Pulumi, with a random part: the name of a soft-deleted vault stays blocked for its time.
        self.resource = keyvault.Vault(
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
            opts=ResourceOptions(parent=parent, protect=args.deletion_protection),
        )
        access = PrivateEndpoint(
            f"{name}-access",
            PrivateEndpointArgs(
                resource_group_name=args.resource_group_name,
                location=args.location,
                subnet_id=args.endpoints_subnet_id,
                zone_id=args.vault_zone_id,
                service_id=self.resource.id,
                group_id="vault",
                tags=args.tags,
            ),
            ResourceOptions(parent=parent),
        )
        self.parts += [self.resource, access]
        send_logs(
            f"{name}-logs",
            resource_id=self.resource.id,
            workspace_id=args.workspace_id,
            parent=parent,
            group="audit",
        )

    @property
    def uri(self) -> Output[str]:
        """URI of the vault's data plane."""
        return self.resource.properties.vault_uri

    def allow(
        self,
        role: str,
        *,
        role_name: str,
        description: str,
        data_actions: Sequence[str],
        principal_id: Input[str],
        grantees: str,
    ) -> None:
        """Make a role of exactly these data actions on this vault, and give it to one principal.

        Args:
            role: ends the logical name of the role.
            role_name: begins the role's name in Azure.
            description: of the role, one sentence.
            data_actions: below `Microsoft.KeyVault/vaults/`.
            principal_id: who gets it.
            grantees: ends the logical name of the assignment.
        """
        vault = self.resource
        definition = authorization.RoleDefinition(
            f"{self._name}-{role}",
            # Unique in the tenant, as the vault's name is.
            role_name=Output.concat(f"{role_name} ", vault.name),
            description=description,
            role_type="CustomRole",
            scope=_resource_group_id(vault.id),
            assignable_scopes=[_resource_group_id(vault.id)],
            permissions=[
                authorization.PermissionArgs(
                    actions=[], data_actions=[f"Microsoft.KeyVault/vaults/{action}" for action in data_actions]
                )
            ],
            opts=ResourceOptions(parent=self._parent),
        )
        self.parts.append(
            grant(
                f"{self._name}-{grantees}",
                role=definition.id,
                scope=vault.id,
                principal_id=principal_id,
                parent=self._parent,
            )
        )

    def secret(
        self, role: str, value: Input[str], secret_name: str | None = None, *, text: Text = Text.PUBLIC
    ) -> keyvault.Secret:
        """A secret of the vault; named by Pulumi where nobody must know its name beforehand."""
        made = vault_secret(
            f"{self._name}-{role}",
            resource_group_name=self._args.resource_group_name,
            vault_name=self.resource.name,
            value=value,
            secret_name=secret_name,
            text=text,
            tags=self._args.tags,
            parent=self._parent,
        )
        self.parts.append(made)
        return made

    def write_peers(self, cards: Mapping[str, str]) -> None:
        """One secret a card, and one that lists them.

        A peer that left and joins again gets a secret of a new name: its old one is still there.
        """
        names = {peer: self.secret(f"peer-{peer}", card).name for peer, card in cards.items()}
        self.secret("peers", Output.json_dumps(names, sort_keys=True), PEERS)

    def signing_key(self, key_name: str) -> keyvault.Key:
        """A key on P-256 that lives and dies in an HSM, and can do nothing but sign."""
        made = keyvault.Key(
            f"{self._name}-{key_name}",
            resource_group_name=self._args.resource_group_name,
            vault_name=self.resource.name,
            key_name=key_name,
            properties=keyvault.KeyPropertiesArgs(
                kty=keyvault.JsonWebKeyType.E_C_HSM,
                curve_name=keyvault.JsonWebKeyCurveName.P_256,
                key_ops=[keyvault.JsonWebKeyOperation.SIGN],
                attributes=keyvault.KeyAttributesArgs(enabled=True, exportable=False),
            ),
            tags=self._args.tags,
            opts=ResourceOptions(parent=self._parent, protect=self._args.deletion_protection, retain_on_delete=True),
        )
        self.parts.append(made)
        return made


def vault_secret(
    name: str,
    *,
    resource_group_name: Input[str],
    vault_name: Input[str],
    value: Input[str],
    secret_name: str | None,
    text: Text = Text.PUBLIC,
    tags: Mapping[str, Input[str]] | None,
    parent: ComponentResource,
) -> keyvault.Secret:
    """Write one secret through Azure Resource Manager; it stays in the vault when it leaves the stack."""
    confidential = text is Text.CONFIDENTIAL
    return keyvault.Secret(
        name,
        resource_group_name=resource_group_name,
        vault_name=vault_name,
        secret_name=secret_name,
        properties=keyvault.SecretPropertiesArgs(
            value=Output.secret(value) if confidential else value,
            content_type="text/plain" if secret_name == ENROLMENT_KEY else "application/json",
        ),
        tags=tags,
        opts=ResourceOptions(
            parent=parent,
            retain_on_delete=True,
            additional_secret_outputs=["properties"] if confidential else None,
        ),
    )


def _resource_group_id(resource_id: Output[str]) -> Output[str]:
    return resource_id.apply(lambda text: text.split("/providers/")[0])
