"""Limits in real gateways: tokens are settled whatever the end, replicas share a store, and what is said of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from sidegate.config import read_mapping
from sidegate.contract import RateClaim, SlotClaim
from sidegate.errors import ConfigError
from sidegate.testing import Exchange, Running, demo_config, gateway, scripted
from tests.counted import until
from tests.plugins.test_through_the_gateway import LOG, SLOW, Client, everywhere, served
from tests.relaying import leads_to
from tests.servers.process import spare_port
from tests.servers.proxy import FaultProxy

Proxied = Callable[[str], Awaitable[FaultProxy]]

LONG = 31 * 86_400.0
MOST = 100_000
"""In the longest period there is: less than a token drains while a test runs."""


def tokens(**more: Any) -> dict[str, Any]:
    limit = {"name": "tokens", "input_tokens": MOST, "output_tokens": MOST, "period": LONG, "per": [], **more}
    return {"use": "rate_limit", "settings": {"limits": [limit]}}


def calls(limit: int, **more: Any) -> dict[str, Any]:
    return {"use": "rate_limit", "settings": {"limits": [{"name": "calls", "requests": limit, "period": LONG, **more}]}}


def slots(limit: int, **more: Any) -> dict[str, Any]:
    return {"use": "concurrency", "settings": {"limits": [{"name": "own", "calls": limit, **more}]}}


async def counted(running: Running, limit: int = MOST) -> list[int]:
    """What was counted of input and output."""
    claims = [RateClaim(f"rate.{kind}\x1ftokens", limit, LONG, 0) for kind in ("input", "output")]
    return [limit - grant.remaining for grant in await running.service.host.rates.take(claims)]


@pytest.fixture(params=["memory", "shared"])
def store(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def counters(store: str, redis_url: str) -> dict[str, Any]:
    return {"counters": {"url": redis_url if store == "shared" else "", "timeout": 5}}


@everywhere
@pytest.mark.parametrize("whole", [True, False])
async def test_tokens_are_settled_by_what_the_ledger_says_was_used(
    dialect: str, stream: bool, whole: bool, counters: dict[str, Any]
) -> None:
    more = {} if whole else {"providers": SLOW}
    async with served(dialect, stream, LOG, tokens(), slots(5, per=[]), **counters, **more) as client:
        if whole:
            assert (await client.ask())[0] == 200
        else:
            await hang_up(client, stream)
        line = await client.last_line()
        assert line["ending"] == ("complete" if whole else "client_gone")
        # Of a reply of which nothing came back the output is unknown: the claim, `max_tokens`, stays.
        used = [line["input_tokens"], 30 if line["output_tokens"] is None else line["output_tokens"]]

        async def settled() -> bool:
            return await counted(client.running) == used

        await until(settled)
        async with client.running.service.host.slots.hold([SlotClaim("slots\x1fown", 1, queue=1, wait=20)]):
            pass


async def hang_up(client: Client, stream: bool) -> None:
    if stream:
        async with client.post() as response:
            await response.content.readany()
            response.close()
        return
    asking = asyncio.create_task(client.ask())
    await until(lambda: _running(client, 1))
    asking.cancel()
    await asyncio.wait([asking])


async def _running(client: Client, count: int) -> bool:
    return len(client.running.service.live) == count


async def ask(session: aiohttp.ClientSession, running: Running, max_tokens: int = 30) -> tuple[int, dict[str, str]]:
    body = {"model": "demo", "max_tokens": max_tokens, "messages": [{"role": "user", "content": "Of the sea."}]}
    async with session.post(running.url + "/v1/chat/completions", json=body) as response:
        await response.read()
        return response.status, {name.lower(): value for name, value in response.headers.items()}


@asynccontextmanager
async def two(url: str, *plugins: dict[str, Any], **more: Any) -> AsyncIterator[tuple[Running, Running]]:
    config = demo_config(*plugins, counters={"url": url, "timeout": 5}, **more)
    async with gateway(config) as one, gateway(config) as other:
        yield one, other


async def test_two_gateways_that_race_never_let_through_more_calls_than_the_limit(redis_url: str) -> None:
    async with two(redis_url, calls(40)) as pair, aiohttp.ClientSession() as session:
        asked = await asyncio.gather(*(ask(session, pair[number % 2]) for number in range(160)))
    assert sorted(status for status, _ in asked) == [200] * 40 + [429] * 120
    assert {headers["x-ratelimit-remaining-requests"] for status, headers in asked if status == 429} == {"0"}


async def test_two_gateways_that_race_never_use_more_tokens_than_the_limit(redis_url: str) -> None:
    plugin = tokens(output_tokens=1000, input_tokens=20_000, estimate="most")
    async with two(redis_url, LOG, plugin) as pair, aiohttp.ClientSession() as session:
        asked = await asyncio.gather(*(ask(session, pair[number % 2], 30) for number in range(160)))
        lines = [line for running in pair for line in running.log.events("call")]
        used = sum(line["output_tokens"] or 0 for line in lines)
    assert {status for status, _ in asked} == {200, 429}
    assert 0 < used <= 1000


async def test_two_gateways_share_slots_and_the_queue(redis_url: str) -> None:
    slow = {"demo": {"dialect": "demo", "settings": {"tokens_per_second": 300, "first_token": 0}}}
    async with two(redis_url, slots(1, queue=20, wait=60), providers=slow) as pair, aiohttp.ClientSession() as session:
        asked = await asyncio.gather(*(ask(session, pair[number % 2]) for number in range(6)))
    assert [status for status, _ in asked] == [200] * 6


async def test_a_gateway_starts_without_its_store_and_says_so() -> None:
    url = f"redis://user:secret-word@127.0.0.1:{spare_port()}/0"
    config = demo_config(calls(1), counters={"url": url})
    denies = demo_config(calls(1, on_store_failure="deny"), counters={"url": url})
    async with gateway(config) as running, gateway(denies) as strict, aiohttp.ClientSession() as session:
        assert [(await ask(session, running))[0] for _ in range(2)] == [200, 429]
        status, headers = await ask(session, strict)
        assert status == 503
        assert headers["retry-after"] == "1"
        text = ""
        for path in ("/readyz", "/readyz?verbose"):
            async with session.get(running.admin_url + path) as response:
                text = await response.text()
                assert response.status == 200
                assert ("store of limits" in text) == ("verbose" in path)
        async with session.get(strict.admin_url + "/metrics") as response:
            metrics = await response.text()
        assert 'sidegate_counter_store_failures_total{operation="rates"} 1.0' in metrics
        said = f"{running.service.told}{text}".encode() + running.log.data
        assert b"127.0.0.1" in said
        assert b"secret-word" not in said


async def test_a_store_that_goes_and_comes_costs_calls_nothing_but_the_bound(
    redis_url: str, fault_proxy: Proxied
) -> None:
    proxy = await fault_proxy(redis_url)
    config = demo_config(calls(50), slots(50), counters={"url": proxy.url})
    async with gateway(config) as running, aiohttp.ClientSession() as session:
        assert (await ask(session, running))[0] == 200
        proxy.black_hole()
        asked = await asyncio.gather(*(ask(session, running) for _ in range(20)))
        assert {status for status, _ in asked} == {200}
        await proxy.heal()
        counters = running.service.counters
        await until(lambda: _is_up(running))
        assert counters.trouble is None
        assert (await ask(session, running))[0] == 200

        async def heard() -> bool:
            (grant,) = await running.service.host.rates.take([RateClaim("rate\x1fcalls\x1fanonymous", 50, LONG, 0)])
            return grant.remaining == 28

        await until(heard)
        assert len(running.log.events("counter_store_down")) == 1


async def _is_up(running: Running) -> bool:
    return running.service.counters.trouble is None


@pytest.mark.parametrize("url", ["http://x", "redis://:hush@", "redis://:hush@h:port"])
def test_a_wrong_url_is_a_mistake_with_its_place_and_without_the_password(url: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read_mapping({**demo_config(), "counters": {"url": url}}, {}, Path())
    assert "counters" in str(refused.value)
    assert "hush" not in str(refused.value)


async def drops(exchange: Exchange) -> None:
    """Takes the request, and hangs up."""
    exchange.reset()


async def test_a_retry_that_may_pass_the_limit_is_refused_before_its_provider_is_reached() -> None:
    async with scripted(drops) as provider:
        limit = tokens(output_tokens=100, estimate="most")
        retry = {"attempts": 3, "base": 0.001}
        config = leads_to(provider.url, plugins=(LOG, limit))
        config["providers"]["p0"]["retry"] = retry
        async with gateway(config) as running, aiohttp.ClientSession() as session:
            body = {"model": "m", "max_tokens": 60, "messages": [{"role": "user", "content": "Of the sea."}]}
            async with session.post(running.url + "/v1/chat/completions", json=body) as response:
                told = await response.json()
                status = response.status
            (line,) = running.log.events("call")
            # Nobody knows what the first try used: all that it claimed stays counted.
            assert (await counted(running, 100))[1] == 60
    assert (status, told["error"]["code"]) == (429, "rate_limit_exceeded")
    assert len(provider.exchanges) == 1
    assert (line["error"], line["plugin"]) == ("rate_limit_exceeded", "rate_limit")
