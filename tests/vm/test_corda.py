"""A VM of a bank's own image with a real Corda node, on Java 8 as on VMs; the bank certifies it by itself."""

import json
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from contract.identities import identities
from contract.legal_name import name_key
from contract.users import NODE_USERS
from contract.vm_configuration import INSTALLATION
from lab.banks import azurite, corda, postgres
from lab.vm import image, network
from ledger.corda import CORDA, certificates
from ledger.corda.certificates import Chains
from ledger.corda.installation import DRIVER, KNOWN, MANIFEST, fetch, wanted_artifacts
from tests.configuration import IMAGE_ID
from tests.vm.bank import Bank, around_a_vm, powered_on
from tests.vm.planned import IDENTITY, certified_by_itself, corda_image_files

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(corda.missing() is not None, reason=f"no Corda here: {corda.missing()}"),
]
(CERTIFIED,) = identities(CORDA, "O=Bank A, L=London, C=GB", 1, {IDENTITY: "notary"})
START_SECONDS = 1500
"""A first start takes minutes in a guest, and more under load."""


@pytest.fixture(scope="module")
def bank(key: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bank]:
    """A VM that starts from the image."""
    folder = tmp_path_factory.mktemp("bank")
    # What is fetched: a guest's network leads nowhere.
    made = image.java_image()
    jars = [fetch(each, folder / "jars") for each in (KNOWN[CORDA.default_version], DRIVER)]
    for each in (corda.installed, postgres.programs, azurite.program):
        each()
    install = (CORDA.name, CORDA.default_version, str(INSTALLATION))
    disk = image.bank_disk(made, corda_image_files(), install, jars, folder)
    given = certified_by_itself(key.with_suffix(".pub").read_text().strip(), IMAGE_ID)
    with network.isolated(), around_a_vm(made, given, key, folder) as bank:
        bank.guest.memory_megabytes = 3072
        with powered_on(bank.guest, disk):
            yield bank
    disk.unlink()


def test_the_jars_are_those_of_the_hashes(bank: Bank) -> None:
    manifest = json.loads(bank.guest.run(f"cat {INSTALLATION / MANIFEST}"))
    assert manifest["artifacts"] == wanted_artifacts(CORDA.default_version, None, ())
    listed = bank.guest.run(f"cd {INSTALLATION} && find . -type f ! -name {MANIFEST} | xargs sha256sum").splitlines()
    found = {line.split("  ./")[1]: line.split()[0] for line in listed}
    assert found == manifest["files"], "as they were installed"
    assert DRIVER.sha256 in found.values(), "a jar that is not unpacked"


def test_a_corda_node_starts(bank: Bank) -> None:
    health = bank.await_ready(seconds=START_SECONDS)
    assert (health["identity"], health["lacks"]) == (IDENTITY, {})
    run = bank.guest.run
    (node,) = run(f"pgrep --uid {NODE_USERS[IDENTITY].number} java").split()
    assert run(f"readlink /proc/{node}/exe").strip() == "/usr/lib/jvm/java-8-openjdk-amd64/jre/bin/java"
    with bank.site.container(bank.given.configuration.network_container) as container:
        chains = Chains.from_json(container.download_blob(f"certificates/{IDENTITY}").readall())
    assert chains.identity[0].subject == certificates.x500_name(CERTIFIED.legal_name), (
        "the bank's authority certified it"
    )
    served = ssl.get_server_certificate((str(bank.guest.address), CERTIFIED.ports["rpc"]), timeout=30)
    assert x509.load_pem_x509_certificate(served.encode()) == chains.rpc, "applications find it by TLS"
    epoch = f"epoch-{health['epoch']}"
    assert (bank.site.share.folder / IDENTITY / epoch / "artemis").is_dir(), "its messages are on the share"
    assert bank.site.database
    with bank.site.database.connect(IDENTITY) as connection:
        rows = connection.execute("SELECT party_name FROM corda.node_link_nodeinfo_party").fetchall()
    assert [name_key(name) for (name,) in rows] == [name_key(CERTIFIED.legal_name)], "it is in its own network map"
