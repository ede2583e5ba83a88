"""The database's fence, on a real PostgreSQL server."""

import asyncio
import re
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from agent import database
from agent.database import PostgresFence
from host.errors import DamagedError, NewerEpochError, SupersededError, UnavailableError
from lab import ROOT
from lab.banks.postgres import ADMINISTRATOR, Server, administrator, missing, server
from ledger.software import DatabaseAccess

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))


@pytest.fixture(scope="module")
def postgres() -> Iterator[Server]:
    with server(statements=True) as running:
        yield running


@pytest.fixture
def identity() -> str:
    return f"node-{uuid4().int % 10**9}"


def close_older(
    postgres: Server, identity: str, epoch: int, holder: str = "vm-1", *, existed: bool = False
) -> DatabaseAccess:
    return asyncio.run(fence(postgres).close_older(identity, epoch, holder, existed=existed))


def fence(postgres: Server) -> PostgresFence:
    return PostgresFence("127.0.0.1", postgres.port, administrator, None)


def sign_in(postgres: Server, access: DatabaseAccess) -> "psycopg.Connection[tuple[Any, ...]]":
    connection = postgres.connect(access.database, access.user, access.password)
    connection.autocommit = True
    return connection


def run(postgres: Server, statement: str) -> None:
    with postgres.connect() as connection:
        connection.autocommit = True
        connection.execute(statement)


def test_an_identitys_first_epoch_creates_its_database(postgres: Server, identity: str) -> None:
    with sign_in(postgres, close_older(postgres, identity, 1)) as node:
        made = node.execute(
            "SELECT pg_get_userbyid(datdba), pg_encoding_to_char(encoding), datcollate FROM pg_database"
            " WHERE datname = current_database()"
        ).fetchone()
    assert made == (ADMINISTRATOR, "UTF8", "C"), (
        "its owner, and a collation that is independent of the system's locale"
    )


def test_a_missing_database_is_not_created_again(postgres: Server, identity: str) -> None:
    close_older(postgres, identity, 1)
    run(postgres, f'DROP DATABASE "{identity}"')
    with pytest.raises(DamagedError, match=f"database {identity} is gone; wanted it restored"):
        close_older(postgres, identity, 2)


def test_a_lost_database_is_not_replaced_by_an_empty_one(postgres: Server, identity: str) -> None:
    with pytest.raises(DamagedError, match=f"database {identity} is gone; wanted it restored"):
        close_older(postgres, identity, 37, existed=True)


def test_a_database_of_another_owner_is_not_used(postgres: Server, identity: str) -> None:
    run(postgres, f'CREATE DATABASE "{identity}"')
    with pytest.raises(DamagedError, match=f"database {identity} is owned by postgres; wanted {ADMINISTRATOR}"):
        close_older(postgres, identity, 1)


def test_two_agents_that_create_a_database_at_once_create_one(postgres: Server, identity: str) -> None:
    async def both() -> list[DatabaseAccess | BaseException]:
        return await asyncio.gather(
            *(fence(postgres).close_older(identity, 1, "vm-1", existed=False) for _ in range(4)),
            return_exceptions=True,
        )

    assert [each for each in asyncio.run(both()) if not isinstance(each, DatabaseAccess)] == []


def test_the_next_epoch_owns_the_last_epochs_objects(postgres: Server, identity: str) -> None:
    with sign_in(postgres, close_older(postgres, identity, 1)) as first:
        first.execute("CREATE SCHEMA vault")
        first.execute("CREATE TABLE vault.states (n int)")
        first.execute("INSERT INTO vault.states VALUES (1)")
    with sign_in(postgres, close_older(postgres, identity, 2)) as second:
        assert second.execute("SELECT n FROM vault.states").fetchall() == [(1,)], "no data of the ledger is lost"
        second.execute("INSERT INTO vault.states VALUES (2)")
        second.execute("ALTER TABLE vault.states ADD COLUMN more text")


PLANTED = """
CREATE TABLE public.ran (who text, what text);
GRANT INSERT ON public.ran TO PUBLIC;
CREATE FUNCTION public.shobj_description(oid, text) RETURNS text LANGUAGE plpgsql AS $$
    BEGIN INSERT INTO public.ran VALUES (current_user, 'a function'); RETURN NULL; END $$;
CREATE FUNCTION public.matches(name, name) RETURNS boolean LANGUAGE plpgsql AS $$
    BEGIN INSERT INTO public.ran VALUES (current_user, 'an operator'); RETURN true; END $$;
CREATE OPERATOR public.~ (LEFTARG = name, RIGHTARG = name, FUNCTION = public.matches);
"""


