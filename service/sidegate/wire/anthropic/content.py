"""Content blocks of a request, read and written.

Source: https://platform.claude.com/docs/en/api/messages. `cache_control` is no part of the meaning, and a block of
another kind is `OpaqueContent` with its type as kind.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.json import Encoder as JsonEncoder

from sidegate.contract.meaning import (
    Content,
    FileContent,
    ImageContent,
    OpaqueContent,
    ReasoningContent,
    TextContent,
    ToolResult,
    ToolUse,
)
from sidegate.errors import BadRequest
from sidegate.wire.body import UNREADABLE, read_as
from sidegate.wire.seals import ANTHROPIC, is_of, unmarked

_json = JsonEncoder().encode


class _Kind(Struct):
    type: str


class _Text(Struct):
    text: str


class _Source(Struct):
    type: str
    data: str | None = None
    media_type: str | None = None
    url: str | None = None
    file_id: str | None = None
    content: Any = None


class _Media(Struct):
    source: _Source
    title: str | None = None


class _Thinking(Struct):
    thinking: str
    signature: str | None = None


class _Redacted(Struct):
    data: str


class _ToolUse(Struct):
    id: str
    name: str
    input: dict[str, Any]


class _ToolResult(Struct):
    tool_use_id: str
    content: str | list[dict[str, Any]] | None = None
    is_error: bool | None = None


def read_content(content: str | list[dict[str, Any]], place: str) -> tuple[Content, ...]:
    """The content of a turn, or a `system`. `place` is where it is, for errors."""
    if isinstance(content, str):
        return (TextContent(content),)
    return tuple(_read(block, f"{place}[{index}]") for index, block in enumerate(content))


def write_content(content: Content) -> dict[str, Any] | None:
    """A block; `None` where there is no counterpart. Raises `BadRequest` for a call whose arguments are no object."""
    match content:
        case TextContent(text):
            return {"type": "text", "text": text}
        case ImageContent():
            return _write_image(content)
        case FileContent():
            return _write_file(content)
        case ReasoningContent():
            return _write_thinking(content)
        case ToolUse():
            given = _arguments(content)
            return {"type": "tool_use", "id": content.id, "name": content.name, "input": given}
        case ToolResult():
            return _write_result(content)
        case OpaqueContent(kind, data):
            # Other dialects mark their kinds, so that only a block of this one says its own.
            return data if isinstance(data, dict) and data.get("type") == kind else None


def _read(block: dict[str, Any], place: str) -> Content:
    kind = read_as(block, _Kind, place).type
    read = _BLOCKS.get(kind)
    return OpaqueContent(kind, block) if read is None else read(block, place)


def _read_text(block: dict[str, Any], place: str) -> Content:
    return TextContent(read_as(block, _Text, place).text)


def _read_image(block: dict[str, Any], place: str) -> Content:
    source = read_as(block, _Media, place).source
    if source.type == "base64" and source.data is not None:
        return ImageContent(data=source.data, media_type=source.media_type)
    if source.type == "url" and source.url is not None:
        return ImageContent(url=source.url)
    return OpaqueContent("image", block)


def _read_document(block: dict[str, Any], place: str) -> Content:
    media = read_as(block, _Media, place)
    source, title = media.source, media.title
    text = source.content if source.type == "content" else source.data
    if source.type in ("text", "content") and isinstance(text, str):
        data = base64.b64encode(text.encode("utf-8")).decode()
        return FileContent(data=data, media_type="text/plain", name=title)
    if source.type == "base64" and source.data is not None:
        return FileContent(data=source.data, media_type=source.media_type, name=title)
    if source.type == "url" and source.url is not None:
        return FileContent(url=source.url, name=title)
    if source.type == "file" and source.file_id is not None:
        return FileContent(file_id=source.file_id, name=title)
    return OpaqueContent("document", block)


def _read_thinking(block: dict[str, Any], place: str) -> Content:
    thinking = read_as(block, _Thinking, place)
    if not thinking.signature:
        return ReasoningContent(thinking.thinking)
    vendor, signature, redacted = unmarked(ANTHROPIC, thinking.signature)
    return ReasoningContent(thinking.thinking, signature, redacted, vendor)


def _read_redacted(block: dict[str, Any], place: str) -> Content:
    return ReasoningContent(redacted=read_as(block, _Redacted, place).data, vendor=ANTHROPIC)


def _read_tool_use(block: dict[str, Any], place: str) -> Content:
    use = read_as(block, _ToolUse, place)
    return ToolUse(use.id, use.name, _json(use.input).decode())


def _read_tool_result(block: dict[str, Any], place: str) -> Content:
    result = read_as(block, _ToolResult, place)
    if isinstance(result.content, str):
        return ToolResult(result.tool_use_id, (TextContent(result.content),), bool(result.is_error))
    pieces = tuple(_answer(block, f"{place}.content[{index}]") for index, block in enumerate(result.content or ()))
    return ToolResult(result.tool_use_id, pieces, bool(result.is_error))


def _answer(block: dict[str, Any], place: str) -> TextContent | ImageContent | FileContent:
    """A piece of a tool's answer. Kinds without a word here (`search_result`) go as their JSON: the model sees them."""
    read = _ANSWERS.get(read_as(block, _Kind, place).type)
    piece = None if read is None else read(block, place)
    return piece if isinstance(piece, TextContent | ImageContent | FileContent) else TextContent(_json(block).decode())


