"""The authority's keys, which sign in Key Vault and never leave it."""

import hashlib
from typing import Any, Protocol

from azure.keyvault.keys.aio import KeyClient
from azure.keyvault.keys.crypto import SignatureAlgorithm
from azure.keyvault.keys.crypto.aio import CryptographyClient
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from typing_extensions import override

from host.azure import REQUEST_SECONDS, answering
from host.errors import UnavailableError
from ledger.corda import ROOT_KEY
from ledger.corda.authority.signing import Signer


class KeyChain(Protocol):
    """The signing keys of an authority."""

    async def signer(self, name: str, version: str | None = None) -> tuple[str, Signer]:
        """A key's version, and its signer.

        Args:
            name: name of the key.
            version: None: the latest.

        Raises:
            UnavailableError: the vault does not answer, refuses, or has no such key.
        """


class VaultKeys(KeyChain):
    """`KeyChain` on two vaults: that of `root_client` has the root key, and refuses requests while it is closed.

    Turn the clients' own retries off.
    """

    def __init__(
        self, client: KeyClient, root_client: KeyClient, *, request_seconds: float = REQUEST_SECONDS
    ) -> None:
        self._client, self._root_client, self._request_seconds = client, root_client, request_seconds

    @override
    async def signer(self, name: str, version: str | None = None) -> tuple[str, Signer]:
        vault = self._root_client if name == ROOT_KEY else self._client
        what = f"{vault.vault_url}: key {name}"
        async with answering(what, self._request_seconds):
            found = await vault.get_key(name, version)
            # Untyped in the SDK.
            key: Any = found.key
            version = str(found.properties.version)
            # The vault names the curve of an EC-HSM key the same way.
            if key is None or not key.x or not key.y or str(getattr(key.crv, "value", key.crv)) != "P-256":
                raise UnavailableError(f"{what} is of another kind; wanted EC-HSM of curve P-256")
            numbers = ec.EllipticCurvePublicNumbers(
                int.from_bytes(key.x, "big"), int.from_bytes(key.y, "big"), ec.SECP256R1()
            )
            public_key = numbers.public_key()
        client = vault.get_cryptography_client(name, key_version=version)
        return version, _VaultSigner(what, client, public_key, self._request_seconds)


class _VaultSigner(Signer):
    def __init__(
        self, what: str, client: CryptographyClient, public_key: ec.EllipticCurvePublicKey, seconds: float
    ) -> None:
        self._what, self._client, self._public_key, self._seconds = what, client, public_key, seconds

    @property
    @override
    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._public_key

    @override
    async def sign(self, data: bytes) -> bytes:
        digest = hashlib.sha256(data).digest()
        async with answering(self._what, self._seconds):
            answer = await self._client.sign(SignatureAlgorithm.es256, digest)
            middle = len(answer.signature) // 2
            signature = encode_dss_signature(
                int.from_bytes(answer.signature[:middle], "big"), int.from_bytes(answer.signature[middle:], "big")
            )
        try:
            # A wrong signature would otherwise be noticed by a node, and late.
            self._public_key.verify(signature, data, ec.ECDSA(SHA256()))
        except InvalidSignature as error:
            raise UnavailableError(f"{self._what}: its signature does not verify; wanted a whole answer") from error
        return signature
