"""The agent's promises over random histories in virtual time."""

import asyncio
import json
import os
import random
from collections import Counter
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any, TypedDict
from unittest.mock import Mock

import pytest

from agent import agent, node
from agent.agent import MAX_FAILED_STARTS
from agent.lease import MAX_EPOCH
from agent.resources import NodeIntervals
from contract.metrics import Cause
from contract.timing import LEASE, PLANNED_STOP, STANDBY
from host import faults
from host.errors import DamagedError, SupersededError, UnavailableError
from host.status import Readiness, Status
from lab import simulation
from lab.simulation import (
    HELD_AGAIN_SECONDS,
    LOCAL_FAULTS,
    PEERS,
    SHORT_DRAIN_SECONDS,
    TROUBLE_SECONDS,
    Blob,
    Ledger,
    SimulatedSoftware,
    SimulatedStore,
    World,
    damage,
    nothing,
    play,
    power_loss,
    story,
)
from ledger.software import RESTART_STATUS, Place, Process, SoftwareError, WaitingError

HISTORIES = int(os.environ.get("HISTORIES", "50"))
FIRST_SEED = int(os.environ.get("FIRST_SEED", "0")) or random.randrange(10**9)


def test_no_older_epoch_writes_and_every_identity_is_held_again() -> None:
    print(f"histories from seed {FIRST_SEED}: {HISTORIES}")
    commits = takings = 0
    happened = Counter[str]()
    longest = 0.0
    for seed in range(FIRST_SEED, FIRST_SEED + HISTORIES):
        outcome = play(seed)
        assert not outcome.violations, f"{outcome.violations}\n{story(outcome)}"
        assert not outcome.unheld, f"{outcome.unheld} not held after {HELD_AGAIN_SECONDS} s of calm\n{story(outcome)}"
        assert not outcome.wrong_members, f"{outcome.wrong_members} known in the end\n{story(outcome)}"
        assert not outcome.unpublished, (
            f"the network information of {outcome.unpublished} is not published in the end\n{story(outcome)}"
        )
        happened += outcome.happened
        commits, takings = commits + outcome.commits, takings + outcome.takings
        longest = max(longest, outcome.calm_seconds)
    print(f"{commits} commits, {takings} takings; held again after {longest:.0f} s of calm at most")
    print(", ".join(f"{what} {times}" for what, times in sorted(happened.items())))
    local_faults = {f"faulty {what}" for what in LOCAL_FAULTS}
    assert HISTORIES < 100 or {"drained", "expelled", "odd answers", "hostile answers"} | local_faults <= set(
        happened
    ), "a history in which this never happens proves nothing"
    assert commits > 20 * HISTORIES, "a history in which no node writes proves nothing"


def test_a_seed_repeats_its_history() -> None:
    assert [play(seed).events for seed in range(5)] == [play(seed).events for seed in range(5)], (
        "a failure is reproduced from its seed alone"
    )


def test_waiting_for_other_members_counts_as_no_failed_start() -> None:
    async def for_long(world: World) -> None:
        world.uncertified = TROUBLE_SECONDS

    outcome = play(1, trouble=for_long)
    assert not outcome.violations, story(outcome)
    assert outcome.happened["waited"] > 6, "the same holders try again until the member has acted"
    assert set(outcome.taken_by.values()) == {1}, "another VM would not help, so none takes over"
    assert outcome.calm_seconds < 40, "the nodes start soon after the member has acted"


