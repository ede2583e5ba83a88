"""Banks of real agents on this machine: a VM is a process with a loopback address of its own.

Its control group is made of its process tree.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from azure.storage.blob import ContainerClient

from agent.lease import Record
from agent.ports import HEALTH_PORT
from tests import azurite, postgres
from tests.agent_vm import ROOT

IDENTITY = "node-1"
CREDENTIAL: Any = {"account_name": azurite.ACCOUNT, "account_key": azurite.KEY}


class Vm:
    """One VM's agent, and all that it started."""

    def __init__(self, name: str, host: str, bank: "Bank", unit: Path | None = None) -> None:
        self.name, self.host = name, host
        folder = bank.folder / name
        folder.mkdir(exist_ok=True)
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
            "runtime": tempfile.mkdtemp(dir="/dev/shm"),
        }
        self.runtime = Path(given["runtime"])
        self.log = folder / "log"
        self.started = time.monotonic()
        with self.log.open("a") as log:
            restricted = [sys.executable, "-m", "tests.seccomp", str(unit)] if unit else []
            self.process = subprocess.Popen(
                [*restricted, sys.executable, "-m", "tests.agent_vm", json.dumps(given)],
                cwd=ROOT,
                stdout=log,
                stderr=log,
            )

    def health(self) -> dict[str, Any]:
        try:
            with urllib.request.urlopen(f"http://{self.host}:{HEALTH_PORT}/health", timeout=1) as answer:
                return dict(json.load(answer))
        except OSError:
            return {}

    def tree(self) -> list[int]:
        """The agent's process and all below it."""
        parents = {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rsplit(") ", 1)[1].split()
            except OSError:
                continue
            parents[int(stat.parent.name)] = int(fields[1])
        found = [self.process.pid]
        for pid in found:
            found.extend(child for child, parent in parents.items() if parent == pid)
        return found

    def send(self, number: signal.Signals) -> None:
        """A signal to the whole VM."""
        for pid in self.tree():
            # The node may be gone already: the kernel kills it with its agent.
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def end(self) -> None:
        self.send(signal.SIGKILL)
        self.process.wait()
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
        frontend: str = "127.0.1.1",
        document: str | None = None,
        unit: Path | None = None,
    ) -> None:
        self.folder, self.blobs, self.server, self.unit = folder, blobs, server, unit
        self.member, self.frontend, self.document = member, frontend, document
        for name in ("share", "keys", "vault"):
            (folder / name).mkdir(parents=True)
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
        vm = Vm(name or f"vm-{number}", host or f"127.0.1.{number}", self, self.unit)
        self.vms.append(vm)
        return vm

    def record(self) -> Record:
        with self.container("leases") as container:
            return Record.from_json(IDENTITY, container.download_blob(IDENTITY).readall())

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
        with self.server.connect(IDENTITY) as connection:
            return dict(connection.execute("SELECT epoch, count(*) FROM commits GROUP BY epoch").fetchall())

    def end(self) -> None:
        for vm in self.vms:
            vm.end()


def until(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        time.sleep(0.05)
    return found


def ready(vm: Vm) -> bool:
    return vm.health().get("node") == "ready"
