"""A Corda node on a VM: prepared, started, asked, drained. What the agent needs of it stands in `ledger.software`."""

import asyncio
import base64
import contextlib
import functools
import ipaddress
import json
import logging
import os
import re
import secrets
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import psycopg
from cryptography.hazmat.primitives.serialization import Encoding
from psycopg import AsyncConnection, sql

from agent.fence import UnavailableError
from ledger.corda import POOL, certificates, parse_legal_name
from ledger.corda.certificates import CertificateError, Chains
from ledger.corda.installation import InstallationError, Installed, ToolError, wanted_artifacts
from ledger.corda.node_conf import FILE, SCHEMA, Database, KeyStore, NetworkServices, NodeConf, User, Variable
from ledger.platform import AGENT_USER, P2P, Identity
from ledger.software import (
    MIGRATION_SECONDS,
    DatabaseAccess,
    Figure,
    Member,
    Place,
    Process,
    Readiness,
    RpcUser,
    SoftwareError,
    Surroundings,
    UntrustedError,
    WaitingError,
    Zone,
)

PROCESS = "corda"
_USER = re.compile(r"\w+", re.ASCII)

_RPC, _RPC_ADMIN, _MONITORING = "rpc", "rpc-admin", "monitoring"
_CERTIFICATES = "certificates"
_PARAMETERS = "network-parameters"
_INFOS = "additional-node-infos"
_ARTEMIS = "artemis"
_MEMBERS = "members"
_FAILURES = "failures.json"
_MIGRATIONS = "decentralized_trust_migrations"
_AGENT_PERMISSIONS = ("InvokeRpc.setFlowsDrainingModeEnabled", "InvokeRpc.stateMachinesSnapshot")
_KEY_STORE_PASSWORD = Variable("LEDGER_KEYSTORE_PASSWORD")
_DATABASE_PASSWORD = Variable("LEDGER_DATABASE_PASSWORD")
_TOKEN = "LEDGER_MONITORING_TOKEN"  # noqa: S105  # The variable's name.

# A list of revoked certificates that can't be had delays a connection so long, no more.
_REVOCATION = {
    "com.sun.security.enableCRLDP": "true",
    "com.sun.security.crl.timeout": "5",
    "com.sun.security.crl.readtimeout": "5",
}
_STOP_SECONDS = 30.0
"""Six are usual; flows that have not ended go on after the next start."""
_ANSWER_SECONDS = 3
_CONNECT_SECONDS = 5
_STATEMENT_SECONDS = 60
_ALIVE: dict[str, Any] = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
"""A server that is gone without a word, as in its failover, is noticed after some 20 s; else it takes hours."""
_TOOL_START_SECONDS = 15
"""What the tool needs beside the draining itself."""
_PROOF_SECONDS = 20
"""Three are usual. Less than the caller waits: what takes longer is not trusted, and left alone for a while."""
_REFRESH_SECONDS = 20
_LOOK_SECONDS = 5
"""While it drains: a lease's holder has other things to do than to wait in vain."""
_COUNTING_SHARE = 100
"""Counting takes one in so many seconds at most: a table that has grown large is counted less often."""
_SERVER_RUN = (
    "SELECT pg_postmaster_start_time(), left(pg_walfile_name(pg_current_wal_lsn()), 8), stats_reset"
    " FROM pg_stat_bgwriter"
)
"""When the server started, its timeline, and since when it counts: one of them is another after its restart, its
failover, or the crash of a session, which ends all sessions and loses the counts."""

log = logging.getLogger(__name__)


class Enroller(Protocol):
    """Who certifies the bank's identities; `ledger.corda.enrolment` has the one that asks the network."""

    async def certificates(self, identity: Identity, keys: Mapping[str, bytes]) -> Chains:
        """The identity's certificates, renewed where it is time. Raises WaitingError while they are not issued."""

    async def network_parameters(self, verify: Callable[[bytes], Awaitable[int]]) -> bytes | None:
        """The newest signed parameters that `verify` takes, which gives their epoch; None while there are none."""

    def renewal_due(self, chains: Chains) -> bool:
        """Whether a certificate should be renewed."""


