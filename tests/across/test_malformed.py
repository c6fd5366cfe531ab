"""Bytes that are no reply, of each provider, before each client: an error in its own words, and never a hang or a
silent stop. What is odd but allowed costs nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sidegate.errors import ProviderError
from sidegate.testing import MISBEHAVIOURS, Exchange, Script
from sidegate.testing.oddities import LARGE
from sidegate.testing.spoken import streams
from sidegate.testing.voices import TEXT, VOICES, WORDS, framed
from sidegate.wire import sse
from sidegate.wire.sse import Splitter
from tests.across.ground import CLIENTS, PROVIDERS, UI, Answer, across
from tests.across.speaking import heard
from tests.wire.ui_reading import chunks

each_client = pytest.mark.parametrize("client", [*CLIENTS, UI])

BROKEN = (
    "nonsense_first",
    "nonsense_in_mid_stream",
    "ends_without_finish",
    "ends_inside_an_event",
    "ends_at_once",
    "error_first",
    "error_in_mid_stream",
    "reset_in_mid_stream",
)
ODD = ("unknown_events", "large_event", "crlf", "comments", "multi_line_data", "byte_by_byte", "no_mark", "no_usage")

SHAPES: tuple[bytes, ...] = (
    b"[]",
    b"null",
    b"7",
    b'"text"',
    b"{}",
    b'{"type": 7}',
    b'{"type": null, "choices": 7, "candidates": 7}',
    b'{"choices": [7], "candidates": [{"content": 7}], "type": "content_block_delta", "delta": 7, "index": "x"}',
    b'{"choices": [{"delta": [], "index": -1}], "candidates": [{"index": -5}], "type": "content_block_start"}',
    b'{"type": "response.output_item.done", "item": 7, "choices": {}, "candidates": {}}',
    b"[" * 5000,
    b"\x00",
)


def events(answer: Answer) -> list[bytes]:
    splitter = Splitter()
    found = splitter.feed(answer.body)
    assert splitter.close() is None, "the stream ends inside an event"
    return found


def text_of(answer: Answer) -> str:
    """What the client had before it broke off."""
    found = ""
    for event in events(answer):
        data = sse.data(event)
        said = json.loads(data.decode("utf-8", "replace")) if data and data != b"[DONE]" else {}
        match said:
            case {"choices": [{"delta": {"content": str(text)}}, *_]}:
                found += text
            case {"type": "content_block_delta", "delta": {"text": str(text)}}:
                found += text
            case {"type": "response.output_text.delta" | "text-delta", "delta": str(text)}:
                found += text
            case {"candidates": [{"content": {"parts": [{"text": str(text)}, *_]}}, *_]}:
                found += text
            case _:
                continue
    return found


def check_failed(answer: Answer) -> None:
    """An error reply before anything was said, else an error event and no clean end."""
    if answer.status != 200:
        assert answer.status >= 500
        assert answer.body
        assert answer.client == UI or answer.error["message"]
        return
    assert text_of(answer) in (WORDS[0] + WORDS[1], WORDS[0], "")
    if answer.client == UI:
        assert [chunk["type"] for chunk in chunks(answer.body)][-1] == "error"
        return
    assert b"[DONE]" not in answer.body
    with pytest.raises(ProviderError):
        _ = answer.parts


@each_client
async def test_a_reply_that_breaks_is_an_error_in_the_clients_words(client: str) -> None:
    async with across() as there:
        for provider, dialect in PROVIDERS.items():
            for name in BROKEN:
                there.plays[provider] = MISBEHAVIOURS[name](dialect)
                for stream in (True, False):
                    check_failed(await there.ask(client, provider, stream=stream))


@each_client
async def test_what_is_odd_costs_nothing(client: str) -> None:
    async with across() as there:
        for provider, dialect in PROVIDERS.items():
            for name in ODD:
                there.plays[provider] = MISBEHAVIOURS[name](dialect)
                for stream in (True, False):
                    told, _ = heard(await there.ask(client, provider, stream=stream or client == UI))
                    assert (told.text, told.finish) == ("x" * LARGE if name == "large_event" else TEXT, "stop"), name


def says(dialect: str, odd: bytes) -> Script:
    """Two words, then an event of this data, then the rest."""
    voice = VOICES[dialect]

    async def script(exchange: Exchange) -> None:
        begins, ends = voice.begins(*WORDS), voice.ends(voice.usage((7, 4)))
        if streams(exchange):
            await exchange.stream(*begins, b"data: " + odd + b"\n\n", *ends)
        else:
            await exchange.reply(odd)

    return script


@each_client
async def test_an_event_of_any_shape_is_passed_over_or_an_error(client: str) -> None:
    async with across() as there:
        for provider, dialect in PROVIDERS.items():
            for odd in SHAPES:
                there.plays[provider] = says(dialect, odd)
                answer = await there.ask(client, provider, stream=True)
                assert answer.status == 200, (provider, odd, answer.body)
                assert text_of(answer) == TEXT, (provider, odd)
                failed = b'"error' in answer.body
                if failed:
                    assert b"[DONE]" not in answer.body
                else:
                    assert heard(answer)[0].finish == "stop", (provider, odd)
                whole = await there.ask(client, provider, stream=False)
                assert whole.status in (200, 502), (provider, odd)


@each_client
async def test_bytes_that_are_no_utf8_end_in_an_error_or_not_at_all(client: str) -> None:
    """In a field that nobody reads they pass where bytes pass."""
    async with across() as there:
        for provider, dialect in PROVIDERS.items():
            there.plays[provider] = says(dialect, b'{"a": "\xff\xfe"}')
            answer = await there.ask(client, provider, stream=True)
            assert answer.status in (200, 502)
            assert answer.status == 502 or text_of(answer) == TEXT


# --- blocks that interleave -------------------------------------------------------------------------------------------

CALLED = [("c1", "f", {"a": 1}), ("c2", "g", {"b": 2})]


def _chat(**delta: Any) -> bytes:
    return framed({"id": "c", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})


def _piece(index: int, arguments: str, **more: Any) -> dict[str, Any]:
    return {"index": index, "function": {"arguments": arguments, **more}}


def _claude(kind: str, **fields: Any) -> bytes:
    return framed({"type": kind, **fields}, kind)


def _claude_piece(index: int, text: str) -> bytes:
    return _claude("content_block_delta", index=index, delta={"type": "input_json_delta", "partial_json": text})


def _claude_tool(index: int, id: str, name: str) -> bytes:
    block = {"type": "tool_use", "id": id, "name": name, "input": {}}
    return _claude("content_block_start", index=index, content_block=block)


def _item(index: int, id: str, name: str, arguments: str = "") -> dict[str, Any]:
    item = {"type": "function_call", "id": f"fc{index}", "call_id": id, "name": name, "arguments": arguments}
    return {"output_index": index, "item": item}


def _arguments(index: int, delta: str) -> bytes:
    kind = "response.function_call_arguments.delta"
    return _claude(kind, output_index=index, item_id=f"fc{index}", delta=delta)


INTERLEAVED: dict[str, tuple[bytes, ...]] = {
    "openai.chat": (
        _chat(role="assistant", content=None),
        _chat(tool_calls=[{**_piece(0, "", name="f"), "id": "c1", "type": "function"}]),
        _chat(tool_calls=[{**_piece(1, "", name="g"), "id": "c2", "type": "function"}]),
        _chat(tool_calls=[_piece(1, '{"b"')]),
        _chat(tool_calls=[_piece(0, '{"a"'), _piece(1, ":2}")]),
        _chat(tool_calls=[_piece(0, ":1}")]),
        framed({"id": "c", "model": "m", "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}),
        b"data: [DONE]\n\n",
    ),
    "anthropic.messages": (
        _claude("message_start", message={"id": "m", "model": "m", "usage": {"input_tokens": 1, "output_tokens": 1}}),
        _claude_tool(0, "c1", "f"),
        _claude_tool(1, "c2", "g"),
        _claude_piece(1, '{"b"'),
        _claude_piece(0, '{"a"'),
        _claude_piece(1, ":2}"),
        _claude_piece(0, ":1}"),
        _claude("content_block_stop", index=1),
        _claude("content_block_stop", index=0),
        _claude("message_delta", delta={"stop_reason": "tool_use"}, usage={"output_tokens": 2}),
        _claude("message_stop"),
    ),
    "openai.responses": (
        _claude("response.created", response={"id": "r", "model": "m", "status": "in_progress", "output": []}),
        _claude("response.output_item.added", **_item(0, "c1", "f")),
        _claude("response.output_item.added", **_item(1, "c2", "g")),
        _arguments(1, '{"b"'),
        _arguments(0, '{"a"'),
        _arguments(1, ":2}"),
        _arguments(0, ":1}"),
        _claude("response.output_item.done", **_item(1, "c2", "g", '{"b":2}')),
        _claude("response.output_item.done", **_item(0, "c1", "f", '{"a":1}')),
        _claude("response.completed", response={"id": "r", "model": "m", "status": "completed", "output": []}),
    ),
}


@each_client
async def test_calls_that_interleave_come_out_whole(client: str) -> None:
    async def plays(exchange: Exchange) -> None:
        await exchange.stream(*said)

    async with across() as there:
        for provider, said in INTERLEAVED.items():  # noqa: B007  # the script says it
            there.plays[provider] = plays
            told, _ = heard(await there.ask(client, provider, stream=True))
            assert sorted(told.calls) == CALLED, provider
            assert told.finish == "tool_calls"


@each_client
async def test_an_event_beyond_the_bound_is_an_error_and_no_memory(client: str) -> None:
    async with across() as there:
        for provider, dialect in PROVIDERS.items():
            there.plays[provider] = MISBEHAVIOURS["endless_line"](dialect)
            answer = await there.ask(client, provider, stream=True)
            assert answer.status == 502


async def test_an_error_in_a_stream_of_responses_has_the_next_number() -> None:
    async with across() as there:
        for provider, dialect in PROVIDERS.items():
            there.plays[provider] = MISBEHAVIOURS["ends_without_finish"](dialect)
            answer = await there.ask("openai.responses", provider, stream=True)
            numbers = [json.loads(sse.data(event) or b"")["sequence_number"] for event in events(answer)]
            if provider == "openai.responses":
                # Passed on as they came: nobody counts them.
                assert numbers[-1] == 0
            else:
                assert numbers == list(range(len(numbers)))
