"""What hosts of OpenAI's dialect do otherwise, as their recordings and pages show it: every client gets it right."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import msgspec
import pytest

from sidegate.contract.meaning import Finish, Part, Reasoning, RefusalText, Report, Text, ToolCall, Usage
from sidegate.testing import Exchange, Script
from tests.across.ground import CLIENTS, Across, Answer, across
from tests.relaying import DONE, ROLE, delta, event
from tests.wire.recordings import Case, cases

OWN = "openai.chat"
USED = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}


def chunk(*choices: dict[str, Any], **more: Any) -> bytes:
    head = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "real-1"}
    return event({**head, "choices": list(choices), **more})


def ends(reason: str = "stop", **more: Any) -> bytes:
    return chunk({"index": 0, "delta": {}, "finish_reason": reason}, **more)


def whole(message: dict[str, Any] | None, reason: str = "stop", usage: Any = USED, **more: Any) -> bytes:
    said = {} if message is None else {"message": {"role": "assistant", **message}}
    body = {"id": "c1", "object": "chat.completion", "created": 1, "model": "real-1", "usage": usage, **more}
    return msgspec.json.encode({**body, "choices": [{"index": 0, **said, "finish_reason": reason}]})


def tool(index: int | None, id: str, name: str, arguments: str) -> dict[str, Any]:
    placed = {} if index is None else {"index": index}
    return {**placed, "id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


@dataclass(frozen=True, kw_only=True)
class Quirk:
    """One habit: what a host sends, streamed and whole, and what it means."""

    stream: tuple[bytes, ...]
    whole: bytes
    text: str = ""
    reasoning: str = ""
    calls: tuple[tuple[str, Any], ...] = ()
    finish: str = "stop"
    used: tuple[int, int] = (7, 5)
    fine: dict[str, int] = field(default_factory=dict)
    """Finer kinds of usage, as the gateway's own record has them."""


TWO = (("f", {"x": 1}), ("g", {"y": 2}))
ANNOTATION = {"index": 0, "finish_reason": None, "content_filter_results": {"hate": {"filtered": False}}}
NAMELESS = {"id": "", "object": "", "created": 0, "model": "", "usage": None}
FAILED_FILTER = {"error": {"code": "content_filter_error", "message": "The contents are not filtered"}}
THINKING = [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}, {"type": "text", "text": "Hé"}]

