"""Chat Completions: every event is measured."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidegate.contract.meaning import (
    Finish,
    FinishReason,
    Usage,
)
from sidegate.errors import ProviderError, ReplyError
from sidegate.wire import openai
from sidegate.wire.dialect import Sign
from tests.wire.openai_saying import DONE, USAGE, chat, delta, event


def signs(*events: bytes) -> list[Sign]:
    meter = chat.meter()
    return [meter.event(one) for one in events]


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
    "choice",
    [
        {"delta": {"images": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]}},
        {"delta": {"annotations": [{"type": "url_citation"}]}},
        {"delta": {"role": "assistant", "reasoning_details": [{"type": "reasoning.encrypted", "data": "x"}]}},
        {"delta": {}, "logprobs": {"content": [{"token": "a"}]}},
        {"delta": {}, "huge": [1.5]},
    ],
)
def test_what_comes_with_usage_is_not_hidden_with_it(choice: dict[str, Any]) -> None:
    both = event(choices=[{"index": 0, **choice}], usage=USAGE)
    assert signs(delta(content="a"), both)[-1] is Sign.OTHER
    meter = chat.meter()
    meter.event(both)
    assert meter.usage == Usage(3, 5)


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
    assert meter.event(event(choices=[], usage=usage)) is Sign.USAGE
    assert meter.usage is None


counts = st.none() | st.integers(-1, 9) | st.sampled_from([3.0, 3.5, True, "3", 2**53, [], {}])
details = st.none() | st.dictionaries(
    st.sampled_from(["cached_tokens", "cache_write_tokens", "audio_tokens", "reasoning_tokens"]), counts
)
usages = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(["prompt_tokens", "completion_tokens", "total_tokens", "prompt_cache_hit_tokens"], counts),
        **dict.fromkeys(["prompt_tokens_details", "completion_tokens_details"], details | st.sampled_from(["", [], 1])),
    },
)


@given(usages)
def test_usage_that_is_read_at_once_is_what_is_read_one_by_one(usage: dict[str, Any]) -> None:
    told = json.dumps({"choices": [{"message": {"content": "a"}}], "usage": usage}).encode()
    whole = chat.meter()
    whole.whole(told)
    streamed = chat.meter()
    streamed.event(event(choices=[], usage=usage))
    assert whole.usage == streamed.usage == openai._read_one_by_one(usage)
    assert (whole.output_bytes, whole.finished) == (1, True)


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
