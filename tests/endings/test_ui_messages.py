"""Pages of the AI SDK through the gateway: what they are told in each ending, by providers of each dialect."""

from __future__ import annotations

import asyncio
import json
from hashlib import sha256
from typing import Any

import aiohttp
import msgspec
import pytest
from msgspec.structs import replace

from sidegate.contract import Call, Chunk, Handler, Message, Plugin, Reply, TextContent, ToolResult, ToolUse
from sidegate.contract.meaning import BlockEnd, End, Finish, Part, Reasoning, Report, Start, Text, ToolCall, Usage
from sidegate.errors import ConfigError, Refusal
from sidegate.testing import Exchange, Script, demo_config, gateway, scripted
from sidegate.testing.voices import TEXT, VOICES, WORDS
from sidegate.wire.body import read_fields
from sidegate.wire.registry import DIALECTS
from tests.wire.saying import ENVELOPE, written
from tests.wire.ui_reading import chunks, kinds, read

SPOKEN = {
    "openai": "openai.chat",
    "openai_responses": "openai.responses",
    "anthropic": "anthropic.messages",
    "gemini": "gemini.generate",
}
each_provider = pytest.mark.parametrize("dialect", SPOKEN)
HI = {"id": "u1", "role": "user", "parts": [{"type": "text", "text": "Hi"}]}
ASKED = {"id": "c1", "model": "m", "messages": [HI], "trigger": "submit-message"}


def leads_to(url: str, dialect: str = "openai", *plugins: dict[str, Any], **config: Any) -> dict[str, Any]:
    provider = {"dialect": dialect, "base_url": url, "api_key": "sk-upstream", "retry": {"attempts": 1}}
    return {
        "providers": {"p": provider},
        "models": {"m": {"provider": "p", "model": "real"}},
        "pipelines": {"main": {"plugins": list(plugins)}},
        "server": {"drain": 1},
        **config,
    }


def saying(dialect: str, *words: str) -> Script:
    voice = VOICES[dialect]

    async def script(exchange: Exchange) -> None:
        await exchange.stream(*voice.begins(*(words or WORDS)), *voice.ends(voice.usage((7, 4))))

    return script


def begins(dialect: str, then: str = "silence") -> Script:
    """Says two words, and then falls silent, is cut, or fails."""

    async def script(exchange: Exchange) -> None:
        await exchange.head(Transfer_Encoding="chunked")
        for event in VOICES[dialect].begins(*WORDS[:2]):
            await exchange.chunk(event)
        match then:
            case "cut":
                exchange.reset()
            case "end":
                await exchange.chunk(b"")
            case "failure":
                await exchange.chunk(VOICES[dialect].failure_event("it broke"))
                await exchange.chunk(b"")
            case _:
                await exchange.closed.wait()

    return script


async def asks(http: aiohttp.ClientSession, url: str, path: str = "/api/chat", **body: Any) -> tuple[Any, bytes]:
    async with http.post(url + path, json={**ASKED, **body}) as reply:
        return reply, await reply.read()


async def until_said(reply: aiohttp.ClientResponse) -> bytes:
    found = b""
    async with asyncio.timeout(20):
        while WORDS[1].encode() not in found:
            found += await reply.content.readany()
    return found


# --- what a page reads ------------------------------------------------------------------------------------------------


@each_provider
async def test_a_page_reads_what_any_provider_says(http: aiohttp.ClientSession, dialect: str) -> None:
    async with (
        scripted(saying(dialect)) as provider,
        gateway(leads_to(provider.url, dialect, {"use": "log"})) as running,
    ):
        reply, body = await asks(http, running.url)
        (line,) = running.log.events("call")
    assert reply.status == 200
    assert reply.headers["x-vercel-ai-ui-message-stream"] == "v1"
    assert reply.headers["Content-Type"] == "text/event-stream"
    assert reply.headers["Cache-Control"] == "no-cache"
    assert reply.headers["X-Accel-Buffering"] == "no"
    seen = read(body)
    assert (seen.texts(), seen.finish, seen.ended) == (TEXT, "stop", True)
    assert seen.usage is not None
    assert (seen.usage["inputTokens"], seen.usage["outputTokens"]) == (7, 4)
    assert seen.message["metadata"]["callId"] == reply.headers["x-request-id"]
    assert (line["operation"], line["dialect"], line["ending"]) == ("chat", "ai_sdk.ui_messages", "complete")


