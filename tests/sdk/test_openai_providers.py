"""OpenAI's own client before providers that speak its dialect, each with habits of its own."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam
from pydantic import BaseModel

from sidegate.testing import Exchange, Running
from tests.relaying import DONE, ROLE, STOP, USAGE, WHOLE, delta, event
from tests.sdk.conftest import OpenAIClient
from tests.sdk.ground import Ground
from tests.sdk.scripts import CALLS, TEXT, USED, anthropic_says, openai_says

HI: list[ChatCompletionMessageParam] = [{"role": "user", "content": "hi"}]
both = pytest.mark.parametrize("stream", [True, False], ids=["stream", "buffered"])


class Weather(BaseModel):
    """What the weather is."""

    city: str
    days: int


def test_text_beyond_ascii_and_parallel_tools_survive_any_cut(ground: Ground, openai_at: OpenAIClient) -> None:
    running, provider = ground.before(openai_says)
    ai = openai_at(running)
    with ai.chat.completions.stream(model="m", messages=HI, stream_options={"include_usage": True}) as stream:
        streamed: Any = stream.get_final_completion()
    whole: Any = ai.chat.completions.create(model="m", messages=HI)
    for reply in (streamed, whole):
        message = reply.choices[0].message
        assert message.content == TEXT
        assert [(c.id, c.function.name, c.function.arguments) for c in message.tool_calls] == list(CALLS)
        assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == USED
    assert provider.exchanges[0].headers["accept"].startswith("application/json")
    assert "x-stainless-helper-method" not in provider.exchanges[0].headers


def test_an_end_without_a_marker_is_clean(ground: Ground, openai_at: OpenAIClient) -> None:
    """As `transformers serve` ends: usage beside the finish reason, asked for or not, and no `[DONE]`."""
    used = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
    last = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "real-1", "usage": used}

    async def unmarked(exchange: Exchange) -> None:
        choice = {"index": 0, "delta": {}, "finish_reason": "length"}
        await exchange.stream(ROLE, delta(content="Hé"), event({**last, "choices": [choice]}))

    running, _ = ground.before(unmarked)
    raw = openai_at(running).chat.completions.with_raw_response.create(model="m", messages=HI, stream=True)
    chunks = list(raw.parse())
    assert chunks[-1].choices[0].finish_reason == "length"
    record = ground.record(running, raw.headers["x-request-id"])
    assert (record["ending"], record["input_tokens"], record["output_tokens"]) == ("complete", 7, 2)


@both
def test_a_provider_that_answers_the_other_way_is_understood(
    ground: Ground, openai_at: OpenAIClient, stream: bool
) -> None:
    """Asked for a stream it sends a whole body, and the other way round."""

    async def contrary(exchange: Exchange) -> None:
        if exchange.json.get("stream"):
            await exchange.reply(WHOLE)
        else:
            await exchange.stream(ROLE, delta(content="H"), delta(content="é"), STOP, USAGE, DONE)

    running, _ = ground.before(contrary)
    ai = openai_at(running)
    if stream:
        chunks = ai.chat.completions.create(model="m", messages=HI, stream=True)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    else:
        text = ai.chat.completions.create(model="m", messages=HI).choices[0].message.content or ""
    assert text == "Hé"


@both
def test_an_error_inside_a_success_has_its_class(ground: Ground, openai_at: OpenAIClient, stream: bool) -> None:
    async def failing(exchange: Exchange) -> None:
        body = {"error": {"message": "Slow down.", "code": 429, "metadata": {"provider_name": "x"}}}
        if stream:
            await exchange.stream(ROLE, event(body))
        else:
            await exchange.reply(json.dumps(body).encode())

    running, _ = ground.before(failing)
    with pytest.raises(openai.RateLimitError, match="Slow down"):
        openai_at(running).chat.completions.create(model="m", messages=HI, stream=stream)


@both
def test_the_clients_retries_do_not_multiply_the_gateways(
    ground: Ground, openai_at: OpenAIClient, stream: bool
) -> None:
    async def fails(exchange: Exchange) -> None:
        await exchange.reply(b"{}", 500)

    running, provider = ground.before(fails)
    with pytest.raises(openai.InternalServerError) as caught:
        openai_at(running, max_retries=2).chat.completions.create(model="m", messages=HI, stream=stream)
    attempts = ground.record(running, caught.value.request_id or "")["attempts"]
    assert len(attempts) == len(provider.exchanges) == 2


@both
@pytest.mark.parametrize(
    ("status", "error"),
    [(429, {"message": "No credit.", "type": "insufficient_quota", "code": "insufficient_quota"}), (401, {})],
    ids=["no credit", "the gateway's key is wrong"],
)
def test_the_client_does_not_repeat_what_cannot_help(
    ground: Ground, openai_at: OpenAIClient, status: int, error: dict[str, str], stream: bool
) -> None:
    async def refuses(exchange: Exchange) -> None:
        await exchange.reply(json.dumps({"error": error}).encode(), status)

    running, provider = ground.before(refuses)
    with pytest.raises(openai.APIStatusError):
        openai_at(running, max_retries=2).chat.completions.create(model="m", messages=HI, stream=stream)
    assert len(provider.exchanges) == 1


def test_tools_of_a_model_class_are_parsed(demo: Running, openai_at: OpenAIClient) -> None:
    reply = openai_at(demo).chat.completions.parse(
        model="demo", messages=HI, tools=[openai.pydantic_function_tool(Weather, name="weather")]
    )
    (call,) = list(reply.choices[0].message.tool_calls or [])
    assert isinstance(call.function.parsed_arguments, Weather)


def test_lines_of_a_stream_can_be_read_raw(ground: Ground, openai_at: OpenAIClient) -> None:
    running, _ = ground.before(openai_says)
    with openai_at(running).chat.completions.with_streaming_response.create(
        model="m", messages=HI, stream=True
    ) as response:
        lines = [line for line in response.iter_lines() if line]
        assert response.headers["cache-control"].startswith("no-")
    assert lines[-1] == "data: [DONE]"
    assert all(line.startswith("data: ") for line in lines)


@both
def test_a_legacy_completion_is_asked_of_a_chat_provider(ground: Ground, openai_at: OpenAIClient, stream: bool) -> None:
    running, provider = ground.before(anthropic_says, "anthropic")
    asked: dict[str, Any] = {"model": "m", "prompt": "Once upon", "max_tokens": 5}
    given: Any = openai_at(running).completions.create(**asked, stream=stream)
    text = "".join(chunk.choices[0].text for chunk in (given if stream else [given]) if chunk.choices)
    assert text == TEXT
    assert provider.exchanges[0].json["messages"] == [{"role": "user", "content": "Once upon"}]


@pytest.mark.parametrize("vector", [[0.5, -0.25], "AAAAPwAAgL4="], ids=["floats", "base64"])
def test_embeddings_of_a_provider_are_read_in_either_form(
    ground: Ground, openai_at: OpenAIClient, vector: list[float] | str
) -> None:
    async def embeds(exchange: Exchange) -> None:
        item = {"object": "embedding", "index": 0, "embedding": vector}
        used = {"prompt_tokens": 3, "total_tokens": 3}
        await exchange.reply(json.dumps({"object": "list", "model": "real-1", "data": [item], "usage": used}).encode())

    running, provider = ground.before(embeds)
    reply = openai_at(running).embeddings.create(model="m", input="x")
    assert list(reply.data[0].embedding) == [0.5, -0.25]
    assert provider.exchanges[0].path == "/embeddings"
    assert provider.exchanges[0].json["encoding_format"] == "base64"
