"""Corda's certificates, certificate requests and key stores. Pure: nothing here asks a network or a vault.

The profiles are those of Corda's own `X509Utilities`, `CertificateType` and `CertRole`. An authority's key may be
where Python can't hold it: `sign` builds what is to be signed, has a `Signer` sign it, and puts the two together.
"""

import hashlib
import ipaddress
import json
import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import Any, NoReturn, Protocol, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ledger.corda import parse_legal_name

NODE_CA_KEY = "node-ca-key"
"""Issues the node's TLS certificate; it stays with the agent, the node process never has it."""
IDENTITY_KEY = "identity-key"
TLS_KEY = "tls-key"
RPC_TLS_KEY = "rpc-tls-key"
KEYS = (NODE_CA_KEY, IDENTITY_KEY, TLS_KEY, RPC_TLS_KEY)
"""The secret blobs of a Corda identity."""

NODE_KEY_STORE = "nodekeystore.jks"
TLS_KEY_STORE = "sslkeystore.jks"
TRUST_STORE = "truststore.jks"
RPC_KEY_STORE = "rpcsslkeystore.jks"
RPC_TRUST_STORE = "rpcssltruststore.jks"
"""What an application that speaks RPC is to trust: the node's RPC certificate."""

ROOT_LIFETIME = timedelta(days=7300)
"""Of the root and what it issues: 20 years, so that what is issued late in a network's life is not cut short."""
LIFETIME = timedelta(days=3650)
"""Of all others: Corda's own default."""

_IDENTITY_ALIAS, _TLS_ALIAS, _ROOT_ALIAS, _RPC_ALIAS = (
    "identity-private-key",
    "cordaclienttls",
    "cordarootca",
    "cordarpcssl",
)
_ROLE_OID = x509.ObjectIdentifier("1.3.6.1.4.1.50530.1.1")
_CURVE = ec.SECP256R1()
# X509NameBuilder of Corda writes them in this order, and X.500 text reads them backwards.
_ORDER = {
    "C": NameOID.COUNTRY_NAME,
    "ST": NameOID.STATE_OR_PROVINCE_NAME,
    "L": NameOID.LOCALITY_NAME,
    "O": NameOID.ORGANIZATION_NAME,
    "OU": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "CN": NameOID.COMMON_NAME,
}
_SCHEMA = "1.0"


class CertificateError(ValueError):
    """Certificates, or a request for one, that can't be used; the message says what was wanted."""


class Role(IntEnum):
    """What a certificate is for in Corda: the value of its role extension."""

    DOORMAN_CA = 1
    NETWORK_MAP = 2
    SERVICE_IDENTITY = 3
    NODE_CA = 4
    TLS = 5
    LEGAL_IDENTITY = 6
    CONFIDENTIAL_LEGAL_IDENTITY = 7
    NETWORK_PARAMETERS = 8


_PARENTS: Mapping[Role, tuple[Role | None, ...]] = {
    Role.DOORMAN_CA: (None,),
    Role.NETWORK_MAP: (None,),
    Role.SERVICE_IDENTITY: (Role.DOORMAN_CA,),
    Role.NODE_CA: (Role.DOORMAN_CA,),
    Role.TLS: (Role.DOORMAN_CA, Role.NODE_CA),
    Role.LEGAL_IDENTITY: (Role.DOORMAN_CA, Role.NODE_CA),
    Role.CONFIDENTIAL_LEGAL_IDENTITY: (Role.LEGAL_IDENTITY,),
    Role.NETWORK_PARAMETERS: (None,),
}


@dataclass(frozen=True)
class _Profile:
    usages: frozenset[str]
    purposes: tuple[x509.ObjectIdentifier, ...] = (ExtendedKeyUsageOID.CLIENT_AUTH,)
    authority: bool = False


_SIGNS = frozenset({"digital_signature"})
_CERTIFIES = _SIGNS | {"key_cert_sign"}
_AUTHORITY = _Profile(_CERTIFIES | {"crl_sign"}, authority=True)
_PROFILES: Mapping[Role | None, _Profile] = {
    # Corda writes an empty list of purposes into a root, which RFC 5280 does not allow; no list means the same.
    None: _Profile(_AUTHORITY.usages, (), authority=True),
    Role.DOORMAN_CA: _AUTHORITY,
    Role.NODE_CA: _AUTHORITY,
    Role.TLS: _Profile(
        _SIGNS | {"key_encipherment", "key_agreement"},
        (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH),
    ),
    # It issues the confidential identities.
    Role.LEGAL_IDENTITY: _Profile(_CERTIFIES, authority=True),
    Role.NETWORK_PARAMETERS: _Profile(_SIGNS),
}
_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


