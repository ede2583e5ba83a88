"""A bank of one VM, as tests see it."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.lease import IdentityRecord
from lab.banks.process import until
from lab.vm import image
from lab.vm.guest import Guest
from lab.vm.metadata import Metadata
from lab.vm.network import GuestSubnet
from lab.vm.site import GuestServices, around
from tests.vm.planned import Delivered

IDENTITY = "node-1"
PATIENCE_SECONDS = 900
"""For waits whose seconds promise nothing: a guest is ten times slower than a VM, and more so under load."""


_PAUSE_SECONDS = 2


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

    def await_ready(self, after: int = 0) -> dict[str, Any]:
        """Wait for a ready node of an epoch after this one; gives the VM's health."""

        def ready() -> dict[str, Any] | None:
            health = self.guest.health()
            return health if health.get("node") == "ready" and health["epoch"] > after else None

        return eventually(ready, f"a ready node after epoch {after}")

    def cloud_init(self) -> dict[str, Any]:
        """What cloud-init says of its work, once that is done."""
        self.await_ready()
        done = "test -e /run/cloud-init/result.json"
        eventually(lambda: self.guest.try_run(done) is not None, "the end of cloud-init's work")
        return dict(json.loads(self.guest.run("cloud-init status --format json >/run/told; cat /run/told")))

    def agent(self, value: str) -> str:
        """What systemd says of the agent's unit."""
        return self.guest.run(f"systemctl show ledger-agent --value --property {value}").strip()


@contextmanager
def booted(
    made: image.Image, given: Delivered, key: Path, folder: Path, *, base: Path | None = None
) -> Iterator[Bank]:
    """A VM that gets what a plan says, in the network of this thread, powered on.

    Args:
        made: the platform's image.
        given: of the plan.
        key: the administrator's.
        folder: an empty one.
        base: disk to start from; by default the platform's.
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
        guest.make(base)
        guest.power_on()
        try:
            guest.await_shell()
            yield Bank(guest, given, site)
        finally:
            guest.cut_power()
