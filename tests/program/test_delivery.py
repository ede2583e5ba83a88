"""How the agent gets onto a VM: the document of cloud-init, the unit of systemd, the configuration, the libraries."""

import base64
import contextlib
import gzip
import io
import json
import os
import re
import shutil
import subprocess
import tarfile
from fnmatch import fnmatch
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyppmd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from contract.timing import LEASE, PLANNED_STOP
from contract.users import MAX_TASKS, PROGRAM
from contract.vm_configuration import AGENT_FILE, EGRESS_FILE, INSTALLATION, MODEL_FILE, SHARE, AgentConfiguration
from contract.vm_configuration import AUTHORITY_FILE as AUTHORITY_PATH
from delivery import cloud_config, sources, unpack
from delivery.bundle import bundle
from delivery.cloud_config import (
    INSTALL,
    MAX_CUSTOM_DATA_BYTES,
    MAX_USER_DATA_BYTES,
    UBUNTU_PACKAGES,
    custom_data,
    installed,
    units,
    user_data,
)
from delivery.lock import required
from delivery.sources import encoded, files_of, packed
from host.vm_configuration import ConfigurationError, read_agent_configuration
from lab import ROOT
from ledger.corda import CORDA
from stack.settings import MAX_APPLICATION_BYTES, MAX_NOTARIES, MAX_ROOT_BYTES
from tests.delivered import (
    AUTHORITY,
    INSTALLS,
    PREFIX,
    RUNTIME,
    SOURCE,
    config,
    document_of,
    files_of_document,
)
from tests.runs import Plan, large, one, sample

DELIVERY = ROOT / "delivery"
SHARE_FILE = "/etc/decentralized-trust/share.env"
ROOM_BYTES = 14_000
"""Of custom data and user data together."""
COMMAND = "/usr/local/bin/ledger-authority"
MOST_EXPOSED = {"ledger-agent": 2.1, "ledger-authority": 2.0}
"""Of 10, systemd-analyze(1): what is above is not hardened any more. An agent starts nodes under other users."""


def written(run: Plan) -> dict[str, str]:
    """The files on a bank's VMs."""
    packed = one(run, "VirtualMachineScaleSet", "nodes-vms").inputs["virtualMachineProfile"]["osProfile"][
        "customData"
    ]
    return files_of_document(gzip.decompress(base64.b64decode(packed)).decode())


def agent_configuration(run: Plan) -> AgentConfiguration:
    """The configuration of a bank's VMs."""
    return AgentConfiguration.model_validate_json(written(run)[str(AGENT_FILE)])


def test_a_vms_configuration_names_every_service() -> None:
    run = large()
    configuration = agent_configuration(run)
    assert (configuration.platform, configuration.identities) == ("corda", 14), "15 VMs, one of them a standby"
    key_vault, bank_vault = [run.answers[one(run, "Vault", name).urn] for name in ("keys-vault", "keys-bank-vault")]
    assert configuration.key_vault_url == key_vault["properties"]["vaultUri"]
    assert configuration.bank_vault_url == bank_vault["properties"]["vaultUri"]
    assert (
        configuration.client_id
        == run.answers[one(run, "UserAssignedIdentity", "bank-a-node-identity").urn]["clientId"]
    ), "the VMs have no other identity"
    assert configuration.blob_url.endswith(".blob.core.windows.net")
    assert configuration.database is not None
    assert configuration.database.host.endswith(".postgres.database.azure.com")
    assert configuration.connection_string, "monitoring is on"
    assert configuration.share == SHARE
    share = one(run, "FileShare")
    account = share.inputs["accountName"]
    assert written(run)[SHARE_FILE] == f"SHARE_SOURCE={account}.file.core.windows.net:/{account}/ledger\n"


def test_a_bank_without_monitoring_sends_nothing() -> None:
    assert agent_configuration(sample("dev")).connection_string is None, "a small bank has no Application Insights"


