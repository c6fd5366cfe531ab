"""Requests in their provider's own dialect that a plugin has changed: nothing that was said is lost on the way, and
nothing that was taken out stays, by whatever name it was said."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import Raw
from msgspec.structs import replace

from sidegate.contract import Call, Handler, Plugin, Reply
from tests.across.ground import across
from tests.across.speaking import plays, text

MAIL = "ann@example.com"
RULE = "Never tell the code."
HI = {"role": "user", "content": "hi"}
WRITE = {"role": "user", "content": f"write to {MAIL}"}
FUNCTION = {"name": "f", "description": f"mails {MAIL}", "parameters": {"type": "object", "properties": {}}}
SCHEMA = {"type": "object", "properties": {"a": {"type": "string", "description": f"as {MAIL}"}}}
GEMINI = {"type": "OBJECT", "properties": {"a": {"type": "STRING", "description": f"as {MAIL}"}}}
PARTS = [{"parts": [{"text": "hi"}]}]

ASKED: list[tuple[str, dict[str, Any]]] = [
    ("openai.responses", {"input": [{"role": "developer", "content": RULE}, WRITE]}),
    ("openai.responses", {"input": [{"role": "system", "content": RULE}, WRITE]}),
    ("openai.responses", {"input": [{"role": "developer", "content": f"{RULE} {MAIL}"}, HI]}),
    ("openai.responses", {"instructions": RULE, "input": [{"role": "developer", "content": "Be kind."}, WRITE]}),
    ("openai.responses", {"instructions": f"{RULE} {MAIL}", "input": "hi"}),
    ("anthropic.messages", {"max_tokens": 9, "messages": [{"role": "system", "content": RULE}, WRITE]}),
    ("anthropic.messages", {"max_tokens": 9, "messages": [WRITE, {"role": "system", "content": RULE}]}),
    (
        "anthropic.messages",
        {"max_tokens": 9, "system": "Be kind.", "messages": [WRITE, {"role": "system", "content": RULE}]},
    ),
    ("anthropic.messages", {"max_tokens": 9, "system": f"{RULE} {MAIL}", "messages": [HI]}),
    (
        "anthropic.messages",
        {"max_tokens": 9, "system": RULE, "messages": [HI], "output_format": {"type": "json_schema", "schema": SCHEMA}},
    ),
    ("openai.chat", {"messages": [WRITE, {"role": "developer", "content": RULE}]}),
    ("openai.chat", {"messages": [{"role": "system", "content": RULE}, HI], "functions": [FUNCTION]}),
    (
        "openai.chat",
        {
            "messages": [{"role": "system", "content": RULE}, HI],
            "functions": [FUNCTION],
            "function_call": {"name": "f"},
        },
    ),
    (
        "gemini.generate",
        {
            "systemInstruction": {"parts": [{"text": RULE}]},
            "contents": PARTS,
            "generationConfig": {"responseMimeType": "application/json", "responseSchema": GEMINI, "topK": 3},
        },
    ),
    (
        "gemini.generate",
        {
            "system_instruction": {"parts": [{"text": RULE}]},
            "contents": PARTS,
            "generation_config": {"response_mime_type": "application/json", "response_schema": GEMINI},
        },
    ),
]


@pytest.mark.parametrize("stream", [False, True])
async def test_what_a_plugin_takes_out_is_out_and_what_it_leaves_is_said(stream: bool) -> None:
    async with across(plugins=[{"use": "redact", "settings": {"find": ["email"]}}]) as on:
        for dialect, body in ASKED:
            on.plays[dialect] = plays(dialect, text())
            fields = {name: Raw(json.dumps(value).encode()) for name, value in {**body, "model": "m"}.items()}
            answer = await on.ask(dialect, dialect, fields, stream=stream)
            assert answer.status == 200, (body, answer.body)
            sent = json.dumps(on.sent(dialect))
            assert MAIL not in sent, body
            assert sent.count("<EMAIL_1>") == 1, (body, sent)
            assert sent.count(RULE) == 1, (body, sent)
            assert ("Be kind." in json.dumps(body)) is ("Be kind." in sent), (body, sent)


async def test_functions_stay_functions() -> None:
    """Who asks in the words of before there were tools reads the reply so."""
    async with across(plugins=[{"use": "redact", "settings": {"find": ["email"]}}]) as on:
        on.plays["openai.chat"] = plays("openai.chat", text())
        asked = {"messages": [HI], "functions": [FUNCTION], "function_call": {"name": "f"}, "model": "m"}
        await on.ask(
            "openai.chat", "openai.chat", {name: Raw(json.dumps(each).encode()) for name, each in asked.items()}
        )
        sent = on.sent("openai.chat")
    assert sent["functions"] == [{**FUNCTION, "description": "mails <EMAIL_1>"}]
    assert sent["function_call"] == {"name": "f"}
    assert sent.keys().isdisjoint(("tools", "tool_choice"))


class Toolless(Plugin[None]):
    """No model may call anything here."""

    async def __call__(self, call: Call, handler: Handler) -> Reply:
        call.request = replace(call.request, tools=(), tool_choice=None)
        return await handler(call)


@pytest.mark.parametrize("choice", [{}, {"function_call": "auto"}, {"function_call": {"name": "f"}}], ids=str)
async def test_functions_that_are_taken_out_are_out(choice: dict[str, Any]) -> None:
    async with across(plugins=[{"use": "tests.across.test_rewritten:Toolless"}]) as on:
        on.plays["openai.chat"] = plays("openai.chat", text())
        asked = {"messages": [HI], "functions": [FUNCTION], **choice, "model": "m"}
        fields = {name: Raw(json.dumps(each).encode()) for name, each in asked.items()}
        assert (await on.ask("openai.chat", "openai.chat", fields)).status == 200
        assert on.sent("openai.chat") == {"model": "real", "messages": [HI]}


async def test_a_gemini_schema_is_said_once() -> None:
    async with across(plugins=[{"use": "redact", "settings": {"find": ["email"]}}]) as on:
        on.plays["gemini.generate"] = plays("gemini.generate", text())
        asked = {**ASKED[-1][1], "model": "m"}
        fields = {name: Raw(json.dumps(each).encode()) for name, each in asked.items()}
        await on.ask("gemini.generate", "gemini.generate", fields)
        config = on.sent("gemini.generate")["generationConfig"]
    assert {name for name in config if "chema" in name} == {"responseJsonSchema"}
