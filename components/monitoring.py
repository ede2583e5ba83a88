"""Log Analytics, Application Insights, and the collection of the VMs' counters and logs."""

from collections.abc import Sequence
from dataclasses import dataclass

from pulumi import ComponentResource, Input, Output, Resource, ResourceOptions
from pulumi_azure_native import applicationinsights, authorization, monitor, operationalinsights

from components.collected import COUNTERS, FACILITIES, LEVELS
from components.inputs import Placement, protect_if
from components.roles import BuiltInRole, grant, grant_groups

_WORKSPACE = "workspace"
_ASSOCIATE_LINUX_VMS = "/providers/Microsoft.Authorization/policyDefinitions/2ea82cdd-f2e8-4500-af75-67a2e084ca74"
"""Azure's own policy "Configure Linux Machines to be associated with a Data Collection Rule"; it needs both roles."""


@dataclass(frozen=True, kw_only=True)
class MonitoringArgs:
    """Inputs of `Monitoring`."""

    placement: Placement
    """Required. Resource group, region and tags of all children."""
    resource_group_id: Input[str]
    """Required. Resource group whose VMs' counters and logs are collected."""
    node_principal_id: Input[str]
    """Required. Principal of the node VMs: it may send telemetry."""
    daily_cap_gb: float
    """Required. GB after which the workspace ingests nothing more until the next day: limits the cost of logs that
    others cause."""
    operators: Sequence[str] = ()
    """Optional. Entra groups that may read logs, metrics and the workbook."""
    retention_days: int = 90
    """Optional. Retention of logs in days, 30 to 730."""
    deletion_protection: bool = True
    """Optional. Whether Pulumi refuses to delete the workspace with its logs, among them who read the vaults."""

    def __post_init__(self) -> None:
        if not 30 <= self.retention_days <= 730:
            raise ValueError(f"Monitoring: retention_days is {self.retention_days}; wanted 30 to 730")


