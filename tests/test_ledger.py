from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

from sidegate.contract import SystemClock
from sidegate.errors import ConfigError, SidegateError
from sidegate.ledger import writer as writer_module
from sidegate.ledger.rows import AttemptRow, CallRow, Settled
from sidegate.ledger.sqlite import SqliteLedger
from sidegate.ledger.store import NullLedger, open_ledger

START = datetime(2026, 11, 22, 12, 30, 0, 125, tzinfo=UTC)
NEVER = 3600.0


class Still:
    """A clock that stands still."""

    def monotonic(self) -> float:
        return 0.0

    def now(self) -> datetime:
        return START + timedelta(seconds=5)


def a_row(id: str = "c1", **given: object) -> CallRow:
    row = CallRow(
        id=id,
        route="main",
        operation="chat",
        dialect="openai.chat",
        delivery="stream",
        caller="ann",
        key_id="k",
        team="red",
        tags=("a", 'b"c'),
        model_asked="gpt",
        status=200,
        ending="complete",
        input_tokens=7,
        output_tokens=2**40,
        estimated=True,
        cost_nano_usd=12_345,
        started_at=START,
        first_token=0.25,
        duration=1.5,
    )
    return replace(row, **given)


def an_attempt(call_id: str = "c1", number: int = 1) -> AttemptRow:
    return AttemptRow(
        call_id=call_id,
        number=number,
        provider="p",
        target="t",
        status=200,
        ending="complete",
        committed=True,
        input_tokens=7,
        rates='{"input":1}',
        started_at=START,
        duration=1.0,
    )


def a_call(id: str) -> Settled:
    return a_row(id), (an_attempt(id), an_attempt(id, 2))


@asynccontextmanager
async def open_at(path: Path, batch_seconds: float = 0.0, max_waiting: int = 10_000) -> AsyncIterator[SqliteLedger]:
    ledger = SqliteLedger(path, Still(), batch_seconds, max_waiting)
    await ledger.start()
    try:
        yield ledger
    finally:
        await ledger.stop()


