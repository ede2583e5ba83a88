"""Azurite, Microsoft's emulator of Azure Storage: installed once into a cache, started for each test."""

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

from contract.ports import HTTPS_PORT
from lab.banks.npm import installed

ACCOUNT = "devstoreaccount1"
# Azurite's well-known account key, learn.microsoft.com/azure/storage/common/storage-use-azurite: no secret.
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
CREDENTIAL: Any = {"account_name": ACCOUNT, "account_key": KEY}
"""The credential of storage clients."""
_START_SECONDS = 120


@dataclass(frozen=True)
class AzureFront:
    """A blob service as on Azure: over TLS, also for Entra's tokens, whose signatures it does not verify."""

    address: str
    account: str
    certificate: Path
    key: Path
    port: int = HTTPS_PORT


def program() -> Path:
    """Azurite's blob service, which is installed first unless it was before: that takes a network."""
    return installed(Path(__file__).parent) / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"


@contextmanager
def blob_service(endpoint: AzureFront | None = None) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Run Azurite during the block; yields the URL of its blob account, and its process.

    Args:
        endpoint: where it is; by default on a free port of the loopback, without TLS.
    """
    folder = tempfile.mkdtemp(prefix="azurite")
    if endpoint:
        scheme, address, port, account = "https", endpoint.address, endpoint.port, endpoint.account
        secured = ["--oauth", "basic", "--cert", str(endpoint.certificate), "--key", str(endpoint.key)]
    else:
        scheme, address, port, account, secured = "http", "127.0.0.1", _free_port(), ACCOUNT, []
    options = ["--blobHost", address, "--blobPort", str(port), "--location", folder, *secured]
    process = subprocess.Popen(
        ["node", str(program()), *options, "--silent", "--disableTelemetry", "--skipApiVersionCheck"],
        env={**os.environ, "AZURITE_ACCOUNTS": f"{account}:{KEY}"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        end = time.monotonic() + _START_SECONDS
        while True:
            try:
                socket.create_connection((address, port), timeout=1).close()
                break
            except OSError:
                assert process.poll() is None, "Azurite ended at once"
                assert time.monotonic() < end, "Azurite does not answer"
                time.sleep(0.05)
        yield f"{scheme}://{address}:{port}/{account}", process
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
