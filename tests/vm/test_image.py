"""A VM of the bank's image, which a guest builds by the recipe, without Packer and Azure's packages."""

import base64
import hashlib
import io
import json
import re
import tarfile
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from contract.vm_configuration import SHARE
from delivery.cloud_config import UBUNTU_PACKAGES, units
from lab import ROOT
from lab.echo import ECHO
from lab.vm import image, network
from lab.vm.guest import Guest
from tests.configuration import IMAGE_ID
from tests.vm.bank import PATIENCE_SECONDS, Bank, around_a_vm, eventually, first_disk, powered_on
from tests.vm.planned import delivered, image_files

pytestmark = pytest.mark.long


def provisioning(**variables: str | Sequence[str]) -> str:
    """The shell script of the recipe's provisioner."""
    recipe = (ROOT / "image" / "ledger-node.pkr.hcl").read_text(encoding="utf-8")
    recipe = re.sub(r'\$\{join\(" ", var\.(\w+)\)\}', lambda found: " ".join(variables[found[1]]), recipe)
    recipe = re.sub(r"\$\{var\.(\w+)\}", lambda found: str(variables[found[1]]), recipe)

    def listed(name: str) -> list[str]:
        (text,) = re.findall(rf"^    {name} = \[\n(.*?)^    \]", recipe, re.MULTILINE | re.DOTALL)
        return re.findall(r'^ +"(.*)",$', text, re.MULTILINE)

    return "\n".join([f"export {' '.join(listed('environment_vars'))}", *listed("inline"), ""])


def build(guest: Guest, made: image.Image) -> None:
    """Build the image on a VM as Packer does, and power the VM off."""
    helper = made.packages / image.HELPER
    script = provisioning(
        packages=[*ECHO.packages(ECHO.default_version), *UBUNTU_PACKAGES],
        ledger=[],
        aznfs_url=f"http://{image.MIRROR}/packages/{helper.name}",
        aznfs_sha256=hashlib.sha256(helper.read_bytes()).hexdigest(),
    )
    for path, content in (("/tmp/agent.tar", image_files()), ("/tmp/script.sh", script.encode())):  # noqa: S108
        guest.run(f"base64 --decode >{path} <<END\n{base64.encodebytes(content).decode()}END\n")
    guest.run("sh -eux /tmp/script.sh </dev/null", seconds=PATIENCE_SECONDS)
    states = guest.run(f"systemctl show --value --property ActiveState {' '.join(units())}").split()
    assert {*states} == {"inactive"}, "the VM that builds an image has no data of a bank"
    guest.run("rm /tmp/script.sh")
    guest.try_run("systemctl poweroff")
    guest.await_off(PATIENCE_SECONDS)


@pytest.fixture(scope="module")
def bank(made: image.Image, key: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bank]:
    """A VM that starts from the image, after the build."""
    given = delivered(key.with_suffix(".pub").read_text().strip(), image=IMAGE_ID)
    folder = tmp_path_factory.mktemp("bank")
    with network.isolated(), around_a_vm(made, given, key, folder) as bank:
        builder = Guest(folder / "builder", made, bank.site.metadata, "", key)
        with powered_on(builder, first_disk(made)):
            build(builder, made)
        bank.site.fetched.clear()
        # Azure gives each VM another one.
        bank.site.metadata.vm_id = str(uuid.uuid4())
        with powered_on(bank.guest, builder.disk):
            yield bank


def test_a_vm_of_an_image_serves_without_installing_anything(bank: Bank) -> None:
    result = bank.cloud_init()
    log = bank.guest.run("cat /var/log/cloud-init.log")
    assert (result["status"], result["errors"]) == ("done", []), f"{result}\n{log[-3000:]}"
    assert bank.await_ready()["epoch"] == 1
    assert bank.site.fetched == [], "the VM downloads nothing"
    assert bank.echo("one") == "one"
    assert bank.guest.run("systemctl --failed --no-legend --plain") == ""
    states = bank.guest.run(f"systemctl show --value --property ActiveState {' '.join(units())}").split()
    assert states == ["active"] * len(units()), states


def test_it_has_the_images_files_the_packaged_helper_and_the_plans_configuration(bank: Bank) -> None:
    bank.await_ready()
    with tarfile.open(fileobj=io.BytesIO(image_files())) as archive:
        packed = {entry.name: archive.extractfile(entry) for entry in archive}
    wanted = {f"/{name}": file.read() for name, file in packed.items() if file}
    wanted |= {path: text.encode() for path, text in bank.given.files.items()}
    there = bank.guest.run(f"sha256sum {' '.join(sorted(wanted))}").splitlines()
    assert {line.split("  ")[1]: line.split()[0] for line in there} == {
        path: hashlib.sha256(content).hexdigest() for path, content in wanted.items()
    }
    assert bank.guest.run("dpkg --search /usr/sbin/mount.aznfs").startswith("aznfs: ")
    mounted = json.loads(bank.guest.run(f"findmnt --json --mountpoint {SHARE}"))["filesystems"][0]
    assert mounted["fstype"] == "nfs4", "the mount helper mounted it"


@pytest.mark.usefixtures("ending")
def test_a_vm_that_azure_is_about_to_delete_releases_its_identity_and_approves(bank: Bank) -> None:
    before, metadata = bank.await_ready()["epoch"], bank.site.metadata
    metadata.schedule("Terminate", 600)
    eventually(lambda: metadata.events[0]["EventStatus"] == "Started", "the agent's approval")
    # As Azure does then.
    bank.guest.cut_power()
    assert bank.lease() == "available", "released: a standby need not wait until it lapses"
    assert bank.tenure(before).why == "Terminate of the VM"
