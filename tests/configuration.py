"""A valid stack configuration, in the form in which Pulumi passes it to the program."""

import json
from collections.abc import Mapping
from typing import Any

PROJECT = "decentralized-trust"
LOCATION = "azure-native:location"
SSH_PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGn0eS0Qq8tJpE5gSxxUNJH0V1mSV3tq0y2w0YkR6mDs"
IMAGE_ID = (
    "/subscriptions/00000000-0000-0000-0000-000000000007/resourceGroups/g/providers/Microsoft.Compute/galleries/bank"
    "/images/ledger/versions/1.0.0"
)

_BANK_A: dict[str, Any] = {
    "location": "swedencentral",
    "bank": {"name": "bank-a", "legalName": "O=Bank A, L=London, C=GB", "asn": 64512},
    "addressSpace": "10.1.0.0/16",
    "size": "medium",
    "nodes": {"sshPublicKey": SSH_PUBLIC_KEY},
}


def configuration(**changes: Any) -> dict[str, str]:
    """The smallest configuration of bank-a, with changes to its top-level keys.

    Args:
        changes: values by key, without the namespace; None leaves a key out. `location` is Azure's own key.
    """
    values = {key: value for key, value in {**_BANK_A, **changes}.items() if value is not None}
    return {
        LOCATION if key == "location" else f"{PROJECT}:{key}": value if isinstance(value, str) else json.dumps(value)
        for key, value in values.items()
    }


def changed(values: Mapping[str, str], path: str, value: Any) -> dict[str, str]:
    """A configuration with another value at a path such as `nodes.image.id`; missing sections are created."""
    first, *inner = path.split(".")
    key = path if path == LOCATION else f"{PROJECT}:{first}"
    if path == LOCATION or not inner:
        return {**values, key: value if isinstance(value, str) else json.dumps(value)}
    try:
        section = json.loads(values.get(key, "{}"))
    except ValueError:
        section = {}
    section = place = section if isinstance(section, dict) else {}
    for step in inner[:-1]:
        place[step] = place[step] if isinstance(place.get(step), dict) else {}
        place = place[step]
    place[inner[-1]] = value
    return {**values, key: json.dumps(section)}
