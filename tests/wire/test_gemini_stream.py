"""Streams of Gemini: written and read, cut anywhere, malformed, and with calls in pieces."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidegate.contract.meaning import (
    BlockEnd,
    Comment,
    End,
    Finish,
    FinishReason,
    Opaque,
    Part,
    Reasoning,
    Report,
    Start,
    Text,
    ToolCall,
    Usage,
)
from sidegate.errors import ProviderError, ReplyError
from sidegate.wire.dialect import Sign
from sidegate.wire.gemini.meter import GeminiMeter
from sidegate.wire.gemini.splitter import ArraySplitter, GeminiSplitter
from tests.wire.anthropic_reading import replies
from tests.wire.gemini_reading import GEMINI, cut, measured, payloads, sdk_events
from tests.wire.saying import ENVELOPE, assembled, flat, said, written

END: list[Part] = [Finish("stop"), End()]


def event(**fields: Any) -> bytes:
    return b"data: " + json.dumps(fields).encode() + b"\r\n\r\n"


def candidate(*parts: Any, index: int = 0, **more: Any) -> bytes:
    return event(candidates=[{"content": {"parts": list(parts), "role": "model"}, "index": index, **more}])


STOP = candidate({"text": ""}, finishReason="STOP")


@given(replies())
def test_what_is_written_is_read_again(batches: list[list[Part]]) -> None:
    expected = said(flat(batches))
    stream = written(GEMINI, batches)
    meter, _, again = measured(stream)
    told = said(flat(again))
    told.calls.sort(key=str)
    expected.calls.sort(key=str)
    assert (told.text, told.reasoning, told.calls) == (expected.text, expected.reasoning, expected.calls)
    assert meter.finished
    assert (meter.usage and meter.usage.input_tokens) == (expected.usage and expected.usage.input_tokens)
    assert (meter.usage and meter.usage.output_tokens) == max(
        expected.usage.output_tokens or 0 if expected.usage else 0,
        expected.usage.reasoning_tokens or 0 if expected.usage else 0,
    )


@given(replies())
def test_a_stream_and_a_body_say_the_same(batches: list[list[Part]]) -> None:
    _, _, again = measured(written(GEMINI, batches))
    streamed, whole = said(flat(again)), said(GEMINI.read_whole(assembled(GEMINI, batches)))
    assert streamed == whole


@given(
    st.lists(st.dictionaries(st.text(max_size=3), st.text(max_size=5) | st.integers()), min_size=1, max_size=4),
    st.data(),
)
def test_an_array_is_cut_into_its_elements_however_the_bytes_come(values: list[Any], data: st.DataObject) -> None:
    indent = data.draw(st.sampled_from([None, 2]))
    body = json.dumps(values, indent=indent, ensure_ascii=data.draw(st.booleans())).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=8)))
    splitter = ArraySplitter()
    found: list[bytes] = []
    for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True):
        found += splitter.feed(body[start:end])
    assert splitter.close() is None
    assert [json.loads(each.removeprefix(b"data: ")) for each in found] == values
    assert all(b"\n" not in each[:-2] for each in found)


def test_an_array_beyond_the_bound_is_refused() -> None:
    splitter = ArraySplitter(max_event_bytes=100)
    with pytest.raises(ReplyError) as raised:
        splitter.feed(b'[{"a": "' + b"x" * 200)
    assert raised.value.code == "event_too_large"


def test_an_array_that_stops_inside_an_element_is_no_end() -> None:
    splitter = GeminiSplitter()
    splitter.feed(b'[{"a": 1},\n{"b"')
    rest = splitter.close()
    assert rest is not None
    with pytest.raises(ReplyError):
        GeminiMeter().event(rest + b"\n\n")


def test_lines_that_break_googles_clients_are_left_out() -> None:
    assert cut(b'id: 1\nevent: x\ndata: {"a": 1}\n\n') == [b'data: {"a": 1}\n\n']


# --- the meter --------------------------------------------------------------------------------------------------------


def test_signs_of_a_stream() -> None:
    _, signs, _ = measured(
        event(usageMetadata={"promptTokenCount": 3})
        + candidate({"text": ""})
        + candidate({"text": "thinks", "thought": True})
        + candidate({"text": "says"})
        + event(usageMetadata={"promptTokenCount": 3, "candidatesTokenCount": 1})
        + STOP
    )
    assert signs == [Sign.LEAD_IN, Sign.LEAD_IN, Sign.CONTENT, Sign.CONTENT, Sign.OTHER, Sign.CONTENT]


def test_a_stream_is_finished_when_every_candidate_is() -> None:
    meter = GeminiMeter()
    meter.event(candidate({"text": "a"}, index=0, finishReason="STOP"))
    assert meter.finished
    meter.event(candidate({"text": "b"}, index=1))
    assert not meter.finished
    meter.event(candidate({"text": ""}, index=1, finishReason="MAX_TOKENS"))
    assert meter.finished
    assert meter.finish == "stop"


def test_a_blocked_prompt_is_a_whole_reply() -> None:
    blocked = event(
        promptFeedback={"blockReason": "SAFETY"}, usageMetadata={"promptTokenCount": 4, "totalTokenCount": 4}
    )
    meter, signs, batches = measured(blocked)
    assert (meter.finished, meter.finish, signs) == (True, "content_filter", [Sign.CONTENT])
    assert meter.usage == Usage(4, 0)
    assert [part for batch in batches for part in batch if isinstance(part, Report)] == [Report(Usage(4, 0))]
    (again,) = payloads(written(GEMINI, [*batches, (End(),)]))
    assert again["promptFeedback"] == {"blockReason": "SAFETY"}
    assert "candidates" not in again


def test_running_totals_count_once_and_thinking_is_output() -> None:
    counts = [
        {"promptTokenCount": 9, "totalTokenCount": 9},
        {"promptTokenCount": 9, "candidatesTokenCount": 1, "thoughtsTokenCount": 20, "totalTokenCount": 30},
        {
            "promptTokenCount": 9,
            "candidatesTokenCount": 5,
            "thoughtsTokenCount": 20,
            "toolUsePromptTokenCount": 6,
            "cachedContentTokenCount": 4,
            "totalTokenCount": 40,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 7}, {"modality": "AUDIO", "tokenCount": 2}],
        },
    ]
    meter = GeminiMeter()
    meter.event(event(candidates=[{"content": {"parts": [{"text": "a"}]}}], usageMetadata=counts[0]))
    assert meter.usage == Usage(9, None), "nothing is known of the output yet, and 0 would be a claim"
    meter.event(event(candidates=[{"content": {"parts": [{"text": "b"}]}}], usageMetadata=counts[1]))
    assert meter.usage == Usage(9, 21, reasoning_tokens=20)
    meter.event(event(candidates=[{"finishReason": "STOP"}], usageMetadata=counts[2]))
    assert meter.usage == Usage(15, 25, 4, None, 20, 2)
    (_, told) = payloads(
        written(
            GEMINI,
            measured(event(candidates=[{"content": {"parts": [{"text": "b"}]}}], usageMetadata=counts[2]))[2]
            + [(Finish("stop"), End())],
        )
    )
    assert told["usageMetadata"] == counts[2]


@pytest.mark.parametrize(
    "counts", [{"promptTokenCount": -5, "candidatesTokenCount": 10**30}, {"promptTokenCount": "x"}, {}]
)
def test_counts_that_are_none_are_unknown(counts: dict[str, Any]) -> None:
    meter = GeminiMeter()
    meter.event(event(candidates=[{"finishReason": "STOP"}], usageMetadata=counts))
    assert meter.usage is None


@pytest.mark.parametrize(
    "data",
    [
        b"oops",
        b"[1]",
        b'"x"',
        b'{"candidates": 3}',
        b'{"candidates": [{"content": {"parts": "x"}}]}',
        b"\xff",
        b"[" * 5000,
    ],
)
def test_what_is_no_event_is_a_failure(data: bytes) -> None:
    meter = GeminiMeter()
    with pytest.raises(ReplyError):
        meter.event(b"data: " + data + b"\n\n")
    with pytest.raises(ReplyError):
        GeminiMeter().whole(data)


@pytest.mark.parametrize("index", [-1, 1024, "0", 1.5])
def test_an_index_that_is_none_is_a_failure(index: Any) -> None:
    raw = event(candidates=[{"content": {"parts": [{"text": "x"}]}, "index": index}])
    with pytest.raises(ReplyError):
        GeminiMeter().event(raw)


def test_kinds_of_tomorrow_are_passed_over() -> None:
    raw = event(tomorrow={"a": 1}, candidates=[{"content": {"parts": [{"newPart": {"x": 1}}]}, "newField": [1]}])
    meter, _, batches = measured(raw + STOP)
    assert meter.finished
    kept = [part for part in flat(batches) if isinstance(part, Opaque)]
    assert [part.kind for part in kept] == ["gemini.part", "gemini.candidate", "gemini.reply"]
    first, *_ = payloads(written(GEMINI, [*batches, (End(),)]))
    assert first["tomorrow"] == {"a": 1}
    assert first["candidates"][0]["newField"] == [1]
    assert first["candidates"][0]["content"]["parts"] == [{"newPart": {"x": 1}}]


@pytest.mark.parametrize("frame", [b"data: %s\r\n\r\n", b"%s\n\n", b"data: [%s]\n\n"])
def test_an_error_in_mid_stream_is_raised_however_it_is_framed(frame: bytes) -> None:
    error = b'{"error": {"code": 429, "message": "Later.", "status": "RESOURCE_EXHAUSTED"}}'
    with pytest.raises(ProviderError) as raised:
        measured(candidate({"text": "a"}) + frame % error)
    assert (raised.value.status, raised.value.retryable) == (429, True)


# --- calls ------------------------------------------------------------------------------------------------------------


def piece(path: str | None = None, more: bool = True, **value: Any) -> dict[str, Any]:
    call: dict[str, Any] = {"willContinue": True} if more else {}
    if path is not None:
        call["partialArgs"] = [{"jsonPath": path, **value}]
    return {"functionCall": call}


def test_streamed_arguments_are_gathered_by_their_paths() -> None:
    opened = {"functionCall": {"name": "book", "id": "c1", "willContinue": True}}
    pieces = [
        piece("$.city", stringValue="Zür"),
        piece("$.city", stringValue="ich"),
        piece("$.rooms[1].beds", numberValue=2.0),
        piece("$['odd key'].on", boolValue=True),
        piece("$.none", nullValue="NULL_VALUE"),
        piece("no path", stringValue="x"),
        piece("$.city.deeper[99999999]", stringValue="x"),
        piece(more=False),
    ]
    _, _, batches = measured(b"".join([candidate(opened), *map(candidate, pieces), STOP]))
    ((id, name, value),) = said(flat(batches)).calls
    assert (id, name) == ("c1", "book")
    assert value["rooms"] == [None, {"beds": 2}]
    assert value["odd key"] == {"on": True}
    assert value["none"] is None


def test_a_call_of_the_same_words_twice_is_two_calls() -> None:
    call = {"functionCall": {"name": "f", "args": {"a": 1}}}
    meter, _, batches = measured(candidate(call) + candidate(call) + STOP)
    assert said(flat(batches)).calls == [(None, "f", {"a": 1})] * 2
    assert said(flat(batches)).finish == meter.finish == "tool_calls"


def test_calls_in_pieces_are_said_whole() -> None:
    parts: list[Part] = [
        ToolCall("", "a", "f", block=3),
        ToolCall("", "b", "g", block=4),
        ToolCall('{"x": ', block=3),
        ToolCall("1.50}", block=3),
        ToolCall(" ", block=4),
    ]
    told = payloads(written(GEMINI, [[part] for part in [*parts, *END]]))
    calls = [
        part["functionCall"]
        for each in told
        for part in each["candidates"][0]["content"]["parts"]
        if "functionCall" in part
    ]
    assert calls == [{"name": "f", "args": {"x": 1.5}, "id": "a"}, {"name": "g", "args": {}, "id": "b"}]


@pytest.mark.parametrize("said", ['{"cut": ', "[1]", "7", '{"a": 1}}'])
@pytest.mark.parametrize("reason", ["tool_calls", "length"])
def test_a_call_whose_arguments_are_no_object_is_not_said(said: str, reason: FinishReason) -> None:
    """What is cut short ends by its limit; all else has a word of Gemini's own."""
    parts: list[Part] = [ToolCall("{}", "a", "f", block=3), ToolCall(said, "b", "g", block=4), Finish(reason), End()]
    malformed = {"finishReason": "MALFORMED_FUNCTION_CALL", "finishMessage": f"Malformed function call: g({said})"}
    whole = json.loads(assembled(GEMINI, [parts]))["candidates"][0]
    last = payloads(written(GEMINI, [[part] for part in parts]))[-1]["candidates"][0]
    assert [part["functionCall"]["name"] for part in whole["content"]["parts"]] == ["f"]
    for told in (whole, last):
        finish = {key: value for key, value in told.items() if key.startswith("finish")}
        assert finish == (malformed if reason == "tool_calls" else {"finishReason": "MAX_TOKENS"})


