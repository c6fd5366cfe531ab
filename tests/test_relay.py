"""From a client's socket to a provider's and back: what arrives, in each delivery and dialect."""

from __future__ import annotations

import asyncio
import struct
from typing import Any

import aiohttp
import msgspec
import pytest

from sidegate.outlet import NullSink
from sidegate.testing import Exchange, gateway, scripted
from tests.relaying import DONE, ROLE, STOP, USAGE, WHOLE, answers, chat, delta, event, leads_to, messages, until

both = pytest.mark.parametrize("stream", [True, False], ids=["stream", "buffered"])


async def test_a_buffered_body_passes_byte_for_byte(http: aiohttp.ClientSession) -> None:
    async with scripted(answers) as provider, gateway(leads_to(provider.url)) as running:
        async with http.post(running.url + "/v1/chat/completions", json=chat()) as reply:
            assert await reply.read() == WHOLE
            assert reply.status == 200


async def test_a_stream_passes_byte_for_byte_when_the_client_wants_usage(http: aiohttp.ClientSession) -> None:
    asked = chat(True, stream_options={"include_usage": True})
    async with scripted(answers) as provider, gateway(leads_to(provider.url)) as running:
        async with http.post(running.url + "/v1/chat/completions", json=asked) as reply:
            assert await reply.read() == ROLE + delta(content="H") + delta(content="é") + STOP + USAGE + DONE
            assert reply.headers["Content-Type"] == "text/event-stream"


async def test_usage_is_asked_for_and_its_event_not_shown(http: aiohttp.ClientSession) -> None:
    async with scripted(answers) as provider, gateway(leads_to(provider.url)) as running:
        async with http.post(running.url + "/v1/chat/completions", json=chat(True)) as reply:
            body = await reply.read()
            call_id = reply.headers["x-request-id"]
        async with http.get(f"{running.url}/v1/calls/{call_id}") as reply:
            record = await reply.json()
    assert body == ROLE + delta(content="H") + delta(content="é") + STOP + DONE
    assert provider.exchanges[0].json["stream_options"] == {"include_usage": True}
    assert (record["input_tokens"], record["output_tokens"], record["estimated"]) == (7, 2, False)


@both
async def test_unknown_fields_of_a_request_pass_untouched(http: aiohttp.ClientSession, stream: bool) -> None:
    body = msgspec.json.encode(chat(stream))[:-1] + b',"tomorrow":{"a":[1.50,1e3,"\\u00e9"]}}'
    async with scripted(answers) as provider, gateway(leads_to(provider.url)) as running:
        async with http.post(
            running.url + "/v1/chat/completions", data=body, headers={"Content-Type": "application/json"}
        ) as reply:
            assert reply.status == 200
            await reply.read()
    sent = provider.exchanges[0]
    assert b'"tomorrow":{"a":[1.50,1e3,"\\u00e9"]}' in sent.body
    assert sent.json["model"] == "real"
    assert sent.path == "/chat/completions"


async def test_the_providers_key_is_sent_and_the_clients_is_not(http: aiohttp.ClientSession) -> None:
    async with scripted(answers) as provider, gateway(leads_to(provider.url)) as running:
        async with http.post(
            running.url + "/v1/chat/completions",
            json=chat(),
            headers={"Authorization": "Bearer client-key", "Cookie": "a=b", "X-Custom": "1"},
        ) as reply:
            await reply.read()
    headers = provider.exchanges[0].headers
    assert headers["authorization"] == "Bearer sk-upstream-secret"
    assert not {"cookie", "x-custom"} & headers.keys()
    assert "client-key" not in str(headers)


def anthropic_stream() -> list[bytes]:
    start = {
        "type": "message_start",
        "message": {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "claude-1",
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": 5, "cache_read_input_tokens": 10, "output_tokens": 1},
        },
    }
    tool = {"type": "tool_use", "id": "t1", "name": "weather", "input": {}}
    piece = {"type": "input_json_delta", "partial_json": '{"city":"Oslo"}'}
    return [
        event(start, "message_start"),
        event({"type": "ping"}, "ping"),
        event(
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
            "content_block_start",
        ),
        event(
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hé"}},
            "content_block_delta",
        ),
        event({"type": "content_block_stop", "index": 0}, "content_block_stop"),
        event({"type": "content_block_start", "index": 1, "content_block": tool}, "content_block_start"),
        event({"type": "content_block_delta", "index": 1, "delta": piece}, "content_block_delta"),
        event({"type": "content_block_stop", "index": 1}, "content_block_stop"),
        event(
            {
                "type": "message_delta",
                "delta": {"stop_reason": "tool_use", "stop_sequence": None},
                "usage": {"output_tokens": 9},
            },
            "message_delta",
        ),
        event({"type": "message_stop"}, "message_stop"),
    ]


