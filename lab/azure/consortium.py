"""Deploys a whole consortium without Azure, bank by bank, on the real engine or in this process.

`python -m lab.azure.consortium COMMAND ...`; see `--help`. Its state is below `.offline/`.
"""

import argparse
import json
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pulumi
import yaml
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from typing_extensions import override

from lab.azure.azure import OfflineAzure, Subscription
from lab.azure.deployment import Deployment
from lab.azure.engine import SAMPLE, STATE, Engine, EngineError, find_cli
from lab.azure.program import (
    ORGANIZATION,
    PROJECT,
    Run,
    StackConfiguration,
    read_configuration,
    run_program,
)
from lab.azure.rules import AzureError
from lab.azure.stack_file import StackFileError
from lab.azure.stacks import EXAMPLES, enrolled
from stack.outputs import CARD_OUTPUT, FINGERPRINT_OUTPUT

SAMPLE_CONSORTIUM = EXAMPLES / "three-banks"
"""The consortium that all commands deploy by default."""
CONNECTION = "network:VirtualNetworkGatewayConnection"
"""Token of a VPN or ExpressRoute connection, without the package."""

Peers = Sequence[Mapping[str, Any]]


class Front(Protocol):
    """One way to run the program for the banks of a consortium."""

    @property
    def folder(self) -> Path:
        """The folder with the consortium's state."""

    @property
    def organizations(self) -> Path:
        """The folder whose `consortium.yaml` records each bank's organisation."""

    def locked(self) -> AbstractContextManager[None]:
        """Lock the consortium against other commands."""

    def up(self, stack: str, source: Path, peers: Peers, *, first: bool = False) -> dict[str, int]:
        """Deploy one bank.

        Args:
            stack: the bank's stack.
            source: its configuration file.
            peers: its peers, in place of those in the file.
            first: whether this is the bank's first run, in which a founder's root is open.

        Returns:
            The number of changed resources by operation, such as `create`; empty for no change.
        """

    def unchanged(self, stack: str, source: Path, peers: Peers) -> bool:
        """Whether a further run would change nothing."""

    def outputs(self, stack: str) -> dict[str, Any]:
        """The bank's stack outputs."""

    def destroy(self, stack: str, source: Path) -> None:
        """Delete all resources of the bank, including protected ones, and its stack."""


@dataclass(frozen=True)
class InProcess(Front):
    """Runs the program without an engine: under Pulumi's mocks in this process."""

    state: Path
    """The folder with the consortium's state."""
    runs: dict[str, Run] = field(default_factory=dict)
    """The last run of each bank in this process, by its stack."""

    @property
    @override
    def folder(self) -> Path:
        return self.state

    @property
    @override
    def organizations(self) -> Path:
        return self.state

    @override
    def locked(self) -> AbstractContextManager[None]:
        return nullcontext()

    @override
    def up(self, stack: str, source: Path, peers: Peers, *, first: bool = False) -> dict[str, int]:
        return self._run(stack, source, peers, first=first).changes

    @override
    def unchanged(self, stack: str, source: Path, peers: Peers) -> bool:
        """Whether a further run changes nothing. It is a real run, since there is no preview without an engine."""
        return not self._run(stack, source, peers).changes

    @override
    def outputs(self, stack: str) -> dict[str, Any]:
        outputs: dict[str, Any] = json.loads(self._file(stack).read_text(encoding="utf-8"))["outputs"]
        return outputs

    @override
    def destroy(self, stack: str, source: Path) -> None:
        deployment = self._load(stack, source, read_configuration(source))
        with self._saving(stack, deployment):
            deployment.destroy()
        self._file(stack).unlink()

    def _file(self, stack: str) -> Path:
        return self.folder / "stacks" / f"{stack}.json"

    def _run(self, stack: str, source: Path, peers: Peers, *, first: bool = False) -> Deployment:
        configuration = _configured(source, peers, first=first)
        deployment = self._load(stack, source, configuration)
        references = {
            full_name(each.stem): json.loads(each.read_text(encoding="utf-8"))["outputs"]
            for each in (self.folder / "stacks").glob("*.json")
        }
        with self._saving(stack, deployment):
            self.runs[stack] = run_program(configuration, references=references, deployment=deployment)
        return deployment

    def _load(self, stack: str, source: Path, configuration: StackConfiguration) -> Deployment:
        account = enrolled(self.organizations, source, configuration.member)
        azure = OfflineAzure(self.folder / "azure.json")
        return Deployment.load(azure.account(account), self._file(stack))

    @contextmanager
    def _saving(self, stack: str, deployment: Deployment) -> Iterator[None]:
        """Save the stack even if the run fails, since the resources that it created exist."""
        try:
            yield
        finally:
            if deployment.resources or self._file(stack).exists():
                deployment.save(self._file(stack))


