"""A vault for tests without a server: its client, the errors that it raises, and a clock."""

import asyncio
import json
from types import SimpleNamespace
from typing import Any

from azure.core.exceptions import ResourceNotFoundError


def not_found(code: str = "SecretNotFound") -> ResourceNotFoundError:
    """The error for a secret that does not exist."""
    body = json.dumps({"error": {"code": code, "message": "..."}})
    answer = SimpleNamespace(status_code=404, reason="Not Found", text=lambda: body)
    return ResourceNotFoundError(code, response=answer)


class Clock:
    """A clock that a test sets, in seconds."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Secrets:
    """A vault's client; what it raises may quote a secret."""

    vault_url = "https://vault.example"

    def __init__(self, **values: str) -> None:
        self.values = {name.replace("_", "-"): value for name, value in values.items()}
        self.fault: Exception | None = None
        self.asked: list[str] = []
        self.slow: asyncio.Event | None = None
        """Until it is set, answers are under way. They have the values of when they were asked for."""

    async def get_secret(self, name: str) -> Any:
        self.asked.append(name)
        if self.fault:
            raise self.fault
        value = self.values.get(name)
        if self.slow:
            await self.slow.wait()
        if value is None:
            raise not_found()
        return SimpleNamespace(value=value)
