"""Requests of Gemini's `generateContent`, written: for a Gemini provider that a client of another dialect has asked.

Each field of `generationConfig` stands by itself, under its full name and `None` where it is not set; `folded` puts
them into the object that the API takes, and into the client's own where it spoke Gemini.
"""

from __future__ import annotations

import re
from itertools import zip_longest
from typing import Any

from msgspec import Raw

from sidegate.contract.meaning import (
    Content,
    Message,
    OpaqueContent,
    ReasoningContent,
    Request,
    TextContent,
    ToolResult,
    ToolUse,
)
from sidegate.wire.body import encode, value
from sidegate.wire.dialect import Fields
from sidegate.wire.gemini.content import UNSIGNED, write_call, write_content, write_result, write_thinking
from sidegate.wire.gemini.fields import CONFIG, snake
from sidegate.wire.gemini.tools import are_own_tools, write_choice, write_tools
from sidegate.wire.seals import GEMINI, is_of

_SIGNS = re.compile(r"gemini-(?:[3-9]|[1-9]\d)")
_BUDGETS = {"none": 0, "minimal": 512, "low": 1024, "medium": 8192, "high": 24576, "xhigh": 24576, "max": 24576}
"""Efforts as tokens, for models before Gemini 3: https://ai.google.dev/gemini-api/docs/openai#thinking."""
_LEVELS = {"none": "minimal", "xhigh": "high", "max": "high"}
_OWN = frozenset(
    ("safetySettings", "cachedContent", "serviceTier", "store", "labels"),
)


def write_request(request: Request, dropped: list[str]) -> dict[str, Any]:
    """The request as fields; what has no counterpart is left out and named in `dropped`, once."""
    lost: list[str] = []
    body: dict[str, Any] = {
        "model": request.model,
        "stream": request.stream or None,
        "contents": _contents(request, lost),
        "systemInstruction": _system(request, lost),
        "tools": write_tools(request, lost) or None,
        "toolConfig": write_choice(request, lost),
    }
    for name, each in request.extra.items():
        if name in _OWN:
            body[name] = each
        elif not name.startswith(CONFIG) and name != "toolConfig" and (name != "tools" or not are_own_tools(each)):
            lost.append(name)
    lost += [name for name in ("user", "metadata") if getattr(request, name) is not None]
    if request.parallel_tool_calls is False:
        lost.append("parallel_tool_calls")
    config = _config(request, lost)
    dropped.extend(name for name in dict.fromkeys(lost) if name not in dropped)
    written = {name: each for name, each in body.items() if each is not None}
    return {**written, **{CONFIG + name: each for name, each in config.items()}}


def folded(fields: Fields) -> Fields:
    """Fields of `generationConfig` that stand by themselves, put into it; `null` takes one out."""
    apart = {name.removeprefix(CONFIG): raw for name, raw in fields.items() if name.startswith(CONFIG)}
    if not apart:
        return fields
    kept = {name: raw for name, raw in fields.items() if not name.startswith(CONFIG)}
    config = value(fields, "generationConfig", dict[str, Raw]) or {}
    for name, raw in apart.items():
        config.pop(snake(name), None)
        config.pop(name, None)
        if bytes(raw) != b"null":
            config[name] = raw
    if config:
        kept["generationConfig"] = encode(config)
    else:
        kept.pop("generationConfig", None)
    return kept


def _config(request: Request, lost: list[str]) -> dict[str, Any]:
    own = {name.removeprefix(CONFIG): each for name, each in request.extra.items() if name.startswith(CONFIG)}
    seed = request.seed
    if seed is not None and not -(2**31) <= seed < 2**31:
        lost.append("seed")
        seed = None
    config = {
        "maxOutputTokens": request.max_tokens,
        "temperature": request.temperature,
        "topP": request.top_p,
        "topK": request.top_k,
        "stopSequences": list(request.stop) or None,
        "seed": seed,
        "frequencyPenalty": request.frequency_penalty,
        "presencePenalty": request.presence_penalty,
        "candidateCount": request.choices,
        "thinkingConfig": _thinking(request, own),
        **_format(request),
    }
    return {**config, **{name: each for name, each in own.items() if config.get(name) is None}}


