"""A root and an identity CA, for tests of certificates."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID

from ledger.corda import IDENTITY_KEY, NODE_CA_KEY, RPC_TLS_KEY, TLS_KEY
from ledger.corda.authority.authority import Lifetimes
from ledger.corda.certificates import (
    NODE_KEY_STORE,
    RPC_KEY_STORE,
    RPC_TRUST_STORE,
    TLS_KEY_STORE,
    TRUST_STORE,
    CertificateRole,
    Chains,
    certificate,
    issue,
    issue_rpc,
    read_key,
    x500_name,
)

_OIDS = {"CN": NameOID.COMMON_NAME, "ST": NameOID.STATE_OR_PROVINCE_NAME}
NOW = datetime(2026, 11, 24, 13, 30, tzinfo=UTC)
NAME = "OU=node-1, O=Bank A/S, L=London, C=GB"
PASSWORD = "changeit"
CRL = "http://10.1.255.30:8445/identity-ca.crl"


@dataclass
class Network:
    """A root and an identity CA, with their private keys."""

    root_key: ec.EllipticCurvePrivateKey
    ca_key: ec.EllipticCurvePrivateKey
    root: x509.Certificate
    ca: x509.Certificate

    def certify(
        self, role: CertificateRole, key: Any, name: str = NAME, **options: Any
    ) -> tuple[x509.Certificate, ...]:
        given: dict[str, Any] = {"now": NOW, "crl_url": CRL} | options
        builder = certificate(role, x500_name(name), key.public_key(), self.ca, **given)
        return builder.sign(self.ca_key, SHA256()), self.ca, self.root


def make_network(now: datetime = NOW) -> Network:
    root_key, ca_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    root = certificate(
        None, x500_name("CN=Root, O=Bank A, L=London, C=GB"), root_key.public_key(), None, now=now,
        lifetime=Lifetimes.root,
    ).sign(root_key, SHA256())  # fmt: skip
    ca = certificate(
        CertificateRole.DOORMAN_CA,
        x500_name("CN=Identity CA, O=Bank A, L=London, C=GB"),
        ca_key.public_key(),
        root,
        now=now,
        lifetime=Lifetimes.root,
        crl_url="http://10.1.255.30:8445/root.crl",
    ).sign(root_key, SHA256())
    return Network(root_key, ca_key, root, ca)


def below(name: str, **attributes: str) -> x509.Name:
    """A node's name with attributes more, which the name constraint of its CA allows: it is a subtree, by order."""
    more = [x509.NameAttribute(_OIDS[key], value) for key, value in attributes.items()]
    return x509.Name([*x500_name(name), *more])


STORES = {
    NODE_KEY_STORE: ("identity-private-key", IDENTITY_KEY, "identity"),
    TLS_KEY_STORE: ("cordaclienttls", TLS_KEY, "tls"),
    RPC_KEY_STORE: ("cordarpcssl", RPC_TLS_KEY, "rpc"),
    TRUST_STORE: ("cordarootca", None, "root"),
    RPC_TRUST_STORE: ("cordarpcssl", None, "rpc"),
}


def certified(network: Network, keys: Mapping[str, bytes], now: datetime = NOW, name: str = NAME) -> Chains:
    """The certificate chains of a node with these keys."""
    node_ca = network.certify(CertificateRole.NODE_CA, read_key(keys, NODE_CA_KEY), name, now=now)
    return Chains(
        node_ca=node_ca,
        identity=network.certify(CertificateRole.LEGAL_IDENTITY, read_key(keys, IDENTITY_KEY), name, now=now),
        tls=issue(keys, TLS_KEY, CertificateRole.TLS, node_ca, now=now),
        rpc=issue_rpc(keys, name, "10.1.255.4", now=now),
    )
