"""Google's own client before the gateway: any provider, streamed and whole, and what it is told of failures."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from functools import partial
from typing import Any

import aiohttp
import msgspec
import pytest
from google import genai
from google.genai import errors, types
from pydantic import BaseModel

from sidegate.contract import Call, Chunk, Handler, Plugin, Reply
from sidegate.errors import Refusal
from sidegate.testing import Exchange, Running, demo_config, gateway
from tests.relaying import answers, event
from tests.sdk.conftest import AnthropicClient, OpenAIClient
from tests.sdk.ground import Ground
from tests.sdk.scripts import CALLS, TEXT, USED, anthropic_says, openai_says, play
from tests.sdk.speaking import COUNTS, SIGNATURE, calls, gemini_says, reply_of
from tests.tapping import Tapping
from tests.wire.recordings import Case, parameters

both = pytest.mark.parametrize("stream", [True, False], ids=["stream", "buffered"])

GeminiClient = Callable[[Running], genai.Client]
WEATHER = types.Tool(
    function_declarations=[
        types.FunctionDeclaration(
            name="weather",
            parameters_json_schema={"type": "object", "properties": {"city": {"type": "string"}}},
        )
    ]
)
RECORDED = parameters("gemini/gemini-", "vertex/gemini-")


@pytest.fixture
def gemini_at() -> Iterator[GeminiClient]:
    """Makes clients of a gateway, each closed at the end of the test."""
    with ExitStack() as stack:

        def make(running: Running) -> genai.Client:
            return stack.enter_context(client_at(running.url))

        yield make


def client_at(url: str) -> genai.Client:
    return genai.Client(api_key="client-key", http_options=types.HttpOptions(base_url=url))


def asked(ai: genai.Client, stream: bool, **named: Any) -> list[types.GenerateContentResponse]:
    """The events of a stream, or the one reply."""
    told: dict[str, Any] = {"model": "m", "contents": "Où?", **named}
    if stream:
        return list(ai.models.generate_content_stream(**told))
    return [ai.models.generate_content(**told)]


def parts_of(events: list[types.GenerateContentResponse]) -> list[types.Part]:
    contents = [one.content for each in events for one in each.candidates or []]
    return [part for content in contents if content is not None for part in content.parts or []]


def said(events: list[types.GenerateContentResponse]) -> tuple[str, list[Any]]:
    parts = parts_of(events)
    text = "".join(part.text or "" for part in parts if not part.thought)
    return text, [(part.function_call.name, part.function_call.args) for part in parts if part.function_call]


def used(events: list[types.GenerateContentResponse]) -> tuple[int | None, int | None]:
    usage = events[-1].usage_metadata
    assert usage is not None
    return usage.prompt_token_count, usage.candidates_token_count


CALLED = [(name, json.loads(arguments)) for _, name, arguments in CALLS]


@both
@pytest.mark.parametrize(
    ("says", "dialect"),
    [(gemini_says, "gemini"), (openai_says, "openai"), (anthropic_says, "anthropic")],
    ids=["gemini", "openai", "anthropic"],
)
def test_googles_client_hears_any_provider(
    ground: Ground, gemini_at: GeminiClient, says: Any, dialect: str, stream: bool
) -> None:
    running, provider = ground.before(says, dialect)
    config = types.GenerateContentConfig(system_instruction="Be brief.", temperature=0.3, tools=[WEATHER])
    config.automatic_function_calling = types.AutomaticFunctionCallingConfig(disable=True)
    events = asked(gemini_at(running), stream, config=config)
    assert said(events) == (TEXT, CALLED)
    assert used(events) == USED
    reasons = [one.finish_reason for each in events for one in each.candidates or [] if one.finish_reason]
    assert reasons == [types.FinishReason.STOP]
    ids = [part.function_call.id for part in parts_of(events) if part.function_call]
    assert ids == [call_id for call_id, _, _ in CALLS]
    sent = provider.exchanges[0]
    if dialect == "gemini":
        method = "streamGenerateContent?alt=sse" if stream else "generateContent"
        assert sent.path == f"/v1beta/models/real:{method}"
        assert sent.headers["x-goog-api-key"] == "sk-upstream-secret"
        assert "model" not in sent.json
        assert "stream" not in sent.json
        signed = [part.thought_signature for part in parts_of(events) if part.function_call]
        assert signed == [b"signed by it", None]
    else:
        assert (sent.json["model"], bool(sent.json.get("stream"))) == ("real", stream)
        assert "Be brief." in sent.body.decode()
        assert sent.json["temperature"] == 0.3


@both
def test_openais_client_hears_gemini(ground: Ground, openai_at: OpenAIClient, stream: bool) -> None:
    running, provider = ground.before(gemini_says, "gemini")
    ai = openai_at(running)
    told: dict[str, Any] = {
        "model": "m",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Où?"},
            {
                "role": "assistant",
                "content": "Let me see.",
                "tool_calls": [
                    {"id": "t1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
                ],
            },
            {"role": "tool", "tool_call_id": "t1", "content": "2°"},
        ],
        "tools": [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}],
        "tool_choice": {"type": "function", "function": {"name": "weather"}},
        "temperature": 0.3,
        "max_tokens": 70,
        "stop": ["END"],
        "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}},
    }
    if stream:
        with ai.chat.completions.stream(**told, stream_options={"include_usage": True}) as events:
            reply: Any = events.get_final_completion()
    else:
        reply = ai.chat.completions.create(**told)
    message = reply.choices[0].message
    assert message.content == TEXT
    assert [(call.id, call.function.name) for call in message.tool_calls] == [(id, name) for id, name, _ in CALLS]
    assert [json.loads(call.function.arguments) for call in message.tool_calls] == [value for _, value in CALLED]
    assert reply.choices[0].finish_reason == "tool_calls"
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == USED
    sent = provider.exchanges[0].json
    assert sent["systemInstruction"] == {"parts": [{"text": "Be brief."}]}
    assert [turn["role"] for turn in sent["contents"]] == ["user", "model", "user"]
    assert sent["contents"][1]["parts"][1]["functionCall"] == {"name": "weather", "args": {"city": "Oslo"}, "id": "t1"}
    answer = sent["contents"][2]["parts"][0]["functionResponse"]
    assert answer == {"name": "weather", "id": "t1", "response": {"output": "2°"}}
    assert sent["tools"] == [
        {"functionDeclarations": [{"name": "weather", "parametersJsonSchema": {"type": "object"}}]}
    ]
    assert sent["toolConfig"] == {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["weather"]}}
    assert sent["generationConfig"] == {
        "temperature": 0.3,
        "maxOutputTokens": 70,
        "stopSequences": ["END"],
        "responseMimeType": "application/json",
        "responseJsonSchema": {"type": "object"},
    }


@both
def test_anthropics_client_hears_gemini_and_gives_its_signatures_back(
    ground: Ground, anthropic_at: AnthropicClient, stream: bool
) -> None:
    running, provider = ground.before(gemini_says, "gemini")
    ai = anthropic_at(running)
    told: dict[str, Any] = {"model": "m", "max_tokens": 50, "thinking": {"type": "enabled", "budget_tokens": 1024}}
    told["messages"] = [{"role": "user", "content": "Où?"}]
    if stream:
        with ai.messages.stream(**told) as events:
            reply: Any = events.get_final_message()
    else:
        reply = ai.messages.create(**told)
    kinds = [block.type for block in reply.content]
    assert kinds == ["text", "thinking", "tool_use", "tool_use"]
    assert reply.stop_reason == "tool_use"
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == USED
    results = [{"type": "tool_result", "tool_use_id": id, "content": "4"} for id, _, _ in CALLS]
    turn = {"role": "assistant", "content": [block.to_dict() for block in reply.content]}
    told["messages"] += [turn, {"role": "user", "content": results}]
    ai.messages.create(**told)
    sent = provider.exchanges[1].json
    parts = sent["contents"][1]["parts"]
    assert [part.get("thoughtSignature") for part in parts] == [None, SIGNATURE, None]
    assert [part["functionCall"]["id"] for part in parts[1:]] == [id for id, _, _ in CALLS]
    names = [part["functionResponse"]["name"] for part in sent["contents"][2]["parts"]]
    assert names == [name for _, name, _ in CALLS]
    assert sent["generationConfig"]["thinkingConfig"] == {"includeThoughts": True, "thinkingBudget": 1024}


class City(BaseModel):
    city: str
    inhabitants: int


@both
@pytest.mark.parametrize("dialect", ["gemini", "openai"])
def test_structured_output(ground: Ground, gemini_at: GeminiClient, dialect: str, stream: bool) -> None:
    told = '{"city": "Zürich", "inhabitants": 1}'

    async def says(exchange: Exchange) -> None:
        if dialect == "gemini":
            whole = reply_of({"text": told}, finish="STOP", usageMetadata=COUNTS)
            await (exchange.stream(event(whole)) if stream else exchange.reply(msgspec.json.encode(whole)))
            return
        choice = {"index": 0, "finish_reason": "stop"}
        message = {"role": "assistant", "content": told}
        head = {"id": "c", "model": "r", "created": 1}
        if stream:
            await exchange.stream(event({**head, "choices": [{**choice, "delta": message}]}), b"data: [DONE]\n\n")
        else:
            await exchange.reply(msgspec.json.encode({**head, "choices": [{**choice, "message": message}]}))

    running, provider = ground.before(says, dialect)
    config = types.GenerateContentConfig(response_mime_type="application/json", response_schema=City)
    events = asked(gemini_at(running), stream, config=config)
    if not stream:
        assert events[0].parsed == City(city="Zürich", inhabitants=1)
    assert said(events)[0] == told
    if dialect == "openai":
        schema = provider.exchanges[0].json["response_format"]["json_schema"]["schema"]
        assert schema["type"] == "object"
        assert schema["properties"]["city"]["type"] == "string"


def test_a_function_is_called_and_answered_by_the_client_itself(ground: Ground, gemini_at: GeminiClient) -> None:
    """The client's own loop: it calls, answers with the signature, and asks again."""

    async def says(exchange: Exchange) -> None:
        turns = exchange.json["contents"]
        part = {"text": "21°"} if len(turns) > 1 else {**calls()[0]}
        await exchange.reply(msgspec.json.encode(reply_of(part, finish="STOP", usageMetadata=COUNTS)))

    def weather(city: str) -> str:
        """The weather."""
        return f"{city}: 21°"

    running, provider = ground.before(says, "gemini")
    config = types.GenerateContentConfig(tools=[weather])
    reply = gemini_at(running).models.generate_content(model="m", contents="Où?", config=config)
    assert reply.text == "21°"
    turn = provider.exchanges[1].json["contents"][1]["parts"][0]
    assert turn["thoughtSignature"].rstrip("=") == SIGNATURE.rstrip("=")


