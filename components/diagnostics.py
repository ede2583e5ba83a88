"""Diagnostic settings: resource logs to the member's Log Analytics workspace."""

from collections.abc import Sequence

from pulumi import Input, Resource, ResourceOptions
from pulumi_azure_native import monitor

from components.collected import DEDICATED, LogCategory


def send_logs(
    name: str,
    *,
    resource_id: Input[str],
    workspace_id: Input[str] | None,
    categories: Sequence[LogCategory],
    parent: Resource,
) -> None:
    """Send categories of a resource's logs to the workspace, in resource-specific tables where Azure has them.

    Args:
        name: logical name of the diagnostic setting.
        resource_id: the resource that logs.
        workspace_id: the Log Analytics workspace; None sends nothing.
        categories: log categories of that resource type.
        parent: the component.
    """
    if workspace_id is None:
        return
    monitor.DiagnosticSetting(
        name,
        resource_uri=resource_id,
        workspace_id=workspace_id,
        # The columns of a resource-specific table are known before its first row.
        log_analytics_destination_type="Dedicated" if DEDICATED.issuperset(categories) else None,
        logs=[monitor.DiagnosticsLogSettingsArgs(category=category, enabled=True) for category in categories],
        opts=ResourceOptions(parent=parent),
    )
