"""A VM scale set behind an internal load balancer, for the bank's ledger nodes or its network authority."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from pulumi import ComponentResource, CustomTimeouts, Input, Output, Resource, ResourceOptions
from pulumi_azure_native import compute, network

from components.inputs import Placement
from contract.listeners import PROBE_FAILURES, PROBE_SECONDS, Listener, ProbeProtocol
from contract.ports import HEALTH_PATH, HEALTH_PORT
from contract.timing import PLANNED_STOP

_FRONTEND, _BACKENDS = "frontend", "nodes"
_ADMINISTRATOR = "ledgeradmin"
_PATCHED_BY_PLATFORM = compute.LinuxPatchSettingsArgs(
    patch_mode=compute.LinuxVMGuestPatchMode.AUTOMATIC_BY_PLATFORM,
    assessment_mode=compute.LinuxPatchAssessmentMode.AUTOMATIC_BY_PLATFORM,
    automatic_by_platform_settings=compute.LinuxVMGuestPatchAutomaticByPlatformSettingsArgs(
        reboot_setting=compute.LinuxVMGuestPatchAutomaticByPlatformRebootSetting.IF_REQUIRED
    ),
)
_UBUNTU = {"publisher": "Canonical", "offer": "ubuntu-24_04-lts", "sku": "server", "version": "latest"}
MODEL_TAG = "nodeModel"
"""Tag of the scale set with a hash of its model: changes whenever VMs must be replaced."""


@dataclass(frozen=True, kw_only=True)
class VmArgs:
    """Inputs that all VMs of a member share."""

    ssh_public_key: str
    """Required. SSH public key of the administrator; there is no password, and no NSG rule allows SSH."""
    image_id: str | None = None
    """Optional. Resource id of the VMs' image; by default Ubuntu 24.04 LTS from the marketplace."""
    zones: Sequence[str] = ()
    """Optional. Availability zones to spread over: all zones of the region, or none."""
    encryption_at_host: bool = True
    """Optional. Encrypts disks and caches on the host. False states nothing: a live scale set may stay encrypted."""
    workspace_id: Input[str] | None = None
    """Optional. Log Analytics workspace: with one, VMs get the Azure Monitor agent."""


@dataclass(frozen=True, kw_only=True)
class NodeScaleSetArgs:
    """Inputs of `NodeScaleSet`."""

    placement: Placement
    """Required. Resource group, region and tags of all children."""
    vms: VmArgs
    """Required. Inputs that the member's VMs share."""
    subnet_id: Input[str]
    """Required. Subnet of the VMs and the frontend."""
    frontend_address: str
    """Required. Static address of the load balancer, inside the subnet."""
    listeners: Sequence[Listener]
    """Required. Listeners of the VMs."""
    count: int
    """Required. Number of VMs, two or more."""
    vm_size: str
    """Required. Azure VM size."""
    identity_id: Input[str]
    """Required. User-assigned identity of the VMs."""
    custom_data: Input[str]
    """Required. Cloud-init document, gzip and base64; must not contain a secret."""
    user_data: Input[str] | None = None
    """Optional. What does not fit into the cloud-init document, base64. The document has its hash, and fetches it."""
    computer_name_prefix: str = "node"
    """Optional. Prefix of the VMs' host names."""
    wait_for: Sequence[Resource] = ()
    """Optional. Resources that must exist before the first VM starts: roles, private endpoints and DNS names."""

    def __post_init__(self) -> None:
        if self.count < 2:
            raise ValueError(f"NodeScaleSet: count is {self.count}; wanted 2 or more, so that one VM may fail")


