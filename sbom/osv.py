"""Asks OSV which deployed packages have known vulnerabilities: `python -m sbom.osv [URL]`.

Exits with 1 if a package has a vulnerability without a waiver, 2 if OSV can't be reached. The protocol:
https://google.github.io/osv.dev/post-v1-querybatch/ and https://google.github.io/osv.dev/get-v1-vulns/
"""

import json
import sys
import urllib.request
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from http.client import HTTPException
from typing import Any, TypeVar
from urllib.parse import quote

from packageurl import PackageURL
from pydantic import BaseModel, ValidationError
from rich.console import Console
from rich.table import Table

from sbom.components import deployed
from sbom.waivers import Waiver, WaiverError, read_waivers

URL = "https://api.osv.dev"
_BATCH = 1000
"""OSV's maximum number of packages in one query."""
_SECONDS = 60
_WIDTH = 200
"""Columns of output that is not a terminal, such as a workflow's log."""
_MAX_BYTES = 32 * 2**20
"""OSV's own limit for an answer."""


_Model = TypeVar("_Model", bound=BaseModel)


class OsvError(Exception):
    """OSV can't be reached, or its answer does not have the documented shape."""


class _Named(BaseModel):
    id: str


class _Result(BaseModel):
    vulns: list[_Named] = []
    next_page_token: str | None = None


class _Batch(BaseModel):
    results: list[_Result]


class Vulnerability(BaseModel):
    """One entry of OSV; only the fields that are used here."""

    id: str
    aliases: list[str] = []
    summary: str = ""
    withdrawn: str | None = None

    @property
    def names(self) -> frozenset[str]:
        """The vulnerability's id and its aliases."""
        return frozenset((self.id, *self.aliases))


def known(purls: Iterable[PackageURL], url: str = URL) -> dict[PackageURL, list[Vulnerability]]:
    """The vulnerabilities of each package that has any, without withdrawn ones.

    Args:
        purls: the packages.
        url: OSV's base URL.

    Raises:
        OsvError: OSV can't be reached, or its answer does not have the documented shape.
    """
    found: dict[PackageURL, set[str]] = {}
    waiting: list[tuple[PackageURL, str | None]] = [(each, None) for each in purls]
    while waiting:
        further: list[tuple[PackageURL, str | None]] = []
        for start in range(0, len(waiting), _BATCH):
            batch = waiting[start : start + _BATCH]
            for (purl, _), result in zip(batch, _ask(batch, url), strict=True):
                found.setdefault(purl, set()).update(each.id for each in result.vulns)
                if result.next_page_token:
                    further.append((purl, result.next_page_token))
        waiting = further
    details = {name: _detail(name, url) for name in sorted({each for ids in found.values() for each in ids})}
    current = {
        purl: [details[name] for name in sorted(ids) if details[name].withdrawn is None]
        for purl, ids in found.items()
    }
    return {purl: each for purl, each in current.items() if each}


def _ask(batch: Sequence[tuple[PackageURL, str | None]], url: str) -> list[_Result]:
    queries = []
    for purl, token in batch:
        # OSV identifies a package by name and version, without a file or platform.
        query: dict[str, Any] = {"package": {"purl": str(purl._replace(qualifiers={}))}}
        queries.append(query if token is None else {**query, "page_token": token})
    answer = _read(_Batch, f"{url}/v1/querybatch", json.dumps({"queries": queries}).encode())
    if len(answer.results) != len(batch):
        raise OsvError(f"{url} gave {len(answer.results)} results for {len(batch)} packages; wanted one for each")
    return answer.results


def _detail(name: str, url: str) -> Vulnerability:
    return _read(Vulnerability, f"{url}/v1/vulns/{quote(name, safe='')}")


def _read(model: type[_Model], url: str, body: bytes | None = None) -> _Model:
    request = urllib.request.Request(url, data=body, headers={"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=_SECONDS) as answer:
            content = answer.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise OsvError(f"{url} gave more than {_MAX_BYTES} bytes")
        return model.model_validate_json(content)
    except (OSError, HTTPException) as error:
        raise OsvError(f"{url} can't be asked: {error}") from error
    except ValidationError as error:
        raise OsvError(f"{url} gave no answer of the documented shape: {error.errors()[0]['msg']}") from error


def _waived(purl: PackageURL, vulnerability: Vulnerability, waivers: Sequence[Waiver]) -> Waiver | None:
    return next((each for each in waivers if each.covers(purl, vulnerability.names)), None)


def main(arguments: list[str]) -> int:
    """Query OSV and print a table; returns the exit status."""
    console = Console(emoji=False, highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else _WIDTH)
    try:
        waivers = read_waivers(datetime.now(UTC).date())
        used_by: dict[PackageURL, list[str]] = {}
        for each in deployed():
            used_by.setdefault(each.purl, []).append(each.used_by)
        found = known(used_by, *arguments)
    except (OsvError, WaiverError) as error:
        Console(emoji=False, stderr=True, soft_wrap=True).print(f"error: {error}", markup=False)
        return 2
    table = Table("package", "used by", "vulnerability", "summary", "waived until")
    used: list[Waiver] = []
    open_ones = 0
    for purl, vulnerabilities in found.items():
        for vulnerability in vulnerabilities:
            waiver = _waived(purl, vulnerability, waivers)
            if waiver is None:
                open_ones += 1
            else:
                used.append(waiver)
            until = str(waiver.until) if waiver else "-"
            users = ", ".join(used_by[purl])
            table.add_row(str(purl), users, " ".join(sorted(vulnerability.names)), vulnerability.summary, until)
    console.print(table)
    for unused in (each for each in waivers if each not in used):
        console.print(f"waiver of {unused.id} for {unused.package}: nothing to waive any more", markup=False)
    console.print(f"{len(used_by)} packages, {open_ones} vulnerabilities without a waiver")
    return 1 if open_ones else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
