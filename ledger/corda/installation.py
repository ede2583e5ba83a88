"""Corda's artifacts on a VM: fetched, verified and unpacked once; verified again before each start of a node."""

import asyncio
import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from pydantic import TypeAdapter, ValidationError

from contract.artifacts import Artifact, Installation
from contract.models import StrictModel, first_fault
from host.processes import run_to_end
from ledger.corda import java_version
from ledger.software import SoftwareError

KNOWN: Mapping[str, Artifact] = {
    "4.10": Artifact(
        coordinates="net.corda:corda:4.10", sha256="349ae73e5656e154158c1bc5e4040cf4f529b4992995daabfada7371a11ac8c8"
    ),
}
"""Releases of Corda Community in a public Maven repository, by version."""
DRIVER = Artifact(
    coordinates="org.postgresql:postgresql:42.7.14",
    sha256="73914527305a40cce504b0d3d90b23caf565136912d607ae8ae7c5895512332c",
)
"""PostgreSQL's JDBC driver."""

MANIFEST = "manifest.json"
_REFUSED = "refused: "
_SOURCES = Path(__file__).parent / "java"
_LOGGING_FILE = "log4j2.xml"
_LOGGING = """\
<?xml version="1.0" encoding="UTF-8"?>
<!-- To the VM's journal, which adds the time. -->
<Configuration status="ERROR" shutdownHook="disable" packages="ledger.corda">
  <Appenders>
    <Console name="journal" target="SYSTEM_OUT">
      <Filters>
        <!-- Logged for each of Corda's queues, which need no dead-letter address. -->
        <RegexFilter regex=".*AMQ22216[56].*" onMatch="DENY" onMismatch="NEUTRAL"/>
        <!-- Peers cause these, and the workspace has a daily cap: 2,000 in an hour, of them 1,000 warnings. -->
        <ThresholdFilter level="WARN" onMatch="NEUTRAL" onMismatch="ACCEPT"/>
        <BurstFilter level="WARN" rate="0.3" maxBurst="1000"/>
        <BurstFilter level="FATAL" rate="0.6" maxBurst="2000"/>
      </Filters>
      <!-- One journal line with its level, sd-daemon(3). Peers' texts: bounded, linear, and NUL ends a line. -->
      <PatternLayout alwaysWriteExceptions="false" pattern="%p{FATAL=&lt;2>,ERROR=&lt;3>,WARN=&lt;4>,INFO=&lt;6>,\
DEBUG=&lt;7>,TRACE=&lt;7>}%replace{%p %c{1}: %.-8000m%notEmpty{ %.-8000xThrowable{20}}}{(?:\\R|\\x00)\\s*}{ | }%n"/>
    </Console>
    <DisconnectedBridges/>
    <NotarisationCount/>
  </Appenders>
  <Loggers>
    <Root level="${sys:ledger.log:-warn}"><AppenderRef ref="journal"/></Root>
    <Logger name="net.corda" level="${sys:ledger.log:-info}"><AppenderRef ref="bridges"/></Logger>
    <Logger name="net.corda.flow" level="${sys:ledger.log:-info}"><AppenderRef ref="notarisations"/></Logger>
  </Loggers>
</Configuration>
"""
# Else Maven takes the newest plugin.
_MAVEN_GOAL = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy"
_FETCH_SECONDS = 900
_SILENT_SECONDS = 60
_RETRIES = 2
_PAUSE_SECONDS = 5
# Several times the size of Corda's capsule.
_MAX_ARTIFACT_BYTES = 512 << 20
_COMPILE_SECONDS = 120
_TOOL_SECONDS = 60
_REFUSAL_CHARACTERS = 1000
_TOOL_MEGABYTES = 256
# These read all messages of a node.
_QUEUE_COMMANDS = frozenset({"messages", "set-aside"})
_QUEUE_SECONDS = 600
_COMMAND_MEGABYTES = 512
# For short-lived processes.
_COMMAND_OPTIONS = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
# Packages that a capsule before 4.12 opens by itself on a Java with modules.
_OPENED = tuple(
    f"java.base/java.{package}" for package in ("io", "lang", "lang.invoke", "lang.reflect", "nio", "time", "util")
)
# In the capsule's manifest, which counts only for `java -jar`.
_OPENED_FOR_METRICS = "java.management/com.sun.jmx.mbeanserver"


