"""Base classes of JSON documents, and the text of a mistake in one."""

from typing import TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, FailFast, ValidationError
from pydantic.alias_generators import to_camel
from pydantic_core import ErrorDetails

# Deferred: a validator of each nested model, mostly unused, costs a plan milliseconds.
_BOTH_KINDS = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True, defer_build=True)


class StrictModel(BaseModel):
    """A document that this program alone writes: camelCase JSON; unknown properties are refused."""

    model_config = ConfigDict(**_BOTH_KINDS, extra="forbid")


class OpenModel(BaseModel):
    """A document of another version or member: camelCase JSON; unknown properties are ignored."""

    model_config = ConfigDict(**_BOTH_KINDS, extra="ignore")


_T = TypeVar("_T")

FIRST_FAULT_ONLY = FailFast()
"""For a list from another member: reporting a mistake in each of a million entries would take a gigabyte."""


def at_most(count: int) -> BeforeValidator:
    """A validator for a mapping from another member: refuses more than `count` entries before it reads any."""

    def check(value: object) -> object:
        if isinstance(value, dict) and len(value) > count:
            raise ValueError(f"{len(value)} entries; wanted {count} at most")
        return value

    return BeforeValidator(check)


def each_once(values: tuple[_T, ...]) -> tuple[_T, ...]:
    """A validator: the values, without duplicates.

    Raises:
        ValueError: a value occurs more than once.
    """
    if twice := sorted({str(value) for value in values if values.count(value) > 1}):
        raise ValueError(f"wanted each once; more than once: {', '.join(twice)}")
    return values


def key_of(fault: ErrorDetails) -> str:
    """Path of a mistake in the document: keys and positions, joined by dots."""
    return ".".join(str(step) for step in fault["loc"]) or "the document"


def first_fault(error: ValidationError) -> str:
    """The first mistake, `KEY: what is wrong`, without the value, which may be secret or hostile."""
    fault = error.errors(include_url=False, include_input=False)[0]
    return f"{key_of(fault):.80}: {fault['msg']:.200}"
