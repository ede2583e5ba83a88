"""Errors that the SDK's vault client raises."""

import json
from types import SimpleNamespace

from azure.core.exceptions import ResourceNotFoundError


def not_found(code: str = "SecretNotFound") -> ResourceNotFoundError:
    """The error for a secret that does not exist."""
    body = json.dumps({"error": {"code": code, "message": "..."}})
    answer = SimpleNamespace(status_code=404, reason="Not Found", text=lambda: body)
    return ResourceNotFoundError(code, response=answer)
