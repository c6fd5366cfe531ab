"""Streams whose client comes back at another gateway, which finds them in the Redis that both share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
import redis.asyncio

from sidegate.streams import copies
from sidegate.testing import Exchange, Running, ScriptedProvider, gateway, scripted
from tests.jobs.ground import ANN, BOB, PATH, WORDS, Event, Told, body, config, cut, events, text_of
from tests.jobs.test_resumable import a_chat, ui_text
from tests.relaying import DONE, ROLE, STOP, delta, until
from tests.servers.proxy import FaultProxy
from tests.streams.test_resume import tells_much

TEXT = "".join(WORDS)
Proxy = Callable[[str], Awaitable[FaultProxy]]


@dataclass
class Pair:
    """Two gateways, and Ann's client at each."""

    provider: ScriptedProvider
    here: aiohttp.ClientSession
    there: aiohttp.ClientSession
    gateways: tuple[Running, Running]

    async def begun(self, told: Told, words: int) -> tuple[str, list[Event]]:
        told.go(words)
        async with self.here.post(PATH, json=body()) as reply:
            return reply.headers["Content-Location"], await cut(reply, words + 1)

    async def copied(self, where: str) -> None:
        """Until it is known at the other one."""
        async with asyncio.timeout(20):
            while True:
                async with self.there.get(where) as reply:
                    if reply.status == 200:
                        return
                await asyncio.sleep(0.01)


@asynccontextmanager
async def pair(script: Any, store: str, other: str | None = None, **base: Any) -> AsyncIterator[Pair]:
    """`other`: what the second gateway reaches the store by."""
    route = {"name": "r", "pipeline": "main", "resumable": True, "default_model": "m"}
    async with scripted(script) as provider:
        made = {**config(provider.url), "jobs": None, "routes": [route], **base}
        first = {**made, "counters": {"url": store}}
        second = {**made, "counters": {"url": other or store}}
        headers = {"Authorization": f"Bearer {ANN}"}
        async with (
            gateway(first) as one,
            gateway(second) as two,
            aiohttp.ClientSession(one.url, headers=headers) as here,
            aiohttp.ClientSession(two.url, headers=headers) as there,
        ):
            yield Pair(provider, here, there, (one, two))


async def rest(client: aiohttp.ClientSession, where: str, seen: str) -> list[Event]:
    async with client.get(where, headers={"Last-Event-ID": seen}) as reply:
        assert reply.status == 200, await reply.text()
        return events(await reply.text())


async def test_a_client_goes_on_at_another_gateway_and_nothing_comes_twice(redis_url: str) -> None:
    told = Told()
    async with pair(told, redis_url) as on:
        where, first = await on.begun(told, 2)
        await on.copied(where)
        reading = asyncio.create_task(rest(on.there, where, first[-1].id))
        await until(lambda: len(on.gateways[1].service.live) == 1)
        told.go()
        last = await reading
        assert text_of([*first, *last[:-1]]) == TEXT
        assert last[-1].kind == "end"
        numbers = [int(one.id.partition("-")[2]) for one in [*first, *last]]
        assert numbers == list(range(1, len(numbers) + 1)), "each once, in order"
        assert len(on.provider.exchanges) == 1
        async with on.there.get(where, headers={"Last-Event-ID": last[-1].id}) as reply:
            assert reply.status == 204
        assert await rest(on.here, where, first[-1].id) == last, "both tell the same"
        async with on.there.get(where, headers={"Authorization": f"Bearer {BOB}"}) as reply:
            assert reply.status == 404, "another's is not there, here either"


async def test_who_reads_elsewhere_keeps_the_call_alive(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "BEAT_SECONDS", 0.1)
    told = Told()
    async with pair(told, redis_url, streams={"grace": 1.0}) as on:
        where, first = await on.begun(told, 1)
        await on.copied(where)
        reading = asyncio.create_task(rest(on.there, where, first[-1].id))
        await asyncio.sleep(2.5)  # longer than its grace
        assert len(on.gateways[0].service.live) == 1
        told.go()
        assert text_of([*first, *(await reading)[:-1]]) == TEXT


async def test_a_long_stream_is_whole_elsewhere(redis_url: str) -> None:
    async def long(exchange: Exchange) -> None:
        await tells_much(exchange, 5000)

    async with pair(long, redis_url) as on:
        async with on.here.post(PATH, json=body()) as reply:
            where = reply.headers["Content-Location"]
            whole = events(await reply.text())
        await on.copied(where)
        assert (await rest(on.there, where, "1-0"))[:-1] == whole
        assert (await rest(on.there, where, whole[4000].id))[:-1] == whole[4001:]


