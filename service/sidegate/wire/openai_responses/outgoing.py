"""Requests of OpenAI's Responses, written: for a provider of it that a client of another dialect has asked."""

from __future__ import annotations

import re
from typing import Any

from sidegate.contract.meaning import Request, ResponseFormat, TextContent, Tool
from sidegate.errors import BadRequest
from sidegate.wire.openai_responses.input import write_input

_SAME = frozenset(("prompt_cache_key", "prompt_cache_retention", "safety_identifier", "service_tier", "verbosity"))
"""Extra fields that OpenAI's dialects share."""
_OWN_REASONING = frozenset(("summary", "generate_summary", "context"))
_DATED = re.compile(r"_20\d{6}$")


def write_request(request: Request, dropped: list[str]) -> dict[str, Any]:
    """The request as a JSON object; what has no counterpart is left out and named in `dropped`, once.

    Raises `BadRequest` for more than one choice, which would quietly be answered with one.
    """
    if request.choices is not None and request.choices > 1:
        raise BadRequest("n: This provider gives one choice.", param="n")
    lost: list[str] = []
    instructions, turns = _instructions(request)
    tools = [_tool(tool) for tool in request.tools] + _own_tools(request)
    body: dict[str, Any] = {
        "model": request.model,
        "instructions": instructions,
        "input": write_input(turns, lost),
        "stream": request.stream or None,
        "max_output_tokens": request.max_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "tools": tools or None,
        "tool_choice": _tool_choice(request) if tools else None,
        "parallel_tool_calls": request.parallel_tool_calls if tools else None,
        "text": _text(request),
        "reasoning": _reasoning(request),
        "user": request.user,
        "metadata": request.metadata,
        # A client of another dialect has asked nobody to keep what it says; thinking then comes back sealed.
        "store": request.extra.get("store", False),
        "include": _include(request),
    }
    _add_extra(request, body, lost)
    dropped.extend(name for name in dict.fromkeys(lost) if name not in dropped)
    return {name: value for name, value in body.items() if value is not None}


def _instructions(request: Request) -> tuple[str | None, Any]:
    """The system prompt of text alone stands apart; what else is said as `system` keeps its place."""
    turns = request.messages
    if turns and turns[0].role == "system" and all(isinstance(piece, TextContent) for piece in turns[0].content):
        return turns[0].text or None, turns[1:]
    return None, turns


def _tool(tool: Tool) -> dict[str, Any]:
    """A function. It is strict by default here and nowhere else, so that this is said."""
    declared = {"name": tool.name, "description": tool.description}
    schema = tool.parameters or {"type": "object", "properties": {}}
    given = {name: value for name, value in declared.items() if value is not None}
    return {"type": "function", **given, "parameters": schema, "strict": bool(tool.strict)}


def _own_tools(request: Request) -> list[dict[str, Any]]:
    tools = request.extra.get("tools")
    return list(tools) if isinstance(tools, list) and _are_own(tools) else []


def _are_own(tools: list[Any]) -> bool:
    """Whether they were read from this dialect: Anthropic's have a date in their type, those of chats are nested."""
    return all(
        isinstance(tool, dict)
        and isinstance(kind := tool.get("type"), str)
        and not _DATED.search(kind)
        and not isinstance(tool.get(kind), dict)
        for tool in tools
    )


def _tool_choice(request: Request) -> Any:
    choice = request.tool_choice
    if choice is None:
        own = request.extra.get("tool_choice")
        return own if isinstance(own, dict) and "function" not in own else None
    if choice.startswith("tool:"):
        return {"type": "function", "name": choice.removeprefix("tool:")}
    return choice


def _text(request: Request) -> dict[str, Any] | None:
    own = request.extra.get("text")
    text: dict[str, Any] = dict(own) if isinstance(own, dict) else {}
    if isinstance(verbosity := request.extra.get("verbosity"), str):
        text["verbosity"] = verbosity
    if request.response_format is not None:
        text["format"] = _format(request.response_format)
    return text or None


def _format(format: ResponseFormat) -> dict[str, Any]:
    if format.kind != "json_schema":
        return {"type": format.kind}
    strict = {} if format.strict is None else {"strict": format.strict}
    return {"type": "json_schema", "name": format.name or "answer", "schema": format.schema or {}, **strict}


def _reasoning(request: Request) -> dict[str, Any] | None:
    own = request.extra.get("reasoning")
    reasoning: dict[str, Any] = dict(own) if isinstance(own, dict) and own.keys() <= _OWN_REASONING else {}
    if request.reasoning_effort is not None:
        reasoning["effort"] = request.reasoning_effort
    return reasoning or None


def _include(request: Request) -> list[Any] | None:
    """Sealed thinking, which models that do not think would refuse to give."""
    own = request.extra.get("include")
    if isinstance(own, list):
        return own
    return ["reasoning.encrypted_content"] if request.reasoning_effort is not None else None


def _add_extra(request: Request, body: dict[str, Any], lost: list[str]) -> None:
    """Fields that OpenAI's dialects share go on; the rest is named."""
    for name in ("top_k", "seed", "frequency_penalty", "presence_penalty", "reasoning_tokens"):
        if getattr(request, name) is not None:
            lost.append(name)
    if request.stop:
        lost.append("stop")
    written = {"tools": _own_tools(request), "tool_choice": body["tool_choice"], "text": True, "include": True}
    written |= {"reasoning": body["reasoning"], "store": True}
    for name, value in request.extra.items():
        if name in _SAME and name != "verbosity" and isinstance(value, str):
            body[name] = value
        elif name != "verbosity" and not written.get(name):
            lost.append(name)
