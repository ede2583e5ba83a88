"""A bank on this machine: its services, its load balancer and its VMs. It knows of others what their cards tell."""

import json
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from azure.storage.blob import ContainerClient
from cryptography import x509

import membership
from agent.configuration import Configuration, DatabaseServer, Network, NetworkAuthority
from agent.lease import Record
from agent.ports import NETWORK_INFO, NETWORK_INFO_PATH, NETWORK_INFO_PORT
from agent.vault import CARD, ENROLMENT_KEY, ENROLMENT_KEYS, PEERS, RPC_USERS
from ledger.corda import CORDA
from ledger.corda.authority import configuration as authority_configuration
from ledger.corda.certificates import Chains
from ledger.platform import P2P, Artifact, Identity, identities, listeners
from local import balancer, key_vault, postgres, vm
from local.authority import AUTHORITY_FILE
from local.azurite import CREDENTIAL
from local.process import ROOT, VmProcess, until
from local.wires import Wires, port_of, wires
from membership import Party

_LEASES, _NETWORK, _REGISTER = "leases", "network", "authority"
_UNENDED = (0, 3, 5)
"""Of Corda's Checkpoint.FlowStatus: RUNNABLE, HOSPITALIZED, PAUSED."""
_FRONTEND, _AUTHORITY_FRONTEND, _FIRST_VM, _FIRST_AUTHORITY_VM = 254, 253, 10, 20


@dataclass(frozen=True)
class User:
    """An application of the bank's."""

    name: str
    permissions: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """What a bank is to be."""

    name: str
    legal_name: str
    number: int
    """Its addresses are 127.NUMBER.0.x."""
    identities: int = 1
    vms: int = 2
    roles: Mapping[str, str] = field(default_factory=dict)
    users: tuple[User, ...] = ()
    authority_vms: int = 0
    """VMs of the network's authority, if the bank is that."""

    @property
    def nodes(self) -> tuple[Identity, ...]:
        """Its identities."""
        return identities(CORDA, self.legal_name, self.identities, self.roles)

    def address(self, last: int) -> str:
        """One of its addresses."""
        return str(IPv4Address(f"127.{self.number}.0.{last}"))

    @property
    def standbys(self) -> int:
        """How many VMs may be gone while each identity has one."""
        return self.vms - self.identities

    @property
    def frontend(self) -> str:
        """What peers and applications dial."""
        return self.address(_FRONTEND)


