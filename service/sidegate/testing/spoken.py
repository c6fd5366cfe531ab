"""Spoken scripts: one that is written once, and played in any dialect a provider may speak."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import TypeAlias

from sidegate.testing.provider import Exchange, Script
from sidegate.testing.voices import TEXT, USED, VOICES, WORDS, Voice

ScriptMaker: TypeAlias = Callable[[str], Script]
"""Gives the script of a provider that speaks a dialect of `VOICES`. Its docstring says what a gateway must do."""


PAUSE = 0.05
"""Seconds until what was sent has been read: what comes next comes in a piece of its own."""


def spoken(play: Callable[[Exchange, Voice], Awaitable[None]]) -> ScriptMaker:
    """A script for every dialect."""

    @wraps(play)
    def make(dialect: str) -> Script:
        voice = VOICES[dialect]

        async def script(exchange: Exchange) -> None:
            await play(exchange, voice)

        return script

    return make


def streams(exchange: Exchange) -> bool:
    """Whether a stream is asked for."""
    return bool(exchange.json.get("stream")) or ":streamGenerateContent" in exchange.path


def well(voice: Voice) -> list[bytes]:
    """The events of a good reply."""
    return [*voice.begins(*WORDS), *voice.ends(voice.usage(USED))]


@spoken
async def answering(exchange: Exchange, voice: Voice) -> None:
    """A good reply: `TEXT`, with the usage `USED`."""
    if streams(exchange):
        await exchange.stream(*well(voice))
    else:
        await exchange.reply(voice.whole(TEXT, voice.usage(USED)))


async def first_half(exchange: Exchange, voice: Voice) -> None:
    """The first two words of a stream, or half of a body; the rest is to come."""
    if streams(exchange):
        await exchange.head(Transfer_Encoding="chunked")
        for event in voice.begins(*WORDS[:2]):
            await exchange.chunk(event)
    else:
        body = voice.whole(TEXT, voice.usage(USED))
        await exchange.head(content_type="application/json", Content_Length=str(len(body)))
        await exchange.send(body[: len(body) // 2])
    await asyncio.sleep(PAUSE)
