"""Chat Completions: streams are measured, read, written and gathered."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from sidegate.contract.meaning import (
    BlockEnd,
    Comment,
    End,
    Finish,
    FinishReason,
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
from sidegate.errors import BadRequest, ProviderError, ReplyError
from sidegate.wire import sse
from sidegate.wire.body import read_fields, write_fields
from sidegate.wire.dialect import Dialect, Envelope, Sign
from sidegate.wire.openai_chat import OpenAIChat
from tests.wire.test_openai_recorded import payloads, reported, said, split

chat: Dialect = OpenAIChat()
ENVELOPE = Envelope(id="1", model="asked", created=7)


def event(**payload: Any) -> bytes:
    return sse.frame(json.dumps({"id": "c", "model": "m", "object": "chat.completion.chunk", **payload}).encode())


def delta(index: int = 0, finish: str | None = None, **said: Any) -> bytes:
    return event(choices=[{"index": index, "delta": said, "finish_reason": finish}])


def signs(*events: bytes) -> list[Sign]:
    meter = chat.meter()
    return [meter.event(one) for one in events]


USAGE = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
DONE = b"data: [DONE]\n\n"

# --- the meter --------------------------------------------------------------------------------------------------------


def test_each_event_has_its_sign() -> None:
    assert signs(
        b": OPENROUTER PROCESSING\n\n",
        event(choices=[], prompt_filter_results=[{}]),
        delta(role="assistant", content=""),
        delta(content="a"),
        delta(content=""),
        delta(finish="stop"),
        event(choices=[], usage=USAGE),
        DONE,
    ) == [
        Sign.NOTHING,
        Sign.LEAD_IN,
        Sign.LEAD_IN,
        Sign.CONTENT,
        Sign.OTHER,
        Sign.CONTENT,
        Sign.USAGE,
        Sign.END,
    ]


@pytest.mark.parametrize(
    "said",
    [
        {"content": "a"},
        {"content": [{"type": "text", "text": "a"}]},
        {"refusal": "a"},
        {"reasoning_content": "a"},
        {"reasoning": "a"},
        {"tool_calls": [{"index": 0, "function": {"arguments": "a"}}]},
        {"function_call": {"name": "f", "arguments": "a"}},
    ],
)
def test_the_first_words_of_any_kind_are_content_and_counted(said: dict[str, Any]) -> None:
    meter = chat.meter()
    assert meter.event(delta(role="assistant", **said)) is Sign.CONTENT
    assert meter.started
    assert not meter.finished
    assert meter.output_bytes == 1


def test_bytes_are_counted_as_utf8() -> None:
    meter = chat.meter()
    meter.event(delta(content="é😀"))
    meter.event(delta(reasoning="日"))
    assert meter.output_bytes == 2 + 4 + 3


def test_usage_beside_the_finish_is_read_and_the_event_stays_content() -> None:
    meter = chat.meter()
    payload = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": USAGE}
    assert meter.event(event(**payload)) is Sign.CONTENT
    assert meter.usage == Usage(3, 5)


def test_usage_with_an_empty_delta_after_the_content_is_a_report_and_nothing_else() -> None:
    empty = event(choices=[{"index": 0, "delta": {"role": "assistant", "content": ""}}], usage=USAGE)
    assert signs(delta(content="a", finish="stop"), empty)[-1] is Sign.USAGE
    assert signs(empty) == [Sign.LEAD_IN]


@pytest.mark.parametrize(
    ("payload", "usage"),
    [
        ({"x_groq": {"usage": USAGE}}, Usage(3, 5)),
        ({"usage": {**USAGE, "prompt_cache_hit_tokens": 2}}, Usage(3, 5, 2)),
        ({"usage": {**USAGE, "num_cached_tokens": 2}}, Usage(3, 5, 2)),
        (
            {
                "usage": {
                    **USAGE,
                    "prompt_tokens_details": {"cached_tokens": 1, "audio_tokens": 2, "cache_write_tokens": 3},
                    "completion_tokens_details": {"reasoning_tokens": 4, "audio_tokens": 5},
                }
            },
            Usage(3, 5, 1, 3, 4, 2, 5),
        ),
        # xAI: reasoning is not in completion_tokens, as the total shows.
        (
            {"usage": {**USAGE, "total_tokens": 15, "completion_tokens_details": {"reasoning_tokens": 7}}},
            Usage(3, 12, reasoning_tokens=7),
        ),
        ({"usage": {"prompt_tokens": 3.0, "completion_tokens": 5}}, Usage(3, 5)),
    ],
)
def test_every_shape_of_usage_is_read(payload: dict[str, Any], usage: Usage) -> None:
    meter = chat.meter()
    assert meter.event(event(choices=[], **payload)) is Sign.USAGE
    assert meter.usage == usage


@pytest.mark.parametrize(
    "usage",
    ["many", [], {}, {"prompt_tokens": "3"}, {"prompt_tokens": -1}, {"prompt_tokens": 10**40}, {"prompt_tokens": True}],
)
def test_a_wrong_usage_is_unknown_and_no_failure(usage: Any) -> None:
    meter = chat.meter()
    meter.event(delta(content="a"))
    meter.event(event(choices=[], usage=usage))
    assert meter.usage is None


def test_usage_told_twice_is_believed_the_last_time() -> None:
    meter = chat.meter()
    meter.event(event(choices=[], usage=USAGE))
    meter.event(event(choices=[], usage={"prompt_tokens": 4, "completion_tokens": 6}))
    assert meter.usage == Usage(4, 6)


def test_a_stream_is_finished_when_every_choice_is() -> None:
    meter = chat.meter()
    meter.event(delta(0, content="a"))
    meter.event(delta(1, content="b"))
    meter.event(delta(1, "length"))
    assert not meter.finished
    meter.event(delta(0, "stop"))
    assert meter.finished
    assert meter.finish == "length"


def test_a_stream_that_only_spoke_is_not_finished() -> None:
    meter = chat.meter()
    meter.event(delta(content="a"))
    meter.event(DONE)
    assert not meter.finished


def test_what_comes_after_the_finish_does_not_open_the_choice_again() -> None:
    meter = chat.meter()
    meter.event(delta(content="a", finish="stop"))
    meter.event(event(choices=[{"index": 0, "content_filter_results": {}, "finish_reason": None}]))
    assert meter.finished


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("model_length", "length"),
        ("tool_calls", "tool_calls"),
        ("function_call", "tool_calls"),
        ("content_filter", "content_filter"),
        ("error", "error"),
        ("whim", "other"),
        (3, "other"),
    ],
)
def test_finish_reasons_are_read(word: Any, reason: FinishReason) -> None:
    meter = chat.meter()
    raw = delta(finish=word)
    meter.event(raw)
    assert meter.finish == reason
    assert chat.read_event(raw) == (Finish(reason),)


@pytest.mark.parametrize(
    "data",
    [
        b"not json",
        b"[]",
        b'"text"',
        b"1",
        b"{",
        b'{"choices": 1}',
        b'{"choices": [1]}',
        b'{"choices": [{"delta": "a"}]}',
        b'{"choices": [{"index": -1, "delta": {"content": "a"}}]}',
        b'{"choices": [{"index": 1000000000000, "delta": {"content": "a"}}]}',
        b'{"choices": [{"index": "0", "delta": {"content": "a"}}]}',
        b'{"choices": [{"index": [], "delta": {"content": "a"}}]}',
        b'{"choices": [{"index": true, "delta": {"content": "a"}}]}',
        b'{"choices": [{"delta": {"content": "\xff"}}]}',
        b'{"a": "\\ud800"}',
        b"[" * 100_000,
        b"<html>",
    ],
    ids=lambda data: repr(data[:30]),
)
@pytest.mark.parametrize("started", [False, True])
def test_what_is_no_event_of_the_dialect_is_a_bad_reply(data: bytes, started: bool) -> None:
    meter = chat.meter()
    if started:
        meter.event(delta(content="a"))
    with pytest.raises(ReplyError):
        meter.event(b"data: " + data + b"\n\n")


@pytest.mark.parametrize(
    ("raw", "status", "retryable"),
    [
        (event(error={"message": "m", "type": "server_error", "code": None}), 502, True),
        (event(error={"message": "m", "code": 429}, choices=[{"index": 0, "delta": {"content": ""}}]), 429, True),
        (event(error={"message": "m", "code": 400}), 400, False),
        (event(error={"message": "m", "type": "overloaded_error"}), 503, True),
        (event(error={"message": "bad sk-abcdefgh12345678", "type": "authentication_error"}), 502, False),
        (event(error="text"), 502, True),
        (event(error={}), 502, True),
        (b'data: {"object":"error","message":"m","code":400}\n\n', 400, False),
        (b'event: error\ndata: {"message":"m","code":503}\n\n', 503, True),
        (b'data: {"detail":"m"}\n\n', 502, True),
    ],
)
@pytest.mark.parametrize("started", [False, True])
def test_a_failure_inside_the_stream_is_raised_with_its_status(
    raw: bytes, status: int, retryable: bool, started: bool
) -> None:
    meter = chat.meter()
    if started:
        meter.event(delta(content="a"))
    with pytest.raises(ProviderError) as raised:
        meter.event(raw)
    assert not isinstance(raised.value, ReplyError)
    assert (raised.value.status, raised.value.retryable) == (status, retryable)
    assert "abcdefgh" not in raised.value.message


def test_usage_in_a_failing_event_is_counted() -> None:
    meter = chat.meter()
    with pytest.raises(ProviderError):
        meter.event(event(choices=[], error={"message": "m", "code": 400}, usage=USAGE))
    assert meter.usage == Usage(3, 5)


def test_null_errors_and_odd_leaves_are_no_failure() -> None:
    meter = chat.meter()
    odd = {"content": 3, "tool_calls": [{"index": None, "function": {"arguments": {"a": 1}, "name": None}}]}
    assert meter.event(event(error=None, created="now", choices=[{"index": 0, "delta": odd}])) is Sign.CONTENT
    assert meter.output_bytes == len('{"a":1}')


def test_the_closing_word_may_come_with_spaces_or_without_its_blank_line() -> None:
    assert signs(b"data:  [DONE] \n\n", b"data: [DONE]\n", b"data:[DONE]\r\n\r\n") == [Sign.END] * 3


# --- whole bodies -----------------------------------------------------------------------------------------------------


def whole(*choices: dict[str, Any], **more: Any) -> bytes:
    head = {"id": "c", "model": "m", "created": 1, "object": "chat.completion"}
    return json.dumps({**head, "choices": list(choices), **more}).encode()


@pytest.mark.parametrize("raw", [b"", b"[]", b"null", b"<html>", b"{}", b'{"choices": null}', b'{"choices": {}}'])
def test_what_is_no_body_is_a_bad_reply(raw: bytes) -> None:
    with pytest.raises(ReplyError):
        chat.meter().whole(raw)


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b'{"error": {"message": "m", "code": 429}}', 429),
        (b'{"error": {"message": "m", "type": "server_error"}, "choices": []}', 502),
        (b'{"error": "m"}', 502),
        (b'{"object": "error", "message": "m", "code": 400}', 400),
    ],
)
def test_an_error_in_a_200_body_is_raised(raw: bytes, status: int) -> None:
    with pytest.raises(ProviderError) as raised:
        chat.meter().whole(raw)
    assert raised.value.status == status
    assert not isinstance(raised.value, ReplyError)


def test_a_choice_without_a_message_is_read() -> None:
    raw = whole({"index": 0, "finish_reason": "content_filter", "content_filter_results": {}}, usage=USAGE)
    meter = chat.meter()
    meter.whole(raw)
    assert (meter.finish, meter.finished, meter.output_bytes) == ("content_filter", True, 0)
    assert chat.read_whole(raw) == (
        Start("c", "m", 1),
        Finish("content_filter"),
        Report(Usage(3, 5)),
        End(),
    )


def test_a_body_gives_its_blocks_by_kind() -> None:
    message = {
        "role": "assistant",
        "content": "t",
        "refusal": "r",
        "reasoning_content": "why",
        "tool_calls": [{"id": "x", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        "annotations": [{"type": "url_citation"}],
    }
    assert chat.read_whole(whole({"index": 1, "message": message, "finish_reason": "tool_calls"}))[1:-1] == (
        Reasoning("why", 1, 0),
        Text("t", 1, 1),
        RefusalText("r", 1, 2),
        ToolCall("{}", "x", "f", 1, 3),
        Opaque("openai.annotations", 1, None, [{"type": "url_citation"}]),
        Finish("tool_calls", 1),
    )


# --- events -----------------------------------------------------------------------------------------------------------


def test_lead_in_content_and_end_are_read() -> None:
    assert chat.read_event(delta(role="assistant", content="")) == (Start("c", "m"),)
    assert chat.read_event(delta(content="a")) == (Text("a", 0, 1),)
    assert chat.read_event(delta(1, content="a")) == (Text("a", 1, 1),)
    assert chat.read_event(delta(refusal="a")) == (RefusalText("a", 0, 2),)
    assert chat.read_event(delta(reasoning="a")) == (Reasoning("a"),)
    assert chat.read_event(delta(reasoning="a", reasoning_content="a")) == (Reasoning("a"),)
    assert chat.read_event(event(choices=[], usage=USAGE)) == (Report(Usage(3, 5)),)
    assert chat.read_event(DONE) == (End(),)
    assert chat.read_event(b": ping\n\n") == ()


def test_thinking_in_a_list_is_reasoning() -> None:
    content = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}], "closed": True},
        {"type": "text", "text": "yes"},
    ]
    assert chat.read_event(delta(content=content)) == (Reasoning("hm"), Text("yes", 0, 1))


def test_pieces_of_a_tool_call_share_a_block() -> None:
    first = delta(tool_calls=[{"index": 1, "id": "x", "function": {"name": "f", "arguments": ""}}])
    later = delta(tool_calls=[{"index": 1, "function": {"name": "", "arguments": "{"}}])
    assert chat.read_event(first) == (ToolCall("", "x", "f", 0, 4),)
    assert chat.read_event(later) == (ToolCall("{", None, None, 0, 4),)


def test_a_legacy_function_call_is_a_tool_call() -> None:
    assert chat.read_event(delta(function_call={"name": "f", "arguments": "{}"})) == (ToolCall("{}", None, "f", 0, 3),)


def test_details_that_repeat_the_reasoning_are_not_passed_on() -> None:
    details = [{"type": "reasoning.text", "text": "secret"}, {"type": "reasoning.encrypted", "data": "x"}]
    [reasoning, sealed] = chat.read_event(delta(reasoning="secret", reasoning_details=details))
    assert reasoning == Reasoning("secret")
    assert isinstance(sealed, Opaque)
    assert sealed.data == details[1:]


# --- the encoder ------------------------------------------------------------------------------------------------------


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


# --- the assembler ----------------------------------------------------------------------------------------------------


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


# --- round trips ------------------------------------------------------------------------------------------------------

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


keys = st.sampled_from(["choices", "delta", "index", "content", "tool_calls", "usage", "message", "error", "function"])
leaves = st.none() | st.integers() | st.text(max_size=3)
values = st.recursive(leaves, lambda one: st.lists(one) | st.dictionaries(keys, one))


@settings(max_examples=300, deadline=None)
@given(values)
def test_any_json_is_read_or_is_a_failure_of_the_provider(payload: Any) -> None:
    raw = json.dumps(payload).encode()
    for read, given_bytes in (
        (chat.meter().event, sse.frame(raw)),
        (chat.read_event, sse.frame(raw)),
        (chat.meter().whole, raw),
        (chat.read_whole, raw),
    ):
        with contextlib.suppress(ProviderError):
            read(given_bytes)


# --- a client's own request -------------------------------------------------------------------------------------------


def adapted(request: dict[str, Any], stream: bool) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        write_fields(chat.adapt(read_fields(json.dumps(request).encode()), model="real", stream=stream))
    )
    return found


def test_a_stream_is_asked_for_its_usage_and_nothing_else_is_touched() -> None:
    request = {"model": "m", "x": {"y": 1.50}, "stream": True, "stream_options": {"include_obfuscation": False}}
    assert adapted(request, True) == {
        "model": "real",
        "x": {"y": 1.5},
        "stream": True,
        "stream_options": {"include_obfuscation": False, "include_usage": True},
    }
    assert adapted({"model": "m", "stream_options": {"include_usage": False}}, True)["stream_options"] == {
        "include_usage": True
    }


def test_a_buffered_request_says_nothing_of_streams() -> None:
    assert adapted({"model": "m"}, False) == {"model": "real"}
    request = {"model": "m", "stream": True, "stream_options": {"include_usage": True}}
    assert adapted(request, False) == {"model": "real", "stream": False}


def test_wrong_stream_options_are_a_400() -> None:
    with pytest.raises(BadRequest) as raised:
        adapted({"model": "m", "stream_options": 3}, True)
    assert raised.value.param == "stream_options"
