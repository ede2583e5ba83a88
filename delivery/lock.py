"""Prints extra `vm` of pyproject.toml, locked to the hashes of the wheels that a VM installs, for `make lock`.

Other tools write the hashes of all wheels of each release, which would not fit into a VM's custom data.
"""

import json
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

PYTHON = "3.12"
"""Python's version in Ubuntu 24.04."""
_PLATFORMS = ("manylinux_2_39_x86_64", "manylinux_2_34_x86_64", "manylinux_2_28_x86_64", "manylinux2014_x86_64")
"""Wheel platforms that its C library supports, newest first."""


def required() -> tuple[str, ...]:
    """The requirements of the programs on VMs."""
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))
    return tuple(project["project"]["optional-dependencies"]["vm"])


def target_options() -> list[str]:
    """pip's options for the wheels of a VM, on any machine."""
    platforms = (part for platform in _PLATFORMS for part in ("--platform", platform))
    return ["--only-binary", ":all:", "--python-version", PYTHON, *platforms]


def locked(requirements: Sequence[str]) -> str:
    """A requirements file for pip's `--require-hashes`, one hash per package."""
    asked = subprocess.run(  # noqa: S603
        [
            *(sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--quiet"),
            *("--dry-run", "--ignore-installed", "--report", "-"),
            *("--target", "unused", *target_options()),
            *requirements,
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
    print(locked(required()), end="")  # noqa: T201
