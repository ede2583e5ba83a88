"""Programs from npm, pinned by a lock file and installed once into a cache outside of the checkout."""

import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path

from lab.banks.cache import cached

_INSTALL_SECONDS = 300


def available() -> bool:
    """Whether this machine has Node.js and npm."""
    return bool(shutil.which("node") and shutil.which("npm"))


def installed(manifests: Path) -> Path:
    """Install the packages of a lock file, unless cached; returns the folder that contains `node_modules`.

    Args:
        manifests: the folder with `package.json` and `package-lock.json`.

    Raises:
        subprocess.SubprocessError: npm fails, or takes longer than five minutes.
    """
    lock = hashlib.sha256((manifests / "package-lock.json").read_bytes()).hexdigest()[:12]
    folder = cached() / f"{manifests.name}-{lock}"
    if not folder.exists():
        unfinished = Path(tempfile.mkdtemp(dir=folder.parent))
        for name in ("package.json", "package-lock.json"):
            shutil.copy(manifests / name, unfinished)
        subprocess.run(
            ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--silent"],
            cwd=unfinished,
            check=True,
            timeout=_INSTALL_SECONDS,
        )
        # Another process may have installed it meanwhile.
        if folder.exists():
            shutil.rmtree(unfinished)
        else:
            unfinished.rename(folder)
    return folder
