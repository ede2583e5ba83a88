"""Runs the real Pulumi engine against the offline Azure.

`python -m lab.azure.engine STACK preview|up|refresh|destroy ...` runs this `pulumi` command for one stack. Without
arguments it opens a shell in which plain `pulumi` uses the offline Azure. Both use the consortium that
`python -m lab.azure.consortium` deploys, whose backend, passphrase and Azure are below `.offline/`. Tracked files are
never changed.
"""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from lab import ROOT
from lab.azure.azure import Account, OfflineAzure, Subscription
from lab.azure.program import PROJECT, full_key, read_configuration
from lab.azure.provider import serve
from lab.azure.stack_file import StackFileError, read_document
from lab.azure.stacks import account_of, enrolled, stack_file

STATE = ROOT / ".offline"
"""Folder of the local consortia: backend, passphrase and Azure."""
SAMPLE = "sample"
"""The default consortium of all commands."""
_PASSPHRASE = "offline"  # noqa: S105  (of a backend without real secrets)
_OF_THE_SECRETS_PROVIDER = ("secretsprovider", "encryptedkey", "encryptionsalt")
_SUPERVISOR = Path(__file__).with_name("supervisor.py")
_OFFICIAL_INSTALL = Path.home() / ".pulumi" / "bin" / "pulumi"


class EngineError(Exception):
    """The engine refused or failed; the message is what it printed."""


def find_cli() -> str | None:
    """Path of the Pulumi CLI: on PATH, or where the official installer puts it; None if it is not installed."""
    return shutil.which("pulumi") or (str(_OFFICIAL_INSTALL) if _OFFICIAL_INSTALL.is_file() else None)


