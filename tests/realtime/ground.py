"""What the tests of Realtime share: a gateway before the scripted provider, and OpenAI's own client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI
from websockets.exceptions import ConnectionClosed, InvalidStatus

from sidegate.testing import Running, gateway
from tests.realtime.provider import Provider

KEY = "sk-voice-1234567890"
PRICES = {
    "gpt-realtime": {"input": 4, "output": 16, "cache_read": "0.4", "audio_input": 32, "audio_output": 64},
    "gpt-4o-mini-transcribe": {"input": "1.25", "output": 5, "audio_input": 3},
}
COST = ((132 - 64 - 9) * 4 + 64 * 0.4 + 9 * 32 + 30 * 16 + 91 * 64) * 1000
"""Nano-USD of the provider's usual answer: cached ones, sound and text each at its own price."""


def config(provider: Provider, *plugins: Mapping[str, Any], **rest: Any) -> dict[str, Any]:
    route = {"name": "voice", "pipeline": "main", "operations": ["realtime", "calls", "models", "usage"]}
    return {
        "providers": {
            "p": {"dialect": "openai", "base_url": provider.url, "api_key": "sk-of-the-provider", "circuit": None}
        },
        "models": {"voice": {"provider": "p", "model": "gpt-realtime"}, "gpt-4o-mini-transcribe": {"provider": "p"}},
        "pipelines": {"main": {"plugins": [{"use": "log"}, *plugins]}},
        "routes": [{**route, **rest.pop("route", {})}],
        "server": {"drain": 3},
        "ledger": {"batch_seconds": 0.01},
        **rest,
    }


def keys(*names: str) -> dict[str, Any]:
    """An `api_key` that lets them in, each by a key of its own."""
    from sidegate.contract import key_digest

    every = names or ("ann",)
    listed = [{"name": name, "digest": key_digest(KEY if name == "ann" else f"sk-{name}-1234567890")} for name in every]
    return {"use": "api_key", "settings": {"keys": listed}}


def cost(**settings: Any) -> dict[str, Any]:
    return {"use": "cost", "settings": {"prices": PRICES, **settings}}


def client(running: Running, key: str = KEY) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=running.url + "/v1", api_key=key)


async def events(connection: Any, until: str) -> list[Any]:
    """What comes, up to the first event of a type."""
    found: list[Any] = []
    async with asyncio.timeout(10):
        async for event in connection:
            found.append(event)
            if event.type == until:
                return found
    raise AssertionError(f"no {until}: {[event.type for event in found]}")


async def rows(running: Running, count: int) -> list[dict[str, Any]]:
    """The lines of the log of calls that are over, as soon as there are so many; the ledger has them, too."""
    async with asyncio.timeout(10):
        while True:
            if len(found := running.log.events("call")) >= count:
                return found
            await asyncio.sleep(0.01)


@asynccontextmanager
async def session(running: Running, model: str = "voice", **options: Any) -> AsyncIterator[Any]:
    """A session by OpenAI's client."""
    async with client(running) as openai, openai.realtime.connect(model=model, **options) as connection:
        yield connection


@asynccontextmanager
async def gateway_for(provider: Provider, *plugins: Mapping[str, Any], **rest: Any) -> AsyncIterator[Running]:
    async with gateway(config(provider, *plugins, **rest)) as running:
        yield running


def status(error: BaseException) -> int:
    """Of a handshake that was answered in HTTP."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, InvalidStatus):
        cause = cause.__cause__
    assert cause is not None, repr(error)
    return cause.response.status_code


REFUSED = (InvalidStatus, openai.OpenAIError)


async def closed(connection: Any) -> tuple[int, str]:
    """How the other side closes."""
    with pytest.raises(ConnectionClosed) as caught:
        await _all(connection)
    assert caught.value.rcvd is not None
    return caught.value.rcvd.code, caught.value.rcvd.reason


async def _all(connection: Any) -> None:
    async with asyncio.timeout(10):
        while True:
            await connection.recv()
