"""The fingerprint of a card's signing key, which people compare."""

import base64
import hashlib


def fingerprint(signing_key: str) -> str:
    """`sha256:` and 64 hex digits over the raw key, from its base64. Sent out of band; peers pin it."""
    return f"sha256:{hashlib.sha256(base64.b64decode(signing_key)).hexdigest()}"
