"""The meters of each resource type, one row for each type, and why the others are free."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from cost.prices import HOURS
from cost.usage import Used, tunnels_of
from lab.azure.plan.planned import Planned

Inputs = Mapping[str, Any]


@dataclass(frozen=True)
class Charge:
    """A quantity on one meter."""

    meter: str
    """The meter's name in the price list."""
    quantity: float
    """Number of resources during the whole month, gigabytes, or operations."""
    usage: bool = False
    """Whether it depends on usage, and not only on the resources."""
    hours: float = HOURS
    """Running hours in the month."""


VM_METERS = "vm/"
"""Prefix of the names of VMs' meters."""
_INCLUDED_RULES = 5
"""Rules included in a balancer's hourly price: azure.microsoft.com/pricing/details/load-balancer."""
INCLUDED: Mapping[str, float] = MappingProxyType({"gateway/tunnel": 10})
"""Tunnels in a gateway's price, by azure.microsoft.com/pricing/details/vpn-gateway."""
_DISK_TIERS = {32: 4, 64: 6, 128: 10, 256: 15, 512: 20, 1024: 30, 2048: 40, 4096: 50, 8192: 60, 16384: 70, 32767: 80}
"""The tier of a managed disk by its maximum size in GiB: learn.microsoft.com/azure/virtual-machines/disks-types."""
_DISK_KINDS = {"Premium": "P", "StandardSSD": "E", "Standard": "S"}
_INCLUDED_DAYS, _INCLUDED_DAYS_OF_METRICS = 31, 90
"""Days of free retention in Log Analytics, and of Application Insights' tables in it;
learn.microsoft.com/azure/azure-monitor/logs/cost-logs and fundamentals/cost-usage."""
_MONTH_DAYS = HOURS / 24


def _scale_set(resource: Planned, used: Used) -> Iterator[Charge]:
    sku, profile = resource.inputs["sku"], resource.inputs["virtualMachineProfile"]
    count = int(sku["capacity"])
    yield Charge(f"{VM_METERS}{sku['name']}", count, hours=used.usage.hours)
    storage = profile["storageProfile"]
    for disk in (storage["osDisk"], *storage.get("dataDisks", ())):
        yield Charge(f"disk/{_disk(disk)}", count)


def _disk(disk: Inputs) -> str:
    kind, _, redundancy = disk["managedDisk"]["storageAccountType"].partition("_")
    tier = next(tier for size, tier in _DISK_TIERS.items() if disk["diskSizeGB"] <= size)
    return f"{_DISK_KINDS.get(kind, kind)}{tier}-{redundancy}"


def _server(resource: Planned, used: Used) -> Iterator[Charge]:
    inputs = resource.inputs
    # A standby is billed as a second server with a second storage, by the same meters.
    servers = 1 if inputs["highAvailability"]["mode"] == "Disabled" else 2
    yield Charge(f"postgresql/{_compute(inputs['sku']['name'])}", servers)
    yield Charge("postgresql/storage", servers * inputs["storage"]["storageSizeGB"])
    # As much as the storage is included: learn.microsoft.com/azure/postgresql/backup-restore/concepts-backup-restore.
    copies = 2 if inputs["backup"]["geoRedundantBackup"] == "Enabled" else 1
    beyond = max(0, copies * used.usage.backup_gb - inputs["storage"]["storageSizeGB"])
    yield Charge("postgresql/backup", beyond, usage=True)


def _compute(sku: str) -> str:
    """`Standard_D4ds_v5` is four vCores of `Ddsv5`; another spelling is a meter that the price list lacks."""
    found = re.fullmatch(r"Standard_([A-Z])(\d+)([a-z]*)_(v\d)", sku)
    return f"{found[1]}{found[3]}{found[4]}/{found[2]}" if found else sku


