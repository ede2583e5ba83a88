"""The authority's keys, which sign in Key Vault and never leave it."""

import asyncio
import hashlib
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from agent.fence import UnavailableError
from ledger.corda.certificates import Signer

if TYPE_CHECKING:
    from azure.keyvault.keys.aio import KeyClient
    from azure.keyvault.keys.crypto.aio import CryptographyClient

ROOT, IDENTITY_CA, NETWORK_PARAMETERS = "root", "identity-ca", "network-parameters"
KEYS = (ROOT, IDENTITY_CA, NETWORK_PARAMETERS)
"""Names of keys in the vault."""
REQUEST_SECONDS = 15

T = TypeVar("T")


class KeyChain(Protocol):
    """The keys of an authority."""

    async def signer(self, name: str, version: str | None = None) -> tuple[str, Signer]:
        """A key's version, its latest if None, and what signs with it.

        Raises:
            UnavailableError: the vault does not answer, or has no such key yet.
        """


class VaultKeys:
    """Implements `KeyChain` with Key Vault. The client's own retries are to be off."""

    def __init__(self, client: "KeyClient", *, request_seconds: float = REQUEST_SECONDS) -> None:
        self._client, self._request_seconds = client, request_seconds
        self._signers: dict[tuple[str, str], _VaultSigner] = {}

    async def signer(self, name: str, version: str | None = None) -> tuple[str, Signer]:
        """See `KeyChain`."""
        if version and (name, version) in self._signers:
            return version, self._signers[name, version]
        what = f"{self._client.vault_url}: key {name}"
        found = await _ask(what, self._client.get_key(name, version), self._request_seconds)
        # The SDK types no member of it.
        key: Any = found.key
        version = str(found.properties.version)
        # In a vault's words the curve of EC-HSM keys has the same name.
        if key is None or not key.x or not key.y or str(getattr(key.crv, "value", key.crv)) != "P-256":
            raise UnavailableError(f"{what} is of another kind; wanted EC-HSM of curve P-256")
        numbers = ec.EllipticCurvePublicNumbers(
            int.from_bytes(key.x, "big"), int.from_bytes(key.y, "big"), ec.SECP256R1()
        )
        client = self._client.get_cryptography_client(name, key_version=version)
        signer = _VaultSigner(what, client, numbers.public_key(), self._request_seconds)
        self._signers[name, version] = signer
        return version, signer


class _VaultSigner:
    def __init__(
        self, what: str, client: "CryptographyClient", public_key: ec.EllipticCurvePublicKey, seconds: float
    ) -> None:
        self._what, self._client, self._public_key, self._seconds = what, client, public_key, seconds

    @property
    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._public_key

    async def sign(self, data: bytes) -> bytes:
        from azure.keyvault.keys.crypto import SignatureAlgorithm  # noqa: PLC0415

        digest = hashlib.sha256(data).digest()
        answer = await _ask(self._what, self._client.sign(SignatureAlgorithm.es256, digest), self._seconds)
        middle = len(answer.signature) // 2
        signature = encode_dss_signature(
            int.from_bytes(answer.signature[:middle], "big"), int.from_bytes(answer.signature[middle:], "big")
        )
        try:
            # What does not verify would be found out by a node, and late.
            self._public_key.verify(signature, data, ec.ECDSA(SHA256()))
        except InvalidSignature as error:
            raise UnavailableError(f"{self._what}: its signature does not verify; wanted a whole answer") from error
        return signature


async def _ask(what: str, request: Awaitable[T], seconds: float) -> T:
    from azure.core.exceptions import AzureError, HttpResponseError  # noqa: PLC0415

    try:
        async with asyncio.timeout(seconds):
            return await request
    # Not chained: what is no proper answer is quoted in it.
    except HttpResponseError as error:
        raise UnavailableError(f"{what}: {error.status_code} {error.reason}") from None
    except TimeoutError:
        raise UnavailableError(f"{what}: no answer in {seconds:g} s") from None
    except (AzureError, OSError, ValueError, AttributeError, TypeError) as error:
        # The SDK makes of a garbled answer what it can.
        raise UnavailableError(f"{what}: {type(error).__name__}") from None
