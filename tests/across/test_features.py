"""The table of features in docs/dialects/translation.md, cell by cell: each client before each provider."""

from __future__ import annotations

import runpy
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from sidegate.contract.meaning import FileContent, ImageContent, Request, ToolResult, ToolUse
from sidegate.errors import ProviderError
from sidegate.testing import Exchange
from sidegate.testing.spoken import streams
from sidegate.testing.voices import VOICES
from sidegate.wire.body import read_fields
from sidegate.wire.registry import DIALECTS
from tests.across.ground import CLIENTS, PROVIDERS, UI, Across, Answer, across
from tests.across.speaking import CALLS, TEXT, THOUGHT, URL, USED, calls, citing, heard, plays, text, thinking
from tests.tree import ROOT
from tests.wire.asking import ASKS, PDF, PIXEL, SCHEMA, asked
from tests.wire.ui_reading import read as read_page

TABLE = runpy.run_path(str(ROOT / "scripts" / "translation.py"))
Cell = Callable[[Across, str, str], Awaitable[str]]


def heard_by(there: Across, provider: str) -> Request:
    """What the provider was asked, as one of its dialect reads it."""
    dialect = DIALECTS[provider]
    fields = read_fields(msgspec.json.encode(there.sent(provider)))
    return dialect.read_request(dialect.place(fields, model="real", stream=False))


def pieces(request: Request) -> list[Any]:
    found = [piece for message in request.messages for piece in message.content]
    return [*found, *(one for piece in found if isinstance(piece, ToolResult) for one in piece.content)]


async def each(there: Across, client: str, provider: str, *features: str) -> list[Answer]:
    """The answers to a request with these features, streamed and buffered."""
    fields = asked(client, *(ASKS[client][feature] for feature in features))
    both = (True,) if client == UI else (True, False)
    answers = [await there.ask(client, provider, fields, stream=stream) for stream in both]
    if len({answer.status for answer in answers}) > 1:
        raise AssertionError([answer.body for answer in answers])
    return answers


def refused(answers: list[Answer]) -> str | None:
    if answers[0].status == 200:
        return None
    assert answers[0].status == 400, answers[0].body
    return "refused" if b"no counterpart" in answers[0].body else answers[0].body.decode()


async def of_text(there: Across, client: str, provider: str) -> str:
    there.plays[provider] = plays(provider, text())
    for answer in await each(there, client, provider, "system"):
        told, _ = heard(answer)
        assert (told.text, told.finish) == (TEXT, "stop")
    (system,) = [message.text for message in heard_by(there, provider).messages if message.role == "system"]
    assert system == "Be brief."
    return "works"


async def of_tools(there: Across, client: str, provider: str) -> str:
    there.plays[provider] = plays(provider, calls())
    for answer in await each(there, client, provider, "tools", "messages.content.tool_result"):
        told, _ = heard(answer)
        assert (told.calls, told.text, told.finish) == (CALLS, "Now. ", "tool_calls")
    request = heard_by(there, provider)
    assert [(tool.name, tool.parameters) for tool in request.tools] == [("f", SCHEMA)]
    called = [piece for piece in pieces(request) if isinstance(piece, ToolUse)]
    results = [piece for piece in pieces(request) if isinstance(piece, ToolResult)]
    assert [(one.name, msgspec.json.decode(one.arguments)) for one in called] == [("f", {"a": 1})]
    assert [(one.id, [piece.text for piece in one.content]) for one in results] == [(called[0].id, ["4"])]  # type: ignore[union-attr]
    return "works"


async def of_streamed_tools(there: Across, client: str, provider: str) -> str:
    """Arguments come piece by piece, where the provider tells them so and the client has pieces of them."""
    there.plays[provider] = plays(provider, calls())
    answer = await there.ask(client, provider, asked(client, ASKS[client]["tools"]), stream=True)
    told, _ = heard(answer)
    assert told.calls == CALLS
    # The first piece ends in the middle of the object.
    return "works" if b'"{\\"a\\""' in answer.body else "whole"


async def of_images(there: Across, client: str, provider: str) -> str:
    there.plays[provider] = plays(provider, text())
    answers = await each(there, client, provider, "messages.content.image")
    if (no := refused(answers)) is not None:
        return no
    assert [one.data for one in pieces(heard_by(there, provider)) if isinstance(one, ImageContent)] == [PIXEL]
    return "works"


