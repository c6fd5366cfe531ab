"""Moulds: what is told of an event without decoding it is what decoding tells."""

from __future__ import annotations

import json
from itertools import accumulate
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidegate.errors import ReplyError
from sidegate.wire.anthropic.meter import AnthropicMeter
from sidegate.wire.dialect import Sign
from sidegate.wire.mould import MOST_CASTS, WINDOW, Mould, cast
from sidegate.wire.openai_chat import meter as openai_chat_meter
from sidegate.wire.openai_chat.meter import _KEY, ChatMeter, _text_of


def event(delta: Any, **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": None}
    body = {"id": "c1", "object": "chat.completion.chunk", "model": "m", "choices": [choice], **more}
    return b"data: " + json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode() + b"\n\n"


def decodes_all() -> ChatMeter:
    meter = ChatMeter()
    meter._casts = MOST_CASTS
    return meter


def mould_of(event: bytes, text: str) -> Mould | None:
    return cast(event, _KEY, text, _text_of)


def told(meter: ChatMeter | AnthropicMeter, events: list[bytes]) -> list[Any]:
    """All that a meter says, event for event."""
    out: list[Any] = []
    for each in events:
        try:
            sign: Any = meter.event(each)
        except ReplyError:
            sign = "refused"
        out.append((sign, meter.output_bytes, meter.usage, meter.finish, meter.model, meter.id, meter.finished))
    return out


texts = st.one_of(
    st.sampled_from(["a", " the", "", '"', "\\", "é", "\n", "\x7f", '","role":"x', "content", '"content":"a"']),
    st.text(max_size=6),
)
deltas = st.one_of(
    st.builds(lambda text: {"content": text}, texts),
    st.builds(lambda text: {"role": "assistant", "content": text, "refusal": None}, texts),
    st.builds(lambda text: {"content": text, "reasoning_content": "why"}, texts),
    st.builds(lambda text: {"x": {"content": text}, "content": "a"}, texts),
    st.builds(lambda text: {"content": "a", "x": {"content": text}}, texts),
    st.builds(lambda text: {"content": text, "tool_calls": [{"index": 0, "function": {"arguments": "{"}}]}, texts),
    st.just({}),
)
events = st.one_of(
    st.builds(event, deltas),
    st.builds(lambda delta, created: event(delta, created=created), deltas, st.integers(1, 3)),
    st.builds(lambda delta, pad: event(delta, obfuscation=pad), deltas, texts),
    st.builds(lambda delta, pad: event(delta, p=pad, x=pad), deltas, texts),
    st.builds(lambda delta, pad: event({**delta, "p": pad}), deltas, texts),
    st.builds(lambda delta: event(delta, usage={"prompt_tokens": 1, "completion_tokens": 2}), deltas),
    st.builds(lambda delta: event(delta).replace(b'"finish_reason":null', b'"finish_reason":"stop"'), deltas),
    st.builds(lambda delta: event(delta).replace(b'"content":"', b'"content": "'), deltas),
    st.builds(lambda delta: event(delta).replace(b"\n\n", b"\r\n\r\n"), deltas),
    st.builds(lambda delta, junk: event(delta).replace(b"the", junk), deltas, st.sampled_from([b"\xff", b"\0", b'"'])),
    st.sampled_from([b": ping\n\n", b"data: {}\n\n", b"data: nonsense\n\n"]),
)


@settings(deadline=None)
@given(st.lists(events, max_size=30))
def test_every_event_is_told_as_decoding_tells_it(sequence: list[bytes]) -> None:
    sequence = [event({"role": "assistant", "content": ""}), event({"content": "a"}), *sequence]
    assert told(ChatMeter(), sequence) == told(decodes_all(), sequence)


def front(sequence: list[bytes], size: int) -> list[bytes]:
    """The events of the first `size` bytes, which are whole events."""
    return sequence[: list(accumulate(map(len, sequence))).index(size) + 1]


@settings(deadline=None)
@given(st.lists(events, max_size=12), st.sampled_from([{}, {"obfuscation": "xy"}]))
def test_what_is_counted_at_the_front_is_told_as_decoding_each_tells_it(
    sequence: list[bytes], padded: dict[str, str]
) -> None:
    begun = [event({"role": "assistant", "content": ""}), *[event({"content": "a"}, **padded)] * 2]
    counted, at_once, decoded = ChatMeter(), ChatMeter(), decodes_all()
    for meter in (counted, at_once, decoded):
        told(meter, begun)
    before = counted.output_bytes
    size = counted.front(b"".join([b"x", *sequence]), 1) - 1
    assert at_once.row(b"".join(sequence)) == (0 < size == len(b"".join(sequence)))
    assert at_once.output_bytes in (before, counted.output_bytes)
    if size:
        assert all(sign is Sign.CONTENT for sign, *_ in told(decoded, front(sequence, size)))
        assert counted.output_bytes == decoded.output_bytes
        assert (counted.finish, counted.usage, counted.finished) == (decoded.finish, decoded.usage, decoded.finished)
    else:
        assert counted.output_bytes == before


@settings(deadline=None)
@given(st.lists(st.text(st.sampled_from("abc XYZ{}[]:,"), min_size=1, max_size=5), min_size=1), st.booleans())
def test_a_row_of_plain_texts_is_counted_at_once(words: list[str], padded: bool) -> None:
    def said(number: int, word: str) -> bytes:
        return event({"content": word}, **({"obfuscation": "x" * (number % 4)} if padded else {}))

    meter = ChatMeter()
    told(meter, [event({"role": "assistant", "content": ""}), said(1, "a"), said(2, "b")])
    before = meter.output_bytes
    row = b"".join(said(number, word) for number, word in enumerate(words))
    assert meter.front(row, 0) == len(row)
    assert meter.output_bytes - before == len("".join(words))


@pytest.mark.parametrize("junk", [b"\n\n", b": ping\n\n", b"data: [DONE]\n\n", b"data: ", b"\r\n\r\n", b'","x":"'])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_the_front_ends_before_anything_else(junk: bytes, place: int) -> None:
    meter = ChatMeter()
    told(meter, [event({"role": "assistant", "content": ""}), *[event({"content": "a"})] * 2])
    pieces = [event({"content": "b"}), event({"content": "c"})]
    size = len(b"".join(pieces[:place]))
    pieces.insert(place, junk)
    assert meter.front(b"".join(pieces), 0) == size


@pytest.mark.parametrize("odd", ['"', "\\n", "é"])
def test_the_front_is_counted_however_long_it_is_up_to_a_text_that_is_not_plain(odd: str) -> None:
    meter = ChatMeter()
    told(meter, [event({"role": "assistant", "content": ""}), *[event({"content": "a"})] * 2])
    before = meter.output_bytes
    row = b"".join(event({"content": "word " * (number % 7 + 1)}) for number in range(4 * WINDOW // 200))
    assert meter.front(row + event({"content": odd}) + row, 0) == len(row)
    assert meter.output_bytes - before == row.count(b"word ") * 5
    assert meter.front(event({"content": "x" * WINDOW}), 0) == 0


def test_the_front_ends_before_an_event_that_begins_as_its_own_do() -> None:
    meter = ChatMeter()
    told(meter, [event({"role": "assistant", "content": ""}), *[event({"content": "a"})] * 2])
    row = event({"content": "b"}) * 2
    assert meter.front(row + event({"content": "c", "x": 1}), 0) == len(row)


def test_what_differs_in_its_text_alone_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    meter = ChatMeter()
    told(meter, [event({"role": "assistant", "content": ""}), event({"content": "a"}), event({"content": "b"})])
    before = meter.output_bytes
    monkeypatch.setattr(openai_chat_meter, "EVENT", None)
    told(meter, [event({"content": " hello"})])
    assert meter.output_bytes == before + 6


@pytest.mark.parametrize("key", ["obfuscation", "p"])
def test_padding_that_nobody_reads_may_be_of_any_length(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    meter = ChatMeter()
    first = event({"role": "assistant", "content": ""})
    told(meter, [first, *(event({"content": "a"}, **{key: "x" * 3}) for _ in range(2))])
    before = meter.output_bytes
    monkeypatch.setattr(openai_chat_meter, "EVENT", None)
    told(meter, [event({"content": " the"}, **{key: "Zz9" * n}) for n in range(4)])
    assert meter.output_bytes == before + 16


def test_a_provider_that_changes_more_than_the_text_is_not_tried_for_ever() -> None:
    meter = ChatMeter()
    told(meter, [event({"content": "a"}, created=number) for number in range(50)])
    assert meter._casts == MOST_CASTS


def test_a_text_that_stands_in_two_places_or_in_another_makes_no_mould() -> None:
    assert mould_of(event({"content": "a"}), "a") is not None
    assert mould_of(event({"content": "a"}, x={"content": "a"}), "a") is None
    assert mould_of(event({"x": {"content": "a"}, "content": "b"}), "a") is None
    assert mould_of(event({"content": "a"}).replace(b'"content":"a"', b'"content":"a","content":"b"'), "a") is None
    assert mould_of(event({"content": "b"}), "a") is None


# --- Anthropic --------------------------------------------------------------------------------------------------------


def delta(said: Any, index: int = 0, **more: Any) -> bytes:
    body = {"type": "content_block_delta", "index": index, "delta": said, **more}
    data = json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()
    return b"event: content_block_delta\ndata: " + data + b"\n\n"


def words(text: str) -> dict[str, str]:
    return {"type": "text_delta", "text": text}


anthropic_events = st.one_of(
    st.builds(lambda text: delta(words(text)), texts),
    st.builds(lambda text, index: delta(words(text), index), texts, st.integers(0, 1)),
    st.builds(lambda text: delta({"type": "thinking_delta", "thinking": text}), texts),
    st.builds(lambda text: delta({**words("a"), "thinking": text}), texts),
    st.builds(lambda text: delta({"type": "input_json_delta", "partial_json": text}), texts),
    st.builds(lambda text: delta(words("a"), x={"text": text}), texts),
    st.builds(lambda text: delta(words(text)).replace(b"the", b"\xff"), texts),
    st.builds(lambda text: delta(words(text)).replace(b"\n", b"\r\n"), texts),
    st.sampled_from(
        [
            b": ping\n\n",
            b'event: ping\ndata: {"type":"ping"}\n\n',
            (
                b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":'
                b'{"output_tokens":3}}\n\n'
            ),
        ]
    ),
)


def decodes_all_of_anthropic() -> AnthropicMeter:
    meter = AnthropicMeter()
    meter._casts = MOST_CASTS
    return meter


@settings(deadline=None)
@given(st.lists(anthropic_events, max_size=30))
def test_every_event_of_anthropic_is_told_as_decoding_tells_it(sequence: list[bytes]) -> None:
    sequence = [delta(words("a")), *sequence]
    assert told(AnthropicMeter(), sequence) == told(decodes_all_of_anthropic(), sequence)


@settings(deadline=None)
@given(st.lists(anthropic_events, max_size=12))
def test_a_row_of_anthropics_is_told_as_decoding_each_tells_it(sequence: list[bytes]) -> None:
    counted, at_once, decoded = AnthropicMeter(), AnthropicMeter(), decodes_all_of_anthropic()
    for meter in (counted, at_once, decoded):
        told(meter, [delta(words("a"))])
    before = counted.output_bytes
    size = counted.front(b"".join(sequence), 0)
    assert at_once.row(b"".join(sequence)) == (0 < size == len(b"".join(sequence)))
    if size:
        assert all(sign is Sign.CONTENT for sign, *_ in told(decoded, front(sequence, size)))
        assert (counted.output_bytes, counted.finish) == (decoded.output_bytes, decoded.finish)
    else:
        assert counted.output_bytes == before


def test_a_row_of_anthropics_words_is_counted_at_once() -> None:
    meter = AnthropicMeter()
    told(meter, [delta(words("a"))])
    row = delta(words("Hello")) + delta(words(" you"))
    assert meter.front(row, 0) == len(row)
    assert meter.output_bytes == 10
    assert meter.front(row + delta(words("you"), 1), 0) == len(row)
    assert meter.row(row)
    assert meter.output_bytes == 28
