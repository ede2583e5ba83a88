"""`make cost`: every resource of a plan is priced or free for a reason, and small cases are computed by hand."""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.log_volume import daily_cap_gb, gb_a_month, volumes
from contract.card import LinkKind
from contract.timing import LEASE, SECRET_POLL_SECONDS, STANDBY
from cost import __main__ as command
from cost import stacks
from cost.bill import Bill, bill, sum_of
from cost.meters import FREE, METERS
from cost.prices import HOURS, REGION, PriceError, Verified, read_price_list
from cost.report import Statement, as_json, as_markdown, as_svg, as_text, changes, rows
from cost.usage import Usage, UsageError, Used, read_usage
from docs.generate import COST
from lab import ROOT
from lab.azure.plan.planned import Plan, Planned, Source, plan_of
from lab.azure.stack_file import StackFileError
from stack.outputs import CARD_OUTPUT, PEER_CARDS_OUTPUT
from stack.settings import TUNNELS_OF_LINK
from tests import runs

BANDS = {"small": (500, 650), "medium": (1_400, 1_700), "large": (2_700, 3_100)}
"""USD a month within which each size is to stay: a change that leaves them says so in a decision."""
WIDEST = {"small": 1.2, "medium": 1.1, "large": 1.1}
"""Highest total by the lowest. Half of a small member is its gateway and its database, each of one reading."""
PRICES = read_price_list()
USAGE_KEYS = "hours transactions logGb linkGb egressGb balancerGb endpointGb blobGb backupGb".split()


def everything() -> Plan:
    """The plan of a bank with all options; tests/processes has the project's own stacks."""
    run = runs.large()
    return plan_of(run, run.ids)


@pytest.fixture(scope="module")
def sizes() -> dict[str, Bill]:
    return {each.stack: each for each in runs.size_bills()}


class TestEverything:
    def test_each_type_is_priced_or_free_for_a_reason(self):
        types = {each.short_type for each in everything().resources if each.custom}
        assert not METERS.keys() & FREE.keys(), "billed, or free"
        assert types == METERS.keys() | FREE.keys(), "without a row it would cost nothing"
        assert all(FREE.values()), "each has a reason"

    def test_components_add_up_to_the_total(self):
        one = bill(everything(), PRICES, REGION, Usage())
        assert sum_of(one.component(each) for each in one.components) == one.total, "the components are the total"
        assert one.fixed + one.usage == one.total
        for each in one.components:
            lines = [line.cost for line in one.lines if line.component == each]
            assert sum_of(lines) == one.component(each)
        assert one.range[0] <= one.total <= one.range[1]

    def test_a_region_without_a_price_gives_no_sum(self):
        with pytest.raises(PriceError) as refused:
            bill(replace(everything(), stack="dev"), PRICES, "swedencentral", Usage())
        said = str(refused.value)
        assert said.startswith("dev: region swedencentral has no price of blob/GZRS/"), "VMs alone are priced there"
        assert "postgresql/Ddsv5/4" in said, "all missing prices are listed at once"
        assert "vm/" not in said
        assert "wanted each of them: `make prices REGION=swedencentral`" in said


class TestSizes:
    @pytest.mark.parametrize("size", BANDS)
    def test_the_cost_of_each_size_stays_within_its_band(self, sizes: dict[str, Bill], size: str):
        least, most = BANDS[size]
        assert least <= sizes[size].total <= most, "docs/cost.md has the lines; raise a band in a decision"
        widest = float(sizes[size].range[1] / sizes[size].range[0])
        assert widest < WIDEST[size], "most prices are verified: with single readings it would be 1.1 by 0.9, or 1.22"

    def test_every_vm_is_counted(self, sizes: dict[str, Bill]):
        vms = [line for line in sizes["large"].lines if line.meter.startswith("vm/")]
        assert [(each.component, each.units) for each in vms] == [("nodes", Decimal(15 * HOURS))]

    def test_monitoring_and_alerts_cost_where_a_size_has_them(self, sizes: dict[str, Bill]):
        assert not sizes["small"].component("monitoring") + sizes["small"].component("alerts")
        assert sizes["large"].component("monitoring")
        assert sizes["large"].component("alerts")


def made(short_type: str, name: str = "it", parent: str = "", **inputs: Any) -> Planned:
    module, kind = short_type.split(":")
    type_ = f"azure-native:{module}:{kind}"
    urn = f"urn:pulumi:t::p::{type_}::{name}"
    return Planned(urn, type_, name, parent, custom=True, inputs=inputs, protect=False)


def component(kind: str, name: str) -> Planned:
    type_ = f"decentralized-trust:azure:{kind}"
    return Planned(f"urn:pulumi:t::p::{type_}::{name}", type_, name, "", custom=False, inputs={}, protect=False)


