"""Replies in OpenAI's dialects for tests: made by hand, and told in plain words."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from sidegate.contract.meaning import (
    Finish,
    Part,
    Reasoning,
    RefusalText,
    Report,
    Text,
    ToolCall,
    Usage,
)
from sidegate.wire import sse
from sidegate.wire.dialect import Dialect, Envelope
from sidegate.wire.openai_chat.dialect import OpenAIChat

chat: Dialect = OpenAIChat()
ENVELOPE = Envelope(id="1", model="asked", created=7)


def split(body: bytes) -> list[bytes]:
    splitter = sse.Splitter()
    events = splitter.feed(body)
    rest = splitter.close()
    return events if rest is None else [*events, rest]


def read(dialect: Dialect, body: bytes) -> list[Part]:
    return [part for event in split(body) for part in dialect.read_event(event)]


def payloads(body: bytes) -> list[dict[str, Any]]:
    found = [data for event in split(body) if (data := sse.data(event)) is not None]
    return [json.loads(data) for data in found if data.strip() != b"[DONE]"]


def said(parts: Iterable[Part]) -> dict[int, dict[str, Any]]:
    """What each choice said, gathered by hand: text, reasoning, refusal, calls in order, finish."""
    choices: dict[int, dict[str, Any]] = {}

    def choice(index: int) -> dict[str, Any]:
        empty: dict[str, Any] = {"text": "", "reasoning": "", "refusal": "", "calls": {}, "finish": None}
        return choices.setdefault(index, empty)

    for part in parts:
        if isinstance(part, Text):
            choice(part.choice)["text"] += part.text
        elif isinstance(part, Reasoning):
            choice(part.choice)["reasoning"] += part.text
        elif isinstance(part, RefusalText):
            choice(part.choice)["refusal"] += part.text
        elif isinstance(part, ToolCall):
            call = choice(part.choice)["calls"].setdefault(part.block, ["", "", ""])
            call[0], call[1], call[2] = call[0] or part.id or "", call[1] or part.name or "", call[2] + part.arguments
        elif isinstance(part, Finish):
            choice(part.choice)["finish"] = part.reason
    for one in choices.values():
        one["calls"] = [one["calls"][block] for block in sorted(one["calls"])]
    return choices


def reported(parts: Iterable[Part]) -> Usage | None:
    usage: Usage | None = None
    for part in parts:
        if isinstance(part, Report):
            usage = part.usage if usage is None else usage.merge(part.usage)
    return usage


def event(**payload: Any) -> bytes:
    return sse.frame(json.dumps({"id": "c", "model": "m", "object": "chat.completion.chunk", **payload}).encode())


def delta(index: int = 0, finish: str | None = None, **said: Any) -> bytes:
    return event(choices=[{"index": index, "delta": said, "finish_reason": finish}])


USAGE = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
DONE = b"data: [DONE]\n\n"


def whole(*choices: dict[str, Any], **more: Any) -> bytes:
    head = {"id": "c", "model": "m", "created": 1, "object": "chat.completion"}
    return json.dumps({**head, "choices": list(choices), **more}).encode()
