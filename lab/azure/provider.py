"""The engine front: a Pulumi provider that serves `azure-native` and `random` from the offline Azure.

It implements the provider protocol over gRPC on the loopback interface; the engine attaches to it.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import wraps
from importlib import metadata
from typing import Any, TypeGuard

import grpc
from google.protobuf import empty_pb2, struct_pb2
from pulumi.runtime.proto import plugin_pb2, provider_pb2, provider_pb2_grpc

from lab.azure import arm
from lab.azure.azure import Subscription
from lab.azure.recorder import plain
from lab.azure.rules import AzureError

PACKAGES = ("azure-native", "random")
_THREADS = 64

Kind = provider_pb2.PropertyDiff.Kind
SubscriptionOf = Callable[[str], Subscription]
"""Returns the subscription that a stack deploys to, by the stack's name."""


def _refusing(method: Callable[..., Any]) -> Callable[..., Any]:
    """Report an AzureError as a failed request, not as a fault of the provider."""

    @wraps(method)
    def call(self: "OfflineProvider", request: Any, context: grpc.ServicerContext) -> Any:
        try:
            return method(self, request, context)
        except AzureError as error:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))

    return call


class OfflineProvider(provider_pb2_grpc.ResourceProviderServicer):
    """The provider of both packages: each request of the protocol that the engine sends for them."""

    def __init__(self, subscription_of: SubscriptionOf, version: str) -> None:
        self._subscription_of, self._version = subscription_of, version
        self._subscriptions: dict[str, Subscription] = {}
        self._stack = ""
        self._new_servers: set[str] = set()

    def _begin(self, urn: str) -> None:
        """Begin a run of a stack: read the state of Azure again."""
        self._stack = _stack(urn)
        self._subscriptions[self._stack] = self._subscription_of(self._stack)

    def _azure(self, urn: str) -> Subscription:
        return self._subscriptions[_stack(urn)]

    def Handshake(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002
        """Accept the engine; secrets and resource references arrive as plain values."""
        return provider_pb2.ProviderHandshakeResponse(accept_secrets=False, accept_resources=False)

    def Attach(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002
        """Accept an engine that attaches to this process."""
        return empty_pb2.Empty()

    def GetPluginInfo(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002
        """Return the version of the package's SDK."""
        return plugin_pb2.PluginInfo(version=self._version)

    def CheckConfig(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002
        """Begin a run of the stack, and accept the provider's configuration as it is."""
        self._begin(request.urn)
        return provider_pb2.CheckResponse(inputs=request.news)

    def DiffConfig(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002
        """Report no change, so that no configuration replaces a resource."""
        return provider_pb2.DiffResponse(changes=provider_pb2.DiffResponse.DIFF_NONE)

    def Configure(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002
        """Begin a run of the stack; previews are supported."""
        self._begin(request.urn)
        return provider_pb2.ConfigureResponse(supportsPreview=True)

    def Cancel(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002
        """Accept the engine's cancellation; every request ends by itself."""
        return empty_pb2.Empty()

    @_refusing
    def Invoke(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002
        """Answer a provider function, for the stack that the engine last configured the provider for."""
        answer = self._subscriptions[self._stack].invoke(request.tok, plain(request.args))
        return provider_pb2.InvokeResponse(**{"return": _struct(answer)})

    def Check(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002
        """Fill in the name, or report what is wrong with the inputs."""
        news, olds = plain(request.news), plain(request.olds)
        try:
            # Without the engine's seed, so that the name equals that of the in-process front, unless it is taken.
            checked = self._azure(request.urn).check(_token(request.urn), _name(request.urn), news, old=olds or None)
        except AzureError as error:
            failure = provider_pb2.CheckFailure(property="", reason=str(error))
            return provider_pb2.CheckResponse(inputs=request.news, failures=[failure])
        return provider_pb2.CheckResponse(inputs=_struct(checked))

    def Diff(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002
        """Report the changed inputs, and which of them replace the resource."""
        old, new = plain(request.old_inputs), plain(request.news)
        changed = {
            key: replaces
            for key, replaces in self._azure(request.urn).diff(_token(request.urn), old, new).items()
            if key not in request.ignoreChanges
        }
        return provider_pb2.DiffResponse(
            changes=provider_pb2.DiffResponse.DIFF_SOME if changed else provider_pb2.DiffResponse.DIFF_NONE,
            diffs=list(changed),
            replaces=[key for key, replaces in changed.items() if replaces],
            hasDetailedDiff=True,
            detailedDiff={
                path: provider_pb2.PropertyDiff(kind=kind, inputDiff=True)
                for key, replaces in changed.items()
                for path, kind in _detailed(key, old, new, replaces=replaces)
            },
        )

    @_refusing
    def Create(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002
        """Create a resource; in a preview, return only its known outputs."""
        inputs = plain(request.properties)
        if request.preview:
            return provider_pb2.CreateResponse(id="", properties=_struct(self._azure(request.urn).preview(inputs)))
        token, azure = _token(request.urn), self._azure(request.urn)
        self._refuse_at_first(token, azure, inputs)
        resource_id, outputs = azure.create(token, _name(request.urn), inputs)
        if arm.short_token(token) == "dbforpostgresql:Server":
            self._new_servers.add(resource_id)
        return provider_pb2.CreateResponse(id=resource_id, properties=_struct(outputs))

    def _refuse_at_first(self, token: str, azure: Subscription, inputs: dict[str, Any]) -> None:
        """Refuse the first request about a new PostgreSQL server: github.com/Azure/azure-postgresql/issues/134."""
        if not arm.short_token(token).startswith("dbforpostgresql:"):
            return
        server = arm.resource_id(token, azure.account.subscription_id, inputs).rsplit("/", maxsplit=2)[0]
        if server in self._new_servers:
            self._new_servers.discard(server)
            raise AzureError(f"ServerIsBusy: cannot complete the operation while {server} is busy; try again later")

    @_refusing
    def Read(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002
        """Return a resource's present state; an empty id if it does not exist."""
        if _token(request.urn).startswith("random:"):
            return provider_pb2.ReadResponse(id=request.id, properties=request.properties, inputs=request.inputs)
        read = self._azure(request.urn).read(request.id, plain(request.inputs))
        if read is None:
            return provider_pb2.ReadResponse(id="")
        inputs, outputs = read
        return provider_pb2.ReadResponse(id=request.id, inputs=_struct(inputs), properties=_struct(outputs))

    @_refusing
    def Update(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002
        """Change a resource in place."""
        inputs = plain(request.news)
        if request.preview:
            known = {**plain(request.olds), **self._azure(request.urn).preview(inputs)}
            return provider_pb2.UpdateResponse(properties=_struct(known))
        outputs = self._azure(request.urn).update(_token(request.urn), _name(request.urn), request.id, inputs)
        return provider_pb2.UpdateResponse(properties=_struct(outputs))

    @_refusing
    def Delete(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002
        """Delete a resource."""
        self._azure(request.urn).delete(_token(request.urn), _name(request.urn), request.id)
        return empty_pb2.Empty()


@contextmanager
def serve(subscription_of: SubscriptionOf) -> Iterator[str]:
    """Serve the providers on free ports of the loopback; yields the value that PULUMI_DEBUG_PROVIDERS must have."""
    servers = {package: _server(subscription_of, package) for package in PACKAGES}
    try:
        yield ",".join(f"{package}:{port}" for package, (_, port) in servers.items())
    finally:
        for server, _ in servers.values():
            server.stop(grace=None).wait()


def _server(subscription_of: SubscriptionOf, package: str) -> tuple[grpc.Server, int]:
    server = grpc.server(ThreadPoolExecutor(max_workers=_THREADS))
    # The SDK's version, which the engine expects.
    provider = OfflineProvider(subscription_of, metadata.version(f"pulumi-{package}"))
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(provider, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, port


def _stack(urn: str) -> str:
    return urn.split("::", maxsplit=1)[0].removeprefix("urn:pulumi:")


def _token(urn: str) -> str:
    return urn.split("::")[2].rsplit("$", maxsplit=1)[-1]


def _name(urn: str) -> str:
    return urn.split("::", 3)[3]


def _struct(properties: dict[str, Any]) -> struct_pb2.Struct:
    struct = struct_pb2.Struct()
    struct.update({key: value for key, value in properties.items() if value is not None})
    return struct


def _detailed(
    path: str, old: Mapping[str, Any], new: Mapping[str, Any], *, replaces: bool
) -> Iterator[tuple[str, Any]]:
    """Each changed property at or below a path, whose last step is a key of both mappings, and how it changed.

    As azure-native does: the engine compares these paths with the option `replace_on_changes`. Lists, and mappings
    with other keys than properties' names, are one property.
    """
    key = path.rpartition(".")[2]
    was, will = old.get(key), new.get(key)
    if was == will:
        return
    if _is_object(was) and _is_object(will):
        for one in sorted({*was, *will}):
            yield from _detailed(f"{path}.{one}", was, will, replaces=replaces)
    elif was is None:
        yield path, Kind.ADD_REPLACE if replaces else Kind.ADD
    elif will is None:
        yield path, Kind.DELETE_REPLACE if replaces else Kind.DELETE
    else:
        yield path, Kind.UPDATE_REPLACE if replaces else Kind.UPDATE


def _is_object(value: Any) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(value, Mapping) and all(re.fullmatch(r"\w+", each) for each in value)