@each_provider
async def test_text_that_is_cut_anywhere_arrives_whole(http: aiohttp.ClientSession, dialect: str) -> None:
    voice = VOICES[dialect]

    async def script(exchange: Exchange) -> None:
        await exchange.head(Transfer_Encoding="chunked")
        stream = b"".join([*voice.begins(*WORDS), *voice.ends(voice.usage((7, 4)))])
        for start in range(0, len(stream), 3):
            await exchange.chunk(stream[start : start + 3])
        await exchange.chunk(b"")

    async with scripted(script) as provider, gateway(leads_to(provider.url, dialect)) as running:
        _, body = await asks(http, running.url)
        assert read(body).texts() == TEXT
        _, body = await asks(http, running.url, streamProtocol="text")
        assert body.decode() == TEXT


THOUGHT: list[Part] = [
    Start("r1", "real-1"),
    Reasoning("Hm", block=0),
    Reasoning(block=0, signature="c2ln"),
    BlockEnd(block=0),
    Text("Let me ", block=1),
    Text("see", block=1),
    BlockEnd(block=1),
    ToolCall("", "t1", "weather", block=3),
    ToolCall('{"city":', block=3),
    ToolCall('"Oslo"}', block=3),
    BlockEnd(block=3),
    ToolCall('{"city":"Rome"}', "t2", "weather", block=4),
    BlockEnd(block=4),
    Finish("tool_calls"),
    Report(Usage(7, 4)),
    End(),
]


@each_provider
async def test_calls_come_and_their_results_go_back(http: aiohttp.ClientSession, dialect: str) -> None:
    """Thinking, two calls at once, and a page that answers them: the provider is asked with all it had said."""
    spoken = DIALECTS[SPOKEN[dialect]]
    thinks = dialect != "openai"

    async def script(exchange: Exchange) -> None:
        if len(provider.exchanges) > 1:
            await saying(dialect)(exchange)
            return
        await exchange.stream(*(event for part in THOUGHT if (event := encoder.encode([part]))))

    encoder = spoken.encoder(ENVELOPE)
    tools = {"weather": {"description": "Of a city.", "inputSchema": {"type": "object"}}}
    async with scripted(script) as provider, gateway(leads_to(provider.url, dialect)) as running:
        first = read((await asks(http, running.url, tools=tools))[1])
        message = json.loads(json.dumps(first.message))
        for part in message["parts"]:
            if part["type"] == "tool-weather":
                part |= {"state": "output-available", "output": {"sky": part["input"]["city"]}}
        second = read((await asks(http, running.url, messages=[HI, message], tools=tools))[1])
    assert (first.texts(), first.texts("reasoning"), first.finish) == ("Let me see", "Hm", "tool-calls")
    assert first.calls == [("t1", "weather", {"city": "Oslo"}), ("t2", "weather", {"city": "Rome"})]
    assert second.texts() == TEXT
    assert second.message["id"] == first.message["id"], "it is the same message that goes on"
    asked, again = (
        spoken.read_request(spoken.place(read_fields(one.body), model="real", stream=True))
        for one in provider.exchanges
    )
    assert [tool.name for tool in asked.tools] == ["weather"]
    (said, answered) = again.messages[1:]
    assert said.text == "Let me see"
    uses = [piece for piece in said.content if isinstance(piece, ToolUse)]
    assert [(use.id, json.loads(use.arguments)["city"]) for use in uses] == [("t1", "Oslo"), ("t2", "Rome")]
    results = [piece for piece in answered.content if isinstance(piece, ToolResult)]
    assert [(one.id, one.content) for one in results] == [
        ("t1", (TextContent('{"sky":"Oslo"}'),)),
        ("t2", (TextContent('{"sky":"Rome"}'),)),
    ]
    if thinks:
        assert "c2ln" in provider.exchanges[1].body.decode(), "what signs the thinking goes back"


async def test_a_prompt_is_completed(http: aiohttp.ClientSession) -> None:
    async with scripted(saying("anthropic")) as provider, gateway(leads_to(provider.url, "anthropic")) as running:
        _, body = await asks(http, running.url, "/api/completion", prompt="Hi", messages=None)
        assert read(body).texts() == TEXT
        assert provider.exchanges[0].json["messages"] == [{"role": "user", "content": "Hi"}]
        reply, body = await asks(http, running.url, "/api/completion", prompt="Hi", streamProtocol="text")
        assert (reply.headers["Content-Type"], body.decode()) == ("text/plain; charset=utf-8", TEXT)


