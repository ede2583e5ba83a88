"""Packs an image's installation: `python -m delivery.bundle FILE` writes a tar archive of the root folder."""

import io
import sys
import tarfile
from pathlib import Path

from delivery.cloud_config import INSTALL, installed


def bundle() -> bytes:
    """The archive, the same for the same files."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for path, text in sorted(installed().items()):
            content = text.encode()
            entry = tarfile.TarInfo(path.removeprefix("/"))
            entry.size, entry.mode = len(content), 0o755 if path == INSTALL else 0o644
            archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


if __name__ == "__main__":
    Path(sys.argv[1]).write_bytes(bundle())
