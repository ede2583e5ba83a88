"""Prints the agent's requirements, locked to the hashes of the very wheels that a VM installs, for `make lock`.

All hashes of all wheels of each release, as other tools write them, would not fit into a VM's custom data.
"""

import json
import subprocess
import sys
from pathlib import Path

_PYTHON = "3.12"
"""That of Ubuntu 24.04."""
_PLATFORMS = ("manylinux_2_39_x86_64", "manylinux_2_34_x86_64", "manylinux_2_28_x86_64", "manylinux2014_x86_64")
"""What its C library runs, newest first."""


def locked(requirements: Path) -> str:
    """A requirements file for pip's `--require-hashes`."""
    asked = subprocess.run(  # noqa: S603
        [
            *(sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--quiet"),
            *("--dry-run", "--ignore-installed", "--report", "-", "--only-binary", ":all:"),
            *("--target", "unused", "--python-version", _PYTHON),
            *(part for platform in _PLATFORMS for part in ("--platform", platform)),
            *("--requirement", str(requirements)),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [
        f"{each['metadata']['name'].lower()}=={each['metadata']['version']} "
        f"--hash=sha256:{each['download_info']['archive_info']['hashes']['sha256']}"
        for each in json.loads(asked.stdout)["install"]
    ]
    return "\n".join(sorted(lines)) + "\n"


if __name__ == "__main__":
    print(locked(Path(__file__).with_name("requirements.in")), end="")  # noqa: T201
