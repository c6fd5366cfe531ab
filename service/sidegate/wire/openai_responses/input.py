"""Input items of OpenAI's Responses, read and written.

Source: https://platform.openai.com/docs/api-reference/responses/create. An item without a word here is
`OpaqueContent` of the kind `responses.TYPE`: it goes on in its own dialect, and is dropped or refused in others.
"""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

from msgspec import Struct

from sidegate.contract.meaning import (
    Content,
    FileContent,
    ImageContent,
    Message,
    OpaqueContent,
    ReasoningContent,
    TextContent,
    ToolResult,
    ToolUse,
)
from sidegate.errors import BadRequest
from sidegate.wire.body import read_as
from sidegate.wire.openai_responses import event as wire
from sidegate.wire.seals import OPENAI, is_of, unmarked

OPAQUE = "responses."
REFERENCE = "responses.item_reference"
"""An item that only the provider which keeps it knows."""
RESULT = "responses.function_call_output"
"""What a tool answered, where there is no word for a piece of it."""

_DATA_URL = re.compile(r"data:(?P<type>[^;,]*)(?:;[^;,]*)*;base64,(?P<data>.*)", re.DOTALL)
_Piece = TextContent | ImageContent | FileContent


class _Text(Struct):
    text: str


class _Refusal(Struct):
    refusal: str


class _Image(Struct):
    image_url: str | None = None
    file_id: str | None = None
    detail: str | None = None


class _File(Struct):
    file_data: str | None = None
    file_id: str | None = None
    file_url: str | None = None
    filename: str | None = None


class _Message(Struct):
    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[dict[str, Any]]


class _Call(Struct):
    call_id: str
    name: str
    arguments: str


class _Result(Struct):
    call_id: str
    output: str | list[dict[str, Any]]


class _Reasoning(Struct):
    summary: list[dict[str, Any]] | None = None
    content: list[dict[str, Any]] | None = None
    encrypted_content: str | None = None
    id: str | None = None


def read_input(items: list[dict[str, Any]]) -> tuple[Message, ...]:
    """The turns: items of one side that follow each other are one, as other dialects have them."""
    turns: list[Message] = []
    for index, item in enumerate(items):
        said = _read(item, f"input[{index}]")
        # What a user or a system says stays a turn of its own; results of tools, and what a model says, come in pieces.
        joined = said.role == "assistant" or all(isinstance(piece, ToolResult) for piece in said.content)
        before = turns[-1] if turns else None
        if joined and before is not None and before.role == said.role and _is_joined(before):
            turns[-1] = Message(said.role, (*before.content, *said.content))
        else:
            turns.append(said)
    return tuple(turns)


def _is_joined(message: Message) -> bool:
    return message.role == "assistant" or all(isinstance(piece, ToolResult) for piece in message.content)


def _read(item: dict[str, Any], place: str) -> Message:
    kind = item.get("type")
    if kind is None:
        # Of both kinds that need not say so, a reference has nothing but its id.
        kind = "message" if "role" in item or "content" in item or "id" not in item else "item_reference"
    if not isinstance(kind, str):
        raise BadRequest(f"{place}.type: Expected `str`", param=f"{place}.type")
    match kind:
        case "message":
            return _read_message(item, place)
        case "function_call":
            call = read_as(item, _Call, place)
            return Message("assistant", (ToolUse(call.call_id, call.name, call.arguments),))
        case "function_call_output":
            return Message("user", (_read_result(item, place),))
        case "reasoning":
            return Message("assistant", (_read_reasoning(item, place),))
        case _:
            role: Literal["user", "assistant"] = "user" if kind.endswith("_output") else "assistant"
            return Message(role, (OpaqueContent(OPAQUE + kind[:100], item),))


def _read_message(item: dict[str, Any], place: str) -> Message:
    message = read_as(item, _Message, place)
    content = read_content(message.content, f"{place}.content")
    if message.role == "developer":
        return Message("system", content)
    return Message(message.role, content)


def _read_reasoning(item: dict[str, Any], place: str) -> Content:
    """Thinking of an earlier turn. One that only its provider can look up is opaque."""
    said = read_as(item, _Reasoning, place)
    text = "".join([*wire.texts(said.summary), *wire.texts(said.content)])
    sealed = said.encrypted_content
    if sealed:
        vendor, signature, redacted = unmarked(OPENAI, sealed)
        return ReasoningContent(text, signature, redacted, vendor)
    if text and not said.id:
        return ReasoningContent(text)
    return OpaqueContent(OPAQUE + "reasoning", item)


def read_content(content: str | list[dict[str, Any]], place: str) -> tuple[Content, ...]:
    """The content of a message. `place` is where it is, for errors."""
    if isinstance(content, str):
        return (TextContent(content),)
    return tuple(_piece(piece, f"{place}[{index}]") for index, piece in enumerate(content))


def _read_result(item: dict[str, Any], place: str) -> Content:
    """What a tool answered; with a piece that has no word, as an image that OpenAI keeps, all of it is opaque."""
    result = read_as(item, _Result, place)
    found = read_content(result.output, f"{place}.output")
    kept = tuple(piece for piece in found if isinstance(piece, _Piece))
    return ToolResult(result.call_id, kept) if len(kept) == len(found) else OpaqueContent(RESULT, item)


def _piece(piece: dict[str, Any], place: str) -> Content:
    kind = piece.get("type")
    if not isinstance(kind, str):
        raise BadRequest(f"{place}.type: Expected `str`", param=f"{place}.type")
    read = _PIECES.get(kind)
    return OpaqueContent(OPAQUE + kind[:100], piece) if read is None else read(piece, place)


