"""Brings a whole consortium up without Azure, bank by bank, on the real engine or in this process.

`python -m offline.consortium up|join|down [...]`; see `--help`. What it makes lies below `.offline/`.
"""

import argparse
import json
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pulumi
import yaml
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from offline.azure import OfflineAzure
from offline.deployment import Deployment
from offline.engine import STATE, Engine, EngineError, find_cli
from offline.program import (
    LEDGER_KEY,
    ORGANIZATION,
    PEERS_KEY,
    PROJECT,
    ConfigurationError,
    StackConfiguration,
    read_configuration,
    run_program,
)
from offline.rules import AzureError
from offline.stacks import EXAMPLES, account_of

SAMPLE = EXAMPLES / "three-banks"
CONNECTION = "network:VirtualNetworkGatewayConnection"

Peers = Sequence[Mapping[str, Any]]


class Front(Protocol):
    """One way to run the program for the banks of a consortium."""

    @property
    def folder(self) -> Path:
        """Where the consortium's state lies."""

    def up(self, stack: str, source: Path, peers: Peers) -> dict[str, int]:
        """Bring one bank to its configuration with these peers; what changed, by kind; empty for no change."""

    def unchanged(self, stack: str, source: Path, peers: Peers) -> bool:
        """Whether a further run would change nothing."""

    def outputs(self, stack: str) -> dict[str, Any]:
        """The bank's stack outputs."""

    def destroy(self, stack: str, source: Path) -> None:
        """Remove all of the bank, what is protected too."""


@dataclass(frozen=True)
class InProcess:
    """Without an engine: Pulumi's mocks in this process."""

    folder: Path

    def up(self, stack: str, source: Path, peers: Peers) -> dict[str, int]:
        """See `Front`."""
        return self._run(stack, source, peers).changes

    def unchanged(self, stack: str, source: Path, peers: Peers) -> bool:
        """See `Front`. Without an engine there is no preview: it is a run that finds nothing to do."""
        return not self._run(stack, source, peers).changes

    def outputs(self, stack: str) -> dict[str, Any]:
        """See `Front`."""
        outputs: dict[str, Any] = json.loads(self._file(stack).read_text(encoding="utf-8"))["outputs"]
        return outputs

    def destroy(self, stack: str, source: Path) -> None:
        """See `Front`."""
        deployment = self._load(stack, source, read_configuration(source))
        with self._saving(stack, deployment):
            deployment.destroy()
        self._file(stack).unlink()

    def _file(self, stack: str) -> Path:
        return self.folder / "stacks" / f"{stack}.json"

    def _run(self, stack: str, source: Path, peers: Peers) -> Deployment:
        configuration = read_configuration(source).with_peers(peers)
        deployment = self._load(stack, source, configuration)
        references = {
            full_name(each.stem): json.loads(each.read_text(encoding="utf-8"))["outputs"]
            for each in (self.folder / "stacks").glob("*.json")
        }
        with self._saving(stack, deployment):
            run_program(configuration, references=references, deployment=deployment)
        return deployment

    def _load(self, stack: str, source: Path, configuration: StackConfiguration) -> Deployment:
        azure = OfflineAzure(self.folder / "azure.json")
        return Deployment.load(azure.account(account_of(source, configuration)), self._file(stack))

    @contextmanager
    def _saving(self, stack: str, deployment: Deployment) -> Iterator[None]:
        """What a run that fails has made is kept too, or nobody would know of it."""
        try:
            yield
        finally:
            if deployment.resources or self._file(stack).exists():
                deployment.save(self._file(stack))


@dataclass(frozen=True)
class OnEngine:
    """On the real engine, with a file backend."""

    engine: Engine

    @property
    def folder(self) -> Path:
        """See `Front`."""
        return self.engine.folder

    def up(self, stack: str, source: Path, peers: Peers) -> dict[str, int]:
        """See `Front`."""
        self.engine.prepare(stack, source=source, changes=_linked(source, peers))
        self.engine.on_azure(stack, ["up", "--yes", "--skip-preview", "--suppress-outputs"])
        history = json.loads(self.engine.run(["stack", "history", "--json", "--page-size", "1", "--stack", stack]))
        return {kind: count for kind, count in history[0]["resourceChanges"].items() if kind != "same"}

    def unchanged(self, stack: str, source: Path, peers: Peers) -> bool:
        """See `Front`."""
        self.engine.prepare(stack, source=source, changes=_linked(source, peers))
        try:
            self.engine.on_azure(stack, ["preview", "--expect-no-changes"])
        except EngineError as error:
            if "no changes were expected" in str(error):
                return False
            raise
        return True

    def outputs(self, stack: str) -> dict[str, Any]:
        """See `Front`."""
        return self.engine.outputs(stack)

    def destroy(self, stack: str, source: Path) -> None:  # noqa: ARG002
        """See `Front`."""
        self.engine.run(["state", "unprotect", "--all", "--yes", "--stack", stack])
        self.engine.on_azure(stack, ["destroy", "--yes", "--skip-preview"])
        self.engine.run(["stack", "rm", "--yes", "--stack", stack])


