"""A stack's resources as the checklist reads them, from a recorded run or from Pulumi's engine."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


class UnknownError(Exception):
    """A check needs a value that is not known yet, such as the id of a resource that does not exist."""


class Absent(str):
    """The finding that a stack has no resource of a type, which need not be a mistake."""

    __slots__ = ()


@dataclass(frozen=True)
class StackResource:
    """One resource of a stack, not a component."""

    urn: str
    type: str
    """Pulumi's type token, such as `azure-native:network:Subnet`."""
    name: str
    """Logical name."""
    inputs: Mapping[str, Any]
    """Inputs by name, in camelCase as in Azure's API."""
    known_id: str | None = None
    """Resource id; None if it is not known yet."""
    known_outputs: Mapping[str, Any] | None = None
    """Outputs, including the inputs; None if they are not known yet."""

    @property
    def id(self) -> str:
        """Resource id.

        Raises:
            UnknownError: the id is not known yet.
        """
        if self.known_id is None:
            raise UnknownError(f"{self.name}: its id is not known yet")
        return self.known_id

    @property
    def outputs(self) -> Mapping[str, Any]:
        """Outputs, including the inputs.

        Raises:
            UnknownError: the outputs are not known yet.
        """
        if self.known_outputs is None:
            raise UnknownError(f"{self.name}: its outputs are not known yet")
        return self.known_outputs


@dataclass(frozen=True)
class StackResources:
    """All resources of one stack."""

    every: tuple[StackResource, ...]

    def of(self, kind: str) -> list[StackResource]:
        """The resources of one type, by the end of its token: `Subnet`, or `network:Subnet`."""
        return [each for each in self.every if each.type.endswith(f":{kind}")]

    def one(self, kind: str, name: str | None = None) -> StackResource:
        """The only resource of a type, or the only one of a type and logical name.

        Raises:
            LookupError: there is none, or more than one.
        """
        found = [each for each in self.of(kind) if name in (None, each.name)]
        if len(found) != 1:
            raise LookupError(f"{len(found)} x {kind} {name or ''}; wanted one")
        return found[0]


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every plain value with its dotted path, such as `properties.value` or `rules[0].name`."""
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield from leaves(each, f"{path}.{key}" if path else str(key))
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for place, each in enumerate(value):
            yield from leaves(each, f"{path}[{place}]")
    else:
        yield path, value
