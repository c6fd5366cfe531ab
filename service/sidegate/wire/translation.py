"""Translation of a request into the dialect of a provider: nothing is lost in silence.

What the provider's dialect cannot say is dropped and named, or refused, as `words` declares it. A strict translation
drops nothing. What is refused is `Untranslatable`, so that a target that can say it may be asked instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

from msgspec import Raw

from sidegate.contract.meaning import (
    FileContent,
    ImageContent,
    OpaqueContent,
    Request,
    ToolResult,
    ToolUse,
)
from sidegate.errors import BadRequest
from sidegate.wire.bound import check_translatable
from sidegate.wire.dialect import Dialect
from sidegate.wire.openai_request import OPAQUE_CALL
from sidegate.wire.unsaid import is_object, is_said, unsaid
from sidegate.wire.words import ALONE, LOSSES, TITLES, WORDS, Loss

MOST_NAMES = 40
"""Names in the header; the rest are told as `...`."""
_NOT_IN_NAME = re.compile(r"[^A-Za-z0-9_.\-\[\]]")
_LONGEST_NAME = 80

_CONTENT = "messages.content."
_PLACES = {"openai.responses": "input.content.", "gemini.generate": "contents.", "openai.chat": _CONTENT}
"""Where content stands that only one dialect knows."""
_TURNS = frozenset(("messages", "input", "contents"))
_HARMLESS = frozenset((_CONTENT + "reasoning", _CONTENT + "reasoning.signature"))
_PARAMS = tuple(
    name
    for name in LOSSES
    if "." not in name and name in Request.__struct_fields__ and name not in ("tools", "tool_choice", "choices")
)
_PLAIN = (["TEXT"], ["text"])
"""Modalities that are those of every answer."""
_SEVERAL = "toolConfig.functionCallingConfig.allowedFunctionNames"


class Untranslatable(BadRequest):
    """A target of another dialect cannot be asked this. It is passed over where the model has others."""


def translated(
    client: str, request: Request, fields: Mapping[str, Raw], dialect: Dialect, *, strict: bool
) -> tuple[dict[str, Any], list[str]]:
    """The request in `dialect`, and the names of what was dropped. `fields` are the client's own.

    Raises `Untranslatable` naming what it cannot say and must, by the client's own word for it.
    """
    try:
        check_translatable(client, request)
        lost = [*_beyond(client, request, dialect.name), *unsaid(client, fields)]
        _refuse(client, request, dialect.name, lost, strict=strict)
        body = dialect.write_request(request, lost)
    except Untranslatable:
        raise
    except BadRequest as error:
        word = _word(client, "choices" if error.param == "n" else error.param or "")
        refused = Untranslatable(error.message, param=word or None, code=error.code)
        refused.details = error.details
        raise refused from error
    lost = [name for name in dict.fromkeys(lost) if _is_lost(name, request)]
    _refuse(client, request, dialect.name, lost, strict=strict)
    return body, lost


def lost_anew(dialect: str, fields: Mapping[str, Raw], anew: Iterable[str], lost: list[str]) -> list[str]:
    """What is lost of a request in its own dialect where a plugin has changed it: fields `anew` are written from their
    meaning, and `lost` is what their writer could not say. Of other fields nothing is lost."""
    found = list(unsaid(dialect, {name: fields[name] for name in anew if name in fields}))
    if _TURNS.isdisjoint(anew):
        return found
    return list(dict.fromkeys([*(name for name in lost if name.startswith(("messages.", "tool_result."))), *found]))


def bounded(dropped: Iterable[str]) -> tuple[str, ...]:
    """The names, no longer and no more of them than a record should hold."""
    return tuple(name[:_LONGEST_NAME] for name in islice(dropped, MOST_NAMES))


def header_of(dropped: Iterable[str]) -> str:
    """The names as a header's value. Some are the client's own words, so that they are bounded and made harmless."""
    names = sorted({_NOT_IN_NAME.sub("_", name)[:_LONGEST_NAME] for name in dropped})
    more = ["..."] if len(names) > MOST_NAMES else []
    return ", ".join([*names[:MOST_NAMES], *more])


def features(request: Request) -> list[str]:
    """The features of `words` that a request has."""
    found = {name: None for name in _PARAMS if getattr(request, name) not in (None, ())}
    if request.parallel_tool_calls is True:
        # What all do without being told.
        del found["parallel_tool_calls"]
    if request.choices is not None and request.choices > 1:
        found["choices"] = None
    if request.tools:
        found["tools"] = None
    if any(tool.strict for tool in request.tools):
        found["tools.strict"] = None
    if request.tool_choice is not None and request.tools:
        found["tool_choice"] = None
    if request.response_format is not None and request.response_format.kind != "text":
        found[f"response_format.{request.response_format.kind}"] = None
    for message in request.messages:
        if message.role == "system":
            found["system"] = None
        if message.name is not None:
            found["messages.name"] = None
        for piece in message.content:
            for name in _of_content(piece):
                found[name] = None
    return list(found)


def _of_content(piece: Any) -> Iterable[str]:
    match piece:
        case ImageContent():
            yield _CONTENT + "image"
            if piece.detail not in (None, "auto"):
                yield _CONTENT + "image.detail"
        case FileContent(data=None, url=None):
            yield _CONTENT + "file.id"
        case FileContent():
            yield _CONTENT + "file"
        case ToolUse():
            yield _CONTENT + "tool_call"
        case ToolResult():
            yield _CONTENT + "tool_result"
            if piece.is_error:
                yield "tool_result.is_error"
            if any(isinstance(one, ImageContent) for one in piece.content):
                yield "tool_result.image"
        case _:
            return


def _beyond(client: str, request: Request, provider: str) -> list[str]:
    """What the request has and the provider's dialect no word for."""
    words = WORDS.get(provider)
    if words is None:
        return []
    foreign = client.partition(".")[0] != provider.partition(".")[0]
    lost = [name for name in features(request) if name not in words or (foreign and name == _CONTENT + "file.id")]
    return [*lost, _SEVERAL] if _names_several(request) else lost