@dataclass
class Bank:
    """One bank that is up."""

    source: str
    peers: list[dict[str, Any]] = field(default_factory=list)


class Consortium:
    """The banks that are up, in the order of joining, and the front that runs them."""

    def __init__(self, front: Front, console: Console) -> None:
        self.front, self._console = front, console
        self._file = front.folder / "consortium.json"
        state = json.loads(self._file.read_text(encoding="utf-8")) if self._file.exists() else {}
        self.banks = {stack: Bank(**bank) for stack, bank in state.items()}

    def join(self, source: Path) -> None:
        """A bank joins: it comes up with the banks there are as peers, then each of them adds it."""
        stack = _stack(source)
        wanted = {peer["name"]: peer for peer in _peers(source)}
        names = {_member(Path(bank.source)): each for each, bank in self.banks.items() if each != stack}
        self._up(stack, source, [wanted.get(name) or reference(name, each) for name, each in names.items()])
        for each in names.values():
            bank, newcomer = self.banks[each], _member(source)
            known = any(peer["name"] == newcomer for peer in bank.peers)
            self._up(each, Path(bank.source), bank.peers if known else [*bank.peers, reference(newcomer, stack)])

    def sample(self, folder: Path = SAMPLE) -> None:
        """The sample's banks in the order of its `consortium.yaml`: each with those before it, then with all.

        A bank that is up already keeps its peers, those too that joined by hand.
        """
        order = list(yaml.safe_load((folder / "consortium.yaml").read_text(encoding="utf-8"))["banks"])
        sources = {stack: folder / f"Pulumi.{stack}.yaml" for stack in order}
        newcomers = [stack for stack in order if stack not in self.banks]
        for stack in newcomers:
            before = order[: order.index(stack)]
            self._up(stack, sources[stack], [peer for peer in _peers(sources[stack]) if peer["name"] in before])
        for stack in order:
            if stack not in newcomers[-1:]:
                stated, kept = _peers(sources[stack]), self.banks[stack].peers
                names = {peer["name"] for peer in stated}
                self._up(stack, sources[stack], [*stated, *(peer for peer in kept if peer["name"] not in names)])

    def down(self) -> None:
        """Take the consortium apart: each bank drops its peers first, then all are removed."""
        for stack, bank in self.banks.items():
            if bank.peers:
                self._up(stack, Path(bank.source), [])
        for stack in list(self.banks):
            with self._timed(stack, "is removed"):
                self.front.destroy(stack, Path(self.banks[stack].source))
            del self.banks[stack]
            self._save()
        shutil.rmtree(self.front.folder, ignore_errors=True)

    def links(self) -> dict[str, str]:
        """The status of each connection, by the id of the connection."""
        azure = OfflineAzure(self.front.folder / "azure.json")
        statuses = {}
        for stack, bank in self.banks.items():
            path = Path(bank.source)
            own = azure.account(account_of(path, read_configuration(path)))
            for resource_id, resource in azure.resources.items():
                if resource.short == CONNECTION and resource.subscription_id == own.account.subscription_id:
                    read = own.read(resource_id, {})
                    assert read is not None  # noqa: S101
                    name = resource_id.rsplit("/", 1)[-1]
                    statuses[f"{stack}: {name}"] = read[1]["connectionStatus"]
        return statuses

    def settled(self) -> bool:
        """Whether a further run of each bank would change nothing; says so bank by bank."""
        unchanged = []
        for stack, bank in self.banks.items():
            with self._timed(stack, "once more") as notes:
                unchanged.append(self.front.unchanged(stack, Path(bank.source), bank.peers))
                notes.append("no change" if unchanged[-1] else "[red]changes[/]")
        return all(unchanged)

    def show(self) -> None:
        """Print each bank's card and the state of each link."""
        table = Table(title="Membership cards", title_justify="left", box=None, padding=(0, 2, 0, 0))
        for column in ("bank", "address space", "gateway", "nodes", "fingerprint"):
            table.add_column(column)
        for stack in self.banks:
            outputs = self.front.outputs(stack)
            card = outputs["member"]
            gateway = card["gateway"]
            ends = ", ".join(instance["publicIp"] for instance in gateway["instances"])
            nodes = str(len(card["nodes"]))
            table.add_row(
                card["name"], card["addressSpace"], f"AS {gateway['asn']}: {ends}", nodes, outputs["fingerprint"][:23]
            )
        self._console.print(table)
        for name, status in self.links().items():
            self._console.print(f"  [{'green' if status == 'Connected' else 'red'}]{status}[/]  {name}")

    def _up(self, stack: str, source: Path, peers: Peers) -> None:
        with_whom = f"with {', '.join(peer['name'] for peer in peers)}" if peers else "alone"
        with self._timed(stack, f"up {with_whom}") as notes:
            changes = self.front.up(stack, source, peers)
            notes.append(
                ", ".join(f"{count} {_done(kind)}" for kind, count in sorted(changes.items())) or "no change"
            )
        self.banks[stack] = Bank(str(source), [dict(peer) for peer in peers])
        self._save()

    def _save(self) -> None:
        self.front.folder.mkdir(parents=True, exist_ok=True)
        self._file.write_text(json.dumps({stack: asdict(bank) for stack, bank in self.banks.items()}, indent=1))

    @contextmanager
    def _timed(self, stack: str, what: str) -> Iterator[list[str]]:
        notes: list[str] = []
        start = time.monotonic()
        self._console.print(f"  {stack:10} {what:28}", end="")
        yield notes
        self._console.print(f" {' '.join(notes):36} [bright_black]{time.monotonic() - start:5.1f} s[/]")


