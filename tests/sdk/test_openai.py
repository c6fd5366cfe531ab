"""OpenAI's own client, blocking and async, before the demo provider: what it makes of each operation."""

from __future__ import annotations

import asyncio
import json
import math

import openai
import pytest
from openai.types.chat import (
    ChatCompletion,
    ChatCompletionMessageFunctionToolCall,
    ChatCompletionMessageParam,
    ChatCompletionToolParam,
)
from pydantic import BaseModel

from sidegate.testing import Running
from tests.sdk.conftest import OpenAIClient

QUESTION: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Où est le café? ☕"}]
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string", "minLength": 4}, "days": {"type": "integer", "minimum": 2}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
WEATHER: ChatCompletionToolParam = {"type": "function", "function": {"name": "weather", "parameters": CITY}}


class City(BaseModel):
    city: str
    population: int


def called(reply: ChatCompletion) -> ChatCompletionMessageFunctionToolCall:
    """The one tool that the reply calls."""
    calls = reply.choices[0].message.tool_calls or []
    assert len(calls) == 1
    assert calls[0].type == "function"
    return calls[0]


def test_a_stream_says_what_the_whole_reply_says(demo: Running, openai_at: OpenAIClient) -> None:
    ai = openai_at(demo)
    whole = ai.chat.completions.create(model="demo", messages=QUESTION)
    chunks = list(
        ai.chat.completions.create(model="demo", messages=QUESTION, stream=True, stream_options={"include_usage": True})
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert "Où est le café? ☕" in text
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == whole.choices[0].finish_reason == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk.id for chunk in chunks}) == 1


def test_usage_comes_only_to_a_stream_that_asked(demo: Running, openai_at: OpenAIClient) -> None:
    chunks = list(openai_at(demo).chat.completions.create(model="demo", messages=QUESTION, stream=True))
    assert all(chunk.usage is None and len(chunk.choices) == 1 for chunk in chunks)


def test_the_stream_helper_gathers_the_text_it_showed(demo: Running, openai_at: OpenAIClient) -> None:
    with openai_at(demo).chat.completions.stream(model="demo", messages=QUESTION) as stream:
        shown = "".join(event.delta for event in stream if event.type == "content.delta")
        final = stream.get_final_completion()
    assert shown == final.choices[0].message.content
    assert final.choices[0].finish_reason == "stop"


def test_the_stream_helper_sees_a_reply_that_was_cut_by_its_limit(demo: Running, openai_at: OpenAIClient) -> None:
    ai = openai_at(demo)
    with ai.chat.completions.stream(model="demo", messages=QUESTION, max_tokens=3, response_format=City) as stream:
        with pytest.raises(openai.LengthFinishReasonError):
            stream.until_done()


def test_a_tool_is_called_with_arguments_of_its_schema_and_its_result_is_heard(
    demo: Running, openai_at: OpenAIClient
) -> None:
    ai = openai_at(demo)
    first = ai.chat.completions.create(model="demo", messages=QUESTION, tools=[WEATHER])
    assert first.choices[0].finish_reason == "tool_calls"
    call = called(first)
    assert call.function.name == "weather"
    arguments = json.loads(call.function.arguments)
    assert arguments.keys() == {"city", "days"}
    assert len(arguments["city"]) >= 4
    assert arguments["days"] >= 2
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
        {"role": "tool", "tool_call_id": call.id, "content": "18° and sunny"},
    ]
    second = ai.chat.completions.create(model="demo", messages=history, tools=[WEATHER])
    assert "18° and sunny" in (second.choices[0].message.content or "")


def test_a_streamed_tool_call_is_the_buffered_one(demo: Running, openai_at: OpenAIClient) -> None:
    ai = openai_at(demo)
    whole = ai.chat.completions.create(model="demo", messages=QUESTION, tools=[WEATHER])
    with ai.chat.completions.stream(model="demo", messages=QUESTION, tools=[WEATHER]) as stream:
        final = stream.get_final_completion()
    buffered, streamed = called(whole), called(final)
    assert streamed.function.arguments == buffered.function.arguments
    assert streamed.function.name == "weather"
    assert streamed.id
    assert final.choices[0].finish_reason == "tool_calls"