def test_a_vms_configuration_has_no_secret() -> None:
    assert set(AgentConfiguration.model_fields) == {
        *(
            "member",
            "address_space",
            "platform",
            "version",
            "legal_name",
            "legal_names",
            "identities",
            "roles",
            "frontend",
            "network",
            "installation",
            "artifact",
            "applications",
        ),
        *(
            "client_id",
            "key_vault_url",
            "bank_vault_url",
            "blob_url",
            "lease_container",
            "network_container",
            "share",
            "database",
        ),
        "connection_string",
    }, "every user on the VM can read these properties: a new one must be no secret"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "the document"),
        ("{}", "bankVaultUrl is missing"),
        (json.dumps({"identities": 0}), "identities: 0: Input should be greater"),
        (json.dumps({"colour": "red"}), "colour: 'red'"),
    ],
)
def test_a_wrong_configuration_is_refused_by_its_key(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "agent.json"
    path.write_text(content)
    with pytest.raises(ConfigurationError, match=re.escape(said)):
        read_agent_configuration(path)


def test_a_missing_configuration_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="wanted the agent's configuration"):
        read_agent_configuration(tmp_path / "agent.json")


@pytest.mark.parametrize("module", ["agent", AUTHORITY])
def test_custom_data_and_user_data_fit_and_are_the_same_for_the_same_document(module: str) -> None:
    text = config(agent_configuration(large()).to_json(), module=module)
    first, second = (
        base64.b64decode(custom_data(text)),
        base64.b64decode(user_data(module=module, installation=INSTALLS)),
    )
    print(f"{module}: custom data: {len(first)} of {MAX_CUSTOM_DATA_BYTES} bytes", end=", ")
    print(f"user data: {len(second)} of {MAX_USER_DATA_BYTES} bytes")
    assert custom_data(text) == custom_data(text), "a time stamp in it would roll every VM at each run"
    assert gzip.decompress(first).decode() == text
    assert len(second) <= MAX_USER_DATA_BYTES, "Azure refuses more"
    left = MAX_CUSTOM_DATA_BYTES - len(first) + MAX_USER_DATA_BYTES - len(second)
    assert left >= ROOM_BYTES, f"{left} bytes are left for the programs to grow; wanted {ROOM_BYTES}"


def test_the_settings_take_no_more_than_is_left() -> None:
    certificate = len(gzip.compress(base64.b64encode(os.urandom(MAX_ROOT_BYTES))))
    assert 2 * MAX_APPLICATION_BYTES + certificate <= ROOM_BYTES, "a run would end after its vaults are made"
    assert MAX_APPLICATION_BYTES + MAX_NOTARIES * 250 <= ROOM_BYTES, "an authority's VM has applications only once"


@pytest.mark.parametrize("module", ["agent", AUTHORITY])
def test_an_archive_unpacks_to_the_same_files(module: str) -> None:
    assert unpack.unpacked(packed(module, CORDA.name)) == files_of(module, CORDA.name), (
        "a VM must run exactly these files"
    )


LINES = st.text(st.sampled_from(" \n\0\1\2\t\v\r\f\x85\u00a0\u2028aZ_Äßİ{}"))


@given(st.lists(st.one_of(LINES, st.sampled_from(["    ", "        ", "\n", "CONSTANT_A"]))).map("".join))
@example("\u00a0" * len(unpack.INDENT) + "a")
def test_a_text_survives_the_archive_or_is_refused(text: str) -> None:
    with contextlib.suppress(ValueError):
        packs = encoded("a.py", text)
        assert unpack._indented(unpack._raised(packs)) == text


@pytest.mark.parametrize("line", ["    ", "a\tb", "a\1b", "\2", "\v", "\0"])
def test_an_unpackable_text_is_refused_with_file_and_line(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "files_of", lambda *_: {"host/a.py": f"if a:\n    b\n{line}\n"})
    said = f"host/a.py, line 3: {line!r} can't be packed; wanted "
    with pytest.raises(ValueError, match=re.escape(said)):
        packed.__wrapped__("agent", CORDA.name)