def test_signatures_stand_where_they_bind() -> None:
    parts: list[Part] = [
        Reasoning("thinks", block=0),
        Reasoning(block=0, signature="AAAA"),
        Text("says", block=1),
        Reasoning(block=2, signature="BBBB"),
        ToolCall("{}", "a", "f", block=3),
        BlockEnd(block=3),
        Reasoning(block=2, signature="CCCC"),
        Reasoning(block=5, redacted="sealed"),
        Reasoning(block=6, signature="no base64!"),
    ]
    whole = json.loads(assembled(GEMINI, [[*parts, *END]]))
    assert whole["candidates"][0]["content"]["parts"] == [
        {"text": "thinks", "thought": True},
        {"text": "", "thought": True, "thoughtSignature": "AAAA"},
        {"text": "says"},
        {"functionCall": {"name": "f", "args": {}, "id": "a"}, "thoughtSignature": "BBBB"},
        {"text": "", "thoughtSignature": "CCCC"},
        # Thinking that another vendor made unreadable, marked and in base64.
        {"text": "", "thought": True, "thoughtSignature": "cmVkYWN0ZWQ6c2VhbGVk"},
    ]


# --- bodies -----------------------------------------------------------------------------------------------------------


def test_a_change_of_the_text_takes_its_copies_along() -> None:
    body = json.dumps(
        {
            "candidates": [
                {
                    "content": {"parts": [{"text": "secret"}], "role": "model"},
                    "finishReason": "RECITATION",
                    "logprobsResult": {"chosenCandidates": [{"token": "secret"}]},
                    "groundingMetadata": {
                        "groundingSupports": [{"segment": {"text": "secret"}}],
                        "webSearchQueries": ["q"],
                    },
                    "safetyRatings": [1],
                }
            ],
            "usageMetadata": {"promptTokenCount": 1, "candidatesTokenCount": 1, "serviceTier": "standard"},
            "createTime": "now",
        }
    ).encode()
    parts = [Text("***", block=1) if isinstance(part, Text) else part for part in GEMINI.read_whole(body)]
    changed = json.loads(assembled(GEMINI, [parts], base=body))
    assert "secret" not in json.dumps(changed)
    (one,) = changed["candidates"]
    assert (one["finishReason"], one["safetyRatings"], one["groundingMetadata"]) == (
        "RECITATION",
        [1],
        {"webSearchQueries": ["q"]},
    )
    assert (changed["createTime"], changed["usageMetadata"]["serviceTier"]) == ("now", "standard")
    stream = written(GEMINI, [parts])
    assert b"secret" not in stream
    assert payloads(stream)[-1]["candidates"][0]["finishReason"] == "RECITATION"


def test_nothing_is_said_of_comments_and_nothing_follows_the_end() -> None:
    encoder = GEMINI.encoder(ENVELOPE)
    assert encoder.encode([Comment("cost")]) == b""
    assert encoder.encode([Start("i", "m"), Report(Usage(1, 2))]) == b""
    assert encoder.encode(END)
    assert encoder.encode([Text("late")]) == b""


def test_a_reply_without_words_still_ends() -> None:
    (only,) = sdk_events(written(GEMINI, [[End()]]))
    assert only.candidates is not None
    assert only.candidates[0].finish_reason is not None
