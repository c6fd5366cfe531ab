"""A guard through a gateway: in every dialect, with a real endpoint that moderates, and its money."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from sidegate.testing import (
    MISBEHAVIOURS,
    PLUGIN_CHECKS,
    Exchange,
    Running,
    ScriptedProvider,
    check_plugin,
    closed_port,
    gateway,
    scripted,
)
from sidegate.testing.voices import USED, VOICES
from sidegate_plugins.guard import Guard, Settings
from tests.plugins.guarded import BROKEN, CLIENTS, answers, asked, chat, messages, said, serving
from tests.relaying import leads_to

both = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
CLEAN_ENDS = ("[DONE]", "message_stop", '"STOP"', "response.completed", '"finish"')
DENY: dict[str, Any] = {"use": "guard", "settings": {"deny": {"bombs": r"(?i)pipe\s?bomb"}}}
PAIRS = [*((name, name) for name in VOICES), ("page", "openai"), ("openai", "gemini"), ("anthropic", "openai")]


def moderated(url: str, **more: Any) -> dict[str, Any]:
    kept = {name: more.pop(name) for name in ("timeout", "kind", "key_file") if name in more}
    return {"use": "guard", "settings": {"moderation": {"url": url + "/v1/moderations", **kept}, **more}}


async def moderator(exchange: Exchange) -> None:
    """Flags what has `kill` in it."""
    found = ["kill" in text for text in exchange.json["input"]]
    results = [{"flagged": each, "categories": {"violence": each}, "category_scores": {}} for each in found]
    await exchange.reply(json.dumps({"id": "modr-1", "model": "omni", "results": results}).encode())


@asynccontextmanager
async def judged(
    script: Any, *, dialect: str = "openai", **more: Any
) -> AsyncIterator[tuple[Running, ScriptedProvider, ScriptedProvider, aiohttp.ClientSession]]:
    async with scripted(moderator) as endpoint:
        async with serving(script, moderated(endpoint.url, **more), dialect=dialect) as (running, told, http):
            yield running, told, endpoint, http


async def gone(running: Running) -> None:
    """Until no call is under way."""
    for call in running.service.live.all():
        await asyncio.wait([call.ended()])


# --- requests ---------------------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("client", CLIENTS)
async def test_a_request_is_denied_in_every_dialect_and_nobody_is_asked(client: str, stream: bool) -> None:
    async with serving(answers("openai", "never"), DENY) as (running, told, http):
        status, text, call_id = await asked(http, *CLIENTS[client]("Build a Pipe Bomb", stream))
        found = await running.service.ledger.call(call_id)
        assert running.log.events("guard_denied")[0] | {"time": 0} == {
            "time": 0, "event": "guard_denied", "call": call_id, "stage": "request", "rule": "bombs"
        }  # fmt: skip
        assert "ipe" not in running.log.data.decode()
    assert status == 400
    assert "`bombs`" in text
    assert "Pipe" not in text
    assert not told.exchanges
    assert found is not None
    assert (found[0].ending, found[0].error, found[1]) == ("refused", "content_filter", ())


# --- replies ----------------------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize(("client", "provider"), PAIRS)
async def test_a_reply_that_may_pass_reaches_every_client(client: str, provider: str, stream: bool) -> None:
    words = "A pipe. Nothing else, really. " * 5
    async with judged(answers(provider, words), dialect=provider, every=20, window=50, **DENY["settings"]) as parts:
        running, _, endpoint, http = parts
        status, text, call_id = await asked(http, *CLIENTS[client]("hi", stream))
        found = await running.service.ledger.call(call_id)
    assert status == 200, text
    assert words in said(text)
    assert any(end in text for end in CLEAN_ENDS) or not stream
    assert len(endpoint.exchanges) > 3 if stream else len(endpoint.exchanges) == 2
    assert found is not None
    assert (found[1][0].input_tokens, found[1][0].output_tokens) == USED


@pytest.mark.parametrize(("client", "provider"), PAIRS)
async def test_a_stream_is_stopped_in_every_dialect_and_what_was_said_is_billed(client: str, provider: str) -> None:
    script = answers(provider, "First this. And then a pipe bomb", stays=True)
    async with serving(script, DENY, dialect=provider) as (running, told, http):
        status, text, call_id = await asked(http, *CLIENTS[client]("hi", True))
        found = await running.service.ledger.call(call_id)
        async with asyncio.timeout(10):
            await told.exchanges[0].closed.wait()
    assert status == 200
    assert "First this. And then a " in said(text)
    assert "pipe" not in text
    assert "`bombs`" in text
    assert not any(end in text for end in CLEAN_ENDS)
    assert found is not None
    assert (found[0].ending, found[0].error) == ("refused", "content_filter")
    (attempt,) = found[1]
    assert attempt.output_tokens
    assert attempt.estimated


@pytest.mark.parametrize(("client", "provider"), PAIRS)
async def test_a_stream_that_is_denied_before_its_first_byte_is_no_stream(client: str, provider: str) -> None:
    async with judged(answers(provider, "They kill."), dialect=provider) as (running, _, _, http):
        status, text, call_id = await asked(http, *CLIENTS[client]("hi", True))
        found = await running.service.ledger.call(call_id)
    assert status == 400, text
    assert "`violence`" in text
    assert "kill" not in text
    assert "data:" not in text
    assert found is not None
    assert found[1][0].output_tokens


@pytest.mark.parametrize(("client", "provider"), PAIRS)
async def test_a_whole_reply_is_denied_in_every_dialect(client: str, provider: str) -> None:
    async with judged(answers(provider, "They kill."), dialect=provider) as (running, _, _, http):
        status, text, call_id = await asked(http, *CLIENTS[client]("hi", False))
        found = await running.service.ledger.call(call_id)
    assert status == 400
    assert "`violence`" in text
    assert "kill" not in text
    assert found is not None
    assert (found[1][0].input_tokens, found[1][0].output_tokens) == USED


async def test_a_guard_of_requests_lets_the_bytes_of_replies_pass() -> None:
    only = {"use": "guard", "settings": {**DENY["settings"], "check": "request"}}
    async with serving(answers("openai", "a pipe bomb"), only) as (_, _, http):
        _, text, _ = await asked(http, *chat("hi", True))
    voice = VOICES["openai"]
    assert text.startswith(b"".join(voice.begins(*"a pipe bomb")).decode())


async def test_nothing_passes_while_the_endpoint_thinks() -> None:
    """Of a stream whose second sentence is being judged, the first has come and no more."""
    thinks, go = asyncio.Event(), asyncio.Event()

    async def slow(exchange: Exchange) -> None:
        if "Second" in exchange.json["input"][0]:
            thinks.set()
            await go.wait()
        await moderator(exchange)

    async with scripted(slow) as endpoint:
        guard = moderated(endpoint.url, check="reply", every=1, timeout=8)
        async with serving(answers("openai", "First. Second.", parted=True), guard) as (_, _, http):
            path, body = chat("hi", True)
            async with asyncio.timeout(20), http.post(path, json=body) as reply:
                text = ""
                await thinks.wait()
                while "." not in said(text) and not reply.content.at_eof():
                    text += (await reply.content.readany()).decode()
                assert said(text) == "First."
                go.set()
                text += await reply.text()
    assert said(text) == "First. Second."
    assert "[DONE]" in text


# --- endpoints that fail ----------------------------------------------------------------------------------------------


async def closes(exchange: Exchange) -> None:
    exchange.close()


async def redirects(exchange: Exchange) -> None:
    await exchange.reply(b"{}", 302, Location="http://127.0.0.1:1/")


async def fails(exchange: Exchange) -> None:
    await exchange.reply(b'{"results": [{"flagged": false}]}', 500)


async def garbles(exchange: Exchange) -> None:
    await exchange.reply(b"<html>fine</html>", content_type="text/html")


async def floods(exchange: Exchange) -> None:
    await exchange.reply(b'{"results": [{"flagged": false}]}' + b" " * 2**21)


async def sleeps(exchange: Exchange) -> None:
    await exchange.closed.wait()


@pytest.mark.parametrize("script", [closes, redirects, fails, garbles, floods, sleeps])
async def test_an_endpoint_that_gives_no_verdict_lets_nothing_pass(script: Any) -> None:
    async with scripted(script) as endpoint:
        guards = [moderated(endpoint.url, timeout=0.5, check=check) for check in ("request", "reply")]
        for guard in guards:
            async with serving(answers("openai", "Fine."), guard) as (_, told, http):
                for stream in (True, False):
                    status, text, _ = await asked(http, *chat("hi", stream))
                    assert status == 503
                    assert '"code":"moderation_unavailable"' in text
                    assert "Fine" not in text
                assert bool(told.exchanges) is (guard["settings"]["check"] == "reply")


async def test_an_endpoint_that_is_not_there_lets_nothing_pass() -> None:
    async with serving(answers("openai", "Fine."), moderated(closed_port())) as (_, told, http):
        status, text, _ = await asked(http, *messages("hi", True))
    assert status == 503
    assert "Fine" not in text
    assert not told.exchanges


async def test_an_endpoint_that_fails_in_the_midst_ends_the_stream() -> None:
    async def once(exchange: Exchange) -> None:
        await (moderator if "Second" not in exchange.json["input"][0] else garbles)(exchange)

    async with scripted(once) as endpoint:
        guard = moderated(endpoint.url, check="reply", every=1)
        async with serving(answers("openai", "First. Second.", parted=True), guard) as (running, _, http):
            status, text, call_id = await asked(http, *chat("hi", True))
            found = await running.service.ledger.call(call_id)
    assert (status, said(text)) == (200, "First.")
    assert '"code":"moderation_unavailable"' in text
    assert "[DONE]" not in text
    assert found is not None
    assert found[0].error == "moderation_unavailable"


@pytest.mark.parametrize("check", PLUGIN_CHECKS)
async def test_it_keeps_the_contract(check: str) -> None:
    await check_plugin(check, Guard, Settings(deny={"never": "never-said"}))


# --- the rest ---------------------------------------------------------------------------------------------------------


@both
async def test_whatever_a_provider_does_wrong_it_ends_as_it_would_without(stream: bool) -> None:
    """By the same status, ending and error. What was held of a stream that broke is not told."""
    for number, name in enumerate(BROKEN):
        dialect = sorted(VOICES)[number % len(VOICES)]
        async with scripted(MISBEHAVIOURS[name](dialect)) as provider, scripted(moderator) as endpoint:
            config = leads_to(provider.url, dialect=dialect, plugins=(moderated(endpoint.url, every=1, check="reply"),))
            config["providers"]["p0"] |= {"circuit": None, "retry": {"attempts": 1}}
            config["pipelines"]["bare"] = {}
            config["routes"] = [
                {"name": "bare", "prefix": "/bare", "pipeline": "bare"},
                {"name": "main", "pipeline": "main"},
            ]
            async with gateway(config) as running, aiohttp.ClientSession(running.url) as http:
                path, body = chat("hi", stream)
                ends, texts = [], []
                for prefix in ("/bare", ""):
                    status, text, call_id = await asked(http, prefix + path, body)
                    found = await running.service.ledger.call(call_id)
                    assert found is not None
                    ends.append((found[0].ending, found[0].error))
                    texts.append((status, said(text)))
        assert ends[0] == ends[1], (name, dialect)
        assert texts[0][1].startswith(texts[1][1]), (name, dialect)
        if ends[0][0] == "complete":
            assert texts[0] == texts[1], (name, dialect)


@both
async def test_a_job_is_judged_where_it_runs(stream: bool) -> None:
    path, body = chat("hi", stream)
    jobs = {"batch_seconds": 0.01}
    async with serving(answers("openai", "A pipe bomb", "Fine."), DENY, jobs=jobs) as (_, _, http):
        for text in ("content_filter", "Fine."):
            async with http.post(path, json=body, headers={"Prefer": "respond-async, wait=20"}) as reply:
                assert reply.status != 202
                told = await reply.text()
                assert text in told or text in said(told)
                assert "pipe" not in told


async def test_a_client_that_leaves_while_the_endpoint_thinks_frees_everything() -> None:
    thinks = asyncio.Event()

    async def hangs(exchange: Exchange) -> None:
        if "Fine" in exchange.json["input"][0]:
            thinks.set()
            await exchange.closed.wait()
            return
        await moderator(exchange)

    async with scripted(hangs) as endpoint:
        guard = moderated(endpoint.url, every=1, timeout=8)
        async with serving(answers("openai", "Fine. More.", stays=True), guard) as (running, told, http):
            path, body = chat("hi", True)
            asking = asyncio.ensure_future(asked(http, path, body))
            async with asyncio.timeout(10):
                await thinks.wait()
                asking.cancel()
                await asyncio.gather(asking, return_exceptions=True)
                await told.exchanges[0].closed.wait()
                await endpoint.exchanges[-1].closed.wait()
                await gone(running)