def _read_text(piece: dict[str, Any], place: str) -> Content:
    return TextContent(read_as(piece, _Text, place).text)


def _read_refusal(piece: dict[str, Any], place: str) -> Content:
    return TextContent(read_as(piece, _Refusal, place).refusal)


def _read_image(piece: dict[str, Any], place: str) -> Content:
    image = read_as(piece, _Image, place)
    if image.image_url is None:
        return OpaqueContent(OPAQUE + "input_image", piece)
    found = _DATA_URL.fullmatch(image.image_url)
    if found is None:
        return ImageContent(url=image.image_url, detail=image.detail)
    return ImageContent(data=found["data"], media_type=found["type"] or None, detail=image.detail)


def _read_file(piece: dict[str, Any], place: str) -> Content:
    file = read_as(piece, _File, place)
    found = _DATA_URL.fullmatch(file.file_data or "")
    if found is not None:
        return FileContent(found["data"], found["type"] or None, file.filename, file.file_url, file.file_id)
    return FileContent(file.file_data, None, file.filename, file.file_url, file.file_id)


_PIECES: Mapping[str, Callable[[dict[str, Any], str], Content]] = {
    "input_text": _read_text,
    "output_text": _read_text,
    "text": _read_text,
    "summary_text": _read_text,
    "refusal": _read_refusal,
    "input_image": _read_image,
    "input_file": _read_file,
}


# --- written ----------------------------------------------------------------------------------------------------------


def write_input(messages: tuple[Message, ...], lost: list[str]) -> list[dict[str, Any]]:
    """The items. What has no counterpart is named in `lost`."""
    items: list[dict[str, Any]] = []
    for message in messages:
        if message.name is not None:
            lost.append("messages.name")
        items += _items(message, lost)
    return items


def _items(message: Message, lost: list[str]) -> Iterator[dict[str, Any]]:
    """The items of a turn, in order: what is said between calls and results stands together."""
    said: list[Content] = []
    for piece in message.content:
        item = _item(piece, lost)
        if item is None:
            said.append(piece)
            continue
        yield from _message(message.role, said, lost)
        said = []
        yield item
    if said or not message.content:
        yield from _message(message.role, said, lost, always=not message.content)


def _item(piece: Content, lost: list[str]) -> dict[str, Any] | None:
    """A piece that is an item of its own; `None` for one that is said in a message, or is nothing here."""
    match piece:
        case ToolUse(id, name, arguments):
            return {"type": "function_call", "call_id": id, "name": name, "arguments": arguments or "{}"}
        case ToolResult():
            return {"type": "function_call_output", "call_id": piece.id, "output": _output(piece, lost)}
        case ReasoningContent(text, str(signature), None, vendor) if signature and is_of(vendor, OPENAI):
            summary = [{"type": "summary_text", "text": text}] if text else []
            return {"type": "reasoning", "summary": summary, "encrypted_content": signature}
        case OpaqueContent(kind, dict() as data) if kind.startswith(OPAQUE) and not _is_piece(data):
            return data
        case _:
            return None


def _is_piece(data: dict[str, Any]) -> bool:
    """Whether it is a part of a message, and not an item."""
    return str(data.get("type")).startswith(("input_", "output_"))


def _message(role: str, said: list[Content], lost: list[str], *, always: bool = False) -> Iterator[dict[str, Any]]:
    if not said and not always:
        return
    pieces = [piece for one in said if (piece := _write(one, role, lost)) is not None]
    if not pieces and said:
        return
    # Text alone as a string: every server takes it.
    plain = len(pieces) == 1 and pieces[0].get("type") in ("input_text", "output_text")
    yield {"type": "message", "role": role, "content": pieces[0]["text"] if plain else pieces or ""}


def _write(piece: Content, role: str, lost: list[str]) -> dict[str, Any] | None:
    match piece:
        case TextContent(text):
            return {"type": "output_text" if role == "assistant" else "input_text", "text": text}
        case ImageContent() if role != "assistant":
            return _image(piece)
        case FileContent() if role != "assistant":
            return _file(piece)
        case OpaqueContent(kind, dict() as data) if kind.startswith(OPAQUE):
            return data
    kind = piece.kind if isinstance(piece, OpaqueContent) else type(piece).__name__.removesuffix("Content").lower()
    lost.append(f"messages.content.{kind}")
    return None


def _image(image: ImageContent) -> dict[str, Any]:
    url = image.url
    if url is None:
        url = f"data:{image.media_type or 'application/octet-stream'};base64,{image.data or ''}"
    detail = {} if image.detail is None else {"detail": image.detail}
    return {"type": "input_image", "image_url": url, **detail}


def _file(file: FileContent) -> dict[str, Any]:
    given = {"file_url": file.url, "file_id": file.file_id, "filename": file.name}
    if file.data is not None:
        kind = file.media_type or "application/pdf"
        given["file_data"] = f"data:{kind};base64,{file.data}"
        # Inline files are refused without a name.
        given["filename"] = file.name or f"file{mimetypes.guess_extension(kind) or ''}"
    return {"type": "input_file", **{name: value for name, value in given.items() if value is not None}}


def _output(result: ToolResult, lost: list[str]) -> str | list[dict[str, Any]]:
    """The answer of a tool. The dialect has no word for its failure."""
    if result.is_error:
        lost.append("tool_result.is_error")
    if all(isinstance(piece, TextContent) for piece in result.content):
        return "".join(piece.text for piece in result.content if isinstance(piece, TextContent))
    return [written for piece in result.content if (written := _write(piece, "user", lost)) is not None]
