"""Signed membership cards of imaginary banks, for every test that needs a peer."""

from hashlib import sha256
from ipaddress import IPv4Network
from typing import Any

import membership
from addressing import carve

TENANT = "6b1c2f0e-51d5-4c7e-9d0b-0a4e7d3c9a11"
"""The Entra tenant that all members share unless a test says otherwise."""


def signing_seed(name: str) -> bytes:
    """The secret half of a member's signing key: always the same for one name."""
    return _secret(name, "signing")


def link_secret(name: str) -> bytes:
    """The secret half of a member's link key: always the same for one name."""
    return _secret(name, "link")


def _secret(name: str, use: str) -> bytes:
    return sha256(f"{use} key of {name}".encode()).digest()


def make_card(
    name: str = "bank-b",
    *,
    seed: bytes | None = None,
    link_secret: bytes | None = None,
    address_space: str | None = None,
    asn: int | None = None,
    tenant_id: str = TENANT,
    ipsec_policy: membership.IpsecPolicy | None = None,
    node_count: int = 2,
    **changes: Any,
) -> dict[str, Any]:
    """A complete, valid and signed card, as JSON values.

    The last character of `name` numbers the member: names that end alike need another `address_space` and `asn`.

    Args:
        name: the member.
        seed: secret half of its signing key.
        link_secret: secret half of its link key.
        address_space: the member's range; every address on the card lies in it.
        asn: of its VPN gateway.
        tenant_id: its Entra tenant.
        ipsec_policy: of its VPN gateway.
        node_count: how many ledger nodes it has.
        changes: whole properties by the names they have on the card, set before it is signed.
    """
    number = ord(name[-1])
    bank = name.replace("-", " ").title()
    plan = carve(IPv4Network(address_space or f"10.{number}.0.0/16"))
    gateway = (
        f"/subscriptions/{tenant_id}/resourceGroups/{name}/providers/Microsoft.Network/virtualNetworkGateways/{name}"
    )
    card = {
        "schema": membership.SCHEMA_VERSION,
        "name": name,
        "location": "westeurope",
        "tenantId": tenant_id,
        "addressSpace": str(plan.space),
        "gateway": {
            "id": gateway,
            "asn": asn or 64512 + number,
            "instances": [
                {"publicIp": f"198.51.100.{number}", "bgpPeeringIp": str(plan.gateway[4])},
                {"publicIp": f"203.0.113.{number}", "bgpPeeringIp": str(plan.gateway[5])},
            ],
            "ipsecPolicy": (ipsec_policy or membership.IpsecPolicy()).model_dump(mode="json", by_alias=True),
        },
        "linkPublicKey": membership.link_public_key(link_secret or _secret(name, "link")),
        "keyGenerations": {"link": 1, "signing": 1},
        "nodes": [
            {
                "legalName": f"OU=node-{index + 1}, O={bank}, L=London, C=GB",
                "p2pAddress": f"{plan.frontend}:{10000 + index}",
                "role": "node",
            }
            for index in range(node_count)
        ],
        "networkInfoUrl": f"https://{plan.frontend}:8443/networkinfo",
        "authority": None,
    }
    return membership.sign({**card, **changes}, seed or signing_seed(name))


def resigned(card: dict[str, Any], seed: bytes) -> dict[str, Any]:
    """`card` signed again: what its owner, or a forger with another `seed`, could publish."""
    unsigned = {key: value for key, value in card.items() if key not in {"signingKey", "signature"}}
    return membership.sign(unsigned, seed)
