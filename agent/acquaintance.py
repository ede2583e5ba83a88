"""One running node and the members of its network: what it says of itself goes out, who takes part comes in."""

import asyncio
import json
import logging
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from agent.fence import DamagedError, SupersededError, UnavailableError
from agent.lease import Lease
from agent.status import Status
from ledger.software import Document, Member, Place, Readiness, Software, SoftwareError, UntrustedError

if TYPE_CHECKING:
    from agent.node import Folder, Network

ANSWER_SECONDS = 60
"""A node that has not admitted a member by then is asked again."""
UNTRUSTED_SECONDS = 300
"""So is one that would not: what it compares with may have been late."""

_OUTSIDE = (UnavailableError, DamagedError, SupersededError, SoftwareError, TimeoutError, OSError, ValueError)

log = logging.getLogger(__name__)


class Acquaintance:
    """What one node knows of its network, from one of its starts to its end.

    Whom it admitted stands in the identity's folder before it does so: who is dropped while no node runs is expelled
    at the next start, on whatever VM.
    """

    def __init__(
        self,
        *,
        software: Software,
        network: "Network",
        place: Place,
        folder: "Folder",
        lease: Lease,
        status: Status,
        published: Document | None,
    ) -> None:
        self._software, self._network, self._place = software, network, place
        self._folder, self._lease, self._status = folder, lease, status
        self._now = asyncio.get_running_loop().time
        self._published = published
        self._read: float | None = None
        """When that was read anew, by the lease's clock."""
        self._admitted: dict[str, Member] = {}
        """As they are known to the running node."""
        self._refused: dict[str, tuple[Member, float, str]] = {}
        """Who is not, until when it is not asked again, and why."""
        self._noted: frozenset[str] | None = None

    async def keep_up(self, seconds: float) -> None:
        """Tell and learn, again and again; never ends by itself, nor raises."""
        while True:
            if self._status.readiness > Readiness.DOWN:
                self._status.members = await self._once()
            await asyncio.sleep(seconds)

    async def _once(self) -> dict[str, str]:
        """One round; returns what is wrong with whom. Whatever it is, it keeps nobody else out."""
        me, troubles = self._place.identity.name, dict[str, str]()
        if why := await self._done(self._publish()):
            troubles[me] = why
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                roster = await self._network.roster()
                noted = await self._recall()
        except Exception as error:
            return troubles | {me: _reason(error)}
        troubles.update(roster.troubles)
        for name in sorted(noted - roster.names):
            if why := await self._done(self._expel(name)):
                troubles[name] = f"can't be expelled: {why}"
        for member in roster.members:
            if why := await self._admit(member):
                troubles.setdefault(member.name, why)
        for name, why in troubles.items():
            if self._status.members.get(name) != why:
                log.warning("%s: %s: %s", me, name, why)
        return troubles

    @staticmethod
    async def _done(step: Coroutine[Any, Any, None]) -> str | None:
        """Why a step was not, if so: a node that runs is worth more than its news."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await step
        except Exception as error:
            return _reason(error)
        return None

    async def _publish(self) -> None:
        info = await self._software.info(self._place)
        # What a late holder says of itself, nobody wants to know.
        if info is None or not self._lease.fresh:
            return
        # What was read anew may be a newer epoch's, unless the lease was still ours afterwards.
        if self._read is not None and not self._lease.held_after(self._read):
            return
        name = self._place.identity.name
        try:
            self._published = await self._network.publish(name, info, self._published)
        except SupersededError:
            # Of an older epoch, whose writing was on its way when this one began: that is not to be the last word.
            self._published = await self._network.published(name)
            self._read = self._lease.now()
            raise

    async def _expel(self, name: str) -> None:
        await self._software.expel(self._place, name)
        log.warning("%s: %s is expelled", self._place.identity.name, name)
        self._admitted.pop(name, None)
        self._refused.pop(name, None)
        await self._note(await self._recall() - {name})

    async def _admit(self, member: Member) -> str | None:
        """Have the node know a member as it is now; returns why it does not."""
        name = member.name
        if self._admitted.get(name) == member:
            return None
        refused = self._refused.get(name)
        if refused and refused[0] == member and self._now() < refused[1]:
            return refused[2]
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                noted = await self._recall()
                if name not in noted:
                    await self._note(noted | {name})
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

    async def _recall(self) -> frozenset[str]:
        """Whom any node of the identity ever admitted, and did not expel."""
        if self._noted is None:
            note = await asyncio.to_thread(self._folder.recall)
            self._noted = frozenset(json.loads(note)["admitted"] if note else ())
        return self._noted

    async def _note(self, names: frozenset[str]) -> None:
        await asyncio.to_thread(self._folder.remember, json.dumps({"admitted": sorted(names)}).encode())
        self._noted = names


def _reason(error: Exception) -> str:
    if not isinstance(error, _OUTSIDE):
        log.error("a fault of the program", exc_info=error)
        return repr(error)
    return str(error) or type(error).__name__