class InstallationError(SoftwareError):
    """Artifacts can't be installed or used; the message names the fault, and what was wanted."""


class ToolError(Exception):
    """Corda's code refused its input; the message says why."""


@dataclass(frozen=True)
class Runtime:
    """The machine's Java, and its options for a node."""

    java_home: Path
    """Folder of the Java runtime for nodes, with `bin/java`."""
    compiler: Path
    """Path of `javac`."""
    version: int
    """Required major version of Java."""
    fibers: Artifact | None = None
    """Quasar's artifact if not the capsule's own, which supports only Java 8."""
    heap_megabytes: int | None = None
    """A node's heap in MiB; None: computed from the machine's memory."""
    node_options: tuple[str, ...] = ("-XX:+UseG1GC",)
    """Further Java options for a node."""


def find_runtime(version: str) -> Runtime:
    """The Java of Ubuntu's package for a release of Corda.

    Raises:
        InstallationError: it is not installed.
    """
    wanted = java_version(version)
    for home in sorted(Path("/usr/lib/jvm").glob(f"java-{wanted}-openjdk-*")):
        compiler = home / "bin" / "javac"
        # A JDK has `java` beside its compiler, or in its `jre` folder.
        runtime = home / "jre" if (home / "jre" / "bin" / "java").exists() else home
        if compiler.exists() and (runtime / "bin" / "java").exists():
            return Runtime(runtime, compiler, wanted)
    raise InstallationError(
        f"no Java {wanted} with its compiler below /usr/lib/jvm; wanted it for Corda {version}: "
        f"package openjdk-{wanted}-jdk-headless"
    )


class _Agent(StrictModel):
    jar: str
    options: str


class _InstalledManifest(StrictModel):
    version: str
    platform_version: int
    java_home: Path
    options: tuple[str, ...]
    """Java options of each process."""
    fibers: _Agent
    """Java agent for the fibers of a node's flows."""
    classpath: tuple[str, ...]
    heap_megabytes: int | None
    node_options: tuple[str, ...]
    artifacts: dict[str, str]
    """The installed artifacts, as from `wanted_artifacts`."""
    files: dict[str, str]
    """SHA-256 of every file, by path in the folder."""


def wanted_artifacts(version: str, artifact: Artifact | None, applications: Sequence[Artifact]) -> dict[str, str]:
    """SHA-256 by coordinates of the artifacts that a bank can choose: ledger software and applications.

    Raises:
        InstallationError: the version's artifact is neither known nor given.
    """
    return {each.coordinates: each.sha256 for each in (_software(version, artifact), *dict.fromkeys(applications))}


def _software(version: str, artifact: Artifact | None) -> Artifact:
    found = artifact or KNOWN.get(version)
    if found is None:
        raise InstallationError(
            f"version {version}: its artifact is not known here; wanted one of {', '.join(KNOWN)}, "
            "or COORDINATES=SHA256 of it"
        )
    return found


