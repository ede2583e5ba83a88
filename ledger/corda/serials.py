"""The highest serial number of each node's information that the bank ever accepted; it outlives the node.

Node information is signed, so an old one is as genuine as the newest: only serial numbers distinguish them.
"""

import hashlib
import json
import time
from collections.abc import Callable

from contract.legal_name import name_key
from host.bank_documents import Document, Documents, change_document
from host.errors import DamagedError
from ledger.software import UntrustedError

_SERIALS_PREFIX = "serials/"
"""Prefix of the documents' names: one document per legal name, of whichever member."""
_AHEAD_MILLISECONDS = 86_400_000
"""How far ahead of the clock a serial number may be: a node could never supersede one from the far future."""


class Serials:
    """The serial numbers in the bank's documents, shared by all its VMs."""

    def __init__(self, documents: Documents, *, now: Callable[[], float] = time.time) -> None:
        """Args:
        documents: the bank's documents.
        now: the time of day in seconds since 1970.
        """
        self._documents, self._now = documents, now

    async def take(self, legal_name: str, serial: int) -> None:
        """Note a serial number before its node information is accepted: the signing time in milliseconds since 1970.

        Raises:
            UntrustedError: a higher one was accepted before, on any VM, or it is more than a day ahead.
            ResourceError: the documents do not answer, or hold no serial number.
        """
        name = _SERIALS_PREFIX + hashlib.sha256(name_key(legal_name).encode()).hexdigest()
        what = f"node information of {legal_name} with serial {serial}"
        latest = int(self._now() * 1000) + _AHEAD_MILLISECONDS
        if serial > latest:
            raise UntrustedError(f"{what}; wanted {latest} at most, which is tomorrow in milliseconds since 1970")

        def step(found: Document | None) -> bytes | None:
            highest = _read(found, name) if found else None
            if highest is not None and serial < highest:
                raise UntrustedError(f"{what}; wanted {highest}, which was known, or newer")
            return None if serial == highest else json.dumps({"legalName": legal_name, "serial": serial}).encode()

        await change_document(self._documents, name, step)


def _read(document: Document, name: str) -> int:
    try:
        serial = json.loads(document.content)["serial"]
    except (ValueError, KeyError, TypeError, RecursionError):
        serial = None
    if not isinstance(serial, int) or isinstance(serial, bool):
        # Otherwise old information would be accepted as new.
        raise DamagedError(
            f"document {name} of the container has no serial number; wanted: its last version restored"
        )
    return serial