# --- models, embeddings, counts ---------------------------------------------------------------------------------------


def test_models_are_listed_in_geminis_shape(demo: Running, gemini_at: GeminiClient) -> None:
    ai = gemini_at(demo)
    names = [model.name for model in ai.models.list()]
    assert names
    assert all(name is not None and name.startswith("models/") for name in names)
    assert names[0] is not None
    assert ai.models.get(model=names[0]).name == names[0]
    for path in ("v1beta/models", "v1alpha/models", "v1/models?key=k"):
        with urllib.request.urlopen(f"{demo.url}/{path}", timeout=5) as reply:  # our own loopback URL
            assert [each["name"] for each in json.load(reply)["models"]] == names


def test_embeddings_of_another_vendor(ground: Ground, gemini_at: GeminiClient) -> None:
    async def says(exchange: Exchange) -> None:
        count = len(exchange.json["input"]) if isinstance(exchange.json["input"], list) else 1
        data = [{"object": "embedding", "index": at, "embedding": [at, 0.5]} for at in range(count)]
        usage = {"prompt_tokens": 3, "total_tokens": 3}
        await exchange.reply(msgspec.json.encode({"object": "list", "data": data, "model": "e", "usage": usage}))

    running, provider = ground.before(says)
    config = types.EmbedContentConfig(output_dimensionality=2)
    reply = gemini_at(running).models.embed_content(model="m", contents=["a", "b"], config=config)
    assert [one.values for one in reply.embeddings or []] == [[0.0, 0.5], [1.0, 0.5]]
    assert (provider.exchanges[0].json["input"], provider.exchanges[0].json["dimensions"]) == (["a", "b"], 2)
    assert post(running, "/v1beta/models/m:embedContent", {"content": {"parts": [{"text": "x"}]}}) == {
        "embedding": {"values": [0.0, 0.5]},
        "usageMetadata": {"promptTokenCount": 3, "totalTokenCount": 3},
    }


