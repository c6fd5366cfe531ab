"""What stands in requests and replies that gateways get wrong: a fact a test, in the words of clients and hosts."""

from __future__ import annotations

import json
import struct
from base64 import b64decode
from typing import Any

import anthropic
import msgspec
import pytest
from google import genai
from google.genai import types

from sidegate.testing import Exchange, Script
from sidegate.testing.voices import TEXT, VOICES, WORDS
from tests.node.stage import DIALECTS, Stage
from tests.relaying import DONE, ROLE, STOP, delta, event
from tests.sdk.plain import asked
from tests.sdk.scripts import TEXT as SAID
from tests.sdk.speaking import SPEAKERS
from tests.sdk.test_facts import HI, KEY, OLD, PARTS, STREAMS, _stage, each_client, messages, stage, streamed

__all__ = ["_stage", "stage"]


# --- requests ---------------------------------------------------------------------------------------------------------


def test_a_vector_is_base64_where_openai_asks_for_that_by_default(stage: Stage) -> None:
    """openai-node 6 makes an empty vector of a list of numbers."""

    async def in_numbers(exchange: Exchange) -> None:
        data = [{"object": "embedding", "index": 0, "embedding": [0.5, -2.0]}]
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        await exchange.reply(msgspec.json.encode({"object": "list", "data": data, "model": "real", "usage": usage}))

    stage.plays("openai", in_numbers)
    body = {"model": "openai", "input": "x"}
    url, key = f"{stage.url}/v1/embeddings", f"Bearer {KEY}"
    (coded,) = asked(url, {**body, "encoding_format": "base64"}, authorization=key).json["data"]
    assert struct.unpack("<2f", b64decode(coded["embedding"])) == (0.5, -2.0)
    (plain,) = asked(url, body, authorization=key).json["data"]
    assert plain["embedding"] == [0.5, -2.0]


def test_googles_client_asks_for_one_text_in_a_batch_and_counts_tokens_by_a_path(stage: Stage) -> None:
    async def answers(exchange: Exchange) -> None:
        told: Any = {"totalTokens": 4} if exchange.path.endswith(":countTokens") else {"embeddings": [{"values": [1]}]}
        await exchange.reply(msgspec.json.encode(told))

    stage.plays("gemini", answers)
    with genai.Client(api_key=KEY, http_options=types.HttpOptions(base_url=stage.url)) as ai:
        embedded = ai.models.embed_content(model="gemini", contents="x")
        assert [each.values for each in embedded.embeddings or []] == [[1]]
        assert ai.models.count_tokens(model="gemini", contents="x").total_tokens == 4
    paths = [exchange.path.rpartition(":")[2] for exchange in stage.providers["gemini"].exchanges]
    assert paths == ["batchEmbedContents", "countTokens"]


SHAPE = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
SHOUTED = {"type": "OBJECT", "properties": {"city": {"type": "STRING"}}, "required": ["city"]}
GEMINI_SHAPES: dict[str, dict[str, Any]] = {
    "responseJsonSchema": {"generationConfig": {"responseMimeType": "application/json", "responseJsonSchema": SHAPE}},
    "responseSchema": {"generationConfig": {"responseMimeType": "application/json", "responseSchema": SHOUTED}},
    "snake_case": {"generation_config": {"response_mime_type": "application/json", "response_schema": SHOUTED}},
}


@pytest.mark.parametrize("said", GEMINI_SHAPES)
def test_gemini_has_three_ways_to_say_a_shape(stage: Stage, said: str) -> None:
    url = f"{stage.url}/v1beta/models/openai:generateContent"
    assert asked(url, {**PARTS, **GEMINI_SHAPES[said]}, x_goog_api_key=KEY).status == 200
    shape = stage.asked("openai").json["response_format"]["json_schema"]["schema"]
    assert (shape["type"], shape["properties"]["city"]["type"], shape["required"]) == ("object", "string", ["city"])


GEMINI_TOOLS: dict[str, dict[str, Any]] = {
    "parametersJsonSchema": {"functionDeclarations": [{"name": "weather", "parametersJsonSchema": SHAPE}]},
    "parameters": {"functionDeclarations": [{"name": "weather", "parameters": SHOUTED}]},
    "snake_case": {"function_declarations": [{"name": "weather", "parameters_json_schema": SHAPE}]},
}


