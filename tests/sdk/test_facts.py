"""What real clients send and need that gateways get wrong: a fact a test, by the client itself or by its very words."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import closing
from hashlib import sha256
from typing import Any

import anthropic
import openai
import pytest
from google import genai
from google.genai import errors, types

from sidegate.testing import Exchange
from sidegate.testing.voices import VOICES, WORDS
from tests.node.stage import DIALECTS, Stage
from tests.sdk.ground import Ground
from tests.sdk.plain import asked
from tests.sdk.scripts import CALLS
from tests.sdk.scripts import TEXT as SAID
from tests.sdk.speaking import SPEAKERS

HI = [{"role": "user", "content": "hi"}]
PARTS = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}
KEY = "good-key"
OLD, NEW = "2023-06-01", "2026-10-21"

each_provider = pytest.mark.parametrize("dialect", DIALECTS)


def made(ground: Ground, **config: Any) -> Stage:
    """A gateway that asks for a key, before a provider of each dialect."""
    key = {"name": "app", "digest": "sha256:" + sha256(KEY.encode()).hexdigest()}
    return Stage(
        ground,
        pipelines={"main": {"plugins": [{"use": "api_key", "settings": {"keys": [key]}}]}},
        models={
            **{name: {"provider": name, "model": "real"} for name in DIALECTS},
            "team/fine:tuned": {"provider": "gemini", "model": "real"},
        },
        **config,
    )


@pytest.fixture(scope="module")
def _stage() -> Iterator[Stage]:
    with closing(Ground()) as ground:
        yield made(ground)


@pytest.fixture(scope="module")
def lively() -> Iterator[Stage]:
    """One that shows signs of life all the time."""
    with closing(Ground()) as ground:
        yield made(ground, server={"heartbeat": 0.02, "drain": 1})


@pytest.fixture
def stage(_stage: Stage) -> Stage:
    _stage.reset()
    return _stage


def messages(**more: Any) -> dict[str, Any]:
    return {"model": "anthropic", "max_tokens": 9, "messages": HI, **more}


# --- keys and versions ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [OLD, NEW])
@pytest.mark.parametrize("header", ["authorization", "x-api-key"])
def test_anthropics_route_takes_a_bearer_key_and_an_x_api_key_of_either_version(
    stage: Stage, header: str, version: str
) -> None:
    key = f"Bearer {KEY}" if header == "authorization" else KEY
    url = f"{stage.url}/v1/messages"
    assert asked(url, messages(), **{header: key, "anthropic-version": version}).status == 200
    sent = stage.asked("anthropic").headers
    assert sent["anthropic-version"] == version, "both of a kind: the client's version is the provider's"
    assert KEY not in str(sent)
    wrong = asked(url, messages(), **{header: f"{key}-not", "anthropic-version": version})
    assert (wrong.status, wrong.json["error"]["type"]) == (401, "authentication_error")


def test_anthropics_client_sends_its_key_as_bearer_and_the_version_of_2026(stage: Stage) -> None:
    with anthropic.Anthropic(base_url=stage.url, api_key=KEY, max_retries=0) as ai:
        ai.messages.create(model="anthropic", max_tokens=9, messages=[{"role": "user", "content": "hi"}])
    assert stage.asked("anthropic").headers["anthropic-version"] == NEW


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1beta/models/anthropic:generateContent"])
def test_a_temperature_from_another_dialect_reaches_anthropic_at_a_version_that_takes_it(
    stage: Stage, path: str
) -> None:
    """The version of 2026 answers 400 to `temperature`, `top_p` and `top_k`, even at their defaults."""
    body: Any = {"model": "anthropic", "messages": HI, "temperature": 0.3}
    if "beta" in path:
        body = {**PARTS, "generationConfig": {"temperature": 0.3, "topK": 5}}
    assert asked(stage.url + path, body, authorization=f"Bearer {KEY}", x_goog_api_key=KEY).status == 200
    sent = stage.asked("anthropic")
    assert sent.json["temperature"] == 0.3
    assert sent.headers["anthropic-version"] == OLD


# --- paths ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["/v1", "/v1beta", "/v1alpha", ""])
@each_provider
def test_googles_clients_ask_at_v1_and_v1beta_and_without_a_version(stage: Stage, dialect: str, version: str) -> None:
    url = f"{stage.url}{version}/models/{dialect}"
    whole = asked(f"{url}:generateContent", PARTS, x_goog_api_key=KEY)
    assert whole.json["candidates"][0]["content"]["parts"][0]["text"] == SAID
    stream = asked(f"{url}:streamGenerateContent?alt=sse", PARTS, x_goog_api_key=KEY)
    assert (stream.status, stream.headers["content-type"]) == (200, "text/event-stream")


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models/team/fine:tuned:generateContent",
        "/v1beta/models/team/fine:tuned:generateContent",
        "/v1beta/team/fine:tuned:generateContent",
        "/v1beta/models/team%2Ffine%3Atuned:generateContent",
    ],
    ids=["google-genai", "with-beta", "ai-sdk-drops-models", "escaped"],
)
def test_a_model_of_gemini_may_hold_slashes_and_colons(stage: Stage, path: str) -> None:
    assert asked(stage.url + path, PARTS, x_goog_api_key=KEY).status == 200
    assert stage.asked("gemini").path == "/v1beta/models/real:generateContent"


MODELS_ASKED: dict[str, tuple[str, dict[str, str], str]] = {
    "openai": ("", {"authorization": f"Bearer {KEY}"}, "object"),
    "anthropic-2.x": ("", {"authorization": f"Bearer {KEY}", "anthropic-version": NEW}, "has_more"),
    "anthropic-older": ("", {"x-api-key": KEY, "anthropic-version": OLD}, "has_more"),
    "google-genai": ("", {"x-goog-api-key": KEY}, "models"),
    "google-by-its-name": ("", {"x-goog-api-client": "google-genai-sdk/3.4.0", "x-goog-api-key": KEY}, "models"),
}


@pytest.mark.parametrize("client", MODELS_ASKED)
def test_one_path_lists_models_for_three_dialects(stage: Stage, client: str) -> None:
    """Auth alone does not tell OpenAI from Anthropic any more."""
    query, headers, field = MODELS_ASKED[client]
    told = asked(f"{stage.url}/v1/models{query}", **headers)
    assert told.status == 200
    assert field in told.json
    names = {str(each.get("id") or each["name"].removeprefix("models/")) for each in next(_lists(told.json))}
    assert names >= set(DIALECTS)


def _lists(body: dict[str, Any]) -> Iterator[list[Any]]:
    return (value for value in body.values() if isinstance(value, list))


# --- streams ----------------------------------------------------------------------------------------------------------

STREAMS: dict[str, tuple[str, dict[str, Any]]] = {
    "openai": ("/v1/chat/completions", {"messages": HI, "stream": True}),
    "openai_responses": ("/v1/responses", {"input": "hi", "stream": True}),
    "anthropic": ("/v1/messages", {"messages": HI, "max_tokens": 9, "stream": True}),
    "gemini": (":streamGenerateContent?alt=sse", PARTS),
}
"""What clients of each dialect ask for a stream."""

each_client = pytest.mark.parametrize("speaks", STREAMS)


def streamed(stage: Stage, speaks: str, model: str, **more: Any) -> Any:
    path, body = STREAMS[speaks]
    path = f"/v1/models/{model}{path}" if speaks == "gemini" else path
    body = body if speaks == "gemini" else {**body, "model": model, **more}
    return asked(stage.url + path, body, authorization=f"Bearer {KEY}", accept="application/json")


@each_client
@each_provider
def test_a_stream_is_one_whatever_a_client_accepts(stage: Stage, speaks: str, dialect: str) -> None:
    """SDKs say `accept: application/json` for streams, too; readers of events insist on the content type."""
    told = streamed(stage, speaks, dialect)
    assert (told.status, told.headers["content-type"].partition(";")[0]) == (200, "text/event-stream")
    assert told.events


@each_provider
def test_the_usage_chunk_comes_only_to_whom_asked_and_is_known_in_any_case(stage: Stage, dialect: str) -> None:
    """The SDKs of OpenAI leave `stream_options` to their users; langchain leaves it away before a gateway."""
    chunks = [json.loads(event["data"]) for event in streamed(stage, "openai", dialect).events[:-1]]
    assert all(chunk["choices"] and not chunk.get("usage") for chunk in chunks)
    wished = streamed(stage, "openai", dialect, stream_options={"include_usage": True})
    chunks = [json.loads(event["data"]) for event in wished.events[:-1]]
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["total_tokens"] == 9
    first, _ = stage.providers[dialect].exchanges
    if dialect == "openai":
        assert first.json["stream_options"] == {"include_usage": True}, "the gateway bills what was used"


@each_provider
def test_a_chat_ends_in_done_and_nothing_after_it(stage: Stage, dialect: str) -> None:
    told = streamed(stage, "openai", dialect)
    assert told.events[-1] == {"data": "[DONE]"}
    assert told.body.count(b"[DONE]") == 1


@each_provider
def test_responses_never_say_done_and_keep_one_identity(stage: Stage, dialect: str) -> None:
    """OpenAI's client raises "Lifecycle response identity changed" where the id of the response does."""
    told = streamed(stage, "openai_responses", dialect)
    assert b"[DONE]" not in told.body
    events = [(event["event"], json.loads(event["data"])) for event in told.events]
    assert all(name == data["type"] for name, data in events)
    assert len({data["response"]["id"] for _, data in events if "response" in data}) == 1
    assert [name for name, _ in events][0] == "response.created"
    assert [name for name, _ in events][-1] == "response.completed"


