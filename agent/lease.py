"""Which identity a VM may act as, and until when: a lease on the identity's blob, and the epoch written in it."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Protocol
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from agent.clock import Clock
from agent.fence import DamagedError, UnavailableError

LEASE_SECONDS = 30
"""What Azure gives: 15 to 60 s, learn.microsoft.com/rest/api/storageservices/lease-blob."""
RENEW_SECONDS = 8
RETRY_SECONDS = 1
REQUEST_SECONDS = 5
STOP_SECONDS = 20
"""The node begins to stop so long after the last renewal that succeeded was *sent*."""
KILL_SECONDS = 26
"""Nothing of the node runs any more so long after it: the lease has not lapsed yet."""
WATCHDOG_SECONDS = 6
"""A hung agent is killed with its node so long after its last sign, given at `STOP_SECONDS` at the latest."""

_HISTORY = 100


class RefusedError(Exception):
    """The store has decided: another VM holds the identity, or it is no longer ours."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)


class Tenure(_Model):
    """One VM's time as an identity."""

    epoch: int
    vm: str
    since: str
    until: str | None = None
    """When it gave the identity back; None where it never said so."""
    why: str | None = None


class Record(_Model):
    """What an identity's blob holds: the one record of who was this identity when."""

    epoch: int = 0
    keys: str | None = None
    """Fingerprint of the identity's keys in the vault; None before there are any."""
    history: tuple[Tenure, ...] = ()
    """The last tenures, oldest first."""

    def taken(self, vm: str, at: str) -> "Record":
        """The record in the hands of a new holder."""
        tenure = Tenure(epoch=self.epoch + 1, vm=vm, since=at)
        return self.model_copy(update={"epoch": tenure.epoch, "history": (*self.history, tenure)[-_HISTORY:]})

    def given_back(self, at: str, why: str) -> "Record":
        """The record after its holder said why it gives the identity back."""
        *before, last = self.history
        return self.model_copy(update={"history": (*before, last.model_copy(update={"until": at, "why": why}))})

    def to_json(self) -> bytes:
        """The content of the blob."""
        return self.model_dump_json(by_alias=True, indent=1).encode()

    @staticmethod
    def from_json(identity: str, content: bytes) -> "Record":
        """The record in a blob.

        Raises:
            DamagedError: it holds something else.
        """
        try:
            return Record.model_validate_json(content)
        except ValidationError as error:
            raise DamagedError(
                f"blob {identity}: {error.errors()[0]['msg']}; wanted the record that an agent wrote: "
                "restore it by hand, with an epoch no lower than any before"
            ) from error


class LeaseStore(Protocol):
    """Where identities are leased. Each call either did what it says, or raises.

    A call may raise `UnavailableError` (no answer: it may have happened, or happen later) or `RefusedError`.
    """

    async def prepare(self, identity: str, content: bytes) -> None:
        """Make the identity's blob, unless it is there."""

    async def free(self) -> Sequence[str]:
        """The identities that nobody holds."""

    async def acquire(self, identity: str, lease_id: str) -> None:
        """Take the lease, for `LEASE_SECONDS`."""

    async def renew(self, identity: str, lease_id: str) -> None:
        """Hold it for `LEASE_SECONDS` from now."""

    async def release(self, identity: str, lease_id: str) -> None:
        """Give it back."""

    async def read(self, identity: str) -> tuple[bytes, str]:
        """The blob's content and its ETag."""

    async def write(self, identity: str, content: bytes, lease_id: str, etag: str) -> str:
        """Change the blob, if it is still that of the ETag and the lease is still held; its new ETag."""