@pytest.mark.parametrize("error", [SoftwareError("no jar"), OSError("disk full"), ValueError("a blob too large")])
def test_an_identity_whose_node_never_starts_is_released_and_the_agent_goes_on(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    async def fails(self: SimulatedSoftware, place: object) -> None:
        raise error

    monkeypatch.setattr(SimulatedSoftware, "prepare", fails)
    outcome = play(1, trouble=nothing)
    assert not outcome.violations, f"an agent that ends takes its VM's health with it\n{story(outcome)}"
    assert outcome.takings == 0, "no node ran"
    assert outcome.taken_by["node-1"] > 1, "after three failed starts another VM tries"


@pytest.mark.parametrize(
    ("readiness", "status", "vms"),
    [(Readiness.READY, RESTART_STATUS, 1), (Readiness.READY, 1, 2), (Readiness.UP, RESTART_STATUS, 2)],
    ids=["ready-and-asks-for-it", "ready-and-failed", "never-ready"],
)
def test_an_identity_stays_on_its_vm_after_an_outage_of_the_database(
    monkeypatch: pytest.MonkeyPatch, readiness: Readiness, status: int, vms: int
) -> None:
    async def reported(self: SimulatedSoftware, place: Place) -> Readiness:
        return readiness

    async def ends_thrice(world: World) -> None:
        for _ in range(MAX_FAILED_STARTS):
            await asyncio.sleep(60)
            for machine in world.machines:
                for process in list(machine.running):
                    process.crash(status)

    monkeypatch.setattr(SimulatedSoftware, "readiness", reported)
    outcome = play(1, trouble=ends_thrice)
    assert not outcome.violations, story(outcome)
    assert set(outcome.taken_by.values()) == {vms}, (
        "a VM gives up an identity only for its own failures, not for an outage"
    )


def test_a_preparation_that_hangs_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    prepare, hung = SimulatedSoftware.prepare, set[str]()

    async def hangs_once(self: SimulatedSoftware, place: Place) -> None:
        if place.identity.name not in hung:
            hung.add(place.identity.name)
            await asyncio.sleep(1e6)
        await prepare(self, place)

    monkeypatch.setattr(SimulatedSoftware, "prepare", hangs_once)
    monkeypatch.setattr(node, "PREPARE_SECONDS", 20)
    outcome = play(1, trouble=nothing)
    assert not outcome.violations, story(outcome)
    assert outcome.takings == 2, "in the end both nodes run"
    assert set(outcome.taken_by.values()) == {1}, "an outage is no failure of the VM"


def test_a_holder_survives_malformed_answers_to_renewals(caplog: pytest.LogCaptureFixture) -> None:
    async def odd_for_a_while(world: World) -> None:
        await asyncio.sleep(60)
        world.services["store"].down = "odd"
        await asyncio.sleep(LEASE.stop_seconds - LEASE.renew_seconds - 1)
        world.services["store"].down = None

    outcome = play(1, trouble=odd_for_a_while)
    assert not outcome.violations, story(outcome)
    assert outcome.happened["odd answers"] >= 2, "some renewals got malformed answers"
    assert outcome.takings == 2, f"each identity's first node runs on: its lease was fresh\n{story(outcome)}"
    assert "unexpected" in caplog.text, "a fault of the program would look the same, so it is counted"
    assert "Traceback" in caplog.text, "the log has its traceback"


def test_a_vm_that_lacks_a_prerequisite_acquires_no_identity() -> None:
    async def sicken(world: World) -> None:
        for vm in world.machines:
            vm.add_fault("runtime", "no java")
        await asyncio.sleep(800)
        assert not world.takings, "its node would not start without the prerequisite"
        assert all("runtime" in vm.status.lacks for vm in world.machines)
        assert not any(vm.status.unfit for vm in world.machines), (
            "if no VM has the prerequisite, a new VM would not have it either"
        )
        world.machines[0].local_faults.clear()
        await asyncio.sleep(120)
        assert world.takings.total() == 1, "a recovered VM acquires identities again"

    play(1, trouble=sicken)


def test_a_holder_repeats_its_check_before_it_gives_up_to_a_healthy_standby() -> None:
    assert agent._BACKOFF[1] + node.RESOURCE_SECONDS < STANDBY.confirm_seconds, (
        "when an outage ends, the standby may notice first"
    )


def test_a_damaged_record_is_reported_for_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    reported = list[tuple[float, str | None]]()
    monkeypatch.setattr(node, "REPORT_SECONDS", 200)

    async def trouble(world: World) -> None:
        await damage(world, World.lose)
        for _ in range(4):
            reported.extend((world.loop.time(), each.status.lease) for each in world.machines if each.running)
            await asyncio.sleep(90)

    outcome = play(1, trouble=trouble)
    assert not outcome.violations, story(outcome)
    early, late = [[each for at, each in reported if (at > 300) is later] for later in (False, True)]
    assert all(each and "lost, restored or edited" in each for each in early), (
        f"{reported}: an operator should find out why"
    )
    assert late == [None, None], "a permanent alert hides the next one"


def claims(epoch: int, /, **changes: Any) -> bytes:
    """A record as an agent would have written it in this epoch, with changed properties."""
    tenure = {"epoch": epoch, "vm": "vm-1", "since": "2026-01-01T00:00:00.000+00:00", "until": None, "why": None}
    return json.dumps({"epoch": epoch, "keys": None, "history": [tenure]} | changes).encode()


TENURES = json.loads(claims(3))["history"] * 7000
EDITS = {
    "no JSON": b"{",
    "no text": b"\xff\xfe\x00",
    "deep": b"[" * 100_000,
    "nothing": b"",
    "null": b"null",
    "no property": b"{}",
    "negative": claims(-1),
    "a fraction": claims(7, epoch=7.5),
    "a float": claims(7, epoch=1e15),
    "a text": claims(7, epoch="7"),
    "10^15": claims(10**15),
    "2^52": claims(2**52),
    "2^53": claims(2**53),
    "10^5000": claims(7).replace(b"7", b"1" + b"0" * 5000),
    "twice": b'{"epoch": 1, "epoch": 1000000000000000}',
    "a tenure without its VM": claims(7, history=[{"epoch": 7}]),
    "a line more": claims(7, history=[TENURES[0] | {"vm": "vm-2\n<0>the bank is closed"}]),
    "a long name": claims(7, history=[TENURES[0] | {"vm": "v" * 900_000}]),
    "keys that are no hash": claims(7, keys="deleted\nor not"),
    "many tenures": claims(7, history=TENURES),
    "a property more": claims(7, more=1),
}
PLAUSIBLE = {
    "another holder": claims(7, history=[TENURES[0] | {"vm": "vm-2"}]),
    "the year 9999": claims(7, history=[TENURES[0] | {"since": "9999-12-31T23:59:59Z", "until": "x"}]),
    "a later epoch": claims(7),
    "the highest epoch": claims(MAX_EPOCH),
}
"""Edits that an agent can't tell from its own records: they harm nothing."""


@pytest.mark.parametrize("edit", (EDITS | PLAUSIBLE).values(), ids=EDITS | PLAUSIBLE)
def test_an_edited_record_harms_one_takeover_only(edit: bytes) -> None:
    seconds, reported = list[float](), list[set[str | None]]()

    async def takeovers(world: World) -> None:
        seconds.extend(await damage(world, partial(World.edit, content=edit)))
        for _ in range(3):
            await asyncio.sleep(30)
            reported.append({vm.status.lease for vm in world.machines if vm.running})
            before = dict(world.takings)
            for vm in [vm for vm in world.machines if vm.running]:
                vm.end("is killed", restart=LEASE.lease_seconds)
            since = world.loop.time()
            while any(world.takings[name] == before[name] for name in world.names):
                await asyncio.sleep(0.5)
                assert world.loop.time() < since + 600, f"{before} and not again"
            seconds.append(world.loop.time() - since)
        for name in world.names:
            assert max(world.stored[name].roles) < MAX_EPOCH + 50, "an edit does not use the numbers up"

    outcome = play(1, trouble=takeovers)
    assert not outcome.violations, story(outcome)
    assert not outcome.unheld, story(outcome)
    assert max(seconds) < 120, f"{seconds} s until each identity has a node again; wanted less than 120"
    said = reported[0] - ({None} if edit in PLAUSIBLE.values() else set())
    assert all(each and len(each) < 500 for each in said), f"{said}: somebody should find out who did it"
    assert reported[1:] == [{None}, {None}], "the record is whole from then on"


def test_a_high_epoch_that_an_earlier_version_believed_is_reported_no_more() -> None:
    async def trouble(world: World) -> None:
        for name in world.names:
            world.blobs[name] = Blob(claims(10**15))
            world.stored[name].roles[10**15] = "earlier"
            world.stored[name].folders[10**15], world.stored[name].notes[10**15] = [], {}
        await asyncio.sleep(60)
        assert {ledger.epoch for vm in world.machines for ledger in vm.running} == {10**15 + 1}
        assert {vm.status.lease for vm in world.machines} == {None}, "nothing is wrong any more"

    outcome = play(1, trouble=trouble)
    assert not outcome.violations, story(outcome)
    assert not outcome.unheld, story(outcome)


class Size(TypedDict):
    machines: int
    names: tuple[str, ...]


LARGE: Size = {"machines": 15, "names": tuple(f"node-{number}" for number in range(1, 15))}
"""VMs and identities of size `large`."""


def test_a_large_bank_asks_its_storage_twice_a_second_at_most() -> None:
    rates = dict[str, float]()

    async def count(world: World) -> None:
        world.peers = set(PEERS)
        await asyncio.sleep(90)
        world.requests.clear()
        await asyncio.sleep(120)
        rates.update({service: times / 120 for service, times in world.requests.items()})

    outcome = play(1, trouble=count, **LARGE)
    assert not outcome.violations, story(outcome)
    asked, renewed = rates["store"] + rates["documents"], rates["renewals"]
    platform = len(LARGE["names"]) / NodeIntervals().stale
    print(f"{asked:.2f} requests a second, {platform:.2f} of the platform, {renewed:.2f} renewals of leases")
    assert rates["documents"] < 1.2 * 15 / STANDBY.documents_seconds, (
        "one list operation a refresh, and no read of an unchanged document"
    )
    assert 0.5 < asked < 2 - platform, (
        f"{asked:.2f} requests a second of 15 VMs; wanted 2 at most, with the platform's own"
    )
    most = len(LARGE["names"]) / LEASE.renew_seconds + 15 / STANDBY.presence_seconds
    assert renewed < 1.1 * most, f"{renewed:.2f} renewals a second; wanted each lease renewed when it is due"


def test_standbys_that_look_in_turns_take_over_in_time() -> None:
    five: Size = {"machines": 5, "names": LARGE["names"][:3]}
    waits = [wait for seed in range(3) for wait in play(seed, trouble=power_loss, **five).takeovers]
    print(f"taken over {min(waits):.2f} to {max(waits):.2f} s after the lease lapsed")
    assert len(waits) == 3
    assert max(waits) < 4, f"{max(waits):.1f} s after the lease lapsed, with two standbys that look in turns"


def test_announced_standbys_that_do_not_exist_delay_no_takeover_for_long() -> None:
    async def crowd(world: World) -> None:
        world.present |= {(f"ghost-{number}", True): float("inf") for number in range(100_000)}
        await asyncio.sleep(2 * STANDBY.count_seconds)
        await power_loss(world)

    waits = play(1, trouble=crowd).takeovers
    assert len(waits) == 1
    assert waits[0] < STANDBY.longest_poll_seconds + 1, "each VM may write to the container that announces them"


def test_a_denied_renewal_stops_the_node_in_time_although_the_database_answers() -> None:
    async def trouble(world: World) -> None:
        await asyncio.sleep(60)
        world.services["store"].down = "denies"
        await asyncio.sleep(LEASE.kill_seconds)
        assert not any(vm.running for vm in world.machines), "no proof replaces a denied renewal"

    outcome = play(1, trouble=trouble)
    assert not outcome.violations, story(outcome)
    assert not outcome.happened["proven"], "no proof is attempted"


@pytest.mark.parametrize(
    ("left", "drains"),
    [
        (None, [SHORT_DRAIN_SECONDS]),
        (PLANNED_STOP.end_seconds + 10, [10]),
        (PLANNED_STOP.end_seconds + 10 * SHORT_DRAIN_SECONDS, [SHORT_DRAIN_SECONDS]),
        (PLANNED_STOP.end_seconds - 1, []),
    ],
)
def test_a_drain_leaves_time_to_stop_and_release(
    monkeypatch: pytest.MonkeyPatch, left: float | None, drains: list[float]
) -> None:
    drained = list[float]()

    async def drain(self: SimulatedSoftware, place: Place, seconds: float) -> None:
        drained.append(seconds)

    async def trouble(world: World) -> None:
        await asyncio.sleep(60)
        holder = next(vm for vm in world.machines if vm.running)
        assert holder.agent
        holder.agent.stop("Preempt of the VM", left)

    monkeypatch.setattr(SimulatedSoftware, "drain", drain)
    outcome = play(1, trouble=trouble)
    assert not outcome.violations, story(outcome)
    assert drained == drains, "the VM ends at the event's time, and with it a lease that is not released"


@pytest.mark.parametrize("lost", [False, True])
def test_a_node_stops_in_the_time_that_its_lease_leaves_and_a_lost_one_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, lost: bool
) -> None:
    seconds, released = list[float](), list[str]()
    processes, stop, release = SimulatedSoftware.processes, Ledger.stop, SimulatedStore.release

    def slow(self: SimulatedSoftware, place: Place) -> list[Process]:
        return [replace(each, stop_seconds=60) for each in processes(self, place)]

    async def stopped(self: Ledger, within: float) -> None:
        seconds.append(within)
        await stop(self, within)

    async def let_go(self: SimulatedStore, identity: str, lease_id: str) -> None:
        released.append(identity)
        await release(self, identity, lease_id)

    async def trouble(world: World) -> None:
        await asyncio.sleep(60)
        holder = next(vm for vm in world.machines if vm.running)
        if lost:
            world.break_lease(holder.running[0].identity)
        else:
            holder.cut_off.update(dict.fromkeys(("store", "database"), "hangs"))
        await asyncio.sleep(LEASE.lease_seconds)

    monkeypatch.setattr(SimulatedSoftware, "processes", slow)
    monkeypatch.setattr(Ledger, "stop", stopped)
    monkeypatch.setattr(SimulatedStore, "release", let_go)
    outcome = play(1, trouble=trouble)
    assert not outcome.violations, story(outcome)
    (limit,) = seconds
    assert limit <= (0 if lost else LEASE.kill_seconds - LEASE.stop_seconds), "then another VM may start a node"
    assert bool(released) is not lost, "a lost lease and its record are the next holder's"


