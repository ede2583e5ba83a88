"""Corda's artifacts on a VM: installations and refusals."""

import asyncio
import hashlib
import os
import re
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from contract.artifacts import Artifact, Installation
from contract.authority_configuration import NetworkParameterSettings
from contract.identities import identities
from host.errors import UnavailableError
from lab.banks.key_vault import write_certificate
from ledger.corda import CORDA, installation, java_version
from ledger.corda.authority.parameters import JavaSerializer, NetworkParameters
from ledger.corda.installation import (
    InstallationError,
    Installed,
    Runtime,
    find_runtime,
    install,
    wanted_artifacts,
)
from ledger.corda.software import CordaSoftware
from ledger.install import main
from ledger.software import DatabaseAccess, Place, SoftwareError
from tests.software_context import software_context

AGENT = "quasar-core-0.7.15_r3.jar"
# As in the capsule: lines of 72 characters, each further one begins with a space.
CAPSULE = (
    "Manifest-Version: 1.0\r\nCorda-Platform-Version: 12\r\n"
    "Java-Agents: quasar-core-0.7.15_r3.jar=x(antlr**;bftsmart**;co.parallel\r\n universe**)l(net.corda.djvm.**)\r\n"
    "JVM-Args: -Xmx512m -XX:+UseG1GC -Djdk.attach.allowAttachSelf=true\r\n\r\nName: other\r\nJava-Agents: none=\r\n"
)


@dataclass
class Machine:
    """A machine with stand-ins of Java and Maven, and the content of its repository."""

    folder: Path
    runtime: Runtime
    artifacts: dict[str, Artifact]

    @property
    def asked(self) -> list[str]:
        return (self.folder / "asked").read_text().splitlines()

    def put(self, coordinates: str, content: bytes) -> Artifact:
        _, name, version = coordinates.split(":")
        (self.folder / "repository" / f"{name}-{version}.jar").write_bytes(content)
        artifact = self.artifacts[name] = Artifact(
            coordinates=coordinates, sha256=hashlib.sha256(content).hexdigest()
        )
        return artifact

    def install(self, *applications: Artifact, **changes: object) -> Installed:
        wanted = Installation(
            "4.10", self.folder / "ledger", artifact=self.artifacts["corda"], applications=applications
        )
        install(replace(wanted, **changes), self.runtime)  # type: ignore[arg-type]
        return Installed.load(self.folder / "ledger")


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}")
    path.chmod(0o755)
    return path


def capsule(folder: Path, manifest: str = CAPSULE, **more: str) -> bytes:
    path = folder / "capsule.jar"
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("META-INF/MANIFEST.MF", manifest)
        for name in ("corda-node-4.10.jar", AGENT, "djvm/corda-djvm-1.1.1.jar", "com/typesafe/config/Config.class"):
            packed.writestr(name, f"content of {name}")
        for name, text in more.items():
            packed.writestr(name, text)
    return path.read_bytes()


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    (tmp_path / "repository").mkdir()
    program(
        tmp_path / "bin" / "mvn",
        f'echo "$*" >> {tmp_path}/asked\n'
        "for each; do\n"
        'case "$each" in -Dartifact=*) a="${each#*=}";; -DoutputDirectory=*) to="${each#*=}";; esac\n'
        "done\n"
        'name="${a#*:}"\n'
        f'cp "{tmp_path}/repository/$(echo "$name" | tr : -).jar" "$to" || '
        '{ echo "[ERROR] Could not find artifact $a"; exit 1; }\n',
    )
    home = tmp_path / "jdk"
    program(home / "bin" / "java", 'echo "    java.specification.version = 1.8"')
    compiler = program(
        home / "bin" / "javac",
        f'echo "$*" >> {tmp_path}/compiled\n'
        'while [ $# -gt 0 ]; do [ "$1" = -d ] && touch "$2/Tool.class"; shift; done',
    )
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    made = Machine(tmp_path, Runtime(home, compiler, 8), {})
    made.put("net.corda:corda:4.10", capsule(tmp_path))
    monkeypatch.setattr(installation, "DRIVER", made.put("org.postgresql:postgresql:42.7.14", b"driver"))
    yield made
    installation.remove(tmp_path / "ledger")


# --- Installations -------------------------------------------------------------------------------------------------


