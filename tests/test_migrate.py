"""Versions of the ledger's database: what is behind is brought up once, and what is not a ledger is left alone."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import psycopg
import pytest

from sidegate.cli import main
from sidegate.contract import SystemClock
from sidegate.errors import ConfigError
from sidegate.ledger.database import Database
from sidegate.ledger.migrate import migrate, version_of
from sidegate.ledger.opening import open_database
from sidegate.ledger.placeholders import translated
from sidegate.ledger.schema import STEPS, VERSION
from sidegate.ledger.sqlite_file import APPLICATION_ID
from sidegate.ledger.store import open_ledger
from sidegate.testing import demo_config
from tests.plugins.calls import HandClock
from tests.stores import KINDS, Store
from tests.test_reserve import claim, opened


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where nothing is yet."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/ledger.db"
    found: str = request.getfixturevalue("postgres_url")
    return found


@pytest.fixture
def config(url: str, tmp_path: Path) -> str:
    path = tmp_path / "config.json"
    path.write_bytes(msgspec.json.encode(demo_config(ledger={"url": url})))
    return str(path)


@pytest.fixture
def theirs(postgres_url: str) -> Iterator[psycopg.Connection]:
    """A look at the database from beside."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        yield connection


def at_version(url: str, version: int) -> None:
    """What a Sidegate of that version made."""
    if url.startswith("sqlite"):
        import sqlite3

        with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as file:
            for step in STEPS[:version]:
                for statement in step.sqlite:
                    file.execute(statement)
            file.execute(f"PRAGMA user_version = {version}")
            file.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        return
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE sidegate_schema (version INTEGER PRIMARY KEY, applied_at TIMESTAMPTZ)")
        for number, step in enumerate(STEPS[:version], 1):
            for statement in step.postgresql:
                connection.execute(statement.encode())
            connection.execute("INSERT INTO sidegate_schema VALUES (%s, now())", (number,))


def tables(database: Database) -> set[str]:
    found = "SELECT name FROM sqlite_schema WHERE type = 'table'"
    if database.dialect == "postgresql":
        found = "SELECT tablename FROM pg_tables WHERE schemaname = current_schema() AND tablename <> 'sidegate_schema'"
    return {name for (name,) in database.execute(found).fetchall()}


# --- the command ------------------------------------------------------------------------------------------------------


def test_checking_changes_nothing_and_says_what_is_missing(
    url: str, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        assert main(["migrate", config, "--check"]) == 1
        head, *steps = capsys.readouterr().out.splitlines()
        assert head.endswith(f": schema 0, {VERSION} is wanted")
        assert len(steps) == VERSION
    assert main(["migrate", config]) == 0
    assert capsys.readouterr().out.splitlines()[0].endswith(f": schema 0 became {VERSION}")
    assert main(["migrate", config, "--check"]) == 0
    assert capsys.readouterr().out.endswith(f": schema {VERSION}, nothing to do\n")
    assert main(["migrate", config]) == 0
    assert capsys.readouterr().out.endswith("nothing to do\n")


@pytest.mark.parametrize("version", range(1, VERSION))
async def test_what_is_behind_is_brought_up_and_keeps_what_it_holds(url: str, version: int) -> None:
    at_version(url, version)
    assert version_of(url) == version
    assert migrate(url) == version
    with closing(open_database(url)) as database:
        jobs = {"jobs", "job_runs", "job_events", "job_tickets", "job_owners"}
        assert tables(database) == {"calls", "attempts", "owners", "budgets", "holds", "api_keys", "responses"} | jobs
    ledger = open_ledger(url, HandClock(), 0.0)
    await ledger.start()
    assert (await ledger.reserve(opened("c1"), [claim(60)]))[0].granted
    await ledger.stop()


def test_without_a_ledger_there_is_nothing_to_migrate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(msgspec.json.encode(demo_config(ledger={"url": ""})))
    assert main(["migrate", str(path)]) == 2
    assert capsys.readouterr().err == "ledger.url: is empty, so there is nothing to migrate\n"


def test_many_that_migrate_at_once_do_it_once(url: str, config: str) -> None:
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "sidegate", "migrate", config]
    running = [subprocess.Popen(command, env=environ, stdout=subprocess.PIPE) for _ in range(4)]
    said = [each.communicate(timeout=60)[0].decode() for each in running]
    assert [each.returncode for each in running] == [0] * 4
    assert version_of(url) == VERSION
    if url.startswith("postgresql"):
        assert sorted("became" in text for text in said) == [False, False, False, True]


# --- at the start -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [0, 1, VERSION - 1])
async def test_a_gateway_migrates_a_file_by_itself_and_no_server(url: str, version: int) -> None:
    if version:
        at_version(url, version)
    ledger = open_ledger(url, SystemClock(), 0.0)
    if url.startswith("sqlite"):
        await ledger.start()
        await ledger.stop()
        assert version_of(url) == VERSION
        return
    with pytest.raises(ConfigError) as caught:
        await ledger.start()
    assert caught.value.place == "ledger.url"
    assert caught.value.problem.endswith("run sidegate migrate")
    assert version_of(url) == version


