"""Certificates and key stores, bit by bit against what Corda and Java check."""

import asyncio
import hashlib
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from contract.legal_name import name_key
from ledger.corda import IDENTITY_BLOBS, IDENTITY_KEY, NODE_CA_KEY, RPC_TLS_KEY, TLS_KEY
from ledger.corda.authority.authority import Lifetimes
from ledger.corda.authority.signing import Request, read_request, revocation_list, sign
from ledger.corda.certificates import (
    LIFETIME,
    CertificateError,
    CertificateRole,
    Chains,
    certificate,
    check_chain,
    check_root,
    fingerprint,
    issue,
    issue_rpc,
    key_hash,
    key_stores,
    legal_name_of,
    make_keys,
    make_request,
    read_key,
    renewal_time,
    role_of,
    serves,
    to_pem,
    x500_name,
)
from tests.certificates import CRL, NAME, NOW, PASSWORD, STORES, Network, certified, make_network


@pytest.fixture(scope="module")
def network() -> Network:
    return make_network()


@pytest.fixture(scope="module")
def keys() -> dict[str, bytes]:
    return make_keys()


@pytest.fixture(scope="module")
def chains(network, keys) -> Chains:
    return certified(network, keys)


def extension(of: x509.Certificate, kind: Any) -> Any:
    return of.extensions.get_extension_for_class(kind)


def usages(of: x509.Certificate) -> set[str]:
    usage = extension(of, x509.KeyUsage).value
    names = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment")
    return {each for each in (*names, "key_agreement", "key_cert_sign", "crl_sign") if getattr(usage, each)}


# --- Profiles ------------------------------------------------------------------------------------------------------


CA = {"digital_signature", "key_cert_sign", "crl_sign"}
CLIENT = "1.3.6.1.5.5.7.3.2"
SERVER = "1.3.6.1.5.5.7.3.1"
# Columns of CertificateType: key usage, purposes, isCA, role.
PROFILES = {
    "root": (CA, None, True, None),
    "ca": (CA, [CLIENT], True, 1),
    "node_ca": (CA, [CLIENT], True, 4),
    "tls": ({"digital_signature", "key_encipherment", "key_agreement"}, [SERVER, CLIENT], False, 5),
    "identity": ({"digital_signature", "key_cert_sign"}, [CLIENT], True, 6),
    "parameters": ({"digital_signature"}, [CLIENT], False, 8),
}


