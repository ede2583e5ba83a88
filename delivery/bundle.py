"""Packs an image's files: `python -m delivery.bundle PLATFORM FILE` writes a tar archive, relative to the root."""

import io
import sys
import tarfile
from pathlib import Path

from delivery.cloud_config import installed, mode_of


def bundle(platform: str) -> bytes:
    """The tar archive for a platform; the same files give the same bytes."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for path, text in sorted(installed(platform).items()):
            content = text.encode()
            entry = tarfile.TarInfo(path.removeprefix("/"))
            entry.size, entry.mode = len(content), mode_of(path)
            archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


if __name__ == "__main__":
    Path(sys.argv[2]).write_bytes(bundle(sys.argv[1]))
