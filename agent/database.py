"""The database's side of an epoch: one role an epoch, and no way in for an older one."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import AsyncConnection, errors, sql

from agent.fence import DamagedError, SupersededError, UnavailableError
from ledger.software import DatabaseAccess

_CONNECT_SECONDS = 5
_STATEMENT_SECONDS = 10
_END_SECONDS = 20
"""How long the sessions of older epochs may take to end."""
_LOOK_SECONDS = 0.1
_EVERY_SERVERS = "postgres"
"""The database that each server has."""

Administrator = Callable[[], Awaitable[tuple[str, str]]]
"""The name and password, or token, to sign in with; asked anew for each connection."""


@dataclass(frozen=True)
class PostgresFence:
    """Implements `DatabaseFence` on a PostgreSQL server; each identity has the database of its name.

    What a node makes belongs to the identity's owner role, which nobody signs in as; an epoch's role is a member of
    it until the next epoch comes. The administrator needs CREATEROLE, CREATEDB and pg_signal_backend. It makes
    the databases, for only their owner lets others in, and one that is made through Resource Manager is another's.
    """

    host: str
    port: int
    administrator: Administrator
    root_certificates: Path | None
    """Trust roots that the server's certificate is verified against; None only in tests."""

    async def close_older(self, identity: str, epoch: int, *, known: bool) -> DatabaseAccess:
        """Let this epoch in and all older ones out; when it returns, no older epoch can commit any more.

        Args:
            identity: its name.
            epoch: of the lease.
            known: whether an epoch before got past this: then the database is there, or was lost.

        Raises:
            SupersededError: a role of a newer epoch is there.
            DamagedError: the database is gone that there was, or is another's.
            UnavailableError: the server does not answer, or an older session does not end.
        """
        password = secrets.token_urlsafe(32)
        async with self._connect(_EVERY_SERVERS) as connection:
            await self._make_database(connection, identity, known=known)
        async with self._connect(identity) as connection:
            role = await self._change_roles(connection, identity, epoch, password)
            await self._end_sessions(connection, identity, role)
        return DatabaseAccess(self.host, self.port, identity, role, password, self.root_certificates)

    @staticmethod
    async def _make_database(connection: AsyncConnection[Any], identity: str, *, known: bool) -> None:
        """Make an identity's database where there never was one."""
        # Before the database is looked for: another agent makes it first, and then the role.
        known = known or await _role_exists(connection, _owner(identity))
        rows = await connection.execute(
            "SELECT pg_has_role(datdba, 'USAGE'), pg_get_userbyid(datdba) FROM pg_database WHERE datname = %s",
            [identity],
        )
        if found := await rows.fetchone():
            own, by = found
            if not own:
                raise DamagedError(
                    f"database {identity} is owned by {by}; wanted {connection.info.user}, who makes it"
                )
            return
        if known:
            raise DamagedError(f"database {identity} is gone; wanted it restored, for its ledger is nowhere else")
        # Another agent may be faster.
        with suppress(errors.DuplicateDatabase, errors.UniqueViolation):
            # An order that depends on the system's locale breaks indexes at an upgrade.
            await connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'").format(
                    sql.Identifier(identity)
                )
            )

    async def _change_roles(self, connection: AsyncConnection[Any], identity: str, epoch: int, password: str) -> str:
        owner, prefix = _owner(identity), f"{identity}_e".replace("-", "_")
        role = f"{prefix}{epoch}"
        async with connection.transaction():
            # Two agents that believe to be the holder come here one after the other.
            await connection.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [identity])
            rows = await connection.execute(
                "SELECT rolname, rolcanlogin FROM pg_roles WHERE starts_with(rolname, %s)", [prefix]
            )
            roles = {
                int(name.removeprefix(prefix)): can_login
                for name, can_login in await rows.fetchall()
                if name.removeprefix(prefix).isdigit()
            }
            if newer := [each for each in roles if each > epoch]:
                raise SupersededError(
                    f"database {identity}: epoch {max(newer)} has a role; wanted none above {epoch}"
                )
            await self._make_owner(connection, identity, owner)
            for older, can_login in roles.items():
                # Both below were done at once: of hundreds of epochs before nothing is left to do.
                if older < epoch and can_login:
                    name = sql.Identifier(f"{prefix}{older}")
                    await connection.execute(sql.SQL("ALTER ROLE {} NOLOGIN").format(name))
                    await connection.execute(sql.SQL("REVOKE {} FROM {}").format(sql.Identifier(owner), name))
            verb = "ALTER" if epoch in roles else "CREATE"
            # Encrypted here, so that the server's log can't show it.
            verifier = connection.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()
            await connection.execute(
                sql.SQL("{} ROLE {} LOGIN PASSWORD {}").format(
                    sql.SQL(verb), sql.Identifier(role), sql.Literal(verifier)
                )
            )
            await connection.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(owner), sql.Identifier(role)))
            # What the node makes is the owner's, so that the next epoch may change it.
            await connection.execute(
                sql.SQL("ALTER ROLE {} SET role = {}").format(sql.Identifier(role), sql.Literal(owner))
            )
        return role

    @staticmethod
    async def _make_owner(connection: AsyncConnection[Any], identity: str, owner: str) -> None:
        if await _role_exists(connection, owner):
            return
        names = {"owner": sql.Identifier(owner), "database": sql.Identifier(identity)}
        await connection.execute(sql.SQL("CREATE ROLE {owner} NOLOGIN").format(**names))
        for statement in (
            "GRANT ALL ON DATABASE {database} TO {owner}",
            # Nobody else has business here, not even to look.
            "REVOKE ALL ON DATABASE {database} FROM PUBLIC",
            "GRANT ALL ON SCHEMA public TO {owner}",
        ):
            await connection.execute(sql.SQL(statement).format(**names))

    @staticmethod
    async def _end_sessions(connection: AsyncConnection[Any], identity: str, role: str) -> None:
        """Terminate until two looks in a row find none: one that was signing in shows up in the second."""
        end, clean = time.monotonic() + _END_SECONDS, 0
        while clean < 2:
            rows = await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = %s AND usename <> %s AND starts_with(usename, %s)",
                [identity, role, role.rstrip("0123456789")],
            )
            clean = 0 if await rows.fetchall() else clean + 1
            if time.monotonic() > end:
                raise UnavailableError(
                    f"database {identity}: sessions of older epochs did not end in {_END_SECONDS} s"
                )
            await asyncio.sleep(_LOOK_SECONDS)

    @asynccontextmanager
    async def _connect(self, name: str) -> AsyncIterator[AsyncConnection[Any]]:
        user, password = await self.administrator()
        secure: dict[str, Any] = (
            {"sslmode": "verify-full", "sslrootcert": str(self.root_certificates)}
            if self.root_certificates
            else {"sslmode": "prefer"}
        )
        try:
            async with await AsyncConnection.connect(
                host=self.host,
                port=self.port,
                dbname=name,
                user=user,
                password=password,
                connect_timeout=_CONNECT_SECONDS,
                autocommit=True,
                application_name="ledger-agent",
                options=f"-c statement_timeout={_STATEMENT_SECONDS}s",
                **secure,
            ) as connection:
                yield connection
        except psycopg.Error as error:
            raise UnavailableError(f"database {name} on {self.host}: {str(error).strip()}") from error


def _owner(identity: str) -> str:
    return f"{identity}_owner".replace("-", "_")


async def _role_exists(connection: AsyncConnection[Any], role: str) -> bool:
    rows = await connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role])
    return await rows.fetchone() is not None
