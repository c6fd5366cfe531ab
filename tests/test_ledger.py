from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from sidegate.contract import SystemClock
from sidegate.errors import ConfigError
from sidegate.ledger import writer as writer_module
from sidegate.ledger.rows import AttemptRow, CallRow, Settled
from sidegate.ledger.store import NullLedger, open_ledger
from sidegate.ledger.stored import StoredLedger
from tests.relaying import until
from tests.stores import Store

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


def open_at(
    store: Store, batch_seconds: float = 0.0, max_waiting: int | None = None
) -> AbstractAsyncContextManager[StoredLedger]:
    return store.ledger(Still(), batch_seconds, max_waiting=max_waiting)


# --- what is recorded -------------------------------------------------------------------------------------------------


async def test_a_call_comes_back_as_it_was_recorded(store: Store) -> None:
    async with open_at(store) as ledger:
        ledger.settle(*a_call("c1"))
        await ledger.flush()
        found = await ledger.call("c1")
    assert found == (a_row("c1", settled_at=Still().now()), (an_attempt("c1"), an_attempt("c1", 2)))


async def test_unknown_is_null_and_not_zero(store: Store) -> None:
    async with open_at(store) as ledger:
        ledger.settle(a_row(cost_nano_usd=None, output_tokens=None, state="unknown"), ())
        await ledger.flush()
    assert store.rows("SELECT cost_nano_usd, output_tokens, state FROM calls") == [(None, None, "unknown")]


async def test_a_call_is_settled_once(store: Store) -> None:
    async with open_at(store) as ledger:
        ledger.settle(*a_call("c1"))
        ledger.settle(a_row("c1", cost_nano_usd=1), (an_attempt("c1"),))
        await ledger.flush()
        ledger.settle(a_row("c1", cost_nano_usd=2), (an_attempt("c1", 3),))
        await ledger.flush()
        found = await ledger.call("c1")
    assert found is not None
    assert (found[0].cost_nano_usd, len(found[1])) == (12_345, 2)


@pytest.mark.parametrize("count", [1, 2, 8, 21])
async def test_one_that_was_settled_before_leaves_the_others_of_its_batch_alone(store: Store, count: int) -> None:
    async with open_at(store, batch_seconds=60.0) as ledger:
        ledger.settle(*a_call("c0"))
        await ledger.flush()
        for number in range(count):
            ledger.settle(a_row(f"c{number}", cost_nano_usd=number), (an_attempt(f"c{number}", 3),))
        await ledger.flush()
    rows = store.rows("SELECT id, cost_nano_usd FROM calls")
    assert sorted(rows) == sorted([("c0", 12_345), *((f"c{number}", number) for number in range(1, count))])
    tried = store.rows("SELECT call_id, number FROM attempts")
    assert sorted(tried) == sorted([("c0", 1), ("c0", 2), *((f"c{number}", 3) for number in range(1, count))])


async def test_a_reservation_becomes_its_settlement(store: Store) -> None:
    async with open_at(store) as ledger:
        ledger.settle(a_row("c1", state="reserved", cost_nano_usd=None), ())
        await ledger.flush()
        ledger.settle(*a_call("c1"))
        await ledger.flush()
        found = await ledger.call("c1")
    assert found is not None
    assert (found[0].state, found[0].cost_nano_usd, len(found[1])) == ("settled", 12_345, 2)


async def test_a_call_can_be_read_before_it_is_durable(store: Store) -> None:
    async with open_at(store, batch_seconds=NEVER) as ledger:
        ledger.settle(*a_call("c1"))
        found = await ledger.call("c1")
        assert ledger.waiting == 1
    assert found is not None
    assert found[0].settled_at == Still().now()


async def test_an_unknown_call_is_none(store: Store) -> None:
    async with open_at(store) as ledger:
        assert await ledger.call("nobody") is None


async def test_times_sort_as_text(store: Store) -> None:
    times = [START, START.replace(microsecond=0), START.replace(microsecond=500_000)]
    async with open_at(store) as ledger:
        for number, time in enumerate(times):
            ledger.settle(a_row(str(number), started_at=time), ())
        await ledger.flush()
    assert [id for (id,) in store.rows("SELECT id FROM calls ORDER BY started_at")] == ["1", "0", "2"]