async def of_files(there: Across, client: str, provider: str) -> str:
    there.plays[provider] = plays(provider, text())
    answers = await each(there, client, provider, "messages.content.file")
    if (no := refused(answers)) is not None:
        return no
    assert [one.data for one in pieces(heard_by(there, provider)) if isinstance(one, FileContent)] == [PDF]
    return "works"


async def of_schema(there: Across, client: str, provider: str) -> str:
    there.plays[provider] = plays(provider, text())
    answers = await each(there, client, provider, "response_format.json_schema")
    if (no := refused(answers)) is not None:
        return no
    asked_for = heard_by(there, provider).response_format
    assert asked_for is not None
    assert (asked_for.kind, asked_for.schema) == ("json_schema", SCHEMA)
    return "works"


async def of_reasoning(there: Across, client: str, provider: str) -> str:
    there.plays[provider] = plays(provider, thinking(provider))
    for answer in await each(there, client, provider, "reasoning_effort"):
        told, _ = heard(answer)
        assert (told.reasoning, told.text) == (THOUGHT, TEXT)
    request = heard_by(there, provider)
    assert request.reasoning_effort == "low" or request.reasoning_tokens == 1024
    return "works"


async def of_citations(there: Across, client: str, provider: str) -> str:
    there.plays[provider] = plays(provider, citing())
    for answer in await each(there, client, provider, "system"):
        told, urls = heard(answer)
        assert (told.text, urls) == (TEXT, {URL})
    return "works"


async def of_usage(there: Across, client: str, provider: str) -> str:
    there.plays[provider] = plays(provider, text())
    missing: set[str] = set()
    for answer in await each(there, client, provider, "system"):
        usage = heard(answer)[0].usage
        assert usage is not None
        assert (usage.input_tokens, usage.output_tokens, usage.cache_read_tokens) == (100, 20, 60)
        missing |= set() if usage.reasoning_tokens == USED.reasoning_tokens else {"reasoning"}
    return f"without {', '.join(missing)}" if missing else "works"


async def of_errors(there: Across, client: str, provider: str) -> str:
    voice = VOICES[PROVIDERS[provider]]

    async def limited(exchange: Exchange) -> None:
        await exchange.reply(voice.failure("Slow down.", "rate_limit_error"), 429, Retry_After="7")

    async def breaks(exchange: Exchange) -> None:
        if streams(exchange):
            await exchange.stream(*voice.begins("Hi"), voice.failure_event("It broke."))
        else:
            await exchange.reply(voice.failure("It broke."), 500)

    there.plays[provider] = limited
    for answer in await each(there, client, provider, "system"):
        assert (answer.status, b"Slow down." in answer.body) == (429, True)
        assert answer.headers["Retry-After"] == "7"
        if client != UI:
            assert answer.error["message"]
    there.plays[provider] = breaks
    answer = await there.ask(client, provider, asked(client), stream=True)
    assert answer.status == 200
    if client == UI:
        assert read_page(answer.body).error
    else:
        with pytest.raises(ProviderError):
            _ = answer.parts
    return "works"


CELLS: dict[str, Cell] = {
    "text": of_text,
    "tools": of_tools,
    "streamed tools": of_streamed_tools,
    "images": of_images,
    "files": of_files,
    "JSON schema": of_schema,
    "reasoning": of_reasoning,
    "citations": of_citations,
    "usage": of_usage,
    "errors": of_errors,
}


def test_every_cell_is_driven() -> None:
    assert tuple(CELLS) == TABLE["ASPECTS"]
    assert (*CLIENTS, UI) == TABLE["CLIENTS"]
    assert TABLE["PROVIDERS"] == tuple(PROVIDERS)


@pytest.mark.parametrize("client", [*CLIENTS, UI])
async def test_each_cell_of_the_table_is_true(client: str) -> None:
    found: dict[tuple[str, str], str] = {}
    async with across() as there:
        for provider in PROVIDERS:
            for name, drive in CELLS.items():
                try:
                    found[provider, name] = await drive(there, client, provider)
                except AssertionError as error:
                    error.add_note(f"{name}, to {provider}")
                    raise
    declared = {key: TABLE["outcome"](client, *key) for key in found}
    assert found == declared
