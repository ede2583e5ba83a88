"""A node's start and drain on a lease that ends meanwhile, and the limit of its stop."""

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from agent.node import Node
from contract.timing import PLANNED_STOP
from host.calls import BoundedCalls
from host.clock import Clock
from host.errors import UnavailableError
from host.status import Readiness, Status
from ledger.software import Process


class AgingLease:
    """A lease that is fresh when it is asked so many times."""

    fault, keys, epoch, holder, alive = None, "fingerprint", 1, "holder", True

    def __init__(self, fresh: int) -> None:
        self._fresh = fresh
        self.now, self.utc = Clock().now, Clock().utc

    @property
    def fresh(self) -> bool:
        self._fresh -= 1
        return self._fresh >= 0


def made(lease: Any, stops: Sequence[float] = ()) -> tuple[Node, list[str]]:
    """A node with a process for each of the stops' seconds, and the names of those that were launched."""
    launched = list[str]()

    async def nothing(*_: object) -> None: ...

    async def obtain(*_: object) -> Any:
        return SimpleNamespace(blobs={}, fingerprint="fingerprint")

    async def launch(process: Process, _: int) -> Any:
        launched.append(process.name)
        return SimpleNamespace(name=process.name)

    processes = [Process(f"process-{index}", (), {}, Path("/"), each) for index, each in enumerate(stops)]
    folder = SimpleNamespace(path=Path("/"), lock_fd=0, read_note=lambda _: None)
    resources: Any = SimpleNamespace(
        users=None,
        network=None,
        database=None,
        document=None,
        vault=SimpleNamespace(obtain=obtain),
        share=SimpleNamespace(open=lambda *_: folder),
        disk=Mock(),
        share_calls=BoundedCalls("share"),
        disk_calls=BoundedCalls("disk"),
        software=SimpleNamespace(make_secrets=Mock(), prepare=nothing, processes=lambda _: processes),
        launch=launch,
    )
    identity: Any = SimpleNamespace(name="node-1")
    return Node(resources, identity, lease, Status("vm-1"), random.Random()), launched


def test_each_process_starts_only_on_a_fresh_lease() -> None:
    node, launched = made(AgingLease(fresh=2), [3, 3])
    with pytest.raises(UnavailableError, match=r"^node-1: the lease is too old to start process-1$"):
        asyncio.run(node.start())
    assert launched == ["process-0"], "after a suspension of the VM another may hold the identity"


@pytest.mark.parametrize(("stops", "seconds"), [([3, 20], 20), ([3, 1000], PLANNED_STOP.process_seconds)])
def test_a_stop_takes_as_long_as_its_longest_process_and_no_more_than_the_plan(
    stops: list[float], seconds: float
) -> None:
    node, _ = made(AgingLease(fresh=3), stops)
    asyncio.run(node.start())
    assert node.stop_seconds == seconds, "Azure ends the VM at the end of the plan, before the lease is released"


@pytest.mark.parametrize("alive", [True, False])
def test_a_node_is_drained_only_while_it_may_run(alive: bool) -> None:
    asked = list[float]()

    async def drain(_: object, seconds: float) -> None:
        asked.append(seconds)

    node, _ = made(SimpleNamespace(fault=None, alive=alive))
    node._resources.software.drain = drain  # type: ignore[method-assign, assignment]
    node._place, node._running = Mock(), [Mock(wait=lambda: asyncio.sleep(60))]
    node._status.readiness = Readiness.READY
    asyncio.run(node.drain(5))
    assert asked == [5] * alive, "a drain must not ask the node of another holder"
