"""Keeps one running node and its network in step: publishes its node information, admits and expels members."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import ValidationError

from agent.lease import Lease
from agent.resources import Folder, Note, PeerNetwork
from contract.legal_name import name_key
from contract.models import StrictModel, first_fault
from host.bank_documents import Document
from host.errors import DamagedError, SupersededError
from host.faults import reason_of
from host.status import Readiness, Status
from ledger.software import NetworkMember, Place, Software, SoftwareError, UntrustedError

ADMIT_SECONDS = 60
"""Time limit of each step with a member."""
UNTRUSTED_SECONDS = 300
"""Pause before a member that was not trusted is tried again."""

log = logging.getLogger(__name__)


class _Note(StrictModel):
    """The note in the identity's folder."""

    admitted: frozenset[str]

    def to_json(self) -> bytes:
        return json.dumps({"admitted": sorted(self.admitted)}).encode()


def parse_admitted(content: bytes) -> frozenset[str]:
    """Names of the members that a note in an identity's folder lists as admitted.

    Raises:
        DamagedError: the content is no such note.
    """
    try:
        return _Note.model_validate_json(content).admitted
    except ValidationError as error:
        raise DamagedError(
            f"the note of admitted members: {first_fault(error)}; wanted it as an agent wrote it"
        ) from error


class MemberReconciler:
    """Reconciles one node's view of its network, from one start of the node to its end.

    A member is noted in the identity's folder before it is admitted: a member that is dropped while no node runs is
    expelled at the next start, on any VM.
    """

    def __init__(
        self,
        *,
        software: Software,
        network: PeerNetwork,
        place: Place,
        folder: Folder,
        lease: Lease,
        status: Status,
        published: Document | None,
        prove: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Args:
        prove: asks the fence whether the node is still the holder; None if there is no fence.
        """
        self._software, self._network, self._place = software, network, place
        self._folder, self._lease, self._status = folder, lease, status
        self._now = asyncio.get_running_loop().time
        self._published, self._prove = published, prove
        self._read: float | None = None
        """When the published document was read again, in `Lease.now`; None if it was not."""
        self._admitted: dict[str, NetworkMember] = {}
        """Members as the running node knows them."""
        self._refused: dict[str, tuple[NetworkMember, float, str]] = {}
        """Refused members: (member, loop time of the next try, reason)."""
        self._noted: frozenset[str] | None = None

    async def keep_up(self, seconds: float) -> None:
        """Reconcile every `seconds` while the node is up, once it has been ready. Never returns nor raises."""
        # A start needs the processors that verifying takes.
        least = Readiness.READY
        while True:
            if self._status.readiness >= least:
                least = Readiness.UP
                self._status.members = await self._once()
            await asyncio.sleep(seconds)

    async def _once(self) -> dict[str, str]:
        """One round; returns the troubles by member's name. One member's trouble does not affect the others."""
        me, troubles = self._place.identity.name, dict[str, str]()
        if why := await self._done(self._publish()):
            troubles[me] = why
        try:
            async with asyncio.timeout(ADMIT_SECONDS):
                roster = await self._network.roster()
                noted = await self._admitted_members()
        except Exception as error:
            return troubles | {me: _reason(error)}
        troubles.update(roster.troubles)
        self._status.reached = roster.reached
        if why := await self._done(self._count_days()):
            troubles.setdefault(me, why)
        for name in sorted(noted - roster.names):
            if why := await self._done(self._expel(name)):
                troubles[name] = f"can't be expelled: {why}"
        for member in roster.members:
            if why := await self._admit(member):
                troubles.setdefault(member.name, why)
        for name, why in (await self._cut_off(roster.members)).items():
            troubles.setdefault(name, why)
        for name, why in troubles.items():
            if self._status.members.get(name) != why:
                log.warning("%s: %s: %s", me, name, why)
        return troubles

    @staticmethod
    async def _done(step: Coroutine[Any, Any, None]) -> str | None:
        """Run a step; returns its error's reason, if any: the node keeps running."""
        try:
            async with asyncio.timeout(ADMIT_SECONDS):
                await step
        except Exception as error:
            return _reason(error)
        return None

    async def _count_days(self) -> None:
        now = datetime.now(UTC)
        self._status.days_left = {
            ("node-certificates", name): (ends - now) / timedelta(days=1)
            for name, ends in (await self._software.ends(self._place)).items()
        }

    async def _publish(self) -> None:
        info = await self._software.info(self._place)
        # A late holder must publish nothing.
        if info is None or not self._lease.fresh:
            return
        if self._read is not None:
            # What was read again may be a newer epoch's, unless the lease was renewed afterwards.
            if not self._lease.renewed_after(self._read):
                return
            # A store that was forked or restored may grant two leases; the fence knows the later holder.
            if self._prove:
                await self._prove()
        name = self._place.identity.name
        try:
            self._published = await self._network.publish(name, info, self._published)
        except SupersededError:
            # Probably a delayed write of an older epoch: it must not be the last one.
            self._published = await self._network.published(name)
            self._read = self._lease.now()
            raise

    async def _expel(self, name: str) -> None:
        await self._software.expel(self._place, name)
        log.warning("%s: %s is expelled", self._place.identity.name, name)
        self._admitted.pop(name, None)
        self._refused.pop(name, None)
        await self._write_note(await self._admitted_members() - {name})

    async def _admit(self, member: NetworkMember) -> str | None:
        """Update a member in the node; returns why the node does not admit it, else None."""
        name = member.name
        if self._admitted.get(name) == member:
            return None
        refused = self._refused.get(name)
        if refused and refused[0] == member and self._now() < refused[1]:
            return refused[2]
        try:
            async with asyncio.timeout(ADMIT_SECONDS):
                noted = await self._admitted_members()
                if name not in noted:
                    await self._write_note(noted | {name})
                await self._software.admit(self._place, member)
        except UntrustedError as error:
            why = f"not trusted: {error}"
            self._refused[name] = member, self._now() + UNTRUSTED_SECONDS, why
            return why
        except Exception as error:
            return f"can't be admitted: {_reason(error)}"
        self._admitted[name] = member
        self._refused.pop(name, None)
        log.info("%s: %s is admitted with %d nodes", self._place.identity.name, name, len(member.infos))
        return None

    async def _cut_off(self, members: Sequence[NetworkMember]) -> dict[str, str]:
        """Members to whose nodes this node has no connection, with the reason; their agents may answer."""
        reasons = {name_key(name): why for name, why in (await self._software.cut_off(self._place)).items()}
        return {
            member.name: f"no connection to {name}: {reasons[key]}"
            for member in members
            for name in member.addresses
            if (key := name_key(name)) in reasons
        }

    async def _admitted_members(self) -> frozenset[str]:
        """Members that any node of the identity admitted and none has expelled."""
        if self._noted is None:
            note = await self._place.share_calls(self._folder.read_note, Note.ADMITTED)
            self._noted = parse_admitted(note) if note else frozenset()
        return self._noted

    async def _write_note(self, names: frozenset[str]) -> None:
        await self._place.share_calls(self._folder.write_note, Note.ADMITTED, _Note(admitted=names).to_json())
        self._noted = names


def _reason(error: Exception) -> str:
    return reason_of("the members of the network", error, SoftwareError, OSError, ValueError)