def test_a_vm_that_lacks_a_prerequisite_withdraws_at_once() -> None:
    async def trouble(world: World) -> None:
        await asyncio.sleep(60)
        (standby,) = [vm for vm in world.machines if not vm.running]
        assert (standby.name, True) in world.present
        standby.add_fault("share", "refuses")
        while not standby.status.lacks:
            await asyncio.sleep(0.1)
        await asyncio.sleep(STANDBY.recheck_seconds)
        assert (standby.name, True) not in world.present, (
            "a holder would give its identity up to a VM that can't run it"
        )

    outcome = play(1, trouble=trouble)
    assert not outcome.violations, story(outcome)


def test_a_start_that_only_a_person_can_repair_is_tried_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    starts = list[float]()

    async def fails(self: SimulatedSoftware, place: Place) -> None:
        starts.append(asyncio.get_running_loop().time())
        raise DamagedError("a person must look")

    monkeypatch.setattr(SimulatedSoftware, "prepare", fails)
    outcome = play(1, trouble=nothing, names=("node-1",))
    assert not outcome.violations, story(outcome)
    assert starts[1] - starts[0] >= agent.DAMAGE_SECONDS / 2, "each try fences, reads the keys and writes to the log"


def test_a_node_that_ends_during_an_outage_of_the_store_is_not_restarted() -> None:
    async def trouble(world: World) -> None:
        await asyncio.sleep(60)
        world.services["store"].down = "refuses"
        await asyncio.sleep(120)
        before = dict(world.takings)
        for vm in world.machines:
            for ledger in list(vm.running):
                ledger.crash(RESTART_STATUS)
        await asyncio.sleep(600)
        assert world.takings == before, "only the lease store decides who may start a node"

    outcome = play(1, trouble=trouble)
    assert not outcome.violations, story(outcome)
    assert not outcome.unheld, "the node starts once the store answers"