QUIRKS = {
    # https://learn.microsoft.com/azure/foundry/openai/concepts/content-streaming
    "azure annotates the prompt before the first word": Quirk(
        stream=(
            chunk(prompt_filter_results=[{"prompt_index": 0}], **NAMELESS),
            ROLE,
            delta(content="Hé"),
            ends(),
            chunk(usage=USED),
            DONE,
        ),
        whole=whole({"content": "Hé"}, prompt_filter_results=[{"prompt_index": 0}]),
        text="Hé",
    ),
    "azure annotates between and after the words": Quirk(
        stream=(
            ROLE,
            delta(content="H"),
            chunk(ANNOTATION, **NAMELESS),
            delta(content="é"),
            ends(),
            chunk({**ANNOTATION, "content_filter_offsets": {"check_offset": 506}}, **NAMELESS),
            chunk(usage=USED),
            DONE,
        ),
        whole=whole({"content": "Hé"}),
        text="Hé",
    ),
    "azure stops by its filter after words": Quirk(
        stream=(
            ROLE,
            delta(content="Hé"),
            chunk({**ANNOTATION, "finish_reason": "content_filter"}, **NAMELESS),
            chunk(usage=USED),
            DONE,
        ),
        whole=whole({"content": "Hé"}, "content_filter"),
        text="Hé",
        finish="content_filter",
    ),
    "azure leaves the message out": Quirk(
        stream=(chunk({**ANNOTATION, "finish_reason": "content_filter"}), chunk(usage=USED), DONE),
        whole=whole(None, "content_filter"),
        finish="content_filter",
    ),
    "azure could not filter": Quirk(
        stream=(
            ROLE,
            chunk({"index": 0, "delta": {"content": "Hé"}, "content_filter_result": FAILED_FILTER}),
            ends(),
            chunk(usage=USED),
            DONE,
        ),
        whole=whole({"content": "Hé", "content_filter_result": FAILED_FILTER}),
        text="Hé",
    ),
    "mistral thinks in a list of content": Quirk(
        stream=(ROLE, delta(content=THINKING), ends(usage=USED), DONE),
        whole=whole({"content": THINKING}),
        text="Hé",
        reasoning="Hm.",
    ),
    "groq tells usage in a place of its own": Quirk(
        stream=(ROLE, delta(content="Hé"), ends(x_groq={"id": "r", "usage": USED}), DONE),
        whole=whole({"content": "Hé"}, x_groq={"id": "r"}),
        text="Hé",
    ),
    "moonshot tells usage in its choice": Quirk(
        stream=(
            ROLE,
            delta(content="Hé"),
            chunk({"index": 0, "delta": {}, "finish_reason": "stop", "usage": USED}),
            DONE,
        ),
        whole=whole({"content": "Hé"}),
        text="Hé",
    ),
    "usage comes with the finish": Quirk(
        stream=(ROLE, delta(content="Hé"), ends(usage=USED), DONE), whole=whole({"content": "Hé"}), text="Hé"
    ),
    "usage comes twice, and more of it": Quirk(
        stream=(
            chunk({"index": 0, "delta": {"role": "assistant"}}, usage={**USED, "completion_tokens": 1}),
            delta(content="Hé"),
            ends(usage={**USED, "completion_tokens": 4}),
            chunk(usage=USED),
            DONE,
        ),
        whole=whole({"content": "Hé"}),
        text="Hé",
    ),
    "openrouter comments while it works, and reasons under two names": Quirk(
        stream=(
            b": OPENROUTER PROCESSING\n\n",
            ROLE,
            delta(reasoning="Hm.", reasoning_details=[{"type": "reasoning.text", "text": "Hm.", "index": 0}]),
            b": OPENROUTER PROCESSING\n\n",
            delta(content="Hé"),
            ends(),
            chunk({"index": 0, "delta": {"role": "assistant", "content": ""}}, usage=USED),
            DONE,
        ),
        whole=whole({"content": "Hé", "reasoning": "Hm.", "reasoning_details": [{"text": "Hm."}]}),
        text="Hé",
        reasoning="Hm.",
    ),
    "deepseek reasons and caches by names of its own": Quirk(
        stream=(
            ROLE,
            delta(reasoning_content="Hm.", content=None),
            delta(content="Hé", reasoning_content=None),
            ends(usage={**USED, "prompt_cache_hit_tokens": 3, "prompt_cache_miss_tokens": 4}),
            DONE,
        ),
        whole=whole({"content": "Hé", "reasoning_content": "Hm."}, usage={**USED, "prompt_cache_hit_tokens": 3}),
        text="Hé",
        reasoning="Hm.",
        fine={"cache_read_tokens": 3},
    ),
    "xai counts reasoning beside the output": Quirk(
        stream=(
            ROLE,
            delta(reasoning_content="Hm."),
            delta(content="Hé"),
            ends(),
            chunk(usage={**USED, "total_tokens": 22, "completion_tokens_details": {"reasoning_tokens": 10}}),
            DONE,
        ),
        whole=whole(
            {"content": "Hé", "reasoning_content": "Hm."},
            usage={**USED, "total_tokens": 22, "completion_tokens_details": {"reasoning_tokens": 10}},
        ),
        text="Hé",
        reasoning="Hm.",
        used=(7, 15),
        fine={"reasoning_tokens": 10},
    ),
    "ollama of old calls tools under one index, and stops": Quirk(
        stream=(
            ROLE,
            delta(tool_calls=[tool(0, "a", "f", '{"x":1}')]),
            delta(tool_calls=[tool(0, "b", "g", '{"y":2}')]),
            ends(usage=USED),
            DONE,
        ),
        whole=whole({"content": "", "tool_calls": [tool(0, "a", "f", '{"x":1}'), tool(0, "b", "g", '{"y":2}')]}),
        calls=TWO,
        finish="tool_calls",
    ),
    "anthropic's endpoint of this dialect counts tools among the blocks": Quirk(
        stream=(
            ROLE,
            delta(content="Hé"),
            delta(tool_calls=[tool(1, "a", "f", "")]),
            delta(tool_calls=[{"index": 1, "function": {"arguments": '{"x":1}'}}]),
            delta(tool_calls=[tool(3, "b", "g", '{"y":2}')]),
            ends("tool_calls", usage=USED),
            DONE,
        ),
        whole=whole(
            {"content": "Hé", "tool_calls": [tool(1, "a", "f", '{"x":1}'), tool(3, "b", "g", '{"y":2}')]}, "tool_calls"
        ),
        text="Hé",
        calls=TWO,
        finish="tool_calls",
    ),
    "gemini's endpoint of this dialect gives tools no index": Quirk(
        stream=(
            ROLE,
            delta(tool_calls=[tool(None, "a", "f", '{"x":1}')]),
            delta(tool_calls=[tool(None, "b", "g", '{"y":2}')]),
            ends("tool_calls", usage=USED),
            DONE,
        ),
        whole=whole({"tool_calls": [tool(None, "a", "f", '{"x":1}'), tool(None, "b", "g", '{"y":2}')]}, "tool_calls"),
        calls=TWO,
        finish="tool_calls",
    ),
    "vllm and transformers end without a marker": Quirk(
        stream=(ROLE, delta(content="Hé"), ends("length"), chunk(usage=USED)),
        whole=whole({"content": "Hé"}, "length"),
        text="Hé",
        finish="length",
    ),
}


