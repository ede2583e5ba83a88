"""Repeats requests that Azure refuses only for a moment."""

import asyncio
from typing import Any
from weakref import WeakKeyDictionary

from pulumi import ErrorHook, ErrorHookArgs, ResourceHookBinding
from pulumi.runtime.proto import resource_pb2
from pulumi.runtime.settings import get_monitor, monitor_supports_feature

MOMENTARY = (
    # A new PostgreSQL server: github.com/Azure/azure-postgresql/issues/127 and 134.
    "AadAuthOperationCannotBePerformedWhenServerIsNotAccessible",
    "ServerIsBusy",
    "ServerBusy",
    # A new role definition: github.com/hashicorp/terraform-provider-azurerm/issues/19916.
    "RoleDefinitionDoesNotExist",
)
"""Codes of Azure's errors after which the same request succeeds later; Azure has made nothing then."""
_MOST = 7


async def again(args: ErrorHookArgs) -> bool:
    """Whether to repeat a failed request, after a pause: 2 s, then each time twice as long, four minutes in all.

    Args:
        args: Pulumi's, with the errors of all attempts, newest first.
    """
    attempts = len(args.errors)
    if not 0 < attempts <= _MOST or not any(code in args.errors[0] for code in MOMENTARY):
        return False
    await asyncio.sleep(2**attempts)
    return True


def repeated() -> ResourceHookBinding | None:
    """An option of a resource: its request is repeated as `again` says."""
    # Older Pulumi CLIs have no such hooks, and neither has the offline Azure without an engine.
    if not monitor_supports_feature(resource_pb2.RESOURCE_MONITOR_FEATURE_ERROR_HOOKS):
        return None
    monitor = get_monitor()
    if monitor not in _hooks:
        # Once in a run: a name is registered once, and a component's name is unique below its parent only.
        _hooks[monitor] = ErrorHook("repeat", again)
    return ResourceHookBinding(on_error=[_hooks[monitor]])


_hooks: WeakKeyDictionary[Any, ErrorHook] = WeakKeyDictionary()
"""The hook of each run in this process, by the run's monitor."""