@dataclass(frozen=True)
class OnEngine(Front):
    """Runs the program on the real engine, with a file backend."""

    engine: Engine

    @property
    @override
    def folder(self) -> Path:
        return self.engine.folder

    @property
    @override
    def organizations(self) -> Path:
        return self.engine.project

    @override
    def locked(self) -> AbstractContextManager[None]:
        return self.engine.locked()

    @override
    def up(self, stack: str, source: Path, peers: Peers, *, first: bool = False) -> dict[str, int]:
        for key in self.engine.prepare(stack, source=source, changes=_changes(source, peers, first=first)):
            print(f"\n{stack}: {key} is as {source} has it, and no longer as it was set here", file=sys.stderr)
        self.engine.on_azure(stack, ["up", "--yes", "--skip-preview", "--suppress-outputs"])
        history = json.loads(self.engine.run(["stack", "history", "--json", "--page-size", "1", "--stack", stack]))
        return {kind: count for kind, count in history[0]["resourceChanges"].items() if kind != "same"}

    @override
    def unchanged(self, stack: str, source: Path, peers: Peers) -> bool:
        self.engine.prepare(stack, source=source, changes=_changes(source, peers))
        try:
            self.engine.on_azure(stack, ["preview", "--expect-no-changes"])
        except EngineError as error:
            if "no changes were expected" in str(error):
                return False
            raise
        return True

    @override
    def outputs(self, stack: str) -> dict[str, Any]:
        return self.engine.outputs(stack)

    @override
    def destroy(self, stack: str, source: Path) -> None:
        self.engine.run(["state", "unprotect", "--all", "--yes", "--stack", stack])
        self.engine.on_azure(stack, ["destroy", "--yes", "--skip-preview"])
        self.engine.run(["stack", "rm", "--yes", "--stack", stack])


@dataclass
class SampleBank:
    """One deployed bank."""

    source: str
    """Path of its configuration file."""
    peers: list[dict[str, Any]] = field(default_factory=list)
    """The bank's peers in the form of the configuration."""


