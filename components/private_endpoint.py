"""A service's private address in the member's network, and its name in the private DNS zone."""

from collections.abc import Mapping
from dataclasses import dataclass

from pulumi import ComponentResource, Input, Output, ResourceOptions
from pulumi_azure_native import network


@dataclass(frozen=True, kw_only=True)
class PrivateEndpointArgs:
    """Inputs of `PrivateEndpoint`."""

    resource_group_name: Input[str]
    """Required. Resource group of the endpoint."""
    location: Input[str]
    """Required. Region of the endpoint, that of its subnet."""
    subnet_id: Input[str]
    """Required. Subnet that the address is taken from."""
    zone_id: Input[str]
    """Required. Private DNS zone of the service, linked to the network."""
    service_id: Input[str]
    """Required. Resource that the endpoint leads to."""
    group_id: str
    """Required. Sub-resource of the service: `vault`, `blob` or `file`."""
    tags: Mapping[str, Input[str]] | None = None
    """Optional. Put on every taggable child."""


class PrivateEndpoint(ComponentResource):
    """Reaches one service by a private address; its public access stays off."""

    endpoint_id: Output[str]
    """Resource id of the endpoint."""

    def __init__(self, name: str, args: PrivateEndpointArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("decentralized-trust:azure:PrivateEndpoint", name, None, opts)
        endpoint = network.PrivateEndpoint(
            f"{name}-endpoint",
            resource_group_name=args.resource_group_name,
            location=args.location,
            subnet=network.SubnetArgs(id=args.subnet_id),
            private_link_service_connections=[
                network.PrivateLinkServiceConnectionArgs(
                    name=args.group_id, private_link_service_id=args.service_id, group_ids=[args.group_id]
                )
            ],
            tags=args.tags,
            opts=ResourceOptions(parent=self),
        )
        network.PrivateDnsZoneGroup(
            f"{name}-zone-group",
            resource_group_name=args.resource_group_name,
            private_endpoint_name=endpoint.name,
            private_dns_zone_group_name="default",
            private_dns_zone_configs=[
                network.PrivateDnsZoneConfigArgs(name=args.group_id, private_dns_zone_id=args.zone_id)
            ],
            # One group an endpoint, under a fixed name.
            opts=ResourceOptions(parent=self, delete_before_replace=True),
        )
        self.endpoint_id = endpoint.id
        self.register_outputs({"endpoint_id": self.endpoint_id})
