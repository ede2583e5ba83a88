"""The five steps on this machine, with checks: `python -m lab.banks.scenario`.

Two banks' real Corda nodes, run by the project's agents, share a credit record; a VM is killed during a stream of
updates; a third bank joins by its card alone; the same nodes pay each other. Each bank knows of the others only their
cards.
"""

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

from contract.frontend import application_port
from contract.legal_name import name_key
from contract.metrics import READING_SECONDS, Figure
from contract.secrets import RpcUser
from lab.banks import azurite, balancer, corda, cordapp, npm
from lab.banks.bank import BankPlan, LabBank
from lab.banks.cache import cached
from lab.banks.cordapp import CREDIT_RECORD, PAYMENTS, Application, Built, FlowRefusedError
from lab.banks.process import until, unwind_on_sigterm
from lab.banks.site import BankSite, Loopback
from lab.recording import recording
from ledger.corda.installation import InstallationError, Installed

A, B, C = "O=Bank A, L=London, C=GB", "O=Bank B, L=Paris, C=FR", "O=Bank C, L=Milan, C=IT"
MALLORY = "O=Mallory, L=Valletta, C=MT"
"""A member that would be bank A."""
USER = RpcUser(name="application", permissions=CREDIT_RECORD.permissions)
PAYER = RpcUser(name="payments", permissions=PAYMENTS.permissions)
USERS = (USER, PAYER)
"""The RPC users of the two applications."""
START_SECONDS = 600
"""Longest time until a bank's nodes are ready: the JVM of each starts in minutes on a busy machine."""
STREAM_SECONDS = 120
"""Duration of the stream of records around a takeover."""
TAKEOVER_SECONDS = 300
"""Longest takeover, including the node's start."""
SETTLING_SECONDS = 900
"""Longest time until no flow is in flight after a takeover."""
MEETING_SECONDS = 300
"""Longest time until all nodes have a new member: each agent asks twice a minute."""
REVOKED_SECONDS = 600
"""Longest time that nodes still accept a revoked name: lists are fetched every five minutes."""
DELIVERY_SECONDS = 60
"""Longest time until a committed transaction is delivered to all parties."""
_STAGES = {
    "PROPOSING": "3. it proposes a transaction",
    "SIGNING": "   it collects the signatures that are required",
    "NOTARISING": "   all banks have signed; the notary is asked",
    "DELIVERING": "4. it is committed; its delivery begins",
}
LOOPBACKS: Mapping[str, BankSite] = MappingProxyType(
    {name: Loopback(number) for number, name in enumerate(("bank-a", "bank-b", "bank-c", "mallory"), 41)}
)
"""By bank: its site on this machine, with a loopback address of its own."""
_PERSON, OURS, THEIRS = "p-4711", "node-2", "node-1"
_ANOTHER_BANKS = f"is not a name of {MALLORY}".encode()
"""The authority's refusal of a name that was not agreed with the requesting member."""
_EXPECTED = (
    AssertionError,
    InstallationError,
    FlowRefusedError,
    RuntimeError,
    TimeoutError,
    subprocess.SubprocessError,
)
"""Errors whose message says what is wrong."""


@dataclass(frozen=True)
class Outcome:
    """The result of a stream of requests."""

    sent: int
    committed: int
    lost: int
    doubled: int
    refused: int
    unanswered: int
    """Requests without an answer."""
    same: bool
    """Whether each node has exactly the answered records."""

    @property
    def whole(self) -> bool:
        """Whether every request was committed exactly once."""
        return self.same and not (self.lost or self.doubled or self.refused or self.unanswered)

    def __str__(self) -> str:
        return (
            f"{self.sent} sent, {self.committed} committed, {self.lost} lost, {self.doubled} doubled, "
            f"{self.refused} refused, {self.unanswered} unanswered, digests {'equal' if self.same else 'differ'}"
        )

    @classmethod
    def of(cls, report: dict[str, Any], counts: dict[str, dict[str, Any]]) -> Self:
        """Compares a stream's answers with the nodes' records."""
        versions = [count["versions"] for count in counts.values()]
        return cls(
            sent=report["sent"],
            committed=report["committed"],
            lost=max(0, report["versions"] - min(versions)),
            doubled=sum(count["doubled"] for count in counts.values()) + max(0, max(versions) - report["versions"]),
            refused=report["refused"],
            unanswered=report["unanswered"],
            same=all(count["digest"] == report["digest"] for count in counts.values()),
        )


