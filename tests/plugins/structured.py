"""What tests of structured output share: schemas, requests that want JSON, handlers that answer with given texts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from sidegate.contract import (
    Call,
    Chunk,
    End,
    Finish,
    FinishReason,
    Handler,
    Host,
    Part,
    Reply,
    Request,
    ResponseFormat,
    Text,
)
from sidegate.contract.meaning import Message, TextContent
from sidegate.errors import SidegateError
from sidegate.testing import Driven, host
from sidegate_plugins.structured_output import Settings, StructuredOutput

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"$ref": "#/$defs/age"}},
    "required": ["name"],
    "additionalProperties": False,
    "$defs": {"age": {"type": "integer", "minimum": 0}},
}
FITS = '{"name": "Ann", "age": 7}'
MISMATCH = (422, "reply_schema_mismatch")


@asynccontextmanager
async def structured(to: Host | None = None, **settings: Any) -> AsyncIterator[StructuredOutput]:
    plugin = StructuredOutput(Settings(**settings), to or host())
    await plugin.start()
    try:
        yield plugin
    finally:
        await plugin.stop()


def wanting(schema: dict[str, Any] | None, kind: str = "json_schema", **more: Any) -> Request:
    shape = msgspec.convert({"kind": kind, "schema": schema}, ResponseFormat)
    question = Message("user", (TextContent("Who?"),))
    return Request(model="demo", messages=(question,), response_format=shape, **more)


def answers(*texts: str, finish: FinishReason = "stop", stream: bool = True, more: tuple[Part, ...] = ()) -> Handler:
    """A handler whose choices are these texts, in small pieces where it streams."""

    async def handler(call: Call) -> Reply:
        await say(call, texts, finish, stream, more)
        return Reply()

    return handler


class Turns:
    """A handler that answers otherwise each time it is asked, and keeps what it was asked."""

    def __init__(self, *texts: str, stream: bool = False, finish: FinishReason = "stop") -> None:
        self._texts = texts
        self._stream = stream
        self._finish: FinishReason = finish
        self.asked: list[Request] = []
        self.said = 0
        """Characters that were really sent."""

    async def __call__(self, call: Call) -> Reply:
        text = self._texts[len(self.asked)]
        self.asked.append(call.request)
        await say(call, (text,), self._finish, self._stream, (), self)
        return Reply()


async def say(
    call: Call,
    texts: tuple[str, ...],
    finish: FinishReason,
    stream: bool,
    more: tuple[Part, ...],
    counts: Turns | None = None,
) -> None:
    parts: list[Part] = []
    for choice, text in enumerate(texts):
        pieces = [text] if not stream else [text[n : n + 5] for n in range(0, len(text), 5)]
        parts += [Text(piece, choice) for piece in pieces]
        parts += [*more, Finish(finish, choice)] if choice == len(texts) - 1 else [Finish(finish, choice)]
    parts.append(End())
    if not stream:
        await call.send(Chunk(parts=tuple(parts), whole=True, closing=True))
        return
    for part in parts:
        await call.send(Chunk.of(part))
        if counts is not None and isinstance(part, Text):
            counts.said += len(part.text)


def refusal(driven: Driven) -> tuple[int, str]:
    assert isinstance(driven.error, SidegateError), driven.error
    return driven.error.status, driven.error.code
