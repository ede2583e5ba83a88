"""A member's logs stay within their limit, computed from the code's own intervals."""

import pytest

from components import log_volume
from components.collected import TABLES
from components.log_volume import BYTES, CAP_FLOOR_GB, DAY, DAYS_A_MONTH, Senders, daily_cap_gb, gb_a_month, volumes
from components.queries import LOG_TABLES
from contract.metrics import Metric
from lab import ROOT
from ledger import PLATFORMS
from ledger.corda.authority.members import LOOK_AGAIN_SECONDS
from stack.settings import SIZES, Size
from tests.rows import ROWS, billed_bytes

CONNECTIONS = max(each.database.connections_per_identity for each in PLATFORMS.values() if each.database)
PEERS = 9
"""A consortium of ten members, each of which two instances of a gateway reach by four tunnels."""


def senders(size: Size, authority_vms: int) -> Senders:
    vms = SIZES[size].count
    return Senders(
        vms=vms,
        identities=vms - 1,
        peers=PEERS,
        tunnels=4 * PEERS,
        connections=CONNECTIONS,
        authority_vms=authority_vms,
    )


@pytest.mark.parametrize(("size", "most"), [(Size.MEDIUM, 8), (Size.LARGE, 16)])
def test_a_month_of_logs_is_small(size: Size, most: float):
    sent = senders(size, authority_vms=2)
    largest = sorted(volumes(sent).items(), key=lambda each: -each[1].gb_a_month)
    text = ", ".join(f"{table} {volume.gb_a_month:.1f}" for table, volume in largest[:3])
    assert gb_a_month(sent) <= most, f"{size}: {gb_a_month(sent):.1f} GB a month; wanted {most} at most; most: {text}"


def test_a_loud_day_fits_below_the_cap_and_a_flood_does_not():
    sent = Senders(vms=60, identities=56, peers=PEERS)
    day = gb_a_month(sent) / DAYS_A_MONTH
    assert 3 * day < daily_cap_gb(sent) < 5 * day + 0.1, "at the cap alerts stop, and above it nothing is stored"


def test_an_incident_of_a_small_member_fits_below_the_cap():
    assert daily_cap_gb(Senders(vms=2, identities=1, peers=0)) == 2, "a VM in a loop logs as much at any size"


def test_unauthenticated_requests_do_not_fill_the_workspace():
    reads = DAY / LOOK_AGAIN_SECONDS
    mb = reads * BYTES["AZKVAuditLogs"] / 1e6
    assert 2 * mb < CAP_FLOOR_GB * 1000 / 100, "at both VMs of an authority, all day: alerts stay far from the cap"
    text = (ROOT / "docs" / "threat-model.md").read_text("utf-8")
    assert f"{reads:,.0f} reads a day on each of its VMs, {mb:.0f} MB of logs" in text, (
        "the threat model states these numbers"
    )


@pytest.mark.parametrize("table", BYTES)
def test_a_row_is_as_large_as_it_is_counted(table: str):
    measured = billed_bytes(ROWS[table])
    assert 0.75 * BYTES[table] <= measured <= BYTES[table], f"a row of {table} has {measured} bytes"


def test_rows_have_the_columns_that_queries_read():
    for each in LOG_TABLES.values():
        if row := ROWS.get(each.table):
            optional = {"_ResourceId", "status_s", "stateChangeReason_s"}
            assert each.columns.keys() - row.keys() - optional == set(), f"{each.table} has no such columns"


def test_each_table_that_is_collected_is_counted():
    free = {"Heartbeat", "Usage", "_LogOperation"}
    read = {each.table for each in LOG_TABLES.values()}
    assert read - free == BYTES.keys(), "an uncounted table has no limit"
    assert set(TABLES.values()) <= BYTES.keys()


def test_each_metric_is_counted_once():
    groups = (
        log_volume.BY_VM,
        log_volume.BY_IDENTITY,
        log_volume.BY_MEMBER,
        log_volume.BY_END,
        log_volume.OF_AUTHORITY,
        (Metric.IMPAIRED,),
    )
    assert sorted(metric for group in groups for metric in group) == sorted(Metric), "a new metric has its rows"
