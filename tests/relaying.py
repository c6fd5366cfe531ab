"""What tests of the relay share: configs that lead to a scripted provider, and events as vendors send them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from aiohttp import ClientResponse

from sidegate.testing import Exchange, ScriptedProvider


def leads_to(*urls: str, dialect: str = "openai", plugins: tuple[Mapping[str, Any], ...] = (), **rest: Any) -> Any:
    """A config whose model `m` leads to these providers, in order, as their model `real`."""
    names = [f"p{number}" for number in range(len(urls))]
    return {
        "providers": {
            name: {"dialect": dialect, "base_url": url, "api_key": "sk-upstream-secret"}
            for name, url in zip(names, urls, strict=True)
        },
        "models": {"m": [{"provider": name, "model": "real"} for name in names]},
        "pipelines": {"main": {"plugins": list(plugins)}},
        "server": {"drain": 1},
        **rest,
    }


def event(data: Any, kind: str = "") -> bytes:
    head = f"event: {kind}\n".encode() if kind else b""
    return head + b"data: " + msgspec.json.encode(data) + b"\n\n"


def delta(finish: str | None = None, **said: Any) -> bytes:
    """One chunk of a chat completion."""
    choice = {"index": 0, "delta": said, "finish_reason": finish}
    return event({"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "real-1", "choices": [choice]})


ROLE = delta(role="assistant", content="")
USAGE = event(
    {
        "id": "c1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "real-1",
        "choices": [],
        "usage": {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9},
    }
)
DONE = b"data: [DONE]\n\n"
STOP = delta("stop")

WHOLE = msgspec.json.encode(
    {
        "id": "c1",
        "object": "chat.completion",
        "created": 1,
        "model": "real-1",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hé"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9},
        "a_field_of_tomorrow": {"kept": [1, 2.50, "x"]},
    }
)


async def answers(exchange: Exchange) -> None:
    """A provider that answers well, streamed or whole, with usage only where it is asked for."""
    asked = exchange.json
    if not asked.get("stream"):
        await exchange.reply(WHOLE)
        return
    wish = (asked.get("stream_options") or {}).get("include_usage")
    await exchange.stream(ROLE, delta(content="H"), delta(content="é"), STOP, *([USAGE] if wish else []), DONE)


async def silent(exchange: Exchange) -> None:
    """A provider that never answers, or says one word of a stream and no more."""
    if exchange.json.get("stream"):
        await exchange.head(Transfer_Encoding="chunked")
        await exchange.chunk(ROLE + delta(content="x"))
    await exchange.closed.wait()


PIECES = 400
A_PIECE = b"a" * 10_000


async def pours_and_ends(exchange: Exchange) -> None:
    """A provider of a stream of 4 MB."""
    await exchange.head(Transfer_Encoding="chunked")
    await exchange.chunk(ROLE)
    for _ in range(PIECES):
        await exchange.chunk(delta(content=A_PIECE.decode()))
    await exchange.chunk(STOP + DONE)
    await exchange.chunk(b"")


def chat(stream: bool = False, **more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": stream, **more}


def messages(stream: bool = False, **more: Any) -> dict[str, Any]:
    return {**chat(stream, **more), "max_tokens": 50}


async def leave(asking: asyncio.Future[ClientResponse], provider: ScriptedProvider, stream: bool) -> None:
    """Its client leaves, in mid-stream or while it waits; returns when the provider has been left, too."""
    await until(lambda: bool(provider.exchanges))
    if stream:
        reply = await asking
        await reply.content.readany()
        reply.close()
    else:
        asking.cancel()
    async with asyncio.timeout(5):
        await provider.exchanges[0].closed.wait()


async def slowly(reply: ClientResponse) -> bytes:
    """All of a reply, by a reader that lets others go first after each piece."""
    data = b""
    async with asyncio.timeout(20):
        while piece := await reply.content.read(200_000):
            data += piece
            await asyncio.sleep(0)
    return data


async def until(true: Callable[[], bool]) -> None:
    """Wait, for 20 s at most, for a state that nobody announces: what another task or thread does."""
    async with asyncio.timeout(20):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.001)
