"""The Azure checklist: what PSRule for Azure, the Azure Proactive Resiliency Library and checkov ask of a member.

Each line is met, by a check over a recorded run of a large member, or waived for a written reason. `render` writes
docs/checklist.md from it. PSRule's rules are named `Azure.*`, checkov's `CKV_AZURE_*`; of the resiliency library's
GUIDs (APRL) the first eight digits are given.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from offline.recorder import Registration
from tests.nsg import HOST, Traffic
from tests.runs import Plan, all_of, leaves

Inputs = Mapping[str, Any]
Check = Callable[[Plan], list[str]]
"""Names what does not comply; an empty list is compliance."""


@dataclass(frozen=True)
class Item:
    """One line of the checklist."""

    rules: str
    wants: str
    met_by: Check | None = None
    waived_because: str | None = None

    def __post_init__(self) -> None:
        if (self.met_by is None) == (self.waived_because is None):
            raise ValueError(f"{self.rules}: wanted either a check that shows it met, or the reason of its waiver")


def _failing(run: Plan, kind: str, fits: Callable[[Inputs], object]) -> list[str]:
    """The resources of a type whose inputs do not fit; a type that is not there fits nothing."""
    return _unfit(run, kind, lambda each: fits(each.inputs))


def _unfit(run: Plan, kind: str, fits: Callable[[Registration], object]) -> list[str]:
    found = all_of(run, kind)
    return [each.name for each in found if not _holds(fits, each)] if found else [f"no {kind}"]


def _holds(fits: Callable[[Any], object], value: object) -> bool:
    try:
        return bool(fits(value))
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        # What is not stated is not as it should be.
        return False


def _id(run: Plan, each: Registration) -> str:
    return run.ids[each.urn]


def _unnamed(run: Plan, kind: str, named: Iterable[object]) -> list[str]:
    """The resources of a type whose ids nobody names."""
    by = set(named)
    return _unfit(run, kind, lambda each: _id(run, each) in by)


def _scale_set(run: Plan, fits: Callable[[Inputs], object]) -> list[str]:
    return _failing(run, "VirtualMachineScaleSet", fits)


def _profile(run: Plan, fits: Callable[[Inputs], object]) -> list[str]:
    return _scale_set(run, lambda inputs: fits(inputs["virtualMachineProfile"]))


def _extensions(inputs: Inputs) -> dict[str, Inputs]:
    return {each["type"]: each for each in inputs["extensionProfile"]["extensions"]}


def _vault(run: Plan, fits: Callable[[Inputs], object]) -> list[str]:
    return _failing(run, "Vault", lambda inputs: fits(inputs["properties"]))


def _vpn_gateways(run: Plan, fits: Callable[[Inputs], object]) -> list[str]:
    return _failing(run, "VirtualNetworkGateway", lambda inputs: inputs["gatewayType"] != "Vpn" or fits(inputs))


def _circuit_gateways(run: Plan, fits: Callable[[Inputs], object]) -> list[str]:
    return _failing(run, "VirtualNetworkGateway", lambda inputs: inputs["gatewayType"] == "Vpn" or fits(inputs))


# --- Gateways ------------------------------------------------------------------------------------------------------


def no_legacy_vpn_sku(run: Plan) -> list[str]:
    """No gateway is Basic, Standard or HighPerformance."""
    return _vpn_gateways(run, lambda inputs: inputs["sku"]["name"] not in ("Basic", "Standard", "HighPerformance"))


def vpn_sku_spans_zones(run: Plan) -> list[str]:
    """The VPN gateway's SKU is one of VpnGw1AZ to VpnGw5AZ."""
    return _vpn_gateways(run, lambda inputs: inputs["sku"]["name"] in {f"VpnGw{size}AZ" for size in range(1, 6)})


def vpn_is_active_active(run: Plan) -> list[str]:
    """The VPN gateway runs two instances, each with its own address."""
    return _vpn_gateways(run, lambda inputs: inputs["activeActive"] and len(inputs["ipConfigurations"]) == 2)


def gateways_have_a_window(run: Plan) -> list[str]:
    """Each gateway is assigned a maintenance configuration for gateways."""
    windows = {
        _id(run, each)
        for each in all_of(run, "MaintenanceConfiguration")
        if each.inputs.get("extensionProperties", {}).get("maintenanceSubScope") == "NetworkGatewayMaintenance"
    }
    maintained = {
        each.inputs.get("resourceName")
        for each in all_of(run, "ConfigurationAssignment")
        if each.inputs.get("maintenanceConfigurationId") in windows
    }
    return _unfit(run, "VirtualNetworkGateway", lambda each: run.answers[each.urn]["name"] in maintained)


def circuit_sku_spans_zones(run: Plan) -> list[str]:
    """The ExpressRoute gateway's SKU is zone-redundant."""
    return _circuit_gateways(
        run, lambda inputs: inputs["sku"]["name"] in ("ErGw1AZ", "ErGw2AZ", "ErGw3AZ", "ErGwScale")
    )


def gateway_addresses_span_zones(run: Plan) -> list[str]:
    """Each gateway's addresses are Standard, static and in three zones."""
    used = {
        configuration["publicIPAddress"]["id"]
        for each in all_of(run, "VirtualNetworkGateway")
        for configuration in each.inputs.get("ipConfigurations", ())
    }
    addresses = [each for each in all_of(run, "PublicIPAddress") if _id(run, each) in used]
    bad = [
        each.name
        for each in addresses
        if not _holds(
            lambda inputs: (
                inputs["sku"]["name"] == "Standard"
                and inputs["publicIPAllocationMethod"] == "Static"
                and len(inputs["zones"]) == 3
            ),
            each.inputs,
        )
    ]
    return bad if addresses else ["no gateway has an address"]