def test_what_a_node_plants_in_its_database_does_not_run_as_the_administrator(
    postgres: Server, identity: str
) -> None:
    first = close_older(postgres, identity, 1)
    with sign_in(postgres, first) as node:
        # PostgreSQL prefers a function or operator of any schema in the path whose arguments fit better than its own.
        node.execute(PLANTED)
    prove(postgres, first, 1)
    with sign_in(postgres, close_older(postgres, identity, 2)) as node:
        ran = node.execute("SELECT who, what FROM public.ran").fetchall()
    assert ran == [], "a compromised node would administer the databases of all of the bank's identities"


def test_a_node_can_not_use_up_the_servers_connections(postgres: Server, identity: str) -> None:
    access, sessions = close_older(postgres, identity, 1), list[Any]()
    try:
        sessions.extend(sign_in(postgres, access) for _ in range(database.ROLE_SESSIONS))
        with pytest.raises(psycopg.OperationalError, match="too many connections for role"):
            sign_in(postgres, access)
        other = close_older(postgres, f"{identity}-other", 1)
        sign_in(postgres, other).close()
        with pytest.raises(UnavailableError, match="too many connections for role"):
            prove(postgres, access, 1)
    finally:
        for session in sessions:
            session.close()


def test_the_next_epoch_may_alter_objects_of_any_role_of_the_node(postgres: Server, identity: str) -> None:
    with sign_in(postgres, close_older(postgres, identity, 1)) as first:
        # As Corda's migrations do: schemas, tables, sequences, indexes, views, functions.
        for statement in (
            "CREATE SCHEMA ledger",
            "CREATE TABLE ledger.states (n serial PRIMARY KEY, at timestamp)",
            "CREATE INDEX states_at ON ledger.states (at)",
            "CREATE SEQUENCE hibernate_sequence",
            "CREATE VIEW ledger.all_states AS SELECT n FROM ledger.states",
            "CREATE FUNCTION ledger.one() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "CREATE TYPE ledger.kind AS ENUM ('a')",
        ):
            first.execute(statement)
        first.execute("SET ROLE NONE")
        for statement in ("CREATE TABLE public.own (n int)", "CREATE SCHEMA own", "SELECT * FROM ledger.states"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                first.execute(statement)
        first.execute("RESET ROLE")
        first.execute("CREATE TABLE public.after_reset (n int)")
    with sign_in(postgres, close_older(postgres, identity, 2)) as second:
        for statement in (
            "ALTER TABLE ledger.states ADD COLUMN more text",
            "DROP INDEX ledger.states_at",
            "ALTER SEQUENCE hibernate_sequence INCREMENT BY 50",
            "CREATE OR REPLACE VIEW ledger.all_states AS SELECT n, more FROM ledger.states",
            "CREATE OR REPLACE FUNCTION ledger.one() RETURNS int LANGUAGE sql AS 'SELECT 2'",
            "ALTER TYPE ledger.kind ADD VALUE 'b'",
            "DROP TABLE public.after_reset",
            "ALTER SCHEMA ledger RENAME TO renamed",
        ):
            second.execute(statement)
        owners = second.execute(
            "SELECT DISTINCT pg_get_userbyid(relowner) FROM pg_class"
            " JOIN pg_namespace ON pg_namespace.oid = relnamespace WHERE nspname IN ('renamed', 'public')"
        ).fetchall()
    assert owners == [(f"{identity}_owner".replace("-", "_"),)], "no object belongs to an epoch's role"


def test_a_holder_whose_record_was_lost_fences_out_the_earlier_one(postgres: Server, identity: str) -> None:
    first = close_older(postgres, identity, 1, "vm-1")
    old = sign_in(postgres, first)
    old.execute("CREATE TABLE states (n int)")
    # The blob is lost: another VM finds epoch 0 and takes epoch 1 as well.
    with pytest.raises(NewerEpochError, match="epoch 1 has a role of another holder; wanted none from 1 on") as newer:
        close_older(postgres, identity, 1, "vm-2")
    assert newer.value.epoch == 1, "the record has to be raised above this epoch"
    old.execute("INSERT INTO states VALUES (1)")
    second = close_older(postgres, identity, 2, "vm-2")
    with pytest.raises(psycopg.OperationalError):
        old.execute("INSERT INTO states VALUES (2)")
    with pytest.raises(psycopg.OperationalError):
        sign_in(postgres, first)
    with pytest.raises(NewerEpochError):
        close_older(postgres, identity, 1, "vm-1")
    with sign_in(postgres, second) as connection:
        assert connection.execute("SELECT n FROM states").fetchall() == [(1,)], (
            "the first holder commits nothing beside the second"
        )


def test_a_new_start_ends_the_sessions_of_its_own_role_and_of_unknown_roles(postgres: Server, identity: str) -> None:
    left = sign_in(postgres, close_older(postgres, identity, 1))
    run(postgres, f"CREATE ROLE \"{identity}-reader\" LOGIN PASSWORD 'reader'")
    run(postgres, f'GRANT CONNECT ON DATABASE "{identity}" TO "{identity}-reader"')
    outsider = postgres.connect(identity, f"{identity}-reader", "reader")
    elsewhere = sign_in(postgres, close_older(postgres, f"{identity}-other", 1))
    sign_in(postgres, close_older(postgres, identity, 1)).close()
    for session in (left, outsider):
        with pytest.raises(psycopg.OperationalError):
            session.execute("SELECT 1")
    with elsewhere:
        assert elsewhere.execute("SELECT 1").fetchone() == (1,), "another identity's database is not affected"


HELD = {
    "the fence's lock": b"SELECT pg_advisory_lock(hashtext(current_database()::text))",
    "its own role": b"SET ROLE NONE; ALTER ROLE SESSION_USER PASSWORD 'x'",
}


@pytest.mark.parametrize("elsewhere", [False, True], ids=["there", "in another database"])
@pytest.mark.parametrize("statement", HELD.values(), ids=HELD)
@pytest.mark.parametrize("epoch", [1, 2], ids=["the same VM", "the next VM"])
def test_a_dead_nodes_session_keeps_no_holder_out(
    postgres: Server, identity: str, epoch: int, statement: bytes, elsewhere: bool
) -> None:
    first = close_older(postgres, identity, 1)
    node = postgres.connect("postgres" if elsewhere else identity, first.user, first.password)
    # A server notices only at the statement's end that its client is gone.
    node.pgconn.send_query(statement + b"; SELECT pg_sleep(3600)")
    with postgres.connect() as watching:
        watching.autocommit = True
        asleep = "SELECT 1 FROM pg_stat_activity WHERE usename = %s AND wait_event = 'PgSleep'"
        while watching.execute(asleep, [first.user]).fetchone() is None:
            time.sleep(0.05)
        node.pgconn.finish()
        began = time.monotonic()
        sign_in(postgres, close_older(postgres, identity, epoch)).close()
        assert time.monotonic() - began < 5, "no takeover waits for what a compromised node left at the server"
        assert watching.execute(asleep, [first.user]).fetchone() is None, (
            "50 sessions of each epoch would use up the server's connections"
        )


@pytest.mark.parametrize(
    "statements",
    [
        ["SELECT CASE WHEN pg_try_advisory_lock(hashtext({identity})) THEN pg_sleep(15) END"],
        ["SET ROLE NONE", "ALTER ROLE CURRENT_USER PASSWORD {password}", "SELECT pg_sleep(15)"],
        ["SET ROLE NONE", "ALTER ROLE CURRENT_USER PASSWORD {password}", "COMMIT"],
        # A mere warning: no privileges were granted. But it locks the database's row.
        ["GRANT CONNECT ON DATABASE {database} TO PUBLIC", "SELECT pg_sleep(15)"],
    ],
    ids=["fences-lock", "own-role", "own-role-again-and-again", "own-database"],
)
def test_a_running_node_that_locks_what_the_fence_changes_keeps_no_holder_out(
    postgres: Server, identity: str, statements: Sequence[str]
) -> None:
    """A compromised node signs in again as soon as a session ends."""
    ended = threading.Event()
    access = close_older(postgres, identity, 1)

    def attack(mine: DatabaseAccess) -> None:
        names = {"identity": identity, "database": sql.Identifier(identity), "password": mine.password}
        while not ended.is_set():
            with suppress(psycopg.Error), sign_in(postgres, mine) as connection:
                for each in ("BEGIN", *statements):
                    connection.execute(sql.SQL(each).format(**names))

    for epoch in range(2, 6):
        ended.clear()
        # So many that some are always signing in, whichever are ended.
        with ThreadPoolExecutor(24) as pool:
            try:
                for _ in range(24):
                    pool.submit(attack, access)
                time.sleep(0.5)
                began = time.monotonic()
                access = close_older(postgres, identity, epoch)
                assert time.monotonic() - began < 8, "the next holder gets the database nevertheless"
            finally:
                ended.set()


def test_a_late_agent_ends_no_session_of_a_newer_epoch(postgres: Server, identity: str) -> None:
    close_older(postgres, identity, 1)
    newer = sign_in(postgres, close_older(postgres, identity, 2))

    async def late() -> None:
        async with fence(postgres)._connect(identity) as connection:
            await fence(postgres)._end_sessions(connection, identity, 1, "vm-1")

    asyncio.run(late())
    with newer:
        assert newer.execute("SELECT 1").fetchone() == (1,), (
            "an agent that was frozen within its fence must not affect others"
        )


def prove(postgres: Server, access: DatabaseAccess, epoch: int) -> None:
    asyncio.run(fence(postgres).prove(access, epoch))


def test_a_holder_proves_that_no_other_vm_holds_its_identity(postgres: Server, identity: str) -> None:
    first = close_older(postgres, identity, 9)
    prove(postgres, first, 9)
    # Epochs are compared as numbers, not as text.
    second = close_older(postgres, identity, 10, "vm-2")
    with pytest.raises(SupersededError, match="is not permitted to log in"):
        prove(postgres, first, 9)
    prove(postgres, second, 10)
    again = close_older(postgres, identity, 10, "vm-2")
    with pytest.raises(SupersededError, match="password authentication failed"):
        prove(postgres, second, 10)
    prove(postgres, again, 10)


def test_a_newer_role_is_a_refusal_although_the_own_role_can_sign_in(postgres: Server, identity: str) -> None:
    access = close_older(postgres, identity, 1)
    run(postgres, f'CREATE ROLE "{access.user[:-1]}2"')
    with pytest.raises(SupersededError, match="the newest role is of epoch 2; wanted 1"):
        prove(postgres, access, 1)


def test_a_role_of_no_epoch_proves_nothing(postgres: Server, identity: str, monkeypatch: pytest.MonkeyPatch) -> None:
    access = close_older(postgres, identity, 1)
    monkeypatch.setattr(database, "_epochs", lambda _: "^no_role_at_all$")
    with pytest.raises(SupersededError, match="the newest role is of epoch None"):
        prove(postgres, access, 1)


def test_an_unavailable_server_proves_nothing(identity: str) -> None:
    access = DatabaseAccess("127.0.0.1", 1, identity, "role", "password")
    with pytest.raises(UnavailableError):
        asyncio.run(PostgresFence("127.0.0.1", 1, administrator, None).prove(access, 1))


def test_an_older_epochs_transaction_never_commits(postgres: Server, identity: str) -> None:
    access = close_older(postgres, identity, 1)
    old = sign_in(postgres, access)
    old.execute("CREATE TABLE states (n int)")
    old.autocommit = False
    old.execute("INSERT INTO states VALUES (1)")
    newer = close_older(postgres, identity, 2)
    with pytest.raises(psycopg.OperationalError):
        old.commit()
    with sign_in(postgres, newer) as connection:
        assert connection.execute("SELECT count(*) FROM states").fetchone() == (0,), "an uncommitted row is lost"
    with pytest.raises(psycopg.OperationalError, match="not permitted to log in"):
        sign_in(postgres, access)


def test_an_older_epoch_is_refused_as_superseded(postgres: Server, identity: str) -> None:
    newer = close_older(postgres, identity, 8)
    with pytest.raises(SupersededError, match="epoch 8 has a role of another holder; wanted none from 7 on"):
        close_older(postgres, identity, 7)
    sign_in(postgres, newer).close()


def test_closed_roles_are_not_closed_again(postgres: Server, identity: str) -> None:
    for epoch in range(1, 5):
        access = close_older(postgres, identity, epoch)
    altered = [
        f"{access.user[:-1]}{epoch}"
        for epoch in range(1, 4)
        for _ in range(postgres.log.count(f'ALTER ROLE "{access.user[:-1]}{epoch}" NOLOGIN'))
    ]
    assert altered == [f"{access.user[:-1]}{epoch}" for epoch in range(1, 4)], "the next epoch closes each role once"


def test_a_repeated_fence_gives_a_new_password(postgres: Server, identity: str) -> None:
    first, second = close_older(postgres, identity, 3), close_older(postgres, identity, 3)
    sign_in(postgres, second).close()
    with pytest.raises(psycopg.OperationalError, match="authentication failed"):
        sign_in(postgres, first)


def test_of_two_concurrent_fences_the_newer_epoch_stays(postgres: Server, identity: str) -> None:
    async def both(first: int, second: int) -> Sequence[DatabaseAccess | BaseException]:
        return await asyncio.gather(
            fence(postgres).close_older(identity, first, "vm-1", existed=False),
            fence(postgres).close_older(identity, second, "vm-1", existed=False),
            return_exceptions=True,
        )

    for low in (10, 20, 30):
        answers = asyncio.run(both(low, low + 1) if low != 20 else both(low + 1, low))
        newer = next(each for each in answers if isinstance(each, DatabaseAccess) and each.user.endswith("1"))
        sign_in(postgres, newer).close()
        for older in answers:
            if isinstance(older, DatabaseAccess) and older != newer:
                with pytest.raises(psycopg.OperationalError):
                    sign_in(postgres, older)


def test_no_commit_of_an_older_epoch_after_the_fence(postgres: Server, identity: str) -> None:
    access = close_older(postgres, identity, 1)
    with sign_in(postgres, access) as connection:
        connection.execute("CREATE TABLE ticks (n serial)")
    committed: list[float] = []
    ended = threading.Event()

    def write() -> None:
        while not ended.is_set():
            try:
                with sign_in(postgres, access) as connection:
                    while not ended.is_set():
                        connection.execute("INSERT INTO ticks DEFAULT VALUES")
                        committed.append(time.monotonic())
            except psycopg.Error:
                time.sleep(0.001)

    writers = [threading.Thread(target=write) for _ in range(3)]
    for writer in writers:
        writer.start()
    time.sleep(0.5)
    newer = close_older(postgres, identity, 2)
    fenced = time.monotonic()
    with sign_in(postgres, newer) as connection:
        before = connection.execute("SELECT count(*) FROM ticks").fetchone()
        time.sleep(0.7)
        after = connection.execute("SELECT count(*) FROM ticks").fetchone()
    ended.set()
    for writer in writers:
        writer.join()
    assert len(committed) > 50, "without writes the test would prove nothing"
    assert before == after, "after the fence an older epoch commits nothing"
    assert max(committed) < fenced, "its last acknowledged commit was before the fence"


def test_the_servers_log_has_no_password(postgres: Server, identity: str) -> None:
    access = close_older(postgres, identity, 1)
    assert access.user in postgres.log, "the server logs every statement here"
    assert access.password not in postgres.log, "many people can read a log"
    assert access.password not in repr(access), "nor does the agent's log"


def test_an_epochs_role_is_kept_out_of_other_databases(postgres: Server, identity: str) -> None:
    access = close_older(postgres, identity, 1)
    close_older(postgres, f"{identity}-other", 1)
    with pytest.raises(psycopg.OperationalError, match="permission denied"):
        postgres.connect(f"{identity}-other", access.user, access.password)


def test_after_an_upgrade_from_15_the_runbooks_grants_may_be_needed(postgres: Server, identity: str) -> None:
    """From 16 on, only the creator of a role may change it; roles made before have no creator."""
    first = close_older(postgres, identity, 1)
    owner, role = (f'"{each}"' for each in (f"{identity}_owner".replace("-", "_"), first.user))
    for made in (owner, role):
        run(postgres, f"REVOKE {made} FROM {ADMINISTRATOR} CASCADE")
    run(postgres, f"GRANT {owner} TO {role}")
    with pytest.raises(UnavailableError, match="permission denied to alter role"):
        close_older(postgres, identity, 2)
    sign_in(postgres, first).close()
    (statement,) = re.findall(
        r"```sql\n(.*?) \\gexec\n```", (ROOT / "docs/runbooks/upgrading-the-database.md").read_text(), re.DOTALL
    )
    with postgres.connect() as connection:
        for (grant,) in connection.execute(statement.replace("NAME", ADMINISTRATOR)).fetchall():
            connection.execute(grant)
    sign_in(postgres, close_older(postgres, identity, 2)).close()
    with pytest.raises(psycopg.OperationalError, match="not permitted to log in"):
        sign_in(postgres, first)


def test_an_unavailable_server_is_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "_SIGN_IN_SECONDS", 1)
    away = PostgresFence("127.0.0.1", 1, administrator, None)
    with pytest.raises(UnavailableError, match=r"^database postgres on 127\.0\.0\.1: "):
        asyncio.run(away.close_older("node-1", 1, "vm-1", existed=False))
