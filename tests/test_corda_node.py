"""A real Corda node, as an agent runs it: on PostgreSQL over TLS, from its first start to its next one elsewhere."""

import asyncio
import json
import os
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import psycopg
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from agent.database import PostgresFence
from agent.fence import UnavailableError
from agent.processes import ChildProcess, launch
from ledger.corda import CORDA, certificates
from ledger.corda.installation import Installed, ToolError
from ledger.corda.software import AGENT_USER, CordaSoftware
from ledger.platform import Identity, identities
from ledger.software import (
    AGAIN_STATUS,
    Authority,
    Documents,
    Figure,
    Member,
    Place,
    Process,
    Readiness,
    RpcUser,
    Software,
    SoftwareError,
    Surroundings,
    UntrustedError,
    WaitingError,
    Zone,
)
from local import corda, postgres
from local.corda import Network

pytestmark = [
    pytest.mark.ledger,
    pytest.mark.skipif(corda.missing() is not None, reason=str(corda.missing())),
]

HOST = f"127.94.{os.getpid() >> 8 & 255}.{os.getpid() & 255}"
"""The VM of this run alone: ports are fixed, and tests may run twice at once."""
RPC_PASSWORD = "the-password-of-the-loan-desk"
START_SECONDS = 150

T = TypeVar("T")


async def rpc_users() -> list[RpcUser]:
    return [RpcUser("loan_desk", RPC_PASSWORD, ("ALL",))]


async def administrator() -> tuple[str, str]:
    return postgres.ADMINISTRATOR, postgres.PASSWORD


async def no_key() -> bytes:
    raise AssertionError("nobody asks the authority here")


def surroundings(installed: Installed, member: str) -> Surroundings:
    documents: Documents = None  # type: ignore[assignment]  # The network of the test keeps its own.
    return Surroundings(
        member=member,
        version=corda.VERSION,
        installation=installed.folder,
        frontend=HOST,
        documents=documents,
        network=Authority("https://nobody.invalid", no_key),
        trust_root=None,
        rpc_users=rpc_users,
        listen=HOST,
    )


