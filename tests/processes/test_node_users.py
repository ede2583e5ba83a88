"""A node's processes under a separate user: isolated from the agent, other nodes, and Azure's services.

Requires root: it stands in for systemd, which starts the agent with four capabilities.
"""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from agent.messages import list_messages, set_aside
from agent.users import NodeUsers
from contract.egress import Egress, nftables
from contract.users import MAX_TASKS, NODE_USERS, PROGRAM, TOOL
from delivery.cloud_config import units
from host.calls import BoundedCalls, in_new_thread
from host.processes import confined, end_all
from lab import ROOT, echo
from lab.banks import azurite, corda, npm
from lab.banks.process import until
from ledger.corda.installation import Installed, ToolError
from tests.processes.seccomp import restrictable
from tests.processes.vms import IDENTITY, Bank, Vm, eventually, ready

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="not root, who alone starts processes of other users")

NODE, OTHER = NODE_USERS[IDENTITY].number, NODE_USERS["node-2"].number
PORT = echo.ECHO.roles[0].ports[0].base
CAPABILITIES = ("setuid", "setgid", "setpcap", "kill")


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A folder that every user may pass through, unlike pytest's."""
    folder = Path(tempfile.mkdtemp(prefix="node-users-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def python(place: Path) -> str:
    """This environment's Python, for users that may not read its folder."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    (packages,) = (Path(path) for path in sys.path if path.endswith(f"{version}/site-packages"))
    for base in (Path(sys.executable).resolve(), Path("/usr/bin") / version):
        made = place / "venv" / "bin" / "python"
        shutil.rmtree(place / "venv", ignore_errors=True)
        made.parent.mkdir(parents=True)
        made.symlink_to(base)
        (place / "venv" / "pyvenv.cfg").write_text(f"home = {base.parent}\n")
        (place / "venv" / "lib" / version).mkdir(parents=True)
        (place / "venv" / "lib" / version / "site-packages").symlink_to(packages)
        if said(OTHER, str(made), "-c", "import agent.vm, lab.echo; print('whole')") == "whole":
            return str(made)
    pytest.skip("no Python here that other users may run; wanted it for an agent that is not root")


def run(user: int, *command: str) -> "subprocess.CompletedProcess[str]":
    """A command as a confined user; returns the result."""
    return subprocess.run(
        # By a shell: setpriv itself starts a program with root's rights.
        confined(("sh", "-c", 'exec "$@"', "sh", *command), user),
        cwd=ROOT,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        timeout=30,
        env={"PATH": os.defpath},
    )


def said(user: int, *command: str) -> str | None:
    """The output; None if it fails."""
    done = run(user, *command)
    return done.stdout.strip() if done.returncode == 0 else None


def as_systemd_does(python: str, unit: Path) -> Sequence[str]:
    """The user, capabilities and filter of system calls that the agent's unit sets."""
    given = ",".join(f"+{name}" for name in CAPABILITIES)
    ids = ("--reuid", f"{PROGRAM.number}", "--regid", f"{PROGRAM.number}", "--groups", f"{PROGRAM.number}")
    rights = (f"--inh-caps=-all,{given}", f"--ambient-caps=-all,{given}", f"--bounding-set=-all,{given}")
    bits = ("--securebits=+noroot,+noroot_locked", "--no-new-privs")
    filtered = (python, "-m", "tests.processes.seccomp", str(unit)) if restrictable() else ()
    return ("setpriv", *ids, *rights, *bits, "--", "sh", "-c", 'umask 0027; exec "$@"', "sh", *filtered, python)


@pytest.fixture(scope="module")
def blobs() -> Iterator[str]:
    if not npm.available():
        pytest.skip("no node and npm here; wanted them for Azurite")
    with azurite.blob_service() as (url, _):
        yield url


@pytest.fixture
def bank(place: Path, python: str, blobs: str) -> Iterator[Bank]:
    """A bank whose agents run as on a VM, with isolated nodes."""
    unit = place / "ledger-agent.service"
    unit.write_text(units()[unit.name])
    member = f"bank-{uuid4().int % 10**6}"
    made = Bank(place / member, blobs, member=member, run_as=as_systemd_does(python, unit), owner=PROGRAM.number)
    yield made
    made.end()


def status_of(pid: int) -> dict[str, list[str]]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.split() for name, _, value in (line.partition(":") for line in lines)}


def nodes(vm: Vm) -> list[int]:
    """The processes of the node's user on a VM."""
    return [pid for pid in vm.tree() if status_of(pid)["Uid"][0] == str(NODE)]


def alive(user: int) -> list[int]:
    """Every process of a user on this machine."""
    listed = subprocess.run(["pgrep", "--uid", str(user)], capture_output=True, text=True, check=False)
    return [int(pid) for pid in listed.stdout.split()]


async def line(vm: Vm, text: str) -> str:
    reader, writer = await asyncio.open_connection(vm.host.address, PORT)
    writer.write(f"{text}\n".encode())
    answer = await reader.readline()
    writer.close()
    return answer.decode().strip()


def test_a_node_is_separated_from_its_agent_and_ends_with_it(bank: Bank) -> None:
    left = subprocess.Popen(confined(("sh", "-c", "exec sleep 600"), NODE))
    first = bank.start()
    eventually(lambda: ready(first), "the first node")
    assert left.wait(timeout=5) == -signal.SIGKILL, "processes of an earlier run would have the node's rights"
    (node,) = nodes(first)
    (limit,) = [line for line in Path(f"/proc/{node}/limits").read_text().splitlines() if "Max processes" in line]
    assert limit.split()[2:4] == [str(MAX_TASKS)] * 2, "the agent must be able to end a fork bomb"
    agent = next(pid for pid in first.tree() if pid != node and status_of(pid)["Uid"][0] == str(PROGRAM.number))
    assert status_of(agent)["Gid"] == [*[str(PROGRAM.number)] * 3, str(NODE)], (
        "only the group for files: with another effective group its children would lose capabilities on older kernels"
    )
    status = status_of(node)
    assert status["Uid"] == status["Gid"] == [str(NODE)] * 4, "a separate user and group, without a way back"
    assert status["Groups"] == [], "no group of root"
    for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[kind][0], 16) == 0, f"{kind}: it has no capability"
    assert status["NoNewPrivs"] == ["1"], "and can't gain any"

    assert asyncio.run(line(first, "one")) == "one", "the node serves and writes its journal"
    folder = bank.folder / "share" / IDENTITY / "epoch-1"
    secrets, scratch = first.runtime / "secrets", bank.folder / first.name / "node"
    assert said(NODE, "cat", str(folder / echo.JOURNAL)) == "1 one", "the node's own file"
    assert said(NODE, "cat", str(secrets / "key")) is not None, "the node's own file"
    for path in (f"/proc/{agent}/environ", f"/proc/{agent}/mem", str(bank.folder / "keys" / IDENTITY)):
        assert run(NODE, "head", "--bytes=1", path).returncode != 0, f"{path} belongs to the agent"
    for script in (
        f"kill -s KILL {agent}",
        f"touch {folder}/other",
        f"rm -rf {folder}/{echo.JOURNAL}; test ! -e {folder}/{echo.JOURNAL}",
        f"mv {scratch}/echo.json {scratch}/mine.json",
        f"echo x >{secrets}/key",
        f"ls {bank.folder}/share",
        f"ls {first.runtime}",
    ):
        assert run(NODE, "sh", "-c", script).returncode != 0, f"{script}: a node must not change the agent's files"

    for other in (folder / echo.JOURNAL, secrets / "key", secrets / "password", scratch / "echo.json"):
        assert run(OTHER, "cat", str(other)).returncode != 0, f"{other} belongs to another identity"
        assert run(TOOL.number, "cat", str(other)).returncode != 0, f"{other} must not be readable by the tool"
    assert run(OTHER, "cat", f"/proc/{node}/environ").returncode != 0, "the file has the database's password"
    assert run(OTHER, "kill", "-s", "KILL", str(node)).returncode != 0

    first.process.send_signal(signal.SIGKILL)
    first.process.wait()
    until(lambda: not alive(NODE), 5, "the kernel ends the node of an agent that is killed")