def _balancer(resource: Planned, used: Used) -> Iterator[Charge]:
    rules = len(resource.inputs["loadBalancingRules"])
    if rules:
        yield Charge("balancer", 1)
        yield Charge("balancer/rule", max(0, rules - _INCLUDED_RULES))
    yield Charge("balancer/data", used.balancer_gb / len(used.of_type("network:LoadBalancer")), usage=True)


def _connection(resource: Planned, used: Used) -> Iterator[Charge]:
    kind = resource.inputs["connectionType"]
    if kind == "ExpressRoute":
        # The circuit is billed separately, by its provider.
        return
    yield Charge("gateway/tunnel", tunnels_of(resource))
    if kind == "Vnet2Vnet" and resource.inputs["virtualNetworkGateway2"]["id"] in used.near:
        # Free within a region: learn.microsoft.com/azure/vpn-gateway/vpn-gateway-vpn-faq.
        return
    # IPsec traffic leaves by the gateway's public address.
    meter = "link/vnet" if kind == "Vnet2Vnet" else "bandwidth/out"
    yield Charge(meter, used.connection_gb(resource), usage=True)


def _endpoint(_: Planned, used: Used) -> Iterator[Charge]:
    yield Charge("endpoint", 1)
    each_way = used.endpoint_gb / len(used.of_type("network:PrivateEndpoint")) / 2
    yield Charge("endpoint/ingress", each_way, usage=True)
    yield Charge("endpoint/egress", each_way, usage=True)


def _key(resource: Planned, _: Used) -> Iterator[Charge]:
    kind = resource.inputs["properties"]["kty"]
    if kind.endswith("-HSM"):
        yield Charge("vault/hsm-key" if kind == "EC-HSM" else f"vault/{kind}-key", 1)


def _account(resource: Planned, used: Used) -> Iterator[Charge]:
    if resource.inputs["kind"] == "FileStorage":
        # Its shares are billed by provisioned size.
        return
    redundancy = resource.inputs["sku"]["name"].partition("_")[2]
    yield Charge(f"blob/{redundancy}/stored", used.usage.blob_gb, usage=True)
    # Reads have the price of all other operations.
    yield Charge(f"blob/{redundancy}/other", used.operations.renewals + used.operations.reads, usage=True)
    yield Charge(f"blob/{redundancy}/list", used.operations.lists, usage=True)


def _share(resource: Planned, used: Used) -> Iterator[Charge]:
    accounts = used.of_type("storage:StorageAccount")
    account = next(each for each in accounts if each.inputs["accountName"] == resource.inputs["accountName"])
    yield Charge(f"files/{account.inputs['sku']['name'].replace('_', '-')}", resource.inputs["shareQuota"])


def _workspace(resource: Planned, used: Used) -> Iterator[Charge]:
    yield Charge("logs/ingestion", used.log_gb, usage=True)
    retained = sum(
        gb * max(0, resource.inputs["retentionInDays"] - included)
        for gb, included in (
            (used.log_gb * used.metrics_share, _INCLUDED_DAYS_OF_METRICS),
            (used.log_gb * (1 - used.metrics_share), _INCLUDED_DAYS),
        )
    )
    yield Charge("logs/retention", retained / _MONTH_DAYS, usage=True)


def _metric_alert(resource: Planned, used: Used) -> Iterator[Charge]:
    """One time series for each criterion, resource and value of a dimension; `*` counts as one value."""
    criteria, kind = resource.inputs["criteria"], resource.inputs["targetResourceType"]
    resources = used.vms if kind == "Microsoft.Compute/virtualMachines" else len(resource.inputs["scopes"])
    series = dynamic = 0
    for criterion in criteria["allOf"]:
        values = 1
        for dimension in criterion.get("dimensions") or ():
            values *= len(dimension["values"])
        series += values
        dynamic += values * (criterion.get("criterionType") == "DynamicThresholdCriterion")
    yield Charge("alert/metric", series * resources)
    if dynamic:
        yield Charge("alert/dynamic", dynamic * resources)


