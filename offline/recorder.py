"""A Pulumi mock monitor that keeps every registration request, with what mocks alone do not show.

Parents, options and secret marks stand in the request only; a second resource of one URN is refused, as the
engine would.
"""

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf import struct_pb2
from pulumi.runtime import Mocks
from pulumi.runtime.mocks import MockMonitor
from pulumi.runtime.proto import resource_pb2
from pulumi.runtime.rpc import _special_secret_sig, _special_sig_key

STACK_TYPE = "pulumi:pulumi:Stack"
REFERENCE_TYPE = "pulumi:pulumi:StackReference"


class DuplicateUrnError(Exception):
    """Two resources would share a URN."""


@dataclass(frozen=True)
class Registration:
    """One resource as the program asked for it."""

    urn: str
    type: str
    name: str
    parent: str
    """URN of the parent."""
    custom: bool
    """False for a component."""
    request: resource_pb2.RegisterResourceRequest
    """The whole request: options by the names of Pulumi's wire format."""
    inputs: dict[str, Any]
    """The inputs in Azure's own spelling, secrets unwrapped."""
    secrets: frozenset[str]
    """Paths of the inputs that are marked secret, such as `sharedKey` or `properties.value`."""


class Recorder(MockMonitor):
    """The monitor: `registrations` fills as the program runs, by URN, in the order of the requests."""

    def __init__(self, mocks: Mocks) -> None:
        super().__init__(mocks)
        self.registrations: dict[str, Registration] = {}
        self._at_hand = threading.local()
        self.outputs: dict[str, dict[str, Any]] = {}
        """What each component, and the stack, registered as its outputs, by URN."""
        self.secret_outputs: dict[str, frozenset[str]] = {}
        """Which of them are secret, by URN."""

    @property
    def at_hand(self) -> Registration:
        """The registration that the calling thread answers, for mocks, which see little of it."""
        registration: Registration = self._at_hand.registration
        return registration

    def RegisterResource(self, request: resource_pb2.RegisterResourceRequest) -> Any:  # noqa: N802
        """Record the request, then answer as the mocks say."""
        urn = self.make_urn(request.parent, request.type, request.name)
        if urn in self.registrations:
            raise DuplicateUrnError(f"two resources share {urn}")
        if request.type != STACK_TYPE:
            self.registrations[urn] = self._at_hand.registration = Registration(
                urn=urn,
                type=request.type,
                name=request.name,
                parent=request.parent,
                custom=request.custom,
                request=request,
                inputs=plain(request.object),
                secrets=frozenset(secret_paths(request.object)),
            )
        return super().RegisterResource(request)

    def RegisterResourceOutputs(self, request: Any) -> Any:  # noqa: N802
        """Record what a component, or the stack, registers as outputs."""
        self.outputs[request.urn] = plain(request.outputs)
        self.secret_outputs[request.urn] = frozenset(secret_paths(request.outputs))
        return super().RegisterResourceOutputs(request)


def plain(value: struct_pb2.Struct) -> dict[str, Any]:
    """A message's properties as Python values: secrets unwrapped, whole numbers as int."""
    return {key: _plain(each) for key, each in value.fields.items()}


def _plain(value: struct_pb2.Value) -> Any:
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        fields = value.struct_value.fields
        return _plain(fields["value"]) if _is_secret(fields) else plain(value.struct_value)
    if kind == "list_value":
        return [_plain(each) for each in value.list_value.values]
    if kind == "number_value" and value.number_value.is_integer():
        return int(value.number_value)
    return None if kind in (None, "null_value") else getattr(value, kind)


def secret_paths(value: struct_pb2.Struct, prefix: str = "") -> Iterator[str]:
    """Dotted paths of the secrets in a message's properties, the outermost where they are nested."""
    for key, each in value.fields.items():
        yield from _secret_paths(each, f"{prefix}{key}")


def _secret_paths(value: struct_pb2.Value, path: str) -> Iterator[str]:
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        if _is_secret(value.struct_value.fields):
            yield path
        else:
            yield from secret_paths(value.struct_value, f"{path}.")
    elif kind == "list_value":
        for place, each in enumerate(value.list_value.values):
            yield from _secret_paths(each, f"{path}[{place}]")


def _is_secret(fields: Mapping[str, struct_pb2.Value]) -> bool:
    return _special_sig_key in fields and fields[_special_sig_key].string_value == _special_secret_sig
