"""A bank on this machine: its services, load balancer and VMs. It knows other banks only by their cards."""

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
from pathlib import Path
from typing import Any

from azure.storage.blob import ContainerClient
from cryptography import x509

from agent.lease import IdentityRecord
from contract.artifacts import Artifact
from contract.authority_configuration import Approval, AuthorityConfiguration, NetworkParameterSettings
from contract.card import CARD_SCHEMA, sign
from contract.frontend import NETWORK_INFO, ApplicationPorts, listeners
from contract.identities import Identity, identities
from contract.key_agreement import Party, enrolment_key, link_public_key
from contract.platform import P2P
from contract.ports import NETWORK_INFO_PATH, NETWORK_INFO_PORT
from contract.secrets import RpcUser, VaultSecret
from contract.vm_configuration import AgentConfiguration, AuthorityAddress, DatabaseServer, LedgerNetwork
from lab import ROOT
from lab.banks import balancer, key_vault, postgres, vm
from lab.banks.authority import AUTHORITY_FILE_NAME
from lab.banks.azurite import CREDENTIAL
from lab.banks.process import VmProcess, until
from lab.banks.site import BankSite, Host
from lab.banks.wires import Wires, port_of, wires
from ledger.corda import CORDA
from ledger.corda.certificates import Chains

_LEASES, _NETWORK, _REGISTER = "leases", "network", "authority"
_UNENDED = (0, 3, 5)
"""Unfinished states of Corda's Checkpoint.FlowStatus: RUNNABLE, HOSPITALIZED, PAUSED."""


@dataclass(frozen=True)
class BankPlan:
    """A bank's configuration."""

    name: str
    legal_name: str
    site: BankSite
    identities: int = 1
    vms: int = 2
    roles: Mapping[str, str] = field(default_factory=dict)
    legal_names: Mapping[str, str] = field(default_factory=dict)
    """Legal names by identity, in place of `OU=IDENTITY, LEGAL_NAME`: for a bank that claims another bank's name."""
    users: tuple[RpcUser, ...] = ()
    """RPC users of its applications."""
    authority_vms: int = 0
    """VMs of the network's authority; 0 unless this bank is the authority."""
    recorded: bool = False
    """Whether its VMs write their metrics to their folders."""

    @property
    def nodes(self) -> tuple[Identity, ...]:
        """The bank's identities."""
        return identities(CORDA, self.legal_name, self.identities, self.roles, self.legal_names)

    @property
    def standbys(self) -> int:
        """How many VMs may be down while each identity still has one."""
        return self.vms - self.identities