async def test_an_openai_client_reaches_an_anthropic_provider(http: aiohttp.ClientSession) -> None:
    async def claude(exchange: Exchange) -> None:
        await exchange.stream(*anthropic_stream())

    asked = chat(True, stream_options={"include_usage": True}, temperature=0.5, seed=3)
    async with scripted(claude) as provider, gateway(leads_to(provider.url, dialect="anthropic")) as running:
        async with http.post(running.url + "/v1/chat/completions", json=asked) as reply:
            lines = (await reply.text()).split("\n\n")
            assert reply.headers["x-sidegate-dropped"] == "seed"
    chunks = [msgspec.json.decode(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]
    said = "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"])
    calls = [t for c in chunks if c["choices"] for t in c["choices"][0]["delta"].get("tool_calls", [])]
    assert said == "Hé"
    assert calls[0]["function"]["name"] == "weather"
    assert "".join(call["function"]["arguments"] for call in calls) == '{"city":"Oslo"}'
    assert [c["choices"][0]["finish_reason"] for c in chunks if c["choices"]][-1] == "tool_calls"
    assert chunks[-1]["usage"]["prompt_tokens"] == 15
    assert chunks[-1]["usage"]["completion_tokens"] == 9
    assert lines[-2] == "data: [DONE]"
    sent = provider.exchanges[0]
    assert sent.path == "/v1/messages"
    assert sent.headers["x-api-key"] == "sk-upstream-secret"
    assert sent.headers["anthropic-version"] == "2023-06-01"
    assert sent.json["max_tokens"] > 0


@both
async def test_an_anthropic_client_reaches_an_openai_provider(http: aiohttp.ClientSession, stream: bool) -> None:
    async with scripted(answers) as provider, gateway(leads_to(provider.url)) as running:
        async with http.post(running.url + "/v1/messages", json=messages(stream)) as reply:
            text = await reply.text()
            assert reply.status == 200
    if stream:
        assert text.count("event: message_start") == 1
        assert text.rstrip().endswith('{"type":"message_stop"}')
        assert '"output_tokens":2' in text
    else:
        body = msgspec.json.decode(text)
        assert body["content"] == [{"type": "text", "text": "Hé"}]
        assert body["usage"]["input_tokens"] == 7
        assert body["stop_reason"] == "end_turn"


async def test_an_anthropic_clients_version_is_forwarded_unchanged(http: aiohttp.ClientSession) -> None:
    async def claude(exchange: Exchange) -> None:
        await exchange.stream(*anthropic_stream())

    async with scripted(claude) as provider, gateway(leads_to(provider.url, dialect="anthropic")) as running:
        async with http.post(
            running.url + "/v1/messages", json=messages(True), headers={"anthropic-version": "2026-10-21"}
        ) as reply:
            body = await reply.read()
    assert provider.exchanges[0].headers["anthropic-version"] == "2026-10-21"
    assert body == b"".join(part for part in anthropic_stream() if b"ping" not in part)


async def test_a_stream_without_its_marker_but_with_a_finish_reason_ends_cleanly(http: aiohttp.ClientSession) -> None:
    async def unmarked(exchange: Exchange) -> None:
        await exchange.stream(ROLE, delta(content="x"), STOP)

    async with scripted(unmarked) as provider, gateway(leads_to(provider.url)) as running:
        async with http.post(running.url + "/v1/chat/completions", json=chat(True)) as reply:
            assert (await reply.read()).endswith(STOP + DONE)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
async def test_a_stream_that_stops_early_ends_in_an_error_event(http: aiohttp.ClientSession, path: str) -> None:
    async def cut(exchange: Exchange) -> None:
        await exchange.stream(ROLE, delta(content="x"))

    async with scripted(cut) as provider, gateway(leads_to(provider.url)) as running:
        async with http.post(running.url + path, json=messages(True)) as reply:
            text = await reply.text()
    assert reply.status == 200
    assert '"error"' in text.rstrip().split("\n\n")[-1]
    assert "[DONE]" not in text
    assert "message_stop" not in text


