"""OpenAI's own client and its Responses: before the demo provider, and before providers of each dialect."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Mapping
from typing import Any

import msgspec
import openai
import pytest
from msgspec import structs
from openai.types.responses import Response, ResponseFunctionToolCall
from pydantic import BaseModel

from sidegate.contract import Call, Chunk, Ending, Handler, Plugin, Reply, Text
from sidegate.contract.meaning import Message, TextContent
from sidegate.contract.stages import Chunks
from sidegate.errors import Refusal
from sidegate.testing import Exchange, Running
from sidegate.testing.voices import WORDS, ResponsesVoice
from tests.sdk.conftest import AnthropicClient, OpenAIClient
from tests.sdk.ground import Ground
from tests.sdk.scripts import CALLS, TEXT, USED, openai_says
from tests.sdk.speaking import SPEAKERS, responses_events, responses_says, responses_whole

both = pytest.mark.parametrize("stream", [True, False], ids=["stream", "buffered"])
QUESTION = "Où est le café? ☕"
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
WEATHER: Any = {"type": "function", "name": "weather", "parameters": CITY, "strict": True}
VOICE = ResponsesVoice()


class City(BaseModel):
    city: str
    population: int


each_provider = pytest.mark.parametrize("dialect", ["openai_responses", "openai", "anthropic"])


def called(response: Response) -> list[tuple[str, str, Any]]:
    calls = [item for item in response.output if isinstance(item, ResponseFunctionToolCall)]
    return [(call.call_id, call.name, json.loads(call.arguments)) for call in calls]


def ask(ai: Any, stream: bool, **asked: Any) -> Any:
    """The final response, streamed or not."""
    if not stream:
        return ai.responses.create(**asked)
    with ai.responses.stream(**asked) as events:
        return events.get_final_response()


# --- before the demo provider -----------------------------------------------------------------------------------------


def test_a_stream_says_what_the_whole_reply_says(demo: Running, openai_at: OpenAIClient) -> None:
    ai = openai_at(demo)
    whole = ai.responses.create(model="demo", input=QUESTION)
    events = list(ai.responses.create(model="demo", input=QUESTION, stream=True))
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == whole.output_text
    assert QUESTION in text
    assert [event.sequence_number for event in events] == list(range(len(events)))
    last = events[-1]
    assert last.type == "response.completed"
    assert (last.response.output_text, last.response.usage) == (text, whole.usage)
    assert whole.status == "completed"
    assert whole.usage is not None
    assert whole.usage.total_tokens == whole.usage.input_tokens + whole.usage.output_tokens
    assert whole._request_id


@both
def test_a_tool_is_called_and_its_result_is_heard(demo: Running, openai_at: OpenAIClient, stream: bool) -> None:
    ai = openai_at(demo)
    first = ask(ai, stream, model="demo", input=QUESTION, tools=[WEATHER])
    [(call_id, name, arguments)] = called(first)
    assert name == "weather"
    assert arguments.keys() == {"city", "days"}
    given = {"type": "function_call_output", "call_id": call_id, "output": "22 degrees"}
    again: Any = [{"role": "user", "content": QUESTION}, *(item.to_dict() for item in first.output), given]
    assert "22 degrees" in ask(ai, stream, model="demo", input=again, tools=[WEATHER]).output_text


def test_an_answer_of_a_shape_is_parsed(demo: Running, openai_at: OpenAIClient) -> None:
    ai = openai_at(demo)
    whole = ai.responses.parse(model="demo", input=QUESTION, text_format=City)
    assert isinstance(whole.output_parsed, City)
    with ai.responses.stream(model="demo", input=QUESTION, text_format=City) as events:
        assert events.get_final_response().output_parsed == whole.output_parsed


def test_a_limit_leaves_the_response_incomplete(demo: Running, openai_at: OpenAIClient) -> None:
    ai = openai_at(demo)
    whole = ai.responses.create(model="demo", input=QUESTION, max_output_tokens=3)
    assert whole.status == "incomplete"
    assert whole.incomplete_details is not None
    assert whole.incomplete_details.reason == "max_output_tokens"
    *_, last = ai.responses.create(model="demo", input=QUESTION, max_output_tokens=3, stream=True)
    assert last.type == "response.incomplete"


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"background": True}, "background"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"temperature": 9}, "temperature"),
        ({"model": "nothing"}, "nothing"),
    ],
)
def test_what_cannot_be_is_refused_and_named(
    demo: Running, openai_at: OpenAIClient, fields: dict[str, Any], name: str
) -> None:
    asked: Any = {"model": "demo", "input": QUESTION, **fields}
    with pytest.raises((openai.BadRequestError, openai.NotFoundError), match=name):
        openai_at(demo).responses.create(**asked)


# --- before providers of each dialect ---------------------------------------------------------------------------------


@both
@each_provider
def test_any_provider_is_heard(ground: Ground, openai_at: OpenAIClient, dialect: str, stream: bool) -> None:
    running, provider = ground.before(SPEAKERS[dialect], dialect)
    response = ask(
        openai_at(running), stream, model="m", input=QUESTION, instructions="Be brief.", tools=[WEATHER], user="u"
    )
    assert response.output_text == TEXT
    assert called(response) == [(call_id, name, json.loads(arguments)) for call_id, name, arguments in CALLS]
    assert response.status == "completed"
    assert (response.usage.input_tokens, response.usage.output_tokens) == USED
    sent = provider.exchanges[0].json
    assert sent["model"] == "real"
    assert "Be brief." in json.dumps(sent)
    if not stream:  # The helper of streams does not tell the id.
        assert ground.record(running, response._request_id)["input_tokens"] == USED[0]


def posted(running: Running, **asked: Any) -> tuple[str, Mapping[str, str]]:
    """The reply's bytes, which the client does not show of a stream, and its headers."""
    body = json.dumps({"model": "m", "input": QUESTION, **asked}).encode()
    asking = urllib.request.Request(f"{running.url}/v1/responses", body, {"content-type": "application/json"})
    with urllib.request.urlopen(asking, timeout=20) as reply:  # our own loopback URL
        return reply.read().decode(), dict(reply.headers)


