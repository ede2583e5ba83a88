"""A Corda node on a VM: its preparation, start, supervision and drain. Implements `ledger.software`."""

import asyncio
import base64
import contextlib
import functools
import ipaddress
import logging
import math
import os
import re
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from stat import S_ISREG
from typing import Annotated, Any, Protocol

import psycopg
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from psycopg import AsyncConnection, sql
from pydantic import Field, StringConstraints, ValidationError
from typing_extensions import override

from contract.identities import Identity
from contract.legal_name import name_key
from contract.metrics import Figure
from contract.models import OpenModel, first_fault
from contract.network_info import Base64
from contract.platform import AGENT_USER, P2P
from contract.secrets import RpcAccount
from contract.vm_configuration import Zone
from host.bank_documents import NETWORK_DOCUMENT
from host.calls import BoundedCalls, in_new_thread
from host.database import ALIVE, tls_options
from host.errors import UnavailableError
from host.faults import reason_of
from host.http import TooLargeError, ask, listens
from host.processes import run_to_end
from host.status import Readiness
from ledger.corda import LISTS_PORT, NOTARY, POOL, certificates
from ledger.corda.certificates import CertificateError, Chains
from ledger.corda.enrolment import Enrolment
from ledger.corda.installation import Installed, ToolError, wanted_artifacts
from ledger.corda.node_conf import (
    FILE,
    SCHEMA,
    KeyStoreFile,
    NetworkServices,
    NodeConf,
    NodeDatabase,
    NodeUser,
    Variable,
)
from ledger.corda.revocation import Revocations, list_url
from ledger.corda.serials import Serials
from ledger.software import (
    MIGRATION_SECONDS,
    RESTART_STATUS,
    DatabaseAccess,
    NetworkMember,
    Place,
    Process,
    Software,
    SoftwareContext,
    SoftwareError,
    UntrustedError,
    WaitingError,
)

PROCESS = "corda"
_MAX_REPORT_BYTES = 1 << 19
_CUT_OFF_SECONDS = 300
"""By then Corda has tried to connect five times, and a node whose VM failed is back."""
_USER_NAME = re.compile(r"\w+", re.ASCII)

_RPC, _RPC_ADMIN, _MONITORING = "rpc", "rpc-admin", "monitoring"
_CERTIFICATES = "certificates"
_PARAMETERS = "network-parameters"
_INFOS = "additional-node-infos"
_ARTEMIS = "artemis"
_MEMBERS = "members"
_MIGRATIONS = "decentralized_trust_migrations"
_AGENT_PERMISSIONS = ("InvokeRpc.setFlowsDrainingModeEnabled", "InvokeRpc.stateMachinesSnapshot")
_KEY_STORE_PASSWORD = Variable("LEDGER_KEYSTORE_PASSWORD")
_DATABASE_PASSWORD = Variable("LEDGER_DATABASE_PASSWORD")
_TOKEN = "LEDGER_MONITORING_TOKEN"  # noqa: S105  # The variable's name.

REVOCATION_PROPERTIES = {
    "com.sun.security.enableCRLDP": "true",
    # A list that can't be fetched delays a connection by so many seconds.
    "com.sun.security.crl.timeout": "5",
    "com.sun.security.crl.readtimeout": "5",
}
PROXY_PROPERTIES = {
    "http.proxyPort": str(LISTS_PORT),
    # Otherwise an authority on the loopback, as in tests, would be asked directly.
    "http.nonProxyHosts": "",
}
HEAP_FULL_STATUS = os.EX_OSERR
"""Exit status of a node whose heap stays full."""
_ENDS = {
    HEAP_FULL_STATUS: "its heap stayed full after collections",
    RESTART_STATUS: "it must restart",
}
_STOP_SECONDS = 30.0
"""Six are usual; flows that have not ended continue after the next start."""
_ANSWER_SECONDS = 3
_CONNECT_SECONDS = 5
_STATEMENT_SECONDS = 60
_UNANSWERED_SECONDS = 90
"""Longer than any statement of a running node; a migration's may take longer."""
_OUTAGE_SECONDS = 40
"""A node without the database for so long is not ready, whatever its pool reports."""
_REFRESH_LIMIT_SECONDS = 75
"""Longer than a statement may take."""
_TOOL_START_SECONDS = 15
"""Time that the tool needs beside draining."""
_PROOF_SECONDS = 20
"""Time limit of verifying node information; three seconds are usual. Shorter than the caller's own."""
_REFRESH_SECONDS = 20
_WANTED_SECONDS = 30
"""Seconds after the last request for figures until the database is no longer checked: the node has ended."""
_MAX_INFO_BYTES = 1 << 20
"""A node's information has some 10 KB."""
_LOOK_SECONDS = 5
"""Interval of checking the database in its outage, a drain or a migration."""
_SERVER_RUN = (
    "SELECT pg_postmaster_start_time(), left(pg_walfile_name(pg_current_wal_lsn()), 8), stats_reset"
    " FROM pg_stat_bgwriter"
)
"""Start of the server, its timeline, and start of its statistics. One of them changes at a restart, a failover, or
the crash of a session, which ends all sessions and resets the statistics."""

log = logging.getLogger(__name__)


class Enroller(Protocol):
    """Certifies the bank's identities; implemented by `ledger.corda.enrolment.Enrolment`."""

    async def certificates(self, identity: Identity, keys: Mapping[str, bytes]) -> Chains:
        """The identity's certificates, renewed when due. Raises WaitingError until they are issued."""

    async def network_parameters(self, verify: Callable[[bytes], Awaitable[int]]) -> bytes | None:
        """The newest signed parameters that `verify` accepts; it returns their epoch. None if there are none."""

    def renewal_due(self, chains: Chains) -> bool:
        """Whether the certificates should be renewed."""

    async def revocation_lists(self) -> Mapping[str, x509.Certificate]:
        """Issuers of the network's revocation lists, by URL. Raises SoftwareError, ResourceError."""

    async def trust_root(self) -> x509.Certificate:
        """The network's root certificate. Raises SoftwareError, ResourceError."""