@both
async def test_the_next_target_is_tried_before_anything_was_said(http: aiohttp.ClientSession, stream: bool) -> None:
    async def overloaded(exchange: Exchange) -> None:
        if exchange.json["stream"]:
            await exchange.stream(ROLE, event({"error": {"message": "overloaded", "code": 503}}))
        else:
            await exchange.reply(b'{"error":{"message":"busy"}}', 503)

    async with scripted(overloaded) as first, scripted(answers) as second:
        async with gateway(leads_to(first.url, second.url)) as running:
            async with http.post(running.url + "/v1/chat/completions", json=chat(stream)) as reply:
                text = await reply.text()
                call_id = reply.headers["x-request-id"]
            async with http.get(f"{running.url}/v1/calls/{call_id}") as reply:
                record = await reply.json()
    assert "overloaded" not in text
    assert "é" in text
    assert [attempt["ending"] for attempt in record["attempts"]] == ["provider_error", "complete"]
    assert text.count('"role":"assistant"') == 1


async def test_after_something_was_said_no_other_target_is_tried(http: aiohttp.ClientSession) -> None:
    async def breaks(exchange: Exchange) -> None:
        await exchange.head(Transfer_Encoding="chunked")
        await exchange.chunk(ROLE + delta(content="x"))
        exchange.reset()

    async with scripted(breaks) as first, scripted(answers) as second:
        async with gateway(leads_to(first.url, second.url)) as running:
            async with http.post(running.url + "/v1/chat/completions", json=chat(True)) as reply:
                text = await reply.text()
    assert '"code":"provider_cut"' in text
    assert second.exchanges == []


def abort(writer: asyncio.StreamWriter, how: str) -> None:
    if how == "RST":
        sock = writer.get_extra_info("socket")
        sock.setsockopt(1, 13, struct.pack("ii", 1, 0))
        writer.transport.abort()
    else:
        writer.close()


@both
@pytest.mark.parametrize("how", ["FIN", "RST"])
async def test_a_client_that_leaves_a_silent_provider_closes_it_at_once(stream: bool, how: str) -> None:
    reached = asyncio.Event()

    async def silent(exchange: Exchange) -> None:
        reached.set()
        await exchange.closed.wait()

    async with scripted(silent) as provider, gateway(leads_to(provider.url)) as running:
        host, port = running.url.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        body = msgspec.json.encode(chat(stream))
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
        writer.write(head.encode() + b"Content-Type: application/json\r\n\r\n" + body)
        await reached.wait()
        left = asyncio.get_running_loop().time()
        abort(writer, how)
        async with asyncio.timeout(10):
            await provider.exchanges[0].closed.wait()
        closed = provider.exchanges[0].closed_at
        assert closed is not None
        assert closed - left < 5
        assert len(running.service.live) == 0


@both
@pytest.mark.parametrize("policy", ["drain", "continue"])
async def test_a_route_may_let_the_call_go_on_for_nobody(stream: bool, policy: str) -> None:
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def slow(exchange: Exchange) -> None:
        reached.set()
        await go_on.wait()
        await answers(exchange)

    config = leads_to("http://x", routes=[{"name": "r", "pipeline": "main", "on_disconnect": policy}])
    async with scripted(slow) as provider:
        config["providers"]["p0"]["base_url"] = provider.url
        async with gateway(config) as running:
            async with aiohttp.ClientSession() as session:
                asking = asyncio.create_task(session.post(running.url + "/v1/chat/completions", json=chat(stream)))
                await reached.wait()
                asking.cancel()
            (live,) = running.service.live.all()
            go_on.set()
            async with asyncio.timeout(5):
                await live.done
    assert live.reply is not None
    assert live.reply.ending.value == "complete"
    assert live.call.attempts[0].usage is not None


@pytest.mark.parametrize(("policy", "attempts"), [("drain", 1), ("continue", 2)])
async def test_a_drained_call_tries_nothing_anew_and_a_continued_one_does(policy: str, attempts: int) -> None:
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def fails(exchange: Exchange) -> None:
        reached.set()
        await go_on.wait()
        await exchange.reply(b"{}", 503)

    async with scripted(fails) as first, scripted(answers) as second:
        config = leads_to(first.url, second.url)
        config["routes"] = [{"name": "r", "pipeline": "main", "on_disconnect": policy}]
        async with gateway(config) as running:
            async with aiohttp.ClientSession() as session:
                asking = asyncio.create_task(session.post(running.url + "/v1/chat/completions", json=chat(True)))
                await reached.wait()
                asking.cancel()
            (live,) = running.service.live.all()
            await until(lambda: isinstance(live.outlet.sink, NullSink))
            go_on.set()
            async with asyncio.timeout(5):
                await live.done
    assert len(live.call.attempts) == attempts