class Consortium:
    """The deployed banks, in the order of joining, and the front that runs them."""

    def __init__(self, front: Front, console: Console) -> None:
        self.front, self._console = front, console
        self._file = front.folder / "consortium.json"
        state = json.loads(self._file.read_text(encoding="utf-8")) if self._file.exists() else {}
        self.banks = {stack: SampleBank(**bank) for stack, bank in state.items()}

    def join(self, source: Path, organization: str | None = None) -> None:
        """Deploy a bank with all existing banks as peers, then add it to the peers of each of them.

        Args:
            source: the bank's configuration file. If it lists a peer, that entry, such as the link, is used.
            organization: the bank's organisation, whose Entra tenant it uses; by default the one in
                `consortium.yaml` beside the file.
        """
        stack, configuration = _stack(source), read_configuration(source)
        enrolled(self.front.organizations, source, configuration.member, organization)
        others = {each: reference(Path(bank.source)) for each, bank in self.banks.items() if each != stack}
        peers = [_stated(configuration, peer) for peer in others.values()]
        self._say(stack, configuration.left_out(peers))
        self._up(stack, source, peers)
        if not others:
            # A founder's next run closes the root.
            self._up(stack, source, [])
        links = {str(peer["name"]): peer["link"] for peer in peers if "link" in peer}
        for each in others:
            bank = self.banks[each]
            other = read_configuration(Path(bank.source))
            newcomer = reference(source) | ({"link": links[other.member]} if other.member in links else {})
            known = any(peer["name"] == newcomer["name"] for peer in bank.peers)
            self._up(each, Path(bank.source), bank.peers if known else [*bank.peers, _stated(other, newcomer)])

    def leave(self, stack: str) -> None:
        """Remove a bank: first from the peers of each other bank, then its stack."""
        member = read_configuration(Path(self._bank(stack).source)).member
        for each, bank in self.banks.items():
            left = [peer for peer in bank.peers if peer["name"] != member]
            if each != stack and left != bank.peers:
                names = {str(peer["name"]) for peer in left}
                self._say(each, read_configuration(Path(bank.source)).network_left_out(names))
                self._up(each, Path(bank.source), left)
        self._remove(stack)

    def card(self, stack: str) -> tuple[dict[str, Any], str]:
        """A bank's card, and the fingerprint of the key that signs it."""
        self._bank(stack)
        outputs = self.front.outputs(stack)
        return outputs[CARD_OUTPUT], outputs[FINGERPRINT_OUTPUT]

    def subscription(self, stack: str) -> Subscription:
        """A bank's subscription in the offline Azure."""
        source = Path(self._bank(stack).source)
        account = enrolled(self.front.organizations, source, read_configuration(source).member)
        return OfflineAzure(self.front.folder / "azure.json").account(account)

    def _bank(self, stack: str) -> SampleBank:
        if stack not in self.banks:
            raise StackFileError(f"no bank {stack} is up; wanted one of {', '.join(self.banks) or 'those that join'}")
        return self.banks[stack]

    def _say(self, stack: str, lines: Iterable[str]) -> None:
        for line in lines:
            self._console.print(f"  {stack:10} [yellow]{line}[/]")

    def sample(self, folder: Path = SAMPLE_CONSORTIUM) -> None:
        """Deploy the sample's banks in the order of its `consortium.yaml`: each with its predecessors, then with all.

        A bank that is already deployed keeps its peers, including those that joined by command `join`.
        """
        order = list(yaml.safe_load((folder / "consortium.yaml").read_text(encoding="utf-8"))["banks"])
        sources = {stack: folder / f"Pulumi.{stack}.yaml" for stack in order}
        newcomers = [stack for stack in order if stack not in self.banks]
        for stack in newcomers:
            before = order[: order.index(stack)]
            self._up(
                stack,
                sources[stack],
                [peer for peer in read_configuration(sources[stack]).peers if peer["name"] in before],
            )
        for stack in order:
            if stack not in newcomers[-1:]:
                stated, recorded = read_configuration(sources[stack]).peers, self.banks[stack].peers
                names = {peer["name"] for peer in stated}
                self._up(stack, sources[stack], [*stated, *(peer for peer in recorded if peer["name"] not in names)])

    def down(self) -> None:
        """Remove the consortium: each bank first drops its peers, then all stacks and the state are deleted."""
        for stack, bank in self.banks.items():
            if bank.peers:
                self._up(stack, Path(bank.source), [])
        for stack in list(self.banks):
            self._remove(stack)
        shutil.rmtree(self.front.folder, ignore_errors=True)

    def links(self) -> dict[str, str]:
        """The `connectionStatus` of each connection, by `STACK: CONNECTION`."""
        statuses = {}
        for stack in self.banks:
            own = self.subscription(stack)
            for resource_id, resource in own.resources.items():
                if resource.short == CONNECTION and resource.subscription_id == own.account.subscription_id:
                    read = own.read(resource_id, {})
                    assert read is not None  # noqa: S101
                    name = resource_id.rsplit("/", 1)[-1]
                    statuses[f"{stack}: {name}"] = read[1]["connectionStatus"]
        return statuses

    def waiting(self) -> list[str]:
        """A sentence for each peer to which a bank's link is not connected, with what it waits for."""
        members = {read_configuration(Path(bank.source)).member for bank in self.banks.values()}
        down = [name for name, status in self.links().items() if status != "Connected"]
        waited = [
            (stack, str(peer["name"]))
            for stack, bank in self.banks.items()
            for peer in bank.peers
            if any(name.startswith(f"{stack}: link-{peer['name']}-") for name in down)
        ]
        return [
            f"{stack} waits for {peer}: "
            + (
                "both halves of the link, each made from the other's newest card"
                if peer in members
                else "it is not up here, so its file joins first"
            )
            for stack, peer in waited
        ]

    def settled(self) -> bool:
        """Whether a further run of each bank would change nothing; prints the result for each bank."""
        unchanged = []
        for stack, bank in self.banks.items():
            with self._timed(stack, "once more") as notes:
                unchanged.append(self.front.unchanged(stack, Path(bank.source), bank.peers))
                notes.append("no change" if unchanged[-1] else "[red]changes[/]")
        return all(unchanged)

    def show(self) -> None:
        """Print each bank's card, the status of each link, and what waits."""
        table = Table(title="Membership cards", title_justify="left", box=None, padding=(0, 2, 0, 0))
        for column in ("bank", "address space", "gateway", "nodes", "fingerprint"):
            table.add_column(column)
        for stack in self.banks:
            outputs = self.front.outputs(stack)
            card = outputs[CARD_OUTPUT]
            gateway = card["gateway"]
            ends = ", ".join(instance["publicIp"] for instance in gateway["instances"])
            nodes = str(len(card["nodes"]))
            table.add_row(
                card["name"],
                card["addressSpace"],
                f"AS {gateway['asn']}: {ends}",
                nodes,
                outputs[FINGERPRINT_OUTPUT][:23],
            )
        self._console.print(table)
        for name, status in self.links().items():
            self._console.print(f"  [{'green' if status == 'Connected' else 'red'}]{status}[/]  {name}")
        self._console.print("\n".join(f"  {line}" for line in self.waiting()), end="")

    def _up(self, stack: str, source: Path, peers: Peers) -> None:
        with_whom = f"with {', '.join(peer['name'] for peer in peers)}" if peers else "alone"
        with self._timed(stack, f"up {with_whom}") as notes:
            changes = self.front.up(stack, source, peers, first=stack not in self.banks)
            notes.append(
                ", ".join(f"{count} {_done(kind)}" for kind, count in sorted(changes.items())) or "no change"
            )
        self.banks[stack] = SampleBank(str(source), [dict(peer) for peer in peers])
        self._save()

    def _remove(self, stack: str) -> None:
        with self._timed(stack, "is removed"):
            self.front.destroy(stack, Path(self.banks[stack].source))
        del self.banks[stack]
        self._save()

    def _save(self) -> None:
        self.front.folder.mkdir(parents=True, exist_ok=True)
        self._file.write_text(json.dumps({stack: asdict(bank) for stack, bank in self.banks.items()}, indent=1))

    @contextmanager
    def _timed(self, stack: str, what: str) -> Iterator[list[str]]:
        notes: list[str] = []
        start = time.monotonic()
        self._console.print(f"  {stack:10} {what:32}", end="")
        yield notes
        self._console.print(f" {' '.join(notes):42} [bright_black]{time.monotonic() - start:5.1f} s[/]")


