"""A real Corda node, run like by an agent: on PostgreSQL over TLS, from its first start to that in the next epoch."""

import asyncio
import base64
import os
import re
import shutil
import socket
import ssl
import struct
import subprocess
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import psycopg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from agent.database import PostgresFence
from agent.messages import list_messages, set_aside
from agent.processes import ChildProcess, launch
from contract.identities import Identity, identities
from contract.metrics import Figure
from contract.platform import AGENT_USER, P2P
from contract.secrets import RpcAccount
from contract.vm_configuration import Zone
from host.errors import UnavailableError
from host.status import Readiness
from lab.banks import balancer, corda, hostile, postgres
from lab.banks.corda import CordaNetwork
from lab.banks.wires import Wires, wires
from ledger.corda import CORDA, IDENTITY_KEY, TLS_KEY, certificates
from ledger.corda.certificates import CertificateRole, Chains
from ledger.corda.installation import Installed, ToolError
from ledger.corda.software import CordaSoftware, _newest_info
from ledger.software import (
    RESTART_STATUS,
    AuthorityAccess,
    NetworkMember,
    Place,
    Process,
    Software,
    SoftwareContext,
    SoftwareError,
    UntrustedError,
    WaitingError,
)
from tests.java import compiled
from tests.software_context import MemoryDocuments

pytestmark = [
    pytest.mark.skipif(corda.missing() is not None, reason=str(corda.missing())),
    pytest.mark.skipif(not balancer.available(), reason="no HAProxy here; wanted it as the path to the database"),
]

HOST = f"127.94.{os.getpid() >> 8 & 255}.{os.getpid() & 255}"
"""The address of this run's VM: ports are fixed, and several runs may be active at once."""
RPC_PASSWORD = "the-password-of-the-loan-desk"
START_SECONDS = 150

T = TypeVar("T")


async def rpc_users() -> list[RpcAccount]:
    return [RpcAccount(name="loan_desk", password=RPC_PASSWORD, permissions=("ALL",))]


async def no_key() -> bytes:
    raise AssertionError("these tests send no request to an authority")


def context_of(installed: Installed, member: str) -> SoftwareContext:
    return SoftwareContext(
        member=member,
        version=corda.VERSION,
        installation=installed.folder,
        frontend=HOST,
        documents=MemoryDocuments(),
        network=AuthorityAccess("https://nobody.invalid", no_key),
        trust_root=None,
        rpc_users=rpc_users,
        listen=HOST,
    )


def software_of(context: SoftwareContext, network: CordaNetwork) -> CordaSoftware:
    return CordaSoftware(context, network, network.revocations)


@dataclass
class Vm:
    """A VM that runs one identity's node, one epoch after the other."""

    server: postgres.Server
    path: Wires
    network: CordaNetwork
    context: SoftwareContext
    folder: Path
    identity: Identity
    runner: "asyncio.Runner"
    software: CordaSoftware = field(init=False)
    place: Place = field(init=False)
    process: Process = field(init=False)
    running: ChildProcess | None = None
    seen: list[tuple[Readiness, float]] = field(default_factory=list)
    epoch: int = 0

    def __post_init__(self) -> None:
        self.software = software_of(self.context, self.network)
        self.keys = self.software.make_secrets(self.identity)
        (self.folder / "durable").mkdir(parents=True)

    @property
    def database(self) -> str:
        return f"{self.context.member}-{self.identity.name}"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    async def prepare(self) -> None:
        """Prepare the node for the next epoch, as an agent does with a new lease."""
        self.epoch += 1
        for name in ("scratch", "secrets"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
            (self.folder / name).mkdir(mode=0o700)
        for name, blob in self.keys.items():
            (self.folder / "secrets" / name).write_bytes(blob)
        port = self.path.ports[self.server.port]
        fence = PostgresFence("127.0.0.1", port, postgres.administrator, self.server.root_certificates)
        self.place = Place(
            identity=self.identity,
            epoch=self.epoch,
            durable=self.folder / "durable",
            scratch=self.folder / "scratch",
            secrets=self.folder / "secrets",
            database=await fence.close_older(self.database, self.epoch, "vm-1", existed=self.epoch > 1),
            network_document=None,
        )
        await self.software.prepare(self.place)
        (self.process,) = self.software.processes(self.place)

    async def start(self) -> None:
        """Start the prepared node, and wait until it is ready."""
        script = 'exec "$@" >>"$0" 2>&1'
        argv = ("sh", "-c", script, str(self.folder / "log"), *self.process.argv)
        lock_fd = os.open(self.folder, os.O_RDONLY)
        try:
            began = time.monotonic()
            self.running = await launch(replace(self.process, argv=argv), lock_fd)
        finally:
            os.close(lock_fd)
        self.seen = []
        while not self.seen or self.seen[-1][0] is not Readiness.READY:
            readiness = await self.software.readiness(self.place)
            if not self.seen or self.seen[-1][0] is not readiness:
                self.seen.append((readiness, time.monotonic() - began))
            assert time.monotonic() - began < START_SECONDS, self.log[-4000:]
            await asyncio.sleep(0.25)

    async def until(self, wanted: str, rows: list[tuple[Any, ...]], seconds: float = 30) -> None:
        """Wait until a query returns these rows."""
        end = time.monotonic() + seconds
        while (found := self.query(wanted)) != rows:
            assert time.monotonic() < end, f"{wanted}: {found}; wanted {rows}"
            await asyncio.sleep(0.25)

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        with self.server.connect(self.database) as connection:
            return list(connection.execute(statement).fetchall())

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)


