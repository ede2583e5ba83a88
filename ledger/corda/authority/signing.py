"""Reads certificate requests, and signs certificates and lists with keys in a vault."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NoReturn, Protocol, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from ledger.corda.certificates import (
    CURVE,
    REQUESTED,
    ROLE_OID,
    CertificateError,
    CertificateRole,
    der,
    ec_key,
    legal_name_of,
    read_role,
    reading,
)


class Signer(Protocol):
    """A signing key, which may be in a vault."""

    @property
    def public_key(self) -> ec.EllipticCurvePublicKey:
        """The public key."""

    async def sign(self, data: bytes) -> bytes:
        """The ECDSA signature over the SHA-256 of `data`, in DER."""


_Signed_co = TypeVar("_Signed_co", x509.Certificate, x509.CertificateRevocationList, covariant=True)


class _Builder(Protocol[_Signed_co]):
    def sign(self, private_key: Any, algorithm: Any) -> _Signed_co: ...


async def sign(builder: _Builder[_Signed_co], signer: Signer) -> _Signed_co:
    """Sign a certificate or a revocation list with a remote key."""
    asked = _RemoteKey(signer.public_key)
    builder.sign(asked, SHA256())
    assert asked.data is not None  # noqa: S101
    return builder.sign(_RemoteKey(signer.public_key, asked.data, await signer.sign(asked.data)), SHA256())


class _RemoteKey(ec.EllipticCurvePrivateKey):
    """Stands in for a remote private key: collects the bytes to sign, or returns their signature."""

    def __init__(
        self, public_key: ec.EllipticCurvePublicKey, data: bytes | None = None, signature: bytes | None = None
    ) -> None:
        self._public_key, self.data, self._signature = public_key, data, signature

    def sign(self, data: Any, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:  # noqa: ARG002
        if self._signature is None:
            self.data = bytes(data)
            # The builder accepts any signature.
            return b""
        if bytes(data) != self.data:
            raise ValueError("the builder wrote something else the second time; wanted the same bytes")
        return self._signature

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._public_key

    @property
    def curve(self) -> ec.EllipticCurve:
        return CURVE

    @property
    def key_size(self) -> int:
        return CURVE.key_size

    def _nowhere(self) -> NoReturn:
        raise TypeError("the private key is not here; it signs, and that is all")

    def exchange(self, algorithm: Any, peer_public_key: Any) -> bytes:  # noqa: ARG002
        self._nowhere()

    def private_numbers(self) -> ec.EllipticCurvePrivateNumbers:
        self._nowhere()

    def private_bytes(self, encoding: Any, format: Any, encryption_algorithm: Any) -> bytes:  # noqa: A002, ARG002
        self._nowhere()

    def __copy__(self) -> "_RemoteKey":
        return self

    def __deepcopy__(self, _: Any) -> "_RemoteKey":
        return self


def revocation_list(
    issuer: x509.Certificate,
    number: int,
    revoked: Mapping[int, datetime],
    *,
    now: datetime,
    lifetime: timedelta,
) -> x509.CertificateRevocationListBuilder:
    """A revocation list, to be signed with the issuer's key.

    Args:
        issuer: the issuer's certificate.
        number: greater than the last list's.
        revoked: times of revocation by serial number.
        now: the time.
        lifetime: validity; the next list is due before its end.
    """
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.subject)
        .last_update(now)
        .next_update(now + lifetime)
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ec_key(issuer)), critical=False)
    )
    for serial, since in sorted(revoked.items()):
        # Java takes an entry of the future for no revocation.
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(min(since, now)).build()
        builder = builder.add_revoked_certificate(entry)
    return builder


# --- Requests (PKCS#10) --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Request:
    """A certificate request, signed with the key that it is for."""

    legal_name: str
    """The name in canonical form."""
    role: CertificateRole
    public_key: ec.EllipticCurvePublicKey


def read_request(encoded: bytes) -> Request:
    """Parse a PKCS#10 request and verify its signature.

    Raises:
        CertificateError: it is no valid request, or for another kind of key or certificate than Corda's nodes have.
    """
    with reading("not a certificate request; wanted PKCS#10 in DER"):
        request = x509.load_der_x509_csr(encoded)
        proven, key, name = request.is_signature_valid, request.public_key(), request.subject
        roles = [each.value for each in request.attributes if each.oid == ROLE_OID]
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise CertificateError("a request for another kind of key; wanted one of P-256")
    if not proven:
        raise CertificateError("the request's signature does not fit; wanted it signed by the key it names")
    # No role means the node CA, as in the first versions of Corda.
    role = read_role(der(0x02, roles[0])) if roles else CertificateRole.NODE_CA
    if role not in REQUESTED:
        wanted = ", ".join(each.name for each in REQUESTED)
        raise CertificateError(f"a request for role {role.name}; wanted one of {wanted}")
    return Request(legal_name_of(name), role, key)


def read_public_key(text: str) -> ec.EllipticCurvePublicKey:
    """Parse a public key in PEM.

    Raises:
        CertificateError: it is no P-256 key in PEM.
    """
    with reading("not a public key; wanted one of P-256 in PEM"):
        key = load_pem_public_key(text.encode())
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            raise ValueError(f"a key of {type(key).__name__}")
        return key