@both
def test_unknown_fields_pass_where_both_speak_it(ground: Ground, stream: bool) -> None:
    passing = {"drain": 1, "unknown_responses": "pass"}
    running, provider = ground.before(responses_says, "openai_responses", server=passing)
    tools = [{"type": "web_search"}]
    body, headers = posted(running, stream=stream, previous_response_id="resp_0", new_field=[1], tools=tools)
    if stream:
        assert body.encode() == b"".join(responses_events())
    else:
        assert body.encode() == msgspec.json.encode(responses_whole())
    sent = provider.exchanges[0].json
    assert (sent["previous_response_id"], sent["new_field"], sent["tools"]) == ("resp_0", [1], tools)
    assert "x-sidegate-dropped" not in headers


@both
def test_chats_are_asked_of_a_provider_of_responses(ground: Ground, openai_at: OpenAIClient, stream: bool) -> None:
    running, provider = ground.before(responses_says, "openai_responses")
    ai = openai_at(running)
    asked: Any = {"model": "m", "messages": [{"role": "user", "content": QUESTION}], "seed": 3, "max_tokens": 50}
    if stream:
        with ai.chat.completions.stream(**asked, stream_options={"include_usage": True}) as events:
            reply: Any = events.get_final_completion()
    else:
        reply = ai.chat.completions.create(**asked)
    message = reply.choices[0].message
    assert message.content == TEXT
    assert [call.function.name for call in message.tool_calls] == [name for _, name, _ in CALLS]
    assert reply.choices[0].finish_reason == "tool_calls"
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == USED
    assert reply.usage.prompt_tokens_details.cached_tokens == 3
    sent = provider.exchanges[0].json
    assert (sent["max_output_tokens"], sent["store"]) == (50, False)
    assert sent["input"] == [{"type": "message", "role": "user", "content": QUESTION}]


@both
def test_anthropics_client_hears_responses(ground: Ground, anthropic_at: AnthropicClient, stream: bool) -> None:
    running, _ = ground.before(responses_says, "openai_responses")
    ai = anthropic_at(running)
    asked: Any = {"model": "m", "max_tokens": 50, "messages": [{"role": "user", "content": QUESTION}]}
    if stream:
        with ai.messages.stream(**asked) as events:
            reply: Any = events.get_final_message()
    else:
        reply = ai.messages.create(**asked)
    text, *tools = reply.content
    assert text.text == TEXT
    assert [(tool.id, tool.name, tool.input) for tool in tools] == [(i, n, json.loads(a)) for i, n, a in CALLS]
    assert (reply.stop_reason, reply.usage.output_tokens) == ("tool_use", USED[1])