@pytest.fixture(scope="module")
def installed() -> Installed:
    return corda.load()


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as one:
        yield one


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Server]:
    with postgres.server(tls=True) as running:
        yield running


@pytest.fixture(scope="module")
def path(server: postgres.Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wires]:
    with wires({"database": server.port}, tmp_path_factory.mktemp("path") / "wires") as made:
        yield made
        made.mend()


@pytest.fixture(scope="module")
def network(installed: Installed, runner: asyncio.Runner) -> CordaNetwork:
    made = CordaNetwork(installed, HOST)
    runner.run(made.sign_parameters())
    return made


@dataclass(frozen=True)
class Lab:
    """The services that all VMs of these tests share."""

    installed: Installed
    server: postgres.Server
    path: Wires
    """The connection from every VM to the database server."""
    network: CordaNetwork
    runner: asyncio.Runner
    folder: Path

    def vm(self, member: str, frontend: str = HOST) -> Vm:
        (identity,) = identities(CORDA, f"O=Bank {member[-1].upper()}, L=London, C=GB", 1)
        context = replace(context_of(self.installed, member), frontend=frontend)
        return Vm(self.server, self.path, self.network, context, self.folder / member, identity, self.runner)


def generate_info(vm: Vm, installed: Installed) -> bytes:
    """The information that a node generates at its start, without the rest of a start."""
    done = subprocess.run(
        installed.command(("generate-node-info",)),
        cwd=vm.place.scratch,
        env=vm.process.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return read_info(vm)


def read_info(vm: Vm) -> bytes:
    info = _newest_info(vm.place.scratch)
    assert info, "a node writes its information at its start"
    return info


@pytest.fixture(scope="module")
def lab(
    *,
    installed: Installed,
    runner: asyncio.Runner,
    server: postgres.Server,
    path: Wires,
    network: CordaNetwork,
    tmp_path_factory: pytest.TempPathFactory,
) -> Lab:
    return Lab(installed, server, path, network, runner, tmp_path_factory.mktemp("lab"))


@pytest.fixture(scope="module")
def bank_a(lab: Lab) -> Iterator[Vm]:
    """Bank A's VM, shared by the tests, since its node takes half a minute to start."""
    made = lab.vm("bank-a")
    try:
        yield made
    finally:
        if made.running:
            made.run(made.running.stop(0))


@pytest.fixture
def vm(bank_a: Vm) -> Vm:
    """Bank A's VM with a running node that has admitted no other member, whatever another test did."""
    as_new = (
        bank_a.running
        and bank_a.run(bank_a.software.readiness(bank_a.place)) is Readiness.READY
        and bank_a.query("SELECT 1 FROM corda.node_properties") == []
    )
    if not as_new:
        if bank_a.running:
            bank_a.run(bank_a.running.stop(bank_a.process.stop_seconds))
        bank_a.run(bank_a.prepare())
        bank_a.run(bank_a.start())
    for member in ("bank-b", "bank-m"):
        bank_a.run(bank_a.software.expel(bank_a.place, member))
    bank_a.run(bank_a.until(KNOWN, [(bank_a.identity.legal_name,)]))
    return bank_a


@pytest.fixture(scope="module")
def peer(lab: Lab) -> NetworkMember:
    """Bank B, whose node has published its information but does not run."""
    # Another address, since its ports are the same as bank A's.
    made = lab.vm("bank-b", "127.94.255.254")
    made.run(made.prepare())
    info = generate_info(made, lab.installed)
    return NetworkMember("bank-b", {made.identity.legal_name: "127.94.255.254:10000"}, b"{}", (info,))


KNOWN = "SELECT party_name FROM corda.node_info_party_cert ORDER BY 1"

# --- A node that runs ----------------------------------------------------------------------------------------------


def test_its_secrets_are_those_of_its_role(vm: Vm) -> None:
    software: Software = vm.software
    assert set(software.make_secrets(vm.identity)) == {each.name for each in vm.identity.role.secrets}
    vm.identity.role.check_secrets(software.make_secrets(vm.identity))


def test_a_starting_node_is_down_then_up_then_ready(vm: Vm) -> None:
    assert [readiness for readiness, _ in vm.seen] == [Readiness.DOWN, Readiness.UP, Readiness.READY], (
        "its wrapper answers at once, and says when Corda has started, has its database and listens to peers"
    )
    print("ready after", {readiness.name: round(seconds, 1) for readiness, seconds in vm.seen})


def test_a_node_of_another_epoch_is_reported_as_down(vm: Vm) -> None:
    other = replace(vm.place, epoch=vm.epoch + 1)
    assert vm.run(vm.software.readiness(other)) is Readiness.DOWN
    assert vm.run(vm.software.figures(other)) == {}, "the answering node is not the new holder's"


def test_all_database_connections_use_tls(vm: Vm) -> None:
    assert vm.place.database
    sessions = vm.query("SELECT usename, bool_and(ssl) FROM pg_stat_activity JOIN pg_stat_ssl USING (pid) GROUP BY 1")
    assert (vm.place.database.user, True) in sessions, "every connection of the node's pool"


def test_secrets_exist_only_in_memory(vm: Vm) -> None:
    secrets = [value for name, value in vm.process.environment.items() if name.startswith("LEDGER_")]
    assert len(secrets) == 5, "passwords of key stores, database, two RPC users, and the figures' endpoint"
    written = " ".join(vm.process.argv) + vm.log
    for path in [*vm.place.scratch.rglob("*"), *vm.place.durable.rglob("*")]:
        # Links lead to files in memory.
        if path.is_file() and not path.is_symlink() and path.stat().st_size < 1 << 20:
            written += path.read_text(errors="replace")
    assert not [each for each in secrets if each in written], "not on a command line, in a log, or on a disk"
    for key in vm.keys.values():
        assert key.decode().splitlines()[1] not in written, "nor any key"
    assert sorted(path.name for path in vm.place.secrets.iterdir()) == ["certificates"], (
        "the node gets its key stores, but not the single keys: it must not have the node CA's key"
    )


def test_data_that_must_outlive_the_vm_is_on_the_share(vm: Vm) -> None:
    assert (vm.place.scratch / "artemis").resolve() == (vm.place.durable / "artemis").resolve()
    assert (vm.place.durable / "artemis" / "journal").is_dir(), "received messages that are not processed yet"


def test_a_node_reports_its_figures(vm: Vm) -> None:
    async def counted() -> dict[Figure, float]:
        end = time.monotonic() + 20
        # The other figures belong to an authority.
        wanted = {Figure.TRANSACTIONS, Figure.FAILURES, Figure.LIST_AGE}
        while set(found := await vm.software.figures(vm.place)) != wanted:
            assert time.monotonic() < end, found
            await asyncio.sleep(0.2)
        return dict(found)

    found = vm.run(counted())
    assert (found[Figure.TRANSACTIONS], found[Figure.FAILURES]) == (0, 0), "the node itself reports these figures"


def test_a_node_reports_its_failed_connections(vm: Vm) -> None:
    report = vm.run(vm.software._report(vm.place))
    assert report, "without the log appender for its bridges the node reports nothing"
    assert report.bridges == (), "it has sent nothing yet"
    assert vm.run(vm.software.cut_off(vm.place)) == {}


def test_node_information_has_the_nodes_name_address_and_chain(
    vm: Vm, installed: Installed, network: CordaNetwork
) -> None:
    info = vm.run(tool_node_info(installed, network, read_info(vm)))
    assert (info["legalNames"], info["addresses"]) == ([vm.identity.legal_name], [f"{HOST}:10000"]), (
        "its name, and the frontend's address"
    )
    chain = vm.run(network.certificates(vm.identity, vm.keys)).identity
    assert info["chains"] == [[corda.encoded(each) for each in chain]], "a revoked CA is seen in it too"


def test_node_information_with_many_identities_is_refused_before_they_are_verified(
    vm: Vm, installed: Installed, network: CordaNetwork, tmp_path: Path
) -> None:
    needed = [installed.folder / each for each in installed.manifest.classpath]
    path = compiled(tmp_path, needed, Path(__file__).with_name("RepeatIdentity.java"))
    java, info = installed.manifest.java_home / "bin" / "java", corda.base64_of(read_info(vm))
    argv = [str(java), *installed.manifest.options, "-cp", path, "ledger.corda.RepeatIdentity", "300", info]
    made = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=120).stdout.split()[-1]
    assert len(made) < 4 * len(info), "a small document may hold them all"
    with pytest.raises(ToolError, match="300 identities of one node; wanted one"):
        vm.run(tool_node_info(installed, network, base64.b64decode(made)))