@dataclass
class _Start:
    """One start of a node: what lives as long as its process."""

    place: Place
    chains: Chains
    installed: Installed
    parameters: bytes | None
    """None where the node fetches them itself."""
    users: tuple[RpcUser, ...]
    failures: int
    """Before this start."""
    password: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    """Of the key stores."""
    agent_password: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    server_run: tuple[Any, ...] | None = None
    """Of the database's server, before the node started."""
    figures: dict[Figure, float] = field(default_factory=dict)
    refreshed: float = 0.0
    """When the figures that cost something are due, by the monotonic clock."""
    counted: float = 0.0
    """When the transactions are to be counted again, by the same."""
    refreshing: "asyncio.Task[None] | None" = None

    @property
    def environment(self) -> dict[str, str]:
        """Every password that node.conf names."""
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


class CordaSoftware:
    """Implements `ledger.software.Software` for Corda 4."""

    def __init__(self, surroundings: Surroundings, enroller: Enroller | None = None) -> None:
        self._surroundings = surroundings
        self._enroller = enroller or _enrolment(surroundings)
        self._starts: dict[str, _Start] = {}
        self._admitting = asyncio.Lock()

    def make_secrets(self, identity: Identity) -> Mapping[str, bytes]:  # noqa: ARG002
        """An identity's keys: node CA, identity, TLS among members, TLS for applications."""
        return certificates.make_keys()

    # --- Before the start ------------------------------------------------------------------------------------------

    async def prepare(self, place: Place) -> None:
        """Verify the installation, have the identity certified, write the node's files, migrate its database.

        Raises:
            WaitingError: the authority has not certified the identity, or signed no parameters yet.
            SoftwareError: the node can't be started as things are.
            UnavailableError: share, database or documents do not answer.
        """
        name = place.identity.name
        if place.database is None:
            raise SoftwareError(f"{name}: no database; wanted one, since Corda keeps all it knows in it")
        self._forget(name)
        installed = await asyncio.to_thread(self._verified)
        keys = {each.name: _read(place.secrets / each.name, name) for each in place.identity.role.secrets}
        try:
            chains = await self._enroller.certificates(place.identity, keys)
        except CertificateError as error:
            raise SoftwareError(f"{name}: {error}") from error
        users = tuple(await self._surroundings.rpc_users())
        for user in users:
            if user.name == AGENT_USER or not _USER.fullmatch(user.name):
                raise SoftwareError(
                    f"RPC user {user.name!r}; wanted letters, digits and underscores, and not {AGENT_USER}, "
                    "which is the agent's own"
                )
        start = _Start(
            place=place,
            chains=chains,
            installed=installed,
            parameters=await self._parameters(place, chains, installed),
            users=users,
            failures=await asyncio.to_thread(_read_failures, place),
        )
        await asyncio.to_thread(self._write, start, keys)
        await self._prepare_database(start)
        self._starts[name] = start

    def _verified(self) -> Installed:
        around = self._surroundings
        try:
            installed = Installed.load(around.installation)
            installed.verify(around.version, wanted_artifacts(around.version, around.artifact, around.applications))
        except InstallationError as error:
            raise SoftwareError(str(error)) from error
        return installed

    async def _parameters(self, place: Place, chains: Chains, installed: Installed) -> bytes | None:
        """The network's parameters, verified; None where the node fetches them from a zone's network map."""
        if place.network_document:
            document = await asyncio.to_thread(place.network_document.read_bytes)
        elif isinstance(self._surroundings.network, Zone):
            return None
        else:
            found = await self._enroller.network_parameters(functools.partial(_epoch, installed, chains))
            if found is None:
                raise WaitingError(
                    f"{place.identity.name}: the network has no parameters yet; wanted its authority to sign them, "
                    "which it does once every notary has its certificates"
                )
            document = found
        read = await _verify_parameters(installed, document, chains)
        if read["minimumPlatformVersion"] > installed.manifest.platform_version:
            raise SoftwareError(
                f"the network asks for platform version {read['minimumPlatformVersion']}; wanted a newer version "
                f"of Corda than {installed.manifest.version}, which has {installed.manifest.platform_version}"
            )
        log.info("%s: network parameters of epoch %d", place.identity.name, read["epoch"])
        return document

    def _write(self, start: _Start, keys: Mapping[str, bytes]) -> None:
        """The node's folder: configuration, key stores in memory, messages on the share, members it knows."""
        place = start.place
        stores = place.secrets / _CERTIFICATES
        stores.mkdir(mode=0o700, exist_ok=True)
        for name, content in certificates.key_stores(keys, start.chains, start.password).items():
            _write_private(stores / name, content)
        for name in keys:
            # The node has what it needs of them in its key stores, and no business with the CA's.
            (place.secrets / name).unlink(missing_ok=True)
        (place.scratch / _CERTIFICATES).symlink_to(stores)
        with _share(place):
            (place.kept / _ARTEMIS).mkdir(mode=0o700, exist_ok=True)
            members = _known_members(place.kept)
        (place.scratch / _ARTEMIS).symlink_to(place.kept / _ARTEMIS)
        if start.parameters is not None:
            (place.scratch / _PARAMETERS).write_bytes(start.parameters)
        infos = place.scratch / _INFOS
        infos.mkdir()
        for known in members.values():
            for info in known:
                _replace(infos / info.file_name, info.content)
        (place.scratch / FILE).write_text(self._conf(start, stores).render(), encoding="utf-8")

    def _conf(self, start: _Start, stores: Path) -> NodeConf:
        place, around = start.place, self._surroundings
        access, ports = place.database, place.identity.ports
        assert access  # noqa: S101
        zone = around.network if isinstance(around.network, Zone) else None
        users = [(user.name, user.permissions) for user in start.users] + [(AGENT_USER, _AGENT_PERMISSIONS)]
        return NodeConf(
            legal_name=place.identity.legal_name,
            frontend=around.frontend,
            listen=around.listen,
            local=self._local,
            p2p_port=ports[P2P],
            rpc_port=ports[_RPC],
            rpc_admin_port=ports[_RPC_ADMIN],
            rpc_tls=KeyStore(stores / certificates.RPC_KEY_STORE, _KEY_STORE_PASSWORD),
            users=tuple(User(name, _user_variable(index), may) for index, (name, may) in enumerate(users)),
            key_store_password=_KEY_STORE_PASSWORD,
            trust_store_password=_KEY_STORE_PASSWORD,
            applications=start.installed.applications,
            database=Database(
                host=access.host,
                port=access.port,
                name=access.database,
                user=access.user,
                password=_DATABASE_PASSWORD,
                root_certificates=access.root_certificates,
                pool=POOL,
            ),
            notary=place.identity.role.name == "notary",
            network=NetworkServices(zone.registration_url, zone.network_map_url) if zone else None,
        )

    async def _prepare_database(self, start: _Start) -> None:
        """Make the schema, bring its tables to this version, and lift the draining that the last holder began."""
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
                # Of a migration that was cut off: this epoch is alone with the database.
                await connection.execute("UPDATE databasechangeloglock SET locked = false, lockedby = NULL")
        if not migrated:
            await self._migrate(start)
        async with _connected(place) as connection:
            if not migrated:
                await connection.execute(
                    f"INSERT INTO {_MIGRATIONS} (fingerprint, version) VALUES (%s, %s) ON CONFLICT DO NOTHING",  # noqa: S608
                    [fingerprint, start.installed.manifest.version],
                )
            await connection.execute("DELETE FROM node_properties WHERE property_key LIKE '%%\\_flowsExecutionMode'")
            await self._renew_info(connection, start)

    async def _migrate(self, start: _Start) -> None:
        name = start.place.identity.name
        log.info("%s: the database is brought to Corda %s", name, start.installed.manifest.version)
        argv = start.installed.command(("run-migration-scripts", "--core-schemas", "--app-schemas"))
        began = time.monotonic()
        process = await asyncio.create_subprocess_exec(
            *("setpriv", "--pdeathsig", "KILL", "--"),
            *argv,
            env=start.environment,
            cwd=start.place.scratch,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(MIGRATION_SECONDS):
                output, _ = await process.communicate()
        except TimeoutError as error:
            raise SoftwareError(f"{name}: the database's migration was not done in {MIGRATION_SECONDS} s") from error
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode != 0:
            lines = output.decode(errors="replace").strip().splitlines()
            told = [line for line in lines if "ERROR" in line or "Exception" in line] or lines[-3:]
            raise SoftwareError(f"{name}: the database can't be migrated: {' '.join(told[-5:])[:1000]}")
        log.info("%s: migrated in %.1f s", name, time.monotonic() - began)

    async def _renew_info(self, connection: AsyncConnection[Any], start: _Start) -> None:
        """Have the node publish a renewed certificate.

        It writes its information anew only where addresses, names, keys or the platform's version changed, so the
        record of the last one is given the first version, which no node has any more.
        """
        mark = start.place.kept / "identity-certificate"
        fingerprint = certificates.fingerprint(start.chains.identity[0])
        with _share(start.place):
            last = mark.read_text(encoding="utf-8") if mark.exists() else None
        if last != fingerprint:
            await connection.execute(
                "UPDATE node_infos SET platform_version = 1 WHERE node_info_id IN (SELECT node_info_id FROM"
                " node_link_nodeinfo_party WHERE party_name = %s)",
                [start.place.identity.legal_name],
            )
            with _share(start.place):
                _replace(mark, fingerprint.encode())

    # --- The process -----------------------------------------------------------------------------------------------

    def processes(self, place: Place) -> Sequence[Process]:
        """The node: one process, which also tells the agent its figures."""
        start = self._start(place)
        ports, around = place.identity.ports, self._surroundings
        properties = {
            "ledger.identity": place.identity.name,
            "ledger.epoch": str(place.epoch),
            "ledger.monitoring": f"{self._local}:{ports[_MONITORING]}",
            **_REVOCATION,
        }
        if spread := place.identity.role.spread_ports.get(_RPC):
            properties["ledger.spread.listen"] = f"{around.listen}:{spread}"
            properties["ledger.spread.to"] = f"{self._reached}:{ports[_RPC]}"
        return [
            Process(
                name=PROCESS,
                argv=start.installed.node(properties, ("--no-local-shell",)),
                environment=start.environment,
                folder=place.scratch,
                stop_seconds=_STOP_SECONDS,
            )
        ]

    # --- While it runs ---------------------------------------------------------------------------------------------

    async def readiness(self, place: Place) -> Readiness:
        """Ready once it has started, has its database and takes its peers' connections."""
        told = await self._told(place)
        if told is None:
            return Readiness.DOWN
        started = told["status"] == "STARTED" and told["pool"]["total"] > 0
        ready = started and await _listens(self._reached, place.identity.ports[P2P])
        return Readiness.READY if ready else Readiness.UP

    async def figures(self, place: Place) -> Mapping[Figure, float]:
        """Failed flows from the node itself; all else from its database, as last looked up in the background."""
        told = await self._told(place)
        if told is None:
            return {}
        start = self._start(place)
        failures = start.failures + int(told["flows"]["failed"])
        if failures != start.figures.get(Figure.FAILURES):
            start.figures[Figure.FAILURES] = failures
            with contextlib.suppress(OSError):
                await asyncio.to_thread(_replace, place.kept / _FAILURES, json.dumps({"failures": failures}).encode())
        if time.monotonic() >= start.refreshed and (start.refreshing is None or start.refreshing.done()):
            start.refreshing = asyncio.create_task(self._refresh(start))
        return dict(start.figures)

    async def info(self, place: Place) -> bytes | None:
        """The node's signed information, once it has written it."""
        return await asyncio.to_thread(_newest_info, place.scratch)

    async def admit(self, place: Place, member: Member) -> None:
        """Have the node know a member's nodes, each with a proof that it is who the member's card says.

        Raises:
            UntrustedError: an information is not signed by its node, not of this network, not at the card's address,
                or older than one that was known.
        """
        start = self._start(place)
        async with self._admitting:
            members = await asyncio.to_thread(_known_members, place.kept)
            known = {info.file_name: info for info in members.get(member.name, ())}
            wanted = {info.file_name: info for info in await self._proven(start, member, known)}
            await asyncio.to_thread(_keep_member, place, member.name, wanted, set(known) - set(wanted))

    async def expel(self, place: Place, member: str) -> None:
        """Have the node forget a member's nodes; it takes the node some seconds.

        Raises:
            SoftwareError: the node has not started, and so has not learned yet whom to forget.
        """
        told = await self._told(place)
        if told is None or told["status"] != "STARTED":
            raise SoftwareError(f"{place.identity.name} has not started; wanted it to, before it forgets {member}")
        async with self._admitting:
            members = await asyncio.to_thread(_known_members, place.kept)
            dropped = {info.file_name for info in members.get(member, ())}
            await asyncio.to_thread(_keep_member, place, member, {}, dropped)

    async def drain(self, place: Place, seconds: float) -> None:
        """Have the node take no new flow, and wait for those there are.

        Raises:
            SoftwareError: it does not answer, or refuses, or its database was away: what then waits for the node's
                next start would be waited for in vain.
        """
        start = self._start(place)
        began = time.monotonic()
        # Applications come back by the balancer, to a node that takes their flows.
        await self._ask(start, "POST /leave")
        trust_store = place.secrets / _CERTIFICATES / certificates.RPC_TRUST_STORE
        draining = asyncio.create_task(
            start.installed.tool(
                "drain",
                {
                    "host": self._reached,
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
            )
        )
        looking = asyncio.create_task(self._outlast(start))
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

    async def stale(self, place: Place) -> str | None:
        """Certificates whose time comes, or new network parameters."""
        start = self._start(place)
        if self._enroller.renewal_due(start.chains):
            return "its certificates are to be renewed"
        if place.network_document or isinstance(self._surroundings.network, Zone):
            return None
        newest = await self._enroller.network_parameters(functools.partial(_epoch, start.installed, start.chains))
        if newest is None or newest == start.parameters:
            return None
        assert start.parameters is not None  # noqa: S101
        epoch = (await _verify_parameters(start.installed, newest, start.chains))["epoch"]
        own = (await _verify_parameters(start.installed, start.parameters, start.chains))["epoch"]
        return f"the network's parameters of epoch {epoch} follow those of epoch {own}" if epoch > own else None

    # --- How it is asked -------------------------------------------------------------------------------------------

    @property
    def _reached(self) -> str:
        """Where the VM itself reaches what the node listens on."""
        listen = self._surroundings.listen
        return "127.0.0.1" if _is(listen, "is_unspecified") else listen

    @property
    def _local(self) -> str:
        """For what nobody outside of the VM may reach; a test's VM is an address of the loopback."""
        listen = self._surroundings.listen
        return listen if _is(listen, "is_loopback") else "127.0.0.1"

    def _start(self, place: Place) -> _Start:
        start = self._starts.get(place.identity.name)
        if start is None or start.place.epoch != place.epoch:
            raise SoftwareError(f"{place.identity.name} is not prepared in epoch {place.epoch}")
        return start

    def _forget(self, name: str) -> None:
        if (start := self._starts.pop(name, None)) and start.refreshing:
            start.refreshing.cancel()

    async def _told(self, place: Place) -> dict[str, Any] | None:
        """What the running node tells; None if it is down, or another than this epoch's."""
        try:
            start = self._start(place)
        except SoftwareError:
            return None
        told = await self._ask(start, "GET /")
        mine = told is not None and (told["identity"], told["epoch"]) == (place.identity.name, place.epoch)
        return told if mine else None

    async def _ask(self, start: _Start, request: str) -> dict[str, Any] | None:
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                reader, writer = await asyncio.open_connection(self._local, start.place.identity.ports[_MONITORING])
                try:
                    writer.write(f"{request} HTTP/1.0\r\nAuthorization: Bearer {start.token}\r\n\r\n".encode())
                    answer = await reader.read()
                finally:
                    writer.close()
            head, _, body = answer.partition(b"\r\n\r\n")
            return dict(json.loads(body)) if b" 200 " in head.split(b"\r\n", 1)[0] else None
        except (OSError, TimeoutError, ValueError):
            return None

    async def _refresh(self, start: _Start) -> None:
        """Look up what costs something: the database's run and counts, and who of the members answers."""
        try:
            async with _connected(start.place) as connection:
                if await _server_run(connection) != start.server_run:
                    await self._again(start)
                    return
                if time.monotonic() >= start.counted:
                    await _count(connection, start)
                rows = await connection.execute(
                    "SELECT party.party_name, host.host_name, host.port FROM node_info_hosts host"
                    " JOIN node_link_nodeinfo_party party ON party.node_info_id = host.node_info_id"
                )
                addresses = await rows.fetchall()
            start.figures |= await self._members(start.place.identity, addresses)
        except (SoftwareError, UnavailableError) as error:
            log.warning("%s: figures can't be had: %s", start.place.identity.name, error)
        finally:
            start.refreshed = time.monotonic() + _REFRESH_SECONDS

    async def _outlast(self, start: _Start) -> None:
        """Wait for the end of the database server's run that the node began in."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            with contextlib.suppress(SoftwareError, UnavailableError):
                async with _connected(start.place) as connection:
                    if await _server_run(connection) != start.server_run:
                        return

    async def _again(self, start: _Start) -> None:
        """End the node at once; its agent starts it again.

        Of what lost its database in the midst of something, some waits in Corda's flow hospital until the node starts
        again, and a message that came then is not taken before.
        """
        log.warning(
            "%s: its database's server ended all sessions, so the node starts again", start.place.identity.name
        )
        await self._ask(start, "POST /again")

    async def _members(self, identity: Identity, addresses: Sequence[tuple[str, str, int]]) -> dict[Figure, float]:
        """Banks in the node's network map, and those of which a node answers; this bank is one, and does."""
        members: dict[tuple[str, ...], set[tuple[str, int]]] = {_bank(identity.legal_name): set()}
        for name, host, port in addresses:
            members.setdefault(_bank(name), set()).add((host, port))
        # A VM can't reach its own balancer, which would send it to itself.
        members.pop(_bank(identity.legal_name))
        peers = [asyncio.gather(*(_listens(host, port) for host, port in each)) for each in members.values()]
        reachable = sum(any(answers) for answers in await asyncio.gather(*peers))
        return {Figure.MEMBERS_KNOWN: 1 + len(members), Figure.MEMBERS_REACHABLE: 1 + reachable}

    async def _proven(self, start: _Start, member: Member, known: "Mapping[str, _Info]") -> "list[_Info]":
        """A member's informations, each proven to be what it seems."""
        own = certificates.name_key(start.place.identity.legal_name)
        trusted = {info.content for info in known.values()}
        proven = [info for info in known.values() if info.content in member.infos]
        asked = [content for content in member.infos if content not in trusted]
        if asked:
            try:
                answer = await start.installed.tool(
                    "node-info",
                    {
                        "documents": [base64.b64encode(content).decode() for content in asked],
                        "trustRoot": _encoded(start.chains),
                    },
                    seconds=_PROOF_SECONDS,
                )
            except ToolError as error:
                raise UntrustedError(f"node information: {error}") from error
            proven += [
                _Info(told["fileName"], content, tuple(told["legalNames"]), tuple(told["addresses"]), told["serial"])
                for content, told in zip(asked, answer["infos"], strict=True)
            ]
        addresses = {certificates.name_key(name): address for name, address in member.addresses.items()}
        for info in proven:
            for name in info.legal_names:
                wanted = addresses.get(certificates.name_key(name))
                if wanted is None or info.addresses != (wanted,):
                    raise UntrustedError(
                        f"node information of {name} at {', '.join(info.addresses)}; wanted "
                        + (f"{wanted}, as on the card" if wanted else "a legal name that stands on the card")
                    )
            last = known.get(info.file_name)
            if last and info.serial < last.serial:
                raise UntrustedError(
                    f"node information of {info.legal_names[0]} with serial {info.serial}; wanted {last.serial}, "
                    "which was known, or newer"
                )
        # A node knows itself.
        return [info for info in proven if own not in {certificates.name_key(name) for name in info.legal_names}]


# --- Members' informations, on the share ---------------------------------------------------------------------------


@dataclass(frozen=True)
class _Info:
    """What one node of a member publishes, as it was proven."""

    file_name: str
    content: bytes
    legal_names: tuple[str, ...]
    addresses: tuple[str, ...]
    serial: int


def _known_members(kept: Path) -> dict[str, tuple[_Info, ...]]:
    """Whom this identity's nodes know, by members' names; what can't be read its agent tells anew."""
    known = {}
    for path in (kept / _MEMBERS).glob("*.json"):
        content = path.read_bytes()
        try:
            document = json.loads(content)
            known[document["member"]] = tuple(
                _Info(
                    each["fileName"],
                    base64.b64decode(each["content"]),
                    tuple(each["legalNames"]),
                    tuple(each["addresses"]),
                    each["serial"],
                )
                for each in document["infos"]
            )
        except (ValueError, KeyError, TypeError) as error:
            log.warning("%s can't be read, and is left out: %r", path, error)
    return known


def _keep_member(place: Place, member: str, infos: Mapping[str, _Info], dropped: set[str]) -> None:
    """Write what is known of a member, for the running node and for those to come."""
    folder = place.scratch / _INFOS
    for name, info in infos.items():
        path = folder / name
        if not path.exists() or path.read_bytes() != info.content:
            _replace(path, info.content)
    for name in dropped:
        (folder / name).unlink(missing_ok=True)
    (place.kept / _MEMBERS).mkdir(mode=0o700, exist_ok=True)
    path = place.kept / _MEMBERS / f"{member}.json"
    if not infos:
        path.unlink(missing_ok=True)
        return
    document = {
        "member": member,
        "infos": [
            {
                "fileName": info.file_name,
                "content": base64.b64encode(info.content).decode(),
                "legalNames": info.legal_names,
                "addresses": info.addresses,
                "serial": info.serial,
            }
            for info in infos.values()
        ],
    }
    content = json.dumps(document, indent=1).encode()
    if not path.exists() or path.read_bytes() != content:
        _replace(path, content)


def _newest_info(scratch: Path) -> bytes | None:
    # Of one name: the legal name's hash. It is written in place, so one that is cut off fails whoever verifies it.
    for path in sorted(scratch.glob("nodeInfo-*")):
        if content := path.read_bytes():
            return content
    return None


# --- Small things ---------------------------------------------------------------------------------------------------


def _enrolment(surroundings: Surroundings) -> Enroller:
    from ledger.corda.enrolment import Enrolment  # noqa: PLC0415

    return Enrolment(surroundings)


async def _verify_parameters(installed: Installed, document: bytes, chains: Chains) -> dict[str, Any]:
    try:
        return await installed.tool(
            "verify-parameters",
            {"document": base64.b64encode(document).decode(), "trustRoot": _encoded(chains)},
        )
    except ToolError as error:
        raise SoftwareError(f"network parameters: {error}; wanted them signed under the network's root") from error


async def _epoch(installed: Installed, chains: Chains, document: bytes) -> int:
    return int((await _verify_parameters(installed, document, chains))["epoch"])


def _encoded(chains: Chains) -> str:
    return base64.b64encode(chains.trust_root.public_bytes(Encoding.DER)).decode()


@contextlib.asynccontextmanager
async def _connected(place: Place) -> AsyncIterator[AsyncConnection[Any]]:
    """A connection to the node's tables.

    Raises:
        UnavailableError: the server does not answer, or not in time.
        SoftwareError: it refuses what it is asked.
    """
    access = place.database
    assert access  # noqa: S101
    try:
        async with await AsyncConnection.connect(
            **_access(access),
            **_ALIVE,
            connect_timeout=_CONNECT_SECONDS,
            autocommit=True,
            application_name="ledger-agent",
            options=f"-c search_path={SCHEMA} -c statement_timeout={_STATEMENT_SECONDS}s",
        ) as connection:
            yield connection
    except psycopg.OperationalError as error:
        # Another VM would fare no better.
        raise UnavailableError(f"{place.identity.name}: database: {str(error).strip()}") from error
    except psycopg.Error as error:
        raise SoftwareError(f"{place.identity.name}: database: {str(error).strip()}") from error


def _access(access: DatabaseAccess) -> dict[str, Any]:
    secure = (
        {"sslmode": "verify-full", "sslrootcert": str(access.root_certificates)}
        if access.root_certificates
        else {"sslmode": "disable"}
    )
    return {
        "host": access.host,
        "port": access.port,
        "dbname": access.database,
        "user": access.user,
        "password": access.password,
        **secure,
    }


async def _server_run(connection: AsyncConnection[Any]) -> tuple[Any, ...] | None:
    rows = await connection.execute(_SERVER_RUN)
    return await rows.fetchone()


async def _count(connection: AsyncConnection[Any], start: _Start) -> None:
    began = time.monotonic()
    try:
        rows = await connection.execute("SELECT count(*) FROM node_transactions WHERE status = 'V'")
        if row := await rows.fetchone():
            start.figures[Figure.TRANSACTIONS] = row[0]
    finally:
        start.counted = time.monotonic() + (time.monotonic() - began) * _COUNTING_SHARE


async def _exists(connection: AsyncConnection[Any], table: str) -> bool:
    rows = await connection.execute("SELECT to_regclass(%s) IS NOT NULL", [f"{SCHEMA}.{table}"])
    row = await rows.fetchone()
    return bool(row and row[0])


async def _listens(host: str, port: int) -> bool:
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            _, writer = await asyncio.open_connection(host, port)
            writer.close()
            return True
    except (OSError, TimeoutError):
        return False


def _bank(legal_name: str) -> tuple[str, ...]:
    """A node's bank: its name without what differs between the bank's nodes."""
    try:
        attributes = parse_legal_name(legal_name)
    except ValueError:
        # Of a network with rules of its own.
        return (legal_name,)
    return tuple(attributes.get(key, "") for key in ("O", "L", "ST", "C"))


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
    """An outage of the share is not the node's failure."""
    try:
        yield
    except OSError as error:
        raise UnavailableError(f"{place.identity.name}: share: {error}") from error


def _read_failures(place: Place) -> int:
    try:
        with _share(place), contextlib.suppress(FileNotFoundError):
            return int(json.loads((place.kept / _FAILURES).read_bytes())["failures"])
    except (ValueError, KeyError, TypeError):
        log.warning("%s: %s can't be read, failures are counted anew", place.identity.name, _FAILURES)
    return 0


def _write_private(path: Path, content: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)


def _replace(path: Path, content: bytes) -> None:
    """Whole or not at all; a node reads no file that ends so."""
    unfinished = path.with_name(f"{path.name}.tmp")
    unfinished.write_bytes(content)
    unfinished.replace(path)
