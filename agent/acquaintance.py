"""One running node and the members of its network: what it says of itself goes out, who takes part comes in."""

import asyncio
import json
import logging
from typing import TYPE_CHECKING

from agent.fence import DamagedError, UnavailableError
from agent.lease import Lease
from agent.status import Status
from ledger.software import Member, Place, Readiness, Software, SoftwareError, UntrustedError

if TYPE_CHECKING:
    from agent.node import Folder, Network, Roster

ANSWER_SECONDS = 60
"""A node that has not admitted a member by then is asked again."""
UNTRUSTED_SECONDS = 300
"""So is one that would not: what it compares with may have been late."""

_OUTSIDE = (UnavailableError, DamagedError, SoftwareError, TimeoutError, OSError, ValueError)

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
    ) -> None:
        self._software, self._network, self._place = software, network, place
        self._folder, self._lease, self._status = folder, lease, status
        self._now = asyncio.get_running_loop().time
        self._published: bytes | None = None
        self._admitted: dict[str, Member] = {}
        """As they are known to the running node."""
        self._refused: dict[str, tuple[Member, float, str]] = {}
        """Who is not, until when it is not asked again, and why."""
        self._noted: frozenset[str] | None = None

    async def keep_up(self, seconds: float) -> None:
        """Tell and learn, again and again; never ends by itself, nor raises."""
        identity = self._place.identity.name
        while True:
            if self._status.readiness > Readiness.DOWN:
                try:
                    await self._once()
                except _OUTSIDE as error:
                    self._say(identity, str(error) or type(error).__name__)
                except Exception as error:
                    # A node that runs is worth more than its news.
                    log.exception("%s and its network", identity)
                    self._say(identity, repr(error))
            await asyncio.sleep(seconds)

    async def _once(self) -> None:
        await self._publish()
        roster = await self._network.roster()
        troubles = dict(roster.troubles)
        await self._expel(roster)
        for member in roster.members:
            if why := await self._admit(member):
                troubles.setdefault(member.name, why)
        self._status.members = troubles

    async def _publish(self) -> None:
        async with asyncio.timeout(ANSWER_SECONDS):
            info = await self._software.info(self._place)
        # What a late holder says of itself, nobody wants to know.
        if info is not None and info != self._published and self._lease.fresh:
            await self._network.publish(self._place.identity.name, info)
            self._published = info

    async def _expel(self, roster: "Roster") -> None:
        noted = await self._recall()
        for name in sorted(noted - roster.names):
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._software.expel(self._place, name)
            log.warning("%s: %s is expelled", self._place.identity.name, name)
            self._admitted.pop(name, None)
            self._refused.pop(name, None)
            noted -= {name}
            await self._note(noted)

    async def _admit(self, member: Member) -> str | None:
        """Have the node know a member as it is now; returns why it does not."""
        name, identity = member.name, self._place.identity.name
        if self._admitted.get(name) == member:
            return None
        refused = self._refused.get(name)
        if refused and refused[0] == member and self._now() < refused[1]:
            return refused[2]
        noted = await self._recall()
        if name not in noted:
            await self._note(noted | {name})
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._software.admit(self._place, member)
        except UntrustedError as error:
            why = f"not trusted: {error}"
            self._refused[name] = member, self._now() + UNTRUSTED_SECONDS, why
        except _OUTSIDE as error:
            why = f"can't be admitted: {str(error) or type(error).__name__}"
        except Exception as error:
            # It is this member's alone.
            log.exception("%s: %s", identity, name)
            why = f"can't be admitted: {error!r}"
        else:
            self._admitted[name] = member
            self._refused.pop(name, None)
            log.info("%s: %s is admitted with %d nodes", identity, name, len(member.infos))
            return None
        log.warning("%s: %s is %s", identity, name, why)
        return why

    async def _recall(self) -> frozenset[str]:
        """Whom any node of the identity ever admitted, and did not expel."""
        if self._noted is None:
            note = await asyncio.to_thread(self._folder.recall)
            self._noted = frozenset(json.loads(note)["admitted"] if note else ())
        return self._noted

    async def _note(self, names: frozenset[str]) -> None:
        await asyncio.to_thread(self._folder.remember, json.dumps({"admitted": sorted(names)}).encode())
        self._noted = names

    def _say(self, name: str, trouble: str) -> None:
        if self._status.members.get(name) != trouble:
            log.warning("%s: %s", name, trouble)
        self._status.members = {**self._status.members, name: trouble}
