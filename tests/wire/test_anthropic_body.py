"""Parts as a whole message of Anthropic Messages."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given

from sidegate.contract.meaning import (
    End,
    Finish,
    Part,
    Reasoning,
    RefusalText,
    Report,
    Start,
    Text,
    ToolCall,
    Usage,
)
from sidegate.errors import BadRequest, ProviderError, Refusal
from sidegate.wire.anthropic.dialect import AnthropicMessages
from tests.wire.anthropic_reading import check_order, replies, sdk_message
from tests.wire.recordings import Case, parameters
from tests.wire.saying import assembled, flat, said, stream_parts, written

DIALECT = AnthropicMessages()


def gather(*parts: Part, base: bytes | None = None) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(assembled(DIALECT, [parts], base))
    return found


def comparable(body: dict[str, Any]) -> dict[str, Any]:
    """A message without its nulls, which mean the same as nothing."""
    content = [{key: value for key, value in block.items() if value is not None} for block in body["content"]]
    usage = {key: value for key, value in body["usage"].items() if value is not None}
    return {**{key: value for key, value in body.items() if value is not None}, "content": content, "usage": usage}


def changed(case: Case, text: str = "CHANGED") -> tuple[bytes, dict[str, Any]]:
    parts = [Text(text, block=part.block) if isinstance(part, Text) else part for part in DIALECT.read_whole(case.body)]
    return case.body, gather(*parts, base=case.body)


GOOD = [param for param in parameters("anthropic/messages-json") if "http" not in str(param.id)]
STREAMS = [param for param in parameters("anthropic/messages-stream") if "error" not in str(param.id)]


@pytest.mark.parametrize("case", GOOD)
def test_every_recorded_body_survives_being_read_and_written(case: Case) -> None:
    assert comparable(gather(*DIALECT.read_whole(case.body))) == comparable(json.loads(case.body))


@pytest.mark.parametrize("case", GOOD)
def test_a_body_nobody_changed_keeps_its_bytes(case: Case) -> None:
    before = json.loads(case.body)
    after = gather(*DIALECT.read_whole(case.body), base=case.body)
    assert after == before
    assert list(after) == list(before)


@pytest.mark.parametrize("case", GOOD)
def test_a_changed_text_changes_nothing_else(case: Case) -> None:
    raw, after = changed(case)
    before = json.loads(raw)
    for block in before["content"]:
        if block["type"] == "text":
            block["text"] = "CHANGED"
            block.pop("citations", None)
    for block in after["content"]:
        assert block.get("citations") is None
    assert after == before


@pytest.mark.parametrize("case", STREAMS)
def test_a_recorded_stream_makes_the_message_its_reader_has(case: Case) -> None:
    body = json.loads(assembled(DIALECT, stream_parts(DIALECT, case.body)))
    message = sdk_message(case.body).model_dump(warnings=False, exclude_none=True)
    kept = [block for block in message["content"] if block.get("text") != ""]
    for block in [*body["content"], *kept]:
        # The client fills the input of some blocks only, ours that of all.
        block.pop("input", None)
    assert [block["type"] for block in body["content"]] == [block["type"] for block in kept]
    texts = [[block.get("text") for block in content if block["type"] == "text"] for content in (body["content"], kept)]
    assert texts[0] == texts[1]
    assert body["usage"]["output_tokens"] == message["usage"]["output_tokens"]
    assert body["stop_reason"] == message["stop_reason"]


@pytest.mark.parametrize("case", GOOD)
def test_a_recorded_body_can_be_streamed(case: Case) -> None:
    parts = DIALECT.read_whole(case.body)
    stream = written(DIALECT, [parts])
    check_order(stream)
    again, before = said(flat(stream_parts(DIALECT, stream))), said(parts)
    assert again == before
    assert comparable(json.loads(assembled(DIALECT, stream_parts(DIALECT, stream)))) == comparable(
        json.loads(case.body)
    )


@given(replies())
def test_a_stream_and_a_body_say_the_same(batches: list[list[Part]]) -> None:
    again, before = said(DIALECT.read_whole(assembled(DIALECT, batches))), said(flat(batches))
    assert sorted(again.calls, key=str) == sorted(before.calls, key=str)
    again.calls = before.calls = []
    assert again == before


def test_a_body_made_from_nothing_but_text() -> None:
    assert gather(Text("Hi"), Finish("stop"), End()) == {
        "id": "msg_call1",
        "type": "message",
        "role": "assistant",
        "model": "asked-model",
        "content": [{"type": "text", "text": "Hi"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 0, "output_tokens": 0},
    }


def test_what_was_said_in_other_choices_is_left_out() -> None:
    body = gather(Text("a"), Text("b", 1), Finish("length", 1), Finish("refusal"))
    assert (body["content"], body["stop_reason"]) == ([{"type": "text", "text": "a"}], "refusal")


@pytest.mark.parametrize("said", ['{"a": "b', "[1]", "7", '{"a": 1}}'])
def test_arguments_that_are_no_object_are_not_taken_for_none(said: str) -> None:
    body = gather(ToolCall(said[:2], "i", "f"), ToolCall(said[2:]), Finish("tool_calls"))
    assert body["content"][0]["input"] == {"INVALID_JSON": said}


def test_a_call_without_arguments_has_none() -> None:
    assert gather(ToolCall("", "i", "f"), Finish("tool_calls"))["content"] == [
        {"type": "tool_use", "id": "i", "name": "f", "input": {}}
    ]


BASE = json.dumps(
    {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [
            {"type": "thinking", "thinking": "Hm.", "signature": "s", "odd": 1},
            {"type": "text", "text": "One", "citations": [{"type": "char_location"}], "odd": 2},
            {"type": "text", "text": "Two", "citations": [{"type": "char_location"}], "odd": 3},
            {"type": "tool_use", "id": "i", "name": "f", "input": {"x": 1.50}, "caller": {"type": "direct"}},
        ],
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "usage": {"input_tokens": 3, "output_tokens": 4, "service_tier": "standard"},
        "odd": {"n": 1e2},
    }
).encode()


def test_only_the_text_that_changed_loses_its_citations() -> None:
    parts = [Text("1", block=1) if part == Text("One", block=1) else part for part in DIALECT.read_whole(BASE)]
    body = gather(*parts, base=BASE)
    assert body["content"][1] == {"type": "text", "text": "1", "odd": 2}
    assert body["content"][2]["citations"] == [{"type": "char_location"}]
    assert body["odd"] == {"n": 100.0}


def test_a_block_whose_parts_were_taken_out_is_gone() -> None:
    parts = [part for part in DIALECT.read_whole(BASE) if getattr(part, "block", None) != 1]
    assert [block.get("text") for block in gather(*parts, base=BASE)["content"]] == [None, "Two", None]


def test_a_changed_call_keeps_its_other_fields() -> None:
    parts = [
        ToolCall('{"y":2}', part.id, part.name, block=part.block) if isinstance(part, ToolCall) else part
        for part in DIALECT.read_whole(BASE)
    ]
    assert gather(*parts, base=BASE)["content"][3] == {
        "type": "tool_use",
        "id": "i",
        "name": "f",
        "input": {"y": 2},
        "caller": {"type": "direct"},
    }


def test_another_finish_and_another_usage_replace_the_old_ones() -> None:
    kept = [part for part in DIALECT.read_whole(BASE) if not isinstance(part, Finish | Report)]
    body = gather(*kept, Finish("length"), Report(Usage(5, 6)), base=BASE)
    assert body["stop_reason"] == "max_tokens"
    assert body["usage"] == {"input_tokens": 5, "output_tokens": 6, "service_tier": "standard"}


def test_a_turn_that_paused_is_still_paused() -> None:
    base = json.loads(BASE) | {"stop_reason": "pause_turn"}
    parts = DIALECT.read_whole(json.dumps(base).encode())
    assert said(parts).finish == "other"
    assert gather(*parts)["stop_reason"] == "pause_turn"
    assert gather(*parts, Finish("length"))["stop_reason"] == "max_tokens"


def test_a_refusal_and_thinking_have_their_blocks() -> None:
    body = gather(Start("i", "m"), Reasoning("Hm."), Reasoning(signature="s"), RefusalText("No.", block=2))
    assert body["content"] == [
        {"type": "thinking", "thinking": "Hm.", "signature": "s"},
        {"type": "text", "text": "No."},
    ]
    assert (body["id"], body["model"], body["stop_reason"]) == ("i", "m", None)


@pytest.mark.parametrize("case", parameters("anthropic/messages-json-http"))
def test_every_recorded_error_is_read(case: Case) -> None:
    error = DIALECT.read_error(case.status, case.meta.get("headers") or {}, case.body)
    assert isinstance(error, ProviderError)
    assert error.provider_status == case.status
    assert error.retryable is (case.status in (429, 529))
    if case.status < 429:
        assert error.message == json.loads(case.body)["error"]["message"]
    if case.status == 429:
        assert error.retry_after == 1


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (413, "request_too_large"),
        (415, "invalid_request_error"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (502, "api_error"),
        (503, "overloaded_error"),
        (504, "timeout_error"),
    ],
)
def test_an_error_is_written_in_anthropics_words(status: int, kind: str) -> None:
    assert json.loads(DIALECT.write_error(Refusal(status, "word", "No."), "req_1")) == {
        "type": "error",
        "error": {"type": kind, "message": "No."},
        "request_id": "req_1",
    }


def test_a_bad_request_is_written_as_one() -> None:
    assert json.loads(DIALECT.write_error(BadRequest("No."), "r"))["error"]["type"] == "invalid_request_error"


def test_ids_made_for_calls_without_one_are_of_their_reply_alone() -> None:
    """Clients send the turns of several replies, and Anthropic refuses an id that stands twice."""
    [call] = gather(ToolCall("{}", None, "f"), Finish("tool_calls"), End())["content"]
    assert call["id"] == "toolu_call1_0"