def tunnels_are_watched(run: Plan) -> list[str]:
    """A metric alert watches the tunnels of the VPN gateway."""
    watched = _watched(run, "TunnelAverageBandwidth")
    return _unfit(
        run,
        "VirtualNetworkGateway",
        lambda each: each.inputs["gatewayType"] != "Vpn" or _id(run, each) in watched,
    )


def _watched(run: Plan, metric: str) -> set[str]:
    return {
        scope
        for each in all_of(run, "MetricAlert")
        if _holds(lambda inputs: inputs["criteria"]["allOf"][0]["metricName"] == metric, each.inputs)
        for scope in each.inputs["scopes"]
    }


def service_health_is_told(run: Plan) -> list[str]:
    """An activity log alert on the whole subscription tells of service health, of every service."""
    return _event(run, "ServiceHealth", below_a_group=False)


def resource_health_is_told(run: Plan) -> list[str]:
    """An activity log alert tells of the health of all resources in the member's group, the workspace among them."""
    return _event(run, "ResourceHealth", below_a_group=True)


def _event(run: Plan, category: str, *, below_a_group: bool) -> list[str]:
    def fits(inputs: Inputs) -> bool:
        conditions = {each["field"]: each["equals"] for each in inputs["condition"]["allOf"]}
        in_group = "/resourceGroups/" in inputs["scopes"][0]
        return conditions == {"category": category} and in_group is below_a_group and inputs["enabled"] is True

    return (
        []
        if any(_holds(fits, each.inputs) for each in all_of(run, "ActivityLogAlert"))
        else [f"no alert: {category}"]
    )


# --- Public addresses and names ------------------------------------------------------------------------------------


def addresses_are_standard(run: Plan) -> list[str]:
    """Every public address is Standard and in three zones."""
    return _failing(
        run, "PublicIPAddress", lambda inputs: inputs["sku"]["name"] == "Standard" and len(inputs["zones"]) == 3
    )


def addresses_are_attached(run: Plan) -> list[str]:
    """Every public address belongs to a gateway or to the NAT gateway."""
    named = {
        value
        for kind in ("VirtualNetworkGateway", "NatGateway")
        for each in all_of(run, kind)
        for _, value in leaves(each.inputs)
    }
    return _unnamed(run, "PublicIPAddress", named)


_LONGEST = {
    "LoadBalancer": 80,
    "LocalNetworkGateway": 80,
    "NatGateway": 80,
    "NetworkSecurityGroup": 80,
    "network:PrivateEndpoint": 64,
    "PublicIPAddress": 80,
    "ResourceGroup": 90,
    "UserAssignedIdentity": 128,
    "Vault": 24,
    "VirtualMachineScaleSet": 64,
    "VirtualNetwork": 64,
    "VirtualNetworkGateway": 80,
    "VirtualNetworkGatewayConnection": 80,
}
_AUTOMATIC = 8
"""Characters that autonaming adds to a logical name."""


def names_are_legal(run: Plan) -> list[str]:
    """Each logical name, with what autonaming adds, is one that Azure takes; so are those in networks and vaults."""

    def _of_a_vault(name: str) -> bool:
        return all(word.isascii() and word.isalnum() for word in name.split("-")) and len(name) <= 127

    def legal(each: Registration, longest: int) -> bool:
        words = each.name.split("-")
        fits = len(each.name) + _AUTOMATIC <= longest
        return fits and all(word.isascii() and word.isalnum() for word in words) and words[0][0].isalpha()

    return [
        *(name for kind, longest in _LONGEST.items() for name in _unfit(run, kind, partial(legal, longest=longest))),
        *_failing(run, "Subnet", lambda inputs: inputs["subnetName"].isalnum()),
        *_failing(run, "Secret", lambda inputs: _of_a_vault(inputs.get("secretName", "automatic"))),
        *_failing(run, "keyvault:Key", lambda inputs: _of_a_vault(inputs["keyName"])),
    ]


# --- Virtual network -----------------------------------------------------------------------------------------------


def subnets_have_groups(run: Plan) -> list[str]:
    """Every subnet but GatewaySubnet, where Azure allows none, has a network security group."""
    return _failing(
        run,
        "Subnet",
        lambda inputs: inputs["subnetName"] == "GatewaySubnet" or inputs["networkSecurityGroup"]["id"],
    )


def subnets_are_private(run: Plan) -> list[str]:
    """Every subnet is without default outbound access."""
    return _failing(run, "Subnet", lambda inputs: inputs["defaultOutboundAccess"] is False)


def names_resolve_by_azure(run: Plan) -> list[str]:
    """The network names no DNS server of its own, so Azure DNS resolves, in each region and zone."""
    return _failing(run, "VirtualNetwork", lambda inputs: inputs["addressSpace"] and "dhcpOptions" not in inputs)


# --- Network security groups ---------------------------------------------------------------------------------------


def nobody_in_particular_gets_in(run: Plan) -> list[str]:
    """No rule lets in from any source, nor from the internet."""

    def fits(inputs: Inputs) -> bool:
        sources = [
            source
            for rule in inputs["securityRules"]
            if (rule["access"], rule["direction"]) == ("Allow", "Inbound")
            for source in (rule.get("sourceAddressPrefix"), *rule.get("sourceAddressPrefixes", ()))
        ]
        return not {"*", "Internet", "0.0.0.0/0", "Any"} & set(sources)

    return _failing(run, "NetworkSecurityGroup", fits)


def probes_get_through(run: Plan) -> list[str]:
    """Each load balancer's probes reach every probed port of its VMs, past the rules that deny."""
    traffic = Traffic(run)
    probed = {
        (each.inputs["frontendIPConfigurations"][0]["subnet"]["id"].rsplit("/", 1)[1], probe["port"])
        for each in all_of(run, "LoadBalancer")
        for probe in each.inputs["probes"]
    }
    return [
        f"probe of {port} in {subnet}"
        for subnet, port in sorted(probed)
        if not traffic.allows(HOST, traffic.host(subnet), port)
    ]


