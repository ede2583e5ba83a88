"""Runs the real Pulumi engine against the offline Azure.

`python -m offline.engine STACK preview|up|refresh|destroy ...` runs `pulumi` so for the stack of a sample, with a
backend, a passphrase and an Azure of its own below `.offline/`. The tracked files are never changed.
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

from offline.azure import OfflineAzure
from offline.program import PEERS_KEY, PROJECT, ROOT, read_configuration
from offline.provider import serve
from offline.stacks import account_of, stack_file

STATE = ROOT / ".offline"
_PROGRAM = ("__main__.py", "*.py", "agent", "components", "delivery", "ledger", "examples")
_PASSPHRASE = "offline"  # noqa: S105  (of a backend that holds stand-ins only)
_SUPERVISOR = Path(__file__).with_name("supervisor.py")
_OFFICIAL_INSTALL = Path.home() / ".pulumi" / "bin" / "pulumi"


class EngineError(Exception):
    """The engine refused or failed; the message is what it printed."""


def find_cli() -> str | None:
    """The Pulumi CLI on PATH, or where the official installer puts it; None where there is none."""
    return shutil.which("pulumi") or (str(_OFFICIAL_INSTALL) if _OFFICIAL_INSTALL.is_file() else None)


@dataclass
class Engine:
    """The real engine with one consortium's backend and offline Azure."""

    consortium: str = "default"
    root: Path = STATE
    azure_seconds: Any = None
    """How long types take to create, as `OfflineAzure.seconds`."""
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Where everything of the consortium lies."""
        return self.root / self.consortium

    @property
    def project(self) -> Path:
        """The program's files as links, beside configuration files of this run's own."""
        return self.folder / "project"

    def prepare(self, stack: str, *, source: Path | None = None, changes: Mapping[str, Any] | None = None) -> None:
        """Lay out the project and the stack's configuration, and make the stack where it is not there yet.

        Args:
            stack: the stack's name.
            source: its configuration; by default that of the sample of this name.
            changes: configuration keys to set otherwise, or to leave out (None).

        Raises:
            EngineError: there is no such sample.
        """
        self._lay_out_project()
        path = source or stack_file(stack)
        if path is None:
            raise EngineError(f"no configuration of stack {stack}; wanted Pulumi.{stack}.yaml")
        target = self.project / f"Pulumi.{stack}.yaml"
        kept = yaml.safe_load(target.read_text(encoding="utf-8")) if target.exists() else {}
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        for key, value in (changes or {}).items():
            if value is None:
                document["config"].pop(key, None)
            else:
                document["config"][key] = value
        if "encryptionsalt" in kept:
            document["encryptionsalt"] = kept["encryptionsalt"]
        target.write_text(yaml.safe_dump(document, sort_keys=False, width=200), encoding="utf-8")
        if not self.has(stack):
            self.run(["stack", "init", stack, "--non-interactive"])

    def stand_in(self, stack: str, outputs: Mapping[str, Any]) -> None:
        """Put a stack into the backend that has nothing but outputs, for others to refer to."""
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
        """Run the CLI; returns what it wrote to its standard output.

        Raises:
            EngineError: it exited with an error; the message holds all that it wrote.
        """
        process = subprocess.Popen(  # noqa: S603
            _command(arguments),
            cwd=self.project,
            env=self._environment(provider),
            stdin=None if show else subprocess.PIPE,
            stdout=None if show else subprocess.PIPE,
            stderr=None if show else subprocess.PIPE,
            text=True,
        )
        try:
            stdout, stderr = process.communicate(None if show else stdin)
        except KeyboardInterrupt:
            # The terminal interrupted the engine too: it ends what it began, and says so.
            stdout, stderr = process.communicate()
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
        if process.returncode != 0:
            raise EngineError(
                f"pulumi {' '.join(arguments)} failed ({process.returncode}):\n{stdout or ''}{stderr or ''}"
            )
        return stdout or ""

    def on_azure(self, stack: str, arguments: Sequence[str], *, show: bool = False) -> str:
        """Run the CLI for a stack, with the offline Azure to talk to. One run of a consortium at a time."""
        with _one_at_a_time(self.folder):
            path = self.project / f"Pulumi.{stack}.yaml"
            source = stack_file(stack) or path
            azure = OfflineAzure(self.folder / "azure.json")
            if self.azure_seconds:
                azure.seconds = self.azure_seconds
            account = account_of(source, read_configuration(path))
            with serve(azure.account(account)) as provider:
                return self.run([*arguments, "--stack", stack], provider=provider, show=show)

    def outputs(self, stack: str) -> dict[str, Any]:
        """The stack's outputs."""
        outputs: dict[str, Any] = json.loads(self.run(["stack", "output", "--json", "--stack", stack]))
        return outputs

    def _environment(self, provider: str | None) -> dict[str, str]:
        backend = self.folder / "backend"
        backend.mkdir(parents=True, exist_ok=True)
        found = Path(_cli()).parent
        return {
            **os.environ,
            "PATH": f"{found}{os.pathsep}{os.environ.get('PATH', '')}",
            "PULUMI_BACKEND_URL": f"file://{backend}",
            "PULUMI_CONFIG_PASSPHRASE": _PASSPHRASE,
            # Without these the engine looks for plug-ins and updates that it can't reach, and waits.
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
            **({"PULUMI_DEBUG_PROVIDERS": provider} if provider else {}),
            **self.environment,
        }

    def _lay_out_project(self) -> None:
        self.project.mkdir(parents=True, exist_ok=True)
        for pattern in _PROGRAM:
            for source in ROOT.glob(pattern):
                link = self.project / source.name
                if not link.is_symlink():
                    link.symlink_to(source)
        project = yaml.safe_load((ROOT / "Pulumi.yaml").read_text(encoding="utf-8"))
        project["runtime"]["options"]["virtualenv"] = str(Path(sys.prefix))
        (self.project / "Pulumi.yaml").write_text(yaml.safe_dump(project, sort_keys=False), encoding="utf-8")


def _cli() -> str:
    cli = find_cli()
    if cli is None:
        raise EngineError("no Pulumi CLI on PATH or in ~/.pulumi/bin; wanted one: pulumi.com/docs/install")
    return cli


def _command(arguments: Sequence[str]) -> list[str]:
    command = [_cli(), *arguments]
    # Elsewhere the engine notices by itself that its providers are gone.
    return [sys.executable, "-I", "-S", str(_SUPERVISOR), *command] if sys.platform == "linux" else command


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise EngineError(f"another run uses {folder}; wanted one at a time") from error
        yield


def main(arguments: list[str]) -> int:
    """Run `pulumi` for one sample stack; returns the exit status."""
    if len(arguments) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    stack, *command = arguments
    engine = Engine()
    try:
        engine.prepare(stack, changes=_reachable_peers(engine, stack))
        engine.on_azure(stack, command, show=True)
    except EngineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _reachable_peers(engine: Engine, stack: str) -> dict[str, Any]:
    """The sample's peers whose stacks are up in this backend: a peer is listed once its stack is there."""
    path = stack_file(stack)
    if path is None:
        return {}
    peers = yaml.safe_load(path.read_text(encoding="utf-8"))["config"].get(PEERS_KEY, [])
    return {PEERS_KEY: [peer for peer in peers if "card" in peer or engine.has(peer["stack"].rsplit("/", 1)[-1])]}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
