"""Corda's certificates, certificate requests and key stores. Pure: no network, no vault.

The profiles are those of Corda's `X509Utilities`, `CertificateType` and `CertRole`.
"""

import hashlib
import ipaddress
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import Annotated, Any

from cryptography import x509
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
from pydantic import BeforeValidator, Field, PlainSerializer, ValidationError

from contract.legal_name import LegalName, same_name
from contract.models import FIRST_FAULT_ONLY, OpenModel, first_fault
from ledger.corda import IDENTITY_BLOBS, IDENTITY_KEY, NODE_CA_KEY, RPC_TLS_KEY, TLS_KEY

NODE_KEY_STORE = "nodekeystore.jks"
TLS_KEY_STORE = "sslkeystore.jks"
TRUST_STORE = "truststore.jks"
RPC_KEY_STORE = "rpcsslkeystore.jks"
RPC_TRUST_STORE = "rpcssltruststore.jks"
"""Trust store for RPC clients: the node's RPC certificate."""

LIFETIME = timedelta(days=365)
"""Validity of a node's certificates among members: 12 months, of which the last 4 are for the renewal."""
RPC_LIFETIME = timedelta(days=3650)
"""Validity of a node's certificate for the bank's own applications, which pin it."""

_IDENTITY_ALIAS, _TLS_ALIAS, _ROOT_ALIAS, _RPC_ALIAS = (
    "identity-private-key",
    "cordaclienttls",
    "cordarootca",
    "cordarpcssl",
)
ROLE_OID = x509.ObjectIdentifier("1.3.6.1.4.1.50530.1.1")
"""Corda's extension with a certificate's role."""
CURVE = ec.SECP256R1()
# The order in which Corda's X509NameBuilder writes them; X.500 text has them in reverse.
_X500_ORDER = {
    "C": NameOID.COUNTRY_NAME,
    "ST": NameOID.STATE_OR_PROVINCE_NAME,
    "L": NameOID.LOCALITY_NAME,
    "O": NameOID.ORGANIZATION_NAME,
    "OU": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "CN": NameOID.COMMON_NAME,
}
CHAINS_SCHEMA = "1.0"
"""MAJOR.MINOR of the document of an identity's certificates."""


class CertificateError(ValueError):
    """A certificate or certificate request is unusable; the message says what was wanted."""


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Translate any exception of the block, since `cryptography` raises many kinds on bad input.

    Raises:
        CertificateError: the block raised an exception; `what` begins the message.
    """
    try:
        yield
    except CertificateError:
        raise
    except Exception as error:
        raise CertificateError(f"{what} ({type(error).__name__}: {error!s:.200})") from error


class CertificateRole(IntEnum):
    """A certificate's purpose in Corda: the value of its role extension."""

    DOORMAN_CA = 1
    NETWORK_MAP = 2
    SERVICE_IDENTITY = 3
    NODE_CA = 4
    TLS = 5
    LEGAL_IDENTITY = 6
    CONFIDENTIAL_LEGAL_IDENTITY = 7
    NETWORK_PARAMETERS = 8


REQUESTED = (CertificateRole.NODE_CA, CertificateRole.LEGAL_IDENTITY, CertificateRole.TLS)
"""Certificates that a node requests. The node CA has no revocation list, so it issues no TLS certificate here."""

_PARENTS: Mapping[CertificateRole, tuple[CertificateRole | None, ...]] = {
    CertificateRole.DOORMAN_CA: (None,),
    CertificateRole.NETWORK_MAP: (None,),
    CertificateRole.SERVICE_IDENTITY: (CertificateRole.DOORMAN_CA,),
    CertificateRole.NODE_CA: (CertificateRole.DOORMAN_CA,),
    CertificateRole.TLS: (CertificateRole.DOORMAN_CA, CertificateRole.NODE_CA),
    CertificateRole.LEGAL_IDENTITY: (CertificateRole.DOORMAN_CA, CertificateRole.NODE_CA),
    CertificateRole.CONFIDENTIAL_LEGAL_IDENTITY: (CertificateRole.LEGAL_IDENTITY,),
    CertificateRole.NETWORK_PARAMETERS: (None,),
}


@dataclass(frozen=True)
class _Profile:
    usages: frozenset[str]
    purposes: tuple[x509.ObjectIdentifier, ...] = (ExtendedKeyUsageOID.CLIENT_AUTH,)
    authority: bool = False


