"""A PostgreSQL server of a test's own: real, on a free port, gone afterwards."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

SUPERUSER, PASSWORD = "postgres", "the-superusers-password"
ADMINISTRATOR = "agent_administrator"


@dataclass
class Server:
    """A running server."""

    port: int
    folder: Path

    def connect(self, database: str = "postgres", user: str = SUPERUSER, password: str = PASSWORD) -> Any:
        return psycopg.connect(
            host="127.0.0.1", port=self.port, dbname=database, user=user, password=password, connect_timeout=5
        )

    def make_database(self, identity: str) -> None:
        """As the infrastructure does it: owned by the agents' administrator, who is no superuser."""
        with self.connect() as connection:
            connection.autocommit = True
            if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [ADMINISTRATOR]).fetchone():
                connection.execute(
                    f"CREATE ROLE {ADMINISTRATOR} LOGIN CREATEROLE PASSWORD '{PASSWORD}' IN ROLE pg_signal_backend"
                )
            connection.execute(f'CREATE DATABASE "{identity}" OWNER {ADMINISTRATOR}')

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()


def programs() -> Path | None:
    """Where PostgreSQL's programs are; None where it is not installed."""
    for folder in (*sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True), Path("/usr/local/bin")):
        if (folder / "initdb").exists():
            return folder
    found = shutil.which("initdb")
    return Path(found).parent if found else None


@contextmanager
def server() -> Iterator[Server]:
    """Start a server; wants `programs()`."""
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
        "log_statement": "all",
        "password_encryption": "scram-sha-256",
    }
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [
                *as_user,
                str(where / "postgres"),
                *("-D", str(data)),
                *(part for key, value in settings.items() for part in ("-c", f"{key}={value}")),
            ],
            stdout=log,
            stderr=log,
        )
    made = Server(port, folder)
    try:
        _await(made)
        yield made
    finally:
        process.terminate()
        process.wait(timeout=20)
        shutil.rmtree(folder, ignore_errors=True)


def _await(made: Server) -> None:
    end = time.monotonic() + 20
    while True:
        try:
            made.connect().close()
            return
        except psycopg.OperationalError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
