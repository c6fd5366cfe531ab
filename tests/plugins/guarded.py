"""What the tests of `redact` and `guard` share: clients of each dialect, and providers that say what they are told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec

from sidegate.testing import Exchange, Running, ScriptedProvider, gateway, scripted
from sidegate.testing.spoken import PAUSE, streams
from sidegate.testing.voices import TEXT, USED, VOICES
from tests.relaying import leads_to

BROKEN = (
    *("reset_in_mid_stream", "truncated_chunk", "ends_without_finish", "error_in_mid_stream", "error_first", "html"),
    *("empty", "bad_json", "byte_by_byte", "unknown_events", "no_usage", "usage_twice"),
)
"""Of the misbehaviours of providers, those that end by themselves and soon."""
SCHEMA = {"type": "object", "properties": {"to": {"type": "string"}}}


def chat(ask: str, stream: bool) -> tuple[str, dict[str, Any]]:
    turns = [
        {"role": "system", "content": f"S {ask}"},
        {"role": "user", "content": [{"type": "text", "text": ask}]},
        {
            "role": "assistant",
            "content": ask,
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "f", "arguments": json.dumps({"to": ask})}}
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": json.dumps({"said": ask})},
        {"role": "user", "content": ask},
    ]
    tools = [{"type": "function", "function": {"name": "f", "description": ask, "parameters": SCHEMA}}]
    return "/v1/chat/completions", {"model": "m", "messages": turns, "stream": stream, "tools": tools}


def responses(ask: str, stream: bool) -> tuple[str, dict[str, Any]]:
    items = [
        {"role": "user", "content": [{"type": "input_text", "text": ask}]},
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": json.dumps({"to": ask})},
        {"type": "function_call_output", "call_id": "c1", "output": ask},
        {"role": "user", "content": ask},
    ]
    tools = [{"type": "function", "name": "f", "description": ask, "parameters": SCHEMA}]
    return "/v1/responses", {"model": "m", "instructions": f"S {ask}", "input": items, "stream": stream, "tools": tools}


def messages(ask: str, stream: bool) -> tuple[str, dict[str, Any]]:
    document = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": ask}}
    turns = [
        {"role": "user", "content": [{"type": "text", "text": ask}, document]},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "c1", "name": "f", "input": {"to": ask}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": ask}]},
    ]
    tools = [{"name": "f", "description": ask, "input_schema": SCHEMA}]
    body = {"model": "m", "max_tokens": 99, "system": f"S {ask}", "messages": turns, "stream": stream, "tools": tools}
    return "/v1/messages", body


def generate(ask: str, stream: bool) -> tuple[str, dict[str, Any]]:
    call = {"functionCall": {"name": "f", "args": {"to": ask}}}
    answer = {"functionResponse": {"name": "f", "response": {"said": ask}}}
    turns = [
        {"role": "user", "parts": [{"text": ask}]},
        {"role": "model", "parts": [call]},
        {"role": "user", "parts": [answer, {"text": ask}]},
    ]
    tools = [{"functionDeclarations": [{"name": "f", "description": ask, "parameters": SCHEMA}]}]
    body = {"contents": turns, "systemInstruction": {"parts": [{"text": f"S {ask}"}]}, "tools": tools}
    return f"/v1beta/models/m:{'streamGenerateContent?alt=sse' if stream else 'generateContent'}", body


def page(ask: str, stream: bool) -> tuple[str, dict[str, Any]]:
    turn = {"id": "1", "role": "user", "parts": [{"type": "text", "text": ask}]}
    return "/api/chat", {"model": "m", "id": "c", "messages": [turn], "stream": stream}


CLIENTS: dict[str, Callable[[str, bool], tuple[str, dict[str, Any]]]] = {
    "openai": chat,
    "openai_responses": responses,
    "anthropic": messages,
    "gemini": generate,
    "page": page,
}


def answers(
    dialect: str, *texts: str | Callable[[Exchange], str], stays: bool = False, parted: bool = False
) -> Callable[[Exchange], Any]:
    """A provider that gives another of these answers each time, the last for ever, a stream letter by letter. `parted`:
    with a pause before the last one. With `stays`, a stream does not end either, until the gateway has left."""
    voice, left = VOICES[dialect], list(texts)

    async def script(exchange: Exchange) -> None:
        given = left.pop(0) if len(left) > 1 else left[0]
        text = given if isinstance(given, str) else given(exchange)
        if not streams(exchange):
            await exchange.reply(voice.whole(text, voice.usage(USED)))
            return
        # A dialect that repeats the text at the end repeats this one.
        told = msgspec.json.encode(text)[1:-1]
        ends = [event.replace(msgspec.json.encode(TEXT)[1:-1], told) for event in voice.ends(voice.usage(USED))]
        if not stays and not parted:
            await exchange.stream(*voice.begins(*text), *ends)
            return
        *begins, last = voice.begins(*text)
        await exchange.head(Transfer_Encoding="chunked")
        await exchange.chunk(b"".join(begins))
        await asyncio.sleep(PAUSE)
        await exchange.chunk(last)
        if stays:
            async with asyncio.timeout(10):
                await exchange.closed.wait()
            return
        await exchange.chunk(b"".join(ends))
        await exchange.chunk(b"")

    return script


@asynccontextmanager
async def serving(
    script: Callable[[Exchange], Any], *plugins: Any, dialect: str = "openai", **rest: Any
) -> AsyncIterator[tuple[Running, ScriptedProvider, aiohttp.ClientSession]]:
    async with scripted(script) as provider:
        config = leads_to(provider.url, dialect=dialect, plugins=plugins, **rest)
        config["providers"]["p0"]["circuit"] = None
        async with gateway(config) as running, aiohttp.ClientSession(running.url) as client:
            yield running, provider, client


async def asked(client: aiohttp.ClientSession, path: str, body: dict[str, Any]) -> tuple[int, str, str]:
    """Status, body and the call's id."""
    async with client.post(path, json=body) as reply:
        return reply.status, await reply.text(), reply.headers["x-request-id"]


def said(text: str, *names: str) -> str:
    """All that is said in a stream or a body, of whatever dialect: its strings of these names, in order."""
    wanted = names or ("content", "text", "delta")
    found: list[str] = []

    def gather(value: Any) -> None:
        if isinstance(value, dict):
            for name, each in value.items():
                if isinstance(each, str) and name in wanted:
                    found.append(each)
                else:
                    gather(each)
        elif isinstance(value, list):
            for each in value:
                gather(each)

    if text.startswith("{"):
        gather(json.loads(text))
    for line in text.splitlines():
        if line.startswith("data: {"):
            gather(json.loads(line[6:]))
    return "".join(found)