def test_a_platform_without_a_database_stops_its_nodes_at_the_deadline() -> None:
    async def prove() -> None:
        resources: Any = SimpleNamespace(database=None)
        lease: Any = SimpleNamespace(fault=None)
        identity: Any = SimpleNamespace(name="node-1")
        running = node.Node(resources, identity, lease, Status("vm-1"), random.Random())
        running._running, running._place, running._folder = [Mock()], Mock(), Mock()
        await running.prove()

    with pytest.raises(UnavailableError, match="node-1: no running node with a database"):
        asyncio.run(prove())


@pytest.mark.parametrize(("still_runs", "meaning"), [(True, SupersededError), (False, UnavailableError)])
def test_a_proof_that_fails_by_the_vms_own_restart_is_no_refusal(still_runs: bool, meaning: type[Exception]) -> None:
    async def story() -> None:
        class Refusing:
            async def prove(self, *_: object) -> None:
                if not still_runs:
                    running._running = []
                raise SupersededError("the session was ended")

        resources: Any = SimpleNamespace(database=Refusing())
        lease: Any = SimpleNamespace(fault=None)
        identity: Any = SimpleNamespace(name="node-1")
        running = node.Node(resources, identity, lease, Status("vm-1"), random.Random())
        running._running, running._place, running._folder = [Mock()], Mock(), Mock()
        with pytest.raises(meaning):
            await running.prove()

    asyncio.run(story())


