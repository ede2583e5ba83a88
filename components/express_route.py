"""The ExpressRoute gateway and its connection to the bank's circuit."""

from dataclasses import dataclass

from pulumi import ComponentResource, Input, Output, ResourceOptions
from pulumi_azure_native import network

from components.gateway import GatewayArgs, gateway_options, ip_configuration, maintain_and_log
from components.inputs import GATEWAY_TIMEOUTS


@dataclass(frozen=True, kw_only=True)
class ExpressRouteArgs(GatewayArgs):
    """Inputs of `ExpressRoute`."""

    circuit_id: Input[str]
    """Required. Resource id of the circuit."""
    authorization_key: Input[str]
    """Required. Authorization that the circuit's owner issued; always stored as a secret."""
    sku: str = "ErGw1AZ"
    """Optional. A zone-redundant SKU."""


class ExpressRoute(ComponentResource):
    """Connects the member's network to the bank's circuit.

    The gateway's public address is Azure's own: learn.microsoft.com/azure/expressroute/
    expressroute-about-virtual-network-gateways#auto-assigned-public-ip.
    """

    gateway_id: Output[str]
    """Resource id of the gateway."""

    def __init__(self, name: str, args: ExpressRouteArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("decentralized-trust:azure:ExpressRoute", name, None, opts)
        gateway = network.VirtualNetworkGateway(
            f"{name}-gateway",
            resource_group_name=args.placement.resource_group_name,
            location=args.placement.location,
            gateway_type=network.VirtualNetworkGatewayType.EXPRESS_ROUTE,
            sku=network.VirtualNetworkGatewaySkuArgs(name=args.sku, tier=args.sku),
            ip_configurations=[ip_configuration("express-route", args)],
            # Otherwise it drops what comes from other networks on the circuit, such as a peer's:
            # learn.microsoft.com/azure/expressroute/virtual-network-connectivity-guidance.
            allow_remote_vnet_traffic=True,
            tags=args.placement.tags,
            opts=gateway_options(args, parent=self),
        )
        network.VirtualNetworkGatewayConnection(
            f"{name}-connection",
            resource_group_name=args.placement.resource_group_name,
            location=args.placement.location,
            connection_type=network.VirtualNetworkGatewayConnectionType.EXPRESS_ROUTE,
            virtual_network_gateway1=network.VirtualNetworkGatewayArgs(id=gateway.id),
            peer=network.SubResourceArgs(id=args.circuit_id),
            authorization_key=Output.secret(args.authorization_key),
            tags=args.placement.tags,
            opts=ResourceOptions(
                parent=self,
                additional_secret_outputs=["authorization_key"],
                custom_timeouts=GATEWAY_TIMEOUTS,
                # Azure ignores a new key of an existing connection, and changes neither of its ends:
                # github.com/hashicorp/terraform-provider-azurerm/issues/5050,
                # github.com/Azure/azure-cli/issues/9447.
                replace_on_changes=["authorization_key", "peer", "virtual_network_gateway1"],
                delete_before_replace=True,
            ),
        )
        maintain_and_log(f"{name}-gateway", gateway, args, parent=self)
        self.gateway_id = gateway.id
        self.register_outputs({"gateway_id": self.gateway_id})
