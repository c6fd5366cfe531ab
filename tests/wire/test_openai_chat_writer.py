"""Chat Completions: parts become the events of a stream."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from sidegate.contract.meaning import (
    BlockEnd,
    Comment,
    End,
    Finish,
    Opaque,
    Part,
    Reasoning,
    RefusalText,
    Report,
    Start,
    Text,
    ToolCall,
    Usage,
)
from sidegate.wire.dialect import Envelope
from tests.wire.openai_saying import DONE, ENVELOPE, USAGE, chat, payloads, split


def written(*parts: Part, envelope: Envelope = ENVELOPE) -> bytes:
    return chat.encoder(envelope).encode(parts)


def test_a_stream_is_opened_by_its_first_part() -> None:
    [chunk] = payloads(written(Text("a")))
    assert chunk == {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 7,
        "model": "asked",
        "choices": [
            {"index": 0, "delta": {"role": "assistant", "content": "a"}, "logprobs": None, "finish_reason": None}
        ],
    }


def test_a_start_names_the_reply_once() -> None:
    chunks = payloads(written(Start("p", "real", 9), Text("a"), Start("q", "other"), Text("b")))
    assert [chunk["choices"][0]["delta"] for chunk in chunks] == [
        {"role": "assistant", "content": ""},
        {"content": "a"},
        {"content": "b"},
    ]
    assert {(chunk["id"], chunk["model"], chunk["created"]) for chunk in chunks} == {("p", "real", 9)}


def test_every_choice_is_told_its_role_once() -> None:
    chunks = payloads(written(Start("p"), Text("a", 0), Text("b", 1), Text("c", 1), Finish("stop", 2)))
    roles = [(choice["index"], choice["delta"].get("role")) for chunk in chunks for choice in chunk["choices"]]
    assert roles == [(0, "assistant"), (0, None), (1, "assistant"), (1, None), (2, "assistant")]


def test_tool_calls_are_numbered_without_gaps_per_choice() -> None:
    parts = (
        ToolCall("", "x", "f", 0, 9),
        ToolCall("{", block=9),
        ToolCall("", "y", "g", 0, 2),
        ToolCall("}", block=9),
        ToolCall("{}", None, "h", 1, 5),
    )
    calls = [chunk["choices"][0]["delta"]["tool_calls"][0] for chunk in payloads(written(*parts))]
    assert [call["index"] for call in calls] == [0, 0, 1, 0, 0]
    assert calls[0] == {"index": 0, "id": "x", "type": "function", "function": {"name": "f", "arguments": ""}}
    assert calls[1] == {"index": 0, "function": {"arguments": "{"}}
    assert calls[4]["id"] == "call_1_1_0"


def test_parallel_calls_under_one_index_are_told_apart() -> None:
    parts = (ToolCall("{}", "x", "f", 0, 3), ToolCall("{}", "y", "g", 0, 3), ToolCall("", "z", None, 0, 3))
    calls = [chunk["choices"][0]["delta"]["tool_calls"][0]["index"] for chunk in payloads(written(*parts))]
    assert calls == [0, 1, 1]


def test_usage_is_told_once_and_last() -> None:
    parts = (Text("a"), Report(Usage(3)), Report(Usage(output_tokens=5, cache_read_tokens=2)), Finish("stop"), End())
    assert written(*parts).endswith(DONE)
    *_, last = payloads(written(*parts))
    assert last["choices"] == []
    assert last["usage"] == {**USAGE, "prompt_tokens_details": {"cached_tokens": 2}}


@pytest.mark.parametrize(
    ("envelope", "usage"),
    [(replace(ENVELOPE, include_usage=False), Usage(3, 5)), (ENVELOPE, Usage(3)), (ENVELOPE, Usage(None, 5))],
)
def test_usage_is_not_told_where_nobody_asked_or_half_is_unknown(envelope: Envelope, usage: Usage) -> None:
    assert all("usage" not in one for one in payloads(written(Text("a"), Report(usage), End(), envelope=envelope)))


def test_nothing_follows_the_end() -> None:
    encoder = chat.encoder(ENVELOPE)
    assert encoder.encode([End(), Text("a"), End()]) == DONE
    assert encoder.encode([Text("a"), Comment("c")]) == b""


def test_what_has_no_counterpart_is_left_out() -> None:
    assert written(BlockEnd(), Opaque("anthropic.ping"), Reasoning(signature="x"), Reasoning(redacted="x")) == b""
    assert written(Comment("cost 1")) == b": cost 1\n\n"


def test_reasoning_and_refusal_are_written() -> None:
    deltas = [one["choices"][0]["delta"] for one in payloads(written(Start(), Reasoning("a"), RefusalText("b")))]
    assert deltas[1:] == [{"reasoning_content": "a"}, {"refusal": "b"}]


def test_text_that_looks_like_an_event_stays_text() -> None:
    text = "a\n\ndata: [DONE]\r\n\r\n\u2028"
    found = [part for one in split(written(Text(text), End())) for part in chat.read_event(one)]
    assert [part.text for part in found if isinstance(part, Text)] == [text]


def test_a_call_without_arguments_gives_an_object_that_clients_can_parse() -> None:
    """Anthropic's streams tell of no arguments by no words at all."""
    calls = [ToolCall("", "a", "f"), ToolCall('{"x":1}', "b", "g", block=1), ToolCall("", "c", "h", block=2)]
    given = ["", "", ""]
    for chunk in payloads(written(*calls, Finish("tool_calls"))):
        for call in chunk["choices"][0]["delta"].get("tool_calls", []):
            given[call["index"]] += call["function"]["arguments"]
    assert given == ["{}", '{"x":1}', "{}"]


def test_a_call_cut_before_its_arguments_is_not_made_whole() -> None:
    *_, finish = payloads(written(ToolCall("", "a", "f"), Finish("length")))
    assert "tool_calls" not in finish["choices"][0]["delta"]
