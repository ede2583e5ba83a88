"""A Corda node's configuration file node.conf: one typed object, rendered as HOCON, without secrets."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from host.database import tls_options

FILE = "node.conf"
SCHEMA = "corda"
"""The database schema with the node's tables."""
_POOL_CONNECT_SECONDS = 10


@dataclass(frozen=True)
class Variable:
    """An environment variable from which the node reads a password."""

    name: str


@dataclass(frozen=True)
class NodeUser:
    """An RPC user of the node."""

    name: str
    password: Variable
    permissions: tuple[str, ...]


@dataclass(frozen=True)
class NodeDatabase:
    """The node's database on a PostgreSQL server."""

    host: str
    port: int
    name: str
    user: str
    password: Variable
    root_certificates: Path | None
    """Trust roots of the server's certificate; None: no TLS."""
    pool: int
    """Limit of connections."""
    silent_seconds: int
    """Seconds without a byte of an answer after which a statement has failed; 0: no limit."""

    @property
    def url(self) -> str:
        """The JDBC URL."""
        options = {
            "currentSchema": SCHEMA,
            **tls_options(self.root_certificates),
            "tcpKeepAlive": "true",
            "connectTimeout": str(_POOL_CONNECT_SECONDS),
            "socketTimeout": str(self.silent_seconds),
        }
        server = f"{_host(self.host)}:{self.port}"
        return f"jdbc:postgresql://{server}/{quote(self.name)}?{urlencode(options, quote_via=quote)}"


@dataclass(frozen=True)
class KeyStoreFile:
    """A key store file; its entries have the same password."""

    path: Path
    password: Variable


@dataclass(frozen=True)
class NetworkServices:
    """URLs of a network that others run."""

    registration_url: str
    network_map_url: str


@dataclass(frozen=True)
class NodeConf:
    """The configuration of a node."""

    legal_name: str
    frontend: str
    """Address to which peers connect; published in the node's information."""
    listen: str
    """Address that the node listens on."""
    local: str
    """Address of services that only this VM may reach."""
    p2p_port: int
    """Port on `frontend` and on `listen`."""
    rpc_port: int
    rpc_admin_port: int
    """Port on `local`."""
    rpc_tls: KeyStoreFile
    users: tuple[NodeUser, ...]
    key_store_password: Variable
    trust_store_password: Variable
    applications: Path
    """Folder of the bank's applications."""
    database: NodeDatabase
    notary: bool = False
    """Whether the node is the network's notary: non-validating, so it sees no content of transactions."""
    revocation_url: str | None = None
    """URL of the list that TLS certificates name: a connection is accepted only if its whole chain is known not to be
    revoked. None, as in a zone whose certificates name no list: an unavailable list is ignored."""
    network: NetworkServices | None = None
    """None: certificates, parameters and members' information come as files."""

    def render(self) -> str:
        """The file's content."""
        return _hocon(self._document()) + "\n"

    def _document(self) -> dict[str, Any]:
        document: dict[str, Any] = {
            "myLegalName": self.legal_name,
            "devMode": False,
            "detectPublicIp": False,
            "p2pAddress": f"{_host(self.frontend)}:{self.p2p_port}",
            "messagingServerAddress": f"{_host(self.listen)}:{self.p2p_port}",
            # Otherwise the node looks for an external broker at that address.
            "messagingServerExternal": False,
            "rpcSettings": {
                "address": f"{_host(self.listen)}:{self.rpc_port}",
                "adminAddress": f"{_host(self.local)}:{self.rpc_admin_port}",
                "standAloneBroker": False,
                "useSsl": True,
                "ssl": {"keyStorePath": str(self.rpc_tls.path), "keyStorePassword": self.rpc_tls.password},
            },
            "security": {
                "authService": {
                    "dataSource": {
                        "type": "INMEMORY",
                        "users": [
                            {"user": each.name, "password": each.password, "permissions": list(each.permissions)}
                            for each in self.users
                        ],
                    }
                }
            },
            "keyStorePassword": self.key_store_password,
            "trustStorePassword": self.trust_store_password,
            "crlCheckSoftFail": self.revocation_url is None,
            # For incoming connections too.
            "crlCheckArtemisServer": True,
            "cordappDirectories": [str(self.applications)],
            "dataSourceProperties": {
                "dataSourceClassName": "org.postgresql.ds.PGSimpleDataSource",
                "dataSource": {
                    "url": self.database.url,
                    "user": self.database.user,
                    "password": self.database.password,
                },
                "maximumPoolSize": self.database.pool,
            },
        }
        if self.revocation_url:
            # The node requires it without soft fail, although it issues no certificate.
            document["tlsCertCrlDistPoint"] = self.revocation_url
        if self.notary:
            document["notary"] = {"validating": False}
        if self.network:
            document["networkServices"] = {
                "doormanURL": self.network.registration_url,
                "networkMapURL": self.network.network_map_url,
            }
        return document


def _host(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _hocon(value: Any, indent: str = "") -> str:
    """JSON, which is also HOCON, but with substitutions for environment variables."""
    deeper = f"{indent}  "
    if isinstance(value, Variable):
        return f"${{?{value.name}}}"
    if isinstance(value, Mapping):
        lines = ",\n".join(f"{deeper}{json.dumps(key)}: {_hocon(each, deeper)}" for key, each in value.items())
        return f"{{\n{lines}\n{indent}}}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{', '.join(_hocon(each, indent) for each in value)}]"
    return json.dumps(value, ensure_ascii=False)