def plan(*resources: Planned, nodes: int = 0, peers: int = 0) -> Plan:
    outputs = {CARD_OUTPUT: {"nodes": [{}] * nodes}, PEER_CARDS_OUTPUT: {f"bank-{each}": {} for each in range(peers)}}
    return Plan("t", resources, outputs)


def costs(*resources: Planned, region: str = REGION, usage: Usage | None = None, **has: int) -> dict[str, float]:
    """The cost of each meter that is not free."""
    found: dict[str, float] = {}
    for each in bill(plan(*resources, **has), PRICES, region, usage or Usage()).lines:
        found[each.meter] = found.get(each.meter, 0) + float(each.cost)
    return {meter: round(cost, 2) for meter, cost in found.items() if cost}


def scale_set(count: int, name: str = "vms", parent: str = "", disk: Mapping[str, Any] | None = None) -> Planned:
    disk = disk or {"diskSizeGB": 64, "managedDisk": {"storageAccountType": "Premium_LRS"}}
    return made(
        "compute:VirtualMachineScaleSet",
        name,
        parent,
        sku={"name": "Standard_D4s_v5", "capacity": count},
        virtualMachineProfile={"storageProfile": {"osDisk": disk}},
    )


def server(mode: str) -> Planned:
    return made(
        "dbforpostgresql:Server",
        sku={"name": "Standard_D4ds_v5"},
        highAvailability={"mode": mode},
        storage={"storageSizeGB": 128},
        backup={"geoRedundantBackup": "Enabled"},
    )


def balancer(rules: int, name: str = "balancer") -> Planned:
    return made("network:LoadBalancer", name, loadBalancingRules=[{}] * rules)


def connections(count: int, kind: str) -> list[Planned]:
    return [
        made(
            "network:VirtualNetworkGatewayConnection",
            f"link-{each}",
            connectionType=kind,
            virtualNetworkGateway2={"id": f"gateway-{each}"},
        )
        for each in range(count)
    ]


def metric_alert(name: str, *dimensions: int, vms: bool = False, scopes: int = 1) -> Planned:
    criterion = {"dimensions": [{"values": ["one"] * each} for each in dimensions]}
    return made(
        "monitor:MetricAlert",
        name,
        criteria={"allOf": [criterion]},
        targetResourceType="Microsoft.Compute/virtualMachines" if vms else "Microsoft.KeyVault/vaults",
        scopes=["scope"] * scopes,
    )