@dataclass(frozen=True)
class Takeover:
    """Duration of an identity's takeover, in seconds from the death of its VM."""

    leased: float
    """Seconds until another VM has acquired the lease: the agents' part."""
    ready: float
    """Seconds until the node is ready there, including the ledger's part."""

    def __str__(self) -> str:
        return f"taken over in {self.ready:.0f} s, {self.leased:.0f} s of them without a holder"


@dataclass
class Scenario:
    """The running banks."""

    folder: Path
    stack: ExitStack
    sites: Mapping[str, BankSite] = field(default_factory=lambda: LOOPBACKS)
    """The network of each bank."""
    recorded: bool = False
    """Whether bank A's VMs write their metrics to their folders."""
    identities: int = 2
    """Bank A's identities, besides its notary: each has a VM, and all have a standby."""
    began: float = field(default_factory=time.monotonic)

    def say(self, what: str) -> None:
        """Print progress."""
        print(f"{time.monotonic() - self.began:7.1f} s  {what}", flush=True)

    # --- The banks ---

    def start(self) -> None:
        """Start bank A, which is the network's authority and runs its notary, and bank B."""
        self.prepare()
        self.bring_up()
        self.await_members()

    def prepare(self) -> None:
        """Install and build the nodes' software, and start the services that a bank has on Azure."""
        self.records, self.payments = (cordapp.build(each, cached()) for each in (CREDIT_RECORD, PAYMENTS))
        self.applications = (*self.records.artifacts, *self.payments.artifacts)
        self.installation = corda.installed(*self.applications)
        self.say("Corda is installed, the CorDapps are built and signed")
        self.blobs, _ = self.stack.enter_context(azurite.blob_service())
        self.a = self._bank(
            BankPlan(
                "bank-a",
                A,
                self.sites["bank-a"],
                identities=self.identities + 1,
                vms=self.identities + 2,
                roles={"node-1": "notary"},
                users=USERS,
                authority_vms=2,
                recorded=self.recorded,
            ),
            None,
        )
        self.b = self._bank(BankPlan("bank-b", B, self.sites["bank-b"], identities=1, vms=2, users=USERS), self.a)
        self.say("each bank's database, vault, storage and load balancer run")

    def bring_up(self) -> None:
        """Start all VMs, and wait until each identity has a ready node."""
        self.a.meet([self.b])
        self.b.meet([self.a])
        for number in range(1, self.a.plan.authority_vms + 1):
            self.a.start_authority_vm(number)
        for bank in (self.a, self.b):
            for number in range(1, bank.plan.vms + 1):
                bank.start_vm(number)
        self.say("VMs run: they take identities, make keys, ask for certificates, migrate databases")
        for bank in (self.a, self.b):
            bank.await_ready(START_SECONDS)
            self.say(f"{bank.name}: {', '.join(self._holders(bank))}")
        self.a.root_vault.grant(False)
        self.say("the root's key is closed: the network goes on without it")

    def join(self) -> None:
        """A third bank joins: the banks exchange cards."""
        self.say("bank C joins by its card; nobody else is restarted")
        self.c = self._bank(BankPlan("bank-c", C, self.sites["bank-c"], vms=1, users=USERS), self.a)
        self.c.meet([self.a, self.b])
        self.a.meet([self.b, self.c])
        self.b.meet([self.a, self.c])
        self.c.start_vm(1)
        self.c.await_ready(START_SECONDS)
        self.say(f"bank-c: {', '.join(self._holders(self.c))}")
        self.await_members()

    def _bank(self, plan: BankPlan, authority: LabBank | None) -> LabBank:
        bank = LabBank(
            plan,
            self.folder / plan.name,
            self.blobs,
            self.installation,
            authority,
            applications=self.applications,
        )
        self.stack.callback(bank.end)
        bank.start()
        return bank

    def _holders(self, bank: LabBank) -> list[str]:
        found = {each.name: bank.holder(each.name) for each in bank.identities}
        return [f"{identity} on {vm.name}" for identity, vm in found.items() if vm]

    def await_members(self) -> None:
        """Wait until every node has all nodes of the banks in its network map."""
        nodes = sum(len(bank.identities) for bank in self._banks())
        for bank in self._banks():
            for identity in bank.identities:
                until(
                    partial(self._knows, bank, identity.name, nodes),
                    MEETING_SECONDS,
                    f"{bank.name} {identity.name} knows {nodes} nodes",
                )
        self.say(f"every node knows all {nodes} nodes of the network")

    def _knows(self, bank: LabBank, identity: str, nodes: int) -> bool:
        return len(bank.known_members(identity)) == nodes

    def _banks(self) -> list[LabBank]:
        return [self.a, self.b, *([self.c] if hasattr(self, "c") else [])]

    def application(self, bank: LabBank, identity: str | None = None) -> Application:
        """An application server of a bank, which uses the bank's balancer.

        Args:
            bank: whose.
            identity: whose node it asks for, wherever that is; None for whichever the balancer chooses.
        """
        return self._application(bank, self.records, USER, identity)

    def payer(self, bank: LabBank, identity: str) -> Application:
        """An application server of a bank for payments.

        Args:
            bank: whose.
            identity: whose cash it is.
        """
        return self._application(bank, self.payments, PAYER, identity)

    def _application(self, bank: LabBank, built: Built, user: RpcUser, identity: str | None) -> Application:
        ports = {each.name: each.ports["rpc"] for each in bank.identities}
        port = application_port(bank.identities) if identity is None else ports[identity]
        store = self.folder / f"{bank.name}.rpc"
        cordapp.write_trust_store(store, bank.rpc_certificates())
        java = Installed.load(self.installation).manifest.java_home / "bin" / "java"
        host = bank.plan.site.nodes
        return Application(java, built, f"{host.address}:{port}", user.name, bank.passwords[user.name], store, host)

    # --- The steps ---

    def five_steps(self) -> None:
        """Bank A creates a record, which bank B reads; bank A updates it, and bank B reads the new score."""
        ours, theirs = self.application(self.a), self.application(self.b)
        self.say(f"1. bank A's application creates the record of {_PERSON} at {ours.node}, its load balancer")
        made = self._change(ours, "create", person=_PERSON, score=700, with_=B, request="r-1")
        read = self._seen(theirs, made)
        self.say(f"5. bank B reads it from its own node: score {read['score']}, version {read['version']}")
        self.say("   bank A updates it")
        changed = self._change(ours, "update", person=_PERSON, version=1, score=720, request="r-2")
        read = self._seen(theirs, changed)
        self.say(f"   bank B reads it again: score {read['score']}, version {read['version']}")
        until(lambda: self._initiated() == [2, 0], DELIVERY_SECONDS, "two transactions are counted, at bank A alone")
        self.say("   the workbook counts bank A's two transactions once, however many nodes store them")

    def _initiated(self) -> list[int]:
        """Number of transactions that the nodes of each bank have initiated since their start."""
        return [
            sum(vm.health().get("figures", {}).get(Figure.TRANSACTIONS, 0) for vm in bank.vms)
            for bank in self._banks()
        ]

    def _change(self, application: Application, command: str, **options: object) -> dict[str, Any]:
        """Make a change and print its progress; returns the answer."""
        answer: dict[str, Any] = {}
        for line in application.follow(command, progress=True, **options):
            if node := line.get("node"):
                self.say(f"2. the balancer gave it to {node} on {self._vm_of(node)}")
            elif stage := line.get("stage"):
                self.say(f"{_STAGES[stage]} (+{line['millis'] / 1000:.2f} s)")
            else:
                answer = line
        self.say(
            f"   transaction {answer['transaction'][:16]} is answered; shared with {', '.join(answer['readers'])}"
        )
        return answer

    def _vm_of(self, legal_name: str) -> str:
        (identity,) = (each.name for each in self.a.identities if each.legal_name == legal_name)
        vm = self.a.holder(identity)
        return vm.name if vm else "a VM that is gone"

    def _seen(self, application: Application, change: dict[str, Any]) -> dict[str, Any]:
        """A reading bank's record, once it has a version, which arrives at about the time of the answer."""

        def read() -> dict[str, Any] | None:
            with contextlib.suppress(FlowRefusedError):
                (found,) = application.ask("read", bank=A, person=change["person"])
                return found if found["transaction"] == change["transaction"] else None
            return None

        return dict(until(read, DELIVERY_SECONDS, f"{application.node} has {change['transaction'][:16]}"))

    def takeover(self, seconds: int = STREAM_SECONDS) -> tuple[Outcome, Takeover]:
        """A VM that holds an identity of bank A is killed during a stream of updates."""
        run, log = f"run-{int(time.time())}", self.folder / "stream.log"
        stream = self.application(self.a).begin(
            "stream", log, run=run, callers=4, seconds=seconds, with_=B, deadline=TAKEOVER_SECONDS
        )
        self.stack.callback(stream.kill)
        time.sleep(seconds / 4)
        identity = OURS
        vm = self.a.holder(identity)
        assert vm, f"nobody holds {identity}"
        self.say(f"bank A's application updates records all the time; {vm.name}, which holds {identity}, is killed")
        vm.end()
        killed = time.monotonic()
        until(partial(self.a.holder, identity, ready=False), TAKEOVER_SECONDS, f"{identity} has a holder")
        leased = time.monotonic() - killed
        other = until(partial(self.a.holder, identity), TAKEOVER_SECONDS, f"{identity} is taken over")
        took = time.monotonic() - killed
        self.say(f"{other.name} holds {identity} after {leased:.1f} s, and has its node ready after {took:.1f} s")
        answered, _ = stream.communicate(timeout=seconds + 2 * TAKEOVER_SECONDS)
        report = json.loads(answered.splitlines()[-1])
        self.say(f"the stream went on and has ended: {report}")
        return self.outcome(report), Takeover(leased, took)

    def outcome(self, report: dict[str, Any]) -> Outcome:
        """Count a stream's records at each node of banks A and B, after all flows have ended.

        Raises:
            TimeoutError: flows do not end.
        """
        until(self.settled, SETTLING_SECONDS, "no flow is in flight")
        counts = {
            f"{bank.name} {each.name}": self.application(bank, each.name).ask("count", prefix=f"{report['run']}-")[0]
            for bank in (self.a, self.b)
            for each in bank.identities
            if each.role.name != "notary"
        }
        self.say(f"counted: {counts}")
        return Outcome.of(report, counts)

    def settled(self) -> bool:
        """Whether all flows of all nodes have ended."""
        return all(bank.flows_in_flight(each.name) == 0 for bank in self._banks() for each in bank.identities)

    def share(self) -> None:
        """Bank A shares the record with bank C, which reads it from its own node."""
        (shared,) = self.application(self.a).ask("share", person=_PERSON, with_=C, request="r-3")
        read = self._seen(self.application(self.c), shared)
        self.say(f"bank C reads the record from its own node: score {read['score']}, version {read['version']}")

    def pay(self) -> None:
        """Another use of the same network: bank A issues cash and pays bank B, which pays some of it back."""
        ours, theirs = self.payer(self.a, OURS), self.payer(self.b, THEIRS)
        us, them = self._legal_name(self.a, OURS), self._legal_name(self.b, THEIRS)
        ours.ask("issue", amount="1000.00", currency="GBP", request="i-1")
        (paid,) = ours.ask("pay", amount="250.00", currency="GBP", to=them, request="p-1")
        self.say(f"{us} issues 1000.00 GBP and pays {them} 250.00: transaction {paid['transaction'][:16]}")
        (again,) = ours.ask("pay", amount="250.00", currency="GBP", to=them, request="p-1")
        assert again == paid, f"asked again, bank A pays {again}"
        self._await_balance(theirs, them, "250.00")
        theirs.ask("pay", amount="99.50", currency="GBP", to=us, request="p-1")
        self.say(f"asked again, it pays no second time; {them} pays 99.50 back")
        self._await_balance(ours, us, "849.50")
        self._await_balance(theirs, them, "150.50")

    def _await_balance(self, application: Application, owner: str, amount: str) -> None:
        wanted = [{"owner": owner, "amount": amount, "currency": "GBP"}]
        until(lambda: application.ask("balance") == wanted, DELIVERY_SECONDS, f"{owner} has {amount} GBP")
        self.say(f"{owner} has {amount} GBP")

    def _legal_name(self, bank: LabBank, identity: str) -> str:
        (name,) = (each.legal_name for each in bank.identities if each.name == identity)
        return name

    def record(self, file: Path) -> None:
        """Write the metrics and logs of bank A's VMs and database until now to a file."""
        # By then each VM has read its metrics after the last event.
        time.sleep(READING_SECONDS)
        vms = {each.name: self.a.folder / each.name for each in (*self.a.vms, *self.a.authority_vms)}
        made = recording(vms, self.a.server.log, datetime.now(UTC).replace(tzinfo=None))
        made.write(file)
        counts = ", ".join(f"{len(rows)} of {table}" for table, rows in made.tables.items())
        self.say(f"rows of Log Analytics in {file}: {counts}")

    def impersonate(self) -> None:
        """A member lists a node of bank A on its own card: the name is not certified for it."""
        forged = f"OU=node-99, {A}"
        self.say(f"a member joins whose card lists {forged}")
        site, names = self.sites["mallory"], {"node-2": forged}
        plan = BankPlan("mallory", MALLORY, site, identities=2, legal_names=names, users=USERS)
        others, mallory = self._banks(), self._bank(plan, self.a)
        mallory.meet(others)
        for bank in others:
            bank.meet([*(each for each in others if each is not bank), mallory])
        for number in range(1, plan.vms + 1):
            mallory.start_vm(number)
        until(partial(mallory.holder, "node-1"), START_SECONDS, "a node of its own is certified")
        own = name_key(mallory.identities[0].legal_name)
        for bank in (self.a, self.b):
            until(partial(self._has, bank, own), MEETING_SECONDS, f"{bank.name} knows it by its own name")
        until(
            lambda: any(_ANOTHER_BANKS in vm.log.read_bytes() for vm in mallory.vms),
            MEETING_SECONDS,
            "the authority says why it certifies no node of bank A for it",
        )
        for bank in (self.a, self.b):
            assert not self._has(bank, name_key(forged)), f"{bank.name} knows a node that is none of bank A's"
        thief = self.application(mallory, "node-1")
        for command, options in (
            ("read", {"bank": A, "person": _PERSON}),
            ("update", {"person": _PERSON, "version": 2, "score": 300, "request": "m-1", "deadline": 20}),
        ):
            try:
                report = thief.ask(command, **options)
            except FlowRefusedError as error:
                self.say(f"   {command}: {error}")
            else:
                raise AssertionError(f"{MALLORY} was answered {report} as if it were bank A")
        self.say("it is certified under its own name alone, and neither reads nor writes a record of bank A's")

    def _has(self, bank: LabBank, key: str) -> bool:
        """Whether a bank's node has a node of a legal name in its network map."""
        return key in {name_key(name) for name in bank.known_members(OURS if bank is self.a else THEIRS)}

    def revoke(self, bank: LabBank) -> None:
        """The authority revokes a bank's name: nodes of the others remove it from their network maps, and restart."""
        name = bank.identities[0].legal_name
        self.a.authority_command("revoke", name, "--by", "operations@bank-a.example")
        for other in (self.a, self.b):
            until(
                lambda other=other: not self._has(other, name_key(name)),  # type: ignore[misc]
                REVOKED_SECONDS,
                f"{other.name} has removed {name} from its network map",
            )
        self.say(f"{name} is revoked: the nodes of the other banks know it no more")
        until(partial(self.a.holder, OURS), START_SECONDS, f"{OURS} is ready again")