def no_host_logs_in_to_another(run: Plan) -> list[str]:
    """No subnet may open SSH or RDP to any other, nor to what lies behind the gateway."""
    behind = "10.99.0.10"
    traffic = Traffic(run, routed=["10.99.0.0/16"])
    places = {name: traffic.host(name) for name in traffic.subnets if name != "GatewaySubnet"}
    return [
        f"{name} to {target} on {port}"
        for name, source in places.items()
        for target in (*places.values(), behind)
        for port in (22, 3389)
        if traffic.allows(source, target, port)
    ]


def groups_are_attached(run: Plan) -> list[str]:
    """Every network security group is that of a subnet."""
    named = {
        each.inputs["networkSecurityGroup"]["id"]
        for each in all_of(run, "Subnet")
        if "networkSecurityGroup" in each.inputs
    }
    return _unnamed(run, "NetworkSecurityGroup", named)


def groups_log(run: Plan) -> list[str]:
    """Every network security group sends its logs to the workspace."""
    return _silent(run, "NetworkSecurityGroup")


def _silent(run: Plan, kind: str) -> list[str]:
    return _unnamed(run, kind, [each.inputs.get("resourceUri") for each in all_of(run, "DiagnosticSetting")])


# --- Load balancer and egress --------------------------------------------------------------------------------------


def balancer_is_standard(run: Plan) -> list[str]:
    """The load balancer is Standard."""
    return _failing(run, "LoadBalancer", lambda inputs: inputs["sku"]["name"] == "Standard")


def frontend_spans_zones(run: Plan) -> list[str]:
    """The load balancer's frontend is in three zones."""
    return _failing(
        run,
        "LoadBalancer",
        lambda inputs: all(len(frontend["zones"]) == 3 for frontend in inputs["frontendIPConfigurations"]),
    )


def web_is_probed_over_http(run: Plan) -> list[str]:
    """What speaks HTTP is probed over HTTP with a path; the ledger's own protocols are probed over TCP."""

    def fits(inputs: Inputs) -> bool:
        probes = {probe["name"]: probe for probe in inputs["probes"]}
        web = [probe for name, probe in probes.items() if not name.startswith(("p2p", "rpc"))]
        return web and all(probe["protocol"] in ("Http", "Https") and len(probe["requestPath"]) > 1 for probe in web)

    return _failing(run, "LoadBalancer", fits)


def two_backends_or_more(run: Plan) -> list[str]:
    """The scale set behind the load balancer has two VMs or more."""
    return _scale_set(
        run,
        lambda inputs: (
            inputs["sku"]["capacity"] >= 2
            and inputs["virtualMachineProfile"]["networkProfile"]["networkInterfaceConfigurations"][0][
                "ipConfigurations"
            ][0]["loadBalancerBackendAddressPools"]
        ),
    )


def egress_by_nat_gateway(run: Plan) -> list[str]:
    """The nodes leave by the NAT gateway; the load balancer has no outbound rule and translates no address."""
    nodes = [each for each in all_of(run, "Subnet") if each.inputs.get("subnetName") == "nodes"]
    bad = [] if nodes and all("natGateway" in each.inputs for each in nodes) else ["nodes"]
    return bad + _failing(
        run,
        "LoadBalancer",
        lambda inputs: (
            "outboundRules" not in inputs
            and all(rule["disableOutboundSnat"] for rule in inputs["loadBalancingRules"])
        ),
    )


# --- Private access ------------------------------------------------------------------------------------------------


def endpoints_connect_by_themselves(run: Plan) -> list[str]:
    """Every private endpoint is approved by its owner's own rights, so none waits for an approval."""
    return _failing(
        run,
        "network:PrivateEndpoint",
        lambda inputs: (
            inputs["privateLinkServiceConnections"] and "manualPrivateLinkServiceConnections" not in inputs
        ),
    )


def zones_are_linked(run: Plan) -> list[str]:
    """Every private DNS zone is linked to the network."""
    linked = {each.inputs.get("privateZoneName") for each in all_of(run, "VirtualNetworkLink")}
    return _failing(run, "PrivateZone", lambda inputs: inputs["privateZoneName"] in linked)


# --- Scale set -----------------------------------------------------------------------------------------------------


def orchestration_is_flexible(run: Plan) -> list[str]:
    """The scale set is a Flexible one."""
    return _scale_set(run, lambda inputs: inputs["orchestrationMode"] == "Flexible")


def vms_span_zones(run: Plan) -> list[str]:
    """The scale set is in three zones."""
    return _scale_set(run, lambda inputs: len(inputs["zones"]) == 3)


def zone_balance_is_best_effort(run: Plan) -> list[str]:
    """A zone without capacity does not stop the others from replacing a VM."""
    return _scale_set(run, lambda inputs: inputs["zoneBalance"] is False)


def vms_are_repaired(run: Plan) -> list[str]:
    """Automatic repair is on."""
    return _scale_set(run, lambda inputs: inputs["automaticRepairsPolicy"]["enabled"])


def health_is_monitored(run: Plan) -> list[str]:
    """The Application Health extension asks each VM."""
    return _profile(run, lambda profile: "ApplicationHealthLinux" in _extensions(profile))


def image_is_supported(run: Plan) -> list[str]:
    """The image is Ubuntu 24.04 LTS, with standard support until 2029."""
    return _profile(run, lambda profile: profile["storageProfile"]["imageReference"]["offer"] == "ubuntu-24_04-lts")


def monitor_agent_is_current(run: Plan) -> list[str]:
    """The VMs run the Azure Monitor agent, not its predecessor, and it upgrades itself."""
    return _profile(run, lambda profile: _extensions(profile)["AzureMonitorLinuxAgent"]["enableAutomaticUpgrade"])


def ssh_by_key_only(run: Plan) -> list[str]:
    """Linux with SSH keys; password authentication is off, and there is no password."""
    return _profile(
        run,
        lambda profile: (
            profile["osProfile"]["linuxConfiguration"]["disablePasswordAuthentication"]
            and "adminPassword" not in profile["osProfile"]
        ),
    )


