"""Alert rules on events of Azure's activity log."""

from collections.abc import Mapping

from pulumi import Input, Output

from components.alerts.args import AlertsArgs, Watched
from components.alerts.rules import AMBA, LEARN, EventRule

HEALTH_TYPES = (
    Watched.VAULT.resource_type,
    Watched.STORAGE.resource_type,
    Watched.DATABASE.resource_type,
    Watched.LOAD_BALANCER.resource_type,
    Watched.NAT_GATEWAY.resource_type,
    Watched.VPN_GATEWAY.resource_type,
    "Microsoft.Network/connections",
    "Microsoft.Insights/scheduledQueryRules",
    "Microsoft.OperationalInsights/workspaces",
)
"""Resource types of this program whose health Azure reports, without VMs.

Source: learn.microsoft.com/azure/service-health/resource-health-checks-resource-types.
"""
_WATCHING = (
    "Microsoft.Insights/actionGroups",
    "Microsoft.Insights/activityLogAlerts",
    "Microsoft.Insights/components",
    "Microsoft.Insights/dataCollectionRules",
    "Microsoft.Insights/diagnosticSettings",
    "Microsoft.Insights/metricAlerts",
    "Microsoft.Insights/scheduledQueryRules",
    "Microsoft.OperationalInsights/workspaces",
)
"""Resource types of this program that collect, store or watch telemetry, or send the alerts."""
_VM_TAKEN_OVER = "a-vm-was-taken-over.md"
_FAILS = "azure-itself-fails.md"


def _group(args: AlertsArgs) -> Mapping[str, Input[str]]:
    return {"": args.resource_group_id}


def _subscription(args: AlertsArgs) -> Mapping[str, Input[str]]:
    return {"": Output.from_input(args.resource_group_id).apply(lambda text: "/".join(text.split("/")[:3]))}


def _root(args: AlertsArgs) -> Mapping[str, Input[str]]:
    return {} if args.root_vault_id is None else {"": args.root_vault_id}


def _vaults(args: AlertsArgs) -> Mapping[str, Input[str]]:
    return args.watched.get(Watched.VAULT, {})


def _administrative(operation: str) -> Mapping[str, str | tuple[str, ...]]:
    return {"category": "Administrative", "operationName": operation}


EVENT_RULES: tuple[EventRule, ...] = (
    EventRule(
        name="root-granted",
        scopes=_root,
        fields=_administrative("Microsoft.Authorization/roleAssignments/write"),
        when="a role is granted on the root's vault, or in it",
        meaning="Somebody was granted a role on the network's root key: expected only in an announced ceremony.",
        runbook="renewing-an-intermediate.md",
        source="docs/adr/0020-a-root-that-is-closed.md",
    ),
    *(
        EventRule(
            name=name,
            scopes=_group,
            fields=_administrative(f"{Watched.VIRTUAL_MACHINES.resource_type}/{operation}"),
            when=f"`{operation}` on a VM of the group",
            meaning=f"Somebody ran {what} on a VM as root: find the person of the bank who did it, and the reason.",
            runbook=_VM_TAKEN_OVER,
            source="docs/adr/0019-what-a-stolen-vm-can-change.md",
        )
        # An action run command, and a managed one, which remains as a resource of the VM.
        for name, operation, what in (
            ("vm-command", "runCommand/action", "a command"),
            ("vm-managed-command", "runCommands/write", "a managed run command"),
        )
    ),
    EventRule(
        name="vault-deleted",
        scopes=_vaults,
        fields=_administrative("Microsoft.KeyVault/vaults/delete"),
        when="a vault is deleted",
        meaning="A vault was deleted, with the keys in it.",
        runbook="restoring-a-deleted-key.md",
        source=f"{AMBA}/KeyVault/vaults/",
    ),
    EventRule(
        name="watch-removed",
        scopes=_group,
        fields={
            "category": "Administrative",
            "operationName": tuple(f"{each}/delete" for each in _WATCHING),
        },
        when="something that collects, stores or watches telemetry, or sends alerts, is deleted",
        meaning="Somebody deleted logs, their collection, an alert or its receivers: expected only from pulumi up.",
        runbook="telemetry-stopped.md",
        source="docs/threat-model.md",
    ),
    EventRule(
        name="rule-disabled",
        scopes=_group,
        fields=_administrative("Microsoft.Insights/ScheduledQueryRules/disable/action"),
        when="Azure disables a rule whose query failed for a week",
        meaning="Azure disabled one of these rules, since its query fails: nothing watches for its condition.",
        runbook="telemetry-stopped.md",
        source=f"{LEARN}/azure-monitor/alerts/alerts-troubleshoot-log",
    ),
    EventRule(
        name="service-health",
        # Azure reports service health only for a whole subscription.
        scopes=_subscription,
        fields={"category": "ServiceHealth"},
        when="Azure announces an incident or planned maintenance",
        meaning="Azure has an incident or maintenance that touches the subscription.",
        runbook=_FAILS,
        source=f"{LEARN}/service-health/alerts-activity-log-service-notifications-portal",
    ),
    EventRule(
        name="resource-health",
        scopes=_group,
        # As in Azure's template that reduces false alerts.
        fields={
            "category": "ResourceHealth",
            "properties.currentHealthStatus": ("Degraded", "Unavailable"),
            # Not from Unknown, the status of a new resource.
            "properties.previousHealthStatus": ("Available", "Degraded", "Unavailable"),
            # Not what a person or the VM itself initiated, such as a reboot for patches.
            "properties.cause": "PlatformInitiated",
            # Not VMs: they have a rule that Azure's planned reboots do not trigger.
            "resourceType": HEALTH_TYPES,
        },
        when="a resource, not a VM, becomes degraded or unavailable, and Azure itself is the cause",
        meaning="Azure reports that a resource of the member is degraded or unavailable.",
        runbook=_FAILS,
        source=f"{LEARN}/azure-monitor/alerts/resource-manager-alerts-resource-health",
    ),
)
