"""The agent's promises over random histories in virtual time, and that breaking a guard breaks a promise."""

import asyncio
import os
import random
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest

from agent import lease, node
from agent.acquaintance import Acquaintance
from agent.agent import STARTS
from agent.network_info import Exchange
from ledger.software import AGAIN_STATUS, Document, Place, Readiness, SoftwareError
from tests.simulation import (
    HELD_AGAIN_SECONDS,
    TROUBLE_SECONDS,
    Database,
    Machine,
    Outcome,
    Software,
    World,
    nothing,
    play,
    power_loss,
)

HISTORIES = int(os.environ.get("HISTORIES", "1000"))
FIRST_SEED = int(os.environ.get("FIRST_SEED", "0")) or random.randrange(10**9)


def story(outcome: Outcome) -> str:
    return "\n".join([f"seed {outcome.seed}: play again with FIRST_SEED={outcome.seed} HISTORIES=1", *outcome.events])


def test_no_older_epoch_writes_and_every_identity_is_held_again() -> None:
    print(f"histories from seed {FIRST_SEED}: {HISTORIES}")
    commits = takings = 0
    happened = Counter[str]()
    longest = 0.0
    for seed in range(FIRST_SEED, FIRST_SEED + HISTORIES):
        outcome = play(seed)
        assert not outcome.violations, f"{outcome.violations}\n{story(outcome)}"
        assert not outcome.unheld, f"{outcome.unheld} not held after {HELD_AGAIN_SECONDS} s of calm\n{story(outcome)}"
        assert not outcome.strangers, f"{outcome.strangers} known in the end\n{story(outcome)}"
        assert not outcome.silent, f"what {outcome.silent} says reaches nobody in the end\n{story(outcome)}"
        happened += outcome.happened
        commits, takings = commits + outcome.commits, takings + outcome.takings
        longest = max(longest, outcome.calm_seconds)
    print(f"{commits} commits, {takings} takings; held again after {longest:.0f} s of calm at most")
    print(", ".join(f"{what} {times}" for what, times in sorted(happened.items())))
    assert HISTORIES < 100 or {"drained", "expelled"} <= set(happened), "what never happens is not proven"
    assert commits > 20 * HISTORIES, "nodes that never write prove nothing"


def test_a_history_can_be_played_again() -> None:
    assert [play(seed).events for seed in range(20)] == [play(seed).events for seed in range(20)], (
        "a failure is found again from its seed alone"
    )


def some_history_is_broken(seeds: Iterable[int] = range(1000)) -> bool:
    return any(play(seed).violations for seed in seeds)


def test_without_the_fence_of_the_database_an_older_epoch_commits(monkeypatch: pytest.MonkeyPatch) -> None:
    async def no_fence(self: Database, identity: str, epoch: int, *, known: bool) -> Any:
        self._world.kept[identity].open_roles.add(epoch)

    monkeypatch.setattr(Database, "close_older", no_fence)
    assert some_history_is_broken(), "a lease alone can't stop a VM that was frozen while it held it"


def test_without_the_deadline_two_vms_run_one_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "STOP_SECONDS", lease.LEASE_SECONDS + 15)
    monkeypatch.setattr(lease, "KILL_SECONDS", lease.LEASE_SECONDS + 20)
    assert some_history_is_broken(), "a holder that can't renew must be gone before the lease lapses"


def test_without_the_watchdog_a_hung_agent_lets_its_node_run_on(monkeypatch: pytest.MonkeyPatch) -> None:
    async def asleep(self: Machine, gate: object) -> None:
        """No watchdog."""

    monkeypatch.setattr(Machine, "_watch_over", asleep)
    assert some_history_is_broken(), "an agent that hangs can't keep its own deadline"


def test_without_the_etag_of_the_epochs_begin_an_older_one_publishes_over_a_newer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    publish = Exchange.publish

    async def late(self: Exchange, identity: str, info: bytes, before: object) -> Document:
        return await publish(self, identity, info, await self.published(identity))

    monkeypatch.setattr(Exchange, "publish", late)
    # It wants a rare order of things, in one history of a thousand: the search begins near one.
    assert some_history_is_broken(range(2100, 5100)), "what is read after the fences may be a newer epoch's"


