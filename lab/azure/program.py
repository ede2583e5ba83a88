"""Runs the program in this process, under Pulumi's mocks, for one stack's configuration."""

import asyncio
import gc
import json
import logging
import runpy
import threading
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast
from unittest.mock import patch

from pulumi import Resource
from pulumi.runtime import settings
from pulumi.runtime.config import set_all_config
from pulumi.runtime.mocks import MockCallArgs, MockResourceArgs, Mocks, set_mocks
from pulumi.runtime.proto.source_pb2 import StackTrace
from pulumi.runtime.settings import set_root_resource
from pulumi.runtime.stack import run_in_stack

from lab import ROOT
from lab.azure.azure import Account, OfflineAzure, Subscription
from lab.azure.deployment import Deployment
from lab.azure.recorder import REFERENCE_TYPE, STACK_TYPE, Recorder, Registration
from lab.azure.rules import AzureError
from lab.azure.stack_file import StackFileError, read_document

PROJECT = "decentralized-trust"
ORGANIZATION = "organization"
"""The organisation in stack names on file and blob backends."""
PEERS_KEY = f"{PROJECT}:peers"
LEDGER_KEY = f"{PROJECT}:ledger"
"""Configuration keys of the program that the lab reads or changes."""

_FOUNDING = timedelta(hours=8)
"""How long a founder's root is open: the guide's value."""
_READ_STACK = "pulumi:pulumi:readStackOutputs"

References = Mapping[str, Mapping[str, Any]]
"""Stacks' outputs by their full names. They are read before a run, since Pulumi's mocks support one run at a time."""
Program = Callable[[], Awaitable[None] | None]
"""Registers resources and exports outputs."""


@dataclass(frozen=True)
class StackConfiguration:
    """A stack's configuration as Pulumi passes it to the program."""

    stack: str
    values: Mapping[str, str]
    """By full key, such as `decentralized-trust:bank`; objects and lists as JSON."""
    secret_keys: tuple[str, ...] = ()
    """The full keys of encrypted values."""

    @property
    def member(self) -> str:
        """The member's name; the stack's name if the configuration has none."""
        return self._of_bank("name") or self.stack

    @property
    def legal_name(self) -> str | None:
        """The bank's legal name; None if the configuration has none."""
        return self._of_bank("legalName")

    def _of_bank(self, key: str) -> str | None:
        try:
            return str(json.loads(self.values[f"{PROJECT}:bank"])[key])
        except (KeyError, ValueError, TypeError):
            return None

    @property
    def referenced_stacks(self) -> list[str]:
        """Full names of the stacks with the peers' cards, without malformed names, which the program refuses."""
        try:
            stacks = [peer["stack"] for peer in json.loads(self.values.get(PEERS_KEY, "[]")) if "stack" in peer]
        except (ValueError, TypeError):
            return []
        return [each for each in stacks if isinstance(each, str) and each.count("/") == 2]

    @property
    def peers(self) -> list[dict[str, Any]]:
        """The entries of the configuration's list `peers`."""
        peers: list[dict[str, Any]] = json.loads(self.values.get(PEERS_KEY, "[]"))
        return peers

    @property
    def authority(self) -> str | None:
        """The member that is the network's authority; None if the configuration names none."""
        try:
            return str(json.loads(self.values[LEDGER_KEY])["network"]["authority"])
        except (KeyError, ValueError, TypeError):
            return None

    def left_out(self, peers: Sequence[Mapping[str, Any]]) -> list[str]:
        """A sentence for each part of the configuration that `with_peers(peers)` leaves out."""
        there = {str(each["name"]) for each in peers}
        missing = [str(each["name"]) for each in self.peers if str(each["name"]) not in there]
        lines = [f"{name} is left out, since it is not up here: it joins first" for name in missing]
        return [*lines, *self.network_left_out(there)]

    def network_left_out(self, peers: Collection[str]) -> list[str]:
        """A sentence if `with_peers` leaves the network out, since its authority is not among these names."""
        if self.authority in (None, self.member, *peers):
            return []
        return [f"its nodes wait without a network: {self.authority}, which certifies their names, is not a peer"]

    def changes(self, other: "StackConfiguration") -> dict[str, Any]:
        """The keys whose value differs in `other`, with `other`'s value; None for a key that `other` lacks."""
        changed = {key for key in {*self.values, *other.values} if self.values.get(key) != other.values.get(key)}
        return {key: json.loads(other.values[key]) if key in other.values else None for key in sorted(changed)}

    def with_peers(self, peers: Sequence[Mapping[str, Any]]) -> "StackConfiguration":
        """A copy with these peers; without a network if its authority is not among them."""
        values = {**self.values, PEERS_KEY: json.dumps([dict(peer) for peer in peers])}
        return replace(self, values=self._in_a_network_of({str(peer.get("name")) for peer in peers}, values))

    def without_peers(self) -> "StackConfiguration":
        """A copy without peers; without a network unless this member is its authority."""
        values = {key: value for key, value in self.values.items() if key != PEERS_KEY}
        return replace(self, values=self._in_a_network_of(set(), values))

    def with_open_root(self) -> "StackConfiguration":
        """A copy with an open root, as in a founder's first run; unchanged for other members."""
        ledger = json.loads(self.values.get(LEDGER_KEY, "{}"))
        network = ledger.get("network", {})
        if network.get("authority") != self.member:
            return self
        until = datetime.now(UTC) + _FOUNDING
        network["rootOpenUntil"] = f"{until:%Y-%m-%dT%H:%M:%SZ}"
        return replace(self, values={**self.values, LEDGER_KEY: json.dumps(ledger)})

    def _in_a_network_of(self, peers: set[str], values: Mapping[str, str]) -> Mapping[str, str]:
        try:
            ledger = dict(json.loads(values.get(LEDGER_KEY, "{}")))
            authority = ledger.get("network", {}).get("authority")
        except (ValueError, TypeError, AttributeError):
            return values
        if authority in (None, self.member, *peers):
            return values
        del ledger["network"]
        return {**values, LEDGER_KEY: json.dumps(ledger)}