def test_structured_output_is_parsed_streamed_and_buffered(demo: Running, openai_at: OpenAIClient) -> None:
    ai = openai_at(demo)
    parsed = ai.chat.completions.parse(model="demo", messages=QUESTION, response_format=City).choices[0].message.parsed
    with ai.chat.completions.stream(model="demo", messages=QUESTION, response_format=City) as stream:
        streamed = stream.get_final_completion().choices[0].message.parsed
    assert isinstance(parsed, City)
    assert streamed == parsed


def test_choices_are_told_apart(demo: Running, openai_at: OpenAIClient) -> None:
    ai = openai_at(demo)
    whole = ai.chat.completions.create(model="demo", messages=QUESTION, n=2)
    said = ["", ""]
    ended = []
    for chunk in ai.chat.completions.create(model="demo", messages=QUESTION, n=2, stream=True):
        for choice in chunk.choices:
            said[choice.index] += choice.delta.content or ""
            ended += [choice.index] if choice.finish_reason else []
    assert said == [choice.message.content for choice in whole.choices]
    assert said[0] != said[1]
    assert sorted(ended) == [0, 1]


def test_embeddings_come_in_base64_unless_floats_are_asked_for(demo: Running, openai_at: OpenAIClient) -> None:
    ai = openai_at(demo)
    raw = ai.embeddings.with_raw_response.create(model="demo", input=["one", "zwei"], dimensions=8)
    plain = ai.embeddings.create(model="demo", input=["one", "zwei"], dimensions=8, encoding_format="float")
    wire = json.loads(raw.text)
    assert all(isinstance(item["embedding"], str) for item in wire["data"])
    assert [item.embedding for item in raw.parse().data] == [item.embedding for item in plain.data]
    assert [item.index for item in plain.data] == [0, 1]
    assert math.isclose(math.hypot(*plain.data[0].embedding), 1, rel_tol=1e-5)
    assert plain.usage.prompt_tokens == plain.usage.total_tokens == 2


def test_token_arrays_are_embedded_too(demo: Running, openai_at: OpenAIClient) -> None:
    reply = openai_at(demo).embeddings.create(model="demo", input=[[1, 2, 3], [4]], dimensions=4)
    assert [len(item.embedding) for item in reply.data] == [4, 4]
    assert reply.usage.prompt_tokens == 4


def test_models_are_listed_and_one_is_fetched(demo: Running, openai_at: OpenAIClient) -> None:
    ai = openai_at(demo)
    listed = ai.models.list()
    assert [(model.id, model.object) for model in listed.data] == [("demo", "model")]
    assert [model.id for model in listed] == ["demo"]
    assert ai.models.retrieve("demo").created > 1_700_000_000
    assert ai.models.retrieve("demo-echo").id == "demo-echo"
    with pytest.raises(openai.NotFoundError):
        ai.models.retrieve("nothing/here")


def test_legacy_completions_work_streamed_and_buffered(demo: Running, openai_at: OpenAIClient) -> None:
    ai = openai_at(demo)
    whole = ai.completions.create(model="demo", prompt="Once upon a time", max_tokens=9)
    chunks = list(ai.completions.create(model="demo", prompt="Once upon a time", max_tokens=9, stream=True))
    assert whole.object == "text_completion"
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == whole.choices[0].text
    assert whole.choices[0].finish_reason == chunks[-1].choices[0].finish_reason == "length"
    assert whole.usage is not None
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (4, 9)


def test_the_request_id_is_the_calls(demo: Running, openai_at: OpenAIClient) -> None:
    ai = openai_at(demo)
    whole = ai.chat.completions.create(model="demo", messages=QUESTION)
    raw = ai.chat.completions.with_raw_response.create(model="demo", messages=QUESTION, stream=True)
    seen = [whole._request_id, raw.headers["x-request-id"], ai.models.list()._request_id]
    assert all(request_id and len(request_id) == 32 for request_id in seen)
    assert len(set(seen)) == 3
    assert raw.headers["content-type"] == "text/event-stream"
    assert raw.headers["server"].startswith("sidegate/")
    list(raw.parse())


async def test_streams_of_one_client_at_once_are_not_mixed_up(demo: Running) -> None:
    async def ask(number: int) -> str:
        stream = await ai.chat.completions.create(
            model="demo-echo", messages=[{"role": "user", "content": f"{number} " * 50}], stream=True
        )
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])

    async with openai.AsyncOpenAI(base_url=f"{demo.url}/v1", api_key="k", max_retries=0) as ai:
        said = await asyncio.gather(*(ask(number) for number in range(40)))
    assert [text.split() for text in said] == [[str(number)] * 50 for number in range(40)]