async def test_a_row_no_database_takes_does_not_keep_the_others_out(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_at(store, batch_seconds=NEVER) as ledger:
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


async def test_settling_does_not_wait_for_the_disk(store: Store) -> None:
    async with open_at(store, batch_seconds=NEVER) as ledger:
        for number in range(99):
            ledger.settle(*a_call(str(number)))
        assert ledger.waiting == 99
        await ledger.flush()
        assert ledger.waiting == 0


async def test_what_is_enough_is_written_without_being_asked(store: Store) -> None:
    async with open_at(store, batch_seconds=NEVER) as ledger:
        for number in range(writer_module.ENOUGH):
            ledger.settle(*a_call(str(number)))
        await until(lambda: not ledger.waiting)


async def test_more_than_a_transaction_takes_is_written_but_for_what_is_not_enough(store: Store) -> None:
    async with open_at(store, batch_seconds=NEVER) as ledger:
        for number in range(writer_module.BATCH + writer_module.ENOUGH):
            ledger.settle(*a_call(str(number)))
        await until(lambda: ledger.waiting < writer_module.ENOUGH)


async def test_readers_and_writers_race_and_every_settled_call_is_seen(store: Store) -> None:
    async with open_at(store, batch_seconds=0.001) as ledger:

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
    assert store.rows("SELECT count(*) FROM calls") == [(400,)]
    assert store.rows("SELECT count(*) FROM attempts") == [(800,)]


async def test_stopping_writes_what_waits(store: Store) -> None:
    async with open_at(store, batch_seconds=NEVER) as ledger:
        ledger.settle(*a_call("c1"))
    async with open_at(store) as again:
        assert await again.call("c1") is not None


async def test_what_ends_after_the_stop_is_named_in_the_log(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    async with open_at(store) as ledger:
        pass
    ledger.settle(*a_call("late"))
    assert "call late was not recorded" in caplog.text


async def test_a_killed_process_loses_nothing_that_was_flushed(store: Store) -> None:
    script = f"""
import asyncio, os, signal, sys
sys.path[:0] = {sys.path!r}
from tests.test_ledger import a_call, Still
from sidegate.ledger.store import open_ledger
async def main():
    ledger = open_ledger({store.url!r}, Still(), 0.0)
    await ledger.start()
    for number in range(250):
        ledger.settle(*a_call(str(number)))
    await ledger.flush()
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""
    killed = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", script], capture_output=True, timeout=60)
    assert killed.returncode == -9, killed.stderr.decode()
    async with open_at(store) as ledger:
        for number in (0, 249):
            assert await ledger.call(str(number)) is not None


async def test_calls_that_are_refused_while_nothing_can_be_written_do_not_fill_the_memory(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("sidegate.ledger.sqlite_file.BUSY_SECONDS", 0.01)
    monkeypatch.setattr("sidegate.ledger.postgres.PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr(writer_module, "RETRY_SECONDS", 0.01)
    async with open_at(store, max_waiting=3) as ledger:
        with store.locked():
            for number in range(100):
                ledger.settle(a_row(f"refused-{number}", status=503), ())
            assert ledger.waiting == 3
            ledger.settle(*a_call("spent"))
            assert ledger.waiting == 4
            await until(lambda: "cannot write" in caplog.text)
        await ledger.flush()
    assert store.rows("SELECT count(*) FROM calls") == [(4,)]
    assert "97 calls that reached no provider were not recorded" in caplog.text


# --- URLs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    ["mysql://x/y", "sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite:///a?mode=ro", "a.db", "sqlite:/a"],
)
def test_other_urls_are_refused_by_name(url: str) -> None:
    with pytest.raises(ConfigError, match=r"ledger\.url"):
        open_ledger(url, SystemClock(), 0.2)


def test_a_path_after_three_slashes_is_relative_and_after_four_absolute() -> None:
    for url, path in (("sqlite:///var/x.db", "var/x.db"), ("sqlite:////var/x.db", "/var/x.db")):
        ledger = open_ledger(url, SystemClock(), 0.2)
        assert isinstance(ledger, StoredLedger)
        assert str(ledger._journal.database._path) == path  # type: ignore[attr-defined]  # SQLite's


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


@pytest.mark.parametrize(
    ("url", "loaded"), [("", set()), ("sqlite:///x.db", {"sqlite3"}), ("postgresql://h/d", {"psycopg"})]
)
def test_a_driver_is_loaded_only_where_it_is_used(url: str, loaded: set[str]) -> None:
    code = f"""
import sys
from sidegate.contract import SystemClock
from sidegate.ledger.reports import open_reports
from sidegate.ledger.store import open_ledger
open_reports({url!r}, open_ledger({url!r}, SystemClock(), 0.2))
assert {{'sqlite3', 'psycopg'}} & set(sys.modules) == {loaded!r}, sorted(sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": os.pathsep.join(sys.path)}, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()


def test_the_log_goes_by_its_own_name() -> None:
    assert writer_module.log is logging.getLogger("sidegate.ledger")