@dataclass
class _Start:
    """One start of a node: data that lives as long as its process."""

    place: Place
    chains: Chains
    installed: Installed
    parameters: bytes | None
    """Network parameters; None if the node fetches them itself."""
    users: tuple[RpcAccount, ...]
    revoked: frozenset[tuple[str, int]]
    """Certificates revoked before the start: (list's URL, serial number)."""
    password: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    """Password of the key stores."""
    agent_password: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    outage_since: float | None = None
    """Monotonic time since which the agent does not reach the database; None while it does."""
    timeouts: int = 0
    """How often the node got no connection from its pool in time, as last reported."""
    timeouts_before: int = 0
    """`timeouts` when the database last answered the agent."""
    server_run: tuple[Any, ...] | None = None
    """The server's run (`_SERVER_RUN`) before the node's start."""
    wanted: float = 0.0
    """Monotonic time until which the database is checked."""
    refreshing: "asyncio.Task[None] | None" = None

    @property
    def environment(self) -> dict[str, str]:
        """The process's environment, with every password that node.conf refers to."""
        assert self.place.database  # noqa: S101
        passwords = {user.name: user.password for user in self.users} | {AGENT_USER: self.agent_password}
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": "C.UTF-8",
            _KEY_STORE_PASSWORD.name: self.password,
            _DATABASE_PASSWORD.name: self.place.database.password,
            _TOKEN: self.token,
            **{_user_variable(index).name: passwords[name] for index, name in enumerate(passwords)},
        }


def _user_variable(index: int) -> Variable:
    return Variable(f"LEDGER_RPC_PASSWORD_{index}")


class _Pool(OpenModel):
    total: int
    timeouts: int


class _Flows(OpenModel):
    failed: Annotated[int, Field(ge=0, lt=2**53)]


class _Bridge(OpenModel):
    names: str
    """Legal names of the remote node's identities, separated by semicolons."""
    since: int
    """Milliseconds since 1970."""
    reason: str


class _NodeReport(OpenModel):
    """The running node's report of itself."""

    identity: str
    epoch: int
    status: str
    pool: _Pool
    flows: _Flows
    transactions: Annotated[int, Field(ge=0, lt=2**53)] | None
    """None if this version of Corda does not count them."""
    bridges: tuple[_Bridge, ...]
    """Bridges without a connection."""
    follows_members: bool
    """Whether it reads changed node information; else only its next start does."""


