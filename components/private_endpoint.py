"""A service's private address in the member's network, and its name in the private DNS zone."""

from collections.abc import Sequence
from dataclasses import dataclass

from pulumi import ComponentResource, Input, Resource, ResourceOptions
from pulumi_azure_native import network

from components.inputs import Placement


@dataclass(frozen=True, kw_only=True)
class PrivateEndpointArgs:
    """Inputs of `PrivateEndpoint`."""

    placement: Placement
    """Required. Resource group, region and tags of all children."""
    subnet_id: Input[str]
    """Required. Subnet of the private address."""
    zone_id: Input[str]
    """Required. Private DNS zone of the service, linked to the network."""
    service_id: Input[str]
    """Required. Resource that the endpoint leads to."""
    group_id: str
    """Required. Sub-resource of the service: `vault`, `blob` or `file`."""
    wait_for: Sequence[Resource] = ()
    """Optional. Resources that are made first: Azure refuses an endpoint of a service that it is changing."""


class PrivateEndpoint(ComponentResource):
    """Makes one service reachable by a private address; its public access stays off."""

    def __init__(self, name: str, args: PrivateEndpointArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("decentralized-trust:azure:PrivateEndpoint", name, None, opts)
        endpoint = network.PrivateEndpoint(
            f"{name}-endpoint",
            resource_group_name=args.placement.resource_group_name,
            location=args.placement.location,
            subnet=network.SubnetArgs(id=args.subnet_id),
            private_link_service_connections=[
                network.PrivateLinkServiceConnectionArgs(
                    name=args.group_id, private_link_service_id=args.service_id, group_ids=[args.group_id]
                )
            ],
            tags=args.placement.tags,
            opts=ResourceOptions(
                parent=self,
                depends_on=list(args.wait_for),
                # Azure refuses another service: github.com/Azure/bicep-registry-modules/issues/1513.
                replace_on_changes=["private_link_service_connections"],
            ),
        )
        network.PrivateDnsZoneGroup(
            f"{name}-zone-group",
            resource_group_name=args.placement.resource_group_name,
            private_endpoint_name=endpoint.name,
            private_dns_zone_group_name="default",
            private_dns_zone_configs=[
                network.PrivateDnsZoneConfigArgs(name=args.group_id, private_dns_zone_id=args.zone_id)
            ],
            # An endpoint has one group, with a fixed name.
            opts=ResourceOptions(parent=self, delete_before_replace=True),
        )
        self.register_outputs({})
