"""Signed membership cards of imaginary banks, for every test that needs a peer."""

from hashlib import sha256
from ipaddress import IPv4Network
from typing import Any

from contract.addresses import carve
from contract.card import CARD_SCHEMA, IpsecPolicy, sign
from contract.frontend import peer_ports
from contract.key_agreement import link_public_key
from contract.ports import NETWORK_INFO_PATH, NETWORK_INFO_PORT
from ledger.corda import CORDA

TENANT = "6b1c2f0e-51d5-4c7e-9d0b-0a4e7d3c9a11"
"""The Entra tenant that all members share unless a test says otherwise."""


def legal_name(name: str) -> str:
    """The legal name of a member's bank."""
    return f"O={name.replace('-', ' ').title()}, L=London, C=GB"


def signing_seed(name: str) -> bytes:
    """The private half of a member's signing key, 32 bytes derived from its name."""
    return _secret(name, "signing")


def link_secret(name: str) -> bytes:
    """The private half of a member's link key, 32 bytes derived from its name."""
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
    public_ips: tuple[str, str] | None = None,
    tenant_id: str = TENANT,
    ipsec_policy: IpsecPolicy | None = None,
    node_count: int = 2,
    **changes: Any,
) -> dict[str, Any]:
    """A complete, valid and signed card, as JSON values.

    The defaults of `address_space`, `asn` and `public_ips` follow from the last character of `name`: members whose
    names end in the same character need different values.

    Args:
        name: the member's name.
        seed: private half of the member's signing key; by default `signing_seed(name)`.
        link_secret: private half of its link key; by default `link_secret(name)`.
        address_space: the member's IPv4 range; every address on the card is in it.
        asn: autonomous system number of its VPN gateway.
        public_ips: public addresses of the two instances of its VPN gateway.
        tenant_id: its Entra tenant.
        ipsec_policy: IPsec policy of its VPN gateway.
        node_count: how many ledger nodes the member has.
        changes: whole properties by their names on the card, set before the card is signed.
    """
    number = ord(name[-1])
    plan = carve(IPv4Network(address_space or f"10.{number}.0.0/16"))
    first_ip, second_ip = public_ips or (f"198.51.100.{number}", f"203.0.113.{number}")
    gateway = (
        f"/subscriptions/{tenant_id}/resourceGroups/{name}/providers/Microsoft.Network/virtualNetworkGateways/{name}"
    )
    ports = peer_ports(CORDA)
    card = {
        "schema": CARD_SCHEMA,
        "name": name,
        "location": "swedencentral",
        "tenantId": tenant_id,
        "addressSpace": str(plan.space),
        "gateway": {
            "id": gateway,
            "asn": asn or 64512 + number,
            "instances": [
                {"publicIp": first_ip, "bgpPeeringIp": str(plan.gateway[4])},
                {"publicIp": second_ip, "bgpPeeringIp": str(plan.gateway[5])},
            ],
            "ipsecPolicy": (ipsec_policy or IpsecPolicy()).model_dump(mode="json", by_alias=True),
        },
        "linkPublicKey": link_public_key(link_secret or _secret(name, "link")),
        "keyGenerations": {"link": 1, "signing": 1},
        "nodes": [
            {
                "legalName": f"OU=node-{index + 1}, {legal_name(name)}",
                "p2pAddress": f"{plan.frontend}:{ports[index]}",
                "role": "node",
            }
            for index in range(node_count)
        ],
        "networkInfoUrl": f"https://{plan.frontend}:{NETWORK_INFO_PORT}{NETWORK_INFO_PATH}",
        "authority": None,
        "counter": 1,
    }
    return sign({**card, **changes}, seed or signing_seed(name))


def resigned(card: dict[str, Any], seed: bytes) -> dict[str, Any]:
    """`card` signed again with `seed`: the owner's own key, or a forger's."""
    unsigned = {key: value for key, value in card.items() if key not in {"signingKey", "signature"}}
    return sign(unsigned, seed)