@each_provider
def test_every_event_of_anthropic_has_its_name(stage: Stage, dialect: str) -> None:
    """Its clients ignore events without one."""
    events = streamed(stage, "anthropic", dialect).events
    assert all(event["event"] == json.loads(event["data"])["type"] for event in events)
    assert (events[0]["event"], events[-1]["event"]) == ("message_start", "message_stop")


@each_provider
def test_calls_of_a_streamed_chat_are_counted_from_0_without_gaps(stage: Stage, dialect: str) -> None:
    """OpenAI's stream helper raises IndexError otherwise."""
    chunks = [json.loads(event["data"]) for event in streamed(stage, "openai", dialect).events[:-1]]
    calls = [call for chunk in chunks for call in chunk["choices"][0]["delta"].get("tool_calls") or []]
    assert sorted({call["index"] for call in calls}) == list(range(len(CALLS)))
    with openai.OpenAI(base_url=f"{stage.url}/v1", api_key=KEY, max_retries=0) as ai:
        with ai.chat.completions.stream(model=dialect, messages=[{"role": "user", "content": "hi"}]) as stream:
            message = stream.get_final_completion().choices[0].message
    assert [call.id for call in message.tool_calls or []] == [call_id for call_id, _, _ in CALLS]


# --- signs of life ----------------------------------------------------------------------------------------------------


