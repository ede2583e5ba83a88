"""The network's parameters in Corda's own encoding, which only Corda's own code writes. It gets no key."""

import asyncio
import base64
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from agent.fence import UnavailableError
from ledger.corda.authority.configuration import Parameters
from ledger.platform import Installation


@dataclass(frozen=True)
class NetworkParameters:
    """All that a network's parameters say."""

    epoch: int
    modified: datetime
    settings: Parameters
    notaries: Sequence[x509.Certificate]
    """The certificates of their identities."""


class Serializer(Protocol):
    """Writes the parameters."""

    async def raw(self, parameters: NetworkParameters) -> bytes:
        """What is to be signed.

        Raises:
            UnavailableError: it can't be made.
        """

    async def assemble(self, raw: bytes, signature: bytes, certificate: x509.Certificate) -> bytes:
        """The signed file, as nodes read it.

        Raises:
            UnavailableError: it can't be made, or the signature does not fit.
        """


class JavaSerializer:
    """Implements `Serializer` with the Java tool of an installation, which must be the one that is wanted."""

    def __init__(self, wanted: Installation) -> None:
        self._wanted = wanted

    async def raw(self, parameters: NetworkParameters) -> bytes:
        """See `Serializer`."""
        answer = await self._ask(
            "parameters",
            {
                "minimumPlatformVersion": parameters.settings.minimum_platform_version,
                "notaries": [{"certificate": _der(each), "validating": False} for each in parameters.notaries],
                "maxMessageSize": parameters.settings.max_message_bytes,
                "maxTransactionSize": parameters.settings.max_transaction_bytes,
                "modifiedTime": parameters.modified.isoformat().replace("+00:00", "Z"),
                "epoch": parameters.epoch,
                "eventHorizonDays": parameters.settings.event_horizon_days,
            },
        )
        return base64.b64decode(answer["raw"])

    async def assemble(self, raw: bytes, signature: bytes, certificate: x509.Certificate) -> bytes:
        """See `Serializer`."""
        answer = await self._ask(
            "sign-parameters",
            {
                "raw": base64.b64encode(raw).decode(),
                "signature": base64.b64encode(signature).decode(),
                "certificate": _der(certificate),
                "chain": [],
            },
        )
        return base64.b64decode(answer["document"])

    async def _ask(self, command: str, given: dict[str, Any]) -> dict[str, Any]:
        from ledger.corda.installation import (  # noqa: PLC0415
            InstallationError,
            Installed,
            ToolError,
            wanted_artifacts,
        )

        wanted = self._wanted
        try:
            installed = Installed.load(wanted.folder)
            artifacts = wanted_artifacts(wanted.version, wanted.artifact, wanted.applications)
            await asyncio.to_thread(installed.verify, wanted.version, artifacts)
            return await installed.tool(command, given)
        except (InstallationError, ToolError, OSError, ValueError) as error:
            raise UnavailableError(f"network parameters: {error}") from error


def _der(certificate: x509.Certificate) -> str:
    return base64.b64encode(certificate.public_bytes(Encoding.DER)).decode()
