"""The database's fence: one role per epoch, and older epochs' roles are closed."""

import asyncio
import re
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import AsyncConnection, errors, sql
from typing_extensions import override

from agent.resources import DatabaseFence
from host.database import ALIVE, tls_options
from host.errors import DamagedError, NewerEpochError, ResourceError, SupersededError, UnavailableError
from host.faults import unexpected
from ledger.software import DatabaseAccess

_SIGN_IN_SECONDS = 5
_FENCE_SECONDS = 10
_END_SECONDS = 20
"""Time limit for other sessions to end."""
_SESSIONS_SECONDS = 0.1
ROLE_SESSIONS = 50
"""Most sessions of an epoch's role, twice what a node and its agent need."""
_REFUSED_SIGN_IN = re.compile(
    'FATAL:  (role ".*" (is not permitted to log in|does not exist)|password authentication failed for user'
    '|permission denied for database|database ".*" does not exist)'
)
"""A server's refusal of a closed epoch's role: libpq gives no SQLSTATE for a failed sign-in. Without "FATAL" the
message is libpq's own. Any other text is neither a refusal nor a proof: the node stops later.
"""
_EVERY_SERVERS = "postgres"
"""The database that every server has."""

Administrator = Callable[[], Awaitable[tuple[str, str]]]
"""User name, and password or token, requested for each connection. Raises UnavailableError."""


class _Connection(AsyncConnection[Any]):
    """A connection that closes at once when its caller is cancelled, even if the server is silent."""

    @override
    async def cancel_safe(self, *, timeout: float = 0.0) -> None:
        """Close the connection; the server rolls back. The driver's own version waits twice for the server."""
        self.pgconn.finish()