def test_a_proof_asks_the_share_too() -> None:
    def fenced() -> None:
        raise SupersededError("the folder of a newer epoch")

    async def proven(*_: object) -> None: ...

    async def prove() -> None:
        resources: Any = SimpleNamespace(database=SimpleNamespace(prove=proven))
        lease: Any = SimpleNamespace(fault=None)
        identity: Any = SimpleNamespace(name="node-1")
        running = node.Node(resources, identity, lease, Status("vm-1"), random.Random())
        running._running, running._place, running._folder = [Mock()], Mock(), Mock(prove=fenced)
        await running.prove()

    with pytest.raises(SupersededError, match="the folder of a newer epoch"):
        asyncio.run(prove())


def test_an_identity_that_fills_the_share_is_stopped_and_the_others_go_on() -> None:
    async def fill(world: World) -> None:
        await asyncio.sleep(60)
        world.over_quota["node-1"] = "share: node-1 takes 70 MiB of 100"
        await asyncio.sleep(2 * STANDBY.check_seconds)
        assert {each.identity for vm in world.machines for each in vm.running} == {"node-2"}, (
            "the other identity has its own part of the share"
        )
        (holder,) = [vm for vm in world.machines if vm.status.identity == "node-1"]
        assert holder.status.reason == world.over_quota["node-1"], "the reason says how much room is wanted"
        await asyncio.sleep(STANDBY.give_up_seconds + 120)
        assert holder.status.identity == "node-1", "another VM would not help"
        world.over_quota.clear()

    outcome = play(1, trouble=fill)
    assert not outcome.violations, story(outcome)
    assert not outcome.unheld, "a larger share lets it run again"