@each_provider
async def test_whoever_wants_no_stream_gets_the_message(http: aiohttp.ClientSession, dialect: str) -> None:
    async def script(exchange: Exchange) -> None:
        voice = VOICES[dialect]
        await exchange.reply(voice.whole(usage=voice.usage((7, 4))))

    async with scripted(script) as provider, gateway(leads_to(provider.url, dialect)) as running:
        reply, body = await asks(http, running.url, stream=False)
    message = json.loads(body)
    assert reply.headers["Content-Type"] == "application/json"
    assert message["parts"] == [{"type": "step-start"}, {"type": "text", "text": TEXT, "state": "done"}]
    assert message["metadata"]["finishReason"] == "stop"
    assert message["metadata"]["usage"]["totalTokens"] == 11


# --- which model ------------------------------------------------------------------------------------------------------


async def test_a_page_need_not_name_a_model(http: aiohttp.ClientSession) -> None:
    routes = [
        {"name": "a", "pipeline": "main", "prefix": "/app", "default_model": "demo"},
        {"name": "b", "pipeline": "main"},
    ]
    messages = {"messages": [HI]}
    async with gateway(demo_config(routes=routes)) as running:

        async def told(path: str, body: dict[str, Any], **headers: str) -> tuple[int, str]:
            async with http.post(running.url + path, json=body, headers=headers) as reply:
                text = await reply.text()
                if reply.status != 200:
                    return reply.status, text
                return reply.status, read(text.encode()).message["metadata"]["model"]

        assert await told("/app/api/chat", messages) == (200, "demo")
        assert await told("/app/api/completion", {"prompt": "Hi"}) == (200, "demo")
        assert await told("/app/api/chat", {**messages, "model": "demo-echo"}) == (200, "demo-echo")
        assert await told("/app/api/chat", messages, **{"x-sidegate-model": "demo-echo"}) == (200, "demo-echo")
        both = {**messages, "model": "demo-echo"}
        assert await told("/app/api/chat", both, **{"x-sidegate-model": "demo"}) == (200, "demo-echo")
        assert await told("/api/chat", messages) == (400, "model: missing")
        assert await told("/api/chat", {**messages, "model": ""}) == (400, "model: missing")
        assert await told("/api/chat", {**messages, "model": "gpt-9"}) == (404, "The model `gpt-9` does not exist.")
        for odd in ("é", "x" * 513):
            status, text = await told("/app/api/chat", messages, **{"x-sidegate-model": odd})
            assert (status, text) == (400, "x-sidegate-model: Expected the name of a model.")
        assert await told("/other/api/chat", messages) == (404, "There is nothing at this path.")


async def test_a_default_model_must_be_one() -> None:
    routes = [{"name": "a", "pipeline": "main", "default_model": "dmo"}]
    with pytest.raises(ConfigError, match=r"routes\[0\].default_model: no model is named `dmo`"):
        async with gateway(demo_config(routes=routes)):
            pass


async def test_a_route_that_serves_no_chats_has_no_such_paths(http: aiohttp.ClientSession) -> None:
    routes = [{"name": "a", "pipeline": "main", "operations": ["models"]}]
    async with gateway(demo_config(routes=routes)) as running:
        assert (await asks(http, running.url))[0].status == 404


async def test_there_is_nothing_to_resume(http: aiohttp.ClientSession) -> None:
    async with gateway(demo_config()) as running, http.get(running.url + "/api/chat/c%2F1/stream") as reply:
        assert (reply.status, await reply.read()) == (204, b"")


# --- refusals and failures --------------------------------------------------------------------------------------------


def with_keys(url: str, dialect: str = "openai") -> dict[str, Any]:
    keys = [{"name": "ann", "digest": sha256(b"ann-key").hexdigest()}]
    return leads_to(url, dialect, {"use": "api_key", "settings": {"keys": keys}})


async def test_a_refusal_before_the_first_byte_is_text_that_can_be_shown(http: aiohttp.ClientSession) -> None:
    async with scripted(saying("openai")) as provider, gateway(with_keys(provider.url)) as running:
        for path, body in (("/api/chat", ASKED), ("/api/chat", {}), ("/api/completion", {"prompt": 7})):
            async with http.post(running.url + path, json=body) as reply:
                text = await reply.text()
                assert (reply.status, reply.headers["Content-Type"]) == (401, "text/plain; charset=utf-8")
                assert text.endswith(".")
                assert "{" not in text
                assert "x-vercel-ai-ui-message-stream" not in reply.headers
        async with http.post(
            running.url + "/api/chat", json=ASKED, headers={"Authorization": "Bearer ann-key"}
        ) as reply:
            assert read(await reply.read()).texts() == TEXT
    assert len(provider.exchanges) == 1