def vms_have_no_public_address(run: Plan) -> list[str]:
    """No VM has a public address."""
    return _profile(
        run,
        lambda profile: all(
            "publicIPAddressConfiguration" not in address
            for interface in profile["networkProfile"]["networkInterfaceConfigurations"]
            for address in interface["ipConfigurations"]
        ),
    )


def no_script_carries_a_secret(run: Plan) -> list[str]:
    """No extension runs a script, and custom data holds no secret (a test searches it)."""
    return _profile(run, lambda profile: not [kind for kind in _extensions(profile) if "Script" in kind])


def host_encrypts(run: Plan) -> list[str]:
    """Disks and caches are encrypted on the host."""
    return _profile(run, lambda profile: profile["securityProfile"]["encryptionAtHost"])


def computer_names_are_legal(run: Plan) -> list[str]:
    """The VMs' computer names begin with a short prefix of letters."""
    return _profile(
        run,
        lambda profile: (
            profile["osProfile"]["computerNamePrefix"].isalpha()
            and len(profile["osProfile"]["computerNamePrefix"]) <= 9
        ),
    )


def networking_is_accelerated(run: Plan) -> list[str]:
    """Network interfaces are accelerated."""
    return _profile(
        run,
        lambda profile: all(
            interface["enableAcceleratedNetworking"]
            for interface in profile["networkProfile"]["networkInterfaceConfigurations"]
        ),
    )


def disks_cache_as_they_are_used(run: Plan) -> list[str]:
    """The system disk caches reads and writes. There is no data disk: the ledger lies in database and share."""
    return _profile(
        run,
        lambda profile: (
            profile["storageProfile"]["osDisk"]["caching"] == "ReadWrite"
            and "dataDisks" not in profile["storageProfile"]
        ),
    )


def vms_are_patched(run: Plan) -> list[str]:
    """The platform patches the running VMs, a few at a time."""
    return _profile(
        run,
        lambda profile: (
            profile["osProfile"]["linuxConfiguration"]["patchSettings"]["patchMode"] == "AutomaticByPlatform"
        ),
    )


# --- Key Vault -----------------------------------------------------------------------------------------------------


def vault_cannot_be_purged(run: Plan) -> list[str]:
    """Purge protection is on."""
    return _vault(run, lambda vault: vault["enablePurgeProtection"] is True)


def vault_deletes_softly(run: Plan) -> list[str]:
    """Soft delete is on, for 90 days."""
    return _vault(run, lambda vault: vault["enableSoftDelete"] and vault["softDeleteRetentionInDays"] == 90)


def vault_uses_rbac(run: Plan) -> list[str]:
    """The vault takes roles, and has no access policy."""
    return _vault(run, lambda vault: vault["enableRbacAuthorization"] and not vault.get("accessPolicies"))


def vault_is_closed(run: Plan) -> list[str]:
    """Public access is off, and the firewall denies by default."""
    return _vault(
        run,
        lambda vault: vault["publicNetworkAccess"] == "Disabled" and vault["networkAcls"]["defaultAction"] == "Deny",
    )


def vault_is_audited(run: Plan) -> list[str]:
    """The vault sends its audit events to the workspace."""
    audited = [
        each.inputs["resourceUri"]
        for each in all_of(run, "DiagnosticSetting")
        if _holds(lambda inputs: inputs["logs"][0]["categoryGroup"] in ("audit", "allLogs"), each.inputs)
    ]
    return _unnamed(run, "Vault", audited)


def keys_live_in_an_hsm(run: Plan) -> list[str]:
    """Every key is made in an HSM, can't be exported, and signs; it can do nothing else."""
    return _failing(
        run,
        "keyvault:Key",
        lambda inputs: (
            inputs["properties"]["kty"].endswith("-HSM")
            and inputs["properties"]["attributes"]["exportable"] is False
            and inputs["properties"]["keyOps"] == ["sign"]
        ),
    )


def secrets_state_their_type(run: Plan) -> list[str]:
    """Every secret that the program writes states its content type."""
    return _failing(run, "Secret", lambda inputs: inputs["properties"]["contentType"])


# --- Storage -------------------------------------------------------------------------------------------------------


def storage_wants_tls(run: Plan) -> list[str]:
    """Both accounts want encrypted transport, TLS 1.2 or later."""
    return _failing(
        run,
        "StorageAccount",
        lambda inputs: inputs["enableHttpsTrafficOnly"] and inputs["minimumTlsVersion"] in ("TLS1_2", "TLS1_3"),
    )


def blobs_are_never_public(run: Plan) -> list[str]:
    """No account allows anonymous access, and no container asks for it."""
    return [
        *_failing(run, "StorageAccount", lambda inputs: inputs["allowBlobPublicAccess"] is False),
        *_failing(run, "BlobContainer", lambda inputs: inputs["publicAccess"] == "None"),
    ]


def storage_denies_by_default(run: Plan) -> list[str]:
    """Both accounts' firewalls deny by default, and public access is off."""
    return _failing(
        run,
        "StorageAccount",
        lambda inputs: (
            inputs["networkRuleSet"]["defaultAction"] == "Deny" and inputs["publicNetworkAccess"] == "Disabled"
        ),
    )


def storage_deletes_softly(run: Plan) -> list[str]:
    """Blobs, containers and the share are deleted softly, for seven days or more."""

    def soft(policy: Inputs) -> bool:
        return bool(policy["enabled"]) and policy["days"] >= 7

    return [
        *_failing(
            run,
            "BlobServiceProperties",
            lambda inputs: soft(inputs["deleteRetentionPolicy"]) and soft(inputs["containerDeleteRetentionPolicy"]),
        ),
        *_failing(run, "FileServiceProperties", lambda inputs: soft(inputs["shareDeleteRetentionPolicy"])),
    ]