@each_client
@each_provider
def test_a_silence_is_filled_in_the_dialects_own_way(lively: Stage, speaks: str, dialect: str) -> None:
    """A comment breaks Google's clients, which take every line that is no `data: ` for JSON."""

    async def slow(exchange: Exchange) -> None:
        voice = VOICES[dialect]
        await lively.ground.shown_alive(lively.running)
        await exchange.stream(*voice.begins(*WORDS), *voice.ends())

    async def slow_for_gemini(exchange: Exchange) -> None:
        voice = VOICES[dialect]
        await asyncio.sleep(0.15)
        await exchange.stream(*voice.begins(*WORDS), *voice.ends())

    lively.plays(dialect, slow_for_gemini if speaks == "gemini" else slow)
    told = streamed(lively, speaks, dialect)
    if speaks == "gemini":
        assert all(set(event) == {"data"} for event in told.events)
    else:
        alive = [event for event in told.events if "" in event or event.get("event") == "ping"]
        assert alive, told.body


def test_googles_client_reads_a_stream_that_was_silent_for_a_while(lively: Stage) -> None:
    async def slow(exchange: Exchange) -> None:
        await asyncio.sleep(0.15)
        await SPEAKERS["openai"](exchange)

    lively.plays("openai", slow)
    with genai.Client(api_key=KEY, http_options=types.HttpOptions(base_url=lively.url)) as ai:
        texts = [each.text or "" for each in ai.models.generate_content_stream(model="openai", contents="x")]
    assert "".join(texts) == SAID


# --- broken streams ---------------------------------------------------------------------------------------------------


@each_client
@each_provider
def test_a_reply_that_ends_early_but_cleanly_is_an_error_in_the_clients_dialect(
    stage: Stage, speaks: str, dialect: str
) -> None:
    """No SDK raises anything by itself."""

    async def stops(exchange: Exchange) -> None:
        await exchange.stream(*VOICES[dialect].begins(*WORDS[:2]))

    stage.plays(dialect, stops)
    told = streamed(stage, speaks, dialect)
    last = told.events[-1]
    said = json.loads(last["data"])
    if speaks == "anthropic":
        assert (last["event"], said["type"]) == ("error", "error")
    elif speaks == "openai_responses":
        assert last["event"] in ("error", "response.failed")
    elif speaks == "gemini":
        assert said["error"]["code"] >= 500
    else:
        assert said["error"]["code"] == "provider_cut"
    assert b"[DONE]" not in told.body