@dataclass(frozen=True)
class Run:
    """The result of one run of the program."""

    stack: str
    registrations: Mapping[str, Registration]
    """The registered resources by URN, in the order of registration."""
    outputs: Mapping[str, Any]
    """The stack's outputs."""
    secret_outputs: frozenset[str]
    """Paths of the secret outputs."""
    azure: Subscription
    messages: tuple[str, ...]
    """The program's log messages."""


class _OfflineMocks(Mocks):
    def __init__(self, deployment: Deployment, references: References, *, unknown: bool) -> None:
        self.deployment, self.unknown = deployment, unknown
        self.recorder = Recorder(self)
        self._references = references

    def new_resource(self, args: MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        if args.typ == REFERENCE_TYPE:
            outputs = dict(self._references[args.inputs["name"]])
            return args.name, {**args.inputs, "outputs": outputs, "secretOutputNames": []}
        if not args.custom:
            return "", args.inputs
        if self.unknown:
            # As in the preview of a first deployment: no id, and no outputs except the inputs.
            return None, self.deployment.azure.preview(args.inputs)
        return self.deployment.apply(self.recorder.at_hand)

    def call(self, args: MockCallArgs) -> tuple[dict[Any, Any], list[tuple[str, str]]]:
        if args.token == _READ_STACK:
            name = args.args["name"]
            if name not in self._references:
                return {}, [("name", f'unknown stack "{name}"')]
            return {"name": name, "outputs": dict(self._references[name])}, []
        try:
            return self.deployment.azure.invoke(args.token, args.args), []
        except AzureError as error:
            return {}, [(args.token, str(error))]


def read_configuration(path: Path) -> StackConfiguration:
    """The configuration in a stack's file, `Pulumi.<stack>.yaml`, with a placeholder for each encrypted value.

    Raises:
        StackFileError: there is no such file, or it contains no valid configuration.
    """
    config = read_document(path).get("config")
    if not isinstance(config, dict):
        raise StackFileError(f"{path}: holds no `config`; wanted a stack's configuration")
    values: dict[str, str] = {}
    secret_keys = []
    for each, value in config.items():
        key = full_key(path, each)
        if key in values:
            raise StackFileError(f"{path}: {each}: is also given as {key}; wanted each key once")
        known, secret = _with_stand_ins(value)
        values[key] = _encode(known)
        if secret:
            secret_keys.append(key)
    return StackConfiguration(path.stem.removeprefix("Pulumi."), values, tuple(secret_keys))


def full_key(path: Path, key: Any) -> str:
    """A configuration key of the stack's file `path` with its namespace; by default this project's, as in Pulumi.

    Raises:
        StackFileError: it is not such a key.
    """
    parts = key.split(":") if isinstance(key, str) else []
    if len(parts) == 3 and parts[1] == "config":
        del parts[1]
    if len(parts) not in (1, 2):
        raise StackFileError(f"{path}: {key}: wanted a key of the form <namespace>:<name>")
    return ":".join(parts) if len(parts) == 2 else f"{PROJECT}:{key}"


def _with_stand_ins(value: Any) -> tuple[Any, bool]:
    """A value with placeholders for its encrypted parts, and whether it has any."""
    match value:
        case {"secure": str(), **others} if not others:
            return "stand-in-for-a-secret", True
        case dict():
            pairs = {key: _with_stand_ins(each) for key, each in value.items()}
            return {key: known for key, (known, _) in pairs.items()}, any(secret for _, secret in pairs.values())
        case list():
            items = [_with_stand_ins(each) for each in value]
            return [known for known, _ in items], any(secret for _, secret in items)
    return value, False


def _encode(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value)


def _main() -> None:
    runpy.run_path(str(ROOT / "__main__.py"), run_name="__main__")


def run_program(
    configuration: StackConfiguration,
    *,
    references: References = MappingProxyType({}),
    account: Account | None = None,
    deployment: Deployment | None = None,
    unknown: bool = False,
    program: Program = _main,
) -> Run:
    """Run the program once.

    Args:
        configuration: the stack and its configuration.
        references: the outputs of other stacks; a reference to a missing stack fails, as on the engine.
        account: the account to deploy to; by default the member's own subscription, in the common tenant.
        deployment: the existing stack, which the run changes; by default an empty stack in `account`.
        unknown: whether new resources' ids and computed outputs stay unknown, as in a first preview.
        program: by default `__main__.py`.

    Raises:
        pulumi.RunError: the program refuses its configuration.
        AzureError: the offline Azure refuses a request.
    """
    if deployment is None:
        own = account or Account.of(configuration.member, ORGANIZATION)
        deployment = Deployment(OfflineAzure().account(own))
    deployment.begin()
    # A stack also reads its own outputs, those of its last update.
    own_stack = f"{ORGANIZATION}/{PROJECT}/{configuration.stack}"
    references = {**references, own_stack: dict(deployment.outputs)}
    # In a separate context, since Pulumi stores the configuration in context variables.
    mocks = _OfflineMocks(deployment, references, unknown=unknown)
    run = copy_context().run(_run, program, configuration, mocks)
    if not unknown:
        deployment.finish(run.registrations)
        deployment.outputs = dict(run.outputs)
    return run


def _run(program: Program, configuration: StackConfiguration, mocks: _OfflineMocks) -> Run:
    recorder, log = mocks.recorder, _Messages()
    try:
        _run_program(program, configuration, mocks, log)
    except Exception as error:
        raise _cause(error) from error
    stack_urn = next(urn for urn in recorder.outputs if urn.split("::")[2] == STACK_TYPE)
    return Run(
        stack=configuration.stack,
        registrations=recorder.registrations,
        outputs=recorder.outputs[stack_urn],
        secret_outputs=recorder.secret_outputs[stack_urn],
        azure=mocks.deployment.azure,
        messages=tuple(log.messages),
    )


def _run_program(program: Program, configuration: StackConfiguration, mocks: _OfflineMocks, log: "_Messages") -> None:
    with _fast_mocks():
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        try:
            set_all_config(dict(configuration.values), list(configuration.secret_keys))
            # set_mocks creates a stack if there is none, but run_in_stack must create it.
            set_root_resource(cast(Resource, object()))
            set_mocks(
                mocks,
                project=PROJECT,
                stack=configuration.stack,
                preview=mocks.unknown,
                logger=log.logger,
                monitor=mocks.recorder,
                organization=ORGANIZATION,
            )
            set_root_resource(None)  # type: ignore[arg-type]
            loop.run_until_complete(run_in_stack(program))
        except Exception:
            # The first error is raised; all that awaited the refused resource would report it again.
            loop.set_exception_handler(lambda *_: None)
            raise
        finally:
            loop.run_until_complete(loop.shutdown_default_executor())
            # Pulumi stores these for the whole process: the next run would wait for this run's unfinished outputs.
            settings.SETTINGS.outputs.clear()
            asyncio.set_event_loop(None)


@contextmanager
def _fast_mocks() -> Iterator[None]:
    """Reduce a run to a third of its time, and close its event loops.

    - Garbage is collected only after the run.
    - The SDK computes a URN for each alias of each older API version, which no monitor ever uses: here it does not.
    - It reads the stack of calls that leads to each resource, for the engine's messages: here it does not.
    - Each answer of the mocks creates an event loop and closes none: here each thread has one, which is closed.
    """
    loops: dict[int, asyncio.AbstractEventLoop] = {}
    new_event_loop, collecting = asyncio.new_event_loop, gc.isenabled()

    def loop_of_thread() -> asyncio.AbstractEventLoop:
        thread = threading.get_ident()
        if thread not in loops:
            loops[thread] = new_event_loop()
        return loops[thread]

    gc.disable()
    try:
        with (
            patch("asyncio.new_event_loop", loop_of_thread),
            patch("pulumi.resource.collapse_alias_to_urn", lambda *_: ""),
            patch("pulumi.runtime.resource._get_stack_trace", StackTrace),
        ):
            yield
    finally:
        # Otherwise each loop searches all tasks of the run for its own.
        gc.collect(0)
        for loop in loops.values():
            _close(loop)
        # The program freezes its imports, so that they are not collected; here other runs follow.
        gc.unfreeze()
        if collecting:
            gc.enable()


def _close(loop: asyncio.AbstractEventLoop) -> None:
    # Tasks that a refused run has not started are started and end at once: Python warns of a coroutine never awaited.
    while left := asyncio.all_tasks(loop):
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.wait(left))
    loop.close()


def _cause(error: BaseException) -> BaseException:
    """The AzureError that caused this error, if there is one: Pulumi's runtime wraps it in other errors."""
    below: BaseException | None = error
    seen: list[BaseException] = []
    while below is not None and below not in seen:
        if isinstance(below, AzureError):
            return below
        seen.append(below)
        below = below.__cause__ or below.__context__
    return error


class _Messages(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []
        self.logger = logging.Logger("program")
        self.logger.addHandler(self)
        self.logger.setLevel(logging.INFO)

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())
