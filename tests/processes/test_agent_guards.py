"""Without any one guard of the agent some random history fails."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import pytest

from agent.exchange import Exchange
from agent.lease import Lease
from agent.node import Node
from agent.reconciler import MemberReconciler
from contract.timing import LEASE, LeaseTiming
from host.bank_documents import Document
from lab import simulation
from lab.simulation import (
    Database,
    Machine,
    World,
    anything,
    cut_off,
    late_commits,
    play,
)
from ledger.software import DatabaseAccess


def some_history_is_broken(
    seeds: Iterable[int] = range(1000), trouble: Callable[[World], Awaitable[None]] = anything
) -> bool:
    return any(play(seed, trouble=trouble).violations for seed in seeds)


def test_without_the_fence_of_the_database_an_older_epoch_commits(monkeypatch: pytest.MonkeyPatch) -> None:
    async def no_fence(self: Database, identity: str, epoch: int, holder: str, *, existed: bool) -> Any:
        self._world.stored[identity].passwords[epoch] = holder
        return DatabaseAccess("database", 5432, identity, "role", holder)

    monkeypatch.setattr(Database, "close_older", no_fence)
    assert some_history_is_broken(), "a lease alone can't stop a holder that was frozen"


def test_without_the_deadline_two_vms_run_one_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LeaseTiming, "__post_init__", lambda _: None)
    late = LeaseTiming(stop_seconds=LEASE.lease_seconds + 15, kill_seconds=LEASE.lease_seconds + 20)
    monkeypatch.setattr(simulation, "TIMING", late)

    async def alone(world: World) -> None:
        """A holder reaches neither store nor database, which would fence it, and no lock holds."""
        world.locks_hold = False
        await asyncio.sleep(world.chance.uniform(10, 30))
        holder = world.chance.choice([machine for machine in world.machines if machine.running])
        for service in ("store", "database"):
            holder.cut_off[service] = "hangs"
        await asyncio.sleep(90)

    assert some_history_is_broken(trouble=alone), "a holder that can't renew must stop before the lease lapses"


def test_without_the_watchdog_a_hung_agents_node_keeps_running(monkeypatch: pytest.MonkeyPatch) -> None:
    async def asleep(self: Machine, gate: object) -> None:
        """No watchdog."""

    monkeypatch.setattr(Machine, "_watch_over", asleep)
    assert some_history_is_broken(), "an agent that hangs can't keep its own deadline"


def test_without_the_etag_from_its_start_an_older_epoch_overwrites_a_newer_document(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    publish = Exchange.publish

    async def late(self: Exchange, identity: str, info: bytes, before: object) -> Document:
        return await publish(self, identity, info, await self.published(identity))

    monkeypatch.setattr(Exchange, "publish", late)
    # This needs a rare order of events, in one history of a thousand: the search begins near one.
    assert some_history_is_broken(range(2100, 5100)), (
        "a document that is read after the fences may belong to a newer epoch"
    )


def test_without_a_note_a_member_that_was_removed_meanwhile_stays_admitted(monkeypatch: pytest.MonkeyPatch) -> None:
    async def forgetful(self: MemberReconciler) -> frozenset[str]:
        return frozenset(self._admitted)

    monkeypatch.setattr(MemberReconciler, "_admitted_members", forgetful)
    assert any(play(seed).wrong_members for seed in range(300)), (
        "a starting node has no list of members that it admitted before"
    )


def test_without_ending_old_sessions_an_earlier_node_commits_beside_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def only_older(self: World, name: str, epoch: int) -> None:
        identity = self.stored[name]
        identity.sessions = {session: of for session, of in identity.sessions.items() if of >= epoch}

    assert not some_history_is_broken(range(20), late_commits), "with the guard no promise is broken"
    monkeypatch.setattr(World, "end_sessions", only_older)
    assert some_history_is_broken(range(100), late_commits), (
        "statements of a killed node of the same epoch may arrive late"
    )


def test_without_the_lease_a_late_holder_supersedes_the_current_one(monkeypatch: pytest.MonkeyPatch) -> None:
    async def unasked(self: Lease, newer: int, why: str) -> None:
        self._record = self._record.acquired(self.vm, "now", above=newer)

    monkeypatch.setattr(Lease, "raise_epoch", unasked)
    assert some_history_is_broken(), "only the store decides who may raise the epoch"


def test_without_a_proof_an_isolated_holder_keeps_running(monkeypatch: pytest.MonkeyPatch) -> None:
    async def always(self: Node) -> None:
        """No proof is made."""

    # The node does not end by itself either, as some would if their database refuses.
    monkeypatch.setattr(simulation, "_REFUSALS", 10**9)
    assert not some_history_is_broken(range(20), cut_off), "with the guard no promise is broken"
    monkeypatch.setattr(Node, "prove", always)
    assert some_history_is_broken(range(100), cut_off), "it does not learn that it was replaced"


def test_without_the_fence_an_isolated_holder_commits_beside_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    async def no_fence(self: Database, identity: str, epoch: int, holder: str, *, existed: bool) -> Any:
        self._world.stored[identity].passwords[epoch] = holder
        self._world.stored[identity].roles[epoch] = holder
        return DatabaseAccess("database", 5432, identity, "role", holder)

    monkeypatch.setattr(Database, "close_older", no_fence)
    assert some_history_is_broken(range(100), cut_off), (
        "the failsafe is safe only with a database that refuses older epochs"
    )