def test_a_copy_of_a_large_folder_ends() -> None:
    async def copy(world: World) -> None:
        await asyncio.sleep(60)
        world.copy_seconds = 2 * (STANDBY.give_up_seconds + STANDBY.confirm_seconds)
        (holder,) = [vm for vm in world.machines if vm.status.identity == "node-1"]
        holder.end("loses power", restart=60)
        at, runs = world.loop.time(), world.stored["node-1"].runs
        while world.stored["node-1"].runs == runs:
            await asyncio.sleep(1)
            assert world.loop.time() < at + world.copy_seconds + HELD_AGAIN_SECONDS, "each next VM copies it anew"
        world.copy_seconds = 0.0

    outcome = play(3, trouble=copy, names=("node-1",), machines=2)
    assert not outcome.violations, story(outcome)
    assert not outcome.unheld, story(outcome)


def test_a_failed_measurement_of_the_share_ends_no_node(caplog: pytest.LogCaptureFixture) -> None:
    async def odd(world: World) -> None:
        await asyncio.sleep(60)
        before = {name: world.stored[name].runs for name in world.names}
        world.over_quota = Mock(get=Mock(side_effect=KeyError("odd")))
        await asyncio.sleep(3 * STANDBY.check_seconds)
        assert {name: world.stored[name].runs for name in world.names} == before, "each node keeps running"
        world.over_quota = {"node-1": "share: node-1 takes 70 MiB of 100"}
        await asyncio.sleep(2 * STANDBY.check_seconds)
        assert {each.identity for vm in world.machines for each in vm.running} == {"node-2"}, (
            "its folder is still measured"
        )
        world.over_quota.clear()

    outcome = play(1, trouble=odd)
    assert not outcome.violations, story(outcome)
    assert "can't check its folder: unexpected KeyError" in caplog.text, "a fault is always reported"


