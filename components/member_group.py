"""The member's resource group, and the managed identity of its node VMs."""

from collections.abc import Mapping
from dataclasses import dataclass

from pulumi import ComponentResource, Input, Output, ResourceOptions
from pulumi_azure_native import managedidentity, resources


@dataclass(frozen=True, kw_only=True)
class MemberGroupArgs:
    """Inputs of `MemberGroup`."""

    location: str
    """Required. Region of the group."""
    tags: Mapping[str, Input[str]] | None = None
    """Optional. Put on every taggable child."""


class MemberGroup(ComponentResource):
    """Resource group of all of a member's resources, and the managed identity of its node VMs."""

    resource_group_name: Output[str]
    """Name of the resource group."""
    resource_group_id: Output[str]
    """Resource id of the resource group."""
    node_identity_id: Output[str]
    """Resource id of the node VMs' user-assigned identity."""
    node_identity_name: Output[str]
    """Name of that identity, as which it signs in to PostgreSQL."""
    node_principal_id: Output[str]
    """Principal id of that identity, for role assignments."""
    node_client_id: Output[str]
    """Client id of that identity, with which a VM requests tokens."""

    def __init__(self, name: str, args: MemberGroupArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("decentralized-trust:azure:MemberGroup", name, None, opts)
        group = resources.ResourceGroup(
            f"{name}-ledger", location=args.location, tags=args.tags, opts=ResourceOptions(parent=self)
        )
        identity = managedidentity.UserAssignedIdentity(
            f"{name}-node-identity",
            resource_group_name=group.name,
            location=args.location,
            tags=args.tags,
            opts=ResourceOptions(parent=self),
        )
        self.resource_group_name, self.resource_group_id = group.name, group.id
        self.node_identity_id, self.node_identity_name = identity.id, identity.name
        self.node_principal_id, self.node_client_id = identity.principal_id, identity.client_id
        self.register_outputs(
            {
                "resource_group_name": self.resource_group_name,
                "resource_group_id": self.resource_group_id,
                "node_identity_id": self.node_identity_id,
                "node_identity_name": self.node_identity_name,
                "node_principal_id": self.node_principal_id,
                "node_client_id": self.node_client_id,
            }
        )