def install(installation: Installation, runtime: Runtime | None = None) -> None:
    """Fetch, verify and unpack a version's artifacts, and compile this project's Java code.

    Args:
        installation: version, artifacts, repository and folder.
        runtime: the machine's Java; None: that of Ubuntu's package.

    Raises:
        InstallationError: an artifact has another hash, or a program fails.
    """
    artifact = _software(installation.version, installation.artifact)
    runtime = runtime or find_runtime(installation.version)
    _check_java(runtime)
    folder = installation.folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".installing-") as temporary:
        fetched = Path(temporary) / "fetched"
        made = Path(temporary) / "made"
        for name in ("lib", "drivers", "cordapps/config", "tool"):
            (made / name).mkdir(parents=True)
        applications = [*dict.fromkeys(installation.applications)]
        wanted = [artifact, DRIVER, *([runtime.fibers] if runtime.fibers else []), *applications]
        _check_names(wanted)
        jars = {each: fetch(each, fetched, installation.repository) for each in wanted}
        capsule = _unpack(jars[artifact], made, own_fibers=runtime.fibers is None)
        fibers = capsule.fibers
        if runtime.fibers:
            # `l` is an option of the bundled release alone, and `m` is the upstream release's default.
            excluded = "x(" + fibers.options.split("x(", 1)[1].split(")", 1)[0] + ")"
            fibers = _Agent(jar=f"lib/{jars[runtime.fibers].name}", options=excluded)
            shutil.copy(jars[runtime.fibers], made / fibers.jar)
        shutil.copy(jars[DRIVER], made / "drivers")
        for each in applications:
            shutil.copy(jars[each], made / "cordapps")
        (made / _LOGGING_FILE).write_text(_LOGGING, encoding="utf-8")
        _compile(runtime, made)
        manifest = _InstalledManifest(
            version=installation.version,
            platform_version=capsule.platform_version,
            java_home=runtime.java_home,
            options=capsule.options if runtime.version > 8 else (),
            fibers=fibers,
            classpath=(
                "tool",
                *sorted(f"lib/{path.name}" for path in (made / "lib").iterdir()),
                *sorted(f"drivers/{path.name}" for path in (made / "drivers").iterdir()),
            ),
            heap_megabytes=runtime.heap_megabytes,
            node_options=runtime.node_options,
            artifacts=wanted_artifacts(installation.version, artifact, applications),
            files=dict(_hashes(made)),
        )
        (made / MANIFEST).write_text(manifest.model_dump_json(by_alias=True, indent=1), encoding="utf-8")
        # Read-only even for root, against mistakes.
        for path in made.rglob("*"):
            path.chmod(0o555 if path.is_dir() else 0o444)
        remove(folder)
        made.rename(folder)
        folder.chmod(0o555)


def remove(folder: Path) -> None:
    """Remove an installation, if there is one."""
    if folder.exists():
        for path in [folder, *folder.rglob("*")]:
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o755)
        shutil.rmtree(folder)


