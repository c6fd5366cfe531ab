"""Four phases on one object: provider, model, route and client, each with its own word for what took too long."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidegate.contract.timeouts import PHASES, Patience, TimeoutChanges, Timeouts, asked_for
from sidegate.errors import BadRequest
from sidegate.testing import Exchange, gateway, scripted
from tests.relaying import ROLE, answers, chat, delta, leads_to

both = pytest.mark.parametrize("stream", [True, False], ids=["stream", "buffered"])


def test_the_route_goes_before_the_model_and_the_model_before_the_provider() -> None:
    provider = Timeouts(connect=1, first_token=2, idle=3, total=4)
    model = provider.changed(TimeoutChanges(idle=30, total=40))
    assert Patience(route=TimeoutChanges(total=400)).of(model) == Timeouts(connect=1, first_token=2, idle=30, total=400)


seconds = st.floats(0.001, 86_400)
changes = st.builds(TimeoutChanges, **{phase: st.none() | seconds for phase in PHASES})


@given(st.builds(Timeouts, **dict.fromkeys(PHASES, seconds)), changes, changes, changes)
def test_a_client_never_gets_more_than_it_may_ask_for(
    configured: Timeouts, route: TimeoutChanges, client: TimeoutChanges, bounds: TimeoutChanges
) -> None:
    given_ = Patience(route, client, bounds).of(configured)
    most = configured.changed(route).changed(bounds)
    for phase in PHASES:
        wished = getattr(client, phase)
        got = getattr(given_, phase)
        assert got == (
            getattr(configured.changed(route), phase) if wished is None else min(wished, getattr(most, phase))
        )


@pytest.mark.parametrize(
    "text", ["", "first_token", "first_token=0", "idle=-1", "total=nan", "total=1e9", "speed=1", "a"]
)
def test_a_wish_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(BadRequest) as refusal:
        asked_for({"x-sidegate-timeouts": text})
    assert (refusal.value.status, refusal.value.code) == (400, "invalid_timeouts")


async def silent(exchange: Exchange) -> None:
    await exchange.closed.wait()


async def silent_body(exchange: Exchange) -> None:
    await exchange.head(Transfer_Encoding="chunked")
    await exchange.closed.wait()


async def stalls(exchange: Exchange) -> None:
    await exchange.head(Transfer_Encoding="chunked")
    await exchange.chunk(ROLE + delta(content="x"))
    await exchange.closed.wait()


async def trickles(exchange: Exchange) -> None:
    await exchange.head(Transfer_Encoding="chunked")
    while not exchange.closed.is_set():
        await exchange.chunk(delta(content="x"))
        await asyncio.sleep(0.02)


def once(url: str, **timeouts: float) -> Any:
    config = leads_to(url)
    config["providers"]["p0"] |= {"timeouts": timeouts, "retry": {"attempts": 1}}
    return config


@pytest.mark.parametrize(
    ("script", "timeouts", "code", "ending"),
    [
        (silent, {"first_token": 0.2}, "first_token_timeout", "timed_out"),
        (silent_body, {"first_token": 0.2}, "first_token_timeout", "timed_out"),
        (silent, {"total": 0.2}, "total_timeout", "timed_out"),
    ],
)
@both
async def test_a_silent_provider_is_noticed(
    http: aiohttp.ClientSession, script: Any, timeouts: dict[str, float], code: str, ending: str, stream: bool
) -> None:
    async with scripted(script) as provider, gateway(once(provider.url, **timeouts)) as running:
        async with http.post(running.url + "/v1/chat/completions", json=chat(stream)) as reply:
            assert (reply.status, (await reply.json())["error"]["code"]) == (504, code)
        async with asyncio.timeout(10):
            await provider.exchanges[0].closed.wait()
        record = await running.service.ledger.call(reply.headers["x-request-id"])
    assert record is not None
    assert (record[0].ending, record[0].error, record[1][0].error) == (ending, code, code)
    counted = running.service.metrics.registry.get_sample_value
    assert counted("sidegate_attempts_total", {"provider": "p0", "error_type": code}) == 1


@pytest.mark.parametrize(
    ("script", "timeouts", "code", "ending"),
    [
        (stalls, {"idle": 0.2}, "idle_timeout", "stalled"),
        (trickles, {"total": 0.3, "idle": 0.2}, "total_timeout", "timed_out"),
    ],
)
async def test_a_stream_that_stalls_or_never_ends_is_cut_by_an_error_event(
    http: aiohttp.ClientSession, script: Any, timeouts: dict[str, float], code: str, ending: str
) -> None:
    async with scripted(script) as provider, gateway(once(provider.url, **timeouts)) as running:
        async with http.post(running.url + "/v1/chat/completions", json=chat(True)) as reply:
            text = await reply.text()
        record = await running.service.ledger.call(reply.headers["x-request-id"])
    assert f'"code":"{code}"' in text
    assert "[DONE]" not in text
    assert record is not None
    assert (record[0].ending, record[0].error) == (ending, code)
    assert record[0].output_tokens


async def test_model_and_route_change_the_providers_timeouts(http: aiohttp.ClientSession) -> None:
    async with scripted(silent) as provider:
        config = once(provider.url)
        config["models"] = {
            "m": {"provider": "p0", "model": "real", "timeouts": {"first_token": 0.1}},
            "n": {"provider": "p0", "model": "real"},
        }
        config["routes"] = [
            {"name": "short", "pipeline": "main", "prefix": "/short", "timeouts": {"total": 0.1}},
            {"name": "plain", "pipeline": "main"},
        ]
        async with gateway(config) as running:
            for path, model, code in (("", "m", "first_token_timeout"), ("/short", "n", "total_timeout")):
                asked = {**chat(), "model": model}
                async with http.post(f"{running.url}{path}/v1/chat/completions", json=asked) as reply:
                    assert (await reply.json())["error"]["code"] == code


async def test_a_client_may_ask_for_less_time(http: aiohttp.ClientSession) -> None:
    async with scripted(silent) as provider, gateway(once(provider.url)) as running:
        wish = {"x-sidegate-timeouts": "first_token=0.1"}
        async with http.post(running.url + "/v1/chat/completions", json=chat(True), headers=wish) as reply:
            assert (await reply.json())["error"]["code"] == "first_token_timeout"
        wish = {"x-sidegate-timeouts": "soon"}
        async with http.post(running.url + "/v1/messages", json=chat(), headers=wish) as reply:
            assert (reply.status, (await reply.json())["error"]["type"]) == (400, "invalid_request_error")


async def test_a_slow_reader_is_not_taken_for_a_slow_provider(http: aiohttp.ClientSession) -> None:
    """The provider says all at once, the reader takes its time: no phase is over while it is the reader's turn."""

    async def plenty(exchange: Exchange) -> None:
        await exchange.head(Transfer_Encoding="chunked")
        for _ in range(400):
            await exchange.chunk(delta(content="x" * 20_000))
        await answers_end(exchange)

    async def answers_end(exchange: Exchange) -> None:
        await exchange.chunk(delta("stop") + b"data: [DONE]\n\n")
        await exchange.chunk(b"")

    async with scripted(plenty) as provider, gateway(once(provider.url, idle=0.3)) as running:
        async with http.post(running.url + "/v1/chat/completions", json=chat(True)) as reply:
            await reply.content.readany()
            await asyncio.sleep(1)
            assert (await reply.read()).endswith(b"data: [DONE]\n\n")


async def test_a_timeout_before_anything_was_said_goes_to_the_next_target(http: aiohttp.ClientSession) -> None:
    async with scripted(silent) as first, scripted(answers) as second:
        config = leads_to(first.url, second.url)
        config["providers"]["p0"]["timeouts"] = {"first_token": 0.1}
        async with gateway(config) as running:
            async with http.post(running.url + "/v1/chat/completions", json=chat(True)) as reply:
                assert (await reply.read()).endswith(b"data: [DONE]\n\n")
