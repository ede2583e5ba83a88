"""Shared by the VPN gateway and the ExpressRoute gateway: inputs, options, maintenance and logs."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pulumi import Input, Resource, ResourceOptions
from pulumi_azure_native import maintenance, network

from components.collected import GATEWAY_LOGS
from components.diagnostics import send_logs
from components.inputs import GATEWAY_TIMEOUTS, Placement, Safeguards

INSTANCES = ("first", "second")
"""The two instances of an active-active VPN gateway, in the order of the card."""


@dataclass(frozen=True, kw_only=True)
class GatewayArgs:
    """Inputs that both types of gateway share."""

    placement: Placement
    """Required. Resource group, region and tags of all children."""
    subnet_id: Input[str]
    """Required. The network's GatewaySubnet."""
    safeguards: Safeguards = Safeguards()
    """Optional. Log destination and deletion protection."""


def ip_configuration(
    role: str, args: GatewayArgs, address: network.PublicIPAddress | None = None
) -> network.VirtualNetworkGatewayIPConfigurationArgs:
    """The IP configuration of one gateway instance: an address in the subnet, and the public `address` if any."""
    return network.VirtualNetworkGatewayIPConfigurationArgs(
        name=role,
        private_ip_allocation_method=network.IPAllocationMethod.DYNAMIC,
        public_ip_address=network.SubResourceArgs(id=address.id) if address else None,
        subnet=network.SubResourceArgs(id=args.subnet_id),
    )


def gateway_options(args: GatewayArgs, *, parent: Resource) -> ResourceOptions:
    """Options of a gateway. It is deleted before it is replaced: its subnet holds one gateway of a type.

    The two types may be created in any order, learn.microsoft.com/azure/expressroute/
    expressroute-howto-coexist-resource-manager, and at once, as github.com/Azure/ALZ-Bicep's hubNetworking does.
    """
    return ResourceOptions(
        parent=parent,
        protect=args.safeguards.protect,
        custom_timeouts=GATEWAY_TIMEOUTS,
        delete_before_replace=True,
    )


def maintain_and_log(
    name: str, gateway: network.VirtualNetworkGateway, args: GatewayArgs, *, parent: Resource
) -> None:
    """Send a gateway's logs, and give it a daily maintenance window of five hours, the shortest that Azure allows.

    Azure refuses a window that starts in the past, and an update would state the original start again. So an existing
    window is never updated, not even its tags.
    """
    window = maintenance.MaintenanceConfiguration(
        f"{name}-maintenance",
        resource_group_name=args.placement.resource_group_name,
        location=args.placement.location,
        maintenance_scope=maintenance.MaintenanceScope.RESOURCE,
        extension_properties={"maintenanceSubScope": "NetworkGatewayMaintenance"},
        visibility=maintenance.Visibility.CUSTOM,
        start_date_time=f"{datetime.now(UTC) + timedelta(days=1):%Y-%m-%d} 01:00",
        duration="05:00",
        time_zone="UTC",
        recur_every="Day",
        tags=args.placement.tags,
        opts=ResourceOptions(parent=parent, ignore_changes=["startDateTime", "tags"]),
    )
    maintenance.ConfigurationAssignment(
        f"{name}-maintenance-assignment",
        resource_group_name=args.placement.resource_group_name,
        location=args.placement.location,
        provider_name="Microsoft.Network",
        resource_type="virtualNetworkGateways",
        resource_name_=gateway.name,
        maintenance_configuration_id=window.id,
        opts=ResourceOptions(parent=parent, delete_before_replace=True),
    )
    send_logs(
        f"{name}-logs",
        resource_id=gateway.id,
        workspace_id=args.safeguards.workspace_id,
        categories=GATEWAY_LOGS,
        parent=parent,
    )