def test_each_vendors_client_raises_on_an_error_event(stage: Stage) -> None:
    async def breaks(exchange: Exchange) -> None:
        voice = VOICES["openai"]
        await exchange.stream(*voice.begins(*WORDS[:2]), voice.failure_event("It broke."))

    stage.plays("openai", breaks)
    hi: Any = HI
    with openai.OpenAI(base_url=f"{stage.url}/v1", api_key=KEY, max_retries=0) as ai:
        with pytest.raises(openai.APIError) as chat:
            list(ai.chat.completions.create(model="openai", messages=hi, stream=True))
        assert not isinstance(chat.value, openai.APIStatusError), "it has no status"
    with anthropic.Anthropic(base_url=stage.url, api_key=KEY, max_retries=0) as claude:
        with pytest.raises(anthropic.APIStatusError) as message:
            list(claude.messages.create(model="openai", max_tokens=9, messages=hi, stream=True))
        assert message.value.status_code == 200
    with genai.Client(api_key=KEY, http_options=types.HttpOptions(base_url=stage.url)) as google:
        with pytest.raises(errors.ServerError):
            list(google.models.generate_content_stream(model="openai", contents="x"))


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"detail": "Mistral says so."}', "Mistral says so."),
        (b'{"code": "x", "error": "xAI says so."}', "xAI says so."),
        (b'{"error": {"code": 422, "message": "OpenRouter says so.", "metadata": {}}}', "OpenRouter says so."),
        (b'{"error": {"code": "422", "message": "Azure says so."}}', "Azure says so."),
        (b'[{"error": {"code": 422, "message": "Gemini says so.", "status": "X"}}]', "Gemini says so."),
        (b"<html><h1>422</h1></html>", ""),
        (b"nonsense", ""),
        (b"", ""),
    ],
    ids=["mistral", "xai", "openrouter", "azure", "gemini-in-a-list", "html", "text", "empty"],
)
@each_client
def test_every_shape_of_error_is_one_of_the_clients_own(stage: Stage, speaks: str, body: bytes, words: str) -> None:
    async def refuses(exchange: Exchange) -> None:
        await exchange.reply(body, 422)

    stage.plays("openai", refuses)
    told = streamed(stage, speaks, "openai")
    assert told.status == 422
    error = told.json["error"]
    assert words in error["message"]
    assert error["message"]
    if speaks == "anthropic":
        assert (told.json["type"], told.json["request_id"]) == ("error", told.headers["request-id"])
        assert set(error) >= {"type", "message"}
    elif speaks == "gemini":
        assert (error["code"], error["status"]) == (422, "INVALID_ARGUMENT")
    else:
        assert set(error) >= {"message", "type", "param", "code"}
        assert told.headers["x-request-id"]


def test_an_empty_account_is_told_without_a_time_and_asked_once(stage: Stage) -> None:
    async def poor(exchange: Exchange) -> None:
        await exchange.reply(
            b'{"error":{"message":"No quota.","type":"insufficient_quota","code":"insufficient_quota"}}', 429
        )

    stage.plays("openai", poor)
    with openai.OpenAI(base_url=f"{stage.url}/v1", api_key=KEY, max_retries=2) as ai:
        with pytest.raises(openai.RateLimitError) as caught:
            ai.chat.completions.create(model="openai", messages=[{"role": "user", "content": "hi"}])
    assert caught.value.code == "insufficient_quota"
    assert "retry-after" not in caught.value.response.headers
    assert len(stage.providers["openai"].exchanges) == 1


SENT_BY_SDKS = {
    "x-stainless-lang": "python",
    "x-stainless-package-version": "3.54.0",
    "x-stainless-retry-count": "1",
    "x-stainless-read-timeout": "600",
    "x-stainless-helper-method": "chat.completions.stream",
    "x-stainless-raw-response": "true",
    "user-agent": "OpenAI/Python 3.54.0",
    "x-goog-api-client": "google-genai-sdk/3.4.0",
}


@each_client
@each_provider
def test_what_sdks_tell_of_themselves_neither_breaks_nor_leaks(stage: Stage, speaks: str, dialect: str) -> None:
    path, body = STREAMS[speaks]
    path = f"/v1/models/{dialect}{path}" if speaks == "gemini" else path
    body = body if speaks == "gemini" else {**body, "model": dialect}
    told = asked(stage.url + path, body, authorization=f"Bearer {KEY}", **SENT_BY_SDKS)
    assert told.status == 200
    sent = stage.asked(dialect).headers
    assert not set(SENT_BY_SDKS) - {"user-agent"} & set(sent)
    assert "OpenAI" not in sent.get("user-agent", "")
