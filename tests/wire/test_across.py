"""Between dialects: what a provider said in one, a client reads in the other, streamed or whole."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import httpx2
import msgspec
import openai
import pytest
from hypothesis import given
from openai.lib.streaming.chat import ChatCompletionStreamState

from sidegate.contract.meaning import Comment, Part, Usage
from sidegate.wire.body import read_fields
from sidegate.wire.registry import DIALECTS
from tests.wire.anthropic_reading import check_order, replies, sdk_message
from tests.wire.recordings import Case, parameters
from tests.wire.saying import Said, assembled, flat, reread, said, stream_parts, written

OPENAI = DIALECTS["openai.chat"]
ANTHROPIC = DIALECTS["anthropic.messages"]

PROVIDERS = ("azure", "deepseek", "groq", "mistral", "openai", "openai-compatible", "openrouter", "xai")
OPENAI_STREAMS = parameters(*(f"{provider}/chat-stream" for provider in PROVIDERS), only=lambda case: case.good)
OPENAI_BODIES = parameters(*(f"{provider}/chat-json" for provider in PROVIDERS), only=lambda case: case.good)
OPENAI_ASKED = parameters(*(f"{provider}/chat-" for provider in PROVIDERS), only=lambda case: case.asked)
ANTHROPIC_STREAMS = parameters("anthropic/messages-stream", only=lambda case: case.good)
ANTHROPIC_BODIES = parameters("anthropic/messages-json", only=lambda case: case.good)
ANTHROPIC_ASKED = parameters("anthropic/messages-", only=lambda case: case.asked)

# Words that only one of the two has come back as the nearest ones.
TO_ANTHROPIC = {"content_filter": "refusal", "other": "stop", "error": None}
TO_OPENAI = {"refusal": "content_filter", "other": "stop"}


def test_the_dialects_are_found_by_name() -> None:
    openai = {f"openai.{name}" for name in ("chat", "completions", "embeddings", "responses")}
    assert set(DIALECTS) >= {*openai, "anthropic.messages"}
    assert all(name == dialect.name for name, dialect in DIALECTS.items())
    with pytest.raises(TypeError):
        DIALECTS["mine"] = OPENAI  # type: ignore[index]


def stream_of(case: Case) -> list[tuple[Part, ...]]:
    return stream_parts(ANTHROPIC if case.provider == "anthropic" else OPENAI, case.body)


def whole_of(case: Case) -> tuple[Part, ...]:
    return (ANTHROPIC if case.provider == "anthropic" else OPENAI).read_whole(case.body)


def as_anthropic(told: Said) -> Said:
    """What Anthropic's dialect can say of it: a refusal is text, audio tokens are not told."""
    usage = told.usage and msgspec.structs.replace(told.usage, audio_input_tokens=None, audio_output_tokens=None)
    finish = TO_ANTHROPIC.get(told.finish or "", told.finish)
    return Said(told.text + told.refusal, told.reasoning, "", told.calls, finish, usage or Usage(None, 0))


def as_openai(told: Said) -> Said:
    """What OpenAI's dialect can say of it: usage only where both sides are known."""
    usage = told.usage if told.usage is not None and told.usage.known else None
    return Said(told.text, told.reasoning, "", told.calls, TO_OPENAI.get(told.finish or "", told.finish), usage)


def same(told: Said, expected: Said) -> None:
    """Equal; what was never told and the dialect demands is made up: an output of 0, the id of a call."""
    if expected.usage is not None and expected.usage.output_tokens is None:
        expected.usage = msgspec.structs.replace(expected.usage, output_tokens=0)
    for index, (id, name, value) in enumerate(expected.calls):
        expected.calls[index] = (id or told.calls[index][0], name, value)
    assert told == expected


@pytest.mark.parametrize("case", OPENAI_STREAMS)
def test_an_openai_stream_is_read_by_anthropics_clients(case: Case) -> None:
    batches = stream_of(case)
    stream = written(ANTHROPIC, batches)
    check_order(stream)
    expected = as_anthropic(said(flat(batches)))
    same(said(flat(stream_parts(ANTHROPIC, stream))), expected)
    message = sdk_message(stream)
    blocks: list[Any] = list(message.content)
    assert "".join(block.text for block in blocks if block.type == "text") == expected.text
    calls = [(block.id, block.name, block.input) for block in blocks if block.type == "tool_use"]
    assert calls == expected.calls


@pytest.mark.parametrize("case", ANTHROPIC_STREAMS)
def test_an_anthropic_stream_is_read_by_openais_clients(case: Case) -> None:
    batches = stream_of(case)
    stream = written(OPENAI, batches)
    expected = as_openai(said(flat(batches)))
    same(said(flat(stream_parts(OPENAI, stream))), expected)
    message = openai_message(stream)
    assert (message.content or "") == expected.text
    calls = [call.model_dump() for call in message.tool_calls or []]
    assert [(call["id"], json.loads(call["function"]["arguments"])) for call in calls] == [
        (id, value) for id, _, value in expected.calls
    ]


