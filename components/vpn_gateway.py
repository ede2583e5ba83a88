"""The VPN gateway: this member's end of its private links to the other members."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from pulumi import ComponentResource, Output, ResourceOptions
from pulumi.runtime import is_dry_run
from pulumi_azure_native import network

from components.gateway import INSTANCES, GatewayArgs, gateway_options, ip_configuration, maintain_and_log
from components.public_ip import public_ip
from components.roles import BuiltInRole, grant


@dataclass(frozen=True, kw_only=True)
class VpnGatewayArgs(GatewayArgs):
    """Inputs of `VpnGateway`."""

    asn: int
    """Required. The member's autonomous system number. Beside an ExpressRoute gateway, a private ASN is only for a
    network without routing between the two gateways."""
    sku: str = "VpnGw1AZ"
    """Optional. A zone-redundant SKU; the others can't be created any more."""
    zones: Sequence[str] = ()
    """Optional. The region's availability zones; public addresses span them all."""
    readers: Sequence[str] = ()
    """Optional. Object ids of the service principals that deploy peers' halves of VNet-to-VNet links; each gets role
    Reader on the gateway."""


class VpnGateway(ComponentResource):
    """A route-based VPN gateway with BGP and two active instances."""

    gateway_id: Output[str]
    """Resource id of the gateway."""
    address_ids: dict[str, Output[str]]
    """Resource ids of the public addresses, by instance."""
    instances: Output[list[dict[str, str]]]
    """`publicIp` and `bgpPeeringIp` of both instances, as the membership card states them."""

    def __init__(self, name: str, args: VpnGatewayArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("decentralized-trust:azure:VpnGateway", name, None, opts)
        first_generation = args.sku == "VpnGw1AZ"
        addresses = {
            instance: public_ip(
                f"{name}-{instance}-ip",
                placement=args.placement,
                zones=args.zones,
                protect=args.safeguards.protect,
                parent=self,
            )
            for instance in INSTANCES
        }
        gateway = network.VirtualNetworkGateway(
            f"{name}-gateway",
            resource_group_name=args.placement.resource_group_name,
            location=args.placement.location,
            gateway_type=network.VirtualNetworkGatewayType.VPN,
            vpn_type=network.VpnType.ROUTE_BASED,
            vpn_gateway_generation=(
                network.VpnGatewayGeneration.GENERATION1
                if first_generation
                else network.VpnGatewayGeneration.GENERATION2
            ),
            sku=network.VirtualNetworkGatewaySkuArgs(name=args.sku, tier=args.sku),
            active_active=True,
            enable_bgp=True,
            bgp_settings=network.BgpSettingsArgs(asn=args.asn),
            ip_configurations=[
                ip_configuration(f"vpn-{instance}", args, address) for instance, address in addresses.items()
            ],
            tags=args.placement.tags,
            # Azure resizes a gateway within its generation alone.
            opts=ResourceOptions.merge(
                gateway_options(args, parent=self), ResourceOptions(replace_on_changes=["vpn_gateway_generation"])
            ),
        )
        for reader in args.readers:
            # Azure checks that the principal that creates a connection may read the gateways at both ends.
            grant(
                f"{name}-gateway-reader-{reader}",
                role=BuiltInRole.READER,
                scope=gateway.id,
                principal_id=reader,
                parent=self,
            )
        maintain_and_log(f"{name}-gateway", gateway, args, parent=self)
        self.gateway_id = gateway.id
        self.address_ids = {instance: address.id for instance, address in addresses.items()}
        self.instances = _instances(gateway)
        self.register_outputs(
            {"gateway_id": self.gateway_id, "address_ids": self.address_ids, "instances": self.instances}
        )


def _instances(gateway: network.VirtualNetworkGateway) -> Output[list[dict[str, str]]]:
    def read(gateway_id: str, settings: network.outputs.BgpSettingsResponse) -> list[dict[str, str]]:
        addresses = settings.bgp_peering_addresses or []
        # In a preview of changed settings, the addresses that Azure adds may be missing.
        if len(addresses) != len(INSTANCES) and not is_dry_run():
            raise ValueError(f"{gateway_id}: {len(addresses)} BGP addresses; wanted {len(INSTANCES)}: active-active")
        # An instance's tunnel address is its public one. Sorted, so that the card does not depend on Azure's order.
        return sorted(
            (
                {"publicIp": each.tunnel_ip_addresses[0], "bgpPeeringIp": each.default_bgp_ip_addresses[0]}
                for each in addresses
            ),
            key=lambda instance: instance["bgpPeeringIp"],
        )

    # Through the id, which is unknown until the gateway exists. (Output.all would make its settings a plain dict.)
    return gateway.id.apply(lambda gateway_id: gateway.bgp_settings.apply(partial(read, gateway_id)))
