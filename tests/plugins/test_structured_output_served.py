"""Structured output through a gateway: in every dialect of clients and providers, its attempts and its money."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec
import pytest

from sidegate.config.mistakes import ConfigErrors
from sidegate.testing import Exchange, Running, ScriptedProvider, demo_config, gateway, scripted
from sidegate.testing.spoken import PAUSE, streams
from sidegate.testing.voices import TEXT, USED, VOICES
from tests.plugins.guarded import asked, said
from tests.plugins.structured import FITS, PERSON
from tests.relaying import leads_to

both = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
WRONG_TYPE = '{"name": 1'
WRONG = '{"name": "Grüße", "age": -1}'
PLUGIN: dict[str, Any] = {"use": "structured_output"}
ASK = "Who?"


# --- the clients ------------------------------------------------------------------------------------------------------


def chat(stream: bool) -> tuple[str, dict[str, Any]]:
    shape = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON}}
    turns = [{"role": "user", "content": ASK}]
    return "/v1/chat/completions", {"model": "m", "messages": turns, "stream": stream, "response_format": shape}


def responses(stream: bool) -> tuple[str, dict[str, Any]]:
    shape = {"format": {"type": "json_schema", "name": "person", "schema": PERSON}}
    return "/v1/responses", {"model": "m", "input": ASK, "stream": stream, "text": shape}


def messages(stream: bool) -> tuple[str, dict[str, Any]]:
    shape = {"format": {"type": "json_schema", "schema": PERSON}}
    turns = [{"role": "user", "content": ASK}]
    body = {"model": "m", "max_tokens": 99, "messages": turns, "stream": stream, "output_config": shape}
    return "/v1/messages", body


def generate(stream: bool) -> tuple[str, dict[str, Any]]:
    shape = {"responseMimeType": "application/json", "responseJsonSchema": PERSON}
    body = {"contents": [{"role": "user", "parts": [{"text": ASK}]}], "generationConfig": shape}
    return f"/v1beta/models/m:{'streamGenerateContent?alt=sse' if stream else 'generateContent'}", body


def page(stream: bool) -> tuple[str, dict[str, Any]]:
    turn = {"id": "1", "role": "user", "parts": [{"type": "text", "text": ASK}]}
    shape = {"type": "json", "schema": PERSON, "name": "person"}
    return "/api/chat", {"model": "m", "id": "c", "messages": [turn], "stream": stream, "responseFormat": shape}


CLIENTS: dict[str, Callable[[bool], tuple[str, dict[str, Any]]]] = {
    "openai": chat,
    "openai_responses": responses,
    "anthropic": messages,
    "gemini": generate,
    "page": page,
}


# --- the provider -----------------------------------------------------------------------------------------------------


def says(dialect: str, *texts: str) -> Callable[[Exchange], Any]:
    """A provider that gives another of these answers each time, a stream letter by letter. One that begins with
    `WRONG_TYPE` goes on until the gateway has left."""
    voice, left = VOICES[dialect], list(texts)

    async def script(exchange: Exchange) -> None:
        text = left.pop(0)
        if not streams(exchange):
            await exchange.reply(voice.whole(text, voice.usage(USED)))
            return
        ends = voice.ends(voice.usage(USED))
        # A dialect that repeats the text at the end repeats this one.
        told = [event.replace(msgspec.json.encode(TEXT)[1:-1], msgspec.json.encode(text)[1:-1]) for event in ends]
        if not text.startswith(WRONG_TYPE):
            await exchange.stream(*voice.begins(*text), *told)
            return
        *begins, wrong = voice.begins(*WRONG_TYPE)
        await exchange.head(Transfer_Encoding="chunked")
        await exchange.chunk(b"".join(begins))
        await asyncio.sleep(PAUSE)
        await exchange.chunk(wrong)
        async with asyncio.timeout(10):
            await exchange.closed.wait()

    return script


@asynccontextmanager
async def serving(
    dialect: str, *texts: str, plugins: tuple[Any, ...] = (PLUGIN,), **rest: Any
) -> AsyncIterator[tuple[Running, ScriptedProvider, aiohttp.ClientSession]]:
    async with scripted(says(dialect, *texts)) as provider:
        config = leads_to(provider.url, dialect=dialect, plugins=plugins, **rest)
        async with gateway(config) as running, aiohttp.ClientSession(running.url) as client:
            yield running, provider, client


# --- every dialect ----------------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("client", CLIENTS)
async def test_a_reply_that_fits_reaches_every_client(client: str, stream: bool) -> None:
    path, body = CLIENTS[client](stream)
    async with serving("openai", FITS) as (_, _, http):
        status, text, _ = await asked(http, path, body)
    assert status == 200, text
    assert FITS in said(text)


@pytest.mark.parametrize("client", CLIENTS)
async def test_a_whole_reply_is_asked_for_again_and_then_refused_in_every_dialect(client: str) -> None:
    """With the errors and the last text; each run has been paid for."""
    path, body = CLIENTS[client](False)
    provider = client if client in VOICES else "openai"
    async with serving(provider, WRONG, FITS, WRONG, WRONG) as (running, told, http):
        status, text, _ = await asked(http, path, body)
        assert (status, FITS in said(text)) == (200, True), text
        status, text, call_id = await asked(http, path, body)
        attempts = (await running.service.ledger.call(call_id) or (None, ()))[1]
    assert status == 422
    assert "/age: -1 is less than the minimum of 0" in text
    if client != "page":
        details = error_details(json.loads(text)["error"])
        assert details["errors"][0]["path"] == "/age"
        assert details["text"] == WRONG
    assert [attempt.output_tokens for attempt in attempts] == [USED[1], USED[1]]
    first, second = (exchange.body.decode() for exchange in told.exchanges[:2])
    assert "did not satisfy the JSON Schema" not in first
    assert "did not satisfy the JSON Schema" in second
    assert msgspec.json.encode(WRONG).decode()[1:-1] in second
    assert ASK in second


def error_details(error: dict[str, Any]) -> dict[str, Any]:
    details = error["details"]
    if isinstance(details, list):
        (details,) = [each["value"] for each in details if each["@type"].endswith("Struct")]
    assert isinstance(details, dict)
    return details


@pytest.mark.parametrize("client", CLIENTS)
async def test_a_stream_is_stopped_in_every_dialect(client: str) -> None:
    path, body = CLIENTS[client](True)
    provider = client if client in VOICES else "openai"
    async with serving(provider, WRONG_TYPE) as (running, told, http):
        status, text, call_id = await asked(http, path, body)
        found = await running.service.ledger.call(call_id)
        async with asyncio.timeout(10):
            await told.exchanges[0].closed.wait()
    assert status == 200
    assert "/name: number is not allowed here, but string" in text
    assert said(text).startswith(WRONG_TYPE[:-1])
    for clean in ("[DONE]", "message_stop", '"STOP"', "response.completed", '"finish"'):
        assert clean not in text
    assert found is not None
    assert (found[0].ending, found[0].error) == ("refused", "reply_schema_mismatch")
    (attempt,) = found[1]
    assert attempt.output_tokens
    assert attempt.estimated


@pytest.mark.parametrize("client", ["openai", "anthropic"])
async def test_a_stream_that_is_wrong_from_the_start_is_no_stream(client: str) -> None:
    """Nothing was sent, so it is an error reply, with its status."""
    path, body = CLIENTS[client](True)
    async with serving(client, "I am Ann.") as (_, _, http):
        status, text, _ = await asked(http, path, body)
    assert status == 422
    assert "not valid JSON" in text


@pytest.mark.parametrize("client", ["openai", "anthropic", "openai_responses", "gemini"])
async def test_a_stream_that_is_held_is_asked_for_again(client: str) -> None:
    path, body = CLIENTS[client](True)
    repairs = {**PLUGIN, "settings": {"on_invalid_stream": "repair"}}
    async with serving(client, WRONG, f"```json\n{FITS}\n```", plugins=(repairs,)) as (running, told, http):
        status, text, call_id = await asked(http, path, body)
        found = await running.service.ledger.call(call_id)
    assert status == 200, text
    assert FITS in said(text)
    assert "```" not in text
    assert "-1" not in said(text)
    assert len(told.exchanges) == 2
    assert found is not None
    assert [attempt.ending for attempt in found[1]] == ["refused", "complete"]
    assert [attempt.error for attempt in found[1]] == ["reply_schema_mismatch", None]


@pytest.mark.parametrize("client", ["openai", "page"])
async def test_a_fence_is_taken_off_a_stream_that_passes(client: str) -> None:
    path, body = CLIENTS[client](True)
    async with serving("openai", f"```json\n{FITS}\n```\n") as (_, _, http):
        status, text, _ = await asked(http, path, body)
    assert (status, FITS in said(text), "`" in said(text)) == (200, True, False)


async def test_the_bytes_of_a_stream_pass_as_they_came_where_nothing_is_to_be_taken_off() -> None:
    path, body = chat(True)
    untouched = {**PLUGIN, "settings": {"strip_fences": False}}
    async with serving("openai", FITS, plugins=(untouched,)) as (_, _, http):
        _, text, _ = await asked(http, path, body)
    voice = VOICES["openai"]
    assert text.startswith(b"".join(voice.begins(*FITS)).decode())
    assert text.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize("client", VOICES)
async def test_the_schema_can_be_told_in_words_to_every_provider(client: str) -> None:
    """In its system prompt, and no format is left in the request."""
    path, body = CLIENTS[client](False)
    words = {**PLUGIN, "settings": {"tell_model": "prompt"}}
    async with serving(client, FITS, plugins=(words,)) as (_, told, http):
        status, text, _ = await asked(http, path, body)
    assert status == 200, text
    sent = told.exchanges[0].body.decode()
    assert "Answer with one JSON value and nothing else" in sent
    assert json.dumps(json.dumps(PERSON["required"], separators=(",", ":")))[1:-1] in sent
    asks_for = (*("response_format", "output_config", "json_schema"), *("responseJsonSchema", "responseMimeType"))
    assert not [name for name in asks_for if f'"{name}"' in sent]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_job_is_held_to_its_schema(stream: bool) -> None:
    path, body = chat(stream)
    held = {**PLUGIN, "settings": {"on_invalid_stream": "repair"}}
    jobs = {"batch_seconds": 0.01}
    async with serving("openai", WRONG, FITS, WRONG, WRONG, plugins=(held,), jobs=jobs) as (_, told, http):
        for fits in (True, False):
            async with http.post(path, json=body, headers={"Prefer": "respond-async, wait=20"}) as reply:
                assert reply.status != 202
                text = await reply.text()
                assert (FITS in said(text)) is fits
                assert ("reply_schema_mismatch" in text) is not fits
        assert len(told.exchanges) == 4


# --- money ------------------------------------------------------------------------------------------------------------


COST = {"use": "cost", "settings": {"prices": {"real*": {"input": 1, "output": 2}}}}


async def test_each_run_is_billed_and_the_ledger_has_them_all() -> None:
    path, body = chat(False)
    async with (
        serving("openai", WRONG, FITS, plugins=(COST, PLUGIN)) as (running, _, http),
        http.post(path, json=body) as reply,
    ):
        assert reply.status == 200
        assert reply.headers["x-sidegate-repairs"] == "1"
        each = USED[0] * 1000 + USED[1] * 2000
        assert reply.headers["x-sidegate-cost-nano-usd"] == str(2 * each)
        await reply.read()
        found = await running.service.ledger.call(reply.headers["x-request-id"])
    assert found is not None
    assert [attempt.cost_nano_usd for attempt in found[1]] == [each, each]


async def test_a_budget_holds_for_repairs() -> None:
    """What is left after the first run does not cover a second."""
    path, body = messages(False)
    body["max_tokens"] = 100
    budget = {"name": "tight", "amount_usd": "0.0010"}
    cost = {"use": "cost", "settings": {**COST["settings"], "budgets": [budget]}}  # type: ignore[dict-item]
    async with serving("openai", WRONG, FITS, plugins=(cost, PLUGIN)) as (running, told, http):
        status, text, call_id = await asked(http, path, body)
        found = await running.service.ledger.call(call_id)
    assert status == 429 or status == 402, text
    assert len(told.exchanges) == 1
    assert found is not None


@pytest.mark.parametrize(
    ("plugins", "attempt", "problem"),
    [
        ((PLUGIN, COST), (), "pipelines.main[1]: cost must stand before structured_output"),
        ((COST,), (PLUGIN,), "pipelines.main.attempt[0]: structured_output belongs into the list `plugins`"),
    ],
)
async def test_an_order_that_cannot_count_is_refused_at_the_start(plugins: Any, attempt: Any, problem: str) -> None:
    config = demo_config(*plugins, attempt=attempt)
    with pytest.raises(ConfigErrors) as caught:
        async with gateway(config):
            raise AssertionError("started")
    assert problem in str(caught.value)


# --- clients and providers that go ------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("policy", ["error", "repair"])
async def test_a_client_that_leaves_frees_everything(stream: bool, policy: str) -> None:
    path, body = chat(stream)
    plugin = {**PLUGIN, "settings": {"on_invalid_stream": policy}}
    async with (
        gateway(demo_config(plugin)) as running,
        aiohttp.ClientSession(running.url) as client,
    ):
        task = asyncio.ensure_future(client.post(path, json={**body, "model": "demo-stall"}))
        calls = running.service.live._calls
        async with asyncio.timeout(10):
            while not any(a.output_bytes for live in calls.values() for a in live.call.attempts):  # noqa: ASYNC110
                await asyncio.sleep(0.005)
            task.cancel()
            if not task.cancelled() and task.done():
                task.result().close()
            await asyncio.gather(task, return_exceptions=True)
            await client.close()
            while calls:  # noqa: ASYNC110  # nobody would set an event
                await asyncio.sleep(0.005)


@both
async def test_a_provider_that_fails_is_told_as_its_failure_and_not_as_a_mismatch(stream: bool) -> None:
    async def fail(exchange: Exchange) -> None:
        await exchange.reply(b'{"error":{"message":"no","type":"server_error"}}', status=500)

    async with scripted(fail) as provider:
        config = leads_to(provider.url, plugins=(PLUGIN,))
        async with gateway(config) as running, aiohttp.ClientSession(running.url) as client:
            status, text, _ = await asked(client, *chat(stream))
    assert status >= 500
    assert "schema" not in text


async def test_a_demo_call_fits_by_itself() -> None:
    async with gateway(demo_config(PLUGIN)) as running, aiohttp.ClientSession(running.url) as client:
        for stream in (True, False):
            path, body = chat(stream)
            status, text, _ = await asked(client, path, {**body, "model": "demo"})
            assert status == 200, text


# --- hostile schemas --------------------------------------------------------------------------------------------------

EVIL = {"properties": {"name": {"pattern": "^(a+)+$"}}}
HELD_UP = '{"name": "%sb"}' % ("a" * 40)


@both
@pytest.mark.parametrize("client", ["openai", "gemini"])
async def test_a_bomb_leaves_other_calls_alone(client: str, stream: bool) -> None:
    quick = {**PLUGIN, "settings": {"timeout": 0.5}}
    config = demo_config(quick, models={"m": {"provider": "demo"}})
    config["providers"]["demo"]["settings"]["answer"] = HELD_UP
    path, body = CLIENTS[client](stream)
    hostile = json.loads(json.dumps(body).replace(json.dumps(PERSON), json.dumps(EVIL)))
    async with gateway(config) as running, aiohttp.ClientSession(running.url) as http:
        bombs = asyncio.gather(*(asked(http, path, hostile) for _ in range(3)))
        while not bombs.done():
            async with asyncio.timeout(5), http.get("/v1/models") as reply:
                assert reply.status == 200
        for status, text, _ in await bombs:
            assert status == 400 or (stream and status == 200)
            assert "The schema cannot be used" in text


async def test_no_url_of_a_schema_is_fetched() -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.reply(b"{}")

    async with scripted(answer) as bait, serving("openai", FITS) as (_, told, http):
        path, body = chat(False)
        schema = body["response_format"]["json_schema"]["schema"]
        status, _, _ = await asked(
            http, path, json.loads(json.dumps(body).replace('"type": "object"', f'"$schema": "{bait.url}/draft"'))
        )
        assert status == 200
        body["response_format"]["json_schema"]["schema"] = {**schema, "$ref": f"{bait.url}/schema.json"}
        status, text, _ = await asked(http, path, body)
        assert status == 400
        assert "nothing is fetched" in text
        assert (bait.connections, len(told.exchanges)) == (0, 1)