# --- Keys ----------------------------------------------------------------------------------------------------------


def make_keys() -> dict[str, bytes]:
    """The secret blobs of a new identity: `KEYS`, each a P-256 key in PEM (PKCS#8)."""
    return {
        name: ec.generate_private_key(_CURVE).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        for name in KEYS
    }


def read_key(keys: Mapping[str, bytes], name: str) -> ec.EllipticCurvePrivateKey:
    """One of an identity's keys.

    Raises:
        CertificateError: the blob holds no P-256 key; its content is not told.
    """
    try:
        key = load_pem_private_key(keys[name], None)
    except (KeyError, ValueError, TypeError):
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise CertificateError(f"secret blob {name} holds no key; wanted a P-256 key in PEM (PKCS#8)")
    return key


def key_hash(key: Any) -> str:
    """The SHA-256 of a public key as it stands in a certificate, 64 hex digits."""
    return hashlib.sha256(_encoded(key)).hexdigest()


def _encoded(public_key: Any) -> bytes:
    encoded: bytes = public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return encoded


class Signer(Protocol):
    """A key that signs and may be in a vault."""

    @property
    def public_key(self) -> ec.EllipticCurvePublicKey:
        """Its public half."""

    async def sign(self, data: bytes) -> bytes:
        """The ECDSA signature over the SHA-256 of `data`, in DER."""


_Signed_co = TypeVar("_Signed_co", x509.Certificate, x509.CertificateRevocationList, covariant=True)


class _Builder(Protocol[_Signed_co]):
    def sign(self, private_key: Any, algorithm: Any) -> _Signed_co: ...


async def sign(builder: _Builder[_Signed_co], signer: Signer) -> _Signed_co:
    """Sign a certificate or a revocation list with a key that is elsewhere."""
    asked = _Away(signer.public_key)
    builder.sign(asked, SHA256())
    assert asked.data is not None  # noqa: S101
    return builder.sign(_Away(signer.public_key, asked.data, await signer.sign(asked.data)), SHA256())