@dataclass
class Engine:
    """The real engine with one consortium's backend and offline Azure."""

    consortium: str = "default"
    """Name of the consortium's folder below `root`."""
    root: Path = STATE
    azure_seconds: Any = None
    """How many seconds each type takes to create, as `OfflineAzure.seconds`."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Additional environment variables of the CLI."""
    account: Account | None = None
    """The account that all stacks deploy to; by default each stack's bank has its own, which is recorded."""

    @staticmethod
    def of(consortium: str) -> "Engine":
        """The engine of a consortium, by its name. Its folder differs from that of a run without an engine."""
        return Engine(f"{consortium}-engine", STATE)

    @property
    def folder(self) -> Path:
        """The folder with all state of the consortium."""
        return self.root / self.consortium

    @property
    def project(self) -> Path:
        """The Pulumi project: links to the files of the checkout, and this consortium's configuration files."""
        return self.folder / "project"

    def configuration_of(self, stack: str) -> Path:
        """Path of the stack's configuration file in the project."""
        return self.project / f"Pulumi.{stack}.yaml"

    def prepare(
        self, stack: str, *, source: Path | None = None, changes: Mapping[str, Any] | None = None
    ) -> list[str]:
        """Write the project and the stack's configuration, and create the stack if it does not exist.

        Args:
            stack: the stack's name.
            source: its configuration file; by default the sample of this name.
            changes: configuration keys to set to other values, or to remove (None).

        Returns:
            The keys that somebody changed in the project since the last call, and that this call reset.

        Raises:
            EngineError: no file is given, and there is no such sample.
            StackFileError: `source` is not a stack's configuration.
        """
        self._lay_out_project()
        path = source or stack_file(stack)
        if path is None:
            raise EngineError(
                f"stack {stack:.200} is not deployed, and no sample has that name; wanted a stack of which "
                "`python -m lab.azure.consortium join` was given the file"
            )
        configuration = read_configuration(path)
        if self.account is None:
            enrolled(self.project, path, configuration.member)
        target = self.configuration_of(stack)
        stored = read_document(target) if target.exists() else {}
        document = read_document(path)
        # Only the stack's own secrets provider opens what the file holds encrypted: here placeholders are encrypted.
        for key in _OF_THE_SECRETS_PROVIDER:
            document.pop(key, None)
        document["config"] = {
            key: value
            for key, value in document["config"].items()
            if full_key(path, key) not in configuration.secret_keys
        }
        for key, value in (changes or {}).items():
            if value is None:
                document["config"].pop(key, None)
            else:
                document["config"][key] = value
        if "encryptionsalt" in stored:
            document["encryptionsalt"] = stored["encryptionsalt"]
        # JSON, which is valid YAML: PyYAML leaves texts such as 1e3 unquoted, which other parsers read as numbers.
        text, written = json.dumps(document), self.folder / "written" / f"{stack}.json"
        last = json.loads(written.read_text(encoding="utf-8")) if written.exists() and stored else stored
        written.parent.mkdir(exist_ok=True)
        for path in (target, written):
            path.write_text(text, encoding="utf-8")
        if not self.has(stack):
            self.run(["stack", "init", stack, "--non-interactive"])
        for key in sorted(set(configuration.secret_keys).difference(changes or ())):
            self.run(["config", "set", "--stack", stack, "--secret", key, "--", configuration.values[key]])
        document = read_document(target)
        written.write_text(json.dumps(document), encoding="utf-8")
        by_hand, before, now = (each.get("config", {}) for each in (stored, last, document))
        changed = {key for key in {*by_hand, *before} if by_hand.get(key) != before.get(key)}
        return sorted(key for key in changed if by_hand.get(key) != now.get(key))

    def stand_in(self, stack: str, outputs: Mapping[str, Any]) -> None:
        """Import a stack that has only these outputs, for stack references."""
        self._lay_out_project()
        if not self.has(stack):
            self.run(["stack", "init", stack, "--non-interactive"])
        kind = "pulumi:pulumi:Stack"
        urn = f"urn:pulumi:{stack}::{PROJECT}::{kind}::{PROJECT}-{stack}"
        now = datetime.now(UTC).isoformat()
        resource = {
            "urn": urn,
            "type": kind,
            "custom": False,
            "outputs": dict(outputs),
            "created": now,
            "modified": now,
        }
        manifest = {"time": now, "magic": "", "version": ""}
        deployment = {"version": 3, "deployment": {"manifest": manifest, "resources": [resource]}}
        self.run(["stack", "import", "--stack", stack], stdin=json.dumps(deployment))

    def has(self, stack: str) -> bool:
        """Whether the backend has a stack of this name."""
        stacks = self.folder / "backend" / ".pulumi" / "stacks" / PROJECT
        return (stacks / f"{stack}.json").exists()

    def run(
        self, arguments: Sequence[str], *, provider: str | None = None, show: bool = False, stdin: str = ""
    ) -> str:
        """Run the CLI; returns its standard output.

        Args:
            arguments: the CLI's arguments.
            provider: the value of PULUMI_DEBUG_PROVIDERS, for commands that need the offline Azure.
            show: use this process's terminal instead of capturing the output.
            stdin: text for its standard input.

        Raises:
            EngineError: the CLI exited with an error; the message contains all of its output.
        """
        process = subprocess.Popen(  # noqa: S603
            _command(arguments),
            cwd=self.project,
            env=self.environment_of(provider),
            stdin=None if show else subprocess.PIPE,
            stdout=None if show else subprocess.PIPE,
            stderr=None if show else subprocess.PIPE,
            text=True,
        )
        try:
            stdout, stderr = process.communicate(None if show else stdin)
        except KeyboardInterrupt:
            # The terminal interrupted the engine too, which finishes its running operations.
            stdout, stderr = process.communicate()
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
        if process.returncode != 0:
            raise EngineError(
                f"pulumi {' '.join(arguments)} failed ({process.returncode}):\n{_said(stdout or '')}{stderr or ''}"
            )
        return stdout or ""

    def on_azure(self, stack: str, arguments: Sequence[str], *, show: bool = False) -> str:
        """Run the CLI for a stack, against the offline Azure; returns its standard output.

        Raises:
            EngineError: the CLI failed, or another run uses this consortium.
        """
        with self.locked(), self._provider() as provider:
            return self.run([*arguments, "--stack", stack], provider=provider, show=show)

    def shell(self, command: Sequence[str]) -> int:
        """Run a command in the project, where plain `pulumi` uses the offline Azure; returns its exit status."""
        self._lay_out_project()
        with self._provider() as provider:
            return subprocess.run(  # noqa: S603
                command, cwd=self.project, env=self.environment_of(provider), check=False
            ).returncode

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the consortium against other commands.

        Raises:
            EngineError: another command holds the lock.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise EngineError(f"another run uses {self.folder}; wanted one at a time") from error
            yield

    @contextmanager
    def _provider(self) -> Iterator[str]:
        azure = OfflineAzure(self.folder / "azure.json")
        if self.azure_seconds:
            azure.seconds = self.azure_seconds

        def subscription_of(stack: str) -> Subscription:
            azure.read_file()
            path = self.configuration_of(stack)
            return azure.account(self.account or account_of(path, read_configuration(path)))

        with serve(subscription_of) as provider:
            yield provider

    def outputs(self, stack: str) -> dict[str, Any]:
        """The stack's outputs."""
        outputs: dict[str, Any] = json.loads(self.run(["stack", "output", "--json", "--stack", stack]))
        return outputs

    def environment_of(self, provider: str | None) -> dict[str, str]:
        """The environment in which `pulumi` uses this consortium's backend and, with a provider, its Azure."""
        backend = self.folder / "backend"
        backend.mkdir(parents=True, exist_ok=True)
        found = Path(_cli()).parent
        return {
            **os.environ,
            "PATH": f"{found}{os.pathsep}{os.environ.get('PATH', '')}",
            "PULUMI_BACKEND_URL": f"file://{backend}",
            "PULUMI_CONFIG_PASSPHRASE": _PASSPHRASE,
            # Without these the engine waits for plug-ins and updates that it can't reach.
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
            **({"PULUMI_DEBUG_PROVIDERS": provider} if provider else {}),
            **self.environment,
        }

    def _lay_out_project(self) -> None:
        self.project.mkdir(parents=True, exist_ok=True)
        for source in ROOT.iterdir():
            link = self.project / source.name
            # Also the user's own: a configuration names cards by their paths in the project. YAML is written here.
            if not source.name.startswith(".") and source.suffix != ".yaml" and not os.path.lexists(link):
                link.symlink_to(source)
        project = yaml.safe_load((ROOT / "Pulumi.yaml").read_text(encoding="utf-8"))
        project["runtime"]["options"]["virtualenv"] = str(Path(sys.prefix))
        (self.project / "Pulumi.yaml").write_text(yaml.safe_dump(project, sort_keys=False), encoding="utf-8")