class NodeScaleSet(ComponentResource):
    """A Flexible scale set over all zones. The load balancer sends a port's connections to VMs that listen on it."""

    load_balancer_id: Output[str]
    """Resource id of the load balancer."""

    def __init__(self, name: str, args: NodeScaleSetArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("decentralized-trust:azure:NodeScaleSet", name, None, opts)
        self._name, self._args = name, args
        balancer = self._load_balancer()
        self._scale_set(balancer)
        self.load_balancer_id = balancer.id
        self.register_outputs({"load_balancer_id": self.load_balancer_id})

    def _load_balancer(self) -> network.LoadBalancer:
        args = self._args
        return network.LoadBalancer(
            f"{self._name}-balancer",
            resource_group_name=args.placement.resource_group_name,
            location=args.placement.location,
            sku=network.LoadBalancerSkuArgs(
                name=network.LoadBalancerSkuName.STANDARD, tier=network.LoadBalancerSkuTier.REGIONAL
            ),
            frontend_ip_configurations=[
                network.FrontendIPConfigurationArgs(
                    name=_FRONTEND,
                    private_ip_address=args.frontend_address,
                    private_ip_address_version=network.IPVersion.I_PV4,
                    private_ip_allocation_method=network.IPAllocationMethod.STATIC,
                    subnet=network.SubnetArgs(id=args.subnet_id),
                    zones=list(args.vms.zones) or None,
                )
            ],
            backend_address_pools=[network.BackendAddressPoolArgs(name=_BACKENDS)],
            probes=[_probe(listener) for listener in args.listeners],
            load_balancing_rules=[_rule(listener) for listener in args.listeners],
            tags=args.placement.tags,
            opts=ResourceOptions(parent=self),
        )

    def _scale_set(self, balancer: network.LoadBalancer) -> compute.VirtualMachineScaleSet:
        args = self._args
        return compute.VirtualMachineScaleSet(
            f"{self._name}-vms",
            resource_group_name=args.placement.resource_group_name,
            location=args.placement.location,
            orchestration_mode=compute.OrchestrationMode.FLEXIBLE,
            sku=compute.SkuArgs(name=args.vm_size, tier="Standard", capacity=args.count),
            zones=list(args.vms.zones) or None,
            # Best effort: a zone without capacity must not prevent the replacement of a VM in another.
            zone_balance=False if args.vms.zones else None,
            platform_fault_domain_count=1,
            single_placement_group=False,
            identity=compute.VirtualMachineScaleSetIdentityArgs(
                type=compute.ResourceIdentityType.USER_ASSIGNED, user_assigned_identities=[args.identity_id]
            ),
            automatic_repairs_policy=compute.AutomaticRepairsPolicyArgs(
                enabled=True, grace_period="PT30M", repair_action=compute.RepairAction.REPLACE
            ),
            upgrade_policy=compute.UpgradePolicyArgs(
                mode=compute.UpgradeMode.ROLLING,
                rolling_upgrade_policy=compute.RollingUpgradePolicyArgs(
                    max_surge=True,
                    max_batch_instance_percent=20,
                    max_unhealthy_instance_percent=20,
                    max_unhealthy_upgraded_instance_percent=20,
                    pause_time_between_batches="PT5M",
                    enable_cross_zone_upgrade=False,
                    prioritize_unhealthy_instances=True,
                ),
            ),
            virtual_machine_profile=compute.VirtualMachineScaleSetVMProfileArgs(
                priority=compute.VirtualMachinePriorityTypes.REGULAR,
                os_profile=self._os_profile(),
                user_data=args.user_data,
                storage_profile=self._storage_profile(),
                network_profile=self._network_profile(balancer),
                security_profile=compute.SecurityProfileArgs(
                    security_type=compute.SecurityTypes.TRUSTED_LAUNCH,
                    uefi_settings=compute.UefiSettingsArgs(secure_boot_enabled=True, v_tpm_enabled=True),
                    # Azure refuses False too in a subscription without the feature:
                    # github.com/Azure/ResourceModules/pull/1242.
                    encryption_at_host=True if args.vms.encryption_at_host else None,
                ),
                diagnostics_profile=compute.DiagnosticsProfileArgs(
                    boot_diagnostics=compute.BootDiagnosticsArgs(enabled=True)
                ),
                scheduled_events_profile=compute.ScheduledEventsProfileArgs(
                    terminate_notification_profile=compute.TerminateNotificationProfileArgs(
                        enable=True, not_before_timeout=f"PT{PLANNED_STOP.notice_seconds // 60}M"
                    )
                ),
                extension_profile=compute.VirtualMachineScaleSetExtensionProfileArgs(extensions=self._extensions()),
            ),
            tags={**(args.placement.tags or {}), MODEL_TAG: self._model()},
            opts=ResourceOptions(
                parent=self,
                depends_on=list(args.wait_for),
                # Azure exchanges no image of the marketplace for one with an id, nor the reverse:
                # github.com/MicrosoftDocs/azure-docs/issues/92371. Only the former has a publisher.
                replace_on_changes=["virtualMachineProfile.storageProfile.imageReference.publisher"],
                custom_timeouts=CustomTimeouts(create="1h", update="2h", delete="1h"),
            ),
        )

    def _model(self) -> Output[str]:
        args = self._args
        parts = (args.vms.image_id or str(_UBUNTU), args.vm_size, args.vms.ssh_public_key)
        return Output.from_input(args.custom_data).apply(
            lambda custom_data: hashlib.sha256("\n".join((custom_data, *parts)).encode()).hexdigest()[:12]
        )

    def _os_profile(self) -> compute.VirtualMachineScaleSetOSProfileArgs:
        return compute.VirtualMachineScaleSetOSProfileArgs(
            computer_name_prefix=self._args.computer_name_prefix,
            admin_username=_ADMINISTRATOR,
            custom_data=self._args.custom_data,
            linux_configuration=compute.LinuxConfigurationArgs(
                disable_password_authentication=True,
                provision_vm_agent=True,
                ssh=compute.SshConfigurationArgs(
                    public_keys=[
                        compute.SshPublicKeyArgs(
                            path=f"/home/{_ADMINISTRATOR}/.ssh/authorized_keys",
                            key_data=self._args.vms.ssh_public_key,
                        )
                    ]
                ),
                # Azure does not patch VMs of a custom image: they get patches with the next image.
                # learn.microsoft.com/azure/virtual-machines/automatic-vm-guest-patching
                patch_settings=None if self._args.vms.image_id else _PATCHED_BY_PLATFORM,
            ),
        )

    def _storage_profile(self) -> compute.VirtualMachineScaleSetStorageProfileArgs:
        image_id = self._args.vms.image_id
        return compute.VirtualMachineScaleSetStorageProfileArgs(
            image_reference=compute.ImageReferenceArgs(**({"id": image_id} if image_id else _UBUNTU)),
            os_disk=compute.VirtualMachineScaleSetOSDiskArgs(
                create_option=compute.DiskCreateOptionTypes.FROM_IMAGE,
                caching=compute.CachingTypes.READ_WRITE,
                delete_option=compute.DiskDeleteOptionTypes.DELETE,
                disk_size_gb=64,
                managed_disk=compute.VirtualMachineScaleSetManagedDiskParametersArgs(
                    storage_account_type=compute.StorageAccountTypes.PREMIUM_LRS
                ),
            ),
        )

    def _network_profile(self, balancer: network.LoadBalancer) -> compute.VirtualMachineScaleSetNetworkProfileArgs:
        pool_id = Output.concat(balancer.id, f"/backendAddressPools/{_BACKENDS}")
        return compute.VirtualMachineScaleSetNetworkProfileArgs(
            network_api_version=compute.NetworkApiVersion.NETWORK_API_VERSION_2022_11_01,
            network_interface_configurations=[
                compute.VirtualMachineScaleSetNetworkConfigurationArgs(
                    name="nic",
                    primary=True,
                    enable_accelerated_networking=True,
                    delete_option=compute.DeleteOptions.DELETE,
                    # No public address: egress goes through the subnet's NAT gateway.
                    ip_configurations=[
                        compute.VirtualMachineScaleSetIPConfigurationArgs(
                            name="primary",
                            primary=True,
                            private_ip_address_version=compute.IPVersion.I_PV4,
                            subnet=compute.ApiEntityReferenceArgs(id=self._args.subnet_id),
                            load_balancer_backend_address_pools=[compute.SubResourceArgs(id=pool_id)],
                        )
                    ],
                )
            ],
        )

    def _extensions(self) -> list[compute.VirtualMachineScaleSetExtensionArgs]:
        args = self._args
        extensions = [
            compute.VirtualMachineScaleSetExtensionArgs(
                name="health",
                publisher="Microsoft.ManagedServices",
                type="ApplicationHealthLinux",
                type_handler_version="2.0",
                auto_upgrade_minor_version=True,
                enable_automatic_upgrade=True,
                settings={
                    "protocol": "http",
                    "port": HEALTH_PORT,
                    "requestPath": HEALTH_PATH,
                    "intervalInSeconds": PROBE_SECONDS,
                    "numberOfProbes": 3,
                    # Seconds without an answer before a new VM is unhealthy: packages are installed first.
                    "gracePeriod": 900,
                },
            )
        ]
        if args.vms.workspace_id is not None:
            extensions.append(
                compute.VirtualMachineScaleSetExtensionArgs(
                    name="monitor",
                    publisher="Microsoft.Azure.Monitor",
                    type="AzureMonitorLinuxAgent",
                    type_handler_version="1.33",
                    auto_upgrade_minor_version=True,
                    enable_automatic_upgrade=True,
                    settings={
                        "authentication": {
                            "managedIdentity": {
                                "identifier-name": "mi_res_id",
                                "identifier-value": args.identity_id,
                            }
                        }
                    },
                )
            )
        return extensions


def _probe(listener: Listener) -> network.ProbeArgs:
    probe = listener.probe
    return network.ProbeArgs(
        name=listener.name,
        protocol=probe.protocol.value,
        port=probe.port,
        request_path=probe.path if probe.protocol is ProbeProtocol.HTTP else None,
        interval_in_seconds=PROBE_SECONDS,
        probe_threshold=PROBE_FAILURES,
        no_healthy_backends_behavior=network.ProbeNoHealthyBackendsBehavior.ALL_PROBED_DOWN,
    )


def _rule(listener: Listener) -> network.LoadBalancingRuleArgs:
    def own(collection: str, item: str) -> network.SubResourceArgs:
        # The provider replaces `$self` by the load balancer's id.
        return network.SubResourceArgs(id=f"$self/{collection}/{item}")

    return network.LoadBalancingRuleArgs(
        name=listener.name,
        protocol=network.TransportProtocol.TCP,
        frontend_port=listener.port,
        backend_port=listener.port,
        frontend_ip_configuration=own("frontendIPConfigurations", _FRONTEND),
        backend_address_pools=[own("backendAddressPools", _BACKENDS)],
        probe=own("probes", listener.name),
        load_distribution=network.LoadDistribution.DEFAULT,
        enable_floating_ip=False,
        # A connection to a dead VM is reset at once, not at its timeout.
        enable_tcp_reset=True,
        idle_timeout_in_minutes=30,
        disable_outbound_snat=True,
    )