def _thinking(request: Request, own: dict[str, Any]) -> dict[str, Any] | None:
    """Thinking that was asked for is shown, as it is where it was asked for."""
    told = own.get("thinkingConfig")
    if isinstance(told, dict) and _says(told, request):
        return told
    thinking: dict[str, Any] = {}
    if request.reasoning_tokens is not None:
        thinking = {"thinkingBudget": request.reasoning_tokens}
    elif request.reasoning_effort is not None:
        effort = request.reasoning_effort
        if _SIGNS.search(request.model) or effort not in _BUDGETS:
            thinking = {"thinkingLevel": _LEVELS.get(effort, effort)}
        else:
            thinking = {"thinkingBudget": _BUDGETS[effort]}
    if isinstance(told, dict):
        kept = {name: each for name, each in told.items() if name in ("includeThoughts", "include_thoughts")}
        return {**kept, **thinking} or None
    return (
        {"includeThoughts": True, **thinking} if thinking and request.reasoning_effort != "none" else thinking or None
    )


def _says(told: dict[str, Any], request: Request) -> bool:
    """Whether the client's own words, in whichever case, say what the request does."""
    level = told.get("thinkingLevel", told.get("thinking_level"))
    budget = told.get("thinkingBudget", told.get("thinking_budget"))
    counted = budget if isinstance(budget, int) and budget > 0 else None
    effort = level.lower() if isinstance(level, str) else None
    return (counted, effort) == (request.reasoning_tokens, request.reasoning_effort)


def _format(request: Request) -> dict[str, Any]:
    asked = request.response_format
    schema = asked.schema if asked is not None and asked.kind == "json_schema" else None
    wanted = asked is not None and asked.kind != "text"
    return {
        "responseMimeType": "application/json" if wanted else None,
        "responseSchema": None,
        "responseJsonSchema": schema,
    }


def _system(request: Request, lost: list[str]) -> dict[str, Any] | None:
    """The system prompt stands apart here: what is said as `system` anywhere is gathered, in order."""
    parts: list[dict[str, Any]] = []
    for message in request.messages:
        for piece in message.content if message.role == "system" else ():
            if not isinstance(piece, TextContent):
                lost.append(_name(piece))
            elif piece.text:
                parts.append({"text": piece.text})
    return {"parts": parts} if parts else None


def _contents(request: Request, lost: list[str]) -> list[dict[str, Any]]:
    """The turns, roles alternating: consecutive ones of a role are one."""
    names = {
        piece.id: piece.name for message in request.messages for piece in message.content if isinstance(piece, ToolUse)
    }
    dummy = UNSIGNED if _SIGNS.search(request.model) else None
    turns: list[dict[str, Any]] = []
    for message in request.messages:
        if message.name is not None:
            lost.append("messages.name")
        if message.role == "system":
            continue
        role = "model" if message.role == "assistant" else "user"
        parts = _parts(message, names, dummy, lost)
        if parts and turns and turns[-1]["role"] == role:
            turns[-1]["parts"] += parts
        elif parts:
            turns.append({"role": role, "parts": parts})
    return turns


def _parts(message: Message, names: dict[str, str], dummy: str | None, lost: list[str]) -> list[dict[str, Any]]:
    """The parts of a turn. A signature alone belongs to the call after it; the first call must have one."""
    parts: list[dict[str, Any]] = []
    signature: str | None = None
    unsigned = dummy
    for piece, after in zip_longest(message.content, message.content[1:]):
        match piece:
            case ToolUse():
                parts.append(write_call(piece, signature or unsigned))
                signature = unsigned = None
            case ToolResult(id):
                parts.append(write_result(piece, names.get(id, id)))
                lost += [_result_name(one) for one in piece.content if write_content(one) is None]
            case ReasoningContent() if not is_of(piece.vendor, GEMINI):
                # Its words may be told; what binds them is another vendor's.
                lost.append("messages.content.reasoning.signature")
                if piece.text:
                    _append(parts, write_thinking(piece), piece, lost)
            case ReasoningContent(text="", signature=str(signed), redacted=None) if isinstance(after, ToolUse):
                signature = signed
            case ReasoningContent():
                _append(parts, write_thinking(piece), piece, lost)
            case TextContent(""):
                continue
            case _:
                _append(parts, write_content(piece), piece, lost)
    return parts


def _append(parts: list[dict[str, Any]], part: dict[str, Any] | None, piece: Content, lost: list[str]) -> None:
    if part is None:
        lost.append(_name(piece))
    else:
        parts.append(part)


def _result_name(piece: Content) -> str:
    return "tool_result." + type(piece).__name__.removesuffix("Content").lower()


def _name(piece: Content) -> str:
    kind = piece.kind if isinstance(piece, OpaqueContent) else type(piece).__name__.removesuffix("Content").lower()
    return f"messages.content.{kind}"