class TestByHand:
    def test_vms_each_with_a_disk(self):
        assert costs(scale_set(3)) == {"vm/Standard_D4s_v5": 420.48, "disk/P6-LRS": 30.63}, (
            "3 x 0.192 x 730; 3 x 10.21"
        )

    def test_fewer_hours_reduce_the_cost_of_vms_and_not_of_disks(self):
        found = costs(scale_set(3), usage=Usage(hours=73))
        assert found == {"vm/Standard_D4s_v5": 42.05, "disk/P6-LRS": 30.63}

    @pytest.mark.parametrize(
        ("gib", "kind", "meter"),
        [
            (32, "Premium_LRS", "disk/P4-LRS"),
            (33, "Premium_LRS", "disk/P6-LRS"),
            (128, "Premium_ZRS", "disk/P10-ZRS"),
            (65, "StandardSSD_LRS", "disk/E10-LRS"),
            (1024, "Standard_LRS", "disk/S30-LRS"),
        ],
    )
    def test_a_disk_is_of_the_tier_that_holds_it(self, gib: int, kind: str, meter: str):
        resource = scale_set(1, disk={"diskSizeGB": gib, "managedDisk": {"storageAccountType": kind}})
        used = Used(plan(resource), Usage())
        charges = METERS[resource.short_type](resource, used)
        assert [each.meter for each in charges] == ["vm/Standard_D4s_v5", meter]

    @pytest.mark.parametrize(
        ("mode", "vcores", "storage"),
        [("Disabled", 259.88, 14.72), ("SameZone", 519.76, 29.44), ("ZoneRedundant", 519.76, 29.44)],
    )
    def test_a_standby_doubles_a_database(self, mode: str, vcores: float, storage: float):
        assert costs(server(mode)) == {"postgresql/Ddsv5/4": vcores, "postgresql/storage": storage}

    def test_backups_and_their_copies_are_paid_beyond_the_storage(self):
        found = costs(server("Disabled"), usage=Usage(backup_gb=160))
        assert found["postgresql/backup"] == 18.24, "(2 x 160 - 128) GB x 0.095"
        found = costs(server("Disabled"), usage=Usage(backup_gb=64))
        assert "postgresql/backup" not in found, "as much as the storage is included"

    @pytest.mark.parametrize(
        ("rules", "cost"),
        [
            (1, {"balancer": 18.25}),
            (5, {"balancer": 18.25}),
            (30, {"balancer": 18.25, "balancer/rule": 182.5}),
            (0, {}),
        ],
    )
    def test_a_balancers_rules_beyond_five_cost_more(self, rules: int, cost: dict[str, float]):
        assert costs(balancer(rules), usage=Usage(balancer_gb=0)) == cost, "0.025 x 730; each further one 0.01 x 730"

    def test_each_balancer_has_its_own_five(self):
        found = costs(balancer(5, "a"), balancer(5, "b"), usage=Usage(balancer_gb=1000))
        assert found == {"balancer": 36.5, "balancer/data": 5}, "data is shared between them"

    @pytest.mark.parametrize(("kind", "count"), [("IPsec", 5), ("Vnet2Vnet", 2)])
    def test_ten_tunnels_are_included(self, kind: str, count: int):
        assert costs(*connections(count, kind), usage=Usage(link_gb=0)) == {}
        more = costs(*connections(count + 1, kind), usage=Usage(link_gb=0))
        assert more == {"gateway/tunnel": 21.9}, "two beyond ten: 2 x 0.015 x 730"

    def test_ipsec_traffic_is_billed_as_bandwidth_and_gateway_traffic_is_not(self):
        assert costs(*connections(2, "IPsec"), usage=Usage(link_gb=1100)) == {"bandwidth/out": 87}, "100 GB are free"
        assert costs(*connections(2, "Vnet2Vnet"), usage=Usage(link_gb=1100)) == {"link/vnet": 38.5}

    def test_each_peer_gets_as_much_whatever_its_number_of_connections(self):
        two, one = (component("VpnPeering", f"link-{peer}") for peer in ("b", "c"))
        links = [replace(each, parent=two.urn) for each in connections(2, "IPsec")]
        links.append(replace(connections(3, "Vnet2Vnet")[2], parent=one.urn))
        found = costs(two, one, *links, usage=Usage(link_gb=2200))
        assert found == {"bandwidth/out": 87, "link/vnet": 38.5}, "1,100 GB to each of them"
        everyone, beside_a_circuit, circuit_alone = (
            Used(plan(*each, peers=3), Usage()).link_gb for each in ([*links, *connections(1, "IPsec")], links, [])
        )
        assert beside_a_circuit == pytest.approx(everyone * 2 / 3), "the circuit takes the rest"
        assert circuit_alone == 0

    def test_a_link_between_vnets_of_one_region_is_free(self):
        near = frozenset({"gateway-0"})
        one = bill(plan(*connections(2, "Vnet2Vnet")), PRICES, REGION, Usage(link_gb=1000), near)
        assert one.total == Decimal("17.50"), "the other peer's half of 1000 GB x 0.035"

    def test_a_circuits_connection_costs_no_tunnel(self):
        assert costs(*connections(9, "ExpressRoute")) == {}

    def test_zones_cost_nothing_except_for_storage(self):
        zonal = replace(scale_set(3), inputs={**scale_set(3).inputs, "zones": ["1", "2", "3"]})
        assert costs(zonal) == costs(scale_set(3))
        share = made("storage:FileShare", accountName="files", shareQuota=100)
        prices: dict[str, float] = {}
        for kind in ("Premium_ZRS", "Premium_LRS"):
            account = made("storage:StorageAccount", accountName="files", kind="FileStorage", sku={"name": kind})
            prices |= costs(account, share, region="westus")
        assert prices == {"files/Premium-ZRS": 22, "files/Premium-LRS": 17.6}, (
            "the provisioned size, not the used one"
        )

    def test_dns_zones_have_tiers(self):
        network = component("MemberNetwork", "network")
        zones = [made("privatedns:PrivateZone", f"zone-{each}", network.urn) for each in range(27)]
        assert costs(network, *zones) == {"dns/zone": 12.7}, "25 x 0.50 and 2 x 0.10"

    def test_hsm_keys_have_tiers(self):
        vault = component("ClosedVault", "vault")
        keys = [made("keyvault:Key", f"key-{each}", vault.urn, properties={"kty": "EC-HSM"}) for each in range(252)]
        assert costs(vault, *keys) == {"vault/hsm-key": 1255}, "250 x 5.00 and 2 x 2.50"
        assert costs(made("keyvault:Key", properties={"kty": "EC"})) == {}, "a software key is billed by its use"

    def test_ten_time_series_are_free(self):
        assert costs(*(metric_alert(f"alert-{each}") for each in range(10))) == {}
        nodes = component("NodeScaleSet", "nodes")
        vms = scale_set(4, parent=nodes.urn)
        found = costs(
            nodes, vms, metric_alert("vms", vms=True), metric_alert("ports", 3, 3), metric_alert("vaults", scopes=3)
        )
        assert found["alert/metric"] == 0.6, "4 VMs, 3 x 3 values and 3 vaults: 16 less 10"

    def test_a_dynamic_threshold_costs_as_much_once_more(self):
        one = metric_alert("vaults", 4)
        criteria = [
            {**each, "criterionType": "DynamicThresholdCriterion"} for each in one.inputs["criteria"]["allOf"]
        ]
        found = costs(replace(one, inputs={**one.inputs, "criteria": {"allOf": criteria}}))
        assert found == {"alert/dynamic": 0.4}, "4 x 0.10; as metrics the first ten are free"

    def test_log_alerts_cost_by_their_frequency(self):
        rule = made("monitor:ScheduledQueryRule", evaluationFrequency="PT5M")
        assert costs(rule) == {"alert/query/PT5M": 1.5}
        seldom = replace(rule, inputs={"evaluationFrequency": "PT6H"})
        assert costs(seldom) == {"alert/query/PT15M": 0.5}, "this is Azure's lowest price"
        often = replace(rule, inputs={"evaluationFrequency": "PT1M"})
        with pytest.raises(
            PriceError, match=r"^t: there is no meter alert/query/PT1M; wanted a row of it in cost/prices\.json$"
        ):
            costs(often)

    def test_five_gigabytes_of_logs_are_free_and_31_days(self):
        workspace = made("operationalinsights:Workspace", retentionInDays=31)
        assert costs(workspace, usage=Usage(log_gb=5)) == {}
        assert costs(workspace, usage=Usage(log_gb=15)) == {"logs/ingestion": 23}
        longer = replace(workspace, inputs={"retentionInDays": 92})
        assert costs(longer, usage=Usage(log_gb=15))["logs/retention"] == 3.01, "two months of 15 GB at 0.10"

    def test_a_tier_counts_over_the_stack_and_is_shared(self):
        first, second = component("Alerts", "alerts"), component("Other", "other")
        several = [
            replace(metric_alert(f"alert-{each}"), parent=(first if each < 15 else second).urn) for each in range(20)
        ]
        one = bill(plan(first, second, *several), PRICES, REGION, Usage())
        assert one.total == 1, "20 series less ten, and not ten for each component"
        assert [one.component(name) for name in ("alerts", "other")] == [Decimal("0.75"), Decimal("0.25")]

    @settings(max_examples=20)
    @given(
        alerts=st.lists(st.integers(0, 4), max_size=20),
        rules=st.lists(st.integers(0, 40), max_size=4),
        gb=st.floats(0, 1e6),
    )
    def test_components_add_up_to_the_total_of_any_plan(self, alerts: list[int], rules: list[int], gb: float):
        owners = [component("Part", f"part-{each}") for each in range(5)]
        several = [
            replace(metric_alert(f"alert-{place}"), parent=owners[owner].urn) for place, owner in enumerate(alerts)
        ]
        several += [
            replace(balancer(each, f"b-{place}"), parent=owners[place].urn) for place, each in enumerate(rules)
        ]
        one = bill(plan(*owners, *several), PRICES, REGION, Usage(balancer_gb=gb))
        assert sum_of(one.component(each) for each in one.components) == one.total == one.fixed + one.usage
        assert one.range[0] <= one.total <= one.range[1]
        assert bill(plan(*owners, *reversed(several)), PRICES, REGION, Usage(balancer_gb=gb)) == one, "in any order"

    def test_reservations_replace_hours(self):
        one = bill(plan(scale_set(2)), PRICES, "westeurope", Usage(hours=100))
        line = next(each for each in one.lines if each.meter.startswith("vm/"))
        assert line.cost == 46, "2 x 100 h x 0.23"
        assert line.reserved == {"1 Year": Decimal("207.17"), "3 Years": Decimal("132.67")}, (
            "2 x 1243 / 12, 2 x 2388 / 36"
        )
        assert one.reserved("1 Year") == one.total - 46 + Decimal("207.17")

    def test_a_reserved_total_is_of_all_vms(self):
        small = {**scale_set(2).inputs, "sku": {"name": "Standard_D2s_v5", "capacity": 2}}
        mixed = plan(scale_set(2), replace(scale_set(2), name="small", inputs=small))
        assert bill(mixed, PRICES, "westeurope", Usage()).reserved("1 Year") is None, "a partial result is no result"

    def test_a_sum_is_known_if_each_part_is(self):
        known, unknown = (bill(plan(scale_set(2)), PRICES, each, Usage()) for each in ("westeurope", REGION))
        for bills, wanted in (([known, known], [True] * 3), ([known, unknown], [True, False, False])):
            table = {each.label: each.values for each in rows(Statement(PRICES, bills, summed=True))}
            assert [each is not None for each in table["reserved for 1 year"]] == wanted
        gateway = made("network:NatGateway")
        two = [bill(plan(scale_set(2), *more), PRICES, REGION, Usage()) for more in ([], [gateway])]
        table = {each.label: each.values for each in rows(Statement(PRICES, two, summed=True))}
        assert table["nat"] == (None, Decimal("32.85"), Decimal("32.85")), (
            "a bank without a server pays nothing for it"
        )

    def test_without_a_price_of_a_reservation_there_is_no_such_total(self):
        assert bill(plan(scale_set(2)), PRICES, REGION, Usage()).reserved("1 Year") is None, (
            "not the same, but unknown"
        )

    def test_a_price_without_a_second_source_gives_a_range(self):
        one = bill(plan(scale_set(1)), PRICES, REGION, Usage())
        assert one.range == (one.total - Decimal("0.93"), one.total), "the disk, 9.28 to 10.21"

    def test_an_unknown_type_is_refused(self):
        with pytest.raises(
            PriceError, match=r"t: it is of type network:AzureFirewall; wanted one that cost/meters\.py"
        ):
            costs(made("network:AzureFirewall"))

    def test_a_size_without_a_price_is_refused(self):
        resource = scale_set(1)
        other = replace(resource, inputs={**resource.inputs, "sku": {"name": "Standard_E64s_v5", "capacity": 1}})
        with pytest.raises(PriceError) as refused:
            costs(other)
        said = "t: there is no meter vm/Standard_E64s_v5; wanted a row of it in cost/prices.json"
        assert str(refused.value) == said, "`make prices` reads only meters that the price list has"
        with pytest.raises(PriceError) as refused:
            costs(other, region="uksouth")
        assert str(refused.value).startswith(f"{said}; region uksouth has no price of disk/P6-LRS; wanted each"), (
            "both at once"
        )