class Monitoring(ComponentResource):
    """Stores logs and metrics. Telemetry is authenticated by Entra only."""

    workspace_id: Output[str]
    """Resource id of the Log Analytics workspace."""
    workspace_customer_id: Output[str]
    """The GUID by which the workspace is queried."""
    collection: Sequence[Resource]
    """Policy assignment and roles that collect each VM's counters and logs. VMs must depend on them: the policy
    applies to VMs that are created later."""
    connection_string: Output[str]
    """Connection string of Application Insights, for VMs' metrics; no secret, since local authentication is off."""
    insights_id: Output[str]
    """Resource id of Application Insights, for role assignments of its senders."""

    def __init__(self, name: str, args: MonitoringArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("decentralized-trust:azure:Monitoring", name, None, opts)
        child = ResourceOptions(parent=self)
        workspace = operationalinsights.Workspace(
            f"{name}-workspace",
            resource_group_name=args.placement.resource_group_name,
            location=args.placement.location,
            sku=operationalinsights.WorkspaceSkuArgs(name=operationalinsights.WorkspaceSkuNameEnum.PER_GB2018),
            retention_in_days=args.retention_days,
            workspace_capping=operationalinsights.WorkspaceCappingArgs(daily_quota_gb=args.daily_cap_gb),
            features=operationalinsights.WorkspaceFeaturesArgs(
                disable_local_auth=True, enable_log_access_using_only_resource_permissions=True
            ),
            tags=args.placement.tags,
            opts=ResourceOptions(parent=self, protect=protect_if(args.deletion_protection)),
        )
        insights = applicationinsights.Component(
            f"{name}-insights",
            resource_group_name=args.placement.resource_group_name,
            location=args.placement.location,
            kind="other",
            application_type=applicationinsights.ApplicationType.OTHER,
            ingestion_mode=applicationinsights.IngestionMode.LOG_ANALYTICS,
            workspace_resource_id=workspace.id,
            disable_local_auth=True,
            tags=args.placement.tags,
            opts=child,
        )
        grant(
            f"{name}-nodes",
            role=BuiltInRole.MONITORING_METRICS_PUBLISHER,
            scope=insights.id,
            principal_id=args.node_principal_id,
            parent=self,
        )
        grant_groups(
            f"{name}-operators",
            # Not on the workspace alone: the workbook and Azure's own metrics are outside it.
            role=BuiltInRole.MONITORING_READER,
            scope=args.resource_group_id,
            groups=args.operators,
            parent=self,
        )
        rule = monitor.DataCollectionRule(
            f"{name}-collection",
            resource_group_name=args.placement.resource_group_name,
            location=args.placement.location,
            kind="Linux",
            data_sources=monitor.DataCollectionRuleDataSourcesArgs(
                performance_counters=[
                    monitor.PerfCounterDataSourceArgs(
                        name="vm",
                        streams=["Microsoft-Perf"],
                        sampling_frequency_in_seconds=COUNTERS.seconds,
                        counter_specifiers=COUNTERS.specifiers,
                    )
                ],
                syslog=[
                    monitor.SyslogDataSourceArgs(
                        name="system",
                        streams=["Microsoft-Syslog"],
                        facility_names=FACILITIES,
                        log_levels=LEVELS,
                    )
                ],
            ),
            destinations=monitor.DataCollectionRuleDestinationsArgs(
                log_analytics=[
                    monitor.LogAnalyticsDestinationArgs(name=_WORKSPACE, workspace_resource_id=workspace.id)
                ]
            ),
            data_flows=[
                monitor.DataFlowArgs(streams=["Microsoft-Perf", "Microsoft-Syslog"], destinations=[_WORKSPACE])
            ],
            tags=args.placement.tags,
            # Azure deletes no rule that its policy has associated with VMs, and those last until all VMs are rolled:
            # github.com/hashicorp/terraform-provider-azurerm/issues/24785.
            opts=ResourceOptions(parent=self, retain_on_delete=True),
        )
        self.workspace_id, self.workspace_customer_id = workspace.id, workspace.customer_id
        self.collection = self._collect(name, args, rule)
        self.connection_string = insights.connection_string
        self.insights_id = insights.id
        self.register_outputs(
            {
                "workspace_id": self.workspace_id,
                "workspace_customer_id": self.workspace_customer_id,
                "connection_string": self.connection_string,
                "insights_id": self.insights_id,
            }
        )

    def _collect(self, name: str, args: MonitoringArgs, rule: monitor.DataCollectionRule) -> list[Resource]:
        """Associate the rule with each new VM of the group, by Azure Policy: a Flexible scale set has no association.

        Source: learn.microsoft.com/azure/azure-monitor/vm/data-collection.
        """
        assignment = authorization.PolicyAssignment(
            f"{name}-collection-policy",
            scope=args.resource_group_id,
            location=args.placement.location,
            policy_assignment_name="ledger-collection",
            display_name="Ledger VMs: counters and logs",
            policy_definition_id=_ASSOCIATE_LINUX_VMS,
            identity=authorization.IdentityArgs(type=authorization.ResourceIdentityType.SYSTEM_ASSIGNED),
            parameters={
                "dcrResourceId": authorization.ParameterValuesValueArgs(value=rule.id),
                # False includes VMs of the bank's own image.
                "scopeToSupportedImages": authorization.ParameterValuesValueArgs(value=False),
            },
            opts=ResourceOptions(parent=self),
        )
        principal_id = assignment.identity.apply(lambda identity: identity.principal_id)
        roles = {
            "associates": BuiltInRole.MONITORING_CONTRIBUTOR,
            "reads-workspace": BuiltInRole.LOG_ANALYTICS_CONTRIBUTOR,
        }
        return [
            assignment,
            *(
                grant(
                    f"{name}-collection-{word}",
                    role=role,
                    scope=args.resource_group_id,
                    principal_id=principal_id,
                    parent=self,
                )
                for word, role in roles.items()
            ),
        ]
