"""Reads the configuration file that the infrastructure writes to a VM."""

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from contract.models import key_of
from contract.vm_configuration import AgentConfiguration

_M = TypeVar("_M", bound=BaseModel)


class ConfigurationError(ValueError):
    """The file is unusable; the message names key and value, and what is wrong."""


def read_agent_configuration(path: Path) -> AgentConfiguration:
    """The agent's configuration. Raises ConfigurationError, as `read_configuration`."""
    return read_configuration(path, AgentConfiguration, "the agent's configuration")


def read_configuration(path: Path, model: type[_M], wanted: str) -> _M:
    """A program's configuration, which `wanted` names in messages.

    Raises:
        ConfigurationError: the file is missing or unusable.
    """
    try:
        return model.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}; wanted {wanted}") from error
    except ValidationError as error:
        lines = [
            f"{path}: {key_of(fault)} is missing"
            if fault["type"] == "missing"
            else f"{path}: {key_of(fault)}: {fault['input']!r:.80}: {fault['msg']}"
            for fault in error.errors()
        ]
        raise ConfigurationError("\n".join(lines)) from error
