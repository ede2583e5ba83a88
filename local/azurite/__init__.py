"""Azurite, the maintained emulator of Azure Storage: installed once into a cache, started for a test."""

import hashlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ACCOUNT = "devstoreaccount1"
# Azurite's well-known account key, learn.microsoft.com/azure/storage/common/storage-use-azurite: no secret.
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
CREDENTIAL: Any = {"account_name": ACCOUNT, "account_key": KEY}
"""What a client signs in with."""
_INSTALL_SECONDS = 300


def available() -> bool:
    """Whether this machine can run it."""
    return bool(shutil.which("node") and shutil.which("npm"))


def _installed() -> Path:
    lock = hashlib.sha256((HERE / "package-lock.json").read_bytes()).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "decentralized-trust" / f"azurite-{lock}"
    if not cache.exists():
        cache.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(dir=cache.parent))
        for name in ("package.json", "package-lock.json"):
            shutil.copy(HERE / name, unfinished)
        subprocess.run(
            ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--silent"],
            cwd=unfinished,
            check=True,
            timeout=_INSTALL_SECONDS,
        )
        if cache.exists():
            shutil.rmtree(unfinished)
        else:
            unfinished.rename(cache)
    return cache


@contextmanager
def blob_service() -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The URL of an account in a running Azurite, and its process."""
    program = _installed() / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"
    folder = tempfile.mkdtemp(prefix="azurite")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--blobHost", "127.0.0.1", "--blobPort", str(port), "--location", folder]
    process = subprocess.Popen(
        ["node", str(program), *options, "--silent", "--disableTelemetry", "--skipApiVersionCheck"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        end = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert process.poll() is None, "Azurite ended at once"
                assert time.monotonic() < end, "Azurite does not answer"
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}/{ACCOUNT}", process
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)