def test_an_order_that_pyppmd_cannot_read_again_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"host/a.py": "A = 1\n", "host/b.py": "B = 2\n"}
    monkeypatch.setattr(sources, "files_of", lambda *_: files)
    read = pyppmd.decompress
    fails = set[int]()

    def decompress(data: bytes, *, max_order: int, mem_size: int) -> bytes | str:
        if max_order in fails:
            raise ValueError("Corrupted input data.")
        return read(data, max_order=max_order, mem_size=mem_size)

    monkeypatch.setattr(pyppmd, "decompress", decompress)
    for highest in (16, 15, 14):
        archive = packed.__wrapped__("agent", CORDA.name)
        assert archive[0] == highest
        assert unpack.unpacked(archive) == files, "a VM can read the archive"
        fails.add(highest)
    fails |= set(range(17))
    with pytest.raises(ValueError, match="agent: PPMd packs it in no order"):
        packed.__wrapped__("agent", CORDA.name)


def test_placeholders_inside_an_embedded_script_are_not_filled_in() -> None:
    script = cloud_config._filled("install.sh", {"{unpack}": 'print(f"{user} of {nodes}")'})
    assert 'print(f"{user} of {nodes}")' in script, "a VM must run the tested program"


def test_a_vms_model_depends_on_all_its_custom_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """The alert of VMs that stay behind compares it."""

    def model(in_image: bool = False, **changes: Any) -> str:
        return files_of_document(config(in_image=in_image, **changes))[str(MODEL_FILE)]

    changes: list[dict[str, Any]] = [
        {"configuration": '{"a": 1}'},
        {"source": "b.example:/b/ledger"},
        {"egress": "table inet other {}"},
        {"made_of": ["an image"]},
    ]
    for in_image in (False, True):
        found = [model(in_image), *(model(in_image, **each) for each in changes)]
        assert len(set(found)) == len(found), "an outdated VM must have another model"
        assert model(in_image) == found[0], "equal VMs must have equal models"
    found = [model(), model(installation=(*INSTALLS, "--more"))]
    monkeypatch.setattr(cloud_config, "UBUNTU_PACKAGES", ("nftables",))
    found.append(model())
    monkeypatch.setattr(cloud_config, "_common", lambda: {INSTALL: "#!/bin/sh"})
    found.append(model())
    monkeypatch.setattr(cloud_config, "_sources", lambda *_: b"others")
    found.append(model())
    assert len(set(found)) == 5, "the installation, its script, its libraries and the programs"


def test_custom_data_beyond_azures_limit_is_refused() -> None:
    too_long = "".join(sha256(str(number).encode()).hexdigest() for number in range(4000))
    with pytest.raises(ValueError, match=f"wanted {MAX_CUSTOM_DATA_BYTES} at most"):
        custom_data(too_long)


@pytest.mark.parametrize("module", ["agent", AUTHORITY])
def test_without_an_image_the_vm_installs_what_it_runs(module: str) -> None:
    text = config(module=module)
    document, files = document_of(text), files_of_document(text)
    assert document["packages"] == [*UBUNTU_PACKAGES, *RUNTIME]
    assert document["package_update"] is True, "the image's package lists may be outdated"
    (boot,) = document["runcmd"]
    assert f"{INSTALL} corda {CORDA.default_version} {INSTALLATION} >" in boot[-1], "the written script is run"
    assert {path for path in files if path.startswith("/etc/systemd")} == {
        f"/etc/systemd/system/{name}" for name in units(module)
    }
    for name, unit in units(module).items():
        assert files[f"/etc/systemd/system/{name}"] == unit
        required = f"BindsTo={name}\n" in "".join(units(module).values())
        assert required or name.removesuffix(".service") in files[INSTALL], f"{name} is started"
        assert "{" not in unit, "every value is filled in"
    assert f"\nmkdir -p {SHARE}\n" in files[INSTALL], "the mount needs its folder"


@pytest.mark.parametrize("status", [0, 3])
def test_a_boot_that_fails_says_why_without_a_login(tmp_path: Path, status: int) -> None:
    (tmp_path / "install.sh").write_text(f"#!/bin/sh\necho 'no wheel of psycopg'\nexit {status}\n")
    (tmp_path / "install.sh").chmod(0o755)
    ((*shell, script),) = document_of(config())["runcmd"]
    script = script.replace(PREFIX, str(tmp_path), 1).replace(f"{PREFIX}/install.log", str(tmp_path / "log"))
    done = subprocess.run([*shell, script.replace("/dev/console", str(tmp_path / "console"))], check=False)
    assert done.returncode == min(status, 1), "cloud-init reports the failure, too"
    console = tmp_path / "console"
    assert (console.read_text() if console.exists() else "") == ("no wheel of psycopg\n" if status else "")


