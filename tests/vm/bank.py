"""A bank of one VM, as tests see it."""

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.lease import IdentityRecord, Tenure
from contract.identities import identities
from contract.metrics import Cause
from contract.platform import P2P
from lab.banks.process import until
from lab.echo import ECHO, JOURNAL
from lab.vm import image
from lab.vm.guest import Guest
from lab.vm.metadata import Metadata
from lab.vm.network import GuestSubnet
from lab.vm.site import GuestServices, around
from tests.delivered import PREFIX
from tests.vm.planned import IDENTITY, Delivered

PATIENCE_SECONDS = 900
"""For waits whose seconds promise nothing: a guest is ten times slower than a VM, and more so under load."""

(_NODE,) = identities(ECHO, "Bank A", 1)
_PAUSE_SECONDS = 2


def first_disk(made: image.Image) -> Path:
    """The disk of a VM without its bank's image, with wheels already installed except in nightly runs."""
    return made.disk if os.environ.get("LONG") else made.warm_disk


def eventually(condition: Callable[[], Any], what: str, seconds: float = PATIENCE_SECONDS) -> Any:
    """Wait for a condition; returns its value. Raises TimeoutError."""

    def unhurried() -> Any:
        # Each check costs the guest processor time.
        time.sleep(_PAUSE_SECONDS)
        return condition()

    return condition() or until(unhurried, seconds, what)


@dataclass
class Bank:
    """A VM, its configuration, and its services."""

    guest: Guest
    given: Delivered
    site: GuestServices

    def record(self) -> IdentityRecord:
        """The holders of the identity, with times."""
        with self.site.container(self.given.configuration.lease_container) as container:
            return IdentityRecord.from_json(IDENTITY, container.download_blob(IDENTITY).readall())

    def tenure(self, epoch: int) -> Tenure:
        """The holder of the identity in an epoch, and the reason of its release."""
        (found,) = [each for each in self.record().history if each.epoch == epoch]
        return found

    def lease(self) -> str:
        """State of the identity's lease: `leased`, `expired` after it lapsed, `available` after a release."""
        with self.site.container(self.given.configuration.lease_container) as container:
            return str(container.get_blob_client(IDENTITY).get_blob_properties().lease.state)

    def await_ready(self, after: int = 0, seconds: float = PATIENCE_SECONDS) -> dict[str, Any]:
        """Wait for a ready node of a later epoch; returns the VM's health."""

        def ready() -> dict[str, Any] | None:
            health = self.guest.health()
            return health if health.get("node") == "ready" and health["epoch"] > after else None

        return eventually(ready, f"a ready node after epoch {after}", seconds)

    def await_lack(self, cause: Cause) -> dict[str, Any]:
        """Wait until the VM reports that it lacks this; returns its health."""

        def lacks() -> dict[str, Any] | None:
            health = self.guest.health()
            return health if cause in health.get("lacks", {}) else None

        return eventually(lacks, f"a VM without its {cause}")

    def cloud_init(self) -> dict[str, Any]:
        """The status of cloud-init, once it has finished."""
        self.await_ready()
        done = "test -e /run/cloud-init/result.json"
        eventually(lambda: self.guest.try_run(done) is not None, "the end of cloud-init's work")
        return dict(json.loads(self.guest.run("cloud-init status --format json >/run/status; cat /run/status")))

    def await_installed(self) -> None:
        """Wait for a ready node and the end of cloud-init. Raises TimeoutError, with the end of their logs."""
        try:
            self.cloud_init()
        except TimeoutError as error:
            files = f"/var/log/cloud-init.log {PREFIX}/install.log"
            logs = self.guest.try_run(f"tail --lines 40 {files}; journalctl --lines 40 --unit ledger-agent")
            raise TimeoutError(f"{error}\n{logs}") from error

    def echo(self, line: str) -> str:
        """The node's answer to a line, within 30 s."""
        with (
            socket.create_connection((str(self.guest.address), _NODE.ports[P2P]), timeout=30) as connection,
            connection.makefile("rw") as lines,
        ):
            lines.write(f"{line}\n")
            lines.flush()
            return lines.readline().strip()

    def journal(self, epoch: int) -> list[str]:
        """The lines of the node's journal on the share."""
        return (self.site.share.folder / IDENTITY / f"epoch-{epoch}" / JOURNAL).read_text().splitlines()

    def agent(self, value: str) -> str:
        """A property of the agent's unit in systemd."""
        return self.guest.run(f"systemctl show ledger-agent --value --property {value}").strip()


@contextmanager
def around_a_vm(made: image.Image, given: Delivered, key: Path, folder: Path) -> Iterator[Bank]:
    """A VM configured by a plan, in this thread's network namespace, without a disk yet.

    Args:
        made: the platform's image.
        given: of the plan.
        key: the administrator's.
        folder: an empty one.
    """
    subnet = GuestSubnet(given.subnet)
    metadata = Metadata(
        name="nodes-vms_0f3b9c57",
        host_name=f"{given.profile['computerNamePrefix']}000001",
        administrator=given.profile["adminUsername"],
        ssh_public_key=given.profile["linuxConfiguration"]["ssh"]["publicKeys"][0]["keyData"],
        client_id=given.configuration.client_id,
        address=subnet.guest,
        subnet=given.subnet,
        mac="00:0d:3a:12:34:56",
        user_data=given.user_data,
    )
    guest = Guest(folder / "vm", made, metadata, given.custom_data, key)
    with around(
        given.configuration,
        given.share_source,
        given.secrets,
        authority=given.authority,
        database_subnet=given.database_subnet,
        subnet=subnet,
        metadata=metadata,
        made=made,
        folder=folder,
    ) as site:
        yield Bank(guest, given, site)


@contextmanager
def powered_on(guest: Guest, disk: Path) -> Iterator[None]:
    """A guest that starts from a copy of a disk, to which its administrator can sign in."""
    guest.make(disk)
    guest.power_on()
    try:
        guest.await_shell()
        yield
    finally:
        guest.cut_power()
