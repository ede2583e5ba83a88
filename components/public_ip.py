"""Public IPv4 addresses: Standard and static, so that the remote end can rely on them."""

from collections.abc import Sequence

from pulumi import Resource, ResourceOptions
from pulumi_azure_native import network

from components.inputs import Placement


def public_ip(
    name: str, *, placement: Placement, zones: Sequence[str], protect: bool | None = None, parent: Resource
) -> network.PublicIPAddress:
    """Create an address in `zones`: all availability zones of the region, or empty if it has none.

    `protect` is the resource option; None is that of the parent.
    """
    return network.PublicIPAddress(
        name,
        resource_group_name=placement.resource_group_name,
        location=placement.location,
        public_ip_allocation_method=network.IPAllocationMethod.STATIC,
        public_ip_address_version=network.IPVersion.I_PV4,
        sku=network.PublicIPAddressSkuArgs(
            name=network.PublicIPAddressSkuName.STANDARD, tier=network.PublicIPAddressSkuTier.REGIONAL
        ),
        zones=list(zones) or None,
        tags=placement.tags,
        opts=ResourceOptions(parent=parent, protect=protect),
    )
