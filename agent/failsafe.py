"""Keeps a node running while only the lease store is unavailable, as long as database and share know no other holder.

It may be unavailable for this VM alone: then a standby acquires the identity when the lease lapses, and its fence
ends this node's sessions. So a proof asks the fence, never the clock, and a refusal is never overruled.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from agent.lease import Lease
from contract.timing import FAILSAFE
from host.errors import SupersededError
from host.faults import reason_of
from host.status import Status

log = logging.getLogger(__name__)


class Failsafe:
    """Proves that no other VM is the holder, from the first renewal without an answer until a renewal succeeds."""

    def __init__(self, lease: Lease, prove: Callable[[], Awaitable[None]], status: Status) -> None:
        """Args:
        lease: the identity's.
        prove: asks database and share; raises SupersededError if they know another holder.
        status: reports an outage of the store after `FAILSAFE.report_seconds`.
        """
        self._lease, self._prove, self._status = lease, prove, status
        self._reported = ""

    async def run(self) -> str:
        """Prove while the store is unavailable; returns why the node must stop now. Never raises."""
        lease = self._lease
        while True:
            self._report()
            await lease.in_doubt.wait()
            sent = lease.now()
            wait = FAILSAFE.retry_seconds
            try:
                async with asyncio.timeout(FAILSAFE.request_seconds):
                    await self._prove()
            except SupersededError as error:
                lease.lost = True
                return f"the lease store is unavailable, and there is another holder: {error}"
            except Exception as error:
                log.warning("%s: no proof: %s", lease.identity, reason_of("a proof of the fence", error, OSError))
            else:
                lease.note_proof(sent)
                wait = FAILSAFE.prove_seconds - (lease.now() - sent)
            self._report()
            await asyncio.sleep(wait)

    def _report(self) -> None:
        unanswered = self._lease.seconds_unanswered
        if unanswered is None:
            if self._reported:
                log.warning("%s: the lease store answers again", self._lease.identity)
                self._status.clear_lease_fault(self._reported)
                self._reported = ""
        elif unanswered >= FAILSAFE.report_seconds:
            self._status.clear_lease_fault(self._reported)
            self._reported = (
                f"the lease store has not answered for {unanswered:.0f} s; the node runs on by proofs of its fence"
            )
            self._status.lease = self._status.lease or self._reported
