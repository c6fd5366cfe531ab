"""What tests across dialects share: one gateway before a provider of each dialect, asked by a client of each."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from sidegate.contract.meaning import Part
from sidegate.testing import Exchange, Running, Script, ScriptedProvider, gateway, scripted
from sidegate.wire.dialect import Fields, Sign
from sidegate.wire.registry import DIALECTS
from tests.wire.asking import asked

PROVIDERS: Mapping[str, str] = {
    "openai.chat": "openai",
    "openai.responses": "openai_responses",
    "anthropic.messages": "anthropic",
    "gemini.generate": "gemini",
}
"""Dialects, as the config says them."""

PATHS: Mapping[str, str] = {
    "openai.chat": "/v1/chat/completions",
    "openai.responses": "/v1/responses",
    "anthropic.messages": "/v1/messages",
    "ai_sdk.ui_messages": "/api/chat",
}
UI = "ai_sdk.ui_messages"
CLIENTS = ("openai.chat", "openai.responses", "anthropic.messages", "gemini.generate")
"""Those that providers speak, too."""


@dataclass
class Answer:
    """What a client got."""

    client: str
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def stream(self) -> bool:
        return self.headers["Content-Type"].startswith("text/event-stream")

    @property
    def batches(self) -> list[tuple[Part, ...]]:
        """What it says, event by event, as a reader of the client's dialect takes it. Raises where it fails."""
        dialect = DIALECTS[self.client]
        if not self.stream:
            return [dialect.read_whole(self.body)]
        splitter, meter = dialect.splitter(), dialect.meter()
        events = splitter.feed(self.body)
        assert splitter.close() is None, "the stream ends inside an event"
        found: list[tuple[Part, ...]] = []
        for event in events:
            if meter.event(event) is not Sign.NOTHING:
                found.append((meter.reader or dialect.read_event)(event))
        assert meter.finished, "the stream has no clean end"
        return found

    @property
    def parts(self) -> list[Part]:
        return [part for batch in self.batches for part in batch]

    @property
    def error(self) -> dict[str, Any]:
        """What an error body says."""
        error = json.loads(self.body)["error"]
        assert isinstance(error, dict)
        return error

    @property
    def param(self) -> str:
        """The field that a refusal names."""
        if self.client == "gemini.generate":
            return next(
                str(each["fieldViolations"][0]["field"]) for each in self.error["details"] if "fieldViolations" in each
            )
        return str(self.error["param"]) if "param" in self.error else str(self.error["message"]).partition(":")[0]


class Across:
    """The gateway: model `NAME` leads to the provider of that dialect, which does what `plays[NAME]` says."""

    def __init__(self, running: Running, http: aiohttp.ClientSession, providers: dict[str, ScriptedProvider]) -> None:
        self.running = running
        self.providers = providers
        self.plays: dict[str, Script] = {}
        self._http = http

    async def ask(self, client: str, model: str, fields: Fields | None = None, *, stream: bool = False) -> Answer:
        """Ask `model` as a client of that dialect does."""
        body = {name: json.loads(bytes(raw)) for name, raw in (asked(client) if fields is None else fields).items()}
        del body["model"]
        stream = stream or client == UI
        if client == "gemini.generate":
            method = "streamGenerateContent?alt=sse" if stream else "generateContent"
            path = f"/v1beta/models/{model}:{method}"
        else:
            path = PATHS[client]
            body |= {"model": model, "stream": stream} if stream and client != UI else {"model": model}
        if client == "openai.chat" and stream:
            body["stream_options"] = {"include_usage": True}
        async with self._http.post(self.running.url + path, json=body, timeout=aiohttp.ClientTimeout(30)) as reply:
            return Answer(client, reply.status, reply.headers, await reply.read())

    def sent(self, provider: str) -> dict[str, Any]:
        """The last request that a provider was asked."""
        found = self.providers[provider].exchanges[-1].json
        assert isinstance(found, dict)
        return found

    def count(self) -> int:
        """How often any of the providers was asked."""
        return sum(len(provider.exchanges) for provider in self.providers.values())


@asynccontextmanager
async def across(**config: Any) -> AsyncIterator[Across]:
    """A gateway before one provider of each dialect. `config` may have models besides."""
    async with AsyncExitStack() as stack:
        there: list[Across] = []
        providers = {name: await stack.enter_async_context(scripted(_playing(there, name))) for name in PROVIDERS}
        settings = {
            "providers": {
                name: {
                    "dialect": PROVIDERS[name],
                    "base_url": provider.url,
                    "api_key": "sk-upstream-secret",
                    "retry": {"attempts": 1},
                    "circuit": None,
                }
                for name, provider in providers.items()
            },
            "pipelines": {"main": {"plugins": [{"use": "log"}, *config.pop("plugins", [])]}},
            "server": {"drain": 1},
            **config,
            "models": {**{name: {"provider": name, "model": "real"} for name in PROVIDERS}, **config.pop("models", {})},
        }
        running = await stack.enter_async_context(gateway(settings))
        http = await stack.enter_async_context(aiohttp.ClientSession())
        there.append(Across(running, http, providers))
        yield there[0]


def _playing(there: list[Across], name: str) -> Script:
    async def script(exchange: Exchange) -> None:
        await there[0].plays[name](exchange)

    return script
