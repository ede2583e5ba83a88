"""One VM of a bank for all tests here; those that end its agent come last."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.banks import npm
from lab.vm import image, network
from tests.vm.bank import Bank, booted
from tests.vm.planned import delivered


@pytest.fixture(scope="session")
def made() -> image.Image:
    """What guests start from."""
    if why := image.missing():
        pytest.skip(why)
    if not npm.available():
        pytest.skip("no node and npm here; wanted them for Azurite")
    return image.image()


@pytest.fixture(scope="session")
def key(made: image.Image, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The administrator's."""
    path = tmp_path_factory.mktemp("ssh") / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", path], check=True)
    return path


@pytest.fixture(scope="session")
def bank(made: image.Image, key: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bank]:
    """A VM that has booted for the first time, without an image of the bank's own.

    Its wheels are there already, but for the nights.
    """
    given = delivered(key.with_suffix(".pub").read_text().strip())
    with (
        network.isolated(),
        booted(
            made, given, key, tmp_path_factory.mktemp("bank"), base=None if os.environ.get("LONG") else made.warm_disk
        ) as bank,
    ):
        yield bank
