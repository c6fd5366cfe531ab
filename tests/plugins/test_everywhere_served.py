"""`redact` and `guard` look wherever a request says something: in fields deep in it that have no word, in metadata, in
files of any spelling; and in whole replies, where a client and its provider speak one dialect."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from msgspec import Raw

from sidegate.testing import Exchange
from tests.across.ground import Across, Answer, across
from tests.across.speaking import plays, text

MAIL = "ann@example.com"
HI = {"role": "user", "content": "hi"}
GEMINI_HI = [{"role": "user", "parts": [{"text": "hi"}]}]
REDACT = {"use": "redact", "settings": {"find": ["email"]}}
GUARD = {"use": "guard", "settings": {"deny": {"mail": MAIL.replace(".", r"\.")}}}
DOCUMENT = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "x"}, "context": MAIL}
SHAPE = {"name": "x", "schema": {"type": "object"}}

DEEP: list[tuple[str, dict[str, Any]]] = [
    ("anthropic.messages", {"max_tokens": 9, "messages": [{"role": "user", "content": [DOCUMENT]}]}),
    (
        "anthropic.messages",
        {
            "max_tokens": 9,
            "messages": [HI],
            "tools": [{"name": "f", "input_schema": {}, "input_examples": [{"a": MAIL}]}],
        },
    ),
    ("openai.chat", {"messages": [{**HI, "note": {"id": MAIL}}]}),
    (
        "openai.chat",
        {"messages": [HI], "response_format": {"type": "json_schema", "json_schema": {**SHAPE, "description": MAIL}}},
    ),
    ("openai.responses", {"input": "hi", "text": {"format": {"type": "json_schema", **SHAPE, "description": MAIL}}}),
    (
        "gemini.generate",
        {
            "contents": GEMINI_HI,
            "tools": [{"functionDeclarations": [{"name": "f", "response": {"type": "STRING", "description": MAIL}}]}],
        },
    ),
]


async def ask(on: Across, dialect: str, body: dict[str, Any], *, stream: bool = False) -> Answer:
    fields = {name: Raw(json.dumps(value).encode()) for name, value in {**body, "model": "m"}.items()}
    return await on.ask(dialect, dialect, fields, stream=stream)


@pytest.mark.parametrize("plugin", [REDACT, GUARD], ids=["redact", "guard"])
@pytest.mark.parametrize("stream", [False, True])
async def test_fields_without_a_word_are_looked_at_however_deep_they_are(plugin: dict[str, Any], stream: bool) -> None:
    async with across(plugins=[plugin]) as on:
        for dialect, body in DEEP:
            on.plays[dialect] = plays(dialect, text())
            assert (await ask(on, dialect, body, stream=stream)).status == 400, body
        assert on.count() == 0
        for dialect, body in DEEP:
            clean = json.loads(json.dumps(body).replace(MAIL, "nobody"))
            assert (await ask(on, dialect, clean, stream=stream)).status == 200, body


async def test_metadata_is_looked_at_under_every_name() -> None:
    async with across(plugins=[REDACT]) as on:
        on.plays["openai.chat"] = plays("openai.chat", text())
        assert (await ask(on, "openai.chat", {"messages": [HI], "metadata": {"id": MAIL, "data": MAIL}})).status == 200
        assert on.sent("openai.chat")["metadata"] == {"id": "<EMAIL_1>", "data": "<EMAIL_1>"}


DATA = base64.b64encode(f"Mail {MAIL}!?".encode()).decode()


@pytest.mark.parametrize(
    "data",
    [
        f"data:text/plain;base64,{DATA}",
        f"data:TEXT/Plain; charset=utf-8;base64,{DATA}",
        f"data:text/plain;base64,{DATA[:8]}\n{DATA[8:]}",
        f"data:application/json;base64,{DATA}",
        f"data:application/ld+json;base64,{DATA}",
        f"data:text/plain;base64,{DATA.rstrip('=').replace('+', '-').replace('/', '_')}",
    ],
)
async def test_a_file_is_read_however_its_type_and_bytes_are_spelt(data: str) -> None:
    async with across(plugins=[REDACT]) as on:
        on.plays["openai.chat"] = plays("openai.chat", text())
        file = {"type": "file", "file": {"filename": "a", "file_data": data}}
        answer = await ask(on, "openai.chat", {"messages": [{"role": "user", "content": [file]}]})
        assert answer.status == 200, answer.body
        sent = on.sent("openai.chat")["messages"][0]["content"][0]["file"]["file_data"]
        assert base64.b64decode(sent.partition(",")[2]).decode() == "Mail <EMAIL_1>!?"


SHORTEST: dict[str, dict[str, Any]] = {
    "openai.chat": {"messages": [HI]},
    "openai.responses": {"input": "hi"},
    "gemini.generate": {"contents": GEMINI_HI},
}
WHOLE: list[tuple[str, dict[str, Any]]] = [
    (
        "openai.chat",
        {
            "id": "c",
            "object": "chat.completion",
            "created": 1,
            "model": "m",
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "stop",
                    "message": {
                        "role": "assistant",
                        "content": "hi",
                        "audio": {"id": "a", "data": "AA==", "transcript": f"write to {MAIL}"},
                        "executed_tools": [{"type": "search", "output": MAIL}],
                    },
                }
            ],
        },
    ),
    (
        "openai.responses",
        {
            "id": "r",
            "object": "response",
            "created_at": 1,
            "model": "m",
            "status": "completed",
            "output": [],
            "output_text": f"write to {MAIL}",
            "usage": None,
        },
    ),
    (
        "gemini.generate",
        {"promptFeedback": {"blockReason": "SAFETY", "blockReasonMessage": MAIL}, "modelVersion": "m"},
    ),
    (
        "gemini.generate",
        {
            "candidates": [
                {
                    "index": 0,
                    "finishReason": "STOP",
                    "content": {"role": "model", "parts": [{"text": "hi"}]},
                    "groundingMetadata": {"groundingChunks": [{"web": {"uri": "https://a.b", "title": MAIL}}]},
                }
            ],
            "modelVersion": "m",
        },
    ),
]


@pytest.mark.parametrize(("dialect", "body"), WHOLE, ids=["chat", "responses", "blocked", "grounded"])
async def test_what_has_no_word_is_hidden_in_a_whole_reply(dialect: str, body: dict[str, Any]) -> None:
    async def says(exchange: Exchange) -> None:
        await exchange.reply(json.dumps(body).encode())

    hides = {"use": "redact", "settings": {"find": [{"name": "email", "direction": "reply", "mode": "mask"}]}}
    async with across(plugins=[hides]) as on:
        on.plays[dialect] = says
        answer = await ask(on, dialect, SHORTEST[dialect])
        assert answer.status == 200
        assert MAIL.encode() not in answer.body
        assert b"<EMAIL>" in answer.body