def test_geminis_embeddings_for_another_client(ground: Ground, openai_at: OpenAIClient) -> None:
    async def says(exchange: Exchange) -> None:
        count = len(exchange.json["requests"])
        await exchange.reply(msgspec.json.encode({"embeddings": [{"values": [at, 0.5]} for at in range(count)]}))

    running, provider = ground.before(says, "gemini")
    reply = openai_at(running).embeddings.create(model="m", input=["a", "b"], dimensions=2)
    assert [one.embedding for one in reply.data] == [[0.0, 0.5], [1.0, 0.5]]
    sent = provider.exchanges[0]
    assert sent.path == "/v1beta/models/real:batchEmbedContents"
    assert sent.json["requests"][1] == {
        "content": {"parts": [{"text": "b"}]},
        "outputDimensionality": 2,
        "model": "models/real",
    }


def test_embeddings_pass_between_gemini_and_gemini(ground: Ground, gemini_at: GeminiClient) -> None:
    async def says(exchange: Exchange) -> None:
        if exchange.path.endswith(":embedContent"):
            await exchange.reply(b'{"embedding": {"values": [0.5]}, "ofTomorrow": 1}')
            return
        await exchange.reply(b'{"embeddings": [{"values": [0.5]}]}')

    running, provider = ground.before(says, "gemini")
    config = types.EmbedContentConfig(task_type="RETRIEVAL_QUERY")
    reply = gemini_at(running).models.embed_content(model="m", contents="a", config=config)
    assert [one.values for one in reply.embeddings or []] == [[0.5]]
    (one,) = provider.exchanges[0].json["requests"]
    assert (one["model"], one["taskType"]) == ("models/real", "RETRIEVAL_QUERY")
    told = post(running, "/v1beta/models/m:embedContent", {"model": "models/m", "content": {"parts": [{"text": "x"}]}})
    assert told == {"embedding": {"values": [0.5]}, "ofTomorrow": 1}
    assert provider.exchanges[1].json["model"] == "models/real"