_SIGNS = frozenset({"digital_signature"})
_CERTIFIES = _SIGNS | {"key_cert_sign"}
_AUTHORITY = _Profile(_CERTIFIES | {"crl_sign"}, authority=True)
_PROFILES: Mapping[CertificateRole | None, _Profile] = {
    # Corda writes an empty list of purposes into a root, which RFC 5280 forbids; no list means the same.
    None: _Profile(_AUTHORITY.usages, (), authority=True),
    CertificateRole.DOORMAN_CA: _AUTHORITY,
    CertificateRole.NODE_CA: _AUTHORITY,
    CertificateRole.TLS: _Profile(
        _SIGNS | {"key_encipherment", "key_agreement"},
        (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH),
    ),
    # A CA: it issues the confidential identities.
    CertificateRole.LEGAL_IDENTITY: _Profile(_CERTIFIES, authority=True),
    CertificateRole.NETWORK_PARAMETERS: _Profile(_SIGNS),
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
    """A new identity's secret blobs: `IDENTITY_BLOBS`, each a P-256 key in PEM (PKCS#8)."""
    return {
        name: ec.generate_private_key(CURVE).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        for name in IDENTITY_BLOBS
    }


def read_key(keys: Mapping[str, bytes], name: str) -> ec.EllipticCurvePrivateKey:
    """A private key of an identity's secret.

    Raises:
        CertificateError: the blob is no P-256 key; the message does not quote it.
    """
    try:
        key = load_pem_private_key(keys[name], None)
    except Exception:
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise CertificateError(f"secret blob {name} holds no key; wanted a P-256 key in PEM (PKCS#8)")
    return key


def key_hash(key: Any) -> str:
    """SHA-256 of a public key (SubjectPublicKeyInfo, DER), 64 hex digits."""
    return hashlib.sha256(_encoded(key)).hexdigest()


def _encoded(public_key: Any) -> bytes:
    encoded: bytes = public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return encoded


# --- Names ---------------------------------------------------------------------------------------------------------


def x500_name(legal_name: str) -> x509.Name:
    """A legal name as an X.500 name.

    Raises:
        ValueError: a node does not accept the name.
    """
    name = LegalName.parse(legal_name)
    return x509.Name(
        [x509.NameAttribute(oid, value) for key, oid in _X500_ORDER.items() if (value := name.get(key)) is not None],
    )


def legal_name_of(name: x509.Name) -> str:
    """A certificate's X.500 name as a legal name in canonical form.

    Raises:
        CertificateError: a node does not accept the name.
    """
    keys = {oid: key for key, oid in _X500_ORDER.items()}
    try:
        parts = [(keys[attribute.oid], str(attribute.value)) for attribute in name]
    except KeyError as error:
        raise CertificateError(f"name {name.rfc4514_string()!r}; wanted only {', '.join(_X500_ORDER)}") from error
    try:
        if any("," in value for _, value in parts):
            raise ValueError("a value has a comma")
        found = LegalName.parse(", ".join(f"{key}={value}" for key, value in parts))
        # Java compares a certificate's name as it is encoded, unlike a text that a person wrote.
        if dict(found.attributes) != dict(parts) or len(name.rdns) != len(parts):
            raise ValueError("wanted an attribute in each part, without white space around it")
        return str(found)
    except ValueError as error:
        raise CertificateError(f"name {name.rfc4514_string()!r}: {error}") from error


# --- Certificates --------------------------------------------------------------------------------------------------


def certificate(
    role: CertificateRole | None,
    subject: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    issuer: x509.Certificate | None,
    *,
    now: datetime,
    lifetime: timedelta = LIFETIME,
    crl_url: str | None = None,
) -> x509.CertificateBuilder:
    """A certificate with Corda's profile for the role, to be signed with its issuer's key.

    Args:
        role: None for a root.
        subject: the holder's name.
        public_key: the certified key.
        issuer: the issuer's certificate; None for a root.
        now: the time. Validity begins at the start of the day, as in Corda, and ends with the issuer's at the latest.
        lifetime: the validity.
        crl_url: URL of the issuer's revocation list.
    """
    profile = _PROFILES[role]
    begin, end = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0), now + lifetime
    if issuer:
        begin, end = max(begin, issuer.not_valid_before_utc), min(end, issuer.not_valid_after_utc)
    signer = ec_key(issuer) if issuer else public_key
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
            x509.UnrecognizedExtension(ROLE_OID, der(0x02, bytes([role]))), critical=False
        )
    if crl_url:
        point = x509.DistributionPoint([x509.UniformResourceIdentifier(crl_url)], None, None, None)
        builder = builder.add_extension(x509.CRLDistributionPoints([point]), critical=False)
    # A legal identity below the node CA is bound by the node CA's name constraint. One directly below the identity CA
    # needs its own; otherwise a member could issue confidential identities in another's name.
    if role is CertificateRole.NODE_CA or (
        role is CertificateRole.LEGAL_IDENTITY and issuer and role_of(issuer) is CertificateRole.DOORMAN_CA
    ):
        constraints = x509.NameConstraints([x509.DirectoryName(subject)], None)
        builder = builder.add_extension(constraints, critical=True)
    return builder


