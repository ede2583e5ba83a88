"""Corda's artifacts on a VM: fetched, verified and unpacked once; verified again before each start of a node."""

import asyncio
import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError
from urllib.parse import quote, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from ledger.platform import Artifact, Installation

KNOWN: Mapping[str, Artifact] = {
    "4.10": Artifact("net.corda:corda:4.10", "349ae73e5656e154158c1bc5e4040cf4f529b4992995daabfada7371a11ac8c8"),
}
"""The releases of Corda Community that stand in a public Maven repository, by version."""
DRIVER = Artifact(
    "org.postgresql:postgresql:42.7.7", "157963d60ae66d607e09466e8c0cdf8087e9cb20d0159899ffca96bca2528460"
)
"""PostgreSQL's JDBC driver."""

MANIFEST = "manifest.json"
_REFUSED = "refused: "
_SOURCES = Path(__file__).parent / "java"
_LOGGING_FILE = "log4j2.xml"
_LOGGING = """\
<?xml version="1.0" encoding="UTF-8"?>
<!-- To the agent's output, and so to the VM's journal, which sets the time; no file of its own. -->
<Configuration status="ERROR" shutdownHook="disable">
  <Appenders>
    <Console name="journal" target="SYSTEM_OUT">
      <!-- Of each queue that Corda makes: it has no address for letters that can't be delivered, as it means to. -->
      <RegexFilter regex=".*AMQ22216[56].*" onMatch="DENY" onMismatch="NEUTRAL"/>
      <PatternLayout pattern="%p %c{1}: %m%n%xThrowable{20}"/>
    </Console>
  </Appenders>
  <Loggers>
    <Root level="${sys:ledger.log:-warn}"><AppenderRef ref="journal"/></Root>
    <Logger name="net.corda" level="${sys:ledger.log:-info}"/>
  </Loggers>
</Configuration>
"""
# Maven would take whatever version of its plugin the repository calls the newest.
_MAVEN_GOAL = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy"
_FETCH_SECONDS = 900
_SILENT_SECONDS = 60
_ATTEMPTS = 3
_PAUSE_SECONDS = 5.0
# Several times Corda's capsule.
_MAX_ARTIFACT_BYTES = 512 << 20
_PART_BYTES = 1 << 20
_COMPILE_SECONDS = 120
_TOOL_SECONDS = 60
# They live for seconds.
_COMMAND_OPTIONS = ("-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
_TOOL_OPTIONS = ("-Xmx256m", *_COMMAND_OPTIONS[1:])
# What a capsule before 4.12 opens by itself where Java has modules.
_OPENED = tuple(
    f"java.base/java.{package}" for package in ("io", "lang", "lang.invoke", "lang.reflect", "nio", "time", "util")
)
# This one stands in the capsule's manifest, which counts only for `java -jar`.
_OPENED_FOR_FIGURES = "java.management/com.sun.jmx.mbeanserver"


class InstallationError(Exception):
    """The artifacts can't be installed or used; the message names what is wrong, and what was wanted."""


class ToolError(Exception):
    """Corda's code refused what it was given; the message says why."""


@dataclass(frozen=True)
class Runtime:
    """The machine's Java, and how a node uses it."""

    java_home: Path
    """Folder of the runtime that nodes run on: `bin/java` is in it."""
    compiler: Path
    """The program `javac`."""
    version: int
    """Java's major version that `java_home` must be."""
    fibers: Artifact | None = None
    """Quasar, where not the one in the capsule; that one knows Java 8 alone."""
    heap_megabytes: int | None = None
    """Of a node; None takes its share of the machine's memory."""
    node_options: tuple[str, ...] = ("-XX:+UseG1GC",)
    """More of Java's options for a node."""


def java_version(version: str) -> int:
    """Java's major version that a release of Corda runs on: 8 for 4.8 to 4.11, 17 from 4.12 on."""
    return 17 if int(version.split(".")[1]) >= 12 else 8


def find_runtime(version: str) -> Runtime:
    """The Java of Ubuntu's package for a release of Corda.

    Raises:
        InstallationError: it is not there.
    """
    wanted = java_version(version)
    for home in sorted(Path("/usr/lib/jvm").glob(f"java-{wanted}-openjdk-*")):
        compiler = home / "bin" / "javac"
        # A compiler's `java` lies beside it, or in the runtime inside of it.
        runtime = home / "jre" if (home / "jre" / "bin" / "java").exists() else home
        if compiler.exists() and (runtime / "bin" / "java").exists():
            return Runtime(runtime, compiler, wanted)
    raise InstallationError(
        f"no Java {wanted} with its compiler below /usr/lib/jvm; wanted it for Corda {version}: "
        f"package openjdk-{wanted}-jdk-headless"
    )


class _Agent(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    jar: str
    options: str


class _Manifest(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)

    version: str
    platform_version: int
    java_home: Path
    options: tuple[str, ...]
    """Of each Java process."""
    fibers: _Agent
    """The Java agent that a node's flows need."""
    classpath: tuple[str, ...]
    heap_megabytes: int | None
    node_options: tuple[str, ...]
    artifacts: dict[str, str]
    """What it was made of, as `wanted_artifacts` tells it."""
    files: dict[str, str]
    """SHA-256 of every file, by its path in the folder."""


def wanted_artifacts(version: str, artifact: Artifact | None, applications: Sequence[Artifact]) -> dict[str, str]:
    """SHA-256 of what a bank can choose, by coordinates: the ledger software, and the applications.

    Raises:
        InstallationError: the software of that version is not known here, and not given.
    """
    return {
        each.coordinates: each.sha256.lower() for each in (_software(version, artifact), *dict.fromkeys(applications))
    }


def _software(version: str, artifact: Artifact | None) -> Artifact:
    found = artifact or KNOWN.get(version)
    if found is None:
        raise InstallationError(
            f"version {version}: its artifact is not known here; wanted one of {', '.join(KNOWN)}, "
            "or COORDINATES=SHA256 of it"
        )
    return found


def install(installation: Installation, runtime: Runtime | None = None) -> None:
    """Fetch, verify and unpack the artifacts of a version, and compile what of this project runs in Java.

    Args:
        installation: what is wanted.
        runtime: the machine's Java; None looks for that of Ubuntu's package.

    Raises:
        InstallationError: an artifact is not the one that is wanted, or a program fails.
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
        jars = {each: _fetch(each, fetched, installation.repository) for each in wanted}
        capsule = _unpack(jars[artifact], made, own_fibers=runtime.fibers is None)
        fibers = capsule.fibers
        if runtime.fibers:
            # An option of the bundled one alone: the upstream release knows no `l`, and `m` is its default.
            excluded = "x(" + fibers.options.split("x(", 1)[1].split(")", 1)[0] + ")"
            fibers = _Agent(jar=f"lib/{jars[runtime.fibers].name}", options=excluded)
            shutil.copy(jars[runtime.fibers], made / fibers.jar)
        shutil.copy(jars[DRIVER], made / "drivers")
        for each in applications:
            shutil.copy(jars[each], made / "cordapps")
        (made / _LOGGING_FILE).write_text(_LOGGING, encoding="utf-8")
        _compile(runtime, made)
        manifest = _Manifest(
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
        # Nobody but root writes there; nor does root by mistake.
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
    """What `install` left in a folder."""

    folder: Path
    manifest: _Manifest

    @classmethod
    def load(cls, folder: Path) -> "Installed":
        """The installation in a folder; `verify` says whether it is whole.

        Raises:
            InstallationError: there is none.
        """
        path = folder / MANIFEST
        try:
            return cls(folder, _Manifest.model_validate_json(path.read_bytes()))
        except OSError as error:
            raise InstallationError(f"{path}: {error.strerror}; wanted an installation of the ledger") from error
        except ValidationError as error:
            raise InstallationError(f"{path}: {error.errors()[0]['msg']}; wanted the manifest of one") from error

    def verify(self, version: str | None = None, artifacts: Mapping[str, str] | None = None) -> None:
        """Read every file again; about half a second.

        Args:
            version: the one that is wanted.
            artifacts: what is wanted, as `wanted_artifacts` tells it.

        Raises:
            InstallationError: a file is missing, another, or not of the installation; or another one is wanted.
        """
        if version is not None and self.manifest.version != version:
            raise InstallationError(f"{self.folder}: Corda {self.manifest.version} is installed; wanted {version}")
        if artifacts is not None and artifacts != self.manifest.artifacts:
            made_of = self.manifest.artifacts
            others = dict(made_of.items() - artifacts.items())
            lacking = dict(artifacts.items() - made_of.items())
            raise InstallationError(
                f"{self.folder}: installed {_told(others) or 'nothing besides'}; wanted "
                f"{_told(lacking) or 'nothing besides'}: an image brings what it was built with"
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
        """A hash that changes with whatever may change the database's tables: Corda and the applications."""
        kept = {
            path: digest
            for path, digest in self.manifest.files.items()
            if path.startswith(("lib/", "cordapps/", "drivers/"))
        }
        return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()

    @property
    def applications(self) -> Path:
        """Folder of the bank's applications, as a node's configuration names it."""
        return self.folder / "cordapps"

    def node(self, properties: Mapping[str, str], arguments: Sequence[str] = ()) -> tuple[str, ...]:
        """The command line of a node; no secret belongs in it.

        Args:
            properties: Java's system properties, among them what the node's wrapper is told.
            arguments: of the node.
        """
        fibers = self.manifest.fibers
        heap = self.manifest.heap_megabytes or _heap_megabytes()
        return self._java(
            (
                f"-Xmx{heap}m",
                *self.manifest.node_options,
                "-XX:+ExitOnOutOfMemoryError",
                f"-javaagent:{self.folder / fibers.jar}={fibers.options}",
                *self._logging,
                *(f"-D{name}={value}" for name, value in properties.items()),
            ),
            "ledger.corda.Node",
            arguments,
        )

    def command(self, arguments: Sequence[str]) -> tuple[str, ...]:
        """The command line of one of the node's commands, such as `run-migration-scripts`, which run no flow."""
        return self._java((*_COMMAND_OPTIONS, *self._logging), "net.corda.node.Corda", arguments)

    async def tool(
        self,
        command: str,
        given: Mapping[str, Any],
        secrets: Mapping[str, str] | None = None,
        seconds: float = _TOOL_SECONDS,
    ) -> dict[str, Any]:
        """What the Java tool answers; some three seconds.

        Args:
            command: `parameters`, `sign-parameters`, `verify-parameters`, `node-info` or `drain`.
            given: the command's document.
            secrets: environment variables.
            seconds: after so long the tool is killed.

        Raises:
            ToolError: it refused, or did not answer.
        """
        argv = self._java((*_TOOL_OPTIONS, *self._logging, "-Dledger.log=off"), "ledger.corda.Tool", (command,))
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=_environment(secrets),
            cwd="/",
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(seconds):
                answer, errors = await process.communicate(json.dumps(given).encode())
        except TimeoutError as error:
            raise ToolError(f"{command}: no answer in {seconds:.0f} s") from error
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode != 0:
            lines = errors.decode(errors="replace").splitlines()
            told = [line.removeprefix(_REFUSED) for line in lines if line.startswith(_REFUSED)]
            raise ToolError(
                told[-1] if told else f"{command}: exit status {process.returncode}: {' '.join(lines[-3:])}"
            )
        return dict(json.loads(answer))

    @property
    def _logging(self) -> tuple[str, ...]:
        return (f"-Dlog4j.configurationFile={self.folder / _LOGGING_FILE}", "-Dlog4j2.formatMsgNoLookups=true")

    def _java(self, options: Sequence[str], main: str, arguments: Sequence[str]) -> tuple[str, ...]:
        return (
            str(self.manifest.java_home / "bin" / "java"),
            *self.manifest.options,
            *options,
            "-cp",
            os.pathsep.join(str(self.folder / each) for each in self.manifest.classpath),
            main,
            *arguments,
        )


def _told(artifacts: Mapping[str, str]) -> str:
    return ", ".join(f"{coordinates} with SHA-256 {digest}" for coordinates, digest in sorted(artifacts.items()))


def _environment(secrets: Mapping[str, str] | None) -> dict[str, str]:
    # Java's own variables would change what runs; the agent's may hold secrets of its own.
    return {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8", **(secrets or {})}


def _heap_megabytes() -> int:
    """Half of what the machine has beyond a gigabyte for all else: a node has as much again outside of its heap."""
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
    names: dict[tuple[str, ...], Artifact] = {}
    for artifact in artifacts:
        parts = artifact.coordinates.split(":")
        if len(parts) != 3 or not all(parts):
            raise InstallationError(f"artifact {artifact.coordinates!r}; wanted GROUP:NAME:VERSION")
        if (other := names.setdefault(tuple(parts[1:]), artifact)) != artifact:
            raise InstallationError(
                f"{other.coordinates} and {artifact.coordinates} have one file name; wanted one for each"
            )


def _fetch(artifact: Artifact, folder: Path, repository: str | None) -> Path:
    """The artifact's file, from the repository that is given, or by the machine's Maven; verified."""
    _, name, version = artifact.coordinates.split(":")
    folder.mkdir(exist_ok=True)
    jar = folder / f"{name}-{version}.jar"
    if repository:
        _download(_address(artifact, repository), jar)
    else:
        _ask_maven(artifact, folder)
    if not jar.is_file():
        raise InstallationError(f"{artifact.coordinates}: Maven brought no {jar.name}; wanted a jar")
    if (found := _sha256(jar)) != artifact.sha256.lower():
        raise InstallationError(f"{artifact.coordinates}: SHA-256 is {found}; wanted {artifact.sha256}")
    return jar


def _ask_maven(artifact: Artifact, folder: Path) -> None:
    """Copy the artifact's file from whatever repository the machine's Maven is set up for.

    Maven runs plugins of its own from there, as root, and verifies no hash that is known here.
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
    """Where a repository in Maven's layout has the artifact's file."""
    parts = urlsplit(repository)
    if parts.scheme != "https" or not parts.hostname or "@" in parts.netloc or parts.query or parts.fragment:
        raise InstallationError(
            "the repository's URL can't be used; wanted https://HOST/PATH, with no user, no query"
        )
    group, name, version = artifact.coordinates.split(":")
    path = "/".join(quote(each, safe="") for each in (*group.split("."), name, version, f"{name}-{version}.jar"))
    return f"{repository.rstrip('/')}/{path}"


class _HttpsAlone(HTTPRedirectHandler):
    """A repository may lead to where its files are, but not out of TLS."""

    def redirect_request(  # noqa: PLR0917  # The base class has them so.
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        where = urlsplit(newurl)
        if where.scheme != "https":
            raise InstallationError(f"{req.full_url}: leads to {where.scheme}://{where.netloc}; wanted https://")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _download(address: str, path: Path) -> None:
    """Fetch a file over HTTPS, again where the repository is only busy; its content is not verified."""
    until = time.monotonic() + _FETCH_SECONDS
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            _download_once(address, path, until)
        except (OSError, HTTPException, ValueError) as error:
            final = isinstance(error, HTTPError) and error.code < 500 and error.code != 429
            if final or attempt == _ATTEMPTS:
                raise InstallationError(f"{address}: {error}; wanted the artifact") from error
            time.sleep(_PAUSE_SECONDS)
        else:
            return


def _download_once(address: str, path: Path, until: float) -> None:
    # Some repositories turn away Python's own name.
    request = Request(address, headers={"User-Agent": "decentralized-trust"})  # noqa: S310  # It is https.
    with build_opener(_HttpsAlone).open(request, timeout=_SILENT_SECONDS) as answer, path.open("wb") as file:
        while part := answer.read1(_PART_BYTES):
            file.write(part)
            if file.tell() > _MAX_ARTIFACT_BYTES:
                raise InstallationError(f"{address}: more than {_MAX_ARTIFACT_BYTES} bytes; wanted no more")
            if time.monotonic() > until:
                raise InstallationError(f"{address}: not done in {_FETCH_SECONDS} s")


@dataclass(frozen=True)
class _Capsule:
    platform_version: int
    options: tuple[str, ...]
    fibers: _Agent


def _unpack(jar: Path, made: Path, *, own_fibers: bool) -> _Capsule:
    """The capsule's libraries, into `lib`; what it would have told Java at its start is returned."""
    try:
        with zipfile.ZipFile(jar) as capsule:
            # Main attributes end at the first empty line, and a line that begins with a space goes on the last.
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
                options=(*opened, f"--add-opens={_OPENED_FOR_FIGURES}=ALL-UNNAMED", *more),
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
    """Run a program to its end; returns all that it printed."""
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
        told = [line for line in printed.splitlines() if "rror" in line] or printed.strip().splitlines()
        raise InstallationError(f"{Path(argv[0]).name}: exit status {done.returncode}: {' '.join(told[:3])[:800]}")
    return printed


def _hashes(folder: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(folder.rglob("*")):
        if not path.is_dir() or path.is_symlink():
            with contextlib.suppress(FileNotFoundError):
                yield str(path.relative_to(folder)), _sha256(path)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
