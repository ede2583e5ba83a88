"""A node VM from its first boot on: cloud-init's work from a plan, and systemd's with its units.

Each test leaves a VM whose node is ready; those with `ending` are in a later epoch then, and come last.
"""

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from agent.node import SILENT_SECONDS
from contract.metrics import Cause
from contract.timing import LEASE, STANDBY
from contract.users import NODE_USERS, PROGRAM, TOOL
from contract.vm_configuration import SHARE
from delivery.cloud_config import units
from delivery.unpack import unpacked
from host.status import State
from lab.vm.network import METADATA_ADDRESS
from tests.delivered import ARCHIVE, PREFIX, document_of
from tests.vm.bank import PATIENCE_SECONDS, Bank, eventually
from tests.vm.planned import IDENTITY, with_stand_in_platform

USER = NODE_USERS[IDENTITY]
RIGHTS = (5, 6, 7, 8)
"""Of the agent: KILL, SETGID, SETUID, SETPCAP, capability.h."""
UNITS = tuple(units())
STATE, RUNTIME = Path("/var/lib/ledger-agent"), Path("/run/ledger-agent")


def boot_of(bank: Bank) -> str | None:
    """The id of the current boot; None while sign-in is impossible."""
    return bank.guest.try_run("cat /proc/sys/kernel/random/boot_id")


def processes(bank: Bank) -> dict[str, list[int]]:
    """Processes of the agent's control group, by the names of their users."""
    control_group = bank.agent("ControlGroup")
    listed = bank.guest.run(
        f"ps --no-headers -o user:32,pid -p $(paste -sd, /sys/fs/cgroup{control_group}/cgroup.procs)"
    )
    found: dict[str, list[int]] = {}
    for line in listed.splitlines():
        user, pid = line.split()
        found.setdefault(user, []).append(int(pid))
    return found


def test_cloud_init_detects_azure_and_succeeds(bank: Bank) -> None:
    result = bank.cloud_init()
    log = bank.guest.run("cat /var/log/cloud-init.log")
    assert result["status"] == "done", (
        f"{result}\n{log[-3000:]}\n{bank.guest.run(f'tail -n 50 {PREFIX}/install.log')}"
    )
    assert result["errors"] == []
    assert result["datasource"] == "azure"
    assert bank.guest.run("hostname").strip() == bank.site.metadata.host_name
    assert "Ready" in bank.site.metadata.reported[-1], "the wire server was informed that the VM is provisioned"


def test_the_vm_has_the_plans_files_byte_for_byte(bank: Bank) -> None:
    given = bank.given
    there = bank.guest.run("base64 --wrap 0 /var/lib/cloud/instance/user-data.txt")
    assert base64.b64decode(there) == given.document.encode() or there == given.custom_data
    for each in document_of(given.document)["write_files"]:
        content = base64.b64decode(each["content"]) if "encoding" in each else each["content"].encode()
        state = bank.guest.run(f"sha256sum <{each['path']}; stat --format '%a %U:%G' {each['path']}").split()
        assert state == [hashlib.sha256(content).hexdigest(), "-", each["permissions"][1:], "root:root"], each["path"]
    archive = base64.b64decode(bank.guest.run(f"base64 --wrap 0 {ARCHIVE}"))
    with with_stand_in_platform():
        wanted = unpacked(archive)
    assert archive.endswith(base64.b64decode(given.user_data)), "the user data"
    listed = bank.guest.run(f"cd {PREFIX}/source && find . -type f -name '*.[pj]*' | xargs sha256sum").splitlines()
    assert {line.split("  ./")[1]: line.split()[0] for line in listed} == {
        path: hashlib.sha256(text.encode()).hexdigest() for path, text in wanted.items()
    }, "the programs' sources, and no bytecode"