@pytest.fixture(scope="module")
def issued(network, chains) -> dict[str, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x500_name("CN=Network Parameters, O=Bank A, L=London, C=GB")
    parameters = certificate(CertificateRole.NETWORK_PARAMETERS, subject, key.public_key(), network.root, now=NOW)
    return {
        "root": network.root,
        "ca": network.ca,
        "node_ca": chains.node_ca[0],
        "tls": chains.tls[0],
        "identity": chains.identity[0],
        "parameters": parameters.sign(network.root_key, SHA256()),
    }


@pytest.mark.parametrize("kind", PROFILES)
def test_a_certificate_has_the_profile_of_cordas_certificate_type(issued, kind):
    found, (usage, purposes, authority, role) = issued[kind], PROFILES[kind]
    assert usages(found) == usage, "KeyUsage of CertificateType"
    assert not extension(found, x509.KeyUsage).critical, "as X509Utilities writes it"
    assert extension(found, x509.BasicConstraints).value == x509.BasicConstraints(authority, None), "isCA, no length"
    assert extension(found, x509.BasicConstraints).critical, "as X509Utilities writes it"
    if purposes is None:
        with pytest.raises(x509.ExtensionNotFound):
            extension(found, x509.ExtendedKeyUsage)
    else:
        assert [each.dotted_string for each in extension(found, x509.ExtendedKeyUsage).value] == purposes, "in order"
    oid = x509.ObjectIdentifier("1.3.6.1.4.1.50530.1.1")
    if role is None:
        assert role_of(found) is None, "a root has no role: CertRole's parents are null"
    else:
        encoded = found.extensions.get_extension_for_oid(oid)
        assert encoded.value.public_bytes() == bytes([2, 1, role]), "an ASN.1 INTEGER of ordinal + 1"
        assert not encoded.critical, "Java's path validation knows no such extension"
    assert found.signature_algorithm_oid.dotted_string == "1.2.840.10045.4.3.2", "ecdsa-with-SHA256"
    assert found.version is x509.Version.v3


@pytest.mark.parametrize("kind", PROFILES)
def test_key_identifiers_are_the_sha1_of_the_keys(issued, network, chains, kind):
    found = issued[kind]
    above = {"root": network.root, "ca": network.root, "tls": chains.node_ca[0], "parameters": network.root}
    issuer = above.get(kind, network.ca)

    def identifier(of: x509.Certificate) -> bytes:
        point = of.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        return hashlib.sha1(point).digest()  # noqa: S324

    assert extension(found, x509.SubjectKeyIdentifier).value.digest == identifier(found), "RFC 5280 4.2.1.2 (1)"
    authority = extension(found, x509.AuthorityKeyIdentifier).value
    assert authority.key_identifier == identifier(issuer), "the issuer's"
    assert authority.authority_cert_issuer is None, "keyid alone, as JcaX509ExtensionUtils writes it"


def test_names_are_encoded_as_corda_encodes_them(issued):
    written = [(each.oid._name, each.value, each._type.name) for each in issued["node_ca"].subject]
    assert written == [
        ("countryName", "GB", "PrintableString"),
        ("localityName", "London", "UTF8String"),
        ("organizationName", "Bank A/S", "UTF8String"),
        ("organizationalUnitName", "node-1", "UTF8String"),
    ], "C, ST, L, O, OU, CN: X500NameBuilder's order, BCStyle's string types"


def test_a_legal_name_survives_its_way_into_a_certificate_and_back():
    for name in (NAME, "O=Bank A, L=New York, C=US", "CN=svc, OU=x, O=Bank A, L=London, ST=Kent, C=GB"):
        assert legal_name_of(x500_name(name)) == name, "canonical form"
    assert name_key(NAME) == name_key("C=GB, L=LONDON, O=BANK A/S, OU=NODE-1"), "X.500 treats these as equal"
    assert name_key(NAME) != name_key(NAME.replace("node-1", "node-2")), "another name"


def test_names_that_a_node_refuses_are_refused():
    strange = x509.Name([x509.NameAttribute(x509.NameOID.EMAIL_ADDRESS, "a@b")])
    with pytest.raises(CertificateError, match="wanted only C, ST, L, O, OU, CN"):
        legal_name_of(strange)
    tricky = x509.Name(
        [
            x509.NameAttribute(x509.NameOID.COUNTRY_NAME, "GB"),
            x509.NameAttribute(x509.NameOID.LOCALITY_NAME, "London"),
            x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "Bank A, OU=node-9"),
        ]
    )
    with pytest.raises(CertificateError, match="a value has a comma"):
        legal_name_of(tricky)


@pytest.mark.parametrize("organization", ["Bank A ", " Bank A", "Bank A\n", "\tBank A"])
def test_a_certificates_name_is_read_as_it_is_encoded(organization):
    name = x509.Name(
        [
            x509.NameAttribute(x509.NameOID.COUNTRY_NAME, "GB"),
            x509.NameAttribute(x509.NameOID.LOCALITY_NAME, "London"),
            x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, organization),
        ]
    )
    with pytest.raises(CertificateError, match="without white space around it"):
        legal_name_of(name)
    plain = list(x500_name("O=Bank A, L=London, C=GB"))
    together = x509.Name([x509.RelativeDistinguishedName(plain[:2]), x509.RelativeDistinguishedName(plain[2:])])
    with pytest.raises(CertificateError, match="wanted an attribute in each part"):
        legal_name_of(together)


