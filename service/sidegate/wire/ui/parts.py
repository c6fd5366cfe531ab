"""Parts of UI messages that come back with a request, read one by one.

Source: https://ai-sdk.dev/docs/reference/ai-sdk-core/ui-message. What only pages are concerned with (`source-url`,
`source-document`, `data-*`) says nothing to a model. A part without a word here is `OpaqueContent` of kind `ui.TYPE`.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple
from urllib.parse import unquote_to_bytes

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
from sidegate.wire.body import UNREADABLE, read_as
from sidegate.wire.seals import Seal
from sidegate.wire.ui.metadata import read_seal

OPAQUE = "ui."
UNANSWERED = "The tool gave no result."
DENIED = "The call of the tool was denied."

_DATA_URL = re.compile(r"data:(?P<type>[^;,]*)(?P<parameters>(?:;[^;,]*)*),(?P<data>.*)", re.DOTALL)
_WEB = ("http://", "https://")
_FOR_PAGES = ("source-url", "source-document")
_CALL = "tool-"
_DYNAMIC = "dynamic-tool"

_encode = msgspec.json.Encoder().encode
_object: msgspec.json.Decoder[dict[str, Any]] = msgspec.json.Decoder(dict[str, Any])


class _Said(Struct, rename="camel"):
    text: str
    provider_metadata: Any = None


class _File(Struct, rename="camel"):
    url: str | None = None
    media_type: str | None = None
    filename: str | None = None
    provider_reference: dict[str, str] | None = None


class _Approval(Struct, rename="camel"):
    approved: bool | None = None
    reason: str | None = None


class _Call(Struct, rename="camel"):
    tool_call_id: str
    state: Literal[
        "input-streaming",
        "input-available",
        "approval-requested",
        "approval-responded",
        "output-available",
        "output-error",
        "output-denied",
    ]
    tool_name: str = ""
    input: Any = None
    raw_input: Any = None
    output: Any = None
    error_text: str | None = None
    approval: _Approval | None = None
    call_provider_metadata: Any = None


class Called(NamedTuple):
    """A call of an earlier turn, what signs it, and what its tool answered, if it has."""

    use: ToolUse
    seal: Seal | None
    result: ToolResult | None


def kind_of(part: Mapping[str, Any], place: str) -> str:
    kind = part.get("type")
    if not isinstance(kind, str):
        raise BadRequest(f"{place}.type: Expected `str`", param=f"{place}.type")
    return kind


def is_call(kind: str) -> bool:
    return kind.startswith(_CALL) or kind == _DYNAMIC


def read_content(kind: str, part: dict[str, Any], place: str) -> Iterator[Content]:
    """What a part says that is no call. `place` is where it is, for errors."""
    match kind:
        case "text":
            said = read_as(part, _Said, place)
            yield TextContent(said.text)
            if seal := read_seal(said.provider_metadata):
                yield thought("", seal)
        case "reasoning":
            said = read_as(part, _Said, place)
            seal = read_seal(said.provider_metadata)
            if said.text or seal:
                yield thought(said.text, seal)
        case "file":
            yield _read_file(read_as(part, _File, place), f"{place}.url")
        case _ if kind not in _FOR_PAGES and not kind.startswith("data-"):
            yield OpaqueContent(OPAQUE + kind[:100], part)


def read_call(kind: str, part: dict[str, Any], place: str) -> Called | Content | None:
    """A call; `None` for one that was cut while it was said.

    A call that the provider itself answered (`providerExecuted`) has no word here, and is opaque.
    """
    if part.get("providerExecuted") is True:
        return OpaqueContent(OPAQUE + "provider_tool", part)
    call = read_as(part, _Call, place)
    name = call.tool_name if kind == _DYNAMIC else kind.removeprefix(_CALL)
    if not name:
        where = f"{place}.toolName" if kind == _DYNAMIC else f"{place}.type"
        raise BadRequest(f"{where}: missing", param=where)
    if call.state == "input-streaming":
        return None
    use = ToolUse(call.tool_call_id, name, _arguments(call))
    return Called(use, read_seal(call.call_provider_metadata), _result(call))


def thought(text: str, seal: Seal | None) -> ReasoningContent:
    if seal is None:
        return ReasoningContent(text)
    return ReasoningContent(text, seal.signature, seal.redacted, seal.vendor)


def unanswered(id: str) -> ToolResult:
    """For a call that nobody answered before more was said: providers refuse one that is left open."""
    return ToolResult(id, (TextContent(UNANSWERED),), True)


def _arguments(call: _Call) -> str:
    """JSON text. What a model wrote that is no object is put into one, since providers take nothing else."""
    given = call.raw_input if call.input is None else call.input
    if given is None:
        return "{}"
    if isinstance(given, str):
        try:
            _object.decode(given)
            return given
        except UNREADABLE:
            pass
    return _encode(given if isinstance(given, dict) else {"rawInvalidInput": given}).decode()


def _result(call: _Call) -> ToolResult | None:
    said = call.approval
    reason = (said.reason if said is not None else None) or DENIED
    match call.state:
        case "output-available":
            output = call.output
            return _answer(call, output if isinstance(output, str) else _encode(output).decode())
        case "output-error":
            return _answer(call, call.error_text or "", is_error=True)
        case "output-denied":
            return _answer(call, reason, is_error=True)
        case "approval-responded" if said is not None and said.approved is False:
            return _answer(call, reason, is_error=True)
        case _:
            return None


def _answer(call: _Call, text: str, *, is_error: bool = False) -> ToolResult:
    return ToolResult(call.tool_call_id, (TextContent(text),), is_error)


def _read_file(file: _File, place: str) -> Content:
    kind = file.media_type or ""
    url = file.url or ""
    if not url and file.provider_reference:
        # Good with its own vendor alone: what lies at a URL is for all.
        return FileContent(file_id=next(iter(file.provider_reference.values())), media_type=_full(kind))
    if url.startswith(_WEB):
        if _is_image(kind):
            return ImageContent(url=url, media_type=_full(kind))
        return FileContent(url=url, media_type=_full(kind), name=file.filename)
    found = _DATA_URL.fullmatch(url)
    if found is None:
        raise BadRequest(f"{place}: Expected a URL of data, http or https.", param=place)
    data = found["data"]
    if not found["parameters"].endswith(";base64"):
        data = base64.b64encode(unquote_to_bytes(data)).decode()
    media_type = _full(kind) or found["type"] or None
    if _is_image(media_type or kind):
        return ImageContent(data=data, media_type=media_type)
    return FileContent(data=data, media_type=media_type, name=file.filename)


def _full(media_type: str) -> str | None:
    """The type where it is whole: `image` and `image/*` say the kind alone."""
    return media_type if "/" in media_type and not media_type.endswith("/*") else None


def _is_image(media_type: str) -> bool:
    return media_type.partition("/")[0] == "image"
