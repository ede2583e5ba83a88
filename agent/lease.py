"""An identity's lease and record: who may act as the identity, until when, and in which epoch."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Annotated, Protocol
from uuid import uuid4

from pydantic import Field, ValidationError

from contract.models import FIRST_FAULT_ONLY, StrictModel, first_fault
from contract.timing import FAILSAFE, LEASE, LeaseTiming
from host.clock import Clock
from host.errors import DamagedError, ResourceError, UnavailableError
from host.faults import reason_of

_HISTORY = 100
_WHY_CHARACTERS = 1000
"""Most characters of a reason: some quote what others wrote."""
MAX_RECORD_BYTES = 1024 * 1024
"""Fifty times the size of a record with a full history."""
MAX_EPOCH = 10**6
"""A record's epoch above it does not count: database and share say it, as if the record were lost."""

log = logging.getLogger(__name__)


class LeaseRefusedError(ResourceError):
    """The store decided: another VM holds the lease, or this VM no longer does."""


Epoch = Annotated[int, Field(ge=0, strict=True)]


class LeaseDeniedError(UnavailableError):
    """The store answered and denied the request; another VM may be allowed. It rules the failsafe out."""


class Tenure(StrictModel):
    """One VM's term as holder of an identity. Times are UTC in ISO 8601."""

    epoch: Epoch
    vm: Annotated[str, Field(pattern=r"^[ -~]{1,255}$")]
    since: str
    until: str | None = None
    """When the VM released the identity; None if it did not say so."""
    why: str | None = None


class IdentityRecord(StrictModel):
    """The JSON in an identity's blob: the only record of who held the identity when, and in which epoch."""

    epoch: Epoch = 0
    keys: Annotated[str, Field(pattern=r"^[0-9a-f]{1,64}$")] | None = None
    """SHA-256 of the identity's key document in the vault; None before there is any."""
    history: Annotated[tuple[Tenure, ...], FIRST_FAULT_ONLY, Field(max_length=_HISTORY)] = ()
    """The last 100 tenures, oldest first."""

    def acquired(self, vm: str, at: str, above: int = 0) -> "IdentityRecord":
        """The record with a new holder, whose epoch is one above both the record's, if that counts, and `above`."""
        known = self.epoch if self.epoch <= MAX_EPOCH else 0
        tenure = Tenure(epoch=max(known, above) + 1, vm=vm, since=at)
        return self.model_copy(update={"epoch": tenure.epoch, "history": (*self.history, tenure)[-_HISTORY:]})

    def released(self, at: str, why: str) -> "IdentityRecord":
        """The record after its holder released the identity and said why."""
        *before, last = self.history
        last = last.model_copy(update={"until": at, "why": why[:_WHY_CHARACTERS]})
        return self.model_copy(update={"history": (*before, last)})

    def to_json(self) -> bytes:
        """The content of the blob: indented JSON."""
        return self.model_dump_json(by_alias=True, indent=1).encode()

    @staticmethod
    def from_json(identity: str, content: bytes) -> "IdentityRecord":
        """The record in a blob.

        Raises:
            DamagedError: the content is no record, or longer than `MAX_RECORD_BYTES`.
        """
        if len(content) > MAX_RECORD_BYTES:
            raise DamagedError(
                f"blob {identity}: over {MAX_RECORD_BYTES} bytes; wanted the record that an agent wrote"
            )
        try:
            return IdentityRecord.model_validate_json(content)
        except ValidationError as error:
            raise DamagedError(
                f"blob {identity}: {first_fault(error)}; wanted the record that an agent wrote"
            ) from error


class LeaseStore(Protocol):
    """The store of the identities' leases. Each call has done what it says when it returns.

    A call may raise `UnavailableError` (no answer: the request may take effect), `LeaseDeniedError` or
    `LeaseRefusedError`.
    """

    async def prepare(self, identity: str, content: bytes) -> None:
        """Create the identity's blob unless it exists."""

    async def leased(self) -> Mapping[str, bool]:
        """Whether each identity is leased, by name; identities without a blob are absent."""

    async def acquire(self, identity: str, lease_id: str) -> None:
        """Acquire the lease for `LEASE.lease_seconds`."""

    async def renew(self, identity: str, lease_id: str) -> None:
        """Renew the lease for `LEASE.lease_seconds` from now."""

    async def release(self, identity: str, lease_id: str) -> None:
        """Release the lease."""

    async def read(self, identity: str) -> tuple[bytes, str]:
        """The blob's content, of which at most one byte more than `MAX_RECORD_BYTES` is read, and its ETag."""

    async def write(self, identity: str, content: bytes, lease_id: str, etag: str) -> str:
        """Replace the blob's content if its ETag is `etag` and the lease is held; returns the new ETag."""


