"""Installs a ledger's artifacts on a VM or in its image: `python -m ledger.install PLATFORM VERSION FOLDER`.

Run by root in the agent's environment. Each artifact is verified against its SHA-256; with `--artifact` and
`--application` these are given, as `GROUP:NAME:VERSION=SHA256`.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from ledger.platform import Artifact, Installation

_ARTIFACT = re.compile(r"([^:=\s]+:[^:=\s]+:[^:=\s]+)=([0-9a-fA-F]{64})")


def _artifact(text: str) -> Artifact:
    if not (match := _ARTIFACT.fullmatch(text)):
        raise argparse.ArgumentTypeError(f"{text!r}; wanted GROUP:NAME:VERSION=SHA256, the latter in 64 hex digits")
    return Artifact(match[1], match[2].lower())


def main(arguments: Sequence[str] | None = None) -> int:
    """Install; returns the exit status, 1 with one line on the error output where it can't be done."""
    # Each module of the package is looked at for a platform, this one too.
    from ledger.platforms import PLATFORMS  # noqa: PLC0415

    parser = argparse.ArgumentParser(prog="python -m ledger.install", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("platform", choices=sorted(PLATFORMS))
    parser.add_argument("version")
    parser.add_argument("folder", type=Path, help="made anew")
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
        platform.install(wanted)
    except Exception as error:  # Whatever a platform raises, one line tells it.
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
