"""The same resources as in one run of the program, with literal inputs: what the SDK alone costs for them."""

import asyncio
import importlib
import inspect
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from unittest import mock

import pulumi

from offline import arm, program
from offline.azure import Account
from offline.program import Run, StackConfiguration, run_program
from offline.recorder import REFERENCE_TYPE, Registration


@dataclass(frozen=True)
class _Literal:
    """One resource: its class, its name, and its inputs as the class spells them."""

    make: Callable[..., pulumi.CustomResource]
    name: str
    inputs: Mapping[str, Any]
    secrets: frozenset[str]
    protect: bool

    def register(self) -> pulumi.CustomResource:
        inputs = {key: _secret(value, key, self.secrets) for key, value in self.inputs.items()}
        return self.make(self.name, opts=pulumi.ResourceOptions(protect=self.protect or None), **inputs)


@dataclass(frozen=True)
class FlatProgram:
    """A program without components, configuration or outputs.

    Azure wants some resources before others, and literal inputs don't tell which: one wave is registered after the
    other.
    """

    waves: list[list[_Literal]]

    async def main(self) -> None:
        """Register all."""
        for wave in self.waves:
            made = [literal.register() for literal in wave]
            await asyncio.gather(*(_registered(each) for each in made))

    def run(self, configuration: StackConfiguration, account: Account) -> Run:
        """Run it as `run_program` runs the real one."""
        with mock.patch.object(program, "_program", self._begin):
            return run_program(configuration, account=account)

    def _begin(self) -> None:
        pulumi.run(self.main)


def flat_program(run: Run) -> FlatProgram:
    """The flat program that registers what `run` registered."""
    custom = [each for each in run.registrations.values() if each.custom and each.type != REFERENCE_TYPE]
    depths: dict[str, int] = {}
    waves: list[list[_Literal]] = []
    for each in custom:
        depth = max((depths.get(urn, -1) + 1 for urn in each.request.dependencies), default=0)
        depths[each.urn] = depth
        waves.extend([] for _ in range(depth + 1 - len(waves)))
        waves[depth].append(_literal(each))
    return FlatProgram(waves)


def check_same(run: Run, flat: Run) -> None:
    """Refuse to compare two runs that did not register the same resources.

    Raises:
        RuntimeError: with the names of those that differ.
    """
    ours, theirs = _inputs(run), _inputs(flat)
    if differing := [key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key)]:
        raise RuntimeError(f"the flat program registers other resources: {sorted(differing)}")


def _registered(resource: pulumi.CustomResource) -> Awaitable[str | None]:
    return resource.urn.future()


def _inputs(run: Run) -> dict[tuple[str, str], tuple[dict[str, Any], frozenset[str]]]:
    return {(each.type, each.name): (each.inputs, each.secrets) for each in run.registrations.values() if each.custom}


def _literal(registration: Registration) -> _Literal:
    make = _class_of(registration.type)
    # From Azure's spelling to Python's: only case and underscores differ.
    parameters = {name.replace("_", "").lower(): name for name in inspect.signature(make._internal_init).parameters}
    names = {key: parameters[key.lower()] for key in registration.inputs}
    secrets = frozenset(
        f"{names[top]}{path.removeprefix(top)}" for path in registration.secrets if (top := _top(path)) in names
    )
    inputs = {names[key]: value for key, value in registration.inputs.items()}
    return _Literal(make, registration.name, inputs, secrets, registration.request.protect)


def _class_of(token: str) -> Any:
    if token.startswith("azure-native:"):
        module, name = arm.short_token(token).split(":")
        return getattr(importlib.import_module(f"pulumi_azure_native.{module}"), name)
    package, _, name = token.split(":")
    return getattr(importlib.import_module(f"pulumi_{package}"), name)


def _top(path: str) -> str:
    return re.split(r"[.\[]", path, maxsplit=1)[0]


def _secret(value: Any, path: str, secrets: frozenset[str]) -> Any:
    if path in secrets:
        return pulumi.Output.secret(value)
    if not any(each.startswith(path) for each in secrets):
        return value
    if isinstance(value, dict):
        return {key: _secret(each, f"{path}.{key}", secrets) for key, each in value.items()}
    if isinstance(value, list):
        return [_secret(each, f"{path}[{place}]", secrets) for place, each in enumerate(value)]
    return value
