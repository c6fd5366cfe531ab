"""Responses made by hand: what the meter makes of odd streams, and what is written of parts that nobody recorded."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given

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
from sidegate.errors import ProviderError, Refusal, ReplyError
from sidegate.wire.dialect import Sign
from tests.wire.anthropic_reading import replies
from tests.wire.responses_reading import check_order, final, measured, payloads, responses, sdk_response
from tests.wire.saying import ENVELOPE, assembled, flat, said, stream_parts, written


def event(kind: str, **fields: Any) -> bytes:
    return b"event: " + kind.encode() + b"\ndata: " + msgspec.json.encode({"type": kind, **fields}) + b"\n\n"


HEAD = {"id": "resp_1", "object": "response", "created_at": 5, "model": "real", "status": "in_progress", "output": []}
CREATED = event("response.created", response=HEAD)
CALL = {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "f", "arguments": ""}
MESSAGE = {"type": "message", "id": "msg_1", "role": "assistant", "status": "in_progress", "content": []}


def completed(output: list[Any], status: str = "completed", **more: Any) -> bytes:
    usage = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}
    response = {**HEAD, "status": status, "output": output, "usage": usage, **more}
    return event(f"response.{status}", response=response)


# --- read -------------------------------------------------------------------------------------------------------------


def test_a_stream_without_its_last_event_has_not_finished() -> None:
    meter = responses.meter()
    meter.event(CREATED)
    meter.event(event("response.output_text.delta", delta="Hi", output_index=0, content_index=0))
    assert meter.started
    assert not meter.finished


def test_a_call_is_a_finish_of_its_own_even_where_the_last_event_has_no_output() -> None:
    added = event("response.output_item.added", output_index=0, item=CALL)
    delta = event("response.function_call_arguments.delta", output_index=0, delta="{}")
    meter, batches, _ = measured(CREATED + added + delta + completed([]))
    assert meter.finish == said(flat(batches)).finish == "tool_calls"


def test_a_refusal_is_a_finish_of_its_own() -> None:
    added = event("response.output_item.added", output_index=0, item=MESSAGE)
    delta = event("response.refusal.delta", output_index=0, content_index=0, delta="No.")
    meter, batches, _ = measured(CREATED + added + delta + completed([]))
    assert meter.finish == "refusal"
    assert said(flat(batches)).refusal == "No."


def test_what_no_piece_told_is_told_by_the_end_of_the_item() -> None:
    whole = {**CALL, "arguments": '{"a":1}'}
    message = {**MESSAGE, "content": [{"type": "output_text", "text": "Hi"}]}
    thought = {"type": "reasoning", "id": "rs", "summary": [{"type": "summary_text", "text": "Hm"}]}
    stream = (
        CREATED
        + event("response.output_item.added", output_index=0, item=CALL)
        + event("response.output_item.done", output_index=0, item=whole)
        + event("response.output_item.done", output_index=1, item=message)
        + event("response.output_item.done", output_index=2, item=thought)
        + completed([whole, message, thought])
    )
    meter, batches, signs = measured(stream)
    told = said(flat(batches))
    assert (told.text, told.reasoning, told.calls) == ("Hi", "Hm", [("c1", "f", {"a": 1})])
    assert meter.output_bytes == len('{"a":1}HiHm')
    assert signs == [Sign.LEAD_IN, *[Sign.CONTENT] * 4, Sign.END]
    again = written(responses, batches)
    check_order(again)
    back = said(flat(stream_parts(responses, again)))
    assert (back.text, back.reasoning, back.calls) == (told.text, told.reasoning, told.calls)


def test_what_no_event_told_is_told_by_the_last() -> None:
    message = {**MESSAGE, "content": [{"type": "output_text", "text": "Hi"}]}
    meter, batches, _ = measured(CREATED + completed([message]))
    assert said(flat(batches)).text == "Hi"
    assert meter.output_bytes == 2


def test_pieces_are_counted_once() -> None:
    text = event("response.output_text.delta", output_index=0, content_index=0, delta="Grüß")
    done = {**MESSAGE, "content": [{"type": "output_text", "text": "Grüß"}]}
    custom = {"type": "custom_tool_call", "id": "ct", "call_id": "c", "name": "x", "input": "abc"}
    stream = (
        CREATED
        + event("response.output_item.added", output_index=0, item=MESSAGE)
        + text
        + event("response.output_item.done", output_index=0, item=done)
        + event("response.output_item.added", output_index=1, item={**custom, "input": ""})
        + event("response.custom_tool_call_input.delta", output_index=1, item_id="ct", delta="abc")
        + event("response.output_item.done", output_index=1, item=custom)
        + completed([done, custom])
    )
    meter, batches, _ = measured(stream)
    assert meter.output_bytes == len("Grüß".encode()) + 3
    assert said(flat(batches)).text == "Grüß"


@pytest.mark.parametrize(
    ("reason", "finish"), [("max_output_tokens", "length"), ("content_filter", "content_filter"), ("new", "other")]
)
def test_an_incomplete_response_says_why(reason: str, finish: str) -> None:
    last = completed([], "incomplete", incomplete_details={"reason": reason})
    meter, batches, signs = measured(CREATED + last)
    assert (meter.finish, signs[-1]) == (finish, Sign.END)
    again = written(responses, batches)
    assert payloads(again)[-1]["type"] == "response.incomplete"
    assert final(again)["incomplete_details"] == {"reason": reason}


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (event("error", code="rate_limit_exceeded", message="Slow down.", param=None), 429),
        (event("error", error={"type": "server_error", "message": "x"}), 502),
        (event("response.failed", response={**HEAD, "error": {"code": "server_error", "message": "x"}}), 502),
        (event("response.failed", response={**HEAD, "error": None}), 502),
        (event("response.failed"), 502),
        (b'data: {"error":{"message":"gone","code":503}}\n\n', 503),
    ],
)
def test_a_failure_inside_a_stream_is_raised(failure: bytes, status: int) -> None:
    meter = responses.meter()
    meter.event(CREATED)
    with pytest.raises(ProviderError) as raised:
        meter.event(failure)
    assert raised.value.status == status


def test_a_failed_response_has_been_paid_for() -> None:
    meter = responses.meter()
    usage = {"input_tokens": 9, "output_tokens": 1}
    with pytest.raises(ProviderError):
        meter.event(event("response.failed", response={**HEAD, "usage": usage, "error": {"message": "x"}}))
    assert meter.usage == Usage(9, 1)


def test_a_failed_body_has_been_paid_for_too() -> None:
    meter = responses.meter()
    body = {**HEAD, "status": "failed", "error": {"message": "x"}, "usage": {"input_tokens": 9, "output_tokens": 1}}
    with pytest.raises(ProviderError):
        meter.whole(msgspec.json.encode(body))
    assert meter.usage == Usage(9, 1)


def test_a_failed_body_is_raised() -> None:
    body = msgspec.json.encode({**HEAD, "status": "failed", "error": {"code": "server_error", "message": "x"}})
    with pytest.raises(ProviderError):
        responses.meter().whole(body)
    with pytest.raises(ProviderError):
        responses.meter().whole(b'{"error":{"message":"no","code":"invalid_api_key"}}')


@pytest.mark.parametrize(
    "raw",
    [
        b"data: {\n\n",
        b"data: [1]\n\n",
        b'data: {"type":1}\n\n',
        b"data: " + b"[" * 100_000 + b"\n\n",
        b'data: {"type":"response.output_text.delta","delta":"\xff"}\n\n',
        b'data: {"type":"response.output_text.delta","delta":"x","output_index":-1}\n\n',
        b'data: {"type":"response.output_text.delta","delta":"x","output_index":"0"}\n\n',
        b'data: {"type":"response.output_item.added","output_index":0,"item":7}\n\n',
        b'data: {"type":"response.output_item.added","output_index":0}\n\n',
        b'data: {"type":"response.completed"}\n\n',
        b'data: {"type":"response.created","response":null}\n\n',
    ],
)
def test_bytes_that_are_no_event_are_named(raw: bytes) -> None:
    with pytest.raises(ReplyError):
        responses.meter().event(raw)


@pytest.mark.parametrize(
    "raw", [b"", b"[]", b"{}", b'{"output":[7]}', b'{"output":{}}', b"<html>", b"\xff", b'{"output":null}']
)
def test_bytes_that_are_no_response_are_named(raw: bytes) -> None:
    with pytest.raises(ReplyError):
        responses.meter().whole(raw)


@pytest.mark.parametrize("odd", [None, 1, "x", [], [1], {"a": 1}, True])
def test_odd_leaves_do_not_cost_the_reply(odd: Any) -> None:
    item = {"type": "message", "id": odd, "content": odd, "status": odd}
    call = {"type": "function_call", "call_id": odd, "name": odd, "arguments": odd}
    thought = {"type": "reasoning", "summary": odd, "content": odd, "encrypted_content": odd}
    items = [item, call, thought, {"type": odd}]
    stream = CREATED + b"".join(
        event(f"response.output_item.{what}", output_index=at, item=each)
        for at, each in enumerate(items)
        for what in ("added", "done")
    )
    stream += event("response.new", odd=odd) + completed(items, usage=odd, id=odd, model=odd, created_at=odd)
    _, batches, signs = measured(stream)
    assert signs[-1] is Sign.END
    check_order(written(responses, batches))
    responses.meter().whole(msgspec.json.encode({**HEAD, "status": "completed", "output": items, "usage": odd}))


def test_comments_and_done_marks_are_no_events() -> None:
    meter = responses.meter()
    assert meter.event(b": ping\n\n") is Sign.NOTHING
    assert meter.event(b"data: [DONE]\n\n") is Sign.NOTHING
    assert responses.read_event(b"data: [DONE]\n\n") == ()


def test_an_unknown_event_goes_on_with_a_number_of_its_own() -> None:
    _, batches, _ = measured(CREATED + event("response.new.thing", sequence_number=7, more=[1]) + completed([]))
    told = payloads(written(responses, batches))
    assert told[2] == {"type": "response.new.thing", "sequence_number": 2, "more": [1]}


# --- written ----------------------------------------------------------------------------------------------------------

ENDS: tuple[Part, ...] = (Finish("stop"), Report(Usage(3, 2)), End())


@given(replies())
def test_any_reply_goes_over_and_comes_back(batches: list[list[Part]]) -> None:
    stream = written(responses, batches)
    check_order(stream)
    told, expected = said(flat(stream_parts(responses, stream))), said(flat(batches))
    assert sorted(map(str, told.calls)) == sorted(map(str, expected.calls))
    assert (told.text, told.reasoning) == (expected.text, expected.reasoning)
    assert told.usage is not None
    assert expected.usage is not None
    assert told.usage.input_tokens == expected.usage.input_tokens
    assert told.usage.cache_read_tokens == (expected.usage.cache_read_tokens or 0)
    body = assembled(responses, batches)
    assert json.loads(body) == final(stream)


@given(replies())
def test_splitter_and_assembler_are_inverse(batches: list[list[Part]]) -> None:
    body = assembled(responses, batches)
    split = stream_parts(responses, written(responses, [responses.read_whole(body)]))
    assert json.loads(assembled(responses, split)) == json.loads(body)


def test_a_text_a_thought_and_calls_become_items_in_their_order() -> None:
    parts: list[Part] = [
        Start("id", "real", 9),
        Reasoning("Hm", block=0),
        Text("Hi", block=1),
        ToolCall("", "a", "f", block=3),
        ToolCall("", "b", "g", block=4),
        ToolCall('{"x":', block=3),
        ToolCall("{}", block=4),
        ToolCall("1}", block=3),
        *ENDS,
    ]
    stream = written(responses, [[part] for part in parts])
    check_order(stream)
    output = final(stream)["output"]
    assert [item["type"] for item in output] == ["reasoning", "message", "function_call", "function_call"]
    assert output[0]["summary"] == [{"type": "summary_text", "text": "Hm"}]
    assert [item.get("arguments") for item in output[2:]] == ['{"x":1}', "{}"]
    assert [item.get("call_id") for item in output[2:]] == ["a", "b"]
    assert sdk_response(stream).output_text == "Hi"


def test_blocks_of_text_are_parts_of_one_message() -> None:
    parts: list[Part] = [Text("a", block=0), BlockEnd(block=0), Text("b", block=1), BlockEnd(block=1), *ENDS]
    stream = written(responses, [parts])
    check_order(stream)
    [message] = final(stream)["output"]
    assert [piece["text"] for piece in message["content"]] == ["a", "b"]


def test_a_refusal_is_a_part_of_its_own() -> None:
    stream = written(responses, [[RefusalText("No", block=2)], [RefusalText(".", block=2)], list(ENDS)])
    check_order(stream)
    assert final(stream)["output"][0]["content"] == [{"type": "refusal", "refusal": "No."}]
    kinds = [each["type"] for each in payloads(stream)]
    assert kinds.count("response.refusal.delta") == 2
    assert kinds.count("response.refusal.done") == 1


def test_thinking_comes_back_with_its_signature() -> None:
    parts: list[Part] = [
        Reasoning("One", block=0),
        Reasoning(block=0, signature="sig1"),
        BlockEnd(block=0),
        Reasoning(block=1, redacted="xyz"),
        BlockEnd(block=1),
        Reasoning(block=2, signature="sig2"),
        BlockEnd(block=2),
        Text("Hi", block=3),
        *ENDS,
    ]
    stream = written(responses, [[part] for part in parts])
    check_order(stream)
    items = final(stream)["output"]
    assert [item.get("encrypted_content") for item in items[:3]] == ["sig1", "redacted:xyz", "sig2"]
    again = [part for part in flat(stream_parts(responses, stream)) if isinstance(part, Reasoning)]
    assert [(part.signature, part.redacted) for part in again if not part.text] == [
        ("sig1", None),
        (None, "xyz"),
        ("sig2", None),
    ]
    request = responses.read_request({"model": msgspec.Raw(b'"m"'), "input": msgspec.Raw(msgspec.json.encode(items))})
    dropped: list[str] = []
    given_back = responses.write_request(request, dropped)["input"]
    # What Anthropic made unreadable is for Anthropic.
    assert [item.get("encrypted_content") for item in given_back[:2]] == ["sig1", "sig2"]
    assert dropped == ["messages.content.reasoning"]


@pytest.mark.parametrize(
    ("reason", "status", "details"),
    [
        ("length", "incomplete", {"reason": "max_output_tokens"}),
        ("content_filter", "incomplete", {"reason": "content_filter"}),
        ("error", "failed", None),
        ("tool_calls", "completed", None),
        ("other", "completed", None),
    ],
)
def test_the_last_event_says_how_it_ended(reason: Any, status: str, details: Any) -> None:
    stream = written(responses, [[Text("Hi"), Finish(reason), End()]])
    check_order(stream)
    last = payloads(stream)[-1]
    assert last["type"] == f"response.{status}"
    assert (last["response"]["status"], last["response"]["incomplete_details"]) == (status, details)
    assert last["response"]["usage"] is None
    assert (last["response"]["error"] is not None) == (status == "failed")
    assert last["response"]["output"][0]["status"] == ("incomplete" if status == "incomplete" else "completed")


def test_a_call_without_an_id_is_given_one() -> None:
    stream = written(responses, [[ToolCall("{}", name="f", block=3), *ENDS]])
    assert final(stream)["output"][0]["call_id"].startswith("call_call1_")


def test_nothing_follows_the_end_and_comments_stand_between() -> None:
    encoder = responses.encoder(ENVELOPE)
    assert encoder.encode([Comment("cost")]) == b": cost\n\n"
    assert encoder.encode([Text("Hi"), *ENDS]).count(b"response.completed") == 2
    assert encoder.encode([Text("more"), End()]) == b""


def test_a_reply_that_says_nothing_is_one_all_the_same() -> None:
    stream = written(responses, [list(ENDS)])
    check_order(stream)
    assert final(stream)["output"] == []


def test_citations_stay_with_the_text_they_point_into() -> None:
    cited = [{"type": "url_citation", "start_index": 0, "end_index": 2, "url": "u", "title": "t"}]
    done = {**MESSAGE, "content": [{"type": "output_text", "text": "Hi", "annotations": cited}]}
    stream = (
        CREATED
        + event("response.output_item.added", output_index=0, item=MESSAGE)
        + event("response.output_text.delta", output_index=0, content_index=0, delta="Hi")
        + event("response.output_item.done", output_index=0, item=done)
        + completed([done])
    )
    _, batches, _ = measured(stream)
    kept = written(responses, batches)
    assert final(kept)["output"][0]["content"][0]["annotations"] == cited
    assert [each["annotation"] for each in payloads(kept) if "annotation" in each] == cited
    assert not any("Hi" in str(part.data) for part in flat(batches) if isinstance(part, Opaque))


@pytest.mark.parametrize("more", [(), (event("response.output_item.added", output_index=1, item=CALL),)])
def test_text_that_was_held_back_stays_in_its_item_until_another_begins(more: tuple[bytes, ...]) -> None:
    stream = (
        CREATED
        + event("response.output_item.added", output_index=0, item=MESSAGE)
        + event("response.output_text.delta", output_index=0, content_index=0, delta="Hi")
        + event("response.output_item.done", output_index=0, item={**MESSAGE, "status": "completed"})
        + b"".join(more)
        + completed([])
    )
    _, batches, _ = measured(stream)
    held = [*batches[:-1], (Text(" there", block=0),), batches[-1]]
    again = written(responses, held)
    check_order(again)
    texts = [item["content"][0]["text"] for item in final(again)["output"] if item["type"] == "message"]
    assert texts == (["Hi", " there"] if more else ["Hi there"])


def test_an_item_whose_words_were_all_taken_away_is_not_told() -> None:
    stream = (
        CREATED
        + event("response.output_item.added", output_index=0, item=MESSAGE)
        + event("response.output_text.delta", output_index=0, content_index=0, delta="Hi")
        + event("response.output_item.done", output_index=0, item=MESSAGE)
        + event("response.output_item.added", output_index=1, item=CALL)
        + completed([])
    )
    _, batches, _ = measured(stream)
    silent = [tuple(part for part in batch if type(part) is not Text) for batch in batches]
    again = written(responses, silent)
    check_order(again)
    assert [item["type"] for item in final(again)["output"]] == ["function_call"]


def test_an_error_event_is_flat_and_nested() -> None:
    told = payloads(responses.write_error_event(Refusal(429, "slow", "Slow down."), "r"))[0]
    assert (told["type"], told["code"], told["message"]) == ("error", "slow", "Slow down.")
    assert told["error"] == {"message": "Slow down.", "type": "rate_limit_error", "param": None, "code": "slow"}


def test_a_call_without_arguments_gives_an_object_that_clients_can_parse() -> None:
    stream = written(responses, [[ToolCall("", "a", "f"), BlockEnd(), Finish("tool_calls"), End()]])
    check_order(stream)
    told = [event for event in payloads(stream) if event["type"].startswith("response.function_call_arguments")]
    assert [event.get("delta", event.get("arguments")) for event in told] == ["{}", "{}"]
    assert final(stream)["output"][0]["arguments"] == "{}"
