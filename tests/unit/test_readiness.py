"""How often an agent looks whether its node is ready."""

from contextlib import closing
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest

from agent import node
from agent.node import Node
from host.status import Readiness, Status
from lab.simulation import VirtualLoop

ANSWERS, READY, SILENT = 7.5, 30.5, 100.5
"""Seconds from which the node answers, is ready, and is silent again."""


def test_a_starting_node_is_ready_within_a_second_of_its_start(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, status = VirtualLoop(), Status("vm-1")
    looks: list[tuple[float, Readiness]] = []

    class Software:
        async def readiness(self, _: object) -> Readiness:
            now = loop.time()
            if ANSWERS <= now < SILENT:
                looks.append((now, Readiness.READY if now >= READY else Readiness.UP))
            else:
                looks.append((now, Readiness.DOWN))
            return looks[-1][1]

        async def figures(self, _: object) -> dict[str, float]:
            return {}

    vm: Any = SimpleNamespace(software=Software())
    nothing: Any = SimpleNamespace(name="node-1", fault=None)
    watched = Node(vm, nothing, nothing, status, nothing)
    monkeypatch.setattr(watched, "_place", nothing)
    with closing(loop):
        why = loop.run_until_complete(watched._check_readiness())
    ready = [now for now, readiness in looks if readiness is Readiness.READY]
    assert ready[0] - READY < 1, "applications wait for it"
    assert len([now for now, _ in looks if now < ANSWERS]) == 1, "a node that does not answer is not asked more often"
    assert {round(after - before) for before, after in pairwise(ready)} == {node.CHECK_SECONDS}
    assert why == f"the node has not answered for {node.SILENT_SECONDS} s"
    assert loop.time() - SILENT < node.SILENT_SECONDS + node.CHECK_SECONDS