def test_an_authoritys_vm_runs_its_own_program_and_has_no_share() -> None:
    text = config(source=None, module=AUTHORITY)
    files, unit = files_of_document(text), units(AUTHORITY)["ledger-authority.service"]
    assert set(units(AUTHORITY)) == {"ledger-authority.service"}
    assert files[str(AUTHORITY_PATH)] == "{}", "the program reads this path"
    assert SHARE_FILE not in files
    assert f"ExecStart={PREFIX}/venv/bin/python -m {AUTHORITY}\n" in unit
    assert f"ConditionPathExists={AUTHORITY_PATH}\n" in unit
    assert str(SHARE) not in unit, "it does not write to a share"
    agent = units()["ledger-agent.service"]
    own = {"Description", "ConditionPathExists", "ExecStart", "StateDirectory", "RuntimeDirectory", "ReadWritePaths"}
    # An agent's children have users of their own.
    own |= {"BindsTo", "AmbientCapabilities", "CapabilityBoundingSet", "UMask"}
    own |= {"StateDirectoryMode", "RuntimeDirectoryMode", "SystemCallFilter"}
    ordered = "After=ledger-egress.service mnt-ledger.mount"
    lines = [
        {
            line
            for line in each.splitlines()
            if line.split("=")[0] not in own and "image has" not in line and line != ordered
        }
        for each in (agent, unit)
    ]
    assert lines[0] == lines[1], "it is hardened like the agent"
    assert "AmbientCapabilities=\n" in unit, "it starts no process of another user"
    assert "CapabilityBoundingSet=\n" in unit
    assert "UMask=0077\n" in unit
    assert "@setuid" not in unit


def test_an_authoritys_vm_has_the_command_that_operators_run() -> None:
    modes = {
        module: {each["path"]: each["permissions"] for each in document_of(config(module=module))["write_files"]}
        for module in ("agent", AUTHORITY)
    }
    assert modes[AUTHORITY][COMMAND] == "0755", "a shell finds it and may run it"
    assert files_of_document(config(module=AUTHORITY))[COMMAND].endswith(' "${@:---help}"\n'), (
        "without arguments it would serve, as root and outside of its unit"
    )
    assert COMMAND not in modes["agent"], "a node's VM has no authority"
    assert COMMAND not in files_of_document(config(source=None, in_image=True, module=AUTHORITY)), (
        "an image has it too"
    )


def test_an_agent_has_only_the_capabilities_for_starting_a_node_under_another_user() -> None:
    unit = units()["ledger-agent.service"]
    settings = dict(line.split("=", 1) for line in unit.splitlines() if "=" in line and not line.startswith("#"))
    wanted = {"CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP", "CAP_KILL"}
    assert set(settings["AmbientCapabilities"].split()) == wanted, (
        "without KILL the kernel does not end a node whose agent dies"
    )
    assert set(settings["CapabilityBoundingSet"].split()) == wanted, "no child may gain another capability"
    assert settings["User"] == settings["SupplementaryGroups"] == PROGRAM.name, (
        "otherwise its children could not end a node"
    )
    assert settings["NoNewPrivileges"] == "yes"
    assert settings["SecureBits"] == "noroot noroot-locked", "user 0 without these four has no rights"
    assert settings["RestrictSUIDSGID"] == "yes"
    for name in ("StateDirectoryMode", "RuntimeDirectoryMode"):
        assert settings[name] == "0711", "a node may pass through it to its own folder, but not list it"
    assert settings["UMask"] == "0027", "a node may read the agent's files, but not write them"
    assert "SystemCallFilter=@setuid capset\n" in unit
    assert int(settings["TasksMax"]) >= 2 * MAX_TASKS + 500, "the agent must be able to end a fork bomb"


