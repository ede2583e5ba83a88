"""Installs a ledger's artifacts on a VM or in its image: `python -m ledger.install PLATFORM VERSION FOLDER`.

Run by root in the agent's environment. Each artifact is verified against its SHA-256; `--artifact` and
`--application` give it as `GROUP:NAME:VERSION=SHA256`.
"""

import argparse
import pkgutil
import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from contract.artifacts import Artifact, Installation
from ledger import PLATFORMS


def _artifact(text: str) -> Artifact:
    coordinates, _, sha256 = text.rpartition("=")
    try:
        return Artifact(coordinates=coordinates, sha256=sha256.lower())
    except ValidationError as error:
        raise argparse.ArgumentTypeError(
            f"{text!r}; wanted GROUP:NAME:VERSION=SHA256, the latter in 64 hex digits"
        ) from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Install the artifacts; returns the exit status: 1, with one line on standard error, if that fails."""
    parser = argparse.ArgumentParser(prog="python -m ledger.install", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("platform", choices=sorted(PLATFORMS))
    parser.add_argument("version")
    parser.add_argument("folder", type=Path, help="replaced as a whole")
    parser.add_argument(
        "--repository",
        help="https:// URL of a repository in Maven's layout; else Maven fetches from the one it is set up for",
    )
    parser.add_argument("--artifact", type=_artifact, help="the ledger software, COORDINATES=SHA256")
    parser.add_argument("--application", type=_artifact, action="append", default=[], help="COORDINATES=SHA256")
    given = parser.parse_args(arguments)
    platform = PLATFORMS[given.platform]
    if given.version not in platform.versions:
        parser.error(f"version {given.version}; wanted one of {', '.join(platform.versions)}")
    if platform.install is None:
        return 0
    wanted = Installation(
        version=given.version,
        folder=given.folder.absolute(),
        repository=given.repository,
        artifact=given.artifact,
        applications=tuple(given.application),
    )
    try:
        pkgutil.resolve_name(platform.install)(wanted)
    except Exception as error:  # Whatever a platform raises is reported in one line.
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