@pytest.mark.parametrize("later", [DamagedError("a person must look"), WaitingError("not certified")])
def test_the_end_of_an_outage_causes_no_takeover(monkeypatch: pytest.MonkeyPatch, later: Exception) -> None:
    """The reason of a failed start is reported until a later start gets further."""
    starts, prepare = Counter[str](), SimulatedSoftware.prepare

    async def fails(self: SimulatedSoftware, place: Place) -> None:
        name = place.identity.name
        starts[name] += 1
        if name == "node-1":
            raise later if starts[name] > 1 else UnavailableError("the database is away")
        await prepare(self, place)

    async def waits(world: World) -> None:
        await asyncio.sleep(STANDBY.give_up_seconds + 300)
        assert not any(vm.status.lacks for vm in world.machines), "the reason is withdrawn once it is over"

    monkeypatch.setattr(SimulatedSoftware, "prepare", fails)
    outcome = play(1, trouble=waits)
    assert starts["node-1"] > 3
    assert outcome.taken_by["node-1"] == 1, f"another VM would not help\n{story(outcome)}"


@pytest.mark.parametrize(("drift", "harmless"), [(simulation.DRIFT, True), (0.6, False)])
def test_the_deadlines_tolerate_a_drifting_clock(
    monkeypatch: pytest.MonkeyPatch, drift: float, harmless: bool
) -> None:
    monkeypatch.setattr(simulation, "DRIFT", drift)

    async def alone(world: World) -> None:
        await asyncio.sleep(60)
        holder = next(vm for vm in world.machines if vm.running)
        holder.add_fault("clock", "60 s off")
        holder.cut_off.update(dict.fromkeys(("store", "database"), "hangs"))

    outcomes = [play(seed, trouble=alone) for seed in range(6)]
    assert any(each.violations for each in outcomes) is not harmless, "\n".join(map(story, outcomes))


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (WaitingError("request 1 waits", Cause.APPROVAL), Cause.APPROVAL),
        (WaitingError("the authority does not answer"), Cause.AUTHORITY),
        (UnavailableError("the database does not answer"), Cause.NODE),
        (DamagedError("a person must look"), Cause.NODE),
        (KeyError("what"), Cause.FAULT),
    ],
    ids=lambda given: given if isinstance(given, Cause) else type(given).__name__,
)
def test_a_holder_reports_why_it_is_impaired(monkeypatch: pytest.MonkeyPatch, error: Exception, cause: Cause) -> None:
    async def fails(self: SimulatedSoftware, place: object) -> None:
        # Otherwise the traceback of the one error grows with each failure.
        raise error.with_traceback(None)

    reported, later = list[set[Cause]](), list[set[Cause]]()

    async def look(world: World) -> None:
        await asyncio.sleep(120)
        holders = [vm.status for vm in world.machines if vm.status.identity]
        reported.extend({cause for cause, _ in each.causes()} for each in holders)
        monkeypatch.setattr(faults, "recent", lambda: False)
        later.extend({cause for cause, _ in each.causes()} for each in holders)
        # Each further failure would print its traceback.
        monkeypatch.undo()

    # The count is global: another test may have counted faults.
    monkeypatch.setattr(faults, "_faults", faults._Faults())
    monkeypatch.setattr(SimulatedSoftware, "prepare", fails)
    outcome = play(1, trouble=look)
    assert not outcome.violations, story(outcome)
    also = {Cause.NODE} if cause is Cause.FAULT else set()
    assert reported == [{cause} | also] * len(reported), (
        "an operator is not paged for an approval that another member owes"
    )
    assert later == [also or {cause}] * len(reported), "a fault is reported as long as it is recent"
    assert len(reported) == 2, "each holder reports it"