@pytest.mark.parametrize("said", GEMINI_TOOLS)
def test_gemini_has_three_ways_to_declare_a_tool(stage: Stage, said: str) -> None:
    url = f"{stage.url}/v1/models/openai:generateContent"
    assert asked(url, {**PARTS, "tools": [GEMINI_TOOLS[said]]}, x_goog_api_key=KEY).status == 200
    (tool,) = stage.asked("openai").json["tools"]
    assert tool["function"]["name"] == "weather"
    assert tool["function"]["parameters"]["properties"]["city"]["type"] == "string"


@pytest.mark.parametrize("dialect", ["openai", "openai_responses", "anthropic"])
def test_text_as_the_only_modality_is_no_wish_that_another_provider_lacks(stage: Stage, dialect: str) -> None:
    """pydantic-ai asks Gemini for `responseModalities: ["TEXT"]` in every call."""
    body = {**PARTS, "generationConfig": {"responseModalities": ["TEXT"]}}
    told = asked(f"{stage.url}/v1beta/models/{dialect}:generateContent", body, x_goog_api_key=KEY)
    assert told.status == 200, told.body


@pytest.mark.parametrize(
    "asked_for",
    [
        {"output_config": {"format": {"type": "json_schema", "schema": SHAPE}}},
        {"output_format": {"type": "json_schema", "schema": SHAPE}},
    ],
    ids=["output_config", "output_format"],
)
def test_a_shape_of_anthropics_clients_of_both_ages_reaches_another_provider(
    stage: Stage, asked_for: dict[str, Any]
) -> None:
    body = {**messages(**asked_for), "model": "openai"}
    beta = {"anthropic_beta": "structured-outputs-2025-11-13"} if "output_format" in asked_for else {}
    told = asked(f"{stage.url}/v1/messages?beta=true", body, x_api_key=KEY, anthropic_version=OLD, **beta)
    assert told.status == 200, told.body
    assert stage.asked("openai").json["response_format"]["json_schema"]["schema"] == SHAPE


