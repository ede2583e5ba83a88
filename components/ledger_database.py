"""Azure Database for PostgreSQL: a database for each identity: its node's states, transactions and checkpoints."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import pulumi_random as random
from pulumi import ComponentResource, CustomTimeouts, Input, Output, Resource, ResourceOptions
from pulumi_azure_native import dbforpostgresql

from components.collected import DATABASE_LOGS
from components.diagnostics import send_logs
from components.inputs import Placement, Safeguards
from components.repeats import repeated

# Default max_connections by vCores, of the general purpose series; the memory optimized one allows as many or more:
# learn.microsoft.com/azure/postgresql/flexible-server/concepts-limits.
_CONNECTIONS = {2: 859, 4: 1718, 8: 3437, 16: 5000}
_RESERVED_CONNECTIONS = 15
_IN_ANOTHER_ZONE = "ZoneRedundant"
NEWEST_GENERATION = 5
"""Newest generation of Azure VMs that a server gets by default."""
# learn.microsoft.com/azure/postgresql/flexible-server/concepts-compute
_SKU = re.compile(r"Standard_([DE])(2|4|8|16|32|48|64)(?:s_v3|ds_v[456])")


@dataclass(frozen=True, kw_only=True)
class LedgerDatabaseArgs:
    """Inputs of `LedgerDatabase`."""

    placement: Placement
    """Required. Resource group, region and tags of all children."""
    tenant_id: Input[str]
    """Required. Entra tenant whose principals may sign in."""
    subnet_id: Input[str]
    """Required. Subnet delegated to PostgreSQL."""
    zone_id: Input[str]
    """Required. Private DNS zone of the server's name."""
    version: str
    """Required. Major version of a new server; an existing server keeps its version."""
    connections_per_identity: int
    """Required. Database connections of one identity: its node's pool and its agent's."""
    identities_per_vcore: int
    """Required. Nodes that one vCore serves under full load."""
    identities: Sequence[str]
    """Required. Names of the identities; agents create a database of that name for each."""
    administrator_principal_id: Input[str]
    """Required. Principal of the node VMs, which creates each identity's database and a role for each epoch."""
    administrator_name: Input[str]
    """Required. Name of that principal."""
    sku: str | None = None
    """Optional. SKU of the server, which the region must offer; by default a general purpose one by identities."""
    high_availability: str = _IN_ANOTHER_ZONE
    """Optional. Place of the synchronous standby: `ZoneRedundant`, `SameZone`, or `Disabled` for none."""
    geo_redundant_backup: bool = True
    """Optional. Whether backups are copied to the paired region; fixed when the server is created."""
    safeguards: Safeguards = Safeguards()
    """Optional. Log destination and deletion protection."""


