"""Weights, keys, circuits and bounds in a running gateway: what each provider's socket got."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from sidegate.testing import Exchange, ScriptedProvider, gateway, scripted
from tests.relaying import answers
from tests.upstream.scene import HandClock
from tests.upstream.site import QUICK, Script, both, dialects, in_turn, metric, post, replies, resets, site

# --- weights ----------------------------------------------------------------------------------------------------------


async def test_calls_are_spread_by_weight(http: aiohttp.ClientSession) -> None:
    targets = [{"provider": "p0", "model": "real", "weight": 3}, {"provider": "p1", "model": "real", "weight": 1}]
    async with site(answers, answers, models={"strategy": "weighted", "targets": targets}) as (running, providers):
        running.service.random.seed(4)
        for _ in range(40):
            assert (await post(http, running, "/v1/chat/completions", False))[0] == 200
    counts = [len(provider.exchanges) for provider in providers]
    assert sum(counts) == 40
    assert 22 <= counts[0] <= 38


# --- keys -------------------------------------------------------------------------------------------------------------


def by_key(**scripts: Script) -> Script:
    """A script for each key, by its last word."""

    async def script(exchange: Exchange) -> None:
        await scripts[exchange.headers["authorization"].rpartition("-")[2]](exchange)

    return script


def keys(provider: ScriptedProvider) -> list[str]:
    return [exchange.headers["authorization"].rpartition("-")[2] for exchange in provider.exchanges]


SEVERAL = {"api_key": "", "api_keys": ["sk-one", "sk-two", "sk-three"]}


async def test_keys_are_used_in_turn(http: aiohttp.ClientSession) -> None:
    async with site(answers, settings=SEVERAL) as (running, (provider,)):
        for _ in range(4):
            await post(http, running, "/v1/chat/completions", False)
    assert keys(provider) == ["one", "two", "three", "one"]


@both
@pytest.mark.parametrize(("status", "reason"), [(401, "auth"), (403, "auth"), (429, "rate_limit")])
async def test_a_key_that_is_turned_away_rests_and_another_answers(
    http: aiohttp.ClientSession, stream: bool, status: int, reason: str
) -> None:
    script = by_key(one=replies(status), two=answers, three=answers)
    async with site(script, settings=SEVERAL) as (running, (provider,)):
        for _ in range(4):
            said, text, _ = await post(http, running, "/v1/chat/completions", stream)
            assert (said, "é" in text) == (200, True)
        rested = await metric(http, running, f'sidegate_provider_key_rests_total{{provider="p0",reason="{reason}"}}')
        async with http.get(running.admin_url + "/metrics") as reply:
            page = await reply.text()
    assert keys(provider) == ["one", "two", "three", "two", "three"]
    assert rested == 1
    assert "sk-" not in page


async def test_a_resting_key_that_works_again_is_used_again(http: aiohttp.ClientSession) -> None:
    async with site(in_turn(replies(401), answers), in_turn(answers, replies(500), replies(500), answers)) as (
        running,
        (first, second),
    ):
        asked = []
        for _ in range(3):
            assert (await post(http, running, "/v1/chat/completions", False))[0] == 200
            asked.append((len(first.exchanges), len(second.exchanges)))
    assert asked == [(1, 1), (2, 3), (3, 3)]


async def test_an_anthropic_provider_gets_each_key_in_its_own_header(http: aiohttp.ClientSession) -> None:
    async with scripted(replies(401)) as provider:
        config = {
            "providers": {
                "p": {"dialect": "anthropic", "base_url": provider.url, "api_keys": ["k-1", "k-2"], "retry": QUICK}
            },
            "models": {"m": {"provider": "p"}},
            "pipelines": {"main": {}},
        }
        async with gateway(config) as running:
            status, text, headers = await post(http, running, "/v1/messages", False)
    assert [exchange.headers["x-api-key"] for exchange in provider.exchanges] == ["k-1", "k-2"]
    assert "authorization" not in provider.exchanges[0].headers
    assert (status, headers["x-should-retry"]) == (502, "false")
    assert "k-1" not in text


# --- circuits, bounds, dead connections -------------------------------------------------------------------------------


async def test_a_failing_target_is_left_alone_and_asked_again_in_time(http: aiohttp.ClientSession) -> None:
    clock = HandClock()
    settings = {"retry": {"attempts": 1}, "circuit": {"min_calls": 3, "open_seconds": 10}}
    gauge = 'sidegate_target_open{model="real",provider="p0"}'
    async with site(replies(500), answers, clock=clock, settings=settings) as (running, (first, second)):
        assert await metric(http, running, gauge) == 0
        for _ in range(5):
            assert (await post(http, running, "/v1/chat/completions", True))[0] == 200
        assert (len(first.exchanges), len(second.exchanges)) == (3, 5)
        assert await metric(http, running, gauge) == 1
        first.script = answers
        clock.at += 10
        assert (await post(http, running, "/v1/chat/completions", True))[0] == 200
        assert (len(first.exchanges), len(second.exchanges)) == (4, 5)
        assert await metric(http, running, gauge) == 0


@dialects
@both
async def test_when_every_target_is_left_alone_clients_hear_503_and_when(
    http: aiohttp.ClientSession, path: str, stream: bool
) -> None:
    settings = {"retry": {"attempts": 1}, "circuit": {"min_calls": 2, "open_seconds": 10}}
    async with site(replies(500), clock=HandClock(), settings=settings) as (running, (provider,)):
        for _ in range(2):
            await post(http, running, path, stream)
        status, text, headers = await post(http, running, path, stream)
    assert (status, headers["Retry-After"]) == (503, "10")
    assert "x-should-retry" not in headers
    assert "unavailable" in text
    assert len(provider.exchanges) == 2


async def test_a_provider_that_is_full_is_not_asked_and_the_next_one_is(http: aiohttp.ClientSession) -> None:
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def slow(exchange: Exchange) -> None:
        reached.set()
        await go_on.wait()
        await answers(exchange)

    async with site(slow, answers, settings={"max_connections": 1}) as (running, (first, second)):
        waiting = asyncio.create_task(post(http, running, "/v1/chat/completions", False))
        await reached.wait()
        status, _, headers = await post(http, running, "/v1/chat/completions", True)
        async with http.get(f"{running.url}/v1/calls/{headers['x-request-id']}") as reply:
            record = await reply.json()
        go_on.set()
        assert (await waiting)[0] == 200
    assert status == 200
    assert (len(first.exchanges), len(second.exchanges)) == (1, 1)
    assert [attempt["error"] for attempt in record["attempts"]] == ["provider_busy", None]
    assert record["attempts"][0]["cost_nano_usd"] in (0, None)


async def test_a_full_provider_that_is_the_only_one_is_not_asked_twice(http: aiohttp.ClientSession) -> None:
    reached = asyncio.Event()

    async def silent(exchange: Exchange) -> None:
        reached.set()
        await exchange.closed.wait()

    async with site(silent, settings={"max_connections": 1}) as (running, (provider,)):
        waiting = asyncio.create_task(post(http, running, "/v1/chat/completions", False))
        await reached.wait()
        status, text, headers = await post(http, running, "/v1/chat/completions", False)
        waiting.cancel()
    assert (status, headers["Retry-After"]) == (503, "1")
    assert '"code":"provider_busy"' in text
    assert len(provider.exchanges) == 1


@both
async def test_a_request_on_a_dead_kept_connection_is_sent_again_and_is_one_attempt(
    http: aiohttp.ClientSession, stream: bool
) -> None:
    async def answers_whole(exchange: Exchange) -> None:
        await answers(exchange)

    script = in_turn(answers_whole, resets, answers)
    async with site(script, settings={"retry": {"attempts": 1}}) as (running, (provider,)):
        await post(http, running, "/v1/chat/completions", False)
        status, _, headers = await post(http, running, "/v1/chat/completions", stream)
        async with http.get(f"{running.url}/v1/calls/{headers['x-request-id']}") as reply:
            record = await reply.json()
        reconnects = await metric(http, running, "sidegate_provider_reconnects_total")
    assert status == 200
    assert len(provider.exchanges) == 3
    assert [attempt["error"] for attempt in record["attempts"]] == [None]
    assert reconnects == 1
