"""The texts of a request that `guard` judges."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import msgspec

from sidegate.contract import (
    Content,
    FileContent,
    Message,
    OpaqueContent,
    ReasoningContent,
    Request,
    TextContent,
    ToolResult,
    ToolUse,
)
from sidegate_plugins._redact_request import TYPES, text_of, texts

_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def judged(asked: Request, roles: Collection[str], *, all_turns: bool) -> list[str]:
    """What the turns of these roles say, or only those after the model's last one; what is to be embedded; and what
    stands in fields that have no word here."""
    messages = asked.messages if all_turns else latest(asked)
    found = [text for message in messages if message.role in roles for text in _said(message)]
    found += [one for one in asked.input if isinstance(one, str)]
    found += texts(asked.extra, TYPES)
    return [text for text in found if text.strip()]


def latest(asked: Request) -> tuple[Message, ...]:
    """The turns after the model's last one."""
    after = [number for number, message in enumerate(asked.messages) if message.role == "assistant"]
    return asked.messages[after[-1] + 1 if after else 0 :]


def _said(message: Message) -> Iterator[str]:
    if message.name:
        yield message.name
    for content in message.content:
        yield from _of(content)


def _of(content: Content) -> Iterator[str]:
    match content:
        case TextContent(text) | ReasoningContent(text):
            yield text
        case FileContent():
            yield content.name or ""
            yield text_of(content) or ""
        case ToolUse():
            yield from _json(content.arguments)
        case ToolResult():
            for piece in content.content:
                yield from _of(piece)
        case OpaqueContent(_, data):
            yield from texts(data)
        case _:
            return


def _json(text: str) -> Iterator[str]:
    """The texts in it as they are meant, or all of it where it is no JSON."""
    try:
        value: Any = msgspec.json.decode(text)
    except _UNREADABLE:
        yield text
        return
    yield text if not isinstance(value, dict | list) else "\n".join(texts(value))