def test_an_installation_has_the_capsules_libraries_and_its_own_files(machine: Machine) -> None:
    record = machine.put("example.bank:record:1.2", b"application")
    installed = machine.install(record)
    files = {str(path.relative_to(installed.folder)) for path in installed.folder.rglob("*") if path.is_file()}
    assert files == {
        "manifest.json",
        "log4j2.xml",
        "lib/corda-node-4.10.jar",
        f"lib/{AGENT}",
        "drivers/postgresql-42.7.14.jar",
        "cordapps/record-1.2.jar",
        "tool/Tool.class",
    }, "no files for another Java's sandbox, and none of the capsule itself"
    assert (installed.folder / "cordapps" / "config").is_dir(), "a node would write it if it could, but here it can't"
    installed.verify("4.10")
    manifest = installed.manifest
    assert manifest.classpath == ("tool", "lib/corda-node-4.10.jar", f"lib/{AGENT}", "drivers/postgresql-42.7.14.jar")
    assert manifest.platform_version == 12, "only the main section of the manifest counts"
    assert (manifest.fibers.jar, manifest.fibers.options) == (
        f"lib/{AGENT}",
        "x(antlr**;bftsmart**;co.paralleluniverse**)l(net.corda.djvm.**)",
    ), "as the capsule would start it, with continued lines joined"
    assert manifest.options == (), "Java 8 has no modules"
    compiled = (machine.folder / "compiled").read_text()
    assert "-proc:none" in compiled.split(), "else javac would run a library's annotation processor, as root"


def test_a_newer_java_gets_the_capsules_opened_packages(machine: Machine) -> None:
    program(machine.runtime.java_home / "bin" / "java", 'echo "    java.specification.version = 17"')
    machine.runtime = replace(machine.runtime, version=17)
    opens = {"node-jvm-args.txt": "--add-opens=java.base/java.io=ALL-UNNAMED\n"}
    machine.put("net.corda:corda:4.12", capsule(machine.folder, **opens))
    installed = machine.install(version="4.12")
    assert installed.manifest.options == (
        "--add-opens=java.base/java.io=ALL-UNNAMED",
        "--add-opens=java.management/com.sun.jmx.mbeanserver=ALL-UNNAMED",
        "-Djdk.attach.allowAttachSelf=true",
    ), "`java -jar` would have read this from the capsule"


def test_another_quasar_replaces_the_capsules(machine: Machine) -> None:
    machine.runtime = replace(machine.runtime, fibers=machine.put("co.paralleluniverse:quasar-core:0.8.0", b"fibers"))
    installed = machine.install()
    assert installed.manifest.fibers.jar == "lib/quasar-core-0.8.0.jar"
    assert installed.manifest.fibers.options == "x(antlr**;bftsmart**;co.paralleluniverse**)", (
        "upstream Quasar has no l(...)"
    )
    assert not (installed.folder / "lib" / AGENT).exists(), "only one Quasar is there"


def test_no_secret_and_no_capsule_on_the_command_line(machine: Machine) -> None:
    argv = machine.install().node({"ledger.identity": "node-1"}, ("--no-local-shell",))
    assert argv[0] == str(machine.runtime.java_home / "bin" / "java"), "the recorded Java, not that of PATH"
    assert argv[-2:] == ("ledger.corda.Node", "--no-local-shell")
    assert "-Dledger.identity=node-1" in argv
    assert not [each for each in argv if "assword" in each or each == "-jar"]
    assert "-Dlog4j2.formatMsgNoLookups=true" in argv, "peers' texts are logged, and Corda's Log4j may look names up"


