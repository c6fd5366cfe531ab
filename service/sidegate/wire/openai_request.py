"""The fields of a request that OpenAI's dialects share, with their types and limits, and the pieces of content."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from sidegate.contract.meaning import (
    Content,
    FileContent,
    ImageContent,
    OpaqueContent,
    ReasoningContent,
    TextContent,
)
from sidegate.errors import BadRequest
from sidegate.wire import openai
from sidegate.wire.body import UNREADABLE, read_as, wrong_type

Name = Annotated[str, Meta(min_length=1, max_length=512)]
Tokens = Annotated[int, Meta(ge=1, lt=2**31)]
TokensOrNone = Annotated[int, Meta(ge=0, lt=2**31)]
"""0 asks for no reply: Anthropic fills its cache of prompts by it, legacy completions `echo` the prompt."""
Choices = Annotated[int, Meta(ge=1, le=128)]
Temperature = Annotated[float, Meta(ge=0, le=2)]
Share = Annotated[float, Meta(ge=0, le=1)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Seed = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Stops = Annotated[list[str], Meta(max_length=64)]

_DATA_URL = re.compile(r"data:(?P<type>[^;,]*)(?:;[^;,]*)*;base64,(?P<data>.*)", re.DOTALL)

OPAQUE = "openai."
OPAQUE_CALL = "openai.tool_call"
"""A tool call of an earlier turn that calls no function (`custom`)."""


class StreamOptions(Struct):
    include_usage: bool | None = None


def stops(stop: str | list[str] | None) -> tuple[str, ...]:
    if stop is None:
        return ()
    return (stop,) if isinstance(stop, str) else tuple(stop)


_TokenArray = Annotated[tuple[Annotated[int, Meta(ge=0, lt=2**31)], ...], Meta(min_length=1)]
_Several = Annotated[list[str | _TokenArray], Meta(min_length=1, max_length=2048)]


def texts_or_tokens(asked: str | list[Any], name: str) -> tuple[str | tuple[int, ...], ...]:
    """A `prompt` or an `input`: one text, one array of tokens, or a list of either. Raises `BadRequest`."""
    if isinstance(asked, str):
        return (asked,)
    try:
        if asked and isinstance(asked[0], int):
            return (msgspec.convert(asked, _TokenArray),)
        return tuple(msgspec.convert(asked, _Several))
    except UNREADABLE as error:
        raise wrong_type(error, name) from error


class _Text(Struct):
    text: str


class _Url(Struct):
    url: str
    detail: str | None = None


class _Image(Struct):
    image_url: _Url | str


class _FileBody(Struct):
    file_data: str | None = None
    filename: str | None = None
    file_id: str | None = None


class _File(Struct):
    file: _FileBody


class _Refusal(Struct):
    refusal: str


def read_content(content: str | list[dict[str, Any]] | None, place: str) -> tuple[Content, ...]:
    """The content of a message; kinds without a word here are opaque. `place` is where it is, for errors."""
    if content is None:
        return ()
    if isinstance(content, str):
        return (TextContent(content),)
    return tuple(_piece(piece, f"{place}[{index}]") for index, piece in enumerate(content))


def _piece(piece: dict[str, Any], place: str) -> Content:
    kind = piece.get("type")
    if not isinstance(kind, str):
        raise BadRequest(f"{place}.type: Expected `str`", param=f"{place}.type")
    read = _PIECES.get(kind)
    return read(piece, place) if read is not None else OpaqueContent(OPAQUE + kind[:100], piece)


def _read_text(piece: dict[str, Any], place: str) -> Content:
    return TextContent(read_as(piece, _Text, place).text)


def _read_refusal(piece: dict[str, Any], place: str) -> Content:
    return TextContent(read_as(piece, _Refusal, place).refusal)


def _read_thinking(piece: dict[str, Any], place: str) -> Content:
    return ReasoningContent(openai.joined(piece.get("thinking")))


def _read_image(piece: dict[str, Any], place: str) -> Content:
    image = read_as(piece, _Image, place).image_url
    url, detail = (image, None) if isinstance(image, str) else (image.url, image.detail)
    found = _DATA_URL.fullmatch(url)
    if found is None:
        return ImageContent(url=url, detail=detail)
    return ImageContent(data=found["data"], media_type=found["type"] or None, detail=detail)


def _read_file(piece: dict[str, Any], place: str) -> Content:
    file = read_as(piece, _File, place).file
    found = _DATA_URL.fullmatch(file.file_data or "")
    if found is not None:
        return FileContent(found["data"], found["type"] or None, file.filename, None, file.file_id)
    if file.file_data and file.file_data.startswith(("http://", "https://")):
        return FileContent(None, None, file.filename, file.file_data, file.file_id)
    return FileContent(file.file_data, None, file.filename, None, file.file_id)


_PIECES: Mapping[str, Callable[[dict[str, Any], str], Content]] = {
    "text": _read_text,
    "input_text": _read_text,
    "output_text": _read_text,
    "refusal": _read_refusal,
    "thinking": _read_thinking,
    "image_url": _read_image,
    "file": _read_file,
}


def write_piece(content: Content) -> dict[str, Any] | None:
    """A piece of user content; `None` where there is no counterpart."""
    match content:
        case TextContent(text):
            return {"type": "text", "text": text}
        case ImageContent():
            detail = {} if content.detail is None else {"detail": content.detail}
            return {"type": "image_url", "image_url": {"url": _url(content), **detail}}
        case FileContent():
            return {"type": "file", "file": _file(content)}
        case OpaqueContent(kind, data) if kind.startswith(OPAQUE):
            return data if isinstance(data, dict) else None
        case _:
            return None


def _url(image: ImageContent) -> str:
    if image.url is not None:
        return image.url
    return f"data:{image.media_type or 'application/octet-stream'};base64,{image.data or ''}"


def _file(file: FileContent) -> dict[str, Any]:
    data = file.url
    if file.data is not None:
        data = f"data:{file.media_type or 'application/pdf'};base64,{file.data}"
    named = {"file_data": data, "filename": file.name, "file_id": file.file_id}
    return {name: value for name, value in named.items() if value is not None}