def role_of(certificate: x509.Certificate) -> CertificateRole | None:
    """A certificate's role; None if it has none.

    Raises:
        CertificateError: Corda does not know the role.
    """
    try:
        extension = certificate.extensions.get_extension_for_oid(ROLE_OID).value
    except x509.ExtensionNotFound:
        return None
    return read_role(extension.public_bytes())


def read_role(encoded: bytes) -> CertificateRole:
    """The role in DER. Raises CertificateError: Corda does not know it."""
    try:
        # An INTEGER of one byte.
        if encoded[:2] == b"\x02\x01" and len(encoded) == 3:
            return CertificateRole(encoded[2])
    except ValueError:
        pass
    raise CertificateError(
        f"role {encoded.hex()}; wanted one of {', '.join(f'{role:d} ({role.name})' for role in CertificateRole)}"
    )


def check_chain(
    chain: Sequence[x509.Certificate],
    *,
    role: CertificateRole,
    subject: str,
    public_key: Any,
    trust_root: x509.Certificate,
    now: datetime,
) -> None:
    """Verify a chain from leaf to root as a node and its peers do.

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
        with reading(f"certificate of {subject}: it is not issued by {_named(above)}; wanted an unbroken chain"):
            each.verify_directly_issued_by(above)
            constraints = above.extensions.get_extension_for_class(x509.BasicConstraints).value
        if not constraints.ca:
            raise refuse(f"{above.subject.rfc4514_string()} is not an authority", "an unbroken chain")


def check_certified(chain: Sequence[x509.Certificate], legal_name: str) -> None:
    """Check that the authority itself certified an identity, under exactly this name.

    A node's CA may certify names with further attributes, and has no revocation list.

    Raises:
        CertificateError: it did not.
    """
    roles, found = [role_of(each) for each in chain], legal_name_of(chain[0].subject)
    if found != legal_name or roles != [CertificateRole.LEGAL_IDENTITY, CertificateRole.DOORMAN_CA, None]:
        raise CertificateError(f"{found} with roles {roles}; wanted exactly {legal_name}, by the authority itself")


def check_root(root: x509.Certificate) -> None:
    """Check that a certificate may be a network's root.

    Raises:
        CertificateError: it may not.
    """
    with reading(f"{_named(root)} is not self-signed; wanted a root"):
        root.verify_directly_issued_by(root)
        authority = root.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        role = role_of(root)
    if not authority or role is not None:
        raise CertificateError(f"{root.subject.rfc4514_string()} is not an authority without a role; wanted a root")


def fingerprint(certificate: x509.Certificate) -> str:
    """`sha256:` and 64 hex digits of the certificate (DER), as configuration pins a root."""
    return f"sha256:{hashlib.sha256(_der_of(certificate)).hexdigest()}"


def _named(certificate: x509.Certificate) -> str:
    return f"{certificate.subject.rfc4514_string():.200}"


def renewal_time(certificate: x509.Certificate) -> datetime:
    """When a third of a certificate's validity is left: four months of twelve."""
    return certificate.not_valid_after_utc - _valid(certificate) / 3


def renewal_spread(certificate: x509.Certificate) -> timedelta:
    """Delay after `renewal_time`, fixed by the serial number: at most six days for a validity of twelve months.

    So the nodes of a bank whose certificates were issued together do not restart together.
    """
    return _valid(certificate) / 60 * (certificate.serial_number % 1000 / 1000)


