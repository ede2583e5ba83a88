"""A Pulumi mock monitor that records every registration request.

Only the request shows parents, options and which inputs are secret; Pulumi's mocks do not. A second resource with
the same URN is refused, as the engine does.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf import struct_pb2
from pulumi.runtime import Mocks
from pulumi.runtime.mocks import MockMonitor
from pulumi.runtime.proto import resource_pb2
from pulumi.runtime.rpc import _special_secret_sig, _special_sig_key

STACK_TYPE = "pulumi:pulumi:Stack"
REFERENCE_TYPE = "pulumi:pulumi:StackReference"
"""Pulumi's types of a stack and of a stack reference."""


class DuplicateUrnError(Exception):
    """Two resources would share a URN."""


@dataclass(frozen=True)
class Registration:
    """One resource as the program registered it."""

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
    """The monitor: `registrations` has each registered resource by URN, in the order of the requests."""

    def __init__(self, mocks: Mocks) -> None:
        super().__init__(mocks)
        self.registrations: dict[str, Registration] = {}
        self._at_hand = threading.local()
        self.outputs: dict[str, dict[str, Any]] = {}
        """The registered outputs of each component, and of the stack, by URN."""
        self.secret_outputs: dict[str, frozenset[str]] = {}
        """The paths of those outputs that are secret, by URN."""

    @property
    def at_hand(self) -> Registration:
        """The registration that the calling thread is answering, for mocks, which get only a part of the request."""
        registration: Registration = self._at_hand.registration
        return registration

    def GetDeploymentInfo(self, request: Any) -> Any:  # noqa: N802
        """What the mocks support, without hooks: those would start a server in each run."""
        info = super().GetDeploymentInfo(request)
        info.supportedFeatures.remove(resource_pb2.RESOURCE_MONITOR_FEATURE_ERROR_HOOKS)
        return info

    def RegisterResource(self, request: resource_pb2.RegisterResourceRequest) -> Any:  # noqa: N802
        """Record the request, then answer with the mocks' result.

        Raises:
            DuplicateUrnError: a resource with this URN is already registered.
        """
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
        """Record the outputs of a component, or of the stack."""
        self.outputs[request.urn] = plain(request.outputs)
        self.secret_outputs[request.urn] = frozenset(secret_paths(request.outputs))
        return super().RegisterResourceOutputs(request)


def plain(value: struct_pb2.Struct, of_secret: Callable[[Any], Any] | None = None) -> dict[str, Any]:
    """A message's properties as Python values, whole numbers as int.

    Args:
        value: the properties.
        of_secret: replaces a secret; by default the result contains the secret itself.
    """
    return {key: _plain(each, of_secret) for key, each in value.fields.items()}


def _plain(value: struct_pb2.Value, of_secret: Callable[[Any], Any] | None) -> Any:
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        fields = value.struct_value.fields
        if _is_secret(fields):
            return of_secret(_plain(fields["value"], None)) if of_secret else _plain(fields["value"], None)
        return plain(value.struct_value, of_secret)
    if kind == "list_value":
        return [_plain(each, of_secret) for each in value.list_value.values]
    if kind == "number_value" and value.number_value.is_integer():
        return int(value.number_value)
    return None if kind in (None, "null_value") else getattr(value, kind)


def secret_paths(value: struct_pb2.Struct, prefix: str = "") -> Iterator[str]:
    """Dotted paths of the secrets in a message's properties; of nested secrets only the outermost."""
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