async def test_the_store_away_costs_the_reader_nothing_and_is_said_to_who_comes_back(
    redis_url: str, fault_proxy: Proxy
) -> None:
    told = Told()
    broken = await fault_proxy(redis_url)
    async with pair(told, broken.url) as on:
        told.go(1)
        async with on.here.post(PATH, json=body()) as reply:
            where = reply.headers["Content-Location"]
            await reply.content.readuntil(b"Once")
            await broken.refuse()
            told.go(2)
            await reply.content.readuntil(b" a")
            async with on.there.get(where) as elsewhere:
                assert elsewhere.status == 503
                assert (await elsewhere.json())["code"] == "streams_unreachable"
            async with on.there.get("/api/chat/c/stream") as elsewhere:
                assert elsewhere.status == 503, "not 204: nobody knows that nothing runs"
            async with on.here.get(where) as again:
                assert b"id: 1-1\n" in await again.content.readuntil(b"\n\n"), "here it is known"
            await broken.heal()
            told.go()
            whole = b"".join([piece async for piece in reply.content.iter_any()])
        assert events(whole.decode())[-1].data == "[DONE]"
        await on.copied(where)
        assert text_of((await rest(on.there, where, "1-0"))[:-1]) == TEXT, "what the store missed it was told later"


async def test_a_store_that_has_lost_all_is_told_all_anew(redis_url: str) -> None:
    told = Told()
    async with pair(told, redis_url) as on:
        where, _ = await on.begun(told, 2)
        await on.copied(where)
        async with redis.asyncio.Redis.from_url(redis_url) as store:
            await store.flushall()
        told.go()
        await on.copied(where)
        assert text_of((await rest(on.there, where, "1-0"))[:-1]) == TEXT


async def test_a_gateway_that_was_killed_leaves_what_it_had_said_and_an_error(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies, "LEASE_SECONDS", 1.0)
    told = Told()
    async with pair(told, redis_url) as on:
        where, first = await on.begun(told, 2)
        await on.copied(where)
        await asyncio.sleep(0.1)
        # As a kill: nothing is copied any more, and nobody says that it lives.
        kept = on.gateways[0].service.ground.streams()._copies
        assert kept is not None
        assert kept._task is not None
        kept._task.cancel()
        last = await rest(on.there, where, "1-1")
        assert text_of(last[:-1]) == text_of(first[1:])
        assert "stream_lost" in last[-1].data
        async with on.there.get(where) as reply:
            assert reply.status == 404
        told.go()


async def began(reply: aiohttp.ClientResponse) -> bytes:
    """What it says up to its first words; nothing where nothing is said."""
    seen = b""
    while reply.status == 200 and b"text-delta" not in seen:
        seen += await reply.content.readuntil(b"\n\n")
    return seen


async def test_a_page_that_is_loaded_anew_at_another_gateway_gets_the_latest_reply(redis_url: str) -> None:
    told = Told()

    async def plays(exchange: Exchange) -> None:
        if len(on.provider.exchanges) > 1:
            await told(exchange)
            return
        await exchange.head(Transfer_Encoding="chunked")
        await exchange.chunk(ROLE + delta(content="of before"))
        await exchange.closed.wait()

    async with pair(plays, redis_url) as on:
        for client in (on.here, on.there):
            told.go(2)
            async with client.post("/api/chat", json=a_chat()) as reply:
                await cut(reply, 3)
        later = b""
        async with asyncio.timeout(20):
            # The other gateway tells the store a moment later what it has begun.
            while WORDS[0].encode() not in later:
                async with on.here.get("/api/chat/chat-1/stream") as again:
                    later = await began(again)
                    if WORDS[0].encode() in later:
                        told.go()
                        later += await again.read()
        assert ui_text(events(later.decode())) == TEXT
        async with on.here.get("/api/chat/chat-2/stream") as reply:
            assert reply.status == 204


async def test_what_the_store_keeps_is_bounded(redis_url: str) -> None:
    async def long(exchange: Exchange) -> None:
        await exchange.stream(ROLE, *[delta(content="x" * 200) for _ in range(400)], STOP, DONE)

    async with pair(long, redis_url, streams={"max_bytes": 65_536, "keep": 60}) as on:
        async with on.here.post(PATH, json=body()) as reply:
            where = reply.headers["Content-Location"]
            whole = events(await reply.text())
        async with redis.asyncio.Redis.from_url(redis_url) as store:
            async with asyncio.timeout(20):
                ended, keys = None, []
                while ended is None:
                    keys = await store.keys("sidegate:{stream:*:about")
                    ended = await store.hget(keys[0], "ended") if keys else None
            size = int(await store.hget(keys[0], "size") or 0)
            assert 0 < size <= 65_536
            for key in await store.keys("sidegate:{stream:*"):
                assert 0 < await store.pttl(key) <= 60_000
        async with on.there.get(where, headers={"Last-Event-ID": "1-1"}) as reply:
            assert reply.status == 410
        assert (await rest(on.there, where, whole[-2].id))[0] == whole[-1]