def test_a_count_is_the_providers_own_or_none(ground: Ground, gemini_at: GeminiClient) -> None:
    async def says(exchange: Exchange) -> None:
        await exchange.reply(b'{"totalTokens": 12, "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 12}]}')

    running, provider = ground.before(says, "gemini")
    reply = gemini_at(running).models.count_tokens(model="m", contents="Où?")
    assert reply.total_tokens == 12
    assert provider.exchanges[0].path == "/v1beta/models/real:countTokens"
    other, asked_of = ground.before(answers)
    with pytest.raises(errors.ClientError) as raised:
        gemini_at(other).models.count_tokens(model="m", contents="Où?")
    assert (raised.value.code, raised.value.status) == (400, "INVALID_ARGUMENT")
    assert not asked_of.exchanges


def test_a_count_costs_nothing_and_that_is_on_record(ground: Ground) -> None:
    async def says(exchange: Exchange) -> None:
        await exchange.reply(b'{"totalTokens": 12}')

    running, _ = ground.before(says, "gemini")
    url = running.url + "/v1beta/models/m:countTokens"
    with open_json(url, {"contents": [{"parts": [{"text": "x"}]}]}) as reply:
        record = ground.record(running, reply.headers["x-request-id"])
    assert (record["operation"], record["input_tokens"], record["output_tokens"]) == ("count_tokens", 0, 0)
    assert (record["state"], record["estimated"]) == ("settled", False)


# --- what goes wrong --------------------------------------------------------------------------------------------------


def failing(status: int, body: dict[str, Any], **headers: str) -> Any:
    async def says(exchange: Exchange) -> None:
        await exchange.reply(msgspec.json.encode(body), status, **headers)

    return says


