"""Parts as a stream of Anthropic Messages."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import pytest
from hypothesis import given
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
from sidegate.errors import Refusal
from sidegate.wire.anthropic.dialect import AnthropicMessages
from tests.wire.anthropic_reading import check_order, kinds, payloads, replies, sdk_message
from tests.wire.recordings import Case, parameters
from tests.wire.saying import ENVELOPE, Said, flat, reread, said, stream_parts, written

DIALECT = AnthropicMessages()
USAGE = Usage(10, 5)


def test_text_becomes_one_block() -> None:
    stream = written(
        DIALECT, [[Start("msg_1", "m")], [Text("Hel")], [Text("lo")], [Finish("stop"), Report(USAGE), End()]]
    )
    check_order(stream)
    assert kinds(stream).count("content_block_start") == 1
    message = sdk_message(stream)
    assert (message.id, message.model, message.stop_reason) == ("msg_1", "m", "end_turn")
    assert [block.model_dump()["text"] for block in message.content] == ["Hello"]
    assert (message.usage.input_tokens, message.usage.output_tokens) == (10, 5)


def test_a_stream_is_opened_by_its_first_part() -> None:
    stream = written(DIALECT, [[Text("Hi")], [Finish("stop")], [End()]])
    check_order(stream)
    message = payloads(stream)[0]["message"]
    assert (message["id"], message["model"]) == ("msg_call1", "asked-model")
    assert message["usage"] == {"input_tokens": 0, "output_tokens": 0}


def test_a_lead_in_is_written_at_once_with_the_usage_it_brings() -> None:
    encoder = DIALECT.encoder(ENVELOPE)
    first = encoder.encode([Start("msg_1", "m"), Report(Usage(117, None, 100, 7))])
    assert payloads(first)[0]["message"]["usage"] == {
        "input_tokens": 10,
        "cache_creation_input_tokens": 7,
        "cache_read_input_tokens": 100,
        "output_tokens": 0,
    }


def test_usage_that_comes_after_the_finish_is_told() -> None:
    stream = written(DIALECT, [[Text("Hi")], [Finish("stop")], [Report(Usage(12, 3, 4))], [End()]])
    assert payloads(stream)[-2]["usage"] == {"input_tokens": 8, "cache_read_input_tokens": 4, "output_tokens": 3}
    assert said(flat(stream_parts(DIALECT, stream))).usage == Usage(12, 3, 4)


def test_an_empty_reply_is_a_message() -> None:
    stream = written(DIALECT, [[Start()], [Text("")], [Finish("stop")], [End()]])
    check_order(stream)
    assert sdk_message(stream).content == []


def test_pieces_of_parallel_calls_never_interleave() -> None:
    parts: list[list[Part]] = [
        [Text("Well, ")],
        [ToolCall("", "a", "first", block=3)],
        [ToolCall("", "b", "second", block=4)],
        [ToolCall('{"x":', block=3)],
        [ToolCall('{"y":', block=4)],
        [Text("both.")],
        [ToolCall("1}", block=3)],
        [ToolCall("2}", block=4)],
        [Finish("tool_calls"), Report(USAGE), End()],
    ]
    stream = written(DIALECT, parts)
    check_order(stream)
    told = said(flat(stream_parts(DIALECT, stream)))
    assert told.calls == [("a", "first", {"x": 1}), ("b", "second", {"y": 2})]
    assert told.text == "Well, both."
    assert [block.model_dump().get("input") for block in sdk_message(stream).content] == [
        None,
        {"x": 1},
        {"y": 2},
        None,
    ]


def test_a_call_that_has_ended_lets_the_next_one_flow() -> None:
    encoder = DIALECT.encoder(ENVELOPE)
    encoder.encode([ToolCall("{}", "a", "first", block=0), ToolCall("{}", "b", "second", block=1)])
    assert kinds(encoder.encode([BlockEnd(block=0)])) == [
        "content_block_stop",
        "content_block_start",
        "content_block_delta",
    ]
    assert kinds(encoder.encode([ToolCall(" ", block=1)])) == ["content_block_delta"]


def test_a_call_that_ended_while_it_waited_is_closed() -> None:
    encoder = DIALECT.encoder(ENVELOPE)
    encoder.encode([ToolCall("", "a", "f", block=0), ToolCall("{}", "b", "g", block=1), BlockEnd(block=1)])
    assert kinds(encoder.encode([BlockEnd(block=0), Text("x", block=2)])) == [
        "content_block_stop",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "content_block_start",
        "content_block_delta",
    ]


def test_a_new_id_on_the_same_block_is_another_call() -> None:
    parts: list[Part] = [
        ToolCall('{"x":1}', "a", "f", block=3),
        ToolCall('{"x":2}', "b", "f", block=3),
        Finish("tool_calls"),
        End(),
    ]
    stream = written(DIALECT, [[part] for part in parts])
    check_order(stream)
    assert said(flat(stream_parts(DIALECT, stream))).calls == [("a", "f", {"x": 1}), ("b", "f", {"x": 2})]


def test_a_call_without_an_id_is_given_one_and_one_without_a_name_is_none() -> None:
    parts: list[Part] = [ToolCall("{}", None, "f"), ToolCall('{"lost":1}', block=9), Finish("tool_calls"), End()]
    told = said(reread(DIALECT, [parts]))
    assert [(name, value) for _, name, value in told.calls] == [("f", {})]
    assert told.calls[0][0] == "toolu_call1_0"


def test_thinking_keeps_its_signature() -> None:
    parts: list[Part] = [
        Reasoning("Let me "),
        Reasoning("see."),
        Reasoning(signature="sig=="),
        Reasoning(redacted="sealed", block=1),
        Text("Yes.", block=2),
        Finish("stop"),
        End(),
    ]
    stream = written(DIALECT, [parts])
    check_order(stream)
    thinking, sealed, text = sdk_message(stream).content
    assert thinking.model_dump() == {"type": "thinking", "thinking": "Let me see.", "signature": "sig=="}
    assert sealed.model_dump() == {"type": "redacted_thinking", "data": "sealed"}
    assert text.type == "text"


def test_text_and_thinking_under_one_number_are_two_blocks() -> None:
    told = reread(DIALECT, [[Reasoning("Hm."), Text("Yes."), Finish("stop"), End()]])
    assert [type(part) for part in told if isinstance(part, Text | Reasoning)] == [Reasoning, Text]


@pytest.mark.parametrize(
    ("reason", "written_as"),
    [
        ("stop", "end_turn"),
        ("length", "max_tokens"),
        ("tool_calls", "tool_use"),
        ("content_filter", "refusal"),
        ("refusal", "refusal"),
        ("other", "end_turn"),
        ("error", None),
    ],
)
def test_each_finish_has_a_stop_reason(reason: FinishReason, written_as: str | None) -> None:
    stream = written(DIALECT, [[Text("a"), Finish(reason), End()]])
    assert payloads(stream)[-2]["delta"] == {"stop_reason": written_as, "stop_sequence": None}


def test_the_stop_sequence_is_told() -> None:
    stream = written(DIALECT, [[Text("a"), Finish("stop", stop_sequence="###"), End()]])
    assert payloads(stream)[-2]["delta"] == {"stop_reason": "stop_sequence", "stop_sequence": "###"}
    assert Finish("stop", stop_sequence="###") in flat(stream_parts(DIALECT, stream))


def test_a_refusal_of_the_model_is_text() -> None:
    told = said(reread(DIALECT, [[RefusalText("I will not."), Finish("refusal"), End()]]))
    assert (told.text, told.finish) == ("I will not.", "refusal")


def test_other_choices_cannot_be_said() -> None:
    parts: list[Part] = [
        Text("a"),
        Text("b", 1),
        ToolCall("{}", "i", "f", 1),
        Finish("length", 1),
        Finish("stop"),
        End(),
    ]
    assert said(reread(DIALECT, [parts])) == Said(text="a", finish="stop", usage=Usage(None, 0))


def test_text_that_is_added_after_the_finish_still_arrives() -> None:
    stream = written(DIALECT, [[Text("a")], [Finish("stop"), Report(USAGE)], [Text(" held")], [End()]])
    check_order(stream)
    assert said(flat(stream_parts(DIALECT, stream))).text == "a held"


def test_nothing_follows_the_end() -> None:
    encoder = DIALECT.encoder(ENVELOPE)
    encoder.encode([Text("a"), Finish("stop"), End()])
    assert encoder.encode([Text("more"), End()]) == b""


def test_a_comment_opens_nothing() -> None:
    encoder = DIALECT.encoder(ENVELOPE)
    assert encoder.encode([Comment("cost: 1\n\ndata: {}")]) == b": cost: 1  data: {}\n\n"
    assert kinds(encoder.encode([Text("a")]))[0] == "message_start"


def test_what_another_dialect_has_no_word_for_is_left_out() -> None:
    parts: list[Part] = [
        Opaque("openai.annotations", data=[{"type": "x"}]),
        Opaque("odd", data={"type": "other"}),
        Text("a"),
    ]
    assert kinds(written(DIALECT, [[*parts, Finish("stop"), End()]])) == kinds(
        written(DIALECT, [[Text("a"), Finish("stop"), End()]])
    )


def test_an_event_of_tomorrow_goes_on_as_it_is() -> None:
    raw = b'event: news\ndata: {"type":"news","index":3,"delta":"odd"}\n\n'
    encoder = DIALECT.encoder(ENVELOPE)
    encoder.encode([Start()])
    assert encoder.encode(DIALECT.read_event(raw)) == raw


def test_an_error_event_is_one_the_sdk_raises() -> None:
    encoder = DIALECT.encoder(ENVELOPE)
    stream = encoder.encode([Text("a")]) + DIALECT.write_error_event(Refusal(429, "rate", "Too fast."), "req_1")
    with pytest.raises(anthropic.APIStatusError, match="Too fast") as caught:
        sdk_message(stream)
    assert caught.value.body == {
        "type": "error",
        "error": {"type": "rate_limit_error", "message": "Too fast."},
        "request_id": "req_1",
    }


def shape(body: dict[str, Any]) -> dict[str, Any]:
    """A message without what a rebuilt stream need not repeat: empty blocks."""
    content = [block for block in body["content"] if block.get("text") != ""]
    return {**body, "content": content}


@pytest.mark.parametrize("case", parameters("anthropic/messages-stream", only=lambda case: case.good))
def test_every_recorded_stream_survives_being_read_and_written(case: Case) -> None:
    stream = written(DIALECT, stream_parts(DIALECT, case.body))
    check_order(stream)
    assert said(flat(stream_parts(DIALECT, stream))) == said(flat(stream_parts(DIALECT, case.body)))
    assert shape(sdk_message(stream).model_dump(warnings=False)) == shape(
        sdk_message(case.body).model_dump(warnings=False)
    )


@given(replies())
def test_what_is_written_reads_back_the_same(batches: list[list[Part]]) -> None:
    stream = written(DIALECT, batches)
    check_order(stream)
    again, before = said(flat(stream_parts(DIALECT, stream))), said(flat(batches))
    assert sorted(again.calls, key=str) == sorted(before.calls, key=str)
    again.calls = before.calls = []
    assert again == before


@given(replies())
def test_the_events_are_the_same_however_the_parts_are_grouped(batches: list[list[Part]]) -> None:
    head, rest = batches[:1], batches[1:]
    assert written(DIALECT, batches) == written(DIALECT, [*head, flat(rest)])


def test_usage_of_a_recorded_start_is_repeated() -> None:
    start = {"id": "i", "model": "m", "usage": {"input_tokens": 3, "service_tier": "standard", "output_tokens": 1}}
    raw = b"data: " + json.dumps({"type": "message_start", "message": start}).encode() + b"\n\n"
    encoder = DIALECT.encoder(replace(ENVELOPE, model="x"))
    message = payloads(encoder.encode(DIALECT.read_event(raw)))[0]["message"]
    assert (message["model"], message["usage"]["service_tier"]) == ("m", "standard")
