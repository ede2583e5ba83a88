"""Azure role assignments, each to one principal at the narrowest scope that does."""

from collections.abc import Iterable
from enum import StrEnum

from pulumi import Input, Output, Resource, ResourceOptions
from pulumi_azure_native import authorization


class Role(StrEnum):
    """Built-in roles by their id, learn.microsoft.com/azure/role-based-access-control/built-in-roles."""

    KEY_VAULT_SECRETS_USER = "4633458b-17de-408a-b874-0445c86b69e6"
    LOG_ANALYTICS_READER = "73c42c96-874c-492b-b04d-ab87d138a893"
    MONITORING_METRICS_PUBLISHER = "3913510d-42f4-4e42-8a64-420c390055eb"
    READER = "acdd72a7-3385-48ef-bd42-f606fba81ae7"
    STORAGE_BLOB_DATA_READER = "2a2b9908-6ea1-4ae2-8e65-a410df84e7d1"
    STORAGE_BLOB_DATA_CONTRIBUTOR = "ba92f5b4-2d11-453d-a403-e96b0029c9fe"


def grant(
    name: str,
    *,
    role: Role | Output[str],
    scope: Input[str],
    principal_id: Input[str],
    principal_type: authorization.PrincipalType = authorization.PrincipalType.SERVICE_PRINCIPAL,
    parent: Resource,
) -> authorization.RoleAssignment:
    """Assign `role`, built-in or by its full id, to one principal at `scope`."""
    definition = _built_in(scope, role) if isinstance(role, Role) else role
    return authorization.RoleAssignment(
        name,
        scope=scope,
        role_definition_id=definition,
        principal_id=principal_id,
        # Stated, so that a principal made a moment ago is not looked up before Entra has replicated it.
        principal_type=principal_type,
        # One assignment of a role to a principal at a scope: the old one must go first.
        opts=ResourceOptions(parent=parent, delete_before_replace=True),
    )


def grant_groups(name: str, *, role: Role, scope: Input[str], groups: Iterable[str], parent: Resource) -> None:
    """Assign `role` to each Entra group, by its object id, at `scope`; `name` begins the assignments' names."""
    for group in groups:
        grant(
            f"{name}-{group}",
            role=role,
            scope=scope,
            principal_id=group,
            principal_type=authorization.PrincipalType.GROUP,
            parent=parent,
        )


def _built_in(scope: Input[str], role: Role) -> Output[str]:
    subscription = Output.from_input(scope).apply(lambda scope_id: scope_id.split("/")[2])
    return Output.concat(
        "/subscriptions/", subscription, "/providers/Microsoft.Authorization/roleDefinitions/", role.value
    )