def _names_several(request: Request) -> bool:
    """Whether Gemini is told several functions, one of which must be called: nobody else can be."""
    config = request.extra.get("toolConfig")
    calling = config.get("functionCallingConfig", config.get("function_calling_config")) if is_object(config) else None
    names = calling.get("allowedFunctionNames", calling.get("allowed_function_names")) if is_object(calling) else None
    return isinstance(names, list) and len(names) > 1


def _is_lost(name: str, request: Request) -> bool:
    """Whether it is a loss that it is left out: a field that is null, false or empty asked for nothing."""
    return name not in request.extra or (is_said(request.extra[name]) and request.extra[name] not in _PLAIN)


def _refuse(client: str, request: Request, provider: str, lost: list[str], *, strict: bool) -> None:
    for name in lost:
        if _is_lost(name, request) and (strict or _is_refused(client, request, name)):
            word = name if _is_unknown(client, request, name) else _word(client, name)
            whose = f"a provider of {TITLES[provider]}" if provider in TITLES else "the provider of this model"
            rule = ", and this model loses nothing (`translation: strict`)" if strict else ", and nothing stands in"
            raise Untranslatable(
                f"{word[:200]}: {whose[0].upper()}{whose[1:]} has no counterpart for it{rule}.",
                param=word[:200],
                code="unsupported_field",
            )


def _is_refused(client: str, request: Request, name: str) -> bool:
    if name in ALONE.get(client, ()):
        return True
    if name in _HARMLESS or _is_unknown(client, request, name):
        return False
    if name.startswith(_CONTENT) and name not in LOSSES:
        return _is_needed(request, name.removeprefix(_CONTENT))
    loss = LOSSES.get(name)
    return loss is Loss.REFUSED or name == "response_format" or (name.startswith("tool_result.") and loss is None)


def _is_unknown(client: str, request: Request, name: str) -> bool:
    """Whether it is a field that the client's dialect does not know, though another may mean something by its name:
    `max_tokens` in a request of Responses."""
    known = {word.partition(".")[0] for word in WORDS.get(client, {}).values()}
    return name in request.extra and name not in known


def _is_needed(request: Request, kind: str) -> bool:
    """Content without a word: what a user says is needed, and so is a call that has a result. The rest is what was
    done by the provider that the conversation began with, and what came of it was said."""
    if kind == OPAQUE_CALL:
        return True
    opaque = [
        message.role
        for message in request.messages
        for piece in message.content
        if isinstance(piece, OpaqueContent) and piece.kind == kind
    ]
    return any(role != "assistant" for role in opaque)


def _word(client: str, name: str) -> str:
    """What the client calls it."""
    if name in ALONE.get(client, ()):
        return name
    if name.startswith(_CONTENT) and (place := _PLACES.get(client)) is not None and name not in WORDS.get(client, {}):
        return place + name.removeprefix(_CONTENT).rpartition(".")[2]
    return WORDS.get(client, {}).get("response_format.json_schema" if name == "response_format" else name, name)
