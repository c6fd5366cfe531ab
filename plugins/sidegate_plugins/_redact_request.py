"""A request with each of its texts rewritten: turns, calls of tools and their results, tools, what to embed."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec.structs import replace

from sidegate.contract import (
    Content,
    FileContent,
    ImageContent,
    Message,
    OpaqueContent,
    Request,
    ResponseFormat,
    TextContent,
    Tool,
    ToolResult,
    ToolUse,
)

_UNTOUCHED = frozenset(
    (
        "type",
        "id",
        "data",
        "file_data",
        "file_id",
        "image_url",
        "url",
        "signature",
        "encrypted_content",
        "cache_control",
    )
)
"""What is no text: names, and payloads that would be broken by a change."""
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

Rewrite = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Rewriting:
    """`plain` rewrites a text, `json` one that is JSON."""

    plain: Rewrite
    json: Rewrite

    def request(self, asked: Request) -> Request:
        """The request itself where nothing came out different. Thinking is left as it is: it may be signed."""
        shape = asked.response_format
        rewritten = replace(
            asked,
            messages=tuple(map(self._message, asked.messages)),
            tools=tuple(map(self._tool, asked.tools)),
            response_format=None if shape is None else self._format(shape),
            stop=tuple(map(self.plain, asked.stop)),
            user=None if asked.user is None else self.plain(asked.user),
            metadata=self.values(asked.metadata),
            input=tuple(self.plain(one) if isinstance(one, str) else one for one in asked.input),
        )
        return asked if rewritten == asked else rewritten

    def values(self, value: Any) -> Any:
        """The texts that stand anywhere in a JSON value."""
        match value:
            case str():
                return self.plain(value)
            case dict():
                return {name: each if _is_untouched(name, each) else self.values(each) for name, each in value.items()}
            case list():
                return [self.values(each) for each in value]
            case _:
                return value

    def _message(self, message: Message) -> Message:
        name = None if message.name is None else self.plain(message.name)
        return replace(message, content=tuple(map(self._content, message.content)), name=name)

    def _content(self, content: Content) -> Content:
        match content:
            case TextContent(text):
                return TextContent(self.plain(text))
            case FileContent():
                return self._file(content)
            case ToolUse():
                return replace(content, arguments=self.json(content.arguments))
            case ToolResult():
                return replace(content, content=tuple(map(self._answer, content.content)))
            case OpaqueContent(kind, data):
                return OpaqueContent(kind, self.values(data))
            case _:
                return content

    def _answer(self, piece: TextContent | ImageContent | FileContent) -> TextContent | ImageContent | FileContent:
        match piece:
            case TextContent(text):
                return TextContent(self.json(text) if _is_json(text) else self.plain(text))
            case FileContent():
                return self._file(piece)
            case _:
                return piece

    def _file(self, file: FileContent) -> FileContent:
        if file.name is not None:
            file = replace(file, name=self.plain(file.name))
        text = text_of(file)
        if text is None or (said := self.plain(text)) == text:
            return file
        return replace(file, data=base64.b64encode(said.encode()).decode())

    def _tool(self, tool: Tool) -> Tool:
        description = None if tool.description is None else self.plain(tool.description)
        return replace(tool, description=description, parameters=self.values(tool.parameters))

    def _format(self, shape: ResponseFormat) -> ResponseFormat:
        return replace(shape, schema=self.values(shape.schema))


def _is_untouched(name: str, value: Any) -> bool:
    return name in _UNTOUCHED and isinstance(value, str)


def text_of(file: FileContent) -> str | None:
    """The text of a file that is sent along and is text."""
    if file.data is None or not (file.media_type or "").startswith("text/"):
        return None
    try:
        return base64.b64decode(file.data, validate=True).decode()
    except (binascii.Error, ValueError):
        return None


def unreadable(asked: Request) -> str | None:
    """What no pattern can look into, if there is something: an image, a file that is no text, tokens."""
    pieces = [piece for message in asked.messages for piece in message.content]
    for piece in [*pieces, *(one for result in pieces if isinstance(result, ToolResult) for one in result.content)]:
        match piece:
            case ImageContent():
                return "an image"
            case FileContent() if text_of(piece) is None:
                return "a file"
            case OpaqueContent(kind):
                return f"content of the kind {kind[:40]!r}"
            case _:
                continue
    return "tokens" if any(not isinstance(one, str) for one in asked.input) else None


def texts(value: Any) -> Iterator[str]:
    """The texts that stand anywhere in a JSON value."""
    match value:
        case str():
            yield value
        case dict():
            for name, each in value.items():
                if not _is_untouched(name, each):
                    yield from texts(each)
        case list():
            for each in value:
                yield from texts(each)
        case _:
            return


def _is_json(text: str) -> bool:
    if text[:64].lstrip()[:1] not in ("{", "["):
        return False
    try:
        msgspec.json.decode(text)
    except _UNREADABLE:
        return False
    return True
