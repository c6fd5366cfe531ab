"""What providers say in tests across dialects, in each dialect's own bytes, and what a client has heard of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sidegate.contract.meaning import (
    BlockEnd,
    Citation,
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
from sidegate.testing import Exchange, Script
from sidegate.testing.spoken import streams
from sidegate.wire.registry import DIALECTS
from tests.across.ground import Answer
from tests.wire.saying import ENVELOPE, Said, said
from tests.wire.ui_reading import read as read_page

UI = "ai_sdk.ui_messages"
TEXT = "Grüße, 世界 🦊"
THOUGHT = "Hm, let me see."
URL = "https://example.com/sea"
CALLS = [("c1", "f", {"a": 1}), ("c2", "g", {"b": "ü"})]
USED = Usage(100, 20, cache_read_tokens=60, reasoning_tokens=5)

_VENDORS = {"openai.responses": "openai", "anthropic.messages": "anthropic", "gemini.generate": "gemini"}


def reply(*parts: Part, finish: FinishReason = "stop", usage: Usage | None = USED) -> list[Part]:
    told = [] if usage is None else [Report(usage)]
    return [Start("r1", "real-1"), *parts, Finish(finish), *told, End()]


def text() -> list[Part]:
    return reply(*(Text(piece, block=1) for piece in (TEXT[:3], TEXT[3:7], TEXT[7:])), BlockEnd(block=1))


def calls() -> list[Part]:
    """Two calls at once, in pieces."""
    return reply(
        Text("Now. ", block=1),
        BlockEnd(block=1),
        ToolCall("", "c1", "f", block=3),
        ToolCall('{"a"', block=3),
        ToolCall(":1}", block=3),
        BlockEnd(block=3),
        ToolCall("", "c2", "g", block=4),
        ToolCall('{"b":"ü"}', block=4),
        BlockEnd(block=4),
        finish="tool_calls",
    )


def thinking(provider: str) -> list[Part]:
    vendor = _VENDORS.get(provider)
    sealed: list[Part] = [] if vendor is None else [Reasoning("", 0, 0, "c2VhbGVk", None, vendor)]
    return reply(Reasoning(THOUGHT), *sealed, BlockEnd(block=0), Text(TEXT, block=1), BlockEnd(block=1))


def citing() -> list[Part]:
    return reply(Text(TEXT, block=1), Citation(URL, "The sea", block=1), BlockEnd(block=1))


def plays(dialect: str, parts: Sequence[Part]) -> Script:
    """A provider of a dialect that says these parts, each in an event of its own, or all in a body."""

    async def script(exchange: Exchange) -> None:
        if streams(exchange):
            encoder = DIALECTS[dialect].encoder(ENVELOPE)
            await exchange.stream(*(event for part in parts if (event := encoder.encode([part]))))
            return
        assembler = DIALECTS[dialect].assembler(ENVELOPE)
        assembler.add(parts)
        await exchange.reply(assembler.body())

    return script


def heard(answer: Answer) -> tuple[Said, set[str]]:
    """What the client has of it, and the addresses that are cited."""
    assert answer.status == 200, answer.body
    if answer.client == UI:
        return _on_page(answer.body)
    parts = answer.parts
    return said(parts), {part.url for part in parts if type(part) is Citation and part.url is not None}


def _on_page(body: bytes) -> tuple[Said, set[str]]:
    page = read_page(body)
    assert page.ended
    assert page.error is None
    told: dict[str, Any] = page.usage or {}
    finer = {**told.get("inputTokenDetails", {}), **told.get("outputTokenDetails", {})}
    usage = Usage(
        told.get("inputTokens"),
        told.get("outputTokens"),
        finer.get("cacheReadTokens"),
        reasoning_tokens=finer.get("reasoningTokens"),
    )
    finish = (page.finish or "").replace("-", "_")
    found = Said(page.texts(), page.texts("reasoning"), "", [*page.calls], finish, usage)
    return found, {part["url"] for part in page.parts if part["type"] == "source-url"}
