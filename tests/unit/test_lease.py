"""A lease whose store does not answer, or denies: what its holder may still do, and what it leaves behind."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from agent.lease import (
    MAX_RECORD_BYTES,
    IdentityRecord,
    Lease,
    LeaseDeniedError,
    LeaseRefusedError,
    LeaseStore,
)
from contract.timing import LEASE, LeaseTiming
from host.clock import Clock
from host.errors import DamagedError, UnavailableError
from lab.simulation import VirtualLoop

OUTAGE, DENIAL, REFUSAL = UnavailableError("no answer"), LeaseDeniedError("403"), LeaseRefusedError("held by another")


class Store(LeaseStore):
    """A store with one identity, whose requests answer or fail as the test says."""

    def __init__(self, *renewals: Exception | None, **fails: Exception) -> None:
        self.renewals, self.fails = list(renewals), fails
        self.content = IdentityRecord().to_json()
        self.ids, self.released = set[str](), list[str]()

    def _answer(self, request: str) -> None:
        if error := self.fails.get(request):
            raise error

    async def prepare(self, identity: str, content: bytes) -> None: ...

    async def leased(self) -> Mapping[str, bool]:
        return {}

    async def acquire(self, identity: str, lease_id: str) -> None:
        self.ids.add(lease_id)
        self._answer("acquire")

    async def renew(self, identity: str, lease_id: str) -> None:
        if not self.renewals:
            await asyncio.sleep(1e6)
        if error := self.renewals.pop(0):
            raise error

    async def release(self, identity: str, lease_id: str) -> None:
        self.released.append(lease_id)

    async def read(self, identity: str) -> tuple[bytes, str]:
        self._answer("read")
        return self.content, "1"

    async def write(self, identity: str, content: bytes, lease_id: str, etag: str) -> str:
        self._answer("write")
        self.content = content
        return "2"


@pytest.fixture
def loop() -> Any:
    made = VirtualLoop()
    yield made
    made.close()


def acquire(loop: VirtualLoop, store: Store, timing: LeaseTiming = LEASE) -> Lease:
    clock = Clock(now=loop.time, utc=lambda: datetime.now(UTC))
    return loop.run_until_complete(Lease.acquire(store, clock, "node-1", "vm-1", timing))


@pytest.mark.parametrize(
    ("answers", "in_doubt"),
    [
        ([OUTAGE], True),
        ([DENIAL], False),
        ([OUTAGE, DENIAL], False),
        ([DENIAL, OUTAGE], False),
        ([OUTAGE, None], False),
        ([DENIAL, None, OUTAGE], True),
    ],
)
def test_after_a_denial_no_proof_counts_until_a_renewal_succeeds(
    loop: VirtualLoop, answers: list[Exception | None], in_doubt: bool
) -> None:
    store = Store(*answers, REFUSAL)
    lease = acquire(loop, store)
    loop.run_until_complete(lease.keep(lambda _: None))
    assert lease.in_doubt.is_set() is in_doubt, "a store that denied may have given the lease to another VM"


def test_a_late_proof_revives_no_lease(loop: VirtualLoop) -> None:
    lease = acquire(loop, Store())
    lease.in_doubt.set()
    loop.run_until_complete(asyncio.sleep(LEASE.stop_seconds - 1))
    lease.note_proof(loop.time())
    loop.run_until_complete(asyncio.sleep(2))
    assert lease.alive, "a proof in time replaces the renewal"
    lease = acquire(loop, Store())
    lease.in_doubt.set()
    loop.run_until_complete(asyncio.sleep(LEASE.stop_seconds + 1))
    lease.note_proof(loop.time())
    assert not lease.alive, "the node has begun to stop, and another VM may hold the identity"


def test_a_renewal_without_an_answer_is_not_awaited_beyond_the_deadline(loop: VirtualLoop) -> None:
    timing = LeaseTiming(renew_seconds=6)
    lease = acquire(loop, Store(), timing)
    reason = loop.run_until_complete(lease.keep(lambda _: None))
    assert timing.stop_seconds <= loop.time() < timing.stop_seconds + 0.1, (
        "the second request, sent at 11 s, would end at 15 s, and the node would begin to stop too late"
    )
    assert reason == "the lease could not be renewed for 14 s"


@pytest.mark.parametrize(
    ("fails", "releases"),
    [({"acquire": OUTAGE}, 1), ({"read": OUTAGE}, 1), ({"write": OUTAGE}, 1), ({"acquire": REFUSAL}, 0)],
    ids=["acquire", "read", "write", "refused"],
)
def test_a_lease_that_may_be_ours_is_released_if_it_can_not_be_used(
    loop: VirtualLoop, fails: dict[str, Exception], releases: int
) -> None:
    store = Store(**fails)
    (error,) = fails.values()
    with pytest.raises(type(error)):
        acquire(loop, store)
    assert store.released == list(store.ids) * releases, "otherwise all VMs wait until it lapses; another's stays"


def test_the_holders_name_is_not_the_lease_id(loop: VirtualLoop) -> None:
    store = Store()
    lease = acquire(loop, store)
    assert lease.holder not in store.ids, "database and share show the name, and whoever knows the id may release"
    assert acquire(loop, store).holder != lease.holder, "it names one lease only"


def test_a_record_of_more_bytes_than_an_agent_writes_is_damaged() -> None:
    long = IdentityRecord().acquired("vm-1", "t0").released("t1", "x" * MAX_RECORD_BYTES)
    assert len(long.to_json()) < MAX_RECORD_BYTES, "a database's message could make the record unreadable"
    record = IdentityRecord().to_json()
    assert IdentityRecord.from_json("node-1", record.ljust(MAX_RECORD_BYTES)) == IdentityRecord()
    with pytest.raises(DamagedError, match=f"^blob node-1: over {MAX_RECORD_BYTES} bytes; wanted the record that"):
        IdentityRecord.from_json("node-1", record.ljust(MAX_RECORD_BYTES + 1))
