"""Redaction through a gateway: in every dialect of clients and providers, and what the ledger and the log see."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from sidegate.config.mistakes import ConfigErrors
from sidegate.testing import MISBEHAVIOURS, PLUGIN_CHECKS, Exchange, check_plugin, demo_config, gateway, scripted
from sidegate.testing.spoken import streams
from sidegate.testing.voices import USED, VOICES
from sidegate_plugins._redact_values import Find
from sidegate_plugins.redact import Redact, Settings
from tests.plugins.guarded import BROKEN, CLIENTS, answers, asked, chat, messages, said, serving
from tests.relaying import delta, event, leads_to

both = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
MAIL, CARD = "ann@example.com", "4111 1111 1111 1111"
ASK = f"I am {MAIL}, {CARD}; ö"
REDACT: dict[str, Any] = {"use": "redact", "settings": {"find": ["email", "credit_card"]}}
LOG = {"use": "log", "settings": {"bodies": True}}


@both
@pytest.mark.parametrize(
    ("client", "provider"),
    [*((name, name) for name in VOICES), ("page", "openai"), ("openai", "anthropic"), ("anthropic", "openai"),
     ("openai_responses", "gemini"), ("gemini", "openai_responses")],
)  # fmt: skip
async def test_no_provider_sees_a_value_and_every_client_gets_it_back(client: str, provider: str, stream: bool) -> None:
    path, body = CLIENTS[client](ASK, stream)
    script = answers(provider, "Dear <EMAIL_1>, <CREDIT_CARD_1> <EMAIL_2>")
    async with serving(script, REDACT, dialect=provider) as (running, told, http):
        status, text, call_id = await asked(http, path, body)
        found = await running.service.ledger.call(call_id)
    assert status == 200, text
    sent = told.exchanges[0].body.decode()
    assert "example.com" not in sent
    assert "4111" not in sent
    assert "EMAIL_1" in sent
    assert f"Dear {MAIL}, {CARD} <EMAIL_2>" in said(text)
    assert "<EMAIL_1>" not in text
    assert found is not None
    assert (found[1][0].input_tokens, found[1][0].output_tokens) == USED


async def test_arguments_of_tools_come_back_in_the_dialects_that_write_them() -> None:
    """OpenAI's as JSON text, cut anywhere; Anthropic's as JSON inside of JSON."""

    def pieces(arguments: str) -> list[bytes]:
        def call(**function: Any) -> bytes:
            return delta(tool_calls=[{"index": 0, "id": "c1", "type": "function", "function": function}])

        return [call(name="f", arguments=""), *(call(arguments=letter) for letter in arguments)]

    async def script(exchange: Exchange) -> None:
        ends = (delta("tool_calls"), b"data: [DONE]\n\n")
        await exchange.stream(*pieces('{"to": "<EMAIL_1>", "card": "\\u003cCREDIT_CARD_1>"}'), *ends)

    async with serving(script, REDACT) as (_, _, http):
        _, openai, _ = await asked(http, *chat(ASK, True))
        _, anthropic, _ = await asked(http, *messages(ASK, True))
    assert json.loads(said(openai, "arguments")) == {"to": MAIL, "card": CARD}
    assert json.loads(said(anthropic, "partial_json")) == {"to": MAIL, "card": CARD}


CHOICE = {"text": "<EMAIL_1>", "index": 0, "finish_reason": "stop"}
VECTORS = [{"index": 0, "embedding": [0.5]}, {"index": 1, "embedding": [0.5]}]


@pytest.mark.parametrize(
    ("path", "body", "reply"),
    [
        ("/v1/completions", {"prompt": ASK}, {"choices": [CHOICE]}),
        ("/v1/embeddings", {"input": [ASK, "b"]}, {"object": "list", "data": VECTORS, "model": "real"}),
    ],
)
async def test_other_operations_are_looked_through(path: str, body: dict[str, Any], reply: dict[str, Any]) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.reply(json.dumps(reply).encode())

    async with serving(script, REDACT) as (_, told, http):
        status, text, _ = await asked(http, path, {"model": "m", **body})
    assert status == 200, text
    sent = told.exchanges[0].body.decode()
    assert "example.com" not in sent
    assert "<EMAIL_1>" in sent
    assert ("completions" not in path) or MAIL in text


async def test_tokens_are_counted_of_what_is_sent() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.reply(b'{"input_tokens": 5}')

    _, body = messages(ASK, False)
    del body["stream"], body["max_tokens"]
    async with serving(script, REDACT, dialect="anthropic") as (_, told, http):
        status, text, _ = await asked(http, "/v1/messages/count_tokens", body)
    assert (status, json.loads(text)) == (200, {"input_tokens": 5})
    assert "example.com" not in told.exchanges[0].body.decode()


async def test_the_log_further_in_and_the_ledger_have_placeholders_alone() -> None:
    async with serving(answers("openai", "Dear <EMAIL_1>"), REDACT, LOG) as (running, _, http):
        for stream in (True, False):
            await asked(http, *chat(ASK, stream))
        lines = running.log.events("call")
        assert [line["reply_texts"] for line in lines] == [["Dear <EMAIL_1>"]] * 2
        assert "example.com" not in running.log.data.decode()


@both
@pytest.mark.parametrize("client", ["openai", "anthropic", "gemini", "openai_responses", "page"])
async def test_what_may_not_be_sent_is_refused_in_every_dialect(client: str, stream: bool) -> None:
    refusing = {"use": "redact", "settings": {"find": [{"name": "email", "mode": "refuse"}]}}
    async with serving(answers("openai", "never"), refusing) as (_, told, http):
        status, text, _ = await asked(http, *CLIENTS[client](ASK, stream))
    assert status == 400
    assert "email" in text
    assert "example.com" not in text
    assert not told.exchanges


async def test_what_may_not_be_told_ends_a_stream_before_it_is_told() -> None:
    refusing = {"use": "redact", "settings": {"find": [{"name": "email", "mode": "refuse", "direction": "reply"}]}}
    script = answers("openai", f"So it is {MAIL} ", stays=True)
    async with serving(script, refusing) as (running, told, http):
        status, text, call_id = await asked(http, *chat("hi", True))
        found = await running.service.ledger.call(call_id)
        async with asyncio.timeout(10):
            await told.exchanges[0].closed.wait()
    assert (status, said(text)) == (200, "So it is ")
    assert '"code":"redaction_refused"' in text
    assert "[DONE]" not in text
    assert found is not None
    assert (found[0].ending, found[0].error) == ("refused", "redaction_refused")
    assert found[1][0].output_tokens


@both
async def test_whatever_a_provider_does_wrong_it_ends_as_it_would_without(stream: bool) -> None:
    """By the same status, ending and error, with the same words."""
    for number, name in enumerate(BROKEN):
        dialect = sorted(VOICES)[number % len(VOICES)]
        async with scripted(MISBEHAVIOURS[name](dialect)) as provider:
            config = leads_to(provider.url, dialect=dialect, plugins=(REDACT,))
            config["providers"]["p0"] |= {"circuit": None, "retry": {"attempts": 1}}
            config["pipelines"]["bare"] = {}
            config["routes"] = [
                {"name": "bare", "prefix": "/bare", "pipeline": "bare"},
                {"name": "main", "pipeline": "main"},
            ]
            async with gateway(config) as running, aiohttp.ClientSession(running.url) as http:
                path, body = chat(ASK, stream)
                ends = []
                for prefix in ("/bare", ""):
                    status, text, call_id = await asked(http, prefix + path, body)
                    found = await running.service.ledger.call(call_id)
                    assert found is not None
                    ends.append((status, found[0].ending, found[0].error, said(text)))
        assert ends[0] == ends[1], (name, dialect)


async def test_a_client_that_leaves_frees_everything() -> None:
    async with (
        gateway(demo_config(REDACT)) as running,
        aiohttp.ClientSession(running.url) as client,
    ):
        body = chat(ASK, True)[1] | {"model": "demo-stall"}
        async with client.post("/v1/chat/completions", json=body) as reply:
            assert reply.status == 200
            await reply.content.readany()
            call_id = reply.headers["x-request-id"]
        async with asyncio.timeout(10):
            for live in running.service.live.all():
                await asyncio.wait([live.ended()])
        found = await running.service.ledger.call(call_id)
    assert found is not None
    assert found[0].ending in ("client_gone", "cancelled")


async def test_a_large_reply_in_one_event_comes_back_whole() -> None:
    text = "word <EMAIL_1> " * 5000

    async def script(exchange: Exchange) -> None:
        assert streams(exchange)
        await exchange.stream(delta(content=text), delta("stop"), b"data: [DONE]\n\n")

    async with serving(script, REDACT) as (_, _, http):
        _, told, _ = await asked(http, *chat(ASK, True))
    assert said(told) == text.replace("<EMAIL_1>", MAIL)


async def test_signed_thinking_goes_by_whole() -> None:
    """As Anthropic streams it: the signature comes last."""
    block = {"type": "thinking", "thinking": "", "signature": ""}
    events = [
        event({"type": "message_start", "message": {"id": "m", "type": "message", "role": "assistant", "model": "r",
               "content": [], "usage": {"input_tokens": 1, "output_tokens": 1}}}, "message_start"),
        event({"type": "content_block_start", "index": 0, "content_block": block}, "content_block_start"),
        *(event({"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": t}},
                "content_block_delta") for t in "is it <EMAIL_1>"),
        event({"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "c2ln"}},
              "content_block_delta"),
        event({"type": "content_block_stop", "index": 0}, "content_block_stop"),
        event({"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
              "content_block_start"),
        event({"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "<EMAIL_1>"}},
              "content_block_delta"),
        event({"type": "content_block_stop", "index": 1}, "content_block_stop"),
        event({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
              "message_delta"),
        event({"type": "message_stop"}, "message_stop"),
    ]  # fmt: skip

    async def script(exchange: Exchange) -> None:
        await exchange.stream(*events)

    async with serving(script, REDACT, dialect="anthropic") as (_, _, http):
        status, text, _ = await asked(http, *messages(ASK, True))
    assert status == 200, text
    assert (said(text, "thinking"), said(text, "text")) == ("is it <EMAIL_1>", MAIL)
    assert said(text, "signature") == "c2ln"


@pytest.mark.parametrize("check", PLUGIN_CHECKS)
async def test_it_keeps_the_contract(check: str) -> None:
    await check_plugin(check, Redact, Settings(find=("email", Find(name="phone", direction="both"))))


async def test_a_config_that_cannot_work_says_where() -> None:
    wrong = {"use": "redact", "settings": {"find": [{"name": "own", "expression": "(a+)+b"}]}}
    with pytest.raises(ConfigErrors) as caught:
        async with gateway(demo_config(wrong)):
            raise AssertionError("started")
    assert "pipelines.main[0]: find: the expression of 'own' may reach" in str(caught.value)
