"""Options by which every connection to PostgreSQL detects that the server, or the path to it, is silently gone."""

from pathlib import Path
from typing import Any

ALIVE: dict[str, Any] = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
"""Options of libpq: detection takes some 20 s, as in a server's failover; by default it takes hours."""


def tls_options(root_certificates: Path | None) -> dict[str, Any]:
    """TLS options of libpq and JDBC; without trust roots, in tests only, none."""
    return (
        {"sslmode": "verify-full", "sslrootcert": str(root_certificates)}
        if root_certificates
        else {"sslmode": "disable"}
    )
