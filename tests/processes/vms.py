"""Banks of real agents on this machine: a VM is a process with a loopback address of its own.

Its control group is made of its process tree.
"""

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from azure.storage.blob import ContainerClient
from psycopg.errors import UndefinedTable

from agent.lease import IdentityRecord
from lab.banks import postgres
from lab.banks.azurite import CREDENTIAL
from lab.banks.process import VmProcess, until
from lab.banks.site import Host

IDENTITY = "node-1"
PATIENCE_SECONDS = 180
"""For waits whose seconds promise nothing: one that succeeds costs nothing, and a machine under load is slow."""


def loopback(number: int) -> str:
    """A loopback address for this process's tests: ports are fixed, and several workers may run at once."""
    # A process beside this one differs in the lower bits of its number.
    return f"127.{128 | os.getpid() >> 8 & 127}.{os.getpid() & 255}.{number}"


def eventually(condition: Callable[[], Any], what: str) -> Any:
    """Wait for a condition; returns its value. Raises TimeoutError."""
    return until(condition, PATIENCE_SECONDS, what)


class Vm(VmProcess):
    """One VM whose node is an echo."""

    def __init__(self, name: str, host: str, bank: "Bank", unit: Path | None = None) -> None:
        folder = bank.folder / name
        folder.mkdir(exist_ok=True)
        self.runtime = Path(tempfile.mkdtemp(dir="/dev/shm"))
        given = {
            "vm": name,
            "host": host,
            "member": bank.member,
            "frontend": bank.frontend,
            "folder": str(bank.folder),
            "identities": 1,
            "blobs": bank.blobs,
            "postgres": bank.server and bank.server.port,
            "document": bank.document,
            "state": str(folder),
            "runtime": str(self.runtime),
            "separate": bank.owner is not None,
        }
        restricted = [sys.executable, "-m", "tests.processes.seccomp", str(unit)] if unit else []
        if bank.owner is not None:
            for each in (folder, self.runtime):
                os.chown(each, bank.owner, bank.owner)
                each.chmod(0o711)
        program = bank.run_as or [*restricted, sys.executable]
        command = [*program, "-m", "tests.processes.agent_vm", json.dumps(given)]
        super().__init__(name, Host(host), command, folder / "log")

    def end(self) -> None:
        super().end()
        shutil.rmtree(self.runtime, ignore_errors=True)


class Bank:
    """A bank: its lease store, documents, database, share, vault and VMs, which a unit's filter of calls may bind."""

    def __init__(
        self,
        folder: Path,
        blobs: str,
        server: postgres.Server | None = None,
        *,
        member: str = "bank-a",
        frontend: str | None = None,
        document: str | None = None,
        unit: Path | None = None,
        run_as: Sequence[str] = (),
        owner: int | None = None,
    ) -> None:
        """Start its services.

        Args:
            folder: all its files.
            blobs: URL of the blob service.
            server: of its databases.
            member: its name.
            frontend: the address on its card; `loopback(1)` by default.
            document: pins the network document.
            unit: whose filter binds its VMs' agents.
            run_as: what runs Python for its agents in place of this process's own.
            owner: number of the user that its agents run as, apart from their nodes'; None is this process's for all.
        """
        self.run_as, self.owner = run_as, owner
        self.folder, self.blobs, self.server, self.unit = folder, blobs, server, unit
        self.member, self.frontend, self.document = member, frontend or loopback(1), document
        for name in ("share", "keys", "vault"):
            (folder / name).mkdir(parents=True)
            if owner is not None:
                os.chown(folder / name, owner, owner)
                (folder / name).chmod(0o711 if name == "share" else 0o700)
        for kind in ("leases", "network"):
            with self.container(kind) as container:
                container.create_container()
        self.tell_peers({})
        self.vms: list[Vm] = []

    def container(self, kind: str) -> ContainerClient:
        return ContainerClient(self.blobs, f"{kind}-{self.member}", CREDENTIAL)

    def tell_peers(self, cards: dict[str, Any]) -> None:
        """As the infrastructure writes them."""
        for name, card in cards.items():
            (self.folder / "vault" / f"peer-{name}").write_text(json.dumps(card))
        new = self.folder / "vault" / "new"
        new.write_text(json.dumps({name: f"peer-{name}" for name in cards}))
        new.rename(self.folder / "vault" / "peers")

    def start(self, host: str | None = None, name: str | None = None) -> Vm:
        number = len(self.vms) + 1
        vm = Vm(name or f"vm-{number}", host or loopback(number), self, self.unit)
        self.vms.append(vm)
        return vm

    def record(self) -> IdentityRecord:
        with self.container("leases") as container:
            return IdentityRecord.from_json(IDENTITY, container.download_blob(IDENTITY).readall())

    def put(self, name: str, content: bytes) -> None:
        """Write one of the bank's documents."""
        with self.container("network") as container:
            container.upload_blob(name, content, overwrite=True)

    def documents(self) -> dict[str, bytes]:
        with self.container("network") as container:
            return {name: container.download_blob(name).readall() for name in container.list_blob_names()}

    def members(self) -> dict[str, Any]:
        """Whom the identity's present node knows."""
        folders = (self.folder / "share" / IDENTITY).glob("epoch-*")
        epochs = sorted(
            (path for path in folders if path.name.split("-")[1].isdigit()),
            key=lambda path: int(path.name.split("-")[1]),
        )
        folder = epochs[-1] / "members" if epochs else Path("/nowhere")
        return {path.name: json.loads(path.read_text()) for path in folder.glob("[!.]*")}

    def commits(self) -> dict[int, int]:
        assert self.server
        # A node is ready shortly before it has created its table.
        with suppress(UndefinedTable), self.server.connect(IDENTITY) as connection:
            return dict(connection.execute("SELECT epoch, count(*) FROM commits GROUP BY epoch").fetchall())
        return {}

    def end(self) -> None:
        for vm in self.vms:
            vm.end()


def ready(vm: Vm) -> bool:
    return vm.health().get("node") == "ready"
