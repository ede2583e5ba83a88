"""Authenticates messages between a member and the network's authority with the enrolment key that both agreed on.

The link is IPsec and the connection TLS, but only the key proves the sender. A proof covers everything that gives a
message its meaning, so no part of a request or answer can be used in another.
"""

import hashlib
import hmac
import json

MEMBER = "Member"
NONCE = "Nonce"
TIME = "Time"
REQUEST_PROOF = "Authorization"
ANSWER_PROOF = "Proof"
"""Header names."""
NONCE_BYTES = 16
CLOCK_SECONDS = 300
"""Largest difference between the two sides' clocks."""

_CONTEXT = "decentralized-trust/v1/enrol"


def request_proof(key: bytes, *, member: str, method: str, path: str, nonce: str, time: str, body: bytes) -> str:
    """A request's proof for header `Authorization`: HMAC-SHA256, 64 hex digits. `time` is in seconds since 1970."""
    return _prove(key, ["request", member, method, path, nonce, time, _hash(body)])


def answer_proof(key: bytes, *, member: str, nonce: str, status: int, body: bytes) -> str:
    """An answer's proof for header `Proof`, bound to the request by its nonce: HMAC-SHA256, 64 hex digits."""
    return _prove(key, ["answer", member, nonce, str(status), _hash(body)])


def equal(one: str, other: str) -> bool:
    """Whether two proofs are equal, compared in constant time."""
    # aiohttp decodes a header that is not UTF-8 with surrogateescape.
    return hmac.compare_digest(one.encode(errors="surrogateescape"), other.encode(errors="surrogateescape"))


def _prove(key: bytes, parts: list[str]) -> str:
    # A JSON list is unambiguous: no text can move from one part to the next.
    return hmac.new(key, json.dumps([_CONTEXT, *parts]).encode(), hashlib.sha256).hexdigest()


def _hash(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()