def test_the_environment_of_the_agent_changes_no_tool(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-javaagent:evil.jar")
    monkeypatch.setenv("IDENTITY_ENDPOINT", "the agent's")
    installed = machine.install()
    program(machine.runtime.java_home / "bin" / "java", """echo "{\\"it\\": \\"$(env | cut -d= -f1 | xargs)\\"}" """)
    answer = asyncio.run(installed.tool("drain", {}, {"LEDGER_RPC_PASSWORD": "password"}))
    assert set(answer["it"].split()) - {"PWD", "SHLVL", "_", "OLDPWD"} == {"PATH", "LANG", "LEDGER_RPC_PASSWORD"}, (
        "Java's variables change what runs, and the agent's may be secret"
    )


def test_a_new_installation_replaces_the_last_one(machine: Machine) -> None:
    first = machine.install(machine.put("example.bank:record:1.2", b"application"))
    second = machine.install()
    assert not list(second.applications.glob("*.jar")), "a removed application is deleted"
    assert first.fingerprint != second.fingerprint, "the database is migrated again"
    assert oct(second.folder.stat().st_mode)[-3:] == "555", "files can't be added by mistake"
    modes = {path.stat().st_mode & 0o777 for path in second.folder.rglob("*") if path.is_file()}
    assert modes == {0o444}, "nor may one be changed"
    assert [path.name for path in machine.folder.glob(".installing-*")] == [], "no temporary file remains"


def test_without_a_repository_maven_runs_one_version_of_its_plugin(machine: Machine) -> None:
    machine.install()
    assert len(machine.asked) == 2, "Corda and the driver"
    goal = re.compile(r"org\.apache\.maven\.plugins:maven-dependency-plugin:\d+\.\d+\.\d+:copy")
    assert all(goal.search(line) for line in machine.asked), "otherwise the repository chooses the version"


# --- Refusals ------------------------------------------------------------------------------------------------------


def test_a_file_with_another_hash_is_refused(machine: Machine) -> None:
    last = machine.install()
    wanted = machine.artifacts["corda"]
    machine.put("net.corda:corda:4.10", capsule(machine.folder, extra="more"))
    with pytest.raises(
        InstallationError, match=r"^net\.corda:corda:4\.10: SHA-256 is [0-9a-f]{64}; wanted "
    ) as refused:
        machine.install(artifact=wanted)
    assert str(refused.value).endswith(wanted.sha256), "both hashes are reported"
    last.verify("4.10")


Break = Callable[[Machine], object]
FAULTS: dict[str, tuple[Break, dict[str, object], str]] = {
    "java": (
        lambda it: program(it.runtime.java_home / "bin" / "java", 'echo " java.specification.version = 21"'),
        {},
        r"jdk: Java 21; wanted 8$",
    ),
    "no-java": (
        lambda it: (it.runtime.java_home / "bin" / "java").unlink(),
        {},
        r"java: No such file .*; wanted the ",
    ),
    "compiler": (
        lambda it: program(it.runtime.compiler, "echo 'error: no'; exit 2"),
        {},
        "^javac: exit status 2: error: no",
    ),
    "maven": (
        lambda it: (it.folder / "repository" / "postgresql-42.7.14.jar").unlink(),
        {},
        r"^mvn: exit status 1: .*Could not find artifact org\.postgresql:postgresql:42\.7\.14",
    ),
    "no-capsule": (
        lambda it: it.put("net.corda:corda:4.10", b"a page that says sorry"),
        {},
        "wanted Corda's node as a capsule",
    ),
    "no-agent": (
        lambda it: it.put("net.corda:corda:4.10", capsule(it.folder, "Corda-Platform-Version: 12\r\n\r\n")),
        {},
        "'Java-Agents'; wanted Corda's node as a capsule",
    ),
    "one-name": (
        lambda it: it.put("example.bank:record:1.2", b"application"),
        {
            "applications": tuple(
                Artifact(coordinates=f"{group}:record:1.2", sha256="5a" * 32) for group in ("a.bank", "b.bank")
            )
        },
        r"^a\.bank:record:1\.2 and b\.bank:record:1\.2 have one file name; wanted one for each$",
    ),
    "unknown": (
        lambda _: None,
        {"version": "4.11", "artifact": None},
        "version 4.11: its artifact is not known here; wanted",
    ),
}


@pytest.mark.parametrize(("fault", "changes", "reason"), FAULTS.values(), ids=FAULTS)
def test_a_failed_installation_is_reported_in_one_line(
    machine: Machine, fault: Break, changes: dict[str, object], reason: str
) -> None:
    fault(machine)
    with pytest.raises(InstallationError, match=reason):
        machine.install(**changes)
    assert not (machine.folder / "ledger").exists(), "no partial installation remains"


def meddle(path: Path, change: Callable[[Path], object]) -> None:
    path.parent.chmod(0o755)
    if path.exists():
        path.chmod(0o644)
    change(path)


DAMAGES: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "changed": (
        "lib/corda-node-4.10.jar",
        lambda path: path.write_bytes(b"x"),
        r"jar: SHA-256 is [0-9a-f]{64}; wanted",
    ),
    "missing": (
        "drivers/postgresql-42.7.14.jar",
        Path.unlink,
        r"42\.7\.14\.jar is not there; wanted it with SHA-256",
    ),
    "added": (
        "cordapps/mine.jar",
        lambda path: path.write_bytes(b"x"),
        r"mine\.jar is not of the installation; wanted",
    ),
    "configured": (
        "cordapps/config/a.conf",
        lambda path: path.write_bytes(b"x"),
        r"a\.conf is not of the installation",
    ),
    "linked": (
        "lib/evil.jar",
        lambda path: path.symlink_to("/etc/hostname"),
        r"evil\.jar is not of the installation",
    ),
    "linked-folder": (
        "lib/evil",
        lambda path: path.symlink_to("/etc"),
        r"evil is not of the installation",
    ),
    "dangling": (
        "lib/evil",
        lambda path: path.symlink_to("/nowhere"),
        r"evil is not of the installation",
    ),
    "pipe": (
        "lib/evil",
        os.mkfifo,
        r"evil is not of the installation",
    ),
}


