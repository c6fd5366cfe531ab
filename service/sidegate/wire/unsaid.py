"""Unsaid: fields deep in a client's request that the meaning has no word for, found so that none is lost in silence.

Only what is translated is looked through: bytes that pass keep all of it. What is known of each dialect is data.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias, TypeGuard

import msgspec
from msgspec import Raw

from sidegate.wire.body import UNREADABLE

_DEEPEST = 16


class Kinds(NamedTuple):
    """An object whose fields hang on its `type`. One of another type is a matter of its own, not of its fields."""

    by_type: Mapping[str, Any]
    otherwise: str = ""
    """The type of one that does not say it."""


class Whole(NamedTuple):
    """An object that stays as it is where a field of it is not known."""

    fields: Mapping[str, Any]


Shape: TypeAlias = "Mapping[str, Any] | Kinds | Whole | None"
"""The known fields of an object, each with the shape of its value; `None` for any value. A list is of one shape."""


def _of(*names: str, **deeper: Shape) -> dict[str, Shape]:
    return {**dict.fromkeys(names), **deeper}


_FUNCTION = _of("name", "arguments")
_CHAT_CONTENT = Kinds(
    {
        "text": _of("type", "text"),
        "input_text": _of("type", "text"),
        "output_text": _of("type", "text"),
        "refusal": _of("type", "refusal"),
        "thinking": _of("type", "thinking"),
        "image_url": _of("type", image_url=_of("url", "detail")),
        "file": _of("type", file=_of("file_data", "filename", "file_id")),
    }
)
_CHAT_DECLARED = _of("name", "description", "parameters", "strict")
_CHAT: dict[str, Shape] = {
    "messages": _of(
        *("role", "name", "tool_call_id", "refusal", "reasoning_content", "reasoning", "reasoning_details"),
        content=_CHAT_CONTENT,
        tool_calls=_of("id", "type", "index", "custom", function=_FUNCTION),
        function_call=_FUNCTION,
    ),
    "tools": Kinds({"function": _of("type", function=_CHAT_DECLARED)}, "function"),
    "functions": _CHAT_DECLARED,
    "response_format": _of("type", json_schema=_of("name", "schema", "strict")),
    "stream_options": _of("include_usage"),
}

_SOURCE = _of("type", "source", "title")
_TEXT = _of("type", "text")
_ANTHROPIC_ANSWER = Kinds({"text": _TEXT, "image": _SOURCE, "document": _SOURCE})
_ANTHROPIC_CONTENT = Kinds(
    {
        **_ANTHROPIC_ANSWER.by_type,
        "thinking": _of("type", "thinking", "signature"),
        "redacted_thinking": _of("type", "data"),
        "tool_use": _of("type", "id", "name", "input"),
        "tool_result": _of("type", "tool_use_id", "is_error", content=_ANTHROPIC_ANSWER),
    }
)
_ANTHROPIC: dict[str, Shape] = {
    "messages": _of("role", content=_ANTHROPIC_CONTENT),
    "system": _ANTHROPIC_CONTENT,
    "tools": Kinds({"custom": _of("type", "name", "description", "input_schema", "strict")}, "custom"),
    "tool_choice": _of("type", "name", "disable_parallel_tool_use"),
    "thinking": Kinds({"enabled": _of("type", "budget_tokens"), "disabled": _of("type")}),
    "output_format": _of("type", "schema"),
}

_GEMINI_CONTENT = _of(
    "role",
    parts=Whole(
        _of(
            *("text", "thought", "thoughtSignature"),
            inlineData=_of("data", "mimeType", "displayName"),
            fileData=_of("fileUri", "mimeType", "displayName"),
            functionCall=_of("id", "name", "args"),
            functionResponse=_of("id", "name", "response", "parts"),
        )
    ),
)
_GEMINI: dict[str, Shape] = {
    "contents": _GEMINI_CONTENT,
    "systemInstruction": _GEMINI_CONTENT,
    "tools": Whole(_of(functionDeclarations=_of("name", "description", "parameters", "parametersJsonSchema"))),
}

_KEPT = ("type", "id", "status")
_RESPONSES_CONTENT = Kinds(
    {
        "input_text": _TEXT,
        "output_text": _TEXT,
        "text": _TEXT,
        "summary_text": _TEXT,
        "refusal": _of("type", "refusal"),
        "input_image": _of("type", "image_url", "file_id", "detail"),
        "input_file": _of("type", "file_data", "file_id", "file_url", "filename"),
    }
)
_RESPONSES_ITEM = Kinds(
    {
        "message": _of(*_KEPT, "role", content=_RESPONSES_CONTENT),
        "function_call": _of(*_KEPT, "call_id", "name", "arguments"),
        "function_call_output": _of(*_KEPT, "call_id", output=_RESPONSES_CONTENT),
        "reasoning": _of(*_KEPT, "summary", "content", "encrypted_content"),
    },
    "message",
)
_RESPONSES: dict[str, Shape] = {
    "input": _RESPONSES_ITEM,
    "instructions": _RESPONSES_ITEM,
    "tools": Kinds({"function": _of("type", "name", "description", "parameters", "strict")}),
    "text": _of("verbosity", format=_of("type", "name", "schema", "strict")),
}

SHAPES: Mapping[str, Mapping[str, Shape]] = MappingProxyType(
    {
        "openai.chat": _CHAT,
        "openai.responses": _RESPONSES,
        "anthropic.messages": _ANTHROPIC,
        "gemini.generate": _GEMINI,
    }
)
"""By dialect: the known fields inside the fields of a request."""


def unsaid(dialect: str, fields: Mapping[str, Raw]) -> dict[str, list[Any]]:
    """The fields inside a request of `dialect` that nothing was made of, each once with all its values:
    `messages.content.cache_control`.

    Fields at its top are in `Request.extra`, and content of a kind without a word is `OpaqueContent`.
    """
    found: dict[str, list[Any]] = {}
    for name, shape in SHAPES.get(dialect, {}).items():
        raw = fields.get(name)
        # A text, a number or nothing has no fields.
        if raw is None or bytes(memoryview(raw)[:1]) not in (b"{", b"["):
            continue
        try:
            _look(msgspec.json.decode(raw), shape, name, found, _DEEPEST)
        except UNREADABLE:
            continue
    return found


def _look(value: Any, shape: Shape, place: str, found: dict[str, list[Any]], depth: int) -> None:
    if shape is None or not depth:
        return
    if isinstance(value, list):
        for one in value:
            _look(one, shape, place, found, depth - 1)
        return
    if not isinstance(value, dict):
        return
    fields = _fields(value, shape)
    for name, inner in value.items() if fields is not None else ():
        known = _known(name, fields or {})
        if known is not None:
            _look(inner, (fields or {})[known], f"{place}.{known}", found, depth - 1)
        elif is_said(inner):
            found.setdefault(f"{place}.{name}", []).append(inner)


def _fields(value: dict[str, Any], shape: Shape) -> Mapping[str, Any] | None:
    """What is known of an object; `None` where it is looked at elsewhere."""
    if isinstance(shape, Kinds):
        kind = value.get("type", shape.otherwise)
        return shape.by_type.get(kind) if isinstance(kind, str) else None
    if isinstance(shape, Whole):
        return shape.fields if all(_known(name, shape.fields) for name in value) else None
    return shape


def _known(name: str, fields: Mapping[str, Any]) -> str | None:
    """The field by the name it is known by: Gemini takes each in two cases."""
    if name in fields:
        return name
    head, *rest = name.split("_")
    camel = head + "".join(part.capitalize() for part in rest)
    return camel if camel != name and camel in fields else None


def is_object(value: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


def is_said(value: Any) -> bool:
    """Whether a field asks for anything: what is null, false or empty asks for nothing."""
    return value is not None and value is not False and value != "" and value != [] and value != {}