def test_no_agent_runs_before_the_firewall_rules_are_loaded() -> None:
    agent, egress = units()["ledger-agent.service"], units()["ledger-egress.service"]
    assert "BindsTo=ledger-egress.service\nAfter=ledger-egress.service mnt-ledger.mount\n" in agent, (
        "neither an order nor Requires would be sufficient if the rules' unit is skipped: systemd.unit(5)"
    )
    condition = f"ConditionPathExists={EGRESS_FILE}\n"
    assert condition in agent, "a VM without rules must not run a node"
    assert condition in egress, "a failing unit would also fail the image's installation, which starts the agent"
    assert f"nft --file {EGRESS_FILE}\n" in egress
    assert str(EGRESS_FILE) in written(large()), "every VM must load them"
    assert "Before=ledger-agent.service" in egress.splitlines(), "BindsTo alone starts both at once"
    assert "nftables" in UBUNTU_PACKAGES


@pytest.mark.parametrize("module", ["agent", AUTHORITY])
def test_a_vm_with_an_image_downloads_no_packages(module: str) -> None:
    text = config(source=SOURCE if module == "agent" else None, in_image=True, module=module)
    expected = {str(AGENT_FILE), SHARE_FILE, str(EGRESS_FILE)} if module == "agent" else {str(AUTHORITY_PATH)}
    assert set(files_of_document(text)) == {*expected, str(MODEL_FILE)}, (
        "a pinned image must not change at its first boot"
    )
    (started,) = document_of(text)["runcmd"]
    assert set(units(module)) <= set(started), "their start may have been skipped without the configuration"
    assert "restart" not in started, "a restart would release the identity and acquire it again"
    assert not {"packages", "package_update"} & set(document_of(text)), "it boots without the open internet"


def test_every_library_is_locked_to_one_file() -> None:
    lines = (DELIVERY / "requirements.txt").read_text().splitlines()
    assert all(re.fullmatch(r"[a-z0-9._-]+==[^ ]+ --hash=sha256:[0-9a-f]{64}", line) for line in lines), lines
    locked = dict(line.split(" ")[0].split("==") for line in lines)
    for each in required():
        name, version = re.sub(r"\[.*?\]", "", each).split("==")
        assert locked.get(name) == version, f"{name}: run `make lock`"


def test_the_watchdog_ends_a_hung_agent_before_its_lease_lapses() -> None:
    unit = units()["ledger-agent.service"]
    assert f"WatchdogSec={LEASE.watchdog_seconds}\n" in unit, "one number, named in one place"
    assert "WatchdogSignal=SIGKILL" in unit, "a hanging agent reacts to no other signal"
    assert "KillMode=mixed" in unit, "it kills the whole control group at once"
    assert LEASE.stop_seconds + LEASE.watchdog_seconds <= LEASE.kill_seconds < LEASE.lease_seconds, (
        "the last notification plus the timeout"
    )
    assert 3 * LEASE.beat_seconds < LEASE.watchdog_seconds, "a late notification is no hang"


def test_a_planned_stop_fits_into_azures_notice_and_systemds_time_limit() -> None:
    (limit,) = re.findall(r"^TimeoutStopSec=(\d+)$", units()["ledger-agent.service"], re.MULTILINE)
    assert int(limit) == PLANNED_STOP.total_seconds, "otherwise systemd would kill a node that is about to end"
    notice = one(large(), "VirtualMachineScaleSet", "nodes-vms").inputs["virtualMachineProfile"][
        "scheduledEventsProfile"
    ]["terminateNotificationProfile"]["notBeforeTimeout"]
    assert notice == "PT10M"
    assert int(limit) < 600, "Azure proceeds after that time"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
@pytest.mark.parametrize(("module", "name"), [("agent", "ledger-agent"), (AUTHORITY, "ledger-authority")])
def test_the_units_are_hardened(tmp_path: Path, module: str, name: str) -> None:
    path = tmp_path / f"{name}.service"
    path.write_text(units(module)[path.name])
    analysed = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(path)],
        capture_output=True,
        text=True,
        check=True,
    )
    print(analysed.stdout.strip().splitlines()[-1])
    score = float(analysed.stdout.rsplit(f"{name}.service: ", 1)[1].split()[0])
    assert score <= MOST_EXPOSED[name], f"exposure {score}; wanted {MOST_EXPOSED[name]} at most"


