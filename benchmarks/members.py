"""A large member with any number of peers, each with its card in a separate file."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from contract.fingerprint import fingerprint
from lab import ROOT
from lab.azure.azure import Account
from lab.azure.program import PEERS_KEY, PROJECT, StackConfiguration, read_configuration
from lab.cards import legal_name, make_card
from stack.settings import GatewaySku

ACCOUNT = Account.of("bank-a", "north")
_FIRST_BLOCK = 101
_FIRST_ASN = 4_200_000_000


def member_with_peers(count: int, directory: Path) -> StackConfiguration:
    """The member of `Pulumi.prod.yaml`, linked VNet-to-VNet to `count` peers, with their cards in `directory`."""
    configuration = read_configuration(ROOT / "Pulumi.prod.yaml")
    changes = {
        # The smallest gateway with 100 links; the same for any count, so that only the peers differ.
        f"{PROJECT}:connectivity": {"vpn": {"sku": GatewaySku.VPN_GW4AZ}},
        PEERS_KEY: [_peer(index, directory) for index in range(count)],
    }
    encoded = {key: json.dumps(value) for key, value in changes.items()}
    return replace(configuration, values={**configuration.values, **encoded})


def _peer(index: int, directory: Path) -> dict[str, Any]:
    name = f"peer-{index:03}"
    card = make_card(
        name,
        address_space=f"10.{_FIRST_BLOCK + index}.0.0/22",
        asn=_FIRST_ASN + index,
        public_ips=(f"198.51.100.{index}", f"203.0.113.{index}"),
        tenant_id=ACCOUNT.tenant_id,
    )
    path = directory / f"{name}.json"
    path.write_text(json.dumps(card), encoding="utf-8")
    pin = fingerprint(card["signingKey"])
    return {"name": name, "legalName": legal_name(name), "card": str(path), "fingerprint": pin}
