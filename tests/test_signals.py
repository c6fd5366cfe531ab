"""Gateways that share a store: a call is seen and stopped by its caller wherever it runs, and by nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import redis as driver

from sidegate.contract import Call, Handler, Plugin, Reply
from sidegate.signals.asking import Question
from sidegate.signals.waiting import Said, Waiting
from sidegate.testing import Exchange, Running, gateway, scripted
from tests.relaying import chat, messages
from tests.servers.proxy import FaultProxy
from tests.supervised import calls_of, eventually, in_flight, one_connection_a_call, supervised
from tests.test_cancel import both, key, paths, starts, with_keys

CHAT = "/v1/chat/completions"


@asynccontextmanager
async def replicas(*urls: str, provider: str, plugins: Any = None, **counters: Any) -> AsyncIterator[list[Running]]:
    """A gateway for each URL of the store, each with a ledger of its own."""
    async with AsyncExitStack() as stack:
        made = []
        for url in urls:
            config = {**with_keys(provider), "counters": {"url": url, "timeout": 1, **counters}}
            config["pipelines"]["main"]["plugins"] += plugins or []
            made.append(await stack.enter_async_context(gateway(config)))
        yield made


async def running_call(http: aiohttp.ClientSession, there: Running) -> str:
    """The id of the one call that a gateway has in flight."""
    async with asyncio.timeout(20):
        while True:
            found = [live.call for live in there.service.live.all() if live.call.operation == "chat"]
            if found and found[0].attempts:
                return found[0].id
            await asyncio.sleep(0.005)


async def asked(http: aiohttp.ClientSession, method: str, url: str, who: str = "ann") -> tuple[int, Any]:
    async with http.request(method, url, headers=key(who)) as reply:
        return reply.status, await reply.json(content_type=None)


async def gives(http: aiohttp.ClientSession, url: str, status: int) -> bool:
    return (await asked(http, "GET", url))[0] == status


# --- wherever it runs -------------------------------------------------------------------------------------------------


@both
@paths
async def test_a_call_is_cancelled_through_another_replica_and_its_reader_is_told(
    http: aiohttp.ClientSession, redis_url: str, stream: bool, path: str
) -> None:
    async with scripted(starts) as provider, replicas(redis_url, redis_url, provider=provider.url) as (here, there):
        texts = []
        for through in (here, there):
            asking = asyncio.create_task(http.post(here.url + path, json=messages(stream), headers=key("ann")))
            id = await running_call(http, here)
            url = f"{through.url}/v1/calls/{id}"
            status, seen = await asked(http, "GET", url)
            assert (status, seen["id"], seen["state"], seen["provider"]) == (200, id, "in_flight", "p0")
            status, ended = await asked(http, "DELETE", url)
            assert (status, ended) == (200, {"id": id, "state": "ended", "ending": "cancelled"})
            async with await asking as reply:
                texts.append((reply.status, (await reply.text()).replace(id, "ID")))
            status, record = await asked(http, "GET", url)
            assert (status, record["ending"], record["id"]) == (200, "cancelled", id)
        assert texts[0] == texts[1], "the same words, wherever the cancellation came in"
        assert "cancelled" in texts[1][1]
        assert "[DONE]" not in texts[1][1]
        assert "message_stop" not in texts[1][1]


async def test_the_list_is_of_all_replicas_oldest_first(http: aiohttp.ClientSession, redis_url: str) -> None:
    async with scripted(starts) as provider:
        async with replicas(redis_url, redis_url, redis_url, provider=provider.url) as three:
            replies = []
            for each in (three[2], three[0], three[1], three[2]):
                reply = await http.post(each.url + CHAT, json=chat(True), headers=key("ann"))
                replies.append(reply)
            expected = [reply.headers["x-request-id"] for reply in replies]
            for each in three:
                status, body = await asked(http, "GET", each.url + "/v1/calls")
                assert (status, body["complete"]) == (200, True)
                assert [row["id"] for row in body["data"]] == expected
                status, body = await asked(http, "GET", each.url + "/v1/calls", "bob")
                assert body == {"object": "list", "data": [], "complete": True}
            for reply in replies:
                reply.close()


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_anothers_call_is_as_absent_as_one_that_never_was(
    http: aiohttp.ClientSession, redis_url: str, method: str
) -> None:
    async with scripted(starts) as provider, replicas(redis_url, redis_url, provider=provider.url) as (here, there):
        asking = await http.post(here.url + CHAT, json=chat(True), headers=key("ann"))
        id = await running_call(http, here)
        answers = []
        for through in (here, there):
            for wanted in (id, "0" * 32):
                status, body = await asked(http, method, f"{through.url}/v1/calls/{wanted}", "bob")
                assert len(body.pop("request_id")) == 32
                answers.append((status, body))
        assert answers[0][0] == 404
        assert answers == [answers[0]] * 4
        assert len(here.service.live) == 1
        asking.close()


class SlowToEnd(Plugin[None]):
    """Takes longer to clean up than others wait for an answer."""

    async def __call__(self, call: Call, handler: Handler) -> Reply:
        try:
            return await handler(call)
        finally:
            if call.operation == "chat":
                await asyncio.sleep(0.5)


async def test_a_call_that_takes_long_to_end_is_waited_for_by_who_knows_that_it_is_there(
    http: aiohttp.ClientSession, redis_url: str
) -> None:
    plugins = [{"use": f"{__name__}:SlowToEnd"}]
    async with scripted(starts) as provider:
        made = replicas(redis_url, redis_url, provider=provider.url, plugins=plugins, signal_wait=0.2)
        async with made as (here, there):
            asking = await http.post(here.url + CHAT, json=chat(True), headers=key("ann"))
            id = await running_call(http, here)
            status, ended = await asked(http, "DELETE", f"{there.url}/v1/calls/{id}")
            assert (status, ended["ending"]) == (200, "cancelled")
            asking.close()


# --- what cannot be asked ---------------------------------------------------------------------------------------------


async def test_while_the_store_is_away_each_knows_its_own_and_says_so(
    http: aiohttp.ClientSession, redis_url: str, fault_proxy: Callable[[str], Awaitable[FaultProxy]]
) -> None:
    proxy = await fault_proxy(redis_url)
    async with scripted(starts) as provider, replicas(proxy.url, proxy.url, provider=provider.url) as (here, there):
        asking = await http.post(here.url + CHAT, json=chat(True), headers=key("ann"))
        id = await running_call(http, here)
        await proxy.refuse()
        for method in ("DELETE", "GET"):
            async with http.request(method, f"{there.url}/v1/calls/{id}", headers=key("ann")) as reply:
                assert (reply.status, reply.headers["Retry-After"]) == (503, "1")
                assert (await reply.json(content_type=None))["code"] == "calls_unreachable"
        status, body = await asked(http, "GET", there.url + "/v1/calls")
        assert (status, body) == (200, {"object": "list", "data": [], "complete": False})
        status, body = await asked(http, "GET", here.url + "/v1/calls")
        assert ([row["id"] for row in body["data"]], body["complete"]) == ([id], False)
        await proxy.heal()
        await eventually(partial(gives, http, f"{there.url}/v1/calls/{id}", 200))
        await proxy.refuse()
        status, ended = await asked(http, "DELETE", f"{here.url}/v1/calls/{id}")
        assert (status, ended["ending"]) == (200, "cancelled")
        assert "cancelled" in await asking.text()


async def test_a_replica_that_cannot_hear_is_missed(
    http: aiohttp.ClientSession, redis_url: str, fault_proxy: Callable[[str], Awaitable[FaultProxy]]
) -> None:
    """Nothing is said of a call that it may have: 404 would be a lie."""
    proxy = await fault_proxy(redis_url)
    async with scripted(starts) as provider, replicas(redis_url, proxy.url, provider=provider.url) as (here, there):
        url = f"{here.url}/v1/calls/{'0' * 32}"
        assert (await asked(http, "GET", url))[0] == 404
        await proxy.refuse()
        assert (await asked(http, "GET", url))[0] == 503
        status, body = await asked(http, "GET", here.url + "/v1/calls")
        assert (status, body["complete"]) == (200, False)
        await proxy.heal()
        await eventually(partial(gives, http, url, 404))
        assert there.service.counters.store is not None


async def test_who_has_left_is_missed_by_nobody_and_who_has_died_for_a_while(
    http: aiohttp.ClientSession, redis_url: str
) -> None:
    async with scripted(starts) as provider, replicas(redis_url, provider=provider.url) as (here,):
        url = f"{here.url}/v1/calls/{'0' * 32}"
        async with replicas(redis_url, provider=provider.url):
            assert (await asked(http, "GET", url))[0] == 404
        assert (await asked(http, "GET", url))[0] == 404
        assert here.service.counters.store is not None
        living = f"{here.service.counters.store.tag}gateways"
        with driver.Redis.from_url(redis_url) as store:
            seconds = store.time()[0]
            store.zadd(living, {"dead": seconds})
            assert (await asked(http, "GET", url))[0] == 503
            store.zadd(living, {"dead": seconds - 16})
            assert (await asked(http, "GET", url))[0] == 404
            assert store.zcard(living) == 1


async def test_what_is_no_signal_is_passed_over(http: aiohttp.ClientSession, redis_url: str) -> None:
    async with scripted(starts) as provider, replicas(redis_url, redis_url, provider=provider.url) as (here, there):
        assert here.service.counters.store is not None
        channel = f"{here.service.counters.store.tag}signals"
        with driver.Redis.from_url(redis_url) as store:
            for data in (b"", b"x", b"\xff", b"[" * 5000, b'{"type":"asked"}', b'{"type":"said","id":"1","of":"2"}'):
                assert store.publish(channel, data) == 2
            store.publish(
                channel, b'{"type":"asked","id":"1","by":"x","question":{"about":"everything","caller":"ann"}}'
            )
        asking = await http.post(here.url + CHAT, json=chat(True), headers=key("ann"))
        id = await running_call(http, here)
        assert (await asked(http, "GET", f"{there.url}/v1/calls/{id}"))[0] == 200
        asking.close()


async def test_deployments_with_other_prefixes_are_apart(http: aiohttp.ClientSession, redis_url: str) -> None:
    async with scripted(starts) as provider:
        one = replicas(redis_url, provider=provider.url, prefix="one")
        two = replicas(redis_url, provider=provider.url, prefix="two")
        async with one as (here,), two as (there,):
            asking = await http.post(here.url + CHAT, json=chat(True), headers=key("ann"))
            id = await running_call(http, here)
            assert (await asked(http, "DELETE", f"{there.url}/v1/calls/{id}"))[0] == 404
            asking.close()


# --- workers ----------------------------------------------------------------------------------------------------------


async def test_workers_reach_each_others_calls_through_the_store(tmp_path: Path, redis_url: str) -> None:
    async with scripted(starts) as provider:
        config = {**with_keys(provider.url), "counters": {"url": redis_url, "timeout": 1}}
        async with supervised(tmp_path, config) as there, one_connection_a_call() as http:
            replies = [await http.post(there.url + CHAT, json=chat(True), headers=key("ann")) for _ in range(12)]
            assert sum([await in_flight(http, admin) for admin in there.admins]) == 12
            status, body = await asked(http, "GET", there.url + "/v1/calls")
            assert (status, body["complete"]) == (200, True)
            assert {row["id"] for row in body["data"]} == {reply.headers["x-request-id"] for reply in replies}
            for reply in replies:
                status, ended = await asked(http, "DELETE", f"{there.url}/v1/calls/{reply.headers['x-request-id']}")
                assert (status, ended["ending"]) == (200, "cancelled")
                assert "cancelled" in await reply.text()
            assert sum([await calls_of(http, admin) for admin in there.admins]) == 12
            assert await there.stop() == 0
            assert await there.counts("ending = 'cancelled'", 12)


async def test_workers_without_a_store_say_that_they_cannot_ask(http: aiohttp.ClientSession) -> None:
    async with scripted(starts) as provider, gateway({**with_keys(provider.url), "workers": 2}) as running:
        status, body = await asked(http, "DELETE", f"{running.url}/v1/calls/{'0' * 32}")
        assert (status, body["code"]) == (503, "calls_unreachable")
        assert (await asked(http, "GET", running.url + "/v1/calls"))[1]["complete"] is False


# --- how answers are waited for ---------------------------------------------------------------------------------------


async def test_answers_may_come_before_it_is_known_how_many_there_are() -> None:
    waiting = Waiting(first=False)
    waiting.take(Said("1", "a"))
    waiting.expect(1)
    assert (await waiting.heard(30)).complete


async def test_one_that_answers_twice_is_one() -> None:
    waiting = Waiting(first=False)
    for _ in range(2):
        waiting.take(Said("1", "a"))
    waiting.expect(2)
    assert not (await waiting.heard(0.01)).complete


async def test_who_claims_and_then_says_nothing_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidegate.signals.waiting.PATIENCE_SECONDS", 0.05)
    waiting = Waiting(first=True)
    waiting.take(Said("1", "a", claims=True))
    waiting.expect(1)
    assert not (await waiting.heard(0.01)).complete


async def test_more_questions_than_can_be_answered_go_unanswered(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sidegate.signals.shared.MOST_AT_ONCE", 0)

    async def never(exchange: Exchange) -> None:
        await exchange.closed.wait()

    async with scripted(never) as provider, replicas(redis_url, redis_url, provider=provider.url) as (here, _):
        heard = await here.service.calls._signals.ask(Question("call", "ann", "0" * 32), first=True)
        assert (heard.answers, heard.complete) == ((), False)
