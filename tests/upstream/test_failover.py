"""Failover and retries in a running gateway: what each provider's socket got, and what the client read."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import msgspec
import pytest

from sidegate.testing import Exchange, gateway, scripted
from sidegate.upstream.router import Router
from tests.relaying import ROLE, answers, delta, event
from tests.upstream.site import QUICK, Script, both, dialects, in_turn, post, replies, resets, site


async def cut_off(exchange: Exchange) -> None:
    """The lead-in and half of an event, or half of a body."""
    if exchange.json.get("stream"):
        await exchange.head(Transfer_Encoding="chunked")
        await exchange.chunk(ROLE + b'data: {"id":"c1"')
    else:
        await exchange.head(200, "application/json", Content_Length="500")
        await exchange.send(b'{"id":')
    exchange.reset()


async def overloaded_inside(exchange: Exchange) -> None:
    """A 200, its lead-in, and then that nothing comes."""
    if exchange.json.get("stream"):
        await exchange.stream(ROLE, event({"error": {"message": "overloaded", "code": 503}}))
    else:
        await exchange.reply(b'{"error":{"message":"overloaded","code":503}}')


async def anthropic_overloaded(exchange: Exchange) -> None:
    """As recorded traffic has it: `message_start` and `ping`, then `overloaded_error`."""
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    if not exchange.json.get("stream"):
        await exchange.reply(msgspec.json.encode(error), 529)
        return
    message: dict[str, Any] = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 5, "output_tokens": 1},
    }
    await exchange.stream(
        event({"type": "message_start", "message": message}, "message_start"),
        event({"type": "ping"}, "ping"),
        event(error, "error"),
    )


# --- failover ---------------------------------------------------------------------------------------------------------

FAILURES: dict[str, tuple[Script, int]] = {
    "500": (replies(500), 2),
    "503": (replies(503), 1),
    "429": (replies(429), 1),
    "429-long": (replies(429, Retry_After="3600"), 1),
    "no-quota": (replies(429, b'{"error":{"message":"no","code":"insufficient_quota"}}'), 1),
    "401": (replies(401), 1),
    "html": (replies(502, b"<html>", content_type="text/html"), 2),
    "not-json": (replies(200, b"<html>"), 2),
    "empty": (replies(200, b""), 2),
    "reset": (resets, 2),
    "cut-off": (cut_off, 2),
    "overloaded-inside": (overloaded_inside, 1),
}


@dialects
@both
@pytest.mark.parametrize("failure", FAILURES)
async def test_the_next_provider_answers_and_nothing_of_the_first_is_heard(
    http: aiohttp.ClientSession, path: str, stream: bool, failure: str
) -> None:
    script, times = FAILURES[failure]
    async with site(script, answers) as (running, (first, second)):
        status, text, _ = await post(http, running, path, stream)
    assert status == 200
    assert "é" in text
    assert "error" not in text
    assert text.count('"role":"assistant"') == 1
    assert len(first.exchanges) == times
    assert len(second.exchanges) == 1
    assert {exchange.json["model"] for exchange in (*first.exchanges, *second.exchanges)} == {"real"}


@dialects
@both
async def test_an_overload_after_an_anthropic_lead_in_fails_over_too(
    http: aiohttp.ClientSession, path: str, stream: bool
) -> None:
    async with scripted(anthropic_overloaded) as claude, scripted(answers) as other:
        config = {
            "providers": {
                "claude": {"dialect": "anthropic", "base_url": claude.url, "api_key": "k", "retry": QUICK},
                "other": {"dialect": "openai", "base_url": other.url, "api_key": "k", "retry": QUICK},
            },
            "models": {"m": [{"provider": "claude", "model": "real"}, {"provider": "other", "model": "real"}]},
            "pipelines": {"main": {}},
        }
        async with gateway(config) as running:
            status, text, _ = await post(http, running, path, stream)
    assert status == 200
    assert "é" in text
    assert "verloaded" not in text
    assert text.count('"type":"message_start"') == (1 if stream and path == "/v1/messages" else 0)
    assert (len(claude.exchanges), len(other.exchanges)) == (1, 1)


@both
async def test_a_provider_that_is_not_there_is_passed_over(http: aiohttp.ClientSession, stream: bool) -> None:
    async with site(answers, answers) as (running, (first, second)):
        running.service.upstreams["p0"].provider._host._base = "http://127.0.0.1:1"  # type: ignore[attr-defined]
        status, _, headers = await post(http, running, "/v1/chat/completions", stream)
        async with http.get(f"{running.url}/v1/calls/{headers['x-request-id']}") as reply:
            record = await reply.json()
    assert status == 200
    assert (len(first.exchanges), len(second.exchanges)) == (0, 1)
    assert [(a["provider"], a["error"]) for a in record["attempts"]] == [("p0", "provider_unreachable"), ("p1", None)]


@both
async def test_a_provider_that_says_nothing_in_time_is_passed_over(http: aiohttp.ClientSession, stream: bool) -> None:
    async def silent(exchange: Exchange) -> None:
        await exchange.closed.wait()

    async with site(silent, answers, settings={"timeouts": {"first_token": 0.2}}) as (running, (first, second)):
        status, text, _ = await post(http, running, "/v1/chat/completions", stream)
    assert status == 200
    assert "é" in text
    assert (len(first.exchanges), len(second.exchanges)) == (1, 1)
    assert first.exchanges[0].closed.is_set()


async def test_a_lead_in_that_does_not_end_is_not_kept_for_ever(http: aiohttp.ClientSession) -> None:
    async def babbles(exchange: Exchange) -> None:
        padded = delta(role="assistant", content="", padding="x" * 8000)
        await exchange.stream(*[padded] * 80, event({"error": {"message": "overloaded", "code": 503}}))

    async with site(babbles, answers) as (running, (_, second)):
        _, text, _ = await post(http, running, "/v1/chat/completions", True)
    assert text.count('"role":"assistant"') == 80
    assert '"code":"provider_overloaded"' in text
    assert second.exchanges == []


async def test_after_something_was_said_nobody_else_is_asked(http: aiohttp.ClientSession) -> None:
    async def stops(exchange: Exchange) -> None:
        await exchange.stream(ROLE, delta(content="x"), event({"error": {"message": "overloaded", "code": 503}}))

    async with site(stops, answers) as (running, (first, second)):
        _, text, _ = await post(http, running, "/v1/chat/completions", True)
    assert '"code":"provider_overloaded"' in text
    assert (len(first.exchanges), len(second.exchanges)) == (1, 0)


# --- what the client is told ------------------------------------------------------------------------------------------


@dialects
@both
async def test_a_callers_own_mistake_is_told_at_once(http: aiohttp.ClientSession, path: str, stream: bool) -> None:
    async with site(replies(400, b'{"error":{"message":"too long"}}'), answers) as (running, (first, second)):
        status, text, headers = await post(http, running, path, stream)
    assert status == 400
    assert "too long" in text
    assert "x-should-retry" not in headers
    assert (len(first.exchanges), len(second.exchanges)) == (1, 0)


@dialects
@both
async def test_when_all_fail_sdks_are_told_when_and_whether(
    http: aiohttp.ClientSession, path: str, stream: bool
) -> None:
    async with site(replies(429, Retry_After="30"), replies(500)) as (running, (first, second)):
        status, _, headers = await post(http, running, path, stream)
    assert (status, headers["Retry-After"], headers["x-should-retry"]) == (429, "30", "false")
    assert (len(first.exchanges), len(second.exchanges)) == (1, 2)


@both
async def test_a_short_retry_after_is_waited_for(http: aiohttp.ClientSession, stream: bool) -> None:
    script = in_turn(replies(429, retry_after_ms="300"), answers)
    async with site(script) as (running, (provider,)):
        before = asyncio.get_running_loop().time()
        status, _, _ = await post(http, running, "/v1/chat/completions", stream)
        took = asyncio.get_running_loop().time() - before
    assert status == 200
    assert took > 0.2
    assert len(provider.exchanges) == 2


async def test_a_client_that_leaves_during_a_pause_is_not_retried_for(
    http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = asyncio.Event()

    async def wait(router: Router, due: float) -> None:
        waiting.set()
        await asyncio.get_running_loop().create_future()

    monkeypatch.setattr(Router, "_wait", wait)
    async with site(replies(500)) as (running, (provider,)):
        asking = asyncio.create_task(post(http, running, "/v1/chat/completions", True))
        await waiting.wait()
        (live,) = running.service.live._calls.values()
        asking.cancel()
        async with asyncio.timeout(5):
            await live.done
    assert live.reply is not None
    assert live.reply.ending.value == "client_gone"
    assert len(provider.exchanges) == 1
