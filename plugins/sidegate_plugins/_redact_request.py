"""A request with each of its texts rewritten: turns, calls of tools and their results, tools, what to embed."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Collection, Iterator
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
"""What is no text in a block of content: names, and payloads that would be broken by a change."""
TYPES = frozenset(("type",))
"""The same elsewhere: a schema, a field without a word."""
_TEXTS = ("json", "+json", "xml", "+xml", "javascript", "x-yaml", "yaml")
"""What types of `application` that are text end with."""
_OF_URLS = str.maketrans("-_", "+/")
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
            metadata=self.values(asked.metadata, frozenset()),
            input=tuple(self.plain(one) if isinstance(one, str) else one for one in asked.input),
        )
        return asked if rewritten == asked else rewritten

    def values(self, value: Any, but: Collection[str] = _UNTOUCHED) -> Any:
        """The texts that stand anywhere in a JSON value, those under the names of `but` left as they are."""
        match value:
            case str():
                return self.plain(value)
            case dict():
                return {
                    name: each if _is_left(name, each, but) else self.values(each, but) for name, each in value.items()
                }
            case list():
                return [self.values(each, but) for each in value]
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
        return replace(tool, description=description, parameters=self.values(tool.parameters, TYPES))

    def _format(self, shape: ResponseFormat) -> ResponseFormat:
        return replace(shape, schema=self.values(shape.schema, TYPES))


def _is_left(name: str, value: Any, but: Collection[str]) -> bool:
    return name in but and isinstance(value, str)


def text_of(file: FileContent) -> str | None:
    """The text of a file that is sent along and is text."""
    if file.data is None or not _is_text(file.media_type or ""):
        return None
    # Broken into lines, of the alphabet for URLs, without its padding: providers read it all the same.
    data = "".join(file.data.split()).translate(_OF_URLS).rstrip("=")
    try:
        return base64.b64decode(data + "=" * (-len(data) % 4), validate=True).decode()
    except (binascii.Error, ValueError):
        return None


def _is_text(media_type: str) -> bool:
    kind = media_type.partition(";")[0].strip().lower()
    return kind.startswith("text/") or (kind.startswith("application/") and kind.endswith(_TEXTS))


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


def texts(value: Any, but: Collection[str] = _UNTOUCHED) -> Iterator[str]:
    """The texts that stand anywhere in a JSON value, but for those under the names of `but`."""
    match value:
        case str():
            yield value
        case dict():
            for name, each in value.items():
                if not _is_left(name, each, but):
                    yield from texts(each, but)
        case list():
            for each in value:
                yield from texts(each, but)
        case _:
            return


def looks_like_json(text: str) -> bool:
    """Whether it begins as JSON does that holds others."""
    return text[:64].lstrip()[:1] in ("{", "[")


def _is_json(text: str) -> bool:
    if not looks_like_json(text):
        return False
    try:
        msgspec.json.decode(text)
    except _UNREADABLE:
        return False
    return True
