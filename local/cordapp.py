"""The credit record's CorDapp: built once for what its sources are, and the bank's application that uses it."""

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption
from cryptography.hazmat.primitives.serialization.pkcs12 import PKCS12Certificate, serialize_java_truststore

from ledger.platform import Artifact
from local.process import ROOT

SOURCES = ROOT / "examples" / "credit-record"
FLOWS = tuple(
    f"StartFlow.decentralizedtrust.creditrecord.workflows.{flow}"
    for flow in ("CreateRecord", "UpdateRecord", "ShareRecord", "ReadRecord", "RecordHistory", "CountRecords")
)
"""What its application may start."""

_VERSION = "1.0"
_CORDAPPS = ("contracts", "workflows")
_TRUST_STORE_PASSWORD = "changeit"  # It holds certificates alone, and they are public.


@dataclass(frozen=True)
class Built:
    """A build of the CorDapp."""

    folder: Path

    @property
    def artifacts(self) -> tuple[Artifact, ...]:
        """What goes onto every node."""
        return tuple(
            Artifact(
                f"decentralizedtrust:credit-record-{part}:{_VERSION}",
                hashlib.sha256((self.folder / part / "target" / _jar(part)).read_bytes()).hexdigest(),
            )
            for part in _CORDAPPS
        )

    @property
    def client(self) -> Path:
        """The application's program."""
        return self.folder / "client" / "target" / _jar("client")


def _jar(part: str) -> str:
    return f"credit-record-{part}-{_VERSION}.jar"


def build(cache: Path) -> Built:
    """Build the CorDapp, with a signing key of the cache's own, unless it was built from these sources before.

    Raises:
        RuntimeError: Maven can't build it; the message has its last lines.
    """
    sources = sorted(path for path in SOURCES.rglob("*") if path.is_file() and "target" not in path.parts)
    made_of = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    folder = cache / f"credit-record-{made_of}"
    if not folder.exists():
        unfinished = folder.with_suffix(".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(SOURCES, unfinished, ignore=shutil.ignore_patterns("target"))
        _maven(unfinished, "package", "-DskipTests", f"-Dsigning.keystore={cache / 'signing.p12'}")
        unfinished.rename(folder)
    built = Built(folder)
    for part in _CORDAPPS:
        # Each time: another build of the same version may have been there since, and each signing makes other files.
        jar = folder / part / "target" / _jar(part)
        _maven(folder, "install:install-file", f"-Dfile={jar}", f"-DpomFile={folder / part / 'pom.xml'}")
    return built


def _maven(folder: Path, *arguments: str) -> None:
    done = subprocess.run(
        ["mvn", "--batch-mode", "--quiet", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"the CorDapp can't be built: {(done.stdout + done.stderr)[-2000:]}")


class RefusedError(Exception):
    """What the application was refused, or was not answered; the message is the ledger's."""


@dataclass(frozen=True)
class Application:
    """An application server of a bank's, which uses the bank's nodes by RPC."""

    java: Path
    program: Path
    node: str
    """`HOST:PORT` of a node, or of what spreads over the bank's nodes."""
    user: str
    password: str
    trust_store: Path

    def ask(self, command: str, **options: object) -> list[dict[str, Any]]:
        """What a command of the client's answers, a document a line.

        Args:
            command: one of the client's.
            options: its options; a list stands for several of one, True for one without a value.

        Raises:
            RefusedError: it was refused for good, or not answered in time.
        """
        return list(self.follow(command, **options))

    def follow(self, command: str, **options: object) -> Iterator[dict[str, Any]]:
        """The same, each document as it comes.

        Raises:
            RefusedError: it was refused for good, or not answered in time.
        """
        with tempfile.TemporaryFile("w+") as errors:
            with self._started(command, options, errors) as process:
                assert process.stdout
                yield from map(json.loads, process.stdout)
            if process.returncode:
                errors.seek(0)
                said = errors.read().strip()
                raise RefusedError(said.splitlines()[-1] if said else f"{command}: exit code {process.returncode}")

    def begin(self, command: str, log: Path, **options: object) -> "subprocess.Popen[str]":
        """The same, going on in the background; its output is read from the process."""
        with log.open("w") as errors:
            return self._started(command, options, errors)

    def _started(self, command: str, options: Mapping[str, object], errors: IO[str]) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            self._command(command, options),
            env=self._environment(),
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )

    def _command(self, command: str, options: Mapping[str, object]) -> list[str]:
        given = [*("--node", self.node), *("--user", self.user), *("--trust-store", str(self.trust_store))]
        for name, value in options.items():
            option = f"--{name.rstrip('_')}"
            if value is True:
                given.append(option)
                continue
            for each in value if isinstance(value, list | tuple) else [value]:
                given += [option, str(each)]
        return [str(self.java), "-Xmx256m", "-jar", str(self.program), command, *given]

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "CREDIT_RECORD_PASSWORD": self.password,
            "CREDIT_RECORD_TRUST_STORE_PASSWORD": _TRUST_STORE_PASSWORD,
        }


def write_trust_store(path: Path, certificates: Mapping[str, x509.Certificate]) -> None:
    """Write what an application trusts: the certificates of its bank's nodes, by any names."""
    entries = [PKCS12Certificate(each, name.encode()) for name, each in certificates.items()]
    path.write_bytes(serialize_java_truststore(entries, BestAvailableEncryption(_TRUST_STORE_PASSWORD.encode())))