class _Away(ec.EllipticCurvePrivateKey):
    """Stands for a private key that is not here: notes what is to be signed, or gives the signature of it."""

    def __init__(
        self, public_key: ec.EllipticCurvePublicKey, data: bytes | None = None, signature: bytes | None = None
    ) -> None:
        self._public_key, self.data, self._signature = public_key, data, signature

    def sign(self, data: Any, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:  # noqa: ARG002
        if self._signature is None:
            self.data = bytes(data)
            # A builder takes what it is given.
            return b""
        if bytes(data) != self.data:
            raise ValueError("the builder wrote something else the second time; wanted the same bytes")
        return self._signature

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._public_key

    @property
    def curve(self) -> ec.EllipticCurve:
        return _CURVE

    @property
    def key_size(self) -> int:
        return _CURVE.key_size

    def _nowhere(self) -> NoReturn:
        raise TypeError("the private key is not here; it signs, and that is all")

    def exchange(self, algorithm: Any, peer_public_key: Any) -> bytes:  # noqa: ARG002
        self._nowhere()

    def private_numbers(self) -> ec.EllipticCurvePrivateNumbers:
        self._nowhere()

    def private_bytes(self, encoding: Any, format: Any, encryption_algorithm: Any) -> bytes:  # noqa: A002, ARG002
        self._nowhere()

    def __copy__(self) -> "_Away":
        return self

    def __deepcopy__(self, _: Any) -> "_Away":
        return self


# --- Names ---------------------------------------------------------------------------------------------------------


def x500_name(legal_name: str) -> x509.Name:
    """A legal name as it stands in certificates.

    Raises:
        ValueError: it is not one that a node accepts.
    """
    attributes = parse_legal_name(legal_name)
    return x509.Name(
        [x509.NameAttribute(oid, attributes[key]) for key, oid in _ORDER.items() if key in attributes],
    )


def legal_name_of(name: x509.Name) -> str:
    """A certificate's name as a legal name in canonical form.

    Raises:
        CertificateError: it is not one that a node accepts.
    """
    keys = {oid: key for key, oid in _ORDER.items()}
    try:
        parts = [(keys[attribute.oid], str(attribute.value)) for attribute in name]
    except KeyError as error:
        raise CertificateError(f"name {name.rfc4514_string()!r}; wanted only {', '.join(_ORDER)}") from error
    try:
        if any("," in value for _, value in parts):
            raise ValueError("a value has a comma")
        attributes = parse_legal_name(", ".join(f"{key}={value}" for key, value in parts))
    except ValueError as error:
        raise CertificateError(f"name {name.rfc4514_string()!r}: {error}") from error
    return ", ".join(f"{key}={value}" for key, value in attributes.items())


def same_name(one: str, other: str) -> bool:
    """Whether two legal names are one to X.500, which counts neither the order nor upper and lower case."""
    return name_key(one) == name_key(other)


def name_key(legal_name: str) -> str:
    """The same text for all ways of writing a legal name."""
    return "\n".join(f"{key}={value.casefold()}" for key, value in parse_legal_name(legal_name).items())


# --- Certificates --------------------------------------------------------------------------------------------------


def certificate(
    role: Role | None,
    subject: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    issuer: x509.Certificate | None,
    *,
    now: datetime,
    lifetime: timedelta = LIFETIME,
    crl_url: str | None = None,
) -> x509.CertificateBuilder:
    """A certificate of Corda's profile for the role, to be signed by its issuer's key.

    Args:
        role: None for a root.
        subject: whose it is.
        public_key: the key that is certified.
        issuer: the issuer's certificate; None for a root.
        now: the time. Certificates begin with the day, as Corda's do, and end before their issuer's at the latest.
        lifetime: how long it is valid.
        crl_url: where the issuer's revocation list is.
    """
    profile = _PROFILES[role]
    begin, end = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0), now + lifetime
    if issuer:
        begin, end = max(begin, issuer.not_valid_before_utc), min(end, issuer.not_valid_after_utc)
    signer = _ec_key(issuer) if issuer else public_key
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(x509.BasicConstraints(ca=profile.authority, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(**{usage: usage in profile.usages for usage in _USAGES}), critical=False)
    )
    if profile.purposes:
        builder = builder.add_extension(x509.ExtendedKeyUsage(profile.purposes), critical=False)
    builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer), critical=False)
    if role is not None:
        builder = builder.add_extension(
            x509.UnrecognizedExtension(_ROLE_OID, _der(0x02, bytes([role]))), critical=False
        )
    if crl_url:
        point = x509.DistributionPoint([x509.UniformResourceIdentifier(crl_url)], None, None, None)
        builder = builder.add_extension(x509.CRLDistributionPoints([point]), critical=False)
    # An identity that the node CA issues is bound by the node CA's constraint. One that stands right below the
    # identity CA needs its own: else a member could issue confidential identities in another's name.
    if role is Role.NODE_CA or (role is Role.LEGAL_IDENTITY and issuer and role_of(issuer) is Role.DOORMAN_CA):
        constraints = x509.NameConstraints([x509.DirectoryName(subject)], None)
        builder = builder.add_extension(constraints, critical=True)
    return builder


def role_of(certificate: x509.Certificate) -> Role | None:
    """The role of a certificate; None where it has none.

    Raises:
        CertificateError: it has one that Corda does not know.
    """
    try:
        extension = certificate.extensions.get_extension_for_oid(_ROLE_OID).value
    except x509.ExtensionNotFound:
        return None
    except ValueError as error:
        raise CertificateError(f"certificate of {certificate.subject.rfc4514_string()}: {error}") from error
    return _read_role(extension.public_bytes())


def _read_role(encoded: bytes) -> Role:
    try:
        # An INTEGER of one byte.
        if encoded[:2] == b"\x02\x01" and len(encoded) == 3:
            return Role(encoded[2])
    except ValueError:
        pass
    raise CertificateError(
        f"role {encoded.hex()}; wanted one of {', '.join(f'{role:d} ({role.name})' for role in Role)}"
    )


def revocation_list(
    issuer: x509.Certificate,
    number: int,
    revoked: Mapping[int, datetime],
    *,
    now: datetime,
    lifetime: timedelta,
) -> x509.CertificateRevocationListBuilder:
    """A revocation list, to be signed by the issuer's key.

    Args:
        issuer: whose certificates it revokes.
        number: greater than that of the list before.
        revoked: when, by serial numbers.
        now: the time.
        lifetime: until when the next one is there.
    """
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.subject)
        .last_update(now)
        .next_update(now + lifetime)
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(_ec_key(issuer)), critical=False)
    )
    for serial, since in sorted(revoked.items()):
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(since).build()
        builder = builder.add_revoked_certificate(entry)
    return builder


