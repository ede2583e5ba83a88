"""Repeats requests that Azure refuses only for a moment."""

import asyncio

from pulumi import ErrorHook, ErrorHookArgs, ResourceHookBinding
from pulumi.runtime.proto import resource_pb2
from pulumi.runtime.settings import monitor_supports_feature

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


def repeated(name: str) -> ResourceHookBinding | None:
    """An option of a resource: its request is repeated as `again` says; `name` is unique in the program."""
    # Older Pulumi CLIs have no such hooks, and neither has the offline Azure without an engine.
    if not monitor_supports_feature(resource_pb2.RESOURCE_MONITOR_FEATURE_ERROR_HOOKS):
        return None
    return ResourceHookBinding(on_error=[ErrorHook(f"repeat-{name}", again)])