@dataclass(frozen=True)
class Installed:
    """An installation in a folder, as `install` made it."""

    folder: Path
    manifest: _InstalledManifest

    @classmethod
    def load(cls, folder: Path) -> "Installed":
        """Load an installation's manifest, without `verify`.

        Raises:
            InstallationError: the folder has no manifest, or an unreadable one.
        """
        path = folder / MANIFEST
        try:
            return cls(folder, _InstalledManifest.model_validate_json(path.read_bytes()))
        except OSError as error:
            raise InstallationError(f"{path}: {error.strerror}; wanted an installation of the ledger") from error
        except ValidationError as error:
            raise InstallationError(f"{path}: {error.errors()[0]['msg']}; wanted the manifest of one") from error

    def verify(self, version: str | None = None, artifacts: Mapping[str, str] | None = None) -> None:
        """Verify the hash of every file.

        Args:
            version: the required version; None: any.
            artifacts: the required artifacts, as from `wanted_artifacts`; None: any.

        Raises:
            InstallationError: a file is missing, changed or superfluous, or another version or artifact is required.
        """
        if version is not None and self.manifest.version != version:
            raise InstallationError(f"{self.folder}: Corda {self.manifest.version} is installed; wanted {version}")
        if artifacts is not None and artifacts != self.manifest.artifacts:
            made_of = self.manifest.artifacts
            others = dict(made_of.items() - artifacts.items())
            lacking = dict(artifacts.items() - made_of.items())
            raise InstallationError(
                f"{self.folder}: installed {_listed(others) or 'nothing besides'}; wanted "
                f"{_listed(lacking) or 'nothing besides'}: an image brings what it was built with"
            )
        found = dict(_hashes(self.folder))
        found.pop(MANIFEST, None)
        for path, wanted in self.manifest.files.items():
            if path not in found:
                raise InstallationError(f"{self.folder / path} is not there; wanted it with SHA-256 {wanted}")
            if found[path] != wanted:
                raise InstallationError(f"{self.folder / path}: SHA-256 is {found[path]}; wanted {wanted}")
        if strange := sorted(set(found) - set(self.manifest.files)):
            raise InstallationError(f"{self.folder / strange[0]} is not of the installation; wanted it gone")

    @property
    def fingerprint(self) -> str:
        """A hash over everything that may change the database's tables: Corda and the applications."""
        relevant = {
            path: digest
            for path, digest in self.manifest.files.items()
            if path.startswith(("lib/", "cordapps/", "drivers/"))
        }
        return hashlib.sha256(json.dumps(relevant, sort_keys=True).encode()).hexdigest()

    @property
    def applications(self) -> Path:
        """Folder of the bank's applications, for the node's configuration."""
        return self.folder / "cordapps"

    def node(self, properties: Mapping[str, str], arguments: Sequence[str] = ()) -> tuple[str, ...]:
        """The command line of a node, without secrets.

        Args:
            properties: Java's system properties, including those that `Node.java` reads.
            arguments: the node's arguments.
        """
        fibers = self.manifest.fibers
        return self._java(
            (
                f"-Xmx{self._node_megabytes}m",
                *self.manifest.node_options,
                f"-javaagent:{self.folder / fibers.jar}={fibers.options}",
                *self._logging,
                *(f"-D{name}={value}" for name, value in properties.items()),
            ),
            "ledger.corda.Node",
            arguments,
        )

    async def check_java(self) -> None:
        """Raise InstallationError unless `java -version` succeeds."""
        java = self._program
        status, _, errors = await run_to_end((java, "-version"), None, environment=_environment())
        if status:
            raise InstallationError(f"{java}: exit status {status}: {' '.join(errors[-1:])}; wanted it to start")

    def command(self, arguments: Sequence[str]) -> tuple[str, ...]:
        """The command line of a command of the node, such as `run-migration-scripts`; these run no flow."""
        options = (f"-Xmx{_COMMAND_MEGABYTES}m", *_COMMAND_OPTIONS, *self._logging)
        return self._java(options, "net.corda.node.Corda", arguments)

    async def tool(
        self,
        command: str,
        given: Mapping[str, Any],
        secrets: Mapping[str, str] | None = None,
        seconds: float | None = None,
        user: int | None = None,
    ) -> dict[str, Any]:
        """Run the Java tool, for some seconds, or minutes with a node's queues. Returns its answer.

        Args:
            command: one of `Tool.java`.
            given: the command's JSON document.
            secrets: environment variables.
            seconds: time limit; None: a minute, or ten with a node's queues.
            user: number of the tool's user; None: the caller's.

        Raises:
            ToolError: the tool refused its input, or did not answer in time.
        """
        megabytes = _TOOL_MEGABYTES
        if command in _QUEUE_COMMANDS:
            megabytes, seconds = self._node_megabytes, seconds or _QUEUE_SECONDS
        seconds = _TOOL_SECONDS if seconds is None else seconds
        options = (f"-Xmx{megabytes}m", *_COMMAND_OPTIONS, *self._logging, "-Dledger.log=off")
        argv = self._java(options, "ledger.corda.Tool", (command,))
        try:
            async with asyncio.timeout(seconds):
                status, answer, errors = await run_to_end(
                    argv, user, environment=_environment(secrets), given=json.dumps(given)
                )
        except TimeoutError as error:
            raise ToolError(f"{command}: no answer in {seconds:.0f} s") from error
        except ValueError as error:
            raise ToolError(f"{command}: {error}") from error
        if status:
            refusals = [line.removeprefix(_REFUSED) for line in errors if line.startswith(_REFUSED)]
            why = refusals[-1] if refusals else f"{command}: exit status {status}: {' '.join(errors[-3:])}"
            # It may quote another member.
            raise ToolError(why[:_REFUSAL_CHARACTERS])
        try:
            return TypeAdapter(dict[str, Any]).validate_json(answer)
        except ValidationError as error:
            raise ToolError(f"{command}: {first_fault(error)}; wanted a JSON object") from error

    @property
    def _program(self) -> str:
        return str(self.manifest.java_home / "bin" / "java")

    @property
    def _node_megabytes(self) -> int:
        """A node's heap in MiB."""
        return self.manifest.heap_megabytes or _heap_megabytes()

    @property
    def _logging(self) -> tuple[str, ...]:
        return (f"-Dlog4j.configurationFile={self.folder / _LOGGING_FILE}", "-Dlog4j2.formatMsgNoLookups=true")

    def _java(self, options: Sequence[str], main: str, arguments: Sequence[str]) -> tuple[str, ...]:
        return (
            self._program,
            *self.manifest.options,
            *options,
            "-cp",
            os.pathsep.join(str(self.folder / each) for each in self.manifest.classpath),
            main,
            *arguments,
        )


