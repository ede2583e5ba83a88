"""A Corda node's configuration, node.conf: one typed object, written as HOCON. No secret stands in it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

FILE = "node.conf"
SCHEMA = "corda"
"""Of the database: where the node's tables are."""
_CONNECT_SECONDS = 10


@dataclass(frozen=True)
class Variable:
    """A value that the node takes from its environment: a password."""

    name: str


@dataclass(frozen=True)
class User:
    """Who may use the node's RPC."""

    name: str
    password: Variable
    permissions: tuple[str, ...]


@dataclass(frozen=True)
class Database:
    """The node's database on a PostgreSQL server."""

    host: str
    port: int
    name: str
    user: str
    password: Variable
    root_certificates: Path | None
    """Trust roots that the server's certificate and name are verified by; None speaks without TLS."""
    pool: int
    """Connections at most."""

    @property
    def url(self) -> str:
        """As the JDBC driver takes it."""
        secure = (
            {"sslmode": "verify-full", "sslrootcert": str(self.root_certificates)}
            if self.root_certificates
            else {"sslmode": "disable"}
        )
        options = {"currentSchema": SCHEMA, **secure, "tcpKeepAlive": "true", "connectTimeout": str(_CONNECT_SECONDS)}
        server = f"{_host(self.host)}:{self.port}"
        return f"jdbc:postgresql://{server}/{quote(self.name)}?{urlencode(options, quote_via=quote)}"


@dataclass(frozen=True)
class KeyStore:
    """A key store's file; its entries have the password of the whole."""

    path: Path
    password: Variable


@dataclass(frozen=True)
class NetworkServices:
    """A network that others run."""

    registration_url: str
    network_map_url: str


@dataclass(frozen=True)
class NodeConf:
    """All that a node is told."""

    legal_name: str
    frontend: str
    """The address that peers dial; part of what the node publishes of itself."""
    listen: str
    """The address that the node listens on."""
    local: str
    """The address for what is nobody's business outside of the VM."""
    p2p_port: int
    """Of frontend and VM alike."""
    rpc_port: int
    rpc_admin_port: int
    """On `local`."""
    rpc_tls: KeyStore
    users: tuple[User, ...]
    key_store_password: Variable
    trust_store_password: Variable
    applications: Path
    """Folder of the bank's applications."""
    database: Database
    notary: bool = False
    """Whether it is the network's notary, a non-validating one: it sees no content of a transaction."""
    network: NetworkServices | None = None
    """None: certificates, parameters and the members' information come as files."""

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
            # Else the node looks for a broker of somebody else's at that address.
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
            # A list that can't be had must not cut a bank off; one that can be had counts.
            "crlCheckSoftFail": True,
            # Of who connects, too.
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
    """JSON, which is HOCON, but for what comes from the environment."""
    deeper = f"{indent}  "
    if isinstance(value, Variable):
        return f"${{?{value.name}}}"
    if isinstance(value, Mapping):
        lines = ",\n".join(f"{deeper}{json.dumps(key)}: {_hocon(each, deeper)}" for key, each in value.items())
        return f"{{\n{lines}\n{indent}}}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{', '.join(_hocon(each, indent) for each in value)}]"
    return json.dumps(value, ensure_ascii=False)