@pytest.mark.parametrize("case", OPENAI_BODIES)
def test_an_openai_body_is_read_by_anthropics_clients(case: Case) -> None:
    parts = whole_of(case)
    body = assembled(ANTHROPIC, [parts])
    same(said(ANTHROPIC.read_whole(body)), as_anthropic(said(parts)))
    anthropic.types.Message.model_validate_json(body)


@pytest.mark.parametrize("case", ANTHROPIC_BODIES)
def test_an_anthropic_body_is_read_by_openais_clients(case: Case) -> None:
    parts = whole_of(case)
    body = assembled(OPENAI, [parts])
    same(said(OPENAI.read_whole(body)), as_openai(said(parts)))
    openai.types.chat.ChatCompletion.model_validate_json(body)


@pytest.mark.parametrize("case", [*OPENAI_STREAMS, *ANTHROPIC_STREAMS])
def test_a_stream_makes_the_same_whole_in_either_dialect(case: Case) -> None:
    batches = stream_of(case)
    same(said(ANTHROPIC.read_whole(assembled(ANTHROPIC, batches))), as_anthropic(said(flat(batches))))
    told = said(OPENAI.read_whole(assembled(OPENAI, batches)))
    told.text, told.refusal = told.text + told.refusal, ""
    expected = as_openai(said(flat(batches)))
    expected.text += said(flat(batches)).refusal
    assert told == expected


@pytest.mark.parametrize("case", [*OPENAI_BODIES, *ANTHROPIC_BODIES])
def test_a_body_makes_the_same_stream_in_either_dialect(case: Case) -> None:
    parts = whole_of(case)
    same(said(reread(ANTHROPIC, [parts])), as_anthropic(said(parts)))


@given(replies())
def test_any_reply_goes_over_and_comes_back(batches: list[list[Part]]) -> None:
    over = [part for part in reread(OPENAI, batches) if not isinstance(part, Comment)]
    back = reread(ANTHROPIC, [over])
    told, expected = said(back), said(flat(batches))
    assert sorted(map(str, told.calls)) == sorted(map(str, expected.calls))
    assert (told.text, told.reasoning) == (expected.text, expected.reasoning)
    assert told.usage == expected.usage


@pytest.mark.parametrize("case", ANTHROPIC_ASKED)
def test_a_request_to_anthropic_can_be_asked_of_openai(case: Case) -> None:
    assert case.request is not None
    request = ANTHROPIC.read_request(read_fields(case.request))
    dropped: list[str] = []
    asked = OPENAI.read_request(read_fields(msgspec.json.encode(OPENAI.write_request(request, dropped))))
    texts = [message.text for message in request.messages if message.text]
    assert [message.text for message in asked.messages if message.text] == texts
    assert (asked.model, asked.max_tokens, asked.tools) == (request.model, request.max_tokens, request.tools)
    assert set(request.extra) <= set(dropped)


@pytest.mark.parametrize("case", OPENAI_ASKED)
def test_a_request_to_openai_can_be_asked_of_anthropic(case: Case) -> None:
    assert case.request is not None
    # Azure has the model in its path.
    fields = {"model": msgspec.Raw(b'"m"'), **read_fields(case.request)}
    request = msgspec.structs.replace(OPENAI.read_request(fields), choices=None)
    dropped: list[str] = []
    body = ANTHROPIC.write_request(request, dropped)
    asked = ANTHROPIC.read_request(read_fields(msgspec.json.encode(body)))
    roles = [message["role"] for message in body["messages"]]
    assert all(role != later for role, later in zip(roles, roles[1:], strict=False))
    for role in ("user", "assistant", "system"):
        texts = ["".join(one.text for one in turns.messages if one.role == role) for turns in (asked, request)]
        assert texts[0] == texts[1]
    assert [tool.name for tool in asked.tools] == [tool.name for tool in request.tools]
    assert set(request.extra) <= set(dropped)


def openai_message(stream: bytes) -> openai.types.chat.ChatCompletionMessage:
    """The message as OpenAI's own client gathers it from the stream."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=stream)

    with (
        httpx2.Client(transport=httpx2.MockTransport(answer)) as http,
        openai.OpenAI(api_key="k", base_url="http://gateway", http_client=http) as client,
    ):
        state = ChatCompletionStreamState()
        for chunk in client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "Hi"}], stream=True
        ):
            state.handle_chunk(chunk)
        return state.current_completion_snapshot.choices[0].message
