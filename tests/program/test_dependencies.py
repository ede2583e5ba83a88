"""Dependencies are stated in pyproject.toml alone; what is locked follows from it."""

import re
import tomllib

import pytest

from lab import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
LOCKED = {
    "requirements.txt": PROJECT["dependencies"],
    "requirements-dev.txt": [*PROJECT["dependencies"], *EXTRAS["vm"], *EXTRAS["dev"]],
    "delivery/requirements.txt": EXTRAS["vm"],
}
"""The requirements that each locked file has to have."""


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", re.sub(r"\[.*?\]", "", name)).lower()


def versions(file: str) -> dict[str, str]:
    text = (ROOT / file).read_text(encoding="utf-8")
    return {normal(name): version for name, version in re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE)}


@pytest.mark.parametrize("file", LOCKED)
def test_the_locked_versions_are_the_stated_ones(file: str) -> None:
    locked = versions(file)
    for each in LOCKED[file]:
        name, _, version = each.partition("==")
        assert version, f"{each}: wanted an exact version, or two members would deploy different programs"
        assert locked.get(normal(name)) == version, f"{file}: {each} is not locked: run `make lock`"


def test_each_extra_has_its_dependencies() -> None:
    assert set(EXTRAS) == {"vm", "dev"}
    assert not [each for each in EXTRAS["vm"] if each.startswith("pulumi")], "programs on VMs do not use Pulumi"
    assert not list(ROOT.glob("requirements*.in")), "versions are stated in one place"


def test_the_newest_version_has_a_changelog_entry() -> None:
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    released = re.findall(r"^## \[(\d+\.\d+\.\d+)\] - \d{4}-\d\d-\d\d$", changes, re.MULTILINE)
    assert released[0] == PROJECT["version"], "members read there what an update changes"
    assert "\n## [Unreleased]\n" in changes, "the next version has a section"
