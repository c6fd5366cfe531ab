"""Parts of a request's contents, read and written.

Source: https://ai.google.dev/api/caching#Part. A part without a word here is `OpaqueContent` of kind `gemini.part`.
"""

from __future__ import annotations

import base64
import binascii
import mimetypes
import re
from typing import Any

import msgspec
from msgspec import Struct

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
from sidegate.wire.body import UNREADABLE, names_of
from sidegate.wire.gemini.fields import read_as, renamed, several
from sidegate.wire.gemini.reply import PART
from sidegate.wire.seals import GEMINI, is_of

UNSIGNED = "skip_thought_signature_validator"
"""What Gemini 3 takes as the signature of a call that it has not made itself, or whose own was lost on the way:
https://ai.google.dev/gemini-api/docs/thought-signatures. Without any, it refuses the request."""
_OWN_FILE = re.compile(r"https://generativelanguage\.googleapis\.com/[^?#]*files/|gs://|files/")
_WEB = ("http://", "https://")
_TO_STANDARD = str.maketrans("-_", "+/")


class _Blob(Struct, rename="camel"):
    data: str
    mime_type: str | None = None
    display_name: str | None = None


class _FileData(Struct, rename="camel"):
    file_uri: str
    mime_type: str | None = None
    display_name: str | None = None


class FunctionCall(Struct, rename="camel"):
    name: str
    args: dict[str, Any] | None = None
    id: str | None = None


class FunctionResponse(Struct, rename="camel"):
    name: str
    response: Any = None
    id: str | None = None
    parts: Any = None


class Part(Struct, rename="camel"):
    """The names of a part; what it holds is read by what it is."""

    text: str | None = None
    thought: bool | None = None
    thought_signature: str | None = None
    inline_data: Any = None
    file_data: Any = None
    function_call: Any = None
    function_response: Any = None


_KNOWN = names_of(Part)

_encode = msgspec.json.Encoder().encode


def read_part(value: Any, place: str) -> tuple[Part, Content | None]:
    """A part, and its content where that needs no other part: not of calls, their results and thinking."""
    if not isinstance(value, dict):
        raise BadRequest(f"{place}: Expected `object`", param=place)
    part = read_as(value, Part, place)
    named = renamed(value, Part)
    if {key for key, each in named.items() if each is not None} - _KNOWN:
        return Part(), OpaqueContent(PART, value)
    if part.inline_data is not None:
        return part, _inline(read_as(part.inline_data, _Blob, f"{place}.inlineData"))
    if part.file_data is not None:
        return part, _file(read_as(part.file_data, _FileData, f"{place}.fileData"))
    if part.text and not part.thought:
        return part, TextContent(part.text)
    return part, None


def standard(data: str) -> str:
    """Base64 in the alphabet that other vendors take; Gemini's clients write the one for URLs."""
    return data.translate(_TO_STANDARD) if "-" in data or "_" in data else data


def read_result(said: FunctionResponse, id: str, place: str) -> ToolResult:
    """What a tool answered: text where it is nothing else, an object as its JSON."""
    pieces: list[TextContent | ImageContent | FileContent] = []
    for index, value in enumerate(several(said.parts, f"{place}.parts")):
        _, piece = read_part(value, f"{place}.parts[{index}]")
        if isinstance(piece, TextContent | ImageContent | FileContent):
            pieces.append(piece)
    answer = said.response
    if isinstance(answer, dict) and len(answer) == 1:
        (key, value), *_ = answer.items()
        if key in ("output", "error") and isinstance(value, str):
            return ToolResult(id, (TextContent(value), *pieces), key == "error")
    text = "" if answer is None else _encode(answer).decode()
    return ToolResult(id, (TextContent(text), *pieces) if text else tuple(pieces))


def write_content(content: Content) -> dict[str, Any] | None:
    """A part; `None` where there is no counterpart. Calls, results and thinking are not written here."""
    match content:
        case TextContent(text):
            return {"text": text}
        case ImageContent():
            return _write_image(content)
        case FileContent():
            return _write_file(content)
        case OpaqueContent(kind, data):
            return data if kind == PART and isinstance(data, dict) else None
        case _:
            return None


