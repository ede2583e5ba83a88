"""The member's own card."""

from typing import Any

from pulumi import Output

from components.membership_keys import MembershipKeys
from components.vpn_gateway import VpnGateway
from contract.card import CARD_SCHEMA
from contract.platform import P2P
from contract.ports import NETWORK_INFO_PATH, NETWORK_INFO_PORT
from stack.member import Member


def own_card(member: Member, keys: MembershipKeys, gateway: VpnGateway | None) -> Output[dict[str, Any]]:
    """The member's signed card; the output resolves once the VPN gateway exists."""
    settings, frontend = member.settings, member.addresses.frontend
    vpn = settings.connectivity.vpn
    vpn_gateway = (
        {
            "id": gateway.gateway_id,
            "asn": settings.bank.asn,
            "instances": gateway.instances,
            "ipsecPolicy": vpn.ipsec_policy.model_dump(by_alias=True),
        }
        if vpn and gateway
        else None
    )
    return keys.card(
        Output.from_input(
            {
                "schema": CARD_SCHEMA,
                "name": member.name,
                "location": settings.location,
                "tenantId": member.tenant_id,
                "addressSpace": str(settings.address_space),
                "gateway": vpn_gateway,
                "linkPublicKey": keys.link_public_key,
                "keyGenerations": settings.key_generations.model_dump(by_alias=True),
                "nodes": [
                    {
                        "legalName": identity.legal_name,
                        "p2pAddress": f"{frontend}:{identity.ports[P2P]}",
                        "role": identity.role.name,
                    }
                    for identity in member.identities
                ],
                "networkInfoUrl": f"https://{frontend}:{NETWORK_INFO_PORT}{NETWORK_INFO_PATH}",
                "authority": {"url": member.authority_url} if member.authority_url else None,
            }
        ),
        previous=member.previous.card,
        least=settings.bank.card_counter,
    )