async def tool_node_info(installed: Installed, network: CordaNetwork, info: bytes) -> dict[str, Any]:
    given = {"documents": [corda.base64_of(info)], "trustRoot": corda.encoded(network.root)}
    (found,) = (await installed.tool("node-info", given))["infos"]
    return dict(found)


# --- Applications --------------------------------------------------------------------------------------------------


def certificate_at(port: int) -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with connect(port) as connection, context.wrap_socket(connection) as secure:
        return secure.getpeercert(binary_form=True) or b""


def connect(port: int) -> socket.socket:
    """Connect to a port; retries, since the balanced RPC port opens up to half a second after the node is ready."""
    end = time.monotonic() + 20
    while True:
        try:
            return socket.create_connection((HOST, port), timeout=5)
        except ConnectionRefusedError:
            assert time.monotonic() < end, f"nothing listens on port {port}"
            time.sleep(0.1)


def test_both_rpc_ports_show_the_same_certificate(vm: Vm, network: CordaNetwork) -> None:
    chains = vm.run(network.certificates(vm.identity, vm.keys))
    wanted = chains.rpc.public_bytes(Encoding.DER)
    assert certificate_at(10100) == wanted, "the certificate that the bank's applications trust"
    assert certificate_at(10200) == wanted, "the load balancer may choose the same node at this port"


async def drain_as(vm: Vm, installed: Installed, user: str, password: str, store: str) -> Any:
    secrets = {
        "LEDGER_TRUSTSTORE_PASSWORD": vm.process.environment["LEDGER_KEYSTORE_PASSWORD"],
        "LEDGER_RPC_USER": user,
        "LEDGER_RPC_PASSWORD": password,
    }
    path = str(vm.place.secrets / "certificates" / store)
    return await installed.tool("drain", {"host": HOST, "port": 10100, "trustStore": path, "seconds": 1}, secrets)


@pytest.mark.parametrize(
    ("user", "password", "store"),
    [
        ("loan_desk", "a-guess", certificates.RPC_TRUST_STORE),
        ("nobody", RPC_PASSWORD, certificates.RPC_TRUST_STORE),
        ("loan_desk", RPC_PASSWORD, certificates.TRUST_STORE),
    ],
    ids=["password", "user", "certificate"],
)
def test_rpc_requires_a_users_password_and_the_trusted_certificate(
    vm: Vm, installed: Installed, user: str, password: str, store: str
) -> None:
    with pytest.raises(ToolError) as refused:
        vm.run(drain_as(vm, installed, user, password, store))
    assert password not in str(refused.value), "the logged message must not contain the password"
    assert vm.query("SELECT 1 FROM corda.node_properties WHERE property_value = 'true'") == [], "nothing was done"


