"""Structured output, held to its schema by the gateway, as the vendors' own clients see it."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import openai
import pytest
from pydantic import BaseModel

from sidegate.testing import Running
from sidegate.testing.voices import VOICES
from tests.plugins.structured import FITS
from tests.plugins.test_structured_output_served import WRONG, WRONG_TYPE, says
from tests.sdk.conftest import AnthropicClient, OpenAIClient
from tests.sdk.ground import Ground

ASK: Any = [{"role": "user", "content": "Who?"}]
PLUGIN = {"use": "structured_output"}
HELD = {**PLUGIN, "settings": {"on_invalid_stream": "repair"}}


class Person(BaseModel):
    name: str
    age: int


ANN = Person(name="Ann", age=7)
BAD = '{"name": "Ann", "age": "seven"}'


def before(ground: Ground, dialect: str, *texts: str, plugin: Any = PLUGIN) -> Running:
    assert dialect in VOICES
    return ground.before(says(dialect, *texts), dialect, plugins=(plugin,))[0]


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_openai_parses_what_was_asked_for_again(ground: Ground, openai_at: OpenAIClient, provider: str) -> None:
    ai = openai_at(before(ground, provider, BAD, FITS, BAD, FITS, plugin=HELD))
    parsed = ai.chat.completions.parse(model="m", messages=ASK, response_format=Person).choices[0].message.parsed
    assert parsed == ANN
    with ai.chat.completions.stream(model="m", messages=ASK, response_format=Person) as stream:
        assert stream.get_final_completion().choices[0].message.parsed == ANN


def test_openai_hears_of_the_last_text_as_an_error_with_details(ground: Ground, openai_at: OpenAIClient) -> None:
    ai = openai_at(before(ground, "openai", BAD, BAD))
    with pytest.raises(openai.UnprocessableEntityError) as raised:
        ai.chat.completions.parse(model="m", messages=ASK, response_format=Person)
    assert raised.value.code == "reply_schema_mismatch"
    body: Any = raised.value.body
    assert body["details"]["text"] == BAD
    assert body["details"]["repairs"] == 1
    assert body["details"]["errors"][0]["path"] == "/age"


def test_openai_hears_of_a_stream_that_is_stopped(ground: Ground, openai_at: OpenAIClient) -> None:
    ai = openai_at(before(ground, "openai", WRONG_TYPE))
    heard: list[str] = []

    def listen() -> None:
        with ai.chat.completions.stream(model="m", messages=ASK, response_format=Person) as stream:
            heard.extend(event.delta for event in stream if event.type == "content.delta")

    with pytest.raises(openai.APIError, match="/name: number is not allowed here") as raised:
        listen()
    assert heard
    assert WRONG_TYPE.startswith("".join(heard))
    body: Any = raised.value.body
    assert body["details"]["errors"] == [{"path": "/name", "message": "number is not allowed here, but string"}]


def test_openai_responses_are_parsed_and_refused(ground: Ground, openai_at: OpenAIClient) -> None:
    ai = openai_at(before(ground, "openai_responses", BAD, FITS, BAD, BAD))
    assert ai.responses.parse(model="m", input="Who?", text_format=Person).output_parsed == ANN
    with pytest.raises(openai.UnprocessableEntityError, match="/age"):
        ai.responses.parse(model="m", input="Who?", text_format=Person)


def test_openai_hears_of_a_strict_tool_that_is_called_wrongly(ground: Ground, openai_at: OpenAIClient) -> None:
    tool = openai.pydantic_function_tool(Person, name="look")
    assert tool["function"]["strict"] is True
    call = {"id": "t1", "type": "function", "function": {"name": "look", "arguments": BAD}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    whole = {
        "id": "c1",
        "object": "chat.completion",
        "created": 1,
        "model": "real-1",
        "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}],
    }

    async def script(exchange: Any) -> None:
        fits = exchange.json["messages"][-1]["content"].startswith("Your call of the tool look")
        said = json.dumps(whole)
        await exchange.reply((said.replace('\\"seven\\"', "7") if fits else said).encode())

    running, provider = ground.before(script, plugins=(PLUGIN,))
    completion = openai_at(running).chat.completions.parse(model="m", messages=ASK, tools=[tool])
    calls = completion.choices[0].message.tool_calls
    assert calls is not None
    assert calls[0].function.parsed_arguments == ANN
    assert len(provider.exchanges) == 2


@pytest.mark.parametrize("provider", ["anthropic", "openai"])
def test_anthropic_parses_what_was_asked_again(ground: Ground, anthropic_at: AnthropicClient, provider: str) -> None:
    ai = anthropic_at(before(ground, provider, BAD, FITS, BAD, FITS, plugin=HELD))
    asked: Any = {"model": "m", "max_tokens": 99, "messages": ASK, "output_format": Person}
    assert ai.messages.parse(**asked).parsed_output == ANN
    with ai.messages.stream(**asked) as stream:
        assert stream.get_final_message().parsed_output == ANN


def test_anthropic_hears_of_what_does_not_fit(ground: Ground, anthropic_at: AnthropicClient) -> None:
    ai = anthropic_at(before(ground, "anthropic", WRONG_TYPE, WRONG.replace("-1", "true"), BAD))
    asked: Any = {"model": "m", "max_tokens": 99, "messages": ASK, "output_format": Person}
    with (
        pytest.raises(anthropic.APIStatusError, match="/name: number is not allowed here"),
        ai.messages.stream(**asked) as stream,
    ):
        stream.get_final_message()
    with pytest.raises(anthropic.UnprocessableEntityError) as raised:
        ai.messages.parse(**asked)
    body: Any = raised.value.body
    assert body["error"]["details"]["text"] == BAD