def test_a_provider_of_both_is_asked_in_the_clients_own_words(ground: Ground, openai_at: OpenAIClient) -> None:
    async def says(exchange: Exchange) -> None:
        await (responses_says if exchange.path.endswith("/responses") else openai_says)(exchange)

    provider = ground.provider(says)
    config = {
        "providers": {"p": {"dialect": "openai", "base_url": provider.url, "api_key": "k", "responses": True}},
        "models": {"m": {"provider": "p"}},
        "pipelines": {"main": {"plugins": []}},
    }
    ai = openai_at(ground.gateway(config))
    assert ai.responses.create(model="m", input="x").output_text == TEXT
    assert ai.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}]).choices
    assert [exchange.path for exchange in provider.exchanges] == ["/responses", "/chat/completions"]


def test_what_another_dialect_does_not_have_is_named_or_refused(ground: Ground, openai_at: OpenAIClient) -> None:
    running, provider = ground.before(openai_says)
    ai = openai_at(running)
    raw = ai.responses.with_raw_response.create(model="m", input="x", truncation="auto", store=True)
    assert raw.headers["x-sidegate-dropped"] == "store, truncation"
    with pytest.raises(openai.BadRequestError) as caught:
        ai.responses.create(model="m", input="x", tools=[{"type": "web_search"}])
    assert (caught.value.param, caught.value.code) == ("tools", "unsupported_field")
    assert len(provider.exchanges) == 1


# --- failures ---------------------------------------------------------------------------------------------------------


@both
@each_provider
@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, openai.BadRequestError), (429, openai.RateLimitError), (500, openai.InternalServerError)],
)
def test_a_providers_status_becomes_the_clients_exception(
    ground: Ground, openai_at: OpenAIClient, dialect: str, stream: bool, status: int, kind: type[openai.APIStatusError]
) -> None:
    async def refuses(exchange: Exchange) -> None:
        await exchange.reply(json.dumps({"error": {"message": "Said by it."}}).encode(), status, Retry_After="17")

    running, _ = ground.before(refuses, dialect)
    with pytest.raises(kind) as caught:
        openai_at(running).responses.create(model="m", input="x", stream=stream)
    assert ("Said by it." in caught.value.message) == (status < 500)
    assert caught.value.response.headers.get("retry-after") == (None if status == 400 else "17")


@pytest.mark.parametrize("how", ["cut", "error", "nonsense"])
def test_a_stream_that_breaks_off_is_an_error(ground: Ground, openai_at: OpenAIClient, how: str) -> None:
    last = {"cut": [], "error": [VOICE.failure_event("It broke.")], "nonsense": [b"data: {nonsense\n\n"]}[how]

    async def breaks(exchange: Exchange) -> None:
        await exchange.stream(*VOICE.begins(*WORDS[:2]), *last)

    running, _ = ground.before(breaks, "openai_responses")
    seen: list[str] = []
    events = openai_at(running).responses.create(model="m", input="x", stream=True)
    with pytest.raises(openai.APIError) as caught:
        seen.extend(each.delta for each in events if each.type == "response.output_text.delta")
    assert "".join(seen) == WORDS[0] + WORDS[1]
    assert caught.value.code in ("provider_cut", "provider_error", "provider_bad_reply")
    with pytest.raises((openai.APIError, RuntimeError)):
        ask(openai_at(running), True, model="m", input="x")


def test_a_stream_closed_early_closes_the_providers_connection(ground: Ground, openai_at: OpenAIClient) -> None:
    async def endless(exchange: Exchange) -> None:
        await exchange.head(Transfer_Encoding="chunked")
        await exchange.chunk(b"".join(VOICE.begins(*WORDS)))
        await exchange.closed.wait()

    running, provider = ground.before(endless, "openai_responses")
    raw = openai_at(running).responses.with_raw_response.create(model="m", input="x", stream=True)
    with raw.parse() as stream:
        next(iter(stream))
    ground.left(provider.exchanges[0])
    record = ground.record(running, raw.headers["x-request-id"])
    assert (record["ending"], record["estimated"]) == ("client_gone", True)