def _valid(certificate: x509.Certificate) -> timedelta:
    return certificate.not_valid_after_utc - certificate.not_valid_before_utc


def ec_key(certificate: x509.Certificate) -> ec.EllipticCurvePublicKey:
    """A certificate's key. Raises CertificateError: it is no elliptic-curve key."""
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise CertificateError(f"certificate of {certificate.subject.rfc4514_string()}: wanted an elliptic-curve key")
    return key


def _der_of(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


# --- What a node issues itself -------------------------------------------------------------------------------------


def issue(
    keys: Mapping[str, bytes], name: str, role: CertificateRole, node_ca: Sequence[x509.Certificate], *, now: datetime
) -> tuple[x509.Certificate, ...]:
    """Chain of a certificate that the node CA issues for another key of the same identity.

    Args:
        keys: the identity's secret blobs.
        name: name of the blob whose key is certified.
        role: the new certificate's role.
        node_ca: the node CA's chain.
        now: the time.
    """
    builder = certificate(role, node_ca[0].subject, read_key(keys, name).public_key(), node_ca[0], now=now)
    return builder.sign(read_key(keys, NODE_CA_KEY), SHA256()), *node_ca


def issue_rpc(keys: Mapping[str, bytes], legal_name: str, address: str, *, now: datetime) -> x509.Certificate:
    """A node's self-signed certificate for the bank's own applications.

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
        .not_valid_after(now + RPC_LIFETIME)
        .add_extension(x509.SubjectAlternativeName([_general_name(address)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, SHA256())
    )


def serves(certificate: x509.Certificate, address: str) -> bool:
    """Whether the certificate is valid for a server at `address`."""
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


def make_request(legal_name: str, email: str, role: CertificateRole, key: ec.EllipticCurvePrivateKey) -> bytes:
    """A PKCS#10 request with Corda's attributes, in DER.

    Encoded by hand: the role is an INTEGER, which `cryptography` can't write to an attribute.
    """
    attributes = sorted(
        [
            _attribute(NameOID.EMAIL_ADDRESS, der(0x0C, email.encode())),
            _attribute(ROLE_OID, der(0x02, bytes([role]))),
        ]
    )
    version = der(0x02, b"\0")
    name = x500_name(legal_name).public_bytes()
    body = der(0x30, version, name, _encoded(key.public_key()), der(0xA0, *attributes))
    algorithm = der(0x30, _oid("1.2.840.10045.4.3.2"))  # ecdsa-with-SHA256
    return der(0x30, body, algorithm, der(0x03, b"\0", key.sign(body, ec.ECDSA(SHA256()))))


def _attribute(oid: x509.ObjectIdentifier, value: bytes) -> bytes:
    return der(0x30, _oid(oid.dotted_string), der(0x31, value))


def _oid(dotted: str) -> bytes:
    first, second, *rest = (int(part) for part in dotted.split("."))
    content = bytearray()
    for number in (first * 40 + second, *rest):
        septets = [number & 0x7F]
        while number := number >> 7:
            septets.append(0x80 | number & 0x7F)
        content += bytes(reversed(septets))
    return der(0x06, bytes(content))


def der(tag: int, *parts: bytes) -> bytes:
    """A value in DER, with the given tag."""
    content = b"".join(parts)
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content


# --- Chains and key stores -----------------------------------------------------------------------------------------


def to_pem(certificate: x509.Certificate) -> str:
    """A certificate in PEM."""
    return certificate.public_bytes(Encoding.PEM).decode()


def from_pem(text: str) -> x509.Certificate:
    """Parse a certificate in PEM.

    Raises:
        CertificateError: the text is no certificate, or a part of it is unreadable.
    """
    with reading("not a certificate; wanted X.509 in PEM"):
        return _whole(x509.load_pem_x509_certificate(text.encode()))


def from_der(encoded: bytes) -> x509.Certificate:
    """Parse a certificate in DER.

    Raises:
        CertificateError: it is no certificate, or a part of it is unreadable.
    """
    with reading("not a certificate; wanted X.509 in DER"):
        return _whole(x509.load_der_x509_certificate(encoded))


def _whole(certificate: x509.Certificate) -> x509.Certificate:
    """The certificate, with each part read once: `cryptography` parses lazily, and would fail only later."""
    certificate.version, certificate.serial_number, certificate.signature_hash_algorithm  # noqa: B018
    certificate.not_valid_before_utc, certificate.not_valid_after_utc  # noqa: B018
    certificate.subject.rfc4514_string(), certificate.issuer.rfc4514_string()
    _encoded(certificate.public_key())
    role_of(certificate)
    return certificate


_Certificate = Annotated[
    x509.Certificate,
    BeforeValidator(lambda given: given if isinstance(given, x509.Certificate) else from_pem(given)),
    PlainSerializer(to_pem),
]
_Chain = Annotated[tuple[_Certificate, ...], FIRST_FAULT_ONLY, Field(min_length=1, max_length=10)]


class Chains(OpenModel, arbitrary_types_allowed=True):
    """An identity's certificates, each chain from leaf to root. All public."""

    schema_version: Annotated[str, Field(alias="schema", pattern=f"^{CHAINS_SCHEMA}$")] = CHAINS_SCHEMA
    node_ca: _Chain
    identity: _Chain
    tls: _Chain
    rpc: _Certificate
    """Self-signed, pinned by the bank's applications."""

    @property
    def trust_root(self) -> x509.Certificate:
        """The network's root certificate."""
        return self.node_ca[-1]

    def to_json(self) -> bytes:
        """The JSON document, with certificates in PEM."""
        return self.model_dump_json(by_alias=True, indent=1).encode()

    @staticmethod
    def from_json(content: bytes) -> "Chains":
        """Parse the JSON document.

        Raises:
            CertificateError: it is no document of `to_json`.
        """
        try:
            return Chains.model_validate_json(content)
        except ValidationError as error:
            raise CertificateError(
                f"no document of certificates: {first_fault(error)}; wanted nodeCa, identity, tls and rpc of schema"
                f" {CHAINS_SCHEMA}"
            ) from error


@dataclass(frozen=True)
class RevocationList:
    """An issuer's revocation list."""

    number: int
    """Rises with each list of the issuer."""
    serials: frozenset[int]
    since: datetime
    ends: datetime | None
    """When the next list is due."""


def read_revocation_list(encoded: bytes, issuer: x509.Certificate | None = None) -> RevocationList:
    """Parse a revocation list in DER; if `issuer` is given, its signature is verified.

    Raises:
        CertificateError: it is no list, has no number, or was not signed by the issuer.
    """
    with reading("not a revocation list; wanted one with a number, in DER"):
        read = x509.load_der_x509_crl(encoded)
        number = read.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
        if issuer and not (read.issuer == issuer.subject and read.is_signature_valid(ec_key(issuer))):
            raise CertificateError(f"a list not signed by {issuer.subject.rfc4514_string()}; wanted its list")
        serials = frozenset(each.serial_number for each in read)
        return RevocationList(number, serials, read.last_update_utc, read.next_update_utc)


def key_stores(keys: Mapping[str, bytes], chains: Chains, password: str) -> dict[str, bytes]:
    """The key store files of a node and its tools, by name; one password protects each file and all its entries.

    The format is JKS. PKCS#12 does not work: Java takes a certificate with the same subject and issuer for a root and
    drops the rest of the chain, and a node CA has the same name as what it issues. The protection is that the files
    are in memory and their password lives as long as the process, not the format.
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
    # No creation time, which nothing reads: the same content gives the same file.
    return struct.pack(">IH", tag, len(alias)) + alias.encode("ascii") + struct.pack(">Q", 0)


def _jks_certificate(certificate: x509.Certificate) -> bytes:
    encoded = _der_of(certificate)
    return struct.pack(">H", 5) + b"X.509" + struct.pack(">I", len(encoded)) + encoded


def _protected(key: bytes, password: str) -> bytes:
    """A private key as Java's KeyProtector encrypts it: XOR with a SHA-1 key stream of password and salt."""
    secret, salt = password.encode("utf-16-be"), os.urandom(20)
    stream, last = b"", salt
    while len(stream) < len(key):
        last = _sha1(secret + last)
        stream += last
    hidden = bytes(one ^ other for one, other in zip(key, stream, strict=False))
    algorithm = der(0x30, _oid("1.3.6.1.4.1.42.2.17.1.1"), der(0x05))
    return der(0x30, algorithm, der(0x04, salt, hidden, _sha1(secret + key)))


def _sha1(data: bytes) -> bytes:
    return hashlib.sha1(data, usedforsecurity=False).digest()