class TestUsage:
    def test_usage_follows_the_agents_intervals(self):
        nodes = component("NodeScaleSet", "nodes")
        used = Used(plan(nodes, scale_set(7, parent=nodes.urn), nodes=6, peers=2), Usage(hours=1))
        asked = used.operations
        assert asked.renewals == 3600 * (6 / LEASE.renew_seconds + 7 / STANDBY.presence_seconds)
        assert asked.lists == 3600 * (
            1 / (0.8 * STANDBY.poll_seconds) + 1 / STANDBY.count_seconds + 7 / STANDBY.documents_seconds
        ), "a standby's pauses are 0.6 to 1.0 of its longest"
        often = (1 + 1 + 2) / SECRET_POLL_SECONDS + 1 / STANDBY.costly_check_seconds
        assert asked.secrets == pytest.approx(3600 * (7 * often + 6 / SECRET_POLL_SECONDS)), (
            "own card, list of peers, two cards, and a check; and each node's RPC users"
        )

    def test_an_authority_asks_its_register_in_each_round(self):
        nodes, hosts = component("NodeScaleSet", "nodes"), component("NetworkAuthority", "authority")
        alone = [nodes, scale_set(2, parent=nodes.urn)]
        few, many = (
            Used(plan(*each, nodes=2), Usage(hours=1)).operations
            for each in (alone, [*alone, hosts, scale_set(2, parent=hosts.urn)])
        )
        assert few.reads == 0
        assert (many.lists - few.lists, many.reads) == (2 * 2 * 240, 2 * 8 * 240), "every 15 s, on each of two VMs"

    def test_application_insights_tables_are_kept_for_90_days_free_of_charge(self):
        plan = everything()
        used = Used(plan, Usage())
        share = volumes(used.senders)["AppMetrics"].gb_a_month / gb_a_month(used.senders)
        assert 0.1 < share < 0.9, "otherwise this proves nothing"
        (workspace,) = used.of_type("operationalinsights:Workspace")
        charges = {
            days: charge.quantity
            for days in (31, 90, 365)
            for charge in METERS["operationalinsights:Workspace"](
                replace(workspace, inputs={**workspace.inputs, "retentionInDays": days}), used
            )
            if charge.meter == "logs/retention"
        }
        month = HOURS / 24
        assert charges[31] == 0
        assert charges[90] == pytest.approx(used.log_gb * (1 - share) * 59 / month), "the others from day 32 on"
        assert charges[365] == pytest.approx(used.log_gb * ((1 - share) * 334 + share * 275) / month)

    def test_without_a_standby_no_vm_looks_for_an_identity(self):
        nodes = component("NodeScaleSet", "nodes")
        used = Used(plan(nodes, scale_set(2, parent=nodes.urn), nodes=2), Usage(hours=1))
        assert used.operations.lists == 3600 * 2 / STANDBY.documents_seconds

    def test_the_logs_are_those_of_the_workspaces_cap(self):
        plan = everything()
        used = Used(plan, Usage())
        (workspace,) = used.of_type("operationalinsights:Workspace")
        cap = workspace.inputs["workspaceCapping"]["dailyQuotaGb"]
        assert cap == daily_cap_gb(used.senders), "a plan's resources have the same senders as its settings"
        assert used.senders.tunnels == sum(TUNNELS_OF_LINK[link] for link in LinkKind), "a peer for each kind of link"
        assert used.log_gb == pytest.approx(gb_a_month(used.senders))
        assert Used(plan, Usage(hours=HOURS / 2)).log_gb == used.log_gb / 2, "stopped VMs send nothing"

    def test_more_transactions_cost_more(self):
        few, many = (bill(everything(), PRICES, REGION, Usage(transactions=each)) for each in (0, 1e9))
        assert few.fixed == many.fixed
        assert few.usage < many.usage

    def test_a_usage_file_overrides_computed_usage(self, tmp_path: Path):
        file = tmp_path / "usage.yaml"
        file.write_text("hours: 200\nlogGb: 12.5\n", encoding="utf-8")
        assert read_usage(file) == Usage(hours=200, log_gb=12.5)
        file.write_text("# nothing yet\n", encoding="utf-8")
        assert read_usage(file) == Usage()

    @pytest.mark.parametrize(
        ("text", "wanted"),
        [
            ("logGB: 3", "logGB: unknown key; wanted logGb"),
            ("vms: 3", f"vms: unknown key; wanted one of {', '.join(sorted(USAGE_KEYS))}"),
            ("hours: 731", "hours: 731: wanted a number, 0 to 730"),
            ("hours: true", "hours: true: not a number; wanted a number, 0 to 730"),
            ('hours: "730"', 'hours: "730": text, not a number; wanted a number, 0 to 730'),
            ("hours: yes", 'hours: "yes": text, not a number; wanted a number, 0 to 730'),
            ("transactions: -1", "transactions: -1: wanted a number, 0 or more"),
            ("transactions:", "transactions: null: not a number; wanted a number, 0 or more"),
            ("blobGb: many", 'blobGb: "many": text, not a number; wanted a number, 0 or more'),
            ("- 3", f"the document: [3]: not an object; wanted {{{', '.join(USAGE_KEYS)}}}"),
            ("transactions: .inf", "line 1: .inf: wanted a number"),
            (
                "a: b: c",
                "line 1: mapping values are not allowed here; wanted YAML as Pulumi reads it, indented with spaces",
            ),
        ],
    )
    def test_a_mistake_in_it_is_one_line(self, tmp_path: Path, text: str, wanted: str):
        file = tmp_path / "usage.yaml"
        file.write_text(text, encoding="utf-8")
        with pytest.raises((UsageError, StackFileError)) as refused:
            read_usage(file)
        assert str(refused.value) == f"{file}: {wanted}"

    def test_all_mistakes_in_it_are_reported_at_once(self, tmp_path: Path):
        file = tmp_path / "usage.yaml"
        file.write_text("hours: 731\nlogGB: 3\nblobGb: many\n", encoding="utf-8")
        with pytest.raises(UsageError) as refused:
            read_usage(file)
        assert [line.removeprefix(f"{file}: ").split(":")[0] for line in str(refused.value).splitlines()] == [
            "hours",
            "blobGb",
            "logGB",
        ], "a line for each"

    def test_a_missing_or_unreadable_file_is_one_line(self, tmp_path: Path):
        for path, reason in ((tmp_path, "Is a directory"), (tmp_path / "none", "No such file or directory")):
            with pytest.raises(StackFileError) as refused:
                read_usage(path)
            assert str(refused.value) == f"{path}: can't be read: {reason}; wanted a file of usage", "the path once"


