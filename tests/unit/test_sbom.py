"""The third-party software that is deployed, OSV's vulnerabilities of it, and the waived ones."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, date, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from packageurl import PackageURL
from referencing import Registry, Resource

from lab import ROOT
from ledger.corda.installation import DRIVER, KNOWN
from sbom import osv, waivers
from sbom.__main__ import bill
from sbom.components import deployed
from sbom.waivers import Waiver, WaiverError, read_waivers
from tests.web import Handler, serving

H2 = "pkg:maven/com.h2database/h2"
TODAY = datetime.now(UTC).date()


class TestBom:
    def test_the_bom_has_each_deployed_package(self):
        purls = {str(each.purl) for each in deployed()}
        for file in ("requirements.txt", "delivery/requirements.txt", "policy/requirements.txt"):
            pinned = re.findall(r"^(\S+)==(\S+)", (ROOT / file).read_text(encoding="utf-8"), flags=re.MULTILINE)
            assert pinned, file
            for name, version in pinned:
                assert f"pkg:pypi/{name.lower().replace('_', '-')}@{version}" in purls, f"{name} of {file}"
        for artifact in (*KNOWN.values(), DRIVER):
            group, name, version = artifact.coordinates.split(":")
            assert f"pkg:maven/{group}/{name}@{version}" in purls, "a VM installs it for its ledger"
        assert f"{H2}@1.4.199" in purls, "libraries inside of Corda's jar run on the VM too"

    def test_the_bom_has_the_hashes_of_accepted_files(self):
        assert all(each.digests for each in deployed()), "a package without a hash could be any file"

    def test_the_bom_lists_the_content_of_the_installed_jar(self):
        for version, artifact in KNOWN.items():
            listed = json.loads((ROOT / "sbom" / f"corda-{version}.json").read_text(encoding="utf-8"))
            assert (listed["coordinates"], listed["sha256"]) == (artifact.coordinates, artifact.sha256), (
                "a new release requires a new list: python -m sbom.contents"
            )

    def test_the_bom_is_valid_cyclonedx(self):
        folder = files("cyclonedx.schema") / "_res"
        schemas = {
            name: json.loads((folder / f"{name}.SNAPSHOT.schema.json").read_text(encoding="utf-8"))
            for name in ("bom-1.6", "spdx", "jsf-0.82")
        }
        registry: Registry[Any] = Registry().with_resources(
            (each["$id"], Resource.from_contents(each)) for each in schemas.values()
        )
        content = json.loads(bill(deployed()))
        jsonschema.Draft7Validator(schemas["bom-1.6"], registry=registry).validate(content)
        references = Counter(each["bom-ref"] for each in content["components"])
        assert set(references.values()) == {1}, "a package that two programs use is listed once"
        assert len(references) > 200, "Python's and Java's"

    def test_the_bom_is_the_same_for_the_same_versions(self):
        assert bill(deployed()) == bill(deployed()[::-1]), "a comparison must show only changes"


Answer = Callable[[str, Any], Any]


@pytest.fixture
def server() -> Iterator[Callable[[Answer], str]]:
    """A server of OSV's protocol on this machine; an answer that is bytes goes out as it is."""

    def start(answer: Answer) -> str:
        class Osv(Handler):
            def reply(self, body: bytes) -> None:
                given = answer(self.path, json.loads(body) if body else None)
                self.send_response(500 if given is None else 200)
                self.end_headers()
                self.wfile.write(given if isinstance(given, bytes) else json.dumps(given).encode())

        return running.enter_context(serving(Osv))

    with ExitStack() as running:
        yield start


def documented(vulnerable: dict[str, list[str]], details: dict[str, Any]) -> Answer:
    """Answers as OSV documents them, one vulnerability a page."""

    def answer(path: str, body: Any) -> Any:
        if path.startswith("/v1/vulns/"):
            return {
                "id": path.rsplit("/", 1)[1],
                "modified": "2026-01-01T00:00:00Z",
                **details[path.rsplit("/", 1)[1]],
            }
        assert path == "/v1/querybatch"
        results = []
        for query in body["queries"]:
            purl, page = query["package"]["purl"], int(query.get("page_token", 0))
            ids = vulnerable.get(purl, [])
            result: dict[str, Any] = {}
            if page < len(ids):
                result["vulns"] = [{"id": ids[page], "modified": "2026-01-01T00:00:00Z"}]
            if page + 1 < len(ids):
                result["next_page_token"] = str(page + 1)
            results.append(result)
        return {"results": results}

    return answer


GHSA = {"aliases": ["CVE-2021-42392"], "summary": "RCE in H2 Console"}