def check_chain(
    chain: Sequence[x509.Certificate],
    *,
    role: Role,
    subject: str,
    public_key: Any,
    trust_root: x509.Certificate,
    now: datetime,
) -> None:
    """Check a chain from leaf to root as a node and its peers do.

    Raises:
        CertificateError: it does not prove that the key has the role under the legal name in the network.
    """

    def refuse(what: str, wanted: str) -> CertificateError:
        return CertificateError(f"certificate of {subject}: {what}; wanted {wanted}")

    if len(chain) < 2 or chain[-1] != trust_root:
        raise refuse(f"a chain of {len(chain)} does not end with the network's root", fingerprint(trust_root))
    if not same_name(legal_name_of(chain[0].subject), subject):
        raise refuse(f"its subject is {legal_name_of(chain[0].subject)}", "that legal name")
    if _encoded(chain[0].public_key()) != _encoded(public_key):
        raise refuse(f"it certifies the key {key_hash(chain[0].public_key())}", key_hash(public_key))
    if role_of(chain[0]) is not role:
        raise refuse(f"its role is {role_of(chain[0])!r}", f"{role!r}")
    for each in chain:
        if not each.not_valid_before_utc <= now <= each.not_valid_after_utc:
            window = f"{each.not_valid_before_utc:%F %T} to {each.not_valid_after_utc:%F %T} UTC"
            raise refuse(f"{each.subject.rfc4514_string()} is valid from {window}", f"valid at {now:%F %T}")
    for each, above in zip(chain, [*chain[1:], trust_root], strict=True):
        own, theirs = role_of(each), role_of(above)
        if each != trust_root and theirs not in (_PARENTS[own] if own else (None,)):
            raise refuse(f"role {own!r} below {theirs!r}", "a hierarchy that Corda knows")
        try:
            each.verify_directly_issued_by(above)
            constraints = above.extensions.get_extension_for_class(x509.BasicConstraints).value
        except (InvalidSignature, ValueError, TypeError, x509.ExtensionNotFound) as error:
            raise refuse(f"it is not issued by {above.subject.rfc4514_string()}", "an unbroken chain") from error
        if not constraints.ca:
            raise refuse(f"{above.subject.rfc4514_string()} is no authority", "an unbroken chain")


def check_root(root: x509.Certificate) -> None:
    """Check that a certificate can be a network's root.

    Raises:
        CertificateError: it can't.
    """
    try:
        root.verify_directly_issued_by(root)
        authority = root.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        role = role_of(root)
    except (InvalidSignature, ValueError, TypeError, x509.ExtensionNotFound) as error:
        raise CertificateError(f"{root.subject.rfc4514_string()} is not self-signed; wanted a root") from error
    if not authority or role is not None:
        raise CertificateError(f"{root.subject.rfc4514_string()} is no authority without a role; wanted a root")


def fingerprint(certificate: x509.Certificate) -> str:
    """`sha256:` and 64 hex digits over the certificate: how configuration pins a root."""
    return f"sha256:{hashlib.sha256(_der_of(certificate)).hexdigest()}"


def renewal_time(certificate: x509.Certificate) -> datetime:
    """When a third of a certificate's time is left."""
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return end - (end - begin) / 3


def _ec_key(certificate: x509.Certificate) -> ec.EllipticCurvePublicKey:
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise CertificateError(f"certificate of {certificate.subject.rfc4514_string()}: wanted an elliptic-curve key")
    return key


