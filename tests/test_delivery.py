"""How the agent gets onto a VM: the document of cloud-init, the unit of systemd, the configuration, the libraries."""

import ast
import base64
import gzip
import io
import json
import re
import shutil
import subprocess
import sys
import tarfile
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from agent.agent import DRAIN_SECONDS, END_SECONDS
from agent.configuration import PATH, Configuration, ConfigurationError, read_configuration
from agent.lease import KILL_SECONDS, LEASE_SECONDS, STOP_SECONDS, WATCHDOG_SECONDS
from agent.service import SIGN_SECONDS
from delivery.bare import bare
from delivery.bundle import bundle
from delivery.cloud_config import (
    INSTALL,
    INSTALLATION,
    MAX_CUSTOM_DATA_BYTES,
    MAX_USER_DATA_BYTES,
    SHARE,
    VENV_PACKAGE,
    cloud_config,
    custom_data,
    installed,
    units,
    user_data,
)
from delivery.sources import every_file, files_of
from ledger.corda import PLATFORM as CORDA
from ledger.corda.authority.configuration import PATH as AUTHORITY_PATH
from tests.runs import Plan, large, one, sample
from tests.seccomp import restrictable

DELIVERY = Path(__file__).resolve().parent.parent / "delivery"
PACKAGES = ["openjdk-8-jdk-headless"]
INSTALLS = ("corda", CORDA.default_version, str(INSTALLATION))
assert CORDA.authority
AUTHORITY = CORDA.authority.module
PREFIX = "/opt/decentralized-trust"
ARCHIVE = f"{PREFIX}/source.tar.xz"
SOURCE = "account.file.core.windows.net:/account/ledger"
SHARE_FILE = "/etc/decentralized-trust/share.env"
MOST_EXPOSED = 2.0
"""Of 10, systemd-analyze(1): what is above is not hardened any more."""


def document_of(text: str) -> dict[str, Any]:
    first, _, rest = text.partition("\n")
    assert first == "#cloud-config", "cloud-init ignores a document that begins with anything else"
    return dict(json.loads(rest))


def files_of_document(text: str) -> dict[str, str]:
    return {each["path"]: each["content"] for each in document_of(text)["write_files"] if "encoding" not in each}


def config(configuration: str = "{}", source: str | None = SOURCE, **changes: Any) -> str:
    """The document of a node, or of another program."""
    return cloud_config(configuration, source, PACKAGES, **{"in_image": False, "installation": INSTALLS} | changes)


def unpacked(module: str, folder: Path) -> Path:
    """The sources that a VM gets, put together from both halves as install.sh does."""
    text = config(module=module)
    (first,) = (each for each in document_of(text)["write_files"] if "encoding" in each)
    assert first["path"] == f"{ARCHIVE}.first"
    whole = base64.b64decode(first["content"]) + base64.b64decode(user_data(module=module, installation=INSTALLS))
    assert files_of_document(text)[f"{ARCHIVE}.sha256"] == f"{sha256(whole).hexdigest()}  {ARCHIVE}\n", (
        "the VM knows what it is to get, and another content rolls the VMs"
    )
    with tarfile.open(fileobj=io.BytesIO(whole)) as archive:
        archive.extractall(folder, filter="data")
    return folder


def written(run: Plan) -> dict[str, str]:
    """The files that the VMs of a bank get."""
    packed = one(run, "VirtualMachineScaleSet", "nodes-vms").inputs["virtualMachineProfile"]["osProfile"][
        "customData"
    ]
    return files_of_document(gzip.decompress(base64.b64decode(packed)).decode())


def told(run: Plan) -> Configuration:
    """What the VMs of a bank are told."""
    return Configuration.model_validate_json(written(run)[str(PATH)])


def test_a_vm_is_told_where_everything_is() -> None:
    run = large()
    configuration = told(run)
    assert (configuration.platform, configuration.identities) == ("corda", 14), "15 VMs, one of them a standby"
    vault = run.answers[one(run, "Vault", "keys-vault").urn]
    assert configuration.vault_url == vault["properties"]["vaultUri"]
    assert (
        configuration.client_id == run.answers[one(run, "UserAssignedIdentity", "node-identity").urn]["clientId"]
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
    assert told(sample("dev")).connection_string is None, "a small bank has no Application Insights"


def test_what_is_told_holds_no_secret() -> None:
    assert set(Configuration.model_fields) == {
        *(
            "member",
            "platform",
            "version",
            "legal_name",
            "identities",
            "roles",
            "frontend",
            "network",
            "installation",
            "artifact",
            "applications",
        ),
        *("client_id", "vault_url", "blob_url", "lease_container", "network_container", "share", "database"),
        "connection_string",
    }, "whatever is added here is read by everyone on the VM: see that it is no secret"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "the document"),
        ("{}", "vaultUrl is missing"),
        (json.dumps({"identities": 0}), "identities: 0: Input should be greater"),
        (json.dumps({"colour": "red"}), "colour: 'red'"),
    ],
)
def test_a_configuration_that_is_wrong_is_told_by_its_key(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "agent.json"
    path.write_text(content)
    with pytest.raises(ConfigurationError, match=re.escape(said)):
        read_configuration(path)


def test_a_missing_configuration_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="wanted the agent's configuration"):
        read_configuration(tmp_path / "agent.json")