@each_provider
async def test_what_a_provider_refuses_is_told_with_its_status(http: aiohttp.ClientSession, dialect: str) -> None:
    async def script(exchange: Exchange) -> None:
        body = VOICES[dialect].failure("Slow down.", "rate_limit_error")
        await exchange.reply(body, 429, Retry_After="7")

    async with scripted(script) as provider, gateway(leads_to(provider.url, dialect)) as running:
        reply, body = await asks(http, running.url)
    assert (reply.status, reply.headers["Retry-After"]) == (429, "7")
    assert reply.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert b"{" not in body


@each_provider
@pytest.mark.parametrize("then", ["cut", "end", "failure"])
async def test_a_provider_that_breaks_is_an_error_in_the_stream(
    http: aiohttp.ClientSession, dialect: str, then: str
) -> None:
    async with scripted(begins(dialect, then)) as provider, gateway(leads_to(provider.url, dialect)) as running:
        _, body = await asks(http, running.url)
    seen = read(body)
    assert seen.texts() == "".join(WORDS[:2]), "what was said before is not lost"
    assert seen.error
    assert (seen.finish, seen.ended) == (None, False)
    assert kinds(body)[-1] == "error"


@pytest.mark.parametrize("then", ["cut", "end", "failure"])
async def test_plain_text_that_breaks_does_not_end(http: aiohttp.ClientSession, then: str) -> None:
    async with scripted(begins("anthropic", then)) as provider, gateway(leads_to(provider.url, "anthropic")) as running:
        async with http.post(running.url + "/api/chat", json={**ASKED, "streamProtocol": "text"}) as reply:
            found = await until_said(reply)
            with pytest.raises(aiohttp.ClientPayloadError):
                await reply.read()
    assert found.decode() == "".join(WORDS[:2])


class Forbids(Plugin[None]):
    """Refuses a reply that says the second word."""

    async def __call__(self, call: Call, handler: Handler) -> Reply:
        def see(chunk: Chunk) -> None:
            if WORDS[1] in chunk.text:
                raise Refusal(403, "forbidden_word", "That is not said here.")

        call.tap(see)
        return await handler(call)


async def test_a_refusal_after_the_first_byte_is_an_error_in_the_stream(http: aiohttp.ClientSession) -> None:
    async def script(exchange: Exchange) -> None:
        first, second = VOICES["openai"].begins(WORDS[0]), VOICES["openai"].begins(*WORDS[:2])[-1]
        await exchange.head(Transfer_Encoding="chunked")
        await exchange.chunk(b"".join(first))
        await heard.wait()
        await exchange.chunk(second)
        await exchange.closed.wait()

    heard = asyncio.Event()
    plugin = {"use": f"{__name__}:Forbids"}
    async with scripted(script) as provider, gateway(leads_to(provider.url, "openai", plugin)) as running:
        async with asyncio.timeout(20), http.post(running.url + "/api/chat", json=ASKED) as reply:
            body = await reply.content.readuntil(b"text-delta")
            heard.set()
            body += await reply.read()
            await provider.exchanges[0].closed.wait()
    assert (read(body).texts(), read(body).error) == (WORDS[0], "That is not said here.")


# --- plugins see the same ---------------------------------------------------------------------------------------------


class Polite(Plugin[None]):
    """Asks for German, and answers in capitals."""

    async def __call__(self, call: Call, handler: Handler) -> Reply:
        german = Message("system", (TextContent("Answer in German."),))
        call.request = replace(call.request, messages=(german, *call.request.messages), max_tokens=99)
        call.change(self)
        return await handler(call)

    def see(self, chunk: Chunk) -> list[Chunk]:
        return [chunk.with_text(str.upper)]

    def end(self, ending: Any) -> list[Chunk]:
        return [Chunk.of(Text("!", block=1))]


@pytest.mark.parametrize("more", [{}, {"streamProtocol": "text"}], ids=["chunks", "text"])
@each_provider
async def test_a_plugin_changes_what_is_asked_and_said(
    http: aiohttp.ClientSession, dialect: str, more: dict[str, Any]
) -> None:
    plugin = {"use": f"{__name__}:Polite"}
    async with scripted(saying(dialect)) as provider, gateway(leads_to(provider.url, dialect, plugin)) as running:
        _, body = await asks(http, running.url, maxOutputTokens=5, **more)
    spoken = DIALECTS[SPOKEN[dialect]]
    asked = spoken.read_request(spoken.place(read_fields(provider.exchanges[0].body), model="real", stream=True))
    assert asked.messages[0].text == "Answer in German."
    assert asked.max_tokens == 99
    assert (body.decode() if more else read(body).texts()) == TEXT.upper() + "!"