def _said(stdout: str) -> str:
    """What a failed command printed; of a preview in JSON only its messages."""
    try:
        return "".join(each["message"] for each in json.loads(stdout)["diagnostics"])
    except (ValueError, LookupError, TypeError):
        return stdout


def _cli() -> str:
    cli = find_cli()
    if cli is None:
        raise EngineError("no Pulumi CLI on PATH or in ~/.pulumi/bin; wanted one: pulumi.com/docs/install")
    return cli


def _command(arguments: Sequence[str]) -> list[str]:
    command = [_cli(), *arguments]
    # On other systems the engine itself notices that its providers have ended.
    return [sys.executable, "-I", "-S", str(_SUPERVISOR), *command] if sys.platform == "linux" else command


def main(arguments: list[str]) -> int:
    """Run `pulumi` for one stack, or a shell; returns the exit status."""
    stack, *command = arguments or [""]
    if stack and not command:
        print(__doc__, file=sys.stderr)
        return 2
    engine = Engine.of(SAMPLE)
    try:
        if not command:
            print(f"plain `pulumi` uses the offline Azure in this shell, in {engine.project}; `exit` leaves it")
            return engine.shell([os.environ.get("SHELL", "/bin/sh")])
        if not engine.has(stack):
            engine.prepare(stack, changes=_reachable_peers(engine, stack))
        engine.on_azure(stack, command, show=True)
    except (EngineError, StackFileError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _reachable_peers(engine: Engine, stack: str) -> dict[str, Any]:
    """Configuration changes that leave only those of the sample's peers whose stacks exist in this backend.

    Prints which peers are left out, and whether that leaves the bank without a network.
    """
    path = stack_file(stack)
    if path is None:
        return {}
    configuration = read_configuration(path)
    peers = [each for each in configuration.peers if "card" in each or engine.has(each["stack"].rsplit("/", 1)[-1])]
    for line in configuration.left_out(peers):
        print(f"{stack}: {line}", file=sys.stderr)
    return configuration.changes(configuration.with_peers(peers))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