# --- plugins ----------------------------------------------------------------------------------------------------------


class Shout(Plugin[None]):
    """Says everything in capitals, and each piece only when the next has come."""

    async def __call__(self, call: Call, handler: Handler) -> Reply:
        call.change(_Late())
        return await handler(call)


class _Late:
    def __init__(self) -> None:
        self._held: Text | None = None

    def see(self, chunk: Chunk) -> Chunks:
        if not chunk.text:
            held, self._held = self._held, None
            return [chunk] if held is None else [Chunk.of(held), chunk]
        [part] = [part for part in chunk.parts if isinstance(part, Text)]
        before, self._held = self._held, Text(part.text.upper(), part.choice, part.block)
        return [] if before is None else [chunk.with_parts([before])]

    def end(self, ending: Ending) -> Chunks:
        return [] if self._held is None else [Chunk.of(self._held)]


class Briefed(Plugin[None]):
    """Sets a limit, and says something before all else."""

    async def __call__(self, call: Call, handler: Handler) -> Reply:
        asked = call.request
        brief = Message("system", (TextContent("Be brief."),))
        call.request = structs.replace(asked, max_tokens=9, messages=(brief, *asked.messages))
        return await handler(call)


class Censor(Plugin[None]):
    """Says no to the fox."""

    async def __call__(self, call: Call, handler: Handler) -> Reply:
        def see(chunk: Chunk) -> None:
            if "🦊" in chunk.text:
                raise Refusal(403, "no_foxes", "No foxes here.")

        call.tap(see)
        return await handler(call)


@both
@each_provider
def test_an_edit_holds_in_every_event(ground: Ground, dialect: str, stream: bool) -> None:
    running, _ = ground.before(SPEAKERS[dialect], dialect, plugins=({"use": f"{__name__}:Shout"},))
    body, _ = posted(running, stream=stream)
    assert "rüße" not in body
    if stream:
        events = [json.loads(line[6:]) for line in body.splitlines() if line.startswith("data: ")]
        said = "".join(each["delta"] for each in events if each["type"] == "response.output_text.delta")
        assert said == TEXT.upper()
        assert [each["text"] for each in events if each["type"] == "response.output_text.done"] == [TEXT.upper()]
        whole = events[-1]["response"]
    else:
        whole = json.loads(body)
    message, *calls = whole["output"]
    assert [piece["text"] for piece in message["content"]] == [TEXT.upper()]
    given = [json.loads(call["arguments"]) for call in calls]
    assert given == [json.loads(arguments) for _, _, arguments in CALLS]


@each_provider
def test_a_changed_request_is_what_is_asked(ground: Ground, dialect: str) -> None:
    running, provider = ground.before(SPEAKERS[dialect], dialect, plugins=({"use": f"{__name__}:Briefed"},))
    given = [{"role": "user", "content": [{"type": "input_text", "text": "x"}], "id": "msg_0"}]
    # Search is the provider's own: another vendor's is not asked without it.
    tools = [{"type": "web_search"}, WEATHER] if dialect == "openai_responses" else [WEATHER]
    posted(running, input=given, truncation="auto", tools=tools)
    sent = provider.exchanges[0].json
    assert "Be brief." in json.dumps(sent)
    assert 9 in (sent.get("max_output_tokens"), sent.get("max_tokens"))
    if dialect == "openai_responses":
        assert sent["instructions"] == "Be brief."
        # What nobody changed is as it came.
        assert (sent["input"], sent["truncation"]) == (given, "auto")
        assert sent["tools"] == tools


@both
@each_provider
def test_a_refusal_stops_the_reply(ground: Ground, openai_at: OpenAIClient, dialect: str, stream: bool) -> None:
    running, _ = ground.before(SPEAKERS[dialect], dialect, plugins=({"use": f"{__name__}:Censor"},))
    ai = openai_at(running)
    if not stream:
        with pytest.raises(openai.PermissionDeniedError):
            ai.responses.create(model="m", input="x")
        return
    seen: list[str] = []
    with pytest.raises(openai.APIError) as caught:
        seen.extend(map(str, ai.responses.create(model="m", input="x", stream=True)))
    assert "🦊" not in "".join(seen)
    assert caught.value.code == "no_foxes"
