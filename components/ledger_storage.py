"""Azure Storage: network information, the leases by which VMs acquire identities, and the ledger's file share."""

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi_random as random
from pulumi import ComponentResource, Input, Output, ResourceOptions
from pulumi_azure_native import storage

from components.collected import BLOB_LOGS
from components.diagnostics import send_logs
from components.inputs import Placement, Safeguards
from components.private_endpoint import PrivateEndpoint, PrivateEndpointArgs
from components.roles import BuiltInRole, grant, grant_groups, without_deleting
from contract.vm_configuration import PRESENCE_PREFIX

_SOFT_DELETE_DAYS = 30
SHARE_GIB = range(100, 102_401)
"""Sizes in GiB of an SSD share that is billed as provisioned v1, on 2026-11-29:
learn.microsoft.com/azure/storage/files/storage-files-scale-targets."""
_VERSION_DAYS = 90
"""Days that overwritten blobs can be restored."""
_LEASES = "leases"


@dataclass(frozen=True, kw_only=True)
class LedgerStorageArgs:
    """Inputs of `LedgerStorage`."""

    placement: Placement
    """Required. Resource group, region and tags of all children."""
    endpoints_subnet_id: Input[str]
    """Required. Subnet of the private endpoints."""
    blob_zone_id: Input[str]
    """Required. Private DNS zone of blobs."""
    file_zone_id: Input[str]
    """Required. Private DNS zone of file shares."""
    node_principal_id: Input[str]
    """Required. Principal of the node VMs: it may read, write and lease blobs of both containers, and delete blobs of
    `network`, but not leases' blobs. It could delete a whole container, which can be restored for 30 days."""
    zone_redundant: bool = True
    """Optional. Stores copies in three availability zones; off only if the region has none."""
    geo_redundant: bool = True
    """Optional. Copies blobs to the paired region too; off only if the region has none."""
    operators: Sequence[str] = ()
    """Optional. Entra groups that may read network information, with its certificates, from inside the network."""
    share_gib: int = SHARE_GIB[0]
    """Optional. Provisioned size of the share in GiB, 100 to 102400: raised in place, which also raises its speed."""
    safeguards: Safeguards = Safeguards()
    """Optional. Log destination and deletion protection."""

    def __post_init__(self) -> None:
        if self.share_gib not in SHARE_GIB:
            raise ValueError(
                f"LedgerStorage: share_gib is {self.share_gib}; wanted {SHARE_GIB[0]} to {SHARE_GIB[-1]}"
            )