@pytest.mark.parametrize(("path", "change", "reason"), DAMAGES.values(), ids=DAMAGES)
def test_a_modified_installation_is_refused(
    machine: Machine, path: str, change: Callable[[Path], object], reason: str
) -> None:
    installed = machine.install()
    meddle(installed.folder / path, change)
    with pytest.raises(InstallationError, match=reason):
        installed.verify("4.10")


def test_another_version_than_the_configured_one_is_refused(machine: Machine) -> None:
    with pytest.raises(InstallationError, match=r"ledger: Corda 4\.10 is installed; wanted 4\.9$"):
        machine.install().verify("4.9")


def test_the_manifest_lists_the_artifacts(machine: Machine) -> None:
    record = machine.put("example.bank:record:1.2", b"application")
    made_of = {each.coordinates: each.sha256 for each in (machine.artifacts["corda"], record)}
    installed = machine.install(record)
    assert installed.manifest.artifacts == made_of, "the bank's own artifact"
    installed.verify("4.10", wanted_artifacts("4.10", machine.artifacts["corda"], [record]))
    known = installation.KNOWN["4.10"]
    assert wanted_artifacts("4.10", None, []) == {known.coordinates: known.sha256}, (
        "the platform's artifact by default"
    )


OLD, NEW = (
    Artifact(coordinates=f"example.bank:record:{version}", sha256=version[-1] * 64) for version in ("1.2", "1.3")
)
OTHERS: dict[str, tuple[bool, bool, bool, str]] = {
    # Installed: an application. Configured: another Corda, that application, another one.
    "changed": (
        True,
        False,
        True,
        rf"installed example\.bank:record:1\.2 with .*; wanted {NEW.coordinates} with SHA",
    ),
    "added": (
        False,
        False,
        True,
        rf"installed nothing besides; wanted {NEW.coordinates} with SHA-256 {NEW.sha256}: ",
    ),
    "dropped": (True, False, False, r"installed example\.bank:record:1\.2 with .*; wanted nothing besides: an image"),
    "corda": (
        False,
        True,
        False,
        r"installed net\.corda:corda:4\.10 with .*; wanted net\.corda:corda:4\.10 with .*5a: ",
    ),
}


@pytest.mark.parametrize(("has", "other_corda", "wants", "reason"), OTHERS.values(), ids=OTHERS)
def test_another_artifact_than_the_configured_one_is_refused(
    machine: Machine, *, has: bool, other_corda: bool, wants: bool, reason: str
) -> None:
    """As in an outdated image: the files are complete, but not those that the bank configured later."""
    record = machine.put(OLD.coordinates, b"application")
    installed = machine.install(*([record] if has else ()))
    corda = machine.artifacts["corda"]
    wanted = corda.model_copy(update={"sha256": "5a" * 32}) if other_corda else corda
    around = software_context(
        version="4.10", installation=installed.folder, artifact=wanted, applications=(NEW,) if wants else ()
    )
    identity = identities(CORDA, "O=Bank A, L=London, C=GB", 1)[0]
    place = Place(
        identity=identity,
        epoch=1,
        durable=machine.folder / "durable",
        scratch=machine.folder / "scratch",
        secrets=machine.folder / "secrets",
        database=DatabaseAccess("localhost", 1, "none", "none", "none"),
        network_document=None,
    )
    with pytest.raises(SoftwareError, match=reason):
        asyncio.run(CordaSoftware(around).prepare(place))
    with pytest.raises(SoftwareError, match=reason):
        asyncio.run(CordaSoftware(around).check())
    serializer = JavaSerializer(
        Installation("4.10", installed.folder, artifact=wanted, applications=around.applications)
    )
    settings = NetworkParameterSettings(
        minimum_platform_version=1, max_message_bytes=65_536, max_transaction_bytes=65_536, event_horizon_days=1
    )
    parameters = NetworkParameters(1, datetime.now(UTC), settings, ())
    with pytest.raises(UnavailableError, match=reason) as refused:
        asyncio.run(serializer.raw(parameters))
    assert "\n" not in str(refused.value), "an authority must not sign data of another version of Corda"