# --- Members -------------------------------------------------------------------------------------------------------


def test_a_member_is_admitted_to_the_running_node(vm: Vm, peer: NetworkMember) -> None:
    own, other = vm.identity.legal_name, next(iter(peer.addresses))
    vm.run(vm.software.admit(vm.place, peer))
    vm.run(vm.until(KNOWN, [(own,), (other,)]))
    again = time.monotonic()
    vm.run(vm.software.admit(vm.place, peer))
    assert time.monotonic() - again < 1, "information that was proven is not checked again"

    async def seen() -> None:
        end = time.monotonic() + 45
        while set(found := await vm.software.ends(vm.place)) != {None, peer.name}:
            assert time.monotonic() < end, found
            await vm.software.figures(vm.place)
            await asyncio.sleep(0.5)

    vm.run(seen())


def refused(vm: Vm, member: NetworkMember, reason: str) -> None:
    before = sorted(path.name for path in (vm.place.scratch / "additional-node-infos").iterdir())
    with pytest.raises(UntrustedError, match=reason):
        vm.run(vm.software.admit(vm.place, member))
    after = sorted(path.name for path in (vm.place.scratch / "additional-node-infos").iterdir())
    assert before == after, "the refused information must not be stored"


def test_unproven_information_of_a_member_is_refused(vm: Vm, peer: NetworkMember) -> None:
    (name,), (info,) = peer.addresses, peer.infos
    vm.run(vm.software.admit(vm.place, peer))
    refused(vm, replace(peer, addresses={name: "127.94.255.254:10001"}), r"wanted 127\.94\.255\.254:10001, as on the")
    refused(vm, replace(peer, name="bank-c", addresses={}), "wanted a legal name on the card")
    changed = bytearray(info)
    changed[-9] ^= 1
    refused(vm, replace(peer, infos=(info, bytes(changed))), "^node information: ")
    refused(vm, replace(peer, infos=(b"{}",)), "^node information: it is no SignedNodeInfo")


def test_an_identity_that_a_member_certified_itself_is_refused(vm: Vm, lab: Lab) -> None:
    made = lab.vm("bank-s", "127.94.255.252")
    chains = made.run(lab.network.certificates(made.identity, made.keys))
    role, now = CertificateRole.LEGAL_IDENTITY, datetime.now(UTC)
    own = certificates.issue(made.keys, IDENTITY_KEY, role, chains.node_ca, now=now)
    lab.network._chains[made.identity.legal_name] = chains.model_copy(update={"identity": own})
    try:
        made.run(made.prepare())
        info = generate_info(made, lab.installed)
        found = made.run(tool_node_info(lab.installed, lab.network, info))
        assert len(found["chains"][0]) == 4, "Corda itself takes an identity below a node's CA"
    finally:
        lab.network._chains[made.identity.legal_name] = chains
    name = made.identity.legal_name
    refused(
        vm,
        NetworkMember("bank-s", {name: "127.94.255.252:10000"}, b"{}", (info,)),
        "by the authority itself",
    )


def test_a_node_does_not_store_its_own_information(vm: Vm) -> None:
    own = NetworkMember("bank-a", {vm.identity.legal_name: f"{HOST}:10000"}, None, (read_info(vm),))
    vm.run(vm.software.admit(vm.place, own))
    assert not (vm.place.durable / "members" / "bank-a.json").exists(), "only the bank's other nodes are stored"


# --- A network that changes ----------------------------------------------------------------------------------------


async def no_users() -> list[RpcAccount]:
    return []