def test_a_node_ca_may_only_issue_for_its_own_name(chains):
    constraints = extension(chains.node_ca[0], x509.NameConstraints)
    assert constraints.critical, "as createDevNodeCa's"
    assert constraints.value.permitted_subtrees == [x509.DirectoryName(x500_name(NAME))], "its own subtree"
    assert constraints.value.excluded_subtrees is None


def test_an_identity_below_the_identity_ca_may_only_issue_for_its_own_name(chains, keys):
    own = extension(chains.identity[0], x509.NameConstraints)
    assert own.critical, "it issues confidential identities: without it, in another member's name too"
    assert own.value.permitted_subtrees == [x509.DirectoryName(x500_name(NAME))]
    below = issue(keys, IDENTITY_KEY, CertificateRole.LEGAL_IDENTITY, chains.node_ca, now=NOW)[0]
    with pytest.raises(x509.ExtensionNotFound):
        extension(below, x509.NameConstraints)  # The node CA's constraint binds it, and Corda writes none.


def test_certificates_name_the_url_of_their_revocation_list(chains, network):
    for of, url in ((chains.node_ca[0], CRL), (network.ca, "http://10.1.255.30:8445/root.crl")):
        (point,) = extension(of, x509.CRLDistributionPoints).value
        assert point.full_name == [x509.UniformResourceIdentifier(url)]
        assert (point.crl_issuer, point.reasons) == (None, None), "as addCrlInfo writes it"
    for of in (chains.tls[0], network.root):
        with pytest.raises(x509.ExtensionNotFound):
            extension(of, x509.CRLDistributionPoints)


def test_validity_begins_with_the_day_and_ends_before_the_issuers(network, keys):
    key = read_key(keys, NODE_CA_KEY)
    (leaf, *_) = network.certify(CertificateRole.NODE_CA, key)
    assert leaf.not_valid_before_utc == NOW.replace(hour=0, minute=0), "clocks that are a little slow accept it"
    assert leaf.not_valid_after_utc == NOW + LIFETIME
    late = NOW + Lifetimes.root - timedelta(days=5)
    (cut, *_) = network.certify(CertificateRole.NODE_CA, key, now=late)
    assert cut.not_valid_after_utc == network.ca.not_valid_after_utc, (
        "Java refuses a certificate that outlives its issuer"
    )
    assert renewal_time(leaf) == leaf.not_valid_after_utc - (leaf.not_valid_after_utc - leaf.not_valid_before_utc) / 3


def test_serial_numbers_are_random(network, keys):
    serials = {
        network.certify(CertificateRole.NODE_CA, read_key(keys, NODE_CA_KEY))[0].serial_number for _ in range(50)
    }
    assert len(serials) == 50
    assert min(serials) > 2**100, "random"
    assert max(serials).bit_length() < 160, "positive and 20 bytes at most, RFC 5280"


# --- Chains --------------------------------------------------------------------------------------------------------


def check(network: Network, keys: Any, chain: Any, role: CertificateRole, key: str, **changes: Any) -> None:
    given: dict[str, Any] = {"role": role, "subject": NAME, "public_key": read_key(keys, key).public_key()}
    given |= {"trust_root": network.root, "now": NOW} | changes
    check_chain(chain, **given)


def test_every_chain_of_a_node_is_accepted(network, keys, chains):
    check(network, keys, chains.node_ca, CertificateRole.NODE_CA, NODE_CA_KEY)
    check(network, keys, chains.identity, CertificateRole.LEGAL_IDENTITY, IDENTITY_KEY)
    check(network, keys, chains.tls, CertificateRole.TLS, TLS_KEY)
    zone = issue(keys, IDENTITY_KEY, CertificateRole.LEGAL_IDENTITY, chains.node_ca, now=NOW)
    check(network, keys, zone, CertificateRole.LEGAL_IDENTITY, IDENTITY_KEY)
    check_root(network.root)