@pytest.mark.parametrize("module", ["agent", AUTHORITY])
def test_custom_data_and_user_data_fit_and_are_the_same_for_the_same_document(module: str) -> None:
    text = config(told(large()).to_json(), module=module)
    packed, second = (
        base64.b64decode(custom_data(text)),
        base64.b64decode(user_data(module=module, installation=INSTALLS)),
    )
    print(f"{module}: custom data: {len(packed)} of {MAX_CUSTOM_DATA_BYTES} bytes", end=", ")
    print(f"user data: {len(second)} of {MAX_USER_DATA_BYTES} bytes")
    assert custom_data(text) == custom_data(text), "a time stamp in it would roll every VM at each run"
    assert gzip.decompress(packed).decode() == text
    assert len(packed) < 0.75 * MAX_CUSTOM_DATA_BYTES, "programs grow"
    assert len(second) < 0.75 * MAX_USER_DATA_BYTES


def test_custom_data_beyond_azures_limit_is_refused() -> None:
    too_long = "".join(sha256(str(number).encode()).hexdigest() for number in range(4000))
    with pytest.raises(ValueError, match=f"wanted {MAX_CUSTOM_DATA_BYTES} at most"):
        custom_data(too_long)


@pytest.mark.parametrize("module", ["agent", AUTHORITY])
def test_without_an_image_the_vm_installs_what_it_runs(module: str) -> None:
    text = config(module=module)
    document, files = document_of(text), files_of_document(text)
    assert document["packages"] == [VENV_PACKAGE, *PACKAGES]
    assert document["package_update"] is True, "an image's package lists are as old as the image"
    (boot,) = document["runcmd"]
    assert f"{INSTALL} corda {CORDA.default_version} {INSTALLATION} >" in boot[-1], "what is written is what is run"
    assert "/dev/console" in boot[-1], "what fails at boot is read where nobody can sign in yet"
    assert {path for path in files if path.startswith("/etc/systemd")} == {
        f"/etc/systemd/system/{name}" for name in units(module)
    }
    for name, unit in units(module).items():
        assert files[f"/etc/systemd/system/{name}"] == unit
        assert name.removesuffix(".service") in files[INSTALL], f"{name} is started"
        assert "{" not in unit.replace("${SHARE_SOURCE}", ""), "every value is filled in"
    assert f"\nmkdir -p {SHARE}\n" in files[INSTALL], "the mount wants its folder"


def test_an_authoritys_vm_runs_its_own_program_and_has_no_share() -> None:
    text = config(source=None, module=AUTHORITY)
    files, unit = files_of_document(text), units(AUTHORITY)["ledger-authority.service"]
    assert set(units(AUTHORITY)) == {"ledger-authority.service"}
    assert files[str(AUTHORITY_PATH)] == "{}", "where the program looks"
    assert SHARE_FILE not in files
    assert f"ExecStart={PREFIX}/venv/bin/python -m {AUTHORITY}\n" in unit
    assert f"ConditionPathExists={AUTHORITY_PATH}\n" in unit
    assert str(SHARE) not in unit, "it writes to no share"
    agent = units()["ledger-agent.service"]
    own = {"Description", "ConditionPathExists", "ExecStart", "StateDirectory", "RuntimeDirectory", "ReadWritePaths"}
    lines = [
        {line for line in each.splitlines() if line.split("=")[0] not in own and "image has" not in line}
        for each in (agent, unit)
    ]
    assert lines[0] == lines[1], "hardened alike"