def test_without_a_note_who_is_dropped_meanwhile_stays_known(monkeypatch: pytest.MonkeyPatch) -> None:
    async def forgetful(self: Acquaintance) -> frozenset[str]:
        return frozenset(self._admitted)

    monkeypatch.setattr(Acquaintance, "_recall", forgetful)
    assert any(play(seed).strangers for seed in range(300)), "a node that starts does not know whom it once admitted"


def test_what_others_must_do_is_waited_for() -> None:
    async def for_long(world: World) -> None:
        world.uncertified = TROUBLE_SECONDS

    outcome = play(1, trouble=for_long)
    assert not outcome.violations, story(outcome)
    assert outcome.happened["waited"] > 6, "the same holders ask again and again"
    assert set(outcome.taken_by.values()) == {1}, "no VM would fare better, so none is given its turn"
    assert outcome.calm_seconds < 40, "and go on soon after it was done"


@pytest.mark.parametrize("error", [SoftwareError("no jar"), OSError("disk full"), ValueError("a blob too large")])
def test_a_node_that_never_starts_is_handed_on_and_kills_no_agent(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    async def fails(self: Software, place: object) -> None:
        raise error

    monkeypatch.setattr(Software, "prepare", fails)
    outcome = play(1, trouble=nothing)
    assert not outcome.violations, f"an agent that ends takes its VM's health with it\n{story(outcome)}"
    assert outcome.takings == 0, "no node ran"
    assert outcome.taken_by["node-1"] > 1, "after three failed starts another VM has its turn"


@pytest.mark.parametrize(
    ("readiness", "status", "vms"),
    [(Readiness.READY, AGAIN_STATUS, 1), (Readiness.READY, 1, 2), (Readiness.UP, AGAIN_STATUS, 2)],
    ids=["ready-and-asks-for-it", "ready-and-failed", "never-ready"],
)
def test_a_node_whose_database_was_away_is_not_handed_on(
    monkeypatch: pytest.MonkeyPatch, readiness: Readiness, status: int, vms: int
) -> None:
    async def told(self: Software, place: Place) -> Readiness:
        return readiness

    async def ends_thrice(world: World) -> None:
        for _ in range(STARTS):
            await asyncio.sleep(60)
            for machine in world.machines:
                for process in list(machine.running):
                    process.crash(status)

    monkeypatch.setattr(Software, "readiness", told)
    outcome = play(1, trouble=ends_thrice)
    assert not outcome.violations, story(outcome)
    assert set(outcome.taken_by.values()) == {vms}, "only where it failed of itself another VM has its turn"


def test_a_preparation_that_never_ends_is_begun_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    prepare, hung = Software.prepare, set[str]()

    async def hangs_once(self: Software, place: Place) -> None:
        if place.identity.name not in hung:
            hung.add(place.identity.name)
            await asyncio.sleep(1e6)
        await prepare(self, place)

    monkeypatch.setattr(Software, "prepare", hangs_once)
    monkeypatch.setattr(node, "PREPARE_SECONDS", 20)
    outcome = play(1, trouble=nothing)
    assert not outcome.violations, story(outcome)
    assert outcome.takings == 2, "both nodes run in the end"
    assert set(outcome.taken_by.values()) == {1}, "an outage is no failure of the VM"


def test_a_holder_that_is_killed_is_replaced_when_its_lease_lapses() -> None:
    outcomes = [play(seed, trouble=power_loss) for seed in range(100)]
    for outcome in outcomes:
        assert not outcome.violations, story(outcome)
        assert len(outcome.takeovers) == 1, f"one holder was lost, so one lease lapses\n{story(outcome)}"
    waits = [outcome.takeovers[0] for outcome in outcomes]
    print(f"taken over {min(waits):.2f} to {max(waits):.2f} s after the lease lapsed")
    assert max(waits) < 2, f"{max(waits):.1f} s after the lease lapsed; wanted less than 2 s for the agent's part"