class Lease:
    """One VM's lease on one identity, during one epoch. Moments are seconds of `now`."""

    def __init__(  # noqa: PLR0917
        self,
        store: LeaseStore,
        clock: Clock,
        identity: str,
        vm: str,
        lease_id: str,
        sent: float,
        timing: LeaseTiming = LEASE,
    ) -> None:
        self.identity, self.vm, self._timing = identity, vm, timing
        self.holder = str(uuid4())
        """Names this lease in database and share; with the lease id a reader could release it."""
        self.fault: str | None = None
        """The record's fault when the lease was acquired, if any."""
        self.lost = False
        """Whether the store refused a renewal, or database or share know another holder."""
        self.in_doubt = asyncio.Event()
        """Set while renewals get no answer; a success or a denial clears it."""
        self._denied = False
        self._proven: float | None = None
        """When the last proof in place of a renewal was sent."""
        self._store, self._clock, self._id, self._sent = store, clock, lease_id, sent
        self._record, self._etag = IdentityRecord(), ""

    @staticmethod
    async def acquire(
        store: LeaseStore, clock: Clock, identity: str, vm: str, timing: LeaseTiming = LEASE
    ) -> "Lease":
        """Acquire the lease of a free identity, and raise its epoch.

        Raises:
            LeaseRefusedError: another VM was faster.
            UnavailableError: the store did not answer in time.
        """
        lease = Lease(store, clock, identity, vm, str(uuid4()), clock.now(), timing)
        try:
            async with asyncio.timeout(timing.request_seconds):
                await store.acquire(identity, lease._id)
            async with asyncio.timeout(timing.request_seconds):
                content, lease._etag = await store.read(identity)
                try:
                    record = IdentityRecord.from_json(identity, content)
                except DamagedError as error:
                    # Treated as lost: database and share know the epoch.
                    record, lease.fault = IdentityRecord(), str(error)
                await lease._write(record.acquired(vm, lease._at()))
        except BaseException as error:
            # The lease may be ours although the answer was lost: nobody should wait until it lapses.
            if not isinstance(error, LeaseRefusedError):
                await lease._let_go()
            if isinstance(error, TimeoutError):
                raise UnavailableError(
                    f"{identity}: no answer from the lease store within {timing.request_seconds:g} s"
                ) from error
            raise
        return lease

    @property
    def epoch(self) -> int:
        """The fencing token, raised each time that the lease is acquired: the rightful holder has the highest."""
        return self._record.epoch

    @property
    def keys(self) -> str | None:
        """Fingerprint of the identity's keys, as in the record; None before there are any."""
        return self._record.keys

    @property
    def previous(self) -> Tenure | None:
        """The tenure before this one; None if the record has none."""
        return self._record.history[-2] if len(self._record.history) > 1 else None

    @property
    def first(self) -> bool:
        """Whether the record has no earlier tenure."""
        return len(self._record.history) == 1

    @property
    def fresh(self) -> bool:
        """Whether a node may start: the last renewal is recent enough. Proofs do not count."""
        return not self.lost and self._clock.now() < self._sent + self._timing.stop_seconds

    @property
    def alive(self) -> bool:
        """Whether a running node may go on, by its last renewal or proof."""
        return not self.lost and self._clock.now() < self._stops

    @property
    def seconds_unanswered(self) -> float | None:
        """Seconds since the last renewal that succeeded, while the store does not answer; else None."""
        return self._clock.now() - self._sent if self.in_doubt.is_set() else None

    def note_proof(self, moment: float) -> None:
        """Note that database and share, asked at `moment`, knew no other holder."""
        # A late proof does not revive an expired lease.
        if self.alive and self.in_doubt.is_set():
            self._proven = moment

    @property
    def _stops(self) -> float:
        """When the node must begin to stop."""
        renewed = self._sent + self._timing.stop_seconds
        return renewed if self._proven is None else max(renewed, self._proven + FAILSAFE.stop_seconds)

    def utc(self) -> datetime:
        """The time of day in UTC."""
        return self._clock.utc()

    def now(self) -> float:
        """Seconds of the clock by which the lease is timed."""
        return self._clock.now()

    def renewed_after(self, moment: float) -> bool:
        """Whether a renewal sent after `moment` succeeded: then no other VM held the identity at `moment`."""
        return self.fresh and self._sent > moment

    @property
    def seconds_to_kill(self) -> float:
        """Seconds until the node's processes must have ended; 0 if the lease is lost."""
        ends = self._sent + self._timing.kill_seconds
        if self._proven is not None:
            ends = max(ends, self._proven + FAILSAFE.kill_seconds)
        return 0.0 if self.lost else max(0.0, ends - self._clock.now())

    async def keep(self, renewed: Callable[[float], None]) -> str:
        """Renew the lease for as long as possible; returns why the node must stop now. Never raises.

        Args:
            renewed: called after each renewal with the seconds that it took.
        """
        wait = self._timing.renew_seconds - (self._clock.now() - self._sent)
        while True:
            await asyncio.sleep(max(0.0, wait))
            sent = self._clock.now()
            left = self._stops - sent
            if left <= 0:
                return f"the lease could not be renewed for {sent - self._sent:.0f} s"
            try:
                async with asyncio.timeout(min(self._timing.request_seconds, left)):
                    await self._store.renew(self.identity, self._id)
            except LeaseRefusedError as error:
                self.lost = True
                return f"the lease is lost: {error}"
            except Exception as error:
                # While the lease is fresh the next try may succeed.
                log.warning("%s: not renewed: %s", self.identity, reason_of("the renewal of a lease", error))
                self._doubt(denied=isinstance(error, LeaseDeniedError))
                wait = min(self._timing.retry_seconds, self._stops - self._clock.now())
            else:
                self._sent, took = sent, self._clock.now() - sent
                self._denied, self._proven = False, None
                self.in_doubt.clear()
                renewed(took)
                wait = self._timing.renew_seconds - took

    def _doubt(self, *, denied: bool) -> None:
        if denied or self._denied:
            self._denied, self._proven = True, None
            self.in_doubt.clear()
        else:
            self.in_doubt.set()

    async def write_fingerprint(self, fingerprint: str) -> None:
        """Write the fingerprint of the identity's keys to its record.

        Raises:
            LeaseRefusedError: the identity is no longer ours.
            UnavailableError: the store did not answer in time.
        """
        await self._write_in_time(self._record.model_copy(update={"keys": fingerprint}))

    async def raise_epoch(self, newer: int, why: str) -> None:
        """Raise the epoch above `newer`, which a resource knows: the record was lost, restored or edited.

        Only the rightful holder can: the store accepts the write only with the lease.

        Raises:
            LeaseRefusedError: the lease is no longer ours; the newer epoch is the rightful holder's.
            UnavailableError: the store did not answer in time.
        """
        at = self._at()
        await self._write_in_time(self._record.released(at, why).acquired(self.vm, at, above=newer))

    async def _write_in_time(self, record: IdentityRecord) -> None:
        try:
            async with asyncio.timeout(self._timing.request_seconds):
                await self._write(record)
        except TimeoutError as error:
            raise UnavailableError(
                f"{self.identity}: its record was not written in {self._timing.request_seconds:g} s"
            ) from error

    async def release(self, why: str) -> None:
        """Write the reason and release the lease. If the store does not answer, the lease lapses. Never raises."""
        try:
            async with asyncio.timeout(self._timing.request_seconds):
                await self._write(self._record.released(self._at(), why))
        except Exception as error:
            log.info(
                "%s: not written why it is released: %s", self.identity, reason_of("the release of a lease", error)
            )
        await self._let_go()

    async def _write(self, record: IdentityRecord) -> None:
        self._etag = await self._store.write(self.identity, record.to_json(), self._id, self._etag)
        self._record = record

    async def _let_go(self) -> None:
        try:
            async with asyncio.timeout(self._timing.request_seconds):
                await self._store.release(self.identity, self._id)
        except Exception as error:
            log.info(
                "%s: not released, so its lease lapses: %s", self.identity, reason_of("the release of a lease", error)
            )

    def _at(self) -> str:
        return self._clock.utc().isoformat(timespec="milliseconds")