def _done(kind: str) -> str:
    """The past tense of an engine's operation: `created`, `discarded`, `created-replacement`."""
    if kind == "read":
        return kind
    verb, hyphen, rest = kind.partition("-")
    return f"{verb.removesuffix('e')}ed{hyphen}{rest}"


def full_name(stack: str) -> str:
    """A stack's fully qualified name, as stack references use it: `ORGANIZATION/PROJECT/STACK`."""
    return f"{ORGANIZATION}/{PROJECT}/{stack}"


def reference(source: Path) -> dict[str, Any]:
    """The `peers` entry for the bank of a configuration file: name, legal name and stack."""
    bank = read_configuration(source)
    return {"name": bank.member, "legalName": bank.legal_name, "stack": full_name(_stack(source))}


def _stack(source: Path) -> str:
    return source.stem.removeprefix("Pulumi.")


def _configured(source: Path, peers: Peers, *, first: bool = False) -> StackConfiguration:
    configuration = read_configuration(source).with_peers(peers)
    return configuration.with_open_root() if first else configuration


def _changes(source: Path, peers: Peers, *, first: bool = False) -> dict[str, Any]:
    """The configuration keys that these peers, and a first run, change; None for a removed key."""
    return read_configuration(source).changes(_configured(source, peers, first=first))


def _stated(configuration: StackConfiguration, peer: dict[str, Any]) -> dict[str, Any]:
    """The entry for this peer in a bank's own configuration; `peer` itself if there is none."""
    return next((each for each in configuration.peers if each["name"] == peer["name"]), peer)


