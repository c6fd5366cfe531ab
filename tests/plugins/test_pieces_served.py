"""What is looked for is found in what comes in pieces and is no text: what custom tools are given, sound's transcripts,
what a provider's own tools are given."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sidegate.contract.meaning import BlockEnd, Part, ToolCall
from sidegate.testing import Exchange
from sidegate.testing.spoken import streams
from tests.across.ground import Across, Answer, across
from tests.across.speaking import heard, plays, reply
from tests.plugins.test_everywhere_served import GUARD, HI, MAIL, ask

ASKED: dict[str, dict[str, Any]] = {
    "openai.chat": {"messages": [HI]},
    "openai.responses": {"input": "hi"},
    "anthropic.messages": {"max_tokens": 9, "messages": [HI]},
}
HIDES = {"use": "redact", "settings": {"find": [{"name": "email", "direction": "reply", "mode": "mask"}]}}
RESTORES = {"use": "redact", "settings": {"find": ["email"]}}
INPUT = ("to: ", MAIL[:5], MAIL[5:], ' "quoted" \\u0041')
OWN = ("openai.chat", "openai.responses")
STREAMS = pytest.mark.parametrize("stream", [False, True])


def custom(pieces: tuple[str, ...] = INPUT) -> list[Part]:
    """A call of a custom tool, in pieces, and one of a function beside it."""
    first, *rest = pieces
    return reply(
        ToolCall("", "c1", "mail", block=3, custom=True),
        *(ToolCall(piece, block=3, custom=True) for piece in (first, *rest)),
        BlockEnd(block=3),
        ToolCall("", "c2", "f", block=4),
        ToolCall('{"a":1}', block=4),
        BlockEnd(block=4),
        finish="tool_calls",
    )


def called(answer: Answer) -> list[tuple[str | None, str | None, str, bool]]:
    """Each call that the client was told of: its id, its tool, what it is given, and whether the tool is custom."""
    found: dict[int, list[ToolCall]] = {}
    for part in answer.parts:
        if isinstance(part, ToolCall):
            found.setdefault(part.block, []).append(part)
    return [
        (pieces[0].id, pieces[0].name, "".join(piece.arguments for piece in pieces), pieces[0].custom)
        for pieces in found.values()
    ]


@pytest.mark.parametrize("dialect", OWN)
@STREAMS
async def test_what_a_custom_tool_is_given_reaches_the_client(dialect: str, stream: bool) -> None:
    async with across() as on:
        on.plays[dialect] = plays(dialect, custom())
        answer = await ask(on, dialect, ASKED[dialect], stream=stream)
        assert called(answer) == [("c1", "mail", "".join(INPUT), True), ("c2", "f", '{"a":1}', False)]


@pytest.mark.parametrize("dialect", OWN)
@STREAMS
async def test_redact_hides_in_what_a_custom_tool_is_given(dialect: str, stream: bool) -> None:
    async with across(plugins=[HIDES]) as on:
        on.plays[dialect] = plays(dialect, custom())
        answer = await ask(on, dialect, ASKED[dialect], stream=stream)
        given = 'to: <EMAIL> "quoted" \\u0041'
        assert called(answer) == [("c1", "mail", given, True), ("c2", "f", '{"a":1}', False)]
        assert MAIL.encode() not in answer.body


@pytest.mark.parametrize("dialect", OWN)
@STREAMS
async def test_redact_puts_back_what_a_custom_tool_is_given(dialect: str, stream: bool) -> None:
    asked: dict[str, dict[str, Any]] = {
        "openai.chat": {"messages": [{"role": "user", "content": MAIL}]},
        "openai.responses": {"input": MAIL},
    }
    async with across(plugins=[RESTORES]) as on:
        on.plays[dialect] = plays(dialect, custom(("to: <EM", "AIL_1", ">!")))
        answer = await ask(on, dialect, asked[dialect], stream=stream)
        assert called(answer)[0] == ("c1", "mail", f"to: {MAIL}!", True)


@pytest.mark.parametrize("client", OWN)
@STREAMS
async def test_a_custom_call_is_translated_between_dialects_that_have_it(client: str, stream: bool) -> None:
    provider = next(dialect for dialect in OWN if dialect != client)
    async with across() as on:
        on.plays[provider] = plays(provider, custom())
        answer = await on.ask(client, provider, stream=stream)
        assert called(answer) == [("c1", "mail", "".join(INPUT), True), ("c2", "f", '{"a":1}', False)]


@pytest.mark.parametrize("provider", OWN)
@pytest.mark.parametrize("client", ["anthropic.messages", "gemini.generate", "ai_sdk.ui_messages"])
@STREAMS
async def test_elsewhere_the_words_of_a_custom_call_stand_in_an_object(
    client: str, provider: str, stream: bool
) -> None:
    async with across() as on:
        on.plays[provider] = plays(provider, custom())
        told, _ = heard(await on.ask(client, provider, stream=stream))
        assert told.calls == [("c1", "mail", {"input": "".join(INPUT)}), ("c2", "f", {"a": 1})]


async def test_a_call_beside_an_empty_legacy_one_is_hidden_where_it_stands() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": json.dumps({"to": MAIL})}}
    message = {"role": "assistant", "content": None, "function_call": None, "tool_calls": [call]}
    choice = {"index": 0, "finish_reason": "tool_calls", "message": message}
    body = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}

    async def says(exchange: Exchange) -> None:
        await exchange.reply(json.dumps(body).encode())

    async with across(plugins=[HIDES]) as on:
        on.plays["openai.chat"] = says
        answer = await ask(on, "openai.chat", ASKED["openai.chat"])
        said = json.loads(answer.body)["choices"][0]["message"]
        assert said.get("function_call") is None
        assert said["tool_calls"] == [{**call, "function": {"name": "f", "arguments": '{"to": "<EMAIL>"}'}}]


# --- what has no word -------------------------------------------------------------------------------------------------


def _chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    said = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return b"data: " + json.dumps(said).encode() + b"\n\n"


def transcript(*pieces: str) -> list[bytes]:
    """Sound of Chat Completions, with what is said in it."""
    said = [_chunk({"audio": {"data": "AAAA", "transcript": piece}}) for piece in pieces]
    first = _chunk({"role": "assistant", "audio": {"id": "audio_1", "transcript": ""}})
    return [first, *said, _chunk({}, "stop"), b"data: [DONE]\n\n"]


def _event(kind: str, **fields: Any) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (kind.encode(), json.dumps({"type": kind, **fields}).encode())


def own_tool(kind: str, telling: str, field: str, *pieces: str) -> list[bytes]:
    """A tool of the provider's own."""
    item: dict[str, Any] = {"id": "i1", "type": kind, "status": "completed", field: "".join(pieces)}
    place = {"output_index": 0, "item_id": "i1"}
    response = {"id": "r", "object": "response", "created_at": 1, "model": "m", "usage": None}
    return [
        _event("response.created", response={**response, "status": "in_progress", "output": []}),
        _event("response.output_item.added", output_index=0, item={**item, field: "", "status": "in_progress"}),
        *(_event(f"response.{telling}.delta", **place, delta=piece) for piece in pieces),
        _event(f"response.{telling}.done", **place, **{field: "".join(pieces)}),
        _event("response.output_item.done", output_index=0, item=item),
        _event("response.completed", response={**response, "status": "completed", "output": [item]}),
    ]


