"""The vendors' clients for Node hear any provider: text, parallel calls whose arguments stream, finish and usage."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import pytest

from sidegate.testing import Exchange, Script
from sidegate.testing.spoken import streams
from sidegate.testing.voices import TEXT as VOICE_TEXT
from sidegate.testing.voices import VOICES, WORDS
from tests.node.process import Node
from tests.node.stage import DIALECTS, Stage
from tests.relaying import DONE, ROLE, USAGE, delta
from tests.sdk.scripts import CALLS, TEXT, USED

both = pytest.mark.parametrize("stream", [True, False], ids=["stream", "buffered"])
each_provider = pytest.mark.parametrize("dialect", DIALECTS)

CLIENTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "openai-chat": ("openai", "chat", {}),
    "openai-responses": ("openai", "responses", {}),
    "anthropic": ("anthropic", "messages", {}),
    "google": ("google", "generate", {}),
    "ai-responses": ("ai", "said", {"vendor": "responses"}),
    "ai-chat": ("ai", "said", {"vendor": "chat"}),
    "ai-compatible": ("ai", "said", {"vendor": "compatible"}),
    "ai-anthropic": ("ai", "said", {"vendor": "anthropic"}),
    "ai-google": ("ai", "said", {"vendor": "google"}),
}
"""Module, function, and what it is given."""
FINISH = {
    "chat": "tool_calls",
    "responses": "completed",
    "messages": "tool_use",
    "generate": "STOP",
    "said": "tool-calls",
}
"""What each says of a reply that ends in calls, by function."""
DIALECT_OF = {
    "openai-chat": "openai",
    "ai-chat": "openai",
    "ai-compatible": "openai",
    "openai-responses": "openai_responses",
    "ai-responses": "openai_responses",
    "anthropic": "anthropic",
    "ai-anthropic": "anthropic",
    "google": "gemini",
    "ai-google": "gemini",
}
"""What each client speaks."""
each_client = pytest.mark.parametrize("client", CLIENTS)


def hears(node: Node, client: str, stage: Stage, model: str, stream: bool, **given: Any) -> Any:
    module, name, more = CLIENTS[client]
    return node(module, name, url=stage.url, model=model, stream=stream, **more, **given)


@both
@each_provider
@each_client
def test_any_client_hears_any_provider(node: Node, stage: Stage, client: str, dialect: str, stream: bool) -> None:
    heard = hears(node, client, stage, dialect, stream, tools=True)
    assert "error" not in heard, heard["error"]
    assert heard["text"] == TEXT
    calls = [[call_id, name, json.loads(arguments)] for call_id, name, arguments in CALLS]
    assert heard["calls"] == calls
    assert heard["finish"] == FINISH[CLIENTS[client][1]]
    assert heard["usage"] == list(USED)


# --- structured output ------------------------------------------------------------------------------------------------

CITY = {"city": "Zürich", "days": 3}


def answers_in_json(dialect: str) -> Script:
    """A provider that says what fits the shape, in two pieces."""
    text = json.dumps(CITY, ensure_ascii=False)
    voice = VOICES[dialect]

    async def script(exchange: Exchange) -> None:
        if not streams(exchange):
            await exchange.reply(voice.whole(text, voice.usage(USED)))
            return
        events = [*voice.begins(text[:9], text[9:]), *voice.ends(voice.usage(USED))]
        # The last events of Responses repeat the text.
        await exchange.stream(*(each.replace(TEXT_AGAIN, msgspec.json.encode(text)) for each in events))

    return script


TEXT_AGAIN = msgspec.json.encode(VOICE_TEXT)


def shape_sent(dialect: str, sent: Any) -> Any:
    """The schema in a request."""
    if dialect == "openai":
        return sent["response_format"]["json_schema"]["schema"]
    if dialect == "openai_responses":
        return sent["text"]["format"]["schema"]
    if dialect == "anthropic":
        return sent["output_config"]["format"]["schema"]
    config = sent["generationConfig"]
    return config.get("responseJsonSchema") or config.get("responseSchema")


@both
@each_provider
@each_client
def test_an_answer_of_a_shape_is_asked_for_and_read(
    node: Node, stage: Stage, client: str, dialect: str, stream: bool
) -> None:
    stage.plays(dialect, answers_in_json(dialect))
    heard = hears(node, client, stage, dialect, stream, schema=True)
    assert "error" not in heard, heard["error"]
    assert heard["parsed"] == CITY
    shape = shape_sent(dialect, stage.asked(dialect).json)
    assert set(shape["properties"]) == {"city", "days"}
    assert shape["required"] == ["city", "days"]


@both
def test_a_shape_that_is_asked_for_as_a_forced_tool_comes_as_its_call(node: Node, stage: Stage, stream: bool) -> None:
    """So the AI SDK asks a model of Anthropic that it does not know."""
    function = {"name": "json", "arguments": json.dumps(CITY)}
    called = {"index": 0, "id": "call_a", "type": "function", "function": function}

    async def script(exchange: Exchange) -> None:
        if exchange.json.get("stream"):
            await exchange.stream(ROLE, delta(tool_calls=[called]), delta("tool_calls"), USAGE, DONE)
            return
        choice = {"index": 0, "message": {"role": "assistant", "tool_calls": [called]}, "finish_reason": "tool_calls"}
        head = {"id": "c1", "object": "chat.completion", "created": 1, "model": "real-1"}
        await exchange.reply(msgspec.json.encode({**head, "choices": [choice]}))

    stage.plays("openai", script)
    heard = hears(node, "ai-anthropic", stage, "openai", stream, schema="tool")
    assert "error" not in heard, heard["error"]
    assert heard["parsed"] == CITY
    sent = stage.asked("openai").json
    assert [tool["function"]["name"] for tool in sent["tools"]] == ["json"]
    assert sent["tool_choice"] in ("required", {"type": "function", "function": {"name": "json"}})
    assert sent["parallel_tool_calls"] is False


# --- leaving ----------------------------------------------------------------------------------------------------------


@each_client
@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
def test_a_client_that_leaves_early_lets_the_provider_go(node: Node, stage: Stage, client: str, dialect: str) -> None:
    async def endless(exchange: Exchange) -> None:
        await exchange.head(Transfer_Encoding="chunked")
        await exchange.chunk(b"".join(VOICES[dialect].begins(*WORDS[:2])))
        await exchange.closed.wait()

    stage.plays(dialect, endless)
    before = stage.ended("client_gone")
    heard = hears(node, client, stage, dialect, True, leave=True)
    assert "error" not in heard, heard["error"]
    assert heard["text"].startswith(WORDS[0])
    stage.ground.left(stage.asked(dialect))
    stage.ends("client_gone", before + 1)


@both
@each_client
def test_a_client_that_gives_up_before_the_first_word_lets_the_provider_go(
    node: Node, stage: Stage, client: str, stream: bool
) -> None:
    dialect = "gemini" if DIALECT_OF[client] == "openai" else "openai"

    asked = asyncio.Event()

    async def silent(exchange: Exchange) -> None:
        if exchange.method == "GET":
            await asked.wait()
            await exchange.reply(b"{}")
            return
        asked.set()
        await exchange.closed.wait()

    stage.plays(dialect, silent)
    before = stage.ended("client_gone")
    heard = hears(node, client, stage, dialect, stream, until=stage.providers[dialect].url)
    assert (heard["text"], heard["finish"]) == ("", None)
    (exchange,) = [each for each in stage.providers[dialect].exchanges if each.method == "POST"]
    stage.ground.left(exchange)
    stage.ends("client_gone", before + 1)