class TestReports:
    def test_stated_usage_is_named_beside_the_sum(self):
        plan_ = plan(scale_set(2))
        usual, other = (
            Statement(PRICES, [bill(plan_, PRICES, REGION, each)])
            for each in (Usage(), Usage(hours=100, transactions=1e6, log_gb=3))
        )
        said = (
            f"USD a month of {HOURS} hours in {REGION}, with hours 100, transactions 1,000,000, logGb 3, list prices"
        )
        assert as_text(other).startswith(said), "hours: 100 is another sum, and not another month"
        assert as_markdown(other).startswith(f"### {said}")
        assert ">with hours 100, transactions 1,000,000, logGb 3, list prices of " in as_svg(other)
        for write in (as_text, as_markdown, as_svg):
            assert "with hours" not in write(usual), "default usage is not mentioned"

    def test_a_missing_cost_is_no_number(self, sizes: dict[str, Bill]):
        table = {each.label: each.values for each in rows(Statement(PRICES, list(sizes.values())))}
        assert table["alerts"][0] is None, "a small member has none: not 0.00"
        assert table["alerts"][1]
        assert not [label for label in table if label.startswith("reserved")], "no price, no row"
        known = rows(Statement(PRICES, [bill(plan(scale_set(2)), PRICES, "westeurope", Usage())]))
        assert [each.label for each in known if each.label.startswith("reserved")] == [
            "reserved for 1 year",
            "reserved for 3 years",
        ]

    def test_a_number_of_usage_is_written_out(self, sizes: dict[str, Bill]):
        before, after = (replace(sizes["large"], used=Usage(transactions=each)) for each in (43_800, 1e6))
        text = as_text(Statement(PRICES, [after], before=[before], against="last"))
        assert "\n! transactions: 43,800 -> 1,000,000\n" in text, "and not 1e+06"

    @pytest.fixture
    def report(self, sizes: dict[str, Bill]) -> Statement:
        return Statement(PRICES, list(sizes.values()))

    def test_text_marks_unverified_prices(self, report: Statement):
        text = as_text(report)
        for one in report.bills:
            for line in one.lines:
                if line.cost > 1 and line.verified in (Verified.ONE, Verified.ESTIMATE):
                    sign = "~" if line.verified is Verified.ESTIMATE else "*"
                    assert re.search(
                        rf"^  {re.escape(line.meter)}( by usage)? {re.escape(sign)} ", text, re.MULTILINE
                    )
        dates = [line.date for one in report.bills for line in one.lines]
        assert f"list prices of {min(dates)} to {max(dates)} (price list of {PRICES.date})" in text, (
            "its oldest is years older"
        )
        assert all(f"{one.total:,.2f}" in text for one in report.bills)

    def test_several_banks_are_summed(self, sizes: dict[str, Bill]):
        bills = [bill(everything(), PRICES, REGION, Usage()), sizes["small"]]
        report = Statement(PRICES, bills, summed=True)
        whole = f"{sum_of(each.total for each in bills):,.2f}"
        assert re.search(rf"^total .* {re.escape(whole)}$", as_text(report), re.MULTILINE)
        assert json.loads(as_json(report))["total"] == float(whole.replace(",", ""))

    def test_json_has_the_documented_keys(self, sizes: dict[str, Bill]):
        report = Statement(PRICES, [sizes["large"]], before=[sizes["medium"]], against="medium")
        document = json.loads(as_json(report))
        text = COST.read_text(encoding="utf-8")
        keys = {*document, *(f"bills[].{each}" for each in document["bills"][0])}
        assert not [each for each in keys if f"`{each}`" not in text]
        for key in (*document["bills"][0]["lines"][0], *document["changes"][0]):
            assert f"`{key}`" in text
        assert document["bills"][0]["total"] == float(sizes["large"].total)

    def test_markdown_shows_the_sums_without_folding(self, sizes: dict[str, Bill]):
        report = Statement(PRICES, [sizes["large"]], before=[sizes["medium"]], against="medium")
        opened, folded = as_markdown(report).split("<details>")
        assert f"| **total** | **{sizes['large'].total:,.2f}** |" in opened
        assert "- nodes vm/Standard_D4as_v5" not in opened, "more of them: a diff shows them as added"
        assert "+ nodes vm/Standard_D4as_v5: 878.92 -> 1,883.40 (+1,004.48)" in opened
        assert "vm/Standard" not in opened.split("````")[0]
        assert "vm/Standard\\_D4as\\_v5" in folded, "an underline is no emphasis"

    def test_svg_is_well_formed_and_as_high_as_the_costs(self, report: Statement):
        drawn = ElementTree.fromstring(as_svg(report))  # noqa: S314  (our own)
        name = "{http://www.w3.org/2000/svg}"
        heights: dict[str, float] = {}
        for each in drawn.iter(f"{name}rect"):
            if each.find(f"{name}title") is not None:
                heights[each.attrib["x"]] = heights.get(each.attrib["x"], 0) + float(each.attrib["height"])
        small, _, large = (float(each.total) for each in report.bills)
        bars = [heights[each] for each in sorted(heights, key=int)]
        assert bars[0] / bars[2] == pytest.approx(small / large, rel=0.02)
        assert all(name in as_svg(report) for name in report.bills[2].components)

    def test_changes_are_listed_by_line(self, sizes: dict[str, Bill]):
        found = changes(Statement(PRICES, [sizes["large"]], before=[sizes["medium"]], against="medium"))
        assert sum_of(each.difference for each in found) == sizes["large"].total - sizes["medium"].total
        assert (found[0].component, found[0].meter) == ("nodes", "vm/Standard_D4as_v5"), "the largest first"
        assert not changes(Statement(PRICES, [sizes["large"]], before=[sizes["large"]], against="large"))