LIMITED = {
    "error": {
        "code": 429,
        "message": "Quota exceeded.",
        "status": "RESOURCE_EXHAUSTED",
        "details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "37.5s"}],
    }
}
BAD_KEY = {
    "error": {
        "code": 400,
        "message": "API key not valid. Please pass a valid API key.",
        "status": "INVALID_ARGUMENT",
        "details": [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}],
    }
}
MISTAKE = {"error": {"code": 400, "message": "Wrong field.", "status": "INVALID_ARGUMENT"}}
BUSY = {"error": {"code": 503, "message": "Overloaded at db-7.internal", "status": "UNAVAILABLE"}}


@both
@pytest.mark.parametrize(
    ("status", "body", "kind", "told"),
    [
        (429, LIMITED, errors.ClientError, (429, "RESOURCE_EXHAUSTED", "Quota exceeded.")),
        (400, MISTAKE, errors.ClientError, (400, "INVALID_ARGUMENT", "Wrong field.")),
        (400, BAD_KEY, errors.ServerError, (502, "UNAVAILABLE", "The provider did not accept the gateway's")),
        (503, BUSY, errors.ServerError, (503, "UNAVAILABLE", "The provider is overloaded.")),
    ],
    ids=["limit", "mistake", "key", "busy"],
)
def test_an_error_has_its_class_and_status(
    ground: Ground,
    gemini_at: GeminiClient,
    status: int,
    body: dict[str, Any],
    kind: type[errors.APIError],
    told: tuple[int, str, str],
    stream: bool,
) -> None:
    running, _ = ground.before(failing(status, body), "gemini")
    with pytest.raises(kind) as raised:
        asked(gemini_at(running), stream)
    assert (raised.value.code, raised.value.status) == told[:2]
    assert (raised.value.message or "").startswith(told[2])
    if status == 429:
        details = raised.value.details["error"]["details"]
        assert {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "38s"} in details


def test_an_unknown_model_is_not_found(demo: Running, gemini_at: GeminiClient) -> None:
    with pytest.raises(errors.ClientError) as raised:
        asked(gemini_at(demo), False, model="nobody")
    assert (raised.value.code, raised.value.status) == (404, "NOT_FOUND")


@pytest.mark.parametrize("dialect", ["gemini", "openai"])
def test_an_error_in_mid_stream_is_raised(ground: Ground, gemini_at: GeminiClient, dialect: str) -> None:
    async def says(exchange: Exchange) -> None:
        if dialect == "gemini":
            await exchange.stream(event(reply_of({"text": "Hé"})), event(BUSY))
        else:
            delta = {"index": 0, "delta": {"content": "Hé"}, "finish_reason": None}
            failure = {"error": {"message": "x", "type": "overloaded_error", "code": "overloaded"}}
            await exchange.stream(event({"id": "c", "choices": [delta]}), event(failure))

    running, _ = ground.before(says, dialect)
    heard: list[str | None] = []
    with pytest.raises(errors.ServerError) as raised:
        heard.extend(each.text for each in gemini_at(running).models.generate_content_stream(model="m", contents="x"))
    assert heard == ["Hé"]
    assert (raised.value.code, raised.value.status) == (503, "UNAVAILABLE")


def test_a_stream_that_is_cut_is_no_clean_end(ground: Ground, gemini_at: GeminiClient) -> None:
    async def says(exchange: Exchange) -> None:
        await exchange.stream(event(reply_of({"text": "Hé"}, usageMetadata=COUNTS)))

    running, _ = ground.before(says, "gemini")
    with pytest.raises(errors.ServerError) as raised:
        asked(gemini_at(running), True)
    assert raised.value.code == 502


def test_leaving_early_lets_the_provider_go(ground: Ground, gemini_at: GeminiClient) -> None:
    async def says(exchange: Exchange) -> None:
        await exchange.head(Transfer_Encoding="chunked")
        await exchange.chunk(event(reply_of({"text": "Hé"})))
        await exchange.closed.wait()

    running, provider = ground.before(says, "gemini")
    ai = gemini_at(running)
    events: Any = ai.models.generate_content_stream(model="m", contents="x")
    assert next(events).text == "Hé"
    events.close()
    ai.close()
    ground.left(provider.exchanges[0])


