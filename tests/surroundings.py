"""What a platform's software finds on a VM, for tests that run it without one."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ledger.software import Document, Surroundings


class MemoryDocuments:
    """A bank's documents in memory."""

    def __init__(self) -> None:
        self.kept: dict[str, Document] = {}
        self._writings = 0

    async def read(self, name: str) -> Document | None:
        return self.kept.get(name)

    async def write(self, name: str, content: bytes, etag: str | None) -> str | None:
        kept = self.kept.get(name)
        if etag != (kept and kept.etag):
            return None
        self._writings += 1
        self.kept[name] = Document(content, str(self._writings))
        return self.kept[name].etag

    async def names(self, prefix: str) -> Sequence[str]:
        return sorted(name for name in self.kept if name.startswith(prefix))


async def no_users() -> Sequence[Any]:
    return ()


def surroundings(listen: str = "127.0.0.1", **changes: Any) -> Surroundings:
    """Those of bank-a's nodes on a VM of that address."""
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
    return Surroundings(**(given | changes))
