"""This member's half of one private link to one other member."""

from dataclasses import dataclass

from pulumi import ComponentResource, Input, Output, ResourceOptions
from pulumi_azure_native import network

from components.gateway import INSTANCES
from components.inputs import GATEWAY_TIMEOUTS, Placement
from contract.card import Gateway, IpsecPolicy, LinkKind

_DEAD_PEER_SECONDS = 45


@dataclass(frozen=True, kw_only=True)
class VpnPeeringArgs:
    """Inputs of `VpnPeering`."""

    placement: Placement
    """Required. Resource group, region and tags of all children."""
    gateway_id: Input[str]
    """Required. Resource id of this member's gateway."""
    kind: LinkKind
    """Required. `vnet-to-vnet` or `ipsec`, the same on both sides."""
    peer_gateway: Gateway
    """Required. The peer's gateway, from its verified card."""
    shared_key: Input[str]
    """Required. The pre-shared key that both sides derive; always stored as a secret."""
    policy: IpsecPolicy
    """Required. The IPsec proposal, the same on both sides."""

    def __post_init__(self) -> None:
        if self.kind not in (LinkKind.VNET_TO_VNET, LinkKind.IPSEC):
            raise ValueError(f"VpnPeering: kind is {self.kind}; wanted {LinkKind.VNET_TO_VNET} or {LinkKind.IPSEC}")


class VpnPeering(ComponentResource):
    """IKEv2 connections to both instances of the peer's gateway; up once the peer has deployed its half.

    A vnet-to-vnet link needs no BGP (learn.microsoft.com/azure/vpn-gateway/vpn-gateway-highlyavailable): its routes
    are the two address spaces, and nobody can announce another's range. An ipsec link to two instances needs BGP.
    """

    connection_ids: dict[str, Output[str]]
    """Resource ids of this half's connections: by the peer's gateway instance, `first` and `second`, for ipsec; by
    `gateway` for vnet-to-vnet."""

    def __init__(self, name: str, args: VpnPeeringArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("decentralized-trust:azure:VpnPeering", name, None, opts)
        self._name, self._args = name, args
        if args.kind is LinkKind.VNET_TO_VNET:
            connections = {"gateway": self._to_gateway()}
        else:
            connections = {role: self._to_instance(role, place) for place, role in enumerate(INSTANCES)}
        self.connection_ids = {end: connection.id for end, connection in connections.items()}
        self.register_outputs({"connection_ids": self.connection_ids})

    def _to_gateway(self) -> network.VirtualNetworkGatewayConnection:
        # Otherwise `link-c-first-connection` would be that of an ipsec link to c too.
        ambiguous = self._name.endswith(tuple(f"-{each}" for each in INSTANCES))
        return self._connection(
            "to-gateway" if ambiguous else "connection",
            connection_type=network.VirtualNetworkGatewayConnectionType.VNET2_VNET,
            virtual_network_gateway2=network.VirtualNetworkGatewayArgs(id=self._args.peer_gateway.id),
        )

    def _to_instance(self, role: str, place: int) -> network.VirtualNetworkGatewayConnection:
        args = self._args
        instance = args.peer_gateway.instances[place]
        # Without an address space, which would become static routes: routes come by BGP.
        far_end = network.LocalNetworkGateway(
            f"{self._name}-{role}-peer",
            resource_group_name=args.placement.resource_group_name,
            location=args.placement.location,
            gateway_ip_address=str(instance.public_ip),
            bgp_settings=network.BgpSettingsArgs(
                asn=args.peer_gateway.asn, bgp_peering_address=str(instance.bgp_peering_ip)
            ),
            tags=args.placement.tags,
            opts=ResourceOptions(parent=self),
        )
        return self._connection(
            f"{role}-connection",
            connection_type=network.VirtualNetworkGatewayConnectionType.IPSEC,
            local_network_gateway2=network.LocalNetworkGatewayArgs(id=far_end.id),
        )

    def _connection(self, role: str, **ends: object) -> network.VirtualNetworkGatewayConnection:
        args, policy = self._args, self._args.policy
        return network.VirtualNetworkGatewayConnection(
            f"{self._name}-{role}",
            resource_group_name=args.placement.resource_group_name,
            location=args.placement.location,
            virtual_network_gateway1=network.VirtualNetworkGatewayArgs(id=args.gateway_id),
            **ends,
            connection_protocol=network.VirtualNetworkGatewayConnectionProtocol.IK_EV2,
            connection_mode=network.VirtualNetworkGatewayConnectionMode.DEFAULT,
            enable_bgp=args.kind is LinkKind.IPSEC,
            dpd_timeout_seconds=_DEAD_PEER_SECONDS,
            use_policy_based_traffic_selectors=False,
            ipsec_policies=[network.IpsecPolicyArgs(**policy.model_dump())],
            shared_key=Output.secret(args.shared_key),
            tags=args.placement.tags,
            opts=ResourceOptions(
                parent=self,
                additional_secret_outputs=["shared_key"],
                custom_timeouts=GATEWAY_TIMEOUTS,
                # Azure ignores a new key of an existing connection, and changes neither of its gateways:
                # github.com/Azure/azure-cli/issues/9447. So it is deleted before its own gateway is replaced, too.
                replace_on_changes=["shared_key", "virtual_network_gateway1", "virtual_network_gateway2"],
                delete_before_replace=True,
            ),
        )