def test_the_next_holder_takes_over_the_nodes_folder_and_kills_its_hidden_processes(bank: Bank) -> None:
    first = bank.start()
    eventually(lambda: ready(first), "the first node")
    assert asyncio.run(line(first, "one")) == "one"
    first.send(signal.SIGKILL)
    journal = bank.folder / "share" / IDENTITY / "epoch-1" / echo.JOURNAL
    # As if the node had made it with private permissions.
    os.chown(journal, NODE, NODE)
    journal.chmod(0o600)
    second = bank.start()
    eventually(lambda: ready(second), "the node on another VM")
    journal = bank.folder / "share" / IDENTITY / f"epoch-{bank.record().epoch}" / echo.JOURNAL
    assert asyncio.run(line(second, "two")) == "two"
    assert [each.split()[1] for each in journal.read_text().splitlines()] == ["one", "two"], (
        "the agent copies files of the node's user, and the node continues with the copy"
    )
    scratch = bank.folder / second.name / "node"
    hide = f"""
    cd {scratch}
    mkdir own sticky; touch own/file sticky/file; chmod 0 own; chmod 1770 sticky
    for level in $(seq 1100); do mkdir d; cd d; done
    mkdir /dev/shm/left-behind; touch /dev/shm/left-behind/file; chmod 0 /dev/shm/left-behind
    ln -s / /tmp/left-behind
    touch {scratch}/hidden; exec setsid sleep 600
    """
    hidden = subprocess.Popen(confined(("sh", "-c", hide), NODE))
    eventually((scratch / "hidden").exists, "a process that left its node's group")
    second.process.send_signal(signal.SIGTERM)
    assert second.process.wait(timeout=30) == 0, second.log.read_text()[-2000:]
    assert hidden.wait(timeout=5) == -signal.SIGKILL, "processes that left the node's process group end with the node"
    assert alive(NODE) == []
    assert not scratch.exists(), "closed or deeply nested folders are removed too"
    assert not (second.runtime / "secrets").exists()
    left = [folder for folder in ("/dev/shm", "/tmp") if os.path.lexists(f"{folder}/left-behind")]  # noqa: S108
    assert left == [], "the VM's next node would lack the memory and the disk"