class LedgerStorage(ComponentResource):
    """Two storage accounts without shared keys, reachable only through their private endpoints.

    Blobs: container `network` holds network information, versioned; container `leases` holds one blob for each
    identity, created by agents. Files: an NFS 4.1 share for the state that nodes have outside their databases.
    """

    blob_account_name: Output[str]
    """Name of the account of both containers."""
    network_container: Output[str]
    """Name of the container of network information."""
    lease_container: Output[str]
    """Name of the container of the identities' lease blobs."""
    account_ids: dict[str, Output[str]]
    """Resource ids of both accounts, by `blobs` and `files`."""
    file_service_id: Output[str]
    """Resource id of the file service, which has the share's metrics."""
    file_account_name: Output[str]
    """Name of the account of the share."""
    share_name: Output[str]
    """Name of the ledger's NFS share."""

    def __init__(self, name: str, args: LedgerStorageArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("decentralized-trust:azure:LedgerStorage", name, None, opts)
        self._name, self._args = name, args
        self._protected = ResourceOptions(parent=self, protect=args.safeguards.protect)
        blobs = self._account(
            "blobs",
            storage.Kind.STORAGE_V2,
            _blob_redundancy(args.zone_redundant, args.geo_redundant),
            # Otherwise the firewall blocks the account's lifecycle rules: learn.microsoft.com/azure/storage/blobs/
            # lifecycle-management-policy-configure. A trusted service still needs a role assignment.
            bypass=storage.Bypass.AZURE_SERVICES,
        )
        blob_service = storage.BlobServiceProperties(
            f"{name}-blob-service",
            resource_group_name=args.placement.resource_group_name,
            account_name=blobs.name,
            blob_services_name="default",
            is_versioning_enabled=True,
            # As long as the versions that it tells of: without a number Azure keeps it for ever.
            change_feed=storage.ChangeFeedArgs(enabled=True, retention_in_days=_VERSION_DAYS),
            delete_retention_policy=storage.DeleteRetentionPolicyArgs(enabled=True, days=_SOFT_DELETE_DAYS),
            container_delete_retention_policy=storage.DeleteRetentionPolicyArgs(enabled=True, days=_SOFT_DELETE_DAYS),
            opts=ResourceOptions(parent=self),
        )
        self.blob_account_name = blobs.name
        network, leases = (self._container(role, blobs) for role in ("network", _LEASES))
        self.network_container, self.lease_container = network.name, leases.name
        lifecycle = self._expire_versions(blobs, leases)
        # Without its lease blob, an identity could be held by two VMs until database and share refuse the older one.
        for role, container, condition in (
            ("network", network, None),
            (_LEASES, leases, without_deleting(_LEASES)),
        ):
            # Not on the account: nodes need no access to the network authority's container.
            grant(
                f"{name}-nodes-{role}",
                role=BuiltInRole.STORAGE_BLOB_DATA_CONTRIBUTOR,
                scope=container.id,
                principal_id=args.node_principal_id,
                condition=condition,
                parent=self,
            )
        grant_groups(
            f"{name}-operators",
            role=BuiltInRole.STORAGE_BLOB_DATA_READER,
            scope=network.id,
            groups=args.operators,
            parent=self,
        )
        send_logs(
            f"{name}-blob-logs",
            resource_id=Output.concat(blobs.id, "/blobServices/default"),
            workspace_id=args.safeguards.workspace_id,
            categories=BLOB_LOGS,
            parent=self,
        )

        files = self._account(
            "files",
            storage.Kind.FILE_STORAGE,
            storage.SkuName.PREMIUM_ZRS if args.zone_redundant else storage.SkuName.PREMIUM_LRS,
        )
        file_service = storage.FileServiceProperties(
            f"{name}-file-service",
            resource_group_name=args.placement.resource_group_name,
            account_name=files.name,
            file_services_name="default",
            share_delete_retention_policy=storage.DeleteRetentionPolicyArgs(enabled=True, days=_SOFT_DELETE_DAYS),
            opts=ResourceOptions(parent=self),
        )
        share = storage.FileShare(
            f"{name}-share",
            resource_group_name=args.placement.resource_group_name,
            account_name=files.name,
            share_name="ledger",
            enabled_protocols=storage.EnabledProtocols.NFS,
            # Each node's folder belongs to a separate user, and only the VM's root can change owners.
            root_squash=storage.RootSquashType.NO_ROOT_SQUASH,
            share_quota=args.share_gib,
            opts=ResourceOptions.merge(self._protected, ResourceOptions(depends_on=[file_service])),
        )
        self.file_account_name = files.name
        self.share_name = share.name
        self.account_ids = {"blobs": blobs.id, "files": files.id}
        self.file_service_id = Output.concat(files.id, "/fileServices/default")

        for role, account, zone_id, before in (
            ("blob", blobs, args.blob_zone_id, [blob_service, network, leases, lifecycle]),
            ("file", files, args.file_zone_id, [share]),
        ):
            PrivateEndpoint(
                f"{name}-{role}-access",
                PrivateEndpointArgs(
                    placement=args.placement,
                    subnet_id=args.endpoints_subnet_id,
                    zone_id=zone_id,
                    service_id=account.id,
                    group_id=role,
                    wait_for=before,
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
                "file_service_id": self.file_service_id,
            }
        )

    def _account(
        self, role: str, kind: storage.Kind, sku: storage.SkuName, *, bypass: storage.Bypass = storage.Bypass.NONE
    ) -> storage.StorageAccount:
        args = self._args
        # Lower-case letters and digits, 24 at most, globally unique: Pulumi's autonaming can't do that.
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
            resource_group_name=args.placement.resource_group_name,
            location=args.placement.location,
            kind=kind,
            sku=storage.SkuArgs(name=sku),
            access_tier=storage.AccessTier.HOT if kind == storage.Kind.STORAGE_V2 else None,
            allow_blob_public_access=False,
            allow_shared_key_access=False,
            allow_cross_tenant_replication=False,
            default_to_o_auth_authentication=True,
            # For NFS this makes TLS on mounts mandatory.
            enable_https_traffic_only=True,
            minimum_tls_version=storage.MinimumTlsVersion.TLS1_2,
            is_local_user_enabled=False,
            is_sftp_enabled=False,
            encryption=storage.EncryptionArgs(
                key_source=storage.KeySource.MICROSOFT_STORAGE, require_infrastructure_encryption=True
            ),
            public_network_access=storage.PublicNetworkAccess.DISABLED,
            network_rule_set=storage.NetworkRuleSetArgs(default_action=storage.DefaultAction.DENY, bypass=bypass),
            tags=args.placement.tags,
            opts=ResourceOptions.merge(self._protected, ResourceOptions(delete_before_replace=True)),
        )

    def _expire_versions(
        self, account: storage.StorageAccount, leases: storage.BlobContainer
    ) -> storage.ManagementPolicy:
        """Delete old blob versions, one of which each write leaves. Of current blobs only presence blobs expire."""
        versions = storage.ManagementPolicyActionArgs(
            version=storage.ManagementPolicyVersionArgs(
                delete=storage.DateAfterCreationArgs(days_after_creation_greater_than=_VERSION_DAYS)
            )
        )
        # A live VM creates its presence blob again, and no rule deletes a leased blob.
        presence_blobs = storage.ManagementPolicyActionArgs(
            base_blob=storage.ManagementPolicyBaseBlobArgs(
                delete=storage.DateAfterModificationArgs(days_after_modification_greater_than=_VERSION_DAYS)
            )
        )
        prefixes_of_presence = [Output.concat(leases.name, "/", PRESENCE_PREFIX)]
        return storage.ManagementPolicy(
            f"{self._name}-blob-lifecycle",
            resource_group_name=self._args.placement.resource_group_name,
            account_name=account.name,
            management_policy_name="default",
            policy=storage.ManagementPolicySchemaArgs(
                rules=[
                    storage.ManagementPolicyRuleArgs(
                        name=name,
                        type=storage.RuleType.LIFECYCLE,
                        enabled=True,
                        definition=storage.ManagementPolicyDefinitionArgs(
                            actions=actions,
                            filters=storage.ManagementPolicyFilterArgs(
                                blob_types=["blockBlob"], prefix_match=prefixes
                            ),
                        ),
                    )
                    for name, actions, prefixes in (
                        ("old-versions", versions, None),
                        ("gone-vms", presence_blobs, prefixes_of_presence),
                    )
                ]
            ),
            opts=ResourceOptions(parent=self),
        )

    def _container(self, role: str, account: storage.StorageAccount) -> storage.BlobContainer:
        return storage.BlobContainer(
            f"{self._name}-{role}",
            resource_group_name=self._args.placement.resource_group_name,
            account_name=account.name,
            container_name=role,
            public_access=storage.PublicAccess.NONE,
            opts=self._protected,
        )


def _blob_redundancy(zone_redundant: bool, geo_redundant: bool) -> storage.SkuName:
    if zone_redundant:
        return storage.SkuName.STANDARD_GZRS if geo_redundant else storage.SkuName.STANDARD_ZRS
    return storage.SkuName.STANDARD_GRS if geo_redundant else storage.SkuName.STANDARD_LRS
