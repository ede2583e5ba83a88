"""The highest serial number of each node's information that the bank ever accepted; it outlives the node.

Node information is signed, so an old one is as genuine as the newest: only serial numbers distinguish them.
"""

import hashlib
import time
from typing import Annotated

from pydantic import Field, ValidationError

from contract.legal_name import name_key
from contract.models import OpenModel
from contract.network_info import Base64
from host.bank_documents import Document, Documents, change_document
from ledger.software import UntrustedError

_SERIALS_PREFIX = "serials/"
"""Prefix of the documents' names: one document per legal name, of whichever member."""
_AHEAD_MILLISECONDS = 86_400_000
"""How far ahead of the clock a serial number may be: a node could never supersede one from the far future."""


class SerialRecord(OpenModel):
    """A legal name's document."""

    legal_name: str
    serial: Annotated[int, Field(strict=True)]
    info: Base64 = b""
    """The node information that proves it; empty in a record of an earlier version."""


class Serials:
    """The serial numbers in the bank's documents, shared by all its VMs."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents

    async def take(self, legal_name: str, serial: int, info: bytes) -> SerialRecord | None:
        """Note the serial number of verified node information before that is accepted.

        Args:
            legal_name: the node's.
            serial: the signing time in milliseconds since 1970.
            info: the node information.

        Returns:
            the record of a higher one, which any VM accepted before; else None.

        Raises:
            UntrustedError: it is more than a day ahead, or the record is unreadable.
            ResourceError: the documents do not answer.
        """
        name = _SERIALS_PREFIX + hashlib.sha256(name_key(legal_name).encode()).hexdigest()
        latest = int(time.time() * 1000) + _AHEAD_MILLISECONDS
        if serial > latest:
            raise UntrustedError(
                f"node information of {legal_name} with serial {serial}; wanted {latest} at most, which is tomorrow"
                " in milliseconds since 1970"
            )
        higher: SerialRecord | None = None

        def step(found: Document | None) -> bytes | None:
            nonlocal higher
            known = _read(found, name) if found else None
            higher = known if known and serial < known.serial else None
            if higher or (known and serial == known.serial and known.info):
                return None
            record = SerialRecord(legal_name=legal_name, serial=serial, info=info)
            return record.model_dump_json(by_alias=True).encode()

        await change_document(self._documents, name, step)
        return higher


def _read(document: Document, name: str) -> SerialRecord:
    try:
        return SerialRecord.model_validate_json(document.content)
    except ValidationError as error:
        # Otherwise old information would be accepted as new.
        raise UntrustedError(
            f"document {name} of the container has no serial number; wanted: its last version restored"
        ) from error