class LedgerDatabase(ComponentResource):
    """A flexible server inside the network.

    The node VMs' principal signs in through Entra. It creates each identity's database: one created through Resource
    Manager would be owned by the first administrator, and only a database's owner can grant roles access to it. It
    also creates a role for each epoch, whose password exists only in its node's memory. Such roles need password
    sign-in, and Azure then requires a first administrator: its password is random, and nobody knows or uses it.
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
            resource_group_name=args.placement.resource_group_name,
            location=args.placement.location,
            version=args.version,
            administrator_login="unused",
            administrator_login_password=password,
            # Valid for updates too, unlike `Create`.
            create_mode=dbforpostgresql.CreateMode.DEFAULT,
            sku=_sku(args),
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
            tags=args.placement.tags,
            opts=ResourceOptions(
                parent=self,
                protect=args.safeguards.protect,
                ignore_changes=[
                    # Storage grows automatically, tier and IOPS with it, and can't shrink.
                    "storage",
                    # A failover exchanges them. Another mode must not get the standby's old zone.
                    "availabilityZone",
                    *(["highAvailability.standbyAvailabilityZone"] * (args.high_availability == _IN_ANOTHER_ZONE)),
                    # Operators upgrade the major version by hand, docs/runbooks/upgrading-the-database.md.
                    "version",
                    # Pulumi would replace a server that an older program created with another mode.
                    "createMode",
                ],
                custom_timeouts=CustomTimeouts(create="1h", update="1h", delete="1h"),
            ),
        )
        administrator = dbforpostgresql.AdministratorsMicrosoftEntra(
            f"{name}-administrator",
            resource_group_name=args.placement.resource_group_name,
            server_name=server.name,
            object_id=args.administrator_principal_id,
            principal_name=args.administrator_name,
            # Not the SDK's enum of this name: it belongs to another API version, with another spelling.
            principal_type="ServicePrincipal",
            tenant_id=args.tenant_id,
            opts=ResourceOptions(parent=self, delete_before_replace=True, hooks=repeated()),
        )
        # The server accepts one change at a time, so each waits for the previous one.
        previous: Resource = administrator
        for setting, value in _SERVER_SETTINGS.items():
            previous = dbforpostgresql.Configuration(
                f"{name}-{setting.replace('_', '-')}",
                resource_group_name=args.placement.resource_group_name,
                server_name=server.name,
                configuration_name=setting,
                source="user-override",
                value=value,
                opts=ResourceOptions(parent=self, depends_on=[previous], hooks=repeated()),
            )
        send_logs(
            f"{name}-logs",
            resource_id=server.id,
            workspace_id=args.safeguards.workspace_id,
            categories=DATABASE_LOGS,
            parent=self,
        )
        self.server_id = server.id
        self.host = server.fully_qualified_domain_name
        self.register_outputs({"server_id": self.server_id, "host": self.host})


_SERVER_SETTINGS = {
    "require_secure_transport": "on",
    "ssl_min_protocol_version": "TLSv1.2",
    "log_connections": "on",
    "log_disconnections": "on",
}


def _sku(args: LedgerDatabaseArgs) -> dbforpostgresql.SkuArgs:
    name = args.sku or general_purpose_sku(
        vcores(len(args.identities), args.identities_per_vcore, args.connections_per_identity)
    )
    tiers = {"D": dbforpostgresql.SkuTier.GENERAL_PURPOSE, "E": dbforpostgresql.SkuTier.MEMORY_OPTIMIZED}
    return dbforpostgresql.SkuArgs(name=name, tier=tiers[_matched(name)[1]])


def general_purpose_sku(cores: int, generation: int = NEWEST_GENERATION) -> str:
    """Name of the general purpose SKU with so many vCores, of a generation of Azure VMs."""
    return f"Standard_D{cores}{'s' if generation == 3 else 'ds'}_v{generation}"


def _matched(sku: str) -> re.Match[str]:
    if matched := _SKU.fullmatch(sku):
        return matched
    raise ValueError(
        f"{sku!r}; wanted such as Standard_D4s_v3, Standard_D4ds_v5, Standard_E4ds_v5: of 2 to 64 vCores"
    )


def check_sku(sku: str) -> str:
    """Check a server's SKU and return it: general purpose or memory optimized, Intel, as in the table of regions.

    Raises:
        ValueError: not such a SKU.
    """
    _matched(sku)
    return sku


def vcores_of(sku: str) -> int:
    """Number of vCores of a server's SKU.

    Raises:
        ValueError: not such a SKU.
    """
    return int(_matched(sku)[2])


def vcores(identities: int, identities_per_vcore: int, connections_per_identity: int) -> int:
    """Number of vCores of the smallest server for so many identities, by their load and their connections.

    Raises:
        ValueError: too many identities for the largest server.
    """

    def takes(cores: int) -> int:
        by_connections = (_CONNECTIONS[cores] - _RESERVED_CONNECTIONS) // connections_per_identity
        return min(cores * identities_per_vcore, by_connections)

    for cores in _CONNECTIONS:
        if identities <= takes(cores):
            return cores
    raise ValueError(f"LedgerDatabase: {identities} identities; wanted {takes(max(_CONNECTIONS))} at most")
