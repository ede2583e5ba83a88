"""A large member with as many peers as a measurement wants, each peer's card in a file of its own."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from membership import fingerprint
from offline.azure import Account
from offline.program import PEERS_KEY, PROJECT, ROOT, StackConfiguration, read_configuration
from settings import GatewaySku
from tests.cards import make_card

ACCOUNT = Account.of("bank-a", "north")
_FIRST_BLOCK = 101
_FIRST_ASN = 4_200_000_000


def member_with_peers(count: int, directory: Path) -> StackConfiguration:
    """The member of `Pulumi.prod.yaml`, linked VNet-to-VNet to `count` peers; `directory` gets their cards."""
    configuration = read_configuration(ROOT / "Pulumi.prod.yaml")
    changes = {
        # The smallest gateway that takes 100 links; the same for any count, so that only the peers differ.
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
        tenant_id=ACCOUNT.tenant_id,
    )
    path = directory / f"{name}.json"
    path.write_text(json.dumps(card), encoding="utf-8")
    return {"name": name, "card": str(path), "fingerprint": fingerprint(card["signingKey"])}