SETTINGS = {
    "StartLimitIntervalSec=0": "after five quick failures systemd would not start it again",
    "Restart=always": "also an agent that ended without a failure",
    "OOMPolicy=kill": "a node without its agent outlives its lease",
    "MemoryMax=90%": "else the kernel may kill anything on the VM, not the unit as a whole",
    "MemorySwapMax=0": "a swapped agent hangs, and keys would be on the disk",
    "LimitCORE=1": "a core has the node's keys, and 0 does not stop one that is piped to a program",
    "LimitNOFILE=16384": "the default of 1024 is less than the connections of a hundred peers",
}


@pytest.mark.parametrize("module", ["agent", AUTHORITY])
@pytest.mark.parametrize(("setting", "why"), SETTINGS.items())
def test_a_program_restarts_whole_and_leaves_no_key_behind(module: str, setting: str, why: str) -> None:
    (unit,) = [text for name, text in units(module).items() if name in {f"{each}.service" for each in MOST_EXPOSED}]
    assert setting in unit.splitlines(), why


def test_an_installation_starts_its_units() -> None:
    (_, started) = files_of_document(config())[INSTALL].split("systemctl daemon-reload\n")
    share, programs = started.split("for unit in ledger-agent ledger-authority;")
    assert "enable --now --no-block ledger-share.service" in share, "the share is mounted while an agent starts"
    assert 'enable --now "$unit.service"' in programs, (
        "a program that does not start fails the installation, with the reason on the console"
    )


def test_the_share_is_mounted_over_tls_and_delays_no_boot() -> None:
    share, agent = (units()[f"ledger-{name}.service"] for name in ("share", "agent"))
    mount = "mount -t aznfs -o vers=4,minorversion=1,sec=sys,nconnect=4,noatime,nosuid,nodev,noexec"
    assert f'{mount} "$$SHARE_SOURCE" {SHARE}\'\n' in share, "the account refuses unencrypted connections"
    assert "Restart=on-failure" in share, "the share may be unavailable when the VM starts"
    assert {"StartLimitIntervalSec=0", "KillMode=process"} <= set(share.splitlines()), (
        "it tries for ever, and its end leaves the mount's TLS helper running, as long as the agent uses the share"
    )
    assert "ledger-share" not in agent, "an agent that waited for the share would not answer its health probe"