def test_packages_wheels_and_users_are_installed(bank: Bank) -> None:
    run = bank.guest.run
    packages = " ".join(document_of(bank.given.document)["packages"])
    assert {*run(f"dpkg-query --show --showformat '${{db:Status-Status}}\\n' {packages}").split()} == {"installed"}
    assert run(f"{PREFIX}/venv/bin/python --version").startswith("Python 3.12."), "as on Ubuntu 24.04"
    frozen = run(f"{PREFIX}/venv/bin/pip freeze --disable-pip-version-check").lower().replace("_", "-").split()
    locked = re.findall(r"^(\S+==\S+) ", bank.given.files[f"{PREFIX}/requirements.txt"], re.MULTILINE)
    assert sorted(frozen) == sorted(each.lower().replace("_", "-") for each in locked), "with these hashes"
    users = (PROGRAM, *NODE_USERS.values(), TOOL)
    listed = [line.split(":") for line in run(f"getent passwd {' '.join(user.name for user in users)}").splitlines()]
    assert [(name, int(uid), int(gid)) for name, _, uid, gid, *_ in listed] == [
        (user.name, user.number, user.number) for user in users
    ]


def test_systemd_runs_the_units_without_warnings(bank: Bank) -> None:
    bank.await_ready()
    states = bank.guest.run(f"systemctl show --value --property ActiveState {' '.join(UNITS)}").split()
    assert states == ["active"] * len(UNITS), dict(zip(UNITS, states, strict=True))
    verified = bank.guest.run(f"systemd-analyze verify {' '.join(UNITS)} 2>&1")
    assert verified == "", "systemd ignores invalid lines, and reports them only here"
    assert bank.guest.run("systemctl --failed --no-legend --plain") == ""
    assert bank.agent("NRestarts") == "0", bank.guest.journal("ledger-agent")
    assert bank.agent("StatusText").startswith("holding node-1"), "the agent notifies systemd"


def test_the_agent_leases_mounts_the_share_and_starts_its_node(bank: Bank) -> None:
    health = bank.await_ready()
    record = bank.record()
    assert (health["identity"], health["epoch"], record.epoch) == (IDENTITY, 1, 1)
    assert record.history[-1].vm == bank.site.metadata.host_name
    mounted = json.loads(bank.guest.run(f"findmnt --json --mountpoint {SHARE}"))["filesystems"][0]
    assert mounted["fstype"] == "nfs4"
    assert {"vers=4.1", "nosuid", "nodev", "noexec", "noatime"} <= {*mounted["options"].split(",")}
    assert bank.echo("one") == "one", "the node serves requests"
    assert bank.journal(1) == ["1 one"], "its journal is on the share"
    assert {*bank.site.keys.secrets} != set(), "its keys are in the vault"


def test_agent_and_node_are_isolated(bank: Bank) -> None:
    found, run = processes(bank), bank.guest.run
    assert {*found} == {PROGRAM.name, USER.name}
    (agent, *_), (node, *_) = found[PROGRAM.name], found[USER.name]
    rights = dict(re.findall(r"(Cap\w+|NoNewPrivs|Seccomp):\s+(\w+)", run(f"cat /proc/{agent}/status")))
    assert int(rights["CapEff"], 16) == int(rights["CapBnd"], 16) == sum(1 << number for number in RIGHTS), rights
    assert (rights["NoNewPrivs"], rights["Seccomp"]) == ("1", "2")
    assert re.search(r"CapEff:\s+0+\n", run(f"cat /proc/{node}/status")), "the node has no capability"
    modes: Mapping[str, str] = {
        str(SHARE): f"711 {PROGRAM.name}",
        f"{SHARE}/{IDENTITY}": f"710 {PROGRAM.name}",
        str(STATE): f"711 {PROGRAM.name}",
        str(RUNTIME): f"711 {PROGRAM.name}",
    }
    for path, wanted in modes.items():
        assert run(f"stat --format '%a %U' {path}").strip() == wanted, path
    assert run(f"findmnt --noheadings --output FSTYPE --target {RUNTIME}/secrets").strip() == "tmpfs", (
        "the folder is in memory"
    )
    as_node = f"setpriv --reuid {USER.number} --regid {USER.number} --clear-groups"
    assert bank.guest.try_run(f"{as_node} true") is not None, "otherwise a refusal below would prove nothing"
    for script in (
        f"cat /proc/{agent}/environ",
        f"ls {SHARE}",
        f"touch {SHARE}/{IDENTITY}/x",
        f"curl --silent --max-time 5 http://{METADATA_ADDRESS}/metadata/instance --header Metadata:true",
        f"kill -s KILL {agent}",
    ):
        assert bank.guest.try_run(f"{as_node} {script}") is None, f"{script}: a node must not"


