"""The context of a platform's software, for tests that run it without a VM."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from host.bank_documents import Document
from ledger.software import SoftwareContext


class MemoryDocuments:
    """A bank's documents in memory."""

    def __init__(self) -> None:
        self.stored: dict[str, Document] = {}
        self._writings = 0

    async def read(self, name: str) -> Document | None:
        return self.stored.get(name)

    async def write(self, name: str, content: bytes, etag: str | None) -> str | None:
        stored = self.stored.get(name)
        if etag != (stored and stored.etag):
            return None
        self._writings += 1
        self.stored[name] = Document(content, str(self._writings))
        return self.stored[name].etag

    async def names(self, prefix: str) -> Mapping[str, str]:
        return {name: each.etag for name, each in sorted(self.stored.items()) if name.startswith(prefix)}


async def no_users() -> Sequence[Any]:
    return ()


def software_context(listen: str = "127.0.0.1", **changes: Any) -> SoftwareContext:
    """The context of bank-a's nodes on a VM with this address; `changes` replace attributes."""
    given: dict[str, Any] = {
        "member": "bank-a",
        "version": "1.1",
        "installation": Path("/nowhere"),
        "frontend": listen,
        "documents": MemoryDocuments(),
        "network": None,
        "trust_root": None,
        "rpc_users": no_users,
        "listen": listen,
    }
    return SoftwareContext(**(given | changes))
