"""Runs the program in this process, under Pulumi's mocks, for one stack's configuration."""

import asyncio
import gc
import json
import logging
import runpy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast
from unittest.mock import patch

import yaml
from pulumi import Resource
from pulumi.runtime import settings
from pulumi.runtime.config import set_all_config
from pulumi.runtime.mocks import MockCallArgs, MockResourceArgs, Mocks, set_mocks
from pulumi.runtime.settings import set_root_resource
from pulumi.runtime.stack import run_in_stack

from offline.azure import Account, OfflineAzure, Subscription
from offline.deployment import Deployment
from offline.recorder import REFERENCE_TYPE, STACK_TYPE, Recorder, Registration
from offline.rules import AzureError

ROOT = Path(__file__).resolve().parent.parent
PROJECT = "decentralized-trust"
ORGANIZATION = "organization"
"""What Pulumi calls the organisation on file and blob backends."""
PEERS_KEY = f"{PROJECT}:peers"
LEDGER_KEY = f"{PROJECT}:ledger"

_READ_STACK = "pulumi:pulumi:readStackOutputs"

References = Mapping[str, Mapping[str, Any]]
"""Stacks' outputs by their full names: read before a run, since one run at a time is all that Pulumi's mocks take."""


class ConfigurationError(Exception):
    """A file is no stack's configuration: the message names it and the reason."""


@dataclass(frozen=True)
class StackConfiguration:
    """A stack's configuration as Pulumi hands it to the program."""

    stack: str
    values: Mapping[str, str]
    secret_keys: tuple[str, ...] = ()

    @property
    def member(self) -> str:
        """The member's name; the stack's where the configuration has none."""
        try:
            return str(json.loads(self.values[f"{PROJECT}:bank"])["name"])
        except (KeyError, ValueError, TypeError):
            return self.stack

    @property
    def referenced_stacks(self) -> list[str]:
        """Full names of the stacks that the peers' cards are read from."""
        try:
            return [peer["stack"] for peer in json.loads(self.values.get(PEERS_KEY, "[]")) if "stack" in peer]
        except (ValueError, TypeError):
            return []

    def with_peers(self, peers: Sequence[Mapping[str, Any]]) -> "StackConfiguration":
        """The same member linked to these; in no network where its authority is not among them."""
        values = {**self.values, PEERS_KEY: json.dumps([dict(peer) for peer in peers])}
        return replace(self, values=self._in_a_network_of({str(peer.get("name")) for peer in peers}, values))

    def without_peers(self) -> "StackConfiguration":
        """The same member before it is linked to anyone."""
        values = {key: value for key, value in self.values.items() if key != PEERS_KEY}
        return replace(self, values=self._in_a_network_of(set(), values))

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
    """What one run of the program asked for."""

    stack: str
    registrations: Mapping[str, Registration]
    outputs: Mapping[str, Any]
    secret_outputs: frozenset[str]
    azure: Subscription
    messages: tuple[str, ...]
    """What the program logged."""


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
            # As in the preview of a first deployment: no id, and no output that is not an input.
            return None, self.deployment.azure.preview(args.inputs)
        return self.deployment.apply(self.recorder.at_hand)

    def call(self, args: MockCallArgs) -> tuple[dict[Any, Any], list[tuple[str, str]]]:
        if args.token == _READ_STACK:
            name = args.args["name"]
            return ({"name": name}, []) if name in self._references else ({}, [("name", f'unknown stack "{name}"')])
        return self.deployment.azure.invoke(args.token), []