def _done(kind: str) -> str:
    """An operation in the engine's words, in the past: `created`, `discarded`, `created-replacement`."""
    verb, hyphen, rest = kind.partition("-")
    return f"{verb.removesuffix('e')}ed{hyphen}{rest}"


def full_name(stack: str) -> str:
    """A stack's name as a reference gives it."""
    return f"{ORGANIZATION}/{PROJECT}/{stack}"


def reference(name: str, stack: str) -> dict[str, Any]:
    """A peer by its stack, as configuration says it."""
    return {"name": name, "stack": full_name(stack)}


def _stack(source: Path) -> str:
    return source.stem.removeprefix("Pulumi.")


def _member(source: Path) -> str:
    return read_configuration(source).member


def _linked(source: Path, peers: Peers) -> dict[str, Any]:
    """What these peers change in a bank's configuration."""
    values = read_configuration(source).with_peers(peers).values
    return {key: json.loads(values[key]) for key in (PEERS_KEY, LEDGER_KEY) if key in values}


def _peers(source: Path) -> list[dict[str, Any]]:
    peers: list[dict[str, Any]] = json.loads(read_configuration(source).values.get(PEERS_KEY, "[]"))
    return peers


def choose_front(name: str, *, without_engine: bool) -> tuple[Front, str]:
    """The front for this machine, and one line that says which it is."""
    folder = STATE / name
    if find_cli() and not without_engine:
        return OnEngine(Engine(f"{name}-engine", STATE)), "on the real Pulumi engine, against the offline Azure"
    return InProcess(folder), (
        "in this process, under Pulumi's mocks: what only an engine shows (its diffs, refresh, policies) is not shown"
    )


def main(arguments: list[str]) -> int:
    """Run one command; returns the exit status, 1 where a bank can't be brought up or a link does not connect."""
    parser = argparse.ArgumentParser(prog="python -m offline.consortium", description=__doc__)
    parser.add_argument("command", choices=("up", "join", "down"))
    parser.add_argument("file", nargs="?", type=Path, help="join: the bank's configuration, Pulumi.<stack>.yaml")
    parser.add_argument("--name", default="sample", help="several consortia stand side by side by their names")
    parser.add_argument("--without-engine", action="store_true", help="in this process, even where a CLI is found")
    options = parser.parse_args(arguments)
    console = Console(highlight=False, soft_wrap=True)
    front, said = choose_front(options.name, without_engine=options.without_engine)
    console.print(f"[bold]{options.name}[/]: {said}")
    consortium = Consortium(front, console)
    try:
        if options.command == "down":
            consortium.down()
            return 0
        if options.command == "join":
            if options.file is None:
                parser.error("join wants the bank's configuration file")
            consortium.join(options.file)
        else:
            consortium.sample()
        settled = consortium.settled()
    except (AzureError, ConfigurationError, EngineError, pulumi.RunError) as error:
        console.print()
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"[red]error:[/] {escape(str(error))}")
        return 1
    consortium.show()
    connected = all(status == "Connected" for status in consortium.links().values())
    return 0 if settled and connected else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
