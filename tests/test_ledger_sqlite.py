"""The ledger in a file: what it refuses to open, and a disk that takes nothing."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, closing, contextmanager
from pathlib import Path

import pytest

from sidegate.errors import ConfigError, SidegateError
from sidegate.ledger import writer as writer_module
from sidegate.ledger.sqlite_database import SqliteDatabase
from sidegate.ledger.store import open_ledger
from sidegate.ledger.stored import StoredLedger
from tests.relaying import until
from tests.stores import Store
from tests.test_ledger import NEVER, Still, a_call
from tests.test_reserve import claim, opened


def open_at(
    path: Path, batch_seconds: float = 0.0, max_waiting: int | None = None
) -> AbstractAsyncContextManager[StoredLedger]:
    return Store("sqlite", f"sqlite:///{path}").ledger(Still(), batch_seconds, max_waiting=max_waiting)


@contextmanager
def another(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


def the_writers(ledger: StoredLedger) -> sqlite3.Connection:
    """The connection that writes."""
    database = ledger._journal.database
    assert isinstance(database, SqliteDatabase)
    return database.connected()


def damage(path: Path) -> None:
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 2 // 4096 * 4096)
        file.write(os.urandom(4096 * 3))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "ledger.db"


# --- files that cannot be used ----------------------------------------------------------------------------------------


async def refused(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        async with open_at(path):
            raise AssertionError("opened")
    assert caught.value.place == "ledger.url"
    assert "\n" not in caught.value.problem
    return caught.value.problem


async def test_the_file_and_its_folder_are_the_owners_alone(path: Path) -> None:
    before = os.umask(0)
    try:
        async with open_at(path) as ledger:
            ledger.settle(*a_call("c1"))
            await ledger.flush()
            modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    finally:
        os.umask(before)
    assert set(modes.values()) == {0o600}, modes
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_what_is_written_after_the_file_was_opened_again_is_seen_by_others(path: Path) -> None:
    """A second connection here must not take the first one's locks: another process that looks in would, when it goes,
    remove the log that is written to."""
    look = (
        "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute('SELECT count(*) FROM owners').fetchone()[0])"
    )

    def seen() -> str:
        done = subprocess.run([sys.executable, "-c", look, str(path)], capture_output=True, text=True, timeout=60)
        return done.stdout.strip()

    with closing(SqliteDatabase(path)) as first, closing(SqliteDatabase(path)) as second:
        first.open()
        second.open()
        assert seen() == "0"
        first.execute("INSERT INTO owners (id, host, pid, beats, seen_at) VALUES ('a', 'b', 1, 1, 'c')")
        assert seen() == "1"


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    path.write_bytes(b"this is not a database, and longer than a hundred bytes " * 40)
    assert "damaged, or is no SQLite database" in await refused(path)
    assert path.read_bytes().startswith(b"this is not")


async def test_a_damaged_page_is_refused(path: Path) -> None:
    async with open_at(path) as ledger:
        for number in range(500):
            ledger.settle(*a_call(str(number)))
    damage(path)
    assert "damaged" in await refused(path)


async def test_a_newer_schema_is_refused(path: Path) -> None:
    async with open_at(path):
        pass
    with another(path) as file:
        file.execute("PRAGMA user_version = 99")
    assert "newer Sidegate" in await refused(path)


async def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with another(path) as file:
        file.execute("CREATE TABLE theirs (a)")
    assert "another program" in await refused(path)
    with another(path) as file:
        assert file.execute("SELECT name FROM sqlite_schema").fetchall() == [("theirs",)]


async def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot be opened" in await refused(tmp_path / "file" / "ledger.db")


async def test_a_directory_is_no_ledger(tmp_path: Path) -> None:
    assert "cannot be opened" in await refused(tmp_path)


async def test_a_refused_start_leaves_no_thread_behind(tmp_path: Path) -> None:
    ledger = open_ledger(f"sqlite:///{tmp_path}", Still(), 0.0)
    with pytest.raises(ConfigError):
        await ledger.start()
    await ledger.stop()


# --- a disk that takes nothing ----------------------------------------------------------------------------------------


async def test_a_locked_file_keeps_the_rows_until_the_lock_is_gone(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("sidegate.ledger.sqlite_file.BUSY_SECONDS", 0.01)
    monkeypatch.setattr(writer_module, "RETRY_SECONDS", 0.01)
    async with open_at(path, max_waiting=3) as ledger:
        with another(path) as file:
            file.execute("BEGIN EXCLUSIVE")
            ledger.settle(*a_call("1"))
            ledger.settle(*a_call("2"))
            assert ledger.room
            ledger.settle(*a_call("3"))
            assert not ledger.room
            ledger.settle(*a_call("4"))
            await until(lambda: "locked" in caplog.text)
            assert ledger.waiting == 4
            assert await ledger.call("nobody") is None
            file.execute("ROLLBACK")
        await ledger.flush()
        assert ledger.room
    with another(path) as file:
        assert file.execute("SELECT id FROM calls ORDER BY id").fetchall() == [("1",), ("2",), ("3",), ("4",)]
    assert caplog.text.count("cannot write") == 1


async def test_a_full_disk_refuses_new_calls_and_loses_none(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(writer_module, "RETRY_SECONDS", 0.01)
    async with open_at(path, batch_seconds=NEVER) as ledger:
        connection = the_writers(ledger)
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")
        for number in range(writer_module.BATCH):
            ledger.settle(*a_call(str(number)))
        await until(lambda: not ledger.room)
        assert ledger.problem == "database or disk is full"
        assert ledger.waiting == writer_module.BATCH
        assert await ledger.call("5") is not None
        connection.execute("PRAGMA max_page_count = 1000000")
        await ledger.flush()
        assert ledger.room
        assert ledger.problem is None
    with another(path) as file:
        assert file.execute("SELECT count(*) FROM calls").fetchone() == (writer_module.BATCH,)
    assert caplog.text.count("cannot write") == 1
    assert "writing again" in caplog.text


async def test_stopping_with_a_full_disk_names_what_is_lost_and_ends(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(writer_module, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(writer_module, "STOP_SECONDS", 0.05)
    async with open_at(path, batch_seconds=NEVER) as ledger:
        connection = the_writers(ledger)
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")
        for number in range(writer_module.BATCH):
            ledger.settle(*a_call(str(number)))
        flushing = asyncio.ensure_future(ledger.flush())
        await until(lambda: not ledger.room)
    with pytest.raises(SidegateError, match="cannot be written"):
        await flushing
    assert f"{writer_module.BATCH} calls were not recorded" in caplog.text


async def test_giving_up_a_flush_harms_nobody(path: Path) -> None:
    async with open_at(path) as ledger:
        with another(path) as file:
            file.execute("BEGIN EXCLUSIVE")
            ledger.settle(*a_call("1"))
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.02):
                    await ledger.flush()
            file.execute("ROLLBACK")
        await ledger.flush()
        assert await ledger.call("1") is not None


async def test_a_file_damaged_while_in_use_is_an_error_of_the_ledger(path: Path) -> None:
    async with open_at(path) as ledger:
        assert await ledger.call("1") is None
        assert isinstance(ledger._reader, SqliteDatabase)
        ledger._reader.connected().close()
        with pytest.raises(SidegateError) as caught:
            await ledger.call("1")
        assert (caught.value.status, caught.value.code) == (503, "ledger_unavailable")


async def test_a_full_disk_refuses_reservations_at_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "RETRY_SECONDS", 0.01)
    async with open_at(path) as ledger:
        connection = the_writers(ledger)
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")
        for number in range(200):
            ledger.opened(opened(str(number)))
        await until(lambda: ledger.problem is not None)
        with pytest.raises(SidegateError, match="cannot record"):
            await ledger.reserve(opened("c1"), [claim(60)])
        connection.execute("PRAGMA max_page_count = 1000000")
        await ledger.flush()
        assert (await ledger.reserve(opened("c2"), [claim(60)]))[0].granted