# What it warns of is what it does itself, where aiohttp is there.
@pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")
async def test_the_async_client_streams_too() -> None:
    async with gateway(demo_config()) as running:
        async with client_at(running.url).aio as ai:
            stream = await ai.models.generate_content_stream(model="demo", contents="Hello")
            events = [each async for each in stream]
            whole = await ai.models.generate_content(model="demo", contents="Hello")
    assert said(events) == said([whole])
    assert used(events) == used([whole])
    await asyncio.sleep(0)


# --- by hand: paths, keys, arrays -------------------------------------------------------------------------------------

ASK: dict[str, Any] = {"contents": [{"parts": [{"text": "hi"}]}]}


def open_json(url: str, body: Any, **headers: str) -> Any:
    request = urllib.request.Request(  # our own loopback URL
        url, data=msgspec.json.encode(body), headers={"content-type": "application/json", **headers}
    )
    return urllib.request.urlopen(request, timeout=10)


def post(running: Running, path: str, body: Any, **headers: str) -> Any:
    with open_json(running.url + path, body, **headers) as reply:
        return json.load(reply)


def refused(running: Running, path: str, body: Any, **headers: str) -> tuple[int, Any]:
    with pytest.raises(urllib.error.HTTPError) as raised:
        open_json(running.url + path, body, **headers)
    with raised.value as reply:
        return reply.code, json.load(reply)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models/m",
        "/v1beta/models/m",
        "/v1alpha/models/m",
        "/models/m",
        "/v1beta/models/a/b",
        "/v1beta/a/b",
        "/v1beta1/projects/p/locations/l/publishers/google/models/m",
    ],
)
def test_paths_that_clients_ask_at(demo: Running, path: str) -> None:
    if "a/b" in path:
        code, body = refused(demo, path + ":generateContent", ASK)
        assert (code, body["error"]["message"]) == (404, "The model `a/b` does not exist.")
        return
    demo_path = path.removesuffix("m") + "demo"
    assert post(demo, demo_path + ":generateContent", ASK)["candidates"]


def test_a_name_with_a_colon_ends_at_the_last_one(demo: Running) -> None:
    code, body = refused(demo, "/v1beta/models/a:b:generateContent", ASK)
    assert (code, body["error"]["message"]) == (404, "The model `a:b` does not exist.")
    code, body = refused(demo, "/v1beta/models/demo:predict", ASK)
    assert (code, body["error"]["status"]) == (404, "NOT_FOUND")


@pytest.mark.parametrize("name", ["..%2Fx", "a%2F..%2Fb", "x%3Fkey=1", "a%23b", "%2e%2e/cachedContents"])
def test_no_name_leads_the_gateways_key_elsewhere(ground: Ground, name: str) -> None:
    async def says(exchange: Exchange) -> None:
        await exchange.reply(msgspec.json.encode(reply_of({"text": "x"}, finish="STOP")))

    provider = ground.provider(says)
    one = {"dialect": "gemini", "base_url": provider.url, "api_key": "k"}
    config = {"providers": {"p": one}, "models": {"*": [{"provider": "p"}]}, "pipelines": {"main": {}}}
    running = ground.gateway(config)
    with suppress(urllib.error.HTTPError):
        open_json(f"{running.url}/v1beta/models/{name}:generateContent", ASK).close()
    for exchange in provider.exchanges:
        assert exchange.path.startswith("/v1beta/models/")
        assert ".." not in exchange.path
        assert "?" not in exchange.path


def test_a_key_in_the_url_is_refused_naming_the_header(demo: Running) -> None:
    code, body = refused(demo, "/v1beta/models/demo:generateContent?key=abc", ASK)
    assert code == 400
    assert "x-goog-api-key" in body["error"]["message"]
    assert "abc" not in json.dumps(body)


def test_without_alt_sse_a_stream_is_an_array(demo: Running) -> None:
    with open_json(demo.url + "/v1beta/models/demo:streamGenerateContent", ASK) as reply:
        assert reply.headers["content-type"].startswith("application/json")
        told = json.load(reply)
    assert len(told) > 2
    assert told[-1]["candidates"][0]["finishReason"] == "STOP"
    code, body = refused(demo, "/v1beta/models/nobody:streamGenerateContent", ASK)
    assert (code, body[0]["error"]["status"]) == (404, "NOT_FOUND")


