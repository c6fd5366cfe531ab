"""The meter of Anthropic Messages."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidegate.contract.meaning import Usage
from sidegate.errors import ProviderError, ReplyError
from sidegate.wire import sse
from sidegate.wire.anthropic.dialect import AnthropicMessages
from sidegate.wire.anthropic.event import payload
from sidegate.wire.anthropic.meter import AnthropicMeter
from sidegate.wire.dialect import Sign
from tests.wire.recordings import Case, parameters
from tests.wire.saying import events, flat, said, stream_parts

DIALECT = AnthropicMessages()
START = {"type": "message_start", "message": {"id": "msg_1", "model": "m", "usage": {"input_tokens": 10}}}


def event(**fields: Any) -> bytes:
    return f"event: {fields['type']}\ndata: {json.dumps(fields)}\n\n".encode()


def delta(**fields: Any) -> bytes:
    return event(type="content_block_delta", index=0, delta=fields)


def block(**fields: Any) -> bytes:
    return event(type="content_block_start", index=0, content_block=fields)


@pytest.mark.parametrize("case", parameters("anthropic/messages-stream"))
def test_every_recorded_stream_is_measured(case: Case) -> None:
    meter = AnthropicMeter()
    broken = "error" in case.name
    signs = []
    try:
        for one in events(case.body):
            signs.append(meter.event(one))
    except ProviderError:
        assert broken
        assert not meter.finished
        return
    assert not broken
    assert signs[0] is Sign.LEAD_IN
    assert signs[-1] is Sign.END
    assert meter.finished
    assert meter.usage is not None
    assert meter.usage.known
    assert meter.output_bytes > 0
    assert meter.model


@pytest.mark.parametrize("case", parameters("anthropic/messages-stream", only=lambda case: case.good))
def test_the_meter_and_the_parts_tell_the_same(case: Case) -> None:
    meter = AnthropicMeter()
    for one in events(case.body):
        meter.event(one)
    told = said(flat(stream_parts(DIALECT, case.body)))
    assert (meter.usage, meter.finish) == (told.usage, told.finish)
    assert meter.output_bytes >= len((told.text + told.reasoning).encode())


@pytest.mark.parametrize("case", parameters("anthropic/messages-json"))
def test_every_recorded_body_is_measured(case: Case) -> None:
    meter = AnthropicMeter()
    if case.status != 200:
        with pytest.raises(ProviderError):
            meter.whole(case.body)
        return
    meter.whole(case.body)
    told = said(DIALECT.read_whole(case.body))
    usage = json.loads(case.body)["usage"]
    cached = usage.get("cache_creation_input_tokens", 0) + usage.get("cache_read_input_tokens", 0)
    assert meter.finished
    assert (meter.usage, meter.finish) == (told.usage, told.finish)
    assert meter.usage is not None
    assert meter.usage.input_tokens == usage["input_tokens"] + cached
    assert meter.usage.output_tokens == usage["output_tokens"]


def test_the_input_includes_what_was_cached() -> None:
    meter = AnthropicMeter()
    counts = {
        "input_tokens": 10,
        "cache_creation_input_tokens": 7,
        "cache_read_input_tokens": 100,
        "output_tokens": 1,
    }
    meter.event(event(type="message_start", message={"id": "i", "model": "m", "usage": counts}))
    assert meter.usage == Usage(input_tokens=117, cache_read_tokens=100, cache_write_tokens=7)


def test_a_count_that_is_not_repeated_survives_one_that_is() -> None:
    meter = AnthropicMeter()
    counts = {"input_tokens": 10, "cache_read_input_tokens": 100, "output_tokens": 1}
    meter.event(event(type="message_start", message={"usage": counts}))
    meter.event(event(type="message_delta", delta={}, usage={"input_tokens": 12, "output_tokens": 5}))
    assert meter.usage == Usage(input_tokens=112, output_tokens=5, cache_read_tokens=100)


def test_a_zero_at_the_end_takes_back_nothing_of_what_went_in() -> None:
    meter = AnthropicMeter()
    counts = {"input_tokens": 1000, "cache_read_input_tokens": 4000, "output_tokens": 1}
    meter.event(event(type="message_start", message={"usage": counts}))
    last = {"input_tokens": 0, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0, "output_tokens": 7}
    meter.event(event(type="message_delta", delta={}, usage=last))
    assert meter.usage == Usage(input_tokens=5000, output_tokens=7, cache_read_tokens=4000, cache_write_tokens=0)


def test_a_stream_that_breaks_off_did_not_put_out_one_token() -> None:
    meter = AnthropicMeter()
    meter.event(event(type="message_start", message={"usage": {"input_tokens": 10, "output_tokens": 1}}))
    meter.event(delta(type="text_delta", text="Hello there"))
    assert meter.usage is not None
    assert meter.usage.output_tokens is None
    assert not meter.finished
    assert meter.output_bytes == 11


def test_later_output_counts_replace_earlier_ones() -> None:
    meter = AnthropicMeter()
    meter.event(event(type="message_delta", delta={}, usage={"output_tokens": 5}))
    meter.event(event(type="message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 9}))
    assert meter.usage is not None
    assert meter.usage.output_tokens == 9


def test_an_input_of_none_is_told_later() -> None:
    meter = AnthropicMeter()
    meter.event(event(type="message_start", message={"usage": {"input_tokens": 0, "output_tokens": 0}}))
    assert meter.usage == Usage()
    meter.event(event(type="message_delta", delta={}, usage={"input_tokens": 40, "output_tokens": 2}))
    assert meter.usage == Usage(40, 2)


@pytest.mark.parametrize("wrong", [-1, 1.5, "7", 10**40, True, [], {}])
def test_a_count_that_is_none_is_unknown(wrong: Any) -> None:
    meter = AnthropicMeter()
    meter.event(event(type="message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": wrong}))
    assert meter.usage == Usage()
    assert meter.finished


@pytest.mark.parametrize(
    ("raw", "sign"),
    [
        (b": hello\n\n", Sign.NOTHING),
        (event(type="ping"), Sign.NOTHING),
        (event(**START), Sign.LEAD_IN),
        (block(type="text", text=""), Sign.LEAD_IN),
        (block(type="thinking", thinking="", signature=""), Sign.LEAD_IN),
        (block(type="text", text="Hi"), Sign.CONTENT),
        (block(type="redacted_thinking", data="x"), Sign.CONTENT),
        (block(type="tool_use", id="t", name="f", input={}), Sign.CONTENT),
        (block(type="server_tool_use", id="t", name="f", input={}), Sign.CONTENT),
        (block(type="thing_of_tomorrow", text={"not": "text"}), Sign.CONTENT),
        (delta(type="text_delta", text="a"), Sign.CONTENT),
        (delta(type="delta_of_tomorrow", text=["a"]), Sign.CONTENT),
        (event(type="content_block_stop", index=0), Sign.LEAD_IN),
        (event(type="event_of_tomorrow", delta="odd", usage=[]), Sign.LEAD_IN),
        (event(type="message_delta", delta={"stop_reason": "end_turn"}), Sign.CONTENT),
        (event(type="message_stop"), Sign.END),
    ],
)
def test_what_each_event_is_before_content(raw: bytes, sign: Sign) -> None:
    assert AnthropicMeter().event(raw) is sign


@pytest.mark.parametrize(
    "raw",
    [
        block(type="text", text=""),
        event(type="content_block_stop", index=0),
        event(type="event_of_tomorrow", message=3),
        event(type="message_delta", delta={}, usage={"output_tokens": 3}),
    ],
)
def test_what_says_nothing_after_content_is_other(raw: bytes) -> None:
    meter = AnthropicMeter()
    meter.event(delta(type="text_delta", text="a"))
    assert meter.event(raw) is Sign.OTHER


def test_the_type_counts_and_not_the_event_line() -> None:
    meter = AnthropicMeter()
    assert meter.event(b'event: ping\r\ndata: {"type":"message_stop"}      \r\n\r\n') is Sign.END
    assert meter.event(b'data:{"type":"ping"}\n\n') is Sign.NOTHING
    assert meter.event(b'event: x\ndata: {"type":\ndata: "message_stop"}\n\n') is Sign.END


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x",
        b"{",
        b"[]",
        b"null",
        b"3",
        b"{}",
        b'{"type":3}',
        b'{"type":"message_delta","usage":[]}',
        b'{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":3}}',
        b'{"type":"content_block_delta","index":"0","delta":{"type":"text_delta","text":"a"}}',
        b'{"type":"content_block_delta","index":"0","delta":{"type":"odd"}}',
        b'{"type":"content_block_start","index":0,"content_block":7}',
        b'{"type":"message_start","message":"\xff"}',
        b'{"type":"a","delta":' + b"[" * 100_000,
    ],
)
def test_what_is_no_event_is_a_failure_of_the_provider(data: bytes) -> None:
    with pytest.raises(ReplyError):
        AnthropicMeter().event(b"data: " + data + b"\n\n")


@pytest.mark.parametrize(
    "raw", [b"", b"<html>", b"[]", b"{}", b'{"type":"message"}', b'{"content":3}', b'{"content":[3]}']
)
def test_what_is_no_message_is_a_failure_of_the_provider(raw: bytes) -> None:
    with pytest.raises(ReplyError):
        AnthropicMeter().whole(raw)


@pytest.mark.parametrize(
    ("kind", "status", "retryable"),
    [
        ("overloaded_error", 503, True),
        ("rate_limit_error", 429, True),
        ("api_error", 502, True),
        ("invalid_request_error", 400, False),
        ("not_found_error", 404, False),
        ("request_too_large", 413, False),
        ("timeout_error", 504, True),
        ("authentication_error", 502, False),
        ("error_of_tomorrow", 502, True),
    ],
)
def test_an_error_inside_a_stream_is_raised(kind: str, status: int, retryable: bool) -> None:
    raw = event(type="error", error={"type": kind, "message": "So it is.", "details": None})
    for read in (AnthropicMeter().event, DIALECT.read_event):
        with pytest.raises(ProviderError) as caught:
            read(raw)
        assert (caught.value.status, caught.value.retryable) == (status, retryable)


LINES = st.sampled_from((b"event: a", b"event:", b"data: x", b"data:", b"data", b": c", b"", b"y", b"data: a\tb"))


@given(st.lists(st.tuples(LINES, st.sampled_from((b"\n", b"\r", b"\r\n"))), max_size=4))
def test_the_short_way_to_the_data_is_the_long_one(lines: list[tuple[bytes, bytes]]) -> None:
    raw = b"".join(line + end for line, end in lines)
    assert payload(raw) == sse.data(raw)


@given(st.binary(max_size=200))
def test_no_bytes_surprise_the_meter(data: bytes) -> None:
    with contextlib.suppress(ProviderError):
        AnthropicMeter().event(b"data: " + data + b"\n\n")
    with contextlib.suppress(ProviderError):
        AnthropicMeter().whole(data)


VALUES = st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from(("", "a", "text_delta", "text", "end_turn"))
KEYS = st.sampled_from(("type", "text", "index", "delta", "input", "usage", "input_tokens", "stop_reason"))
OBJECTS = st.dictionaries(KEYS, VALUES | st.dictionaries(KEYS, VALUES, max_size=2), max_size=4)
KINDS = st.sampled_from(
    ("message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta", "error", "x")
)
PLACES = st.sampled_from(("delta", "content_block", "usage", "message", "index", "error"))


@given(KINDS, st.dictionaries(PLACES, OBJECTS | VALUES, max_size=4))
def test_no_json_surprises_the_readers(kind: str, fields: dict[str, Any]) -> None:
    raw = event(**{**fields, "type": kind})
    for read in (AnthropicMeter().event, DIALECT.read_event):
        with contextlib.suppress(ProviderError):
            read(raw)
