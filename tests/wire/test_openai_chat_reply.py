"""Chat Completions: events and bodies are read into parts."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidegate.contract.meaning import (
    End,
    Finish,
    Opaque,
    Reasoning,
    RefusalText,
    Report,
    Start,
    Text,
    ToolCall,
    Usage,
)
from sidegate.errors import ProviderError, ReplyError
from sidegate.wire import sse
from tests.wire.openai_saying import DONE, USAGE, chat, delta, event, whole


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
