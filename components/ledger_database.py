"""Azure Database for PostgreSQL: the nodes' vaults, transactions and checkpoints, one database an identity."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi_random as random
from pulumi import ComponentResource, CustomTimeouts, Input, Output, ResourceOptions
from pulumi_azure_native import dbforpostgresql

from components.diagnostics import send_logs

# vCores and max_connections by default, learn.microsoft.com/azure/postgresql/flexible-server/concepts-limits.
_SKUS = {2: 859, 4: 1718, 8: 3437, 16: 5000}
_RESERVED_CONNECTIONS = 15
_POOLED_CONNECTIONS_PER_VCORE = 40
"""Our rule: a pool of 20 is mostly idle, so two nodes share a vCore."""


@dataclass(frozen=True, kw_only=True)
class LedgerDatabaseArgs:
    """Inputs of `LedgerDatabase`."""

    resource_group_name: Input[str]
    """Required. Resource group of the server."""
    location: Input[str]
    """Required. Region of the server."""
    tenant_id: Input[str]
    """Required. Entra tenant whose principals may sign in."""
    subnet_id: Input[str]
    """Required. Subnet delegated to PostgreSQL."""
    zone_id: Input[str]
    """Required. Private DNS zone of the server's name."""
    version: str
    """Required. Major version that the ledger platform wants."""
    connections_per_identity: int
    """Required. Size of one node's connection pool."""
    identities: Sequence[str]
    """Required. Names of the identities; each makes itself a database of that name."""
    administrator_principal_id: Input[str]
    """Required. Principal of the node VMs, which makes each identity's database, and the roles of its epochs."""
    administrator_name: Input[str]
    """Required. Name of that principal."""
    high_availability: str = "ZoneRedundant"
    """Optional. Where the standby is that commits wait for: `ZoneRedundant`, `SameZone`, or `Disabled` for none."""
    geo_redundant_backup: bool = True
    """Optional. Backups in the paired region too; fixed when the server is made."""
    workspace_id: Input[str] | None = None
    """Optional. Log Analytics workspace for the server's log."""
    deletion_protection: bool = True
    """Optional. Protects the server."""
    tags: Mapping[str, Input[str]] | None = None
    """Optional. Put on every taggable child."""


class LedgerDatabase(ComponentResource):
    """A flexible server inside the network.

    The node VMs' principal signs in through Entra. It makes each identity's database, since one that is made through
    Resource Manager is owned by the first administrator, and only the owner of a database lets roles into it; and a
    role for each epoch, whose password exists in its node's memory alone. Such roles want password sign-in turned on,
    and with it that first administrator: its password is random, nobody is told it, and nobody signs in with it.
    """

    server_id: Output[str]
    """Resource id of the server."""
    host: Output[str]
    """DNS name of the server, resolved inside the network."""

    def __init__(self, name: str, args: LedgerDatabaseArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("decentralized-trust:azure:LedgerDatabase", name, None, opts)
        made = random.RandomBytes(
            f"{name}-first-administrator",
            length=48,
            opts=ResourceOptions(parent=self, additional_secret_outputs=["base64", "hex"]),
        )
        password: Output[str] = Output.secret(made.base64)
        server = dbforpostgresql.Server(
            f"{name}-server",
            resource_group_name=args.resource_group_name,
            location=args.location,
            version=args.version,
            administrator_login="unused",
            administrator_login_password=password,
            create_mode=dbforpostgresql.CreateMode.CREATE,
            sku=dbforpostgresql.SkuArgs(
                name=f"Standard_D{vcores(len(args.identities) * args.connections_per_identity)}ds_v5",
                tier=dbforpostgresql.SkuTier.GENERAL_PURPOSE,
            ),
            storage=dbforpostgresql.StorageArgs(
                storage_size_gb=128, auto_grow=dbforpostgresql.StorageAutoGrow.ENABLED
            ),
            network=dbforpostgresql.NetworkArgs(
                delegated_subnet_resource_id=args.subnet_id,
                private_dns_zone_arm_resource_id=args.zone_id,
                public_network_access=dbforpostgresql.ServerPublicNetworkAccessState.DISABLED,
            ),
            auth_config=dbforpostgresql.AuthConfigArgs(
                active_directory_auth="Enabled",
                tenant_id=args.tenant_id,
                password_auth="Enabled",  # noqa: S106
            ),
            high_availability=dbforpostgresql.HighAvailabilityArgs(mode=args.high_availability),
            backup=dbforpostgresql.BackupArgs(
                backup_retention_days=35,
                geo_redundant_backup="Enabled" if args.geo_redundant_backup else "Disabled",
            ),
            # Sunday, two hours into the gateways' own window.
            maintenance_window=dbforpostgresql.MaintenanceWindowArgs(
                custom_window="Enabled", day_of_week=0, start_hour=3, start_minute=0
            ),
            tags=args.tags,
            opts=ResourceOptions(
                parent=self,
                protect=args.deletion_protection,
                # It grows by itself, and can't be made smaller again.
                ignore_changes=["storage.storageSizeGB"],
                custom_timeouts=CustomTimeouts(create="1h", update="1h", delete="1h"),
            ),
        )
        administrator = dbforpostgresql.Administrator(
            f"{name}-administrator",
            resource_group_name=args.resource_group_name,
            server_name=server.name,
            object_id=args.administrator_principal_id,
            principal_name=args.administrator_name,
            principal_type=dbforpostgresql.PrincipalType.SERVICE_PRINCIPAL,
            tenant_id=args.tenant_id,
            opts=ResourceOptions(parent=self, delete_before_replace=True),
        )
        # The server takes one change at a time, so each waits for the one before.
        previous: dbforpostgresql.Administrator | dbforpostgresql.Configuration = administrator
        for setting, value in _SETTINGS.items():
            previous = dbforpostgresql.Configuration(
                f"{name}-{setting.replace('_', '-')}",
                resource_group_name=args.resource_group_name,
                server_name=server.name,
                configuration_name=setting,
                source="user-override",
                value=value,
                opts=ResourceOptions(parent=self, depends_on=[previous]),
            )
        send_logs(f"{name}-logs", resource_id=server.id, workspace_id=args.workspace_id, parent=self)
        self.server_id = server.id
        self.host = server.fully_qualified_domain_name
        self.register_outputs({"server_id": self.server_id, "host": self.host})


_SETTINGS = {
    "require_secure_transport": "on",
    "ssl_min_protocol_version": "TLSv1.2",
    "log_connections": "on",
    "log_disconnections": "on",
}


def vcores(connections: int) -> int:
    """vCores of the smallest server that takes so many pooled connections.

    Raises:
        ValueError: more connections than the largest server of the table takes.
    """
    for cores, most in _SKUS.items():
        if connections <= min(cores * _POOLED_CONNECTIONS_PER_VCORE, most - _RESERVED_CONNECTIONS):
            return cores
    largest = max(_SKUS) * _POOLED_CONNECTIONS_PER_VCORE
    raise ValueError(f"LedgerDatabase: {connections} connections; wanted {largest} at most")