def test_an_array_is_one_however_its_events_come(ground: Ground) -> None:
    """One by one, after the head has left: by the shorter way of the relay too."""

    async def says(exchange: Exchange) -> None:
        await exchange.head(Transfer_Encoding="chunked")
        for letter in TEXT:
            await exchange.chunk(event(reply_of({"text": letter})))
            await asyncio.sleep(0.01)
        await exchange.chunk(event(reply_of({"text": ""}, finish="STOP")))
        await exchange.chunk(b"")

    running, _ = ground.before(says, "gemini")
    told = post(running, "/v1beta/models/m:streamGenerateContent", ASK)
    assert len(told) == len(TEXT) + 1
    assert "".join(each["candidates"][0]["content"]["parts"][0]["text"] for each in told) == TEXT


def test_an_array_that_is_cut_ends_with_an_error(ground: Ground) -> None:
    async def says(exchange: Exchange) -> None:
        await exchange.stream(event(reply_of({"text": "Hé"}, unknown={"kept": [1, 2.5]})))

    running, provider = ground.before(says, "gemini")
    told = post(running, "/v1beta/models/m:streamGenerateContent", ASK)
    assert provider.exchanges[0].path.endswith(":streamGenerateContent?alt=sse")
    assert told[0]["unknown"] == {"kept": [1, 2.5]}
    assert told[1]["error"]["code"] == 502


def test_what_nobody_knows_goes_on_both_ways(ground: Ground) -> None:
    whole = reply_of({"text": "x", "ofTomorrow": 1.50}, finish="STOP", ofTomorrow={"a": [1.0]})

    async def says(exchange: Exchange) -> None:
        if "alt=sse" in exchange.path:
            await exchange.stream(event(whole))
        else:
            await exchange.reply(b" " + msgspec.json.encode(whole))

    running, provider = ground.before(says, "gemini")
    body = {**ASK, "generation_config": {"top_k": 2.0, "of_tomorrow": True}, "tomorrow": [1.0], "safetySettings": []}
    with open_json(running.url + "/v1/models/m:generateContent", body) as reply:
        assert reply.read() == b" " + msgspec.json.encode(whole)
    sent = provider.exchanges[0].json
    assert sent == {
        **{k: v for k, v in body.items() if k != "generation_config"},
        "generationConfig": body["generation_config"],
    }
    with open_json(running.url + "/v1/models/m:streamGenerateContent?alt=sse", body) as reply:
        assert reply.read() == event(whole)


def test_a_body_with_a_field_in_both_cases_is_refused(demo: Running) -> None:
    body = {**ASK, "generationConfig": {}, "generation_config": {}}
    code, told = refused(demo, "/v1beta/models/demo:generateContent", body)
    assert (code, told["error"]["status"]) == (400, "INVALID_ARGUMENT")


@both
def test_plugins_mean_the_same(ground: Ground, gemini_at: GeminiClient, stream: bool) -> None:
    """An edit of the text, between calls that keep their signatures."""
    running, _ = ground.before(gemini_says, "gemini", plugins=({"use": "tests.tapping:Shouting"},))
    events = asked(gemini_at(running), stream)
    assert said(events) == (TEXT.upper(), CALLED)
    assert used(events) == USED
    signed = [part.thought_signature for part in parts_of(events) if part.function_call]
    assert signed == [b"signed by it", None]


@both
def test_the_schema_plugin_holds_replies_to_the_format(ground: Ground, gemini_at: GeminiClient, stream: bool) -> None:
    async def says(exchange: Exchange) -> None:
        whole = reply_of({"text": "no JSON"}, finish="STOP", usageMetadata=COUNTS)
        await (exchange.stream(event(whole)) if stream else exchange.reply(msgspec.json.encode(whole)))

    running, _ = ground.before(says, "gemini", plugins=({"use": "structured_output"},))
    config = types.GenerateContentConfig(response_mime_type="application/json", response_schema=City)
    with pytest.raises(errors.ClientError) as raised:
        asked(gemini_at(running), stream, config=config)
    assert raised.value.code == 422


