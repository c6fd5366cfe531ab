"""What Realtime's events mean, in both spellings, and what no event should do."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidegate.contract import Rates, Text, Usage
from sidegate.errors import BadRequest, Refusal
from sidegate.wire.openai_realtime import events as wire
from sidegate.wire.openai_realtime.context import LONGEST, Context, piece_bytes
from tests.realtime.provider import USAGE


def data(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


def test_usage_is_told_in_kinds_of_which_no_token_is_in_two() -> None:
    found = wire.read_usage(USAGE)
    assert found == Usage(132, 121, 64, None, None, 9, 91, False, 4, 0, 0)


def test_cached_sound_and_images_have_prices_of_their_own() -> None:
    rates = Rates(600, 2400, 60, 600, 2400, 10_000, 20_000, audio_cache_read=300, image_input=800, image_cache_read=80)
    usage = Usage(1000, 0, 100, None, None, 200, 0, False, 30, 50, 20)
    kinds = 50 * 60 + 30 * 300 + 20 * 80 + 200 * 10_000 + 50 * 800 + (1000 - 100 - 200 - 50) * 600
    assert rates.cost(usage) == round(kinds / 10**6)
    assert msgspec.structs.replace(rates, audio_cache_read=None, image_input=None, image_cache_read=None).cost(
        usage
    ) == round((100 * 60 + 200 * 10_000 + 700 * 600) / 10**6)


@pytest.mark.parametrize("usage", [None, {}, {"input_tokens": "many"}, {"input_tokens": -1}, {"input_tokens": True}])
def test_what_is_no_count_is_unknown(usage: Any) -> None:
    assert wire.read_usage(usage) is None


def test_what_is_billed_by_the_minute_has_no_tokens() -> None:
    told = data(type=wire.TRANSCRIBED, item_id="i", usage={"type": "duration", "seconds": 3})
    assert wire.read_transcribed(told) == ("i", None)


@pytest.mark.parametrize(
    ("status", "details", "finish", "code"),
    [
        ("completed", None, "stop", None),
        ("cancelled", {"type": "cancelled", "reason": "turn_detected"}, "stop", None),
        ("incomplete", {"type": "incomplete", "reason": "max_output_tokens"}, "length", None),
        ("incomplete", {"type": "incomplete", "reason": "content_filter"}, "content_filter", None),
        ("failed", {"type": "failed", "error": {"type": "server_error", "code": "overloaded"}}, "error", "overloaded"),
    ],
)
def test_how_a_response_ended(status: str, details: Any, finish: str, code: str | None) -> None:
    said = {"id": "r", "status": status, "status_details": details, "usage": USAGE}
    done = wire.read_done(data(type="response.done", response=said))
    assert (done.id, done.status, done.finish, done.code) == ("r", status, finish, code)


def test_a_type_is_found_wherever_it_stands() -> None:
    for text in (
        b'{"type":"response.done","x":1}',
        b' { "event_id" : "e", "type" : "response.done" }',
        b'{"response":{"type":"other"},"type":"response.done"}',
    ):
        assert wire.server_type(text) == "response.done"
    for text in (b"[]", b"", b"\xff", b'{"type":1}', b'"type"'):
        assert wire.server_type(text) == ""


def test_both_spellings_of_a_transcription_are_understood() -> None:
    newer = b'{"model":"m","audio":{"input":{"transcription":{"model":"w"}}},"max_output_tokens":"inf"}'
    older = b'{"input_audio_transcription":{"model":"w"},"max_response_output_tokens":99}'
    found = [wire.told_session(b'{"session":' + text + b"}") for text in (newer, older)]
    assert [(each.transcription_model, each.most) for each in found] == [("w", None), ("w", 99)]


def test_both_spellings_of_what_is_said_are_heard() -> None:
    for kind in ("response.output_audio_transcript.delta", "response.audio_transcript.delta", "response.text.delta"):
        assert wire.read_parts(data(type=kind, delta="hé")) == (Text("hé"),)
    assert wire.read_parts(data(type="response.output_audio.delta", delta="AAAA")) == ()
    assert wire.read_parts(data(type="response.function_call_arguments.delta", delta="{}")) == ()


def test_what_the_gateway_adds_leaves_the_rest_as_it_was() -> None:
    asked = b'{"type":"response.create","response":{"metadata":{"a": 1.50}}}'
    assert wire.with_event_id(asked, "e").endswith(b'"response":{"metadata":{"a": 1.50}},"event_id":"e"}')
    assert json.loads(wire.with_most_output(asked, 9))["response"] == {"metadata": {"a": 1.5}, "max_output_tokens": 9}
    assert json.loads(wire.with_most_output(b'{"type":"response.create"}', 9))["response"] == {"max_output_tokens": 9}
    update = b'{"type":"session.update","session":{"model":"voice","x":"\\u00e9"}}'
    assert wire.with_session_model(update, "real") == update.replace(b"voice", b"real")


def test_an_error_is_told_as_the_vendor_tells_it() -> None:
    told = json.loads(wire.write_error(Refusal(429, "rate_limit_exceeded", "No."), "e1", "mine"))
    assert told["type"] == "error"
    assert told["error"] == {
        "type": "rate_limit_error",
        "code": "rate_limit_exceeded",
        "message": "No.",
        "param": None,
        "event_id": "mine",
    }


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_no_bytes_fail_whoever_reads_them(noise: bytes) -> None:
    for text in (noise, b'{"type":"response.done",' + noise, b'{"type":"session.update","session":' + noise + b"}"):
        wire.server_type(text)
        wire.read_done(text)
        wire.read_parts(text)
        wire.read_error(text)
        wire.read_transcribed(text)
        wire.told_session(text)
        try:
            event = wire.read_client(text)
            wire.read_session(event.session)
            wire.read_limits(event.response)
        except BadRequest:
            pass


def test_a_nest_of_any_depth_is_refused_and_fails_nothing() -> None:
    deep = b'{"type":"session.update","session":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    with pytest.raises(BadRequest):
        wire.read_client(deep)


def test_the_context_of_a_session_is_bounded_by_what_was_reported_and_what_came_since() -> None:
    context = Context()
    context.used(Usage(1000, 200), context.so_far)
    assert context.most == 1200 + 64
    context.said("input_audio_buffer.append", 64_000)
    # A second of the vendor's own format is ten tokens; of the shortest it may be sixty.
    assert context.likely == 1200 + 64 + 10
    assert context.most == 1200 + 64 + 61
    context.said("conversation.item.create", 10**6)
    assert context.most == LONGEST


def test_what_comes_while_a_response_is_made_is_in_no_report_and_goes_on_to_count() -> None:
    context = Context()
    context.said("conversation.item.create", 1000)
    begun = context.so_far
    context.said("conversation.item.create", 300)
    context.used(Usage(250, 50), begun)
    assert (context.most, context.likely) == (300 + 64 + 300, 300 + 64 + 75)


@pytest.mark.parametrize(
    ("said", "apart"),
    [
        ('{"conversation": "none"}', True),
        ('{"input": []}', True),
        ('{"input": [{"type": "message"}]}', True),
        ('{"conversation": "auto", "input": null}', False),
        ("{}", False),
    ],
)
def test_a_response_that_is_not_made_from_the_conversation_is_known(said: str, apart: bool) -> None:
    event = wire.read_client(f'{{"type": "response.create", "response": {said}}}'.encode())
    assert wire.read_limits(event.response).apart is apart


def test_sound_is_estimated_by_its_length_and_text_by_its_bytes() -> None:
    assert piece_bytes("response.output_audio.delta", 32_000) == 40
    assert piece_bytes("response.output_text.delta", 240) == 40