def compaction(*pieces: str) -> list[bytes]:
    """A block that the gateway has no word for."""
    message = {"id": "m", "type": "message", "role": "assistant", "model": "m", "content": [], "usage": {}}
    deltas = [{"type": "compaction_delta", "content": piece} for piece in pieces]
    return [
        _event("message_start", message=message),
        _event("content_block_start", index=0, content_block={"type": "compaction", "content": ""}),
        *(_event("content_block_delta", index=0, delta=delta) for delta in deltas),
        _event("content_block_stop", index=0),
        _event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 1}),
        _event("message_stop"),
    ]


KINDS: dict[str, tuple[str, Any]] = {
    "transcript": ("openai.chat", transcript),
    "code": (
        "openai.responses",
        lambda *pieces: own_tool("code_interpreter_call", "code_interpreter_call_code", "code", *pieces),
    ),
    "mcp": ("openai.responses", lambda *pieces: own_tool("mcp_call", "mcp_call_arguments", "arguments", *pieces)),
    "compaction": ("anthropic.messages", compaction),
}
EACH_KIND = pytest.mark.parametrize("kind", KINDS)


async def streamed(on: Across, kind: str, *pieces: str) -> Answer:
    dialect, made = KINDS[kind]

    async def says(exchange: Exchange) -> None:
        assert streams(exchange)
        await exchange.stream(*made(*pieces))

    on.plays[dialect] = says
    return await ask(on, dialect, ASKED[dialect], stream=True)


@EACH_KIND
async def test_what_is_split_over_pieces_does_not_pass_a_guard(kind: str) -> None:
    async with across(plugins=[GUARD]) as on:
        stopped = await streamed(on, kind, "see ", MAIL[:4], MAIL[4:9], MAIL[9:])
        assert b"content_filter" in stopped.body or stopped.status == 400
        for piece in (MAIL[:4], MAIL[4:9], MAIL[9:]):
            assert f'"{piece}"'.encode() not in stopped.body
        passed = await streamed(on, kind, "see ", "ann@", "exampl", "es.com")
        assert passed.status == 200
        assert b"es.com" in passed.body
        assert passed.parts


@EACH_KIND
async def test_what_is_split_over_pieces_is_hidden(kind: str) -> None:
    async with across(plugins=[HIDES]) as on:
        answer = await streamed(on, kind, "see ", MAIL[:4], MAIL[4:9], MAIL[9:], " and more")
        assert answer.status == 200
        assert answer.parts
        said = "".join(piece.said for piece in answer.parts if hasattr(piece, "said"))
        assert said == "see <EMAIL> and more"
        assert MAIL[4:9].encode() not in answer.body


async def test_json_in_pieces_is_looked_at_unescaped() -> None:
    pieces = ('{"to":"ann', "\\u004", "0example.com", '"}')
    async with across(plugins=[GUARD]) as on:
        stopped = await streamed(on, "mcp", *pieces)
        assert b"content_filter" in stopped.body or stopped.status == 400
    async with across(plugins=[HIDES]) as on:
        answer = await streamed(on, "mcp", *pieces)
        assert "".join(piece.said for piece in answer.parts if hasattr(piece, "said")) == '{"to":"<EMAIL>"}'