@dataclass
class Vm:
    """One identity's places and processes, an epoch after the other."""

    server: postgres.Server
    network: Network
    around: Surroundings
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
        self.software = CordaSoftware(self.around, self.network)
        self.keys = self.software.make_secrets(self.identity)
        (self.folder / "kept").mkdir(parents=True)

    @property
    def database(self) -> str:
        return f"{self.around.member}-{self.identity.name}"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    async def prepare(self) -> None:
        """As an agent does it with a new lease."""
        self.epoch += 1
        for name in ("scratch", "secrets"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
            (self.folder / name).mkdir(mode=0o700)
        for name, blob in self.keys.items():
            (self.folder / "secrets" / name).write_bytes(blob)
        fence = PostgresFence("127.0.0.1", self.server.port, administrator, self.server.root_certificates)
        self.place = Place(
            identity=self.identity,
            epoch=self.epoch,
            kept=self.folder / "kept",
            scratch=self.folder / "scratch",
            secrets=self.folder / "secrets",
            database=await fence.close_older(self.database, self.epoch, known=self.epoch > 1),
            network_document=None,
        )
        await self.software.prepare(self.place)
        (self.process,) = self.software.processes(self.place)

    async def start(self) -> None:
        """Start the prepared node, and follow it until it is ready."""
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
        """Wait for a query's answer."""
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
def network(installed: Installed, runner: asyncio.Runner) -> Network:
    made = Network(installed, HOST)
    runner.run(made.sign_parameters())
    return made


@dataclass(frozen=True)
class Lab:
    """What all identities of these tests share."""

    installed: Installed
    server: postgres.Server
    network: Network
    runner: asyncio.Runner
    folder: Path

    def vm(self, member: str, frontend: str = HOST) -> Vm:
        (identity,) = identities(CORDA, f"O=Bank {member[-1].upper()}, L=London, C=GB", 1)
        around = replace(surroundings(self.installed, member), frontend=frontend)
        return Vm(self.server, self.network, around, self.folder / member, identity, self.runner)


def generate_info(vm: Vm, installed: Installed) -> bytes:
    """What a node says of itself as it starts, without the rest of a start."""
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
    info = vm.run(vm.software.info(vm.place))
    assert info, "a node writes it as it starts"
    return info


@pytest.fixture(scope="module")
def lab(
    installed: Installed,
    runner: asyncio.Runner,
    server: postgres.Server,
    network: Network,
    tmp_path_factory: pytest.TempPathFactory,
) -> Lab:
    return Lab(installed, server, network, runner, tmp_path_factory.mktemp("lab"))


@pytest.fixture(scope="module")
def vm(lab: Lab) -> Iterator[Vm]:
    """A node that runs, of bank A."""
    made = lab.vm("bank-a")
    try:
        made.run(made.prepare())
        made.run(made.start())
        yield made
    finally:
        if made.running:
            made.run(made.running.stop(0))


@pytest.fixture(scope="module")
def peer(lab: Lab) -> Member:
    """Bank B, whose node tells of itself and is not there."""
    # A VM of its own: its ports are those of bank A's.
    made = lab.vm("bank-b", "127.94.255.254")
    made.run(made.prepare())
    info = generate_info(made, lab.installed)
    return Member("bank-b", {made.identity.legal_name: "127.94.255.254:10000"}, b"{}", (info,))


# --- A node that runs ----------------------------------------------------------------------------------------------


def test_it_is_a_software(vm: Vm) -> None:
    software: Software = vm.software
    assert set(software.make_secrets(vm.identity)) == {each.name for each in vm.identity.role.secrets}
    vm.identity.role.check_secrets(software.make_secrets(vm.identity))


def test_it_is_up_before_it_is_ready(vm: Vm) -> None:
    assert [readiness for readiness, _ in vm.seen] == [Readiness.DOWN, Readiness.UP, Readiness.READY], (
        "its wrapper answers at once, and says when Corda has started, has its database and listens to peers"
    )
    print("ready after", {readiness.name: round(seconds, 1) for readiness, seconds in vm.seen})


def test_another_epochs_node_is_not_this_one(vm: Vm) -> None:
    other = replace(vm.place, epoch=vm.epoch + 1)
    assert vm.run(vm.software.readiness(other)) is Readiness.DOWN
    assert vm.run(vm.software.figures(other)) == {}, "whoever answers there, it is not the holder's node"


def test_its_database_is_spoken_to_over_tls_alone(vm: Vm) -> None:
    assert vm.place.database
    sessions = vm.query("SELECT usename, bool_and(ssl) FROM pg_stat_activity JOIN pg_stat_ssl USING (pid) GROUP BY 1")
    assert (vm.place.database.user, True) in sessions, "every connection of the node's pool"


def test_no_secret_leaves_memory(vm: Vm) -> None:
    secrets = [value for name, value in vm.process.environment.items() if name.startswith("LEDGER_")]
    assert len(secrets) == 5, "of key stores, database, two RPC users, and of the figures"
    written = " ".join(vm.process.argv) + vm.log
    for path in [*vm.place.scratch.rglob("*"), *vm.place.kept.rglob("*")]:
        # What is linked to is in memory.
        if path.is_file() and not path.is_symlink() and path.stat().st_size < 1 << 20:
            written += path.read_text(errors="replace")
    assert not [each for each in secrets if each in written], "not on a command line, in a log, or on a disk"
    for key in vm.keys.values():
        assert key.decode().splitlines()[1] not in written, "nor any key"
    assert sorted(path.name for path in vm.place.secrets.iterdir()) == ["certificates"], (
        "the node finds its key stores, and not the keys that they were made of: the CA's is none of its business"
    )


def test_what_must_outlive_the_vm_is_on_the_share(vm: Vm) -> None:
    assert (vm.place.scratch / "artemis").resolve() == (vm.place.kept / "artemis").resolve()
    assert (vm.place.kept / "artemis" / "journal").is_dir(), "messages that are received and not yet processed"


def test_it_counts(vm: Vm) -> None:
    async def counted() -> dict[Figure, float]:
        end = time.monotonic() + 20
        while set(found := await vm.software.figures(vm.place)) != set(Figure):
            assert time.monotonic() < end, found
            await asyncio.sleep(0.2)
        return dict(found)

    found = vm.run(counted())
    assert (found[Figure.TRANSACTIONS], found[Figure.FAILURES]) == (0, 0), "from its database, and from itself"


def test_its_information_is_its_own(vm: Vm, installed: Installed, network: Network) -> None:
    told = vm.run(tool_node_info(installed, network, read_info(vm)))
    assert (told["legalNames"], told["addresses"]) == ([vm.identity.legal_name], [f"{HOST}:10000"]), (
        "its name, and the frontend's address"
    )


async def tool_node_info(installed: Installed, network: Network, info: bytes) -> dict[str, Any]:
    given = {"document": corda.base64_of(info), "trustRoot": corda.encoded(network.root)}
    return await installed.tool("node-info", given)


# --- Applications --------------------------------------------------------------------------------------------------


def certificate_at(port: int) -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection((HOST, port), timeout=5) as connection, context.wrap_socket(connection) as secure:
        return secure.getpeercert(binary_form=True) or b""


def test_applications_find_one_certificate_on_both_of_its_ports(vm: Vm, network: Network) -> None:
    chains = vm.run(network.certificates(vm.identity, vm.keys))
    wanted = chains.rpc.public_bytes(Encoding.DER)
    assert certificate_at(10100) == wanted, "the certificate that the bank's applications trust"
    assert certificate_at(10200) == wanted, "the balancer may send them here, to the same node"


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
def test_rpc_wants_a_users_password_and_shows_its_own_certificate(
    vm: Vm, installed: Installed, user: str, password: str, store: str
) -> None:
    with pytest.raises(ToolError) as refused:
        vm.run(drain_as(vm, installed, user, password, store))
    assert password not in str(refused.value), "what is logged tells no password"
    assert vm.query("SELECT 1 FROM corda.node_properties WHERE property_value = 'true'") == [], "nothing was done"


# --- Members -------------------------------------------------------------------------------------------------------


KNOWN = "SELECT party_name FROM corda.node_info_party_cert ORDER BY 1"


def test_a_member_is_admitted_to_the_running_node(vm: Vm, peer: Member) -> None:
    own, other = vm.identity.legal_name, next(iter(peer.addresses))
    vm.run(vm.software.admit(vm.place, peer))
    vm.run(vm.until(KNOWN, [(own,), (other,)]))
    again = time.monotonic()
    vm.run(vm.software.admit(vm.place, peer))
    assert time.monotonic() - again < 1, "what was proven once is not proven again"

    async def seen() -> None:
        end = time.monotonic() + 45
        wanted = {Figure.MEMBERS_KNOWN: 2, Figure.MEMBERS_REACHABLE: 1}
        while not wanted.items() <= (found := await vm.software.figures(vm.place)).items():
            assert time.monotonic() < end, found
            await asyncio.sleep(0.5)

    vm.run(seen())


def refused(vm: Vm, member: Member, reason: str) -> None:
    before = sorted(path.name for path in (vm.place.scratch / "additional-node-infos").iterdir())
    with pytest.raises(UntrustedError, match=reason):
        vm.run(vm.software.admit(vm.place, member))
    after = sorted(path.name for path in (vm.place.scratch / "additional-node-infos").iterdir())
    assert before == after, "nothing of it was taken"


def test_what_a_member_can_not_prove_is_not_taken(vm: Vm, peer: Member) -> None:
    (name,), (info,) = peer.addresses, peer.infos
    vm.run(vm.software.admit(vm.place, peer))
    refused(vm, replace(peer, addresses={name: "127.94.255.254:10001"}), r"wanted 127\.94\.255\.254:10001, as on the")
    refused(vm, replace(peer, name="bank-c", addresses={}), "wanted a legal name that stands on the card")
    changed = bytearray(info)
    changed[-9] ^= 1
    refused(vm, replace(peer, infos=(info, bytes(changed))), "^node information: ")
    refused(vm, replace(peer, infos=(b"{}",)), "^node information: it is no SignedNodeInfo")


def test_a_nodes_own_information_is_not_for_itself(vm: Vm) -> None:
    own = Member("bank-a", {vm.identity.legal_name: f"{HOST}:10000"}, None, (read_info(vm),))
    vm.run(vm.software.admit(vm.place, own))
    assert not (vm.place.kept / "members" / "bank-a.json").exists(), "the bank's other nodes are what it may learn of"


# --- A network that changes ----------------------------------------------------------------------------------------


def test_it_is_stale_once_its_network_has_moved_on(vm: Vm, network: Network) -> None:
    assert vm.run(vm.software.stale(vm.place)) is None
    last = network.parameters
    try:
        network.due = True
        assert vm.run(vm.software.stale(vm.place)) == "its certificates are to be renewed"
        network.due = False
        vm.run(network.sign_parameters(epoch=2))
        assert vm.run(vm.software.stale(vm.place)) == "the network's parameters of epoch 2 follow those of epoch 1"
        vm.run(network.sign_parameters(epoch=1))
        assert vm.run(vm.software.stale(vm.place)) is None, "others of an epoch that is no newer change nothing"
    finally:
        network.parameters, network.due = last, False


def test_parameters_of_another_network_start_nothing(vm: Vm, network: Network, installed: Installed) -> None:
    last = network.parameters
    network.parameters = vm.run(Network(installed, HOST, "Other").sign_parameters())
    try:
        with pytest.raises(
            SoftwareError, match=r"^network parameters: .*; wanted them signed under the network's root$"
        ):
            vm.run(vm.software.stale(vm.place))
    finally:
        network.parameters = last


# --- Its end, and its next start -----------------------------------------------------------------------------------


def crash(server: postgres.Server) -> None:
    server.crash()
    server.start()


@pytest.mark.parametrize("fail", [postgres.Server.lose_session, crash], ids=["session", "server"])
def test_it_starts_again_with_its_database(vm: Vm, fail: Callable[[postgres.Server], None]) -> None:
    async def ended() -> None:
        assert vm.running
        end = asyncio.create_task(vm.running.wait())
        while not end.done():
            await vm.software.figures(vm.place)
            await asyncio.wait({end}, timeout=1)

    fail(vm.server)
    vm.run(asyncio.wait_for(ended(), 120))
    assert vm.running
    assert vm.run(vm.running.wait()) == AGAIN_STATUS, "it was no failure of its own"
    vm.run(vm.prepare())
    vm.run(vm.start())
    assert vm.seen[-1][0] is Readiness.READY, "what the crash left half done does not keep it from starting"


def test_it_drains_stops_and_goes_on_in_the_next_epoch(vm: Vm, peer: Member, installed: Installed) -> None:
    assert vm.running
    vm.run(vm.software.admit(vm.place, peer))
    vm.run(vm.until(KNOWN, [(vm.identity.legal_name,), *((name,) for name in peer.addresses)]))
    info = read_info(vm)
    (vm.place.kept / "failures.json").write_text(json.dumps({"failures": 7}))
    journal = sorted(path.name for path in (vm.place.kept / "artemis" / "journal").iterdir())

    began = time.monotonic()
    vm.run(vm.software.drain(vm.place, 20))
    draining = time.monotonic() - began
    assert vm.query("SELECT property_value FROM corda.node_properties") == [("true",)], "it takes no new flow"
    with pytest.raises(OSError, match="refused"):
        certificate_at(10200)
    assert certificate_at(10100), "applications are sent to other nodes; who waits for an answer gets it"

    began = time.monotonic()
    vm.run(vm.running.stop(vm.process.stop_seconds))
    stopping = time.monotonic() - began
    assert stopping < vm.process.stop_seconds, "it ends by itself"
    assert vm.run(vm.running.wait()) == 143, "of the signal, and not of force"
    assert vm.run(vm.software.readiness(vm.place)) is Readiness.DOWN

    began = time.monotonic()
    vm.run(vm.prepare())
    preparing = time.monotonic() - began
    assert vm.query("SELECT property_value FROM corda.node_properties") == [], "else it starts drained"
    assert vm.query("SELECT count(*) FROM corda.decentralized_trust_migrations") == [(1,)], "nothing to migrate"
    assert set(journal) <= {path.name for path in (vm.place.scratch / "artemis" / "journal").iterdir()}, (
        "its messages are where it finds them"
    )
    assert len(list((vm.place.scratch / "additional-node-infos").iterdir())) == 1, "it knows whom it knew, at once"
    vm.run(vm.start())
    own = [vm.run(tool_node_info(installed, vm.network, each))["serial"] for each in (info, read_info(vm))]
    assert own[0] == own[1], "peers learn nothing new: a takeover is none of their business"
    assert vm.run(vm.software.figures(vm.place))[Figure.FAILURES] == 7, "counted from its first start"
    vm.run(vm.software.expel(vm.place, peer.name))
    vm.run(vm.until("SELECT count(*) FROM corda.node_infos", [(1,)]))
    assert not list((vm.place.kept / "members").iterdir()), "nor does the next node learn of it again"
    timings = {"draining": draining, "stopping": stopping, "preparing": preparing, "starting": vm.seen[-1][1]}
    print({name: round(seconds, 1) for name, seconds in timings.items()})


# --- What can't be started -----------------------------------------------------------------------------------------


@pytest.fixture
def unstarted(vm: Vm, installed: Installed, tmp_path: Path) -> Vm:
    """An identity that nobody has started: it shares the database of the one that runs, and never gets to it."""
    made = replace_vm(vm, tmp_path)
    made.software = CordaSoftware(surroundings(installed, "bank-a"), vm.network)
    return made


def replace_vm(vm: Vm, folder: Path) -> Vm:
    made = object.__new__(Vm)
    made.__dict__.update(vm.__dict__)
    for name in ("kept", "scratch", "secrets"):
        (folder / name).mkdir()
    for name, blob in vm.keys.items():
        (folder / "secrets" / name).write_bytes(blob)
    made.place = replace(vm.place, kept=folder / "kept", scratch=folder / "scratch", secrets=folder / "secrets")
    return made


def test_a_library_that_was_meddled_with_is_not_run(unstarted: Vm, installed: Installed, tmp_path: Path) -> None:
    copy = tmp_path / "ledger"
    shutil.copytree(installed.folder, copy)
    jar = next(copy.glob("lib/corda-node-*.jar"))
    jar.chmod(0o644)
    with jar.open("ab") as file:
        file.write(b"\0")
    software = CordaSoftware(replace(unstarted.around, installation=copy), unstarted.network)
    with pytest.raises(SoftwareError, match=rf"lib/{jar.name}: SHA-256 is [0-9a-f]{{64}}; wanted [0-9a-f]{{64}}$"):
        unstarted.run(software.prepare(unstarted.place))
    for path in [copy, *copy.rglob("*")]:
        path.chmod(0o755)


def test_a_database_that_is_not_the_verified_one_gets_no_password(unstarted: Vm, tmp_path: Path) -> None:
    other = tmp_path / "other.crt"
    other.write_bytes(unstarted.network.root.public_bytes(Encoding.PEM))
    assert unstarted.place.database
    place = replace(unstarted.place, database=replace(unstarted.place.database, root_certificates=other))
    with pytest.raises(UnavailableError, match=r"^node-1: database: .*certificate verify failed"):
        unstarted.run(unstarted.software.prepare(place))


def test_before_the_authority_has_spoken_nothing_starts(unstarted: Vm) -> None:
    last = unstarted.network.parameters
    unstarted.network.parameters = None
    try:
        with pytest.raises(
            WaitingError, match=r"^node-1: the network has no parameters yet; wanted its authority to"
        ):
            unstarted.run(unstarted.software.prepare(unstarted.place))
    finally:
        unstarted.network.parameters = last


def test_what_the_agent_must_bring(unstarted: Vm) -> None:
    with pytest.raises(SoftwareError, match=r"^node-1: no database; wanted one"):
        unstarted.run(unstarted.software.prepare(replace(unstarted.place, database=None)))
    (unstarted.place.secrets / "tls-key").unlink()
    with pytest.raises(SoftwareError, match=r"^node-1: no secret tls-key; wanted it as a file$"):
        unstarted.run(unstarted.software.prepare(unstarted.place))
    with pytest.raises(SoftwareError, match=r"^node-1 is not prepared in epoch \d+$"):
        unstarted.software.processes(unstarted.place)


@pytest.mark.parametrize("name", ["loan-desk", AGENT_USER, ""])
def test_a_user_that_a_node_refuses_is_named(unstarted: Vm, name: str) -> None:
    async def users() -> list[RpcUser]:
        return [RpcUser(name, "x", ())]

    software = CordaSoftware(replace(unstarted.around, rpc_users=users), unstarted.network)
    with pytest.raises(SoftwareError, match=f"^RPC user '{name}'; wanted letters, digits and underscores, and not "):
        unstarted.run(software.prepare(unstarted.place))


def test_in_a_zone_the_node_fetches_the_parameters_itself(unstarted: Vm) -> None:
    root = unstarted.network.root.public_bytes(Encoding.PEM)
    zone = Zone("https://registration.invalid", "https://map.invalid", root)
    software = CordaSoftware(replace(unstarted.around, network=zone), unstarted.network)
    unstarted.run(software.prepare(unstarted.place))
    assert not (unstarted.place.scratch / "network-parameters").exists(), "of its network map"
    assert '"networkMapURL": "https://map.invalid"' in (unstarted.place.scratch / "node.conf").read_text()


def test_a_renewed_certificate_is_published(vm: Vm, installed: Installed, network: Network) -> None:
    before = vm.run(tool_node_info(installed, network, read_info(vm)))
    assert vm.running
    vm.run(vm.running.stop(vm.process.stop_seconds))
    network.renew()
    vm.run(vm.prepare())
    after = vm.run(tool_node_info(installed, network, generate_info(vm, installed)))
    renewed = vm.run(network.certificates(vm.identity, vm.keys)).identity[0]
    assert after["certificates"] == [corda.encoded(renewed)] != before["certificates"], "peers see it in time"
    assert after["serial"] > before["serial"], "and take it for newer"


def test_a_migration_that_was_cut_off_is_no_obstacle(vm: Vm) -> None:
    with vm.server.connect(vm.database) as connection:
        connection.execute("UPDATE corda.databasechangeloglock SET locked = true, lockedby = 'a VM that is gone'")
        connection.execute("UPDATE corda.decentralized_trust_migrations SET fingerprint = 'of an older version'")
    assert vm.running
    vm.run(vm.running.stop(vm.process.stop_seconds))
    vm.run(vm.prepare())
    assert len(vm.query("SELECT 1 FROM corda.decentralized_trust_migrations")) == 2, "another version was migrated to"
    assert vm.query("SELECT locked FROM corda.databasechangeloglock") == [(False,)]
    with pytest.raises(psycopg.OperationalError):
        # Whoever speaks without TLS is not let in.
        psycopg.connect(
            host="127.0.0.1",
            port=vm.server.port,
            dbname=vm.database,
            user="postgres",
            password="x",
            sslmode="disable",
        )