def test_unverifiable_chains_are_refused(network, keys, chains):
    other = make_network()
    ca, tls = chains.node_ca, chains.tls

    def refused(
        match: str,
        chain: Any,
        role: CertificateRole = CertificateRole.NODE_CA,
        key: str = NODE_CA_KEY,
        **changes: Any,
    ) -> None:
        with pytest.raises(CertificateError, match=match):
            check(network, keys, chain, role, key, **changes)

    refused("does not end with the network's root", (*ca[:2], other.root))
    refused("does not end with the network's root", ca[:2])
    refused("does not end with the network's root", (network.root,))
    refused("is not issued by", other.certify(CertificateRole.NODE_CA, read_key(keys, NODE_CA_KEY))[:1] + ca[1:])
    refused(
        "its subject is",
        network.certify(CertificateRole.NODE_CA, read_key(keys, NODE_CA_KEY), "O=Bank B, L=Paris, C=FR"),
    )
    refused("it certifies the key", network.certify(CertificateRole.NODE_CA, read_key(keys, TLS_KEY)))
    refused("its role is", network.certify(CertificateRole.LEGAL_IDENTITY, read_key(keys, NODE_CA_KEY)))
    refused("is valid from", ca, now=NOW - timedelta(days=2))
    refused("is valid from", ca, now=NOW + LIFETIME + timedelta(seconds=1))
    refused("a hierarchy that Corda knows", (tls[0], network.root), CertificateRole.TLS, TLS_KEY)
    # A TLS certificate is no CA: it can't issue another one.
    below = certificate(
        CertificateRole.LEGAL_IDENTITY, x500_name(NAME), read_key(keys, IDENTITY_KEY).public_key(), tls[0], now=NOW
    )
    chain = (below.sign(read_key(keys, TLS_KEY), SHA256()), *tls)
    refused("a hierarchy that Corda knows", chain, CertificateRole.LEGAL_IDENTITY, IDENTITY_KEY)


def test_a_certificate_that_is_no_root_is_refused(network, chains):
    for other in (network.ca, chains.tls[0], chains.rpc):
        with pytest.raises(CertificateError, match="wanted a root"):
            check_root(other)


@pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl here")
@pytest.mark.parametrize("kind", ["node_ca", "identity", "tls"])
def test_openssl_verifies_each_chain_and_the_revocation_lists(tmp_path, keys, kind):
    network = make_network(datetime.now(UTC))
    node_ca = network.certify(CertificateRole.NODE_CA, read_key(keys, NODE_CA_KEY), now=datetime.now(UTC))
    chain = {
        "node_ca": node_ca,
        "identity": network.certify(
            CertificateRole.LEGAL_IDENTITY, read_key(keys, IDENTITY_KEY), now=datetime.now(UTC)
        ),
        "tls": issue(keys, TLS_KEY, CertificateRole.TLS, node_ca, now=datetime.now(UTC)),
    }[kind]
    revoked = {} if kind == "tls" else {chain[0].serial_number: datetime.now(UTC) - timedelta(minutes=1)}
    for name, revocations in (("none", {}), ("some", revoked)):
        now = datetime.now(UTC) - timedelta(seconds=30)
        crls = [
            revocation_list(network.ca, 2, revocations, now=now, lifetime=timedelta(days=7)).sign(
                network.ca_key, SHA256()
            ),
            revocation_list(network.root, 1, {}, now=now, lifetime=timedelta(days=7)).sign(
                network.root_key, SHA256()
            ),
        ]
        (tmp_path / name).write_bytes(b"".join(each.public_bytes(Encoding.PEM) for each in crls))
    (tmp_path / "root").write_text(to_pem(chain[-1]))
    (tmp_path / "between").write_text("".join(to_pem(each) for each in chain[1:-1]))
    (tmp_path / "leaf").write_text(to_pem(chain[0]))

    def verified(lists: str) -> bool:
        options = (
            ["-purpose", "sslclient", "-x509_strict"] if kind == "tls" else ["-purpose", "any", "-crl_check_all"]
        )
        done = subprocess.run(
            ["openssl", "verify", *options, "-CAfile", "root", "-untrusted", "between", "-CRLfile", lists, "leaf"],
            cwd=tmp_path,
            capture_output=True,
            check=False,
        )
        return done.returncode == 0

    assert verified("none"), "an unbroken chain, with fresh revocation lists"
    assert verified("some") is (kind == "tls"), "a revoked certificate is refused"


