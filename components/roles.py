"""Azure role assignments, each to one principal at the narrowest sufficient scope."""

from collections.abc import Iterable, Sequence
from enum import StrEnum

from pulumi import Input, Output, Resource, ResourceOptions
from pulumi_azure_native import authorization

from components.repeats import repeated


class BuiltInRole(StrEnum):
    """Built-in roles by their id, learn.microsoft.com/azure/role-based-access-control/built-in-roles."""

    KEY_VAULT_SECRETS_USER = "4633458b-17de-408a-b874-0445c86b69e6"
    LOG_ANALYTICS_CONTRIBUTOR = "92aaf0da-9dab-42b6-94a3-d43ce8d16293"
    MONITORING_CONTRIBUTOR = "749f88d5-cbae-40b8-bcfc-e573ddc772fa"
    MONITORING_METRICS_PUBLISHER = "3913510d-42f4-4e42-8a64-420c390055eb"
    MONITORING_READER = "43d0d8ad-25c7-4714-9337-8ba259a9fe05"
    READER = "acdd72a7-3385-48ef-bd42-f606fba81ae7"
    STORAGE_BLOB_DATA_READER = "2a2b9908-6ea1-4ae2-8e65-a410df84e7d1"
    STORAGE_BLOB_DATA_CONTRIBUTOR = "ba92f5b4-2d11-453d-a403-e96b0029c9fe"


def without_deleting(container: str) -> str:
    """A role assignment condition: all actions of the role, except to delete blobs of `container`.

    Format: learn.microsoft.com/azure/role-based-access-control/conditions-format; action and attribute:
    learn.microsoft.com/azure/storage/blobs/storage-auth-abac-attributes.
    """
    blobs = "Microsoft.Storage/storageAccounts/blobServices/containers"
    return (
        f"((!(ActionMatches{{'{blobs}/blobs/delete'}})) OR (@Resource[{blobs}:name] StringNotEquals '{container}'))"
    )


def grant(
    name: str,
    *,
    role: BuiltInRole | Output[str],
    scope: Input[str],
    principal_id: Input[str],
    principal_type: authorization.PrincipalType = authorization.PrincipalType.SERVICE_PRINCIPAL,
    condition: str | None = None,
    wait_for: Sequence[Resource] = (),
    parent: Resource,
) -> authorization.RoleAssignment:
    """Create a role assignment.

    Args:
        name: logical name of the assignment.
        role: a built-in role, or the resource id of a role definition.
        scope: resource id at which the principal gets the role.
        principal_id: object id of the principal in Entra.
        principal_type: type of the principal.
        condition: restricts the role, as `without_deleting` does; None is no restriction.
        wait_for: resources that must exist first.
        parent: the component.
    """
    definition = _built_in(scope, role) if isinstance(role, BuiltInRole) else role
    return authorization.RoleAssignment(
        name,
        scope=scope,
        role_definition_id=definition,
        principal_id=principal_id,
        # Stated, so that Azure does not look up a new principal that Entra has not replicated yet.
        principal_type=principal_type,
        condition=condition,
        # The only version.
        condition_version="2.0" if condition else None,
        # Azure allows one assignment of a role to a principal at a scope: the old one must be deleted first. Nor
        # does it change an assignment's role: learn.microsoft.com/rest/api/authorization/role-assignments.
        opts=ResourceOptions(
            parent=parent,
            delete_before_replace=True,
            replace_on_changes=["role_definition_id", "principal_type"],
            depends_on=list(wait_for),
            hooks=None if isinstance(role, BuiltInRole) else repeated(),
        ),
    )


def grant_groups(name: str, *, role: BuiltInRole, scope: Input[str], groups: Iterable[str], parent: Resource) -> None:
    """Assign `role` at `scope` to each Entra group of `groups`, object ids; `name` is the prefix of logical names."""
    for group in groups:
        grant(
            f"{name}-{group}",
            role=role,
            scope=scope,
            principal_id=group,
            principal_type=authorization.PrincipalType.GROUP,
            parent=parent,
        )


def _built_in(scope: Input[str], role: BuiltInRole) -> Output[str]:
    subscription = Output.from_input(scope).apply(lambda scope_id: scope_id.split("/")[2])
    return Output.concat(
        "/subscriptions/", subscription, "/providers/Microsoft.Authorization/roleDefinitions/", role.value
    )
