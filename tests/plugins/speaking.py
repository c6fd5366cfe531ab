"""What is asked and said where a plugin of texts is driven: a user's words, and a handler that says parts."""

from __future__ import annotations

from typing import Any

from sidegate.contract import (
    Call,
    Chunk,
    End,
    Finish,
    Handler,
    Message,
    Part,
    Reply,
    Report,
    Request,
    Start,
    Text,
    TextContent,
    Usage,
)
from sidegate.errors import Refusal
from sidegate.testing import Driven


def user(*texts: str, **more: Any) -> Request:
    return Request(model="demo", messages=(Message("user", tuple(map(TextContent, texts))),), **more)


def tells(*parts: Part, stream: bool = True, seen: list[Request] | None = None) -> Handler:
    """A handler that says these parts, one event each, or all in one body."""

    async def handler(call: Call) -> Reply:
        if seen is not None:
            seen.append(call.request)
        ends: tuple[Part, ...] = (Finish("stop"), Report(Usage(input_tokens=1, output_tokens=1)), End())
        if stream:
            for part in (Start(id="r"), *parts, *ends):
                await call.send(Chunk.of(part))
        else:
            await call.send(Chunk(parts=(Start(id="r"), *parts, *ends), whole=True, closing=True))
        return Reply(finish="stop")

    return handler


def letters(text: str, **where: int) -> list[Part]:
    return [Text(letter, **where) for letter in text]


def error(done: Driven) -> Refusal:
    assert isinstance(done.error, Refusal), done.error
    return done.error