def test_a_missing_installation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        InstallationError, match=r"manifest\.json: No such file .*; wanted an installation of the ledger$"
    ):
        Installed.load(tmp_path)
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(InstallationError, match=r"manifest\.json: Field required; wanted the manifest of one$"):
        Installed.load(tmp_path)


@pytest.mark.parametrize(("version", "java"), [("4.8", 8), ("4.11", 8), ("4.12", 17), ("4.14", 17)])
def test_each_version_has_its_java(version: str, java: int) -> None:
    assert java_version(version) == java, "Corda uses Java 17 from 4.12 on"
    try:
        assert find_runtime(version).version == java
    except InstallationError as error:
        assert f"package openjdk-{java}-jdk-headless" in str(error), "the message says what to add to the image"  # noqa: PT017


# --- A repository of the bank's own --------------------------------------------------------------------------------


class Repository(ThreadingHTTPServer):
    """Serves the machine's artifacts in Maven's layout, with a certificate that the machine trusts."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(("127.0.0.1", 0), Files)
        self.machine = machine
        self.url = f"https://localhost:{self.server_address[1]}/maven"
        self.asked_paths: list[str] = []
        self.leads: dict[str, str] = {}
        """Redirects by path."""
        self.busy = 0
        """How many requests it turns away first."""
        self.pause = 0.0
        """Seconds before it answers."""
        self.socket = write_certificate(machine.folder).wrap_socket(self.socket, server_side=True)

    def path(self, name: str) -> str:
        """The path of an artifact in Maven's layout."""
        group, name, version = self.machine.artifacts[name].coordinates.split(":")
        return f"/maven/{group.replace('.', '/')}/{name}/{version}/{name}-{version}.jar"

    def handle_error(self, *_: object) -> None:
        """The client closed the connection."""


