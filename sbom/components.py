"""The deployed third-party packages of Python and Java, each with its version."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from packageurl import PackageURL

from ledger.corda.installation import DRIVER

_ROOT = Path(__file__).parent.parent
_REQUIREMENTS = {
    "requirements.txt": "the Pulumi program",
    "delivery/requirements.txt": "programs on VMs",
    "policy/requirements.txt": "the policy pack",
}
_PINNED = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", flags=re.MULTILINE)
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


@dataclass(frozen=True)
class Component:
    """One deployed package."""

    purl: PackageURL
    used_by: str
    """The part that contains or installs the package, such as `programs on VMs`."""
    digests: tuple[str, ...]
    """The SHA-256 of each file that the lock file accepts."""


@cache
def deployed() -> tuple[Component, ...]:
    """All deployed packages, in the order of their package URLs."""
    found = [*_python(), *_java()]
    return tuple(sorted(found, key=lambda each: (str(each.purl), each.used_by)))


def _python() -> Iterator[Component]:
    for file, used_by in _REQUIREMENTS.items():
        text = (_ROOT / file).read_text(encoding="utf-8")
        starts = [*_PINNED.finditer(text)]
        ends = [each.start() for each in starts[1:]] + [len(text)]
        for match, end in zip(starts, ends, strict=True):
            name = re.sub(r"[-_.]+", "-", match[1]).lower()
            yield Component(
                PackageURL("pypi", None, name, match[2]), used_by, tuple(_HASH.findall(text, match.end(), end))
            )


def _java() -> Iterator[Component]:
    for path in sorted(Path(__file__).parent.glob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        yield _artifact(content["coordinates"], content["sha256"])
        for each in content["contains"]:
            yield Component(PackageURL.from_string(each["purl"]), content["coordinates"], (each["sha256"],))
    yield _artifact(DRIVER.coordinates, DRIVER.sha256)


def _artifact(coordinates: str, sha256: str) -> Component:
    group, name, version = coordinates.split(":")
    return Component(PackageURL("maven", group, name, version), "Corda nodes", (sha256,))
