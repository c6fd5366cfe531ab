"""What tests lean on when they speak of stores: a database of their own, and faults that are what they are called."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import psycopg
import pytest
import redis.asyncio
from redis.exceptions import ConnectionError as RedisGone
from redis.exceptions import TimeoutError as RedisSilent

from tests.servers.postgres import Postgres
from tests.servers.proxy import FaultProxy

Before = Callable[[str], Awaitable[FaultProxy]]


async def connected(url: str) -> psycopg.AsyncConnection[tuple[object, ...]]:
    return await psycopg.AsyncConnection.connect(url, autocommit=True)


def asking(url: str, timeout: float | None = None) -> redis.asyncio.Redis:
    return redis.asyncio.Redis.from_url(url, socket_timeout=timeout, socket_connect_timeout=timeout, retry=None)


@pytest.mark.parametrize("turn", [1, 2])
async def test_each_test_has_an_empty_database(postgres_url: str, redis_url: str, turn: int) -> None:
    async with await connected(postgres_url) as connection, asking(redis_url) as store:
        await connection.execute("CREATE TABLE mine (turn integer)")
        assert await store.dbsize() == 0
        await store.set("mine", turn)


async def test_a_database_goes_although_somebody_is_connected(postgres_server: Postgres) -> None:
    with postgres_server.database() as url:
        left = await connected(url)
    with pytest.raises(psycopg.OperationalError):
        await left.execute("SELECT 1")
    await left.close()


async def test_the_proxy_lets_all_pass_to_both(postgres_url: str, redis_url: str, fault_proxy: Before) -> None:
    for_rows, for_counts = await fault_proxy(postgres_url), await fault_proxy(redis_url)
    async with await connected(for_rows.url) as connection, asking(for_counts.url) as store:
        cursor = await connection.execute("SELECT repeat('x', 300000)")
        assert await cursor.fetchone() == ("x" * 300_000,)
        await store.set("x", "y" * 300_000)
        assert await store.get("x") == b"y" * 300_000
    assert (for_rows.connections, for_counts.connections) == (1, 1)


async def test_a_refused_store_lets_in_nobody_until_it_heals(redis_url: str, fault_proxy: Before) -> None:
    broken = await fault_proxy(redis_url)
    async with asking(broken.url) as store:
        await store.set("x", 1)
        await broken.refuse()
        for _ in range(2):
            with pytest.raises((RedisGone, ConnectionError)):
                await store.get("x")
        await broken.heal()
        assert await store.get("x") == b"1"


async def test_a_reset_ends_what_is_connected_only(postgres_url: str, fault_proxy: Before) -> None:
    broken = await fault_proxy(postgres_url)
    old = await connected(broken.url)
    broken.reset()
    with pytest.raises(psycopg.OperationalError):
        await old.execute("SELECT 1")
    await old.close()
    async with await connected(broken.url) as new:
        await new.execute("SELECT 1")


async def test_a_black_hole_says_nothing_and_what_waited_comes_after_it(redis_url: str, fault_proxy: Before) -> None:
    broken = await fault_proxy(redis_url)
    async with asking(broken.url, timeout=0.1) as store, asking(redis_url) as directly:
        await store.set("x", 1)
        broken.black_hole()
        for value in (2, 3):
            with pytest.raises((RedisSilent, RedisGone)):
                await store.set("x", value)
        assert await directly.get("x") == b"1"
        await broken.heal()
        for _ in range(1000):
            if await directly.get("x") != b"1":
                return
            await asyncio.sleep(0.01)
        pytest.fail("what waited never came")


async def test_a_delay_is_on_each_direction(redis_url: str, fault_proxy: Before) -> None:
    broken = await fault_proxy(redis_url)
    loop = asyncio.get_running_loop()
    async with asking(broken.url) as store:
        await store.get("x")
        for up, down in ((0.1, 0.0), (0.0, 0.1), (0.1, 0.1)):
            broken.delay(up, down)
            began = loop.time()
            await store.get("x")
            assert loop.time() - began >= up + down


async def test_a_reply_is_cut_amid_its_bytes(redis_url: str, fault_proxy: Before) -> None:
    broken = await fault_proxy(redis_url)
    async with asking(broken.url) as store:
        await store.set("x", "y" * 1000)
        struck = broken.cut_reply(after=500)
        with pytest.raises((RedisGone, ConnectionError)):
            await store.get("x")
        assert struck.is_set()
        assert await store.get("x") == b"y" * 1000


async def test_a_commit_whose_answer_is_lost_was_done(postgres_url: str, fault_proxy: Before) -> None:
    broken = await fault_proxy(postgres_url)
    async with await connected(postgres_url) as directly:
        await directly.execute("CREATE TABLE kept (number integer)")
        writing = await connected(broken.url)
        lost = broken.lose_answer(b"COMMIT", skip=1)
        for number in (1, 2):
            await writing.execute("BEGIN")
            await writing.execute("INSERT INTO kept VALUES (%s)", [number])
            if number == 1:
                await writing.execute("COMMIT")
        with pytest.raises(psycopg.OperationalError):
            await writing.execute("COMMIT")
        assert lost.is_set()
        await writing.close()
        cursor = await directly.execute("SELECT number FROM kept ORDER BY number")
        assert await cursor.fetchall() == [(1,), (2,)]


async def test_a_message_that_is_cut_was_not_heard(postgres_url: str, fault_proxy: Before) -> None:
    broken = await fault_proxy(postgres_url)
    async with await connected(postgres_url) as directly:
        await directly.execute("CREATE TABLE kept (word text)")
        writing = await connected(broken.url)
        cut = broken.cut_message(b"second")
        await writing.execute("BEGIN")
        await writing.execute("INSERT INTO kept VALUES ('first')")
        with pytest.raises(psycopg.OperationalError):
            await writing.execute("INSERT INTO kept VALUES ('second')")
        assert cut.is_set()
        await writing.close()
        cursor = await directly.execute("SELECT word FROM kept")
        assert await cursor.fetchall() == []