class CordaSoftware(Software):
    """`Software` for Corda 4."""

    def __init__(
        self, context: SoftwareContext, enroller: Enroller | None = None, revocations: Revocations | None = None
    ) -> None:
        self._context = context
        self._enroller = enroller or Enrolment(context)
        self._starts: dict[str, _Start] = {}
        self._ends: dict[str | None, datetime] = {}
        """First expiry of the certificates of each member's nodes."""
        self._admitting = asyncio.Lock()
        self._serials = Serials(context.documents)
        self._revocations = revocations or Revocations(context.documents, self._enroller.revocation_lists)
        self._read: tuple[bytes | None, dict[str, Any]] = None, {}
        """The network parameters that were last verified, and what they say."""
        self._warming: asyncio.Task[None] | None = None
        self._disk = BoundedCalls("installation")

    @override
    def make_secrets(self, identity: Identity) -> Mapping[str, bytes]:
        return certificates.make_keys()

    @override
    async def check(self) -> None:
        """Verify the installation, which also brings it into memory, and start Java.

        In the background it verifies the network's parameters, so that a takeover need not run the tool.
        """
        installed = await self._disk(self._verified)
        await installed.check_java()
        if self._warming is None or self._warming.done():
            self._warming = asyncio.create_task(self._warm(installed))

    async def _warm(self, installed: Installed) -> None:
        try:
            if found := await self._context.documents.read(NETWORK_DOCUMENT):
                await self._verify_parameters(installed, found.content)
        except Exception as error:
            # A start would fail too: it says who must act.
            log.info("%s", reason_of("network parameters", error, SoftwareError))

    # --- Before the start ------------------------------------------------------------------------------------------

    @override
    async def prepare(self, place: Place) -> None:
        """Verify the installation, get certificates, write the node's files, migrate its database.

        Raises:
            WaitingError: the authority has not certified the identity or signed parameters yet, or a revocation list
                is missing.
            SoftwareError: the node can't be started.
            UnavailableError: share, database or documents do not answer.
        """
        name = place.identity.name
        if place.database is None:
            raise SoftwareError(f"{name}: no database; wanted one, since Corda stores its data there")
        self._forget(name)
        installed = await self._disk(self._verified)
        keys = {each.name: _read(place.secrets / each.name, name) for each in place.identity.role.secrets}
        try:
            chains = await self._enroller.certificates(place.identity, keys)
        except CertificateError as error:
            raise SoftwareError(f"{name}: {error}") from error
        if self._serves_lists:
            await self._revocations.follow(chains)
            if self._revocations.revoked(chains.identity[:1] + chains.tls[:1]):
                raise WaitingError(
                    f"{name}: its certificate is revoked; wanted a new key, once its authority allows it"
                )
            if self._revocations.revoked(chains.identity + chains.tls):
                raise WaitingError(
                    f"{name}: the CA of its certificate is revoked; wanted a certificate of the network's new CA, "
                    "once its authority answers"
                )
            await self._revocations.serve(self._local, LISTS_PORT)
        users = tuple(await self._context.rpc_users())
        for user in users:
            if user.name == AGENT_USER or not _USER_NAME.fullmatch(user.name):
                raise SoftwareError(
                    f"RPC user {user.name!r}; wanted letters, digits and underscores, and not {AGENT_USER}, "
                    "which is the agent's own"
                )
        start = _Start(
            place=place,
            chains=chains,
            installed=installed,
            parameters=await self._parameters(place, installed),
            users=users,
            revoked=self._revocations.serials,
        )
        known = await place.share_calls(self._write, start, keys)
        await self._prepare_database(start, known)
        self._starts[name] = start

    def _verified(self) -> Installed:
        context = self._context
        installed = Installed.load(context.installation)
        installed.verify(context.version, wanted_artifacts(context.version, context.artifact, context.applications))
        return installed

    async def _parameters(self, place: Place, installed: Installed) -> bytes | None:
        """The network's parameters, verified; None if the node fetches them from a zone's network map."""
        if place.network_document:
            document = await in_new_thread(place.network_document.read_bytes)
        elif isinstance(self._context.network, Zone):
            return None
        else:
            found = await self._enroller.network_parameters(functools.partial(self._epoch, installed))
            if found is None:
                raise WaitingError(
                    f"{place.identity.name}: the network has no parameters yet; wanted its authority to sign them, "
                    "which it does once every notary has its certificates"
                )
            document = found
        read = await self._verify_parameters(installed, document)
        log.info("%s: network parameters of epoch %d", place.identity.name, read["epoch"])
        return document

    async def _verify_parameters(self, installed: Installed, document: bytes) -> dict[str, Any]:
        """The signed parameters' content; the node verifies them at each start, too."""
        if self._read[0] != document:
            given = {
                "document": base64.b64encode(document).decode(),
                "trustRoot": _encoded(await self._enroller.trust_root()),
            }
            try:
                read = await installed.tool("verify-parameters", given, user=self._context.tool_user)
            except ToolError as error:
                raise SoftwareError(
                    f"network parameters: {error}; wanted them signed under the network's root"
                ) from error
            self._read = document, read
        read, manifest = self._read[1], installed.manifest
        # Also for parameters that a running node would restart for.
        if read["minimumPlatformVersion"] > manifest.platform_version:
            raise SoftwareError(
                f"the network asks for platform version {read['minimumPlatformVersion']}; wanted a newer version "
                f"of Corda than {manifest.version}, which has {manifest.platform_version}"
            )
        return read

    async def _epoch(self, installed: Installed, document: bytes) -> int:
        return int((await self._verify_parameters(installed, document))["epoch"])

    def _write(self, start: _Start, keys: Mapping[str, bytes]) -> "list[_Info] | None":
        """Write the node's folder: configuration, key stores, known members; messages stay on the share.

        Returns the members' known nodes; None if a member's file can't be read.
        """
        place = start.place
        stores = place.secrets / _CERTIFICATES
        stores.mkdir(mode=0o750, exist_ok=True)
        for name, content in certificates.key_stores(keys, start.chains, start.password).items():
            _write_private(stores / name, content)
        for name in keys:
            # The node has its keys in the key stores, and must not get the node CA's.
            (place.secrets / name).unlink(missing_ok=True)
        (place.scratch / _CERTIFICATES).symlink_to(stores)
        with _share(place):
            (place.durable / _ARTEMIS).mkdir(exist_ok=True)
            # The folder belongs to the agent, its content to the node.
            (place.durable / _ARTEMIS).chmod(0o770)
            members = _known_members(place.durable)
            readable = members.keys() >= {path.stem for path in _member_files(place.durable)}
        (place.scratch / _ARTEMIS).symlink_to(place.durable / _ARTEMIS)
        if start.parameters is not None:
            (place.scratch / _PARAMETERS).write_bytes(start.parameters)
        infos = place.scratch / _INFOS
        infos.mkdir()
        # The node adds its own information.
        infos.chmod(0o1770)
        good = [info for known in members.values() for info in known if self._good(info)]
        for info in good:
            _replace(infos / info.file_name, info.content)
        self._write_conf(start, _UNANSWERED_SECONDS)
        return good if readable else None

    def _write_conf(self, start: _Start, silent_seconds: int) -> None:
        conf = self._conf(start, silent_seconds)
        (start.place.scratch / FILE).write_text(conf.render(), encoding="utf-8")

    def _conf(self, start: _Start, silent_seconds: int) -> NodeConf:
        place, context = start.place, self._context
        stores = place.secrets / _CERTIFICATES
        access, ports = place.database, place.identity.ports
        assert access  # noqa: S101
        zone = context.network if isinstance(context.network, Zone) else None
        users = [(user.name, user.permissions) for user in start.users] + [(AGENT_USER, _AGENT_PERMISSIONS)]
        return NodeConf(
            legal_name=place.identity.legal_name,
            frontend=context.frontend,
            listen=context.listen,
            local=self._local,
            p2p_port=ports[P2P],
            rpc_port=ports[_RPC],
            rpc_admin_port=ports[_RPC_ADMIN],
            rpc_tls=KeyStoreFile(stores / certificates.RPC_KEY_STORE, _KEY_STORE_PASSWORD),
            users=tuple(NodeUser(name, _user_variable(index), may) for index, (name, may) in enumerate(users)),
            key_store_password=_KEY_STORE_PASSWORD,
            trust_store_password=_KEY_STORE_PASSWORD,
            applications=start.installed.applications,
            database=NodeDatabase(
                host=access.host,
                port=access.port,
                name=access.database,
                user=access.user,
                password=_DATABASE_PASSWORD,
                root_certificates=access.root_certificates,
                pool=POOL,
                silent_seconds=silent_seconds,
            ),
            notary=place.identity.role.name == NOTARY,
            revocation_url=list_url(start.chains.tls[0]) if self._serves_lists else None,
            network=NetworkServices(zone.registration_url, zone.network_map_url) if zone else None,
        )

    async def _prepare_database(self, start: _Start, known: "Sequence[_Info] | None") -> None:
        """Create the schema, migrate the tables to this version, and end the drain mode that the last holder set.

        Unknown nodes are deleted: a node itself forgets only nodes whose file it has read.
        """
        place = start.place
        fingerprint = start.installed.fingerprint
        async with _connected(place) as connection:
            start.server_run = await _server_run(connection)
            await connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(SCHEMA)))
            await connection.execute(
                f"CREATE TABLE IF NOT EXISTS {_MIGRATIONS} "
                "(fingerprint text PRIMARY KEY, version text NOT NULL, done timestamptz NOT NULL DEFAULT now())"
            )
            rows = await connection.execute(f"SELECT 1 FROM {_MIGRATIONS} WHERE fingerprint = %s", [fingerprint])  # noqa: S608
            migrated = await rows.fetchone() is not None
            if not migrated and await _exists(connection, "databasechangeloglock"):
                # Left by an interrupted migration: this epoch is the only user of the database.
                await connection.execute("UPDATE databasechangeloglock SET locked = false, lockedby = NULL")
        if not migrated:
            # A statement of a migration may run for long without a byte of an answer.
            await in_new_thread(self._write_conf, start, 0)
            await self._migrate(start)
            await in_new_thread(self._write_conf, start, _UNANSWERED_SECONDS)
        async with _connected(place) as connection:
            if not migrated:
                await connection.execute(
                    f"INSERT INTO {_MIGRATIONS} (fingerprint, version) VALUES (%s, %s) ON CONFLICT DO NOTHING",  # noqa: S608
                    [fingerprint, start.installed.manifest.version],
                )
            await connection.execute("DELETE FROM node_properties WHERE property_key LIKE '%%\\_flowsExecutionMode'")
            await self._renew_info(connection, start)
            # In a zone the network map lists the members.
            if known is not None and not isinstance(self._context.network, Zone):
                await _forget_others(connection, place.identity, known)

    async def _migrate(self, start: _Start) -> None:
        name = start.place.identity.name
        log.info("%s: the database is brought to Corda %s", name, start.installed.manifest.version)
        argv = start.installed.command(("run-migration-scripts", "--core-schemas", "--app-schemas"))
        began = time.monotonic()
        working = asyncio.create_task(
            run_to_end(argv, start.place.user, environment=start.environment, folder=start.place.scratch)
        )
        losing = asyncio.create_task(self._wait_until_unreachable(start))
        try:
            async with asyncio.timeout(MIGRATION_SECONDS):
                await asyncio.wait({working, losing}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                raise UnavailableError(f"{name}: the database is out of reach, in the midst of its migration")
            status, output, errors = working.result()
        except TimeoutError as error:
            raise SoftwareError(f"{name}: the database's migration was not done in {MIGRATION_SECONDS} s") from error
        finally:
            working.cancel()
            losing.cancel()
            await asyncio.wait({working, losing})
        if status:
            lines = [*output.decode(errors="replace").splitlines(), *errors]
            reasons = [line for line in lines if "ERROR" in line or "Exception" in line] or lines[-3:]
            raise SoftwareError(f"{name}: the database can't be migrated: {' '.join(reasons[-5:])[:1000]}")
        log.info("%s: migrated in %.1f s", name, time.monotonic() - began)

    async def _renew_info(self, connection: AsyncConnection[Any], start: _Start) -> None:
        """Make the node publish a renewed certificate.

        A node rewrites its information only if it changed, so the last one gets a platform version that no node has.
        """
        mark = start.place.durable / "identity-certificate"
        fingerprint = certificates.fingerprint(start.chains.identity[0])
        with _share(start.place):
            last = await start.place.share_calls(_read_text, mark)
        if last != fingerprint:
            await connection.execute(
                "UPDATE node_infos SET platform_version = 1 WHERE node_info_id IN (SELECT node_info_id FROM"
                " node_link_nodeinfo_party WHERE party_name = %s)",
                [start.place.identity.legal_name],
            )
            with _share(start.place):
                await start.place.share_calls(_replace, mark, fingerprint.encode())

    # --- The process -----------------------------------------------------------------------------------------------

    @override
    def processes(self, place: Place) -> Sequence[Process]:
        start = self._start(place)
        ports, context = place.identity.ports, self._context
        properties = {
            "ledger.identity": place.identity.name,
            "ledger.epoch": str(place.epoch),
            "ledger.monitoring": f"{self._local}:{ports[_MONITORING]}",
            **REVOCATION_PROPERTIES,
        }
        if self._serves_lists:
            properties |= {**PROXY_PROPERTIES, "http.proxyHost": self._local}
        if shared := place.identity.role.shared_ports.get(_RPC):
            properties["ledger.rpc.listen"] = f"{context.listen}:{shared}"
            properties["ledger.rpc.to"] = f"{self._node_host}:{ports[_RPC]}"
        return [
            Process(
                name=PROCESS,
                argv=start.installed.node(properties, ("--no-local-shell",)),
                environment=start.environment,
                folder=place.scratch,
                stop_seconds=_STOP_SECONDS,
                ends=_ENDS,
            )
        ]

    # --- While it runs ---------------------------------------------------------------------------------------------

    @override
    async def readiness(self, place: Place) -> Readiness:
        """READY if it has started, reaches its database and accepts peers' connections."""
        report = await self._report(place)
        if report is None:
            return Readiness.DOWN
        since = self._start(place).outage_since
        lost = since is not None and time.monotonic() - since > _OUTAGE_SECONDS
        started = report.status == "STARTED" and report.pool.total > 0 and not lost
        ready = started and await listens(f"{self._node_host}:{place.identity.ports[P2P]}")
        return Readiness.READY if ready else Readiness.UP

    @override
    async def figures(self, place: Place) -> Mapping[Figure, float]:
        """The node's own counters. As long as they are requested, its database is checked in the background."""
        report = await self._report(place)
        if report is None:
            return {}
        start = self._start(place)
        start.timeouts = report.pool.timeouts
        figures: dict[Figure, float] = {Figure.FAILURES: report.flows.failed}
        if report.transactions is not None:
            figures[Figure.TRANSACTIONS] = report.transactions
        start.wanted = time.monotonic() + _WANTED_SECONDS
        if start.refreshing is None or start.refreshing.done():
            start.refreshing = asyncio.create_task(self._watch_database(start))
        if age := self._revocations.age:
            figures[Figure.LIST_AGE] = age.total_seconds()
        return figures

    @override
    async def info(self, place: Place) -> bytes | None:
        return await in_new_thread(_newest_info, place.scratch)

    @override
    async def admit(self, place: Place, member: NetworkMember) -> None:
        """Give the node a member's node information, if it is proven to belong to nodes on the member's card.

        Absence changes nothing: a known node is forgotten when its legal name leaves the card.

        Raises:
            UntrustedError: information is not signed by its node, not of this network, not at the card's address,
                older than the newest that any node of the bank knew, or dated more than a day ahead.
            SoftwareError: a node must be forgotten, and this node has not started.
            UnavailableError: the bank's documents do not answer.
        """
        start = self._start(place)
        async with self._admitting:
            members = await place.share_calls(_known_members, place.durable)
            known = {info.file_name: info for info in members.get(member.name, ())}
            on_card = {name_key(name) for name in member.addresses}
            wanted = {
                name: info for name, info in known.items() if on_card.issuperset(map(name_key, info.legal_names))
            } | {info.file_name: info for info in await self._proven(start, member, known)}
            wanted = {name: info for name, info in wanted.items() if self._good(info)}
            if dropped := set(known) - set(wanted):
                await self._check_forgets(place, f"nodes of {member.name}")
            await place.share_calls(_store_member, place, member.name, wanted, dropped)

    def _good(self, info: "_Info") -> bool:
        """Whether a node's certificates are the authority's, and neither revoked nor an issuer's."""
        try:
            self._check_certified(info)
            return not self._revocations.revoked(info.parsed())
        except ValueError as error:
            # A file on the share; published information is verified before.
            log.warning("%s: %s", info.file_name, error)
            return False

    def _check_certified(self, info: "_Info") -> None:
        """Raise ValueError if a node's certificates are not the authority's. In a zone they need not be."""
        if self._serves_lists:
            for name, chain in zip(info.legal_names, info.chains, strict=True):
                certificates.check_certified([certificates.from_der(each) for each in chain], name)

    async def _forget_revoked(self, place: Place) -> None:
        """Have the node forget nodes whose certificate was revoked since their member's last change."""
        ends = dict[str | None, datetime]()
        async with self._admitting:
            for member, infos in (await place.share_calls(_known_members, place.durable)).items():
                good = {info.file_name: info for info in infos if self._good(info)}
                if dropped := {info.file_name for info in infos} - set(good):
                    await self._check_forgets(place, f"revoked nodes of {member}")
                    log.warning("%s: %s of %s are revoked", place.identity.name, ", ".join(dropped), member)
                    await place.share_calls(_store_member, place, member, good, dropped)
                if good:
                    ends[member] = _first_end(each for info in good.values() for each in info.parsed())
        self._ends = ends

    @override
    async def ends(self, place: Place) -> Mapping[str | None, datetime]:
        chains = self._start(place).chains
        return {None: _first_end(chains.identity + chains.tls), **self._ends}

    @override
    async def expel(self, place: Place, member: str) -> None:
        """Have the node forget a member's nodes, within seconds.

        Raises SoftwareError unless it follows its members.
        """
        await self._check_forgets(place, member)
        async with self._admitting:
            members = await place.share_calls(_known_members, place.durable)
            dropped = {info.file_name for info in members.get(member, ())}
            await place.share_calls(_store_member, place, member, {}, dropped)

    async def _check_forgets(self, place: Place, whom: str) -> None:
        """Raise SoftwareError unless the node follows its members: it forgets one only after reading its file."""
        report = await self._report(place)
        if report is None or report.status != "STARTED" or not report.follows_members:
            raise SoftwareError(
                f"{place.identity.name} does not follow its members; wanted it started or restarted, so that it"
                f" forgets {whom}"
            )

    @override
    async def cut_off(self, place: Place) -> Mapping[str, str]:
        report, since = await self._report(place), (time.time() - _CUT_OFF_SECONDS) * 1000
        return {
            name: each.reason or "no answer"
            for each in (report.bridges if report else ())
            if each.since < since
            for name in each.names.split(";")
        }

    @override
    async def drain(self, place: Place, seconds: float) -> None:
        """Set the node's drain mode, and wait for its flows to end.

        Raises:
            SoftwareError: it does not answer, refuses, or its database failed, so that some flows wait for a restart.
        """
        start = self._start(place)
        began = time.monotonic()
        # Applications reconnect through the load balancer, to a node that takes their flows.
        await self._ask(start, "POST", "/close-rpc")
        trust_store = place.secrets / _CERTIFICATES / certificates.RPC_TRUST_STORE
        draining = asyncio.create_task(
            start.installed.tool(
                "drain",
                {
                    "host": self._node_host,
                    "port": place.identity.ports[_RPC],
                    "trustStore": str(trust_store),
                    "seconds": max(seconds - _ANSWER_SECONDS, 0),
                },
                {
                    "LEDGER_TRUSTSTORE_PASSWORD": start.password,
                    "LEDGER_RPC_USER": AGENT_USER,
                    "LEDGER_RPC_PASSWORD": start.agent_password,
                },
                seconds=max(seconds, _TOOL_START_SECONDS),
                user=place.user,
            )
        )
        looking = asyncio.create_task(self._wait_until_server_restarts(start))
        try:
            await asyncio.wait({draining, looking}, return_when=asyncio.FIRST_COMPLETED)
            if not draining.done():
                raise SoftwareError(f"{place.identity.name}: not drained: its database's server ended all sessions")
            answer = draining.result()
        except ToolError as error:
            raise SoftwareError(f"{place.identity.name}: not drained: {error}") from error
        finally:
            for task in (draining, looking):
                task.cancel()
            await asyncio.wait({draining, looking})
        log.info(
            "%s: %d flows in flight after %.1f s", place.identity.name, answer["inFlight"], time.monotonic() - began
        )

    @override
    async def stale(self, place: Place) -> str | None:
        """Certificates due or revoked, other RPC users, or new network parameters."""
        start = self._start(place)
        if self._revocations.serials - start.revoked:
            # Corda's broker caches sign-ins for an hour, and ends no connection.
            return "certificates were revoked since it started"
        if self._enroller.renewal_due(start.chains):
            return "its certificates are to be renewed"
        # A fault of one hides no news of the other.
        found = await asyncio.gather(
            self._other_users(start), self._newer_parameters(place, start), return_exceptions=True
        )
        for each in found:
            if isinstance(each, str):
                return each
        for each in found:
            if isinstance(each, BaseException):
                raise each
        return None

    async def _other_users(self, start: _Start) -> str | None:
        return None if tuple(await self._context.rpc_users()) == start.users else "its RPC users have changed"

    async def _newer_parameters(self, place: Place, start: _Start) -> str | None:
        """Why the node must restart to take new parameters; None if it has the newest, or a zone distributes them."""
        if place.network_document or isinstance(self._context.network, Zone):
            return None
        epoch_of = functools.partial(self._epoch, start.installed)
        newest = await self._enroller.network_parameters(epoch_of)
        if newest is None or newest == start.parameters:
            return None
        assert start.parameters is not None  # noqa: S101
        own, epoch = await epoch_of(start.parameters), await epoch_of(newest)
        return f"the network's parameters of epoch {epoch} follow those of epoch {own}" if epoch > own else None

    # --- Requests to the node --------------------------------------------------------------------------------------

    @property
    def _serves_lists(self) -> bool:
        """Whether VMs serve revocation lists; a zone's certificates name the zone's lists, or none."""
        return not isinstance(self._context.network, Zone)

    @property
    def _node_host(self) -> str:
        """Address at which the VM itself reaches the node."""
        listen = self._context.listen
        return "127.0.0.1" if _is(listen, "is_unspecified") else listen

    @property
    def _local(self) -> str:
        """Address for local services; a VM in a test has its own loopback address."""
        listen = self._context.listen
        return listen if _is(listen, "is_loopback") else "127.0.0.1"

    def _start(self, place: Place) -> _Start:
        start = self._starts.get(place.identity.name)
        if start is None or start.place.epoch != place.epoch:
            raise SoftwareError(f"{place.identity.name} is not prepared in epoch {place.epoch}")
        return start

    def _forget(self, name: str) -> None:
        if (start := self._starts.pop(name, None)) and start.refreshing:
            start.refreshing.cancel()

    async def _report(self, place: Place) -> "_NodeReport | None":
        """The running node's report; None if it is down or of another epoch."""
        try:
            start = self._start(place)
        except SoftwareError:
            return None
        try:
            report = _NodeReport.model_validate_json(await self._ask(start, "GET", "/") or b"")
        except ValidationError:
            return None
        return report if (report.identity, report.epoch) == (place.identity.name, place.epoch) else None

    async def _ask(self, start: _Start, method: str, path: str) -> bytes | None:
        url = f"http://{self._local}:{start.place.identity.ports[_MONITORING]}{path}"
        token = {"Authorization": f"Bearer {start.token}"}
        try:
            answer = await ask(
                url, True, method=method, headers=token, seconds=_ANSWER_SECONDS, max_bytes=_MAX_REPORT_BYTES
            )
        except (UnavailableError, TooLargeError):
            return None
        return answer.body if answer.status == HTTPStatus.OK else None

    async def _watch_database(self, start: _Start) -> None:
        """Check revocations and database while figures are requested, over one connection: the server logs each."""
        name, began = start.place.identity.name, time.monotonic()
        while time.monotonic() < start.wanted:
            await self._follow_revocations(start)
            try:
                async with _connected(start.place) as connection:
                    while time.monotonic() < start.wanted:
                        began = time.monotonic()
                        await self._refresh(start, connection)
                        await asyncio.sleep(_REFRESH_SECONDS)
                        await self._follow_revocations(start)
            except (UnavailableError, TimeoutError) as error:
                start.outage_since = began if start.outage_since is None else start.outage_since
                log.warning("%s: the database can't be reached: %s", name, error or "no answer")
            except Exception as error:
                log.warning("%s: %s", name, reason_of(f"{name}: its database", error, SoftwareError))
            await asyncio.sleep(_LOOK_SECONDS)
            began = time.monotonic()

    async def _follow_revocations(self, start: _Start) -> None:
        name = start.place.identity.name
        try:
            await self._forget_revoked(start.place)
        except Exception as error:
            log.warning(
                "%s: revoked nodes can't be updated: %s",
                name,
                reason_of(f"{name}: revoked nodes", error, SoftwareError),
            )

    async def _refresh(self, start: _Start, connection: AsyncConnection[Any]) -> None:
        """Restart a node whose database server ended its sessions. Raises TimeoutError."""
        async with asyncio.timeout(_REFRESH_LIMIT_SECONDS):
            if await _server_run(connection) != start.server_run:
                await self._restart(start, "its database's server ended all sessions")
                return
            if start.outage_since is not None and start.timeouts > start.timeouts_before:
                await self._restart(start, "its database was out of reach, and is back")
                return
            start.outage_since, start.timeouts_before = None, start.timeouts

    async def _wait_until_unreachable(self, start: _Start) -> None:
        """Return when the database has been unreachable for `_UNANSWERED_SECONDS`."""
        reached = time.monotonic()
        while time.monotonic() - reached < _UNANSWERED_SECONDS:
            await asyncio.sleep(_LOOK_SECONDS)
            with contextlib.suppress(SoftwareError, UnavailableError):
                async with _connected(start.place):
                    reached = time.monotonic()

    async def _wait_until_server_restarts(self, start: _Start) -> None:
        """Return when the database server's run, in which the node started, has ended."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            with contextlib.suppress(SoftwareError, UnavailableError):
                async with _connected(start.place) as connection:
                    if await _server_run(connection) != start.server_run:
                        return

    async def _restart(self, start: _Start, why: str) -> None:
        """End the node at once, so that the agent restarts it.

        After a lost database some flows wait in Corda's flow hospital until the node restarts, and some messages are
        processed only then.
        """
        log.warning("%s: the node restarts: %s", start.place.identity.name, why)
        await self._ask(start, "POST", "/restart")

    async def _proven(self, start: _Start, member: NetworkMember, known: "Mapping[str, _Info]") -> "list[_Info]":
        """A member's node information, as far as it is new or known, each item verified. Raises UntrustedError."""
        own = name_key(start.place.identity.legal_name)
        # What this node signed itself needs no proof.
        trusted = {info.content for info in known.values()} | {await self.info(start.place)}
        proven = [info for info in known.values() if info.content in member.infos]
        asked = [content for content in member.infos if content not in trusted]
        if asked:
            proven += await self._verified_infos(start, asked)
        for info in proven:
            for name in info.legal_names:
                wanted = member.addresses.get(name)
                if wanted is None or info.addresses != (wanted,):
                    raise UntrustedError(
                        f"node information of {name} at {', '.join(info.addresses)}; wanted "
                        + (f"{wanted}, as on the card" if wanted else "a legal name on the card")
                    )
        for info in proven:
            if info.content not in trusted:
                await self._take(start, info)
        # A node knows itself.
        return [info for info in proven if own not in {name_key(name) for name in info.legal_names}]

    async def _verified_infos(self, start: _Start, contents: Sequence[bytes]) -> "list[_Info]":
        try:
            answer = await start.installed.tool(
                "node-info",
                {
                    "documents": [base64.b64encode(content).decode() for content in contents],
                    "trustRoot": _encoded(start.chains.trust_root),
                },
                seconds=_PROOF_SECONDS,
                user=self._context.tool_user,
            )
            infos = [
                _Info(content=content, **dict(item))
                for content, item in zip(contents, _VerifiedInfos.model_validate(answer).infos, strict=True)
            ]
            for info in infos:
                self._check_certified(info)
            return infos
        except (ToolError, ValueError) as error:
            why = first_fault(error) if isinstance(error, ValidationError) else error
            raise UntrustedError(f"node information: {why}") from error

    async def _take(self, start: _Start, info: "_Info") -> None:
        for name in info.legal_names:
            if not (higher := await self._serials.take(name, info.serial, info.content)):
                continue
            # Who edits the record can't sign as the node.
            proven = False
            with contextlib.suppress(UntrustedError):
                (proof,) = await self._verified_infos(start, [higher.info])
                proven = name in proof.legal_names and proof.serial == higher.serial
            raise UntrustedError(
                f"node information of {name} with serial {info.serial}; wanted {higher.serial}, which "
                + ("was known, or newer" if proven else "no signature proves")
            )


# --- Node information of members, on the share ---------------------------------------------------------------------


_ONE = Field(min_length=1, max_length=1)
"""A node has one identity. Its certificates are checked again and again."""


class _VerifiedInfo(OpenModel):
    """The Java tool's report of node information that it verified."""

    file_name: Annotated[str, StringConstraints(pattern=r"^nodeInfo-[0-9A-F]{1,64}$")]
    legal_names: Annotated[tuple[str, ...], _ONE]
    addresses: tuple[str, ...]
    serial: Annotated[int, Field(strict=True)]
    chains: Annotated[tuple[tuple[Base64, ...], ...], _ONE]
    """The certificates of its identities (DER), each with its issuers."""

    def parsed(self) -> list[x509.Certificate]:
        """All stored certificates. Raises ValueError."""
        return [x509.load_der_x509_certificate(each) for chain in self.chains for each in chain]


class _VerifiedInfos(OpenModel):
    infos: tuple[_VerifiedInfo, ...]


class _Info(_VerifiedInfo):
    """Verified information of one node."""

    content: Base64


class _StoredMember(OpenModel):
    """A member's file on the share."""

    member: str
    infos: tuple[_Info, ...]


def _first_end(of: Iterable[x509.Certificate]) -> datetime:
    return min(each.not_valid_after_utc for each in of)


def _known_members(durable: Path) -> dict[str, tuple[_Info, ...]]:
    """Known nodes by member; unreadable files are left out, since members' agents publish them again."""
    known = {}
    for path in _member_files(durable):
        content = path.read_bytes()
        try:
            document = _StoredMember.model_validate_json(content)
        except ValidationError as error:
            log.warning("%s can't be read, and is left out: %s", path, first_fault(error))
        else:
            known[document.member] = document.infos
    return known


def _member_files(durable: Path) -> Iterator[Path]:
    return (durable / _MEMBERS).glob("*.json")


def _store_member(place: Place, member: str, infos: Mapping[str, _Info], dropped: set[str]) -> None:
    """Write a member's known nodes to the running node's folder and to the share."""
    folder = place.scratch / _INFOS
    for name, info in infos.items():
        path = folder / name
        if _content(path) != info.content:
            _replace(path, info.content)
    for name in dropped:
        (folder / name).unlink(missing_ok=True)
    (place.durable / _MEMBERS).mkdir(mode=0o700, exist_ok=True)
    path = place.durable / _MEMBERS / f"{member}.json"
    if not infos:
        path.unlink(missing_ok=True)
        return
    document = _StoredMember(member=member, infos=tuple(infos.values()))
    content = document.model_dump_json(by_alias=True, indent=1).encode()
    if not path.exists() or path.read_bytes() != content:
        _replace(path, content)


def _newest_info(scratch: Path) -> bytes | None:
    # Named for the legal name. It is written in place; a truncated copy fails the verification.
    contents = (_content(path) for path in sorted(scratch.glob("nodeInfo-*")))
    return next((content for content in contents if content), None)


def _content(path: Path) -> bytes | None:
    """A file in a folder that the node writes to; no link is followed, since it could lead to a file of the agent."""
    with contextlib.suppress(OSError), open(path, "rb", opener=_plainly) as file:
        return file.read(_MAX_INFO_BYTES) if S_ISREG(os.fstat(file.fileno()).st_mode) else None
    return None


def _plainly(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


# --- Helpers -------------------------------------------------------------------------------------------------------


def _encoded(root: x509.Certificate) -> str:
    return base64.b64encode(root.public_bytes(Encoding.DER)).decode()


@contextlib.asynccontextmanager
async def _connected(place: Place) -> AsyncIterator[AsyncConnection[Any]]:
    """A connection to the node's tables.

    Raises:
        UnavailableError: the server does not answer in time.
        SoftwareError: the server refuses a statement.
    """
    access = place.database
    assert access  # noqa: S101
    try:
        async with await AsyncConnection.connect(
            **_access(access),
            **ALIVE,
            connect_timeout=_CONNECT_SECONDS,
            autocommit=True,
            application_name="ledger-agent",
            options=f"-c search_path={SCHEMA} -c statement_timeout={_STATEMENT_SECONDS}s",
        ) as connection:
            yield connection
    except psycopg.OperationalError as error:
        # An outage: another VM would not help.
        raise UnavailableError(f"{place.identity.name}: database: {str(error).strip()}") from error
    except psycopg.Error as error:
        raise SoftwareError(f"{place.identity.name}: database: {str(error).strip()}") from error


def _access(access: DatabaseAccess) -> dict[str, Any]:
    return {
        "host": access.host,
        "port": access.port,
        "dbname": access.database,
        "user": access.user,
        "password": access.password,
        **tls_options(access.root_certificates),
    }


async def _server_run(connection: AsyncConnection[Any]) -> tuple[Any, ...] | None:
    rows = await connection.execute(_SERVER_RUN)
    return await rows.fetchone()


async def _exists(connection: AsyncConnection[Any], table: str) -> bool:
    rows = await connection.execute("SELECT to_regclass(%s) IS NOT NULL", [f"{SCHEMA}.{table}"])
    row = await rows.fetchone()
    return bool(row and row[0])


async def _forget_others(connection: AsyncConnection[Any], own: Identity, known: "Sequence[_Info]") -> None:
    """Delete all nodes from the network map but this and known ones, and information newer than the known one."""
    serials = {name_key(name): info.serial for info in known for name in info.legal_names}
    async with connection.transaction():
        rows = await connection.execute(
            "SELECT info.node_info_id, info.serial, party.party_name FROM node_infos info"
            " JOIN node_link_nodeinfo_party party ON party.node_info_id = info.node_info_id"
        )
        gone = {
            number: name
            for number, serial, name in await rows.fetchall()
            if name_key(name) != name_key(own.legal_name) and serial > serials.get(name_key(name), -math.inf)
        }
        for table in ("node_info_hosts", "node_link_nodeinfo_party", "node_infos"):
            await connection.execute(f"DELETE FROM {table} WHERE node_info_id = ANY(%s)", [list(gone)])  # noqa: S608
        await connection.execute(
            "DELETE FROM node_info_party_cert"
            " WHERE party_name NOT IN (SELECT party_name FROM node_link_nodeinfo_party)"
        )
    for name in gone.values():
        log.warning("%s: %s is no longer in the network map", own.name, name)


def _is(address: str, what: str) -> bool:
    try:
        return bool(getattr(ipaddress.ip_address(address), what))
    except ValueError:
        return False


def _read(path: Path, name: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SoftwareError(f"{name}: no secret {path.name}; wanted it as a file") from error


@contextlib.contextmanager
def _share(place: Place) -> Iterator[None]:
    """Translate errors of the share: an outage is not the node's failure."""
    try:
        yield
    except OSError as error:
        raise UnavailableError(f"{place.identity.name}: share: {error}") from error


def _read_text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


def _write_private(path: Path, content: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o640), "wb") as file:
        file.write(content)


def _replace(path: Path, content: bytes) -> None:
    """Replace a file atomically; a node ignores files with this suffix."""
    unfinished = path.with_name(f"{path.name}.tmp")
    # The node may have created it, even as a link.
    unfinished.unlink(missing_ok=True)
    with unfinished.open("xb") as file:
        file.write(content)
    unfinished.replace(path)
