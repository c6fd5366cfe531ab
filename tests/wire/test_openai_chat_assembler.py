"""Chat Completions: parts become a whole body, fresh or on what the provider sent."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from sidegate.contract.meaning import (
    End,
    Finish,
    FinishReason,
    Part,
    Reasoning,
    RefusalText,
    Report,
    Start,
    Text,
    ToolCall,
    Usage,
)
from sidegate.wire.dialect import Sign
from tests.wire.openai_saying import ENVELOPE, USAGE, chat, reported, said, split, whole


def gathered(*parts: Part, base: bytes | None = None) -> dict[str, Any]:
    assembler = chat.assembler(ENVELOPE)
    assembler.add(parts)
    found: dict[str, Any] = json.loads(assembler.body(base))
    return found


def test_a_body_is_made_of_parts() -> None:
    parts = (Start("p", "real", 9), Text("a"), Text("b"), Finish("length"), Report(Usage(3, 5)), End())
    assert gathered(*parts) == {
        "id": "p",
        "object": "chat.completion",
        "created": 9,
        "model": "real",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "ab", "refusal": None},
                "logprobs": None,
                "finish_reason": "length",
            }
        ],
        "usage": USAGE,
    }


def test_content_is_null_beside_tool_calls_and_usage_is_left_out_where_unknown() -> None:
    body = gathered(ToolCall("{", "x", "f"), ToolCall("}"), Finish("tool_calls"), End())
    assert body["choices"][0]["message"]["content"] is None
    [call] = body["choices"][0]["message"]["tool_calls"]
    assert call == {"id": "x", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    assert "usage" not in body


def test_an_edit_keeps_unknown_fields_and_drops_the_copies() -> None:
    base = whole(
        {
            "index": 0,
            "message": {"role": "assistant", "content": "secret", "annotations": [], "x": 1},
            "logprobs": {"content": [{"token": "secret"}]},
            "finish_reason": "stop",
        },
        {"index": 1, "message": {"role": "assistant", "content": "fine"}, "logprobs": {}, "finish_reason": "stop"},
        usage=USAGE,
        system_fingerprint="fp",
    )
    body = gathered(Text("***"), Finish("stop"), Text("fine", 1), Finish("stop", 1), base=base)
    assert b"secret" not in json.dumps(body).encode()
    assert body["choices"][0] == {
        "index": 0,
        "message": {"role": "assistant", "content": "***", "annotations": [], "x": 1},
        "finish_reason": "stop",
    }
    assert body["choices"][1]["logprobs"] == {}
    assert (body["system_fingerprint"], body["usage"]) == ("fp", USAGE)


@pytest.mark.parametrize(
    "message",
    [
        {"content": [{"type": "thinking", "thinking": [{"text": "secret"}]}, {"type": "text", "text": "secret"}]},
        {"content": "secret", "reasoning": "secret", "reasoning_details": [{"text": "secret"}, {"data": "sealed"}]},
        {"content": "secret", "reasoning_content": "secret"},
    ],
)
def test_an_edited_text_is_nowhere_left(message: dict[str, Any]) -> None:
    base = whole({"index": 0, "message": {"role": "assistant", **message}, "finish_reason": "stop"})
    parts = [
        replace(part, text="***") if isinstance(part, Text | Reasoning) else part for part in chat.read_whole(base)
    ]
    body = gathered(*parts, base=base)
    assert "secret" not in json.dumps(body)
    assert ("sealed" in json.dumps(body)) == ("sealed" in json.dumps(message))
    assert said(chat.read_whole(json.dumps(body).encode())) == said(parts)


def test_edited_tool_calls_and_finish_are_put_in_place() -> None:
    call = {"id": "x", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    base = whole({"index": 0, "message": {"content": None, "tool_calls": [call]}, "finish_reason": "tool_calls"})
    body = gathered(Text("no"), Finish("stop"), base=base)
    assert body["choices"] == [{"index": 0, "message": {"content": "no"}, "finish_reason": "stop"}]
    body = gathered(ToolCall('{"a":1}', "x", "f", 0, 3), Finish("tool_calls"), base=base)
    assert body["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"] == '{"a":1}'


def test_an_edited_legacy_call_stays_legacy() -> None:
    message = {"content": None, "function_call": {"name": "f", "arguments": "{}"}}
    base = whole({"index": 0, "message": message, "finish_reason": "function_call"})
    body = gathered(ToolCall("[]", None, "f", 0, 3), Finish("tool_calls"), base=base)
    assert body["choices"][0]["message"]["function_call"] == {"name": "f", "arguments": "[]"}
    assert body["choices"][0]["finish_reason"] == "function_call"


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=10)
REASONS: list[FinishReason] = ["stop", "length", "tool_calls", "content_filter", "error"]


@st.composite
def replies(draw: st.DrawFn) -> list[Part]:
    """Replies of up to three choices, their pieces mixed."""
    parts: list[Part] = [Start("id", "model", 5)] if draw(st.booleans()) else []
    choices = draw(st.integers(1, 3))
    begun: dict[tuple[int, int], int] = {}
    for _ in range(draw(st.integers(0, 8))):
        choice = draw(st.integers(0, choices - 1))
        kind = draw(st.integers(0, 3))
        text = draw(texts)
        if kind == 0:
            parts.append(Text(text, choice, 1))
        elif kind == 1:
            parts.append(Reasoning(text, choice, 0))
        elif kind == 2:
            parts.append(RefusalText(text, choice, 2))
        else:
            block = draw(st.integers(3, 5))
            first = (choice, block) not in begun
            begun[choice, block] = 1
            id, name = (f"id{choice}{block}", f"f{block}") if first else (None, None)
            parts.append(ToolCall(text, id, name, choice, block))
    parts += [Finish(draw(st.sampled_from(REASONS)), choice) for choice in range(choices)]
    if draw(st.booleans()):
        parts.append(Report(Usage(draw(st.integers(0, 9)), draw(st.integers(0, 9)), reasoning_tokens=0)))
    return [*parts, End()]


def by_call(parts: list[Part] | tuple[Part, ...]) -> dict[int, dict[str, Any]]:
    """What was said, with tool calls in any order: the dialect numbers them as they come."""
    found = said(parts)
    for one in found.values():
        one["calls"] = sorted(one["calls"])
    return found


@settings(max_examples=200, deadline=None)
@given(replies())
def test_a_stream_written_and_read_says_the_same(parts: list[Part]) -> None:
    encoder = chat.encoder(ENVELOPE)
    raw = b"".join(encoder.encode([part]) for part in parts)
    again = [part for one in split(raw) for part in chat.read_event(one)]
    assert by_call(again) == by_call(parts)
    assert reported(again) == reported(parts)
    meter = chat.meter()
    assert [meter.event(one) for one in split(raw)][-1] is Sign.END
    assert meter.finished


@settings(max_examples=200, deadline=None)
@given(replies())
def test_gathering_and_splitting_are_inverse_in_meaning(parts: list[Part]) -> None:
    assembler = chat.assembler(ENVELOPE)
    assembler.add(parts)
    body = assembler.body()
    again = chat.read_whole(body)
    assert by_call(again) == by_call(parts)
    assert reported(again) == reported(parts)
    second = chat.assembler(ENVELOPE)
    second.add(again)
    assert second.body() == body
    assert second.body(body) == body
