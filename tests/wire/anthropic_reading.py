"""Readers of Anthropic's streams for tests, its own client among them, and replies to be written."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import httpx2
from hypothesis import strategies as st

from sidegate.contract.meaning import (
    BlockEnd,
    End,
    Finish,
    FinishReason,
    Part,
    Reasoning,
    Report,
    Start,
    Text,
    ToolCall,
    Usage,
)
from sidegate.wire import sse
from tests.wire.saying import events


def payloads(stream: bytes) -> list[dict[str, Any]]:
    return [json.loads(data) for event in events(stream) if (data := sse.data(event)) is not None]


def kinds(stream: bytes) -> list[str]:
    return [payload["type"] for payload in payloads(stream)]


def check_order(stream: bytes) -> None:
    """What every client relies on: blocks one after another, counted from 0, between the message's start and end."""
    open_index: int | None = None
    count = 0
    for event, payload in zip(events(stream), payloads(stream), strict=True):
        assert sse.kind(event) == payload["type"]
        match payload["type"]:
            case "content_block_start":
                assert (open_index, payload["index"]) == (None, count)
                open_index, count = count, count + 1
            case "content_block_delta":
                assert payload["index"] == open_index
            case "content_block_stop":
                assert payload["index"] == open_index
                open_index = None
            case "message_delta" | "message_stop":
                assert open_index is None
            case _:
                continue
    assert kinds(stream)[0] == "message_start"
    assert kinds(stream)[-2:] == ["message_delta", "message_stop"]


def sdk_message(stream: bytes) -> anthropic.types.Message:
    """The message as Anthropic's own client gathers it from the stream."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=stream)

    with (
        httpx2.Client(transport=httpx2.MockTransport(answer)) as http,
        anthropic.Anthropic(api_key="k", base_url="http://gateway", http_client=http) as client,
        client.messages.stream(model="m", max_tokens=9, messages=[{"role": "user", "content": "Hi"}]) as reply,
    ):
        return reply.get_final_message()


TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
REASONS: tuple[FinishReason, ...] = ("stop", "length", "tool_calls", "refusal")
COUNTS = st.integers(0, 10**9)
CALLS = st.dictionaries(st.text("abc", max_size=3), st.integers() | TEXT, max_size=3).map(json.dumps)


@st.composite
def replies(draw: st.DrawFn) -> list[list[Part]]:
    """Replies as dialects tell them: texts and thinking anywhere, calls in pieces that interleave."""
    queues: list[list[Part]] = []
    for number in range(draw(st.integers(0, 3))):
        arguments = draw(CALLS)
        cut = draw(st.integers(0, len(arguments)))
        pieces: list[Part] = [
            ToolCall("", f"id_{number}", f"tool_{number}", block=10 + number),
            ToolCall(arguments[:cut], block=10 + number),
            ToolCall(arguments[cut:], block=10 + number),
        ]
        queues.append([*pieces, BlockEnd(block=10 + number)] if draw(st.booleans()) else pieces)
    queues.append([Text(text, block=1) for text in draw(st.lists(TEXT, max_size=3))])
    queues.append([Reasoning(text, block=0) for text in draw(st.lists(TEXT, max_size=2))])
    parts: list[Part] = []
    while queues := [queue for queue in queues if queue]:
        parts.append(draw(st.sampled_from(queues)).pop(0))
    reason = draw(st.sampled_from(REASONS))
    fresh, read, made = draw(st.integers(1, 10**9)), draw(st.none() | COUNTS), draw(st.none() | COUNTS)
    usage = Usage(fresh + (read or 0) + (made or 0), draw(COUNTS), read, made, draw(st.none() | COUNTS))
    return [[Start("id", "m")], *([part] for part in parts), [Finish(reason)], [Report(usage)], [End()]]