@dataclass(frozen=True)
class PostgresFence(DatabaseFence):
    """`DatabaseFence` on a PostgreSQL server; each identity has a database of its name.

    What a node creates belongs to the identity's owner role, which nobody signs in as. An epoch's role is a member of
    the owner role until the next epoch closes it, and may create nothing in its own name. The administrator needs
    CREATEROLE, CREATEDB and pg_signal_backend, and creates the databases itself: only a database's owner may grant
    access, and one made through Resource Manager has another owner.
    """

    host: str
    port: int
    administrator: Administrator
    root_certificates: Path | None
    """Trust roots for the server's certificate; None only in tests."""

    async def check(self) -> None:
        """Sign in and run an empty query.

        Raises:
            UnavailableError: the server does not answer.
        """
        async with self._connect(_EVERY_SERVERS) as connection:
            await connection.execute("SELECT 1")

    @override
    async def close_older(self, identity: str, epoch: int, holder: str, *, existed: bool) -> DatabaseAccess:
        password = secrets.token_urlsafe(32)
        async with self._connect(_EVERY_SERVERS) as connection:
            await self._make_database(connection, identity, existed=existed)
        async with self._connect(identity) as connection:
            end = time.monotonic() + _FENCE_SECONDS
            while True:
                try:
                    role = await self._change_roles(connection, identity, epoch, holder, password)
                    break
                except (errors.LockNotAvailable, errors.UniqueViolation, errors.InternalError_):
                    # A running node signs in again, and locks or changes its role ("tuple concurrently updated").
                    if time.monotonic() > end:
                        raise
            await self._end_sessions(connection, identity, epoch, holder)
        return DatabaseAccess(self.host, self.port, identity, role, password, self.root_certificates)

    @override
    async def prove(self, access: DatabaseAccess, epoch: int) -> None:
        try:
            async with self._session(access.database, access.user, access.password) as connection:
                rows = await connection.execute(
                    "SELECT max(substring(rolname FROM %s)::numeric) FROM pg_roles WHERE rolname ~ %s",
                    [_epochs(access.database)] * 2,
                )
                (newest,) = await rows.fetchone() or (None,)
        except UnavailableError as error:
            # A session that ends meanwhile proves nothing: a fence ends it, and so does a failover of the server.
            if _REFUSED_SIGN_IN.search(str(error.__cause__)):
                raise SupersededError(str(error)) from error
            raise
        if newest is None or newest > epoch:
            raise SupersededError(f"database {access.database}: the newest role is of epoch {newest}; wanted {epoch}")

    @staticmethod
    async def _make_database(connection: AsyncConnection[Any], identity: str, *, existed: bool) -> None:
        """Create an identity's database if there never was one."""
        # Checked before the database: another agent creates the database first, and then the role.
        existed = existed or await _role_exists(connection, _owner(identity))
        rows = await connection.execute(
            "SELECT pg_has_role(datdba, 'USAGE'), pg_get_userbyid(datdba) FROM pg_database WHERE datname = %s",
            [identity],
        )
        if found := await rows.fetchone():
            own, by = found
            if not own:
                raise DamagedError(
                    f"database {identity} is owned by {by}; wanted {connection.info.user}, which creates it"
                )
            return
        if existed:
            raise DamagedError(f"database {identity} is gone; wanted it restored, for its ledger is nowhere else")
        # Another agent may be faster.
        with suppress(errors.DuplicateDatabase, errors.UniqueViolation):
            # A collation of the operating system's locale could break indexes at an upgrade.
            await connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'").format(
                    sql.Identifier(identity)
                )
            )

    async def _change_roles(
        self, connection: AsyncConnection[Any], identity: str, epoch: int, holder: str, password: str
    ) -> str:
        owner, prefix = _owner(identity), _prefix(identity)
        role = f"{prefix}{epoch}"
        async with connection.transaction():
            await connection.execute("SET LOCAL lock_timeout = '100ms'")
            # A node's session may hold a lock, and outlive the node.
            await self._end(connection, identity, epoch, holder)
            # Two agents may believe to be the holder.
            await connection.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [identity])
            rows = await connection.execute(
                "SELECT substring(rolname FROM %s), rolcanlogin, shobj_description(oid, 'pg_authid')"
                " FROM pg_roles WHERE rolname ~ %s",
                [_epochs(identity)] * 2,
            )
            roles = {int(number): (can_login, by) for number, can_login, by in await rows.fetchall()}
            if newer := [each for each, (_, by) in roles.items() if each > epoch or (each == epoch and by != holder)]:
                raise NewerEpochError(
                    f"database {identity}: epoch {max(newer)} has a role of another holder; "
                    f"wanted none from {epoch} on",
                    max(newer),
                )
            await self._make_owner(connection, identity, owner)
            for older, (can_login, _) in roles.items():
                # Roles of earlier epochs that can't log in are closed already.
                if older < epoch and can_login:
                    await self._close_role(connection, identity, f"{prefix}{older}")
            # Encrypted here, so that the server's log can't show the password.
            verifier = connection.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()
            names = {
                "verb": sql.SQL("ALTER" if epoch in roles else "CREATE"),
                "role": sql.Identifier(role),
                "owner": sql.Identifier(owner),
                "database": sql.Identifier(identity),
                "sessions": sql.Literal(ROLE_SESSIONS),
                "verifier": sql.Literal(verifier),
                "holder": sql.Literal(holder),
            }
            for statement in (
                # The session runs as the owner.
                "{verb} ROLE {role} LOGIN NOINHERIT CONNECTION LIMIT {sessions} PASSWORD {verifier}",
                "COMMENT ON ROLE {role} IS {holder}",
                "GRANT CONNECT ON DATABASE {database} TO {role}",
                "GRANT {owner} TO {role}",
                "ALTER ROLE {role} SET role = {owner}",
            ):
                await connection.execute(sql.SQL(statement).format(**names))
        return role

    @staticmethod
    async def _close_role(connection: AsyncConnection[Any], identity: str, role: str) -> None:
        names = {
            "role": sql.Identifier(role),
            "owner": sql.Identifier(_owner(identity)),
            "database": sql.Identifier(identity),
        }
        for statement in (
            "ALTER ROLE {role} NOLOGIN",
            "REVOKE {owner} FROM {role}",
            "REVOKE CONNECT ON DATABASE {database} FROM {role}",
        ):
            await connection.execute(sql.SQL(statement).format(**names))

    @staticmethod
    async def _make_owner(connection: AsyncConnection[Any], identity: str, owner: str) -> None:
        if await _role_exists(connection, owner):
            return
        names = {"owner": sql.Identifier(owner), "database": sql.Identifier(identity)}
        await connection.execute(sql.SQL("CREATE ROLE {owner} NOLOGIN").format(**names))
        for statement in (
            "GRANT ALL ON DATABASE {database} TO {owner}",
            # No other role may even connect.
            "REVOKE ALL ON DATABASE {database} FROM PUBLIC",
            "GRANT ALL ON SCHEMA public TO {owner}",
        ):
            await connection.execute(sql.SQL(statement).format(**names))

    @staticmethod
    async def _end(connection: AsyncConnection[Any], identity: str, epoch: int, holder: str) -> int:
        """Terminate the other sessions; returns how many there were.

        Sessions of this epoch's role end too: they belong to an earlier node or an unknown client. Not ended: another
        holder's of this epoch or a newer one, since this agent may be the late one; the agents'; Azure's superusers'.
        An epoch's role may have sessions in every database.
        """
        rows = await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity JOIN pg_roles ON rolname = usename"
            " WHERE NOT rolsuper AND usename <> session_user AND coalesce(substring(usename FROM %s)::numeric"
            " < %s + (shobj_description(usesysid, 'pg_authid') IS NOT DISTINCT FROM %s)::int, datname = %s)",
            [_epochs(identity), epoch, holder, identity],
        )
        return len(await rows.fetchall())

    async def _end_sessions(self, connection: AsyncConnection[Any], identity: str, epoch: int, holder: str) -> None:
        """Terminate the other sessions until two queries in a row find none: one may be signing in."""
        end, clean = time.monotonic() + _END_SECONDS, 0
        while clean < 2:
            clean = 0 if await self._end(connection, identity, epoch, holder) else clean + 1
            if time.monotonic() > end:
                raise UnavailableError(f"database {identity}: other sessions did not end in {_END_SECONDS} s")
            await asyncio.sleep(_SESSIONS_SECONDS)

    @asynccontextmanager
    async def _connect(self, name: str) -> AsyncIterator[AsyncConnection[Any]]:
        async with self._session(name, *await self.administrator()) as connection:
            yield connection

    @asynccontextmanager
    async def _session(self, name: str, user: str, password: str) -> AsyncIterator[AsyncConnection[Any]]:
        try:
            async with await _Connection.connect(
                host=self.host,
                port=self.port,
                dbname=name,
                user=user,
                password=password,
                **ALIVE,
                connect_timeout=_SIGN_IN_SECONDS,
                autocommit=True,
                application_name="ledger-agent",
                # Not the node's functions.
                options=f"-c search_path=pg_catalog -c statement_timeout={_FENCE_SECONDS}s",
                **tls_options(self.root_certificates),
            ) as connection:
                yield connection
        except ResourceError:
            raise
        except psycopg.Error as error:
            raise UnavailableError(f"database {name} on {self.host}: {str(error).strip()}") from error
        except Exception as error:
            # The driver may raise anything on a garbled answer.
            raise UnavailableError(unexpected(f"database {name} on {self.host}", error, secret=True)) from None


def _owner(identity: str) -> str:
    return f"{identity}_owner".replace("-", "_")


def _prefix(identity: str) -> str:
    return f"{identity}_e".replace("-", "_")


def _epochs(identity: str) -> str:
    """A regular expression in the server's syntax that matches the epochs' roles; its group is the epoch."""
    return f"^{re.escape(_prefix(identity))}([0-9]+)$"


async def _role_exists(connection: AsyncConnection[Any], role: str) -> bool:
    rows = await connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role])
    return await rows.fetchone() is not None
