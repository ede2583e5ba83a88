"""Prints the libraries in a ledger's jar: `python -m sbom.contents COORDINATES JAR > sbom/NAME-VERSION.json`.

Corda's node is one jar that contains its libraries. Maven can't resolve their list, since some libraries are in no
public repository.
"""

import hashlib
import io
import json
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

from packageurl import PackageURL

_PROPERTIES = "META-INF/maven/", "/pom.properties"
# Groups of jars without pom.properties, by the beginning of the file's name.
_GROUPS = {
    "antlr-": "antlr",
    "asm-": "org.ow2.asm",
    "bc": "org.bouncycastle",
    "caffeine-": "com.github.ben-manes.caffeine",
    "checker-qual-": "org.checkerframework",
    "config-": "com.typesafe",
    "corda-": "net.corda",
    "deterministic-rt-": "net.corda",
    "disruptor-": "com.lmax",
    "dom4j-": "org.dom4j",
    "h2-": "com.h2database",
    "hibernate-": "org.hibernate",
    "hibernate-commons-annotations-": "org.hibernate.common",
    "kotlin-": "org.jetbrains.kotlin",
    "library-": "com.github.bft-smart",
    "liquibase-slf4j-": "com.mattbertolini",
    "metrics-new-relic-": "com.palominolabs.metrics",
    "micrometer-": "io.micrometer",
    "newrelic-api-": "com.newrelic.agent.java",
    "objenesis-": "org.objenesis",
    "opentelemetry-": "io.opentelemetry",
    "picocli-": "info.picocli",
    "quasar-core-": "co.paralleluniverse",
    "rxjava-": "io.reactivex",
}


def contents(jar: Path) -> Iterator[tuple[PackageURL, str]]:
    """The package and the SHA-256 of each jar within a jar.

    Raises:
        ValueError: a jar's group can't be determined.
    """
    with zipfile.ZipFile(jar) as whole:
        for name in sorted(each for each in whole.namelist() if each.endswith(".jar")):
            content = whole.read(name)
            yield _package(name.rsplit("/", 1)[-1], content), hashlib.sha256(content).hexdigest()


def _package(file_name: str, content: bytes) -> PackageURL:
    with zipfile.ZipFile(io.BytesIO(content)) as jar:
        for path in jar.namelist():
            if not (path.startswith(_PROPERTIES[0]) and path.endswith(_PROPERTIES[1])):
                continue
            lines = jar.read(path).decode("utf-8").splitlines()
            given = dict(line.split("=", 1) for line in lines if "=" in line)
            artifact, version = given["artifactId"].strip(), given["version"].strip()
            # A jar may also contain the pom.properties of libraries that were merged into it.
            if file_name.startswith(f"{artifact}-{version}"):
                classifier = file_name.removesuffix(".jar").removeprefix(f"{artifact}-{version}").removeprefix("-")
                qualifiers = {"classifier": classifier} if classifier else None
                return PackageURL("maven", given["groupId"].strip(), artifact, version, qualifiers)
    beginning = max((each for each in _GROUPS if file_name.startswith(each)), key=len, default=None)
    if beginning is None:
        raise ValueError(f"{file_name} holds no pom.properties; wanted its group among those of sbom/contents.py")
    artifact, version = _split(file_name.removesuffix(".jar"))
    return PackageURL("maven", _GROUPS[beginning], artifact, version)


def _split(name: str) -> tuple[str, str]:
    """Artifact and version of a name; the version begins at the first part with a leading digit, or at `master`."""
    parts = name.split("-")
    at = next(place for place, part in enumerate(parts) if part[0].isdigit() or part == "master")
    return "-".join(parts[:at]), "-".join(parts[at:])


if __name__ == "__main__":
    _coordinates, _jar = sys.argv[1], Path(sys.argv[2])
    _found = [{"purl": str(purl), "sha256": digest} for purl, digest in contents(_jar)]
    print(
        json.dumps(
            {
                "coordinates": _coordinates,
                "sha256": hashlib.sha256(_jar.read_bytes()).hexdigest(),
                "contains": _found,
            },
            indent=1,
        )
    )
