"""What tests of endings share: who asks, in whose words, and what is to be seen of a call afterwards."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import aiohttp

from sidegate.testing import Running, Script, ScriptedProvider, gateway, scripted
from sidegate.wire import sse
from sidegate.wire.sse import Splitter

KEY = "sk-upstream-5ecret-5ecret-5ecret"
SHORT = 0.3
"""Seconds of each phase: a provider that does not answer is given up on while the test waits."""

LONG = {"connect": 10, "first_token": 30, "idle": 30}
"""Where a timeout is to play no part, also on a machine that is busy."""


@dataclass(frozen=True)
class Client:
    """A client by its dialect: where it asks, and what its clean end is."""

    dialect: str
    path: str
    mark: str

    def body(self, stream: bool, **more: Any) -> dict[str, Any]:
        if self.dialect == "openai_responses":
            return {"model": "m", "max_output_tokens": 50, "input": "hi", "stream": stream, **more}
        asked = {"model": "m", "max_tokens": 50, "messages": [{"role": "user", "content": "hi"}], "stream": stream}
        return {**asked, **more}

    def error(self, body: bytes) -> dict[str, Any]:
        """What an error body or the data of an error event says."""
        decoded = json.loads(body)
        if self.dialect == "anthropic":
            assert decoded["type"] == "error", decoded
            assert decoded["request_id"]
        error: dict[str, Any] = decoded["error"]
        openai = self.dialect != "anthropic"
        assert set(error) == ({"message", "type", "param", "code"} if openai else {"type", "message"})
        return error

    def text(self, body: bytes) -> str:
        """The text of a whole body."""
        decoded = json.loads(body)
        if self.dialect == "anthropic":
            return "".join(block["text"] for block in decoded["content"])
        if self.dialect == "openai_responses":
            return "".join(piece["text"] for item in decoded["output"] for piece in item["content"])
        return str(decoded["choices"][0]["message"]["content"])


OPENAI = Client("openai", "/v1/chat/completions", "[DONE]")
ANTHROPIC = Client("anthropic", "/v1/messages", "message_stop")
RESPONSES = Client("openai_responses", "/v1/responses", "response.completed")
CLIENTS = (OPENAI, ANTHROPIC, RESPONSES)


@dataclass
class Seen:
    """What a client got of a call."""

    client: Client
    status: int
    headers: Mapping[str, str]
    body: bytes
    whole: bool
    """The HTTP body came to its proper end."""
    seconds: float

    @property
    def id(self) -> str:
        return self.headers["x-request-id"]

    @cached_property
    def events(self) -> list[bytes]:
        """The events of a stream."""
        assert self.headers["Content-Type"] == "text/event-stream"
        splitter = Splitter()
        found = splitter.feed(self.body)
        assert splitter.close() is None, "the stream ends inside an event"
        return found

    @cached_property
    def told(self) -> list[Any]:
        """The events' data; the mark of OpenAI's end as it is."""
        told: list[Any] = []
        for event in self.events:
            if (data := sse.data(event)) is not None:
                told.append(self.client.mark if data == b"[DONE]" else json.loads(data))
        return told

    @property
    def text(self) -> str:
        """What a stream said."""
        if self.client.dialect == "anthropic":
            return "".join(
                each["delta"].get("text", "") for each in self.told if each.get("type", "").endswith("delta")
            )
        if self.client.dialect == "openai_responses":
            return "".join(each["delta"] for each in self.told if each["type"].endswith("text.delta"))
        choices = [each["choices"] for each in self.told if isinstance(each, dict) and "choices" in each]
        return "".join(choice[0]["delta"].get("content") or "" for choice in choices if choice)

    @property
    def marked(self) -> bool:
        """It says that it is complete."""
        return bool(self.told) and self.client.mark in (self.told[-1], _kind(self.told[-1]))

    @property
    def failure(self) -> dict[str, Any] | None:
        """The error event at its end, if there is one."""
        if not self.told or not isinstance(self.told[-1], dict) or "error" not in self.told[-1]:
            return None
        return self.client.error(sse.data(self.events[-1]) or b"")


def _kind(told: Any) -> str:
    return str(told.get("type", "")) if isinstance(told, dict) else ""


@dataclass
class Scene:
    """A gateway before a provider, and a client."""

    running: Running
    provider: ScriptedProvider
    http: aiohttp.ClientSession

    async def ask(self, client: Client, stream: bool, **more: Any) -> Seen:
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with asyncio.timeout(20):
            async with self.http.post(self.running.url + client.path, json=client.body(stream, **more)) as reply:
                body, whole = b"", True
                try:
                    async for piece in reply.content.iter_any():
                        body += piece
                except aiohttp.ClientPayloadError:
                    whole = False
                return Seen(client, reply.status, reply.headers, body, whole, loop.time() - began)

    async def record(self, call_id: str) -> Any:
        """What the ledger says of a call, with its attempts."""
        async with self.http.get(f"{self.running.url}/v1/calls/{call_id}") as reply:
            assert reply.status == 200
            return await reply.json()

    async def closed(self, number: int = -1) -> float:
        """Wait until the provider's socket was closed; seconds since its request came."""
        exchange = self.provider.exchanges[number]
        async with asyncio.timeout(20):
            await exchange.closed.wait()
        assert exchange.closed_at is not None
        return exchange.closed_at - exchange.arrived


@asynccontextmanager
async def scene(script: Script, dialect: str = "openai", **config: Any) -> AsyncIterator[Scene]:
    """A gateway whose model `m` leads to a provider that does what `script` says; nothing is tried twice."""
    async with scripted(script) as provider, gateway(leads(provider.url, dialect, **config)) as running:
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http:
            yield Scene(running, provider, http)


def leads(url: str, dialect: str = "openai", **config: Any) -> dict[str, Any]:
    """A config with short timeouts that leads to this provider."""
    timeouts = {"connect": SHORT, "first_token": SHORT, "idle": SHORT, **config.pop("timeouts", {})}
    provider = {
        "dialect": dialect,
        "base_url": url,
        "api_key": KEY,
        "timeouts": timeouts,
        "retry": {"attempts": 1},
        **config.pop("provider", {}),
    }
    return {
        "providers": {"p": provider},
        "models": {"m": {"provider": "p", "model": "real"}},
        "pipelines": {"main": {"plugins": config.pop("plugins", [])}},
        "server": {"drain": 1, **config.pop("server", {})},
        **config,
    }


async def until(condition: Callable[[], bool], seconds: float = 20) -> float:
    """Wait for what another task does; gives how long it took."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    while not condition():
        assert loop.time() < began + seconds, "it never came to be"
        await asyncio.sleep(0.002)
    return loop.time() - began