# --- Faults of a VM ------------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.usefixtures("ending")
def test_a_killed_agent_ends_its_node_and_restarts(bank: Bank) -> None:
    before, found = bank.await_ready()["epoch"], processes(bank)
    written = bank.journal(before)
    bank.guest.run("systemctl kill --kill-whom main --signal KILL ledger-agent")
    gone = " ".join(map(str, found[USER.name]))
    eventually(
        lambda: bank.guest.try_run(f"! ps --no-headers -p {gone.replace(' ', ',')}") is not None, "the node's end"
    )
    health = bank.await_ready(after=before)
    assert health["epoch"] == before + 1
    assert "code=killed, status=9/KILL" in bank.guest.journal("ledger-agent")
    assert bank.echo("two") == "two"
    assert bank.journal(before + 1) == [*written, f"{before + 1} two"], (
        "the next epoch continues with the last one's state"
    )


@pytest.mark.long
@pytest.mark.usefixtures("ending")
def test_systemd_kills_a_frozen_agent_and_its_node(bank: Bank) -> None:
    before, found = bank.await_ready()["epoch"], processes(bank)
    bank.guest.run("systemctl kill --kill-whom main --signal STOP ledger-agent")
    health = bank.await_ready(after=before)
    assert f"Watchdog timeout (limit {LEASE.watchdog_seconds}s)!" in bank.guest.journal("ledger-agent")
    assert not {*found[USER.name]} & {*processes(bank)[USER.name]}, "the node ended with the agent"
    assert health["epoch"] == before + 1


@pytest.mark.usefixtures("ending")
def test_a_vm_with_a_full_disk_reports_it_and_acquires_no_identity(bank: Bank) -> None:
    before, run = bank.await_ready()["epoch"], bank.guest.run
    # The rest is reserved for root.
    run("fallocate --length $(df --output=avail --block-size 1 / | tail --lines 1) /var/full")
    health = bank.await_lack(Cause.DISK)
    assert (health["node"], health["epoch"]) == ("ready", before), "a node with a full disk continues to serve"
    assert health["ApplicationHealthState"] == "Healthy", "as far as it knows, another VM would not help"
    assert bank.echo("full") == "full", "the node's state is on the share"
    run("systemctl kill --kill-whom main --signal KILL ledger-agent")
    result = eventually(
        lambda: (found := bank.guest.health()).get("state") == State.STANDBY and found["lacks"] and found,
        "an agent that has nothing",
    )
    assert {*result["lacks"]} == {Cause.DISK}
    assert bank.record().epoch == before, "it acquires no identity"
    run("rm /var/full")
    assert bank.await_ready(after=before)["lacks"] == {}


@pytest.mark.usefixtures("ending")
def test_a_hanging_share_stops_neither_agent_nor_lease(bank: Bank) -> None:
    before = bank.await_ready()["epoch"]
    with bank.site.share.hanging():
        health = bank.await_lack(Cause.SHARE)
        assert health["lacks"][Cause.SHARE] == f"no answer in {STANDBY.answer_seconds:g} s"
        assert (health["state"], health["epoch"], bank.lease()) == (State.HOLDING, before, "leased")
        assert health["ApplicationHealthState"] == "Healthy", "as far as it knows, another VM would not help"
    eventually(lambda: bank.guest.health().get("lacks") == {}, "a share that recovered")
    assert bank.await_ready()["epoch"] == before, "under the same lease"
    assert bank.echo("again") == "again"