class Bank:
    """One member, as its stack would make it."""

    def __init__(
        self,
        plan: Plan,
        folder: Path,
        blobs: str,
        installation: Path,
        authority: "Bank | None",
        *,
        applications: tuple[Artifact, ...] = (),
    ) -> None:
        """Make its keys and its services' folders; `start` starts the services.

        Args:
            plan: what it is to be.
            folder: where all of it lies.
            blobs: URL of a blob account, which banks share here; containers are each bank's own.
            installation: where Corda is installed.
            authority: the member that certifies names; None if it is this one.
            applications: what is installed there besides.
        """
        self.plan, self.folder, self._blobs, self._installation = plan, folder, blobs, installation
        self._authority, self._applications = authority or self, applications
        self._secret, self._seed = secrets.token_bytes(32), secrets.token_bytes(32)
        self.identities = plan.nodes
        self.passwords = {user.name: secrets.token_urlsafe(16) for user in plan.users}
        self.event_horizon_days = 30
        """Of the network's parameters, if this is the authority: its VMs read it when they start."""
        self.vms: list[VmProcess] = []
        """One of each number, once it was started."""
        self.wires: dict[int, Wires] = {}
        """Through which the VM of a number reaches storage, database and vault."""
        self.authority_vms: list[VmProcess] = []
        self._services = ExitStack()
        self._peers: list[Bank] = []
        self.card = self._card()

    @property
    def name(self) -> str:
        """Its name in the consortium."""
        return self.plan.name

    # --- Services ---

    def start(self) -> None:
        """Start database, vaults and load balancers, and write what the infrastructure writes."""
        self.folder.mkdir(parents=True)
        for kind in (_LEASES, _NETWORK, *((_REGISTER,) if self.plan.authority_vms else ())):
            with self._container(kind) as container:
                container.create_container()
        self.server = self._services.enter_context(postgres.server(tls=True))
        self._vault = self._services.enter_context(key_vault.in_process(self.folder / "vault"))
        self._tell({CARD: json.dumps(self.card), RPC_USERS: self._users()})
        self._tell({ENROLMENT_KEY: self._enrolment_key(self._authority)})
        behind = (*listeners(self.identities), NETWORK_INFO)
        names = {f"vm-{number}": self._vm_address(number) for number in range(1, self.plan.vms + 1)}
        self.balancer = self._balance(self.plan.frontend, behind, names, "balancer")
        ports = {"storage": port_of(self._blobs), "database": self.server.port, "vault": port_of(self._vault.url)}
        for number in range(1, self.plan.vms + 1):
            made = wires(ports, self.folder / f"wires-{number}")
            self.wires[number] = self._services.enter_context(made)
        if self.plan.authority_vms and CORDA.authority:
            keys = CORDA.authority.keys
            self._authority_vault = self._services.enter_context(
                key_vault.in_process(self.folder / "authority-vault")
            )
            self._authority_vault.make_keys(keys)
            vms = {
                f"authority-{number}": self.plan.address(_FIRST_AUTHORITY_VM + number)
                for number in range(1, self.plan.authority_vms + 1)
            }
            self._balance(self.plan.address(_AUTHORITY_FRONTEND), CORDA.authority.listeners, vms, "authority")
        self.meet([])

    def meet(self, peers: "Sequence[Bank]") -> None:
        """List its peers, as `pulumi up` with another `peers` does."""
        self._peers = list(peers)
        cards = {f"peer-{peer.name}": json.dumps(peer.card) for peer in peers}
        names = json.dumps({peer.name: f"peer-{peer.name}" for peer in peers})
        self._tell({**cards, PEERS: names})
        if self.plan.authority_vms:
            keys = json.dumps({bank.name: self._enrolment_key(self, bank) for bank in (self, *peers)})
            self._authority_vault.set({**cards, PEERS: names, ENROLMENT_KEYS: keys})

    def _tell(self, values: Mapping[str, str]) -> None:
        self._vault.set(values)

    def _balance(
        self, frontend: str, behind: Sequence[Any], vms: Mapping[str, str], name: str
    ) -> "subprocess.Popen[bytes]":
        folder = self.folder / name
        folder.mkdir()
        return self._services.enter_context(balancer.balancing(frontend, behind, vms, folder))

    def _container(self, kind: str) -> ContainerClient:
        return ContainerClient(self._blobs, f"{kind}-{self.name}", CREDENTIAL)

    # --- What it publishes ---

    def _card(self) -> dict[str, Any]:
        frontend = self.plan.frontend
        return membership.sign(
            {
                "schema": membership.SCHEMA_VERSION,
                "name": self.name,
                "location": "westeurope",
                "tenantId": "00000000-0000-0000-0000-000000000000",
                "addressSpace": f"10.{self.plan.number}.0.0/16",
                "gateway": None,
                "linkPublicKey": membership.link_public_key(self._secret),
                "keyGenerations": {"link": 1, "signing": 1},
                "nodes": [
                    {
                        "legalName": identity.legal_name,
                        "p2pAddress": f"{frontend}:{identity.ports[P2P]}",
                        "role": identity.role.name,
                    }
                    for identity in self.identities
                ],
                "networkInfoUrl": f"https://{frontend}:{NETWORK_INFO_PORT}{NETWORK_INFO_PATH}",
                "authority": {"url": self.authority_url} if self.plan.authority_vms else None,
            },
            self._seed,
        )

    @property
    def _party(self) -> Party:
        return Party(name=self.name, public_key=membership.link_public_key(self._secret), generation=1)

    def _enrolment_key(self, authority: "Bank", member: "Bank | None" = None) -> str:
        other = member or authority
        theirs = None if other is self else other._party
        return membership.enrolment_key(self._secret, self._party, theirs, authority.name)

    def _users(self) -> str:
        return json.dumps(
            [
                {"name": user.name, "password": self.passwords[user.name], "permissions": list(user.permissions)}
                for user in self.plan.users
            ]
        )

    @property
    def authority_url(self) -> str:
        """Base of the authority's requests."""
        assert CORDA.authority
        return f"https://{self.plan.address(_AUTHORITY_FRONTEND)}:{CORDA.authority.listeners[0].port}"

    # --- VMs ---

    def _vm_address(self, number: int) -> str:
        return self.plan.address(_FIRST_VM + number)

    def _vm_name(self, number: int) -> str:
        return f"{self.name}-vm-{number}"

    def vm(self, number: int) -> VmProcess:
        """The VM of a number, which was started."""
        (found,) = (each for each in self.vms if each.name == self._vm_name(number))
        return found

    def start_vm(self, number: int) -> VmProcess:
        """Start the VM of a number, from 1; the same again after it ended is a new VM in its place."""
        name, address, services = self._vm_name(number), self._vm_address(number), self.wires[number]
        folder = self._vm_folder(name, address, self._vault.certificate)
        configuration = Configuration(
            member=self.name,
            platform=CORDA.name,
            version=CORDA.default_version,
            legal_name=self.plan.legal_name,
            identities=self.plan.identities,
            roles=dict(self.plan.roles),
            frontend=self.plan.frontend,
            network=Network(authority=NetworkAuthority(url=self._authority.authority_url)),
            installation=self._installation,
            applications=self._applications,
            client_id="none",
            vault_url=services.url(self._vault.url),
            blob_url=services.url(self._blobs),
            lease_container=f"{_LEASES}-{self.name}",
            network_container=f"{_NETWORK}-{self.name}",
            share=self._share(),
            database=DatabaseServer(
                host="127.0.0.1",
                port=services.ports[self.server.port],
                administrator=postgres.ADMINISTRATOR,
                root_certificates=self.server.root_certificates,
            ),
            connection_string=None,
        )
        (folder / vm.AGENT_FILE).write_text(configuration.to_json(), encoding="utf-8")
        started = VmProcess(name, address, [sys.executable, "-m", "local.vm", str(folder)], folder / "log")
        self.vms = [*(each for each in self.vms if each.name != name), started]
        return started

    def start_authority_vm(self, number: int) -> VmProcess:
        """Start a VM of the authority's."""
        assert CORDA.authority
        name, address = f"{self.name}-authority-{number}", self.plan.address(_FIRST_AUTHORITY_VM + number)
        folder = self._vm_folder(name, address, self._authority_vault.certificate)
        frontend = self.plan.address(_AUTHORITY_FRONTEND)
        _, lists = (listener.port for listener in CORDA.authority.listeners)
        configuration = authority_configuration.Configuration(
            member=self.name,
            legal_names=tuple(identity.legal_name for identity in self.identities),
            client_id="none",
            vault_url=self._authority_vault.url,
            blob_url=self._blobs,
            container=f"{_REGISTER}-{self.name}",
            url=self.authority_url,
            crl_url=f"http://{frontend}:{lists}",
            approval=authority_configuration.Approval.AUTO,
            subject=self.plan.legal_name,
            notaries=tuple(each.legal_name for each in self.identities if each.role.name == "notary"),
            parameters=authority_configuration.Parameters(
                minimum_platform_version=12,
                max_message_bytes=10_485_760,
                max_transaction_bytes=10_485_760,
                event_horizon_days=self.event_horizon_days,
            ),
            installation=self._installation,
            version=CORDA.default_version,
            applications=self._applications,
            connection_string=None,
        )
        (folder / AUTHORITY_FILE).write_text(configuration.to_json(), encoding="utf-8")
        started = VmProcess(name, address, [sys.executable, "-m", "local.authority", str(folder)], folder / "log")
        self.authority_vms.append(started)
        return started

    def authority_command(self, *command: str) -> str:
        """What an operator's command says on a VM of the authority's.

        Raises:
            RuntimeError: it fails.
        """
        folder = self.folder / self.authority_vms[0].name
        done = subprocess.run(
            [sys.executable, "-m", "local.authority", str(folder), *command],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
        return done.stdout

    def _vm_folder(self, name: str, address: str, vault_certificate: Path) -> Path:
        folder = self.folder / name
        shutil.rmtree(folder / "node", ignore_errors=True)
        folder.mkdir(exist_ok=True)
        runtime = Path(tempfile.mkdtemp(dir="/dev/shm", prefix=f"{name}-"))
        self._services.callback(shutil.rmtree, runtime, ignore_errors=True)
        told = vm.Vm(
            name=name,
            address=address,
            vault_certificate=vault_certificate,
            database_password=postgres.PASSWORD,
            runtime=runtime,
        )
        (folder / vm.VM_FILE).write_text(told.model_dump_json(indent=1), encoding="utf-8")
        return folder

    def _share(self) -> Path:
        share = self.folder / "share"
        share.mkdir(exist_ok=True)
        return share

    # --- What can be seen of it ---

    def holder(self, identity: str, *, ready: bool = True) -> VmProcess | None:
        """The VM that says it holds an identity and, if it is to be ready, whose node is."""
        for each in self.vms:
            if each.process.poll() is None:
                health = each.health()
                if health.get("identity") == identity and (not ready or health.get("node") == "ready"):
                    return each
        return None

    def await_ready(self, seconds: float) -> None:
        """Wait until each identity has a ready node."""
        for identity in self.identities:
            until(partial(self.holder, identity.name), seconds, f"{self.name}: {identity.name} ready")

    def record(self, identity: str) -> Record:
        """Who held an identity when."""
        with self._container(_LEASES) as container:
            return Record.from_json(identity, container.download_blob(identity).readall())

    def document(self, name: str) -> bytes:
        """One of the bank's public documents."""
        with self._container(_NETWORK) as container:
            return bytes(container.download_blob(name).readall())

    def known_members(self, identity: str) -> set[str]:
        """Legal names in the network map of an identity's node."""
        with self.server.connect(identity) as connection:
            rows = connection.execute("SELECT party_name FROM corda.node_link_nodeinfo_party").fetchall()
        return {name for (name,) in rows}

    def flows_in_flight(self, identity: str) -> int:
        """Flows of an identity's node that have not ended: running, in the hospital, or paused."""
        with self.server.connect(identity) as connection:
            row = connection.execute(
                "SELECT count(*) FROM corda.node_checkpoints WHERE status = ANY(%s)", [list(_UNENDED)]
            ).fetchone()
        return int(row[0])

    def rpc_certificates(self) -> dict[str, x509.Certificate]:
        """What the nodes show to applications, by identities: the bank keeps it among its documents."""
        with self._container(_NETWORK) as container:
            return {
                identity.name: Chains.from_json(
                    container.download_blob(f"certificates/{identity.name}").readall()
                ).rpc
                for identity in self.identities
            }

    def end(self) -> None:
        """End all of it, at once."""
        for each in (*self.vms, *self.authority_vms):
            each.end()
        self._services.close()
