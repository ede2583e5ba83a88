"""The database's fence, on a real PostgreSQL server."""

import asyncio
import threading
import time
from collections.abc import Iterator

import psycopg
import pytest

from agent import database
from agent.database import PostgresFence
from agent.fence import DamagedError, SupersededError, UnavailableError
from ledger.software import DatabaseAccess
from local.postgres import ADMINISTRATOR, PASSWORD, Server, programs, server

pytestmark = pytest.mark.skipif(programs() is None, reason="no PostgreSQL here; wanted its initdb and postgres")


@pytest.fixture(scope="module")
def postgres() -> Iterator[Server]:
    with server(statements=True) as running:
        yield running


@pytest.fixture
def identity(request: pytest.FixtureRequest) -> str:
    return f"node-{abs(hash(request.node.name)) % 10**6}"


async def administrator() -> tuple[str, str]:
    return ADMINISTRATOR, PASSWORD


def close_older(postgres: Server, identity: str, epoch: int, *, known: bool = False) -> DatabaseAccess:
    return asyncio.run(
        PostgresFence("127.0.0.1", postgres.port, administrator, None).close_older(identity, epoch, known=known)
    )


def sign_in(postgres: Server, access: DatabaseAccess) -> "psycopg.Connection[tuple[int]]":
    connection = postgres.connect(access.database, access.user, access.password)
    connection.autocommit = True
    return connection  # type: ignore[no-any-return]


def run(postgres: Server, statement: str) -> None:
    with postgres.connect() as connection:
        connection.autocommit = True
        connection.execute(statement)


def test_an_identitys_first_epoch_makes_its_database(postgres: Server, identity: str) -> None:
    with sign_in(postgres, close_older(postgres, identity, 1)) as node:
        made = node.execute(
            "SELECT pg_get_userbyid(datdba), pg_encoding_to_char(encoding), datcollate FROM pg_database"
            " WHERE datname = current_database()"
        ).fetchone()
    assert made == (ADMINISTRATOR, "UTF8", "C"), "whose it is, and an order that no system's locale changes"


def test_a_database_that_is_gone_is_not_made_anew(postgres: Server, identity: str) -> None:
    close_older(postgres, identity, 1)
    run(postgres, f'DROP DATABASE "{identity}"')
    with pytest.raises(DamagedError, match=f"database {identity} is gone; wanted it restored"):
        close_older(postgres, identity, 2)


def test_no_server_without_the_database_that_there_was_gets_an_empty_one(postgres: Server, identity: str) -> None:
    with pytest.raises(DamagedError, match=f"database {identity} is gone; wanted it restored"):
        close_older(postgres, identity, 37, known=True)


def test_a_database_of_anothers_is_not_used(postgres: Server, identity: str) -> None:
    run(postgres, f'CREATE DATABASE "{identity}"')
    with pytest.raises(DamagedError, match=f"database {identity} is owned by postgres; wanted {ADMINISTRATOR}"):
        close_older(postgres, identity, 1)


def test_of_two_that_make_a_database_at_once_one_does(postgres: Server, identity: str) -> None:
    fence = PostgresFence("127.0.0.1", postgres.port, administrator, None)

    async def both() -> list[DatabaseAccess | BaseException]:
        return await asyncio.gather(
            *(fence.close_older(identity, 1, known=False) for _ in range(4)), return_exceptions=True
        )

    assert [each for each in asyncio.run(both()) if not isinstance(each, DatabaseAccess)] == []


def test_the_next_epoch_owns_what_the_last_one_made(postgres: Server, identity: str) -> None:
    with sign_in(postgres, close_older(postgres, identity, 1)) as first:
        first.execute("CREATE SCHEMA vault")
        first.execute("CREATE TABLE vault.states (n int)")
        first.execute("INSERT INTO vault.states VALUES (1)")
    with sign_in(postgres, close_older(postgres, identity, 2)) as second:
        assert second.execute("SELECT n FROM vault.states").fetchall() == [(1,)], "nothing of the ledger is lost"
        second.execute("INSERT INTO vault.states VALUES (2)")
        second.execute("ALTER TABLE vault.states ADD COLUMN more text")


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
        assert connection.execute("SELECT count(*) FROM states").fetchone() == (0,), "what was not committed is gone"
    with pytest.raises(psycopg.OperationalError, match="not permitted to log in"):
        sign_in(postgres, access)


def test_an_older_epoch_is_told_that_it_is(postgres: Server, identity: str) -> None:
    newer = close_older(postgres, identity, 8)
    with pytest.raises(SupersededError, match="epoch 8 has a role; wanted none above 7"):
        close_older(postgres, identity, 7)
    sign_in(postgres, newer).close()


def test_an_epoch_that_is_shut_out_is_not_shut_out_again(postgres: Server, identity: str) -> None:
    for epoch in range(1, 5):
        access = close_older(postgres, identity, epoch)
    altered = [
        f"{access.user[:-1]}{epoch}"
        for epoch in range(1, 4)
        for _ in range(postgres.log.count(f'ALTER ROLE "{access.user[:-1]}{epoch}" NOLOGIN'))
    ]
    assert altered == [f"{access.user[:-1]}{epoch}" for epoch in range(1, 4)], "each once, by the next one"


def test_asking_again_gives_a_new_password(postgres: Server, identity: str) -> None:
    first, second = close_older(postgres, identity, 3), close_older(postgres, identity, 3)
    sign_in(postgres, second).close()
    with pytest.raises(psycopg.OperationalError, match="authentication failed"):
        sign_in(postgres, first)


def test_of_two_that_ask_at_once_the_newer_one_stays(postgres: Server, identity: str) -> None:
    fence = PostgresFence("127.0.0.1", postgres.port, administrator, None)

    async def both(first: int, second: int) -> list[DatabaseAccess | BaseException]:
        return await asyncio.gather(
            fence.close_older(identity, first, known=False),
            fence.close_older(identity, second, known=False),
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
    assert len(committed) > 50, "writers that never wrote prove nothing"
    assert before == after, "after the fence an older epoch commits nothing, however hard it tries"
    assert max(committed) < fenced, "and the last commit that it was told of lies before"


def test_no_password_stands_in_the_servers_log(postgres: Server, identity: str) -> None:
    access = close_older(postgres, identity, 1)
    assert access.user in postgres.log, "the server logs every statement here"
    assert access.password not in postgres.log, "what a log shows, many read"
    assert access.password not in repr(access), "nor does our own log"


def test_an_epochs_role_is_kept_out_of_other_databases(postgres: Server, identity: str) -> None:
    access = close_older(postgres, identity, 1)
    close_older(postgres, f"{identity}-other", 1)
    with pytest.raises(psycopg.OperationalError, match="permission denied"):
        postgres.connect(f"{identity}-other", access.user, access.password)


def test_a_server_that_is_away_is_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "_CONNECT_SECONDS", 1)
    fence = PostgresFence("127.0.0.1", 1, administrator, None)
    with pytest.raises(UnavailableError, match=r"^database postgres on 127\.0\.0\.1: "):
        asyncio.run(fence.close_older("node-1", 1, known=False))