def read_configuration(path: Path) -> StackConfiguration:
    """The configuration in a stack's file, `Pulumi.<stack>.yaml`; an encrypted value becomes a stand-in.

    Raises:
        ConfigurationError: there is no such file, or it holds no configuration.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigurationError(f"{path}: can't be read: {error}") from error
    config = document.get("config") if isinstance(document, dict) else None
    if not isinstance(config, dict):
        raise ConfigurationError(f"{path}: holds no `config`; wanted a stack's configuration")
    values: dict[str, str] = {}
    secret_keys = []
    for key, value in config.items():
        if isinstance(value, dict) and set(value) == {"secure"}:
            secret_keys.append(key)
            values[key] = "stand-in for a secret"
        else:
            values[key] = _encode(value)
    return StackConfiguration(path.stem.removeprefix("Pulumi."), values, tuple(secret_keys))


def _encode(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value)


def run_program(
    configuration: StackConfiguration,
    *,
    references: References = MappingProxyType({}),
    account: Account | None = None,
    deployment: Deployment | None = None,
    unknown: bool = False,
) -> Run:
    """Run `__main__.py` once.

    Args:
        configuration: the stack and its configuration.
        references: where stack references lead; one that leads nowhere fails, as on the engine.
        account: whose subscription; by default one of the member's own, in the one tenant.
        deployment: the stack as it is, brought to what the program wants; by default an empty one, in `account`.
        unknown: whether new resources' ids and computed outputs stay unknown, as in a first preview.

    Raises:
        pulumi.RunError: what the program refuses.
        AzureError: what the offline Azure refuses.
    """
    if deployment is None:
        own = account or Account.of(configuration.member, ORGANIZATION)
        deployment = Deployment(OfflineAzure().account(own))
    deployment.begin()
    # In a context of its own: Pulumi keeps the configuration in context variables.
    run = copy_context().run(_run, configuration, _OfflineMocks(deployment, references, unknown=unknown))
    if not unknown:
        deployment.finish(run.registrations)
        deployment.outputs = dict(run.outputs)
    return run


def _run(configuration: StackConfiguration, mocks: "_OfflineMocks") -> Run:
    recorder, log = mocks.recorder, _Messages()
    try:
        _run_program(configuration, mocks, log)
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


def _run_program(configuration: StackConfiguration, mocks: "_OfflineMocks", log: "_Messages") -> None:
    with _without_waste():
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        try:
            set_all_config(dict(configuration.values), list(configuration.secret_keys))
            # set_mocks makes a stack where there is none, and run_in_stack wants to make its own.
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
            loop.run_until_complete(run_in_stack(_program))
        except Exception:
            # All that waited for what was refused fails of it too: the first error says it.
            loop.set_exception_handler(lambda *_: None)
            raise
        finally:
            loop.run_until_complete(loop.shutdown_default_executor())
            # Pulumi keeps them for the process: the next run would wait for what this one left unfinished.
            settings.SETTINGS.outputs.clear()
            asyncio.set_event_loop(None)


@contextmanager
def _without_waste() -> Iterator[None]:
    """A run takes a third of its time this way, and leaves nothing open behind it.

    Garbage waits until it ends. The SDK gives a resource an alias for each older API version, and each alias a URN
    of its own, of which no monitor ever hears. And each thread of the mocks makes an event loop and closes none.
    """
    loops: list[asyncio.AbstractEventLoop] = []
    new_event_loop, collecting = asyncio.new_event_loop, gc.isenabled()

    def kept_loop() -> asyncio.AbstractEventLoop:
        loops.append(new_event_loop())
        return loops[-1]

    gc.disable()
    try:
        with patch("asyncio.new_event_loop", kept_loop), patch("pulumi.resource.collapse_alias_to_urn"):
            yield
    finally:
        for loop in loops:
            _close(loop)
        if collecting:
            gc.enable()


def _close(loop: asyncio.AbstractEventLoop) -> None:
    # What a refused run has not begun yet is begun, to end at once: Python complains of a coroutine that never was.
    while left := asyncio.all_tasks(loop):
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.wait(left))
    loop.close()


def _cause(error: BaseException) -> BaseException:
    """What Azure refused, if that is at the bottom of it: Pulumi's runtime wraps it in errors of its own."""
    below: BaseException | None = error
    seen: list[BaseException] = []
    while below is not None and below not in seen:
        if isinstance(below, AzureError):
            return below
        seen.append(below)
        below = below.__cause__ or below.__context__
    return error


def _program() -> None:
    runpy.run_path(str(ROOT / "__main__.py"), run_name="__main__")


class _Messages(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []
        self.logger = logging.Logger("program")
        self.logger.addHandler(self)
        self.logger.setLevel(logging.INFO)

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())
