"""What a dialect can say comes back as it was meant: requests and replies, streamed and whole, of any kind."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidegate.contract.meaning import Citation, End, Part, Reasoning, Request
from sidegate.wire.body import encode
from sidegate.wire.registry import DIALECTS
from sidegate.wire.translation import features, translated
from sidegate.wire.words import PROVIDERS, WORDS
from tests.wire.meanings import VENDORS, meant, replies, requests
from tests.wire.saying import assembled, said, written

each = pytest.mark.parametrize("dialect", PROVIDERS)
quick = settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow], deadline=None)


def again(dialect: str, request: Request) -> tuple[Request, list[str]]:
    """What a provider of the dialect reads of it, and what was dropped."""
    there = DIALECTS[dialect]
    body, dropped = translated("ai_sdk.ui_messages", request, {}, there, strict=False)
    fields = there.adapt({name: encode(value) for name, value in body.items()}, model=request.model, stream=False)
    return there.read_request(there.place(fields, model=request.model, stream=False)), dropped


@each
@quick
@given(data=st.data())
def test_a_request_comes_back_as_it_was_meant(dialect: str, data: st.DataObject) -> None:
    request = data.draw(requests(dialect))
    back, dropped = again(dialect, request)
    assert dropped == []
    assert meant(back) == meant(request)


@each
@quick
@given(data=st.data())
def test_what_was_asked_of_one_dialect_is_asked_of_another_or_named(dialect: str, data: st.DataObject) -> None:
    """What the second has words for is the same; what it has none for is exactly what was dropped or refused."""
    request = data.draw(requests(dialect))
    other = data.draw(st.sampled_from([name for name in PROVIDERS if name != dialect]))
    if (asked := [name for name in features(request) if name not in WORDS[other]]) and "response_format" in str(asked):
        return
    back, dropped = again(other, request)
    told, wanted = meant(back), meant(request)
    for name in ("tools", "turns"):
        told[name], wanted[name] = _without_losses(told[name]), _without_losses(wanted[name])
    lost = {name.partition(".")[0] for name in dropped} | {"reasoning_effort"}
    assert {name for name in told if told[name] != wanted[name]} <= lost
    assert {name for name in dropped if name in WORDS[other]} <= {"reasoning_effort"}


def _without_losses(value: Any) -> Any:
    """Tools without their strictness, turns without thinking and without whether a tool failed."""
    if value and isinstance(value[0][0], str) and isinstance(value[0][1], list):
        return [
            (role, [_plain(piece) for piece in pieces if "Reasoning" not in str(type(piece))]) for role, pieces in value
        ]
    return [tool[:3] for tool in value]


def _plain(piece: Any) -> Any:
    return (piece.id, piece.content) if hasattr(piece, "is_error") else piece


# --- replies ----------------------------------------------------------------------------------------------------------


def streamed(dialect: str, parts: list[Part]) -> list[Part]:
    """What a client of the dialect reads of the parts as a stream."""
    there = DIALECTS[dialect]
    splitter, meter = there.splitter(), there.meter()
    found: list[Part] = []
    for event in splitter.feed(written(there, [[part] for part in parts])):
        meter.event(event)
        found += (meter.reader or there.read_event)(event)
    assert splitter.close() is None
    assert meter.finished
    # Where a dialect has no mark of the end, the pump says it.
    return found if found[-1] == End() else [*found, End()]


def whole(dialect: str, parts: list[Part]) -> list[Part]:
    return [*DIALECTS[dialect].read_whole(assembled(DIALECTS[dialect], [parts]))]


def heard(parts: list[Part]) -> tuple[Any, ...]:
    """What is said, thought, signed, called, cited, why it ended and what it used."""
    told = said(parts)
    signed = [(part.vendor, part.signature, part.redacted) for part in parts if type(part) is Reasoning and part.vendor]
    cited = [(part.url, part.title) for part in parts if type(part) is Citation]
    used = told.usage and (told.usage.input_tokens, told.usage.output_tokens, told.usage.cache_read_tokens)
    return told.text, told.reasoning, sorted(map(str, told.calls)), told.finish, used, signed, cited


@each
@quick
@given(data=st.data())
def test_a_stream_and_a_body_say_what_was_meant(dialect: str, data: st.DataObject) -> None:
    parts = data.draw(replies(dialect))
    assert heard(streamed(dialect, parts)) == heard(parts)
    assert heard(whole(dialect, parts)) == heard(parts)


@each
@quick
@given(data=st.data())
def test_splitting_and_gathering_undo_each_other(dialect: str, data: st.DataObject) -> None:
    parts = data.draw(replies(dialect))
    assert heard(streamed(dialect, whole(dialect, parts))) == heard(parts)
    assert heard(whole(dialect, streamed(dialect, parts))) == heard(parts)


@each
@quick
@given(data=st.data())
def test_a_reply_goes_through_every_dialect_and_comes_back(dialect: str, data: st.DataObject) -> None:
    parts = data.draw(replies(dialect))
    over: list[Part] = parts
    for other in data.draw(st.permutations(PROVIDERS)):
        over = data.draw(st.sampled_from((streamed, whole)))(other, over)
    text, thought, calls, finish, used, _, cited = heard(parts)
    again = heard(over)
    assert again[:5] == (text, thought, calls, finish, used)
    # What is cited behind a call is in the last event of Responses, and nowhere in the events before.
    assert again[6] == cited or calls


def test_each_vendor_seals_in_one_dialect() -> None:
    assert set(VENDORS) < set(PROVIDERS)
