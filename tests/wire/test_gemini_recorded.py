"""Recorded Gemini and Vertex AI: measured, read, and told in each other dialect as it was."""

from __future__ import annotations

import json

import msgspec
import pytest

from sidegate.contract.meaning import End, Part, Usage
from sidegate.errors import ProviderError
from sidegate.wire.body import encode, read_fields, write_fields
from sidegate.wire.dialect import Dialect
from sidegate.wire.gemini.meter import GeminiMeter
from sidegate.wire.registry import DIALECTS
from tests.wire.gemini_reading import GEMINI, measured, sdk_calls, sdk_events, sdk_text
from tests.wire.openai_saying import chat as OPENAI
from tests.wire.recordings import Case, parameters
from tests.wire.saying import ENVELOPE, Said, assembled, flat, reread, said, stream_parts, written

ANTHROPIC = DIALECTS["anthropic.messages"]

GOOD = parameters("gemini/gemini-", "vertex/gemini-", only=lambda case: case.good)
ASKED = parameters(
    "gemini/gemini-", "vertex/gemini-", only=lambda case: case.asked and "invalid-argument-02" not in case.name
)
FAILED = parameters("gemini/", "vertex/", only=lambda case: case.status != 200)
OPENAI_STREAMS = parameters(
    *(f"{name}/chat-stream" for name in ("azure", "deepseek", "groq", "mistral", "openai", "openrouter", "xai")),
    only=lambda case: case.good,
)
ANTHROPIC_STREAMS = parameters("anthropic/messages-stream", only=lambda case: case.good)


def read(case: Case) -> tuple[GeminiMeter, list[tuple[Part, ...]]]:
    """A reply as the gateway reads it, from its start to its clean end."""
    if case.stream or case.body.lstrip().startswith(b"["):
        meter, _, batches = measured(case.body)
        return meter, [*batches, (End(),)]
    meter = GeminiMeter()
    meter.whole(case.body)
    return meter, [GEMINI.read_whole(case.body)]


def payload_texts(case: Case) -> str:
    """The text of the first candidate, found by hand."""
    lines = case.body.decode().splitlines()
    if case.stream:
        told = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    else:
        decoded = json.loads(case.body)
        told = decoded if isinstance(decoded, list) else [decoded]
    parts = [part for each in told for part in each["candidates"][0].get("content", {}).get("parts", [])]
    return "".join(part.get("text", "") for part in parts if not part.get("thought"))


def by(dialect: Dialect, told: Said) -> Said:
    """What another dialect can say of it: calls get ids, and counts it has no word for are gone."""
    usage = told.usage
    if dialect is ANTHROPIC and usage is not None:
        usage = msgspec.structs.replace(usage, audio_input_tokens=None, input_tokens=usage.input_tokens or None)
    if dialect is OPENAI and usage is not None and not usage.known:
        usage = None
    return Said(told.text, told.reasoning, "", told.calls, told.finish, usage)


def same(told: Said, expected: Said) -> None:
    calls = [(id or other[0], name, value) for (id, name, value), other in zip(expected.calls, told.calls, strict=True)]
    assert told == Said(expected.text, expected.reasoning, "", calls, expected.finish, expected.usage)


@pytest.mark.parametrize("case", GOOD)
def test_a_reply_is_read_as_it_was_said(case: Case) -> None:
    meter, batches = read(case)
    told = said(flat(batches))
    assert told.text == payload_texts(case)
    assert (meter.finish, meter.usage) == (told.finish, told.usage)
    assert meter.started
    assert meter.finished
    assert meter.model
    assert meter.id
    assert meter.usage is not None
    assert meter.usage.output_tokens is not None


@pytest.mark.parametrize("case", GOOD)
@pytest.mark.parametrize("dialect", [OPENAI, ANTHROPIC], ids=["openai", "anthropic"])
def test_a_reply_is_told_in_another_dialect(case: Case, dialect: Dialect) -> None:
    _, batches = read(case)
    expected = by(dialect, said(flat(batches)))
    same(said(flat(stream_parts(dialect, written(dialect, batches)))), expected)
    same(said(dialect.read_whole(assembled(dialect, batches))), expected)


@pytest.mark.parametrize("case", GOOD)
def test_a_reply_written_anew_in_its_own_dialect_says_the_same(case: Case) -> None:
    _, batches = read(case)
    expected = said(flat(batches))
    stream = written(GEMINI, batches)
    meter, _, again = measured(stream)
    assert said(flat(again)) == expected
    assert (meter.finished, meter.usage) == (True, expected.usage)
    whole = assembled(GEMINI, batches)
    assert said(GEMINI.read_whole(whole)) == expected
    if "finish-2" in case.meta["tags"]:
        return  # its enums are numbers, which the client does not read from the provider either
    assert sdk_text(stream) == expected.text
    assert sdk_calls(stream) == [(name, value) for _, name, value in expected.calls]
    assert sum(event.candidates[0].finish_reason is not None for event in sdk_events(stream) if event.candidates) == 1


@pytest.mark.parametrize("case", GOOD)
def test_parts_that_nobody_changed_leave_a_body_as_it_was(case: Case) -> None:
    if case.stream or case.body.lstrip().startswith(b"["):
        return
    parts = GEMINI.read_whole(case.body)
    assert json.loads(assembled(GEMINI, [parts], base=case.body)) == json.loads(case.body)