@pytest.fixture
def one_plan(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Plan:
    """The command has one plan for each stack, and a separate bill for each."""
    plan = everything()

    def in_process(source: Source) -> Plan:
        return replace(plan, stack=source.configuration.stack)

    monkeypatch.setattr(stacks, "plan_in_process", in_process)
    monkeypatch.setattr(stacks, "LAST_BILLS", tmp_path / "costs")
    return plan


@pytest.mark.usefixtures("one_plan")
class TestCommand:
    def test_a_stack_is_billed_in_the_given_region(self, capsys: pytest.CaptureFixture[str]):
        assert command.main(["dev", "--region", "eastus"]) == 0
        assert "in eastus" in capsys.readouterr().out

    def test_a_comparison_shows_changes_since_the_last_run(self, capsys: pytest.CaptureFixture[str], tmp_path: Path):
        usage = tmp_path / "usage.yaml"
        usage.write_text("hours: 365\n", encoding="utf-8")
        assert command.main(["dev", "--region", "eastus"]) == 0
        capsys.readouterr()
        again = ["dev", "--region", "eastus", "--usage", str(usage), "--against", "last"]
        assert command.main(again) == 0
        first = capsys.readouterr().out
        assert "Against last" in first
        assert "- nodes vm/Standard_D4as_v5: 1,883.40 -> 941.70 (-941.70)" in first
        assert "\n! hours: 730 -> 365\n" in first
        assert "region" not in first
        assert command.main(again) == 0
        assert capsys.readouterr().out == first, "a comparison stores nothing"

    def test_a_comparison_says_that_the_last_run_had_another_region_and_usage(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ):
        usage = tmp_path / "usage.yaml"
        usage.write_text("logGb: 1000\n", encoding="utf-8")
        assert command.main(["dev", "--region", "eastus", "--usage", str(usage)]) == 0
        capsys.readouterr()
        assert command.main(["dev", "--region", "eastus2", "--against", "last"]) == 0
        assert "\n! region: eastus -> eastus2\n! logGb: 1,000 -> from the plan\n" in capsys.readouterr().out
        assert command.main(["dev", "--region", "eastus2", "--against", "last", "--format", "json"]) == 0
        (before,) = json.loads(capsys.readouterr().out)["before"]
        assert (before["region"], before["used"]["logGb"]) == ("eastus", 1000)

    def test_a_comparison_shows_changes_against_another_file(self, capsys: pytest.CaptureFixture[str]):
        file = str(ROOT / "Pulumi.dev.yaml")
        assert command.main(["dev", "--region", "eastus", "--against", file]) == 0
        assert "(+0.00)" in capsys.readouterr().out, "the same plan here"

    @pytest.mark.parametrize(
        ("arguments", "wanted"),
        [
            (["dev", "--region", "moon"], "region moon: no price is known there; wanted one of eastus, eastus2, "),
            (["dev", "--region", "japaneast"], "region japaneast: no price is known there; wanted one of eastus, "),
            (["dev"], "dev: region swedencentral has no price of "),
            (["nobody"], "no configuration of stack nobody; wanted Pulumi.nobody.yaml"),
            (["dev", "--usage", "/nowhere.yaml"], "/nowhere.yaml: can't be read: "),
            (["dev", "prod", "--against", "dev"], "2 stacks against dev; wanted one stack"),
            (["--against", "dev"], "the three sizes against dev; wanted one stack"),
            (["dev", "dev", "--region", "eastus"], "dev: given more than once; wanted each stack once"),
            (
                ["dev", "--region", "eastus", "--against", "last"],
                "no bill of dev is saved; wanted a `make cost STACK=dev` without AGAINST first",
            ),
            (["--against", "last"], "no bill of small is saved; wanted a `make cost` without AGAINST first"),
            (["dev", "--format", "xml"], "format xml; wanted text, markdown, json or svg\n"),
            (["dev", "--colour", "red"], "unrecognized arguments: --colour red; wanted python -m cost [-h] "),
            (["--region", "swedencentral"], "small, medium, large: region swedencentral has no price of "),
        ],
        ids=str,
    )
    def test_each_failure_is_one_message(self, arguments: list[str], wanted: str, capsys: pytest.CaptureFixture[str]):
        assert command.main(arguments) == 1
        said = capsys.readouterr()
        assert said.err.startswith(f"error: {wanted}")
        assert ("or `make prices REGION=japaneast`; " in said.err) is ("japaneast" in arguments), "Azure has it"
        if "--region" in arguments and "eastus" not in arguments:
            assert said.err.endswith(f"{REGION} has all that the sizes need\n"), "another region may lack prices too"
        assert said.err.count("\n") == 1
        assert not said.out

    @pytest.mark.parametrize(
        "text",
        [
            "[",
            "{}",
            '{"schema": 1}',
            '{"schema": 2, "content": {"stack": "dev", "region": "x", "used": {}, "lines": [3]}}',
        ],
    )
    def test_a_damaged_saved_bill_is_named(self, text: str, capsys: pytest.CaptureFixture[str]):
        stacks.LAST_BILLS.mkdir()
        (stacks.LAST_BILLS / "dev.json").write_text(text, encoding="utf-8")
        assert command.main(["dev", "--region", "eastus", "--against", "last"]) == 1
        assert "wanted a `make cost STACK=dev` without AGAINST first" in capsys.readouterr().err