@pytest.mark.parametrize("module", ["agent", AUTHORITY])
def test_an_image_brings_everything_along(module: str) -> None:
    text = config(source=SOURCE if module == "agent" else None, in_image=True, module=module)
    expected = {str(PATH), SHARE_FILE} if module == "agent" else {str(AUTHORITY_PATH)}
    assert set(files_of_document(text)) == expected, "a pinned image must not change at its first boot"
    (restarted,) = document_of(text)["runcmd"]
    assert set(units(module)) <= set(restarted), "they had no configuration before"
    assert not {"packages", "package_update"} & set(document_of(text)), "it boots without the open internet"


@pytest.mark.parametrize(
    ("module", "arguments", "said"),
    [
        ("agent", ["no-such-file.json"], "No such file or directory; wanted the agent's configuration"),
        (AUTHORITY, ["serve", "no-such-file.json"], "no-such-file.json"),
        ("ledger.install", ["corda", "4.10", "x", "--artifact", "y"], "wanted GROUP:NAME:VERSION=SHA256"),
    ],
)
def test_what_is_written_runs_with_the_locked_libraries_alone(
    tmp_path: Path, module: str, arguments: list[str], said: str
) -> None:
    unpacked("agent" if module == "ledger.install" else module, tmp_path)
    run = subprocess.run(
        [sys.executable, "-m", module, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert run.returncode == (2 if module == "ledger.install" else 78), f"EX_CONFIG: systemd shows it\n{run.stderr}"
    assert said in run.stderr


LOADED_LATE = """
import importlib, pkgutil, sys
import agent, ledger
for package in (agent, ledger):
    for each in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if not each.name.endswith("__main__"):
            importlib.import_module(each.name)
print(len(sys.modules))
"""


@pytest.mark.parametrize("module", ["agent", AUTHORITY])
def test_a_vm_gets_whatever_its_program_may_load(tmp_path: Path, module: str) -> None:
    run = subprocess.run(
        [sys.executable, "-c", LOADED_LATE],
        cwd=unpacked(module, tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    got = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.suffix in {".py", ".java"}}
    assert got == set(files_of(module, "corda"))
    assert {path for path in every_file() if path.endswith(".java")} <= got, "compiled on the VM"
    other = "ledger/corda/authority/server.py" if module == "agent" else "agent/lease.py"
    assert other not in got, "and nothing that it does not run"


def script(folder: Path, name: str, body: str = ":") -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("xz")), reason="no curl and xz here")
@pytest.mark.parametrize("fault", [None, "late", "altered", "repository away", "repository gone"])
def test_the_boot_puts_both_halves_together_and_installs_the_ledger(tmp_path: Path, fault: str | None) -> None:
    """The very script, with another prefix; what only a VM has is played."""
    prefix, bin_folder, asked = tmp_path / "opt", tmp_path / "bin", list[str]()
    second = user_data(installation=INSTALLS)
    for each in document_of(config())["write_files"]:
        if each["path"].startswith(PREFIX):
            path = prefix / each["path"].removeprefix(f"{PREFIX}/")
            path.parent.mkdir(parents=True, exist_ok=True)
            content = each["content"].replace(PREFIX, str(prefix)).replace(str(SHARE), str(tmp_path / "mnt"))
            path.write_bytes(base64.b64decode(content) if "encoding" in each else content.encode())
    for name in ("getent", "systemctl"):
        script(bin_folder, name)
    script(bin_folder, "sleep", f'echo "$@" >>{tmp_path}/slept')
    script(prefix, "venv/bin/pip")
    fails = {"repository away": 19, "repository gone": 99}.get(fault or "", 0)
    script(
        prefix,
        "venv/bin/python",
        f'echo "$PWD $@" >>{tmp_path}/ran\n[ "$(wc -l <{tmp_path}/ran)" -gt {fails} ]',
    )

    class Metadata(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            if (fault == "late" and len(asked) < 2) or self.headers.get("Metadata") != "true":
                self.send_error(503)
                return
            self.send_response(200)
            self.end_headers()
            self.wfile.write((second[:-8] if fault == "altered" else second).encode())

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Metadata) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        environment = {
            "PATH": f"{bin_folder}:/usr/bin:/bin",
            "METADATA": f"http://127.0.0.1:{server.server_address[1]}",
        }
        for _ in range(1 if fault == "repository gone" else 2):
            run = subprocess.run(
                ["sh", str(prefix / "install.sh"), *INSTALLS],
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
        server.shutdown()
    if fault == "altered":
        assert run.returncode != 0, "what is not the very archive is not unpacked"
        assert "FAILED" in run.stdout
        assert not (prefix / "source").exists()
        return
    ran = (tmp_path / "ran").read_text().splitlines()
    if fails:
        assert (tmp_path / "slept").read_text().splitlines() == ["30"] * 19, "a repository has ten minutes to be back"
    if fault == "repository gone":
        assert run.returncode == 1, "the boot says that it failed"
        assert len(ran) == 20, "then the VM is for others to make anew"
        return
    assert run.returncode == 0, run.stderr
    assert len(asked) == (2 if fault == "late" else 1), "what is there is not fetched again"
    assert asked[0] == "/metadata/instance/compute/userData?api-version=2021-02-01&format=text"
    assert (prefix / "source" / "agent" / "__main__.py").exists()
    assert ran == [f"{prefix}/source -m ledger.install corda {CORDA.default_version} {INSTALLATION}"] * (fails + 2), (
        "run again at will"
    )


def test_sources_are_stripped_of_what_only_people_read() -> None:
    for path, text in every_file().items():
        if not path.endswith(".py"):
            continue
        stripped = bare(text)
        assert stripped.count("\n") == text.count("\n"), f"{path}: a traceback must point to the same line"
        assert meaning(stripped) == meaning(text), path
    assert bare('"""x"""\nclass A:\n    """y\n\n    z"""\n\n\nx = "#"  # é\n') == (
        '\nclass A:\n    pass\n\n\n\n\nx = "#"\n'
    )


def meaning(source: str) -> str:
    """Without docstrings, and without what stands for an empty body."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(body := getattr(node, "body", None), list):
            node.body = [each for each in body if not unsaid(each)]  # type: ignore[attr-defined]
    return ast.dump(tree)


def unsaid(statement: ast.stmt) -> bool:
    text = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    return isinstance(statement, ast.Pass) or (text and isinstance(statement.value.value, str))  # type: ignore[attr-defined]


def test_every_library_is_locked_to_one_file() -> None:
    lines = (DELIVERY / "requirements.txt").read_text().splitlines()
    assert all(re.fullmatch(r"[a-z0-9._-]+==[^ ]+ --hash=sha256:[0-9a-f]{64}", line) for line in lines), lines
    locked = dict(line.split(" ")[0].split("==") for line in lines)
    wanted = [line for line in (DELIVERY / "requirements.in").read_text().splitlines() if not line.startswith("#")]
    for each in wanted:
        name, version = re.sub(r"\[.*?\]", "", each).split("==")
        assert locked.get(name) == version, f"{name}: run `make lock`"


def test_the_watchdog_ends_a_hung_agent_before_its_lease_lapses() -> None:
    unit = units()["ledger-agent.service"]
    assert f"WatchdogSec={WATCHDOG_SECONDS}\n" in unit, "one number, named in one place"
    assert "WatchdogSignal=SIGKILL" in unit, "an agent that hangs answers no other signal"
    assert "KillMode=mixed" in unit, "with it the whole control group is killed at once"
    assert STOP_SECONDS + WATCHDOG_SECONDS <= KILL_SECONDS < LEASE_SECONDS, "the latest sign, and its patience"
    assert 3 * SIGN_SECONDS < WATCHDOG_SECONDS, "one late sign is no hang"


def test_a_planned_stop_fits_into_azures_notice_and_systemds_patience() -> None:
    (patience,) = re.findall(r"^TimeoutStopSec=(\d+)$", units()["ledger-agent.service"], re.MULTILINE)
    assert int(patience) == DRAIN_SECONDS + END_SECONDS, "else systemd kills a node that is about to be done"
    notice = one(large(), "VirtualMachineScaleSet", "nodes-vms").inputs["virtualMachineProfile"][
        "scheduledEventsProfile"
    ]["terminateNotificationProfile"]["notBeforeTimeout"]
    assert notice == "PT10M"
    assert int(patience) < 600, "Azure goes on then"


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
    assert score <= MOST_EXPOSED, f"exposure {score}; wanted {MOST_EXPOSED} at most"


BUSY = """
import java.net.*; import java.nio.channels.*; import java.nio.file.*; import java.util.concurrent.*;
public class Busy {
    static long work(long n) { long x = 1; for (long i = 0; i < n; i++) x = x * 31 + i; return x; }
    public static void main(String[] arguments) throws Exception {
        long x = 0;
        for (int i = 0; i < 20_000; i++) x += work(1000);
        ExecutorService pool = Executors.newFixedThreadPool(8);
        ServerSocket server = new ServerSocket(0, 5, InetAddress.getLoopbackAddress());
        Future<Integer> read = pool.submit(() -> server.accept().getInputStream().read());
        try (Socket s = new Socket(server.getInetAddress(), server.getLocalPort())) { s.getOutputStream().write(7); }
        Path file = Files.createTempFile("busy", ".x");
        try (FileChannel c = FileChannel.open(file, StandardOpenOption.WRITE, StandardOpenOption.READ)) {
            c.lock(); c.map(FileChannel.MapMode.READ_WRITE, 0, 4096).put(0, (byte) 1); c.force(true);
        }
        Files.delete(Files.move(file, file.resolveSibling("busy.y"), StandardCopyOption.ATOMIC_MOVE));
        int child = new ProcessBuilder("true").start().waitFor();
        System.gc();
        System.out.println("read " + read.get() + ", child " + child + ", computed " + (x != 0));
        pool.shutdown();
    }
}
"""


@pytest.mark.skipif(
    not (restrictable() and shutil.which("javac")), reason="no javac, systemd-analyze or kernel header here"
)
def test_a_jvm_compiles_and_runs_under_the_units_filter(tmp_path: Path) -> None:
    """As the agent starts a node: by setpriv. A JVM makes memory executable, and the unit does not forbid it."""
    unit = tmp_path / "ledger-agent.service"
    unit.write_text(units()[unit.name])
    assert "MemoryDenyWriteExecute" not in unit.read_text(), "just-in-time compilers write what they execute"
    (tmp_path / "Busy.java").write_text(BUSY)
    subprocess.run(["javac", "Busy.java"], cwd=tmp_path, check=True)
    node = ["setpriv", "--pdeathsig", "KILL", "--", "java", "-XX:+UseG1GC", "-cp", str(tmp_path), "Busy"]
    for command, status in ((node, 0), (["chroot", "/", "true"], 125)):
        run = subprocess.run(
            [sys.executable, "-m", "tests.seccomp", str(unit), *command],
            cwd=DELIVERY.parent,
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == status, f"{command}: {run.stderr}"
        if not status:
            assert run.stdout == "read 7, child 0, computed true\n"


def test_the_share_is_mounted_over_tls_and_holds_nobody_up() -> None:
    share, agent = (units()[f"ledger-{name}.service"] for name in ("share", "agent"))
    assert (
        f"mount -t aznfs -o vers=4,minorversion=1,sec=sys,nconnect=4,noatime ${{SHARE_SOURCE}} {SHARE}\n" in share
    ), "the account refuses what is not encrypted"
    assert "Restart=on-failure" in share, "the share may be away when the VM starts"
    assert "ledger-share" not in agent, "an agent that waits for the share would not answer its health probe"


@pytest.mark.skipif(shutil.which("cloud-init") is None, reason="no cloud-init here")
@pytest.mark.parametrize("in_image", [False, True])
def test_cloud_init_accepts_the_document(tmp_path: Path, in_image: bool) -> None:
    path = tmp_path / "user-data"
    path.write_text(config(in_image=in_image))
    checked = subprocess.run(
        ["cloud-init", "schema", "--config-file", str(path)], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_image_gets_the_very_files_that_cloud_init_writes() -> None:
    with tarfile.open(fileobj=io.BytesIO(bundle())) as archive:
        packed = {f"/{entry.name}": archive.extractfile(entry) for entry in archive}
        modes = {f"/{entry.name}": entry.mode for entry in archive}
    assert {path: file.read().decode() for path, file in packed.items() if file} == installed()
    assert modes[INSTALL] == 0o755, "the recipe runs it"
    assert bundle() == bundle(), "the same files are the same archive"


def test_the_images_recipe_declares_what_it_uses_and_installs_what_is_wanted() -> None:
    recipe = (DELIVERY.parent / "image" / "ledger-node.pkr.hcl").read_text()
    assert json.loads(re.findall(r"default += (\[.*\])", recipe)[1]) == list(INSTALLS), "and the default version"
    declared, used = (
        set(re.findall(r'^variable "(\w+)"', recipe, re.MULTILINE)),
        set(re.findall(r"\bvar\.(\w+)", recipe)),
    )
    assert declared == used, "a variable that is not declared, or declared for nothing"
    packages = re.findall(r"default += (\[.*\])", recipe)[0]
    wanted = [*CORDA.packages(CORDA.default_version), VENV_PACKAGE]
    assert json.loads(packages) == wanted, "the runtime of the default version, and what the agent needs"
    assert INSTALL in recipe, "the image is installed by the script that installs a VM"
    assert all(recipe.count(opening) == recipe.count(closing) for opening, closing in ("{}", "[]", "()")), "balanced"
    assert not re.search(r"(?i)client_secret|password", recipe), "whoever builds signs in by himself"