@pytest.mark.parametrize("case", [*OPENAI_STREAMS, *ANTHROPIC_STREAMS])
def test_another_vendors_stream_is_read_by_geminis_clients(case: Case) -> None:
    dialect = ANTHROPIC if case.provider == "anthropic" else OPENAI
    batches = stream_parts(dialect, case.body)
    expected = said(flat(batches))
    stream = written(GEMINI, batches)
    meter, _, again = measured(stream)
    told = said(flat(again))
    assert (told.text, told.reasoning) == (expected.text + expected.refusal, expected.reasoning)
    assert [(name, value) for _, name, value in told.calls] == [
        (name, value if isinstance(value, dict) else {}) for _, name, value in expected.calls
    ]
    assert meter.finished
    if expected.usage is not None:
        assert told.usage == msgspec.structs.replace(expected.usage, cache_write_tokens=None)
    assert sdk_text(stream) == told.text
    assert sdk_calls(stream) == [(name, value) for _, name, value in told.calls]


@pytest.mark.parametrize("case", ASKED)
def test_a_request_is_read_and_written_and_means_the_same(case: Case) -> None:
    assert case.request is not None
    fields = GEMINI.place(read_fields(case.request), model="gemini-2.5-flash", stream=case.stream)
    request = GEMINI.read_request(fields)
    dropped: list[str] = []
    body = GEMINI.write_request(request, dropped)
    assert dropped == []
    adapted = GEMINI.adapt({key: encode(value) for key, value in body.items()}, model="m", stream=case.stream)
    assert not {"model", "stream"} & adapted.keys()
    again = GEMINI.place(read_fields(write_fields(adapted)), model="gemini-2.5-flash", stream=case.stream)
    back = GEMINI.read_request(again)
    assert msgspec.structs.replace(back, messages=()) == msgspec.structs.replace(request, messages=())
    content = [piece for message in request.messages for piece in message.content]
    assert [piece for message in back.messages for piece in message.content] == content


@pytest.mark.parametrize("case", ASKED)
def test_a_request_can_be_asked_of_another_vendor(case: Case) -> None:
    assert case.request is not None
    request = GEMINI.read_request(GEMINI.place(read_fields(case.request), model="m", stream=False))
    for dialect in (OPENAI, ANTHROPIC):
        dropped: list[str] = []
        body = dialect.write_request(msgspec.structs.replace(request, choices=None), dropped)
        asked = dialect.read_request(read_fields(msgspec.json.encode(body)))
        assert [tool.name for tool in asked.tools] == [tool.name for tool in request.tools]
        assert asked.max_tokens == (request.max_tokens or asked.max_tokens)
        assert set(request.extra) - {"tools"} <= set(dropped)
        texts = ["".join(one.text for one in turns.messages if one.role == "user") for turns in (asked, request)]
        assert texts[0] == texts[1]


@pytest.mark.parametrize("case", FAILED)
def test_an_error_is_told_with_its_status(case: Case) -> None:
    error = GEMINI.read_error(case.status, {}, case.body)
    assert error.provider_status == case.status
    if case.status in (400, 404, 429):
        assert error.status == case.status
        assert error.message[:40] in json.loads(case.body)["error"]["message"].replace("\n", " ")
    if case.status == 429:
        assert error.retry_after == 48


@pytest.mark.parametrize("case", parameters("gemini/", only=lambda case: case.stream and not case.good))
def test_an_error_without_a_frame_ends_the_stream(case: Case) -> None:
    with pytest.raises(ProviderError) as raised:
        measured(case.body)
    assert (raised.value.status, raised.value.code) == (503, "provider_overloaded")


@pytest.mark.parametrize("case", parameters("gemini/embeddings-", only=lambda case: case.status == 200))
def test_recorded_vectors_are_read(case: Case) -> None:
    batch = DIALECTS["gemini.batch_embed"]
    parts = batch.read_whole(case.body)
    assembler = DIALECTS["openai.embeddings"].assembler(ENVELOPE)
    assembler.add(parts)
    values = [one["values"] for one in json.loads(case.body)["embeddings"]]
    assert [one["embedding"] for one in json.loads(assembler.body())["data"]] == values


@pytest.mark.parametrize("case", parameters("gemini/count-"))
def test_a_recorded_count_costs_nothing(case: Case) -> None:
    count = DIALECTS["gemini.count_tokens"]
    meter = count.meter()
    meter.whole(case.body)
    assert meter.usage == Usage(0, 0)
    assert [getattr(part, "usage", None) for part in count.read_whole(case.body)][1] == Usage(12, 0)


def test_reading_is_of_the_event_and_not_of_the_moment() -> None:
    """A chunk that is kept and read later says what it said."""
    line = (
        b'data: {"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","args":{"a":1}}}]},"index":0}]}\r\n\r\n'
    )
    meter = GeminiMeter()
    readers = []
    for _ in range(3):
        meter.event(line)
        assert meter.reader is not None
        readers.append(meter.reader)
    blocks = [reader(line)[1] for reader in readers]
    assert len({getattr(part, "block", None) for part in blocks}) == 3
    told = said([part for reader in readers for part in reader(line)])
    assert told.calls == [(None, "f", {"a": 1})] * 3
    assert reread(OPENAI, [reader(line) for reader in readers])
