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
from tests.vm.planned import Delivered

IDENTITY = "node-1"
PATIENCE_SECONDS = 900
"""For waits whose seconds promise nothing: a guest is ten times slower than a VM, and more so under load."""

(_NODE,) = identities(ECHO, "Bank A", 1)
_PAUSE_SECONDS = 2


def first_disk(made: image.Image) -> Path:
    """What a VM without an image of its bank starts from. Its wheels are there already, but for the nights."""
    return made.disk if os.environ.get("LONG") else made.warm_disk


def eventually(condition: Callable[[], Any], what: str) -> Any:
    """Wait for a condition that comes sooner or later; gives its value. Raises TimeoutError."""

    def unhurried() -> Any:
        # To ask takes a guest's processor from what is waited for.
        time.sleep(_PAUSE_SECONDS)
        return condition()

    return condition() or until(unhurried, PATIENCE_SECONDS, what)


@dataclass
class Bank:
    """A VM, what it was given, and what is around it."""

    guest: Guest
    given: Delivered
    site: GuestServices

    def record(self) -> IdentityRecord:
        """Who held the identity when."""
        with self.site.container(self.given.configuration.lease_container) as container:
            return IdentityRecord.from_json(IDENTITY, container.download_blob(IDENTITY).readall())

    def tenure(self, epoch: int) -> Tenure:
        """Who held the identity in an epoch, and why it was released."""
        (found,) = [each for each in self.record().history if each.epoch == epoch]
        return found

    def lease(self) -> str:
        """State of the identity's lease: `leased`, `expired` after a silent end, `available` after a release."""
        with self.site.container(self.given.configuration.lease_container) as container:
            return str(container.get_blob_client(IDENTITY).get_blob_properties().lease.state)

    def await_ready(self, after: int = 0) -> dict[str, Any]:
        """Wait for a ready node of an epoch after this one; gives the VM's health."""

        def ready() -> dict[str, Any] | None:
            health = self.guest.health()
            return health if health.get("node") == "ready" and health["epoch"] > after else None

        return eventually(ready, f"a ready node after epoch {after}")

    def await_lack(self, cause: Cause) -> dict[str, Any]:
        """Wait until the VM tells that it lacks this; gives its health."""

        def lacks() -> dict[str, Any] | None:
            health = self.guest.health()
            return health if cause in health.get("lacks", {}) else None

        return eventually(lacks, f"a VM without its {cause}")

    def cloud_init(self) -> dict[str, Any]:
        """What cloud-init says of its work, once that is done."""
        self.await_ready()
        done = "test -e /run/cloud-init/result.json"
        eventually(lambda: self.guest.try_run(done) is not None, "the end of cloud-init's work")
        return dict(json.loads(self.guest.run("cloud-init status --format json >/run/told; cat /run/told")))

    def await_installed(self) -> None:
        """Wait for a ready node and the end of cloud-init's work. Raises TimeoutError, with the end of their logs."""
        try:
            self.cloud_init()
        except TimeoutError as error:
            files = f"/var/log/cloud-init.log {PREFIX}/install.log"
            logs = self.guest.try_run(f"tail --lines 40 {files}; journalctl --lines 40 --unit ledger-agent")
            raise TimeoutError(f"{error}\n{logs}") from error

    def echo(self, line: str) -> str:
        """What the node sends back of a line, within 30 s."""
        with (
            socket.create_connection((str(self.guest.address), _NODE.ports[P2P]), timeout=30) as connection,
            connection.makefile("rw") as lines,
        ):
            lines.write(f"{line}\n")
            lines.flush()
            return lines.readline().strip()

    def kept(self, epoch: int) -> list[str]:
        """The lines that the node has kept on the share."""
        return (self.site.share.folder / IDENTITY / f"epoch-{epoch}" / JOURNAL).read_text().splitlines()

    def agent(self, value: str) -> str:
        """What systemd says of the agent's unit."""
        return self.guest.run(f"systemctl show ledger-agent --value --property {value}").strip()


@contextmanager
def around_a_vm(made: image.Image, given: Delivered, key: Path, folder: Path) -> Iterator[Bank]:
    """A VM that gets what a plan says, in the network of this thread: it has no disk yet.

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
        given.configuration, given.share_source, subnet=subnet, metadata=metadata, made=made, folder=folder
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