def storage_is_replicated(run: Plan) -> list[str]:
    """Blobs lie in three zones and the paired region; the NFS share in three zones, the most that there is."""
    return _failing(run, "StorageAccount", lambda inputs: inputs["sku"]["name"] in ("Standard_GZRS", "Premium_ZRS"))


def blobs_keep_versions(run: Plan) -> list[str]:
    """Every overwritten blob keeps its version."""
    return _failing(run, "BlobServiceProperties", lambda inputs: inputs["isVersioningEnabled"])


def egress_is_watched(run: Plan) -> list[str]:
    """A metric alert watches the NAT gateway's path."""
    return _unnamed(run, "NatGateway", _watched(run, "DatapathAvailability"))


def storage_is_watched(run: Plan) -> list[str]:
    """A metric alert watches the availability of each account."""
    return _unnamed(run, "StorageAccount", _watched(run, "Availability"))


def storage_names_are_legal(run: Plan) -> list[str]:
    """Each account's name is 3 to 24 lower-case letters and digits, half of them random."""
    return _failing(
        run,
        "StorageAccount",
        lambda inputs: (
            3 <= len(inputs["accountName"]) <= 24
            and inputs["accountName"].isalnum()
            and inputs["accountName"].islower()
        ),
    )


# --- PostgreSQL ----------------------------------------------------------------------------------------------------


def database_survives_a_zone(run: Plan) -> list[str]:
    """The server has a standby in another zone."""
    return _failing(run, "Server", lambda inputs: inputs["highAvailability"]["mode"] == "ZoneRedundant")


def backups_lie_in_the_pair(run: Plan) -> list[str]:
    """Backups are kept in the paired region too."""
    return _failing(run, "Server", lambda inputs: inputs["backup"]["geoRedundantBackup"] == "Enabled")


def database_has_a_window(run: Plan) -> list[str]:
    """The server has a maintenance window of its own."""
    return _failing(run, "Server", lambda inputs: inputs["maintenanceWindow"]["customWindow"] == "Enabled")


def database_takes_entra(run: Plan) -> list[str]:
    """Entra principals may sign in."""
    return _failing(run, "Server", lambda inputs: inputs["authConfig"]["activeDirectoryAuth"] == "Enabled")


def database_wants_tls(run: Plan) -> list[str]:
    """Connections are encrypted, TLS 1.2 or later."""
    values = {each.inputs.get("configurationName"): each.inputs.get("value") for each in all_of(run, "Configuration")}
    wanted = {"require_secure_transport": "on", "ssl_min_protocol_version": "TLSv1.2"}
    return [name for name, value in wanted.items() if values.get(name) != value]


def database_is_inside(run: Plan) -> list[str]:
    """The server lies in the network with public access off, so there is no firewall rule to be too wide."""
    rules = [each.name for each in all_of(run, "FirewallRule")]
    return rules + _failing(
        run,
        "Server",
        lambda inputs: (
            inputs["network"]["publicNetworkAccess"] == "Disabled" and inputs["network"]["delegatedSubnetResourceId"]
        ),
    )


def database_grows(run: Plan) -> list[str]:
    """The server's storage grows by itself."""
    return _failing(run, "Server", lambda inputs: inputs["storage"]["autoGrow"] == "Enabled")


# --- Monitoring ----------------------------------------------------------------------------------------------------


def queries_take_their_time(run: Plan) -> list[str]:
    """The alert on a log query runs every five minutes, and ends by itself."""
    return _failing(
        run,
        "ScheduledQueryRule",
        lambda inputs: inputs["evaluationFrequency"] == "PT5M" and inputs["autoMitigate"] is True,
    )


def alerts_end_by_themselves(run: Plan) -> list[str]:
    """Every metric alert resolves when its cause is gone."""
    return _failing(run, "MetricAlert", lambda inputs: inputs["autoMitigate"])


def insights_lie_in_the_workspace(run: Plan) -> list[str]:
    """Application Insights is workspace-based, and takes telemetry that Entra signs: no key is of any use."""
    return _failing(
        run,
        "applicationinsights:Component",
        lambda inputs: inputs["workspaceResourceId"] and inputs["disableLocalAuth"] is True,
    )


# --- Access --------------------------------------------------------------------------------------------------------


def people_are_granted_by_group(run: Plan) -> list[str]:
    """Roles go to groups and to workload identities, to no single person."""
    return _failing(run, "RoleAssignment", lambda inputs: inputs["principalType"] in ("Group", "ServicePrincipal"))


def roles_are_granted_narrowly(run: Plan) -> list[str]:
    """Every role is granted at one resource, narrower than its group."""
    return _failing(run, "RoleAssignment", lambda inputs: "/providers/" in inputs["scope"])


_OWNER = "8e3af657-a8ff-443c-a75c-2fe8c4bcb635"


def nobody_is_made_owner(run: Plan) -> list[str]:
    """The program makes nobody an owner."""
    return _failing(run, "RoleAssignment", lambda inputs: not inputs["roleDefinitionId"].endswith(_OWNER))


# --- The list ------------------------------------------------------------------------------------------------------


_NAMING = (
    "Pulumi's autonaming makes the names, with a random part, so that what is replaced or softly deleted never "
    "collides. A bank's naming standard goes into the stack's `pulumi:autonaming`, not into the program."
)
_DEFENDER = "Defender's plans are switched on for a subscription, by the team that pays for all of its workloads."