def _listed(artifacts: Mapping[str, str]) -> str:
    return ", ".join(f"{coordinates} with SHA-256 {digest}" for coordinates, digest in sorted(artifacts.items()))


def _environment(secrets: Mapping[str, str] | None = None) -> dict[str, str]:
    # Only these: Java's variables could change what runs, and the agent's may hold secrets.
    return {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8", **(secrets or {})}


def _heap_megabytes() -> int:
    """Half of the memory above 1 GiB, in MiB, from 512 to 8192: a node needs as much again outside its heap."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
    return max(512, min(8192, (total - 1024) // 2))


def _check_java(runtime: Runtime) -> None:
    answer = _run(
        [str(runtime.java_home / "bin" / "java"), "-XshowSettings:properties", "-version"], _COMPILE_SECONDS
    )
    found = next(
        (line.split("=")[1].strip() for line in answer.splitlines() if "java.specification.version =" in line), "none"
    )
    if found.removeprefix("1.") != str(runtime.version):
        raise InstallationError(f"{runtime.java_home}: Java {found}; wanted {runtime.version}")


def _check_names(artifacts: Sequence[Artifact]) -> None:
    names: dict[str, Artifact] = {}
    for artifact in artifacts:
        if (other := names.setdefault(artifact.coordinates.partition(":")[2], artifact)) != artifact:
            raise InstallationError(
                f"{other.coordinates} and {artifact.coordinates} have one file name; wanted one for each"
            )


def fetch(artifact: Artifact, folder: Path, repository: str | None = None) -> Path:
    """An artifact's verified file, from the repository, or by Maven if that is None.

    Raises:
        InstallationError: the download fails, or the hash differs.
    """
    _, name, version = artifact.coordinates.split(":")
    folder.mkdir(exist_ok=True)
    jar = folder / f"{name}-{version}.jar"
    if repository:
        _download(_address(artifact, repository), jar)
    else:
        _ask_maven(artifact, folder)
    if not jar.is_file():
        raise InstallationError(f"{artifact.coordinates}: Maven brought no {jar.name}; wanted a jar")
    if (found := _sha256(jar)) != artifact.sha256:
        raise InstallationError(f"{artifact.coordinates}: SHA-256 is {found}; wanted {artifact.sha256}")
    return jar


def _ask_maven(artifact: Artifact, folder: Path) -> None:
    """Copy an artifact with Maven, from the repository that the machine is set up for.

    Maven runs plugins from there as root, whose hashes are not verified.
    """
    _run(
        [
            "mvn",
            "--batch-mode",
            "--quiet",
            _MAVEN_GOAL,
            f"-Dartifact={artifact.coordinates}",
            f"-DoutputDirectory={folder}",
            "-Dmdep.useBaseVersion=true",
        ],
        _FETCH_SECONDS,
        folder,
    )


def _address(artifact: Artifact, repository: str) -> str:
    """URL of the artifact in a repository with Maven's layout."""
    parts = urlsplit(repository)
    if parts.scheme != "https" or not parts.hostname or "@" in parts.netloc or parts.query or parts.fragment:
        raise InstallationError(
            "the repository's URL can't be used; wanted https://HOST/PATH, with no user, no query"
        )
    group, name, version = artifact.coordinates.split(":")
    path = "/".join(quote(each, safe="") for each in (*group.split("."), name, version, f"{name}-{version}.jar"))
    return f"{repository.rstrip('/')}/{path}"


def _download(address: str, path: Path) -> None:
    """Download a file over HTTPS, with retries; the content is not verified."""
    try:
        _run(
            [
                *("curl", "--disable", "--fail", "--silent", "--show-error"),
                # A repository may redirect, but only to HTTPS.
                *("--location", "--proto", "=https", "--max-redirs", "10"),
                # Without it curl does not retry a connection that was cut, and the VM's boot fails.
                *("--retry", str(_RETRIES), "--retry-delay", str(_PAUSE_SECONDS), "--retry-all-errors"),
                *("--connect-timeout", str(_SILENT_SECONDS)),
                *("--speed-limit", "1", "--speed-time", str(_SILENT_SECONDS)),
                # Also for files of unknown length, from curl 8.4 on; Ubuntu 24.04 has 8.5.
                *("--max-filesize", str(_MAX_ARTIFACT_BYTES)),
                "--globoff",
                # Some repositories refuse curl's own user agent.
                *("--user-agent", "decentralized-trust"),
                *("--output", str(path), address),
            ],
            _FETCH_SECONDS,
        )
    except InstallationError as error:
        raise InstallationError(f"{address}: {error}; wanted the artifact") from error


@dataclass(frozen=True)
class _Capsule:
    platform_version: int
    options: tuple[str, ...]
    fibers: _Agent


def _unpack(jar: Path, made: Path, *, own_fibers: bool) -> _Capsule:
    """Unpack the capsule's libraries to `lib`; returns the Java options that the capsule would have set."""
    try:
        with zipfile.ZipFile(jar) as capsule:
            # Main attributes end at the first empty line; a line that begins with a space continues the last one.
            text = capsule.read("META-INF/MANIFEST.MF").decode().replace("\r\n", "\n")
            main = text.split("\n\n", 1)[0].replace("\n ", "")
            attributes = dict(line.split(": ", 1) for line in main.split("\n") if ": " in line)
            agent, _, options = attributes["Java-Agents"].partition("=")
            opened = [f"--add-opens={each}=ALL-UNNAMED" for each in _OPENED]
            if "node-jvm-args.txt" in capsule.namelist():
                opened = capsule.read("node-jvm-args.txt").decode().split()
            for name in capsule.namelist():
                if "/" not in name and name.endswith(".jar") and (own_fibers or name != agent):
                    (made / "lib" / name).write_bytes(capsule.read(name))
            more = [each for each in attributes.get("JVM-Args", "").split() if each.startswith("-D")]
            return _Capsule(
                platform_version=int(attributes["Corda-Platform-Version"]),
                options=(*opened, f"--add-opens={_OPENED_FOR_METRICS}=ALL-UNNAMED", *more),
                fibers=_Agent(jar=f"lib/{agent}", options=options),
            )
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise InstallationError(f"{jar.name}: {error}; wanted Corda's node as a capsule") from error


def _compile(runtime: Runtime, made: Path) -> None:
    sources = sorted(str(path) for path in _SOURCES.rglob("*.java"))
    _run(
        [
            str(runtime.compiler),
            *("-source", "8", "-target", "8", "-encoding", "UTF-8", "-proc:none", "-nowarn", "-Xlint:-options"),
            *("-cp", os.pathsep.join(sorted(str(path) for path in (made / "lib").glob("*.jar")))),
            *("-d", str(made / "tool")),
            *sources,
        ],
        _COMPILE_SECONDS,
    )


def _run(argv: Sequence[str], seconds: float, folder: Path | None = None) -> str:
    """Run a program to its end; returns its output."""
    try:
        done = subprocess.run(  # noqa: S603  # Programs and arguments are named here.
            argv, capture_output=True, text=True, check=False, timeout=seconds, cwd=folder, stdin=subprocess.DEVNULL
        )
    except OSError as error:
        raise InstallationError(f"{argv[0]}: {error.strerror}; wanted the program to be there") from error
    except subprocess.TimeoutExpired as error:
        raise InstallationError(f"{argv[0]}: not done in {seconds:.0f} s") from error
    printed = done.stdout + done.stderr
    if done.returncode != 0:
        errors = [line for line in printed.splitlines() if "rror" in line] or printed.strip().splitlines()
        raise InstallationError(f"{Path(argv[0]).name}: exit status {done.returncode}: {' '.join(errors[:3])[:800]}")
    return printed


def _hashes(folder: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(folder.rglob("*")):
        if not path.is_dir() or path.is_symlink():
            with contextlib.suppress(FileNotFoundError):
                yield str(path.relative_to(folder)), _sha256(path) if path.is_file() else ""


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