@contextmanager
def another(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


async def until(true: Callable[[], bool]) -> None:
    """What the writer's thread does cannot be awaited."""
    for _ in range(2000):
        if true():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it never came true")


def damage(path: Path) -> None:
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 2 // 4096 * 4096)
        file.write(os.urandom(4096 * 3))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "ledger.db"


# --- what is recorded -------------------------------------------------------------------------------------------------


async def test_a_call_comes_back_as_it_was_recorded(path: Path) -> None:
    async with open_at(path) as ledger:
        ledger.settle(*a_call("c1"))
        await ledger.flush()
        found = await ledger.call("c1")
    assert found == (a_row("c1", settled_at=Still().now()), (an_attempt("c1"), an_attempt("c1", 2)))


async def test_unknown_is_null_and_not_zero(path: Path) -> None:
    async with open_at(path) as ledger:
        ledger.settle(a_row(cost_nano_usd=None, output_tokens=None, state="unknown"), ())
        await ledger.flush()
    with another(path) as file:
        assert file.execute("SELECT cost_nano_usd, output_tokens, state FROM calls").fetchall() == [
            (None, None, "unknown")
        ]


async def test_a_call_is_settled_once(path: Path) -> None:
    async with open_at(path) as ledger:
        ledger.settle(*a_call("c1"))
        ledger.settle(a_row("c1", cost_nano_usd=1), (an_attempt("c1"),))
        await ledger.flush()
        ledger.settle(a_row("c1", cost_nano_usd=2), (an_attempt("c1", 3),))
        await ledger.flush()
        found = await ledger.call("c1")
    assert found is not None
    assert (found[0].cost_nano_usd, len(found[1])) == (12_345, 2)


async def test_a_reservation_becomes_its_settlement(path: Path) -> None:
    async with open_at(path) as ledger:
        ledger.settle(a_row("c1", state="reserved", cost_nano_usd=None), ())
        await ledger.flush()
        ledger.settle(*a_call("c1"))
        await ledger.flush()
        found = await ledger.call("c1")
    assert found is not None
    assert (found[0].state, found[0].cost_nano_usd, len(found[1])) == ("settled", 12_345, 2)


async def test_a_call_can_be_read_before_it_is_durable(path: Path) -> None:
    async with open_at(path, batch_seconds=NEVER) as ledger:
        ledger.settle(*a_call("c1"))
        found = await ledger.call("c1")
        assert ledger.waiting == 1
    assert found is not None
    assert found[0].settled_at == Still().now()


async def test_an_unknown_call_is_none(path: Path) -> None:
    async with open_at(path) as ledger:
        assert await ledger.call("nobody") is None


async def test_times_sort_as_text(path: Path) -> None:
    times = [START, START.replace(microsecond=0), START.replace(microsecond=500_000)]
    async with open_at(path) as ledger:
        for number, time in enumerate(times):
            ledger.settle(a_row(str(number), started_at=time), ())
        await ledger.flush()
    with another(path) as file:
        assert [id for (id,) in file.execute("SELECT id FROM calls ORDER BY started_at")] == ["1", "0", "2"]


async def test_a_row_no_database_takes_does_not_keep_the_others_out(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_at(path, batch_seconds=NEVER) as ledger:
        ledger.settle(*a_call("before"))
        ledger.settle(a_row("poison", input_tokens=2**70), ())
        ledger.settle(a_row("surrogate", caller="\ud800"), ())
        ledger.settle(*a_call("after"))
        await ledger.flush()
        assert ledger.room
        assert await ledger.call("after") is not None
        assert await ledger.call("before") is not None
        assert await ledger.call("poison") is None
    assert "call poison cannot be recorded" in caplog.text
    assert "call surrogate cannot be recorded" in caplog.text


# --- batches, races, restarts -----------------------------------------------------------------------------------------


async def test_settling_does_not_wait_for_the_disk(path: Path) -> None:
    async with open_at(path, batch_seconds=NEVER) as ledger:
        for number in range(99):
            ledger.settle(*a_call(str(number)))
        assert ledger.waiting == 99
        await ledger.flush()
        assert ledger.waiting == 0


async def test_a_full_batch_is_written_without_being_asked(path: Path) -> None:
    async with open_at(path, batch_seconds=NEVER) as ledger:
        for number in range(writer_module.BATCH):
            ledger.settle(*a_call(str(number)))
        await until(lambda: not ledger.waiting)


async def test_readers_and_writers_race_and_every_settled_call_is_seen(path: Path) -> None:
    async with open_at(path, batch_seconds=0.001) as ledger:

        async def one(number: int) -> None:
            ledger.settle(*a_call(str(number)))
            for _ in range(5):
                await asyncio.sleep(0)
                found = await ledger.call(str(number))
                assert found is not None
                assert len(found[1]) == 2

        await asyncio.gather(*(one(number) for number in range(400)))
        await ledger.flush()
        assert ledger.waiting == 0
    with another(path) as file:
        assert file.execute("SELECT count(*) FROM calls").fetchone() == (400,)
        assert file.execute("SELECT count(*) FROM attempts").fetchone() == (800,)


async def test_stopping_writes_what_waits(path: Path) -> None:
    async with open_at(path, batch_seconds=NEVER) as ledger:
        ledger.settle(*a_call("c1"))
    async with open_at(path) as again:
        assert await again.call("c1") is not None


async def test_what_ends_after_the_stop_is_named_in_the_log(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with open_at(path) as ledger:
        pass
    ledger.settle(*a_call("late"))
    assert "call late was not recorded" in caplog.text


async def test_a_killed_process_loses_nothing_that_was_flushed(path: Path) -> None:
    script = f"""
import asyncio, os, signal, sys
sys.path[:0] = {sys.path!r}
from pathlib import Path
from tests.test_ledger import a_call, Still
from sidegate.ledger.sqlite import SqliteLedger
async def main():
    ledger = SqliteLedger(Path({str(path)!r}), Still(), 0.0)
    await ledger.start()
    for number in range(250):
        ledger.settle(*a_call(str(number)))
    await ledger.flush()
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""
    killed = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", script], capture_output=True, timeout=60)
    assert killed.returncode == -9, killed.stderr.decode()
    async with open_at(path) as ledger:
        for number in (0, 249):
            assert await ledger.call(str(number)) is not None


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
    ledger = SqliteLedger(tmp_path, Still(), 0.0)
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
        connection = ledger._started()._connection
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
        connection = ledger._started()._connection
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")
        for number in range(writer_module.BATCH):
            ledger.settle(*a_call(str(number)))
        flushing = asyncio.ensure_future(ledger.flush())
        await until(lambda: not ledger.room)
    with pytest.raises(SidegateError, match="cannot be written"):
        await flushing
    assert "100 calls were not recorded" in caplog.text


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
        assert ledger._reader is not None
        ledger._reader.close()
        with pytest.raises(SidegateError) as caught:
            await ledger.call("1")
        assert (caught.value.status, caught.value.code) == (503, "ledger_unavailable")
        ledger._reader = None


# --- URLs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    ["postgresql://x/y", "sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite:///a?mode=ro", "a.db", "sqlite:/a"],
)
def test_other_urls_are_refused_by_name(url: str) -> None:
    with pytest.raises(ConfigError, match=r"ledger\.url"):
        open_ledger(url, SystemClock(), 0.2)


def test_a_path_after_three_slashes_is_relative_and_after_four_absolute() -> None:
    for url, path in (("sqlite:///var/x.db", "var/x.db"), ("sqlite:////var/x.db", "/var/x.db")):
        ledger = open_ledger(url, SystemClock(), 0.2)
        assert isinstance(ledger, SqliteLedger)
        assert ledger._path == Path(path)


async def test_no_url_keeps_the_last_thousand_calls() -> None:
    ledger = open_ledger("", Still(), 0.2)
    await ledger.start()
    for number in range(NullLedger.KEPT + 1):
        ledger.settle(*a_call(str(number)))
    assert await ledger.call("0") is None
    assert await ledger.call("1000") == (a_row("1000", settled_at=Still().now()), a_call("1000")[1])
    assert ledger.room
    await ledger.flush()
    await ledger.stop()


def test_no_ledger_loads_no_database() -> None:
    code = "import sys, sidegate.ledger.store; assert 'sqlite3' not in sys.modules"
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": os.pathsep.join(sys.path)}, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()


def test_the_log_goes_by_its_own_name() -> None:
    assert writer_module.log is logging.getLogger("sidegate.ledger")
