"""A vault's endpoint in a process of its own, and what a deployment does to it."""

import json
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from local.process import ROOT
from tests.key_vault import TOKEN


@dataclass(frozen=True)
class Served:
    """A running vault."""

    url: str
    certificate: Path
    """What clients trust."""

    def set(self, values: Mapping[str, str]) -> None:
        """Write secrets, as the infrastructure does."""
        for name, value in values.items():
            self._send("PUT", f"/secrets/{name}", {"value": value})

    def make_keys(self, names: Iterable[str]) -> None:
        """Make keys that never leave the vault."""
        for name in names:
            self._send("POST", f"/keys/{name}/create", {"kty": "EC-HSM", "crv": "P-256", "key_ops": ["sign"]})

    def _send(self, method: str, path: str, body: Mapping[str, object]) -> None:
        request = urllib.request.Request(  # noqa: S310
            f"{self.url}{path}?api-version=7.5",
            method=method,
            data=json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"},
        )
        context = ssl.create_default_context(cafile=str(self.certificate))
        urllib.request.urlopen(request, timeout=10, context=context).close()  # noqa: S310


@contextmanager
def serving(folder: Path) -> Iterator[Served]:
    """Serve a vault for as long as the block lasts; its secrets are gone with it."""
    folder.mkdir(parents=True)
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", "tests.key_vault", "0", str(folder)], cwd=ROOT, stdout=subprocess.PIPE
    )
    assert process.stdout  # noqa: S101
    try:
        yield Served(json.loads(process.stdout.readline())["url"], folder / "certificate.pem")
    finally:
        process.kill()
        process.stdout.close()
        process.wait()
