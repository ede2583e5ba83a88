"""The value of the secret that holds an identity's keys: a JSON document of all its blobs."""

import base64
from typing import Annotated

from pydantic import BeforeValidator, Field, PlainSerializer

from contract.models import StrictModel

MAX_SECRET_BYTES = 25_000
"""Key Vault's limit of a secret's value, learn.microsoft.com/azure/key-vault/secrets/about-secrets."""


def _decoded(value: object) -> object:
    return base64.b64decode(value, validate=True) if isinstance(value, str) else value


def _encoded(blob: bytes) -> str:
    return base64.b64encode(blob).decode()


Blob = Annotated[bytes, BeforeValidator(_decoded), PlainSerializer(_encoded, when_used="json")]
"""Bytes; base64 in JSON."""


class KeyDocument(StrictModel, hide_input_in_errors=True):
    """All key blobs of one identity."""

    identity: str
    """The identity's name."""
    blobs: dict[str, Blob] = Field(repr=False)
    """Contents by blob name."""
    replaces: str | None = None
    """SHA-256 of the document whose keys a person abandoned for these; None for an identity's first keys."""

    def to_json(self) -> str:
        """The value of the secret."""
        return self.model_dump_json(exclude_none=True)
