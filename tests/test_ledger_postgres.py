"""A PostgreSQL that is down, slow, silent or cut off: calls go on, nothing is lost, nothing is written twice."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from threading import Thread

import aiohttp
import msgspec
import psycopg
import pytest

from sidegate.errors import ConfigError, SidegateError
from sidegate.ledger import postgres as postgres_module
from sidegate.ledger import settlement
from sidegate.ledger import writer as writer_module
from sidegate.ledger.database import Deadlock, Lost, Unavailable
from sidegate.ledger.lease import Lease
from sidegate.ledger.migrate import migrate
from sidegate.ledger.opening import open_database
from sidegate.ledger.postgres import PostgresDatabase
from sidegate.ledger.postgres_journal import PostgresJournal
from sidegate.ledger.store import open_ledger
from sidegate.ledger.stored import StoredLedger
from sidegate.ledger.work import Reservation, Settlement
from sidegate.testing import Exchange, demo_config, gateway, scripted
from tests.plugins.calls import HandClock
from tests.relaying import DONE, ROLE, STOP, USAGE, chat, delta, leads_to, until
from tests.servers.proxy import FaultProxy
from tests.stores import Store
from tests.test_ledger import a_call as another_call
from tests.test_ledger import a_row as another_row
from tests.test_reserve import claim, end, money, opened, states

Proxied = Callable[[str], Awaitable[FaultProxy]]


@pytest.fixture
def store(postgres_url: str) -> Store:
    """Without a fault between."""
    migrate(postgres_url)
    return Store("postgresql", postgres_url)


@pytest.fixture
async def broken(store: Store, fault_proxy: Proxied, monkeypatch: pytest.MonkeyPatch) -> FaultProxy:
    """What stands between the gateway and the store; a gateway that loses patience soon."""
    monkeypatch.setattr(postgres_module, "PATIENCE_SECONDS", 0.5)
    monkeypatch.setattr(postgres_module, "MARGIN_SECONDS", 0.1)
    monkeypatch.setattr(writer_module, "RETRY_SECONDS", 0.02)
    return await fault_proxy(store.url)


def through(broken: FaultProxy, **options: bool) -> StoredLedger:
    url = broken.url.replace("postgres@", "postgres:hush-hush@")
    ledger = open_ledger(f"{url}?connect_timeout=2", HandClock(), 0.0, **options)
    assert isinstance(ledger, StoredLedger)
    return ledger


async def refused(ledger: StoredLedger, id: str) -> None:
    with pytest.raises(SidegateError) as caught:
        await ledger.reserve(opened(id), [claim(1)])
    assert (caught.value.status, caught.value.code) == (503, "ledger_unavailable")


# --- at the start -----------------------------------------------------------------------------------------------------


async def test_a_server_that_is_down_ends_the_start_with_one_line(broken: FaultProxy) -> None:
    await broken.refuse()
    ledger = through(broken)
    with pytest.raises(ConfigError) as caught:
        await ledger.start()
    assert caught.value.place == "ledger.url"
    assert f"postgresql://127.0.0.1:{broken.port}/" in caught.value.problem
    assert "\n" not in caught.value.problem
    await ledger.stop()


async def test_a_gateway_that_waits_has_no_room_until_the_server_is_there(
    broken: FaultProxy, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    await broken.refuse()
    ledger = through(broken, patient=True)
    await ledger.start()
    assert not ledger.room
    assert ledger.problem is not None
    await refused(ledger, "early")
    await broken.heal()
    await until(lambda: ledger.room)
    assert (await ledger.reserve(opened("c1"), [claim(60)]))[0].granted
    await ledger.stop()
    assert "hush" not in caplog.text
    assert money(store) == (0, 60, 0)


async def test_a_gateway_that_waits_goes_on_once_the_database_was_migrated(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "RETRY_SECONDS", 0.02)
    ledger = open_ledger(postgres_url, HandClock(), 0.0, patient=True)
    await ledger.start()
    assert ledger.problem is not None
    assert ledger.problem.endswith("is empty: run sidegate migrate")
    migrate(postgres_url)
    await until(lambda: ledger.room)
    await ledger.stop()


# --- while it runs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["refuse", "black_hole"])
async def test_what_ends_while_the_server_is_away_is_written_once_when_it_is_back(
    broken: FaultProxy, store: Store, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = through(broken)
    await ledger.start()
    calls = [opened(f"c{number}") for number in range(5)]
    for call in calls:
        await ledger.reserve(call, [claim(10)])
    if fault == "refuse":
        await broken.refuse()
    else:
        broken.black_hole()
    end(ledger, calls[0])
    await until(lambda: not ledger.room)
    assert ledger.problem is not None
    for call in calls:
        end(ledger, call)
    await refused(ledger, "new")
    assert ledger.waiting == 5
    assert await ledger.call("c3") is not None
    await broken.heal()
    await ledger.flush()
    await until(lambda: ledger.room)
    assert money(store) == (35, 0, 0)
    assert states(store) == [(f"c{number}", "settled", None, 7) for number in range(5)]
    await ledger.stop()
    assert caplog.text.count("cannot write") == 1
    assert "writing again" in caplog.text
    assert "hush" not in caplog.text


async def test_an_idle_gateway_notices_that_the_server_has_gone_and_is_back(
    broken: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "BEAT_SECONDS", 0.02)
    ledger = through(broken)
    await ledger.start()
    await broken.refuse()
    ledger._lease._looked -= 100.0  # as if that were long ago
    await until(lambda: not ledger.room)
    await broken.heal()
    await until(lambda: ledger.room)
    await ledger.stop()


@pytest.mark.parametrize("skip", range(3))
async def test_a_commit_whose_answer_was_lost_is_found_to_have_happened(
    broken: FaultProxy, store: Store, skip: int
) -> None:
    ledger = through(broken)
    await ledger.start()
    struck = broken.lose_answer(b"COMMIT", skip=skip)
    calls = [opened("a"), opened("b")]
    for call in calls:
        (standing,) = await ledger.reserve(call, [claim(50)])
        assert standing.granted
    assert not (await ledger.reserve(opened("c"), [claim(1)]))[0].granted
    for call in calls:
        end(ledger, call)
    await ledger.flush()
    await asyncio.wait_for(struck.wait(), 30)
    assert money(store) == (14, 0, 0)
    assert [row[:2] for row in states(store)] == [("a", "settled"), ("b", "settled"), ("c", "reserved")]
    assert store.rows("SELECT count(*) FROM attempts") == [(3,)]
    await ledger.stop()


@pytest.mark.parametrize("after", [0, 1, 7, 60, 200])
async def test_a_connection_that_breaks_anywhere_costs_no_call(broken: FaultProxy, store: Store, after: int) -> None:
    ledger = through(broken)
    await ledger.start()
    broken.cut_reply(after)
    for number in range(3):
        call = opened(f"c{number}")
        assert (await ledger.reserve(call, [claim(60)]))[0].granted
        end(ledger, call)
        await ledger.flush()
    assert money(store) == (21, 0, 0)
    assert ledger.room
    await ledger.stop()


async def test_a_connection_that_broke_while_idle_is_replaced_unseen(
    broken: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = through(broken)
    await ledger.start()
    assert await ledger.call("nobody") is None
    broken.reset()
    assert (await ledger.reserve(opened("c1"), [claim(60)]))[0].granted
    assert await ledger.call("nobody") is None
    assert ledger.problem is None
    await ledger.stop()
    assert "cannot write" not in caplog.text


async def test_a_reservation_that_gets_through_while_its_call_is_settled_elsewhere_is_charged(store: Store) -> None:
    """A connection that was given up may still commit: its gateway settles the call by the next one meanwhile."""
    call = opened("c1")
    reserved = Reservation(settlement.opened(call, call.attempts[-1]), [claim(60)])
    ended = Settlement((another_row("c1", cost_nano_usd=7), ()))
    lease = Lease(HandClock())
    with store.database() as first, store.database() as second, psycopg.connect(store.url) as beside:
        assert isinstance(first, PostgresDatabase)
        assert isinstance(second, PostgresDatabase)
        given_up, journal = PostgresJournal(first), PostgresJournal(second)
        journal._holding.add("c1")
        beside.execute("LOCK TABLE holds IN EXCLUSIVE MODE")
        writing = [
            asyncio.create_task(asyncio.to_thread(given_up.write, [reserved], lease, False)),
            asyncio.create_task(asyncio.to_thread(wait_for_a_lock, store.url)),
        ]
        await writing[1]
        writing.append(asyncio.create_task(asyncio.to_thread(journal.write, [ended], lease, False)))
        await asyncio.to_thread(wait_for_a_lock, store.url, 2)
        beside.rollback()
        await asyncio.gather(*writing)
    assert money(store) == (7, 0, 0)
    assert states(store) == [("c1", "settled", None, 7)]


async def test_a_slow_server_is_only_slow(broken: FaultProxy, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_module, "PATIENCE_SECONDS", 5.0)
    ledger = through(broken)
    await ledger.start()
    broken.delay(0.15, 0.15)
    calls = [opened(str(number)) for number in range(50)]
    taken = await asyncio.gather(*(ledger.reserve(call, [claim(3)]) for call in calls))
    assert sum(standing.granted for (standing,) in taken) == 33
    for call in calls:
        end(ledger, call, 1)
    await ledger.flush()
    assert ledger.room
    assert money(store) == (33, 0, 0)
    await ledger.stop()


async def test_a_silent_server_is_given_up_and_what_it_did_at_last_is_not_done_again(
    broken: FaultProxy, store: Store
) -> None:
    ledger = through(broken)
    await ledger.start()
    broken.black_hole()
    call = opened("c1")
    reserving = asyncio.ensure_future(ledger.reserve(call, [claim(60)]))
    await until(lambda: ledger.problem is not None)
    # What the hole kept comes out: the first connection's batch reaches the server after all.
    await broken.heal()
    (standing,) = await reserving
    assert (standing.granted, standing.used) == (True, 0)
    end(ledger, call)
    await ledger.flush()
    assert money(store) == (7, 0, 0)
    await ledger.stop()


async def test_stopping_while_the_server_is_away_names_what_is_lost_and_ends(
    broken: FaultProxy, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(writer_module, "STOP_SECONDS", 0.1)
    ledger = through(broken)
    await ledger.start()
    await broken.refuse()
    end(ledger, opened("c1"))
    await until(lambda: not ledger.room)
    await ledger.stop()
    assert "1 calls were not recorded" in caplog.text


async def test_a_session_that_is_ended_by_the_server_is_replaced(store: Store) -> None:
    async with store.ledger(HandClock()) as ledger:
        ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = ?"
        for _ in range(3):
            store.execute(ended, store.url.rpartition("/")[2])
            assert (await ledger.reserve(opened("c1"), [claim(60)]))[0].granted
    assert money(store) == (0, 60, 0)


async def test_a_deadlock_is_tried_again_at_once(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    async with store.ledger(HandClock()) as ledger:
        await ledger.reserve(opened("c1"), [claim(10)])
        with psycopg.connect(store.url) as beside:
            beside.execute("SET deadlock_timeout = '60s'")  # so that the other one finds it, and is ended
            beside.execute("SELECT 1 FROM budgets FOR UPDATE")
            waiting = asyncio.ensure_future(ledger.reserve(opened("c2"), [claim(10)]))
            await asyncio.to_thread(wait_for_a_lock, store.url)
            # It holds the lock of the subject, and waits for the row; now the row's owner wants the subject.
            thread = Thread(target=beside.execute, args=(HELD_BY_ANOTHER,))
            thread.start()
            await asyncio.to_thread(thread.join)
            beside.rollback()
        (standing,) = await waiting
        assert (standing.granted, standing.used) == (True, 10)
    assert money(store) == (0, 20, 0)
    assert "cannot write" not in caplog.text


HELD_BY_ANOTHER = """SELECT pg_advisory_xact_lock((classid::bigint << 32) | objid::bigint) FROM pg_locks
    WHERE locktype = 'advisory' AND granted AND pid <> pg_backend_pid() LIMIT 1"""


def wait_for_a_lock(url: str, count: int = 1) -> None:
    """Until so many there wait for one."""
    with psycopg.connect(url, autocommit=True) as connection:
        for _ in range(10_000):
            if len(connection.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchall()) >= count:
                return
    raise AssertionError("nobody waits")


async def test_a_session_commits_durably_whatever_the_roles_default(store: Store, postgres_url: str) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("ALTER ROLE postgres SET synchronous_commit = off")
        try:
            assert store.rows("SHOW synchronous_commit") == [("on",)]
        finally:
            connection.execute("ALTER ROLE postgres RESET synchronous_commit")


def test_errors_say_whether_to_try_again(store: Store) -> None:
    database = open_database(store.url)
    with pytest.raises(Lost):
        database.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    assert database.execute("SELECT 1").fetchall() == [(1,)]
    database.execute("SET statement_timeout = 10")
    with pytest.raises(Unavailable, match="statement timeout"):
        database.execute("SELECT pg_sleep(5)")
    with pytest.raises(Deadlock):
        database.execute("DO $$ BEGIN RAISE deadlock_detected; END $$")
    database.close()


def test_the_log_has_no_password(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(ConfigError) as caught:
        open_database("postgresql://ann:hush-hush@127.0.0.1:1/d")
    assert "hush" not in caplog.text + str(caught.value)


# --- the whole gateway ------------------------------------------------------------------------------------------------

PAID = {
    "use": "cost",
    "settings": {
        "prices": {"*": {"input": 1, "output": 1}},
        "budgets": [{"name": "all", "amount_usd": 1, "period": "day"}],
    },
}


async def status(http: aiohttp.ClientSession, url: str) -> int:
    async with http.get(url) as reply:
        return reply.status


async def test_a_gateway_starts_without_its_database_and_takes_calls_when_it_is_there(
    http: aiohttp.ClientSession, broken: FaultProxy, store: Store
) -> None:
    await broken.refuse()
    wanted = {"model": "demo", "messages": [{"role": "user", "content": "hi"}]}
    ledger = {"url": f"{broken.url}?connect_timeout=2", "on_start_failure": "wait"}
    async with gateway(demo_config(ledger=ledger)) as running:
        assert await status(http, f"{running.admin_url}/readyz") == 503
        assert await status(http, f"{running.admin_url}/livez") == 200
        async with http.post(f"{running.url}/v1/chat/completions", json=wanted) as reply:
            assert (reply.status, (await reply.json())["error"]["code"]) == (503, "ledger_unavailable")
        await broken.heal()
        await until(lambda: running.service.ledger.room)
        assert await status(http, f"{running.admin_url}/readyz") == 200
        async with http.post(f"{running.url}/v1/chat/completions", json=wanted) as reply:
            assert reply.status == 200
        await running.service.ledger.flush()
    assert store.rows("SELECT status FROM calls WHERE status = 200 AND cost_nano_usd IS NULL") == [(200,)]


@pytest.mark.parametrize("fault", ["refuse", "black_hole"])
async def test_a_stream_goes_on_while_the_database_is_away_and_new_calls_are_refused(
    http: aiohttp.ClientSession, broken: FaultProxy, store: Store, fault: str
) -> None:
    away = asyncio.Event()

    async def half(exchange: Exchange) -> None:
        await exchange.head(Transfer_Encoding="chunked")
        await exchange.chunk(ROLE + delta(content="one "))
        await away.wait()
        await exchange.chunk(delta(content="two") + STOP + USAGE + DONE)
        await exchange.chunk(b"")

    ledger = {"url": f"{broken.url}?connect_timeout=2"}
    async with (
        scripted(half) as provider,
        gateway(leads_to(provider.url, plugins=(PAID,), ledger=ledger)) as running,
    ):
        async with http.post(f"{running.url}/v1/chat/completions", json=chat(True, max_tokens=10)) as reply:
            assert b"one" in await reply.content.readany()
            if fault == "refuse":
                await broken.refuse()
            else:
                broken.black_hole()
            running.service.ledger.settle(*another_call("c1"))
            await until(lambda: not running.service.ledger.room)
            async with http.post(f"{running.url}/v1/chat/completions", json=chat(max_tokens=10)) as other:
                assert (other.status, (await other.json())["error"]["code"]) == (503, "ledger_unavailable")
            away.set()
            rest = await reply.content.read()
        assert b"two" in rest
        assert b"[DONE]" in rest
        await broken.heal()
        await running.service.ledger.flush()
    ((state, ending, cost),) = store.rows(
        "SELECT state, ending, cost_nano_usd FROM calls WHERE id <> 'c1' AND status = 200"
    )
    assert (state, ending) == ("settled", "complete")
    assert money(store) == (cost, 0, 0)


async def test_a_nul_of_a_client_or_a_provider_costs_no_record(http: aiohttp.ClientSession, store: Store) -> None:
    """PostgreSQL takes no text with one, and JSON does."""

    async def answers(exchange: Exchange) -> None:
        choice = {"index": 0, "message": {"role": "assistant", "content": "a\0b"}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
        whole = {"id": "c\0", "object": "chat.completion", "created": 1, "model": "m\0", "choices": [choice]}
        await exchange.reply(msgspec.json.encode({**whole, "usage": usage}))

    config = demo_config(PAID, ledger={"url": store.url})
    async with scripted(answers) as provider:
        config["providers"]["real"] = {"dialect": "openai", "base_url": f"{provider.url}/v1", "api_key": "k"}
        config["models"]["real*"] = {"provider": "real"}
        async with gateway(config) as running:
            for model, expected in (("real", 200), ("real\0", 404), ("real", 200)):
                wanted = chat(max_tokens=10, model=model)
                async with http.post(f"{running.url}/v1/chat/completions", json=wanted) as reply:
                    assert reply.status == expected
            await running.service.ledger.flush()
    assert store.rows("SELECT status, model_asked, model_served, cost_nano_usd > 0 FROM calls ORDER BY status") == [
        (200, "real", "m\ufffd", True),
        (200, "real", "m\ufffd", True),
        (404, "real\ufffd", None, False),
    ]
