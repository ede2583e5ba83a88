"""Unpacks the sources on a VM: `install.sh` contains this text."""

import re
import sys
from pathlib import Path

import pyppmd

MEMORY_BYTES = 2**25
"""Memory of PPMd's model; the archive's first byte is its order. An eighth smaller than bzip2, in 0.1 s."""
INDENT, DEEPER, BACK = "    ", "\t", "\v"
"""A line begins with its indentation relative to the line before; saves two percent."""
CAPITAL, CAPITALS = "\1", "\2"
"""Precede a capital, and surround several; all letters are lower case. Saves another two percent."""


def unpacked(archive: bytes) -> dict[str, str]:
    """The texts in an archive by path."""
    content = pyppmd.decompress(archive[1:], max_order=archive[0], mem_size=MEMORY_BYTES)
    assert isinstance(content, bytes)  # noqa: S101
    parts = content.decode().split("\0")
    return {path: _indented(_raised(text)) for path, text in zip(parts[::2], parts[1::2], strict=True)}


def _raised(text: str) -> str:
    capitals = f"{CAPITALS}([^{CAPITALS}]*){CAPITALS}|{CAPITAL}(.)"
    return re.sub(capitals, lambda found: (found[1] or found[2]).upper(), text)


def _indented(text: str) -> str:
    depth, lines = 0, []
    for line in text.split("\n"):
        depth += line.count(DEEPER) - line.count(BACK)
        body = line.strip(DEEPER + BACK)
        lines.append(INDENT * depth * bool(body) + body)
    return "\n".join(lines)


if __name__ == "__main__":
    for path, text in unpacked(Path(sys.argv[1]).read_bytes()).items():
        file = Path(sys.argv[2], path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