class Refusing(Plugin[None]):
    """Says no to the third word."""

    async def __call__(self, call: Call, handler: Handler) -> Reply:
        seen: list[str] = []

        def see(chunk: Chunk) -> None:
            seen.extend(chunk.text)
            if len(seen) > 2:
                raise Refusal(403, "not_here", "Not on this route.")

        call.tap(see)
        return await handler(call)


@both
def test_a_plugin_may_refuse(ground: Ground, gemini_at: GeminiClient, stream: bool) -> None:
    """In mid-stream it is an event, which the client raises all the same."""
    refusing: tuple[Any, ...] = ({"use": "tests.sdk.test_gemini:Refusing"},)
    running, _ = ground.before(gemini_says, "gemini", plugins=refusing)
    with pytest.raises(errors.ClientError) as raised:
        asked(gemini_at(running), stream)
    assert (raised.value.code, raised.value.status) == (403, "PERMISSION_DENIED")
    reasons = [each.get("reason") for each in raised.value.details["error"]["details"]]
    assert reasons == ["NOT_HERE"]


def test_a_tap_sees_what_the_client_gets_as_it_came(ground: Ground, gemini_at: GeminiClient) -> None:
    running, _ = ground.before(gemini_says, "gemini", plugins=({"use": "tests.tapping:Tapping"},))
    events = asked(gemini_at(running), True)
    assert said(events) == (TEXT, CALLED)
    (pipeline,) = running.service.plugins.values()
    (tapping,) = [each.plugin for each in pipeline.plugins]
    assert isinstance(tapping, Tapping)
    assert tapping.texts == [TEXT]


async def test_no_comment_of_a_plugin_is_in_the_stream() -> None:
    config = demo_config()
    config["pipelines"] = {"main": {"plugins": [{"use": "cost"}]}}
    async with gateway(config) as running, aiohttp.ClientSession() as http:
        url = running.url + "/v1beta/models/demo:streamGenerateContent?alt=sse"
        async with http.post(url, json=ASK) as reply:
            body = await reply.read()
    assert all(line.startswith(b"data: ") for line in body.split(b"\n\n") if line)


# --- recordings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", RECORDED)
def test_a_recorded_reply_is_read_alike(ground: Ground, gemini_at: GeminiClient, case: Case) -> None:
    """Straight from the provider, and through the gateway."""

    running, provider = ground.before(partial(play, case=case), "gemini")
    stream = case.stream or case.body.lstrip().startswith(b"[")

    def heard(url: str) -> tuple[list[Any], Any]:
        told: list[Any] = []
        with client_at(url) as ai:
            try:
                if stream:
                    told.extend(ai.models.generate_content_stream(model="m", contents="x"))
                else:
                    told.append(ai.models.generate_content(model="m", contents="x"))
            except errors.APIError as error:
                return told, (type(error), error.code, error.status)
            except Exception as error:
                # What the client cannot read from the provider itself, such as enums that are numbers.
                return told, type(error)
        return [each.model_dump(mode="json", exclude={"sdk_http_response"}) for each in told], "ended"

    straight, through = heard(provider.url), heard(running.url)
    if isinstance(straight[1], tuple) or straight[1] == "ended":
        assert through[1] == straight[1]
    if straight[1] == "ended":
        assert through == straight


def test_a_hard_budget_limits_the_reply_in_geminis_words(ground: Ground) -> None:
    budget = {"name": "all", "amount_usd": 1, "period": "day"}
    settings = {"prices": {"real": {"input": 1, "output": 2}}, "budgets": [budget], "default_max_tokens": 99}
    running, provider = ground.before(gemini_says, "gemini", plugins=({"use": "cost", "settings": settings},))
    schema = {"type": "OBJECT", "propertyOrdering": ["b", "a"]}
    config: dict[str, Any] = {"response_mime_type": "application/json", "response_schema": schema, "topK": 2.0}
    post(running, "/v1beta/models/m:generateContent", {**ASK, "generation_config": config})
    assert provider.exchanges[0].json == {**ASK, "generationConfig": {**config, "maxOutputTokens": 99}}
