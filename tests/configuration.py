"""A valid stack configuration, in the shape in which Pulumi hands it to the program."""

import json
from typing import Any

PROJECT = "decentralized-trust"
LOCATION = "azure-native:location"
SSH_PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGn0eS0Qq8tJpE5gSxxUNJH0V1mSV3tq0y2w0YkR6mDs"

_BANK_A: dict[str, Any] = {
    "location": "westeurope",
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
