"""Asking: a client of each dialect says hello, and what it is told is read as such a client reads it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import aiohttp

from sidegate.contract.meaning import Text
from sidegate.errors import SidegateError
from sidegate.wire.dialect import Sign
from sidegate.wire.registry import DIALECTS

_HELLO: Mapping[str, tuple[str, Mapping[str, Any]]] = MappingProxyType(
    {
        "openai.chat": ("/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}]}),
        "openai.responses": ("/v1/responses", {"input": "hi"}),
        "anthropic.messages": ("/v1/messages", {"max_tokens": 99, "messages": [{"role": "user", "content": "hi"}]}),
        "gemini.generate": ("/v1beta/models/{}:", {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}),
    }
)

AT_ONCE = 8

CLIENTS = tuple(_HELLO)
"""The dialects."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What a client made of an answer."""

    status: int
    complete: bool
    """It came to a clean end."""
    text: str
    body: bytes


async def hear(url: str, asked: Iterable[tuple[str, str, bool]], headers: Mapping[str, str]) -> list[Heard]:
    """What each client, model and delivery hears, in their order; several ask at a time."""
    room = asyncio.Semaphore(AT_ONCE)
    async with aiohttp.ClientSession() as http:

        async def ask(client: str, model: str, stream: bool) -> Heard:
            async with room:
                return await hello(http, url, client, model, stream, headers)

        return await asyncio.gather(*(ask(*each) for each in asked))


async def hello(
    http: aiohttp.ClientSession, url: str, client: str, model: str, stream: bool, headers: Mapping[str, str]
) -> Heard:
    """Ask as a client of that dialect does. An answer that breaks off is one that is not complete."""
    path, body = _HELLO[client]
    if client == "gemini.generate":
        path = path.format(model) + ("streamGenerateContent?alt=sse" if stream else "generateContent")
    else:
        body = {**body, "model": model, "stream": stream}
    given = {"anthropic-version": "2023-06-01", **headers}
    async with http.post(url + path, json=body, headers=given, timeout=aiohttp.ClientTimeout(30)) as reply:
        try:
            data = await reply.read()
        except aiohttp.ClientPayloadError:
            return Heard(reply.status, False, "", b"")
        if reply.status != 200:
            return Heard(reply.status, False, "", data)
        return _streamed(client, data) if stream else _whole(client, data)


def _whole(client: str, data: bytes) -> Heard:
    parts = DIALECTS[client].read_whole(data)
    return Heard(200, True, "".join(part.text for part in parts if type(part) is Text), data)


def _streamed(client: str, data: bytes) -> Heard:
    dialect = DIALECTS[client]
    splitter, meter = dialect.splitter(), dialect.meter()
    text = ""
    try:
        for event in splitter.feed(data):
            if meter.event(event) is not Sign.NOTHING:
                parts = (meter.reader or dialect.read_event)(event)
                text += "".join(part.text for part in parts if type(part) is Text)
    except SidegateError:  # An error event, or what is none.
        return Heard(200, False, text, data)
    return Heard(200, meter.finished and splitter.close() is None, text, data)