def test_a_users_processes_are_killed_even_at_its_process_limit() -> None:
    bomb = ("sh", "-c", "for _ in $(seq 100); do setsid sleep 600 & done")
    assert subprocess.run(confined(bomb, OTHER, tasks=40), check=False, timeout=30).returncode != 0
    assert 30 < len(alive(OTHER)) <= 40, "a node can't take the tasks of its agent"
    more = ("sh", "-c", "sleep 9 & wait")
    assert subprocess.run(confined(more, OTHER, tasks=40), check=False, timeout=30).returncode != 0
    asyncio.run(end_all(OTHER))
    until(lambda: not alive(OTHER), 5, "the end of all processes")


def test_threads_access_files_as_the_group_of_the_held_identity(place: Path) -> None:
    """As the agent's calls of share and disk do; an older thread pool keeps its group."""
    users, own = NodeUsers(), os.getgid()

    def group(name: str) -> int:
        (place / name).touch()
        return (place / name).stat().st_gid

    pool = ThreadPoolExecutor(max_workers=1)

    async def hold() -> None:
        loop = asyncio.get_running_loop()
        assert await loop.run_in_executor(pool, group, "before") == own
        assert users.take(IDENTITY) == NODE
        try:
            assert group("loop") == NODE
            assert await in_new_thread(group, "new") == NODE
            assert await BoundedCalls("share")(group, "call") == NODE
            assert await loop.run_in_executor(pool, group, "pool") == own, (
                "a hanging thread must not prevent setting the group"
            )
        finally:
            users.leave()
        assert group("after") == await in_new_thread(group, "after-new") == own

    asyncio.run(hold())
    may = ("setpriv", "--reuid", f"{PROGRAM.number}", "--regid", f"{PROGRAM.number}", "--clear-groups", "--")
    done = subprocess.run(
        [*may, sys.executable, "-c", f"from agent.users import NodeUsers; NodeUsers().take({IDENTITY!r})"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert f"PermissionError: setfsgid to {NODE} was refused; wanted the capability SETGID" in done.stderr


def test_a_nodes_messages_are_read_and_set_aside_by_its_own_user(place: Path) -> None:
    durable, asked = place / "durable", list[int | None]()
    (durable / "artemis").mkdir(parents=True)
    os.chown(durable / "artemis", PROGRAM.number, NODE)

    async def tool(*_: object, user: int | None) -> dict[str, object]:
        asked.append(user)
        return {"messages": []}

    played: Any = SimpleNamespace(tool=tool)
    list_messages(played, durable)
    file = set_aside(played, durable, 7)
    assert asked == [NODE, NODE], "the node could not write files of root or the agent"
    owner = file.parent.stat()
    assert (owner.st_uid, owner.st_gid) == (NODE, NODE), "the next epoch's copy is made by its group"


PLAYED_JAVA = r"""#!/bin/sh
cat >/dev/null
printf '{"ids": "%s", "rights": "%s"}' "$(id -u) $(id -G)" "$(grep CapBnd /proc/self/status | cut -f 2)"
"""


def test_cordas_tool_reads_untrusted_bytes_as_a_user_without_rights(place: Path) -> None:
    if why := corda.missing():
        pytest.skip(why)
    real = corda.load()
    copy = place / "corda"
    shutil.copytree(real.folder, copy)
    shutil.copytree(real.manifest.java_home, place / "java", symlinks=True)
    tool = Installed(copy, real.manifest.model_copy(update={"java_home": place / "java"}))
    with pytest.raises(ToolError, match="CertificateException: Could not parse certificate"):
        asyncio.run(tool.tool("node-info", {"documents": ["eHh4"], "trustRoot": ""}, user=TOOL.number))

    java = place / "java-home" / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(PLAYED_JAVA)
    java.chmod(0o755)
    played = Installed(place, tool.manifest.model_copy(update={"java_home": java.parents[1]}))
    answer = asyncio.run(played.tool("node-info", {}, user=TOOL.number))
    assert answer["ids"] == f"{TOOL.number} {TOOL.number}", (
        "a separate user, which owns no file and is in no other group"
    )
    assert answer["rights"] == "0" * 16, "and it has no capability"


# --- Egress of nodes -----------------------------------------------------------------------------------------------

VM, PEER, DATABASE, ENDPOINT = "10.1.0.4", "10.2.0.254", "10.1.1.70", "10.1.1.4"
METADATA, WIRE_SERVER = "169.254.169.254", "168.63.129.16"
LISTENING = """
import socket, sys, time
listening = []
for address in sys.argv[1:]:
    host, port = address.split(":")
    listening.append(socket.create_server((host, int(port))))
print("listening", flush=True)
time.sleep(600)
"""
REACHED = """
import socket, sys
host, port = sys.argv[1].split(":")
try:
    socket.create_connection((host, int(port)), timeout=5).close()
except OSError as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


class Namespace:
    """A separate network namespace, which lasts as long as its first process."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(["unshare", "--net", "sleep", "600"])
        own = os.readlink("/proc/self/ns/net")
        eventually(lambda: os.readlink(f"/proc/{self.process.pid}/ns/net") != own, "a network namespace")
        self.run("ip", "link", "set", "lo", "up")

    def inside(self, *command: str) -> list[str]:
        return ["nsenter", "--target", str(self.process.pid), "--net", *command]

    def run(self, *command: str) -> None:
        done = subprocess.run(self.inside(*command), capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}: {done.stderr}"


@pytest.fixture(scope="module")
def vm_network(place: Path) -> Iterator[Namespace]:
    """A VM's network with the egress rules, and servers at the addresses of Azure's services."""
    if not (shutil.which("nft") and shutil.which("ip")):
        pytest.skip("no nft or ip here; wanted them for a VM's firewall")
    vm, azure = Namespace(), Namespace()
    vm.run("ip", "link", "add", "nodes", "type", "veth", "peer", "name", "azure", "netns", str(azure.process.pid))
    vm.run("ip", "address", "add", f"{VM}/24", "dev", "nodes")
    vm.run("ip", "link", "set", "nodes", "up")
    vm.run("ip", "route", "add", "default", "dev", "nodes")
    azure.run("ip", "link", "set", "azure", "up")
    azure.run("ip", "route", "add", f"{VM}/32", "dev", "azure")
    for address in (PEER, DATABASE, ENDPOINT, METADATA, WIRE_SERVER):
        azure.run("ip", "address", "add", f"{address}/32", "dev", "azure")
    rules = place / "egress.nft"
    rules.write_text(nftables([Egress(("10.0.0.0/8",), range(10000, 10100)), Egress(("10.1.1.64/27",), (5432,))]))
    for _ in range(2):
        vm.run("nft", "--file", str(rules))
    there = [f"{PEER}:10000", f"{PEER}:8443", f"{DATABASE}:5432", f"{ENDPOINT}:443", f"{ENDPOINT}:2049"]
    there += [f"{METADATA}:80", f"{WIRE_SERVER}:80", f"{WIRE_SERVER}:32526"]
    listening = [
        subprocess.Popen(network.inside(sys.executable, "-c", LISTENING, *addresses), stdout=subprocess.PIPE)
        for network, addresses in ((azure, there), (vm, ["127.0.0.1:8080"]))
    ]
    for each in listening:
        assert each.stdout
        assert each.stdout.readline() == b"listening\n"
    yield vm
    ended: list[subprocess.Popen[bytes]] = [*listening, vm.process, azure.process]
    for process in ended:
        with process:
            process.kill()


def why_not(network: Namespace, python: str, user: int, address: str) -> str:
    """Why a user's process can't connect; empty if it can."""
    command = network.inside(*confined(("sh", "-c", 'exec "$@"', "sh", python, "-c", REACHED, address), user))
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode in (0, 1)
    return done.stderr.strip()


def test_a_node_reaches_peers_database_and_loopback_and_nothing_else(vm_network: Namespace, python: str) -> None:
    for address in (f"{PEER}:10000", f"{DATABASE}:5432", "127.0.0.1:8080"):
        for user in (NODE, OTHER):
            assert why_not(vm_network, python, user, address) == "", f"a node needs {address}"
    for address, what in {
        f"{METADATA}:80": "the metadata service has the tokens of the VM's identity",
        f"{WIRE_SERVER}:80": "the wire server has the VM's configuration",
        f"{WIRE_SERVER}:32526": "so has its other port",
        f"{ENDPOINT}:443": "vaults and storage are the agent's",
        f"{ENDPOINT}:2049": "the share is mounted by the kernel",
        "127.0.0.1:20049": "there the mount helper's TLS takes anybody for root, who owns all identities' folders",
        f"{PEER}:8443": "the agent reads members' network information",
        f"{DATABASE}:22": "the database is one port",
    }.items():
        refused = why_not(vm_network, python, NODE, address)
        assert "timed out" not in refused, f"{address}: a node would wait, while a rejection is immediate"
        assert refused, f"{address}: {what}"


def test_the_tool_connects_to_nothing_and_the_agent_to_everything(vm_network: Namespace, python: str) -> None:
    for address in (f"{PEER}:10000", f"{DATABASE}:5432", "127.0.0.1:8080", f"{METADATA}:80"):
        assert why_not(vm_network, python, TOOL.number, address), f"{address}: the tool only reads its input"
    for address in (f"{METADATA}:80", f"{ENDPOINT}:443", f"{PEER}:8443"):
        assert why_not(vm_network, python, PROGRAM.number, address) == "", f"{address}: the agent's own flows"