FORCED = {"type": "function", "function": {"name": "weather"}}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_forced_tool_call_is_forced_at_every_provider(stage: Stage, dialect: str) -> None:
    """instructor asks for every answer in this way."""
    tools = [{"type": "function", "function": {"name": "weather", "parameters": SHAPE}}]
    body = {"model": dialect, "messages": HI, "tools": tools, "tool_choice": FORCED}
    told = asked(f"{stage.url}/v1/chat/completions", body, authorization=f"Bearer {KEY}")
    assert told.json["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "weather"
    sent = stage.asked(dialect).json
    forced = {
        "openai": lambda: sent["tool_choice"]["function"]["name"],
        "openai_responses": lambda: sent["tool_choice"]["name"],
        "anthropic": lambda: sent["tool_choice"]["name"],
        "gemini": lambda: sent["toolConfig"]["functionCallingConfig"]["allowedFunctionNames"][0],
    }
    assert forced[dialect]() == "weather"


# --- replies that hosts are known for ---------------------------------------------------------------------------------

USED = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
QUIRKS: dict[str, list[bytes]] = {
    "azure-opens-with-a-filter-and-no-choice": [
        event({"choices": [], "prompt_filter_results": [{"prompt_index": 0}], "id": "", "model": "", "object": ""}),
        ROLE,
        delta(content=TEXT),
        STOP,
        DONE,
    ],
    "openrouter-comments-while-it-waits": [
        b": OPENROUTER PROCESSING\n\n",
        ROLE,
        b": OPENROUTER PROCESSING\n\n",
        delta(content=TEXT),
        STOP,
        DONE,
    ],
    "openai-pads": [ROLE, delta(content=TEXT).replace(b'"choices"', b'"obfuscation":"aGk","choices"'), STOP, DONE],
    "groq-has-its-usage-elsewhere": [
        ROLE,
        delta(content=TEXT),
        STOP.replace(b'"choices"', b'"x_groq":{"id":"r","usage":' + msgspec.json.encode(USED) + b'},"choices"'),
        DONE,
    ],
    "mistral-thinks-in-a-list": [
        ROLE,
        delta(content=[{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}]),
        delta(content=[{"type": "text", "text": TEXT}]),
        STOP,
        DONE,
    ],
}


@pytest.mark.parametrize("quirk", QUIRKS)
@each_client
def test_what_hosts_do_otherwise_is_heard_all_the_same(stage: Stage, speaks: str, quirk: str) -> None:
    async def says(exchange: Exchange) -> None:
        await exchange.stream(*QUIRKS[quirk])

    stage.plays("openai", says)
    told = streamed(stage, speaks, "openai")
    assert text_of(speaks, told.events) == TEXT
    assert b"OPENROUTER" not in told.body or speaks == "openai"


def text_of(speaks: str, events: list[dict[str, str]]) -> str:
    """What a stream said, in its own words."""
    told = [json.loads(event["data"]) for event in events if event.get("data", "[DONE]") != "[DONE]"]
    if speaks == "openai":
        texts = [each["choices"][0]["delta"].get("content") or "" for each in told if each["choices"]]
        return "".join(text if isinstance(text, str) else _texts(text) for text in texts)
    if speaks == "openai_responses":
        return "".join(each["delta"] for each in told if each["type"] == "response.output_text.delta")
    if speaks == "anthropic":
        return "".join(each["delta"].get("text", "") for each in told if each["type"] == "content_block_delta")
    parts = [part for each in told for part in each["candidates"][0].get("content", {}).get("parts", [])]
    return "".join(part.get("text", "") for part in parts if not part.get("thought"))


def _texts(parts: list[Any]) -> str:
    return "".join(part.get("text", "") for part in parts)


@each_client
def test_a_choice_that_a_filter_emptied_has_no_message_and_is_heard_as_filtered(stage: Stage, speaks: str) -> None:
    """Azure leaves `message` away."""
    body = {"id": "c", "object": "chat.completion", "created": 1, "model": "real", "usage": USED}
    choice = {"index": 0, "finish_reason": "content_filter", "content_filter_results": {}}

    async def says(exchange: Exchange) -> None:
        await exchange.reply(msgspec.json.encode({**body, "choices": [choice]}))

    stage.plays("openai", says)
    path, given = STREAMS[speaks]
    path = "/v1/models/openai:generateContent" if speaks == "gemini" else path
    given = given if speaks == "gemini" else {**given, "model": "openai", "stream": False}
    told = asked(stage.url + path, given, authorization=f"Bearer {KEY}")
    assert told.status == 200, told.body
    ends = {
        "openai": lambda: told.json["choices"][0]["finish_reason"] == "content_filter",
        "openai_responses": lambda: told.json["incomplete_details"] == {"reason": "content_filter"},
        "anthropic": lambda: told.json["stop_reason"] == "refusal",
        "gemini": lambda: told.json["candidates"][0]["finishReason"] == "SAFETY",
    }
    assert ends[speaks](), told.body


@each_client
def test_anthropics_padding_is_no_part_of_what_it_says(stage: Stage, speaks: str) -> None:
    """It puts spaces behind the JSON of its events."""
    voice = VOICES["anthropic"]

    async def says(exchange: Exchange) -> None:
        whole = [*voice.begins(*WORDS), *voice.ends(voice.usage((7, 2)))]
        await exchange.stream(*(each.replace(b"}\n\n", b"}       \n\n") for each in whole))

    stage.plays("anthropic", says)
    assert text_of(speaks, streamed(stage, speaks, "anthropic").events) == TEXT


@pytest.mark.parametrize("speaks", ["openai", "openai_responses", "anthropic"])
def test_arguments_that_vertex_streams_by_their_paths_are_gathered(stage: Stage, speaks: str) -> None:
    def said(call: dict[str, Any], **more: Any) -> bytes:
        content = {"role": "model", "parts": [{"functionCall": call}]}
        return event({"candidates": [{"index": 0, "content": content, **more}], "responseId": "g"})

    def piece(text: str) -> dict[str, Any]:
        return {"willContinue": True, "partialArgs": [{"jsonPath": "$.city", "stringValue": text}]}

    async def says(exchange: Exchange) -> None:
        opened = said({"name": "weather", "id": "c1", "willContinue": True})
        await exchange.stream(opened, said(piece("Zür")), said(piece("ich")), said({}, finishReason="STOP"))

    stage.plays("gemini", says)
    told = [json.loads(each["data"]) for each in streamed(stage, speaks, "gemini").events if each["data"] != "[DONE]"]
    assert json.loads("".join(arguments_of(speaks, told))) == {"city": "Zürich"}


def arguments_of(speaks: str, told: list[Any]) -> list[str]:
    """The pieces of the arguments of the one call in a stream."""
    if speaks == "openai":
        calls = [call for each in told for call in each["choices"][0]["delta"].get("tool_calls") or []]
        return [call["function"]["arguments"] for call in calls]
    if speaks == "openai_responses":
        return [each["delta"] for each in told if each["type"] == "response.function_call_arguments.delta"]
    return [each["delta"].get("partial_json", "") for each in told if each["type"] == "content_block_delta"]


# --- conversations that a provider holds ------------------------------------------------------------------------------


@anthropic.beta_tool
def weather(city: str) -> str:
    """The weather of a city."""
    return f"the weather of {city}"


@anthropic.beta_tool
def time(zone: str, at: list[int]) -> str:
    """The time in a zone."""
    return f"the time of {zone}"


def runs_tools(stage: Stage, model: str) -> str:
    """What Anthropic's own loop of tools comes to."""
    with anthropic.Anthropic(base_url=stage.url, api_key=KEY, max_retries=0) as ai:
        runner = ai.beta.messages.tool_runner(
            model=model, max_tokens=9, messages=[{"role": "user", "content": "Zürich?"}], tools=[weather, time]
        )
        return "".join(block.text for block in runner.until_done().content if block.type == "text")


def calls_then_says(dialect: str, stage: Stage) -> Script:
    async def says(exchange: Exchange) -> None:
        if len(stage.providers[dialect].exchanges) == 1:
            await SPEAKERS[dialect](exchange)
        else:
            await exchange.reply(VOICES[dialect].whole(TEXT, VOICES[dialect].usage((7, 2))))

    return says


@pytest.mark.parametrize("dialect", ["openai", "openai_responses", "gemini"])
def test_anthropics_loop_of_tools_sends_all_to_who_holds_no_conversation(stage: Stage, dialect: str) -> None:
    """Its SDKs of late 2026 ask for a `thread`, and send nothing but what is new, unless they are told to."""
    stage.plays(dialect, calls_then_says(dialect, stage))
    assert runs_tools(stage, dialect) == TEXT
    _, again = stage.providers[dialect].exchanges
    assert "Zürich?" in again.body.decode(), "the question is there"
    assert SAID in again.body.decode(), "and the first answer"
    assert "the weather of Zürich" in again.body.decode(), "and what the tool gave"
    assert "thread" not in again.json


def test_anthropic_itself_holds_the_conversation(stage: Stage) -> None:
    stage.plays("anthropic", calls_then_says("anthropic", stage))
    assert runs_tools(stage, "anthropic") == TEXT
    first, again = stage.providers["anthropic"].exchanges
    assert first.json["thread"] == {"type": "create"}
    assert again.json["thread"] == {"type": "continue", "previous_message_id": "msg_1"}
    assert "Zürich?" not in again.body.decode()


def test_a_conversation_that_anthropic_has_lost_is_sent_whole(stage: Stage) -> None:
    """The SDK acts on a code in the error's details: it is told that, whatever else a gateway makes of errors."""
    lost = {"type": "not_found_error", "message": "No thread.", "details": {"error_code": "thread_not_found"}}

    async def says(exchange: Exchange) -> None:
        if exchange.json["thread"]["type"] == "continue":
            await exchange.reply(msgspec.json.encode({"type": "error", "error": lost}), 404)
        else:
            await calls_then_says("anthropic", stage)(exchange)

    stage.plays("anthropic", says)
    assert runs_tools(stage, "anthropic") == TEXT
    *_, again = stage.providers["anthropic"].exchanges
    assert again.json["thread"] == {"type": "create"}
    assert "Zürich?" in again.body.decode()


@pytest.mark.parametrize(
    ("details", "told"),
    [
        (
            {"error_code": "x", "unsupported": ["a", "b"], "most": 5},
            {"error_code": "x", "unsupported": ["a", "b"], "most": 5},
        ),
        ({"error_code": "sk-abcdefgh1234"}, {"error_code": "***"}),
        ({"error_code": {"deep": 1}, "list": [[1], "a"]}, {"list": ["a"]}),
        ("no object", None),
    ],
    ids=["plain", "a-key", "deep", "no-object"],
)
def test_details_of_anthropics_errors_pass_bounded_and_clean(stage: Stage, details: Any, told: Any) -> None:
    error = {"type": "invalid_request_error", "message": "No.", "details": details}

    async def refuses(exchange: Exchange) -> None:
        await exchange.reply(msgspec.json.encode({"type": "error", "error": error}), 400)

    stage.plays("anthropic", refuses)
    answer = asked(f"{stage.url}/v1/messages", messages(), x_api_key=KEY, anthropic_version=OLD)
    assert (answer.status, answer.json["error"].get("details")) == (400, told)