def missing() -> str | None:
    """The prerequisite that this machine lacks, if any."""
    if reason := corda.missing():
        return reason
    if not npm.available():
        return "no node and npm on PATH; wanted them for Azurite"
    return None if balancer.available() else "no haproxy on PATH; wanted it as the banks' load balancer"


def play(
    scenario: Scenario, stream_seconds: int = STREAM_SECONDS, record: Path | None = None
) -> tuple[Outcome, Takeover]:
    """Run all steps; bank A's rows of Log Analytics are written to `record`."""
    scenario.start()
    scenario.five_steps()
    result = scenario.takeover(stream_seconds)
    scenario.join()
    scenario.share()
    scenario.pay()
    if record:
        scenario.record(record)
    if "mallory" in scenario.sites:
        scenario.impersonate()
    scenario.revoke(scenario.c)
    return result


def show(played: Callable[[Path, ExitStack], tuple[Outcome, Takeover]]) -> int:
    """Run once, in a folder that remains after a failure; returns the exit status."""
    if reason := missing():
        print(f"error: {reason}", file=sys.stderr)
        return 1
    unwind_on_sigterm()
    folder = Path(tempfile.mkdtemp(prefix="banks-"))
    try:
        with ExitStack() as stack:
            outcome, takeover = played(folder, stack)
    except _EXPECTED as error:
        print(f"error: {error}; see {folder}", file=sys.stderr)
        return 1
    except Exception:
        traceback.print_exc()
        print(f"error: not foreseen; see {folder}", file=sys.stderr)
        return 1
    print(f"{outcome}; {takeover}")
    if not outcome.whole:
        print(f"error: what the banks have is not what was answered; see {folder}", file=sys.stderr)
        return 1
    shutil.rmtree(folder)
    return 0


def writable_file(text: str) -> Path:
    """A file of the command line, which is written at the end."""
    file = Path(text)
    if file.is_dir() or not os.access(file.parent, os.W_OK | os.X_OK):
        raise argparse.ArgumentTypeError(f"{file}: can't be written; wanted a file in a folder that is there")
    return file


def parser_of(module: str, description: str | None) -> argparse.ArgumentParser:
    """A parser of the options that all variants share."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=description)
    help_ = "write bank A's rows of Log Analytics to a file"
    parser.add_argument("--record", type=writable_file, metavar="FILE", help=help_)
    return parser


def main(arguments: Sequence[str]) -> int:
    """Run the scenario with banks at loopback addresses; returns the exit status."""
    record = parser_of("lab.banks.scenario", __doc__).parse_args(arguments).record
    return show(lambda folder, stack: play(Scenario(folder, stack, recorded=record is not None), record=record))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