def sends(stream: Sequence[bytes], body: bytes) -> Script:
    async def script(exchange: Exchange) -> None:
        await (exchange.stream(*stream) if exchange.json.get("stream") else exchange.reply(body))

    return script


def calls_of(parts: Sequence[Part]) -> tuple[tuple[str, Any], ...]:
    """The tool calls, whole: by their ids where they have any, for pieces under one index."""
    found: dict[Any, list[str]] = {}
    key: Any = None
    for part in parts:
        if isinstance(part, ToolCall):
            key = part.id or (key if key is not None else part.block)
            name, arguments = found.setdefault(key, ["", ""])
            found[key] = [name or part.name or "", arguments + part.arguments]
    return tuple((name, json.loads(arguments or "{}")) for name, arguments in found.values())


def usage_of(parts: Sequence[Part]) -> Usage:
    used = Usage()
    for part in parts:
        if isinstance(part, Report):
            used = used.merge(part.usage)
    return used


def said(parts: Sequence[Part], kind: type[Text] | type[Reasoning] | type[RefusalText]) -> str:
    return "".join(part.text for part in parts if isinstance(part, kind))


def check(answer: Answer, quirk: Quirk) -> None:
    parts = answer.parts
    assert said(parts, Text) == quirk.text, answer.client
    assert said(parts, Reasoning) == quirk.reasoning, answer.client
    assert calls_of(parts) == quirk.calls, answer.client
    used = usage_of(parts)
    if answer.client != OWN or quirk.used == (7, 5):
        assert (used.input_tokens, used.output_tokens) == quirk.used, answer.client
    assert b"PROCESSING" not in answer.body
    reasons = {part.reason for part in parts if isinstance(part, Finish)}
    expected = {quirk.finish, "refusal"} if quirk.finish == "content_filter" else {quirk.finish}
    if answer.client == OWN or (quirk.calls and answer.client == "gemini.generate"):
        # A client of the same dialect hears what the host says; Gemini has one word for both.
        expected |= {"stop", "tool_calls"} if quirk.calls else set()
    assert reasons, answer.client
    assert reasons <= expected, answer.client


async def record(ground: Across, http: aiohttp.ClientSession, answer: Answer) -> Any:
    async with http.get(f"{ground.running.url}/v1/calls/{answer.headers['x-request-id']}") as reply:
        return await reply.json()


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "buffered"])
@pytest.mark.parametrize("name", QUIRKS)
async def test_every_client_understands(http: aiohttp.ClientSession, name: str, stream: bool) -> None:
    quirk = QUIRKS[name]
    async with across() as ground:
        ground.plays[OWN] = sends(quirk.stream, quirk.whole)
        for client in CLIENTS:
            answer = await ground.ask(client, OWN, stream=stream)
            assert answer.status == 200, answer.body
            check(answer, quirk)
            known = await record(ground, http, answer)
            assert (known["ending"], known["input_tokens"], known["output_tokens"]) == ("complete", *quirk.used), client
            assert {kind: known[kind] for kind in quirk.fine} == quirk.fine


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "buffered"])
async def test_usage_that_nobody_told_is_estimated_and_marked(http: aiohttp.ClientSession, stream: bool) -> None:
    async with across() as ground:
        ground.plays[OWN] = sends((ROLE, delta(content="Hé"), ends(), DONE), whole({"content": "Hé"}, usage=None))
        for client in CLIENTS:
            known = await record(ground, http, await ground.ask(client, OWN, stream=stream))
            assert known["ending"] == "complete"
            assert known["estimated"] is True


# --- failures ---------------------------------------------------------------------------------------------------------

