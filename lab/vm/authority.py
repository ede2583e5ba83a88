"""The network authority of a guest's bank: the planned one, as a process of this machine at its planned address."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from azure.storage.blob import ContainerClient

from contract.authority_configuration import AuthorityConfiguration
from lab.banks import azurite, corda, key_vault, postgres
from lab.banks.authority import AUTHORITY_FILE_NAME
from lab.banks.process import VmProcess
from lab.banks.site import Host
from lab.banks.vm import VM_FILE_NAME, Vm
from ledger.corda import CORDA


@contextmanager
def certifying(planned: AuthorityConfiguration, secrets: Mapping[str, str], folder: Path) -> Iterator[None]:
    """Run it during the block, in the network of this thread.

    Args:
        planned: the configuration of its VMs.
        secrets: what the bank's stack writes into its vault.
        folder: a new one.
    """
    assert CORDA.authority
    folder.mkdir()
    with ExitStack() as stack:
        vault, root = [stack.enter_context(key_vault.in_process(folder / name)) for name in ("vault", "root")]
        vault.set(secrets)
        vault.make_keys(CORDA.authority.keys)
        root.make_keys([CORDA.authority.root_key])
        blobs, _ = stack.enter_context(azurite.blob_service())
        with ContainerClient(blobs, planned.container, azurite.CREDENTIAL) as container:
            container.create_container()
        trusted = folder / "trusted.pem"
        trusted.write_text("".join(each.certificate.read_text(encoding="ascii") for each in (vault, root)))
        host = Host(host_of(planned.url))
        vm = Vm(
            name="authority",
            address=host.address,
            vault_certificates=(trusted,),
            database_password=postgres.PASSWORD,
            runtime=folder,
        )
        changed = planned.model_copy(
            update={
                "vault_url": vault.url,
                "root_vault_url": root.url,
                "blob_url": blobs,
                "installation": corda.installed(),
            }
        )
        (folder / VM_FILE_NAME).write_text(vm.model_dump_json(), encoding="utf-8")
        (folder / AUTHORITY_FILE_NAME).write_text(changed.to_json(), encoding="utf-8")
        command = [sys.executable, "-m", "lab.banks.authority", str(folder)]
        stack.callback(VmProcess("authority", host, command, folder / "log").end)
        yield


def host_of(url: str) -> str:
    """The host in a URL, which has one."""
    host = urlsplit(url).hostname
    assert host
    return host
