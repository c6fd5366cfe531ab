"""Each vendor's own client before a provider of the other vendor: what was said, used and refused stays the same."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from sidegate.testing import Exchange
from tests.relaying import ROLE, delta
from tests.sdk.conftest import AnthropicClient, OpenAIClient
from tests.sdk.ground import Ground
from tests.sdk.scripts import CALLS, TEXT, USED, anthropic_events, anthropic_says, named, openai_says

both = pytest.mark.parametrize("stream", [True, False], ids=["stream", "buffered"])

TURNS: list[ChatCompletionMessageParam] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Où?"},
    {
        "role": "assistant",
        "content": "Let me see.",
        "tool_calls": [
            {"id": "t1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}},
            {"id": "t2", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rom"}'}},
        ],
    },
    {"role": "tool", "tool_call_id": "t1", "content": "2°"},
    {"role": "tool", "tool_call_id": "t2", "content": "22°"},
]
SCHEMA: dict[str, object] = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


@both
def test_openais_client_hears_claude(ground: Ground, openai_at: OpenAIClient, stream: bool) -> None:
    """The helper demands indexes of tool calls from 0 without gaps, though Anthropic counts its text block too."""
    running, provider = ground.before(anthropic_says, "anthropic")
    ai = openai_at(running)
    asked: dict[str, Any] = {
        "model": "m",
        "messages": TURNS,
        "tools": [{"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}],
        "temperature": 0.3,
    }
    if stream:
        with ai.chat.completions.stream(**asked, stream_options={"include_usage": True}) as events:
            reply: Any = events.get_final_completion()
    else:
        reply = ai.chat.completions.create(**asked)
    message = reply.choices[0].message
    assert message.content == TEXT
    said = [(call.id, call.function.name, json.loads(call.function.arguments)) for call in message.tool_calls]
    assert said == [(call_id, name, json.loads(arguments)) for call_id, name, arguments in CALLS]
    assert reply.choices[0].finish_reason == "tool_calls"
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == USED
    sent = provider.exchanges[0]
    assert sent.headers["anthropic-version"] == "2023-06-01"
    assert sent.json["system"] == "Be brief."
    assert [turn["role"] for turn in sent.json["messages"]] == ["user", "assistant", "user"]
    results = sent.json["messages"][2]["content"]
    assert [(block["type"], block["tool_use_id"]) for block in results] == [
        ("tool_result", "t1"),
        ("tool_result", "t2"),
    ]
    assert sent.json["temperature"] == 0.3


@both
def test_anthropics_client_hears_gpt(ground: Ground, anthropic_at: AnthropicClient, stream: bool) -> None:
    running, provider = ground.before(openai_says)
    ai = anthropic_at(running)
    asked: dict[str, Any] = {
        "model": "m",
        "max_tokens": 50,
        "system": "Be brief.",
        "messages": [
            {"role": "user", "content": "Où?"},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "weather", "input": {"x": 1}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "2°"}]},
        ],
        "tools": [{"name": "weather", "input_schema": SCHEMA}],
    }
    if stream:
        with ai.messages.stream(**asked) as events:
            reply: Any = events.get_final_message()
    else:
        reply = ai.messages.create(**asked)
    text, *tools = reply.content
    assert text.text == TEXT
    assert [(tool.id, tool.name, tool.input) for tool in tools] == [(i, n, json.loads(a)) for i, n, a in CALLS]
    assert reply.stop_reason == "tool_use"
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == USED
    sent = provider.exchanges[0].json
    assert [turn["role"] for turn in sent["messages"]] == ["system", "user", "assistant", "tool"]
    assert json.loads(sent["messages"][2]["tool_calls"][0]["function"]["arguments"]) == {"x": 1}
    assert sent["messages"][3] == {"role": "tool", "tool_call_id": "t1", "content": "2°"}


@both
def test_an_error_of_the_other_vendor_keeps_its_class(
    ground: Ground, openai_at: OpenAIClient, anthropic_at: AnthropicClient, stream: bool
) -> None:
    async def claude_refuses(exchange: Exchange) -> None:
        body = {"type": "error", "error": {"type": "rate_limit_error", "message": "Too many tokens."}}
        await exchange.reply(json.dumps(body).encode(), 429, Retry_After="19")

    async def gpt_refuses(exchange: Exchange) -> None:
        body = {"error": {"message": "Too long.", "type": "invalid_request_error", "code": "context_length_exceeded"}}
        await exchange.reply(json.dumps(body).encode(), 400)

    claude, _ = ground.before(claude_refuses, "anthropic")
    gpt, _ = ground.before(gpt_refuses)
    with pytest.raises(openai.RateLimitError, match="Too many tokens") as limited:
        openai_at(claude).chat.completions.create(model="m", messages=TURNS, stream=stream)
    assert limited.value.response.headers["retry-after"] == "19"
    with pytest.raises(anthropic.BadRequestError, match="Too long"):
        anthropic_at(gpt).messages.create(
            model="m", max_tokens=5, messages=[{"role": "user", "content": "x"}], stream=stream
        )


def test_a_broken_stream_of_the_other_vendor_is_an_error(
    ground: Ground, openai_at: OpenAIClient, anthropic_at: AnthropicClient
) -> None:
    async def claude_breaks(exchange: Exchange) -> None:
        error = named("error", error={"type": "overloaded_error", "message": "Overloaded"})
        await exchange.stream(*anthropic_events()[:5], error)

    async def gpt_breaks(exchange: Exchange) -> None:
        await exchange.stream(ROLE, delta(content="Half a "))

    claude, _ = ground.before(claude_breaks, "anthropic")
    gpt, _ = ground.before(gpt_breaks)
    chunks = openai_at(claude).chat.completions.create(model="m", messages=TURNS, stream=True)
    with pytest.raises(openai.APIError) as broken:
        list(chunks)
    assert broken.value.code == "provider_overloaded"
    with anthropic_at(gpt).messages.stream(
        model="m", max_tokens=5, messages=[{"role": "user", "content": "x"}]
    ) as stream:
        with pytest.raises(anthropic.APIStatusError) as cut:
            stream.until_done()
    assert cut.value.type == "api_error"


def test_a_schema_is_asked_of_the_other_vendor(
    ground: Ground, openai_at: OpenAIClient, anthropic_at: AnthropicClient
) -> None:
    claude, of_claude = ground.before(anthropic_says, "anthropic")
    gpt, of_gpt = ground.before(openai_says)
    openai_at(claude).chat.completions.create(
        model="m",
        messages=TURNS,
        response_format={"type": "json_schema", "json_schema": {"name": "city", "schema": SCHEMA, "strict": True}},
    )
    anthropic_at(gpt).messages.create(
        model="m",
        max_tokens=5,
        messages=[{"role": "user", "content": "x"}],
        output_config={"format": {"type": "json_schema", "schema": SCHEMA}},
    )
    assert of_claude.exchanges[0].json["output_config"]["format"] == {"type": "json_schema", "schema": SCHEMA}
    assert of_gpt.exchanges[0].json["response_format"]["json_schema"]["schema"] == SCHEMA


def test_what_the_other_vendor_does_not_have_is_named_or_refused(ground: Ground, openai_at: OpenAIClient) -> None:
    running, _ = ground.before(anthropic_says, "anthropic")
    ai = openai_at(running)
    raw = ai.chat.completions.with_raw_response.create(
        model="m", messages=TURNS, seed=3, frequency_penalty=0.5, logprobs=True
    )
    assert raw.headers["x-sidegate-dropped"] == "frequency_penalty, logprobs, seed"
    with pytest.raises(openai.BadRequestError) as caught:
        ai.chat.completions.create(model="m", messages=TURNS, n=2)
    assert caught.value.param == "n"
    with pytest.raises(openai.BadRequestError):
        ai.embeddings.create(model="m", input="x")


def test_a_stream_closed_early_closes_the_other_vendors_connection(ground: Ground, openai_at: OpenAIClient) -> None:
    async def endless(exchange: Exchange) -> None:
        await exchange.head(Transfer_Encoding="chunked")
        await exchange.chunk(b"".join(anthropic_events()[:5]))
        await exchange.closed.wait()

    running, provider = ground.before(endless, "anthropic")
    raw = openai_at(running).chat.completions.with_raw_response.create(model="m", messages=TURNS, stream=True)
    with raw.parse() as stream:
        next(iter(stream))
    ground.left(provider.exchanges[0])
    assert ground.record(running, raw.headers["x-request-id"])["ending"] == "client_gone"