class Lease:
    """One VM's hold on one identity, during one epoch."""

    def __init__(self, store: LeaseStore, clock: Clock, identity: str, lease_id: str, sent: float) -> None:
        self.identity = identity
        self.lost = False
        """The store said that it is no longer ours."""
        self._store, self._clock, self._id, self._sent = store, clock, lease_id, sent
        self._record, self._etag = Record(), ""

    @staticmethod
    async def take(store: LeaseStore, clock: Clock, identity: str, vm: str) -> "Lease":
        """Take a free identity, and raise its epoch.

        Raises:
            RefusedError: another VM was faster.
            UnavailableError: the store did not answer in time.
            DamagedError: the blob holds no record.
        """
        lease = Lease(store, clock, identity, str(uuid4()), clock.now())
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                await store.acquire(identity, lease._id)
            async with asyncio.timeout(REQUEST_SECONDS):
                content, lease._etag = await store.read(identity)
                await lease._write(Record.from_json(identity, content).taken(vm, lease._at()))
        except BaseException as error:
            # The answer may be lost and the lease ours all the same: nobody should wait for it to lapse.
            if not isinstance(error, RefusedError):
                await lease._let_go()
            if isinstance(error, TimeoutError):
                raise UnavailableError(
                    f"{identity}: no answer from the lease store within {REQUEST_SECONDS} s"
                ) from error
            raise
        return lease

    @property
    def epoch(self) -> int:
        """Counts the takings of this identity; whoever has a higher one is its rightful holder."""
        return self._record.epoch

    @property
    def keys(self) -> str | None:
        """Fingerprint of the identity's keys, as the record remembers it."""
        return self._record.keys

    @property
    def previous(self) -> Tenure | None:
        """Who held the identity before."""
        return self._record.history[-2] if len(self._record.history) > 1 else None

    @property
    def fresh(self) -> bool:
        """Whether the node may run."""
        return not self.lost and self._clock.now() < self._sent + STOP_SECONDS

    def now(self) -> float:
        """By the clock that it is reckoned with."""
        return self._clock.now()

    def held_after(self, moment: float) -> bool:
        """Whether a renewal sent after a moment of `now` succeeded: then nobody had taken the identity before it."""
        return self.fresh and self._sent > moment

    @property
    def seconds_to_kill(self) -> float:
        """How long processes of the node may still take to end."""
        return 0.0 if self.lost else max(0.0, self._sent + KILL_SECONDS - self._clock.now())

    async def keep(self, renewed: Callable[[float], None]) -> str:
        """Renew the lease for as long as that can be; returns why the node must stop now.

        Args:
            renewed: told of each renewal, and the seconds that it took.
        """
        wait = RENEW_SECONDS - (self._clock.now() - self._sent)
        while True:
            await asyncio.sleep(max(0.0, wait))
            sent = self._clock.now()
            left = self._sent + STOP_SECONDS - sent
            if left <= 0:
                return f"the lease could not be renewed for {STOP_SECONDS} s"
            try:
                async with asyncio.timeout(min(REQUEST_SECONDS, left)):
                    await self._store.renew(self.identity, self._id)
            except RefusedError as error:
                self.lost = True
                return f"the lease is lost: {error}"
            except (UnavailableError, TimeoutError):
                wait = min(RETRY_SECONDS, self._sent + STOP_SECONDS - self._clock.now())
            else:
                self._sent, took = sent, self._clock.now() - sent
                renewed(took)
                wait = RENEW_SECONDS - took

    async def remember_keys(self, fingerprint: str) -> None:
        """Write the fingerprint of the identity's keys into its record.

        Raises:
            RefusedError: the identity is no longer ours.
            UnavailableError: the store did not answer in time.
        """
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                await self._write(self._record.model_copy(update={"keys": fingerprint}))
        except TimeoutError as error:
            raise UnavailableError(f"{self.identity}: its record was not written in {REQUEST_SECONDS} s") from error

    async def release(self, why: str) -> None:
        """Say why, and give the identity back. Where the store does not answer, the lease lapses."""
        with contextlib.suppress(RefusedError, UnavailableError, TimeoutError):
            async with asyncio.timeout(REQUEST_SECONDS):
                await self._write(self._record.given_back(self._at(), why))
        await self._let_go()

    async def _write(self, record: Record) -> None:
        self._etag = await self._store.write(self.identity, record.to_json(), self._id, self._etag)
        self._record = record

    async def _let_go(self) -> None:
        with contextlib.suppress(RefusedError, UnavailableError, TimeoutError):
            async with asyncio.timeout(REQUEST_SECONDS):
                await self._store.release(self.identity, self._id)

    def _at(self) -> str:
        return self._clock.utc().isoformat(timespec="milliseconds")
