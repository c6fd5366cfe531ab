"""Anthropic's own client, blocking and async, before the demo provider and a scripted Anthropic provider."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import pytest
from anthropic.types import MessageParam, ToolParam
from pydantic import BaseModel

from sidegate.testing import Exchange, Running
from tests.sdk.conftest import AnthropicClient, OpenAIClient
from tests.sdk.ground import Ground
from tests.sdk.scripts import CALLS, TEXT, USED, anthropic_says, anthropic_whole

QUESTION: list[MessageParam] = [{"role": "user", "content": "Où est le café? ☕"}]
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string", "minLength": 4}, "days": {"type": "integer", "minimum": 2}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
WEATHER: ToolParam = {"name": "weather", "input_schema": CITY}


class City(BaseModel):
    city: str
    population: int


def test_a_stream_says_what_the_whole_message_says(demo: Running, anthropic_at: AnthropicClient) -> None:
    ai = anthropic_at(demo)
    whole = ai.messages.create(model="demo", max_tokens=500, messages=QUESTION)
    events = list(ai.messages.create(model="demo", max_tokens=500, messages=QUESTION, stream=True))
    text = "".join(e.delta.text for e in events if e.type == "content_block_delta" and e.delta.type == "text_delta")
    (block,) = whole.content
    assert block.type == "text"
    assert text == block.text
    assert "Où est le café? ☕" in text
    assert (events[0].type, events[-1].type) == ("message_start", "message_stop")
    (closing,) = [event for event in events if event.type == "message_delta"]
    assert closing.delta.stop_reason == whole.stop_reason == "end_turn"
    assert closing.usage.output_tokens == whole.usage.output_tokens


def test_the_stream_helper_gathers_text(demo: Running, anthropic_at: AnthropicClient) -> None:
    with anthropic_at(demo).messages.stream(model="demo", max_tokens=500, messages=QUESTION) as stream:
        shown = "".join(stream.text_stream)
        message = stream.get_final_message()
        request_id = stream.request_id
    assert [block.text for block in message.content if block.type == "text"] == [shown]
    assert message.usage.output_tokens > 20
    assert len(request_id or "") == 32


def test_a_tool_is_used_with_input_of_its_schema_and_its_result_is_heard(
    demo: Running, anthropic_at: AnthropicClient
) -> None:
    ai = anthropic_at(demo)
    first = ai.messages.create(model="demo", max_tokens=500, messages=QUESTION, tools=[WEATHER])
    assert first.stop_reason == "tool_use"
    (used,) = [block for block in first.content if block.type == "tool_use"]
    assert used.name == "weather"
    assert used.input.keys() == {"city", "days"}
    assert len(str(used.input["city"])) >= 4
    history: list[MessageParam] = [
        *QUESTION,
        {"role": "assistant", "content": first.content},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": used.id, "content": "18° and sunny"}]},
    ]
    second = ai.messages.create(model="demo", max_tokens=500, messages=history, tools=[WEATHER])
    assert "18° and sunny" in "".join(block.text for block in second.content if block.type == "text")


def test_the_clients_own_loop_of_tool_calls_ends(demo: Running) -> None:
    asked: list[str] = []

    @anthropic.beta_tool
    def weather(city: str) -> str:
        """What the weather is in a city."""
        asked.append(city)
        return "18° and sunny"

    with anthropic.Anthropic(base_url=demo.url, api_key="k", max_retries=0) as ai:
        last = ai.beta.messages.tool_runner(
            model="demo", max_tokens=500, tools=[weather], messages=[{"role": "user", "content": "Où?"}]
        ).until_done()
    assert len(asked) == 1
    assert last.stop_reason == "end_turn"
    assert "18° and sunny" in str(last.content)


def test_structured_output_is_parsed_streamed_and_buffered(demo: Running, anthropic_at: AnthropicClient) -> None:
    ai = anthropic_at(demo)
    parsed = ai.messages.parse(model="demo", max_tokens=500, messages=QUESTION, output_format=City).parsed_output
    with ai.messages.stream(model="demo", max_tokens=500, messages=QUESTION, output_format=City) as stream:
        streamed = stream.get_final_message().parsed_output
    assert isinstance(parsed, City)
    assert streamed == parsed


def test_output_config_asks_for_a_schema(demo: Running, anthropic_at: AnthropicClient) -> None:
    reply = anthropic_at(demo).messages.create(
        model="demo",
        max_tokens=500,
        messages=QUESTION,
        output_config={"format": {"type": "json_schema", "schema": CITY}},
    )
    (block,) = reply.content
    assert block.type == "text"
    assert json.loads(block.text).keys() == {"city", "days"}


def test_thinking_comes_signed_before_the_text(demo: Running, anthropic_at: AnthropicClient) -> None:
    with anthropic_at(demo).messages.stream(
        model="demo", max_tokens=3000, thinking={"type": "enabled", "budget_tokens": 1024}, messages=QUESTION
    ) as stream:
        thinking, text = stream.get_final_message().content
    assert thinking.type == "thinking"
    assert thinking.signature == "demo"
    assert thinking.thinking
    assert text.type == "text"


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "buffered"])
def test_text_and_parallel_tools_arrive_whole(ground: Ground, anthropic_at: AnthropicClient, stream: bool) -> None:
    running, _ = ground.before(anthropic_says, "anthropic")
    ai = anthropic_at(running)
    if stream:
        with ai.messages.stream(model="m", max_tokens=50, messages=QUESTION) as events:
            inputs = [event.partial_json for event in events if event.type == "input_json"]
            message: Any = events.get_final_message()
            request_id = events.request_id
        assert "".join(inputs) == "".join(arguments for _, _, arguments in CALLS)
    else:
        message = ai.messages.create(model="m", max_tokens=50, messages=QUESTION)
        request_id = message._request_id
    text, *tools = message.content
    assert text.text == TEXT
    assert [(tool.id, tool.name, tool.input) for tool in tools] == [(i, n, json.loads(a)) for i, n, a in CALLS]
    assert (message.usage.input_tokens, message.usage.output_tokens) == USED
    assert message.stop_reason == "tool_use"
    record = ground.record(running, request_id or "")
    assert (record["input_tokens"], record["output_tokens"], record["estimated"]) == (*USED, False)


def test_the_clients_bearer_key_and_version_are_understood(ground: Ground, anthropic_at: AnthropicClient) -> None:
    """The key comes as a bearer token since 2.0 and is not passed on; the API version is, unchanged."""
    running, provider = ground.before(anthropic_says, "anthropic")
    ai = anthropic_at(running)
    raw = ai.messages.with_raw_response.create(
        model="m",
        max_tokens=50,
        messages=QUESTION,
        extra_headers={"anthropic-beta": "a-beta-2026"},
        extra_body={"temperature": 0.5},
    )
    asked = raw.http_request.headers
    assert asked["authorization"] == "Bearer client-key"
    assert asked["anthropic-version"] == "2026-10-21"
    sent = provider.exchanges[0]
    assert "authorization" not in sent.headers
    assert sent.headers["x-api-key"] == "sk-upstream-secret"
    assert sent.headers["anthropic-version"] == "2026-10-21"
    assert sent.headers["anthropic-beta"] == "a-beta-2026"
    assert not [name for name in sent.headers if name.startswith("x-stainless")]
    assert sent.json["temperature"] == 0.5
    assert sent.path == "/v1/messages"


def test_the_beta_client_is_served_too(ground: Ground, anthropic_at: AnthropicClient) -> None:
    running, provider = ground.before(anthropic_says, "anthropic")
    message = anthropic_at(running).beta.messages.create(
        model="m", max_tokens=50, messages=[{"role": "user", "content": "hi"}], betas=["some-beta-2026"]
    )
    assert message.content[0].type == "text"
    assert provider.exchanges[0].headers["anthropic-beta"] == "some-beta-2026"


def test_each_vendor_is_answered_about_models_in_its_own_words(
    demo: Running, anthropic_at: AnthropicClient, openai_at: OpenAIClient
) -> None:
    ai = anthropic_at(demo)
    listed = ai.models.list()
    assert [(model.id, model.type) for model in listed.data] == [("demo", "model")]
    assert listed.has_more is False
    assert [model.id for model in listed] == ["demo"]
    one = ai.models.retrieve("demo-echo")
    assert (one.id, one.display_name) == ("demo-echo", "demo-echo")
    assert one.created_at.year >= 2026
    with pytest.raises(anthropic.NotFoundError) as caught:
        ai.models.retrieve("nobody")
    assert caught.value.type == "not_found_error"
    assert [(model.id, model.object) for model in openai_at(demo).models.list()] == [("demo", "model")]


def test_the_request_id_is_the_calls(ground: Ground, anthropic_at: AnthropicClient) -> None:
    async def whole(exchange: Exchange) -> None:
        await exchange.reply(json.dumps(anthropic_whole()).encode(), Request_Id="req_theirs")

    running, _ = ground.before(whole, "anthropic")
    raw = anthropic_at(running).messages.with_raw_response.create(model="m", max_tokens=50, messages=QUESTION)
    message = raw.parse()
    assert message._request_id == raw.headers["request-id"] == raw.headers["x-request-id"]
    assert ground.record(running, message._request_id or "")["ending"] == "complete"
    assert raw.headers["content-type"] == "application/json"
    assert raw.headers["server"].startswith("sidegate/")
