"""The demo provider behind a real gateway: what a client's own library makes of it."""

from __future__ import annotations

import base64
import json
import struct

import openai
import pytest
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam

from sidegate.testing import Running, demo_config, gateway

QUESTION: list[ChatCompletionMessageParam] = [{"role": "user", "content": "What is the capital of France?"}]
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOL: ChatCompletionToolParam = {"type": "function", "function": {"name": "weather", "parameters": CITY}}


def client(running: Running) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{running.url}/v1", api_key="none", max_retries=0)


async def test_a_chat_is_the_same_streamed_and_buffered() -> None:
    async with gateway(demo_config()) as running, client(running) as ai:
        whole = await ai.chat.completions.create(model="demo", messages=QUESTION)
        stream = await ai.chat.completions.create(
            model="demo", messages=QUESTION, stream=True, stream_options={"include_usage": True}
        )
        events = [event async for event in stream]
    text = "".join(event.choices[0].delta.content or "" for event in events if event.choices)
    assert whole.choices[0].message.content == text
    assert "café" in text
    assert whole.choices[0].finish_reason == "stop"
    assert whole.usage is not None
    assert events[-1].usage == whole.usage
    assert whole.usage.prompt_tokens == 7


async def test_a_tool_is_called_and_its_result_answered() -> None:
    async with gateway(demo_config()) as running, client(running) as ai:
        first = await ai.chat.completions.create(model="demo", messages=QUESTION, tools=[TOOL])
        call = (first.choices[0].message.tool_calls or [])[0]
        assert call.type == "function"
        assert json.loads(call.function.arguments) == {"city": "demo city"}
        assert first.choices[0].finish_reason == "tool_calls"
        history: list[ChatCompletionMessageParam] = [
            *QUESTION,
            {
                "role": "assistant",
                "tool_calls": [
                    {
                        "id": call.id,
                        "type": "function",
                        "function": {"name": "weather", "arguments": call.function.arguments},
                    }
                ],
            },
            {"role": "tool", "tool_call_id": call.id, "content": "18 degrees"},
        ]
        second = await ai.chat.completions.create(model="demo", messages=history, tools=[TOOL])
    assert "18 degrees" in (second.choices[0].message.content or "")


async def test_choices_and_a_schema_come_whole() -> None:
    async with gateway(demo_config()) as running, client(running) as ai:
        reply = await ai.chat.completions.create(
            model="demo",
            messages=QUESTION,
            n=2,
            response_format={"type": "json_schema", "json_schema": {"name": "city", "schema": CITY, "strict": True}},
        )
    assert [json.loads(choice.message.content or "") for choice in reply.choices] == [{"city": "demo city"}] * 2


async def test_embeddings_say_the_same_in_both_encodings() -> None:
    async with gateway(demo_config()) as running, client(running) as ai:
        plain = await ai.embeddings.create(model="demo", input=["hello there", "other"], encoding_format="float")
        coded = await ai.embeddings.with_raw_response.create(
            model="demo", input=["hello there", "other"], encoding_format="base64", dimensions=256
        )
    body = json.loads(coded.text)
    for one, other in zip(plain.data, body["data"], strict=True):
        assert one.embedding == list(struct.unpack("<256f", base64.b64decode(other["embedding"])))
    assert plain.usage.prompt_tokens == 3


async def test_an_anthropic_client_gets_thinking_text_and_usage() -> None:
    async with gateway(demo_config()) as running:
        async with AsyncAnthropic(base_url=running.url, api_key="none", max_retries=0) as ai:
            async with ai.messages.stream(
                model="demo",
                max_tokens=2000,
                thinking={"type": "enabled", "budget_tokens": 1024},
                messages=[{"role": "user", "content": "Hello there"}],
            ) as stream:
                message = await stream.get_final_message()
    assert [block.type for block in message.content] == ["thinking", "text"]
    assert message.stop_reason == "end_turn"
    assert message.usage.input_tokens == 2
    assert message.usage.output_tokens > 30


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("model", "status"), [("demo-fail", 502), ("demo-overloaded", 503)])
async def test_a_failure_reaches_the_client_with_its_status(model: str, status: int, stream: bool) -> None:
    async with gateway(demo_config()) as running, client(running) as ai:
        with pytest.raises(openai.APIStatusError) as caught:
            await ai.chat.completions.create(model=model, messages=QUESTION, stream=stream)
    assert caught.value.status_code == status


async def test_a_cut_is_not_a_clean_end() -> None:
    async with gateway(demo_config()) as running, client(running) as ai:
        stream = await ai.chat.completions.create(model="demo-cut", messages=QUESTION, stream=True)
        said: list[str] = []

        async def read() -> None:
            async for event in stream:
                said.append(event.choices[0].delta.content or "")

        with pytest.raises(openai.APIError):
            await read()
    assert "".join(said).startswith("Happy to help!")


async def test_usage_is_told_on_a_stream_only_to_whom_asked() -> None:
    async with gateway(demo_config()) as running, client(running) as ai:
        stream = await ai.chat.completions.create(model="demo", messages=QUESTION, stream=True)
        events = [event async for event in stream]
    assert all(event.usage is None and event.choices for event in events)
