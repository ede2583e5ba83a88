"""The examples' CorDapps, built once for each state of their sources, and the banks' applications that use them."""

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

from contract.artifacts import Artifact
from lab import ROOT
from lab.banks.process import exclusive
from lab.banks.site import Host

_TRUST_STORE_PASSWORD = "changeit"  # It holds certificates alone, and they are public.


@dataclass(frozen=True)
class Cordapp:
    """One of the examples' CorDapps, and the application that uses it."""

    name: str
    """Name of its folder below `examples`, and prefix of the application's environment variables."""
    jars: Mapping[str, str]
    """The build's files that are installed on every node, by their Maven coordinates."""
    client: str
    """The build's file with the application."""
    permissions: tuple[str, ...]
    """The application's RPC permissions at a node."""


CREDIT_RECORD = Cordapp(
    name="credit-record",
    jars={
        f"decentralizedtrust:credit-record-{part}:1.0": f"{part}/target/credit-record-{part}-1.0.jar"
        for part in ("contracts", "workflows")
    },
    client="client/target/credit-record-client-1.0.jar",
    permissions=(
        *(
            f"StartFlow.decentralizedtrust.creditrecord.workflows.{flow}"
            for flow in ("CreateRecord", "UpdateRecord", "ShareRecord", "ReadRecord", "RecordHistory", "CountRecords")
        ),
        "InvokeRpc.nodeInfo",
    ),
)
"""The CorDapp of the scenario, `examples/credit-record`."""
PAYMENTS = Cordapp(
    name="payments",
    # Corda's own except for the signature; of another group, so that nobody confuses them with the published ones.
    jars={
        f"decentralizedtrust:corda-finance-{part}:4.10": f"target/cordapps/corda-finance-{part}-4.10.jar"
        for part in ("contracts", "workflows")
    },
    client="target/payments-client-1.0.jar",
    permissions=(
        *(f"StartFlow.net.corda.finance.flows.{flow}" for flow in ("CashIssueFlow", "CashPaymentFlow")),
        *(
            f"InvokeRpc.{operation}"
            for operation in ("nodeInfo", "notaryIdentities", "wellKnownPartyFromX500Name", "vaultQueryBy")
        ),
    ),
)


@dataclass(frozen=True)
class Built:
    """A build of a CorDapp."""

    cordapp: Cordapp
    folder: Path

    @property
    def artifacts(self) -> tuple[Artifact, ...]:
        """The artifacts that are installed on every node."""
        return tuple(
            Artifact(coordinates=coordinates, sha256=hashlib.sha256((self.folder / jar).read_bytes()).hexdigest())
            for coordinates, jar in self.cordapp.jars.items()
        )

    @property
    def client(self) -> Path:
        """The application's jar."""
        return self.folder / self.cordapp.client


def build(cordapp: Cordapp, cache: Path) -> Built:
    """Build a CorDapp, unless these sources were built before, and install its jars in the local Maven repository.

    Args:
        cordapp: the CorDapp.
        cache: the folder with earlier builds and the signing key.

    Raises:
        RuntimeError: Maven fails; the message has its last lines.
    """
    sources = ROOT / "examples" / cordapp.name
    files = sorted(path for path in sources.rglob("*") if path.is_file() and "target" not in path.parts)
    made_of = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]
    folder = cache / f"{cordapp.name}-{made_of}"
    with exclusive(cache / "cordapps.lock"):
        if not folder.exists():
            unfinished = folder.with_suffix(".unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            shutil.copytree(sources, unfinished, ignore=shutil.ignore_patterns("target"))
            _maven(unfinished, "package", "-DskipTests", f"-Dsigning.keystore={cache / 'signing.p12'}")
            unfinished.rename(folder)
        for coordinates, jar in cordapp.jars.items():
            # Each time, since a build of other sources may have replaced the same version; each signing also differs.
            given = zip(("groupId", "artifactId", "version"), coordinates.split(":"), strict=True)
            named = [f"-D{name}={value}" for name, value in given]
            _maven(folder, "install:install-file", f"-Dfile={folder / jar}", *named, "-Dpackaging=jar")
    return Built(cordapp, folder)


def _maven(folder: Path, *arguments: str) -> None:
    done = subprocess.run(
        ["mvn", "--batch-mode", "--quiet", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{folder.name} can't be built: {(done.stdout + done.stderr)[-2000:]}")


class FlowRefusedError(Exception):
    """The ledger refused the application's command, or did not answer in time; the message is the ledger's."""


@dataclass(frozen=True)
class Application:
    """A bank's application server, which uses the bank's nodes by RPC."""

    java: Path
    built: Built
    node: str
    """`HOST:PORT` of a node, or of the load balancer's port for all nodes."""
    user: str
    password: str
    trust_store: Path
    host: Host
    """The host of the application server."""

    def ask(self, command: str, **options: object) -> list[dict[str, Any]]:
        """Run one of the client's commands; returns its output, one document for each line.

        Args:
            command: the command's name.
            options: its options; a list repeats an option, True gives an option without a value.

        Raises:
            FlowRefusedError: the command was refused permanently, or not answered in time.
        """
        return list(self.follow(command, **options))

    def follow(self, command: str, **options: object) -> Iterator[dict[str, Any]]:
        """The same, but yields each document as soon as the client prints it.

        Raises:
            FlowRefusedError: the command was refused permanently, or not answered in time.
        """
        with tempfile.TemporaryFile("w+") as errors:
            with self._started(command, options, errors) as process:
                assert process.stdout
                yield from map(json.loads, process.stdout)
            if process.returncode:
                errors.seek(0)
                said = errors.read().strip()
                raise FlowRefusedError(
                    said.splitlines()[-1] if said else f"{command}: exit code {process.returncode}"
                )

    def begin(self, command: str, log: Path, **options: object) -> "subprocess.Popen[str]":
        """Start a command in the background; its output is the returned process's stdout, its errors go to `log`."""
        with log.open("w") as errors:
            return self._started(command, options, errors)

    def _started(self, command: str, options: Mapping[str, object], errors: IO[str]) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            self.host.command(*self._command(command, options)),
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
        # A bank's application has been compiled long ago, and does not share the nodes' processors.
        jvm = ["-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]
        return [str(self.java), *jvm, "-jar", str(self.built.client), command, *given]

    def _environment(self) -> dict[str, str]:
        prefix = self.built.cordapp.name.upper().replace("-", "_")
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            f"{prefix}_PASSWORD": self.password,
            f"{prefix}_TRUST_STORE_PASSWORD": _TRUST_STORE_PASSWORD,
        }


def write_trust_store(path: Path, certificates: Mapping[str, x509.Certificate]) -> None:
    """Write an application's trust store (PKCS#12) with the certificates of its bank's nodes, by unique names."""
    entries = [PKCS12Certificate(each, name.encode()) for name, each in certificates.items()]
    path.write_bytes(serialize_java_truststore(entries, BestAvailableEncryption(_TRUST_STORE_PASSWORD.encode())))
