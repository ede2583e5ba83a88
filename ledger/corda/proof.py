"""Proves what a member and the network's authority tell each other, by the enrolment key that the two agreed.

The link between them is IPsec and the connection TLS, but neither says who speaks: the key does. What is proven is
all that gives a message its meaning, so nothing of one request or answer can stand in another.
"""

import hashlib
import hmac
import json

MEMBER = "Member"
NONCE = "Nonce"
TIME = "Time"
REQUEST_PROOF = "Authorization"
ANSWER_PROOF = "Proof"
"""Names of headers."""
NONCE_BYTES = 16
CLOCK_SECONDS = 300
"""So far apart may the clocks of the two sides be."""

_CONTEXT = "decentralized-trust/v1/enrol"


def request_proof(key: bytes, *, member: str, method: str, path: str, nonce: str, time: str, body: bytes) -> str:
    """What the member that asks puts into header `Authorization`: HMAC-SHA256, 64 hex digits."""
    return _prove(key, ["request", member, method, path, nonce, time, _hash(body)])


def answer_proof(key: bytes, *, member: str, nonce: str, status: int, body: bytes) -> str:
    """What the authority puts into header `Proof` of its answer to the request with that nonce."""
    return _prove(key, ["answer", member, nonce, str(status), _hash(body)])


def equal(one: str, other: str) -> bool:
    """Whether two proofs are one, in a time that tells nothing of where they differ."""
    return hmac.compare_digest(one.encode(), other.encode())


def _prove(key: bytes, parts: list[str]) -> str:
    # A list in JSON can be read in one way only: nothing moves from one part into the next.
    return hmac.new(key, json.dumps([_CONTEXT, *parts]).encode(), hashlib.sha256).hexdigest()


def _hash(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()
