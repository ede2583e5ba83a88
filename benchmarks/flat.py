"""Writes a flat program: the resources of a run with literal inputs, to measure what the SDK alone costs."""

import importlib
import inspect
import json
import shutil
from pathlib import Path
from typing import Any

from lab.azure import arm
from lab.azure.program import Run
from lab.azure.recorder import REFERENCE_TYPE, Registration


def write_flat_program(run: Run, folder: Path) -> Path:
    """Write the flat program with the resources of `run` into a folder; returns its main file."""
    folder.mkdir(parents=True, exist_ok=True)
    literals = [_literal(each) for each in run.registrations.values() if each.custom and each.type != REFERENCE_TYPE]
    (folder / "resources.json").write_text(json.dumps(literals), encoding="utf-8")
    return Path(shutil.copy(Path(__file__).with_name("flat_program.py"), folder / "__main__.py"))


def _literal(registration: Registration) -> tuple[str, str, str, dict[str, Any], bool]:
    """A resource's package, class, name, inputs by the class's parameter names, and protection."""
    package, kind = _class_of(registration.type)
    make: Any = getattr(importlib.import_module(package), kind)
    # Azure's and Python's names differ only in case and underscores.
    parameters = {name.replace("_", "").lower(): name for name in inspect.signature(make._internal_init).parameters}
    inputs = {
        parameters[key.lower()]: _with_secrets(value, key, registration.secrets)
        for key, value in registration.inputs.items()
    }
    return package, kind, registration.name, inputs, registration.request.protect


def _class_of(token: str) -> tuple[str, str]:
    if token.startswith("azure-native:"):
        module, name = arm.short_token(token).split(":")
        return f"pulumi_azure_native.{module}", name
    package, _, name = token.split(":")
    return f"pulumi_{package}", name


def _with_secrets(value: Any, path: str, secrets: frozenset[str]) -> Any:
    """The value with its secrets marked as `flat_program` expects."""
    if path in secrets:
        return {"$secret": value}
    if not any(each.startswith(path) for each in secrets):
        return value
    if isinstance(value, dict):
        return {key: _with_secrets(each, f"{path}.{key}", secrets) for key, each in value.items()}
    if isinstance(value, list):
        return [_with_secrets(each, f"{path}[{place}]", secrets) for place, each in enumerate(value)]
    return value