SECRET = "nginx-10.1.2.3"
FAILURES = {
    "mistral's detail": (422, b'{"detail":[{"loc":["body"],"msg":"Extra inputs"}]}', 422, "Extra inputs"),
    "mistral's message": (
        400,
        b'{"object":"error","message":"Bad model","type":"invalid","code":"1500"}',
        400,
        "Bad model",
    ),
    "xai's text": (
        400,
        b'{"code":"Client specified an invalid argument","error":"No such thing"}',
        400,
        "No such thing",
    ),
    "openrouter's number": (429, b'{"error":{"code":429,"message":"Slow down","metadata":{}}}', 429, "Slow down"),
    "azure's filter": (
        400,
        b'{"error":{"message":"Filtered.","param":"prompt","code":"content_filter","status":400,"innererror":{}}}',
        400,
        "Filtered.",
    ),
    "azure's status in words": (401, b'{"error":{"code":"401","message":"nginx-10.1.2.3"}}', 502, "credentials"),
    "a proxy's page": (503, b"<html><h1>503</h1>nginx-10.1.2.3</html>", 503, "overloaded"),
    "a proxy's text": (529, b"nginx-10.1.2.3 overloaded", 503, "overloaded"),
    "azure's error in a good reply": (200, b'{"error":{"code":"429","message":"Slow down"}}', 429, "Slow down"),
    "openrouter's error in a good reply": (200, b'{"error":{"code":502,"message":"nginx-10.1.2.3"}}', 502, "failed"),
}


@pytest.mark.parametrize("name", FAILURES)
async def test_a_failure_is_one_in_every_clients_dialect(name: str) -> None:
    status, body, expected, words = FAILURES[name]
    kind = "application/json" if body.startswith(b"{") else "text/html" if body.startswith(b"<") else "text/plain"

    async def fails(exchange: Exchange) -> None:
        await exchange.reply(body, status, kind)

    async with across() as ground:
        ground.plays[OWN] = fails
        for client in CLIENTS:
            for stream in (True, False):
                answer = await ground.ask(client, OWN, stream=stream)
                assert answer.status == expected, (client, answer.body)
                assert words in str(answer.error["message"]), client
                assert SECRET.encode() not in answer.body


async def test_a_failure_inside_a_stream_is_an_event_of_every_clients_dialect() -> None:
    failing = chunk(
        {"index": 0, "delta": {"content": ""}, "finish_reason": "error"}, error={"code": 429, "message": "Now"}
    )

    async with across() as ground:
        ground.plays[OWN] = sends((b": OPENROUTER PROCESSING\n\n", ROLE, delta(content="Hé"), failing), b"")
        for client in CLIENTS:
            answer = await ground.ask(client, OWN, stream=True)
            assert answer.status == 200
            assert "Hé".encode() in answer.body
            assert b"Now" in answer.body, client
            assert b"[DONE]" not in answer.body
            assert b"message_stop" not in answer.body


# --- recordings -------------------------------------------------------------------------------------------------------

RECORDED = {
    "azure/chat-stream-tools-01": (0, "tool_calls"),
    "mistral/chat-stream-reasoning-01": (1, "stop"),
    "mistral/chat-stream-tools-cached-01": (0, "tool_calls"),
    "groq/chat-stream-reasoning-emoji-01": (1, "stop"),
    "openai-compatible/chat-stream-tools-01": (0, "tool_calls"),
    "openrouter/chat-stream-cached-non-ascii-01": (0, "stop"),
    "deepseek/chat-json-tool-result-in-reasoning-01": (1, "stop"),
    "xai/chat-stream-tools-reasoning-01": (1, "tool_calls"),
    "azure/chat-json-tools-parallel-tool-result-in-01": (0, "tool_calls"),
}


def recorded(name: str) -> Case:
    found = cases(name)
    if not found:
        pytest.skip(f"no recording {name}: they are not part of the repository")
    return found[0]


@pytest.mark.parametrize("name", RECORDED)
async def test_a_recording_means_the_same_to_every_client(name: str) -> None:
    case, (reasons, finish) = recorded(name), RECORDED[name]
    async with across() as ground:
        ground.plays[OWN] = sends((case.body,), case.body)
        heard = {client: (await ground.ask(client, OWN, stream=case.stream)).parts for client in CLIENTS}
    own = heard[OWN]
    assert bool(said(own, Reasoning)) == bool(reasons)
    for client, parts in heard.items():
        assert said(parts, Text) == said(own, Text), client
        assert said(parts, Reasoning) == said(own, Reasoning), client
        assert calls_of(parts) == calls_of(own), client
        last = [part.reason for part in parts if isinstance(part, Finish)][-1]
        assert last == finish or client == "gemini.generate", client
