"""Corda 4: roles, ports, runtime, database, and the X.500 names of its nodes."""

import re

from contract.legal_name import LegalName
from contract.listeners import Audience, Listener, Probe
from contract.platform import (
    P2P,
    AuthorityNeeds,
    Counted,
    DatabaseNeeds,
    NetworkDocument,
    Platform,
    Port,
    Role,
    Scope,
    SecretBlob,
)

POOL = 18
"""Connections in one node's own pool."""

ROOT_KEY, IDENTITY_CA_KEY, NETWORK_PARAMETERS_KEY = "root", "identity-ca", "network-parameters"
"""Names of the authority's keys; the root key is in a separate vault."""

NOTARY = "notary"
"""Role of the identities that notarise transactions."""

NODE_CA_KEY = "node-ca-key"
"""Key of the node CA, which issues TLS certificates in a zone; only the agent has it, never the node process."""
IDENTITY_KEY = "identity-key"
TLS_KEY = "tls-key"
RPC_TLS_KEY = "rpc-tls-key"
IDENTITY_BLOBS = (NODE_CA_KEY, IDENTITY_KEY, TLS_KEY, RPC_TLS_KEY)
"""Names of a Corda identity's secret blobs."""

LISTS_PORT = 10500
"""Loopback port on which a VM serves the network's revocation lists to its own node."""

_CLASS = r"[A-Za-z_$][\w$]*(\.[A-Za-z_$][\w$]*)*"
# The forms that Corda's RPCPermissionResolver accepts.
_PERMISSION = re.compile(rf"ALL|InvokeRpc\.[A-Za-z]\w*|InvokeRpc:{_CLASS}#[A-Za-z]\w*|StartFlow\.{_CLASS}")


def check_bank_legal_name(text: str) -> str:
    """A bank's legal name in canonical form; OU and CN are reserved for its nodes.

    Raises:
        ValueError: it is no legal name, or has an OU or a CN.
    """
    return str(LegalName.of_bank(text))


def check_permission(text: str) -> str:
    """An RPC permission, unchanged.

    Raises:
        ValueError: a node would not start with it.
    """
    if not _PERMISSION.fullmatch(text):
        raise ValueError(f"{text!r}; wanted ALL, StartFlow.CLASS, InvokeRpc.METHOD or InvokeRpc:INTERFACE#METHOD")
    return text


def platform_version(version: str) -> int:
    """The platform version of a release: 10 to 13 for 4.8 to 4.11, from 140 for 4.12 on."""
    minor = int(version.split(".")[1])
    return (minor + 2) * (10 if minor >= 12 else 1)


def _node_legal_name(bank: str, node: str) -> str:
    return str(LegalName.of_bank(bank).of_node(node))


def _bank_of(node: str) -> str:
    return str(LegalName.bank_of(node))


def java_version(version: str) -> int:
    """The major version of Java for a release: 8 for 4.8 to 4.11, 17 from 4.12 on."""
    return 17 if platform_version(version) > 13 else 8


def _packages(version: str) -> tuple[str, ...]:
    # A JDK, since this project's Java code is compiled on the VM; Maven fetches the artifacts.
    return (f"openjdk-{java_version(version)}-jdk-headless", "maven")


_APPLICATIONS, _PEERS = frozenset({Audience.APPLICATIONS}), frozenset({Audience.PEERS})
_PORTS = (
    Port(P2P, 10000, _PEERS),
    Port("rpc", 10100, _APPLICATIONS),
    Port("rpc-admin", 10300, scope=Scope.LOCAL),
    Port("monitoring", 10400, scope=Scope.LOCAL),
)
# A P-256 key's PEM has 241 bytes. Its certificates are public and stored elsewhere.
_SECRETS = tuple(SecretBlob(name, 1024) for name in IDENTITY_BLOBS)

CORDA = Platform(
    name="corda",
    versions=("4.8", "4.9", "4.10", "4.11", "4.12", "4.13", "4.14"),
    # The newest release whose artifacts are in a public Maven repository.
    default_version="4.10",
    roles=(
        Role("node", (*_PORTS, Port("rpc", 10200, _APPLICATIONS, Scope.SHARED)), _SECRETS),
        # A notary has no shared RPC port: applications use it for states, and a notary has none.
        Role(NOTARY, _PORTS, _SECRETS),
    ),
    # Corda's default pool is 10; 18 leaves room under load, and the agent needs two. Tests run 4.10 on PostgreSQL 17.
    database=DatabaseNeeds(version="17", connections_per_identity=POOL + 2, identities_per_vcore=4),
    network_document=NetworkDocument("network-parameters"),
    transactions=Counted.OWN,
    packages=_packages,
    check_legal_name=check_bank_legal_name,
    node_legal_name=_node_legal_name,
    bank_of=_bank_of,
    platform_version=platform_version,
    software="ledger.corda.software:CordaSoftware",
    install="ledger.corda.installation:install",
    authority=AuthorityNeeds(
        module="ledger.corda.authority",
        keys=(IDENTITY_CA_KEY, NETWORK_PARAMETERS_KEY),
        root_key=ROOT_KEY,
        issuing_key=IDENTITY_CA_KEY,
        notary_role=NOTARY,
        listeners=(
            # Probed themselves: a VM without its vault or register is healthy, and never listens.
            Listener("enrolment", 8444, _PEERS, Probe(8444)),
            # Plain HTTP, as usual: revocation lists are signed.
            Listener("revocation", 8445, _PEERS, Probe(8445)),
        ),
    ),
    check_permission=check_permission,
)