# --- who stops --------------------------------------------------------------------------------------------------------


async def in_flight(http: aiohttp.ClientSession, url: str) -> Any:
    async with asyncio.timeout(20):
        while True:
            async with http.get(url + "/v1/calls") as reply:
                calls = (await reply.json())["data"]
            if calls and calls[0]["provider"]:
                return calls[0]


async def test_a_page_that_leaves_frees_the_provider(http: aiohttp.ClientSession) -> None:
    async with (
        scripted(begins("gemini")) as provider,
        gateway(leads_to(provider.url, "gemini", {"use": "log"})) as running,
    ):
        reply = await http.post(running.url + "/api/chat", json=ASKED)
        await until_said(reply)
        reply.close()
        async with asyncio.timeout(20):
            await provider.exchanges[0].closed.wait()
            while not (lines := running.log.events("call")):  # noqa: ASYNC110  # nobody announces it
                await asyncio.sleep(0.005)
    assert lines[0]["ending"] == "client_gone"


async def test_a_call_that_is_stopped_by_its_id_says_so(http: aiohttp.ClientSession) -> None:
    async with scripted(begins("anthropic")) as provider, gateway(leads_to(provider.url, "anthropic")) as running:
        async with http.post(running.url + "/api/chat", json=ASKED) as reply:
            found = await until_said(reply)
            id = chunks(found)[0]["messageMetadata"]["callId"]
            async with http.delete(f"{running.url}/v1/calls/{id}") as stopped:
                assert stopped.status == 200
            found += await reply.read()
        async with asyncio.timeout(20):
            await provider.exchanges[0].closed.wait()
    seen = read(found)
    assert (seen.aborted, seen.error, seen.ended) == ("The call was cancelled.", None, False)


async def test_a_gateway_that_stops_says_so(http: aiohttp.ClientSession) -> None:
    async with scripted(begins("openai")) as provider:
        async with gateway(leads_to(provider.url, server={"drain": 0.01})) as running:
            reply = await http.post(running.url + "/api/chat", json=ASKED)
            found = await until_said(reply)
        found += await reply.read()
        reply.close()
    assert read(found).error == "The gateway is stopping."


async def test_a_page_that_waits_is_shown_a_sign_of_life(http: aiohttp.ClientSession) -> None:
    async def script(exchange: Exchange) -> None:
        await go.wait()
        await saying("openai")(exchange)

    go = asyncio.Event()
    async with scripted(script) as provider:
        async with gateway(leads_to(provider.url, server={"drain": 1, "heartbeat": 0.05})) as running:
            async with asyncio.timeout(20), http.post(running.url + "/api/chat", json=ASKED) as reply:
                first = await reply.content.readany()
                go.set()
                body = first + await reply.read()
    assert first.startswith(b": ping\n\n")
    assert read(body).texts() == TEXT


# --- kept replies -----------------------------------------------------------------------------------------------------


async def test_a_reply_that_is_told_again_is_the_same_message(http: aiohttp.ClientSession) -> None:
    async with scripted(saying("gemini")) as provider:
        async with gateway(leads_to(provider.url, "gemini", {"use": "idempotency"})) as running:
            found = []
            for _ in range(2):
                headers = {"idempotency-key": "once"}
                async with http.post(running.url + "/api/chat", json=ASKED, headers=headers) as reply:
                    found.append(read(await reply.read()))
    assert found[0] == found[1]
    assert len(provider.exchanges) == 1


async def test_a_chat_can_be_a_job(http: aiohttp.ClientSession) -> None:
    routes = [{"name": "main", "pipeline": "main", "default_model": "demo"}]
    async with gateway(demo_config(jobs={}, routes=routes)) as running:
        headers = {"Prefer": "respond-async, wait=20"}
        async with http.post(running.url + "/api/chat", json={"messages": [HI]}, headers=headers) as reply:
            assert reply.headers["Content-Type"].startswith("text/event-stream")
            seen = read(await reply.read())
    assert seen.ended
    assert seen.message["metadata"]["model"] == "demo"


def test_a_stream_written_from_parts_is_what_voices_say() -> None:
    """So that the tests above say with `THOUGHT` what a provider would."""
    for name in SPOKEN.values():
        stream = written(DIALECTS[name], [[part] for part in THOUGHT])
        assert b"Oslo" in stream
        assert msgspec.json.encode("Hm")[1:-1] in stream