class LabBank:
    """One member, with the services that its stack would create."""

    def __init__(
        self,
        plan: BankPlan,
        folder: Path,
        blobs: str,
        installation: Path,
        authority: "LabBank | None",
        *,
        applications: tuple[Artifact, ...] = (),
    ) -> None:
        """Generate the bank's keys and card; `start` starts its services.

        Args:
            plan: the bank's configuration.
            folder: the folder for all of its files.
            blobs: URL of a blob account that all banks share here; each bank has its own containers.
            installation: the folder of the Corda installation.
            authority: the member that certifies names; None if it is this one.
            applications: the CorDapps that are installed with Corda.
        """
        self.plan, self.folder, self._blobs, self._installation = plan, folder, blobs, installation
        self._authority, self._applications = authority or self, applications
        self._secret, self._seed = secrets.token_bytes(32), secrets.token_bytes(32)
        self.identities = plan.nodes
        self.passwords = {user.name: secrets.token_urlsafe(16) for user in plan.users}
        self.event_horizon_days = 30
        """The network parameters' event horizon, if this is the authority: its VMs read the value when they start."""
        self.vms: list[VmProcess] = []
        """The latest VM of each number that was started."""
        self.wires: dict[int, Wires] = {}
        """By VM number: the connections from that VM to storage, database and vaults, which can be cut."""
        self.authority_vms: list[VmProcess] = []
        self._authority_wires: dict[int, Wires] = {}
        self._services = ExitStack()
        self._peers: list[LabBank] = []
        self.card = self._card()

    @property
    def name(self) -> str:
        """The bank's name in the consortium."""
        return self.plan.name

    # --- Services ---

    def start(self) -> None:
        """Start database, vaults and load balancers, and write the secrets that the bank's stack writes."""
        self.folder.mkdir(parents=True)
        for kind in (_LEASES, _NETWORK, *((_REGISTER,) if self.plan.authority_vms else ())):
            with self._container(kind) as container:
                container.create_container()
        self.server = self._services.enter_context(postgres.server(tls=True))
        self._vault, self._key_vault = [
            self._services.enter_context(key_vault.in_process(self.folder / name)) for name in ("vault", "key-vault")
        ]
        self._vault.set({VaultSecret.CARD: json.dumps(self.card), VaultSecret.RPC_USERS: self._users()})
        self._vault.set({VaultSecret.ENROLMENT_KEY: self._enrolment_key(self._authority)})
        behind = (*listeners(self.identities, ApplicationPorts.EACH), NETWORK_INFO)
        site = self.plan.site
        names = {f"vm-{number}": site.vm(number).address for number in range(1, self.plan.vms + 1)}
        self.balancer = self._balance(site.nodes, behind, names, "balancer")
        ports = {
            "storage": port_of(self._blobs),
            "database": self.server.port,
            "vault": port_of(self._vault.url),
            "key-vault": port_of(self._key_vault.url),
        }
        for number in range(1, self.plan.vms + 1):
            self.wires[number] = self._wire(f"wires-{number}", ports, site.vm(number))
        if self.plan.authority_vms:
            self._start_authority()
        self.meet([])

    def _start_authority(self) -> None:
        assert CORDA.authority
        site, numbers = self.plan.site, range(1, self.plan.authority_vms + 1)
        self._authority_vault, self.root_vault = vaults = [
            self._services.enter_context(key_vault.in_process(self.folder / name))
            for name in ("authority-vault", "root-vault")
        ]
        self._authority_vault.make_keys(CORDA.authority.keys)
        self.root_vault.make_keys([CORDA.authority.root_key])
        trusted = "".join(each.certificate.read_text(encoding="ascii") for each in vaults)
        self._authority_trusts.write_text(trusted, encoding="ascii")
        vms = {f"authority-{number}": site.authority_vm(number).address for number in numbers}
        self._balance(site.authority, CORDA.authority.listeners, vms, "authority")
        ports = {
            "storage": port_of(self._blobs),
            "vault": port_of(self._authority_vault.url),
            "root-vault": port_of(self.root_vault.url),
        }
        for number in numbers:
            self._authority_wires[number] = self._wire(f"authority-wires-{number}", ports, site.authority_vm(number))

    def _wire(self, folder: str, ports: Mapping[str, int], vm: Host) -> Wires:
        return self._services.enter_context(wires(ports, self.folder / folder, vm))

    def meet(self, peers: "Sequence[LabBank]") -> None:
        """Replace the bank's peers, as `pulumi up` with another list `peers` does."""
        self._peers = list(peers)
        cards = {f"peer-{peer.name}": json.dumps(peer.card) for peer in peers}
        names = json.dumps({peer.name: f"peer-{peer.name}" for peer in peers})
        self._vault.set({**cards, VaultSecret.PEERS: names})
        if self.plan.authority_vms:
            keys = json.dumps({bank.name: self._enrolment_key(self, bank) for bank in (self, *peers)})
            agreed = json.dumps({peer.name: peer.plan.legal_name for peer in peers})
            self._authority_vault.set(
                {
                    **cards,
                    VaultSecret.PEERS: names,
                    VaultSecret.ENROLMENT_KEYS: keys,
                    VaultSecret.AGREED_NAMES: agreed,
                }
            )

    @property
    def _authority_trusts(self) -> Path:
        """File with the certificates of the authority's two vaults, which its VMs trust."""
        return self.folder / "authority-vaults.pem"

    def _balance(
        self, frontend: Host, behind: Sequence[Any], vms: Mapping[str, str], name: str
    ) -> "subprocess.Popen[bytes]":
        folder = self.folder / name
        folder.mkdir()
        return self._services.enter_context(balancer.balancing(frontend, behind, vms, folder))

    def _container(self, kind: str) -> ContainerClient:
        return ContainerClient(self._blobs, f"{kind}-{self.name}", CREDENTIAL)

    # --- Card and keys ---

    def _card(self) -> dict[str, Any]:
        frontend = self.plan.site.nodes.address
        return sign(
            {
                "schema": CARD_SCHEMA,
                "name": self.name,
                "location": "swedencentral",
                "tenantId": "00000000-0000-0000-0000-000000000000",
                "addressSpace": str(self.plan.site.space),
                "gateway": None,
                "linkPublicKey": link_public_key(self._secret),
                "keyGenerations": {"link": 1, "signing": 1},
                "counter": 1,
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
        return Party(name=self.name, public_key=link_public_key(self._secret), generation=1)

    def _enrolment_key(self, authority: "LabBank", member: "LabBank | None" = None) -> str:
        other = member or authority
        theirs = None if other is self else other._party
        return enrolment_key(self._secret, self._party, theirs, authority.name)

    def _users(self) -> str:
        accounts = [user.with_password(self.passwords[user.name]) for user in self.plan.users]
        return json.dumps([account.model_dump(by_alias=True) for account in accounts])

    @property
    def authority_url(self) -> str:
        """Base URL of requests to this bank's authority."""
        assert CORDA.authority
        return f"https://{self.plan.site.authority.address}:{CORDA.authority.listeners[0].port}"

    # --- VMs ---

    def _vm_name(self, number: int) -> str:
        return f"{self.name}-vm-{number}"

    def vm(self, number: int) -> VmProcess:
        """The latest VM of a number, which must have been started."""
        (found,) = (each for each in self.vms if each.name == self._vm_name(number))
        return found

    def start_vm(self, number: int) -> VmProcess:
        """Start the VM of a number, from 1. If a VM of this number has ended, the new VM replaces it."""
        name, host, services = self._vm_name(number), self.plan.site.vm(number), self.wires[number]
        folder = self._vm_folder(name, host, self._vault.certificate, self._key_vault.certificate)
        configuration = AgentConfiguration(
            member=self.name,
            address_space=self.plan.site.space,
            platform=CORDA.name,
            version=CORDA.default_version,
            legal_name=self.plan.legal_name,
            legal_names=dict(self.plan.legal_names),
            identities=self.plan.identities,
            roles=dict(self.plan.roles),
            frontend=self.plan.site.nodes.address,
            network=LedgerNetwork(authority=AuthorityAddress(url=self._authority.authority_url)),
            installation=self._installation,
            applications=self._applications,
            client_id="none",
            key_vault_url=services.url(self._key_vault.url),
            bank_vault_url=services.url(self._vault.url),
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
        (folder / vm.AGENT_FILE_NAME).write_text(configuration.to_json(), encoding="utf-8")
        started = VmProcess(name, host, [sys.executable, "-m", "lab.banks.vm", str(folder)], folder / "log")
        self.vms = [*(each for each in self.vms if each.name != name), started]
        return started

    def start_authority_vm(self, number: int) -> VmProcess:
        """Start the authority's VM of a number, from 1."""
        assert CORDA.authority
        name, host = f"{self.name}-authority-{number}", self.plan.site.authority_vm(number)
        folder, services = self._vm_folder(name, host, self._authority_trusts), self._authority_wires[number]
        frontend = self.plan.site.authority.address
        _, lists = (listener.port for listener in CORDA.authority.listeners)
        configuration = AuthorityConfiguration(
            member=self.name,
            address_space=self.plan.site.space,
            legal_names=tuple(identity.legal_name for identity in self.identities),
            client_id="none",
            vault_url=services.url(self._authority_vault.url),
            root_vault_url=services.url(self.root_vault.url),
            blob_url=services.url(self._blobs),
            container=f"{_REGISTER}-{self.name}",
            url=self.authority_url,
            crl_url=f"http://{frontend}:{lists}",
            approval=Approval.AUTO,
            subject=self.plan.legal_name,
            notaries=tuple(each.legal_name for each in self.identities if each.role.name == "notary"),
            parameters=NetworkParameterSettings(
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
        (folder / AUTHORITY_FILE_NAME).write_text(configuration.to_json(), encoding="utf-8")
        started = VmProcess(name, host, [sys.executable, "-m", "lab.banks.authority", str(folder)], folder / "log")
        self.authority_vms.append(started)
        return started

    def authority_command(self, *command: str) -> str:
        """Run an operator's command on an authority's VM; returns its output.

        Raises:
            RuntimeError: the command fails.
        """
        vm = self.authority_vms[0]
        folder = self.folder / vm.name
        done = subprocess.run(
            vm.host.command(sys.executable, "-m", "lab.banks.authority", str(folder), *command),
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
        return done.stdout

    def _vm_folder(self, name: str, host: Host, *vault_certificates: Path) -> Path:
        folder = self.folder / name
        shutil.rmtree(folder / "node", ignore_errors=True)
        folder.mkdir(exist_ok=True)
        runtime = Path(tempfile.mkdtemp(dir="/dev/shm", prefix=f"{name}-"))
        self._services.callback(shutil.rmtree, runtime, ignore_errors=True)
        settings = vm.Vm(
            name=name,
            address=host.address,
            vault_certificates=vault_certificates,
            database_password=postgres.PASSWORD,
            runtime=runtime,
            recorded=self.plan.recorded,
        )
        (folder / vm.VM_FILE_NAME).write_text(settings.model_dump_json(indent=1), encoding="utf-8")
        return folder

    def _share(self) -> Path:
        share = self.folder / "share"
        share.mkdir(exist_ok=True)
        return share

    # --- State ---

    def holder(self, identity: str, *, ready: bool = True) -> VmProcess | None:
        """The running VM whose health says that it holds an identity; None if there is none.

        Args:
            identity: the identity's name.
            ready: whether its node must be ready too.
        """
        for each in self.vms:
            if each.process.poll() is None:
                health = each.health()
                if health.get("identity") == identity and (not ready or health.get("node") == "ready"):
                    return each
        return None

    def await_ready(self, seconds: float) -> None:
        """Wait until each identity has a ready node.

        Raises:
            TimeoutError: an identity has none after `seconds`.
        """
        for identity in self.identities:
            until(partial(self.holder, identity.name), seconds, f"{self.name}: {identity.name} ready")

    def record(self, identity: str) -> IdentityRecord:
        """The record of an identity's lease: its epoch and its holders."""
        with self._container(_LEASES) as container:
            return IdentityRecord.from_json(identity, container.download_blob(identity).readall())

    def document(self, name: str) -> bytes:
        """The content of one of the bank's public documents."""
        with self._container(_NETWORK) as container:
            return bytes(container.download_blob(name).readall())

    def known_members(self, identity: str) -> set[str]:
        """Legal names in the network map of an identity's node."""
        with self.server.connect(identity) as connection:
            rows = connection.execute("SELECT party_name FROM corda.node_link_nodeinfo_party").fetchall()
        return {name for (name,) in rows}

    def flows_in_flight(self, identity: str) -> int:
        """The number of unfinished flows of an identity's node: running, in the flow hospital, or paused."""
        with self.server.connect(identity) as connection:
            row = connection.execute(
                "SELECT count(*) FROM corda.node_checkpoints WHERE status = ANY(%s)", [list(_UNENDED)]
            ).fetchone()
        return int(row[0])

    def rpc_certificates(self) -> dict[str, x509.Certificate]:
        """The nodes' certificates for RPC over TLS, by identity, from the bank's documents."""
        with self._container(_NETWORK) as container:
            return {
                identity.name: Chains.from_json(
                    container.download_blob(f"certificates/{identity.name}").readall()
                ).rpc
                for identity in self.identities
                if container.get_blob_client(f"certificates/{identity.name}").exists()
            }

    def end(self) -> None:
        """Kill all VMs and stop the services."""
        for each in (*self.vms, *self.authority_vms):
            each.end()
        self._services.close()
