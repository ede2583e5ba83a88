"""How the agent gets onto a VM: the document of cloud-init, the unit of systemd, the configuration, the libraries."""

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
from pathlib import Path
from typing import Any

import pytest

from agent.configuration import PATH, Configuration, ConfigurationError, read_configuration
from agent.lease import KILL_SECONDS, LEASE_SECONDS, STOP_SECONDS, WATCHDOG_SECONDS
from agent.service import SIGN_SECONDS
from delivery.bundle import bundle
from delivery.cloud_config import (
    INSTALL,
    MAX_CUSTOM_DATA_BYTES,
    SHARE,
    VENV_PACKAGE,
    cloud_config,
    custom_data,
    installed,
    units,
)
from ledger.corda import PLATFORM as CORDA
from tests.runs import Plan, large, one, sample

DELIVERY = Path(__file__).resolve().parent.parent / "delivery"
PACKAGES = ["openjdk-8-jre-headless"]
SOURCE = "account.file.core.windows.net:/account/ledger"
SHARE_FILE = "/etc/decentralized-trust/share.env"
MOST_EXPOSED = 2.0
"""Of 10, systemd-analyze(1): what is above is not hardened any more."""


def document_of(text: str) -> dict[str, Any]:
    first, _, rest = text.partition("\n")
    assert first == "#cloud-config", "cloud-init ignores a document that begins with anything else"
    return dict(json.loads(rest))


def files_of(text: str) -> dict[str, str]:
    return {each["path"]: each["content"] for each in document_of(text)["write_files"]}


def written(run: Plan) -> dict[str, str]:
    """The files that the VMs of a bank get."""
    packed = one(run, "VirtualMachineScaleSet", "nodes-vms").inputs["virtualMachineProfile"]["osProfile"][
        "customData"
    ]
    return files_of(gzip.decompress(base64.b64decode(packed)).decode())


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
        *("platform", "version", "legal_name", "identities", "client_id", "vault_url", "blob_url", "lease_container"),
        *("network_container", "share", "database", "connection_string"),
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


def test_custom_data_fits_and_is_the_same_for_the_same_document() -> None:
    text = cloud_config(told(large()).to_json(), SOURCE, PACKAGES, in_image=False)
    packed = base64.b64decode(custom_data(text))
    print(f"custom data: {len(packed)} of {MAX_CUSTOM_DATA_BYTES} bytes")
    assert custom_data(text) == custom_data(text), "a time stamp in it would roll every VM at each run"
    assert gzip.decompress(packed).decode() == text
    assert len(packed) < 0.75 * MAX_CUSTOM_DATA_BYTES, "the ledger's own part is still to come"


def test_custom_data_beyond_azures_limit_is_refused() -> None:
    too_long = "".join(sha256(str(number).encode()).hexdigest() for number in range(4000))
    with pytest.raises(ValueError, match=f"wanted {MAX_CUSTOM_DATA_BYTES} at most"):
        custom_data(too_long)


def test_without_an_image_the_vm_installs_the_agent() -> None:
    text = cloud_config("{}", SOURCE, PACKAGES, in_image=False)
    document, files = document_of(text), files_of(text)
    assert document["packages"] == [VENV_PACKAGE, *PACKAGES]
    assert document["package_update"] is True, "an image's package lists are as old as the image"
    (boot,) = document["runcmd"]
    assert INSTALL in boot[-1], "the script that is written is the one that is run"
    assert "/dev/console" in boot[-1], "what fails at boot is read where nobody can sign in yet"
    for name, text in units().items():
        assert files[f"/etc/systemd/system/{name}"] == text
        assert re.search(rf"^systemctl enable --now .*{name}$", files[INSTALL], re.MULTILINE), f"{name} is started"
        assert "{" not in text.replace("${SHARE_SOURCE}", ""), "every value is filled in"
    assert f"\nmkdir -p {SHARE}\n" in files[INSTALL], "the mount wants its folder"
    assert installed().items() <= files.items(), "the very files that an image has"


def test_an_image_brings_everything_along() -> None:
    text = cloud_config("{}", SOURCE, PACKAGES, in_image=True)
    assert set(files_of(text)) == {str(PATH), SHARE_FILE}, "a pinned image must not change at its first boot"
    (restarted,) = document_of(text)["runcmd"]
    assert set(units()) <= set(restarted), "they had no configuration before"
    assert not {"packages", "package_update"} & set(document_of(text)), "it boots without the open internet"


def test_what_is_written_runs_with_the_locked_libraries_alone(tmp_path: Path) -> None:
    files = files_of(cloud_config("{}", SOURCE, PACKAGES, in_image=False))
    prefix = "/opt/decentralized-trust/source/"
    for path, content in files.items():
        if path.startswith(prefix):
            (tmp_path / path.removeprefix(prefix)).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path.removeprefix(prefix)).write_text(content)
    run = subprocess.run(
        [sys.executable, "-m", "agent", "no-such-file.json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 78, f"EX_CONFIG: systemd shows that the configuration is at fault\n{run.stderr}"
    assert run.stderr == "error: no-such-file.json: No such file or directory; wanted the agent's configuration\n"


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


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
def test_the_unit_is_hardened(tmp_path: Path) -> None:
    path = tmp_path / "ledger-agent.service"
    path.write_text(units()[path.name])
    analysed = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(path)],
        capture_output=True,
        text=True,
        check=True,
    )
    print(analysed.stdout.strip().splitlines()[-1])
    score = float(analysed.stdout.rsplit("ledger-agent.service: ", 1)[1].split()[0])
    assert score <= MOST_EXPOSED, f"exposure {score}; wanted {MOST_EXPOSED} at most"


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
    path.write_text(cloud_config("{}", SOURCE, PACKAGES, in_image=in_image))
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
    declared, used = (
        set(re.findall(r'^variable "(\w+)"', recipe, re.MULTILINE)),
        set(re.findall(r"\bvar\.(\w+)", recipe)),
    )
    assert declared == used, "a variable that is not declared, or declared for nothing"
    (packages,) = re.findall(r"default += (\[.*\])", recipe)
    wanted = [*CORDA.packages(CORDA.default_version), VENV_PACKAGE]
    assert json.loads(packages) == wanted, "the runtime of the default version, and what the agent needs"
    assert INSTALL in recipe, "the image is installed by the script that installs a VM"
    assert all(recipe.count(opening) == recipe.count(closing) for opening, closing in ("{}", "[]", "()")), "balanced"
    assert not re.search(r"(?i)client_secret|password", recipe), "whoever builds signs in by himself"
