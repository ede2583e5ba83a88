"""A PostgreSQL server of a test's own: real, on a free port, gone afterwards."""

import ipaddress
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

SUPERUSER, PASSWORD = "postgres", "the-superusers-password"
ADMINISTRATOR = "agent_administrator"
_START_SECONDS = 60
"""A recovery from a crash among it."""


@dataclass
class Server:
    """A running server."""

    port: int
    folder: Path
    command: Sequence[str]
    """By which it is started."""
    root_certificates: Path | None = None
    """What its certificate is verified by; None where it speaks without TLS."""

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with (self.folder / "log").open("a") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log)
        self._wait()

    def crash(self) -> None:
        """End it at once, in the midst of whatever it does: the next start begins with a recovery."""
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait()

    def lose_session(self) -> None:
        """Kill a session, as Linux does when memory is short: the server ends all of them, and recovers by itself."""
        with self.connect() as connection:
            os.kill(connection.info.backend_pid, signal.SIGKILL)
            with suppress(psycopg.OperationalError):
                connection.execute("SELECT 1")
        self._wait()

    def _wait(self) -> None:
        end = time.monotonic() + _START_SECONDS
        while True:
            try:
                self.connect().close()
                return
            except psycopg.OperationalError:
                if self.process.poll() is not None or time.monotonic() > end:
                    raise
                time.sleep(0.05)

    def connect(self, database: str = "postgres", user: str = SUPERUSER, password: str = PASSWORD) -> Any:
        """A connection, for a test's own eyes."""
        return psycopg.connect(
            host="127.0.0.1", port=self.port, dbname=database, user=user, password=password, connect_timeout=5
        )

    @property
    def log(self) -> str:
        """What the server wrote."""
        return (self.folder / "log").read_text()


def programs() -> Path | None:
    """Where PostgreSQL's programs are; None where it is not installed."""
    for folder in (*sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True), Path("/usr/local/bin")):
        if (folder / "initdb").exists():
            return folder
    found = shutil.which("initdb")
    return Path(found).parent if found else None


@contextmanager
def server(*, tls: bool = False, statements: bool = False) -> Iterator[Server]:
    """Start a server; wants `programs()`.

    Args:
        tls: whether it takes connections over TLS alone.
        statements: whether its log has each statement: a node makes thousands a minute.
    """
    where = programs()
    assert where, "PostgreSQL is not installed"
    folder = Path(tempfile.mkdtemp(prefix="pg"))
    # It refuses to run as root.
    as_user: list[str] = []
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres")
        as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]
    password = folder / "password"
    password.write_text(PASSWORD)
    password.chmod(0o644)
    data = folder / "data"
    subprocess.run(
        [
            *as_user,
            str(where / "initdb"),
            *("-D", str(data), "-U", SUPERUSER, "-A", "scram-sha-256", "--pwfile", str(password), "--no-sync"),
        ],
        check=True,
        capture_output=True,
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {
        "port": port,
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "fsync": "off",
        "log_statement": "all" if statements else "none",
        "password_encryption": "scram-sha-256",
    }
    root_certificates = None
    if tls:
        root_certificates = _certify(folder)
        settings |= {
            "ssl": "on",
            "ssl_cert_file": str(folder / "server.crt"),
            "ssl_key_file": str(folder / "server.key"),
        }
        if as_user:
            shutil.chown(folder / "server.key", "postgres")
        access = data / "pg_hba.conf"
        access.write_text(access.read_text().replace("host ", "hostssl "))
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
            # As on Azure: no superuser, and nothing is its own.
            connection.execute(
                f"CREATE ROLE {ADMINISTRATOR} LOGIN CREATEROLE CREATEDB PASSWORD '{PASSWORD}'"
                " IN ROLE pg_signal_backend"
            )
        yield made
    finally:
        made.process.terminate()
        made.process.wait(timeout=20)
        shutil.rmtree(folder, ignore_errors=True)


def _certify(folder: Path) -> Path:
    """Write a key and a certificate for the server, and the root that issued it; returns the root's file."""
    now = datetime.now(UTC)

    def issue(subject: str, key: Any, issuer: str, signer: Any, **extensions: x509.ExtensionType) -> bytes:
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, subject)]))
            .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, issuer)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=1))
        )
        for extension in extensions.values():
            builder = builder.add_extension(extension, critical=False)
        return builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    root, own = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    names = x509.SubjectAlternativeName(
        [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")]
    )
    (folder / "root.crt").write_bytes(
        issue("Test root", root, "Test root", root, ca=x509.BasicConstraints(ca=True, path_length=0))
    )
    (folder / "server.crt").write_bytes(issue("database", own, "Test root", root, names=names))
    key = folder / "server.key"
    key.touch(mode=0o600)
    key.write_bytes(
        own.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return folder / "root.crt"