def choose_front(name: str, *, without_engine: bool) -> tuple[Front, str]:
    """The front for this machine, and a line that describes it.

    Args:
        name: the consortium's name.
        without_engine: run in this process even if a Pulumi CLI is installed.
    """
    folder = STATE / name
    if find_cli() and not without_engine:
        return OnEngine(Engine.of(name)), "on the real Pulumi engine, against the offline Azure"
    return InProcess(folder), (
        "in this process, under Pulumi's mocks: what only an engine shows (its diffs, refresh, policies) is not shown"
    )


def main(arguments: list[str]) -> int:
    """Run one command; returns the exit status: 1 if a bank can't be deployed or a link does not connect."""
    options = _parser().parse_args(arguments, argparse.Namespace(name=SAMPLE, without_engine=False))
    # The output of `card` is meant for a file.
    console = Console(emoji=False, highlight=False, soft_wrap=True, stderr=options.command == "card")
    front, said = choose_front(options.name, without_engine=options.without_engine)
    console.print(f"[bold]{options.name}[/]: {said}")
    try:
        return _run(Consortium(front, console), options)
    except (AzureError, StackFileError, EngineError, pulumi.RunError) as error:
        console.print()
        Console(emoji=False, stderr=True, highlight=False, soft_wrap=True).print(
            f"[red]error:[/] {escape(str(error))}"
        )
        return 1


def _parser() -> argparse.ArgumentParser:
    shared = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    shared.add_argument("--name", help=f"the consortium's name, to have several side by side; by default {SAMPLE}")
    shared.add_argument("--without-engine", action="store_true", help="in this process, even if a CLI is found")
    parser = argparse.ArgumentParser(
        prog="python -m lab.azure.consortium", description=(__doc__ or "").splitlines()[0], parents=[shared]
    )
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, said: str, *positional: tuple[str, str]) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=said, description=said, parents=[shared])
        for argument, meaning in positional:
            added.add_argument(argument, help=meaning)
        return added

    stack = ("stack", "the bank's stack, such as bank-a")
    resource = ("resource", "its logical name, as Pulumi shows it; TYPE/NAME if several have that name")
    command("up", "deploy the three sample banks and link them")
    join = command("join", "deploy a bank, and link all others to it", ("file", "its Pulumi.<stack>.yaml"))
    join.add_argument("--organization", help="its Entra tenant; else by consortium.yaml beside the file, or north")
    command("leave", "remove a bank from its peers' configuration, then delete its stack", stack)
    command("card", "print a bank's membership card", stack)
    command("show", "print each bank's card, each link, and the links that wait for a peer")
    drift = command("drift", "change or delete a resource out of band, without Pulumi", stack, resource)
    drift.add_argument("change", nargs="?", help="PROPERTY=VALUE, such as sku.capacity=3; by default it is deleted")
    refuse = command("refuse", "refuse each later request about a resource", stack, resource)
    refuse.add_argument("message", nargs="?", default="Conflict: refused on request", help="the error of Azure")
    command("allow", "undo `refuse` for a resource", stack, resource)
    command("down", "delete all banks")
    return parser


def _run(consortium: Consortium, options: argparse.Namespace) -> int:
    match options.command:
        case "up":
            consortium.sample()
        case "join":
            consortium.join(Path(options.file).absolute(), options.organization)
        case "leave":
            consortium.leave(options.stack)
        case "card":
            card, fingerprint = consortium.card(options.stack)
            print(json.dumps(card, indent=2, sort_keys=True))
            print(fingerprint, file=sys.stderr)
        case "drift" | "refuse" | "allow":
            with consortium.front.locked():
                _interfere(consortium.subscription(options.stack), options)
        case "down":
            consortium.down()
    settled = options.command not in ("up", "join", "leave") or consortium.settled()
    if options.command in ("up", "join", "leave", "show"):
        consortium.show()
        return 0 if settled and set(consortium.links().values()) <= {"Connected"} else 1
    return 0


def _interfere(subscription: Subscription, options: argparse.Namespace) -> None:
    if options.command != "drift":
        subscription.refuse(options.resource, options.message if options.command == "refuse" else "")
    elif options.change is None:
        subscription.lose(options.resource)
    else:
        path, equals, value = options.change.partition("=")
        if not equals:
            raise StackFileError(f"{options.change}: wanted PROPERTY=VALUE, or no property to delete the resource")
        try:
            read = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise StackFileError(f"{options.change}: wanted YAML after =") from error
        subscription.drift(options.resource, path, read)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
