"""The guide in docs/ as a reader follows it word for word: settings and commands, section by section."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from lab import ROOT

DOCS = ROOT / "docs"
PAGES: Mapping[str, str] = {
    "The first bank": "first-bank.md",
    "Joining": "joining.md",
    "The ledger's network": "ledger-network.md",
    "After `pulumi up`": "operations.md",
    "Replacing a leaked key": "operations.md",
    "Leaving": "leaving.md",
    "Teardown": "leaving.md",
}
"""Each section in the order of reading, with the page that has it."""
ELSEWHERE = {
    "az keyvault secret show": "reads a secret from inside the network",
    "az storage blob download": "reads what a running node has written",
    "jq --raw-output .rpc": "reads what that command has downloaded",
}
"""Commands that need VMs or the member's network, by their beginning, with the reason."""

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def settings(section: str) -> dict[str, Any]:
    """The configuration that a section has its reader write."""
    written: dict[str, Any] = {}
    for language, block in _BLOCK.findall(text(section)):
        if language == "yaml":
            written |= yaml.safe_load(block)["config"]
    return written


def commands(section: str) -> list[str]:
    """The commands that a section has its reader run, without those of `ELSEWHERE`."""
    return [each for each in all_commands(section) if not each.startswith(tuple(ELSEWHERE))]


def all_commands(section: str) -> Iterator[str]:
    """Each command of a section's blocks, with the lines that continue it."""
    for language, block in _BLOCK.findall(text(section)):
        if language == "console":
            first, *others = re.split(r"^\$ ", block, flags=re.MULTILINE)
            assert not first, f"{section}: a block begins with {first!r}; wanted a command"
            for other in others:
                lines = other.splitlines()
                assert all(line.startswith("  ") for line in lines[1:]), f"{section}: {other!r}; wanted one command"
                yield other.strip()


def text(section: str) -> str:
    """A section with its subsections, without its heading."""
    page = (DOCS / PAGES[section]).read_text(encoding="utf-8")
    heading = re.search(rf"^(#+) {re.escape(section)}\n", page, re.MULTILINE)
    assert heading, f"{PAGES[section]} has no section {section}"
    rest = page[heading.end() :]
    return rest if heading[1] == "#" else rest.partition(f"\n{heading[1]} ")[0]
