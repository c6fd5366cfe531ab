"""Providers of both vendors that say the same: a text beyond ASCII, then two tool calls at once."""

from __future__ import annotations

from typing import Any

import msgspec

from sidegate.testing import Exchange
from tests.relaying import DONE, ROLE, USAGE, delta, event
from tests.wire.recordings import Case

TEXT = "Grüße, 世界 🦊"
CALLS = (("call_a", "weather", '{"city": "Zürich"}'), ("call_b", "time", '{"zone": "CET", "at": [1, 2]}'))
USED = (7, 2)
"""Tokens in and out."""


async def in_pieces(exchange: Exchange, data: bytes, size: int = 7) -> None:
    """A stream in pieces that heed neither events nor characters."""
    await exchange.head(Transfer_Encoding="chunked")
    for start in range(0, len(data), size):
        await exchange.chunk(data[start : start + size])
    await exchange.chunk(b"")


async def play(exchange: Exchange, case: Case) -> None:
    """What was recorded, as its provider gave it: a stream in pieces of a kilobyte."""
    if case.stream:
        await in_pieces(exchange, case.body, 1000)
    else:
        await exchange.reply(case.body, case.status)


async def openai_says(exchange: Exchange) -> None:
    """Text and two parallel tool calls, as OpenAI says them."""
    asked = exchange.json
    if not asked.get("stream"):
        await exchange.reply(msgspec.json.encode(openai_whole()))
        return
    wish = (asked.get("stream_options") or {}).get("include_usage")
    events = [ROLE, *(delta(content=letter) for letter in TEXT)]
    for index, (call_id, name, arguments) in enumerate(CALLS):
        opened = {"index": index, "id": call_id, "type": "function", "function": {"name": name, "arguments": ""}}
        events.append(delta(tool_calls=[opened]))
        for start in range(0, len(arguments), 5):
            piece = {"index": index, "function": {"arguments": arguments[start : start + 5]}}
            events.append(delta(tool_calls=[piece]))
    await in_pieces(exchange, b"".join([*events, delta("tool_calls"), *([USAGE] if wish else []), DONE]))


def openai_whole() -> dict[str, Any]:
    calls = [
        {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
        for call_id, name, arguments in CALLS
    ]
    message = {"role": "assistant", "content": TEXT, "tool_calls": calls}
    return {
        "id": "c1",
        "object": "chat.completion",
        "created": 1,
        "model": "real-1",
        "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}],
        "usage": {"prompt_tokens": USED[0], "completion_tokens": USED[1], "total_tokens": sum(USED)},
    }


async def anthropic_says(exchange: Exchange) -> None:
    """The same, as Anthropic says it."""
    if not exchange.json.get("stream"):
        await exchange.reply(msgspec.json.encode(anthropic_whole()))
        return
    await in_pieces(exchange, b"".join(anthropic_events()))


def anthropic_whole() -> dict[str, Any]:
    calls = [
        {"type": "tool_use", "id": call_id, "name": name, "input": msgspec.json.decode(arguments)}
        for call_id, name, arguments in CALLS
    ]
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "real-1",
        "content": [{"type": "text", "text": TEXT}, *calls],
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "usage": {"input_tokens": USED[0], "output_tokens": USED[1]},
    }


def anthropic_events() -> list[bytes]:
    opening = {**anthropic_whole(), "content": [], "stop_reason": None}
    opening["usage"] = {"input_tokens": USED[0], "output_tokens": 1}
    said: list[bytes] = [named("message_start", message=opening)]
    said += _block(0, {"type": "text", "text": ""}, [{"type": "text_delta", "text": letter} for letter in TEXT])
    for index, (call_id, name, arguments) in enumerate(CALLS, 1):
        pieces = [arguments[start : start + 5] for start in range(0, len(arguments), 5)]
        deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in ["", *pieces]]
        said += [named("ping"), *_block(index, {"type": "tool_use", "id": call_id, "name": name, "input": {}}, deltas)]
    ending = {"stop_reason": "tool_use", "stop_sequence": None}
    return [*said, named("message_delta", delta=ending, usage={"output_tokens": USED[1]}), named("message_stop")]


def named(kind: str, **fields: Any) -> bytes:
    """An event as Anthropic frames it."""
    return event({"type": kind, **fields}, kind)


def _block(index: int, block: dict[str, Any], deltas: list[dict[str, Any]]) -> list[bytes]:
    return [
        named("content_block_start", index=index, content_block=block),
        *(named("content_block_delta", index=index, delta=piece) for piece in deltas),
        named("content_block_stop", index=index),
    ]
