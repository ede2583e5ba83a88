"""Azure Storage: persistent network information, the leases by which VMs take identities, and the ledger's share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi_random as random
from pulumi import ComponentResource, Input, Output, ResourceOptions
from pulumi_azure_native import storage

from components.diagnostics import send_logs
from components.private_endpoint import PrivateEndpoint, PrivateEndpointArgs
from components.roles import Role, grant, grant_groups

_SOFT_DELETE_DAYS = 30
_SMALLEST_SHARE_GIB = 100


@dataclass(frozen=True, kw_only=True)
class LedgerStorageArgs:
    """Inputs of `LedgerStorage`."""

    resource_group_name: Input[str]
    """Required. Resource group of the accounts."""
    location: Input[str]
    """Required. Region of the accounts."""
    endpoints_subnet_id: Input[str]
    """Required. Subnet of the private endpoints."""
    blob_zone_id: Input[str]
    """Required. Private DNS zone of blobs."""
    file_zone_id: Input[str]
    """Required. Private DNS zone of file shares."""
    node_principal_id: Input[str]
    """Required. Principal of the node VMs: it may read and write blobs of both containers, and lease them."""
    zone_redundant: bool = True
    """Optional. Keeps copies in three availability zones; off only where the region has none."""
    geo_redundant: bool = True
    """Optional. Keeps network information in the paired region too; off only where there is none."""
    operators: Sequence[str] = ()
    """Optional. Entra groups that may read network information, from inside the network: certificates among it."""
    share_gib: int = _SMALLEST_SHARE_GIB
    """Optional. Provisioned size of the share in GiB, 100 or more; its speed grows with it."""
    workspace_id: Input[str] | None = None
    """Optional. Log Analytics workspace for the log of reads, writes and deletes of blobs."""
    deletion_protection: bool = True
    """Optional. Protects both accounts, the containers and the share."""
    tags: Mapping[str, Input[str]] | None = None
    """Optional. Put on every taggable child."""

    def __post_init__(self) -> None:
        if self.share_gib < _SMALLEST_SHARE_GIB:
            raise ValueError(f"LedgerStorage: share_gib is {self.share_gib}; wanted {_SMALLEST_SHARE_GIB} or more")


class LedgerStorage(ComponentResource):
    """Two accounts without shared keys, reached by their private endpoints alone.

    Blobs: container `network` holds network information, versioned; container `leases` one blob an identity,
    made by the nodes themselves. Files: an NFS 4.1 share for what a node keeps beside its database.
    """

    blob_account_name: Output[str]
    """Account of the containers."""
    network_container: Output[str]
    """Container of persistent network information."""
    lease_container: Output[str]
    """Container of the identities' lease blobs."""
    account_ids: dict[str, Output[str]]
    """Resource ids of both accounts, by `blobs` and `files`."""
    file_account_name: Output[str]
    """Account of the share."""
    share_name: Output[str]
    """The ledger's NFS share."""

    def __init__(self, name: str, args: LedgerStorageArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("decentralized-trust:azure:LedgerStorage", name, None, opts)
        self._name, self._args = name, args
        self._protected = ResourceOptions(parent=self, protect=args.deletion_protection)
        blobs = self._account(
            "blobs", storage.Kind.STORAGE_V2, _blob_redundancy(args.zone_redundant, args.geo_redundant)
        )
        storage.BlobServiceProperties(
            f"{name}-blob-service",
            resource_group_name=args.resource_group_name,
            account_name=blobs.name,
            blob_services_name="default",
            is_versioning_enabled=True,
            change_feed=storage.ChangeFeedArgs(enabled=True),
            delete_retention_policy=storage.DeleteRetentionPolicyArgs(enabled=True, days=_SOFT_DELETE_DAYS),
            container_delete_retention_policy=storage.DeleteRetentionPolicyArgs(enabled=True, days=_SOFT_DELETE_DAYS),
            opts=ResourceOptions(parent=self),
        )
        self.blob_account_name = blobs.name
        network, leases = (self._container(role, blobs) for role in ("network", "leases"))
        self.network_container, self.lease_container = network.name, leases.name
        for role, container in (("network", network), ("leases", leases)):
            # Not on the account: what a network authority keeps in it is none of the nodes' business.
            grant(
                f"{name}-nodes-{role}",
                role=Role.STORAGE_BLOB_DATA_CONTRIBUTOR,
                scope=container.id,
                principal_id=args.node_principal_id,
                parent=self,
            )
        grant_groups(
            f"{name}-operators",
            role=Role.STORAGE_BLOB_DATA_READER,
            scope=network.id,
            groups=args.operators,
            parent=self,
        )
        send_logs(
            f"{name}-blob-logs",
            resource_id=Output.concat(blobs.id, "/blobServices/default"),
            workspace_id=args.workspace_id,
            parent=self,
        )

        files = self._account(
            "files",
            storage.Kind.FILE_STORAGE,
            storage.SkuName.PREMIUM_ZRS if args.zone_redundant else storage.SkuName.PREMIUM_LRS,
        )
        file_service = storage.FileServiceProperties(
            f"{name}-file-service",
            resource_group_name=args.resource_group_name,
            account_name=files.name,
            file_services_name="default",
            share_delete_retention_policy=storage.DeleteRetentionPolicyArgs(enabled=True, days=_SOFT_DELETE_DAYS),
            opts=ResourceOptions(parent=self),
        )
        share = storage.FileShare(
            f"{name}-share",
            resource_group_name=args.resource_group_name,
            account_name=files.name,
            share_name="ledger",
            enabled_protocols=storage.EnabledProtocols.NFS,
            # Each node's folder belongs to a user of its own, which only root of the VM can arrange.
            root_squash=storage.RootSquashType.NO_ROOT_SQUASH,
            share_quota=args.share_gib,
            opts=ResourceOptions.merge(self._protected, ResourceOptions(depends_on=[file_service])),
        )
        self.file_account_name = files.name
        self.share_name = share.name
        self.account_ids = {"blobs": blobs.id, "files": files.id}

        for role, account, zone_id in (("blob", blobs, args.blob_zone_id), ("file", files, args.file_zone_id)):
            PrivateEndpoint(
                f"{name}-{role}-access",
                PrivateEndpointArgs(
                    resource_group_name=args.resource_group_name,
                    location=args.location,
                    subnet_id=args.endpoints_subnet_id,
                    zone_id=zone_id,
                    service_id=account.id,
                    group_id=role,
                    tags=args.tags,
                ),
                ResourceOptions(parent=self),
            )
        self.register_outputs(
            {
                "blob_account_name": self.blob_account_name,
                "network_container": self.network_container,
                "lease_container": self.lease_container,
                "file_account_name": self.file_account_name,
                "share_name": self.share_name,
                "account_ids": self.account_ids,
            }
        )

    def _account(self, role: str, kind: storage.Kind, sku: storage.SkuName) -> storage.StorageAccount:
        args = self._args
        # Lower-case letters and digits, 24 at most, and unique in the world: no logical name would do.
        suffix = random.RandomString(
            f"{self._name}-{role}-suffix",
            length=12,
            lower=True,
            numeric=True,
            upper=False,
            special=False,
            opts=self._protected,
        )
        return storage.StorageAccount(
            f"{self._name}-{role}",
            account_name=Output.concat("ledger", role, suffix.result),
            resource_group_name=args.resource_group_name,
            location=args.location,
            kind=kind,
            sku=storage.SkuArgs(name=sku),
            access_tier=storage.AccessTier.HOT if kind == storage.Kind.STORAGE_V2 else None,
            allow_blob_public_access=False,
            allow_shared_key_access=False,
            allow_cross_tenant_replication=False,
            default_to_o_auth_authentication=True,
            # For NFS this makes the mount's TLS a must.
            enable_https_traffic_only=True,
            minimum_tls_version=storage.MinimumTlsVersion.TLS1_2,
            is_local_user_enabled=False,
            is_sftp_enabled=False,
            encryption=storage.EncryptionArgs(
                key_source=storage.KeySource.MICROSOFT_STORAGE, require_infrastructure_encryption=True
            ),
            public_network_access=storage.PublicNetworkAccess.DISABLED,
            network_rule_set=storage.NetworkRuleSetArgs(
                default_action=storage.DefaultAction.DENY, bypass=storage.Bypass.NONE
            ),
            tags=args.tags,
            opts=ResourceOptions.merge(self._protected, ResourceOptions(delete_before_replace=True)),
        )

    def _container(self, role: str, account: storage.StorageAccount) -> storage.BlobContainer:
        return storage.BlobContainer(
            f"{self._name}-{role}",
            resource_group_name=self._args.resource_group_name,
            account_name=account.name,
            container_name=role,
            public_access=storage.PublicAccess.NONE,
            opts=self._protected,
        )


def _blob_redundancy(zone_redundant: bool, geo_redundant: bool) -> storage.SkuName:
    if zone_redundant:
        return storage.SkuName.STANDARD_GZRS if geo_redundant else storage.SkuName.STANDARD_ZRS
    return storage.SkuName.STANDARD_GRS if geo_redundant else storage.SkuName.STANDARD_LRS