_ANSWERS: Mapping[str, Callable[[dict[str, Any], str], Content]] = {
    "text": _read_text,
    "image": _read_image,
    "document": _read_document,
}
_BLOCKS: Mapping[str, Callable[[dict[str, Any], str], Content]] = {
    **_ANSWERS,
    "thinking": _read_thinking,
    "redacted_thinking": _read_redacted,
    "tool_use": _read_tool_use,
    "tool_result": _read_tool_result,
}


def _write_image(image: ImageContent) -> dict[str, Any] | None:
    if image.url is not None:
        return {"type": "image", "source": {"type": "url", "url": image.url}}
    if image.data is None or image.media_type is None:
        return None
    return {"type": "image", "source": {"type": "base64", "media_type": image.media_type, "data": image.data}}


def _write_file(file: FileContent) -> dict[str, Any] | None:
    source: dict[str, Any]
    if file.data is not None:
        source = _write_data(file.data, file.media_type or "application/pdf")
    elif file.url is not None:
        source = {"type": "url", "url": file.url}
    elif file.file_id is not None:
        source = {"type": "file", "file_id": file.file_id}
    else:
        return None
    named = {} if file.name is None else {"title": file.name}
    return {"type": "document", "source": source, **named}


def _write_data(data: str, media_type: str) -> dict[str, Any]:
    """Inline documents are PDF in base64, or text as it is. Raises `BadRequest` where a text is no UTF-8 in base64."""
    if not media_type.startswith("text/"):
        return {"type": "base64", "media_type": media_type, "data": data}
    try:
        text = base64.b64decode(data, validate=True).decode("utf-8")
    except (binascii.Error, ValueError) as error:
        raise BadRequest("A text file must be UTF-8 in base64.", param="messages") from error
    return {"type": "text", "media_type": "text/plain", "data": text}


def _write_thinking(thinking: ReasoningContent) -> dict[str, Any] | None:
    if not is_of(thinking.vendor, ANTHROPIC):
        return None
    if thinking.redacted is not None:
        return {"type": "redacted_thinking", "data": thinking.redacted}
    if thinking.signature is None:
        # Thinking of another model: unsigned, it would be refused.
        return None
    return {"type": "thinking", "thinking": thinking.text, "signature": thinking.signature}


def _write_result(result: ToolResult) -> dict[str, Any]:
    blocks = [block for piece in result.content if (block := write_content(piece)) is not None]
    content: Any = [block for block in blocks if block.get("text") != ""]
    if len(content) == 1 and content[0]["type"] == "text":
        content = content[0]["text"]
    failed = {"is_error": True} if result.is_error else {}
    given = {"content": content} if content else {}
    return {"type": "tool_result", "tool_use_id": result.id, **given, **failed}


def _arguments(use: ToolUse) -> dict[str, Any]:
    try:
        return msgspec.json.decode(use.arguments.strip() or "{}", type=dict[str, Any])
    except UNREADABLE as error:
        message = f"The arguments of the call of {use.name[:100]!r} are no JSON object."
        raise BadRequest(message, param="messages") from error
