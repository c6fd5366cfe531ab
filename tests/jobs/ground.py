"""The ground of tests of jobs: a gateway that accepts them, callers with keys, and a provider that does as told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import aiohttp
import msgspec
import openai

from sidegate.testing import Exchange, Running, ScriptedProvider, gateway, scripted
from tests.relaying import DONE, ROLE, STOP, delta

ANN, BOB = (f"sg-{name}-0123456789012345678901234567890123456789" for name in ("ann", "bob"))
ASYNC = {"Prefer": "respond-async"}
PATH = "/v1/chat/completions"
WORDS = ("Once", " upon", " a", " time")

Json = dict[str, Any]


def keys() -> Json:
    found = [{"name": name, "digest": sha256(key.encode()).hexdigest()} for name, key in (("ann", ANN), ("bob", BOB))]
    return {"use": "api_key", "settings": {"keys": found}}


def config(url: str, *plugins: Json, **jobs: Any) -> Json:
    """Ann and Bob may call; what a token costs is known."""
    cost = {"use": "cost", "settings": {"prices": {"*": {"input": 1, "output": 2}}}}
    return {
        "providers": {"p": {"dialect": "openai", "base_url": url, "api_key": "k", "retry": {"attempts": 1}}},
        "models": {"m": {"provider": "p"}, "n": {"provider": "p"}},
        "pipelines": {"main": {"plugins": [keys(), *plugins, cost]}},
        "server": {"drain": 5},
        "jobs": {"batch_seconds": 0.01, **jobs},
    }


def body(stream: bool = True, content: str = "x", model: str = "m") -> Json:
    return {"model": model, "messages": [{"role": "user", "content": content}], "stream": stream}


def body_at(path: str) -> Json:
    """The same question in the dialect of another path, as a stream."""
    if path == "/v1/responses":
        return {"model": "m", "input": "x", "stream": True}
    return {**body(), **({"max_tokens": 9} if path == "/v1/messages" else {})}


async def tells(exchange: Exchange) -> None:
    """Says its words, streamed or whole."""
    if exchange.json.get("stream"):
        await exchange.stream(ROLE, *[delta(content=word) for word in WORDS], STOP, DONE)
    else:
        await exchange.reply(whole("".join(WORDS)))


def whole(text: str) -> bytes:
    message = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    return msgspec.json.encode(
        {"id": "c1", "object": "chat.completion", "created": 1, "model": "m", "choices": [message], "usage": usage}
    )


class Told:
    """Says one word after the other, when it is told to."""

    def __init__(self) -> None:
        self.step = asyncio.Semaphore(0)
        self.asked = asyncio.Event()

    async def __call__(self, exchange: Exchange) -> None:
        self.asked.set()
        await exchange.head(Transfer_Encoding="chunked")
        await exchange.chunk(ROLE)
        for word in WORDS:
            await self._wait(exchange)
            await exchange.chunk(delta(content=word))
        await self._wait(exchange)
        await exchange.chunk(STOP + DONE)
        await exchange.chunk(b"")

    async def _wait(self, exchange: Exchange) -> None:
        """For the next step; or for the gateway to leave."""
        tasks = [asyncio.ensure_future(self.step.acquire()), asyncio.ensure_future(exchange.closed.wait())]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()

    def go(self, steps: int = len(WORDS) + 1) -> None:
        for _ in range(steps):
            self.step.release()


@dataclass
class Scene:
    """A gateway, its provider, and Ann's client."""

    running: Running
    provider: ScriptedProvider
    ann: aiohttp.ClientSession

    async def submit(self, **said: Any) -> str:
        """A job's path."""
        headers = {**ASYNC, **said.pop("headers", {})}
        async with self.ann.post(said.pop("path", PATH), json=said or body(), headers=headers) as reply:
            assert reply.status == 202, await reply.text()
            return reply.headers["Location"]

    async def get(self, path: str) -> Json:
        async with self.ann.get(path) as reply:
            assert reply.status == 200, await reply.text()
            found: Json = await reply.json()
            return found

    async def ended(self, path: str) -> Json:
        found = await self.get(f"{path}?wait=20")
        assert found["ended_at"] is not None, found
        return found

    async def until(self, path: str, state: str) -> Json:
        async with asyncio.timeout(20):
            while (found := await self.get(path))["state"] != state:  # noqa: ASYNC110  # another task's doing
                await asyncio.sleep(0.01)
        return found


@asynccontextmanager
async def scene(
    script: Callable[[Exchange], Awaitable[None]] = tells, *plugins: Json, base: Json | None = None, **jobs: Any
) -> AsyncIterator[Scene]:
    async with scripted(script) as provider:
        made = {**config(provider.url, *plugins, **jobs), **(base or {})}
        headers = {"Authorization": f"Bearer {ANN}"}
        async with gateway(made) as running, aiohttp.ClientSession(running.url, headers=headers) as ann:
            yield Scene(running, provider, ann)


@dataclass
class Event:
    """One that a reader has got."""

    id: str
    kind: str
    data: str


def events(text: str) -> list[Event]:
    """As an `EventSource` reads them; comments, and what has no data, are no events."""
    found = []
    for block in text.split("\n\n"):
        lines = [line.partition(":") for line in block.split("\n") if line and not line.startswith(":")]
        fields: dict[str, list[str]] = {}
        for name, _, value in lines:
            fields.setdefault(name, []).append(value.removeprefix(" "))
        if "data" in fields:
            kind = fields.get("event", ["message"])[-1]
            found.append(Event(fields.get("id", [""])[-1], kind, "\n".join(fields["data"])))
    return found


def text_of(found: list[Event]) -> str:
    """The words of a chat."""
    chunks = [msgspec.json.decode(one.data) for one in found if one.kind == "message" and one.data != "[DONE]"]
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk.get("choices", ()))


async def cut(reply: aiohttp.ClientResponse, count: int) -> list[Event]:
    """What came until the connection was cut, after so many events."""
    seen = b""
    while seen.count(b"data: ") < count:
        seen += await reply.content.readany()
    assert reply.connection is not None
    assert reply.connection.transport is not None
    reply.connection.transport.abort()
    return events(seen.decode())


async def read_by_an_sdk(on: Scene) -> str:
    """The text of a stream, as OpenAI's client has it."""
    async with openai.AsyncOpenAI(base_url=on.running.url + "/v1", api_key=ANN) as client:
        messages: Any = body()["messages"]
        stream = await client.chat.completions.create(model="m", messages=messages, stream=True)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])