def _query_alert(resource: Planned, _: Used) -> Iterator[Charge]:
    """By its frequency: 15 minutes and a day cost the same. Values of dimensions are unknown."""
    every = resource.inputs["evaluationFrequency"]
    yield Charge(f"alert/query/{every if every in ('PT1M', 'PT5M', 'PT10M') else 'PT15M'}", 1)


METERS: Mapping[str, Callable[[Planned, Used], Iterator[Charge]]] = MappingProxyType(
    {
        "compute:VirtualMachineScaleSet": _scale_set,
        "dbforpostgresql:Server": _server,
        "keyvault:Key": _key,
        "keyvault:Vault": lambda _, used: iter(
            [Charge("vault/operations", used.operations.secrets / len(used.of_type("keyvault:Vault")), usage=True)]
        ),
        "monitor:MetricAlert": _metric_alert,
        "monitor:ScheduledQueryRule": _query_alert,
        "network:LoadBalancer": _balancer,
        "network:NatGateway": lambda _, used: iter(
            [Charge("nat", 1), Charge("nat/data", used.egress_gb, usage=True)]
        ),
        "network:PrivateEndpoint": _endpoint,
        "network:PublicIPAddress": lambda *_: iter([Charge("ip", 1)]),
        "network:VirtualNetworkGateway": lambda resource, _: iter(
            [Charge(f"gateway/{resource.inputs['sku']['name']}", 1)]
        ),
        "network:VirtualNetworkGatewayConnection": _connection,
        "operationalinsights:Workspace": _workspace,
        "privatedns:PrivateZone": lambda *_: iter([Charge("dns/zone", 1)]),
        "storage:FileShare": _share,
        "storage:StorageAccount": _account,
    }
)
"""The charges of each type, by Azure's short name of the type."""

_RIGHTS, _SETTINGS, _NETWORKING = (
    "access control is free",
    "a setting of what is billed",
    "networks and their rules are free",
)
FREE: Mapping[str, str] = MappingProxyType(
    {
        "applicationinsights:Component": "what it takes in is billed by its workspace",
        "applicationinsights:Workbook": "workbooks are free; queries of analytics tables are too",
        "authorization:PolicyAssignment": _RIGHTS,
        "authorization:RoleAssignment": _RIGHTS,
        "authorization:RoleDefinition": _RIGHTS,
        "consumption:Budget": "budgets are free",
        "dbforpostgresql:AdministratorsMicrosoftEntra": _SETTINGS,
        "dbforpostgresql:Configuration": _SETTINGS,
        "keyvault:Secret": "billed by operations, at the vault",
        "maintenance:ConfigurationAssignment": _SETTINGS,
        "maintenance:MaintenanceConfiguration": _SETTINGS,
        "managedidentity:UserAssignedIdentity": _RIGHTS,
        "monitor:ActionGroup": "1,000 mails a month are free",
        "monitor:ActivityLogAlert": "alerts on the activity log are free",
        "monitor:DataCollectionRule": "what it collects is billed by the workspace",
        "monitor:DiagnosticSetting": "what it sends is billed by the workspace",
        "network:LocalNetworkGateway": "a name for the far end",
        "network:NetworkSecurityGroup": _NETWORKING,
        "network:PrivateDnsZoneGroup": "billed by its endpoint and its zone",
        "network:Subnet": _NETWORKING,
        "network:VirtualNetwork": _NETWORKING,
        "privatedns:VirtualNetworkLink": "billed by its zone",
        "random:RandomBytes": "nothing in Azure",
        "random:RandomPassword": "nothing in Azure",
        "random:RandomString": "nothing in Azure",
        "random:RandomUuid": "nothing in Azure",
        "resources:ResourceGroup": "a group of what is billed",
        "storage:BlobContainer": "billed by what lies in it, at the account",
        "storage:BlobServiceProperties": _SETTINGS,
        "storage:FileServiceProperties": _SETTINGS,
        "storage:ManagementPolicy": _SETTINGS,
    }
)
"""Types without a meter, each with the reason."""