# --- Signing elsewhere ---------------------------------------------------------------------------------------------


class Elsewhere:
    """A signer whose private key can't be read."""

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key, self.asked = key, 0

    @property
    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._key.public_key()

    async def sign(self, data: bytes) -> bytes:
        self.asked += 1
        await asyncio.sleep(0)
        return self._key.sign(data, ec.ECDSA(SHA256()))


def test_a_remote_key_signs_certificates_and_revocation_lists(network, keys):
    signer = Elsewhere(network.ca_key)

    async def both() -> tuple[x509.Certificate, x509.CertificateRevocationList]:
        key = read_key(keys, NODE_CA_KEY).public_key()
        return (
            await sign(certificate(CertificateRole.NODE_CA, x500_name(NAME), key, network.ca, now=NOW), signer),
            await sign(revocation_list(network.ca, 1, {7: NOW}, now=NOW, lifetime=timedelta(days=7)), signer),
        )

    leaf, crl = asyncio.run(both())
    leaf.verify_directly_issued_by(network.ca)
    assert crl.is_signature_valid(network.ca.public_key())
    assert signer.asked == 2, "one signature each: the hardware's are slow"
    assert crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == 1
    assert [each.serial_number for each in crl] == [7]


# --- Requests ------------------------------------------------------------------------------------------------------


def test_a_request_has_name_role_and_key(keys):
    for role, name in ((CertificateRole.NODE_CA, NODE_CA_KEY), (CertificateRole.LEGAL_IDENTITY, IDENTITY_KEY)):
        key = read_key(keys, name)
        read = read_request(make_request(NAME, "ops@bank-a.example", role, key))
        assert (read.legal_name, read.role, key_hash(read.public_key)) == (NAME, role, key_hash(key.public_key()))


@pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl here")
def test_openssl_reads_and_verifies_a_request(keys, tmp_path):
    (tmp_path / "request").write_bytes(
        make_request(NAME, "ops@bank-a.example", CertificateRole.NODE_CA, read_key(keys, NODE_CA_KEY))
    )
    done = subprocess.run(
        ["openssl", "req", "-inform", "der", "-in", "request", "-verify", "-text", "-noout"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "verify OK" in done.stdout + done.stderr, "the signature proves possession of the key"
    assert "ops@bank-a.example" in done.stdout, "BCStyle.E, as in Corda's own requests"


@given(st.integers(0, 400), st.integers(0, 255))
def test_a_changed_request_is_refused_or_unchanged_in_meaning(position, value):
    key = ec.derive_private_key(7, ec.SECP256R1())
    whole = make_request(NAME, "ops@bank-a.example", CertificateRole.NODE_CA, key)
    changed = bytearray(whole)
    position %= len(whole)
    changed[position] = value
    try:
        read = read_request(bytes(changed))
    except CertificateError:
        return
    assert (read.legal_name, read.role, key_hash(read.public_key)) == (
        NAME,
        CertificateRole.NODE_CA,
        key_hash(key.public_key()),
    )


def test_requests_for_certificates_that_an_authority_does_not_issue_are_refused(keys):
    key = read_key(keys, NODE_CA_KEY)
    with pytest.raises(CertificateError, match="a request for role DOORMAN_CA"):
        read_request(make_request(NAME, "a@b", CertificateRole.DOORMAN_CA, key))
    with pytest.raises(CertificateError, match=r"wanted PKCS#10"):
        read_request(b"\x30\x00")
    with pytest.raises(CertificateError, match=r"wanted one of P-256"):
        read_request(make_request(NAME, "a@b", CertificateRole.NODE_CA, ec.generate_private_key(ec.SECP384R1())))
    ed = ed25519.Ed25519PrivateKey.generate()
    csr = x509.CertificateSigningRequestBuilder().subject_name(x500_name(NAME)).sign(ed, None)
    with pytest.raises(CertificateError, match=r"wanted one of P-256"):
        read_request(csr.public_bytes(Encoding.DER))


def test_a_request_without_a_role_means_a_node_ca(keys):
    key = read_key(keys, NODE_CA_KEY)
    csr = x509.CertificateSigningRequestBuilder().subject_name(x500_name(NAME)).sign(key, SHA256())
    assert isinstance(read := read_request(csr.public_bytes(Encoding.DER)), Request)
    assert read.role is CertificateRole.NODE_CA, "as Corda's first nodes did"


# --- Documents and keys --------------------------------------------------------------------------------------------


def test_chains_are_kept_as_a_document_without_secrets(chains, keys):
    content = chains.to_json()
    assert Chains.from_json(content) == chains
    assert b"PRIVATE" not in content
    for damaged in (b"", b"{}", b"[]", content.replace(b'"1.0"', b'"2.0"'), content.replace(b"BEGIN", b"BEGUN")):
        with pytest.raises(CertificateError):
            Chains.from_json(damaged)


def test_keys_differ_and_appear_in_no_message(keys):
    assert set(keys) == set(IDENTITY_BLOBS)
    assert len({read_key(keys, name).private_numbers().private_value for name in IDENTITY_BLOBS}) == 4, (
        "one for each use"
    )
    assert all(len(blob) < 1024 for blob in keys.values()), "the limit of the secret blobs"
    rsa_like = {**keys, TLS_KEY: b"-----BEGIN PRIVATE KEY-----\nsecret\n-----END PRIVATE KEY-----\n"}
    with pytest.raises(CertificateError) as refused:
        read_key(rsa_like, TLS_KEY)
    assert "secret\n" not in str(refused.value), "no part of a key is in a message"
    p384 = ec.generate_private_key(ec.SECP384R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(CertificateError, match="wanted a P-256 key"):
        read_key({TLS_KEY: p384}, TLS_KEY)


def test_the_rpc_certificate_has_the_address_that_applications_connect_to(chains, keys):
    assert serves(chains.rpc, "10.1.255.4")
    assert not serves(chains.rpc, "10.1.255.5")
    assert serves(issue_rpc(keys, NAME, "rpc.bank-a.example", now=NOW), "rpc.bank-a.example")
    assert not serves(chains.tls[0], "10.1.255.4"), "the other certificates name no address"
    chains.rpc.verify_directly_issued_by(chains.rpc)
    assert key_hash(chains.rpc.public_key()) == key_hash(read_key(keys, RPC_TLS_KEY).public_key())


def test_a_fingerprint_has_the_form_that_the_configuration_pins(network):
    der = network.root.public_bytes(Encoding.DER)
    assert fingerprint(network.root) == f"sha256:{hashlib.sha256(der).hexdigest()}"


# --- Key stores ----------------------------------------------------------------------------------------------------


def test_key_stores_lack_the_node_cas_key(chains, keys):
    assert set(key_stores(keys, chains, PASSWORD)) == set(STORES)
    without = {name: blob for name, blob in keys.items() if name != NODE_CA_KEY}
    assert set(key_stores(without, chains, PASSWORD)) == set(STORES), "a node does not need the node CA's key"
    secret = read_key(keys, IDENTITY_KEY).private_numbers().private_value.to_bytes(32, "big")
    assert all(secret not in content for content in key_stores(keys, chains, PASSWORD).values()), "protected"
