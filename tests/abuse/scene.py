"""The scene of an abuse: a gateway before two scripted providers, and what every refusal must look like."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from sidegate.testing import Exchange, Running, Script, ScriptedProvider, gateway, scripted
from tests.abuse.sockets import Answer, request

PROVIDER_KEY = "sk-provider-5ecret-5ecret-5ecret"
CLIENT_KEY = "sg-client-5ecret-5ecret-5ecret-00"
INTERNAL = (b"Traceback", b"aiohttp", b"msgspec", b"sidegate.", b"/work", b".py", b"127.0.0.1", b"5ecret")


@dataclass(frozen=True)
class Shape:
    """A way to ask: the path and so the words of an answer, and a model that leads to a provider."""

    name: str
    path: str
    model: str

    @property
    def fields(self) -> dict[str, Any]:
        """A request that is right."""
        return {"model": self.model, "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}

    def body(self, **changed: Any) -> bytes:
        return json.dumps({**self.fields, **changed}).encode()

    def raw(self, text: str) -> bytes:
        """A request with a member more, in the JSON that is given. It stands last, so it counts."""
        return self.body()[:-1] + b", " + text.encode() + b"}"

    def asks(self, body: bytes | None = None, **given: Any) -> bytes:
        """The bytes of a whole HTTP request."""
        return request(self.path, self.body() if body is None else body, **given)


OPENAI = Shape("openai", "/v1/chat/completions", "gpt")
ANTHROPIC = Shape("anthropic", "/v1/messages", "claude")
CROSSED = Shape("crossed", "/v1/messages", "gpt")
"""An Anthropic client of an OpenAI provider: its request is read in full and written anew."""
SHAPES = (OPENAI, ANTHROPIC, CROSSED)


@dataclass(frozen=True)
class Scene:
    """A running gateway and its one provider, which speaks both dialects."""

    running: Running
    provider: ScriptedProvider

    @property
    def url(self) -> str:
        return self.running.url

    @property
    def asked(self) -> int:
        """How many requests reached the provider."""
        return len(self.provider.exchanges)


async def answers(exchange: Exchange) -> None:
    """The script of a provider that is well."""
    if exchange.path.endswith("/messages"):
        await exchange.reply(anthropic_says("hi"))
    else:
        await exchange.reply(openai_says("hi"))


def openai_says(text: str) -> bytes:
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    whole = {"id": "c1", "object": "chat.completion", "created": 1, "model": "gpt", "choices": [choice], "usage": usage}
    return json.dumps(whole).encode()


def anthropic_says(text: str) -> bytes:
    whole = {"id": "m1", "type": "message", "role": "assistant", "model": "claude", "stop_reason": "end_turn"}
    content = [{"type": "text", "text": text}]
    return json.dumps({**whole, "content": content, "usage": {"input_tokens": 1, "output_tokens": 1}}).encode()


def openai_event(text: str | None, finish: str | None = None) -> bytes:
    delta = {"role": "assistant", "content": text} if text is not None else {}
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    chunk = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "gpt", "choices": [choice]}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def config(url: str, *plugins: Mapping[str, Any], **rest: Any) -> dict[str, Any]:
    """A gateway before the provider at `url`; nothing is kept."""
    named = {"base_url": url, "api_key": PROVIDER_KEY}
    return {
        "providers": {"o": {"dialect": "openai", **named}, "a": {"dialect": "anthropic", **named}},
        "models": {"gpt": {"provider": "o"}, "claude": {"provider": "a"}},
        "pipelines": {"main": {"plugins": list(plugins)}},
        "ledger": {"url": ""},
        **rest,
        "server": {"drain": 1, **rest.get("server", {})},
    }


@asynccontextmanager
async def scene(*plugins: Mapping[str, Any], script: Script = answers, **rest: Any) -> AsyncIterator[Scene]:
    """Both, running. `rest` is of the config."""
    async with scripted(script) as provider, gateway(config(provider.url, *plugins, **rest)) as running:
        yield Scene(running, provider)


def check_refusal(answer: Answer, shape: Shape, *statuses: int) -> str:
    """One error in the client's own words, with an id, that says nothing of the inside. Gives its message."""
    assert answer.status in statuses, (answer.status, answer.body)
    assert (answer.header("content-type") or "").split(";")[0] == "application/json"
    assert len(answer.header("x-request-id") or "") == 32
    assert not [word for word in INTERNAL if word in answer.body], answer.body
    error = answer.json["error"]
    assert error["message"]
    if shape is OPENAI:
        assert answer.json.keys() == {"error"}
        assert error.keys() == {"message", "type", "param", "code"}
    else:
        assert answer.json.keys() == {"type", "error", "request_id"}
        assert answer.json["request_id"] == answer.header("x-request-id") == answer.header("request-id")
        assert answer.json["type"] == "error"
        assert error.keys() == {"type", "message"}
    return str(error["message"])


def check_problem(answer: Answer, *statuses: int) -> None:
    """An error of Sidegate's own: problem details (RFC 9457)."""
    assert answer.status in statuses, (answer.status, answer.body)
    assert answer.header("content-type") == "application/problem+json"
    assert answer.json.keys() == {"type", "title", "status", "detail", "code", "request_id"}
    assert answer.json["status"] == answer.status
    assert answer.json["request_id"] == answer.header("x-request-id")
    assert not [word for word in INTERNAL if word in answer.body], answer.body