CHECKLIST: Mapping[str, Sequence[Item]] = {
    "Gateways": (
        Item("Azure.VNG.VPNLegacySKU", "no Basic, Standard or HighPerformance", no_legacy_vpn_sku),
        Item("Azure.VNG.VPNAvailabilityZoneSKU, APRL 5b1933a6", "VpnGw1AZ to VpnGw5AZ", vpn_sku_spans_zones),
        Item("Azure.VNG.VPNActiveActive, APRL 281a2713", "active-active", vpn_is_active_active),
        Item(
            "Azure.VNG.MaintenanceConfig, APRL f8c2e6d9",
            "maintenance at the customer's hour",
            gateways_have_a_window,
        ),
        Item(
            "Azure.VNG.ERLegacySKU, Azure.VNG.ERAvailabilityZoneSKU, APRL bbe668b7",
            "a zone-redundant ExpressRoute gateway",
            circuit_sku_spans_zones,
        ),
        Item("Azure.VNG.Name, Azure.VNG.ConnectionName", "legal names", names_are_legal),
        Item(
            "Azure.VNG.Naming, Azure.VNG.ConnectionNaming",
            "names by a standard",
            waived_because=_NAMING,
        ),
        Item("APRL 4bae5a28", "zone-redundant Standard addresses on the gateway", gateway_addresses_span_zones),
        Item("APRL 9eab120e", "alerts on tunnels", tunnels_are_watched),
        Item("APRL 9186dae0", "service health for VPN gateways", service_health_is_told),
        Item(
            "APRL 194c14ac",
            "no ExpressRoute circuit from network to network",
            waived_because=(
                "The reference scenario lets two banks meet on a private circuit, so the link kind "
                "`express-route` exists. The default is the VPN; a circuit is used where a peer names it."
            ),
        ),
        Item(
            "APRL d37db635",
            "an ExpressRoute gateway on two circuits at different sites",
            waived_because=(
                "A circuit is the bank's contract with a carrier, and one can be named. The second way of a "
                "member that has both is its VPN."
            ),
        ),
    ),
    "Public addresses": (
        Item(
            (
                "Azure.PublicIP.StandardSKU, Azure.PublicIP.MigrateStandard, Azure.PublicIP.AvailabilityZone, "
                "APRL c63b81fb, APRL 5cea1501"
            ),
            "Standard, zone-redundant",
            addresses_are_standard,
        ),
        Item("Azure.PublicIP.IsAttached", "no orphans", addresses_are_attached),
        Item("Azure.PublicIP.Name", "legal names", names_are_legal),
        Item(
            "Azure.PublicIP.DNSLabel",
            "legal DNS labels",
            waived_because="No address has a DNS label: peers name a gateway by its address.",
        ),
    ),
    "Virtual network": (
        Item("Azure.VNET.UseNSGs", "a security group on every subnet", subnets_have_groups),
        Item("Azure.VNET.PrivateSubnet", "no default outbound access", subnets_are_private),
        Item(
            "Azure.VNET.SingleDNS, Azure.VNET.LocalDNS, CKV_AZURE_182, CKV_AZURE_183",
            "two DNS servers in the region, or Azure DNS",
            names_resolve_by_azure,
        ),
        Item(
            "Azure.VNET.BastionSubnet",
            "AzureBastionSubnet beside a GatewaySubnet",
            waived_because=(
                "Nobody logs in to a node: VMs are replaced, not mended. A bank that wants Bastion has one in its"
                " hub; here no rule would let it in."
            ),
        ),
        Item(
            "Azure.VNET.FirewallSubnet",
            "Azure Firewall in the hub",
            waived_because="A firewall is the hub's task. The nodes' flows are few and named in security rules.",
        ),
        Item(
            "Azure.VNET.PeerState",
            "connected network peerings",
            waived_because="There is no network peering: members are linked by gateways.",
        ),
        Item("Azure.VNET.Name, Azure.VNET.SubnetName", "legal names", names_are_legal),
        Item(
            "Azure.VNET.SubnetNaming",
            "names by a standard",
            waived_because=_NAMING,
        ),
        Item(
            "APRL 06b77be9",
            "flow logs",
            waived_because=(
                "Flow logs belong to Network Watcher, of which Azure has one a subscription and region: the "
                "central network team owns it, and two stacks in one subscription would fight over it."
            ),
        ),
    ),
    "Network security groups": (
        Item("Azure.NSG.AnyInboundSource", "nothing let in from anywhere", nobody_in_particular_gets_in),
        Item("Azure.NSG.DenyAllInbound", "no denial that stops probes", probes_get_through),
        Item(
            "Azure.NSG.LateralTraversal",
            "no SSH or RDP out of other hosts than those of operators",
            no_host_logs_in_to_another,
        ),
        Item("Azure.NSG.Associated", "attached", groups_are_attached),
        Item("Azure.NSG.Name", "legal names", names_are_legal),
        Item("APRL d2976d3e", "diagnostics", groups_log),
        Item(
            "APRL 8bb4a57b",
            "alerts on changes",
            waived_because=(
                "Each join of a peer changes a group and would raise them. A change beside the program shows as "
                "drift in the next preview, and in the subscription's activity log."
            ),
        ),
        Item(
            "APRL 23b2dfc7",
            "alerts on changed route tables",
            waived_because="There is no route table: routes come by BGP.",
        ),
    ),
    "Load balancer and egress": (
        Item("Azure.LB.StandardSKU, APRL 38c3bca1", "Standard", balancer_is_standard),
        Item("Azure.LB.AvailabilityZone, APRL 621dbc78", "a zone-redundant frontend", frontend_spans_zones),
        Item("Azure.LB.Probe", "an HTTP probe with a path for the web", web_is_probed_over_http),
        Item("APRL 6d82d042", "two backends or more", two_backends_or_more),
        Item("APRL 8d319a05, APRL 1adba190", "a NAT gateway instead of outbound rules", egress_by_nat_gateway),
        Item("APRL babf75d6", "alerts on the NAT gateway", egress_is_watched),
    ),
    "Private access": (
        Item("Azure.PrivateEndpoint.Name", "legal names", names_are_legal),
        Item("APRL b89c9acc", "connected", endpoints_connect_by_themselves),
        Item(
            "APRL ab896e8c",
            "alerts on private DNS",
            waived_because=(
                "They watch a zone's number of records against its limit of 25,000. These zones hold a record or "
                "two each, which their endpoints write."
            ),
        ),
        Item(
            "APRL 3538aa48",
            "the TTL of records",
            waived_because="The endpoints' zone groups write the records, with Azure's TTL of ten seconds.",
        ),
        Item("APRL a2341513", "links to each network", zones_are_linked),
    ),
    "Node VMs": (
        Item("APRL e7495e1c", "Flexible", orchestration_is_flexible),
        Item("Azure.VMSS.AvailabilityZone, APRL 1422c567", "zones", vms_span_zones),
        Item("Azure.VMSS.ZoneBalance, APRL b5a63aa0", "best-effort balance", zone_balance_is_best_effort),
        Item("Azure.VMSS.AutoInstanceRepairs, APRL 820f4743", "automatic repair", vms_are_repaired),
        Item("APRL 94794d2a", "application health", health_is_monitored),
        Item(
            "APRL ee66ff65, APRL 3f85a51c",
            "autoscale on metrics and forecasts",
            waived_because=(
                "A ledger node is an identity that peers know by name: their number is decided, not measured."
            ),
        ),
        Item("APRL 83d61669", "an image that is not deprecated", image_is_supported),
        Item("Azure.VMSS.AMA, Azure.VMSS.MigrateAMA", "the Azure Monitor agent", monitor_agent_is_current),
        Item("Azure.VMSS.PublicKey, CKV_AZURE_49, CKV_AZURE_149, CKV_AZURE_178", "SSH keys only", ssh_by_key_only),
        Item("Azure.VMSS.PublicIPAttached", "no public address", vms_have_no_public_address),
        Item("Azure.VMSS.ScriptExtensions", "secrets in protected settings only", no_script_carries_a_secret),
        Item("CKV_AZURE_97", "encryption at host", host_encrypts),
        Item(
            "CKV_AZURE_95",
            "automatic upgrades of the system's image",
            waived_because=(
                "Azure has them for Uniform scale sets. In a Flexible one the platform patches the running VMs, "
                "and a new image rolls through the set as an upgrade."
            ),
        ),
        Item("Azure.VMSS.Name", "legal names", names_are_legal),
        Item("Azure.VMSS.ComputerName", "legal computer names", computer_names_are_legal),
        Item("Azure.VM.AcceleratedNetworking", "accelerated networking", networking_is_accelerated),
        Item("Azure.VM.DiskCaching", "caches as disks are used", disks_cache_as_they_are_used),
        Item("Azure.VM.Updates", "automatic updates", vms_are_patched),
        Item(
            "Azure.VM.MaintenanceConfig",
            "patches at the customer's hour",
            waived_because=(
                "The platform patches at off-peak hours, one zone after the other; the standby takes over the "
                "identity of a VM that restarts."
            ),
        ),
    ),
    "Key Vault": (
        Item(
            "Azure.KeyVault.PurgeProtect, APRL 70fcfe6d, CKV_AZURE_42, CKV_AZURE_110",
            "purge protection",
            vault_cannot_be_purged,
        ),
        Item("Azure.KeyVault.SoftDelete, APRL 1cca00d2, CKV_AZURE_111", "soft delete", vault_deletes_softly),
        Item("Azure.KeyVault.RBAC, Azure.KeyVault.AccessPolicy", "roles, or narrow policies", vault_uses_rbac),
        Item(
            "Azure.KeyVault.Firewall, CKV_AZURE_109, CKV_AZURE_189",
            "denied by default, public access off",
            vault_is_closed,
        ),
        Item("Azure.KeyVault.Logs, APRL 1dc0821d", "audit events in a workspace", vault_is_audited),
        Item("CKV_AZURE_114", "the content type of secrets", secrets_state_their_type),
        Item("CKV_AZURE_112", "keys in an HSM", keys_live_in_an_hsm),
        Item(
            "Azure.KeyVault.AutoRotationPolicy, CKV_AZURE_40",
            "rotation and expiry of keys",
            waived_because=(
                "The keys are those of the network authority. Its root certificate names one of them, which every "
                "member trusts for good: a version that rotation made would sign what nobody takes."
            ),
        ),
        Item(
            "CKV_AZURE_41",
            "expiry of secrets",
            waived_because=(
                "A peer's card is valid until that peer publishes another. One that expired by a date would part "
                "two banks on that date."
            ),
        ),
        Item(
            "Azure.KeyVault.Name, Azure.KeyVault.SecretName, Azure.KeyVault.KeyName", "legal names", names_are_legal
        ),
    ),
    "Storage": (
        Item(
            "Azure.Storage.SecureTransfer, Azure.Storage.MinTLS, CKV_AZURE_3, CKV_AZURE_44",
            "encrypted transport, TLS 1.2",
            storage_wants_tls,
        ),
        Item(
            "Azure.Storage.BlobPublicAccess, Azure.Storage.BlobAccessType, CKV_AZURE_34, CKV_AZURE_59",
            "no anonymous access",
            blobs_are_never_public,
        ),
        Item("Azure.Storage.Firewall, CKV_AZURE_35", "denied by default", storage_denies_by_default),
        Item(
            "CKV_AZURE_36",
            "trusted services let in",
            waived_because=(
                "No trusted service reads network information or leases, so the exception would only be a way in."
            ),
        ),
        Item(
            (
                "Azure.Storage.SoftDelete, Azure.Storage.ContainerSoftDelete, Azure.Storage.FileShareSoftDelete, "
                "APRL 03263c57"
            ),
            "soft delete",
            storage_deletes_softly,
        ),
        Item(
            "Azure.Storage.UseReplication, APRL e6c7e1cc, CKV_AZURE_206",
            "more than one data centre",
            storage_is_replicated,
        ),
        Item("APRL 8ebda7c0", "versions of blobs", blobs_keep_versions),
        Item(
            "APRL 1b965cb9",
            "point-in-time restore",
            waived_because=(
                "Versions bring back any blob by itself. To set the account back would set back the epochs in the"
                " leases too, which must only ever grow."
            ),
        ),
        Item("APRL 96cb8331", "alerts", storage_is_watched),
        Item(
            (
                "Azure.Storage.DefenderCloud, Azure.Storage.DefenderCloud.MalwareScan, "
                "Azure.Storage.DefenderCloud.SensitiveData"
            ),
            "Defender for Storage",
            waived_because=_DEFENDER,
        ),
        Item("Azure.Storage.Name, CKV_AZURE_43", "legal names", storage_names_are_legal),
        Item(
            "Azure.Storage.Naming",
            "names by a standard",
            waived_because=_NAMING,
        ),
    ),
    "PostgreSQL": (
        Item(
            "Azure.PostgreSQL.ZoneRedundantHA, APRL ca87914f",
            "a standby in another zone",
            database_survives_a_zone,
        ),
        Item(
            "Azure.PostgreSQL.GeoRedundantBackup, APRL 31f4ac4b",
            "backups in another region",
            backups_lie_in_the_pair,
        ),
        Item("Azure.PostgreSQL.MaintenanceWindow, APRL b2bad57d", "a window of its own", database_has_a_window),
        Item("Azure.PostgreSQL.AAD", "Entra", database_takes_entra),
        Item(
            "Azure.PostgreSQL.AADOnly",
            "no passwords",
            waived_because=(
                "Each epoch of an identity signs in by a role of its own, so that an older one can be shut out, and "
                "all VMs are one Entra principal. The role's password exists in the node's memory alone."
            ),
        ),
        Item("Azure.PostgreSQL.MinTLS, Azure.PostgreSQL.UseSSL", "TLS", database_wants_tls),
        Item(
            (
                "Azure.PostgreSQL.FirewallIPRange, Azure.PostgreSQL.FirewallRuleCount, "
                "Azure.PostgreSQL.AllowAzureAccess"
            ),
            "few firewall rules",
            database_is_inside,
        ),
        Item(
            "Azure.PostgreSQL.DefenderCloud",
            "Defender",
            waived_because=_DEFENDER,
        ),
        Item(
            "APRL 2ab85a67",
            "read replicas",
            waived_because=(
                "A node reads what it has just written, so it must not read a replica. The standby of the other "
                "zone and the backups of the other region are for failures."
            ),
        ),
        Item("APRL 6293a3cc", "storage that grows", database_grows),
    ),
    "Monitoring": (
        Item(
            "Azure.LogAnalytics.Replication, APRL b36fd2ac",
            "a workspace that is replicated or exported",
            waived_because=(
                "The logs are about the member; the ledger itself is replicated. A bank whose rules want its "
                "audit trail in two regions exports it from its central workspace."
            ),
        ),
        Item("APRL 4b77191c", "the workspace's health", resource_health_is_told),
        Item("Azure.Monitor.ServiceHealth, APRL be448849", "service and resource health", service_health_is_told),
        Item("Azure.Alert.MetricAutoMitigate", "metric alerts that resolve", alerts_end_by_themselves),
        Item("Azure.Alert.HighFrequencyQuery", "costly one-minute queries reviewed", queries_take_their_time),
        Item(
            "APRL dac421ec, APRL 092f5c85",
            "workspace-based Application Insights, no instrumentation keys",
            insights_lie_in_the_workspace,
        ),
        Item(
            "Well-Architected service guides",
            "the guides' own tables",
            waived_because=(
                "They are prose about the same services; what can be checked in them is in the lines above and below."
            ),
        ),
    ),
    "Access": (
        Item("Azure.RBAC.UseGroups", "groups", people_are_granted_by_group),
        Item("Azure.RBAC.UseRGDelegation", "the group's scope or narrower", roles_are_granted_narrowly),
        Item("Azure.RBAC.LimitOwner", "few owners", nobody_is_made_owner),
        Item(
            "Azure.RBAC.PIM",
            "roles for an hour",
            waived_because=(
                "Eligible assignments are made in Entra, for the operators' groups that the configuration names."
            ),
        ),
        Item(
            (
                "Azure.Defender.KeyVault, Azure.Defender.Servers, Azure.Defender.Storage, Azure.Defender.OssRdb, "
                "Azure.Defender.Arm"
            ),
            "Defender's plans",
            waived_because=_DEFENDER,
        ),
        Item("Azure.Identity.UserAssignedName, Azure.ResourceGroup.Name", "legal names", names_are_legal),
        Item(
            "Azure.Route.Name",
            "legal names of routes",
            waived_because="There is no route.",
        ),
    ),
}
"""The lines by section."""


def render() -> str:
    """docs/checklist.md."""
    items = [item for section in CHECKLIST.values() for item in section]
    met = sum(item.met_by is not None for item in items)
    lines = [
        "<!-- Written by `make docs` from tests/checklist.py. -->",
        "# Checklist",
        "",
        (
            "What PSRule for Azure (`Azure.*`), the Azure Proactive Resiliency Library (APRL, the first digits of "
            "its GUIDs) and checkov (`CKV_AZURE_*`) ask of the resources that this program makes."
        ),
        "",
        (
            f"{met} lines are met: a test runs the named check over a large member. {len(items) - met} are waived, "
            "each for its reason."
        ),
    ]
    for section, its_items in CHECKLIST.items():
        lines += [
            "",
            f"## {section}",
            "",
            "| Rules | What they want | Here |",
            "|---|---|---|",
            *map(_row, its_items),
        ]
    return "\n".join(lines) + "\n"


def _row(item: Item) -> str:
    if item.met_by is None:
        here = f"**Waived.** {item.waived_because}"
    else:
        summary = (item.met_by.__doc__ or "").strip()
        here = f"{summary} (`{item.met_by.__name__}`)"
    return f"| {item.rules} | {item.wants} | {here} |"
