"""The network's parameters in Corda's own encoding, written by Corda's own code, which gets no key."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from typing_extensions import override

from contract.artifacts import Installation
from contract.authority_configuration import NetworkParameterSettings
from host.calls import BoundedCalls
from host.errors import UnavailableError
from ledger.corda.installation import InstallationError, Installed, ToolError, wanted_artifacts


@dataclass(frozen=True)
class NetworkParameters:
    """The content of a network's parameters."""

    epoch: int
    modified: datetime
    settings: NetworkParameterSettings
    notaries: Sequence[x509.Certificate]
    """Certificates of their legal identities."""


class Serializer(Protocol):
    """Encodes network parameters."""

    async def raw(self, parameters: NetworkParameters) -> bytes:
        """The bytes to sign.

        Raises:
            UnavailableError: the encoding fails.
        """

    async def assemble(self, raw: bytes, signature: bytes, certificate: x509.Certificate) -> bytes:
        """The signed file, as nodes read it.

        Raises:
            UnavailableError: the encoding fails, or the signature does not verify.
        """


class JavaSerializer(Serializer):
    """`Serializer` that runs the Java tool of an installation, after verifying the installation."""

    def __init__(self, wanted: Installation) -> None:
        self._wanted, self._disk = wanted, BoundedCalls("installation")

    @override
    async def raw(self, parameters: NetworkParameters) -> bytes:
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

    @override
    async def assemble(self, raw: bytes, signature: bytes, certificate: x509.Certificate) -> bytes:
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
        wanted = self._wanted
        try:
            installed = Installed.load(wanted.folder)
            artifacts = wanted_artifacts(wanted.version, wanted.artifact, wanted.applications)
            await self._disk(installed.verify, wanted.version, artifacts)
            return await installed.tool(command, given)
        except (InstallationError, ToolError, OSError, ValueError) as error:
            raise UnavailableError(f"network parameters: {error}") from error


def _der(certificate: x509.Certificate) -> str:
    return base64.b64encode(certificate.public_bytes(Encoding.DER)).decode()