class Files(BaseHTTPRequestHandler):
    server: Repository

    def do_GET(self) -> None:
        of = self.server
        of.asked_paths.append(self.path)
        time.sleep(of.pause)
        if of.busy:
            of.busy -= 1
            self.send_error(503)
            return
        if self.path in of.leads:
            self.send_response(302)
            self.send_header("Location", of.leads[self.path])
            self.end_headers()
            return
        file = of.machine.folder / "repository" / self.path.rsplit("/", 1)[1]
        if self.path not in {of.path(name) for name in of.machine.artifacts} or not file.exists():
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(file.stat().st_size))
        self.end_headers()
        self.wfile.write(file.read_bytes())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def repository(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    monkeypatch.setattr(installation, "_PAUSE_SECONDS", 1)
    monkeypatch.setenv("no_proxy", "localhost")
    program(machine.folder / "bin" / "mvn", f"touch {machine.folder}/asked; exit 1")
    with Repository(machine) as server:
        monkeypatch.setenv("CURL_CA_BUNDLE", str(machine.folder / "certificate.pem"))
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def test_a_banks_own_repository_serves_files_and_runs_no_plugin(repository: Repository) -> None:
    machine = repository.machine
    record = machine.put("example.bank:record:1.2", b"application")
    installed = machine.install(record, repository=repository.url)
    installed.verify("4.10")
    assert (installed.applications / "record-1.2.jar").read_bytes() == b"application"
    assert repository.asked_paths == [
        "/maven/net/corda/corda/4.10/corda-4.10.jar",
        "/maven/org/postgresql/postgresql/42.7.14/postgresql-42.7.14.jar",
        "/maven/example/bank/record/1.2/record-1.2.jar",
    ], "only these files, and none of Maven's plugins"
    assert not (machine.folder / "asked").exists(), "Maven would run code that it downloads"


def test_the_users_own_curl_configuration_does_not_count(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    (repository.machine.folder / ".curlrc").write_text("request = POST\n")
    monkeypatch.setenv("CURL_HOME", str(repository.machine.folder))
    repository.machine.install(repository=repository.url).verify("4.10")


def test_a_busy_repository_is_retried(repository: Repository) -> None:
    repository.busy = 2
    repository.machine.install(repository=repository.url + "/").verify("4.10")
    assert repository.asked_paths[:3] == [repository.path("corda")] * 3


def test_a_repository_may_redirect_only_to_https(repository: Repository) -> None:
    machine = repository.machine
    repository.leads = {repository.path("corda"): "/moved", "/moved": "http://localhost:1/corda.jar?token=secret"}
    with pytest.raises(InstallationError, match=r"Protocol .http. .*; wanted the artifact$") as refused:
        machine.install(repository=repository.url)
    assert "secret" not in str(refused.value), "the redirect's query stays out of the log"
    repository.leads = {repository.path("postgresql"): "/other", "/other": repository.path("postgresql") + "?again"}
    with pytest.raises(InstallationError, match="error: 404"):
        machine.install(repository=repository.url)
    assert repository.asked_paths[-2:] == ["/other", repository.path("postgresql") + "?again"], (
        "the redirect was followed"
    )


def another(repository: Repository, _: pytest.MonkeyPatch) -> None:
    (repository.machine.folder / "repository" / "postgresql-42.7.14.jar").write_bytes(b"another")


def gone(repository: Repository, _: pytest.MonkeyPatch) -> None:
    (repository.machine.folder / "repository" / "postgresql-42.7.14.jar").unlink()


def little(_: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "_MAX_ARTIFACT_BYTES", 5)


def slow(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    repository.pause = 2
    monkeypatch.setattr(installation, "_FETCH_SECONDS", 1)


def unknown(_: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CURL_CA_BUNDLE", "/dev/null")


def down(repository: Repository, _: pytest.MonkeyPatch) -> None:
    repository.busy = 99


REFUSED: dict[str, tuple[Callable[[Repository, pytest.MonkeyPatch], None], str]] = {
    "another": (another, r"^org\.postgresql:postgresql:42\.7\.14: SHA-256 is [0-9a-f]{64}; wanted [0-9a-f]{64}$"),
    "gone": (gone, r"/postgresql-42\.7\.14\.jar: curl: exit status 22: .*error: 404; wanted the artifact$"),
    "too-large": (little, r"/corda-4\.10\.jar: .*Maximum file size exceeded; wanted the artifact$"),
    "too-slow": (slow, r"/corda-4\.10\.jar: curl: not done in 1 s; wanted the artifact$"),
    "unknown": (unknown, r"/corda-4\.10\.jar: .*certificate.*; wanted the artifact$"),
    "down": (down, r"/corda-4\.10\.jar: .*error: 503.*; wanted the artifact$"),
}


@pytest.mark.parametrize(("fault", "reason"), REFUSED.values(), ids=REFUSED)
def test_a_repository_with_faults_is_refused(
    repository: Repository,
    monkeypatch: pytest.MonkeyPatch,
    fault: Callable[[Repository, pytest.MonkeyPatch], None],
    reason: str,
) -> None:
    monkeypatch.setattr(installation, "_RETRIES", 0)
    fault(repository, monkeypatch)
    with pytest.raises(InstallationError, match=reason):
        repository.machine.install(repository=repository.url)
    assert not (repository.machine.folder / "ledger").exists()


@pytest.mark.parametrize(
    "url", ["http://localhost/maven", "https://", "file:///maven", "https://a:secret@localhost/m", "https://b/m?c=1"]
)
def test_an_unusable_repository_is_reported_without_its_url(machine: Machine, url: str) -> None:
    with pytest.raises(InstallationError) as refused:
        machine.install(repository=url)
    assert str(refused.value) == (
        "the repository's URL can't be used; wanted https://HOST/PATH, with no user, no query"
    ), "a password in it stays out of the logs"


# --- The command ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["corda", "4.7"], "version 4.7; wanted one of 4.8, "),
        (["corda", "4.10", "--artifact", "net.corda:corda:4.10"], "wanted GROUP:NAME:VERSION=SHA256"),
        (["corda", "4.10", "--application", f"a:b:1={'0' * 63}"], "wanted GROUP:NAME:VERSION=SHA256"),
        (["fabric", "2.5"], "invalid choice: 'fabric'"),
    ],
)
def test_the_command_reports_wrong_arguments(
    arguments: Sequence[str], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    platform, version, *options = arguments
    with pytest.raises(SystemExit):
        main([platform, version, str(tmp_path / "ledger"), *options])
    assert reason in capsys.readouterr().err


def test_the_command_fails_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["corda", "4.11", str(tmp_path / "ledger")]) == 1
    assert capsys.readouterr().err.startswith("error: version 4.11: its artifact is not known here; wanted "), (
        "there is no stack trace"
    )
