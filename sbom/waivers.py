"""Vulnerabilities that are temporarily accepted, each with a reason: sbom/waivers.toml."""

import tomllib
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated

from packageurl import PackageURL
from pydantic import StringConstraints, ValidationError, field_validator, model_validator

from contract.models import StrictModel, first_fault

FILE = Path(__file__).with_name("waivers.toml")
_LONGEST = timedelta(days=180)

Text = Annotated[str, StringConstraints(min_length=1)]


class WaiverError(Exception):
    """The waivers' file has a mistake, or a waiver has expired."""


class Waiver(StrictModel):
    """One vulnerability of one package, which does not fail the check until a date."""

    id: Text
    """OSV's id of the vulnerability, or one of its aliases: `GHSA-...`, `CVE-...`."""
    package: Text
    """Package URL without a version."""
    reason: Annotated[str, StringConstraints(min_length=20)]
    """Why an attacker can't reach the vulnerable code here, or what is done about it."""
    since: date
    """First day."""
    until: date
    """Last day, at most 180 days after `since`."""

    @field_validator("package")
    @classmethod
    def _is_package(cls, text: str) -> str:
        if PackageURL.from_string(text).version is not None:
            raise ValueError("wanted a package URL without a version, such as pkg:maven/com.h2database/h2")
        return text

    @model_validator(mode="after")
    def _ends(self) -> "Waiver":
        if not self.since < self.until <= self.since + _LONGEST:
            raise ValueError(f"until is {self.until}; wanted after since, by {_LONGEST.days} days at most")
        return self

    def covers(self, purl: PackageURL, names: frozenset[str]) -> bool:
        """Whether the waiver is for this package, and for a vulnerability with one of these names."""
        return self.id in names and PackageURL.from_string(self.package) == purl._replace(version=None, qualifiers={})


class _File(StrictModel):
    waiver: tuple[Waiver, ...] = ()


def read_waivers(today: date, file: Path = FILE) -> tuple[Waiver, ...]:
    """All waivers of a file.

    Args:
        today: the date to compare with.
        file: the file of waivers.

    Raises:
        WaiverError: the file is invalid, or a waiver has expired.
    """
    try:
        waivers = _File.model_validate(tomllib.loads(file.read_text(encoding="utf-8"))).waiver
    except ValidationError as error:
        raise WaiverError(f"{file.name}: {first_fault(error)}") from error
    except ValueError as error:
        raise WaiverError(f"{file.name}: {error}") from error
    early = [f"{each.id} of {each.package} since {each.since}" for each in waivers if each.since > today]
    if early:
        raise WaiverError(f"{file.name}: {'; '.join(early)}; wanted waivers that begin today at the latest")
    expired = [f"{each.id} of {each.package} on {each.until}" for each in waivers if each.until < today]
    if expired:
        raise WaiverError(f"{file.name}: expired: {'; '.join(expired)}; wanted another version, or a new date")
    return waivers
