"""A gateway between a client and scripted providers: what the tests through sockets share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp
import pytest

from sidegate.testing import Exchange, Running, ScriptedProvider, gateway, scripted
from tests.relaying import chat, messages
from tests.upstream.scene import HandClock

Script = Callable[[Exchange], Awaitable[None]]

both = pytest.mark.parametrize("stream", [True, False], ids=["stream", "buffered"])
dialects = pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"], ids=["openai", "anthropic"])
QUICK = {"base": 0.001}
"""Retries without pauses worth waiting for."""
NONE: Mapping[str, Any] = {}


@asynccontextmanager
async def site(
    *scripts: Script, models: Any = None, clock: HandClock | None = None, settings: Mapping[str, Any] = NONE
) -> AsyncIterator[tuple[Running, list[ScriptedProvider]]]:
    """A gateway whose model `m` leads to providers `p0`, `p1`, ... in order. `settings` are those of each."""
    async with AsyncExitStack() as stack:
        providers = [await stack.enter_async_context(scripted(script)) for script in scripts]
        config = {
            "providers": {
                f"p{number}": {
                    "dialect": "openai",
                    "base_url": provider.url,
                    "api_key": "sk-one",
                    "retry": QUICK,
                    **settings,
                }
                for number, provider in enumerate(providers)
            },
            "models": {"m": models or [{"provider": f"p{number}", "model": "real"} for number in range(len(scripts))]},
            "pipelines": {"main": {}},
            "server": {"drain": 1},
        }
        running = await stack.enter_async_context(gateway(config, clock=clock))
        yield running, providers


def ask(path: str, stream: bool) -> dict[str, Any]:
    return messages(stream) if path.endswith("messages") else chat(stream)


async def post(http: aiohttp.ClientSession, running: Running, path: str, stream: bool) -> tuple[int, str, Any]:
    async with http.post(running.url + path, json=ask(path, stream)) as reply:
        return reply.status, await reply.text(), reply.headers


async def metric(http: aiohttp.ClientSession, running: Running, name: str) -> float:
    async with http.get(running.admin_url + "/metrics") as reply:
        lines = (await reply.text()).splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


def replies(status: int, body: bytes = b'{"error":{"message":"no"}}', **headers: str) -> Script:
    async def script(exchange: Exchange) -> None:
        await exchange.reply(body, status, **headers)

    return script


def in_turn(*scripts: Script) -> Script:
    """A script for each request; the last one for all that follow."""
    left = list(scripts)

    async def script(exchange: Exchange) -> None:
        await (left.pop(0) if len(left) > 1 else left[0])(exchange)

    return script


async def resets(exchange: Exchange) -> None:
    exchange.reset()
