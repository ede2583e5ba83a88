"""The five steps of the scenario, between nodes whose banks are linked only by tunnels."""

from contextlib import ExitStack
from pathlib import Path

import pytest

from lab.banks import scenario
from lab.links.mesh import missing
from lab.links.scenario import play_linked

LATENCY = 0.020
"""Seconds that the answer to a packet takes longer, as between regions of one continent."""

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(missing() is not None, reason=str(missing())),
    pytest.mark.skipif(scenario.missing() is not None, reason=str(scenario.missing())),
]


def test_records_are_shared_and_payments_made_through_the_tunnels(tmp_path: Path) -> None:
    with ExitStack() as stack:
        outcome, takeover, mesh = play_linked(tmp_path, stack, LATENCY, stream_seconds=60)
        print(f"{outcome}; {takeover}")
        assert outcome.committed > 0, "updates were made during the takeover"
        assert outcome.whole, f"no record may be lost or duplicated, and each request must be answered: {outcome}"
        carried = {(one, other): megabytes for one, other, megabytes in mesh.carried()}
    assert min(carried.values()) > 0.1, f"each two banks' nodes are connected, and only through tunnels: {carried}"
