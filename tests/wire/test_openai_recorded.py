"""Every recorded reply of the providers that speak OpenAI's dialect, through the whole layer."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest
from msgspec.structs import replace
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletion, ChatCompletionChunk

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
)
from sidegate.errors import ProviderError
from sidegate.wire import sse
from sidegate.wire.body import encode, read_fields, write_fields
from sidegate.wire.dialect import Dialect, Envelope, Sign
from sidegate.wire.openai_chat.dialect import OpenAIChat
from sidegate.wire.openai_embeddings import OpenAIEmbeddings
from tests.wire.openai_saying import payloads, read, reported, said, split
from tests.wire.recordings import Case, parameters

PROVIDERS = ["openai", "groq", "mistral", "deepseek", "azure", "openrouter", "xai", "openai-compatible"]
CHAT = [f"{provider}/chat-" for provider in PROVIDERS]
EMBEDDINGS = [f"{provider}/embeddings-" for provider in PROVIDERS]

ENVELOPE = Envelope(id="call", model="asked", created=1)

chat: Dialect = OpenAIChat()
embeddings: Dialect = OpenAIEmbeddings()


def states_error(case: Case) -> bool:
    return "error-chunk" in case.meta["tags"]


STREAMS = parameters(*CHAT, only=lambda case: case.stream and not states_error(case))
WHOLES = parameters(*CHAT, only=lambda case: not case.stream and case.status == 200)


@pytest.mark.parametrize("case", STREAMS)
def test_a_stream_is_measured(case: Case) -> None:
    meter = chat.meter()
    events = split(case.body)
    signs = [meter.event(event) for event in events]
    assert signs[-1] is Sign.END
    assert meter.started
    assert meter.finished
    assert meter.finish is not None
    assert meter.model
    assert meter.id
    told = any(payload.get("usage") or (payload.get("x_groq") or {}).get("usage") for payload in payloads(case.body))
    assert (meter.usage is not None) == told
    assert meter.usage is None or meter.usage.known
    spoken = said(read(chat, case.body)).values()
    texts = [
        one["text"] + one["reasoning"] + one["refusal"] + "".join(call[2] for call in one["calls"]) for one in spoken
    ]
    assert meter.output_bytes == sum(len(text.encode()) for text in texts)


@pytest.mark.parametrize("case", STREAMS)
def test_signs_and_parts_agree(case: Case) -> None:
    meter = chat.meter()
    for event in split(case.body):
        sign = meter.event(event)
        parts = chat.read_event(event)
        content = any(isinstance(part, Text | Reasoning | ToolCall | RefusalText | Finish) for part in parts)
        assert content == (sign is Sign.CONTENT), event
        assert any(isinstance(part, End) for part in parts) == (sign is Sign.END)
        assert sign is not Sign.USAGE or any(isinstance(part, Report) for part in parts)


@pytest.mark.parametrize("case", STREAMS)
def test_any_cut_of_a_recorded_stream_gives_the_same_events(case: Case) -> None:
    whole = split(case.body)
    for step in (1, 7, 1000):
        splitter = sse.Splitter()
        found = [event for at in range(0, len(case.body), step) for event in splitter.feed(case.body[at : at + step])]
        rest = splitter.close()
        assert (found if rest is None else [*found, rest]) == whole
    if case.meta["byte_exact"]:
        assert b"".join(whole) == case.body.lstrip(b"\n")


def written_of(parts: Iterable[Part]) -> dict[int, dict[str, Any]]:
    """What is said once it is written: a call without arguments gives an empty object."""
    told = said(parts)
    for call in (call for choice in told.values() for call in choice["calls"]):
        call[2] = call[2] or "{}"
    return told


@pytest.mark.parametrize("case", STREAMS)
def test_a_stream_read_and_written_again_says_the_same(case: Case) -> None:
    parts = read(chat, case.body)
    encoder = chat.encoder(ENVELOPE)
    written = b"".join(encoder.encode(chat.read_event(event)) for event in split(case.body))
    again = read(chat, written)
    assert said(again) == written_of(parts)
    assert reported(again) == reported(parts)
    assert written.endswith(b"data: [DONE]\n\n")
    meter = chat.meter()
    for event in split(written):
        meter.event(event)
    assert meter.finished
    chunks = payloads(written)
    assert len({(chunk["id"], chunk["model"], chunk["created"]) for chunk in chunks}) == 1
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"


@pytest.mark.parametrize("case", STREAMS)
def test_tool_calls_are_written_from_index_0_without_gaps(case: Case) -> None:
    encoder = chat.encoder(ENVELOPE)
    written = b"".join(encoder.encode(chat.read_event(event)) for event in split(case.body))
    seen: dict[int, list[int]] = {}
    for chunk in payloads(written):
        for choice in chunk["choices"]:
            for call in choice["delta"].get("tool_calls", []):
                indexes = seen.setdefault(choice["index"], [])
                if call["index"] not in indexes:
                    assert call["id"]
                    assert call["function"]["name"]
                    indexes.append(call["index"])
    assert all(indexes == list(range(len(indexes))) for indexes in seen.values())


@pytest.mark.parametrize("case", STREAMS)
def test_a_stream_gathered_and_split_again_says_the_same(case: Case) -> None:
    parts = read(chat, case.body)
    assembler = chat.assembler(ENVELOPE)
    assembler.add(parts)
    body = assembler.body()
    again = chat.read_whole(body)
    assert said(again) == said(parts)
    assert reported(again) == reported(parts)
    meter = chat.meter()
    meter.whole(body)
    assert meter.usage == reported(parts)
    assert json.loads(body)["object"] == "chat.completion"


@pytest.mark.parametrize("case", STREAMS)
def test_the_vendors_own_client_reads_what_is_written(case: Case) -> None:
    encoder = chat.encoder(ENVELOPE)
    state = ChatCompletionStreamState()
    written = b"".join(encoder.encode(chat.read_event(event)) for event in split(case.body))
    for payload in payloads(written):
        state.handle_chunk(ChatCompletionChunk.model_validate(payload))
    expected = written_of(read(chat, case.body))
    for choice in state.current_completion_snapshot.choices:
        assert (choice.message.content or "") == expected[choice.index]["text"]
        calls = [[call.id, call.function.name, call.function.arguments] for call in choice.message.tool_calls or []]
        assert calls == expected[choice.index]["calls"]
    assembler = chat.assembler(ENVELOPE)
    assembler.add(read(chat, case.body))
    ChatCompletion.model_validate_json(assembler.body())


@pytest.mark.parametrize("case", WHOLES)
def test_a_whole_body_is_measured(case: Case) -> None:
    meter = chat.meter()
    meter.whole(case.body)
    body = json.loads(case.body)
    assert meter.finished
    assert meter.finish is not None
    assert (meter.model, meter.id) == (body["model"], body["id"])
    assert meter.usage is not None
    assert meter.usage.input_tokens == body["usage"]["prompt_tokens"]
    assert meter.usage.known
    assert meter.output_bytes > 0


@pytest.mark.parametrize("case", WHOLES)
def test_a_whole_body_split_and_gathered_says_the_same(case: Case) -> None:
    parts = chat.read_whole(case.body)
    assert isinstance(parts[0], Start)
    assert isinstance(parts[-1], End)
    encoder = chat.encoder(ENVELOPE)
    streamed = read(chat, encoder.encode(parts))
    if "legacy-function-call" in case.name:  # It has no id; one is made.
        parts = tuple(replace(part, id="call_call_0_0") if isinstance(part, ToolCall) else part for part in parts)
    assert said(streamed) == said(parts)
    assert reported(streamed) == reported(parts)
    assembler = chat.assembler(ENVELOPE)
    assembler.add(streamed)
    assert said(chat.read_whole(assembler.body())) == said(parts)


@pytest.mark.parametrize("case", WHOLES)
def test_a_body_that_nobody_changed_is_left_as_it_was(case: Case) -> None:
    assembler = chat.assembler(ENVELOPE)
    assembler.add(chat.read_whole(case.body))
    assert json.loads(assembler.body(case.body)) == json.loads(case.body)


@pytest.mark.parametrize("case", WHOLES)
def test_a_changed_text_is_the_only_thing_that_changes(case: Case) -> None:
    parts = [replace(part, text="***") if isinstance(part, Text) else part for part in chat.read_whole(case.body)]
    assembler = chat.assembler(ENVELOPE)
    assembler.add(parts)
    changed, before = json.loads(assembler.body(case.body)), json.loads(case.body)
    for one, other in zip(changed["choices"], before["choices"], strict=True):
        if other["message"].get("content"):
            assert one["message"]["content"] == "***"
            assert "logprobs" not in one
        other["message"]["content"] = one["message"]["content"]
        one.pop("logprobs", None)
        other.pop("logprobs", None)
    assert changed == before


@pytest.mark.parametrize("case", parameters(*CHAT, only=states_error))
def test_an_error_inside_a_stream_is_raised(case: Case) -> None:
    meter = chat.meter()
    events = split(case.body)
    failing = next(at for at, event in enumerate(events) if '"error"' in event.decode())
    for event in events[:failing]:
        meter.event(event)
    with pytest.raises(ProviderError) as raised:
        meter.event(events[failing])
    assert raised.value.status in (400, 429, 502, 503)


@pytest.mark.parametrize("case", parameters(*CHAT, *EMBEDDINGS, only=lambda case: case.status >= 400))
def test_an_error_reply_becomes_a_provider_error_in_the_dialect(case: Case) -> None:
    error = chat.read_error(case.status, case.meta["headers"], case.body)
    body = json.loads(chat.write_error(error, "r"))
    assert body["error"].keys() == {"message", "type", "param", "code"}
    assert error.provider_status == case.status
    [event] = split(chat.write_error_event(error, "r"))
    assert json.loads(sse.data(event) or b"") == body


@pytest.mark.parametrize("case", parameters(*CHAT, only=lambda case: case.request is not None))
def test_a_recorded_request_is_understood(case: Case) -> None:
    assert case.request is not None
    fields = read_fields(case.request)
    # Azure has the model in its URL.
    fields.setdefault("model", encode("deployment"))
    request = chat.read_request(fields)
    sent = json.loads(case.request)
    assert request.stream == bool(sent.get("stream"))
    assert len(request.tools) == len(sent.get("tools") or sent.get("functions") or [])
    again = chat.read_request(read_fields(write_fields(chat.write_request(request, []))))
    assert [message.text for message in again.messages] == [message.text for message in request.messages]
    assert (again.tools, again.max_tokens, again.stop) == (request.tools, request.max_tokens, request.stop)
    adapted = json.loads(write_fields(chat.adapt(fields, model="other", stream=request.stream)))
    kept = {name for name in sent if name not in ("model", "stream", "stream_options")}
    assert {name: adapted[name] for name in kept} == {name: sent[name] for name in kept}


@pytest.mark.parametrize("case", parameters(*EMBEDDINGS, only=lambda case: case.status == 200))
def test_recorded_embeddings_come_out_as_they_went_in(case: Case) -> None:
    meter = embeddings.meter()
    meter.whole(case.body)
    body = json.loads(case.body)
    assert meter.usage is not None
    assert (meter.usage.input_tokens, meter.usage.output_tokens) == (body["usage"]["prompt_tokens"], 0)
    parts = embeddings.read_whole(case.body)
    for encoding in ("base64", "float"):
        envelope = Envelope(id="call", model="asked", created=1, encoding_format=encoding)
        assembler = embeddings.assembler(envelope)
        assembler.add(parts)
        assert [part for part in embeddings.read_whole(assembler.body()) if part != parts[0]] == list(parts[1:])
    assembler = embeddings.assembler(Envelope(id="call", model="asked", created=1, encoding_format="base64"))
    assembler.add(parts)
    assert json.loads(assembler.body(case.body)) == body
    assert case.request is not None
    request = embeddings.read_request(read_fields(case.request))
    assert request.input
    assert embeddings.write_request(request, []) == json.loads(case.request)