@pytest.mark.skipif(shutil.which("findmnt") is None or not Path("/proc/self").exists(), reason="no findmnt here")
def test_a_mounted_share_is_not_mounted_again(tmp_path: Path) -> None:
    """A start that failed after the mount is repeated, and a stop can't unmount what the agent uses."""
    mount = tmp_path / "mount"
    mount.write_text('#!/bin/sh\necho "$@"\n')
    mount.chmod(0o755)
    (command,) = re.findall("^ExecStart=/bin/sh -c '(.*)'$", units()["ledger-share.service"], re.MULTILINE)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SHARE_SOURCE": "a.example:/a/ledger"}
    for folder, mounted in (("/proc", True), (str(tmp_path), False)):
        # systemd unescapes two dollars to one.
        script = command.replace("$$", "$").replace(str(SHARE), folder)
        done = subprocess.run(["sh", "-c", script], env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.endswith(f"a.example:/a/ledger {folder}\n") != mounted, f"{folder}: {done}"


@pytest.mark.skipif(shutil.which("cloud-init") is None, reason="no cloud-init here")
@pytest.mark.parametrize("in_image", [False, True])
def test_cloud_init_accepts_the_document(tmp_path: Path, in_image: bool) -> None:
    path = tmp_path / "user-data"
    path.write_text(config(in_image=in_image))
    checked = subprocess.run(
        ["cloud-init", "schema", "--config-file", str(path)], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_image_gets_the_same_files_that_cloud_init_writes() -> None:
    with tarfile.open(fileobj=io.BytesIO(bundle("corda"))) as archive:
        packed = {f"/{entry.name}": archive.extractfile(entry) for entry in archive}
        modes = {f"/{entry.name}": entry.mode for entry in archive}
    assert {path: file.read().decode() for path, file in packed.items() if file} == installed("corda")
    assert modes[INSTALL] == 0o755, "the recipe runs the script"
    assert modes[COMMAND] == 0o755, "operators run the command"
    assert bundle("corda") == bundle("corda"), "the same files are the same archive"


def test_the_images_recipe_declares_its_variables_and_installs_the_required_packages() -> None:
    recipe = (DELIVERY.parent / "image" / "ledger-node.pkr.hcl").read_text()
    assert json.loads(re.findall(r"default += (\[.*\])", recipe)[1]) == list(INSTALLS), "and the default version"
    declared, used = (
        set(re.findall(r'^variable "(\w+)"', recipe, re.MULTILINE)),
        set(re.findall(r"\bvar\.(\w+)", recipe)),
    )
    assert declared == used, "each variable must be declared and used"
    packages = re.findall(r"default += (\[.*\])", recipe)[0]
    wanted = [*CORDA.packages(CORDA.default_version), *UBUNTU_PACKAGES]
    assert json.loads(packages) == wanted, "the runtime of the default version, and the agent's packages"
    assert INSTALL in recipe, "images and VMs have the same installation script"
    assert all(recipe.count(opening) == recipe.count(closing) for opening, closing in ("{}", "[]", "()")), "balanced"
    assert not re.search(r"(?i)client_secret|password", recipe), "the build uses the operator's own login"


def test_the_image_runs_only_what_was_checked_and_never_upgrades_itself() -> None:
    recipe = (DELIVERY.parent / "image" / "ledger-node.pkr.hcl").read_text()
    steps = (
        "--output /tmp/aznfs.deb",
        "'${var.aznfs_sha256}  /tmp/aznfs.deb' | sha256sum --check",
        "apt-get install --yes /tmp/aznfs.deb",
        "apt-get purge --yes unattended-upgrades needrestart",
        "AUTO_UPDATE_AZNFS=false",
        "tar --extract --file /tmp/agent.tar",
        f"{INSTALL} ",
        "waagent -force -deprovision+user",
    )
    places = [recipe.find(step) for step in steps]
    assert -1 not in places, "each step is there"
    assert places == sorted(places), (
        "checked before it is installed; cleaned last, so that each VM boots as a new one"
    )
    assert recipe.index("sh -eux") < places[0], "a step that fails ends the build"
    settings = dict(re.findall(r"^ +(\w+) += (.+)$", recipe, re.MULTILINE))
    for key, name in (("resource_group_name", "resource_group"), ("name", "name"), ("subnet_name", "subnet")):
        assert settings[f"virtual_network_{key}"] == f"var.network == null ? null : var.network.{name}"
    wanted = {"secure_boot_enabled": "true", "vtpm_enabled": "true", "security_type": '"TrustedLaunch"'}
    assert wanted.items() <= settings.items(), "the VMs are trusted launch ones, and boot from no other image"


def test_the_images_sample_sets_every_variable_without_a_default() -> None:
    folder = DELIVERY.parent / "image"
    recipe = (folder / "ledger-node.pkr.hcl").read_text()
    variables = re.findall(r'^variable "(\w+)" \{(.*?\n?)\}$', recipe, re.MULTILINE | re.DOTALL)
    required = [name for name, body in variables if not re.search(r"\bdefault\s*=", body)]
    assert 0 < len(required) < len(variables), "both kinds of variables are found"
    sample = (folder / "sample.pkrvars.hcl").read_text()
    assert re.findall(r"^(\w+) *= ", sample, re.MULTILINE) == required, "exactly the variables that Packer requires"
    (gallery,) = [body for name, body in variables if name == "gallery"]
    keys = [re.findall(r"^ +(\w+) += ", text, re.MULTILINE) for text in (gallery.partition("object(")[2], sample)]
    assert keys[0] == keys[1], "an object of the recipe's type"
    table = (folder / "README.md").read_text().partition("| Variable |")[2].partition("\n\n")[0]
    named = [name for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall(r"\w+", row)]
    assert named == required, "and each is explained"


def test_a_banks_values_for_the_image_are_not_committed() -> None:
    (copied,) = re.findall(r"^\$ cp (\S+) (\S+)", (ROOT / "image" / "README.md").read_text(), re.MULTILINE)
    sample, own = copied
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert any(fnmatch(own, each) for each in ignored), f"`git add .` would add {own}, with ids of a subscription"
    assert f"!/{sample}" in ignored, "the project's sample must be committed"