class TestOsv:
    def test_an_unwaived_vulnerability_fails_the_check(self, server, capsys):
        url = server(documented({f"{H2}@1.4.199": ["GHSA-h376-j262-vhq6"]}, {"GHSA-h376-j262-vhq6": GHSA}))
        assert osv.main([url]) == 1, "it is not waived"
        shown = capsys.readouterr().out
        for wanted in ("CVE-2021-42392", "com.h2database/h2@1.4.199", "net.corda:corda:4.10"):
            assert wanted in shown, "the message has the package, its file and the vulnerability"

    def test_all_pages_are_read(self, server):
        url = server(documented({f"{H2}@1": ["A", "B", "C"]}, {"A": {}, "B": {}, "C": {"withdrawn": "2026-01-01"}}))
        found = osv.known([PackageURL.from_string(f"{H2}@1")], url)
        ids = [each.id for vulnerabilities in found.values() for each in vulnerabilities]
        assert ids == ["A", "B"], "the second page counts too; withdrawn entries do not"

    def test_a_package_of_one_platform_is_queried_by_name_and_version(self, server):
        purl = PackageURL.from_string("pkg:maven/io.netty/netty@4?classifier=linux-x86_64")
        url = server(documented({"pkg:maven/io.netty/netty@4": ["A"]}, {"A": {}}))
        assert osv.known([purl], url), "OSV knows no classifiers, so the library would be missed"

    def test_more_packages_than_a_batch_are_queried_in_several(self, server):
        sizes: list[int] = []

        def answer(path: str, body: Any) -> Any:
            sizes.append(len(body["queries"]))
            return {"results": [{}] * len(body["queries"])}

        osv.known([PackageURL("pypi", None, f"p{place}", "1") for place in range(1001)], server(answer))
        assert sizes == [1000, 1], "OSV accepts a thousand at once"

    @pytest.mark.parametrize(
        "given", [None, b"<html>", b"[]", b"{}", {"results": []}, {"results": [{"vulns": [{}]}]}]
    )
    def test_a_malformed_answer_fails_the_check(self, server, given, capsys):
        assert osv.main([server(lambda *_: given)]) == 2, "without an answer the check must not pass"
        assert capsys.readouterr().err.startswith("error: "), "the message is one line"

    def test_an_unreachable_osv_fails_the_check(self, capsys):
        assert osv.main(["http://127.0.0.1:9"]) == 2
        assert "can't be asked" in capsys.readouterr().err

    def test_a_waiver_covers_only_its_vulnerability(self, server, monkeypatch, tmp_path, capsys):
        monkeypatch.setattr(osv, "read_waivers", lambda today: read_waivers(today, write(tmp_path, waiver())))
        one = documented({f"{H2}@1.4.199": ["GHSA-h376-j262-vhq6"]}, {"GHSA-h376-j262-vhq6": GHSA})
        assert osv.main([server(one)]) == 0, "it is matched by its CVE, an alias in OSV"
        two = documented({f"{H2}@1.4.199": ["X"], "pkg:pypi/idna@3.20": ["X"]}, {"X": {}})
        assert osv.main([server(two)]) == 1
        assert "2 vulnerabilities without a waiver" in capsys.readouterr().out, (
            "another vulnerability of the package is not waived"
        )

    def test_a_waiver_covers_the_package_of_each_platform(self):
        entry = Waiver.model_validate(waiver(since=TODAY.isoformat(), until=(TODAY + timedelta(days=30)).isoformat()))
        purl = PackageURL.from_string(f"{H2}@1.4.199?classifier=linux-x86_64")
        assert entry.covers(purl, frozenset({"CVE-2021-42392"})), "a waiver names no platform, and can't"

    def test_an_answer_that_is_no_http_fails_the_check(self, capsys):
        class Torn(Handler):
            def reply(self, _: bytes) -> None:
                self.wfile.write(b"no HTTP\r\n")

        with serving(Torn) as url:
            assert osv.main([url]) == 2
        assert "can't be asked" in capsys.readouterr().err, "one line, no traceback"

    def test_an_unused_waiver_is_reported(self, server, monkeypatch, tmp_path, capsys):
        monkeypatch.setattr(osv, "read_waivers", lambda today: read_waivers(today, write(tmp_path, waiver())))
        assert osv.main([server(documented({}, {}))]) == 0
        assert "nothing to waive any more" in capsys.readouterr().out, "otherwise the list would only grow"


def waiver(**changed: object) -> dict[str, object]:
    given = {"id": "CVE-2021-42392", "package": H2, "reason": "No console is started; the database is PostgreSQL."}
    return {**given, "since": TODAY, "until": TODAY + timedelta(days=30), **changed}


def write(folder: Path, *entries: dict[str, object]) -> Path:
    """Entries as TOML: dates bare, the rest as JSON's strings."""
    lines: list[str] = []
    for entry in entries:
        lines.append("[[waiver]]")
        lines += [
            f"{key} = {value if isinstance(value, date) else json.dumps(value)}" for key, value in entry.items()
        ]
    path = folder / "waivers.toml"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


class TestWaivers:
    def test_the_projects_own_waivers_are_valid(self):
        read_waivers(TODAY, waivers.FILE)

    @pytest.mark.parametrize(
        ("changed", "wanted"),
        [
            ({"until": TODAY - timedelta(days=1), "since": TODAY - timedelta(days=9)}, "expired: CVE-2021-42392"),
            ({"until": TODAY + timedelta(days=181)}, "180 days at most"),
            ({"until": TODAY}, "after since"),
            ({"since": TODAY + timedelta(days=1)}, "wanted waivers that begin today at the latest"),
            ({"package": f"{H2}@1.4.199"}, "without a version"),
            ({"package": "h2"}, "package"),
            ({"reason": "old"}, "reason"),
            ({"severity": "low"}, "severity"),
        ],
    )
    def test_an_invalid_waiver_is_refused_by_its_name(self, tmp_path, changed, wanted):
        with pytest.raises(WaiverError, match=re.escape(wanted)):
            read_waivers(TODAY, write(tmp_path, waiver(**changed)))

    @pytest.mark.parametrize("text", ["[[waiver]", "[[waivers]]\nid = 'a'", "waiver = 3"])
    def test_a_file_without_waivers_is_refused(self, tmp_path, text):
        path = tmp_path / "waivers.toml"
        path.write_text(text, encoding="utf-8")
        with pytest.raises(WaiverError, match=r"waivers\.toml"):
            read_waivers(TODAY, path)