@pytest.mark.long
@pytest.mark.usefixtures("ending")
def test_a_node_that_hangs_with_its_share_restarts_under_the_same_lease(bank: Bank) -> None:
    before = bank.await_ready()["epoch"]
    assert bank.echo("stored") == "stored"
    written = bank.journal(before)
    with bank.site.share.hanging():
        with pytest.raises(TimeoutError):
            bank.echo("hangs")
        health = eventually(lambda: (found := bank.guest.health()).get("reason") and found, "a node that is given up")
        assert health["reason"] == f"the node has not answered for {SILENT_SECONDS} s"
        assert (health["state"], health["epoch"], bank.lease()) == (State.HOLDING, before, "leased")
    assert bank.await_ready()["epoch"] == before, "as far as it knows, another VM would not help"
    assert bank.journal(before)[: len(written)] == written, "no answered line is lost"


@pytest.mark.usefixtures("ending")
def test_an_announced_reboot_is_approved_once_the_identity_is_released(bank: Bank) -> None:
    before, metadata = bank.await_ready()["epoch"], bank.site.metadata
    ours, installed = boot_of(bank), bank.guest.run(f"stat --format %Y {PREFIX}/install.log")
    assert bank.echo("stored") == "stored"
    written = bank.journal(before)
    bank.site.fetched.clear()
    metadata.schedule("Reboot", 900)
    eventually(lambda: metadata.events[0]["EventStatus"] == "Started", "the agent's approval")
    assert bank.tenure(before).why == "Reboot of the VM"
    # As Azure does then.
    bank.guest.try_run("systemctl reboot")
    metadata.events.clear()
    eventually(lambda: boot_of(bank) not in {None, ours}, "another boot")
    for failure in ("Failed unmounting", f"Unmounting '{SHARE}' timed out"):
        assert failure not in bank.guest.said(), "the share is unmounted before the network ends"
    health = bank.await_ready(after=before)
    assert bank.journal(health["epoch"]) == written, "the state on the share is the node's"
    assert bank.guest.run(f"stat --format %Y {PREFIX}/install.log") == installed, "the state on the disk is the VM's"
    assert bank.site.fetched == [], "a VM installs only at its first boot"


@pytest.mark.long
@pytest.mark.usefixtures("ending")
def test_a_vm_that_is_powered_off_has_released_its_identity(bank: Bank) -> None:
    before = bank.await_ready()["epoch"]
    bank.guest.try_run("systemctl poweroff")
    bank.guest.await_off(PATIENCE_SECONDS)
    assert bank.lease() == "available", "released, so that a standby need not wait until the lease lapses"
    assert bank.tenure(before).why == "SIGTERM"
    bank.guest.power_on()
    bank.guest.await_shell()
    assert bank.await_ready(after=before)["epoch"] == before + 1


@pytest.mark.long
@pytest.mark.usefixtures("ending")
def test_exhausted_memory_ends_only_agent_and_node(bank: Bank) -> None:
    before, group, run = bank.await_ready()["epoch"], bank.agent("ControlGroup"), bank.guest.run
    megabytes = int(bank.agent("MemoryCurrent")) // 2**20 + 100
    # The guest would run out of memory before the agent has nine tenths of it.
    run(f"systemctl set-property --runtime ledger-agent MemoryMax={megabytes}M")
    hog = f"block = bytearray({2 * megabytes} * 2**20)"
    # In the agent's control group, like a node's memory.
    bank.guest.try_run(f"echo $$ >/sys/fs/cgroup{group}/cgroup.procs; exec {PREFIX}/venv/bin/python -c '{hog}'")
    said = "Failed with result 'oom-kill'"
    eventually(lambda: said in bank.guest.journal("ledger-agent"), "the end of the agent's control group")
    run("systemctl set-property --runtime ledger-agent MemoryMax=90%")
    assert bank.await_ready(after=before)["epoch"] == before + 1
    assert run("systemctl --failed --no-legend --plain") == "", "no other process of the VM ended"
