"""The timing of the lease: values with which an old holder could outlive its lease are refused."""

import re
from dataclasses import replace

import pytest

from contract.timing import FAILSAFE, LEASE, PLANNED_STOP, LeaseTiming

WRONG = {
    "a lease that Azure does not grant": ({"lease_seconds": 61}, "lease of 15 to 60"),
    "a stop before a second renewal": ({"renew_seconds": 14}, "two renewals before the stop"),
    "a kill before the stop": ({"kill_seconds": 12, "watchdog_seconds": 3}, "stop before kill"),
    "a kill after the lapse": ({"kill_seconds": 21}, "kill before lapse"),
    "a hung agent that outlives the kill": ({"watchdog_seconds": 7}, "hung agent killed by then"),
    "a watchdog that fires after one late notification": ({"beat_seconds": 3}, "two beats before the watchdog"),
}


@pytest.mark.parametrize(("changes", "wanted"), WRONG.values(), ids=WRONG)
def test_an_unsafe_order_is_refused(changes: dict[str, int], wanted: str) -> None:
    with pytest.raises(ValueError, match=f"^seconds out of order; wanted: .*{re.escape(wanted)}"):
        replace(LEASE, **changes)


WITHOUT_STORE = {
    "a second proof after the stop": ({"request_seconds": 5}, "two proofs before the lease stops"),
    "a stop before the next proof": ({"prove_seconds": 9}, "next proof before the stop"),
    "a kill before the stop": ({"kill_seconds": 12}, "stop before kill"),
    "a hung agent that outlives the kill": ({"kill_seconds": 16}, "hung agent killed by then"),
    "a report of each short outage": ({"report_seconds": 20}, "no report of what a lease outlives"),
}


@pytest.mark.parametrize(("changes", "wanted"), WITHOUT_STORE.values(), ids=WITHOUT_STORE)
def test_an_unsafe_order_for_outages_of_the_store_is_refused(changes: dict[str, int], wanted: str) -> None:
    with pytest.raises(ValueError, match=f"^seconds out of order; wanted: .*{re.escape(wanted)}"):
        replace(FAILSAFE, **changes)


def test_every_unsafe_order_is_reported_at_once() -> None:
    with pytest.raises(ValueError, match=r"two renewals before the stop; stop before kill"):
        LeaseTiming(stop_seconds=9, kill_seconds=8)


def test_a_stop_that_outlasts_azures_notice_is_refused() -> None:
    with pytest.raises(ValueError, match="stop within the notice"):
        replace(PLANNED_STOP, drain_seconds=511)
    assert replace(PLANNED_STOP, drain_seconds=510).total_seconds == PLANNED_STOP.notice_seconds, (
        "the longest stop that fits"
    )
