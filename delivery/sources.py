"""Selects and packs a VM's source files: whole folders, by the VM's program and the ledger's platform."""

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import pyppmd

from delivery.unpack import BACK, CAPITAL, CAPITALS, DEEPER, INDENT, MEMORY_BYTES, unpacked

_BETWEEN = "\0"
_MARK = re.compile(f"[{_BETWEEN}{DEEPER}{BACK}{CAPITAL}{CAPITALS}]|^ +$", re.MULTILINE)
_MAX_ORDER = 16
"""The highest order of PPMd, which mostly gives the smallest archive."""
REPOSITORY = Path(__file__).resolve().parent.parent
SUFFIXES = frozenset({".py", ".java"})
"""The repository's folder, and the suffixes of the source files that are packed."""
_PROGRAMS = ("contract", "host", "agent", "ledger")
_EVERYWHERE = ("contract", "host")
_STACKS = frozenset(
    f"contract/{name}.py"
    for name in ("addresses", "canonical", "card", "consortium", "egress", "frontend", "key_agreement", "messages")
)
"""Modules that only stacks use: cards are verified at deployment, balancer and firewall set up there."""
_AUTHORITY_ONLY = {Path("contract/authority_configuration.py"), Path("contract/fingerprint.py")}
"""Modules of the contract that only an authority's VM uses."""


def every_file() -> dict[str, str]:
    """All source files for VMs, by path relative to the repository."""
    return {
        str(path.relative_to(REPOSITORY)): path.read_text(encoding="utf-8")
        for package in _PROGRAMS
        for path in sorted((REPOSITORY / package).rglob("*"))
        if path.suffix in SUFFIXES
    }


def files_of(module: str, platform: str | None) -> dict[str, str]:
    """Source files of a VM by path.

    Args:
        module: the VM's program, such as `agent`. Only an authority's VM gets the authority's code.
        platform: the ledger's platform; of others the VM gets only the data. None: no platform.
    """
    program = module.replace(".", "/")
    return {
        path: text
        for path, text in every_file().items()
        if path not in _STACKS and _belongs(Path(path), program, platform)
    }


def _belongs(path: Path, program: str, platform: str | None) -> bool:
    package, *_ = path.parts
    if path in _AUTHORITY_ONLY:
        return "authority" in program
    if package != "ledger":
        return package in _EVERYWHERE or package == program
    if len(path.parts) == 2 or (len(path.parts) == 3 and path.name == "__init__.py"):
        return True
    if path.parts[2] == "authority":
        return path.is_relative_to(program)
    return path.parts[1] == platform


@lru_cache
def packed(module: str, platform: str | None) -> bytes:
    """The files of `files_of` in PPMd: path, text, path and so on, separated by zeros, which no text has.

    The same files give the same bytes; cached. As JSON or as a tar archive they would be a percent larger.

    Raises:
        ValueError: the archive does not unpack to the same texts.
    """
    files = files_of(module, platform)
    # Like beside like packs smaller.
    like = sorted(files.items(), key=lambda file: (file[0].endswith(".java"), file[0]))
    parts = (part for path, text in like for part in (path, encoded(path, text)))
    text = _BETWEEN.join(parts).encode()
    for order in range(_MAX_ORDER, 1, -1):
        # Of a smaller `mem_size` glibc would keep 12 MB until the end of the plan.
        archive = bytes([order]) + pyppmd.compress(text, max_order=order, mem_size=MEMORY_BYTES)
        if _is_whole(archive, files):
            return archive
    raise ValueError(f"{module}: PPMd packs it in no order; wanted one that unpacks to the same texts")


def _is_whole(archive: bytes, files: Mapping[str, str]) -> bool:
    """Whether the archive unpacks: pyppmd 1.3.1 writes one in twenty of order 10 or more so that it can't read it."""
    try:
        return unpacked(archive) == files
    except ValueError:
        return False


def encoded(path: str, text: str) -> str:
    """A text as the archive has it: with relative indents, and capitals marked.

    Raises:
        ValueError: the text contains a character that the archive uses as a mark.
    """
    if mark := _MARK.search(text):
        number = text.count("\n", 0, mark.start()) + 1
        line = text.split("\n")[number - 1]
        raise ValueError(
            f"{path}, line {number}: {line!r:.80} can't be packed; wanted no blanks alone, and no tabs or other"
            " control characters: the archive marks indents and capitals with these"
        )
    return _lowered(_relative(text))


def _lowered(text: str) -> str:
    """A text in lower case, with marks for its capitals."""
    several = re.sub("[A-Z][A-Z_]*[A-Z]", lambda found: CAPITALS + found[0].lower() + CAPITALS, text)
    return re.sub("[A-Z]", lambda found: CAPITAL + found[0].lower(), several)


def _relative(text: str) -> str:
    """A text whose lines begin with their indentation relative to the line before."""
    depth, lines = 0, []
    for line in text.split("\n"):
        before = depth
        if line:
            depth = (len(line) - len(line.lstrip(" "))) // len(INDENT)
        change = DEEPER * (depth - before) + BACK * (before - depth)
        lines.append(change + line.removeprefix(INDENT * depth))
    return "\n".join(lines)
