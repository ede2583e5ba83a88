"""This member's half of one private link to one other member."""

from collections.abc import Mapping
from dataclasses import dataclass

from pulumi import ComponentResource, CustomTimeouts, Input, Output, ResourceOptions
from pulumi_azure_native import network

from membership import Gateway, IpsecPolicy, LinkKind

_TIMEOUTS = CustomTimeouts(create="2h", update="2h", delete="2h")
_DEAD_PEER_SECONDS = 45
_INSTANCES = ("first", "second")


@dataclass(frozen=True, kw_only=True)
class VpnPeeringArgs:
    """Inputs of `VpnPeering`."""

    resource_group_name: Input[str]
    """Required. Resource group of this member's gateway."""
    location: Input[str]
    """Required. Region of this member's gateway."""
    gateway_id: Input[str]
    """Required. Resource id of this member's gateway."""
    kind: LinkKind
    """Required. `vnet-to-vnet` or `ipsec`, the same on both sides."""
    peer_gateway: Gateway
    """Required. The peer's gateway, from its verified card."""
    shared_key: Input[str]
    """Required. The key that both sides derived; always stored as a secret."""
    policy: IpsecPolicy
    """Required. The IPsec proposal, the same on both sides."""
    tags: Mapping[str, Input[str]] | None = None
    """Optional. Put on every taggable child."""

    def __post_init__(self) -> None:
        if self.kind not in (LinkKind.VNET_TO_VNET, LinkKind.IPSEC):
            raise ValueError(f"VpnPeering: kind is {self.kind}; wanted {LinkKind.VNET_TO_VNET} or {LinkKind.IPSEC}")


class VpnPeering(ComponentResource):
    """IKEv2 with BGP to both instances of the peer's gateway; up once the peer has made its half."""

    connection_ids: dict[str, Output[str]]
    """Resource ids of this half's connections, by the peer's gateway instance, or `gateway` for both."""

    def __init__(self, name: str, args: VpnPeeringArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("decentralized-trust:azure:VpnPeering", name, None, opts)
        self._name, self._args = name, args
        if args.kind is LinkKind.VNET_TO_VNET:
            connections = {"gateway": self._to_gateway()}
        else:
            connections = {role: self._to_instance(role, place) for place, role in enumerate(_INSTANCES)}
        self.connection_ids = {end: connection.id for end, connection in connections.items()}
        self.register_outputs({"connection_ids": self.connection_ids})

    def _to_gateway(self) -> network.VirtualNetworkGatewayConnection:
        return self._connection(
            "connection",
            connection_type=network.VirtualNetworkGatewayConnectionType.VNET2_VNET,
            virtual_network_gateway2=network.VirtualNetworkGatewayArgs(id=self._args.peer_gateway.id),
        )

    def _to_instance(self, role: str, place: int) -> network.VirtualNetworkGatewayConnection:
        args = self._args
        instance = args.peer_gateway.instances[place]
        # No address space: routes come by BGP, and what is listed here would become static ones.
        far_end = network.LocalNetworkGateway(
            f"{self._name}-{role}-peer",
            resource_group_name=args.resource_group_name,
            location=args.location,
            gateway_ip_address=str(instance.public_ip),
            bgp_settings=network.BgpSettingsArgs(
                asn=args.peer_gateway.asn, bgp_peering_address=str(instance.bgp_peering_ip)
            ),
            tags=args.tags,
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
            resource_group_name=args.resource_group_name,
            location=args.location,
            virtual_network_gateway1=network.VirtualNetworkGatewayArgs(id=args.gateway_id),
            **ends,
            connection_protocol=network.VirtualNetworkGatewayConnectionProtocol.IK_EV2,
            connection_mode=network.VirtualNetworkGatewayConnectionMode.DEFAULT,
            enable_bgp=True,
            dpd_timeout_seconds=_DEAD_PEER_SECONDS,
            use_policy_based_traffic_selectors=False,
            ipsec_policies=[network.IpsecPolicyArgs(**policy.model_dump())],
            shared_key=Output.secret(args.shared_key),
            tags=args.tags,
            opts=ResourceOptions(
                parent=self,
                additional_secret_outputs=["shared_key"],
                custom_timeouts=_TIMEOUTS,
                # Azure ignores a new key for a connection that is there: it must go first.
                replace_on_changes=["shared_key"],
                delete_before_replace=True,
            ),
        )