def _der_of(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


# --- What a node issues itself -------------------------------------------------------------------------------------


def issue(
    keys: Mapping[str, bytes], name: str, role: Role, node_ca: Sequence[x509.Certificate], *, now: datetime
) -> tuple[x509.Certificate, ...]:
    """The chain of a certificate that the node CA issues for another key of the same identity.

    Args:
        keys: the identity's secret blobs.
        name: of the blob whose key is certified.
        role: of the new certificate.
        node_ca: the node CA's chain.
        now: the time.
    """
    builder = certificate(role, node_ca[0].subject, read_key(keys, name).public_key(), node_ca[0], now=now)
    return builder.sign(read_key(keys, NODE_CA_KEY), SHA256()), *node_ca


def issue_rpc(keys: Mapping[str, bytes], legal_name: str, address: str, *, now: datetime) -> x509.Certificate:
    """The self-signed certificate that a node shows to the bank's own applications.

    Args:
        keys: the identity's secret blobs.
        legal_name: the node's.
        address: IP address or host name that applications dial.
        now: the time.
    """
    key = read_key(keys, RPC_TLS_KEY)
    return (
        x509.CertificateBuilder()
        .subject_name(x500_name(legal_name))
        .issuer_name(x500_name(legal_name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0))
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.SubjectAlternativeName([_general_name(address)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, SHA256())
    )


def serves(certificate: x509.Certificate, address: str) -> bool:
    """Whether a server that is dialled at `address` may show the certificate."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    return _general_name(address) in list(names)


def _general_name(address: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(address))
    except ValueError:
        return x509.DNSName(address)


# --- Requests (PKCS#10) --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Request:
    """A proven request for a certificate: whoever made it has the key."""

    legal_name: str
    """In canonical form."""
    role: Role
    public_key: ec.EllipticCurvePublicKey


def make_request(legal_name: str, email: str, role: Role, key: ec.EllipticCurvePrivateKey) -> bytes:
    """A PKCS#10 request with Corda's attributes, DER.

    It is put together here since the role is an INTEGER, which `cryptography` writes into no attribute.
    """
    attributes = sorted(
        [
            _attribute(NameOID.EMAIL_ADDRESS, _der(0x0C, email.encode())),
            _attribute(_ROLE_OID, _der(0x02, bytes([role]))),
        ]
    )
    version = _der(0x02, b"\0")
    name = x500_name(legal_name).public_bytes()
    body = _der(0x30, version, name, _encoded(key.public_key()), _der(0xA0, *attributes))
    algorithm = _der(0x30, _oid("1.2.840.10045.4.3.2"))  # ecdsa-with-SHA256
    return _der(0x30, body, algorithm, _der(0x03, b"\0", key.sign(body, ec.ECDSA(SHA256()))))


def read_request(encoded: bytes) -> Request:
    """Read a request and check that its key signed it.

    Raises:
        CertificateError: it is none, or one for another kind of key or certificate than Corda's nodes have.
    """
    try:
        request = x509.load_der_x509_csr(encoded)
        proven, key, name = request.is_signature_valid, request.public_key(), request.subject
        roles = [each.value for each in request.attributes if each.oid == _ROLE_OID]
    except Exception as error:  # The parser says in many ways that it can make nothing of it.
        raise CertificateError("no certificate request; wanted PKCS#10 in DER") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise CertificateError("a request for another kind of key; wanted one of P-256")
    if not proven:
        raise CertificateError("the request's signature does not fit; wanted it signed by the key it names")
    # A node that names no role means its CA, as Corda's first ones did.
    role = _read_role(_der(0x02, roles[0])) if roles else Role.NODE_CA
    if role not in {Role.NODE_CA, Role.LEGAL_IDENTITY}:
        raise CertificateError(
            f"a request for role {role.name}; wanted {Role.NODE_CA.name} or {Role.LEGAL_IDENTITY.name}"
        )
    return Request(legal_name_of(name), role, key)


def _attribute(oid: x509.ObjectIdentifier, value: bytes) -> bytes:
    return _der(0x30, _oid(oid.dotted_string), _der(0x31, value))


def _oid(dotted: str) -> bytes:
    first, second, *rest = (int(part) for part in dotted.split("."))
    content = bytearray()
    for number in (first * 40 + second, *rest):
        septets = [number & 0x7F]
        while number := number >> 7:
            septets.append(0x80 | number & 0x7F)
        content += bytes(reversed(septets))
    return _der(0x06, bytes(content))


def _der(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content


# --- Chains and key stores -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Chains:
    """An identity's certificates, each chain from leaf to root. Nothing in them is secret."""

    node_ca: tuple[x509.Certificate, ...]
    identity: tuple[x509.Certificate, ...]
    tls: tuple[x509.Certificate, ...]
    rpc: x509.Certificate
    """Self-signed: what the bank's applications trust."""

    @property
    def trust_root(self) -> x509.Certificate:
        """The network's root certificate."""
        return self.node_ca[-1]

    def to_json(self) -> bytes:
        """As a document: certificates in PEM."""
        document = {
            "schema": _SCHEMA,
            "nodeCa": [to_pem(each) for each in self.node_ca],
            "identity": [to_pem(each) for each in self.identity],
            "tls": [to_pem(each) for each in self.tls],
            "rpc": to_pem(self.rpc),
        }
        return json.dumps(document, indent=1).encode()

    @staticmethod
    def from_json(content: bytes) -> "Chains":
        """Read a document.

        Raises:
            CertificateError: it is not one that `to_json` writes.
        """
        try:
            document = json.loads(content)
            if document["schema"] != _SCHEMA:
                raise CertificateError(f"certificates of schema {document['schema']!r}; wanted {_SCHEMA}")
            node_ca, identity, tls = (
                tuple(from_pem(each) for each in document[key]) for key in ("nodeCa", "identity", "tls")
            )
            if not (node_ca and identity and tls):
                raise CertificateError("a chain without a certificate; wanted three whole chains")
            return Chains(node_ca, identity, tls, from_pem(document["rpc"]))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if isinstance(error, CertificateError):
                raise
            raise CertificateError(
                "no document of certificates; wanted schema, nodeCa, identity, tls, rpc"
            ) from error


def to_pem(certificate: x509.Certificate) -> str:
    """A certificate as text."""
    return certificate.public_bytes(Encoding.PEM).decode()


def from_pem(text: str) -> x509.Certificate:
    """The certificate in a text."""
    return x509.load_pem_x509_certificate(text.encode())


def key_stores(keys: Mapping[str, bytes], chains: Chains, password: str) -> dict[str, bytes]:
    """The files that a node and its tools read, by their names; one password opens them and every entry.

    They are in Java's own format, JKS, which every Java reads. PKCS#12 can't be had: Java takes a certificate whose
    issuer has its own name for a root and drops the rest of the chain, and a node CA has the name of what it issues.
    What protects them is that they are in memory and their password lives as long as the process, not the format.
    """

    def pair(alias: str, name: str, chain: Sequence[x509.Certificate]) -> bytes:
        key = read_key(keys, name).private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        protected = _protected(key, password)
        entries = b"".join(_jks_certificate(each) for each in chain)
        head = _jks_head(1, alias) + struct.pack(">I", len(protected)) + protected
        return _jks(head + struct.pack(">I", len(chain)) + entries, password)

    def trusted(alias: str, certificate: x509.Certificate) -> bytes:
        return _jks(_jks_head(2, alias) + _jks_certificate(certificate), password)

    return {
        NODE_KEY_STORE: pair(_IDENTITY_ALIAS, IDENTITY_KEY, chains.identity),
        TLS_KEY_STORE: pair(_TLS_ALIAS, TLS_KEY, chains.tls),
        TRUST_STORE: trusted(_ROOT_ALIAS, chains.trust_root),
        RPC_KEY_STORE: pair(_RPC_ALIAS, RPC_TLS_KEY, [chains.rpc]),
        RPC_TRUST_STORE: trusted(_RPC_ALIAS, chains.rpc),
    }


def _jks(entry: bytes, password: str) -> bytes:
    content = struct.pack(">III", 0xFEEDFEED, 2, 1) + entry
    return content + _sha1(password.encode("utf-16-be") + b"Mighty Aphrodite" + content)


def _jks_head(tag: int, alias: str) -> bytes:
    # The time of making, which nothing reads, stays out: the same content is the same file.
    return struct.pack(">IH", tag, len(alias)) + alias.encode("ascii") + struct.pack(">Q", 0)


def _jks_certificate(certificate: x509.Certificate) -> bytes:
    encoded = _der_of(certificate)
    return struct.pack(">H", 5) + b"X.509" + struct.pack(">I", len(encoded)) + encoded


def _protected(key: bytes, password: str) -> bytes:
    """A private key as Java's own KeyProtector writes it: a key stream of SHA-1 over password and salt."""
    secret, salt = password.encode("utf-16-be"), os.urandom(20)
    stream, last = b"", salt
    while len(stream) < len(key):
        last = _sha1(secret + last)
        stream += last
    hidden = bytes(one ^ other for one, other in zip(key, stream, strict=False))
    algorithm = _der(0x30, _oid("1.3.6.1.4.1.42.2.17.1.1"), _der(0x05))
    return _der(0x30, algorithm, _der(0x04, salt, hidden, _sha1(secret + key)))


def _sha1(data: bytes) -> bytes:
    return hashlib.sha1(data, usedforsecurity=False).digest()
