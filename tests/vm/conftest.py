"""One VM of a bank for the tests of a module."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.banks import azurite, npm
from lab.vm import image, network
from tests.vm.bank import Bank, around_a_vm, first_disk, powered_on
from tests.vm.planned import delivered


@pytest.fixture(scope="session")
def made() -> image.Image:
    """The platform's image for guests."""
    if why := image.missing():
        pytest.skip(why)
    if not npm.available():
        pytest.skip("no node and npm here; wanted them for Azurite")
    # A guest's network leads nowhere.
    azurite.program()
    return image.image()


@pytest.fixture(scope="session")
def key(made: image.Image, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The administrator's key."""
    path = tmp_path_factory.mktemp("ssh") / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", path], check=True)
    return path


@pytest.fixture(scope="module")
def bank(made: image.Image, key: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bank]:
    """A VM after its first boot, without the bank's image."""
    given = delivered(key.with_suffix(".pub").read_text().strip())
    with (
        network.isolated(),
        around_a_vm(made, given, key, tmp_path_factory.mktemp("bank")) as bank,
        powered_on(bank.guest, first_disk(made)),
    ):
        bank.await_installed()
        yield bank