async def test_a_newer_schema_is_refused(url: str) -> None:
    migrate(url)
    with closing(open_database(url)) as database:
        sqlite = f"PRAGMA user_version = {VERSION + 1}"
        database.execute(sqlite if url.startswith("sqlite") else "INSERT INTO sidegate_schema VALUES (99, now())")
    for use in (migrate, version_of, open_database):
        with pytest.raises(ConfigError, match="newer Sidegate"):
            use(url)


@pytest.mark.parametrize(
    "what", ["TABLE calls (id text)", "VIEW v AS SELECT 1", "TABLE t (a int) PARTITION BY LIST (a)"]
)
def test_another_programs_database_is_left_alone(postgres_url: str, theirs: psycopg.Connection, what: str) -> None:
    theirs.execute(f"CREATE {what}".encode())
    for use in (migrate, version_of, open_database):
        with pytest.raises(ConfigError, match="another program's tables"):
            use(postgres_url)
    assert theirs.execute("SELECT to_regclass('sidegate_schema')").fetchone() == (None,)


def test_what_an_extension_brought_is_nobodys(postgres_url: str, theirs: psycopg.Connection) -> None:
    theirs.execute("CREATE EXTENSION pg_stat_statements")
    assert migrate(postgres_url) == 0
    assert version_of(postgres_url) == VERSION


# --- a schema of its own ----------------------------------------------------------------------------------------------


async def test_a_schema_of_its_own_beside_another_programs_tables(
    postgres_url: str, theirs: psycopg.Connection
) -> None:
    theirs.execute("CREATE TABLE calls (theirs int)")
    theirs.execute('CREATE SCHEMA "Side gate"')
    url = f"{postgres_url}?options=-csearch_path%3D%22Side%5C%20gate%22"
    store = Store("postgresql", url)
    assert version_of(url) == 0
    migrate(url)
    async with store.ledger(HandClock()) as ledger:
        await ledger.reserve(opened("c1"), [claim(60)])
    assert store.rows("SELECT id, state FROM calls") == [("c1", "reserved")]
    assert theirs.execute("SELECT count(*) FROM calls").fetchone() == (0,)
    assert theirs.execute('SELECT count(*) FROM "Side gate".calls').fetchone() == (1,)


def test_a_schema_that_is_not_there_is_said(postgres_url: str) -> None:
    with pytest.raises(ConfigError, match="CREATE SCHEMA"):
        migrate(f"{postgres_url}?options=-csearch_path%3Dnone")


# --- URLs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ann:sec/ret@127.0.0.1:1/d",
        "postgresql://ann:sec@ret@127.0.0.1:1/d",
        "postgresql://ann:sec#ret@127.0.0.1:1/d",
        "postgresql://ann:sec?ret@127.0.0.1:1/d",
        "postgresql://ann:sec:ret@127.0.0.1:1/d",
        "postgresql://ann:secret@127.0.0.1:1/d",
        "postgresql://ann:secret@127.0.0.1:sec/ret",
        "postgresql://127.0.0.1:1/d?user=ann&password=secret",
        "postgresql://127.0.0.1:1/d?passwort=secret",
        "postgresql://ann:secret@/d?host=/nowhere/sec",
        "postgres://ann:%73ecret@127.0.0.1:1/d",
        "postgresql://ann:sec%ret@127.0.0.1:1/d",
    ],
)
def test_no_part_of_a_password_is_ever_said(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_database(url)
    said = caught.value.problem.replace("/nowhere/sec", "").replace("secrets", "")
    assert not {"sec", "ret"} & {said[at : at + 3] for at in range(len(said))}, said
    assert "\n" not in said


@pytest.mark.parametrize(
    "url", ["postgresql://ann:hush@h/d", "postgresql://h/d?user=ann&password=hush&sslmode=require"]
)
def test_what_a_config_comes_to_is_shown_without_the_password(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(msgspec.json.encode(demo_config(ledger={"url": url})))
    assert main(["explain", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "postgresql://" in shown
    assert "hush" not in shown


def test_the_driver_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ConfigError, match=r"pip install 'sidegate\[postgres\]'"):
        open_ledger("postgresql://127.0.0.1/d", SystemClock(), 0.2)


@pytest.mark.parametrize(
    ("sql", "psycopg_s"),
    [
        ("a = ? AND b = '?' AND c LIKE '50%'", "a = %s AND b = '?' AND c LIKE '50%%'"),
        ("a = :name AND b::text = ':no' AND c = :name", "a = %(name)s AND b::text = ':no' AND c = %(name)s"),
        ("a % 2 = ? -- why? 5% :x\n", "a %% 2 = %s -- why? 5%% :x\n"),
        ("\"a?\" = 'it''s ?' AND \"b:c\" = ?", "\"a?\" = 'it''s ?' AND \"b:c\" = %s"),
    ],
)
def test_placeholders_are_translated_where_they_are_some(sql: str, psycopg_s: str) -> None:
    assert translated(sql) == psycopg_s
