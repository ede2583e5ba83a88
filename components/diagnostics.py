"""Resource logs to the member's Log Analytics workspace, where there is one."""

from pulumi import Input, Resource, ResourceOptions
from pulumi_azure_native import monitor


def send_logs(
    name: str, *, resource_id: Input[str], workspace_id: Input[str] | None, parent: Resource, group: str = "allLogs"
) -> monitor.DiagnosticSetting | None:
    """Send one category group of a resource's logs, `allLogs` or `audit`; nothing without a workspace."""
    if workspace_id is None:
        return None
    return monitor.DiagnosticSetting(
        name,
        resource_uri=resource_id,
        workspace_id=workspace_id,
        logs=[monitor.DiagnosticsLogSettingsArgs(category_group=group, enabled=True)],
        opts=ResourceOptions(parent=parent),
    )
