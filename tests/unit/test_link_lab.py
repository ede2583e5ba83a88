"""The links' lab configures strongSwan, nftables and FRR for each plan."""

from ipaddress import IPv4Address, IPv4Network
from itertools import product
from typing import Any, get_args

import pytest

from contract.card import Encryption, Group, IkeIntegrity, IpsecIntegrity, IpsecPolicy, PfsGroup
from lab.links.bgp import Neighbor, Speaker
from lab.links.ike import esp_proposal, ike_proposal
from lab.links.nsg import ruleset
from lab.links.plans import PlannedSubnet


@pytest.mark.parametrize(
    ("policy", "ike", "esp"),
    [
        (IpsecPolicy(), "aes256gcm16-prfsha384-ecp384", "aes256gcm16-ecp384"),
        (
            IpsecPolicy(
                ike_encryption="AES192",
                ike_integrity="SHA256",
                dh_group="DHGroup24",
                ipsec_encryption="AES128",
                ipsec_integrity="SHA256",
                pfs_group="PFS14",
            ),
            "aes192-sha256-modp2048s256",
            "aes128-sha256-modp2048",
        ),
    ],
)
def test_a_policy_is_one_proposal(policy: IpsecPolicy, ike: str, esp: str) -> None:
    assert (ike_proposal(policy), esp_proposal(policy)) == (ike, esp)


def test_every_policy_has_proposals_or_is_refused() -> None:
    for encryption, integrity, group in product(get_args(Encryption), get_args(IkeIntegrity), get_args(Group)):
        try:
            policy = IpsecPolicy(ike_encryption=encryption, ike_integrity=integrity, dh_group=group)
        except ValueError:
            assert integrity.startswith("GCM"), "a cipher must be no hash function"
            continue
        if integrity.startswith("GCM"):
            with pytest.raises(ValueError, match="wanted SHA384 or SHA256"):
                ike_proposal(policy)
        else:
            assert ike_proposal(policy).count("-") == 2
    for encryption, integrity, pfs in product(get_args(Encryption), get_args(IpsecIntegrity), get_args(PfsGroup)):
        try:
            policy = IpsecPolicy(ipsec_encryption=encryption, ipsec_integrity=integrity, pfs_group=pfs)
        except ValueError:
            assert "GCM" in encryption + integrity, "a GCM cipher has its own integrity"
            continue
        assert esp_proposal(policy).startswith("aes")


def rule(**changes: Any) -> dict[str, Any]:
    return {
        "direction": "Inbound",
        "priority": 100,
        "access": "Allow",
        "protocol": "Tcp",
        "sourceAddressPrefixes": ["10.2.0.0/16"],
        "sourcePortRange": "*",
        "destinationAddressPrefix": "10.1.0.0/24",
        "destinationPortRanges": ["8443", "10000-10005"],
        **changes,
    }


def test_rules_apply_in_the_order_of_their_priorities_and_azures_default_rules_come_last() -> None:
    denied = rule(
        priority=4096,
        access="Deny",
        protocol="*",
        sourceAddressPrefixes=[],
        sourceAddressPrefix="VirtualNetwork",
        destinationAddressPrefix="*",
        destinationPortRanges=["*"],
    )
    subnet = PlannedSubnet("nodes", IPv4Network("10.1.0.0/24"), (denied, rule()), frozenset())
    text = ruleset([subnet], [IPv4Network("10.1.0.0/16"), IPv4Network("10.2.0.0/16")])
    assert text.split("chain nodes-inbound {\n")[1].splitlines()[:3] == [
        "ip saddr { 10.2.0.0/16 } ip daddr { 10.1.0.0/24 } tcp dport { 8443, 10000-10005 } return",
        "ip saddr @virtual_network drop",
        "ip saddr @virtual_network ip daddr @virtual_network return",
    ]
    assert "elements = { 168.63.129.16, 10.1.0.0/16, 10.2.0.0/16 }" in text, "routed ranges belong to the tag"


def test_a_gateway_accepts_no_route_within_its_own_network() -> None:
    speaker = Speaker(
        IPv4Address("10.1.1.228"), 64512, IPv4Network("10.1.0.0/16"), (Neighbor(IPv4Address("10.3.1.228"), 64514),)
    )
    lines = speaker.configuration().splitlines()
    assert lines[0] == "ip prefix-list foreign deny 10.1.0.0/16 le 32"
    assert "  neighbor 10.3.1.228 prefix-list foreign in" in lines
    assert " timers bgp 60 180" in lines, "Azure's own rule, which can't be changed"
