"""Blocks of documents that programs write, from `<!-- generated: NAME -->` to `<!-- end of generated -->`."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from lab import ROOT

_BLOCK = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end of generated -->)", re.DOTALL)


class StaleError(Exception):
    """A document can't be updated automatically; the message says what to do."""


def with_blocks(text: str, path: Path, blocks: Mapping[str, str]) -> str:
    """A document's text with other contents of all of its blocks.

    Raises:
        StaleError: it has other blocks.
    """
    found = {match[2] for match in _BLOCK.finditer(text)}
    if found != set(blocks):
        raise StaleError(f"{path.relative_to(ROOT)} has blocks for {sorted(found)}; wanted {sorted(blocks)}")
    return _filled(text, blocks)


def write_block(path: Path, name: str, content: str) -> None:
    """Replace the content of one block of a document.

    Raises:
        StaleError: it has no such block.
    """
    text = path.read_text(encoding="utf-8")
    if name not in (found := sorted(match[2] for match in _BLOCK.finditer(text))):
        raise StaleError(f"{path.relative_to(ROOT)} has blocks for {found}; wanted {name}")
    path.write_text(_filled(text, {name: content}), encoding="utf-8")


def _filled(text: str, blocks: Mapping[str, str]) -> str:
    def fill(match: re.Match[str]) -> str:
        return f"{match[1]}{blocks[match[2]]}{match[3]}" if match[2] in blocks else match[0]

    return _BLOCK.sub(fill, text)


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [headings, ("---",) * len(headings), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)