@both
async def test_a_tap_sees_meaning_and_the_bytes_still_pass_untouched(
    http: aiohttp.ClientSession, stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scripted(answers) as provider:
        config: Any = leads_to(provider.url, plugins=({"use": "tests.tapping:Tapping"},))
        async with gateway(config) as running:
            async with http.post(running.url + "/v1/chat/completions", json=chat(stream)) as reply:
                body = await reply.read()
            (loaded,) = running.service.plugins["main"].plugins
            assert loaded.plugin.texts == ["Hé"]  # type: ignore[attr-defined]
            assert loaded.plugin.usages[0].input_tokens == 7  # type: ignore[attr-defined]
    assert body == (WHOLE if not stream else ROLE + delta(content="H") + delta(content="é") + STOP + DONE)


@both
async def test_an_edit_changes_what_the_client_reads_and_keeps_unknown_fields_of_a_body(
    http: aiohttp.ClientSession, stream: bool
) -> None:
    async with scripted(answers) as provider:
        config: Any = leads_to(provider.url, plugins=({"use": "tests.tapping:Shouting"},))
        async with gateway(config) as running:
            async with http.post(running.url + "/v1/chat/completions", json=chat(stream)) as reply:
                text = await reply.text()
    if stream:
        assert '"content":"É"' in text
        assert text.endswith("data: [DONE]\n\n")
        assert text.count("[DONE]") == 1
    else:
        body = msgspec.json.decode(text)
        assert body["choices"][0]["message"]["content"] == "HÉ"
        assert body["a_field_of_tomorrow"] == {"kept": [1, 2.5, "x"]}


@both
@pytest.mark.parametrize("plugin", ["Remembering", "RememberingApart"])
async def test_an_edit_keeps_the_context_of_its_plugin_while_it_waits(
    http: aiohttp.ClientSession, stream: bool, plugin: str
) -> None:
    async def slowly(exchange: Exchange) -> None:
        """So that each event is a read of its own, and a step outside of the call's task."""
        await exchange.head(Transfer_Encoding="chunked")
        for said in (ROLE, delta(content="H"), delta(content="I"), delta(content="J"), STOP, DONE):
            await exchange.chunk(said)
            await asyncio.sleep(0.02)
        await exchange.chunk(b"")

    async with scripted(slowly if stream else answers) as provider:
        config: Any = leads_to(provider.url, plugins=({"use": f"tests.tapping:{plugin}"},))
        async with gateway(config) as running:
            async with http.post(running.url + "/v1/chat/completions", json=chat(stream)) as reply:
                text = await reply.text()
    assert text.count(" of the plugin. ") == (3 if stream else 1)
    assert "error" not in text


@pytest.mark.parametrize(
    ("path", "body", "last"),
    [
        ("/v1/chat/completions", chat(stream=True), DONE),
        ("/v1/messages", messages(stream=True), b'data: {"type":"message_stop"}\n\n'),
        ("/v1beta/models/m:streamGenerateContent", {"contents": [{"parts": [{"text": "hi"}]}]}, b"]"),
    ],
    ids=["openai", "anthropic", "gemini"],
)
async def test_a_client_of_http_1_0_gets_its_stream_too(path: str, body: dict[str, Any], last: bytes) -> None:
    """It knows no chunks: its body ends with the connection."""
    async with scripted(answers) as provider, gateway(leads_to(provider.url)) as running:
        host, _, port = running.url.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        sent = msgspec.json.encode(body)
        head = (
            f"POST {path} HTTP/1.0\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(sent)}\r\n\r\n"
        )
        writer.write(head.encode() + sent)
        async with asyncio.timeout(10):
            answer = await reader.read()
        writer.close()
    top, _, rest = answer.partition(b"\r\n\r\n")
    assert top.startswith(b"HTTP/1.0 200")
    assert b"chunked" not in top.lower()
    assert rest.endswith(last)