def write_call(use: ToolUse, signature: str | None) -> dict[str, Any]:
    """Raises `BadRequest` where the arguments are no object."""
    try:
        arguments = msgspec.json.decode(use.arguments.strip() or "{}", type=dict[str, Any])
    except UNREADABLE as error:
        message = f"The arguments of the call of {use.name[:100]!r} are no JSON object."
        raise BadRequest(message, param="messages") from error
    signed = {} if signature is None else {"thoughtSignature": signature}
    return {"functionCall": {"name": use.name, "args": arguments, "id": use.id}, **signed}


def write_result(result: ToolResult, name: str) -> dict[str, Any]:
    text = "".join(piece.text for piece in result.content if isinstance(piece, TextContent))
    said: dict[str, Any] = {"name": name, "id": result.id, "response": _answer(text, result.is_error)}
    parts = [write_content(piece) for piece in result.content if not isinstance(piece, TextContent)]
    if kept := [part for part in parts if part is not None]:
        said["parts"] = kept
    return {"functionResponse": said}


def write_thinking(thinking: ReasoningContent) -> dict[str, Any] | None:
    signed = {"thoughtSignature": thinking.signature} if thinking.signature and is_of(thinking.vendor, GEMINI) else {}
    if not thinking.text:
        return {"text": "", **signed} if signed else None
    return {"text": thinking.text, "thought": True, **signed}


def _answer(text: str, is_error: bool) -> dict[str, Any]:
    """`output` and `error` are the keys that Gemini's reference asks for; an object stands for itself."""
    if is_error:
        return {"error": text}
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except UNREADABLE:
        return {"output": text}


def _inline(blob: _Blob) -> Content:
    data = standard(blob.data)
    if (blob.mime_type or "").startswith("image/"):
        return ImageContent(data=data, media_type=blob.mime_type)
    return FileContent(data=data, media_type=blob.mime_type, name=blob.display_name)


def _file(file: _FileData) -> Content:
    uri, kind = file.file_uri, file.mime_type
    if _OWN_FILE.match(uri) or not uri.startswith(_WEB):
        return FileContent(file_id=uri, media_type=kind, name=file.display_name)
    if (kind or "").startswith("image/"):
        return ImageContent(url=uri, media_type=kind)
    return FileContent(url=uri, media_type=kind, name=file.display_name)


def _write_image(image: ImageContent) -> dict[str, Any] | None:
    if image.url is not None:
        return _write_uri(image.url, image.media_type or _guess(image.url, "image/jpeg"))
    if image.data is None:
        return None
    return {"inlineData": {"mimeType": image.media_type or "image/jpeg", "data": image.data}}


def _write_file(file: FileContent) -> dict[str, Any] | None:
    named = {} if file.name is None else {"displayName": file.name}
    if file.data is not None:
        kind = file.media_type or _guess(file.name or "", "application/pdf")
        _check(file.data)
        return {"inlineData": {"mimeType": kind, "data": file.data, **named}}
    if file.url is not None:
        return _write_uri(file.url, file.media_type or _guess(file.url, "application/pdf"))
    if file.file_id is not None and _OWN_FILE.match(file.file_id):
        return _write_uri(file.file_id, file.media_type)
    return None


def _write_uri(uri: str, kind: str | None) -> dict[str, Any]:
    return {"fileData": {"fileUri": uri, **({} if kind is None else {"mimeType": kind})}}


def _guess(name: str, otherwise: str) -> str:
    return mimetypes.guess_type(name.partition("?")[0])[0] or otherwise


def _check(data: str) -> None:
    """Raises `BadRequest` where it is no base64: Gemini's own word for that names no field."""
    try:
        base64.b64decode(data, altchars=b"-_" if "-" in data or "_" in data else None, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadRequest("A file's data must be base64.", param="messages") from error