def test_a_node_is_stale_after_renewal_new_users_or_new_parameters(
    vm: Vm, network: CordaNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert vm.run(vm.software.stale(vm.place)) is None
    last = network.parameters
    try:
        network.due = True
        assert vm.run(vm.software.stale(vm.place)) == "its certificates are to be renewed"
        network.due = False
        with monkeypatch.context() as patch:
            patch.setattr(vm.software, "_context", replace(vm.software._context, rpc_users=no_users))
            assert vm.run(vm.software.stale(vm.place)) == "its RPC users have changed", "a removed one keeps access"
        vm.run(network.sign_parameters(epoch=2))
        assert vm.run(vm.software.stale(vm.place)) == "the network's parameters of epoch 2 follow those of epoch 1"
        vm.run(network.sign_parameters(epoch=1))
        assert vm.run(vm.software.stale(vm.place)) is None, "other parameters of the same epoch change nothing"
    finally:
        network.parameters, network.due = last, False


def test_parameters_of_another_network_are_refused(vm: Vm, network: CordaNetwork, installed: Installed) -> None:
    last = network.parameters
    network.parameters = vm.run(CordaNetwork(installed, HOST, "Other").sign_parameters())
    try:
        with pytest.raises(
            SoftwareError, match=r"^network parameters: .*; wanted them signed under the network's root$"
        ):
            vm.run(vm.software.stale(vm.place))
    finally:
        network.parameters = last


# --- The node's end, and its next start ----------------------------------------------------------------------------


def crash(server: postgres.Server) -> None:
    server.crash()
    server.start()


Seen = dict[Readiness, float]
"""By readiness: the second at which the node first had it."""


async def follow(vm: Vm, seconds: float, until: Callable[[Seen], bool] = lambda _: False) -> Seen:
    """Poll a node as its agent does, until it ends or `until` is true; fails after `seconds`."""
    assert vm.running
    end, began = asyncio.create_task(vm.running.wait()), time.monotonic()
    seen: Seen = {}
    while not (end.done() or until(seen)):
        await vm.software.figures(vm.place)
        seen.setdefault(await vm.software.readiness(vm.place), time.monotonic() - began)
        assert time.monotonic() - began < seconds, f"{seen}: {vm.log[-4000:]}"
        await asyncio.wait({end}, timeout=1)
    return seen


@pytest.mark.usefixtures("ending")
@pytest.mark.parametrize("fail", [postgres.Server.lose_session, crash], ids=["session", "server"])
def test_a_node_asks_for_a_restart_when_its_database_restarted(
    vm: Vm, fail: Callable[[postgres.Server], None]
) -> None:
    fail(vm.server)
    vm.run(follow(vm, 120))
    assert vm.running
    assert vm.run(vm.running.wait()) == RESTART_STATUS, "the status says that the node itself did not fail"
    vm.run(vm.prepare())
    vm.run(vm.start())
    assert vm.seen[-1][0] is Readiness.READY, "an interrupted transaction must not prevent a start"


@pytest.mark.usefixtures("ending")
def test_a_node_notices_a_silently_cut_path_to_its_database(vm: Vm, mallory: "Mallory") -> None:
    """The path is cut silently: packets are lost, and no connection is reset or refused."""
    vm.run(vm.software.admit(vm.place, mallory.member))
    vm.run(vm.until(KNOWN, [(vm.identity.legal_name,), (mallory.name,)]))
    before = len(vm.log)

    def logged(text: str) -> bool:
        return text in vm.log[before:]

    vm.path.cut()
    try:
        mallory.send(vm, ("message", hostile.EVERY["binary"]))
        # The load balancer stops using a node that is not ready.
        seen = vm.run(follow(vm, 120, lambda seen: Readiness.UP in seen and logged("Connection is not available")))
    finally:
        vm.path.mend()
    assert vm.running
    repaired = time.monotonic()
    vm.run(follow(vm, 120))
    print("not ready after", round(seen[Readiness.UP], 1), "ended after", round(time.monotonic() - repaired, 1))
    assert vm.run(vm.running.wait()) == RESTART_STATUS, "work that got no connection waits for the next start"
    assert vm.run(vm.software.readiness(vm.place)) is Readiness.DOWN
    vm.run(vm.prepare())
    vm.run(vm.start())
    vm.run(follow(vm, 60, lambda _: logged(f"Unable to deserialize SessionMessage data from {mallory.name}")))


@pytest.mark.usefixtures("ending")
def test_a_node_drains_stops_and_continues_in_the_next_epoch(
    vm: Vm, peer: NetworkMember, installed: Installed
) -> None:
    assert vm.running
    # Other tests use the same database, so restart: the information must be of the immediately preceding start.
    vm.run(vm.running.stop(vm.process.stop_seconds))
    vm.run(vm.prepare())
    vm.run(vm.start())
    vm.run(vm.software.admit(vm.place, peer))
    vm.run(vm.until(KNOWN, [(vm.identity.legal_name,), *((name,) for name in peer.addresses)]))
    info = read_info(vm)
    journal = sorted(path.name for path in (vm.place.durable / "artemis" / "journal").iterdir())
    migrated = vm.query("SELECT count(*) FROM corda.decentralized_trust_migrations")

    began = time.monotonic()
    vm.run(vm.software.drain(vm.place, 20))
    draining = time.monotonic() - began
    assert vm.query("SELECT property_value FROM corda.node_properties") == [("true",)], "it starts no new flow"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((HOST, 10200), timeout=5)
    assert certificate_at(10100), "its own port stays open, so that waiting applications get their answers"

    began = time.monotonic()
    vm.run(vm.running.stop(vm.process.stop_seconds))
    stopping = time.monotonic() - began
    assert stopping < vm.process.stop_seconds, "it ends before the agent would kill it"
    assert vm.run(vm.running.wait()) == 143, "it ended by SIGTERM, not by SIGKILL"
    assert vm.run(vm.software.readiness(vm.place)) is Readiness.DOWN

    began = time.monotonic()
    vm.run(vm.prepare())
    preparing = time.monotonic() - began
    assert vm.query("SELECT property_value FROM corda.node_properties") == [], (
        "otherwise it would start in drain mode"
    )
    assert vm.query("SELECT count(*) FROM corda.decentralized_trust_migrations") == migrated, "nothing to migrate"
    assert set(journal) <= {path.name for path in (vm.place.scratch / "artemis" / "journal").iterdir()}, (
        "its messages must be in the new folder"
    )
    assert len(list((vm.place.scratch / "additional-node-infos").iterdir())) == 1, "admitted members stay admitted"
    vm.run(vm.start())
    own = [vm.run(tool_node_info(installed, vm.network, each))["serial"] for each in (info, read_info(vm))]
    assert own[0] == own[1], "a takeover must not change the information for peers"
    vm.run(vm.software.expel(vm.place, peer.name))
    vm.run(vm.until("SELECT count(*) FROM corda.node_infos", [(1,)]))
    assert not list((vm.place.durable / "members").iterdir()), "nor may the next node admit the member again"
    timings = {"draining": draining, "stopping": stopping, "preparing": preparing, "starting": vm.seen[-1][1]}
    print({name: round(seconds, 1) for name, seconds in timings.items()})


# --- A hostile member ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mallory:
    """A hostile member with valid certificates of the network, which can send any message."""

    member: NetworkMember
    name: str
    certificates: Path
    password: str
    installed: Installed
    class_path: str

    def send(self, vm: Vm, *messages: tuple[str, bytes]) -> None:
        """Send a node messages, each with what it is, `message` or `flow`; its broker takes them."""
        keys = dict(vm.query("SELECT party_name, owning_key_hash FROM corda.node_info_party_cert"))
        manifest = self.installed.manifest
        argv = [
            str(manifest.java_home / "bin" / "java"),
            *manifest.options,
            *self.installed._logging,
            "-Dledger.log=off",
            *("-cp", self.class_path, "ledger.corda.SendMessages", HOST, str(vm.identity.ports["p2p"])),
            *(
                str(self.certificates),
                vm.identity.legal_name,
                f"p2p.inbound.{keys[vm.identity.legal_name]}",
                self.name,
            ),
        ]
        # In a thread: the node asks its VM for the revocation lists meanwhile.
        send = partial(
            subprocess.run,
            argv,
            input="".join(f"{kind} {base64.b64encode(each).decode()}\n" for kind, each in messages),
            env={"LEDGER_KEYSTORE_PASSWORD": self.password},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        done = vm.run(asyncio.to_thread(send))
        assert done.stdout.split() == ["Acknowledged"] * len(messages), f"{done.stdout}{done.stderr[-2000:]}"


@pytest.fixture(scope="module")
def mallory(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Mallory:
    made = lab.vm("bank-m", "127.94.255.253")
    made.run(made.prepare())
    info, name = generate_info(made, lab.installed), made.identity.legal_name
    needed = [lab.installed.folder / each for each in lab.installed.manifest.classpath]
    path = compiled(tmp_path_factory.mktemp("sending"), needed, Path(__file__).with_name("SendMessages.java"))
    return Mallory(
        NetworkMember("bank-m", {name: "127.94.255.253:10000"}, b"{}", (info,)),
        name,
        made.place.secrets / "certificates",
        made.process.environment["LEDGER_KEYSTORE_PASSWORD"],
        lab.installed,
        path,
    )


@pytest.mark.usefixtures("ending")
def test_hostile_messages_end_no_node(vm: Vm, mallory: Mallory, installed: Installed) -> None:
    """Hostile messages do not end the next start either; the queues can be listed, and a message set aside."""
    assert vm.running
    vm.run(vm.software.admit(vm.place, mallory.member))
    vm.run(vm.until(KNOWN, [(vm.identity.legal_name,), (mallory.name,)]))
    before = vm.log
    mallory.send(vm, *(("message", each) for each in hostile.EVERY.values()), ("flow", hostile.EVERY["binary"]))

    def new_log() -> str:
        return vm.log[len(before) :]

    async def refused() -> None:
        end = time.monotonic() + 60
        while new_log().count("Unable to deserialize SessionMessage data from") < len(hostile.EVERY):
            assert time.monotonic() < end, new_log()[-4000:]
            await asyncio.sleep(0.5)

    vm.run(refused())
    assert f"data from {mallory.name}" in new_log(), "the log names the sender"
    assert "OutOfMemoryError" not in new_log(), "no memory may be allocated for claimed sizes"
    assert "StackOverflowError" not in new_log(), "nor may deep nesting be followed"
    assert vm.run(vm.software.readiness(vm.place)) is Readiness.READY

    # A draining node starts no flow: messages that request one stay in its queue.
    vm.run(vm.software.drain(vm.place, 1))
    mallory.send(vm, ("flow", hostile.EVERY["binary"]), ("flow", hostile.MAGIC + hostile.listed()))
    vm.run(vm.running.stop(vm.process.stop_seconds))

    def of_mallory() -> list[dict[str, Any]]:
        # The list also contains the node's own messages, and possibly unreadable ones.
        every = list_messages(installed, vm.place.durable)
        return sorted((each for each in every if each["sender"] == mallory.name), key=lambda each: int(each["id"]))

    *older, first, second = of_mallory()
    assert min(first["bytes"], second["bytes"]) > 100, "including Corda's message headers"
    assert first["queue"].startswith("p2p.inbound."), "the node's own queue"
    file = set_aside(installed, vm.place.durable, first["id"])
    assert hostile.EVERY["binary"] in file.read_bytes(), "the message is saved unchanged"
    assert of_mallory() == [*older, second], "other messages stay in the queue"
    with pytest.raises(ToolError, match=rf"no message {first['id']}; wanted one that is listed"):
        set_aside(installed, vm.place.durable, first["id"])

    ended = vm.log
    vm.run(vm.prepare())
    vm.run(vm.start())
    assert vm.run(vm.software.readiness(vm.place)) is Readiness.READY, "earlier messages must not end the next start"
    # Its session begins, and the flow refuses what it brings.
    vm.run(logged(vm, ended, "Flow raised an error: Payload invalid"))
    vm.run(vm.running.stop(vm.process.stop_seconds))
    assert second not in of_mallory(), "the remaining message was processed"


# --- Refused starts ------------------------------------------------------------------------------------------------


@pytest.fixture
def unstarted(vm: Vm, installed: Installed, tmp_path: Path) -> Vm:
    """A VM that has not started its node; it shares the running node's database, but never uses it."""
    made = replace_vm(vm, tmp_path)
    made.software = software_of(context_of(installed, "bank-a"), vm.network)
    return made


def replace_vm(vm: Vm, folder: Path) -> Vm:
    made = object.__new__(Vm)
    made.__dict__.update(vm.__dict__)
    for name in ("durable", "scratch", "secrets"):
        (folder / name).mkdir()
    for name, blob in vm.keys.items():
        (folder / "secrets" / name).write_bytes(blob)
    made.place = replace(vm.place, durable=folder / "durable", scratch=folder / "scratch", secrets=folder / "secrets")
    return made


def test_a_modified_library_is_not_run(unstarted: Vm, installed: Installed, tmp_path: Path) -> None:
    copy = tmp_path / "ledger"
    shutil.copytree(installed.folder, copy)
    jar = next(copy.glob("lib/corda-node-*.jar"))
    jar.chmod(0o644)
    with jar.open("ab") as file:
        file.write(b"\0")
    software = software_of(replace(unstarted.context, installation=copy), unstarted.network)
    with pytest.raises(SoftwareError, match=rf"lib/{jar.name}: SHA-256 is [0-9a-f]{{64}}; wanted [0-9a-f]{{64}}$"):
        unstarted.run(software.prepare(unstarted.place))
    for path in [copy, *copy.rglob("*")]:
        path.chmod(0o755)


def test_a_database_with_an_unverified_certificate_gets_no_password(unstarted: Vm, tmp_path: Path) -> None:
    other = tmp_path / "other.crt"
    other.write_bytes(unstarted.network.root.public_bytes(Encoding.PEM))
    assert unstarted.place.database
    place = replace(unstarted.place, database=replace(unstarted.place.database, root_certificates=other))
    with pytest.raises(UnavailableError, match=r"^node-1: database: .*certificate verify failed"):
        unstarted.run(unstarted.software.prepare(place))


def test_a_node_waits_until_the_network_has_parameters(unstarted: Vm) -> None:
    last = unstarted.network.parameters
    unstarted.network.parameters = None
    try:
        with pytest.raises(
            WaitingError, match=r"^node-1: the network has no parameters yet; wanted its authority to"
        ):
            unstarted.run(unstarted.software.prepare(unstarted.place))
    finally:
        unstarted.network.parameters = last


def test_a_node_needs_a_database_its_secrets_and_a_preparation(unstarted: Vm) -> None:
    with pytest.raises(SoftwareError, match=r"^node-1: no database; wanted one"):
        unstarted.run(unstarted.software.prepare(replace(unstarted.place, database=None)))
    (unstarted.place.secrets / "tls-key").unlink()
    with pytest.raises(SoftwareError, match=r"^node-1: no secret tls-key; wanted it as a file$"):
        unstarted.run(unstarted.software.prepare(unstarted.place))
    with pytest.raises(SoftwareError, match=r"^node-1 is not prepared in epoch \d+$"):
        unstarted.software.processes(unstarted.place)


@pytest.mark.parametrize("name", ["loan-desk", AGENT_USER, ""])
def test_an_invalid_rpc_user_is_named(unstarted: Vm, name: str) -> None:
    async def users() -> list[RpcAccount]:
        return [RpcAccount.model_construct(name=name, password="x", permissions=())]

    software = software_of(replace(unstarted.context, rpc_users=users), unstarted.network)
    with pytest.raises(SoftwareError, match=f"^RPC user '{name}'; wanted letters, digits and underscores, and not "):
        unstarted.run(software.prepare(unstarted.place))


def test_in_a_zone_the_node_fetches_the_parameters_itself(unstarted: Vm) -> None:
    root = unstarted.network.root.public_bytes(Encoding.PEM).decode()
    zone = Zone(
        registration_url="https://registration.invalid", network_map_url="https://map.invalid", trust_root=root
    )
    software = software_of(replace(unstarted.context, network=zone), unstarted.network)
    unstarted.run(software.prepare(unstarted.place))
    assert not (unstarted.place.scratch / "network-parameters").exists(), "the node gets them from the network map"
    assert '"networkMapURL": "https://map.invalid"' in (unstarted.place.scratch / "node.conf").read_text()


@pytest.mark.usefixtures("ending")
def test_a_renewed_certificate_is_published(vm: Vm, installed: Installed, network: CordaNetwork) -> None:
    before = vm.run(tool_node_info(installed, network, read_info(vm)))
    assert vm.running
    vm.run(vm.running.stop(vm.process.stop_seconds))
    network.renew()
    vm.run(vm.prepare())
    after = vm.run(tool_node_info(installed, network, generate_info(vm, installed)))
    renewed = vm.run(network.certificates(vm.identity, vm.keys)).identity[0]
    assert after["chains"][0][0] == corda.encoded(renewed) != before["chains"][0][0], (
        "peers need the renewed certificate"
    )
    assert after["serial"] > before["serial"], "and only accept a higher serial number"


@pytest.mark.usefixtures("ending")
def test_an_interrupted_migration_does_not_prevent_a_start(vm: Vm) -> None:
    migrated = len(vm.query("SELECT 1 FROM corda.decentralized_trust_migrations"))
    with vm.server.connect(vm.database) as connection:
        connection.execute("UPDATE corda.databasechangeloglock SET locked = true, lockedby = 'a VM that is gone'")
        connection.execute("UPDATE corda.decentralized_trust_migrations SET fingerprint = 'of an older version'")
    assert vm.running
    vm.run(vm.running.stop(vm.process.stop_seconds))
    vm.run(vm.prepare())
    assert len(vm.query("SELECT 1 FROM corda.decentralized_trust_migrations")) == migrated + 1, (
        "the migration to another version ran"
    )
    assert vm.query("SELECT locked FROM corda.databasechangeloglock") == [(False,)]
    with pytest.raises(psycopg.OperationalError):
        # The server refuses connections without TLS.
        psycopg.connect(
            host="127.0.0.1",
            port=vm.server.port,
            dbname=vm.database,
            user="postgres",
            password="x",
            sslmode="disable",
        )


# --- Revocation ----------------------------------------------------------------------------------------------------


PEER = b"SystemUsers/Peer"
"""The broker's user for other members' nodes, which are authenticated by their certificates."""
_RESPONSE = b"\0" + PEER + b"\0" + PEER
_INIT = b"\xa3\x05PLAIN" + b"\xa0" + bytes([len(_RESPONSE)]) + _RESPONSE
_PERFORMATIVE = b"\x00\x53\x41\xc0" + bytes([len(_INIT) + 1, 2]) + _INIT
SASL_HEADER = b"AMQP\x03\x01\x00\x00"
SASL_INIT = struct.pack(">IBBH", len(_PERFORMATIVE) + 8, 2, 1, 0) + _PERFORMATIVE
SASL_OUTCOME = re.compile(rb"\x00\x53\x44\xc0..\x50(.)", re.DOTALL)


def signs_in(vm: Vm, keys: Mapping[str, bytes], chain: Sequence[x509.Certificate], folder: Path) -> bool:
    """Connect and sign in as a peer's node does; returns whether the node accepts it."""
    path = folder / "peer.pem"
    path.write_bytes(keys[TLS_KEY] + "".join(map(certificates.to_pem, chain)).encode())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.load_cert_chain(path)
    with (
        socket.create_connection((HOST, vm.identity.ports[P2P]), timeout=30) as connection,
        context.wrap_socket(connection) as secure,
    ):
        secure.sendall(SASL_HEADER)
        answer = b""
        while not (outcome := SASL_OUTCOME.search(answer)):
            part = secure.recv(4096)
            if not part:
                return False
            if b"PLAIN" in part:
                secure.sendall(SASL_INIT)
            answer += part
        return outcome[1] == b"\0"


@pytest.mark.usefixtures("ending")
def test_a_peers_certificate_is_accepted_until_it_is_revoked(
    vm: Vm, network: CordaNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = vm.software.make_secrets(vm.identity)

    def of(bank: str) -> Chains:
        # The broker caches a sign-in for an hour, by the certificate's name, so each bank signs in only once.
        (identity,) = identities(CORDA, f"O=Bank {bank}, L=London, C=GB", 1)
        return vm.run(network.certificates(identity, keys))

    def taken(chain: Sequence[x509.Certificate]) -> bool:
        # In a thread, since the node requests the revocation lists from this process meanwhile.
        return vm.run(asyncio.to_thread(signs_in, vm, keys, chain, tmp_path))

    chains = of("D")
    assert taken(chains.tls), vm.log[-4000:]
    unlisted = certificates.issue(keys, TLS_KEY, CertificateRole.TLS, of("E").node_ca, now=datetime.now(UTC))
    assert not taken(unlisted), "the status of a certificate without a revocation list is unknown"
    monkeypatch.setitem(network.revoked, chains.tls[0].serial_number, datetime.now(UTC))
    vm.run(network.revocations.refresh())
    assert taken(chains.tls), "the broker has cached the sign-in: therefore the node must restart"
    assert vm.run(vm.software.stale(vm.place)) == "certificates were revoked since it started"
    assert vm.running
    vm.run(vm.running.stop(vm.process.stop_seconds))
    vm.run(vm.prepare())
    vm.run(vm.start())
    assert not taken(chains.tls), "a revoked certificate must be refused"
    assert vm.run(vm.software.stale(vm.place)) is None, "one restart is enough"
    assert taken(of("F").tls), "other banks are still accepted"


@pytest.mark.usefixtures("ending")
def test_a_revoked_peer_leaves_the_network_map(
    vm: Vm, mallory: Mallory, network: CordaNetwork, installed: Installed
) -> None:
    """A running node removes the peer and drops its messages; a stopped node removes it at its next start."""
    own, known = [(vm.identity.legal_name,)], [(vm.identity.legal_name,), (mallory.name,)]
    info = vm.run(tool_node_info(installed, network, mallory.member.infos[0]))
    serial = x509.load_der_x509_certificate(base64.b64decode(info["chains"][0][0])).serial_number
    vm.run(vm.software.admit(vm.place, mallory.member))
    vm.run(vm.until(KNOWN, known))
    assert vm.running
    try:
        network.revoked[serial] = datetime.now(UTC)
        vm.run(network.revocations.refresh())
        vm.run(vm.software._forget_revoked(vm.place))
        vm.run(vm.until(KNOWN, own))
        before = vm.log
        # Its TLS certificate is not revoked here: this stands for a sign-in that the broker has cached.
        mallory.send(vm, ("flow", hostile.MAGIC + hostile.listed()))
        vm.run(logged(vm, before, f"Unknown peer {mallory.name}"))
    finally:
        del network.revoked[serial]
        vm.run(network.revocations.refresh())

    vm.run(vm.software.admit(vm.place, mallory.member))
    vm.run(vm.until(KNOWN, known))
    vm.run(vm.running.stop(vm.process.stop_seconds))
    try:
        network.revoked[serial] = datetime.now(UTC)
        vm.run(vm.prepare())
        assert vm.query(KNOWN) == own, (
            "the preparation must remove it: Corda removes only nodes whose file it has read"
        )
        vm.run(vm.start())
        assert vm.query(KNOWN) == own, "nor may the node admit it again"
        assert vm.query("SELECT count(*) FROM corda.node_infos") == [(1,)]
        assert vm.run(vm.software.info(vm.place)), "the node still publishes its own information"
    finally:
        del network.revoked[serial]
        vm.run(network.revocations.refresh())


async def logged(vm: Vm, before: str, wanted: str) -> None:
    """Wait until a node's log contains a text after the part in `before`."""
    end = time.monotonic() + 60
    while wanted not in vm.log[len(before) :]:
        assert time.monotonic() < end, vm.log[len(before) :][-4000:]
        await asyncio.sleep(0.5)
